"""``RCache``: the Flask extension.

Owns ``init_app``: reading the settings, choosing the store, and putting a :class:`CacheManager` at
``app.extensions["rcache"]``. It keeps no app; one ``RCache`` may serve several, and its methods are those of the
current app's manager. What only some apps need is imported when their settings ask for it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar
from weakref import WeakSet

from flask import Flask, current_app

from . import context, views
from .cli import cache
from .config.settings import Settings, load_settings
from .context import EXTENSION, manager_of
from .engine.manager import CacheManager
from .engine.parts import Engine
from .engine.writes import Writer
from .errors import ConfigError
from .model.cache_type import CacheType
from .model.keys import Names
from .startup import add_template_tag, check_at_first_use
from .stores.memory import MemoryStore
from .stores.protocol import Store
from .views.options import options_of

if TYPE_CHECKING:
    from .codec.encryption import Encryption
    from .events.bus import Events, Handlers
    from .front import Front
    from .warming import Warming

__all__ = ["RCache"]

logger: Final = logging.getLogger("flask_rcache")

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., object])

#: Where an app has its events.
EVENTS: Final = "rcache.events"
_QUEUE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _of_current_app(method: Callable[Concatenate[CacheManager, P], R]) -> Callable[Concatenate[RCache, P], R]:
    """The same method, for the manager of the current app."""

    @functools.wraps(method)
    def call(_: RCache, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(manager_of(current_app), *args, **kwargs)

    return call


class RCache:
    """The extension: ``RCache(app)``, or ``rcache = RCache()`` and ``rcache.init_app(app)`` in a factory.

    Args:
        app: initialise this app at once.
        types: cache types to register beside the built-in ones.
        values: classes of values to store: dataclasses, named tuples, enums, pydantic models, or classes with
            ``__cache_value__`` and ``from_cache_value``.

    Raises:
        ConfigError: a setting, a type or a class is not usable.
    """

    def __init__(
        self, app: Flask | None = None, *, types: Iterable[CacheType] = (), values: Iterable[type] = ()
    ) -> None:
        self._types: Final = tuple(types)
        self._values: Final = tuple(values)
        self._engines: Final[WeakSet[Engine]] = WeakSet()
        self._apps: Final[WeakSet[Flask]] = WeakSet()
        self._warming: Warming | None = None
        self._writers: Final[dict[str, Writer]] = {}
        self._handlers: Handlers | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Give an app its cache.

        Args:
            app: reads ``app.config["RCACHE_*"]``, now and not later.

        Raises:
            ConfigError: a setting, a type or a class is not usable, or the app has a cache already.
        """
        if EXTENSION in app.extensions:
            raise ConfigError(f"{app.name!r} has a cache already: call init_app once for each app")
        settings = load_settings(app.config, os.environ, testing=app.testing)
        if settings.user_jwt_key is not None:
            from .config.jwt_keys import user_key  # needs PyJWT

            user_key(settings)  # an unusable one is an error now
        manager = CacheManager(settings, store_of(settings), types=self._types, values=self._values)
        manager.engine.observer.send_as(app)
        manager.engine.writes.writers = self._writers
        for name in settings.metrics:
            _export_to(name, manager)
        _add_admin_api(app, settings)  # the last that may fail: a blueprint cannot be taken away
        app.extensions[EXTENSION] = manager
        self._engines.add(manager.engine)
        app.cli.add_command(cache)
        views.install(app, context.install(app, manager, _front_of))
        add_template_tag(app)
        check_at_first_use(app)
        self._apps.add(app)
        if self._warming is not None:
            self._warming.attach(app)
        if settings.events or settings.events_stream is not None:
            self._events_of(app)

    def on(self, name: str) -> Callable[[F], F]:
        """Register a handler of the events of a name.

        It is called with the fields of the event that it names; with one parameter ``event``, with the
        ``Event``: ``name``, ``data`` and ``id``.

        Args:
            name: such as ``"order.created"``.

        Raises:
            ConfigError: the name or the function is not usable.
        """

        def register(function: F) -> F:
            self._all_handlers.add(name, function)
            return function

        return register

    def emit(self, name: str, /, **data: Any) -> None:
        """Say that something happened, in the current app.

        What ``RCACHE_EVENTS`` says is invalidated, the handlers are called, and with ``RCACHE_EVENTS_STREAM`` the event
        is added to the stream. Inside a transaction that has written something, on a database that ``SQLCache``
        watches, that happens after its commit, and not at all after a rollback.

        Args:
            name: of the event.
            data: its fields: what JSON can hold.

        Raises:
            ConfigError: the name or the fields are not usable.
            StoreUnavailableError: the stream is away; this app has handled the event.
            Exception: what a handler raised, after all of them were called.
        """
        self._events_of(current_app).emit(name, data)

    @property
    def _all_handlers(self) -> Handlers:
        if self._handlers is None:
            from .events.bus import Handlers  # which many apps do not need

            self._handlers = Handlers()
        return self._handlers

    def _events_of(self, app: Flask) -> Events:
        events: Events | None = app.extensions.get(EVENTS)
        if events is None:
            from .events.bus import Events

            real: Any = getattr(app, "_get_current_object", lambda: app)()
            events = app.extensions[EVENTS] = Events(real, self._all_handlers)
        return events

    @property
    def warming(self) -> Warming:
        """The warming tasks; it has ``register_task`` and ``register_view``."""
        if self._warming is None:
            from .warming import Warming  # which many apps do not need

            self._warming = Warming()
            for app in self._apps:
                self._warming.attach(app)
        return self._warming

    def writer(self, queue: str = "default", *, batch: int = 100) -> Callable[[F], F]:
        """Register a function as the writer of a queue: it applies writes behind, a list of :class:`Write` at a time.

        ``flask cache writer`` runs it. It raises :class:`PartialFailure` for some of them, anything else for all.

        Args:
            queue: the name that ``write_behind`` is given.
            batch: writes at a time at most.

        Raises:
            ConfigError: an argument is not usable, or the queue has a writer.
        """
        if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
            raise ConfigError(f"a queue's name must match [A-Za-z0-9_-]+ (64 characters at most), not {queue!r:.80}")
        if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= 10_000:
            raise ConfigError(f"batch of writer {queue!r} must be from 1 to 10000, not {batch!r:.80}")

        def register(function: F) -> F:
            if not callable(function) or inspect.iscoroutinefunction(function):
                raise ConfigError(f"the writer of queue {queue!r} must be a plain function, not {function!r:.80}")
            if queue in self._writers:
                raise ConfigError(f"queue {queue!r} has a writer already: {self._writers[queue].apply!r:.80}")
            self._writers[queue] = Writer(queue, function, batch)
            return function

        return register

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """For tests: inside, nothing is read from the cache or stored in it, in any thread; invalidations are sent."""
        engines = list(self._engines)
        for engine in engines:
            engine.disable()
        try:
            yield
        finally:
            for engine in engines:
                engine.enable()

    @property
    def is_available(self) -> bool:
        """See :attr:`CacheManager.is_available <flask_rcache.CacheManager.is_available>`."""
        return manager_of(current_app).is_available

    get = _of_current_app(CacheManager.get)
    set = _of_current_app(CacheManager.set)
    add = _of_current_app(CacheManager.add)
    incr = _of_current_app(CacheManager.incr)
    delete = _of_current_app(CacheManager.delete)
    fetch = _of_current_app(CacheManager.fetch)
    afetch = _of_current_app(CacheManager.afetch)
    block = _of_current_app(CacheManager.block)
    write_through = _of_current_app(CacheManager.write_through)
    write_behind = _of_current_app(CacheManager.write_behind)
    write_behind_many = _of_current_app(CacheManager.write_behind_many)
    get_many = _of_current_app(CacheManager.get_many)
    set_many = _of_current_app(CacheManager.set_many)
    fetch_many = _of_current_app(CacheManager.fetch_many)
    tag = _of_current_app(CacheManager.tag)
    limit_ttl = _of_current_app(CacheManager.limit_ttl)
    fresh = _of_current_app(CacheManager.fresh)
    invalidate_type = _of_current_app(CacheManager.invalidate_type)
    invalidate_tags = _of_current_app(CacheManager.invalidate_tags)
    invalidate_pattern = _of_current_app(CacheManager.invalidate_pattern)
    invalidate_url = _of_current_app(CacheManager.invalidate_url)
    invalidate_user = _of_current_app(CacheManager.invalidate_user)
    clear_all = _of_current_app(CacheManager.clear_all)
    stats = _of_current_app(CacheManager.stats)
    entries = _of_current_app(CacheManager.entries)
    page = _of_current_app(CacheManager.page)
    inspect = _of_current_app(CacheManager.inspect)
    queues = _of_current_app(CacheManager.queues)
    overview = _of_current_app(CacheManager.overview)
    not_modified = staticmethod(views.not_modified)


def store_of(settings: Settings) -> Store:
    """The store that an app's settings ask for: memory, Redis, or Redis behind a memory tier."""
    names = Names(settings.prefix)
    if not settings.is_shared:
        return MemoryStore(
            names, max_bytes=settings.l1_bytes, lease=settings.load_timeout, max_stamps=settings.max_stamps
        )
    from .codec.envelope import Codec
    from .config.address import parse_address

    address = parse_address(settings.url, "RCACHE_URL")
    options: dict[str, Any] = {
        "names": names,
        "codec": Codec(
            compress_from=settings.compress_from,
            level=settings.compress_level,
            max_size=settings.max_bytes * 2,
            encryption=_encryption_of(settings),
        ),
        "timeout": settings.timeout,
        "lease": settings.lease,
        "load_timeout": settings.load_timeout,
        "cold": settings.on_failover == "cold",
        "max_stamps": settings.max_stamps,
        "idle_timeout": settings.idle_timeout,
        "max_connections": settings.max_connections,
        "journal_keep": settings.journal_keep,
        "options": settings.redis_options,
    }
    has_memory_tier = bool(settings.l1_bytes and settings.l1_ttl)
    if address.kind == "cluster":
        from .stores.cluster import ClusterStore  # needs redis-py

        return ClusterStore(
            address,
            shards=settings.shards,
            memory_bytes=settings.l1_bytes if has_memory_tier else 0,
            outage_ttl=settings.outage_ttl,
            **options,
        )
    from .stores.redis.store import RedisStore  # needs redis-py

    redis = RedisStore(settings.url, sentinel_options=settings.sentinel_options, **options)
    if not has_memory_tier:
        return redis
    from .stores.tiered import TieredStore

    return TieredStore(redis, names=names, max_bytes=settings.l1_bytes, outage_ttl=settings.outage_ttl)


def _encryption_of(settings: Settings) -> Encryption | None:
    """What seals the entries of an app, if it has keys.

    Raises:
        ConfigError: the package for it is not installed.
    """
    if not settings.encryption_keys:
        return None
    try:
        from .codec.encryption import Encryption  # needs cryptography
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("flask_rcache"):
            raise
        raise ConfigError(
            'RCACHE_ENCRYPTION_KEYS needs the package cryptography: `pip install "flask-rcache[crypto]"` installs it'
        ) from error
    return Encryption(settings.encryption_keys)


def _export_to(name: str, manager: CacheManager) -> None:
    """Have a metrics library count what a manager does.

    Raises:
        ConfigError: its package is not installed.
    """
    try:
        importlib.import_module(f"flask_rcache.metrics.{name}").instrument(manager)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("flask_rcache"):
            raise
        raise ConfigError(f"RCACHE_METRICS names {name}: install it with `pip install flask-rcache[{name}]`") from error


def _front_of(app: Flask, is_innermost: bool) -> Front | None:
    """The front of an app, if its settings or one of its types ask for one; see :func:`.front.front_of`."""
    manager = manager_of(app)
    types = [*manager.engine.policies.types.values()]
    for view in app.view_functions.values():
        types += [each.cache_type for each in options_of(view) if isinstance(each.cache_type, CacheType)]
    if not manager.settings.front and not any(each.front for each in types):
        return None
    from .front import front_of  # costs an app that has none nothing

    return front_of(app, is_innermost)


def _add_admin_api(app: Flask, settings: Settings) -> None:
    """Give an app the admin API, if there is something that says who may call it."""
    if not settings.admin:
        return
    if settings.admin_jwt_key is None and settings.admin_jwks_url is None and settings.admin_guard is None:
        logger.info(
            "[CACHE] there is no admin API at %s: RCACHE_ADMIN_JWT_KEY, RCACHE_ADMIN_JWKS_URL or RCACHE_ADMIN_GUARD is "
            "needed for one",
            settings.admin_url_prefix,
        )
        return
    from .admin import register

    register(app, settings)
