"""What was invalidated on the servers asked so far: so a long job may go on storing after a failover (rule R3.2).

Owns the answer to one question: may a value that was read at a moment of a server that is left be stored on the one
that is asked now? Its moment means nothing there; but when nothing it depends on was invalidated between that moment
and the failover, it is as good as one read when the new server took over. From then on that server knows of all
invalidations.

The heartbeats bring what was invalidated, up to the last one. What the old server acknowledged after that is sent again
by the processes that it was acknowledged to (DESIGN, Outages 6), a few seconds after the failover at the latest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from ...model import forks
from ...model.entry import Moment
from ...model.keys import BARRIER, FLOOR, FORGOTTEN
from ...model.named_tuple import NamedTuple

__all__ = ["History"]

#: Tags remembered; above that, what was invalidated before is not known.
_LIMIT: Final = 10_000
#: As many as a heartbeat brings at most.
_FULL: Final = 500
_SERVERS: Final = 8
#: Seconds after which all processes have sent to the new server what the old one acknowledged last.
_SETTLED: Final = 3.0


class _Known:
    """What is known of one server.

    Attributes:
        since: the reading from which on every invalidation is known.
        until: the reading of the last heartbeat.
        tags: the last stamp of each tag that was invalidated since.
    """

    __slots__ = ("epoch", "run", "since", "tags", "until")

    def __init__(self, run: str, epoch: int, since: int) -> None:
        self.run: Final = run
        self.epoch: Final = epoch
        self.since = self.until = since
        self.tags: Final[dict[str, float]] = {}

    def forget(self) -> None:
        """Everything up to the last heartbeat may have been invalidated."""
        self.since = self.until
        self.tags.clear()

    def holds(self, tags: Iterable[str], reading: int) -> bool:
        """Whether none of the tags was invalidated since a reading."""
        return reading >= self.since and all(self.tags.get(tag, 0) <= reading for tag in tags)


class _Left(NamedTuple):
    """A server that was left: what is known of it, its successor, and when that was found (monotonic seconds)."""

    known: _Known
    successor: _Known
    taken: int
    at: float


class History:
    """What this process knows of the servers it has asked.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock: Final = clock
        self._lock: Final = forks.new_lock()
        self._present: _Known | None = None
        self._left: list[_Left] = []

    def attached(self, run: str, epoch: int, taken: int) -> None:
        """A connection was made to a server run; its set knows of every invalidation since the reading ``taken``."""
        with self._lock:
            before = self._present
            if before is not None and (before.run, before.epoch) == (run, epoch):
                return
            self._present = present = _Known(run, epoch, taken)
            if before is None or before.run == run:  # its set was lost, and with it what came before
                self._left.clear()
                return
            self._left = [*self._left[1 - _SERVERS :], _Left(before, present, taken, self._clock())]

    @property
    def until(self) -> int:
        """The reading after which the next heartbeat has to bring what was invalidated."""
        present = self._present
        return 0 if present is None else present.until

    def beat(self, epoch: int, clock: int, later: list[Any]) -> None:
        """A heartbeat has brought members of the set, and their scores."""
        with self._lock:
            present = self._present
            if present is None:
                return
            if present.epoch != epoch:  # the set was lost and made anew
                self._present = _Known(present.run, epoch, clock)
                self._left.clear()
                return
            before, present.until = present.until, clock
            for member, score in zip(later[::2], later[1::2], strict=True):
                present.tags[member.decode("utf-8", "replace")] = float(score)
            overtaken = max(present.tags.pop(each, 0) for each in (FLOOR, BARRIER, FORGOTTEN))
            if overtaken > before or len(later) >= 2 * _FULL or len(present.tags) > _LIMIT:
                present.forget()

    def translated(self, run: str, moment: Moment, tags: Iterable[str]) -> tuple[str, int, int] | None:
        """The run, epoch and reading that a write with these tags may claim on the server asked now, if it may.

        Args:
            run: of which server run the moment is.
            moment: of a server that was left.
            tags: on which the value depends.
        """
        wanted = tuple(tags)
        with self._lock:
            for number, left in enumerate(self._left):
                if (left.known.run, left.known.epoch) != (run, moment.epoch):
                    continue
                if self._clock() - self._left[-1].at < _SETTLED:
                    return None
                reading = moment.clock
                for each in self._left[number:]:
                    if not each.known.holds(wanted, reading):
                        return None
                    reading = each.taken
                successor = self._left[-1].successor
                return successor.run, successor.epoch, reading
        return None
