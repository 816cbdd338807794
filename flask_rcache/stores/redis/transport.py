"""What a shard is asked over: the connections to one server, or one shard's way through the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ...errors import StoreError
from .breaker import Breaker
from .connection import Connection, Exchange

__all__ = ["Connect", "Transport"]


class Transport(Protocol):
    """What :class:`~.server.Server` sends over; see :class:`~.pool.Pool`."""

    @property
    def location(self) -> str:
        """For logs and pages; without a password."""
        ...

    @property
    def server(self) -> str:
        """The address of the server that is asked now; empty before the first connection."""
        ...

    @property
    def generation(self) -> int:
        """A number that grows whenever what was read before is not to be trusted any more."""
        ...

    @property
    def connections(self) -> int:
        """How many there are now, in use or not."""
        ...

    def exchange(
        self, payload: bytes, replies: int, *, probing: bool = False, patient: bool = False, once: bool = False
    ) -> list[Any]:
        """Send commands in one write and read their replies; see :meth:`.pool.Pool.exchange`."""
        ...

    def seconds_for(self, size: int) -> float:
        """Seconds that an exchange of a payload of so many bytes may take now."""
        ...

    def fail(self, error: Exception) -> StoreError:
        """An error reply as one of ours, to be raised."""
        ...

    def end_generation(self, cause: Exception) -> None:
        """What was read before is not to be trusted any more."""
        ...

    def farewell(self, payload: bytes) -> None:
        """Send one command to the server that is being left; it may fail."""
        ...

    def resolve_anew(self) -> None:
        """Find out, off the request path, whether another server is to be asked by now."""
        ...

    def subscriber(self) -> Connection:
        """A connection for a subscriber alone."""
        ...

    def close_idle(self) -> int:
        """Close the connections that nobody has used for a while; the number of those there are then."""
        ...

    def close(self) -> None:
        """Close the connections; the transport may be used again."""
        ...


#: Makes the transport of a shard: with its breaker, and what is run on each connection before it is trusted.
Connect = Callable[[Breaker, Callable[[Exchange], None]], Transport]
