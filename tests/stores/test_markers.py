"""A background refresh that finds the marker which an earlier load of the key left: it goes on all the same."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from flask_rcache import CacheManager, CacheType
from tests.processes import wait_until
from tests.servers import Server

STALE = CacheType("stale", ttl=0.001, stale_while_revalidate=600)
Caches = Callable[..., CacheManager]


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest, caches: Caches) -> CacheManager:
    return caches("memory://" if request.param == "memory" else request.getfixturevalue("redis_server").url)


@pytest.mark.parametrize("how", ["failed", "not to be stored"])
def test_refresh__a_marker_does_not_stop_it(cache: CacheManager, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """One failure must not stop every later refresh: who looks prolongs the marker each time."""
    caplog.set_level(logging.CRITICAL)
    cache.fetch(STALE, "k", lambda: "old")
    loaded = threading.Event()

    def spoilt() -> str:
        loaded.set()
        if how == "failed":
            raise ValueError("the database is away for a moment")
        return "not to be stored"

    def keep(value: str) -> bool:
        return value != "not to be stored"

    def looked_at() -> bool:
        assert cache.fetch(STALE, "k", spoilt, keep=keep) == "old"
        return loaded.is_set()

    wait_until(looked_at, timeout=10, what="a refresh that comes to nothing")
    wait_until(lambda: cache.fetch(STALE, "k", lambda: "new") == "new", timeout=20, what="a later refresh")


def test_refresh__its_marker_ends_with_the_fill(redis_server: Server, caches: Caches) -> None:
    """What an earlier load left behind is gone once a value is stored, and nothing is renewed that nobody loads."""
    cache = caches(redis_server.url)
    client = redis_server.client()

    def failing() -> str:
        raise ValueError("the database is away for a moment")

    with pytest.raises(ValueError, match="away"):
        cache.fetch("search", "k", failing)
    assert client.exists("cache~lease:search:k")
    assert cache.fetch("search", "k", lambda: "v") == "v"
    assert not client.exists("cache~lease:search:k")
    assert cache.get("search", "k") == "v"
