"""Ratings of the airlines, from a service of somebody else's, which may be down.

The service is played by this process: it knows a handful of figures, and a file beside the database says that it is
down. What is cached of it, and for how long, is the same as for one behind a network.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from flask import Blueprint, current_app, jsonify, request
from flask.wrappers import Response
from werkzeug.exceptions import NotFound

from example_app import params
from example_app.policies import RATINGS
from flask_rcache import cached

blueprint = Blueprint("ratings", __name__, url_prefix="/api")

_STARS = {
    "9E": 2.9,
    "AA": 3.1,
    "AS": 4.4,
    "B6": 4.0,
    "DL": 4.1,
    "EV": 2.7,
    "F9": 2.6,
    "FL": 3.3,
    "HA": 4.3,
    "MQ": 2.8,
    "OO": 3.0,
    "UA": 3.2,
    "US": 3.0,
    "VX": 4.5,
    "WN": 3.9,
    "YV": 2.5,
}


class ServiceDownError(RuntimeError):
    """The rating service does not answer, and no answer of before is left."""


# An answer is good for ten seconds. For an hour after that it is served while the service fails. That there is no such
# airline is an answer as well, for half a minute: not every visitor asks the service again.
@cached(RATINGS, errors={NotFound: 30})
def rating(carrier: str) -> dict[str, Any]:
    """Return what the service says of an airline, and when it said so."""
    if switch().exists():
        raise ServiceDownError("the rating service is down")
    if carrier not in _STARS:
        raise NotFound(f"the rating service knows no airline {carrier}")
    return {"carrier": carrier, "stars": _STARS[carrier], "asked_at": time.time()}


@blueprint.get("/airlines/<carrier>/rating")
def airline(carrier: str) -> Response:
    """Return the rating of an airline; an older one while the service is down."""
    return jsonify(rating(params.carrier(carrier)))


@blueprint.put("/demo/rating-service")
def change() -> Response:
    """Take the service down, or let it answer again."""
    is_down = params.switch(request.get_json(), "down")
    if is_down:
        switch().touch()
    else:
        switch().unlink(missing_ok=True)
    return jsonify(down=is_down)


def switch() -> Path:
    """Return the file that is there while the service is down: so all workers see the same."""
    path: Path = current_app.config["FLIGHTS_DB"]
    return path.with_name(f"{path.name}.ratings-down")
