"""What a large cache costs: hits, invalidation and memory with a thousand entries and with a million.

`python -m benchmarks.growth` fills a private server with values of 100 bytes under one type, measures hits of random
keys, prints the bytes that an entry takes beside its own, and times the invalidation of the type.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time

from flask import Flask

from flask_rcache import CacheManager, CacheType, RCache
from tests.servers import Server, find_binary

_KIND = CacheType("grown", ttl=86_400, l1_ttl=0)
_VALUE = "x" * 100
_BATCH = 2000


def _fill(cache: CacheManager, first: int, last: int) -> None:
    for start in range(first, last, _BATCH):
        cache.set_many(_KIND, {f"k{number}": _VALUE for number in range(start, min(start + _BATCH, last))})


def _hits(cache: CacheManager, entries: int) -> float:
    """Microseconds of a hit, the median of many."""
    times = []
    for _ in range(3000):
        key = f"k{random.randrange(entries)}"
        began = time.perf_counter()
        value = cache.get(_KIND, key)
        times.append(time.perf_counter() - began)
        if value != _VALUE:
            raise AssertionError(f"{key} is not there")
    return statistics.median(times) * 1e6


def main() -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    options = parser.parse_args()
    with Server(find_binary("any")) as server, server.client() as client:
        app = Flask("growth")
        app.config.update(RCACHE_URL=server.url)
        RCache(app, types=[_KIND])
        cache: CacheManager = app.extensions["rcache"]
        _fill(cache, 0, 1000)
        small = _hits(cache, 1000)
        _fill(cache, 1000, options.entries)
        large = _hits(cache, options.entries)
        used = client.info("memory")["used_memory"] / options.entries
        own = statistics.mean(client.memory_usage(f"cache:grown:k{n}") or 0 for n in range(0, options.entries, 997))
        began = time.perf_counter()
        removed = cache.invalidate_type(_KIND)
        took = time.perf_counter() - began
        print(f"{server.binary}, {options.entries:,} entries")
        print(f"a hit: {small:.0f} µs with 1,000 entries, {large:.0f} µs with all ({large / small:.2f} times)")
        print(f"memory: {own:.0f} bytes an entry, {used - own:.0f} beside it")
        print(f"invalidating the type: {took * 1e3:.2f} ms for {removed:,} entries")
        if cache.get(_KIND, "k1") is not None:
            raise AssertionError("an entry survived the invalidation")
        cache.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
