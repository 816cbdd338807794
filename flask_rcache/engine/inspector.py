"""What operators ask of a cache: its figures, its entries, its state.

Owns the questions of the admin API, the command line and the metrics, for one manager. None of them changes anything,
none counts as a use of the cache, and none takes longer because there are more entries.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from ..errors import ConfigError, StoreError, UnknownTypeError
from ..model.cache_type import CacheType, is_type_name
from ..model.keys import Names, tag_of
from ..stores.protocol import Census, Gazette, Listed, Page, Store
from .policies import Registry
from .statistics import Statistics

__all__ = ["Insight", "Told", "told"]

_MOST_A_PAGE: Final = 1000
_COSTLIEST: Final = 20


class Told:
    """What became of the invalidations made inside ``watching_invalidations``; ``journalled``: Redis was away."""

    __slots__ = ("journalled",)

    def __init__(self) -> None:
        self.journalled = False


#: Who watches in this thread or task.
told: Final[ContextVar[Told | None]] = ContextVar("rcache_told", default=None)


class Insight(ABC):
    """The part of a cache manager that answers operators."""

    names: Names
    registry: Registry
    statistics: Statistics
    store: Store

    @abstractmethod
    def degraded(self, type_name: str, operation: str, error: Exception) -> None:
        """Carry on without the cache: count, tell who listens, log."""

    @property
    def is_available(self) -> bool:
        """Whether the store answers as it should."""
        return self.store.trouble is None

    def stats(self) -> dict[str, object]:
        """The counters of the whole fleet, by type and in all; ``scope`` says whether they are.

        What other processes counted in the last second may be missing. On ``memory://``, and while the store is away,
        the figures are this process's. Seconds are sums: ``hit_seconds`` from look to reply, ``load_seconds``,
        ``wait_seconds`` of requests that waited for another's load.
        """
        try:
            fleet = self.store.tallies(self.statistics.types())
        except StoreError:  # not counted as an error: asking for the figures must not change them
            fleet = None
        return self.statistics.report(is_available=self.is_available, fleet=fleet)

    def entries(self, type: CacheType | str | None = None, pattern: str | None = None) -> Iterator[Listed]:
        """The live entries with ttl, age, size and tags; never a value. It ends early when the store goes away.

        Args:
            type: confine it to this type.
            pattern: a glob as in :meth:`CacheManager.invalidate_pattern`.

        Raises:
            ConfigError: the type or the pattern is not usable; when the first entry is asked for.
        """
        name, glob = self._confined(type, pattern)
        try:
            for listed in self.store.entries(name, glob):
                yield _shown(listed)
        except StoreError as error:
            self.degraded(name or "", "entries", error)

    def page(
        self,
        type: CacheType | str | None = None,
        pattern: str | None = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Some of the live entries; all of them, page by page.

        An entry that stays is on one page however others come and go; one that is filled again meanwhile may be on two.

        Args:
            type: confine it to this type.
            pattern: a glob as in :meth:`CacheManager.invalidate_pattern`.
            cursor: the ``cursor`` of the page before.
            limit: entries wanted, 1 to 1000.

        Returns:
            The entries, and the cursor of the next page. Empty when the store is away.

        Raises:
            ConfigError: a limit, a pattern or a cursor that is not usable.
            UnknownTypeError: no such type.
        """
        name, glob = self._confined(type, pattern)
        if not isinstance(limit, int) or not 1 <= limit <= _MOST_A_PAGE:
            raise ConfigError(f"limit must be a whole number from 1 to {_MOST_A_PAGE}, not {limit!r}")
        try:
            entries, following = self.store.page(name, glob, cursor, limit)
        except ValueError as error:
            raise ConfigError(f"the cursor cannot be used: {error}; begin without one") from None
        except StoreError as error:
            self.degraded(name or "", "entries", error)
            return Page([], None)
        return Page([_shown(listed) for listed in entries], following)

    def inspect(self, key: str) -> Listed | None:
        """One live entry by its stored key, ``cache:search:42``; ``None`` when there is none.

        Raises:
            ConfigError: not a stored key of this cache.
        """
        type_name, _ = self.names.split(key)
        try:
            listed = self.store.inspect(key)
        except StoreError as error:
            self.degraded(type_name, "inspect", error)
            return None
        return None if listed is None else _shown(listed)

    def overview(self) -> dict[str, Any]:
        """The state of the cache as plain data: tiers, bus, breaker, journal, types, and what was noted lately.

        What there is of each type is counted by its index (``entries``, an upper bound) and estimated from a sample
        (``bytes``). ``memory_tier`` and ``bus`` are those of the answering process, ``None`` where there is none.
        """
        gazette, census = self._noted()
        trouble = self.store.trouble
        state = self.store.state()
        state["store"]["is_available"] = trouble is None
        state["store"]["trouble"] = None if trouble is None else str(trouble.cause)
        notes = self.statistics.notes
        costs = notes.costliest(_COSTLIEST) if gazette is None else gazette.costs
        log = notes.recent() if gazette is None else gazette.log
        return {
            "scope": "process" if gazette is None else "fleet",
            **state,
            "types": {name: found._asdict() for name, found in sorted(census.items())},
            "costliest": [{"key": key, "seconds": round(seconds, 6)} for key, seconds in costs],
            "loads": [{"key": key} for key in (gazette.loads if gazette else ())],
            "invalidations": [{**noted._asdict(), "names": list(noted.names)} for noted in log],
            "process": {"pid": os.getpid()},
        }

    def _noted(self) -> tuple[Gazette | None, dict[str, Census]]:
        try:
            return self.store.gazette(), self.store.census(sorted(self.registry.types()))
        except StoreError:  # as in stats: asking changes nothing
            return None, {}

    def known_type(self, cache_type: CacheType | str) -> CacheType:
        """The type that a name stands for when an operator says it; for the admin API and the command line.

        A registered one, or one that only a call has named so far, ``@cached(CacheType("adhoc"))``, in whichever
        process: of those there are figures and entries, so they can be listed and invalidated.

        Raises:
            UnknownTypeError: no such type, as far as the store can tell.
            ConfigError: neither a type nor a name.
        """
        try:
            return self.registry.resolve(cache_type)
        except UnknownTypeError:
            assert isinstance(cache_type, str)
            if not self._has_met(cache_type):
                raise
            return CacheType(cache_type)

    def _has_met(self, name: str) -> bool:
        if not is_type_name(name):
            return False
        if name in self.statistics.types():
            return True
        try:
            return name in (self.store.tallies(()) or ()) or name in self.store.census(())
        except StoreError:  # as in stats: asking changes nothing
            return False

    def _confined(self, type: CacheType | str | None, pattern: str | None) -> tuple[str | None, str | None]:
        """The type and the glob of a listing."""
        name = None if type is None else self.known_type(type).name
        if pattern is None:
            return name, None
        glob, plain = self.names.pattern(pattern, type_name=name)
        return plain, glob

    @contextmanager
    def watching_invalidations(self) -> Iterator[Told]:
        """Inside, learn what became of this thread's invalidations: whether one had to be journalled."""
        watched = Told()
        token = told.set(watched)
        try:
            yield watched
        finally:
            told.reset(token)


def _shown(listed: Listed) -> Listed:
    """The entry with the user's own tags only."""
    return listed._replace(tags=tuple(filter(None, map(tag_of, listed.tags))))
