"""5: a short-lived member must not shorten its tag's life."""

from __future__ import annotations

import pytest

from tests.processes import wait_until
from tests.twenty.conftest import Fleet
from tests.twenty.kit import KIND, MEANS, PATIENCE, Act, SlowLoader, invalidate, there


@pytest.mark.parametrize("means", MEANS)
def test_behaviour_05__the_long_lived_is_still_reached(fleet: Fleet, means: str) -> None:
    """After the short-lived member has gone, and whichever came last, tag, type and pattern find the others."""
    here, other = fleet()
    long_lived = {"cache:kind:k-first": True, "cache:kind:k-second": True}

    def listed() -> dict[str, bool]:
        return {item.key: "t" in item.tags for item in other.entries()}

    for key in ("k-first", "k-second"):
        here.set(KIND, key, "x", ttl=600, tags=["t"])
        here.set(KIND, "k-short", "x", ttl=0.1, tags=["t"])
        wait_until(lambda: "cache:kind:k-short" not in listed(), timeout=PATIENCE, what="its end")
    assert listed() == long_lived
    for key in ("k-first", "k-second") if means == "key" else ("k",):
        invalidate(other, means, key)
    wait_until(
        lambda: not any(there(here, key) for key in ("k-first", "k-second")), timeout=PATIENCE, what="both are gone"
    )


def test_behaviour_05__nor_its_stamp_s(fleet: Fleet) -> None:
    """The stamp outlives every member: a load begun before it is refused though nothing else bears the tag any more."""
    here, other = fleet()
    slow = SlowLoader()
    loading = Act(lambda: here.fetch(KIND, "k", slow, tags=["t"]))
    assert slow.begun.wait(PATIENCE)
    other.set(KIND, "k-short", "x", ttl=0.1, tags=["t"])
    other.invalidate_tags("t")
    other.set(KIND, "k-short", "x", ttl=0.1, tags=["t"])
    wait_until(lambda: not list(here.entries()), timeout=PATIENCE, what="its end")
    slow.go.set()
    assert loading.result() == "old"
    assert not any(there(cache) for cache in (here, other))
