"""The pytest plugin: what its fixtures give, what its assertions say, and the suite in the documentation."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response

import flask_rcache.testing as plugin
from flask_rcache import MISSING, CacheType, RCache, cache_response, cached, current_cache, invalidate_cache_type
from flask_rcache.extension import store_of
from flask_rcache.stores.memory import MemoryStore
from flask_rcache.testing import (
    Chaos,
    Clock,
    IsolatedCache,
    Recorded,
    assert_bypass,
    assert_hit,
    assert_miss,
    assert_stale,
    rcache,
    rcache_chaos,
    rcache_clock,
    rcache_events,
)
from tests.processes import ROOT, free_port

__all__ = ["rcache", "rcache_chaos", "rcache_clock", "rcache_events"]  # fixtures of this file

PAGE = CacheType("page", ttl=60, stale_if_error=60)


@pytest.fixture(autouse=True)
def _loaded() -> Iterator[None]:
    """The plugin is loaded while a test of this file runs."""
    plugin.pytest_configure()
    yield
    plugin.pytest_unconfigure()


def shop(**config: Any) -> Flask:
    app = Flask("shop")
    app.config.update({"RCACHE_URL": f"redis://127.0.0.1:{free_port()}/0", "RCACHE_TIMEOUT": 0.2, **config})
    RCache(app, types=[PAGE])

    @app.get("/page")
    @cache_response(PAGE)
    def page() -> str:
        return f"page {time.monotonic_ns()}"

    @app.get("/cookie")
    @cache_response(PAGE)
    def cookie() -> Response:
        response = Response("cookie")
        response.set_cookie("a", "b")
        return response

    @app.get("/plain")
    def plain() -> str:
        return "plain"

    return app


def test_rcache__every_app_has_an_empty_cache_in_memory(rcache: IsolatedCache) -> None:
    """No server is asked: the URL leads nowhere; two apps share nothing."""
    first, second = shop().test_client(), shop().test_client()
    assert_miss(first.get("/page"), stored=True)
    assert_hit(first.get("/page"))
    assert_miss(second.get("/page"))


def test_rcache__is_given_back(request: pytest.FixtureRequest) -> None:
    """An app that lives longer has its own store before and after, and the test's own meanwhile."""
    app = shop(RCACHE_URL="memory://")
    client = app.test_client()
    client.get("/page")
    isolated = plugin.rcache.__wrapped__()  # type: ignore[attr-defined]  # the function behind the fixture
    next(isolated)
    assert_miss(client.get("/page"))
    assert_hit(client.get("/page"))
    assert list(isolated) == []
    assert_hit(client.get("/page"))  # of before
    with app.app_context():
        assert current_cache.invalidate_type(PAGE) == 1


def test_plugin__leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unloaded, apps have plain stores."""
    plugin.pytest_unconfigure()
    app = shop(RCACHE_URL="memory://")
    assert type(app.extensions["rcache"].engine.store) is MemoryStore
    assert store_of is plugin._store_of


def test_clock__lets_entries_expire(rcache_clock: Clock) -> None:
    """Frozen, nothing ages by itself; a tick ages everything, `Age` included."""
    client = shop().test_client()
    client.get("/page")
    assert client.get("/page").headers["Age"] == "0"
    rcache_clock.tick(timedelta(seconds=59.5))
    response = client.get("/page")
    assert_hit(response)
    assert response.headers["Age"] == "59"
    rcache_clock.tick(1)
    assert_miss(client.get("/page"))
    with pytest.raises(ValueError, match="never goes back"):
        rcache_clock.tick(-1)
    assert rcache_clock() == rcache_clock()


def test_clock__of_values(rcache: IsolatedCache) -> None:
    """Values expire as pages do; a clock that is not frozen runs, and is moved on as well."""
    app = shop()

    @cached(PAGE)
    def value() -> int:
        return time.monotonic_ns()

    with app.app_context():
        first = value()
        assert value() == first
        rcache.tick(61)
        assert value() != first
    before = rcache.clock()
    assert rcache.clock() >= before
    while rcache.clock() == before:
        pass


def test_events__are_those_of_the_test(rcache: IsolatedCache, rcache_events: Recorded) -> None:
    """In order, by kind, with the reason of each miss; nothing any more after the end."""
    app = shop()
    client = app.test_client()
    for _ in range(2):
        client.get("/page")
    with app.app_context():
        invalidate_cache_type(PAGE)
    client.get("/page")
    assert [kind for kind, _ in rcache_events.all] == ["misses", "stored", "hits", "invalidations", "misses", "stored"]
    assert [event.reason for event in rcache_events.misses] == ["absent"] * 2
    assert (len(rcache_events.hits), len(rcache_events.stored), len(rcache_events.stale)) == (1, 2, 0)
    assert rcache_events.invalidations[0].names == ("page",)
    with pytest.raises(ValueError, match="none of 'hit'"):
        rcache_events.of("hit")
    rcache_events.clear()
    rcache_events.stop()
    client.get("/page")
    assert rcache_events.all == []


def test_chaos__fails(rcache_chaos: Chaos, rcache_events: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    """Requests are answered by their views, values by their loaders; the log says so once, and nothing raises."""
    app = shop()
    client = app.test_client()
    client.get("/page")
    rcache_chaos.fail()
    for _ in range(3):
        assert_miss(client.get("/page"))
    with app.app_context():
        assert not current_cache.is_available
        assert current_cache.get(PAGE, "k", MISSING) is MISSING
        assert not current_cache.set(PAGE, "k", 1)
        assert current_cache.fetch(PAGE, "k", lambda: 2) == 2
        assert current_cache.incr(PAGE, "n") == 1
        assert current_cache.overview()["store"]["location"] == "memory://"
        assert invalidate_cache_type(PAGE).journalled
        assert current_cache.stats()["errors"] >= 6
    assert len(rcache_events.errors) >= 6
    assert len([record for record in caplog.records if "Redis is unavailable" in record.getMessage()]) == 1
    rcache_chaos.heal()
    assert_miss(client.get("/page"))  # what was invalidated meanwhile
    assert_hit(client.get("/page"))


def test_chaos__keeps_what_was_not_invalidated(rcache_chaos: Chaos) -> None:
    """Back again, entries of before are served: the server was away, and not restarted."""
    client = shop().test_client()
    client.get("/page")
    rcache_chaos.fail()
    client.get("/page")
    rcache_chaos.heal()
    assert_hit(client.get("/page"))


def test_chaos__hangs_for_one_request(rcache_chaos: Chaos) -> None:
    """The first question waits for RCACHE_TIMEOUT; those after it fail at once."""
    client = shop().test_client()
    client.get("/page")
    rcache_chaos.hang()
    began = time.monotonic()
    client.get("/page")
    assert time.monotonic() - began >= 0.2
    assert_miss(client.get("/page"))


def test_chaos__stale_if_error(rcache: IsolatedCache, rcache_clock: Clock) -> None:
    """What may be served stale is, by the clock of the test."""
    app = Flask("stale")
    app.config.update(RCACHE_URL="memory://")
    RCache(app)
    fails = [False]

    @app.get("/")
    @cache_response(PAGE)
    def index() -> tuple[str, int]:
        return ("no", 500) if fails[0] else ("yes", 200)

    client = app.test_client()
    client.get("/")
    rcache_clock.tick(61)
    fails[0] = True
    assert_stale(client.get("/"))


def test_assertions__say_why(rcache: IsolatedCache) -> None:
    """What was expected, what it is, the reason with its sentence; and what to look at without `X-Cache`."""
    client = shop().test_client()
    cookie, token = client.get("/cookie"), client.get("/page", headers={"Authorization": "Bearer x"})
    assert_miss(cookie, stored=False)
    assert_bypass(token, "AUTHORIZATION")
    for check, says in (
        (lambda: assert_hit(cookie), r"HIT expected, and it is a MISS: rcache; .*detail=SET-COOKIE\. The response"),
        (lambda: assert_miss(cookie, stored=True), r"was to be stored, and was not: .*SET-COOKIE"),
        (lambda: assert_miss(client.get("/page"), stored=False), r"was not to be stored, and was"),
        (lambda: assert_bypass(token, "SESSION"), r"the reason was to be SESSION: .*AUTHORIZATION"),
        (lambda: assert_stale(token), r"STALE expected, and it is a BYPASS"),
        (lambda: assert_hit(client.get("/plain")), r"no X-Cache.*status 200"),
    ):
        with pytest.raises(pytest.fail.Exception, match=says):
            check()


@pytest.mark.slow
def test_documentation__its_suite_passes(tmp_path: Path) -> None:
    """The suite on the page about testing, as it stands there, in a run of its own; its Redis is nowhere."""
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    found = re.findall(r"<!-- not run: a suite of its own, (\S+);[^\n]*\n```python\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in found] == ["conftest.py", "test_shop.py"]
    for name, text in found:
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path)]
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{found[1][1].count('def test_')} passed" in ran.stdout
