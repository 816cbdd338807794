"""What was read of a request selects the answer: fields, variants, sessions, flashes, tokens in pages."""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
import time
from contextvars import ContextVar
from typing import Any

import pytest
from flask import (
    Flask,
    Request,
    Response,
    copy_current_request_context,
    flash,
    g,
    get_flashed_messages,
    render_template_string,
    request,
    request_started,
    session,
)
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_login import LoginManager, UserMixin, login_user, logout_user  # type: ignore[import-untyped]
from flask_wtf.csrf import generate_csrf  # type: ignore[import-untyped]
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import BaseConverter, UnicodeConverter

from flask_rcache import CacheType, ConfigError, RCache, by_caller, by_user, cache_response, unobserved
from tests.views.kit import PAGE, Counted, detail, in_threads, manager, verdicts

MINE = CacheType("mine", ttl=60, per_user=True)


class User(UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


def get(app: Flask, path: str = "/", **headers: str) -> Any:
    """A request of a client without cookies; `X_Token` is the field X-Token."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client(use_cookies=False).get(path, headers=fields)


def view(app: Flask, body: Any, rule: str = "/", **options: Any) -> None:
    """A decorated view at a rule."""
    kind = options.pop("kind", PAGE)
    app.add_url_rule(rule, rule, cache_response(kind, **options)(body))


# What negotiates


def test_selection__what_negotiates_has_a_variant_for_each_value(new_app, store_url) -> None:
    """`Vary` is sent on a miss and on a hit, also where the request has none of the field."""
    app = new_app(store_url)
    view(app, lambda: str(request.accept_languages.best_match(["de", "en"], "en")))
    for language, text in (("de", "de"), ("en", "en"), ("", "en")):
        asked = {"Accept_Language": language} if language else {}
        for verdict in ("MISS", "HIT"):
            answer = get(app, **asked)
            assert (answer.text, answer.headers["X-Cache"], answer.headers["Vary"]) == (
                text,
                verdict,
                "Accept-Language",
            )


def test_selection__values_are_normalised(new_app) -> None:
    """Order and case of languages where the weights say the order; codings in any order."""
    app, body = new_app(), Counted()

    def page() -> str:
        return f"{request.headers.get('Accept-Language')} {request.headers.get('Accept-Encoding')} {body()}"

    view(app, page)
    get(app, Accept_Language="de-CH, en;q=0.5", Accept_Encoding="gzip, br")
    assert get(app, Accept_Language="en;q=0.5,DE-ch", Accept_Encoding="BR;q=1.0, gzip").headers["X-Cache"] == "HIT"
    assert get(app, Accept_Language="en, de-CH;q=0.5", Accept_Encoding="gzip, br").headers["X-Cache"] == "MISS"
    assert get(app, Accept_Language="de-CH, en;q=0.5", Accept_Encoding="gzip, br;q=0").headers["X-Cache"] == "MISS"


def test_selection__more_fields_negotiate_by_a_setting(new_app) -> None:
    """`RCACHE_NEGOTIATED` names fields whose values have answers of their own."""
    app = new_app(RCACHE_NEGOTIATED=["X-Site"])
    view(app, lambda: request.headers.get("X-Site", "-"))
    for site in ("a", "b"):
        assert [get(app, X_Site=site).headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert get(app, X_Site="b").headers["Vary"] == "X-Site"


def test_selection__vary_names_one_cookie(new_app, store_url) -> None:
    """`vary=["cookie:lang"]`: other cookies do not matter, and browsers are told that cookies do."""
    app = new_app(store_url)
    view(app, lambda: request.cookies.get("lang", "en"), vary=["cookie:lang"])
    for number, lang in enumerate(("de", "fr", "de", "fr")):
        answer = get(app, Cookie=f"n={number}; lang={lang}")
        assert (answer.text, answer.headers["X-Cache"]) == (lang, "MISS" if number < 2 else "HIT")
        assert answer.headers["Vary"] == "Cookie"
    assert [get(app).text for _ in range(2)] == ["en", "en"]


def test_selection__vary_by_a_function(new_app, store_url) -> None:
    """`vary={"Accept-Language": best}`: as many variants as the function has values."""
    app, body = new_app(store_url), Counted()

    def best(request: Request) -> str:
        return str(request.accept_languages.best_match(["de", "en"], "en"))

    view(app, lambda: f"{best(request)} {body()}", vary={"Accept-Language": best})
    texts = [get(app, Accept_Language=each).text for each in ("de", "de-CH, fr", "fr", "en, fr;q=0.1", "de;q=0.1")]
    assert texts == ["de 1", "de 1", "en 2", "en 2", "de 1"]
    assert get(app).headers["Vary"] == "Accept-Language"


@pytest.mark.parametrize("vary", [["a b"], ["*"], ["session:x"], {"Accept": 5}, [5]], ids=str)
def test_selection__vary_that_names_no_field(vary) -> None:
    """Refused where it is written, with what it may be."""
    with pytest.raises(ConfigError, match="vary"):
        cache_response(PAGE, vary=vary)


# What identifies


def test_selection__fields_of_all_answers_count(new_app, store_url) -> None:
    """An answer that read one field less is not for a request that has what another answer read."""
    app = new_app(store_url)

    def page() -> str:
        if request.headers.get("Accept") == "text/plain":
            return request.headers.get("X-Token", "nobody")
        return "page"

    view(app, page)
    assert get(app, Accept="text/html").text == "page"
    assert get(app, Accept="text/plain", X_Token="ann").text == "ann"
    assert get(app, Accept="text/plain").text == "nobody"
    assert get(app, Accept="text/plain", X_Token="bob").text == "bob"
    assert get(app, Accept="text/html", X_Token="bob").text == "page"


@pytest.mark.race
@pytest.mark.parametrize("leader", ["", "ann"])
def test_selection__waiters_compare_their_own_request(new_app, store_url, leader) -> None:
    """Whoever waits for a load gets its answer only if it was made for a request like theirs."""
    app = new_app(store_url)
    entered = threading.Event()

    def page() -> str:
        entered.set()
        time.sleep(0.3)
        return f"hello {request.headers.get('X-Token', 'nobody')}"

    view(app, page)
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        who = leader if number == 0 else ("", "bob", "ann")[number % 3]
        if number:
            entered.wait(5)
        found[number] = get(app, **({"X_Token": who} if who else {})).text
        assert found[number] == f"hello {who or 'nobody'}"

    in_threads(9, ask)
    assert len(found) == 9


def test_selection__what_was_read_late_or_elsewhere_counts(new_app) -> None:
    """In threads with the request's context, in async views, through values computed before by a logger."""
    app = new_app()

    def in_a_thread() -> str:
        seen: list[str] = []
        thread = threading.Thread(target=copy_current_request_context(lambda: seen.append(request.headers["X-Token"])))
        thread.start()
        thread.join()
        return seen[0] if seen else "nobody"

    async def in_a_task() -> str:
        async def read() -> str:
            await asyncio.sleep(0)
            return request.headers.get("X-Token", "nobody")

        return (await asyncio.gather(read(), read()))[1]

    @app.before_request
    def log() -> None:
        g.log = (str(request.user_agent), request.url, dict(request.headers), request.remote_addr)

    view(app, in_a_thread, "/thread")
    view(app, in_a_task, "/task")
    view(app, lambda: str(request.user_agent), "/agent")
    for path in ("/thread", "/task"):
        assert [get(app, path, X_Token=who).text for who in ("ann", "bob")] == ["ann", "bob"]
    assert [get(app, "/task").headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert [get(app, "/agent", User_Agent=name).text for name in ("a", "b", "a")] == ["a", "b", "a"]
    assert get(app, "/agent", User_Agent="b").headers["Vary"] == "User-Agent"


def test_selection__an_app_s_own_request_class(new_app) -> None:
    """Whatever makes a property of the request, and whenever the class was set."""

    class AppRequest(Request):
        @property
        def tenant(self) -> str:
            return self.headers.get("X-Tenant", "none")

    app = new_app()
    app.request_class = AppRequest

    @app.before_request
    def tenant() -> None:
        g.tenant = request.tenant  # type: ignore[attr-defined]

    view(app, lambda: f"of {g.tenant}")
    assert [get(app, X_Tenant=name).text for name in ("a", "b")] == ["of a", "of b"]
    assert [get(app).headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]


@pytest.mark.parametrize("late", [False, True])
def test_selection__a_request_class_that_reads_when_it_makes_a_request(new_app, late) -> None:
    """What its ``__init__`` reads counts, of the environ as well.

    Where it is set after the first request, the next one, where it is not seen yet, is not stored.
    """

    class AppRequest(Request):
        def __init__(self, environ: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            super().__init__(environ, *args, **kwargs)
            self.tenant = self.headers.get("X-Tenant", "none") + environ.get("HTTP_X_PART", "")

    app = new_app()
    view(app, lambda: f"of {getattr(request, 'tenant', '')}")
    if late:
        get(app, "/elsewhere")
    app.request_class = AppRequest
    if late:
        assert detail(get(app)) == "READ-WHOLE"
    assert get(app, X_Part="1").text == "of none1"
    assert [get(app, X_Tenant=name).text for name in ("a", "b")] == ["of a", "of b"]
    assert [get(app).headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert [get(app, X_Tenant=name).text for name in ("a", "b", "a")] == ["of a", "of b", "of a"]
    assert get(app, Host="shop.example").headers["X-Cache"] == "MISS"  # the host is in the key, and no field
    assert issubclass(app.request_class, AppRequest)


class _Dispatching(Flask):
    def dispatch_request(self, *args: Any) -> Any:
        _note()
        return super().dispatch_request(*args)


class _Preprocessing(Flask):
    def preprocess_request(self, *args: Any) -> Any:
        _note()
        return super().preprocess_request(*args)


class _Ensuring(Flask):
    def ensure_sync(self, func: Any) -> Any:
        _note()
        return super().ensure_sync(func)


def _note() -> None:
    """What an app keeps of a request for its view."""
    g.token = request.headers.get("X-Token", "nobody")


def _wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        _note()
        return function(*args, **kwargs)

    return wrapper


class _Request(Request):
    @property
    def view_args(self) -> Any:
        g.token = self.headers.get("X-Token", "nobody")
        return self._given

    @view_args.setter
    def view_args(self, given: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._given = given


@pytest.mark.parametrize(
    ("kind", "install"),
    [
        (Flask, lambda app: app.before_request(_note)),
        (Flask, lambda app: app.url_value_preprocessor(lambda endpoint, values: _note())),
        (Flask, lambda app: setattr(app, "dispatch_request", _wrapped(app.dispatch_request))),
        (Flask, lambda app: setattr(app, "ensure_sync", _wrapped(app.ensure_sync))),
        (Flask, lambda app: setattr(app, "request_class", _Request)),
        (Flask, lambda app: app.view_functions.update({"/": _wrapped(app.view_functions["/"])})),
        (_Dispatching, lambda app: None),
        (_Preprocessing, lambda app: None),
        (_Ensuring, lambda app: None),
    ],
    ids=["before", "values", "dispatch", "ensure", "request", "wrapped", "dispatches", "preprocesses", "ensures"],
)
def test_selection__whatever_runs_before_a_view_is_seen(kind, install) -> None:
    """Nobody has the answer of another token, wherever between the beginning and the view it is read."""
    app = kind("shop")
    app.config.update(TESTING=True, RCACHE_URL="memory://")
    RCache(app)
    view(app, lambda: g.token if "token" in g else "nobody")
    install(app)
    found = [get(app, **headers).text for headers in ({}, {"X_Token": "ann"}, {"X_Token": "bob"}, {})]
    assert found == ["nobody", "ann", "bob", "nobody"]
    manager(app).close()


def test_hits__without_a_record(new_app) -> None:
    """A request that is answered before anything could read of it stays as Flask has made it; others are observed."""
    app = new_app()
    kinds: list[type] = []
    view(app, lambda: "page")
    view(app, lambda number: str(number), "/<int:number>")

    @app.after_request
    def note(response: Response) -> Response:
        kinds.append(type(request._get_current_object()))  # type: ignore[attr-defined]
        return response

    for path in ("/", "/7"):
        assert verdicts(app.test_client(), path) == ["MISS", "HIT"]
        missed, hit = kinds[-2:]
        assert missed is not Request
        assert hit is Request


def test_hits__what_is_read_after_one(new_app) -> None:
    """A view that is called after an answer from the cache is not stored, as nobody knows what was read in between."""
    app = new_app()
    view(app, lambda: "page")
    corner = cache_response(CacheType("corner", ttl=60))(lambda: f"of {g.token}")
    app.add_url_rule("/corner", "corner", corner)

    @app.after_request
    def decorated(response: Response) -> Response:
        if request.endpoint == "/":
            _note()
            response.set_data(f"{response.get_data(as_text=True)} {corner().get_data(as_text=True)}")
        return response

    get(app)
    answers = [get(app, X_Token=name) for name in ("ann", "bob", "ann")]
    assert [each.text for each in answers] == ["page of ann", "page of bob", "page of ann"]
    assert answers[0].headers["X-Cache"] == "HIT"


class Tenants(Flask):
    """An app that looks whose request it is before Flask begins to answer it."""

    early = ""

    def request_context(self, environ: Any) -> Any:
        context = super().request_context(environ)
        if self.early == "request_context":
            context.request.tenant = whose(context.request)  # type: ignore[attr-defined]
        return context

    def create_url_adapter(self, request: Any) -> Any:
        if self.early == "create_url_adapter" and request is not None:
            request.tenant = whose(request)
        return super().create_url_adapter(request)

    def full_dispatch_request(self) -> Response:
        if self.early == "full_dispatch_request":
            look()
        return super().full_dispatch_request()


def whose(request: Any) -> str:
    """The tenant that a request is of."""
    return str(request.headers.get("X-Tenant") or request.cookies.get("tenant", "none"))


def look() -> None:
    """Remember it."""
    request.tenant = whose(request)  # type: ignore[attr-defined]


class TenantConverter(BaseConverter):
    def to_python(self, value: str) -> str:
        look()
        return value


EARLY = ["request_context", "create_url_adapter", "full_dispatch_request", "method of the app", "converter", "signal"]


@pytest.mark.parametrize("early", EARLY)
def test_selection__what_an_app_reads_before_the_request_begins(early) -> None:
    """By methods of a subclass of Flask or set on the app, by converters, and by listeners to ``request_started``."""
    app = (Flask if early in ("method of the app", "converter", "signal") else Tenants)("shop")
    app.config.update(RCACHE_URL="memory://", SECRET_KEY="k" * 40, TESTING=True)
    app.early = early  # type: ignore[attr-defined]
    RCache(app)
    app.url_map.converters["tenant"] = TenantConverter if early == "converter" else UnicodeConverter

    def listener(_: Flask, **__: Any) -> None:
        look()

    if early == "signal":
        request_started.connect(listener, app)
    if early == "method of the app":
        begin = app.full_dispatch_request

        def full_dispatch_request() -> Response:
            look()
            return begin()

        app.full_dispatch_request = full_dispatch_request  # type: ignore[method-assign]
    view(app, lambda page: f"{page} of {request.tenant}", "/<tenant:page>")  # type: ignore[attr-defined]
    for header in ("X_Tenant", "Cookie"):
        for _ in range(2):
            for who in ("a", "b"):
                sent = f"tenant={who}" if header == "Cookie" else who
                assert get(app, "/p", **{header: sent}).text == f"p of {who}"
    assert [get(app, "/p").headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert get(app, "/p", X_Tenant="a").text == "p of a"
    visitor = app.test_client()
    visitor.set_cookie("session", "of another key")
    assert visitor.get("/p").headers["X-Cache"] == "HIT"  # to open the session is Flask's


def test_selection__views_that_call_views(new_app) -> None:
    """What an inner answer depends on, the outer one does, also where the inner one is a hit."""
    app = new_app()
    inner = cache_response(CacheType("inner", ttl=60))(
        lambda: f"{request.headers.get('X-Token', 'nobody')} {request.headers.get('Accept-Language', '-')}"
    )
    app.add_url_rule("/inner", "inner", inner)
    view(app, lambda: f"around {inner().get_data(as_text=True)}", "/outer")
    get(app, "/outer")
    for _ in range(2):
        assert get(app, "/outer", X_Token="ann").text == "around ann -"
        assert get(app, "/outer", Accept_Language="de").text == "around nobody de"
        assert get(app, "/outer").text == "around nobody -"
    assert get(app, "/outer", Accept_Language="de").headers["X-Cache"] == "HIT"


def test_selection__what_does_not_count(new_app) -> None:
    """After the view, by loggers before it, by the decorator's own functions, inside `unobserved`."""
    app = new_app(RCACHE_IGNORED_FIELDS=["X-Trace"])

    @app.before_request
    def before() -> None:
        g.trace = (request.headers.get("X-Trace"), request.headers.get("Traceparent"), list(request.headers))

    @app.after_request
    def after(response: Response) -> Response:
        response.headers["X-Seen"] = request.headers.get("X-Late", "-")
        return response

    def page() -> str:
        with unobserved():
            return f"page {len(dict(request.headers)) > 0}"

    view(app, page, unless=lambda request: request.headers.get("X-Preview"))
    get(app)
    asked = {"X_Trace": "1", "Traceparent": "2", "X_Late": "3"}
    answer = get(app, **asked)
    assert (answer.headers["X-Cache"], answer.headers["X-Seen"]) == ("HIT", "3")
    assert detail(get(app, X_Preview="1")) == "UNLESS"
    assert get(app).headers["X-Cache"] == "HIT"


_tenant: ContextVar[str] = ContextVar("tenant", default="none")


class Keeping(Flask):
    """An app that keeps whose request it is where nobody sees it read."""

    own = ""

    def wsgi_app(self, environ: Any, start_response: Any) -> Any:
        if self.own == "wsgi_app":
            keep_tenant(environ)
        return super().wsgi_app(environ, start_response)

    def request_context(self, environ: Any) -> Any:
        if self.own == "request_context":
            keep_tenant(environ)
        return super().request_context(environ)


def keep_tenant(environ: Any) -> None:
    """By its name, from an environ of which a copy was made, as a log does."""
    dict(environ)
    list(environ.items())
    _tenant.set(environ.get("HTTP_X_TENANT", "none"))


class Keeper:
    """A middleware that does so, and sees what the app has put into the environ."""

    def __init__(self, wsgi_app: Any) -> None:
        self.wsgi_app = wsgi_app
        self.seen: list[Any] = []

    def __call__(self, environ: Any, start_response: Any) -> Any:
        keep_tenant(environ)
        body = self.wsgi_app(environ, start_response)
        self.seen.append(environ.get("shop.seen"))
        return body


@pytest.mark.parametrize("where", ["around", "inside", "both", "wsgi_app", "request_context"])
@pytest.mark.parametrize("front", [False, True])
def test_selection__what_middlewares_keep(where, front) -> None:
    """Around the cache, between it and Flask, in a subclass: each tenant has its own page, and all others share one."""
    app = (Keeping if "_" in where else Flask)("shop")
    app.config.update(RCACHE_URL="memory://", TESTING=True, RCACHE_FRONT=front)
    app.own = where  # type: ignore[attr-defined]
    keepers = []
    if where in ("inside", "both"):
        keepers.append(Keeper(app.wsgi_app))
        app.wsgi_app = keepers[-1]  # type: ignore[method-assign]
    RCache(app)
    if where in ("around", "both"):
        keepers.append(Keeper(app.wsgi_app))
        app.wsgi_app = ProxyFix(keepers[-1])  # type: ignore[method-assign]

    def page() -> str:
        request.environ["shop.seen"] = True
        return f"of {_tenant.get()}"

    view(app, page)
    for who in ("ann", "bob", None, "ann", None, None, "bob", None):
        answer = get(app, **({} if who is None else {"X_Tenant": who}))
        assert answer.text == f"of {who or 'none'}"
    assert [get(app, Accept="text/plain", Cookie="a=1").headers["X-Cache"] for _ in range(4)] == ["HIT"] * 4
    assert all(True in each.seen for each in keepers)


def test_selection__the_layers_of_werkzeug_keep_nothing(new_app) -> None:
    """Behind them the first request is stored, and nothing that they read selects an answer."""
    app = new_app()
    app.wsgi_app = ProxyFix(DispatcherMiddleware(app.wsgi_app, {"/other": app.wsgi_app}), x_for=1, x_host=1)
    view(app, lambda: "page")
    assert [get(app, X_Forwarded_For=f"10.0.0.{i}").headers["X-Cache"] for i in range(2)] == ["MISS", "HIT"]


class Named(Request):
    """A request that knows who sends it before it is initialised."""

    def __new__(cls, environ: dict[str, Any], *args: Any, **kwargs: Any) -> Named:
        made = super().__new__(cls)
        made.__dict__["who"] = environ.get("HTTP_X_TOKEN", "nobody")
        return made


#: Ways to a header field that pass by the request's own containers, and to a name that looks like the server's.
HIDDEN: dict[str, Any] = {
    "the headers' environ": lambda: request.headers.environ.get("HTTP_X_TOKEN", "nobody"),  # type: ignore[attr-defined]
    "a class made by __new__": lambda: request.who,  # type: ignore[attr-defined]
    "wsgi.user": lambda: request.environ.get("wsgi.user", "nobody"),
    "SERVER_TENANT": lambda: request.environ.get("SERVER_TENANT", "nobody"),
}


@pytest.mark.parametrize("read", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("place", ["view", "before"])
def test_selection__hidden_ways_to_who_is_asking(new_app, place, read) -> None:
    """Nobody gets another one's page, and visitors share theirs."""
    app = new_app()
    app.request_class = Named
    if place == "before":
        app.before_request(lambda: setattr(g, "who", read()))
    view(app, read if place == "view" else lambda: g.who)
    for who in ("ann", "bob", "nobody", "nobody", "ann"):
        known = {} if who == "nobody" else {"HTTP_X_TOKEN": who, "wsgi.user": who, "SERVER_TENANT": who}
        answer = app.test_client().get("/", environ_overrides=known)
        assert answer.text == who
    assert app.test_client().get("/").headers["X-Cache"] == "HIT"


@pytest.mark.parametrize("read", ["get", "[]", "in", "items"])
@pytest.mark.parametrize("place", ["view", "before", "decorator"])
def test_selection__callers_that_a_server_names_in_the_environ(new_app, place, read) -> None:
    """Whoever reads it, before the view as well: nobody gets another one's page, and visitors share theirs."""
    app = new_app()

    def who() -> str:
        environ = request.environ
        if read == "get":
            return str(environ.get("eppn", "nobody"))
        if read == "items":
            return str(dict(environ.items()).get("eppn", "nobody")) if place == "view" else str(environ.get("eppn"))
        return str(environ["eppn"]) if "eppn" in environ else "nobody"

    def above(view: Any) -> Any:
        @functools.wraps(view)
        def found() -> Any:
            g.who = who()
            return view()

        return found

    if place == "before":
        app.before_request(lambda: setattr(g, "who", who()))
    decorated = cache_response(PAGE)(lambda: who() if place == "view" else g.who)
    app.add_url_rule("/", "index", above(decorated) if place == "decorator" else decorated)
    client, seen = app.test_client(), []
    for name in (None, "ann", "bob", None, "ann"):
        answer = client.get("/", environ_overrides={} if name is None else {"eppn": name})
        assert answer.text in ({str(name), "nobody"} if name is None else {name})
        seen.append(answer.headers["X-Cache"])
    expected = ["MISS"] * 5 if place == "view" and read == "items" else ["MISS", "BYPASS", "BYPASS", "HIT", "BYPASS"]
    assert seen == expected


def test_selection__what_tracing_keeps_in_the_environ_before_the_view(new_app) -> None:
    """A span, a time and the URL as it was sent say nothing of the caller; claims do."""
    app = new_app()

    @app.before_request
    def before() -> None:
        for name in ("tracing.span", "tracing.began", "RAW_URI", "REMOTE_ADDR"):
            request.environ.get(name)
        dict(request.environ)
        g.who = request.environ.get("gateway.claims", {}).get("sub")
        request.environ["tracing.seen"] = True

    @app.after_request
    def after(response: Response) -> Response:
        response.headers["X-Seen"] = str(request.environ["tracing.seen"])
        return response

    view(app, lambda: f"for {g.who}, {request.environ['wsgi.multithread']}")
    noise = {"tracing.span": object(), "tracing.began": 3}
    client, found = app.test_client(), []
    for who in (None, None, "ann", "bob", None):
        claims = {} if who is None else {"gateway.claims": {"sub": who}}
        answer = client.get("/", environ_overrides={**noise, **claims})
        assert answer.text.startswith(f"for {who}, ")
        assert answer.headers["X-Seen"] == "True"
        found.append(answer.headers["X-Cache"])
    assert found == ["MISS", "HIT", "BYPASS", "BYPASS", "HIT"]


def test_selection__the_url_as_it_was_sent(new_app) -> None:
    """Two spellings of one URL have one key, so an answer that shows the spelling is not stored."""
    app = new_app()
    view(app, lambda what: request.environ["RAW_URI"], rule="/<path:what>")
    client = app.test_client()
    for path in ("/a%2Fb", "/a/b") * 2:
        answer = client.get(path)
        assert answer.text == path
        assert 'field="RAW_URI"' in answer.headers["Cache-Status"]


def test_selection__reading_everything_is_not_stored(new_app, caplog) -> None:
    """Iteration over headers or cookies inside the view: nobody knows what of it counts; said once."""
    app = new_app()
    view(app, lambda: str(len(list(request.headers))))
    view(app, lambda: ",".join(request.cookies), "/cookies")
    for path in ("/", "/", "/cookies"):
        assert detail(get(app, path, Cookie="a=1")) == "READ-WHOLE"
    assert sum("read what it needs by name" in each.message for each in caplog.records) == 2


def test_selection__conditions_and_hosts_are_the_cache_s_own(new_app) -> None:
    """A view that looks at conditions, ranges or the host gets hits as any other."""
    app = new_app()

    @app.before_request
    def look() -> None:
        g.seen = (request.if_none_match, request.range, request.host, request.if_modified_since)

    view(app, lambda: f"{request.host} {request.if_none_match} {request.range}")
    tag = get(app).headers["ETag"]
    assert get(app, If_None_Match=tag).status_code == 304
    assert get(app, Range="bytes=0-1").status_code == 206


# Callers


def greeting_app(new_app: Any, **options: Any) -> Flask:
    """The page that everybody has: the same for all but the greeting."""
    app: Flask = new_app(**options)
    LoginManager(app).user_loader(User)
    app.add_url_rule("/login/<name>", "login", lambda name: str(login_user(User(name))))
    app.add_url_rule("/logout", "logout", lambda: str(logout_user()))

    @app.get("/put/<name>")
    def put(name: str) -> str:
        session[name] = 1
        return name

    text = "Hi {{ current_user.id if current_user.is_authenticated else 'guest' }} {{ get_flashed_messages() }}"
    view(app, lambda: render_template_string(text), kind=MINE, key_func=by_caller(by_user, anonymous="shared"))
    view(app, lambda: render_template_string(text), "/plain")
    view(
        app, lambda: str(session.get("cart", "-")), "/cart", kind=MINE, key_func=by_caller(by_user, anonymous="shared")
    )
    return app


def test_by_caller__visitors_share_and_users_have_their_own(new_app) -> None:
    """Also a visitor with something in the session that the page does not read, and one who has logged out."""
    app = greeting_app(new_app)
    visitor, shopper, ann, bob = (app.test_client() for _ in range(4))
    ann.get("/login/ann")
    bob.get("/login/bob")
    shopper.get("/put/cart")
    seen = [(each.get("/").text[:8].strip(), each.get("/").headers["X-Cache"]) for each in (visitor, shopper, ann, bob)]
    assert seen == [("Hi guest", "HIT"), ("Hi guest", "HIT"), ("Hi ann []"[:8].strip(), "HIT"), ("Hi bob [", "HIT")]
    ann.get("/logout")
    assert ann.get("/").text == "Hi guest []"
    # What a visitor's session holds selects where the page reads it.
    assert [verdicts(each, "/cart") for each in (visitor, shopper)] == [["MISS", "HIT"], ["BYPASS", "BYPASS"]]
    assert "X-Cache-Key" not in visitor.get("/").headers


def test_by_caller__plain_views_with_a_greeting(new_app) -> None:
    """Without any option visitors share the page, and users get their own, which is not stored."""
    app = greeting_app(new_app)
    visitor, ann = app.test_client(), app.test_client()
    ann.get("/login/ann")
    assert verdicts(visitor, "/plain") == ["MISS", "HIT"]
    assert (ann.get("/plain").text, ann.get("/plain").headers["X-Cache"]) == ("Hi ann []", "BYPASS")


@pytest.mark.parametrize("anonymous", ["bypass", "shared"])
def test_by_caller__tokens_of_one_s_own(new_app, store_url, anonymous) -> None:
    """The caller is added to the view's key, query included; visitors bypass, or share."""
    app = new_app(store_url)

    @app.before_request
    def verify() -> None:
        g.user = {"t1": "ann", "t2": "bob"}.get(request.headers.get("X-Token", ""))

    key_func = by_caller(lambda request: g.user, anonymous=anonymous)
    view(
        app,
        lambda number: f"{number} {request.query_string.decode()} {g.user}",
        "/<number>",
        kind=MINE,
        key_func=key_func,
    )
    for path in ("/1", "/1?a=1", "/2"):
        for token, who in (("t1", "ann"), ("t2", "bob")):
            answers = [get(app, path, X_Token=token) for _ in range(2)]
            assert [each.headers["X-Cache"] for each in answers] == ["MISS", "HIT"]
            assert answers[1].text.startswith(path[1]) and answers[1].text.endswith(who)  # noqa: PT018
    visits = [get(app, "/1").headers["X-Cache"] for _ in range(2)]
    assert visits == (["BYPASS", "BYPASS"] if anonymous == "bypass" else ["MISS", "HIT"])
    assert get(app, "/1", X_Token="invalid").text == "1  None"


@pytest.mark.parametrize(("function", "anonymous"), [(5, "bypass"), (len, "share")])
def test_by_caller__arguments_that_are_none(function, anonymous) -> None:
    """Refused where it is written."""
    with pytest.raises(ConfigError, match="by_caller"):
        by_caller(function, anonymous=anonymous)


# Sessions


@pytest.mark.parametrize("where", ["view", "before_request"])
def test_sessions__an_id_is_of_one_session(new_app, where) -> None:
    """What a library's session has beside its items, such as an id that it sends to the client, is nobody else's."""

    class Numbered(SecureCookieSession):
        def __init__(self, sid: str) -> None:
            super().__init__()
            self.sid = sid

    class Interface(SecureCookieSessionInterface):
        numbers = itertools.count()

        def open_session(self, app: Flask, request: Request) -> SecureCookieSession:
            return Numbered(f"s{next(self.numbers)}")

    app = new_app()
    app.session_interface = Interface()

    @app.before_request
    def before() -> None:
        if where == "before_request":
            g.sid = session.sid  # type: ignore[attr-defined]

    view(app, lambda: str(session.sid if where == "view" else g.sid))  # type: ignore[attr-defined]
    answers = [get(app) for _ in range(3)]
    assert [each.text for each in answers] == ["s0", "s1", "s2"]
    assert 'field="session.sid"' in answers[2].headers["Cache-Status"]


def test_sessions__leftovers_identify_nobody(new_app) -> None:
    """A session cookie that holds what login libraries leave behind, or nothing, has the page that all have."""
    app = new_app()

    @app.get("/leave/<name>")
    def leave(name: str) -> str:
        held: dict[str, dict[str, Any]] = {
            "fresh": {"_fresh": False},
            "empty": {"identity.id": None, "x": ""},
            "user": {"u": 1},
        }
        session.update(held[name])
        return name

    view(app, lambda: "page")
    for name, expected in (("fresh", "HIT"), ("empty", "HIT"), ("user", "BYPASS")):
        client = app.test_client()
        client.get("/")
        client.get(f"/leave/{name}")
        assert client.get("/").headers["X-Cache"] == expected


@pytest.mark.parametrize("shared", [False, True])
def test_sessions__permanent_ones_are_stored_for_all(new_app, shared) -> None:
    """A session that is made permanent on each request: each client gets a cookie of its own, on hits too."""
    app = new_app()

    @app.before_request
    def permanent() -> None:
        session.permanent = True

    view(app, lambda: "page", shared=shared)
    answers = [app.test_client().get("/") for _ in range(3)]
    assert [each.headers["X-Cache"] for each in answers] == ["MISS", "HIT", "HIT"]
    assert all(len(each.headers.getlist("Set-Cookie")) == 1 for each in answers)


def test_sessions__of_users_that_are_renewed_on_each_request(new_app) -> None:
    """A permanent session does not keep a per_user page from being stored, and its cookie is not in it."""
    app = greeting_app(new_app)

    @app.before_request
    def permanent() -> None:
        session.permanent = True

    ann, bob = app.test_client(), app.test_client()
    ann.get("/login/ann")
    bob.get("/login/bob")
    assert [verdicts(each, "/") for each in (ann, bob)] == [["MISS", "HIT"]] * 2
    assert ann.get("/").headers.getlist("Set-Cookie") != bob.get("/").headers.getlist("Set-Cookie")


def test_sessions__flashes_are_shown_once(new_app) -> None:
    """A request with messages bypasses, also a shared page; one flashed by the view itself is not stored."""
    app = new_app()

    @app.get("/flash")
    def leave() -> str:
        flash("saved")
        return ""

    view(app, lambda: f"{get_flashed_messages()}", shared=True)

    def page() -> str:
        flash("seen")
        return f"{get_flashed_messages()}"

    view(app, page, "/own")
    client, other = app.test_client(), app.test_client()
    assert verdicts(other, "/") == ["MISS", "HIT"]
    client.get("/flash")
    answers = [client.get("/") for _ in range(2)]
    assert [(each.text, each.headers["X-Cache"]) for each in answers] == [("['saved']", "BYPASS"), ("[]", "HIT")]
    assert [other.get("/own").text for _ in range(2)] == ["['seen']"] * 2


@pytest.mark.parametrize("key_func", [None, by_caller(lambda _: None, anonymous="shared")], ids=["plain", "visitors"])
def test_sessions__what_was_taken_out_before_the_view_counts(new_app, key_func) -> None:
    """A message that an app keeps in the session itself, and takes out before the view, is shown once to its user."""
    app = new_app()
    app.before_request(lambda: setattr(g, "message", session.pop("message", "none")))

    @app.get("/leave/<message>")
    def leave(message: str) -> str:
        session["message"] = message
        return ""

    @app.get("/")
    @cache_response(CacheType.USER, key_func=key_func)
    def page() -> str:
        return str(g.message)

    for name in ("ann", "bob"):
        client = app.test_client()
        client.get("/")
        client.get(f"/leave/{name}")
        assert [client.get("/").text for _ in range(2)] == [name, "none"]
    assert app.test_client().get("/").headers["X-Cache"] == "HIT"


@pytest.mark.parametrize("where", ["view", "before_request"])
@pytest.mark.parametrize("shared", [False, True])
def test_sessions__tokens_in_pages(new_app, caplog, where, shared) -> None:
    """A page with a CSRF token is for one session, whoever made the token; the log says once what to do."""
    app = new_app(WTF_CSRF_SECRET_KEY="k" * 32)
    if where == "before_request":
        app.before_request(lambda: generate_csrf() and None)
    view(app, lambda: generate_csrf(), shared=shared)
    ann, bob = app.test_client(), app.test_client()
    tokens = [each.get("/").text for each in (ann, bob, ann, bob)]
    assert len({tokens[0], tokens[1]}) == 2
    assert tokens[1] not in (tokens[0], tokens[2])
    with ann.session_transaction() as mine, bob.session_transaction() as others:
        assert mine["csrf_token"] != others["csrf_token"]
    assert sum("not stored" in each.message for each in caplog.records) >= 1
    assert not any(each.headers["X-Cache"] == "HIT" for each in (ann.get("/"), app.test_client().get("/")))


@pytest.mark.parametrize(
    "read", [lambda: session.get("user"), lambda: request.headers.get("Authorization"), lambda: g.user]
)
def test_sessions__shared_views_that_read_who_asks(new_app, caplog, read) -> None:
    """`shared=True` is refused where the view itself reads a session or a credential; above it may be read."""
    app = new_app()

    @app.before_request
    def user() -> None:
        g.user = session.get("user") or request.headers.get("Authorization")

    view(app, lambda: f"{read()}", shared=True)
    view(app, lambda: "page", "/page", shared=True)
    for _ in range(2):
        assert detail(get(app, Authorization="Bearer ann")) == "SHARED-SECRET"
    assert sum("shared=True" in each.message for each in caplog.records) == 1
    assert [get(app, "/page", Authorization="Bearer ann").headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]


def test_selection__arguments_of_the_url_that_were_replaced(new_app) -> None:
    """What `before_request` puts in the place of an argument is in the key, also where it equals what was there."""
    app = new_app()

    @app.before_request
    def replace() -> None:
        with unobserved():
            if request.headers.get("X-Admin"):
                request.view_args["level"] = True  # type: ignore[index]

    view(app, lambda level: f"{level!r}", "/<int:level>")
    assert [get(app, "/1").text, get(app, "/1", X_Admin="1").text, get(app, "/1").text] == ["1", "True", "1"]
