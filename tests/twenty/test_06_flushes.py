"""6: tagged entries are written while others clear or flush everything."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flask_rcache import CacheManager
from tests.processes import wait_until
from tests.servers import Server
from tests.twenty.kit import KIND, PATIENCE, Act, restored, there

ROUNDS = 60


@pytest.mark.parametrize("write", ["set", "fetch"])
def test_behaviour_06__tag_write_against_a_clearing(
    server: Server, caches: Callable[..., CacheManager], write: str
) -> None:
    """Whenever the clearing comes, an entry that is there after it bears its tag: to stamp the tag is enough."""
    here, other = (caches(server.url) for _ in range(2))
    turn, done = threading.Semaphore(0), threading.Semaphore(0)

    def clear() -> None:
        for _ in range(ROUNDS):
            assert turn.acquire(timeout=PATIENCE)
            other.clear_all()
            done.release()

    clearing = Act(clear)
    kept = 0
    for number in range(ROUNDS):
        restored(here)  # the last invalidation is known here, so that the write is not refused for its sake
        turn.release()  # one clearing, at the same time as the write
        for _ in range(5):  # the first of them are overtaken
            put(here, write, number)
        assert done.acquire(timeout=PATIENCE)
        kept += there(other)
        other.invalidate_tags("t")
        assert not there(here), number
    clearing.result()
    put(here, "fetch", "after")
    assert other.get(KIND, "k") == "after"
    print(f"{kept} of {ROUNDS} outlived the clearings until they were invalidated")


@pytest.mark.parametrize("write", ["set", "fetch"])
def test_behaviour_06__tag_write_against_a_flush(
    any_server: Server, caches: Callable[..., CacheManager], write: str
) -> None:
    """The same with FLUSHDB, which takes the stamps too: values are stored again after the next heartbeat."""
    here, other = (caches(any_server.url) for _ in range(2))
    for number in range(3):
        restored(here)
        flushing = Act(any_server.client().flushdb)
        put(here, write, number)
        flushing.result()
        other.invalidate_tags("t")
        assert not there(here), number
    restored(here)
    put(here, write, "after")
    assert other.get(KIND, "k") == "after"


def put(cache: CacheManager, write: str, value: object) -> None:
    """Store a value, in one way or the other."""
    if write == "set":
        cache.set(KIND, "k", value, tags=["t"])
    else:
        cache.fetch(KIND, "k", lambda: value, tags=["t"])


@pytest.mark.parametrize("means", ["tag", "type"])
def test_behaviour_06__between_flush_and_stamp(server: Server, caches: Callable[..., CacheManager], means: str) -> None:
    """A flush takes the stamps; what is written after it and invalidated after that is invalid all the same."""
    here, other = (caches(server.url) for _ in range(2))
    here.set(KIND, "k", "old", tags=["t"])
    other.invalidate_tags("t")
    server.client().flushdb()
    restored(here)
    assert here.set(KIND, "k", "old", tags=["t"])
    other.invalidate_tags("t") if means == "tag" else other.invalidate_type(KIND)
    assert not any(there(cache) for cache in (here, other))
    wait_until(lambda: here.set(KIND, "k", "new", tags=["t"]), timeout=PATIENCE, what="the invalidation is known here")
    assert other.get(KIND, "k") == "new"
