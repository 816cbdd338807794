"""The compared applications as a server loads them: `gunicorn "benchmarks.served:create('tiered')"`.

Owns what a worker process runs. `BENCH_REDIS` and `BENCH_SOCKET` are the addresses of the server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import redis
from flask import Flask, Response

from benchmarks.peers import PEERS
from benchmarks.rows import BODY, ROWS
from flask_rcache import CacheType, RCache, cache_response
from tests.servers import Server

#: How many loads a stampede made, and how long each takes.
LOADS = "bench-loads"
SLOW = 0.2


def _server() -> Server:
    url = os.environ["BENCH_REDIS"]
    address = SimpleNamespace(
        url=url,
        socket_url=os.environ.get("BENCH_SOCKET", ""),
        port=urlsplit(url).port,
        client=lambda **options: redis.Redis.from_url(url, **options),
    )
    return cast("Server", address)


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI application without a framework: what the server itself costs."""
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(BODY)))])
    return [BODY]


def same_lines() -> Callable[..., Any]:
    """The same with the header lines of a hit of the front, each of which a server checks and writes."""
    row = ROWS["front"](_server())
    row.verify()
    lines, _ = row.call()
    sent = list(lines)
    row.close()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", sent.copy())
        return [BODY]

    return app


def create(name: str) -> Callable[..., Any]:
    """One of the rows, or one without a framework: ``hello``, ``same-lines``."""
    if name == "hello":
        return hello
    return same_lines() if name == "same-lines" else {**ROWS, **PEERS}[name](_server()).app


def create_slow(library: str) -> Flask:
    """A page that takes 0.2 s and counts how often it was made, cached in Redis by one of the libraries."""
    server, app = _server(), Flask("slow")
    counter = server.client()

    def body() -> bytes:
        counter.incr(LOADS)
        time.sleep(SLOW)
        return BODY

    def view(key: str) -> Response:
        return Response(body(), mimetype="application/octet-stream")

    if library == "flask_rcache":
        app.config.update(RCACHE_URL=server.url, RCACHE_PREFIX="slow")
        RCache(app)
        app.add_url_rule("/<key>", view_func=cache_response(CacheType.DASHBOARD, ttl=3600)(view))
    elif library == "flask-caching":
        from flask_caching import Cache

        cache = Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": server.url})
        app.add_url_rule("/<key>", view_func=cache.cached(timeout=3600)(view))
    elif library == "dogpile.cache":
        from dogpile.cache import make_region

        arguments = {"url": server.url, "distributed_lock": True, "thread_local_lock": False, "lock_timeout": 30}
        region = make_region().configure("dogpile.cache.redis", expiration_time=3600, arguments=arguments)
        load: Callable[[str], bytes] = region.cache_on_arguments(namespace="slow")(lambda key: body())
        app.add_url_rule("/<key>", view_func=lambda key: Response(load(key), mimetype="application/octet-stream"))
    else:
        app.add_url_rule("/<key>", view_func=view)
    return app
