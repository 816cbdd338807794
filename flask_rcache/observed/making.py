"""Requests whose making is observed as well: where code of the app may run before a request begins."""

from __future__ import annotations

import contextlib
import copy
import functools
from types import FunctionType
from typing import Any, Final, cast

from flask import Flask, request_started
from flask.sessions import SecureCookieSessionInterface

from .around import record_of
from .fields import Field
from .observing import EARLY, is_plainly_made, observe, watch_environ
from .reads import ASIDE, RECORD
from .watching import Environ, subclass, watch, watching_headers

__all__ = ["has_plain_sessions", "is_flask_s_own", "observed_from_making", "observed_when_made"]

#: Whether what runs between the making of a request and its beginning is the app's as well.
_FROM_MAKING: Final = "_rcache_from_making"
#: What this cache itself puts in the place of an app's methods.
_REPLACED_BY_US: Final = {"create_jinja_environment", "make_response", "preprocess_request", "wsgi_app"}
#: What is none of an app's own.
_NO_APP: Final = ("flask.", "flask_rcache.", "werkzeug.")


def observed_when_made(kind: type, *, onwards: bool = False, has_environ: bool = False) -> type:
    """A request class like an app's own, of which is seen what it reads when it makes a request.

    Args:
        kind: the app's request class.
        onwards: whether what is read afterwards, until the request begins, is the app's as well. Else it is Flask's,
            which matches the URL and opens the session, and is left out.
        has_environ: whether what is read of the environ itself is noted then too.
    """
    makes: Any = kind.__new__
    is_plain = is_plainly_made(kind)  # it reads for Flask alone

    def get(self: Any) -> Any:
        return self.__dict__["headers"]

    def put(self: Any, headers: Any) -> None:
        held = self.__dict__
        held["headers"] = headers
        watch(headers, held[EARLY] if EARLY in held else held[RECORD], watching_headers)

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        if not args:  # a copy of one
            return makes(cls, **kwargs)
        reads = record_of(args[0])
        made = makes(cls, Environ(args[0], reads), *args[1:], **kwargs)
        made.__dict__[EARLY] = reads
        return made

    def make(self: Any, environ: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        reads = self.__dict__.get(EARLY)
        if reads is None:
            reads = self.__dict__[EARLY] = record_of(environ)
        super(observed, self).__init__(environ if is_plain else Environ(environ, reads), *args, **kwargs)
        self.__dict__["environ"] = self.headers.environ = environ
        if onwards:
            observe(self).from_making = True
            if has_environ:
                watch_environ(self)
        else:
            reads["request", EARLY] = None  # what comes after this is Flask's

    space = {"headers": property(get, put), "__init__": make, EARLY: True, _FROM_MAKING: onwards}
    if makes is not object.__new__:
        space["__new__"] = new
    observed: Any = subclass(kind, space)
    return cast(type, observed)


def observed_from_making(app: Any, *, has_front: bool = False, is_first: bool = True) -> None:
    """Have each request of an app observed from its making, where code of the app may run before it begins.

    Such are a request class, methods that a subclass of Flask or the app itself has in place of Flask's, converters,
    and what listens to the signal that a request has started. What a session interface reads is no such thing; it is
    noted apart.

    Args:
        app: all of it is set up.
        has_front: whether requests may be answered before their sessions are opened: then it has to be known what
            opens one, and what is read of the environ itself.
        is_first: whether nothing was put around what begins to observe a request.
    """
    onwards = (
        not is_first or type(app) is not Flask or _runs_code_early(app) or (has_front and not has_plain_sessions(app))
    )
    if not onwards and is_plainly_made(app.request_class):
        return
    app.request_class = observed_when_made(app.request_class, onwards=onwards, has_environ=has_front)
    interface: Any = copy.copy(app.session_interface)  # Flask's own is that of all apps
    opens = interface.open_session

    @functools.wraps(opens)
    def open_session(app: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        found: dict[Field, None] = {}
        entered = ASIDE.set(found)
        try:
            return opens(app, request, *args, **kwargs)
        finally:
            ASIDE.reset(entered)
            reads = request.__dict__.get(RECORD)
            if reads is not None:
                reads.of_session = found

    with contextlib.suppress(AttributeError):  # slots
        interface.open_session = open_session
        app.session_interface = interface


def has_plain_sessions(app: Flask) -> bool:
    """Whether the session is found by Flask itself, so by one cookie."""
    interface = app.session_interface
    names = ("open_session", "get_cookie_name", "get_signing_serializer")
    plain = all(getattr(type(interface), each, None) is getattr(SecureCookieSessionInterface, each) for each in names)
    return plain and getattr(interface, "__dict__", {}).keys().isdisjoint(names)


def _runs_code_early(app: Flask) -> bool:
    replaced = (getattr(Flask, name, None) for name in vars(app).keys() - _REPLACED_BY_US)
    patched = not all(map(is_flask_s_own, vars(Flask).values()))
    foreign: list[Any] = [*app.url_map.converters.values(), *request_started.receivers_for(app)]
    return (
        patched
        or any(isinstance(each, FunctionType) for each in replaced)
        or not all(getattr(each, "__module__", "").startswith(_NO_APP) for each in foreign)
    )


def is_flask_s_own(method: object) -> bool:
    """Whether what a class of Flask's has is Flask's: a library that traces or guards apps may have replaced it."""
    if isinstance(method, FunctionType):  # whatever it says of itself, as a copy of Flask's name does
        return str(method.__globals__.get("__name__")).startswith("flask.")
    return not callable(method) or isinstance(method, type) or type(method).__module__ == "builtins"
