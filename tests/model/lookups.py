"""A hit that asks its questions one after another: rules R1.2 and R1.6.

The questions of one hit are sent in one write, and other clients' scripts may run between them. One entry, ``kept``,
has two tags; a writer invalidates one of them, and a third tag, which the entry does not have, was invalidated just
before. A reader begins when it begins: what it gets must be no older than what was announced by then.

Three ways to ask: a few tags by name, all at once (the tags are known); the tags that are known and then, in a second
round trip, those that the entry turns out to have besides; and, for an entry of many tags, the stamps later than its
least ``as_of``, at most ``_LIMIT`` of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from flask_rcache.model.entry import Draft

from .actors import DONE, Actor, Move, Scenario, interleave
from .explorer import Step
from .rules import Rules
from .stampset import Copy, Moment, Refusal, StampSet, drop, fill, holds, invalidate

__all__ = ["SCENARIOS"]

FIRST: Final = "first"
SECOND: Final = "second"
UNRELATED: Final = "unrelated"

_LIMIT: Final = 1
"""How many stamps an answer lists: 64 in the store; here one is enough for an answer that is cut off."""


class World(NamedTuple):
    """What everybody shares; ``drops`` and ``losses`` are how often that may still happen."""

    stamps: StampSet
    kept: Copy
    source: int = 0
    returned: int = 0
    drops: int = 0
    losses: int = 0


class Loading(NamedTuple):
    """A request that loads: its ``as_of``, and what it has read."""

    moment: Moment
    value: int


class Asking(NamedTuple):
    """A reader between its questions."""

    announced: int
    """What was announced when it got the entry: had it begun only then, it would have to see at least that."""
    kept: Copy
    first: StampSet | None = None
    """The set as it was when the first question was answered; a reader looks only at what it asked for."""


def _got(world: World) -> Move[World]:
    tags = ", ".join(f"{tag} as of {as_of}" for tag, as_of in world.kept.tags)
    text = f"begins ({world.returned} is announced) and gets the entry {world.kept.value} ({tags})"
    return Move(text, world, Asking(world.returned, world.kept))


def _verdict(world: World, mine: Asking, is_hit: bool, asked: str) -> Move[World]:
    if not is_hit:
        return Move(f"{asked}: a miss", world, DONE)
    is_old = mine.kept.value < mine.announced
    wrong = f"STALE: a reader gets {mine.kept.value}; {mine.announced} was announced before it began"
    return Move(f"{asked}: a hit", world, DONE, wrong if is_old else "")


def reader_by_name(world: World, mine: Asking | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Knows the tags: one ZMSCORE for everything."""
    if mine is None:
        yield _got(world)
    else:
        yield _verdict(world, mine, holds(mine.kept, world.stamps, rules), "asks for everything")


def reader_of_two_trips(world: World, mine: Asking | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Knows the first tag only; the entry turns out to have another."""
    if mine is None:
        yield _got(world)
        return
    known, unknown = (tag for tag, _ in mine.kept.tags)
    if mine.first is None:
        if holds(mine.kept._replace(tags=mine.kept.tags[:1]), world.stamps, rules):
            asked = f"asks for {known}, epoch, floor and =forgotten: no objection"
            yield Move(asked, world, mine._replace(first=world.stamps))
        else:
            yield _verdict(world, mine, False, f"asks for {known}, epoch, floor and =forgotten")
    elif rules.second_trip_asks_everything:
        yield _verdict(world, mine, holds(mine.kept, world.stamps, rules), "asks for everything")
    else:
        row, rows = world.stamps.row(unknown), dict(mine.first.rows)
        rows.pop(unknown, None)
        answers = mine.first.with_rows(rows if row is None else {**rows, unknown: row})
        yield _verdict(world, mine, holds(mine.kept, answers, rules), f"asks for {unknown} alone")


def reader_of_many_tags(world: World, mine: Asking | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Asks for the stamps later than the least ``as_of``, and for epoch, floor and ``=forgotten``."""
    if mine is None:
        yield _got(world)
        return
    questions = ["stamps", "the rest"] if rules.stamps_are_asked_before_forgotten else ["the rest", "stamps"]
    if mine.first is None:
        yield Move(f"asks for {questions[0]}", world, mine._replace(first=world.stamps))
        return
    answers = dict(zip(questions, (mine.first, world.stamps), strict=True))
    kept, rest = mine.kept, answers["the rest"]
    least = min(as_of for _, as_of in kept.tags)
    later = sorted((stamp, tag) for tag, stamp in answers["stamps"].rows if stamp > least)[:_LIMIT]
    is_cut_off = len(later) == _LIMIT and rules.cut_off_answers_are_checked_whole
    is_before = least < rest.forgotten and rules.entries_before_forgotten_are_checked_whole
    if is_cut_off or is_before:
        asked = f"asks for {questions[1]}, then a script checks all"
        yield _verdict(world, mine, holds(kept, world.stamps, rules), asked)
        return
    stamps = {tag: stamp for stamp, tag in later}
    is_valid = (
        not rest.is_lost
        and kept.epoch == rest.epoch
        and least >= rest.floor
        and all(as_of >= stamps.get(tag, 0) for tag, as_of in kept.tags)
    )
    yield _verdict(world, mine, is_valid, f"asks for {questions[1]}")


# --- The others


def _invalidates(world: World, mine: int | None, tag: str, rules: Rules) -> Move[World]:
    if mine is None:
        return Move(f"commits version {world.source + 1}", world._replace(source=world.source + 1), world.source + 1)
    stamps = invalidate(world.stamps, tag, rules)
    world = world._replace(stamps=stamps, returned=max(world.returned, mine))
    return Move(f"invalidates {tag} at {stamps.clock}, which returns", world, DONE)


def writer_of_first(world: World, mine: int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Writes the source, then invalidates the entry's first tag."""
    yield _invalidates(world, mine, FIRST, rules)


def writer_of_second(world: World, mine: int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Writes the source, then invalidates the entry's second tag."""
    yield _invalidates(world, mine, SECOND, rules)


def request(world: World, mine: Loading | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Hears the clock, reads the source, and fills the entry anew, which makes rows that are missing."""
    if mine is None:
        moment = world.stamps.moment
        yield Move(f"has heard {moment} and reads version {world.source}", world, Loading(moment, world.source))
        return
    filled = fill(world.stamps, Draft(b"", 1.0, tags=(FIRST, SECOND)), mine.moment, mine.value, rules)
    if isinstance(filled, Refusal):
        yield Move(f"is refused its fill: {filled.reason}", world, DONE)
    else:
        stamps, kept = filled
        yield Move(f"fills with {kept.value} as of {kept.as_of}", world._replace(stamps=stamps, kept=kept), DONE)


def _surroundings(world: World, rules: Rules) -> Iterator[Step[World]]:
    stamps = world.stamps
    if stamps.is_lost:
        anew = stamps.made_anew(rules)
        yield Step(f"a heartbeat makes the set anew: epoch {anew.epoch}, {anew.clock}", world._replace(stamps=anew))
        return
    if world.drops:
        for tag, stamp in stamps.rows:
            after = world._replace(stamps=drop(stamps, tag, rules), drops=world.drops - 1)
            yield Step(f"the row of {tag} ({stamp}) is dropped", after)
    if world.losses:
        lost = stamps.lost(clock=stamps.clock)
        yield Step("the set is lost", world._replace(stamps=lost, losses=world.losses - 1))


_START: Final = World(
    stamps=StampSet(clock=2, rows=((FIRST, 1), (SECOND, 1), (UNRELATED, 2))),
    kept=Copy(epoch=1, as_of=1, tags=((FIRST, 1), (SECOND, 1)), value=0),
)


def _scenario(world: World, *actors: Actor[World]) -> Scenario:
    return lambda rules: interleave(rules, world, actors, surroundings=_surroundings)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "a hit that asks for all tags by name": _scenario(
        _START._replace(drops=1, losses=1), writer_of_first, writer_of_second, request, reader_by_name
    ),
    "a hit of two round trips": _scenario(
        _START._replace(drops=1, losses=1), writer_of_first, writer_of_second, reader_of_two_trips
    ),
    "a hit of two round trips, and a load": _scenario(
        _START._replace(drops=2), request, writer_of_second, reader_of_two_trips
    ),
    "a hit on an entry of many tags": _scenario(
        _START._replace(drops=1, losses=1), writer_of_first, writer_of_second, reader_of_many_tags
    ),
    "a hit on an entry of many tags, and a load": _scenario(
        _START._replace(drops=2), request, writer_of_first, reader_of_many_tags
    ),
}
