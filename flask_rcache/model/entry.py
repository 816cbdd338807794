"""What is stored, and the questions asked of it: pure, no clock, no I/O.

Owns :class:`Draft` (what a load produced), :class:`Entry` (a draft with its times, as a store gives it back) and the
two questions asked of an entry: is it *valid* (no invalidation since its load began, rule R1) and is it *fresh* (not
expired). Times are whole microseconds of the **store's** clock, on a cluster of the clock of the entry's own shard;
durations are seconds.
"""

# Annotations are types here, not their names: a named tuple compiles each name, which takes longer than all else.

from collections.abc import Mapping
from enum import Enum
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Protocol

from .moment import A, AsOf, Epoch, Moment, Parts, least
from .named_tuple import NamedTuple

__all__ = [
    "MICROSECONDS",
    "Content",
    "Draft",
    "Entry",
    "Freshness",
    "Moment",
    "StoredResponse",
    "VariantMarker",
    "is_valid",
]

MICROSECONDS: Final = 1_000_000


class StoredResponse(NamedTuple):
    """A whole HTTP response.

    Args:
        status: the status line without the protocol, ``"200 OK"``.
        headers: the header lines in order; repeated lines stay repeated.
        body: the body as it is sent, after any content coding the view applied.
    """

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class VariantMarker(NamedTuple):
    """What lies under a URL's own key when its answers vary: the way to the variants, and no answer itself.

    Args:
        fields: the request fields that answers depend on, sorted.
        ids: the variants there are, as hexadecimal ids of one length, the last stored one last.
        until: for each of them, until when it is kept (seconds of the store's clock).
    """

    fields: tuple[str, ...]
    ids: tuple[str, ...] = ()
    until: tuple[int, ...] = ()


#: What an entry holds: an encoded value (see ``codec.encode_value``), a response, or the way to a URL's variants.
Content = bytes | StoredResponse | VariantMarker


class Draft(NamedTuple):
    """What a load produced, before a store has given it its times.

    Args:
        content: the encoded value, the response or the marker.
        ttl: seconds it is fresh, counted from the fill.
        stale_while_revalidate: seconds after that in which it may be served while one refresh runs.
        stale_if_error: seconds after the ttl in which it may be served when the loader fails.
        tags: tags whose ``as_of`` is the load's own.
        inherited: tags of the cached values that the load read, each with its own ``as_of``.
        cost: seconds the load took.
        origin: ``module:qualname`` of the view that made it; of a value the version it was written with, if any.
        place: the endpoint and the URL path of the request that a view made it for, with a blank between them.
        parts: on one shard of a cluster, what the entry carries for the others.
        fields: of a view's answer, the request fields that it depends on. No request may have it that has one of those
            that begin with ``!``; the others have selected its key.
        revalidate: seconds after the ttl in which a response may be revalidated. No part of the entry: the store keeps
            it for so long.
    """

    content: Content
    ttl: float
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    tags: tuple[str, ...] = ()
    inherited: tuple[tuple[str, AsOf], ...] = ()
    cost: float = 0.0
    origin: str = ""
    parts: Parts | None = None
    fields: tuple[str, ...] = ()
    revalidate: float = 0.0
    place: str = ""

    def shortened(self, seconds: float) -> "Draft":
        """The same for ``seconds`` at most, and never stale."""
        ttl = min(self.ttl, seconds)
        return self._replace(
            ttl=ttl,
            stale_while_revalidate=0.0,
            stale_if_error=0.0,
            revalidate=max(0.0, min(self.ttl + self.revalidate, seconds) - ttl),
        )

    @property
    def keep(self) -> float:
        """Seconds the store keeps it: the ttl and the longest of the windows after it."""
        return self.ttl + max(self.stale_while_revalidate, self.stale_if_error, self.revalidate)

    def tags_as_of(self, as_of: A) -> tuple[tuple[str, A], ...]:
        """Every tag once, with the reading from which it is known to reflect the source (µs).

        Args:
            as_of: the load's own; on a cluster one reading of each shard, as those of the inherited tags are.

        >>> Draft(b"", 1.0, tags=("a",), inherited=(("a", 5), ("b", 9))).tags_as_of(7)
        (('a', 5), ('b', 9))
        """
        if not self.inherited:
            return tuple(zip(self.tags, repeat(as_of)))
        found: dict[str, Any] = dict.fromkeys(self.tags, as_of)
        for tag, reading in self.inherited:
            found[tag] = least(reading, found[tag]) if tag in found else reading
        return tuple(found.items())

    def on_shard(self, shard: int, moment: Moment) -> "Draft":
        """The same for one shard of a cluster: readings of its own clock, and the others' as what it carries.

        Args:
            shard: its number.
            moment: the load's, of all shards.
        """
        own = moment.vector
        assert own is not None
        tags, inherited, clocks = [], [], {}
        for tag, as_of in self.tags_as_of(own.clocks):
            clocks[tag] = as_of
            if as_of == own.clocks:
                tags.append(tag)
            else:
                inherited.append((tag, as_of[shard]))
        return self._replace(tags=tuple(tags), inherited=tuple(inherited), parts=Parts(own.epochs, clocks))


class Freshness(Enum):
    """How old a valid entry is, against its own ttl and windows."""

    FRESH = "fresh"
    STALE = "stale"
    """Past its ttl, inside ``stale_while_revalidate``: may be served while one refresh runs."""
    ERROR_ONLY = "error-only"
    """Past that, inside ``stale_if_error``: may be served only when the loader fails."""
    EXPIRED = "expired"


class Entry:
    """One stored entry with its times in the store's clock (µs). Nobody changes it.

    Args:
        content: what is stored.
        epoch: the random name of the stamp set that was there at the fill.
        as_of: the clock reading up to which the load is known to reflect the source.
        created: the clock reading of the fill, from which ``ttl`` and ``Age`` count; the three name the fill.
        ttl: see :class:`Draft`, as for what follows.
        stale_while_revalidate: seconds.
        stale_if_error: seconds.
        tags: each with the clock reading up to which it is known to reflect the source.
        cost: seconds.
        origin: of the view.
        place: of the request.
        parts: on a cluster, what it carries for loads on other shards.
        fields: that it depends on.
    """

    __slots__ = (
        "as_of",
        "content",
        "cost",
        "created",
        "epoch",
        "fields",
        "origin",
        "parts",
        "place",
        "stale_if_error",
        "stale_while_revalidate",
        "tags",
        "ttl",
    )

    def __init__(
        self,
        content: Content,
        epoch: int,
        as_of: int,
        created: int,
        ttl: float,
        stale_while_revalidate: float = 0.0,
        stale_if_error: float = 0.0,
        tags: tuple[tuple[str, int], ...] = (),
        cost: float = 0.0,
        origin: str = "",
        parts: Parts | None = None,
        fields: tuple[str, ...] = (),
        place: str = "",
    ) -> None:
        self.content = content
        self.epoch = epoch
        self.as_of = as_of
        self.created = created
        self.ttl = ttl
        self.stale_while_revalidate = stale_while_revalidate
        self.stale_if_error = stale_if_error
        self.tags = tags
        self.cost = cost
        self.origin = origin
        self.parts = parts
        self.fields = fields
        self.place = place

    def __eq__(self, other: object) -> bool:
        return type(other) is Entry and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # as of what is equal by its parts

    @classmethod
    def of(cls, draft: Draft, *, epoch: int, as_of: int, created: int) -> "Entry":
        """The entry that a store makes of ``draft``: its own tags take the load's ``as_of``."""
        return cls(  # in the order of the arguments: half of what it takes with their names
            draft.content,
            epoch,
            as_of,
            created,
            draft.ttl,
            draft.stale_while_revalidate,
            draft.stale_if_error,
            draft.tags_as_of(as_of),
            draft.cost,
            draft.origin,
            draft.parts,
            draft.fields,
            draft.place,
        )

    @classmethod
    def shared(cls, draft: Draft, moment: Moment | None) -> "Entry":
        """What is shared within the process of a load, whether a store has taken it or not.

        Args:
            draft: what the load produced.
            moment: the load's; ``None`` when it had none.
        """
        if moment is None:
            return cls.of(draft, epoch=0, as_of=0, created=0)
        if moment.vector is None:
            return cls.of(draft, epoch=moment.epoch, as_of=moment.clock, created=moment.clock)
        clock = max(moment.vector.clocks)  # all of them are near the time
        parts = Parts(moment.vector.epochs, dict(draft.tags_as_of(moment.vector.clocks)))
        tags = tuple(parts.clocks)
        return cls.of(draft._replace(tags=tags, inherited=(), parts=parts), epoch=0, as_of=clock, created=clock)

    @property
    def read(self) -> tuple[Epoch, tuple[tuple[str, AsOf], ...]]:
        """What a load depends on that has read it: its tags with their ``as_of``, and which stamp sets that is from."""
        return (self.epoch, self.tags) if self.parts is None else self.parts.read(self.tags)

    def freshness(self, now: int) -> Freshness:
        """How old it is at ``now``, a reading of the store's clock in µs."""
        past_ttl = (now - self.created) / MICROSECONDS - self.ttl
        if past_ttl < 0:
            return Freshness.FRESH
        if past_ttl < self.stale_while_revalidate:
            return Freshness.STALE
        if past_ttl < self.stale_if_error:
            return Freshness.ERROR_ONLY
        return Freshness.EXPIRED

    def age(self, now: int) -> float:
        """Seconds since the fill at ``now``, never negative."""
        return max(0, now - self.created) / MICROSECONDS


if TYPE_CHECKING:

    class Tagged(Protocol):
        """What is valid or not: an entry, or what is to become one."""

        epoch: int
        tags: tuple[tuple[str, int], ...]


def is_valid(entry: "Tagged", epoch: float, floor: float, forgotten: float, rows: Mapping[str, float | None]) -> bool:
    """Rule R1: whether no invalidation has passed since the load of an entry began. Every store asks here.

    Args:
        entry: the entry.
        epoch: the name of the stamp set, read no earlier than the entry was, as all that follows.
        floor: what was loaded before it is invalid, whatever its tags (µs).
        forgotten: the latest stamp of a row that was dropped (µs).
        rows: the stamp of each tag of the entry that has a row.

    >>> entry = Entry(b"", epoch=1, as_of=7, created=8, ttl=60.0, tags=(("a", 7),))
    >>> is_valid(entry, 1, 0, 5, {}), is_valid(entry, 1, 0, 8, {}), is_valid(entry, 1, 0, 8, {"a": 7})
    (True, False, True)
    """
    if entry.epoch != epoch:
        return False
    for tag, as_of in entry.tags:
        row = rows.get(tag)
        if as_of < floor or as_of < (forgotten if row is None else row):
            return False
    return True
