"""The scenarios: what is read, how slowly it loads, how it is invalidated, and who reads how often. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Body = Literal["plain", "tagged", "nested"]
Means = Literal["type", "tags", "key", "pattern", "all"]
Seconds = tuple[float, float]

_SCHEDULING = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One race. Every process reads the same counter in two ways: through a decorated view and through `fetch`.

    Args:
        name: what it is called.
        body: `plain` reads the database. `tagged` adds its tag after reading, another with each value. `nested` reads
            through a cached function of another type, and only that one is invalidated, by type and by tag in turn.
        means: how the writer invalidates, in turn.
        load_seconds: how long a load takes after its read of the database.
        write_gap: between writes, from and to, more often short.
        read_pause: between one thread's reads, from and to, mostly short; (0, 0) is as fast as it can.
        processes: that read.
        threads: of each such process, for each of the two ways.
        ttl: of the entries, seconds.
        stale_while_revalidate: of the entries, seconds.
        l1_ttl: seconds the memory tiers may hold entries, and so how stale a read may be at most; 0 for not at all.
        fillers: processes that fill the store with other entries, so that it evicts.
        timeout: seconds that the store has for an answer. A noisy machine may well take longer than the 0.25 s that are
            the default, and mostly that is not what is tried.
    """

    name: str
    body: Body = "plain"
    means: tuple[Means, ...] = ("type",)
    load_seconds: float = 0.0
    write_gap: Seconds = (0.005, 0.04)
    read_pause: Seconds = (0.0, 0.0)
    processes: int = 2
    threads: int = 1
    ttl: float = 60.0
    stale_while_revalidate: float = 0.0
    l1_ttl: float = 0.0
    fillers: int = 0
    timeout: float = 3.0

    @property
    def allowed_us(self) -> int:
        """How old an answer may be; 0 for not at all, and then nothing is allowed for scheduling either."""
        return int((self.l1_ttl + _SCHEDULING) * 1_000_000) if self.l1_ttl else 0


PLAIN = Scenario(name="plain")
#: Sixty readers. The pauses make some of them come while a load is under way that an invalidation has overtaken.
JOINING = Scenario(
    name="joining", load_seconds=0.15, write_gap=(0.03, 0.5), read_pause=(0.002, 0.4), processes=3, threads=10
)
TAGGED = Scenario(
    name="tagged", body="tagged", load_seconds=0.02, write_gap=(0.005, 0.1), read_pause=(0.0, 0.02), threads=3
)
NESTED = Scenario(
    name="nested", body="nested", load_seconds=0.02, write_gap=(0.03, 0.15), read_pause=(0.0, 0.03), threads=3
)
#: By tag, and slow to load again: what a lost stamp had made invalid lies there to come back. (A type's entries would
#: be freed at once.)
EVICTING = Scenario(
    name="evicting",
    means=("tags",),
    load_seconds=0.05,
    write_gap=(0.06, 0.12),
    read_pause=(0.0, 0.06),
    threads=5,
    fillers=1,
)
EVERY_MEANS = Scenario(
    name="every-means",
    means=("type", "tags", "key", "pattern", "all"),
    load_seconds=0.02,
    write_gap=(0.005, 0.1),
    read_pause=(0.0, 0.02),
    threads=3,
)
EXPIRING = Scenario(
    name="expiring",
    load_seconds=0.02,
    write_gap=(0.05, 0.2),
    read_pause=(0.0, 0.03),
    threads=3,
    ttl=0.05,
    stale_while_revalidate=30.0,
)
#: About a thousand invalidations a second: no load is ever in time, and still everybody must get an answer.
STORM = Scenario(
    name="storm",
    means=("tags",),
    load_seconds=0.2,
    write_gap=(0.0002, 0.0008),
    read_pause=(0.0, 0.3),
    processes=3,
    threads=4,
)

#: Four workers with their memory tiers as they are by default; what is done to them is `tests.race.chaos`' business.
FLEET = Scenario(
    name="fleet",
    means=("type", "tags", "key", "pattern", "all"),
    load_seconds=0.005,
    write_gap=(0.01, 0.08),
    read_pause=(0.0005, 0.004),
    processes=4,
    l1_ttl=2.0,
    timeout=0.25,
)
EXACT_FLEET = replace(FLEET, name="exact-fleet", l1_ttl=0.0)
#: The same while a server hands over to another, see `tests.race.test_failovers`.
FAILOVER = replace(EXACT_FLEET, name="failover", means=("type", "tags", "key"), read_pause=(0.001, 0.01))

_ALL = (PLAIN, JOINING, TAGGED, NESTED, EVICTING, EVERY_MEANS, EXPIRING, STORM, FLEET, EXACT_FLEET, FAILOVER)
SCENARIOS = {each.name: each for each in _ALL}
