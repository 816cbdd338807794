"""The extension: the manager's methods for the current app, several apps, and what it is refused."""

from __future__ import annotations

import gc
import inspect
import weakref
from collections.abc import Iterator

import pytest
from flask import Flask

from flask_rcache import CacheManager, CacheType, ConfigError, Hit, RCache, cache_hit, cached, current_cache

WEATHER = CacheType("weather", ttl=60)
#: What is not for users: for this package's own layers, and for the end of a process.
INTERNAL = {
    "close",
    "depend",
    "engine",
    "invalidate_members",
    "invalidate_urls",
    "known_type",
    "put_many",
    "remove",
    "remove_many",
    "settings",
    "tracer",
    "types",
}


@pytest.fixture
def rcache() -> Iterator[RCache]:
    """An extension with two apps, `shop` and `blog`."""
    extension = RCache(types=[WEATHER])
    apps.clear()
    for name in ("shop", "blog"):
        apps[name] = Flask(name)
        apps[name].testing = True
        extension.init_app(apps[name])
    yield extension
    for app in apps.values():
        app.extensions["rcache"].close()


apps: dict[str, Flask] = {}


def test_methods__are_those_of_the_manager() -> None:
    """Each public method of the manager is there, with its signature and its documentation."""
    public = {name for name in dir(CacheManager) if not name.startswith("_")} - INTERNAL
    assert {"get", "fetch", "invalidate_tags", "stats", "is_available"} <= public
    missing = [name for name in sorted(public) if not hasattr(RCache, name)]
    assert missing == []
    for name in public - {"is_available"}:
        ours, its = getattr(RCache, name), getattr(CacheManager, name)
        assert inspect.signature(ours) == inspect.signature(its), name
        assert ours.__doc__ == its.__doc__, name


def test_methods__are_of_the_current_app(rcache: RCache) -> None:
    """One extension, two apps, two caches."""
    with apps["shop"].app_context():
        assert rcache.set(WEATHER, "oslo", 7, tags=["city"])
        assert rcache.get("weather", "oslo") == current_cache.get("weather", "oslo") == 7
        assert rcache.is_available
        assert [entry.key for entry in rcache.entries("weather")] == ["cache:weather:oslo"]
    with apps["blog"].app_context():
        assert rcache.get("weather", "oslo") is None
        assert rcache.fetch("weather", "oslo", lambda: 8) == 8
    with apps["shop"].app_context():
        assert rcache.invalidate_tags("city") == 1
        assert rcache.get("weather", "oslo") is None
    with apps["blog"].app_context():
        assert rcache.get("weather", "oslo") == 8


def test_methods__need_an_app(rcache: RCache) -> None:
    """Outside of every app there is no cache; in another app there is none either: the message says what to call."""
    with pytest.raises(RuntimeError, match="application context"):
        rcache.get("weather", "oslo")
    with Flask("other").app_context(), pytest.raises(ConfigError, match="init_app"):
        rcache.get("weather", "oslo")


def test_disabled__in_all_apps_of_the_extension(rcache: RCache) -> None:
    """Nothing is read or stored inside, however deep; afterwards what was there is there."""
    other = Flask("other")
    RCache(other)

    @cached()
    def number() -> int:
        return next(numbers)

    numbers = iter(range(100))
    with apps["shop"].app_context():
        assert [number(), number()] == [0, 0]
        with rcache.disabled():
            with rcache.disabled():
                assert number() == 1
            assert number() == 2
            assert rcache.get("weather", "oslo") is None
        assert number() == 0
    with other.app_context(), rcache.disabled():
        assert [number(), number()] == [3, 3]


def test_signals__come_from_the_app(rcache: RCache) -> None:
    """A receiver that is connected to an app is called for that app only."""
    events: list[Hit] = []

    def receive(sender: object, event: Hit) -> None:
        assert sender is apps["shop"]
        events.append(event)

    with cache_hit.connected_to(receive, sender=apps["shop"]):
        for app in apps.values():
            with app.app_context():
                rcache.set(WEATHER, "oslo", 7)
                rcache.get(WEATHER, "oslo")
    assert [event.key for event in events] == ["cache:weather:oslo"]


def test_init_app__once_for_each_app() -> None:
    """A second cache in one app would hear nothing of the first's invalidations."""
    app = Flask("app")
    RCache(app)
    with pytest.raises(ConfigError, match="'app' has a cache already"):
        RCache(app)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"RCACHE_USER_JWT_KEY": "short"}, "RCACHE_USER_JWT_KEY has 5 bytes"),
        ({"RCACHE_ADMIN_JWT_KEY": "short"}, "RCACHE_ADMIN_JWT_KEY has 5 bytes"),
        ({"RCACHE_URL": "redis://127.0.0.1:1?nonsense=1"}, "RCACHE_URL .* invalid option"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_init_app__refused_leaves_no_trace(config: dict[str, str], words: str) -> None:
    """An app that could not be given a cache can be given one when its configuration is corrected."""
    app = Flask("app")
    app.config.update(config)
    with pytest.raises(ConfigError, match=words):
        RCache(app)
    assert app.blueprints == {}
    for key in config:
        del app.config[key]
    RCache(app)


def test_extension__keeps_no_app_alive() -> None:
    """An app that nobody uses any more is gone, with its cache."""
    extension = RCache()
    app = Flask("app")
    extension.init_app(app)
    with app.app_context():
        extension.set(WEATHER, "oslo", 7)
    ref, manager = weakref.ref(app), weakref.ref(app.extensions["rcache"])
    del app
    gc.collect()
    assert ref() is None
    assert manager() is None
