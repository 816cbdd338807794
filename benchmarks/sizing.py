"""How much memory a server needs: bytes that an entry takes there, with all that is kept beside it.

`python -m benchmarks.sizing` fills a private server with entries of several sizes, with and without tags of their own,
and prints how much memory each takes. Bodies are JSON, compressed as the settings' defaults say.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from typing import Any

from flask import Flask

from flask_rcache import CacheManager, CacheType, RCache
from tests.servers import Server, find_binary

_KIND = CacheType("sized", ttl=86_400, l1_ttl=0)
_BATCH = 500
_WORDS = [f"{first}{second}" for first in ("north", "south", "spring", "winter") for second in ("wind", "field", "way")]


def _body(size: int, chance: random.Random) -> str:
    """Text of about that size, as repetitive as a list of rows in JSON is."""
    rows: list[dict[str, Any]] = []
    length = 2
    while length < size:
        row = {"id": chance.randrange(10**6), "name": chance.choice(_WORDS), "price": chance.randrange(10**4) / 100}
        rows.append(row)
        length += len(json.dumps(row)) + 2
    return json.dumps(rows)[:size]


def _used(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


def _measured(cache: CacheManager, client: Any, entries: int, size: int, tags: int) -> tuple[float, float]:
    """Bytes of the stored value, and of memory, for each entry."""
    client.flushall()
    cache.set(_KIND, "first", "x")  # what there is once
    before, chance = _used(client), random.Random(7)
    if tags:
        for number in range(entries):
            own = [f"row:{number}:{tag}" for tag in range(tags)]
            cache.set(_KIND, f"k{number}", _body(size, chance), tags=own)
    else:
        for start in range(0, entries, _BATCH):
            cache.set_many(_KIND, {f"k{start + step}": _body(size, chance) for step in range(_BATCH)})
    stored = sum(int(client.strlen(f"cache:sized:k{number}")) for number in range(0, entries, 10)) / (entries / 10)
    return stored, (_used(client) - before) / entries


def main() -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000)
    options = parser.parse_args()
    with Server(find_binary("any")) as server, server.client() as client:
        app = Flask("sizing")
        app.config.update(RCACHE_URL=server.url)
        RCache(app, types=[_KIND])
        cache: CacheManager = app.extensions["rcache"]
        print(f"{server.binary}, {options.entries:,} entries, empty: {_used(client) / 1e6:.1f} MB\n")
        print(f"{'body':>8} {'tags':>5} {'stored':>8} {'memory':>8} {'beside the value':>17}")
        for size, tags in ((100, 0), (1_000, 0), (10_000, 0), (50_000, 0), (100, 1), (100, 5)):
            stored, memory = _measured(cache, client, options.entries // (10 if size > 10_000 else 1), size, tags)
            print(f"{size:>8,} {tags:>5} {stored:>8,.0f} {memory:>8,.0f} {memory - stored:>17,.0f}")
        cache.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
