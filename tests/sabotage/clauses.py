"""The clauses of R1 to R6, each with a way to break it and the test that notices.

A sabotage changes this process for good, before any cache is made. What it changes must be there: one that no longer
fits the code raises, rather than change nothing.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

from flask_rcache.engine import decision, load, loading
from flask_rcache.engine.driving import Driver
from flask_rcache.engine.invalidations import Invalidations
from flask_rcache.engine.loading import Load
from flask_rcache.engine.manager import CacheManager
from flask_rcache.engine.single_flight import Flights, Landing
from flask_rcache.engine.values import Values
from flask_rcache.front import Front
from flask_rcache.model import entry as entries
from flask_rcache.model.entry import Draft, Entry
from flask_rcache.model.scope import Scope, scope_var
from flask_rcache.stores.lru import Checked
from flask_rcache.stores.memory import MemoryStore
from flask_rcache.stores.redis import scripts
from flask_rcache.stores.redis.bus import Bus
from flask_rcache.stores.redis.invalidating import Invalidator
from flask_rcache.stores.redis.journal import Journal
from flask_rcache.stores.redis.maintenance import Maintenance
from flask_rcache.stores.redis.pool import Pool
from flask_rcache.stores.redis.reading import Reader
from flask_rcache.stores.redis.server import Server
from flask_rcache.stores.redis.store import RedisStore
from flask_rcache.stores.stamps import StampSet
from flask_rcache.stores.tiered import TieredStore
from flask_rcache.stores.validity import Validity

__all__ = ["SABOTAGES", "Sabotage"]

Act = Callable[[], None]

_ALWAYS = 2**63


class Sabotage(NamedTuple):
    """One broken rule.

    Args:
        clause: of which rule.
        name: of the sabotage.
        what: is wrong then.
        act: breaks it in this process.
        noticed_by: the test that fails then, as arguments of pytest; empty when only a race finds out.
    """

    clause: str
    name: str
    what: str
    act: Act
    noticed_by: str = ""


# --- Tools


def lua(script: str, *changes: tuple[str, str]) -> Act:
    """Change the text of a Lua script; `_prelude` is what all of them share. What is changed is there once."""

    def act() -> None:
        read = scripts._text
        text = read(script)
        for old, new in changes:
            assert text.count(old) == 1, f"{script}.lua does not have this once: {old}"
            text = text.replace(old, new)
        scripts._text = lambda name: text if name == script else read(name)
        scripts.load.cache_clear()

    return act


def code(owner: Any, name: str, *changes: str) -> Act:
    """Change the source of a function or a method: what is there once, and what takes its place, by turns."""

    def act() -> None:
        found = inspect.getattr_static(owner, name)
        function: Any = found.fget if isinstance(found, property) else found
        source = textwrap.dedent(inspect.getsource(function))
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert source.count(old) == 1, f"{owner.__name__}.{name} does not have this once: {old}"
            source = source.replace(old, new)
        module = sys.modules[function.__module__]
        made: dict[str, Any] = {}
        text = "from __future__ import annotations\n" + source
        exec(compile(text, f"<{name}, sabotaged>", "exec"), vars(module), made)
        if inspect.ismodule(owner):
            everywhere(function, made[name])
        else:
            setattr(owner, name, made[name])

    return act


def instead(owner: Any, name: str, new: Any) -> Act:
    """Put something else under a name that there is."""

    def act() -> None:
        assert hasattr(owner, name), f"{owner.__name__} has no {name}"
        setattr(owner, name, new)

    return act


def everywhere(function: Any, new: Any) -> None:
    """Put something else in the place of a function, wherever it was imported to."""
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is function:
                setattr(module, name, new)


def judging(change: Callable[..., tuple[Any, ...]]) -> Act:
    """Have every store judge validity by other arguments: the entry, epoch, floor, what was forgotten, and the rows."""
    honest = entries.is_valid
    return lambda: everywhere(honest, lambda *arguments: honest(*change(*arguments)))


def together(*acts: Act) -> Act:
    """Several at once, where one clause is kept in two places."""

    def act() -> None:
        for each in acts:
            each()

    return act


# --- What takes more than a line


def _lost_stamps_forgiven() -> None:
    """Without a stamp set everything is valid."""
    judging(lambda entry, epoch, floor, forgotten, rows: (entry, entry.epoch, 0, 0, rows))()
    code(
        Server,
        "stamps_in",
        "    if epoch is None or floor is None or forgotten is None or clock is None:\n        return None\n",
        "    if epoch is None or clock is None:\n"
        "        return StampsRead(1, 0, 0, _NAMES, dict(zip(tags, rows, strict=True)))\n",
    )()


def _rows_asked_last() -> None:
    """A read of an entry with many tags asks for the later rows after all else."""
    exchange = Server.exchange

    def turned(self: Server, payload: bytes, replies: int) -> list[Any]:
        begin, end = payload.find(b"ZRANGE"), payload.find(b"ZMSCORE")
        if begin < 0 or end < begin:
            return exchange(self, payload, replies)
        begin, end = payload.rindex(b"*", 0, begin), payload.rindex(b"*", 0, end)
        raw, scores, time, later = exchange(self, payload[:begin] + payload[end:] + payload[begin:end], replies)
        return [raw, later, scores, time]

    Server.exchange = turned  # type: ignore[method-assign]


def _second_question_asks_rows_only() -> None:
    """The second round trip of a read takes epoch, floor and what was forgotten from the first."""
    stamps, stamps_in = Server.stamps, Server.stamps_in
    first: list[Any] = []

    def reading(self: Server, scores: Any, tags: Any, generation: int) -> Any:
        found = stamps_in(self, scores, tags, generation)
        if found is not None:
            first.append(found)
        return found

    def second(self: Server, tags: Any) -> Any:
        before = first[-1] if first else None
        found = stamps(self, tags)
        if found is not None and before is not None:
            found.epoch, found.floor, found.forgotten = before.epoch, before.floor, before.forgotten
        return found

    Server.stamps_in, Server.stamps = reading, second  # type: ignore[method-assign]


def _moment_by_local_time() -> None:
    """The moment is reckoned on from the last reading by this process's clock."""
    moment: Any = Server.moment

    def reckoned(self: Server) -> Any:
        heard, now = moment.fget(self), self.clock.estimate()
        return heard if heard is None or now is None else heard._replace(clock=max(heard.clock, now))

    Server.moment = property(reckoned)  # type: ignore[method-assign,assignment]


def _as_of_at_fill() -> None:
    """An entry's `as_of` is the clock at its fill."""
    fill = RedisStore._fill_now

    def late(self: RedisStore, results: Any) -> Any:
        self._server.stamps(())
        now = self.moment
        return fill(self, [result if now is None else result._replace(moment=now) for result in results])

    RedisStore._fill_now = late  # type: ignore[method-assign]


def _reads_before_forgotten() -> None:
    """A load does not depend on what its request read before it began."""
    enter = Load.__enter__

    def begin(self: Load) -> Load:
        entered = enter(self)
        scope = scope_var.get()
        if scope is not None:
            scope.reads.clear()
            scope._known = {}
        return entered

    Load.__enter__ = begin  # type: ignore[method-assign]


def _reads_during_forgotten() -> None:
    """A load does not depend on what its loader reads."""
    enter, leave = Load.__enter__, Load.__exit__
    before: dict[int, Any] = {}

    def begin(self: Load) -> Load:
        entered = enter(self)
        scope = scope_var.get()
        before[id(self)] = [] if scope is None else list(scope.reads)
        return entered

    def end(self: Load, *exc: Any) -> None:
        scope = scope_var.get()
        if scope is not None:
            scope.reads[:] = before.pop(id(self))
        leave(self, *exc)

    Load.__enter__, Load.__exit__ = begin, end  # type: ignore[method-assign]


def _others_keys_first() -> None:
    """`fetch_many` waits for others' loads before it loads its own keys."""
    leases = load._leases

    def late(run: Any) -> Any:
        if run.joined:
            yield from load._wait(run)
            return []
        return (yield from leases(run))

    load._leases = late


def _landing(change: Callable[[Landing], Landing]) -> Act:
    """Have loads land with something else."""

    def act() -> None:
        land = Flights.land

        def changed(self: Flights, flight: Any, landing: Landing = Landing()) -> None:  # noqa: B008  # a tuple
            land(self, flight, change(landing))

        Flights.land = changed  # type: ignore[method-assign]

    return act


def _with_some_entry(landing: Landing) -> Landing:
    entry = Entry.of(Draft(b"", 10.0), epoch=0, as_of=0, created=0)
    return Landing(entry, _ALWAYS) if landing.run_at_once else landing


def _own_invalidation_forgotten() -> None:
    """A reader takes a result from before its own invalidation."""
    code(Invalidations, "send", "context.began = time.monotonic_ns()", "pass")()


_BLIND_TRUST = instead(TieredStore, "distrust", lambda self: None)
_ENDLESS_HOLD = together(
    _BLIND_TRUST,
    code(TieredStore, "_keep", "held = int(l1_ttl * _SECOND)", "held = 36_000 * _SECOND"),
    code(TieredStore, "_recall", "if since >= l1_ttl * _SECOND:", "if False:"),
)

# --- The table

_CONFORMANCE = "tests/stores/test_conformance.py::"
_REDIS = "tests/stores/test_redis.py::"
_TIERED = "tests/stores/test_tiered.py::"
_STAMPS = "tests/stores/test_stamps.py::"
_QUESTIONS = "tests/stores/test_questions.py::"
_VALIDITY = "tests/stores/test_validity.py::test_checked__ends_"
_LOAD = "tests/engine/test_load.py::"
_MANAGER = "tests/engine/test_manager.py::"

_FLOOD = _CONFORMANCE + "test_rows__entry_in_use_outlives_a_flood"
_DROPPED = _CONFORMANCE + "test_rows__dropped_stamp_still_refuses"
_LOST = _REDIS + "test_lost_set__is_made_anew_by_the_heartbeat_only[redis-deleted]"
_IN_REQUEST = _MANAGER + "test_moment__what_a_request_read_before_its_load[memory]"
_GIVES_WAY = _CONFORMANCE + "test_begin__overtaken_holder_gives_way_once"
_SHARED = _LOAD + "test_load__a_result_is_shared_with_a_reason"
_RUN = _REDIS + "test_attach__moments_are_of_a_server_run"

_ALL = (
    # R1.2: every read is checked
    Sabotage(
        "R1.2",
        "stamps_unchecked",
        "what is read is not checked",
        lambda: everywhere(entries.is_valid, lambda *_: True),
        _CONFORMANCE + "test_invalidate__makes_a_filled_entry_invalid[memory-tag]",
    ),
    Sabotage(
        "R1.2",
        "epoch_unchecked",
        "an entry of another stamp set is as good",
        judging(lambda entry, epoch, floor, forgotten, rows: (entry, entry.epoch, floor, forgotten, rows)),
        _REDIS + "test_read__another_epoch[redis]",
    ),
    Sabotage(
        "R1.2",
        "floor_unchecked",
        "what was loaded before everything was invalidated is valid",
        judging(lambda entry, epoch, floor, forgotten, rows: (entry, epoch, 0, forgotten, rows)),
        _CONFORMANCE + "test_fill__overtaken[memory-before-everything]",
    ),
    Sabotage(
        "R1.2",
        "forgotten_unchecked",
        "a tag without a row was never invalidated",
        judging(lambda entry, epoch, floor, forgotten, rows: (entry, epoch, floor, 0, rows)),
        _CONFORMANCE + "test_rows__of_live_entries_are_dropped_at_last[memory]",
    ),
    Sabotage(
        "R1.2",
        "rows_unchecked",
        "stamps of single tags count for nothing",
        judging(lambda entry, epoch, floor, forgotten, rows: (entry, epoch, floor, forgotten, {})),
        _CONFORMANCE + "test_invalidate__makes_a_filled_entry_invalid[redis-tag]",
    ),
    Sabotage(
        "R1.2",
        "unknown_tags_unasked",
        "tags of an entry that were not asked for count for nothing",
        code(Reader, "read", "if dict(known.entry.tags).keys() - stamps.rows.keys():", "if False:"),
        _CONFORMANCE + "test_read__another_process_knows_the_tags[redis]",
    ),
    Sabotage(
        "R1.2",
        "judged_once",
        "what was valid once is valid as long as its bytes are the same, whatever the stamps are",
        code(Reader, "read", "known.valid_by == (query, scores, generation)", "known.valid_by"),
        _REDIS + "test_read__what_was_valid_is_judged_by_what_is_there_now[tag]",
    ),
    Sabotage("R1.2", "lost_stamps_forgiven", "without a stamp set everything is valid", _lost_stamps_forgiven, _LOST),
    # R1.3: no row is lowered, clear_all keeps later ones, fills make those that are missing
    Sabotage(
        "R1.3",
        "redis_rows_lowered",
        "an invalidation takes back a stamp that is ahead",
        lua("_prelude", ("add_members(stamps, 'GT', rows)", "add_members(stamps, 'CH', rows)")),
        _REDIS + "test_stamps__stamp_ahead_stays[redis]",
    ),
    Sabotage(
        "R1.3",
        "memory_rows_lowered",
        "the same in memory",
        code(StampSet, "stamp", "max(rows.get(tag, 0), now)", "now"),
        _STAMPS + "test_stamps__no_stamp_is_lowered",
    ),
    Sabotage(
        "R1.3",
        "redis_clear_drops_later_rows",
        "clear_all takes back stamps that are ahead",
        lua("invalidate", ("for i = 1, #ahead, 2 do", "for i = 1, 0, 2 do")),
        _REDIS + "test_stamps__stamp_ahead_stays[redis]",
    ),
    Sabotage(
        "R1.3",
        "memory_clear_drops_later_rows",
        "the same in memory",
        code(StampSet, "raise_floor", "if stamp > now", "if False"),
        _STAMPS + "test_stamps__no_stamp_is_lowered",
    ),
    Sabotage(
        "R1.3",
        "redis_clear_raises_nothing",
        "clear_all drops the rows, and raises neither floor nor =forgotten",
        lua(
            "invalidate", ("now, '=floor',", "set.floor, '=floor',"), ("math.max(now, set.forgotten)", "set.forgotten")
        ),
        _CONFORMANCE + "test_invalidate__makes_a_filled_entry_invalid[redis-everything]",
    ),
    Sabotage(
        "R1.3",
        "redis_fill_makes_no_rows",
        "a fill leaves its tags without rows",
        lua("_prelude", ("if not result.rows[i] then", "if false then")),
        _FLOOD + "[redis]",
    ),
    Sabotage(
        "R1.3",
        "memory_fill_makes_no_rows",
        "the same in memory",
        instead(StampSet, "attach", lambda self, tags, expires, now: None),
        _FLOOD + "[memory]",
    ),
    Sabotage(
        "R1.3",
        "redis_fill_makes_rows_of_now",
        "the row that a fill makes is of the fill",
        lua("_prelude", ("missing[#missing + 1] = text(forgotten)", "missing[#missing + 1] = text(now)")),
        _REDIS + "test_stamps__a_fill_makes_each_row_at_forgotten[redis]",
    ),
    Sabotage(
        "R1.3",
        "memory_fill_makes_rows_of_now",
        "the same in memory",
        code(StampSet, "attach", "setdefault(tag, self.forgotten)", "setdefault(tag, now)"),
        _STAMPS + "test_stamps__a_fill_makes_the_missing_rows",
    ),
    # R1.4: rows may be dropped
    Sabotage(
        "R1.4",
        "redis_drop_is_not_remembered",
        "dropping a row leaves =forgotten as it is",
        lua("_prelude", ("if latest > set.forgotten then", "if false then")),
        _DROPPED + "[redis]",
    ),
    Sabotage(
        "R1.4",
        "memory_drop_is_not_remembered",
        "the same in memory",
        code(StampSet, "_drop", "self.forgotten = max(self.forgotten, self.rows.pop(tag))", "self.rows.pop(tag)"),
        _DROPPED + "[memory]",
    ),
    Sabotage(
        "R1.4",
        "redis_fill_before_forgotten",
        "a fill is accepted whose tag has no row and is older than =forgotten",
        lua("_prelude", ("reading < (rows[i] or set.forgotten)", "reading < (rows[i] or 0)")),
        _DROPPED + "[redis]",
    ),
    Sabotage(
        "R1.4",
        "redis_due_rows_stay",
        "rows whose entries have expired are kept",
        lua("_prelude", ("text(-now), 'LIMIT', 0, most))", "text(-now), 'LIMIT', 0, 0))")),
        _REDIS + "test_rows__due_ones_go_with_the_heartbeat[redis]",
    ),
    Sabotage(
        "R1.4",
        "redis_rows_unbounded",
        "the limit of rows does not count",
        lua("_prelude", ("'ZCARD', stamps) - 7) / 2) - limit, most)", "'ZCARD', stamps) - 7) / 2) - limit, 0)")),
        _REDIS + "test_rows__above_the_limit",
    ),
    Sabotage(
        "R1.4",
        "memory_rows_unbounded",
        "the same in memory",
        code(StampSet, "_drop", "if excess > 0:", "if False:"),
        _STAMPS + "test_stamps__what_goes_first",
    ),
    Sabotage(
        "R1.4",
        "redis_rows_of_live_entries_go",
        "a fill does not keep the rows of its tags longer",
        lua("_prelude", ("local due = -now - result.px * 1000 - KEPT", "local due = -now - KEPT")),
        _FLOOD + "[redis]",
    ),
    Sabotage(
        "R1.4",
        "redis_live_rows_go_first",
        "above the limit the oldest go, live or not",
        lua("_prelude", ("if excess() > 0 then", "if false then")),
        _REDIS + "test_rows__above_the_limit",
    ),
    Sabotage(
        "R1.4",
        "memory_rows_of_live_entries_go",
        "the same in memory",
        code(StampSet, "attach", "expires) + _KEPT", "now) + _KEPT"),
        _FLOOD + "[memory]",
    ),
    # R1.5: only clear_all raises the floor
    Sabotage(
        "R1.5",
        "redis_drop_raises_the_floor",
        "unrelated invalidations make an entry in use invalid",
        lua(
            "_prelude",
            ("'ZADD', stamps, latest, '=forgotten')", "'ZADD', stamps, latest, '=forgotten', latest, '=floor')"),
        ),
        _FLOOD + "[redis]",
    ),
    Sabotage(
        "R1.5",
        "memory_drop_raises_the_floor",
        "the same in memory",
        code(
            StampSet,
            "_drop",
            "self.forgotten = max(self.forgotten, self.rows.pop(tag))",
            "self.floor = self.forgotten = max(self.forgotten, self.rows.pop(tag))",
        ),
        _FLOOD + "[memory]",
    ),
    # R1.6: many tags, and the second round trip
    Sabotage(
        "R1.6",
        "rows_asked_last",
        "later rows are asked for after =forgotten: one dropped in between is missed",
        _rows_asked_last,
        _QUESTIONS + "test_many_tags__whatever_happens_between_the_questions",
    ),
    Sabotage(
        "R1.6",
        "full_page_of_rows_trusted",
        "as many later rows as fit are taken for all that there are",
        code(Reader, "_read_many_tagged", "len(later) == _ROWS", "False"),
        _REDIS + "test_many_tags__unrelated_invalidations[redis-1000]",
    ),
    Sabotage(
        "R1.6",
        "any_dropped_row_counts",
        "a dropped row of another tag makes an entry with many tags invalid",
        code(Reader, "_read_many_tagged", "stamps.forgotten > valid_at", "False"),
        _QUESTIONS + "test_many_tags__an_unrelated_row_is_dropped",
    ),
    Sabotage(
        "R1.6",
        "second_question_asks_rows_only",
        "epoch, floor and =forgotten are those of the first round trip",
        _second_question_asks_rows_only,
        _QUESTIONS + "test_unknown_tags__the_second_question_asks_everything",
    ),
    # R1.7: a lost set
    Sabotage(
        "R1.7",
        "new_set_takes_what_is_older",
        "a set that is made anew has no floor and has forgotten nothing",
        lua("_prelude", ("now, '=floor', now, '=forgotten', now,\n", "0, '=floor', 0, '=forgotten', now,\n")),
        _LOST,
    ),
    Sabotage(
        "R1.7",
        "sets_have_one_name",
        "every set has the same epoch",
        lua("_prelude", ("stamps, '-' .. epoch, '=epoch'", "stamps, '-4503599627370500', '=epoch'")),
        _REDIS + "test_lost_set__epochs_differ_and_are_exact[redis]",
    ),
    Sabotage(
        "R1.7",
        "lost_set_made_by_fills",
        "whoever fills makes a lost set anew",
        lua(
            "fill", ("read_set(stamps), arg", "read_set(stamps) or new_set(stamps, '4503599627370500', '0', time), arg")
        ),
        _LOST,
    ),
    # R2: the clock is the store's, and strictly increasing
    Sabotage(
        "R2",
        "redis_clock_as_it_is",
        "the clock is TIME, whatever it was before",
        lua("_prelude", ("return math.max(time, set.clock + 1)", "return time")),
        _REDIS + "test_clock__server_time_that_goes_backwards[redis]",
    ),
    Sabotage(
        "R2",
        "memory_clock_as_it_is",
        "the same in memory",
        code(MemoryStore, "_tick", "max(self._read_clock(), self._last + 1)", "self._read_clock()"),
        "tests/stores/test_memory.py::test_clock__that_goes_backwards",
    ),
    # R3.1: the moment was heard before the request
    Sabotage(
        "R3.1",
        "moment_of_the_load",
        "a load in a request claims what is heard at its own beginning",
        code(Driver, "terms", "moment, began = scope.moment,", "moment, began = self._store.hear(),"),
        _IN_REQUEST,
    ),
    Sabotage(
        "R3.1",
        "as_of_at_fill",
        "an entry's as_of is the clock at its fill",
        _as_of_at_fill,
        _CONFORMANCE + "test_fill__overtaken[redis-before-tag]",
    ),
    Sabotage(
        "R3.1",
        "moment_by_local_time",
        "the moment is reckoned on by this process's clock",
        _moment_by_local_time,
        _REDIS + "test_moment__is_no_other_than_what_the_set_says[redis]",
    ),
    Sabotage(
        "R3.1",
        "moment_of_any_generation",
        "what was heard over connections that have ended counts",
        instead(Server, "moment", property(lambda self: self.clock.latest)),
        _RUN,
    ),
    Sabotage(
        "R3.1",
        "stamp_taken_for_a_reading",
        "a stamp that is ahead of the clock counts as a reading",
        code(Server, "apply", "message.epoch, message.clock, moment", "message.epoch, latest, moment"),
        _REDIS + "test_moment__is_no_stamp_ahead_of_the_clock[redis]",
    ),
    Sabotage(
        "R3.1",
        "bus_without_a_clock",
        "messages of other processes bring no reading",
        code(Server, "apply", "self.clock.heard(message.epoch, message.clock, moment.generation)", "pass"),
        _REDIS + "test_moment__comes_over_the_bus[redis]",
    ),
    Sabotage(
        "R3.1",
        "nothing_asked_at_first",
        "a process that has heard nothing does not ask",
        instead(Server, "hear", lambda self: self.moment),
        _MANAGER + "test_moment__of_the_first_request[redis]",
    ),
    # R3.2: set, and fresh()
    Sabotage(
        "R3.2",
        "set_claims_now",
        "set claims the reading at its call",
        code(Values, "moment", "return scope.moment", "return self._guarded.store.hear()"),
        _IN_REQUEST,
    ),
    Sabotage(
        "R3.2",
        "fresh_inside_a_load",
        "fresh() inside a load makes it forget what it has read",
        code(CacheManager, "fresh", "if current_load() is not None:", "if False:"),
        _IN_REQUEST,
    ),
    # R3.3: tags found out during the load
    Sabotage(
        "R3.3",
        "late_tags_ignored",
        "tags found out during the load are forgotten",
        instead(CacheManager, "tag", lambda self, *tags: None),
        _MANAGER + "test_tag__invalidated_before_it_is_known[memory]",
    ),
    # R3.4: loads nest
    Sabotage(
        "R3.4",
        "nothing_inherited",
        "a load knows nothing of the cached values that were read",
        instead(Scope, "dependencies", lambda self, *_, **__: (False, {})),
        _MANAGER + "test_nested__tags_are_handed_up",
    ),
    Sabotage(
        "R3.4",
        "reads_before_forgotten",
        "what the request read before the load does not count",
        _reads_before_forgotten,
        _MANAGER + "test_moment__values_read_before_the_load[memory]",
    ),
    Sabotage(
        "R3.4",
        "reads_during_forgotten",
        "what the loader reads does not count",
        _reads_during_forgotten,
        _LOAD + "test_record_read__tags_before_and_during_the_load",
    ),
    Sabotage(
        "R3.4",
        "inherited_tags_are_of_the_load",
        "tags of cached values take the load's as_of",
        code(Draft, "tags_as_of", "least(reading, found[tag]) if tag in found else reading", "as_of"),
        _CONFORMANCE + "test_invalidate__inherited_tag_older_than_its_stamp[memory]",
    ),
    Sabotage(
        "R3.4",
        "stale_input_is_built_upon",
        "a load that used a stale value is stored",
        code(loading, "record_read", "if stale:", "if False:"),
        _LOAD + "test_record_read__what_forbids_to_store",
    ),
    Sabotage(
        "R3.4",
        "other_epochs_are_built_upon",
        "a load that used a value of another epoch is stored",
        code(Load, "_note_reads", "or is_foreign", ""),
        _LOAD + "test_record_read__what_forbids_to_store",
    ),
    Sabotage(
        "R3.4",
        "stale_inside_a_load",
        "a load is given what has expired",
        code(decision, "decide", " and not inside_load", ""),
        _LOAD + "test_decide",
    ),
    # R4.1: leases
    Sabotage(
        "R4.1",
        "redis_release_by_anyone",
        "a lease is given back by whoever says so",
        lua("release", ("if held and held.token == token then", "if held then")),
        _CONFORMANCE + "test_release__only_by_its_token[redis]",
    ),
    Sabotage(
        "R4.1",
        "memory_release_by_anyone",
        "the same in memory",
        code(MemoryStore, "release", "if held is None or held.token != token:", "if held is None:"),
        _CONFORMANCE + "test_release__only_by_its_token[memory]",
    ),
    Sabotage(
        "R4.1",
        "leases_not_renewed",
        "a lease ends while its loader lives",
        instead(Maintenance, "hold", lambda self, key, token: None),
        "tests/stores/test_housekeeping.py::test_lease__renewed_while_its_loader_lives",
    ),
    # R4.2: a fill needs its lease
    Sabotage(
        "R4.2",
        "redis_fill_without_its_token",
        "a fill is accepted whoever holds the lease",
        lua("fill", ("if held and held.token == token then", "if true then")),
        _CONFORMANCE + "test_fill__only_with_its_lease[redis]",
    ),
    Sabotage(
        "R4.2",
        "memory_fill_without_its_token",
        "the same in memory",
        code(MemoryStore, "_fill", "if held is None or held.token != token:", "if False:"),
        _CONFORMANCE + "test_fill__only_with_its_lease[memory]",
    ),
    Sabotage(
        "R4.2",
        "redis_write_leaves_the_lease",
        "set, add and incr do not void the lease",
        lua("write", ("leases[#leases + 1] = lease", "local _ = lease")),
        _CONFORMANCE + "test_fill__lease_voided[redis-write]",
    ),
    Sabotage(
        "R4.2",
        "memory_write_leaves_the_lease",
        "the same in memory",
        code(MemoryStore, "write", "self._end_lease(key)", "pass"),
        _CONFORMANCE + "test_fill__lease_voided[memory-write]",
    ),
    Sabotage(
        "R4.2",
        "redis_delete_leaves_the_lease",
        "delete does not void the lease",
        lua("delete", ("void_lease(lease)", "local _ = lease")),
        _CONFORMANCE + "test_fill__lease_voided[redis-delete]",
    ),
    Sabotage(
        "R4.2",
        "memory_delete_leaves_the_lease",
        "the same in memory",
        code(MemoryStore, "delete", "self._end_lease(key)", "pass"),
        _CONFORMANCE + "test_fill__lease_voided[memory-delete]",
    ),
    Sabotage(
        "R4.2",
        "redis_delete_stamps_nothing",
        "delete leaves no stamp of the key",
        lua("delete", ("if ARGV[3] == '1' then", "if false then")),
        _CONFORMANCE + "test_begin__unstorable_after_a_delete[redis]",
    ),
    Sabotage(
        "R4.2",
        "memory_delete_stamps_nothing",
        "the same in memory",
        code(MemoryStore, "delete", "if is_stamped:", "if False:"),
        _CONFORMANCE + "test_begin__unstorable_after_a_delete[memory]",
    ),
    Sabotage(
        "R4.2",
        "redis_pattern_raises_no_barrier",
        "a pattern lets loads under way store what it has removed",
        lua("invalidate", ("now, '=barrier', clock, '=clock')", "clock, '=clock')")),
        _CONFORMANCE + "test_invalidate_pattern__refuses_loads_under_way[redis]",
    ),
    Sabotage(
        "R4.2",
        "memory_pattern_raises_no_barrier",
        "the same in memory",
        code(MemoryStore, "invalidate_pattern", "self._stamps.barrier = self._tick()", "self._tick()"),
        _CONFORMANCE + "test_invalidate_pattern__refuses_loads_under_way[memory]",
    ),
    Sabotage(
        "R4.2",
        "redis_barrier_unchecked",
        "what was loaded before a pattern's barrier is stored",
        lua("_prelude", (" or moment.as_of <= set.barrier", "")),
        _CONFORMANCE + "test_write__at_a_moment[redis-pattern]",
    ),
    Sabotage(
        "R4.2",
        "barrier_after_the_walk",
        "a pattern's barrier is raised after its walk",
        code(
            Invalidator,
            "invalidate_pattern",
            "replies = yield from server.run_steps([barrier], patient=True)",
            "replies = [(0, 0, 2**51)]",
            "    message = ",
            "    replies = yield from server.run_steps([barrier])\n    epoch, clock, stamp = map(int, replies[0])\n"
            "    message = ",
        ),
        _QUESTIONS + "test_pattern__a_fill_between_its_commands",
    ),
    Sabotage(
        "R4.2",
        "add_claims_the_requests_moment",
        "add and incr claim the moment of their request",
        code(Values, "_swap", "[(key, draft)], None,", "[(key, draft)], self.moment(),"),
        _MANAGER + "test_incr_and_add__after_an_invalidation_of_the_same_request[memory]",
    ),
    # R4.3: who waits, and for how long
    Sabotage(
        "R4.3",
        "lease_without_end",
        "a lease outlives a holder that has crashed",
        lua("begin", ("table.concat(holder, ' '), 'PX', lease_ms)", "table.concat(holder, ' '))")),
        _REDIS + "test_begin__a_lease_ends_by_itself[redis]",
    ),
    Sabotage(
        "R4.3",
        "redis_no_takeover",
        "a holder that can't be stored any more keeps its lease",
        lua("begin", ("can_be_stored(held.moment), can_be_stored(moment)", "true, can_be_stored(moment)")),
        _GIVES_WAY + "[redis-type]",
    ),
    Sabotage(
        "R4.3",
        "memory_no_takeover",
        "the same in memory",
        code(MemoryStore, "_begin", "if self._can_store(held.moment, want):", "if True:"),
        _GIVES_WAY + "[memory-type]",
    ),
    Sabotage(
        "R4.3",
        "redis_takeover_again_and_again",
        "a lease taken over is taken over again",
        lua("begin", ("if theirs or ours and held.was_taken_over then", "if theirs then")),
        _GIVES_WAY + "[redis-type]",
    ),
    Sabotage(
        "R4.3",
        "memory_takeover_again_and_again",
        "the same in memory",
        code(MemoryStore, "_begin", "is_taken_over = True", "is_taken_over = False"),
        _GIVES_WAY + "[memory-type]",
    ),
    Sabotage(
        "R4.3",
        "others_keys_first",
        "fetch_many waits for others before it loads its own keys",
        _others_keys_first,
        _LOAD + "test_load__several_keys_own_ones_first",
    ),
    Sabotage(
        "R4.3",
        "endless_patience",
        "a waiter waits however long it takes",
        instead(load._Run, "is_over", property(lambda self: False)),
        _LOAD + "test_load__waits_no_longer_than_it_may",
    ),
    Sabotage(
        "R4.3",
        "redis_any_entry_is_filled_meanwhile",
        "begin takes the entry just found unusable for a new one",
        lua("begin", ("found ~= '' and found ~= unusable then", "found ~= '' then")),
        _CONFORMANCE + "test_begin__filled_meanwhile[redis]",
    ),
    Sabotage(
        "R4.3",
        "memory_any_entry_is_filled_meanwhile",
        "the same in memory",
        code(MemoryStore, "_begin", " and cell.identity != want.identity:", ":"),
        _CONFORMANCE + "test_begin__filled_meanwhile[memory]",
    ),
    # R4.4: what was reported as failed never happens
    Sabotage(
        "R4.4",
        "no_deadline",
        "scripts do what they are asked to, however late it is",
        lua("_prelude", ("return time > tonumber(deadline) or time < tonumber(since)", "return false")),
        _REDIS + "test_deadline__what_was_reported_as_failed_never_happens",
    ),
    Sabotage(
        "R4.4",
        "clock_set_back_unnoticed",
        "a deadline holds for a server whose clock was set back",
        lua("_prelude", ("tonumber(deadline) or time < tonumber(since)", "tonumber(deadline)")),
        _REDIS + "test_deadline__scripts_refuse_what_comes_late_or_from_a_clock_set_back[redis]",
    ),
    Sabotage(
        "R4.4",
        "deadline_without_the_size",
        "a large write has no more time than a small one",
        instead(Pool, "seconds_for", lambda self, size: 0.25),
        "tests/stores/test_pool.py::test_seconds_for__grows_with_the_size",
    ),
    Sabotage(
        "R4.4",
        "moments_of_every_run",
        "a moment of another server run is taken for one of this",
        lua(
            "_prelude", ("if moment.epoch ~= set.epoch or moment.run ~= set.run or", "if moment.epoch ~= set.epoch or")
        ),
        _REDIS + "test_attach__promoted_replica[warm-0-True]",
    ),
    Sabotage(
        "R4.4",
        "moments_of_unknown_generations",
        "a moment of unknown connections is taken for one of the server",
        code(Server, "run_of", "self._runs.get(moment.generation)", "self.run_hash"),
        _RUN,
    ),
    Sabotage(
        "R4.4",
        "journal_forgotten",
        "what is journalled is never delivered",
        instead(Journal, "add", lambda self, invalidation: None),
        "tests/stores/test_degrading.py -k test_journal__delivered_before_anything_is_read",
    ),
    # R5: the memory tier
    Sabotage(
        "R5",
        "bus_always_alive",
        "memory is trusted, and kept, while nobody listens",
        instead(Bus, "alive", lambda self, now: True),
        _TIERED + "test_bus__that_does_not_run",
    ),
    Sabotage(
        "R5",
        "rows_of_the_bus_ignored",
        "stamps that came in over the bus are not looked at",
        code(TieredStore, "_recall", "moment.epoch, 0, 0, self._rows)", "moment.epoch, 0, 0, {})"),
        _TIERED + "test_apply__an_invalidation_elsewhere -k tag",
    ),
    Sabotage(
        "R5",
        "hold_from_the_reply",
        "l1_ttl counts from when the reply came in",
        code(TieredStore, "_keep", "sent + held", "time.monotonic_ns() + held"),
        _TIERED + "test_keep__counts_from_when_the_read_was_sent",
    ),
    Sabotage(
        "R5",
        "promotion_while_deaf",
        "what was read while messages may have been missed is kept",
        together(
            code(Bus, "heard_since", "self.alive(then) and self._since <= then", "self._heard_at > 0"),
            code(TieredStore, "_begin_anew", "self._unknown_before = now", "pass"),
        ),
        _TIERED + "test_keep__does_not_overtake_an_invalidation -k distrust",
    ),
    Sabotage(
        "R5",
        "promotion_unchecked",
        "what was read before a message came in is kept after it",
        instead(TieredStore, "_is_current", lambda self, key, entry: True),
        _TIERED + "test_keep__does_not_overtake_an_invalidation -k write",
    ),
    Sabotage(
        "R5",
        "own_invalidations_by_the_bus_only",
        "this process hears of its own invalidations some time later",
        code(Server, "acknowledged", "if self.listener is not None:", "if False:"),
        _REDIS + "test_listener__has_own_invalidations_before_the_call_returns[redis]",
    ),
    Sabotage(
        "R5",
        "deaf_bus",
        "messages are dropped while the bus looks alive: l1_ttl is all that bounds what is outdated",
        instead(Server, "apply", lambda self, message: None),
        _REDIS + "test_moment__comes_over_the_bus[redis]",
    ),
    Sabotage(
        "R5",
        "endless_hold",
        "what was missed is missed for ever",
        _ENDLESS_HOLD,
        _TIERED + "test_recall__ends_with_the_l1_ttl",
    ),
    Sabotage(
        "R5",
        "mark_ignored",
        "what was checked in memory is served again, whatever was invalidated since",
        code(Checked, "entry_at", " or self._validity.mark is not self._mark", ""),
        _VALIDITY + "with_what_changes[memory-tag]",
    ),
    Sabotage(
        "R5",
        "mark_unchanged",
        "an invalidation leaves the mark as it is",
        instead(Validity, "changed", lambda self: None),
        _VALIDITY + "with_what_changes[tiered-tag]",
    ),
    Sabotage(
        "R5",
        "mark_without_the_bus",
        "a message of the bus leaves the mark as it is",
        code(TieredStore, "apply", "self._validity.changed()", "pass"),
        _VALIDITY + "with_what_changes[tiered-tag]",
    ),
    Sabotage(
        "R5",
        "served_again_after_its_end",
        "what was checked is served again after it was deleted or replaced",
        code(Checked, "entry_at", "or not cell.is_kept ", ""),
        _VALIDITY + "with_what_changes[memory-write]",
    ),
    Sabotage(
        "R5",
        "served_again_while_deaf",
        "what was checked is served again while nobody listens",
        code(Checked, "entry_at", " or (self._is_alive is not None and not self._is_alive(now))", ""),
        _VALIDITY + "when_nobody_listens",
    ),
    Sabotage(
        "R5",
        "mark_taken_last",
        "the front takes the mark after it has looked",
        code(
            Front,
            "_looked_up",
            "    checked = store.checked(answer.key, policy.l1_ttl)\n",
            "",
            "    entry = None if lookup is None else lookup.entry\n",
            "    checked = store.checked(answer.key, policy.l1_ttl)\n"
            "    entry = None if lookup is None else lookup.entry\n",
        ),
        "tests/front/test_front.py::test_front__an_invalidation_between_the_look_and_the_answer",
    ),
    # R6: sharing
    Sabotage(
        "R6",
        "anyone_joins",
        "whoever waited takes the result, whenever they came",
        _landing(lambda landing: landing if landing.entry is None else landing._replace(good_until=_ALWAYS)),
        _SHARED,
    ),
    Sabotage(
        "R6",
        "nobody_joins",
        "nobody takes the result of another's load",
        _landing(lambda landing: landing._replace(good_until=0)),
        _SHARED,
    ),
    Sabotage(
        "R6",
        "own_invalidation_forgotten",
        "a reader takes a result of before its own invalidation",
        _own_invalidation_forgotten,
        "tests/engine/test_loading.py::test_fetch__result_of_before_the_readers_own_invalidation[memory]",
    ),
    Sabotage(
        "R6",
        "oldest_leads",
        "the oldest who waited leads the next load, which is too old for the others",
        code(Flights, "land", "max(younger,", "min(younger,"),
        "tests/engine/test_single_flight.py::test_land__the_youngest_for_whom_it_is_too_old_leads_next",
    ),
    Sabotage(
        "R6",
        "uncacheable_is_shared",
        "who waited takes a result that was for its caller only",
        _landing(_with_some_entry),
        _LOAD + "test_load__what_cannot_be_stored_is_for_nobody_else",
    ),
    Sabotage(
        "R6",
        "waits_again_and_again",
        "a reader waits for more than two loads",
        instead(load, "_LOADS_WAITED_FOR", 1000),
        _LOAD + "test_load__waits_for_two_loads_of_others_at_most",
    ),
)
SABOTAGES: dict[str, Sabotage] = {each.name: each for each in _ALL}
