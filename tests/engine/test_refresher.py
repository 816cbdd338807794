"""Background refreshes: who is refreshed, when a key backs off, and an end that never hangs."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from contextlib import contextmanager
from typing import Any

import pytest

from flask_rcache import CacheManager, CacheType, get_cache_stats
from flask_rcache.config.settings import Settings
from flask_rcache.engine.refresher import Refresher
from flask_rcache.model.keys import Names
from flask_rcache.stores.memory import MemoryStore
from tests.views.kit import make_app

SECOND = 1_000_000


class Clock:
    """A store's clock in µs that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 10**15

    def __call__(self) -> int:
        return self.now


def until(condition) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    return bool(condition())


def cache_on(clock: Clock) -> CacheManager:
    return CacheManager(Settings(strict=True), MemoryStore(Names(), max_bytes=10**6, clock=clock))


def test_fetch__a_stale_value_is_served_and_refreshed_once():
    """Past its ttl the old value is served at once, one refresh runs, and then the new one is served."""
    clock, kind = Clock(), CacheType("kind", ttl=10, stale_while_revalidate=60)
    cache = cache_on(clock)
    gate, loads = threading.Event(), []

    def loader() -> int:
        loads.append(1)
        if len(loads) > 1:
            gate.wait(10)
        return len(loads)

    assert cache.fetch(kind, "k", loader) == 1
    clock.now += 11 * SECOND
    assert [cache.fetch(kind, "k", loader) for _ in range(20)] == [1] * 20
    gate.set()
    assert until(lambda: cache.stats()["stored"] == 2)
    assert cache.fetch(kind, "k", loader) == 2
    assert (len(loads), cache.stats()["refreshes"], cache.stats()["stale"]) == (2, 1, 20)


def test_fetch__a_refresh_that_an_invalidation_overtook_is_not_stored():
    """The refresh began before the invalidation, so its value is as old as that (FACTS, behaviour 1)."""
    clock, kind = Clock(), CacheType("kind", ttl=10, stale_while_revalidate=60)
    cache = cache_on(clock)
    began, gate, loads = threading.Event(), threading.Event(), []

    def loader() -> int:
        loads.append(1)
        if len(loads) == 2:
            began.set()
            gate.wait(10)
        return len(loads)

    cache.fetch(kind, "k", loader)
    clock.now += 11 * SECOND
    cache.fetch(kind, "k", loader)
    assert began.wait(5)
    cache.invalidate_type(kind)
    gate.set()
    assert until(lambda: cache.stats()["refused"] == 1)
    assert cache.fetch(kind, "k", loader) == 3


@pytest.mark.parametrize("shape", ["function", "lambda", "object", "partial"])
def test_afetch__is_refreshed_whatever_the_loader_is(shape):
    """What gives a coroutine when it is called is awaited in the background too."""
    clock, kind = Clock(), CacheType("kind", ttl=10, stale_while_revalidate=60)
    cache, loads = cache_on(clock), []

    async def load() -> int:
        loads.append(1)
        return len(loads)

    class Loader:
        async def __call__(self) -> int:
            return await load()

    loader: Any = {"function": load, "lambda": lambda: load(), "object": Loader(), "partial": functools.partial(load)}[
        shape
    ]
    assert asyncio.run(cache.afetch(kind, "k", loader)) == 1
    clock.now += 11 * SECOND
    assert asyncio.run(cache.afetch(kind, "k", loader)) == 1
    assert until(lambda: cache.stats()["stored"] == 2)
    assert asyncio.run(cache.afetch(kind, "k", loader)) == 2


def test_fetch__a_refresh_that_cannot_begin_gives_its_load_up():
    """Where the app's context cannot be entered, a reader past the window loads for itself at once."""
    clock, kind = Clock(), CacheType("kind", ttl=10, stale_while_revalidate=60)
    cache = cache_on(clock)
    cache.fetch(kind, "k", lambda: 1)
    clock.now += 11 * SECOND

    @contextmanager
    def broken():
        if clock.now:
            raise RuntimeError("somebody's receiver of appcontext_pushed")
        yield

    cache.engine.refresher.context = broken
    assert cache.fetch(kind, "k", lambda: 2) == 1
    assert until(lambda: not cache.engine.refresher._busy)
    clock.now += 100 * SECOND
    before = time.monotonic()
    assert cache.fetch(kind, "k", lambda: 3) == 3
    assert time.monotonic() - before < 2


def test_fetch__early_refresh_comes_before_the_end():
    """With a large beta and a costly load a fresh value is refreshed before it expires."""
    clock, kind = Clock(), CacheType("kind", ttl=10, early_refresh=100)
    cache = cache_on(clock)
    loads: list[int] = []

    def loader() -> int:
        loads.append(1)
        threading.Event().wait(0.02)
        return len(loads)

    cache.fetch(kind, "k", loader)
    clock.now += 9_900_000
    assert until(lambda: cache.fetch(kind, "k", loader) == 2)


def test_policy__adaptive_and_jitter():
    """The cost of a load chooses the ttl between its bounds, and jitter only shortens it."""
    cache = cache_on(Clock())
    adaptive = cache.engine.policies.policy(CacheType("kind", adaptive_ttl=(30, 90)))
    assert [round(adaptive.lifetime(cost, 0.5)) for cost in (0.001, 0.1, 1, 10, 100)] == [30, 50, 70, 90, 90]
    assert cache.engine.policies.policy(CacheType("kind", adaptive_ttl=(30, 90)), 5).lifetime(100, 0) == 5
    jitter = cache.engine.policies.policy(CacheType("kind", ttl=100, jitter=0.2))
    assert [jitter.lifetime(0, draw) for draw in (0, 0.5, 1)] == pytest.approx([100, 90, 80])


def test_refresher__a_failing_key_backs_off_and_the_rest_goes_on(caplog):
    """A job that fails is logged and not tried again at once; another key is."""
    now = [0.0]
    refresher = Refresher(clock=lambda: now[0])

    def bad() -> bool:
        raise ValueError("no")

    assert refresher.submit("a", bad)
    assert until(lambda: not refresher._busy)
    assert "a could not be refreshed: ValueError: no" in caplog.text
    assert not refresher.submit("a", bad), "it backs off"
    assert refresher.submit("b", lambda: True)
    now[0] += 1.1
    assert until(lambda: not refresher._busy)
    assert refresher.submit("a", bad)
    assert until(lambda: not refresher._busy)
    now[0] += 1.1
    assert not refresher.submit("a", bad), "twice as long the second time"


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, KeyboardInterrupt])
def test_refresher__outlives_what_is_no_exception(error):
    """A cancelled task or an exit in a loader is a failure like others, and the worker goes on."""
    refresher = Refresher(workers=1)

    def bad() -> bool:
        raise error

    assert refresher.submit("a", bad)
    assert refresher.submit("b", lambda: True)
    assert until(lambda: not refresher._busy)
    assert not refresher.submit("a", bad), "it backs off"


def test_refresher__no_thread_left(monkeypatch):
    """Where the system gives no thread nothing is refreshed, and nothing is raised; later it is."""
    refresher = Refresher()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        assert [refresher.submit("a", lambda: True), refresher.submit("a", lambda: True)] == [False, False]
    done = threading.Event()
    assert refresher.submit("a", lambda: bool(done.set()))  # type: ignore[func-returns-value]
    assert done.wait(5)


def test_refresher__no_thread_beside_the_one_there_is(monkeypatch):
    """The worker that there is takes the job."""
    refresher = Refresher()
    gate, done = threading.Event(), threading.Event()
    assert refresher.submit("a", lambda: gate.wait(10))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        assert refresher.submit("b", lambda: bool(done.set()))  # type: ignore[func-returns-value]
    gate.set()
    assert done.wait(5)


def no_thread(thread):
    raise RuntimeError("can't start new thread")


def test_refresher__closing_waits_for_nobody():
    """A refresh that hangs holds up neither the end nor what comes after it."""
    gate = threading.Event()
    refresher = Refresher(workers=1)
    assert refresher.submit("a", lambda: gate.wait(10))
    assert refresher.submit("b", lambda: True)
    before = time.monotonic()
    refresher.close()
    assert time.monotonic() - before < 3
    assert until(lambda: "b" not in refresher._busy)
    gate.set()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_view__is_refreshed_by_a_request_without_the_callers_secrets(kind):
    """The background's request has what is in the key and nothing else; callers get the stale answer meanwhile."""
    from flask import request

    from flask_rcache import cache_response, unobserved

    page = CacheType("page", ttl=0.05, stale_while_revalidate=60)
    app, seen = make_app(), []

    def body():
        with unobserved():
            seen.append(dict(request.headers))
        return {"runs": len(seen)}

    async def async_body():
        return body()

    app.add_url_rule("/", view_func=cache_response(page)(body if kind == "sync" else async_body), endpoint="page")
    client = app.test_client()
    headers = {"User-Agent": "me", "X-Secret": "1", "Cookie": "theme=dark"}
    assert client.get("/", headers=headers).headers["X-Cache"] == "MISS"
    threading.Event().wait(0.1)
    answer = client.get("/", headers=headers)
    assert (answer.headers["X-Cache"], answer.json) == ("STALE", {"runs": 1})
    assert until(lambda: len(seen) == 2)
    assert not {"X-Secret", "Cookie"} & set(seen[1])
    assert seen[1]["User-Agent"] == "flask_rcache"
    with app.app_context():
        assert until(lambda: get_cache_stats()["stored"] == 2)
