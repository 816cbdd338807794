"""Moments of one server and of a cluster: what a load may build on (rule R3)."""

from __future__ import annotations

import pytest

from flask_rcache.model.entry import Draft, Entry
from flask_rcache.model.moment import AsOf, Moment, Parts, known_at
from flask_rcache.model.scope import Scope


def _cluster(*parts: Moment | None) -> Moment:
    moment = Moment.together(parts)
    assert moment is not None
    return moment


def test_together__nothing_heard() -> None:
    """A cluster of which nothing was heard has no moment; one shard that was heard of makes one."""
    assert Moment.together([None, None]) is None
    moment = _cluster(None, Moment(5, 7, 3))
    assert (moment.part(0), moment.part(1)) == (None, Moment(5, 7, 3))
    assert (moment.epochs, moment.as_of) == ((0, 5), (0, 7))
    assert (Moment(5, 7).epochs, Moment(5, 7).as_of) == (5, 7)


def test_dependencies__least_of_each_shard() -> None:
    """A tag that was read twice counts with the least reading of each shard, which may be of different reads."""
    moment = _cluster(Moment(1, 90), Moment(2, 90))
    scope = Scope(object(), moment)
    scope.reads += [((1, 2), (("a", (30, 60)), ("b", (70, 70)))), ((1, 2), (("a", (50, 40)),))]
    assert scope.dependencies(moment) == (False, {"a": (30, 40), "b": (70, 70)})


def test_dependencies__a_shard_that_failed_over() -> None:
    """What was read before a shard got a new stamp set is good for loads on the others, and for none on that shard."""
    moment = _cluster(Moment(1, 90), Moment(9, 90))
    scope = Scope(object(), moment)
    scope.reads += [((1, 2), (("a", (30, 60)),)), ((1, 9), (("a", (50, 80)), ("b", (50, 80))))]
    assert scope.dependencies(moment) == (False, {"a": (30, 0), "b": (50, 80)})


@pytest.mark.parametrize(
    ("moment", "epochs"),
    [
        (Moment(1, 9), (2,)),
        (Moment(1, 9), (1, 2)),
        (None, (1,)),
        (None, ((1, 2),)),
        (_cluster(Moment(1, 9), Moment(2, 9)), (0,)),
        (_cluster(Moment(1, 9), Moment(2, 9)), ((1, 2, 3),)),
    ],
)
def test_known_at__nothing_can_be_built_on_another_store(moment: Moment | None, epochs: tuple[int, ...]) -> None:
    """Readings of another stamp set, of a store that was away, or of a cluster of another size forbid storing."""
    assert known_at(moment, {epoch: {"a": 5} for epoch in epochs})[0]
    assert known_at(moment, {}) == (False, {})


def test_on_shard__what_an_entry_is_checked_by_and_carries() -> None:
    """On its shard a draft has that shard's readings; for the others it carries the whole of each."""
    moment = _cluster(Moment(1, 90), Moment(2, 80))
    draft = Draft(b"", 1.0, tags=("own", "both"), inherited=(("inner", (50, 60)), ("both", (95, 70))))
    there = draft.on_shard(1, moment)
    assert dict(there.tags_as_of(80)) == {"own": 80, "both": 70, "inner": 60}
    clocks = {"own": (90, 80), "both": (90, 70), "inner": (50, 60)}
    assert there.parts == Parts((1, 2), clocks)
    entry = Entry.of(there, epoch=2, as_of=80, created=99)
    assert (entry.read[0], dict(entry.read[1])) == ((1, 2), clocks)


@pytest.mark.parametrize("moment", [None, Moment(1, 7), _cluster(Moment(1, 7), Moment(2, 6))])
def test_shared__is_read_as_its_load_was(moment: Moment | None) -> None:
    """Who is given a load's result within the process depends on what the load depends on."""
    inherited: AsOf = 3 if moment is None or moment.vector is None else (3, 6)
    entry = Entry.shared(Draft(b"", 1.0, tags=("own",), inherited=(("inner", inherited),)), moment)
    epochs, as_of = (0, 0) if moment is None else (moment.epochs, moment.as_of)
    assert (entry.read[0], dict(entry.read[1])) == (epochs, {"own": as_of, "inner": inherited})
