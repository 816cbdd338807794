"""The connections of one process to one Redis or Valkey server, and one exchange on them.

Owns connecting, the kept connections and their generation, forks, and what the driver's errors mean. It uses redis-py's
``Connection`` directly: much of the time of ``Redis.execute_command`` is for retries and bookkeeping that a cache does
not want (``benchmarks/raw.py`` measures commands without them). It does not know what the commands mean.

A connection is made by a thread of its own, and who needs one waits for the first that is free: a resolver that hangs
holds up nobody for longer than a timeout, and a server that takes no more connections is asked over those there are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from weakref import WeakSet

from redis.connection import AbstractConnection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ...errors import StoreError, StoreUnavailableError
from ...model import forks
from ...model.scope import Scope
from .breaker import Breaker
from .budget import Budget, request_scope
from .connection import SLICE, Connection, Exchange
from .failures import Failure, classify, is_closed_at_once, translated
from .topology import Endpoint

__all__ = ["Pool", "Prepare"]

logger: Final = logging.getLogger("flask_rcache")

#: Seconds between probes while the server's configuration, or its access list, has to be changed by somebody.
_CONFIGURATION_PAUSE: Final = 5.0
#: Seconds in which no new connection is asked for after the server has refused one more.
_CROWDED: Final = 1.0
#: Attempts to connect that have taken longer than anybody waits: when there are so many, no more are begun.
_HANGING_LIMIT: Final = 4
#: Connections that are made, one after the other, until one belongs to the generation in which it was begun.
_MAKE_TRIES: Final = 3
#: Seconds that a server which is left is waited for.
_FAREWELL: Final = 0.1
#: Different errors that are logged.
_LOGGED_LIMIT: Final = 100
#: Bytes a second that the slowest way to a server takes.
_SLOWEST: Final = 250_000
#: Bytes that are sent within the timeout in any case.
_SMALL: Final = 16_384


#: Makes a connection ready for what is sent next on it.
Prepare = Callable[[Connection], None]


class _Attempt:
    """One attempt to connect.

    ``error`` is what became of it when it has failed; ``is_too_late`` says that the pool was closed meanwhile, and
    ``is_check`` that nobody needs it, see :meth:`Pool.resolve_anew`.
    """

    __slots__ = ("began", "error", "has_ended", "is_check", "is_too_late")

    def __init__(self, *, is_check: bool = False) -> None:
        self.is_check: Final = is_check
        self.began: Final = time.monotonic()
        self.error: BaseException | None = None
        self.has_ended = False
        self.is_too_late = False


class Pool:
    """The connections to one server.

    Args:
        endpoint: where it is; asked for each new connection.
        timeout: seconds to wait for each answer. One request may wait twice as long in all, a connection included.
        breaker: opened by every failure that leaves the server's state unknown.
        attach: run on each new connection before anything else is sent on it. When it ends the generation (another
            server run than before), the connection it was given is closed, and the next one is given to it.
        idle_timeout: seconds after which :meth:`close_idle` closes a connection that nobody used.
        max_connections: how many there may be at most.
        ended: called when a generation has ended.

    Attributes:
        location: of the endpoint.
        server: the address of the server that the newest connection leads to; empty before the first.
        generation: a number that grows whenever the connections there were are not to be trusted any more. What was
            read before and after an exchange is of one generation only if the number is the same.
    """

    #: What an exchange on a connection of its own may raise, see :meth:`subscriber`.
    FAILURES: Final = (RedisError, OSError)

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float,
        breaker: Breaker,
        attach: Callable[[Exchange], None],
        idle_timeout: float = 30.0,
        max_connections: int = 512,
        ended: Callable[[], None] | None = None,
    ) -> None:
        self.location: Final = endpoint.location
        self.server = ""
        self.generation = 1
        self._timeout: Final = timeout
        self._connect_limit: Final = 2 * timeout
        self._budget: Final = Budget(2 * timeout)
        self._breaker: Final = breaker
        self._attach: Final = attach
        self._idle_timeout: Final = idle_timeout
        self._max_connections: Final = max_connections
        self._endpoint: Final = endpoint
        self._ended: Final = ended
        #: Connections that nobody uses now; the one used last is at the end.
        self._kept: Final[deque[Connection]] = deque()
        #: Every connection there is, in use or not. Weak: one whose user was broken off is nobody's.
        self._existing: Final[WeakSet[Connection]] = WeakSet()
        self._subscribers: Final[WeakSet[Connection]] = WeakSet()
        self._lock: Final = forks.new_lock()
        self._made = threading.Condition(self._lock)
        self._waiting = 0
        self._attempts: Final[set[_Attempt]] = set()
        self._crowded_until = 0.0
        self._logged: Final[set[str]] = set()
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The connections are the parent's: this process closes its copies of them and makes its own."""
        for connection in (*self._existing, *self._subscribers):
            connection.close()
        self._kept.clear()
        self._existing.clear()
        self._subscribers.clear()
        self._attempts.clear()
        self._made = threading.Condition(self._lock)
        self._waiting = 0

    @property
    def connections(self) -> int:
        """How many there are now, in use or not."""
        return len(self._existing)

    def post(self, payload: bytes, prepare: Prepare) -> Connection | None:
        """Send commands whose replies :meth:`exchange` reads, so that those of several servers are sent together.

        Args:
            payload: packed commands.
            prepare: see :meth:`exchange`.

        Returns:
            The connection on which they are, for :meth:`exchange` or :meth:`discard`. ``None`` when no kept one could
            take them: then :meth:`exchange` does all of it.
        """
        connection = self._take()
        if connection is None:
            return None
        try:
            prepare(connection)
            connection.post(payload)
        except (RedisError, OSError, StoreError):
            self.discard(connection)
            return None
        except BaseException:
            self.discard(connection)
            raise
        return connection

    def exchange(
        self,
        payload: bytes,
        replies: int,
        *,
        probing: bool = False,
        patient: bool = False,
        prepare: Prepare | None = None,
        posted: Connection | None = None,
        once: bool = False,
    ) -> list[Any]:
        """Send commands in one write and read their replies.

        Args:
            payload: packed commands.
            replies: how many commands that is.
            probing: ask although the breaker is open.
            patient: part of a walk, which may take long in all: it counts for no request.
            prepare: called with the connection before anything is sent on it; it may exchange something itself, and
                raise errors of the store, not the driver's error replies.
            posted: the connection on which the commands are already, see :meth:`post`.
            once: never send it a second time, not even where the server had closed the connection.

        Returns:
            The replies in order; an error reply stands in the list as the driver's exception, see :meth:`fail`.

        Raises:
            StoreUnavailableError: the breaker is open; or the server could not be asked, and then it is open now; or
                the present request has waited long enough, and goes on without the cache alone.
        """
        if self._breaker.outage is not None and not probing:
            self._breaker.check()
        limit = full = self._timeout if len(payload) <= _SMALL else self._whole_limit(len(payload))
        scope = None if patient else request_scope()
        if scope is not None and (scope.waited or full > self._timeout):
            limit = self._budget.within(scope, full)
        is_new = False
        connection = posted or (self._take_open() if once else self._take())
        if connection is None:
            connection = self._obtain(scope, probing)
            is_new = connection.used_at == connection.made_at
            self._check_new(connection, probing)
            if scope is not None and scope.waited:
                limit = self._what_is_left(scope, full, connection)
        try:
            if prepare is not None and posted is None:
                prepare(connection)
            answers = connection.exchange(payload, replies, limit, is_sent=posted is not None)
        except BaseException as error:  # a greenlet's timeout or a signal too: the replies are nobody's now
            self.discard(connection)
            if scope is not None:
                scope.waited += connection.waited
            if not isinstance(error, RedisError | OSError):
                raise
            if is_new or once or isinstance(error, TimeoutError):
                raise self._unanswered(connection, error, had_all=limit >= full) from error
            self._end(connection, error)
            # The server closed a connection that nobody used. What is sent here may be sent twice.
            return self.exchange(payload, replies, probing=probing, patient=patient, prepare=prepare)
        if connection.waited and scope is not None:
            scope.waited += connection.waited
        connection.used_at = time.monotonic()
        if connection.generation == self.generation:
            self._kept.append(connection)
        else:
            self.discard(connection)
        return answers

    def _check_new(self, connection: Connection, probing: bool) -> None:
        """Whether the breaker has opened while a connection was made: what comes first then is the journal."""
        if self._breaker.outage is not None and not probing:
            self._kept.append(connection)
            self._breaker.check()

    def seconds_for(self, size: int) -> float:
        """Seconds that an exchange of a payload of so many bytes may take now, before it is reported as failed."""
        left, full = self._budget.left, self._whole_limit(size)
        return full if left is None else min(full, left)

    def _whole_limit(self, size: int) -> float:
        return self._timeout + max(0, size - _SMALL) / _SLOWEST

    def _what_is_left(self, scope: Scope, seconds: float, connection: Connection) -> float:
        """What the request may still wait now that it has a connection; that is not lost when it is nothing."""
        try:
            return self._budget.within(scope, seconds)
        except StoreUnavailableError:
            self._kept.append(connection)
            raise

    # --- Failures

    def fail(self, error: Exception) -> StoreError:
        """An error reply as one of ours, to be raised; the breaker, the generation and the log learn what it means."""
        failure = translated(error, self.location)
        kind = classify(error)
        if kind is Failure.FULL:
            self._breaker.full(failure)
            return failure
        if kind is Failure.READ_ONLY:
            self.end_generation(failure)
        self._trip(kind, failure)
        return failure

    def end_generation(self, cause: Exception) -> None:
        """Close every kept connection; those in use are closed when their exchange returns."""
        with self._lock:
            self.generation += 1
        logger.debug("[CACHE] the connections to %s are given up: %s", self.location, cause)
        self._discard_kept()
        if self._ended is not None:
            self._ended()

    def farewell(self, payload: bytes) -> None:
        """Send one command to the server that the kept connections lead to, before they are given up; it may fail."""
        connection = self._take()
        if connection is not None:
            with suppress(RedisError, OSError):
                connection.exchange(payload, 1, min(self._timeout, _FAREWELL))
            self.discard(connection)

    def _end(self, connection: Connection, cause: Exception) -> None:
        """End the generation of a connection, unless it has ended."""
        if connection.generation == self.generation:
            self.end_generation(cause)

    def _unanswered(self, connection: Connection, error: Exception, *, had_all: bool) -> StoreError:
        """What an exchange raises that has failed; one that had less than the whole time says nothing of the server."""
        if isinstance(error, TimeoutError) and not had_all:
            return StoreUnavailableError(
                f"{self.location} did not answer within what this request may still wait; it goes on without the cache"
            )
        failure = translated(error, self.location)
        if connection.generation == self.generation:
            self.end_generation(failure)
            self._trip(classify(error), failure)
        return failure

    def _trip(self, kind: Failure, failure: StoreError) -> None:
        if kind is not Failure.CONFIGURATION:
            self._breaker.trip(failure)
            return
        self._log_once(logging.ERROR, f"[CACHE ERROR] {failure}; running without the cache")
        self._breaker.trip(failure, pause=_CONFIGURATION_PAUSE, is_logged=True)

    def _log_once(self, level: int, message: str) -> None:
        with self._lock:
            is_new = message not in self._logged and len(self._logged) < _LOGGED_LIMIT
            self._logged.add(message)
        if is_new:
            logger.log(level, "%s", message)

    # --- Connecting

    def _obtain(self, scope: Scope | None, probing: bool) -> Connection:
        """The first connection that is free; one more is made if there may be one more.

        Raises:
            StoreUnavailableError: there was none in time.
        """
        full = self._connect_limit
        limit = full if scope is None else self._budget.within(scope, full)
        attempt: _Attempt | None = None
        waited = 0.0
        self._add_waiting(1)
        try:
            while True:
                connection = self._take()
                if connection is not None:
                    return connection
                if attempt is not None and attempt.error is not None:
                    raise attempt.error
                if not probing:
                    self._breaker.check()
                if attempt is None or attempt.has_ended:  # without an error: another thread was faster
                    attempt = self._begin_attempt()
                if waited >= limit:
                    raise self._none_in_time(had_all=limit >= full)
                began = time.monotonic()
                with self._made:
                    if not self._kept and not (attempt is not None and attempt.has_ended):
                        self._made.wait(SLICE)
                waited += min(time.monotonic() - began, SLICE)
        finally:
            self._add_waiting(-1)
            if scope is not None:
                scope.waited += waited

    def _add_waiting(self, number: int) -> None:
        with self._lock:
            self._waiting += number

    def _take(self) -> Connection | None:
        """A kept connection of this generation."""
        while True:
            try:
                connection = self._kept.pop()
            except IndexError:
                return None
            if connection.generation == self.generation:
                return connection
            self.discard(connection)

    def _take_open(self) -> Connection | None:
        """A kept connection that the server has not closed meanwhile."""
        while (connection := self._take()) is not None and connection.is_closed:
            self._end(connection, RedisConnectionError("the server closed the connection"))
            self.discard(connection)
        return connection

    def _none_in_time(self, *, had_all: bool) -> StoreError:
        """What is raised when no connection was free in time; that all are in use says nothing of the server."""
        if self._existing:
            return StoreUnavailableError(
                f"{self.location}: none of the {self.connections} connections was free in time (RCACHE_MAX_CONNECTIONS)"
            )
        failure = StoreUnavailableError(f"{self.location}: no connection could be made in time")
        if had_all:
            self._breaker.trip(failure)
        return failure

    def _begin_attempt(self) -> _Attempt | None:
        """Begin to connect, unless as many attempts are under way as wait, or connections are enough."""
        with self._lock:
            attempt = _Attempt()
            room = self._max_connections - len(self._existing) - len(self._attempts)
            hanging = sum(attempt.began - each.began > self._connect_limit for each in self._attempts)
            is_enough = room <= 0 or len(self._attempts) - hanging >= self._waiting
            if is_enough or hanging >= _HANGING_LIMIT or attempt.began < self._crowded_until:
                return None
            self._attempts.add(attempt)
        self._start(attempt)
        return attempt

    def _start(self, attempt: _Attempt) -> None:
        try:
            threading.Thread(target=self._connect, args=(attempt,), name="flask_rcache-connect", daemon=True).start()
        except RuntimeError:  # no thread to be had, as at the end of the interpreter
            self._connect(attempt)

    def resolve_anew(self) -> None:
        """Replace a kept connection by a new one, which waits for nothing here.

        A name may lead to another server by now while the one there was lives on, and its connections with it. Whether
        it does, ``attach`` finds out, which then ends the generation.
        """
        with self._lock:
            if self._attempts or not self._kept or len(self._existing) >= self._max_connections:
                return
            attempt = _Attempt(is_check=True)
            self._attempts.add(attempt)
        self._start(attempt)

    def _connect(self, attempt: _Attempt) -> None:
        """Make a connection for whoever is waiting."""
        try:
            connection = self._make()
            with self._lock:
                self._existing.add(connection)
                if not attempt.is_too_late:
                    self._kept.append(connection)
            if attempt.is_too_late:
                self.discard(connection)
            elif attempt.is_check:
                self._discard_oldest()
        except (RedisError, OSError, StoreError) as error:
            attempt.error = self._not_connected(attempt, error)
        except BaseException as error:  # noqa: BLE001  # a defect, in attaching: who asked gets it
            attempt.error = error
        finally:
            with self._made:
                self._attempts.discard(attempt)
                attempt.has_ended = True
                self._made.notify_all()

    def _not_connected(self, attempt: _Attempt, error: Exception) -> StoreError | None:
        """What an attempt that has failed means; ``None`` when the connections there are do."""
        kind = classify(error)
        if attempt.is_check and kind in (Failure.CROWDED, Failure.UNREACHABLE):
            return None
        if self._existing and kind in (Failure.CROWDED, Failure.UNREACHABLE):
            # Those are in use, else none would be made: if the server is away, they will find out.
            self._crowded_until = time.monotonic() + _CROWDED
            self._log_once(
                logging.WARNING,
                f"[CACHE] {self.location} takes no more connections; the requests of this process share those there "
                "are. If the server's maxclients is reached, set RCACHE_MAX_CONNECTIONS lower, or raise it",
            )
            return None
        failure = translated(error, self.location)
        if time.monotonic() - attempt.began <= self._connect_limit:  # else it says nothing of what is now
            self._trip(kind, failure)
        return failure

    def _make(self) -> Connection:
        """A new connection, attached, of one generation from its beginning on."""
        for _ in range(_MAKE_TRIES):
            generation = self.generation
            driver = self._endpoint.connection()
            try:
                connection = self._connected(driver)
                connection.generation = generation
                self._attach(connection.exchange)
            except BaseException:
                driver.disconnect()
                self._endpoint.doubt()
                raise
            if generation == self.generation:
                self.server = connection.address
                return connection
            connection.close()
        raise StoreUnavailableError(f"{self.location} leads to another server each time")

    def _connected(self, driver: AbstractConnection) -> Connection:
        """Connect, and authenticate: of that much is the driver's, and the app's that gives the credentials.

        Raises:
            StoreUnavailableError: what the app gives the credentials with has raised an error of its own.
        """
        try:
            return Connection(driver, self._timeout)
        except (RedisError, OSError) as error:
            if is_closed_at_once(error):
                text = f"{error}; if it expects TLS, write rediss:// in RCACHE_URL"
                raise RedisConnectionError(text) from error
            if isinstance(error, RedisTimeoutError) and isinstance(driver, SSLConnection):
                text = f"{error}; if it does not use TLS, write redis:// in RCACHE_URL"
                raise RedisTimeoutError(text) from error
            raise
        except Exception as error:
            raise StoreUnavailableError(
                f"{self.location}: connecting raised {type(error).__name__}: {error} (RCACHE_REDIS_OPTIONS)"
            ) from error

    def subscriber(self) -> Connection:
        """A connection for a subscriber alone; attached, and none of the breaker's business.

        Raises:
            StoreError: it could not be made.
        """
        try:
            connection = self._make()
        except (RedisError, OSError) as error:
            raise translated(error, self.location) from error
        self._subscribers.add(connection)
        return connection

    # --- Closing

    def discard(self, connection: Connection) -> None:
        """Close a connection that was taken out."""
        self._existing.discard(connection)
        connection.close()

    def _discard_oldest(self) -> None:
        with suppress(IndexError):
            self.discard(self._kept.popleft())

    def close_idle(self) -> int:
        """Close the connections that nobody has used for a while; the number of those there are then."""
        before = time.monotonic() - self._idle_timeout
        while True:
            try:
                connection = self._kept.popleft()
            except IndexError:
                break
            if connection.used_at > before:
                self._kept.appendleft(connection)
                break
            self.discard(connection)
        return self.connections

    def close(self) -> None:
        """Close the kept connections, and those that are being made; the pool may be used again."""
        with self._lock:
            for attempt in self._attempts:
                attempt.is_too_late = True
        self._discard_kept()

    def _discard_kept(self) -> None:
        while True:
            try:
                connection = self._kept.pop()
            except IndexError:
                return
            self.discard(connection)
