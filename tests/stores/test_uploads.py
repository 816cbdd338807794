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
