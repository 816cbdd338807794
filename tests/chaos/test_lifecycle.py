"""How processes begin and end: every kind of worker hears the bus, none collects threads, and all of them end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.chaos.apps import STALE_AFTER, Board
from tests.chaos.visitors import Visitors, ask
from tests.processes import ROOT, Process, free_port, scratch_directory, wait_until
from tests.servers import Gunicorn, Server
from tests.stores.kit import manager

pytestmark = [pytest.mark.race, pytest.mark.chaos, pytest.mark.timeout(180)]

_APP = "tests.chaos.apps:create_app()"
_MODES: Final[dict[str, dict[str, Any]]] = {
    "sync": {"workers": 2},
    "sync-preload": {"workers": 2, "preload": True},
    "gthread-preload": {"workers": 2, "threads": 4, "preload": True},
    "gevent": {"workers": 2, "worker_class": "gevent"},
}
#: Main, bus, maintenance, four that refresh, and those that make a connection just then; gevent has a pool for names.
_OWN_THREADS = 14
#: So long that a page in memory goes because the bus said so, and for no other reason.
_L1_TTL = 60.0
#: The bus takes a millisecond, and a process on a busy machine some more to get its turn.
_HEARD = 10.0
_ENDED = 15.0
#: What gunicorn gives a worker that does not end by itself.
_GRACE = 40


@pytest.fixture
def board() -> Board:
    """What the application writes down, and what it is told."""
    return Board(scratch_directory("board"))


@pytest.fixture(params=list(_MODES))
def mode(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Kinds of workers."""
    return _MODES[request.param]


def _environment(board: Board, server: Server) -> dict[str, str]:
    return {"RCACHE_URL": server.url, "CHAOS_DIRECTORY": str(board.directory), "RCACHE_L1_TTL": str(_L1_TTL)}


def _reads(server: Server) -> int:
    with server.client() as client:
        commands: Any = client.info("commandstats")
    return int(commands.get("cmdstat_get", {}).get("calls", 0))


def _in_memory(server: Server, web: Gunicorn, visitors: Visitors) -> Callable[[], bool]:
    """Whether every worker has answered for a while without asking the server."""
    began, reads = time.monotonic(), _reads(server)

    def answered() -> bool:
        nonlocal began, reads
        if _reads(server) != reads:
            began, reads = time.monotonic(), _reads(server)
        return {call.pid for call in visitors.calls(since=began) if call.x_cache == "HIT"} >= set(web.worker_pids)

    return answered


def _change(web: Gunicorn, visitors: Visitors, text: str) -> list[float]:
    """Write through one worker, wait until all say so; seconds after the write at which old answers were begun."""
    written = ask(web.port, "POST", f"/value/{text}", {})
    assert written.status == 200
    returned = written.began + written.seconds
    wait_until(
        lambda: {call.pid for call in visitors.calls(returned) if call.body == text} >= set(web.worker_pids),
        timeout=_L1_TTL / 2,
        what=f"every worker says {text!r}",
    )
    return [call.began - returned for call in visitors.calls(returned) if call.body != text]


def test_workers__of_each_kind__hear_the_bus_and_collect_no_threads(gunicorn, valkey_server, board, mode):
    """What one worker invalidates, every other drops from its memory; their threads do not get more."""
    board.value = "first"
    web = gunicorn(_APP, env=_environment(board, valkey_server), **mode)
    most_threads: dict[int, int] = {}

    def look() -> bool:
        for pid in web.worker_pids:
            threads = len(os.listdir(f"/proc/{pid}/task"))
            most_threads[pid] = max(threads, most_threads.get(pid, 0))
        return True

    with Visitors(web, lambda dice: ("GET", "/value", {}), count=8, pause=0.02) as visitors:
        for text in ("second", "third"):
            wait_until(_in_memory(valkey_server, web, visitors), timeout=30, what="every worker has the page in memory")
            old = _change(web, visitors, text)
            print(f"{text}: {len(old)} old answers, the last {max(old, default=0.0) * 1000:.1f} ms after the write")
            assert max(old, default=0.0) < _HEARD
            look()
    with Visitors(web, lambda dice: ("GET", f"/aged/{dice.randrange(20)}", {}), count=8, pause=0.02) as visitors:
        wait_until(
            lambda: look() and len(visitors.calls()) > 400 and "STALE" in {call.x_cache for call in visitors.calls()},
            timeout=60,
            what="four hundred requests, and refreshes",
        )
    print(f"threads at most: {most_threads}")
    assert max(most_threads.values()) <= mode.get("threads", 1) + _OWN_THREADS, most_threads


def _refreshing(web: Gunicorn, board: Board) -> None:
    """Leave the application with a refresh that takes a minute."""
    assert web.get("/aged/x")[1]["X-Cache"] == "MISS"
    time.sleep(STALE_AFTER)  # it has expired
    board.slow_down(60)
    assert web.get("/aged/x")[1]["X-Cache"] == "STALE"
    wait_until(lambda: len(board.runs("aged/x")) == 2, timeout=20, what="a refresh is running")


@pytest.mark.parametrize(
    ("kind", "sick"),
    [*((kind, False) for kind in _MODES), ("gthread-preload", True), ("gevent", True)],
)
def test_workers__of_each_kind__end_while_a_refresh_is_running(gunicorn, private_server, board, kind, sick):
    """SIGTERM: nobody waits for a refresh, be Redis well or not."""
    server = private_server()
    # Whoever hung would have gunicorn's grace: long enough to be told from a slow machine.
    web = gunicorn(_APP, env=_environment(board, server), args=["--graceful-timeout", str(_GRACE)], **_MODES[kind])
    _refreshing(web, board)
    if sick:
        server.pause()
    began = time.monotonic()
    os.kill(web.pid, signal.SIGTERM)
    wait_until(lambda: not web.process.is_running, timeout=_GRACE + 20, what="the end")
    seconds = time.monotonic() - began
    print(f"ended after {seconds:.2f} s")
    assert seconds < _ENDED, web.log()
    assert "Traceback" not in web.log(), web.log()


_RELOADED = """
from flask import Flask
from tests.chaos.apps import create_app

VERSION = "{version}"
app = create_app()

@app.get("/version")
def version() -> str:
    return VERSION
"""


def test_reloader__restarts_the_process__and_the_new_one_hears_the_bus(valkey_server, board):
    """Flask's reloader: a changed file starts another process, the old one is gone, and the new one hears."""
    board.value = "first"
    source, port = board.directory / "reloaded.py", free_port()
    source.write_text(_RELOADED.format(version="one"))
    command = [sys.executable, "-m", "flask", "--app", str(source), "run", "--debug", "--port", str(port)]
    command += ["--exclude-patterns", f"*/flask_rcache/*{os.pathsep}{ROOT}/tests/*"]
    env = {**os.environ, **_environment(board, valkey_server), "PYTHONPATH": str(ROOT), "RCACHE_STRICT": "0"}
    process = Process(command, log_path=board.directory / "log", env=env)
    try:
        process.wait_ready(lambda: ask(port, "GET", "/version", {}).body == "one", timeout=40)
        first = _hears(valkey_server, port, board, "second")
        source.write_text(_RELOADED.format(version="two"))
        wait_until(lambda: ask(port, "GET", "/version", {}).body == "two", timeout=40, what="the new version")
        second = _hears(valkey_server, port, board, "third")
        assert second != first
        wait_until(lambda: not Path(f"/proc/{first}").exists(), timeout=10, what="the end of the old process")
        with valkey_server.client() as client:
            # The reloader's own process has an app context too, which hears of the store.
            assert len(client.client_list(_type="pubsub")) <= 2
        assert len(os.listdir(f"/proc/{second}/task")) <= 2 + _OWN_THREADS
    finally:
        process.stop()


def _hears(server: Server, port: int, board: Board, text: str) -> int:
    """Have the process keep a page in memory, change it elsewhere; the process's id, once it has given the new one."""
    asked = 0

    def in_memory() -> bool:
        nonlocal asked
        before = _reads(server)
        asked += 1
        return ask(port, "GET", "/value", {}).x_cache == "HIT" and _reads(server) == before

    wait_until(in_memory, timeout=20, what="the page is in memory")
    other = manager(server.url)
    try:
        board.value = text
        other.invalidate_tags("value")
    finally:
        other.close()
    wait_until(lambda: ask(port, "GET", "/value", {}).body == text, timeout=_HEARD, what=f"{text!r}")
    return ask(port, "GET", "/value", {}).pid


@pytest.mark.long
def test_creations__of_many_applications__leave_no_threads_and_no_sockets(redis_server):
    """Applications made, read from once each, and forgotten: threads and sockets go with them.

    `python -m tests.chaos.creations URL 1000` makes as many as one likes.
    """
    count = 300
    command = [sys.executable, "-m", "tests.chaos.creations", redis_server.url, str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=True)
    report = json.loads(done.stdout)
    print(report)
    assert (report["made"], report["hits"]) == (count, count), report
    # At least an application's own connection, bus and housekeeping were there.
    assert report["peak"][0] > report["before"][0] + 1, report
    assert report["peak"][1] > report["before"][1] + 1, report
    assert report["after"][0] <= report["before"][0], report
    assert report["after"][1] <= report["before"][1], report
