"""Entries and the two questions asked of them, drafts, and what a fill makes of one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.model.entry import MICROSECONDS, Draft, Entry, Freshness, Moment, VariantMarker, is_valid

INNER = (("t:inner", 90), ("c:search", 95))


def entry(**fields: object) -> Entry:
    draft = Draft(b"x", ttl=10.0, tags=("c:search",), inherited=(("t:inner", 90),))
    made = Entry.of(draft, epoch=7, as_of=100, created=120)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_of__own_tags_take_the_loads_as_of() -> None:
    """Inherited tags keep theirs; of a tag that is both the earlier one counts."""
    made = entry()
    assert made.tags == (("c:search", 100), ("t:inner", 90))
    assert (made.epoch, made.as_of, made.created) == (7, 100, 120)
    both = Draft(b"x", ttl=10.0, tags=("c:search",), inherited=INNER)
    assert dict(both.tags_as_of(100)) == {"c:search": 95, "t:inner": 90}
    assert dict(both.tags_as_of(80)) == {"c:search": 80, "t:inner": 90}


@pytest.mark.parametrize(
    ("epoch", "floor", "forgotten", "rows", "valid"),
    [
        (7, 0, 0, {}, True),
        (8, 0, 0, {}, False),
        (0, 0, 0, {}, False),
        (7, 90, 0, {}, True),
        (7, 91, 0, {}, False),  # the inherited tag is older than the floor
        (7, 91, 0, {"c:search": 1, "t:inner": 1}, False),  # whatever its row says
        (7, 0, 90, {}, True),
        (7, 0, 91, {}, False),  # it has no row, and is older than what was forgotten
        (7, 0, 91, {"t:inner": 90}, True),  # its row proves that nothing later was dropped
        (7, 0, 101, {"t:inner": 90}, False),  # but the other tag has none
        (7, 0, 101, {"t:inner": 90, "c:search": None}, False),
        (7, 0, 101, {"t:inner": 90, "c:search": 100}, True),
        (7, 0, 0, {"c:search": 100}, True),
        (7, 0, 0, {"c:search": 101}, False),
        (7, 0, 0, {"t:inner": 91}, False),
        (7, 0, 0, {"t:other": 1000}, True),
    ],
)
def test_is_valid__rule_r1(epoch: int, floor: int, forgotten: int, rows: dict[str, float | None], valid: bool) -> None:
    """The epoch is the set's, no as_of is before the floor, nor before its row, or without one before `forgotten`."""
    assert is_valid(entry(), epoch, floor, forgotten, rows) is valid


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), min_size=1),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9)),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_is_valid__never_again(tags: dict[str, int], rows: dict[str, int], floor: int, forgotten: int) -> None:
    """What is invalid stays so, whatever is invalidated next, and whichever row is dropped as R1.4 says."""
    made = Entry(b"", epoch=1, as_of=0, created=0, ttl=1.0, tags=tuple(tags.items()))
    if is_valid(made, 1, floor, forgotten, rows):
        return
    assert not is_valid(made, 1, 10, forgotten, rows)
    for tag in rows:
        rest = {name: stamp for name, stamp in rows.items() if name != tag}
        assert not is_valid(made, 1, floor, max(forgotten, rows[tag]), rest)
        assert not is_valid(made, 1, floor, forgotten, {**rows, tag: 10})


def test_freshness__windows() -> None:
    """Fresh, stale, for errors only, expired; each window counts from the ttl, its end not included."""
    made = entry(created=0, ttl=10.0, stale_while_revalidate=5.0, stale_if_error=8.0)
    found = {seconds: made.freshness(int(seconds * MICROSECONDS)) for seconds in (0, 9.999999, 10, 14.9, 15, 17, 18)}
    assert found == {
        0: Freshness.FRESH,
        9.999999: Freshness.FRESH,
        10: Freshness.STALE,
        14.9: Freshness.STALE,
        15: Freshness.ERROR_ONLY,
        17: Freshness.ERROR_ONLY,
        18: Freshness.EXPIRED,
    }
    assert entry(created=0).freshness(10 * MICROSECONDS) is Freshness.EXPIRED


def test_age__never_negative() -> None:
    """A clock that went backwards makes nothing younger than new."""
    made = entry(created=5 * MICROSECONDS)
    assert (made.age(3 * MICROSECONDS), made.age(7 * MICROSECONDS)) == (0.0, 2.0)
    assert made.freshness(0) is Freshness.FRESH


@given(st.floats(0.001, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 2 * 10**12), st.integers(0, 10**12))
def test_freshness__only_gets_worse(ttl: float, swr: float, sie: float, now: int, later: int) -> None:
    """Time never makes an entry fresher, and the store keeps it as long as it may be served."""
    order = [Freshness.FRESH, Freshness.STALE, Freshness.ERROR_ONLY, Freshness.EXPIRED]
    made = entry(created=0, ttl=ttl, stale_while_revalidate=swr, stale_if_error=sie)
    assert order.index(made.freshness(now)) <= order.index(made.freshness(now + later))
    keep = Draft(b"", ttl=ttl, stale_while_revalidate=swr, stale_if_error=sie).keep
    assert made.freshness(int(keep * MICROSECONDS) + 2 + int(keep)) is Freshness.EXPIRED


def test_shortened__never_longer_and_never_stale() -> None:
    """For a while at most."""
    draft = Draft(b"x", ttl=10.0, stale_while_revalidate=5.0, stale_if_error=5.0, tags=("t",), inherited=INNER)
    assert draft.shortened(2.0) == Draft(b"x", ttl=2.0, tags=("t",), inherited=INNER)
    assert draft.shortened(20.0).ttl == 10.0


def test_equality__by_all_parts() -> None:
    """Two fills are told apart by any of their times; what an entry is made of has no identity of its own."""
    assert entry() == entry()
    for fields in (
        {"content": VariantMarker(("accept",))},
        {"epoch": 8},
        {"as_of": 99},
        {"created": 121},
        {"origin": "a"},
    ):
        assert entry(**fields) != entry()
    assert Moment(1, 2) == Moment(1, 2, generation=0) != Moment(1, 2, generation=1)
