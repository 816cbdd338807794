"""A byte-budgeted LRU of entries by stored key: what both memory tiers keep their entries in.

Owns the budget, the order of use, the keys of each type, and :class:`Checked`, by which an entry that was found valid
is served again. Its caller holds the lock and knows what is valid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Final
from weakref import ref

from ..model.entry import Entry, StoredResponse, VariantMarker
from .validity import Validity

__all__ = ["BUCKETS", "Cell", "Checked", "Lru"]

BUCKETS: Final = 256
_SAMPLE: Final = 64

_OVERHEAD: Final = 700  # bytes of an entry's objects, measured with tracemalloc on a small response


class Cell:
    """An entry in memory: its bytes, the name of its fill, and until when it may be used.

    ``expires`` is in the clock of the tier; ``read_at`` (monotonic ns) and ``now`` (store µs) belong together;
    ``stored_size`` are the bytes in the store that it was read from, ``size`` those here. ``is_kept`` says whether it
    lies under its key.
    """

    __slots__ = ("__weakref__", "entry", "expires", "identity", "is_kept", "now", "read_at", "size", "stored_size")

    def __init__(
        self, entry: Entry, expires: int, identity: bytes, *, now: int = 0, read_at: int = 0, stored_size: int = 0
    ) -> None:
        self.entry = entry
        self.expires = expires
        self.identity = identity
        self.now = now
        self.read_at = read_at
        self.stored_size = stored_size
        self.size = 0
        self.is_kept = False


class Lru:
    """Entries within a budget; the least recently used make room.

    Args:
        max_bytes: the budget.
        type_of: the type's name of a stored key.
        validity: of what is kept here.
    """

    __slots__ = ("_bytes", "_cells", "_index", "_max_bytes", "_type_of", "_validity", "get", "used")

    def __init__(self, max_bytes: int, type_of: Callable[[str], str], validity: Validity) -> None:
        self._validity: Final = validity
        self._max_bytes: Final = max_bytes
        self._type_of: Final = type_of
        self._cells: Final[OrderedDict[str, Cell]] = OrderedDict()
        self._index: Final[dict[str, dict[int, set[str]]]] = {}
        self._bytes = 0
        #: The cell of a key, or ``None``; does not count as a use.
        self.get: Final[Callable[[str], Cell | None]] = self._cells.get
        #: Note that a key that is there was used just now.
        self.used: Final[Callable[[str], None]] = self._cells.move_to_end

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def bytes(self) -> int:
        """Bytes in use."""
        return self._bytes

    def put(self, key: str, cell: Cell) -> int:
        """Keep a cell, which may push others out, or not fit at all; its size in bytes."""
        if key in self._cells:
            self.drop(key)
        cell.size = size = _size(key, cell.entry)
        if size > self._max_bytes:
            return size  # it would push out everything and then itself
        self._cells[key] = cell
        cell.is_kept = True
        self._index.setdefault(self._type_of(key), {}).setdefault(hash(key) % BUCKETS, set()).add(key)
        self._bytes += size
        while self._bytes > self._max_bytes:
            self.drop(next(iter(self._cells)))
        return size

    def drop(self, key: str) -> bool:
        """Let a key go; whether it was there."""
        cell = self._cells.pop(key, None)
        if cell is None:
            return False
        cell.is_kept = False
        self._bytes -= cell.size
        buckets = self._index[self._type_of(key)]
        number = hash(key) % BUCKETS
        buckets[number].discard(key)
        if not buckets[number]:
            del buckets[number]
            if not buckets:
                del self._index[self._type_of(key)]
        return True

    def state(self) -> dict[str, int]:
        """Entries, bytes and the budget."""
        return {"entries": len(self._cells), "bytes": self._bytes, "max_bytes": self._max_bytes}

    def types(self) -> list[str]:
        """The types there are keys of."""
        return sorted(self._index)

    def size_of(self, type_name: str) -> tuple[int, int]:
        """How many keys of a type there are, and their bytes: those of a sample, times the number."""
        buckets = self._index.get(type_name, {})
        count = sum(map(len, buckets.values()))
        sample = [self._cells[key].size for key in islice(chain.from_iterable(buckets.values()), _SAMPLE)]
        return count, count * sum(sample) // len(sample) if sample else 0

    def keys_of(self, type_name: str) -> tuple[str, ...]:
        """The keys of a type."""
        return tuple(chain.from_iterable(self._index.get(type_name, {}).values()))

    def bucket(self, type_name: str, number: int, after: str) -> list[str]:
        """The keys of a type that lie in one of the :data:`BUCKETS` and come after ``after``, in their order.

        A key never changes its bucket, so who goes through all of them meets every key that stays.
        """
        return sorted(key for key in self._index.get(type_name, {}).get(number, ()) if key > after)

    def __iter__(self) -> Iterator[str]:
        """All keys there are now; the caller may drop some on the way."""
        return iter(tuple(self._cells))

    def items(self) -> Iterator[tuple[str, Cell]]:
        """All keys with their cells, the least recently used first."""
        return iter(tuple(self._cells.items()))

    def clear(self) -> int:
        """Let everything go; the number of entries there were."""
        removed = len(self._cells)
        self._cells.clear()
        self._index.clear()
        self._bytes = 0
        self._validity.changed()  # for all of them at once
        return removed


class Checked:
    """An entry in memory that was checked, and may be served again without being checked anew.

    It does not keep the entry in memory, and is of no use once the entry makes room, is deleted, or replaced.

    Args:
        cell: where it lies.
        validity: of its tier.
        until: until when it may be served (monotonic ns).
        is_alive: whether changes are known to come in at an instant (monotonic ns); without it all are made here.

    Attributes:
        until: it may be made earlier by who serves it.
    """

    __slots__ = ("_cell", "_is_alive", "_mark", "_validity", "until")

    def __init__(
        self, cell: Cell, validity: Validity, until: int, is_alive: Callable[[int], bool] | None = None
    ) -> None:
        self._mark: Final = validity.mark  # first: what changes from here on is noticed, whenever the entry is checked
        self._validity: Final = validity
        self._cell: Final = ref(cell)
        self._is_alive: Final = is_alive
        self.until = until

    def entry_at(self, now: int) -> Entry | None:
        """The entry, if what was found of it when it was checked is still so at ``now`` (monotonic ns), rule R1."""
        if now >= self.until or self._validity.mark is not self._mark:
            return None
        cell = self._cell()
        if cell is None or not cell.is_kept or (self._is_alive is not None and not self._is_alive(now)):
            return None
        return cell.entry


def _size(key: str, entry: Entry) -> int:
    content = entry.content
    if isinstance(content, StoredResponse):
        headers = content.headers
        size = len(content.body) + 120 * len(headers) + sum(map(len, chain.from_iterable(headers)))
    elif isinstance(content, VariantMarker):
        size = sum(len(text) + 60 for text in (*content.fields, *content.ids))
    else:
        size = len(content)
    for tag, _ in entry.tags:
        size += len(tag) + 80
    return size + len(key) + _OVERHEAD
