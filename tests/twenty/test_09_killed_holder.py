"""9: the process that holds the lease is killed."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask_rcache import CacheManager
from tests.servers import Server
from tests.twenty.kit import KIND, PATIENCE, program, there

LEASE = 2.0

HOLDER = """
import sys, threading
from tests.twenty.kit import KIND, cache_on
def loader():
    print("loading", flush=True)
    threading.Event().wait()
cache_on(sys.argv[1], lease=float(sys.argv[2])).fetch(KIND, "k", loader)
"""


def test_behaviour_09__holds_others_up_for_the_lease(any_server: Server, caches: Callable[..., CacheManager]) -> None:
    """Who comes after SIGKILL waits for the rest of the lease, then loads; nothing half-done is there."""
    here = caches(any_server.url, lease=LEASE)
    client = any_server.client()
    holder = program(HOLDER, any_server.url, LEASE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "loading\n"
    finally:
        holder.kill()
        holder.communicate(timeout=PATIENCE)
    assert client.exists("cache~lease:kind:k") == 1
    assert not there(here)
    killed = time.monotonic()
    assert here.fetch(KIND, "k", lambda: "new") == "new"
    assert time.monotonic() - killed < LEASE + 8  # it would be load_timeout, 30 s, if nothing ran out
    assert here.get(KIND, "k") == "new"
    assert client.exists("cache~lease:kind:k") == 0
