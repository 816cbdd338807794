"""The stores under test: memory, and Redis and Valkey as real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from flask_rcache.stores.protocol import Store
from tests.clusters import Cluster
from tests.servers import Server
from tests.stores.kit import Kit, cluster_store, manager, memory_kit, redis_store, sealed, tiered_store

if TYPE_CHECKING:
    from flask_rcache import CacheManager


#: Every store: memory, Redis on each server and, with sealed entries, over a unix socket, and a memory tier in front.
STORES = ["memory", "redis", "valkey", "valkey-unix-sealed", "valkey-tiered"]
#: The same suite runs on clusters, in a file of its own.
CLUSTER_STORES = ["redis-cluster", "valkey-cluster-tiered-sealed"]


def kits(request: pytest.FixtureRequest, **options: Any) -> Iterator[Kit]:
    if request.param == "memory":
        made = memory_kit(**options)
        yield made
        made.store.close()
        return
    flavour, _, kind = request.param.partition("-")
    if "sealed" in kind:
        options |= sealed()
    if kind.startswith("cluster"):
        yield from _cluster_kits(request.getfixturevalue(f"{flavour}_cluster"), "tiered" in kind, **options)
        return
    server: Server = request.getfixturevalue(f"{flavour}_server")
    opened: list[Store] = []

    def connect() -> Store:
        make: Callable[..., Store] = tiered_store if kind == "tiered" else redis_store
        opened.append(make(server.socket_url if "unix" in kind else server.url, **options))
        return opened[-1]

    yield Kit(connect(), client=server.client(), connect=connect, l1_ttl=30.0 if kind == "tiered" else 0.0)
    for store in opened:
        store.close()


def _cluster_kits(cluster: Cluster, is_tiered: bool, **options: Any) -> Iterator[Kit]:
    opened: list[Store] = []

    def connect() -> Store:
        opened.append(cluster_store(cluster.url, memory_bytes=64 * 1024 * 1024 if is_tiered else 0, **options))
        return opened[-1]

    yield Kit(connect(), connect=connect, cluster=cluster, l1_ttl=30.0 if is_tiered else 0.0)
    for store in opened:
        store.close()


@pytest.fixture(params=["redis", "valkey", "valkey-unix"])
def shared_kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """A Redis store on each server, one of them over its unix socket."""
    yield from kits(request)


@pytest.fixture(params=STORES)
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """Every store in turn, empty."""
    yield from kits(request)


#: Rows of the stamp set in :func:`narrow_kit`.
FEW_ROWS = 20


@pytest.fixture(params=["memory", "redis", "valkey", "valkey-tiered"])
def narrow_kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """Every store in turn, with room for a few rows of stamps only."""
    yield from kits(request, max_stamps=FEW_ROWS)


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
