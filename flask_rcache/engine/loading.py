"""A load under way: what it may fill, and what its result depends on (rules R3.4 and R6).

Owns :class:`Load`, the :class:`Terms` on which it loads, the context variable by which a load is found from inside its
loader, and the noting of what is read there. Who loads and who waits is ``load``'s.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar, Token
from enum import Enum
from itertools import count, repeat
from typing import Any, Final
from weakref import WeakSet

from ..model.entry import Content, Draft, Entry
from ..model.forks import register
from ..model.moment import AsOf, Epoch, Moment, known_at, least
from ..model.observations import Observations, Seen, is_observed
from ..model.scope import Scope, scope_var
from ..stores.protocol import Begin, Lease
from .policies import Policy
from .single_flight import Flight

__all__ = [
    "Load",
    "Patience",
    "Terms",
    "current_load",
    "depend_on",
    "keys_under_way",
    "led_by",
    "observe",
    "observe_in",
    "record_read",
]

_UNWATCHED: Final = "a database that nobody watches, for its tags are AUTO: make an SQLCache of its engine, or of db"


class _Tokens:
    """Makes the names of loaders, of letters and digits; no two are the same, in whatever process.

    Random once for a process, since asking the system for randomness takes as long as many steps of a load. The time
    distinguishes copies of a machine that was stopped, copied and started again.
    """

    def __init__(self) -> None:
        self.reset_after_fork()
        self._numbers: Final = count()
        register(self)

    def reset_after_fork(self) -> None:
        """The child is another process."""
        self._process = secrets.token_hex(12)

    def __call__(self) -> str:
        """Another one."""
        return f"l{self._process}{next(self._numbers):x}g{time.monotonic_ns():x}"


_tokens: Final = _Tokens()


class Patience(Enum):
    """What a reader does where it would have to wait for another's load."""

    WAIT = 1
    RUN_ALONE = 2
    """It holds something that others may wait for."""
    GIVE_UP = 3
    """It is a background refresh: somebody else loads the key already."""


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
        token: Callable[[], str] = _tokens,
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
    current = _current.get()
    if current is None:
        return set()
    return {key for load in _ancestry(current) if load.is_running for key in load.keys}


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
    if moment is None:
        return 0, tuple(zip(tags, repeat(0)))
    if moment.vector is None:
        return moment.epoch, tuple(zip(tags, repeat(moment.clock)))
    return moment.epochs, tuple(zip(tags, repeat(moment.as_of)))


#: What loads that are independent of their request observe, around this.
_targets: Final[ContextVar[tuple[Observations, ...]]] = ContextVar("rcache_observations_of_loads", default=())
#: The scopes of loads that observe: what a thread reads that came without its context counts for all of them.
_observing: Final[WeakSet[Scope]] = WeakSet()


def observe(seen: Seen) -> None:
    """Something was observed to be read: loads with ``AUTO`` tags, around it or later in the request, depend on it."""
    observe_in(scope_var.get(), seen)


def observe_in(scope: Scope | None, seen: Seen) -> None:
    """:func:`observe`, for who knows the scope of this context already."""
    for observed in _targets.get():
        observed.see(seen)
    if scope is not None:
        if scope.observed is None:
            scope.observed = Observations()
        scope.observed.see(seen)
        return
    for each in tuple(_observing):
        if each.observed is None:
            each.observed = Observations()
        each.observed.see(seen)
