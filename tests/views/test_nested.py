"""Calls that a view makes: the client's conditions are not theirs, and nobody waits for the rest of a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response, request, stream_with_context
from werkzeug.test import Client

from flask_rcache import CacheType, cache_response, cached
from tests.views.kit import PAGE, Counted, detail

CONDITIONS: list[dict[str, str]] = [{"If-None-Match": "*"}, {"Range": "bytes=0-3"}]
MENU = CacheType("menu", ttl=60)


# Conditions and ranges


def _flights_app(new_app: Any) -> Flask:
    app: Flask = new_app(PROPAGATE_EXCEPTIONS=False)

    @cache_response(MENU)
    def flights(carrier):
        return {"carrier": carrier, "flights": 7}

    @cached(CacheType.QUERY)
    def summary():
        return flights("AA").get_data(as_text=True)

    @app.get("/plain")
    def plain():
        return {"flights": flights("AA").get_json()["flights"]}

    @app.get("/summary")
    def summary_page():
        return summary()

    @app.get("/board")
    @cache_response(PAGE, unless=lambda req: "fresh" in req.args)
    def board():
        return {"flights": flights("AA").get_json()["flights"]}

    return app


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("path", ["/plain", "/board?fresh"])
@pytest.mark.parametrize("headers", CONDITIONS, ids=str)
def test_conditions__belong_to_the_view_that_the_request_is_for(new_app, path, headers, warm) -> None:
    """A view that calls a decorated function gets its whole answer, stored or not, whatever the client has."""
    client = _flights_app(new_app).test_client()
    if warm:
        assert client.get(path).json == {"flights": 7}
    response = client.get(path, headers=headers)
    assert (response.status_code, response.json) == (200, {"flights": 7})


@pytest.mark.parametrize("headers", CONDITIONS, ids=str)
def test_conditions__of_one_client_reach_no_value_that_others_get(new_app, headers) -> None:
    """What a cached function makes of a decorated one is the whole, whoever asked first."""
    client = _flights_app(new_app).test_client()
    client.get("/summary", headers=headers)
    assert '"flights":7' in client.get("/summary").text.replace(" ", "")


def test_conditions__of_a_head(new_app) -> None:
    """A HEAD that may not fill calls the view, and that its functions, as if it had no conditions."""
    client = _flights_app(new_app).test_client()
    client.get("/board")
    assert client.head("/board?x=1", headers={"If-None-Match": "*"}).status_code == 200


def test_conditions__of_the_request_are_obeyed_as_ever(new_app) -> None:
    """Those for a decorated view itself give a 304 and a 206, on a miss and on a hit."""
    client = _flights_app(new_app).test_client()
    for path in ("/board?1", "/board?2"):
        for _ in range(2):
            asked = {"If-None-Match": "*"} if path == "/board?1" else {"Range": "bytes=0-0"}
            assert client.get(path, headers=asked).status_code == (304 if path == "/board?1" else 206)


def test_conditions__parsed_before_the_view(new_app) -> None:
    """A `before_request` that has looked at a condition does not show it to the view, which answers in whole."""
    app = new_app()
    app.before_request(lambda: request.if_none_match and None)

    @app.get("/")
    @cache_response(PAGE)
    def page():
        if request.if_none_match.contains("v1"):
            return "", 304
        return "x", 200, {"ETag": '"v1"'}

    @app.after_request
    def seen(response):
        response.headers["X-Seen"] = str(request.if_none_match)
        return response

    client = app.test_client()
    answers = [client.get("/", headers={"If-None-Match": '"v1"'}) for _ in range(2)]
    assert [(each.status_code, each.headers["X-Cache"]) for each in answers] == [(304, "MISS"), (304, "HIT")]
    assert [each.headers["X-Seen"] for each in answers] == ['"v1"'] * 2


def test_etag__of_an_inner_answer_is_not_on_another_body(new_app) -> None:
    """A view that adds to a decorated function's response gets a tag of its own, made of what it sends."""
    app, body = new_app(), Counted()

    @cache_response(MENU)
    def inner():
        return "inner"

    @app.get("/")
    @cache_response(PAGE)
    def outer():
        response = inner()
        response.set_data(response.get_data() + body().encode())
        return response

    client = app.test_client()
    first = client.get("/")
    app.extensions["rcache"].invalidate_type(PAGE)
    second = client.get("/", headers={"If-None-Match": first.headers["ETag"]})
    assert (first.text, second.status_code, second.text) == ("inner1", 200, "inner2")
    assert client.get("/", headers={"If-None-Match": second.headers["ETag"]}).status_code == 304


# Waiting


def _menu_app(new_app: Any, url: str = "memory://", **config: Any) -> tuple[Flask, Callable[[], Response]]:
    app: Flask = new_app(url, **config)

    @cache_response(MENU, None, lambda req: "menu")
    def menu():
        return "menu"

    @app.get("/page")
    def page():
        return menu().get_data(as_text=True)

    return app, menu


def _timed(app: Flask) -> float:
    """Seconds that `/page` takes, asked by another thread, as by another client."""
    took: list[float] = []

    def ask() -> None:
        started = time.monotonic()
        assert app.test_client().get("/page").data == b"menu"
        took.append(time.monotonic() - started)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(30)
    (seconds,) = took
    return seconds


def test_returned__a_body_that_is_being_streamed_holds_nobody_up(new_app) -> None:
    """What it calls bypasses: the final headers are gone, and the body may take as long as its client likes."""
    app, menu = _menu_app(new_app, RCACHE_LOAD_TIMEOUT=30)
    said: list[Any] = []

    @app.get("/events")
    def events():
        def lines():
            part = menu()
            said.append((part.headers["X-Cache"], detail(part)))
            yield part.get_data(as_text=True)
            yield "the rest"

        return Response(stream_with_context(lines()))

    stream = app.test_client().get("/events", buffered=False)
    assert next(stream.iter_encoded()) == b"menu"
    assert [_timed(app) < 3 for _ in range(3)] == [True] * 3
    assert said == [("BYPASS", "CONTEXT")]
    stream.close()


def test_returned__one_environ_may_be_that_of_several_requests(new_app) -> None:
    """A middleware that tries one app after another passes one environ on: the second app's views are cached."""
    first, second = new_app(), _menu_app(new_app)[0]

    @second.get("/own")
    @cache_response(PAGE)
    def own():
        return "x"

    def either(environ: dict[str, Any], start_response: Any) -> Any:
        said: list[str] = []
        body = first.wsgi_app(environ, lambda status, *_: said.append(status))
        body.close()
        return second.wsgi_app(environ, start_response) if said[0].startswith("404") else body

    client = Client(either)
    assert [client.get("/own").headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]


@pytest.mark.race
@pytest.mark.parametrize("where", ["the same process", "another process"])
def test_returned__a_slow_request_does_not_keep_its_parts_to_itself(new_app, redis_server, where) -> None:
    """A result waits for the rest of its request: others in the process wait a moment, other processes for a lease."""
    url = "memory://" if where == "the same process" else redis_server.url
    app, menu = _menu_app(new_app, url, RCACHE_LOAD_TIMEOUT=30, RCACHE_LEASE=1)
    called, go_on = threading.Event(), threading.Event()

    @app.get("/slow")
    def slow():
        menu()
        called.set()
        assert go_on.wait(30)
        return "slow"

    asker = app if where == "the same process" else _menu_app(new_app, url, RCACHE_LOAD_TIMEOUT=30)[0]
    asker.test_client().get("/nothing")
    thread = threading.Thread(target=lambda: app.test_client().get("/slow"), daemon=True)
    thread.start()
    assert called.wait(10)
    took = _timed(asker)
    go_on.set()
    thread.join(10)
    assert took < (0.5 if where == "the same process" else 4)


@pytest.mark.race
def test_returned__a_task_in_a_request_context_does_not_hold_a_key(new_app, redis_server) -> None:
    """Nothing is ever finished there: its lease is good for what is left of it, and not renewed."""
    task, _ = _menu_app(new_app, redis_server.url, RCACHE_LOAD_TIMEOUT=30, RCACHE_LEASE=1)
    web, _ = _menu_app(new_app, redis_server.url, RCACHE_LOAD_TIMEOUT=30, RCACHE_LEASE=1)
    with task.test_request_context("/page"):
        task.view_functions["page"]()
        assert _timed(web) < 4
