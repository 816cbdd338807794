"""The nodes of a cluster, and the way of each shard through them.

Owns which node each shard is asked on (the slot map, ``MOVED``, ``ASK``), the connections to each node, and the
exchanges of many shards that are sent together. What runs on a shard is ``server``'s, as on one server: a :class:`Link`
is what it is asked over.

A shard is compared with what was known of it on each connection on which it is asked for the first time, and on all of
them when its node has changed: so a node that fails over is found out shard by shard, and the connections are shared.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from redis.crc import key_slot
from redis.exceptions import RedisError

from ...config.address import Node as Place
from ...errors import StoreError, StoreUnavailableError
from ...model import chance, forks
from ...model.named_tuple import NamedTuple
from ..protocol import Incident
from .breaker import Breaker
from .budget import Budget, request_scope
from .connection import Connection, Exchange, RedirectError, pack
from .driver import Connector
from .failures import Failure, WrongServerError, classify, translated
from .pool import Pool
from .status import REPLIES, STATUS, status_of
from .steps import Ask, Driven, Steps
from .topology import ServerEndpoint

__all__ = ["Link", "Nodes", "commands_in"]

logger: Final = logging.getLogger("flask_rcache")

T = TypeVar("T")

#: Hops from node to node that one exchange makes.
_HOPS: Final = 4
#: Seconds from one look at the slot map to the next while all is well; and while it is not.
_LOOK_EVERY: Final = 20.0
_LOOK_AGAIN: Final = 0.2
#: Seconds between probes while somebody has to change something.
_CONFIGURATION_PAUSE: Final = 5.0
_ASKING: Final = pack(("ASKING",))
_SLOTS: Final = pack(("CLUSTER", "SLOTS"))


class _Elsewhere(StoreError):
    """A shard is not on the node that was asked: the reply says where."""

    def __init__(self, reply: RedirectError) -> None:
        super().__init__(str(reply))
        self.reply: Final = reply


class Node:
    """One node, with its connections.

    Args:
        place: where it is.
        pool: makes the pool of its connections, given its breaker and what is called when a generation has ended.

    Attributes:
        breaker: of the node; while it is open, none of its shards is asked.
        links: the shards that are asked here now.
    """

    def __init__(self, place: Place, pool: Callable[[Any, Callable[[], None]], Pool]) -> None:
        self.place: Final = place
        self.breaker: Final = _NodeBreaker(self)
        self.links: Final[set[Link]] = set()
        self.pool: Final = pool(self.breaker, self._ended)

    def _ended(self) -> None:
        for link in tuple(self.links):
            link.end()

    @property
    def is_away(self) -> bool:
        """Whether it could not be asked when it was tried last."""
        return self.breaker.outage is not None

    @property
    def away_since(self) -> float | None:
        """Since when (seconds since 1970)."""
        outage = self.breaker.outage
        return None if outage is None else outage.since


class _NodeBreaker:
    """A node's breaker: with it the breakers of all shards that are asked there open."""

    __slots__ = ("_breaker", "_node", "check", "outage")

    def __init__(self, node: Node) -> None:
        self._node: Final = node
        self._breaker: Final = Breaker()
        self.check: Final = self._breaker.check
        self.outage: Incident | None = None

    def trip(self, cause: Exception, *, pause: float = 0.25, is_logged: bool = False) -> None:
        """See :meth:`Breaker.trip`."""
        self._breaker.trip(cause, pause=pause, is_logged=is_logged)
        self.outage = self._breaker.outage
        for link in tuple(self._node.links):
            link.breaker.trip(cause, pause=pause, is_logged=is_logged)

    def full(self, cause: Exception) -> None:
        """See :meth:`Breaker.full`: that is each shard's to find out."""

    def close(self) -> None:
        """The node has answered."""
        if self.outage is not None:
            self._breaker.close()
            self.outage = None


class Link:
    """What one shard is asked over: a :class:`~.transport.Transport`.

    Args:
        nodes: of the cluster.
        number: the shard's.
        breaker: the shard's.
        attach: compares the shard, on a connection, with what was known of it.

    Attributes:
        generation: grows with each node, and with each generation of that node's connections.
        slot: the hash slot in which everything of the shard lies.
        node: where it is asked now; ``None`` while that is not known.
        failed_over_at: when another node took over from the last one (seconds since 1970).
        before: the address of the node before.
    """

    def __init__(self, nodes: Nodes, number: int, breaker: Breaker, attach: Callable[[Exchange], None]) -> None:
        self._nodes: Final = nodes
        self._attach: Final = attach
        self.number: Final = number
        self.breaker: Final = breaker
        self.slot: Final = key_slot(str(number).encode())
        self.node: Node | None = None
        self.generation = 1
        self.failed_over_at: float | None = None
        self.before = ""

    # --- Where it is

    @property
    def location(self) -> str:
        """See :attr:`Transport.location`."""
        return f"{self._nodes.location} (shard {self.number}{f' on {self.server}' if self.node else ''})"

    @property
    def server(self) -> str:
        """See :attr:`Transport.server`."""
        return "" if self.node is None else str(self.node.place)

    @property
    def connections(self) -> int:
        """See :attr:`Transport.connections`: of the node, which other shards use too."""
        return 0 if self.node is None else self.node.pool.connections

    def move(self, node: Node) -> None:
        """Ask it there from now on; nothing that was read before is trusted until it was compared."""
        with self._nodes.moving:
            before = self.node
            if before is node:
                return
            if before is not None:
                before.links.discard(self)
                self.before, self.failed_over_at = str(before.place), time.time()
            node.links.add(self)
            self.node = node
        away = node.breaker.outage
        if away is not None:
            self.breaker.trip(away.cause, is_logged=away.is_logged)
        if before is not None:
            self.end()
            logger.info(
                "[CACHE] shard %d of %s: %s, after %s", self.number, self._nodes.location, node.place, before.place
            )
        self._nodes.moved(self)

    def end(self) -> None:
        """A generation has ended: of the node's connections, or with the node."""
        self.generation += 1
        self._nodes.changed()

    # --- Exchanges

    def exchange(
        self, payload: bytes, replies: int, *, probing: bool = False, patient: bool = False, once: bool = False
    ) -> list[Any]:
        """See :meth:`Transport.exchange`; follows the shard to where it is."""
        if self.breaker.outage is not None and not probing:
            self.breaker.check()
        node = self.node
        try:
            if node is None:
                node = self._nodes.locate(self)
            answers = node.pool.exchange(
                payload, replies, probing=probing, patient=patient, prepare=self.prepare, once=once
            )
        except _Elsewhere as elsewhere:
            return self._redirected(payload, [elsewhere.reply] * replies, probing=probing, patient=patient)
        if probing:
            node.breaker.close()
        for answer in answers:
            if type(answer) is RedirectError:
                return self._redirected(payload, answers, probing=probing, patient=patient)
        return answers

    def farewell(self, payload: bytes) -> None:
        """See :meth:`Transport.farewell`: a node that lost a shard answers ``MOVED``, so nobody has to be sent away."""

    def prepare(self, connection: Connection) -> None:
        """Compare the shard with what was known of it, when it was not on this connection in this generation.

        Raises:
            StoreError: it is elsewhere, or not to be used.
        """
        for _ in range(3):
            generation = self.generation
            if connection.attached.get(self.number) == generation:
                return
            try:
                self._attach(connection.exchange)
            except RedirectError as reply:
                raise _Elsewhere(reply) from reply
            except RedisError as error:
                if isinstance(error, OSError) or classify(error) is Failure.UNREACHABLE:
                    raise
                raise self.fail(error) from error
            if generation == self.generation:
                connection.attached[self.number] = generation
                return
        raise StoreUnavailableError(f"{self.location} leads to another server each time")

    def _redirected(self, payload: bytes, answers: list[Any], *, probing: bool, patient: bool) -> list[Any]:
        """Follow ``MOVED`` and ``ASK``; what is between two nodes, or nowhere, keeps its error reply."""
        for _ in range(_HOPS):
            texts = [str(answer) if type(answer) is RedirectError else "" for answer in answers]
            moved = next((text for text in texts if text.startswith("MOVED ")), "")
            if moved:
                self._nodes.follow(self, moved)
                try:
                    node = self.node or self._nodes.locate(self)
                    answers = node.pool.exchange(
                        payload, len(answers), probing=probing, patient=patient, prepare=self.prepare
                    )
                except _Elsewhere as elsewhere:
                    answers = [elsewhere.reply] * len(answers)
                continue
            asked = [number for number, text in enumerate(texts) if text.startswith("ASK ")]
            if not asked:
                break
            self._ask(payload, answers, asked, texts[asked[0]], probing=probing)
        return answers

    def _ask(self, payload: bytes, answers: list[Any], asked: list[int], text: str, *, probing: bool) -> None:
        """Send the commands whose keys have moved already to where their slot is going."""
        node = self._nodes.node_in(text, self.node)
        each = commands_in(payload)
        there = b"".join([_ASKING + each[number] for number in asked])
        found = node.pool.exchange(there, 2 * len(asked), probing=probing)[1::2]
        for number, answer in zip(asked, found, strict=True):
            answers[number] = answer

    def seconds_for(self, size: int) -> float:
        """See :meth:`Transport.seconds_for`."""
        return self._nodes.seconds_for(size)

    # --- Failures

    def fail(self, error: Exception) -> StoreError:
        """See :meth:`Transport.fail`: of the shard, not of its node."""
        if isinstance(error, StoreError):
            return error
        if isinstance(error, RedirectError):
            return self._between_nodes(error)
        failure, kind = translated(error, self.location), classify(error)
        if kind is Failure.FULL:
            self.breaker.full(failure)
        elif kind is Failure.CONFIGURATION:
            self._nodes.log_once(f"[CACHE ERROR] {failure}; running without the cache")
            if isinstance(error, WrongServerError):
                self._nodes.refuse(failure)
            else:
                self.breaker.trip(failure, pause=_CONFIGURATION_PAUSE, is_logged=True)
        else:
            if kind is Failure.READ_ONLY:
                self.end_generation(failure)
                self._nodes.look_soon()
            self.breaker.trip(failure)
        return failure

    def _between_nodes(self, error: RedirectError) -> StoreError:
        failure = StoreUnavailableError(f"{self.location} is being moved to another node ({error})")
        failure.__cause__ = error
        if not str(error).startswith("TRYAGAIN"):  # else it works again in a moment, and what was read is as good
            self.breaker.trip(failure)
            self._nodes.look_soon()
        return failure

    def end_generation(self, cause: Exception) -> None:
        """See :meth:`Transport.end_generation`; the node's connections are other shards' too, and stay."""
        logger.debug("[CACHE] what was known of %s is given up: %s", self.location, cause)
        self.end()

    def resolve_anew(self) -> None:
        """See :meth:`Transport.resolve_anew`: the slot map is looked at regularly."""

    def subscriber(self) -> Connection:
        """See :meth:`Transport.subscriber`."""
        return (self.node or self._nodes.locate(self)).pool.subscriber()

    def close_idle(self) -> int:
        """See :meth:`Transport.close_idle`: the node's are closed for all shards at once."""
        return self.connections

    def close(self) -> None:
        """See :meth:`Transport.close`: with the nodes."""


class _Together(NamedTuple):
    """What goes to one node in one write."""

    node: Node
    members: list[tuple[Link, Driven, Ask]]

    @property
    def payload(self) -> bytes:
        return b"".join([ask.payload for _, _, ask in self.members])

    @property
    def replies(self) -> int:
        return sum(ask.replies for _, _, ask in self.members)

    @property
    def patient(self) -> bool:
        return all(ask.patient for _, _, ask in self.members)

    def prepare(self, connection: Connection) -> None:
        for link, _, _ in self.members:
            link.prepare(connection)


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
        rounds: how many rounds of exchanges were made for several shards at once.
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
        self.rounds = 0
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
            link.breaker.trip(failure, pause=_CONFIGURATION_PAUSE, is_logged=True)

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
                    link.breaker.trip(failure, pause=_CONFIGURATION_PAUSE, is_logged=True)
                else:
                    link.breaker.trip(failure)

    # --- Many shards at once

    def drive(self, steps: Mapping[Link, Steps[T]]) -> dict[Link, T | Exception]:
        """Run the steps of several shards to their ends: what goes to one node in one write, to all of them together.

        Returns:
            What came of each: its result, or why there is none.
        """
        driven = {link: Driven(each) for link, each in steps.items()}
        try:
            while any(each.ask is not None for each in driven.values()):
                self.rounds += 1
                self._round([(link, each, each.ask) for link, each in driven.items() if each.ask is not None])
        finally:
            for each in driven.values():
                each.close()
        return {link: each.error if each.error is not None else each.result for link, each in driven.items()}

    def _round(self, asks: list[tuple[Link, Driven, Ask]]) -> None:
        """One exchange of each."""
        groups: dict[Node, _Together] = {}
        alone = []
        for link, driven, ask in asks:
            node = link.node
            if link.breaker.outage is not None or node is None or ask.once:  # who is alone is not asked again
                alone.append((link, driven, ask))
            else:
                groups.setdefault(node, _Together(node, [])).members.append((link, driven, ask))
        posted: list[tuple[_Together, Connection | None]] = []
        try:
            posted += [(group, group.node.pool.post(group.payload, group.prepare)) for group in groups.values()]
            answers = [self._received(group, connection) for group, connection in posted]
        except BaseException:
            for group, connection in posted:
                if connection is not None:
                    group.node.pool.discard(connection)
            raise
        for (group, _), found in zip(posted, answers, strict=True):
            if isinstance(found, list):
                self._deal(group, found)
            else:  # for one of them perhaps, so each for itself
                alone += group.members
        for link, driven, ask in alone:
            _advance(driven, partial(link.exchange, ask.payload, ask.replies, patient=ask.patient, once=ask.once))

    def _received(self, group: _Together, connection: Connection | None) -> list[Any] | StoreError:
        """The replies of one node; the error when there are none."""
        try:
            return group.node.pool.exchange(
                group.payload, group.replies, patient=group.patient, prepare=group.prepare, posted=connection
            )
        except StoreError as error:
            if connection is not None:
                group.node.pool.discard(connection)
            return error

    def _deal(self, group: _Together, answers: list[Any]) -> None:
        """Give each shard its replies."""
        at = 0
        for link, driven, ask in group.members:
            mine = answers[at : at + ask.replies]
            at += ask.replies
            if any(type(answer) is RedirectError for answer in mine):
                _advance(
                    driven,
                    lambda link=link, ask=ask, mine=mine: link._redirected(  # type: ignore[misc]
                        ask.payload, mine, probing=False, patient=ask.patient
                    ),
                )
            else:
                driven.send(mine)

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


def commands_in(payload: bytes) -> list[bytes]:
    r"""The commands in a payload, one by one.

    >>> commands_in(b"*1\r\n$4\r\nTIME\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
    [b'*1\r\n$4\r\nTIME\r\n', b'*2\r\n$3\r\nGET\r\n$1\r\nk\r\n']
    """
    return list(_commands(payload))


def _commands(payload: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(payload):
        end = payload.index(b"\r\n", at)
        parts, following = int(payload[at + 1 : end]), end + 2
        for _ in range(parts):
            end = payload.index(b"\r\n", following)
            following = end + 2 + int(payload[following + 1 : end]) + 2
        yield payload[at:following]
        at = following


def _advance(driven: Driven, exchange: Callable[[], list[Any]]) -> None:
    try:
        answers = exchange()
    except StoreError as error:
        driven.throw(error)
    else:
        driven.send(answers)


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
