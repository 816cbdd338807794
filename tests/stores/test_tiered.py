"""The memory tier in front of Redis: what it may serve, and when it must not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

import flask_rcache.stores.tiered as tiered_module
from flask_rcache import MISSING, CacheManager, CacheType
from flask_rcache.config.settings import load_settings
from flask_rcache.extension import store_of
from flask_rcache.stores.redis.bus import Message
from tests.servers import Server
from tests.stores.proxy import Proxy

KIND = CacheType("kind", ttl=60)
EXACT = KIND.replace(l1_ttl=0)


@pytest.fixture
def tiered(server: Server) -> Iterator[Callable[..., CacheManager]]:
    """Makes managers with a memory tier on one server, as processes of a fleet have them; closed at the end."""
    made: list[CacheManager] = []

    def make(url: str = server.url, **settings: object) -> CacheManager:
        config = {f"RCACHE_{name.upper()}": value for name, value in {"l1_ttl": 30, "timeout": 2, **settings}.items()}
        found = load_settings({**config, "RCACHE_URL": url}, {})
        made.append(CacheManager(found, store_of(found)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True


def warmed(cache: CacheManager, key: str = "k") -> bool:
    """Whether the key is answered from memory, once the bus is heard of."""

    def in_memory() -> bool:
        cache.get(KIND, key)
        return cache.store._cells.get(key_of(key)) is not None  # type: ignore[attr-defined]

    return until(in_memory)


def key_of(key: str) -> str:
    return f"cache:kind:{key}"


def test_tiered__a_hit_in_memory_asks_nobody(server, tiered):
    """Once the bus is known to be alive, hits cost no round trip; what is not in memory costs one."""
    with Proxy(server.port) as proxy:
        cache = tiered(proxy.url)
        cache.set(KIND, "k", {"a": 1})
        assert warmed(cache)

        def asked_for_100_hits() -> int:
            before = len(proxy.requests)
            assert all(cache.get(KIND, "k") == {"a": 1} for _ in range(100))
            return len(proxy.requests) - before

        # On a machine that stands still the bus may be late, and distrusted for a moment.
        assert until(lambda: asked_for_100_hits() <= 4), "the bus's PING and the heartbeat are all that may be sent"
        cache.close()


@pytest.mark.parametrize("means", ["type", "tag", "key", "pattern", "set", "all"])
def test_tiered__an_invalidation_elsewhere_is_heard(tiered, means):
    """Whatever the means, another process's memory gives the old value up; this one's at once."""
    one, other = tiered(), tiered()
    one.set(KIND, "k", "old", tags=["t"])
    assert warmed(one)
    assert warmed(other)
    {
        "type": lambda: one.invalidate_type(KIND),
        "tag": lambda: one.invalidate_tags("t"),
        "key": lambda: one.delete(KIND, "k"),
        "pattern": lambda: one.invalidate_pattern("k*", type=KIND),
        "set": lambda: one.set(KIND, "k", "new"),
        "all": one.clear_all,
    }[means]()
    now = "new" if means == "set" else MISSING
    assert one.get(KIND, "k", MISSING) == now, "the process that invalidated serves nothing older"
    assert until(lambda: other.get(KIND, "k", MISSING) == now), "the bus brings it long before the hold of 30 s ends"


def test_tiered__an_l1_ttl_of_0_is_exact(tiered):
    """With `l1_ttl=0` on the type nothing is held, so nothing old is served for any time."""
    one, other = tiered(), tiered()
    assert [other.get(EXACT, "k") for _ in range(3)] == [None] * 3
    for number in range(50):
        one.set(EXACT, "k", number)
        assert other.get(EXACT, "k") == number
    assert len(other.store._cells) == 0


def test_tiered__a_shorter_hold_at_another_call_site_is_kept(tiered):
    """What one call site keeps for long is not served to one that wants it younger."""
    cache = tiered()
    cache.set(KIND, "k", 1)
    assert warmed(cache)

    def younger_is_refused_and_older_is_not() -> bool:
        assert warmed(cache)
        cell = cache.store._cells.get(key_of("k"))
        now = 0 if cell is None else cell.read_at + 10**8
        answers = [cache.store._recall(key_of("k"), now, hold) is not None for hold in (0.05, 30)]
        assert not answers[0]
        return answers[1]  # unless the bus was distrusted in between

    assert until(younger_is_refused_and_older_is_not)


def test_tiered__a_cut_bus_is_distrusted(server, tiered):
    """The bus's connection is killed: what was held is dropped, and Redis is asked until it is heard of again."""
    one, other = tiered(), tiered()
    one.set(KIND, "k", "old")
    assert warmed(other)
    server.client().client_kill_filter(_type="pubsub")
    assert until(lambda: not other.store._bus.alive(time.monotonic_ns()) or len(other.store._cells) == 0)
    one.set(KIND, "k", "new")
    assert until(lambda: other.get(KIND, "k") == "new")
    assert warmed(other), "and then it is trusted again"


def test_tiered__a_promotion_does_not_overtake_an_invalidation(tiered):
    """An invalidation between Redis's reply and the store into memory: the entry is not kept (FACTS, behaviour 2)."""
    cache = tiered()
    cache.set(KIND, "k", "old")
    assert warmed(cache)
    store = cache.store
    policy = cache.policy(KIND)
    sent = time.monotonic_ns()
    reading = store.redis.read(key_of("k"), policy.ask)
    assert reading.entry is not None
    cache.invalidate_type(KIND)
    store._keep(key_of("k"), reading, sent, 30.0)
    assert cache.get(KIND, "k", MISSING) is MISSING


def test_tiered__a_load_does_not_read_memory(server, tiered):
    """Inside a load Redis is asked: what memory holds may be older than the load (rule R3)."""
    with Proxy(server.port) as proxy:
        cache = tiered(proxy.url)
        cache.set(KIND, "k", 1)
        assert warmed(cache)
        seen: list[int] = []

        def loader() -> int:
            before = len(proxy.requests)
            cache.get(KIND, "k")
            seen.append(len(proxy.requests) - before)
            return 2

        cache.fetch(KIND, "outer", loader)
        assert seen[0] >= 1
        cache.close()


def test_tiered__an_outage_keeps_results_for_a_moment(tiered):
    """No Redis: one load serves this process for `RCACHE_OUTAGE_TTL`, and its own invalidations hold at once."""
    cache = tiered("redis://127.0.0.1:1/0", outage_ttl=30)
    loads: list[int] = []

    def loader() -> int:
        loads.append(1)
        return len(loads)

    assert [cache.fetch(KIND, "k", loader) for _ in range(5)] == [1] * 5
    assert not cache.is_available
    cache.invalidate_type(KIND)
    assert cache.fetch(KIND, "k", loader) == 2
    assert cache.fetch(EXACT, "k", loader) == 3, "a type without a hold keeps nothing"


def test_tiered__what_is_heard_is_bounded(tiered, monkeypatch):
    """A fleet that sets many keys must not fill this process; what is forgotten early takes what it may meet along."""
    monkeypatch.setattr(tiered_module, "_STAMPS_LIMIT", 1000)
    monkeypatch.setattr(tiered_module, "_PATTERNS_LIMIT", 100)
    cache = tiered()
    store = cache.store
    cache.set(KIND, "k", "old", tags=["t"])
    assert warmed(cache)
    reading, sent = store.redis.read(key_of("k"), lambda: ("c:kind", "t:t")), time.monotonic_ns()
    stamp = reading.now + 1
    store._hear(Message("t", stamp, ("t:t",)))
    for number in range(3000):
        store._hear(Message("k", stamp, (key_of(str(number)),)))
    for number in range(300):
        store._hear(Message("p", stamp, (f"cache:other:{number}*",)))
    assert len(store._stamps) <= 1002
    assert len(store._patterns) <= 101
    assert store._cells.get(key_of("k")) is None, "its stamp may be among those forgotten"
    store._keep(key_of("k"), reading, sent, 30.0)
    assert store._cells.get(key_of("k")) is None, "and this was read before that"
    assert warmed(cache)


def test_tiered__a_stamp_is_remembered_as_long_as_an_entry_is_held(tiered):
    """However long a type's hold, what was invalidated in it stays invalid."""
    cache = tiered(l1_ttl=300)
    store = cache.store
    cache.set(KIND, "k", "old")
    assert warmed(cache)
    now = time.monotonic_ns()
    store._hear(Message("t", store._cells.get(key_of("k")).entry.as_of + 1, ("c:kind",)))
    store._forget(now + 200 * 10**9)
    assert store._recall(key_of("k"), time.monotonic_ns(), 300) is None


@pytest.mark.race
def test_tiered__an_idle_process_hardly_asks_anything(server, tiered):
    """PING, heartbeat and counters: fewer than ten commands a second, and next to no CPU, while nothing happens."""
    cache = tiered(server.url)
    cache.set(KIND, "k", 1)
    assert warmed(cache)
    time.sleep(0.5)
    with server.client() as client:
        asked = client.info("stats")["total_commands_processed"]
        cpu = time.process_time()
        time.sleep(2.0)
        asked = client.info("stats")["total_commands_processed"] - asked - 1
        cpu = time.process_time() - cpu
    assert asked < 30, f"{asked / 2:.0f} commands a second"
    assert cpu < 0.2
