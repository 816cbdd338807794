"""Bounded space: what is kept beside entries is bounded by the entries that live, under every eviction policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_rcache import CacheManager, CacheType
from flask_rcache.model.keys import Names
from tests.processes import wait_until
from tests.servers import Server

pytestmark = pytest.mark.chaos

POLICIES = [
    "noeviction",
    *(f"{keys}-{which}" for keys in ("volatile", "allkeys") for which in ("lru", "lfu", "random")),
    "volatile-ttl",
]
NAMES, KIND = Names(), CacheType("query", l1_ttl=0)
NEIGHBOURS, BATCHES, BATCH = 100, 12, 1000


@pytest.mark.parametrize("policy", POLICIES)
def test_space__many_more_values_than_find_room(
    private_server: Callable[..., Server], caches: Callable[..., CacheManager], policy: str
) -> None:
    """The index and the rows do not outgrow the entries, a neighbour keeps what is his, and new values are stored."""
    server = private_server("redis", maxmemory="3mb", maxmemory_policy=policy)
    client: Any = server.client()
    for number in range(NEIGHBOURS):
        client.set(f"orders:{number}", b"x" * 1000)
    cache = caches(server.url)
    for batch in range(BATCHES):
        values = {f"{batch}:{number}": {"id": number, "name": "x" * 60} for number in range(BATCH)}
        cache.set_many(KIND, values, ttl=86_400, tags=[f"batch:{batch}"])
    living = sum(1 for _ in client.scan_iter("cache:query:*", count=1000))
    assert living > 500
    if not policy.startswith("allkeys"):  # there the index itself may go
        assert living <= client.zcard(NAMES.index("query")) <= 2.5 * living + 500
        assert client.zcard(NAMES.stamps) <= 2 * (BATCHES + 2) + 20
        assert sum(1 for _ in client.scan_iter("orders:*", count=1000)) == NEIGHBOURS
    if policy == "noeviction":
        more = {f"more:{number}": {"id": number, "name": "x" * 60} for number in range(BATCH)}

        def is_full() -> bool:  # a probe that is small enough may have found room meanwhile
            cache.set_many(KIND, more, ttl=86_400)
            return not cache.is_available

        wait_until(is_full, timeout=10, what="it is full, and says so")
        cache.invalidate_tags("batch:0")
        client.config_set("maxmemory", "20mb")
    # Of everything, the server may evict what a write of the cache's needs; then the next one finds it made anew.
    wait_until(lambda: cache.set(KIND, "last", 1) and cache.get(KIND, "last") == 1, timeout=10, what="it is stored")
    cache.clear_all()
    assert cache.get(KIND, "last") is None
