"""The circuit breaker: after a failure nobody waits for the store until a probe has found it well.

Owns whether the store may be asked now, and the present incident. It does not probe: the store's housekeeping
does, with a write, and closes the breaker when that succeeds.
"""

from __future__ import annotations

import time
from typing import Final

from ...errors import StoreUnavailableError
from ...model.forks import new_lock
from ..protocol import Trouble

__all__ = ["Breaker"]

_PROMPT: Final = 0.05
_CHANCE: Final = 8.0


class Breaker:
    """Closed: ask the store. Open: raise at once. One incident lasts from the opening to the closing."""

    __slots__ = ("_full", "_incidents", "_lock", "_open", "_opened_at", "_slow")

    def __init__(self) -> None:
        self._lock: Final = new_lock()
        self._open: Trouble | None = None
        self._full: Trouble | None = None
        self._incidents = 0
        self._slow = False
        self._opened_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the store must not be asked."""
        return self._open is not None

    @property
    def trouble(self) -> Trouble | None:
        """The present incident: the store is away, or it has no room."""
        return self._open or self._full

    @property
    def outage(self) -> Trouble | None:
        """The present incident when the store is away; one that has only no room is asked, and heard."""
        return self._open

    @property
    def incidents(self) -> int:
        """How many there have been in this process."""
        return self._incidents

    def check(self) -> None:
        """Let the caller pass while closed.

        Raises:
            StoreUnavailableError: the breaker is open.
        """
        trouble = self._open
        if trouble is not None:
            raise StoreUnavailableError(f"the store is away: {trouble.cause}") from trouble.cause

    def trip(self, cause: Exception, *, slow: bool = False) -> None:
        """Open; a breaker that is open already keeps its incident.

        Args:
            cause: why.
            slow: the store answers, and takes too long to be of use.
        """
        with self._lock:
            if self._open is None:
                self._incidents += 1
                self._slow = slow
                self._opened_at = time.monotonic()
                self._open = Trouble(self._incidents, cause)

    def may_close(self, took: float) -> bool:
        """Whether a probe that was answered after ``took`` seconds shows the store well.

        One that was slow must be prompt now, else it would make requests wait again at once. After a while it gets
        another chance in any case.
        """
        return not self._slow or took < _PROMPT or time.monotonic() - self._opened_at > _CHANCE

    def close(self) -> None:
        """The store answered a probe as it should: the incident is over."""
        with self._lock:
            self._open = None

    def full(self, cause: Exception) -> None:
        """The store refused an entry for want of room: reading goes on, and so do invalidations."""
        with self._lock:
            if self._full is None:
                self._incidents += 1
                self._full = Trouble(self._incidents, cause)

    def roomy(self) -> None:
        """The store took an entry again."""
        if self._full is not None:
            with self._lock:
                self._full = None
