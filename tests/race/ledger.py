"""The ledger: what every process of a race knows at once, in one memory-mapped file.

Owns the oracle and the tallies. The writer publishes a value here only *after* its invalidation returned, so a read
begun later must give that value or a newer one. A tally belongs to one thread, so nothing is locked and nothing is lost
when its process is killed. Times are `time.monotonic_ns()`, which all processes of a machine share.
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path

_SLOT = 8
_GO, _STOP, _ACKNOWLEDGED, _INVALIDATIONS, _JOURNALLED = range(5)
_READY, _PROCESSES = 16, 48
_TALLIES, _THREADS, _FIELDS = _READY + _PROCESSES, 512, 8
_TIMES = _TALLIES + _THREADS * _FIELDS
_VERSIONS = 1 << 16
_SIZE = (_TIMES + _VERSIONS) * _SLOT


class Tally:
    """What one reading thread counted.

    `reads` that gave a value · `hits` · `stale` reads · `errors` that reached the reader · `slowest_us` of the reads ·
    `oldest_us`: how long the oldest answer had been invalid when its read began.
    """

    FIELDS = ("reads", "hits", "stale", "errors", "slowest_us", "oldest_us")

    def __init__(self, slots: memoryview) -> None:
        self._slots = slots

    def add(self, field: str) -> None:
        """Count one more."""
        self._slots[self.FIELDS.index(field)] += 1

    def peak(self, field: str, value: int) -> None:
        """Keep the largest."""
        at = self.FIELDS.index(field)
        self._slots[at] = max(self._slots[at], value)

    def __getitem__(self, field: str) -> int:
        return int(self._slots[self.FIELDS.index(field)])


class Ledger:
    """One race's shared memory; every process opens the same file.

    Args:
        path: the file; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(_SIZE)
            self._slots = memoryview(mmap.mmap(file.fileno(), _SIZE)).cast("Q")

    # The oracle

    @property
    def acknowledged(self) -> int:
        """The newest value whose invalidation has returned: no read that begins now may give an older one."""
        return int(self._slots[_ACKNOWLEDGED])

    def acknowledge(self, value: int) -> None:
        """The invalidation of everything older than `value` has returned."""
        self._slots[_TIMES + value % _VERSIONS] = time.monotonic_ns()
        self._slots[_ACKNOWLEDGED] = value
        self._slots[_INVALIDATIONS] += 1

    def acknowledged_at(self, value: int) -> int:
        """When `value` was acknowledged, ns; good for the last 65,536 values."""
        return int(self._slots[_TIMES + value % _VERSIONS])

    @property
    def invalidations(self) -> int:
        """How many were acknowledged."""
        return int(self._slots[_INVALIDATIONS])

    @property
    def journalled(self) -> int:
        """How many times the writer was told that the store was away: those were not acknowledged."""
        return int(self._slots[_JOURNALLED])

    def journal(self) -> None:
        """The store was away, and the writer was told so."""
        self._slots[_JOURNALLED] += 1

    # The course of the race

    def ready(self, number: int) -> None:
        """Process `number` waits for the start."""
        self._slots[_READY + number] = 1

    def all_ready(self, count: int) -> bool:
        """Whether processes 0 to `count - 1` wait for the start."""
        return all(self._slots[_READY + number] for number in range(count))

    def start(self) -> None:
        """Go."""
        self._slots[_GO] = 1

    def stop(self) -> None:
        """Everybody ends the read or write at hand, and no more."""
        self._slots[_STOP] = 1

    @property
    def started(self) -> bool:
        """Whether the race is on."""
        return bool(self._slots[_GO])

    @property
    def stopped(self) -> bool:
        """Whether it is over."""
        return bool(self._slots[_STOP])

    def tally(self, thread: int) -> Tally:
        """The tally of a reading thread, by its number in the whole race."""
        if thread >= _THREADS:
            raise ValueError(f"a race has {_THREADS} reading threads at most")
        first = _TALLIES + thread * _FIELDS
        return Tally(self._slots[first : first + _FIELDS])
