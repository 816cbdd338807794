"""Commits of a database against loads: stamps ahead of the clock (rules R1.3 and R3.1; section 5 of the design).

The source is a database. A commit sets the tag ahead of the clock under its own token, takes effect, and is settled; a
process may die at any point, a transaction may be rolled back although its commit was announced, and the answer to a
COMMIT may be lost. While the process lives, its stamp is renewed before it passes. Nobody may be served anything older
than what had taken effect when they began, once the commit has returned, or its stamp ahead has passed; and after a
rollback everything is as valid as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from .actors import DONE, Actor, Move, Scenario, interleave
from .explorer import Step
from .loads import ITEM, World, clearer, request, surroundings, writer
from .rules import Rules
from .stampset import Copy, Moment, StampSet, end_commit, holds, set_ahead

__all__ = ["SCENARIOS"]

_BY: Final = 2
"""How far ahead of the clock a commit sets its stamp."""


_DEAD: Final = -1
"""Whose stamp it is when its process has died."""


class Commit(NamedTuple):
    """A commit under way: until when its stamp lies ahead, and the version that it has made, once it took effect."""

    ahead: Moment
    version: int = 0
    may_renew: bool = True
    """Once is as good as often, and leaves fewer states."""


def _touched(world: World) -> World:
    """The same; where a stamp ahead passes although its process lives, entries may stay invalid."""
    is_late = any(stamp <= world.stamps.clock + 1 for _, _, stamp in world.stamps.ahead)
    return world.touched() if is_late else world


def _set_ahead(world: World, me: int, rules: Rules) -> tuple[World, Moment]:
    stamps = world.stamps.ticked(rules)
    if rules.commits_are_stamped_ahead:
        stamps = set_ahead(world.stamps, ITEM, me, rules, by=_BY)
    return _touched(world)._replace(stamps=stamps), Moment(stamps.epoch, stamps.clock + _BY)


def _committing(
    *, may_die: bool = False, may_roll_back: bool = False, may_lose_the_answer: bool = False
) -> Callable[[World, Commit | None, int, Rules], Iterator[Move[World]]]:
    """A transaction that commits, and what may become of it."""

    def commit(world: World, mine: Commit | None, me: int, rules: Rules) -> Iterator[Move[World]]:
        if mine is None:
            after, ahead = _set_ahead(world, me, rules)
            yield Move(f"sets {ITEM} ahead to {ahead.clock}", after, Commit(ahead))
            return
        is_held = world.stamps.epoch == mine.ahead.epoch and world.stamps.clock < mine.ahead.clock
        is_due = mine.may_renew and world.stamps.clock >= mine.ahead.clock - 1 and not mine.version
        if rules.commits_are_renewed and is_due and not world.stamps.is_lost:
            after, ahead = _set_ahead(world, me, rules)
            yield Move(f"renews its stamp, to {ahead.clock}", after, mine._replace(ahead=ahead, may_renew=False))
        if not mine.version:
            # A commit that takes effect after its stamp has passed is beyond what is promised, if its process is dead.
            if is_held or not rules.commits_are_renewed:
                version = world.source + 1
                yield Move(f"takes effect: {version}", world._replace(source=version), mine._replace(version=version))
            if may_roll_back:
                stamps = end_commit(world.stamps, ITEM, me, rules, withdrawn=True)
                yield Move("is rolled back, and withdraws its stamp", _touched(world)._replace(stamps=stamps), DONE)
            return
        if may_die:
            due = tuple(sorted((*world.committed_ahead, (mine.ahead.clock, mine.version))))
            left = tuple((tag, _DEAD if owner == me else owner, stamp) for tag, owner, stamp in world.stamps.ahead)
            dead = world.touched()._replace(committed_ahead=due, stamps=world.stamps._replace(ahead=left))
            yield Move("dies", dead, DONE)
        if may_lose_the_answer and not rules.unknown_outcomes_count_as_commits:
            stamps = end_commit(world.stamps, ITEM, me, rules, withdrawn=True)
            world = world._replace(stamps=stamps, returned=max(world.returned, mine.version))
            yield Move("loses the answer, and withdraws its stamp", world, DONE)
            return
        stamps = end_commit(world.stamps, ITEM, me, rules)
        settled = world.touched()._replace(stamps=stamps, returned=max(world.returned, mine.version))
        yield Move(f"is settled at {stamps.clock}, and returns", settled, DONE)

    return commit


commit: Final = _committing()
commit_or_die: Final = _committing(may_die=True)
commit_or_roll_back: Final = _committing(may_roll_back=True)
commit_without_an_answer: Final = _committing(may_lose_the_answer=True)
for name, actor in (
    ("commit", commit),
    ("commit or die", commit_or_die),
    ("commit or roll back", commit_or_roll_back),
    ("commit without an answer", commit_without_an_answer),
):
    actor.__name__ = name


def _around(world: World, rules: Rules) -> Iterator[Step[World]]:
    """Time does not pass a stamp that its living process renews in time."""
    for text, after, wrong in surroundings(world, rules):
        held = [stamp for _, owner, stamp in world.stamps.ahead if owner is not _DEAD and rules.commits_are_renewed]
        if after.ticks == world.ticks or world.stamps.clock + 1 < min(held, default=after.stamps.clock + 1):
            yield Step(text, after, wrong)


def _wrong(world: World, rules: Rules) -> str:
    copy = world.inner
    if copy is None:
        return ""
    if holds(copy, world.stamps, rules):
        announced = world.announced()
        if copy.value < announced:
            return f"STALE: a reader who begins now gets {copy.value}; {announced} was announced"
    elif not copy.was_touched and all(owner is _DEAD for _, owner, _ in world.stamps.ahead):
        return "NEEDLESS: inner is invalid, and nothing was committed that concerns it"
    return ""


# --- Scenarios

_FILLED: Final = World(
    StampSet(rows=((ITEM, 1),)), Moment(1, 1), inner=Copy(epoch=1, as_of=1, tags=((ITEM, 1),), value=0)
)


def _scenario(world: World, *actors: Actor[World]) -> Scenario:
    return lambda rules: interleave(rules, world, actors, surroundings=_around, wrong=_wrong)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "a commit, two requests": _scenario(_FILLED._replace(ticks=2), commit, request, request),
    "a commit whose process dies, two requests": _scenario(_FILLED._replace(ticks=2), commit_or_die, request, request),
    "two commits, one dies, a request": _scenario(_FILLED._replace(ticks=1), commit, commit_or_die, request),
    "two commits, one is rolled back, a request": _scenario(_FILLED, commit, commit_or_roll_back, request),
    "a rollback, an invalidation, a request": _scenario(
        _FILLED._replace(ticks=2), commit_or_roll_back, writer, request
    ),
    "a rollback, clear_all, a request": _scenario(_FILLED._replace(ticks=2), commit_or_roll_back, clearer, request),
    "a rollback, a request, a row dropped": _scenario(_FILLED._replace(ticks=1, drops=1), commit_or_roll_back, request),
    "a commit without an answer, a request": _scenario(_FILLED._replace(ticks=2), commit_without_an_answer, request),
}
