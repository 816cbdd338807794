"""Who may: a bearer token is verified, and one role is let in.

Owns the rules for tokens and for the role; knows nothing of Flask. Every refusal is an :class:`AuthError` whose message
is for the log: the caller is told only that the token does not do. The keys are ``keyring``'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import jwt

from ..config.settings import Settings
from ..errors import AuthError, ConfigError
from .keyring import Keyring, fixed_key, remote_keys

__all__ = ["Forbidden", "JwtGuard", "Unauthenticated", "bearer_token", "bears", "keyring_of"]

_LONGEST: Final = 8192
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+={0,2}\.[A-Za-z0-9_-]+={0,2}\.[A-Za-z0-9_-]*={0,2}")


class Unauthenticated(AuthError):
    """Nobody is known to be asking; ``given`` says whether a token came."""

    def __init__(self, reason: str, *, given: bool = True) -> None:
        super().__init__(reason)
        self.given: Final = given


class Forbidden(AuthError):
    """It is known who is asking, and that is not enough."""


class JwtGuard:
    """Admits the bearers of a valid token with the role.

    Args:
        keyring: finds the key; without one nobody is admitted.
        audience: of which ``aud`` must have one; not looked at when empty.
        issuer: what ``iss`` must be; not looked at when it is ``None``.
        leeway: seconds that the clocks may differ.
        claim: the claim that holds the role, or a dotted path to it.
        value: what it must be, or hold.
    """

    def __init__(
        self,
        keyring: Keyring | None,
        *,
        audience: tuple[str, ...] = (),
        issuer: str | None = None,
        leeway: float = 0,
        claim: str = "role",
        value: str = "admin",
    ) -> None:
        self._keyring: Final = keyring
        self._claim: Final = claim
        self._value: Final = value
        self._audience: Final = audience
        self._issuer: Final = issuer
        self._leeway: Final = leeway

    def admit(self, authorization: str | None) -> str:
        """Verify the token in an ``Authorization`` header.

        Returns:
            The token's subject; empty when it names none.

        Raises:
            Unauthenticated: no token, or one that is not valid.
            Forbidden: the role is lacking.
        """
        token = bearer_token(authorization)
        claims = self._verified(token)
        subject = claims.get("sub")
        name = subject if isinstance(subject, str) else ""
        if not bears(claims, self._claim, self._value):
            raise Forbidden(f"{name!r:.200} does not have {self._value!r} in the claim {self._claim!r}")
        return name

    def _verified(self, token: str) -> Mapping[str, Any]:
        if self._keyring is None:
            raise Unauthenticated(
                "the admin API is closed: set RCACHE_ADMIN_JWT_KEY, RCACHE_ADMIN_JWKS_URL or RCACHE_ADMIN_GUARD"
            )
        try:
            key, algorithms = self._keyring.key_for(jwt.get_unverified_header(token))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(algorithms),
                audience=self._audience or None,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": ["exp"], "verify_aud": bool(self._audience)},
            )
        # The last four: what odd numbers, nesting or bytes raise through the library.
        except (AuthError, jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated(f"{type(error).__name__}: {error}") from error
        return claims


def bearer_token(authorization: str | None) -> str:
    """The token of an ``Authorization`` header.

    Raises:
        Unauthenticated: there is none, or it is not shaped like a signed token.

    >>> bearer_token("bearer a.b.c")
    'a.b.c'
    """
    scheme, _, token = (authorization or "").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("no bearer token", given=False)
    token = token.strip()
    if len(token) > _LONGEST:
        raise Unauthenticated(f"a token of {len(token)} bytes: {_LONGEST} at most")
    if not _TOKEN.fullmatch(token):  # two headers, joined with a comma, end here too
        raise Unauthenticated("not a signed token")
    return token


def bears(claims: Mapping[str, Any], claim: str, value: str) -> bool:
    """Whether a claim is the value, or a list that holds it; text is never split and numbers never match.

    Args:
        claims: of a verified token.
        claim: a claim's name, or a dotted path; a claim that has the dots in its name comes first.
        value: what is asked for.

    >>> bears({"realm_access": {"roles": ["user", "admin"]}}, "realm_access.roles", "admin")
    True
    >>> bears({"role": "admin user"}, "role", "admin")
    False
    """
    found: Any = claims
    for name in [claim] if claim in claims else claim.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return False
        found = found[name]
    held = found if isinstance(found, list) else [found]
    return any(isinstance(each, str) and each == value for each in held)


def keyring_of(settings: Settings) -> Keyring | None:
    """The keys that an app's settings name.

    Raises:
        ConfigError: they are not usable, or there are two places to look in.
    """
    key, url = settings.admin_jwt_key, settings.admin_jwks_url
    if settings.admin_guard is not None:
        if key is not None or url is not None:
            raise ConfigError("RCACHE_ADMIN_GUARD replaces the check of tokens: leave out its key or JWKS URL")
        return None
    if key is not None and url is not None:
        raise ConfigError("RCACHE_ADMIN_JWT_KEY and RCACHE_ADMIN_JWKS_URL are both set: which one verifies? Keep one")
    if key is not None:
        return fixed_key(key, settings.admin_jwt_algorithms)
    if url is not None:
        return remote_keys(url, settings.admin_jwt_algorithms)
    return None
