"""The one observer: what happened becomes counters, signals, spans and log lines.

Owns how each outcome is counted and announced, for values and responses alike, and the span around a lookup. What
happened is decided by who calls it.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Final

from .. import signals
from ..model.bounded import BoundedDict
from ..model.entry import Draft
from ..model.forks import new_lock
from ..stores.protocol import Incident, Lookup
from .policies import Policy
from .statistics import Statistics

__all__ = ["Observer", "Tracer", "logger"]

logger: Final = logging.getLogger("flask_rcache")

#: Called with the type's name; the span is what it enters, and gives what to call with the outcome: ``"hit"``,
#: ``"stale"``, ``"miss"`` or ``"bypass"``.
Tracer = Callable[[str], AbstractContextManager[Callable[[str], None]]]

#: What to call with the outcome of the span around this call.
_outcome: Final[ContextVar[Callable[[str], None] | None]] = ContextVar("rcache_outcome", default=None)
_WARNED_KEPT: Final = 10_000
#: Why there is no entry although something lies there.
_UNREADABLE: Final = frozenset({"garbage", "not-authentic"})


class Observer:
    """What one manager reports.

    Args:
        statistics: where outcomes are counted.

    Attributes:
        tracer: makes a span around each lookup; ``None`` for none.
    """

    __slots__ = ("_incident", "_lock", "_sender", "_warned", "statistics", "tracer")

    def __init__(self, statistics: Statistics) -> None:
        self.statistics: Final = statistics
        self.tracer: Tracer | None = None
        self._sender: Callable[[], Any] = lambda: None
        self._incident = 0
        self._lock: Final = new_lock()
        self._warned: Final[BoundedDict[str, None]] = BoundedDict(_WARNED_KEPT)

    def send_as(self, sender: object) -> None:
        """Signals come from this object, the app, from now on; it is not kept alive."""
        self._sender = weakref.ref(sender)

    @property
    def sender(self) -> Any:
        """Who signals come from; ``None`` without an app."""
        return self._sender()

    # Lookups

    def hit(self, policy: Policy, key: str, lookup: Lookup, since: int = 0) -> None:
        """A fresh entry is served.

        Args:
            policy: of the call.
            key: the stored key.
            lookup: what was found.
            since: this process's monotonic clock (ns) before the lookup; 0 when it was not read.
        """
        if since:
            policy.counters.hit((time.monotonic_ns() - since) / 1e9)
        else:
            policy.counters.add("hits")
        if self.tracer is not None:
            _report("hit")
        if signals.cache_hit.receivers:
            self._served(signals.cache_hit, policy, key, lookup)

    def stale(self, policy: Policy, key: str, lookup: Lookup | None) -> None:
        """An expired entry is served."""
        policy.counters.add("stale")
        if self.tracer is not None:
            _report("stale")
        if lookup is not None and signals.cache_stale.receivers:
            self._served(signals.cache_stale, policy, key, lookup)

    def missed(self, policy: Policy, key: str, lookup: Lookup | None) -> None:
        """Nothing could be served; ``lookup`` is ``None`` when the store is away."""
        if signals.cache_miss.receivers or (lookup is not None and lookup.reason in _UNREADABLE):
            self.announce_miss(policy, key, lookup)
        self.count_miss(policy)

    def announce_miss(self, policy: Policy, key: str, lookup: Lookup | None) -> None:
        """A load may begin; whether it was a miss or stale in the end is counted later."""
        reason = "unavailable" if lookup is None else lookup.reason or "expired"
        self.unreadable(policy, key, reason)
        if signals.cache_miss.receivers:
            signals.emit(signals.cache_miss, self.sender, signals.Miss(policy.name, key, reason))

    def unreadable(self, policy: Policy, key: str, reason: str) -> None:
        """Count what was found under a key, if it is there and no entry of ours.

        Args:
            policy: of the call.
            key: the stored key.
            reason: why there was nothing to serve.
        """
        if reason == "garbage":
            policy.counters.add("garbage")
        elif reason == "not-authentic":
            policy.counters.add("sealed_failures")
            self.warn_once(
                "sealed",
                "what lies under %s was not sealed for it with one of RCACHE_ENCRYPTION_KEYS, and is not used: it was "
                "stored before they were set, or by a process that has others, or somebody else has changed it. More "
                "such entries are counted as sealed_failures and not logged",
                key,
            )

    def count_miss(self, policy: Policy) -> None:
        """Nothing was served that had been announced as a miss."""
        policy.counters.add("misses")
        if self.tracer is not None:
            _report("miss")

    def bypassed(self, policy: Policy, amount: int = 1) -> None:
        """A call did not use the cache."""
        policy.counters.add("bypasses", amount)
        if self.tracer is not None:
            _report("bypass")

    def _served(self, signal: Any, policy: Policy, key: str, lookup: Lookup) -> None:
        entry = lookup.entry
        if entry is not None:
            event = signals.Hit(policy.name, key, entry.age(lookup.now), lookup.size)
            signals.emit(signal, self.sender, event)

    @contextmanager
    def span(self, policy_name: str) -> Iterator[None]:
        """One lookup, with all that it causes."""
        if self.tracer is None:
            yield
            return
        with self.tracer(policy_name) as report:
            token = _outcome.set(report)
            try:
                yield
            finally:
                _outcome.reset(token)

    # Loads

    def loaded(self, policy: Policy, key: str, seconds: float) -> None:
        """A loader has returned."""
        policy.counters.timed("load", seconds, counted="loads")
        self.statistics.records.loaded(key, seconds)

    def waited(self, policy: Policy, seconds: float, collapsed: int) -> None:
        """A reader waited for another's load, and took so many results of others."""
        if seconds:
            policy.counters.add("waits")
            policy.counters.timed("wait", seconds)
        if collapsed:
            policy.counters.add("collapsed", collapsed)

    def refreshing(self, policy: Policy) -> None:
        """A background refresh runs the loader."""
        policy.counters.add("refreshes")

    def stored(self, policy: Policy, key: str, draft: Draft, size: int) -> None:
        """A result was stored."""
        policy.counters.summed("stored", "stored_bytes", size)
        if signals.cache_stored.receivers:
            event = signals.Stored(policy.name, key, draft.ttl, size, draft.cost)
            signals.emit(signals.cache_stored, self.sender, event)

    def refused(self, policy: Policy) -> None:
        """A result was not taken: overtaken by an invalidation, or its lease was lost."""
        policy.counters.add("refused")

    # Invalidations and failures

    def invalidated(
        self, scope: str, names: tuple[str, ...], type_name: str, removed: int, seconds: float, *, journalled: bool
    ) -> None:
        """Something was invalidated."""
        counters = self.statistics.of(type_name)
        counters.add("invalidations")
        counters.timed("invalidate", seconds)
        self.statistics.records.invalidated(scope, names, removed, journalled=journalled)
        if scope == "tags":
            self.statistics.statements.invalidated(names)
        if signals.cache_invalidated.receivers:
            event = signals.Invalidation(scope, names, removed, journalled)
            signals.emit(signals.cache_invalidated, self.sender, event)

    def failed(self, type_name: str, operation: str, error: Exception, incident: Incident | None) -> None:
        """An operation goes on without the cache; the first failure of an incident is logged."""
        self.statistics.of(type_name).add("errors")
        if signals.cache_error.receivers:
            signals.emit(signals.cache_error, self.sender, signals.CacheError(type_name, operation, error))
        if incident is None:  # no incident: one bad value or answer
            self.warn_once(f"{operation}/{type_name}/{error}", "%s of cache type %r: %s", operation, type_name, error)
            return
        with self._lock:
            known, self._incident = self._incident >= incident.number, max(self._incident, incident.number)
        if not known and not incident.is_logged:
            logger.error("[CACHE ERROR] Redis is unavailable; running without the cache: %s", incident.cause)

    def unstorable(self, policy: Policy, about: str, error: Exception) -> None:
        """A value can't be stored; ``about`` is the function that returned it, or the key that it was for."""
        policy.counters.add("errors")
        if signals.cache_error.receivers:
            signals.emit(signals.cache_error, self.sender, signals.CacheError(policy.name, "encode", error))
        self.warn_once(
            f"encode/{about}", "the value of %s can't be stored, and is loaded at each call: %s", about, error
        )

    def warn_once(self, about: str, message: str, *args: object) -> None:
        """Log a warning, once for each thing that it is about."""
        if about not in self._warned:
            self._warned[about] = None
            logger.warning("[CACHE] %s", message % args)


def _report(outcome: str) -> None:
    """How the lookup of the span around this call ended; the first report counts, what a loader reads is its own."""
    report = _outcome.get()
    if report is not None:
        _outcome.set(None)
        report(outcome)
