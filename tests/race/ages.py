"""How old outdated answers were: a histogram that costs its thread one addition, and what is read off it.

Owns the buckets and the summary. Ages are whole microseconds; a bucket is an eighth of an octave wide, so that a
percentile is right to about a tenth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Enough for 67 seconds.
BUCKETS = 192


def bucket(age_us: int) -> int:
    """The bucket of an age.

    >>> [bucket(age) for age in (0, 7, 8, 15, 16, 17, 18, 2_000_000)]
    [0, 7, 8, 15, 16, 16, 17, 151]
    """
    octave = max(0, age_us.bit_length() - 4)
    return min(BUCKETS - 1, octave * 8 + (age_us >> octave))


def ceiling(index: int) -> int:
    """The largest age in a bucket.

    >>> all(ceiling(bucket(age)) >= age > 0.85 * ceiling(bucket(age)) for age in range(100, 3_000_000, 97))
    True
    """
    octave = max(0, index // 8 - 1)
    return ((index - octave * 8 + 1) << octave) - 1


@dataclass(frozen=True, slots=True)
class Ages:
    """How old they were, in microseconds; all 0 when there were none."""

    count: int = 0
    p50_us: int = 0
    p99_us: int = 0
    max_us: int = 0

    @classmethod
    def of(cls, ages: Iterable[int]) -> Ages:
        """The summary of single ages."""
        ranked = sorted(ages)
        if not ranked:
            return cls()
        count = len(ranked)
        return cls(count, ranked[(count - 1) // 2], ranked[(count - 1) * 99 // 100], ranked[-1])

    @classmethod
    def counted(cls, counts: Sequence[int], *, max_us: int) -> Ages:
        """The summary of a histogram; the largest is known exactly."""
        total = sum(counts)
        if not total:
            return cls()

        def percentile(percent: int) -> int:
            rank, seen = (total - 1) * percent // 100, 0
            for index, count in enumerate(counts):
                seen += count
                if seen > rank:
                    return min(ceiling(index), max_us)
            return max_us

        return cls(total, percentile(50), percentile(99), max_us)

    def __str__(self) -> str:
        p50, p99, largest = (each / 1000 for each in (self.p50_us, self.p99_us, self.max_us))
        return f"p50 {p50:.1f} ms  p99 {p99:.1f} ms  max {largest:.1f} ms"
