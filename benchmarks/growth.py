"""What a large cache costs: hits and invalidations with a thousand entries and with a million.

`python -m benchmarks.growth` fills a private server with entries of 100 bytes, a type for each power of ten, measures
hits of random keys when all of them are there, and times the invalidation of each type. `--processes` has as many
readers at once, each in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Sequence

from benchmarks import report
from benchmarks.filled import cache_on, fill, used
from flask_rcache import CacheManager, CacheType
from tests.servers import Server, find_binary


def _kind(entries: int) -> CacheType:
    return CacheType(f"grown{entries}", ttl=86_400, l1_ttl=0)


def _hits(cache: CacheManager, kind: CacheType, entries: int, *, reads: int = 3000) -> float:
    """Microseconds of a hit, the median of many."""
    times = []
    for _ in range(reads):
        key = f"k{random.randrange(entries)}"
        began = time.perf_counter()
        value = cache.get(kind, key)
        times.append(time.perf_counter() - began)
        if value is None:
            raise AssertionError(f"{key} is not there")
    return statistics.median(times) * 1e6


def _reader(server: Server, entries: int, seconds: float, results: multiprocessing.SimpleQueue[int]) -> None:
    kind, count = _kind(entries), 0
    with cache_on(server, kind) as cache:
        cache.get(kind, "k0")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            count += cache.get(kind, f"k{random.randrange(entries)}") is not None
    results.put(count)


def together(server: Server, entries: int, processes: int, seconds: float) -> float:
    """Hits a second of so many processes at the same time."""
    context = multiprocessing.get_context("fork")
    results: multiprocessing.SimpleQueue[int] = context.SimpleQueue()
    readers = [context.Process(target=_reader, args=(server, entries, seconds, results)) for _ in range(processes)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return sum(results.get() for _ in readers) / seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the largest type")
    parser.add_argument("--processes", default="1,2,4", help="how many readers at once, with commas between")
    parser.add_argument("--seconds", type=float, default=3.0, help="for which they read")
    report.options(parser)
    options = parser.parse_args(argv)
    sizes = [size for size in (1000, 10_000, 100_000) if size < options.entries] + [options.entries]
    rows, bars = [], []
    with Server(find_binary("any")) as server, server.client() as client:
        processes = [int(each) for each in options.processes.split(",")]
        with cache_on(server, *(_kind(size) for size in sizes)) as cache:
            for size in sizes[:-1]:
                fill(cache, _kind(size), size)
            before = used(client)
            fill(cache, _kind(sizes[-1]), sizes[-1])
            memory = (used(client) - before) / sizes[-1]
            hits = {size: _hits(cache, _kind(size), size) for size in sizes}
        rates = {count: together(server, sizes[0], count, options.seconds) for count in processes}
        with cache_on(server, *(_kind(size) for size in sizes)) as cache:
            for size in sizes:
                cache.get(_kind(size), "k1")
                began = time.perf_counter()
                removed = cache.invalidate_type(_kind(size))
                took = (time.perf_counter() - began) * 1e3
                if removed < size or cache.get(_kind(size), "k1") is not None:
                    raise AssertionError(f"{removed} of {size} entries were invalidated")
                rows.append(
                    (
                        f"{size:,} entries",
                        f"{hits[size]:.0f} µs",
                        f"{hits[size] / hits[sizes[0]]:.2f}",
                        f"{took:.2f} ms",
                    )
                )
                bars.append(report.Bar(f"a hit, {size:,} entries", hits[size], "ours"))
        for count, rate in rates.items():
            share = rate / rates[processes[0]]
            rows.append((f"{count} processes at once", f"{rate:,.0f} hits/s", f"{share:.2f}", ""))
        binary = str(server.binary)
    found = report.Report(
        name="growth",
        title="A hit in Redis, with more and more entries",
        command="python -m benchmarks.growth",
        method=f"Values of 100 bytes, the memory tier off; {memory:.0f} bytes of memory for each entry; {binary}.",
        columns=("", "a hit", "× the first", "invalidating the type"),
        rows=rows,
        bars=bars,
        unit="µs",
    )
    report.show(found, publish=options.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main())
