"""`stats`, `types`, `keys` and `inspect`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_rcache.cli.topology import topology_lines
from tests.cli.conftest import AppFactory
from tests.cli.kit import BRIEF, fill, manager, run, told
from tests.processes import wait_until
from tests.sentinels import Sentinels
from tests.servers import Server


def test_stats__are_those_of_the_cache(shop: Flask) -> None:
    """The document is what the manager tells, and the table has the same figures."""
    client = shop.test_client()
    for _ in range(4):
        client.get("/page/a")
    figures = told(shop, "stats")
    assert (figures["hits"], figures["misses"], figures["hit_rate"]) == (3, 1, 75.0)
    assert figures["by_type"]["page"]["hits"] == 3
    assert figures["by_type"].keys() == manager(shop).stats()["by_type"].keys()
    text = run(shop, "stats").stdout
    row = next(line.split() for line in text.splitlines() if line.startswith("page"))
    assert row[:7] == ["page", "4", "75.00", "%", "3", "0", "1"]
    assert "75.00 % of 4 requests" in text


def test_stats__asking_counts_nothing(shop: Flask) -> None:
    """No command that looks is a hit, a miss or an error."""
    shop.test_client().get("/page/a")
    before = told(shop, "stats")
    for command in (["stats"], ["keys"], ["types"], ["inspect", "page:nothing"], ["explain", "/page/a"]):
        shop.test_cli_runner().invoke(args=["cache", *command])
    after = told(shop, "stats")
    for document in (before, after):  # its memory and its uptime go on
        for node in document["topology"]["nodes"] if document["topology"] else ():
            del node["server"]
    counted = {name: row for name, row in after["by_type"].items() if any(row.values())}
    assert {**after, "by_type": counted} == before


def test_stats__of_an_empty_cache(shop: Flask) -> None:
    """Nothing asked for is said, not divided by."""
    assert "There have been no lookups yet" in run(shop, "stats").stdout


def test_stats__with_the_store_away(new_app: AppFactory, private_server: Callable[..., Server]) -> None:
    """The figures are this process's, that is said, and the command fails."""
    server = private_server()
    app = new_app(server.url)
    server.kill()
    result = run(app, "stats", "--json", code=1)
    assert json.loads(result.stdout)["scope"] == "process"
    assert "The store is unavailable" in result.stderr


# Types


def test_types__say_where_the_ttl_comes_from(new_app: AppFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call, configuration, environment, type and default are told apart."""
    monkeypatch.setenv("CACHE_TTL_SEARCH", "7")
    app = new_app(RCACHE_TTL_BRIEF=9)
    rows = {row["name"]: row for row in told(app, "types")["types"]}
    assert (rows["page"]["ttl"], rows["page"]["ttl_from"]) == (600, "type")
    assert (rows["brief"]["ttl"], rows["brief"]["ttl_from"]) == (9, "RCACHE_TTL_BRIEF (app.config)")
    assert (rows["search"]["ttl"], rows["search"]["ttl_from"]) == (7, "CACHE_TTL_SEARCH (environment)")
    assert (rows["default"]["ttl"], rows["default"]["ttl_from"]) == (300, "default")
    assert rows["few"]["views"] == [{"endpoint": "few", "ttl": 10, "ttl_from": "call"}]
    assert {"endpoint": "own_ttl", "ttl": "from-headers", "ttl_from": "call"} in rows["page"]["views"]
    assert "thing" in [view["endpoint"] for view in rows["page"]["views"]]
    assert rows["mine"]["per_user"] is True
    assert rows["brief"]["stale_while_revalidate"] == BRIEF.stale_while_revalidate


def test_types__table(new_app: AppFactory) -> None:
    """A view with a ttl of its own is shown with it."""
    lines = run(new_app(), "types").stdout.splitlines()
    assert lines[0].split()[:3] == ["type", "ttl", "from"]
    few = next(line for line in lines if line.startswith("few"))
    assert few.split()[:3] == ["few", "1m", "type"]
    assert few.endswith("few (10s)")


# Keys


def test_keys__show_what_there_is_and_no_value(shop: Flask) -> None:
    """A row an entry, with its tags, and never the body."""
    shop.test_client().get("/page/a")
    (entry,) = told(shop, "keys")["keys"]
    assert entry["key"].startswith("cache:page:~")
    assert entry["kind"] == "response"
    assert entry["tags"] == ["page-a"]
    assert (entry["path"], entry["endpoint"]) == ("/page/a", "page")
    assert 0 < entry["ttl"] <= 600
    assert entry["size"] > 0
    result = run(shop, "keys")
    assert f"{entry['key']}  /page/a  [page-a]" in result.stdout
    assert "the body of a" not in result.output
    assert "1 entry." in result.stderr


def test_keys__filters(shop: Flask) -> None:
    """By type, by pattern, and by both."""
    fill(shop, 12)
    fill(shop, 3, type="few")
    assert len(told(shop, "keys")["keys"]) == 15
    assert {row["key"] for row in told(shop, "keys", "--type", "few")["keys"]} == {f"cache:few:{n}" for n in range(3)}
    assert {row["key"] for row in told(shop, "keys", "--pattern", "page:1*")["keys"]} == {
        "cache:page:1",
        "cache:page:10",
        "cache:page:11",
    }
    both = told(shop, "keys", "--type", "page", "--pattern", "?")
    assert len(both["keys"]) == 10


def test_keys__go_on_where_they_ended(shop: Flask) -> None:
    """Page after page by the cursor is everything once; the last one has no cursor."""
    wanted = fill(shop, 23)
    found: list[str] = []
    cursor: list[str] = []
    for size in (10, 10, 3):
        page = told(shop, "keys", "--limit", "10", *cursor)
        assert len(page["keys"]) == size
        found += [row["key"] for row in page["keys"]]
        cursor = ["--cursor", page["cursor"]] if page["cursor"] else []
    assert page["complete"] is True
    assert sorted(found) == sorted(wanted)
    assert "There is more: --cursor " in run(shop, "keys", "--limit", "10").stderr


def test_keys__all(shop: Flask) -> None:
    """All of them, more than a page holds."""
    wanted = fill(shop, 1234)
    document = told(shop, "keys", "--all")
    assert document["complete"] is True
    assert {row["key"] for row in document["keys"]} == wanted
    assert len(run(shop, "keys", "--all").stdout.splitlines()) == 1235


def test_keys__all_in_a_process_that_has_just_begun(server: Server, new_app: AppFactory) -> None:
    """Each entry is listed once by an app that has not connected before, as that of every command."""
    wanted = fill(new_app(server.url), 3000)
    found = [row["key"] for row in told(new_app(server.url), "keys", "--all")["keys"]]
    assert sorted(found) == sorted(wanted)


def test_keys__where_the_index_may_be_evicted(new_app: AppFactory, private_server: Callable[..., Server]) -> None:
    """On a server that may evict anything all entries are listed too, in the pages that it gives."""
    app = new_app(private_server(maxmemory_policy="allkeys-lru").url)
    wanted = fill(app, 300)
    assert {row["key"] for row in told(app, "keys", "--all")["keys"]} == wanted
    found: set[str] = set()
    arguments = ["--limit", "50"]
    for pages in range(300):
        page = told(app, "keys", *arguments)
        found |= {row["key"] for row in page["keys"]}
        if page["cursor"] is None:
            assert pages > 1
            break
        arguments = ["--limit", "50", "--cursor", page["cursor"]]
    assert found == wanted


@pytest.mark.parametrize(
    "arguments",
    [["--type", "nonsense"], ["--cursor", "nonsense"], ["--pattern", ""], ["--limit", "0"]],
    ids=lambda arguments: arguments[0],
)
def test_keys__refuse_what_cannot_be(shop: Flask, arguments: list[str]) -> None:
    """A wrong argument ends with 2 and a message."""
    fill(shop, 1)
    assert run(shop, "keys", *arguments, code=2).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "--limit", "0"],
        ["keys", "--nosuch"],
        ["inspect"],
        ["stats", "more"],
        ["explain"],
        ["invalidate-tags"],
        ["nosuch"],
    ],
    ids=" ".join,
)
def test_commands__an_error_of_usage_is_json_too(new_app: AppFactory, arguments: list[str]) -> None:
    """With `--json` there is one document on standard output, whatever happens; the usage is told beside it."""
    result = run(new_app(), *arguments, "--json", code=2)
    document = json.loads(result.stdout)
    assert (document["status"], document["error"]) == ("error", "usage")
    assert document["message"] in result.stderr
    assert run(new_app(), *arguments, code=2).stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [["inspect", "cache:page:\udcff"], ["keys", "--pattern", "\udcff"], ["invalidate-pattern", "\udcff"]],
    ids=ascii,
)
def test_commands__stray_bytes_of_a_terminal(shop: Flask, arguments: list[str]) -> None:
    """Bytes that are no text, as a shell may pass them, are refused alike on every store."""
    assert told(shop, *arguments, code=2)["error"] == "usage"


def test_keys__with_the_store_away(new_app: AppFactory, private_server: Callable[..., Server]) -> None:
    """No listing is not an empty listing."""
    server = private_server()
    app = new_app(server.url)
    server.kill()
    document = told(app, "keys", code=1)
    assert (document["status"], document["error"]) == ("error", "unavailable")


def test_keys__cannot_steer_a_terminal(shop: Flask) -> None:
    """A tag may hold anything; what is printed holds no escape sequence and no line break."""
    fill(shop, 1, tags=("\x1b[31mred\nline",))
    result = run(shop, "keys")
    assert "\x1b" not in result.stdout
    assert r"[\x1b[31mred\nline]" in result.stdout
    assert told(shop, "keys")["keys"][0]["tags"] == ["\x1b[31mred\nline"]


# One entry


@pytest.mark.parametrize("key", ["cache:page:7", "page:7"])
def test_inspect__by_stored_key_and_by_type_and_id(shop: Flask, key: str) -> None:
    """Both ways of naming an entry."""
    fill(shop, 10, tags=("round",))
    entry = told(shop, "inspect", key)
    assert (entry["key"], entry["kind"], entry["tags"]) == ("cache:page:7", "value", ["round"])
    assert "round" in run(shop, "inspect", key).stdout


def test_inspect__a_hashed_key(shop: Flask) -> None:
    """The key that `X-Cache-Key` shows, whole or without its prefix."""
    key = shop.test_client().get("/page/a").headers["X-Cache-Key"]
    assert told(shop, "inspect", key)["kind"] == "response"
    assert told(shop, "inspect", key.removeprefix("cache:"))["key"] == key


def test_inspect__what_is_not_there(shop: Flask) -> None:
    """No such entry ends with 1, a key of nothing with 2."""
    document: dict[str, Any] = told(shop, "inspect", "page:nothing", code=1)
    assert (document["error"], document["key"]) == ("not_found", "cache:page:nothing")
    run(shop, "inspect", "nonsense", code=2)
    run(shop, "inspect", "nonsense:7", code=2)


def test_inspect__with_the_store_away(new_app: AppFactory, private_server: Callable[..., Server]) -> None:
    """It is not known whether the entry is there, which is not "not found"."""
    server = private_server()
    app = new_app(server.url)
    server.kill()
    assert told(app, "inspect", "page:7", code=1)["error"] == "unavailable"


def test_stats__of_sentinels(new_app: AppFactory, sentinels: Callable[..., Sentinels]) -> None:
    """The master and how many sentinels have a quorum; in JSON all that is known of them."""
    trio = sentinels()
    app = new_app(trio.url)
    manager(app).fetch("page", "k", lambda: "v")
    wait_until(lambda: "3 of 3" in run(app, "stats").stdout, timeout=20, what="all sentinels have been asked")
    assert f"service 'shop', master 127.0.0.1:{trio.master.port}; 3 of 3 sentinels" in run(app, "stats").stdout
    assert [each["state"] for each in told(app, "stats")["topology"]["sentinels"]] == ["ok"] * 3


def test_topology_lines__of_a_cluster() -> None:
    """Each node with its shards, and since when it is away; the last failover."""
    node = {"is_available": True, "since": None}
    full = {"used_memory": 3_000_000, "maxmemory": 4_000_000, "evicted_keys": 1234}
    topology = {
        "kind": "cluster",
        "nodes": [
            {**node, "address": "a:1", "shards": [0, 2], "server": full},
            {"address": "b:2", "is_available": False, "since": time.time() - 90, "shards": [], "server": None},
        ],
        "shards": [{"is_available": True}, {"is_available": False}, {"is_available": True}],
        "last_failover": {"at": time.time() - 5, "before": "b:2"},
    }
    head, first, second, failover = topology_lines(topology)
    assert head == "cluster   2 nodes, 2 of 3 shards used"
    assert re.fullmatch(r"a:1  used  shards 0, 2  memory \S+ MB of \S+ MB, 1,234 evicted", first.strip())
    assert second.strip().startswith("b:2  away for 1m30s")
    assert failover.endswith("ago, from b:2")
    assert list(topology_lines(None)) == list(topology_lines({"kind": "server"})) == []
