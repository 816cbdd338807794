"""The home page, the buttons that have no other home, and the health check."""

from __future__ import annotations

from flask import Blueprint, abort, current_app, jsonify, render_template
from flask.wrappers import Response

from example_app import auth, params
from example_app.policies import PLANES, TYPE_OUTDATED, rcache
from flask_rcache import CacheType, get_cache_stats

blueprint = Blueprint("site", __name__)

# What the page's buttons may invalidate: this app's own types and nothing else.
INVALIDATABLE = [
    kind.name for kind in (CacheType.DASHBOARD, CacheType.SEARCH, CacheType.ANALYTICS, CacheType.USER, PLANES)
]


@blueprint.get("/")
def home() -> str:
    """Show the page; it calls the API by itself."""
    return render_template(
        "home.html",
        store=current_app.config["FLIGHTS_STORE"],
        origins=params.ORIGINS,
        users=auth.USERS,
        password=auth.PASSWORD,
        types=INVALIDATABLE,
    )


@blueprint.post("/api/demo/invalidate/<name>")
def invalidate(name: str) -> Response:
    """Say that one cache type of this app is out of date: `policies.py` says what that invalidates."""
    if name not in INVALIDATABLE:
        abort(404, f"no cache type {name!r} here; there are {', '.join(INVALIDATABLE)}")
    rcache.emit(TYPE_OUTDATED, type=name)
    return jsonify(type=name, event=TYPE_OUTDATED)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Report that the app runs, and whether its cache is available: without it the app is slower, and healthy."""
    return jsonify(
        status="ok",
        cache={"store": current_app.config["FLIGHTS_STORE"], "available": get_cache_stats()["is_available"]},
    )
