"""The one algorithm that loads: who loads, who waits, what is stored, and what may be shared (rules R3, R4, R6).

Owns :class:`Load` (one loader at work), :func:`decide` (what an entry is good for) and :func:`load`, a generator
without I/O for one key or many. It yields commands (*look*, *begin*, *run the loader*, *wait*, *fill*, *release*) and
is sent what became of them. ``fetching`` drives it in threads and in asyncio, ``views`` over the hooks of a request. A
hit does not pass through it.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar, Token
from enum import Enum
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakSet

from ..model.entry import MICROSECONDS, Content, Draft, Entry, Freshness
from ..model.moment import AsOf, Epoch, Moment, known_at, least
from ..model.named_tuple import NamedTuple
from ..model.observations import Observations, Seen, is_observed
from ..model.scope import Scope, scope_var
from ..stores.protocol import Begin, Begun, Filled, Lease, LoadedResult, Lookup, Outcome, Want
from .policies import Policy
from .single_flight import Flight, Flights, Landing

__all__ = [
    "AskLeases",
    "Command",
    "Decision",
    "Done",
    "FillResults",
    "Load",
    "Loaded",
    "Look",
    "Patience",
    "Pause",
    "Reader",
    "ReleaseLeases",
    "RunLoader",
    "Shared",
    "Terms",
    "WaitFor",
    "WriteResults",
    "current_load",
    "decide",
    "depend_on",
    "fallback",
    "fresh",
    "is_never_fresh",
    "keys_under_way",
    "led_by",
    "load",
    "observe",
    "record_read",
]

_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
_LOADS_WAITED_FOR: Final = 2
_FILLS_LOOKED_AT: Final = 5
#: Seconds in which nobody waits for loads of a key whose last result could not be stored, or whose loader failed.
PASS_SECONDS: Final = 2.0
_UNWATCHED: Final = "a database that nobody watches, for its tags are AUTO: make an SQLCache of its engine, or of db"


# --- What an entry is good for


class Decision(Enum):
    """What a reader does with what it found."""

    HIT = "hit"
    REFRESH = "refresh"
    """Serve it; it is refreshed in the background, before it expires."""
    STALE = "stale"
    """Serve it although it has expired; it is refreshed in the background."""
    LOAD = "load"


def decide(entry: Entry | None, now: int, *, inside_load: bool, beta: float, draw: float) -> Decision:
    """What a valid entry is good for at a time: the one place where freshness is decided.

    Args:
        entry: the entry, which is valid (rule R1); ``None`` when there is none.
        now: the store's clock, µs.
        inside_load: whether a load would use it: nothing stale then, as the load's result could not be stored (R3.4).
        beta: XFetch's; 0 for no early refresh.
        draw: a random number above 0, up to 1.

    Source: Vattani et al., "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015 (XFetch).

    >>> entry = Entry(b"", epoch=1, as_of=0, created=0, ttl=10.0, stale_while_revalidate=5.0)
    >>> [decide(entry, second * 1_000_000, inside_load=False, beta=0, draw=1).value for second in (1, 12, 20)]
    ['hit', 'stale', 'load']
    """
    if entry is None:
        return Decision.LOAD
    past_ttl = (now - entry.created) / MICROSECONDS - entry.ttl
    if past_ttl < 0:
        if beta and entry.age(now) - entry.cost * beta * math.log(max(draw, 1e-12)) >= entry.ttl:
            return Decision.REFRESH
        return Decision.HIT
    return Decision.STALE if past_ttl < entry.stale_while_revalidate and not inside_load else Decision.LOAD


def fresh(lookup: Lookup | None) -> Entry | None:
    """The entry of a lookup when it is fresh."""
    entry = lookup.entry if lookup is not None else None
    if entry is None or lookup is None or (lookup.now - entry.created) / MICROSECONDS >= entry.ttl:
        return None
    return entry


def is_never_fresh(lookup: Lookup | None) -> bool:
    """Whether the entry of a lookup is good only once it is confirmed, by each reader for itself (``no-cache``)."""
    entry = lookup.entry if lookup is not None else None
    return entry is not None and entry.ttl <= 0.0


def fallback(lookup: Lookup | None) -> Entry | None:
    """The entry of a lookup that may be served when the loader fails (``stale_if_error``)."""
    entry = lookup.entry if lookup is not None else None
    if entry is None or lookup is None:
        return None
    return entry if entry.age(lookup.now) - entry.ttl < entry.stale_if_error else None


# --- One loader at work


class Load:
    """One loader at work: what it may fill, and what its result depends on.

    Args:
        key: the stored key.
        policy: of the call.
        lease: the right to fill the key; ``None`` when what it loads is not stored.
        flight: its flight in this process, when it leads one.
        terms: of the reader that runs it.
        stand_in: an expired entry that may be served when the loader fails.
        answer: what the store answered when it was asked for the lease; ``None`` when it was not, or is away.
    """

    __slots__ = (
        "_own_reset",
        "_reset",
        "_scope_reset",
        "answer",
        "began",
        "cost",
        "flight",
        "is_confirmed",
        "is_tainted",
        "key",
        "keys",
        "lease",
        "longest_ttl",
        "moment",
        "observes",
        "own",
        "owner",
        "parent",
        "policy",
        "reads",
        "stand_in",
        "started",
        "tags",
        "unstorable",
    )

    def __init__(
        self,
        key: str,
        policy: Policy,
        lease: Lease | None,
        *,
        flight: Flight | None,
        terms: Terms,
        stand_in: Entry | None = None,
        answer: Begin | None = None,
    ) -> None:
        self.key: Final = key
        self.answer: Final = answer
        #: The keys that its loader loads, when they are several.
        self.keys: tuple[str, ...] = (key,)
        self.policy: Final = policy
        self.lease = lease
        self.flight: Final = flight
        self.moment: Final = terms.moment
        self.began: Final = terms.began
        self.owner: Final = terms.owner
        self.parent: Final = terms.parent
        self.stand_in: Final = stand_in
        self.started: Final = time.perf_counter()
        #: Tags of its own, whose ``as_of`` is the moment.
        self.tags: Final[dict[str, None]] = {}
        #: The cached values that it read (rule R3.4), once it has ended.
        self.reads: Mapping[str, AsOf] = {}
        self.is_tainted = False
        #: Whether what was observed to be read since the request began is what it depends on (``AUTO``).
        self.observes = terms.observes
        #: What was observed during this load alone, where nothing that the request has read before counts.
        self.own: Final = Observations() if terms.is_independent else None
        self._own_reset: Token[tuple[Observations, ...]] | None = None
        #: Why its result is not stored, where what was observed is not for others; once it has ended.
        self.unstorable: str | None = None
        #: Whether its result is an entry that was confirmed, and no older answer may stand in for it.
        self.is_confirmed = False
        #: Seconds that its result is fresh at most.
        self.longest_ttl = math.inf
        #: Seconds it took, once it has ended.
        self.cost = 0.0
        self._reset: Token[Load | None] | None = None
        self._scope_reset: Token[Scope | None] | None = None

    def __enter__(self) -> Load:
        self._reset = _current.set(self)
        scope = scope_var.get()
        if scope is None or scope.owner is not self.owner or (not scope.is_request and self.parent is None):
            # Outside of a request what counts is read during the load (rule R3.2).
            around, scope = scope, Scope(self.owner, self.moment, is_request=False)
            if self.observes and around is not None and around.owner is self.owner:
                # Objects that were read before may be at hand, and are read again without a statement.
                scope.within(around)
            self._scope_reset = scope_var.set(scope)
        if self.own is not None:
            self._own_reset = _targets.set((*_targets.get(), self.own))
        elif self.observes:
            _observing.add(scope)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        self.cost = time.perf_counter() - self.started
        scope = scope_var.get()
        if self.own is not None:
            is_foreign, self.reads = known_at(self.moment, self.own.reads)
            touches = scope is not None and bool(scope.uncommitted) and scope.is_uncommitted(self.reads)
            self.is_tainted = self.is_tainted or is_foreign or self.own.is_uncommitted or touches
            self.unstorable = self.own.unstorable
        elif scope is not None:
            self._note_reads(scope)
        if self._own_reset is not None:
            _targets.reset(self._own_reset)
            self._own_reset = None
        if self._scope_reset is not None:
            scope_var.reset(self._scope_reset)
            self._scope_reset = None
        if self._reset is not None:
            _current.reset(self._reset)
            self._reset = None
        # Also when it failed: a caller that carries on without it depends on why it failed.
        self._pass_up()

    @property
    def is_running(self) -> bool:
        """Whether its loader has begun and not ended."""
        return self._reset is not None

    @property
    def can_be_stored(self) -> bool:
        """Whether there is a right to store it, and nothing it read forbids it."""
        is_clean = not self.is_tainted and self.unstorable is None
        return self.lease is not None and self.moment is not None and is_clean

    def _note_reads(self, scope: Scope) -> None:
        """Take the tags of every cached value read since the request began, each with its own ``as_of`` (R3.4)."""
        # Readings of another epoch mean nothing in this one.
        is_foreign, self.reads = scope.dependencies(self.moment, observes=self.observes)
        self.is_tainted = self.is_tainted or scope.is_tainted or is_foreign
        if self.observes and not is_observed(self.owner):  # what it depends on is not seen, nor invalidated
            self.unstorable = _UNWATCHED
        if self.observes and scope.observed is not None:
            self.unstorable = self.unstorable or scope.observed.unstorable
            self.is_tainted = self.is_tainted or scope.observed.is_uncommitted
        if self.observes and scope.uncommitted and scope.is_uncommitted(self.reads):
            self.is_tainted = True

    def _pass_up(self) -> None:
        """What this load depends on, what is loaded later in the request or around it does too; stored or not."""
        scope = scope_var.get()
        if scope is None or scope.owner is not self.owner or (not scope.is_request and self.parent is None):
            return
        scope.reads.append(_read_at(self.moment, (self.policy.tag, *self.tags)))
        observed = self.own or (scope.observed if self.observes else None)
        if observed is not None:
            scope.reads.extend((epochs, tuple(tags.items())) for epochs, tags in observed.reads.items())

    def share_run(self, together: Load) -> None:
        """This load ran in one loader with another: what that one depends on, this one depends on."""
        self.tags.update(together.tags)
        self.reads, self.is_tainted, self.cost = together.reads, together.is_tainted, together.cost
        self.longest_ttl = min(self.longest_ttl, together.longest_ttl)
        self.unstorable = together.unstorable

    def confirm(self, entry: Entry) -> None:
        """The result is an entry that the source has confirmed: it keeps the entry's tags, each with *its* ``as_of``.

        So what was invalidated meanwhile stays invalid, also for those who wait for this load.
        """
        self.is_confirmed = True
        epochs, tags = entry.read
        is_foreign, kept = known_at(self.moment, {epochs: dict(tags)})
        self.is_tainted = self.is_tainted or is_foreign
        reads: dict[str, Any] = dict(self.reads)
        for tag, as_of in kept.items():
            reads[tag] = least(as_of, reads[tag]) if tag in reads else as_of
        self.reads = reads

    def draft(
        self,
        content: Content,
        *,
        ttl: float,
        stale_while_revalidate: float | None = None,
        stale_if_error: float | None = None,
        revalidate: float = 0.0,
        origin: str = "",
        place: str = "",
    ) -> Draft:
        """What the load produced, with all that it depends on.

        Args:
            content: the encoded value or the response.
            ttl: seconds it is fresh.
            stale_while_revalidate: seconds; the type's when left out.
            stale_if_error: seconds; the type's when left out.
            revalidate: seconds after the ttl in which it may be revalidated.
            origin: the view that made it.
            place: the endpoint and the URL path that it was made for.
        """
        cache_type = self.policy.type
        swr, sie = stale_while_revalidate, stale_if_error
        return Draft(
            content=content,
            ttl=min(ttl, self.longest_ttl),
            stale_while_revalidate=cache_type.stale_while_revalidate if swr is None else swr,
            stale_if_error=cache_type.stale_if_error if sie is None else sie,
            tags=tuple(dict.fromkeys((self.policy.tag, *self.tags))),
            inherited=tuple(self.reads.items()),
            cost=self.cost,
            origin=origin,
            revalidate=revalidate,
            place=place,
        )


_current: Final[ContextVar[Load | None]] = ContextVar("rcache_load", default=None)


def current_load() -> Load | None:
    """The load that runs in this context, if any."""
    return _current.get()


def keys_under_way() -> set[str]:
    """The keys of the loaders that run in this context: to wait for one of them would be to wait for oneself."""
    # In a task that a loader has left behind, its load is no longer running.
    return {key for load in _ancestry(_current.get()) if load.is_running for key in load.keys}


def led_by(load: Load | None) -> list[Flight]:
    """The flights that a load and those around it lead."""
    return [each.flight for each in _ancestry(load) if each.flight is not None]


def _ancestry(load: Load | None) -> Iterator[Load]:
    while load is not None:
        yield load
        load = load.parent


def record_read(owner: object, entry: Entry, *, stale: bool = False) -> None:
    """A cached value was read: what is loaded later in this request, or around it, depends on it (rule R3.4)."""
    scope = scope_var.get()
    if scope is None or scope.owner is not owner or (not scope.is_request and _current.get() is None):
        return
    # Of nearly all entries, without a call: each hit passes here.
    scope.reads.append((entry.epoch, entry.tags) if entry.parts is None else entry.read)
    if stale:
        scope.is_tainted = True


def depend_on(owner: object, tags: Iterable[str], moment: Moment | None) -> None:
    """What is loaded around this, or later in this request, depends on tags, as if it had read an entry with them."""
    scope = scope_var.get()
    if scope is None or scope.owner is not owner or (not scope.is_request and _current.get() is None):
        return
    scope.reads.append(_read_at(moment, tags))


def _read_at(moment: Moment | None, tags: Iterable[str]) -> tuple[Epoch, tuple[tuple[str, AsOf], ...]]:
    """What is noted of tags whose ``as_of`` is a moment; without one, what nothing can be built on."""
    epochs, as_of = (0, 0) if moment is None else (moment.epochs, moment.as_of)
    return epochs, tuple([(tag, as_of) for tag in tags])


#: What loads that are independent of their request observe, around this.
_targets: Final[ContextVar[tuple[Observations, ...]]] = ContextVar("rcache_observations_of_loads", default=())
#: The scopes of loads that observe: what a thread reads that came without its context counts for all of them.
_observing: Final[WeakSet[Scope]] = WeakSet()


def observe(seen: Seen) -> None:
    """Something was observed to be read: loads with ``AUTO`` tags, around it or later in the request, depend on it."""
    scope = scope_var.get()
    for observed in _targets.get():
        observed.see(seen)
    for each in (scope,) if scope is not None else tuple(_observing):
        if each.observed is None:
            each.observed = Observations()
        each.observed.see(seen)


# --- The algorithm


class Patience(Enum):
    """What a reader does where it would have to wait for another's load."""

    WAIT = 1
    RUN_ALONE = 2
    """It holds something that others may wait for."""
    GIVE_UP = 3
    """It is a background refresh: somebody else loads the key already."""


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


class Terms:
    """On which terms a reader loads.

    Args:
        owner: the cache (its store) it belongs to.
        policy: of the call.
        moment: its ``as_of`` (rule R3); ``None`` when the store is away.
        began: the instant (monotonic ns) that its result must not be older than (rule R6).
        parent: the load inside which it reads.
        own_keys: keys whose loaders this context runs already.
        patience: what it does where it would have to wait.
        seconds: how long it waits at most.
        shares_errors: whether it takes the exception of a load that it waited for.
        clock: monotonic seconds.
        token: makes the names of loaders.
        observes: whether its loads depend on what was observed to be read (``AUTO``).
        is_independent: whether they depend on nothing that was read before they began, in the request either.

    Attributes:
        waited: seconds it has waited.
        collapsed: results of others that it has taken.
    """

    __slots__ = (
        "began",
        "clock",
        "collapsed",
        "is_independent",
        "moment",
        "observes",
        "own_keys",
        "owner",
        "parent",
        "patience",
        "policy",
        "seconds",
        "shares_errors",
        "token",
        "waited",
    )

    def __init__(
        self,
        owner: object,
        policy: Policy,
        moment: Moment | None,
        began: int,
        parent: Load | None,
        own_keys: set[str],
        *,
        patience: Patience = Patience.WAIT,
        seconds: float = 30.0,
        shares_errors: bool = True,
        clock: Callable[[], float] = time.monotonic,
        token: Callable[[], str] = lambda: "l" + secrets.token_hex(16),
        observes: bool = False,
        is_independent: bool = False,
    ) -> None:
        self.owner: Final = owner
        self.observes: Final = observes
        self.is_independent: Final = is_independent
        self.policy: Final = policy
        self.moment: Final = moment
        self.began: Final = began
        self.parent: Final = parent
        self.own_keys: Final = own_keys
        self.patience: Final = patience
        self.seconds: Final = seconds
        self.shares_errors: Final = shares_errors
        self.clock: Final = clock
        self.token: Final = token
        self.waited = 0.0
        self.collapsed = 0


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
    run = _Run({reader.key: reader for reader in readers}, flights, terms)
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
        terms = self.terms
        for key, reader in list(self.waiting.items()):
            if key in self.led:
                continue
            # A loader of this very key may run around this one: what it loads is not stored.
            if key in terms.own_keys or self.is_over or reader.rounds >= _LOADS_WAITED_FOR:
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
    asked = [run.waiting[key] for key in run.led if key in run.waiting]
    wants = [
        Want(reader.key, reader.lookup.identity, reader.tags)
        for reader in asked
        if reader.lookup is not None and not reader.alone
    ]
    answers: Sequence[Begun | None] = (yield AskLeases(wants, run.token, terms.moment)) if wants else ()
    begun = {want.key: answer for want, answer in zip(wants, answers, strict=True)}
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
    terms = run.terms
    results, given_up = [], []
    for each in loads:
        draft = loaded.drafts.get(each.key)
        if draft is not None and each.can_be_stored:
            assert each.lease is not None
            assert each.moment is not None
            results.append((each, LoadedResult(each.lease, draft, each.moment)))
        else:
            given_up.append(each)
    first = loads[0]
    may_write = first.can_be_stored  # a fill ends the lease
    sent = time.monotonic_ns()
    outcomes = run.done.outcomes
    if results:
        filled: Sequence[Filled | None] = yield FillResults(results)
        outcomes.update(
            (each.key, None if answer is None else answer.outcome)
            for (each, _), answer in zip(results, filled, strict=True)
        )
    is_filled = first.key not in loaded.drafts or outcomes.get(first.key) in (Outcome.STORED, Outcome.SENT)
    if loaded.writes and may_write and is_filled:
        answers: Sequence[Filled | None] = yield WriteResults(first, loaded.writes)
        for (key, _), answer in zip(loaded.writes, answers, strict=True):
            outcomes[key] = None if answer is None else answer.outcome
    held = [each for each in given_up if each.lease is not None]
    if held:
        yield ReleaseLeases(held, loaded.pass_for)
    for each in loads:
        draft = loaded.drafts.get(each.key)
        if draft is None or each.is_tainted or each.unstorable is not None or draft.ttl <= 0.0:
            run.drop(each.key, Landing(run_at_once=True))
            continue
        entry = Entry.shared(draft, each.moment)
        stored = outcomes.get(each.key) is Outcome.STORED
        if each.is_confirmed and not stored:  # it is as old as the entry was
            run.drop(each.key)
            continue
        run.drop(each.key, Landing(entry, sent if stored else terms.began))


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
    if landing.entry is not None and run.terms.began <= landing.good_until:
        run.share(key, landing.entry)
        return True
    if landing.entry is not None:
        reader.rounds += 1
    return False  # it is left when the reader has looked: it may be the one that is to lead the next
