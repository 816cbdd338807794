"""The housekeeping thread: what a store does off the request path.

Owns one daemon thread a process, started when there is something to do, after a fork again, and gone when there has
been nothing to do for a while or its owner is no more. It knows nothing of what the work is.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Final

from ...model.forks import new_lock, remember

__all__ = ["Housekeeper"]

logger: Final = logging.getLogger("flask_rcache")

_IDLE: Final = 10  # rounds without work after which the thread ends


class Housekeeper:
    """Calls a bound method of its owner again and again while there is work.

    Args:
        work: a bound method, held weakly. It does one round and returns the seconds until the next when there is
            more to do, or ``None`` when there is nothing.
        name: the thread's name.
        rest: seconds between rounds in which nothing was to be done.
    """

    def __init__(self, work: Callable[[], float | None], *, name: str, rest: float = 1.0) -> None:
        self._work: Final = weakref.WeakMethod(work)
        self._name: Final = name
        self._rest: Final = rest
        self._lock = new_lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._at_work: Final[set[int]] = set()
        self._failed = False
        #: Whether it was asked for since the last round began; who asks often can look here first.
        self.asked = False
        remember(self)

    def forked(self) -> None:
        """See :class:`~flask_rcache.forks.Heir`: none of the threads is here; whoever looks at ``asked`` asks again."""
        self.asked = False

    def ensure(self, *, now: bool = False) -> None:
        """Have the thread running; with ``now``, begin a round at once."""
        if self._pid != os.getpid():  # a forked child has none of its parent's threads
            self._wake = threading.Event()
            self._thread = None
            self._pid = os.getpid()
            self._at_work.clear()
        if threading.get_ident() in self._at_work:  # a round says what comes next by what it returns
            return
        with self._lock:
            self.asked = True
            if self._thread is None:
                self._start()
        if now:
            self._wake.set()

    def _start(self) -> None:
        thread = threading.Thread(target=_run, args=(weakref.ref(self),), name=self._name, daemon=True)
        self._thread = thread  # the first that it looks at
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had: the caller goes on, and who asks next tries again
            self._thread, self.asked = None, False
            logger.log(
                logging.DEBUG if self._failed else logging.ERROR, "[CACHE ERROR] no housekeeping for now: %s", error
            )
            self._failed = True
        else:
            self._failed = False

    def stop(self, *, timeout: float = 1.0) -> None:
        """End the thread and wait for it, ``timeout`` seconds at most."""
        with self._lock:
            thread, self._thread = self._thread, None
            self.asked = False
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _round(self) -> float | None:
        work = self._work()
        me = threading.get_ident()
        self._at_work.add(me)
        try:
            return None if work is None else work()
        except Exception:  # a defect in one round must not end the rounds that renew leases and probe
            logger.exception("[CACHE ERROR] housekeeping failed; the next round comes")
            return self._rest
        finally:
            self._at_work.discard(me)


def _run(ref: weakref.ReferenceType[Housekeeper]) -> None:
    """The thread's life; between rounds it holds nothing of its owner but the event it sleeps on."""
    idle = 0
    me = threading.current_thread()
    while True:
        keeper = ref()
        if keeper is None or keeper._thread is not me:
            return
        asked, keeper.asked = keeper.asked, False
        pause = keeper._round()
        idle = 0 if asked or pause is not None else idle + 1
        if idle >= _IDLE:
            with keeper._lock:
                if not keeper.asked:
                    keeper._thread = None
                    return
            idle = 0
        wake, rest = keeper._wake, keeper._rest if pause is None else pause
        del keeper
        wake.wait(rest)
        wake.clear()
