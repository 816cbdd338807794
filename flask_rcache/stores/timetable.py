"""Names with a time each, and those whose time has come: what keeps a dict from growing without ever being walked.

Owns the order. What is done with a name that is due is its caller's to say; so is the lock.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

__all__ = ["Timetable"]

_SPARE: Final = 64
_NEVER: Final = 2**63


class Timetable:
    """Names, each with a time that may be moved; no call walks through all of them.

    A heap of one item a name. A time that is put off leaves its item where it is until its turn comes, so that a
    name that is put off at every request costs a dict's assignment.

    >>> table = Timetable()
    >>> table["a"] = 5
    >>> table["b"] = 3
    >>> table["b"] = 9
    >>> table.take(1, until=8, steps=10), table.take(1, until=8, steps=10), table.take(1, steps=10)
    (['a'], [], ['b'])
    """

    __slots__ = ("_at", "_heap", "_queued")

    def __init__(self) -> None:
        self._at: Final[dict[str, int]] = {}
        self._queued: Final[dict[str, int]] = {}  # where in the heap the name's item lies; other items are left-overs
        self._heap: Final[list[tuple[int, str]]] = []

    def __len__(self) -> int:
        return len(self._at)

    def get(self, name: str, default: int = 0) -> int:
        """The time of a name."""
        return self._at.get(name, default)

    def __setitem__(self, name: str, at: int) -> None:
        """Give a name its time, or another one."""
        self._at[name] = at
        queued = self._queued.get(name)
        if queued is None or at < queued:
            self._queued[name] = at
            heappush(self._heap, (at, name))

    def extend(self, name: str, at: int) -> None:
        """Give a name its time, unless it has a later one."""
        if at > self._at.get(name, 0):
            self._at[name] = at
            queued = self._queued.get(name)
            if queued is None or at < queued:
                self._queued[name] = at
                heappush(self._heap, (at, name))

    def is_due(self, until: int) -> bool:
        """Whether an item's time is not after this."""
        return bool(self._heap) and self._heap[0][0] <= until

    def discard(self, name: str) -> None:
        """Let a name go, if it is there."""
        if self._at.pop(name, None) is not None and len(self._heap) > 2 * len(self._at) + _SPARE:
            self._queued.clear()
            self._queued.update(self._at)
            self._heap[:] = [(at, name) for name, at in self._at.items()]
            heapify(self._heap)

    def clear(self) -> None:
        """Let all names go."""
        self._at.clear()
        self._queued.clear()
        self._heap.clear()

    def take(self, count: int, *, steps: int, until: int = _NEVER) -> list[str]:
        """Take the names whose times are the earliest away.

        Args:
            count: names at most.
            steps: items looked at, at most; those that were put off cost one each.
            until: only times that are not after this.
        """
        heap, queued, times = self._heap, self._queued, self._at
        taken: list[str] = []
        while heap and steps > 0 and len(taken) < count and heap[0][0] <= until:
            steps -= 1
            place, name = heappop(heap)
            if queued.get(name) != place:  # its time was moved forward: another item stands for it
                continue
            at = times.get(name)
            if at is None:
                del queued[name]
            elif at > place:
                queued[name] = at
                heappush(heap, (at, name))
            else:
                del times[name], queued[name]
                taken.append(name)
        return taken
