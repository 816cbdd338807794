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

from .errors import ConfigError
from .manager import CacheManager

if TYPE_CHECKING:
    from flask.ctx import RequestContext

__all__ = ["EXTENSION", "carries_session", "context", "current_cache", "environ_now", "manager_of"]

EXTENSION: Final = "rcache"


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
        return cast("RequestContext", request_ctx._get_current_object())  # type: ignore[attr-defined]
    except RuntimeError:
        return None


def environ_now() -> MutableMapping[str, Any] | None:
    """The environ of the present request, or ``None`` outside one."""
    ctx = context()
    return None if ctx is None else ctx.request.environ


def carries_session(app: Flask, environ: Mapping[str, Any], others: tuple[str, ...]) -> bool:
    """Whether the request bears a cookie that identifies its caller; looked at without touching the session.

    Args:
        app: for the session cookie's name.
        environ: the WSGI environ.
        others: names of further such cookies.
    """
    header: str | None = environ.get("HTTP_COOKIE")
    if header is None:
        return False
    names = (app.config["SESSION_COOKIE_NAME"], *others)
    if not any(name in header for name in names):
        return False
    cookies = parse_cookie(header)
    return any(name in cookies for name in names)
