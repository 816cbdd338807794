"""Which entry a request asks for: its URL, the arguments of a call, and who the caller is.

Owns the URL of a request in its normal form, the default id made of it, and :func:`by_user`. The hash and the names are
``keys``'s.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import jwt
from flask import Flask, Request, current_app

from ..config.jwt_keys import KeyAndAlgorithms, algorithms_of, configured_key
from ..config.settings import Settings
from ..context import current_cache
from ..errors import ConfigError
from ..http import Target
from ..model.keys import Key, key_id, request_id

__all__ = ["by_user", "default_id", "filtered_query", "target_of", "user_key"]

logger: Final = logging.getLogger("flask_rcache")


def target_of(request: Request) -> Target:
    """The URL of a request in its normal form."""
    query = request.environ.get("QUERY_STRING", "")
    root = request.root_path
    path = root + request.path
    try:
        return Target.of(request.scheme, request.host, path, query, root)
    except ValueError:  # a host that is none names entries of its own
        return Target(request.scheme, request.host, path, query, root)


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


def default_id(function: str, target: Target, *more: Key) -> str:
    """The id of a request: the function, the URL, and what else tells two calls apart.

    Args:
        function: ``module:qualname`` of what is decorated.
        target: the URL.
        more: arguments of a call that does not come from the URL map; the caller.
    """
    parts = [function, *target]
    return request_id(parts + [key_id(each) for each in more])


def by_user(request: Request) -> Key | None:
    """A ``key_func`` for ``per_user`` types: the caller, put together with the default key; ``None`` for nobody.

    The caller is flask-login's ``current_user`` where that is set up, the ``sub`` of a bearer token that
    ``RCACHE_USER_JWT_KEY`` verifies, or both together where a request has both. For nobody in particular, and with a
    token that is not valid, the request is not cached.

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


def _login_user(app: Flask) -> tuple[str, str] | None:
    if not hasattr(app, "login_manager"):
        return None
    from flask_login import current_user  # type: ignore[import-untyped,import-not-found,unused-ignore]

    return ("login", str(current_user.get_id())) if current_user.is_authenticated else None


def _bearer_token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def user_key(settings: Settings) -> KeyAndAlgorithms | None:
    """The key that verifies users' tokens, and the algorithms it allows; ``None`` when none is set.

    Raises:
        ConfigError: it is too short, private or of a kind not supported, or the algorithms are not its own.
    """
    key, wanted = settings.user_jwt_key, settings.user_jwt_algorithms
    if not key:
        return None
    if isinstance(key, jwt.PyJWK):
        key = key.key
    if isinstance(key, str | bytes):
        return _configured(key, wanted)
    return KeyAndAlgorithms(key, wanted or algorithms_of(key))


@functools.lru_cache(maxsize=16)
def _configured(key: str | bytes, wanted: tuple[str, ...]) -> KeyAndAlgorithms:
    """The key that a text is; a PEM is not read anew for each request."""
    return configured_key(key, wanted, setting="RCACHE_USER_JWT")


def _subject(token: str) -> tuple[str, str] | None:
    """Whom a token names, once it is verified."""
    verifying = user_key(current_cache.settings)
    if verifying is None:
        raise ConfigError("by_user needs RCACHE_USER_JWT_KEY to verify bearer tokens: an unverified one names anybody")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            verifying.key,
            algorithms=list(verifying.algorithms),
            options={"require": ["exp", "sub"], "verify_aud": False},
        )
    # Not only tokens that are not valid: a key that fits no algorithm, and what odd numbers or nesting raise.
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
        logger.info("[CACHE] by_user: a bearer token is not valid: %s", error)
        return None
    return "jwt", str(claims["sub"])
