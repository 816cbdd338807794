"""Blinker signals, with one event each, a named tuple.

Owns the signals and the guarded way of sending them: no receiver costs one truth test, and a receiver that raises
is logged and never reaches the request. The sender is the app; the event is the keyword ``event``.
"""

# Annotations are types here, not their names: a named tuple compiles each name, which takes longer than all else.

import logging
from typing import Any, Final

from blinker import NamedSignal, Namespace

from .model.named_tuple import NamedTuple

__all__ = [
    "Audited",
    "CacheError",
    "Hit",
    "Invalidation",
    "Miss",
    "Stored",
    "cache_audited",
    "cache_error",
    "cache_event",
    "cache_hit",
    "cache_invalidated",
    "cache_miss",
    "cache_stale",
    "cache_stored",
    "emit",
]

logger: Final = logging.getLogger("flask_rcache")

_signals = Namespace()
cache_hit: Final = _signals.signal("cache-hit", "A fresh entry was served: `Hit`.")
cache_stale: Final = _signals.signal("cache-stale", "An expired but still valid entry was served: `Hit`.")
cache_miss: Final = _signals.signal("cache-miss", "Nothing could be served and a load begins: `Miss`.")
cache_stored: Final = _signals.signal("cache-stored", "A load's result was stored: `Stored`.")
cache_invalidated: Final = _signals.signal("cache-invalidated", "Something was invalidated: `Invalidation`.")
cache_error: Final = _signals.signal("cache-error", "An operation went on without the cache: `CacheError`.")
cache_event: Final = _signals.signal("cache-event", "An event was emitted here or came over the stream: `Event`.")
cache_audited: Final = _signals.signal("cache-audited", "An operator changed the cache: `Audited`.")


class Hit(NamedTuple):
    """An entry was served; ``age`` is in seconds."""

    type: str
    key: str
    age: float
    size: int


class Miss(NamedTuple):
    """Nothing could be served.

    ``reason`` is ``"absent"``, ``"expired"``, ``"invalid"`` (an invalidation passed), ``"garbage"``,
    ``"not-authentic"`` (not sealed with one of the app's keys), ``"other-view"`` (stored by another view under the same
    key), ``"refresh"`` (a new load was asked for) or ``"unavailable"`` (the store is away).
    """

    type: str
    key: str
    reason: str


class Stored(NamedTuple):
    """A result was stored; ``cost`` is the seconds its load took, ``ttl`` the seconds it is fresh."""

    type: str
    key: str
    ttl: float
    size: int
    cost: float


class Invalidation(NamedTuple):
    """Something was invalidated.

    ``scope`` is ``"type"``, ``"tags"``, ``"pattern"``, ``"key"``, ``"url"`` or ``"all"``; ``names`` what was given;
    ``removed`` the count the call returned; ``journalled`` whether the store was away, so that it is sent later.
    """

    scope: str
    names: tuple[str, ...]
    removed: int
    journalled: bool = False


class CacheError(NamedTuple):
    """An operation went on without the cache; ``type`` is the cache type's name, or ``""`` where there is none."""

    type: str
    operation: str
    error: Exception


class Audited(NamedTuple):
    """Somebody changed the cache through the admin API or the command line.

    ``subject`` is who, as the guard names them, or ``cli:`` and the user of the machine; ``action`` is
    ``"invalidate-type"``, ``"invalidate-pattern"``, ``"invalidate-tags"``, ``"clear-all"`` or ``"warm"``; ``target``
    what was named; ``count`` what the call returned (of ``"warm"`` the tasks that were started); ``journalled`` whether
    the store was away, so that it is sent later.
    """

    subject: str
    action: str
    target: tuple[str, ...]
    count: int  # type: ignore[assignment]  # a tuple's method, which nobody needs of this one
    journalled: bool = False


def emit(signal: NamedSignal, sender: Any, event: object) -> None:
    """Send ``event`` to every receiver of ``signal``; one that raises is logged, and the others are still called."""
    for receiver in signal.receivers_for(sender):
        try:
            receiver(sender, event=event)
        except Exception:  # somebody else's code: whatever it raises must not break the request
            logger.exception("[CACHE ERROR] a receiver of %s failed", signal.name)
