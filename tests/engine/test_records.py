"""Records: the costliest keys and the last invalidations, bounded."""

from __future__ import annotations

from flask_rcache import CacheType
from flask_rcache.engine.statistics import Records
from tests.servers import Server
from tests.stores.kit import manager

KIND = CacheType("kind", ttl=60)


def test_costliest__sums_and_sorts() -> None:
    """Seconds add up by key; the largest come first."""
    records = Records()
    for key, seconds in (("a", 1.0), ("b", 2.5), ("a", 2.0)):
        records.loaded(key, seconds)
    assert records.costliest(5) == [("a", 3.0), ("b", 2.5)]
    assert records.costliest(1) == [("a", 3.0)]


def test_costliest__bounded() -> None:
    """However many keys are loaded, only so many are remembered, and the costly ones stay."""
    records = Records()
    records.loaded("costly", 100.0)
    for number in range(10_000):
        records.loaded(f"k{number}", 0.001)
    assert len(records.costliest(100_000)) <= 1000
    assert records.costliest(1) == [("costly", 100.0)]


def test_take__once_and_back() -> None:
    """What was taken is not taken again, unless it is given back; what came meanwhile adds to it."""
    records = Records()
    records.loaded("a", 1.0)
    records.invalidated("type", ("search",), 3, journalled=False)
    costs, log = records.take()
    assert costs == {"a": 1.0}
    assert [(record.scope, record.names, record.removed) for record in log] == [("type", ("search",), 3)]
    assert 0 <= log[0].at < 60
    assert not any(records.take())
    records.loaded("a", 0.5)
    records.invalidated("all", (), 0, journalled=True)
    records.give_back(costs, log)
    costs, log = records.take()
    assert costs == {"a": 1.5}
    assert [record.scope for record in log] == ["all", "type"]
    assert [record.scope for record in records.recent()] == ["all", "type"]


def test_log__bounded() -> None:
    """Only the last ones are kept, and of their names only so much."""
    records = Records()
    for number in range(500):
        records.invalidated("tags", tuple("x" * 1000 for _ in range(1000)), number, journalled=False)
    recent = records.recent()
    assert [record.removed for record in recent] == list(range(499, 449, -1))
    lengths = [len(name) for name in recent[0].names]
    assert len(lengths) <= 20
    assert max(lengths) <= 200
    assert len(records.take()[1]) == 50


def test_stats__after_a_tag_that_cannot_be_sent(redis_server: Server) -> None:
    """A lone surrogate in a tag is spelled out in the log, and the counters of all processes arrive with it."""
    cache = manager(redis_server.url, types=[KIND])
    cache.fetch(KIND, "a", lambda: 1)
    assert cache.invalidate_tags("\ud800") == 1
    assert cache.stats()["misses"] == 1
    activity = cache.engine.catalogue.activity()
    assert activity is not None
    assert activity.log[0].names == ("\\ud800",)
    cache.close()
