"""The look-alike of Flask-Caching: what it stores of views and functions, for whom, and what it does not."""

from __future__ import annotations

import gc
import random
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import flask
import flask_caching as original
import pytest
import werkzeug
from flask import abort, make_response, request, session
from flask_login import LoginManager, UserMixin  # type: ignore[import-untyped]
from jinja2 import TemplateSyntaxError

from flask_rcache import RCache
from flask_rcache.compat.flask_caching import Cache, CachedResponse, make_template_fragment_key
from flask_rcache.errors import ConfigError
from tests.compat.conftest import Made
from tests.servers import Server


class Counted:
    """A view that counts its calls, and says how many there were."""

    def __init__(self, answer: Callable[[], Any] = lambda: "") -> None:
        self.calls = 0
        self._answer = answer

    def __call__(self) -> Any:
        self.calls += 1
        return self._answer()


def _view(made: Made, answer: Callable[[], Any], **options: Any) -> tuple[Any, Counted]:
    """An app's client, and what the view at / is, decorated with ``cached``."""
    app, cache = made
    counted = Counted(answer)

    def view() -> Any:
        return counted()

    app.add_url_rule("/", view_func=cache.cached(60, **options)(view), methods=["GET", "POST"])
    return app.test_client(use_cookies=False), counted


def test_cached__a_response_comes_back_as_it_was(made: Made) -> None:
    """Status, headers in their order, and bytes of a response are the same on a hit; it is one of the app's class."""

    def answer() -> Any:
        response = make_response(b"\xff\x00", 203)
        response.headers.add("Link", "</a>")
        response.headers.add("Link", "</b>")
        response.content_type = "application/x-thing"
        return response

    client, counted = _view(made, answer)
    first, second = client.get("/"), client.get("/")
    assert counted.calls == 1
    assert first.data == second.data == b"\xff\x00"
    assert first.status == second.status
    assert first.headers.getlist("Link") == second.headers.getlist("Link") == ["</a>", "</b>"]
    assert second.content_type == "application/x-thing"
    with made[0].test_request_context():
        assert isinstance(made[1].get("view//"), flask.Response)


@pytest.mark.parametrize(
    ("answer", "having", "says"),
    [
        (lambda: request.headers.get("Accept-Language", ""), {"headers": {"Accept-Language": "de"}}, "Accept-Language"),
        (
            lambda: request.headers.get("Authorization", ""),
            {"headers": {"Authorization": "Basic eDp5"}},
            "Authorization",
        ),
        (lambda: request.cookies.get("cart", ""), {"headers": {"Cookie": "cart=7"}}, "cookie:cart"),
        (lambda: request.args.get("page", ""), {"query_string": "page=2"}, "arg:page"),
        (lambda: request.get_data(as_text=True), {"data": "body"}, "body"),
    ],
    ids=["header", "credential", "cookie", "query", "body"],
)
def test_cached__what_some_requests_have(
    made: Made, answer: Callable[[], str], having: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a view looks for in a request is served to those that lack it, and made for each that has it."""
    client, counted = _view(made, answer)
    texts = [client.get("/", **each).text for each in ({}, having, {}, having, {})]
    assert texts[0] == texts[2] == texts[4] == ""
    assert texts[1] == texts[3] != ""
    assert counted.calls == 3
    warned = [record.getMessage() for record in caplog.records if "is not cached" in record.getMessage()]
    assert len(warned) == 1
    assert says in warned[0]


@pytest.mark.parametrize(
    "answer",
    [lambda: request.remote_addr or "", lambda: str(len(request.headers)), lambda: str(dict(request.cookies))],
    ids=["address", "all-headers", "all-cookies"],
)
def test_cached__what_all_requests_have(
    made: Made, answer: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that depends on what each request has, and its path does not say, is made for each, with a warning."""
    client, counted = _view(made, answer)
    for _ in range(3):
        client.get("/")
    assert counted.calls == 3
    assert len([record for record in caplog.records if "its key does not contain" in record.getMessage()]) == 1


def test_cached__another_host(made: Made) -> None:
    """Links lead to the host that was asked, and to where the app is mounted, whoever asked before with another."""
    client, counted = _view(made, lambda: f"{flask.url_for('static', filename='x', _external=True)} {request.base_url}")
    asked = [("a.example", ""), ("a.example", ""), ("evil.example", ""), ("a.example", ""), ("a.example", "/shop")]
    for host, script in asked:
        text = client.get("/", base_url=f"http://{host}{script}").text
        assert text == f"http://{host}{script}/static/x http://{host}{script}/"
    assert counted.calls == 4


def test_cached__messages_are_shown_once(made: Made) -> None:
    """A page that shows a flashed message is for this visitor, and a visitor with one gets no page without it."""
    app, cache = made

    @app.get("/save")
    def save() -> str:
        flask.flash("saved")
        return "ok"

    @app.get("/")
    @cache.cached()
    def page() -> str:
        return " ".join(map(str, flask.get_flashed_messages())) or "nothing"

    ann, bob = app.test_client(), app.test_client()
    ann.get("/save")
    assert [ann.get("/").text, bob.get("/").text, bob.get("/").text] == ["saved", "nothing", "nothing"]
    ann.get("/save")
    assert [ann.get("/").text, ann.get("/").text] == ["saved", "nothing"]


def test_cached__a_view_that_changes_the_session(made: Made) -> None:
    """What goes with a change of the session is for its owner, and the change is made for the next visitor too."""
    app, cache = made
    tokens = iter("abc")

    @app.get("/form")
    @cache.cached()
    def form() -> str:
        session["token"] = next(tokens)
        return str(session["token"])

    assert [app.test_client().get("/form").text for _ in range(3)] == ["a", "b", "c"]


def test_cached__what_was_read_before_the_view(made: Made) -> None:
    """Who is asking counts where a function before the view has looked it up, whatever it has made of it."""
    app, cache = made

    @app.before_request
    def look_up() -> None:
        flask.g.account = session.get("user", "nobody")

    counted = Counted(lambda: flask.g.account)
    app.add_url_rule("/", "root", cache.cached()(lambda: counted()))
    assert _texts(app, "/", (None, "ann", None, "bob", None)) == ["nobody", "ann", "nobody", "bob", "nobody"]
    assert counted.calls == 3


def test_cached__flask_login(made: Made) -> None:
    """With Flask-Login, whose template variable looks at the session each time, visitors share their pages."""
    app, cache = made
    manager = LoginManager(app)

    class User(UserMixin):  # type: ignore[misc]
        def __init__(self, id: str) -> None:
            self.id = id

    manager.user_loader(User)
    counted = Counted(lambda: flask.render_template_string("{{ current_user.id }}"))
    app.add_url_rule("/", "root", cache.cached()(lambda: counted()))
    assert _texts(app, "/", (None, None, "ann", None, "bob"), key="_user_id") == ["", "", "ann", "", "bob"]
    assert counted.calls == 3


def _texts(app: flask.Flask, path: str, users: Iterable[str | None], key: str = "user") -> list[str]:
    """What each of these users is shown."""
    texts = []
    for user in users:
        client = app.test_client()
        if user:
            with client.session_transaction() as held:
                held[key] = user
        texts.append(client.get(path).text)
    return texts


@pytest.mark.parametrize(
    ("answer", "options"),
    [
        (lambda: request.args.get("page", ""), {"query_string": True}),
        (
            lambda: request.headers.get("X-Tenant", ""),
            {"key_prefix": lambda: f"page/{request.headers.get('X-Tenant')}"},
        ),
        (lambda: session.get("user", ""), {"make_cache_key": lambda: f"page/{session.get('user')}"}),
        (lambda: session.get("user", ""), {"unless": lambda: "user" in session}),
        (lambda: request.path + request.method, {}),
    ],
    ids=["query", "prefix", "key", "unless", "path"],
)
def test_cached__what_the_key_contains(made: Made, answer: Callable[[], str], options: dict[str, Any]) -> None:
    """What the key was made of, or what decides whether the cache is asked, may be read."""
    client, counted = _view(made, answer, **options)
    for _ in range(3):
        assert client.get("/").status_code == 200
    assert counted.calls == 1


def test_cached__whoever_comes_first(made: Made) -> None:
    """Visitors who are signed in do not keep the others' page from being stored."""
    app, cache = made
    counted = Counted(lambda: str(session.get("user", "nobody")))
    app.add_url_rule("/", "root", cache.cached()(lambda: counted()))
    users = ("ann", "bob", None, None, "ann", None)
    assert _texts(app, "/", users) == [user or "nobody" for user in users]
    assert counted.calls == 4


def test_cached__two_callers(made: Made) -> None:
    """Nobody is shown a page that was made for somebody else, whoever came first."""
    app, cache = made

    @app.get("/me")
    @cache.cached()
    def me() -> str:
        return str(session.get("user", "nobody"))

    users = ("ann", None, "bob", "ann", None)
    assert _texts(app, "/me", users) == [user or "nobody" for user in users]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda: abort(503), 503),
        (lambda: abort(401), 401),
        (lambda: abort(make_response("own", 404)), 404),
        (lambda: flask.Response("away", 500), 500),
        (lambda: flask.Response("x", headers={"Set-Cookie": "id=1"}), 200),
        (lambda: ("x", 200, {"Set-Cookie": "id=1"}), 200),
        (lambda: flask.Response("x", headers={"Cache-Control": "private"}), 200),
        (lambda: flask.Response("x", headers={"Cache-Control": "no-store"}), 200),
        (lambda: flask.Response(iter(["x"])), 200),
        (lambda: flask.Response("part", 206), 206),
    ],
    ids=["503", "401", "aborted-response", "500", "cookie", "tuple", "private", "no-store", "stream", "206"],
)
def test_cached__answers_for_one_visitor_or_for_now(made: Made, answer: Callable[[], Any], status: int) -> None:
    """Errors that may be over soon, cookies, and what says that it is not to be stored, are made anew."""
    client, counted = _view(made, answer)
    assert [client.get("/").status_code for _ in range(3)] == [status] * 3
    assert counted.calls == 3


@pytest.mark.parametrize(
    "answer",
    [
        lambda: (make_response("x"), 203, {"X-A": "b"}),
        lambda: ("x", 203, [("X-A", "b")]),
        lambda: werkzeug.Response("x", 203, {"X-A": "b"}),
    ],
    ids=["response-and-status", "tuple", "werkzeug"],
)
def test_cached__every_form_of_an_answer(made: Made, answer: Callable[[], Any]) -> None:
    """What Flask takes from a view is stored, however it is put together."""
    client, counted = _view(made, answer)
    for _ in range(2):
        response = client.get("/")
        assert (response.text, response.status_code, response.headers["X-A"]) == ("x", 203, "b")
    assert counted.calls == 1


def test_cached__an_aborted_404_is_an_answer(made: Made) -> None:
    """As in Flask-Caching: it is stored, and raised again for the app's error handlers."""
    client, counted = _view(made, lambda: abort(404, "no such page"))
    made[0].register_error_handler(404, lambda error: (f"handled {error.description}", 404))
    assert [client.get("/").text for _ in range(2)] == ["handled no such page"] * 2
    assert counted.calls == 1


def test_cached__methods(made: Made) -> None:
    """By its path alone a POST is never answered, and what a HEAD has left out is not stored."""
    client, counted = _view(made, lambda: "" if request.method == "HEAD" else request.method)
    assert client.head("/").status_code == 200
    assert [client.get("/").text, client.post("/").text, client.post("/").text] == ["GET", "POST", "POST"]
    assert client.get("/").text == "GET"
    assert counted.calls == 4


def test_cached__one_load_for_many(made: Made) -> None:
    """Requests that come while a view runs wait for it."""
    app, cache = made
    begun, go = threading.Event(), threading.Event()
    calls = []

    @app.get("/slow")
    @cache.cached()
    def slow() -> str:
        calls.append(1)
        begun.set()
        assert go.wait(20)
        return "done"

    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(app.test_client().get("/slow").text)) for _ in range(8)]
    threads[0].start()
    assert begun.wait(20)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(20)
    assert answers == ["done"] * 8
    assert len(calls) == 1


def test_cached__cached_response_and_hit_header(made: Made) -> None:
    """A view says how long its answer is kept, and hits are marked where that is asked for."""
    app, cache = made

    @app.get("/long")
    @cache.cached(timeout=5, response_hit_indication=True)
    def long() -> CachedResponse:
        return CachedResponse(make_response("x"), timeout=500)

    client = app.test_client()
    assert [client.get("/long").headers.get("hit_cache") for _ in range(2)] == [None, "True"]
    with app.app_context():
        assert 400 < next(app.extensions["rcache"].entries()).ttl <= 500


def test_cached__the_memory_tier_forgets_what_is_set(make: Callable[..., Made], any_server: Server) -> None:
    """What a process holds of a view is gone when the process sets or deletes its key."""
    app, cache = make(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=any_server.url)
    counted = Counted(lambda: "made")
    app.add_url_rule("/", "root", cache.cached()(lambda: counted()))
    client = app.test_client()
    for _ in range(3):
        client.get("/")
    with app.app_context():
        cache.set("view//", "set")
    assert client.get("/").text == "set"
    with app.app_context():
        assert cache.delete("view//")
    assert client.get("/").text == "made"
    assert counted.calls == 2


def test_memoize__an_invalidation_during_the_load(made: Made) -> None:
    """A value whose load began before delete_memoized is not served after it: Flask-Caching stores it."""
    app, cache = made
    begun, go = threading.Event(), threading.Event()
    source = {"value": "old"}

    @cache.memoize()
    def read() -> str:
        value = source["value"]
        begun.set()
        assert go.wait(20)
        return value

    def first() -> None:
        with app.app_context():
            read()

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(20)
    source["value"] = "new"
    with app.app_context():
        cache.delete_memoized(read)
    go.set()
    thread.join(20)
    with app.app_context():
        assert read() == "new"


def test_memoize__functions_of_one_name(made: Made) -> None:
    """Functions that one factory made, and lambdas, have values of their own."""
    app, cache = made

    def times(factor: int) -> Any:
        @cache.memoize()
        def multiply(number: int) -> int:
            return number * factor

        return multiply

    with app.app_context():
        assert [times(2)(5), times(3)(5), times(2)(5)] == [10, 15, 10]
        plus, minus = (cache.memoize()(each) for each in (lambda x: x + 1, lambda x: x - 1))
        assert [plus(1), minus(1)] == [2, 0]


def test_memoize__objects(made: Made) -> None:
    """Objects are told by __caching_id__, then by a repr of their class's own, and else they are only themselves."""
    app, cache = made

    class Plain:
        @cache.memoize()
        def value(self) -> float:
            return random.random()

    class Named(Plain):
        def __init__(self, name: str) -> None:
            self.name = name

        def __repr__(self) -> str:
            return f"Named({self.name})"

    class Numbered(Named):
        def __caching_id__(self) -> int:
            return len(self.name)

    with app.app_context():
        plain = Plain()
        assert plain.value() == plain.value() != Plain().value()
        assert Named("a").value() == Named("a").value() != Named("b").value()
        assert Numbered("a").value() == Numbered("b").value() != Named("b").value()
        seen = set()
        for _ in range(50):  # whose addresses are the same
            seen.add(Plain().value())
            gc.collect(0)
        assert len(seen) == 50
        cache.delete_memoized(plain.value)
        assert Named("a").value() == Named("a").value()


class Shortened:
    """A container that shows only its length, as large arrays and tables do."""

    def __init__(self, *items: int) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"<{len(self)} items>"


def test_memoize__containers_with_a_short_repr(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    """Two containers that look alike never share a value: such calls are not cached, which one warning says."""
    app, cache = made

    @cache.memoize()
    def total(numbers: Shortened) -> int:
        return sum(numbers.items)

    with app.app_context():
        assert [total(Shortened(1, 2)), total(Shortened(3, 4)), total(Shortened(1, 2))] == [3, 7, 3]
    assert len([record for record in caplog.records if "__caching_id__" in record.getMessage()]) == 1


def test_memoize__nested_arguments(made: Made) -> None:
    """Objects inside of lists and dicts are told apart too, and equal plain data is one argument."""
    app, cache = made

    class Item:
        pass

    @cache.memoize()
    def roll(items: Any) -> float:
        return random.random()

    one, two = Item(), Item()
    with app.app_context():
        assert roll([one]) == roll([one]) != roll([two])
        assert roll({"a": [one]}) == roll({"a": [one]}) != roll({"a": [two]})
        assert roll((1,)) != roll([1])
        assert roll([1]) != roll([True])


def test_memoize__what_a_function_reads_of_the_request(made: Made) -> None:
    """A value that depends on who asks is not shared."""
    app, cache = made

    @cache.memoize()
    def greeting() -> str:
        return str(session.get("user"))

    app.add_url_rule("/", "root", greeting)
    for name in ("ann", "bob"):
        client = app.test_client()
        with client.session_transaction() as held:
            held["user"] = name
        assert client.get("/").text == name


def test_memoize__a_bound_method(made: Made) -> None:
    """A method that was bound before it was decorated has the values of its object."""
    app, cache = made

    class Die:
        def roll(self) -> float:
            return random.random()

    one, two = (cache.memoize()(die.roll) for die in (Die(), Die()))
    with app.app_context():
        assert one() == one() != two()
        before = one()
        cache.delete_memoized(one)
        assert one() != before


def test_memoize__errors_are_not_values(made: Made) -> None:
    """An exception is not stored, an HTTP error neither."""
    app, cache = made
    counted = Counted(lambda: abort(404))

    @cache.memoize()
    def find() -> Any:
        return counted()

    with app.app_context():
        for _ in range(2):
            with pytest.raises(Exception, match="404"):
                find()
    assert counted.calls == 2


def test_delete_memoized__of_a_plain_function(made: Made) -> None:
    """What is no memoized function is an error."""
    app, cache = made
    with app.app_context(), pytest.raises(TypeError, match="decorated with memoize"):
        cache.delete_memoized(len)


def test_template_tag__both_spellings(made: Made) -> None:
    """Flask-Caching's tag and this package's own stand side by side."""
    app, cache = made
    counted = Counted(lambda: "x")
    app.jinja_env.globals["load"] = counted
    theirs = flask.render_template_string
    with app.test_request_context():
        for _ in range(2):
            assert theirs('{% cache 60, "menu", lang %}{{ load() }}{% endcache %}', lang="en") == "x"
            assert theirs('{% cache "sidebar", ttl=300 %}{{ load() }}{% endcache %}') == "x"
        assert cache.get(make_template_fragment_key("menu", ["en"])) == "x"
        assert counted.calls == 2
        assert theirs('{% cache "del", "menu", lang %}{{ load() }}{% endcache %}', lang="en") == "x"
        assert cache.get(make_template_fragment_key("menu", ["en"])) is None


def test_template_tag__for_each_user(made: Made) -> None:
    """A fragment that shows who is asking is stored only where its name says so."""
    app, _ = made

    @app.context_processor
    def who() -> dict[str, str]:
        return {"me": session.get("user", "nobody")}

    source = {
        "/given": '{% cache 60, "given" %}{{ me }}{% endcache %}',
        "/hidden": '{% cache 60, "hello" %}{{ session.user }}{% endcache %}',
        "/named": '{% cache 60, "bye", session.user %}{{ session.user }}{% endcache %}',
    }
    for path in source:
        app.add_url_rule(path, path, lambda: flask.render_template_string(source[request.path]))
    for _ in range(2):
        for name in ("ann", "bob"):
            client = app.test_client()
            with client.session_transaction() as held:
                held["user"] = name
            assert client.get("/hidden").text == client.get("/named").text == client.get("/given").text == name
    with app.app_context():
        keys = [entry.key.rpartition(":")[2] for entry in app.extensions["rcache"].entries()]
    assert sorted(keys) == [make_template_fragment_key("bye", ["ann"]), make_template_fragment_key("bye", ["bob"])]


def test_backend__with_flask_caching_itself(any_server: Server) -> None:
    """One setting puts Flask-Caching's own decorators on this engine, with its other settings where they were."""
    app = flask.Flask("kept")
    app.config.update(CACHE_TYPE="flask_rcache.compat.flask_caching.RCacheBackend", CACHE_REDIS_URL=any_server.url)
    cache = original.Cache(app)
    counted = Counted(lambda: make_response("x", 203))
    app.add_url_rule("/", "root", cache.cached(60)(lambda: counted()))

    @cache.memoize()
    def roll(number: int) -> float:
        return random.random()

    client = app.test_client()
    assert [client.get("/").status_code for _ in range(3)] == [203] * 3
    assert counted.calls == 1
    with app.app_context():
        assert roll(1) == roll(1) != roll(2)
        before = roll(1)
        cache.delete_memoized(roll)
        assert roll(1) != before
        assert cache.set("a", 1)
        assert cache.get_many("b", "a") == [None, 1]
        assert cache.clear()
        assert cache.get("a") is None
    app.extensions["rcache"].close()


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_backend__both_template_tags(first: str) -> None:
    """Templates of Flask-Caching's tag and of this package's work in one app, whichever extension came first."""
    app = flask.Flask("tags")
    app.config["CACHE_TYPE"] = "flask_rcache.compat.flask_caching.RCacheBackend"
    if first == "ours":
        RCache(app)
    original.Cache(app)
    counted = Counted(lambda: "x")
    app.jinja_env.globals["load"] = counted
    with app.test_request_context():
        for _ in range(2):
            for tag in ('60, "menu", "en"', '"sidebar", ttl=300'):
                assert flask.render_template_string(f"{{% cache {tag} %}}{{{{ load() }}}}{{% endcache %}}") == "x"
        assert counted.calls == 2
        with pytest.raises(TemplateSyntaxError, match="timeout"):
            flask.render_template_string('{% cache "sidebar", timeout=300 %}{% endcache %}')
    app.extensions["rcache"].close()


def test_cache__uses_the_apps_own_rcache(any_server: Server) -> None:
    """An app that has an RCache keeps it: both ways of caching are one store."""
    app = flask.Flask("both")
    app.config.update(RCACHE_URL=any_server.url, CACHE_TYPE="SimpleCache")
    RCache(app)
    cache = Cache(app)
    with app.app_context():
        cache.set("key", 1)
        assert [entry.key for entry in app.extensions["rcache"].entries()] == ["cache:flask_caching:key"]
        assert app.extensions["rcache"].invalidate_type("flask_caching") == 1
        assert cache.get("key") is None
    app.extensions["rcache"].close()


def test_cache__two_stores_in_one_app() -> None:
    """An app has one store: a second Cache that asks for another is an error, not a cache that is somewhere else."""
    app = flask.Flask("two")
    app.config["CACHE_TYPE"] = "SimpleCache"
    Cache(app)
    Cache(app, config={"CACHE_KEY_PREFIX": "other"})
    with pytest.raises(ConfigError, match="one store"):
        Cache(app, config={"CACHE_TYPE": "RedisCache"})


def test_cache__before_init_app() -> None:
    """Without an app, the error says what to call."""
    cache = Cache()
    with pytest.raises(ConfigError, match=r"call cache\.init_app"):
        cache.get("key")


def test_cache__an_app_without_settings_is_warned() -> None:
    """As in Flask-Caching, nothing is cached where nothing is configured, and the views run."""
    app = flask.Flask("none")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cache = Cache(app)
    assert ["nothing is cached" in str(each.message) for each in caught] == [True]
    counted = Counted(lambda: "x")
    app.add_url_rule("/", "root", cache.cached()(lambda: counted()))
    assert [app.test_client().get("/").text for _ in range(2)] == ["x", "x"]
    assert counted.calls == 2


@pytest.mark.parametrize(
    "value",
    [
        ["flask_rcache.compat:response", "200 OK", [["Set-Cookie", "a=b"]], "text"],
        ["flask_rcache.compat:error", 404, "text"],
        ["flask_rcache.compat:error", "none", 1],
        ["flask_rcache.compat:page", "http://localhost/", [], 1, "view", "view"],
        ["flask_rcache.compat:list", [1]],
    ],
    ids=lambda value: value[0].partition(":")[2],
)
def test_cache__lists_of_clients_are_lists(made: Made, value: list[Any]) -> None:
    """A list from a client's JSON is never taken for a response or an error, however it is spelled."""
    app, cache = made
    memoized = cache.memoize()(lambda x: x)
    with app.app_context():
        cache.set("key", value)
        assert cache.get("key") == value
        assert cache.get_many("key") == [value]
        assert [memoized(value) for _ in range(2)] == [value] * 2


@pytest.mark.parametrize(
    "answer",
    [
        ("down", 503),
        ("denied", 403, {"X-One": "1"}),
        ("down", "503 SERVICE UNAVAILABLE"),
        ("page", {"Set-Cookie": "a=b"}),
        ("page", (("Set-Cookie", "a=b"),)),
        ("page", 200, [("set-cookie", "a=b")]),
    ],
    ids=str,
)
def test_cached__tuples_are_judged_as_responses(made: Made, answer: Any) -> None:
    """Errors that may be over soon, and cookies, are not for the next visitor, in whatever form they are returned."""
    client, counted = _view(made, lambda: answer)
    for _ in range(2):
        client.get("/")
    assert counted.calls == 2


def test_cached__two_views_with_one_key(made: Made) -> None:
    """A path that is spelled like another view's path and the hash of its query gets the answer of its own view."""
    app, cache = made
    listed = cache.cached(query_string=True)(lambda: f"page {request.args['q']}")
    app.add_url_rule("/page", "page", listed)
    named: Any = cache.cached()(lambda name: f"named {name[:4]}")
    app.add_url_rule("/<name>", "named", named)
    client = app.test_client(use_cookies=False)
    with app.test_request_context("/page?q=1"):
        path = listed.make_cache_key(use_request=True).removeprefix("view/")
    for _ in range(2):
        assert client.get(path).text == "named page"
        assert client.get("/page?q=1").text == "page 1"


def test_fragment_key__parts_are_told_apart() -> None:
    """Users may choose one: what it has of the character between the parts makes no other list of parts of it."""
    lists = [["a_b", "c"], ["a", "b_c"], ["a", "b", "c"], ["a_", "b"], ["a", "_b"], ["a\\", "b"], ["a\\_b"], ["a_b"]]
    keys = {make_template_fragment_key("cart", parts) for parts in lists}
    assert len(keys | {make_template_fragment_key("cart_a", ["b", "c"])}) == len(lists) + 1
    assert make_template_fragment_key("cart", ["a", "b"]) == "_template_fragment_cache_cart_a_b"
