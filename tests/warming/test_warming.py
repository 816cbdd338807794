"""Warming in one process: what is due, what a task does to others, and what operators see."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import click
import pytest
from flask import Flask, request
from flask.cli import FlaskGroup, ScriptInfo

from flask_rcache import CacheType, ConfigError, RCache, cache_response, cached, current_cache
from flask_rcache.warming import Warmer, warmer_of
from tests.admin.tokens import SECRET, bearer
from tests.processes import wait_until
from tests.servers import Server


class Site:
    """An app with tasks; its workers begin at once, and it is closed at the end."""

    def __init__(self, url: str, **config: Any) -> None:
        self.flask = Flask("site")
        self.flask.config.update(RCACHE_URL=url, RCACHE_WARMING_URL="http://localhost", RCACHE_TIMEOUT=2.0, **config)
        self.rcache = RCache(self.flask)
        self.runs: list[str] = []

    @property
    def warmer(self) -> Warmer:
        warmer = warmer_of(self.flask)
        assert warmer is not None
        return warmer

    def figures(self, name: str) -> dict[str, Any]:
        return next(task for task in self.warmer.report() if task["name"] == name)

    def noted(self, name: str) -> Callable[[], None]:
        return lambda: self.runs.append(name)


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses of a thread that looks are seconds; these tests have less."""
    monkeypatch.setattr("flask_rcache.warming.warmer._FIRST_PAUSE", 0.05)
    monkeypatch.setattr("flask_rcache.warming.warmer._TICK", 0.05)


@pytest.fixture(params=["memory", "redis"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """On each store."""
    server: Server | None = request.getfixturevalue("redis_server") if request.param == "redis" else None
    made = Site("memory://" if server is None else server.url)
    yield made
    if warmer_of(made.flask) is not None:
        made.warmer.close()
    made.flask.extensions["rcache"].close()


def test_task__runs_at_start_and_then_regularly(site: Site) -> None:
    """In an app context, without any request."""
    site.rcache.warming.register_task("often", site.noted("often"), every=0.2)
    site.rcache.warming.register_task("once", lambda: current_cache.set("query", "a", 1), every=timedelta(hours=1))
    wait_until(lambda: site.runs.count("often") >= 3, timeout=30, what="three runs")
    figures = site.figures("often")
    assert figures["execution_count"] == figures["success_count"] >= 2
    assert figures["failure_count"] == 0
    assert figures["last_run"] is not None
    once = site.figures("once")
    assert (once["execution_count"], once["every"], once["critical"]) == (1, 3600.0, False)
    with site.flask.app_context():
        assert current_cache.get("query", "a") == 1


def test_task__registered_before_and_after_the_app(redis_server: Server) -> None:
    """A factory's extension has tasks before it has apps."""
    rcache = RCache()
    runs: list[str] = []
    rcache.warming.register_task("before", lambda: runs.append("before"))
    app = Flask("late")
    app.config["RCACHE_URL"] = redis_server.url
    rcache.init_app(app)
    rcache.warming.register_task("after", lambda: runs.append("after"))
    wait_until(lambda: sorted(runs) == ["after", "before"], timeout=30, what="both")
    app.extensions["rcache"].close()


def test_task__runs_again_when_the_cache_was_emptied(site: Site) -> None:
    """After `clear_all`, long before it is due."""
    site.rcache.warming.register_task("fill", site.noted("fill"), every=3600)
    wait_until(lambda: len(site.runs) == 1, timeout=30, what="the first run")
    wait_until(lambda: not site.figures("fill")["running"], timeout=30, what="its end")
    with site.flask.app_context():
        current_cache.clear_all()
    site.warmer._wake.set()
    wait_until(lambda: len(site.runs) == 2, timeout=30, what="the second run")


def test_task__runs_again_after_a_flush(redis_server: Server) -> None:
    """The epoch is new: noticed by the heartbeat, without a question of its own."""
    site = Site(redis_server.url)
    site.rcache.warming.register_task("fill", site.noted("fill"), every=3600)
    wait_until(lambda: len(site.runs) == 1, timeout=30, what="the first run")
    wait_until(lambda: not site.figures("fill")["running"], timeout=30, what="its end")
    redis_server.client().flushall()
    wait_until(lambda: len(site.runs) == 2, timeout=30, what="the second run")
    site.warmer.close()
    site.flask.extensions["rcache"].close()


@pytest.mark.race
def test_task__of_another_version_is_due_once(redis_server: Server) -> None:
    """After a deploy each version runs; old and new do not run in turn while both are there."""
    runs: list[str] = []

    def old() -> None:
        runs.append("old")

    def new() -> None:
        runs.append("new")
        runs.append("new")

    sites = []
    for task in (old, new, old, new):
        site = Site(redis_server.url)
        site.rcache.warming.register_task("fill", task, every=3600)
        sites.append(site)
        wait_until(lambda: {"old", "new"} >= set(runs) != set(), timeout=30, what="a run")
        time.sleep(0.4)  # in which a second run would come
    assert sorted(runs) == ["new", "new", "old"]
    for site in sites:
        site.warmer.close()
        site.flask.extensions["rcache"].close()


def test_task__that_hangs_delays_no_other(site: Site) -> None:
    """Nor any request; it is shown as running."""
    release = threading.Event()
    site.rcache.warming.register_task("hangs", lambda: release.wait(30), every=0.1)
    site.rcache.warming.register_task("goes", site.noted("goes"), every=0.1)
    wait_until(lambda: len(site.runs) >= 3, timeout=30, what="runs of the other")
    assert site.figures("hangs")["running"]
    assert site.figures("hangs")["execution_count"] == 0
    release.set()
    wait_until(lambda: site.figures("hangs")["execution_count"] >= 1, timeout=30, what="its end")


def test_task__that_fails_is_a_warning_only_when_critical(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Others are logged for debugging; the figures have both, with the error."""
    caplog.set_level(logging.DEBUG, "flask_rcache")

    def fail() -> None:
        raise RuntimeError("no database")

    site.rcache.warming.register_task("critical", fail, critical=True)
    site.rcache.warming.register_task("other", fail)
    for name in ("critical", "other"):
        assert done(site, name)["failure_count"] == 1
        assert site.figures(name)["error"] == "RuntimeError: no database"
        assert site.figures(name)["last_success"] is None
    levels = {each.args[0]: each.levelno for each in caplog.records if "warming task" in each.msg and each.args}  # type: ignore[index]
    assert levels == {"critical": logging.WARNING, "other": logging.DEBUG}


def test_task__most_costly_first(site: Site) -> None:
    """Once it is known what each costs."""
    for name, seconds in (("cheap", 0.0), ("dear", 0.3), ("middle", 0.1)):

        def task(name: str = name, seconds: float = seconds) -> None:
            site.runs.append(name)
            time.sleep(seconds)

        site.rcache.warming.register_task(name, task, every=3600)
    for name in ("cheap", "dear", "middle"):
        done(site, name)
    wait_until(lambda: not site.warmer._running, timeout=30, what="their ends")
    site.runs.clear()
    with site.flask.app_context():  # they are due again, and what each cost is known here
        states, _ = site.warmer._states()
        for task_, state, identity in states:
            state.versions = {}
            assert site.warmer._store(task_, state, identity)
    site.warmer._wake.set()
    wait_until(lambda: len(site.runs) == 3, timeout=30, what="the second runs")
    assert site.runs == ["dear", "middle", "cheap"]


def test_start__of_the_app_takes_no_longer(site: Site) -> None:
    """A task of seconds is registered in milliseconds."""
    began = time.monotonic()
    site.rcache.warming.register_task("slow", lambda: time.sleep(3))
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda warming: warming.register_task("", print), "non-empty string, not ''"),
        (lambda warming: warming.register_task("a", 3), "must be a function, not 3"),
        (lambda warming: warming.register_task("a", print, every=0), "every of warming task 'a'"),
        (lambda warming: [warming.register_task("a", print) for _ in range(2)], "there is a warming task 'a' already"),
        (lambda warming: warming.register_view(""), "an endpoint, a URL or a function of URLs"),
        (lambda warming: warming.register_view("/a", arguments=[{}]), "belong to an endpoint, not to a URL"),
    ],
)
def test_registering__mistakes_are_named(register: Any, message: str) -> None:
    """At once, with the remedy."""
    with pytest.raises(ConfigError, match=message):
        register(RCache().warming)


def test_registering__async_function_is_refused() -> None:
    """Nobody would await it."""

    async def task() -> None:
        raise AssertionError

    with pytest.raises(ConfigError, match=r"asyncio\.run"):
        RCache().warming.register_task("a", task)


# Pages


def page_site(site: Site) -> None:
    @site.flask.get("/page/<int:number>")
    @cache_response(CacheType.PRODUCT, vary=["Accept-Language"])
    def page(number: int) -> str:
        site.runs.append(f"{number}{request.headers.get('Accept-Language', '')}{request.query_string.decode()}")
        return str(number)

    @site.flask.get("/broken")
    def broken() -> tuple[str, int]:
        return "broken", 500

    @site.flask.get("/plain")
    def plain() -> str:
        return "plain"


def done(site: Site, name: str) -> dict[str, Any]:
    wait_until(lambda: site.figures(name)["execution_count"] >= 1, timeout=30, what=f"a run of {name}")
    return site.figures(name)


def test_view__is_a_hit_for_the_first_visitor(site: Site) -> None:
    """An endpoint with arguments, a URL with a query, URLs of a generator; each variant."""
    page_site(site)
    warming = site.rcache.warming
    warming.register_view("page", arguments=lambda: ({"number": number} for number in (1, 2)))
    warming.register_view("/page/3?q=1", headers=[{"Accept-Language": "de"}, {"Accept-Language": "en"}])

    def popular() -> Iterator[str]:
        yield "/page/4"
        yield "http://localhost/page/5"

    warming.register_view(popular, name="popular")
    for name in ("page", "/page/3?q=1", "popular"):
        assert done(site, name)["error"] is None
    client = site.flask.test_client()
    for path in ("/page/1", "/page/2", "/page/4", "/page/5"):
        assert client.get(path).headers["X-Cache"] == "HIT", path
    for language in ("de", "en"):
        assert client.get("/page/3?q=1", headers={"Accept-Language": language}).headers["X-Cache"] == "HIT"
    assert sorted(site.runs) == ["1", "2", "3deq=1", "3enq=1", "4", "5"]


def test_view__is_loaded_anew_before_it_expires(site: Site) -> None:
    """One whose answer holds longer than the next run is left alone."""
    page_site(site)
    page_type = CacheType("brief", ttl=1)

    @site.flask.get("/brief")
    @cache_response(page_type)
    def brief() -> str:
        site.runs.append("brief")
        return "brief"

    site.rcache.warming.register_view("/brief", every=0.6)
    site.rcache.warming.register_view("/page/1", every=0.6)
    wait_until(lambda: site.runs.count("brief") >= 3, timeout=15, what="three loads")
    assert site.runs.count("1") == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [("/broken", "answered 500"), ("/plain", "is not cached"), ("/nowhere", "answered 404"), ("nobody", "nobody")],
)
def test_view__that_cannot_be_warmed_is_a_failure(site: Site, target: str, message: str) -> None:
    """The figures say which page, and why."""
    page_site(site)
    site.rcache.warming.register_view(target)
    figures = done(site, target)
    assert figures["failure_count"] == 1
    assert message in figures["error"]


def test_view__without_an_address_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """A page is cached for one host: which one is a setting."""
    app = Flask("site")
    rcache = RCache(app)
    rcache.warming.register_view("/a")
    rcache.warming.register_view("/b")
    warmer = warmer_of(app)
    assert warmer is not None
    wait_until(lambda: all(task["execution_count"] for task in warmer.report()), timeout=30, what="both")
    assert sum("RCACHE_WARMING_URL" in each.getMessage() for each in caplog.records) == 1
    warmer.close()


def test_view__a_client_cannot_have_a_page_loaded_anew(site: Site) -> None:
    """What a warming request says of itself is not in a header."""
    page_site(site)
    client = site.flask.test_client()
    client.get("/page/1")
    answer = client.get("/page/1", headers={"Cache-Control": "no-cache", "Flask-Rcache-Reloading": "1"})
    assert answer.headers["X-Cache"] == "HIT"


# Where tasks run


def test_worker__none_in_tests_nor_when_switched_off() -> None:
    """`TESTING`, `RCACHE_WARMING=false` and `RCACHE_ENABLED=false`."""
    for config in ({"TESTING": True}, {"RCACHE_WARMING": False}, {"RCACHE_ENABLED": False}):
        app = Flask("site")
        app.config.update(config)
        rcache = RCache(app)
        rcache.warming.register_task("a", lambda: None)
        warmer = warmer_of(app)
        assert warmer is not None
        assert warmer._thread is None
        app.test_client().get("/")
        assert warmer._thread is None


@pytest.mark.parametrize(("command", "runs"), [("run", True), ("db", False)])
def test_worker__none_while_a_command_runs(command: str, runs: bool) -> None:
    """`flask db upgrade` loads the app as well, and must not read half a schema; `flask run` serves it."""
    root = click.Context(FlaskGroup(), info_name="flask", obj=ScriptInfo())
    with root, click.Context(click.Command(command), parent=root, info_name=command):
        app = Flask("site")
        RCache(app).warming.register_task("a", lambda: None)
        warmer = warmer_of(app)
        assert warmer is not None
        assert (warmer._thread is not None) is runs
        warmer.close()


def test_worker__goes_with_its_app() -> None:
    """An app that is dropped leaves no thread behind."""
    before = threading.active_count()
    for _ in range(20):
        RCache(Flask("site")).warming.register_task("a", lambda: None)
    gc.collect()
    wait_until(lambda: threading.active_count() <= before + 1, timeout=30, what="the end of the threads")


# Operators


def test_admin__shows_and_starts_tasks(redis_server: Server) -> None:
    """`GET /warm` has the figures of all processes, `POST /warm` runs tasks now, in the background."""
    site = Site(redis_server.url, RCACHE_ADMIN_JWT_KEY=SECRET, RCACHE_WARMING=False)
    site.rcache.warming.register_task("one", site.noted("one"), critical=True, every=60)
    site.rcache.warming.register_task("two", site.noted("two"))
    client = site.flask.test_client()
    body = client.get("/api/cache/warm", headers=bearer()).get_json()
    assert body["status"] == "success"
    assert body["tasks"][0] == {
        "name": "one",
        "critical": True,
        "every": 60.0,
        "execution_count": 0,
        "success_count": 0,
        "failure_count": 0,
        "last_run": None,
        "last_success": None,
        "duration": 0.0,
        "running": False,
        "error": None,
    }
    answer = client.post("/api/cache/warm", headers=bearer(), json={"names": ["two"]})
    assert (answer.status_code, answer.get_json()) == (202, {"status": "accepted", "started": ["two"], "running": []})
    wait_until(lambda: site.figures("two")["execution_count"] == 1, timeout=30, what="its run")
    wait_until(lambda: not site.warmer._running, timeout=30, what="its end")
    answer = client.post("/api/cache/warm", headers=bearer())
    assert answer.status_code == 202
    wait_until(lambda: sorted(site.runs) == ["one", "two", "two"], timeout=30, what="all runs")
    answer = client.post("/api/cache/warm", headers=bearer(), json={"names": ["three"]})
    assert (answer.status_code, answer.get_json()["known"]) == (404, ["one", "two"])
    assert client.post("/api/cache/warm", headers=bearer(), json={"names": "two"}).status_code == 400
    assert client.get("/api/cache/warm").status_code == 401
    site.flask.extensions["rcache"].close()


def test_admin__without_tasks() -> None:
    """An app that warms nothing has nothing to show."""
    app = Flask("site")
    app.config["RCACHE_ADMIN_JWT_KEY"] = SECRET
    RCache(app)
    client = app.test_client()
    assert client.get("/api/cache/warm", headers=bearer()).get_json() == {"status": "success", "tasks": []}
    assert client.post("/api/cache/warm", headers=bearer()).get_json()["started"] == []
    assert client.post("/api/cache/warm", headers=bearer(), json={"names": ["a"]}).status_code == 404


def test_command__runs_and_lists(redis_server: Server) -> None:
    """`flask cache warm [NAME…]`, its failures, and `--list`."""
    site = Site(redis_server.url, TESTING=True)
    site.rcache.warming.register_task("good", site.noted("good"))

    def bad() -> None:
        raise RuntimeError("no database")

    site.rcache.warming.register_task("bad", bad)
    runner = site.flask.test_cli_runner()
    result = runner.invoke(args=["cache", "warm", "good"])
    assert (result.exit_code, result.output) == (0, "good: done\n")
    result = runner.invoke(args=["cache", "warm"])
    assert result.exit_code == 1
    assert "1 of 2 tasks failed; 'bad': RuntimeError: no database" in result.output
    assert site.runs == ["good", "good"]
    result = runner.invoke(args=["cache", "warm", "--list"])
    assert result.exit_code == 0
    assert [line.split()[:4] for line in result.output.splitlines()[1:]] == [
        ["good", "5m", "2", "0"],
        ["bad", "5m", "1", "1"],
    ]
    result = runner.invoke(args=["cache", "warm", "xyz"])
    assert result.exit_code == 2
    assert "there is no warming task 'xyz'; known: bad, good" in result.output
    site.flask.extensions["rcache"].close()


def test_command__without_tasks() -> None:
    """Says so."""
    app = Flask("site")
    RCache(app)
    assert "No warming task is registered." in app.test_cli_runner().invoke(args=["cache", "warm"]).output


def test_task__values_it_loads_are_there_for_requests(site: Site) -> None:
    """What it is for."""
    loads: list[int] = []

    @cached(CacheType.ANALYTICS)
    def revenue() -> int:
        loads.append(1)
        return 42

    site.rcache.warming.register_task("revenue", lambda: revenue())
    done(site, "revenue")
    with site.flask.test_request_context("/"):
        assert revenue() == 42
    assert loads == [1]
