"""Rows of caches that are no Flask extensions: a plain view around a function that they cache.

They are development dependencies; one that is not installed is left out with a word. ``cashews`` and ``aiocache`` have
only an asynchronous interface, so they serve an ``async def`` view, which Flask runs in an event loop of its own;
ours is there in the same form. Their Redis clients belong to one event loop, so in Flask they can be used with memory
only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from flask import Flask, Response

from benchmarks.rows import Counter, Row, no_close, wsgi_caller
from flask_rcache import CacheType, RCache, cached
from tests.servers import Server

_PATH = "/x"


class NotInstalledError(Exception):
    """A package that a row needs is not there."""


def _needs(package: str, module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise NotInstalledError(f"{package} is not installed")


def _row(title: str, body: Callable[[], bytes], views: Counter, close: Callable[[], None] = no_close) -> Row:
    app = Flask(title)
    app.add_url_rule(_PATH, view_func=lambda: Response(body(), mimetype="application/octet-stream"))
    return Row(f"{title} hit", wsgi_caller(app), lambda: views.count, True, close, app)


def _async_row(title: str, body: Callable[[], Any], views: Counter, app: Flask | None = None) -> Row:
    app = app or Flask(title)

    async def view() -> Response:
        return Response(await body(), mimetype="application/octet-stream")

    app.add_url_rule(_PATH, view_func=view)
    return Row(f"{title} hit", wsgi_caller(app), lambda: views.count, True, no_close, app)


def _dogpile(title: str, backend: str, arguments: dict[str, Any]) -> Row:
    _needs("dogpile.cache", "dogpile")
    from dogpile.cache import make_region

    views = Counter()
    region = make_region().configure(backend, expiration_time=3600, arguments=arguments)
    body: Callable[[], bytes] = region.cache_on_arguments(namespace="bench")(lambda: views.body())
    return _row(f"dogpile.cache, {title}", body, views)


def dogpile_memory(server: Server) -> Row:
    """dogpile.cache on a dict."""
    return _dogpile("memory", "dogpile.cache.memory", {})


def dogpile_redis(server: Server) -> Row:
    """dogpile.cache on Redis, with the lock that protects from stampedes over all processes."""
    return _dogpile(
        "Redis", "dogpile.cache.redis", {"url": server.url, "distributed_lock": True, "thread_local_lock": False}
    )


def cashews_memory(server: Server) -> Row:
    """Cashews on its dict, in an async view."""
    _needs("cashews", "cashews")
    from cashews import Cache

    views, cache = Counter(), Cache()
    cache.setup("mem://", check_interval=0)

    @cache(ttl=3600, key="bench")
    async def body() -> bytes:
        return views.body()

    return _async_row("async view, cashews, memory", body, views)


def aiocache_memory(server: Server) -> Row:
    """Aiocache on its dict, in an async view."""
    _needs("aiocache", "aiocache")
    from aiocache import cached as cached_by_aiocache

    views = Counter()

    @cached_by_aiocache(ttl=3600)  # type: ignore[untyped-decorator,unused-ignore]
    async def body() -> bytes:
        return views.body()

    return _async_row("async view, aiocache, memory", body, views)


def ours_async(server: Server) -> Row:
    """This cache's `@cached` on memory, in an async view: what the two above are to be compared with."""
    app, views = Flask("ours-async"), Counter()
    app.config.update(RCACHE_URL="memory://")
    RCache(app)

    @cached(CacheType.QUERY, ttl=3600)
    async def body() -> bytes:
        return views.body()

    row = _async_row("async view, flask_rcache's @cached, memory", body, views, app)
    row.close = app.extensions["rcache"].close
    return row


PEERS: dict[str, Callable[[Server], Row]] = {
    "dogpile-memory": dogpile_memory,
    "dogpile-redis": dogpile_redis,
    "async": ours_async,
    "cashews": cashews_memory,
    "aiocache": aiocache_memory,
}
