"""Who waits for whose lease when requests of one key sit in different processes: rules R4.1, R4.3 and R6.

Each request is a process of its own: results are not shared, a waiter asks for the lease again and again. A loader
may crash (its lease is renewed no more) or hang (its lease is renewed for ever), the renewal of a living one may come
too late, and invalidations overtake loads. Everybody must be able to finish, two loads never hold the lease at once,
and nobody waits for load after load. A request of another view finds an entry under the key that it may not use.

Nothing is said here about values (see ``fills``). A load without a lease concerns nobody else and takes one step. A
process has heard of an invalidation before its request begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .actors import DONE, Actor, Move, Scenario, interleave
from .explorer import Step
from .rules import Rules

__all__ = ["SCENARIOS"]

_PATIENCE: Final = 2
"""How many loads a request waits for before it loads alone."""


class Kept(NamedTuple):
    """The entry: which fill it is, the view it is of, and its ``as_of``."""

    identity: int
    view: int
    as_of: int


class Lease(NamedTuple):
    """The lease of the key."""

    holder: int
    as_of: int
    is_taken_over: bool = False
    is_renewed: bool = True


class World(NamedTuple):
    """What everybody shares; the last four are how often that may still happen."""

    kept: Kept | None = None
    lease: Lease | None = None
    stamp: int = 0
    fills: int = 0
    holders: tuple[int, ...] = ()
    """Those who load and have not lost their lease."""
    hung: int = -1
    """Who hangs."""
    invalidations: int = 0
    crashes: int = 0
    hangs: int = 0
    late_renewals: int = 0

    @property
    def valid(self) -> Kept | None:
        """The entry, if it is valid."""
        return self.kept if self.kept and self.kept.as_of >= self.stamp else None

    def leased(self, lease: Lease) -> World:
        """The world after somebody has taken the lease, or taken it over."""
        former = self.lease.holder if self.lease else -1
        holders = tuple(sorted({*self.holders, lease.holder} - {former}))
        return self._replace(lease=lease, holders=holders)

    def without_holder(self, holder: int) -> World:
        """The world after somebody has stopped to load, or lost the lease."""
        return self._replace(holders=tuple(other for other in self.holders if other != holder))


class Waiting(NamedTuple):
    """A request between its steps."""

    moment: int
    """Its ``as_of``."""
    view: int
    at: str = "looks"
    found: int = -1
    """The fill it has found unusable."""
    waits_for: int = -1
    """Whose load it waits for."""
    waited: int = 0
    """For how many loads it has waited."""


def _look(world: World, mine: Waiting) -> Move[World]:
    kept = world.valid
    if kept and kept.view == mine.view:
        return Move("hits", world, DONE)
    return Move("misses", world, mine._replace(at="begins", found=kept.identity if kept else -1))


def _begin(world: World, mine: Waiting, me: int, rules: Rules) -> Iterator[Move[World]]:
    """The script that grants leases."""
    kept, lease = world.valid, world.lease
    can_store = mine.moment >= world.stamp
    if kept and (kept.identity != mine.found or not rules.filled_means_another_entry):
        yield Move("is answered: filled meanwhile", world, mine._replace(at="looks"))
    elif lease is None:
        if can_store:
            yield Move("takes the lease", world.leased(Lease(me, mine.moment)), mine._replace(at="loads"))
        else:
            yield Move("could not be stored, and loads alone", world, DONE)
    elif can_store and lease.as_of < world.stamp and not lease.is_taken_over:
        taken = Lease(me, mine.moment, is_taken_over=True)
        yield Move(f"takes the lease over from #{lease.holder + 1}", world.leased(taken), mine._replace(at="loads"))
    elif lease.holder != mine.waits_for:
        if mine.waited == _PATIENCE and rules.waiters_wait_twice_at_most:
            yield Move("has waited twice, and loads alone", world, DONE)
            return
        waited = mine._replace(waits_for=lease.holder, waited=mine.waited + 1)
        wrong = f"SLOW: a request waits for {waited.waited} loads" if waited.waited > _PATIENCE else ""
        yield Move(f"waits for #{lease.holder + 1}", world, waited, wrong)
    elif world.hung == lease.holder and rules.waiters_give_up:
        yield Move("has waited for too long, and loads alone", world, DONE)


def _load(world: World, mine: Waiting, me: int, rules: Rules) -> Iterator[Move[World]]:
    after = world.without_holder(me)
    lease = world.lease
    is_holder = lease is not None and lease.holder == me
    if is_holder or not rules.release_needs_the_token:
        after = after._replace(lease=None)
    if is_holder and mine.moment >= world.stamp:
        after = after._replace(kept=Kept(world.fills, mine.view, mine.moment), fills=world.fills + 1)
    yield Move("ends its load", after, DONE)
    if lease and is_holder:
        if world.crashes:
            crashed = world.without_holder(me)._replace(lease=lease._replace(is_renewed=False))
            yield Move("crashes", crashed._replace(crashes=world.crashes - 1), DONE)
        if world.hangs:
            yield Move("hangs", world._replace(hung=me, hangs=world.hangs - 1), DONE)


def _request(world: World, mine: Waiting | None, me: int, rules: Rules, view: int) -> Iterator[Move[World]]:
    if mine is None:
        yield Move("begins", world, Waiting(world.stamp, view))
    elif mine.at == "looks":
        yield _look(world, mine)
    elif mine.at == "begins":
        yield from _begin(world, mine, me, rules)
    else:
        yield from _load(world, mine, me, rules)


def request(world: World, mine: Waiting | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """A request for the key."""
    yield from _request(world, mine, me, rules, view=1)


def request_of_another_view(world: World, mine: Waiting | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """A request for the same key by another view."""
    yield from _request(world, mine, me, rules, view=2)


def _surroundings(world: World, rules: Rules) -> Iterator[Step[World]]:
    if world.invalidations:
        after = world._replace(stamp=world.stamp + 1, invalidations=world.invalidations - 1)
        yield Step("an invalidation", after)
    lease = world.lease
    if lease is None:
        return
    expired = world.without_holder(lease.holder)._replace(lease=None)
    if not lease.is_renewed:
        if rules.leases_expire:
            yield Step("the lease of who crashed expires", expired)
    elif world.late_renewals and world.hung != lease.holder:
        yield Step("the lease expires before it is renewed", expired._replace(late_renewals=world.late_renewals - 1))


def _wrong(world: World, rules: Rules) -> str:
    return "DOUBLE: two loads at once under leases that neither has lost" if len(world.holders) > 1 else ""


def _scenario(world: World, *actors: Actor[World]) -> Scenario:
    return lambda rules: interleave(rules, world, actors, surroundings=_surroundings, wrong=_wrong, must_end=True)


_OTHERS: Final = World(kept=Kept(0, 1, 0), fills=1)

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "three requests, a crash, an invalidation": _scenario(World(crashes=1, invalidations=1), request, request, request),
    "three requests, a late renewal": _scenario(World(late_renewals=1, invalidations=1), request, request, request),
    "three requests, one hangs": _scenario(World(hangs=1), request, request, request),
    "four requests, two invalidations": _scenario(World(invalidations=2), request, request, request, request),
    "two views under one key": _scenario(_OTHERS._replace(invalidations=1), request, request_of_another_view),
}
