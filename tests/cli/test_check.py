"""`check`: what works, what does not, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_rcache import cache_response
from flask_rcache.cli import advice
from flask_rcache.cli.serverside import COMMANDS, QUEUE_COMMANDS
from flask_rcache.config.address import parse_address
from tests.cli.conftest import AppFactory
from tests.cli.kit import manager, run, told
from tests.processes import ROOT, wait_until
from tests.servers import Server

GOOD = {"TRUSTED_HOSTS": ["shop.example"], "RCACHE_ADMIN_JWT_KEY": "k" * 40}


def _named(document: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in document["checks"]:
        found.setdefault(finding["name"], []).append(finding)
    return found


def _states(document: Any) -> dict[str, set[str]]:
    return {name: {each["state"] for each in findings} for name, findings in _named(document).items()}


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_check__a_cache_as_it_should_be(
    new_app: AppFactory, private_server: Callable[..., Server], flavour: str
) -> None:
    """Every line is ok, with the version and the times that were measured."""
    server = private_server(flavour, maxmemory="200mb", maxmemory_policy="volatile-lru")
    app = new_app(server.url, **GOOD)
    document = told(app, "check")
    names = "settings views hosts sessions admin store server memory database persistence clock rights entries bus"
    assert _states(document) == {name: {"ok"} for name in names.split(" ")}
    assert document["status"] == "ok"
    named = _named(document)
    assert re.fullmatch(flavour + r" \d+\.\d+\.\d+", named["server"][0]["message"])
    assert re.search(r"\d ms \(p50 of 20", named["store"][0]["message"])
    text = run(app, "check").stdout
    assert len(text.splitlines()) == 14
    assert all(line.startswith("ok ") for line in text.splitlines())


def test_check__leaves_nothing(server: Server, new_app: AppFactory) -> None:
    """The database has no key more than before, the cache no entry and no count."""
    app = new_app(server.url)
    app.test_client().get("/page/a")
    told(app, "check")  # the first look at a type makes its place in the books
    before, counted = _keys(server), manager(app).stats()
    run(app, "check")
    assert _keys(server) == before
    assert manager(app).stats() == counted
    assert len(told(app, "keys")["keys"]) == 1


def _keys(server: Server) -> set[Any]:
    """All keys but those that the housekeeping of the app above writes when it likes."""
    keys: Any = server.client().keys("*")
    return {key for key in keys if not key.startswith((b"cache~stats:", b"cache~costs", b"cache~log"))}


def test_check__disturbs_no_other_process(server: Server, new_app: AppFactory) -> None:
    """What others hold in memory is still theirs: the messages on the bus mean nothing to them."""
    web, terminal = new_app(server.url, RCACHE_L1_TTL=60), new_app(server.url)
    client = web.test_client()

    def held() -> int:
        count: int = manager(web).overview()["memory_tier"]["entries"]
        return count

    def both_held() -> bool:
        return {client.get(url).status_code for url in ("/page/a", "/page/b")} == {200} and held() == 2

    wait_until(both_held, timeout=20, what="two pages are in memory")
    run(terminal, "check")
    # What is sent after the messages of the check arrives after them.
    run(terminal, "invalidate-pattern", client.get("/page/b").headers["X-Cache-Key"])
    wait_until(lambda: held() < 2, timeout=20, what="the page that was removed is out of memory")
    assert held() == 1


def test_check__memory(new_app: AppFactory) -> None:
    """That each process has its own is to be thought about, and no failure."""
    document = told(new_app(**GOOD), "check")
    assert document["status"] == "warn"
    assert _states(document)["store"] == {"warn"}
    assert "RCACHE_URL" in _named(document)["store"][0]["remedy"]


def test_check__the_server_away(new_app: AppFactory, private_server: Callable[..., Server]) -> None:
    """One failure, not one for each thing that cannot be looked at; and after it is back, none."""
    server = private_server()
    app = new_app(server.url)
    server.kill()
    document = told(app, "check", code=1)
    assert (document["status"], _states(document)["store"]) == ("fail", {"fail"})
    assert "bus" not in _named(document)
    assert "fail  store" in run(app, "check", code=1).stdout
    server.restart()
    assert _states(told(app, "check"))["store"] == {"ok"}


def test_check__a_wrong_password(new_app: AppFactory, private_server: Callable[..., Server]) -> None:
    """The remedy is the password, and none is printed."""
    server = private_server(requirepass="right")
    app = new_app(server.url.replace("right", "wrong-one"))
    result = run(app, "check", code=1)
    assert "Correct the user and the password" in result.stdout
    assert "wrong-one" not in result.output


def test_check__a_server_that_answers_with_a_refusal(
    new_app: AppFactory, private_server: Callable[..., Server]
) -> None:
    """It is running and can be reached, so that is not the advice; its answer is shown."""
    server = private_server("redis")
    server.client().execute_command("ACL", "SETUSER", "shop", "on", ">pass", "~*", "&*", "+@all", "-zadd")
    finding = _one(new_app(server.url.replace("redis://", "redis://shop:pass@")), "store", code=1)
    assert "ZADD" in finding["message"]
    assert "running" not in finding["remedy"]


@pytest.mark.parametrize(
    ("rules", "name", "says"),
    [
        (["-lpush", "-zmscore"], "rights", "+lpush +zmscore"),
        (["resetchannels", "&other"], "rights", "&cache~bus"),
        (["-subscribe"], "bus", "+subscribe"),
    ],
)
def test_check__rights_that_are_missing(
    new_app: AppFactory, private_server: Callable[..., Server], rules: list[str], name: str, says: str
) -> None:
    """What this user may not do is named as the rule that grants it."""
    server = private_server("redis")
    everything = ["on", ">pass", "~*", "&*", "+@all"]
    server.client().execute_command("ACL", "SETUSER", "shop", *everything, *rules)
    app = new_app(server.url.replace("redis://", "redis://shop:pass@"))
    document = told(app, "check", code=1)
    (finding,) = _named(document)[name]
    assert finding["state"] == "fail"
    assert says in finding["remedy"]


def test_check__the_documented_acl_is_enough(new_app: AppFactory, private_server: Callable[..., Server]) -> None:
    """With the rules of `docs/how-it-works.md` nothing is missing."""
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    match = re.search(r"ACL SETUSER shop (on >secret[^`]*)```", page)
    assert match
    server = private_server("redis")
    server.client().execute_command("ACL", "SETUSER", "shop", *match[1].split())
    app = new_app(server.url.replace("redis://", "redis://shop:secret@"))
    states = _states(told(app, "check"))
    assert (states["rights"], states["entries"], states["bus"]) == ({"ok"}, {"ok"}, {"ok"})


def test_check__knows_every_command() -> None:
    """Each command in the scripts and in the stores is one whose right is looked at."""
    stores = ROOT / "flask_rcache" / "stores"
    used: set[str] = set()
    for script in stores.glob("redis/lua/*.lua"):
        used |= set(re.findall(r"redis\.p?call\('([A-Z]+)'", script.read_text(encoding="utf-8")))
    for module in stores.glob("redis/*.py"):
        used |= set(re.findall(r'\(\(?"([A-Z]{3,})"[,)]', module.read_text(encoding="utf-8")))
    assert {"ZADD", "SCAN"} <= used
    others = used - {command[0] for command in (*COMMANDS, *QUEUE_COMMANDS)}
    # Those of the bus and of a cluster are tried there; HELLO needs no right; two are kinds of errors.
    assert others == {"ASKING", "CLUSTER", "HELLO", "PUBLISH", "SUBSCRIBE", "TRYAGAIN", "WRONGTYPE"}


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_check__a_memory_policy_to_think_about(
    new_app: AppFactory, private_server: Callable[..., Server], policy: str
) -> None:
    """What weakens a promise is a warning with a remedy."""
    app = new_app(private_server(maxmemory="200mb", maxmemory_policy=policy).url)
    (finding,) = _named(told(app, "check"))["memory"]
    assert finding["state"] == "warn"
    assert policy in finding["message"]
    assert "volatile-lru" in finding["remedy"]


def test_check__a_full_server(new_app: AppFactory, private_server: Callable[..., Server]) -> None:
    """Where nothing can be stored, the entry of the check cannot be."""
    server = private_server(maxmemory_policy="noeviction")
    app = new_app(server.url)
    assert _states(told(app, "check"))["entries"] == {"ok"}
    server.client().config_set("maxmemory", "1")
    document = told(app, "check", code=1)
    assert _states(document)["entries"] == {"fail"}
    assert "maxmemory" in _named(document)["entries"][0]["message"]


# The configuration


def _one(app: Flask, name: str, *, code: int = 0) -> dict[str, Any]:
    findings = _named(told(app, "check", code=code))[name]
    return next((each for each in findings if each["state"] != "ok"), findings[0])


def test_check__what_was_set_too_late(new_app: AppFactory) -> None:
    """A setting that was changed after `init_app` has no effect, and one that cannot be is a failure."""
    app = new_app(**GOOD)
    app.config["RCACHE_TTL_DEFAULT"] = 7
    assert "RCACHE_TTL_DEFAULT" in _one(app, "settings")["message"]
    app.config["RCACHE_TIMEOUT"] = "soon"
    assert _one(app, "settings", code=1)["state"] == "fail"


def test_check__a_misspelt_variable(new_app: AppFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that nobody reads is named with the one that was meant."""
    app = new_app(**GOOD)
    monkeypatch.setenv("RCACHE_TIMEOUTS", "1")
    assert "did you mean RCACHE_TIMEOUT" in _one(app, "settings")["message"]


def test_check__a_view_whose_type_nobody_knows(new_app: AppFactory) -> None:
    """It is an error of the start, of commands too."""
    app = new_app(**GOOD)

    @app.get("/x")
    @cache_response("nonsense")
    def x() -> str:
        return "x"

    assert "nonsense" in told(app, "check", code=2)["message"]


@pytest.mark.parametrize(
    ("config", "name", "state"),
    [
        ({"TRUSTED_HOSTS": None}, "hosts", "warn"),
        ({"SECRET_KEY": "dev"}, "sessions", "warn"),
        ({"SECRET_KEY": None}, "sessions", "ok"),
        ({"RCACHE_ENABLED": False}, "enabled", "warn"),
        ({"RCACHE_ADMIN": False}, "admin", "ok"),
        ({"RCACHE_ADMIN_JWT_KEY": "s" * 32}, "admin", "warn"),
        ({"RCACHE_ADMIN_JWT_KEY": None}, "admin", "ok"),
        ({"RCACHE_ADMIN_JWT_KEY": None, "RCACHE_ADMIN_GUARD": bool}, "admin", "ok"),
    ],
)
def test_check__the_apps_own_settings(new_app: AppFactory, config: dict[str, Any], name: str, state: str) -> None:
    """What is to be thought about is a warning; no secret is printed."""
    app = new_app(**{**GOOD, **config})
    assert _one(app, name)["state"] == state
    output = run(app, "check").output
    assert "k" * 40 not in output
    assert "s" * 32 not in output


def test_check__a_server_that_anybody_may_reach() -> None:
    """A server elsewhere without a password is a warning, whether it answers or not."""
    assert [finding.state for finding in advice.access(parse_address("redis://cache:6379/0", ""), {})] == ["warn"]
    for url in ("redis://:secret@cache:6379", "unix:///run/redis", "redis://localhost:6379", "redis://[::1]:6379"):
        assert list(advice.access(parse_address(url, ""), {})) == []
    assert list(advice.access(parse_address("redis://cache:6379", ""), {"credential_provider": object()})) == []


def test_check__clocks_that_differ() -> None:
    """More than a second is a warning, in either direction."""
    from flask_rcache.cli.serverside import _clock

    assert [_clock(offset).state for offset in (0.2, -0.9, 1.5, -2.0)] == ["ok", "ok", "warn", "warn"]
