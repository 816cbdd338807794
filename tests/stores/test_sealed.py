"""Sealed entries on real servers: nothing of them can be read there, and nothing of others is taken for one."""

from __future__ import annotations

import base64
import itertools
import json
import logging
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask import Flask, render_template_string

from flask_rcache import (
    CacheManager,
    CacheType,
    ConfigError,
    RCache,
    Write,
    cache_response,
    cached,
    current_cache,
)
from flask_rcache.compat.cachelib import RCacheStore
from flask_rcache.config.settings import load_settings
from flask_rcache.extension import store_of
from flask_rcache.signals import cache_miss
from flask_rcache.writes import Consumer
from tests.clusters import Cluster
from tests.processes import ROOT, wait_until
from tests.sentinels import Sentinels
from tests.servers import Server

Caches = Callable[..., CacheManager]
KIND = CacheType("kind", ttl=600, l1_ttl=0)
OLD, NEW = (base64.b64encode(bytes(range(first, first + 32))).decode() for first in (0, 100))
SECRET = "4f1c-secret"


def stored(client: redis.Redis) -> Iterator[tuple[str, bytes]]:
    """Everything that lies in a database, by the name of its key."""
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"stream": client.xrange,
    }
    for key in client.scan_iter():
        kind: Any = client.type(key)
        value: Any = readers[kind](key)
        yield key.decode(), value if isinstance(value, bytes) else repr(value).encode()


def failures(cache: CacheManager) -> int:
    return cache.stats()["by_type"].get("kind", {"sealed_failures": 0})["sealed_failures"]


# What is sealed


@pytest.fixture
def shop(any_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """An app that caches in every way there is, the word SECRET in all of it."""
    monkeypatch.setattr("flask_rcache.writes.consumer._FIRST_PAUSE", 0.0)
    app = Flask("shop")
    app.config.update(
        RCACHE_URL=any_server.url, RCACHE_TIMEOUT=2.0, RCACHE_ENCRYPTION_KEYS=[OLD], RCACHE_WRITE_ATTEMPTS=1
    )
    rcache = RCache(app, types=[KIND])

    @app.get("/page/<name>")
    @cache_response(KIND)
    def page(name: str) -> tuple[str, dict[str, str]]:
        return f"page of {name}, {SECRET}" * 100, {"X-Account": SECRET}

    @app.get("/fragment")
    def fragment() -> str:
        return render_template_string("{% cache 'side', ttl=60 %}{{ secret }}{% endcache %}", secret=SECRET)

    @rcache.writer("orders")
    def refuse(writes: list[Write]) -> None:
        raise ValueError(f"the database quotes {writes[0].value}")

    with app.app_context():
        current_cache.fresh()
        yield app
        current_cache.close()


def test_sealed__nothing_in_redis_can_be_read(shop: Flask, any_server: Server) -> None:
    """Views, values, counters, fragments, queued writes and dead letters: what they hold is nowhere in the database."""

    @cached(KIND)
    def function(number: int) -> dict[str, Any]:
        return {"number": number, "name": SECRET}

    for path in ("/page/a", "/fragment"):
        first, second = (shop.test_client().get(path) for _ in range(2))
        assert first.data == second.data
        assert SECRET.encode() in first.data
    assert second.status_code == 200
    assert shop.test_client().get("/page/a").headers["X-Cache"] == "HIT"
    assert function(1) == function(1)
    assert current_cache.set(KIND, "value", SECRET)
    assert current_cache.fetch(KIND, "fetched", lambda: [SECRET] * 500) == [SECRET] * 500  # compressed first
    assert [current_cache.incr(KIND, "counter", 20) for _ in range(3)] == [20, 40, 60]
    current_cache.write_behind(KIND, ("a", SECRET), {"name": SECRET}, queue="orders")

    def looked_at() -> dict[str, bytes]:
        lies = dict(stored(any_server.client()))
        assert not [key for key, value in lies.items() if SECRET.encode() in value]
        return lies

    pending = looked_at()
    assert {"cache:kind:value", "cache:kind:counter"} <= pending.keys()
    assert sum(value.startswith(b"RCE\x83") for value in pending.values()) >= 7
    assert not [key for key, value in pending.items() if value.startswith(b"RCE\x03")]
    engine = current_cache.engine
    queues, writers = engine.store.queues, list(engine.writes.writers.values())
    Consumer(shop, writers, queues, codec=engine.fetching.codec, attempts=1).run(once=True)
    assert queues[0].queue_state("orders").dead == 1
    looked_at()
    (letter,) = json.loads(shop.test_cli_runner().invoke(args=["cache", "writer", "--dead", "--json"]).stdout)[
        "dead_letters"
    ]
    assert (letter["key"], letter["error"]) == (
        repr(("a", SECRET)),
        f"ValueError: the database quotes {{'name': '{SECRET}'}}",
    )


def test_sealed__listings_show_what_is_there(shop: Flask) -> None:
    """Operators see tags, times and paths of sealed entries, of long heads too."""
    shop.test_client().get("/page/a")
    tags = [f"tag-{number}" * 10 for number in range(50)]
    current_cache.set(KIND, "tagged", 1, tags=tags)
    listed = {entry.key: entry for entry in current_cache.entries()}
    assert set(tags) <= set(listed["cache:kind:tagged"].tags)
    assert [entry.path for entry in listed.values() if entry.path] == ["/page/a"]
    assert len(current_cache.page(limit=10).entries) == 2


@pytest.mark.parametrize("size", [0, 1, 300_000, 3_000_000])
def test_sealed__bodies_of_any_size(shop: Flask, any_server: Server, caches: Caches, size: int) -> None:
    """Large ones, which are sent after the answer, and empty ones: another process reads them whole."""
    body = os.urandom(size)

    @cache_response(KIND)
    def download() -> bytes:
        return body

    shop.add_url_rule("/download", view_func=download)
    client = shop.test_client()
    assert client.get("/download").data == body

    def is_hit() -> bool:
        response = client.get("/download")
        assert response.data == body
        return response.headers["X-Cache"] == "HIT"

    wait_until(is_hit, timeout=10, what="stored after the answer")
    other = caches(any_server.url, encryption_keys=[OLD], max_bytes=8_000_000)
    assert other.set(KIND, "value", body)
    assert other.get(KIND, "value") == body
    assert failures(other) == 0


# Tampering


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "magic": lambda raw: b"RCE\x03" + raw[4:],
    "id of the key": lambda raw: raw[:30] + b"\xff\xff" + raw[32:],
    "random": lambda raw: raw[:40] + bytes([raw[40] ^ 1]) + raw[41:],
    "size of the head": lambda raw: raw[:59] + b"\xff" * 4 + raw[63:],
    "head": lambda raw: raw[:70] + bytes([raw[70] ^ 128]) + raw[71:],
    "body": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    "cut off": lambda raw: raw[:-1],
    "longer": lambda raw: raw + b"x",
    "empty": lambda raw: b"",
    "another's value": lambda raw: b"hello, this is somebody else's value of some length" * 3,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed__is_a_counted_miss(
    redis_server: Server, caches: Caches, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    """Whatever is changed: the value is loaded anew and replaces it; that is counted, and said once."""
    caplog.set_level(logging.WARNING, "flask_rcache")
    client = redis_server.client()
    writer, reader = (caches(redis_server.url, encryption_keys=[OLD]) for _ in range(2))
    for key in ("a", "b"):
        writer.set(KIND, key, "big" * 3000)
        raw = client.get(f"cache:kind:{key}")
        assert isinstance(raw, bytes)
        client.set(f"cache:kind:{key}", CHANGES[change](raw), keepttl=True)
    heard: list[Any] = []
    with cache_miss.connected_to(lambda _, event: heard.append(event.reason)):
        assert reader.get_many(KIND, ["a", "b"]) == {}
        assert reader.fetch(KIND, "a", lambda: "new") == "new"
    assert heard == ["not-authentic"] * 3
    assert failures(reader) == 3
    assert reader.stats()["by_type"]["kind"]["garbage"] == 0
    assert writer.get(KIND, "a") == "new"
    messages = [record.getMessage() for record in caplog.records if "RCACHE_ENCRYPTION_KEYS" in record.getMessage()]
    assert len(messages) == 1
    assert "cache:kind:a" in messages[0]
    assert reader.is_available


def test_moved__between_keys(server: Server, caches: Caches) -> None:
    """The bytes of one key are no entry under another, nor under another prefix."""
    client, cache = server.client(), caches(server.url, encryption_keys=[OLD])
    other_app = caches(server.url, encryption_keys=[OLD], prefix="shop")
    cache.set(KIND, "admin", True)
    cache.set(KIND, "guest", False)
    other_app.set(KIND, "guest", False)
    raw = client.get("cache:kind:admin")
    for name in ("cache:kind:guest", "shop:kind:guest"):
        client.set(name, raw, px=60_000)  # type: ignore[arg-type]  # bytes, as its type does not say
    assert cache.get(KIND, "guest") is None
    assert other_app.get(KIND, "guest") is None
    assert failures(cache) == 1
    assert cache.get(KIND, "admin") is True


def test_times__do_not_make_an_entry_live_longer(
    redis_server: Server, caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept from expiring, and with the newest reading written over its times: it expires as if they were its own."""
    monkeypatch.setattr("flask_rcache.stores.redis.server._TRYING", 0)
    client, cache = redis_server.client(), caches(redis_server.url, encryption_keys=[OLD], timeout=0.5)
    short = KIND.replace(ttl=1)
    cache.set(short, "set", "old")
    cache.fetch(short, "fetched", lambda: "old")
    kept = {key: client.get(f"cache:kind:{key}") for key in ("set", "fetched")}

    def put_back() -> list[Any]:
        cache.set(KIND, "another", 1)  # the clock goes on
        clock = client.zscore("cache~stamps", "=clock")
        for key, raw in kept.items():
            assert isinstance(raw, bytes)
            client.set(f"cache:kind:{key}", raw[:12] + struct.pack(">QQ", int(clock), int(clock)) + raw[28:])  # type: ignore[arg-type]  # a number
        return [cache.get(short, key) for key in kept]

    assert put_back() == ["old"] * 2
    wait_until(lambda: put_back() == [None] * 2, timeout=20, what="expired, whatever its times say")


def test_invalidated__and_put_back(redis_server: Server, caches: Caches) -> None:
    """An entry that was invalidated and is put back with later times is invalid still: its reading is sealed."""
    client, cache = redis_server.client(), caches(redis_server.url, encryption_keys=[OLD])
    cache.fetch(KIND, "k", lambda: "old", tags=["t"])
    raw = client.get("cache:kind:k")
    assert isinstance(raw, bytes)
    cache.invalidate_tags("t")
    epoch = raw[4:12]
    later = 2**52 - 1
    client.set("cache:kind:k", raw[:4] + epoch + struct.pack(">QQ", later, later) + raw[28:])
    assert cache.get(KIND, "k") is None
    assert cache.fetch(KIND, "k", lambda: "new", tags=["t"]) == "new"


def test_many_tags__of_another_entry_of_the_key(redis_server: Server, caches: Caches) -> None:
    """An older entry of a key, with the times of the present one, is judged by its own tags."""
    client, cache = redis_server.client(), caches(redis_server.url, encryption_keys=[OLD])
    cache.set(KIND, "k", "old", tags=[f"old-{number}" for number in range(20)])
    old = client.get("cache:kind:k")
    cache.set(KIND, "k", "new", tags=[f"new-{number}" for number in range(20)])
    new = client.get("cache:kind:k")
    assert isinstance(old, bytes)
    assert isinstance(new, bytes)
    assert [cache.get(KIND, "k") for _ in range(2)] == ["new"] * 2
    cache.invalidate_tags("old-7")
    client.set("cache:kind:k", new[:28] + old[28:], keepttl=True)
    assert cache.get(KIND, "k") is None


def test_counters__tampered_with_begin_anew(redis_server: Server, caches: Caches) -> None:
    """A counter is an entry as any other: none that others made is taken, and `add` replaces it."""
    client, cache = redis_server.client(), caches(redis_server.url, encryption_keys=[OLD])
    plain = caches(redis_server.url, prefix="plain")
    assert cache.incr(KIND, "n", 5, ttl=60) == 5
    plain.incr(KIND, "n", 1000)
    forged = client.get("plain:kind:n")
    client.set("cache:kind:n", forged, px=60_000)  # type: ignore[arg-type]  # bytes, as its type does not say
    assert cache.incr(KIND, "n", 2, initial=100) == 102
    assert cache.incr(KIND, "n", 2) == 104
    client.set("cache:kind:n", forged, px=60_000)  # type: ignore[arg-type]  # bytes, as its type does not say
    assert cache.add(KIND, "n", 7)
    assert cache.get(KIND, "n") == 7
    assert failures(cache) == 2


# Keys


def test_rotation(server: Server, caches: Caches) -> None:
    """Added as the second, made the first, the old one dropped: processes of neighbouring steps read each other."""
    steps = [caches(server.url, encryption_keys=keys) for keys in ([OLD], [OLD, NEW], f"{NEW},{OLD}", [NEW])]
    for number, (cache, following) in enumerate(itertools.pairwise(steps)):
        assert cache.set(KIND, f"by {number}", number)
        assert following.set(KIND, f"by {number + 1}", number + 1)
        assert (following.get(KIND, f"by {number}"), cache.get(KIND, f"by {number + 1}")) == (number, number + 1)
    assert steps[3].get(KIND, "by 0") is None
    assert failures(steps[3]) == 1


def test_rollover__from_plain_to_sealed_and_back(any_server: Server, caches: Caches) -> None:
    """What was stored without keys is a miss with them, and the other way round; each heals."""
    plain, keyed = caches(any_server.url), caches(any_server.url, encryption_keys=[OLD])
    plain.fetch(KIND, "k", lambda: "plain")
    assert keyed.fetch(KIND, "k", lambda: "sealed") == "sealed"
    assert keyed.get(KIND, "k") == "sealed"
    assert plain.fetch(KIND, "k", lambda: "plain again") == "plain again"
    assert failures(keyed) == 1
    wait_until(lambda: keyed.stats()["garbage"] == 1, timeout=10, what="what the other process has counted")


BAD = {
    "short": (base64.b64encode(bytes(range(16))).decode(), "has 16 bytes once it is decoded, and must have 32"),
    "hexadecimal": (bytes(range(32)).hex(), "has 48 bytes"),
    "no base64": ("not/base64!" * 4, "is not base64"),
    "not ASCII": ("schlüssel" * 4, "is not base64"),
    "not random": (base64.b64encode(b"\x11" * 32).decode(), "is not random"),
    "empty": ("", "is empty"),
    "one of two": (f"{OLD},", "key 2 of 2 is empty"),
    "twice": (f"{OLD}, {OLD}", "has the same key twice"),
    "bytes of a key": (bytes(range(32)), "is not base64"),
    "a number": (5, "must be a list of keys"),
    "a list of numbers": ([5], "must be a text in base64"),
}


@pytest.mark.parametrize(("given", "says"), BAD.values(), ids=BAD.keys())
def test_keys__that_cannot_be(given: Any, says: str) -> None:
    """The start ends with what is wrong and how a key is made; no piece of the key is in it."""
    with pytest.raises(ConfigError, match=r"^RCACHE_ENCRYPTION_KEYS in app\.config") as caught:
        load_settings({"RCACHE_ENCRYPTION_KEYS": given}, {})
    message = f"{caught.value!r} {caught.value}"
    assert says in message
    assert "b64encode(os.urandom(32))" in message or "twice" in message
    assert caught.value.__cause__ is None
    for text in given.split(",") if isinstance(given, str) else ():
        assert not text.strip() or text.strip() not in message


def test_keys__the_command_in_the_message_makes_one() -> None:
    """What the error says to run prints a key that is taken."""
    with pytest.raises(ConfigError) as caught:
        load_settings({}, {"RCACHE_ENCRYPTION_KEYS": "x"})
    command = str(caught.value).split("`")[1].split('"')[1]
    made = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    urlsafe = made.strip().translate(str.maketrans("+/", "-_")).rstrip("=")
    for key in (made, urlsafe):
        (read,) = load_settings({}, {"RCACHE_ENCRYPTION_KEYS": key}).encryption_keys
        assert read == base64.b64decode(made)


def test_keys__are_shown_nowhere(any_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Not in what settings and stores look like, in statistics, the check, explanations, or the log."""
    caplog.set_level(logging.DEBUG)
    app = Flask("keys")
    app.config.update(RCACHE_URL=any_server.url, RCACHE_ENCRYPTION_KEYS=[OLD, NEW], RCACHE_TIMEOUT=2.0)
    RCache(app, types=[KIND])
    with app.app_context():
        current_cache.set(KIND, "k", 1)
        runner = app.test_cli_runner()
        shown = [runner.invoke(args=["cache", *command]).output for command in (["check"], ["stats"], ["keys"])]
        shown += [
            repr(current_cache.settings),
            repr(current_cache.stats()),
            repr(current_cache.overview()),
            caplog.text,
        ]
        current_cache.close()
    assert "sealed with the first of RCACHE_ENCRYPTION_KEYS; 1 more only read" in shown[0]
    for key in (OLD, NEW):
        raw = base64.b64decode(key)
        for form in (key[:12], raw.hex()[:16], repr(raw[:12])[2:-1]):
            assert not [text for text in shown if form in text]


def test_keys__have_no_effect_in_memory(caplog: pytest.LogCaptureFixture) -> None:
    """What stays in the process is not sealed, and the check says so."""
    app = Flask("memory")
    app.config.update(RCACHE_ENCRYPTION_KEYS=OLD)
    RCache(app)
    assert "nothing is sealed" in app.test_cli_runner().invoke(args=["cache", "check"]).output


def test_extra__that_is_missing() -> None:
    """Without cryptography the start says what to install; without keys it is not needed."""
    code = f"""
import sys
sys.modules["cryptography"] = None
from flask import Flask
from flask_rcache import ConfigError, RCache
RCache(Flask("plain"))
app = Flask("sealed")
app.config.update(RCACHE_URL="redis://127.0.0.1:1/0", RCACHE_ENCRYPTION_KEYS={OLD!r})
try:
    RCache(app)
except ConfigError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ}, check=True
    )
    assert 'pip install "flask-rcache[crypto]"' in ran.stdout


# Queues


def test_queue__takes_no_write_of_others(shop: Flask, any_server: Server) -> None:
    """A write that is plain, changed, or from another queue or key never reaches the writer: it is a dead letter."""
    client, engine = any_server.client(), current_cache.engine
    applied: list[Write] = []
    (writer,) = engine.writes.writers.values()
    current_cache.write_behind(KIND, "k", "good", queue="orders")
    stream: Any = client.xrange("cache~queue:orders")
    ((_, fields),) = stream
    codec = engine.fetching.codec
    forgeries: tuple[dict[bytes, Any], ...] = (
        {b"value": codec.encode("forged"), b"key": codec.encode("k")},
        {b"value": fields[b"value"][:-1] + b"\0"},
        {b"entry": b"cache:kind:other"},
        {b"type": b"dashboard"},
        {b"key": fields[b"value"], b"value": fields[b"key"]},
        {b"id": b"\xff", b"type": b"\xff"},
        {b"attempts": b"many", b"value": b""},
    )
    for forged in forgeries:
        message: Any = {**fields, **forged}
        client.xadd("cache~queue:orders", message)
    consumer = Consumer(shop, [writer._replace(apply=applied.extend)], engine.store.queues, codec=codec, attempts=1)
    consumer.run(once=True)
    assert [(write.key, write.value) for write in applied] == [("k", "good")]
    letters = engine.store.queues[0].dead_letters("orders")
    assert len(letters) == len(forgeries)
    assert all("SealError" in letter.error for letter in letters)


# Topologies


def test_cluster(cluster: Cluster, caches: Caches) -> None:
    """On a cluster of each kind: sealed on every shard, read by another process, invalidated, and none moved."""
    writer, reader = (caches(cluster.url, encryption_keys=[OLD]) for _ in range(2))
    values = {f"k{number}": f"{SECRET} {number}" for number in range(20)}
    assert writer.set_many(KIND, values, tags=["t"])
    assert reader.get_many(KIND, list(values)) == values
    assert reader.fetch(KIND, "loaded", lambda: "v", tags=["t"]) == "v"
    assert len({entry.key for entry in reader.entries(KIND)}) == 21
    reader.invalidate_tags("t")
    assert writer.get_many(KIND, list(values)) == {}
    assert failures(reader) == 0


def test_sentinel(sentinels: Callable[..., Sentinels], caches: Caches) -> None:
    """Behind Sentinel it is the same."""
    trio = sentinels()
    writer, reader = (caches(trio.url, encryption_keys=[OLD]) for _ in range(2))
    assert writer.set(KIND, "k", SECRET)
    assert reader.get(KIND, "k") == SECRET
    assert not [key for key, value in stored(trio.master.client()) if SECRET.encode() in value]


def test_tiers__memory_keeps_plain_objects(any_server: Server, tiers: Caches) -> None:
    """The memory tier in front answers without opening anything; Redis has it sealed."""
    cache = tiers(any_server.url, encryption_keys=[OLD], l1_ttl=30)
    assert cache.set(KIND.replace(l1_ttl=30), "k", SECRET)
    kind = KIND.replace(l1_ttl=30)
    wait_until(lambda: cache.overview()["bus"]["state"] == "alive", timeout=10, what="the bus is heard")
    cache.get(kind, "k")
    any_server.client().delete("cache:kind:k")
    assert cache.get(kind, "k") == SECRET


def test_store__has_no_encryption_without_keys(any_server: Server) -> None:
    """Entries without keys are what they were."""
    store = store_of(load_settings({"RCACHE_URL": any_server.url, "RCACHE_L1_TTL": 0}, {}))
    cache = CacheManager(load_settings({"RCACHE_URL": any_server.url}, {}), store, types=[KIND])
    cache.set(KIND, "k", SECRET)
    raw = any_server.client().get("cache:kind:k")
    assert isinstance(raw, bytes)
    assert raw.startswith(b"RCE\x03")
    assert SECRET.encode() in raw
    cache.close()


@pytest.mark.parametrize("where", ["environment", "settings"])
def test_cachelib__a_store_of_its_own_is_sealed(
    any_server: Server, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Sessions that a library keeps beside the app are sealed with the keys of the environment, or with those given."""
    settings = {}
    if where == "environment":
        monkeypatch.setenv("RCACHE_ENCRYPTION_KEYS", OLD)
    else:
        settings["RCACHE_ENCRYPTION_KEYS"] = OLD
    store = RCacheStore(any_server.url, settings=settings)
    assert store.set("session:1", {"user": SECRET})
    assert store.get("session:1") == {"user": SECRET}
    assert not [key for key, value in stored(any_server.client()) if SECRET.encode() in value]
    store.close()
