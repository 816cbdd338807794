"""Which store Flask-Caching's settings ask for."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import Any

import flask
import pytest

from flask_rcache.compat.flask_caching import Cache
from flask_rcache.compat.settings import backend_options, store_settings
from flask_rcache.config.settings import load_settings
from flask_rcache.errors import ConfigError
from tests.processes import ROOT


@pytest.mark.parametrize(
    ("config", "url"),
    [
        ({"CACHE_TYPE": "SimpleCache"}, "memory://"),
        ({"CACHE_TYPE": "simple"}, "memory://"),
        ({"CACHE_TYPE": "flask_caching.backends.SimpleCache"}, "memory://"),
        ({"CACHE_TYPE": "RedisCache"}, "redis://localhost:6379/0"),
        (
            {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_HOST": "db", "CACHE_REDIS_PORT": 1, "CACHE_REDIS_DB": 2},
            "redis://db:1/2",
        ),
        ({"CACHE_TYPE": "RedisCache", "CACHE_REDIS_PASSWORD": "a/b@c"}, "redis://:a%2Fb%40c@localhost:6379/0"),
        ({"CACHE_TYPE": "RedisCache", "CACHE_REDIS_HOST": "::1"}, "redis://[::1]:6379/0"),
        ({"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": "redis://h/3", "CACHE_REDIS_DB": 1}, "redis://h/3"),
        ({"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": "redis://h", "CACHE_REDIS_DB": 1}, "redis://h/1"),
        ({"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": "unix:///r.sock"}, "unix:///r.sock"),
        (
            {
                "CACHE_TYPE": "RedisSentinelCache",
                "CACHE_REDIS_SENTINELS": [("a", 1), ("b", 2)],
                "CACHE_REDIS_SENTINEL_MASTER": "main",
            },
            "redis+sentinel://a:1,b:2/main/0",
        ),
        ({"CACHE_TYPE": "RedisClusterCache", "CACHE_REDIS_CLUSTER": "a:1, b:2"}, "redis+cluster://a:1,b:2"),
        ({"CACHE_TYPE": "RedisClusterCache", "CACHE_REDIS_URL": "rediss://a:1"}, "rediss+cluster://a:1"),
        ({"CACHE_TYPE": "RCacheBackend", "CACHE_REDIS_HOST": "db"}, "redis://db:6379/0"),
        ({"CACHE_TYPE": "RCacheBackend"}, None),
    ],
)
def test_store_settings__url(config: dict[str, Any], url: str | None) -> None:
    """Each kind of store has its URL, which this package takes."""
    settings = store_settings(config)
    assert settings.get("RCACHE_URL") == url
    load_settings(settings, {})


def test_store_settings__options_go_to_the_driver() -> None:
    """Options of redis-py are passed on, and those of Flask-Caching are not."""
    config = {
        "CACHE_TYPE": "RedisSentinelCache",
        "CACHE_OPTIONS": {"client_name": "shop", "default_timeout": 5, "threshold": 9},
        "CACHE_REDIS_SENTINEL_PASSWORD": "s",
    }
    settings = store_settings(config)
    assert settings["RCACHE_REDIS_OPTIONS"] == {"client_name": "shop"}
    assert settings["RCACHE_SENTINEL_OPTIONS"] == {"password": "s"}
    assert backend_options(config) == {"default_timeout": 5, "key_prefix": "flask_cache_", "ignore_errors": False}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"CACHE_TYPE": "FileSystemCache"}, "use RedisCache"),
        ({"CACHE_TYPE": "MemcachedCache"}, "use RedisCache"),
        ({"CACHE_TYPE": "shop.cache.Backend"}, "use RedisCache"),
        ({"CACHE_TYPE": "SimpleCache", "CACHE_ARGS": [1]}, "CACHE_OPTIONS"),
        ({"CACHE_TYPE": "SimpleCache", "CACHE_SERIALIZER": object}, "never pickled"),
        ({"CACHE_TYPE": "RedisCache", "CACHE_REDIS_HOST": object()}, "CACHE_REDIS_URL"),
        ({"CACHE_TYPE": "RedisClusterCache"}, "CACHE_REDIS_CLUSTER"),
        ({"CACHE_TYPE": "RedisClusterCache", "CACHE_REDIS_URL": "a:1"}, "redis://host:port"),
    ],
)
def test_store_settings__what_is_not_translated(config: dict[str, Any], says: str) -> None:
    """What can't be kept is an error at start, which says what to write."""
    with pytest.raises(ConfigError, match=says):
        store_settings(config)


def test_cache__settings_of_its_own_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """RCACHE_URL goes before CACHE_TYPE, in the app's settings and in the environment."""
    app = flask.Flask("own")
    app.config.update(CACHE_TYPE="RedisCache", RCACHE_URL="memory://")
    Cache(app)
    assert app.extensions["rcache"].settings.url == "memory://"
    monkeypatch.setenv("RCACHE_URL", "memory://")
    other = flask.Flask("environment")
    Cache(other, config={"CACHE_TYPE": "RedisCache"})
    assert other.extensions["rcache"].settings.url == "memory://"


@pytest.mark.parametrize("config", [[], "SimpleCache"])
def test_cache__config_is_a_dict(config: Any) -> None:
    """As in Flask-Caching, another is a ValueError."""
    with pytest.raises(ValueError, match="must be a dict"):
        Cache(config=config)


def test_cache__hash_method() -> None:
    """A hash method is a function of hashlib; another is a ValueError at start."""
    app = flask.Flask("hashes")
    app.config.update(CACHE_TYPE="SimpleCache", CACHE_HASH_METHOD=hashlib.md5)
    assert Cache(app).hash_method is hashlib.md5
    with pytest.raises(ValueError, match=r"hashlib\.sha256"):
        Cache(flask.Flask("no"), config={"CACHE_TYPE": "SimpleCache", "CACHE_HASH_METHOD": "md5"})


def test_look_alike__needs_neither_library() -> None:
    """An app that has moved may uninstall Flask-Caching, and cachelib with it."""
    without = "import sys; sys.modules['flask_caching'] = sys.modules['cachelib'] = None"
    code = f"{without}; from flask import Flask; from flask_rcache.compat.flask_caching import Cache; "
    code += "Cache(Flask('a'), config={'CACHE_TYPE': 'SimpleCache'}).set('a', 1)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
