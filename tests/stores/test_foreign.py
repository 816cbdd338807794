"""Internal keys that are not as this cache left them: it heals what it can, never raises, and serves nothing wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

import ormsgpack
import pytest

from flask_rcache import CacheManager, CacheType
from flask_rcache.stores import Begin
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import Kit

Caches = Callable[..., CacheManager]
KIND = CacheType("kind", ttl=600, stale_while_revalidate=60)


def poison(server: Server, what: str) -> None:
    """Write something that is of the right kind, and none of ours."""
    client = server.client()
    name, _, score = what.partition(" ")
    if name.startswith(("=", "c:")):
        client.zadd("cache~stamps", {name: float(score)})
    elif name == "soft":
        client.hset("cache~soft", "c:kind", score)
    elif name == "generation":
        client.hset("cache~meta", "generation", score)
    elif name == "lease":
        client.set("cache~lease:kind:new", score.encode() + b"\xff", px=200)
    elif name == "stats":
        client.hset("cache~stats:kind", mapping={"hits": score, b"\xff": 1})


@pytest.mark.parametrize(
    "what",
    [
        *("=floor inf", "=clock inf", "=clock -inf", "=epoch inf", "=epoch -inf", "=barrier inf", "c:kind inf"),
        *("soft abc", "soft inf", "soft nan", "generation abc", "generation inf", "stats abc", "stats inf"),
        *("lease l", "lease p", "lease f", "lease x"),
    ],
)
def test_garbage__degrades_and_heals(redis_server: Server, caches: Caches, what: str) -> None:
    """A number that is none, a name that is no UTF-8: no call fails for it, and what was invalidated is gone."""
    cache, other = caches(redis_server.url), caches(redis_server.url)
    cache.fetch(KIND, "k", lambda: "old")
    if what.startswith("soft"):
        cache.invalidate_type(KIND, soft=True)
    poison(redis_server, what)
    cache.store.close()  # the next connection reads what is read once
    assert cache.fetch(KIND, "k", lambda: "old") == "old"
    assert cache.fetch(KIND, "new", lambda: "new") == "new"
    assert list(cache.store.entries(None, None)) is not None
    cache.set(KIND, "set", "old")
    poison(redis_server, what)
    cache.invalidate_type(KIND)
    assert [each.get(KIND, key) for each in (cache, other) for key in ("k", "new", "set")] == [None] * 6
    assert cache.is_available

    def keeps() -> bool:
        cache.fetch(KIND, "k", lambda: "newer")
        cache.fetch(KIND, "new", lambda: "newer")
        return [other.get(KIND, key) for key in ("k", "new")] == ["newer"] * 2

    wait_until(keeps, timeout=5, what="kept again")
    assert cache.stats()["misses"]


@pytest.mark.parametrize("row", ["index", "type"])
def test_garbage__a_foreign_row_is_passed_over(redis_server: Server, caches: Caches, row: str) -> None:
    """A name that is no UTF-8 among ours does not keep an invalidation from Redis."""
    client, cache, other = redis_server.client(), caches(redis_server.url), caches(redis_server.url)
    cache.set(KIND, "k", 1)
    if row == "index":
        client.zadd("cache~index:kind", {b"cache:kind:\xff": time.time() * 1000 + 1e6})
        assert cache.invalidate_pattern("kind:*") == 1
    else:
        client.hset("cache~meta", b"type:\xff", 1)
        cache.clear_all()
    assert cache.is_available
    assert other.get(KIND, "k") is None


NAMES = ("stamps", "soft", "loads", "costs", "log", "stats:kind", "index:kind", "lease:kind:k")


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
    if name != "stamps":  # all that operators ask, while it is there
        cache.store.gazette()
        cache.store.census(())
        cache.store.page(None, None, None, 10)
    wait_until(works, timeout=5, what="in use again")
    incidents = cache.store.state()["breaker"]["incidents"]
    assert incidents <= (name == "stamps")
    for act in (
        lambda: cache.invalidate_type(KIND),
        lambda: cache.invalidate_type(KIND, soft=True),
        lambda: cache.invalidate_pattern("k*", type=KIND),
        lambda: cache.delete(KIND, "k"),
        cache.clear_all,
    ):
        other.set(KIND, "k", "old")
        put()
        act()
        reading = other.store.read("cache:kind:k", lambda: ("c:kind",)) if name != "stamps" else None
        assert reading is None or reading.entry is None or reading.entry.freshness(reading.now).value == "stale"
        wait_until(works, timeout=5, what="in use again")


@pytest.mark.parametrize("px", [None, 65_000])
def test_begin__a_lease_that_would_live_too_long(shared_kit: Kit, px: int | None) -> None:
    """Without an expiry, or with one from before the clock stepped back, a dead holder's lease ends as any other."""
    key, client = shared_kit.key(), shared_kit.server()
    client.set(shared_kit.names.lease(key), "ldead", px=px)
    assert shared_kit.ask(key).kind is Begin.BUSY
    assert 0 < client.pttl(shared_kit.names.lease(key)) <= shared_kit.store.lease * 1000


def test_invalidate_pattern__the_policy_was_changed(private_server: Callable[..., Server], caches: Caches) -> None:
    """Under a policy that may evict the index, set while connections are kept, a pattern looks at the keys."""
    server = private_server()
    cache = caches(server.url)
    cache.set(KIND, "a", "old")
    server.client().config_set("maxmemory-policy", "allkeys-lru")
    server.client().delete("cache~index:kind")
    assert cache.invalidate_pattern("kind:*") == 1
    assert cache.get(KIND, "a") is None


@pytest.mark.parametrize("payload", [["t", float("inf"), ["x"]], ["t", float("nan"), ["x"]], ["t", 1, None], "x"])
def test_bus__an_odd_message_does_not_end_it(redis_server: Server, tiers: Caches, payload: object) -> None:
    """Whatever comes in on the channel, the listener distrusts what it held, and hears the next message."""
    cache, other = tiers(redis_server.url, l1_ttl=60), tiers(redis_server.url)
    cells = cache.store._cells  # type: ignore[attr-defined]
    cache.set(KIND, "a", 1)

    def in_memory() -> bool:
        cache.get(KIND, "a")
        return cells.get("cache:kind:a") is not None

    wait_until(in_memory, timeout=5, what="the bus")
    redis_server.client().publish("cache~bus", ormsgpack.packb(payload))
    wait_until(lambda: cells.get("cache:kind:a") is None, timeout=5, what="distrusted")
    wait_until(in_memory, timeout=5, what="the bus again")
    other.set(KIND, "a", 2)
    wait_until(lambda: cache.get(KIND, "a") == 2, timeout=5, what="heard")


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

    def in_memory() -> bool:
        cache.get(KIND, "k")
        return cache.store._cells.get("cache:kind:k") is not None  # type: ignore[attr-defined]

    wait_until(in_memory, timeout=5, what="the threads")
