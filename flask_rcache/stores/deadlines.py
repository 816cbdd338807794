"""Names with a deadline each, and those that are due: what keeps a dict from growing without ever being walked.

Owns the order. What is done with a name that is due is its caller's to say; so is the lock.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

__all__ = ["Deadlines"]

_SPARE: Final = 64


class Deadlines:
    """Names, each with a deadline that may be moved; taking those that are due costs as much as there are of them.

    A heap of one item a name. A deadline that is put off stays where it is in the heap until its turn comes, so that
    a name that is put off at every request costs a dict's assignment.

    >>> deadlines = Deadlines()
    >>> deadlines["a"] = 5
    >>> deadlines["b"] = 3
    >>> deadlines["b"] = 9
    >>> deadlines.pop_due(8), deadlines.pop_due(8), deadlines.pop_first()
    ('a', None, 'b')
    """

    __slots__ = ("_at", "_heap", "_queued")

    def __init__(self) -> None:
        self._at: Final[dict[str, int]] = {}
        self._queued: Final[dict[str, int]] = {}  # where in the heap the name's item lies; others are left-overs
        self._heap: Final[list[tuple[int, str]]] = []

    def __len__(self) -> int:
        return len(self._at)

    def get(self, name: str, default: int = 0) -> int:
        """The deadline of a name."""
        return self._at.get(name, default)

    def __setitem__(self, name: str, at: int) -> None:
        self._at[name] = at
        queued = self._queued.get(name)
        if queued is None or at < queued:
            self._queued[name] = at
            heappush(self._heap, (at, name))

    def discard(self, name: str) -> None:
        """Let a name go, if it is there."""
        if self._at.pop(name, None) is not None and len(self._heap) > 2 * len(self._at) + _SPARE:
            self._rebuild()

    def clear(self) -> None:
        """Let all names go."""
        self._at.clear()
        self._rebuild()

    def pop_due(self, now: int) -> str | None:
        """Take a name whose deadline is not after ``now``, the earliest first; ``None`` when there is none."""
        if not self._heap or self._heap[0][0] > now:
            return None
        first = self._settle()
        return None if first is None or first > now else self.pop_first()

    def pop_first(self) -> str | None:
        """Take the name with the earliest deadline; ``None`` when there are no names."""
        if self._settle() is None:
            return None
        _, name = heappop(self._heap)
        del self._at[name], self._queued[name]
        return name

    def _settle(self) -> int | None:
        """Bring the earliest deadline to the head of the heap; ``None`` when there are no names."""
        heap, queued = self._heap, self._queued
        while heap:
            place, name = heap[0]
            at = self._at.get(name)
            if queued.get(name) != place:  # it was moved forward: another item stands for it
                heappop(heap)
            elif at is None:
                heappop(heap)
                del queued[name]
            elif at > place:
                queued[name] = at
                heappop(heap)
                heappush(heap, (at, name))
            else:
                return place
        return None

    def _rebuild(self) -> None:
        self._queued.clear()
        self._queued.update(self._at)
        self._heap[:] = [(at, name) for name, at in self._at.items()]
        heapify(self._heap)
