"""What an outage leaves behind: nothing that is wrong once Redis is back, and no clock but the store's (rule R2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flask_rcache import CacheManager, CacheType
from flask_rcache.errors import StoreUnavailableError
from tests.processes import wait_until
from tests.servers import Server
from tests.twenty.kit import KIND, Act, SlowLoader

Tiers = Callable[..., CacheManager]
WHOLE = CacheType("whole", ttl=600)
MIDDLE = CacheType("middle", ttl=600)


@contextmanager
def away(cache: CacheManager) -> Iterator[None]:
    """Redis cannot be reached from this process for as long as the block lasts; others reach it."""
    redis: Any = cache.store.redis  # type: ignore[attr-defined]
    redis._recover = lambda: None
    redis._breaker.trip(StoreUnavailableError("a stall"))
    try:
        yield
    finally:
        del redis._recover
        redis._recover()
        assert cache.is_available


def waiters(cache: CacheManager, key: str) -> int:
    flight = cache.loading._flights._flights.get(f"cache:kind:{key}")
    return 0 if flight is None else len(flight.approaching._cond._waiters)  # type: ignore[attr-defined]


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_outage__a_load_begun_in_it_is_not_for_who_comes_after_it(
    redis_server: Server, tiers: Tiers, again: bool
) -> None:
    """It has not heard what others invalidated since; who comes after that gets what is true now."""
    here, other = tiers(redis_server.url), tiers(redis_server.url)
    slow = SlowLoader("old")
    with away(here):
        first = Act(lambda: here.fetch(KIND, "k", slow, tags=["t"]))
        assert slow.begun.wait(10)
    other.invalidate_tags("t")
    late = Act(lambda: here.fetch(KIND, "k", lambda: "new", tags=["t"]))
    wait_until(lambda: waiters(here, "k") == 1, timeout=10, what="somebody who waits")
    if again:
        with away(here):
            slow.go.set()
            assert first.result() == "old"
    slow.go.set()
    assert first.result() == "old"
    assert late.result() == "new"


@pytest.mark.parametrize("between", [False, True], ids=["direct", "through one without a grant"])
def test_outage__its_clock_does_not_get_into_redis(redis_server: Server, tiers: Tiers, between: bool) -> None:
    """A part that was loaded while Redis was away bears a worker's clock; the whole in Redis bears the store's only."""
    here, other = tiers(redis_server.url), tiers(redis_server.url)
    store: Any = here.store
    clock = store._outage._read_clock
    store._outage._read_clock = lambda: clock() + 60 * 1_000_000
    inside: list[bool] = []

    def loader() -> str:
        inside.append(True)
        return "old"

    def part() -> str:
        def refused(*_: object) -> Any:
            del store.redis.begin
            outage.__enter__()
            raise StoreUnavailableError("READONLY")

        outage = away(here)
        store.redis.begin = refused
        try:
            return here.fetch(KIND, "part", loader, tags=["t"])
        finally:
            outage.__exit__(None, None, None)

    def middle() -> str:
        def refused(*_: object) -> Any:
            del store.redis.read
            raise StoreUnavailableError("one blink")

        store.redis.read = refused
        return here.fetch(MIDDLE, "m", part)

    assert here.fetch(WHOLE, "w", middle if between else part) == "old"
    assert inside
    other.invalidate_tags("t")
    assert other.get(WHOLE, "w") is None


def test_outage__what_came_of_one_is_not_stored_with_another_s_clock(redis_server: Server, tiers: Tiers) -> None:
    """A whole that begins before the outage and takes a part which another thread loads in it is not stored."""
    here, other = tiers(redis_server.url), tiers(redis_server.url)
    slow = SlowLoader("old")
    shared: list[Act[str]] = []

    def let_go() -> None:
        wait_until(lambda: waiters(here, "part") == 1, timeout=10, what="a wait")
        slow.go.set()

    def whole() -> str:
        with away(here):
            shared.append(Act(lambda: here.fetch(KIND, "part", slow, tags=["t"])))
            assert slow.begun.wait(10)
            Act(let_go)
            return here.fetch(KIND, "part", lambda: "mine", tags=["t"])

    assert here.fetch(WHOLE, "w", whole) == "old"
    assert shared[0].result() == "old"
    assert other.get(WHOLE, "w") is None


def test_outage__a_read_under_way_does_not_bring_back_what_was_invalidated(redis_server: Server, tiers: Tiers) -> None:
    """What this process invalidated while Redis was away is gone here at once, for what is being read as well."""
    cache = tiers(redis_server.url, l1_ttl=30)
    store: Any = cache.store
    cache.set(KIND, "k", "old", tags=["t"])

    def in_memory() -> bool:
        cache.get(KIND, "k")
        return store._cells.get("cache:kind:k") is not None

    wait_until(in_memory, timeout=10, what="the bus")
    store._cells.clear()
    real = store.redis.read

    def overtaken(*args: object) -> Any:
        del store.redis.read
        reading = real(*args)
        store.redis._recover = lambda: None
        store.redis._breaker.trip(StoreUnavailableError("a stall"))
        cache.invalidate_tags("t")
        return reading

    store.redis.read = overtaken
    assert cache.get(KIND, "k") == "old", "it was asked for before"
    assert store._cells.get("cache:kind:k") is None
    del store.redis._recover
