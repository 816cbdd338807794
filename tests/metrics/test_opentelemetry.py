"""The OpenTelemetry exporter, with the SDK's in-memory reader and exporter."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flask_rcache import CacheManager, CacheType, RCache, cache_response
from flask_rcache.metrics.names import BUCKETS, COUNTERS, GAUGES
from flask_rcache.metrics.opentelemetry import instrument, uninstrument
from tests.metrics.kit import cache
from tests.processes import ROOT

ITEMS = CacheType("items", ttl=60)

Points = dict[tuple[str, frozenset[tuple[str, Any]]], Any]


class Telemetry:
    """Providers of a test's own, and what came to them."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self._spans = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))

    def instrument(self, manager: CacheManager) -> None:
        instrument(manager, meter_provider=self.meters, tracer_provider=self.tracers)

    def points(self) -> Points:
        """The data points by name and attributes."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            (metric.name, frozenset((point.attributes or {}).items())): point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }

    def value(self, name: str, **attributes: str) -> float | None:
        """The value of one counter or gauge; dots in attribute names are written as two underscores."""
        wanted = frozenset((key.replace("__", "."), text) for key, text in attributes.items())
        point = self.points().get((name, wanted))
        return None if point is None else point.value

    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended since the last call."""
        ended = list(self._spans.get_finished_spans())
        self._spans.clear()
        return ended


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.meters.shutdown()
    made.tracers.shutdown()


def test_counters__are_what_the_statistics_say(telemetry: Telemetry) -> None:
    """A reader and `stats()` give the same figures."""
    with cache() as manager:
        telemetry.instrument(manager)
        for _ in range(3):
            manager.fetch(ITEMS, "a", lambda: "x" * 100)
        manager.invalidate_type(ITEMS)
        manager.invalidate_tags("t")
        counted = dict[str, Any](manager.stats()["by_type"]["items"])
        for field, each in COUNTERS.items():
            found = telemetry.value(each.otel, cache__type="items") or 0
            assert found == pytest.approx(counted[field], abs=1e-5), field
        assert telemetry.value("cache.hits", cache__type="items") == 2
        assert telemetry.value("cache.invalidations", cache__type="none") == 1


def test_latency__has_buckets_in_seconds(telemetry: Telemetry) -> None:
    """The histogram is by type and operation, and its boundaries fit a cache."""
    with cache() as manager:
        telemetry.instrument(manager)
        for _ in range(3):
            manager.fetch(ITEMS, "a", lambda: 1)
        attributes = frozenset({("cache.type", "items"), ("cache.operation", "hit")})
        point = telemetry.points()["cache.latency", attributes]
        assert point.count == 2
        assert tuple(point.explicit_bounds) == BUCKETS


def test_attributes__types_beyond_the_bound_are_other(telemetry: Telemetry) -> None:
    """An app that makes types without end makes 200 series of each metric."""
    with cache() as manager:
        telemetry.instrument(manager)
        for number in range(260):
            manager.get(CacheType(f"t{number}", ttl=5), "k")
        misses = [point.value for (name, _), point in telemetry.points().items() if name == "cache.misses"]
        assert len(misses) == 201
        assert sum(misses) == 260


def test_gauges__show_the_store(redis_server, telemetry: Telemetry) -> None:
    """Every gauge is there, with the name of the cache."""
    with cache(redis_server.url, RCACHE_PREFIX="shop") as manager:
        telemetry.instrument(manager)
        manager.set(ITEMS, "k", "x" * 1000)
        manager.get(ITEMS, "k")
        points = telemetry.points()
        names = {name for name, _ in points}
        # The bus may not have come up yet: it is neither alive nor down then. There are no sentinels, shards, queues,
        # events, tasks or statements.
        others = ("sentinel", "shard", "cache.queue.", "cache.events.", "cache.warming.", "cache.statement.")
        missing = {each.otel for each in GAUGES.values()} - names
        assert {name for name in missing if not any(each in name for each in others)} <= {"cache.bus.alive"}
        attributes = frozenset({("cache.name", "shop"), ("cache.type", "items")})
        assert points["cache.entries", attributes].value == 1
        assert points["cache.breaker.open", frozenset({("cache.name", "shop")})].value == 0


def test_gauges__show_cached_statements(telemetry: Telemetry) -> None:
    """By the database and the SQL."""
    with cache() as manager:
        telemetry.instrument(manager)
        manager.engine.statistics.statements.of("", "SELECT 1").missed(0.5, rows=1)
        names = {"cache__name": "cache", "cache__database": "default", "cache__statement": "SELECT 1"}
        assert telemetry.value("cache.statement.query.time", **names) == 0.5
        assert telemetry.value("cache.statement.hits", **names) == 0


def test_instrument__several_apps_share_the_instruments(telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    """Two apps, each instrumented twice: counted once each, and the SDK sees no instrument a second time."""
    with cache(RCACHE_PREFIX="one") as one, cache(RCACHE_PREFIX="two") as two, caplog.at_level(logging.WARNING):
        for manager in (one, two, one, two):
            telemetry.instrument(manager)
        one.get(ITEMS, "k")
        two.get(ITEMS, "k")
        assert telemetry.value("cache.misses", cache__type="items") == 2
        assert telemetry.value("cache.available", cache__name="one") == 1
        assert telemetry.value("cache.available", cache__name="two") == 1
    assert [record.message for record in caplog.records if record.name.startswith("opentelemetry")] == []


def test_uninstrument__counts_no_more(telemetry: Telemetry) -> None:
    """Neither instruments nor spans."""
    with cache() as manager:
        telemetry.instrument(manager)
        uninstrument(manager, meter_provider=telemetry.meters)
        manager.fetch(ITEMS, "k", lambda: 1)
        assert manager.engine.statistics.meters == []
        assert telemetry.points() == {}
        assert telemetry.spans() == []


def test_meter__never_raises(telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    """What is unknown is left out, and what an instrument refuses breaks no request and is logged once."""
    with cache() as manager:
        telemetry.instrument(manager)
        (meter,) = manager.engine.statistics.meters
        meter.count("items", "no such field", 1.0)
        meter.time("items", "no such operation", 1.0)
        with caplog.at_level(logging.ERROR, logger="flask_rcache"):
            for _ in range(2):
                meter.count([], "hits", 1.0)  # type: ignore[arg-type]  # cannot be looked up
    assert [record.message for record in caplog.records] == [
        "[CACHE ERROR] metrics: could not count; this is logged once"
    ]


def test_managers__are_not_kept_alive(telemetry: Telemetry) -> None:
    """A provider outlives the apps that it counted for."""
    managers: list[weakref.ref[CacheManager]] = []

    def one() -> None:
        with cache() as manager:
            telemetry.instrument(manager)
            manager.get(ITEMS, "k")
            managers.append(weakref.ref(manager))

    for _ in range(3):
        one()
    gc.collect()
    assert [ref for ref in managers if ref() is not None] == []
    assert telemetry.value("cache.misses", cache__type="items") == 3
    assert telemetry.value("cache.available", cache__name="cache") is None


# Spans


def _outcomes(spans: list[ReadableSpan]) -> list[tuple[str, dict[str, Any]]]:
    return [(span.name, dict(span.attributes or {})) for span in spans]


def test_spans__tell_the_outcome_of_a_fetch(telemetry: Telemetry) -> None:
    """A miss, then a hit; the key is not in the span."""
    with cache() as manager:
        telemetry.instrument(manager)
        for _ in range(2):
            manager.fetch(ITEMS, "secret-key", lambda: 1)
        with_async = manager.afetch(ITEMS, "secret-key", _async_one)
        assert asyncio.run(with_async) == 1
    spans = telemetry.spans()
    assert _outcomes(spans) == [
        ("cache.fetch", {"cache.type": "items", "cache.outcome": outcome}) for outcome in ("miss", "hit", "hit")
    ]
    assert "secret-key" not in "".join(span.to_json() for span in spans)


async def _async_one() -> int:
    return 1


def test_spans__nest(telemetry: Telemetry) -> None:
    """What a loader fetches is a child of the span that the loader runs in, with an outcome of its own."""
    with cache() as manager:
        telemetry.instrument(manager)
        manager.fetch(ITEMS, "inner", lambda: 1)
        telemetry.spans()
        manager.fetch(ITEMS, "outer", lambda: manager.fetch(ITEMS, "inner", lambda: 2))
    inner, outer = telemetry.spans()
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert [attributes["cache.outcome"] for _, attributes in _outcomes([inner, outer])] == ["hit", "miss"]


def test_spans__of_a_view(telemetry: Telemetry) -> None:
    """Hit, miss and bypass of a decorated view; neither its path nor its key is in them."""
    flask_app = Flask("spans")
    flask_app.config.update(TESTING=True, RCACHE_URL="memory://")
    RCache(flask_app)
    telemetry.instrument(flask_app.extensions["rcache"])

    @flask_app.get("/private/<name>")
    @cache_response(CacheType.DASHBOARD)
    def index(name: str) -> str:
        return name

    client = flask_app.test_client()
    for headers in ({}, {}, {"Authorization": "Bearer x"}):
        client.get("/private/zoey", headers=headers)
    spans = telemetry.spans()
    assert _outcomes(spans) == [
        ("cache.fetch", {"cache.type": "dashboard", "cache.outcome": outcome}) for outcome in ("miss", "hit", "bypass")
    ]
    assert "zoey" not in "".join(span.to_json() for span in spans)


def test_spans__a_loader_that_raises(telemetry: Telemetry) -> None:
    """The exception comes through unchanged; its class is in the span, its text is not."""
    with cache() as manager:
        telemetry.instrument(manager)

        def fail() -> int:
            raise LookupError("zoey is not there")

        with pytest.raises(LookupError, match="zoey"):
            manager.fetch(ITEMS, "k", fail)
    (span,) = telemetry.spans()
    assert dict(span.attributes or {}) == {
        "cache.type": "items",
        "cache.outcome": "miss",
        "error.type": "LookupError",
    }
    assert "zoey" not in span.to_json()


_GLOBAL = """
from flask import Flask
from flask_rcache import CacheType, RCache
from flask_rcache.metrics.opentelemetry import instrument

apps = [Flask("one"), Flask("two")]
for app in apps:
    app.config["RCACHE_URL"] = "memory://"
    RCache(app)
instrument(apps[0].extensions["rcache"])

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
instrument(apps[1].extensions["rcache"])
for app in apps:
    app.extensions["rcache"].get(CacheType.QUERY, "k")
    app.extensions["rcache"].set(CacheType.QUERY, "k", 1)
found = {
    metric.name: [getattr(point, "value", None) for point in metric.data.data_points]
    for resource in reader.get_metrics_data().resource_metrics
    for scope in resource.scope_metrics
    for metric in scope.metrics
}
print(found["cache.misses"], max(found["cache.entries"]))
"""


def test_global_provider__may_be_set_later() -> None:
    """An app instrumented before the SDK is set up counts in the same instruments as one instrumented after."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", _GLOBAL], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (result.returncode, result.stdout) == (0, "[2] 2.0\n"), result.stderr
    assert result.stderr == ""  # the SDK warns of instruments made twice
