"""2: an invalidation between the reply of Redis and the store into the memory tier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_rcache import CacheManager
from tests.processes import wait_until
from tests.servers import Server
from tests.twenty.kit import KIND, MEANS, PATIENCE, invalidate, there

HOLD = 300


def held(cache: CacheManager, key: str) -> bool:
    """Whether the memory tier answers for the key, now or after this read of it."""
    there(cache, key)
    return cache.engine.store.recall(f"cache:{KIND.name}:{key}", HOLD) is not None


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("heard", ["before the store", "after the store"])
def test_behaviour_02__invalidated_while_it_is_promoted(
    any_server: Server, caches: Callable[..., CacheManager], means: str, heard: str
) -> None:
    """Whether the message comes before the entry is in memory or after, it is not served for the rest of its hold."""
    here, other = (caches(any_server.url, l1_ttl=HOLD) for _ in range(2))
    for key in ("k", "k-marker"):
        other.set(KIND, key, "old", tags=["t"])
    wait_until(lambda: held(here, "k-marker"), timeout=PATIENCE, what="the bus is trusted")
    redis: Any = here.engine.store.redis  # type: ignore[attr-defined]
    real = redis.read

    def read_and_be_overtaken(*arguments: Any) -> Any:
        reply = real(*arguments)
        redis.read = real
        invalidate(other, means)
        if means == "key":  # after the other: its message comes after the other's too
            other.delete(KIND, "k-marker")
        if heard == "before the store":
            wait_until(lambda: not there(here, "k-marker"), timeout=PATIENCE, what="the message has come")
        return reply

    redis.read = read_and_be_overtaken
    assert here.get(KIND, "k") == "old"
    if heard == "before the store":
        assert not there(here)
    wait_until(lambda: not there(here), timeout=PATIENCE, what="gone long before its hold ends")
