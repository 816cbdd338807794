"""The home page, the buttons that have no other home, and the health check."""

from __future__ import annotations

from flask import Blueprint, abort, current_app, jsonify, render_template
from flask.wrappers import Response

from example_app import auth, params, queries, visits
from example_app.db import Row, session
from example_app.policies import PLANES, RATINGS, TYPE_OUTDATED, rcache
from flask_rcache import AUTO, CacheType, get_cache_stats

blueprint = Blueprint("site", __name__)

# What the page's buttons may invalidate: this app's own types and nothing else.
INVALIDATABLE = [
    kind.name for kind in (CacheType.DASHBOARD, CacheType.SEARCH, CacheType.ANALYTICS, CacheType.USER, PLANES, RATINGS)
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
        # Called at the end of the page: what a request has read before a fragment with AUTO is among its tags.
        count_visit=visits.count,
        airlines=_airlines,
        AUTO=AUTO,
    )


def _airlines() -> list[Row]:
    """Return the airlines of the sidebar, a fragment that is cached: the template calls this when it is missing."""
    with session() as db:
        return queries.airlines(db)


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
