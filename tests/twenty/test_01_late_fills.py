"""1: an invalidation during a load of any kind, by any means: the late fill must not be served.

Warm-up is the fourth kind of load; its module is not built, and it will load through the same `fetch`.
"""

from __future__ import annotations

import pytest

from flask_rcache import MISSING
from tests.processes import wait_until
from tests.twenty.conftest import Fleet
from tests.twenty.kit import KIND, MEANS, PATIENCE, Act, SlowLoader, invalidate


@pytest.mark.parametrize("means", MEANS)
def test_behaviour_01__cold_load(fleet: Fleet, means: str) -> None:
    """The first load of a key: its caller gets what it read, nobody else does."""
    here, there = fleet()
    slow = SlowLoader()
    loading = Act(lambda: here.fetch(KIND, "k", slow, tags=["t"]))
    assert slow.begun.wait(PATIENCE)
    invalidate(there, means)
    slow.go.set()
    assert loading.result() == "old"
    assert [cache.get(KIND, "k", MISSING) for cache in (here, there)] == [MISSING] * 2
    assert [cache.fetch(KIND, "k", lambda: "new") for cache in (there, here)] == ["new"] * 2


@pytest.mark.parametrize("means", MEANS)
def test_behaviour_01__stale_refresh(fleet: Fleet, means: str) -> None:
    """A refresh in the background of an entry past its ttl: what was stale and what the refresh read are both gone."""
    here, there = fleet()
    stale = KIND.replace(ttl=0.05, stale_while_revalidate=600)
    slow = SlowLoader("old, too")
    here.fetch(stale, "k", lambda: "old", tags=["t"])
    wait_until(lambda: here.get(stale, "k", MISSING) is MISSING, timeout=PATIENCE, what="stale")
    assert here.fetch(stale, "k", slow, tags=["t"]) == "old"
    assert slow.begun.wait(PATIENCE)
    invalidate(there, means)
    slow.go.set()
    wait_until(lambda: here.stats()["loads"] == 2, timeout=PATIENCE, what="the refresh has ended")
    assert [cache.get(KIND, "k", MISSING) for cache in (here, there)] == [MISSING] * 2
    assert [cache.fetch(KIND, "k", lambda: "new") for cache in (there, here)] == ["new"] * 2


@pytest.mark.parametrize("means", MEANS)
def test_behaviour_01__timed_out_load(fleet: Fleet, means: str) -> None:
    """A load that others no longer wait for: it ends last, and what it read was invalidated long ago."""
    here, there = fleet(load_timeout=0.4, lease=0.3)
    slow = SlowLoader()
    loading = Act(lambda: here.fetch(KIND, "k", slow, tags=["t"]))
    assert slow.begun.wait(PATIENCE)
    assert there.fetch(KIND, "k", lambda: "old, too", tags=["t"]) == "old, too"
    invalidate(there, means)
    assert there.fetch(KIND, "k", lambda: "new", tags=["t"]) == "new"
    slow.go.set()
    assert loading.result() == "old"
    assert {cache.get(KIND, "k", "new") for cache in (here, there)} == {"new"}
    assert [cache.fetch(KIND, "k", lambda: "new") for cache in (here, there)] == ["new"] * 2
