"""Requests with Authorization have what says itself that they may (RFC 9111, section 3.5), and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from flask import Flask, Response, request
from flask.testing import FlaskClient

from flask_rcache import CacheType, cache_response
from flask_rcache.views.bound import AppViews
from tests.views.conftest import AppFactory
from tests.views.kit import PAGE, Counted, detail, in_threads, verdicts

ANNE = {"Authorization": "Bearer anne"}
BOB = {"Authorization": "Bearer bob"}
PERMITTING = ("public", "s-maxage=60", "must-revalidate, max-age=60", "public, max-age=60")

Shop = Callable[[Callable[[], str], str], FlaskClient]


@pytest.fixture
def app(new_app: AppFactory, store_url: str) -> Flask:
    """An application on each kind of store."""
    return new_app(store_url, RCACHE_CREDENTIAL_HEADERS=["X-Api-Key"])


@pytest.fixture
def shop(app: Flask) -> Shop:
    """`shop(body, says)`: a client of an application with a view whose responses say something."""

    def make(body: Callable[[], str], says: str) -> FlaskClient:
        @app.get("/page")
        @cache_response(PAGE)
        def page() -> Response:
            return Response(body(), headers={"Cache-Control": says})

        return app.test_client(use_cookies=False)

    return make


@pytest.mark.parametrize("says", PERMITTING)
def test_authorization__what_permits_it_is_stored_and_served(shop: Shop, says: str) -> None:
    """RFC 9111, 3.5: one answer for all who ask, with Authorization and without."""
    count = Counted()
    client = shop(count, says)

    assert verdicts(client, "/page", 1, headers=ANNE) == ["MISS"]
    answers = [client.get("/page", headers=headers) for headers in (ANNE, BOB, {})]

    assert [(answer.headers["X-Cache"], answer.text) for answer in answers] == [("HIT", "1")] * 3


@pytest.mark.parametrize("says", PERMITTING)
def test_authorization__what_was_stored_for_others_is_served(shop: Shop, says: str) -> None:
    """The same where the first one asked without."""
    client = shop(Counted(), says)
    client.get("/page")

    assert verdicts(client, "/page", headers=ANNE) == ["HIT", "HIT"]
    assert client.head("/page", headers=BOB).headers["X-Cache"] == "HIT"


@pytest.mark.parametrize(
    "says",
    [
        "max-age=60",
        "private, must-revalidate",
        "public, no-store",
        "private, s-maxage=60",
        "no-cache, must-revalidate",
        "max-age=0, must-revalidate",
        "proxy-revalidate, max-age=60",
        'private="x-user", public',
    ],
)
def test_authorization__what_does_not_permit_it_is_for_its_caller(shop: Shop, says: str) -> None:
    """Nobody gets what was made for another, with Authorization or without."""
    client = shop(lambda: request.headers.get("Authorization", "nobody"), says)

    for _ in range(2):
        assert client.get("/page").text == "nobody"
        assert client.get("/page", headers=ANNE).text == "Bearer anne"
        assert client.get("/page", headers=BOB).text == "Bearer bob"


def test_authorization__without_permission_is_a_bypass(shop: Shop) -> None:
    """The first request finds out, and says the same as those after it."""
    client = shop(Counted(), "max-age=60")
    answers = [client.get("/page", headers=ANNE) for _ in range(3)]

    assert [answer.headers["X-Cache"] for answer in answers] == ["BYPASS"] * 3
    assert [answer.headers["Cache-Status"] for answer in answers] == ["rcache; fwd=bypass; detail=AUTHORIZATION"] * 3
    assert not any("X-Cache-Key" in answer.headers for answer in answers)
    assert verdicts(client, "/page") == ["MISS", "HIT"]


def test_authorization__a_view_that_never_permits_it_is_not_asked_for(new_app: AppFactory) -> None:
    """Where that was found out once, other URLs of the view are not even looked up."""
    app = new_app()

    @app.get("/<name>")
    @cache_response(PAGE)
    def page(name: str) -> str:
        return name

    client = app.test_client()
    bound = AppViews.of(app).view(page.rcache_options)  # type: ignore[attr-defined]
    assert bound.may_permit_authorization("another URL")
    client.get("/a", headers=ANNE)
    assert not bound.may_permit_authorization("another URL")


def test_authorization__permission_is_noticed_when_it_comes(app: Flask) -> None:
    """A view that permits it from now on is cached from now on."""
    said = ["max-age=60"]

    @app.get("/page")
    @cache_response(PAGE)
    def page() -> Response:
        return Response("page", headers={"Cache-Control": said[0]})

    client = app.test_client()
    assert verdicts(client, "/page", headers=ANNE) == ["BYPASS", "BYPASS"]
    said[0] = "public, max-age=60"
    assert verdicts(client, "/page", 3, headers=ANNE) == ["BYPASS", "MISS", "HIT"]


@pytest.mark.parametrize("other", [{"X-Api-Key": "k"}, {"Cookie": "remember_token=anne"}])
def test_authorization__no_other_credential_is_permitted(shop: Shop, other: dict[str, str]) -> None:
    """What else says who is asking bypasses as before."""
    client = shop(Counted(), "public, max-age=60")
    client.get("/page", headers=ANNE)
    answer = client.get("/page", headers={**ANNE, **other})

    assert (answer.headers["X-Cache"], answer.text) == ("BYPASS", "2")


@pytest.mark.parametrize("read", [lambda: request.headers.get("X-Token", ""), lambda: request.cookies.get("who", "")])
def test_authorization__no_other_read_is_exempt(shop: Shop, read: Callable[[], str]) -> None:
    """A header or cookie that was read says who is asking, whatever the response says of Authorization."""
    client = shop(read, "public, max-age=60")

    for who in ("anne", "bob"):
        answer = client.get("/page", headers={**ANNE, "X-Token": who, "Cookie": f"who={who}"})
        assert answer.text == who
        assert detail(answer) in ("FIELD", "AUTHORIZATION")


def test_authorization__a_login_above_the_view_is_exempt(app: Flask) -> None:
    """What a login reads of Authorization does not count where the response permits it; and it runs on each hit."""
    count = Counted()

    @app.before_request
    def login() -> tuple[str, int] | None:
        who = request.authorization
        return None if who is not None and who.token in ("anne", "bob") else ("who?", 401)

    @app.get("/page")
    @cache_response(PAGE)
    def page() -> Response:
        return Response(count(), headers={"Cache-Control": "public, max-age=60"})

    client = app.test_client()
    assert verdicts(client, "/page", headers=ANNE) == ["MISS", "HIT"]
    assert verdicts(client, "/page", headers=BOB) == ["HIT", "HIT"]
    assert client.get("/page", headers={"Authorization": "Bearer eve"}).status_code == 401


def test_authorization__an_answer_to_nobody_that_depends_on_it_is_not_served(app: Flask) -> None:
    """What a view shows those who did not log in is not shown to those who did, although it says `public`."""

    @app.get("/page")
    @cache_response(PAGE)
    def page() -> Response:
        who = request.headers.get("Authorization")
        return Response(who or "nobody", headers={"Cache-Control": "private" if who else "public, max-age=60"})

    client = app.test_client()
    for _ in range(2):
        assert client.get("/page").text == "nobody"
        assert client.get("/page", headers=ANNE).text == "Bearer anne"


def test_authorization__only_the_view_itself_permits_it(app: Flask) -> None:
    """An `after_request` that says `public` of everything knows nothing of the view; one that forbids is obeyed."""
    forbids: list[bool] = []

    @app.after_request
    def say(response: Response) -> Response:
        response.headers["Cache-Control"] = "private" if forbids else "public, max-age=60"
        return response

    @app.get("/page")
    @cache_response(PAGE)
    def page() -> str:
        return request.headers.get("Authorization", "nobody")

    @app.get("/open")
    @cache_response(PAGE)
    def opened() -> Response:
        return Response("open", headers={"Cache-Control": "public"})

    client = app.test_client()
    assert [client.get("/page", headers=each).text for each in (ANNE, BOB)] == ["Bearer anne", "Bearer bob"]
    forbids.append(True)
    assert "HIT" not in verdicts(client, "/open", 3, headers=ANNE)


def test_authorization__vary_tells_callers_apart(app: Flask) -> None:
    """`Vary: Authorization` beside `public`: each value has its own answer."""

    @app.get("/page")
    @cache_response(PAGE)
    def page() -> Response:
        text = request.headers.get("Authorization", "nobody")
        return Response(text, headers={"Cache-Control": "public, max-age=60", "Vary": "Authorization"})

    client = app.test_client()
    for expected in ("MISS", "HIT"):
        for headers, text in ((ANNE, "Bearer anne"), (BOB, "Bearer bob")):
            answer = client.get("/page", headers=headers)
            assert (answer.headers["X-Cache"], answer.text) == (expected, text)


def test_authorization__nothing_expired_is_served(new_app: AppFactory) -> None:
    """What has expired is not served while it is refreshed: in the background nobody has the Authorization."""
    app = new_app(types=[CacheType("short", ttl=0.05, stale_while_revalidate=60)])
    count = Counted()

    @app.get("/page")
    @cache_response("short")
    def page() -> Response:
        return Response(count(), headers={"Cache-Control": "public"})

    client = app.test_client()
    client.get("/page", headers=ANNE)
    threading.Event().wait(0.1)
    answer = client.get("/page", headers=ANNE)
    assert (answer.headers["X-Cache"], answer.text) == ("MISS", "2")


def test_authorization__whoever_waits_for_it_gets_nobodys_answer(app: Flask) -> None:
    """Requests that come while one with Authorization is being answered have each their own, and end."""
    entered = threading.Event()

    @app.get("/page")
    @cache_response(PAGE)
    def page() -> Response:
        who = request.headers.get("Authorization", "nobody")
        if who == "Bearer anne":
            entered.set()
            threading.Event().wait(0.1)
        return Response(who, headers={"Cache-Control": "max-age=60"})

    def ask(number: int) -> tuple[str, str]:
        headers = (ANNE, BOB, {})[number % 3]
        if number:
            entered.wait(5)
        return headers.get("Authorization", "nobody"), app.test_client().get("/page", headers=headers).text

    assert all(expected == text for expected, text in in_threads(6, ask))


def test_authorization__whoever_asks_at_the_same_time_waits_for_nobody(app: Flask) -> None:
    """Two with Authorization run the view at once; both would hang if one waited for the other."""
    both = threading.Barrier(2)

    @app.get("/page")
    @cache_response(PAGE)
    def page() -> Response:
        both.wait(5)
        return Response("page", headers={"Cache-Control": "public, max-age=60"})

    found = in_threads(2, lambda number: app.test_client().get("/page", headers=(ANNE, BOB)[number]).status_code)
    assert found == [200, 200]
    assert verdicts(app.test_client(), "/page", headers=ANNE) == ["HIT", "HIT"]
