"""The bus: what it passes on, when it is known to be alive, and what it costs an idle process."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import ormsgpack
import pytest
from flask import Flask

from flask_rcache import CacheType, RCache, cache_response
from flask_rcache.errors import StoreUnavailableError
from flask_rcache.stores.redis.bus import Bus, Message
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.proxy import Proxy
from tests.stores.transport import Transport

CHANNEL = "cache~bus"
PATIENCE = 10.0


class Recorder:
    """A listener that writes down what it is called with."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.distrusted = 0

    def apply(self, message: Message) -> None:
        self.messages.append(message)

    def distrust(self) -> None:
        self.distrusted += 1


class Heard:
    """A bus with its pool and a listener."""

    def __init__(self, url: str, **options: Any) -> None:
        self.transport = Transport(url, **{"timeout": 1.0, **options})
        self.listener = Recorder()
        self.bus = Bus(self.transport.pool, CHANNEL, self.listener)

    def is_alive(self) -> bool:
        self.bus.ensure()
        return self.bus.alive(time.monotonic_ns())

    def wait(self) -> None:
        wait_until(self.is_alive, timeout=PATIENCE, what="the bus is alive")


@pytest.fixture
def buses() -> Iterator[Callable[..., Heard]]:
    """Makes buses, `buses(url)`, and stops them."""
    made: list[Heard] = []

    def make(url: str, **options: Any) -> Heard:
        made.append(Heard(url, **options))
        return made[-1]

    yield make
    for each in made:
        each.bus.stop(timeout=5)
        each.transport.pool.close()


@pytest.fixture
def proxy(redis_server: Server) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as proxy:
        yield proxy


def payload(*parts: object) -> bytes:
    return ormsgpack.packb(list(parts))


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (payload("t", "5", "7", "6", ["c:search", "t:x"]), Message("t", 5, 7, 6, ("c:search", "t:x"))),
        (payload("*", "5", "7", "6", []), Message("*", 5, 7, 6, ())),
        (payload("k", "0", "0", "0", ["cache:a:b"]), Message("k", 0, 0, 0, ("cache:a:b",))),
        (payload("p", "5", "9007199254740993", "6", ["*"]), Message("p", 5, 9007199254740993, 6, ("*",))),
        (payload("x", "5", "7", "6", []), None),
        (payload("t*", "5", "7", "6", []), None),
        (payload("", "5", "7", "6", []), None),
        (payload("t", 5, "7", "6", []), None),
        (payload("t", "5", "7.0", "6", []), None),
        (payload("t", "5", "-7", "6", []), None),
        (payload("t", "5", "7", "1e300", []), None),
        (payload("t", "5", "7", "9" * 20, []), None),
        (payload("t", "5", "٧", "6", []), None),
        (payload("t", "5", "7", "6", "c:search"), None),
        (payload("t", "5", "7", "6", [b"c:search"]), None),
        (payload("t", "5", "7", "6", [None]), None),
        (payload("t", "5", "7", "6"), None),
        (payload("t", "7", ["c:search"]), None),
        (payload("t", "5", "7", "6", [], []), None),
        (ormsgpack.packb({"t": 1}), None),
        (b"\xc1", None),
        (b"", None),
        (payload("t", "5", "7", "6", ["c:search"])[:-1], None),
        (b"\x95\xa1t\xa15\xa17\xa16\x91\xa1\xff", None),
    ],
)
def test_message__parsed_as_a_whole(sent: bytes, message: Message | None) -> None:
    """What is not exactly one of ours is none; a stamp that a double could not hold arrives as it is."""
    assert Message.parse(sent) == message


def test_message__what_a_script_sends(server: Server, buses: Callable[..., Heard]) -> None:
    """The MessagePack of a server's Lua, empty lists included."""
    heard = buses(server.url)
    heard.wait()
    pack = "redis.call('PUBLISH', KEYS[1], cmsgpack.pack({ARGV[1], ARGV[2], ARGV[3], ARGV[4], cjson.decode(ARGV[5])}))"
    for kind, names in (("t", '["c:search", "t:ü"]'), ("*", "[]")):
        server.client().eval(pack, 1, CHANNEL, kind, "5", "1700000000000001", "1700000000000000", names)
    wait_until(lambda: len(heard.listener.messages) == 2, timeout=PATIENCE, what="both came in")
    assert heard.listener.messages == [
        Message("t", 5, 1700000000000001, 1700000000000000, ("c:search", "t:ü")),
        Message("*", 5, 1700000000000001, 1700000000000000, ()),
    ]


def test_bus__messages_and_those_it_cannot_read(server: Server, buses: Callable[..., Heard]) -> None:
    """They arrive in order; after one that cannot be read nothing of before is trusted, and then it goes on."""
    heard = buses(server.url)
    assert heard.bus.state == "off"
    heard.wait()
    assert heard.bus.state == "alive"
    distrusted, then = heard.listener.distrusted, time.monotonic_ns()
    assert heard.bus.heard_since(then)
    messages = [payload("t", "5", str(stamp), "6", ["c:search"]) for stamp in range(50)]
    for sent in [*messages, b"garbage", messages[0]]:
        server.client().publish(CHANNEL, sent)
    wait_until(lambda: len(heard.listener.messages) == 51, timeout=PATIENCE, what="they came in")
    assert [message.stamp for message in heard.listener.messages] == [*range(50), 0]
    assert heard.listener.distrusted == distrusted + 1
    heard.wait()
    assert not heard.bus.heard_since(then), "what was read before it may have missed something"
    assert heard.bus.heard_since(time.monotonic_ns())


def test_bus__another_channel(redis_server: Server, buses: Callable[..., Heard]) -> None:
    """Only its own channel is listened to."""
    heard = buses(redis_server.url)
    heard.wait()
    redis_server.client().publish("other~bus", payload("t", "5", "7", "6", []))
    redis_server.client().publish(CHANNEL, payload("t", "5", "8", "6", []))
    wait_until(lambda: bool(heard.listener.messages), timeout=PATIENCE, what="its own came in")
    assert [message.stamp for message in heard.listener.messages] == [8]


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["killed", "half-open", "cut", "another generation"])
def test_bus__a_lost_subscription(proxy: Proxy, redis_server: Server, buses: Callable[..., Heard], how: str) -> None:
    """It is known to be dead before long, what was held is distrusted, and it comes back by itself."""
    heard = buses(proxy.url)
    heard.wait()
    then = time.monotonic_ns()
    distrusted = heard.listener.distrusted
    if how != "another generation":
        proxy.deaf.set()
    if how == "killed":
        assert redis_server.client().client_kill_filter(_type="pubsub") >= 1
    elif how == "cut":
        proxy.cut()
    elif how == "another generation":
        heard.transport.pool.end_generation(StoreUnavailableError("another server"))
        assert not heard.is_alive(), "at once: the messages of that server are not heard"
    wait_until(lambda: not heard.is_alive() or heard.listener.distrusted > distrusted, timeout=15, what="dead")
    wait_until(lambda: heard.listener.distrusted > distrusted, timeout=PATIENCE, what="distrusted")
    proxy.deaf.clear()
    if how == "cut":
        assert heard.bus.state == "down"
        proxy.mend()
    heard.wait()
    assert not heard.bus.heard_since(then)
    redis_server.client().publish(CHANNEL, payload("t", "5", "7", "6", []))
    wait_until(lambda: bool(heard.listener.messages), timeout=PATIENCE, what="heard again")


def test_bus__is_attached_as_every_connection(redis_server: Server, buses: Callable[..., Heard]) -> None:
    """The server of the subscription is compared as any other: one of another run ends the generation."""
    heard = buses(redis_server.url)
    heard.wait()
    assert (heard.transport.attached, heard.transport.pool.generation) == (1, 1)


def test_bus__not_granted(
    private_server: Callable[..., Server], buses: Callable[..., Heard], caplog: pytest.LogCaptureFixture
) -> None:
    """Without SUBSCRIBE there is no memory tier, and one ERROR says what to grant; nothing else is affected."""
    server = private_server()
    server.client().acl_setuser(
        "few", enabled=True, passwords=["+x"], keys=["*"], channels=["*"], commands=["+@all", "-subscribe"]
    )
    with caplog.at_level(logging.INFO):
        heard = buses(f"redis://few:x@127.0.0.1:{server.port}/0")
        heard.bus.ensure()
        wait_until(lambda: "subscribe" in caplog.text.lower(), timeout=PATIENCE, what="it is logged")
    assert [each.levelname for each in caplog.records if "the bus" in each.message] == ["ERROR"]
    assert heard.bus.state == "down"
    assert heard.transport.ask("PING") == b"PONG"


def test_bus__a_listener_that_fails(redis_server: Server, buses: Callable[..., Heard]) -> None:
    """A defect in it ends no thread: what it missed is distrusted, and the next message arrives."""
    heard = buses(redis_server.url)
    heard.wait()
    distrusted, real = heard.listener.distrusted, heard.listener.apply

    def fail(message: Message) -> None:
        heard.listener.apply = real  # type: ignore[method-assign]
        raise LookupError("a defect")

    heard.listener.apply = fail  # type: ignore[method-assign]
    redis_server.client().publish(CHANNEL, payload("t", "5", "7", "6", []))
    wait_until(lambda: heard.listener.distrusted > distrusted, timeout=PATIENCE, what="distrusted")
    heard.wait()
    redis_server.client().publish(CHANNEL, payload("t", "5", "8", "6", []))
    wait_until(lambda: bool(heard.listener.messages), timeout=PATIENCE, what="heard again")


@pytest.mark.parametrize("gone", ["listener", "bus"])
def test_bus__ends_with_its_owner(redis_server: Server, gone: str) -> None:
    """A forgotten cache leaves no thread and no connection behind."""
    others = threading.enumerate()  # of caches that were closed just before
    heard = Heard(redis_server.url)
    heard.wait()
    (thread,) = [each for each in threading.enumerate() if each.name == "flask_rcache-bus" and each not in others]
    kept: Any = heard.bus if gone == "listener" else heard.listener
    ref = weakref.ref(heard.listener if gone == "listener" else heard.bus)
    pool = heard.transport.pool
    del heard
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
    gc.collect()
    assert ref() is None
    assert kept is not None
    pool.close()


@pytest.mark.race
@pytest.mark.usefixtures("no_other_caches")
def test_bus__costs_an_idle_process_next_to_nothing(server: Server, buses: Callable[..., Heard]) -> None:
    """A PING or two a second and next to no CPU, also beside messages: a PONG is no reason for the next PING."""
    heard = buses(server.url)
    heard.wait()
    time.sleep(0.2)
    client = server.client()

    def commands() -> int:
        stats: Any = client.info("commandstats")
        return sum(each["calls"] for name, each in stats.items() if name not in ("cmdstat_info", "cmdstat_publish"))

    before, cpu = commands(), time.process_time()
    for _ in range(40):
        client.publish(CHANNEL, payload("t", "5", "7", "6", []))
        time.sleep(0.05)
    assert 2 <= commands() - before <= 6, "in two seconds"
    assert time.process_time() - cpu < 0.2
    assert len(heard.listener.messages) == 40


@pytest.mark.race
@pytest.mark.usefixtures("no_other_caches")
def test_idle__a_whole_process(server: Server) -> None:
    """PINGs, heartbeat and counters, with what scripts run: fewer than ten commands a second and 2 % of a core."""
    app = Flask("idle")
    app.config.update(RCACHE_URL=server.url, TRUSTED_HOSTS=["localhost"])
    RCache(app)

    @app.get("/")
    @cache_response(CacheType.DASHBOARD)
    def page() -> str:
        return "page"

    for _ in range(3):
        app.test_client().get("/")
    time.sleep(1.5)
    client, seconds = server.client(), 3.0

    def commands() -> int:
        stats: Any = client.info("stats")
        return int(stats["total_commands_processed"])

    before, cpu = commands(), time.process_time()
    time.sleep(seconds)
    cpu = (time.process_time() - cpu) / seconds
    rate = (commands() - before - 1) / seconds
    app.extensions["rcache"].close()
    assert 1 < rate < 10
    assert cpu < 0.02
