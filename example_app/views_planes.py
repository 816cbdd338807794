"""Planes: the list, one of them, and the write, whose commit invalidates what has read the plane."""

from __future__ import annotations

from flask import Blueprint, abort, jsonify, request
from flask.wrappers import Response

from example_app import params, queries
from example_app.db import session
from example_app.policies import PLANES
from flask_rcache import AUTO, cache_response

blueprint = Blueprint("planes", __name__, url_prefix="/api/planes")


@blueprint.get("")
@cache_response(PLANES, tags=AUTO)
def listing() -> Response:
    """Return one page of planes."""
    wanted = params.plane_filter(request.args)
    with session() as db:
        return jsonify(queries.planes(db, wanted))


@blueprint.get("/<tailnum:tailnum>")
@cache_response(PLANES, tags=AUTO)
def detail(tailnum: str) -> Response:
    """Return one plane and its year."""
    with session() as db:
        plane = queries.plane(db, tailnum)
    if plane is None:
        abort(404, f"there is no plane {tailnum}")
    return jsonify(plane)


@blueprint.patch("/<tailnum:tailnum>")
def change(tailnum: str) -> Response:
    """Change a plane's seats or note."""
    changes = params.plane_changes(request.get_json())
    with session() as db, db.begin():
        if not queries.change_plane(db, tailnum, changes):
            abort(404, f"there is no plane {tailnum}")
    return jsonify(tailnum=tailnum, changed=changes)
