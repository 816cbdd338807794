"""Revalidation: the view is asked whether an expired response is still good, and what becomes of its 304."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask, Response, make_response, request, session
from werkzeug.test import TestResponse

from flask_rcache import (
    FROM_HEADERS,
    CacheType,
    RCache,
    cache_response,
    cached,
    current_cache,
    not_modified,
)
from tests.processes import wait_until
from tests.views.kit import manager

pytestmark = pytest.mark.race

MOMENT = "Sun, 06 Nov 1994 08:49:37 GMT"
#: Expires at once for practical purposes, and is kept.
PAGE = CacheType("page", ttl=0.05, revalidate=60)


class Source:
    """What a view shows: its version, and what was asked of the view."""

    def __init__(self) -> None:
        self.version = "v1"
        self.asked: list[str | None] = []
        self.extra: dict[str, str] = {}

    def __call__(self) -> Any:
        """Answer as an origin does that knows its version."""
        self.asked.append(request.headers.get("If-None-Match"))
        etag = f'"{self.version}"'
        if request.headers.get("If-None-Match") == etag:
            return Response(status=304, headers={"ETag": etag, **self.extra})
        return f"{self.version} page", 200, {"ETag": etag, "X-Kept": "1", **self.extra}


def source_app(new_app: Any, url: str, cache_type: CacheType = PAGE, **options: Any) -> tuple[Flask, Source]:
    """One page of a source, and a view that invalidates its tag."""
    app, source = new_app(url), Source()

    @app.get("/page")
    @cache_response(cache_type, tags=["news"], **options)
    def page():
        return source()

    return app, source


def expired(client: Any, path: str = "/page") -> TestResponse:
    """Fill a URL, and let what was stored expire."""
    answer: TestResponse = client.get(path)
    assert answer.headers["X-Cache"] == "MISS"
    wait_until(lambda: not _is_fresh(client.application), timeout=10, what="the response to expire")
    return answer


def _is_fresh(app: Flask, kind: str = "") -> bool:
    with app.app_context():
        return any(entry.ttl > 0 and kind in entry.kind for entry in current_cache.entries())


def test_revalidation__a_304_makes_the_stored_response_fresh_again(new_app, store_url) -> None:
    """RFC 9111 section 4.3.4: the body stays, the fields are those of the 304, and it is a hit from then on."""
    app, source = source_app(new_app, store_url, PAGE.replace(ttl=0.5))
    client = app.test_client()
    first = expired(client)
    source.extra = {"X-New": "2"}
    again = client.get("/page")
    assert (again.status_code, again.text) == (200, first.text)
    assert (again.headers["X-Kept"], again.headers["X-New"], again.headers["ETag"]) == ("1", "2", '"v1"')
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert again.headers["X-Cache"] == "MISS"
    assert again.headers["Cache-Status"].startswith("rcache; fwd=stale; fwd-status=304; stored; ttl=0")
    hit = client.get("/page")
    assert (hit.headers["X-Cache"], hit.headers["X-New"], hit.text) == ("HIT", "2", first.text)
    assert source.asked == [None, '"v1"']


def test_revalidation__another_answer_replaces_it(new_app, store_url) -> None:
    """A 200 is what is stored from then on."""
    app, source = source_app(new_app, store_url)
    client = app.test_client()
    expired(client)
    source.version = "v2"
    answer = client.get("/page")
    assert (answer.text, answer.headers["ETag"]) == ("v2 page", '"v2"')
    assert "fwd-status" not in answer.headers["Cache-Status"]
    assert "fwd=stale; stored" in answer.headers["Cache-Status"]
    expired_again = client.get("/page")
    assert (expired_again.text, source.asked) == ("v2 page", [None, '"v1"', '"v2"'][: len(source.asked)])


@pytest.mark.parametrize("how", ["tag", "type", "everything"])
def test_revalidation__never_of_what_was_invalidated(new_app, store_url, how) -> None:
    """An invalidated response is not asked for: the view answers in full."""
    app, source = source_app(new_app, store_url)
    client = app.test_client()
    expired(client)
    with app.app_context():
        if how == "tag":
            current_cache.invalidate_tags("news")
        elif how == "type":
            current_cache.invalidate_type("page")
        else:
            current_cache.clear_all()
    assert "fwd=uri-miss" in client.get("/page").headers["Cache-Status"]
    assert source.asked == [None, None]


def test_revalidation__what_is_invalidated_while_the_view_confirms_it_stays_invalid(new_app, store_url) -> None:
    """The entry keeps its `as_of`: the next request has a full answer, and so has one that waited."""
    app, source = new_app(store_url), Source()
    confirms, goes_on = threading.Event(), threading.Event()

    @app.get("/page")
    @cache_response(PAGE, tags=["news"])
    def page():
        answer = source()
        if isinstance(answer, Response):
            confirms.set()
            goes_on.wait(10)
        return answer

    client = app.test_client()
    expired(client)
    answers: dict[str, TestResponse] = {}

    def ask(name: str) -> None:
        answers[name] = app.test_client().get("/page")

    leader = threading.Thread(target=ask, args=("leader",))
    leader.start()
    assert confirms.wait(10)
    source.version = "v2"
    with app.app_context():
        current_cache.invalidate_tags("news")
    waiter = threading.Thread(target=ask, args=("waiter",))
    waiter.start()
    goes_on.set()
    leader.join(10)
    waiter.join(10)
    assert answers["leader"].text == "v1 page"
    assert "stored" not in answers["leader"].headers["Cache-Status"]
    assert answers["waiter"].text == "v2 page"
    assert client.get("/page").text == "v2 page"


def test_revalidation__tags_keep_their_as_of_and_those_of_the_new_run_are_added(new_app, store_url) -> None:
    """What the first run depended on still invalidates the response, and so does what the second one read."""
    app, source = new_app(store_url), Source()
    rates = cached(CacheType.QUERY, tags=["rates"])(lambda: 1)

    @app.get("/page")
    @cache_response(PAGE.replace(ttl=0.3))
    def page():
        if request.headers.get("If-None-Match"):
            rates()
        else:
            current_cache.tag("first")
        return source()

    client = app.test_client()

    def confirmed() -> None:
        expired(client)
        assert "fwd-status=304; stored" in client.get("/page").headers["Cache-Status"]

    for tag in ("first", "rates"):
        confirmed()
        with app.app_context():
            current_cache.invalidate_tags(tag)
        source.asked.clear()
        assert client.get("/page").headers["X-Cache"] == "MISS", tag
        assert source.asked == [None], tag
        with app.app_context():
            current_cache.clear_all()


def test_revalidation__no_cache_is_stored_and_confirmed_each_time(new_app, store_url) -> None:
    """RFC 9111 section 5.2.2.4: each request asks the view, and none of them gets what was not confirmed."""
    app, source = source_app(new_app, store_url, CacheType("each_time", stale_if_error=60), ttl=FROM_HEADERS)
    source.extra = {"Cache-Control": "no-cache, max-age=600"}
    client = app.test_client()
    answers = [client.get("/page") for _ in range(3)]
    source.version = "v2"
    answers.append(client.get("/page"))
    assert [answer.text for answer in answers] == ["v1 page"] * 3 + ["v2 page"]
    assert [answer.headers["X-Cache"] for answer in answers] == ["MISS"] * 4
    assert source.asked == [None, '"v1"', '"v1"', '"v1"']


def test_revalidation__requests_for_what_is_never_fresh_do_not_wait_for_each_other(new_app, store_url) -> None:
    """Ten at once confirm at once, on a cold URL and on a stored response."""
    app = new_app(store_url)
    meet = threading.Barrier(5)

    @app.get("/page")
    @cache_response(CacheType("each_time"), ttl=FROM_HEADERS)
    def page():
        if request.headers.get("If-None-Match"):
            meet.wait(10)  # all of them have to be in the view together
            return Response(status=304)
        return "page", 200, {"ETag": '"v1"', "Cache-Control": "no-cache"}

    app.test_client().get("/page")
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(app.test_client().get("/page").text)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == ["page"] * 5


@pytest.mark.parametrize("control", ["no-store", "private", ""], ids=str)
def test_revalidation__a_304_that_may_not_be_kept_is_only_sent(new_app, store_url, control) -> None:
    """Its cookie, or its Cache-Control, is obeyed: this client gets the response with it, and nobody else does."""
    app, source = source_app(new_app, store_url)
    client = app.test_client()
    expired(client)
    source.extra = {"Cache-Control": control} if control else {"Set-Cookie": "mine=1"}
    again = client.get("/page")
    assert (again.status_code, again.text) == (200, "v1 page")
    assert again.headers.get("Set-Cookie") == (None if control else "mine=1")
    assert "fwd-status=304; " in again.headers["Cache-Status"]
    assert "stored" not in again.headers["Cache-Status"]
    source.extra = {}
    assert client.get("/page").headers.get("Set-Cookie") is None


def test_revalidation__conditions_and_ranges_of_the_client_are_its_own(new_app, store_url) -> None:
    """The view sees the stored tag; the client's condition and range are evaluated against the whole response."""
    app, source = source_app(new_app, store_url)
    client = app.test_client()
    for headers, status, body in (
        ({"If-None-Match": '"v1"'}, 304, ""),
        ({"If-None-Match": '"other"'}, 200, "v1 page"),
        ({"Range": "bytes=0-1"}, 206, "v1"),
    ):
        expired(client)
        answer = client.get("/page", headers=headers)
        assert (answer.status_code, answer.text) == (status, body)
        assert source.asked == [None, '"v1"']
        assert "fwd=stale; fwd-status=304; stored" in answer.headers["Cache-Status"]
        with app.app_context():
            current_cache.clear_all()
        source.asked.clear()


def test_revalidation__the_request_is_as_it_came_once_the_view_has_run(new_app) -> None:
    """What runs afterwards sees the client's conditions, and not those of the cache."""
    app, seen = new_app("memory://"), []

    @app.after_request
    def look(response):
        seen.append((request.headers.get("If-None-Match"), request.if_none_match.to_header()))
        return response

    @app.get("/page")
    @cache_response(PAGE)
    def page():
        seen.append((request.headers.get("If-None-Match"), request.if_none_match.to_header()))
        return "page", 200, {"ETag": '"v1"'}

    client = app.test_client()
    expired(client)
    seen.clear()
    client.get("/page", headers={"If-None-Match": '"mine"'})
    assert seen == [('"v1"', '"v1"'), ('"mine"', '"mine"')]


def test_revalidation__asks_with_last_modified_too(new_app) -> None:
    """A response without an ETag of its own is asked for by its date, and never by a tag that the cache has made."""
    app, asked = new_app("memory://"), []

    @app.get("/page")
    @cache_response(PAGE)
    def page():
        asked.append((request.headers.get("If-Modified-Since"), request.headers.get("If-None-Match")))
        response = make_response("page")
        response.last_modified = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
        return response.make_conditional(request)

    client = app.test_client()
    first = expired(client)
    again = client.get("/page")
    assert (again.text, again.headers["ETag"], again.headers["Last-Modified"]) == (
        "page",
        first.headers["ETag"],
        MOMENT,
    )
    assert asked == [(None, None), (MOMENT, None)]
    assert "fwd-status=304; stored" in again.headers["Cache-Status"]


@pytest.mark.parametrize(
    ("cache_type", "headers"),
    [
        pytest.param(PAGE.replace(revalidate=0), {"ETag": '"v1"'}, id="switched-off"),
        pytest.param(PAGE, {}, id="no-validator"),
        pytest.param(PAGE, {"ETag": "v1"}, id="no-entity-tag"),
    ],
)
def test_revalidation__is_not_done(new_app, store_url, cache_type, headers) -> None:
    """Switched off, or without a validator of the view: it runs as for a miss."""
    app, asked = new_app(store_url), []

    @app.get("/page")
    @cache_response(cache_type)
    def page():
        asked.append(request.headers.get("If-None-Match"))
        return "page", 200, headers

    client = app.test_client()
    expired(client)
    assert client.get("/page").text == "page"
    assert asked == [None, None]


def test_revalidation__each_variant_by_its_own_tag(new_app, store_url) -> None:
    """The tag is that of the variant that the request selects."""
    app, asked = new_app(store_url), []

    @app.get("/page")
    @cache_response(PAGE)
    def page():
        language = request.headers["Accept-Language"]
        asked.append(request.headers.get("If-None-Match"))
        if asked[-1]:
            return Response(status=304)
        return language, 200, {"ETag": f'"{language}"', "Vary": "Accept-Language"}

    client = app.test_client()
    for language in ("en", "fr"):
        client.get("/page", headers={"Accept-Language": language})
    wait_until(lambda: not _is_fresh(app, kind="response"), timeout=10, what="the variants to expire")
    for language in ("fr", "en"):
        answer = client.get("/page", headers={"Accept-Language": language})
        assert (answer.text, answer.headers["Vary"]) == (language, "Accept-Language")
    assert asked == [None, None, '"fr"', '"en"']


def test_revalidation__a_background_refresh_asks_as_well(new_app, store_url) -> None:
    """While a stale response is served, the background's request carries its tag, and its 304 refreshes it."""
    app, source = source_app(new_app, store_url, PAGE.replace(ttl=0.5, stale_while_revalidate=60))
    client = app.test_client()
    expired(client)
    assert client.get("/page").headers["X-Cache"] == "STALE"
    wait_until(lambda: client.get("/page").headers["X-Cache"] == "HIT", timeout=10, what="the refresh")
    assert source.asked == [None, '"v1"']


def test_revalidation__of_an_async_view(new_app) -> None:
    """The same for coroutines."""
    app, asked = new_app("memory://"), []

    @app.get("/page")
    @cache_response(PAGE)
    async def page():
        await asyncio.sleep(0)
        asked.append(request.headers.get("If-None-Match"))
        return not_modified(etag="v1") or "page"

    client = app.test_client()
    expired(client)
    assert (client.get("/page").text, asked) == ("page", [None, '"v1"'])


def test_revalidation__what_the_session_adds_selects_no_variant(new_app) -> None:
    """`Vary: Cookie`, which the session adds to every response, is not taken for the view's own afterwards."""
    app = new_app("memory://")

    @app.before_request
    def load_user():
        session.get("user")

    @app.get("/page")
    @cache_response(PAGE.replace(ttl=0.3))
    def page():
        return not_modified(etag="v1") or "page"

    client = app.test_client()
    expired(client)
    again = client.get("/page")
    assert "fwd-status=304; stored" in again.headers["Cache-Status"]
    assert again.headers["Vary"].lower() == "cookie"
    client.set_cookie("analytics", "7")
    assert client.get("/page").headers["X-Cache"] == "HIT"


# not_modified


def test_not_modified__answers_the_client_outside_of_the_cache(new_app) -> None:
    """On a plain view, and on one that is bypassed, it evaluates the client's conditions."""
    app = new_app("memory://")

    def page():
        return not_modified(etag="v1", last_modified=784111777) or "page"

    app.add_url_rule("/plain", "plain", page)
    app.add_url_rule("/cached", "cached", cache_response(PAGE)(page))
    client = app.test_client()
    bearer = {"Authorization": "Bearer x"}
    for path in ("/plain", "/cached"):
        answer = client.get(path, headers={"If-None-Match": '"v1"', **bearer})
        assert (answer.status_code, answer.headers["ETag"]) == (304, '"v1"')
        assert "Content-Type" not in answer.headers
        assert client.get(path, headers={"If-None-Match": 'W/"v1"', **bearer}).status_code == 304
        assert client.get(path, headers={"If-None-Match": '"v0"', **bearer}).status_code == 200
        assert client.get(path, headers={"If-Modified-Since": MOMENT, **bearer}).status_code == 304
        assert client.post(path, headers={"If-None-Match": '"v1"'}).status_code == 405
    assert client.get("/cached", headers=bearer).headers["ETag"] == '"v1"'


def test_not_modified__states_the_validators_of_its_own_view_only(new_app) -> None:
    """A view that calls another one has its own, whether that one is cached, bypassed, or neither."""
    app = new_app("memory://")

    @cache_response(PAGE, unless=lambda req: "bypass" in req.args)
    def part():
        return not_modified(etag="part") or "part"

    @app.get("/stated")
    @cache_response(PAGE)
    def stated():
        assert not_modified(etag="page") is None
        return "page with " + part().get_data(as_text=True)

    @app.get("/silent")
    @cache_response(PAGE)
    def silent():
        return "page with " + part().get_data(as_text=True)

    client = app.test_client()
    for query in ("", "?bypass"):
        assert client.get("/stated" + query).headers["ETag"] == '"page"'
        assert client.get("/silent" + query).headers["ETag"].startswith('W/"rc-')


def test_not_modified__leaves_what_the_view_says_itself(new_app) -> None:
    """A tag of the response comes before the one that was stated; an error page has none."""
    app = new_app("memory://")

    @app.get("/page")
    @cache_response(PAGE)
    def page():
        not_modified(etag="stated")
        if "error" in request.args:
            return "none", 404
        return "page", 200, {"ETag": '"own"'}

    client = app.test_client()
    assert client.get("/page").headers["ETag"] == '"own"'
    assert "ETag" not in client.get("/page?error").headers


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs an etag"),
        ({"etag": "two words"}, "printable ASCII"),
        ({"etag": 'a"b'}, "printable ASCII"),
        ({"etag": "größe"}, "printable ASCII"),
    ],
    ids=str,
)
def test_not_modified__refuses_what_is_no_validator(new_app, given, message) -> None:
    """What cannot be sent is an error that says what can."""
    app = new_app("memory://")
    with app.test_request_context("/"), pytest.raises(ValueError, match=message):
        not_modified(**given)


def test_not_modified__is_a_method_of_the_extension(new_app) -> None:
    """`rcache.not_modified` is the same, and it needs a request."""
    app = new_app("memory://")
    with app.test_request_context("/", headers={"If-None-Match": 'W/"7"'}):
        answer = RCache.not_modified(etag='W/"7"')
        assert answer is not None
        assert answer.status_code == 304
    with app.app_context(), pytest.raises(RuntimeError, match="request"):
        RCache.not_modified(etag="7")
    assert manager(app).is_available
