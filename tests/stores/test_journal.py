"""The journal: what the store has still to hear, one item each, and all of it when it is too much."""

from __future__ import annotations

import pytest

from flask_rcache.stores.redis.journal import Journal, Pending


def test_take__gives_everything_once() -> None:
    """What was noted comes out in order, without repetition, and is gone."""
    journal = Journal()
    journal.add(tags=["a", "b"], types=["t"])
    journal.add(tags=["a"], keys=["cache:x:1"], patterns=[("cache:x:*", "x")])
    assert len(journal) == 5
    assert journal.take() == Pending(("a", "b"), ("t",), ("cache:x:1",), (("cache:x:*", "x"),))
    assert not journal.take()
    assert len(journal) == 0


def test_add__everything_swallows_the_rest() -> None:
    """After "everything" nothing else needs to be said."""
    journal = Journal()
    journal.add(tags=["a"])
    journal.add(everything=True)
    journal.add(tags=["b"], keys=["k"])
    assert len(journal) == 1
    assert journal.take() == Pending(everything=True)
    journal.add(tags=["c"])
    assert journal.take() == Pending(("c",))


def test_add__collapses_above_the_limit() -> None:
    """Up to the limit each item is kept, also across kinds; one more is everything."""
    journal = Journal(limit=4)
    journal.add(tags=["a", "b"], types=["t"], keys=["k"])
    assert not journal.take().everything
    journal.add(tags=["a", "b"], types=["t"], keys=["k"])
    journal.add(tags=["a"])
    journal.add(patterns=[("p", None)])
    assert journal.take() == Pending(everything=True)


def test_give_back__merges_with_what_came_meanwhile() -> None:
    """A failed delivery is noted again, beside what was noted since."""
    journal = Journal()
    journal.add(tags=["a"], keys=["k"])
    pending = journal.take()
    journal.add(tags=["b"])
    journal.give_back(pending)
    taken = journal.take()
    assert (set(taken.tags), taken.keys) == ({"a", "b"}, ("k",))
    journal.give_back(Pending(everything=True))
    assert journal.take().everything


@pytest.mark.parametrize("plain", [True, False])
def test_add__many_patterns_become_their_types(plain: bool) -> None:
    """Each pattern is a walk over all keys while the cache is off; where one has no type, it is everything."""
    journal = Journal()
    for number in range(30):
        journal.add(patterns=[(f"cache:kind{number % 3}:{number}*", f"kind{number % 3}")])
    if not plain:
        journal.add(patterns=[("cache:*x", None)] + [(f"cache:a:{number}*", "a") for number in range(20)])
    pending = journal.take()
    assert pending.everything is not plain
    if plain:
        assert set(pending.types) == {"kind0", "kind1", "kind2"}
        assert len(pending.patterns) <= 20
        assert len(pending.patterns) + 20 < 30
    else:
        assert not pending.patterns
        assert not pending.types
