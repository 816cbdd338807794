"""The soak: mixed traffic on real processes, and what grows meanwhile: `python -m tests.chaos.soak --seconds 300`.

With `--topology sentinel` or `cluster`, and a `--seed`, what `tests.chaos.topologies` is about.

Prints memory, threads and descriptors of the workers at the start, in the middle and at the end, and ends with 1 when
one of them grew, when something was left in Redis that nobody owns, or when a request failed that should not have.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.binaries import find_binary
from tests.chaos.growth import Sample, growth, middle
from tests.chaos.leftovers import Leftovers, asides, leases, look_around
from tests.chaos.topologies import soak_on
from tests.chaos.visitors import Added, Call, Visitors
from tests.processes import scratch_directory, wait_until
from tests.servers import Gunicorn, Server

WORKERS, THREADS, VISITORS = 4, 4, 8
#: Beside the threads that serve: main, bus, housekeeping, four that refresh, and one for each async view that runs.
THREADS_AT_MOST = 2 * THREADS + 7
#: Seconds after the last request in which leases have ended and what was invalidated is freed; a lease that nobody
#: holds any more and that is renewed all the same lives longer.
_SETTLING = 10.0
_LANGUAGES = ("de", "en", "fr", "pl")

#: Of so many requests, what for; `{}` is a number below the third figure.
_MIX = (
    (30, "GET /page/{}", 200),
    (8, "GET /page/once-{}", 2**60),
    (8, "GET /shared/{}", 50),
    (10, "GET /aged/{}", 50),
    (5, "GET /aged-value/{}", 50),
    (10, "GET /computed/{}", 200),
    (5, "GET /many/{}", 190),
    (5, "GET /varies/{}", 20),
    (5, "GET /fails/{}", 5),
    (2, "GET /uncacheable/{}", 20),
    (2, "GET /work/{}", 50),
    (1, "GET /async-work/{}", 50),
    (2, "POST /set/{}", 200),
    (2, "POST /delete/{}", 200),
    (3, "POST /invalidate/page-{}", 200),
    (1, "POST /invalidate/brief", 1),
    (1, "POST /clear/pattern", 1),
    (0.5, "POST /clear/type", 1),
    (0.1, "POST /clear/all", 1),
)
_WEIGHTS = [weight for weight, _, _ in _MIX]


def traffic(dice: random.Random) -> tuple[str, str, dict[str, str]]:
    """What a visitor asks for next."""
    _, what, limit = dice.choices(_MIX, _WEIGHTS)[0]
    method, path = what.format(dice.randrange(limit)).split()
    return method, path, {"Accept-Language": dice.choice(_LANGUAGES)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a soak showed; `workers` has the samples of each process id."""

    seconds: float
    workers: dict[int, list[Sample]]
    lost_workers: int
    calls: list[Call]
    left: Leftovers

    def sample(self, pid: int, part: float) -> Sample:
        """A worker at a part of the time."""
        return middle(self.workers[pid], self.seconds, part)

    @property
    def faults(self) -> list[str]:
        """What is wrong, in words."""
        found = list(self.left.faults)
        if self.lost_workers:
            found.append(f"{self.lost_workers} workers ended")
        for pid in self.workers:
            found += [f"worker {pid}: {fault}" for fault in self._growth(pid)]
        failed = [call for call in self.calls if call.status != (500 if call.path.startswith("/fails/") else 200)]
        if failed:
            found.append(f"{len(failed)} requests failed: {failed[:5]}")
        return found

    def _growth(self, pid: int) -> list[str]:
        most = max(each.threads for each in self.workers[pid])
        found = growth(self.workers[pid], self.seconds)
        return found + [f"{most:.0f} threads, {THREADS_AT_MOST} allowed"] * (most > THREADS_AT_MOST)

    def describe(self) -> str:
        """The figures on a few lines."""
        lines = [f"{self.seconds:.0f} s, {Added.of(self.calls)}"]
        for pid in self.workers:
            lines += [f"  worker {pid} {self.sample(pid, part)}" for part in (0.05, 1 / 3, 0.5, 0.95)]
        return "\n".join([*lines, f"  {self.left}", *(f"  FAULT {fault}" for fault in self.faults)])


def soak(server: Server, *, seconds: float, told: Callable[[str], None] = lambda _: None) -> Outcome:
    """Run a soak.

    Args:
        server: the store, empty.
        seconds: how long.
        told: called with a line of figures now and then.
    """
    # Small memory tiers are full after a few seconds: what grows later does not end.
    env = {"RCACHE_URL": server.url, "CHAOS_DIRECTORY": str(scratch_directory("soak")), "RCACHE_L1_BYTES": "500000"}
    with Gunicorn("tests.chaos.apps:create_app()", workers=WORKERS, threads=THREADS, env=env) as web:
        workers: dict[int, list[Sample]] = {pid: [] for pid in web.worker_pids}
        began = time.monotonic()
        with Visitors(web, traffic, count=VISITORS) as visitors:
            while (at := time.monotonic() - began) < seconds:
                for pid, samples in workers.items():
                    with suppress(FileNotFoundError):  # it has ended, and is counted below
                        samples.append(Sample.of(pid, at))
                if len(workers[web.worker_pids[0]]) % 30 == 0:
                    told(f"{Sample.of(web.worker_pids[0], at)}, {len(visitors.calls())} requests")
                time.sleep(min(1.0, seconds / 50))
        _settle(server)
        lost = len(set(workers) - set(web.worker_pids))
        with server.client() as client:
            return Outcome(seconds, workers, lost, visitors.calls(), look_around(client))


def _settle(server: Server) -> None:
    """Let what is under way come to its end; what has none is found afterwards."""
    with server.client() as client, suppress(TimeoutError):
        wait_until(lambda: not leases(client) and not asides(client), timeout=_SETTLING, what="the end of the loads")


def main() -> int:
    """Soak as the command line says; 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description="Soak the cache; see what grows.")
    parser.add_argument("--seconds", type=float, default=300.0, help="of the soak (300)")
    parser.add_argument("--server", choices=("redis", "valkey"), default="redis", help="what it runs on (redis)")
    parser.add_argument(
        "--topology", choices=("server", "sentinel", "cluster"), default="server", help="of the servers (server)"
    )
    parser.add_argument("--seed", type=int, default=None, help="of what happens to a fleet of servers (random)")
    options = parser.parse_args()
    if options.topology != "server":
        seed = random.randrange(10**6) if options.seed is None else options.seed
        print(f"seed {seed}", flush=True)
        found = soak_on(options.topology, find_binary(options.server), seconds=options.seconds, seed=seed)
        print(found.describe())
        return 1 if found.faults else 0
    with Server(find_binary(options.server)) as server:
        outcome = soak(server, seconds=options.seconds, told=lambda line: print(line, flush=True))
    print(outcome.describe())
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
