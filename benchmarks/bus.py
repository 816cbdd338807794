"""How long another process serves what was invalidated: `python -m benchmarks.bus`.

Two processes with a memory tier share a Redis. One invalidates a tag; the other reads the entry again and again, and
notes when it has to load it anew. What is measured is the time from the return of the call to that load.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from flask import Flask

from benchmarks import report
from flask_rcache import CacheType, RCache, current_cache, invalidate_tags
from tests.servers import Server, find_binary

_ROWS = ("a process that waits for requests", "a process that computes meanwhile")
_PAUSE = 0.01


def _app(url: str) -> Flask:
    app = Flask("bus")
    app.config.update(RCACHE_URL=url, RCACHE_TIMEOUT=5.0)
    RCache(app)
    return app


def _compute() -> None:
    while True:
        sum(range(1000))


def _read(url: str, reports: Connection, *, computes: bool) -> None:
    """Read one entry for ever, and report the time of each load of it."""
    app = _app(url)
    if computes:
        threading.Thread(target=_compute, daemon=True).start()

    def load() -> int:
        reports.send(time.monotonic())
        return 1

    while True:
        with app.app_context():
            current_cache.fetch(CacheType.QUERY, "entry", load, tags=["entry"])
        time.sleep(0.0001)


def measured(url: str, invalidations: int, *, computes: bool) -> list[float]:
    """Milliseconds for which the other process served the old entry, of each invalidation."""
    ours, theirs = multiprocessing.Pipe()
    reader = multiprocessing.get_context("fork").Process(
        target=_read, args=(url, theirs), kwargs={"computes": computes}, daemon=True
    )
    reader.start()
    app, delays = _app(url), []
    ours.recv()
    for _ in range(invalidations):
        time.sleep(_PAUSE)  # the reader has it in its memory tier again
        with app.app_context():
            invalidate_tags("entry")
            returned = time.monotonic()
        delays.append(max(0.0, ours.recv() - returned) * 1000)
    reader.kill()
    reader.join()
    app.extensions["rcache"].close()
    return delays


def main(argv: Sequence[str] | None = None) -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bus", description=__doc__)
    parser.add_argument("--invalidations", type=int, default=300, help="of each row, at least 3")
    report.options(parser)
    options = parser.parse_args(argv)
    rows, binary = [], find_binary("any")
    for number, title in enumerate(_ROWS):
        with Server(binary) as server:
            delays = measured(server.url, options.invalidations, computes=bool(number))
        rows.append((title, f"{statistics.median(delays):.1f}", f"{statistics.quantiles(delays, n=100)[98]:.1f}"))
    report.show(
        report.Report(
            name="bus",
            title="How long another process serves what was invalidated",
            command="python -m benchmarks.bus",
            method=f"From the return of invalidate_tags; {options.invalidations} invalidations; {binary}.",
            columns=("", "p50 ms", "p99 ms"),
            rows=rows,
            bars=(),
            unit="ms",
        ),
        publish=options.publish,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
