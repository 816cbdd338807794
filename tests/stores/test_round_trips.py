"""What it costs on the wire, counted by a proxy between a warm cache and a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest

from flask_rcache import CacheManager
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import Kit, redis_store
from tests.stores.proxy import Proxy
from tests.stores.test_redis import lua


def sent(script: str) -> list[bytes]:
    """What is in each call of a script: its hash, or its text."""
    return [hashlib.sha1(lua(script).encode()).hexdigest().encode(), lua(script).encode()]


#: What the maintenance thread and the bus send when they like, and what goes over a new connection.
BESIDE = [
    *(part for name in ("beat", "count", "reclaim", "attach") for part in sent(name)),
    *(b"$%d\r\n%b\r\n" % (len(command), command) for command in (b"SUBSCRIBE", b"PING", b"HELLO", b"CLIENT")),
]


class Wired:
    """A cache behind a counting proxy."""

    def __init__(self, cache: CacheManager, proxy: Proxy) -> None:
        self.cache = cache
        self._proxy = proxy

    def trips(self, act: Callable[[], object]) -> int:
        """The round trips of an act, without what other threads send meanwhile."""
        before = len(self._proxy.requests)
        act()
        asked = self._proxy.requests[before:]
        return sum(not any(part in each for part in BESIDE) for each in asked)


@pytest.fixture
def wired(redis_server: Server, caches: Callable[..., CacheManager]) -> Iterator[Wired]:
    """A cache whose connection is open and whose scripts are loaded."""
    with Proxy(redis_server.port) as proxy:
        cache = caches(proxy.url, timeout=2.0)
        cache.set("search", "warm", 1)
        cache.fetch("search", "warm2", lambda: 1, tags=["t"])
        cache.get("search", "warm")
        cache.delete("search", "warm")
        cache.invalidate_tags("warm")
        cache.invalidate_type("product")
        yield Wired(cache, proxy)
        cache.close()


def test_get__hit_and_miss_are_one_round_trip(wired: Wired) -> None:
    """A hit is one; so is finding nothing."""
    wired.cache.set("search", "a", {"x": 1}, tags=["eu", "us"])
    assert wired.trips(lambda: wired.cache.get("search", "a")) == 1
    assert wired.trips(lambda: wired.cache.get("search", "none")) == 1


def test_fetch__miss_is_three(wired: Wired) -> None:
    """Look, begin, fill; and a hit one, for the loader's process and for another that has seen the key."""
    assert wired.trips(lambda: wired.cache.fetch("search", "a", lambda: 1, tags=["eu"])) == 3
    assert wired.trips(lambda: wired.cache.fetch("search", "a", lambda: 2, tags=["eu"])) == 1
    wired.cache.invalidate_tags("eu")
    assert wired.trips(lambda: wired.cache.fetch("search", "a", lambda: 3, tags=["eu"])) == 3


def test_get__unknown_tags_cost_a_second_trip_once(
    wired: Wired, redis_server: Server, caches: Callable[..., CacheManager]
) -> None:
    """An entry of another process with tags this one has not seen: two round trips the first time, then one."""
    caches(redis_server.url).set("search", "a", 1, tags=["eu", "us"])
    assert [wired.trips(lambda: wired.cache.get("search", "a")) for _ in range(3)] == [2, 1, 1]


def test_many__one_round_trip_for_any_number(wired: Wired) -> None:
    """1,000 keys: read in one, written in one, loaded in three."""
    keys = [f"k{number}" for number in range(1000)]
    assert wired.trips(lambda: wired.cache.set_many("search", dict.fromkeys(keys, "v"))) == 1
    assert wired.trips(lambda: wired.cache.get_many("search", keys)) == 1
    found = wired.cache.get_many("search", keys)
    assert found == dict.fromkeys(keys, "v")
    others = [f"o{number}" for number in range(1000)]
    assert wired.trips(lambda: wired.cache.fetch_many("search", others, lambda missing: dict.fromkeys(missing, 1))) == 3
    assert wired.trips(lambda: wired.cache.fetch_many("search", others, lambda missing: {})) == 1


def test_get_many__unknown_tags_cost_one_more_for_all(
    wired: Wired, redis_server: Server, caches: Callable[..., CacheManager]
) -> None:
    """100 entries of another process, each with a tag of its own: two round trips, not 101; then one."""
    other = caches(redis_server.url)
    keys = [f"k{number}" for number in range(100)]
    for key in keys:
        other.set("search", key, key, tags=[f"tag-{key}"])
    assert [wired.trips(lambda: wired.cache.get_many("search", keys)) for _ in range(2)] == [2, 1]
    other.invalidate_tags("tag-k7")
    assert set(keys) - set(wired.cache.get_many("search", keys)) == {"k7"}


def test_set_delete_invalidate__are_one(wired: Wired) -> None:
    """Writing, removing and invalidating: one each."""
    assert wired.trips(lambda: wired.cache.set("search", "a", 1)) == 1
    assert wired.trips(lambda: wired.cache.delete("search", "a")) == 1
    assert wired.trips(lambda: wired.cache.invalidate_tags("eu", "us", "asia")) == 1
    assert wired.trips(lambda: wired.cache.invalidate_type("search")) == 1


def test_hit__with_many_tags_is_one(wired: Wired, redis_server: Server, caches: Callable[..., CacheManager]) -> None:
    """However many tags it has, and whatever else was invalidated meanwhile; after 63 of that once one more."""
    tags = [f"row:{number}" for number in range(2000)]
    wired.cache.set("search", "a", 1, tags=tags)
    other = caches(redis_server.url)
    other.invalidate_tags("unrelated")
    assert [wired.trips(lambda: wired.cache.get("search", "a")) for _ in range(3)] == [2, 1, 1]
    other.invalidate_tags(*(f"unrelated:{number}" for number in range(20)))
    assert [wired.trips(lambda: wired.cache.get("search", "a")) for _ in range(2)] == [1, 1]
    other.invalidate_tags(*(f"unrelated:{number}" for number in range(100)))
    assert [wired.trips(lambda: wired.cache.get("search", "a")) for _ in range(2)] == [2, 1]
    assert wired.cache.get("search", "a") == 1
    other.invalidate_tags("row:1999")
    assert wired.cache.get("search", "a") is None


def test_connect__costs_little(redis_server: Server) -> None:
    """A new connection: a greeting and the check of the server's run, which may have to be loaded, no more."""
    with Proxy(redis_server.port) as proxy:
        kit = Kit(redis_store(proxy.url))
        kit.load(kit.key())
        kit.store.close()
        wait_until(lambda: not redis_server.client().pubsub_channels(), timeout=10, what="the bus is closed")
        before = len(proxy.requests)
        kit.store.read(kit.key(), kit.tags(kit.key()))
        wait_until(lambda: redis_server.client().pubsub_channels() == [b"cache~bus"], timeout=10, what="the bus")

        def greeted_and_attached() -> tuple[int, int]:
            asked = proxy.requests[before:]
            return (
                sum(b"HELLO" in each for each in asked),
                sum(any(part in each for part in sent("attach")) for each in asked),
            )

        wait_until(lambda: len(set(greeted_and_attached())) == 1, timeout=10, what="a check of each connection")
        assert 2 <= greeted_and_attached()[0] <= 3  # the caller's, the bus's, and the maintenance thread's
        rest = [each for each in proxy.requests[before:] if not any(part in each for part in BESIDE)]
        assert len(rest) == 1
        kit.store.close()


def test_hit__server_side_statistics(redis_server: Server) -> None:
    """The server counts one read of its socket for a hit, and three commands."""
    kit = Kit(redis_store(redis_server.url), client=redis_server.client())
    kit.load(kit.key())
    assert kit.value(kit.key()) == b"v"
    client = kit.server()
    client.config_resetstat()
    before = client.info("stats").get("total_reads_processed", 0)
    for _ in range(200):
        kit.read(kit.key())
    reads = client.info("stats")["total_reads_processed"] - before
    stats = client.info("commandstats")
    assert [stats[f"cmdstat_{name}"]["calls"] for name in ("getex", "time")] == [200, stats["cmdstat_time"]["calls"]]
    assert 200 <= stats["cmdstat_zmscore"]["calls"] <= 200 + 10  # a heartbeat's too
    assert 200 <= reads <= 200 + 60  # the client's own, and those of the threads
    kit.store.close()
