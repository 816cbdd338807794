"""What WSGI middlewares read of a request before Flask makes it: they may keep it where nobody sees it read.

Owns the environ that notes what they read of it, and which of an app's layers are asked for that: those of werkzeug
itself keep nothing of the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from flask import Flask

from .reads import Reads
from .watching import OF_ONE, one_noted

__all__ = ["READS", "Around", "has_middlewares", "is_plain", "note_for_middlewares", "quiet", "record_of"]

#: Where an environ has the record of what was read of it before its request was made.
READS: Final = "flask_rcache.reads"
#: The layers that keep nothing of a request.
_FRAMEWORKS: Final = ("flask.", "flask_rcache.", "werkzeug.", "wsgiref.")
_MOST_LAYERS: Final = 50

WsgiApp = Callable[..., Any]


class _Noting(dict[str, Any]):
    """An environ that notes which of its items are read; a copy of it is a plain one."""

    _rcache_reads: Reads


class _Quiet(dict[str, Any]):
    """The same environ, once its request is made: the request notes what is read of it itself."""

    _rcache_reads: Reads


for _name in OF_ONE & set(dir(dict)):
    setattr(_Noting, _name, one_noted(getattr(dict, _name), "environ", searches=False))


def note_for_middlewares(environ: dict[str, Any]) -> dict[str, Any]:
    """An environ that notes what is read of it; the same one, where it has done so before."""
    reads = dict.get(environ, READS)
    if reads is None:
        reads = environ[READS] = Reads()
    if environ.__class__ is _Quiet:
        environ.__class__ = cast(Any, _Noting)
    if environ.__class__ is _Noting:
        return environ
    made = _Noting(environ)
    made._rcache_reads = reads
    return made


def quiet(environ: Any) -> None:
    """From here on an environ notes nothing."""
    if environ.__class__ is _Noting:
        environ.__class__ = cast(Any, _Quiet)


def record_of(environ: dict[str, Any]) -> Reads:
    """A record for a request that is made of an environ: it begins with what middlewares have read."""
    quiet(environ)
    reads = Reads()
    known = environ.get(READS)
    if known is not None:
        reads.update(known)
        reads.is_unseen = known.is_unseen
    return reads


class Around:
    """All of an app's layers, with what they read noted.

    Args:
        wsgi_app: the outermost.
    """

    __slots__ = ("_wsgi_app",)

    def __init__(self, wsgi_app: WsgiApp) -> None:
        self._wsgi_app: Final = wsgi_app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer a request."""
        return self._wsgi_app(note_for_middlewares(environ), start_response)


def has_middlewares(outermost: Any, is_innermost: Callable[[Any], bool]) -> bool:
    """Whether there are layers that are not werkzeug's, from the outermost to the innermost."""
    layer = outermost
    for _ in range(_MOST_LAYERS):
        if is_innermost(layer):
            return False
        kind = layer if hasattr(layer, "__code__") or hasattr(layer, "__func__") else type(layer)
        if not f"{kind.__module__}.".startswith(_FRAMEWORKS):
            return True
        layer = next(filter(callable, getattr(layer, "__dict__", {}).values()), None)
        if layer is None:
            return True
    return True


def is_plain(app: Flask, wsgi_app: Any) -> bool:
    """Whether a layer is Flask's own, which gives the environ to nothing of the app's but the request."""
    methods: tuple[tuple[Any, Any], ...] = ((wsgi_app, Flask.wsgi_app), (app.request_context, Flask.request_context))
    return all(getattr(method, "__func__", None) is own and own.__module__ == "flask.app" for method, own in methods)
