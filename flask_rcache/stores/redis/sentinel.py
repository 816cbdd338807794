"""The master that sentinels name, and the thread that hears of failovers.

Owns the asking of the sentinels, through redis-py's ``Sentinel``; the subscription to their ``+switch-master``; and
what operators see of each sentinel. That a failover leads to another server is not taken from the sentinels: the
connection that is made then finds it out (``server``).
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import redis
from redis.connection import AbstractConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.sentinel import Sentinel

from ...config.address import Address, Node
from ...model import forks
from ...model.named_tuple import NamedTuple
from .connection import Connection
from .driver import Connector
from .failures import WrongServerError

__all__ = ["Moved", "SentinelEndpoint"]

logger: Final = logging.getLogger("flask_rcache")

#: Called when a failover was announced.
Moved = Callable[[], None]

_CHANNEL: Final = "+switch-master"
#: Seconds from one look at all sentinels to the next.
_LOOK_EVERY: Final = 10.0
#: Seconds between PINGs on the subscription, and how long one may go unanswered.
_PING_EVERY: Final = 2.0
_PONG_WITHIN: Final = 2.0
_RETRY: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
#: Seconds for which an announced master is connected to without asking: other sentinels may hear of it a little later.
_ANNOUNCED: Final = 5.0
#: Seconds for which a sentinel is asked after the others that has named a server which is no master.
_DOUBTED: Final = 30.0


class _Sight(NamedTuple):
    """What was seen of a sentinel, and since when (seconds since 1970)."""

    state: str
    detail: str
    since: float | None


class SentinelEndpoint:
    """The master of a service.

    Args:
        address: what the URL says: the sentinels are its nodes.
        connector: makes the connections to the master.
        options: for redis-py's connections to the sentinels.
        timeout: seconds to wait for each answer of a sentinel.

    Raises:
        ConfigError: an option that is not usable.
    """

    def __init__(self, address: Address, connector: Connector, options: Mapping[str, Any], *, timeout: float) -> None:
        self.location: Final = address.location
        self._service: Final = address.service
        self._connector: Final = connector
        self._timeout: Final = timeout
        self._to_sentinels: Final = _connector_of_sentinels(address, connector, options, timeout)
        # With RESP3 redis-py 5.1, the oldest that is allowed, can't read what sentinels answer.
        self._clients: Final = {node: self._to_sentinels.client(node, protocol=2) for node in address.nodes}
        self._announced: tuple[Node, float] | None = None
        self._named_by: Node | None = None
        self._doubted: Final[dict[Node, float]] = {}
        self._sights: Final[dict[Node, _Sight]] = {node: _Sight("unknown", "", None) for node in address.nodes}
        self._lock: Final = forks.new_lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._moved: weakref.WeakMethod[Moved] | None = None
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The thread is the parent's; redis-py's clients look after themselves."""
        self._thread, self._stop = None, threading.Event()

    # --- Where the master is

    def connection(self) -> AbstractConnection:
        """See :meth:`Endpoint.connection`: to the master that was announced just now, or that a sentinel names."""
        announced = self._announced
        if announced is not None and time.monotonic() < announced[1]:
            return self._connector.to(announced[0])
        try:
            host, port = self._asked()
        except (RedisError, OSError) as error:
            self.look()
            raise self._no_master() from error
        return self._connector.to(Node(str(host), int(port)))

    def _asked(self) -> tuple[Any, Any]:
        """The master that the first sentinel to answer names, those that answered last before the others."""
        sentinel = Sentinel([])
        sentinel.sentinels = [self._clients[node] for node in self._in_order()]
        master: tuple[Any, Any] = sentinel.discover_master(self._service)
        answered = sentinel.sentinels[0]  # redis-py puts it there
        self._named_by = next(node for node, client in self._clients.items() if client is answered)
        return master

    def _in_order(self) -> list[Node]:
        now = time.monotonic()

        def rank(node: Node) -> tuple[bool, bool]:
            return self._sights[node].state not in ("ok", "unknown"), self._doubted.get(node, 0.0) > now

        return sorted(self._clients, key=rank)

    def doubt(self) -> None:
        """See :meth:`Endpoint.doubt`: another sentinel is asked next; this one may be cut off from the others."""
        self._announced = None
        named_by = self._named_by
        if named_by is not None:
            self._doubted[named_by] = time.monotonic() + _DOUBTED

    def _no_master(self) -> Exception:
        """Why no sentinel names a master, in one sentence."""
        sights = tuple(self._sights.items())
        for kind in ("wrong", "refused"):
            for _, sight in sights:
                if sight.state == kind:
                    return WrongServerError(sight.detail)
        reached = [sight for _, sight in sights if sight.state != "away"]
        if not reached:
            return RedisConnectionError(f"no sentinel can be reached: {'; '.join(sight.detail for _, sight in sights)}")
        if all(sight.state == "no master" for sight in reached):
            return WrongServerError(reached[0].detail)
        return RedisConnectionError(f"no sentinel names a master of {self._service!r} that is up")

    # --- What operators see

    def state(self) -> dict[str, Any]:
        """See :meth:`Endpoint.state`."""
        sentinels = [{"address": str(node), **sight._asdict()} for node, sight in self._sights.items()]
        return {"kind": "sentinel", "service": self._service, "sentinels": sentinels}

    def look(self) -> None:
        """Ask each sentinel what it knows of the service."""
        for node, client in self._clients.items():
            self._saw(node, *self._seen(node, client))

    def _seen(self, node: Node, client: redis.Redis) -> tuple[str, str]:
        try:
            known: Any = client.sentinel_masters()
            if self._service not in known:
                others = ", ".join(sorted(known)) or "none"
                return "no master", f"{node} knows no master {self._service!r}, it knows {others}: correct RCACHE_URL"
            client.sentinel_ckquorum(self._service)
        except AuthenticationError as error:
            return "refused", (
                f"the sentinel {node} does not admit the cache: set username and password in RCACHE_SENTINEL_OPTIONS "
                f"({error})"
            )
        except ResponseError as error:
            return _refusal(node, str(error))
        except (RedisError, OSError) as error:
            return "away", f"{node}: {error}"
        return "ok", ""

    def _saw(self, node: Node, state: str, detail: str) -> None:
        before = self._sights[node]
        if before.state == state:
            self._sights[node] = before._replace(detail=detail)
            return
        self._sights[node] = _Sight(state, detail, time.time())
        if state != "ok":
            logger.warning("[CACHE] sentinel %s of %s: %s (%s)", node, self._service, state, detail)
        elif before.state != "unknown":
            logger.info("[CACHE] sentinel %s of %s is well again", node, self._service)

    # --- Failovers

    def watch(self, moved: Moved) -> None:
        """See :meth:`Endpoint.watch`."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._moved = weakref.WeakMethod(moved)
                args = (weakref.ref(self), self._stop)
                thread = threading.Thread(target=_listen, args=args, name="flask_rcache-sentinel", daemon=True)
                with suppress(RuntimeError):  # no thread to be had: the heartbeat finds a failover a little later
                    thread.start()
                    self._thread = thread

    def close(self) -> None:
        """See :meth:`Endpoint.close`; the thread ends by itself within one wait."""
        with self._lock:
            self._thread = None
            self._stop.set()
            self._stop = threading.Event()
        for client in self._clients.values():
            client.close()

    def _subscribe(self) -> Connection:
        """A subscription to one sentinel: that which answered last, or the next that can be reached.

        Raises:
            RedisError: there is none.
            OSError: the same.
        """
        cause: Exception = RedisConnectionError("there is no sentinel")
        for node in self._in_order():
            driver = self._to_sentinels.to(node)
            try:
                connection = Connection(driver, self._timeout)
                connection.send("SUBSCRIBE", _CHANNEL)
            except (RedisError, OSError) as error:
                driver.disconnect()
                cause = error
            else:
                return connection
        raise cause

    def _heard(self, reply: Any) -> None:
        """Handle what came in: ``<service> <host> <port> <new host> <new port>``."""
        if isinstance(reply, Exception):
            raise reply
        if not isinstance(reply, list) or reply[0] != b"message":
            return
        service, *_, host, port = reply[2].decode("utf-8", "replace").rsplit(" ", 4)
        if service != self._service or not port.isdigit():
            return
        self._announced = Node(host, int(port)), time.monotonic() + _ANNOUNCED
        logger.info("[CACHE] the sentinels announce %s:%s as the master of %s", host, port, service)
        self._call_moved()

    def _call_moved(self) -> None:
        moved = self._moved() if self._moved is not None else None
        if moved is not None:
            moved()


def _refusal(node: Node, text: str) -> tuple[str, str]:
    """What an error reply of a sentinel means."""
    if "NOQUORUM" in text or "NOGOODSLAVE" in text:
        return "no quorum", f"{node}: {text}"
    if "unknown command" in text.lower():
        return (
            "wrong",
            f"{node} is a server, no sentinel: write redis:// in RCACHE_URL, or a sentinel's port (26379)",
        )
    return "refused", f"the sentinel {node} refuses to be asked: {text}"


def _connector_of_sentinels(
    address: Address, master: Connector, options: Mapping[str, Any], timeout: float
) -> Connector:
    """How the sentinels are connected to: with TLS as the master is, and with credentials of their own."""
    shared = {name: value for name, value in master.options.items() if name.startswith("ssl_")}
    plain = Address("sentinel", address.location, is_tls=address.is_tls)
    return Connector(plain, {**shared, **options}, timeout=timeout, setting="RCACHE_SENTINEL_OPTIONS")


class _Subscription:
    """A connection on which announcements come in, and the last PING on it."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Final = connection
        self._sent_at = time.monotonic()
        self._is_answered = True

    def replies(self) -> list[Any]:
        """What comes in within a second.

        Raises:
            RedisError: the connection has ended.
            OSError: the same; it may be half open.
        """
        replies = self._connection.receive(1.0)
        waited = time.monotonic() - self._sent_at
        self._is_answered |= bool(replies)
        if not self._is_answered and waited > _PONG_WITHIN:
            raise TimeoutError("no PONG within its time: the connection to the sentinel is half open")
        if self._is_answered and waited >= _PING_EVERY:
            self._connection.send("PING")
            self._sent_at, self._is_answered = time.monotonic(), False
        return replies

    def close(self) -> None:
        self._connection.close()


def _listen(ref: weakref.ReferenceType[SentinelEndpoint], stop: threading.Event) -> None:
    """The thread's life; while it waits it holds nothing of its endpoint."""
    session: _Subscription | None = None
    failures, look_at = 0, 0.0
    while not stop.is_set():
        pause = 0.0
        try:
            replies = [] if session is None else session.replies()
            endpoint = ref()
            if endpoint is None or stop.is_set():
                break
            if time.monotonic() >= look_at:
                endpoint.look()
                look_at = time.monotonic() + _LOOK_EVERY
            if session is None:
                session = _Subscription(endpoint._subscribe())
                if failures:
                    endpoint._call_moved()  # what was announced meanwhile was missed
                failures = 0
            for reply in replies:
                endpoint._heard(reply)
        except Exception as error:  # noqa: BLE001  # whatever comes in, this thread goes on
            logger.debug("[CACHE] the subscription to the sentinels has ended: %s", error)
            if session is not None:
                session.close()
                session, look_at = None, 0.0
            pause = _RETRY[min(failures, len(_RETRY) - 1)]
            failures += 1
        endpoint = None
        if pause:
            stop.wait(pause)
    if session is not None:
        session.close()
