"""The commands that invalidate."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from flask import Flask

from flask_rcache import CacheType, by_caller, cache_audited, cache_response
from flask_rcache.signals import Audited
from tests.cli.conftest import AppFactory
from tests.cli.kit import fill, manager, run, told
from tests.processes import wait_until
from tests.servers import Server


def test_invalidate__a_type(shop: Flask) -> None:
    """Its entries are gone, the others' are not, and the count comes back."""
    fill(shop, 5)
    fill(shop, 2, type="few")
    assert told(shop, "invalidate-type", "page") == {"status": "success", "cache_type": "page", "deleted_keys": 5}
    assert {row["key"] for row in told(shop, "keys")["keys"]} == {"cache:few:0", "cache:few:1"}
    assert "1 entry removed" not in run(shop, "invalidate-type", "few").stdout


def test_invalidate__reaches_another_process(redis_server: Server, new_app: AppFactory) -> None:
    """An app that holds the answer runs its view again after the command in another one."""
    web, terminal = new_app(redis_server.url), new_app(redis_server.url)
    client = web.test_client()
    assert [client.get("/page/a").headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    run(terminal, "invalidate-type", "page")
    assert client.get("/page/a").headers["X-Cache"] == "MISS"


def test_invalidate__an_unknown_type(shop: Flask) -> None:
    """The known ones are listed, and nothing is invalidated."""
    fill(shop, 1)
    document = told(shop, "invalidate-type", "pgae", code=2)
    assert document["status"] == "error"
    assert "page" in document["message"]
    assert len(told(shop, "keys")["keys"]) == 1


def test_invalidate__a_type_that_only_a_call_has_named(redis_server: Server, new_app: AppFactory) -> None:
    """It is registered nowhere; another process's entries tell that there is one."""
    web, terminal = new_app(redis_server.url), new_app(redis_server.url)
    manager(web).set(CacheType("adhoc"), "a", 1)
    assert told(terminal, "inspect", "adhoc:a")["key"] == "cache:adhoc:a"
    assert told(terminal, "invalidate-type", "adhoc")["deleted_keys"] == 1
    # The other process hears of it a moment later; what it sets before is taken for older.
    wait_until(lambda: manager(web).set(CacheType("adhoc"), "a", 1), timeout=10, what="the invalidation is known")
    assert told(terminal, "invalidate-pattern", "*", "--type", "adhoc")["deleted_keys"] == 1


def test_invalidate_tags__each_reaches_its_entries(shop: Flask) -> None:
    """What has any of the tags is gone."""
    client = shop.test_client()
    for name in "abc":
        client.get(f"/page/{name}")
    document = told(shop, "invalidate-tags", "page-a", "page-b", "page-b")
    assert document == {"status": "success", "tags": ["page-a", "page-b"], "deleted_keys": 2}
    assert [client.get(f"/page/{name}").headers["X-Cache"] for name in "abc"] == ["MISS", "MISS", "HIT"]
    assert run(shop, "invalidate-tags", "page-c").stdout == "1 tag invalidated.\n"
    run(shop, "invalidate-tags", code=2)
    run(shop, "invalidate-tags", "", code=2)


def test_invalidate_url__reaches_every_answer_to_the_path(shop: Flask) -> None:
    """Those of all queries; other paths stay, and what is no URL's path is refused."""
    client = shop.test_client()
    urls = ("/page/a", "/page/a?x=1", "/page/b")
    for url in urls:
        client.get(url)
    document = told(shop, "invalidate-url", "https://example.org/page/a?y=2")
    assert document == {"status": "success", "url": "https://example.org/page/a?y=2", "deleted_keys": 1}
    assert [client.get(url).headers["X-Cache"] for url in urls] == ["MISS", "MISS", "HIT"]
    assert run(shop, "invalidate-url", "/page/a").stdout == "/page/a invalidated.\n"
    run(shop, "invalidate-url", "", code=2)


def test_invalidate_user__reaches_the_answers_for_one_user(shop: Flask) -> None:
    """Another user's answer stays."""

    @cache_response(
        CacheType("own", ttl=60, per_user=True), key_func=by_caller(lambda asked: asked.headers["X-Member"])
    )
    def own() -> str:
        return "own"

    shop.add_url_rule("/own", "own", own)
    client = shop.test_client()

    def verdict(name: str) -> str:
        return client.get("/own", headers={"X-Member": name}).headers["X-Cache"]

    assert [verdict(name) for name in ("ann", "ben", "ann")] == ["MISS", "MISS", "HIT"]
    assert told(shop, "invalidate-user", "ann") == {"status": "success", "user": "ann", "deleted_keys": 1}
    assert [verdict(name) for name in ("ann", "ben")] == ["MISS", "HIT"]
    run(shop, "invalidate-user", "", code=2)


@pytest.mark.parametrize("arguments", [["page:1*"], ["cache:page:1*"], ["1*", "--type", "page"]], ids=" ".join)
def test_invalidate_pattern__reaches_what_matches(shop: Flask, arguments: list[str]) -> None:
    """Matching keys are gone, whichever way the pattern is written."""
    fill(shop, 12)
    fill(shop, 2, type="few")
    document = told(shop, "invalidate-pattern", *arguments)
    assert document == {"status": "success", "pattern": "cache:page:1*", "deleted_keys": 3}
    assert len(told(shop, "keys")["keys"]) == 11


def test_invalidate_pattern__stays_in_this_cache(redis_server: Server, new_app: AppFactory) -> None:
    """Another cache's keys and plain keys of the database are out of reach."""
    app, other = new_app(redis_server.url), new_app(redis_server.url, RCACHE_PREFIX="other")
    assert manager(other).set("page", "1", 1)
    redis_server.client().set("plain", 1)
    for pattern in ("*", "../*", "other:*", "plain"):
        assert told(app, "invalidate-pattern", pattern)["deleted_keys"] == 0
    assert manager(other).get("page", "1") == 1
    assert redis_server.client().get("plain") == b"1"
    run(app, "invalidate-pattern", "", code=2)
    run(app, "invalidate-pattern", "*", "--type", "nonsense", code=2)


def test_clear__makes_this_cache_empty_and_nothing_else(redis_server: Server, new_app: AppFactory) -> None:
    """Everything of this cache is gone, and the database's other keys are not."""
    app = new_app(redis_server.url)
    fill(app, 5)
    fill(app, 2, type="few")
    redis_server.client().set("plain", 1)
    assert told(app, "clear-all", "--yes") == {"status": "success", "deleted_keys": 7}
    assert told(app, "keys")["keys"] == []
    assert redis_server.client().get("plain") == b"1"


def test_clear__does_not_go_on_without_an_answer(shop: Flask) -> None:
    """Without a terminal it needs `--yes`."""
    fill(shop, 1)
    assert "--yes" in run(shop, "clear-all", code=2).stderr
    assert len(told(shop, "keys")["keys"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["invalidate-type", "page"],
        ["invalidate-tags", "a"],
        ["invalidate-pattern", "*"],
        ["invalidate-user", "7"],
        ["clear-all", "--yes"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_changing__what_is_not_delivered_failed(
    new_app: AppFactory, private_server: Callable[..., Server], arguments: list[str]
) -> None:
    """With the store away the command says so and ends with 1: its journal ends with it."""
    server = private_server()
    app = new_app(server.url)
    server.kill()
    document = told(app, *arguments, code=1)
    assert (document["status"], document["error"]) == ("error", "not_delivered")
    assert "run it again" in document["message"]
    result = run(app, *arguments, code=1)
    assert result.stdout == ""
    assert "Not delivered" in result.stderr


def test_changing__aliases(shop: Flask) -> None:
    """Two commands have a short name too, which the list does not show."""
    fill(shop, 3)
    assert told(shop, "invalidate", "page")["deleted_keys"] == 3
    assert told(shop, "clear", "--yes")["status"] == "success"
    listed = [line.split()[0] for line in run(shop, "--help").stdout.partition("Commands:")[2].splitlines() if line]
    assert not {"invalidate", "clear"} & set(listed)
    assert {"invalidate-type", "clear-all", "explain"} <= set(listed)


def test_changing__in_memory_is_said(new_app: AppFactory) -> None:
    """A cache in memory is this process's own, and whoever thinks otherwise is told."""
    assert "each process has a cache of its own" in run(new_app(), "clear-all", "--yes").stderr


@pytest.mark.parametrize(
    ("arguments", "action", "target"),
    [
        (["invalidate-type", "search"], "invalidate-type", ("search",)),
        (["invalidate-tags", "eu", "us"], "invalidate-tags", ("eu", "us")),
        (["invalidate-pattern", "search:*"], "invalidate-pattern", ("cache:search:*",)),
        (["invalidate-url", "/page/a"], "invalidate-url", ("/page/a",)),
        (["invalidate-user", "7"], "invalidate-user", ("7",)),
        (["clear-all", "--yes"], "clear-all", ()),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_changing__in_the_audit_trail(
    shop: Flask, caplog: pytest.LogCaptureFixture, arguments: list[str], action: str, target: tuple[str, ...]
) -> None:
    """Each change is told by the signal and has its line, with the user of this machine."""
    heard: list[Audited] = []

    def hear(sender: object, event: Audited) -> None:
        heard.append(event)

    with caplog.at_level(logging.INFO, "flask_rcache.audit"), cache_audited.connected_to(hear, sender=shop):
        run(shop, *arguments)
    (event,) = heard
    assert (event.action, event.target, event.journalled) == (action, target, False)
    assert event.subject.startswith("cli")
    assert [record.name for record in caplog.records if action in record.getMessage()] == ["flask_rcache.audit"]
