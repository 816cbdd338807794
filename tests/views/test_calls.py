"""Entries of views found again by their URL, by the view's arguments, and by the user; and what listings say."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import ANY

import jwt
import pytest
from flask import Blueprint
from flask.views import MethodView

from flask_rcache import CacheType, ConfigError, by_user, cache_response, current_cache, invalidate_url
from tests.views.kit import PAGE, Counted, manager, verdicts

MINE = CacheType("mine", ttl=60, per_user=True)


def _shop(app, **options) -> Counted:
    body = Counted()

    @app.get("/item/<int:n>")
    @app.get("/artikel/<int:n>", endpoint="artikel")
    @cache_response(PAGE, **options)
    def item(n):
        return body()

    app.view = item
    return body


def test_invalidate_url__reaches_hosts_queries_and_variants(new_app, store_url) -> None:
    """Every answer of one path goes, and no other's."""
    app = new_app(store_url)
    _shop(app, vary=["Accept-Language"])
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/item/7", {}),
        ("/item/7?page=2", {}),
        ("/item/7", {"headers": {"Accept-Language": "de"}}),
        ("/item/7", {"base_url": "https://b.test"}),
    ]
    others: list[tuple[str, dict[str, Any]]] = [("/item/8", {}), ("/item/70", {}), ("/artikel/7", {})]
    client = app.test_client()
    for path, options in asked + others:
        assert verdicts(client, path, **options) == ["MISS", "HIT"]
    with app.app_context():
        assert invalidate_url("https://elsewhere.test/item/7?page=9#top") == 1
    assert [client.get(path, **options).headers["X-Cache"] for path, options in asked] == ["MISS"] * 4
    assert [client.get(path, **options).headers["X-Cache"] for path, options in others] == ["HIT"] * 3


def test_invalidate_url__reaches_explicit_keys_users_and_encoded_paths(new_app) -> None:
    """An entry under a `key_func`'s key has the tag too; a path is taken as it stands in a URL."""
    app = new_app()
    body = Counted()

    @app.get("/é/<name>")
    @cache_response(MINE, key_func=lambda request: ("mine", request.headers.get("X-User", "")))
    def page(name):
        return body()

    client = app.test_client()
    for user in ("ann", "ben"):
        assert verdicts(client, "/é/a b", headers={"X-User": user}) == ["MISS", "HIT"]
    with app.app_context():
        invalidate_url("/%C3%A9/a%20b")
    assert [client.get("/é/a b", headers={"X-User": user}).headers["X-Cache"] for user in ("ann", "ben")] == [
        "MISS"
    ] * 2


@pytest.mark.parametrize("wrong", ["item/7", "", None, "ftp://x/item", "https://"])
def test_invalidate_url__refuses_what_is_no_url(new_app, wrong) -> None:
    """The message says what a URL and a path begin with."""
    with new_app().app_context(), pytest.raises(ConfigError, match="a path with /"):
        current_cache.invalidate_url(wrong)


def test_view_invalidate__removes_the_answers_of_a_call(new_app, store_url) -> None:
    """By the view's arguments, under each of its URLs; in a request, a command or a job."""
    app = new_app(store_url)
    _shop(app)
    client = app.test_client()
    for path in ("/item/7", "/item/7?q=1", "/artikel/7", "/item/8"):
        assert verdicts(client, path) == ["MISS", "HIT"]
    with app.app_context():
        app.view.invalidate(n=7)
    assert [client.get(each).headers["X-Cache"] for each in ("/item/7", "/item/7?q=1", "/artikel/7")] == ["MISS"] * 3
    assert client.get("/item/8").headers["X-Cache"] == "HIT"
    with app.test_request_context():
        app.view.invalidate(8)
    assert client.get("/item/8").headers["X-Cache"] == "MISS"


def test_view_invalidate__of_class_based_views_blueprints_and_parts(new_app) -> None:
    """A method's, that of a view of a blueprint under a prefix, and that of a part which other pages call."""
    app, body = new_app(), Counted()
    pages = Blueprint("pages", __name__)

    class Thing(MethodView):
        @cache_response(PAGE)
        def get(self, n):
            return body()

    pages.add_url_rule("/thing/<int:n>", view_func=Thing.as_view("thing"))
    app.register_blueprint(pages, url_prefix="/shop")

    @cache_response(PAGE)
    def part(n):
        return body()

    @app.get("/whole/<int:n>")
    def whole(n):
        return part(n).get_data()

    client = app.test_client()
    assert verdicts(client, "/shop/thing/1") == ["MISS", "HIT"]
    before = [client.get(f"/whole/{n}").text for n in (3, 4)]
    with app.app_context():
        Thing.get.invalidate(n=1)
        part.invalidate(n=3)
    assert client.get("/shop/thing/1").headers["X-Cache"] == "MISS"
    after = [client.get(f"/whole/{n}").text for n in (3, 4)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True]


def test_view_key__is_what_responses_show(new_app) -> None:
    """`.key()` names the entry of a call, under the URL registered first; without a host there is none."""
    app = new_app(RCACHE_SHOW_KEY=True)
    _shop(app)
    shown = app.test_client().get("/artikel/7").headers["X-Cache-Key"]
    with app.test_request_context():
        assert app.view.key(n=7) == shown
        assert current_cache.delete(PAGE, app.view.key(n=7))
        with pytest.raises(ConfigError, match="no URL leads to"):
            app.view.key()
    with app.app_context(), pytest.raises(ConfigError, match="SERVER_NAME"):
        app.view.key(n=7)


def test_invalidate_user__removes_what_was_made_for_one_user(new_app) -> None:
    """At logout, or when rights change: the entries of `by_user`, at every URL, and nobody else's."""
    app, body = new_app(RCACHE_USER_JWT_KEY="k" * 32), Counted()

    @app.get("/<name>")
    @cache_response(CacheType.USER, key_func=by_user)
    def page(name):
        return body()

    client = app.test_client()
    claims = {"exp": time.time() + 60}
    tokens = {each: jwt.encode({"sub": each, **claims}, "k" * 32, "HS256") for each in ("ann", "ben")}

    def get(name: str, path: str) -> Any:
        return client.get(path, headers={"Authorization": f"Bearer {tokens[name]}"}).headers["X-Cache"]

    assert [get(name, path) for name in tokens for path in ("/a", "/b", "/a")] == ["MISS", "MISS", "HIT"] * 2
    with app.app_context():
        current_cache.invalidate_user("ann")
    assert [get("ann", "/a"), get("ann", "/b"), get("ben", "/a"), get("ben", "/b")] == ["MISS", "MISS", "HIT", "HIT"]
    with app.app_context(), pytest.raises(ConfigError, match="takes the id of a user"):
        current_cache.invalidate_user(None)


def test_release__separates_the_pages_of_two_deployments(new_app, redis_server) -> None:
    """A page of the release before links to its assets: another release has its own. Values are shared."""

    def client(release):
        app = new_app(redis_server.url, RCACHE_PREFIX="rel", **({"RCACHE_RELEASE": release} if release else {}))

        @app.get("/")
        @cache_response(PAGE)
        def page():
            return body()

        return app.test_client()

    body = Counted()
    answers = [client(release).get("/") for release in (None, "a1", "b2", "a1", None)]
    assert [each.text for each in answers] == ["1", "2", "3", "2", "1"]


def test_entries__say_endpoint_and_path(new_app, store_url) -> None:
    """A listing shows where an entry was made."""
    app = new_app(store_url)
    _shop(app)
    app.test_client().get("/item/7?page=2", base_url="http://localhost/")
    (listed,) = manager(app).entries(PAGE)
    assert (listed.endpoint, listed.path) == ("item", "/item/7")
    assert manager(app).inspect(listed.key) == listed._replace(age=ANY, ttl=ANY)


def test_error_ttl__zero_stores_no_error(new_app) -> None:
    """With `error_ttl=0` a 404 is asked again, and a 200 is kept."""
    app, shelf = new_app(), set()

    @app.get("/<name>")
    @cache_response(PAGE.replace(error_ttl=0))
    def item(name):
        return (name, 200) if name in shelf else ("none", 404)

    client = app.test_client()
    assert verdicts(client, "/lamp") == ["MISS", "MISS"]
    shelf.add("lamp")
    assert verdicts(client, "/lamp") == ["MISS", "HIT"]
