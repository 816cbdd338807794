"""Write-through: what is cached after it, and what is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from flask_rcache import MISSING, CacheType, ConfigError, EncodeError, RCache, current_cache, invalidate_tags
from tests.servers import Server

PRODUCT = CacheType("thing", ttl=60)


@pytest.fixture(params=["memory", "redis", "tiered"])
def shop(request: pytest.FixtureRequest) -> Iterator[Flask]:
    """An app on each store."""
    app = Flask("shop")
    if request.param != "memory":
        server: Server = request.getfixturevalue("redis_server")
        app.config.update(RCACHE_URL=server.url, RCACHE_TIMEOUT=2.0)
    if request.param == "redis":
        app.config["RCACHE_L1_TTL"] = 0
    RCache(app, types=[PRODUCT])
    with app.app_context():
        current_cache.fresh()
        yield app
        current_cache.close()


class Source(dict[int, Any]):
    """A database of one table."""

    def save(self, key: int) -> Any:
        return lambda value: self.__setitem__(key, value)


def cached(key: int) -> Any:
    return current_cache.get(PRODUCT, key, MISSING)


def test_through__is_in_the_source_and_in_the_cache(shop: Flask) -> None:
    """The value comes back, and the next reader has it without a load."""
    source = Source()
    assert current_cache.write_through(PRODUCT, 1, {"price": 3}, source.save(1), tags=["prices"]) == {"price": 3}
    assert source[1] == {"price": 3}
    loads: list[int] = []
    assert current_cache.fetch(PRODUCT, 1, lambda: loads.append(1)) == {"price": 3}
    assert not loads
    invalidate_tags("prices")
    current_cache.fresh()
    assert cached(1) is MISSING


def test_through__source_that_fails_leaves_neither_value(shop: Flask) -> None:
    """What was there may be older or newer than what the source has now."""
    current_cache.set(PRODUCT, 1, "old")

    def fail(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        current_cache.write_through(PRODUCT, 1, "new", fail)
    assert cached(1) is MISSING
    current_cache.fresh()
    assert current_cache.fetch(PRODUCT, 1, lambda: "loaded") == "loaded"
    assert cached(1) == "loaded"


def test_through__load_under_way_does_not_bring_the_old_value_back(shop: Flask) -> None:
    """Neither one that began before it, nor one that reads the source while it is written."""
    source = Source({1: "old"})
    has_read, goes_on = threading.Event(), threading.Event()

    def slow_load() -> Any:
        value = source[1]
        has_read.set()
        goes_on.wait(10)
        return value

    def read() -> None:
        with shop.app_context():
            current_cache.fetch(PRODUCT, 1, slow_load)

    thread = threading.Thread(target=read)
    thread.start()
    assert has_read.wait(10)

    def save(value: Any) -> None:
        with shop.app_context():  # another request meanwhile
            assert current_cache.fetch(PRODUCT, 1, lambda: source[1]) == "old"
        source[1] = value

    current_cache.write_through(PRODUCT, 1, "new", save)
    goes_on.set()
    thread.join(10)
    assert cached(1) == "new"


def test_through__of_two_at_a_time_only_the_last_one_may_be_cached(shop: Flask) -> None:
    """The source may have taken them in either order: then nothing is cached rather than the wrong one."""
    source = Source()

    def save(value: str) -> None:
        with shop.app_context():
            current_cache.write_through(PRODUCT, 1, "second", source.save(1))
        source[1] = value

    current_cache.write_through(PRODUCT, 1, "first", save)
    assert source[1] == "first"
    assert cached(1) is MISSING


def test_through__older_version_does_not_replace_a_newer_one(shop: Flask) -> None:
    """The newer one is not there any more either way: the next reader asks the source."""
    source = Source()
    current_cache.write_through(PRODUCT, 1, "v2", source.save(1), version=2)
    assert cached(1) == "v2"
    current_cache.write_through(PRODUCT, 1, "v1", lambda _: None, version=1)
    assert cached(1) is MISSING
    current_cache.write_through(PRODUCT, 1, "v2", source.save(1), version=2)
    current_cache.write_through(PRODUCT, 1, "v3", source.save(1), version=3)
    assert cached(1) == "v3"


def test_through__invalidation_during_the_save_wins(shop: Flask) -> None:
    """It may mean more than this write."""

    def save(_: object) -> None:
        with shop.app_context():
            current_cache.invalidate_tags("prices")

    current_cache.write_through(PRODUCT, 1, "new", save, tags=["prices"])
    assert cached(1) is MISSING


def test_through__value_that_cannot_be_cached_is_written(shop: Flask) -> None:
    """The source has it, and the cache nothing older."""
    current_cache.set(PRODUCT, 1, "old")
    source = Source()
    current_cache.write_through(PRODUCT, 1, object(), source.save(1))
    assert 1 in source
    assert cached(1) is MISSING


def test_through__under_strict_raises_before_it_writes(shop: Flask) -> None:
    """In tests a value that cannot be restored is an error."""
    strict = Flask("strict")
    strict.config["TESTING"] = True
    RCache(strict)
    source = Source()
    with strict.app_context(), pytest.raises(EncodeError):
        current_cache.write_through("product", 1, object(), source.save(1))
    assert not source


def test_through__without_redis_is_written_and_journalled(private_server: Any) -> None:
    """The source comes first; what Redis has of the key goes as soon as it is back."""
    server = private_server()
    app = Flask("shop")
    app.config.update(RCACHE_URL=server.url)
    RCache(app, types=[PRODUCT])
    source = Source()
    with app.app_context():
        current_cache.fresh()
        assert current_cache.set(PRODUCT, 1, "old")
        server.pause()
        began = time.monotonic()
        current_cache.write_through(PRODUCT, 1, "new", source.save(1))
        assert time.monotonic() - began < 3
        assert source[1] == "new"
        server.resume()
        deadline = time.monotonic() + 10
        while not current_cache.is_available and time.monotonic() < deadline:
            time.sleep(0.05)
        assert cached(1) is MISSING
        current_cache.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"save": 3}, "save of write_through must be a function"), ({"version": "1"}, "version of write_through")],
)
def test_through__mistakes_are_named(options: dict[str, Any], message: str) -> None:
    """At once."""
    app = Flask("shop")
    RCache(app)
    with app.app_context(), pytest.raises(ConfigError, match=message):
        current_cache.write_through("product", 1, "x", options.pop("save", lambda _: None), **options)
