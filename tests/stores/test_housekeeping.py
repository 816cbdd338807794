"""The thread beside the requests: leases renewed, threads that end, forks, and nothing left over."""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import threading
import time
from collections.abc import Callable

import pytest
from redis.exceptions import ReadOnlyError

from flask_rcache import CacheManager
from flask_rcache.stores import Begin, Fill, RedisStore
from flask_rcache.stores.redis.housekeeper import Housekeeper
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import Kit, redis_store
from tests.stores.test_redis import lua


class Owner:
    """Counts its rounds."""

    def __init__(self, answer: Callable[[], float | None], *, rest: float = 0.005) -> None:
        self.rounds = 0
        self._answer = answer
        self.keeper = Housekeeper(self.work, name="test-housekeeping", rest=rest)

    def work(self) -> float | None:
        self.rounds += 1
        return self._answer()


def threads(name: str = "test-housekeeping") -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_housekeeper__ends_when_idle_and_starts_again() -> None:
    """After ten rounds in a row that nobody asked for the thread ends; the next call starts it again."""
    owner = Owner(lambda: None)
    for turn in (1, 2):
        owner.keeper.ensure()
        wait_until(lambda: threads() == 0, timeout=10, what="idle")
        assert owner.rounds == 11 * turn  # the first one was asked for


def test_housekeeper__goes_on_while_asked_for() -> None:
    """Calls keep it alive, and there is one thread whatever the number of callers."""
    owner = Owner(lambda: None, rest=0.02)

    def asks() -> bool:
        owner.keeper.ensure()
        return owner.rounds > 40 and threads() == 1

    wait_until(asks, timeout=20, what="more rounds than an idle thread has, all of one thread")
    owner.keeper.stop()
    assert threads() == 0


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


def test_housekeeper__now_does_not_wait() -> None:
    """`now` begins a round at once, however long the rest."""
    owner = Owner(lambda: None, rest=30.0)
    owner.keeper.ensure()
    wait_until(lambda: owner.rounds == 1, timeout=10, what="the first round")
    owner.keeper.ensure(now=True)
    wait_until(lambda: owner.rounds == 2, timeout=10, what="the second round")
    owner.keeper.stop()


def test_housekeeper__stopped_in_a_round_stays_stopped() -> None:
    """A round that asks for itself does not bring back a thread that was stopped meanwhile."""
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        leave.wait(10)
        owner.keeper.ensure()

    owner = Owner(work)
    owner.keeper.ensure()
    entered.wait(10)
    stopping = threading.Thread(target=owner.keeper.stop)
    stopping.start()
    wait_until(lambda: owner.keeper._thread is None, timeout=10, what="stopping")
    leave.set()
    stopping.join()
    wait_until(lambda: threads() == 0, timeout=10, what="stopped")
    assert owner.rounds == 1


# Leases


def test_beat__renews_its_own_leases_only(shared_kit: Kit) -> None:
    """By token: what another holds, and a pass marker, are left as they are; it writes, but changes nothing."""
    kit = shared_kit
    kit.load(kit.key())
    kit.store.close()  # its own beat would renew them, too
    names = [kit.names.lease(kit.key(name)) for name in ("mine", "theirs")]
    for name in names:
        kit.server().set(name, "lsomebody" if name == names[1] else "lmine", px=30_000)
    stamps = kit.server().zrange(kit.names.stamps, 0, -1, withscores=True)
    script = kit.server().register_script(lua("beat"))
    keys = [kit.names.stamps, kit.names.loads, *names]
    assert script(keys=keys, args=[60_000, "lmine", kit.key("mine"), "lnobody", kit.key("other")]) == 1
    assert kit.server().zrange(kit.names.loads, 0, -1) == [kit.key("mine").encode()]
    assert kit.server().pttl(names[0]) > 30_000
    assert kit.server().pttl(names[1]) <= 30_000
    assert kit.server().zrange(kit.names.stamps, 0, -1, withscores=True) == stamps


def test_beat__is_a_write(private_server: Callable[..., Server]) -> None:
    """A replica, which goes on answering reads, refuses it: that is how a master that became one is found out."""
    client = private_server().client()
    script = client.register_script(lua("beat"))
    assert script(keys=["cache~stamps", "cache~loads"], args=[5000]) == 0
    client.replicaof("127.0.0.1", "1")
    assert client.get("cache~stamps") is None
    with pytest.raises(ReadOnlyError):
        script(keys=["cache~stamps", "cache~loads"], args=[5000])


@pytest.mark.race
def test_lease__renewed_while_its_loader_lives(redis_server: Server) -> None:
    """A load of more than twice the lease keeps its key."""
    kit, other = (Kit(redis_store(redis_server.url, lease=1.8)) for _ in range(2))
    grant = kit.grant(kit.key())
    began = time.monotonic()
    while time.monotonic() - began < 4:
        assert other.ask(kit.key()).kind is Begin.BUSY
        time.sleep(0.05)
    assert kit.fill(grant) is Fill.STORED
    for each in (kit, other):
        each.store.close()


@pytest.mark.race
def test_lease__not_renewed_for_ever(redis_server: Server) -> None:
    """After load_timeout a loader that hangs loses its key."""
    kit, other = (Kit(redis_store(redis_server.url, lease=1.2, load_timeout=2.4)) for _ in range(2))
    grant = kit.grant(kit.key())
    time.sleep(1.5)
    assert other.ask(kit.key()).kind is Begin.BUSY
    wait_until(lambda: other.ask(kit.key()).kind is Begin.GRANTED, timeout=20, what="the key is free")
    assert kit.fill(grant) is Fill.REFUSED
    for each in (kit, other):
        each.store.close()


@pytest.mark.race
def test_lease__ends_with_its_fill(redis_server: Server) -> None:
    """Leases of ended loads are not renewed: a later holder's time is its own."""
    kit = Kit(redis_store(redis_server.url, lease=0.3))
    kit.fill(kit.grant(kit.key()))
    kit.store.release([kit.grant(kit.key("b"))])
    redis_server.client().set(kit.names.lease(kit.key()), "lother", px=300)
    time.sleep(0.5)
    assert not redis_server.client().exists(kit.names.lease(kit.key()))
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


def test_fork__child_has_its_own_connections_and_thread(
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
        threads_before = threads("flask_rcache-housekeeping")
        for _ in range(10):
            read()
        loaded = cache.fetch("search", "child", lambda: "loaded")
        cache.invalidate_tags("from-child")
        return [threads_before, wrong, loaded, threads("flask_rcache-housekeeping"), cache.is_available]

    assert in_child(child, meanwhile=read) == [0, [], "loaded", 1, True]
    assert wrong == []
    assert cache.is_available
    assert cache.get("search", "child") == "loaded"
    assert cache.get("search", "tagged") is None


def test_fork__child_does_not_renew_its_parent_s_leases(redis_server: Server) -> None:
    """Else a child that outlives its parent would hold the keys that the parent was loading when it died."""
    kit = Kit(redis_store(redis_server.url))
    kit.grant(kit.key())
    assert isinstance(kit.store, RedisStore)
    held = kit.store._held
    assert len(held) == 1

    def child() -> object:
        kit.read(kit.key("b"))
        kit.grant(kit.key("b"))
        return [key for key, _ in held]

    assert in_child(child) == [kit.key("b")]
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


def test_managers__leave_no_threads_and_sockets(redis_server: Server) -> None:
    """A thousand caches made, many used, all forgotten: threads and connections go with them."""
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
    wait_until(lambda: threading.active_count() <= threads_before, timeout=10, what="threads ended")
    wait_until(lambda: len(client.client_list()) <= clients_before, timeout=10, what="connections closed")
    kept.store.close()


def test_store__a_read_on_a_kept_connection_starts_the_thread(redis_server: Server) -> None:
    """After a rest the thread is gone and the connection is not: whoever reads is heard by a beating heart again."""
    kit = Kit(redis_store(redis_server.url))
    kit.load(kit.key())
    assert isinstance(kit.store, RedisStore)
    kit.store._housekeeper.stop()
    kit.store._housekeeper.asked = False  # as the last of its idle rounds leaves it
    assert kit.value(kit.key()) == b"v"
    wait_until(lambda: threads("flask_rcache-housekeeping") == 1, timeout=10, what="one thread")
    kit.store.close()


def test_store__idle_thread_ends_and_a_read_starts_it_again(redis_server: Server) -> None:
    """A store that only reads beats too; closed, it has no thread."""
    kit = Kit(redis_store(redis_server.url))
    kit.load(kit.key())
    for _ in range(2):
        kit.store.close()
        wait_until(lambda: threads("flask_rcache-housekeeping") == 0, timeout=10, what="no thread")
        assert kit.value(kit.key()) == b"v"
        wait_until(lambda: threads("flask_rcache-housekeeping") == 1, timeout=10, what="one thread")
    kit.store.close()
    wait_until(lambda: threads("flask_rcache-housekeeping") == 0, timeout=10, what="no thread")
