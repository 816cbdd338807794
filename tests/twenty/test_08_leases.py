"""8: the lease expires while the loader runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_rcache import CacheManager
from tests.processes import wait_until
from tests.servers import Server
from tests.twenty.kit import KIND, PATIENCE, Act, SlowLoader

LEASE = "cache~lease:kind:k"


def test_behaviour_08__its_late_result_is_refused(any_server: Server, caches: Callable[..., CacheManager]) -> None:
    """Another loads meanwhile; the first gets its own value back, and everybody else the second's."""
    here, other = (caches(any_server.url, lease=0.5, load_timeout=1.0) for _ in range(2))
    client, slow = any_server.client(), SlowLoader()
    loading = Act(lambda: here.fetch(KIND, "k", slow))
    assert slow.begun.wait(PATIENCE)
    assert client.exists(LEASE) == 1
    wait_until(lambda: client.exists(LEASE) == 0, timeout=PATIENCE, what="the lease's end")
    assert other.fetch(KIND, "k", lambda: "second") == "second"
    slow.go.set()
    assert loading.result() == "old"
    assert [cache.get(KIND, "k") for cache in (here, other)] == ["second"] * 2


def test_behaviour_08__and_does_not_disturb_who_loads_now(
    any_server: Server, caches: Callable[..., CacheManager]
) -> None:
    """The first ends while the second still loads: its end does not free the second's lease."""
    here, other, third = (caches(any_server.url) for _ in range(3))
    client, first, second = any_server.client(), SlowLoader("first"), SlowLoader("second")
    loading = Act(lambda: here.fetch(KIND, "k", first))
    assert first.begun.wait(PATIENCE)
    client.delete(LEASE)
    loading_again = Act(lambda: other.fetch(KIND, "k", second))
    assert second.begun.wait(PATIENCE)
    first.go.set()
    assert loading.result() == "first"
    assert client.exists(LEASE) == 1
    waiting = Act(lambda: third.fetch(KIND, "k", lambda: "third"))
    second.go.set()
    assert [loading_again.result(), waiting.result()] == ["second", "second"]


@pytest.mark.race
def test_behaviour_08__it_is_renewed_while_the_loader_lives(
    any_server: Server, caches: Callable[..., CacheManager]
) -> None:
    """A load of three times the lease: the others wait for it, and it is the only one."""
    here, other = (caches(any_server.url, lease=1.5) for _ in range(2))
    slow = SlowLoader("only")
    loading = Act(lambda: here.fetch(KIND, "k", slow))
    assert slow.begun.wait(PATIENCE)
    waiting = Act(lambda: other.fetch(KIND, "k", lambda: "another"))
    slow.go.wait(4.5)
    slow.go.set()
    assert [loading.result(), waiting.result()] == ["only", "only"]
