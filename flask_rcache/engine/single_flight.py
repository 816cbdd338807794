"""One load per key in a process: who loads, who waits, and whom a result may serve.

Owns :class:`Flight` (one load that others may wait for), :class:`Flights` (those under way) and :class:`Load` (what the
running loader knows of itself). How one waits is ``waiting``'s. It knows no store.

A result may serve a reader only with a reason (rule R6). Here that is one number, ``good_for``: readers that *arrived*
before that instant of this process's monotonic clock may have it. A stored result was valid when the fill was sent; an
overtaken one is still newer than every reader that arrived before its load began.
"""

from __future__ import annotations

import contextvars
import copy
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from ..model.entry import Entry

__all__ = ["Flight", "Flights", "Load", "current_load", "keys_under_way"]


class Flight:
    """One load under way; whoever leads it lands it exactly once, whatever happens."""

    __slots__ = (
        "_callbacks",
        "_error",
        "_lock",
        "approaching",
        "blocked_on",
        "entry",
        "event",
        "good_for",
        "key",
        "thread",
        "until",
    )

    def __init__(self, key: str) -> None:
        self.key: Final = key
        self.thread: Final = threading.get_ident()
        self.event: Final = threading.Event()
        #: Set when its loader has returned; its result may have to wait for the rest of a request.
        self.approaching: Final = threading.Event()
        #: When (monotonic, s) nobody waits for it any more.
        self.until = float("inf")
        self.entry: Entry | None = None
        self._error: Exception | None = None
        self.good_for = 0
        self.blocked_on: Final[list[Flight]] = []
        self._lock: Final = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def error(self) -> Exception | None:
        """What its leader's loader raised; everyone who asks gets a copy of their own.

        Raised by all who waited, one exception would collect the traceback of each, and keep all their frames alive.
        """
        return None if self._error is None else _copied(self._error)

    def when_landed(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` once it has landed; at once when it has already."""
        self._when(self.event, tell)

    def when_approaching(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` once its loader has returned or it has landed; at once when that is so already."""
        self._when(self.approaching, tell)

    def _when(self, event: threading.Event, tell: Callable[[], None]) -> None:
        with self._lock:
            if not event.is_set():
                self._callbacks.append(tell)
                return
        tell()

    def approach(self, until: float) -> None:
        """Its loader has returned: who waits for it waits until then, and no longer."""
        with self._lock:
            if self.event.is_set():
                return
            self.until = until
            self.approaching.set()
            callbacks, self._callbacks = self._callbacks, []
        for tell in callbacks:
            tell()

    def _land(self, entry: Entry | None, good_for: int, error: Exception | None) -> None:
        with self._lock:
            if self.event.is_set():
                return
            self.entry, self.good_for, self._error = entry, good_for, error
            self.event.set()
            self.approaching.set()
            callbacks, self._callbacks = self._callbacks, []
        for tell in callbacks:
            tell()


def _copied(error: Exception) -> Exception:
    """An exception that is the same but for its traceback, cause and context; itself when it cannot be copied."""
    try:
        copied = copy.copy(error)
        same = type(copied) is type(error) and copied.args == error.args and str(copied) == str(error)
    except Exception:  # noqa: BLE001  # somebody's class, with arguments of its own
        return error
    return copied if same else error


class Flights:
    """The flights of one process, by stored key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: Final[dict[str, Flight]] = {}
        self._pid = os.getpid()

    def join(self, key: str) -> tuple[Flight, bool]:
        """The flight of ``key`` and whether the caller leads it (it was not under way)."""
        if self._pid != os.getpid():  # a forked child: those flights are its parent's, and never land here
            self._lock, self._pid = threading.Lock(), os.getpid()
            self._flights.clear()
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Flight(key)
            return flight, True

    def would_deadlock(self, target: Flight, load: Load | None) -> bool:
        """Whether waiting for ``target`` would close a circle of loads that wait for each other.

        Notes the wait when it does not; the caller ends it with :meth:`waited`.
        """
        mine = _led_by(load)
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

    def waited(self, target: Flight, load: Load | None) -> None:
        """The wait noted by :meth:`would_deadlock` is over."""
        with self._lock:
            for flight in _led_by(load):
                if target in flight.blocked_on:
                    flight.blocked_on.remove(target)

    def land(
        self, flight: Flight, entry: Entry | None = None, *, good_for: int = 0, error: Exception | None = None
    ) -> None:
        """End a flight and wake who waits; landing it again does nothing.

        Args:
            flight: the flight.
            entry: what was loaded, when others may have it.
            good_for: the instant (monotonic ns) before which a reader must have arrived to take ``entry``.
            error: what the leader's loader raised.
        """
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
        flight._land(entry, good_for, error)


class Load:
    """One loader at work: what it may fill, and what its result depends on.

    Args:
        key: the stored key.
        flight: its flight in this process, when it leads one.
        began: this process's monotonic clock (ns) before the load's ``as_of`` was read.
        parent: the load inside which this one runs.
        fallback: an expired entry that may be served when the loader fails.
    """

    __slots__ = (
        "_reset",
        "began",
        "cost",
        "fallback",
        "flight",
        "grant",
        "handed",
        "key",
        "keys",
        "parent",
        "policy",
        "started",
        "tags",
        "tainted",
    )

    def __init__(
        self,
        key: str,
        policy: Any,
        grant: Any,
        *,
        flight: Flight | None,
        began: int,
        parent: Load | None,
        fallback: Entry | None = None,
    ) -> None:
        self.key: Final = key
        #: The keys that its loader loads, when they are several.
        self.keys: tuple[str, ...] = (key,)
        self.policy: Final = policy
        self.grant: Any = grant
        self.flight: Final = flight
        self.began: Final = began
        self.parent: Final = parent
        self.fallback: Final = fallback
        self.started: Final = time.perf_counter()
        self.tags: Final[dict[str, None]] = {}
        self.handed: Final[dict[str, int]] = {}
        self.tainted = False
        #: Seconds it took, once it has ended.
        self.cost = 0.0
        self._reset: contextvars.Token[Load | None] | None = None

    def __enter__(self) -> Load:
        self._reset = _current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        if self._reset is not None:
            _current.reset(self._reset)
            self._reset = None
        self.cost = time.perf_counter() - self.started
        # Also when it failed: a caller that carries on without it depends on why it failed.
        if self.parent is not None:
            self.parent._inherit(self)

    @property
    def is_running(self) -> bool:
        """Whether its loader has begun and not ended."""
        return self._reset is not None

    def _inherit(self, child: Load) -> None:
        """A load inside this one has ended, stored or not: what it depends on, this one depends on."""
        self.tainted = self.tainted or child.tainted
        tags = (child.policy.member, *child.tags)
        if child.grant is None:  # it has no clock reading, but began after this load: this load's own holds
            self.tags.update(dict.fromkeys(tags))
        elif self._reads(child.grant.epoch):
            self._hand((tag, child.grant.as_of) for tag in tags)
        else:
            self.tags.update(dict.fromkeys(tags))
            self.tainted = self.tainted or bool(child.handed)  # of which clock those readings are is not known
        self._hand(child.handed.items())

    def _reads(self, epoch: int) -> bool:
        """Whether this load is stored, if at all, by the clock that the epoch names (rule R2).

        What stands in while the store is away has a clock of its own; its readings mean nothing in the store's.
        """
        return next((load.grant.epoch == epoch for load in _ancestry(self) if load.grant is not None), True)

    def _hand(self, tags: Iterable[tuple[str, int]]) -> None:
        for tag, as_of in tags:
            known = self.handed.get(tag)
            self.handed[tag] = as_of if known is None else min(known, as_of)

    def depend_like(self, other: Load) -> None:
        """This load ran in one loader with ``other``."""
        self.tags.update(other.tags)
        self.handed.update(other.handed)
        self.tainted = other.tainted

    def hand_up(self, entry: Entry, *, stale: bool = False) -> None:
        """This load read a cached value: its result depends on all that the value depends on (rule R3)."""
        self.tainted = self.tainted or stale
        if entry.epoch == 0:  # loaded while the store was away, after this load began: this load's own clock holds
            self.tags.update((tag, None) for tag, _ in entry.tags)
        elif self._reads(entry.epoch):
            self._hand(entry.tags)
        else:  # and it may have begun before this load did
            self.tainted = True


_current: Final[contextvars.ContextVar[Load | None]] = contextvars.ContextVar("rcache_load", default=None)


def current_load() -> Load | None:
    """The load that runs in this context, if any."""
    return _current.get()


def keys_under_way() -> set[str]:
    """The keys of the loaders that run in this context: to wait for one of them would be to wait for oneself."""
    # In a task that a loader has left behind, its load is no longer running.
    return {key for load in _ancestry(_current.get()) if load.is_running for key in load.keys}


def _led_by(load: Load | None) -> list[Flight]:
    return [each.flight for each in _ancestry(load) if each.flight is not None]


def _ancestry(load: Load | None) -> Iterator[Load]:
    while load is not None:
        yield load
        load = load.parent
