"""Four worker processes on a cluster, while a node is killed, a slot moves, or a replica takes over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from flask_rcache import CacheManager
from tests.clusters import Cluster
from tests.gunicorns import Gunicorn
from tests.processes import scratch_directory, wait_until
from tests.race.cluster_app import COUNTERS, Counters
from tests.race.cluster_race import SHARDS, Race, cold_loads, numbers_on
from tests.stores.kit import manager

pytestmark = [pytest.mark.long, pytest.mark.race, pytest.mark.slow]

_SECONDS = float(os.environ.get("RACE_SECONDS", "12"))

Start = Callable[..., tuple[Race, Gunicorn, Path]]


@pytest.fixture
def start(gunicorn: Callable[..., Gunicorn]) -> Iterator[Start]:
    """Starts the application on a cluster, and the race; ends what it began."""
    opened: list[CacheManager] = []
    races: list[Race] = []

    def begin(cluster: Cluster) -> tuple[Race, Gunicorn, Path]:
        directory = scratch_directory("race")
        Counters(directory / "counters", create=True)
        env = {"RCACHE_URL": cluster.url, "RACE_DIRECTORY": str(directory)}
        web = gunicorn("tests.race.cluster_app:create_app()", workers=4, threads=16, env=env)
        opened.append(manager(cluster.url, timeout=0.25))
        for number in range(COUNTERS):
            web.get(f"/plain/{number}")
        races.append(Race(web, opened[-1], directory))
        races[-1].start()
        return races[-1], web, directory

    yield begin
    for race in races:
        race.stop()
    for cache in opened:
        cache.close()


def _plain_key(web: Gunicorn) -> Callable[[int], str]:
    """The stored keys of the plain pages, as the answers show them."""
    return lambda number: str({n.lower(): v for n, v in dict(web.get(f"/plain/{number}")[1]).items()}["x-cache-key"])


def _check(race: Race) -> Any:
    figures = race.stop()
    print(figures)
    assert not figures.stale, figures
    assert not figures.failed, figures
    assert figures.slowest < 1.5, figures
    assert figures.answers > 200, figures
    assert figures.invalidations - figures.journalled > 50, figures
    return figures


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_a_master_is_killed(private_cluster: Callable[..., Cluster], start: Start, flavour: str) -> None:
    """Its replica takes over; the shards it had are hit again within ten seconds, the others were all the time."""
    cluster = private_cluster(flavour, replicas=1)
    race, web, directory = start(cluster)
    theirs = numbers_on(cluster, cluster.masters[1].port, _plain_key(web))
    others = set(range(COUNTERS // 2, COUNTERS)) - theirs
    assert theirs
    assert others
    assert cold_loads(web, directory, "before") == 1
    time.sleep(_SECONDS / 4)
    killed = time.monotonic()
    cluster.masters[1].kill()
    wait_until(
        lambda: race.figures.hits_between(theirs, killed + 1.5, time.monotonic()) > 0, timeout=10.0, what="hits again"
    )
    back = time.monotonic() - killed
    time.sleep(_SECONDS / 2)
    loads = cold_loads(web, directory, "after")
    figures = _check(race)
    print(f"hits again after {back:.1f} s")
    assert back < 10
    assert loads == 1
    for second in range(4):
        assert figures.hits_between(others, killed + second, killed + second + 1) > 0, f"second {second}"


def test_a_master_without_a_replica_is_killed(private_cluster: Callable[..., Cluster], start: Start) -> None:
    """What it had is loaded each time; the other shards go on hitting throughout."""
    cluster = private_cluster()
    race, web, _ = start(cluster)
    theirs = numbers_on(cluster, cluster.masters[1].port, _plain_key(web))
    others = set(range(COUNTERS // 2, COUNTERS)) - theirs
    time.sleep(_SECONDS / 4)
    killed = time.monotonic()
    cluster.masters[1].kill()
    time.sleep(_SECONDS / 2)
    figures = race.stop()
    print(figures)
    # Nobody acknowledges for the shards that are gone, so every invalidation is journalled from then on.
    assert not figures.stale, figures
    assert not figures.failed, figures
    assert figures.slowest < 1.5, figures
    for second in range(int(_SECONDS / 2)):
        assert figures.hits_between(others, killed + second, killed + second + 1) > 0, f"second {second}"


def test_a_thousand_slots_move(private_cluster: Callable[..., Cluster], start: Start) -> None:
    """Among them those of all shards of a node, key by key, while they are read and written."""
    cluster = private_cluster()
    race, web, directory = start(cluster)
    source, target = cluster.masters[0], cluster.masters[2]
    own = [slot for slot in {key_slot(str(number).encode()) for number in range(SHARDS)} if slot < 5461]
    assert own
    time.sleep(1.0)
    began = time.monotonic()
    for slot in own:
        cluster.move_slot(slot, target, pause=0.002)
    others = [slot for slot in range(5461) if slot not in own][: 1000 - len(own)]
    cluster.move_slots(others, source, target)
    print(f"moved in {time.monotonic() - began:.1f} s")
    time.sleep(max(2.0, _SECONDS / 4))
    assert cold_loads(web, directory, "after") == 1
    moved = set(range(COUNTERS))
    until = time.monotonic()
    figures = _check(race)
    assert figures.hits_between(moved, until - 2, until) > 0


def test_a_planned_failover(private_cluster: Callable[..., Cluster], start: Start) -> None:
    """`CLUSTER FAILOVER`: the old master lives on as a replica, and nothing of it is used."""
    cluster = private_cluster(replicas=1)
    race, web, directory = start(cluster)
    theirs = numbers_on(cluster, cluster.masters[0].port, _plain_key(web))
    time.sleep(_SECONDS / 4)
    cluster.fail_over(cluster.replicas[0])
    failed_over = time.monotonic()
    time.sleep(_SECONDS / 3)
    assert cold_loads(web, directory, "after") == 1
    figures = _check(race)
    assert figures.hits_between(theirs, failed_over, failed_over + 60) > 0
