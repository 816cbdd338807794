"""What is asked of Flask's contexts: the current manager, the current request, and the scope of each.

Owns :data:`current_cache`, the one function that finds the request's context (:func:`request_context`), and the opening
and closing of a :class:`~flask_rcache.model.scope.Scope` for every request and every app context. Nothing below imports
flask, and nothing above asks its contexts in another way.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final, Protocol, cast

import flask.globals
from flask import Flask, appcontext_pushed, current_app
from flask.ctx import AppContext
from flask.globals import app_ctx
from werkzeug.http import parse_cookie
from werkzeug.local import LocalProxy

from .engine.loading import current_load
from .engine.manager import CacheManager
from .engine.parts import Engine
from .errors import ConfigError
from .model.named_tuple import NamedTuple
from .model.scope import Scope, scope_var
from .observed import (
    READS,
    Around,
    Reads,
    has_middlewares,
    is_flask_s_own,
    is_plain,
    note_for_middlewares,
    observed_from_making,
    quiet,
    raw_environ,
)

__all__ = [
    "EXTENSION",
    "SCOPE",
    "FrontLayer",
    "InScope",
    "carries_credential_cookie",
    "current_cache",
    "enter",
    "entered",
    "install",
    "installed",
    "manager_of",
    "request_context",
]

EXTENSION: Final = "rcache"
#: Where an environ has the scope of its request: it leads a copy of the request's context to it, in a thread or later.
SCOPE: Final = "flask_rcache.scope"


# The manager and the request


def manager_of(app: Flask) -> CacheManager:
    """The manager of an app.

    Raises:
        ConfigError: the app has none.
    """
    manager = app.extensions.get(EXTENSION)
    if manager is None:
        raise ConfigError(f"{app.name!r} has no cache: call RCache(app), or rcache.init_app(app) in its factory")
    return cast(CacheManager, manager)


def _current() -> CacheManager:
    manager = manager_of(current_app)
    scope = scope_var.get()
    if scope is None or not scope.is_request or scope.owner is not manager.engine.store:
        ctx = request_context()
        if ctx is not None and ctx.app.extensions.get(EXTENSION) is manager:
            enter(manager.engine, ctx)
    return manager


#: The :class:`~flask_rcache.CacheManager` of the current app.
current_cache: Final = cast(CacheManager, LocalProxy(_current))


def _request_variable(contexts: Any, app_context: type) -> ContextVar[Any]:
    """Where the context is that has the request: up to Flask 3.1 one of its own, afterwards the app's.

    Args:
        contexts: ``flask.globals``.
        app_context: the class of app contexts.
    """
    found: ContextVar[Any] = contexts._cv_app if hasattr(app_context, "has_request") else contexts._cv_request
    return found


# The variables themselves: the proxies cost each hit several times as much.
_request_var: Final = _request_variable(flask.globals, AppContext)


def request_context() -> Any:
    """The context of the current request, or ``None`` outside of one."""
    ctx = _request_var.get(None)
    return ctx if ctx is None or getattr(ctx, "has_request", True) else None


def carries_credential_cookie(environ: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether a request has a cookie that identifies its caller.

    Args:
        environ: the WSGI environ.
        names: of such cookies.
    """
    header: str | None = environ.get("HTTP_COOKIE")
    names = tuple(names)
    if header is None or not any(name in header for name in names):
        return False
    try:
        cookies = parse_cookie(header)
    except UnicodeDecodeError:  # nobody can say what is in it
        return True
    return any(name in cookies for name in names)


# Scopes


class FrontLayer(Protocol):
    """What may answer a request before anything of it has begun, see ``front``."""

    def answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes] | None:
        """The body of the answer, whose headers were sent; ``None`` when the request takes the ordinary way."""
        ...

    def watched(self, environ: dict[str, Any], start_response: Any) -> Any:
        """The ``start_response`` for a request that takes the ordinary way."""
        ...

    def learned(self, environ: dict[str, Any], body: Any) -> Any:
        """The body that the ordinary way has answered with, after it was looked at."""
        ...


class InScope:
    """A WSGI callable whose requests have a scope each: it begins before anything of the request has run (rule R3.1).

    Args:
        wsgi_app: the callable.
        engine: of the cache that the scopes belong to.
        app: that is all set up when the first request comes; ``None`` for one that has answered some.
        front_of: makes the app's front then, if it has one; it is told whether the callable is Flask's own.

    Attributes:
        front: of the app, if it has one and its first request came.
        preprocess: what begins to observe a request, as it was installed.
    """

    __slots__ = ("_app", "_front_of", "_has_inner", "_has_outer", "_store", "_wsgi_app", "front", "preprocess")

    def __init__(
        self,
        wsgi_app: Callable[..., Any],
        engine: Engine,
        app: Flask | None = None,
        front_of: Callable[[Flask, bool], FrontLayer | None] | None = None,
    ) -> None:
        self._wsgi_app: Final = wsgi_app
        self._store: Final = engine.store
        self._app = app
        self._front_of: Final = front_of
        #: Whether there are middlewares between this and Flask, and around this.
        self._has_inner = self._has_outer = False
        self.front: FrontLayer | None = None
        self.preprocess: Any = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer a request."""
        front = self.front
        if front is None and (app := self._app) is not None:
            self._look_around(app)
            self._app = None
            self._begin(app)
            front = self.front
        if self._has_inner or self._has_outer:
            environ = self._noted(environ)
        if front is not None:
            answer = front.answer(environ, start_response)
            if answer is not None:
                return answer
            start_response = front.watched(environ, start_response)
        store = self._store
        scope = environ[SCOPE] = Scope(store, store.moment or store.hear())
        token = scope_var.set(scope)
        try:
            body = self._wsgi_app(environ, start_response)
        finally:
            scope_var.reset(token)
            if scope.exchanges:
                _end_exchanges(scope, None)
            around = token.old_value
            if isinstance(around, Scope) and around.owner is store and (around.is_request or current_load()):
                around.include(scope)
        return body if front is None else front.learned(environ, body)

    def _look_around(self, app: Flask) -> None:
        """Find the app's middlewares; what those around this read of the first requests was not noted."""
        outermost: Any = app.wsgi_app
        self._has_inner = has_middlewares(self._wsgi_app, functools.partial(is_plain, app))
        if type(outermost) is not Around and has_middlewares(outermost, lambda layer: layer is self):
            self._has_outer = True
            app.wsgi_app = Around(outermost)  # type: ignore[method-assign]

    def _noted(self, environ: dict[str, Any]) -> dict[str, Any]:
        """The environ as middlewares between this and Flask get it."""
        quiet(environ)
        if self._has_outer and READS not in environ:
            environ[READS] = Reads()
            environ[READS].is_unseen = True
        return note_for_middlewares(environ) if self._has_inner else environ

    def _begin(self, app: Flask) -> None:
        """The first request comes: all of the app is set up."""
        front = None
        if self._front_of is not None:
            own: Any = Flask.wsgi_app
            is_own = getattr(self._wsgi_app, "__func__", None) is own and is_flask_s_own(own)
            front = self._front_of(app, is_own)
        is_first = app.preprocess_request is self.preprocess and not (self._has_inner or self._has_outer)
        observed_from_making(app, has_front=front is not None, is_first=is_first)
        self.front = front


class _Opened(NamedTuple):
    """A scope that a context opened: which one, and what was current before."""

    context: object
    before: Scope | None
    outer: _Opened | None


#: The scopes opened here by contexts that are still there, the last one first.
_opened: Final[ContextVar[_Opened | None]] = ContextVar("rcache_opened", default=None)


#: The apps of this process that have a cache.
installed: Final[weakref.WeakSet[Flask]] = weakref.WeakSet()


def install(
    app: Flask, manager: CacheManager, front_of: Callable[[Flask, bool], FrontLayer | None] | None = None
) -> InScope:
    """Have each request and each app context of an app opened a scope; once for each app.

    Args:
        app: the app.
        manager: its manager.
        front_of: see :class:`InScope`.
    """
    installed.add(app)
    engine = manager.engine
    in_scope = InScope(app.wsgi_app, engine, app, front_of)
    app.wsgi_app = in_scope  # type: ignore[method-assign]
    appcontext_pushed.connect(_on_pushed, sender=app)
    living = weakref.ref(app)

    def context_for_refreshes() -> AppContext:
        app = living()
        if app is None:
            raise RuntimeError("the app is gone")
        return app.app_context()

    engine.refresher.context = context_for_refreshes
    return in_scope


def enter(engine: Engine, ctx: Any) -> Scope:
    """Make a request's scope the current one, where the request's context did not come with it.

    So it is in a copy of the context in a thread, and in one that is kept after the end; these share the request's
    scope. A context for tests gets one here, which begins with the app context around it.

    Args:
        engine: of the cache that the scope belongs to.
        ctx: the request's context.
    """
    environ = raw_environ(ctx.request)
    scope = environ.get(SCOPE)
    if not isinstance(scope, Scope) or scope.owner is not engine.store:
        around = engine.scope()
        moment = engine.store.moment or engine.store.hear() if around is None else around.moment
        scope = environ[SCOPE] = Scope(engine.store, moment)
        if around is not None:
            scope.within(around)
    if scope is not scope_var.get():
        _call_at_end(ctx.app.teardown_request_funcs.setdefault(None, []), _on_request_teardown)
        _open(ctx, scope)
    return scope


def entered(ctx: Any) -> object:
    """The context itself when its scope was made current by :func:`enter`; ``None`` when the scope came first."""
    opened = _opened.get()
    return ctx if opened is not None and opened.context is ctx else None


def _call_at_end(functions: list[Any], function: Callable[..., None]) -> None:
    """Have Flask call a teardown function. From the first context on that needs it: each request would pay for it."""
    if function not in functions:
        functions.append(function)


def _open(context: object, scope: Scope) -> None:
    _opened.set(_Opened(context, scope_var.get(), _opened.get()))
    scope_var.set(scope)


def _end_exchanges(scope: Scope, ctx: object) -> None:
    """End what never saw final headers: an ``after_request`` raised, or the context is a copy in a thread."""
    for exchange in list(scope.exchanges):
        if exchange.guest is ctx:
            exchange.close()


def _close(context: object) -> None:
    """Close the scope that a context opened, if it did, with those that were opened inside."""
    opened = _opened.get()
    while opened is not None and opened.context is not context:
        opened = opened.outer
    if opened is not None:
        _opened.set(opened.outer)
        scope_var.set(opened.before)


def _on_pushed(app: Flask, **_: Any) -> None:
    """An app context begins: it has a scope already where it is that of a request from a server."""
    engine = app.extensions[EXTENSION].engine
    scope = scope_var.get()
    if scope is not None and scope.owner is engine.store:
        return
    ctx = request_context()  # where the two contexts are one; otherwise the request's is not current yet
    if ctx is not None and ctx.app is app:
        enter(engine, ctx)
    else:
        _call_at_end(app.teardown_appcontext_funcs, _on_context_teardown)
        _open(_app_context(), engine.new_scope(is_request=False))


def _on_request_teardown(_: BaseException | None) -> None:
    ctx = request_context()
    if ctx is not None and _opened.get() is not None:
        scope = raw_environ(ctx.request).get(SCOPE)
        if scope is not None:
            _end_exchanges(scope, ctx)
        _close(ctx)


def _on_context_teardown(_: BaseException | None) -> None:
    if _opened.get() is not None:
        _close(_app_context())


def _app_context() -> object:
    return app_ctx._get_current_object()  # type: ignore[attr-defined]  # a proxy's, which its type hides
