"""The circuit breaker: after a failure nobody waits for the store until a probe has found it well.

Owns whether the store may be asked now, the present incident, and when the next probe is due. It does not probe: the
store's maintenance does, with a write, and closes the breaker when that succeeds.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Final

from ...errors import StoreUnavailableError
from ...model.forks import new_lock
from ..protocol import Incident

__all__ = ["Breaker"]

_PROBE_EVERY: Final = 0.25


class Breaker:
    """Closed: ask the store. Open: raise at once. One incident lasts from the opening to the closing.

    Attributes:
        outage: the present incident while the breaker is open. Who asks often looks here instead of calling
            :meth:`check`.
        incidents: how many there have been in this process.
        changed: called when it has opened or closed.
    """

    __slots__ = ("_full", "_lock", "_probe_at", "_settled", "changed", "incidents", "outage")

    def __init__(self) -> None:
        self._lock: Final = new_lock()
        self.outage: Incident | None = None
        self.changed: Callable[[], None] | None = None
        self.incidents = 0
        self._full: Incident | None = None
        self._settled: Incident | None = None
        self._probe_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the store must not be asked."""
        return self.outage is not None

    @property
    def incident(self) -> Incident | None:
        """The present incident: the store is away, or it has no room and is asked all the same."""
        return self.outage or self._full

    def check(self) -> None:
        """Let the caller pass while closed.

        Raises:
            StoreUnavailableError: the breaker is open.
        """
        outage = self.outage
        if outage is not None:
            raise StoreUnavailableError(f"the store is unavailable: {outage.cause}") from outage.cause

    def trip(self, cause: Exception, *, pause: float = _PROBE_EVERY, is_logged: bool = False) -> None:
        """Open; a breaker that is open already keeps its incident, and its next probe is due later.

        Args:
            cause: why.
            pause: seconds until the next probe.
            is_logged: whether it was logged already.
        """
        with self._lock:
            self._probe_at = time.monotonic() + pause
            if self.outage is not None:
                return
            settled = self._settled
            if settled is not None and pause > _PROBE_EVERY and str(settled.cause) == str(cause):
                self.outage = settled  # what a probe does not meet, as a command that is not granted: no news
            else:
                self.incidents += 1
                self.outage = Incident(self.incidents, _bare(cause), is_logged, time.time())
        if self.changed is not None:
            self.changed()

    def probe_in(self) -> float:
        """Seconds until the next probe is due; 0 when it is, or when the breaker is closed."""
        return 0.0 if self.outage is None else max(0.0, self._probe_at - time.monotonic())

    def probe_soon(self) -> None:
        """Something has changed: the next probe is due now."""
        with self._lock:
            self._probe_at = 0.0

    def close(self) -> None:
        """The store answered a probe as it should: the incident is over."""
        with self._lock:
            self._settled, self.outage = self.outage or self._settled, None
        if self.changed is not None:
            self.changed()

    def full(self, cause: Exception) -> None:
        """The store refused an entry for want of room: reading goes on, and so do invalidations."""
        with self._lock:
            if self._full is None:
                self.incidents += 1
                self._full = Incident(self.incidents, _bare(cause), since=time.time())

    def has_room(self) -> None:
        """The store took an entry again."""
        if self._full is not None:
            with self._lock:
                self._full = None


def _bare(error: Exception, *, with_cause: bool = True) -> Exception:
    """The error without the frames it went through, and of its causes the first: an incident may last for days.

    Each frame holds what was in use there, a connection with its buffers, and the error of the incident before.
    """
    try:
        bare = copy.copy(error)
    except Exception:  # noqa: BLE001  # of a class that cannot be copied; what it says is kept
        bare = StoreUnavailableError(str(error))
    cause = error.__cause__
    if with_cause and isinstance(cause, Exception):
        bare.__cause__ = _bare(cause, with_cause=False)
    return bare
