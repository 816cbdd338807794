"""One connection to a server: redis-py connects and authenticates, hiredis reads.

Owns the socket: the bytes of commands, the replies, the messages that are pushed, and how long an answer may take.
Which connection is used, and what its failures mean, is ``pool``'s.

Waiting is counted by looks at the socket that found nothing, not by elapsed time (DESIGN, Outages 2): a reply that lies
there when the thread looks is an answer, however long the thread was kept from looking by others that hold the GIL.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

import hiredis
from redis.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["SLICE", "Connection", "Exchange", "RedirectError", "pack"]

#: One command as bytes; hiredis's stub knows tuples of one only.
_pack: Any = hiredis.pack_command
pack: Final[Callable[[tuple[Any, ...]], bytes]] = _pack

#: Sends a payload and reads so many replies on one connection.
Exchange = Callable[[bytes, int], list[Any]]


class RedirectError(ResponseError):
    """A node of a cluster does not carry out a command, as its key lies elsewhere now, or is on the way."""


_INCOMPLETE: Final = object()
#: Seconds that the first look at the socket lasts; the later ones as long as all before together, up to the longest.
SLICE: Final = 0.005
_LONGEST_SLICE: Final = 0.025
#: What a look that found nothing ends with: the kernel's timeout, Python's, and TLS's own.
_NOTHING: Final = (BlockingIOError, TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection:
    """One connection, from its making to its end. One thread uses it at a time.

    Replies are not read by redis-py's own method, which has hooks to run: three replies make a hit.

    Args:
        driver: redis-py's, not connected yet; it connects, and authenticates, here.
        timeout: seconds for one answer when :meth:`exchange` is given no other limit.

    Attributes:
        attached: on a cluster, by shard, the generation in which it was compared with what was known of the shard.
        address: of the server, ``10.0.0.5:6379``; the path of a unix socket.
        waited: seconds that the last exchange waited in vain.
        generation: of the pool's, in which it was made.
        made_at: when it was made, of this process's monotonic clock.
        used_at: when it was last used; as long as it never was, when it was made.
    """

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_driver",
        "_is_plain",
        "_reader",
        "_socket",
        "_timeout",
        "address",
        "attached",
        "generation",
        "made_at",
        "used_at",
        "waited",
    )

    def __init__(self, driver: AbstractConnection, timeout: float) -> None:
        self._driver: Final = driver
        self._timeout: Final = timeout
        self._buffer: Final = bytearray(16_384)
        self._reader: Final[Any] = hiredis.Reader(
            protocolError=RedisError, replyError=_reply_error, notEnoughData=_INCOMPLETE
        )
        self.generation = 0
        self.attached: Final[dict[int, int]] = {}
        self.used_at = self.made_at = time.monotonic()
        self.waited = 0.0
        driver.connect()
        # Of a pool that is dropped without being closed the sockets are closed all the same.
        weakref.finalize(self, driver.disconnect).atexit = False
        plain: Any = driver._sock
        self._socket: Final[Any] = plain
        self.address: Final = _address_of(plain)
        # Of a plain socket the kernel times the first look, instead of a poll before each call: two system calls fewer
        # a hit. Not for TLS, nor for a socket that gevent has made cooperative: those keep Python's timeout.
        self._is_plain: Final = type(plain).__module__ == "socket" and sys.platform != "win32"
        if self._is_plain:
            limit = struct.pack("ll", 0, int(SLICE * 1_000_000))
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        plain.settimeout(None if self._is_plain else SLICE)

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed it while nobody used it."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(0):
            return False
        try:  # over TLS what lies there is none of ours to look at: what lies there unasked is its end
            return not self._is_plain or not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except _NOTHING:
            return False
        except OSError:
            return True

    def post(self, payload: bytes) -> None:
        """Send a payload whose replies are read later, with :meth:`exchange`.

        Raises:
            TimeoutError: the kernel did not take it in time.
        """
        self.waited = 0.0
        try:
            sent = self._socket.send(payload)
        except _NOTHING:
            sent = 0
        if sent != len(payload):
            self._send_rest(payload, sent, self._timeout)

    def exchange(self, payload: bytes, replies: int, limit: float | None = None, *, is_sent: bool = False) -> list[Any]:
        """Send a payload, read the replies; an error reply is an exception in the list.

        Args:
            payload: packed commands.
            replies: how many commands that is.
            limit: seconds that it may wait in all.
            is_sent: whether the payload was sent already, with :meth:`post`.

        Raises:
            TimeoutError: it waited longer. The connection is of no use any more, as after every other exception.
        """
        if limit is None:
            limit = self._timeout
        self.waited = 0.0
        if not is_sent:
            try:
                sent = self._socket.send(payload)
            except _NOTHING:
                sent = 0
            if sent != len(payload):
                self._send_rest(payload, sent, limit)
        reader, buffer = self._reader, self._buffer
        answers: list[Any] = []
        is_first = True
        while replies:
            reply = reader.gets()
            if reply is _INCOMPLETE:
                if is_first:
                    is_first = False
                    try:
                        size = self._socket.recv_into(buffer)
                    except _NOTHING:
                        self.waited += SLICE
                        size = self._receive(limit)
                else:
                    size = self._receive(limit)
                if size == 0:
                    raise RedisConnectionError("the server closed the connection")
                reader.feed(buffer, 0, size)
            elif type(reply) is not hiredis.PushNotification:
                answers.append(reply)
                replies -= 1
        return answers

    def _receive(self, limit: float) -> int:
        """Read what comes next into the buffer; the number of bytes."""
        buffer, receive = self._buffer, self._socket.recv_into
        return self._persist(lambda flags: receive(buffer, len(buffer), flags), select.POLLIN, limit)

    def _send_rest(self, payload: bytes, sent: int, limit: float) -> None:
        """Send what the kernel did not take at once."""
        rest, send = memoryview(payload)[sent:], self._socket.send
        while rest:
            sent = self._persist(lambda flags: send(rest, flags), select.POLLOUT, limit)  # noqa: B023  # called at once
            rest = rest[sent:]

    def _persist(self, call: Callable[[int], int], event: int, limit: float) -> int:
        """Repeat a call on the socket, given its flags, until it can do something.

        Each look that had to wait is charged what it waited, one slice at most: the thread may have been kept from
        going on when it was over. Before the limit counts there is one more look.
        """
        while True:
            try:
                return call(socket.MSG_DONTWAIT) if self._is_plain else self._timed(call, 0)
            except _NOTHING:
                pass
            if self.waited >= limit:
                raise TimeoutError(f"no answer within {limit:.2f} s")
            seconds = min(_LONGEST_SLICE, max(SLICE, self.waited))
            began = time.monotonic()
            try:
                if not self._is_plain:
                    return self._timed(call, seconds)
                poll = select.poll()
                poll.register(self._socket, event)
                poll.poll(seconds * 1000)
            except _NOTHING:
                pass
            finally:
                self.waited += min(time.monotonic() - began, seconds)

    def _timed(self, call: Callable[[int], int], seconds: float) -> int:
        self._socket.settimeout(seconds)
        try:
            return call(0)
        finally:
            self._socket.settimeout(SLICE)

    def send(self, *command: str) -> None:
        """Send one command whose reply comes with :meth:`receive`."""
        self._socket.settimeout(self._timeout)
        self._socket.sendall(pack(command))

    def receive(self, timeout: float) -> list[Any]:
        """Replies and pushed messages that come in within ``timeout`` seconds; none when nothing does."""
        reader, buffer = self._reader, self._buffer
        self._socket.settimeout(timeout)
        try:
            size = self._socket.recv_into(buffer)
        except _NOTHING:
            return []
        if size == 0:
            raise RedisConnectionError("the server closed the connection")
        reader.feed(buffer, 0, size)
        found = []
        while (reply := reader.gets()) is not _INCOMPLETE:
            found.append(reply)
        return found

    def close(self) -> None:
        """Close it."""
        self._driver.disconnect()


def _address_of(connected: Any) -> str:
    """Where a connected socket leads to."""
    try:
        peer = connected.getpeername()
    except OSError:  # closed by now, which the first exchange finds out
        return ""
    if not isinstance(peer, tuple):
        return os.fsdecode(peer)
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


_REPLY_ERRORS: Final[dict[str, type[RedisError]]] = {
    "NOSCRIPT": NoScriptError,
    "OOM": OutOfMemoryError,
    "LOADING": BusyLoadingError,
    "NOAUTH": AuthenticationError,
    "WRONGPASS": AuthenticationError,
    "NOPERM": NoPermissionError,
    "READONLY": ReadOnlyError,
    "MOVED": RedirectError,
    "ASK": RedirectError,
    "TRYAGAIN": RedirectError,
    "CLUSTERDOWN": RedirectError,
}


def _reply_error(message: str) -> RedisError:
    return _REPLY_ERRORS.get(message.partition(" ")[0], ResponseError)(message)
