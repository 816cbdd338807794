"""What operators ask of a cache: its figures, its entries, its state.

Owns the questions of the admin API, the command line and the metrics, for one manager. None of them changes anything,
none counts as a use of the cache, and none takes longer because there are more entries.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from ..errors import ConfigError, StoreError, UnknownTypeError
from ..model.cache_type import CacheType, is_type_name
from ..model.keys import tag_of
from ..stores.protocol import Activity, Listed, Page, Size
from .parts import Engine
from .queues import describe_queues
from .statements import described
from .statistics import CacheStats

__all__ = ["Inspector"]

_MOST_A_PAGE: Final = 1000
_COSTLIEST: Final = 20


class Inspector:
    """Answers operators.

    Args:
        engine: the parts of the cache.
    """

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine: Final = engine

    def stats(self) -> CacheStats:
        """The counters of all processes, by type and in total; ``scope`` says whether they are.

        What other processes counted in the last second may be missing. On ``memory://``, and while the store is away,
        the figures are this process's. Seconds are sums: ``hit_seconds`` from lookup to reply, ``load_seconds``,
        ``wait_seconds`` of requests that waited for another's load.
        """
        engine = self._engine
        try:
            counts = engine.catalogue.counts(engine.statistics.types())
        except StoreError:  # not counted as an error: asking for the figures must not change them
            counts = None
        return engine.statistics.report(is_available=engine.store.incident is None, counts=counts)

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
            for listed in self._engine.catalogue.entries(name, glob):
                yield _shown(listed)
        except StoreError as error:
            self._engine.guarded.failed(name or "", "entries", error)

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
            entries, following = self._engine.catalogue.page(name, glob, cursor, limit)
        except ValueError as error:
            raise ConfigError(f"the cursor cannot be used: {error}; begin without one") from None
        except StoreError as error:
            self._engine.guarded.failed(name or "", "entries", error)
            return Page([], None)
        return Page([_shown(listed) for listed in entries], following)

    def inspect(self, key: str) -> Listed | None:
        """One live entry by its stored key, ``cache:search:42``; ``None`` when there is none.

        Raises:
            ConfigError: not a stored key of this cache.
        """
        type_name, _ = self._engine.names.split(key)
        try:
            listed = self._engine.catalogue.inspect(key)
        except StoreError as error:
            self._engine.guarded.failed(type_name, "inspect", error)
            return None
        return None if listed is None else _shown(listed)

    def overview(self) -> dict[str, Any]:
        """The state of the cache as plain data: tiers, bus, breaker, journal, types, and recent activity.

        What there is of each type is counted by its index (``entries``, an upper bound) and estimated from a sample
        (``bytes``). ``memory_tier`` and ``bus`` are those of the answering process, ``None`` where there is none.
        ``queues`` has the queues of writes behind, ``warming`` the tasks, ``events`` the stream of events; ``warming``
        and ``events`` are empty while the store is away.
        """
        engine = self._engine
        activity, sizes = self._activity()
        incident = engine.store.incident
        state = engine.catalogue.state()
        state["store"]["is_available"] = incident is None
        state["store"]["incident"] = None if incident is None else str(incident.cause)
        state["store"]["since"] = None if incident is None else incident.since
        records = engine.statistics.records
        costs = records.costliest(_COSTLIEST) if activity is None else activity.costs
        log = records.recent() if activity is None else activity.log
        return {
            "scope": "process" if activity is None else "all",
            **state,
            "types": {name: size._asdict() for name, size in sorted(sizes.items())},
            "costliest": [
                {"key": key, "seconds": round(seconds, 6), **self._place(key)} for key, seconds in costs[:_COSTLIEST]
            ],
            "statements": described(engine.statistics.statements.counts() if activity is None else activity.statements),
            "loads": [{"key": key} for key in (activity.loads if activity else ())],
            "invalidations": [{**record._asdict(), "names": list(record.names)} for record in log],
            "queues": self.queues(),
            "warming": self._section("warming") or [],
            "events": self._section("events"),
            "process": {"pid": os.getpid()},
        }

    def statements(self) -> list[dict[str, Any]]:
        """How cached statements of databases fare in all processes; in this one where the store is away."""
        try:
            activity = self._engine.catalogue.activity()
        except StoreError:
            activity = None
        return described(self._engine.statistics.statements.counts() if activity is None else activity.statements)

    def queues(self) -> list[dict[str, Any]]:
        """The queues of writes behind: what waits in each, since when, who applies it, and what was given up."""
        return describe_queues(self._engine.store.queues, self._engine.writes.writers)

    def _section(self, name: str) -> Any:
        """What a part above this layer has to say; nothing where there is none, or the store is away."""
        section = self._engine.sections.get(name)
        try:
            return None if section is None else section()
        except StoreError:
            return None

    def _place(self, key: str) -> dict[str, str]:
        """The endpoint and the path of the request that a key's entry was stored for, if it is there still."""
        try:
            listed = self._engine.catalogue.inspect(key)
        except StoreError:
            listed = None
        return (
            {"endpoint": listed.endpoint, "path": listed.path} if listed is not None else {"endpoint": "", "path": ""}
        )

    def _activity(self) -> tuple[Activity | None, dict[str, Size]]:
        engine = self._engine
        activity: Activity | None = None
        sizes: dict[str, Size] = {}
        with suppress(StoreError):  # as in stats: asking changes nothing
            activity = engine.catalogue.activity()
            sizes = engine.catalogue.sizes(sorted(engine.policies.types))
        return activity, sizes

    def known_type(self, cache_type: CacheType | str) -> CacheType:
        """The type that a name stands for when an operator says it.

        A registered one, or one that only a call has named so far, ``@cached(CacheType("adhoc"))``, in whichever
        process: of those there are figures and entries, so they can be listed and invalidated.

        Raises:
            UnknownTypeError: no such type, as far as the store can tell.
            ConfigError: neither a type nor a name.
        """
        try:
            return self._engine.policies.resolve(cache_type)
        except UnknownTypeError:
            assert isinstance(cache_type, str)
            if not self._is_in_use(cache_type):
                raise
            return CacheType(cache_type)

    def _is_in_use(self, name: str) -> bool:
        engine = self._engine
        if not is_type_name(name):
            return False
        if name in engine.statistics.types():
            return True
        try:
            return name in (engine.catalogue.counts(()) or ()) or name in engine.catalogue.sizes(())
        except StoreError:  # as in stats: asking changes nothing
            return False

    def _confined(self, type: CacheType | str | None, pattern: str | None) -> tuple[str | None, str | None]:
        """The type and the glob of a listing."""
        name = None if type is None else self.known_type(type).name
        if pattern is None:
            return name, None
        glob, plain = self._engine.names.pattern(pattern, type_name=name)
        return plain, glob


def _shown(listed: Listed) -> Listed:
    """The entry with the user's own tags only."""
    return listed._replace(tags=tuple(filter(None, map(tag_of, listed.tags))))
