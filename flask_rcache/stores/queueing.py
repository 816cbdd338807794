"""The protocol of queues of writes, and the values it is spoken in; imported where something is written behind.

Owns what passes between ``engine.writes``, the consumers in ``writes``, and a store that has queues. Does no I/O.
"""

from collections.abc import Sequence
from typing import Protocol

from ..model.entry import Draft
from ..model.named_tuple import NamedTuple

__all__ = ["Behind", "DeadLetter", "QueueState", "Queued", "Queues"]


class Behind(NamedTuple):
    """A write that goes into a queue: what is cached of it, and what its writer is given."""

    key: str
    draft: Draft
    given_key: bytes
    value: bytes


class Queued(NamedTuple):
    """A write in a queue, as a consumer or an operator sees it.

    ``id`` is its place in the queue, ``write_id`` the id that it was given first: they differ once it has come back
    from the dead letters. ``deliveries`` is how often it was tried, this time included. ``given_key`` and ``value`` are
    encoded, and may be sealed (:meth:`Queues.opened`).
    """

    id: str
    write_id: str
    key: str
    type: str
    given_key: bytes
    value: bytes
    deliveries: int = 1


class DeadLetter(NamedTuple):
    """A write that was given up, with the error and the number of tries."""

    id: str
    write: Queued
    error: str
    attempts: int


class QueueState(NamedTuple):
    """A queue as operators see it.

    Args:
        name: of the queue.
        length: writes that are not applied.
        pending: those of them that a consumer has taken.
        dead: writes that were given up.
        oldest: seconds for which the first of those that are not applied has waited.
        consumer: who has the queue; empty when nobody does.
    """

    name: str
    length: int
    pending: int
    dead: int
    oldest: float
    consumer: str


class Queues(Protocol):
    """Queues of writes on one server, or one shard. Every method may raise ``StoreError``."""

    def enqueue(self, queue: str, writes: Sequence[Behind], limit: int) -> list[str]:
        """Put writes into a queue and their values into the cache, in one step; their ids, which grow for each key.

        Raises:
            StoreFullError: the queue would be longer than ``limit``, or the server evicts what it must not.
        """
        ...

    def hazard(self) -> str:
        """Why the server may lose a queue, so that nothing is put into it; empty when it keeps what it has."""
        ...

    def take(self, queue: str, token: str, most: int, *, seconds: float, after: str = "") -> list[Queued] | None:
        """Writes for a consumer, in their order; ``None`` when another consumer has the queue.

        Args:
            queue: its name.
            token: of the consumer, which has the queue for ``seconds`` from now.
            most: writes at most.
            seconds: see ``token``.
            after: of those that were delivered before, the ones after this id; empty: new ones.
        """
        ...

    def opened(self, queue: str, write: Queued) -> Queued:
        """A write with its key and value as they were given.

        Raises:
            SealError: writes are sealed, and this one is not, for this queue and entry.
        """
        ...

    def settle(self, queue: str, token: str, writes: Sequence[tuple[Queued, str, int]]) -> bool:
        """End writes: applied, or given up where a text says why, after so many tries.

        False when another consumer has the queue: then nothing was done.
        """
        ...

    def tried(self, queue: str, writes: Sequence[Queued]) -> None:
        """Count one more try of writes that a consumer had before."""
        ...

    def leave(self, queue: str, token: str) -> None:
        """Let another consumer have the queue."""
        ...

    def queue_names(self) -> list[str]:
        """The queues that something was ever put into."""
        ...

    def queue_state(self, queue: str) -> QueueState:
        """How a queue is."""
        ...

    def retried(self, queue: str) -> list[Queued]:
        """Those of the first hundred writes taken that were tried more than once, and hold up their keys."""
        ...

    def dead_letters(self, queue: str, most: int = 100) -> list[DeadLetter]:
        """The oldest of the writes that were given up."""
        ...

    def requeue(self, queue: str, ids: Sequence[str]) -> int:
        """Put dead letters back into the queue; how many."""
        ...

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        """Forget dead letters; how many."""
        ...
