"""The bus of a cluster: one subscription to each node, for all the shards that are asked there.

Owns a listener thread for each node, and for each shard the answer to one question: is its subscription known to be
alive? The scripts of a shard publish where they run, on its node, so who is subscribed there hears all of it or sees
the connection end; what a cluster passes on from node to node may be lost without a sign. A shard that moves, or whose
generation ends, is subscribed to anew, and until then its memory tier is not trusted.
"""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from typing import Any, Final

from ...model import forks
from .bus import ALIVE_NS, Listener, Message, Session, report
from .connection import Connection
from .links import Link, Node
from .nodes import Nodes
from .transport import Transport

__all__ = ["ClusterBus", "ShardSubscription"]


class ShardSubscription:
    """Whether this process hears of all invalidations on one shard; a :class:`~.bus.Subscription`.

    Args:
        bus: of the cluster.
        link: the shard.
        channel: its channel.
        listener: held weakly.
    """

    def __init__(self, bus: ClusterBus, link: Link, channel: str, listener: Listener) -> None:
        self._bus: Final = bus
        self._listener: Final = weakref.ref(listener)
        self.link: Final = link
        self.channel: Final = channel.encode()
        self._generation = 0
        self._heard_at = 0
        self._since = 0

    def alive(self, now: int) -> bool:
        """See :meth:`Subscription.alive`."""
        return now - self._heard_at < ALIVE_NS and self._generation == self.link.generation

    def heard_since(self, then: int) -> bool:
        """See :meth:`Subscription.heard_since`."""
        return self.alive(then) and self._since <= then  # in this order: see where they are set

    @property
    def state(self) -> str:
        """See :attr:`Subscription.state`."""
        if not self._bus.listens_to(self.link.node):
            return "off"
        return "alive" if self.alive(time.monotonic_ns()) else "down"

    def ensure(self) -> None:
        """See :meth:`Subscription.ensure`: of all shards."""
        self._bus.ensure()

    def stop(self, *, timeout: float = 1.0) -> None:
        """See :meth:`Subscription.stop`: of all shards."""
        self._bus.stop(timeout=timeout)

    # --- For the listener

    def began(self, generation: int) -> None:
        """It is subscribed from now on."""
        now = time.monotonic_ns()
        self.missed()
        self._generation, self._since = generation, now  # before it counts as alive
        self._heard_at = now

    def heard(self) -> None:
        """Its node has answered."""
        self._heard_at = time.monotonic_ns()

    def take(self, payload: bytes) -> None:
        """A message came in."""
        message, listener = Message.parse(payload), self._listener()
        if message is None:
            self.missed()  # of another release, perhaps: what it invalidates is not known
        elif listener is not None:
            listener.apply(message)

    def missed(self) -> None:
        """Messages may have been lost: what was held before is not to be trusted."""
        self._since = time.monotonic_ns()
        self._heard_at = 0
        listener = self._listener()
        if listener is not None:
            listener.distrust()


class ClusterBus:
    """The subscriptions to the nodes.

    Args:
        nodes: of the cluster.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes: Final = nodes
        self._subscriptions: Final[dict[Link, ShardSubscription]] = {}
        self._threads: dict[Node, tuple[threading.Thread, threading.Event]] = {}
        self._lock: Final = forks.new_lock()
        self._is_wanted = False
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The threads and their connections are the parent's."""
        self._threads, self._is_wanted = {}, False
        for subscription in self._subscriptions.values():
            subscription._heard_at = 0

    def subscribe(self, link: Transport, channel: str, listener: Listener) -> ShardSubscription:
        """The subscription to one shard; it begins with :meth:`ensure`."""
        assert isinstance(link, Link)
        subscription = self._subscriptions[link] = ShardSubscription(self, link, channel, listener)
        return subscription

    def of(self, node: Node) -> dict[Link, ShardSubscription]:
        """Those of the shards that are asked on a node now."""
        return {link: self._subscriptions[link] for link in tuple(node.links)}

    def listens_to(self, node: Node | None) -> bool:
        """Whether a node's listener runs."""
        return node is not None and node in self._threads

    def ensure(self) -> None:
        """Have a listener running for each node on which there are shards, and for no other."""
        self._is_wanted = True
        self.reconcile()

    def reconcile(self) -> None:
        """The nodes have changed."""
        if not self._is_wanted:
            return
        with self._lock:
            wanted = {node for node in self._nodes.nodes if node.links}
            for node in [node for node in self._threads if node not in wanted]:
                self._threads.pop(node)[1].set()
            for node in wanted - set(self._threads):
                stop = threading.Event()
                args = (weakref.ref(self), weakref.ref(node), stop)
                thread = threading.Thread(target=_listen, args=args, name="flask_rcache-bus", daemon=True)
                with suppress(RuntimeError):  # no thread to be had: no memory tier for now, the next call tries
                    thread.start()
                    self._threads[node] = thread, stop

    def stop(self, *, timeout: float = 1.0) -> None:
        """End the listeners and wait for them, ``timeout`` seconds at most each."""
        self._is_wanted = False
        with self._lock:
            threads, self._threads = self._threads, {}
        for _, stop in threads.values():
            stop.set()
        for subscription in self._subscriptions.values():
            subscription._heard_at = 0
        for thread, _ in threads.values():
            if timeout and thread is not threading.current_thread():
                thread.join(timeout)


class _NodeSession:
    """One subscription to a node: its connection and the shards it is for."""

    __slots__ = ("_by_channel", "_generations", "_session", "links")

    def __init__(self, connection: Connection, subscriptions: dict[Link, ShardSubscription]) -> None:
        self._session: Final = Session(connection)
        self._by_channel: Final = {each.channel: each for each in subscriptions.values()}
        self._generations: Final = {link: link.generation for link in subscriptions}
        self.links: Final = frozenset(subscriptions)
        connection.send("SUBSCRIBE", *[channel.decode() for channel in self._by_channel])

    def receive(self) -> list[Any]:
        """See :meth:`Session.receive`."""
        return self._session.receive()

    def handle(self, node: Node, replies: list[Any]) -> None:
        """Handle what came in."""
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
            if not isinstance(reply, list):
                self._session.answered()
                for each in self._by_channel.values():
                    each.heard()
            elif reply[0] == b"subscribe":
                subscription = self._by_channel[reply[1]]
                subscription.began(self._generations[subscription.link])
            elif reply[0] == b"message":
                self._by_channel[reply[1]].take(reply[2])
        if self.links != node.links or any(link.generation != was for link, was in self._generations.items()):
            raise ConnectionError("other shards, or another generation of them, are asked now")
        self._session.ping_if_due()

    def missed(self) -> None:
        """The subscription has ended."""
        for each in self._by_channel.values():
            each.missed()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()


def _listen(
    ref: weakref.ReferenceType[ClusterBus], node_ref: weakref.ReferenceType[Node], stop: threading.Event
) -> None:
    """The thread's life; while it waits it holds nothing of its bus, else a forgotten app would live for ever."""
    session: _NodeSession | None = None
    failures = 0
    while not stop.is_set():
        pause = 0.0
        try:
            replies = [] if session is None else session.receive()
            bus, node = ref(), node_ref()
            if bus is None or node is None or stop.is_set():
                break
            if session is None:
                subscriptions = bus.of(node)
                if not subscriptions:
                    break
                session = _NodeSession(node.pool.subscriber(), subscriptions)
            session.handle(node, replies)
            failures = 0
        except Exception as error:  # noqa: BLE001  # whatever comes in: without this thread there is no memory tier
            if session is not None:
                session.missed()
                session.close()
                session = None
            pause = report(error, failures)
            failures += 1
        bus = node = None
        if pause:  # out here: the error's traceback holds the bus too
            stop.wait(pause)
    if session is not None:
        session.missed()
        session.close()
