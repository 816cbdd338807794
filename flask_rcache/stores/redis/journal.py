"""The journal: invalidations that the store has not acknowledged yet.

Owns what must be told to the store before anything is trusted from it again. It lives in this process: what is only
journalled is not known to other processes, and dies with this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...model.forks import new_lock

__all__ = ["Journal", "Pending"]

_LIMIT: Final = 10_000
#: Each is a walk over all keys of its type, while the cache is off.
_PATTERNS: Final = 20


@dataclass(frozen=True, slots=True)
class Pending:
    """What was invalidated while the store was away; ``everything`` stands for all the rest."""

    tags: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    patterns: tuple[tuple[str, str | None], ...] = ()
    everything: bool = False

    def __bool__(self) -> bool:
        return bool(self.tags or self.types or self.keys or self.patterns or self.everything)


class Journal:
    """One item a tag, type, key or pattern, however often it was invalidated; above the limit, everything.

    Patterns are dear to deliver: many of them become their types.

    Args:
        limit: items above which the journal collapses to "everything".
    """

    __slots__ = ("_everything", "_items", "_limit", "_lock")

    def __init__(self, *, limit: int = _LIMIT) -> None:
        self._limit: Final = limit
        self._lock: Final = new_lock()
        self._items: Final[dict[str, dict[object, None]]] = {"tags": {}, "types": {}, "keys": {}, "patterns": {}}
        self._everything = False

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._items.values())) + self._everything

    def add(
        self,
        *,
        tags: Sequence[str] = (),
        types: Sequence[str] = (),
        keys: Sequence[str] = (),
        patterns: Sequence[tuple[str, str | None]] = (),
        everything: bool = False,
    ) -> None:
        """Note an invalidation."""
        with self._lock:
            if everything:
                self._collapse()
            if self._everything:
                return
            for kind, items in (("tags", tags), ("types", types), ("keys", keys), ("patterns", patterns)):
                self._items[kind].update(dict.fromkeys(items))
            if len(self._items["patterns"]) > _PATTERNS:
                self._widen()
            if sum(map(len, self._items.values())) > self._limit:
                self._collapse()

    def _widen(self) -> None:
        """Their types, or everything, in place of many patterns: one stamp each."""
        patterns: Any = self._items["patterns"]
        types = dict.fromkeys(type_name for _, type_name in patterns)
        if None in types:
            self._collapse()
        else:
            self._items["types"].update(types)
            patterns.clear()

    def _collapse(self) -> None:
        self._everything = True
        for items in self._items.values():
            items.clear()

    def take(self) -> Pending:
        """Everything noted so far, which is now the caller's to deliver or to give back with :meth:`add`."""
        with self._lock:
            pending = Pending(
                tags=tuple(self._items["tags"]),  # type: ignore[arg-type]
                types=tuple(self._items["types"]),  # type: ignore[arg-type]
                keys=tuple(self._items["keys"]),  # type: ignore[arg-type]
                patterns=tuple(self._items["patterns"]),  # type: ignore[arg-type]
                everything=self._everything,
            )
            for items in self._items.values():
                items.clear()
            self._everything = False
            return pending

    def give_back(self, pending: Pending) -> None:
        """Note again what could not be delivered."""
        self.add(
            tags=pending.tags,
            types=pending.types,
            keys=pending.keys,
            patterns=pending.patterns,
            everything=pending.everything,
        )
