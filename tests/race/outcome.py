"""What a race showed: the figures, and how they are told."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.race.ages import Ages
from tests.race.chaos import Torments
from tests.race.ledger import Tally
from tests.race.scenarios import Scenario
from tests.race.subject import Way


@dataclass(frozen=True, slots=True)
class Figures:
    """What the readers of one way, or of all, saw; see `Tally`."""

    reads: int
    hits: int
    stale: int
    late: int
    errors: int
    slowest_us: int
    oldest_us: int

    @classmethod
    def of(cls, tallies: list[Tally]) -> Figures:
        """Sums, and the largest where the largest counts."""
        return cls(
            **{name: (max if name.endswith("_us") else sum)(tally[name] for tally in tallies) for name in Tally.FIELDS}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a race showed.

    Attributes:
        by_way: the figures of each way of reading.
        invalidations: that returned and were acknowledged, or journalled and delivered.
        journalled: times the writer was told that its invalidation is journalled.
        journalled_us: how long journals waited to be delivered, in all and the longest.
        ages: of the stale reads, from when what they gave was invalidated to when they began.
        oldest: for each invalidation, how long after its return somebody was still given anything older; 0 for nobody.
        statistics: the caches' own counters, summed over the processes that lived to the end.
        evicted: keys that the server evicted.
        epochs: how many stamp sets there were; each after the first replaces one that was lost.
        torments: what was done to the fleet.
        stale_reads: the first ones that were late, one JSON object each.
        failures: tracebacks.
    """

    scenario: Scenario
    server: str
    seconds: float
    by_way: dict[Way, Figures]
    total: Figures
    invalidations: int
    journalled: int
    journalled_us: tuple[int, int]
    ages: Ages
    oldest: Ages
    statistics: dict[str, float]
    evicted: int
    epochs: int
    torments: Torments
    stale_reads: list[str] = field(default_factory=list)
    failures: str = ""

    @property
    def stale(self) -> int:
        """Reads that gave a value older than the last acknowledged one."""
        return self.total.stale

    @property
    def late(self) -> int:
        """Stale reads that were older than the scenario allows."""
        return self.total.late

    def describe(self) -> str:
        """The figures on a few lines."""
        lines = [f"race '{self.scenario.name}' on {self.server}, {self.seconds:.1f} s"]
        for way, figures in self.by_way.items():
            lines.append(
                f"  {way:5} {figures.reads:7} reads {figures.hits:7} hits {figures.stale:4} stale "
                f"(oldest {figures.oldest_us / 1000:.1f} ms)  slowest {figures.slowest_us / 1000:.0f} ms  "
                f"{figures.errors} errors"
            )
        counted = "  ".join(f"{value:.0f} {name}" for name, value in self.statistics.items())
        lines.append(f"  {self.invalidations} invalidations ({self.journalled} journalled)  {counted}")
        if self.ages.count or self.torments.any:
            lines.append(f"  age of {self.ages.count} stale answers: {self.ages}; {self.late} older than allowed")
            lines.append(f"  oldest answer after each of {self.oldest.count} invalidations: {self.oldest}")
        if self.journalled:
            every, longest = (each / 1e6 for each in self.journalled_us)
            lines.append(f"  journalled windows: {self.journalled}, {every:.1f} s in all, longest {longest:.2f} s")
        if self.torments.any:
            lines.append(f"  {self.torments}")
        if self.epochs > 1 or self.evicted:
            lines.append(f"  {self.evicted} keys evicted, {self.epochs - 1} stamp sets lost")
        return "\n".join([*lines, *self.stale_reads[:20], self.failures[-3000:]]).rstrip()
