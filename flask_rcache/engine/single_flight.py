"""One load per key in a process: who leads, who waits, and whom a result may serve.

Owns :class:`Flight` (one load that others may wait for), :class:`Landing` (how it ended) and :class:`Flights` (those
under way). How one waits is the driver's, what is loaded ``load``'s. It knows no store.

A result may serve a reader only with a reason (rule R6). Here that is one number, ``good_until``: readers that *began*
no later than that instant of this process's monotonic clock may have it. A stored result was valid when its fill was
sent; an overtaken one is still as fresh as any reader needs that began no later than the load's own request.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable
from typing import Final

from ..model.entry import Draft, Entry
from ..model.forks import new_lock, register
from ..model.moment import Moment
from ..model.named_tuple import NamedTuple

__all__ = ["Flight", "Flights", "Landing"]


class Landing(NamedTuple):
    """How a load ended, for those who waited for it.

    Args:
        result: what was loaded, when others may have it: an entry, or the draft of one and the moment of its load.
        good_until: readers that began no later than this (monotonic ns) may take ``result``.
        error: what the loader raised.
        run_at_once: the result is for nobody else, and the next one will not be either: all who waited load now.
    """

    result: Entry | tuple[Draft, Moment | None] | None = None
    good_until: int = 0
    error: Exception | None = None
    run_at_once: bool = False

    @property
    def entry(self) -> Entry | None:
        """What those who waited may have: made for whoever asks, since mostly nobody does."""
        result = self.result
        return Entry.shared(*result) if isinstance(result, tuple) else result


#: The leader went away without a result: the others try again.
RETRY: Final = Landing()


class Flight:
    """One load under way; whoever leads it lands it exactly once, whatever happens."""

    __slots__ = (
        "_lock",
        "_on_landing",
        "_on_return",
        "blocked_on",
        "is_landed",
        "key",
        "landing",
        "next_leader",
        "thread",
        "until",
        "waiters",
    )

    def __init__(self, key: str, next_leader: object = None) -> None:
        self.key: Final = key
        self.thread = threading.get_ident()
        self.is_landed = False
        #: When (monotonic, s) nobody waits for it any more.
        self.until = float("inf")
        self.landing = RETRY
        #: The ticket of the waiter that is to lead it; ``None`` once it is led.
        self.next_leader = next_leader
        self.waiters: Final[dict[object, int]] = {}
        self.blocked_on: Final[list[Flight]] = []
        self._lock: Final = threading.Lock()
        #: What to call when its loader has returned (its result may have to wait for the rest of a request), and when
        #: it has landed; no list once that is so.
        self._on_return: list[Callable[[], None]] | None = []
        self._on_landing: list[Callable[[], None]] | None = []

    def error(self) -> Exception | None:
        """What its leader's loader raised; everyone who asks gets a copy of their own.

        Raised by all who waited, one exception would collect the traceback of each, and keep all their frames alive.
        """
        error = self.landing.error
        return None if error is None else _copied(error)

    def when_landed(self, call: Callable[[], None]) -> None:
        """Call ``call`` once it has landed; at once when it has already."""
        with self._lock:
            if self._on_landing is not None:
                self._on_landing.append(call)
                return
        call()

    def when_returned(self, call: Callable[[], None]) -> None:
        """Call ``call`` once its loader has returned or it has landed; at once when that is so already."""
        with self._lock:
            if self._on_return is not None:
                self._on_return.append(call)
                return
        call()

    def has_returned(self, until: float) -> None:
        """Its loader has returned: who waits for it waits until then (monotonic, s), and no longer."""
        with self._lock:
            if self._on_return is None:
                return
            self.until = until
            calls, self._on_return = self._on_return, None
        for call in calls:
            call()

    def _land(self, landing: Landing) -> None:
        with self._lock:
            if self._on_landing is None:
                return
            self.landing = landing
            self.is_landed = True
            calls = (self._on_return or []) + self._on_landing
            self._on_return = self._on_landing = None
        for call in calls:
            call()


def _copied(error: Exception) -> Exception:
    """An exception that is the same but for its traceback and context; itself when it cannot be copied."""
    try:
        copied = copy.copy(error)
        copied.__cause__, copied.__suppress_context__ = error.__cause__, error.__suppress_context__
        same = type(copied) is type(error) and copied.args == error.args and str(copied) == str(error)
    except Exception:  # noqa: BLE001  # somebody's class, with arguments of its own
        return error
    return copied if same else error


class Flights:
    """The flights of one process, by stored key."""

    def __init__(self) -> None:
        self._lock: Final = new_lock()
        self._flights: Final[dict[str, Flight]] = {}
        register(self)

    def reset_after_fork(self) -> None:
        """Those flights are the parent's, and never land here."""
        self._flights.clear()

    def join(self, key: str, ticket: object, began: int) -> tuple[Flight, bool]:
        """The flight of ``key``, and whether the caller leads it.

        Args:
            key: the stored key.
            ticket: names the caller while it leads or waits.
            began: the instant (monotonic ns) that the caller's result must not be older than.
        """
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = Flight(key)
                return flight, True
            if flight.next_leader is ticket:
                flight.next_leader = None
                flight.thread = threading.get_ident()
                flight.waiters.pop(ticket, None)
                return flight, True
            flight.waiters[ticket] = began
            return flight, False

    def leave(self, flight: Flight, ticket: object) -> None:
        """The caller waits no longer; one that was to lead the next flight does not."""
        with self._lock:
            flight.waiters.pop(ticket, None)
            after = self._flights.get(flight.key)
            if after is None:
                return
            after.waiters.pop(ticket, None)
            if after.next_leader is not ticket:
                return
            if after.waiters:  # the next youngest leads
                after.next_leader = max(after.waiters, key=after.waiters.__getitem__)
                waiting = after
                self._flights[flight.key] = Flight(flight.key, after.next_leader)
                self._flights[flight.key].waiters.update(after.waiters)
            else:
                waiting = self._flights.pop(flight.key)
        waiting._land(RETRY)

    def would_deadlock(self, target: Flight, led: Iterable[Flight]) -> bool:
        """Whether waiting for ``target`` would close a circle of loads that wait for each other.

        Notes the wait when it does not; the caller ends it with :meth:`waited`.

        Args:
            target: the flight to wait for.
            led: the flights that the caller leads.
        """
        mine = list(led)
        with self._lock:
            ahead, seen = [target], set[int]()
            while ahead:
                flight = ahead.pop()
                if flight in mine:
                    return True
                if id(flight) not in seen:
                    seen.add(id(flight))
                    ahead += flight.blocked_on
            for flight in mine:
                flight.blocked_on.append(target)
            return False

    def waited(self, target: Flight, led: Iterable[Flight]) -> None:
        """The wait noted by :meth:`would_deadlock` is over."""
        with self._lock:
            for flight in led:
                if target in flight.blocked_on:
                    flight.blocked_on.remove(target)

    def land(self, flight: Flight, landing: Landing = RETRY) -> None:
        """End a flight and wake who waits; landing it again does nothing.

        Where the result is too old for some of them, the youngest of those leads the next load: what it loads is fresh
        enough for all of them (rule R6).
        """
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
                if flight.waiters and landing.error is None and not landing.run_at_once:
                    younger = {
                        ticket: began
                        for ticket, began in flight.waiters.items()
                        if landing.result is None or began > landing.good_until
                    }
                    if younger:
                        leader = max(younger, key=younger.__getitem__)
                        after = self._flights[flight.key] = Flight(flight.key, leader)
                        after.waiters.update(younger)
        flight._land(landing)
