"""The ledger: what every process of a race knows at once, in one memory-mapped file.

Owns the oracle and the tallies. The writer publishes a value here only *after* its invalidation returned, so a read
begun later must give that value or a newer one. A tally belongs to one thread, so nothing is locked and nothing is lost
when its process is killed. Times are `time.monotonic_ns()`, which all processes of a machine share.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.race.ages import BUCKETS, bucket

_SLOT = 8
_GO, _STOP, _ACKNOWLEDGED, _INVALIDATIONS, _JOURNALLED, _JOURNALLED_US, _LONGEST_JOURNALLED_US, _SILENT = range(8)
_READY, _PROCESSES = 16, 112
_TALLIES, _THREADS, _FIELDS = _READY + _PROCESSES, 512, 8
_TIMES = _TALLIES + _THREADS * _FIELDS
_VERSIONS = 1 << 16
_AGES = _TIMES + _VERSIONS
_LAST = _AGES + _THREADS * BUCKETS
_LAST_VERSIONS = 1 << 14
_SIZE = (_LAST + _THREADS * _LAST_VERSIONS) * _SLOT  # hardly any of it is touched: the file is sparse


class Tally:
    """What one reading thread counted.

    `reads` that gave a value · `hits` · `stale` reads · `late` ones: older than the scenario allows · `errors` that
    reached the reader · `slowest_us` of the reads · `oldest_us`: how long the oldest answer had been invalid when its
    read began. Beside them, the ages of all stale answers, and when each outdated value was read last.
    """

    FIELDS = ("reads", "hits", "stale", "late", "errors", "slowest_us", "oldest_us")

    def __init__(self, slots: memoryview, ages: memoryview, last: memoryview) -> None:
        self._slots = slots
        self._ages = ages
        self._last = last

    def add(self, field: str) -> None:
        """Count one more."""
        self._slots[self.FIELDS.index(field)] += 1

    def peak(self, field: str, value: int) -> None:
        """Keep the largest."""
        at = self.FIELDS.index(field)
        self._slots[at] = max(self._slots[at], value)

    def served_old(self, value: int, age_us: int, began: int) -> None:
        """A read that `began` (ns) gave `value`, which had been outdated for `age_us`."""
        self.add("stale")
        self.peak("oldest_us", age_us)
        self._ages[bucket(age_us)] += 1
        self._last[value % _LAST_VERSIONS] = began

    @property
    def ages(self) -> list[int]:
        """The histogram of the stale answers' ages, see `tests.race.ages`."""
        return self._ages.tolist()

    def last_read(self, value: int) -> int:
        """When the last read began that gave an outdated `value`, ns, or 0; good for the last 16,384 values."""
        return int(self._last[value % _LAST_VERSIONS])

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

    def outdated_at(self, value: int) -> int:
        """When the first invalidation returned that outdated `value`, ns; good for the last 65,536 values."""
        return next(at for _, at in self._acknowledgements(since=value))

    def _acknowledgements(self, *, since: int) -> Iterator[tuple[int, int]]:
        """The values after `since`, and when they were acknowledged.

        One is missing when its writer was killed before the invalidation had returned.
        """
        for value in range(since + 1, self.acknowledged + 1):
            at = int(self._slots[_TIMES + value % _VERSIONS])
            if at:
                yield value, at

    def oldest_answers(self, tallies: Sequence[Tally]) -> Iterator[int]:
        """For each invalidation, how long after its return somebody was given anything older, in µs; 0 for nobody."""
        last, known = 0, max(0, self.acknowledged - _LAST_VERSIONS)
        for value, at in self._acknowledgements(since=known):
            last = max(last, *(tally.last_read(older) for tally in tallies for older in range(known, value)))
            known = value
            yield max(0, last - at) // 1000

    @property
    def invalidations(self) -> int:
        """How many were acknowledged."""
        return int(self._slots[_INVALIDATIONS])

    @property
    def journalled(self) -> int:
        """How many times the writer was told that its invalidation is journalled: no promise yet."""
        return int(self._slots[_JOURNALLED])

    @property
    def journalled_us(self) -> tuple[int, int]:
        """How long journals waited to be delivered, in all and the longest."""
        return int(self._slots[_JOURNALLED_US]), int(self._slots[_LONGEST_JOURNALLED_US])

    def journal(self) -> None:
        """The store was away, and the writer was told so."""
        self._slots[_JOURNALLED] += 1

    def journal_delivered(self, told: int) -> None:
        """The journal that the writer was told of at `told` (ns) has reached the store."""
        window = (time.monotonic_ns() - told) // 1000
        self._slots[_JOURNALLED_US] += window
        self._slots[_LONGEST_JOURNALLED_US] = max(self._slots[_LONGEST_JOURNALLED_US], window)

    @property
    def silent(self) -> bool:
        """Whether the writer holds still: an outdated value that nobody noticed is not outdated once more."""
        return time.monotonic_ns() < self._slots[_SILENT]

    def silence(self, seconds: float) -> None:
        """Have the writer hold still from its next write on."""
        self._slots[_SILENT] = time.monotonic_ns() + int(seconds * 1e9)

    # The course of the race

    def ready(self, number: int) -> None:
        """Process `number` waits for the start, or goes on where another was killed."""
        if number >= _PROCESSES:
            raise ValueError(f"a race has {_PROCESSES} processes at most")
        self._slots[_READY + number] = 1

    def is_ready(self, number: int) -> bool:
        """Whether process `number` was ready once."""
        return bool(self._slots[_READY + number])

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
        fields, ages = _TALLIES + thread * _FIELDS, _AGES + thread * BUCKETS
        last = _LAST + thread * _LAST_VERSIONS
        return Tally(
            self._slots[fields : fields + _FIELDS],
            self._slots[ages : ages + BUCKETS],
            self._slots[last : last + _LAST_VERSIONS],
        )
