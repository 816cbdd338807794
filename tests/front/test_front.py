"""The front: hits of anonymous requests before routing, with the same answers as on the ordinary way."""

from __future__ import annotations

import gzip
import http.client
import itertools
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from flask import Flask, Response, abort, g, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_login import LoginManager, UserMixin, current_user, login_user  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_rcache import CacheType, RCache, by_caller, cache_response, cached, invalidate_cache_type
from flask_rcache.stores.memory import MemoryStore
from tests.front.site import create_app
from tests.gunicorns import Gunicorn
from tests.views.kit import PAGE, TIERED, Counted, manager
from tests.views.test_callers import BEFORE, INSIDE, WAYS, _Sessions, ask, greeting, shop


@pytest.fixture(params=["memory", "tiered"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The memory store, and the memory tier in front of a real Redis."""
    return "memory://" if request.param == "memory" else request.getfixturevalue("redis_server").url + TIERED


class Watched:
    """How often an application's ordinary way was taken."""

    def __init__(self, app: Flask) -> None:
        self.count = 0
        app.before_request(self.note)

    def note(self) -> None:
        self.count += 1

    def during(self, call: Callable[[], Any]) -> tuple[Any, int]:
        """What a call returns, and how often meanwhile."""
        before = self.count
        return call(), self.count - before


def get(app: Flask, path: str = "/", *, times: int = 1, method: str = "GET", **headers: str) -> Any:
    """The last answer to so many requests of a client without cookies; `X_Token` is the field X-Token."""
    data = headers.pop("body", None)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    client = app.test_client(use_cookies=False)
    return [client.open(path, method=method, headers=fields, data=data) for _ in range(times)][-1]


def fronted(app: Flask, watched: Watched, path: str = "/", **options: Any) -> Any:
    """The answer in front to a request that was sent some times, the same as before; `None` if there is none.

    On a busy machine the two seconds of an answer may be over at any time.
    """
    for _ in range(5):
        before = get(app, path, times=3, **options)
        answer, ordinary = watched.during(lambda: get(app, path, **options))
        assert (answer.status, answer.data) == (before.status, before.data)
        if ordinary == 0:
            return answer
    return None


def is_in_front(app: Flask, watched: Watched, path: str = "/", **options: Any) -> bool:
    """Whether there is an answer in front to a request that was sent some times."""
    return fronted(app, watched, path, **options) is not None


def told(answer: Any) -> tuple[Any, ...]:
    """What an answer says, without the seconds that went by."""
    lines = [(name, re.sub(r"ttl=\d+", "ttl", value)) for name, value in answer.headers if name != "Age"]
    return answer.status, lines, answer.data


# What is answered there


def test_front__the_same_answer_without_the_app(new_app, store_url) -> None:
    """After one hit on the ordinary way: the same lines in the same order, counted as a hit; 304 and HEAD too."""
    app, body = new_app(store_url), Counted()
    watched = Watched(app)
    app.add_url_rule("/", "page", cache_response(PAGE)(lambda: (body(), {"X-One": "1"})))
    get(app)
    tag = get(app).headers["ETag"]
    counters = manager(app).engine.statistics.of("page")
    options: dict[str, Any]
    for options in ({}, {"method": "HEAD"}, {"If_None_Match": tag}):
        ordinary = get(app, **options)
        answer = fronted(app, watched, **options)
        assert told(answer) == told(ordinary)
        assert answer.headers["Age"].isdecimal()
        hits = counters.snapshot()["hits"]
        get(app, times=3, **options)
        assert counters.snapshot()["hits"] == hits + 3
    assert answer.status_code == 304
    assert body.calls == 1


def test_front__only_where_it_was_asked_for(new_app) -> None:
    """`RCACHE_FRONT`, or `CacheType(front=True)`; a type may leave it out; without any of these there is none."""
    cases = [(True, None, True), (True, False, False), (False, True, True), (False, None, False)]
    for setting, of_type, expected in cases:
        app = new_app(RCACHE_FRONT=setting)
        watched = Watched(app)
        app.add_url_rule("/", "page", cache_response(CacheType("page", front=of_type))(lambda: "page"))
        assert is_in_front(app, watched) is expected, (setting, of_type)
        assert (app.wsgi_app.front is None) == (not setting and not of_type)


def test_front__says_what_it_skips(new_app, caplog) -> None:
    """One line at the first request, with the functions before and after requests."""
    app = new_app()

    @app.after_request
    def decorate(response: Response) -> Response:
        return response

    @app.teardown_request
    def tidy(_: object) -> None: ...

    Watched(app)
    app.add_url_rule("/", "page", cache_response(PAGE)(lambda: "page"))
    get(app, times=3)
    (line,) = [each.message for each in caplog.records if "front" in each.message]
    for part in ("before_request", "Watched.note", "after_request", "decorate", "teardown_request", "tidy"):
        assert part in line
    assert "flask_rcache" not in line


def _host() -> str:
    return f"of {request.host}"


@pytest.mark.parametrize("wrapped_first", [True, False])
def test_front__middlewares(caplog, wrapped_first) -> None:
    """One inside would be left out: no front then, and the log says so. One outside has done its work before."""
    app = Flask("shop")
    app.config.update(RCACHE_FRONT=True, RCACHE_URL="memory://", TESTING=True)
    watched = Watched(app)
    if wrapped_first:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1)  # type: ignore[method-assign]
    RCache(app)
    if not wrapped_first:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1)  # type: ignore[method-assign]
    app.add_url_rule("/", "page", cache_response(PAGE)(_host))
    for host in ("a.example", "b.example", "a.example"):
        assert get(app, times=3, X_Forwarded_Host=host).text == f"of {host}"
    assert is_in_front(app, watched, X_Forwarded_Host="a.example") is not wrapped_first
    assert any("the front is off" in each.message for each in caplog.records) is wrapped_first


# Whom it answers


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_front__nobody_gets_another_s_page(new_app, way) -> None:
    """Twenty ways to know a caller in five places, as without the front; each asks often enough for it to answer.

    Where reading is not seen without the front, see the next test.
    """
    for place in (each for each in (*BEFORE, *INSIDE) if each not in way.unseen):
        for order in (("", "ann", "bob"), ("ann", "bob", "")):
            app = shop(new_app, way, place)
            for who in (*order, *order, *order):
                answer = ask(app, way, who)
                assert greeting(who) in answer.text, (place, order, who, answer.text, answer.headers)
                others = {greeting(name) for name in ("ann", "bob") if name != who}
                assert not any(other in answer.text for other in others), (place, order, who, answer.text)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_front__what_keeps_callers_out(new_app, way, shared) -> None:
    """A function before the request that lets one caller in, by whatever it reads: nobody else gets in behind it.

    Also where what it reads does not count for the answer, which is the same for all that it lets in.
    """
    app = new_app()
    app.session_interface = _Sessions()

    @app.before_request
    def only_ann() -> None:
        if "ann" not in way.read():
            abort(403)

    app.add_url_rule("/", "page", cache_response(PAGE, shared=shared)(lambda: "page"))
    for _ in range(3):
        for who, status in (("ann", 200), ("ann", 200), ("ann", 200), ("bob", 403), ("", 403)):
            assert ask(app, way, who).status_code == status, who


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_front__what_keeps_one_caller_out(new_app, way) -> None:
    """A function before the request that keeps one caller out: not even after all others were answered in front."""
    app = new_app()
    app.session_interface = _Sessions()

    @app.before_request
    def not_bob() -> None:
        if "bob" in way.read():
            abort(403)

    app.add_url_rule("/", "page", cache_response(PAGE, shared=True)(lambda: "page"))
    for _ in range(2):
        for who, status in (("", 200), ("", 200), ("", 200), ("bob", 403), ("ann", 200), ("ann", 200), ("bob", 403)):
            assert ask(app, way, who).status_code == status, who


def test_front__sessions(new_app) -> None:
    """A visitor is answered in front; whoever has a session, or another cookie that identifies, is not."""
    app = new_app()
    LoginManager(app).user_loader(lambda name: _user(name))
    watched = Watched(app)

    @app.post("/login")
    def login() -> str:
        login_user(_user("ann"), remember=True)
        return ""

    name = cache_response(PAGE)(lambda: f"hello {current_user.get_id() or 'visitor'}")
    app.add_url_rule("/", "page", name)
    assert is_in_front(app, watched)
    assert is_in_front(app, watched, Cookie="_ga=1; theme=dark")
    ann = app.test_client()
    ann.post("/login")
    assert [ann.get("/").text for _ in range(3)] == ["hello ann"] * 3
    ann.delete_cookie("session")
    assert [ann.get("/").text for _ in range(3)] == ["hello ann"] * 3
    assert get(app).text == "hello visitor"


def _user(name: str) -> UserMixin:
    user = UserMixin()
    user.id = name  # pyright: ignore[reportAttributeAccessIssue]
    return user


def test_front__sessions_of_an_app_s_own(new_app) -> None:
    """What opens a session is read in a way of its own, here by a header: whoever sends that is not a visitor."""

    class Interface(SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: Any) -> Any:
            found = self.session_class()
            if request.headers.get("X-Sid"):
                found["user"] = request.headers["X-Sid"]
            return found

        def save_session(self, *_: Any) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]

    app = new_app()
    app.session_interface = Interface()
    watched = Watched(app)
    app.add_url_rule("/", "page", cache_response(PAGE)(lambda: f"hello {session.get('user', 'visitor')}"))
    assert is_in_front(app, watched)
    assert get(app, times=3, X_Sid="ann").text == "hello ann"
    assert not is_in_front(app, watched, X_Sid="ann")
    assert get(app).text == "hello visitor"


# What is left to the ordinary way


def _unless(app: Flask) -> Any:
    return cache_response(PAGE, unless=lambda request: False)(lambda: "page")


def _key_func(app: Flask) -> Any:
    return cache_response(PAGE, key_func=lambda request: "page")(lambda: "page")


def _by_caller(app: Flask) -> Any:
    who = by_caller(lambda request: request.headers.get("X-Token"), anonymous="shared")
    return cache_response(CacheType("mine", per_user=True), key_func=who)(lambda: "page")


def _vary_function(app: Flask) -> Any:
    return cache_response(PAGE, vary={"Accept": lambda request: "a"})(lambda: "page")


def _address(app: Flask) -> Any:
    app.before_request(lambda: g.setdefault("address", request.remote_addr) and None)
    return cache_response(PAGE)(lambda: "page")


def _all_headers(app: Flask) -> Any:
    app.before_request(lambda: g.setdefault("all", dict(request.headers)) and None)
    return cache_response(PAGE)(lambda: "page")


def _cached_value(app: Flask) -> Any:
    @cached(CacheType("flags", ttl=60))
    def flags() -> list[str]:
        return []

    app.before_request(lambda: g.setdefault("flags", flags()) and None)
    return cache_response(PAGE)(lambda: "page")


def _decorated(app: Flask) -> Any:
    cached = cache_response(PAGE)(lambda: "page")

    def above() -> Any:
        return cached()

    return above


def _number(app: Flask) -> Any:
    numbers = itertools.count()

    @app.after_request
    def number(response: Response) -> Response:
        response.headers["X-Number"] = str(next(numbers))
        return response

    return cache_response(PAGE)(lambda: "page")


def _cookie(app: Flask) -> Any:
    @app.after_request
    def cookie(response: Response) -> Response:
        response.set_cookie("a", "1")
        return response

    return cache_response(PAGE, shared=True)(lambda: "page")


def _failing(app: Flask) -> Any:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.testing = False

    @app.after_request
    def fail(response: Response) -> Response:
        if request.path == "/" and response.headers.get("X-Cache") == "HIT":
            raise RuntimeError
        return response

    return cache_response(PAGE)(lambda: "page")


@pytest.mark.parametrize(
    "make",
    [
        _unless,
        _key_func,
        _by_caller,
        _vary_function,
        _address,
        _all_headers,
        _cached_value,
        _decorated,
        _number,
        _cookie,
        _failing,
    ],
)
def test_front__views_that_it_leaves_alone(new_app, make) -> None:
    """The decorator's functions are called for each request; what can't be compared, or differs, is not remembered."""
    app = new_app()
    watched = Watched(app)
    app.add_url_rule("/", "page", make(app))
    assert watched.during(lambda: get(app, times=6))[1] == 6


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer x"},
        {"X_Api_Key": "x"},
        {"Cookie": "session=x"},
        {"Cookie": "a=1; remember_token=x"},
        {"Range": "bytes=0-1"},
        {"If_Match": "*"},
        {"Upgrade": "websocket", "Connection": "upgrade"},
        {"Transfer_Encoding": "chunked"},
        {"Content_Type": "text/plain", "body": "x"},
        {"Cache_Control": "no-cache"},
    ],
    ids=str,
)
def test_front__requests_that_it_leaves_alone(new_app, headers) -> None:
    """What may identify a caller, asks for a part, brings content, or for a new load where the app lets it."""
    app = new_app(RCACHE_ALLOW_REFRESH=lambda request: True)
    watched = Watched(app)
    app.add_url_rule("/", "page", cache_response(PAGE, shared=True)(lambda: "page"))
    assert is_in_front(app, watched)
    for _ in range(4):
        assert watched.during(lambda: get(app, **headers))[1] == 1
    assert is_in_front(app, watched)


def test_front__what_is_added_after_the_view(new_app) -> None:
    """The same lines and the same body as the functions after the request make, by what they read of it."""
    app, body = new_app(), Counted()
    watched = Watched(app)

    @app.after_request
    def compress(response: Response) -> Response:
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Access-Control-Allow-Origin"] = request.headers.get("Origin", "-")
        if "gzip" in request.headers.get("Accept-Encoding", "") and response.status_code == 200:
            response.set_data(gzip.compress(response.get_data(), mtime=0))
            response.headers["Content-Encoding"] = "gzip"
        return response

    app.add_url_rule("/", "page", cache_response(PAGE)(lambda: body()))
    for origin in ("https://a.example", "https://b.example"):
        for encoding in ("gzip", "br"):
            asked = {"Origin": origin, "Accept_Encoding": encoding}
            ordinary = get(app, times=3, **asked)
            answer = fronted(app, watched, **asked)
            assert told(answer) == told(ordinary)
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert (gzip.decompress(answer.data) if encoding == "gzip" else answer.data) == b"1"


def test_front__one_url_is_not_another(new_app) -> None:
    """Host, scheme, script root, path as it came and query as it came; a type's `query` leads several to one entry."""
    app = new_app()
    watched = Watched(app)
    app.add_url_rule("/<path:path>", "page", cache_response(CacheType("listed", ttl=60, query=("q",)))(url_of))
    client = app.test_client(use_cookies=False)
    urls: list[dict[str, Any]] = [
        {"path": "/a?q=1&utm=2", "base_url": base}
        for base in ("http://a.example/", "https://a.example/", "http://b.example/", "http://a.example/sub")
    ]
    urls += [{"path": "/a?q=2", "base_url": "http://a.example/"}, {"path": "/A?q=1", "base_url": "http://a.example/"}]
    expected: dict[int, str] = {}
    for _ in range(4):
        for number, url in enumerate(urls):
            text = client.get(**url).text
            assert expected.setdefault(number, text) == text
    assert len(set(expected.values())) == len(urls)
    assert watched.count < 4 * len(urls)


def url_of(path: str) -> str:
    """A page that says where it is."""
    return f"{request.scheme}://{request.host}{request.script_root}{request.path}?{request.args.get('q')}"


# Validity


def test_front__invalidations_and_the_switch(new_app, store_url) -> None:
    """Nothing older is served once an invalidation has returned, and nothing at all while the cache is off."""
    app, body = new_app(store_url), Counted()
    watched = Watched(app)
    app.add_url_rule("/", "page", cache_response(PAGE, tags=["menu"])(lambda: body()))
    invalidations: list[Callable[[], object]] = [
        lambda: invalidate_cache_type("page"),
        lambda: manager(app).invalidate_tags("menu"),
        lambda: manager(app).invalidate_pattern("*"),
        lambda: manager(app).clear_all(),
        lambda: app.view_functions["page"].invalidate(),
    ]
    for number, invalidate in enumerate(invalidations, 1):
        assert is_in_front(app, watched)
        assert get(app).text == str(number)
        with app.test_request_context("/"):
            invalidate()
        assert get(app).text == str(number + 1)
    assert is_in_front(app, watched)
    manager(app).engine.disable()
    assert get(app).headers["X-Cache"] == "BYPASS"
    manager(app).engine.enable()
    assert get(app).text == str(len(invalidations) + 1)


def test_front__invalidations_of_another_process(new_app, redis_server) -> None:
    """They arrive over the bus, as for the memory tier."""
    app, other, body = new_app(redis_server.url + TIERED), new_app(redis_server.url + TIERED), Counted()
    watched = Watched(app)
    app.add_url_rule("/", "page", cache_response(PAGE)(lambda: body()))
    assert is_in_front(app, watched)
    with other.app_context():
        invalidate_cache_type(PAGE)
    deadline = time.monotonic() + 10
    while get(app).text != "2":
        assert time.monotonic() < deadline


def test_front__an_invalidation_between_the_look_and_the_answer(new_app) -> None:
    """The request that is under way may still get the old answer; the next one does not."""
    app, body, met = new_app(), Counted(), [0]
    watched = Watched(app)
    app.add_url_rule("/", "page", cache_response(PAGE, tags=["menu"])(lambda: body()))

    def interrupt(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is MemoryStore.recall.__code__:
            sys.setprofile(None)
            met[0] += 1
            manager(app).invalidate_tags("menu")

    for _ in range(5):  # on a busy machine the two seconds of an answer may be over
        assert is_in_front(app, watched)
        manager(app).invalidate_tags("another")  # so that the answer is looked up again
        sys.setprofile(interrupt)
        try:
            get(app)
        finally:
            sys.setprofile(None)
        if met[0]:
            break
    assert met[0] == 1
    assert get(app).text == "2"


@pytest.mark.race
def test_front__nothing_older_than_what_has_returned(new_app, store_url) -> None:
    """Four clients and an invalidator, all as fast as they can: each answer is as new as the last call that returned.

    With a memory tier in front of Redis too, as the invalidations are this process's own.
    """
    app, source, returned, over = new_app(store_url), [0], [0], threading.Event()
    watched = Watched(app)
    app.add_url_rule("/", "page", cache_response(PAGE, tags=["menu"])(lambda: str(source[0])))
    old: list[tuple[int, str]] = []
    asked, choose = [0], random.Random(5)

    def ask() -> None:
        while not over.is_set():
            least = returned[0]
            answer = get(app).text
            asked[0] += 1
            if int(answer) < least:
                old.append((least, answer))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for each in clients:
            each.start()
        end = time.monotonic() + float(os.environ.get("RACE_SECONDS", "1.5"))
        # On a busy machine until one was answered in front.
        while time.monotonic() < end or (watched.count == asked[0] and time.monotonic() < end + 20):
            source[0] += 1
            manager(app).invalidate_tags("menu")  # which leaves the entry where it is
            returned[0] = source[0]
            time.sleep(choose.uniform(0.001, 0.05))
    finally:
        over.set()
        for each in clients:
            each.join()
        sys.setswitchinterval(interval)
    assert not old
    assert source[0] > 1
    assert watched.count < asked[0], "none was answered in front"


@pytest.mark.race
def test_front__the_app_is_asked_again(new_app) -> None:
    """A function that answers itself without reading anything of the request is obeyed after two seconds at most."""
    app = new_app()
    watched = Watched(app)
    closed: list[bool] = []

    @app.before_request
    def maintenance() -> Any:
        return ("closed", 503) if closed else None

    app.add_url_rule("/", "page", cache_response(PAGE)(lambda: "page"))
    assert is_in_front(app, watched)
    closed.append(True)
    began = time.monotonic()
    while get(app).status_code == 200:
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    assert watched.during(lambda: get(app, times=3))[1] == 3
    closed.clear()
    assert is_in_front(app, watched)


@pytest.mark.race
def test_front__expired_answers(new_app) -> None:
    """An entry that has expired, and one that may be served stale, take the ordinary way."""
    app, body = new_app(), Counted()
    Watched(app)
    kind = CacheType("page", ttl=1, stale_while_revalidate=30)
    app.add_url_rule("/", "page", cache_response(kind)(lambda: body()))
    get(app, times=4)
    time.sleep(1.1)
    assert get(app).headers["X-Cache"] == "STALE"
    deadline = time.monotonic() + 10
    while get(app).text == "1":
        assert time.monotonic() < deadline


def test_front__early_refreshes(new_app) -> None:
    """Whether one is due is drawn once, in front: an answer is refreshed as often as without the front."""
    app, body = new_app(), Counted()
    kind = CacheType("page", ttl=60, early_refresh=100)

    def slow() -> str:
        time.sleep(0.02)
        return body()

    app.add_url_rule("/", "page", cache_response(kind)(slow))
    get(app, times=4)
    entry = manager(app).engine.store.recall(next(iter(manager(app).engine.store._cells)), 1)  # type: ignore[attr-defined]
    assert entry is not None
    assert entry.entry is not None
    entry.entry.created -= 59_900_000
    deadline = time.monotonic() + 10
    while body.calls == 1:
        get(app)
        assert time.monotonic() < deadline


def test_front__remembers_so_many(new_app) -> None:
    """URLs beyond those that fit push out the first ones; what is kept of bodies is bounded, and counted to the end."""
    app = new_app()

    @app.after_request
    def double(response: Response) -> Response:
        response.set_data(response.get_data() * 2)
        return response

    app.add_url_rule("/<int:number>", "page", cache_response(PAGE)(lambda number: "x" * 400_000))
    for number in range(30):
        get(app, f"/{number}", times=3)
    front: Any = app.wsgi_app.front
    assert 0 < front._kept <= 16 * 1024 * 1024 + 800_000
    assert front._kept == sum(url.kept for url in front._urls.values())
    bodies = sum(len(each.body) for url in front._urls.values() for each in url.answers.values())
    assert front._kept - 100_000 < bodies < front._kept


def test_front__a_forked_child_begins_anew(new_app) -> None:
    """It has none of its parent's answers."""
    app = new_app()
    watched = Watched(app)
    app.add_url_rule("/", "page", cache_response(PAGE)(lambda: "page"))
    assert is_in_front(app, watched)
    child = os.fork()
    if not child:
        os._exit(0 if watched.during(lambda: get(app))[1] == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


# Everything together


def _site(app: Flask) -> Flask:
    LoginManager(app).user_loader(_user)

    @app.before_request
    def before() -> None:
        g.tenant = request.headers.get("X-Tenant", "")

    @app.after_request
    def after(response: Response) -> Response:
        response.headers["X-Origin"] = request.headers.get("Origin", "-")
        return response

    def language() -> str:
        return str(request.accept_languages.best_match(["de", "en"], "en"))

    views: dict[str, Any] = {
        "/plain": lambda: ("plain", {"Cache-Control": "max-age=50"}),
        "/language": language,
        "/tenant": lambda: f"of {g.tenant}",
        "/cookie": lambda: request.cookies.get("lang", "-"),
        "/session": lambda: f"{session.get('user', '-')}",
        "/agent": lambda: str(request.user_agent),
        "/missing": lambda: ("gone", 404),
        "/tagged": lambda: ("x" * 3000, {"ETag": '"strong"', "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}),
        "/declared": lambda: (f"{request.args.get('a')}", {"Vary": "Accept"}),
    }
    for rule, view in views.items():
        app.add_url_rule(rule, rule, cache_response(PAGE, vary=["cookie:lang"] if rule == "/cookie" else ())(view))
    return app


def test_front__no_request_gets_another_answer_than_without_it(new_app, store_url) -> None:
    """Two of the same site, one with the front: five hundred requests of all kinds, each answered alike."""
    plain = _site(new_app(store_url, RCACHE_FRONT=False, RCACHE_PREFIX="plain"))
    fronted = _site(new_app(store_url, RCACHE_PREFIX="front"))
    rules = [each.rule for each in plain.url_map.iter_rules() if each.endpoint.startswith("/")]
    choose = random.Random(7)
    extras: list[dict[str, str]] = [
        {"Accept-Language": "de"},
        {"Accept-Language": "en, de;q=0.1"},
        {"X-Tenant": "a"},
        {"Cookie": "lang=de"},
        {"Cookie": "other=1"},
        {"Cookie": "session=broken"},
        {"Authorization": "Bearer x"},
        {"User-Agent": "a"},
        {"Origin": "https://a.example"},
        {"Accept": "text/html"},
        {"If-None-Match": '"strong"'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"Range": "bytes=0-9"},
        {"Cache-Control": "no-store"},
        {"Host": "b.example"},
    ]
    for number in range(500):
        options: dict[str, Any] = {
            "path": choose.choice(rules) + choose.choice(["", "", "?a=1", "?a=2"]),
            "method": choose.choice(["GET", "GET", "GET", "HEAD"]),
            "headers": choose.choice([{}, {}, *extras, {**choose.choice(extras), **choose.choice(extras)}]),
        }
        both = [app.test_client(use_cookies=False).open(**options) for app in (plain, fronted)]
        one, other = (re.sub(r"(plain|front):", "", f"{told(each)}") for each in both)
        assert one == other, (number, options)
        if not number % 97:
            for app in (plain, fronted):
                with app.app_context():
                    invalidate_cache_type(PAGE)
    hits = [manager(app).engine.statistics.of("page").snapshot() for app in (plain, fronted)]
    names = ("hits", "misses", "bypasses", "stored")
    assert [hits[0][name] for name in names] == [hits[1][name] for name in names]
    assert fronted.wsgi_app.front._urls  # type: ignore[attr-defined]


# Under servers


def _asked(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        lines = [(name, re.sub(r"ttl=\d+", "ttl", value)) for name, value in answer.getheaders()]
        return answer.status, [line for line in lines if line[0] not in ("Age", "Date")], answer.read()
    finally:
        connection.close()


@contextmanager
def _served(server: str) -> Iterator[int]:
    """The port of a real server with the site."""
    if server != "waitress":
        env = {"RCACHE_FRONT": "true", "RCACHE_URL": "memory://"}
        threads = 4 if server == "gthread" else 1
        with Gunicorn("tests.front.site:create_app()", worker_class=server, threads=threads, env=env) as web:
            yield web.port
        return
    app = create_app({"RCACHE_FRONT": True, "RCACHE_URL": "memory://"})
    waiting = create_server(app, host="127.0.0.1", port=0, threads=2)

    def run() -> None:
        with suppress(OSError):  # its socket is closed while it waits for it
            waiting.run()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield waiting.effective_port  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        waiting.close()
        thread.join(10)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["sync", "gthread", "gevent", "waitress"])
def test_front__under_real_servers(server) -> None:
    """The same bytes as on the ordinary way, for GET, HEAD and 304, and the app did not run for them."""
    with _served(server) as port:
        _asked(port, "/page")
        (tag,) = [value for name, value in _asked(port, "/page")[1] if name.lower() == "etag"]
        for method, headers in (("GET", {}), ("HEAD", {}), ("GET", {"If_None_Match": tag})):
            ordinary = _asked(port, "/page", method, **headers)
            for _ in range(5):  # on a busy machine the two seconds of an answer may be over
                for _ in range(3):
                    assert _asked(port, "/page", method, **headers) == ordinary
                before = int(_asked(port, "/ran")[2])
                answer = _asked(port, "/page", method, **headers)
                if int(_asked(port, "/ran")[2]) == before + 1:
                    break
            else:
                pytest.fail("the front has not answered")
            assert answer == ordinary
            assert ("X-Content-Type-Options", "nosniff") in answer[1]
