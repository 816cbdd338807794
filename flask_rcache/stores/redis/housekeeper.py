"""The maintenance thread: rounds of work that a store does off the request path.

Owns one daemon thread a process, started with the first use, after a fork again, and gone with its owner. It knows
nothing of what the work is.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Final

from ...model import forks

__all__ = ["Housekeeper"]

logger: Final = logging.getLogger("flask_rcache")


class Housekeeper:
    """Calls a bound method again and again.

    Args:
        name: the thread's name.
        rest: seconds until the next round after one that has failed.
    """

    def __init__(self, *, name: str, rest: float = 1.0) -> None:
        self._work: weakref.WeakMethod[Callable[[], float]] | None = None
        self._name: Final = name
        self._rest: Final = rest
        self._lock: Final = forks.new_lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopped: threading.Thread | None = None
        self._failed = False
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The thread is the parent's."""
        self._thread = None
        self._wake = threading.Event()

    def assign(self, work: Callable[[], float]) -> None:
        """Say what the work is: a bound method, held weakly; one round of it returns the seconds until the next."""
        self._work = weakref.WeakMethod(work)

    def ensure(self) -> bool:
        """Have the thread running; whether it does."""
        if self._thread is None and not self.is_leaving():
            with self._lock:
                if self._thread is None and self._work is not None:
                    self._start()
        return self._thread is not None

    def is_leaving(self) -> bool:
        """Whether the caller is the thread that was stopped, in its last round: what that uses is not in use again."""
        return self._thread is None and threading.current_thread() is self._stopped

    def wake(self) -> None:
        """Begin a round at once."""
        self._wake.set()

    def _start(self) -> None:
        thread = threading.Thread(target=_run, args=(weakref.ref(self),), name=self._name, daemon=True)
        self._thread = thread  # the first that it looks at
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had: the caller goes on, and who asks next tries again
            self._thread = None
            if not self._failed:
                logger.error("[CACHE ERROR] the maintenance thread failed to start: %s", error)
            self._failed = True
        else:
            self._failed = False

    def stop(self, *, timeout: float = 1.0) -> None:
        """End the thread and wait for it, ``timeout`` seconds at most."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopped = thread or self._stopped
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _round(self) -> float | None:
        """One round; the seconds until the next, or ``None`` when whose work it was is no more."""
        work = self._work() if self._work is not None else None
        if work is None:
            return None
        try:
            return work()
        except Exception:  # a defect in one round must not end the rounds that renew leases and probe
            logger.exception("[CACHE ERROR] maintenance failed; the next round comes")
            return self._rest


def _run(ref: weakref.ReferenceType[Housekeeper]) -> None:
    """The thread's life; between rounds it holds nothing of its owner but the event it sleeps on."""
    me = threading.current_thread()
    while True:
        keeper = ref()
        if keeper is None or keeper._thread is not me:
            return
        pause = keeper._round()
        if pause is None:
            return
        wake = keeper._wake
        del keeper
        wake.wait(pause)
        wake.clear()
