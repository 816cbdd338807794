"""Counters and records: what the cache did, by type, and what operators want to know of it.

Owns the counting in this process, the costliest keys, the recent invalidations, and the report over them. Counting is a
plain call under a lock, so that it costs the hit path little and loses nothing between threads. The
counters of all processes are kept by the store, which takes what is new from here once a second.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final, Protocol, TypedDict

from ..model.forks import new_lock, register
from ..stores.protocol import Counted, Counts, InvalidationRecord
from .statements import Statements

__all__ = ["FIELDS", "CacheStats", "Counters", "Meter", "Records", "Statistics", "TypeStats"]

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
    "sealed_failures",
    "invalidations",
)

#: The fields in which the seconds of an operation are summed; the others' are for meters only.
_SECONDS: Final = {"hit": "hit_seconds", "load": "load_seconds", "wait": "wait_seconds"}
#: Types beyond these are counted together, as those that belong to no type: names made for each call must not grow it.
_TYPES_KEPT: Final = 1000
_COSTS_KEPT: Final = 1000
_COSTS_SENT: Final = 50
_LOG_KEPT: Final = 50
_NAMES_SHOWN: Final = 20
#: Hits that wait to be counted at most.
_HITS_WAITING: Final = 256


class TypeStats(TypedDict):
    """The counters of one type, or of all. Seconds are sums; ``hit_rate`` is in per cent, to two decimals."""

    hits: int
    misses: int
    stale: int
    bypasses: int
    errors: int
    hit_seconds: float
    loads: int
    load_seconds: float
    waits: int
    wait_seconds: float
    collapsed: int
    refreshes: int
    stored: int
    stored_bytes: int
    refused: int
    garbage: int
    sealed_failures: int
    invalidations: int
    total_requests: int
    hit_rate: float


class CacheStats(TypeStats):
    """What :meth:`CacheManager.stats` returns.

    ``scope`` is ``"all"`` for the counters of all processes, ``"process"`` for this one's alone.
    """

    is_available: bool
    scope: str
    by_type: dict[str, TypeStats]


class Meter(Protocol):
    """A metrics library that takes every count as it happens. It never raises."""

    def count(self, type_name: str, field: str, amount: float) -> None:
        """``amount`` more of ``field`` (see :data:`FIELDS`); ``type_name`` is empty for what belongs to no type."""
        ...

    def time(self, type_name: str, operation: str, seconds: float) -> None:
        """An operation took so long: ``hit`` (lookup to reply), ``load``, ``wait``, ``set`` or ``invalidate``."""
        ...


class Counters:
    """The counters of one type, exact under threads."""

    __slots__ = ("_hits", "_lock", "_meters", "_name", "_taken", "_values")

    def __init__(self, name: str = "", meters: list[Meter] | None = None) -> None:
        self._name: Final = name
        self._meters: Final = [] if meters is None else meters
        self._lock: Final = new_lock()
        # The seconds of hits that are not counted yet: to append one takes less than the lock.
        self._hits: Final[deque[float]] = deque()
        self._values: Final[dict[str, float]] = dict.fromkeys(FIELDS, 0)
        self._taken: Final[dict[str, float]] = dict.fromkeys(FIELDS, 0)

    def add(self, field: str, amount: float = 1) -> None:
        """Count ``amount`` more of ``field``."""
        with self._lock:
            self._values[field] += amount
        for meter in self._meters:
            meter.count(self._name, field, amount)

    def summed(self, field: str, sum_field: str, amount: float) -> None:
        """Count one more of ``field``, and ``amount`` more of ``sum_field``."""
        with self._lock:
            self._values[field] += 1
            self._values[sum_field] += amount
        for meter in self._meters:
            meter.count(self._name, field, 1)
            meter.count(self._name, sum_field, amount)

    def hit(self, seconds: float) -> None:
        """Count a hit, and the seconds from the lookup to the reply."""
        self._hits.append(seconds)
        if len(self._hits) >= _HITS_WAITING:
            with self._lock:
                self._count_hits()
        if self._meters:
            for meter in self._meters:
                meter.count(self._name, "hits", 1)
                meter.count(self._name, "hit_seconds", seconds)
                meter.time(self._name, "hit", seconds)

    def _count_hits(self) -> None:
        """Count the hits that wait for it; the lock is held. What is appended meanwhile may wait for the next time."""
        values, hits = self._values, self._hits
        for _ in range(len(hits)):
            values["hits"] += 1
            values["hit_seconds"] += hits.popleft()

    def timed(self, operation: str, seconds: float, counted: str = "") -> None:
        """An operation took so long; its seconds are summed where there is a field for them.

        Args:
            operation: its name.
            seconds: how long it took.
            counted: the field of which there is one more with it, if any.
        """
        field = _SECONDS.get(operation)
        if counted or field is not None:
            with self._lock:
                if counted:
                    self._values[counted] += 1
                if field is not None:
                    self._values[field] += seconds
        for meter in self._meters:
            if counted:
                meter.count(self._name, counted, 1)
            if field is not None:
                meter.count(self._name, field, seconds)
            meter.time(self._name, operation, seconds)

    def snapshot(self) -> dict[str, float]:
        """All counters at one instant."""
        with self._lock:
            self._count_hits()
            return dict(self._values)

    def take(self) -> dict[str, float]:
        """What is new since the last take."""
        with self._lock:
            self._count_hits()
            new = {
                name: value - self._taken[name] for name, value in self._values.items() if value != self._taken[name]
            }
            self._taken.update(self._values)
            return new

    def give_back(self, new: dict[str, float]) -> None:
        """What was taken did not arrive: it is new again."""
        with self._lock:
            for name, value in new.items():
                self._taken[name] -= value

    def reset_after_fork(self) -> None:
        """What was counted is the parent's to report."""
        self._count_hits()
        self._taken.update(self._values)


class Records:
    """The costliest keys and the recent invalidations of one process; bounded whatever happens."""

    __slots__ = ("_costs", "_lock", "_log", "_new_costs", "_new_log")

    def __init__(self) -> None:
        self._lock: Final = new_lock()
        self._costs: Final[dict[str, float]] = {}
        self._new_costs: Final[dict[str, float]] = {}
        self._log: Final[deque[tuple[float, InvalidationRecord]]] = deque(maxlen=_LOG_KEPT)
        self._new_log: Final[deque[tuple[float, InvalidationRecord]]] = deque(maxlen=_LOG_KEPT)

    def loaded(self, key: str, seconds: float) -> None:
        """A load of a key took so long."""
        with self._lock:
            for costs in (self._costs, self._new_costs):
                costs[key] = costs.get(key, 0.0) + seconds
                if len(costs) > _COSTS_KEPT:
                    _drop_cheap(costs)

    def invalidated(self, scope: str, names: tuple[str, ...], removed: int, *, journalled: bool) -> None:
        """Something was invalidated just now."""
        shown = tuple(map(_sendable, names[:_NAMES_SHOWN]))
        record = InvalidationRecord(time.time(), scope, shown, removed, journalled)
        with self._lock:
            self._log.appendleft((time.monotonic(), record))
            self._new_log.appendleft((time.monotonic(), record))

    def costliest(self, limit: int) -> list[tuple[str, float]]:
        """The keys whose loads took longest in all, with the seconds."""
        with self._lock:
            return sorted(self._costs.items(), key=lambda item: -item[1])[:limit]

    def recent(self) -> list[InvalidationRecord]:
        """The last invalidations, the newest first."""
        with self._lock:
            return [record for _, record in self._log]

    def take(self) -> tuple[dict[str, float], list[InvalidationRecord]]:
        """What is new since the last take; in the log, how many seconds ago it was."""
        with self._lock:
            costs = dict(sorted(self._new_costs.items(), key=lambda item: -item[1])[:_COSTS_SENT])
            now = time.monotonic()
            log = [record._replace(at=max(0.0, now - since)) for since, record in self._new_log]
            self._new_costs.clear()
            self._new_log.clear()
            return costs, log

    def give_back(self, costs: dict[str, float], log: list[InvalidationRecord]) -> None:
        """What was taken did not arrive: it is new again."""
        with self._lock:
            now = time.monotonic()
            for key, seconds in costs.items():
                self._new_costs[key] = self._new_costs.get(key, 0.0) + seconds
            if len(self._new_costs) > _COSTS_KEPT:
                _drop_cheap(self._new_costs)
            for record in log:  # older than what came since
                if len(self._new_log) < _LOG_KEPT:
                    self._new_log.append((now - record.at, record))

    def reset_after_fork(self) -> None:
        """What was recorded is the parent's to report."""
        self._new_costs.clear()
        self._new_log.clear()


class Statistics:
    """The counters of all types of one manager, and its records.

    Attributes:
        meters: take every count; empty unless metrics are wanted.
        records: the costliest keys and the recent invalidations.
        statements: the cached statements of databases.
    """

    __slots__ = ("__weakref__", "_by_type", "_lock", "meters", "records", "statements")

    def __init__(self) -> None:
        self.meters: Final[list[Meter]] = []
        self.records: Final = Records()
        self.statements: Final = Statements()
        self._lock: Final = new_lock()
        self._by_type: Final[dict[str, Counters]] = {}
        register(self)

    def reset_after_fork(self) -> None:
        """What is new is reported by the parent, and by nobody else."""
        for counters in self._by_type.values():
            counters.reset_after_fork()
        self.records.reset_after_fork()
        self.statements.reset_after_fork()

    def of(self, type_name: str) -> Counters:
        """The counters of a type; ``""`` for what belongs to none."""
        counters = self._by_type.get(type_name)
        if counters is None:
            with self._lock:
                name = type_name if len(self._by_type) < _TYPES_KEPT else ""
                counters = self._by_type.setdefault(name, Counters(name, self.meters))
        return counters

    def types(self) -> list[str]:
        """The types that something was counted for."""
        return [name for name in tuple(self._by_type) if name]

    def take(self) -> Counted:
        """What is new since the last take, of every type."""
        taken = {name: counters.take() for name, counters in tuple(self._by_type.items())}
        costs, log = self.records.take()
        counts = {name: new for name, new in taken.items() if new}
        return Counted(counts, costs, log, self.statements.take())

    def give_back(self, counted: Counted) -> None:
        """What was taken did not arrive: it is new again."""
        for name, new in counted.counts.items():
            self.of(name).give_back(new)
        self.records.give_back(counted.costs, counted.log)
        self.statements.give_back(counted.statements)

    def report(self, *, is_available: bool, counts: Counts | None = None) -> CacheStats:
        """The figures as :meth:`CacheManager.stats <flask_rcache.CacheManager.stats>` gives them.

        Args:
            is_available: whether the store answers.
            counts: what all processes counted; without it the figures are this process's.
        """
        by_type = {name: counters.snapshot() for name, counters in sorted(self._by_type.items())}
        if counts is not None:
            # Nothing of this process's own on top: asked of one worker and then of another, counters must not fall.
            by_type = {name: _complete(counts.get(name, {})) for name in sorted({*counts, *by_type})}
        total = {field: sum(values[field] for values in by_type.values()) for field in FIELDS}
        return CacheStats(
            **_figures(total),
            is_available=is_available,
            scope="process" if counts is None else "all",
            by_type={name: _figures(values) for name, values in by_type.items() if name},
        )


def _drop_cheap(costs: dict[str, float]) -> None:
    """The cheaper half goes."""
    for cheap, _ in sorted(costs.items(), key=lambda item: item[1])[: len(costs) // 2]:
        del costs[cheap]


def _sendable(name: str) -> str:
    """The beginning of a name; a lone surrogate, which cannot be sent, is spelled out."""
    return name[:200].encode("utf-8", "backslashreplace").decode()


def _complete(counted: dict[str, float]) -> dict[str, float]:
    return {field: counted.get(field, 0) for field in FIELDS}


def _figures(values: dict[str, float]) -> TypeStats:
    requests = values["hits"] + values["stale"] + values["misses"]
    figures = {field: round(value, 6) if field.endswith("_seconds") else int(value) for field, value in values.items()}
    figures["total_requests"] = int(requests)
    figures["hit_rate"] = round(100 * values["hits"] / requests, 2) if requests else 0.0
    return figures  # type: ignore[return-value]  # its keys are those of FIELDS and the two above
