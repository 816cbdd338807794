"""Which entry a request asks for: its URL, the arguments of a call, and who the caller is.

Owns the URL of a request in its normal form, the default id made of it, :func:`by_user` and :func:`by_caller`. The hash
and the names are ``keys``'s.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode

from flask import Flask, Request, current_app

from ..context import current_cache
from ..errors import AuthError, ConfigError
from ..http import Target
from ..model.keys import Key, key_id, request_id
from ..observed import raw_environ, unobserved

__all__ = [
    "by_caller",
    "by_user",
    "default_id",
    "filtered_query",
    "leave_session_protection_alone",
    "path_of",
    "target_of",
]

logger: Final = logging.getLogger("flask_rcache")


def target_of(request: Request) -> Target:
    """The URL of a request in its normal form."""
    query = raw_environ(request).get("QUERY_STRING", "")
    root = request.root_path
    path = path_of(request)
    try:
        return Target.of(request.scheme, request.host, path, query, root)
    except ValueError:  # a host that is none names entries of its own
        return Target(request.scheme, request.host, path, query, root)


def path_of(request: Request) -> str:
    """The path as it came, decoded, with the script root before it.

    ``//x`` is another one than ``/x``, where werkzeug's ``path`` is the same.
    """
    path: str = raw_environ(request).get("PATH_INFO") or ""
    if not path.startswith("//"):
        return request.root_path + request.path
    return request.root_path + path.encode("latin1", "replace").decode(errors="replace")


def filtered_query(query: str, names: tuple[str, ...] | None) -> str:
    """The query string as it stands in the key: exactly as sent, or only the allowed arguments, sorted by name.

    Repeated arguments keep their order.

    >>> filtered_query("utm_source=x&q=a&page=2&q=b", ("q", "page"))
    'page=2&q=a&q=b'
    """
    if names is None:
        return query
    text = query.encode("latin1", "replace").decode(errors="replace")
    pairs = parse_qsl(text, keep_blank_values=True, errors="werkzeug.url_quote")
    allowed = [(name, value) for name, value in pairs if name in names]
    return urlencode(sorted(allowed, key=lambda pair: pair[0]))


def default_id(origin: str, target: Target, *more: Key) -> str:
    """The id of a request: the view, the URL, and what else tells two calls apart.

    Args:
        origin: what tells the view from others.
        target: the URL.
        more: arguments of a call that does not come from the URL map; the caller.
    """
    return request_id((origin, *target, *map(key_id, more)))


def by_user(request: Request) -> Key | None:
    """A ``key_func`` for ``per_user`` types: the caller and the default key; ``None`` for anonymous users.

    The caller is flask-login's ``current_user`` where that is set up, the ``sub`` of a bearer token that
    ``RCACHE_USER_JWT_KEY`` verifies, or both together where a request has both. For anonymous users, and with a token
    that is not valid, the request is not cached.

    Args:
        request: the current request.

    Returns:
        What names the caller, or ``None``.

    Raises:
        ConfigError: there is a bearer token and no key to verify it with.
    """
    user = _login_user(current_app._get_current_object())  # type: ignore[attr-defined]
    token = _bearer_token(request)
    if token is None:
        return user
    if not current_cache.settings.user_jwt_key and hasattr(current_app, "login_manager"):
        return None  # tokens are not how this app knows its users, and whoever sends one gets no error for it
    subject = _subject(token)
    if subject is None or user is None:
        return subject
    return (*user, *subject)


#: ``cache_response`` adds the default key to what such a function returns.
by_user.composes = True  # type: ignore[attr-defined]


def by_caller(
    function: Callable[[Request], Key | None], *, anonymous: Literal["bypass", "shared"] = "bypass"
) -> Callable[[Request], Key | None]:
    """A ``key_func`` for ``per_user`` types, of an app that knows its callers itself: the caller and the default key.

    Args:
        function: called with the request, names the caller: what an opaque token stands for, a session's user. ``None``
            and an empty text are a visitor.
        anonymous: what becomes of visitors: they bypass the cache, or share one entry, as long as the view reads
            nothing else that identifies.

    Returns:
        A ``key_func``. :func:`by_user` may be the function: ``by_caller(by_user, anonymous="shared")``.

    Raises:
        ConfigError: an argument is not usable.
    """
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise ConfigError(f"by_caller takes a function of the request, and not an async one, not {function!r:.80}")
    if anonymous not in ("bypass", "shared"):
        raise ConfigError(f'anonymous of by_caller is "bypass" or "shared", not {anonymous!r:.80}')

    @functools.wraps(function)
    def key_func(request: Request) -> Key | None:
        caller = function(request)
        return None if caller is None or caller == "" else ("caller", caller)

    key_func.composes = True  # type: ignore[attr-defined]
    key_func.shares_anonymous = anonymous == "shared"  # type: ignore[attr-defined]
    return key_func


def leave_session_protection_alone(app: Flask) -> None:
    """Have flask-login compare a session with the address it comes from without that counting as read by the view.

    It does so whenever it loads the user. What comes of it is the user, whom the session or a token says.
    """
    manager: Any = getattr(app, "login_manager", None)
    generate = getattr(manager, "_session_identifier_generator", None)
    if generate is not None and not hasattr(generate, "rcache_plain"):

        @functools.wraps(generate)
        def generate_unobserved() -> Any:
            with unobserved():
                return generate()

        generate_unobserved.rcache_plain = generate  # type: ignore[attr-defined]
        manager._session_identifier_generator = generate_unobserved


def _login_user(app: Flask) -> tuple[str, str] | None:
    if not hasattr(app, "login_manager"):
        return None
    from flask_login import current_user  # type: ignore[import-untyped,import-not-found,unused-ignore]

    return ("login", str(current_user.get_id())) if current_user.is_authenticated else None


def _bearer_token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _subject(token: str) -> tuple[str, str] | None:
    """Whom a token names, once it is verified."""
    settings = current_cache.settings
    if not settings.user_jwt_key:
        raise ConfigError(
            "by_user needs RCACHE_USER_JWT_KEY to verify bearer tokens: an unverified token identifies nobody"
        )
    from ..config import jwt_keys  # needs PyJWT

    key = jwt_keys.user_key(settings)
    assert key is not None
    try:
        claims = jwt_keys.verified_claims(token, key, required=("exp", "sub"))
    except AuthError as error:
        logger.info("[CACHE] by_user: a bearer token is not valid: %s", error)
        return None
    return "jwt", str(claims["sub"])
