"""The Prometheus exporter, on real registries, read as a scrape reads it."""

from __future__ import annotations

import gc
import logging
import re
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry, Counter

from flask_rcache import CacheManager, CacheType, RCache, cache_response, current_cache
from flask_rcache.config.settings import Settings
from flask_rcache.errors import ConfigError
from flask_rcache.extension import store_of
from flask_rcache.metrics import prometheus
from flask_rcache.metrics.gauges import Watched
from flask_rcache.metrics.names import COUNTERS, GAUGES, OPERATIONS, Labels
from flask_rcache.metrics.prometheus import instrument, uninstrument
from tests.clusters import Cluster
from tests.metrics.kit import cache, scrape, value
from tests.processes import wait_until
from tests.sentinels import Sentinels

ITEMS = CacheType("items", ttl=60)


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of the test's own."""
    return CollectorRegistry()


def _use(manager: CacheManager) -> None:
    """A miss with its load, two hits, a write, and three invalidations."""
    for _ in range(3):
        manager.fetch(ITEMS, "a", lambda: "x" * 100)
    manager.set(ITEMS, "b", 1)
    manager.get(ITEMS, "c")
    manager.invalidate_type(ITEMS)
    manager.invalidate_tags("t", "u")
    manager.clear_all()


def test_counters__are_what_the_statistics_say(registry: CollectorRegistry) -> None:
    """A scrape and `stats()` give the same figures, each counter of each type."""
    with cache() as manager:
        instrument(manager, registry=registry)
        _use(manager)
        series, counted = scrape(registry), dict[str, Any](manager.stats()["by_type"]["items"])
        for field, each in COUNTERS.items():
            found = value(series, each.prometheus, key_prefix="items")
            assert found == pytest.approx(counted[field], abs=1e-5), field
    assert value(series, "cache_hits_total", key_prefix="items") == 2
    assert value(series, "cache_misses_total", key_prefix="items") == 2
    assert value(series, "cache_loads_total", key_prefix="items") == 1
    assert value(series, "cache_invalidations_total", key_prefix="items") == 1


def test_counters__what_belongs_to_no_type_is_none(registry: CollectorRegistry) -> None:
    """Invalidations of tags and of everything have a label, too."""
    with cache() as manager:
        instrument(manager, registry=registry)
        _use(manager)
        assert value(scrape(registry), "cache_invalidations_total", key_prefix="none") == 2


def test_counters__of_a_type_are_there_from_its_first_count(registry: CollectorRegistry) -> None:
    """A ratio over hits, stale and misses must not vanish because one of them never happened."""
    with cache() as manager:
        instrument(manager, registry=registry)
        manager.get(ITEMS, "nothing")
        series = scrape(registry)
        found = {each.prometheus: value(series, each.prometheus, key_prefix="items") for each in COUNTERS.values()}
        assert {name for name, count in found.items() if count is None} == set()
        assert {name for name, count in found.items() if count} == {"cache_misses_total"}


def test_latency__is_by_operation(registry: CollectorRegistry) -> None:
    """Hits, loads, writes and invalidations are timed, each as often as it happened."""
    with cache() as manager:
        instrument(manager, registry=registry)
        _use(manager)
        series = scrape(registry)

    def count(operation: str, **labels: str) -> float | None:
        return value(series, "cache_latency_seconds_count", operation=operation, **labels)

    assert count("hit", key_prefix="items") == 2
    assert count("load", key_prefix="items") == 1
    assert count("invalidate", key_prefix="items") == 1
    assert count("set", key_prefix="items") == 2
    assert {dict(labels)["operation"] for name, labels in series if name == "cache_latency_seconds_count"} == {
        *OPERATIONS
    }
    total = value(series, "cache_latency_seconds_sum", operation="hit", key_prefix="items")
    assert total is not None
    assert 0 < total < 10


def test_views__are_counted(registry: CollectorRegistry) -> None:
    """A decorated view's hits and misses are those that its callers saw."""
    flask_app = Flask("views")
    flask_app.config.update(TESTING=True, RCACHE_URL="memory://")
    RCache(flask_app)
    instrument(flask_app.extensions["rcache"], registry=registry)

    @flask_app.get("/")
    @cache_response(CacheType.DASHBOARD)
    def index() -> str:
        return "body"

    client = flask_app.test_client()
    assert [client.get("/").headers["X-Cache"] for _ in range(4)] == ["MISS", "HIT", "HIT", "HIT"]
    client.get("/", headers={"Authorization": "Bearer x"})
    series = scrape(registry)
    assert value(series, "cache_hits_total", key_prefix="dashboard") == 3
    assert value(series, "cache_misses_total", key_prefix="dashboard") == 1
    assert value(series, "cache_bypasses_total", key_prefix="dashboard") == 1
    assert value(series, "cache_latency_seconds_count", key_prefix="dashboard", operation="hit") == 3


def test_counters__types_beyond_the_bound_are_other(registry: CollectorRegistry) -> None:
    """An app that makes types without end makes 200 series of each metric, and loses no count."""
    with cache() as manager:
        instrument(manager, registry=registry)
        for number in range(260):
            manager.get(CacheType(f"t{number}", ttl=5), "k")
        misses = {labels: found for (name, labels), found in scrape(registry).items() if name == "cache_misses_total"}
    assert len(misses) == 201
    assert sum(misses.values()) == 260
    assert misses[frozenset({("key_prefix", "other")})] == 60


def test_instrument__twice_counts_once(registry: CollectorRegistry) -> None:
    """Also through `current_cache`, which is the same manager."""
    with cache() as manager:
        instrument(manager, registry=registry)
        instrument(manager, registry=registry)
        instrument(current_cache, registry=registry)
        manager.get(ITEMS, "k")
        assert value(scrape(registry), "cache_misses_total", key_prefix="items") == 1


def test_instrument__current_cache_can_be_scraped_outside_of_a_context(registry: CollectorRegistry) -> None:
    """What is kept is the manager, not the proxy: a scrape has no app context."""
    flask_app = Flask("proxied")
    flask_app.config.update(TESTING=True, RCACHE_URL="memory://")
    RCache(flask_app)
    with flask_app.app_context():
        instrument(current_cache, registry=registry)
    assert value(scrape(registry), "cache_available", cache="cache") == 1


def test_instrument__several_apps_share_the_collectors(registry: CollectorRegistry) -> None:
    """Two apps of one process count together, and each cache's state is under its own prefix."""
    with cache(RCACHE_PREFIX="one") as one, cache(RCACHE_PREFIX="two") as two:
        for manager in (one, two):
            instrument(manager, registry=registry)
            manager.get(ITEMS, "k")
        one.set(ITEMS, "k", 1)
        series = scrape(registry)
        assert value(series, "cache_misses_total", key_prefix="items") == 2
        assert value(series, "cache_available", cache="one") == 1
        assert value(series, "cache_available", cache="two") == 1


def test_instrument__by_default_in_the_default_registry() -> None:
    """Without a registry it is prometheus_client's own."""
    from prometheus_client import REGISTRY

    with cache() as manager:
        instrument(manager)
        before = REGISTRY.get_sample_value("cache_misses_total", {"key_prefix": "items"}) or 0
        manager.get(ITEMS, "k")
        assert REGISTRY.get_sample_value("cache_misses_total", {"key_prefix": "items"}) == before + 1
        uninstrument(manager)


def test_setting__switches_both_on() -> None:
    """`RCACHE_METRICS` instruments the app's cache at its start, each exporter once."""
    with cache(RCACHE_METRICS="prometheus,opentelemetry") as manager:
        instrument(manager)
        assert [type(meter).__name__ for meter in manager.engine.statistics.meters] == [
            "PrometheusMeter",
            "OpenTelemetryMeter",
        ]
        assert manager.tracer is not None
        uninstrument(manager)


def test_instrument__a_name_that_is_taken_is_told_with_the_remedy(registry: CollectorRegistry) -> None:
    """A registry that has such a metric is left as it was, and the message says what to do."""
    Counter("cache_misses_total", "somebody else's", registry=registry)
    with cache() as manager:
        with pytest.raises(ConfigError, match="registry=CollectorRegistry"):
            instrument(manager, registry=registry)
        assert manager.engine.statistics.meters == []
    Counter("cache_hits_total", "registered before the clash was found, and taken out again", registry=registry)


def test_uninstrument__counts_no_more(registry: CollectorRegistry) -> None:
    """What was counted stays; the state of the cache is shown no more; it can begin again."""
    with cache() as manager:
        instrument(manager, registry=registry)
        manager.get(ITEMS, "k")
        uninstrument(manager, registry=registry)
        manager.get(ITEMS, "k")
        assert manager.engine.statistics.meters == []
        series = scrape(registry)
        assert value(series, "cache_misses_total", key_prefix="items") == 1
        assert value(series, "cache_available", cache="cache") is None
        instrument(manager, registry=registry)
        manager.get(ITEMS, "k")
        assert value(scrape(registry), "cache_misses_total", key_prefix="items") == 2


def test_meter__never_raises_and_logs_once(registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """What a collector refuses (here: counting backwards) breaks no request."""
    with cache() as manager, caplog.at_level(logging.ERROR, logger="flask_rcache"):
        instrument(manager, registry=registry)
        (meter,) = manager.engine.statistics.meters
        for _ in range(3):
            meter.count("items", "hits", -1.0)
        meter.count("items", "no such field", 1.0)
        meter.time("items", "no such operation", 1.0)
    assert [record.message for record in caplog.records] == [
        "[CACHE ERROR] metrics: could not count; this is logged once"
    ]


# The state


def test_gauges__show_the_store(server, registry: CollectorRegistry) -> None:
    """Entries and bytes by type, the server's memory, the tiers, the bus, the breaker and the journal."""
    with cache(server.url, RCACHE_PREFIX="shop") as manager:
        instrument(manager, registry=registry)
        for number in range(5):
            manager.set(ITEMS, number, "x" * 1000)
        manager.get(ITEMS, 1)
        wait_until(
            lambda: value(scrape(registry), "cache_bus_alive", cache="shop") == 1, timeout=20, what="the bus's life"
        )
        series = scrape(registry)
        assert value(series, "cache_entries", cache="shop", key_prefix="items") == 5
        taken = value(series, "cache_bytes", cache="shop", key_prefix="items")
        assert taken is not None
        assert 0 < taken < 100_000
        memory = value(series, "cache_server_memory_bytes", cache="shop")
        assert memory is not None
        assert memory > 100_000
        expected = {"cache_available": 1, "cache_breaker_open": 0, "cache_journal_pending": 0}
        assert {name: value(series, name, cache="shop") for name in expected} == expected
        assert value(series, "cache_memory_tier_max_bytes", cache="shop") == manager.settings.l1_bytes
        (node,) = [dict(labels)["node"] for name, labels in series if name == "cache_node_available"]
        assert node == f"127.0.0.1:{server.port}"
        assert value(series, "cache_node_away_seconds", cache="shop", node=node) == 0
        shown = {name for name, _ in series}
        missing = {each.prometheus for each in GAUGES.values()} - shown
        others = re.compile(r"cache_(sentinel|shard|node_shards|queue|events|warming|statement)")
        assert missing == {each for each in missing if others.match(each)}


def test_gauges__of_statements_are_those_of_all_processes_and_bounded(server, registry: CollectorRegistry) -> None:
    """Hits, runs and the seconds of both by statement; beyond a hundred statements they are added up."""
    with cache(server.url) as one, cache(server.url) as other:
        instrument(one, registry=registry)
        for manager, seconds in ((one, 0.5), (other, 1.5)):
            manager.get(ITEMS, "k")  # the process is in use
            found = manager.engine.statistics.statements.of("audit", "SELECT 1")
            found.missed(seconds, rows=1)
            found.hit(0.25)
        labels = {"cache": "cache", "database": "audit", "statement": "SELECT 1"}

        def seen() -> list[float | None]:
            series = scrape(registry)
            names = ("hits", "misses", "query_seconds", "cache_seconds")
            return [value(series, f"cache_statement_{name}", **labels) for name in names]

        wait_until(lambda: seen() == [2, 2, 2.0, 0.5], timeout=30, what="both processes' counts")


def test_gauges__statements_beyond_the_bound_are_other(registry: CollectorRegistry) -> None:
    """An app that writes values into its SQL does not fill the monitoring system."""
    with cache() as manager:
        instrument(manager, registry=registry)
        for number in range(130):
            manager.engine.statistics.statements.of("", f"SELECT {number}").hit(0.001)
        hits = {
            dict(labels)["statement"]: hit
            for (name, labels), hit in scrape(registry).items()
            if name == "cache_statement_hits"
        }
        assert (len(hits), sum(hits.values()), hits["other"]) == (101, 130, 30)


def test_gauges__say_so_when_the_store_is_away(private_server, registry: CollectorRegistry) -> None:
    """A scrape works during an outage: the breaker is open, the journal is not empty, entries are not known."""
    server = private_server()
    with cache(server.url, RCACHE_L1_TTL=0) as manager:
        instrument(manager, registry=registry)
        manager.set(ITEMS, "k", 1)
        assert value(scrape(registry), "cache_breaker_open", cache="cache") == 0
        server.kill()
        manager.get(ITEMS, "k")
        manager.invalidate_type(ITEMS)
        series = scrape(registry)
        assert value(series, "cache_breaker_open", cache="cache") == 1
        assert value(series, "cache_available", cache="cache") == 0
        assert value(series, "cache_journal_pending", cache="cache") == 1
        assert value(series, "cache_entries", cache="cache", key_prefix="items") is None
        server.restart()
        wait_until(
            lambda: value(scrape(registry), "cache_journal_pending", cache="cache") == 0, timeout=30, what="delivery"
        )
        wait_until(lambda: value(scrape(registry), "cache_available", cache="cache") == 1, timeout=30, what="recovery")


def test_gauges__show_sentinels_and_failovers(sentinels: Callable[..., Sentinels], registry: CollectorRegistry) -> None:
    """Each sentinel, the quorum, and when the master was last another one; a sentinel that ends is away."""
    trio = sentinels()
    with cache(trio.url) as manager:
        instrument(manager, registry=registry)
        manager.get(ITEMS, "k")

        def sentinel(number: int) -> float | None:
            node = f"127.0.0.1:{trio.ports[number]}"
            return value(scrape(registry), "cache_sentinel_available", cache="cache", node=node)

        wait_until(lambda: [sentinel(number) for number in range(3)] == [1, 1, 1], timeout=20, what="three sentinels")
        assert value(scrape(registry), "cache_sentinel_quorum", cache="cache") == 1
        assert value(scrape(registry), "cache_last_failover_timestamp_seconds", cache="cache") == 0
        trio.fail_over()

        def failed_over() -> bool:
            manager.get(ITEMS, "k")
            at = value(scrape(registry), "cache_last_failover_timestamp_seconds", cache="cache")
            return at is not None and abs(time.time() - at) < 60

        wait_until(failed_over, timeout=30, what="the failover is seen")
        trio.sentinels[2].kill()
        wait_until(lambda: sentinel(2) == 0, timeout=30, what="the sentinel is away")
        assert [sentinel(0), sentinel(1)] == [1, 1]


@pytest.mark.chaos
def test_gauges__a_node_of_a_cluster_that_is_away(
    private_cluster: Callable[..., Cluster], registry: CollectorRegistry
) -> None:
    """The node is away, its shards with it, and each has what waits in its journal; the others are used."""
    cluster = private_cluster("valkey")
    gone = cluster.nodes[0]
    with cache(cluster.url) as manager:
        instrument(manager, registry=registry)
        manager.get(ITEMS, "k")
        gone.kill()

        def is_seen() -> bool:
            for number in range(50):
                manager.get(ITEMS, number)
            return value(scrape(registry), "cache_node_available", cache="cache", node=f"127.0.0.1:{gone.port}") == 0

        wait_until(is_seen, timeout=30, what="the node is away")
        manager.invalidate_type(ITEMS)
        series = scrape(registry)
        shards = {
            dict(labels)["shard"]: figure for (name, labels), figure in series.items() if "shard_available" in name
        }
        assert len(shards) == 16
        pending = {
            number: value(series, "cache_shard_journal_pending", cache="cache", shard=number) for number in shards
        }
        assert 0 < sum(not figure for figure in shards.values()) < 16
        assert {number: 1 - figure for number, figure in shards.items()} == pending
        used = [name for name, _ in series if name == "cache_node_available"]
        assert len(used) == 3


def test_gauges__nodes_and_shards_of_a_cluster() -> None:
    """What an overview says of nodes and shards is shown by node and by shard; addresses are bounded."""
    watched = Watched(Labels())
    nodes = [{"address": f"10.0.0.{n}:6379", "is_available": n > 1, "since": 1.0, "shards": [n]} for n in range(150)]
    shards = [{"number": n, "is_available": n > 1, "pending": n} for n in range(16)]
    topology = {"generation": 3, "last_failover": None, "nodes": nodes, "shards": shards}
    found = {(name, labels): figure for name, labels, figure, _ in watched._of_topology(topology, "cache")}
    assert found["node_available", ("cache", "10.0.0.1:6379")] == 0
    assert found["node_away", ("cache", "10.0.0.1:6379")] > 1000
    assert found["node_away", ("cache", "10.0.0.2:6379")] == 0
    assert found["shard_pending", ("cache", "7")] == 7
    assert len({labels for name, labels in found if name == "node_available"}) == 101


def test_gauges__one_store_of_two_apps_is_counted_once(server, registry: CollectorRegistry) -> None:
    """Two apps that share prefix and Redis show the same entries, not twice as many."""
    with cache(server.url) as one, cache(server.url) as two:
        for manager in (one, two):
            instrument(manager, registry=registry)
            manager.get(ITEMS, "k")
        one.set(ITEMS, "k", 1)
        series = scrape(registry)
        assert value(series, "cache_entries", cache="cache", key_prefix="items") == 1
        limit = one.settings.l1_bytes + two.settings.l1_bytes
        assert value(series, "cache_memory_tier_max_bytes", cache="cache") == limit


def test_gauges__two_memories_of_one_prefix_are_added_up(registry: CollectorRegistry) -> None:
    """Two apps on memory have two caches, also where their prefixes are the same."""
    with cache() as one, cache() as two:
        for manager in (one, two):
            instrument(manager, registry=registry)
            manager.set(ITEMS, "k", 1)
        assert value(scrape(registry), "cache_entries", cache="cache", key_prefix="items") == 2


def test_gauges__a_scrape_is_no_use_of_the_cache(server, registry: CollectorRegistry) -> None:
    """Scraping counts nothing, not even errors."""
    with cache(server.url) as manager:
        instrument(manager, registry=registry)
        manager.get(ITEMS, "k")
        before = manager.stats()
        for _ in range(3):
            scrape(registry)
        assert manager.stats() == before


# Many apps


def test_many_apps__leave_neither_threads_nor_managers_behind(registry: CollectorRegistry) -> None:
    """A hundred caches, made and dropped: no thread for each, and nothing keeps them alive."""
    threads = threading.active_count()
    settings = Settings(url="memory://")
    managers: list[weakref.ref[CacheManager]] = []

    def one() -> None:
        manager = CacheManager(settings, store_of(settings))
        instrument(manager, registry=registry)
        manager.get(ITEMS, "k")
        managers.append(weakref.ref(manager))
        manager.close()

    for _ in range(100):
        one()
    gc.collect()
    assert [ref for ref in managers if ref() is not None] == []
    assert threading.active_count() <= threads + 2
    assert value(scrape(registry), "cache_misses_total", key_prefix="items") == 100
    assert value(scrape(registry), "cache_available", cache="cache") is None


def test_registry__is_not_kept_alive() -> None:
    """An exporter goes with its registry, once no manager counts for it."""

    def one() -> weakref.ref[CollectorRegistry]:
        registry = CollectorRegistry()
        with cache() as manager:
            instrument(manager, registry=registry)
            assert registry in prometheus._exporters
        return weakref.ref(registry)

    gone = one()
    gc.collect()
    assert gone() is None
