"""The stamp set of a store in this process: rule R1's rows, and what is left of those that were dropped.

Owns which rows there are, how long, and what their going means. Whether an entry is valid says
:func:`~flask_rcache.model.entry.is_valid`. No clock, no lock: both are the store's.
"""

from __future__ import annotations

from typing import Final

from ..model.entry import MICROSECONDS, Entry, is_valid
from .timetable import Timetable

__all__ = ["StampSet"]

#: A row outlives its last entry by this: a request that began before may still fill (R1.4).
_KEPT: Final = 300 * MICROSECONDS
_STEPS: Final = 8


class StampSet:
    """Stamps by tag, in the store's clock (µs).

    Args:
        epoch: the random name of the set.
        max_rows: rows kept at most.
        now: the reading at which it is made: nothing older is valid in it.

    Attributes:
        floor: what was loaded before it is invalid.
        forgotten: the latest stamp of a row that was dropped.
        barrier: what was loaded before it, or at it, is not stored any more (R4.2).

    >>> stamps = StampSet(1, max_rows=2)
    >>> stamps.stamp(["a", "b"], 5)
    >>> stamps.stamp(["c"], 7)
    >>> stamps.forgotten, stamps.allows(1, [("a", 6)]), stamps.allows(1, [("c", 6)])
    (5, True, False)
    """

    __slots__ = ("_ends", "_max_rows", "barrier", "epoch", "floor", "forgotten", "rows")

    def __init__(self, epoch: int, *, max_rows: int, now: int = 0) -> None:
        self.epoch: Final = epoch
        self.floor = now
        self.forgotten = now
        self.barrier = 0
        self.rows: Final[dict[str, int]] = {}
        self._max_rows: Final = max_rows
        self._ends: Final = Timetable()  # until when each row is kept

    def validates(self, entry: Entry) -> bool:
        """Whether a stored entry is valid (R1.2)."""
        return is_valid(entry, self.epoch, self.floor, self.forgotten, self.rows)

    def allows(self, epoch: int, tags: list[tuple[str, int]]) -> bool:
        """Whether what has these tags, each with its ``as_of``, would be valid if it was stored now (R1.4)."""
        return self.validates(Entry(b"", epoch=epoch, as_of=0, created=0, ttl=0.0, tags=tuple(tags)))

    def stamp(self, tags: list[str], now: int) -> None:
        """Invalidate tags; a stamp that is ahead of ``now`` stays (R1.3)."""
        rows = self.rows
        for tag in tags:
            rows[tag] = max(rows.get(tag, 0), now)
            self._keep_until(tag, rows[tag] + _KEPT)
        self._drop(len(tags), now)

    def attach(self, tags: tuple[tuple[str, int], ...], expires: int, now: int) -> None:
        """Keep the rows of an entry just stored; the missing ones are made, each at its tag's ``as_of`` (R1.3)."""
        for tag, as_of in tags:
            self._keep_until(tag, max(self.rows.setdefault(tag, as_of), expires) + _KEPT)
        self._drop(len(tags), now)

    def raise_floor(self, now: int) -> None:
        """Invalidate everything; rows whose stamp is later stay (R1.3)."""
        self.floor = max(self.floor, now)
        ahead = {tag: stamp for tag, stamp in self.rows.items() if stamp > now}
        self.rows.clear()
        self._ends.clear()
        for tag, stamp in ahead.items():
            self.rows[tag] = stamp
            self._keep_until(tag, stamp + _KEPT)

    def _keep_until(self, tag: str, end: int) -> None:
        if end > self._ends.get(tag):
            self._ends[tag] = end

    def _drop(self, added: int, now: int) -> None:
        """Drop rows that are due, and what exceeds the limit: those of no live entry first, the oldest first (R1.4).

        A few steps for each row that came: there may be more rows than the limit for a moment, but no operation pays
        for the work of many.
        """
        steps = _STEPS * (added + 1)
        dropped = self._ends.take(steps, steps=steps, until=now)
        excess = len(self.rows) - len(dropped) - self._max_rows
        if excess > 0:
            dropped += self._ends.take(excess, steps=steps)
        for tag in dropped:
            self.forgotten = max(self.forgotten, self.rows.pop(tag))
