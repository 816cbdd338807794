"""The stores under test: memory, and Redis and Valkey as real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import Server
from tests.stores.kit import Kit, manager, memory_kit, redis_store

if TYPE_CHECKING:
    from flask_rcache import CacheManager
    from flask_rcache.stores.protocol import Store


def _shared(server: Server, url: str, **options: Any) -> Iterator[Kit]:
    opened = [redis_store(url, **options)]

    def connect() -> Store:
        opened.append(redis_store(url, **options))
        return opened[-1]

    yield Kit(opened[0], client=server.client(), connect=connect)
    for store in opened:
        store.close()


def _kits(request: pytest.FixtureRequest, **options: Any) -> Iterator[Kit]:
    if request.param == "memory":
        made = memory_kit(**options)
        yield made
        made.store.close()
        return
    flavour, _, transport = request.param.partition("-")
    server: Server = request.getfixturevalue(f"{flavour}_server")
    yield from _shared(server, server.socket_url if transport else server.url, **options)


@pytest.fixture(params=["redis", "valkey", "valkey-unix"])
def shared_kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """A Redis store on each server, one of them over its unix socket."""
    yield from _kits(request)


@pytest.fixture(params=["memory", "redis", "valkey", "valkey-unix"])
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """Every store in turn, empty."""
    yield from _kits(request)


#: Rows of the stamp set in :func:`narrow_kit`.
FEW_ROWS = 20


@pytest.fixture(params=["memory", "redis", "valkey"])
def narrow_kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """Every store in turn, with room for a few rows of stamps only."""
    yield from _kits(request, max_stamps=FEW_ROWS)


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
    from tests.twenty.kit import cache_on

    made: list[CacheManager] = []

    def make(url: str, **config: Any) -> CacheManager:
        made.append(cache_on(url, **{"l1_ttl": 2, **config}))
        return made[-1]

    yield make
    for cache in made:
        cache.close()
