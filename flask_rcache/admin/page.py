"""The dashboard's page: a shell and its assets, the same for everybody, so no token is asked for.

Owns the two routes, their security headers and their validators. It knows no figure of the cache: the page asks the
admin API for those, with the token that its user has given.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Final

from flask import Blueprint, Response, abort, redirect, request
from werkzeug.wrappers import Response as Reply

from ..model.named_tuple import NamedTuple

__all__ = ["PUBLIC", "register"]

#: The endpoints of the blueprint that hold no data and need no token; every other one passes the guard.
PUBLIC: Final = frozenset({"dashboard", "dashboard_asset", "dashboard_slash"})

_SHELL: Final = "dashboard.html"

#: Spelled out: what `mimetypes` says depends on the machine, and a module script of another type does not run.
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    # The licence of the chart's library goes where the library goes.
    "txt": "text/plain; charset=utf-8",
}

#: Only files of this package run or are shown, and text never becomes markup or script (trusted types).
_CSP: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

_HEADERS: Final = {
    # Kept, but asked for again each time: an upgrade must not mix the files of two versions.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _Asset(NamedTuple):
    """One file of the page, and its strong validator."""

    content: bytes
    content_type: str
    etag: str


def register(blueprint: Blueprint) -> None:
    """Add the page to a blueprint: ``/dashboard`` and ``/dashboard/<asset>``, both without a token."""
    blueprint.add_url_rule("/dashboard", "dashboard", _shell)
    blueprint.add_url_rule("/dashboard/", "dashboard_slash", _without_slash)
    blueprint.add_url_rule("/dashboard/<asset>", "dashboard_asset", _asset)


def _shell() -> Response:
    return _answer(_assets()[_SHELL])


def _without_slash() -> Reply:
    # Relative, as all URLs of the page are: a proxy may show it under another path.
    return redirect("../dashboard", 308)


def _asset(asset: str) -> Response:
    found = _assets().get(asset)
    if found is None or asset == _SHELL:
        abort(404)
    return _answer(found)


def _answer(asset: _Asset) -> Response:
    response = Response(asset.content, headers=_HEADERS, content_type=asset.content_type)
    response.set_etag(asset.etag)
    response.make_conditional(request)
    return response


@cache
def _assets() -> dict[str, _Asset]:
    """The files of the page by name: nothing else can be asked for, whatever the path says."""
    found: dict[str, _Asset] = {}
    for file in (resources.files(__name__.rpartition(".")[0]) / "static").iterdir():
        content_type = _TYPES.get(file.name.rpartition(".")[2])
        if content_type is not None:
            content = file.read_bytes()
            found[file.name] = _Asset(content, content_type, hashlib.blake2b(content, digest_size=16).hexdigest())
    return found
