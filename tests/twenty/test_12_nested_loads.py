"""12: nested and recursive loads."""

from __future__ import annotations

import threading
import time

import pytest

from flask_rcache import CacheType
from tests.twenty.conftest import Fleet
from tests.twenty.kit import KIND, MEANS, PATIENCE, Act, invalidate, there


@pytest.mark.parametrize("means", MEANS)
def test_behaviour_12__the_outer_goes_with_the_inner(fleet: Fleet, means: str) -> None:
    """What was made of a cached value goes when that does, whether the value was loaded inside or lay there."""
    here, other = fleet()
    outer = CacheType.QUERY
    for _ in range(2):
        for read in (here.fetch, other.fetch):
            assert read(outer, "outer", lambda: here.fetch(KIND, "k", lambda: "part", tags=["t"]) + "!") == "part!"
        if means in ("key", "pattern"):  # these name entries: what was made of one of them is not theirs
            here.invalidate_tags("t")
        invalidate(other, means)
        assert here.get(outer, "outer") is None
        assert not there(here)


def test_behaviour_12__a_loader_that_asks_for_its_own_key(fleet: Fleet) -> None:
    """It does not wait for itself, however deep."""
    here, _ = fleet(lease=30, load_timeout=60)
    depth = iter(range(3))

    def loader() -> int:
        return 0 if next(depth) == 2 else 1 + here.fetch(KIND, "k", loader)

    began = time.monotonic()
    assert here.fetch(KIND, "k", loader) == 2
    assert time.monotonic() - began < 10


def test_behaviour_12__two_that_need_each_other(fleet: Fleet) -> None:
    """Two processes, each loading what the other wants: both have an answer long before load_timeout."""
    here, other = fleet(lease=3, load_timeout=300)
    both = threading.Barrier(2, timeout=PATIENCE)

    def first() -> str:
        both.wait()
        return "a" + here.fetch(KIND, "b", lambda: "b")

    def second() -> str:
        both.wait()
        return "b" + other.fetch(KIND, "a", lambda: "a")

    acts = [Act(lambda: here.fetch(KIND, "a", first)), Act(lambda: other.fetch(KIND, "b", second))]
    assert {act.result()[:1] for act in acts} == {"a", "b"}
