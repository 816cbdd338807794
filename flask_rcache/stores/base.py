"""The protocol every store obeys, and the words it is spoken in.

Owns what passes between the manager and a tier: readings, grants, and the outcomes of a begin and a fill.
``memory`` and ``redis`` implement it and pass one conformance suite. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

from ..entry import Draft, Entry

__all__ = ["Begin", "Begun", "Counting", "Fill", "Filled", "Grant", "Listed", "Reading", "Store", "Tally", "Trouble"]

#: Amounts by counter, by type.
Tally = dict[str, dict[str, float]]

#: The stamp members to ask for, given only when the store does not know them from an earlier look.
Ask = Callable[[], Sequence[str]]


class Reading:
    """One key as a store found it.

    Args:
        entry: the entry when it is valid (rule R1), else ``None``.
        now: the store's clock at the reading, µs.
        identity: which fill lay there, for :meth:`Store.begin`; empty when nothing did.
        unfit: why there is no entry: ``"absent"``, ``"invalid"`` (an invalidation passed) or ``"garbage"``.
        size: bytes the entry takes in the store.

    ``error`` is why the shared store was not asked, when another tier stood in for it.
    """

    __slots__ = ("entry", "error", "identity", "now", "size", "unfit")

    def __init__(
        self, entry: Entry | None, now: int, identity: bytes = b"", unfit: str = "absent", size: int = 0
    ) -> None:
        self.entry = entry
        self.now = now
        self.identity = identity
        self.unfit = unfit
        self.size = size
        self.error: Exception | None = None


class Grant(NamedTuple):
    """The right to fill one key: a lease, or the pass marker that lies in its place.

    ``epoch`` and ``as_of`` were read when the load began (rule R3).
    """

    key: str
    token: str
    epoch: int
    as_of: int

    @property
    def failed(self) -> bool:
        """Whether it is the marker that a failed loader left: others load for themselves, but one a process."""
        return self.token.startswith("f")


class Begin(Enum):
    """What the store says to a reader that wants to load."""

    GRANTED = 1
    """The lease is taken: load, then fill or release."""
    FILLED = 2
    """Somebody filled the key since it was judged unfit: read it again."""
    BUSY = 3
    """Somebody else loads it."""
    PASS = 4
    """The last result could not be kept: load without waiting for anybody."""


class Begun(NamedTuple):
    """The answer to one begin; ``grant`` comes with ``GRANTED`` and ``PASS``, ``holder`` (its token) with ``BUSY``."""

    kind: Begin
    grant: Grant | None = None
    holder: str = ""


class Fill(Enum):
    """What became of a fill."""

    STORED = 1
    OVERTAKEN = 2
    """An invalidation passed during the load: the result is as old as its beginning."""
    REFUSED = 3
    """The lease was lost, voided by a ``set`` or ``delete``, or a pattern invalidation passed."""


class Filled(NamedTuple):
    """The outcome of one fill and the bytes it took."""

    outcome: Fill
    size: int = 0


class Listed(NamedTuple):
    """One live entry in a listing: ``ttl`` and ``age`` in seconds, ``size`` in bytes, never the value."""

    key: str
    ttl: float
    age: float
    size: int
    tags: tuple[str, ...]


@runtime_checkable
class Counting(Protocol):
    """A store that keeps the fleet's counters.

    ``counted`` gives what this process has counted since it was asked last, and takes back what did not arrive.
    """

    counted: tuple[Callable[[], Tally], Callable[[Tally], None]] | None


class Trouble(NamedTuple):
    """Why a store is not available now: a number that is new for each incident, and the cause."""

    incident: int
    cause: Exception


class Store(Protocol):
    """One tier. Every method may raise :class:`~flask_rcache.errors.StoreError`; the manager degrades."""

    @property
    def lease(self) -> float:
        """Seconds a grant holds without being renewed."""
        ...

    @property
    def trouble(self) -> Trouble | None:
        """The present incident, or ``None`` when the store is available."""
        ...

    @property
    def location(self) -> str:
        """Where it is, without a password."""
        ...

    def read(self, key: str, ask: Ask, hold: float = 0.0) -> Reading:
        """Look at one key.

        Args:
            key: the stored key.
            ask: gives the stamp members when this process has not seen the key.
            hold: seconds a memory tier may hold the entry, and so how old its answer may be; 0 leaves it out.
        """
        ...

    def read_many(self, keys: Sequence[str], ask: Ask, hold: float = 0.0) -> list[Reading]:
        """Look at many keys in one round trip; readings in the keys' order."""
        ...

    def begin(self, wants: Sequence[tuple[str, bytes]], token: str) -> list[Begun]:
        """Ask to load keys, each with the identity judged unfit; ``token`` names the loader."""
        ...

    def fill(self, fills: Sequence[tuple[Grant, Draft]]) -> list[Filled]:
        """Store what granted loads produced."""
        ...

    def write(self, writes: Sequence[tuple[str, Draft]]) -> list[int]:
        """Store unconditionally as of now, voiding leases; the sizes in bytes."""
        ...

    def release(self, grants: Sequence[Grant], *, pass_for: float = 0.0, failed: bool = False) -> None:
        """Give leases back; with ``pass_for`` seconds, leave a pass marker in their place.

        ``failed`` says that the loader failed: then each process still loads only once at a time.
        """
        ...

    def delete(self, keys: Sequence[str]) -> int:
        """Remove keys and void their leases; the number that were there."""
        ...

    def invalidate(self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False) -> int:
        """Stamp tag members and types, or raise the floor; the live entries of the types (an upper bound)."""
        ...

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> int:
        """Remove the entries whose stored key matches the glob; their number."""
        ...

    def entries(self, type_name: str | None, pattern: str | None) -> Iterator[Listed]:
        """The live entries, in no particular order."""
        ...

    def tallies(self, types: Sequence[str]) -> Tally | None:
        """What the fleet has counted of these types and those it knows; ``None`` where there is no fleet."""
        ...

    def close(self) -> None:
        """Let go of connections and threads."""
        ...
