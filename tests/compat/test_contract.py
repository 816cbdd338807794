"""What Flask-Caching and cachelib promise of keys and values, on a store in memory and on a server."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from flask_rcache.compat.contract import NoValues, lifetime
from flask_rcache.compat.flask_caching import Cache
from flask_rcache.errors import ConfigError, EncodeError
from tests.compat.conftest import Made
from tests.servers import Server


def test_key_values__none_is_a_value(made: Made) -> None:
    """A stored None is there, and is told from nothing by has()."""
    app, cache = made
    with app.app_context():
        assert cache.set("nothing", None)
        assert cache.get("nothing") is None
        assert cache.has("nothing")
        assert not cache.has("other")
        assert not cache.add("nothing", 1)


def test_key_values__many_come_in_order(made: Made) -> None:
    """Values come in the order of the keys, with None for those that are not there, also for one key twice."""
    app, cache = made
    with app.app_context():
        assert cache.set_many({"a": 1, "b": 2}) == ["a", "b"]
        assert cache.get_many("b", "x", "a", "b") == [2, None, 1, 2]
        assert cache.get_dict("b", "x") == {"b": 2, "x": None}
        assert cache.get_many() == cache.delete_many() == cache.set_many({}) == []
        assert cache.delete_many("a", "x") == ["a", "x"]
        assert cache.unlink("b", "x") == 1
        assert cache.get_many("a", "b") == [None, None]


@pytest.mark.parametrize("timeout", [0, timedelta(), None, 60, timedelta(minutes=1), "60"])
def test_key_values__timeouts_that_last(made: Made, timeout: Any) -> None:
    """0 never expires, and None is the default."""
    app, cache = made
    with app.app_context():
        assert cache.set("key", "value", timeout)
        assert cache.get("key") == "value"
        ttl = next(app.extensions["rcache"].entries()).ttl
    assert ttl > 10**8 if timeout in (0, timedelta()) else 0 < ttl <= (300 if timeout is None else 60)


@pytest.mark.parametrize("timeout", [-1, "soon", True, float("nan"), [1]])
def test_lifetime__what_is_no_timeout(timeout: Any) -> None:
    """A timeout that is none is refused, with what it may be."""
    with pytest.raises(ConfigError, match="0 never expires"):
        lifetime(timeout)


def test_key_values__the_last_write_wins(made: Made) -> None:
    """In a request, a value may be set again after it was deleted, and after a clear; in another process too."""
    app, cache = made
    with app.test_request_context():
        cache.set("key", 1)
        assert cache.delete("key")
        assert not cache.delete("key")
        assert cache.set("key", 2)
        assert cache.get("key") == 2
        assert cache.clear()
        assert cache.get("key") is None
        assert cache.set("key", 3)
        assert cache.get("key") == 3


def test_key_values__another_process_reads_what_was_set(make: Callable[..., Made], any_server: Server) -> None:
    """Each value is read from the server: nobody gets what another process has replaced just before."""
    config = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": any_server.url}
    (here, mine), (there, theirs) = make(**config), make(**config)
    for number in range(20):
        with here.app_context():
            mine.set("session", number)
        with there.app_context():
            assert theirs.get("session") == number
            assert theirs.inc("visits") == 2 * number + 1
        with here.app_context():
            assert mine.inc("visits") == 2 * number + 2


def test_key_values__counters(made: Made) -> None:
    """Counters begin at 0, and go on from what was set."""
    app, cache = made
    with app.app_context():
        assert (cache.inc("n"), cache.inc("n", 4), cache.dec("n", 2), cache.dec("new")) == (1, 5, 3, -1)
        cache.set("text", "a")
        with pytest.raises(TypeError, match="delete it first"):
            cache.inc("text")


def test_key_values__clear_removes_its_own(make: Callable[..., Made], any_server: Server) -> None:
    """What has another prefix, what the app caches otherwise, and other keys of the database stay."""
    config = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": any_server.url}
    prefixes = ["flask_cache_", "", "a", "a_", "A", "a:b", "x" * 99, "é"]
    apps = [make(**config, CACHE_KEY_PREFIX=prefix) for prefix in prefixes]
    with any_server.client() as client:
        client.set("flask_cache_foreign", "stays")
        for app, cache in apps:
            with app.app_context():
                cache.set("key", cache.cache.key_prefix)
                app.extensions["rcache"].set("default", "key", "native")
        for number, (app, cache) in enumerate(apps):
            with app.app_context():
                assert cache.clear()
                assert cache.get("key") is None
            for other, others in apps[number + 1 :]:
                with other.app_context():
                    assert others.get("key") == others.cache.key_prefix
        assert client.get("flask_cache_foreign") == b"stays"
    with apps[0][0].app_context():
        assert apps[0][0].extensions["rcache"].get("default", "key") == "native"


@pytest.mark.parametrize(
    "key", ["cache:user:1", "cache:flask_caching:~" + "0" * 32, "", "a b\n*?[x]{y}~", "é", 7, b"b"]
)
def test_key_values__any_key(made: Made, key: Any) -> None:
    """Any text is a key, that of one of the engine's stored keys too, and anything else is its text."""
    app, cache = made
    with app.app_context():
        assert cache.set(key, "value")
        assert cache.get(str(key)) == "value"
        assert cache.get(f"{key}x") is None
        assert cache.delete(key)
        assert cache.get_many(key) == [None]


def test_key_values__what_can_not_be_stored(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not stored, the older value goes, and one warning says why; in tests it is an error. Nothing is pickled."""
    app, cache = make()
    with app.app_context():
        cache.set("key", "old")
        assert not cache.set("key", object())
        assert cache.set_many({"key": object(), "other": 1}) == ["other"]
        assert cache.get("key") is None
        assert not cache.add("key", object())
    assert [record.levelname for record in caplog.records if "can't be stored" in record.message] == ["WARNING"]
    tested, strict = make(TESTING=True)
    with tested.app_context(), pytest.raises(EncodeError, match="is an object"):
        strict.set("key", object())


def test_key_values__redis_is_away(make: Callable[..., Made], private_server: Callable[..., Server]) -> None:
    """Nothing raises but what the contract lets raise, and nothing waits long."""
    server = private_server()
    app, cache = make(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=server.url)
    silent = Cache(app, config={"CACHE_IGNORE_ERRORS": True})
    with app.app_context():
        assert cache.set("key", 1)
        server.stop()
        began = time.monotonic()
        assert cache.get("key") is None
        assert not cache.set("key", 2)
        assert cache.get_many("key", "x") == [None, None]
        assert cache.inc("n") is None
        assert not cache.delete("key")
        assert not cache.clear()
        with pytest.raises(RuntimeError, match="removed when it is back"):
            cache.delete_many("key")
        assert silent.cache.delete_many("key") == []
    assert time.monotonic() - began < 15


def test_no_values__keeps_nothing(make: Callable[..., Made]) -> None:
    """Without a CACHE_TYPE everything is loaded anew, which a warning says once at start."""
    with pytest.warns(UserWarning, match="nothing is cached"):
        app, cache = make(CACHE_TYPE="NullCache")
    assert isinstance(cache.cache, NoValues)
    with app.app_context():
        assert cache.set("a", 1)
        assert cache.add("a", 1)
        assert cache.set_many({"a": 1}) == ["a"]
        assert (cache.get("a"), cache.has("a"), cache.get_many("a"), cache.get_dict("a")) == (
            None,
            False,
            [None],
            {"a": None},
        )
        assert (cache.inc("a", 2), cache.dec("a"), cache.delete("a"), cache.delete_many("a")) == (2, -1, True, ["a"])
        assert cache.clear()
        assert cache.unlink("a") == 0
    make(CACHE_TYPE="NullCache", CACHE_NO_NULL_WARNING=True)
    assert "rcache" not in app.extensions
