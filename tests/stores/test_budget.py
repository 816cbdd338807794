"""The time budget of a request: a store that answers, but too slowly, costs each request two timeouts in all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextvars import copy_context

import pytest
from flask import Flask

from flask_rcache import CacheType, RCache, cache_response, current_cache
from flask_rcache.errors import StoreUnavailableError
from flask_rcache.model.scope import Scope
from flask_rcache.stores.redis.budget import Budget
from tests.chaos.sluggish import Sluggish
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.transport import Transport, request

TIMEOUT = 0.4


@pytest.fixture
def slow(redis_server: Server) -> Iterator[Sluggish]:
    with Sluggish(redis_server.port) as made:
        yield made


@pytest.fixture
def transport(slow: Sluggish) -> Iterator[Transport]:
    made = Transport(slow.url, timeout=TIMEOUT)
    yield made
    made.pool.close()


def asked(transport: Transport, number: int) -> int:
    """How many of so many commands are answered."""
    answered = 0
    for _ in range(number):
        try:
            answered += transport.ask("PING") == b"PONG"
        except StoreUnavailableError:
            continue
    return answered


def took(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def test_budget__what_is_left() -> None:
    """Outside of a request there is none; in one, what it has waited is taken off."""
    budget = Budget(0.5)
    assert [budget.left] == [None]
    with request() as scope:
        assert budget.left == 0.5
        scope.waited = 0.2
        assert budget.left == pytest.approx(0.3)
        assert copy_context().run(lambda: budget.left) == pytest.approx(0.3), "a thread of the request shares it"
        assert budget.within(scope, 0.1) == 0.1
        assert budget.within(scope, 1.0) == pytest.approx(0.3)
    spent = Scope(None, None)
    spent.waited = 0.6
    with pytest.raises(StoreUnavailableError, match="without the cache"):
        budget.within(spent, 0.1)


@pytest.mark.chaos
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "to connect"])
def test_budget__a_slow_store(transport: Transport, slow: Sluggish, connected: bool) -> None:
    """Each answer a little below the timeout: the request goes on without the cache, alone, and not after 3 seconds."""
    if connected:
        transport.ask("PING")
    slow.delay = 0.3
    for _ in range(2):
        with request() as scope:
            seconds = took(lambda: asked(transport, 10))
            assert 0.25 < seconds < 2.9  # two timeouts, and what a busy machine adds
            assert scope.waited <= 2 * TIMEOUT + 0.05
            assert took(lambda: asked(transport, 10)) < 0.28, "it waits no more"
    assert not transport.breaker.is_open, "it answers in time"
    slow.delay = 0.0
    with request():
        assert asked(transport, 10) == 10


@pytest.mark.chaos
def test_budget__prompt_answers_cost_nothing(transport: Transport, slow: Sluggish) -> None:
    """A page of hundreds of lookups is slow by itself; slower answers cost what they were waited for."""
    transport.ask("PING")
    with request() as scope:
        assert asked(transport, 500) == 500
    assert scope.waited < 0.6  # those that a busy machine held up
    slow.delay = 0.05
    with request() as scope:
        assert asked(transport, 4) == 4
    assert scope.waited > 0.1
    slow.delay = 0.012
    with request() as scope:
        assert asked(transport, 40) == 40
    assert scope.waited > 0.19, "each of them a little"


@pytest.mark.chaos
def test_budget__outside_of_a_request_and_walks(transport: Transport, slow: Sluggish) -> None:
    """A script or a job has no budget, and a walk over many keys counts for no request: each answer has its timeout."""
    transport.ask("PING")
    slow.delay = 0.1
    assert asked(transport, 12) == 12
    with request(is_request=False) as scope:
        assert asked(transport, 12) == 12
        assert scope.waited == 0
    with request() as scope:
        assert [transport.ask("PING", patient=True) for _ in range(12)] == [b"PONG"] * 12
        assert scope.waited == 0
        assert asked(transport, 1) == 1


@pytest.mark.chaos
def test_budget__a_page(slow: Sluggish) -> None:
    """A page of ten cached parts and an invalidation, each answered a little below the timeout: slow once, not dead."""
    kind = CacheType("kind", ttl=60, l1_ttl=0)
    app = Flask("shop")
    app.config.update(RCACHE_URL=slow.url, RCACHE_TIMEOUT=TIMEOUT)
    RCache(app, types=[kind])

    @app.get("/page")
    @cache_response(kind)
    def page() -> str:
        for number in range(10):
            current_cache.fetch(kind, number, lambda: 1)
        current_cache.invalidate_tags("x")
        return "done"

    client, cache = app.test_client(), app.extensions["rcache"]
    assert client.get("/page").data == b"done"
    cache.clear_all()
    slow.delay = 0.3
    assert 0.25 < took(lambda: client.get("/page")) < 1.6
    slow.delay = 0.0
    assert client.get("/page").data == b"done"
    # The invalidation that it had no time for is delivered before anything is trusted.
    wait_until(lambda: cache.is_available, timeout=20, what="the cache is available")
    assert cache.overview()["journal"]["pending"] == 0
    cache.close()
