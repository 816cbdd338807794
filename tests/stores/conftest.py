"""The stores under test: memory, and Redis and Valkey as real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_rcache import CacheManager
from tests.servers import Server
from tests.stores.kit import Kit, manager, memory_kit, redis_store
from tests.twenty.kit import cache_on


def _kits(server: Server, url: str) -> Iterator[Kit]:
    opened = [redis_store(url)]

    def connect():
        opened.append(redis_store(url))
        return opened[-1]

    yield Kit(opened[0], client=server.client(), connect=connect)
    for store in opened:
        store.close()


@pytest.fixture(params=["redis", "valkey", "valkey-unix"])
def shared_kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """A Redis store on each server, one of them over its unix socket."""
    flavour, _, transport = request.param.partition("-")
    server: Server = request.getfixturevalue(f"{flavour}_server")
    yield from _kits(server, server.socket_url if transport else server.url)


@pytest.fixture(params=["memory", "redis", "valkey", "valkey-unix"])
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """Every store in turn, empty."""
    if request.param == "memory":
        made = memory_kit()
        yield made
        made.store.close()
        return
    flavour, _, transport = request.param.partition("-")
    server: Server = request.getfixturevalue(f"{flavour}_server")
    yield from _kits(server, server.socket_url if transport else server.url)


@pytest.fixture
def caches() -> Iterator[Callable[..., CacheManager]]:
    """Makes caches, `caches(url, **config)`, and closes them."""
    made: list[CacheManager] = []

    def make(url: str, **config: Any) -> CacheManager:
        made.append(manager(url, **config))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


@pytest.fixture
def tiers() -> Iterator[Callable[..., CacheManager]]:
    """Makes caches as apps have them, a memory tier in front of Redis, `tiers(url, **config)`, and closes them."""
    made: list[CacheManager] = []

    def make(url: str, **config: Any) -> CacheManager:
        made.append(cache_on(url, **{"l1_ttl": 2, **config}))
        return made[-1]

    yield make
    for cache in made:
        cache.close()
