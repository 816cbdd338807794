"""6: tagged entries are written while others clear or flush everything."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flask_rcache import CacheManager
from tests.servers import Server
from tests.twenty.kit import KIND, PATIENCE, Act, there

ROUNDS = 150


@pytest.mark.parametrize("how", ["clear_all", "FLUSHDB"])
@pytest.mark.parametrize("write", ["set", "fetch"])
def test_behaviour_06__tag_write_against_a_flush(
    server: Server, caches: Callable[..., CacheManager], how: str, write: str
) -> None:
    """Whenever the flush comes, an entry that is there after it bears its tag: to stamp the tag is enough."""
    here, other = (caches(server.url) for _ in range(2))
    client, turn, done = server.client(), threading.Semaphore(0), threading.Semaphore(0)

    def flush() -> None:
        for _ in range(ROUNDS):
            assert turn.acquire(timeout=PATIENCE)
            other.clear_all() if how == "clear_all" else client.flushdb()
            done.release()

    flushing = Act(flush)
    kept = 0
    for number in range(ROUNDS):
        turn.release()  # one flush, at the same time as the write
        if write == "set":
            here.set(KIND, "k", number, tags=["t"])
        else:
            here.fetch(KIND, "k", lambda number=number: number, tags=["t"])  # type: ignore[misc]
        assert done.acquire(timeout=PATIENCE)
        kept += there(other)
        other.invalidate_tags("t")
        assert not there(here), number
    flushing.result()
    here.fetch(KIND, "k", lambda: "after", tags=["t"])
    assert other.get(KIND, "k") == "after"
    print(f"{kept} of {ROUNDS} outlived the flushes until they were invalidated")


@pytest.mark.parametrize("means", ["tag", "type"])
def test_behaviour_06__between_flush_and_stamp(server: Server, caches: Callable[..., CacheManager], means: str) -> None:
    """A flush takes the stamps; what is written after it and invalidated after that is invalid all the same."""
    here, other = (caches(server.url) for _ in range(2))
    here.set(KIND, "k", "old", tags=["t"])
    other.invalidate_tags("t")
    server.client().flushdb()
    here.set(KIND, "k", "old", tags=["t"])
    other.invalidate_tags("t") if means == "tag" else other.invalidate_type(KIND)
    assert not any(there(cache) for cache in (here, other))
    here.set(KIND, "k", "new", tags=["t"])
    assert other.get(KIND, "k") == "new"
