"""The bus: how a process hears of invalidations made elsewhere.

Owns one listener thread a process, its own connection and receive loop, and the answer to one question: is the
subscription known to be alive? A lost connection loses messages without an exception, so every (re)subscription and
every overdue PONG is told to the owner, who then distrusts what it held.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import ormsgpack

from ...errors import StoreError
from ...model.forks import new_lock, remember
from .connection import Feed
from .pool import Wire

__all__ = ["Bus", "Message"]

logger: Final = logging.getLogger("flask_rcache")

_PING_EVERY: Final = 0.4
_PONG_WITHIN: Final = 0.6
_ALIVE_NS: Final = int((_PING_EVERY + _PONG_WITHIN + 0.2) * 1e9)
_RETRY: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


class Message(NamedTuple):
    """One invalidation: ``kind`` is ``t`` (tags), ``*`` (everything), ``k`` (keys) or ``p`` (a pattern)."""

    kind: str
    stamp: int
    names: tuple[str, ...]

    @classmethod
    def parse(cls, payload: bytes) -> Message | None:
        """The message in a payload, or ``None`` when it is none of ours."""
        try:
            kind, stamp, names = ormsgpack.unpackb(payload)
            return cls(str(kind), int(stamp), tuple(map(str, names)))
        except (ValueError, TypeError, OverflowError):
            return None


class _Ping:
    """The last PING on a connection: when it was sent (monotonic ns), and whether its PONG has come."""

    __slots__ = ("answered", "sent_at")

    def __init__(self) -> None:
        self.sent_at = 0
        self.answered = True

    def wait(self) -> float:
        """Seconds to wait for something to come in: until the next PING is due, or the PONG overdue."""
        due = self.sent_at + int((_PING_EVERY if self.answered else _PONG_WITHIN) * 1e9)
        return min(max((due - time.monotonic_ns()) / 1e9, 0.005), _PING_EVERY)


class Bus:
    """Listens on one channel.

    Args:
        wire: for a connection of its own.
        channel: the channel.
        hear: a bound method, held weakly; called with each message, on the listener's thread.
        distrust: a bound method, held weakly; called whenever messages may have been missed.
    """

    def __init__(
        self, wire: Wire, channel: str, *, hear: Callable[[Message], None], distrust: Callable[[], None]
    ) -> None:
        self._wire: Final = wire
        self._channel: Final = channel
        self._hear: Final = weakref.WeakMethod(hear)
        self._distrust: Final = weakref.WeakMethod(distrust)
        self._lock = new_lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._heard_at = 0
        self._since = 0
        self._stop = threading.Event()
        remember(self)

    def forked(self) -> None:
        """See :class:`~flask_rcache.forks.Heir`: the thread and its connection are the parent's."""
        self._heard_at = 0

    def alive(self, now: int) -> bool:
        """Whether the subscription is known to be alive at ``now`` (monotonic ns): it was heard of just before."""
        return now - self._heard_at < _ALIVE_NS

    def heard_since(self, then: int) -> bool:
        """Whether the subscription was alive at ``then`` (monotonic ns), and is still the same: nothing was missed."""
        return then - self._heard_at < _ALIVE_NS and self._since <= then  # in this order: see where they are set

    @property
    def state(self) -> str:
        """``"alive"``, ``"down"``, or ``"off"`` when nothing has been read in this process yet."""
        if self._thread is None or self._pid != os.getpid():
            return "off"
        return "alive" if self.alive(time.monotonic_ns()) else "down"

    def ensure(self) -> None:
        """Have the listener running in this process."""
        if self._thread is not None and self._pid == os.getpid():
            return
        if self._pid != os.getpid():  # a fork: the thread and its connection are the parent's
            self._stop = threading.Event()
            self._thread, self._heard_at, self._pid = None, 0, os.getpid()
        with self._lock:
            if self._thread is None:
                args = (weakref.ref(self), self._stop)
                thread = threading.Thread(target=_listen, args=args, name="flask_rcache-bus", daemon=True)
                with suppress(RuntimeError):  # no thread to be had: no memory tier for now, the next call tries
                    thread.start()
                    self._thread = thread

    def stop(self, *, timeout: float = 1.0) -> None:
        """End the listener and wait for it, ``timeout`` seconds at most; :meth:`ensure` starts another."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
            self._stop = threading.Event()
            self._heard_at = 0
        if thread is not None and self._pid == os.getpid() and thread is not threading.current_thread():
            thread.join(timeout)

    def _subscribe(self) -> Feed:
        feed = self._wire.feed()
        try:
            feed.send("SUBSCRIBE", self._channel)
        except Wire.FAILURES:
            feed.close()
            raise
        return feed

    def _take(self, feed: Feed, replies: Sequence[Any], ping: _Ping) -> None:
        """Take what has come in, and send the next PING when it is due."""
        for reply in replies:
            now = time.monotonic_ns()
            if isinstance(reply, Exception):
                raise reply
            if not isinstance(reply, list):
                self._heard_at, ping.answered = now, True  # a PONG
            elif reply[0] == b"subscribe":
                self._missed()
                self._since = now  # before it counts as alive
                self._heard_at = now
            elif reply[0] == b"message":
                self._deliver(reply[2])
        now = time.monotonic_ns()
        if not ping.answered and now - ping.sent_at > _PONG_WITHIN * 1e9:
            raise TimeoutError("no PONG within its time: the connection is half open")
        if ping.answered and now - ping.sent_at >= _PING_EVERY * 1e9:
            feed.send("PING")
            ping.sent_at, ping.answered = now, False

    def _deliver(self, payload: bytes) -> None:
        message, hear = Message.parse(payload), self._hear()
        if message is None:
            self._missed()  # of another release, perhaps: what it invalidates is not known
        elif hear is not None:
            hear(message)

    def _missed(self) -> None:
        """Messages may have been lost: what was held before is not to be trusted."""
        self._heard_at = 0
        distrust = self._distrust()
        if distrust is not None:
            distrust()


def _listen(ref: weakref.ReferenceType[Bus], stop: threading.Event) -> None:
    """The thread's life; while it waits it holds nothing of its bus, else a forgotten app would live for ever."""
    feed: Any = None
    ping = _Ping()
    failures = 0
    while not stop.is_set():
        pause = 0.0
        try:
            replies = () if feed is None else tuple(feed.receive(ping.wait()))
            bus = ref()
            if bus is None or bus._hear() is None:
                break
            if feed is None:
                feed, ping = bus._subscribe(), _Ping()
            bus._take(feed, replies, ping)
            failures = 0
        except Exception as error:  # whatever comes in: without this thread there is no memory tier
            bus = ref()
            if bus is not None:
                bus._missed()
            if feed is not None:
                feed.close()
                feed = None
            known = isinstance(error, (StoreError, *Wire.FAILURES))
            level = logging.DEBUG if failures else logging.INFO if known else logging.ERROR
            logger.log(level, "[CACHE] the bus is down: %s", error, exc_info=None if known else error)
            pause = _RETRY[min(failures, len(_RETRY) - 1)]
            failures += 1
        bus = None
        if pause:  # out here: the error's traceback holds the bus too
            stop.wait(pause)
    if feed is not None:
        feed.close()
