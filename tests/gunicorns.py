"""An application in real processes: gunicorn with its workers, see `tests.servers`."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.processes import ROOT, Process, scratch_directory, wait_until

_LOOPBACK = "127.0.0.1"
_BOOT_SECONDS = 40.0
_READY = "worker-ready"
#: In the master, so that it is imported once and not by each worker; not before gevent patches what they import.
_IMPORTS = """
import flask_rcache.extension
import flask_rcache.stores.redis.store
import flask_rcache.stores.tiered
"""
_GUNICORN_CONFIG = f"""
control_socket_disable = True  # it would lie in the home directory; older releases do not know it

def post_worker_init(worker):
    worker.log.info("{_READY} %s", worker.pid)
"""


class Gunicorn:
    """An application under a real gunicorn, on a free port of the loopback interface.

    Args:
        app_path: `package.module:app` or `package.module:create_app()`, importable from the project's root.
        workers: Processes.
        threads: Threads a process (more than one makes the worker class `gthread`).
        env: Environment variables, over this process's own.
        worker_class: `sync`, `gthread`, `gevent` …
        preload: Load the application before the fork.
        args: Further arguments of gunicorn.
    """

    def __init__(
        self,
        app_path: str,
        *,
        workers: int = 1,
        threads: int = 1,
        env: Mapping[str, str] | None = None,
        worker_class: str | None = None,
        preload: bool = False,
        args: Sequence[str] = (),
    ) -> None:
        self.app_path = app_path
        self.workers = workers
        self.port = 0
        self.env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(env or {})}
        self.directory = scratch_directory("web")
        self._arguments = [
            "--workers",
            str(workers),
            "--threads",
            str(threads),
            "--graceful-timeout",
            "5",
            *args,
        ]
        self._arguments += ["--worker-class", worker_class] if worker_class else []
        self._is_patched = worker_class == "gevent"
        self._arguments += ["--preload"] if preload else []
        self._process: Process | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    @property
    def process(self) -> Process:
        """The running master process."""
        if self._process is None:
            raise RuntimeError(f"gunicorn {self.app_path} is not started")
        return self._process

    @property
    def pid(self) -> int:
        """The master's process id."""
        return self.process.pid

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the workers that have loaded the application and are alive."""
        return [pid for pid in map(int, re.findall(rf"{_READY} (\d+)", self.log())) if _is_alive(pid)]

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return f"http://{_LOOPBACK}:{self.port}"

    def log(self) -> str:
        """Return what master and workers have written so far."""
        return self.process.log()

    def start(self) -> Self:
        """Start it and wait until every worker has loaded the application. No request is sent.

        Raises:
            BootError: It did not come up; the message ends with its log.
        """
        config = self.directory / "config.py"
        config.write_text(_GUNICORN_CONFIG if self._is_patched else _IMPORTS + _GUNICORN_CONFIG)
        # The socket is opened here and handed over, so that nobody else can take the port in between.
        with socket.create_server((_LOOPBACK, 0), backlog=2048) as listener:
            self.port = listener.getsockname()[1]
            descriptor = listener.fileno()
            command = [sys.executable, "-m", "gunicorn", self.app_path, "--config", str(config)]
            command += ["--bind", f"fd://{descriptor}", *self._arguments]
            self._process = Process(command, log_path=self.directory / "log", env=self.env, pass_fds=[descriptor])
        self._process.wait_ready(self._all_ready, timeout=_BOOT_SECONDS)
        return self

    def _all_ready(self) -> bool:
        return len(self.worker_pids) >= self.workers

    def wait_for_workers(self, count: int | None = None, *, timeout: float = 20.0) -> None:
        """Wait until `count` workers (all of them, if not said) are alive again after some were killed."""
        wanted = self.workers if count is None else count
        wait_until(lambda: len(self.worker_pids) >= wanted, timeout=timeout, what=f"{wanted} workers")

    def kill_worker(self, pid: int) -> None:
        """SIGKILL one worker and wait until it is gone; gunicorn starts another."""
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _is_alive(pid), timeout=10.0, what=f"the end of worker {pid}")

    def get(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        timeout: float = 30.0,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send one request on a connection of its own.

        Args:
            path: From the slash on, query included.
            headers: Request headers.
            method: Request method.
            timeout: Seconds for each step on the socket.

        Returns:
            The status, the headers and the body.
        """
        connection = http.client.HTTPConnection(_LOOPBACK, self.port, timeout=timeout)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def stop(self) -> None:
        """End the master and its workers in order; after ten seconds, by force. Twice does no harm."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """End the master and its workers at once: how they end in order is not what most tests try. Twice is once."""
        if self._process is not None:
            self._process.kill()


def _is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not collected yet does not."""
    try:
        os.kill(pid, 0)
        # On Linux only; elsewhere the master's collecting it has to do.
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
