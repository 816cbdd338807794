"""Refreshing a view's response in the background: a sanitised GET, dispatched without a client.

Owns the request that stands in for the client's: the method, what is in the key, and nothing else; no cookie, no
credential, no address. What needs more than that is not refreshed here.
"""

from __future__ import annotations

import io
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from .binding import options_of

if TYPE_CHECKING:
    from flask import Flask

    from .lookup import Lookup

__all__ = ["CLOSED", "JUDGED", "REFRESHED", "REFRESHING", "refreshable", "refreshing"]

#: In the environ of a background request: the stored key to be filled. A client cannot set it.
REFRESHING: Final = "flask_rcache.refreshing"
#: The identity of the entry that was judged to need it: where another lies there by now, somebody was faster.
JUDGED: Final = "flask_rcache.judged"
#: Set in it once the key has been filled.
REFRESHED: Final = "flask_rcache.refreshed"
#: In an environ, a weak reference to the request whose final headers are known: what it calls now can wait for none.
#: Another request may be made of the same environ, by a middleware that tries one app after another.
CLOSED: Final = "flask_rcache.closed"

_KEPT: Final = (
    "HTTP_HOST",
    "PATH_INFO",
    "SCRIPT_NAME",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "wsgi.url_scheme",
)


def refreshable(visit: Lookup) -> bool:
    """Whether a sanitised request would get the same answer: the URL alone leads to the view, and nobody is named."""
    options, facts = visit.binding.options, visit.facts
    if options.key_func is not None or facts.credentials or facts.session:
        return False
    request = visit.context.request
    view = visit.context.app.view_functions.get(request.endpoint or "")
    return any(found is options for found in options_of(view)) and visit.call[1] == (request.view_args or {})


def refreshing(visit: Lookup) -> Callable[[], bool]:
    """The job that fills the visit's key anew; true when it did."""
    app: weakref.ReferenceType[Flask] = weakref.ref(visit.context.app)
    environ = _sanitised(visit)

    def job() -> bool:
        living = app()
        if living is None:
            return True
        _dispatch(living, environ)
        return bool(environ.get(REFRESHED))

    return job


def _sanitised(visit: Lookup) -> dict[str, Any]:
    given: Mapping[str, Any] = visit.environ
    environ = {name: given[name] for name in _KEPT if name in given}
    for field in visit.manager.vary_names.get(visit.stored, visit.binding.options.vary):
        name = "HTTP_" + field.upper().replace("-", "_")
        if name in given:
            environ[name] = given[name]
    environ.update(
        {
            "REQUEST_METHOD": "GET",
            "QUERY_STRING": visit.binding.target(visit.context.request).query,
            "HTTP_USER_AGENT": "flask_rcache",
            "wsgi.version": (1, 0),
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            REFRESHING: visit.stored,
            JUDGED: None if visit.reading is None else visit.reading.identity,
        }
    )
    return environ


def _dispatch(app: Flask, environ: dict[str, Any]) -> None:
    """Run the request to its end, as a server would, and throw the answer away."""

    def start_response(*_: Any) -> Callable[[bytes], object]:
        return lambda _: None

    # Not `app.wsgi_app`: what wraps it has had its say on this environ, and would have it again.
    answer = type(app).wsgi_app(app, environ, start_response)
    try:
        for _ in answer:
            pass
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
