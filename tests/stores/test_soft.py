"""Soft invalidation: what it meets is expired and not gone, unless something hard has met it too. On every store."""

from __future__ import annotations

from typing import Any

import pytest

from flask_rcache.model.entry import Freshness
from flask_rcache.model.keys import user_tag, type_tag
from flask_rcache.stores import Fill
from tests.stores.kit import Kit

WINDOWS: dict[str, Any] = {"stale_while_revalidate": 30.0}


def state(kit: Kit, key: str) -> Freshness | None:
    """How fresh an entry is, alone and among many; ``None`` when it is not there."""
    one = kit.read(key)
    (many,) = kit.store.read_many([key], lambda: (type_tag("search"),))
    states = [None if each.entry is None else each.entry.freshness(each.now) for each in (one, many)]
    assert states[0] == states[1]
    return states[0]


@pytest.mark.parametrize("by", ["type", "tag"])
def test_soft__expires(kit: Kit, by: str) -> None:
    """An entry that may be served stale is stale from then on; the next load makes it fresh."""
    key = kit.key()
    kit.load(key, b"old", tags=["eu"], **WINDOWS)
    assert state(kit, key) is Freshness.FRESH
    tags, types = ([user_tag("eu")], []) if by == "tag" else ([], ["search"])
    live = kit.store.invalidate(tags, types, soft=True)
    assert live == (1 if by == "type" else 0)
    assert state(kit, key) is Freshness.STALE
    assert kit.value(key) == b"old"
    kit.load(key, b"new", tags=["eu"], **WINDOWS)
    assert state(kit, key) is Freshness.FRESH
    assert kit.value(key) == b"new"


def test_soft__without_a_window_it_is_gone(kit: Kit) -> None:
    """What may never be served stale is as good as gone."""
    kit.load(kit.key(), tags=["eu"])
    kit.store.invalidate([user_tag("eu")], soft=True)
    assert state(kit, kit.key()) is None
    assert kit.read(kit.key()).unfit == "invalid"


@pytest.mark.parametrize("order", [("soft", "hard"), ("hard", "soft"), ("soft", "hard", "soft")])
def test_soft__a_hard_one_wins(kit: Kit, order: tuple[str, ...]) -> None:
    """Before or after: what a hard invalidation has met never comes back as stale."""
    kit.load(kit.key(), tags=["eu"], **WINDOWS)
    for each in order:
        kit.store.invalidate([user_tag("eu")], soft=each == "soft")
    assert state(kit, kit.key()) is None


def test_soft__loaded_after_the_hard_one(kit: Kit) -> None:
    """A hard invalidation before the load is no obstacle, however many soft ones follow."""
    kit.store.invalidate([user_tag("eu")])
    kit.load(kit.key(), tags=["eu"], **WINDOWS)
    for _ in range(3):
        kit.store.invalidate([user_tag("eu")], soft=True)
        assert state(kit, kit.key()) is Freshness.STALE


def test_soft__any_hard_tag_wins(kit: Kit) -> None:
    """One of its tags softly, another for good: gone."""
    kit.load(kit.key(), tags=["eu", "us"], **WINDOWS)
    kit.store.invalidate([user_tag("eu")], soft=True)
    assert state(kit, kit.key()) is Freshness.STALE
    kit.store.invalidate([user_tag("us")])
    assert state(kit, kit.key()) is None


def test_soft__everything_and_keys_win(kit: Kit) -> None:
    """Clearing, deleting and patterns are never soft."""
    for number, end in enumerate(
        (
            lambda key: kit.store.invalidate((), (), everything=True),
            lambda key: kit.store.delete([key]),
            lambda key: kit.store.invalidate_pattern("cache:search:*", "search"),
        )
    ):
        key = kit.key(f"k{number}")
        kit.load(key, tags=["eu"], **WINDOWS)
        kit.store.invalidate([user_tag("eu")], soft=True)
        assert state(kit, key) is Freshness.STALE
        end(key)
        assert state(kit, key) is None


def test_soft__a_load_under_way_is_overtaken(kit: Kit) -> None:
    """What was read before the invalidation is not stored as if it were fresh."""
    grant = kit.grant(kit.key())
    kit.store.invalidate([user_tag("eu")], soft=True)
    assert kit.fill(grant, tags=["eu"], **WINDOWS) is Fill.OVERTAKEN


def test_soft__the_window_ends(kit: Kit) -> None:
    """The window counts from the invalidation: a short one is over when the ttl would still run."""
    kit.load(kit.key(), tags=["eu"], stale_while_revalidate=0.05, ttl=60.0)
    kit.store.invalidate([user_tag("eu")], soft=True)
    reading = kit.read(kit.key())
    assert reading.entry is not None
    assert reading.entry.freshness(reading.now + 60_000) is Freshness.EXPIRED
    assert reading.entry.ttl < 60


def test_soft__listed_as_stale(kit: Kit) -> None:
    """A listing shows it with a ttl that is over."""
    kit.load(kit.key(), tags=["eu"], **WINDOWS)
    kit.load(kit.key("b"), tags=["us"], **WINDOWS)
    if kit.clock is not None:
        kit.clock.tick(0.01)
    kit.store.invalidate([user_tag("eu")], soft=True)
    if kit.clock is not None:
        kit.clock.tick(0.01)
    ttls = {item.key: item.ttl for item in kit.store.page(None, None, None, 10).entries}
    assert set(ttls) == {kit.key(), kit.key("b")}
    assert ttls[kit.key()] < 0 < ttls[kit.key("b")]


def test_soft__stamps_lost(shared_kit: Kit) -> None:
    """The record of which stamps are soft is evicted: then they are hard, which is safe."""
    kit = shared_kit
    kit.load(kit.key(), tags=["eu"], **WINDOWS)
    kit.store.invalidate([user_tag("eu")], soft=True)
    assert kit.server().delete(kit.names.soft) == 1
    assert state(kit, kit.key()) is None


def test_soft__another_process(shared_kit: Kit) -> None:
    """Who did not invalidate sees the same."""
    kit = shared_kit
    assert kit.connect is not None
    other = Kit(kit.connect(), kit.names)
    kit.load(kit.key(), tags=["eu"], **WINDOWS)
    assert state(other, kit.key()) is Freshness.FRESH
    kit.store.invalidate([], ["search"], soft=True)
    assert state(other, kit.key()) is Freshness.STALE


@pytest.mark.parametrize("how", ["stamp", "entry"])
def test_soft__the_clock_stepped_back(shared_kit: Kit, how: str) -> None:
    """Stamps never go back, as the server's clock may: what a soft one meets is stale at once all the same."""
    key, client = shared_kit.key(), shared_kit.server()
    shared_kit.load(key, b"old", tags=["eu"], **WINDOWS)
    ahead = int(client.zscore("cache~stamps", "=clock") or 0) + 60_000_000
    if how == "entry":  # it was filled before the step, too
        client.setrange(key, 20, ahead.to_bytes(8, "big"))
    client.zadd("cache~stamps", {"=clock": ahead + 1_000_000})
    shared_kit.store.invalidate([user_tag("eu")], soft=True)
    assert state(shared_kit, key) is Freshness.STALE
    assert next(shared_kit.store.entries(None, None)).ttl <= 0
