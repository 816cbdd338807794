"""Whose an entry is: the view that stored it, told apart from every other view, whatever the key."""

from __future__ import annotations

import threading
from typing import Any

import flask_login  # type: ignore[import-untyped]
import pytest
from flask import Flask, request

from flask_rcache import CacheType, ConfigError, by_user, cache_response
from tests.processes import wait_until
from tests.views.kit import PAGE, Counted, in_threads, manager, verdicts

MINE = CacheType("mine", ttl=60, per_user=True)


def _two_views(new_app: Any, url: str = "memory://", **config: Any) -> Flask:
    app: Flask = new_app(url, **config)

    @app.get("/one")
    @cache_response(PAGE, None, lambda req: "front")
    def one():
        return "one"

    @app.get("/two")
    @cache_response(PAGE, None, lambda req: "front")
    def two():
        return "two"

    return app


def test_origin__two_views_under_one_key(new_app, store_url, caplog) -> None:
    """Neither is served the other's answer; one warning names both, however often they meet."""
    client = _two_views(new_app, store_url).test_client()
    for _ in range(2):
        assert [client.get(path).text for path in ("/one", "/two")] == ["one", "two"]
    assert verdicts(client, "/two") == ["HIT", "HIT"]
    warned = [record.getMessage() for record in caplog.records if "have one key" in record.getMessage()]
    assert len(warned) == 1
    assert all(name in warned[0] for name in ("_two_views.<locals>.one", "_two_views.<locals>.two", "'page'"))


def test_origin__of_a_load_that_is_waited_for(new_app) -> None:
    """Who waits for a load under the same key, and finds that it is another view's, runs its own view."""
    app, entered, go_on = new_app(), threading.Event(), threading.Event()

    @app.get("/slow")
    @cache_response(PAGE, None, lambda req: "front")
    def slow():
        entered.set()
        assert go_on.wait(20)
        return "slow"

    @app.get("/quick")
    @cache_response(PAGE, None, lambda req: "front")
    def quick():
        return "quick"

    def ask(number: int) -> Any:
        if number == 0:
            return app.test_client().get("/slow").text
        if number == 1:
            assert entered.wait(10)
            return app.test_client().get("/quick").text
        flights = manager(app).engine.driver.flights._flights
        wait_until(lambda: any(each.waiters for each in list(flights.values())), timeout=10, what="one that waits")
        go_on.set()
        return ""

    assert in_threads(3, ask) == ["slow", "quick", ""]


def test_origin__a_stale_answer_of_another_view_does_not_stand_in(new_app) -> None:
    """`stale_if_error` serves what this view said before, not what another said under its key."""
    app = new_app(PROPAGATE_EXCEPTIONS=False)
    brief = CacheType("brief", ttl=0.01, stale_if_error=60, stale_while_revalidate=60)

    @app.get("/fine")
    @cache_response(brief, None, lambda req: "front")
    def fine():
        return "fine"

    @app.get("/broken")
    @cache_response(brief, None, lambda req: "front")
    def broken():
        raise ValueError("broken")

    client = app.test_client()
    client.get("/fine")
    wait_until(lambda: next(iter(manager(app).entries())).ttl < 0, timeout=10, what="the entry's expiry")
    assert client.get("/broken").status_code == 500


def _part(word: str, **options: Any) -> Any:
    @cache_response(PAGE, **options)
    def part():
        return word

    return part


@pytest.mark.parametrize("options", [{}, {"key_func": lambda req: "front"}], ids=["default key", "explicit key"])
def test_origin__functions_of_one_factory(new_app, options) -> None:
    """What they have closed over tells them apart, at one URL and under one key."""
    app = new_app()
    parts = [_part(word, **options) for word in ("head", "foot")]
    app.add_url_rule("/", view_func=lambda: b"".join(part().data for part in parts))
    assert [app.test_client().get("/").text for _ in range(2)] == ["headfoot"] * 2


def test_origin__a_write_reaches_what_a_factory_made(new_app, store_url) -> None:
    """Another process may have closed over something else; the write invalidates its entry of the URL too."""

    def build(word: str) -> Any:
        app = new_app(store_url)
        app.add_url_rule("/", view_func=_part(word), endpoint="page")
        app.add_url_rule("/", view_func=lambda: ("", 204), endpoint="write", methods=["POST"])
        return app.test_client()

    if store_url == "memory://":
        client = build("here")
        assert verdicts(client, "/") == ["MISS", "HIT"]
        client.post("/")
        assert verdicts(client, "/", 1) == ["MISS"]
        return
    here, there = build("here"), build("there")
    assert verdicts(here, "/") == ["MISS", "HIT"]
    there.post("/")
    wait_until(lambda: verdicts(here, "/", 1) != ["HIT"], timeout=15, what="a miss")
    assert here.get("/").text == "here"


def test_origin__a_key_made_of_by_user(new_app) -> None:
    """`by_user(request) or "nobody"` names the caller and no view: each view still has answers of its own."""
    app = new_app()
    flask_login.LoginManager(app).user_loader(_User)
    app.add_url_rule("/in/<name>", view_func=lambda name: str(flask_login.login_user(_User(name))), endpoint="in")
    for path in ("/greeting", "/orders"):
        app.add_url_rule(path, path, _page_of(path))
    ann, nobody = app.test_client(), app.test_client()
    ann.get("/in/ann")
    for client, name in ((ann, "ann"), (nobody, "nobody"), (ann, "ann")):
        assert [client.get(path).text for path in ("/greeting", "/orders")] == [f"/greeting {name}", f"/orders {name}"]


class _User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


def _page_of(path: str) -> Any:
    @cache_response(MINE, None, lambda req: by_user(req) or "nobody")
    def page():
        return f"{path} {flask_login.current_user.get_id() or 'nobody'}"

    return page


@pytest.mark.parametrize(
    ("config", "mentions"), [({}, 1), ({"TESTING": False, "DEBUG": True}, 1), ({"TESTING": False}, 0)]
)
def test_key__of_two_urls_is_mentioned_once(new_app, caplog, config, mentions) -> None:
    """It may be meant, so it is only said, once, and to developers: the two URLs have one answer."""
    app, body = new_app(TRUSTED_HOSTS=["localhost"], **config), Counted()
    app.add_url_rule(
        "/<name>", view_func=cache_response(PAGE, None, lambda req: "all")(lambda name: body()), endpoint="x"
    )
    client = app.test_client()
    assert [client.get(path).text for path in ("/a", "/a", "/b", "/b", "/c")] == ["1"] * 5
    said = [record for record in caplog.records if "gives two URLs one key" in record.getMessage()]
    assert len(said) == mentions


class Shelf:
    """An object that can't stand in a key."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()

    def show(self) -> str:
        return self.name


def test_origin__a_method_of_an_object(new_app) -> None:
    """At a URL of its own it is cached; called by another view nothing would tell the objects apart: an error."""
    app = new_app()
    shows = [cache_response(PAGE)(Shelf(name).show) for name in ("left", "right")]
    for number, show in enumerate(shows):
        app.add_url_rule(f"/{number}", str(number), show)
    app.add_url_rule("/both", view_func=lambda: b"".join(show().data for show in shows), endpoint="both")
    client = app.test_client()
    for _ in range(2):
        assert [client.get(path).text for path in ("/0", "/1")] == ["left", "right"]
    assert verdicts(client, "/0", 1) == ["HIT"]
    with pytest.raises(ConfigError, match="__cache_key__"):
        client.get("/both")


@pytest.mark.parametrize("calls_itself", [False, True])
def test_origin__an_object_that_gets_its_state_later(new_app, caplog, calls_itself) -> None:
    """Class-based views of libraries keep what a request needs on one object: the URL tells such views apart."""
    app = new_app(TESTING=False)

    class Page:
        who: Any

        def show(self) -> str:
            return f"{request.path} for {self.who}"

    page = Page()
    show = cache_response(PAGE)(page.show)

    @app.before_request
    def before() -> None:
        page.who = object.__new__(type("Someone", (), {"__slots__": (), "__str__": lambda self: "all"}))

    if calls_itself:
        app.add_url_rule("/", "index", lambda: show())
    else:
        app.add_url_rule("/", "index", show)
    client = app.test_client()
    answers = [client.get("/") for _ in range(2)]
    assert [answer.text for answer in answers] == ["/ for all"] * 2
    assert answers[1].headers["X-Cache"] == ("BYPASS" if calls_itself else "HIT")


def test_origin__arguments_are_not_it(new_app) -> None:
    """One view under one key for several arguments is one view: that is what the key says."""
    app = new_app()
    app.add_url_rule(
        "/<name>",
        view_func=cache_response(PAGE, None, lambda req: req.args["k"])(lambda name: request.path),
        endpoint="x",
    )
    client = app.test_client()
    assert [client.get(path).text for path in ("/a?k=1", "/b?k=1", "/b?k=2")] == ["/a", "/a", "/b"]
