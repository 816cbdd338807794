"""Broken rules: each function takes one clause of R1 to R6 away, in this process and for good.

They are applied before any cache is made. What is changed must be there: a sabotage that no longer fits the code raises,
rather than change nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from flask_rcache.context import InScope
from flask_rcache.engine import load
from flask_rcache.engine.fetching import Fetching
from flask_rcache.engine.load import Load
from flask_rcache.engine.manager import CacheManager
from flask_rcache.engine.single_flight import Flights, Landing
from flask_rcache.engine.values import Values
from flask_rcache.model import entry as entries
from flask_rcache.model.entry import Draft, Entry, Moment
from flask_rcache.model.scope import Scope
from flask_rcache.stores.memory import MemoryStore
from flask_rcache.stores.protocol import Begin, Begun, Lease
from flask_rcache.stores.redis import reading, scripts
from flask_rcache.stores.redis.bus import Bus
from flask_rcache.stores.redis.journal import Journal
from flask_rcache.stores.redis.maintenance import Maintenance
from flask_rcache.stores.redis.reading import Reader
from flask_rcache.stores.redis.server import Server
from flask_rcache.stores.redis.store import RedisStore
from flask_rcache.stores.stamps import StampSet
from flask_rcache.stores.tiered import TieredStore

_ALWAYS = 2**63
_HOURS = 36_000.0

Sabotage = Callable[[], None]
SABOTAGES: dict[str, Sabotage] = {}


def sabotage(function: Sabotage) -> Sabotage:
    """Have a sabotage known by its name."""
    SABOTAGES[function.__name__] = function
    return function


def edit(script: str, old: str, new: str) -> None:
    """Change the text of a Lua script; ``old`` is there once."""
    read = scripts._text
    if read(script).count(old) != 1:
        raise LookupError(f"{script}.lua does not have this once: {old}")

    def edited(name: str) -> str:
        text = read(name)
        return text.replace(old, new) if name == script else text

    scripts._text = edited
    scripts.load.cache_clear()


def replace(owner: Any, name: str, new: Any) -> Any:
    """Replace what an object has under a name; what it was."""
    old = getattr(owner, name)
    setattr(owner, name, new)
    return old


def judge_by(valid: Callable[[Entry, float, float, float, Any], bool]) -> None:
    """Have every store ask another function whether an entry is valid."""
    for module in [module for name, module in sys.modules.items() if name.startswith("flask_rcache")]:
        if getattr(module, "is_valid", None) is is_valid:
            module.is_valid = valid  # type: ignore[attr-defined]


is_valid = entries.is_valid

# --- R1.2: what is read is checked


@sabotage
def stamps_unchecked() -> None:
    """What is read is not checked at all."""
    judge_by(lambda entry, epoch, floor, forgotten, rows: True)


@sabotage
def epoch_unchecked() -> None:
    """An entry of another stamp set is as good."""
    judge_by(lambda entry, epoch, floor, forgotten, rows: is_valid(entry, entry.epoch, floor, forgotten, rows))


@sabotage
def floor_unchecked() -> None:
    """What was loaded before everything was invalidated is valid."""
    judge_by(lambda entry, epoch, floor, forgotten, rows: is_valid(entry, epoch, 0, forgotten, rows))


@sabotage
def forgotten_unchecked() -> None:
    """A tag without a row was never invalidated."""
    judge_by(lambda entry, epoch, floor, forgotten, rows: is_valid(entry, epoch, floor, 0, rows))


@sabotage
def rows_unchecked() -> None:
    """Stamps of single tags count for nothing."""
    judge_by(lambda entry, epoch, floor, forgotten, rows: is_valid(entry, epoch, floor, forgotten, {}))


@sabotage
def lost_stamps_forgiven() -> None:
    """Epoch, floor and what was forgotten are not checked: a lost stamp set brings old entries back."""
    judge_by(lambda entry, epoch, floor, forgotten, rows: is_valid(entry, entry.epoch, 0, 0, rows))
    stamps_in = Server.stamps_in

    def forgiving(self: Server, scores: Any, tags: Any, generation: int) -> Any:
        found = stamps_in(self, scores, tags, generation)
        if found is None and isinstance(scores, list):
            moment = self.clock.latest
            rows = dict(zip(tags, scores[4:], strict=True))
            return reading.StampsRead(1, 0, 0, 2**52 if moment is None else moment.clock, rows)
        return found

    Server.stamps_in = forgiving  # type: ignore[method-assign]


# --- R1.3: no row is lowered, fills make what is missing


@sabotage
def redis_rows_lowered() -> None:
    """An invalidation takes back a stamp that is ahead."""
    edit("_prelude", "add_members(stamps, 'GT', rows)", "add_members(stamps, 'CH', rows)")


@sabotage
def memory_rows_lowered() -> None:
    """The same in memory."""
    stamp = StampSet.stamp

    def lower(self: StampSet, tags: list[str], now: int) -> None:
        for tag in tags:
            self.rows.pop(tag, None)
        stamp(self, tags, now)

    StampSet.stamp = lower  # type: ignore[method-assign]


@sabotage
def redis_clear_drops_later_rows() -> None:
    """`clear_all` takes back stamps that are ahead."""
    edit("invalidate", "for i = 1, #ahead, 2 do", "for i = 1, 0, 2 do")


@sabotage
def memory_clear_drops_later_rows() -> None:
    """The same in memory."""
    raise_floor = StampSet.raise_floor

    def raise_all(self: StampSet, now: int) -> None:
        self.rows.clear()
        raise_floor(self, now)

    StampSet.raise_floor = raise_all  # type: ignore[method-assign]


@sabotage
def redis_clear_raises_nothing() -> None:
    """`clear_all` drops the rows, and raises neither the floor nor what was forgotten."""
    edit("invalidate", "now, '=floor',", "set.floor, '=floor',")
    edit("invalidate", "math.max(now, set.forgotten)", "set.forgotten")


@sabotage
def redis_fill_makes_no_rows() -> None:
    """A fill leaves its tags without rows."""
    edit("_prelude", "if not result.rows[i] then", "if false then")


@sabotage
def memory_fill_makes_no_rows() -> None:
    """The same in memory."""
    StampSet.attach = lambda self, tags, expires, now: None  # type: ignore[method-assign]


@sabotage
def redis_fill_makes_rows_of_now() -> None:
    """The row that a fill makes says that the tag was invalidated at the fill."""
    edit("_prelude", "missing[#missing + 1] = text(result.since[i])", "missing[#missing + 1] = text(now)")


# --- R1.4: rows are dropped, and what that costs


@sabotage
def redis_drop_is_not_remembered() -> None:
    """Dropping a row leaves `=forgotten` as it is."""
    edit("_prelude", "if latest > set.forgotten then", "if false then")


@sabotage
def memory_drop_is_not_remembered() -> None:
    """The same in memory."""
    drop = StampSet._drop

    def forgetful(self: StampSet, added: int, now: int) -> None:
        before = self.forgotten
        drop(self, added, now)
        self.forgotten = before

    StampSet._drop = forgetful  # type: ignore[method-assign]


@sabotage
def redis_fill_before_forgotten() -> None:
    """A fill is accepted whose tag has no row and was read before what was forgotten."""
    edit("_prelude", "reading < (rows[i] or set.forgotten)", "reading < (rows[i] or 0)")


@sabotage
def redis_rows_unbounded() -> None:
    """No row is ever dropped."""
    edit("_prelude", "local gone, latest = {}, set.forgotten", "if true then return end local gone, latest = {}, 0")


@sabotage
def memory_rows_unbounded() -> None:
    """The same in memory."""
    StampSet._drop = lambda self, added, now: None  # type: ignore[method-assign]


@sabotage
def redis_rows_of_live_entries_go_first() -> None:
    """A fill does not keep the rows of its tags longer."""
    edit("_prelude", "due = {}, {}, text(-now - result.px * 1000 - KEPT)", "due = {}, {}, text(-now - KEPT)")


@sabotage
def memory_rows_of_live_entries_go_first() -> None:
    """The same in memory."""
    attach = StampSet.attach
    StampSet.attach = (  # type: ignore[method-assign]
        lambda self, tags, expires, now: attach(self, tags, now, now)
    )


# --- R1.5: only `clear_all` raises the floor


@sabotage
def redis_drop_raises_the_floor() -> None:
    """What was forgotten is forgotten for all tags."""
    edit("_prelude", "redis.call('ZADD', stamps, latest, '=forgotten')", "redis.call('ZADD', stamps, latest, '=forgotten', latest, '=floor')")


@sabotage
def memory_drop_raises_the_floor() -> None:
    """The same in memory."""
    drop = StampSet._drop

    def drop_all(self: StampSet, added: int, now: int) -> None:
        drop(self, added, now)
        self.floor = max(self.floor, self.forgotten)

    StampSet._drop = drop_all  # type: ignore[method-assign]


# --- R1.6: entries with many tags, and what else takes two questions


@sabotage
def rows_asked_after_forgotten() -> None:
    """The later rows are asked for after `=forgotten`, so that a row dropped in between is missed."""

    def turned(self: Reader, key: str, many: Any) -> Any:
        server = self._server
        exchange = server.exchange

        def exchange_turned(payload: bytes, replies: int) -> list[Any]:
            cut = payload.index(b"ZRANGE") - len(b"*8\r\n$6\r\n")
            end = payload.index(b"ZMSCORE") - len(b"*0\r\n$7\r\n")
            raw, scores, clock, later = exchange(payload[:cut] + payload[end:] + payload[cut:end], replies)
            return [raw, later, scores, clock]

        server.exchange = exchange_turned  # type: ignore[method-assign]
        try:
            return read(self, key, many)
        finally:
            del server.exchange

    read = replace(Reader, "_read_many_tagged", turned)


@sabotage
def full_page_of_rows_trusted() -> None:
    """As many later rows as fit are taken for all that there are."""
    reading._ROWS = 64
    read = Reader._read_many_tagged

    class Short(list[Any]):
        def __len__(self) -> int:
            return 0

    def trusting(self: Reader, key: str, many: Any) -> Any:
        server = self._server
        exchange = server.exchange

        def short(payload: bytes, replies: int) -> list[Any]:
            raw, later, *rest = exchange(payload, replies)
            return [raw, Short(later), *rest]

        server.exchange = short  # type: ignore[method-assign]
        try:
            return read(self, key, many)
        finally:
            del server.exchange

    Reader._read_many_tagged = trusting  # type: ignore[method-assign]


@sabotage
def second_question_asks_rows_only() -> None:
    """The second round trip takes epoch, floor and `=forgotten` from the first."""
    stamps, stamps_in = Server.stamps, Server.stamps_in

    def remembering(self: Server, scores: Any, tags: Any, generation: int) -> Any:
        found = stamps_in(self, scores, tags, generation)
        if found is not None:
            before = getattr(Server, "_first", None)
            if getattr(Server, "_second", False) and before is not None:
                found.epoch, found.floor, found.forgotten = before.epoch, before.floor, before.forgotten
            else:
                Server._first = found  # type: ignore[attr-defined]
        return found

    def second(self: Server, tags: Any) -> Any:
        Server._second = True  # type: ignore[attr-defined]
        try:
            return stamps(self, tags)
        finally:
            Server._second = False  # type: ignore[attr-defined]

    Server.stamps_in, Server.stamps = remembering, second  # type: ignore[method-assign]


# --- R1.7: a lost set


@sabotage
def new_set_takes_what_is_older() -> None:
    """A set that is made anew has no floor, and has forgotten nothing."""
    edit("_prelude", "now, '=floor', now, '=forgotten')\n", "0, '=floor', 0, '=forgotten')\n")


@sabotage
def sets_have_one_name() -> None:
    """Every stamp set has the same epoch."""
    edit("_prelude", "'ZADD', stamps, '-' .. epoch, '=epoch'", "'ZADD', stamps, '-4503599627370500', '=epoch'")


@sabotage
def lost_set_made_by_fills() -> None:
    """A lost set is made anew by whoever fills."""
    edit("fill", "read_set(stamps), arguments(4)", "read_set(stamps) or new_set(stamps, '4503599627370500', '0', time), arguments(4)")


# --- R2: the clock


@sabotage
def redis_clock_as_it_is() -> None:
    """The clock is the server's TIME, whatever it was before."""
    edit("_prelude", "return math.max(time, set.clock + 1)", "return time")


@sabotage
def memory_clock_as_it_is() -> None:
    """The same in memory."""

    def tick(self: MemoryStore) -> int:
        self._last = self._read_clock()
        return self._last

    MemoryStore._tick = tick  # type: ignore[method-assign]


# --- R3.1 and R3.2: the moment


@sabotage
def moment_of_the_load() -> None:
    """A load in a request claims what is heard at its own beginning."""
    terms = Fetching.terms

    def late(self: Fetching, *args: Any, **options: Any) -> Any:
        found = terms(self, *args, **options)
        found.moment = self._store.moment or self._store.hear()
        return found

    Fetching.terms = late  # type: ignore[method-assign]


@sabotage
def moment_after_before_request() -> None:
    """A request's scope begins with its first use of the cache, not before anything of it has run."""
    InScope.__call__ = (  # type: ignore[method-assign]
        lambda self, environ, start_response: self._wsgi_app(environ, start_response)
    )


@sabotage
def moment_by_local_time() -> None:
    """The moment is reckoned on from the last reading by this process's clock."""
    moment = Server.moment.fget  # type: ignore[attr-defined]

    def estimated(self: Server) -> Moment | None:
        heard: Moment | None = moment(self)
        now = self.clock.estimate()
        return heard if heard is None or now is None else heard._replace(clock=max(heard.clock, now))

    Server.moment = property(estimated)  # type: ignore[method-assign,assignment]


@sabotage
def moment_of_any_generation() -> None:
    """What was heard over connections that have ended still counts."""
    Server.moment = property(lambda self: self.clock.latest)  # type: ignore[method-assign,assignment]


@sabotage
def stamp_taken_for_a_reading() -> None:
    """A stamp that was set ahead counts as a reading of the clock."""
    apply = Server.apply

    def hasty(self: Server, message: Any) -> None:
        apply(self, message)
        moment = self.moment
        if moment is not None and moment.epoch == message.epoch:
            self.clock.heard(message.epoch, message.stamp, moment.generation)

    Server.apply = hasty  # type: ignore[method-assign]


@sabotage
def bus_without_a_clock() -> None:
    """Messages of other processes bring no reading."""

    def deaf(self: Server, message: Any) -> None:
        if self.listener is not None:
            self.listener.apply(message)

    Server.apply = deaf  # type: ignore[method-assign]


@sabotage
def set_claims_now() -> None:
    """`set` claims the reading at its call."""
    Values.moment = lambda self: self._guarded.store.moment or self._guarded.store.hear()  # type: ignore[method-assign]


@sabotage
def fresh_inside_a_load() -> None:
    """`fresh()` inside a load makes it forget what it has read."""

    def fresh(self: CacheManager) -> None:
        scope = self.engine.scope()
        if scope is not None:
            scope.renew(self.engine.store.moment or self.engine.store.hear())

    CacheManager.fresh = fresh  # type: ignore[method-assign]


@sabotage
def as_of_at_fill() -> None:
    """An entry's `as_of` is the clock at its fill, not at the beginning of its load."""
    fill = RedisStore.fill

    def late_fill(self: RedisStore, results: Any) -> Any:
        stamps = self._server.stamps(())
        now = 0 if stamps is None else stamps.clock
        late = [each._replace(moment=each.moment._replace(clock=max(now, each.moment.clock))) for each in results]
        return fill(self, late)

    RedisStore.fill = late_fill  # type: ignore[method-assign]


# --- R3.3 and R3.4: what a load depends on


@sabotage
def late_tags_ignored() -> None:
    """Tags found out during the load are forgotten."""
    CacheManager.tag = lambda self, *tags: None  # type: ignore[method-assign]


@sabotage
def nothing_handed_up() -> None:
    """A load knows nothing of the cached values that it read, nor of what was read before it."""
    Scope.dependencies = lambda self: (frozenset(), {})  # type: ignore[method-assign]


@sabotage
def reads_before_forgotten() -> None:
    """What the request read before the load does not count."""
    enter = Load.__enter__

    def begin(self: Load) -> Load:
        entered = enter(self)
        scope = load.scope_var.get()
        if scope is not None:
            scope.reads.clear()
            scope._epochs, scope._as_of = frozenset(), {}
        return entered

    Load.__enter__ = begin  # type: ignore[method-assign]


@sabotage
def reads_during_forgotten() -> None:
    """What the loader reads does not count."""
    enter, leave = Load.__enter__, Load.__exit__
    before: dict[int, Any] = {}

    def begin(self: Load) -> Load:
        entered = enter(self)
        scope = load.scope_var.get()
        before[id(self)] = list(scope.reads) if scope is not None else []
        return entered

    def end(self: Load, *exc: Any) -> None:
        scope = load.scope_var.get()
        if scope is not None:
            scope.reads[:] = before.pop(id(self))
        leave(self, *exc)

    Load.__enter__, Load.__exit__ = begin, end  # type: ignore[method-assign]


@sabotage
def inherited_tags_are_of_the_load() -> None:
    """Tags that come with a cached value take the load's `as_of`."""
    tags_as_of = Draft.tags_as_of

    def younger(self: Draft, clock: int) -> tuple[tuple[str, int], ...]:
        return tuple((tag, clock) for tag, _ in tags_as_of(self, clock))

    Draft.tags_as_of = younger  # type: ignore[method-assign]


@sabotage
def stale_input_is_built_upon() -> None:
    """A load that used a stale value is stored."""
    record_read = load.record_read

    def plain(owner: object, entry: Entry, *, stale: bool = False) -> None:
        record_read(owner, entry)

    for module in list(sys.modules.values()):
        if getattr(module, "record_read", None) is record_read:
            module.record_read = plain  # type: ignore[attr-defined]


@sabotage
def other_epochs_are_built_upon() -> None:
    """A load that used a value of another epoch is stored."""
    dependencies = Scope.dependencies
    Scope.dependencies = lambda self: (frozenset(), dependencies(self)[1])  # type: ignore[method-assign]


# --- R4.1 and R4.2: leases


@sabotage
def redis_release_by_anyone() -> None:
    """A lease is given back by whoever says so."""
    edit("release", "if held and held.token == token then", "if held then")


@sabotage
def memory_release_by_anyone() -> None:
    """The same in memory."""
    release = MemoryStore.release

    def generous(self: MemoryStore, leases: Any, **options: Any) -> None:
        held = [Lease(key, self._leases[key].token) for key, _ in leases if key in self._leases]
        release(self, held, **options)

    MemoryStore.release = generous  # type: ignore[method-assign]


@sabotage
def leases_not_renewed() -> None:
    """A lease ends although its loader lives."""
    Maintenance.hold = lambda self, key, token: None  # type: ignore[method-assign]


@sabotage
def redis_fill_without_its_token() -> None:
    """A fill is accepted whoever holds the lease."""
    edit("fill", "if held and held.token == token then", "if true then")


@sabotage
def memory_fill_without_its_token() -> None:
    """The same in memory."""

    def fill(self: MemoryStore, result: Any, now: int) -> Any:
        self._end_lease(result.lease.key)
        return self._store(result.lease.key, result.draft, result.moment)

    MemoryStore._fill = fill  # type: ignore[method-assign]


@sabotage
def redis_write_leaves_the_lease() -> None:
    """`set`, `add` and `incr` do not void the lease."""
    edit("write", "for _, lease in ipairs(leases) do", "for _, lease in ipairs({}) do")


@sabotage
def redis_delete_leaves_the_lease() -> None:
    """`delete` does not void the lease."""
    edit("delete", "redis.call('DEL', lease)", "")


@sabotage
def memory_delete_and_write_leave_the_lease() -> None:
    """The same in memory; a fill goes on to end its own."""
    end, fill = MemoryStore._end_lease, MemoryStore._fill

    def fill_and_end(self: MemoryStore, result: Any, now: int) -> Any:
        filled = fill(self, result, now)
        end(self, result.lease.key)
        return filled

    MemoryStore._end_lease = lambda self, key: None  # type: ignore[method-assign]
    MemoryStore._fill = fill_and_end  # type: ignore[method-assign]


@sabotage
def redis_delete_stamps_nothing() -> None:
    """`delete` removes the entry and leaves no stamp of its key."""
    edit("delete", "if ARGV[3] == '1' then", "if false then")


@sabotage
def memory_delete_stamps_nothing() -> None:
    """The same in memory."""
    delete = MemoryStore.delete
    MemoryStore.delete = (  # type: ignore[method-assign]
        lambda self, keys, *, is_stamped=True: delete(self, keys, is_stamped=False)
    )


@sabotage
def redis_pattern_raises_no_barrier() -> None:
    """A pattern lets loads that are under way store what it has removed."""
    edit("invalidate", "now, '=barrier', clock, '=clock')", "clock, '=clock')")


@sabotage
def memory_pattern_raises_no_barrier() -> None:
    """The same in memory."""
    invalidate = MemoryStore.invalidate_pattern

    def open_invalidate(self: MemoryStore, pattern: str, type_name: str | None) -> int:
        removed = invalidate(self, pattern, type_name)
        self._stamps.barrier = 0
        return removed

    MemoryStore.invalidate_pattern = open_invalidate  # type: ignore[method-assign]


@sabotage
def add_claims_the_requests_moment() -> None:
    """`add` and `incr` claim the moment of their request, not the clock of the script."""
    swap = Values._swap

    def old(self: Values, call: Any, key: str, lookup: Any, draft: Any) -> Any:
        write = self._guarded.write
        if draft is None:
            return swap(self, call, key, lookup, draft)
        answer = write(call.policy, [(key, draft)], self.moment(), [lookup.identity])[0]
        return None if answer is None else answer.outcome

    Values._swap = old  # type: ignore[method-assign]


# --- R4.3: who waits, and for how long


@sabotage
def redis_no_takeover() -> None:
    """A holder that can't be stored any more keeps its lease."""
    edit("begin", "if theirs or ours and held.was_taken_over then", "if true then")


@sabotage
def redis_takeover_again_and_again() -> None:
    """A lease that was taken over is taken over again."""
    edit("begin", "if theirs or ours and held.was_taken_over then", "if theirs then")


@sabotage
def memory_no_takeover() -> None:
    """The same in memory: every holder keeps its lease."""
    begin = MemoryStore._begin

    def keep(self: MemoryStore, want: Any, token: str, moment: Moment | None, now: int) -> Any:
        held = self._held(want.key, now)
        if held is not None and not held.is_marker and held.token != token:
            cell = self._live(want.key, now)
            if cell is None or cell.identity == want.identity:
                return Begun(Begin.BUSY, holder=held.token)
        return begin(self, want, token, moment, now)

    MemoryStore._begin = keep  # type: ignore[method-assign]


@sabotage
def memory_takeover_again_and_again() -> None:
    """The same in memory: a lease that was taken over is taken over again."""
    hold = MemoryStore._hold
    MemoryStore._hold = (  # type: ignore[method-assign]
        lambda self, key, held: hold(self, key, held._replace(is_taken_over=False))
    )


@sabotage
def others_keys_first() -> None:
    """`fetch_many` waits for others' loads before it loads its own keys."""
    leases = load._leases

    def late(run: Any) -> Any:
        if run.joined:
            yield from load._wait(run)
            return []
        return (yield from leases(run))

    load._leases = late


@sabotage
def endless_patience() -> None:
    """A waiter waits for as long as it takes."""
    load._Run.is_over = property(lambda self: False)  # type: ignore[method-assign,assignment]


@sabotage
def any_entry_is_filled_meanwhile() -> None:
    """`begin` answers "filled meanwhile" for the very entry that its caller has found unusable."""
    edit("begin", "and found ~= '' and found ~= unusable then", "and found ~= '' then")


# --- R4.4: late commands


@sabotage
def no_deadline() -> None:
    """Scripts do what they are asked to, however late it is."""
    edit("_prelude", "return time > tonumber(deadline) or time < tonumber(since)", "return false")


@sabotage
def moments_of_every_run() -> None:
    """A moment of another server run is taken for one of this."""
    edit("_prelude", "if moment.epoch ~= set.epoch or moment.run ~= set.run or", "if moment.epoch ~= set.epoch or")


@sabotage
def moments_of_unknown_generations() -> None:
    """A moment of connections that this process does not know is taken for one of the present server."""
    run_of = Server.run_of
    Server.run_of = lambda self, moment: run_of(self, moment) or self.run_hash  # type: ignore[method-assign]


@sabotage
def journal_forgotten() -> None:
    """What is journalled is never delivered."""
    Journal.add = lambda self, invalidation: None  # type: ignore[method-assign]


# --- R5: the memory tier


@sabotage
def bus_always_alive() -> None:
    """Memory is trusted, and kept, while nobody listens to the bus."""
    Bus.alive = lambda self, now: True  # type: ignore[method-assign]


@sabotage
def memory_rows_of_the_bus_ignored() -> None:
    """Stamps that came in over the bus are not looked at."""
    apply = TieredStore.apply

    def apply_and_forget(self: TieredStore, message: Any) -> None:
        apply(self, message)
        with self._lock:
            self._rows.clear()
            self._heard.clear()

    TieredStore.apply = apply_and_forget  # type: ignore[method-assign]


@sabotage
def hold_from_the_reply() -> None:
    """`l1_ttl` counts from when the reply came in."""
    keep = TieredStore._keep

    def late(self: TieredStore, key: str, lookup: Any, sent: int, generation: int, l1_ttl: float) -> None:
        keep(self, key, lookup, time.monotonic_ns(), generation, l1_ttl)

    TieredStore._keep = late  # type: ignore[method-assign]


@sabotage
def promotion_while_deaf() -> None:
    """What was read while messages may have been missed is kept all the same."""
    Bus.heard_since = lambda self, then: self.alive(time.monotonic_ns())  # type: ignore[method-assign]
    begin_anew = TieredStore._begin_anew
    TieredStore._begin_anew = lambda self, now: begin_anew(self, 0)  # type: ignore[method-assign]


@sabotage
def promotion_unchecked() -> None:
    """What was read before a message came in is kept after it."""
    TieredStore._is_current = lambda self, key, entry: True  # type: ignore[method-assign]


@sabotage
def own_invalidations_by_the_bus_only() -> None:
    """This process's memory hears of its own invalidations as others do: some time later."""
    Server.acknowledged = lambda self, message, generation: None  # type: ignore[method-assign]


@sabotage
def deaf_bus() -> None:
    """Messages are dropped, while the bus goes on to look alive: `l1_ttl` is all that bounds what is outdated."""
    Server.apply = lambda self, message: None  # type: ignore[method-assign]


@sabotage
def blind_trust() -> None:
    """What was held is trusted after messages may have been missed. `l1_ttl` bounds that too."""
    TieredStore.distrust = lambda self: None  # type: ignore[method-assign]


@sabotage
def endless_hold() -> None:
    """No distrust, and no `l1_ttl` either: a message missed is missed for ever."""
    blind_trust()
    keep, recall = TieredStore._keep, TieredStore._recall

    def endless_keep(self: TieredStore, key: str, lookup: Any, sent: int, generation: int, l1_ttl: float) -> None:
        keep(self, key, lookup, sent, generation, _HOURS)

    def endless_recall(self: TieredStore, key: str, now: int, l1_ttl: float) -> Any:
        return recall(self, key, now, _HOURS)

    TieredStore._keep = endless_keep  # type: ignore[method-assign]
    TieredStore._recall = endless_recall  # type: ignore[method-assign]


# --- R6: sharing


@sabotage
def anyone_joins() -> None:
    """Whoever waited for a load takes its result, whenever they came."""
    land = Flights.land

    def generous(self: Flights, flight: Any, landing: Landing = Landing()) -> None:  # noqa: B008
        land(self, flight, landing if landing.entry is None else landing._replace(good_until=_ALWAYS))

    Flights.land = generous  # type: ignore[method-assign]


@sabotage
def nobody_joins() -> None:
    """Nobody takes the result of another's load."""
    land = Flights.land

    def mean(self: Flights, flight: Any, landing: Landing = Landing()) -> None:  # noqa: B008
        land(self, flight, landing._replace(good_until=0))

    Flights.land = mean  # type: ignore[method-assign]


@sabotage
def own_invalidation_forgotten() -> None:
    """A reader takes a result of before its own invalidation."""
    invalidated = CacheManager._invalidated

    def forgetful(self: CacheManager, *args: Any) -> Any:
        scope = self.engine.scope()
        began = 0 if scope is None else scope.began
        done = invalidated(self, *args)
        if scope is not None:
            scope.began = began
        return done

    CacheManager._invalidated = forgetful  # type: ignore[method-assign]


@sabotage
def oldest_leads() -> None:
    """The one who has waited longest leads the next load, which is too old for all others."""
    land = Flights.land

    def turned(self: Flights, flight: Any, landing: Landing = Landing()) -> None:  # noqa: B008
        land(self, flight, landing)
        after = self._flights.get(flight.key)
        if after is not None and after.waiters and after.next_leader is not None:
            after.next_leader = min(after.waiters, key=after.waiters.__getitem__)

    Flights.land = turned  # type: ignore[method-assign]


@sabotage
def uncacheable_is_shared() -> None:
    """Who waited takes a result that was for its caller only."""
    land = Flights.land

    def generous(self: Flights, flight: Any, landing: Landing = Landing()) -> None:  # noqa: B008
        if landing.run_at_once:
            entry = Entry.of(Draft(b"", 10.0), epoch=0, as_of=0, created=0)
            landing = Landing(entry, _ALWAYS)
        land(self, flight, landing)

    Flights.land = generous  # type: ignore[method-assign]


@sabotage
def waits_again_and_again() -> None:
    """A reader waits for one load after another."""
    load._LOADS_WAITED_FOR = 1000


@sabotage
def stale_inside_a_load() -> None:
    """A load is given what has expired, as any other reader."""
    decide = load.decide

    def lenient(entry: Entry | None, now: int, *, inside_load: bool, beta: float, draw: float) -> Any:
        return decide(entry, now, inside_load=False, beta=beta, draw=draw)

    for module in list(sys.modules.values()):
        if getattr(module, "decide", None) is decide:
            module.decide = lenient  # type: ignore[attr-defined]
