"""Where a server is: at a fixed address, behind a name, or where the sentinels say.

Owns which server a connection is made to, for each topology but a cluster. An :class:`Endpoint` is asked for each new
connection anew, so a name that was moved is followed. It connects nothing; the pool does. What follows when that is
another server than before is ``server``'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from redis.connection import AbstractConnection

from ...config.address import Address, Node
from ...errors import ConfigError
from .driver import Connector
from .sentinel import Moved, SentinelEndpoint

__all__ = ["Endpoint", "ServerEndpoint", "Topology", "endpoint_of"]


class Topology(Protocol):
    """What announces that a server has moved, and what operators see of that. A shard of a cluster has none."""

    def watch(self, moved: Moved) -> None:
        """Have a thread call a bound method, held weakly, when a failover is announced; nothing where none is."""
        ...

    def state(self) -> dict[str, Any]:
        """What operators see of it: ``kind``, and what there is beside it."""
        ...

    def close(self) -> None:
        """End the thread and close the connections; the endpoint may be used again."""
        ...


class Endpoint(Topology, Protocol):
    """Where one server is."""

    @property
    def location(self) -> str:
        """For logs and pages; without a password."""
        ...

    def connection(self) -> AbstractConnection:
        """A connection, not connected yet, to where the server is now.

        It may have to ask others, so it is called by a thread that nobody waits for longer than their time.

        Raises:
            RedisError: that is not to be learnt now.
            OSError: the same.
        """
        ...

    def doubt(self) -> None:
        """The server that a connection was made to last is not to be used: whoever named it may not know better."""
        ...


class ServerEndpoint:
    """One server at an address, or behind a name, which is resolved anew for each connection.

    Args:
        location: for logs and pages.
        connector: makes the connections.
        node: the server.
        path: of its unix socket, in place of the node.
    """

    def __init__(self, location: str, connector: Connector, node: Node, *, path: str = "") -> None:
        self.location: Final = location
        self._connector: Final = connector
        self._node: Final = node
        self._path: Final = path

    def connection(self) -> AbstractConnection:
        """See :meth:`Endpoint.connection`: the driver resolves the name."""
        return self._connector.to(self._node, path=self._path)

    def doubt(self) -> None:
        """See :meth:`Endpoint.doubt`: there is nobody else to ask."""

    def watch(self, moved: Moved) -> None:
        """See :meth:`Endpoint.watch`: a name announces nothing."""

    def state(self) -> dict[str, Any]:
        """See :meth:`Endpoint.state`."""
        return {"kind": "server"}

    def close(self) -> None:
        """See :meth:`Endpoint.close`: there is nothing to end."""


def endpoint_of(
    address: Address,
    *,
    timeout: float,
    options: Mapping[str, Any] | None = None,
    sentinel_options: Mapping[str, Any] | None = None,
) -> Endpoint:
    """The endpoint that an address of one server, or of sentinels, stands for.

    Args:
        address: what the URL says.
        timeout: seconds to wait for each answer.
        options: for redis-py.
        sentinel_options: for redis-py's connections to the sentinels.

    Raises:
        ConfigError: an option that is not usable, or the address of a cluster.
    """
    connector = Connector(address, options or {}, timeout=timeout)
    if address.kind == "server":
        node = address.nodes[0] if address.nodes else Node("", 0)
        return ServerEndpoint(address.location, connector, node, path=address.path)
    if address.kind == "sentinel":
        return SentinelEndpoint(address, connector, sentinel_options or {}, timeout=timeout)
    raise ConfigError(f"RCACHE_URL {address.location} is not the address of one server")
