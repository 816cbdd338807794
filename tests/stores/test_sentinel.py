"""Sentinel: the master is followed over failovers of both kinds, and what is wrong with the sentinels is said."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from flask_rcache import CacheManager
from flask_rcache.config.address import Node, parse_address
from flask_rcache.errors import StoreUnavailableError
from flask_rcache.stores.redis.sentinel import SentinelEndpoint
from flask_rcache.stores.redis.topology import endpoint_of
from tests.processes import free_port, wait_until
from tests.sentinels import MakesSentinels, Sentinels
from tests.servers import Server
from tests.stores.transport import Transport

pytestmark = [pytest.mark.long, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(120)]

Caches = Callable[..., CacheManager]


def seen(cache: CacheManager) -> dict[int, str]:
    """Each sentinel's state by its port."""
    sentinels = cache.overview()["topology"]["sentinels"]
    return {int(each["address"].rpartition(":")[2]): each["state"] for each in sentinels}


def followed(cache: CacheManager, trio: Sentinels) -> bool:
    """Whether the cache stores on the present master, and finds it there."""
    loads: list[int] = []
    for _ in range(2):
        cache.fetch("search", "k", lambda: loads.append(1), ttl=60)
    where: str = cache.overview()["topology"]["server"]
    return not loads and cache.is_available and where.endswith(f":{trio.master.port}")


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_sentinel__both_kinds_of_failover_are_followed(
    sentinels: MakesSentinels, caches: Caches, flavour: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A planned one by what the sentinels announce, before the old master is noticed at all; and a master that died."""
    caplog.set_level(logging.INFO, "flask_rcache")
    trio = sentinels(flavour, password="p", sentinel_password="s")
    cache = caches(trio.url, timeout=0.5, sentinel_options=trio.options)
    wait_until(lambda: followed(cache, trio), timeout=10, what="the first master")
    wait_until(lambda: set(seen(cache).values()) == {"ok"}, timeout=10, what="the sentinels are looked at")
    before = cache.overview()["topology"]
    assert (before["kind"], before["service"], before["last_failover"]) == ("sentinel", "shop", None)

    trio.fail_over()
    began = time.monotonic()
    wait_until(lambda: followed(cache, trio), timeout=10, what="the planned failover is followed")
    assert time.monotonic() - began < 4, "the old master was still writable: its announcement was heard"
    assert "the sentinels announce" in caplog.text
    after = cache.overview()["topology"]
    assert after["generation"] > before["generation"]
    assert after["last_failover"]["before"] == before["server"]

    trio._can_fail_over()
    trio.master.kill()
    wait_until(lambda: followed(cache, trio), timeout=20, what="the new master is followed")
    assert "p@" not in caplog.text


def test_sentinel__one_that_is_away_and_a_lost_quorum(
    sentinels: MakesSentinels, caches: Caches, caplog: pytest.LogCaptureFixture
) -> None:
    """The cache goes on; operators see since when which sentinel is away, and that the others cannot fail over."""
    trio = sentinels()
    cache = caches(trio.url)
    endpoint: Any = cache.engine.store._server._topology  # type: ignore[attr-defined]
    cache.get("search", "k")
    wait_until(lambda: set(seen(cache).values()) == {"ok"}, timeout=10, what="the sentinels are looked at")
    trio.sentinels[0].kill()
    endpoint.look()
    assert list(seen(cache).values()) == ["away", "ok", "ok"]
    trio.sentinels[1].kill()
    wait_until(lambda: not endpoint.look() and seen(cache)[trio.ports[2]] == "no quorum", timeout=10, what="noticed")
    assert cache.set("search", "k", "v")
    assert cache.get("search", "k") == "v"
    first = cache.overview()["topology"]["sentinels"][0]
    assert abs(first["since"] - time.time()) < 60
    assert str(trio.ports[0]) in first["detail"]
    assert caplog.text.count("away") == 2, "one line for each change"
    pool: Any = cache.engine.store._server.pool  # type: ignore[attr-defined]
    pool.close()
    assert cache.get("search", "k") == "v", "the last sentinel still names the master"
    trio.sentinels[2].kill()
    pool.close()
    assert cache.get("search", "k") is None
    assert "no sentinel can be reached" in str(cache.engine.store.incident)


def why_not(url: str, **options: Any) -> str:
    """Why a store is not to be had."""
    transport = Transport(url, **options)
    try:
        with pytest.raises(StoreUnavailableError) as raised:
            transport.ask("PING")
    finally:
        transport.pool.close()
    return str(raised.value)


def test_sentinel__a_wrong_url(sentinels: MakesSentinels, redis_server: Server, caches: Caches) -> None:
    """One sentence for each, with the remedy, in the first line of the outage."""
    trio = sentinels(sentinel_password="s3cr3t")
    port, options = trio.ports[0], {"sentinel_options": trio.options}
    url = f"redis+sentinel://127.0.0.1:{port}"
    assert "RCACHE_SENTINEL_OPTIONS" in why_not(f"{url}/shop")
    assert "it knows shop: correct RCACHE_URL" in why_not(f"{url}/store", **options)
    told = why_not(f"redis+sentinel://127.0.0.1:{redis_server.port}/shop")
    assert "is a server, no sentinel: write redis:// in RCACHE_URL" in told
    away = free_port()
    assert f"no sentinel can be reached: 127.0.0.1:{away}" in why_not(f"redis+sentinel://127.0.0.1:{away}/shop")
    cache = caches(f"redis://:s3cr3t@127.0.0.1:{port}/0")
    assert cache.get("search", "k") is None
    assert "this is a sentinel, no server: write redis+sentinel://host:port/service" in str(cache.engine.store.incident)


def test_sentinel__announcements(redis_server: Server, valkey_server: Server) -> None:
    """Of this service alone, and well formed: its master is connected to without asking."""
    address = parse_address("redis+sentinel://127.0.0.1:1/shop", "RCACHE_URL")
    endpoint = endpoint_of(address, timeout=0.1)
    assert isinstance(endpoint, SentinelEndpoint)
    for text in (b"store 127.0.0.1 1 127.0.0.1 2", b"shop 127.0.0.1 1 127.0.0.1 x", b"shop"):
        with pytest.raises(ValueError, match="unpack") if text == b"shop" else _nothing():
            endpoint._heard([b"message", b"+switch-master", text])
        assert endpoint._announced is None
    endpoint._heard([b"message", b"+switch-master", b"shop 127.0.0.1 1 127.0.0.1 2"])
    made: Any = endpoint.connection()
    assert (made.host, made.port) == ("127.0.0.1", 2)
    assert endpoint._announced is not None
    assert endpoint._announced[0] == Node("127.0.0.1", 2)


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_sentinel__one_that_names_another_server(sentinels: MakesSentinels, caches: Caches) -> None:
    """The first in the URL names a replica, as one does that was cut off: another is asked, and the cache works."""
    trio = sentinels()
    liar = trio.client(trio.ports[0])
    liar.execute_command("SENTINEL", "REMOVE", "shop")
    liar.execute_command("SENTINEL", "MONITOR", "shop", "127.0.0.1", str(trio.replica.port), "2")
    cache = caches(trio.url)
    master = next(server for server in trio.servers if server.client().info("replication")["role"] == "master")

    def works() -> bool:
        cache.fetch("search", "k", lambda: "v", ttl=60)
        server: str = cache.overview()["topology"]["server"]
        return cache.get("search", "k") == "v" and server.endswith(f":{master.port}")

    wait_until(works, timeout=15, what="the master that the others name")
    for _ in range(20):
        assert works()
