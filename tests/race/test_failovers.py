"""Failovers while four workers read and a writer invalidates: nothing stale, nothing failed, nothing slow.

`RACE_SECONDS=12` in the environment is the long form. Each read that gives a value older than the last acknowledged
invalidation counts as stale (types with `l1_ttl=0`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.processes import wait_until
from tests.race.harness import Race
from tests.race.scenarios import FAILOVER
from tests.sentinels import MakesSentinels
from tests.servers import Server
from tests.stores.proxy import Proxy

_SECONDS = float(os.environ.get("RACE_SECONDS", "5"))
#: Microseconds that the slowest read may take; in the suite other tests have the processors too.
_SLOWEST = 1_500_000 if "RACE_SECONDS" in os.environ else 3_000_000
#: Seconds after which there are hits again.
_BACK = 10.0

pytestmark = [pytest.mark.long, pytest.mark.race, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(240)]


def _race(server: Server, url: str, fail_over: Callable[[], object]) -> None:
    """Race, fail over on the way, and look at what the readers were given."""
    with Race(FAILOVER, server, seconds=_SECONDS, url=url) as race:
        race.start()
        wait_until(lambda: race.total.hits >= 50 and race.elapsed >= _SECONDS / 3, timeout=60, what="hits")
        fail_over()
        failed_over, hits = race.elapsed, race.total.hits
        wait_until(lambda: race.total.hits >= hits + 50, timeout=_BACK + 20, what="hits again")
        back = race.elapsed - failed_over
        seen = race.ledger.invalidations
        wait_until(lambda: race.ledger.invalidations >= seen + 5, timeout=20, what="invalidations again")
        race.wait()
    outcome = race.outcome()
    said = f"{outcome.describe()}\n  hits were back after {back:.1f} s"
    print(said)
    assert outcome.stale == 0, said
    assert outcome.total.errors == 0, said
    assert outcome.total.slowest_us < _SLOWEST, said
    assert back < _BACK, said


@pytest.mark.parametrize("how", ["planned", "killed"])
@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_sentinel__a_failover_in_a_race(sentinels: MakesSentinels, flavour: str, how: str) -> None:
    """The master is killed, or its replica takes over while it stays writable for seconds."""
    trio = sentinels(flavour)
    master = trio.master
    _race(trio.replica, trio.url, trio.fail_over if how == "planned" else master.kill)


@pytest.mark.parametrize("how", ["killed", "demoted, then moved", "moved while both are writable", "silent"])
def test_name__a_failover_in_a_race(private_server: Callable[..., Server], how: str) -> None:
    """A name that leads to another server: its master died, was demoted, is writable still, or falls silent."""
    old = private_server("redis", repl_diskless_sync_delay=0)
    new = private_server("redis", replicaof=("127.0.0.1", old.port), repl_diskless_sync_delay=0)
    with ExitStack() as running:
        name = running.enter_context(Proxy(old.port))

        def is_linked() -> bool:
            info: Any = new.client().info("replication")
            return bool(info.get("master_link_status") == "up")

        def fail_over() -> None:
            if how == "killed":
                old.kill()
            if how == "silent":
                old.pause()
                running.callback(old.resume)
            new.client().replicaof("NO", "ONE")
            if how == "demoted, then moved":
                old.client().replicaof("127.0.0.1", str(new.port))
            name.aim(new.port)

        wait_until(is_linked, timeout=20, what="replication")
        _race(new, name.url, fail_over)
