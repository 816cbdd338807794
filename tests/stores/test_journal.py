"""The journal: what the store has not acknowledged, one item each, and all of it when it is too much."""

from __future__ import annotations

import pytest

from flask_rcache.stores.redis.journal import Invalidation, Journal


class Time:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_take__gives_everything_once() -> None:
    """What was noted comes out, without repetition, and is gone."""
    journal = Journal()
    journal.add(Invalidation(tags=["a", "b"], types=["t"]))
    journal.add(Invalidation(tags=["a"], keys=["cache:x:1"], removed=["cache:x:2"], patterns=[("cache:x:*", "x")]))
    assert len(journal) == 6
    taken = journal.take()
    assert set(taken.tags) == {"a", "b"}
    assert (taken.types, taken.keys, taken.removed) == (("t",), ("cache:x:1",), ("cache:x:2",))
    assert taken.patterns == (("cache:x:*", "x"),)
    assert not taken.everything
    assert not journal.take()
    assert len(journal) == 0


def test_add__everything_swallows_the_rest() -> None:
    """Beside "everything" nothing else needs to be sent."""
    journal = Journal()
    journal.add(Invalidation(tags=["a"]))
    journal.add(Invalidation(everything=True))
    journal.add(Invalidation(tags=["b"], keys=["k"]))
    assert len(journal) == 1
    assert journal.take() == Invalidation(everything=True)
    journal.add(Invalidation(tags=["c"]))
    assert journal.take() == Invalidation(tags=("c",))


def test_add__collapses_above_the_limit() -> None:
    """Up to the limit each item is kept, also across kinds; one more is everything."""
    journal = Journal(limit=4)
    journal.add(Invalidation(tags=["a", "b"], types=["t"], keys=["k"]))
    assert not journal.take().everything
    journal.add(Invalidation(tags=["a", "b"], types=["t"], keys=["k"]))
    journal.add(Invalidation(tags=["a"]))
    assert len(journal) == 4
    journal.add(Invalidation(removed=["k"]))
    assert journal.take() == Invalidation(everything=True)


def test_add__again_what_could_not_be_delivered() -> None:
    """A failed delivery is noted again, beside what was noted since."""
    journal = Journal()
    journal.add(Invalidation(tags=["a"], keys=["k"]))
    pending = journal.take()
    journal.add(Invalidation(tags=["b"]))
    journal.add(pending)
    taken = journal.take()
    assert (set(taken.tags), taken.keys) == ({"a", "b"}, ("k",))
    journal.add(Invalidation(everything=True))
    assert journal.take().everything


@pytest.mark.parametrize("plain", [True, False])
def test_add__many_patterns_become_their_types(plain: bool) -> None:
    """Each pattern is a walk over all keys while the cache is off; where one has no type, it is everything."""
    journal = Journal()
    for number in range(30):
        journal.add(Invalidation(patterns=[(f"cache:kind{number % 3}:{number}*", f"kind{number % 3}")]))
    if not plain:
        patterns = [("cache:*x", None), *((f"cache:a:{number}*", "a") for number in range(20))]
        journal.add(Invalidation(patterns=patterns))
    pending = journal.take()
    assert pending.everything is not plain
    if plain:
        assert set(pending.types) == {"kind0", "kind1", "kind2"}
        assert len(pending.patterns) <= 20
        assert len(pending.patterns) + 20 < 30


def test_replay__what_was_acknowledged_in_the_last_seconds() -> None:
    """When another server takes over, it is pending again; what is older is not, nor what was sent twice."""
    clock = Time()
    journal = Journal(keep=60.0, clock=clock)
    journal.acknowledged(Invalidation(tags=["old", "again"]))
    clock.now += 50
    journal.acknowledged(Invalidation(tags=["again"], keys=["k"]))
    clock.now += 20
    assert len(journal) == 0, "it is not pending before that"
    assert journal.replay()
    taken = journal.take()
    assert (taken.tags, taken.keys) == (("again",), ("k",))
    assert not journal.replay()
    journal.add(Invalidation(types=["t"]))
    assert journal.replay(), "what is pending anyway counts too"


def test_replay__bounded() -> None:
    """Too many acknowledged ones become everything, for as long as the youngest of them would be kept."""
    clock = Time()
    journal = Journal(limit=100, keep=60.0, clock=clock)
    for number in range(150):
        journal.acknowledged(Invalidation(tags=[f"t{number}"]))
    clock.now += 59
    journal.acknowledged(Invalidation(tags=["later"]))
    assert journal.replay()
    assert journal.take().everything
    for number in range(150):
        journal.acknowledged(Invalidation(tags=[f"t{number}"]))
    clock.now += 59
    journal.acknowledged(Invalidation(tags=["later"]))
    clock.now += 2
    assert journal.replay()
    assert journal.take() == Invalidation(tags=("later",))
