"""Background refreshes: a bounded pool that loads anew what is served stale meanwhile.

Owns the worker threads, which key may be refreshed now (one refresh a key, none while it backs off after a failure),
and an end that never hangs. What a refresh does is its job's affair.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

from ..model.bounded import BoundedDict
from ..model.forks import new_lock, register

__all__ = ["Refresher"]

logger: Final = logging.getLogger("flask_rcache")

_WORKERS: Final = 4
_WAITING: Final = 64
_IDLE_SECONDS: Final = 5.0
_FIRST_BACKOFF: Final = 1.0
_LONGEST_BACKOFF: Final = 60.0
_BACKOFFS_KEPT: Final = 10_000


class Refresher:
    """Runs refreshes off the request path, on daemon threads that end when there is nothing to do.

    Args:
        workers: threads at most.
        clock: monotonic seconds.

    Attributes:
        context: makes the context that each job runs in (an app's).
    """

    def __init__(self, *, workers: int = _WORKERS, clock: Callable[[], float] = time.monotonic) -> None:
        self.context: Callable[[], AbstractContextManager[Any]] = nullcontext
        self._workers: Final = workers
        self._clock: Final = clock
        self._lock: Final = new_lock()
        register(self)
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """None of the parent's threads and jobs are here."""
        self._jobs: SimpleQueue[tuple[str, Callable[[], bool]]] = SimpleQueue()
        self._busy: set[str] = set()
        #: Until when (monotonic, s) a key is not refreshed again, and the pause that was.
        self._backoff: BoundedDict[str, tuple[float, float]] = BoundedDict(_BACKOFFS_KEPT)
        self._running = 0
        self._closed = False

    def submit(self, key: str, job: Callable[[], bool]) -> bool:
        """Have a key refreshed soon.

        Args:
            key: the stored key.
            job: loads and stores; false or an exception when it could not, and then the key backs off.

        Returns:
            Whether it will run: not while another refresh of the key waits or runs here, while the key backs off,
            or when too many wait already.
        """
        with self._lock:
            until = self._backoff.get(key, (0.0, 0.0))[0]
            if self._closed or key in self._busy or self._clock() < until or len(self._busy) >= _WAITING:
                return False
            self._busy.add(key)
            self._jobs.put((key, job))
            if self._running < self._workers and len(self._busy) > self._running:
                self._hire()
            if not self._running:
                self._drop()
                return False
        return True

    def _hire(self) -> None:
        """Start a worker, if the system has a thread left."""
        self._running += 1
        try:
            threading.Thread(target=self._work, name="flask_rcache-refresh", daemon=True).start()
        except RuntimeError as error:  # the stale entry is served all the same
            self._running -= 1
            logger.warning("[CACHE] no thread for background refreshes: %s", error)

    def _drop(self) -> None:
        """Forget what waits."""
        with suppress(Empty):
            while True:
                self._busy.discard(self._jobs.get_nowait()[0])

    def _work(self) -> None:
        while True:
            try:
                key, job = self._jobs.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._running -= 1
                        return
                continue
            done = False
            try:
                # Its own context: no request, and no load that it would be taken for a part of.
                done = not self._closed and contextvars.Context().run(self._run, job)
            except BaseException as error:  # noqa: BLE001
                # Somebody's loader: the stale entry stays, the key backs off. A task that was cancelled and a
                # SystemExit are no more than that here: a worker that ended with them would not be replaced.
                logger.warning("[CACHE] %s could not be refreshed: %s: %s", key, type(error).__name__, error)
            finally:
                self._finish(key, done)

    def _run(self, job: Callable[[], bool]) -> bool:
        with self.context():
            return job()

    def _finish(self, key: str, done: bool) -> None:
        with self._lock:
            self._busy.discard(key)
            last = self._backoff.pop(key, (0.0, 0.0))[1]
            if not done:
                pause = min(max(_FIRST_BACKOFF, last * 2), _LONGEST_BACKOFF)
                self._backoff[key] = (self._clock() + pause, pause)

    def close(self) -> None:
        """Abandon what has not begun; what runs ends by itself, on a thread that nobody waits for."""
        with self._lock:
            self._closed = True
            self._drop()
            self._closed = False
