"""The connections of one process to one Redis or Valkey server, and one exchange on them.

Owns connecting, the kept connections and their generation, forks, and what the driver's errors mean. It uses redis-py's
``Connection`` directly: ``Redis.execute_command`` costs about 20 µs a call for retries and bookkeeping that a cache
does not want (measured; see ``benchmarks/raw.py``). It does not know what the commands mean.

A connection is made by a thread of its own, and who needs one waits for the first that is free: a resolver that hangs
holds up nobody for longer than a timeout, and a server that takes no more connections is asked over those there are.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from ...config.parsers import redacted
from ...errors import ConfigError, StoreError, StoreFullError, StoreUnavailableError
from ...model import forks
from ...model.scope import Scope, scope_var
from .breaker import Breaker
from .budget import Budget
from .connection import SLICE, Connection, Exchange

__all__ = ["Failure", "Pool", "classify", "translated"]

logger: Final = logging.getLogger("flask_rcache")

#: Everything the driver raises when the server cannot be asked.
_AWAY: Final = (RedisConnectionError, RedisTimeoutError, OSError, AuthorizationError, BusyLoadingError)
#: Seconds between probes while the server's configuration, or its access list, has to be changed by somebody.
_CONFIGURATION_PAUSE: Final = 5.0
#: Seconds in which no new connection is asked for after the server has refused one more.
_CROWDED: Final = 1.0
#: Attempts to connect that nobody waits for any more and that have not ended: then no more are begun.
_HANGING_LIMIT: Final = 4
#: Bytes a second that the slowest way to a server takes.
_SLOWEST: Final = 1_000_000
#: Bytes that are sent within the timeout in any case.
_SMALL: Final = 16_384


class Failure(Enum):
    """What an error of the server, or on the way to it, means."""

    UNREACHABLE = "unreachable"
    """No connection, no answer, or a server that cannot answer yet."""
    CROWDED = "crowded"
    """It takes no more connections (``maxclients``); those there are work."""
    FULL = "full"
    """It has no room for an entry (``maxmemory``); the rest works."""
    READ_ONLY = "read-only"
    """It is a replica now."""
    CONFIGURATION = "configuration"
    """It does not let this user, or anybody, run a command: somebody has to change that."""
    REFUSED = "refused"
    """It refused a command for another reason."""


_CROWD: Final = "max number of clients"
_FORBIDDEN: Final = re.compile(
    r"NOPERM|has no permissions|ACL failure|can't run this command|unknown (?:redis )?command", re.IGNORECASE
)


def classify(error: BaseException) -> Failure:
    """What ``error`` means: one that the driver raised, or an error reply.

    >>> classify(NoPermissionError("NOPERM User app has no permissions to run the 'zmscore' command")).value
    'configuration'
    """
    text = str(error)
    if _CROWD in text:
        return Failure.CROWDED
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM "):
        return Failure.FULL
    if isinstance(error, ReadOnlyError) or "READONLY " in text:
        return Failure.READ_ONLY
    if isinstance(error, AuthenticationError | NoPermissionError) or _FORBIDDEN.search(text):
        return Failure.CONFIGURATION
    return Failure.UNREACHABLE if isinstance(error, _AWAY) else Failure.REFUSED


def translated(error: Exception, location: str) -> StoreError:
    """The driver's error, or an error reply, as one of ours; its cause is the error."""
    kind = classify(error)
    failure: StoreError
    if isinstance(error, StoreError):
        return error
    if kind is Failure.FULL:
        failure = StoreFullError(f"{location} has no room (maxmemory): raise it, or set maxmemory-policy allkeys-lru")
    elif kind is Failure.CROWDED:
        failure = StoreUnavailableError(
            f"{location} takes no more connections: lower RCACHE_MAX_CONNECTIONS, or raise the server's maxclients"
        )
    elif kind is Failure.CONFIGURATION:
        failure = StoreUnavailableError(f"{location} {_remedy(error)}")
    elif kind is Failure.UNREACHABLE:
        failure = StoreUnavailableError(f"{location}: {type(error).__name__}: {error}")
    else:
        failure = StoreUnavailableError(f"{location} refused a command: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _remedy(error: Exception) -> str:
    text = str(error)
    found = re.search(r"run the '([^']+)' command", text) or re.search(r"unknown command ['`]([^'`]+)", text)
    if isinstance(error, AuthenticationError):
        return f"does not admit the user of the cache ({text}): correct the user and the password in RCACHE_URL"
    if found and "unknown command" in text:
        return f"has no command {found[1].upper()}: it is renamed, or the server is too old ({text})"
    if found:
        return (
            f"does not let the user of the cache run {found[1].upper()}: grant it (ACL SETUSER <user> "
            f"+{found[1].lower()}); the server says: {text}"
        )
    return f"does not let the user of the cache do what it must: grant the commands, keys and channels; it says: {text}"


def _factory(url: str, **options: Any) -> ConnectionPool:
    """Makes connections to the URL; its options win, but for the protocol, whose replies the engine reads.

    Raises:
        ConfigError: an option in the URL that no connection takes. Later it would be an error of each request.
    """
    try:
        pool = ConnectionPool.from_url(url, **options)
        pool.connection_kwargs["protocol"] = 3
        pool.make_connection()  # connects nowhere
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"RCACHE_URL {redacted(url)} contains an invalid option: {error}") from error
    return pool


class _Attempt:
    """One attempt to connect; ``error`` is what became of it when it has failed."""

    __slots__ = ("error", "has_ended", "is_abandoned")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.has_ended = False
        self.is_abandoned = False


class Pool:
    """The connections to one server.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: seconds to wait for a connection, and for each answer.
        breaker: opened by every failure that leaves the server's state unknown.
        attach: run on each new connection before anything else is sent on it. When it ends the generation (another
            server run than before), the connection it was given is closed, and the next one is given to it.
        budget: seconds that one request may wait in all; two timeouts when it is not said.
        idle_timeout: seconds after which :meth:`close_idle` closes a connection that nobody used.
        max_connections: how many there may be at most.

    Attributes:
        location: the URL without its password.
        generation: a number that grows whenever the connections there were are not to be trusted any more. What was
            read before and after an exchange is of one generation only if the number is the same.
    """

    #: What an exchange on a connection of its own may raise, see :meth:`subscriber`.
    FAILURES: Final = (RedisError, OSError)

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        breaker: Breaker,
        attach: Callable[[Exchange], None],
        budget: float | None = None,
        idle_timeout: float = 30.0,
        max_connections: int = 512,
    ) -> None:
        self.location: Final = redacted(url)
        self.generation = 1
        self._timeout: Final = timeout
        self._budget: Final = Budget(2 * timeout if budget is None else budget)
        self._breaker: Final = breaker
        self._attach: Final = attach
        self._idle_timeout: Final = idle_timeout
        self._max_connections: Final = max_connections
        # Only its parsing of the URL is used: the pool itself stays empty.
        self._factory: Final = _factory(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            driver_info=None,
        )
        #: Connections that nobody uses now; the one used last is at the end.
        self._kept: Final[deque[Connection]] = deque()
        self._lock = forks.new_lock()
        self._freed = threading.Condition(self._lock)
        #: Every connection there is, in use or not.
        self._existing: Final[set[Connection]] = set()
        self._attempts: Final[set[_Attempt]] = set()
        self._waiting = 0
        self._crowded_until = 0.0
        self._logged: Final[set[str]] = set()
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The connections are the parent's: this process closes its copies of them and makes its own."""

    @property
    def connections(self) -> int:
        """How many there are now, in use or not."""
        return len(self._existing)

    def exchange(self, payload: bytes, replies: int, *, probing: bool = False, patient: bool = False) -> list[Any]:
        """Send commands in one write and read their replies.

        Args:
            payload: packed commands.
            replies: how many commands that is.
            probing: ask although the breaker is open.
            patient: part of a walk, which may take long in all: it counts for no request.

        Returns:
            The replies in order; an error reply stands in the list as the driver's exception, see :meth:`fail`.

        Raises:
            StoreUnavailableError: the breaker is open, or the server could not be asked, and then it is open now; or the
                present request has waited for it long enough, and goes on without it alone.
        """
        raise NotImplementedError

    def seconds_for(self, size: int) -> float:
        """Seconds that an exchange of a payload of so many bytes may take now, before it is reported as failed."""
        raise NotImplementedError

    def fail(self, error: Exception) -> StoreError:
        """An error reply as one of ours, to be raised; the breaker, the generation and the log learn what it means."""
        raise NotImplementedError

    def end_generation(self, cause: Exception) -> None:
        """Close every kept connection; those in use are closed when their exchange returns."""
        raise NotImplementedError

    def close_idle(self) -> int:
        """Close the connections that nobody has used for a while; the number of those there are then."""
        raise NotImplementedError

    def subscriber(self) -> Connection:
        """A connection for a subscriber alone; attached, and none of the breaker's business.

        Raises:
            StoreError: it could not be made.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the kept connections; the pool may be used again."""
        raise NotImplementedError
