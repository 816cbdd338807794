"""The engine's rules R1 to R4, put to every store through the protocol alone."""

from __future__ import annotations

import threading

import pytest

from flask_rcache.model.entry import Draft, Freshness, StoredResponse
from flask_rcache.model.keys import user_tag, type_tag
from flask_rcache.stores import Begin, Fill
from tests.stores.kit import Kit


def test_read__absent_key(kit: Kit) -> None:
    """Nothing there: no entry, no identity, and the store's clock."""
    reading = kit.read(kit.key())
    assert (reading.entry, reading.identity, reading.unfit) == (None, b"", "absent")
    assert reading.now > 0


def test_fill__is_read_back_whole(kit: Kit) -> None:
    """All that a draft has comes back, its own tags with the load's as_of and handed ones with theirs."""
    key = kit.key()
    inner = kit.grant(kit.key("inner"))
    grant = kit.grant(key)
    draft = Draft(
        b"content",
        ttl=60.0,
        stale_while_revalidate=5.0,
        stale_if_error=7.0,
        tags=(type_tag("search"), user_tag("eu")),
        handed=((user_tag("inner"), inner.as_of),),
        cost=0.25,
    )
    filled = kit.store.fill([(grant, draft)])[0]
    assert filled.outcome is Fill.STORED
    reading = kit.read(key)
    entry = reading.entry
    assert entry is not None
    assert entry.content == b"content"
    assert (entry.ttl, entry.stale_while_revalidate, entry.stale_if_error, entry.cost) == (60.0, 5.0, 7.0, 0.25)
    assert dict(entry.tags) == {
        type_tag("search"): grant.as_of,
        user_tag("eu"): grant.as_of,
        user_tag("inner"): inner.as_of,
    }
    assert (entry.epoch, entry.as_of) == (grant.epoch, grant.as_of)
    assert abs(reading.now - entry.created) < 10_000_000
    assert entry.freshness(reading.now) is Freshness.FRESH
    assert reading.size == filled.size > 0


def test_fill__keeps_a_response(kit: Kit) -> None:
    """A response comes back with its status, its header lines in order and its body."""
    key = kit.key()
    response = StoredResponse("200 OK", (("X-A", "1"), ("X-A", "2")), b"\x00body")
    kit.store.fill([(kit.grant(key), kit.draft(key, response))])  # type: ignore[arg-type]
    assert kit.value(key) == response


def test_write__is_read_back_and_replaces(kit: Kit) -> None:
    """A write needs no lease, and the later one stays."""
    key = kit.key()
    kit.store.write([(key, kit.draft(key, b"one"))])
    first = kit.read(key).identity
    sizes = kit.store.write([(key, kit.draft(key, b"two", tags=["eu"]))])
    assert kit.value(key) == b"two"
    assert kit.read(key).identity != first
    assert sizes == [kit.read(key).size]
    kit.store.invalidate([user_tag("eu")])
    assert kit.value(key) is None


# R1: what is read is checked


@pytest.mark.parametrize("invalidate", ["tag", "handed", "type", "everything"])
def test_invalidate__makes_a_filled_entry_invalid(kit: Kit, invalidate: str) -> None:
    """A stamp on any of its tags, its type or everything: the entry is not served, and says so."""
    key, other = kit.key(), kit.key("b", "product")
    grant = kit.grant(key)
    kit.fill(grant, tags=["eu"], handed=((user_tag("inner"), grant.as_of),))
    kit.load(other)
    if invalidate == "tag":
        kit.store.invalidate([user_tag("eu")])
    elif invalidate == "handed":
        kit.store.invalidate([user_tag("inner")])
    elif invalidate == "type":
        kit.store.invalidate((), ["search"])
    else:
        kit.store.invalidate((), (), everything=True)
    reading = kit.read(key)
    assert reading.entry is None
    assert reading.unfit in ("invalid", "absent")
    assert (kit.value(other) is None) == (invalidate == "everything")


def test_invalidate__leaves_what_comes_after(kit: Kit) -> None:
    """A load begun after the invalidation is valid."""
    key = kit.key()
    kit.load(key, b"old", tags=["eu"])
    kit.store.invalidate([user_tag("eu")], ["search"])
    kit.load(key, b"new", tags=["eu"])
    assert kit.value(key) == b"new"


def test_invalidate__another_tag_does_no_harm(kit: Kit) -> None:
    """Only what bears the tag is hit; a tag and a type of one name are two things."""
    key = kit.key()
    kit.load(key, tags=["eu"])
    kit.store.invalidate([user_tag("us"), user_tag("search"), user_tag("e"), user_tag("*")], ["eu"])
    assert kit.value(key) == b"v"


def test_invalidate__handed_tag_older_than_its_stamp(kit: Kit) -> None:
    """A tag handed up is judged by its own as_of: one known from before its stamp refuses the fill."""
    key = kit.key()
    before = kit.grant(kit.key("inner")).as_of
    kit.store.invalidate([user_tag("inner")])
    grant = kit.grant(key)
    assert grant.as_of > before
    assert kit.fill(grant, handed=((user_tag("inner"), before),)) is Fill.OVERTAKEN
    assert kit.value(key) is None


def test_invalidate__handed_tag_older_than_the_floor(kit: Kit) -> None:
    """The same for the floor: what was read before everything was invalidated is not built upon."""
    before = kit.grant(kit.key("inner")).as_of
    kit.store.invalidate((), (), everything=True)
    assert kit.fill(kit.grant(kit.key()), handed=((user_tag("inner"), before),)) is Fill.OVERTAKEN


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


def test_read_many__judges_each_key_for_itself(kit: Kit) -> None:
    """Fresh, invalid by a tag the asker did not name, and absent, in the order asked."""
    good, bad, absent = kit.key("good"), kit.key("bad"), kit.key("absent")
    kit.load(good, b"good", tags=["x"])
    kit.load(bad, b"bad", tags=["y"])
    kit.store.invalidate([user_tag("y")])
    store = kit.connect() if kit.connect is not None else kit.store
    readings = store.read_many([absent, bad, good], lambda: (type_tag("search"),))
    assert [None if reading.entry is None else reading.entry.content for reading in readings] == [None, None, b"good"]
    assert kit.store.read_many([], lambda: ()) == []


def test_read__another_process_knows_the_tags(shared_kit: Kit) -> None:
    """A process that asks for the type only still finds out the stamps of all tags of what it reads."""
    key = shared_kit.key()
    shared_kit.load(key, tags=["eu"])
    assert shared_kit.connect is not None
    late = shared_kit.connect()
    assert late.read(key, lambda: ()).entry is not None
    shared_kit.store.invalidate([user_tag("eu")])
    assert late.read(key, lambda: ()).entry is None
    fresh = shared_kit.connect()
    assert fresh.read(key, lambda: ()).entry is None


def test_read__tags_that_changed_with_the_fill(shared_kit: Kit) -> None:
    """An entry refilled by another process under other tags is judged by the new ones."""
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


# R2: the clock


def test_begin__clock_is_strictly_increasing(kit: Kit) -> None:
    """No two grants share an as_of, and a stamp falls strictly between those before and after it."""
    readings = [kit.grant(kit.key(f"k{number}")).as_of for number in range(50)]
    assert readings == sorted(set(readings))


def test_begin__threads_never_share_an_as_of(kit: Kit) -> None:
    """The same among threads."""
    readings: list[int] = []

    def ask(thread: int) -> None:
        mine = Kit(kit.store, kit.names)
        readings.extend(mine.grant(kit.key(f"t{thread}.{number}")).as_of for number in range(25))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(readings)) == len(readings) == 100


def test_begin__same_instant_as_an_invalidation(kit: Kit) -> None:
    """A load begun before an invalidation loses and one begun after wins, even within one microsecond."""
    for number in range(20):
        before = kit.grant(kit.key(f"before{number}"))
        kit.store.invalidate((), ["search"])
        after = kit.grant(kit.key(f"after{number}"))
        assert kit.fill(before) is Fill.OVERTAKEN
        assert kit.fill(after) is Fill.STORED
        assert kit.value(after.key) == b"v"


# R3: overtaken loads


@pytest.mark.parametrize("invalidate", ["tag", "type", "everything", "unknown tag at begin"])
def test_fill__overtaken(kit: Kit, invalidate: str) -> None:
    """An invalidation between begin and fill: the result is refused, and its lease is free again."""
    key = kit.key()
    grant = kit.grant(key)
    if invalidate == "type":
        kit.store.invalidate((), ["search"])
    elif invalidate == "everything":
        kit.store.invalidate((), (), everything=True)
    else:
        kit.store.invalidate([user_tag("eu")])
    assert kit.fill(grant, tags=["eu"]) is Fill.OVERTAKEN
    assert kit.value(key) is None
    assert kit.ask(key).kind is Begin.GRANTED


def test_fill__overtaken_without_tags(kit: Kit) -> None:
    """An entry without tags is overtaken by the floor too: as old as its load."""
    key = kit.key()
    grant = kit.grant(key)
    kit.store.invalidate((), (), everything=True)
    assert kit.store.fill([(grant, Draft(b"v", ttl=60.0))])[0].outcome is Fill.OVERTAKEN
    assert kit.store.fill([(kit.grant(key), Draft(b"v", ttl=60.0))])[0].outcome is Fill.STORED
    assert kit.value(key) == b"v"
    kit.store.invalidate((), (), everything=True)
    assert kit.value(key) is None


def test_fill__overtaken_leaves_the_neighbours_alone(kit: Kit) -> None:
    """Of fills sent together only the overtaken one is refused; outcomes come in order."""
    keys = [kit.key("a"), kit.key("b"), kit.key("c")]
    begun = kit.store.begin([(key, b"") for key in keys], "ltogether")
    kit.store.invalidate([user_tag("eu")])
    fills = [
        (each.grant, kit.draft(key, tags=["eu"] if key == keys[1] else ["us"]))
        for key, each in zip(keys, begun, strict=True)
        if each.grant is not None
    ]
    assert [filled.outcome for filled in kit.store.fill(fills)] == [Fill.STORED, Fill.OVERTAKEN, Fill.STORED]
    assert [kit.value(key) for key in keys] == [b"v", None, b"v"]


# R4: leases


def test_begin__one_holder(kit: Kit) -> None:
    """The second asker is told that somebody is at it; the holder's own token is granted again."""
    key = kit.key()
    first = kit.ask(key, token="lmine")
    assert first.kind is Begin.GRANTED
    assert kit.ask(key).kind is Begin.BUSY
    again = kit.ask(key, token="lmine")
    assert again.kind is Begin.GRANTED
    assert again.grant is not None
    assert first.grant is not None
    assert again.grant.as_of > first.grant.as_of


def test_begin__free_after_fill_and_release(kit: Kit) -> None:
    """A fill and a release end the lease."""
    key = kit.key()
    kit.fill(kit.grant(key))
    identity = kit.read(key).identity
    grant = kit.grant(key, identity)
    assert kit.ask(key, identity).kind is Begin.BUSY
    kit.store.release([grant])
    assert kit.ask(key, identity).kind is Begin.GRANTED


def test_begin__filled_meanwhile(kit: Kit) -> None:
    """Only an entry other than the one the caller judged unfit is "filled meanwhile"."""
    key = kit.key()
    kit.load(key)
    identity = kit.read(key).identity
    assert kit.ask(key).kind is Begin.FILLED
    assert kit.ask(key, b"somebodyelse's..").kind is Begin.FILLED
    assert kit.ask(key, identity).kind is Begin.GRANTED


def test_begin__an_invalid_entry_does_not_block(kit: Kit) -> None:
    """An invalidated entry that still lies there is judged by its identity, and the key can be loaded."""
    key = kit.key()
    kit.load(key, tags=["eu"])
    kit.store.invalidate([user_tag("eu")])
    reading = kit.read(key)
    assert reading.unfit == "invalid"
    assert kit.ask(key, reading.identity).kind is Begin.GRANTED


def test_fill__only_with_its_lease(kit: Kit) -> None:
    """A token that holds no lease stores nothing, and does not free another's."""
    key = kit.key()
    grant = kit.grant(key)
    assert kit.fill(grant._replace(token="lforged")) is Fill.REFUSED
    assert kit.value(key) is None
    assert kit.ask(key).kind is Begin.BUSY
    assert kit.fill(grant) is Fill.STORED
    assert kit.fill(grant, b"twice") is Fill.REFUSED
    assert kit.value(key) == b"v"


def test_fill__lease_lost_to_another(kit: Kit) -> None:
    """A holder whose lease ran out and was taken by another is refused; the other is not disturbed."""
    key = kit.key()
    slow = kit.grant(key)
    kit.lease_runs_out(key)
    quick = kit.grant(key)
    assert kit.fill(slow, b"slow") is Fill.REFUSED
    assert kit.ask(key).kind is Begin.BUSY
    assert kit.fill(quick, b"quick") is Fill.STORED
    assert kit.value(key) == b"quick"


def test_fill__lease_ran_out(kit: Kit) -> None:
    """Nor is it stored when nobody took the lease since."""
    key = kit.key()
    slow = kit.grant(key)
    kit.lease_runs_out(key)
    assert kit.fill(slow) is Fill.REFUSED
    assert kit.value(key) is None


@pytest.mark.parametrize("void", ["write", "delete"])
def test_fill__lease_voided(kit: Kit, void: str) -> None:
    """A write or a delete of the key during its load: the late result is refused."""
    key = kit.key()
    grant = kit.grant(key)
    if void == "write":
        kit.store.write([(key, kit.draft(key, b"written"))])
    else:
        kit.store.delete([key])
    assert kit.fill(grant, b"late") is Fill.REFUSED
    assert kit.value(key) == (b"written" if void == "write" else None)


def test_release__only_by_its_token(kit: Kit) -> None:
    """Somebody else's release does not free a lease; a late holder's does not free its successor's."""
    key = kit.key()
    first = kit.grant(key)
    kit.store.release([first._replace(token="lforged")])
    assert kit.ask(key).kind is Begin.BUSY
    kit.lease_runs_out(key)
    second = kit.grant(key)
    kit.store.release([first])
    kit.store.release([first], pass_for=5.0)
    assert kit.ask(key).kind is Begin.BUSY
    kit.store.release([second])
    assert kit.ask(key).kind is Begin.GRANTED


# Pass markers


def test_release__leaves_a_pass_marker(kit: Kit) -> None:
    """After an uncacheable load everybody may load at once, nobody is told to wait."""
    key = kit.key()
    kit.store.release([kit.grant(key)], pass_for=5.0)
    first, second = kit.ask(key), kit.ask(key)
    assert (first.kind, second.kind) == (Begin.PASS, Begin.PASS)
    assert first.grant is not None
    assert second.grant is not None
    assert first.grant.as_of < second.grant.as_of


def test_fill__replaces_a_pass_marker(kit: Kit) -> None:
    """A result that can be kept after all is stored by the first who has one, and ends the marker."""
    key = kit.key()
    kit.store.release([kit.grant(key)], pass_for=5.0)
    first, second = kit.ask(key), kit.ask(key)
    assert first.grant is not None
    assert second.grant is not None
    assert kit.fill(second.grant, b"second") is Fill.STORED
    assert kit.fill(first.grant, b"first") is Fill.REFUSED
    assert kit.value(key) == b"second"
    assert kit.ask(key, kit.read(key).identity).kind is Begin.GRANTED


def test_fill__pass_grant_is_overtaken_too(kit: Kit) -> None:
    """A load under a pass marker obeys R3 as any other."""
    key = kit.key()
    kit.store.release([kit.grant(key)], pass_for=5.0)
    begun = kit.ask(key)
    kit.store.invalidate((), ["search"])
    assert begun.grant is not None
    assert kit.fill(begun.grant) is Fill.OVERTAKEN


def test_release__of_a_pass_grant_keeps_the_marker(kit: Kit) -> None:
    """One of many loads under a marker ending does not take it from the others."""
    key = kit.key()
    kit.store.release([kit.grant(key)], pass_for=5.0)
    begun = kit.ask(key)
    assert begun.grant is not None
    kit.store.release([begun.grant])
    assert kit.ask(key).kind is Begin.PASS
    kit.store.release([begun.grant], pass_for=5.0)
    assert kit.ask(key).kind is Begin.PASS


def test_release__failed_marker(kit: Kit) -> None:
    """After a failed load others load at once too, and are told why; a result replaces the marker as any other."""
    key = kit.key()
    kit.store.release([kit.grant(key)], pass_for=5.0, failed=True)
    first, second = kit.ask(key), kit.ask(key)
    assert (first.kind, second.kind) == (Begin.PASS, Begin.PASS)
    assert first.grant is not None
    assert second.grant is not None
    assert first.grant.failed
    kit.store.release([first.grant])
    assert kit.fill(second.grant) is Fill.STORED
    assert kit.value(key) == b"v"
    kit.store.release([kit.grant(kit.key("b"))], pass_for=5.0)
    passing = kit.ask(kit.key("b")).grant
    assert passing is not None
    assert not passing.failed


@pytest.mark.parametrize("void", ["write", "delete"])
def test_release__pass_marker_is_voided(kit: Kit, void: str) -> None:
    """A write or delete ends the marker, and loads under it are refused."""
    key = kit.key()
    kit.store.release([kit.grant(key)], pass_for=5.0)
    begun = kit.ask(key)
    if void == "write":
        kit.store.write([(key, kit.draft(key, b"written"))])
    else:
        kit.store.delete([key])
    assert begun.grant is not None
    assert kit.fill(begun.grant, b"late") is Fill.REFUSED
    assert kit.ask(key, kit.read(key).identity).kind is Begin.GRANTED


# Deleting and patterns


def test_delete__removes_and_counts(kit: Kit) -> None:
    """The number is of those that were there; other keys stay."""
    for name in "abc":
        kit.load(kit.key(name))
    assert kit.store.delete([kit.key("a"), kit.key("b"), kit.key("nobody")]) == 2
    assert [kit.value(kit.key(name)) for name in "abc"] == [None, None, b"v"]
    assert kit.read(kit.key("a")).unfit == "absent"
    assert kit.store.delete([kit.key("a")]) == 0


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


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a*", {"a", "ab", "abc"}),
        ("a?", {"ab"}),
        ("[ab]", {"a", "b"}),
        ("[^ab]", {"c"}),
        ("[a-c]", {"a", "b", "c"}),
        (r"\a", {"a"}),
        ("[!a]*", {"a", "ab", "abc"}),
        ("[a", {"a"}),
        ("[c-b]", {"b", "c"}),
        ("[^]", {"a", "b", "c"}),
        ("[]", set()),
        ("*b*", {"ab", "abc", "b"}),
        ("nothing", set()),
        ("", None),
    ],
)
def test_invalidate_pattern__globs_mean_the_same(kit: Kit, pattern: str, expected: set[str] | None) -> None:
    """Redis's globs, in every store."""
    if expected is None:
        with pytest.raises(ValueError, match="pattern"):
            kit.names.pattern(pattern)
        return
    ids = ("a", "ab", "abc", "b", "c")
    for id in ids:
        kit.load(kit.key(id))
    assert kit.store.invalidate_pattern(*kit.names.pattern(pattern, type_name="search")) == len(expected)
    assert {id for id in ids if kit.value(kit.key(id)) is None} == expected


def test_invalidate_pattern__refuses_loads_under_way(kit: Kit) -> None:
    """The barrier: a load begun before the walk cannot bring back what the walk removed; a later one can."""
    key = kit.key()
    early = kit.grant(key)
    kit.store.invalidate_pattern(*kit.names.pattern("search:*"))
    assert kit.fill(early, b"early") is Fill.REFUSED
    assert kit.value(key) is None
    kit.load(key, b"late")
    assert kit.value(key) == b"late"


def test_invalidate_pattern__a_large_number(kit: Kit) -> None:
    """More than one chunk, each counted once."""
    keys = [kit.key(f"k{number}") for number in range(1203)]
    kit.store.write([(key, kit.draft(key)) for key in keys])
    kit.load(kit.key("other"))
    assert kit.store.invalidate_pattern(*kit.names.pattern("search:k*")) == 1203
    assert all(reading.entry is None for reading in kit.store.read_many(keys, lambda: (type_tag("search"),)))
    assert kit.value(kit.key("other")) == b"v"


# Listing, and many at once


def test_entries__lists_what_lives(kit: Kit) -> None:
    """Key, ttl, age, size and tags of live entries; invalidated ones are not listed."""
    kit.load(kit.key("a"), tags=["eu"])
    kit.load(kit.key("b"), ttl=30.0)
    kit.load(kit.key("c", "product"))
    kit.load(kit.key("gone"), tags=["us"])
    kit.store.invalidate([user_tag("us")])
    listed = {item.key: item for item in kit.store.entries(None, None)}
    assert set(listed) == {kit.key("a"), kit.key("b"), kit.key("c", "product")}
    assert set(listed[kit.key("a")].tags) == {type_tag("search"), user_tag("eu")}
    assert 25 < listed[kit.key("b")].ttl <= 30
    assert 0 <= listed[kit.key("b")].age < 5
    assert listed[kit.key("a")].size > 0
    assert {item.key for item in kit.store.entries("product", None)} == {kit.key("c", "product")}
    glob, type_name = kit.names.pattern("search:a*")
    assert {item.key for item in kit.store.entries(type_name, glob)} == {kit.key("a")}


def test_begin__many_keys_get_an_answer_each(kit: Kit) -> None:
    """Granted, busy, filled and pass in one call, beyond one chunk, in order."""
    kit.load(kit.key("k1"))
    kit.grant(kit.key("k2"))
    kit.store.release([kit.grant(kit.key("k3"))], pass_for=5.0)
    begun = kit.store.begin([(kit.key(f"k{number}"), b"") for number in range(1100)], "lmany")
    kinds = [each.kind for each in begun]
    assert kinds[:4] == [Begin.GRANTED, Begin.FILLED, Begin.BUSY, Begin.PASS]
    assert set(kinds[4:]) == {Begin.GRANTED}
    fills = [(each.grant, kit.draft(each.grant.key)) for each in begun if each.kind is Begin.GRANTED and each.grant]
    assert {filled.outcome for filled in kit.store.fill(fills)} == {Fill.STORED}
    keys = [grant.key for grant, _ in fills]
    assert all(reading.entry for reading in kit.store.read_many(keys, lambda: (type_tag("search"),)))


def test_close__store_may_be_used_again(kit: Kit) -> None:
    """Closing lets go of connections and threads, not of the store."""
    kit.load(kit.key())
    kit.store.close()
    kit.load(kit.key("b"), b"again")
    assert kit.value(kit.key("b")) == b"again"


def test_trouble__none_while_it_works(kit: Kit) -> None:
    """A store that answers is available, and says where it is."""
    kit.read(kit.key())
    assert kit.store.trouble is None
    assert "://" in kit.store.location
