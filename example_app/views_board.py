"""The board: the slow dashboard, the search, the table of delays."""

from __future__ import annotations

from flask import Blueprint, jsonify, request
from flask.wrappers import Response

from example_app import params, queries
from example_app.dashboard import board
from example_app.db import Row, session
from flask_rcache import AUTO, CacheType, cache_response, cached

blueprint = Blueprint("board", __name__, url_prefix="/api")


@blueprint.get("/dashboard")
@cache_response(CacheType.DASHBOARD, ttl=300, tags=AUTO)
def dashboard() -> Response:
    """Return every figure of the board."""
    with session() as db:
        return jsonify(board(db))


@blueprint.get("/search")
@cache_response(CacheType.SEARCH, tags=AUTO)
def search() -> Response:
    """Return one page of flights."""
    wanted = params.search(request.args)
    with session() as db:
        return jsonify(queries.search(db, wanted))


@blueprint.get("/analytics/delays")
@cache_response(CacheType.ANALYTICS, tags=AUTO)
def analytics() -> Response:
    """Return delays by month, carrier, origin or weather, with the mean of the year."""
    by = params.one_of(request.args, "by", queries.DELAY_DIMENSIONS)
    rows = delays(by)
    arrived = sum(row["flights"] * (1 - row["cancelled"]) for row in rows)
    mean = sum(row["arr_delay"] * row["flights"] * (1 - row["cancelled"]) for row in rows) / arrived
    return jsonify(by=by, mean_arr_delay=round(mean, 2), items=rows)


@cached(CacheType.ANALYTICS, ttl=600, tags=AUTO)
def delays(by: str) -> list[Row]:
    """Compute the table behind `/api/analytics/delays`; its argument is the key, so it reads no request."""
    with session() as db:
        return queries.delays(db, by)
