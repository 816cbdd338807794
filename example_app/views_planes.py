"""Planes: the list, one of them, and the write that invalidates what was cached of them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, jsonify, request
from flask.wrappers import Response

from example_app import params, queries
from example_app.db import reading, writing
from example_app.policies import FLEET_TAG, PLANES, plane_tag
from flask_rcache import cache_response, invalidate_cache_type, invalidate_tags

blueprint = Blueprint("planes", __name__, url_prefix="/api/planes")


def _tags(*, tailnum: str, **_: Any) -> list[str]:
    return [plane_tag(tailnum)]


@blueprint.get("")
@cache_response(PLANES)
def listing() -> Response:
    """Return one page of planes."""
    wanted = params.plane_filter(request.args)
    with reading() as db:
        return jsonify(queries.planes(db, wanted))


@blueprint.get("/<tailnum:tailnum>")
@cache_response(PLANES, tags=_tags)
def detail(tailnum: str) -> Response:
    """Return one plane and its year."""
    with reading() as db:
        plane = queries.plane(db, tailnum)
    if plane is None:
        abort(404, f"there is no plane {tailnum}")
    return jsonify(plane)


@blueprint.patch("/<tailnum:tailnum>")
def change(tailnum: str) -> Response:
    """Change a plane's seats or note, then invalidate what showed it: in that order, after the commit."""
    changes = params.plane_changes(request.get_json())
    with writing() as db:
        if not queries.change_plane(db, tailnum, changes):
            abort(404, f"there is no plane {tailnum}")
    invalidate_cache_type(PLANES)  # lists and details of planes
    invalidate_tags(FLEET_TAG, plane_tag(tailnum))  # the dashboard; search pages that show this plane
    return jsonify(tailnum=tailnum, changed=changes)
