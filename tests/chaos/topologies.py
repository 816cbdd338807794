"""The soak behind Sentinel and on a cluster: readers and a writer, while something happens again and again, at random.

`python -m tests.chaos.soak --topology cluster --seconds 180 --seed 7`. The promise it tries: no answer is older than an
invalidation that had returned before the request was sent, no request fails, and no worker grows.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import redis
from redis.crc import key_slot

from tests.binaries import Binary
from tests.chaos.growth import Sample, growth, middle
from tests.clusters import Cluster
from tests.gunicorns import Gunicorn
from tests.processes import scratch_directory, wait_until
from tests.race.cluster_app import COUNTERS, Counters
from tests.race.cluster_race import SHARDS, Figures, Race
from tests.sentinels import Sentinels
from tests.servers import Server
from tests.stores.kit import manager

WORKERS, THREADS = 4, 8
#: Seconds from the end of one fault to the next.
_REST = (0.5, 2.0)
#: Less, and more, than anybody waits for an answer; the longer ones make a replica take over.
_STOPS = ((0.05, 0.24), (0.3, 1.0), (2.0, 3.0))
_DEAD = (1.0, 3.0)
#: Seconds that one request may take: the machine has other work, and a failed node costs two timeouts.
SLOWEST = 5.0
_BACK_WITHIN = 60.0


class Fleet(Protocol):
    """Servers to which something may happen."""

    url: str

    def acts(self) -> Mapping[str, Callable[[random.Random], None]]:
        """What may happen, by name; each returns when it is over."""
        ...

    def wait_well(self) -> None:
        """Wait until all servers are there, and each master has its replica."""
        ...


class OnSentinel:
    """A master and its replica behind three sentinels."""

    def __init__(self, trio: Sentinels) -> None:
        self._trio = trio
        self.url = trio.url

    def acts(self) -> Mapping[str, Callable[[random.Random], None]]:
        """See :class:`Fleet`."""
        return {
            "killed": lambda dice: _kill(self._trio.master, dice),
            "stopped": lambda dice: _stop(self._trio.master, dice),
            "planned failover": lambda _: self._trio.fail_over(),
            "bus cut": lambda _: _hang_up(self._trio.servers, "pubsub"),
            "connections cut": lambda _: _hang_up(self._trio.servers, "normal"),
        }

    def wait_well(self) -> None:
        """See :class:`Fleet`: what was the master follows the one that the sentinels name."""

        def is_well() -> bool:
            infos = [_replication(server) for server in self._trio.servers]
            roles = sorted(info["role"] for info in infos)
            linked = all(info["role"] == "master" or info["master_link_status"] == "up" for info in infos)
            return roles == ["master", "slave"] and linked

        wait_until(_quietly(is_well), timeout=_BACK_WITHIN, what="a master and its replica")


class OnCluster:
    """Three masters, each with a replica."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.url = cluster.url

    def acts(self) -> Mapping[str, Callable[[random.Random], None]]:
        """See :class:`Fleet`."""
        cluster = self._cluster
        return {
            "killed": lambda dice: _kill(self._one_of("master", dice), dice),
            "stopped": lambda dice: _stop(self._one_of("master", dice), dice),
            "planned failover": lambda dice: cluster.fail_over(self._one_of("slave", dice)),
            "a shard moved": self._move,
            "bus cut": lambda _: _hang_up(cluster.nodes, "pubsub"),
            "connections cut": lambda _: _hang_up(cluster.nodes, "normal"),
        }

    def _one_of(self, role: str, dice: random.Random) -> Server:
        return dice.choice([node for node in self._cluster.nodes if _replication(node)["role"] == role])

    def _move(self, dice: random.Random) -> None:
        slot = key_slot(str(dice.randrange(SHARDS)).encode())
        self._cluster.move_slot(slot, self._one_of("master", dice), pause=0.002)

    def wait_well(self) -> None:
        """See :class:`Fleet`."""
        self._cluster.wait_well(timeout=_BACK_WITHIN)


def _replication(server: Server) -> dict[str, Any]:
    with server.client() as client:
        found: dict[str, Any] = client.info("replication")
    return found


def _kill(server: Server, dice: random.Random) -> None:
    server.kill()
    time.sleep(dice.uniform(*_DEAD))
    server.restart()


def _stop(server: Server, dice: random.Random) -> None:
    server.pause()
    try:
        time.sleep(dice.uniform(*dice.choice(_STOPS)))
    finally:
        server.resume()


def _hang_up(servers: list[Server], kind: str) -> None:
    for server in servers:
        with server.client() as client:
            client.client_kill_filter(_type=kind, skipme=True)


def _quietly(question: Callable[[], bool]) -> Callable[[], bool]:
    """The question; a server that does not answer it is a no."""

    def ask() -> bool:
        try:
            return question()
        except (redis.RedisError, OSError):
            return False

    return ask


class Troubles:
    """What happens, one thing after the other, in a thread of its own.

    Args:
        fleet: to which it happens.
        seed: of the dice.
    """

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.done: list[str] = []
        self.failed: list[str] = []
        self._fleet = fleet
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what has begun is brought to its end first."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        acts = self._fleet.acts()
        while True:
            for name in self._dice.sample(sorted(acts), len(acts)):
                if self._over.wait(self._dice.uniform(*_REST)):
                    return
                try:
                    acts[name](self._dice)
                except (redis.RedisError, OSError) as error:  # a server that just failed over refuses another
                    self.failed.append(f"{name}: {error}")
                else:
                    self.done.append(name)
                with suppress(TimeoutError):
                    self._fleet.wait_well()


@dataclass
class Outcome:
    """What a soak showed.

    Attributes:
        seconds: it took.
        seed: of the dice.
        figures: of the readers.
        workers: samples of each process.
        lost: workers that ended.
        done: what happened.
        failed: what was to happen, and could not.
        is_back: whether the cache was used again by all at the end.
    """

    seconds: float
    seed: int
    figures: Figures
    workers: dict[int, list[Sample]]
    lost: int
    done: list[str]
    failed: list[str]
    is_back: bool
    faults: list[str] = field(default_factory=list)

    def judge(self) -> None:
        """Fill ``faults``."""
        figures = self.figures
        self.faults = [f"stale: {each}" for each in figures.stale[:5]] + [f"failed: {e}" for e in figures.failed[:5]]
        if figures.slowest > SLOWEST:
            self.faults.append(f"a request took {figures.slowest:.2f} s")
        if self.lost:
            self.faults.append(f"{self.lost} workers ended")
        if not self.is_back:
            self.faults.append("the cache is not used again")
        for pid, samples in self.workers.items():
            self.faults += [f"worker {pid}: {fault}" for fault in growth(samples, self.seconds)]

    def describe(self) -> str:
        """The figures on a few lines."""
        counts = {name: self.done.count(name) for name in sorted(set(self.done))}
        happened = ", ".join(f"{count} × {name}" for name, count in counts.items())
        lines = [
            f"{self.seconds:.0f} s, seed {self.seed}: {self.figures}",
            f"  {len(self.done)} faults: {happened}; {len(self.failed)} could not happen {self.failed[:3]}",
        ]
        for pid, samples in self.workers.items():
            lines += [f"  worker {pid} {middle(samples, self.seconds, part)}" for part in (0.05, 1 / 3, 0.5, 0.95)]
        return "\n".join([*lines, *(f"  FAULT {fault}" for fault in self.faults)])


def soak_on(topology: str, binary: Binary, *, seconds: float, seed: int) -> Outcome:
    """Run a soak.

    Args:
        topology: ``"sentinel"`` or ``"cluster"``.
        binary: the servers' program.
        seconds: how long.
        seed: of the dice.
    """
    with ExitStack() as running:
        fleet: Fleet = (
            OnSentinel(running.enter_context(Sentinels(binary)))
            if topology == "sentinel"
            else OnCluster(running.enter_context(Cluster(binary, replicas=1)))
        )
        directory = scratch_directory("soak")
        Counters(directory / "counters", create=True)
        env = {"RCACHE_URL": fleet.url, "RACE_DIRECTORY": str(directory)}
        web = running.enter_context(
            Gunicorn("tests.race.cluster_app:create_app()", workers=WORKERS, threads=THREADS, env=env)
        )
        cache = manager(fleet.url, timeout=0.25)
        running.callback(cache.close)
        for number in range(COUNTERS):
            web.get(f"/plain/{number}")
        race, troubles = Race(web, cache, directory), Troubles(fleet, seed)
        workers: dict[int, list[Sample]] = {pid: [] for pid in web.worker_pids}
        race.start()
        troubles.start()
        began = time.monotonic()
        try:
            while (at := time.monotonic() - began) < seconds:
                for pid, samples in workers.items():
                    with suppress(FileNotFoundError):  # it has ended, and is counted below
                        samples.append(Sample.of(pid, at))
                time.sleep(min(1.0, seconds / 50))
        finally:
            troubles.stop()
            is_back = _hits_again(race)
            figures = race.stop()
        lost = len(set(workers) - set(web.worker_pids))
        outcome = Outcome(seconds, seed, figures, workers, lost, troubles.done, troubles.failed, is_back)
        outcome.judge()
        return outcome


def _hits_again(race: Race) -> bool:
    """Whether there are hits within a while after the last fault."""
    numbers, since = set(range(COUNTERS)), time.monotonic()
    try:
        wait_until(
            lambda: race.figures.hits_between(numbers, since, time.monotonic()) > 20, timeout=_BACK_WITHIN, what="hits"
        )
    except TimeoutError:
        return False
    return True
