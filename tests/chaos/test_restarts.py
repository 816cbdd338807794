"""Restarts and failovers seen from another process: what was invalidated before or during them stays invalidated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis

from flask_rcache import CacheManager
from tests.chaos.witness import HELD, HOLD, Witness, ask
from tests.processes import wait_until
from tests.servers import Gunicorn, Server
from tests.stores.proxy import Proxy

pytestmark = pytest.mark.chaos

Servers = Callable[..., Server]

MEANS = ("type", "tag", "key", "pattern", "everything")
#: Rounds of reading, each of every entry in both ways, after the store is back.
ROUNDS = 30


@pytest.fixture(scope="module")
def other() -> Iterator[Gunicorn]:
    """The other process."""
    with Gunicorn("tests.chaos.witness:create_app()", threads=4) as web:
        yield web


@pytest.fixture
def here() -> Iterator[Witness]:
    """The process that invalidates: this one, which reads as the other does."""
    witness = Witness()
    yield witness
    witness.close()


def invalidate(cache: CacheManager, means: str, name: str) -> float:
    """Invalidate what bears the name; when that had returned."""
    {
        "type": lambda: cache.invalidate_type(HELD[name]),
        "tag": lambda: cache.invalidate_tags(f"{name}-tag"),
        "key": lambda: [cache.delete(HELD[name], key) for key in ("there", "late")],
        "pattern": lambda: cache.invalidate_pattern(f"{name}:*"),
        "everything": cache.clear_all,
    }[means]()
    return time.monotonic()


class Scene:
    """Two processes that read one store, which is about to fail.

    Args:
        here: this process's witness.
        other: the other process.
        url: the store.
        on_failover: `RCACHE_ON_FAILOVER` of both.
    """

    def __init__(self, here: Witness, other: Gunicorn, url: str, *, on_failover: str = "cold") -> None:
        self.here = here
        self.other = other
        self.returned: dict[str, float] = {}
        here.open(url, on_failover)
        ask(other, "open", url=url, on_failover=on_failover)
        ask(other, "load")
        for report in self.reports:
            wait_until(partial(self._sees_all, report), timeout=20, what="both processes see the old values")

    @property
    def reports(self) -> list[Callable[[], dict[str, Any]]]:
        """What this process has seen, and what the other has."""
        return [self.here.report, lambda: ask(self.other, "report")]

    def _sees_all(self, report: Callable[[], dict[str, Any]]) -> bool:
        return {f"{name} there {way}" for name in HELD for way in ("held", "exact")} <= set(report()["seen"])

    def invalidate(self, means: str, name: str) -> None:
        """Invalidate from this process, and note when that had returned."""
        self.returned[name] = invalidate(self.here.cache, means, name)

    def goes_on(self) -> None:
        """Wait until both processes have the store back, let the late loads end, and read for a while."""
        for report in self.reports:
            wait_until(lambda report=report: report()["available"], timeout=30, what="recovered")  # type: ignore[misc]
        ask(self.other, "go")
        for report in self.reports:
            until = report()["rounds"] + ROUNDS
            wait_until(lambda report=report, until=until: report()["rounds"] >= until, timeout=30, what="reads")  # type: ignore[misc]

    def old_answers(self) -> list[str]:
        """Every way in which something old was served by a read that began after its invalidation had returned."""
        found = []
        for who, report in zip(("here", "other"), self.reports, strict=True):
            for what, began in report()["seen"].items():
                name, _, way = what.split()
                if name in self.returned:
                    late = began - self.returned[name]
                    if late > (HOLD if way == "held" and who == "other" else 0.0):
                        found.append(f"{who}: {what}, {late:.3f} s after")
        return found

    def works(self) -> None:
        """Both processes load and share again."""
        for name in ("before", "during"):
            wait_until(lambda name=name: ask(self.other, "fetch", name=name) == "new", timeout=20, what="a new load")  # type: ignore[misc]
            wait_until(lambda name=name: self.here.fetch(name) == "new", timeout=20, what="the new value")  # type: ignore[misc]


@pytest.mark.parametrize("means", MEANS)
def test_restart__empty(private_server: Servers, here: Witness, other: Gunicorn, means: str) -> None:
    """Killed and restarted empty, on the same port."""
    server = private_server()
    scene = Scene(here, other, server.url)
    scene.invalidate(means, "before")
    server.kill()
    scene.invalidate(means, "during")
    server.restart(wipe=True)
    scene.goes_on()
    assert scene.old_answers() == []
    scene.works()


def snapshot_of_old_times(server: Server) -> None:
    """Have the server save what it has, the leases of loads under way included."""
    client = server.client()

    def has_saved() -> bool:
        try:
            return bool(client.save())
        except redis.ResponseError as error:  # a replica's first synchronisation saves too, in the background
            if "in progress" not in str(error):
                raise
            return False

    wait_until(has_saved, timeout=20, what="a snapshot")
    saved = (server.directory / "dump.rdb").read_bytes()
    assert b"cache:before:there" in saved
    assert b"cache~lease:before:late" in saved


@pytest.mark.parametrize("means", MEANS)
def test_restart__old_snapshot(private_server: Servers, here: Witness, other: Gunicorn, means: str) -> None:
    """Killed and restarted from a snapshot that was taken before the invalidations."""
    server = private_server(save="3600 1000000")
    scene = Scene(here, other, server.url)
    snapshot_of_old_times(server)
    scene.invalidate(means, "before")
    server.kill()
    scene.invalidate(means, "during")
    server.restart()
    scene.goes_on()
    assert scene.old_answers() == []
    scene.works()


def replica_left_behind(private_server: Servers, master: Server) -> Server:
    """A replica that has all that the master has, and from now on hears nothing of it any more."""
    with Proxy(master.port) as link:
        replica = private_server(replicaof=("127.0.0.1", link.port))
        client = replica.client()
        wait_until(lambda: client.exists("cache~lease:before:late") == 1, timeout=30, what="replication")
        assert client.exists("cache:before:there") == 1
    return replica


@pytest.mark.parametrize("means", MEANS)
def test_failover__replica_that_missed_the_last_second(
    private_server: Servers, here: Witness, other: Gunicorn, means: str
) -> None:
    """The master dies, and a replica that missed the invalidations takes its place."""
    master = private_server(repl_diskless_sync_delay=0)
    with Proxy(master.port) as address:
        scene = Scene(here, other, address.url)
        replica = replica_left_behind(private_server, master)
        scene.invalidate(means, "before")
        master.kill()
        address.cut()
        scene.invalidate(means, "during")
        assert replica.client().exists("cache:before:there") == 1
        replica.client().replicaof("NO", "ONE")
        address.aim(replica.port)
        address.mend()
        scene.goes_on()
        assert scene.old_answers() == []
        scene.works()
        ask(other, "close")
        here.close()


@pytest.mark.parametrize("how", ["old snapshot", "replica"])
def test_restarts__warm_sends_what_was_acknowledged_again(
    private_server: Servers, here: Witness, other: Gunicorn, how: str
) -> None:
    """With `RCACHE_ON_FAILOVER=warm` the journal's last minute is sent again before the new run is trusted."""
    server = private_server(save="3600 1000000", repl_diskless_sync_delay=0)
    with Proxy(server.port) as address:
        scene = Scene(here, other, address.url, on_failover="warm")
        replica = replica_left_behind(private_server, server) if how == "replica" else None
        snapshot_of_old_times(server)
        scene.invalidate("tag", "before")
        server.kill()
        address.cut()
        if replica is not None:
            replica.client().replicaof("NO", "ONE")
            address.aim(replica.port)
        else:
            server.restart()
        address.mend()
        scene.goes_on()
        found = scene.old_answers()
        ask(other, "close")
        here.close()
    for what in ("here: before there exact", "other: before there exact"):
        assert any(line.startswith(what) for line in found), found


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_demotion__is_noticed(
    private_server: Servers, here: Witness, other: Gunicorn, flavour: str, record_property: Callable[..., None]
) -> None:
    """A master demoted under open connections, and another process that only reads: it notices within two seconds.

    Two seconds are for a beat each second and a slow machine's delays; four are allowed to a machine that does other
    things, too. A process that did not beat would not notice at all: a replica goes on answering reads.
    """
    server, successor = private_server(flavour), private_server(flavour)
    scene = Scene(here, other, server.url)
    ask(other, "go")
    server.client().replicaof("127.0.0.1", str(successor.port))
    demoted = time.monotonic()
    for report in scene.reports:
        wait_until(lambda report=report: report()["away_since"] > 0, timeout=20, what="noticed")  # type: ignore[misc]
        took = report()["away_since"] - demoted
        record_property("seconds", took)
        print(f"noticed after {took:.2f} s")
        assert took <= 4.0
    scene.invalidate("tag", "during")
    server.client().replicaof("NO", "ONE")
    wait_until(lambda: here.report()["available"], timeout=30, what="recovered")
    scene.returned["during"] = time.monotonic()  # only journalled, it was not known to the other process before
    scene.goes_on()
    assert scene.old_answers() == []
    assert {ask(other, "fetch", name="during"), here.fetch("during")} == {"new"}
    assert here.fetch("kept") == "old"
