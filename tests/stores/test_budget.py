"""The time budget of a request: a store that answers, but too slowly, costs each request two timeouts in all."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from flask_rcache import CacheManager, CacheType, RCache, cache_response, current_cache
from tests.processes import wait_until
from tests.servers import Server

KIND = CacheType("kind", ttl=60, l1_ttl=0)


class SlowProxy:
    """Forwards connections to a server, and holds every answer up for a while."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.delay = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += (client, server)
                threading.Thread(target=self._forward, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, True), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, slowly: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if slowly and self.delay:
                    time.sleep(self.delay)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def proxy(redis_server: Server) -> Iterator[SlowProxy]:
    made = SlowProxy(redis_server.port)
    yield made
    made.close()


@pytest.fixture
def shop(proxy: SlowProxy) -> Iterator[Flask]:
    """An app whose page reads the cache ten times and invalidates, and whose timeout is 0.4 s."""
    app = Flask("shop")
    app.config.update(RCACHE_URL=f"redis://127.0.0.1:{proxy.port}/0", RCACHE_TIMEOUT=0.4, SECRET_KEY="s")
    RCache(app, types=[KIND])

    @app.get("/page")
    @cache_response(KIND)
    def page() -> str:
        return many()

    def many() -> str:
        for number in range(10):
            current_cache.fetch(KIND, number, lambda: 1)
        current_cache.invalidate_tags("x")
        return "done"

    app.add_url_rule("/many", view_func=many)
    yield app
    app.extensions["rcache"].close()


def cache_of(app: Flask) -> CacheManager:
    found: CacheManager = app.extensions["rcache"]
    return found


def took(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


@pytest.mark.chaos
@pytest.mark.parametrize("path", ["/page", "/many"])
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "to connect"])
def test_budget__a_slow_store(shop: Flask, proxy: SlowProxy, path: str, connected: bool) -> None:
    """Each answer a little below the timeout: without a budget the request would wait for more than three seconds."""
    client = shop.test_client()
    if connected:
        assert client.get(path).status_code == 200
        cache_of(shop).clear_all()
    proxy.delay = 0.3
    seconds = took(lambda: client.get(path))
    assert 0.25 < seconds < 1.6  # two timeouts, and what a busy machine adds
    assert not cache_of(shop).is_available
    assert min(took(lambda: client.get(path)) for _ in range(3)) < 0.25  # nobody waits any more
    proxy.delay = 0.0
    wait_until(lambda: cache_of(shop).is_available, timeout=20, what="the store is prompt again")
    assert cache_of(shop).overview()["journal"]["pending"] == 0
    assert client.get("/many").data == b"done"


@pytest.mark.chaos
def test_budget__stays_open_while_it_is_slow(shop: Flask, proxy: SlowProxy) -> None:
    """A probe that is answered slowly does not bring the waiting back; but what is journalled is delivered."""
    client = shop.test_client()
    client.get("/many")
    proxy.delay = 0.3
    client.get("/many")
    cache = cache_of(shop)
    assert not cache.is_available
    cache.invalidate_tags("y")
    wait_until(lambda: cache.overview()["journal"]["pending"] == 0, timeout=20, what="the journal is delivered")
    assert not cache.is_available
    slow = sum(took(lambda: client.get("/many")) > 0.25 for _ in range(20))
    assert slow <= 2  # not one in two, as it would be if each probe brought the waiting back


@pytest.mark.chaos
def test_budget__outside_of_a_request(shop: Flask, proxy: SlowProxy) -> None:
    """A script has no budget: it gets its answers."""
    with shop.app_context():
        current_cache.set(KIND, "a", 1)
        proxy.delay = 0.1
        assert [current_cache.get(KIND, "a") for _ in range(12)] == [1] * 12
    assert cache_of(shop).is_available


@pytest.mark.chaos
def test_budget__a_walk_takes_its_time(shop: Flask, proxy: SlowProxy) -> None:
    """A pattern over many keys takes many answers; that it is long does not say that the store is sick."""
    cache = cache_of(shop)
    cache.set_many(KIND, dict.fromkeys(range(3000), 1))
    proxy.delay = 0.1

    @shop.post("/sweep")
    def sweep() -> str:
        return f"{current_cache.invalidate_pattern('kind:*')} {len(list(current_cache.entries()))}"

    assert shop.test_client().post("/sweep").data == b"3000 0"
    assert cache.is_available


@pytest.mark.chaos
def test_budget__each_request_has_its_own(shop: Flask, proxy: SlowProxy) -> None:
    """What one request has waited is not held against the next."""
    client = shop.test_client()

    @shop.get("/one")
    def one() -> str:
        return str(current_cache.get(KIND, 3))

    client.get("/one")
    proxy.delay = 0.15
    assert [client.get("/one").status_code for _ in range(8)] == [200] * 8
    assert cache_of(shop).is_available
