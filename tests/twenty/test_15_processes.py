"""15: fork and --preload, gevent, reload, many app creations: no inherited sockets, no thread growth."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from flask_rcache import CacheManager
from tests.processes import wait_until
from tests.servers import Gunicorn, Server
from tests.twenty.kit import KIND, PATIENCE, program, said


def test_behaviour_15__fork(any_server: Server, caches: Callable[..., CacheManager]) -> None:
    """A child and its parent use the cache at the same time; neither reads the other's replies, and both are heard."""
    here = caches(any_server.url, l1_ttl=300)
    keys = [f"k{number}" for number in range(40)]
    here.set_many(KIND, {key: key for key in keys})
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            wrong = [key for _ in range(20) for key in keys if here.get(KIND, key) != key]
            here.set(KIND, "child", wrong)
            here.delete(KIND, "k0")
            code = 0
        finally:
            os.write(writer, b"!")
            os._exit(code)
    os.close(writer)
    wrong = [key for _ in range(20) for key in keys if here.get(KIND, key) not in (key, None)]
    with os.fdopen(reader, "rb") as pipe:
        pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    assert wrong == []
    assert here.get(KIND, "child") == []
    wait_until(lambda: here.get(KIND, "k0") is None, timeout=PATIENCE, what="the child's word")


def test_behaviour_15__preload(any_server: Server, gunicorn: Callable[..., Gunicorn]) -> None:
    """The cache was used before gunicorn (--preload) forked: each worker has sockets and threads of its own."""
    env = {"RCACHE_URL": any_server.url, "RCACHE_TIMEOUT": "2"}
    web = gunicorn("tests.twenty.preloaded:create_app()", workers=3, preload=True, env=env)
    seen: dict[int, dict[str, Any]] = {}

    def all_answered() -> bool:
        status, _, body = web.get("/")
        assert status == 200, web.log()
        answer = json.loads(body)
        seen[answer["pid"]] = answer
        return len(seen) == 3

    wait_until(all_answered, timeout=2 * PATIENCE, what="every worker has answered")
    assert {answer["value"] for answer in seen.values()} == {"loaded before the fork"}
    sockets = [port for answer in seen.values() for port in answer["sockets"]]
    assert sockets
    assert len(sockets) == len(set(sockets)), "a socket is in two processes"
    assert all(answer["threads"] <= 3 for answer in seen.values()), seen


GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, time, gevent
from tests.twenty.kit import KIND, cache_on
cache, loads = cache_on(sys.argv[1], l1_ttl=2, timeout=5), []
def loader():
    loads.append(1)
    time.sleep(0.3)
    return "loaded"
tasks = [gevent.spawn(cache.fetch, KIND, "k", loader) for _ in range(50)]
gevent.joinall(tasks, timeout=20, raise_error=True)
print(len(loads), *{task.value for task in tasks})
cache.close()
"""


@pytest.mark.race
@pytest.mark.filterwarnings("default")
def test_behaviour_15__gevent(any_server: Server) -> None:
    """Fifty greenlets, one load."""
    assert said(program(GEVENT, any_server.url)) == "1 loaded\n"


MANY = """
import gc, json, os, sys, threading, time
from flask import Flask
from flask_rcache import RCache
from tests.twenty.kit import KIND
def figures():
    gc.collect()
    return [threading.active_count(), len(os.listdir("/proc/self/fd"))]
def make(number):
    app = Flask("app")
    app.config.update(RCACHE_URL=sys.argv[1], RCACHE_TIMEOUT=5)
    RCache(app)
    if number % 20 == 0:
        cache = app.extensions["rcache"]
        cache.fetch(KIND, "k", lambda: "v")
        cache.close()
make(0)
before = figures()
for number in range(100):
    make(number)
deadline = time.monotonic() + 20
while any(now > then for now, then in zip(figures(), before)) and time.monotonic() < deadline:
    time.sleep(0.05)
print(json.dumps([before, figures()]))
"""


@pytest.mark.slow
def test_behaviour_15__many_apps(redis_server: Server) -> None:
    """A hundred made, some of them used, and forgotten: as many threads and descriptors as with one."""
    before, after = json.loads(said(program(MANY, redis_server.url)))
    assert [now <= then for now, then in zip(after, before, strict=True)] == [True, True], (before, after)


def test_behaviour_15__reload(any_server: Server, caches: Callable[..., CacheManager]) -> None:
    """Closed as before a reload and used again, by the same object and by a new one: the cache is as it was."""
    here = caches(any_server.url, l1_ttl=300)
    here.set(KIND, "k", "v")
    for cache in (here, caches(any_server.url, l1_ttl=300), here):
        here.close()
        assert cache.get(KIND, "k") == "v"
        assert cache.is_available
