"""What the front has to know of a request: reads in every place and by every way, and what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from flask import Blueprint, Flask, Request, Response, abort, request, request_started, session
from flask.sessions import SecureCookieSessionInterface
from werkzeug.routing import BaseConverter

from flask_rcache import CacheType, RCache, cache_hit, cache_response
from tests.front.test_front import Watched, get, is_in_front
from tests.views.kit import PAGE, Counted, manager


class Way(NamedTuple):
    """A way by which a function that runs for each request knows who is asking.

    Args:
        read: what it reads of the request.
        ask: what a caller sends, as options of the test client.
    """

    read: Callable[[Any], object]
    ask: Callable[[str], dict[str, Any]]


def _token(read: Callable[[Any], object], name: str = "X-Token") -> Way:
    return Way(read, lambda who: {"headers": {name: who}})


def _item(name: str, read: Callable[[Any], object] = lambda value: value, wrap: Any = str) -> Way:
    return Way(lambda asked: read(asked.environ[name]), lambda who: {"environ_overrides": {name: wrap(who)}})


WAYS = {
    "header": _token(lambda asked: asked.headers.get("X-Token", "")),
    "header, taken away": _token(lambda asked: asked.environ.pop("HTTP_X_TOKEN", "")),
    "header of another request": _token(lambda asked: Request(asked.environ).headers.get("X-Token", "")),
    "header that is ignored": _token(lambda asked: asked.headers.get("X-Internal", ""), "X-Internal"),
    "certificate of a socket": _item("gunicorn.socket", lambda socket: socket[0], lambda who: [who]),
    "address before ProxyFix": _item(
        "werkzeug.proxy_fix.orig", lambda before: before["REMOTE_ADDR"], lambda who: {"REMOTE_ADDR": who}
    ),
    "item of a server": _item("waitress.peer"),
}
PLACES = (
    "before_request",
    "after_request",
    "blueprint",
    "converter",
    "dispatch_request",
    "preprocess_request",
    "request class",
    "request_started",
    "session",
    "url_value_preprocessor",
)


def _guarded(app: Flask, place: str, read: Callable[[Any], object], view: Any) -> str:  # noqa: C901  # one place each
    """Have a function in some place let ann in and nobody else; the path of the page."""

    def is_ann(asked: Any = None) -> bool:
        return "ann" in str(read(request._get_current_object() if asked is None else asked))  # type: ignore[attr-defined]

    def check(*_: object, **__: object) -> None:
        if not is_ann():
            abort(403)

    def checking(method: Callable[..., Any]) -> Any:
        def checked(*args: Any) -> Any:
            check()
            return method(*args)

        return checked

    scope: Any = app
    rule = "/"
    if place == "blueprint":
        scope = Blueprint("shop", __name__)
        scope.before_request(check)
    elif place == "converter":

        class Name(BaseConverter):
            def to_python(self, value: str) -> str:
                check()
                return value

        app.url_map.converters["name"] = Name
        rule = "/<name:_>"
    elif place == "request class":

        class Asked(Request):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.is_ann = is_ann(self)

        app.request_class = Asked
        app.before_request(lambda: None if request.is_ann else abort(403))  # type: ignore[attr-defined]
    elif place == "request_started":
        app.extensions["check"] = check
        request_started.connect(check, app)
    elif place == "session":

        class Interface(SecureCookieSessionInterface):
            def open_session(self, app: Flask, request: Any) -> Any:
                return self.session_class({"_fresh": is_ann(request)})

            def save_session(self, app: Flask, session: Any, response: Any) -> None: ...

        app.session_interface = Interface()
        app.before_request(lambda: None if session["_fresh"] else abort(403))
    elif place == "after_request":
        app.after_request(lambda response: response if is_ann() else Response("no", 403))
    elif place in ("before_request", "url_value_preprocessor"):
        getattr(app, place)(check)
    else:  # put around what the app has, after its cache was made
        setattr(app, place, checking(getattr(app, place)))
    scope.add_url_rule(rule, "page", view)
    if scope is not app:
        app.register_blueprint(scope)
    return rule.replace("<name:_>", "x")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_front__nobody_gets_in_behind_another(new_app, way, place) -> None:
    """A function that lets ann in, whatever it reads and wherever it stands, is asked for bob, and for nobody."""
    app = new_app(RCACHE_IGNORED_FIELDS=["X-Internal"])
    path = _guarded(app, place, way.read, cache_response(PAGE, shared=True)(lambda _="": "page"))
    for who in ("ann", "ann", "ann", "bob", "ann", "ann", "bob", "-"):
        options = way.ask(who)
        if who == "-" and "headers" in options:
            options = {}
        answer = app.test_client(use_cookies=False).get(path, **options)
        assert answer.status_code == (200 if who == "ann" else 403), who


@pytest.mark.parametrize("name", ["X-Request-ID", "Baggage", "X-Internal"])
@pytest.mark.parametrize("declared", [False, True])
def test_front__what_an_answer_varies_by_selects(new_app, name, declared) -> None:
    """Whatever the field is called: one that only follows requests elsewhere, or that the app ignores."""
    app = new_app(RCACHE_IGNORED_FIELDS=["X-Internal"])

    def page() -> Any:
        return f"for {request.headers.get(name, '-')}", {"Vary": name} if declared else {}

    app.add_url_rule("/", "page", cache_response(PAGE, vary=[name])(page))
    client = app.test_client(use_cookies=False)
    for _ in range(4):
        for value in ("a", "b", "a"):
            assert client.get("/", headers={name: value}).text == f"for {value}"
        assert get(app).text == "for -"


def test_front__tracing_keeps_nobody_out(new_app) -> None:
    """A function that reads a field by which requests are followed, to log it, leaves the front to all of them."""
    app = new_app()
    watched = Watched(app)

    @app.before_request
    def follow() -> None:
        request.headers.get("X-Request-ID")

    app.add_url_rule("/", "page", cache_response(PAGE)(lambda: "page"))
    assert is_in_front(app, watched, X_Request_ID="1")
    assert watched.during(lambda: get(app, X_Request_ID="2"))[1] == 0


def _page() -> str:
    return "page"


def test_front__a_patched_class(monkeypatch, caplog) -> None:
    """A library that replaces Flask's own WSGI callable stands inside: no front, and the log says so."""
    plain: Any = Flask.wsgi_app

    def traced(*args: Any) -> Any:
        return plain(*args)

    monkeypatch.setattr(Flask, "wsgi_app", traced)
    app = Flask("shop")
    app.config.update(RCACHE_FRONT=True, RCACHE_URL="memory://", TESTING=True)
    RCache(app)
    app.add_url_rule("/", "page", cache_response(PAGE)(_page))
    get(app)
    assert app.wsgi_app.front is None  # type: ignore[attr-defined]
    assert any("the front is off" in each.message for each in caplog.records)
    manager(app).close()


def test_front__listeners(new_app) -> None:
    """A listener to `cache_hit` sees what a hit has on the ordinary way: requests take that while there is one."""
    app = new_app()
    watched = Watched(app)
    ended: list[bool] = []
    app.teardown_request(lambda _: ended.append(True))
    app.add_url_rule("/", "page", cache_response(PAGE)(lambda: "page"))
    assert is_in_front(app, watched)
    seen: list[tuple[str, str]] = []

    def listener(_: Flask, event: Any) -> None:
        seen.append((request.path, event.type))

    ended.clear()
    with cache_hit.connected_to(listener, app):
        assert watched.during(lambda: get(app, times=4))[1] == 4
    assert seen == [("/", "page")] * 4
    assert len(ended) == 4
    assert is_in_front(app, watched)


def test_front__what_is_kept_is_bounded(new_app) -> None:
    """Clients choose fields, URLs and conditions: whatever they send, some megabytes are kept, counted to the end."""
    app = new_app()
    kind = CacheType("page", ttl=60, query=("q",))
    app.add_url_rule("/", "page", cache_response(kind)(lambda: (str(request.accept_languages), {"ETag": '"one"'})))
    front: Any = None
    for number in range(300):
        long = f'"{number}{"x" * 8000}"'
        for _ in range(2):
            get(app, f"/?q=1&utm={number}", If_None_Match=f'"one", {long}')
            get(app, If_None_Match=f'"one", {long}')
        front = app.wsgi_app.front
    kept = sum(len(value or "") for url in front._urls.values() for values in url.answers for value in values)
    assert 2_000_000 < kept < front._kept < 17 * 1024 * 1024
    assert front._kept == sum(url.kept for url in front._urls.values())
    for url in list(front._urls.values()):
        for answer in list(url.answers.values()):
            front._forget(url, answer)
    assert front._kept == sum(url.kept for url in front._urls.values()) < 2_000_000
    for address in list(front._urls):
        front._take_out(address)
    assert front._kept == 0


@pytest.mark.parametrize("has_front", [False, True])
def test_front__a_page_made_of_another(new_app, has_front) -> None:
    """What an answer that is loaded has asked the app for, in a request of its own, makes it invalid too."""
    app, body = new_app(RCACHE_FRONT=has_front), Counted()
    app.add_url_rule("/part", "part", cache_response(PAGE, tags=["part"])(lambda: body()))
    whole = cache_response(CacheType("whole", ttl=60))(lambda: f"<{get(app, '/part').text}>")
    app.add_url_rule("/", "whole", whole)
    get(app, "/part", times=3)
    assert [get(app).text for _ in range(2)] == ["<1>"] * 2
    manager(app).invalidate_tags("part")
    assert get(app).text == "<2>"
