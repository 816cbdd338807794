"""The algorithm that loads, command by command: no store, no thread, no clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_rcache import CacheType
from flask_rcache.config.settings import Settings
from flask_rcache.engine.decision import Decision, decide
from flask_rcache.engine.load import (
    AskLeases,
    Done,
    FillResults,
    Loaded,
    Look,
    Pause,
    Reader,
    ReleaseLeases,
    RunLoader,
    WaitFor,
    WriteResults,
    load,
)
from flask_rcache.engine.loading import Load, Patience, Terms, record_read
from flask_rcache.engine.policies import Policies
from flask_rcache.engine.single_flight import Flights, Landing
from flask_rcache.engine.statistics import Statistics
from flask_rcache.model.entry import Draft, Entry, Moment
from flask_rcache.model.keys import Names
from flask_rcache.model.scope import Scope, scope_var
from flask_rcache.stores.protocol import Begin, Begun, Filled, Lease, Lookup, Outcome

OWNER = object()
MOMENT = Moment(epoch=1, clock=100)
KIND = CacheType("kind", ttl=10, stale_while_revalidate=5, stale_if_error=50)
POLICY = Policies((), settings=Settings(), names=Names(), statistics=Statistics()).policy(KIND)
SECOND = 1_000_000


def entry(*, created: int = 0, **fields: Any) -> Entry:
    draft = Draft(b"v", 10.0, 5.0, 50.0, tags=("c:kind",))
    made = Entry.of(draft, epoch=1, as_of=created, created=created)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


ABSENT = Lookup(None, 100)
STALE = Lookup(entry(), 12 * SECOND, b"old", "")
EXPIRED = Lookup(entry(), 30 * SECOND, b"old", "")


class Script:
    """Drives a load by hand: each step says which command is expected, and what to reply."""

    def __init__(
        self, *keys: str, lookup: Lookup | None = ABSENT, flights: Flights | None = None, **terms: Any
    ) -> None:
        self.flights = flights or Flights()
        self.now = 0.0
        options: dict[str, Any] = {
            "owner": OWNER,
            "policy": POLICY,
            "moment": MOMENT,
            "began": 50,
            "parent": None,
            "own_keys": set(),
            "clock": lambda: self.now,
            "token": lambda: "ltoken",
        }
        self.terms = Terms(**{**options, **terms})
        readers = [Reader(key, ("c:kind",), lookup) for key in keys or ("k",)]
        self._steps = load(readers, self.flights, self.terms)
        self.command: Any = next(self._steps, None)
        self.done: Done | None = None

    def reply(self, value: Any = None) -> Any:
        """Answer the present command; the next one."""
        try:
            self.command = self._steps.send(value)
        except StopIteration as stop:
            self.command, self.done = None, stop.value
        return self.command

    def expects(self, kind: type) -> Any:
        assert isinstance(self.command, kind), self.command
        return self.command

    def begins(self, *answers: Begun | None) -> Any:
        self.expects(AskLeases)
        return self.reply(list(answers))

    def runs(self, *, value: bytes = b"new", keys: tuple[str, ...] = ()) -> Any:
        command = self.expects(RunLoader)
        loads: list[Load] = list(command.loads)
        with loads[0]:
            pass
        drafts = {each.key: Draft(value, 10.0, tags=("c:kind",)) for each in loads if not keys or each.key in keys}
        return self.reply(Loaded(drafts))

    def fills(self, *outcomes: Outcome | None) -> Any:
        self.expects(FillResults)
        return self.reply([None if outcome is None else Filled(outcome, 10) for outcome in outcomes])


def granted(key: str = "k") -> Begun:
    return Begun(Begin.GRANTED, Lease(key, "ltoken"))


BUSY = Begun(Begin.BUSY, holder="lother")


def test_load__granted_and_stored() -> None:
    """Begin, run, fill: three commands, and nothing left behind."""
    script = Script()
    assert script.command.wants[0].key == "k"
    assert script.command.moment == MOMENT
    script.begins(granted())
    fill = script.runs()
    ((_, result),) = fill.results
    assert (result.lease.token, result.moment) == ("ltoken", MOMENT)
    script.fills(Outcome.STORED)
    assert script.done == Done({}, {"k": Outcome.STORED})
    assert script.flights._flights == {}


@pytest.mark.parametrize(
    ("lookup", "answer"),
    [(None, None), (ABSENT, None), (ABSENT, Begun(Begin.UNSTORABLE))],
    ids=["away", "error", "old"],
)
def test_load__without_a_lease_runs_and_stores_nothing(lookup: Lookup | None, answer: Begun | None) -> None:
    """The store is away, or what this reader loads could not be stored."""
    script = Script(lookup=lookup)
    if lookup is not None:
        script.begins(answer)
    assert script.runs() is None
    assert script.done == Done({}, {})


def test_load__filled_meanwhile_is_looked_at() -> None:
    """Somebody was faster: their entry is taken, and those who wait here get it too."""
    script = Script()
    waits = Script(flights=script.flights, began=60)
    waits.expects(WaitFor)
    script.begins(Begun(Begin.FILLED))
    script.expects(Look)
    script.reply([Lookup(entry(), 0, b"new", "")])
    assert script.done is not None
    assert script.done.shared["k"].entry == entry()
    waits.reply()
    assert waits.done is not None
    assert waits.done.shared["k"].entry == entry()


def test_load__another_process_loads() -> None:
    """It polls, with pauses that grow; when the entry is there it is taken."""
    script = Script()
    pauses = []
    for _ in range(4):
        script.begins(BUSY)
        pauses.append(script.expects(Pause).seconds)
        script.reply()
    assert pauses == sorted(pauses)
    assert pauses[-1] > pauses[0]
    script.begins(Begun(Begin.FILLED))
    script.reply([Lookup(entry(), 0, b"new", "")])
    assert script.done is not None
    assert "k" in script.done.shared


def test_load__waits_for_two_loads_of_others_at_most() -> None:
    """Where every load is overtaken others take the lease again and again: it loads for itself then."""
    script = Script()
    for number in range(2):
        script.begins(Begun(Begin.BUSY, holder=f"l{number}"))
        script.expects(Pause)
        script.reply()
    script.begins(Begun(Begin.BUSY, holder="l2"))
    script.runs()
    assert script.done == Done({}, {})


def test_load__waits_no_longer_than_it_may() -> None:
    """After its time it loads alone."""
    script = Script(seconds=3.0)
    script.begins(BUSY)
    script.now = 5.0
    script.reply()
    script.begins(BUSY)
    assert script.expects(RunLoader).loads[0].lease is None


@pytest.mark.parametrize("busy", ["flight", "lease"])
def test_load__stale_is_served_while_another_loads(busy: str) -> None:
    """Whoever has something stale waits for nobody; inside a load, where it could not be stored, it waits."""
    flights = Flights()
    for parent, shared in ((None, True), (running(), False)):
        if busy == "flight":
            flights.join("k", "other", 0)
        script = Script(lookup=STALE, flights=flights, parent=parent)
        if busy == "lease":
            script.begins(BUSY)
        assert (script.done is None and script.command is not None) is not shared
        if shared and script.done is not None:
            assert script.done.shared["k"].stale


def running() -> Load:
    """A load that runs around a reader."""
    return Load("outer", POLICY, None, flight=None, terms=Script("outer").terms)


@pytest.mark.parametrize(("patience", "runs"), [(Patience.RUN_ALONE, True), (Patience.GIVE_UP, False)])
@pytest.mark.parametrize("busy", ["flight", "lease"])
def test_load__that_does_not_wait(patience: Patience, runs: bool, busy: str) -> None:
    """A request that others may wait for runs alone; a background refresh gives up."""
    flights = Flights()
    if busy == "flight":
        flights.join("k", "other", 0)
    script = Script(flights=flights, patience=patience)
    if busy == "lease":
        script.begins(BUSY)
    if runs:
        assert script.expects(RunLoader).loads[0].lease is None
    else:
        assert script.command is None


@pytest.mark.parametrize(
    ("outcome", "began", "shared"),
    [
        (Outcome.STORED, 10**20, False),
        (Outcome.STORED, 60, True),
        (Outcome.OVERTAKEN, 50, True),
        (Outcome.OVERTAKEN, 51, False),
        (Outcome.REFUSED, 51, False),
    ],
)
def test_load__a_result_is_shared_with_a_reason(outcome: Outcome, began: int, shared: bool) -> None:
    """A stored one with all who began before the fill was sent; another one with those its own request is as old as."""
    script = Script(began=50)
    waits = Script(flights=script.flights, began=began)
    script.begins(granted())
    script.runs()
    script.fills(outcome)
    waits.expects(WaitFor)
    command = waits.reply()
    if shared:
        assert waits.done is not None
        assert waits.done.shared["k"].entry.content == b"new"
    else:
        assert isinstance(command, Look)
        waits.reply([ABSENT])
        waits.expects(AskLeases)


def test_load__many_overtaken_by_one_invalidation_make_two_loads() -> None:
    """The youngest who waited leads the next load; all others take it."""
    first = Script(began=50)
    waiters = [Script(flights=first.flights, began=51 + number) for number in range(20)]
    first.begins(granted())
    first.runs()
    first.fills(Outcome.OVERTAKEN)
    for each in waiters:
        each.reply()
        each.reply([ABSENT])
    leaders = [each for each in waiters if isinstance(each.command, AskLeases)]
    assert leaders == [waiters[-1]]
    leaders[0].begins(granted())
    leaders[0].runs()
    leaders[0].fills(Outcome.OVERTAKEN)
    for each in waiters[:-1]:
        each.expects(WaitFor)
        each.reply()
        assert each.done is not None
        assert "k" in each.done.shared


def test_load__the_next_leader_finds_another_s_entry() -> None:
    """Another process was faster: the one that was to lead does not, and nobody waits for it."""
    first = Script(began=50)
    old, young = (Script(flights=first.flights, began=began) for began in (51, 52))
    first.begins(granted())
    first.runs()
    first.fills(Outcome.OVERTAKEN)
    young.reply()
    young.reply([Lookup(entry(), 0, b"new", "")])
    assert young.done is not None
    assert "k" in young.done.shared
    old.reply()
    old.reply([ABSENT])
    old.begins(granted())
    old.runs()
    old.fills(Outcome.STORED)
    assert first.flights._flights == {}


def test_load__what_cannot_be_stored_is_for_nobody_else() -> None:
    """A pass marker is left, and those who wait here run at once, each with the marker's lease."""
    script = Script()
    waits = Script(flights=script.flights, began=60)
    script.begins(granted())
    command = script.expects(RunLoader)
    with command.loads[0]:
        pass
    release = script.reply(Loaded({}))
    assert isinstance(release, ReleaseLeases)
    assert release.pass_for > 0
    script.reply()
    waits.expects(WaitFor)
    waits.reply()
    waits.begins(Begun(Begin.PASS, Lease("k", "ptoken")))
    assert waits.expects(RunLoader).loads[0].flight is None


@pytest.mark.parametrize("shares", [True, False])
def test_load__a_failed_loader(shares: bool) -> None:
    """Its waiters get the exception of a `fetch`; those of a view load for themselves."""
    script = Script()
    waits = Script(flights=script.flights, shares_errors=shares)
    script.begins(granted())
    script.expects(RunLoader)
    release = script.reply(Loaded(error=ValueError("no"), failed=True))
    assert isinstance(release, ReleaseLeases)
    assert release.failed
    script.reply()
    assert script.done == Done({}, {})
    if shares:
        with pytest.raises(ValueError, match="no"):
            waits.reply()
    else:
        waits.reply()
        waits.expects(AskLeases)


def test_load__an_expired_entry_stands_in_for_a_failure() -> None:
    """Not for an answer that is an exception, which did not fail."""
    for failed in (True, False):
        script = Script(lookup=EXPIRED)
        script.begins(granted())
        script.expects(RunLoader)
        script.reply(Loaded(error=ValueError("no"), failed=failed))
        script.reply()
        assert script.done is not None
        assert ("k" in script.done.shared) is failed


def test_load__writes_only_after_its_own_fill() -> None:
    """What goes to other keys is stored when the loaded key was, and not else."""
    for outcome, written in ((Outcome.STORED, True), (Outcome.REFUSED, False)):
        script = Script()
        script.begins(granted())
        command = script.expects(RunLoader)
        with command.loads[0]:
            pass
        draft = Draft(b"v", 10.0)
        script.reply(Loaded({"k": draft}, writes=[("variant", draft)]))
        script.fills(outcome)
        if written:
            script.expects(WriteResults)
            script.reply([Filled(Outcome.STORED, 1)])
        assert script.done is not None
        assert ("variant" in script.done.outcomes) is written


def test_load__several_keys_own_ones_first() -> None:
    """Those that are free are loaded together, filled and released before anybody is waited for."""
    flights = Flights()
    other, _ = flights.join("b", "other", 0)
    script = Script("a", "b", "c", flights=flights, shares_errors=False)
    assert [want.key for want in script.command.wants] == ["a", "c"]
    script.begins(granted("a"), granted("c"))
    assert [each.key for each in script.expects(RunLoader).loads] == ["a", "c"]
    script.runs(keys=("a",))
    script.fills(Outcome.STORED)
    assert [each.key for each in script.expects(ReleaseLeases).loads] == ["c"]
    script.reply()
    assert script.expects(WaitFor).flight is other
    flights.land(other, Landing(entry(), good_until=99))
    script.reply()
    assert script.done is not None
    assert list(script.done.shared) == ["b"]


def test_load__inside_a_loader_of_its_own_key() -> None:
    """It waits for nobody, asks for no lease, and what it loads is not stored."""
    script = Script(own_keys={"k"})
    (inner,) = script.expects(RunLoader).loads
    assert (inner.lease, inner.flight) == (None, None)


def test_load__ends_whatever_happens() -> None:
    """A generator that is closed in the midst lands its flights, and those who wait try again."""
    script = Script()
    waits = Script(flights=script.flights)
    script._steps.close()
    waits.reply()
    waits.expects(Look)
    waits.reply([ABSENT])
    waits.expects(AskLeases)


@pytest.fixture
def request_scope() -> Any:
    scope = Scope(OWNER, MOMENT)
    token = scope_var.set(scope)
    yield scope
    scope_var.reset(token)


def run_with(act: Callable[[], None]) -> Load:
    """A load that has a lease, and did this while it ran."""
    one = Load("k", POLICY, Lease("k", "l"), flight=None, terms=Script().terms)
    with one:
        act()
    return one


def test_record_read__tags_before_and_during_the_load(request_scope: Scope) -> None:
    """Each with the least `as_of` it was read with (rule R3.4)."""
    record_read(OWNER, entry(tags=(("a", 7), ("b", 9))))
    one = run_with(lambda: record_read(OWNER, entry(tags=(("a", 5), ("c", 8)))))
    assert dict(one.draft(b"v", ttl=1).inherited) == {"a": 5, "b": 9, "c": 8}
    assert one.can_be_stored
    record_read(object(), entry(tags=(("foreign", 1),)))
    later = run_with(lambda: None)
    assert later.reads == {"a": 5, "b": 9, "c": 8, "c:kind": 100}, "the load before is a read too"


@pytest.mark.parametrize(
    "act",
    [
        lambda: record_read(OWNER, entry(tags=(("a", 7),)), stale=True),
        lambda: record_read(OWNER, entry(epoch=2, tags=(("a", 7),))),
    ],
    ids=["stale", "another epoch"],
)
@pytest.mark.parametrize("when", ["before", "during"])
def test_record_read__what_forbids_to_store(request_scope: Scope, act: Callable[[], None], when: str) -> None:
    """A load that used a stale value, or one of another epoch, is not stored."""
    if when == "before":
        act()
    assert not run_with(act if when == "during" else lambda: None).can_be_stored


def test_record_read__outside_of_a_request() -> None:
    """Only what is read during the load counts; without a load nothing is kept."""
    record_read(OWNER, entry(tags=(("a", 7),)))
    one = run_with(lambda: record_read(OWNER, entry(tags=(("b", 7),))))
    assert dict(one.reads) == {"b": 7}


@pytest.mark.parametrize(
    ("seconds", "inside", "expected"),
    [
        (9, False, Decision.HIT),
        (11, False, Decision.STALE),
        (11, True, Decision.LOAD),
        (16, False, Decision.LOAD),
        (100, False, Decision.LOAD),
    ],
)
def test_decide(seconds: int, inside: bool, expected: Decision) -> None:
    """Fresh, stale while revalidating, and gone; nothing stale inside a load."""
    assert decide(entry(), seconds * SECOND, inside_load=inside, beta=0, draw=0.5) is expected


def test_decide__early() -> None:
    """XFetch: the costlier the load and the nearer the end, the likelier."""
    costly = entry(cost=2.0)
    assert decide(costly, 9 * SECOND, inside_load=False, beta=1, draw=0.5) is Decision.REFRESH
    assert decide(costly, 1 * SECOND, inside_load=False, beta=1, draw=0.5) is Decision.HIT
    assert decide(costly, 9 * SECOND, inside_load=False, beta=0, draw=0.0001) is Decision.HIT
    assert decide(None, 9 * SECOND, inside_load=False, beta=1, draw=0.5) is Decision.LOAD
