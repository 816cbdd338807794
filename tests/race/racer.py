"""One process of a race: `python -m tests.race.racer SPEC`, where SPEC is the JSON that `tests.race.harness` writes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.race.ledger import Ledger
from tests.race.scenarios import Scenario
from tests.race.subject import WAYS, Subject, Way

Role = Literal["reader", "writer", "filler", "reader and writer"]

_STALE_TOLD = 20  # a thread; the tally counts the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What one process does.

    Args:
        number: its number in the race.
        role: what it does.
        scenario: the race.
        url: the store.
        directory: of the race.
        first_thread: the number of its first reading thread in the race.
        sabotage: the rule that is broken in it, or "".
    """

    number: int
    role: Role
    scenario: Scenario
    url: str
    directory: str
    first_thread: int
    sabotage: str

    def dumps(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def loads(cls, text: str) -> Spec:
        """From JSON."""
        fields: dict[str, Any] = json.loads(text)
        scenario: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.pop("scenario").items()
        }
        return cls(scenario=Scenario(**scenario), **fields)


class Racer:
    """The process: its threads run until the ledger says stop."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.scenario = spec.scenario
        self.directory = Path(spec.directory)
        self.ledger = Ledger(self.directory / "ledger")
        if spec.sabotage:
            from tests.sabotage.clauses import SABOTAGES  # imports all that can be broken: only for those who break it

            SABOTAGES[spec.sabotage].act()
        self.subject = Subject(spec.scenario, spec.url, self.directory)

    def run(self) -> None:
        """Wait for the start, race, and leave the figures behind."""
        threads = [threading.Thread(target=self._guarded, args=(job,)) for job in self._jobs()]
        self.ledger.ready(self.spec.number)
        while not self.ledger.started:
            time.sleep(0.002)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report = self.directory / f"report-{self.spec.number}.json"
        report.write_text(json.dumps(self.subject.statistics()))

    def _jobs(self) -> list[Callable[[], None]]:
        jobs: list[Callable[[], None]] = []
        if "reader" in self.spec.role:
            for thread, (way, _) in enumerate(itertools.product(WAYS, range(self.scenario.threads))):
                jobs.append(lambda way=way, thread=thread: self._read(way, thread))  # type: ignore[misc]
        if "writer" in self.spec.role:
            jobs.append(self._write)
        if self.spec.role == "filler":
            jobs.append(self._fill)
        return jobs

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException:
            self._note("failures", traceback.format_exc())
            raise

    def _read(self, way: Way, thread: int) -> None:
        ledger, tally = self.ledger, self.ledger.tally(self.spec.first_thread + thread)
        read = self.subject.reader(way)
        while not ledger.stopped:
            acknowledged, began = ledger.acknowledged, time.monotonic_ns()
            try:
                value = read()
            except Exception:  # noqa: BLE001  # the reader's user would have seen it
                tally.add("errors")
                self._note("failures", traceback.format_exc())
                continue
            tally.peak("slowest_us", (time.monotonic_ns() - began) // 1000)
            tally.add("reads")
            hit = self.subject.took_a_hit(way)
            if hit:
                tally.add("hits")
            if value < acknowledged:
                age_us = max(1, (began - ledger.outdated_at(value)) // 1000)
                tally.served_old(value, age_us, began)
                if age_us > self.scenario.allowed_us:
                    tally.add("late")
                    if tally["late"] <= _STALE_TOLD:
                        found = {"way": way, "hit": hit, "value": value, "acknowledged": acknowledged, "age_us": age_us}
                        self._note("stale", json.dumps({**found, "process": self.spec.number, "thread": thread}))
            self._pause(self.scenario.read_pause, skew=3)

    def _write(self) -> None:
        ledger = self.ledger
        while not ledger.stopped:
            if ledger.silent:
                time.sleep(0.005)
                continue
            value = self.subject.counter.increment()
            if not self.subject.invalidate(value):
                self._await_delivery()
            if not ledger.stopped:
                ledger.acknowledge(value)
            self._pause(self.scenario.write_gap, skew=2)

    def _await_delivery(self) -> None:
        """It is only journalled, which is no promise; once the journal is delivered it is as good as acknowledged."""
        told = time.monotonic_ns()
        self.ledger.journal()
        while not self.subject.is_delivered and not self.ledger.stopped:
            time.sleep(0.002)
        self.ledger.journal_delivered(told)

    def _fill(self) -> None:
        while not self.ledger.stopped:
            self.subject.fill_up()
            time.sleep(0.001)

    @staticmethod
    def _pause(seconds: tuple[float, float], *, skew: int) -> None:
        if seconds[1]:
            shortest, longest = seconds
            time.sleep(shortest + (longest - shortest) * random.random() ** skew)

    def _note(self, name: str, text: str) -> None:
        """Append to a file of the race; what was appended survives this process."""
        descriptor = os.open(self.directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, text.encode() + b"\n")
        os.close(descriptor)


if __name__ == "__main__":
    Racer(Spec.loads(sys.argv[1])).run()
