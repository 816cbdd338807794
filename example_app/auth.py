"""Who is calling: demo users, their tokens, and the key that keeps their answers apart."""

from __future__ import annotations

import hmac
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import jwt
from flask import Flask, abort, current_app, request
from flask.wrappers import Request
from werkzeug.datastructures import WWWAuthenticate

from example_app import data

P = ParamSpec("P")
R = TypeVar("R")

ALGORITHM = "HS256"
ISSUER = "flight-board"
LIFETIME = 12 * 3600  # seconds
PASSWORD = "demo"  # noqa: S105 - public on purpose, the home page shows it


@dataclass(frozen=True, slots=True)
class User:
    """A demo user.

    Attributes:
        name: What the page calls them.
        role: Their job.
        home: The New York airport they work at.
    """

    name: str
    role: str
    home: str


USERS = {
    "amelia": User("Amelia", "Station manager", "JFK"),
    "bessie": User("Bessie", "Duty controller", "EWR"),
    "charles": User("Charles", "Fleet planner", "LGA"),
}


def admin_token(key: str) -> str:
    """A token for the cache's admin API and dashboard; signed with the cache's own key, so no visitor's token is one.

    Args:
        key: what `RCACHE_ADMIN_JWT_KEY` is set to.
    """
    return jwt.encode({"sub": "demo", "role": "admin", "exp": int(time.time()) + LIFETIME}, key, algorithm=ALGORITHM)


def init_key(app: Flask) -> None:
    """Set the key that signs tokens: the configured one, or one made up and kept beside the database.

    The workers of one server read the same file, so that a token of one is good for all.
    """
    key = app.config.get("FLIGHTS_JWT_KEY") or os.environ.get("FLIGHTS_JWT_KEY")
    app.config["FLIGHTS_JWT_KEY"] = key or _kept_key(app.config["FLIGHTS_DB"])


def _kept_key(database: Path) -> str:
    path = database.with_name(f"{database.name}.jwt-key")
    with data.locked(database):
        if not path.exists() or len(path.read_text(encoding="ascii")) < 64:
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with open(descriptor, "w", encoding="ascii") as handle:
                handle.write(secrets.token_hex(32))
        return path.read_text(encoding="ascii")


def sign_in(user: str, password: str) -> str | None:
    """Return a token for a demo user, or None for a wrong name or password."""
    if user not in USERS or not hmac.compare_digest(password.encode("utf-8", "surrogatepass"), PASSWORD.encode()):
        return None
    now = int(time.time())
    claims = {"sub": user, "iss": ISSUER, "iat": now, "exp": now + LIFETIME}
    return jwt.encode(claims, current_app.config["FLIGHTS_JWT_KEY"], algorithm=ALGORITHM)


def caller(req: Request) -> str | None:
    """Return the name of the user whose valid token the request carries, or None."""
    authorization = req.authorization
    if authorization is None or authorization.type != "bearer" or not authorization.token:
        return None
    try:
        claims = jwt.decode(
            authorization.token,
            current_app.config["FLIGHTS_JWT_KEY"],
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            options={"require": ["exp", "iss", "sub"]},
        )
    except jwt.InvalidTokenError:
        return None
    user = str(claims["sub"])
    return user if user in USERS else None


def profile_key(req: Request) -> tuple[str, str] | None:
    """Return the key of a caller's own answers; None, which bypasses the cache, without a valid token."""
    user = caller(req)
    return ("profile", user) if user is not None else None


def signed_in(view: Callable[P, R]) -> Callable[P, R]:
    """Answer 401 unless the request carries a valid token.

    It goes above `@cache_response`: what is below that does not run on a hit.
    """

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if caller(request) is None:
            abort(401, "sign in first: POST /api/login", www_authenticate=WWWAuthenticate("bearer"))
        return view(*args, **kwargs)

    return guarded
