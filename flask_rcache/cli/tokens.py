"""The command ``token``: an admin token, as the guard of the admin API requires it.

Owns the claims that it signs. It can sign only where the app's own secret verifies: with a public key, a JWKS URL or a
guard of the app's own, tokens are made elsewhere.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from typing import Any, Final

import click
import jwt
from flask import current_app

from ..config.settings import Settings
from ..context import manager_of
from .output import Command, Failure, answer, answers, note

__all__ = ["token"]

_DAY: Final = 86_400
_MOST: Final = 3650 * _DAY
_OURS: Final = frozenset({"sub", "iat", "exp", "nbf", "aud", "iss", "jti"})
_PATH: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")


@click.command(cls=Command)
@click.option("--subject", default="cli", show_default=True, help="The subject, as the audit trail will show it.")
@click.option(
    "--expires", type=click.IntRange(1, _MOST), default=3600, show_default=True, help="Seconds until it expires."
)
@click.option("--claim", "claims", metavar="NAME=VALUE", multiple=True, help="A further claim; VALUE is JSON or text.")
@answers
def token(*, subject: str, expires: int, claims: tuple[str, ...], as_json: bool) -> None:
    """Make a token for the admin API and the dashboard.

    Only the token goes to standard output. It allows everything that the admin API can do.
    """
    settings = manager_of(current_app).settings
    secret = _secret(settings)
    now = int(time.time())
    payload = {
        **_further(settings, claims),
        **_role(settings, subject),
        "sub": subject,
        "iat": now,
        "exp": now + expires,
    }
    if settings.admin_jwt_audience:
        payload["aud"] = settings.admin_jwt_audience[0]
    if settings.admin_jwt_issuer is not None:
        payload["iss"] = settings.admin_jwt_issuer
    algorithm = settings.admin_jwt_algorithms[0] if settings.admin_jwt_algorithms else "HS256"
    signed = jwt.encode(payload, secret, algorithm=algorithm)
    answer({"token": signed, "algorithm": algorithm, "claims": payload}, signed, as_json=as_json)
    until = dt.datetime.fromtimestamp(now + expires, dt.UTC)
    note(f"For {subject!r}, until {until:%Y-%m-%d %H:%M:%S} UTC.")
    if expires > _DAY:
        note("It cannot be revoked before that, except by changing RCACHE_ADMIN_JWT_KEY: prefer a day or less.")


def _secret(settings: Settings) -> str | bytes:
    """The secret to sign with.

    Raises:
        Failure: tokens for this app are not made with one, or it takes none.
    """
    if not settings.admin:
        raise Failure("no_admin_api", "This app has no admin API: RCACHE_ADMIN is false.")
    if settings.admin_guard is not None:
        raise Failure("not_ours", "RCACHE_ADMIN_GUARD decides who is admitted, not a token of this command.")
    if settings.admin_jwks_url is not None:
        raise Failure("not_ours", "RCACHE_ADMIN_JWKS_URL is set: get a token from that identity provider.")
    key = settings.admin_jwt_key
    if key is None:
        raise Failure(
            "no_admin_api",
            "This app has no admin API: set RCACHE_ADMIN_JWT_KEY to a secret of 32 bytes or more, such as "
            '`python -c "import secrets; print(secrets.token_hex(32))"` prints.',
        )
    if (b"-----BEGIN" if isinstance(key, bytes) else "-----BEGIN") in key:  # type: ignore[operator]  # of one kind both
        raise Failure(
            "not_ours", "RCACHE_ADMIN_JWT_KEY is a public key, which verifies only: sign where the private key is."
        )
    return key


def _role(settings: Settings, subject: str) -> dict[str, Any]:
    """The claim with the role: by its name, or as nested objects where that is a path.

    A name such as ``https://shop.example/roles`` has dots and is no path; the guard looks for a whole name first.
    """
    claim, value = settings.admin_claim, settings.admin_value
    if claim in _OURS:
        if claim != "sub" or subject != value:
            how = f"pass --subject {value!r}" if claim == "sub" else "set another claim"
            raise Failure(
                "usage", f"RCACHE_ADMIN_CLAIM is {claim!r}, which has a meaning of its own: {how}.", exit_code=2
            )
        return {}
    if not _PATH.fullmatch(claim) or claim.split(".")[0] in _OURS:
        return {claim: value}
    held: Any = value
    for name in reversed(claim.split(".")):
        held = {name: held}
    nested: dict[str, Any] = held
    return nested


def _further(settings: Settings, claims: tuple[str, ...]) -> dict[str, Any]:
    taken = _OURS | {settings.admin_claim, settings.admin_claim.split(".")[0]}
    further: dict[str, Any] = {}
    for claim in claims:
        name, equals, text = claim.partition("=")
        if not name or not equals:
            raise Failure("usage", f"--claim takes NAME=VALUE, not {claim!r}.", exit_code=2)
        if name in taken:
            raise Failure("usage", f"--claim cannot set {name!r}: this command does.", exit_code=2)
        try:
            further[name] = json.loads(text)
        except ValueError:
            further[name] = text
    return further
