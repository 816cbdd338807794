"""The hold of a memory tier in the moments that a race hardly ever meets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from flask_rcache import CacheManager, CacheType
from flask_rcache.config.settings import load_settings
from flask_rcache.extension import store_of
from tests.servers import Server

KIND = CacheType("kind", ttl=60)


@pytest.fixture
def worker() -> Iterator[Callable[..., CacheManager]]:
    """Makes managers with a memory tier, as processes of a fleet have them; closed at the end."""
    made: list[CacheManager] = []

    def make(server: Server, **settings: float) -> CacheManager:
        found = load_settings({"RCACHE_URL": server.url, **{f"RCACHE_{n.upper()}": v for n, v in settings.items()}}, {})
        made.append(CacheManager(found, store_of(found)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.race
@pytest.mark.chaos
def test_hold__during_an_outage__is_counted_from_the_beginning_of_the_load(worker, private_server):
    """A slow load reads its data at once and returns late: what it read is served for `l1_ttl`, not for longer."""
    server, hold, slowness = private_server(), 2.0, 1.0
    cache = worker(server, l1_ttl=hold, outage_ttl=30, timeout=0.25)
    cache.get(KIND, "k")
    server.kill()
    cache.get(KIND, "k")
    assert not cache.is_available

    def served_from_memory(key: str) -> bool:
        """Read until the second load; the first one's value must not be served beyond the hold."""
        began: list[float] = []

        def load() -> int:
            began.append(time.monotonic())
            time.sleep(slowness)
            return len(began)

        asked: list[float] = []
        while len(began) < 2:
            asked.append(time.monotonic())
            cache.fetch(KIND, key, load)
        held = asked[1:-1]  # the first and the last one loaded
        assert not held or held[-1] - began[0] <= hold
        return bool(held)

    assert any(served_from_memory(f"k{attempt}") for attempt in range(5)), "nothing was held at all"
