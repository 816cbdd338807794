"""The memory store: the whole engine inside one process.

Owns a byte-budgeted LRU of entries under one lock, with the stamps, leases and barrier that the Redis scripts keep
on the server. It is the store of an app without Redis. Nothing in it is shared with another process.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from ..errors import StoreFullError, StoreUnavailableError
from ..model import forks
from ..model.entry import MICROSECONDS, Draft, Entry, Freshness, Moment
from ..model.keys import Names, key_tag, type_tag
from ..model.named_tuple import NamedTuple
from .glob import glob_regex
from .lru import BUCKETS, Cell, Checked, Lru
from .protocol import (
    Begin,
    Begun,
    CountsSource,
    Filled,
    Incident,
    Lease,
    Listed,
    LoadedResult,
    Lookup,
    Outcome,
    Page,
    Seized,
    Size,
    Want,
)
from .stamps import StampSet
from .timetable import Timetable
from .validity import Validity

if TYPE_CHECKING:
    from .queueing import Queues

__all__ = ["MemoryStore"]

_KEYS_A_PAGE: Final = 5000
#: Expired leases and pass markers that a request removes beyond those it makes.
_REMOVED_A_REQUEST: Final = 8


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


class _Held(NamedTuple):
    """What lies in the place of a key's lease: who loads it, or a pass marker.

    ``moment`` is the holder's; ``is_taken_over`` whether another had it before (R4.3).
    """

    token: str
    expires: int
    moment: Moment | None = None
    is_taken_over: bool = False

    @property
    def is_marker(self) -> bool:
        return self.token[0] in "pf"


class MemoryStore:
    """A store in this process's memory.

    Args:
        names: the key names.
        max_bytes: the budget; the least recently used entries make room.
        lease: seconds a load may hold its key; its holder lives and dies with this process, so nothing renews it.
        max_stamps: rows of the stamp set kept at most.
        clock: a reading in µs; monotonic by default.
    """

    def __init__(
        self,
        names: Names,
        *,
        max_bytes: int,
        lease: float = 30.0,
        max_stamps: int = 100_000,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._lease: Final = lease
        self._names: Final = names
        self._max_bytes: Final = max_bytes
        self._max_stamps: Final = max_stamps
        self._read_clock: Final = clock or _clock()
        self._lock: Final = forks.new_lock()
        self._is_timed: Final = clock is None  # by the clock that all of this process has
        self._validity: Final = Validity()
        self._cells: Final = Lru(max_bytes, names.type_of, self._validity)
        self._leases: Final[dict[str, _Held]] = {}
        self._lease_ends: Final = Timetable()
        self._last = 0
        self._stamps = self._new_stamps()
        self._moment = Moment(self._stamps.epoch, self._last)
        forks.register(self)

    def _new_stamps(self) -> StampSet:
        epoch = secrets.randbits(52) + 1
        return StampSet(epoch, max_rows=self._max_stamps, now=self._tick(), validity=self._validity)

    @property
    def catalogue(self) -> MemoryStore:
        """See :attr:`Store.catalogue`: the store itself, as everything lies under its lock."""
        return self

    @property
    def location(self) -> str:
        """See :attr:`Catalogue.location`."""
        return "memory://"

    @property
    def lease_seconds(self) -> float:
        """See :attr:`Store.lease_seconds`."""
        return self._lease

    @property
    def incident(self) -> Incident | None:
        """See :attr:`Store.incident`: memory is always there."""
        return None

    # The clock

    @property
    def epoch(self) -> int:
        """The name of the stamp set, as the moments of this store have it."""
        return self._stamps.epoch

    @property
    def moment(self) -> Moment:
        """See :attr:`Store.moment`: the last reading given out. Nothing was invalidated since."""
        moment, epoch = self._moment, self._stamps.epoch
        if moment.clock != self._last or moment.epoch != epoch:
            self._moment = moment = Moment(epoch, self._last)
        return moment

    def hear(self) -> Moment:
        """See :meth:`Store.hear`."""
        return self.moment

    def tick(self) -> Moment:
        """A reading that was just taken."""
        with self._lock:
            return Moment(self._stamps.epoch, self._tick())

    def _now(self) -> int:
        """The time, for ages and expiry; the lock is held."""
        now = self._read_clock()
        return now if now > self._last else self._last  # each hit passes here: half of what `max` takes

    def _tick(self) -> int:
        """A strictly increasing reading of the clock (rule R2); the lock is held."""
        self._last = max(self._read_clock(), self._last + 1)
        return self._last

    # Reading

    def recall(self, key: str, l1_ttl: float) -> Lookup | None:
        """See :meth:`Store.recall`: nothing here does any I/O."""
        with self._lock:
            return self._look(key, self._now())

    def checked(self, key: str, l1_ttl: float) -> Checked | None:
        """See :meth:`Store.checked`."""
        now = time.monotonic_ns()
        cell = self._cells.get(key)
        if cell is None or not self._is_timed:
            return None
        return Checked(cell, self._validity, now + (cell.expires - self._read_clock()) * 1000)

    def read(self, key: str, tags: tuple[str, ...], l1_ttl: float = 0.0) -> Lookup:
        """See :meth:`Store.read`."""
        with self._lock:
            return self._look(key, self._now())

    def read_many(self, keys: Sequence[str], tags: tuple[str, ...], l1_ttl: float = 0.0) -> list[Lookup]:
        """See :meth:`Store.read_many`."""
        with self._lock:
            now = self._now()
            return [self._look(key, now) for key in keys]

    def _look(self, key: str, now: int) -> Lookup:
        cell = self._cells.get(key)
        if cell is None:
            return Lookup(None, now)
        if cell.expires <= now:
            self._cells.drop(key)
            return Lookup(None, now)
        if not self._stamps.validates(cell.entry):
            return Lookup(None, now, cell.identity, "invalid")
        self._cells.used(key)
        return Lookup(cell.entry, now, cell.identity, "", cell.size)

    def _live(self, key: str, now: int) -> Cell | None:
        """The cell of a key, valid or not, unless it has expired; the lock is held."""
        cell = self._cells.get(key)
        if cell is None or cell.expires > now:
            return cell
        self._cells.drop(key)
        return None

    # Loading

    def begin(self, wants: Sequence[Want], token: str, moment: Moment | None) -> list[Begun]:
        """See :meth:`Store.begin`."""
        with self._lock:
            now = self._now()
            if self._leases:
                self._remove_leases(len(wants), now)
            begun = []
            for want in wants:
                begun.append(self._begin(want, token, moment, now))  # noqa: PERF401  # a comprehension is a call
            return begun

    def _begin(self, want: Want, token: str, moment: Moment | None, now: int) -> Begun:
        key = want.key
        cell = self._cells.get(key)
        if cell is not None and cell.expires > now and cell.identity != want.identity:
            return Begun(Begin.FILLED)
        expires = now + int(self._lease * MICROSECONDS)
        held = self._held(key, now) if self._leases else None
        if held is not None and held.is_marker:
            self._hold(key, held._replace(expires=max(held.expires, expires)))  # its load's fill must find it
            return Begun(Begin.PASS, Lease(key, held.token))
        if held is not None and held.token.startswith("t"):
            return Begun(Begin.UNSTORABLE)
        is_taken_over = held is not None and held.is_taken_over
        if held is not None and held.token != token:
            if self._can_store(held.moment, want):
                return Begun(Begin.BUSY, holder=held.token)
            if not self._can_store(moment, want):
                return Begun(Begin.UNSTORABLE)
            if is_taken_over:  # else a stream of invalidations would end no load
                return Begun(Begin.BUSY, holder=held.token)
            is_taken_over = True
        elif not self._can_store(moment, want):
            return Begun(Begin.UNSTORABLE)
        self._hold(key, _Held(token, expires, moment, is_taken_over))
        return Begun(Begin.GRANTED, Lease(key, token))

    def _can_store(self, moment: Moment | None, want: Want) -> bool:
        """Rule R4.3: whether what is loaded at a moment could be stored, as far as its tags are known."""
        if moment is None or moment.clock <= self._stamps.barrier:
            return False
        tags = (*want.tags, key_tag(want.key))
        return self._stamps.allows(moment.epoch, zip(tags, repeat(moment.clock)))

    def _held(self, key: str, now: int) -> _Held | None:
        held = self._leases.get(key)
        return held if held is not None and held.expires > now else None

    def _hold(self, key: str, held: _Held) -> None:
        self._leases[key] = held
        self._lease_ends[key] = held.expires

    def _end_lease(self, key: str) -> None:
        if self._leases.pop(key, None) is not None:
            self._lease_ends.discard(key)

    def _remove_leases(self, added: int, now: int) -> None:
        """Remove expired leases and pass markers of keys that nobody asks for again."""
        steps = added + _REMOVED_A_REQUEST
        for key in self._lease_ends.take(steps, steps=steps, until=now):
            del self._leases[key]

    def fill(self, results: Sequence[LoadedResult]) -> list[Filled]:
        """See :meth:`Store.fill`."""
        with self._lock:
            now = self._now()
            filled = []
            for result in results:
                filled.append(self._fill(result, now))  # noqa: PERF401  # a comprehension is a call
        self._check_room(filled)
        return filled

    def _fill(self, result: LoadedResult, now: int) -> Filled:
        key, token = result.lease
        held = self._held(key, now)
        if held is None or held.token != token:
            return Filled(Outcome.REFUSED)
        self._end_lease(key)
        return self._store(key, result.draft, result.moment)

    def write(
        self, writes: Sequence[tuple[str, Draft]], moment: Moment | None, expected: Sequence[bytes] | None = None
    ) -> list[Filled]:
        """See :meth:`Store.write`."""
        filled = []
        with self._lock:
            for number, (key, draft) in enumerate(writes):
                if expected is not None:
                    cell = self._live(key, self._now())
                    if (b"" if cell is None else cell.identity) != expected[number]:
                        filled.append(Filled(Outcome.CONFLICT))
                        continue
                self._end_lease(key)
                filled.append(self._store(key, draft, moment))
        self._check_room(filled)
        return filled

    def _store(self, key: str, draft: Draft, moment: Moment | None) -> Filled:
        """Store a draft if no invalidation has passed since its moment (R1.4, R4.2); the lock is held."""
        stamps, created = self._stamps, self._tick()
        if moment is None:
            moment = Moment(stamps.epoch, created)
        as_of = moment.clock
        if moment.epoch != stamps.epoch or as_of <= stamps.barrier:
            return Filled(Outcome.REFUSED)
        entry = Entry.of(draft, epoch=stamps.epoch, as_of=as_of, created=created)
        if not stamps.allows(stamps.epoch, (*entry.tags, (key_tag(key), as_of))):
            return Filled(Outcome.OVERTAKEN)
        identity = b"%d/%d/%d" % (entry.epoch, as_of, created)
        expires = created + int(draft.keep * MICROSECONDS)
        size = self._cells.put(key, Cell(entry, expires, identity))
        stamps.attach(entry.tags, expires, created)
        return Filled(Outcome.STORED, size)

    def _check_room(self, filled: Iterable[Filled]) -> None:
        for each in filled:
            if each.size > self._max_bytes:
                raise StoreFullError(
                    f"an entry of {each.size} bytes is over RCACHE_L1_BYTES = {self._max_bytes}: it was not kept"
                )

    def holds(self, lease: Lease) -> bool:
        """Whether it is a lease of this store that has not ended."""
        held = self._leases.get(lease.key)
        return held is not None and held.token == lease.token

    def returned(self, lease: Lease) -> None:
        """See :meth:`Store.returned`: nothing renews a lease here."""

    def release(self, leases: Sequence[Lease], *, pass_for: float = 0.0, failed: bool = False) -> None:
        """See :meth:`Store.release`."""
        with self._lock:
            now = self._now()
            for key, token in leases:
                held = self._leases.get(key)
                if held is None or held.token != token:
                    continue
                if pass_for > 0:
                    marker = ("f" if failed else "p") + token[1:]
                    self._hold(key, _Held(marker, now + int(pass_for * MICROSECONDS)))
                elif not held.is_marker:
                    self._end_lease(key)
            self._remove_leases(len(leases), now)

    # Invalidating

    def delete(self, keys: Sequence[str], *, is_stamped: bool = True) -> int:
        """See :meth:`Store.delete`."""
        with self._lock:
            now = self._tick()
            removed = 0
            for key in keys:
                self._end_lease(key)
                cell = self._live(key, now)
                if cell is not None:
                    removed += self._stamps.validates(cell.entry)
                    self._cells.drop(key)
            if is_stamped:
                self._stamps.stamp([key_tag(key) for key in keys], now)
            return removed

    def seize(self, key: str, token: str) -> Seized:
        """See :meth:`Store.seize`."""
        with self._lock:
            cell = self._live(key, self._now())
            origin = "" if cell is None else cell.entry.origin
        self.delete([key])
        with self._lock:
            now = self._tick()
            moment = Moment(self._stamps.epoch, now)
            self._hold(key, _Held(token, now + int(self._lease * MICROSECONDS), moment))
            return Seized(moment, origin)

    @property
    def queues(self) -> Sequence[Queues]:
        """See :attr:`Store.queues`: what is written behind here is applied at once."""
        return ()

    def queues_for(self, key: str) -> Queues:
        """See :meth:`Store.queues_for`."""
        raise StoreUnavailableError("memory:// has no queues of writes: set RCACHE_URL")

    def invalidate(self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False) -> int:
        """See :meth:`Store.invalidate`."""
        with self._lock:
            now = self._tick()
            if everything:
                self._stamps.raise_floor(now)
                return self._cells.clear()
            self._stamps.stamp([*tags, *map(type_tag, types)], now)
            return sum([self._cells.drop(key) for name in types for key in self._cells.keys_of(name)])

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> int:
        """See :meth:`Store.invalidate_pattern`."""
        matches = glob_regex(pattern).fullmatch
        with self._lock:
            self._stamps.barrier = self._tick()
            self._tick()  # what begins from here on has a moment after the barrier
            return sum([self._cells.drop(key) for key in self._cells if matches(key)])

    def stamp_ahead(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.stamp_ahead`; who commits lives as long as the store does, so nothing renews it."""
        with self._lock:
            self._tick()
            self._stamps.stamp_ahead(tags, token)

    def settle(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.settle`."""
        with self._lock:
            self._stamps.end_commit(tags, token, self._tick(), withdrawn=False)

    def withdraw(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.withdraw`."""
        with self._lock:
            self._stamps.end_commit(tags, token, self._tick(), withdrawn=True)

    def forget(self) -> None:
        """Let everything go; what is loading, or was heard, is of another epoch from here on."""
        with self._lock:
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._cells.clear()
        self._leases.clear()
        self._lease_ends.clear()
        self._stamps = self._new_stamps()
        self._validity.changed()

    def reset_after_fork(self) -> None:
        """See :class:`~flask_rcache.model.forks.ForkAware`: the parent's loads never end here."""
        self._leases.clear()
        self._lease_ends.clear()
        self._stamps.end_all_commits(self._last)
        if self._lock.locked():  # a thread of the parent was in the midst of a change
            self._begin_anew()

    # Listing

    @property
    def missing(self) -> list[str]:
        """See :attr:`Catalogue.missing`: all there is lies here."""
        return []

    def entries(self, type_name: str | None, pattern: str | None) -> Iterator[Listed]:
        """See :meth:`Catalogue.entries`."""
        root = self._names.entries if type_name is None else self._names.entry(type_name, "")
        matches = glob_regex(pattern).fullmatch if pattern is not None else None
        with self._lock:
            now = self._now()
            cells = [
                (key, cell)
                for key, cell in self._cells.items()
                if key.startswith(root) and (matches is None or matches(key))
            ]
            listed = [self._listed(key, cell, now) for key, cell in cells]
        yield from filter(None, listed)

    def _listed(self, key: str, cell: Cell, now: int) -> Listed | None:
        entry = cell.entry
        if cell.expires <= now or entry.freshness(now) is Freshness.EXPIRED or not self._stamps.validates(entry):
            return None
        return Listed.of(key, entry, now=now, size=cell.size)

    def page(self, type_name: str | None, pattern: str | None, cursor: str | None, limit: int) -> Page:
        """See :meth:`Catalogue.page`."""
        matches = None if pattern is None else glob_regex(pattern).fullmatch
        with self._lock:
            now = self._now()
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
        """See :meth:`Catalogue.inspect`."""
        with self._lock:
            cell = self._cells.get(key)
            return None if cell is None else self._listed(key, cell, self._now())

    def sizes(self, types: Sequence[str]) -> dict[str, Size]:
        """See :meth:`Catalogue.sizes`."""
        with self._lock:
            return {name: Size(*self._cells.size_of(name)) for name in {*types, *self._cells.types()}}

    def state(self) -> dict[str, Any]:
        """See :meth:`Catalogue.state`."""
        with self._lock:
            cells = self._cells.state()
        return {
            "store": {"kind": "memory", "location": self.location, "server": None, "warnings": []},
            "topology": None,
            "memory_tier": cells,
            "bus": None,
            "breaker": {"is_open": False, "incidents": 0},
            "journal": {"pending": 0},
        }

    def activity(self) -> None:
        """See :meth:`Catalogue.activity`: this process is all there is."""

    def counts(self, types: Sequence[str]) -> None:
        """See :meth:`Catalogue.counts`: this process is all there is."""

    def count_from(self, source: CountsSource) -> None:
        """See :meth:`Catalogue.count_from`: nobody else asks for them."""

    def close(self) -> None:
        """See :meth:`Store.close`."""
        self.forget()
