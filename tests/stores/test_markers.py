"""A background refresh that finds the marker which an earlier load of the key left: it goes on all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_rcache import CacheManager, CacheType
from flask_rcache.stores import RedisStore
from flask_rcache.stores.protocol import Reading

STALE = CacheType("stale", ttl=0.001, stale_while_revalidate=600)
Caches = Callable[..., CacheManager]


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest, caches: Caches) -> CacheManager:
    return caches("memory://" if request.param == "memory" else request.getfixturevalue("redis_server").url)


@pytest.mark.parametrize("failed", [True, False], ids=["failed", "not to be kept"])
def test_take__a_marker_does_not_stop_it(cache: CacheManager, failed: bool) -> None:
    """One failure must not stop every later refresh: begin prolongs the marker each time that somebody looks."""
    cache.fetch(STALE, "k", lambda: "old")
    policy, stored = cache.registry.policy(STALE), cache.names.stored("stale", "k")

    def look() -> Reading | None:
        return cache.loading.look(policy, stored)

    load = cache.loading.take(policy, stored, look())
    assert load is not None
    if failed:
        cache.loading.abandon(load, error=ValueError("the database blinked"))
    else:
        cache.loading.abandon(load, pass_for=2.0)
    again = cache.loading.take(policy, stored, look())
    assert again is not None
    assert again.flight is not None, "still one at a time in a process"
    assert cache.loading.take(policy, stored, look()) is None
    cache._run(policy, again, {}, lambda: "new")
    fresh = cache.loading.take(policy, stored, look())
    assert fresh is not None, "the marker is gone with the fill"
    assert not fresh.grant.failed
    cache.loading.abandon(fresh)
    if isinstance(cache.store, RedisStore):
        assert not cache.store._held, "nothing is renewed that nobody loads"
