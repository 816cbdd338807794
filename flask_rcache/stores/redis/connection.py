"""One connection to a server: redis-py connects and authenticates, hiredis reads.

Owns the socket: its timeouts, the bytes of commands, the replies and the messages that are pushed. Which connection is
used, and what its failures mean, is ``wire``'s.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import hiredis
from redis import Connection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["Exchange", "Feed", "Line", "pack"]

#: One command as bytes; hiredis's stub knows tuples of one only.
_pack: Any = hiredis.pack_command
pack: Final[Callable[[tuple[Any, ...]], bytes]] = _pack

#: Sends a payload and reads so many replies on one connection.
Exchange = Callable[[bytes, int], list[Any]]

_NOT_ENOUGH: Final = object()


class Line:
    """One connection.

    redis-py's own reading of a reply costs about 2 µs for its hooks; three replies make a hit (measured).

    Args:
        connection: redis-py's, not connected yet.
        timeout: seconds for each answer.
    """

    __slots__ = ("_buffer", "_connection", "_reader", "_socket", "_timeout")

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection: Final = connection
        self._timeout: Final = timeout
        self._buffer: Final = bytearray(16_384)
        self._reader: Final[Any] = hiredis.Reader(
            protocolError=RedisError, replyError=_reply_error, notEnoughData=_NOT_ENOUGH
        )
        connection.connect()
        self._socket: Any = connection._sock
        _limit(self._socket, timeout)

    def ask(self, payload: bytes, replies: int) -> list[Any]:
        """Send a payload, read the replies; an error reply is an exception in the list.

        Raises:
            TimeoutError: no answer within the time that the connection allows.
        """
        try:
            return self._ask(payload, replies, self._timeout)
        except BlockingIOError as error:  # how the kernel's own timeout ends, see _limit
            raise TimeoutError("timed out") from error

    def ask_within(self, seconds: float, payload: bytes, replies: int) -> list[Any]:
        """:meth:`ask`, with less time than the connection allows otherwise."""
        seconds = min(seconds, self._timeout)
        _limit(self._socket, seconds)
        try:
            return self._ask(payload, replies, seconds)
        except BlockingIOError as error:
            raise TimeoutError("timed out") from error
        finally:
            with suppress(OSError):
                _limit(self._socket, self._timeout)

    def _ask(self, payload: bytes, replies: int, seconds: float) -> list[Any]:
        self._socket.sendall(payload)
        reader, buffer = self._reader, self._buffer
        answers: list[Any] = []
        until = 0.0
        while replies:
            reply = reader.gets()
            if reply is _NOT_ENOUGH:
                if not until:
                    until = time.monotonic() + seconds
                elif time.monotonic() > until:  # each piece in time, and all of them too late
                    raise TimeoutError("timed out")
                size = self._socket.recv_into(buffer)
                if size == 0:
                    raise RedisConnectionError("the server closed the connection")
                reader.feed(buffer, 0, size)
            elif type(reply) is not hiredis.PushNotification:
                answers.append(reply)
                replies -= 1
        return answers

    def drop(self) -> None:
        """Close it."""
        self._connection.disconnect()


def _limit(plain: Any, timeout: float) -> None:
    """Give a socket's calls so many seconds.

    For a plain one the kernel times them, instead of a poll before each: two system calls fewer a hit. Not for TLS, nor
    for a socket that gevent has made cooperative: those keep Python's timeout.
    """
    if type(plain).__module__ != "socket" or sys.platform == "win32":
        plain.settimeout(timeout)
        return
    seconds, part = divmod(timeout, 1)
    value = struct.pack("ll", int(seconds), int(part * 1_000_000))
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
    plain.settimeout(None)


class Feed(Line):
    """A connection that is read as things come in: replies and pushed messages alike."""

    __slots__ = ()

    def send(self, *command: str) -> None:
        """Send one command."""
        self._socket.sendall(pack(command))

    def receive(self, timeout: float) -> Iterator[Any]:
        """What comes in within ``timeout`` seconds; nothing when nothing does."""
        reader, buffer = self._reader, self._buffer
        self._socket.settimeout(timeout)
        try:
            size = self._socket.recv_into(buffer)
        except TimeoutError:
            return
        if size == 0:
            raise RedisConnectionError("the server closed the connection")
        reader.feed(buffer, 0, size)
        while (reply := reader.gets()) is not _NOT_ENOUGH:
            yield reply

    def close(self) -> None:
        """Close it."""
        self.drop()


_REPLY_ERRORS: Final[dict[str, type[RedisError]]] = {
    "NOSCRIPT": NoScriptError,
    "OOM": OutOfMemoryError,
    "LOADING": BusyLoadingError,
    "NOAUTH": AuthenticationError,
    "WRONGPASS": AuthenticationError,
}


def _reply_error(message: str) -> RedisError:
    return _REPLY_ERRORS.get(message.partition(" ")[0], ResponseError)(message)
