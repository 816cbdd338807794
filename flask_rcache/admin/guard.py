"""Authorization: a bearer token is verified, and one role is admitted.

Owns the rules for tokens and for the role; knows nothing of Flask. Every refusal is an :class:`AuthError` whose message
is for the log: the caller learns only that the token is not accepted. The keys are ``keyring``'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ..config.jwt_keys import unverified_header, verified_claims
from ..config.settings import Settings
from ..errors import AuthError, ConfigError
from .keyring import Keyring, fixed_key, remote_keys

__all__ = ["Forbidden", "JwtGuard", "Unauthenticated", "bearer_token", "has_role", "keyring_of"]

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+={0,2}\.[A-Za-z0-9_-]+={0,2}\.[A-Za-z0-9_-]*={0,2}")


class Unauthenticated(AuthError):
    """The caller is not known; ``given`` says whether there was a token."""

    def __init__(self, reason: str, *, given: bool = True) -> None:
        super().__init__(reason)
        self.given: Final = given


class Forbidden(AuthError):
    """The caller is known, and does not have the role."""


class JwtGuard:
    """Admits callers with a valid token that has the role.

    Args:
        keyring: finds the key.
        audience: of which ``aud`` must have one; not checked when empty.
        issuer: what ``iss`` must be; not checked when it is ``None``.
        leeway: seconds that the clocks may differ.
        claim: the claim that holds the role, or a dotted path to it.
        value: what it must be, or contain.
    """

    def __init__(
        self,
        keyring: Keyring,
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
            Forbidden: the role is missing.
        """
        token = bearer_token(authorization)
        claims = self._verified(token)
        subject = claims.get("sub")
        name = subject if isinstance(subject, str) else ""
        if not has_role(claims, self._claim, self._value):
            raise Forbidden(f"{name!r:.200} does not have {self._value!r} in the claim {self._claim!r}")
        return name

    def _verified(self, token: str) -> Mapping[str, Any]:
        try:
            return verified_claims(
                token,
                self._keyring.key_for(unverified_header(token)),
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
            )
        except AuthError as error:
            raise Unauthenticated(str(error)) from error


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
    if not _TOKEN.fullmatch(token):  # two headers, joined with a comma, end here too
        raise Unauthenticated("not a signed token")
    return token


def has_role(claims: Mapping[str, Any], claim: str, value: str) -> bool:
    """Whether a claim is the value, or a list that contains it; text is never split and numbers never match.

    Args:
        claims: of a verified token.
        claim: a claim's name, or a dotted path; a claim that has the dots in its name comes first.
        value: what is asked for.

    >>> has_role({"realm_access": {"roles": ["user", "admin"]}}, "realm_access.roles", "admin")
    True
    >>> has_role({"role": "admin user"}, "role", "admin")
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
    """The keys that an app's settings name; ``None`` when a guard of the app's own stands in their place.

    Raises:
        ConfigError: they are not usable, or more than one thing is configured to decide.
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
    return None if url is None else remote_keys(url, settings.admin_jwt_algorithms)
