"""Makes applications and forgets them, and tells what is left: `python -m tests.chaos.creations URL COUNT`.

A process of its own, so that no thread and no socket in it is anybody else's. Prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from contextlib import suppress
from typing import TypedDict

from flask import Flask

from flask_rcache import CacheType, RCache, cache_response
from tests.processes import wait_until

_FIRST = 20
_COLLECTED_EVERY = 10
_ENDING_SECONDS = 25.0
#: Applications that are garbage end with the next collection; more threads than that at a time are nobody's garbage.
_TOO_MANY = 800


class Report(TypedDict):
    """Threads and open files (`/proc/self`) before, at most, and at the end; how many were made, and read a hit."""

    before: tuple[int, int]
    peak: tuple[int, int]
    after: tuple[int, int]
    made: int
    hits: int
    rss_mb: tuple[float, float]


def _counts() -> tuple[int, int]:
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def _rss_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _use_one(url: str) -> str:
    """Make an application as a factory does, read one page through its cache, and forget it."""
    app = Flask("creation")
    app.config.update(RCACHE_URL=url, TRUSTED_HOSTS=["localhost"], RCACHE_TIMEOUT=5, RCACHE_ADMIN=False)
    rcache = RCache()
    rcache.init_app(app)

    @app.get("/page")
    @cache_response(CacheType.PRODUCT)
    def page() -> str:
        return "page"

    return app.test_client().get("/page").headers["X-Cache"]


def _quiet(most: tuple[int, int]) -> tuple[int, int]:
    """What is left once threads had the time to end; at best `most`."""
    collected = 0.0

    def ended() -> bool:
        nonlocal collected
        if time.monotonic() > collected + 0.3:
            gc.collect()
            collected = time.monotonic()
        return all(now <= limit for now, limit in zip(_counts(), most, strict=True))

    with suppress(TimeoutError):  # the figures tell
        wait_until(ended, timeout=_ENDING_SECONDS, what="the end of threads and sockets")
    return _counts()


def run(url: str, count: int) -> Report:
    """Make so many applications, one after another."""
    at_start = _counts()
    for _ in range(_FIRST):  # what the first ones leave for good (imports, the resolver) is no growth
        _use_one(url)
    before, rss = _quiet(at_start), _rss_mb()
    peak, made, hits = before, 0, 0
    while made < count and peak[0] < _TOO_MANY:
        made += 1
        hits += _use_one(url) == "HIT"
        if made % _COLLECTED_EVERY == 0:  # as a long-lived process does by itself, sooner: hundreds of threads are slow
            gc.collect()
        now = _counts()
        peak = (max(peak[0], now[0]), max(peak[1], now[1]))
    return Report(before=before, peak=peak, after=_quiet(before), made=made, hits=hits, rss_mb=(rss, _rss_mb()))


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]))))
