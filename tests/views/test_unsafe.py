"""Unsafe methods: what a successful write makes invalid, and what it leaves alone (RFC 9111 section 4.4)."""

from __future__ import annotations

import functools
import threading
from typing import Any

import pytest
from flask import Flask, redirect, request
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_rcache import CacheType, cache_invalidated, cache_response
from tests.processes import wait_until
from tests.views.kit import PAGE, Counted, manager, verdicts

METHODS = ["POST", "PUT", "PATCH", "DELETE", "BREW"]


def items_app(new_app: Any, url: str = "memory://", **options: Any) -> Flask:
    """Pages of items, and a view that writes and answers as it is told by its query."""
    app: Flask = new_app(url, **options)
    body = Counted()

    @app.get("/items")
    @cache_response(PAGE)
    def index():
        return body()

    @app.get("/items/<int:id>")
    @cache_response(PAGE)
    def item(id):
        text = f"{id} {request.headers.get('Accept-Language')} {body()}"
        return text, 200, {"Vary": "Accept-Language"}

    @app.get("/named/<name>")
    @cache_response(CacheType.PRODUCT, None, lambda req: req.args.get("as", "x"))
    def named(name):
        return body()

    @app.route("/items", methods=[*METHODS, "OPTIONS"])
    @app.route("/items/<int:id>", methods=METHODS)
    @app.route("/named/<name>", methods=METHODS)
    @app.route("/undecorated", methods=["GET", *METHODS])
    def write(**_):
        headers = {name: request.args[name] for name in ("Location", "Content-Location") if name in request.args}
        return "written", int(request.args.get("status", 200)), headers

    return app


@pytest.mark.parametrize("method", METHODS)
def test_unsafe__a_successful_write_invalidates_its_url(new_app, store_url, method) -> None:
    """POST, PUT, PATCH, DELETE and a method nobody knows: the next GET is a miss; other URLs stay."""
    client = items_app(new_app, store_url).test_client()
    for path in ("/items", "/items?page=2", "/items/7"):
        assert verdicts(client, path) == ["MISS", "HIT"]
    client.open("/items", method=method)
    assert [verdicts(client, path, 1) for path in ("/items", "/items?page=2", "/items/7")] == [
        ["MISS"],
        ["HIT"],
        ["HIT"],
    ]


@pytest.mark.parametrize("status", [200, 201, 204, 303, 400, 401, 404, 409, 500])
def test_unsafe__only_success_invalidates(new_app, status) -> None:
    """2xx and 3xx do, errors do not."""
    client = items_app(new_app).test_client()
    verdicts(client, "/items/7")
    client.post(f"/items/7?status={status}")
    client.post(f"/items?status={status}&Location=/items/7")
    assert verdicts(client, "/items/7", 1) == (["MISS"] if status < 400 else ["HIT"])


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_unsafe__safe_methods_invalidate_nothing(new_app, method) -> None:
    """Reading leaves everything as it is."""
    client = items_app(new_app).test_client()
    verdicts(client, "/items")
    client.open("/items", method=method)
    assert verdicts(client, "/items", 1) == ["HIT"]


@pytest.mark.parametrize("field", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("target", "invalidates"),
    [
        ("/items/7", True),
        ("items/7", True),
        ("http://localhost/items/7", True),
        ("http://LOCALHOST:80/items/7#top", True),
        ("http://evil.test/items/7", False),
        ("https://localhost/items/7", False),
        ("//evil.test/items/7", False),
        ("http://localhost@evil.test/items/7", False),
        ("/items/8", False),
    ],
)
def test_unsafe__where_the_answer_points_is_invalid_too(new_app, field, target, invalidates) -> None:
    """Location and Content-Location of the same origin, all variants; another origin's never."""
    client = items_app(new_app).test_client()
    for lang in ("en", "fr"):
        assert verdicts(client, "/items/7", headers={"Accept-Language": lang}) == ["MISS", "HIT"]
    client.post("/items", query_string={field: target, "status": 201})
    for lang in ("en", "fr"):
        assert verdicts(client, "/items/7", 1, headers={"Accept-Language": lang}) == ["MISS" if invalidates else "HIT"]


def test_unsafe__reaches_every_variant_and_key_of_the_url(new_app, store_url) -> None:
    """All languages of a page, and every entry that a `key_func` made for the URL; not those of its neighbour."""
    client = items_app(new_app, store_url).test_client()
    asks: list[tuple[str, dict[str, str]]] = [("/items/7", {"Accept-Language": lang}) for lang in ("en", "fr", "de")]
    asks += [("/items/7", {}), ("/items/8", {})]
    for path, headers in asks:
        assert verdicts(client, path, headers=headers) == ["MISS", "HIT"]
    client.delete("/items/7")
    assert [verdicts(client, path, 1, headers=headers)[0] for path, headers in asks] == ["MISS"] * 4 + ["HIT"]
    assert verdicts(client, "/named/a?as=1") == ["MISS", "HIT"]
    client.post("/named/b?as=1")
    assert verdicts(client, "/named/a?as=1", 1) == ["HIT"]
    client.post("/named/a?as=1")
    assert verdicts(client, "/named/a?as=1", 1) == ["MISS"]


def test_unsafe__is_seen_by_every_process(new_app, redis_server) -> None:
    """A write in one process, and the others miss: plain pages and variants."""
    writer, reader, stranger = (items_app(new_app, redis_server.url).test_client() for _ in range(3))
    for path in ("/items", "/items/7"):
        assert verdicts(reader, path, headers={"Accept-Language": "en"}) == ["MISS", "HIT"]
        writer.post(path)  # a process that has never seen the page itself
        assert verdicts(reader, path, 1, headers={"Accept-Language": "en"}) == ["MISS"]
        # What began before the reader's process had heard of the write is not stored.
        ask = functools.partial(verdicts, reader, path, 1, headers={"Accept-Language": "en"})
        wait_until(lambda ask=ask: ask() == ["HIT"], timeout=10, what="a hit")  # type: ignore[misc]
        assert verdicts(stranger, path, 1, headers={"Accept-Language": "en"}) == ["HIT"]


def test_unsafe__invalidates_nothing_for_urls_without_a_cache(new_app) -> None:
    """A write to a URL that no decorated view serves, or that points to one, invalidates nothing: it costs nothing."""
    app = items_app(new_app)
    client, events = app.test_client(), list[Any]()

    def on_invalidated(sender: Any, event: Any) -> None:
        events.append(event)

    with cache_invalidated.connected_to(on_invalidated, sender=app):
        for path in (
            "/undecorated",
            "/undecorated?Location=/undecorated",
            "/nowhere",
            "/undecorated?Location=/undecorated/nowhere",
            "/undecorated?Location=/items",
        ):
            client.post(path)
        assert events == []
        client.post("/items/7?Location=/items/8")
    assert [event.scope for event in events] == ["url"]


def test_unsafe__reaches_a_view_whose_decorator_adds_an_argument(new_app, store_url) -> None:
    """All entries of the URL are invalid, also those with more in their key than the URL says."""
    app, body = new_app(store_url), Counted()

    def with_tenant(view):
        @functools.wraps(view)
        def wrapper(*args, **kwargs):
            return view(*args, tenant=request.headers.get("X-Tenant", "acme"), **kwargs)

        return wrapper

    @app.get("/items/<id>")
    @with_tenant
    @cache_response(PAGE, vary=["X-Tenant"])
    def item(id, tenant):
        return f"{id} {tenant} {body()}"

    app.add_url_rule("/items/<id>", view_func=lambda **_: ("", 204), endpoint="write", methods=["PUT"])
    client = app.test_client()
    tenants = [{"X-Tenant": name} for name in ("acme", "globex")]
    for headers in tenants:
        assert verdicts(client, "/items/1", headers=headers) == ["MISS", "HIT"]
        assert verdicts(client, "/items/2", headers=headers) == ["MISS", "HIT"]
    client.put("/items/1")
    for headers in tenants:
        assert verdicts(client, "/items/1", 1, headers=headers) == ["MISS"]
        assert verdicts(client, "/items/2", 1, headers=headers) == ["HIT"]


@pytest.mark.parametrize(
    ("location", "url"),
    [("/items?q=\u00e9", "/items?q=%C3%A9"), ("/items?q=red shoes", "/items?q=red%20shoes")],
    ids=["not ASCII", "a blank"],
)
@pytest.mark.parametrize("how", ["redirect", "header"])
def test_unsafe__location_as_it_goes_over_the_wire(new_app, location, url, how) -> None:
    """The URL that the client is sent to is invalid: what the server quotes on its way out is the same URL."""
    app = items_app(new_app)

    @app.post("/items/change")
    def change():
        return redirect(location, 303) if how == "redirect" else ("", 201, {"Location": location})

    client = app.test_client()
    assert verdicts(client, url) == ["MISS", "HIT"]
    assert client.post("/items/change").headers["Location"] == url
    assert verdicts(client, url, 1) == ["MISS"]


def test_unsafe__location_under_a_script_root(new_app) -> None:
    """Under each prefix that an app is mounted at, a write reaches the pages of that prefix, and no others."""
    app = items_app(new_app)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    client = app.test_client()
    prefixes = [{"X-Forwarded-Prefix": prefix} for prefix in ("/m", "/n")]
    for headers in prefixes:
        assert verdicts(client, "/items/7", headers=headers) == ["MISS", "HIT"]
    client.post("/items?Location=/m/items/7", headers=prefixes[0])
    assert [verdicts(client, "/items/7", 1, headers=headers) for headers in prefixes] == [["MISS"], ["HIT"]]


@pytest.mark.parametrize("path", ["/items", "/items/7", "/named/a?as=1"])
@pytest.mark.parametrize("kind", ["cold", "known", "varies no more"])
def test_unsafe__a_get_in_flight_is_not_stored(new_app, store_url, path, kind) -> None:
    """A page whose view began before the write is sent and forgotten, whether or not its variants are known."""
    app = items_app(new_app, store_url)
    entered, go_on, is_slow = threading.Event(), threading.Event(), threading.Event()

    endpoint = app.url_map.bind("localhost").match(path.partition("?")[0], method="GET")[0]
    view: Any = app.view_functions[endpoint]
    options, plain = view.rcache_options, view.uncached

    def slow(**arguments):
        if not is_slow.is_set():
            return plain(**arguments)
        is_slow.clear()
        entered.set()
        go_on.wait(10)
        answer = plain(**arguments)
        return answer[0] if kind == "varies no more" and isinstance(answer, tuple) else answer

    slow.__module__, slow.__qualname__ = plain.__module__, plain.__qualname__
    app.view_functions[endpoint] = cache_response(options.cache_type, options.ttl, options.key_func)(slow)
    client = app.test_client()
    headers = {"Accept-Language": "en"}
    if kind != "cold":
        client.get(path, headers={"Accept-Language": "fr"})
        client.get(path, headers={"Accept-Language": "de"})
        client.post(path)
    answers: list[Any] = []
    is_slow.set()
    reader = threading.Thread(target=lambda: answers.append(app.test_client().get(path, headers=headers)), daemon=True)
    reader.start()
    assert entered.wait(10)
    client.post(path)
    go_on.set()
    reader.join(10)
    assert "detail=OVERTAKEN" in answers[0].headers["Cache-Status"]
    fresh = client.get(path, headers={"Accept-Language": "en"})
    assert (fresh.headers["X-Cache"], fresh.data == answers[0].data) == ("MISS", False)
    assert client.get(path, headers={"Accept-Language": "en"}).data == fresh.data


def test_unsafe__a_failing_store_does_not_fail_the_write(new_app, private_server) -> None:
    """With Redis gone a write is answered as ever, and reaches the cache when it is back."""
    server = private_server()
    app = items_app(new_app, server.url)
    client = app.test_client()
    assert verdicts(client, "/items") == ["MISS", "HIT"]
    server.kill()
    assert client.post("/items").status_code == 200
    assert client.get("/items").status_code == 200
    assert manager(app).is_available is False
