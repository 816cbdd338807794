"""Telling: what is counted, announced and handed up when a look finds something, or does not.

Owns the figures, signals and spans of each look, for values and responses alike, and what a load inherits from what it
read. What is served is decided in ``values``, ``fetching`` and ``views``.
"""

from __future__ import annotations

import time

from . import events, tracing
from .admission import Served
from .flight import current_load
from .registry import Policy
from .stores.base import Reading

__all__ = ["Telling"]


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

    def missed(self, policy: Policy, stored: str, reading: Reading | None) -> None:
        """Count a miss and tell who listens."""
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
