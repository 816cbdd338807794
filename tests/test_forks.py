"""Forked children: no lock of the parent's threads holds them up, and nothing of the parent's is told twice."""

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
from flask_rcache.views import commit, visit
from tests.servers import Server
from tests.twenty.kit import cache_on

KIND = CacheType("kind", ttl=60)


@pytest.fixture
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
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def all_locks(cache: CacheManager) -> list[Any]:
    """Every lock of a cache, and those of the modules that serve its requests."""
    store: Any = cache.store
    found = [cache._incident_lock, cache.statistics._lock, cache.statistics.notes._lock, store._lock]
    found += [cache.statistics.of("kind")._lock, commit._pending_lock, visit._unfinished_lock]
    if cache.store.location != "memory://":
        redis: Any = getattr(store, "redis", store)
        found += [redis._lock, redis._count_lock, redis._breaker._lock, redis._journal._lock, redis._housekeeper._lock]
    if hasattr(store, "redis"):
        found += [store._outage._lock, store._bus._lock]
    return list({id(lock): lock for lock in found}.values())


@pytest.mark.parametrize("cache", ["memory", "redis", "tiered"], indirect=True)
def test_fork__while_other_threads_hold_every_lock(cache: CacheManager) -> None:
    """A child of a busy process hangs on nothing: it reads, loads, counts, invalidates and closes."""
    cache.set(KIND, "k", "v", tags=["t"])
    cache.get(KIND, "k")
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        locks = all_locks(cache)
        for lock in locks:
            lock.acquire()
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
    assert held.wait(10)
    ended = in_child(child)
    go.set()
    holder.join()
    assert ended == 0


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
    """What the parent has counted and noted the parent tells; its children tell what is their own."""
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
    gazette = cache.store.gazette()
    assert gazette is not None
    assert len(gazette.log) == 1
    cache.close()


def test_new_lock__of_labels_and_forgotten() -> None:
    """A lock is known for as long as it is in use."""
    before = len(forks._locks)
    labels = Labels()
    assert len(forks._locks) == before + 1
    del labels
    assert len(forks._locks) == before
