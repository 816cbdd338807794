"""The time budget of a request: a store that answers, but too slowly, costs each request two timeouts in all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from flask_rcache import CacheManager, CacheType, RCache, cache_response, current_cache
from tests.chaos.sluggish import Sluggish
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import manager

KIND = CacheType("kind", ttl=60, l1_ttl=0)


@pytest.fixture
def proxy(redis_server: Server) -> Iterator[Sluggish]:
    with Sluggish(redis_server.port) as made:
        yield made


@pytest.fixture
def shop(proxy: Sluggish) -> Iterator[Flask]:
    """An app whose page reads the cache ten times and invalidates, and whose timeout is 0.4 s."""
    app = Flask("shop")
    app.config.update(RCACHE_URL=proxy.url, RCACHE_TIMEOUT=0.4, SECRET_KEY="s")
    RCache(app, types=[KIND])

    @app.get("/page")
    @cache_response(KIND)
    def page() -> str:
        return many()

    def many() -> str:
        for number in range(10):
            current_cache.fetch(KIND, number, lambda: 1)
        current_cache.invalidate_tags("x")
        return "done"

    app.add_url_rule("/many", view_func=many)
    yield app
    app.extensions["rcache"].close()


def cache_of(app: Flask) -> CacheManager:
    found: CacheManager = app.extensions["rcache"]
    return found


def took(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


@pytest.mark.chaos
@pytest.mark.parametrize("path", ["/page", "/many"])
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "to connect"])
def test_budget__a_slow_store(shop: Flask, proxy: Sluggish, path: str, connected: bool) -> None:
    """Each answer a little below the timeout: without a budget the request would wait for more than three seconds."""
    client = shop.test_client()
    if connected:
        assert client.get(path).status_code == 200
        cache_of(shop).clear_all()
    proxy.delay = 0.3
    seconds = took(lambda: client.get(path))
    assert 0.25 < seconds < 1.6  # two timeouts, and what a busy machine adds
    assert not cache_of(shop).is_available
    assert min(took(lambda: client.get(path)) for _ in range(3)) < 0.25  # nobody waits any more
    proxy.delay = 0.0
    wait_until(lambda: cache_of(shop).is_available, timeout=20, what="the store is prompt again")
    assert cache_of(shop).overview()["journal"]["pending"] == 0
    assert client.get("/many").data == b"done"


@pytest.mark.chaos
def test_budget__stays_open_while_it_is_slow(shop: Flask, proxy: Sluggish) -> None:
    """A probe that is answered slowly does not bring the waiting back; but what is journalled is delivered."""
    client = shop.test_client()
    client.get("/many")
    proxy.delay = 0.3
    client.get("/many")
    cache = cache_of(shop)
    assert not cache.is_available
    cache.invalidate_tags("y")
    wait_until(lambda: cache.overview()["journal"]["pending"] == 0, timeout=20, what="the journal is delivered")
    assert not cache.is_available
    slow = sum(took(lambda: client.get("/many")) > 0.25 for _ in range(20))
    assert slow <= 2  # not one in two, as it would be if each probe brought the waiting back


@pytest.mark.chaos
def test_budget__outside_of_a_request(shop: Flask, proxy: Sluggish) -> None:
    """A script has no budget: it gets its answers."""
    with shop.app_context():
        current_cache.set(KIND, "a", 1)
        proxy.delay = 0.1
        assert [current_cache.get(KIND, "a") for _ in range(12)] == [1] * 12
    assert cache_of(shop).is_available


@pytest.mark.chaos
def test_budget__a_walk_takes_its_time(shop: Flask, proxy: Sluggish) -> None:
    """A pattern over many keys takes many answers; that it is long does not say that the store is sick."""
    cache = cache_of(shop)
    cache.set_many(KIND, dict.fromkeys(range(3000), 1))
    proxy.delay = 0.1

    @shop.post("/sweep")
    def sweep() -> str:
        return f"{current_cache.invalidate_pattern('kind:*')} {len(list(current_cache.entries()))}"

    assert shop.test_client().post("/sweep").data == b"3000 0"
    assert cache.is_available


@pytest.mark.chaos
def test_budget__each_request_has_its_own(shop: Flask, proxy: Sluggish) -> None:
    """What one request has waited is not held against the next."""
    client = shop.test_client()

    @shop.get("/one")
    def one() -> str:
        return str(current_cache.get(KIND, 3))

    client.get("/one")
    proxy.delay = 0.15
    assert [client.get("/one").status_code for _ in range(8)] == [200] * 8
    assert cache_of(shop).is_available


@pytest.mark.chaos
def test_timeout__bounds_a_whole_answer(redis_server: Server) -> None:
    """An answer that trickles is late as a whole, though no part of it is; without that it would take ten seconds."""
    with Sluggish(redis_server.port) as slow:
        cache = manager(slow.url, timeout=0.5)
        cache.set(KIND, "long", os.urandom(20_000))
        assert cache.get(KIND, "long") is not None
        slow.delay, slow.drop = 0.1, 200
        assert took(lambda: cache.get(KIND, "long")) < 5
        assert not cache.is_available
        slow.delay, slow.drop = 0.0, 0
        cache.close()
