"""The cache manager: what users call, and the one place that degrades.

Owns invalidation, and the decision that a failing store never reaches the caller. The value API is in ``values``,
``fetching`` and ``many``, what operators ask in ``insight``, how loads begin and end in ``admission`` and ``loading``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final

from .. import signals as events
from ..config.settings import Settings
from ..errors import StoreError
from ..model.cache_type import CacheType, check_tags
from ..model.forks import new_lock
from ..model.keys import Key, Names, user_tag
from ..stores.protocol import Counting, Store
from . import tracing
from .inspector import Insight, told
from .loading import Loading
from .many import FetchingMany
from .policies import Registry
from .refresher import Refresher
from .statistics import Statistics
from .tracing import Tracer
from .values import MISSING

__all__ = ["MISSING", "CacheManager"]

logger: Final = logging.getLogger("flask_rcache")


_VARYING_KEPT: Final = 20_000


class CacheManager(FetchingMany, Insight):
    """One app's cache: ``current_cache``, or ``app.extensions["rcache"]``.

    Args:
        settings: the app's settings.
        store: where entries are kept.
        types: the types this app registers beside the built-in ones.
        discover: gives the types found on the app's views, asked when a name is not known.
        switched_off: whether ``rcache.disabled()`` is in force.
        enter: gives the context that a background refresh runs in (the app's).

    Raises:
        ConfigError: two different registrations of one type name.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        types: Iterable[CacheType] = (),
        discover: Callable[[], Iterable[CacheType]] = tuple,
        switched_off: Callable[[], bool] = bool,
        enter: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.settings = settings
        self.store = store
        self.names = Names(settings.prefix)
        self.statistics = Statistics()
        self.registry = Registry(types, discover, settings=settings, names=self.names, statistics=self.statistics)
        if isinstance(store, Counting):
            store.counted = (self.statistics.take, self.statistics.give_back)
        self.loading = Loading(store, degraded=self.degraded, load_timeout=settings.load_timeout, sender=self)
        self.refresher = Refresher(failed=self._not_refreshed)
        self.enter = enter
        self._tracer: Tracer | None = None
        self.bindings: Final[dict[Any, Any]] = {}
        self.vary_names: Final[dict[str, tuple[str, ...]]] = {}
        self._switched_off: Final = switched_off
        self._incident = 0
        self._incident_lock: Final = new_lock()

    @property
    def types(self) -> Mapping[str, CacheType]:
        """The known types by name, built in, registered and found on the app's views."""
        return self.registry.types()

    @property
    def enabled(self) -> bool:
        """Whether entries are read and filled; invalidations are sent in any case."""
        return self.settings.enabled and not self._switched_off()

    @property
    def tracer(self) -> Tracer | None:
        """Makes a span around each look-up; ``None`` for none. See ``flask_rcache.metrics.opentelemetry``."""
        return self._tracer

    @tracer.setter
    def tracer(self, tracer: Tracer | None) -> None:
        self._tracer = tracer
        if tracer is not None:
            tracing.want()

    # Invalidation

    def delete(self, cache_type: CacheType | str, key: Key) -> bool:
        """Remove one entry, its variants included, and refuse the result of a load of it that is under way.

        Args:
            cache_type: the type, or its registered name.
            key: the key, or the stored key as :meth:`entries` and ``X-Cache-Key`` show it.

        Returns:
            Whether it was there. ``False`` too when the store is away; the removal is then journalled.

        Raises:
            ConfigError: the type or the key is not usable.
        """
        policy = self.policy(cache_type)
        # A key with a hash in it may have been pasted from a listing, or be what `set` was given: then it is hashed.
        stored = list(dict.fromkeys(self.names.stored(policy.name, key, hashed=hashed) for hashed in (True, False)))
        return self._invalidated("key", tuple(stored[:1]), policy.name, lambda: self.store.delete(stored)) > 0

    def discard(self, type_name: str, stored: list[str]) -> None:
        """Remove what lies under keys whose new value could not be stored."""
        self._invalidated("key", tuple(stored), type_name, lambda: self.store.delete(stored))

    def invalidate_type(self, cache_type: CacheType | str, *, soft: bool = False) -> int:
        """Make every entry of a type invalid, everywhere. Call it after the write has been committed.

        Args:
            cache_type: the type, or its registered name.
            soft: expire them instead: those that may be served stale (``stale_while_revalidate``, ``stale_if_error``)
                are, while they are loaded anew. The windows count from the invalidation. For what may be old for a
                moment, a ranking; never for what must not be.

        Returns:
            How many live entries were removed; the index tells, so it is an upper bound. 0 when the store is away, and
            the invalidation is journalled then.

        Raises:
            UnknownTypeError: a name that is not registered.
        """
        name = self.registry.resolve(cache_type).name
        return self._invalidated("type", (name,), name, lambda: self.store.invalidate((), (name,), soft=soft))

    def invalidate_tags(self, *tags: str, soft: bool = False) -> int:
        """Make every entry that bears one of the tags invalid, everywhere.

        Args:
            tags: the tags.
            soft: expire them instead, see :meth:`invalidate_type`.

        Returns:
            The number of tags stamped. 0 when the store is away, and the invalidation is journalled then.

        Raises:
            ConfigError: a tag is empty or not a string.
        """
        checked = check_tags(tags)
        if not checked:
            return 0

        def stamp() -> int:
            self.store.invalidate(tuple(map(user_tag, checked)), soft=soft)
            return len(checked)

        return self._invalidated("tags", checked, "", stamp)

    def invalidate_pattern(self, pattern: str, *, type: CacheType | str | None = None) -> int:
        """Remove the entries whose stored key matches a glob, and refuse loads that are under way.

        Args:
            pattern: ``*``, ``?``, ``[abc]``; relative to ``{prefix}:``, or with type to ``{prefix}:{type}:``. A hashed
                key matches by its hash only.
            type: confine it to this type.

        Returns:
            The number of entries removed. 0 when the store is away, and the invalidation is journalled then.

        Raises:
            ConfigError: the pattern is empty or not a string.
            UnknownTypeError: a type's name that is not registered.
        """
        name = None if type is None else self.registry.resolve(type).name
        glob, plain = self.names.pattern(pattern, type_name=name)
        return self._invalidated("pattern", (glob,), name or "", lambda: self.store.invalidate_pattern(glob, plain))

    def clear_all(self) -> int:
        """Make every entry of this cache invalid; other keys of the database are not touched.

        Returns:
            How many live entries were removed; the indexes tell, so it is an upper bound. 0 when the store is away, and
            the invalidation is journalled then.
        """
        return self._invalidated("all", (), "", lambda: self.store.invalidate((), (), everything=True))

    def invalidate_urls(self, keys: tuple[str, ...], members: tuple[str, ...]) -> int:
        """Remove the responses of URLs, their variants included; for ``views``."""

        def act() -> int:
            try:
                return self.store.delete(keys)
            finally:  # both are journalled when the store is away
                self.store.invalidate(members)

        return self._invalidated("url", keys, "", act)

    def remember_vary(self, stored: str, names: tuple[str, ...]) -> None:
        """Note which request fields select the variant of a URL; for ``views``."""
        while len(self.vary_names) >= _VARYING_KEPT:
            with suppress(RuntimeError, StopIteration):  # another thread changed it between iter and next
                self.vary_names.pop(next(iter(self.vary_names)), None)
        self.vary_names[stored] = names

    def _invalidated(self, scope: str, names: tuple[str, ...], type_name: str, act: Callable[[], int]) -> int:
        journalled, removed = False, 0
        began = time.monotonic()
        try:
            removed = act()
        except StoreError as error:
            journalled = True
            self.degraded(type_name, f"invalidate {scope}", error)
        counters = self.statistics.of(type_name)
        counters.add("invalidations")
        counters.timed("invalidate", time.monotonic() - began)
        self.statistics.notes.invalidated(scope, names, removed, journalled=journalled)
        watched = told.get()
        if watched is not None and journalled:
            watched.journalled = True
        if events.cache_invalidated.receivers:
            events.emit(events.cache_invalidated, self, events.Invalidated(scope, names, removed, journalled))
        return removed

    def close(self) -> None:
        """Let go of refreshes, connections and threads, without waiting for loaders; the cache may be used again."""
        self.refresher.close()
        self.store.close()

    def degraded(self, type_name: str, operation: str, error: Exception) -> None:
        """Carry on without the cache: count, tell who listens, and log the first failure of an incident."""
        self.statistics.of(type_name).add("errors")
        if events.cache_error.receivers:
            events.emit(events.cache_error, self, events.CacheError(type_name, operation, error))
        trouble = self.store.trouble
        if trouble is None:  # no incident: one bad value, and each is worth a line
            logger.warning("[CACHE ERROR] %s %s: %s", operation, type_name or "cache", error)
            return
        with self._incident_lock:
            known, self._incident = self._incident >= trouble.incident, max(self._incident, trouble.incident)
        if not known:
            logger.error(
                "[CACHE ERROR] %s: carrying on without the cache until it is back: %s", operation, trouble.cause
            )

    def _not_refreshed(self, stored: str, error: BaseException) -> None:
        """A background refresh failed; the entry stays as it is, and the key backs off."""
        logger.warning("[CACHE] %s could not be refreshed: %s: %s", stored, type(error).__name__, error)
