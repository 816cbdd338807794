"""Processes that a test run starts: each in a group of its own, with a log, and never left behind.

Owns starting, stopping and reaping. What is started (a Redis, a gunicorn) is `tests.servers`' business.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
_POLL = 0.005


class BootError(RuntimeError):
    """A process ended, or did not become ready in time. The message ends with its log."""


class _Session:
    """The temporary directory and the reaper of this test run, made at the first use in each process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        # Short on purpose: the path of a unix socket has about a hundred bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="rcache-"))
        self.running: dict[int, Process] = {}
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(ROOT / "tests" / "reaper.py"), str(self.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self.tell(f"dir {self.directory}")
        atexit.register(self.close)

    def tell(self, line: str) -> None:
        pipe: IO[bytes] | None = self._reaper.stdin
        assert pipe is not None
        pipe.write(line.encode() + b"\n")
        pipe.flush()

    def close(self) -> None:
        if os.getpid() != self.pid:  # a forked child ends: the servers are not its own
            return
        for process in list(self.running.values()):
            process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait(timeout=10)


_session: _Session | None = None


def _current_session() -> _Session:
    global _session
    if _session is None or _session.pid != os.getpid():
        _session = _Session()
    return _session


def scratch_directory(prefix: str) -> Path:
    """Make a directory that goes away with the test run.

    Args:
        prefix: What its name begins with; keep it short.

    Returns:
        The directory, new and empty.
    """
    return Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=_current_session().directory))


def owned_directory(prefix: str, user: str | None) -> Path:
    """Make a directory that another user can enter; it goes away with the test run.

    Args:
        prefix: What its name begins with; keep it short.
        user: Whose it is; `None` for the user of this process.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    _current_session().tell(f"dir {directory}")
    atexit.register(_remove, directory, os.getpid())
    if user is not None:
        shutil.chown(directory, user)
    return directory


def _remove(directory: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """Find a port of the loopback interface that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(ready: Callable[[], bool], *, timeout: float, what: str) -> None:
    """Poll `ready` until it is true.

    Args:
        ready: Asked every few milliseconds.
        timeout: Seconds.
        what: What is waited for, for the message.

    Raises:
        TimeoutError: It was not true within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout} s")
        time.sleep(_POLL)


class Process:
    """One started program, with its standard output and errors in `log_path`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.log_path = log_path
        self._session = _current_session()
        with log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=dict(env) if env is not None else None,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
        self._session.running[self.pid] = self
        self._session.tell(f"+{self.pid}")

    @property
    def pid(self) -> int:
        """The process, which also leads its group."""
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    def log(self) -> str:
        """Return what it has written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_ready(self, ready: Callable[[], bool], *, timeout: float) -> None:
        """Wait until `ready` is true.

        Raises:
            BootError: The process ended first, or the time was up; it is gone then.
        """

        def ready_or_dead() -> bool:
            return not self.is_running or ready()

        try:
            wait_until(ready_or_dead, timeout=timeout, what="ready")
        except TimeoutError as error:
            self.kill()
            raise BootError(f"{self._popen.args!r}: {error}\n{self.log()}") from error
        if not self.is_running:
            self.kill()
            raise BootError(f"{self._popen.args!r} ended with {self._popen.returncode}\n{self.log()}")

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def stop(self, *, timeout: float = 10.0) -> None:
        """Ask it to end, and insist after `timeout` seconds."""
        if self.is_running:
            self.signal_group(signal.SIGCONT)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout=timeout)
        self.kill()

    def kill(self) -> None:
        """End it and everything it started, at once."""
        # The leader may be gone while members of its group live on: always signal, then collect the leader.
        if self._popen.returncode is None or self.pid in self._session.running:
            self.signal_group(signal.SIGKILL)
        self._popen.wait()
        if self._session.running.pop(self.pid, None) is not None:
            self._session.tell(f"-{self.pid}")
