"""Signing in, and the one page that is different for everyone who asks."""

from __future__ import annotations

from flask import Blueprint, abort, jsonify, request
from flask.wrappers import Response

from example_app import auth, queries
from example_app.db import session
from flask_rcache import AUTO, CacheType, cache_response

blueprint = Blueprint("account", __name__, url_prefix="/api")


@blueprint.post("/login")
def login() -> Response:
    """Return a token for a demo user."""
    body = request.get_json()
    user, password = (body.get("user"), body.get("password")) if isinstance(body, dict) else (None, None)
    if not isinstance(user, str) or not isinstance(password, str):
        abort(400, "send a JSON object with user and password")
    token = auth.sign_in(user, password)
    if token is None:
        abort(401, "wrong user or password")
    answer = jsonify(token=token, user=user, expires_in=auth.LIFETIME)
    answer.cache_control.no_store = True
    return answer


@blueprint.get("/profile")
@auth.signed_in
@cache_response(CacheType.USER, key_func=auth.profile_key, tags=AUTO)
def profile() -> Response:
    """Return the caller's own page: who they are, and the year of the airport they work at."""
    name = auth.caller(request)
    if name is None:
        abort(401, "sign in first: POST /api/login")
    user = auth.USERS[name]
    with session() as db:
        year = queries.airport_year(db, user.home)
    return jsonify(user=name, name=user.name, role=user.role, airport=year)
