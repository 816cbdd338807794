"""Forked children: no lock of the parent's threads holds them up, and what the parent counted is counted once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from flask_rcache import CacheManager, CacheType
from flask_rcache.metrics.names import Labels
from flask_rcache.model import forks
from tests.processes import wait_until
from tests.servers import Server
from tests.twenty.kit import cache_on

KIND = CacheType("kind", ttl=60)


@pytest.fixture(params=["memory", "redis", "tiered"])
def cache(request: pytest.FixtureRequest) -> Any:
    made = cache_on(
        "memory://" if request.param == "memory" else request.getfixturevalue("redis_server").url,
        l1_ttl=2 if request.param == "tiered" else 0,
    )
    yield made
    made.close()


def in_child(act: Callable[[], object], *, seconds: int = 10) -> int:
    """How a forked child ended that did something; 0 when it went well, the signal when it had to be stopped."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        with suppress(BaseException):
            act()
            os._exit(0)
        os._exit(3)
    states: list[int] = []

    def has_ended() -> bool:
        ended, state = os.waitpid(pid, os.WNOHANG)
        if ended:
            states.append(os.waitstatus_to_exitcode(state))
        return bool(ended)

    try:
        wait_until(has_ended, timeout=2 * seconds, what="the end of the child")
    except BaseException:  # it hangs in the midst of being forked, where it has no alarm yet
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return states[0]


def test_fork__while_other_threads_hold_every_lock(cache: CacheManager) -> None:
    """A child of a busy process hangs on nothing: it reads, loads, counts, invalidates and closes."""
    cache.set(KIND, "k", "v", tags=["t"])
    cache.get(KIND, "k")
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        locks = [lock for lock in forks._locks if lock.acquire(timeout=5)]
        held.set()
        go.wait(30)
        for lock in locks:
            lock.release()

    def child() -> None:
        assert cache.get(KIND, "k") in ("v", None)
        assert cache.fetch(KIND, "new", lambda: 1) == 1
        assert cache.get(KIND, "new") == 1
        cache.stats()
        cache.invalidate_tags("t")
        assert cache.get(KIND, "k") is None
        cache.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    ended = in_child(child)
    go.set()
    holder.join()
    assert ended == 0


def test_fork__what_begins_again_in_a_child_finds_no_lock_held() -> None:
    """An owner that takes its lock again, as the thread that warms does, is asked when all locks are free."""
    lock = forks.new_lock()

    class Owner:
        begun = False

        def begin(self) -> None:
            with lock:
                self.begun = True

        def reset_after_fork(self) -> Callable[[], None]:
            return self.begin

    owner = Owner()
    forks.register(owner)

    def child() -> None:
        assert owner.begun

    with lock:
        assert in_child(child) == 0
    assert not owner.begun


def test_fork__a_load_of_the_parent_in_memory_holds_no_child_up() -> None:
    """The child waits for no load that ends in its parent only."""
    cache = cache_on("memory://", load_timeout=60)
    begun, go = threading.Event(), threading.Event()

    def loader() -> str:
        begun.set()
        go.wait(30)
        return "parent"

    def child() -> None:
        assert cache.fetch(KIND, "k", lambda: "child") == "child"

    loading = threading.Thread(target=lambda: cache.fetch(KIND, "k", loader))
    loading.start()
    assert begun.wait(10)
    ended = in_child(child)
    go.set()
    loading.join()
    cache.close()
    assert ended == 0


def test_fork__counted_once(redis_server: Server) -> None:
    """What the parent has counted and recorded it reports itself; its children report what is their own."""
    cache = cache_on(redis_server.url)
    cache.set(KIND, "k", 1)
    for _ in range(10):
        cache.get(KIND, "k")
    cache.invalidate_tags("t")

    def child() -> None:
        cache.get(KIND, "k")
        cache.stats()

    assert [in_child(child) for _ in range(4)] == [0] * 4
    assert cache.stats()["hits"] == 10 + 4
    activity = cache.engine.catalogue.activity()
    assert activity is not None
    assert len(activity.log) == 1
    cache.close()


class Owner:
    """Something with state of the parent's, and a lock."""

    def __init__(self) -> None:
        self.lock = forks.new_lock()
        self.seen: list[bool] = []
        forks.register(self)

    def reset_after_fork(self) -> None:
        self.seen.append(self.lock.locked())


def test_register__called_once_in_each_child_and_sees_which_locks_are_held() -> None:
    """The owner can tell whether a thread of the parent was in the midst of a change; afterwards its lock is free."""
    owner, gone = Owner(), Owner()
    seen = gone.seen
    del gone

    def child(held: bool) -> None:
        assert (owner.seen, seen) == ([held], [])
        assert not owner.lock.locked()

    assert in_child(lambda: child(False)) == 0
    with owner.lock:
        assert in_child(lambda: child(True)) == 0
    assert owner.seen == []


def test_new_lock__of_labels_and_forgotten() -> None:
    """A lock is known for as long as it is in use."""
    before = len(forks._locks)
    labels = Labels()
    assert len(forks._locks) == before + 1
    del labels
    assert len(forks._locks) == before
