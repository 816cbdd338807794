"""The tiered store: a memory tier in front of Redis, and what stands in while Redis is away.

Owns rule R5: what the memory tier may serve, and for how long. Its entries are checked against the stamps that came in
over the bus; none is used for longer than its ``l1_ttl``, counted from when the read was sent; and nothing is used
while the bus is not known to be alive. The connections, the bus and the journal are the Redis store's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..errors import StoreUnavailableError
from ..model import forks
from ..model.entry import MICROSECONDS, Draft, Entry, Moment, is_valid
from ..model.keys import Names, key_tag
from .glob import glob_regex
from .lru import Cell, Checked, Lru
from .memory import MemoryStore
from .protocol import (
    Begun,
    Filled,
    Incident,
    Lease,
    LoadedResult,
    Lookup,
    Outcome,
    Seized,
    Want,
)
from .redis.bus import Message
from .redis.steps import Steps
from .redis.store import RedisStore
from .timetable import Timetable

if TYPE_CHECKING:
    from .queueing import Queues

__all__ = ["TieredStore"]

_SECOND: Final = 10**9
#: Stamps that came in are kept as long as an entry may be held, and for this long at least: a read takes its time too.
_KEPT_NS: Final = 2 * _SECOND
_STAMPS_LIMIT: Final = 100_000
_STEPS: Final = 8


class TieredStore:
    """A memory tier over a Redis store.

    Args:
        redis: the shared store.
        names: the key names.
        max_bytes: the memory tier's budget.
        outage_ttl: seconds a result is kept in this process while Redis is away; 0 for not at all.

    Attributes:
        redis: the shared store.
        catalogue: the operators' half, which is the shared store's; it shows the memory tier too.
    """

    def __init__(self, redis: RedisStore, *, names: Names, max_bytes: int, outage_ttl: float) -> None:
        self.redis: Final = redis
        self._is_alive: Final = redis.bus.alive
        self._lock: Final = forks.new_lock()
        self._validity: Final = redis.validity
        self._cells: Final = Lru(max_bytes, names.type_of, self._validity)
        #: Stamps that came in, by tag, and when (monotonic ns). A tag without one: the entry was checked when it was
        #: read, and no message was missed since.
        self._rows: Final[dict[str, int]] = {}
        self._heard: Final = Timetable()
        #: The store's clock (µs) at the last message that has set a tag ahead, or ended that: they may cross.
        self._ahead: Final[dict[str, int]] = {}
        self._kept = _KEPT_NS
        self._begun = 0  # how often everything was dropped, the stamps included
        self._unknown_before = 0  # monotonic ns; of what was read before, not all stamps are known here
        self._outage_ttl: Final = outage_ttl
        self._outage: Final = MemoryStore(names, max_bytes=max_bytes, lease=redis.lease_seconds)
        self._outage_number = 0
        redis.listener = self
        self.catalogue: Final = redis.catalogue
        redis.catalogue.memory_tier = self.memory_state
        forks.register(self)

    @property
    def lease_seconds(self) -> float:
        """See :attr:`Store.lease_seconds`."""
        return self.redis.lease_seconds

    @property
    def incident(self) -> Incident | None:
        """See :attr:`Store.incident`."""
        return self.redis.incident

    @property
    def moment(self) -> Moment | None:
        """See :attr:`Store.moment`; during an outage, of the store that stands in."""
        outage = self.redis.outage
        return self.redis.moment if outage is None else self._outage_moment(outage)

    def hear(self) -> Moment | None:
        """See :meth:`Store.hear`."""
        outage = self.redis.outage
        return self.redis.hear() if outage is None else self._outage_moment(outage)

    def hear_steps(self) -> Steps[Moment | None]:
        """See :meth:`hear`."""
        outage = self.redis.outage
        return self._outage_moment(outage) if outage is not None else (yield from self.redis.hear_steps())

    # Reading

    def recall(self, key: str, l1_ttl: float) -> Lookup | None:
        """See :meth:`Store.recall`: what the memory tier holds and may serve."""
        return self._recall(key, time.monotonic_ns(), l1_ttl) if l1_ttl else None

    def checked(self, key: str, l1_ttl: float) -> Checked | None:
        """See :meth:`Store.checked`."""
        cell = self._cells.get(key)
        if cell is None:
            return None
        until = min(cell.expires, cell.read_at + int(l1_ttl * _SECOND))
        return Checked(cell, self._validity, until, self._is_alive)

    def read(self, key: str, tags: tuple[str, ...], l1_ttl: float = 0.0) -> Lookup:
        """See :meth:`Store.read`; from memory, without a round trip, when it may be."""
        if not l1_ttl:
            return self.redis.read(key, tags)
        sent = time.monotonic_ns()
        lookup = self._recall(key, sent, l1_ttl)
        if lookup is not None:
            return lookup
        try:
            lookup = self.redis.read(key, tags)
        except StoreUnavailableError as error:
            return self._during_outage(key, l1_ttl, error)
        self._keep(key, lookup, sent, l1_ttl)
        return lookup

    def read_many(self, keys: Sequence[str], tags: tuple[str, ...], l1_ttl: float = 0.0) -> list[Lookup]:
        """See :meth:`Store.read_many`; the memory tier answers what it can."""
        return self.redis.drive(self.read_many_steps(keys, tags, l1_ttl))

    def read_many_steps(self, keys: Sequence[str], tags: tuple[str, ...], l1_ttl: float = 0.0) -> Steps[list[Lookup]]:
        """See :meth:`read_many`."""
        if not l1_ttl:
            return (yield from self.redis.read_many_steps(keys, tags))
        sent = time.monotonic_ns()
        found = {key: lookup for key in keys if (lookup := self._recall(key, sent, l1_ttl)) is not None}
        rest = [key for key in keys if key not in found]
        if rest:
            try:
                lookups = yield from self.redis.read_many_steps(rest, tags)
            except StoreUnavailableError as error:
                lookups = [self._during_outage(key, l1_ttl, error) for key in rest]
            else:
                for key, lookup in zip(rest, lookups, strict=True):
                    self._keep(key, lookup, sent, l1_ttl)
            found.update(zip(rest, lookups, strict=True))
        return [found[key] for key in keys]

    # The memory tier (R5)

    def _recall(self, key: str, now: int, l1_ttl: float) -> Lookup | None:
        """The entry in memory, if it may be used at ``now`` (monotonic ns) and was read within ``l1_ttl`` seconds."""
        begun, cells = self._begun, self._cells
        cell = cells.get(key)
        if cell is None or not self._is_alive(now):
            return None
        moment = self.redis.moment
        if moment is None:
            return None
        # Without the lock, which costs a hit as much as all of this: a stamp that comes in meanwhile is a later one.
        if cell.expires <= now or not is_valid(cell.entry, moment.epoch, 0, 0, self._rows):
            with self._lock:
                if cells.get(key) is cell:
                    cells.drop(key)
            return None
        since = now - cell.read_at
        if since >= l1_ttl * _SECOND:  # this call wants it younger than the one that kept it
            return None
        if self._begun != begun:  # the stamps may have gone before they were compared
            return None
        try:
            cells.used(key)
        except KeyError:
            return None  # it was dropped meanwhile
        # The store's clock goes on as this process's monotonic one does, for the two seconds that this may last.
        return Lookup(cell.entry, cell.now + since // 1000, cell.identity, "", cell.stored_size)

    def _keep(self, key: str, lookup: Lookup, sent: int, l1_ttl: float) -> None:
        """Keep what was just read, unless it is not known that it is still valid.

        Args:
            key: the stored key.
            lookup: what was found.
            sent: when the read was sent, monotonic ns.
            l1_ttl: seconds it may be used, from then on.
        """
        if self._outage_number:
            self._leave_outage()
        entry = lookup.entry
        if entry is None:
            return
        held = int(l1_ttl * _SECOND)
        cell = Cell(entry, sent + held, lookup.identity, now=lookup.now, read_at=sent, stored_size=lookup.size)
        with self._lock:  # so that a distrust that comes now finds the cell, and clears it
            if sent <= self._unknown_before or not self.redis.bus.heard_since(sent):
                return
            self._kept = max(self._kept, held)
            if self._is_current(key, entry):
                self._cells.put(key, cell)

    def _is_current(self, key: str, entry: Entry) -> bool:
        """Whether nothing that came in since invalidates or replaces an entry; the lock is held."""
        return entry.created >= self._rows.get(key_tag(key), 0) and is_valid(entry, entry.epoch, 0, 0, self._rows)

    def apply(self, message: Message) -> None:
        """See :class:`~.redis.bus.Listener`: one made elsewhere, or this process's own before its call returns."""
        kind, stamp, now = message.kind, message.stamp, time.monotonic_ns()
        with self._lock:
            if kind == "*":
                self._begin_anew(now)
            elif kind == "s":
                self._set_rows(message, now)
            elif kind == "p":
                for pattern in message.names:
                    self._drop_matching(pattern, stamp)
                self._unknown_before = now
            else:
                for name in message.names:
                    if kind == "k":
                        self._drop_older(name, stamp)
                    tag = key_tag(name) if kind == "k" else name  # a key's variants have it as a tag
                    self._rows[tag] = max(self._rows.get(tag, 0), stamp)
                    self._heard[tag] = now
                    if stamp > message.clock or tag in self._ahead:  # a message of kind "s" says when that is over
                        self._ahead[tag] = max(self._ahead.get(tag, 0), message.clock)
                self._forget(len(message.names), now)
            self._validity.changed()

    def _set_rows(self, message: Message, now: int) -> None:
        """Rows that had been set ahead are these, if nothing was heard of them that is later than that."""
        for tag in message.names:
            heard = self._ahead.get(tag)
            if heard is not None and message.clock >= heard:
                self._rows[tag] = message.stamp
                self._ahead[tag] = message.clock
            else:
                self._rows[tag] = max(self._rows.get(tag, 0), message.stamp)
            self._heard[tag] = now
        self._forget(len(message.names), now)

    def _drop_older(self, key: str, stamp: int) -> None:
        cell = self._cells.get(key)
        if cell is not None and cell.entry.created < stamp:
            self._cells.drop(key)

    def _drop_matching(self, pattern: str, stamp: int) -> None:
        matches = glob_regex(pattern).fullmatch
        for key in self._cells:
            if matches(key):
                self._drop_older(key, stamp)

    def _forget(self, added: int, now: int) -> None:
        """Forget stamps that came in before everything that is held was read: Redis had them then."""
        if len(self._rows) > _STAMPS_LIMIT:
            self._begin_anew(now)
            return
        before = now - self._kept
        steps = _STEPS * (added + 1)
        forgotten = self._heard.take(steps, steps=steps, until=before)
        for tag in forgotten:
            del self._rows[tag]
            self._ahead.pop(tag, None)
        if forgotten:
            self._unknown_before = max(self._unknown_before, before)

    def _begin_anew(self, now: int) -> None:
        """Drop everything, what is being read now included; the lock is held.

        What is read from here on was checked in Redis after all stamps that came in, so they are not needed any more.
        """
        self._begun += 1  # first: who compares now must see it afterwards
        self._cells.clear()
        self._rows.clear()
        self._ahead.clear()
        self._heard.clear()
        self._unknown_before = now
        self._validity.changed()

    def distrust(self) -> None:
        """See :class:`~.redis.bus.Listener`: what is held is no longer known to be valid."""
        with self._lock:
            self._begin_anew(time.monotonic_ns())

    def reset_after_fork(self) -> None:
        """See :class:`~flask_rcache.model.forks.ForkAware`: nobody listens here before the bus runs again."""
        self._begin_anew(time.monotonic_ns())

    # Loading

    def begin(self, wants: Sequence[Want], token: str, moment: Moment | None) -> list[Begun]:
        """See :meth:`Store.begin`."""
        return self.redis.drive(self.begin_steps(wants, token, moment))

    def begin_steps(self, wants: Sequence[Want], token: str, moment: Moment | None) -> Steps[list[Begun]]:
        """See :meth:`begin`."""
        try:
            return (yield from self.redis.begin_steps(wants, token, moment))
        except StoreUnavailableError:
            outage = self.redis.outage
            if not self._outage_ttl or outage is None:
                raise
            self._enter(outage)
            return self._outage.begin(wants, token, moment)

    def fill(self, results: Sequence[LoadedResult]) -> list[Filled]:
        """See :meth:`Store.fill`; what was begun during an outage stays in this process, and ends with the outage."""
        return self.redis.drive(self.fill_steps(results))

    def fill_steps(self, results: Sequence[LoadedResult]) -> Steps[list[Filled]]:
        """See :meth:`fill`."""
        if results and results[0].moment.epoch == self._outage.epoch:
            outage = self.redis.outage
            if outage is None or outage.number != self._outage_number:
                # Others may have invalidated it meanwhile, which the store that stood in has not heard: only who was
                # there before the load began may have it.
                self._outage.release([result.lease for result in results])
                return [Filled(Outcome.REFUSED)] * len(results)
            ttl = self._outage_ttl
            return self._outage.fill([result._replace(draft=result.draft.shortened(ttl)) for result in results])
        filled = yield from self.redis.fill_steps(results)
        self._drop([result.lease.key for result in results])
        return filled

    def write(
        self, writes: Sequence[tuple[str, Draft]], moment: Moment | None, expected: Sequence[bytes] | None = None
    ) -> list[Filled]:
        """See :meth:`Store.write`."""
        return self.redis.drive(self.write_steps(writes, moment, expected))

    def write_steps(
        self, writes: Sequence[tuple[str, Draft]], moment: Moment | None, expected: Sequence[bytes] | None = None
    ) -> Steps[list[Filled]]:
        """See :meth:`write`."""
        try:
            return (yield from self.redis.write_steps(writes, moment, expected))
        finally:
            self._drop([key for key, _ in writes])

    def _drop(self, keys: Sequence[str]) -> None:
        """What this process holds of keys is older: who has just refreshed or set them must see it."""
        with self._lock:
            for key in keys:
                self._cells.drop(key)

    def returned(self, lease: Lease) -> None:
        """See :meth:`Store.returned`."""
        self.redis.returned(lease)

    def release(self, leases: Sequence[Lease], *, pass_for: float = 0.0, failed: bool = False) -> None:
        """See :meth:`Store.release`."""
        self.redis.drive(self.release_steps(leases, pass_for=pass_for, failed=failed))

    def release_steps(self, leases: Sequence[Lease], *, pass_for: float = 0.0, failed: bool = False) -> Steps[None]:
        """See :meth:`release`."""
        local = [lease for lease in leases if self._outage.holds(lease)]
        if local:
            self._outage.release(local, pass_for=min(pass_for, self._outage_ttl), failed=failed)
        if len(local) < len(leases):
            shared = [lease for lease in leases if lease not in local]
            yield from self.redis.release_steps(shared, pass_for=pass_for, failed=failed)

    # Invalidating: Redis first, whose acknowledgement comes back through apply(); then nothing here is older.

    def delete(self, keys: Sequence[str], *, is_stamped: bool = True) -> int:
        """See :meth:`Store.delete`."""
        return self.redis.drive(self.delete_steps(keys, is_stamped=is_stamped))

    def delete_steps(self, keys: Sequence[str], *, is_stamped: bool = True) -> Steps[int]:
        """See :meth:`delete`."""
        try:
            return (yield from self.redis.delete_steps(keys, is_stamped=is_stamped))
        finally:
            if self._is_unacknowledged():
                self._outage.delete(keys, is_stamped=is_stamped)

    def seize(self, key: str, token: str) -> Seized:
        """See :meth:`Store.seize`."""
        self._drop([key])
        return self.redis.seize(key, token)

    @property
    def queues(self) -> Sequence[Queues]:
        """See :attr:`Store.queues`."""
        return self.redis.queues

    def queues_for(self, key: str) -> Queues:
        """See :meth:`Store.queues_for`."""
        return self.redis.queues_for(key)

    def invalidate(self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False) -> int:
        """See :meth:`Store.invalidate`."""
        return self.redis.drive(self.invalidate_steps(tags, types, everything=everything))

    def invalidate_steps(
        self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False
    ) -> Steps[int]:
        """See :meth:`invalidate`."""
        try:
            return (yield from self.redis.invalidate_steps(tags, types, everything=everything))
        finally:
            if self._is_unacknowledged():
                self._outage.invalidate(tags, types, everything=everything)

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> int:
        """See :meth:`Store.invalidate_pattern`."""
        return self.redis.drive(self.invalidate_pattern_steps(pattern, type_name))

    def invalidate_pattern_steps(self, pattern: str, type_name: str | None) -> Steps[int]:
        """See :meth:`invalidate_pattern`."""
        try:
            return (yield from self.redis.invalidate_pattern_steps(pattern, type_name))
        finally:
            if self._is_unacknowledged():
                self._outage.invalidate_pattern(pattern, type_name)

    def stamp_ahead(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.stamp_ahead`."""
        self.redis.drive(self.stamp_ahead_steps(tags, token))

    def stamp_ahead_steps(self, tags: Sequence[str], token: str) -> Steps[None]:
        """See :meth:`stamp_ahead`."""
        try:
            yield from self.redis.stamp_ahead_steps(tags, token)
        finally:
            if self._is_unacknowledged():
                self._outage.stamp_ahead(tags, token)

    def settle(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.settle`."""
        self.redis.drive(self.end_commit_steps(tags, token, withdrawn=False))

    def withdraw(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.withdraw`."""
        self.redis.drive(self.end_commit_steps(tags, token, withdrawn=True))

    def end_commit_steps(self, tags: Sequence[str], token: str, *, withdrawn: bool) -> Steps[None]:
        """See :meth:`settle` and :meth:`withdraw`."""
        try:
            yield from self.redis.end_commit_steps(tags, token, withdrawn=withdrawn)
        finally:
            if withdrawn:
                if self.redis.outage is not None:
                    self._outage.withdraw(tags, token)
            elif self._is_unacknowledged():
                self._outage.settle(tags, token)

    def _is_unacknowledged(self) -> bool:
        """Whether Redis is away, so that no stamp came back: then nothing in memory is known to be valid."""
        if self.redis.outage is None:
            return False
        with self._lock:
            self._begin_anew(time.monotonic_ns())
        return True

    # While Redis is away

    def _during_outage(self, key: str, l1_ttl: float, error: StoreUnavailableError) -> Lookup:
        outage = self.redis.outage
        if not self._outage_ttl or outage is None:
            raise error
        self._enter(outage)
        lookup = self._outage.read(key, ())
        entry = lookup.entry
        # Counted from when its load began: what it read may have been outdated right after.
        if entry is not None and lookup.now - entry.as_of >= l1_ttl * MICROSECONDS:
            lookup = Lookup(None, lookup.now, lookup.identity)
        lookup.error = error
        return lookup

    def _outage_moment(self, outage: Incident) -> Moment | None:
        if not self._outage_ttl:
            return None
        self._enter(outage)
        return self._outage.tick()

    def _enter(self, outage: Incident) -> None:
        """What an earlier outage left is older than what came after it, and so is what was begun in it."""
        if outage.number != self._outage_number:
            with self._lock:
                if outage.number != self._outage_number:
                    self._outage.forget()
                    self._outage_number = outage.number

    def _leave_outage(self) -> None:
        """Redis has answered: what stood in takes no room any more."""
        with self._lock:
            if self.redis.outage is None:
                self._outage_number = 0
                self._outage.forget()

    # The rest

    def memory_state(self) -> dict[str, int]:
        """Entries, bytes and the budget of the memory tier."""
        with self._lock:
            return self._cells.state()

    def close(self) -> None:
        """See :meth:`Store.close`."""
        self.redis.close()
        self.distrust()
