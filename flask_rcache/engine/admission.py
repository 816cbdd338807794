"""Admission: what a reader that found nothing fresh does, and the look before.

Owns who loads, who waits and for how long, and what may be shared with whom (rules R4 and R6), for values and responses
alike, on any store. It is written once, as a generator that yields what to wait for; threads and asyncio drive it. What
becomes of a load is ``loading``'s.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Sequence
from typing import Final, NamedTuple

from ..errors import StoreError
from ..model.entry import Entry, Freshness
from ..stores.protocol import Ask, Begin, Begun, Grant, Reading, Store
from .policies import Policy
from .single_flight import Flight, Flights, Load, current_load
from .waiting import Pause, Step, Wait

__all__ = ["Admission", "Degraded", "Served", "fresh"]

_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
_LOADS_WAITED_FOR: Final = 2
_FILLS_LOOKED_AT: Final = 5

#: Called with the type's name, the operation and the error; counts and tells, never raises.
Degraded = Callable[[str, str, Exception], None]


class Served(NamedTuple):
    """What a reader gets instead of a load: another's result, or an entry that is stale."""

    entry: Entry
    stale: bool = False


class Admission:
    """Who loads, who waits, and who takes what another loaded; of one manager in one process.

    Args:
        store: where results are kept.
        degraded: told of every store failure.
        load_timeout: seconds one load may hold others up.
    """

    def __init__(self, store: Store, *, degraded: Degraded, load_timeout: float) -> None:
        self._store: Final = store
        self._degraded: Final = degraded
        self._load_timeout: Final = load_timeout
        self._flights: Final = Flights()

    def look(self, policy: Policy, stored: str, ask: Ask | None = None, *, shared: bool = False) -> Reading | None:
        """Read one key; ``None`` when the store is away.

        Args:
            policy: the policy of the call.
            stored: the stored key.
            ask: gives its tags, if they are more than the type's.
            shared: leave the memory tier out.
        """
        # Inside a load the memory tier is not read: what it holds may be older than the load (rule R3).
        hold = policy.hold if current_load() is None and not shared else 0.0
        try:
            reading = self._store.read(stored, ask or policy.ask, hold)
        except StoreError as error:
            self._degraded(policy.name, "read", error)
            return None
        if reading.error is not None:
            self._degraded(policy.name, "read", reading.error)
        return reading

    def look_many(self, policy: Policy, stored: Sequence[str]) -> dict[str, Reading | None]:
        """Read several keys in one round trip; every reading is ``None`` when the store is away."""
        hold = policy.hold if current_load() is None else 0.0
        try:
            return dict(zip(stored, self._store.read_many(stored, policy.ask, hold), strict=True))
        except StoreError as error:
            self._degraded(policy.name, "read", error)
            return dict.fromkeys(stored)

    def admit(
        self, policy: Policy, stored: str, reading: Reading | None, arrived: int
    ) -> Generator[Step, None, Served | Load]:
        """Decide what a reader that found nothing fresh does.

        Args:
            policy: the policy of the call.
            stored: the stored key.
            reading: what the look found unfit, or ``None`` when the store was away.
            arrived: this process's monotonic clock (ns) before that look.

        Yields:
            What to wait for.

        Returns:
            What to serve instead, or the load that the caller must run and then
            :meth:`commit` or :meth:`abandon`.
        """
        reader = _Reader(policy, stored, reading, current_load(), arrived)
        reader.deadline = time.monotonic() + self._patience(reader.parent)
        try:
            return (yield from self._admit(reader))
        finally:
            if reader.slept:
                policy.count("waits")
                policy.timed("wait", reader.slept)

    def _admit(self, reader: _Reader) -> Generator[Step, None, Served | Load]:
        stored = reader.stored
        for reader.waited in range(_LOADS_WAITED_FOR):
            flight, leads = self._flights.join(stored)
            if leads:
                try:
                    return (yield from self._lead(reader, flight))
                except BaseException:  # a task that is cancelled here too: nobody else would land it
                    self._flights.land(flight)
                    raise
            if reader.stale is not None:
                return Served(reader.stale, stale=True)  # somebody refreshes it already
            if self._flights.would_deadlock(flight, reader.parent):
                break
            began = time.monotonic()
            try:
                yield Wait(flight, max(0.0, reader.deadline - began))
            finally:
                reader.slept += time.monotonic() - began
                self._flights.waited(flight, reader.parent)
            if not flight.event.is_set():
                break
            if flight.error is None and flight.entry is None:  # not for others: all who waited go on at the same time
                return (yield from self._lead(reader, None))
            served = self._landed(reader, flight)
            if served is not None:
                return served
        return reader.load(None, None, time.monotonic_ns())

    def _landed(self, reader: _Reader, flight: Flight) -> Served | None:
        """What a reader that waited for a flight gets; ``None`` when it has to wait for the next.

        Raises:
            Exception: what the leader's loader raised, when there is no expired entry to stand in.
        """
        if flight.error is not None:
            if reader.fallback is None:
                raise flight.error
            return Served(reader.fallback, stale=True)
        entry = flight.entry
        if entry is None or reader.arrived >= flight.good_for:
            reader.reading = self.look(reader.policy, reader.stored)
            entry = fresh(reader.reading)
        if entry is None:
            return None
        reader.policy.count("collapsed")
        return Served(entry)

    def _patience(self, parent: Load | None) -> float:
        """Seconds to wait for others. Inside a load it is short: two processes may wait for each other."""
        return self._load_timeout if parent is None else min(self._load_timeout, self._store.lease)

    def _lead(self, reader: _Reader, flight: Flight | None) -> Generator[Step, None, Served | Load]:
        """Get the lease from the store, or what another process made of it; ``flight`` waits here too."""
        holders = set[str]()
        token = "l" + secrets.token_hex(16)
        pause = _FIRST_PAUSE
        for _ in range(_FILLS_LOOKED_AT):
            while True:
                began = time.monotonic_ns()
                begun = self._begin_one(reader, token)
                if begun is None or begun.kind is Begin.GRANTED or (begun.grant is not None and begun.grant.failed):
                    return reader.load(begun and begun.grant, flight, began)
                if begun.kind is not Begin.BUSY:
                    break
                if reader.stale is not None:
                    self._land(flight)
                    return Served(reader.stale, stale=True)
                # Where every load is overtaken, or fails, others take the lease again before this one looks (rule R6).
                holders.add(begun.holder)
                if reader.waited + len(holders) > _LOADS_WAITED_FOR or time.monotonic() >= reader.deadline:
                    return reader.load(None, flight, began)
                paused = time.monotonic()
                yield Pause(pause)
                reader.slept += time.monotonic() - paused
                pause = min(pause * 1.6, _LONGEST_PAUSE)
            if begun.kind is Begin.PASS:
                self._land(flight)
                return reader.load(begun.grant, None, began)
            began = time.monotonic_ns()
            reader.reading = self.look(reader.policy, reader.stored)
            entry = fresh(reader.reading)
            if entry is not None:
                reader.policy.count("collapsed")
                self._land(flight, entry, good_for=began)
                return Served(entry)
        return reader.load(None, flight, time.monotonic_ns())  # filled and invalidated again and again: waited enough

    def _land(self, flight: Flight | None, entry: Entry | None = None, *, good_for: int = 0) -> None:
        if flight is not None:
            self._flights.land(flight, entry, good_for=good_for)

    def _begin_one(self, reader: _Reader, token: str) -> Begun | None:
        if reader.reading is None:
            return None
        return self._begin(reader.policy, [(reader.stored, reader.reading.identity)], token)[0]

    def _begin(self, policy: Policy, wants: Sequence[tuple[str, bytes]], token: str) -> Sequence[Begun | None]:
        try:
            return self._store.begin(wants, token)
        except StoreError as error:
            self._degraded(policy.name, "begin", error)
            return [None] * len(wants)

    def begin_many(self, policy: Policy, readings: dict[str, Reading | None], *, alone: bool) -> list[Load]:
        """The loads that the caller may run now, of several keys found unfit; with ``alone``, all of them."""
        parent = current_load()
        began = time.monotonic_ns()
        wants = [(stored, reading.identity) for stored, reading in readings.items() if reading is not None]
        answers = self._begin(policy, wants, "l" + secrets.token_hex(16)) if wants else ()
        begun = dict(zip([key for key, _ in wants], answers, strict=True))
        loads = []
        for stored in readings:
            answer = begun.get(stored)
            if answer is None or answer.grant is not None or alone:
                grant = None if answer is None else answer.grant
                expired = stand_in(readings[stored])
                loads.append(Load(stored, policy, grant, flight=None, began=began, parent=parent, fallback=expired))
        return loads

    def take(self, policy: Policy, stored: str, reading: Reading | None) -> Load | None:
        """The load of a key when it is free right now; ``None`` when somebody loads it already. Waits for nobody.

        A marker that an earlier load left stops nobody: begin prolongs it, so whoever went away from it would find it
        there again for as long as requests come.
        """
        if reading is None:
            return None
        flight, leads = self._flights.join(stored)
        if not leads:
            return None
        began = time.monotonic_ns()
        begun = self._begin(policy, [(stored, reading.identity)], "l" + secrets.token_hex(16))[0]
        if begun is None or begun.grant is None:
            self._flights.land(flight)
            return None
        return Load(stored, policy, begun.grant, flight=flight, began=began, parent=None)


class _Reader:
    """Somebody who found nothing fresh, and how long they have waited."""

    __slots__ = ("arrived", "deadline", "parent", "policy", "reading", "slept", "stored", "waited")

    def __init__(self, policy: Policy, stored: str, reading: Reading | None, parent: Load | None, arrived: int) -> None:
        self.policy: Final = policy
        self.stored: Final = stored
        self.parent: Final = parent
        self.arrived: Final = arrived
        self.reading = reading
        self.deadline = 0.0
        self.waited = 0
        self.slept = 0.0

    @property
    def stale(self) -> Entry | None:
        """An expired entry that may be served while somebody loads; inside a load there is none."""
        reading = self.reading
        if self.parent is not None or reading is None or reading.entry is None:
            return None
        return reading.entry if reading.entry.freshness(reading.now) is Freshness.STALE else None

    @property
    def fallback(self) -> Entry | None:
        """See :func:`stand_in`."""
        return stand_in(self.reading)

    def load(self, grant: Grant | None, flight: Flight | None, began: int) -> Load:
        """The load that this reader runs."""
        return Load(
            self.stored,
            self.policy,
            grant,
            flight=flight,
            began=began,
            parent=self.parent,
            fallback=self.fallback,
        )


def fresh(reading: Reading | None) -> Entry | None:
    """The entry of a reading when it is fresh."""
    entry = reading.entry if reading is not None else None
    if entry is None or reading is None or entry.freshness(reading.now) is not Freshness.FRESH:
        return None
    return entry


def stand_in(reading: Reading | None) -> Entry | None:
    """The expired entry of a reading that may be served when the loader fails (``stale_if_error``)."""
    entry = reading.entry if reading is not None else None
    if entry is None or reading is None:
        return None
    past_ttl = entry.age(reading.now) - entry.ttl
    return entry if past_ttl < entry.stale_if_error else None
