"""Flask-Caching's settings, as this package's.

Owns the translation of ``CACHE_*``: which store they ask for, and what is not translated, with the remedy. A setting
``RCACHE_*`` of the app's own stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from ..errors import ConfigError

__all__ = ["NULL", "PREFIX", "backend_options", "cache_type", "store_settings"]

#: ``CACHE_TYPE`` of an app without a cache: what it is when nothing is said.
NULL: Final = "NullCache"
#: The same for the store that ``RCACHE_URL`` says, as this look-alike and Flask-Caching itself take it.
BACKEND: Final = "RCacheBackend"
#: ``CACHE_KEY_PREFIX`` when nothing is said.
PREFIX: Final = "flask_cache_"

#: Names of ``CACHE_TYPE`` that are older or longer spellings.
_ALIASES: Final = {
    "null": NULL,
    "simple": "SimpleCache",
    "redis": "RedisCache",
    "redissentinel": "RedisSentinelCache",
    "rediscluster": "RedisClusterCache",
    "RCache": BACKEND,
}
#: What ``CACHE_OPTIONS`` may say beside options of redis-py.
_OWN_OPTIONS: Final = frozenset({"default_timeout", "ignore_delete_many_errors", "key_prefix", "threshold"})


def cache_type(config: Mapping[str, Any]) -> str:
    """``CACHE_TYPE`` by its last name.

    >>> cache_type({"CACHE_TYPE": "flask_caching.backends.RedisCache"}), cache_type({})
    ('RedisCache', 'NullCache')
    """
    name = str(config.get("CACHE_TYPE") or NULL)
    for prefix in ("flask_caching.backends.", "flask_rcache.compat.flask_caching."):
        if name.startswith(prefix):
            name = name.rpartition(".")[2]
    return _ALIASES.get(name, name)


def store_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings ``RCACHE_*`` that ``CACHE_*`` ask for.

    Args:
        config: the app's, with what ``Cache`` was given.

    Raises:
        ConfigError: there is no such store here, or a setting is not usable.
    """
    name = cache_type(config)
    make = _STORES.get(name)
    if make is None:
        raise ConfigError(
            f"CACHE_TYPE = {config['CACHE_TYPE']!r} is not a store of flask_rcache: use RedisCache, RedisSentinelCache "
            "or RedisClusterCache with its address, SimpleCache for this process's memory, or RCacheBackend with "
            "RCACHE_URL"
        )
    if config.get("CACHE_ARGS"):
        raise ConfigError("CACHE_ARGS are arguments of Flask-Caching's backends: use CACHE_REDIS_… and CACHE_OPTIONS")
    if config.get("CACHE_SERIALIZER") is not None:
        raise ConfigError(
            "CACHE_SERIALIZER is not used: values are stored exactly, and never pickled. Leave it out, and name "
            "classes of your own in RCache(values=[…])"
        )
    return make(config)


def backend_options(config: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """How a backend keeps its values.

    Args:
        config: the app's, with what ``Cache`` was given.
        given: what Flask-Caching gives to a backend, if it is there.
    """
    options = {**(config.get("CACHE_OPTIONS") or {}), **(given or {})}
    timeout = options.get("default_timeout", config.get("CACHE_DEFAULT_TIMEOUT"))
    prefix = options.get("key_prefix", config.get("CACHE_KEY_PREFIX"))
    return {
        "default_timeout": 300 if timeout is None else timeout,
        "key_prefix": PREFIX if prefix is None else prefix,
        "ignore_errors": bool(options.get("ignore_delete_many_errors", config.get("CACHE_IGNORE_ERRORS", False))),
    }


def _memory(_: Mapping[str, Any]) -> dict[str, Any]:
    return {"RCACHE_URL": "memory://"}


def _as_said(config: Mapping[str, Any]) -> dict[str, Any]:
    """The server that other settings name, which an app has left where they are; else what ``RCACHE_URL`` says."""
    if config.get("CACHE_REDIS_SENTINELS"):
        return _sentinel(config)
    if config.get("CACHE_REDIS_CLUSTER"):
        return _cluster(config)
    return _redis(config) if config.get("CACHE_REDIS_URL") or config.get("CACHE_REDIS_HOST") else {}


def _redis(config: Mapping[str, Any]) -> dict[str, Any]:
    url = config.get("CACHE_REDIS_URL")
    database = config.get("CACHE_REDIS_DB")
    if url:
        parts = urlsplit(str(url))
        if parts.scheme in ("redis", "rediss") and database is not None and parts.path in ("", "/"):
            url = urlunsplit(parts._replace(path=f"/{database}"))
        return {"RCACHE_URL": url, **_driver_options(config)}
    host = config.get("CACHE_REDIS_HOST", "localhost")
    if not isinstance(host, str):
        raise ConfigError("CACHE_REDIS_HOST must be a host name: a client of your own is not used, set CACHE_REDIS_URL")
    where = f"{_user(config)}{_bracketed(host)}:{config.get('CACHE_REDIS_PORT', 6379)}/{database or 0}"
    return {"RCACHE_URL": f"redis://{where}", **_driver_options(config)}


def _sentinel(config: Mapping[str, Any]) -> dict[str, Any]:
    sentinels: Iterable[tuple[str, int]] = config.get("CACHE_REDIS_SENTINELS") or [("127.0.0.1", 26379)]
    hosts = ",".join(f"{_bracketed(host)}:{port}" for host, port in sentinels)
    service = quote(str(config.get("CACHE_REDIS_SENTINEL_MASTER", "mymaster")), safe="")
    settings = {
        "RCACHE_URL": f"redis+sentinel://{_user(config)}{hosts}/{service}/{config.get('CACHE_REDIS_DB') or 0}",
        **_driver_options(config),
    }
    password = config.get("CACHE_REDIS_SENTINEL_PASSWORD")
    return settings if not password else {**settings, "RCACHE_SENTINEL_OPTIONS": {"password": password}}


def _cluster(config: Mapping[str, Any]) -> dict[str, Any]:
    url = str(config.get("CACHE_REDIS_URL") or "")
    if url:
        scheme, colon, rest = url.partition("://")
        if not colon or scheme not in ("redis", "rediss"):
            raise ConfigError("CACHE_REDIS_URL of a RedisClusterCache must be redis://host:port or rediss://host:port")
        return {"RCACHE_URL": f"{scheme}+cluster://{rest}", **_driver_options(config)}
    nodes = ",".join(each.strip() for each in str(config.get("CACHE_REDIS_CLUSTER") or "").split(",") if each.strip())
    if not nodes:
        raise ConfigError("CACHE_TYPE = 'RedisClusterCache' needs CACHE_REDIS_CLUSTER = 'host:port,host:port'")
    return {"RCACHE_URL": f"redis+cluster://{_user(config)}{nodes}", **_driver_options(config)}


def _user(config: Mapping[str, Any]) -> str:
    password = config.get("CACHE_REDIS_PASSWORD")
    return f":{quote(str(password), safe='')}@" if password else ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _driver_options(config: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in (config.get("CACHE_OPTIONS") or {}).items() if name not in _OWN_OPTIONS}
    return {"RCACHE_REDIS_OPTIONS": options} if options else {}


_STORES: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "SimpleCache": _memory,
    "RedisCache": _redis,
    "RedisSentinelCache": _sentinel,
    "RedisClusterCache": _cluster,
    BACKEND: _as_said,
}
