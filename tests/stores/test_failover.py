"""Failovers behind a name: what nobody reads on the old server any more, and what survives on the new one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import pytest

from flask_rcache.errors import StoreUnavailableError
from flask_rcache.model.keys import EPOCH, user_tag
from flask_rcache.stores.protocol import Outcome
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import Kit, redis_store
from tests.stores.proxy import Proxy

pytestmark = pytest.mark.chaos

Servers = Callable[..., Server]


class Pair(NamedTuple):
    """A name that leads to a master, and the replica that is to take over."""

    old: Server
    new: Server
    name: Proxy

    def promote(self) -> None:
        """Make the replica the master; the old one, too, is still writable."""
        self.new.client().replicaof("NO", "ONE")

    def demote(self) -> None:
        """Make the old master a replica, which goes on answering what only reads."""
        self.old.client().replicaof("127.0.0.1", self.new.port)


@pytest.fixture
def pair(private_server: Servers) -> Iterator[Pair]:
    old = private_server("redis", repl_diskless_sync_delay=0)
    new = private_server("redis", replicaof=("127.0.0.1", old.port), repl_diskless_sync_delay=0)
    with Proxy(old.port) as name:
        wait_until(lambda: _is_linked(new.client()), timeout=20, what="replication")
        yield Pair(old, new, name)


def _is_linked(client: Any) -> bool:
    return bool(client.info("replication").get("master_link_status") == "up")


@pytest.fixture
def kits() -> Iterator[Callable[..., Kit]]:
    """Makes processes' stores, `kits(url, **options)`, and closes them."""
    made: list[Kit] = []

    def make(url: str, **options: Any) -> Kit:
        made.append(Kit(redis_store(url, **options)))
        return made[-1]

    yield make
    for kit in made:
        kit.store.close()


def reads(kit: Kit) -> bool:
    try:
        kit.read(kit.key())
    except StoreUnavailableError:
        return False
    return True


def has_moved(kit: Kit) -> bool:
    """Whether it uses another server than at first."""
    found: bool = kit.store.catalogue.state()["topology"]["last_failover"] is not None
    return found and reads(kit) and kit.store.incident is None


# --- Nothing is read from a server that has a successor


@pytest.mark.parametrize("how", ["one", "many", "many tags"])
def test_read__a_demoted_master_is_not_read_once_more(pair: Pair, kits: Callable[..., Kit], how: str) -> None:
    """It would answer for ever: the first read on it that follows an invalidation on its successor is refused."""
    kit, other = kits(pair.name.url, journal_keep=0.0), kits(pair.new.url)
    tags = [f"row:{each}" for each in range(40)] if how == "many tags" else ["eu"]
    kit.load(kit.key(), tags=tags)
    for _ in range(3):
        assert kit.value(kit.key()) == b"v"
    generation = kit.store.pool.generation  # type: ignore[attr-defined]
    pair.promote()
    pair.demote()
    other.store.invalidate([user_tag(tags[0])])
    read = (
        partial(kit.store.read_many, [kit.key()], kit.tags(kit.key()))
        if how == "many"
        else partial(kit.read, kit.key())
    )
    with pytest.raises(StoreUnavailableError, match="READONLY"):
        read()
    assert kit.store.pool.generation > generation  # type: ignore[attr-defined]  # maintenance may have met it first
    pair.name.aim(pair.new.port)
    wait_until(partial(reads, kit), timeout=10, what="the successor")
    assert kit.value(kit.key()) is None


def test_leave__sends_away_who_still_asks_the_old_master(pair: Pair, kits: Callable[..., Kit]) -> None:
    """While two servers are writable, the first process that finds the new one closes the old one for all others."""
    first, second = (kits(pair.name.url, journal_keep=0.0) for _ in range(2))
    first.load(first.key(), tags=["eu"])
    assert second.value(second.key()) == b"v"
    pair.promote()
    pair.name.aim(pair.new.port)
    first.store.pool.resolve_anew()  # type: ignore[attr-defined]
    wait_until(lambda: not _epoch(pair.old.client()), timeout=10, what="the first has left")
    # Of what the second asks, the old server answers neither a read nor an invalidation any more.
    with suppress(StoreUnavailableError):
        assert second.value(second.key()) is None
    with pytest.raises(StoreUnavailableError):
        second.store.invalidate([user_tag("eu")])
    for kit in (first, second):
        wait_until(partial(reads, kit), timeout=10, what="the successor")
        wait_until(partial(has_moved, kit), timeout=10, what="the journal is sent")
        assert _epoch(pair.new.client())
    first.load(first.key("b"))
    assert second.value(second.key("b")) == b"v"


def _epoch(client: Any) -> Any:
    return client.zscore("cache~stamps", EPOCH)


def test_leave__leaves_another_run_alone(redis_server: Server, kits: Callable[..., Kit]) -> None:
    """What arrives at another run of a server changes nothing; a fence goes with who comes back."""
    kit = kits(redis_server.url)
    kit.load(kit.key())
    server: Any = kit.store._server  # type: ignore[attr-defined]
    fence = partial(server._leave_script.packed, [kit.names.stamps], with_text=True)
    assert server.exchange(fence(args=["123"]), 1) == [0]
    assert kit.value(kit.key()) == b"v"
    assert server.exchange(fence(args=[server.run_hash]), 1) == [1]
    assert kit.value(kit.key()) is None
    with pytest.raises(StoreUnavailableError, match="another server has taken over"):
        kit.start(kit.key())
    wait_until(partial(reads, kit), timeout=10, what="its name leads there again")
    wait_until(lambda: kit.store.incident is None, timeout=10, what="recovered")
    kit.load(kit.key())


def test_resolve__a_name_that_was_moved_while_the_old_server_lives_on(pair: Pair, kits: Callable[..., Kit]) -> None:
    """Nothing fails, and nobody announces it: the maintenance thread finds out within a few seconds."""
    kit = kits(pair.name.url)
    kit.load(kit.key())
    pair.promote()
    pair.name.aim(pair.new.port)
    began = time.monotonic()
    wait_until(lambda: has_moved(kit), timeout=20, what="it is found")
    assert time.monotonic() - began < 12, "six beats, on a busy machine"


# --- What survives


def test_attach__several_that_return_make_it_cold_once(private_server: Servers, kits: Callable[..., Kit]) -> None:
    """Three processes go to another server and come back, one after the other: the first of them makes it cold."""
    first, second = private_server(), private_server()
    with Proxy(first.port) as name:
        processes = [kits(name.url) for _ in range(3)]
        for kit in processes:
            kit.moment()

        def move(to: Server, kit: Kit) -> None:
            name.aim(to.port)
            kit.store.pool.close()  # type: ignore[attr-defined]
            kit.store.pool.end_generation(StoreUnavailableError("for the test"))  # type: ignore[attr-defined]
            wait_until(partial(reads, kit), timeout=10, what="the other server")

        for kit in processes:
            move(second, kit)
        epochs = []
        for kit in processes:
            move(first, kit)
            epochs.append(_epoch(first.client()))
        assert len(set(epochs)) == 1


@pytest.mark.race
@pytest.mark.parametrize("how", ["valid", "invalidated", "cleared", "pattern", "at the end", "after it", "twice"])
def test_write__of_a_job_that_began_before_a_failover(
    private_server: Servers, kits: Callable[..., Kit], how: str
) -> None:
    """What it read is stored on a server that knows nothing of it, unless that was invalidated, ever (R3.2)."""
    old, new = private_server(), private_server()
    with Proxy(old.port) as name:
        kit, other = kits(name.url), kits(name.url)
        moment = kit.moment()
        before: dict[str, Callable[[], object]] = {
            "invalidated": lambda: other.store.invalidate([user_tag("eu")]),
            "cleared": lambda: other.store.invalidate((), everything=True),
            "pattern": lambda: other.store.invalidate_pattern("cache:x", None),
        }
        other.store.invalidate([user_tag("us")])
        if how in before:
            before[how]()
        _beats(kit)
        if how == "at the end":
            other.store.invalidate([user_tag("eu")])
        _moves(kit, name, new)
        assert kit.write(kit.key(), moment=moment, tags=["eu"]) is Outcome.REFUSED, "others may not have sent theirs"
        if how == "twice":
            _beats(kit)
            _moves(kit, name, old)
        _moves(other, name, old if how == "twice" else new)
        if how == "after it":
            other.store.invalidate([user_tag("eu")])
        expected = {
            "valid": Outcome.STORED,
            "twice": Outcome.STORED,
            "at the end": Outcome.OVERTAKEN,
            "after it": Outcome.OVERTAKEN,
        }.get(how, Outcome.REFUSED)
        if expected is Outcome.REFUSED:
            time.sleep(3.2)
        wait_until(lambda: kit.write(kit.key(), moment=moment, tags=["eu"]) is expected, timeout=10, what="settled")
        assert (kit.value(kit.key()) == b"v") is (expected is Outcome.STORED)
        other.store.invalidate([user_tag("eu")])
        assert kit.value(kit.key()) is None
        assert kit.write(kit.key(), moment=moment, tags=["eu"]) is not Outcome.STORED


def _beats(kit: Kit) -> None:
    """Have the present server's heartbeat tell what was invalidated."""
    maintenance: Any = kit.store._maintenance  # type: ignore[attr-defined]
    maintenance._server.drive(maintenance.beat())


def _moves(kit: Kit, name: Proxy, to: Server) -> None:
    name.aim(to.port)
    kit.store.pool.end_generation(StoreUnavailableError("for the test"))  # type: ignore[attr-defined]
    wait_until(lambda: reads(kit) and kit.store.incident is None, timeout=10, what="the other server")


def test_generation__threads_that_read_while_it_ends(pair: Pair, kits: Callable[..., Kit]) -> None:
    """Under load: each answer is of one server, and after the move none is of the old one."""
    kit = kits(pair.name.url, timeout=0.5)
    kit.load(kit.key())
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            with suppress(StoreUnavailableError):
                value = kit.value(kit.key("c"))
                if value not in (None, b"new"):
                    wrong.append(value)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        pair.promote()
        pair.demote()
        pair.name.aim(pair.new.port)
        wait_until(lambda: has_moved(kit), timeout=10, what="the successor")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert kit.value(kit.key()) is None
