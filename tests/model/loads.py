"""Loads against invalidations, dropped rows and a lost set: rules R1, R2, R3.1 and R3.4.

A source holds one number, its version. Entries ``inner`` (a load that reads the source) and ``outer`` (a load that
may read ``inner`` instead) carry the tag ``item``; a writer raises the version and invalidates ``item``. Nothing may
be served that is older than what an invalidation that has returned announced; as a reader may begin at any time, that
is asked of every state. And no entry may be invalid that nothing has happened to: what concerns other tags is none of
its business.

Bus messages may come at any time or never: hearing the clock is a step like others. Loads never need their lease here
(see ``fills``), so several may run at once. The clock moves only where that matters. A memory copy is never
corrected, as if the bus were cut off. Values are served from the store only; what a memory tier may serve is rule
R5's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from flask_rcache.model.entry import Draft

from .actors import DONE, Actor, Move, Scenario, interleave
from .explorer import Step
from .rules import Rules
from .stampset import Copy, Moment, Refusal, StampSet, clear, drop, fill, holds, invalidate

__all__ = ["ITEM", "SCENARIOS", "World", "clearer", "request", "surroundings", "writer"]

ITEM: Final = "item"
OTHER: Final = "other"
_AHEAD: Final = 3
"""How far ahead an SQL writer sets its stamp."""


class World(NamedTuple):
    """What everybody shares; ``drops``, ``losses``, ``set_backs`` and ``ticks`` are how often that may still happen."""

    stamps: StampSet
    heard: Moment
    """The latest reading that the loading process has heard."""
    source: int = 0
    returned: int = 0
    """The latest version that an invalidation which has returned announced."""
    committed_ahead: tuple[tuple[int, int], ...] = ()
    """Stamps set ahead by writers that died after their commit, with its version: known once the stamp has passed."""
    inner: Copy | None = None
    outer: Copy | None = None
    memory: Copy | None = None
    drops: int = 0
    losses: int = 0
    set_backs: int = 0
    """Of the losses, how many may come with a TIME that was set back."""
    ticks: int = 0

    def touched(self) -> World:
        """The same after something has happened that may make the entries invalid."""
        return self._replace(
            inner=self.inner and self.inner._replace(was_touched=True),
            outer=self.outer and self.outer._replace(was_touched=True),
        )

    def announced(self) -> int:
        """The version that a reader who begins now must see at least."""
        return max([self.returned, *(version for at, version in self.committed_ahead if at <= self.stamps.clock)])


# --- Those who load


class Loading(NamedTuple):
    """A request that loads: its ``as_of``, and what it has read. ``began`` says whether the load itself has begun."""

    moment: Moment
    value: int
    began: bool = False


class Page(NamedTuple):
    """A request that builds ``outer``; ``draft`` is ``None`` until it has read what it builds it from."""

    moment: Moment
    draft: Draft | None = None
    value: int = 0
    may_be_stored: bool = True
    used_stale: bool = False


def _stored(world: World, draft: Draft, moment: Moment, value: int, rules: Rules) -> tuple[str, World, Copy | None]:
    """What becomes of a fill: in words, the world after it, and the entry if there is one."""
    filled = fill(world.stamps, draft, moment, value, rules)
    if isinstance(filled, Refusal):
        return f"is refused its fill: {filled.reason}", world, None
    stamps, copy = filled
    as_of = ", ".join(f"{tag} as of {clock}" for tag, clock in copy.tags)
    return f"fills with {value} ({as_of})", world._replace(stamps=stamps), copy


def request(world: World, mine: Loading | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """A request that reads the source before its load (a login, an identity map), and fills ``inner``."""
    if mine is None:
        loading = Loading(world.heard, world.source)
        yield Move(f"begins, has heard {world.heard}, and reads version {world.source}", world, loading)
        return
    if not mine.began:
        mine = mine._replace(began=True)
        if not rules.as_of_is_heard_before_the_request:
            yield Move(f"begins its load and has heard {world.heard}", world, mine._replace(moment=world.heard))
            return
        if not rules.only_lost_sets_are_made_anew and world.stamps.epoch not in (0, mine.moment.epoch):
            anew = world._replace(stamps=world.stamps.made_anew(rules))
            yield Move("begins its load, knows another epoch, and makes the set anew", anew, mine)
            return
    draft = Draft(b"", 1.0, tags=(ITEM,))
    text, world, copy = _stored(world, draft, mine.moment, mine.value, rules)
    yield Move(text, world._replace(inner=copy) if copy else world, DONE)


def page(world: World, mine: Page | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """A request that reads ``inner`` before its load or in it, from the store or from memory, and fills ``outer``."""
    if mine is None:
        yield Move(f"begins and has heard {world.heard}", world, Page(world.heard))
    elif mine.draft is None:
        yield from _page_reads(world, mine, rules)
    elif not mine.may_be_stored:
        yield Move("does not store what it made", world, DONE)
    else:
        text, world, copy = _stored(world, mine.draft, mine.moment, mine.value, rules)
        if copy:
            world = world._replace(outer=copy._replace(is_stale=mine.used_stale))
        yield Move(text, world, DONE)


def _page_reads(world: World, mine: Page, rules: Rules) -> Iterator[Move[World]]:
    """The ways in which a page may come by its value."""
    found: list[tuple[str, Copy]] = []
    if world.inner and holds(world.inner, world.stamps, rules):
        found.append(("the store", world.inner))
    if world.memory:
        found.append(("memory", world.memory))
    for where, copy in found:
        may_be_stored = (
            copy.epoch == mine.moment.epoch or not rules.loads_with_values_of_another_epoch_are_not_stored
        ) and (not copy.is_stale or not rules.loads_with_stale_values_are_not_stored)
        tags = copy.tags
        if not rules.passed_tags_keep_their_as_of:
            tags = tuple((tag, mine.moment.clock) for tag, _ in tags)
        for when, passed in (
            ("before its load", rules.reads_before_a_load_pass_tags_up),
            ("in its load", rules.reads_in_a_load_pass_tags_up),
        ):
            passes = passed and (where == "the store" or rules.memory_copies_pass_tags_up)
            # Without its tags the page still has its own; it is about the same things, so here that is ``item``.
            draft = Draft(b"", 1.0, inherited=tags) if passes else Draft(b"", 1.0, tags=(ITEM,))
            text = f"reads {copy.value} ({ITEM} as of {copy.as_of}) {when} from {where}"
            yield Move(text, world, Page(mine.moment, draft, copy.value, may_be_stored, copy.is_stale))
    if not found:
        draft = Draft(b"", 1.0, tags=(ITEM,))
        yield Move(f"reads version {world.source} in its load", world, Page(mine.moment, draft, world.source))


# --- Those who invalidate


def writer(world: World, mine: int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Writes the source, then invalidates the tag."""
    if mine is None:
        yield Move(f"commits version {world.source + 1}", world._replace(source=world.source + 1), world.source + 1)
        return
    stamps = invalidate(world.stamps, ITEM, rules)
    world = world.touched()._replace(stamps=stamps, returned=max(world.returned, mine))
    yield Move(f"invalidates {ITEM} at {stamps.clock}, which returns", world, DONE)


def clearer(world: World, mine: int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Writes the source, then clears everything."""
    if mine is None:
        yield Move(f"commits version {world.source + 1}", world._replace(source=world.source + 1), world.source + 1)
        return
    stamps = clear(world.stamps, rules)
    world = world.touched()._replace(stamps=stamps, returned=max(world.returned, mine))
    yield Move(f"clears all at {stamps.clock}, which returns", world, DONE)


def sql_writer(world: World, mine: Moment | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Sets a stamp ahead, commits in time, and dies before the last stamp (section 5 of the design)."""
    if mine is None:
        stamps = invalidate(world.stamps, ITEM, rules, ahead=_AHEAD)
        ahead = Moment(stamps.epoch, stamps.clock + _AHEAD)
        yield Move(f"sets {ITEM} ahead to {ahead.clock}", world.touched()._replace(stamps=stamps), ahead)
    elif world.stamps.clock < mine.clock and world.stamps.epoch == mine.epoch:
        version = world.source + 1
        due = tuple(sorted((*world.committed_ahead, (mine.clock, version))))
        yield Move(f"commits version {version} and dies", world._replace(source=version, committed_ahead=due), DONE)


def neighbour(world: World, mine: None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Invalidates another tag."""
    stamps = invalidate(world.stamps, OTHER, rules)
    yield Move(f"invalidates {OTHER} at {stamps.clock}", world._replace(stamps=stamps), DONE)


# --- What happens anyway


def surroundings(world: World, rules: Rules) -> Iterator[Step[World]]:
    stamps = world.stamps
    if stamps.is_lost:
        anew = stamps.made_anew(rules)
        yield Step(f"a heartbeat makes the set anew: epoch {anew.epoch}, {anew.clock}", world._replace(stamps=anew))
    else:
        yield from _hearing(world, rules)
        if world.drops:
            for tag, stamp in stamps.rows:
                after = world._replace(stamps=drop(stamps, tag, rules), drops=world.drops - 1)
                yield Step(f"the row of {tag} ({stamp}) is dropped", after.touched() if tag == ITEM else after)
        if world.losses:
            after = world.touched()._replace(losses=world.losses - 1)
            yield Step("the set is lost", after._replace(stamps=stamps.lost(clock=stamps.clock)))
            if world.set_backs:
                after = after._replace(set_backs=world.set_backs - 1)
                yield Step("the set is lost, and TIME was set back", after._replace(stamps=stamps.lost(clock=0)))
    if world.ticks:
        after = world._replace(stamps=stamps._replace(clock=stamps.clock + 1), ticks=world.ticks - 1)
        yield Step(f"time passes: {after.stamps.clock}", after)


def _hearing(world: World, rules: Rules) -> Iterator[Step[World]]:
    moment = world.stamps.moment
    if world.heard != moment:
        yield Step(f"the process hears {moment}", world._replace(heard=moment))
    latest = max((stamp for _, stamp in world.stamps.rows), default=0)
    if latest > moment.clock and not rules.stamps_ahead_are_not_readings:
        ahead = Moment(moment.epoch, latest)
        yield Step(f"the process hears the stamp set ahead, {ahead}", world._replace(heard=ahead))


def _with_memory(world: World, rules: Rules) -> Iterator[Step[World]]:
    yield from surroundings(world, rules)
    if world.memory is None and world.inner and holds(world.inner, world.stamps, rules):
        yield Step(f"memory copies inner ({world.inner.value})", world._replace(memory=world.inner))


def _wrong(world: World, rules: Rules) -> str:
    announced = world.announced()
    for name, copy in (("inner", world.inner), ("outer", world.outer)):
        if copy is None:
            continue
        if not holds(copy, world.stamps, rules):
            if not copy.was_touched:
                return f"NEEDLESS: {name} is invalid, and nothing has happened to its tag"
        elif copy.value < announced:
            return f"STALE: a reader who begins now gets {copy.value} of {name}; {announced} was announced"
    if world.outer and world.outer.is_stale:
        return "EXPIRED: outer is fresh, and was made of a value that had expired"
    return ""


# --- Scenarios

_INNER: Final = Copy(epoch=1, as_of=1, tags=((ITEM, 1),), value=0)
_EMPTY: Final = World(StampSet(), Moment(1, 1))
_FILLED: Final = World(StampSet(rows=((ITEM, 1),)), Moment(1, 1), inner=_INNER)


def _scenario(
    world: World,
    *actors: Actor[World],
    around: Callable[[World, Rules], Iterator[Step[World]]] = surroundings,
) -> Scenario:
    return lambda rules: interleave(rules, world, actors, surroundings=around, wrong=_wrong)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "two requests, two writers, two rows dropped": _scenario(
        _EMPTY._replace(drops=2), request, request, writer, writer
    ),
    "a request, two writers, a row dropped, a lost set": _scenario(
        _EMPTY._replace(drops=1, losses=1, set_backs=1), request, writer, writer
    ),
    "two requests, a writer, a lost set": _scenario(_FILLED._replace(losses=1), request, request, writer),
    "a page, a request, a writer, two rows dropped": _scenario(
        _FILLED._replace(drops=2), page, request, writer, around=_with_memory
    ),
    "two pages, a writer, a row dropped": _scenario(_FILLED._replace(drops=1), page, page, writer, around=_with_memory),
    "a page, a writer, a lost set": _scenario(
        _FILLED._replace(losses=1, set_backs=1), page, writer, around=_with_memory
    ),
    "a page, a request, a writer, a row dropped, a lost set": _scenario(
        _FILLED._replace(drops=1, losses=1, set_backs=1), page, request, writer, around=_with_memory
    ),
    "a page of a value that has expired": _scenario(
        _FILLED._replace(inner=_INNER._replace(is_stale=True)), page, writer, around=_with_memory
    ),
    "a request, a writer, clear_all, two rows dropped": _scenario(_FILLED._replace(drops=2), request, clearer, writer),
    "a stamp set ahead, a request, a writer": _scenario(_FILLED._replace(ticks=3), sql_writer, request, writer),
    "a stamp set ahead, a request, clear_all": _scenario(_FILLED._replace(ticks=3), sql_writer, request, clearer),
    "a request, invalidations of another tag": _scenario(_FILLED._replace(drops=2), request, neighbour, neighbour),
    "a page, an invalidation of another tag": _scenario(_FILLED._replace(drops=1), page, neighbour),
}
