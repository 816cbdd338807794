"""The application that clusters are tried on, under a real gunicorn: `tests.race.cluster_app:create_app()`.

Its source are counters in a file that the test writes. What a page shows is the counters that were read for it.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

from flask import Flask

from flask_rcache import CacheType, RCache, cache_response, cached

#: Counters, and so keys: several on every shard.
COUNTERS = 64
#: Seconds that the slow page takes.
SLOW_SECONDS = 0.8
_PAGE = CacheType("page", ttl=600)
_INNER = CacheType("inner", ttl=600)


class Counters:
    """Numbers in a file; one process writes them."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            path.write_bytes(bytes(8 * COUNTERS))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * COUNTERS)

    def read(self, number: int) -> int:
        """The value now."""
        return int(struct.unpack_from("q", self._map, 8 * number)[0])

    def increment(self, number: int) -> int:
        """Commit the next value."""
        value = self.read(number) + 1
        struct.pack_into("q", self._map, 8 * number, value)
        return value


def create_app() -> Flask:
    """Make the application; the store comes from the environment."""
    directory = Path(os.environ["RACE_DIRECTORY"])
    counters = Counters(directory / "counters")
    app = Flask(__name__)
    app.config.update(RCACHE_L1_TTL=0)
    RCache(app, types=[_PAGE, _INNER])

    @cached(_INNER, key_func=lambda number: number, tags=lambda number: [f"n:{number}"])
    def inner(number: int) -> int:
        return counters.read(number)

    @app.get("/plain/<int:number>")
    @cache_response(_PAGE, tags=lambda number: [f"n:{number}"])
    def plain(number: int) -> str:
        return str(counters.read(number))

    @app.get("/nested/<int:number>")
    @cache_response(_PAGE)
    def nested(number: int) -> str:
        return f"{inner(number)} {inner((number + 1) % COUNTERS)}"

    @app.get("/slow/<name>")
    @cache_response(_PAGE)
    def slow(name: str) -> str:
        descriptor = os.open(directory / f"runs-{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, b"%d\n" % os.getpid())
        os.close(descriptor)
        time.sleep(SLOW_SECONDS)
        return name

    return app
