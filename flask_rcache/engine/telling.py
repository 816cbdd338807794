"""Telling: what is counted, announced and handed up when a look finds something, or does not.

Owns the figures, signals and spans of each look, for values and responses alike, and what a load inherits from what it
read. What is served is decided in ``values``, ``fetching`` and ``views``.
"""

from __future__ import annotations

import time
from typing import Self

from .. import signals as events
from ..stores.protocol import Reading
from . import tracing
from .admission import Served
from .policies import Policy
from .single_flight import current_load

__all__ = ["Miss", "Telling", "is_expired"]


class Telling:
    """The part of a cache manager that says what it found."""

    def bypassed(self, policy: Policy) -> None:
        """Count a call that goes past the cache."""
        policy.count("bypasses")
        if tracing.wanted:
            tracing.note("bypass")

    def hit(self, policy: Policy, stored: str, reading: Reading, since: int = 0, *, stale: bool = False) -> None:
        """Count a served entry, tell who listens, and hand its tags up to the load that read it.

        Args:
            policy: the policy of the call.
            stored: the stored key.
            reading: what was found.
            since: this process's monotonic clock (ns) before the look; 0 when it was not read.
            stale: whether it has expired.
        """
        entry = reading.entry
        assert entry is not None
        if stale or not since:
            policy.count("stale" if stale else "hits")
        else:
            policy.hit((time.monotonic_ns() - since) / 1e9)
        if tracing.wanted:
            tracing.note("stale" if stale else "hit")
        signal = events.cache_stale if stale else events.cache_hit
        if signal.receivers:
            events.emit(signal, self, events.Hit(policy.name, stored, entry.age(reading.now), reading.size))
        load = current_load()
        if load is not None:
            load.hand_up(entry, stale=stale)

    def missed(self, policy: Policy, stored: str, reading: Reading | None, *, settled: bool = True) -> None:
        """Count a miss and tell who listens.

        Args:
            policy: the policy of the call.
            stored: the stored key.
            reading: what was found, or ``None`` when the store was away.
            settled: whether it will have been a miss; else the caller counts what becomes of it (:class:`Miss`).
        """
        if settled or not is_expired(reading):
            policy.count("misses")
        if tracing.wanted:
            tracing.note("miss")
        reason = "unavailable" if reading is None else reading.unfit or "expired"
        if reason == "garbage":
            policy.count("garbage")
        if events.cache_miss.receivers:
            events.emit(events.cache_miss, self, events.Miss(policy.name, stored, reason))
        load = current_load()
        if load is not None:  # that it was not there is an answer too, which an invalidation of the type overtakes
            load.tags[policy.member] = None

    def shared(self, policy: Policy, served: Served) -> None:
        """Another's result, or a stale entry, is served: count it, and hand its tags up to the load that reads it."""
        if served.stale:
            policy.count("stale")
        load = current_load()
        if load is not None:
            load.hand_up(served.entry, stale=served.stale)


class Miss:
    """A look that found something expired: counted once, at its end, as a miss unless that was served after all."""

    __slots__ = ("_policy", "stale")

    def __init__(self, policy: Policy, reading: Reading | None) -> None:
        self._policy = policy if is_expired(reading) else None
        #: Whether it was served after all, and so has been counted as stale.
        self.stale = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._policy is not None and not self.stale:
            self._policy.count("misses")


def is_expired(reading: Reading | None) -> bool:
    """Whether a reading that has nothing to serve now has an entry all the same."""
    return reading is not None and reading.entry is not None
