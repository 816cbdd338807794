"""What is stored, and the verdicts over it: pure, no clock, no I/O.

Owns :class:`Draft` (what a load produced), :class:`Entry` (a draft with its times, as a store gives
it back), :class:`Stamps` (what a store knows of invalidations) and the two questions asked of an entry:
is it *valid* (no invalidation since its load began) and is it *fresh* (not expired). Times are whole
microseconds of the **store's** clock; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

__all__ = ["Content", "Draft", "Entry", "Freshness", "Stamps", "StoredResponse", "is_marker"]

MICROSECONDS: Final = 1_000_000


@dataclass(slots=True)
class StoredResponse:
    """A whole HTTP response; hits share it, so nobody changes it.

    Args:
        status: the status line without the protocol, ``"200 OK"``.
        headers: the header lines in order; repeated lines stay repeated.
        body: the body as it is sent, after any content coding the view applied.
    """

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


#: What an entry holds: an encoded value (see ``codec.encode_value``) or a response.
Content = bytes | StoredResponse


def is_marker(content: Content) -> bool:
    """Whether it is not an answer but says which request fields select one (``Vary``): it has no status."""
    return isinstance(content, StoredResponse) and not content.status


@dataclass(frozen=True, slots=True)
class Draft:
    """What a load produced, before a store has given it its times.

    Args:
        content: the encoded value or the response.
        ttl: seconds it is fresh, counted from the fill.
        stale_while_revalidate: seconds after that in which it may be served while one refresh runs.
        stale_if_error: seconds after the ttl in which it may be served when the loader fails.
        tags: stamp members whose ``as_of`` is the beginning of this very load.
        handed: stamp members handed up by cached values read during the load, with their own ``as_of``.
        cost: seconds the load took.
    """

    content: Content
    ttl: float
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    tags: tuple[str, ...] = ()
    handed: tuple[tuple[str, int], ...] = ()
    cost: float = 0.0

    def shortened(self, seconds: float) -> Draft:
        """The same for ``seconds`` at most, and never stale."""
        return replace(self, ttl=min(self.ttl, seconds), stale_while_revalidate=0.0, stale_if_error=0.0)

    @property
    def keep(self) -> float:
        """Seconds the store keeps it: the ttl and the longer stale window."""
        return self.ttl + max(self.stale_while_revalidate, self.stale_if_error)


@dataclass(frozen=True, slots=True)
class Stamps:
    """What a store says of invalidations, as read for one lookup.

    Args:
        epoch: the random name of the present stamp set; 0 when there is none.
        floor: entries whose load began before it are invalid, whatever their tags.
        by_tag: the stamp of each tag asked for that has one.
    """

    epoch: int
    floor: int
    by_tag: Mapping[str, int]


class Freshness(Enum):
    """How old a valid entry is, against its own ttl and windows."""

    FRESH = "fresh"
    STALE = "stale"
    """Past its ttl, inside ``stale_while_revalidate``: may be served while one refresh runs."""
    ERROR_ONLY = "error-only"
    """Past that, inside ``stale_if_error``: may be served only when the loader fails."""
    EXPIRED = "expired"


@dataclass(slots=True)
class Entry:
    """One stored entry with its times in the store's clock (µs). Nobody changes it.

    Not frozen: a frozen one takes five times as long to make, and a hit makes one.
    """

    content: Content
    epoch: int
    as_of: int
    """The clock reading when the load of this entry began; with ``epoch`` it identifies the fill."""
    created: int
    """The clock reading of the fill; ``ttl`` and ``Age`` count from here."""
    ttl: float
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    tags: tuple[tuple[str, int], ...] = field(default=())
    """Each stamp member with the clock reading from which its truth is known."""
    cost: float = 0.0

    @classmethod
    def of(cls, draft: Draft, *, epoch: int, as_of: int, created: int) -> Entry:
        """The entry a store makes of ``draft``: its own tags take the load's ``as_of``."""
        return cls(
            content=draft.content,
            epoch=epoch,
            as_of=as_of,
            created=created,
            ttl=draft.ttl,
            stale_while_revalidate=draft.stale_while_revalidate,
            stale_if_error=draft.stale_if_error,
            tags=tuple((tag, as_of) for tag in draft.tags) + draft.handed,
            cost=draft.cost,
        )

    def valid(self, stamps: Stamps) -> bool:
        """Whether no invalidation has passed since the load began (rule R1).

        Args:
            stamps: read no earlier than this entry was, and asked for every tag of it.
        """
        if self.epoch != stamps.epoch or self.as_of < stamps.floor:
            return False
        by_tag, floor = stamps.by_tag, stamps.floor
        for tag, as_of in self.tags:
            if as_of < floor or as_of < by_tag.get(tag, 0):
                return False
        return True

    def softened(self, stamps: Stamps, soft: Mapping[str, int], now: int) -> Entry | None:
        """This entry as it is after soft invalidations: expired by the first, but not gone.

        Args:
            stamps: as for :meth:`valid`, which has said no.
            soft: of each tag whose stamp is soft, the stamp before it that was not (0: none).
            now: the reading of the store's clock for which it is asked. Stamps never go back, as that clock may: what
                they meet is stale at once all the same.

        Returns:
            ``None`` when it is invalid all the same, or may never be served stale.
        """
        if self.epoch != stamps.epoch or self.as_of < stamps.floor:
            return None
        if not (self.stale_while_revalidate or self.stale_if_error):
            return None
        expired = min(self.created + int(self.ttl * MICROSECONDS), now)
        for tag, as_of in self.tags:
            stamp = stamps.by_tag.get(tag, 0)
            if as_of < stamps.floor:
                return None
            if as_of < stamp:
                hard = soft.get(tag)
                if hard is None or as_of < hard:
                    return None
                expired = min(expired, stamp)
        # Below 0 only where the clock stands before its creation.
        return replace(self, ttl=max(min(0, now - self.created), expired - self.created) / MICROSECONDS)

    def freshness(self, now: int) -> Freshness:
        """The verdict at ``now``, a reading of the store's clock in µs."""
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
