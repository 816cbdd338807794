"""A user, or a service, without INFO: the cache works, and what another run of the server holds is not served."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_rcache import CacheManager
from flask_rcache.config.address import parse_address
from flask_rcache.stores.redis import runs
from flask_rcache.stores.redis.connection import Connection
from flask_rcache.stores.redis.driver import Connector
from tests.clusters import Cluster
from tests.processes import wait_until
from tests.sentinels import Sentinels
from tests.servers import Server
from tests.stores.proxy import Proxy

Servers = Callable[..., Server]
Caches = Callable[..., CacheManager]

_PAGE = (Path(__file__).parents[2] / "docs" / "how-it-works.md").read_text(encoding="utf-8")
_LINE = re.search(r"ACL SETUSER shop (on >secret[^`]*)```", _PAGE)
_BESIDE = re.search(r"On a cluster it needs `([^`]*)`", _PAGE)
assert _LINE
assert _BESIDE
#: The documented rules without INFO, and with nothing that they do not name.
RULES = [rule for rule in (*_LINE[1].split(), *_BESIDE[1].split()) if rule != "+info"]


def forbid(*servers: Server, user: str = "shop", more: tuple[str, ...] = ()) -> None:
    for server in servers:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", user, *RULES, *more)


def as_shop(url: str) -> str:
    return url.replace("://", "://shop:secret@", 1)


def is_back(cache: CacheManager) -> None:
    wait_until(lambda: cache.is_available and cache.get("search", "none") is None, timeout=20, what="it is used again")


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_no_info__works_as_with_it(
    private_server: Servers, caches: Caches, flavour: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Hits, shared by processes, invalidations of tags, types and patterns; one warning says what is not known."""
    server = private_server(flavour)
    forbid(server)
    one, two = (caches(as_shop(server.url)) for _ in range(2))
    assert one.fetch("search", "a", lambda: "old", tags=["eu"]) == "old"
    assert two.fetch("search", "a", lambda: "other") == "old"
    two.invalidate_tags("eu")
    assert one.fetch("search", "a", lambda: "new", tags=["eu"]) == "new"
    assert two.invalidate_pattern("cache:search:*") == 1
    assert one.get("search", "a") is None
    assert one.is_available
    assert two.is_available
    (warning,) = one.overview()["store"]["warnings"]
    assert "+info" in warning
    assert caplog.text.count("+info") == 2  # once for each


@pytest.mark.parametrize("is_granted", [True, False])
def test_info_or_not__a_restart_from_a_snapshot(
    private_server: Servers, caches: Caches, tmp_path: Path, is_granted: bool
) -> None:
    """What was invalidated after the snapshot is not served again, whether or not INFO says that it was restarted."""
    acl = tmp_path / "users.acl"
    rules = " ".join((*RULES, "+info") if is_granted else RULES)
    acl.write_text(f"user default on nopass ~* &* +@all\nuser shop {rules}\n")
    server = private_server("redis", save="3600 1000000", aclfile=str(acl))
    cache = caches(as_shop(server.url))
    cache.fetch("search", "a", lambda: "old", tags=["eu"])
    server.client().save()
    cache.invalidate_tags("eu")
    server.kill()
    server.restart()
    assert server.client().exists("cache:search:a") == 1
    is_back(cache)
    another = caches(as_shop(server.url))

    def is_kept() -> bool:
        assert cache.fetch("search", "a", lambda: "new") == "new"
        assert another.get("search", "a") in (None, "new")
        return bool(another.get("search", "a") == "new")

    wait_until(is_kept, timeout=20, what="it is kept from now on")


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_no_info__a_replica_takes_over(private_server: Servers, caches: Caches, flavour: str) -> None:
    """It has the stamps of its master and not its mark: it starts cold, and no lost invalidation matters."""
    old = private_server(flavour, repl_diskless_sync_delay=0)
    new = private_server(flavour, replicaof=("127.0.0.1", old.port), repl_diskless_sync_delay=0)
    forbid(old, new)

    def is_linked() -> bool:
        info: Any = new.client().info("replication")
        return bool(info["master_link_status"] == "up")

    wait_until(is_linked, timeout=20, what="replication")
    with Proxy(old.port) as name:
        cache = caches(as_shop(name.url))
        cache.fetch("search", "a", lambda: "old", tags=["eu"])
        wait_until(lambda: new.client().exists("cache:search:a") == 1, timeout=10, what="it is replicated")
        new.client().replicaof("NO", "ONE")
        cache.invalidate_tags("eu")  # which the replica never gets
        name.aim(new.port)
        old.kill()
        is_back(cache)
        assert new.client().exists("cache:search:a") == 1
        assert cache.fetch("search", "a", lambda: "new") == "new"


def test_no_info__many_connect_at_once(private_server: Servers, caches: Caches) -> None:
    """They find one name for the run: nobody makes cold what the others have stored, or refuses it."""
    server = private_server()
    forbid(server)
    made = [caches(as_shop(server.url)) for _ in range(8)]
    barrier = threading.Barrier(len(made))

    def begin(cache: CacheManager) -> None:
        barrier.wait()
        cache.get("search", "a")

    threads = [threading.Thread(target=begin, args=(cache,)) for cache in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, cache in enumerate(made):
        assert cache.fetch("search", str(number), lambda number=number: number) == number  # type: ignore[misc]
    for cache in made:
        assert [cache.get("search", str(number)) for number in range(len(made))] == [*range(len(made))]


def test_no_info__it_is_granted_later(private_server: Servers, caches: Caches) -> None:
    """Processes that know the run by its mark and by its id find one name again, and go on storing."""
    server = private_server()
    forbid(server)
    before = caches(as_shop(server.url))
    before.fetch("search", "a", lambda: "a")
    forbid(server, more=("+info",))
    after = caches(as_shop(server.url))
    after.fetch("search", "b", lambda: "b")

    def stores(cache: CacheManager, key: str) -> bool:
        cache.fetch("search", key, lambda: key)
        return all(each.get("search", key) == key for each in (before, after))

    for cache, key in ((before, "c"), (after, "d")):
        wait_until(lambda cache=cache, key=key: stores(cache, key), timeout=20, what="it stores")  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.chaos
def test_no_info__on_a_cluster(private_cluster: Callable[..., Cluster], caches: Caches) -> None:
    """The same there: hits, invalidations, and a replica that takes over starts cold."""
    cluster = private_cluster(masters=1, replicas=1)
    forbid(*cluster.nodes)
    cache, other = (caches(as_shop(cluster.url)) for _ in range(2))
    assert cache.fetch("search", "a", lambda: "old", tags=["eu"]) == "old"
    assert other.fetch("search", "a", lambda: "other", tags=["eu"]) == "old"
    cluster.fail_over(cluster.replicas[0])
    is_back(cache)
    assert cache.fetch("search", "a", lambda: "new", tags=["eu"]) == "new"
    other.invalidate_tags("eu")
    assert cache.get("search", "a") is None


@pytest.mark.long
@pytest.mark.chaos
@pytest.mark.slow
def test_no_info__behind_sentinels(sentinels: Callable[..., Sentinels], caches: Caches) -> None:
    """The same behind Sentinel, with a planned failover."""
    trio = sentinels()
    forbid(*trio.servers)
    cache = caches(as_shop(trio.url))
    assert cache.fetch("search", "a", lambda: "old", tags=["eu"]) == "old"
    assert cache.get("search", "a") == "old"
    trio.fail_over()
    is_back(cache)
    assert cache.fetch("search", "a", lambda: "new", tags=["eu"]) == "new"


def test_run_of__says_the_same_as_the_scripts(server: Server) -> None:
    """INFO outside of scripts names a run as they do; without it a mark does, as long as the server lives."""
    connector = Connector(parse_address(server.url, "RCACHE_URL"), {}, timeout=1.0)
    connection = Connection(connector.to(parse_address(server.url, "RCACHE_URL").nodes[0]), 1.0)
    told = runs.run_of(connection.exchange, "", is_needed=True)
    assert told is not None
    assert told.unlike == runs.ANY
    assert told.server == server.binary.flavour
    server.client().execute_command("ACL", "SETUSER", "silent", "on", "nopass", "~*", "+@all", "-info")
    try:
        connection.exchange(b"*3\r\n$4\r\nAUTH\r\n$6\r\nsilent\r\n$1\r\nx\r\n", 1)
        first = runs.run_of(connection.exchange, "", is_needed=True)
        assert first is not None
        again = runs.run_of(connection.exchange, first.name, is_needed=True)
        assert again is not None
        assert again.name == first.name
        another = runs.run_of(connection.exchange, "4503599627370497", is_needed=True)
        assert another is not None
        assert another.name not in (first.name, "4503599627370497")
        assert another.unlike == "4503599627370497"
    finally:
        connection.close()
        server.client().execute_command("ACL", "DELUSER", "silent")
