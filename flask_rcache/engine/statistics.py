"""Counters: what the cache did, by type.

Owns the counting in this process, and the report over it. Counting is a plain call under a lock, not a signal, so that
it costs the hit path at most a microsecond and loses nothing between threads. The fleet's counters are kept by the
store, which takes what is new from here once a second.
"""

from __future__ import annotations

from typing import Final, Protocol

from ..model.forks import new_lock, remember
from ..stores.protocol import News, Tally
from .notes import Notes

__all__ = ["FIELDS", "Counters", "Meter", "Statistics"]

FIELDS: Final = (
    "hits",
    "misses",
    "stale",
    "bypasses",
    "errors",
    "hit_seconds",
    "loads",
    "load_seconds",
    "waits",
    "wait_seconds",
    "collapsed",
    "refreshes",
    "stored",
    "stored_bytes",
    "refused",
    "garbage",
    "invalidations",
)

#: The fields in which the seconds of an operation are summed; the others' are for meters only.
_SECONDS: Final = {"hit": "hit_seconds", "load": "load_seconds", "wait": "wait_seconds"}


class Meter(Protocol):
    """Somebody who is told of every count as it happens, a metrics library. It never raises."""

    def count(self, type_name: str, field: str, amount: float) -> None:
        """``amount`` more of ``field`` (see :data:`FIELDS`); ``type_name`` is empty for what belongs to no type."""
        ...

    def time(self, type_name: str, operation: str, seconds: float) -> None:
        """An operation took so long: ``hit`` (look to reply), ``load``, ``wait``, ``set`` or ``invalidate``."""
        ...


class Counters:
    """The counters of one type. ``add`` is exact under threads."""

    __slots__ = ("_lock", "_meters", "_name", "_taken", "_values")

    def __init__(self, name: str = "", meters: list[Meter] | None = None) -> None:
        self._name: Final = name
        self._meters: Final = [] if meters is None else meters
        self._lock: Final = new_lock()
        self._values: Final[dict[str, float]] = dict.fromkeys(FIELDS, 0)
        self._taken: Final[dict[str, float]] = dict.fromkeys(FIELDS, 0)

    def add(self, name: str, amount: float = 1) -> None:
        """Count ``amount`` more of ``name``."""
        with self._lock:
            self._values[name] += amount
        if self._meters:
            for meter in self._meters:
                meter.count(self._name, name, amount)

    def hit(self, seconds: float) -> None:
        """Count a hit, and the seconds from the look to the reply."""
        with self._lock:
            self._values["hits"] += 1
            self._values["hit_seconds"] += seconds
        if self._meters:
            for meter in self._meters:
                meter.count(self._name, "hits", 1)
                meter.count(self._name, "hit_seconds", seconds)
                meter.time(self._name, "hit", seconds)

    def timed(self, operation: str, seconds: float) -> None:
        """An operation took so long; its seconds are summed where there is a field for them."""
        field = _SECONDS.get(operation)
        if field is not None:
            self.add(field, seconds)
        for meter in self._meters:
            meter.time(self._name, operation, seconds)

    def snapshot(self) -> dict[str, float]:
        """All counters at one instant."""
        with self._lock:
            return dict(self._values)

    def take(self) -> dict[str, float]:
        """What is new since the last take."""
        with self._lock:
            new = {
                name: value - self._taken[name] for name, value in self._values.items() if value != self._taken[name]
            }
            self._taken.update(self._values)
            return new

    def forked(self) -> None:
        """Nothing is new in a forked child; what was counted is its parent's to tell."""
        self._taken.update(self._values)

    def give_back(self, new: dict[str, float]) -> None:
        """What was taken did not arrive: it is new again."""
        with self._lock:
            for name, value in new.items():
                self._taken[name] -= value


class Statistics:
    """The counters of all types of one manager, and its notes.

    Attributes:
        meters: told of every count; empty unless metrics are wanted.
        notes: the costliest keys and the recent invalidations.
    """

    __slots__ = ("__weakref__", "_by_type", "_lock", "meters", "notes")

    def __init__(self) -> None:
        self.meters: Final[list[Meter]] = []
        self.notes: Final = Notes()
        self._lock: Final = new_lock()
        self._by_type: Final[dict[str, Counters]] = {}
        remember(self)

    def forked(self) -> None:
        """See :class:`~flask_rcache.forks.Heir`: what is new is told by the parent, and by nobody else."""
        for counters in self._by_type.values():
            counters.forked()
        self.notes.forked()

    def of(self, type_name: str) -> Counters:
        """The counters of a type; ``""`` for what belongs to none."""
        counters = self._by_type.get(type_name)
        if counters is None:
            with self._lock:
                counters = self._by_type.setdefault(type_name, Counters(type_name, self.meters))
        return counters

    def types(self) -> list[str]:
        """The types that something was counted for."""
        return [name for name in tuple(self._by_type) if name]

    def take(self) -> News:
        """What is new since the last take, of every type."""
        taken = {name: counters.take() for name, counters in tuple(self._by_type.items())}
        costs, log = self.notes.take()
        return News({name: new for name, new in taken.items() if new}, costs, log)

    def give_back(self, news: News) -> None:
        """What was taken did not arrive: it is new again."""
        for name, new in news.tally.items():
            self.of(name).give_back(new)
        self.notes.give_back(news.costs, news.log)

    def report(self, *, is_available: bool, fleet: Tally | None = None) -> dict[str, object]:
        """The figures as :meth:`CacheManager.stats <flask_rcache.CacheManager.stats>` gives them.

        Args:
            is_available: whether the store answers.
            fleet: what the whole fleet has told; without it the figures are this process's.
        """
        by_type = {name: counters.snapshot() for name, counters in sorted(self._by_type.items())}
        if fleet is not None:
            # Nothing of this process's own on top: asked of one worker and then of another, counters must not fall.
            by_type = {name: _complete(fleet.get(name, {})) for name in sorted({*fleet, *by_type})}
        total = {field: sum(values[field] for values in by_type.values()) for field in FIELDS}
        report = _figures(total)
        report["is_available"] = is_available
        report["scope"] = "process" if fleet is None else "fleet"
        report["by_type"] = {name: _figures(values) for name, values in by_type.items() if name}
        return report


def _complete(counted: dict[str, float]) -> dict[str, float]:
    return {field: counted.get(field, 0) for field in FIELDS}


def _figures(values: dict[str, float]) -> dict[str, object]:
    requests = values["hits"] + values["stale"] + values["misses"]
    figures: dict[str, object] = {
        field: round(value, 6) if field.endswith("_seconds") else int(value) for field, value in values.items()
    }
    figures["total_requests"] = int(requests)
    figures["hit_rate"] = round(100 * values["hits"] / requests, 2) if requests else 0.0
    return figures
