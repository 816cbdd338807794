"""The race harness: real processes read a counter through the cache while another changes it and invalidates.

The promise it tries: no read that began after an invalidation returned gives an older value; with a memory tier, none
that was invalidated longer ago than the tier may hold it. The oracle is `tests.race.ledger`. In one step::

    outcome = run_race(JOINING, server, seconds=10)
    assert outcome.stale == 0, outcome.describe()

With trouble on the way, on a server of its own, which is stopped for moments::

    outcome = run_race(FLEET, private_server(), seconds=60, chaos=True)
    assert outcome.late == 0, outcome.describe()
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from tests.processes import Process, scratch_directory, wait_until
from tests.race.ages import Ages
from tests.race.chaos import Tormentor, Torments
from tests.race.ledger import Ledger, Tally
from tests.race.outcome import Figures, Outcome
from tests.race.racer import Role, Spec
from tests.race.scenarios import Scenario
from tests.race.subject import COUNTER, WAYS, Way
from tests.race.subject import Counter as Number
from tests.servers import Server

_BOOT_SECONDS = 40.0
_END_SECONDS = 40.0
_STAMPS = "cache~stamps"
_ROOM = 3_000_000

Until = Callable[["Race"], bool]


class Race:
    """A race: its processes are started by `start`, and gone when the `with` block is left.

    Args:
        scenario: what is raced for.
        server: the store, empty; `None` races threads of one process for `memory://`.
        seconds: how long, from the moment when all processes are ready.
        sabotage: the name of a rule to break in every process, see `tests.sabotage`.
        url: where the processes find the store, when it is not the server's own.
    """

    def __init__(
        self, scenario: Scenario, server: Server | None, *, seconds: float, sabotage: str = "", url: str = ""
    ) -> None:
        self.scenario = scenario
        self.server = server
        self.seconds = seconds
        self.sabotage = sabotage
        self.url = url or ("memory://" if server is None else server.url)
        self.directory = scratch_directory("race")
        self.ledger = Ledger(self.directory / "ledger")
        self.readers: list[Process] = []
        self.others: list[Process] = []
        self.processes: list[Process] = []
        self._specs: dict[int, Spec] = {}
        self.torments = Torments()
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
    def complete(self) -> bool:
        """Whether everybody is there, those included that came for somebody killed."""
        return self.ledger.all_ready(len(self.processes))

    @property
    def _all_running(self) -> bool:
        return all(process.is_running for process in self.processes)

    @property
    def threads(self) -> int:
        """Reading threads in the whole race."""
        return self.scenario.threads * len(WAYS) * (self.scenario.processes if self.server is not None else 1)

    def start(self) -> None:
        """Start the processes, wait until all are ready, and let them go."""
        # Before them all: two processes that switch a database to WAL at once may find it locked.
        Number(self.directory / COUNTER)
        if self.server is None:
            self.readers.append(self._start("reader and writer", 0))
        else:
            for _ in range(self.scenario.processes):
                self.readers.append(self._start("reader", len(self.readers) * self.scenario.threads * len(WAYS)))
            self.others.append(self._start("writer", 0))
            self.others += [self._start("filler", 0) for _ in range(self.scenario.fillers)]
        for process in self.processes:  # the one that has died, if one has, says why
            process.wait_ready(lambda: self.complete or not self._all_running, timeout=_BOOT_SECONDS)
        self.ledger.start()
        self._began = time.monotonic()

    def _start(self, role: Role, first_thread: int) -> Process:
        spec = Spec(
            number=len(self.processes),
            role=role,
            scenario=self.scenario,
            url=self.url,
            directory=str(self.directory),
            first_thread=first_thread,
            sabotage=self.sabotage,
        )
        command = [sys.executable, "-m", "tests.race.racer", spec.dumps()]
        process = Process(command, log_path=self.directory / f"log-{spec.number}")
        self.processes.append(process)
        self._specs[process.pid] = spec
        return process

    def replace(self, process: Process) -> None:
        """SIGKILL a process, and have another take its place and its tallies; nobody waits until that is ready."""
        process.kill()
        spec = self._specs[process.pid]
        fellows = self.readers if process in self.readers else self.others
        fellows[fellows.index(process)] = self._start(spec.role, spec.first_thread)

    @property
    def elapsed(self) -> float:
        """Seconds since all were ready."""
        return time.monotonic() - self._began

    @property
    def tallies(self) -> list[Tally]:
        """What every reading thread has counted so far."""
        return [self.ledger.tally(thread) for thread in range(self.threads)]

    @property
    def total(self) -> Figures:
        """What all readers saw so far."""
        return Figures.of(self.tallies)

    @property
    def oldest(self) -> Ages:
        """For each invalidation so far, how long after its return somebody was still given anything older."""
        return Ages.of(self.ledger.oldest_answers(self.tallies))

    def wait(self, *, until: Until | None = None, chaos: bool = False) -> None:
        """Let it go on for its time, then stop it and wait for the processes that are still there.

        Args:
            until: asked again and again; stop when it says so, however much time is left.
            chaos: torment it, see `tests.race.chaos`.
        """

        def over() -> bool:
            return self.elapsed >= self.seconds or (until is not None and until(self))

        if chaos:
            Tormentor(self, self.torments, over=over).run()
        while not over():
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
        tallies, total = self.tallies, self.total
        return Outcome(
            scenario=self.scenario,
            server="memory://" if self.server is None else str(self.server.binary),
            seconds=self._ended - self._began,
            by_way={way: Figures.of(tallies) for way, tallies in by_way.items()},
            total=total,
            invalidations=self.ledger.invalidations,
            journalled=self.ledger.journalled,
            journalled_us=self.ledger.journalled_us,
            ages=Ages.counted(
                [sum(column) for column in zip(*(tally.ages for tally in tallies), strict=True)],
                max_us=total.oldest_us,
            ),
            oldest=self.oldest,
            statistics=dict(statistics),
            evicted=evicted,
            epochs=len(self._epochs),
            torments=self.torments,
            stale_reads=self._noted("stale").splitlines(),
            failures=self._noted("failures"),
        )

    def _noted(self, name: str) -> str:
        path = self.directory / name
        return path.read_text() if path.exists() else ""


def found_late(race: Race) -> bool:
    """Whether a read was staler than the scenario allows: what a sabotaged race is run until."""
    return race.total.late > 0


def run_race(
    scenario: Scenario,
    server: Server | None,
    *,
    seconds: float,
    sabotage: str = "",
    until: Until | None = None,
    chaos: bool = False,
) -> Outcome:
    """Run a race from beginning to end; see `Race` and `Race.wait`."""
    with Race(scenario, server, seconds=seconds, sabotage=sabotage) as race:
        race.start()
        race.wait(until=until, chaos=chaos)
    return race.outcome()


def leave_little_room(server: Server, *, policy: str) -> None:
    """Have a server evict whatever it likes: by `policy`, from a few hundred entries on."""
    with server.client() as client:
        memory: Any = client.info("memory")
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", memory["used_memory"] + _ROOM)
