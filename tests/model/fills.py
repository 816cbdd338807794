"""Fills, sets, deletes and write-throughs of one key: rules R3.2 and R4.2.

A request reads the source before its load (the worst case of rule R3), takes the key's lease on a miss, and fills.
Others invalidate the type, delete the key, invalidate a pattern, ``set`` what they have read or have just committed,
or write through. After an invalidation, a delete or a write-through has returned, nothing older may be served. A
``set`` announces nothing to others, but a load that was under way must not replace what it wrote.

``stamp`` is that of the type, ``key_stamp`` that of the key itself; dropped rows, epochs and other tags are in
``loads``, who waits for whom in ``crowd`` and ``waiting``. Only scripts that stamp move the clock. A lease may expire
while its load goes on (a process that stood still), and an entry may be evicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .actors import DONE, Actor, Move, Scenario, interleave
from .explorer import Step
from .rules import Rules

__all__ = ["SCENARIOS"]


class Kept(NamedTuple):
    """The entry under the key."""

    as_of: int
    value: int
    was_set: bool = False
    """By a ``set`` of what had been committed just before."""


class World(NamedTuple):
    """What everybody shares; ``expiries`` and ``evictions`` are how often that may still happen."""

    kept: Kept | None = None
    lease: int | None = None
    """Who holds the key's lease."""
    clock: int = 1
    stamp: int = 0
    key_stamp: int = 0
    barrier: int = 0
    heard: int = 1
    source: int = 0
    returned: int = 0
    expiries: int = 0
    evictions: int = 0

    @property
    def is_valid(self) -> bool:
        """Whether there is an entry that a hit may serve: hits need not compare the key's stamp."""
        return self.kept is not None and self.kept.as_of >= self.stamp

    def committed(self) -> World:
        """The world after a write of the source."""
        return self._replace(source=self.source + 1)

    def announced(self, version: int) -> World:
        """The world after the call that announces a version has returned."""
        return self._replace(returned=max(self.returned, version))

    def key_stamped(self) -> World:
        """The world after the key itself was stamped."""
        return self._replace(clock=self.clock + 1, key_stamp=self.clock + 1)


class Loading(NamedTuple):
    """Somebody who has heard a reading and read, or written, a version."""

    as_of: int
    value: int
    at: str = ""


# --- Loads


def request(world: World, mine: Loading | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Reads the source when it begins; on a miss takes the lease if it is free, and fills."""
    if mine is None:
        loading = Loading(world.heard, world.source, "looks")
        yield Move(f"begins, has heard {world.heard}, and reads version {world.source}", world, loading)
    elif mine.at == "looks":
        if world.is_valid:
            yield Move("hits", world, DONE)
        elif world.lease is None:
            yield Move("misses and takes the lease", world._replace(lease=me), mine._replace(at="fills"))
    else:
        yield from _fills(world, mine, me, rules)


def _fills(world: World, mine: Loading, me: int, rules: Rules) -> Iterator[Move[World]]:
    is_refused = (
        (world.lease != me and rules.fill_needs_the_token)
        or mine.as_of < world.stamp
        or (mine.as_of < world.key_stamp and rules.fill_compares_the_key_s_stamp)
        or (mine.as_of <= world.barrier and rules.fill_compares_the_barrier)
    )
    lease = None if world.lease == me else world.lease
    if is_refused:
        yield Move("is refused its fill", world._replace(lease=lease), DONE)
        return
    kept = Kept(mine.as_of, mine.value)
    text = f"fills with {mine.value} as of {mine.as_of}"
    yield Move(text, world._replace(kept=kept, lease=lease), DONE, _replaces(world, mine.value))


def _replaces(world: World, value: int) -> str:
    """What is wrong with storing a value now that was made under a lease."""
    before = world.kept
    if before and world.is_valid and before.was_set and before.value > value:
        return f"REPLACED: {value} replaces {before.value}, which was set meanwhile"
    return ""


# --- Invalidations


def type_invalidator(world: World, mine: int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Commits, and invalidates the type."""
    if mine is None:
        yield Move(f"commits version {world.source + 1}", world.committed(), world.source + 1)
    else:
        world = world._replace(clock=world.clock + 1, stamp=world.clock + 1).announced(mine)
        yield Move(f"invalidates the type at {world.clock}, which returns", world, DONE)


def deleter(world: World, mine: int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Commits, and deletes the key: the entry goes, the lease is void, the key is stamped."""
    if mine is None:
        yield Move(f"commits version {world.source + 1}", world.committed(), world.source + 1)
    else:
        world = world._replace(kept=None, lease=None).announced(mine)
        if rules.delete_stamps_the_key:
            world = world.key_stamped()
        yield Move("deletes the key, which returns", world, DONE)


def pattern_invalidator(world: World, mine: Loading | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Commits, raises the barrier, and walks the keys."""
    if mine is None:
        version = world.source + 1
        yield Move(f"commits version {version}", world.committed(), Loading(0, version, "first"))
        return
    is_first = mine.at == "first"
    if is_first == rules.barrier_is_raised_before_the_walk:
        text, world = f"raises the barrier to {world.clock}", world._replace(barrier=world.clock, clock=world.clock + 1)
    else:
        text, world = "walks the keys and removes the entry", world._replace(kept=None)
    if is_first:
        yield Move(text, world, mine._replace(at="second"))
    else:
        yield Move(f"{text}, and returns", world.announced(mine.value), DONE)


# --- Writes


def _sets(world: World, mine: Loading, rules: Rules, *, was_set: bool = False) -> Iterator[Move[World]]:
    if rules.set_voids_the_lease:
        world = world._replace(lease=None)
    if mine.as_of < world.stamp or (mine.as_of < world.key_stamp and rules.set_compares_the_key_s_stamp):
        yield Move("is refused its set", world, DONE)
    else:
        kept = Kept(mine.as_of, mine.value, was_set)
        yield Move(f"sets {mine.value} as of {mine.as_of}", world._replace(kept=kept), DONE)


def setter(world: World, mine: Loading | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """A request that reads the source and sets what it has read."""
    if mine is None:
        loading = Loading(world.heard, world.source)
        yield Move(f"begins, has heard {world.heard}, and reads version {world.source}", world, loading)
    else:
        yield from _sets(world, mine, rules)


def job(world: World, mine: Loading | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """The same outside requests, in a context of its own."""
    if mine is None:
        loading = Loading(world.heard, world.source)
        yield Move(f"begins a context, has heard {world.heard}, and reads version {world.source}", world, loading)
    else:
        if not rules.set_takes_the_reading_of_its_context:
            mine = mine._replace(as_of=world.heard)
        yield from _sets(world, mine, rules)


def updater(world: World, mine: Loading | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """A request that commits, and sets what it has committed."""
    if mine is None:
        loading = Loading(world.heard, world.source + 1)
        text = f"begins, has heard {world.heard}, and commits version {world.source + 1}"
        yield Move(text, world.committed(), loading)
    else:
        yield from _sets(world, mine, rules, was_set=True)


def write_through(world: World, mine: Loading | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Takes the key over, saves to the source, and sets the value if the lease is still its own; else deletes."""
    if mine is None:
        loading = Loading(world.heard, 0, "saves")
        yield Move(f"takes the key over, has heard {world.heard}", world._replace(lease=me), loading)
    elif mine.at == "saves":
        saved = mine._replace(value=world.source + 1, at="sets")
        yield Move(f"saves version {world.source + 1}", world.committed(), saved)
    else:
        is_refused = (
            (world.lease != me and rules.write_through_needs_the_token)
            or mine.as_of < world.stamp
            or (mine.as_of < world.key_stamp and rules.set_compares_the_key_s_stamp)
        )
        wrong = "" if is_refused else _replaces(world, mine.value)
        kept = None if is_refused else Kept(mine.as_of, mine.value)
        world = world._replace(kept=kept, lease=None).announced(mine.value)
        if rules.write_through_stamps_the_key:
            world = world.key_stamped()
        yield Move(f"{'deletes the key' if is_refused else f'sets {mine.value}'}, and returns", world, DONE, wrong)


# --- What happens anyway


def _surroundings(world: World, rules: Rules) -> Iterator[Step[World]]:
    if world.heard != world.clock:
        yield Step(f"the processes hear {world.clock}", world._replace(heard=world.clock))
    if world.expiries and world.lease is not None:
        yield Step("the lease expires", world._replace(lease=None, expiries=world.expiries - 1))
    if world.evictions and world.kept:
        yield Step("the entry is evicted", world._replace(kept=None, evictions=world.evictions - 1))


def _wrong(world: World, rules: Rules) -> str:
    if world.kept and world.is_valid and world.kept.value < world.returned:
        return f"STALE: a reader who begins now gets {world.kept.value}; {world.returned} was announced"
    return ""


_FILLED: Final = World(kept=Kept(1, 0), evictions=1)


def _scenario(world: World, *actors: Actor[World]) -> Scenario:
    return lambda rules: interleave(rules, world, actors, surroundings=_surroundings, wrong=_wrong)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "two loads, a delete, an invalidation": _scenario(
        World(kept=Kept(1, 0), evictions=1, expiries=1), request, request, deleter, type_invalidator
    ),
    "a load, two deletes": _scenario(_FILLED, request, deleter, deleter),
    "two loads, a set of what was committed": _scenario(World(expiries=1), request, request, updater),
    "two sets of what was read, a delete, an invalidation": _scenario(
        _FILLED, setter, setter, deleter, type_invalidator
    ),
    "a load, two write-throughs": _scenario(_FILLED, request, write_through, write_through),
    "a write-through, a set of what was committed": _scenario(_FILLED, write_through, updater),
    "a load, a set, a write-through, a delete": _scenario(_FILLED, request, setter, write_through, deleter),
    "a load, a write-through, an invalidation": _scenario(_FILLED, request, write_through, type_invalidator),
    "two loads, an invalidation by pattern": _scenario(World(expiries=1), request, request, pattern_invalidator),
    "two sets in jobs, two invalidations": _scenario(_FILLED, job, job, type_invalidator, type_invalidator),
}
