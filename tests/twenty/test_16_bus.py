"""16: the bus is cut, also half-open."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flask_rcache import CacheManager
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.proxy import Proxy
from tests.twenty.kit import KIND, MEANS, PATIENCE, invalidate, there
from tests.twenty.test_02_promotions import HOLD, held


@pytest.fixture
def proxy(any_server: Server) -> Iterator[Proxy]:
    """The way to the server of the process that listens."""
    with Proxy(any_server.port) as proxy:
        yield proxy


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("how", ["killed", "half-open"])
def test_behaviour_16__the_memory_tier_is_not_trusted(
    any_server: Server, proxy: Proxy, caches: Callable[..., CacheManager], how: str, means: str
) -> None:
    """What is invalidated while a process gets no messages is not served by it for the rest of its hold."""
    here, other = caches(proxy.url, l1_ttl=HOLD), caches(any_server.url)
    other.set(KIND, "k", "old", tags=["t"])
    wait_until(lambda: held(here, "k"), timeout=PATIENCE, what="in memory")
    if how == "half-open":
        proxy.deaf.set()
    else:
        proxy.deaf.set()
        assert (
            any_server.client().client_kill_filter(_type="pubsub") >= 2
        )  # and those of earlier tests  # each process listens
    invalidate(other, means)
    wait_until(lambda: not there(here), timeout=PATIENCE, what="distrusted, long before its hold ends")
    proxy.deaf.clear()
    other.set(KIND, "k", "new")
    wait_until(lambda: held(here, "k"), timeout=PATIENCE, what="trusted again")
    assert here.get(KIND, "k") == "new"
    here.close()
