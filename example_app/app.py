"""The app factory: configuration, data, cache, blueprints, in this order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, abort, current_app, jsonify, request
from flask.wrappers import Response
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from example_app import auth, data, db, params, ratings, views_account, views_board, views_planes, views_site, warm
from example_app.policies import EVENTS, rcache

# Nothing is loaded from elsewhere, and nothing runs that is not a file of this app.
_CSP = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the app, with its data in place: the first call builds the database, which takes a few seconds.

    Args:
        config: Settings that win over the environment. Own ones: `FLIGHTS_DB` (path of the database),
            `FLIGHTS_JWT_KEY` (signs tokens), `TRUSTED_HOSTS` (by default this machine's names only).

    Raises:
        example_app.data.DataError: The flight data is not installed, or cannot be written.
    """
    app = Flask(__name__)
    app.config["TRUSTED_HOSTS"] = os.environ.get("FLIGHTS_HOSTS", "127.0.0.1,localhost,[::1]").split(",")
    app.config["MAX_CONTENT_LENGTH"] = 16 * 1024
    app.config.update(config or {})
    path = app.config.get("FLIGHTS_DB") or os.environ.get("FLIGHTS_DB") or data.default_path()
    app.config["FLIGHTS_DB"] = Path(path).resolve()
    data.ensure(app.config["FLIGHTS_DB"])
    auth.init_key(app)

    app.config["FLIGHTS_STORE"] = store_label(app.config)
    app.config.setdefault("RCACHE_EVENTS", EVENTS)
    rcache.init_app(app)
    db.init_app(app)
    app.config["FLIGHTS_DASHBOARD"] = dashboard_path(app)

    app.url_map.converters["tailnum"] = params.TailNumber
    for views in (views_site, views_board, views_planes, views_account, ratings):
        app.register_blueprint(views.blueprint)
    app.before_request(_refuse_other_sites)
    app.after_request(_protect)
    app.register_error_handler(HTTPException, _explain)
    app.register_error_handler(SQLAlchemyError, _no_database)
    app.register_error_handler(ratings.ServiceDownError, _no_ratings)
    warm.register()
    return app


def dashboard_path(app: Flask) -> str | None:
    """Return the path of the cache's dashboard; None when it does not exist, because no admin key is configured."""
    path = f"{app.extensions['rcache'].settings.admin_url_prefix}/dashboard"
    return path if any(rule.rule == path for rule in app.url_map.iter_rules()) else None


def store_label(config: Mapping[str, Any]) -> str:
    """Describe the store that the cache uses, without a user or a password in it.

    >>> store_label({"RCACHE_URL": "redis://:secret@cache.internal:6380/2"})
    'Redis at cache.internal:6380/2'
    """
    named = (config.get("RCACHE_URL"), os.environ.get("RCACHE_URL"), os.environ.get("REDIS_URL"))
    url = next((url for url in named if url), "")
    if not url and os.environ.get("REDIS_HOST"):
        return f"Redis at {os.environ['REDIS_HOST']}"
    parts = urlsplit(url)
    if parts.scheme in ("", "memory"):
        return "the memory of this process"
    place = parts.netloc.rpartition("@")[2] + parts.path.rstrip("/")
    return f"Redis at {place}"


def _refuse_other_sites() -> None:
    # Writes need no sign-in, so that a visitor can try them; another site's page may not press the buttons.
    # Source: Fetch Metadata Request Headers, section 2.3.
    if request.method not in ("GET", "HEAD", "OPTIONS") and request.headers.get("Sec-Fetch-Site") in (
        "cross-site",
        "same-site",
    ):
        abort(403, "this call must come from the app's own page")


def _protect(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", _CSP)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


def _explain(error: HTTPException) -> tuple[Response, int] | HTTPException:
    if not request.path.startswith("/api/"):
        return error
    answer = jsonify(error=error.description, status=error.code)
    for name, value in error.get_headers():
        if name.lower() in ("www-authenticate", "allow"):
            answer.headers.add(name, value)
    return answer, error.code or 500


def _no_ratings(error: ratings.ServiceDownError) -> tuple[Response, int]:
    return jsonify(error=str(error), status=502), 502


def _no_database(error: SQLAlchemyError) -> tuple[Response, int]:
    current_app.logger.error("the flight database failed: %s", error)
    return jsonify(error="the flight database does not answer; the log says why", status=503), 503
