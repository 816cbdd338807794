"""Loads that nest over two shards of a cluster, whose clocks cannot be compared: rules R3.1 and R3.4, "Topologies".

The *inner* entry lies on shard A and reads the source; the *outer* one lies on shard B and reads the inner one when it
is valid on A, else the source. A writer raises the version and stamps both shards, one after the other in either
order; then its invalidation has returned. Each entry is checked on its own shard only. An entry carries one reading of
each shard, and who builds on it takes the least of the parts, shard by shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from flask_rcache.model.moment import least

from .actors import DONE, Actor, Move, Scenario, interleave
from .explorer import Step
from .rules import Rules

__all__ = ["SCENARIOS"]

_A: Final = 0
_B: Final = 1
_NAMES: Final = "AB"


class Kept(NamedTuple):
    """An entry: the readings of its one tag, and the version of the source that it shows."""

    as_of: tuple[int, int]
    epochs: tuple[int, int]
    version: int


class World(NamedTuple):
    """What everybody shares; ``heard`` are the readings that the loading processes have heard of both shards."""

    clocks: tuple[int, int] = (1, 1)
    stamps: tuple[int, int] = (0, 0)
    epochs: tuple[int, int] = (1, 1)
    heard: tuple[int, int] = (1, 1)
    heard_epochs: tuple[int, int] = (1, 1)
    source: int = 0
    returned: int = 0
    inner: Kept | None = None
    outer: Kept | None = None
    failovers: int = 0

    def valid(self, kept: Kept | None, shard: int) -> Kept | None:
        """An entry, when it is valid on its shard."""
        if kept is None or kept.epochs[shard] != self.epochs[shard] or kept.as_of[shard] < self.stamps[shard]:
            return None
        return kept

    def stamped(self, shard: int) -> World:
        """The world after an invalidation has arrived at a shard."""
        now = self.clocks[shard] + 1
        clocks = _with(self.clocks, shard, now)
        return self._replace(clocks=clocks, stamps=_with(self.stamps, shard, now))


def _with(pair: tuple[int, int], shard: int, value: int) -> tuple[int, int]:
    return (value, pair[1]) if shard == _A else (pair[0], value)


class _Load(NamedTuple):
    as_of: tuple[int, int]
    epochs: tuple[int, int]
    version: int = -1


def inner_load(world: World, mine: _Load | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """A load of the inner entry."""
    if mine is None:
        yield Move(f"begins, has heard {world.heard}", world, _Load(world.heard, world.heard_epochs))
    elif mine.version < 0:
        yield Move(f"reads version {world.source}", world, mine._replace(version=world.source))
    else:
        kept = world.valid(Kept(*mine), _A)
        yield Move(f"{'fills' if kept else 'is refused'} on A", world._replace(inner=kept or world.inner), DONE)


def outer_load(world: World, mine: _Load | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """A load of the outer entry."""
    if mine is None:
        yield Move(f"begins, has heard {world.heard}", world, _Load(world.heard, world.heard_epochs))
    elif mine.version < 0:
        inner = world.valid(world.inner, _A)
        if inner is None:
            yield Move(f"reads version {world.source}", world, mine._replace(version=world.source))
            return
        as_of = mine.as_of
        if rules.parts_of_other_shards_count:
            first, second = least(as_of, inner.as_of)
            as_of = (first, second)
        if rules.parts_of_other_epochs_are_unknown:
            parts = zip(as_of, inner.epochs, mine.epochs, strict=True)
            first, second = [reading * (one == other) for reading, one, other in parts]
            as_of = (first, second)
        yield Move(f"reads the inner entry, {inner}", world, _Load(as_of, mine.epochs, inner.version))
    else:
        kept = world.valid(Kept(*mine), _B)
        yield Move(f"{'fills' if kept else 'is refused'} on B", world._replace(outer=kept or world.outer), DONE)


def writer(world: World, mine: tuple[int, frozenset[int]] | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Commits, stamps both shards in either order, and has the call return."""
    if mine is None:
        version = world.source + 1
        yield Move(f"commits version {version}", world._replace(source=version), (version, frozenset()))
        return
    version, done = mine
    for shard in {_A, _B} - done:
        yield Move(f"stamps {_NAMES[shard]}", world.stamped(shard), (version, done | {shard}))
    if len(done) == 2 or (done and not rules.invalidations_reach_all_shards):
        yield Move("returns", world._replace(returned=max(world.returned, version)), DONE)


def _surroundings(world: World, rules: Rules) -> Iterator[Step[World]]:
    for shard in (_A, _B):
        epoch, clock = world.epochs[shard], world.clocks[shard]
        if (world.heard[shard], world.heard_epochs[shard]) != (clock, epoch):
            heard, epochs = _with(world.heard, shard, clock), _with(world.heard_epochs, shard, epoch)
            yield Step(f"{_NAMES[shard]} is heard", world._replace(heard=heard, heard_epochs=epochs))
        if world.failovers:  # to a server whose clock is behind: nothing of before is valid there
            after = world._replace(
                failovers=world.failovers - 1,
                epochs=_with(world.epochs, shard, epoch + 1),
                clocks=_with(world.clocks, shard, 1),
                stamps=_with(world.stamps, shard, 1),  # the floor of the new set
            )
            yield Step(f"{_NAMES[shard]} fails over", after)


def _wrong(world: World, rules: Rules) -> str:
    for name, kept in (("inner", world.valid(world.inner, _A)), ("outer", world.valid(world.outer, _B))):
        if kept is not None and kept.version < world.returned:
            return f"STALE: the {name} entry shows {kept.version}, and {world.returned} was invalidated"
    return ""


def _scenario(*actors: Actor[World], failovers: int = 0) -> Scenario:
    world = World(failovers=failovers)
    return lambda rules: interleave(rules, world, actors, surroundings=_surroundings, wrong=_wrong)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "an inner and an outer load, a writer": _scenario(inner_load, outer_load, writer),
    "an inner and an outer load, two writers": _scenario(inner_load, outer_load, writer, writer),
    "an inner and an outer load, a writer, a failover": _scenario(inner_load, outer_load, writer, failovers=1),
}
