"""The two protocols every store obeys, and the values that pass through them.

Owns what passes between the engine and a tier. :class:`Store` is the hot half: looking up, loading, invalidating.
:class:`Catalogue` is the operators' half: listings, counts, state. Every store has both, and passes one conformance
suite. Nothing here does I/O.
"""

# Annotations are types here, not their names: a named tuple compiles each name, which takes longer than all else.

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..errors import StoreUnavailableError
from ..model.entry import MICROSECONDS, Draft, Entry, Moment, StoredResponse, VariantMarker
from ..model.named_tuple import NamedTuple
from .lru import Checked

if TYPE_CHECKING:
    from .queueing import Queues

__all__ = [
    "Activity",
    "Begin",
    "Begun",
    "Catalogue",
    "Counted",
    "Counts",
    "CountsSource",
    "Filled",
    "Incident",
    "InvalidationRecord",
    "Lease",
    "Listed",
    "LoadedResult",
    "Lookup",
    "Outcome",
    "Page",
    "PartialError",
    "Seized",
    "Size",
    "Store",
    "Want",
]

# --- What is looked up


class Lookup:
    """One key as a store found it.

    Args:
        entry: the entry when it is valid (rule R1), expired or not; else ``None``.
        now: the store's clock at the lookup, µs.
        identity: which fill lay there, for :meth:`Store.begin`; empty when nothing did.
        reason: why there is no entry: ``"absent"``, ``"invalid"`` (an invalidation passed), ``"garbage"``, or
            ``"not-authentic"`` (entries are sealed, and this is none that this app has sealed for this key).
        size: bytes the entry takes in the store.

    ``error`` is why the shared store was not asked, when another tier stood in for it.
    """

    __slots__ = ("entry", "error", "identity", "now", "reason", "size")

    def __init__(
        self, entry: Entry | None, now: int, identity: bytes = b"", reason: str = "absent", size: int = 0
    ) -> None:
        self.entry = entry
        self.now = now
        self.identity = identity
        self.reason = reason
        self.size = size
        self.error: Exception | None = None


# --- Loading


class Want(NamedTuple):
    """A key that somebody wants to load.

    Args:
        key: the stored key.
        identity: of the entry just found unusable; empty when nothing lay there.
        tags: the tags that are known before the load (rule R4.3: whether another's load can still be stored).
    """

    key: str
    identity: bytes
    tags: tuple[str, ...]


class Lease(NamedTuple):
    """The right to fill one key: a lease, or the pass marker that lies in its place."""

    key: str
    token: str

    @property
    def after_failure(self) -> bool:
        """Whether it is the marker that a failed loader left: others load for themselves, but one a process."""
        return self.token.startswith("f")


class Begin(Enum):
    """What the store answers to a reader that wants to load."""

    GRANTED = 1
    """The lease is taken: load, then fill or release."""
    FILLED = 2
    """Somebody filled the key since it was found unusable: look again."""
    BUSY = 3
    """Somebody else loads it, and their result can be stored."""
    PASS = 4
    """The last result could not be stored: load without waiting for anybody."""
    UNSTORABLE = 5
    """Nobody loads it, and what this reader loads could not be stored: its moment is before an invalidation."""


class Begun(NamedTuple):
    """The answer to one begin; ``lease`` comes with ``GRANTED`` and ``PASS``, ``holder`` (its token) with ``BUSY``."""

    kind: Begin
    lease: Lease | None = None
    holder: str = ""


class LoadedResult(NamedTuple):
    """One fill: the lease, what was loaded, and the moment up to which it is known to reflect the source."""

    lease: Lease
    draft: Draft
    moment: Moment


class Outcome(Enum):
    """What became of a fill or a write."""

    STORED = 1
    OVERTAKEN = 2
    """An invalidation passed since its moment: the result is as old as that."""
    REFUSED = 3
    """The lease was lost or voided, a pattern was invalidated, or the moment is of another epoch or generation."""
    CONFLICT = 4
    """A conditional write found another entry than the one expected."""
    SENT = 5
    """It is large, and is being sent after the answer: what becomes of it is not known yet."""


class Filled(NamedTuple):
    """The outcome of one fill or write, and the bytes it took."""

    outcome: Outcome
    size: int = 0


class Seized(NamedTuple):
    """A key that was taken over.

    ``moment`` is the fill's (``None``: there can be none), ``origin`` that of the entry that was there.
    """

    moment: Moment | None
    origin: str


class Incident(NamedTuple):
    """Why a store is not available now: a number new for each incident, the cause, and whether it was logged.

    ``since`` is when it began, in seconds since 1970.
    """

    number: int
    cause: Exception
    is_logged: bool = False
    since: float = 0.0


class PartialError(StoreUnavailableError):
    """Of the shards of a cluster some are away.

    Args:
        message: why.
        answers: those of the others; ``None`` stands for what was asked of a shard that is away.
    """

    def __init__(self, message: str, answers: Sequence[Any]) -> None:
        super().__init__(message)
        self.answers: Final = list(answers)


class Store(Protocol):
    """One tier: the hot half. Every method may raise :class:`~flask_rcache.errors.StoreError`; the manager degrades."""

    @property
    def catalogue(self) -> "Catalogue":
        """The operators' half."""
        ...

    @property
    def lease_seconds(self) -> float:
        """Seconds a lease holds without being renewed."""
        ...

    @property
    def incident(self) -> Incident | None:
        """The present incident, or ``None`` when the store is available."""
        ...

    @property
    def moment(self) -> Moment | None:
        """The latest clock reading heard, of the present epoch and generation; ``None`` when none was (rule R3)."""
        ...

    def hear(self) -> Moment | None:
        """:attr:`moment`, asking the store for one when none was heard; ``None`` when it is away. Raises nothing."""
        ...

    def recall(self, key: str, l1_ttl: float) -> Lookup | None:
        """What is known of a key without any I/O; ``None`` when that is nothing."""
        ...

    def checked(self, key: str, l1_ttl: float) -> Checked | None:
        """What lies in memory under a key, to be served again without :meth:`recall` for as long as nothing changes.

        It counts once a :meth:`recall` with the same arguments, made *after* this, has found that very entry valid.
        ``None`` where there is nothing, or where nobody knows whether something changes.
        """
        ...

    def read(self, key: str, tags: tuple[str, ...], l1_ttl: float = 0.0) -> Lookup:
        """Look up one key, in one round trip.

        Args:
            key: the stored key.
            tags: the tags to ask for when this process has not seen the key.
            l1_ttl: seconds a memory tier may hold the entry, and so how old its answer may be; 0 leaves it out.
        """
        ...

    def read_many(self, keys: Sequence[str], tags: tuple[str, ...], l1_ttl: float = 0.0) -> list[Lookup]:
        """Look up many keys in one round trip; in the keys' order."""
        ...

    def begin(self, wants: Sequence[Want], token: str, moment: Moment | None) -> list[Begun]:
        """Ask to load keys.

        A lease whose holder can no longer be stored (an invalidation of one of the known tags passed its moment, or it
        is of another epoch) is taken over by a reader that can be, once (rule R4.3).

        Args:
            wants: the keys.
            token: names the loader; ``"l"`` and at most 40 hexadecimal digits.
            moment: the loader's (rule R3); ``None``: what it loads is not stored.
        """
        ...

    def fill(self, results: Sequence[LoadedResult]) -> list[Filled]:
        """Store what leased loads produced (rules R1.3, R1.4, R4.2, R4.4); every lease ends."""
        ...

    def write(
        self, writes: Sequence[tuple[str, Draft]], moment: Moment | None, expected: Sequence[bytes] | None = None
    ) -> list[Filled]:
        """Store values without a lease, and void the leases of their keys (``set``, ``add``, ``incr``; rule R4.2).

        Args:
            writes: stored keys and what to store.
            moment: the writer's ``as_of`` for the drafts' own tags; ``None`` takes the store's clock at the write.
            expected: for each key the identity that must lie there (``b""``: nothing); else ``CONFLICT``.
        """
        ...

    def returned(self, lease: Lease) -> None:
        """The function of a load has returned: its lease is good for what is left of it, and renewed no more."""
        ...

    def release(self, leases: Sequence[Lease], *, pass_for: float = 0.0, failed: bool = False) -> None:
        """Give leases back; with ``pass_for`` seconds, leave a pass marker in their place.

        ``failed`` says that the loader failed: then each process still loads only once at a time.
        """
        ...

    def delete(self, keys: Sequence[str], *, is_stamped: bool = True) -> int:
        """Remove keys, void their leases and stamp the keys themselves; the number that were there.

        Without a stamp it does what a write that has not arrived would have done to the entries that were there: later
        writes of the same request are not overtaken by it.
        """
        ...

    def invalidate(self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False) -> int:
        """Stamp tags and types, or raise the floor; the live entries of the types (an upper bound)."""
        ...

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> int:
        """Raise the barrier, then remove the entries whose stored key matches the glob; their number."""
        ...

    def stamp_ahead(self, tags: Sequence[str], token: str) -> None:
        """Have nothing stored or valid that depends on tags, while a commit is under way that changes what they mean.

        The stamps lie a few seconds ahead of the clock, and are renewed until :meth:`settle` or :meth:`withdraw`; when
        the process dies, they pass by themselves. They are no readings of the clock (rule R3.1).

        Args:
            tags: what the commit invalidates.
            token: names the commit; alphanumeric.
        """
        ...

    def settle(self, tags: Sequence[str], token: str) -> None:
        """The commit is over, or nobody knows: stamp the tags. What other commits have set ahead of the clock stays.

        Args:
            tags: what the commit invalidates, whether or not it was set ahead.
            token: of the commit.
        """
        ...

    def withdraw(self, tags: Sequence[str], token: str) -> None:
        """Nothing was committed: the tags are stamped as if :meth:`stamp_ahead` had not been called."""

    def seize(self, key: str, token: str) -> "Seized":
        """Take a key over to write it through (rule R4.2): it is removed and stamped, and nobody else fills it.

        Args:
            key: the stored key.
            token: names the writer; ``"t"`` and at most 40 hexadecimal digits. A fill with it ends this.
        """
        ...

    @property
    def queues(self) -> Sequence["Queues"]:
        """The queues of writes of each server or shard; none where this process is all there is."""
        ...

    def queues_for(self, key: str) -> "Queues":
        """Those that a key's writes go to."""
        ...

    def close(self) -> None:
        """Let go of connections and threads; the store may be used again."""
        ...


# --- What operators ask

#: Amounts by counter, by type.
Counts = dict[str, dict[str, float]]


class Listed(NamedTuple):
    """One live entry in a listing, never its value.

    ``ttl`` are the seconds it is still fresh, negative in its stale window; ``age`` the seconds since the fill;
    ``size`` the bytes in the store; ``cost`` the seconds its load took; ``kind`` is ``"response"``, ``"value"`` or
    ``"variants"`` (what says which variants of a URL there are). ``origin`` is the view that stored it, ``endpoint``
    and ``path`` are those of the request that it was stored for; a value has none.
    """

    key: str
    ttl: float
    age: float
    size: int
    tags: tuple[str, ...]
    cost: float = 0.0
    kind: str = ""
    origin: str = ""
    endpoint: str = ""
    path: str = ""

    @classmethod
    def of(cls, key: str, entry: Entry, *, now: int, size: int) -> "Listed":
        """The entry as a listing shows it at ``now`` (µs)."""
        content = entry.content
        kind = "value"
        if isinstance(content, StoredResponse):
            kind = "response"
        elif isinstance(content, VariantMarker):
            kind = "variants"
        ttl = (entry.created - now) / MICROSECONDS + entry.ttl
        tags = tuple(tag for tag, _ in entry.tags)
        endpoint, _, path = entry.place.partition(" ")
        return cls(key, ttl, entry.age(now), size, tags, entry.cost, kind, entry.origin, endpoint, path)


class Page(NamedTuple):
    """Some entries of a listing; ``cursor`` asks for the next ones and is ``None`` at the end.

    A page may hold fewer entries than were asked for, even none, and still have a next one.
    """

    entries: list[Listed]
    cursor: str | None


class Size(NamedTuple):
    """How much there is of one type: live entries (an upper bound), and the bytes they take (an estimate)."""

    entries: int
    bytes: int


class InvalidationRecord(NamedTuple):
    """One invalidation as operators see it; ``at`` is in seconds since 1970, of the clock of who reports it."""

    at: float
    scope: str
    names: tuple[str, ...]
    removed: int
    journalled: bool


class StatementCounts(NamedTuple):
    """What was counted of one cached statement of a database.

    ``tags`` are those it depends on, ``invalidated_by`` the last one by which it was invalidated, ``rows`` those of its
    last result; ``counts`` are added up over processes, and of the others the last is kept.
    """

    database: str
    statement: str
    rows: int
    tags: tuple[str, ...]
    not_stored: str | None
    invalidated_by: str | None
    counts: dict[str, float]


class Counted(NamedTuple):
    """What a process has counted and recorded since it was asked last.

    ``costs`` are the seconds spent on loading each of its costliest keys; ``log`` its invalidations, ``at`` of which is
    how many seconds ago they were; ``statements`` the cached statements of databases, by a name of each.
    """

    counts: Counts
    costs: dict[str, float]
    log: list[InvalidationRecord]
    statements: dict[str, StatementCounts]


class CountsSource(Protocol):
    """What a store that keeps the counters of all processes takes this process's from."""

    def take(self) -> Counted:
        """What is new since the last take."""
        ...

    def give_back(self, counted: Counted) -> None:
        """What was taken did not arrive: it is new again."""
        ...


class Activity(NamedTuple):
    """What all processes recorded.

    Seconds by key, recent invalidations, loads that have run for a while, and statements of databases.
    """

    costs: list[tuple[str, float]]
    log: list[InvalidationRecord]
    loads: list[str]
    statements: list[StatementCounts]


class Catalogue(Protocol):
    """One tier: the operators' half. Nothing here changes anything, or costs more because there are more entries."""

    @property
    def location(self) -> str:
        """Where it is, without a password."""
        ...

    @property
    def missing(self) -> Sequence[str]:
        """What is away, and so missing in the answers: addresses of servers, on a cluster each with its shards."""
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

    def sizes(self, types: Sequence[str]) -> dict[str, Size]:
        """How much there is of these types and those the store knows."""
        ...

    def state(self) -> dict[str, Any]:
        """The tiers as operators see them: see :meth:`CacheManager.overview`."""
        ...

    def activity(self) -> Activity | None:
        """What all processes recorded; ``None`` where this process is all there is."""
        ...

    def counts(self, types: Sequence[str]) -> Counts | None:
        """What all processes counted of these types and those it knows; ``None`` where this process is all there is."""
        ...

    def count_from(self, source: CountsSource) -> None:
        """Take this process's counts from there, once a second and at the end of the process."""
        ...
