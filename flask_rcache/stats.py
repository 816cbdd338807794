"""Counters: what the cache did, by type.

Owns the counting in this process, and the report over it. Counting is a plain call under a lock, not a signal, so that
it costs the hit path at most a microsecond and loses nothing between threads. The fleet's counters are kept by the
store, which takes what is new from here once a second.
"""

from __future__ import annotations

import threading
from typing import Final

from .stores.base import Tally

__all__ = ["Counters", "Statistics"]

FIELDS: Final = (
    "hits",
    "misses",
    "stale",
    "bypasses",
    "errors",
    "loads",
    "load_seconds",
    "collapsed",
    "refreshes",
    "stored",
    "stored_bytes",
    "refused",
    "garbage",
    "invalidations",
)


class Counters:
    """The counters of one type. ``add`` is exact under threads."""

    __slots__ = ("_lock", "_taken", "_values")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._values: Final[dict[str, float]] = dict.fromkeys(FIELDS, 0)
        self._taken: Final[dict[str, float]] = dict.fromkeys(FIELDS, 0)

    def add(self, name: str, amount: float = 1) -> None:
        """Count ``amount`` more of ``name``."""
        with self._lock:
            self._values[name] += amount

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

    def give_back(self, new: dict[str, float]) -> None:
        """What was taken did not arrive: it is new again."""
        with self._lock:
            for name, value in new.items():
                self._taken[name] -= value

    def untaken(self) -> dict[str, float]:
        """What the next take would give."""
        with self._lock:
            return {name: value - self._taken[name] for name, value in self._values.items()}


class Statistics:
    """The counters of all types of one manager."""

    __slots__ = ("_by_type", "_lock")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._by_type: Final[dict[str, Counters]] = {}

    def of(self, type_name: str) -> Counters:
        """The counters of a type; ``""`` for what belongs to none."""
        counters = self._by_type.get(type_name)
        if counters is None:
            with self._lock:
                counters = self._by_type.setdefault(type_name, Counters())
        return counters

    def types(self) -> list[str]:
        """The types that something was counted for."""
        return [name for name in tuple(self._by_type) if name]

    def take(self) -> Tally:
        """What is new since the last take, of every type."""
        taken = {name: counters.take() for name, counters in tuple(self._by_type.items())}
        return {name: new for name, new in taken.items() if new}

    def give_back(self, tally: Tally) -> None:
        """What was taken did not arrive: it is new again."""
        for name, new in tally.items():
            self.of(name).give_back(new)

    def report(self, *, is_available: bool, fleet: Tally | None = None) -> dict[str, object]:
        """The figures as the admin API shows them.

        Args:
            is_available: whether the store answers.
            fleet: what the whole fleet has counted up to the last second; without it the figures are this process's.
        """
        by_type = {name: counters.snapshot() for name, counters in sorted(self._by_type.items())}
        if fleet is not None:
            by_type = {name: _sum(fleet.get(name, {}), self.of(name).untaken()) for name in sorted({*fleet, *by_type})}
        total = {field: sum(values[field] for values in by_type.values()) for field in FIELDS}
        report = _figures(total)
        report["is_available"] = is_available
        report["scope"] = "process" if fleet is None else "fleet"
        report["by_type"] = {name: _figures(values) for name, values in by_type.items() if name}
        return report


def _sum(counted: dict[str, float], new: dict[str, float]) -> dict[str, float]:
    return {field: counted.get(field, 0) + new.get(field, 0) for field in FIELDS}


def _figures(values: dict[str, float]) -> dict[str, object]:
    requests = values["hits"] + values["stale"] + values["misses"]
    figures: dict[str, object] = {field: int(value) for field, value in values.items()}
    figures["load_seconds"] = round(values["load_seconds"], 6)
    figures["total_requests"] = int(requests)
    figures["hit_rate"] = round(100 * values["hits"] / requests, 2) if requests else 0.0
    return figures
