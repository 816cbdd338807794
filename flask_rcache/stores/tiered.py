"""The tiered store: a memory tier in front of Redis, and what stands in while Redis is away.

Owns rule R5: what the memory tier may serve, and for how long. Its entries are ready to serve; each is checked against
the stamps that came over the bus; none is used for longer than its hold, counted from when the read was sent; and
nothing is used while the bus is not known to be alive.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from ..errors import StoreUnavailableError
from ..model.entry import MICROSECONDS, Draft, Entry
from ..model.forks import new_lock, remember
from ..model.keys import Names, key_tag
from .glob import glob_regex
from .lru import Cell, Lru
from .memory import MemoryStore
from .protocol import Ask, Begun, Census, Fill, Filled, Gazette, Grant, Listed, News, Page, Reading, Tally, Trouble
from .redis.bus import Bus, Message
from .redis.store import RedisStore

__all__ = ["TieredStore"]

#: Stamps and patterns that came in are remembered as long as an entry may be held, and for this long at least: a read
#: takes its time too.
_REMEMBERED_NS: Final = 2 * 10**9
_STAMPS_LIMIT: Final = 100_000
_PATTERNS_LIMIT: Final = 1000


class TieredStore:
    """A memory tier over a Redis store.

    Args:
        redis: the shared store.
        names: the key names.
        max_bytes: the memory tier's budget.
        outage_ttl: seconds a result is kept in this process while Redis is away; 0 for not at all.
    """

    def __init__(self, redis: RedisStore, *, names: Names, max_bytes: int, outage_ttl: float) -> None:
        self.redis: Final = redis
        self._names: Final = names
        self._lock: Final = new_lock()
        self._cells: Final = Lru(max_bytes, names.type_of)
        self._stamps: Final[OrderedDict[str, tuple[int, int]]] = OrderedDict()
        self._patterns: Final[list[tuple[int, int, str]]] = []
        self._floor = 0
        self._remembered = _REMEMBERED_NS
        self._unknown_before = 0  # monotonic ns; what was invalidated before is not remembered here
        self._bus: Final = Bus(redis.wire, names.bus, hear=self._hear, distrust=self._distrust)
        self._outage_ttl: Final = outage_ttl
        self._outage: Final = MemoryStore(names, max_bytes=max_bytes, lease=redis.lease)
        self._incident = 0
        redis.on_invalidated = self._hear
        remember(self)

    @property
    def counted(self) -> tuple[Callable[[], News], Callable[[News], None]] | None:
        """See :class:`Counting`."""
        return self.redis.counted

    @counted.setter
    def counted(self, counted: tuple[Callable[[], News], Callable[[News], None]] | None) -> None:
        self.redis.counted = counted

    @property
    def lease(self) -> float:
        """See :attr:`Store.lease`."""
        return self.redis.lease

    @property
    def trouble(self) -> Trouble | None:
        """See :attr:`Store.trouble`."""
        return self.redis.trouble

    @property
    def location(self) -> str:
        """See :attr:`Store.location`."""
        return self.redis.location

    # Reading

    def read(self, key: str, ask: Ask, hold: float = 0.0) -> Reading:
        """See :meth:`Store.read`; from memory, without a round trip, when it may be."""
        if not hold:
            return self.redis.read(key, ask)
        sent = time.monotonic_ns()
        reading = self._recall(key, sent, hold)
        if reading is not None:
            return reading
        try:
            reading = self.redis.read(key, ask)
        except StoreUnavailableError as error:
            return self._during_outage(key, ask, hold, error)
        self._keep(key, reading, sent, hold)
        return reading

    def read_many(self, keys: Sequence[str], ask: Ask, hold: float = 0.0) -> list[Reading]:
        """See :meth:`Store.read_many`; the memory tier answers what it can."""
        if not hold:
            return self.redis.read_many(keys, ask)
        sent = time.monotonic_ns()
        found = {key: reading for key in keys if (reading := self._recall(key, sent, hold)) is not None}
        rest = [key for key in keys if key not in found]
        if rest:
            try:
                readings = self.redis.read_many(rest, ask)
            except StoreUnavailableError as error:
                readings = [self._during_outage(key, ask, hold, error) for key in rest]
            else:
                for key, reading in zip(rest, readings, strict=True):
                    self._keep(key, reading, sent, hold)
            found.update(zip(rest, readings, strict=True))
        return [found[key] for key in keys]

    def _recall(self, key: str, now: int, hold: float) -> Reading | None:
        """The entry in memory, if it may be used at ``now`` (monotonic ns) and was read within ``hold`` seconds."""
        cell = self._cells.get(key)
        if cell is None or not self._bus.alive(now):
            return None
        with self._lock:
            cell = self._cells.get(key)
            if cell is None:
                return None
            if cell.expires <= now or not self._valid(key, cell.entry):
                self._cells.drop(key)
                return None
            if now - cell.read_at >= hold * 1e9:  # this call wants it younger than the one that kept it
                return None
            self._cells.used(key)
        # The store's clock goes on as this process's monotonic one does, for the two seconds that this may last.
        return Reading(cell.entry, cell.now + (now - cell.read_at) // 1000, cell.identity, "", cell.size)

    def _keep(self, key: str, reading: Reading, sent: int, hold: float) -> None:
        """Promote what was just read, unless an invalidation came in since."""
        entry = reading.entry
        if entry is None:
            return
        self._bus.ensure()
        held = int(hold * 1e9)
        cell = Cell(entry, sent + held, reading.identity, now=reading.now, read_at=sent)
        with self._lock:  # so that a distrust that comes now finds the cell, and clears it
            if sent <= self._unknown_before or not self._bus.heard_since(sent):
                return
            self._remembered = max(self._remembered, held)
            if self._valid(key, entry) and not self._matches_pattern(key, entry):
                self._cells.put(key, cell)

    def _valid(self, key: str, entry: Entry) -> bool:
        """Rule R1 over the stamps that came in; the lock is held."""
        floor, stamps = self._floor, self._stamps
        if entry.as_of < floor:
            return False
        if stamps:
            if entry.as_of < stamps.get(key, (0, 0))[0]:
                return False
            for tag, as_of in entry.tags:
                if as_of < floor or as_of < stamps.get(tag, (0, 0))[0]:
                    return False
        elif floor:
            return all(as_of >= floor for _, as_of in entry.tags)
        return True

    def _matches_pattern(self, key: str, entry: Entry) -> bool:
        return any(entry.as_of < stamp and glob_regex(pattern).fullmatch(key) for stamp, _, pattern in self._patterns)

    # What is heard

    def _hear(self, message: Message) -> None:
        """Apply an invalidation to the memory tier: from the bus, or this process's own before its call returns."""
        now = time.monotonic_ns()
        with self._lock:
            if message.kind == "*":
                self._floor = max(self._floor, message.stamp)
                self._cells.clear()
            elif message.kind == "p":
                for pattern in message.names:
                    self._patterns.append((message.stamp, now, pattern))
                    matches = glob_regex(pattern).fullmatch
                    for key in self._cells:
                        if matches(key):
                            self._cells.drop(key)
            else:
                names = message.names
                if message.kind == "k":  # a key, and the variants that bear it as a tag
                    names += tuple(map(key_tag, names))
                for name in names:
                    known = self._stamps.pop(name, (0, 0))[0]
                    self._stamps[name] = (max(known, message.stamp), now)
            self._forget(now)

    def _forget(self, now: int) -> None:
        """Drop what came in before everything that is held was read: Redis had it then, and each was checked there."""
        stamps, patterns = self._stamps, self._patterns
        before = now - self._remembered
        if len(stamps) > _STAMPS_LIMIT or len(patterns) > _PATTERNS_LIMIT:  # half of it: not again so soon
            self._cells.clear()
            halves = [heard for _, heard in islice(stamps.values(), len(stamps) // 2, None)][:1]
            before = max([before, *halves, *(heard for _, heard, _ in patterns[len(patterns) // 2 :][:1])])
        dropped = 0
        while stamps and (heard := next(iter(stamps.values()))[1]) <= before:
            stamps.popitem(last=False)
            dropped = max(dropped, heard)
        while patterns and patterns[0][1] <= before:
            dropped = max(dropped, patterns.pop(0)[1])
        self._unknown_before = max(self._unknown_before, dropped)

    def _distrust(self) -> None:
        """Messages may have been missed: what is held is no longer known to be valid."""
        with self._lock:
            self._cells.clear()
            self._outage.forget()

    def forked(self) -> None:
        """See :class:`~flask_rcache.forks.Heir`: nobody listens here before the bus is asked for again."""
        self._cells.clear()
        self._unknown_before = time.monotonic_ns()

    # Loading

    def begin(self, wants: Sequence[tuple[str, bytes]], token: str) -> list[Begun]:
        """See :meth:`Store.begin`."""
        try:
            return self.redis.begin(wants, token)
        except StoreUnavailableError:
            outage = self.redis.outage
            if not self._outage_ttl or outage is None:
                raise
            self._enter(outage)
            return self._outage.begin(wants, token)

    def fill(self, fills: Sequence[tuple[Grant, Draft]]) -> list[Filled]:
        """See :meth:`Store.fill`; what was begun during an outage stays in this process, and ends with the outage."""
        if fills and fills[0][0].epoch == self._outage.epoch:
            outage = self.redis.outage
            if outage is None or outage.incident != self._incident:
                # Others may have invalidated it meanwhile, which that store has not heard: only who was there before
                # the load began may have it.
                self._outage.release([grant for grant, _ in fills])
                return [Filled(Fill.REFUSED)] * len(fills)
            ttl = self._outage_ttl
            return self._outage.fill([(grant, draft.shortened(ttl)) for grant, draft in fills])
        filled = self.redis.fill(fills)
        with self._lock:  # what this process holds is older: a forced refresh must be seen by who asked for it
            for grant, _ in fills:
                self._cells.drop(grant.key)
        return filled

    def write(self, writes: Sequence[tuple[str, Draft]]) -> list[int]:
        """See :meth:`Store.write`."""
        return self.redis.write(writes)

    def returned(self, grant: Grant) -> None:
        """See :meth:`Store.returned`."""
        self.redis.returned(grant)

    def release(self, grants: Sequence[Grant], *, pass_for: float = 0.0, failed: bool = False) -> None:
        """See :meth:`Store.release`."""
        local = [grant for grant in grants if grant.epoch == self._outage.epoch]
        if local:
            self._outage.release(local, pass_for=min(pass_for, self._outage_ttl), failed=failed)
        if len(local) < len(grants):
            shared = [grant for grant in grants if grant.epoch != self._outage.epoch]
            self.redis.release(shared, pass_for=pass_for, failed=failed)

    # Invalidating: Redis first, whose acknowledgement comes back through _hear; then nothing here is older.

    def delete(self, keys: Sequence[str]) -> int:
        """See :meth:`Store.delete`."""
        try:
            return self.redis.delete(keys)
        finally:
            self._outage.delete(keys)
            self._drop_unacknowledged()

    def invalidate(
        self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False, soft: bool = False
    ) -> int:
        """See :meth:`Store.invalidate`."""
        try:
            return self.redis.invalidate(tags, types, everything=everything, soft=soft)
        finally:
            self._outage.invalidate(tags, types, everything=everything)
            self._drop_unacknowledged()

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> int:
        """See :meth:`Store.invalidate_pattern`."""
        try:
            return self.redis.invalidate_pattern(pattern, type_name)
        finally:
            self._outage.invalidate_pattern(pattern, type_name)
            self._drop_unacknowledged()

    def _drop_unacknowledged(self) -> None:
        """Redis did not acknowledge: no stamp is known, so nothing in memory is known to be valid."""
        if self.redis.outage is not None:
            with self._lock:
                self._cells.clear()
                self._unknown_before = time.monotonic_ns()  # what is being read now may be older

    def _during_outage(self, key: str, ask: Ask, hold: float, error: StoreUnavailableError) -> Reading:
        outage = self.redis.outage
        if not self._outage_ttl or outage is None:
            raise error
        self._enter(outage)
        reading = self._outage.read(key, ask)
        entry = reading.entry
        # Counted from when its load began: what it read may have been outdated right after.
        if entry is not None and reading.now - entry.as_of >= hold * MICROSECONDS:
            reading = Reading(None, reading.now, reading.identity, "absent")
        reading.error = error
        return reading

    def _enter(self, outage: Trouble) -> None:
        """What an earlier outage left is older than what came after it, and so is what was begun in it."""
        if outage.incident != self._incident:
            self._outage.forget()
            self._incident = outage.incident

    # The rest

    def entries(self, type_name: str | None, pattern: str | None) -> Iterator[Listed]:
        """See :meth:`Store.entries`: the shared store's."""
        return self.redis.entries(type_name, pattern)

    def page(self, type_name: str | None, pattern: str | None, cursor: str | None, limit: int) -> Page:
        """See :meth:`Store.page`."""
        return self.redis.page(type_name, pattern, cursor, limit)

    def inspect(self, key: str) -> Listed | None:
        """See :meth:`Store.inspect`."""
        return self.redis.inspect(key)

    def census(self, types: Sequence[str]) -> dict[str, Census]:
        """See :meth:`Store.census`."""
        return self.redis.census(types)

    def gazette(self) -> Gazette:
        """See :meth:`Store.gazette`."""
        return self.redis.gazette()

    def state(self) -> dict[str, Any]:
        """See :meth:`Store.state`."""
        state = self.redis.state()
        state["store"]["kind"] = "tiered"
        with self._lock:
            state["memory_tier"] = self._cells.state()
        state["bus"] = {"state": self._bus.state}
        return state

    def tallies(self, types: Sequence[str]) -> Tally:
        """See :meth:`Store.tallies`."""
        return self.redis.tallies(types)

    def close(self) -> None:
        """See :meth:`Store.close`."""
        self._bus.stop()
        self._distrust()
        self.redis.close()
