"""Events: handlers, rules, transactions, and the stream to and from other processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Session

from flask_rcache import (
    MISSING,
    CacheType,
    ConfigError,
    RCache,
    StoreUnavailableError,
    UnknownTypeError,
    cache_event,
    current_cache,
)
from flask_rcache.events import Event
from flask_rcache.events.consumer import EventConsumer
from flask_rcache.sql import SQLCache
from tests.processes import ROOT, wait_until
from tests.servers import Server

THING = CacheType("thing", ttl=600, l1_ttl=0)
RULES = {"order.created": {"tags": ["orders", "order:{id}"], "types": ["dashboard"]}}


class Site:
    """An app with events."""

    def __init__(self, url: str = "memory://", **config: Any) -> None:
        self.flask = Flask("shop")
        self.flask.config.update({"RCACHE_URL": url, "RCACHE_TIMEOUT": 2.0, "RCACHE_EVENTS": RULES, **config})
        self.rcache = RCache(self.flask, types=[THING])
        self.seen: list[Any] = []

    @property
    def events(self) -> Any:
        return self.flask.extensions["rcache.events"]


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    with made.flask.app_context():
        current_cache.fresh()
        yield made


def fill(*tags: str) -> None:
    current_cache.fresh()
    assert current_cache.set(THING, "a", 1, tags=tags)


def is_there() -> bool:
    return current_cache.get(THING, "a", MISSING) is not MISSING


# Emitting


@pytest.mark.parametrize(("tag", "stays"), [("orders", False), ("order:42", False), ("order:43", True)])
def test_emit__invalidates_what_the_rules_say(site: Site, tag: str, stays: bool) -> None:
    """Fields of the event stand in braces."""
    fill(tag)
    site.rcache.emit("order.created", id=42)
    assert is_there() is stays


def test_emit__invalidates_types(site: Site) -> None:
    """By their names."""
    current_cache.set("dashboard", "x", 1)
    site.rcache.emit("order.created", id=1)
    assert current_cache.get("dashboard", "x", MISSING) is MISSING


def test_emit__calls_handlers_with_the_fields_that_they_name(site: Site) -> None:
    """Or with the event; in the order of their registration."""
    rcache, seen = site.rcache, site.seen

    @rcache.on("order.created")
    def first(id: int) -> None:
        seen.append(("first", id))

    @rcache.on("order.created")
    def second(event: Event) -> None:
        seen.append(("second", event.name, dict(event.data)))

    @rcache.on("order.created")
    def third(id: int, note: str = "none", **more: Any) -> None:
        seen.append(("third", id, note, more))

    @cache_event.connect_via(site.flask)
    def receive(sender: object, event: Event) -> None:
        seen.append(("signal", event.name))

    rcache.emit("order.created", id=42, total=3)
    assert seen == [
        ("first", 42),
        ("second", "order.created", {"id": 42, "total": 3}),
        ("third", 42, "none", {"total": 3}),
        ("signal", "order.created"),
    ]
    rcache.emit("order.deleted", id=42)
    assert seen[4:] == [("signal", "order.deleted")]


def test_emit__handler_that_fails_keeps_no_other_from_its_work(site: Site) -> None:
    """The invalidation comes first; the error is raised at the end."""
    fill("orders")

    @site.rcache.on("order.created")
    def fail(id: int) -> None:
        raise ZeroDivisionError

    site.rcache.on("order.created")(lambda event: site.seen.append(event))
    with pytest.raises(ZeroDivisionError):
        site.rcache.emit("order.created", id=1)
    assert not is_there()
    assert len(site.seen) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rcache: rcache.emit("order.created"), "has no field 'id', which RCACHE_EVENTS names in 'order:{id}'"),
        (lambda rcache: rcache.emit("", id=1), "name is a non-empty string"),
        (lambda rcache: rcache.emit("x", id=object()), "fields of event 'x' must be JSON"),
        (lambda rcache: rcache.on("x")(3), "must be a plain function"),
        (lambda rcache: rcache.on("")(print), "name is a non-empty string"),
        (lambda rcache: rcache.on("x")(lambda a, /: None), "must take its fields by name"),
    ],
)
def test_events__mistakes_are_named(site: Site, call: Any, message: str) -> None:
    """With the remedy."""
    with pytest.raises(ConfigError, match=message):
        call(site.rcache)


def test_emit__without_a_field_that_a_handler_needs_is_an_error(site: Site) -> None:
    """It names the handler."""

    @site.rcache.on("paid")
    def paid(id: int) -> None: ...

    with pytest.raises(ConfigError, match=r"event 'paid' has no field 'id', which its handler .*paid needs"):
        site.rcache.emit("paid", order=1)


@pytest.mark.parametrize(
    "rules",
    [
        {"x": ["tags"]},
        {"x": {"tag": ["a"]}},
        {"x": {"tags": "a"}},
        {"x": {"tags": ["{0}"]}},
        {"x": {"tags": ["{a!r}"]}},
        {"x": {"tags": ["{"]}},
        {"": {"tags": ["a"]}},
        3,
    ],
)
def test_rules__mistakes_are_errors_at_start(rules: Any) -> None:
    """Not when the first event comes."""
    with pytest.raises(ConfigError, match="RCACHE_EVENTS"):
        Site(RCACHE_EVENTS=rules)


def test_rules__from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON."""
    monkeypatch.setenv("RCACHE_EVENTS", json.dumps(RULES))
    app = Flask("shop")
    rcache = RCache(app)
    with app.app_context(), pytest.raises(ConfigError, match="has no field 'id'"):
        rcache.emit("order.created")


def test_rules__unknown_type_is_named(site: Site) -> None:
    """When the consumer begins, before the first event."""
    with pytest.raises(UnknownTypeError):
        Site(RCACHE_EVENTS={"x": {"types": ["nobody"]}}).events.check_types()


def test_stream__without_redis_is_an_error() -> None:
    """At start."""
    with pytest.raises(ConfigError, match="set RCACHE_URL"):
        Site(RCACHE_EVENTS_STREAM="events")


# Transactions


@pytest.fixture
def engine(site: Site, tmp_path: Path) -> Iterator[sa.Engine]:
    made = sa.create_engine(f"sqlite:///{tmp_path / 'db'}")
    with made.begin() as connection:
        connection.execute(sa.text("CREATE TABLE item (id INTEGER PRIMARY KEY)"))
    sql = SQLCache(made)
    sql.init_app(site.flask)
    site.rcache.on("noted")(lambda event: site.seen.append(event.data["n"]))
    yield made
    made.dispose()


INSERT = sa.text("INSERT INTO item DEFAULT VALUES")


def test_transaction__event_goes_out_after_its_commit(site: Site, engine: sa.Engine) -> None:
    """And not at all after a rollback; without a write at once."""
    with engine.begin() as connection:
        site.rcache.emit("noted", n=0)
        assert site.seen == [0]
        connection.execute(INSERT)
        site.rcache.emit("noted", n=1)
        assert site.seen == [0]
    assert site.seen == [0, 1]
    with engine.connect() as connection:
        connection.execute(INSERT)
        site.rcache.emit("noted", n=2)
        connection.rollback()
        site.rcache.emit("noted", n=3)
    assert site.seen == [0, 1, 3]


def test_transaction__of_a_session(site: Site, engine: sa.Engine) -> None:
    """The handler may use the session."""
    with Session(engine) as session:
        site.rcache.on("counted")(
            lambda event: site.seen.append(session.execute(sa.text("SELECT count(*) FROM item")).scalar())
        )
        session.execute(INSERT)
        site.rcache.emit("counted")
        assert site.seen == []
        session.commit()
        assert site.seen == [1]
        session.execute(INSERT)
        site.rcache.emit("counted")
        session.rollback()
    assert site.seen == [1]


def test_transaction__savepoint_that_is_rolled_back_takes_its_events_along(site: Site, engine: sa.Engine) -> None:
    """Those of before and after it go out."""
    with Session(engine) as session:
        session.execute(INSERT)
        site.rcache.emit("noted", n=1)
        savepoint = session.begin_nested()
        session.execute(INSERT)
        site.rcache.emit("noted", n=2)
        savepoint.rollback()
        with session.begin_nested():
            session.execute(INSERT)
            site.rcache.emit("noted", n=3)
        session.commit()
    assert site.seen == [1, 3]


# The stream


@pytest.fixture
def streamed(redis_server: Server) -> Iterator[Site]:
    made = Site(redis_server.url, RCACHE_EVENTS_STREAM="shop:events", RCACHE_EVENTS_GROUP="shop")
    with made.flask.app_context():
        current_cache.fresh()
        yield made
        current_cache.close()


def consume(site: Site) -> EventConsumer:
    consumer = EventConsumer(site.flask, site.events)
    consumer.run(once=True)
    return consumer


def test_stream__has_what_is_emitted(streamed: Site, redis_server: Server) -> None:
    """Other services read it; the app's own consumer does not handle it a second time."""
    streamed.rcache.on("order.created")(lambda event: streamed.seen.append(event))
    streamed.rcache.emit("order.created", id=42)
    client: Any = redis_server.client(decode_responses=True)
    ((_, fields),) = client.xrange("shop:events")
    assert (fields["name"], json.loads(fields["data"])) == ("order.created", {"id": 42})
    assert consume(streamed).progress.skipped == 1
    assert len(streamed.seen) == 1


def test_stream__event_of_another_service_invalidates(streamed: Site, redis_server: Server) -> None:
    """Two fields are enough; what is not usable is skipped and said."""
    fill("order:7")
    client: Any = redis_server.client()
    client.xadd("shop:events", {"name": "order.created", "data": '{"id": 7}'})
    for fields in ({"name": "order.created", "data": "no json"}, {"name": "order.created", "data": "[1]"}, {"x": "y"}):
        client.xadd("shop:events", fields)
    client.xadd("shop:events", {"name": "order.created", "data": "{}"})
    progress = consume(streamed).progress
    assert (progress.handled, progress.skipped, progress.given_up) == (1, 1, 3)
    assert not is_there()
    assert client.xpending("shop:events", "shop")["pending"] == 0


def test_stream__event_that_fails_is_tried_again(
    streamed: Site, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is given up; others go on."""
    monkeypatch.setattr("flask_rcache.events.consumer._CLAIM_MS", 0)

    @streamed.rcache.on("paid")
    def paid(id: int) -> None:
        streamed.seen.append(id)
        if id == 1 and streamed.seen.count(1) < 3:
            raise ValueError("not yet")
        if id == 2:
            raise ValueError("never")

    client: Any = redis_server.client()
    for id in (1, 2, 3):
        client.xadd("shop:events", {"name": "paid", "data": json.dumps({"id": id})})
    consumers = [consume(streamed) for _ in range(8)]
    assert streamed.seen.count(1) == 3
    assert streamed.seen.count(2) == 5
    assert streamed.seen.count(3) == 1
    assert sum(each.progress.given_up for each in consumers) == 1
    assert client.xpending("shop:events", "shop")["pending"] == 0


def test_stream__event_whose_handler_takes_long_is_handled_once(
    streamed: Site, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its consumer lives: no other one claims it, nor what waits behind it in the stream is held up."""
    monkeypatch.setattr("flask_rcache.events.consumer._CLAIM_MS", 300)
    monkeypatch.setattr("flask_rcache.events.consumer._KEEPING", 0.05)
    begun, go_on = threading.Event(), threading.Event()

    @streamed.rcache.on("paid")
    def paid(id: int) -> None:
        streamed.seen.append(id)
        if id == 1:
            begun.set()
            assert go_on.wait(30)

    client: Any = redis_server.client()
    for id in (1, 2, 3):
        client.xadd("shop:events", {"name": "paid", "data": json.dumps({"id": id})})
    slow = threading.Thread(target=consume, args=(streamed,))
    slow.start()
    assert begun.wait(30)
    time.sleep(0.5)  # longer than until others claim what nobody keeps
    assert consume(streamed).progress.handled == 2
    go_on.set()
    slow.join(30)
    assert sorted(streamed.seen) == [1, 2, 3]
    assert client.xpending("shop:events", "shop")["pending"] == 0


def test_stream__end_that_cannot_be_recorded_is_recorded_later(
    streamed: Site, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes away after an event was handled: the same consumer does not handle it again."""
    monkeypatch.setattr("flask_rcache.events.consumer._CLAIM_MS", 0)
    client: Any = redis_server.client()

    @streamed.rcache.on("paid")
    def paid(id: int) -> None:
        streamed.seen.append(id)
        if len(streamed.seen) == 1:
            client.acl_setuser("default", enabled=True, commands=["-xack"])
            threading.Timer(1.0, client.acl_setuser, ("default",), {"enabled": True, "commands": ["+xack"]}).start()

    for id in (1, 2):
        client.xadd("shop:events", {"name": "paid", "data": json.dumps({"id": id})})
    consumer = EventConsumer(streamed.flask, streamed.events)
    running = threading.Thread(target=consumer.run)
    running.start()
    try:
        wait_until(lambda: len(streamed.seen) > 1, timeout=30, what="the second event")
        wait_until(lambda: client.xpending("shop:events", "shop")["pending"] == 0, timeout=30, what="their ends")
    finally:
        client.acl_setuser("default", enabled=True, commands=["+xack"])
        consumer.stop()
        running.join(30)
    assert streamed.seen == [1, 2]


def test_stream__away_is_an_error_after_the_event_was_handled(private_server: Callable[..., Server]) -> None:
    """The emitter must know that others were not told."""
    server = private_server()
    site = Site(server.url, RCACHE_EVENTS_STREAM="events", RCACHE_TIMEOUT=0.25)
    site.rcache.on("noted")(lambda event: site.seen.append(event))
    with site.flask.app_context():
        server.stop()
        with pytest.raises(StoreUnavailableError, match="was not sent to stream 'events'"):
            site.rcache.emit("noted")
        assert len(site.seen) == 1
        current_cache.close()


def test_command__without_a_stream_says_so(site: Site) -> None:
    """With the setting."""
    result = site.flask.test_cli_runner().invoke(args=["cache", "events"])
    assert result.exit_code == 2
    assert "RCACHE_EVENTS_STREAM" in result.output


def create_app() -> Flask:
    """For consumers in processes of their own: each event that is handled is a line in a file."""
    app = Flask("shop")
    app.config.update(RCACHE_EVENTS=RULES, RCACHE_EVENTS_STREAM="shop:events", RCACHE_EVENTS_GROUP="shop")
    rcache = RCache(app, types=[THING])

    @rcache.on("order.created")
    def created(id: int) -> None:
        with Path(os.environ["EVENTS_LOG"]).open("a") as file:
            file.write(f"{id} {os.getpid()}\n")

    return app


@pytest.mark.chaos
def test_consumers__handle_a_thousand_events_of_another_process(redis_server: Server, tmp_path: Path) -> None:
    """Each once; what a consumer that is killed had taken, another one handles."""
    log = tmp_path / "events"
    log.touch()
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RCACHE_URL": redis_server.url,
        "RCACHE_TIMEOUT": "2",
        "EVENTS_LOG": str(log),
        "FLASK_APP": "tests.test_app_events:create_app()",
    }
    command = [sys.executable, "-m", "flask", "cache", "events"]
    running = [subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) for _ in range(2)]
    site = Site(redis_server.url)
    client: Any = redis_server.client()
    try:
        with site.flask.app_context():
            current_cache.fresh()
            for id in range(1000):
                assert current_cache.set(THING, id, id, tags=[f"order:{id}"])
            client.xgroup_create("shop:events", "shop", id="0", mkstream=True)

            def emit() -> None:
                for id in range(1000):
                    client.xadd("shop:events", {"name": "order.created", "data": json.dumps({"id": id})})

            thread = threading.Thread(target=emit)
            thread.start()
            wait_until(lambda: log.stat().st_size > 500, timeout=30, what="the first events")
            running[0].send_signal(signal.SIGKILL)
            running[0].wait()
            running.append(subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL))
            thread.join(60)
            wait_until(
                lambda: len({line.split()[0] for line in log.read_text().splitlines()}) == 1000,
                timeout=60,
                what="all events",
            )
            wait_until(lambda: client.xpending("shop:events", "shop")["pending"] == 0, timeout=20, what="their ends")

            def have_begun() -> bool:  # so that they obey a signal
                names = b" ".join(each["name"] for each in client.xinfo_consumers("shop:events", "shop")).decode()
                return all(f":{process.pid}:" in names for process in running[1:])

            wait_until(have_begun, timeout=60, what="the third")
            lines = [line.split()[0] for line in log.read_text().splitlines()]
            assert len(lines) <= 1000 + 1  # the one that was being handled may come again
            assert not current_cache.get_many(THING, range(1000))
        for process in running[1:]:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    finally:
        for process in running:
            process.kill()
            process.wait()
        time.sleep(0)


def test_emit__by_what_handles_it_is_refused(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """An event that leads to itself, over others or with growing fields, has no end; one that ends is let through."""
    rcache = site.rcache

    @rcache.on("parent.changed")
    def parent(level: int) -> None:
        site.seen.append(level)
        if level:
            rcache.emit("parent.changed", level=level - 1)

    rcache.on("ping")(lambda: rcache.emit("pong"))
    rcache.on("pong")(lambda: rcache.emit("ping"))
    rcache.on("more")(lambda number: rcache.emit("more", number=number + 1))
    rcache.emit("parent.changed", level=3)
    assert site.seen == [3, 2, 1, 0]
    with pytest.raises(ConfigError, match=r"'ping' is emitted again .*with the same fields \(ping → pong → ping\)"):
        rcache.emit("ping")
    with pytest.raises(ConfigError, match=r"'more' is emitted again .*32 times, each inside the one before"):
        rcache.emit("more", number=0)
    assert not caplog.records
    rcache.emit("parent.changed", level=0)
