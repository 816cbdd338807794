"""Entries and the two verdicts over them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.model.entry import MICROSECONDS, Draft, Entry, Freshness, Stamps


def entry(**fields: object) -> Entry:
    draft = Draft(b"x", ttl=10.0, tags=("c:search",), handed=(("t:inner", 90),))
    made = Entry.of(draft, epoch=7, as_of=100, created=120)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_of__own_tags_take_the_load_s_as_of() -> None:
    """Handed tags keep theirs."""
    made = entry()
    assert made.tags == (("c:search", 100), ("t:inner", 90))
    assert (made.epoch, made.as_of, made.created) == (7, 100, 120)


@pytest.mark.parametrize(
    ("epoch", "floor", "by_tag", "valid"),
    [
        (7, 0, {}, True),
        (8, 0, {}, False),
        (0, 0, {}, False),
        (7, 90, {}, True),
        (7, 91, {}, False),  # the handed tag is older than the floor
        (7, 101, {}, False),
        (7, 0, {"c:search": 100}, True),
        (7, 0, {"c:search": 101}, False),
        (7, 0, {"t:inner": 90}, True),
        (7, 0, {"t:inner": 91}, False),
        (7, 0, {"t:other": 1000}, True),
    ],
)
def test_valid__rule_r1(epoch: int, floor: int, by_tag: dict[str, int], valid: bool) -> None:
    """The epoch is the set's, and every as_of is at or after the floor and its stamp."""
    assert entry().valid(Stamps(epoch, floor, by_tag)) is valid


def test_valid__floor_counts_without_tags() -> None:
    """An entry without tags is as old as its load."""
    made = entry(tags=())
    assert made.valid(Stamps(7, 100, {}))
    assert not made.valid(Stamps(7, 101, {}))


def test_freshness__windows() -> None:
    """Fresh, stale, for errors only, expired; each window counts from the ttl, its end not included."""
    made = entry(created=0, ttl=10.0, stale_while_revalidate=5.0, stale_if_error=8.0)
    verdicts = {seconds: made.freshness(int(seconds * MICROSECONDS)) for seconds in (0, 9.999999, 10, 14.9, 15, 17, 18)}
    assert verdicts == {
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
    draft = Draft(b"x", ttl=10.0, stale_while_revalidate=5.0, stale_if_error=5.0, tags=("t",))
    assert draft.shortened(2.0) == Draft(b"x", ttl=2.0, tags=("t",))
    assert draft.shortened(20.0).ttl == 10.0
