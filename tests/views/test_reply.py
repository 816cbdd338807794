"""The response of a hit: made in a shorter way, and the same for all that."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Response
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from flask_rcache import cache_response
from flask_rcache.model.entry import StoredResponse
from flask_rcache.views.reply import ready_class
from tests.views.kit import PAGE

STORED = StoredResponse("203 Odd", (("Content-Type", "text/x-own"), ("Link", "</a>"), ("Link", "</b>")), b"body")


class Counting(Response):
    """A response class of the app's own."""

    made = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        Counting.made += 1


class Closing(Response):
    """One that has something to close."""

    closed = 0

    def close(self) -> None:
        Closing.closed += 1
        super().close()


@pytest.mark.parametrize("base", [Response, Counting, Closing])
def test_ready__is_what_the_response_class_would_make(base: type[Response]) -> None:
    """Attribute by attribute, but for its own two; a class with a constructor of its own has that called."""
    lines = list(STORED.headers)
    made: Any = ready_class
    ready, plain = made(base)(lines, STORED), base([STORED.body], STORED.status, Headers(lines))
    own = {name: value for name, value in vars(ready).items() if not name.startswith("_ready")}
    assert own == vars(plain)
    assert (ready.status, ready.status_code, ready.get_data()) == ("203 Odd", 203, b"body")
    assert isinstance(ready, base)
    if base is Counting:
        assert Counting.made == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda response: response.headers.add("X-A", "1"),
        lambda response: response.set_data(b"other"),
        lambda response: setattr(response, "status_code", 204),
        lambda response: setattr(response, "response", iter([b"a", b"b"])),
        lambda response: response.call_on_close(lambda: None),
        lambda response: None,
    ],
    ids=["header", "body", "status", "stream", "to close", "nothing"],
)
def test_ready__what_others_change_is_sent(change: Any) -> None:
    """An `after_request` may do with it what it likes."""
    stored = STORED._replace(status="200 OK")
    lines = [*stored.headers, ("Content-Length", "4")]
    sent = []
    for response in (ready_class(Response)(list(lines), stored), Response([b"body"], "200 OK", Headers(lines))):
        change(response)
        body, status, headers = response.get_wsgi_response(EnvironBuilder("/").get_environ())
        sent.append((b"".join(body), status, sorted(headers)))
    assert sent[0] == sent[1]


def test_hit__closes_what_the_apps_class_closes(new_app) -> None:
    """A response class with a `close` of its own: it is called for a hit as for a miss."""
    app = new_app()
    app.response_class = Closing
    app.add_url_rule("/", view_func=cache_response(PAGE)(lambda: "x"), endpoint="x")
    closed = []
    for verdict in ("MISS", "HIT"):
        before = Closing.closed
        response = app.test_client().get("/")
        assert response.headers["X-Cache"] == verdict
        response.close()
        closed.append(Closing.closed - before)
    assert closed[0] == closed[1] > 0


@pytest.mark.parametrize("etag", [None, "v1"])
@pytest.mark.parametrize(
    ("field", "value"), [("Range", "bytes=0-3"), ("If-None-Match", '"other"'), ("If-Modified-Since", "x")]
)
def test_reply__a_stream_is_not_read_to_answer_a_condition(new_app, field, value, etag) -> None:
    """A client's condition or range makes nobody read a stream before it is sent: it may have no end."""
    app, made = new_app(), []

    @app.get("/")
    @cache_response(PAGE)
    def endless():
        def parts():
            for number in range(1000):
                made.append(number)
                yield b"part"

        response = Response(parts())
        if etag:
            response.set_etag(etag)
        return response

    environ = EnvironBuilder(headers={field: value}).get_environ()
    body = app.wsgi_app(environ, lambda status, headers, *_: made.append(status))
    assert next(iter(body)) == b"part"
    body.close()
    assert made == ["200 OK", 0]


def test_reply__a_stream_with_the_tag_that_is_asked_for(new_app) -> None:
    """It is a 304, and nothing of it is made."""
    app, made = new_app(), []

    @app.get("/")
    @cache_response(PAGE)
    def stream():
        def parts():
            made.append(1)
            yield b"part"

        response = Response(parts())
        response.set_etag("v1")
        return response

    answer = app.test_client().get("/", headers={"If-None-Match": '"v1"'})
    assert (answer.status_code, answer.data, made) == (304, b"", [])
