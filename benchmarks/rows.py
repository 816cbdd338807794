"""The applications that are compared: each answers one GET with the same 2 KB and proves what it is.

Owns the rows. A row is called in process, as `app.wsgi_app(environ, start_response)` with a fresh environ.
"""

from __future__ import annotations

import itertools
import socket
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import hiredis
import redis
from flask import Flask, Response
from werkzeug.test import EnvironBuilder

from flask_rcache import CacheType, RCache, cache_response
from tests.servers import Server

BODY = (b"0123456789abcdef" * 128)[:2048]
_PATH = "/x"
_RAW_KEY = "bench-raw"
_LOOK_ALIKE = "flask_rcache.compat.flask_caching"
_LIBRARIES = {"flask_caching": "Flask-Caching", _LOOK_ALIKE: "the look-alike in flask_rcache"}


@dataclass(slots=True)
class Row:
    """One application.

    Attributes:
        title: Its line in the table.
        call: One request, answered and read to the end; returns its headers and body.
        views: How often the view has run so far.
        must_hit: Whether a measured call must leave the view alone.
        close: What gives its connections back.
        app: The application, for those that serve it.
    """

    title: str
    call: Callable[[], tuple[list[tuple[str, str]], bytes]]
    views: Callable[[], int]
    must_hit: bool
    close: Callable[[], None]
    app: Flask

    def verify(self) -> None:
        """Check that a call answers the body and is a hit, if it has to be.

        Raises:
            AssertionError: It does not do what its line in the table says.
        """
        self.call()
        before = self.views()
        headers, body = self.call()
        ran = self.views() - before
        if body != BODY:
            raise AssertionError(f"{self.title}: another body came back ({len(body)} bytes)")
        if ran != (0 if self.must_hit else 1):
            raise AssertionError(f"{self.title}: the view ran {ran} times in one call")
        verdict = "HIT" if self.must_hit else "MISS"
        if self.title.startswith("flask_rcache") and ("X-Cache", verdict) not in headers:
            raise AssertionError(f"{self.title}: not marked as a {verdict}: {headers}")


def wsgi_caller(app: Flask, *, fresh_url: bool = False) -> Callable[[], tuple[list[tuple[str, str]], bytes]]:
    """Make the function that sends one GET through the application; with ``fresh_url`` each to a URL of its own."""
    environ = EnvironBuilder(path=_PATH, base_url="http://127.0.0.1/").get_environ()
    wsgi_app = app.wsgi_app
    headers: list[tuple[str, str]] = []
    numbers = itertools.count()

    def start_response(status: str, fields: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        headers[:] = fields
        return lambda data: None

    def call() -> tuple[list[tuple[str, str]], bytes]:
        sent = environ.copy()
        if fresh_url:
            sent["QUERY_STRING"] = f"n={next(numbers)}"
        answer: Iterable[bytes] = wsgi_app(sent, start_response)
        body = b"".join(answer)
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        return headers, body

    return call


def no_close() -> None:
    """Give back nothing."""


class Counter:
    """How often a view ran."""

    def __init__(self) -> None:
        self.count = 0

    def body(self) -> bytes:
        """The slow part, for what caches functions and not views."""
        self.count += 1
        return BODY

    def respond(self) -> Response:
        return Response(self.body(), mimetype="application/octet-stream")


def bare(server: Server) -> Row:
    """A view without a cache: what everything is compared with."""
    app, views = Flask("bare"), Counter()
    app.add_url_rule(_PATH, view_func=views.respond)
    return Row("bare view", wsgi_caller(app), lambda: views.count, False, no_close, app)


def raw_socket(server: Server) -> Row:
    """A bare view around one GET on a plain socket: the floor of anything that asks a Redis."""
    app, views = Flask("raw"), Counter()
    server.client().set(_RAW_KEY, BODY)
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = hiredis.Reader(notEnoughData=0)
    command = hiredis.pack_command(("GET", _RAW_KEY))  # type: ignore[arg-type]

    def view() -> Response:
        views.count += 1
        connection.sendall(command)
        while (value := reader.gets()) == 0:
            reader.feed(connection.recv(65536))
        return Response(value, mimetype="application/octet-stream")

    app.add_url_rule(_PATH, view_func=view)
    return Row("bare view + GET on a raw socket", wsgi_caller(app), lambda: views.count, False, connection.close, app)


def one_get(server: Server) -> Row:
    """A bare view that asks Redis once through redis-py, as one would write it by hand."""
    app, views = Flask("get"), Counter()
    client = redis.Redis(host="127.0.0.1", port=server.port)
    client.set(_RAW_KEY, BODY)

    def view() -> Response:
        views.count += 1
        return Response(client.get(_RAW_KEY), mimetype="application/octet-stream")

    app.add_url_rule(_PATH, view_func=view)
    return Row("bare view + redis.get", wsgi_caller(app), lambda: views.count, False, client.close, app)


def _ours(title: str, url: str, *, misses: bool = False, **config: Any) -> Row:
    app, views = Flask(f"ours-{title}"), Counter()
    app.config.update(TESTING=True, RCACHE_URL=url, RCACHE_PREFIX=f"bench-{title.replace(' ', '-')}", **config)
    RCache(app)

    @app.get(_PATH)
    @cache_response(CacheType.DASHBOARD, ttl=3600)
    def view() -> Response:
        return views.respond()

    close = app.extensions["rcache"].close
    title = f"flask_rcache, {title} {'miss' if misses else 'hit'}"
    return Row(title, wsgi_caller(app, fresh_url=misses), lambda: views.count, not misses, close, app)


def ours_memory(server: Server) -> Row:
    """This cache without Redis."""
    return _ours("memory", "memory://")


def ours_redis(server: Server) -> Row:
    """This cache on Redis, asked on every hit."""
    return _ours("Redis", server.url, RCACHE_L1_TTL=0)


def ours_tiered(server: Server) -> Row:
    """This cache on Redis with the memory tier in front, as it is by default."""
    return _ours("memory tier", server.url)


def ours_front(server: Server) -> Row:
    """The memory tier with the front: answered before routing."""
    return _ours("front", server.url, RCACHE_FRONT=True)


def ours_unix(server: Server) -> Row:
    """This cache on Redis over a unix socket, asked on every hit."""
    return _ours("Redis, unix socket", server.socket_url, RCACHE_L1_TTL=0)


def ours_memory_miss(server: Server) -> Row:
    """This cache without Redis, each request for a URL that nothing is stored for."""
    return _ours("memory", "memory://", misses=True)


def ours_redis_miss(server: Server) -> Row:
    """The same on Redis: lookup, lease and fill."""
    return _ours("Redis", server.url, misses=True, RCACHE_L1_TTL=0)


def template(server: Server) -> Row:
    """A view that renders a template whose text is ready: what a fragment is compared with."""
    app, views = Flask("template"), Counter()
    page = app.jinja_env.from_string("{{ body() }}")

    @app.get(_PATH)
    def view() -> str:
        return page.render(body=lambda: views.body().decode())

    return Row("bare view with a template", wsgi_caller(app), lambda: views.count, False, no_close, app)


def _fragment(title: str, url: str, **config: Any) -> Row:
    app, views = Flask(f"fragment-{title}"), Counter()
    app.config.update(TESTING=True, RCACHE_URL=url, RCACHE_PREFIX=f"bench-fragment-{title}", **config)
    RCache(app)
    page = app.jinja_env.from_string('{% cache "body", ttl=3600, vary=["en"] %}{{ body() }}{% endcache %}')

    @app.get(_PATH)
    def view() -> str:
        return page.render(body=lambda: views.body().decode())

    close = app.extensions["rcache"].close
    return Row(f"fragment of flask_rcache, {title} hit", wsgi_caller(app), lambda: views.count, True, close, app)


def fragment_memory(server: Server) -> Row:
    """The same template with a fragment of this cache in memory around the text."""
    return _fragment("memory", "memory://")


def fragment_redis(server: Server) -> Row:
    """The same on Redis, asked on every hit."""
    return _fragment("redis", server.url, RCACHE_L1_TTL=0)


def _flask_caching(title: str, config: dict[str, Any], *, memoize: bool = False, module: str = "flask_caching") -> Row:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what another project's import warns of is not measured here
        Cache = import_module(module).Cache  # noqa: N806  # a class
    app, views = Flask(f"flask-caching-{title}"), Counter()
    cache = Cache(app, config={"CACHE_DEFAULT_TIMEOUT": 3600, **config})
    if memoize:
        body = cache.memoize(timeout=3600)(views.body)
        app.add_url_rule(_PATH, view_func=lambda: Response(body(), mimetype="application/octet-stream"))
    else:
        app.add_url_rule(_PATH, view_func=cache.cached(timeout=3600)(views.respond))
    return Row(
        f"{_LIBRARIES[module]}, {title} {'memoize ' if memoize else ''}hit",
        wsgi_caller(app),
        lambda: views.count,
        True,
        no_close,
        app,
    )


def flask_caching_simple(server: Server) -> Row:
    """Flask-Caching on a dict."""
    return _flask_caching("SimpleCache", {"CACHE_TYPE": "SimpleCache"})


def flask_caching_redis(server: Server) -> Row:
    """Flask-Caching on Redis."""
    return _flask_caching("RedisCache", {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": server.url})


def flask_caching_memoize(server: Server) -> Row:
    """A view around a function that Flask-Caching memoizes in a dict."""
    return _flask_caching("SimpleCache", {"CACHE_TYPE": "SimpleCache"}, memoize=True)


def flask_caching_redis_memoize(server: Server) -> Row:
    """The same in Redis."""
    return _flask_caching("RedisCache", {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": server.url}, memoize=True)


def moved_simple(server: Server) -> Row:
    """An app of Flask-Caching's that has moved by changing its import."""
    return _flask_caching("SimpleCache", {"CACHE_TYPE": "SimpleCache"}, module=_LOOK_ALIKE)


def moved_redis(server: Server) -> Row:
    """The same on Redis, behind the memory tier."""
    return _flask_caching("RedisCache", {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": server.url}, module=_LOOK_ALIKE)


ROWS: dict[str, Callable[[Server], Row]] = {
    "bare": bare,
    "raw": raw_socket,
    "get": one_get,
    "memory": ours_memory,
    "tiered": ours_tiered,
    "redis": ours_redis,
    "front": ours_front,
    "unix": ours_unix,
    "template": template,
    "fragment": fragment_memory,
    "fragment-redis": fragment_redis,
    "memory-miss": ours_memory_miss,
    "redis-miss": ours_redis_miss,
    "fc-simple": flask_caching_simple,
    "fc-redis": flask_caching_redis,
    "fc-memoize": flask_caching_memoize,
    "fc-redis-memoize": flask_caching_redis_memoize,
    "moved-simple": moved_simple,
    "moved-redis": moved_redis,
}
