"""The store's clock, as far as this process has heard of it (rules R2, R3 and R4.4).

Owns the latest reading, which loads claim as their moment, and the deadlines of writes. No worker's wall clock takes
part in it: what this process adds is the time that its monotonic clock has counted since it heard the server's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ...model.entry import MICROSECONDS, Moment
from ..validity import Validity

__all__ = ["StoreClock"]


class StoreClock:
    """What was heard last.

    Threads use it without a lock: one that is overtaken leaves an older reading, which is right as well.

    Attributes:
        latest: the latest reading of the clock, of whichever generation of connections.
        changed: called when there is another.
        validity: of what is compared with the readings' epoch.
    """

    __slots__ = ("_time", "changed", "latest", "validity")

    def __init__(self) -> None:
        self.validity: Final = Validity()
        self.changed: Callable[[], None] | None = None
        self.latest: Moment | None = None
        self._time: tuple[int, int] | None = None  # the server's TIME (µs), and this process's when it came in (ns)

    def heard(self, epoch: int, clock: int, generation: int) -> None:
        """A reading of the clock came in, over connections of a generation.

        Never a stamp, which may lie ahead of the clock, nor TIME, which may lie behind it.
        """
        latest = self.latest
        if latest is not None:
            if generation < latest.generation:
                return  # asked before the generation ended, and answered after it
            if generation == latest.generation and epoch == latest.epoch and clock <= latest.clock:
                return
        self.latest = Moment(epoch, clock, generation)
        if latest is None or (epoch, generation) != (latest.epoch, latest.generation):
            self.validity.changed()
        if self.changed is not None:
            self.changed()

    def heard_time(self, server_time: int) -> None:
        """The server's TIME came in (µs)."""
        self._time = server_time, time.monotonic_ns()

    def estimate(self) -> int | None:
        """The server's TIME now, µs, as late as it can be at least; ``None`` when none was heard."""
        if self._time is None:
            return None
        server_time, at = self._time
        return server_time + (time.monotonic_ns() - at) // 1000

    def window(self, seconds: float) -> tuple[int, int]:
        """Since and until when a write is wanted that is sent now and may take so long, in the server's TIME (µs).

        Counted from when a reading came in, so that a slow answer makes it end too early, never too late. It begins
        with that reading: a server whose TIME is before it has set its clock back.
        """
        heard, now = self._time, self.estimate()
        if heard is None or now is None:
            return 0, 0
        return heard[0], now + int(seconds * MICROSECONDS)
