"""`@cache_response` on every shape of a view, and what it makes of what they return."""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import io
import sys
import threading
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, jsonify, make_response, request, send_file, stream_with_context
from flask.views import MethodView, View
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_rcache import FROM_HEADERS, CacheType, ConfigError, InvalidKeyError, RCache, cache_response, current_cache
from flask_rcache.views import bound
from flask_rcache.views.bound import AppViews
from tests.views.kit import PAGE, Counted, detail, leases, make_app, manager, verdicts


def test_cache_response__second_request_is_a_hit_with_the_same_answer(new_app) -> None:
    """What a hit sends is what the miss sent: status, body, and every line but the cache's own."""
    app, body = new_app(), Counted()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return body(), 200, [("X-Own", "a"), ("Link", "</1>; rel=a"), ("Link", "</2>; rel=b"), ("X-Cache", "their own")]

    client = app.test_client()
    miss, hit = client.get("/"), client.get("/")
    assert (miss.headers["X-Cache"], hit.headers["X-Cache"]) == ("MISS", "HIT")
    assert (miss.status, miss.data) == (hit.status, hit.data) == ("200 OK", b"1")
    own = {"X-Cache", "Age", "Cache-Status"}
    assert sorted(line for line in miss.headers if line[0] not in own) == sorted(
        line for line in hit.headers if line[0] not in own
    )
    assert hit.headers.getlist("Link") == ["</1>; rel=a", "</2>; rel=b"]
    assert hit.headers.getlist("X-Cache") == ["HIT"]
    assert hit.headers["Age"] == "0"


def test_cache_response__the_caches_own_fields_are_not_replayed(new_app) -> None:
    """A gateway's Age counts on; its X-Cache and Cache-Status are of yesterday on a hit."""
    app = new_app()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        headers = {"Age": "20", "X-Cache": "HIT from there", "Cache-Status": "there; hit", "X-Cache-Key": "theirs"}
        return "x", 200, {**headers, "Cache-Control": "max-age=50"}

    client = app.test_client()
    miss, hit = client.get("/"), client.get("/")
    assert miss.headers["Cache-Status"].startswith("there; hit, rcache; fwd=uri-miss; stored; ttl=30;")
    assert hit.headers.getlist("X-Cache") == ["HIT"]
    assert hit.headers["Cache-Status"].startswith("rcache; hit; ttl=")
    assert hit.headers.getlist("Age") == ["20"]
    assert hit.headers.getlist("X-Cache-Key") == miss.headers.getlist("X-Cache-Key") != ["theirs"]


def test_cache_response__keeps_name_doc_signature_and_the_plain_view(new_app) -> None:
    """The wrapped function is what it was, and stays within reach."""

    def product(id: int, *, lang: str = "en") -> str:
        """One product."""
        return f"{id} {lang}"

    cached = cache_response(PAGE)(product)
    assert (cached.__name__, cached.__doc__) == ("product", "One product.")
    assert inspect.signature(cached) == inspect.signature(product)
    assert inspect.unwrap(cached) is product
    assert cached.uncached is product
    assert cached.uncached(3) == "3 en"


def test_cache_response__two_lambdas_of_one_function(new_app) -> None:
    """A view that calls two of them, at one URL, gets two answers: their code is in the key, as they share a name."""
    app = new_app()
    head, foot = cache_response(PAGE)(lambda: "head"), cache_response(PAGE)(lambda: "foot")

    @app.get("/")
    def page():
        return head().get_data() + foot().get_data()

    client = app.test_client()
    assert [client.get("/").text for _ in range(2)] == ["headfoot", "headfoot"]


def test_cache_response__one_view_serves_apps_made_later(new_app) -> None:
    """A view decorated before any app exists serves several, blueprint by blueprint, and they do not mix."""
    body, pages = Counted(), Blueprint("pages", __name__)

    @pages.get("/x")
    @cache_response("page")
    def page():
        return body()

    apps = [new_app(name=name, types=[PAGE]) for name in ("one", "two")]
    for app in apps:
        app.register_blueprint(pages, url_prefix="/shop")
    clients = [app.test_client() for app in apps]
    assert [verdicts(client, "/shop/x") for client in clients] == [["MISS", "HIT"]] * 2
    assert [client.get("/shop/x").data for client in clients] == [b"1", b"2"]


def test_cache_response__apps_share_a_redis_only_under_one_prefix(new_app, redis_server) -> None:
    """Two apps of one prefix are one cache; another prefix is another one."""

    def client(prefix: str) -> Any:
        app = new_app(redis_server.url, RCACHE_PREFIX=prefix)

        @app.get("/")
        @cache_response(PAGE)
        def page():
            return body()

        return app.test_client()

    body = Counted()
    clients = [client(prefix) for prefix in ("shop", "shop", "blog")]
    assert [client.get("/").data for client in clients] == [b"1", b"1", b"2"]


def test_cache_response__an_app_without_a_cache_is_named() -> None:
    """A forgotten init_app is an error that says so."""
    app = Flask("bare")
    app.testing = True

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return "x"

    with pytest.raises(ConfigError, match=r"'bare' has no cache.*init_app"):
        app.test_client().get("/")


async def _async_page(body: Counted) -> str:
    return body()


def test_cache_response__async_views(new_app) -> None:
    """A coroutine function stays one, and is cached like any other."""
    app, body = new_app(), Counted()

    async def page():
        return await _async_page(body)

    cached = cache_response(PAGE)(page)
    assert inspect.iscoroutinefunction(cached)
    app.add_url_rule("/", view_func=cached)
    assert verdicts(app.test_client(), "/") == ["MISS", "HIT"]
    assert body.calls == 1


def test_cache_response__methods_of_views_get_their_arguments_by_name(new_app) -> None:
    """`tags` and `unless` of a method view are called with keyword arguments, and never with `self`."""
    app, seen = new_app(), []

    def tags(**arguments: Any) -> list[str]:
        seen.append(arguments)
        return [f"item-{arguments['id']}"]

    def unless(req: Any, **arguments: Any) -> bool:
        seen.append(arguments)
        return bool(arguments["id"] == 13)

    class Item(MethodView):
        @cache_response(PAGE, tags=tags, unless=unless)
        def get(self, id):
            return f"{type(self).__name__} {id}"

        def post(self, id):
            return "posted"

    app.add_url_rule("/item/<int:id>", view_func=Item.as_view("item"))
    client = app.test_client()
    assert verdicts(client, "/item/1") == ["MISS", "HIT"]
    assert verdicts(client, "/item/13") == ["BYPASS", "BYPASS"]
    assert client.get("/item/1").data == b"Item 1"
    assert all(each == {"id": 1} or each == {"id": 13} for each in seen)
    with app.app_context():
        current_cache.invalidate_tags("item-1")
    assert verdicts(client, "/item/1") == ["MISS", "HIT"]
    assert client.post("/item/1").status_code == 200
    assert verdicts(client, "/item/1", 1) == ["MISS"]


@pytest.mark.parametrize("where", ["method", "decorators"])
def test_cache_response__on_a_view_class(new_app, where) -> None:
    """On `dispatch_request`, or in a class's `decorators`: cached, and invalidated by a write to the URL."""
    app, body = new_app(), Counted()

    class Page(View):
        methods = {"GET", "POST"}  # noqa: RUF012
        if where == "decorators":
            decorators = [cache_response(PAGE)]

        def dispatch_request(self):
            return body()

    if where == "method":
        Page.dispatch_request = cache_response(PAGE)(Page.dispatch_request)  # type: ignore[method-assign]
    app.add_url_rule("/", view_func=Page.as_view("page"))
    client = app.test_client()
    assert verdicts(client, "/") == ["MISS", "HIT"]
    assert detail(client.post("/")) == "METHOD"
    assert verdicts(client, "/") == ["MISS", "HIT"]


def test_cache_response__under_another_decorator_a_write_still_invalidates(new_app) -> None:
    """The decorated view is found through the decorators above it."""
    app, body = new_app(), Counted()

    def logged(view):
        @functools.wraps(view)
        def wrapper(*args, **kwargs):
            return view(*args, **kwargs)

        return wrapper

    @app.route("/", methods=["GET", "PUT"])
    @logged
    @cache_response(PAGE)
    def page():
        return body()

    client = app.test_client()
    assert verdicts(client, "/") == ["MISS", "HIT"]
    client.put("/")
    assert verdicts(client, "/") == ["MISS", "HIT"]


def test_cache_response__a_function_called_in_a_view(new_app) -> None:
    """Its arguments are part of the key, in whatever way they are passed, and `X-Cache` is on the object."""
    app, seen = new_app(), []

    @cache_response(PAGE)
    def part(name, size=1):
        seen.append((name, size))
        return f"{name}{size}"

    @app.get("/")
    def page():
        parts = [part("a"), part("b"), part("a", 2), part("a", size=3)]
        assert all(isinstance(each, Response) for each in parts)
        return jsonify([(each.get_data(as_text=True), each.headers["X-Cache"]) for each in parts])

    client = app.test_client()
    assert client.get("/").json == [["a1", "MISS"], ["b1", "MISS"], ["a2", "MISS"], ["a3", "MISS"]]
    assert client.get("/").json == [["a1", "HIT"], ["b1", "HIT"], ["a2", "HIT"], ["a3", "HIT"]]
    assert len(seen) == 4
    assert "X-Cache" not in client.get("/").headers


def test_cache_response__a_function_defined_in_a_view(new_app, monkeypatch) -> None:
    """Decorated anew in each request it is the same function still, and what is kept of it does not grow."""
    monkeypatch.setattr(bound, "_VIEWS_KEPT", 40)
    app, body = new_app(), Counted()

    @app.get("/<name>")
    def page(name):
        @cache_response(PAGE, ttl=3600)  # however slow the machine is
        def inner():
            return f"{name} {body()}"

        return inner()

    client = app.test_client()
    assert verdicts(client, "/a") == ["MISS", "HIT"]
    assert client.get("/b").data == b"b 2"
    for number in range(100):
        with app.test_request_context("/a"):
            app.view_functions["page"](name="a")
        assert len(AppViews.of(app).bound) <= 40, number
    assert client.get("/a").data == b"a 1"


def test_cache_response__a_decorated_view_may_return_anothers_response(new_app) -> None:
    """Outer and inner are stored each under its own key, and invalidating the inner's tag reaches both."""
    app, body = new_app(), Counted()

    @cache_response(PAGE, tags=["inner"])
    def inner():
        return body()

    @app.get("/")
    @cache_response(CacheType.DASHBOARD)
    def outer():
        return inner()

    client = app.test_client()
    first, second = client.get("/"), client.get("/")
    assert [first.headers["X-Cache"], second.headers["X-Cache"]] == ["MISS", "HIT"]
    assert second.headers["X-Cache-Key"].startswith("cache:dashboard:")
    assert len(list(manager(app).entries())) == 2
    with app.app_context():
        current_cache.invalidate_tags("inner")
    assert client.get("/").data == b"2"


RETURNED = {
    "text": lambda: "x",
    "bytes": lambda: b"x",
    "dict": lambda: {"a": 1},
    "list": lambda: [1, 2],
    "tuple of text and status": lambda: ("x", 203),
    "tuple with headers": lambda: ("x", 200, {"X-Own": "1"}),
    "response": lambda: Response("x", mimetype="text/plain"),
    "response without a type": lambda: _without_type(),
    "made of parts": lambda: Response(["a", "b"]),
    "empty": lambda: ("", 204),
    "own reason phrase": lambda: Response("x", status="200 Fine"),
    "404 returned": lambda: ("no", 404),
}


def _without_type() -> Response:
    response = Response(b"\x00\x01")
    del response.headers["Content-Type"]
    return response


@pytest.mark.parametrize("make", RETURNED.values(), ids=RETURNED)
def test_cache_response__whatever_a_view_returns_comes_back_the_same(new_app, make) -> None:
    """Every kind of return value is kept exactly."""
    app = new_app()
    app.add_url_rule("/", view_func=cache_response(PAGE)(lambda: make()), endpoint="x")
    app.add_url_rule("/plain", view_func=lambda: make(), endpoint="y")
    client = app.test_client()
    bare, miss, hit = client.get("/plain"), client.get("/"), client.get("/")
    assert (miss.headers["X-Cache"], hit.headers["X-Cache"]) == ("MISS", "HIT")
    assert (bare.status, bare.data) == (miss.status, miss.data) == (hit.status, hit.data)
    assert bare.headers.get("Content-Type") == miss.headers.get("Content-Type") == hit.headers.get("Content-Type")
    assert bare.headers.get("Content-Length") == hit.headers.get("Content-Length")


def test_cache_response__nothing_returned_is_flasks_own_error(new_app) -> None:
    """A view that forgets to return fails as it does without the cache, and leaves no lease."""
    app = new_app()
    app.add_url_rule("/", view_func=cache_response(PAGE)(lambda: None), endpoint="x")
    with pytest.raises(TypeError, match="did not return a valid response"):
        app.test_client().get("/")
    assert leases(app) == []


def test_cache_response__streams_are_passed_on(new_app) -> None:
    """A generator is not stored and not consumed by the cache; its pieces come as the view makes them."""
    app, made = new_app(), []

    @app.get("/")
    @cache_response(PAGE)
    def page():
        def pieces():
            for number in range(3):
                made.append(number)
                yield str(number)

        return Response(stream_with_context(pieces()))

    response = app.test_client().get("/", buffered=False)
    assert detail(response) == "STREAMED"
    # The test client has taken the first piece to get at the status; the rest is still to be made.
    assert made in ([], [0])
    assert response.data == b"012"


FILE = bytes(range(256)) * 8


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({}, 200, FILE),
        ({"Range": "bytes=10-19"}, 206, FILE[10:20]),
        ({"Range": "bytes=99999-"}, 416, None),
        ({"If-None-Match": '"f"'}, 304, b""),
        ({"If-None-Match": '"other"'}, 200, FILE),
    ],
)
def test_cache_response__files_answer_conditions_and_ranges_as_without_the_cache(
    new_app, headers, status, body
) -> None:
    """`send_file` under the decorator is not stored, and still answers 206, 304 and 416."""
    app = new_app()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return send_file(io.BytesIO(FILE), "application/octet-stream", etag="f", conditional=True)

    client = app.test_client()
    for _ in range(2):
        response = client.get("/", headers=headers)
        assert response.status_code == status
        assert body is None or response.data == body
    assert list(manager(app).entries()) == []


@pytest.mark.parametrize("pack", [lambda kept: kept, lambda kept: (kept, 200)], ids=["bare", "in a tuple"])
def test_cache_response__a_response_object_the_view_keeps_is_left_alone(new_app, pack) -> None:
    """A view that returns one object again and again neither collects our fields on it nor serves an old ETag."""
    app = new_app()
    kept = make_response_outside()

    @app.get("/")
    @cache_response(PAGE, unless=lambda req: "skip" in req.args)
    def page():
        kept.set_data(request.args.get("body", ""))
        return pack(kept)

    client = app.test_client()
    for query in ("skip=1&body=a", "skip=1&body=b", "body=c", "body=dd"):
        client.get(f"/?{query}")
    assert [name for name, _ in kept.headers] == ["Content-Type", "Content-Length"]
    etags = [client.get(f"/?body={body}").headers["ETag"] for body in ("c", "dd")]
    assert etags[0] != etags[1]
    assert client.get("/?body=dd", headers={"If-None-Match": etags[0]}).status_code == 200


def make_response_outside() -> Response:
    """A response made when no application was there."""
    return Response("")


def test_cache_response__aborts_are_never_stored(new_app) -> None:
    """`abort` of any status runs again next time, and leaves no lease; a returned 404 is kept."""
    app, body = new_app(), Counted()

    @app.get("/<int:status>")
    @cache_response(PAGE)
    def page(status):
        body()
        abort(status)

    @app.get("/gone")
    @cache_response(PAGE)
    def gone():
        return make_response(body(), 404)

    client = app.test_client()
    for status in (401, 404, 410, 500, 503):
        assert [client.get(f"/{status}").status_code for _ in range(2)] == [status, status]
    assert body.calls == 10
    assert leases(app) == []
    assert verdicts(client, "/gone") == ["MISS", "HIT"]


def test_cache_response__head_is_answered_from_a_stored_get(new_app) -> None:
    """HEAD never fills; after a GET it is a hit with the GET's length and no body."""
    app, body = new_app(), Counted()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return body() * 10

    client = app.test_client()
    cold = client.head("/")
    assert (cold.headers["X-Cache"], detail(cold)) == ("MISS", "HEAD")
    assert verdicts(client, "/", 1) == ["MISS"]
    warm = client.head("/")
    assert (warm.headers["X-Cache"], warm.data, warm.headers["Content-Length"]) == ("HIT", b"", "10")
    assert body.calls == 2


def test_cache_response__unless_and_no_key_bypass(new_app) -> None:
    """`unless` that is true and a `key_func` without a key send the request past the cache."""
    app = new_app()
    app.add_url_rule(
        "/a", view_func=cache_response(PAGE, unless=lambda req: "x" in req.args)(lambda: "a"), endpoint="a"
    )
    app.add_url_rule(
        "/b", view_func=cache_response(PAGE, None, lambda req: req.args.get("k"))(lambda: "b"), endpoint="b"
    )
    client = app.test_client()
    assert detail(client.get("/a?x=1")) == "UNLESS"
    assert verdicts(client, "/a") == ["MISS", "HIT"]
    assert detail(client.get("/b")) == "KEY"
    assert verdicts(client, "/b?k=1") == ["MISS", "HIT"]
    assert client.get("/b?k=1").headers["X-Cache-Key"] == "cache:page:1"


def test_cache_response__an_unless_that_raises_is_the_apps_error(new_app) -> None:
    """A bug in the app's own callable is not swallowed, and takes no lease."""
    app = new_app()
    broken: list[dict[str, Any]] = [
        {"unless": lambda req: 1 / 0},
        {"key_func": lambda req: 1 / 0},
        {"tags": lambda **kw: 1 / 0},
    ]
    for number, options in enumerate(broken):
        app.add_url_rule(f"/{number}", view_func=cache_response(PAGE, **options)(lambda: "x"), endpoint=str(number))
    for number in range(len(broken)):
        with pytest.raises(ZeroDivisionError):
            app.test_client().get(f"/{number}")
    assert leases(app) == []


def test_cache_response__switched_off(new_app) -> None:
    """`RCACHE_ENABLED=false` and `disabled()`: no read, no fill; what was stored is there again afterwards."""
    rcache, body = RCache(), Counted()
    app = new_app(rcache=rcache)
    off = new_app(RCACHE_ENABLED="false")
    for each in (app, off):
        each.add_url_rule("/", view_func=cache_response(PAGE)(lambda: body()), endpoint="x")
    client = app.test_client()
    assert verdicts(client, "/") == ["MISS", "HIT"]
    with rcache.disabled():
        response = client.get("/")
        assert (response.headers["X-Cache"], detail(response), response.data) == ("BYPASS", "DISABLED", b"2")
    assert client.get("/").data == b"1"
    assert verdicts(off.test_client(), "/") == ["BYPASS", "BYPASS"]


def test_cache_response__writes_invalidate_while_switched_off(new_app, redis_server) -> None:
    """A process whose cache is switched off still sends what others must know."""
    body = Counted()
    apps = [new_app(redis_server.url), new_app(redis_server.url, RCACHE_ENABLED=False)]
    for app in apps:
        app.add_url_rule("/", view_func=cache_response(PAGE)(lambda: body()), endpoint="x", methods=["GET", "POST"])
    assert verdicts(apps[0].test_client(), "/") == ["MISS", "HIT"]
    assert apps[1].test_client().post("/").headers["X-Cache"] == "BYPASS"
    assert verdicts(apps[0].test_client(), "/", 1) == ["MISS"]


def test_cache_response__ttl_from_headers_needs_a_lifetime(new_app) -> None:
    """`FROM_HEADERS` stores what states its own lifetime, and nothing else."""
    app = new_app()

    @app.get("/<seconds>")
    @cache_response(PAGE, FROM_HEADERS)
    def page(seconds):
        return ("x", 200, {"Cache-Control": f"max-age={seconds}"}) if seconds != "none" else "x"

    client = app.test_client()
    assert verdicts(client, "/60") == ["MISS", "HIT"]
    assert "; stored; ttl=7;" in client.get("/7").headers["Cache-Status"]
    assert [detail(client.get("/none")), detail(client.get("/0"))] == ["NO-FRESHNESS", "ALREADY-STALE"]


def ANY(value: object) -> Any:  # noqa: N802
    """The same for a type checker that would refuse it too."""
    return value


def _pieces() -> Any:
    yield "x"


async def _async_pieces() -> Any:
    yield "x"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cache_response(lambda: "x"), "takes a CacheType or its name first"),  # type: ignore[arg-type]
        (lambda: cache_response(PAGE, 0), "more than 0 seconds"),
        (lambda: cache_response(PAGE, tags="one"), "write"),
        (lambda: cache_response(PAGE, vary="Accept"), "vary must be a list"),
        (lambda: cache_response(PAGE, unless=True), "unless must be a function"),  # type: ignore[arg-type]
        (lambda: cache_response(PAGE)(functools.partial(str, "x")), "needs a function whose arguments"),
        (lambda: cache_response(PAGE, None, "key"), "key_func must be a function"),  # type: ignore[arg-type]
        (lambda: cache_response(PAGE, keep=ANY(_async_page)), "keep must be a function of the response, and not async"),
        (lambda: cache_response(PAGE)(ANY(classmethod(ANY(len)))), "above @classmethod.*directly above the def"),
        (lambda: cache_response(PAGE)(ANY(staticmethod(len))), "above @staticmethod.*directly above the def"),
        (lambda: cache_response(PAGE)(ANY(property(len))), "above @property.*directly above the def"),
        (lambda: cache_response(PAGE)(ANY(View)), "above the class View: .*decorators = "),
        (lambda: cache_response(PAGE)(ANY("page")), "decorates a view function, not str"),
        (lambda: cache_response(PAGE)(ANY(_pieces)), "_pieces is a generator: its response is streamed"),
        (lambda: cache_response(PAGE)(ANY(_async_pieces)), "_async_pieces is a generator"),
    ],
)
def test_cache_response__wrong_options_are_refused_where_they_are_written(build, message) -> None:
    """A mistake in the decorator is an error at import, not at the first request."""
    with pytest.raises(ConfigError, match=message):
        build()


def test_cache_response__a_coroutine_needs_flasks_async_extra(monkeypatch) -> None:
    """Without asgiref the view would fail at each request: it is an error where it is written."""
    monkeypatch.setitem(sys.modules, "asgiref", None)
    with pytest.raises(ConfigError, match=r"_async_page is a coroutine function.*flask\[async\]"):
        cache_response(PAGE)(ANY(_async_page))


def test_cache_response__without_arguments(new_app) -> None:
    """The type is DEFAULT then, with the app's default ttl."""
    app = new_app(RCACHE_TTL_DEFAULT=77)
    app.add_url_rule("/", view_func=cache_response()(lambda: "x"), endpoint="x")
    response = app.test_client().get("/")
    assert "; stored; ttl=77;" in response.headers["Cache-Status"]
    assert response.headers["X-Cache-Key"].startswith("cache:default:")


@pytest.mark.parametrize("ttl", [90, 90.0, dt.timedelta(minutes=1.5)])
def test_cache_response__a_ttl_is_seconds_or_a_timedelta(new_app, ttl) -> None:
    """Both say the same."""
    app = new_app()
    app.add_url_rule("/", view_func=cache_response(PAGE, ttl)(lambda: "x"), endpoint="x")
    assert "; stored; ttl=90;" in app.test_client().get("/").headers["Cache-Status"]


def test_cache_response__keep_says_which_responses_are_stored(new_app) -> None:
    """`keep` gets the response of the view: what it refuses is sent and not stored, and leaves no lease."""
    app, body = new_app(), Counted()

    @app.get("/<kind>")
    @cache_response(PAGE, keep=lambda response: b"empty" not in response.data)
    def page(kind):
        return f"{kind} {body()}"

    client = app.test_client()
    for number in (1, 2):
        response = client.get("/empty")
        assert (response.text, response.headers["X-Cache"], detail(response)) == (f"empty {number}", "MISS", "KEEP")
    assert leases(app) == []
    assert verdicts(client, "/full") == ["MISS", "HIT"]


def test_cache_response__limit_ttl_in_a_view(new_app) -> None:
    """It shortens what is kept, and says so; what is sent to browsers stays."""
    app = new_app()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        current_cache.limit_ttl(7)
        return "x", 200, {"Cache-Control": "max-age=50"}

    response = app.test_client().get("/")
    assert "; stored; ttl=7;" in response.headers["Cache-Status"]
    assert response.headers["Cache-Control"] == "max-age=50"


def test_cache_response__the_key_can_be_kept_from_clients(new_app) -> None:
    """Without `RCACHE_SHOW_KEY` neither X-Cache-Key nor the key in Cache-Status is sent, on a miss or a hit."""
    app = new_app(RCACHE_SHOW_KEY=False)
    app.add_url_rule("/", view_func=cache_response(PAGE)(lambda: "x"), endpoint="x")
    client = app.test_client()
    for response in (client.get("/"), client.get("/"), client.get("/", headers={"If-None-Match": "*"})):
        assert "X-Cache-Key" not in response.headers
        assert "key=" not in response.headers["Cache-Status"]


def test_cache_response__warns_of_hosts_once(new_app, caplog) -> None:
    """In production, with a host in the key and no TRUSTED_HOSTS: one warning for the app; otherwise none."""

    def logged(**config: Any) -> int:
        caplog.clear()
        app = new_app(TESTING=False, **config)
        for path in ("/a", "/b"):
            app.add_url_rule(path, view_func=cache_response(PAGE)(lambda: "x"), endpoint=path)
        for path in ("/a", "/b", "/a?x=1"):
            app.test_client().get(path)
        return sum("TRUSTED_HOSTS" in record.getMessage() for record in caplog.records)

    assert logged() == 1
    assert logged(TRUSTED_HOSTS=["localhost"]) == 0
    assert logged(DEBUG=True) == 0


def test_cache_response__hosts_have_entries_of_their_own(new_app) -> None:
    """A page made for one host is never sent for another; case and the default port make no difference."""
    app = new_app()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return request.host

    client = app.test_client()
    answers = [client.get("/", headers={"Host": host}) for host in ("a.test", "b.test", "A.TEST", "a.test:80")]
    assert [answer.data for answer in answers] == [b"a.test", b"b.test", b"a.test", b"a.test"]
    assert [answer.headers["X-Cache"] for answer in answers] == ["MISS", "MISS", "HIT", "HIT"]
    assert verdicts(client, "/", 1, base_url="https://a.test/") == ["MISS"]


def test_cache_response__the_query_is_part_of_the_key_as_it_is(new_app) -> None:
    """Order and repetition of arguments tell requests apart, unless the type says which of them count."""
    app = new_app()

    @app.get("/all")
    @cache_response(PAGE)
    def everything():
        return request.query_string

    @app.get("/some")
    @cache_response(PAGE.replace(query=("q", "page")))
    def some():
        return "&".join(request.args.getlist("q"))

    client = app.test_client()
    for query in ("a=1&a=2", "a=2&a=1", "a=1", "", "a=%31"):
        response = client.get(f"/all?{query}" if query else "/all")
        assert (response.data.decode(), response.headers["X-Cache"]) == (query, "MISS")
    assert client.get("/some?q=a&utm=1").headers["X-Cache"] == "MISS"
    assert client.get("/some?utm=2&q=a").headers["X-Cache"] == "HIT"
    assert client.get("/some?q=b").headers["X-Cache"] == "MISS"


def test_cache_response__mistaken_for_a_value_an_entry_is_no_answer(new_app) -> None:
    """A value under the very key that a `key_func` names is not sent as a page, and the other way round."""
    app = new_app()
    app.add_url_rule("/", view_func=cache_response(PAGE, None, lambda req: "k")(lambda: "page"), endpoint="x")
    with app.app_context():
        current_cache.set(PAGE, "k", {"a": "value"})
        assert app.test_client().get("/").data == b"page"
        assert current_cache.get(PAGE, "k", "nothing") == "nothing"


@pytest.mark.parametrize(
    "key", ["a:b*c", "../../x", "cache~stamps", "x" * 5000, "ü\n\x00", (1, "a"), 7, -1, ("a", None)]
)
def test_cache_response__hostile_keys_stay_within_their_type(new_app, redis_server, key) -> None:
    """Whatever a `key_func` returns, the entry lies under its own type and comes back."""
    app = new_app(redis_server.url)
    app.add_url_rule("/", view_func=cache_response(PAGE, None, lambda req: key)(lambda: "x"), endpoint="x")
    assert verdicts(app.test_client(), "/") == ["MISS", "HIT"]
    entries = [name for name in redis_server.client().scan_iter() if b"~" not in name.partition(b":")[0]]
    assert len(entries) == 1
    assert entries[0].startswith(b"cache:page:")


@pytest.mark.parametrize("key", ["cache:product:1", 1.5, b"x", object()])
def test_cache_response__keys_that_cannot_be_meant_raise(new_app, key) -> None:
    """A key of another type, or of a kind that has no stable form, is the app's error."""
    app = new_app()
    app.add_url_rule("/", view_func=cache_response(PAGE, None, lambda req: key)(lambda: "x"), endpoint="x")
    with pytest.raises(ConfigError):
        app.test_client().get("/")
    assert leases(app) == []


# Keys in which a client's words stand


def _finder(new_app: Any, **config: Any) -> Flask:
    """A page of its own key, and one whose key is what the client says, of one type."""
    app: Flask = new_app(**config)

    @app.get("/top")
    @cache_response(PAGE)
    def top():
        return "the top page"

    @app.get("/find")
    @cache_response(PAGE, None, lambda req: req.args.get("q"))
    def find():
        return f"results for {request.args['q']}"

    return app


@pytest.mark.parametrize("first", ["/top", "/find"])
def test_key_func__a_hash_from_a_client_reaches_no_other_entry(new_app, first) -> None:
    """Hashes are made of public facts: whoever says one neither reads nor fills the entry that it stands for."""
    app = _finder(new_app)
    client = app.test_client()
    key = client.get("/top").headers["X-Cache-Key"]
    if first == "/find":
        manager(app).clear_all()
    assert client.get("/find", query_string={"q": key}).text == f"results for {key}"
    assert client.get("/top").text == "the top page"


def test_key_func__a_clients_words_in_a_tuple(new_app) -> None:
    """As the documentation says to pass them on: neither another type's prefix nor one's own means anything there."""
    app = new_app()

    @app.get("/find")
    @cache_response(PAGE, None, lambda req: ("q", req.args["q"]))
    def find():
        return f"results for {request.args['q']}"

    client = app.test_client()
    for query in ("cache:page:shoes", "shoes", "cache:dashboard:shoes"):
        assert client.get("/find", query_string={"q": query}).text == f"results for {query}"


def test_key__arguments_of_a_preprocessor_are_part_of_it(new_app) -> None:
    """What a `url_value_preprocessor` adds comes from no URL, and tells two answers apart."""
    app, body = new_app(RCACHE_NEGOTIATED=["X-Tenant"]), Counted()

    @app.url_value_preprocessor
    def tenant(endpoint, values):
        values["tenant"] = request.headers.get("X-Tenant", "none")

    @app.get("/data")
    @cache_response(PAGE)
    def data(tenant):
        return f"{tenant} {body()}"

    client = app.test_client()
    answers = [client.get("/data", headers={"X-Tenant": name}).text for name in ("acme", "globex", "acme")]
    assert answers == ["acme 1", "globex 2", "acme 1"]


@pytest.mark.parametrize(
    ("queries", "texts"),
    [
        ((b"q=%ff", b"q=%fe"), ("%FF", "%FE")),
        ((b"q=%C3%83%C2%A9", b"q=\xc3\xa9"), ("\u00c3\u00a9", "\u00e9")),
    ],
    ids=["no UTF-8", "not quoted"],
)
def test_key__named_arguments_are_read_as_the_view_reads_them(new_app, queries, texts) -> None:
    """With an allow-list the query is parsed; what the view can tell apart stays apart."""
    app = new_app()
    found = CacheType("found", ttl=60, query=("q",))
    app.add_url_rule("/", view_func=cache_response(found)(lambda: request.args["q"]), endpoint="x")
    client = app.test_client()
    for _ in range(2):
        for query, text in zip(queries, texts, strict=True):
            assert client.get("/", environ_overrides={"QUERY_STRING": query.decode("latin-1")}).text == text


def test_key__the_script_root_is_not_run_into_the_path(new_app) -> None:
    """The same text of a URL, cut in two at another place, is another page."""
    app = new_app()
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)
    app.add_url_rule("/<path:page>", view_func=cache_response(PAGE)(lambda **_: _place()), endpoint="x")
    client = app.test_client()
    for _ in range(2):
        assert client.get("/b", headers={"X-Forwarded-Prefix": "/a"}).text == "/a|/b"
        assert client.get("/a/b").text == "|/a/b"


def _place() -> str:
    return f"{request.script_root}|{request.path}"


class Member:
    """What a decorator above a view looks up for it: nothing says what tells two of them apart."""

    def __init__(self, name: str) -> None:
        self.name, self._lock = name, threading.Lock()


def _member_app(**config: Any) -> Flask:
    app = Flask("members")
    app.config.update(config)
    RCache(app)

    def with_member(view: Any) -> Any:
        return lambda: view(member=Member(request.args["name"]))

    @cache_response(CacheType.DASHBOARD)
    def page(member: Member) -> str:
        return f"hello {member.name}"

    app.add_url_rule("/", "page", with_member(page))
    return app


def test_key__what_is_injected_and_cannot_stand_in_it(caplog) -> None:
    """In production such requests bypass the cache, with one warning; while developing and testing it is an error."""
    client = _member_app().test_client()
    answers = [client.get("/", query_string={"name": name}) for name in ("ann", "bob", "ann")]
    assert [answer.text for answer in answers] == ["hello ann", "hello bob", "hello ann"]
    assert {answer.headers["X-Cache"] for answer in answers} == {"BYPASS"}
    warned = [each.getMessage() for each in caplog.records if "bypass the cache" in each.getMessage()]
    assert len(warned) == 1
    assert "Member" in warned[0]
    with pytest.raises(InvalidKeyError, match="Member"):
        _member_app(TESTING=True).test_client().get("/?name=ann")


def test_key__of_an_error_handler_is_none(new_app) -> None:
    """A decorated error handler is called with an exception, of which no two are the same: it bypasses the cache."""
    app = new_app(PROPAGATE_EXCEPTIONS=False)

    @app.errorhandler(404)
    @cache_response(PAGE)
    def missing(error):
        return "none", 404

    response = app.test_client().get("/nothing")
    assert (response.status_code, response.text, detail(response)) == (404, "none", "KEY")


def test_key__a_first_argument_called_cls_is_an_argument(new_app) -> None:
    """Only a method has an object that is no part of the key."""
    app = new_app()

    @cache_response(PAGE)
    def part(cls):
        return f"[{cls}]"

    app.add_url_rule("/", view_func=lambda: part("a").data + part("b").data, endpoint="x")
    assert [app.test_client().get("/").text for _ in range(2)] == ["[a][b]"] * 2


def test_key__those_of_long_urls_are_not_remembered(new_app) -> None:
    """Anybody can make up long URLs: their keys are worked out each time, and take no memory beside the entries'."""
    app = new_app()
    app.add_url_rule("/", view_func=cache_response(PAGE)(lambda: "x"), endpoint="x")
    client = app.test_client()
    for path in ("/?short", "/?" + "a" * 8000):
        assert verdicts(client, path) == ["MISS", "HIT"]
    view = AppViews.of(app).view(app.view_functions["x"].rcache_options)
    assert [raw[-1] for raw in view._ids] == ["short"]


# Decorators below


def test_tags__beside_a_decorator_below_that_adds_arguments(new_app) -> None:
    """The tags' function gets the arguments of the call, not those that a decorator below it adds."""
    app = new_app()

    def inject(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function("user", *args, **kwargs)

        return wrapper

    @app.get("/<item>")
    @cache_response(PAGE, tags=lambda item: [f"t:{item}"])
    @inject
    def page(user, item):
        return user + item

    client = app.test_client()
    assert (client.get("/1").text, verdicts(client, "/1")) == ("user1", ["HIT", "HIT"])
    manager(app).invalidate_tags("t:1")
    assert verdicts(client, "/1") == ["MISS", "HIT"]


def test_make_app__is_an_app_of_its_own() -> None:
    """The kit's own applications do not share a cache."""
    assert manager(make_app()) is not manager(make_app())
