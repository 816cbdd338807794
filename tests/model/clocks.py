"""Where a request's ``as_of`` comes from when clocks misbehave: rules R2 and R3.1.

The store's TIME may step forward or back, the machine of the loading process may be suspended (its monotonic clock
stands still while time goes on), and the store may fail over to a server whose TIME differs. The request reads the
source when it begins; its load begins later. Rule R3.1 takes what the process had heard before the request began.
Left out, ``as_of`` is computed from local time, in one of the two ways that come to mind.

Everything that happens takes one unit of time; clocks step by more than all that happens takes. One stamp stands for
the set: rows and tags are in ``loads``. What the process hears comes when it comes, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .actors import DONE, Actor, Move, Scenario, interleave
from .explorer import Step
from .rules import Rules

__all__ = ["SCENARIOS"]

_STEP: Final = 20
"""How far a clock steps, and how long a machine is suspended."""


class Reading(NamedTuple):
    """A reading that the process has heard, and its own monotonic clock when it did."""

    epoch: int
    clock: int
    local: int


class Kept(NamedTuple):
    """The one entry."""

    epoch: int
    as_of: int
    value: int


class World(NamedTuple):
    """What everybody shares; the last five are how often that may still happen."""

    time: int = 100
    """TIME of the store's machine."""
    local: int = 100
    """The monotonic clock of the process."""
    clock: int = 100
    """The store's last reading."""
    epoch: int = 1
    floor: int = 0
    stamp: int = 0
    heard: Reading = Reading(1, 100, 100)
    source: int = 0
    returned: int = 0
    kept: Kept | None = None
    messages: int = 2
    forwards: int = 0
    backs: int = 0
    suspensions: int = 0
    failovers: int = 0

    def later(self) -> World:
        """The world one unit of time later."""
        return self._replace(time=self.time + 1, local=self.local + 1)

    def ticked(self) -> World:
        """The world after a script has read the clock (rule R2)."""
        return self._replace(clock=max(self.time, self.clock + 1))


class Loading(NamedTuple):
    """A request that has read the source; ``as_of`` is ``None`` until its load begins."""

    heard: Reading
    began: int
    """The monotonic clock when it began."""
    value: int
    epoch: int = 0
    as_of: int | None = None


def _as_of(world: World, mine: Loading, rules: Rules) -> int | None:
    """What a load that begins now takes for its ``as_of``; ``None``: nothing that can be stored."""
    if not rules.as_of_is_not_counted_back:
        return world.clock - (world.local - mine.began)
    heard = mine.heard if rules.as_of_is_heard_before_the_request else world.heard
    if rules.as_of_is_of_this_epoch and heard.epoch != world.epoch:
        return None
    if not rules.as_of_is_not_counted_on:
        return heard.clock + mine.began - heard.local
    return heard.clock


def request(world: World, mine: Loading | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Reads the source when it begins, begins its load, and fills."""
    world = world.later()
    if mine is None:
        text = f"begins, has heard {world.heard.clock}, and reads version {world.source}"
        yield Move(text, world, Loading(world.heard, world.local, world.source))
    elif mine.as_of is None:
        world = world.ticked()
        as_of = _as_of(world, mine, rules)
        text = f"begins its load at {world.clock}: as of {as_of}"
        yield Move(text, world, DONE if as_of is None else mine._replace(as_of=as_of, epoch=world.epoch))
    elif mine.epoch != world.epoch or mine.as_of < max(world.floor, world.stamp):
        yield Move("is refused its fill", world, DONE)
    else:
        kept = Kept(world.epoch, mine.as_of, mine.value)
        yield Move(f"fills with {kept.value} as of {kept.as_of}", world._replace(kept=kept), DONE)


def writer(world: World, mine: int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Writes the source, then invalidates."""
    world = world.later()
    if mine is None:
        yield Move(f"commits version {world.source + 1}", world._replace(source=world.source + 1), world.source + 1)
    else:
        world = world.ticked()
        world = world._replace(stamp=max(world.stamp, world.clock), returned=max(world.returned, mine))
        yield Move(f"invalidates at {world.clock}, which returns", world, DONE)


def _surroundings(world: World, rules: Rules) -> Iterator[Step[World]]:
    world = world.later()
    if world.messages:
        fewer = world._replace(messages=world.messages - 1)
        for text, after in (("a bus message", fewer), ("a heartbeat", fewer.ticked())):
            heard = Reading(after.epoch, after.clock, after.local)
            yield Step(f"{text}: the process hears {after.clock}", after._replace(heard=heard))
    if world.forwards:
        yield Step("TIME steps forward", world._replace(time=world.time + _STEP, forwards=world.forwards - 1))
    if world.backs:
        yield Step("TIME steps back", world._replace(time=world.time - _STEP, backs=world.backs - 1))
    if world.suspensions:
        after = world._replace(time=world.time + _STEP, suspensions=world.suspensions - 1)
        yield Step("the process was suspended for a while", after)
    if world.failovers:
        for text, step in (("ahead", _STEP), ("behind", -_STEP)):
            time = world.time + step
            after = world._replace(time=time, clock=time, floor=time, stamp=0, epoch=world.epoch + 1)
            yield Step(f"the store fails over; TIME there is {text}", after._replace(failovers=world.failovers - 1))


def _wrong(world: World, rules: Rules) -> str:
    kept = world.kept
    if (
        kept
        and kept.epoch == world.epoch
        and kept.as_of >= max(world.floor, world.stamp)
        and kept.value < world.returned
    ):
        return f"STALE: a reader who begins now gets {kept.value}; {world.returned} was announced"
    return ""


def _scenario(world: World, *actors: Actor[World]) -> Scenario:
    return lambda rules: interleave(rules, world, actors, surroundings=_surroundings, wrong=_wrong)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "steady clocks": _scenario(World(), request, writer),
    "TIME steps forward": _scenario(World(forwards=1), request, writer),
    "TIME steps back": _scenario(World(backs=1), request, writer),
    "the process is suspended": _scenario(World(suspensions=1), request, writer),
    "a failover to another clock": _scenario(World(failovers=1), request, writer),
    "TIME steps forward and back": _scenario(World(messages=1, forwards=1, backs=1), request, writer),
    "a suspended process and a failover": _scenario(World(messages=1, suspensions=1, failovers=1), request, writer),
}
