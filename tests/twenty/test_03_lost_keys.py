"""3: stamps, index or leases are lost; the failovers among the causes are in `tests.chaos.test_restarts`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from flask_rcache import CacheManager
from tests.servers import Server
from tests.twenty.kit import KIND, PATIENCE, Act, SlowLoader, names_of, restored, there

LOSSES: dict[str, Callable[[redis.Redis], object]] = {
    "stamps": lambda client: client.delete("cache~stamps"),
    "index": lambda client: client.delete("cache~index:kind"),
    "leases": lambda client: client.delete(*names_of(client, "cache~lease:*")),
    "all but the entries": lambda client: client.delete(*names_of(client, "cache~*")),
    "everything": lambda client: client.flushdb(),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_behaviour_03__internal_keys_lost(server: Server, caches: Callable[..., CacheManager], loss: str) -> None:
    """What was invalidated does not come back, a load under way brings nothing old, and all of it works again."""
    here, other = (caches(server.url) for _ in range(2))
    slow = SlowLoader()
    here.fetch(KIND, "k", lambda: "old", tags=["t"])
    loading = Act(lambda: here.fetch(KIND, "late", slow, tags=["t"]))
    assert slow.begun.wait(PATIENCE)
    other.invalidate_tags("t")
    LOSSES[loss](server.client())
    assert not any(there(cache) for cache in (here, other))
    slow.go.set()
    assert loading.result() == "old"
    assert not any(there(cache, key) for cache in (here, other) for key in ("k", "late"))
    for key in ("k", "late"):
        assert [cache.fetch(KIND, key, lambda: "new", tags=["t"]) for cache in (here, other)] == ["new"] * 2
    restored(here)
    for key in ("k", "late"):
        assert [cache.fetch(KIND, key, lambda: "new", tags=["t"]) for cache in (here, other)] == ["new"] * 2
    assert here.invalidate_type(KIND) == 2
    assert not any(there(cache, key) for cache in (here, other) for key in ("k", "late"))


def test_behaviour_03__lost_lease_is_not_got_back(server: Server, caches: Callable[..., CacheManager]) -> None:
    """A loader whose lease was lost does not put its result over that of the loader that came after it."""
    here, other = (caches(server.url) for _ in range(2))
    slow = SlowLoader()
    loading = Act(lambda: here.fetch(KIND, "k", slow))
    assert slow.begun.wait(PATIENCE)
    LOSSES["leases"](server.client())
    assert other.fetch(KIND, "k", lambda: "new") == "new"
    slow.go.set()
    assert loading.result() == "old"
    assert [cache.get(KIND, "k") for cache in (here, other)] == ["new"] * 2
