"""From the lookup to the commit: contexts, failures, waiting. No lease outlives its request."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from typing import Any

import pytest
from flask import (
    Flask,
    abort,
    after_this_request,
    copy_current_request_context,
    make_response,
    request,
    request_finished,
)
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_rcache import CacheType, EncodeError, RCache, UnknownTypeError, cache_response, cached, current_cache
from tests.processes import wait_until
from tests.views.kit import PAGE, Counted, detail, in_threads, leases, make_app, manager, verdicts

RESILIENT = CacheType("resilient", ttl=0.05, stale_if_error=60)


def test_visit__without_a_request_bypasses(new_app) -> None:
    """In a shell or a command the function runs, and the cache is neither read nor filled."""
    app, body = new_app(), Counted()
    page = cache_response(PAGE)(lambda: body())
    with app.app_context():
        answers = [page(), page()]
    assert [answer.get_data(as_text=True) for answer in answers] == ["1", "2"]
    assert [answer.headers["X-Cache"] for answer in answers] == ["BYPASS"] * 2
    assert answers[0].headers["Cache-Status"] == "rcache; fwd=bypass; detail=CONTEXT"
    with pytest.raises(RuntimeError, match="application context"):
        page()


def test_visit__in_a_test_request_context_it_is_not_stored(new_app) -> None:
    """A context that never finishes a request stores nothing and keeps no lease."""
    app, body = new_app(), Counted()
    page = cache_response(PAGE)(lambda: body())
    for _ in range(2):
        with app.test_request_context("/"):
            assert page().headers["X-Cache"] == "MISS"
            assert len(leases(app)) == 1
        assert leases(app) == []
    assert body.calls == 2


def test_visit__in_a_copied_context_it_is_not_stored(new_app) -> None:
    """In a thread with a copy of the request's context: answered, not stored, and its lease ends with the thread."""
    app, body, seen = new_app(), Counted(), []

    @cache_response(PAGE)
    def part():
        return body()

    @app.get("/")
    def page():
        @copy_current_request_context
        def work():
            seen.append(part().headers["X-Cache"])

        for _ in range(2):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join(10)
        return "x"

    app.test_client().get("/")
    assert (seen, body.calls, leases(app)) == (["MISS", "MISS"], 2, [])


@pytest.mark.parametrize("propagate", [True, False])
def test_commit__an_after_request_that_raises(new_app, propagate) -> None:
    """When the final headers were never made nothing is stored, and the lease is free."""
    app, body = new_app(PROPAGATE_EXCEPTIONS=propagate), Counted()
    app.add_url_rule("/", view_func=cache_response(PAGE)(lambda: body()), endpoint="x")
    broken = [True]

    @app.after_request
    def fail(response):
        if broken and broken.pop():
            raise RuntimeError("after")
        return response

    client = app.test_client()
    if propagate:
        with pytest.raises(RuntimeError, match="after"):
            client.get("/")
    else:
        assert client.get("/").status_code == 500
    assert (leases(app), list(manager(app).entries())) == ([], [])
    assert verdicts(client, "/") == ["MISS", "HIT"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_visit__an_exception_that_escapes_frees_the_lease(new_app, error, kind) -> None:
    """Whatever the view raises, nothing is stored and the next request may load."""
    app, failing = new_app(), [True]

    def body() -> str:
        if failing:
            raise error("view")
        return "x"

    async def async_body() -> str:
        return body()

    view: Any = body if kind == "sync" else async_body
    app.add_url_rule("/", view_func=cache_response(PAGE)(view), endpoint="x")
    with pytest.raises(error):
        app.test_client().get("/")
    assert leases(app) == []
    failing.clear()
    assert verdicts(app.test_client(), "/") == ["MISS", "HIT"]


def test_commit__one_result_that_cannot_be_stored_does_not_hold_up_the_next(new_app, caplog) -> None:
    """A failure of one fill is logged; the others of the request are stored, and no lease is left."""
    app = new_app(RCACHE_STRICT=False)

    @cache_response(PAGE, tags=["inner"])
    def inner(name):
        return name

    @app.get("/")
    def page():
        return inner("a").data + inner("b").data

    store, first = manager(app).engine.store, [True]
    fill = store.fill

    def failing(fills: Any) -> Any:
        if first and first.pop():
            raise ZeroDivisionError("the store has a bug")
        return fill(fills)

    store.fill = failing  # type: ignore[assignment, method-assign]
    assert app.test_client().get("/").data == b"ab"
    assert "could not be committed" in caplog.text
    assert leases(app) == []
    assert len(list(manager(app).entries())) == 1


def test_install__does_not_keep_apps_alive() -> None:
    """A thousand apps come and go; signals and caches hold none of them."""
    rcache, before = RCache(), len(request_finished.receivers)
    refs = []
    for _ in range(50):
        app: Flask = make_app(rcache=rcache)

        @app.get("/")
        @cache_response(PAGE)
        def page():
            return "x"

        app.test_client().get("/")
        refs.append(weakref.ref(app))
        del app
    gc.collect()
    assert sum(ref() is not None for ref in refs) <= 1
    assert len(request_finished.receivers) <= before + 1


def test_commit__what_a_view_deferred_is_not_stored(new_app) -> None:
    """A function given to `after_this_request` would not run on a hit: such answers are not stored, and say why."""
    app, body = new_app(), Counted()

    @app.before_request
    def everywhere():
        @after_this_request
        def mark(response):
            response.headers["X-Everywhere"] = "1"
            return response

    @app.get("/<how>")
    @cache_response(PAGE)
    def page(how):
        if how == "deferred":

            @after_this_request
            def change(response):
                response.headers["Content-Security-Policy"] = "default-src 'none'"
                response.status_code = 404
                return response

        return body()

    client = app.test_client()
    for number in ("1", "2"):
        answer = client.get("/deferred")
        assert (answer.status_code, answer.text, answer.headers["X-Cache"]) == (404, number, "MISS")
        assert (detail(answer), "Content-Security-Policy" in answer.headers) == ("DEFERRED", True)
    assert leases(app) == []
    for verdict in ("MISS", "HIT"):  # what a `before_request` defers runs on hits too
        answer = client.get("/plain")
        assert (answer.headers["X-Cache"], answer.headers["X-Everywhere"]) == (verdict, "1")


def test_commit__a_made_tag_goes_with_the_body_that_it_was_made_of(new_app) -> None:
    """Where an `after_request` changes bodies there is no tag of the cache's: it would stand for another page."""
    app, state = new_app(), {"banner": "one"}

    @app.after_request
    def banner(response):
        if response.status_code == 200 and request.path != "/calm":
            response.set_data(response.get_data() + state["banner"].encode())
        return response

    @app.get("/<how>")
    @cache_response(PAGE)
    def page(how):
        response = make_response("page ")
        if how == "own":
            response.set_etag("own")
        return response

    client = app.test_client()
    first = client.get("/changed")
    state["banner"] = "two"
    second = client.get("/changed", headers={"If-None-Match": "W/" + '"rc-0"'})
    assert [each.headers.get("ETag") for each in (first, second)] == [None, None]
    assert (first.text, second.text, second.headers["X-Cache"]) == ("page one", "page two", "HIT")
    assert [client.get("/own").headers["ETag"] for _ in range(2)] == ['"own"'] * 2
    assert client.get("/calm").headers["ETag"] == client.get("/calm").headers["ETag"]


@pytest.mark.parametrize("headers", [{"If-None-Match": "*"}, {"Range": "bytes=0-0"}], ids=str)
def test_commit__a_made_tag_that_nobody_compared_is_not_kept(new_app, headers) -> None:
    """Filled by a request that got a 304 or a part, it is not known what becomes of the whole on its way out."""
    app, state = new_app(), {"banner": "one"}
    app.add_url_rule("/", view_func=cache_response(PAGE)(lambda: "page "), endpoint="x")

    @app.after_request
    def banner(response):
        if response.status_code == 200:
            response.set_data(response.get_data() + state["banner"].encode())
        return response

    client = app.test_client()
    assert client.get("/", headers=headers).status_code in (206, 304)
    hit = client.get("/")
    assert (hit.text, hit.headers["X-Cache"], "ETag" in hit.headers) == ("page one", "HIT", False)


@pytest.mark.parametrize("headers", [{}, {"If-None-Match": "*"}, {"Range": "bytes=0-0"}], ids=str)
def test_commit__a_response_that_another_replaces_is_closed(new_app, headers) -> None:
    """What a view asked for with `call_on_close` happens, whatever the condition made of its answer."""
    app, closed = new_app(), []

    @app.get("/")
    @cache_response(PAGE)
    def page():
        response = make_response("xy")
        response.call_on_close(lambda: closed.append(1))
        return response

    app.test_client().get("/", headers=headers).close()
    assert closed == [1]


# When the view fails


def _resilient(new_app, kind: str) -> tuple[Any, dict[str, Any]]:
    """An app whose view answers as `state["now"]` says."""
    app: Flask = new_app(PROPAGATE_EXCEPTIONS=False)
    state: dict[str, Any] = {"now": "fine"}

    def body() -> Any:
        if state["now"] == "raise":
            raise ValueError("broken")
        if isinstance(state["now"], int):
            abort(state["now"])
        return (state["now"], 503) if state["now"] == "unavailable" else state["now"]

    async def async_body() -> Any:
        return body()

    view: Any = body if kind == "sync" else async_body
    app.add_url_rule("/", view_func=cache_response(RESILIENT)(view), endpoint="x")
    return app, state


@pytest.mark.race
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("failure", ["raise", "unavailable", 503, 500])
def test_stale_if_error__stands_in_for_a_view_that_fails(new_app, kind, failure) -> None:
    """An exception and a 5xx, returned or aborted, give the expired answer, marked as stale."""
    app, state = _resilient(new_app, kind)
    client = app.test_client()
    client.get("/")
    time.sleep(0.08)
    state["now"] = failure
    response = client.get("/")
    assert (response.status_code, response.data, response.headers["X-Cache"]) == (200, b"fine", "STALE")
    assert "rcache; hit; ttl=-" in response.headers["Cache-Status"]
    state["now"] = "fine again"
    assert client.get("/").data == b"fine again"


@pytest.mark.race
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("status", [401, 403, 404, 410, 429])
def test_stale_if_error__is_no_answer_to_a_refusal(new_app, kind, status) -> None:
    """`abort(403)` is what the view answers, not a failure: nobody is shown the page instead."""
    app, state = _resilient(new_app, kind)
    client = app.test_client()
    client.get("/")
    time.sleep(0.08)
    state["now"] = status
    assert [client.get("/").status_code for _ in range(2)] == [status] * 2


@pytest.mark.race
@pytest.mark.parametrize("status", [501, 505, 599])
def test_stale_if_error__is_no_answer_to_what_is_no_failure(new_app, status) -> None:
    """RFC 5861 section 4: an error is 500, 502, 503 or 504; other answers are the view's, returned or aborted."""
    app, state = new_app(PROPAGATE_EXCEPTIONS=False), {"now": 200}

    @app.get("/<how>")
    @cache_response(RESILIENT)
    def page(how):
        if state["now"] != 200 and how == "aborted":
            abort(make_response("no", state["now"]))
        return "page", state["now"]

    client = app.test_client()
    for path in ("/returned", "/aborted"):
        state["now"] = 200
        client.get(path)
        time.sleep(0.08)
        state["now"] = status
        assert client.get(path).status_code == status


@pytest.mark.race
@pytest.mark.parametrize("how", ["value", "configuration"])
def test_stale_if_error__hides_no_mistake(new_app, how) -> None:
    """Under RCACHE_STRICT a value that can't be stored raises, and so does wrong use, whatever is there to stand in."""
    app = new_app(RCACHE_STRICT=True)
    state: dict[str, Any] = {"value": 1}

    @cached(CacheType.QUERY, ttl=0.01)
    def value():
        return state["value"]

    @app.get("/")
    @cache_response(RESILIENT)
    def page():
        current_cache.get(state.get("type", "query"), "a")
        return str(value())

    client = app.test_client()
    assert client.get("/").text == "1"
    time.sleep(0.08)
    state.update({"value": object()} if how == "value" else {"type": "none"})
    with pytest.raises(EncodeError if how == "value" else UnknownTypeError):
        client.get("/")


@pytest.mark.race
def test_stale_if_error__of_a_response_that_is_aborted(new_app) -> None:
    """`abort(response)` has the status of its response."""
    app, failing = new_app(PROPAGATE_EXCEPTIONS=False), list[int]()

    @app.get("/")
    @cache_response(RESILIENT)
    def page():
        if failing:
            abort(make_response("away", 503))
        return "fine"

    client = app.test_client()
    client.get("/")
    time.sleep(0.08)
    failing.append(1)
    assert (client.get("/").text, client.get("/").headers["X-Cache"]) == ("fine", "STALE")


@pytest.mark.race
@pytest.mark.parametrize("window", ["stale_while_revalidate", "stale_if_error"])
def test_error_ttl__no_window_keeps_an_error_longer(new_app, window) -> None:
    """A 404 that was kept for `error_ttl` is not shown after it, neither meanwhile nor in place of a failure."""
    app, body = new_app(PROPAGATE_EXCEPTIONS=False), Counted()
    kind = CacheType("errors", ttl=60, error_ttl=0.05, **{window: 3600})  # type: ignore[arg-type]

    @app.get("/")
    @cache_response(kind)
    def page():
        if body() == "1":
            return "not there", 404
        if window == "stale_if_error":
            raise RuntimeError
        return "there"

    client = app.test_client()
    assert client.get("/").status_code == 404
    time.sleep(0.1)
    assert client.get("/").status_code == (500 if window == "stale_if_error" else 200)


class _Prefixed:
    """The well-known middleware of an app that is served under a prefix."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if not environ["PATH_INFO"].startswith("/shop/"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not here"]
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/shop")
        environ["SCRIPT_NAME"] = "/shop"
        return self.app(environ, start_response)


@pytest.mark.race
@pytest.mark.parametrize("middleware", ["none", "prefix", "proxy"])
def test_refresh__under_middleware(new_app, middleware) -> None:
    """The background's request is for the same view and key, and no middleware has its say on it a second time."""
    app, body = new_app(), Counted()
    stale = CacheType("stale", ttl=0.05, stale_while_revalidate=60)
    app.add_url_rule("/x", view_func=cache_response(stale)(lambda: f"{body()} {request.url_root}"), endpoint="x")
    path, headers = "/x", {}
    if middleware == "prefix":
        path, app.wsgi_app = "/shop/x", _Prefixed(app.wsgi_app)
    elif middleware == "proxy":
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)
        headers = {f"X-Forwarded-{name}": value for name, value in (("Host", "a.example"), ("Prefix", "/p"))}
    client = app.test_client()
    if middleware == "prefix":
        client.get(path)  # nobody knows what the middleware has read of the first request: it is not stored
    first = client.get(path, headers=headers).text
    calls, root = body.calls, first.partition(" ")[2]
    time.sleep(0.1)
    assert client.get(path, headers=headers).headers["X-Cache"] == "STALE"
    wait_until(lambda: body.calls == calls + 1, timeout=10, what="the refresh")
    wait_until(lambda: client.get(path, headers=headers).text != first, timeout=10, what="its result")
    assert client.get(path, headers=headers).text.partition(" ")[2] == root


# Waiting for others


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_visit__concurrent_requests_load_once(new_app, kind) -> None:
    """Who waits for another's load gets its result, marked as collapsed."""
    app, body, waiting = new_app(), Counted(), threading.Event()

    def load() -> str:
        waiting.wait(1)
        return body()

    async def load_async() -> str:
        return await asyncio.to_thread(load)

    view: Any = load if kind == "sync" else load_async
    app.add_url_rule("/", view_func=cache_response(PAGE)(view), endpoint="x")
    timer = threading.Timer(0.3, waiting.set)
    timer.start()
    answers = in_threads(8, lambda _: app.test_client().get("/"))
    timer.join()
    assert {answer.data for answer in answers} == {b"1"}
    others = [answer for answer in answers if "stored" not in answer.headers["Cache-Status"]]
    assert len(others) == 7
    assert all("collapsed" in answer.headers["Cache-Status"] or answer.headers["X-Cache"] == "HIT" for answer in others)


@pytest.mark.race
def test_visit__a_refusal_is_not_shared(new_app) -> None:
    """A caller who waited while another was refused is judged for himself."""
    app, entered = new_app(), threading.Barrier(2, timeout=10)

    @app.get("/")
    @cache_response(PAGE)
    def page():
        if request.headers.get("X-Client") == "banned":
            entered.wait()
            time.sleep(0.1)
            abort(403)
        return "welcome"

    def ask(number: int) -> Any:
        if number:
            entered.wait()
        return app.test_client().get("/", headers={"X-Client": "friend" if number else "banned"})

    banned, friend = in_threads(2, ask)
    assert (banned.status_code, friend.status_code) == (403, 200)


@pytest.mark.race
def test_visit__after_a_failure_nobody_queues(new_app) -> None:
    """Those who waited for a load that failed run the view for themselves, all at once; the next may succeed."""
    app, failing, body = new_app(PROPAGATE_EXCEPTIONS=False), [True], Counted()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        body()
        time.sleep(0.2)
        if failing:
            raise ValueError("broken")
        return "fine"

    started = time.monotonic()
    assert {answer.status_code for answer in in_threads(6, lambda _: app.test_client().get("/"))} == {500}
    assert time.monotonic() - started < 0.9
    assert body.calls <= 6
    failing.clear()
    assert app.test_client().get("/").data == b"fine"


@pytest.mark.parametrize("kind", ["sync", "async", "gathered"])
def test_visit__a_request_does_not_wait_for_itself(new_app, kind) -> None:
    """A function called twice in a request, one after the other or at once, is answered both times without waiting."""
    app, body = new_app(), Counted()

    @cache_response(PAGE)
    def part():
        return body()

    @cache_response(PAGE)
    async def async_part():
        await asyncio.sleep(0)
        return body()

    def page():
        return part().data + part().data

    async def async_page():
        if kind == "async":
            answers = [await async_part(), await async_part()]
        else:
            answers = list(await asyncio.gather(async_part(), async_part()))
        return b"".join(each.data for each in answers)

    app.add_url_rule("/", view_func=page if kind == "sync" else async_page)
    started = time.monotonic()
    assert len(app.test_client().get("/").data) == 2
    assert time.monotonic() - started < 4
    assert leases(app) == []
    calls = body.calls
    assert app.test_client().get("/").data in (b"11", b"22")
    assert body.calls == calls


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("store", ["memory", "two processes"])
def test_visit__two_requests_that_want_what_the_other_has_do_not_wait(new_app, redis_server, kind, store) -> None:
    """Two pages that use the same two parts in opposite order, both cold, at once: neither waits for the other."""
    barrier = threading.Barrier(2, timeout=10)

    def build() -> Flask:
        app: Flask = new_app("memory://" if store == "memory" else redis_server.url)

        @cache_response(PAGE, None, lambda req: "head")
        def head():
            return "head"

        @cache_response(PAGE, None, lambda req: "side")
        def side():
            return "side"

        def page(first, second):
            one = first().data
            barrier.wait()
            return one + second().data

        async def async_page(first, second):
            return await asyncio.to_thread(lambda: None) or page(first, second)

        view: Any = page if kind == "sync" else async_page
        app.add_url_rule("/a", view_func=view, endpoint="a", defaults={"first": head, "second": side})
        app.add_url_rule("/b", view_func=view, endpoint="b", defaults={"first": side, "second": head})
        return app

    apps = [build()] * 2 if store == "memory" else [build(), build()]
    for app in apps:
        app.test_client().get("/nothing")
    started = time.monotonic()
    answers = in_threads(2, lambda number: apps[number].test_client().get("/ab"[0] + "ab"[number]))
    assert [answer.data for answer in answers] == [b"headside", b"sidehead"]
    assert time.monotonic() - started < 4
    barrier.abort()


def test_visit__tags_found_during_the_view_and_in_parts_reach_the_page(new_app) -> None:
    """What a page was made of invalidates it: `tag()` in the view, and the tags of cached parts, hit or miss."""
    app, body = new_app(), Counted()

    @cache_response(CacheType.SEARCH, tags=["part"])
    def part():
        return "part"

    @app.get("/")
    @cache_response(PAGE)
    def page():
        current_cache.tag("found")
        return part().data + body().encode()

    client = app.test_client()
    for invalidate in (
        lambda: current_cache.invalidate_tags("found"),
        lambda: current_cache.invalidate_tags("part"),
        lambda: current_cache.invalidate_type(CacheType.SEARCH),
        lambda: current_cache.invalidate_type(PAGE),
        lambda: current_cache.clear_all(),
    ):
        assert verdicts(client, "/") == ["MISS", "HIT"]
        with app.app_context():
            invalidate()
    assert body.calls == 5


@pytest.mark.parametrize("act", ["type", "tag", "pattern", "all", "write"])
def test_commit__what_was_overtaken_is_not_stored(new_app, store_url, act) -> None:
    """An invalidation while the view runs: its answer is sent, and the next request loads again."""
    app, body = new_app(store_url), Counted()

    @app.route("/", methods=["GET", "POST"])
    @cache_response(PAGE, tags=["t"])
    def page():
        number = body()
        if request.method == "GET" and number == "1":
            if act == "write":
                app.test_client().post("/")
            else:
                {
                    "type": lambda: current_cache.invalidate_type(PAGE),
                    "tag": lambda: current_cache.invalidate_tags("t"),
                    "pattern": lambda: current_cache.invalidate_pattern("page:*"),
                    "all": lambda: current_cache.clear_all(),
                }[act]()
        return number

    client = app.test_client()
    first = client.get("/")
    assert (first.headers["X-Cache"], detail(first), first.data) == ("MISS", "OVERTAKEN", b"1")
    assert verdicts(client, "/") == ["MISS", "HIT"]


def test_commit__a_range_on_a_cold_url_leaves_the_made_tag(new_app, store_url) -> None:
    """Where nothing changes bodies afterwards, or this view's were seen to stay, the entry has its tag."""
    app = new_app(store_url)
    app.add_url_rule("/<name>", view_func=cache_response(PAGE)(lambda name: "0123456789"), endpoint="x")
    client = app.test_client()
    assert client.get("/cold", headers={"Range": "bytes=0-0"}).status_code == 206
    usual = client.get("/cold").headers["ETag"]
    app.after_request_funcs.setdefault(None, []).append(lambda response: response)
    assert client.get("/whole").headers["ETag"] == usual
    client.get("/part", headers={"Range": "bytes=0-0"})
    assert client.get("/part").headers["ETag"] == usual
