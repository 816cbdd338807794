"""The thread beside the requests: heartbeats, leases renewed, forks, and nothing left over."""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ReadOnlyError

from flask_rcache import CacheManager
from flask_rcache.model.entry import Moment
from flask_rcache.model.keys import CLOCK, RUN
from flask_rcache.stores.protocol import Begin, Outcome
from flask_rcache.stores.redis.housekeeper import Housekeeper
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import SECOND, Kit, redis_store
from tests.stores.test_redis import beat, call, rows, stamps

MAINTENANCE = "flask_rcache-maintenance"


class Owner:
    """Counts its rounds."""

    def __init__(self, answer: Callable[[], float], *, rest: float = 0.005) -> None:
        self.rounds = 0
        self._answer = answer
        self.keeper = Housekeeper(name="test-housekeeping", rest=rest)
        self.keeper.assign(self.work)

    def work(self) -> float:
        self.rounds += 1
        return self._answer()


def threads(name: str = "test-housekeeping") -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_housekeeper__one_thread_until_it_is_stopped() -> None:
    """Whoever asks, and however often; stopped, it ends; asked again, it starts again."""
    owner = Owner(lambda: 0.005)
    for _ in range(2):
        assert all(owner.keeper.ensure() for _ in range(10))
        before = owner.rounds
        wait_until(lambda before=before: owner.rounds > before + 3, timeout=10, what="rounds")  # type: ignore[misc]
        assert threads() == 1
        owner.keeper.stop()
        assert threads() == 0


def test_housekeeper__stopped_in_a_round_does_not_start_itself_again() -> None:
    """What its last round uses asks for the thread as everybody does; only somebody else starts another."""
    begun, go_on = threading.Event(), threading.Event()

    def answer() -> float:
        begun.set()
        assert go_on.wait(20)
        owner.keeper.ensure()
        return 60.0

    owner = Owner(answer)
    owner.keeper.ensure()
    assert begun.wait(20)
    owner.keeper.stop(timeout=0.0)
    go_on.set()
    wait_until(lambda: threads() == 0, timeout=10, what="the thread ended")
    assert owner.keeper.ensure()
    wait_until(lambda: owner.rounds == 2, timeout=10, what="a round of another thread")
    owner.keeper.stop()


def test_housekeeper__does_not_keep_its_owner_alive() -> None:
    """An owner that nobody holds any more goes, and its thread after it."""
    owners = [Owner(lambda: 0.005)]
    owners[0].keeper.ensure()
    wait_until(lambda: owners[0].rounds > 2, timeout=10, what="rounds")
    owners.clear()
    gc.collect()
    wait_until(lambda: threads() == 0, timeout=10, what="the thread ended")


def test_housekeeper__failing_round_is_logged_and_the_next_comes(caplog: pytest.LogCaptureFixture) -> None:
    """A defect in a round does not end the rounds that renew leases."""
    owner = Owner(lambda: 1 // 0)
    with caplog.at_level(logging.ERROR, logger="flask_rcache"):
        owner.keeper.ensure()
        wait_until(lambda: owner.rounds >= 3, timeout=10, what="rounds")
    owner.keeper.stop()
    assert "[CACHE ERROR]" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_housekeeper__woken_it_does_not_wait() -> None:
    """A round begins at once, however long the rest."""
    owner = Owner(lambda: 30.0)
    owner.keeper.ensure()
    wait_until(lambda: owner.rounds == 1, timeout=10, what="the first round")
    owner.keeper.wake()
    wait_until(lambda: owner.rounds == 2, timeout=10, what="the second round")
    owner.keeper.stop()


def test_housekeeper__no_thread_to_be_had(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once, nobody fails for it, and who asks next tries again."""
    owner = Owner(lambda: 0.005)

    def no(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as none, caplog.at_level(logging.ERROR, logger="flask_rcache"):
        none.setattr("threading.Thread.start", no)
        assert not any(owner.keeper.ensure() for _ in range(3))
    assert len([message for message in caplog.messages if "maintenance thread" in message]) == 1
    assert owner.keeper.ensure()
    wait_until(lambda: owner.rounds > 2, timeout=10, what="rounds")
    owner.keeper.stop()


# The heartbeat


def test_beat__renews_its_own_leases_only(shared_kit: Kit) -> None:
    """By token: what another holds, and a pass marker of another kind, are left as they are."""
    kit, client = shared_kit, shared_kit.server()
    kit.load(kit.key())
    kit.store.close()  # its own beat would renew them, too
    moment = "1 2 3 0"
    held = {"mine": f"lmine {moment}", "theirs": f"lsomebody {moment}", "marked": "pmine"}
    names = [kit.names.lease(kit.key(name)) for name in held]
    for name, value in zip(names, held.values(), strict=True):
        client.set(name, value, px=30_000)
    keys = [kit.names.stamps, kit.names.loads, *names]
    tokens = ("lmine", kit.key("mine"), "lnobody", kit.key("theirs"), "pmine", kit.key("marked"))
    _, _, _, renewed, *_ = call(client, "beat", keys, 2**52, 60_000, 100, 0, 2**52, "", *tokens)
    assert renewed == 2
    assert client.zrange(kit.names.loads, 0, -1) == [kit.key("mine").encode()]
    assert [client.pttl(name) > 30_000 for name in names] == [True, False, True]


def test_beat__is_a_write_and_a_reading(shared_kit: Kit) -> None:
    """Each gives a later reading of the clock, and the server's TIME; nothing else changes."""
    kit = shared_kit
    kit.load(kit.key(), tags=["eu"])
    kit.store.close()
    before, found = stamps(kit), rows(kit)
    first, second = beat(kit), beat(kit)
    assert before[CLOCK] < first[1] < second[1] == stamps(kit)[CLOCK]
    assert abs(second[2] - time.time() * SECOND) < 30 * SECOND
    assert {name: score for name, score in stamps(kit).items() if name != CLOCK} == {
        name: score for name, score in before.items() if name != CLOCK
    }
    assert rows(kit) == found
    assert kit.value(kit.key()) == b"v"


def test_beat__a_replica_refuses_it(private_server: Callable[..., Server]) -> None:
    """A replica goes on answering reads: that is how a master that became one is found out."""
    kit = Kit(redis_store("redis://127.0.0.1:1/0"), client=private_server().client())
    assert beat(kit)[0] == 2**52 + 7
    client = kit.server()
    client.replicaof("127.0.0.1", "1")
    assert client.zscore(kit.names.stamps, RUN) is not None
    with pytest.raises(ReadOnlyError):
        beat(kit)


def test_beat__an_idle_store_hears_the_clock(shared_kit: Kit) -> None:
    """Nobody asks it anything, and its moment is a second old at most (R3.1)."""
    kit = shared_kit
    seen: list[Moment] = [kit.moment()]

    def later() -> bool:
        moment = kit.store.moment
        if moment is not None and moment.clock > seen[-1].clock:
            seen.append(moment)
        return len(seen) > 2

    began = time.monotonic()
    wait_until(later, timeout=15, what="two more readings")
    assert seen[-1].clock - seen[0].clock <= (time.monotonic() - began + 1) * SECOND
    assert {moment.epoch for moment in seen} == {seen[0].epoch}


def test_beat__few_commands_when_idle(redis_server: Server) -> None:
    """Those inside its script counted; what it does rarely, it does rarely."""
    kit = Kit(redis_store(redis_server.url), client=redis_server.client())
    kit.load(kit.key())
    kit.store.close()
    client = kit.server()
    for most, limit in ((0, 7), (500, 10)):
        keys = [kit.names.stamps, kit.names.loads]
        args = (2**52, 5000, 100_000, most, 2**52)
        call(client, "beat", keys, *args)
        client.config_resetstat()
        call(client, "beat", keys, *args)
        stats: dict[str, Any] = client.info("commandstats")
        commands = {name: each["calls"] for name, each in stats.items() if "config" not in name and "info" not in name}
        assert sum(commands.values()) <= limit, commands


@pytest.mark.race
def test_lease__renewed_while_its_loader_lives(redis_server: Server) -> None:
    """A load of more than twice the lease keeps its key."""
    kit, other = (Kit(redis_store(redis_server.url, lease=1.8)) for _ in range(2))
    started = kit.start(kit.key())
    began = time.monotonic()
    while time.monotonic() - began < 4:
        assert other.ask(kit.key()).kind is Begin.BUSY
        time.sleep(0.05)
    assert kit.fill(started) is Outcome.STORED
    for each in (kit, other):
        each.store.close()


@pytest.mark.race
@pytest.mark.parametrize("how", ["hangs", "returned"])
def test_lease__not_renewed_for_ever(redis_server: Server, how: str) -> None:
    """A loader that hangs loses its key after load_timeout; one that has returned keeps what is left of its lease."""
    kit, other = (Kit(redis_store(redis_server.url, lease=1.2, load_timeout=2.4)) for _ in range(2))
    started = kit.start(kit.key())
    if how == "returned":
        kit.store.returned(started.lease)
    else:
        time.sleep(1.5)
        assert other.ask(kit.key()).kind is Begin.BUSY
    wait_until(lambda: other.ask(kit.key()).kind is Begin.GRANTED, timeout=20, what="the key is free")
    assert kit.fill(started) is Outcome.REFUSED
    for each in (kit, other):
        each.store.close()


@pytest.mark.race
def test_lease__ends_with_its_fill(redis_server: Server) -> None:
    """Leases of ended loads are not renewed: a later holder's time is its own."""
    kit = Kit(redis_store(redis_server.url, lease=0.3))
    kit.fill(kit.start(kit.key()))
    kit.store.release([kit.start(kit.key("b")).lease])
    redis_server.client().set(kit.names.lease(kit.key()), "lother 1 2 3 0", px=300)
    time.sleep(0.5)
    assert not redis_server.client().exists(kit.names.lease(kit.key()))
    kit.store.close()


def test_connections__idle_ones_are_closed(redis_server: Server) -> None:
    """After a burst a process gives back what it does not use any more, without being asked anything."""
    kit = Kit(redis_store(redis_server.url, idle_timeout=1.0), client=redis_server.client())
    kit.load(kit.key())
    barrier = threading.Barrier(20)

    def burst() -> None:
        barrier.wait()
        for _ in range(20):
            kit.read(kit.key())

    crowd = [threading.Thread(target=burst) for _ in range(20)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    wait_until(lambda: kit.store.pool.connections <= 2, timeout=20, what="closed")  # type: ignore[attr-defined]
    assert kit.value(kit.key()) == b"v"
    kit.store.close()


# Processes and many caches


def in_child(act: Callable[[], object], *, meanwhile: Callable[[], object] = object) -> object:
    """What an act gives in a forked child of this process, which does something else as long as the child runs."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(act()).encode())
        except BaseException as error:  # noqa: BLE001  # whatever it is, the parent must hear of it
            os.write(writer, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    while not select.select([reader], [], [], 0)[0]:
        meanwhile()
    with os.fdopen(reader, "rb") as pipe:
        answer = json.loads(pipe.read() or "null")
    os.waitpid(pid, 0)
    return answer


def test_fork__child_has_its_own_connections_and_threads(
    redis_server: Server, caches: Callable[..., CacheManager]
) -> None:
    """After a fork neither reads the other's replies; the child loads, renews and invalidates on its own."""
    cache = caches(redis_server.url, timeout=2.0)
    for number in range(50):
        cache.set("search", f"k{number}", f"v{number}")
    cache.set("search", "tagged", 1, tags=["from-child"])
    wrong: list[object] = []

    def read() -> None:
        wrong.extend(number for number in range(50) if cache.get("search", f"k{number}") != f"v{number}")

    def child() -> object:
        threads_before = threads(MAINTENANCE)
        for _ in range(10):
            read()
        loaded = cache.fetch("search", "child", lambda: "loaded")
        cache.invalidate_tags("from-child")
        return [threads_before, wrong, loaded, threads(MAINTENANCE), cache.is_available]

    assert in_child(child, meanwhile=read) == [0, [], "loaded", 1, True]
    assert wrong == []
    assert cache.is_available
    assert cache.get("search", "child") == "loaded"
    assert cache.get("search", "tagged") is None


@pytest.mark.race
def test_fork__child_does_not_renew_its_parent_s_leases(redis_server: Server) -> None:
    """Else a child that outlives its parent would hold the keys that the parent was loading when it died."""
    kit = Kit(redis_store(redis_server.url, lease=0.6), client=redis_server.client())
    started = kit.start(kit.key())

    def child() -> object:
        own = kit.start(kit.key("b"))
        kit.store.returned(own.lease)
        time.sleep(1.5)
        return kit.server().exists(kit.names.lease(kit.key()))

    kit.store.returned(started.lease)  # the parent's own thread does not renew it
    assert in_child(child) == 0
    kit.store.close()


def test_fork__during_a_load(redis_server: Server, caches: Callable[..., CacheManager]) -> None:
    """A child does not wait for a load of its parent's threads as if it were its own, nor keep its lease alive."""
    cache = caches(redis_server.url, lease=0.5, load_timeout=30.0)
    begun, go = threading.Event(), threading.Event()

    def loader() -> str:
        begun.set()
        go.wait(30)
        return "parent"

    loading = threading.Thread(target=lambda: cache.fetch("search", "a", loader))
    loading.start()
    begun.wait(10)

    def child() -> object:
        redis_server.client().delete("cache~lease:search:a")  # as if the parent had died
        started = time.monotonic()
        return [cache.fetch("search", "a", lambda: "child"), time.monotonic() - started]

    answer = in_child(child)
    go.set()
    loading.join()
    assert isinstance(answer, list), answer
    assert answer[0] == "child"
    assert answer[1] < 8.0


@pytest.mark.slow
def test_stores__leave_no_threads_and_connections(redis_server: Server) -> None:
    """A thousand stores made, many used, all forgotten, closed or not: threads and connections go with them."""
    client = redis_server.client()
    threads_before = threading.active_count()
    clients_before = len(client.client_list())
    kept = Kit(redis_store(redis_server.url))
    for number in range(1000):
        store = redis_store(redis_server.url)
        if number % 10 == 0:
            Kit(store).load(kept.key(f"k{number}"))
            store.close()
        del store
    gc.collect()
    wait_until(lambda: threading.active_count() <= threads_before, timeout=20, what="threads ended")
    wait_until(lambda: len(client.client_list()) <= clients_before, timeout=20, what="connections closed")
    kept.store.close()


def test_store__closed_it_has_no_threads_and_a_read_starts_them_again(redis_server: Server) -> None:
    """A store that only reads beats too; closed, it has no thread until it is used again."""
    kit = Kit(redis_store(redis_server.url))
    kit.load(kit.key())
    for _ in range(3):
        assert threads(MAINTENANCE) == 1
        kit.store.close()
        assert threads(MAINTENANCE) == 0
        wait_until(lambda: threads("flask_rcache-bus") == 0, timeout=10, what="no listener")
        assert kit.value(kit.key()) == b"v"
    kit.store.close()
