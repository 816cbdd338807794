"""Stamps ahead of the clock: what is stored, valid and dropped while commits are under way, and after (R1.3, R3.1)."""

from __future__ import annotations

import itertools
import random
import time
from typing import TYPE_CHECKING

import pytest

from flask_rcache.model.keys import user_tag
from flask_rcache.stores.protocol import Begin, Outcome
from tests.processes import wait_until
from tests.stores.kit import Kit, Started, memory_kit, redis_store, tiered_store

if TYPE_CHECKING:
    from tests.servers import Server

_MOVES = ("stamp_ahead", "settle", "withdraw", "over", "invalidate", "begin", "load", "load", "fill", "clear")
ITEM, OTHER = user_tag("item"), user_tag("other")


def test_stamp_ahead__nothing_older_is_valid(kit: Kit) -> None:
    """From the stamp ahead to the end of the commit no entry that depends on the tag is served; others are."""
    kit.load(kit.key("a"), tags=["item"])
    kit.load(kit.key("b"), tags=["other"])
    kit.store.stamp_ahead([ITEM], "1a")
    assert kit.value(kit.key("a")) is None
    assert kit.value(kit.key("b")) == b"v"
    kit.store.settle([ITEM], "1a")
    assert kit.value(kit.key("a")) is None


def test_stamp_ahead__is_no_reading(kit: Kit) -> None:
    """A load that begins meanwhile has heard the clock, not the stamp: it is not stored, nor is it after the commit."""
    kit.store.stamp_ahead([ITEM], "1a")
    moment = kit.moment()
    assert kit.ask(kit.key(), tags=["item"]).kind is Begin.UNSTORABLE
    started = kit.start(kit.key("b"))  # which finds out during the load what it depends on
    assert kit.fill(started, tags=["item"]) is Outcome.OVERTAKEN
    late = kit.start(kit.key("c"), moment=moment)
    kit.store.settle([ITEM], "1a")
    assert kit.fill(late, tags=["item"]) is Outcome.OVERTAKEN


def test_settle__what_begins_afterwards_is_stored(kit: Kit) -> None:
    """The stamp comes back to the present: the next load is stored, and served from memory where there is one."""
    kit.store.stamp_ahead([ITEM], "1a")
    kit.store.settle([ITEM], "1a")
    kit.load(kit.key(), tags=["item"])
    assert kit.value(kit.key()) == b"v"


def test_settle__without_a_stamp_ahead(kit: Kit) -> None:
    """What was not set ahead, as when the store was away then, is stamped as by any invalidation."""
    kit.load(kit.key(), tags=["item"])
    kit.store.settle([ITEM, OTHER], "1a")
    assert kit.value(kit.key()) is None
    kit.load(kit.key(), tags=["item"])
    assert kit.value(kit.key()) == b"v"


def test_settle__leaves_what_another_commit_has_set_ahead(kit: Kit) -> None:
    """Two commits overlap: the end of the first does not make room for loads that do not see the second."""
    kit.store.stamp_ahead([ITEM], "1a")
    kit.store.stamp_ahead([ITEM, OTHER], "2b")
    kit.store.settle([ITEM], "1a")
    assert kit.ask(kit.key(), tags=["item"]).kind is Begin.UNSTORABLE
    kit.store.settle([ITEM, OTHER], "2b")
    kit.load(kit.key(), tags=["item"])
    assert kit.value(kit.key()) == b"v"


def test_withdraw__entries_are_as_valid_as_before(kit: Kit) -> None:
    """Nothing was committed: what was valid before is valid, what was not is not, and loads are stored."""
    kit.load(kit.key("a"), tags=["item"])
    old = kit.start(kit.key("b"))
    kit.store.invalidate([OTHER])
    kit.store.stamp_ahead([ITEM, OTHER], "1a")
    kit.store.withdraw([ITEM, OTHER], "1a")
    assert kit.value(kit.key("a")) == b"v"
    assert kit.fill(old, tags=["other"]) is Outcome.OVERTAKEN
    kit.load(kit.key("c"), tags=["item", "other"])
    assert kit.value(kit.key("c")) == b"v"


def test_withdraw__of_a_tag_without_a_row(kit: Kit) -> None:
    """A tag that nobody has stamped before is as if it never had been."""
    started = kit.start(kit.key())
    kit.store.stamp_ahead([ITEM], "1a")
    kit.store.withdraw([ITEM], "1a")
    assert kit.fill(started, tags=["item"]) is Outcome.STORED


@pytest.mark.parametrize("by", ["invalidate", "settle", "clear"])
def test_withdraw__keeps_what_was_stamped_meanwhile(kit: Kit, by: str) -> None:
    """An invalidation, or the end of another commit, that came in between is not taken back."""
    kit.load(kit.key(), tags=["item"])
    kit.store.stamp_ahead([ITEM], "1a")
    if by == "invalidate":
        kit.store.invalidate([ITEM])
    elif by == "settle":
        kit.store.stamp_ahead([ITEM], "2b")
        kit.store.settle([ITEM], "2b")
    else:
        kit.store.invalidate((), everything=True)
    kit.store.withdraw([ITEM], "1a")
    assert kit.value(kit.key()) is None
    kit.load(kit.key(), tags=["item"])
    assert kit.value(kit.key()) == b"v"


def test_withdraw__leaves_what_another_commit_has_set_ahead(kit: Kit) -> None:
    """A rollback says nothing of the other's commit."""
    kit.store.stamp_ahead([ITEM], "1a")
    kit.store.stamp_ahead([ITEM], "2b")
    kit.store.withdraw([ITEM], "2b")
    assert kit.ask(kit.key(), tags=["item"]).kind is Begin.UNSTORABLE
    kit.store.settle([ITEM], "1a")
    kit.load(kit.key(), tags=["item"])


def test_clear__leaves_stamps_ahead(kit: Kit) -> None:
    """Everything was cleared during a commit: what is loaded before its end is still not stored (R1.3)."""
    kit.store.stamp_ahead([ITEM], "1a")
    kit.store.invalidate((), everything=True)
    assert kit.ask(kit.key(), tags=["item"]).kind is Begin.UNSTORABLE
    kit.store.settle([ITEM], "1a")
    kit.load(kit.key(), tags=["item"])


def test_stamp_ahead__rows_dropped_for_room(narrow_kit: Kit) -> None:
    """A flood of invalidations never lowers what a commit under way has set."""
    kit = narrow_kit
    kit.store.stamp_ahead([ITEM], "1a")
    for number in range(200):
        kit.store.invalidate([user_tag(f"flood {number}")])
    started = kit.start(kit.key("b"))
    assert kit.fill(started, tags=["item"]) is Outcome.OVERTAKEN
    kit.store.settle([ITEM], "1a")
    assert kit.fill(kit.start(kit.key("c")), tags=["item"]) is Outcome.STORED


def test_stamp_ahead__many_tags(kit: Kit) -> None:
    """More tags than one call of a script takes."""
    tags = [user_tag(str(number)) for number in range(1200)]
    kit.load(kit.key(), tags=["1199"])
    kit.store.stamp_ahead(tags, "1a")
    assert kit.value(kit.key()) is None
    kit.store.withdraw(tags, "1a")
    assert kit.value(kit.key()) == b"v"


def test_settle__nothing_is_left_behind(shared_kit: Kit) -> None:
    """Beside a row there is nothing but its companion once no commit is under way."""
    for token in ("1a", "2b"):
        shared_kit.store.stamp_ahead([ITEM, OTHER], token)
    shared_kit.store.settle([ITEM, OTHER], "1a")
    shared_kit.store.withdraw([ITEM, OTHER], "2b")
    members = shared_kit.server().zrange(shared_kit.names.stamps, 0, -1)
    expected = {ITEM, OTHER, f"~{ITEM}", f"~{OTHER}"}
    assert {str(member, "utf-8") for member in members if member[:1] != b"="} == expected  # type: ignore[arg-type]


def test_lost_set__during_a_commit(shared_kit: Kit) -> None:
    """The set is lost and made anew: the next beat sets the tags ahead in it, and the commit ends there."""
    shared_kit.store.stamp_ahead([ITEM], "1a")
    epoch = shared_kit.moment().epoch
    shared_kit.server().delete(shared_kit.names.stamps)
    deadline = time.monotonic() + 10
    # The server has the new set a moment before the beat's reply says so here.
    while not shared_kit.server().zscore(shared_kit.names.stamps, ITEM) or shared_kit.moment().epoch == epoch:
        assert time.monotonic() < deadline, "no beat has set it ahead"
        time.sleep(0.02)
    assert shared_kit.fill(shared_kit.start(shared_kit.key()), tags=["item"]) is Outcome.OVERTAKEN
    shared_kit.store.settle([ITEM], "1a")
    assert shared_kit.fill(shared_kit.start(shared_kit.key()), tags=["item"]) is Outcome.STORED


@pytest.mark.race
def test_stamp_ahead__renewed_while_the_process_lives(redis_server: Server) -> None:
    """A commit that takes longer than its stamp lies ahead: its stamp moves on; the process dies: it passes."""
    writer, reader = redis_store(redis_server.url, ahead=0.5), Kit(redis_store(redis_server.url))
    writer.stamp_ahead([ITEM], "1a")
    for number in range(15):
        time.sleep(0.1)
        assert reader.fill(reader.start(reader.key(str(number))), tags=["item"]) is Outcome.OVERTAKEN
    writer.close()  # as if it had died: nobody settles, nobody renews
    numbers = itertools.count(15)

    def is_stored() -> bool:
        return reader.fill(reader.start(reader.key(str(next(numbers)))), tags=["item"]) is Outcome.STORED

    wait_until(is_stored, timeout=10, what="its stamp has passed")
    reader.store.close()


def test_settle__memory_tiers_hear_that_it_is_over(valkey_server: Server) -> None:
    """The memory tier of every process serves what was loaded after the commit, at once."""
    here, there = (Kit(tiered_store(valkey_server.url), l1_ttl=30.0) for _ in range(2))
    there.load(there.key(), tags=["item"])
    here.store.stamp_ahead([ITEM], "1a")
    here.store.settle([ITEM], "1a")
    for kit in (here, there):
        started = kit.load(kit.key(kit.tokens.__next__()), tags=["item"])
        deadline = time.monotonic() + 5
        while kit.store.recall(started.lease.key, kit.l1_ttl) is None:  # the bus may be a moment behind
            assert time.monotonic() < deadline, "the memory tier does not hold it"
            assert kit.value(started.lease.key) == b"v"
        kit.store.close()


class _Pair:
    """A memory store and a Redis store that go through the same."""

    def __init__(self, url: str) -> None:
        self.kits = (memory_kit(), Kit(redis_store(url)))
        self.begun: dict[str, list[Started]] = {}
        self.filled: list[str] = []
        self.served = 0

    def begin(self, id: str) -> None:
        self.begun[id] = [kit.start(kit.key(id)) for kit in self.kits]

    def fill(self, id: str, tags: list[str]) -> None:
        started = self.begun.pop(id)
        first, second = [kit.fill(one, tags=tags) for kit, one in zip(self.kits, started, strict=True)]
        assert first is second, f"the fill of {id} was {first} and {second}"
        self.filled.append(id)

    def both(self, method: str, *args: object, **options: object) -> None:
        for kit in self.kits:
            getattr(kit.store, method)(*args, **options)

    def compare(self) -> None:
        for id in self.filled:
            first, second = [kit.value(kit.key(id)) for kit in self.kits]
            assert first == second, f"{id} is {first!r} and {second!r}"
            self.served += first is not None


@pytest.mark.parametrize("seed", range(8))
def test_commits__all_stores_agree(redis_server: Server, seed: int) -> None:
    """Whatever the order of commits, rollbacks, invalidations and loads: memory and Redis store and serve the same."""
    dice, pair = random.Random(seed), _Pair(redis_server.url)
    tags, tokens = ["item", "other", "third"], ["1a", "2b", "3c"]
    for step in range(150):
        chosen = dice.sample(tags, dice.randint(1, 3))
        members, token = list(map(user_tag, chosen)), dice.choice(tokens)
        what = dice.choice(_MOVES)
        if what in ("begin", "load"):
            pair.begin(str(step))
        if what == "load" or (what == "fill" and pair.begun):
            pair.fill(str(step) if what == "load" else dice.choice(list(pair.begun)), chosen)
        elif what == "clear" and dice.random() < 0.3:
            pair.both("invalidate", (), everything=True)
            pair.filled.clear()
        elif what == "invalidate":
            pair.both("invalidate", members)
        elif what == "over":
            for each in tokens:
                pair.both("withdraw", list(map(user_tag, tags)), each)
        elif what in ("stamp_ahead", "settle", "withdraw"):
            pair.both(what, members, token)
        pair.compare()
    assert pair.served
    for kit in pair.kits:
        kit.store.close()
