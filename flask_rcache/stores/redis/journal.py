"""The journal: invalidations that the store has not acknowledged, and those that it has acknowledged just now.

Owns what has to be sent before anything is trusted from the store again. It lives in this process: what is only
journalled is not known to other processes, and is lost with this one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ...model.forks import new_lock

__all__ = ["Invalidation", "Journal"]

_LIMIT: Final = 10_000
#: Each is a walk over all keys of its type, while the cache is off.
_PATTERNS: Final = 20
_KINDS: Final = ("tags", "types", "keys", "removed", "patterns")


@dataclass(frozen=True, slots=True)
class Invalidation:
    """What is invalidated together.

    Args:
        tags: to be stamped.
        types: to be stamped.
        keys: to be removed and stamped.
        removed: keys to be removed, as by a write that has not arrived.
        patterns: each with its type, if that is plain.
        everything: stands for all the rest.
    """

    tags: Sequence[str] = ()
    types: Sequence[str] = ()
    keys: Sequence[str] = ()
    removed: Sequence[str] = ()
    patterns: Sequence[tuple[str, str | None]] = ()
    everything: bool = False

    def __bool__(self) -> bool:
        return self.everything or any(getattr(self, kind) for kind in _KINDS)

    def items(self) -> Iterable[tuple[str, Any]]:
        """One item a tag, type, key or pattern."""
        for kind in _KINDS:
            for name in getattr(self, kind):
                yield kind, name

    @classmethod
    def of(cls, items: Iterable[tuple[str, Any]], *, everything: bool = False) -> Invalidation:
        """The invalidation of such items."""
        found: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
        for kind, name in items:
            found[kind].append(name)
        return cls(**{kind: tuple(names) for kind, names in found.items()}, everything=everything)


@dataclass(slots=True)
class _Items:
    """Items, each with when it was noted (monotonic seconds); above the limit, everything."""

    limit: int
    at: dict[tuple[str, Any], float] = field(default_factory=dict)
    everything_at: float | None = None

    def __len__(self) -> int:
        return len(self.at) if self.everything_at is None else 1

    def add(self, invalidation: Invalidation, now: float) -> None:
        if invalidation.everything:
            self._collapse(now)
            return
        for item in invalidation.items():
            self.at.pop(item, None)  # so that the oldest stay in front
            self.at[item] = now
        if invalidation.patterns:
            self._widen(now)
        if len(self.at) > self.limit:
            self._collapse(now)

    def _widen(self, now: float) -> None:
        """Their types, or everything, in place of many patterns: one stamp each."""
        patterns = [item for item in self.at if item[0] == "patterns"]
        if len(patterns) <= _PATTERNS:
            return
        types = {type_name for _, (_, type_name) in patterns}
        if None in types:
            self._collapse(now)
            return
        for item in patterns:
            del self.at[item]
        self.at.update({("types", name): now for name in types})

    def _collapse(self, now: float) -> None:
        self.everything_at = now
        self.at.clear()

    def forget(self, before: float) -> None:
        """Forget what was noted before."""
        if self.everything_at is not None and self.everything_at < before:
            self.everything_at = None
        while self.at:
            item = next(iter(self.at))
            if self.at[item] >= before:
                break
            del self.at[item]

    def take(self) -> Invalidation:
        everything = self.everything_at is not None  # which swallows the rest
        taken = Invalidation.of(() if everything else self.at, everything=everything)
        self.at.clear()
        self.everything_at = None
        return taken


class Journal:
    """One item a tag, type, key or pattern, however often it was invalidated; above the limit, everything.

    Patterns are dear to deliver: many of them become their types.

    Args:
        limit: items above which the journal collapses to "everything".
        keep: seconds for which what was acknowledged is kept: an old master that was still writable may have
            acknowledged it, and then it has to be sent to its successor (DESIGN, Outages 6).
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_keep", "_lock", "_pending", "_recent")

    def __init__(self, *, limit: int = _LIMIT, keep: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep: Final = keep
        self._clock: Final = clock
        self._lock: Final = new_lock()
        self._pending: Final = _Items(limit)
        self._recent: Final = _Items(limit)

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, invalidation: Invalidation) -> None:
        """Note what was not acknowledged."""
        with self._lock:
            self._pending.add(invalidation, self._clock())

    def acknowledged(self, invalidation: Invalidation) -> None:
        """Keep what was acknowledged for a while."""
        now = self._clock()
        with self._lock:
            self._recent.add(invalidation, now)
            self._recent.forget(now - self._keep)

    def replay(self) -> bool:
        """Another server answers from here on: what was acknowledged just now is pending again. Whether anything is."""
        now = self._clock()
        with self._lock:
            self._recent.forget(now - self._keep)
            self._pending.add(self._recent.take(), now)
            return bool(self._pending)

    def take(self) -> Invalidation:
        """Everything pending, which is now the caller's to deliver, or to :meth:`add` again."""
        with self._lock:
            return self._pending.take()
