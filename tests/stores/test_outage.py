"""What an outage leaves behind: nothing that is wrong once Redis is back, and no clock but the store's (rule R2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flask_rcache import CacheManager, CacheType
from flask_rcache.stores.redis.scripts import load
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import manager
from tests.stores.proxy import Proxy
from tests.twenty.kit import KIND, Act, SlowLoader

pytestmark = pytest.mark.chaos

Tiers = Callable[..., CacheManager]
WHOLE = CacheType("whole", ttl=600)
MIDDLE = CacheType("middle", ttl=600)


class Line:
    """A cache behind a proxy that can be cut: others reach Redis all the while."""

    def __init__(self, cache: CacheManager, proxy: Proxy) -> None:
        self.cache = cache
        self._proxy = proxy

    def cut(self) -> None:
        self._proxy.cut()
        wait_until(self._is_noticed, timeout=10, what="the outage")

    def _is_noticed(self) -> bool:
        self.cache.get(MIDDLE, "nothing")
        return not self.cache.is_available

    def mend(self) -> None:
        self._proxy.mend()
        wait_until(lambda: self.cache.is_available, timeout=10, what="recovered")

    @contextmanager
    def away(self) -> Iterator[None]:
        self.cut()
        try:
            yield
        finally:
            self.mend()


@pytest.fixture
def line(redis_server: Server, tiers: Tiers) -> Iterator[Line]:
    """A cache with a memory tier whose way to Redis can be cut."""
    with Proxy(redis_server.port) as proxy:
        cache = tiers(proxy.url)
        cache.set(KIND, "warm", 1)
        yield Line(cache, proxy)
        cache.close()


@pytest.fixture
def other(redis_server: Server, tiers: Tiers) -> CacheManager:
    """Another process's cache, which reaches Redis always."""
    return tiers(redis_server.url)


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_outage__a_load_begun_in_it_is_not_for_who_comes_after_it(line: Line, other: CacheManager, again: bool) -> None:
    """It did not hear what others invalidated since; who comes after that gets what is true now."""
    here, slow = line.cache, SlowLoader("old")
    with line.away():
        first = Act(lambda: here.fetch(KIND, "k", slow, tags=["t"]))
        assert slow.begun.wait(10)
    other.invalidate_tags("t")
    late = Act(lambda: here.fetch(KIND, "k", lambda: "new", tags=["t"]))
    if again:
        with line.away():
            slow.go.set()
            assert first.result() == "old"
    slow.go.set()
    assert first.result() == "old"
    assert late.result() == "new"
    assert other.get(KIND, "k") in (None, "new")
    assert here.get(KIND, "k") in (None, "new")


@pytest.mark.parametrize("between", [False, True], ids=["direct", "through one that was not stored"])
def test_outage__what_was_loaded_in_it_gets_into_nothing_that_is_stored(
    line: Line, other: CacheManager, between: bool
) -> None:
    """A part that was loaded while Redis was away knows this process's clock only: the whole is not stored."""
    here = line.cache
    inside: list[bool] = []

    def part() -> str:
        def loader() -> str:
            inside.append(True)
            return "old"

        with line.away():
            return here.fetch(KIND, "part", loader, tags=["t"])

    def middle() -> str:
        return here.fetch(MIDDLE, "m", part)

    assert here.fetch(WHOLE, "w", middle if between else part) == "old"
    assert inside
    other.invalidate_tags("t")
    assert [other.get(WHOLE, "w"), other.get(MIDDLE, "m"), other.get(KIND, "part")] == [None] * 3


def test_outage__what_another_thread_loads_in_it(line: Line, other: CacheManager) -> None:
    """A whole that begins before the outage and takes a part which another thread loads in it is not stored."""
    here, slow = line.cache, SlowLoader("old")
    shared: list[Act[str]] = []

    def whole() -> str:
        with line.away():
            shared.append(Act(lambda: here.fetch(KIND, "part", slow, tags=["t"])))
            assert slow.begun.wait(10)
            Act(slow.go.set)
            return here.fetch(KIND, "part", lambda: "old", tags=["t"])

    assert here.fetch(WHOLE, "w", whole) == "old"
    assert shared[0].result() == "old"
    assert other.get(WHOLE, "w") is None


def test_outage__a_read_under_way_does_not_bring_back_what_was_invalidated(line: Line) -> None:
    """What this process invalidated while Redis was away is gone here at once, for what is being read as well."""
    cache = line.cache
    cache.set(KIND, "k", "old", tags=["t"])
    store: Any = cache.engine.store
    wait_until(lambda: store.redis.bus.state == "alive", timeout=10, what="the bus")
    real = store.redis.read

    def overtaken(*args: object) -> Any:
        store.redis.read = real
        lookup = real(*args)
        line.cut()
        assert cache.invalidate_tags("t").journalled
        return lookup

    store.redis.read = overtaken
    cache.get(KIND, "k")  # it was asked for before
    assert store.recall("cache:kind:k", 60.0) is None
    assert cache.get(KIND, "k") is None
    line.mend()
    assert cache.get(KIND, "k") is None


def test_outage__ends_although_the_app_writes_all_the_time(private_server: Callable[..., Server]) -> None:
    """Each journalled invalidation leaves the time of the next probe as it is."""
    server = private_server()
    cache = manager(server.url, timeout=0.25)
    cache.set("search", "a", 1)
    server.kill()
    assert cache.invalidate_tags("eu").journalled
    server.restart()
    deadline = time.monotonic() + 10
    while cache.invalidate_tags("eu").journalled:
        assert time.monotonic() < deadline, "the store was never probed"
    cache.close()


@pytest.mark.parametrize("script", ["begin", "fill", "release"])
def test_outage__nobody_waits_for_a_lease_whose_answer_was_lost(
    redis_server: Server, tiers: Tiers, script: str
) -> None:
    """Redis did it, and the answer was lost: the lease that nobody knows of is given back, long before it runs out."""
    with Proxy(redis_server.port) as proxy, redis_server.client() as client:
        here, other = tiers(proxy.url, lease=60), tiers(redis_server.url, lease=60)
        here.fetch(KIND, "warm", lambda: 1)
        warm_up_release(here)
        proxy.unanswered = load(script).packed([], [])[:-1].split(b"\r\n")[4]
        assert here.fetch(KIND, "k", lambda: "here", keep=lambda value: script != "release") == "here"
        proxy.unanswered = b""
        wait_until(lambda: here.is_available, timeout=10, what="it is asked again")
        began = time.monotonic()
        assert other.fetch(KIND, "k", lambda: "here") == "here"
        assert time.monotonic() - began < 20
        wait_until(lambda: not client.exists(f"cache~lease:{KIND.name}:k"), timeout=10, what="no lease is left")


def warm_up_release(cache: CacheManager) -> None:
    """Have the server know the script by its hash, as it does in production."""
    cache.fetch(KIND, "not kept", lambda: 1, keep=lambda value: False)
