"""A cache in a process of its own that does what it is told: `python -m tests.stores.release URL`, JSON in and out.

Which release of the package it is of is decided by what lies first on the path.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from flask_rcache.codec.envelope import MAGIC
from flask_rcache.engine.manager import CacheManager
from tests.processes import wait_until
from tests.twenty.kit import KIND, PATIENCE, cache_on, invalidate

#: Names of the keys that both releases fetch in a loop.
KEYS = ("k0", "k1", "k2")


def listens(cache: CacheManager) -> CacheManager:
    """The same once it hears of invalidations, so that its memory tier is in use."""
    cache.get(KIND, "k")
    wait_until(lambda: cache.overview()["bus"]["state"] == "alive", timeout=PATIENCE, what="the bus")
    return cache


def main(url: str) -> None:
    """Answer each line until there are no more."""
    cache = listens(cache_on(url, l1_ttl=600))
    loads = 0

    def load(value: object) -> object:
        nonlocal loads
        loads += 1
        return value

    def loop(seconds: float, value: object) -> float:
        """Fetch some keys again and again; the longest time that one took."""
        end, longest = time.monotonic() + seconds, 0.0
        while time.monotonic() < end:
            for key in KEYS:
                began = time.monotonic()
                if cache.fetch(KIND, key, lambda: value, tags=["t"]) != value:
                    raise AssertionError("an answer of the other release's")
                cache.fresh()
                longest = max(longest, time.monotonic() - began)
        return longest

    acts: dict[str, Callable[..., object]] = {
        "magic": lambda: MAGIC.hex(),
        "get": lambda key: cache.get(KIND, key),
        "set": lambda key, value: cache.set(KIND, key, value, tags=["t"]),
        "fetch": lambda key, value: cache.fetch(KIND, key, lambda: load(value), tags=["t"]),
        "loads": lambda: loads,
        "invalidate": lambda means, key: invalidate(cache, means, key),
        "loop": loop,
    }
    for line in sys.stdin:
        name, *args = json.loads(line)
        print(json.dumps(acts[name](*args)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
