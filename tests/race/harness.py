"""The race harness: real processes read a counter through the cache while another changes it and invalidates.

The promise it tries: no read that began after an invalidation returned gives an older value. The oracle is
`tests.race.ledger`. In one step::

    outcome = run_race(JOINING, server, seconds=10)
    assert outcome.stale == 0, outcome.describe()

With trouble on the way (kill a reader, pause the server) use the race itself::

    with Race(PLAIN, server, seconds=60) as race:
        race.start()
        race.readers[0].kill()          # its tallies up to here still count
        race.wait()
    outcome = race.outcome()
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

from tests.processes import Process, scratch_directory, wait_until
from tests.race.ledger import Ledger, Tally
from tests.race.racer import Role, Spec
from tests.race.scenarios import Scenario
from tests.race.subject import WAYS, Way
from tests.servers import Server

_BOOT_SECONDS = 40.0
_END_SECONDS = 40.0
_STAMPS = "cache~stamps"
_ROOM = 3_000_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What the readers of one way, or of all, saw; see `Tally`."""

    reads: int
    hits: int
    stale: int
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
        invalidations: that returned and were acknowledged.
        journalled: times the writer was told that the store was away.
        statistics: the caches' own counters, summed over the processes that lived to the end.
        evicted: keys that the server evicted.
        epochs: how many stamp sets there were; each after the first replaces one that was lost.
        stale_reads: the first ones, one JSON object each.
        failures: tracebacks.
    """

    scenario: Scenario
    server: str
    seconds: float
    by_way: dict[Way, Figures]
    total: Figures
    invalidations: int
    journalled: int
    statistics: dict[str, float]
    evicted: int
    epochs: int
    stale_reads: list[str] = field(default_factory=list)
    failures: str = ""

    @property
    def stale(self) -> int:
        """Reads that gave a value older than the last acknowledged one."""
        return self.total.stale

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
        if self.epochs > 1 or self.evicted:
            lines.append(f"  {self.evicted} keys evicted, {self.epochs - 1} stamp sets lost")
        return "\n".join([*lines, *self.stale_reads[:20], self.failures[-3000:]]).rstrip()


class Race:
    """A race: its processes are started by `start`, and gone when the `with` block is left.

    Args:
        scenario: what is raced for.
        server: the store, empty; `None` races threads of one process for `memory://`.
        seconds: how long, from the moment when all processes are ready.
        sabotage: the name of a rule to break in every process, see `tests.race.sabotage`.
    """

    def __init__(self, scenario: Scenario, server: Server | None, *, seconds: float, sabotage: str = "") -> None:
        self.scenario = scenario
        self.server = server
        self.seconds = seconds
        self.sabotage = sabotage
        self.directory = scratch_directory("race")
        self.ledger = Ledger(self.directory / "ledger")
        self.readers: list[Process] = []
        self.others: list[Process] = []
        self._began = 0.0
        self._ended = 0.0
        self._epochs: set[float] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.ledger.stop()
        for process in self.processes:
            process.kill()

    @property
    def processes(self) -> list[Process]:
        """Readers and the others."""
        return [*self.readers, *self.others]

    @property
    def threads(self) -> int:
        """Reading threads in the whole race."""
        return self.scenario.threads * len(WAYS) * (self.scenario.processes if self.server is not None else 1)

    def start(self) -> None:
        """Start the processes, wait until all are ready, and let them go."""
        if self.server is None:
            self.readers.append(self._start("reader and writer", 0))
        else:
            for _ in range(self.scenario.processes):
                self.readers.append(self._start("reader", len(self.readers) * self.scenario.threads * len(WAYS)))
            self.others.append(self._start("writer", 0))
            self.others += [self._start("filler", 0) for _ in range(self.scenario.fillers)]
        for process in self.processes:
            process.wait_ready(lambda: self.ledger.all_ready(len(self.processes)), timeout=_BOOT_SECONDS)
        self.ledger.start()
        self._began = time.monotonic()

    def _start(self, role: Role, first_thread: int) -> Process:
        number = len(self.processes)
        spec = Spec(
            number=number,
            role=role,
            scenario=self.scenario,
            url="memory://" if self.server is None else self.server.url,
            directory=str(self.directory),
            first_thread=first_thread,
            sabotage=self.sabotage,
        )
        command = [sys.executable, "-m", "tests.race.racer", spec.dumps()]
        return Process(command, log_path=self.directory / f"log-{number}")

    @property
    def stale(self) -> int:
        """Stale reads so far."""
        return sum(self.ledger.tally(thread)["stale"] for thread in range(self.threads))

    def wait(self, *, until_stale: bool = False) -> None:
        """Let it go on for its time, then stop it and wait for the processes that are still there.

        Args:
            until_stale: stop as soon as one stale read was found.
        """
        while time.monotonic() < self._began + self.seconds and not (until_stale and self.stale):
            self._watch_stamps()
            time.sleep(0.02)
        self.stop()

    def stop(self) -> None:
        """Have every process end in order, and report."""
        self.ledger.stop()
        self._ended = time.monotonic()
        wait_until(
            lambda: not any(process.is_running for process in self.processes),
            timeout=_END_SECONDS,
            what="the end of a race's processes",
        )

    def _watch_stamps(self) -> None:
        if self.server is not None and self.scenario.fillers:
            with self.server.client() as client:
                epoch: Any = client.zscore(_STAMPS, "=epoch")
            if epoch:
                self._epochs.add(epoch)

    def outcome(self) -> Outcome:
        """The figures, once it has ended."""
        by_way: dict[Way, list[Tally]] = {way: [] for way in WAYS}
        for thread in range(self.threads):
            by_way[WAYS[thread // self.scenario.threads % len(WAYS)]].append(self.ledger.tally(thread))
        statistics: Counter[str] = Counter()
        for report in self.directory.glob("report-*.json"):
            statistics.update(json.loads(report.read_text()))
        evicted = 0
        if self.server is not None and self.server.is_running:
            with self.server.client() as client:
                info: Any = client.info("stats")
                evicted = int(info["evicted_keys"])
        return Outcome(
            scenario=self.scenario,
            server="memory://" if self.server is None else str(self.server.binary),
            seconds=self._ended - self._began,
            by_way={way: Figures.of(tallies) for way, tallies in by_way.items()},
            total=Figures.of([tally for tallies in by_way.values() for tally in tallies]),
            invalidations=self.ledger.invalidations,
            journalled=self.ledger.journalled,
            statistics=dict(statistics),
            evicted=evicted,
            epochs=len(self._epochs),
            stale_reads=self._noted("stale").splitlines(),
            failures=self._noted("failures"),
        )

    def _noted(self, name: str) -> str:
        path = self.directory / name
        return path.read_text() if path.exists() else ""


def run_race(
    scenario: Scenario, server: Server | None, *, seconds: float, sabotage: str = "", until_stale: bool = False
) -> Outcome:
    """Run a race from beginning to end; see `Race` and `Race.wait`."""
    with Race(scenario, server, seconds=seconds, sabotage=sabotage) as race:
        race.start()
        race.wait(until_stale=until_stale)
    return race.outcome()


def leave_little_room(server: Server, *, policy: str) -> None:
    """Have a server evict whatever it likes: by `policy`, from a few hundred entries on."""
    with server.client() as client:
        memory: Any = client.info("memory")
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", memory["used_memory"] + _ROOM)
