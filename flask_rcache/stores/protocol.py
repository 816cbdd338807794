"""The protocol every store obeys, and the words it is spoken in.

Owns what passes between the manager and a tier: readings, grants, and the outcomes of a begin and a fill.
``memory`` and ``redis`` implement it and pass one conformance suite. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ..model.entry import MICROSECONDS, Draft, Entry, StoredResponse, is_marker

__all__ = [
    "Begin",
    "Begun",
    "Census",
    "Counting",
    "Fill",
    "Filled",
    "Gazette",
    "Grant",
    "Listed",
    "Logged",
    "News",
    "Page",
    "Reading",
    "Store",
    "Tally",
    "Trouble",
]

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
    """One live entry in a listing, never its value.

    ``ttl`` are the seconds it is still fresh, negative in its stale window; ``age`` the seconds since the fill;
    ``size`` the bytes in the store; ``cost`` the seconds its load took; ``kind`` is ``"response"``, ``"value"`` or
    ``"variants"`` (what says which variants of a URL there are).
    """

    key: str
    ttl: float
    age: float
    size: int
    tags: tuple[str, ...]
    cost: float = 0.0
    kind: str = ""

    @classmethod
    def of(cls, key: str, entry: Entry, *, now: int, size: int) -> Listed:
        """The entry as a listing shows it at ``now`` (µs)."""
        response = isinstance(entry.content, StoredResponse)
        kind = "variants" if is_marker(entry.content) else "response" if response else "value"
        ttl = (entry.created - now) / MICROSECONDS + entry.ttl
        return cls(key, ttl, entry.age(now), size, tuple(tag for tag, _ in entry.tags), entry.cost, kind)


class Page(NamedTuple):
    """Some entries of a listing; ``cursor`` asks for the next ones and is ``None`` at the end.

    A page may hold fewer entries than were asked for, even none, and still have a next one.
    """

    entries: list[Listed]
    cursor: str | None


class Census(NamedTuple):
    """How much there is of one type: live entries (an upper bound), and the bytes they take (an estimate)."""

    entries: int
    bytes: int


class Logged(NamedTuple):
    """One invalidation as operators see it; ``at`` is in seconds since 1970, of the clock of who tells."""

    at: float
    scope: str
    names: tuple[str, ...]
    removed: int
    journalled: bool


class News(NamedTuple):
    """What a process has counted and noted since it was asked last.

    ``costs`` are the seconds spent on loading each of its costliest keys; ``log`` its invalidations, ``at`` of which is
    how many seconds ago they were.
    """

    tally: Tally
    costs: dict[str, float]
    log: list[Logged]


class Gazette(NamedTuple):
    """What the fleet has noted: seconds spent by key, recent invalidations, and loads that have run for a while."""

    costs: list[tuple[str, float]]
    log: list[Logged]
    loads: list[str]


@runtime_checkable
class Counting(Protocol):
    """A store that keeps the fleet's counters.

    ``counted`` gives what this process has counted since it was asked last, and takes back what did not arrive.
    """

    counted: tuple[Callable[[], News], Callable[[News], None]] | None


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

    def returned(self, grant: Grant) -> None:
        """The function of a load has returned: its lease is good for what is left of it, and renewed no more."""
        ...

    def release(self, grants: Sequence[Grant], *, pass_for: float = 0.0, failed: bool = False) -> None:
        """Give leases back; with ``pass_for`` seconds, leave a pass marker in their place.

        ``failed`` says that the loader failed: then each process still loads only once at a time.
        """
        ...

    def delete(self, keys: Sequence[str]) -> int:
        """Remove keys and void their leases; the number that were there."""
        ...

    def invalidate(
        self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False, soft: bool = False
    ) -> int:
        """Stamp tag members and types, or raise the floor; the live entries of the types (an upper bound).

        With ``soft`` what may be served stale is expired and not gone.
        """
        ...

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> int:
        """Remove the entries whose stored key matches the glob; their number."""
        ...

    def entries(self, type_name: str | None, pattern: str | None) -> Iterator[Listed]:
        """The live entries, in no particular order."""
        ...

    def page(self, type_name: str | None, pattern: str | None, cursor: str | None, limit: int) -> Page:
        """Some live entries, at a cost that does not grow with their number; all of them over all pages.

        Raises:
            ValueError: the cursor is none of this listing.
        """
        ...

    def inspect(self, key: str) -> Listed | None:
        """One live entry; ``None`` when there is none."""
        ...

    def census(self, types: Sequence[str]) -> dict[str, Census]:
        """How much there is of these types and those the store knows, at a cost that does not grow with it."""
        ...

    def state(self) -> dict[str, Any]:
        """The tiers as operators see them: see :meth:`CacheManager.overview`."""
        ...

    def gazette(self) -> Gazette | None:
        """What the fleet has noted; ``None`` where there is no fleet."""
        ...

    def tallies(self, types: Sequence[str]) -> Tally | None:
        """What the fleet has counted of these types and those it knows; ``None`` where there is no fleet."""
        ...

    def close(self) -> None:
        """Let go of connections and threads."""
        ...
