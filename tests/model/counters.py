"""``incr`` and ``add`` against each other, a load and an invalidation: rule R4.2.

Both are atomic scripts; what can go wrong is the ``as_of`` they give to what they write, and a load under way that
replaces it. Between two invalidations no increment may be lost, and one ``add`` may succeed.
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
    number: int


class World(NamedTuple):
    """What everybody shares; the last is how often something was counted since the last invalidation."""

    kept: Kept | None = None
    lease: int | None = None
    clock: int = 1
    stamp: int = 0
    heard: int = 1
    counted: int = 0

    @property
    def valid(self) -> Kept | None:
        """The entry, if it is valid."""
        return self.kept if self.kept and self.kept.as_of >= self.stamp else None

    def written(self, number: int, heard: int, rules: Rules) -> World:
        """The world after ``incr`` or ``add`` has written."""
        kept = self.valid
        as_of = kept.as_of if kept else (self.clock if rules.counters_take_the_clock else heard)
        lease = None if rules.counters_void_the_lease else self.lease
        return self._replace(kept=Kept(as_of, number), lease=lease, counted=self.counted + 1)


def increment(world: World, mine: int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """A request that calls ``incr``."""
    if mine is None:
        yield Move(f"begins, has heard {world.heard}", world, world.heard)
        return
    number = world.valid.number + 1 if world.valid else 1
    after = world.written(number, mine, rules)
    wrong = "" if number == after.counted else f"LOST: {after.counted} increments since the last invalidation"
    yield Move(f"increments to {number}", after, DONE, wrong)


def addition(world: World, mine: int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """A request that calls ``add``."""
    if mine is None:
        yield Move(f"begins, has heard {world.heard}", world, world.heard)
    elif world.valid:
        yield Move("adds nothing: something is there", world, DONE)
    else:
        after = world.written(1, mine, rules)
        wrong = "" if after.counted == 1 else "LOST: two additions succeeded since the last invalidation"
        yield Move("adds", after, DONE, wrong)


def load(world: World, mine: int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """A load of the same key."""
    if mine is None:
        if world.valid is None and world.lease is None:
            yield Move(f"has heard {world.heard} and takes the lease", world._replace(lease=me), world.heard)
    elif world.lease != me or mine < world.stamp:
        yield Move("is refused its fill", world, DONE)
    else:
        wrong = "LOST: a load has replaced what was counted meanwhile" if world.valid and world.counted else ""
        yield Move(f"fills as of {mine}", world._replace(kept=Kept(mine, 0), lease=None), DONE, wrong)


def invalidator(world: World, mine: None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Invalidates the type: counting begins again."""
    world = world._replace(clock=world.clock + 1, stamp=world.clock + 1, counted=0)
    yield Move(f"invalidates at {world.clock}", world, DONE)


def _surroundings(world: World, rules: Rules) -> Iterator[Step[World]]:
    if world.heard != world.clock:
        yield Step(f"the processes hear {world.clock}", world._replace(heard=world.clock))


def _scenario(*actors: Actor[World]) -> Scenario:
    return lambda rules: interleave(rules, World(), actors, surroundings=_surroundings)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "increments, a load, two invalidations": _scenario(increment, increment, load, invalidator, invalidator),
    "additions, a load, two invalidations": _scenario(addition, addition, load, invalidator, invalidator),
}
