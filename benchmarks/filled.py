"""A cache with many entries in it, on a server of its own: for what is measured of large caches."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask

from flask_rcache import CacheManager, CacheType, RCache
from tests.servers import Server

_BATCH = 2000
_WORDS = [f"{first}{second}" for first in ("north", "south", "spring", "winter") for second in ("wind", "field", "way")]


@contextlib.contextmanager
def cache_on(server: Server, *types: CacheType) -> Iterator[CacheManager]:
    """The manager of an application on the server, which knows the types."""
    app = Flask("filled")
    # Filling sends megabytes at once, on a machine that may be busy; what is measured has its own clock.
    app.config.update(RCACHE_URL=server.url, RCACHE_TIMEOUT=10.0)
    RCache(app, types=types)
    manager: CacheManager = app.extensions["rcache"]
    try:
        yield manager
    finally:
        manager.close()


def fill(cache: CacheManager, kind: CacheType, count: int, value: Callable[[], object] = lambda: "x" * 100) -> None:
    """Store so many entries of a type, under the keys ``k0``, ``k1`` and so on.

    Raises:
        AssertionError: one was not stored.
    """
    for start in range(0, count, _BATCH):
        values = {f"k{number}": value() for number in range(start, min(start + _BATCH, count))}
        cache.set_many(kind, values)
    if cache.get(kind, f"k{count - 1}") is None:
        raise AssertionError(f"the last of {count} entries of {kind.name} is not there")


def plain_fill(client: Any, prefix: str, count: int, value: bytes = b"x" * 100) -> None:
    """Store so many strings under ``PREFIX0``, ``PREFIX1`` …, as libraries do that keep nothing beside them."""
    for start in range(0, count, _BATCH):
        pipeline = client.pipeline(transaction=False)
        for number in range(start, min(start + _BATCH, count)):
            pipeline.set(f"{prefix}{number}", value, ex=86_400)
        pipeline.execute()


def json_body(size: int, chance: random.Random) -> str:
    """Text of about that size, as repetitive as a list of rows in JSON is."""
    rows: list[dict[str, Any]] = []
    length = 2
    while length < size:
        row = {"id": chance.randrange(10**6), "name": chance.choice(_WORDS), "price": chance.randrange(10**4) / 100}
        rows.append(row)
        length += len(json.dumps(row)) + 2
    return json.dumps(rows)[:size]


def used(client: Any) -> int:
    """Bytes of memory that the server uses."""
    return int(client.info("memory")["used_memory"])
