"""`check` against servers that are set up badly: each is found, with a remedy that works."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_rcache.cli import advice
from flask_rcache.cli.findings import ok, warn
from flask_rcache.cli.server import Foreign, ServerInfo
from flask_rcache.cli.serverside import COMMANDS
from flask_rcache.config.address import parse_address
from flask_rcache.stores.redis.facts import POLICIES
from tests.cli.conftest import AppFactory
from tests.cli.kit import run, told
from tests.clusters import Cluster
from tests.processes import ROOT, free_port, wait_until
from tests.sentinels import Sentinels
from tests.servers import Server

Servers = Callable[..., Server]

FLAVOURS = pytest.mark.parametrize("flavour", ["redis", "valkey"])


def found(app: Flask, name: str, *, code: int = 0) -> list[dict[str, Any]]:
    """The findings of that name."""
    return [each for each in told(app, "check", code=code)["checks"] if each["name"] == name]


def only(app: Flask, name: str, *, code: int = 0) -> dict[str, Any]:
    """The one finding of that name."""
    (finding,) = found(app, name, code=code)
    return finding


# A server of another kind than the URL says


@FLAVOURS
def test_topology__a_replica(new_app: AppFactory, private_server: Servers, flavour: str) -> None:
    """Its master is named, and nothing else is tried."""
    master = private_server(flavour)
    replica = private_server(flavour, replicaof=("127.0.0.1", master.port))
    wait_until(lambda: replica.client().info()["master_link_status"] == "up", timeout=20, what="the replica follows")
    document = told(new_app(replica.url), "check", code=1)
    failures = [each for each in document["checks"] if each["state"] == "fail"]
    assert [each["name"] for each in failures] == ["topology"]
    assert f"127.0.0.1:{replica.port} is a replica of 127.0.0.1:{master.port}" in failures[0]["message"]
    assert "store" not in {each["name"] for each in document["checks"]}


@FLAVOURS
def test_topology__a_node_of_a_cluster(new_app: AppFactory, private_server: Servers, flavour: str) -> None:
    """The URL that is meant is given, without the password."""
    server = private_server(flavour, cluster_enabled="yes", cluster_port=free_port(), requirepass="hidden-one")
    finding = only(new_app(server.url), "topology", code=1)
    assert f"redis+cluster://:…@127.0.0.1:{server.port}" in finding["remedy"]
    assert "hidden-one" not in json.dumps(finding)


@FLAVOURS
def test_topology__a_sentinel(new_app: AppFactory, private_server: Servers, sentinel: Servers, flavour: str) -> None:
    """The URL that is meant is given, with the name of the service that the sentinel watches."""
    watching = sentinel(private_server(flavour))
    finding = only(new_app(watching.url), "topology", code=1)
    assert "is a sentinel" in finding["message"]
    assert f"redis+sentinel://127.0.0.1:{watching.port}/orders" in finding["remedy"]


@pytest.fixture
def sentinel() -> Iterator[Callable[[Server], Server]]:
    """Start a sentinel that watches a master under the name `orders`."""
    started: list[Server] = []

    def start(master: Server) -> Server:
        watching = Sentinel(master.binary)
        started.append(watching)
        watching.start()
        watching.client().execute_command("SENTINEL", "MONITOR", "orders", "127.0.0.1", str(master.port), "2")
        return watching

    yield start
    for watching in started:
        watching.stop()


class Sentinel(Server):
    """A sentinel, started as a server is; its configuration file has to be writable."""

    def _command(self) -> list[str]:
        path = self.directory / "sentinel.conf"
        path.write_text(f"port {self.port}\nbind 127.0.0.1\nunixsocket {self.socket_path}\ndir {self.directory}\n")
        return [self.binary.path, str(path), "--sentinel"]


# Memory


def test_memory__each_policy(new_app: AppFactory, private_server: Servers) -> None:
    """What the policy means for the cache is said, and whether it is what is advised."""
    server = private_server()
    for policy, limit in itertools.product(sorted(POLICIES), ("0", "100mb")):
        server.client().config_set("maxmemory-policy", policy)
        server.client().config_set("maxmemory", limit)
        findings = found(new_app(server.url), "memory")
        messages = " ".join(each["message"] for each in findings)
        assert ("maxmemory is not set" in messages) is (limit == "0")
        if limit != "0" or policy.startswith("allkeys"):
            assert POLICIES[policy] in messages
        is_advised = limit != "0" and policy in ("volatile-lru", "volatile-lfu")
        assert {each["state"] for each in findings} == {"ok" if is_advised else "warn"}
        assert all(each["remedy"] for each in findings if each["state"] != "ok")


def test_memory__every_policy_is_known(private_server: Servers) -> None:
    """None of the server's policies is without its sentence."""
    client = private_server("redis").client()
    for policy in POLICIES:
        client.config_set("maxmemory-policy", policy)
    with pytest.raises(Exception, match="argument") as refused:
        client.config_set("maxmemory-policy", "nonsense")
    assert set(re.findall(r"(?:volatile|allkeys)-\w+|noeviction", str(refused.value))) <= set(POLICIES)


def test_memory__nearly_full_without_eviction(new_app: AppFactory, private_server: Servers) -> None:
    """That it will soon store nothing is said before it happens."""
    server = private_server(maxmemory_policy="noeviction")
    app = new_app(server.url)
    run(app, "check")
    used: Any = server.client().info("memory")
    server.client().config_set("maxmemory", str(int(used["used_memory"] * 1.05)))
    messages = [each["message"] for each in found(app, "memory")]
    assert any("% of maxmemory is used" in message for message in messages)


# A database that is shared


@FLAVOURS
def test_database__keys_of_others(new_app: AppFactory, private_server: Servers, flavour: str) -> None:
    """They are counted and named by their beginnings; what follows a colon is not shown."""
    server = private_server(flavour, maxmemory="100mb", maxmemory_policy="allkeys-lru")
    client = server.client()
    client.mset({f"session:{number}-ann@example.com": "x" for number in range(30)})
    client.lpush("celery", "job")
    finding = only(new_app(server.url), "database")
    assert finding["state"] == "warn"
    assert re.search(r"31 of \d+ keys", finding["message"])
    assert "celery, session:…" in finding["message"]
    assert "jobs and sessions are lost" in finding["message"]
    assert "ann@example.com" not in json.dumps(finding)


def test_database__many_keys_cost_a_bounded_look(new_app: AppFactory, any_server: Server) -> None:
    """However many keys there are, some thousands are looked at."""
    client = any_server.client()
    client.mset({f"other:{number}": "x" for number in range(20_000)})
    app = new_app(any_server.url)
    run(app, "check")
    client.config_resetstat()
    run(app, "check")
    calls: Any = client.info("commandstats")
    assert calls["cmdstat_scan"]["calls"] <= 25


def test_database__other_databases_of_the_server(new_app: AppFactory, private_server: Servers) -> None:
    """They share its memory."""
    server = private_server(maxmemory="100mb", maxmemory_policy="volatile-lru")
    app = new_app(server.url)
    assert only(app, "database")["state"] == "ok"
    server.client(db=3).set("k", 1)
    finding = only(app, "database")
    assert finding["state"] == "warn"
    assert "db3" in finding["message"]


# Persistence


@FLAVOURS
def test_persistence__snapshots_that_fail(
    new_app: AppFactory, private_server: Servers, flavour: str, tmp_path: Path
) -> None:
    """A server that refuses writes because it cannot save is found, with the setting that is to blame."""
    server = private_server(flavour, save="3600 1", dir=str(tmp_path))
    client = server.client()
    tmp_path.joinpath("dump.rdb").mkdir()  # where the snapshot has to go, there is a directory
    client.set("k", 1)
    client.bgsave()

    def failed() -> bool:
        state: Any = client.info("persistence")
        return bool(state["rdb_last_bgsave_status"] == "err")

    wait_until(failed, timeout=20, what="a snapshot failed")
    document = told(new_app(server.url), "check", code=1)
    named = {each["name"]: each for each in document["checks"]}
    assert named["store"]["state"] == "fail"
    assert "stop-writes-on-bgsave-error" in named["store"]["remedy"]
    assert "the last snapshot failed" in named["persistence"]["message"]
    client.config_set("stop-writes-on-bgsave-error", "no")
    finding = only(new_app(server.url), "persistence")
    assert finding["state"] == "warn"
    assert "refuses" not in finding["message"]


def test_persistence__too_few_replicas(new_app: AppFactory, private_server: Servers) -> None:
    """A server that wants replicas before it takes writes keeps the cache off."""
    server = private_server(min_replicas_to_write=1)
    document = told(new_app(server.url), "check", code=1)
    named = {each["name"]: each for each in document["checks"]}
    assert "min-replicas-to-write" in named["store"]["remedy"]
    assert "min-replicas-to-write is 1, and 0 are connected" in named["persistence"]["message"]


@pytest.mark.parametrize(
    ("config", "state", "says"),
    [
        ({}, "ok", "suits a cache"),
        ({"appendonly": "yes"}, "ok", "starts cold"),
        ({"appendonly": "yes", "appendfsync": "always"}, "warn", "waits for the disk"),
        ({"save": "60 1"}, "ok", "snapshots"),
    ],
)
def test_persistence__settings(
    new_app: AppFactory, private_server: Servers, config: dict[str, str], state: str, says: str
) -> None:
    """What is saved, and whether that costs anything."""
    finding = only(new_app(private_server(**config).url), "persistence")
    assert (finding["state"], says in finding["message"]) == (state, True)


# Rights


@FLAVOURS
def test_rights__everything_that_is_missing_in_one_line(
    new_app: AppFactory, private_server: Servers, flavour: str
) -> None:
    """Granting what the remedy says is enough, even where the cache could not connect at all."""
    server = private_server(flavour)
    admin = server.client()
    admin.execute_command("ACL", "SETUSER", "shop", "on", ">pass", "~other:*", "resetchannels", "-@all", "+get")
    url = server.url.replace("redis://", "redis://shop:pass@")
    finding = only(new_app(url), "rights", code=1)
    assert finding["remedy"].startswith("ACL SETUSER shop +")
    admin.execute_command(*finding["remedy"].split())
    document = told(new_app(url), "check")
    states = {each["name"]: each["state"] for each in document["checks"]}
    assert (states["rights"], states["entries"], states["bus"]) == ("ok", "ok", "ok")


def test_rights__the_documented_line_has_nothing_superfluous() -> None:
    """Each command that it grants is one that is sent."""
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    match = re.search(r"ACL SETUSER shop (on >secret[^`]*)```", page)
    assert match
    granted = set(re.findall(r"\+(\w+)", match[1]))
    assert granted - {command[0].lower() for command in COMMANDS} == {"publish", "subscribe", "select"}


# What needs no server, or one that is not to be had


@pytest.mark.parametrize(
    ("info", "state"),
    [
        ({"redis_version": "5.0.14"}, "fail"),
        ({"redis_version": "6.0.20"}, "fail"),
        ({"redis_version": "6.2.0"}, "ok"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, "ok"),
        ({}, "warn"),
    ],
)
def test_version(info: dict[str, str], state: str) -> None:
    """One that lacks commands is a failure; one that is not known, something to think about."""
    assert advice.version(ServerInfo("cache:6379", info)).state == state


@pytest.mark.parametrize(
    ("url", "addresses", "says"),
    [
        ("redis://:secret@cache.example:6379", ["8.8.8.8"], "rediss://"),
        ("redis://:secret@cache.example:6379", ["2606:4700:4700::1111"], "rediss://"),
        ("redis+cluster://cache.example:6379", ["10.0.0.7", "8.8.8.8"], "rediss+cluster://"),
        ("redis://cache:6379", ["10.0.0.7", "192.168.1.4", "fd00::1", "127.0.0.1"], ""),
        ("rediss://cache.example:6379", ["8.8.8.8"], ""),
        ("rediss://cache.example:6379?ssl_cert_reqs=none", ["10.0.0.7"], "not verified"),
        ("unix:///run/redis", [], ""),
    ],
)
def test_encryption(url: str, addresses: list[str], says: str) -> None:
    """Only the way to a public address has to be encrypted, and a certificate that nobody verifies is none."""
    findings = list(advice.encryption(parse_address(url, "RCACHE_URL"), {}, addresses))
    assert len(findings) == bool(says)
    assert all(says in finding.message + finding.remedy and finding.state == "warn" for finding in findings)


def test_clock__that_was_set_back(new_app: AppFactory, any_server: Server) -> None:
    """The cache's own clock, which never goes back, is then ahead of the server's."""
    app = new_app(any_server.url)
    run(app, "check")
    any_server.client().zadd("cache~stamps", {"=clock": int((time.time() + 100) * 1e6)})
    (finding,) = [each for each in found(app, "clock") if each["state"] != "ok"]
    assert re.search(r"set back: the cache's is (99|100)\.\d s ahead", finding["message"])


def test_limits__one_process_could_take_all_connections(new_app: AppFactory, private_server: Servers) -> None:
    """A server that takes fewer connections than one process may open."""
    server = private_server("redis", maxclients=100)
    finding = only(new_app(server.url), "connections")
    assert "100 connections, and one process may open 512" in finding["message"]
    assert not found(new_app(server.url, RCACHE_MAX_CONNECTIONS=20), "connections")


def test_sharing__volatile_policies_evict_sessions() -> None:
    """With a volatile policy the others' keys that expire are at risk, and said to be."""
    server = ServerInfo("cache:6379", {"maxmemory_policy": "volatile-lru"}, foreign=Foreign(10, 3, ("session:…",)))
    (finding,) = advice.sharing(server, is_sealed=False)
    assert "those that expire, such as sessions, may be evicted" in finding.message


# Sentinels


def test_sentinels__all_is_well(new_app: AppFactory, sentinels: Callable[..., Sentinels]) -> None:
    """Master and sentinels are looked at; the master's own findings are there as for one server."""
    trio = sentinels(password="pass", sentinel_password="word")
    document = told(new_app(trio.url, RCACHE_SENTINEL_OPTIONS=trio.options), "check")
    states = {each["name"]: each["state"] for each in document["checks"]}
    assert (states["sentinels"], states["store"], states["rights"], states["bus"]) == ("ok", "ok", "ok", "ok")
    assert f"127.0.0.1:{trio.master.port} answers within" in json.dumps(document)


@pytest.mark.chaos
def test_sentinels__one_away_and_then_two(new_app: AppFactory, sentinels: Callable[..., Sentinels]) -> None:
    """One that is away is a warning that names it; without a quorum nothing would take over, which is a failure."""
    trio = sentinels()
    trio.sentinels[2].kill()
    finding = only(new_app(trio.url), "sentinels")
    assert finding["state"] == "warn"
    assert f"127.0.0.1:{trio.ports[2]}: away" in finding["message"]
    trio.sentinels[1].kill()

    def lost() -> bool:
        states = [each["state"] for each in _checked(new_app(trio.url))["checks"] if each["name"] == "sentinels"]
        return "fail" in states

    wait_until(lost, timeout=60, what="the last sentinel notices that it is alone")
    document = _checked(new_app(trio.url))
    named = [each for each in document["checks"] if each["name"] == "sentinels" and each["state"] == "fail"]
    assert "has a quorum: when the master fails, nothing takes over" in named[0]["message"]
    assert {each["name"]: each["state"] for each in document["checks"]}["entries"] == "ok"


def _checked(app: Flask) -> Any:
    """What the check says, whether it fails or not."""
    return json.loads(app.test_cli_runner().invoke(args=["cache", "check", "--json"]).stdout)


def test_sentinels__a_service_that_nobody_knows(new_app: AppFactory, sentinels: Callable[..., Sentinels]) -> None:
    """The names that they do know are in the message."""
    trio = sentinels()
    document = told(new_app(trio.url.replace("/shop/", "/other/")), "check", code=1)
    failures = [each for each in document["checks"] if each["state"] == "fail"]
    assert "shop" in failures[0]["message"]
    assert "other" in failures[0]["message"]


def test_sentinels__the_documented_rules_are_enough(new_app: AppFactory, sentinels: Callable[..., Sentinels]) -> None:
    """A user of the sentinels with the rules of `docs/how-it-works.md` can do what the cache does there."""
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    rules = re.search(r"A user for the sentinels needs\s+`([^`]*)`", page)
    assert rules
    trio = sentinels()
    for port in trio.ports:
        everything = ["on", ">word", "resetchannels", "-@all", *rules[1].split()]
        trio.client(port).execute_command("ACL", "SETUSER", "watcher", *everything)
    app = new_app(trio.url, RCACHE_SENTINEL_OPTIONS={"username": "watcher", "password": "word"})
    assert only(app, "sentinels")["state"] == "ok"


def test_of_all__what_is_equal_is_said_once() -> None:
    """Several servers: one line for what is well on all, one for each thing that is not, with the servers."""
    full = warn("memory", "full", "more")
    found = {"a:1": [ok("server", "7"), full], "b:2": [ok("server", "7"), full], "c:3": [ok("server", "7")]}
    lines = [(each.name, each.state, each.message) for each in advice.of_all(found)]
    assert lines == [("server", "ok", "7; 3 nodes alike"), ("memory", "warn", "a:1, b:2: full")]


# A cluster


@pytest.mark.slow
def test_cluster__every_node_is_looked_at(new_app: AppFactory, private_cluster: Callable[..., Cluster]) -> None:
    """What is true of all nodes is said once; a node that is away is named, with the shards that are away with it."""
    cluster = private_cluster(maxmemory="100mb", maxmemory_policy="volatile-lru")
    document = told(new_app(cluster.url), "check")
    assert {each["state"] for each in document["checks"] if each["name"] in ("store", "server", "rights", "bus")} == {
        "ok"
    }
    assert "3 nodes alike" in json.dumps(document)
    cluster.masters[1].kill()
    app = new_app(cluster.url)
    failures = [each for each in found(app, "topology", code=1) if each["state"] == "fail"]
    assert "shards cannot be used" in json.dumps(failures)
    assert f"on 127.0.0.1:{cluster.masters[1].port}: " in json.dumps(failures)
