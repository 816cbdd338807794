"""`token`: what it makes is let in by the admin API of the same app."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from flask import Flask

from tests.cli.conftest import AppFactory
from tests.cli.kit import run, told

KEY = "an-admin-key-of-more-than-thirty-two-bytes"
PUBLIC = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""


def _status(app: Flask, token: str) -> int:
    return app.test_client().get("/api/cache/stats", headers={"Authorization": f"Bearer {token}"}).status_code


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"RCACHE_ADMIN_CLAIM": "realm_access.roles", "RCACHE_ADMIN_VALUE": "operator"},
        {"RCACHE_ADMIN_CLAIM": "https://shop.example/roles"},
        {"RCACHE_ADMIN_JWT_AUDIENCE": ["shop", "till"], "RCACHE_ADMIN_JWT_ISSUER": "https://shop.example"},
        {"RCACHE_ADMIN_JWT_KEY": KEY.encode() * 2, "RCACHE_ADMIN_JWT_ALGORITHMS": "HS512"},
        {"RCACHE_ADMIN_CLAIM": "sub", "RCACHE_ADMIN_VALUE": "cli"},
    ],
    ids=["plain", "path", "url", "audience", "algorithm", "subject"],
)
def test_token__is_let_in(new_app: AppFactory, config: dict[str, Any]) -> None:
    """With every way of saying who is let in; and a token with another key is not."""
    app = new_app(**{"RCACHE_ADMIN_JWT_KEY": KEY, **config})
    token = run(app, "token").stdout.strip()
    assert _status(app, token) == 200
    other = new_app(**{"RCACHE_ADMIN_JWT_KEY": "x" * 64, **({} if "RCACHE_ADMIN_JWT_KEY" in config else config)})
    assert _status(other, token) == 401


def test_token__says_who_and_until_when(new_app: AppFactory) -> None:
    """Subject, further claims and expiry are in it; the expiry is told beside it, and only there."""
    app = new_app(RCACHE_ADMIN_JWT_KEY=KEY)
    began = int(time.time())
    arguments = ["token", "--subject", "ann", "--expires", "90", "--claim", "team=ops", "--claim", "level=3"]
    result = run(app, *arguments)
    assert len(result.stdout.split()) == 1
    assert "'ann', until 20" in result.stderr
    claims = jwt.decode(result.stdout.strip(), KEY, algorithms=["HS256"])
    assert (claims["sub"], claims["team"], claims["level"], claims["role"]) == ("ann", "ops", 3, "admin")
    assert claims["exp"] - claims["iat"] == 90
    assert began <= claims["iat"] <= time.time()
    document = told(app, *arguments)
    assert document["claims"]["sub"] == "ann"
    assert _status(app, document["token"]) == 200


def test_token__for_long_is_warned_of(new_app: AppFactory) -> None:
    """A token cannot be revoked, so there is a note about a long life."""
    app = new_app(RCACHE_ADMIN_JWT_KEY=KEY)
    assert "revoked" in run(app, "token", "--expires", "864000").stderr
    assert "revoked" not in run(app, "token").stderr


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "RCACHE_ADMIN_JWT_KEY"),
        ({"RCACHE_ADMIN": False, "RCACHE_ADMIN_JWT_KEY": KEY}, "RCACHE_ADMIN is false"),
        ({"RCACHE_ADMIN_JWT_KEY": PUBLIC}, "public key"),
        ({"RCACHE_ADMIN_JWT_KEY": PUBLIC.encode()}, "public key"),
        pytest.param({"RCACHE_ADMIN_JWKS_URL": "https://id.example/keys"}, "identity provider", marks=pytest.mark.jwks),
        ({"RCACHE_ADMIN_GUARD": bool}, "RCACHE_ADMIN_GUARD"),
    ],
    ids=["closed", "off", "public", "public bytes", "jwks", "guard"],
)
def test_token__only_where_a_secret_verifies(new_app: AppFactory, config: dict[str, Any], says: str) -> None:
    """Elsewhere the command says where tokens come from, prints none, and ends with 1."""
    result = run(new_app(**config), "token", code=1)
    assert result.stdout == ""
    assert says in result.stderr
    assert KEY not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["--claim", "role=user"],
        ["--claim", "exp=9999999999"],
        ["--claim", "team"],
        ["--expires", "0"],
        ["--expires", "-5"],
        ["--expires", "999999999999999"],
        ["--expires", "9" * 29],
    ],
    ids=" ".join,
)
def test_token__refuses_what_would_contradict_it(new_app: AppFactory, arguments: list[str]) -> None:
    """Its own claims cannot be set from outside; it is not made to be expired, nor for longer than there are years."""
    assert told(new_app(RCACHE_ADMIN_JWT_KEY=KEY), "token", *arguments, code=2)["error"] == "usage"


def test_token__of_a_claim_with_a_meaning(new_app: AppFactory) -> None:
    """Where the subject itself is what lets in, another subject is refused."""
    app = new_app(RCACHE_ADMIN_JWT_KEY=KEY, RCACHE_ADMIN_CLAIM="sub", RCACHE_ADMIN_VALUE="root")
    assert "--subject 'root'" in run(app, "token", code=2).stderr
    assert _status(app, run(app, "token", "--subject", "root").stdout.strip()) == 200
