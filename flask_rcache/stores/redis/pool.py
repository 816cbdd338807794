"""The wire: kept connections to one Redis or Valkey server, and one exchange on them.

Owns connecting, the pool of idle connections, forks, and the translation of the driver's errors. It uses redis-py's
``Connection`` directly: ``Redis.execute_command`` costs about 20 µs a call for retries and bookkeeping that a cache
does not want (measured; see ``benchmarks/raw.py``). It does not know what the commands mean.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    OutOfMemoryError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from ...config.parsers import redacted
from ...errors import ConfigError, StoreError, StoreFullError, StoreUnavailableError
from .breaker import Breaker
from .budget import Budget
from .connection import Exchange, Feed, Line

__all__ = ["Wire", "translated"]

#: Everything the driver raises when the server cannot be asked.
_AWAY: Final = (
    RedisConnectionError,
    RedisTimeoutError,
    OSError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
)
_IDLE_LIMIT: Final = 512
#: Seconds with which asking makes no sense any more.
_LEAST: Final = 0.01


def translated(error: Exception, location: str) -> StoreError:
    """The driver's error as one of ours, to be raised ``from`` it."""
    if isinstance(error, OutOfMemoryError) or str(error).startswith("OOM "):
        return StoreFullError(f"{location} has no room (maxmemory): raise it, or set maxmemory-policy allkeys-lru")
    if isinstance(error, _AWAY):
        return StoreUnavailableError(f"{location}: {type(error).__name__}: {error}")
    return StoreUnavailableError(f"{location} refused a command: {type(error).__name__}: {error}")


def _pool(url: str, **options: Any) -> ConnectionPool:
    """Makes connections to the URL; its options win, but for the protocol, whose replies the engine reads.

    Raises:
        ConfigError: an option in the URL that no connection takes. Later it would be an error of each request.
    """
    try:
        pool = ConnectionPool.from_url(url, **options)
        pool.connection_kwargs["protocol"] = 3
        pool.make_connection()  # connects nowhere
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"RCACHE_URL {redacted(url)} has something that cannot be: {error}") from error
    return pool


class Wire:
    """Exchanges with one server.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: seconds to wait for a connection, and for each answer.
        breaker: opened by every failure that leaves the server's state unknown.
        attach: run on each new connection before anything else is sent on it.
        budget: how long one request may wait in all.
    """

    #: What an exchange on a feed may raise.
    FAILURES: Final = (RedisError, OSError)

    def __init__(
        self, url: str, *, timeout: float, breaker: Breaker, attach: Callable[[Exchange], None], budget: Budget
    ) -> None:
        self.location: Final = redacted(url)
        self._timeout: Final = timeout
        self._budget: Final = budget
        self._breaker: Final = breaker
        self._attach: Final = attach
        # Only its parsing of the URL is used: the pool itself stays empty.
        self._factory: Final = _pool(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            driver_info=None,
        )
        self._idle: deque[Line] = deque(maxlen=_IDLE_LIMIT)
        self._pid = os.getpid()

    def exchange(self, payload: bytes, replies: int, *, probing: bool = False, patient: bool = False) -> list[Any]:
        """Send commands in one write and read their replies.

        Args:
            payload: packed commands.
            replies: how many commands that is.
            probing: ask although the breaker is open.
            patient: part of a walk, which may take long in all: it counts for no request.

        Returns:
            The replies in order; an error reply stands in the list as the driver's exception.

        Raises:
            StoreUnavailableError: the breaker is open, or the server could not be asked; the breaker is open now.
        """
        if not probing:
            self._breaker.check()
        if self._pid != os.getpid():
            self._idle, self._pid = deque(maxlen=_IDLE_LIMIT), os.getpid()  # a fork: they are the parent's
        began = time.monotonic()
        left = self._left() if self._budget.touched(began) and not patient else None
        try:
            line, kept = self._idle.pop(), True
        except IndexError:
            line, kept = self._connect(), False
            began = time.monotonic()
            if not patient:
                left = self._left_for(line)
        try:
            answers = line.ask(payload, replies) if left is None else line.ask_within(left, payload, replies)
        except (RedisError, OSError) as error:
            line.drop()
            self._budget.spend(began)
            if not kept or isinstance(error, TimeoutError):
                raise self._away(error) from error
            # The server closed an idle connection. Every command of ours may be sent twice.
            return self._again(payload, replies)
        except BaseException:  # a greenlet's timeout, a signal: the replies on the socket are nobody's now
            line.drop()
            raise
        self._idle.append(line)
        if not patient:
            self._budget.spend(began)
        return answers

    def _again(self, payload: bytes, replies: int) -> list[Any]:
        while self._idle:  # the others were idle as long and are closed too
            try:
                self._idle.pop().drop()
            except IndexError:
                break
        line = self._connect()
        began = time.monotonic()
        left = self._left_for(line)
        try:
            answers = line.ask(payload, replies) if left is None else line.ask_within(left, payload, replies)
        except BaseException as error:
            line.drop()
            if isinstance(error, RedisError | OSError):
                self._budget.spend(began)
                raise self._away(error) from error
            raise
        self._idle.append(line)
        self._budget.spend(began)
        return answers

    def _left_for(self, line: Line) -> float | None:
        """:meth:`_left` once more, as connecting may have taken most of it; the new line is not lost."""
        try:
            return self._left()
        except StoreUnavailableError:
            self._idle.append(line)
            raise

    def _left(self) -> float | None:
        """Seconds that the present request may still wait, if it may not wait the whole timeout.

        Raises:
            StoreUnavailableError: none; a store that has cost a request so much is not well, and the breaker is open now.
        """
        left = self._budget.left()
        if left is None or left >= self._timeout:
            return None
        if left <= _LEAST:
            failure = StoreUnavailableError(f"{self.location}: one request has waited for it too long in all")
            self._breaker.trip(failure, slow=True)
            raise failure
        return left

    def _connect(self) -> Line:
        """A new connection, attached; each of its steps within what is left to the request."""
        connection = self._factory.connection_class(**self._factory.connection_kwargs)
        began = time.monotonic()
        try:
            left = self._left()
            if left is not None:  # the handshake asks twice
                connection.socket_timeout = connection.socket_connect_timeout = left / 2
            line = Line(connection, self._timeout)
            self._budget.spend(began)
            began = time.monotonic()
            left = self._left()
            self._attach(line.ask if left is None else partial(line.ask_within, left))
        except (RedisError, OSError) as error:
            connection.disconnect()
            self._budget.spend(began)
            raise self._away(error) from error
        except BaseException:
            connection.disconnect()
            raise
        self._budget.spend(began)
        return line

    def feed(self) -> Feed:
        """A connection of its own for a subscriber; not attached, and none of the breaker's business.

        Raises:
            StoreUnavailableError: it could not be made.
        """
        connection = self._factory.connection_class(**self._factory.connection_kwargs)
        try:
            return Feed(connection, self._timeout)
        except (RedisError, OSError) as error:
            connection.disconnect()
            raise translated(error, self.location) from error

    def _away(self, error: Exception) -> StoreError:
        failure = translated(error, self.location)
        self._breaker.trip(failure)
        return failure

    def close(self) -> None:
        """Close the idle connections; the wire may be used again."""
        if self._pid == os.getpid():
            while self._idle:
                self._idle.pop().drop()
