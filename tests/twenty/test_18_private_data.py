"""18: private data in every disguise: nobody is shown, or given the cookie of, another."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, g, make_response, request, session
from werkzeug.test import TestResponse

from flask_rcache import CacheType, RCache, by_user, cache_response
from tests.servers import Server

PAGE = CacheType("page", ttl=60)
MINE = CacheType("mine", ttl=60, per_user=True)

App = Callable[..., Flask]


@pytest.fixture
def new_app(any_server: Server) -> Iterator[App]:
    """Makes applications on one server, without and with the memory tier."""
    made: list[Flask] = []

    def make(l1_ttl: float = 0) -> Flask:
        app = Flask("private")
        app.config.update(SECRET_KEY="s" * 32, RCACHE_URL=any_server.url, RCACHE_TIMEOUT=2, RCACHE_L1_TTL=l1_ttl)
        RCache(app)
        made.append(app)
        return made[-1]

    yield make
    for app in made:
        app.extensions["rcache"].close()


def who() -> str:
    """Whom the request is from, whatever says so."""
    login = request.authorization
    cookie = session.get("user") or request.cookies.get("remember_token") or request.cookies.get("access_token_cookie")
    told = login.username if login and login.username else login.token if login else None
    return str(told or cookie or request.headers.get("X-Client-User") or request.remote_user or "nobody")


def bearer(name: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {name}"}}


def basic(name: str) -> dict[str, Any]:
    return {"headers": {"Authorization": "Basic " + b64encode(f"{name}:x".encode()).decode()}}


#: How a request says whom it is from.
REQUESTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "bearer token": bearer,
    "basic": basic,
    "remember-me cookie": lambda name: {"headers": {"Cookie": f"remember_token={name}"}},
    "token cookie": lambda name: {"headers": {"Cookie": f"access_token_cookie={name}"}},
    "server in front": lambda name: {"environ_overrides": {"REMOTE_USER": name}},
    "session": lambda name: {"session": name},
}


def ask(app: Flask, path: str = "/", **options: Any) -> TestResponse:
    """One request of a browser that has only what is given here."""
    name = options.pop("session", None)
    client = app.test_client(use_cookies=bool(name))
    if name:
        with client.session_transaction() as mine:
            mine["user"] = name
    return client.get(path, **options)


@pytest.mark.parametrize("l1_ttl", [0, 2])
@pytest.mark.parametrize("disguise", REQUESTS)
def test_behaviour_18__a_request_with_credentials(new_app: App, disguise: str, l1_ttl: float) -> None:
    """Whoever asks first, everybody sees himself, and who says nothing is nobody; in every process."""
    apps = [new_app(l1_ttl) for _ in range(2)]
    for app in apps:
        app.add_url_rule("/", view_func=cache_response(PAGE)(who), endpoint="page")
    for _ in range(2):
        for name in ("ann", "bob", "nobody", "ann"):
            options = {} if name == "nobody" else REQUESTS[disguise](name)
            assert [ask(app, **options).get_data(as_text=True) for app in apps] == [name] * 2


def _set_late(response: Response) -> Response:
    if request.args.get("how") == "after_request":
        response.set_cookie("id", request.args["name"])
    return response


RESPONSES: tuple[str, ...] = (
    "view cookie",
    "session",
    "permanent session",
    "after_request",
    "before_request",
    "private",
    "no-store",
)
RESPONSES += ("no-cache", "vary star", "vary cookie", "private=field")


@pytest.mark.parametrize("disguise", RESPONSES)
def test_behaviour_18__a_response_that_is_for_one(new_app: App, disguise: str) -> None:
    """Nothing in the request says whose it is, the response does: it is not another's, nor is its cookie."""
    app = new_app()

    @app.before_request
    def early() -> None:
        if request.args.get("how") == "before_request":
            session["user"] = g.name = request.args["name"]

    @app.get("/page")
    @cache_response(PAGE, None, lambda request: request.args["how"])  # the names are not in the key, as if hidden
    def page() -> Response:
        how, name = request.args["how"], request.args["name"]
        response = make_response(name)
        if how == "view cookie":
            response.set_cookie("id", name)
        elif how.endswith("session"):
            session.permanent = how.startswith("permanent")
            session["user"] = name
        elif how.startswith(("private", "no-")):
            response.headers["Cache-Control"] = how.replace("=field", '="x-name"') + ", max-age=60"
            response.headers["X-Name"] = name
        elif how.startswith("vary"):
            response.headers["Vary"] = "*" if how.endswith("star") else "Cookie"
        return response

    app.after_request(_set_late)
    for name in ("ann", "bob", "ann", "eve"):
        cookie = {"Cookie": f"theme={name}"} if disguise == "vary cookie" else {}
        answer = ask(app, f"/page?how={disguise}&name={name}", headers=cookie)
        others = {"ann", "bob", "eve"} - {name}
        assert answer.get_data(as_text=True) == name
        assert not any(other in line for line in map(str, answer.headers) for other in others)


def test_behaviour_18__entries_of_ones_own(new_app: App) -> None:
    """On a per_user type each caller whose key names him has his own hit, and nobody another's."""
    app = new_app()
    app.config["RCACHE_USER_JWT_KEY"] = None
    view = cache_response(MINE, None, lambda request: ("user", who()))(who)
    app.add_url_rule("/", view_func=view, endpoint="page")
    for verdict in ("MISS", "HIT"):
        for name in ("ann", "bob", "eve"):
            answer = ask(app, **bearer(name))
            assert (answer.get_data(as_text=True), answer.headers["X-Cache"]) == (name, verdict)


@pytest.mark.parametrize("forged", [bearer("e30.e30."), bearer("x.y.z"), basic("ann"), {}])
def test_behaviour_18__by_user_trusts_no_one_s_word(new_app: App, forged: dict[str, Any], any_server: Server) -> None:
    """A token that is not verified names nobody: its bearer is neither given another's entry nor leaves one."""
    app = Flask("tokens")
    app.config.update(RCACHE_URL=any_server.url, RCACHE_TIMEOUT=2, RCACHE_USER_JWT_KEY="k" * 32)
    RCache(app)
    app.add_url_rule("/", view_func=cache_response(MINE, None, by_user)(who), endpoint="page")
    assert [ask(app, **forged).headers["X-Cache"] for _ in range(2)] == ["BYPASS"] * 2
    app.extensions["rcache"].close()
    assert any_server.client().keys("cache:mine:*") == []
