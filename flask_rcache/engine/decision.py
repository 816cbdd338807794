"""What an entry that was found is good for: the one place where freshness is decided.

Owns :func:`decide`, which every reader of a valid entry asks, and the questions of those who wait for a load or whose
loader has failed. Pure: the time and the random number are given.
"""

from __future__ import annotations

import math
from enum import Enum

from ..model.entry import MICROSECONDS, Entry
from ..stores.protocol import Lookup

__all__ = ["Decision", "decide", "fallback", "fresh", "is_never_fresh"]


class Decision(Enum):
    """What a reader does with what it found."""

    HIT = "hit"
    REFRESH = "refresh"
    """Serve it; it is refreshed in the background, before it expires."""
    STALE = "stale"
    """Serve it although it has expired; it is refreshed in the background."""
    LOAD = "load"


def decide(entry: Entry | None, now: int, *, inside_load: bool, beta: float, draw: float) -> Decision:
    """What a valid entry is good for at a time: the one place where freshness is decided.

    Args:
        entry: the entry, which is valid (rule R1); ``None`` when there is none.
        now: the store's clock, µs.
        inside_load: whether a load would use it: nothing stale then, as the load's result could not be stored (R3.4).
        beta: XFetch's; 0 for no early refresh.
        draw: a random number above 0, up to 1.

    Source: Vattani et al., "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015 (XFetch).

    >>> entry = Entry(b"", epoch=1, as_of=0, created=0, ttl=10.0, stale_while_revalidate=5.0)
    >>> [decide(entry, second * 1_000_000, inside_load=False, beta=0, draw=1).value for second in (1, 12, 20)]
    ['hit', 'stale', 'load']
    """
    if entry is None:
        return Decision.LOAD
    past_ttl = (now - entry.created) / MICROSECONDS - entry.ttl
    if past_ttl < 0:
        if beta and entry.age(now) - entry.cost * beta * math.log(max(draw, 1e-12)) >= entry.ttl:
            return Decision.REFRESH
        return Decision.HIT
    return Decision.STALE if past_ttl < entry.stale_while_revalidate and not inside_load else Decision.LOAD


def fresh(lookup: Lookup | None) -> Entry | None:
    """The entry of a lookup when it is fresh."""
    entry = lookup.entry if lookup is not None else None
    if entry is None or lookup is None or (lookup.now - entry.created) / MICROSECONDS >= entry.ttl:
        return None
    return entry


def is_never_fresh(lookup: Lookup | None) -> bool:
    """Whether the entry of a lookup is good only once it is confirmed, by each reader for itself (``no-cache``)."""
    entry = lookup.entry if lookup is not None else None
    return entry is not None and entry.ttl <= 0.0


def fallback(lookup: Lookup | None) -> Entry | None:
    """The entry of a lookup that may be served when the loader fails (``stale_if_error``)."""
    entry = lookup.entry if lookup is not None else None
    if entry is None or lookup is None:
        return None
    return entry if entry.age(lookup.now) - entry.ttl < entry.stale_if_error else None
