"""When a reader may take a result that another's load could not store: rule R6.

One process without a memory tier, whose requests share loads of one key, and writers elsewhere. A load that an
invalidation has overtaken is not stored, but others may have waited for it: who may still take its result? No request
may get a value older than what was announced when it began, or than what it has announced itself.

Requests read the source in their loads only. Which waiter leads the next load, and how many loads there are, is in
``crowd``; here any waiter may. Leases are left out: in one process a load has no other to compete with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .actors import DONE, Actor, Move, Scenario, interleave
from .explorer import Step
from .rules import Rules

__all__ = ["SCENARIOS"]


class Kept(NamedTuple):
    """The entry in the store."""

    as_of: int
    value: int


class Load(NamedTuple):
    """A load, running or ended; others may wait for it."""

    leader: int
    began: int
    """The place of its request in the order in which requests of this process began, or last invalidated."""
    as_of: int
    value: int | None = None
    """What it returned; ``None`` while it runs."""


class World(NamedTuple):
    """What everybody shares."""

    source: int = 0
    returned: int = 0
    clock: int = 1
    stamp: int = 0
    heard: int = 1
    order: int = 0
    """How often requests of the process have begun, or invalidated something."""
    kept: Kept | None = Kept(1, 0)
    loads: tuple[Load, ...] = ()
    """By leader."""

    @property
    def valid(self) -> Kept | None:
        """The entry, if it is valid."""
        return self.kept if self.kept and self.kept.as_of >= self.stamp else None

    def load_of(self, leader: int) -> Load:
        """The last load that somebody led."""
        return next(load for load in self.loads if load.leader == leader)

    def with_load(self, load: Load) -> World:
        """The world with a new load, or a changed one."""
        others = [other for other in self.loads if other.leader != load.leader]
        return self._replace(loads=tuple(sorted([*others, load])))

    def invalidated(self, version: int) -> World:
        """The world after an invalidation that announces a version has returned."""
        return self._replace(clock=self.clock + 1, stamp=self.clock + 1, returned=max(self.returned, version))


class Request(NamedTuple):
    """A request: what it must see, its place in the order, its ``as_of``, and what it does next."""

    announced: int
    began: int
    as_of: int
    at: str = "looks"
    seen: int = 0
    """The stamp that its own look has shown."""
    value: int = 0
    """What its load has read."""
    awaits: int = 0
    """The leader of the load that it waits for."""


def _begins(world: World, at: str) -> Move[World]:
    world = world._replace(order=world.order + 1)
    text = f"begins and has heard {world.heard}; {world.returned} is announced"
    return Move(text, world, Request(world.returned, world.order, world.heard, at))


def _gets(text: str, world: World, mine: Request, value: int) -> Move[World]:
    """The end of a request: what it answers with."""
    wrong = f"STALE: a request gets {value} and must see {mine.announced}" if value < mine.announced else ""
    return Move(text, world, DONE, wrong)


def _may_take(mine: Request, load: Load, rules: Rules) -> bool:
    """Rule R6: whether the result of an overtaken load is as new as the request requires."""
    if not rules.overtaken_results_need_a_reason:
        return True
    if not rules.equal_readings_are_not_a_reason:
        return load.as_of >= mine.as_of
    return load.began >= mine.began or load.as_of >= mine.seen


def _looks(world: World, mine: Request, me: int) -> Iterator[Move[World]]:
    if world.valid:
        yield _gets(f"hits: {world.valid.value}", world, mine, world.valid.value)
        return
    mine = mine._replace(seen=world.stamp)
    running = [load for load in world.loads if load.value is None]
    for load in running:
        text = f"misses, and waits for the load of #{load.leader + 1}"
        yield Move(text, world, mine._replace(at="waits", awaits=load.leader))
    if not running:
        world = world.with_load(Load(me, mine.began, mine.as_of))
        yield Move(f"misses (stamp {world.stamp}) and loads", world, mine._replace(at="reads"))


def _fills(world: World, mine: Request, me: int) -> Iterator[Move[World]]:
    world = world.with_load(world.load_of(me)._replace(value=mine.value))
    if mine.as_of >= world.stamp:
        world = world._replace(kept=Kept(mine.as_of, mine.value))
        yield _gets(f"fills with {mine.value} as of {mine.as_of}", world, mine, mine.value)
    else:
        yield _gets(f"is refused its fill (overtaken) and returns {mine.value}", world, mine, mine.value)


def _waits(world: World, mine: Request, rules: Rules) -> Iterator[Move[World]]:
    load = world.load_of(mine.awaits)
    if load.value is None:
        return
    if world.valid:
        yield _gets(f"takes the entry: {world.valid.value}", world, mine, world.valid.value)
    elif _may_take(mine, load, rules):
        yield _gets(f"takes the result of #{load.leader + 1}: {load.value}", world, mine, load.value)
    else:
        yield Move("does not take the result", world, mine._replace(at="looks"))


def request(world: World, mine: Request | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Looks up, waits for another's load or loads itself."""
    if mine is None:
        yield _begins(world, "looks")
    elif mine.at == "looks":
        yield from _looks(world, mine, me)
    elif mine.at == "reads":
        yield Move(f"reads version {world.source}", world, mine._replace(at="fills", value=world.source))
    elif mine.at == "fills":
        yield from _fills(world, mine, me)
    else:
        yield from _waits(world, mine, rules)


def changing_request(world: World, mine: Request | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Commits and invalidates, and only then looks up."""
    if mine is None:
        yield _begins(world, "commits")
    elif mine.at == "commits":
        world = world._replace(source=world.source + 1)
        yield Move(f"commits version {world.source}", world, mine._replace(at="invalidates", announced=world.source))
    elif mine.at == "invalidates":
        world = world.invalidated(mine.announced)
        if rules.own_invalidations_count:
            world = world._replace(order=world.order + 1)
            mine = mine._replace(began=world.order)
        yield Move(f"invalidates at {world.clock}", world, mine._replace(at="looks"))
    else:
        yield from request(world, mine, me, rules)


def writer(world: World, mine: int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Commits, then invalidates."""
    if mine is None:
        yield Move(f"commits version {world.source + 1}", world._replace(source=world.source + 1), world.source + 1)
    else:
        world = world.invalidated(mine)
        yield Move(f"invalidates at {world.clock}, which returns", world, DONE)


def _surroundings(world: World, rules: Rules) -> Iterator[Step[World]]:
    if world.heard != world.clock:
        yield Step(f"the process hears {world.clock}", world._replace(heard=world.clock))


def _scenario(*actors: Actor[World]) -> Scenario:
    return lambda rules: interleave(rules, World(), actors, surroundings=_surroundings, must_end=True)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "two requests, two writers": _scenario(request, request, writer, writer),
    "three requests, a writer": _scenario(request, request, request, writer),
    "a request that invalidates, another, a writer": _scenario(changing_request, request, writer),
    "a request that invalidates, two others": _scenario(changing_request, request, request),
}
