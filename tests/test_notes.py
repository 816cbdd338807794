"""Notes: the costliest keys and the last invalidations, bounded."""

from __future__ import annotations

from flask_rcache import CacheType
from flask_rcache.engine.notes import Notes
from tests.servers import Server
from tests.stores.kit import manager

KIND = CacheType("kind", ttl=60)


def test_costliest__sums_and_sorts() -> None:
    """Seconds add up by key; the largest come first."""
    notes = Notes()
    for key, seconds in (("a", 1.0), ("b", 2.5), ("a", 2.0)):
        notes.loaded(key, seconds)
    assert notes.costliest(5) == [("a", 3.0), ("b", 2.5)]
    assert notes.costliest(1) == [("a", 3.0)]


def test_costliest__bounded() -> None:
    """However many keys are loaded, only so many are remembered, and the costly ones stay."""
    notes = Notes()
    notes.loaded("costly", 100.0)
    for number in range(10_000):
        notes.loaded(f"k{number}", 0.001)
    assert len(notes.costliest(100_000)) <= 1000
    assert notes.costliest(1) == [("costly", 100.0)]


def test_take__once_and_back() -> None:
    """What was taken is not taken again, unless it is given back; what came meanwhile adds to it."""
    notes = Notes()
    notes.loaded("a", 1.0)
    notes.invalidated("type", ("search",), 3, journalled=False)
    costs, log = notes.take()
    assert costs == {"a": 1.0}
    assert [(noted.scope, noted.names, noted.removed) for noted in log] == [("type", ("search",), 3)]
    assert 0 <= log[0].at < 60
    assert not any(notes.take())
    notes.loaded("a", 0.5)
    notes.invalidated("all", (), 0, journalled=True)
    notes.give_back(costs, log)
    costs, log = notes.take()
    assert costs == {"a": 1.5}
    assert [noted.scope for noted in log] == ["all", "type"]
    assert [noted.scope for noted in notes.recent()] == ["all", "type"]


def test_log__bounded() -> None:
    """Only the last ones are kept, and of their names only so much."""
    notes = Notes()
    for number in range(500):
        notes.invalidated("tags", tuple("x" * 1000 for _ in range(1000)), number, journalled=False)
    recent = notes.recent()
    assert [noted.removed for noted in recent] == list(range(499, 449, -1))
    lengths = [len(name) for name in recent[0].names]
    assert len(lengths) <= 20
    assert max(lengths) <= 200
    assert len(notes.take()[1]) == 50


def test_stats__after_a_tag_that_cannot_be_sent(redis_server: Server) -> None:
    """A lone surrogate in a tag is spelled out in the log, and the counters of the fleet arrive with it."""
    cache = manager(redis_server.url, types=[KIND])
    cache.fetch(KIND, "a", lambda: 1)
    assert cache.invalidate_tags("\ud800") == 1
    assert cache.stats()["misses"] == 1
    gazette = cache.store.gazette()
    assert gazette is not None
    assert gazette.log[0].names == ("\\ud800",)
    cache.close()
