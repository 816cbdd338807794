"""Soft invalidation as users see it: stale at once, one refresh, fresh soon; through views, functions and `fetch`."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from flask_rcache import (
    CacheManager,
    CacheType,
    cache_response,
    current_cache,
    invalidate_cache_type,
    invalidate_tags,
)
from flask_rcache.config.settings import load_settings
from flask_rcache.extension import store_of
from tests.processes import wait_until
from tests.servers import Server
from tests.views.kit import make_app

RANKING = CacheType("ranking", ttl=60, stale_while_revalidate=60)


@pytest.fixture(params=["memory", "redis", "tiered"])
def shop(request: pytest.FixtureRequest) -> Iterator[Flask]:
    url = "memory://"
    if request.param != "memory":
        server: Server = request.getfixturevalue("redis_server")
        url = server.url + ("#tiered" if request.param == "tiered" else "")
    made = make_app(url, types=[RANKING])
    yield made
    made.extensions["rcache"].close()


def test_soft__view(shop: Flask) -> None:
    """After a soft invalidation the old page is served once more, marked stale, and a new one comes behind it."""
    runs = itertools.count(1)

    @shop.get("/ranking")
    @cache_response(RANKING, tags=["eu"])
    def ranking() -> str:
        return str(next(runs))

    client = shop.test_client()
    assert [client.get("/ranking").data for _ in range(2)] == [b"1", b"1"]
    for number, invalidate in enumerate(
        (lambda: invalidate_cache_type(RANKING, soft=True), lambda: invalidate_tags("eu", soft=True)), 1
    ):
        with shop.app_context():
            invalidate()
        first = client.get("/ranking")
        assert (first.data, first.headers["X-Cache"]) == (str(number).encode(), "STALE")
        wait_until(lambda: client.get("/ranking").headers["X-Cache"] == "HIT", timeout=15, what="the refresh")
        assert client.get("/ranking").data == str(number + 1).encode()


def test_soft__fetch_waits_for_nobody(shop: Flask) -> None:
    """While the refresh runs, however long, everybody gets the old value; it runs once."""
    gate = threading.Event()
    loads: list[int] = []

    def slowly() -> str:
        loads.append(1)
        gate.wait(30)
        return "new"

    with shop.app_context():
        current_cache.fetch(RANKING, "a", lambda: "old")
        assert current_cache.invalidate_type(RANKING, soft=True) == 1
        try:
            assert [current_cache.fetch(RANKING, "a", slowly) for _ in range(20)] == ["old"] * 20
            assert current_cache.get(RANKING, "a") is None  # `get` gives what is fresh, nothing else
        finally:
            gate.set()
        wait_until(lambda: current_cache.get(RANKING, "a") == "new", timeout=15, what="the refresh")
    assert len(loads) == 1


def test_soft__without_windows_it_is_hard(shop: Flask) -> None:
    """A type that may never be stale is loaded anew at once."""
    with shop.app_context():
        current_cache.fetch("product", "a", lambda: "old")
        current_cache.invalidate_type("product", soft=True)
        assert current_cache.fetch("product", "a", lambda: "new") == "new"


def test_soft__stale_if_error(shop: Flask) -> None:
    """Where stale answers are for failures only, the loader is asked, and the old value stands in when it fails."""
    kind = RANKING.replace(stale_while_revalidate=0, stale_if_error=60)
    with shop.app_context():
        current_cache.fetch(kind, "a", lambda: "old")
        current_cache.invalidate_type(kind, soft=True)

        def fails() -> str:
            raise ConnectionError("the database is away")

        assert current_cache.fetch(kind, "a", fails) == "old"


def test_soft__inside_a_load(shop: Flask) -> None:
    """A load never builds on something stale."""
    with shop.app_context():
        current_cache.fetch(RANKING, "part", lambda: "old")
        current_cache.invalidate_type(RANKING, soft=True)
        whole = current_cache.fetch("product", "whole", lambda: current_cache.fetch(RANKING, "part", lambda: "new"))
        assert whole == "new"


def test_soft__another_process(redis_server: Server) -> None:
    """The memory tier of another process lets go of what was softly invalidated here."""
    settings = load_settings({"RCACHE_URL": redis_server.url, "RCACHE_L1_TTL": 30, "RCACHE_TIMEOUT": 2}, {})
    one, other = (CacheManager(settings, store_of(settings), types=[RANKING]) for _ in range(2))
    try:
        one.set(RANKING, "a", "old")

        def held() -> bool:
            other.get(RANKING, "a")
            tier = other.overview()["memory_tier"]
            return tier is not None and tier["entries"] == 1

        wait_until(held, timeout=15, what="it lies in the other's memory tier")
        one.invalidate_type(RANKING, soft=True)
        wait_until(lambda: other.get(RANKING, "a") is None, timeout=15, what="the other has heard of it")
        assert other.fetch(RANKING, "a", lambda: "new") == "old"
    finally:
        one.close()
        other.close()


@pytest.mark.parametrize("scope", ["type", "tags"])
def test_soft__while_redis_is_away(scope: str, private_server: Callable[..., Server], redis_server: Server) -> None:
    """A soft invalidation that has to wait is a hard one when it arrives."""
    server = private_server()
    settings = load_settings({"RCACHE_URL": server.url, "RCACHE_L1_TTL": 0, "RCACHE_ON_FAILOVER": "warm"}, {})
    cache = CacheManager(settings, store_of(settings), types=[RANKING])
    try:
        cache.set(RANKING, "a", "old", tags=["eu"])
        server.pause()
        if scope == "type":
            cache.invalidate_type(RANKING, soft=True)
        else:
            cache.invalidate_tags("eu", soft=True)
        assert not cache.is_available
        server.resume()
        wait_until(lambda: cache.is_available, timeout=20, what="it is back")
        assert cache.fetch(RANKING, "a", lambda: "new") == "new"
    finally:
        cache.close()


def test_soft__a_late_refresh_gives_way(redis_server: Server) -> None:
    """A refresh that comes to its turn when another process has refreshed the page does not run the view again."""

    def make(runs: list[int]) -> Flask:
        app = make_app(redis_server.url, types=[RANKING])

        @app.get("/ranking")
        @cache_response(RANKING)
        def ranking() -> str:
            runs.append(1)
            return "page"

        return app

    ours: list[int] = []
    theirs: list[int] = []
    app, other = make(ours), make(theirs)
    gate, cache = threading.Event(), app.extensions["rcache"]
    try:
        app.test_client().get("/ranking")
        cache.invalidate_type(RANKING, soft=True)
        busy = 0
        while cache.refresher.submit(f"busy-{busy}", lambda: gate.wait(60)) and busy < 8:
            busy += 1  # every worker has something else to do
        assert app.test_client().get("/ranking").headers["X-Cache"] == "STALE"  # its refresh waits for its turn
        assert other.test_client().get("/ranking").headers["X-Cache"] == "STALE"
        visitor = other.test_client()
        wait_until(lambda: visitor.get("/ranking").headers["X-Cache"] == "HIT", timeout=15, what="refreshed")
        gate.set()
        wait_until(lambda: not cache.refresher._busy, timeout=15, what="all of them have ended")
        assert (len(ours), len(theirs)) == (1, 1)
    finally:
        gate.set()
        cache.close()
        other.extensions["rcache"].close()
