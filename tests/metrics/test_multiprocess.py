"""Prometheus' multiprocess mode, under a real gunicorn: what the workers count adds up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.multiprocess import mark_process_dead

from tests.metrics.kit import Series, parsed, value
from tests.processes import ROOT, wait_until
from tests.servers import Gunicorn

WORKERS = 4


@pytest.fixture
def web(redis_server, gunicorn: Callable[..., Gunicorn], tmp_path: Path, request: pytest.FixtureRequest) -> Gunicorn:
    """Four workers with one Redis and one directory for the metrics."""
    env = {"RCACHE_URL": redis_server.url, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    return gunicorn(
        "tests.metrics.apps:create_app()", workers=WORKERS, env=env, preload=getattr(request, "param", False)
    )


def _scrape(web: Gunicorn) -> Series:
    status, _, body = web.get("/metrics")
    assert status == 200, web.log()
    return parsed(body.decode())


def _visit(web: Gunicorn, workers: int) -> tuple[Counter[str], set[str]]:
    """Ask for pages until so many workers have answered; what the client saw, and who answered.

    Each page is asked for once before the crowd comes: a reader served by another's load sees a HIT and counts as a
    miss.
    """
    seen: Counter[str] = Counter()
    pids: set[str] = set()

    def one(number: int) -> tuple[str, str]:
        status, headers, _ = web.get(f"/page/{number % 10}")
        assert status == 200, web.log()
        return headers["X-Cache"], headers["X-Worker"]

    for number in range(10):
        outcome, pid = one(number)
        seen[outcome] += 1
        pids.add(pid)
    with ThreadPoolExecutor(8) as pool:

        def all_answered() -> bool:
            for outcome, pid in pool.map(one, range(100)):
                seen[outcome] += 1
                pids.add(pid)
            return len(pids) >= workers

        wait_until(all_answered, timeout=60, what=f"an answer of {workers} workers")
    return seen, pids


@pytest.mark.parametrize("web", [False, True], indirect=True, ids=["forked", "preloaded"])
def test_workers__add_up_to_what_the_client_saw(web: Gunicorn) -> None:
    """Hits, misses and timed hits over four workers are those of the answers' headers."""
    seen, _ = _visit(web, WORKERS)
    series = _scrape(web)
    hits = value(series, "cache_hits_total", key_prefix="dashboard") or 0
    misses = value(series, "cache_misses_total", key_prefix="dashboard") or 0
    assert seen["HIT"] > 0
    assert hits + misses == sum(seen.values())
    assert (hits, misses) == (seen["HIT"], seen["MISS"])
    assert value(series, "cache_latency_seconds_count", key_prefix="dashboard", operation="hit") == hits


def test_workers__show_the_state_of_the_cache(web: Gunicorn) -> None:
    """The gauges come without a scrape asking Redis: entries once, memory tiers of all workers together."""
    _visit(web, WORKERS)

    def known() -> bool:
        series = _scrape(web)
        entries = value(series, "cache_entries", cache="cache", key_prefix="dashboard")
        limit = value(series, "cache_memory_tier_max_bytes", cache="cache") or 0
        return entries == 10 and limit == WORKERS * (64 << 20)

    wait_until(known, timeout=60, what="the gauges of four workers")
    series = _scrape(web)
    assert value(series, "cache_breaker_open", cache="cache") == 0
    assert value(series, "cache_available", cache="cache") == 1
    assert (value(series, "cache_server_memory_bytes", cache="cache") or 0) > 0


def test_workers__one_that_died_is_no_longer_in_the_gauges(web: Gunicorn, tmp_path: Path) -> None:
    """After `mark_process_dead`, as the documentation's gunicorn hook does, its memory tier is counted no more."""
    _, pids = _visit(web, WORKERS)

    def limit() -> float:
        return value(_scrape(web), "cache_memory_tier_max_bytes", cache="cache") or 0

    wait_until(lambda: limit() == WORKERS * (64 << 20), timeout=60, what="the gauges of four workers")
    counted = value(_scrape(web), "cache_misses_total", key_prefix="dashboard")
    victim = int(pids.pop())
    web.kill_worker(victim)
    web.wait_for_workers()
    mark_process_dead(victim, path=str(tmp_path))
    assert limit() == (WORKERS - 1) * (64 << 20)
    assert value(_scrape(web), "cache_misses_total", key_prefix="dashboard") == counted


_THREADS = """
import threading
from flask import Flask
from prometheus_client import CollectorRegistry
from flask_rcache import CacheType, RCache
from flask_rcache.metrics.prometheus import instrument, uninstrument
from tests.processes import wait_until

def running():
    return [thread.name for thread in threading.enumerate() if thread.name == "flask_rcache-metrics"]

registry = CollectorRegistry()
managers = []
for number in range(30):
    app = Flask(str(number))
    app.config["RCACHE_URL"] = "memory://"
    RCache(app)
    managers.append(app.extensions["rcache"])
    instrument(managers[-1], registry=registry)
assert running() == []  # nothing was counted yet
for manager in managers:
    manager.get(CacheType.QUERY, "k")
assert running() == ["flask_rcache-metrics"]
wait_until(
    lambda: registry.get_sample_value("cache_available", {"cache": "cache"}) == 1, timeout=30, what="the first round"
)
for manager in managers:
    uninstrument(manager, registry=registry)
wait_until(lambda: running() == [], timeout=30, what="the end of the thread")
instrument(managers[0], registry=registry)
managers[0].get(CacheType.QUERY, "k")
assert running() == ["flask_rcache-metrics"]
print("fine")
"""


def test_thread__is_one_for_all_apps_and_ends_with_the_last(tmp_path: Path) -> None:
    """The thread that sets the gauges starts with the first count, is one for thirty apps, and can be stopped."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", _THREADS], env=env, cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (result.returncode, result.stdout) == (0, "fine\n"), result.stderr
