"""The memory store: the whole engine inside one process.

Owns a byte-budgeted LRU of entries under one lock, with the stamps, leases and barrier that the Redis scripts keep
on the server. It is the store of an app without Redis. Nothing in it is shared with another process.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from ..errors import StoreFullError
from ..model.entry import MICROSECONDS, Draft, Entry, Freshness, Stamps, is_marker
from ..model.forks import new_lock, remember
from ..model.keys import Names, key_tag, type_tag
from .glob import glob_regex
from .lru import BUCKETS, Cell, Lru
from .protocol import Ask, Begin, Begun, Census, Fill, Filled, Grant, Listed, Page, Reading, Trouble

__all__ = ["MemoryStore"]

_STAMPS_KEPT: Final = 100_000
_KEYS_A_PAGE: Final = 5000


def _clock() -> Callable[[], int]:
    """Monotonic µs that look like wall time: nothing but their order and distance is used."""
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + offset) // 1000


def _place(cursor: str | None) -> tuple[str, int, str]:
    """The type, the bucket and the key that a listing goes on after."""
    if cursor is None:
        return "", 0, ""
    name, _, rest = cursor.partition(".")
    bucket, _, key = rest.partition(".")
    if not key or not bucket.isdecimal():
        raise ValueError("it is not one that a listing gave")
    return name, int(bucket), key


class MemoryStore:
    """A store in this process's memory.

    Args:
        names: the key names.
        max_bytes: the budget; the least recently used entries make room.
        lease: seconds a load may hold its key; its holder lives and dies with this process, so nothing renews it.
        clock: a reading in µs; monotonic by default.
    """

    def __init__(
        self, names: Names, *, max_bytes: int, lease: float = 30.0, clock: Callable[[], int] | None = None
    ) -> None:
        self.lease: Final = lease
        self._names: Final = names
        self._max_bytes: Final = max_bytes
        self._read_clock: Final = clock or _clock()
        self._lock: Final = new_lock()
        self._cells: Final = Lru(max_bytes, names.type_of)
        self._leases: Final[dict[str, tuple[str, int]]] = {}
        self._stamps: Final[OrderedDict[str, int]] = OrderedDict()
        self._soft: Final[dict[str, int]] = {}
        self.epoch: Final = secrets.randbits(52) + 1
        self._last = 0
        self._floor = 0
        self._barrier = 0
        remember(self)

    @property
    def location(self) -> str:
        """See :attr:`Store.location`."""
        return "memory://"

    @property
    def trouble(self) -> Trouble | None:
        """See :attr:`Store.trouble`: memory is always there."""
        return None

    # Reading

    def read(self, key: str, ask: Ask, hold: float = 0.0) -> Reading:
        """See :meth:`Store.read`."""
        with self._lock:
            return self._look(key, self._read_clock())

    def read_many(self, keys: Sequence[str], ask: Ask, hold: float = 0.0) -> list[Reading]:
        """See :meth:`Store.read_many`."""
        with self._lock:
            now = self._read_clock()
            return [self._look(key, now) for key in keys]

    def _look(self, key: str, now: int) -> Reading:
        cell = self._cells.get(key)
        if cell is None:
            return Reading(None, now)
        if cell.expires <= now:
            self._cells.drop(key)
            return Reading(None, now)
        entry = self._usable(cell.entry, now)
        if entry is None:
            return Reading(None, now, cell.identity, "invalid")
        self._cells.used(key)
        return Reading(entry, now, cell.identity, "", cell.size)

    def _usable(self, entry: Entry, now: int) -> Entry | None:
        """The entry when it is valid, or as soft invalidations left it."""
        if self._valid(entry):
            return entry
        if not self._soft:
            return None
        return entry.softened(Stamps(self.epoch, self._floor, self._stamps), self._soft, now)

    def _valid(self, entry: Entry) -> bool:
        """Rule R1 over this store's own stamps, without making a snapshot of them."""
        floor, stamps = self._floor, self._stamps
        if entry.as_of < floor:
            return False
        for tag, as_of in entry.tags:
            if as_of < floor or as_of < stamps.get(tag, 0):
                return False
        return True

    def _tick(self) -> int:
        """A strictly increasing reading of the clock (rule R2); the lock is held."""
        self._last = max(self._read_clock(), self._last + 1)
        return self._last

    # Loading

    def begin(self, wants: Sequence[tuple[str, bytes]], token: str) -> list[Begun]:
        """See :meth:`Store.begin`."""
        with self._lock:
            now = self._tick()
            return [self._begin(key, judged, token, now) for key, judged in wants]

    def _begin(self, key: str, judged: bytes, token: str, now: int) -> Begun:
        cell = self._cells.get(key)
        if cell is not None and cell.expires > now and cell.identity != judged:
            return Begun(Begin.FILLED)
        held = self._leases.get(key)
        if held is not None and held[1] > now:
            if held[0][0] in "pf":
                self._leases[key] = (held[0], max(held[1], now + int(self.lease * MICROSECONDS)))
                return Begun(Begin.PASS, Grant(key, held[0], self.epoch, now))
            if held[0] != token:
                return Begun(Begin.BUSY, holder=held[0])
        self._leases[key] = (token, now + int(self.lease * MICROSECONDS))
        return Begun(Begin.GRANTED, Grant(key, token, self.epoch, now))

    def fill(self, fills: Sequence[tuple[Grant, Draft]]) -> list[Filled]:
        """See :meth:`Store.fill`."""
        with self._lock:
            now = self._read_clock()
            filled = [self._fill(grant, draft, now) for grant, draft in fills]
        self._check_room(each.size for each in filled)
        return filled

    def _fill(self, grant: Grant, draft: Draft, now: int) -> Filled:
        held = self._leases.get(grant.key)
        if held is None or held[0] != grant.token or held[1] <= now:
            return Filled(Fill.REFUSED)
        del self._leases[grant.key]
        if grant.epoch != self.epoch or grant.as_of <= self._barrier:
            return Filled(Fill.REFUSED)
        entry = Entry.of(draft, epoch=grant.epoch, as_of=grant.as_of, created=now)
        if not self._valid(entry):
            return Filled(Fill.OVERTAKEN)
        return Filled(Fill.STORED, self._put(grant.key, entry, draft.keep))

    def write(self, writes: Sequence[tuple[str, Draft]]) -> list[int]:
        """See :meth:`Store.write`."""
        with self._lock:
            now = self._tick()
            sizes = []
            for key, draft in writes:
                self._leases.pop(key, None)
                entry = Entry.of(draft, epoch=self.epoch, as_of=now, created=now)
                sizes.append(self._put(key, entry, draft.keep))
        self._check_room(sizes)
        return sizes

    def _check_room(self, sizes: Iterable[int]) -> None:
        largest = max(sizes, default=0)
        if largest > self._max_bytes:
            raise StoreFullError(f"an entry of {largest} bytes is over RCACHE_L1_BYTES = {self._max_bytes}: it was not kept")

    def _put(self, key: str, entry: Entry, keep: float) -> int:
        identity = b"%d/%d" % (entry.epoch, entry.as_of)
        return self._cells.put(key, Cell(entry, entry.created + int(keep * MICROSECONDS), identity))

    def returned(self, grant: Grant) -> None:
        """See :meth:`Store.returned`: nothing renews a lease here."""

    def release(self, grants: Sequence[Grant], *, pass_for: float = 0.0, failed: bool = False) -> None:
        """See :meth:`Store.release`."""
        with self._lock:
            now = self._read_clock()
            for grant in grants:
                held = self._leases.get(grant.key)
                if held is None or held[0] != grant.token:
                    continue
                if pass_for > 0:
                    self._leases[grant.key] = (
                        ("f" if failed else "p") + grant.token[1:],
                        now + int(pass_for * MICROSECONDS),
                    )
                elif grant.token[0] not in "pf":
                    del self._leases[grant.key]
            if len(self._leases) > 1000:  # pass markers of keys nobody asks for again
                for key in [key for key, (_, expires) in self._leases.items() if expires <= now]:
                    del self._leases[key]

    # Invalidating

    def delete(self, keys: Sequence[str]) -> int:
        """See :meth:`Store.delete`."""
        with self._lock:
            now = self._read_clock()
            removed = 0
            for key in keys:
                self._leases.pop(key, None)
                cell = self._cells.get(key)
                live = cell is not None and cell.expires > now and self._valid(cell.entry)
                if cell is not None and is_marker(cell.entry.content):  # it bears this tag, as its variants do
                    self._stamps[key_tag(key)] = self._tick()
                self._cells.drop(key)
                removed += live
            return removed

    def invalidate(
        self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False, soft: bool = False
    ) -> int:
        """See :meth:`Store.invalidate`."""
        with self._lock:
            now = self._tick()
            if everything:
                self._floor = now
                self._stamps.clear()
                self._soft.clear()
                return self._cells.clear()
            if soft:
                met = sum([self._cells.census(name)[0] for name in types])
            else:
                met = sum([self._cells.drop(key) for name in types for key in self._cells.keys_of(name)])
            for member in (*tags, *map(type_tag, types)):
                before = self._stamps.pop(member, 0)
                self._stamps[member] = now
                if soft:
                    self._soft.setdefault(member, before)  # the last stamp that was not soft still holds
                else:
                    self._soft.pop(member, None)
            while len(self._stamps) > _STAMPS_KEPT:
                member, stamp = self._stamps.popitem(last=False)
                self._floor = max(self._floor, stamp)
                self._soft.pop(member, None)
            return met

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> int:
        """See :meth:`Store.invalidate_pattern`."""
        matches = glob_regex(pattern).fullmatch
        with self._lock:
            self._barrier = self._tick()
            return sum([self._cells.drop(key) for key in self._cells if matches(key)])

    def forget(self) -> None:
        """Let every entry and lease go; what is loading is refused when it comes."""
        with self._lock:
            self._cells.clear()
            self._leases.clear()

    def forked(self) -> None:
        """See :class:`~flask_rcache.forks.Heir`: the parent's loads never end here, and half a change is none."""
        self._leases.clear()
        if self._lock.locked():
            self._cells.clear()

    # Listing

    def entries(self, type_name: str | None, pattern: str | None) -> Iterator[Listed]:
        """See :meth:`Store.entries`."""
        root = self._names.entries if type_name is None else self._names.entry(type_name, "")
        matches = glob_regex(pattern).fullmatch if pattern is not None else None
        with self._lock:
            now = self._read_clock()
            cells = [
                (key, cell)
                for key, cell in self._cells.items()
                if key.startswith(root) and (matches is None or matches(key))
            ]
            listed = [self._listed(key, cell, now) for key, cell in cells]
        yield from filter(None, listed)

    def _listed(self, key: str, cell: Cell, now: int) -> Listed | None:
        entry = self._usable(cell.entry, now) if cell.expires > now else None
        if entry is None or entry.freshness(now) is Freshness.EXPIRED:
            return None
        return Listed.of(key, entry, now=now, size=cell.size)

    def page(self, type_name: str | None, pattern: str | None, cursor: str | None, limit: int) -> Page:
        """See :meth:`Store.page`."""
        matches = None if pattern is None else glob_regex(pattern).fullmatch
        with self._lock:
            now = self._read_clock()
            types = [type_name] if type_name is not None else self._cells.types()
            at, number, last = _place(cursor)
            found: list[Listed] = []
            left = _KEYS_A_PAGE
            for name in types:
                if name < at:
                    continue
                for bucket in range(number if name == at else 0, BUCKETS):
                    for key in self._cells.bucket(name, bucket, last if (name, bucket) == (at, number) else ""):
                        cell = self._cells.get(key)
                        left -= 1
                        listed = self._listed(key, cell, now) if cell and (not matches or matches(key)) else None
                        if listed is not None:
                            found.append(listed)
                        if len(found) >= limit or left <= 0:
                            return Page(found, f"{name}.{bucket}.{key}")
            return Page(found, None)

    def inspect(self, key: str) -> Listed | None:
        """See :meth:`Store.inspect`."""
        with self._lock:
            cell = self._cells.get(key)
            return None if cell is None else self._listed(key, cell, self._read_clock())

    def census(self, types: Sequence[str]) -> dict[str, Census]:
        """See :meth:`Store.census`."""
        with self._lock:
            return {name: Census(*self._cells.census(name)) for name in {*types, *self._cells.types()}}

    def state(self) -> dict[str, Any]:
        """See :meth:`Store.state`."""
        with self._lock:
            cells = self._cells.state()
        return {
            "store": {"kind": "memory", "location": self.location, "server": None, "warnings": []},
            "memory_tier": cells,
            "bus": None,
            "breaker": {"is_open": False, "incidents": 0},
            "journal": {"pending": 0},
        }

    def gazette(self) -> None:
        """See :meth:`Store.gazette`: this process is all there is."""

    def tallies(self, types: Sequence[str]) -> None:
        """See :meth:`Store.tallies`: this process is all there is."""

    def close(self) -> None:
        """See :meth:`Store.close`."""
        self.forget()
