"""The rows of a stamp set in this process, and the order in which their time comes."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.model.entry import MICROSECONDS
from flask_rcache.stores.stamps import StampSet
from flask_rcache.stores.timetable import Timetable

SECOND = MICROSECONDS


def test_stamps__no_stamp_is_lowered() -> None:
    """A stamp that was set ahead stays, whatever is invalidated meanwhile, everything included (R1.3)."""
    stamps = StampSet(1, max_rows=10)
    stamps.stamp(["ahead", "b"], 100)
    stamps.stamp(["ahead"], 50)
    assert not stamps.allows(1, [("ahead", 99)])
    stamps.raise_floor(60)
    assert stamps.rows == {"ahead": 100, "b": 100}
    stamps.raise_floor(100)
    assert stamps.rows == {}
    assert stamps.allows(1, [("ahead", 100)])
    assert not stamps.allows(1, [("ahead", 99)])
    stamps.raise_floor(10)
    assert stamps.floor == 100


def test_stamps__a_fill_makes_the_missing_rows() -> None:
    """At what was forgotten; rows that are there stay (R1.3)."""
    stamps = StampSet(1, max_rows=10, now=3)
    stamps.stamp(["a"], 5)
    stamps.attach((("a", 9), ("b", 7)), expires=20, now=10)
    assert stamps.rows == {"a": 5, "b": 3}


def test_stamps__a_new_set_takes_nothing_older() -> None:
    """What was read before it was made is not valid in it, with a row or without (R1.7)."""
    stamps = StampSet(1, max_rows=10, now=100)
    assert not stamps.allows(1, [("a", 99)])
    assert stamps.allows(1, [("a", 100)])
    assert not stamps.allows(2, [("a", 100)])


@pytest.mark.parametrize(("excess", "left"), [(1, {"live", "b"}), (2, {"live"}), (3, set())])
def test_stamps__what_goes_first(excess: int, left: set[str]) -> None:
    """Rows of no live entry, the oldest first, and only then those of live entries (R1.4)."""
    stamps = StampSet(1, max_rows=3)
    stamps.attach((("live", 1),), expires=100, now=1)
    stamps.stamp(["a"], 2)
    stamps.stamp(["b"], 3)
    new = [f"new{number}" for number in range(excess)]
    stamps.attach(tuple((tag, 4) for tag in new), expires=200, now=4)
    assert set(stamps.rows) == {*left, *new}
    assert stamps.forgotten == {1: 2, 2: 3, 3: 3}[excess]


def test_stamps__an_extended_row_is_kept() -> None:
    """What a later entry needs is not dropped when the time of an earlier one comes."""
    stamps = StampSet(1, max_rows=100)
    stamps.attach((("a", 1),), expires=10 * SECOND, now=1)
    stamps.attach((("a", 2),), expires=500 * SECOND, now=2)
    stamps.attach((("a", 3),), expires=1 * SECOND, now=3)  # one that lives shorter takes nothing from it
    stamps.stamp(["x"], 400 * SECOND)
    assert "a" in stamps.rows
    stamps.stamp(["x"], 801 * SECOND)
    assert "a" not in stamps.rows


def test_stamps__dropping_never_makes_anything_valid() -> None:
    """At random: what a set that drops rows allows, one that drops nothing allows too."""
    random = Random(3)
    narrow, wide = StampSet(1, max_rows=5), StampSet(1, max_rows=10**6)
    allowed = 0
    for now in range(1, 20_000):
        tag, as_of = f"t{random.randrange(12)}", now - random.randrange(40)
        act = random.random()
        if act < 0.4:
            for stamps in (narrow, wide):
                stamps.stamp([tag], now)
        elif act < 0.41:
            for stamps in (narrow, wide):
                stamps.raise_floor(now)
        else:
            others = [(tag, as_of), (f"t{random.randrange(12)}", as_of)]
            if narrow.allows(1, others):
                allowed += 1
                assert wide.allows(1, others)
                for stamps in (narrow, wide):
                    stamps.attach(tuple(others), expires=now + random.randrange(50), now=now)
        assert len(narrow.rows) <= 5 + 2
    assert allowed > 500


# The order of times


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.booleans()), max_size=60), st.integers(0, 9))
def test_timetable__as_a_plain_dict(changes: list[tuple[str, int, bool]], until: int) -> None:
    """Whatever was put, moved and discarded, what is taken is what a dict sorted by time would give."""
    table, model = Timetable(), dict[str, int]()
    for name, at, stays in changes:
        if stays:
            table[name] = model[name] = at
        else:
            table.discard(name)
            model.pop(name, None)
    assert len(table) == len(model)
    assert all(table.get(name) == at for name, at in model.items())
    due = table.take(100, steps=1000, until=until)
    assert [model[name] for name in due] == sorted(at for at in model.values() if at <= until)
    rest = table.take(100, steps=1000)
    assert sorted([*due, *rest]) == sorted(model)
    assert len(table) == 0


def test_timetable__bounded_work_and_size() -> None:
    """No call looks at more items than it is told to, and items of names that were moved or left do not pile up."""
    table = Timetable()
    for number in range(1000):
        table[str(number)] = number
        table[str(number)] = number + 10_000
    assert table.take(10, steps=5, until=5000) == []
    assert table.take(10, steps=2000, until=5000) == []
    assert table.take(2, steps=100) == ["0", "1"]
    for round in range(50):
        for number in range(1000):
            table[str(number)] = round
        for number in range(1000):
            table.discard(str(number))
    assert len(table) == 0
    assert len(table._heap) < 200
