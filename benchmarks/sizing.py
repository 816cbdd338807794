"""How much memory a server needs: bytes that an entry takes there, with all that is kept beside it.

`python -m benchmarks.sizing` fills a private server with entries of several sizes, with and without tags of their own,
and prints how much memory each takes, beside the same values pickled, as other libraries store them. Bodies are JSON,
compressed as the settings' defaults say.
"""

from __future__ import annotations

import argparse
import pickle  # noqa: TID251 - what others store is measured, nothing is read
import random
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import report
from benchmarks.filled import cache_on, fill, json_body, used
from flask_rcache import CacheManager, CacheType
from tests.servers import Server, find_binary

_KIND = CacheType("sized", ttl=86_400, l1_ttl=0)
_CASES = ((100, 0), (1_000, 0), (10_000, 0), (50_000, 0), (100, 1), (100, 5))


def measured(cache: CacheManager, client: Any, entries: int, size: int, tags: int) -> tuple[float, float]:
    """Bytes of the stored value, and of memory, for each entry."""
    client.flushall()
    cache.set(_KIND, "first", "x")  # what there is once
    before, chance = used(client), random.Random(7)
    if tags:
        for number in range(entries):
            own = [f"row:{number}:{tag}" for tag in range(tags)]
            cache.set(_KIND, f"k{number}", json_body(size, chance), tags=own)
    else:
        fill(cache, _KIND, entries, lambda: json_body(size, chance))
    stored = sum(int(client.strlen(f"cache:sized:k{number}")) for number in range(0, entries, 10)) / (entries / 10)
    return stored, (used(client) - before) / entries


def pickled(client: Any, entries: int, size: int) -> float:
    """Bytes of memory for each entry of a library that pickles, and keeps nothing beside the value."""
    client.flushall()
    before, chance = used(client), random.Random(7)
    for number in range(entries):
        client.set(f"flask_cache_k{number}", pickle.dumps(json_body(size, chance)), ex=86_400)
    return (used(client) - before) / entries


def main(argv: Sequence[str] | None = None) -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    report.options(parser)
    options = parser.parse_args(argv)
    rows, bars = [], []
    with Server(find_binary("any")) as server, server.client() as client, cache_on(server, _KIND) as cache:
        empty = used(client)
        for size, tags in _CASES:
            entries = options.entries // (10 if size > 10_000 else 1)
            stored, memory = measured(cache, client, entries, size, tags)
            other = pickled(client, entries, size)
            label = f"{size:,} bytes" + (f", {tags} tag{'s' * (tags > 1)} of its own" if tags else "")
            rows.append((label, f"{stored:,.0f}", f"{memory:,.0f}", f"{memory - stored:,.0f}", f"{other:,.0f}"))
            bars += [report.Bar(f"{label}: flask_rcache", memory, "ours"), report.Bar(f"{label}: pickled", other)]
        binary = str(server.binary)
    found = report.Report(
        name="sizing",
        title="Memory of an entry in Redis, in bytes",
        command="python -m benchmarks.sizing",
        method=f"JSON of rows, {options.entries:,} entries; {binary}, {empty / 1e6:.1f} MB when it is empty.",
        columns=("body", "stored", "memory", "beside the value", "pickled, as others do"),
        rows=rows,
        bars=bars,
        unit="bytes of Redis's memory",
        logarithmic=True,
    )
    report.show(found, publish=options.publish)
    return 0


if __name__ == "__main__":
    sys.exit(main())
