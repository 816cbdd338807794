"""The nodes of a cluster: which of them has which shard, and the connections to each.

Owns the slot map: when it is looked at, of which node, and what follows. How a shard is asked is ``links``'s.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from redis.exceptions import RedisError

from ...config.address import Node as Place
from ...errors import StoreError, StoreUnavailableError
from ...model import chance, forks
from .breaker import Breaker
from .budget import Budget, request_scope
from .connection import Connection, Exchange, pack
from .driver import Connector
from .failures import Failure, classify, translated
from .links import CONFIGURATION_PAUSE, Link, Node
from .pool import Pool
from .status import REPLIES, STATUS, status_of
from .steps import Steps
from .together import Together
from .topology import ServerEndpoint

__all__ = ["Nodes"]

logger: Final = logging.getLogger("flask_rcache")

T = TypeVar("T")

#: Seconds from one look at the slot map to the next while all is well; and while it is not.
_LOOK_EVERY: Final = 20.0
_LOOK_AGAIN: Final = 0.2
_SLOTS: Final = pack(("CLUSTER", "SLOTS"))


class Nodes:
    """The nodes of a cluster.

    Args:
        location: the URL without its password.
        seeds: the nodes that the URL names.
        connector: makes the connections.
        timeout: seconds to wait for each answer.
        idle_timeout: seconds after which a connection that nobody uses is closed.
        max_connections: how many there may be to one node.

    Attributes:
        links: the shards, by their numbers.
        on_change: called when a reading that was heard may not be good any more.
        on_move: called with a shard that has another node now.
        moving: held while a shard changes its node.
    """

    def __init__(
        self,
        location: str,
        seeds: Sequence[Place],
        connector: Connector,
        *,
        timeout: float,
        idle_timeout: float,
        max_connections: int,
    ) -> None:
        self.location: Final = location
        self._seeds: Final = tuple(seeds)
        self._connector: Final = connector
        self._timeout: Final = timeout
        self._idle_timeout: Final = idle_timeout
        self._max_connections: Final = max_connections
        self.links: Final[list[Link]] = []
        self.moving: Final = forks.new_lock()
        self.on_change: Callable[[], None] = _nothing
        self.on_move: Callable[[Link], None] = _no_move
        self._together: Final = Together()
        self.refusal: StoreError | None = None
        self._nodes: dict[Place, Node] = {}
        self._replicas: dict[Place, tuple[Place, ...]] = {}
        self._look_at = 0.0
        self._looked_at = 0.0
        self._looking: threading.Thread | None = None
        self._logged: Final[set[str]] = set()
        self._lock: Final = forks.new_lock()
        self._look_lock: Final = forks.new_lock()
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The thread is the parent's; each pool sees to its connections."""
        self._looking = None

    def link(self, number: int, breaker: Breaker, attach: Callable[[Exchange], None]) -> Link:
        """The way of one more shard."""
        link = Link(self, number, breaker, attach)
        self.links.append(link)
        return link

    def changed(self) -> None:
        """A generation has ended."""
        self.on_change()

    def moved(self, link: Link) -> None:
        """A shard has another node now."""
        self.on_move(link)

    @property
    def nodes(self) -> list[Node]:
        """Those on which shards are asked, or were."""
        return list(self._nodes.values())

    def log_once(self, message: str) -> None:
        """Log an error that concerns the whole cluster, or each of its shards in the same way."""
        with self._lock:
            text = message.replace(self.location, "").partition(")")[2] or message
            is_new = text not in self._logged and len(self._logged) < 100
            self._logged.add(text)
        if is_new:
            logger.error("%s", message)

    def refuse(self, failure: StoreError) -> None:
        """This process must not use the cluster at all: its settings do not fit what lies there."""
        self.refusal = failure
        for link in self.links:
            link.breaker.trip(failure, pause=CONFIGURATION_PAUSE, is_logged=True)

    def seconds_for(self, size: int) -> float:
        """See :meth:`Transport.seconds_for`."""
        node = next(iter(self._nodes.values()), None)
        return 2 * self._timeout if node is None else node.pool.seconds_for(size)

    # --- Where the shards are

    def _node(self, place: Place) -> Node:
        with self._lock:
            node = self._nodes.get(place)
            if node is None:
                node = self._nodes[place] = Node(place, lambda breaker, ended: self._pool(place, breaker, ended))
            return node

    def _pool(self, place: Place, breaker: Any, ended: Callable[[], None]) -> Pool:
        return Pool(
            ServerEndpoint(f"{place} of {self.location}", self._connector, place),
            timeout=self._timeout,
            breaker=breaker,
            attach=_nothing_to_compare,
            idle_timeout=self._idle_timeout,
            max_connections=self._max_connections,
            ended=ended,
        )

    def locate(self, link: Link) -> Node:
        """The node of a shard, when it is not known yet.

        Raises:
            StoreUnavailableError: it is not to be learnt now.
        """
        self._look_in_time()
        node = link.node
        if node is None:
            failure = StoreUnavailableError(f"{self.location}: no node says where shard {link.number} is")
            link.breaker.trip(failure)
            raise failure
        return node

    def node_in(self, text: str, before: Node | None) -> Node:
        """The node that a redirection names: ``MOVED 3999 10.0.0.5:6379``."""
        host, _, port = text.split(" ")[2].rpartition(":")
        if host in ("", "?") and before is not None:
            host = before.place.host
        return self._node(Place(host.strip("[]"), int(port)))

    def follow(self, link: Link, text: str) -> None:
        """A node says that the shard is on another one."""
        link.move(self.node_in(text, link.node))
        self.look_soon()

    def look_soon(self) -> None:
        """Something has changed: the slot map is looked at in the next round."""
        self._look_at = 0.0

    def look_if_due(self) -> None:
        """Look at the slot map, if it is time."""
        is_well = all(link.node is not None and not link.breaker.is_open for link in self.links)
        if time.monotonic() >= self._look_at or (not is_well and time.monotonic() >= self._looked_at + _LOOK_AGAIN):
            self.look()

    def _look_in_time(self) -> None:
        """Have a thread look at the slot map, and wait for it as long as one may wait for a connection."""
        with self._lock:
            looking = self._looking
            if looking is None or not looking.is_alive():
                looking = self._looking = threading.Thread(target=self.look, name="flask_rcache-look", daemon=True)
                looking.start()
        scope = request_scope()
        limit = 2 * self._timeout
        if scope is not None:
            limit = Budget(limit).within(scope, limit)
        began = time.monotonic()
        looking.join(limit)
        if scope is not None:
            scope.waited += time.monotonic() - began

    def look(self) -> None:
        """Ask the nodes, one after the other until one answers, which node has which slots."""
        with self._look_lock:
            if time.monotonic() - self._looked_at < _LOOK_AGAIN / 4:
                return  # another thread has just done it
            known = [node.place for node in self._nodes.values() if node.links and not node.is_away]
            others = [*self._replicas, *sum(self._replicas.values(), ()), *self._seeds]
            chance.shuffle(known)
            cause: Exception | None = None
            for place in dict.fromkeys((*known, *others)):
                try:
                    rows = self._asked(place)
                except (RedisError, OSError, StoreError) as error:
                    cause = cause or error
                    continue
                if self._take(rows, place):
                    break
            else:
                self._unreached(cause)
            self._looked_at = time.monotonic()
            self._look_at = self._looked_at + _LOOK_EVERY

    def _asked(self, place: Place) -> list[Any]:
        """The slot map as one node has it."""
        driver = self._connector.to(place)
        try:
            connection = Connection(driver, self._timeout)
            reply = connection.exchange(_SLOTS, 1)[0]
        finally:
            driver.disconnect()
        if isinstance(reply, RedisError):
            raise reply
        rows: list[Any] = reply
        return rows

    def _take(self, rows: list[Any], asked: Place) -> bool:
        """Have each shard asked where the slot map says; whether it knows all of them."""
        replicas: dict[Place, tuple[Place, ...]] = {}
        found: dict[int, Place] = {}
        for first, last, *places in rows:
            master, *others = [_place_of(place, asked) for place in places]
            replicas[master] = tuple(dict.fromkeys((*replicas.get(master, ()), *others)))
            for link in self.links:
                if first <= link.slot <= last:
                    found[link.number] = master
        if not found:
            return False
        self._replicas = replicas
        for link in self.links:
            if link.number in found:
                link.move(self._node(found[link.number]))
        self._drop_unused()
        return len(found) == len(self.links)

    def _drop_unused(self) -> None:
        """Close the connections to nodes that are none, or have no shard, any more."""
        with self._lock:
            unused = [place for place, node in self._nodes.items() if not node.links]
            gone = [self._nodes.pop(place) for place in unused]
        for node in gone:
            node.pool.close()

    def _unreached(self, cause: Exception | None) -> None:
        """No node says where the shards are."""
        if cause is None:
            return
        kind = classify(cause)
        failure = translated(cause, self.location)
        if kind is Failure.CONFIGURATION:
            self.log_once(f"[CACHE ERROR] {failure}; running without the cache")
        for link in self.links:
            if link.node is None:
                if kind is Failure.CONFIGURATION:
                    link.breaker.trip(failure, pause=CONFIGURATION_PAUSE, is_logged=True)
                else:
                    link.breaker.trip(failure)

    # --- Many shards at once

    @property
    def rounds(self) -> int:
        """How many rounds of exchanges were made for several shards at once."""
        return self._together.rounds

    def drive(self, steps: Mapping[Link, Steps[T]]) -> dict[Link, T | Exception]:
        """See :meth:`.together.Together.drive`."""
        return self._together.drive(steps)

    # --- The rest

    def ask_each(self, payload: bytes, replies: int) -> dict[Node, list[Any]]:
        """Ask every node that is not away the same, all at once; the replies of those that answer."""
        posted = [(node, node.pool.post(payload, _nothing_to_prepare)) for node in self.nodes if not node.is_away]
        found = {}
        for node, connection in posted:
            with suppress(StoreError):
                found[node] = node.pool.exchange(payload, replies, posted=connection, patient=True)
        return found

    def state(self) -> list[dict[str, Any]]:
        """The nodes as operators see them, each with what it says of itself."""
        found, asked_at = [], time.time()
        answers = self.ask_each(STATUS, REPLIES)
        for place, node in sorted(self._nodes.items(), key=lambda item: str(item[0])):
            found.append(
                {
                    "address": str(place),
                    "role": "master",
                    "is_available": not node.is_away,
                    "since": node.away_since,
                    "shards": sorted(link.number for link in node.links),
                    "replicas": [str(replica) for replica in self._replicas.get(place, ())],
                    "connections": node.pool.connections,
                    "generation": node.pool.generation,
                    "server": status_of(answers.get(node), asked_at),
                }
            )
        return found

    def close_idle(self) -> None:
        """Close the connections that nobody has used for a while."""
        for node in self.nodes:
            node.pool.close_idle()

    def close(self) -> None:
        """Close the connections; they may be used again."""
        for node in self.nodes:
            node.pool.close()


def _place_of(place: list[Any], asked: Place) -> Place:
    """A node as the slot map has it; a node that does not know its own address is where it was asked."""
    host = place[0].decode() if isinstance(place[0], bytes) else ""
    return Place(asked.host if host in ("", "?") else host, int(place[1]))


def _nothing() -> None:
    pass


def _no_move(link: Link) -> None:
    pass


def _nothing_to_prepare(connection: Connection) -> None:
    """What is asked concerns no shard."""


def _nothing_to_compare(exchange: Exchange) -> None:
    """A node is compared shard by shard."""
