"""What the tests of the command line share: an application, and the running of a command in it."""

from __future__ import annotations

import json
from typing import Any

from click.testing import Result
from flask import Flask, Response, make_response, request
from flask.views import MethodView

from flask_rcache import FROM_HEADERS, CacheManager, CacheType, RCache, by_user, cache_response
from flask_rcache.cli import cache

SECRET = "hunter2-the-long-one"

PAGE = CacheType("page", ttl=600)
#: Expires at once, and may be served stale for long.
BRIEF = CacheType("brief", ttl=0.05, stale_while_revalidate=600)
MINE = CacheType("mine", ttl=60, per_user=True)
FEW = CacheType("few", ttl=60, query=("q",))


def make_app(url: str = "memory://", **config: Any) -> Flask:
    """An application with views of every sort, and the commands."""
    app = Flask("shop")
    app.config.update({"TESTING": True, "SECRET_KEY": "s" * 32, "RCACHE_L1_TTL": 0, "RCACHE_URL": url, **config})
    RCache(app, types=[PAGE, BRIEF, MINE, FEW])
    if "cache" not in app.cli.commands:
        app.cli.add_command(cache)
    _pages(app)
    _odd_pages(app)
    return app


def _pages(app: Flask) -> None:
    @app.get("/page/<name>")
    @cache_response("page", tags=lambda name: [f"page-{name}"])
    def page(name: str) -> str:
        return f"the body of {name}"

    @app.get("/brief")
    @cache_response(BRIEF)
    def brief() -> str:
        return "brief"

    @app.get("/mine")
    @cache_response(MINE, key_func=by_user)
    def mine() -> str:
        return "mine"

    @app.get("/few")
    @cache_response(FEW, ttl=10)
    def few() -> str:
        return "few"

    @app.get("/varies")
    @cache_response(PAGE, vary=["Accept"])
    def varies() -> Response:
        response = make_response("varies")
        response.vary.add("Accept-Language")
        return response

    @app.get("/selected")
    @cache_response(PAGE, vary=["Accept"])
    def selected() -> str:
        return "selected"

    @app.get("/own-ttl")
    @cache_response(PAGE, FROM_HEADERS)
    def own_ttl() -> Response:
        response = make_response("own")
        response.cache_control.max_age = 30
        return response

    @app.get("/slash/")
    @cache_response(PAGE)
    def slash() -> str:
        return "slash"

    class Thing(MethodView):
        @cache_response(PAGE)
        def get(self, number: int) -> str:
            return str(number)

        def post(self, number: int) -> str:
            return str(number)

    app.add_url_rule("/thing/<int:number>", view_func=Thing.as_view("thing"))


def _odd_pages(app: Flask) -> None:
    @app.get("/plain")
    def plain() -> str:
        return "plain"

    @app.get("/unless")
    @cache_response(PAGE, unless=lambda request: "draft" in request.args)
    def unless() -> str:
        return "unless"

    @app.get("/nobody")
    @cache_response(PAGE, key_func=lambda request: request.args.get("id"))
    def nobody() -> str:
        return "nobody"

    @app.get("/shared")
    @cache_response(PAGE, shared=True)
    def shared() -> str:
        return "shared"

    @app.get("/cookie")
    @cache_response(PAGE)
    def cookie() -> Response:
        response = make_response("cookie")
        response.set_cookie("token", SECRET)
        return response

    @app.get("/echo-key")
    @cache_response(MINE, key_func=lambda request: request.headers.get("X-Api-Key"))
    def echo_key() -> str:
        return "echo"

    @app.get("/broken-key")
    @cache_response(MINE, key_func=_broken)
    def broken_key() -> str:
        return "broken"

    @app.get("/raises")
    @cache_response(PAGE)
    def raises() -> str:
        raise RuntimeError(f"with {request.headers.get('Authorization')}")


def _broken(request: Any) -> str:
    raise LookupError(request.headers.get("Authorization"))


def manager(app: Flask) -> CacheManager:
    """The manager of an application."""
    found: CacheManager = app.extensions["rcache"]
    return found


def run(app: Flask, *arguments: str, code: int = 0) -> Result:
    """Run `flask cache …`, and see that it ends with `code`."""
    result = app.test_cli_runner().invoke(args=["cache", *arguments])
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    if result.exception is not None:
        assert isinstance(result.exception, SystemExit), result.exception
    return result


def told(app: Flask, *arguments: str, code: int = 0) -> Any:
    """The one JSON document that `flask cache … --json` prints."""
    return json.loads(run(app, *arguments, "--json", code=code).stdout)


def fill(app: Flask, count: int, *, type: str = "page", tags: tuple[str, ...] = ()) -> set[str]:
    """Store values under `0`, `1` and so on; their stored keys."""
    assert manager(app).set_many(type, {str(number): number for number in range(count)}, tags=tags)
    return {f"cache:{type}:{number}" for number in range(count)}
