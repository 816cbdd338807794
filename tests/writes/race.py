"""The race of write-through, in processes of its own: `python -m tests.writes.race URL FOLDER SECONDS`.

Four writers count a number up at the source, a file that all of them map, and write it through with it as its version.
Each notes the last number whose write has returned in its slot of a shared file. Two readers look at the slots before
each read: what they then get must not be less. What was wrong is printed.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask

from flask_rcache import CacheType, RCache, current_cache

ROLES = ("writer",) * 4 + ("reader",) * 2
NUMBER = CacheType("number", ttl=600, l1_ttl=0)


class OvertakenError(Exception):
    """The source has a newer version."""


class Source:
    """A file: the version that was written last, and the last one that was given out."""

    def __init__(self, folder: Path) -> None:
        self._numbers = _mapped(folder / "source", 2)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def next_version(self) -> int:
        with self._locked():
            self._numbers[1] += 1
            return int(self._numbers[1])

    def save(self, version: int) -> None:
        """Write a version that is newer than what is there.

        Raises:
            OvertakenError: it is not.
        """
        with self._locked():
            if version < self._numbers[0]:
                raise OvertakenError
            self._numbers[0] = version

    def load(self) -> int:
        return int(self._numbers[0])


def slots(folder: Path) -> memoryview:
    """The last numbers that were written through, of each writer."""
    return _mapped(folder / "slots", len(ROLES))


def _mapped(path: Path, numbers: int) -> memoryview:
    if not path.exists():
        path.write_bytes(bytes(8 * numbers))
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 8 * numbers)).cast("q")


def make_app(url: str) -> Flask:
    app = Flask("race")
    app.config.update(RCACHE_URL=url, RCACHE_TIMEOUT=5.0)
    RCache(app, types=[NUMBER])
    return app


def say(line: str) -> None:
    """Print a line at once, whole among those of the others."""
    os.write(1, f"{line}\n".encode())


def write(app: Flask, source: Source, returned: memoryview, slot: int, ends: float) -> int:
    """Write through until the time is over; how many were written."""
    done = 0
    while time.monotonic() < ends:
        with app.app_context():
            version = source.next_version()
            try:
                current_cache.write_through(NUMBER, "n", version, source.save, version=version)
            except OvertakenError:
                continue
            returned[slot] = max(version, returned[slot])
            done += 1
    return done


def read(app: Flask, source: Source, returned: memoryview, ends: float) -> tuple[int, int]:
    """Read until the time is over; how many reads there were, and how many loads. What is too old is printed."""
    done, loads = 0, 0

    def load() -> int:
        nonlocal loads
        loads += 1
        return source.load()

    while time.monotonic() < ends:
        least = max(returned)
        with app.app_context():
            value = current_cache.fetch(NUMBER, "n", load)
        if value < least:
            say(f"stale: read {value} after {least} was written")
        done += 1
    return done, loads


def run(role: str, url: str, folder: Path, slot: int, seconds: float) -> None:
    """One of the processes."""
    app, source, returned = make_app(url), Source(folder), slots(folder)
    with app.app_context():
        current_cache.fresh()
    ends = time.monotonic() + seconds
    if role == "writer":
        say(f"writes {write(app, source, returned, slot, ends)}")
    else:
        reads, loads = read(app, source, returned, ends)
        say(f"reads {reads}\nloads {loads}")
    app.extensions["rcache"].close()


def main(url: str, folder: Path, seconds: float) -> None:
    slots(folder)
    Source(folder)  # both files are there before anybody opens them
    children = []
    for slot, role in enumerate(ROLES):
        child = os.fork()
        if not child:
            run(role, url, folder, slot, seconds)
            os._exit(0)
        children.append(child)
    for child in children:
        _, status = os.waitpid(child, 0)
        if status:
            say(f"failed: process {child} ended with {status}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
