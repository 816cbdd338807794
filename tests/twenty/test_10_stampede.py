"""10: a stampede across processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flask_rcache import CacheManager
from tests.processes import wait_until
from tests.servers import Server
from tests.twenty.kit import KIND, PATIENCE, program, said

PROCESSES, THREADS = 3, 8

#: Threads that wait for the word, then ask for one cold key at once; each load is a line in a file.
CROWD = """
import os, sys, threading, time
from redis import Redis
from tests.twenty.kit import KIND, Act, cache_on
cache, client = cache_on(sys.argv[1], timeout=10), Redis.from_url(sys.argv[1])
def loader():
    with open(sys.argv[2], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(0.5)
    return "loaded"
ready = threading.Barrier(int(sys.argv[3]) + 1)
def ask():
    ready.wait()
    return cache.fetch(KIND, "k", loader)
acts = [Act(ask) for _ in range(int(sys.argv[3]))]
client.incr("ready")
while not client.exists("go"):
    time.sleep(0.002)
ready.wait()
print(*{act.result() for act in acts})
"""


@pytest.mark.race
def test_behaviour_10__one_load_for_all_processes(
    any_server: Server, caches: Callable[..., CacheManager], tmp_path: Path
) -> None:
    """Two dozen cold readers in three processes: one of them loads, and all have its result."""
    client = any_server.client()
    crowds = [program(CROWD, any_server.url, tmp_path / "loads", THREADS) for _ in range(PROCESSES)]
    try:
        wait_until(
            lambda: client.get("ready") == str(PROCESSES).encode(), timeout=3 * PATIENCE, what="all are at the start"
        )
        client.set("go", 1)
        assert [said(crowd) for crowd in crowds] == ["loaded\n"] * PROCESSES
    finally:
        for crowd in crowds:
            crowd.kill()
            crowd.communicate()
    assert len((tmp_path / "loads").read_text().split()) == 1
    assert caches(any_server.url).get(KIND, "k") == "loaded"
