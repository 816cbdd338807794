"""Refreshing a view's response in the background: a sanitised GET, dispatched without a client.

Owns the request that stands in for the client's: the method, what is in the key, and nothing else; no cookie, no
credential, no address. What needs more than that is not refreshed here.
"""

from __future__ import annotations

import functools
import io
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import Flask
from werkzeug.http import dump_cookie, parse_cookie

from ..context import InScope, manager_of
from ..http import environ_key
from ..observed import raw_environ
from .bound import BoundView

__all__ = ["JUDGED", "REFRESHED", "REFRESHING", "RELOADING", "refresh_job", "refreshable"]

#: In the environ of a background request: the key of the URL that is to be loaded. A client cannot set it.
REFRESHING: Final = "flask_rcache.refreshing"
#: The identity of the entry that was found to need it: where another lies there by now, it was loaded meanwhile.
JUDGED: Final = "flask_rcache.judged"
#: Set in it once the key has been filled.
REFRESHED: Final = "flask_rcache.refreshed"
#: In the environ of a warming request: what lies there is loaded anew. A client cannot set it.
RELOADING: Final = "flask_rcache.reloading"

_KEPT: Final = (
    "HTTP_HOST",
    "PATH_INFO",
    "SCRIPT_NAME",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "wsgi.url_scheme",
)


def refreshable(view: BoundView, ctx: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a sanitised request would get the same answer: the URL alone leads to the view, and names no caller.

    Args:
        view: what is called.
        ctx: the request's context.
        kwargs: what it is called with.
    """
    if view.options.key_func is not None:
        return False
    facts = view.facts(ctx, raw_environ(ctx.request))
    if facts.credentials or facts.session:
        return False
    return view.serves(ctx) and kwargs == (ctx.request.view_args or {})


def refresh_job(view: BoundView, ctx: Any, url_key: str, identity: bytes | None) -> Callable[[], bool]:
    """The job that loads a URL anew; true when it is done, by this process or another.

    Args:
        view: what answers the URL.
        ctx: of a request for it.
        url_key: its key.
        identity: of the entry that was found to need it.
    """
    app: weakref.ReferenceType[Flask] = weakref.ref(ctx.app)
    given: Mapping[str, Any] = raw_environ(ctx.request)
    environ = {name: given[name] for name in _KEPT if name in given}
    for field in view.views.selection_of(url_key, view).selecting:
        kind, colon, item = field.partition(":")
        name = "HTTP_COOKIE" if kind == "cookie" and colon else environ_key(field)
        if name not in given:
            continue
        if not colon:
            environ[name] = given[name]
        elif kind == "cookie":  # that one, and no other
            found = parse_cookie(given[name]).getlist(item)
            cookies = [dump_cookie(item, value, path=None) for value in found]
            environ[name] = "; ".join([*filter(None, [environ.get(name)]), *cookies])
    environ.update(
        {
            "REQUEST_METHOD": "GET",
            "QUERY_STRING": view.target(ctx.request).query,
            "HTTP_USER_AGENT": "flask_rcache",
            "wsgi.version": (1, 0),
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            REFRESHING: url_key,
            JUDGED: identity,
        }
    )

    def job() -> bool:
        living = app()
        if living is not None:
            _dispatch(living, environ)
        return living is None or bool(environ.get(REFRESHED))

    return job


def _dispatch(app: Flask, environ: dict[str, Any]) -> None:
    """Run the request to its end, as a server would, and throw the answer away."""

    def start_response(*_: Any) -> Callable[[bytes], object]:
        return lambda _: None

    # Not `app.wsgi_app`: what wraps it has changed this environ already, and would again.
    plain = functools.partial(type(app).wsgi_app, app)
    answer = InScope(plain, manager_of(app).engine)(environ, start_response)
    try:
        for _ in answer:
            pass
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
