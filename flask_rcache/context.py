"""Finding the app's manager, and what of a request the floors above ask for.

Owns :data:`current_cache`, the lookup behind it, and the small facts that only Flask knows: the context of the request,
whether it carries a session or credential cookie. Imports flask, and nothing above this floor does so in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, cast

from flask import Flask, current_app
from flask.globals import request_ctx
from werkzeug.http import parse_cookie
from werkzeug.local import LocalProxy

from .engine.manager import CacheManager
from .errors import ConfigError

if TYPE_CHECKING:
    from flask.ctx import RequestContext

__all__ = ["EXTENSION", "carries_session", "context", "current_cache", "environ_now", "manager_of"]

EXTENSION: Final = "rcache"

#: Where flask-login and flask-jwt-extended are told the names of their cookies.
_COOKIE_SETTINGS: Final = ("REMEMBER_COOKIE_NAME", "JWT_ACCESS_COOKIE_NAME")


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
    return manager_of(current_app)


#: The :class:`~flask_rcache.CacheManager` of the current app.
current_cache: Final = cast(CacheManager, LocalProxy(_current))


def context() -> RequestContext | None:
    """The request context itself, or ``None`` outside one."""
    try:
        return cast("RequestContext", request_ctx._get_current_object())  # type: ignore[attr-defined]  # as its type hides
    except RuntimeError:
        return None


def environ_now() -> MutableMapping[str, Any] | None:
    """The environ of the present request, or ``None`` outside one."""
    ctx = context()
    return None if ctx is None else ctx.request.environ


def carries_session(ctx: RequestContext, environ: Mapping[str, Any], others: tuple[str, ...]) -> bool:
    """Whether the request has a session, or a cookie that identifies its caller; the session is not touched.

    Args:
        ctx: the request's context.
        environ: the WSGI environ.
        others: names of further such cookies.
    """
    if getattr(ctx, "_session", None):  # whatever its interface knew the caller by: another cookie, a header
        return True
    header: str | None = environ.get("HTTP_COOKIE")
    if header is None:
        return False
    app = ctx.app
    renamed = (app.config.get(key) for key in _COOKIE_SETTINGS)
    names = (app.session_interface.get_cookie_name(app), *filter(None, renamed), *others)
    if not any(name in header for name in names):
        return False
    try:
        cookies = parse_cookie(header)
    except UnicodeDecodeError:  # nobody can say what is in it
        return True
    return any(name in cookies for name in names)
