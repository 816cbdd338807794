"""Scopes: what a request or an app context counts from, and that each is closed where it was opened."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, copy_current_request_context, stream_with_context

from flask_rcache import CacheType, cache_response, cached, current_cache
from flask_rcache.model.scope import scope_var
from tests.views.kit import PAGE, Counted, detail, make_app, manager, verdicts

NewApp = Callable[..., Flask]
VALUES = CacheType("values", ttl=60)


@pytest.fixture
def new_app() -> Iterator[NewApp]:
    """`new_app(url="memory://", **config)`: as `kit.make_app`, closed when the test ends."""
    made: list[Flask] = []

    def make(*args: Any, **config: Any) -> Flask:
        made.append(make_app(*args, **config))
        return made[-1]

    yield make
    for each in made:
        manager(each).close()


def _in_thread(work: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(20)
    return results[0]


# What a load may claim (rule R3)


def _page_app(new_app: NewApp) -> tuple[Flask, Counted]:
    app, body = new_app(), Counted()

    @app.get("/")
    @cache_response(PAGE, tags=["t"])
    def page():
        return body()

    return app, body


@pytest.mark.parametrize("by", ["the request", "another thread"])
def test_request__counts_from_before_anything_of_it_ran(new_app, by) -> None:
    """An invalidation in a `before_request`: what was read before it, or by it, may be old, so nothing is stored."""
    app, _ = _page_app(new_app)
    invalidate = [True]

    @app.before_request
    def write() -> None:
        if invalidate:
            if by == "the request":
                current_cache.invalidate_tags("t")
            else:
                _in_thread(lambda: manager(app).invalidate_tags("t"))

    client = app.test_client()
    first = client.get("/")
    assert (first.headers["X-Cache"], detail(first)) == ("MISS", "OVERTAKEN")
    invalidate.clear()
    assert verdicts(client, "/") == ["MISS", "HIT"]


def test_request__does_not_count_from_a_context_around_it(new_app) -> None:
    """As in a test that has pushed one: what happened between the two does not concern the request."""
    app, _ = _page_app(new_app)
    with app.app_context():
        for _ in range(2):
            current_cache.invalidate_tags("t")
            assert verdicts(app.test_client(), "/") == ["MISS", "HIT"]


def test_request__inside_another_has_a_scope_of_its_own(new_app) -> None:
    """A view that sends its app a request after an invalidation: that one's answer is stored."""
    app, _ = _page_app(new_app)

    @app.get("/outer")
    def outer():
        current_cache.invalidate_tags("t")
        return verdicts(app.test_client(), "/")

    assert app.test_client().get("/outer").json == ["MISS", "HIT"]


def test_request__of_two_apps_at_once(new_app) -> None:
    """A view that sends another app a request: each counts for its own cache."""
    (outer_app, _), (inner_app, _) = _page_app(new_app), _page_app(new_app)

    @outer_app.get("/outer")
    def outer():
        before = scope_var.get()
        answers = verdicts(inner_app.test_client(), "/")
        with inner_app.app_context():
            assert current_cache.set(VALUES, "a", 1)
            outer_app.view_functions["page"]()
        return answers if scope_var.get() is before else "another scope"

    assert outer_app.test_client().get("/outer").json == ["MISS", "HIT"]


def _copied(work: Callable[[], Any]) -> Any:
    return _in_thread(copy_current_request_context(work))


def _carried(work: Callable[[], Any]) -> Any:
    context = contextvars.copy_context()
    return _in_thread(lambda: context.run(work))


THREADS = [_copied, _carried]


@pytest.mark.parametrize("start", THREADS)
def test_request__counts_in_its_threads_too(new_app, start) -> None:
    """What a thread of a request loads is as old as what the request has read: not stored after an invalidation."""
    app, body = new_app(), Counted()

    @cached(VALUES, tags=["t"])
    def value():
        return body()

    @app.get("/<int:times>")
    def page(times):
        for _ in range(times):
            current_cache.invalidate_tags("t")
        return start(value)

    client = app.test_client()
    assert [client.get("/1").text, client.get("/0").text, client.get("/0").text] == ["1", "2", "2"]


@pytest.mark.parametrize("start", THREADS)
def test_request__depends_on_what_its_threads_read(new_app, start) -> None:
    """A page made of what a thread found in the cache goes when that goes."""
    app, body = new_app(), Counted()

    @cached(VALUES, tags=["part"])
    def part():
        return body()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return start(part)

    client = app.test_client()
    client.get("/")
    manager(app).invalidate_type(PAGE)  # the part stays, and the thread reads it
    assert [client.get("/").text for _ in range(2)] == ["1", "1"]
    manager(app).invalidate_tags("part")
    assert client.get("/").text == "2"


def test_request__in_a_context_for_tests_counts_from_its_beginning(new_app) -> None:
    """`test_request_context`, alone and inside an app context: a value read before an invalidation is not stored."""
    app = new_app()
    for around in (False, True):
        with app.app_context() if around else app.test_request_context("/"), app.test_request_context("/"):
            assert current_cache.fetch(VALUES, ("a", around), lambda: 1) == 1
            current_cache.invalidate_type(VALUES)
            current_cache.fetch(VALUES, ("b", around), lambda: 1)
            assert current_cache.get(VALUES, ("b", around), "nothing") == "nothing"
            current_cache.fresh()
            current_cache.fetch(VALUES, ("b", around), lambda: 1)
            assert current_cache.get(VALUES, ("b", around), "nothing") == 1


def test_context__a_value_set_counts_from_its_beginning(new_app) -> None:
    """Outside of requests: what was read before an invalidation is not stored by `set`; loads have their own moment."""
    app = new_app()
    with app.app_context():
        assert current_cache.set(VALUES, "a", 1)
        with app.app_context():  # one inside another is the same still: the value may be older than it
            current_cache.invalidate_type(VALUES)
        assert current_cache.set(VALUES, "a", 2) is False
        assert current_cache.fetch(VALUES, "b", lambda: 1) == 1
        assert current_cache.get(VALUES, "b") == 1
        current_cache.fresh()
        assert current_cache.set(VALUES, "a", 3)
    with app.app_context():
        assert current_cache.set(VALUES, "a", 4)


# Opened and closed


def _stream(app: Flask) -> None:
    response = app.test_client().get("/stream", buffered=False)
    parts = response.iter_encoded()
    next(parts)
    app.test_client().get("/")
    assert b"".join(parts) == b"b"
    response.close()


def _preserved(app: Flask) -> None:
    with app.test_client() as client:
        client.get("/")
        assert current_cache.get(VALUES, "none") is None


def _failing(app: Flask) -> None:
    with pytest.raises(ZeroDivisionError), app.app_context():
        raise ZeroDivisionError


def _nested(app: Flask) -> None:
    with app.app_context():
        outer = scope_var.get()
        for _ in range(3):
            with app.test_request_context("/"):
                app.view_functions["page"]()
                current_cache.get(VALUES, "none")
            assert scope_var.get() is outer
            app.test_client().get("/")
            with app.app_context():
                assert scope_var.get() is outer
            assert scope_var.get() is outer


def _pushed(app: Flask) -> None:
    context = app.app_context()
    context.push()
    assert scope_var.get() is not None
    context.pop()


KINDS: dict[str, Callable[[Flask], object]] = {
    "request": lambda app: app.test_client().get("/"),
    "async view": lambda app: app.test_client().get("/async"),
    "stream": _stream,
    "preserved by the client": _preserved,
    "failing": _failing,
    "contexts in contexts": _nested,
    "pushed by hand": _pushed,
    "command": lambda app: app.test_cli_runner().invoke(args=["nothing"]),
}


@pytest.mark.parametrize("run", KINDS.values(), ids=KINDS)
def test_scope__is_closed_where_it_was_opened(new_app, run) -> None:
    """Whatever a context was, afterwards there is none, and the next one begins anew."""
    app, _ = _page_app(new_app)
    app.cli.command("nothing")(lambda: None)

    @app.get("/async")
    @cache_response(PAGE)
    async def async_page():
        await asyncio.sleep(0)
        return "x"

    @app.get("/stream")
    def stream():
        def parts():
            yield "a"
            current_cache.get(VALUES, "none")
            yield "b"

        return Response(stream_with_context(parts()))

    assert scope_var.get() is None
    for _ in range(2):
        run(app)
        assert scope_var.get() is None


def test_scope__a_worker_thread_has_one_for_each_context(new_app) -> None:
    """A pool of threads that run job after job, each in an app context: none counts from the job before."""
    app = new_app()

    def jobs() -> list[bool]:
        stored = []
        for number in range(3):
            with app.app_context():
                stored.append(current_cache.set(VALUES, number, 1))
                current_cache.invalidate_type(VALUES)
        return stored

    assert _in_thread(jobs) == [True] * 3
