"""A short soak: memory, threads and descriptors stay where they are, and nothing is left without an owner.

`python -m tests.chaos.soak --seconds 300` is the long form; with `--topology cluster --seconds 180` that of a cluster.
"""

from __future__ import annotations

import pytest

from tests.binaries import find_binary
from tests.chaos.leftovers import look_around
from tests.chaos.soak import WORKERS, soak
from tests.chaos.topologies import soak_on

pytestmark = [pytest.mark.long, pytest.mark.race, pytest.mark.chaos, pytest.mark.timeout(180)]


def test_soak__of_mixed_traffic__leaves_nothing_behind(valkey_server):
    """Hits, loads, refreshes, failures and invalidations of every kind: workers do not grow, Redis holds no orphans."""
    outcome = soak(valkey_server, seconds=15.0)
    print(outcome.describe())
    assert len(outcome.workers) == WORKERS
    assert len(outcome.calls) >= 300, outcome.describe()
    assert {"HIT", "MISS", "STALE"} <= {call.x_cache for call in outcome.calls}, outcome.describe()
    assert outcome.left.rows > 0, outcome.describe()
    assert not outcome.faults, outcome.describe()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
def test_soak__while_servers_fail(topology):
    """Killed, stopped, failed over, moved and cut off at random: nothing stale, nothing failed, nothing grows."""
    outcome = soak_on(topology, find_binary("any"), seconds=25.0, seed=11)
    print(outcome.describe())
    assert outcome.done, outcome.describe()
    assert outcome.figures.answers > 200, outcome.describe()
    assert not outcome.faults, outcome.describe()


def test_look_around__finds__what_nobody_owns(redis_server):
    """The soak's last look tells leases, index rows and entries that have no owner from those that have one."""
    client = redis_server.client()
    assert not look_around(client).faults
    far = 4e12  # milliseconds: an end that is not near
    client.set("cache:page:a", "entry", px=60_000)
    client.zadd("cache~index:page", {"cache:page:a": far, "cache:page:gone": far, "cache:page:expired": 1})
    client.set("cache:page:unlisted", "entry", px=60_000)
    client.zadd("cache~index:page~0123", {"cache:page:b": far})
    client.set("cache~lease:page:a", "ltoken", px=60_000)
    client.set("cache~lease:page:b", "pmarker", px=60_000)
    client.set("cache~lease:page:c", "pmarker")
    found = look_around(client)
    assert found.ownerless == ["cache:page:gone"]
    assert found.unlisted == ["cache:page:unlisted"]
    assert found.asides == ["cache~index:page~0123"]
    assert found.leases == ["cache~lease:page:a"]
    assert found.endless == ["cache~lease:page:c"]
    assert (found.rows, found.expired, found.markers) == (1, 1, 2)
    assert len(found.faults) == 5
