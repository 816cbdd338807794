"""What a process holds at one moment, and whether that grows in a soak."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Sample", "growth", "middle"]

#: What a worker may hold more at the end than at a third of the time.
GROWTH_MB, GROWTH_THREADS, GROWTH_DESCRIPTORS = 4.0, 2.0, 4.0


class Sample(NamedTuple):
    """One process at one moment, `at` seconds from the start."""

    at: float
    rss_mb: float
    threads: float
    descriptors: float

    @classmethod
    def of(cls, pid: int, at: float) -> Sample:
        """Look at a process."""
        process = Path(f"/proc/{pid}")
        pages = int((process / "statm").read_text().split()[1])
        rss = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        return cls(at, rss, len(os.listdir(process / "task")), len(os.listdir(process / "fd")))

    def __str__(self) -> str:
        return (
            f"after {self.at:5.0f} s: {self.rss_mb:6.1f} MB {self.threads:3.0f} threads {self.descriptors:3.0f} files"
        )


def middle(samples: Sequence[Sample], seconds: float, part: float) -> Sample:
    """A process at a part of the time, 0 to 1: the medians over the tenth of it around that part."""
    near = [each for each in samples if abs(each.at / seconds - part) <= 0.06]
    return Sample(*map(statistics.median, zip(*near, strict=True)))


def growth(samples: Sequence[Sample], seconds: float) -> list[str]:
    """What a process holds more at the end of so many seconds than it may, in words."""
    before, after = middle(samples, seconds, 1 / 3), middle(samples, seconds, 0.95)
    checks = (
        ("MB", after.rss_mb - before.rss_mb, GROWTH_MB),
        ("threads", after.threads - before.threads, GROWTH_THREADS),
        ("open files", after.descriptors - before.descriptors, GROWTH_DESCRIPTORS),
    )
    return [f"{grown:.1f} {what} more, {limit} allowed" for what, grown, limit in checks if grown > limit]
