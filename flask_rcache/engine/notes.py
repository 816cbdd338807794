"""Notes for operators: on which keys loading costs most, and what was invalidated lately.

Owns two bounded collections in this process. Like the counters they go to the store once a second, which keeps the
fleet's. Nothing here is on the way of a hit.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from ..model.forks import new_lock
from ..stores.protocol import Logged

__all__ = ["Notes"]

_COSTS_KEPT: Final = 1000
_COSTS_TOLD: Final = 50
_LOG_KEPT: Final = 50


class Notes:
    """What one process has noted; exact under threads, and bounded whatever happens."""

    __slots__ = ("_costs", "_lock", "_log", "_new_costs", "_new_log")

    def __init__(self) -> None:
        self._lock: Final = new_lock()
        self._costs: Final[dict[str, float]] = {}
        self._new_costs: Final[dict[str, float]] = {}
        self._log: Final[deque[tuple[float, Logged]]] = deque(maxlen=_LOG_KEPT)
        self._new_log: Final[deque[tuple[float, Logged]]] = deque(maxlen=_LOG_KEPT)

    def loaded(self, key: str, seconds: float) -> None:
        """A load of a key took so long."""
        with self._lock:
            _add(self._costs, key, seconds)
            _add(self._new_costs, key, seconds)

    def invalidated(self, scope: str, names: tuple[str, ...], removed: int, *, journalled: bool) -> None:
        """Something was invalidated just now."""
        noted = Logged(time.time(), scope, tuple(map(_plain, names[:20])), removed, journalled)
        with self._lock:
            self._log.appendleft((time.monotonic(), noted))
            self._new_log.appendleft((time.monotonic(), noted))

    def costliest(self, limit: int) -> list[tuple[str, float]]:
        """The keys whose loads took longest in all, with the seconds."""
        with self._lock:
            return sorted(self._costs.items(), key=lambda item: -item[1])[:limit]

    def recent(self) -> list[Logged]:
        """The last invalidations, the newest first."""
        with self._lock:
            return [noted for _, noted in self._log]

    def take(self) -> tuple[dict[str, float], list[Logged]]:
        """What is new since the last take; in the log, how many seconds ago it was."""
        with self._lock:
            costs = dict(sorted(self._new_costs.items(), key=lambda item: -item[1])[:_COSTS_TOLD])
            now = time.monotonic()
            log = [noted._replace(at=max(0.0, now - since)) for since, noted in self._new_log]
            self._new_costs.clear()
            self._new_log.clear()
            return costs, log

    def forked(self) -> None:
        """Nothing is new in a forked child; what was noted is its parent's to tell."""
        self._new_costs.clear()
        self._new_log.clear()

    def give_back(self, costs: dict[str, float], log: list[Logged]) -> None:
        """What was taken did not arrive: it is new again."""
        with self._lock:
            now = time.monotonic()
            for key, seconds in costs.items():
                _add(self._new_costs, key, seconds)
            for noted in log:  # older than what came since
                if len(self._new_log) < _LOG_KEPT:
                    self._new_log.append((now - noted.at, noted))


def _plain(name: str) -> str:
    """The beginning of a name; a lone surrogate, which cannot be sent, is spelled out."""
    return name[:200].encode("utf-8", "backslashreplace").decode()


def _add(costs: dict[str, float], key: str, seconds: float) -> None:
    costs[key] = costs.get(key, 0.0) + seconds
    if len(costs) > _COSTS_KEPT:  # the cheaper half goes
        for cheap, _ in sorted(costs.items(), key=lambda item: item[1])[: _COSTS_KEPT // 2]:
            del costs[cheap]
