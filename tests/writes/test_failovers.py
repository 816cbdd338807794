"""Write-behind while another server takes over: what had reached the replica is applied, and by its id once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from flask_rcache import MISSING, StoreError, current_cache
from tests.clusters import Cluster
from tests.processes import wait_until
from tests.sentinels import Sentinels
from tests.servers import Server
from tests.writes.plant import THING, Plant, behind, producer

_WRITES = 120
_KEYS = 20


def _accepted(key: int, value: str) -> None:
    """Write until it is accepted: what is refused, or has no answer, is written again, as an app would."""
    deadline = time.monotonic() + 60
    while True:
        try:
            behind(key, value)
            return
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _is_drained() -> bool:
    try:
        return all(part.queue_state("orders").length == 0 for part in current_cache.engine.store.queues)
    except StoreError:
        return False


def _replicated(masters: list[Server]) -> None:
    """Everything that was accepted has reached the replicas: what has not may be lost, as the documentation says."""
    for master in masters:
        with master.client() as client:
            wait_until(lambda client=client: client.wait(1, 1000) >= 1, timeout=20, what="a replica")  # type: ignore[misc]


def _over(site: Plant, url: str, masters: list[Server], fail: Callable[[], object]) -> None:
    """Write, let a server fail, write on; then everything is at the source, in order, and applied once by its id."""
    last: dict[str, str] = {}
    with producer(url).app_context():
        current_cache.fresh()
        site.consumer()
        for number in range(_WRITES):
            if number == _WRITES // 2:
                _replicated(masters)
                fail()
            _accepted(number % _KEYS, f"v{number}")
            last[str(number % _KEYS)] = f"v{number}"
        wait_until(_is_drained, timeout=60, what="empty queues")
        assert dict(site.query("SELECT key, value FROM source")) == last
        assert site.query("SELECT id FROM applied WHERE fresh = 1 GROUP BY id, key HAVING COUNT(*) > 1") == []
        applied = site.query("SELECT DISTINCT id, key FROM applied")  # two shards may give one id
        assert len(applied) >= _WRITES  # one whose answer was lost was written again, with an id of its own
        assert all(part.queue_state("orders").dead == 0 for part in current_cache.engine.store.queues)
        for key, value in last.items():
            assert current_cache.get(THING, int(key), MISSING) in (value, MISSING)
        current_cache.close()


@pytest.mark.long
@pytest.mark.chaos
def test_behind__over_a_failover_of_sentinel(sentinels: Callable[..., Sentinels], plant: Callable[..., Plant]) -> None:
    """The master is killed while a consumer is at work; both sides go on with the new one."""
    trio = sentinels()
    site = plant(trio.url, WRITES_PAUSE="0.02")
    _over(site, trio.url, [trio.master], trio.master.kill)


@pytest.mark.long
@pytest.mark.chaos
def test_behind__over_a_failover_of_a_cluster_s_node(
    private_cluster: Callable[..., Cluster], plant: Callable[..., Plant]
) -> None:
    """A master is killed; its shards' queues go on with its replica, those of the others all the time."""
    cluster = private_cluster(replicas=1)
    site = plant(cluster.url, WRITES_PAUSE="0.02")
    _over(site, cluster.url, cluster.masters, cluster.masters[0].kill)
