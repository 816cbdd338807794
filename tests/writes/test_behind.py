"""Write-behind: the queue, its consumer, and what each promises."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from flask_rcache import (
    MISSING,
    ConfigError,
    EncodeError,
    PartialFailure,
    RCache,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    Write,
    current_cache,
)
from flask_rcache.writes import Consumer
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.proxy import Proxy
from tests.writes.plant import THING, Plant, behind, check, producer


class Shop:
    """An app with a writer that notes what it is given, and a consumer of its queue."""

    def __init__(self, url: str, **config: Any) -> None:
        self.flask = Flask("shop")
        self.flask.config.update(RCACHE_URL=url, RCACHE_TIMEOUT=2.0, **config)
        self.rcache = RCache(self.flask, types=[THING])
        self.calls: list[list[Write]] = []
        self.fail: Callable[[list[Write]], None] = lambda _: None
        self.rcache.writer("orders", batch=10)(self.apply)

    def apply(self, writes: list[Write]) -> None:
        self.calls.append(writes)
        self.fail(writes)

    @property
    def applied(self) -> list[Any]:
        return [(write.key, write.value) for call in self.calls for write in call]

    def consumer(self) -> Consumer:
        engine = self.flask.extensions["rcache"].engine
        attempts = engine.settings.write_attempts
        writers = list(engine.writes.writers.values())
        return Consumer(self.flask, writers, engine.store.queues, codec=engine.fetching.codec, attempts=attempts)

    def drain(self) -> None:
        self.consumer().run(once=True)

    def state(self) -> Any:
        (queues,) = self.flask.extensions["rcache"].engine.store.queues
        return queues.queue_state("orders")


@pytest.fixture
def shop(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """On each server; failed writes are tried again at once."""
    monkeypatch.setattr("flask_rcache.writes.consumer._FIRST_PAUSE", 0.0)
    made = Shop(server.url, RCACHE_WRITE_ATTEMPTS=3)
    with made.flask.app_context():
        current_cache.fresh()
        yield made
        current_cache.close()


def test_behind__is_cached_at_once_and_written_later(shop: Shop) -> None:
    """Keys and values come to the writer as they were given."""
    first, second = behind(("a", 1), {"n": (1, 2)}), behind(("a", 1), {"n": 3})
    assert current_cache.get(THING, ("a", 1)) == {"n": 3}
    assert first < second
    assert shop.state().length == 2
    shop.drain()
    assert shop.calls == [
        [Write(first, "thing", ("a", 1), {"n": (1, 2)}, 1), Write(second, "thing", ("a", 1), {"n": 3}, 1)]
    ]
    assert (shop.state().length, shop.state().dead) == (0, 0)
    assert current_cache.get(THING, ("a", 1)) == {"n": 3}


def test_behind__is_not_sent_again(redis_server: Server) -> None:
    """A connection that is closed in place of the answer: the caller hears that, and the write is queued once."""
    with Proxy(redis_server.port) as line:
        made = Shop(line.url)
        with made.flask.app_context():
            behind(1, "first")
            line.unanswered = b"in place of an answer"
            with pytest.raises(StoreUnavailableError):
                behind(2, "in place of an answer")
            line.unanswered = b""
            wait_until(lambda: current_cache.is_available, timeout=30, what="it is asked again")
            assert made.state().length == 2
            made.drain()
            assert [value for _, value in made.applied] == ["first", "in place of an answer"]
            current_cache.close()


def test_behind__nothing_is_filled_while_it_is_pending(shop: Shop) -> None:
    """What is read of the source meanwhile is older than the write, and is not stored; `set` is refused too."""
    behind(1, "new")
    current_cache.delete(THING, 1)
    current_cache.fresh()
    for _ in range(2):
        assert current_cache.fetch(THING, 1, lambda: "old") == "old"
        assert current_cache.get(THING, 1, MISSING) is MISSING
    assert not current_cache.set(THING, 1, "old")
    shop.drain()
    current_cache.fresh()
    assert current_cache.fetch(THING, 1, lambda: "new") == "new"
    assert current_cache.get(THING, 1) == "new"


def test_behind__load_under_way_is_not_stored(shop: Shop) -> None:
    """It may have read the source before the write."""

    def load() -> str:
        behind(1, "new")
        shop.drain()
        return "old"

    with shop.flask.app_context():
        assert current_cache.fetch(THING, 1, load) == "old"
    assert current_cache.get(THING, 1) == "new"


def test_behind__a_hundred_writes_in_order_in_batches(shop: Shop) -> None:
    """Each key's in their order, at most ten at a time."""
    ids = current_cache.write_behind_many(THING, [(n % 7, n) for n in range(100)], queue="orders")
    assert len(set(ids)) == 100
    shop.drain()
    assert all(len(call) <= 10 for call in shop.calls)
    by_key: dict[int, list[int]] = {}
    for key, value in shop.applied:
        by_key.setdefault(key, []).append(value)
    assert by_key == {key: list(range(key, 100, 7)) for key in range(7)}
    assert current_cache.get(THING, 3) == 94


def test_behind__failed_write_is_tried_again_and_holds_up_nothing_but_its_key(shop: Shop) -> None:
    """A partial failure names it; later writes of the key wait for it, others go on."""

    def fail_once(writes: list[Write]) -> None:
        errors = {write.id: ValueError("no") for write in writes if write.value == "a1" and write.attempt == 1}
        if errors:
            raise PartialFailure(errors)

    shop.fail = fail_once
    current_cache.write_behind_many(THING, [("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2")], queue="orders")
    shop.drain()
    assert shop.state().length == 0
    of_a = [value for key, value in shop.applied if key == "a"]
    assert of_a[-2:] == ["a1", "a2"]
    assert [value for key, value in shop.applied if key == "b"] == ["b1", "b2"]


def test_behind__poisoned_write_ends_in_the_dead_letters(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the writer raises; what was cached of it goes, and later writes of its key are applied."""

    def fail(writes: list[Write]) -> None:
        if any(write.value == "poison" for write in writes):
            raise RuntimeError("poisoned")

    shop.fail = fail
    behind("a", "poison")
    behind("b", "fine")
    behind("c", "poison")
    behind("c", "later")
    shop.drain()
    shop.drain()
    assert (shop.state().length, shop.state().dead) == (0, 2)
    assert current_cache.get(THING, "a", MISSING) is MISSING
    assert (current_cache.get(THING, "b"), current_cache.get(THING, "c")) == ("fine", "later")
    assert ("b", "fine") in shop.applied
    assert shop.applied[-1] == ("c", "later")
    assert "is given up after 3 tries: RuntimeError: poisoned" in caplog.text


def test_command__lists_retries_and_drops_dead_letters(shop: Shop) -> None:
    """A write that comes back keeps its id, so that the source can tell that it is old."""
    shop.fail = lambda _: 1 // 0  # type: ignore[assignment]
    id = behind("a", 1)
    behind("b", 2)
    shop.drain()
    shop.drain()
    runner = shop.flask.test_cli_runner()
    listed = json.loads(runner.invoke(args=["cache", "writer", "--dead", "--json"]).stdout)["dead_letters"]
    assert [(each["queue"], each["type"], each["key"], each["attempts"]) for each in listed] == [
        ("orders", "thing", "'a'", 3),
        ("orders", "thing", "'b'", 3),
    ]
    assert listed[0]["write"] == id
    assert "ZeroDivisionError" in listed[0]["error"]
    result = runner.invoke(args=["cache", "writer", "--retry", listed[0]["id"], "--drop", listed[1]["id"]])
    assert result.output == "Dead letters: 1 retried, 1 dropped.\n"
    assert runner.invoke(args=["cache", "writer", "--drop", "1-1"]).exit_code == 1
    shop.fail = lambda _: None
    shop.calls.clear()
    result = runner.invoke(args=["cache", "writer", "--once"])
    assert "1 writes applied, 0 tries failed, 0 given up, 0 wait." in result.output
    assert [(write.id, write.key) for call in shop.calls for write in call] == [(id, "a")]


def test_command__deals_with_all_dead_letters(shop: Shop, server: Server) -> None:
    """However many there are."""
    client: Any = server.client()
    fields = {
        "id": "1-1",
        "error": "e",
        "attempts": "5",
        "entry": "cache:thing:a",
        "type": "thing",
        "key": "x",
        "value": "y",
    }
    behind("a", 1)
    shop.drain()
    for _ in range(250):
        client.xadd("cache~dead:orders", fields)
    runner = shop.flask.test_cli_runner()
    assert runner.invoke(args=["cache", "writer", "--retry", "all"]).output == "Dead letters: 250 retried, 0 dropped.\n"
    for _ in range(250):
        client.xadd("cache~dead:orders", fields)
    assert runner.invoke(args=["cache", "writer", "--drop", "all"]).output == "Dead letters: 0 retried, 250 dropped.\n"
    assert client.xlen("cache~dead:orders") == 0


def test_consumer__only_one_has_a_queue(shop: Shop) -> None:
    """Another stands by, and begins with what the first had taken when that one is gone."""
    first, second = shop.consumer(), shop.consumer()
    behind("a", 1)
    assert first._parts[0].take()
    assert not second._parts[0].take()
    assert not second._parts[0].is_ours
    first._parts[0].leave()
    assert second._parts[0].take()
    assert second._parts[0].apply()
    assert shop.applied == [("a", 1)]
    assert shop.state().length == 0


def test_consumer__that_was_away_too_long_ends_nothing(shop: Shop) -> None:
    """Its writes were claimed: its late end of them is refused."""
    first, second = shop.consumer(), shop.consumer()
    behind("a", 1)
    assert first._parts[0].take()
    (queues,) = shop.flask.extensions["rcache"].engine.store.queues
    queues.leave("orders", first._parts[0]._token)
    assert second._parts[0].take()
    assert first._parts[0].apply()
    assert not first._parts[0].is_ours
    assert shop.state().length == 1
    assert second._parts[0].apply()
    assert shop.state().length == 0


def test_consumer__writer_that_does_not_return_is_mentioned(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with what ends it; its consumer keeps the queue meanwhile, and goes on when it has returned."""
    monkeypatch.setattr("flask_rcache.writes.consumer._LONG", 0.0)
    go_on = threading.Event()

    def hang(_: list[Write]) -> None:
        go_on.wait(60)

    shop.fail = hang
    behind("a", 1)
    consumer = threading.Thread(target=shop.drain)
    consumer.start()
    wait_until(lambda: "'orders' was called" in caplog.text, timeout=30, what="the writer is mentioned")
    other = shop.consumer()
    assert not other._parts[0].take()
    go_on.set()
    consumer.join(30)
    assert shop.state().length == 0
    assert caplog.text.count("has not returned") == 1


def test_behind__full_queue_refuses_before_anything_is_cached(server: Server) -> None:
    """With the remedy."""
    shop = Shop(server.url, RCACHE_WRITE_LIMIT=2)
    with shop.flask.app_context():
        current_cache.fresh()
        behind("a", 1)
        behind("b", 1)
        with pytest.raises(StoreFullError, match=r"RCACHE_WRITE_LIMIT is 2: run `flask cache writer`"):
            behind("c", 1)
        assert current_cache.get(THING, "c", MISSING) is MISSING
        current_cache.close()


def test_behind__server_that_may_evict_the_queue_is_refused(private_server: Callable[..., Server]) -> None:
    """`allkeys-*` would lose writes that nobody has applied."""
    server = private_server(maxmemory="50mb", maxmemory_policy="allkeys-lru")
    shop = Shop(server.url)
    with shop.flask.app_context(), pytest.raises(StoreFullError, match="may evict a queue of writes"):
        behind("a", 1)
    shop.flask.extensions["rcache"].close()


def test_behind__no_redis_is_an_error_and_nothing_is_cached(private_server: Callable[..., Server]) -> None:
    """The caller must know: nobody would write it."""
    server = private_server()
    shop = Shop(server.url)
    with shop.flask.app_context():
        current_cache.fresh()
        server.stop()
        with pytest.raises(StoreError):
            behind("a", 1)
        current_cache.close()


def test_behind__without_a_writer_is_an_error() -> None:
    """It names those there are."""
    app = Flask("shop")
    rcache = RCache(app)
    rcache.writer("orders")(lambda _: None)
    with (
        app.app_context(),
        pytest.raises(ConfigError, match=r"no writer is registered for queue 'mail'; known: orders"),
    ):
        current_cache.write_behind("product", 1, 1, queue="mail")


def test_behind__value_that_cannot_be_restored_is_an_error(shop: Shop) -> None:
    """It could not be written later."""
    with pytest.raises(EncodeError):
        behind("a", object())
    assert shop.state().length == 0


def test_behind__value_that_is_too_large_is_an_error(server: Server) -> None:
    """With the setting's name, before anything is queued or cached."""
    made = Shop(server.url, RCACHE_MAX_BYTES=2000)
    with made.flask.app_context():
        current_cache.fresh()
        with pytest.raises(EncodeError, match=r"more than RCACHE_MAX_BYTES = 2000"):
            behind("a", "x" * 3000)
        assert made.state().length == 0
        assert current_cache.get(THING, "a", MISSING) is MISSING
        current_cache.close()


@pytest.mark.parametrize(
    ("url", "args", "message"),
    [
        ("redis", ["nobody"], "no writer is registered for queue 'nobody'; known: orders"),
        ("memory", [], "On memory:// writes are applied at once: there is no queue. Set RCACHE_URL."),
    ],
)
def test_command__mistakes_are_named(redis_server: Server, url: str, args: list[str], message: str) -> None:
    """Before it begins to wait for writes."""
    made = Shop(redis_server.url if url == "redis" else "memory://")
    result = made.flask.test_cli_runner().invoke(args=["cache", "writer", *args, "--once"])
    assert (result.exit_code, message in result.output) == (2, True), result.output
    made.flask.extensions["rcache"].close()


def test_command__without_any_writer_is_an_error(redis_server: Server) -> None:
    """It says how to register one."""
    app = Flask("shop")
    app.config["RCACHE_URL"] = redis_server.url
    RCache(app)
    result = app.test_cli_runner().invoke(args=["cache", "writer"])
    assert (result.exit_code, "decorate one with @rcache.writer()" in result.output) == (2, True), result.output
    app.extensions["rcache"].close()


def test_command__names_a_server_that_may_evict_the_queue(private_server: Callable[..., Server]) -> None:
    """At its start, and not only when a write is refused."""
    made = Shop(private_server(maxmemory="50mb", maxmemory_policy="allkeys-lru").url)
    result = made.flask.test_cli_runner().invoke(args=["cache", "writer", "--once"])
    assert "may evict a queue of writes (maxmemory-policy allkeys-lru)" in result.output
    made.flask.extensions["rcache"].close()


def test_behind__on_memory_is_written_at_once() -> None:
    """There is nobody who could later; what the writer raises is the caller's."""
    shop = Shop("memory://")
    with shop.flask.app_context():
        current_cache.fresh()
        behind("a", 1)
        assert shop.applied == [("a", 1)]
        assert current_cache.get(THING, "a") == 1
        shop.fail = lambda _: 1 // 0  # type: ignore[assignment]
        with pytest.raises(ZeroDivisionError):
            behind("a", 2)
        assert current_cache.get(THING, "a", MISSING) is MISSING


@pytest.mark.parametrize(
    ("options", "function", "message"),
    [
        ({"queue": "a b"}, print, "a queue's name must match"),
        ({"queue": "q", "batch": 0}, print, "batch of writer 'q' must be from 1 to 10000"),
        ({"queue": "q"}, 3, "must be a plain function"),
    ],
)
def test_writer__mistakes_are_named(options: dict[str, Any], function: Any, message: str) -> None:
    """Where it is registered."""
    with pytest.raises(ConfigError, match=message):
        RCache().writer(**options)(function)


def test_writer__two_for_one_queue_are_an_error() -> None:
    """Which one is meant is unclear."""
    rcache = RCache()
    rcache.writer()(lambda _: None)
    with pytest.raises(ConfigError, match="has a writer already"):
        rcache.writer()(lambda _: None)


# Processes that die


@pytest.mark.chaos
def test_consumers__killed_at_random_lose_nothing(redis_server: Server, plant: Callable[..., Plant]) -> None:
    """600 writes on 40 keys; consumers are killed all the time, two at a time are there."""
    site = plant(redis_server.url, WRITES_PAUSE="0.05")
    draw = random.Random(7)
    last: dict[str, str] = {}
    with producer(redis_server.url).app_context():
        current_cache.fresh()
        consumers = [site.consumer(), site.consumer()]
        for number in range(600):
            key = draw.randrange(40)
            behind(key, f"v{number}")
            last[str(key)] = f"v{number}"
            assert current_cache.get(THING, key) == f"v{number}"
            if number in (150, 300, 450):
                victim = consumers.pop(0)
                victim.send_signal(signal.SIGKILL)
                victim.wait()
                consumers.append(site.consumer())
        (queues,) = current_cache.engine.store.queues
        wait_until(lambda: queues.queue_state("orders").length == 0, timeout=90, what="an empty queue")
        assert queues.queue_state("orders").dead == 0
        check(site, last, 600)
        current_cache.close()


@pytest.mark.chaos
def test_consumers__and_redis_restarts_with_its_log(
    private_server: Callable[..., Server], plant: Callable[..., Plant]
) -> None:
    """With AOF and `appendfsync always` what was accepted is there after a restart."""
    server = private_server(appendonly="yes", appendfsync="always")
    site = plant(server.url)
    last: dict[str, str] = {}
    with producer(server.url).app_context():
        current_cache.fresh()
        for number in range(200):
            if number == 100:
                server.kill()
                server.restart()
            for _ in range(400):
                try:
                    behind(number % 40, f"v{number}")
                    break
                except StoreError:
                    time.sleep(0.05)
            last[str(number % 40)] = f"v{number}"
        site.consumer()
        (queues,) = current_cache.engine.store.queues
        wait_until(lambda: queues.queue_state("orders").length == 0, timeout=60, what="an empty queue")
        found = dict(site.query("SELECT key, value FROM source"))
        assert found == last
        current_cache.close()


@pytest.mark.slow
def test_consumer__drains_what_it_is_at_when_it_is_told_to_end(
    redis_server: Server, plant: Callable[..., Plant]
) -> None:
    """SIGTERM: the batch is finished, the rest stays; the next one has it at once."""
    site = plant(redis_server.url, WRITES_PAUSE="0.3")
    with producer(redis_server.url).app_context():
        current_cache.fresh()
        current_cache.write_behind_many(THING, [(n, n) for n in range(100)], queue="orders")
        process = site.consumer()
        (queues,) = current_cache.engine.store.queues
        wait_until(lambda: queues.queue_state("orders").length < 100, timeout=30, what="the first batch")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        left = queues.queue_state("orders").length
        assert 0 < left < 100
        assert site.query("SELECT COUNT(*) FROM applied") == [(100 - left,)]
        assert queues.queue_state("orders").consumer == ""
        assert site.consumer("--once").wait(40) == 0
        assert site.query("SELECT COUNT(*), COUNT(DISTINCT id) FROM applied") == [(100, 100)]
        current_cache.close()
