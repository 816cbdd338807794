"""Counters: exact under threads, and the figures made of them."""

from __future__ import annotations

import threading
from typing import Any

from flask_rcache.engine.statistics import Statistics


def test_add__exact_under_threads() -> None:
    """No count is lost."""
    statistics = Statistics()

    def count() -> None:
        for _ in range(5000):
            statistics.of("search").add("hits")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statistics.of("search").snapshot()["hits"] == 20_000


def test_report__figures() -> None:
    """Rates to two decimals, in all and by type; what belongs to no type counts in all only."""
    statistics = Statistics()
    for name, amount in (("hits", 2), ("misses", 1), ("load_seconds", 0.12345678)):
        statistics.of("search").add(name, amount)
    statistics.of("product").add("stale")
    statistics.of("").add("errors", 3)
    report: Any = statistics.report(is_available=False)
    assert (report["hits"], report["misses"], report["stale"], report["errors"]) == (2, 1, 1, 3)
    assert (report["total_requests"], report["hit_rate"]) == (4, 50.0)
    assert report["is_available"] is False
    assert set(report["by_type"]) == {"search", "product"}
    assert report["by_type"]["search"]["hit_rate"] == 66.67
    assert report["by_type"]["search"]["load_seconds"] == 0.123457
    assert report["by_type"]["product"]["hit_rate"] == 0.0


def test_report__nothing_counted() -> None:
    """No requests, no rate."""
    report: Any = Statistics().report(is_available=True)
    assert (report["total_requests"], report["hit_rate"], report["by_type"]) == (0, 0.0, {})
