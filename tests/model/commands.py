"""A write that is delivered after it was reported as failed: rule R4.4.

A process sends ``set(key, old)``; the network keeps it. After the timeout the call is reported as failed, and
``set(key, new)`` succeeds over another connection. When the first one arrives, the server has to know that nobody
wants it any more. Time passes in units; the store may fail over to a server whose TIME is behind, which ends the
generation of connections.

The clock of one server never falls back far while a write is under way: a TIME that is set back by more than the
timeout within these milliseconds lets the late write pass, whatever the deadline. That limit has a scenario of its
own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .actors import DONE, Actor, Move, Scenario, interleave
from .explorer import Step
from .rules import Rules

__all__ = ["BEYOND_THE_RULES", "SCENARIOS"]

_TIMEOUT: Final = 2
_BEHIND: Final = 20


class Command(NamedTuple):
    """A write in the network."""

    deadline: int
    """In store time."""
    generation: int
    sent: int
    """The sender's monotonic clock."""


class World(NamedTuple):
    """What everybody shares; the last three are how often that may still happen."""

    time: int = 100
    """TIME of the store's machine."""
    local: int = 100
    """The monotonic clock of the process."""
    clock: int = 100
    """The store's last reading."""
    generation: int = 1
    heard: int = 100
    heard_at: int = 100
    """The process's monotonic clock when it heard the reading."""
    heard_in: int = 1
    """The generation of connections it heard it over."""
    command: Command | None = None
    is_failed: bool = False
    """Whether the write in the network was reported as failed."""
    passes: int = 5
    failovers: int = 0
    backs: int = 0


def process(world: World, mine: str | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Sends a write that gets lost for a while, gives it up, and writes again."""
    if mine is None:
        if rules.readings_belong_to_a_generation and world.heard_in != world.generation:
            return
        since = world.local - world.heard_at if rules.deadlines_count_the_time_since_the_reading else 0
        command = Command(world.heard + since + _TIMEOUT, world.generation, world.local)
        yield Move(f"sends a write that is wanted until {command.deadline}", world._replace(command=command), "waits")
    elif world.command is None:
        yield Move("gets its answer", world, DONE)
    elif world.local > world.command.sent + _TIMEOUT:
        yield Move("gives up: the write has failed", world._replace(is_failed=True), DONE)


def _arrives(world: World, command: Command, rules: Rules) -> Step[World]:
    """What the server does with the write when it arrives."""
    after = world._replace(command=None, clock=max(world.time, world.clock + 1))
    if rules.readings_belong_to_a_generation and command.generation != world.generation:
        return Step("the write was sent to the old server, and is gone with it", after)
    if rules.writes_have_a_deadline and after.clock > command.deadline:
        in_time = not world.is_failed and world.local <= command.sent + 1 and command.generation == world.generation
        wrong = "REFUSED: a write that arrived in time" if in_time else ""
        return Step(f"the write arrives at {after.clock} and is refused", after, wrong)
    wrong = "LATE: what was reported as failed happens later" if world.is_failed else ""
    return Step(f"the write arrives at {after.clock} and is done", after, wrong)


def _surroundings(world: World, rules: Rules) -> Iterator[Step[World]]:
    heard = world._replace(heard=world.clock, heard_at=world.local, heard_in=world.generation)
    if heard != world:
        yield Step(f"the process hears {world.clock}", heard)
    if world.command:
        yield _arrives(world, world.command, rules)
    if world.passes:
        passed = world._replace(time=world.time + 1, local=world.local + 1, passes=world.passes - 1)
        yield Step("time passes, with a heartbeat", passed._replace(clock=max(passed.time, passed.clock)))
    if world.failovers:
        time = world.time - _BEHIND
        after = world._replace(time=time, clock=time, generation=world.generation + 1, failovers=world.failovers - 1)
        yield Step(f"the store fails over to a server whose TIME is {time}", after)
    if world.backs:
        yield Step("TIME is set back", world._replace(time=world.time - _BEHIND, backs=world.backs - 1))


def _scenario(world: World, *actors: Actor[World]) -> Scenario:
    return lambda rules: interleave(rules, world, actors, surroundings=_surroundings)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "a late write": _scenario(World(), process),
    "a late write, a failover": _scenario(World(failovers=1), process),
}

#: What the rules do not promise, with a counterexample.
BEYOND_THE_RULES: Final[Mapping[str, Scenario]] = {
    "a late write, TIME set back": _scenario(World(backs=1), process),
}
