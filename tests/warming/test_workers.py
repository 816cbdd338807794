"""Warming in several processes: one worker of all runs a task, and another takes over when it dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import wait_until
from tests.servers import Gunicorn, Server


class Log:
    """What the workers have written: each line is what ran, and the process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[str, int]]:
        if not self.path.exists():
            return []
        return [(line.split()[0], int(line.split()[1])) for line in self.path.read_text().splitlines()]

    def pids(self, what: str) -> list[int]:
        return [pid for name, pid in self.lines() if name == what]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "warming")


@pytest.mark.race
@pytest.mark.parametrize(
    ("preload", "worker_class"), [(False, "sync"), (True, "sync"), (False, "gthread"), (True, "gevent")]
)
def test_workers__one_of_four_runs_each_task(
    redis_server: Server, gunicorn: Callable[..., Gunicorn], log: Log, preload: bool, worker_class: str
) -> None:
    """Without a request, once; not in the master; and the pages are hits for the first visitor.

    gevent replaces the threads of a worker that was forked after the app was loaded: there the first request begins it.
    """
    env = {"RCACHE_URL": redis_server.url, "WARMING_LOG": str(log.path), "RCACHE_TIMEOUT": "2"}
    web = gunicorn(
        "tests.warming.apps:create_app()", workers=4, env=env, preload=preload, worker_class=worker_class, threads=2
    )
    if preload and worker_class == "gevent":
        web.get("/pid", headers={"Host": "127.0.0.1"})
    wait_until(lambda: {"quick", "slow-ends", "page-2"} <= {name for name, _ in log.lines()}, timeout=20, what="all")
    time.sleep(3)  # in which another worker would run them too
    lines = log.lines()
    assert sorted(name for name, _ in lines) == ["page-1", "page-2", "quick", "revenue", "slow-begins", "slow-ends"]
    assert {pid for _, pid in lines} <= set(web.worker_pids)
    status, headers, _ = web.get("/page/1", headers={"Host": "127.0.0.1"})
    assert (status, headers["X-Cache"]) == (200, "HIT")


@pytest.mark.race
@pytest.mark.parametrize("every", [4.0, 20.0])
def test_workers__another_takes_over_when_one_is_killed(
    redis_server: Server, gunicorn: Callable[..., Gunicorn], log: Log, every: float
) -> None:
    """The worker that runs a long task is killed: another runs it within `every`, and requests were answered."""
    env = {
        "RCACHE_URL": redis_server.url,
        "WARMING_LOG": str(log.path),
        "WARMING_SLOW": "300",
        "WARMING_EVERY": str(every),
        "RCACHE_TIMEOUT": "2",
    }
    web = gunicorn("tests.warming.apps:create_app()", workers=3, env=env)
    wait_until(lambda: bool(log.pids("slow-begins")), timeout=20, what="the long task")
    time.sleep(every / 2)  # in which the claim is renewed: nobody else runs it
    (runner,) = log.pids("slow-begins")
    os.kill(runner, signal.SIGKILL)
    killed = time.monotonic()
    for _ in range(3):
        began = time.monotonic()
        assert web.get("/pid", headers={"Host": "127.0.0.1"})[0] == 200
        assert time.monotonic() - began < 2
    wait_until(lambda: len(log.pids("slow-begins")) == 2, timeout=every + 10, what="another worker's run")
    assert time.monotonic() - killed <= every + 2
    assert log.pids("slow-begins")[1] != runner
