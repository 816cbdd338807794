"""7: a Redis that evicts what it likes (allkeys-lru) causes misses, never stale answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_rcache import CacheManager
from tests.servers import Server
from tests.twenty.kit import KIND, MEANS, invalidate, there


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_behaviour_07__allkeys_lru(
    private_server: Callable[..., Server], caches: Callable[..., CacheManager], flavour: str
) -> None:
    """Under constant eviction every means invalidates, and what is evicted is a miss that is loaded again."""
    server = private_server(flavour, maxmemory_policy="allkeys-lru")
    client = server.client()
    memory: Any = client.info("memory")
    client.config_set("maxmemory", memory["used_memory"] + 2_500_000)
    here, other = (caches(server.url) for _ in range(2))

    def evicted() -> int:
        stats: Any = client.info("stats")
        return int(stats["evicted_keys"])

    def press() -> None:
        """Write as much as there is room for, and so have the server evict."""
        before = evicted()
        pipeline = client.pipeline(transaction=False)
        for number in range(150):
            pipeline.set(f"theirs:{number}", "x" * 20_000)
        pipeline.execute()
        assert evicted() > before

    for number in range(4):
        for means in MEANS:
            here.fetch(KIND, "k", lambda: "old", tags=["t"])
            invalidate(other, means)
            press()
            assert not any(there(cache) for cache in (here, other)), (number, means)
        here.fetch(KIND, "k", lambda: "old", tags=["t"])
        client.delete("cache~stamps", "cache~index:kind")  # whatever it has chosen so far: these, too
        press()
        assert not there(here)
    assert here.fetch(KIND, "k", lambda: "new", tags=["t"]) == "new"
    assert here.is_available
    assert other.is_available
