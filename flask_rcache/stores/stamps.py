"""The stamp set of a store in this process: rule R1's rows, and what is left of those that were dropped.

Owns which rows there are, how long, and what their going means. Whether an entry is valid says
:func:`~flask_rcache.model.entry.is_valid`. No clock, no lock: both are the store's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ..model.entry import MICROSECONDS, Entry, is_valid
from .timetable import Timetable
from .validity import Validity

__all__ = ["StampSet"]

#: A row outlives its last entry by this: a request that began before may still fill (R1.4).
_KEPT: Final = 300 * MICROSECONDS
_STEPS: Final = 8
#: After every reading: while a commit of this process is under way.
_AHEAD: Final = 2**62


class _Wanted:
    """What is to be stored, as far as its validity goes."""

    __slots__ = ("epoch", "tags")

    def __init__(self, epoch: int, tags: tuple[tuple[str, int], ...]) -> None:
        self.epoch = epoch
        self.tags = tags


class StampSet:
    """Stamps by tag, in the store's clock (µs).

    Args:
        epoch: the random name of the set.
        max_rows: rows kept at most.
        now: the reading at which it is made: nothing older is valid in it.
        validity: of the entries that are compared with it.

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

    __slots__ = ("_commits", "_ends", "_max_rows", "_validity", "barrier", "epoch", "floor", "forgotten", "rows")

    def __init__(self, epoch: int, *, max_rows: int, now: int = 0, validity: Validity | None = None) -> None:
        self._validity: Final = validity or Validity()
        self.epoch: Final = epoch
        self.floor = now
        self.forgotten = now
        self.barrier = 0
        self.rows: Final[dict[str, int]] = {}
        self._max_rows: Final = max_rows
        self._ends: Final = Timetable()  # until when each row is kept
        #: The tags that commits have set ahead: what the row would be otherwise, and the tokens.
        self._commits: Final[dict[str, tuple[int, set[str]]]] = {}

    def validates(self, entry: Entry) -> bool:
        """Whether a stored entry is valid (R1.2)."""
        return is_valid(entry, self.epoch, self.floor, self.forgotten, self.rows)

    def allows(self, epoch: int, tags: Iterable[tuple[str, int]]) -> bool:
        """Whether what has these tags, each with its ``as_of``, would be valid if it was stored now (R1.4)."""
        return is_valid(_Wanted(epoch, tuple(tags)), self.epoch, self.floor, self.forgotten, self.rows)

    def stamp(self, tags: list[str], now: int) -> None:
        """Invalidate tags; a stamp that is ahead of ``now`` stays (R1.3)."""
        rows = self.rows
        for tag in tags:
            held = self._commits.get(tag)
            if held is not None:  # should the commit be withdrawn, this stamp stays
                self._commits[tag] = now, held[1]
                continue
            rows[tag] = max(rows.get(tag, 0), now)
            self._ends.extend(tag, rows[tag] + _KEPT)
        self._drop(len(tags), now)
        self._validity.changed()

    def stamp_ahead(self, tags: Sequence[str], token: str) -> None:
        """Set tags ahead of every reading, until the commit with this token is over."""
        for tag in tags:
            base, tokens = self._commits.get(tag) or (self.rows.get(tag, self.forgotten), set())
            tokens.add(token)
            self._commits[tag] = base, tokens
            self.rows[tag] = _AHEAD
            self._ends.discard(tag)  # it is not dropped
        self._validity.changed()

    def end_commit(self, tags: Sequence[str], token: str, now: int, *, withdrawn: bool) -> None:
        """The commit with a token is over: what is left ahead of the clock is what other commits have set.

        Args:
            tags: what it invalidates, whether or not it was set ahead.
            token: of the commit.
            now: a reading of the clock.
            withdrawn: whether nothing was committed, so that nothing is stamped.
        """
        for tag in tags:
            base, tokens = self._commits.get(tag) or (self.rows.get(tag, self.forgotten), set())
            if not withdrawn:
                base = max(base, now)
            tokens.discard(token)
            if tokens:
                self._commits[tag] = base, tokens
                continue
            self._commits.pop(tag, None)
            self.rows[tag] = base
            self._ends.extend(tag, max(base, now) + _KEPT)
        self._drop(len(tags), now)
        self._validity.changed()

    def end_all_commits(self, now: int) -> None:
        """Who commits is no more: what became of it nobody knows."""
        for tag, (_, tokens) in tuple(self._commits.items()):
            for token in tuple(tokens):
                self.end_commit([tag], token, now, withdrawn=False)

    def attach(self, tags: tuple[tuple[str, int], ...], expires: int, now: int) -> None:
        """Keep the rows of an entry just stored; the missing ones are made at ``forgotten``, as is known (R1.3)."""
        rows = self.rows
        for tag, _ in tags:  # none of them is ahead, or it would not be stored
            self._ends.extend(tag, max(rows.setdefault(tag, self.forgotten), expires) + _KEPT)
        if len(rows) > self._max_rows or self._ends.is_due(now):
            self._drop(len(tags), now)

    def raise_floor(self, now: int) -> None:
        """Invalidate everything; rows whose stamp is later stay (R1.3)."""
        self.floor = max(self.floor, now)
        ahead = {tag: stamp for tag, stamp in self.rows.items() if stamp > now and tag not in self._commits}
        self.rows.clear()
        self._ends.clear()
        for tag, stamp in ahead.items():
            self.rows[tag] = stamp
            self._ends.extend(tag, stamp + _KEPT)
        for tag, (_, tokens) in self._commits.items():
            self._commits[tag] = now, tokens
            self.rows[tag] = _AHEAD
        self._validity.changed()

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
        if dropped:
            self._validity.changed()
