"""A byte-budgeted LRU of entries by stored key: what both memory tiers keep their entries in.

Owns the budget, the order of use and the keys of each type. Its caller holds the lock and knows what is valid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Final

from ..model.entry import Entry, StoredResponse, VariantMarker

__all__ = ["BUCKETS", "Cell", "Lru"]

BUCKETS: Final = 256
_SAMPLE: Final = 64

_OVERHEAD: Final = 700  # bytes of an entry's objects, measured with tracemalloc on a small response


class Cell:
    """An entry in memory: its bytes, the name of its fill, and until when it may be used.

    ``expires`` is in the clock of the tier; ``read_at`` (monotonic ns) and ``now`` (store µs) belong together;
    ``stored_size`` are the bytes in the store that it was read from, ``size`` those here.
    """

    __slots__ = ("entry", "expires", "identity", "now", "read_at", "size", "stored_size")

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


class Lru:
    """Entries within a budget; the least recently used make room.

    Args:
        max_bytes: the budget.
        type_of: the type's name of a stored key.
    """

    __slots__ = ("_bytes", "_cells", "_index", "_max_bytes", "_type_of", "get", "used")

    def __init__(self, max_bytes: int, type_of: Callable[[str], str]) -> None:
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
        return removed


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
