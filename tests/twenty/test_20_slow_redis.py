"""20: Redis is slow: one time budget a request; no herd after a recovery or a flush.

Write-behind (crash, order, idempotence, drain) and the SQL hooks (a rollback must not invalidate, a commit must) are
not built.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest
from flask import Flask

from flask_rcache import CacheManager, RCache, cache_response, current_cache
from tests.processes import wait_until
from tests.servers import Server
from tests.twenty.kit import KIND, PATIENCE, Act, there

THREADS = 10


@pytest.mark.chaos
def test_behaviour_20__one_budget_a_request(private_server: Callable[..., Server]) -> None:
    """A page of ten cached parts and an invalidation, on a server that no longer answers: it waits once, then never."""
    server = private_server()
    app = Flask("page")
    app.config.update(RCACHE_URL=server.url, RCACHE_TIMEOUT=1.0, RCACHE_OUTAGE_TTL=0)
    RCache(app)

    @app.get("/<number>")
    @cache_response(KIND)
    def page(number: str) -> str:
        parts = [current_cache.fetch(KIND, f"{number}.{part}", lambda: "part") for part in range(10)]
        current_cache.invalidate_tags("t")
        return " ".join(parts)

    client = app.test_client()
    assert client.get("/warm").text == " ".join(["part"] * 10)
    server.pause()
    took = []
    for number in range(6):
        began = time.monotonic()
        assert client.get(f"/{number}").text == " ".join(["part"] * 10)
        took.append(time.monotonic() - began)
    server.resume()
    app.extensions["rcache"].close()
    assert took[0] < 5.0  # a timeout of 1.0 s for each of its dozen calls would be more
    assert sorted(took[1:])[2] < 0.5  # not one timeout among the later requests but by bad luck


def herd(caches: list[CacheManager]) -> int:
    """Ten threads of each process ask for one key at the same time; how many loads that were."""
    loads = itertools.count()
    together = threading.Barrier(THREADS * len(caches), timeout=PATIENCE)

    def loader() -> str:
        next(loads)
        time.sleep(0.3)
        return "loaded"

    def ask(cache: CacheManager) -> str:
        together.wait()
        return cache.fetch(KIND, "k", loader)

    acts = [Act(lambda cache=cache: ask(cache)) for cache in caches for _ in range(THREADS)]  # type: ignore[misc]
    assert {act.result() for act in acts} == {"loaded"}
    return next(loads)


@pytest.mark.race
@pytest.mark.parametrize("how", ["FLUSHALL", "clear_all"])
def test_behaviour_20__no_herd_after_a_flush(any_server: Server, caches: Callable[..., CacheManager], how: str) -> None:
    """Everything is gone while everybody asks: one load in the whole fleet, or two when the flush comes between."""
    fleet = [caches(any_server.url, l1_ttl=2, timeout=10) for _ in range(3)]
    assert herd(fleet) == 1
    any_server.client().flushall() if how == "FLUSHALL" else fleet[0].clear_all()
    wait_until(lambda: not any(there(cache) for cache in fleet), timeout=PATIENCE, what="flushed")
    assert herd(fleet) <= 2


@pytest.mark.race
@pytest.mark.chaos
def test_behaviour_20__no_herd_after_a_recovery(
    private_server: Callable[..., Server], caches: Callable[..., CacheManager]
) -> None:
    """The server is back and empty: at most one load a process, and then hits."""
    server = private_server()
    fleet = [caches(server.url, timeout=5) for _ in range(3)]
    assert herd(fleet) == 1
    server.kill()
    for cache in fleet:
        assert cache.fetch(KIND, "other", lambda: "without") == "without"
    server.restart(wipe=True)
    wait_until(lambda: all(cache.is_available for cache in fleet), timeout=PATIENCE, what="recovered")
    assert herd(fleet) <= len(fleet)
    assert [cache.get(KIND, "k") for cache in fleet] == ["loaded"] * 3
