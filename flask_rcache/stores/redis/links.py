"""One node of a cluster, and the way of each shard to the node that has it.

Owns what is sent to one shard and follows it: ``MOVED``, ``ASK``, a node that is away, and the comparing of a shard
with what was known of it. Where a shard is, and what goes out to several at once, is ``nodes``'s.

A shard is compared with what was known of it on each connection on which it is asked for the first time, and on all of
them when its node has changed: so a node that fails over is found out shard by shard, and the connections are shared.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from redis.crc import key_slot
from redis.exceptions import RedisError

from ...config.address import Node as Place
from ...errors import StoreError, StoreUnavailableError
from ..protocol import Incident
from .breaker import Breaker
from .connection import Connection, Exchange, RedirectError, pack
from .failures import Failure, WrongServerError, classify, translated
from .pool import Pool

__all__ = ["CONFIGURATION_PAUSE", "Link", "Node", "SlotMap", "commands_in"]

logger: Final = logging.getLogger("flask_rcache")

#: Hops from node to node that one exchange makes.
_HOPS: Final = 4
#: Seconds between probes while somebody has to change something.
CONFIGURATION_PAUSE: Final = 5.0
_ASKING: Final = pack(("ASKING",))


class SlotMap(Protocol):
    """Which node has which shard; :class:`~.nodes.Nodes` to a link."""

    @property
    def location(self) -> str:
        """The URL without its password."""
        ...

    @property
    def moving(self) -> AbstractContextManager[Any]:
        """Held while a shard changes its node."""
        ...

    def moved(self, link: Link) -> None:
        """A shard has another node now."""
        ...

    def changed(self) -> None:
        """A generation has ended."""
        ...

    def locate(self, link: Link) -> Node:
        """The node of a shard, when it is not known yet."""
        ...

    def node_in(self, text: str, before: Node | None) -> Node:
        """The node that a redirection names."""
        ...

    def follow(self, link: Link, text: str) -> None:
        """A node says that the shard is on another one."""
        ...

    def look_soon(self) -> None:
        """Something has changed."""
        ...

    def seconds_for(self, size: int) -> float:
        """See :meth:`Transport.seconds_for`."""
        ...

    def log_once(self, message: str) -> None:
        """Log an error that concerns the whole cluster."""
        ...

    def refuse(self, failure: StoreError) -> None:
        """This process must not use the cluster at all."""
        ...


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

    def __init__(self, nodes: SlotMap, number: int, breaker: Breaker, attach: Callable[[Exchange], None]) -> None:
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
            return self.redirected(payload, [elsewhere.reply] * replies, probing=probing, patient=patient)
        if probing:
            node.breaker.close()
        for answer in answers:
            if type(answer) is RedirectError:
                return self.redirected(payload, answers, probing=probing, patient=patient)
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

    def redirected(self, payload: bytes, answers: list[Any], *, probing: bool, patient: bool) -> list[Any]:
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
                self.breaker.trip(failure, pause=CONFIGURATION_PAUSE, is_logged=True)
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
