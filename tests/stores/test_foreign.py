"""Internal keys that are not as this cache left them: it heals what it can, never raises, and serves nothing wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ormsgpack
import pytest

from flask_rcache import CacheManager, CacheType
from flask_rcache.stores.protocol import Begin
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import Kit

Caches = Callable[..., CacheManager]
KIND = CacheType("kind", ttl=600, stale_while_revalidate=60)


def poison(server: Server, what: str) -> None:
    """Write something that is of the right kind, and none of ours."""
    client = server.client()
    name, _, score = what.partition(" ")
    if name.startswith(("=", "~", "c:")):
        client.zadd("cache~stamps", {name: float(score)})
    elif name == "lease":
        client.set("cache~lease:kind:new", score.encode() + b"\xff", px=200)
    elif name == "stats":
        client.hset("cache~stats:kind", mapping={"hits": score, b"\xff": 1})


@pytest.mark.parametrize(
    "what",
    [
        *("=floor inf", "=clock inf", "=clock -inf", "=epoch inf", "=epoch -inf", "=barrier inf", "=forgotten inf"),
        *("=run inf", "=run 5", "c:kind inf", "~c:kind inf", "~c:kind -inf", "~x -5"),
        *("stats abc", "stats inf", "lease l", "lease p", "lease f", "lease x", "lease l1 2 3"),
    ],
)
def test_garbage__degrades_and_heals(redis_server: Server, caches: Caches, what: str) -> None:
    """A number that is none, a name that is no UTF-8: no call fails for it, and what was invalidated is gone."""
    cache, other = caches(redis_server.url), caches(redis_server.url)
    cache.fetch(KIND, "k", lambda: "old")
    poison(redis_server, what)
    cache.close()  # the next connection reads what is read once
    assert cache.fetch(KIND, "k", lambda: "old") == "old"
    assert cache.fetch(KIND, "new", lambda: "new") == "new"
    assert list(cache.entries()) is not None
    cache.set(KIND, "set", "old")
    poison(redis_server, what)
    cache.invalidate_type(KIND)
    assert [each.get(KIND, key) for each in (cache, other) for key in ("k", "new", "set")] == [None] * 6
    assert cache.is_available

    def keeps() -> bool:
        cache.fetch(KIND, "k", lambda: "newer")
        cache.fetch(KIND, "new", lambda: "newer")
        return [other.get(KIND, key) for key in ("k", "new")] == ["newer"] * 2

    wait_until(keeps, timeout=10, what="kept again")
    assert cache.stats()["misses"]


@pytest.mark.parametrize("row", ["index", "type"])
def test_garbage__a_foreign_row_is_passed_over(redis_server: Server, caches: Caches, row: str) -> None:
    """A name that is no UTF-8 among ours does not keep an invalidation from Redis."""
    client, cache, other = redis_server.client(), caches(redis_server.url), caches(redis_server.url)
    cache.set(KIND, "k", 1)
    if row == "index":
        foreign: Any = {b"cache:kind:\xff": time.time() * 1000 + 1e6}
        client.zadd("cache~index:kind", foreign)
        assert cache.invalidate_pattern("kind:*") == 1
    else:
        client.hset("cache~meta", b"type:\xff", "1")
        client.hset("cache~meta", "type:*", "1")
        cache.clear_all()
    assert cache.is_available
    assert other.get(KIND, "k") is None


NAMES = ("stamps", "meta", "loads", "costs", "log", "stats:kind", "index:kind", "lease:kind:k")


@pytest.mark.parametrize("name", NAMES)
def test_another_kind__heals(server: Server, caches: Caches, name: str) -> None:
    """Another kind of key under an internal name: the cache goes on, or is back at once; every invalidation holds."""
    cache, other = caches(server.url), caches(server.url)
    client = server.client()
    other.set(KIND, "warm", 1)
    cache.get(KIND, "warm")

    def put() -> None:
        client.delete(f"cache~{name}")
        if name.startswith("lease"):
            client.hset(f"cache~{name}", "a", "b")
        else:
            client.set(f"cache~{name}", "theirs")

    def works() -> bool:
        cache.stats()
        cache.fetch(KIND, "k", lambda: "v")
        return other.get(KIND, "k") == "v" and cache.is_available

    put()
    overview = cache.overview()  # all that operators ask, while it is there
    cache.page(limit=10)
    wait_until(works, timeout=10, what="in use again")
    assert cache.overview()["breaker"]["incidents"] == overview["breaker"]["incidents"] == 0
    acts: list[Callable[[], object]] = [
        lambda: cache.invalidate_type(KIND),
        lambda: cache.invalidate_pattern("k*", type=KIND),
        lambda: cache.delete(KIND, "k"),
        cache.clear_all,
    ]
    for act in acts:
        wait_until(lambda: other.set(KIND, "k", "old"), timeout=10, what="set")
        put()
        act()
        assert other.get(KIND, "k") is None
        wait_until(works, timeout=10, what="in use again")


@pytest.mark.parametrize("px", [None, 65_000])
def test_begin__a_lease_that_would_live_too_long(shared_kit: Kit, px: int | None) -> None:
    """Without an expiry, or with one from before the clock stepped back, a dead holder's lease ends as any other."""
    kit, key, client = shared_kit, shared_kit.key(), shared_kit.server()
    kit.start(key)
    held = client.get(kit.names.lease(key))
    assert isinstance(held, bytes)
    client.set(kit.names.lease(key), held, px=px)
    assert kit.ask(key).kind is Begin.BUSY
    assert 0 < client.pttl(kit.names.lease(key)) <= kit.store.lease_seconds * 1000


def test_invalidate_pattern__the_policy_was_changed(private_server: Callable[..., Server], caches: Caches) -> None:
    """Under a policy that may evict the index, set while connections are kept, a pattern looks at the keys."""
    server = private_server()
    cache = caches(server.url)
    cache.set(KIND, "a", "old")
    server.client().config_set("maxmemory-policy", "allkeys-lru")
    server.client().delete("cache~index:kind")
    assert cache.invalidate_pattern("kind:*") == 1
    assert cache.get(KIND, "a") is None


def holds(cache: CacheManager, key: str) -> bool:
    """Whether the memory tier of a cache answers for a key."""
    cache.get(KIND, key)
    return cache.engine.store.recall(f"cache:kind:{key}", 60.0) is not None


@pytest.mark.parametrize(
    "payload",
    [
        *(["t", float("inf"), ["x"]], ["t", "1", "2", "3", None], ["t", "1", "2", "3", [1]], "x", b"\xc1", 7),
        ["?", "1", "2", "3", ["x"]],
        ["t", "1", "-2", "3", ["x"]],
        ["t", "1", "9" * 18, "9" * 18, ["c:kind"]],
    ],
)
def test_bus__an_odd_message_does_not_end_it(redis_server: Server, tiers: Caches, payload: object) -> None:
    """Whatever comes in on the channel, the listener distrusts what it held, and applies the next message."""
    cache, other = tiers(redis_server.url, l1_ttl=60), tiers(redis_server.url)
    cache.set(KIND, "a", 1)
    wait_until(lambda: holds(cache, "a"), timeout=10, what="the bus")
    redis_server.client().publish("cache~bus", ormsgpack.packb(payload))
    store = cache.engine.store
    wait_until(lambda: store.recall("cache:kind:a", 60.0) is None, timeout=10, what="distrusted")
    wait_until(lambda: holds(cache, "a"), timeout=10, what="the bus again")
    other.set(KIND, "a", 2)
    wait_until(lambda: cache.get(KIND, "a") == 2, timeout=10, what="the message")


def test_threads__none_to_be_had(redis_server: Server, tiers: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started requests are answered all the same, and the next one tries again."""
    cache = tiers(redis_server.url)

    def no(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as none:
        none.setattr("threading.Thread.start", no)
        assert cache.fetch(KIND, "k", lambda: 1) == 1
        assert [cache.get(KIND, "k") for _ in range(3)] == [1] * 3
        cache.invalidate_type(KIND)
        assert cache.get(KIND, "k") is None
    cache.set(KIND, "k", 2)
    wait_until(lambda: holds(cache, "k"), timeout=10, what="the threads")
