"""Large fills are sent after the answer: no request waits for a slow line, and what is stored arrives all the same."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from flask_rcache import CacheManager, CacheType, RCache, cache_response
from flask_rcache.errors import StoreUnavailableError
from flask_rcache.stores.protocol import Outcome
from flask_rcache.stores.redis.connection import pack
from tests.clusters import Cluster
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import Kit, redis_store
from tests.stores.proxy import Proxy
from tests.stores.transport import Transport, at_once, request

BODY = os.urandom(2_000_000)
KIND = CacheType("product", l1_ttl=0)


@pytest.fixture
def line(redis_server: Server) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def shop(line: Proxy) -> Iterator[Flask]:
    """An app with a large page, whose way to Redis can be made slow."""
    app = Flask("shop")
    app.config.update(RCACHE_URL=line.url)
    RCache(app)

    @app.get("/big")
    @cache_response(KIND)
    def big() -> bytes:
        return BODY

    app.test_client().get("/small")
    yield app
    app.extensions["rcache"].close()


def asked(app: Flask) -> tuple[str, float]:
    """What became of a request for the page, and how long it took."""
    began = time.monotonic()
    response = app.test_client().get("/big")
    assert response.data == BODY
    return response.headers["X-Cache"], time.monotonic() - began


@pytest.mark.chaos
def test_fill__a_large_one_over_a_slow_line(shop: Flask, line: Proxy, redis_server: Server) -> None:
    """Neither the request that made it waits, nor those that come while it is sent; then it is there."""
    client, cache = redis_server.client(), shop.extensions["rcache"]
    wait_until(lambda: cache.is_available and cache.get(KIND, "x") is None, timeout=10, what="connected")
    line.rate = 1_000_000
    for _ in range(3):
        state, seconds = asked(shop)
        assert (state, seconds < 1.0) == ("MISS", True), seconds
    wait_until(lambda: any(client.scan_iter("cache:product:*")), timeout=20, what="it arrives")
    line.rate = 0
    assert asked(shop)[0] == "HIT"
    assert cache.is_available


@pytest.mark.chaos
def test_fill__a_large_one_that_does_not_arrive(shop: Flask, line: Proxy, redis_server: Server) -> None:
    """The key is not blocked: whoever comes next loads at once."""
    cache: CacheManager = shop.extensions["rcache"]
    wait_until(lambda: cache.is_available and cache.get(KIND, "x") is None, timeout=10, what="connected")
    line.rate = 20_000
    assert asked(shop)[0] == "MISS"
    line.cut()
    line.rate = 0
    line.mend()
    wait_until(lambda: cache.is_available and cache.get(KIND, "x") is None, timeout=10, what="connected again")
    state, seconds = asked(shop)
    assert (state, seconds < 2.0) == ("MISS", True), seconds
    wait_until(lambda: asked(shop)[0] == "HIT", timeout=20, what="it is stored")


def test_fill__large_and_small_ones(redis_server: Server) -> None:
    """Together in one call: over a good line all of them are stored when it returns, in a request or not."""
    kit = Kit(redis_store(redis_server.url))
    for in_request in (True, False):
        keys = [kit.key(f"{name}-{in_request}") for name in ("a", "b")]
        started = [kit.start(key) for key in keys]
        contents = (b"small", BODY)
        from flask_rcache.stores.protocol import LoadedResult

        results = [
            LoadedResult(lease, kit.draft(lease.key, content), moment)
            for (lease, moment), content in zip(started, contents, strict=True)
        ]
        with request(is_request=in_request):
            outcomes = [filled.outcome for filled in kit.store.fill(results)]
        assert outcomes[0] is Outcome.STORED
        assert outcomes[1] in (Outcome.STORED, Outcome.SENT)
        wait_until(lambda key=keys[1]: kit.value(key) == BODY, timeout=10, what="stored")  # type: ignore[misc]
        assert kit.value(keys[0]) == b"small"
    kit.store.close()


# --- Each way by which something large is stored


def new_shop(url: str, **config: Any) -> Flask:
    """An app whose large results are stored in each way there is."""
    app = Flask("shop")
    app.config.update(RCACHE_URL=url, **config)
    RCache(app)
    cache: CacheManager = app.extensions["rcache"]

    @app.get("/varies")
    @cache_response(KIND, vary=["Accept-Language"])
    def varies() -> bytes:
        return BODY

    @app.get("/set")
    def set_() -> str:
        return str(cache.set(KIND, "set", BODY))

    @app.get("/through")
    def through() -> str:
        return str(cache.write_through(KIND, "through", BODY, lambda value: None) == BODY)

    @app.get("/fetch")
    def fetch() -> str:
        return str(cache.fetch(KIND, "fetch", lambda: BODY) == BODY)

    @app.get("/fetch-many")
    def fetch_many() -> str:
        names = [f"many-{number}" for number in range(8)]
        return str(len(cache.fetch_many(KIND, names, lambda missing: dict.fromkeys(missing, BODY))))

    return app


#: What stores something large, and the number of large entries that it makes.
WAYS = {"varies": 1, "set": 1, "through": 1, "fetch": 1, "fetch-many": 8}


def stores_in_each_way(app: Flask, line: Proxy, large_ones: Callable[[], int]) -> None:
    cache: CacheManager = app.extensions["rcache"]
    client = app.test_client()
    wait_until(lambda: cache.is_available and cache.get(KIND, "x") is None, timeout=20, what="connected")
    expected = 0
    for way, number in WAYS.items():
        line.rate = 2_000_000
        began = time.monotonic()
        response = client.get(f"/{way}")
        seconds = time.monotonic() - began
        assert response.data == BODY or response.text in ("True", "8"), (way, response.text)
        assert seconds < 1.0, (way, seconds)
        line.rate = 0
        expected += number
        wait_until(lambda expected=expected: large_ones() == expected, timeout=30, what=way)  # type: ignore[misc]
    assert client.get("/varies").headers["X-Cache"] == "HIT"
    assert cache.get(KIND, "set") == cache.get(KIND, "through") == BODY
    assert cache.is_available


@pytest.mark.chaos
def test_large__in_each_way_over_a_slow_line(line: Proxy, redis_server: Server) -> None:
    """A variant, `set`, `write_through`, `fetch` and `fetch_many`: no request waits, and all of it arrives."""
    app, client = new_shop(line.url), redis_server.client()

    def large_ones() -> int:
        return sum(int(client.strlen(key)) > 1_000_000 for key in client.scan_iter("cache:product:*"))

    stores_in_each_way(app, line, large_ones)
    app.extensions["rcache"].close()


@pytest.mark.chaos
def test_large__on_a_cluster_behind_other_addresses(private_cluster: Callable[..., Cluster]) -> None:
    """The same on a cluster, whose node is reached by an address that is not its own (NAT)."""
    cluster = private_cluster(masters=1)
    (node,) = cluster.nodes
    with Proxy(node.port) as line:
        node.client().config_set("cluster-announce-port", line.port)
        app = new_shop(f"redis+cluster://127.0.0.1:{line.port}", RCACHE_SHARDS=4)
        client = node.client()

        def large_ones() -> int:
            return sum(int(client.strlen(key)) > 1_000_000 for key in client.scan_iter("cache:{?}:product:*"))

        stores_in_each_way(app, line, large_ones)
        nodes = app.extensions["rcache"].overview()["topology"]["nodes"]
        assert [each["address"] for each in nodes] == [f"127.0.0.1:{line.port}"]
        app.extensions["rcache"].close()


def test_set__a_large_one_is_not_stored_over_a_newer_one(line: Proxy, redis_server: Server) -> None:
    """While it is under way the old value is gone; what is set or deleted meanwhile, here or elsewhere, stands."""
    writer, other = (redis_store(url) for url in (line.url, redis_server.url))
    kit = Kit(writer)
    for number, later in enumerate(("set", "delete")):
        key = kit.key(f"k{number}")
        other.write([(key, kit.draft(key, b"before"))], None)
        line.rate = 1_000_000
        with request(is_request=True):
            assert writer.write([(key, kit.draft(key, BODY))], None)[0].outcome is Outcome.SENT
        assert other.read(key, ()).entry is None
        if later == "set":
            assert other.write([(key, kit.draft(key, b"after"))], None)[0].outcome is Outcome.STORED
        else:
            other.delete([key])
        line.rate = 0
        wait_until(lambda key=key: not writer._uploads.is_under_way(key), timeout=20, what="sent")  # type: ignore[misc]
        entry = other.read(key, ()).entry
        assert (entry.content if entry else None) == (b"after" if later == "set" else None)
    for store in (writer, other):
        store.close()


# --- What must not be carried out twice


def test_once__a_connection_that_the_server_has_closed(server: Server) -> None:
    """It is seen before anything is sent, so nothing has to be sent again."""
    transport = Transport(server.url)
    at_once(lambda _: transport.ask("BLPOP", "nothing", 0.2), 3)
    server.client().client_kill_filter(_type="normal", skipme=True)
    assert transport.pool.exchange(pack(("INCR", "n")), 1, once=True) == [1]
    assert server.client().get("n") == b"1"
    assert not transport.breaker.is_open
    transport.pool.close()


class Closing:
    """A server that takes a command and closes the connection in place of an answer."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(65536):
                    if b"HELLO" in data:
                        connection.sendall(b"%1\r\n+proto\r\n:3\r\n")
                    elif b"PING" in data:
                        connection.sendall(b"+PONG\r\n")
                    else:
                        self.commands.append(data)
                        break

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize(("once", "sent"), [(True, 1), (False, 2)])
def test_once__a_connection_that_is_closed_in_place_of_an_answer(once: bool, sent: int) -> None:
    """Whether it was carried out is not known: it is not sent again, as everything else is."""
    closing = Closing()
    transport = Transport(f"redis://127.0.0.1:{closing.port}/0")
    assert transport.ask("PING") == b"PONG"
    with pytest.raises(StoreUnavailableError):
        transport.pool.exchange(pack(("INCR", "n")), 1, once=once)
    assert len(closing.commands) == sent
    transport.pool.close()
    closing.close()


def test_incr__counts_once_over_connections_that_are_closed(
    server: Server, caches: Callable[..., CacheManager]
) -> None:
    """Idle connections are closed by the server again and again: each call counts once."""
    cache: Any = caches(server.url)
    client = server.client()
    for expected in range(1, 6):
        assert cache.incr("search", "n") == expected
        client.client_kill_filter(_type="normal", skipme=True)
    assert cache.get("search", "n") == 5
