"""Two processes of a fleet, on every kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_rcache import CacheManager
from tests.servers import Server
from tests.twenty.kit import cache_on

#: The stores, and seconds the memory tier in front of it holds an entry.
STORES = {"memory": 0, "redis": 0, "tiered": 2}

Fleet = Callable[..., tuple[CacheManager, CacheManager]]


@pytest.fixture
def caches() -> Iterator[Callable[..., CacheManager]]:
    """Makes caches, as `kit.cache_on`, and closes them."""
    made: list[CacheManager] = []

    def make(url: str = "memory://", **config: Any) -> CacheManager:
        made.append(cache_on(url, **config))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """The name of each kind of store in turn."""
    return str(request.param)


@pytest.fixture
def fleet(store: str, request: pytest.FixtureRequest, caches: Callable[..., CacheManager]) -> Fleet:
    """Makes two caches on one store, as two processes have them; `memory://` has one, which is both.

    The tiers are in front of Valkey, and Redis is without: so both kinds of server take part.
    """

    def make(**config: Any) -> tuple[CacheManager, CacheManager]:
        if store == "memory":
            cache = caches(**config)
            return cache, cache
        server: Server = request.getfixturevalue("valkey_server" if store == "tiered" else "redis_server")
        here, there = (caches(server.url, l1_ttl=STORES[store], **config) for _ in range(2))
        return here, there

    return make
