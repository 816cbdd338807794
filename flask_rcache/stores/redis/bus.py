"""The bus: how a process hears of invalidations made elsewhere.

Owns one listener thread a process, its own connection, and the answer to one question: is the subscription known to be
alive? A lost connection loses messages without an exception, so with every (re)subscription, every overdue PONG and
every message that cannot be read the listener is asked to distrust what it holds. What a message changes is not the
bus's business, nor whether its stamp is credible.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import weakref
from contextlib import suppress
from typing import Any, Final, Protocol

import ormsgpack

from ...errors import StoreError
from ...model import forks
from ...model.named_tuple import NamedTuple
from .connection import Connection
from .failures import Failure, classify
from .pool import Pool
from .transport import Transport

__all__ = ["ALIVE_NS", "Bus", "Listener", "Message", "Session", "Subscription", "report"]

logger: Final = logging.getLogger("flask_rcache")

_PING_EVERY: Final = 0.6
_PONG_WITHIN: Final = 0.6
#: Nanoseconds for which a subscription counts as alive after it was heard of.
ALIVE_NS: Final = int((_PING_EVERY + _PONG_WITHIN + 0.2) * 1e9)
_RETRY: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
_CONFIGURATION_RETRY: Final = 5.0

_KINDS: Final = frozenset("t*kps")
_NUMBER: Final = re.compile(r"[0-9]{1,19}")


class Message(NamedTuple):
    """One invalidation.

    Args:
        kind: ``"t"`` (tags), ``"*"`` (everything), ``"k"`` (keys), ``"p"`` (patterns), or ``"s"``: the rows of tags
            that had been set ahead are what ``stamp`` says, which may be lower than before.
        epoch: of the stamp set that it was written to.
        stamp: the invalidation's (µs); it may lie ahead of the clock.
        clock: the store's clock when it was sent (µs).
        names: the tags, keys or patterns.
    """

    kind: str
    epoch: int
    stamp: int
    clock: int
    names: tuple[str, ...]

    @classmethod
    def parse(cls, payload: bytes) -> Message | None:
        """The message in a payload, or ``None`` when it is none of ours.

        The numbers are decimal strings: a script's MessagePack writes doubles otherwise.

        >>> Message.parse(ormsgpack.packb(["t", "5", "7", "6", ["c:search"]]))
        Message(kind='t', epoch=5, stamp=7, clock=6, names=('c:search',))
        >>> Message.parse(ormsgpack.packb(["t", 5, "7", "6", ["c:search"]])) is None
        True
        """
        try:
            parts = ormsgpack.unpackb(payload)
        except ormsgpack.MsgpackDecodeError:
            return None
        if not isinstance(parts, list) or len(parts) != 5:
            return None
        kind, *numbers, names = parts
        if not isinstance(kind, str) or kind not in _KINDS:
            return None
        if not all(isinstance(number, str) and _NUMBER.fullmatch(number) for number in numbers):
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return None
        epoch, stamp, clock = map(int, numbers)
        return cls(kind, epoch, stamp, clock, tuple(names))


class Listener(Protocol):
    """Who is called with what comes in, on the bus's thread."""

    def apply(self, message: Message) -> None:
        """An invalidation was made, here or elsewhere."""
        ...

    def distrust(self) -> None:
        """Messages may have been missed."""
        ...


class Subscription(Protocol):
    """Whether a process hears of all invalidations on a shard; see :class:`Bus`."""

    @property
    def state(self) -> str:
        """``"alive"``, ``"down"``, or ``"off"`` when it was not started in this process."""
        ...

    def alive(self, now: int) -> bool:
        """Whether the subscription is known to be alive at ``now`` (monotonic ns)."""
        ...

    def heard_since(self, then: int) -> bool:
        """Whether the subscription was alive at ``then`` (monotonic ns), and is still the same: nothing was missed."""
        ...

    def ensure(self) -> None:
        """Have the listener running in this process."""
        ...

    def stop(self, *, timeout: float = 1.0) -> None:
        """End the listener and wait for it, ``timeout`` seconds at most."""
        ...


class Bus:
    """Listens on one channel.

    Args:
        pool: for a connection of its own.
        channel: the channel.
        listener: held weakly; with it the thread ends.
    """

    def __init__(self, pool: Transport, channel: str, listener: Listener) -> None:
        self._pool: Final = pool
        self._channel: Final = channel
        self._listener: Final = weakref.ref(listener)
        self._lock: Final = forks.new_lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._generation = 0
        self._heard_at = 0
        self._since = 0
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The thread and its connection are the parent's."""
        self._stop = threading.Event()
        self._thread, self._heard_at = None, 0

    def alive(self, now: int) -> bool:
        """Whether the subscription is known to be alive at ``now`` (monotonic ns): it was heard of just before."""
        return now - self._heard_at < ALIVE_NS and self._generation == self._pool.generation

    def heard_since(self, then: int) -> bool:
        """Whether the subscription was alive at ``then`` (monotonic ns), and is still the same: nothing was missed."""
        return self.alive(then) and self._since <= then  # in this order: see where they are set

    @property
    def state(self) -> str:
        """``"alive"``, ``"down"``, or ``"off"`` when it was not started in this process."""
        if self._thread is None:
            return "off"
        return "alive" if self.alive(time.monotonic_ns()) else "down"

    def ensure(self) -> None:
        """Have the listener running in this process."""
        if self._thread is not None:
            return
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
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _subscribe(self) -> Connection:
        connection = self._pool.subscriber()
        try:
            connection.send("SUBSCRIBE", self._channel)
        except Pool.FAILURES:
            connection.close()
            raise
        return connection

    def _handle(self, reply: Any, generation: int) -> bool:
        """Handle what came in; whether it answers a PING."""
        if isinstance(reply, Exception):
            raise reply
        now = time.monotonic_ns()
        if not isinstance(reply, list):
            self._heard_at = now
            return True
        if reply[0] == b"subscribe":
            self._missed()
            self._generation, self._since = generation, now  # before it counts as alive
            self._heard_at = now
        elif reply[0] == b"message":
            message, listener = Message.parse(reply[2]), self._listener()
            if message is None:
                self._missed()  # of another release, perhaps: what it invalidates is not known
            elif listener is not None:
                listener.apply(message)
        return False

    def _missed(self) -> None:
        """Messages may have been lost: what was held before is not to be trusted."""
        self._since = time.monotonic_ns()  # what was read before has missed it too
        self._heard_at = 0
        listener = self._listener()
        if listener is not None:
            listener.distrust()


class Session:
    """One subscription: its connection, and the last PING on it."""

    __slots__ = ("_connection", "_is_answered", "_sent_at")

    def __init__(self, connection: Connection) -> None:
        self._connection: Final = connection
        self._sent_at = 0.0
        self._is_answered = True

    def receive(self) -> list[Any]:
        """What comes in until the next PING is due, or the last one's PONG overdue."""
        due = self._sent_at + (_PING_EVERY if self._is_answered else _PONG_WITHIN)
        return self._connection.receive(min(max(due - time.monotonic(), 0.005), _PING_EVERY))

    def handle(self, bus: Bus, replies: list[Any]) -> None:
        """Handle what came in, and send the next PING when it is due."""
        for reply in replies:
            self._is_answered |= bus._handle(reply, self._connection.generation)
        if self._connection.generation != bus._pool.generation:
            raise ConnectionError("another server is asked now")  # and this one's messages may not be all there are
        self.ping_if_due()

    def answered(self) -> None:
        """The PONG has come in."""
        self._is_answered = True

    def ping_if_due(self) -> None:
        """Send the next PING when it is due.

        Raises:
            TimeoutError: the last one was not answered.
        """
        waited = time.monotonic() - self._sent_at
        if not self._is_answered and waited > _PONG_WITHIN:
            raise TimeoutError("no PONG within its time: the connection is half open")
        if self._is_answered and waited >= _PING_EVERY:
            self._connection.send("PING")
            self._sent_at, self._is_answered = time.monotonic(), False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _listen(ref: weakref.ReferenceType[Bus], stop: threading.Event) -> None:
    """The thread's life; while it waits it holds nothing of its bus, else a forgotten app would live for ever."""
    session: Session | None = None
    failures = 0
    while not stop.is_set():
        pause = 0.0
        try:
            replies = [] if session is None else session.receive()
            bus = ref()
            if bus is None or bus._listener() is None or stop.is_set():
                break
            if session is None:
                session = Session(bus._subscribe())
            session.handle(bus, replies)
            failures = 0
        except Exception as error:  # noqa: BLE001  # whatever comes in: without this thread there is no memory tier
            bus = ref()
            if bus is not None:
                bus._missed()
            if session is not None:
                session.close()
                session = None
            pause = report(error, failures)
            failures += 1
        bus = None
        if pause:  # out here: the error's traceback holds the bus too
            stop.wait(pause)
    if session is not None:
        session.close()


def report(error: Exception, failures: int) -> float:
    """Log why the bus is down, once for a row of failures; the seconds until the next attempt."""
    known = isinstance(error, (StoreError, *Pool.FAILURES))
    is_misconfigured = classify(error.__cause__ or error) is Failure.CONFIGURATION
    level = logging.ERROR if is_misconfigured or not known else logging.INFO
    logger.log(
        logging.DEBUG if failures else level,
        "[CACHE] the bus is down, reads go to Redis: %s",
        error,
        exc_info=None if known else error,
    )
    return _CONFIGURATION_RETRY if is_misconfigured else _RETRY[min(failures, len(_RETRY) - 1)]
