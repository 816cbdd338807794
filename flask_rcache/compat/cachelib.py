"""A ``cachelib`` cache on this engine: for Flask-Session and other libraries that take one.

Owns :class:`RCacheStore`. It needs the package ``cachelib``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from cachelib import BaseCache

from ..config.settings import load_settings
from ..context import current_cache
from ..engine.manager import CacheManager
from ..extension import store_of
from .contract import KeyValues

__all__ = ["RCacheStore"]


class RCacheStore(BaseCache):
    """A cache as cachelib has it, on this engine.

    Args:
        url: of the store, as ``RCACHE_URL``: the cache is then one of its own. Left out, it is that of the current app.
        key_prefix: keeps the keys of several caches apart, or a function that returns it, such as one for each tenant:
            each has a cache type. ``clear`` removes those of this prefix, and no others.
        default_timeout: seconds, or a ``timedelta``, for a timeout of ``None``; 0 never expires.
        ignore_delete_many_errors: whether ``delete_many`` is silent when Redis is away.
        check_connection: whether a store that is away is an error now.
        values: classes of your own that are stored; with ``url`` only, otherwise ``RCache(values=[…])`` has them.
        settings: others of the settings ``RCACHE_*``, with ``url`` only. Of the environment ``RCACHE_ENCRYPTION_KEYS``
            applies as well, and nothing else.

    Raises:
        ConfigError: an argument is not usable.
        RuntimeError: the store is away, with ``check_connection``.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key_prefix: str | Callable[[], str] | None = None,
        default_timeout: int | timedelta = 300,
        ignore_delete_many_errors: bool = True,
        check_connection: bool = False,
        values: Iterable[type] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.key_prefix: Final = key_prefix or ""
        self.default_timeout = default_timeout  # type: ignore[assignment]  # cachelib's before 0.17 take no timedelta
        self.ignore_delete_many_errors = ignore_delete_many_errors
        self._own: Final = _own_manager(url, values, settings)
        self._values: Final = KeyValues(
            self._manager,
            "cachelib",
            key_prefix=key_prefix,
            default_timeout=default_timeout,
            ignore_errors=ignore_delete_many_errors,
        )
        if check_connection and self._values.manager.engine.store.hear() is None:
            raise RuntimeError("could not connect to Redis: start it, or correct the URL")

    def _manager(self) -> CacheManager:
        return current_cache if self._own is None else self._own

    def get(self, key: str) -> Any:
        """The value of a key; ``None`` when there is none."""
        return self._values.get(key)

    def get_many(self, *keys: str) -> list[Any]:
        """The values in the order of the keys, ``None`` for each that has none."""
        return self._values.get_many(*keys)

    def get_dict(self, *keys: str) -> dict[str, Any]:
        """:meth:`get_many` by key."""
        return self._values.get_dict(*keys)

    def has(self, key: str) -> bool:
        """Whether a key has a value."""
        return self._values.has(key)

    def set(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Store a value; whether it was stored."""
        return self._values.set(key, value, timeout)

    def set_many(self, mapping: dict[str, Any], timeout: int | timedelta | None = None) -> list[Any]:
        """Store values; the keys of those that were stored."""
        return self._values.set_many(mapping, timeout)

    def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Store a value where there is none; whether it was stored."""
        return self._values.add(key, value, timeout)

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add to an integer, atomically; the new value, or ``None`` when Redis is away."""
        return self._values.inc(key, delta)

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Subtract from an integer, atomically; the same."""
        return self._values.dec(key, delta)

    def delete(self, key: str) -> bool:
        """Remove a value; whether it was there."""
        return self._values.delete(key)

    def delete_many(self, *keys: str) -> list[Any]:
        """Remove values; the keys."""
        return self._values.delete_many(*keys)

    def close(self) -> None:
        """Release the connections and threads of a cache with a URL of its own; it may be used again."""
        if self._own is not None:
            self._own.close()

    def clear(self) -> bool:
        """Remove everything that was stored under this prefix, and nothing else."""
        return self._values.clear()


def _own_manager(url: str | None, values: Iterable[type], settings: Mapping[str, Any] | None) -> CacheManager | None:
    """A cache that belongs to no app; ``None`` where there is no URL."""
    if url is None:
        return None
    # Of the environment only what keeps data from others: nobody expects that a store beside the app's is not sealed.
    environ = {name: value for name, value in os.environ.items() if name == "RCACHE_ENCRYPTION_KEYS"}
    loaded = load_settings({**(settings or {}), "RCACHE_URL": url}, environ)
    return CacheManager(loaded, store_of(loaded), values=values)
