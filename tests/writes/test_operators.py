"""What operators see of queues, events and warming: the overview, the commands, the metrics."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry

from flask_rcache import CacheType, RCache, Write, current_cache
from flask_rcache.cli.dataside import data_findings
from flask_rcache.cli.findings import State
from flask_rcache.events.consumer import EventConsumer
from flask_rcache.metrics.prometheus import instrument, uninstrument
from flask_rcache.writes import Consumer
from tests.clusters import Cluster
from tests.metrics.kit import scrape
from tests.processes import wait_until
from tests.servers import Server

THING = CacheType("thing", ttl=600, l1_ttl=0)
ORDERS = frozenset({"cache": "cache", "queue": "orders"}.items())


def broken(*_: Any) -> None:
    raise ZeroDivisionError("division by zero")


class Shop:
    """An app with a queue, events and a warming task, and a consumer of the queue that can run in a thread."""

    def __init__(self, url: str, **config: Any) -> None:
        self.flask = Flask("shop")
        self.flask.config.update(
            TESTING=True, RCACHE_URL=url, RCACHE_TIMEOUT=2.0, RCACHE_EVENTS_STREAM="shop:events", **config
        )
        self.rcache = RCache(self.flask, types=[THING])
        self.fail: Callable[[list[Write]], object] = lambda _: None
        self.rcache.writer("orders", batch=10)(self.apply)
        self.rcache.warming.register_task("revenue", lambda: None)
        self.rcache.warming.register_task("broken", broken)

    def apply(self, writes: list[Write]) -> None:
        self.fail(writes)

    def consumer(self) -> Consumer:
        engine = self.flask.extensions["rcache"].engine
        writers = list(engine.writes.writers.values())
        return Consumer(self.flask, writers, engine.store.queues, codec=engine.fetching.codec, attempts=3)

    def overview(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(current_cache.overview()))
        return found

    def queue(self) -> dict[str, Any]:
        (queue,) = self.overview()["queues"]
        return dict(queue)

    def told(self, *args: str, code: int = 0) -> Any:
        result = self.flask.test_cli_runner().invoke(args=["cache", *args, "--json"])
        assert result.exit_code == code, (result.output, result.exception)
        return json.loads(result.stdout)

    def findings(self, code: int = 0) -> list[tuple[str, str, str]]:
        """What `check` finds about the three."""
        checks = self.told("check", code=code)["checks"]
        return [
            (each["name"], each["state"], each["message"])
            for each in checks
            if each["name"] in ("queues", "events", "warming")
        ]


@pytest.fixture
def shop(private_server: Callable[..., Server]) -> Iterator[Shop]:
    """On a server of its own, which evicts nothing of a queue."""
    made = Shop(private_server(maxmemory="100mb", maxmemory_policy="volatile-lru").url)
    with made.flask.app_context():
        current_cache.fresh()
        yield made
        current_cache.close()


def behind(key: Any, value: Any) -> str:
    return current_cache.write_behind(THING, key, value, queue="orders")


def test_overview__says_how_a_queue_is(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits, for how long, who has it, what is tried again and what was given up, with keys and no values."""
    monkeypatch.setattr("flask_rcache.writes.consumer._FIRST_PAUSE", 0.0)
    assert shop.queue() == {
        "name": "orders",
        "length": 0,
        "pending": 0,
        "lag": 0.0,
        "dead": 0,
        "has_writer": True,
        "has_consumer": False,
        "consumers": [],
        "retried": [],
        "dead_letters": [],
        "parts_away": 0,
    }
    behind("a", "secret")
    behind("b", 2)
    wait_until(lambda: shop.queue()["lag"] > 0, timeout=30, what="a lag")
    assert (shop.queue()["length"], shop.queue()["pending"]) == (2, 0)
    consumer = shop.consumer()
    (part,) = consumer._parts

    def fail(writes: list[Write]) -> None:
        if any(write.key == "a" for write in writes):
            raise RuntimeError("poisoned")

    shop.fail = fail
    assert part.take()
    part.apply()
    part.apply()
    queue = shop.queue()
    assert (queue["length"], queue["pending"], queue["has_consumer"], len(queue["consumers"])) == (1, 1, True, 1)
    assert queue["retried"] == [{"key": "cache:thing:a", "attempts": 2}]
    part.apply()
    part.leave()
    queue = shop.queue()
    assert (queue["length"], queue["dead"], queue["has_consumer"]) == (0, 1, False)
    assert queue["dead_letters"] == [{"key": "cache:thing:a", "attempts": 3, "error": "RuntimeError: poisoned"}]
    assert "secret" not in json.dumps(shop.overview()["queues"])
    stats = shop.told("stats")
    assert stats["queues"][0]["dead"] == 1
    text = shop.flask.test_cli_runner().invoke(args=["cache", "stats"]).stdout
    assert "orders" in text
    assert "given up" in text


def test_overview__says_how_events_and_warming_are(shop: Shop) -> None:
    """Events that wait and that are being handled; tasks with their figures."""
    assert shop.overview()["events"] == {
        "stream": "shop:events",
        "group": "cache",
        "length": 0,
        "lag": 0,
        "pending": 0,
        "consumers": 0,
    }
    shop.rcache.emit("order.created", id=1)
    assert (shop.overview()["events"]["length"], shop.overview()["events"]["lag"]) == (1, 1)
    shop.flask.test_cli_runner().invoke(args=["cache", "events", "--once"])
    assert shop.overview()["events"]["lag"] == 0
    shop.flask.test_cli_runner().invoke(args=["cache", "warm"])
    tasks = {task["name"]: task for task in shop.overview()["warming"]}
    assert tasks["revenue"]["success_count"] == 1
    assert "ZeroDivisionError" in tasks["broken"]["error"]


def test_overview__on_memory_has_no_queue() -> None:
    """Writes are applied at once there; tasks have figures all the same."""
    app = Flask("shop")
    rcache = RCache(app)
    rcache.writer("orders")(lambda _: None)
    with app.app_context():
        overview = current_cache.overview()
        assert (overview["queues"], overview["events"], overview["warming"]) == ([], None, [])
        rcache.warming.register_task("revenue", lambda: None, every=60)
        assert [task["name"] for task in current_cache.overview()["warming"]] == ["revenue"]
        current_cache.close()


def test_overview__without_redis_has_none_of_them(private_server: Callable[..., Server]) -> None:
    """It answers all the same, and soon."""
    server = private_server()
    made = Shop(server.url)
    with made.flask.app_context():
        current_cache.fresh()
        server.stop()
        overview = made.overview()
        assert (overview["events"], overview["warming"]) == (None, [])
        assert [(queue["name"], queue["parts_away"], queue["has_consumer"]) for queue in overview["queues"]] == [
            ("orders", 1, False)
        ]
        current_cache.close()


def test_overview__adds_up_the_parts_of_a_cluster(redis_cluster: Cluster) -> None:
    """Each shard has a part of a queue; it has a consumer when each part has one."""
    made = Shop(redis_cluster.url)
    with made.flask.app_context():
        current_cache.fresh()
        for key in range(40):
            behind(key, 1)
        queue = made.queue()
        assert (queue["length"], queue["has_consumer"], queue["parts_away"]) == (40, False, 0)
        consumer = made.consumer()
        parts = consumer._parts
        assert sum(part.take() for part in parts) > 1
        assert made.queue()["pending"] == 40
        assert made.queue()["has_consumer"]
        parts[0].leave()
        assert not made.queue()["has_consumer"]
        for part in parts[1:]:
            part.leave()
        consumer.run(once=True)
        assert (made.queue()["length"], made.queue()["pending"]) == (0, 0)
        assert made.overview()["events"]["stream"] == "shop:events"
        current_cache.close()


def test_metrics__of_queues_events_and_warming(shop: Shop) -> None:
    """Each has its gauges, by queue and by task."""
    registry = CollectorRegistry()
    instrument(shop.flask.extensions["rcache"], registry=registry)
    shop.fail = broken
    behind("a", 1)
    shop.rcache.emit("order.created", id=1)
    shop.flask.test_cli_runner().invoke(args=["cache", "warm"])
    wait_until(lambda: shop.queue()["lag"] > 0, timeout=30, what="a lag")
    series = scrape(registry)
    assert series["cache_queue_length", ORDERS] == 1
    assert series["cache_queue_lag_seconds", ORDERS] > 0
    assert series["cache_queue_dead_letters", ORDERS] == 0
    assert series["cache_queue_has_consumer", ORDERS] == 0
    assert series["cache_queue_pending", ORDERS] == 0
    assert series["cache_events_lag", frozenset({("cache", "cache")})] == 1
    assert series["cache_events_pending", frozenset({("cache", "cache")})] == 0
    for task, failed in (("revenue", 0), ("broken", 1)):
        labels = frozenset({"cache": "cache", "task": task}.items())
        assert series["cache_warming_failed", labels] == failed
        assert (series["cache_warming_last_success_timestamp_seconds", labels] > 0) == (not failed)
        assert series["cache_warming_duration_seconds", labels] >= 0
    uninstrument(shop.flask.extensions["rcache"], registry=registry)


def test_check__a_queue_without_a_consumer(shop: Shop) -> None:
    """So too a stream of events."""
    behind("a", 1)
    queue, events, warming = shop.findings()
    assert queue[:2] == ("queues", "warn")
    assert "orders: no consumer has the queue; 1 write waits, the first for" in queue[2]
    assert events[:2] == ("events", "warn")
    assert "it has no consumer" in events[2]
    assert warming == ("warming", "ok", "2 tasks, none of which failed last")


def test_check__all_is_well(shop: Shop) -> None:
    """With consumers that have nothing to do."""
    consumers: list[Any] = [shop.consumer(), EventConsumer(shop.flask, shop.flask.extensions["rcache.events"])]
    threads = [threading.Thread(target=consumer.run) for consumer in consumers]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: shop.queue()["has_consumer"], timeout=30, what="a consumer")
        wait_until(lambda: shop.overview()["events"]["consumers"] == 1, timeout=30, what="a consumer of events")
        assert [finding[:2] for finding in shop.findings()] == [("queues", "ok"), ("events", "ok"), ("warming", "ok")]
    finally:
        for consumer in consumers:
            consumer.stop()
        for thread in threads:
            thread.join()
    assert shop.flask.extensions["rcache.events"].client.xinfo_consumers("shop:events", "cache") == []


def test_check__a_lag_that_grows(shop: Shop) -> None:
    """The consumer has the queue, and more comes in than it applies."""
    (part,) = shop.consumer()._parts
    behind("a", 0)
    assert part.take()
    ended = threading.Event()

    def produce() -> None:
        with shop.flask.app_context():
            while not ended.wait(0.02):
                behind("a", 1)
                part.keep()

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        (queue, *_) = shop.findings()
    finally:
        ended.set()
        thread.join()
    assert queue[:2] == ("queues", "warn")
    assert "orders: the lag grows;" in queue[2]
    assert "more than a second before" in queue[2]


def test_check__a_poisoned_key_and_dead_letters(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which key is held up by its first write, and what was given up, with the command that shows it."""
    monkeypatch.setattr("flask_rcache.writes.consumer._FIRST_PAUSE", 0.0)
    shop.fail = broken
    (part,) = shop.consumer()._parts
    behind("a", 1)
    part.take()
    for _ in range(3):
        part.apply()
    behind("b", 1)
    part.take()
    for _ in range(2):
        part.apply()
    messages = [message for name, state, message in shop.findings() if (name, state) == ("queues", "warn")]
    assert messages == [
        "orders: the write of cache:thing:b was tried 2 times; later ones of this key wait.",
        "orders: 1 given up, the first of cache:thing:a: ZeroDivisionError: division by zero",
    ]
    part.leave()


def test_check__a_queue_that_no_writer_is_for(shop: Shop) -> None:
    """A release has renamed it, and left writes behind."""
    behind("a", 1)
    other = Flask("next")
    other.config.update(RCACHE_URL=shop.flask.config["RCACHE_URL"])
    RCache(other, types=[THING])
    with other.app_context():
        (found,) = data_findings(other.extensions["rcache"])
    assert (found.name, found.state) == ("queues", State.WARN)
    assert "orders: 1 write waits" in found.message
    assert "this app has no writer for it" in found.message
    other.extensions["rcache"].close()


def test_check__a_server_that_keeps_nothing_over_a_restart(shop: Shop, private_server: Callable[..., Server]) -> None:
    """Writes that wait are lost with it; with an append-only file, also the strictest, there is nothing to say."""

    def persistence() -> list[tuple[str, str]]:
        checks = shop.told("check")["checks"]
        return [(each["state"], each["message"]) for each in checks if each["name"] == "persistence"]

    (finding,) = persistence()
    assert finding[0] == "warn"
    assert "writes behind that are not applied are lost" in finding[1]
    client = shop.flask.extensions["rcache.events"].client
    client.config_set("appendonly", "yes")
    client.config_set("appendfsync", "always")
    assert [state for state, _ in persistence()] == ["ok"]


def test_check__a_server_that_evicts_queues(private_server: Callable[..., Server]) -> None:
    """`allkeys-*` with a writer: every write behind is refused, so it fails."""
    made = Shop(private_server(maxmemory="50mb", maxmemory_policy="allkeys-lru").url)
    with made.flask.app_context():
        (queue, *_) = made.findings(code=1)
        assert queue[:2] == ("queues", "fail")
        assert "may evict a queue of writes (maxmemory-policy allkeys-lru): every write behind is refused." in queue[2]
        current_cache.close()
