"""``RCache``: the Flask extension.

Owns ``init_app``: reading the settings, choosing the store, and putting a :class:`CacheManager` at
``app.extensions["rcache"]``. It keeps no app; one ``RCache`` may serve several.
"""

from __future__ import annotations

import importlib
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from flask import Flask

from .cli import cache
from .codec import Codec
from .config.settings import Settings, load_settings
from .context import EXTENSION, environ_now
from .engine.manager import CacheManager
from .errors import ConfigError
from .model.cache_type import CacheType
from .model.keys import Names
from .stores import MemoryStore, RedisStore, Store, TieredStore
from .views import install
from .views.binding import options_of
from .views.identity import user_key

__all__ = ["RCache"]


class RCache:
    """The extension: ``RCache(app)``, or ``rcache = RCache()`` and ``rcache.init_app(app)`` in a factory.

    Args:
        app: initialise this app at once.
        types: cache types to register beside the built-in ones.

    Raises:
        ConfigError: a setting or a type is not usable.
    """

    def __init__(self, app: Flask | None = None, *, types: Iterable[CacheType] = ()) -> None:
        self._types: Final = tuple(types)
        self._disabled = 0
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Give an app its cache.

        Args:
            app: reads ``app.config["RCACHE_*"]``, now and not later.

        Raises:
            ConfigError: a setting or a type is not usable, or the app has a cache already.
        """
        if EXTENSION in app.extensions:
            raise ConfigError(f"{app.name!r} has a cache already: call init_app once for each app")
        settings = load_settings(app.config, os.environ, testing=app.testing)
        user_key(settings)  # one that cannot be used is told of now
        manager = CacheManager(
            settings,
            store_of(settings, scope=environ_now),
            types=self._types,
            discover=_discovery(app),
            switched_off=lambda: self._disabled > 0,
            enter=_context_of(app),
        )
        for name in settings.metrics:
            _measured_by(name, manager)
        if settings.admin:  # the last that may fail: a blueprint cannot be taken away
            from .admin import register

            register(app, settings)
        app.extensions[EXTENSION] = manager
        app.cli.add_command(cache)
        install(app)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """For tests: inside, nothing is read from the cache or stored in it, in any thread; invalidations are sent."""
        self._disabled += 1
        try:
            yield
        finally:
            self._disabled -= 1


def _measured_by(name: str, manager: CacheManager) -> None:
    """Have a metrics library told of every count.

    Raises:
        ConfigError: its package is not installed.
    """
    try:
        importlib.import_module(f"flask_rcache.metrics.{name}").instrument(manager)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("flask_rcache"):
            raise
        raise ConfigError(f"RCACHE_METRICS names {name}: install it with `pip install flask-rcache[{name}]`") from error


def store_of(settings: Settings, *, scope: Callable[[], MutableMapping[str, Any] | None] = lambda: None) -> Store:
    """The store that an app's settings ask for: memory, Redis, or Redis behind a memory tier.

    Args:
        settings: the app's.
        scope: gives the environ of the present request, whose waiting has a budget.
    """
    names = Names(settings.prefix)
    if settings.url.startswith("memory:"):
        return MemoryStore(names, max_bytes=settings.l1_bytes, lease=settings.load_timeout)
    codec = Codec(compress_from=settings.compress_from, level=settings.compress_level, max_size=settings.max_bytes * 2)
    redis = RedisStore(
        settings.url,
        names=names,
        codec=codec,
        timeout=settings.timeout,
        lease=settings.lease,
        load_timeout=settings.load_timeout,
        cold=settings.on_failover == "cold",
        scope=scope,
    )
    if not settings.l1_bytes or not settings.l1_ttl:
        return redis
    return TieredStore(redis, names=names, max_bytes=settings.l1_bytes, outage_ttl=settings.outage_ttl)


def _context_of(app: Flask) -> Callable[[], AbstractContextManager[Any]]:
    """Gives an app context for a background refresh, without keeping the app alive."""
    ref = weakref.ref(app)

    def enter() -> AbstractContextManager[Any]:
        living = ref()
        return nullcontext() if living is None else living.app_context()

    return enter


def _discovery(app: Flask) -> Callable[[], Iterable[CacheType]]:
    """Gives the types on an app's decorated views, without keeping the app alive."""
    ref = weakref.ref(app)

    def discover() -> Iterable[CacheType]:
        living = ref()
        for view in () if living is None else tuple(living.view_functions.values()):
            for options in options_of(view):
                if isinstance(options.cache_type, CacheType):
                    yield options.cache_type

    return discover
