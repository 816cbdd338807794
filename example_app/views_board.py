"""The board: the slow dashboard, the search, the table of delays."""

from __future__ import annotations

from flask import Blueprint, jsonify, request
from flask.wrappers import Response

from example_app import params, queries
from example_app.dashboard import board
from example_app.db import Row, reading
from example_app.policies import FLEET_TAG, plane_tag
from flask_rcache import CacheType, cache_response, cached, current_cache

blueprint = Blueprint("board", __name__, url_prefix="/api")


@blueprint.get("/dashboard")
@cache_response(CacheType.DASHBOARD, ttl=300, tags=[FLEET_TAG])
def dashboard() -> Response:
    """Return every figure of the board."""
    with reading() as db:
        return jsonify(board(db))


@blueprint.get("/search")
@cache_response(CacheType.SEARCH)
def search() -> Response:
    """Return one page of flights."""
    wanted = params.search(request.args)
    with reading() as db:
        found = queries.search(db, wanted)
    # Which planes are on the page is known only now; a change of one of them invalidates the page.
    known = {row["tailnum"] for row in found["items"] if row["seats"] is not None}
    current_cache.tag(*map(plane_tag, sorted(known)))
    return jsonify(found)


@blueprint.get("/analytics/delays")
@cache_response(CacheType.ANALYTICS)
def analytics() -> Response:
    """Return delays by month, carrier, origin or weather, with the mean of the year."""
    by = params.one_of(request.args, "by", queries.DELAY_DIMENSIONS)
    rows = delays(by)
    arrived = sum(row["flights"] * (1 - row["cancelled"]) for row in rows)
    mean = sum(row["arr_delay"] * row["flights"] * (1 - row["cancelled"]) for row in rows) / arrived
    return jsonify(by=by, mean_arr_delay=round(mean, 2), items=rows)


@cached(CacheType.ANALYTICS, ttl=600)
def delays(by: str) -> list[Row]:
    """Compute the table behind `/api/analytics/delays`; its argument is the key, so it reads no request."""
    with reading() as db:
        return queries.delays(db, by)
