"""The one algorithm that loads: who loads, who waits, what is stored, and what may be shared (rules R3, R4, R6).

Owns :func:`load`, a generator without I/O for one key or many. It yields commands (*look*, *begin*, *run the loader*,
*wait*, *fill*, *release*) and is sent what became of them. ``driving`` drives it in threads and in asyncio, ``views``
over the hooks of a request. A hit does not pass through it.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final

from ..model.entry import Draft, Entry, Freshness
from ..model.moment import Moment
from ..model.named_tuple import NamedTuple
from ..stores.protocol import Begin, Begun, Filled, LoadedResult, Lookup, Outcome, Want
from .decision import fallback, fresh, is_never_fresh
from .loading import Load, Patience, Terms, led_by
from .single_flight import Flight, Flights, Landing

__all__ = [
    "PASS_SECONDS",
    "AskLeases",
    "Command",
    "Done",
    "FillResults",
    "Loaded",
    "Look",
    "Pause",
    "Reader",
    "ReleaseLeases",
    "RunLoader",
    "Shared",
    "Steps",
    "WaitFor",
    "WriteResults",
    "load",
]

_key_of: Final = itemgetter(0)
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
_LOADS_WAITED_FOR: Final = 2
_FILLS_LOOKED_AT: Final = 5
#: Seconds in which nobody waits for loads of a key whose last result could not be stored, or whose loader failed.
PASS_SECONDS: Final = 2.0


class Reader:
    """One key that somebody wants, and what they found there."""

    __slots__ = ("alone", "fills", "key", "lookup", "rounds", "tags")

    def __init__(self, key: str, tags: tuple[str, ...], lookup: Lookup | None) -> None:
        self.key: Final = key
        self.tags: Final = tags
        #: What was found unusable; ``None`` while the store is away.
        self.lookup = lookup
        #: Loads it has waited for, and fills by others that it has looked at.
        self.rounds = 0
        self.fills = 0
        #: Whether it waits for nobody any more.
        self.alone = False


class Look(NamedTuple):
    """Look keys up; the reply is a lookup for each, ``None`` when the store is away."""

    keys: Sequence[str]
    tags: tuple[str, ...]


class AskLeases(NamedTuple):
    """Ask to load keys; the reply is a ``Begun`` for each, ``None`` when the store is away."""

    wants: Sequence[Want]
    token: str
    moment: Moment | None


class RunLoader(NamedTuple):
    """Run the loader for some keys; the reply is :class:`Loaded`."""

    loads: Sequence[Load]


class FillResults(NamedTuple):
    """Fill keys with their leases; the reply is a ``Filled`` for each, ``None`` when the store is away."""

    results: Sequence[tuple[Load, LoadedResult]]


class WriteResults(NamedTuple):
    """Write what goes to other keys than the loaded one; the reply as for :class:`FillResults`."""

    load: Load
    writes: Sequence[tuple[str, Draft]]


class ReleaseLeases(NamedTuple):
    """Give leases back; no reply."""

    loads: Sequence[Load]
    pass_for: float = 0.0
    failed: bool = False


class WaitFor(NamedTuple):
    """Wait until a flight has landed, ``seconds`` at most; no reply."""

    flight: Flight
    seconds: float


class Pause(NamedTuple):
    """Let some time pass; no reply."""

    seconds: float


Command = Look | AskLeases | RunLoader | FillResults | WriteResults | ReleaseLeases | WaitFor | Pause


class Loaded(NamedTuple):
    """What a loader produced.

    Args:
        drafts: by key, what to fill; a key without one is not stored.
        writes: what goes to other keys, once the loaded key is filled (the variants of a response).
        error: what the loader raised.
        failed: whether it failed, so that an expired entry may stand in; an answer that is an exception did not.
        pass_for: seconds in which nobody waits for loads of a key that has no draft.
    """

    drafts: Mapping[str, Draft] = MappingProxyType({})
    writes: Sequence[tuple[str, Draft]] = ()
    error: Exception | None = None
    failed: bool = False
    pass_for: float = PASS_SECONDS


class Shared(NamedTuple):
    """What a reader gets instead of a load: another's result, or an entry that is stale."""

    entry: Entry
    stale: bool = False


class Done(NamedTuple):
    """How it ended: what was shared, and what became of each fill, by key. A key with neither was given up."""

    shared: dict[str, Shared]
    outcomes: dict[str, Outcome | None]


Steps = Generator[Command, Any, Done]


def load(readers: Iterable[Reader], flights: Flights, terms: Terms) -> Steps:
    """Have each key loaded once, by this reader or by another.

    Own keys are loaded and released before others' are waited for, so that two readers never wait for each other's.

    Args:
        readers: the keys, and what was found unusable there.
        flights: those of this process.
        terms: on which terms.

    Yields:
        Commands; it is sent their replies.

    Raises:
        Exception: what the leader of a load that was waited for raised, under ``terms.shares_errors``.
    """
    waiting: dict[str, Reader] = {}
    for reader in readers:
        waiting[reader.key] = reader
    run = _Run(waiting, flights, terms)
    try:
        while run.waiting:
            run.join()
            loads = yield from _leases(run)
            if loads:
                yield from _loads(run, loads)
            elif run.filled:
                yield from _look_again(run)
            elif run.waiting:
                yield from _wait(run)
        return run.done
    finally:
        if run.led or run.joined:
            run.leave()


class _Run:
    """The state of one :func:`load`."""

    __slots__ = (
        "busy",
        "deadline",
        "done",
        "filled",
        "flights",
        "holders",
        "joined",
        "led",
        "pause",
        "terms",
        "ticket",
        "token",
        "waiting",
    )

    def __init__(self, waiting: dict[str, Reader], flights: Flights, terms: Terms) -> None:
        self.waiting: Final = waiting
        self.flights: Final = flights
        self.terms: Final = terms
        self.done: Final = Done({}, {})
        self.ticket: Final = object()
        self.token: Final = terms.token()
        self.deadline: Final = terms.clock() + terms.seconds
        #: The keys that this reader leads here, with their flights; without one it waits for nobody in this process.
        self.led: Final[dict[str, Flight | None]] = {}
        self.joined: Final[dict[str, Flight]] = {}
        self.busy: Final[set[str]] = set()
        self.filled: Final[list[str]] = []
        self.holders: Final[set[str]] = set()
        self.pause = _FIRST_PAUSE

    @property
    def is_over(self) -> bool:
        """Whether it has waited long enough."""
        return self.terms.clock() >= self.deadline

    def stale(self, reader: Reader) -> Entry | None:
        """An expired entry that may be served while somebody loads; inside a load there is none."""
        lookup = reader.lookup
        if self.terms.parent is not None or lookup is None or lookup.entry is None:
            return None
        return lookup.entry if lookup.entry.freshness(lookup.now) is Freshness.STALE else None

    def share(self, key: str, entry: Entry, *, stale: bool = False, landing: Landing | None = None) -> None:
        """The key is served."""
        self.done.shared[key] = Shared(entry, stale)
        if not stale:
            self.terms.collapsed += 1
        self.drop(key, landing or Landing())

    def drop(self, key: str, landing: Landing = Landing()) -> None:  # noqa: B008  # an immutable tuple
        """The key is done with, however."""
        self.waiting.pop(key, None)
        self.busy.discard(key)
        flight = self.led.pop(key, None)
        if flight is not None:
            self.flights.land(flight, landing)
        joined = self.joined.pop(key, None)
        if joined is not None:
            self.flights.leave(joined, self.ticket)

    def lead_alone(self, key: str) -> None:
        """Load the key whatever others do in this process."""
        joined = self.joined.pop(key, None)
        if joined is not None:
            self.flights.leave(joined, self.ticket)
        self.led[key] = None

    def join(self) -> None:
        """Find out, for each key, whether this reader leads it in this process."""
        terms, is_over = self.terms, self.is_over
        for key, reader in list(self.waiting.items()):
            if key in self.led:
                continue
            # A loader of this very key may run around this one: what it loads is not stored.
            if key in terms.own_keys or is_over or reader.rounds >= _LOADS_WAITED_FOR:
                reader.alone = True
            if reader.alone:
                self.lead_alone(key)
                continue
            flight, leads = self.flights.join(key, self.ticket, terms.began)
            if leads:
                self.joined.pop(key, None)
                self.led[key] = flight
                continue
            self.joined[key] = flight
            stale = self.stale(reader)
            if stale is not None:  # somebody refreshes it already
                self.share(key, stale, stale=True)
            elif terms.patience is Patience.GIVE_UP:
                self.drop(key)
            elif terms.patience is Patience.RUN_ALONE:
                reader.alone = True
                self.lead_alone(key)

    def leave(self) -> None:
        """However it ends, nobody waits for this reader, and it is not to lead what comes next."""
        for flight in self.led.values():
            if flight is not None:
                self.flights.land(flight)
        for flight in self.joined.values():
            self.flights.leave(flight, self.ticket)


def _leases(run: _Run) -> Generator[Command, Any, list[Load]]:
    """Ask for the leases of the keys led here; the loads to run now."""
    terms = run.terms
    asked: list[Reader] = []
    wants: list[Want] = []
    for key in run.led:
        if key in run.waiting:
            reader = run.waiting[key]
            asked.append(reader)
            if reader.lookup is not None and not reader.alone:
                wants.append(Want(key, reader.lookup.identity, reader.tags))
    answers: Sequence[Begun | None] = (yield AskLeases(wants, run.token, terms.moment)) if wants else ()
    begun = dict(zip(map(_key_of, wants), answers, strict=True))
    run.busy.clear()
    run.filled.clear()
    loads = []
    for reader in asked:
        found = _taken(run, reader, begun.get(reader.key))
        if found is not None:
            loads.append(found)
    return loads


def _taken(run: _Run, reader: Reader, begun: Begun | None) -> Load | None:
    """What an answer to :class:`AskLeases` means for a key: the load to run, if any."""
    key, terms = reader.key, run.terms
    flight = run.led[key]
    lease = None if begun is None else begun.lease
    if begun is not None and begun.kind is Begin.FILLED:
        run.filled.append(key)
        return None
    if begun is not None and begun.kind is Begin.BUSY:
        stale = run.stale(reader)
        run.holders.add(begun.holder)
        if stale is not None:
            run.share(key, stale, stale=True)
            return None
        if terms.patience is Patience.GIVE_UP:
            run.drop(key)
            return None
        # Where every load is overtaken, or fails, others take the lease again before this one looks (rule R6).
        patient = terms.patience is Patience.WAIT and reader.rounds + len(run.holders) <= _LOADS_WAITED_FOR
        if patient and not run.is_over:
            run.busy.add(key)
            return None
    passes = begun is not None and begun.kind is Begin.PASS and lease is not None and not lease.after_failure
    if passes and flight is not None:  # the last result was for nobody else: all who wait load now
        run.flights.land(flight, Landing(run_at_once=True))
        run.led[key] = flight = None
    answer = None if begun is None else begun.kind
    return Load(key, terms.policy, lease, flight=flight, terms=terms, stand_in=fallback(reader.lookup), answer=answer)


def _loads(run: _Run, loads: list[Load]) -> Generator[Command, Any, None]:
    """Run the loader, store what may be stored, and let those who waited go on."""
    loaded: Loaded = yield RunLoader(loads)
    if loaded.error is not None:
        yield from _failed(run, loads, loaded)
        return
    results: list[tuple[Load, LoadedResult]] = []
    given_up: list[Load] = []
    may_write = bool(loaded.writes) and loads[0].can_be_stored  # a fill ends the lease
    for each in loads:
        draft = loaded.drafts.get(each.key)
        if draft is not None and each.can_be_stored:
            assert each.lease is not None
            assert each.moment is not None
            results.append((each, LoadedResult(each.lease, draft, each.moment)))
        elif each.lease is not None:
            given_up.append(each)
    first = loads[0]
    sent = time.monotonic_ns()
    outcomes = run.done.outcomes
    if results:
        filled: Sequence[Filled | None] = yield FillResults(results)
        for (each, _), answer in zip(results, filled, strict=True):
            outcomes[each.key] = None if answer is None else answer.outcome
    is_filled = first.key not in loaded.drafts or outcomes.get(first.key) in (Outcome.STORED, Outcome.SENT)
    if may_write and is_filled:
        answers: Sequence[Filled | None] = yield WriteResults(first, loaded.writes)
        for (key, _), answer in zip(loaded.writes, answers, strict=True):
            outcomes[key] = None if answer is None else answer.outcome
    if given_up:
        yield ReleaseLeases(given_up, loaded.pass_for)
    for each in loads:
        is_stored = outcomes.get(each.key) is Outcome.STORED
        run.drop(each.key, _landing(each, loaded.drafts.get(each.key), sent if is_stored else 0))


def _landing(load: Load, draft: Draft | None, sent: int) -> Landing:
    """What those get who waited for a load.

    Args:
        load: the load.
        draft: what it produced.
        sent: when the fill was sent that was stored (monotonic ns); 0 when none was.
    """
    if draft is None or load.is_tainted or load.unstorable is not None or draft.ttl <= 0.0:
        return Landing(run_at_once=True)
    if load.is_confirmed and not sent:  # it is as old as the entry was
        return Landing()
    return Landing((draft, load.moment), sent or load.began)


def _failed(run: _Run, loads: list[Load], loaded: Loaded) -> Generator[Command, Any, None]:
    """The loader raised: release, and serve what stands in, if every key has something; else the driver raises."""
    yield ReleaseLeases([each for each in loads if each.lease is not None], loaded.pass_for, loaded.failed)
    landing = Landing(error=loaded.error) if loaded.failed else Landing(run_at_once=True)
    # A part of them would look as if the rest were not there.
    stands_in = loaded.failed and all(each.stand_in is not None for each in loads)
    for each in loads:
        if stands_in and each.stand_in is not None:
            run.share(each.key, each.stand_in, stale=True, landing=landing)
        else:
            run.drop(each.key, landing)


def _look_again(run: _Run) -> Generator[Command, Any, None]:
    """Somebody filled keys meanwhile: take what is fresh there."""
    keys = list(run.filled)
    sent = time.monotonic_ns()
    lookups: Sequence[Lookup | None] = yield Look(keys, run.waiting[keys[0]].tags)
    for key, lookup in zip(keys, lookups, strict=True):
        reader = run.waiting[key]
        reader.lookup = lookup
        reader.fills += 1
        entry = fresh(lookup)
        if entry is not None:
            run.share(key, entry, landing=Landing(entry, sent))
        elif reader.fills >= _FILLS_LOOKED_AT or is_never_fresh(lookup):
            # Filled and invalidated again and again: waited enough. Or there is nothing to wait for.
            reader.alone = True


def _wait(run: _Run) -> Generator[Command, Any, None]:
    """Wait for another's load, and take what it gives."""
    terms = run.terms
    began = terms.clock()
    key, flight = next(iter(run.joined.items()), ("", None))
    if flight is None:
        yield Pause(run.pause)
        run.pause = min(run.pause * 1.6, _LONGEST_PAUSE)
    else:
        led = led_by(terms.parent)
        if run.flights.would_deadlock(flight, led):
            run.waiting[key].alone = True
            run.lead_alone(key)
            return
        try:
            left = max(0.0, run.deadline - began)
            yield WaitFor(flight, min(left, run.pause) if run.busy else left)
        finally:
            run.flights.waited(flight, led)
    terms.waited += terms.clock() - began
    landed = {key: flight for key, flight in run.joined.items() if flight.is_landed}
    if flight is not None and not run.busy and key not in landed:  # it took too long
        run.waiting[key].alone = True
        run.lead_alone(key)
    again = [key for key, flight in landed.items() if not _landed(run, run.waiting[key], flight)]
    if again:
        lookups: Sequence[Lookup | None] = yield Look(again, run.waiting[again[0]].tags)
        for key, lookup in zip(again, lookups, strict=True):
            run.waiting[key].lookup = lookup
            entry = fresh(lookup)
            if entry is not None:
                run.share(key, entry)


def _landed(run: _Run, reader: Reader, flight: Flight) -> bool:
    """Take what a flight that was waited for gives; whether that settles it, else the reader looks again."""
    key, landing = reader.key, flight.landing
    error = flight.error()
    if error is not None and run.terms.shares_errors:
        stand_in = fallback(reader.lookup)
        if stand_in is None:
            raise error
        run.share(key, stand_in, stale=True)
        return True
    if landing.run_at_once or error is not None:
        run.lead_alone(key)  # with a lease of its own, if there is one to be had
        return True
    entry = landing.entry
    if entry is not None and run.terms.began <= landing.good_until:
        run.share(key, entry)
        return True
    if entry is not None:
        reader.rounds += 1
    return False  # it is left when the reader has looked: it may be the one that is to lead the next
