"""The engine's rules R1 to R4, put to every store through the protocol alone."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flask_rcache.model.entry import Draft, Freshness, StoredResponse, VariantMarker
from flask_rcache.model.keys import key_tag, type_tag, user_tag
from flask_rcache.stores.protocol import Begin, LoadedResult, Outcome, Want
from tests.stores.conftest import FEW_ROWS
from tests.stores.kit import Kit


def test_read__absent_key(kit: Kit) -> None:
    """Nothing there: no entry, no identity, and the store's clock."""
    lookup = kit.read(kit.key())
    assert (lookup.entry, lookup.identity, lookup.reason) == (None, b"", "absent")
    assert lookup.now > 0


def test_fill__is_read_back_whole(kit: Kit) -> None:
    """All that a draft has comes back, its own tags with the load's as_of and inherited ones with theirs."""
    key = kit.key()
    inner = kit.load(kit.key("inner"), tags=["inner"]).moment
    started = kit.start(key)
    draft = Draft(
        b"content",
        ttl=60.0,
        stale_while_revalidate=5.0,
        stale_if_error=7.0,
        tags=(type_tag("search"), user_tag("eu")),
        inherited=((user_tag("inner"), inner.as_of),),
        cost=0.25,
        origin="shop:index",
    )
    filled = kit.store.fill([LoadedResult(started.lease, draft, started.moment)])[0]
    assert filled.outcome is Outcome.STORED
    lookup = kit.read(key)
    entry = lookup.entry
    assert entry is not None
    assert (entry.content, entry.origin) == (b"content", "shop:index")
    assert (entry.ttl, entry.stale_while_revalidate, entry.stale_if_error, entry.cost) == (60.0, 5.0, 7.0, 0.25)
    epoch, as_of, *_ = kit.at(started.moment, key)
    known = {type_tag("search"): as_of, user_tag("eu"): as_of, user_tag("inner"): kit.at(inner, key).clock}
    assert dict(entry.tags) == known
    assert (entry.epoch, entry.as_of) == (epoch, as_of)
    assert as_of < entry.created <= lookup.now
    assert entry.freshness(lookup.now) is Freshness.FRESH
    assert lookup.size == filled.size > 0
    assert lookup.identity


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff",
        StoredResponse("200 OK", (("X-A", "1"), ("X-A", "2")), b"\x00body"),
        VariantMarker(("accept",), ("a" * 32, "b" * 32), (5, 9)),
    ],
    ids=["empty", "bytes", "response", "variants"],
)
def test_fill__keeps_every_content(kit: Kit, content: bytes | StoredResponse | VariantMarker) -> None:
    """Whatever an entry may hold comes back equal."""
    kit.load(kit.key(), content)
    assert kit.value(kit.key()) == content


def test_write__is_read_back_and_replaces(kit: Kit) -> None:
    """A write needs no lease, and the later one stays."""
    key = kit.key()
    kit.write(key, b"one")
    first = kit.read(key).identity
    filled = kit.store.write([(key, kit.draft(key, b"two", tags=["eu"]))], None)
    assert kit.value(key) == b"two"
    assert kit.read(key).identity != first
    assert [each.size for each in filled] == [kit.read(key).size]
    kit.store.invalidate([user_tag("eu")])
    assert kit.value(key) is None


# R1: what is read is checked


@pytest.mark.parametrize("invalidate", ["tag", "inherited tag", "type", "everything"])
def test_invalidate__makes_a_filled_entry_invalid(kit: Kit, invalidate: str) -> None:
    """A stamp on any of its tags, its type or everything: the entry is not served, and the lookup says why."""
    key, other = kit.key(), kit.key("b", "product")
    started = kit.start(key)
    kit.fill(started, tags=["eu"], inherited=((user_tag("inner"), started.moment.as_of),))
    kit.load(other)
    if invalidate == "tag":
        kit.store.invalidate([user_tag("eu")])
    elif invalidate == "inherited tag":
        kit.store.invalidate([user_tag("inner")])
    elif invalidate == "type":
        kit.store.invalidate((), ["search"])
    else:
        kit.store.invalidate((), (), everything=True)
    lookup = kit.read(key)
    assert lookup.entry is None
    assert lookup.reason in ("invalid", "absent")
    assert (kit.value(other) is None) == (invalidate == "everything")


def test_invalidate__leaves_what_comes_after(kit: Kit) -> None:
    """A load begun after the invalidation is valid."""
    key = kit.key()
    kit.load(key, b"old", tags=["eu"])
    kit.store.invalidate([user_tag("eu")], ["search"])
    kit.load(key, b"new", tags=["eu"])
    assert kit.value(key) == b"new"


def test_invalidate__another_tag_does_no_harm(kit: Kit) -> None:
    """Only what has the tag is invalidated; a tag and a type of one name are two things."""
    key = kit.key()
    kit.load(key, tags=["eu"])
    kit.store.invalidate([user_tag("us"), user_tag("search"), user_tag("e"), user_tag("*")], ["eu"])
    assert kit.value(key) == b"v"


def test_invalidate__inherited_tag_older_than_its_stamp(kit: Kit) -> None:
    """An inherited tag counts with its own as_of: one known from before its stamp refuses the fill."""
    before = kit.moment().as_of
    kit.store.invalidate([user_tag("inner")])
    started = kit.start(kit.key())
    assert started.moment.as_of != before
    assert kit.fill(started, inherited=((user_tag("inner"), before),)) is Outcome.OVERTAKEN
    assert kit.value(kit.key()) is None


def test_invalidate__inherited_tag_older_than_the_floor(kit: Kit) -> None:
    """The same for the floor: what was read before everything was invalidated is not built upon."""
    before = kit.moment().as_of
    kit.store.invalidate((), (), everything=True)
    assert kit.fill(kit.start(kit.key()), inherited=((user_tag("inner"), before),)) is Outcome.OVERTAKEN


def test_invalidate__own_and_inherited_tag(kit: Kit) -> None:
    """A tag that is both own and inherited counts with the earlier as_of."""
    before = kit.moment().as_of
    kit.store.invalidate([user_tag("eu")])
    started = kit.start(kit.key())
    assert kit.fill(started, tags=["eu"], inherited=((user_tag("eu"), before),)) is Outcome.OVERTAKEN


def test_invalidate__counts_live_entries_of_types(kit: Kit) -> None:
    """The count is of the types' live entries; tags count nothing."""
    for number in range(5):
        kit.load(kit.key(f"k{number}"), tags=["eu"])
    kit.load(kit.key("p", "product"))
    assert kit.store.invalidate([user_tag("eu")]) == 0
    for number in range(3):
        kit.load(kit.key(f"k{number}"))
    assert kit.store.invalidate((), ["search"]) in (3, 5)  # by the index: the invalid ones may still count
    assert kit.store.invalidate((), ["search"]) == 0
    kit.load(kit.key())
    assert kit.store.invalidate((), (), everything=True) == 2
    assert kit.store.invalidate((), (), everything=True) == 0


@pytest.mark.parametrize("count", [1, 16, 17, 63, 64, 65, 2000])
def test_invalidate__entries_with_many_tags(kit: Kit, count: int) -> None:
    """However many tags an entry has (R1.6): each of them invalidates it, any number of others does not."""
    key = kit.key()
    tags = [f"t{number}" for number in range(count)]
    kit.load(key, tags=tags)
    kit.store.invalidate([user_tag(f"other{number}") for number in range(100)])
    assert kit.value(key) == b"v"
    for tag in {tags[0], tags[-1], tags[count // 2]}:
        kit.store.invalidate([user_tag(tag)])
        assert kit.value(key) is None, tag
        kit.load(key, tags=tags)
        assert kit.value(key) == b"v"


def test_read_many__checks_each_key_for_itself(kit: Kit) -> None:
    """Fresh, invalid by a tag the caller did not name, and absent, in the order asked."""
    good, bad, absent = kit.key("good"), kit.key("bad"), kit.key("absent")
    kit.load(good, b"good", tags=["x"])
    kit.load(bad, b"bad", tags=["y"])
    kit.store.invalidate([user_tag("y")])
    store = kit.connect() if kit.connect is not None else kit.store
    lookups = store.read_many([absent, bad, good, good], (type_tag("search"),))
    found = [None if lookup.entry is None else lookup.entry.content for lookup in lookups]
    assert found == [None, None, b"good", b"good"]
    assert kit.store.read_many([], ()) == []


def test_read__another_process_knows_the_tags(shared_kit: Kit) -> None:
    """A process that asks for the type only still finds out the stamps of all tags of what it reads."""
    key = shared_kit.key()
    shared_kit.load(key, tags=["eu"])
    assert shared_kit.connect is not None
    late = shared_kit.connect()
    assert late.read(key, ()).entry is not None
    shared_kit.store.invalidate([user_tag("eu")])
    assert late.read(key, ()).entry is None
    fresh = shared_kit.connect()
    assert fresh.read(key, ()).entry is None


def test_read__tags_that_changed_with_the_fill(shared_kit: Kit) -> None:
    """An entry refilled by another process under other tags is checked by the new ones."""
    key = shared_kit.key()
    shared_kit.load(key, tags=["old"])
    assert shared_kit.value(key) == b"v"
    assert shared_kit.connect is not None
    other = Kit(shared_kit.connect(), shared_kit.names)
    other.store.delete([key])
    other.load(key, b"w", tags=["new"])
    assert shared_kit.value(key) == b"w"
    other.store.invalidate([user_tag("new")])
    assert shared_kit.value(key) is None


# R1.4: rows are dropped, which costs misses and serves nothing old


def _flood(kit: Kit, name: str = "flood") -> None:
    """Invalidate more unrelated tags than there is room for rows."""
    for number in range(2 * FEW_ROWS):
        kit.store.invalidate([user_tag(f"{name}{number}")])


def test_rows__entry_in_use_outlives_a_flood(narrow_kit: Kit) -> None:
    """Unrelated invalidations, however many, do not invalidate an entry: its own rows are the last to go."""
    kit = narrow_kit
    kit.load(kit.key(), tags=["eu"])
    _flood(kit)
    assert kit.value(kit.key()) == b"v"
    kit.store.invalidate([user_tag("eu")])
    assert kit.value(kit.key()) is None


def test_rows__dropped_stamp_still_refuses(narrow_kit: Kit) -> None:
    """A load that began before a stamp whose row is gone is refused; one that began after the drop is stored."""
    kit = narrow_kit
    early = kit.start(kit.key())
    kit.store.invalidate([user_tag("eu")])
    _flood(kit)
    assert kit.fill(early, tags=["eu"]) is Outcome.OVERTAKEN
    assert kit.fill(kit.start(kit.key()), tags=["eu"]) is Outcome.STORED
    assert kit.value(kit.key()) == b"v"


def test_rows__dropped_stamp_refuses_inherited_tags(narrow_kit: Kit) -> None:
    """The same for a tag that came with a value read before: its own as_of is what counts."""
    kit = narrow_kit
    before = kit.moment().as_of
    kit.store.invalidate([user_tag("inner")])
    _flood(kit)
    assert kit.fill(kit.start(kit.key()), inherited=((user_tag("inner"), before),)) is Outcome.OVERTAKEN


def test_rows__a_row_that_is_there_proves_an_old_reading(narrow_kit: Kit) -> None:
    """A fill is refused tag by tag: an as_of before dropped rows is good for tags that have rows (R1.4)."""
    kit = narrow_kit
    key = kit.key()  # the same for both, so that on a cluster the rows are those of the shard that is asked
    kit.load(key, tags=["eu"], ttl=600.0)
    early = kit.moment().as_of
    _flood(kit)
    inherited = ((type_tag("search"), early), (user_tag("eu"), early))
    assert kit.fill(kit.start(key, kit.read(key).identity), b"new", inherited=inherited) is Outcome.STORED
    assert kit.value(key) == b"new"
    other = ((user_tag("no row"), early),)
    assert kit.fill(kit.start(kit.key("b")), inherited=other) is Outcome.OVERTAKEN


def test_rows__of_live_entries_are_dropped_at_last(narrow_kit: Kit) -> None:
    """More tags in use than there is room for: entries may be lost, and none is served after its invalidation."""
    kit = narrow_kit
    keys = [kit.key(f"k{number}") for number in range(3 * FEW_ROWS)]
    for number, key in enumerate(keys):
        kit.load(key, tags=[f"t{number}"])
    for number, key in enumerate(keys):
        kit.store.invalidate([user_tag(f"t{number}")])
        assert kit.value(key) is None
    for number, key in enumerate(keys):
        assert kit.value(key) is None, "a row that is dropped brings nothing back"
        kit.load(key, b"new", tags=[f"t{number}"])
        assert kit.value(key) == b"new"


def test_rows__dropped_key_stamp_still_refuses(narrow_kit: Kit) -> None:
    """The stamp of a deleted key may go as any other: what was read before is not written, nor loaded."""
    kit = narrow_kit
    before = kit.moment()
    kit.store.delete([kit.key()])
    _flood(kit)
    assert kit.write(kit.key(), moment=before) is Outcome.OVERTAKEN
    assert kit.ask(kit.key(), moment=before).kind is Begin.UNSTORABLE


# R2: the clock


def test_moment__grows_with_what_happens(kit: Kit) -> None:
    """Each invalidation, fill and write is later than all before it, and is heard by who made it."""
    readings = [kit.at(kit.moment(), kit.key()).clock]
    for number in range(10):
        kit.store.invalidate([user_tag(f"t{number}")])
        readings.append(kit.at(kit.moment(), kit.key()).clock)
    assert readings == sorted(set(readings))


def test_write__threads_never_share_a_reading(kit: Kit) -> None:
    """Among threads too, no two entries are made at one reading of the clock."""
    created: list[int] = []

    def write(thread: int) -> None:
        for number in range(25):
            key = kit.key(f"t{thread}.{number}")
            kit.write(key)
            entry = kit.read(key).entry
            assert entry is not None
            created.append(entry.created)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(created)) == len(created) == 100


def test_moment__same_instant_as_an_invalidation(kit: Kit) -> None:
    """A load begun before an invalidation loses and one begun after wins, even within one microsecond."""
    for number in range(20):
        before = kit.start(kit.key(f"before{number}"))
        kit.store.invalidate((), ["search"])
        after = kit.start(kit.key(f"after{number}"))
        assert kit.fill(before) is Outcome.OVERTAKEN
        assert kit.fill(after) is Outcome.STORED
        assert kit.value(after.lease.key) == b"v"


def test_moment__of_another_epoch(kit: Kit) -> None:
    """A reading of another epoch means nothing here: no lease for it, no fill, no write."""
    other = kit.of_another_epoch()
    assert kit.ask(kit.key(), moment=other).kind is Begin.UNSTORABLE
    started = kit.start(kit.key())
    assert kit.fill(started._replace(moment=other)) is Outcome.REFUSED
    assert kit.write(kit.key(), moment=other) is Outcome.REFUSED
    assert kit.value(kit.key()) is None


def test_moment__in_the_future_of_the_store(kit: Kit) -> None:
    """What lies under a key says when it was made by the store's clock, whatever its load claims."""
    kit.load(kit.key())
    entry = kit.read(kit.key()).entry
    assert entry is not None
    assert entry.created > entry.as_of


# R3: overtaken loads


@pytest.mark.parametrize("invalidate", ["tag", "type", "everything", "key"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_fill__overtaken(kit: Kit, invalidate: str, moment: str) -> None:
    """What counts is the moment, not the lease: an older one is refused, whenever the lease was taken."""
    key = kit.key()
    before = kit.moment()
    if invalidate == "type":
        kit.store.invalidate((), ["search"])
    elif invalidate == "everything":
        kit.store.invalidate((), (), everything=True)
    elif invalidate == "key":
        kit.store.delete([key])
    else:
        kit.store.invalidate([user_tag("eu")])
    started = kit.start(key)
    if moment == "before":
        started = started._replace(moment=before)
    assert kit.fill(started, tags=["eu"]) is (Outcome.OVERTAKEN if moment == "before" else Outcome.STORED)
    assert kit.value(key) == (None if moment == "before" else b"v")
    assert kit.ask(key, kit.read(key).identity).kind is Begin.GRANTED, "its lease has ended"


def test_fill__overtaken_leaves_the_neighbours_alone(kit: Kit) -> None:
    """Of fills sent together only the overtaken one is refused; outcomes come in order."""
    keys = [kit.key("a"), kit.key("b"), kit.key("c")]
    moment = kit.moment()
    begun = kit.store.begin([Want(key, b"", kit.tags(key)) for key in keys], "l1234", moment)
    kit.store.invalidate([user_tag("eu")])
    results = [
        LoadedResult(each.lease, kit.draft(key, tags=["eu"] if key == keys[1] else ["us"]), moment)
        for key, each in zip(keys, begun, strict=True)
        if each.lease is not None
    ]
    outcomes = [filled.outcome for filled in kit.store.fill(results)]
    assert outcomes == [Outcome.STORED, Outcome.OVERTAKEN, Outcome.STORED]
    assert [kit.value(key) for key in keys] == [b"v", None, b"v"]


def test_fill__each_with_its_own_moment(kit: Kit) -> None:
    """Results of one call may be of different moments."""
    first = kit.start(kit.key("a"))
    kit.store.invalidate([user_tag("eu")])
    second = kit.start(kit.key("b"))
    results = [
        LoadedResult(each.lease, kit.draft(each.lease.key, tags=["eu"]), each.moment) for each in (first, second)
    ]
    assert [filled.outcome for filled in kit.store.fill(results)] == [Outcome.OVERTAKEN, Outcome.STORED]


# R4: leases


def test_begin__one_holder(kit: Kit) -> None:
    """The second caller learns who loads; the holder's own token is granted again."""
    key = kit.key()
    assert kit.ask(key, token="l11").kind is Begin.GRANTED
    busy = kit.ask(key)
    assert (busy.kind, busy.holder, busy.lease) == (Begin.BUSY, "l11", None)
    assert kit.ask(key, token="l11").kind is Begin.GRANTED


def test_begin__free_after_fill_and_release(kit: Kit) -> None:
    """A fill and a release end the lease."""
    key = kit.key()
    kit.fill(kit.start(key))
    identity = kit.read(key).identity
    started = kit.start(key, identity)
    assert kit.ask(key, identity).kind is Begin.BUSY
    kit.store.release([started.lease])
    assert kit.ask(key, identity).kind is Begin.GRANTED


def test_begin__filled_meanwhile(kit: Kit) -> None:
    """Only an entry other than the one the caller found unusable is "filled meanwhile"."""
    key = kit.key()
    kit.load(key)
    first = kit.read(key).identity
    assert kit.ask(key).kind is Begin.FILLED
    assert kit.ask(key, b"x" * len(first)).kind is Begin.FILLED
    kit.load(key)
    second = kit.read(key).identity
    assert kit.ask(key, first).kind is Begin.FILLED
    assert kit.ask(key, second).kind is Begin.GRANTED


def test_begin__refilled_at_the_same_moment(kit: Kit) -> None:
    """Two fills that claim one moment are two entries."""
    key, moment = kit.key(), kit.moment()
    kit.fill(kit.start(key, moment=moment), b"one")
    first = kit.read(key).identity
    kit.fill(kit.start(key, first, moment=moment), b"two")
    assert kit.value(key) == b"two"
    assert kit.ask(key, first).kind is Begin.FILLED


def test_begin__an_invalid_entry_does_not_block(kit: Kit) -> None:
    """An invalidated entry that still lies there is known by its identity, and the key can be loaded."""
    key = kit.key()
    kit.load(key, tags=["eu"])
    kit.store.invalidate([user_tag("eu")])
    lookup = kit.read(key)
    assert lookup.reason == "invalid"
    assert kit.ask(key, lookup.identity).kind is Begin.GRANTED


def test_fill__only_with_its_lease(kit: Kit) -> None:
    """A token that holds no lease stores nothing, and does not free another's."""
    key = kit.key()
    started = kit.start(key)
    forged = started._replace(lease=started.lease._replace(token="l00"))
    assert kit.fill(forged) is Outcome.REFUSED
    assert kit.value(key) is None
    assert kit.ask(key).kind is Begin.BUSY
    assert kit.fill(started) is Outcome.STORED
    assert kit.fill(started, b"twice") is Outcome.REFUSED
    assert kit.value(key) == b"v"


@pytest.mark.parametrize("taken", [True, False])
def test_fill__lease_ran_out(kit: Kit, taken: bool) -> None:
    """A holder whose lease ran out is refused, whether another took it or nobody; the other is not disturbed."""
    key = kit.key()
    slow = kit.start(key)
    kit.lease_runs_out(key)
    if taken:
        quick = kit.start(key)
        assert kit.fill(slow, b"slow") is Outcome.REFUSED
        assert kit.ask(key).kind is Begin.BUSY
        assert kit.fill(quick, b"quick") is Outcome.STORED
    else:
        assert kit.fill(slow, b"slow") is Outcome.REFUSED
    assert kit.value(key) == (b"quick" if taken else None)


@pytest.mark.parametrize("void", ["write", "delete"])
def test_fill__lease_voided(kit: Kit, void: str) -> None:
    """A write or a delete of the key during its load: the late result is refused."""
    key = kit.key()
    started = kit.start(key)
    if void == "write":
        kit.write(key, b"written")
    else:
        kit.store.delete([key])
    assert kit.fill(started, b"late") is Outcome.REFUSED
    assert kit.value(key) == (b"written" if void == "write" else None)
    assert kit.ask(key, kit.read(key).identity).kind is Begin.GRANTED


def test_release__only_by_its_token(kit: Kit) -> None:
    """Somebody else's release does not free a lease; a late holder's does not free its successor's."""
    key = kit.key()
    first = kit.start(key).lease
    kit.store.release([first._replace(token="l00")])
    assert kit.ask(key).kind is Begin.BUSY
    kit.lease_runs_out(key)
    second = kit.start(key).lease
    kit.store.release([first])
    kit.store.release([first], pass_for=5.0)
    assert kit.ask(key).kind is Begin.BUSY
    kit.store.release([second])
    assert kit.ask(key).kind is Begin.GRANTED


# R4.3: who can't be stored gives way, once


INVALIDATIONS: dict[str, Callable[[Kit, str], object]] = {
    "known tag": lambda kit, key: kit.store.invalidate([user_tag("eu")]),
    "type": lambda kit, key: kit.store.invalidate((), ["search"]),
    "everything": lambda kit, key: kit.store.invalidate((), (), everything=True),
    "pattern": lambda kit, key: kit.store.invalidate_pattern(*kit.names.pattern("search:*")),
}


@pytest.mark.parametrize("by", INVALIDATIONS)
def test_begin__unstorable(kit: Kit, by: str) -> None:
    """Who comes with a moment before an invalidation takes no lease: others may, and wait for nobody."""
    key = kit.key()
    before = kit.moment()
    INVALIDATIONS[by](kit, key)
    begun = kit.ask(key, moment=before, tags=["eu"])
    assert (begun.kind, begun.lease) == (Begin.UNSTORABLE, None)
    assert kit.ask(key, tags=["eu"]).kind is Begin.GRANTED


def test_begin__unstorable_after_a_delete(kit: Kit) -> None:
    """The stamp of the key itself counts as well."""
    before = kit.moment()
    kit.store.delete([kit.key()])
    assert kit.ask(kit.key(), moment=before).kind is Begin.UNSTORABLE
    assert kit.ask(kit.key("other"), moment=before).kind is Begin.GRANTED


def test_begin__no_moment(kit: Kit) -> None:
    """Who has heard no reading loads without a lease, and waits for who can be stored."""
    want = Want(kit.key(), b"", kit.tags(kit.key()))
    assert kit.store.begin([want], "l1", None)[0].kind is Begin.UNSTORABLE
    kit.start(kit.key())
    assert kit.store.begin([want], "l2", None)[0].kind is Begin.BUSY


def test_begin__unstorable_reader_waits_for_a_storable_holder(kit: Kit) -> None:
    """What the holder loads will be a valid entry, for those too who could not make one."""
    key = kit.key()
    before = kit.moment()
    kit.store.invalidate((), ["search"])
    kit.start(key)
    assert kit.ask(key, moment=before).kind is Begin.BUSY


@pytest.mark.parametrize("by", INVALIDATIONS)
def test_begin__overtaken_holder_gives_way_once(kit: Kit, by: str) -> None:
    """A lease whose holder can't be stored any more goes to a reader that can; a lease taken over stays with it."""
    key = kit.key()
    first = kit.start(key, tags=["eu"])
    assert kit.ask(key, tags=["eu"]).kind is Begin.BUSY
    INVALIDATIONS[by](kit, key)
    second = kit.start(key, tags=["eu"])
    assert kit.fill(first, b"first", tags=["eu"]) is Outcome.REFUSED
    assert kit.ask(key, tags=["eu"]).holder == second.lease.token
    INVALIDATIONS[by](kit, key)
    busy = kit.ask(key, tags=["eu"])
    assert (busy.kind, busy.holder) == (Begin.BUSY, second.lease.token), "else a stream of invalidations ends no load"
    assert kit.fill(second, b"second", tags=["eu"]) in (Outcome.OVERTAKEN, Outcome.REFUSED)
    third = kit.start(key, kit.read(key).identity, tags=["eu"])
    INVALIDATIONS[by](kit, key)
    fourth = kit.start(key, kit.read(key).identity, tags=["eu"])
    assert third.lease.token != fourth.lease.token, "a lease that was taken afresh may be taken over"


def test_begin__tags_of_no_interest_do_not_take_over(kit: Kit) -> None:
    """An invalidation of other tags leaves the lease where it is."""
    key = kit.key()
    kit.start(key, tags=["eu"])
    kit.store.invalidate([user_tag("us")])
    assert kit.ask(key, tags=["eu"]).kind is Begin.BUSY


# Pass markers


@pytest.mark.parametrize("failed", [False, True])
def test_release__leaves_a_pass_marker(kit: Kit, failed: bool) -> None:
    """After a load that could not be stored, or failed, all may load at once; nobody waits."""
    key = kit.key()
    kit.mark(key, failed=failed)
    first, second = kit.passing(key), kit.passing(key)
    assert first.lease.after_failure is second.lease.after_failure is failed
    kit.store.release([first.lease])
    kit.store.release([first.lease], pass_for=5.0, failed=failed)
    assert kit.ask(key).kind is Begin.PASS, "one of many loads ending takes the marker from nobody"
    assert kit.fill(second, b"second") is Outcome.STORED
    assert kit.fill(first, b"first") is Outcome.REFUSED
    assert kit.value(key) == b"second"
    assert kit.ask(key, kit.read(key).identity).kind is Begin.GRANTED


def test_release__marker_for_nobody_in_particular(kit: Kit) -> None:
    """A marker holds for those too whose load could not be stored: nobody waits."""
    before = kit.moment()
    kit.store.invalidate((), ["search"])
    kit.mark(kit.key())
    assert kit.ask(kit.key(), moment=before).kind is Begin.PASS


def test_fill__under_a_marker_is_overtaken_too(kit: Kit) -> None:
    """A load under a pass marker obeys R3 as any other."""
    kit.mark(kit.key())
    started = kit.passing(kit.key())
    kit.store.invalidate((), ["search"])
    assert kit.fill(started) is Outcome.OVERTAKEN


@pytest.mark.parametrize("void", ["write", "delete"])
def test_release__pass_marker_is_voided(kit: Kit, void: str) -> None:
    """A write or delete ends the marker, and loads under it are refused."""
    key = kit.key()
    kit.mark(key)
    started = kit.passing(key)
    if void == "write":
        kit.write(key, b"written")
    else:
        kit.store.delete([key])
    assert kit.fill(started, b"late") is Outcome.REFUSED
    assert kit.ask(key, kit.read(key).identity).kind is Begin.GRANTED


# Writes


@pytest.mark.parametrize("by", [*INVALIDATIONS, "delete"])
def test_write__at_a_moment(kit: Kit, by: str) -> None:
    """A write that claims a moment is a load that ends at once: an invalidation since then refuses it."""
    key = kit.key()
    before = kit.moment()
    if by == "delete":
        kit.store.delete([key])
    else:
        INVALIDATIONS[by](kit, key)
    refused = kit.write(key, b"old", moment=before, tags=["eu"])
    assert refused is (Outcome.REFUSED if by == "pattern" else Outcome.OVERTAKEN)
    assert kit.value(key) is None
    assert kit.write(key, b"new", moment=kit.moment(), tags=["eu"]) is Outcome.STORED
    assert kit.value(key) == b"new"


def test_write__without_a_moment_is_of_now(kit: Kit) -> None:
    """It takes the store's clock: no earlier invalidation refuses it, and each later one counts."""
    key = kit.key()
    kit.store.delete([key])
    kit.store.invalidate([user_tag("eu")], ["search"])
    kit.store.invalidate((), (), everything=True)
    kit.store.invalidate_pattern(*kit.names.pattern("search:*"))
    assert kit.write(key, tags=["eu"]) is Outcome.STORED
    entry = kit.read(key).entry
    assert entry is not None
    assert entry.as_of == entry.created
    kit.store.invalidate([user_tag("eu")])
    assert kit.value(key) is None


def test_write__inherited_tags_count(kit: Kit) -> None:
    """Whatever the write claims, what it was made of has its own as_of."""
    before = kit.moment().as_of
    kit.store.invalidate([user_tag("inner")])
    assert kit.write(kit.key(), inherited=((user_tag("inner"), before),)) is Outcome.OVERTAKEN


def test_write__only_over_what_was_found(kit: Kit) -> None:
    """Add and increment: the write happens only over the entry that its caller has seen, or over none."""
    key = kit.key()
    assert kit.write(key, b"1", expected=b"") is Outcome.STORED
    assert kit.write(key, b"other", expected=b"") is Outcome.CONFLICT
    first = kit.read(key).identity
    assert kit.write(key, b"2", expected=first) is Outcome.STORED
    assert kit.write(key, b"other", expected=first) is Outcome.CONFLICT
    assert kit.value(key) == b"2"
    kit.store.delete([key])
    assert kit.write(key, b"other", expected=first) is Outcome.CONFLICT
    assert kit.value(key) is None


def test_write__over_an_invalid_entry(kit: Kit) -> None:
    """An entry that lies there and is invalid is replaced by who found it so."""
    key = kit.key()
    kit.load(key, tags=["eu"])
    kit.store.invalidate([user_tag("eu")])
    assert kit.write(key, b"new", expected=kit.read(key).identity) is Outcome.STORED
    assert kit.value(key) == b"new"


def test_write__many_conditions(kit: Kit) -> None:
    """Each key has its own condition, and its own outcome, in order."""
    keys = [kit.key("a"), kit.key("b"), kit.key("c")]
    kit.load(keys[1])
    writes = [(key, kit.draft(key, b"w")) for key in keys]
    outcomes = [filled.outcome for filled in kit.store.write(writes, None, [b"", b"", b""])]
    assert outcomes == [Outcome.STORED, Outcome.CONFLICT, Outcome.STORED]
    assert [kit.value(key) for key in keys] == [b"w", b"v", b"w"]


def test_write__one_of_many_threads_adds(kit: Kit) -> None:
    """Of many that add at once exactly one succeeds."""
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(kit.write(kit.key(), b"mine", expected=b""))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(Outcome.STORED) == 1
    assert outcomes.count(Outcome.CONFLICT) == 7


# Deleting and patterns


def test_delete__removes_and_counts(kit: Kit) -> None:
    """The number is of those that were there; other keys stay."""
    for name in "abc":
        kit.load(kit.key(name))
    assert kit.store.delete([kit.key("a"), kit.key("b"), kit.key("nobody")]) == 2
    assert [kit.value(kit.key(name)) for name in "abc"] == [None, None, b"v"]
    assert kit.read(kit.key("a")).reason == "absent"
    assert kit.store.delete([kit.key("a")]) == 0


def test_delete__reaches_what_has_the_key_as_a_tag(kit: Kit) -> None:
    """The variants of a response go with the key that leads to them."""
    key, variant = kit.key(), kit.names.variant(kit.key(), "a" * 32)
    kit.load(key)
    started = kit.start(variant)
    assert kit.fill(started, tags=(), inherited=((key_tag(key), started.moment.as_of),)) is Outcome.STORED
    kit.store.delete([key])
    assert kit.value(variant) is None


def test_invalidate_pattern__over_types_and_hashed_ids(kit: Kit) -> None:
    """A glob reaches every type that it names, hashed ids by their hash, and nothing else."""
    hashed = kit.names.stored("search", "a key * with [globs]")
    keys = {
        "search:one": kit.key("one"),
        "search:two": kit.key("two"),
        "product:one": kit.key("one", "product"),
        "user:one": kit.key("one", "user"),
        "hashed": hashed,
    }
    for key in keys.values():
        kit.load(key)
    assert kit.store.invalidate_pattern(*kit.names.pattern("*:one")) == 3
    assert {name for name, key in keys.items() if kit.value(key)} == {"search:two", "hashed"}
    assert kit.store.invalidate_pattern(*kit.names.pattern(hashed)) == 1
    assert kit.value(hashed) is None
    assert kit.store.invalidate_pattern(*kit.names.pattern("t[vw]?", type_name="search")) == 1
    assert kit.store.invalidate_pattern(*kit.names.pattern("*")) == 0


#: What each glob means of `a`, `ab`, `abc`, `b` and `c`.
_GLOBS = {
    "a*": {"a", "ab", "abc"},
    "a?": {"ab"},
    "[ab]": {"a", "b"},
    "[^ab]": {"c"},
    "[a-c]": {"a", "b", "c"},
    r"\a": {"a"},
    "[!a]*": {"a", "ab", "abc"},
    "[a": {"a"},
    "[c-b]": {"b", "c"},
    "[^]": {"a", "b", "c"},
    "[]": set[str](),
    "*b*": {"ab", "abc", "b"},
    "nothing": set[str](),
}


def test_invalidate_pattern__globs_mean_the_same(kit: Kit) -> None:
    """Redis's globs, in every store."""
    ids = ("a", "ab", "abc", "b", "c")
    for pattern, expected in _GLOBS.items():
        for id in ids:
            kit.load(kit.key(id))
        assert kit.store.invalidate_pattern(*kit.names.pattern(pattern, type_name="search")) == len(expected), pattern
        assert {id for id in ids if kit.value(kit.key(id)) is None} == expected, pattern
        kit.store.invalidate((), ["search"])


def test_invalidate_pattern__refuses_loads_under_way(kit: Kit) -> None:
    """The barrier: a load begun before the walk can't bring back what the walk removed; a later one can."""
    key, elsewhere = kit.key(), kit.key("b", "product")
    early, other = kit.start(key), kit.start(elsewhere)
    kit.store.invalidate_pattern(*kit.names.pattern("search:*"))
    assert kit.fill(early, b"early") is Outcome.REFUSED
    assert kit.fill(other, b"early") is Outcome.REFUSED, "the barrier does not know which keys a pattern means"
    assert kit.value(key) is None
    kit.load(key, b"late")
    assert kit.value(key) == b"late"


def test_invalidate_pattern__a_large_number(kit: Kit) -> None:
    """More than one chunk, each counted once."""
    keys = [kit.key(f"k{number}") for number in range(1203)]
    kit.store.write([(key, kit.draft(key)) for key in keys], None)
    kit.load(kit.key("other"))
    assert kit.store.invalidate_pattern(*kit.names.pattern("search:k*")) == 1203
    assert all(lookup.entry is None for lookup in kit.store.read_many(keys, (type_tag("search"),)))
    assert kit.value(kit.key("other")) == b"v"


# A lost set (R1.7), and late commands (R4.4): of shared stores only


def test_lost_set__nothing_of_before_comes_back(shared_kit: Kit) -> None:
    """Without its stamps no entry is valid, no load of before is stored, and the next epoch starts cold."""
    kit = shared_kit
    kit.load(kit.key())
    before = kit.start(kit.key("b"))
    kit.server().delete(kit.names.stamps)
    assert kit.value(kit.key()) is None
    assert kit.fill(before) is Outcome.REFUSED
    assert kit.connect is not None
    other = Kit(kit.connect(), kit.names)  # a new connection makes the set anew
    assert other.moment().epoch != before.moment.epoch
    assert other.value(kit.key()) is None
    other.load(kit.key(), b"new")
    assert kit.value(kit.key()) == b"new"


# Listing, and many at once


def test_entries__lists_what_lives(kit: Kit) -> None:
    """Key, ttl, age, size, tags, kind and origin of live entries; invalidated ones are not listed."""
    kit.load(kit.key("a"), tags=["eu"], origin="shop:index")
    kit.load(kit.key("b"), VariantMarker(("accept",)), ttl=30.0)
    kit.load(kit.key("c", "product"), StoredResponse("200 OK", (), b""))
    kit.load(kit.key("gone"), tags=["us"])
    kit.store.invalidate([user_tag("us")])
    listed = {item.key: item for item in kit.store.catalogue.entries(None, None)}
    assert {item.key: item.kind for item in listed.values()} == {
        kit.key("a"): "value",
        kit.key("b"): "variants",
        kit.key("c", "product"): "response",
    }
    assert set(listed[kit.key("a")].tags) == {type_tag("search"), user_tag("eu")}
    assert listed[kit.key("a")].origin == "shop:index"
    assert 25 < listed[kit.key("b")].ttl <= 30
    assert 0 <= listed[kit.key("b")].age < 5
    assert listed[kit.key("a")].size > 0
    assert kit.store.catalogue.inspect(kit.key("a")) == listed[kit.key("a")] or kit.clock is None
    assert kit.store.catalogue.inspect(kit.key("gone")) is None
    assert {item.key for item in kit.store.catalogue.entries("product", None)} == {kit.key("c", "product")}
    glob, type_name = kit.names.pattern("search:a*")
    assert {item.key for item in kit.store.catalogue.entries(type_name, glob)} == {kit.key("a")}


def test_begin__many_keys_get_an_answer_each(kit: Kit) -> None:
    """Granted, busy, filled and pass in one call, beyond one chunk, in order."""
    kit.load(kit.key("k1"))
    kit.start(kit.key("k2"))
    kit.mark(kit.key("k3"))
    moment = kit.moment()
    wants = [Want(key, b"", kit.tags(key)) for key in (kit.key(f"k{number}") for number in range(1100))]
    begun = kit.store.begin(wants, "l5678", moment)
    kinds = [each.kind for each in begun]
    assert kinds[:4] == [Begin.GRANTED, Begin.FILLED, Begin.BUSY, Begin.PASS]
    assert set(kinds[4:]) == {Begin.GRANTED}
    leases = [each.lease for each in begun if each.kind is Begin.GRANTED and each.lease]
    results = [LoadedResult(lease, kit.draft(lease.key), moment) for lease in leases]
    assert {filled.outcome for filled in kit.store.fill(results)} == {Outcome.STORED}
    keys = [lease.key for lease in leases]
    assert all(lookup.entry for lookup in kit.store.read_many(keys, (type_tag("search"),)))


def test_nothing_at_all(kit: Kit) -> None:
    """Empty requests have empty answers."""
    assert kit.store.begin([], "l1", kit.moment()) == []
    assert kit.store.fill([]) == kit.store.write([], None) == []
    assert kit.store.delete([]) == kit.store.invalidate([]) == 0
    kit.store.release([])


def test_recall__what_needs_no_io(kit: Kit) -> None:
    """A store without a memory tier knows nothing without asking; the memory store knows all."""
    kit.load(kit.key())
    lookup = kit.store.recall(kit.key(), 0.0)
    assert (lookup is not None and lookup.entry is not None) == (kit.connect is None)


def test_close__store_may_be_used_again(kit: Kit) -> None:
    """Closing lets go of connections and threads, not of the store."""
    kit.load(kit.key())
    kit.store.close()
    kit.load(kit.key("b"), b"again")
    assert kit.value(kit.key("b")) == b"again"


def test_incident__none_while_it_works(kit: Kit) -> None:
    """A store that answers is available, and says where it is."""
    kit.read(kit.key())
    assert kit.store.incident is None
    assert "://" in kit.store.catalogue.location
