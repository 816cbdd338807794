"""What type checkers see of the decorators. Checked by mypy and pyright, never run.

Every line that must be an error has two comments, one for each checker; both checkers complain about a comment that
is not needed, so that an error that goes away is noticed too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, assert_type

from flask import Flask, Request, Response, jsonify
from flask.typing import ResponseReturnValue
from flask.views import MethodView, View

from flask_rcache import (
    FROM_HEADERS,
    CacheManager,
    CacheStats,
    CacheType,
    Invalidated,
    RCache,
    by_user,
    cache_response,
    cached,
    clear_all,
    current_cache,
    get_cache_stats,
    invalidate_cache_type,
    invalidate_tags,
)

app = Flask(__name__)
RCache(app, types=[CacheType("weather", ttl=1800)])


# A view


@app.get("/item/<int:id>")
@cache_response(CacheType.PRODUCT, ttl=60, tags=["items"])
def item(id: int, lang: str = "en") -> ResponseReturnValue:
    return {"id": id, "lang": lang}


assert_type(item(1), Response)
assert_type(item(1, lang="fr"), Response)
assert_type(item.uncached(1), Any)
name: str = item.__name__
item("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
item()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
item(1, language="fr")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
item.uncached("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@cache_response("product")
def text() -> str:
    return "x"


@cache_response("product", FROM_HEADERS)
def pair() -> tuple[dict[str, int], int]:
    return {"a": 1}, 404


@cache_response("product")
def response() -> Response:
    return jsonify([1])


short = cache_response("product")(lambda: "x")

assert_type(text(), Response)
assert_type(short(), Response)
assert_type(pair(), Response)
assert_type(response(), Response)


@cache_response("product")
def number() -> int:  # what a decorator above makes a response of
    return 1


assert_type(number(), Any)


# An async view


@app.get("/async/<int:id>")
@cache_response(CacheType.PRODUCT)
async def async_item(id: int) -> ResponseReturnValue:
    return {"id": id}


async def use() -> None:
    coroutine: Coroutine[Any, Any, Response] = async_item(1)
    assert_type(await coroutine, Response)
    await async_item("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Class-based views


def tags(**arguments: object) -> list[str]:
    return [f"item-{arguments['id']}"]


class Item(MethodView):
    @cache_response(CacheType.PRODUCT, tags=tags)
    def get(self, id: int) -> ResponseReturnValue:
        return {"id": id}

    @cache_response(CacheType.PRODUCT)
    async def head(self, id: int) -> ResponseReturnValue:
        return ""


assert_type(Item().get(1), Response)
assert_type(Item().get(id=1), Response)
Item().get("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Item().get()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
app.add_url_rule("/items/<int:id>", view_func=Item.as_view("item"))


class Page(View):
    # pyright does not bind what overrides a method; `decorators` of the class have no such limit.
    @cache_response(CacheType.PRODUCT)
    def dispatch_request(self) -> ResponseReturnValue:  # pyright: ignore[reportIncompatibleMethodOverride]
        return "x"


assert_type(Page().dispatch_request(), Response)


class Decorated(View):
    decorators = [cache_response(CacheType.PRODUCT)]  # noqa: RUF012

    def dispatch_request(self) -> ResponseReturnValue:
        return "x"


# The decorator's own arguments


def caller(request: Request) -> str | None:
    return request.remote_user


def unless(request: Request) -> bool:
    return request.path == "/"


cache_response(CacheType.USER, None, caller, unless=unless, shared=False, vary=["Accept"])
cache_response(CacheType.USER, key_func=by_user)
cache_response(CacheType.USER, ttl="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cache_response(60)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cache_response(CacheType.USER, None, None, ["tag"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# Functions


@cached(CacheType.ANALYTICS, ttl=600, tags=["revenue"])
def revenue(start: str, end: str = "") -> dict[str, int]:
    return {start: 1, end: 2}


@cached()
async def async_revenue(start: str) -> list[int]:
    return [len(start)]


@cached(CacheType.QUERY, ttl=lambda token: token["expires_in"], keep=lambda token: token is not None)
def token(scope: str) -> dict[str, int] | None:
    return None


@cached(CacheType.QUERY, ttl=timedelta(minutes=5), key_func=lambda scope: scope)
def scoped(scope: str) -> str:
    return scope


class Report:
    @cached()
    def total(self, year: int) -> int:
        return year

    @classmethod
    @cached()
    def of_class(cls, year: int) -> str:
        return str(year)


assert_type(revenue("2013"), dict[str, int])
assert_type(revenue.uncached("2013", end="2014"), dict[str, int])
assert_type(revenue.refresh("2013"), dict[str, int])
assert_type(revenue.invalidate("2013"), bool)
assert_type(Report().total(2013), int)
assert_type(Report().total.refresh(2013), int)
assert_type(token("all"), dict[str, int] | None)
assert_type(scoped.uncached("all"), str)
cached(CacheType.QUERY, ttl="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
cached(CacheType.QUERY, keep=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
revenue(2013)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
revenue.invalidate()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
revenue.uncached(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def use_revenue() -> None:
    assert_type(await async_revenue("2013"), list[int])
    await async_revenue(2013)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# The manager


def load() -> set[int]:
    return {1}


async def load_later() -> set[int]:
    return {1}


async def use_manager() -> None:
    assert_type(current_cache, CacheManager)
    assert_type(current_cache.fetch("weather", ("paris", 1), load, ttl=60), set[int])
    assert_type(await current_cache.afetch("weather", 1, load_later), set[int])
    assert_type(current_cache.get_many("weather", ["a", "b"]), dict[str, Any])
    current_cache.fetch("weather", 1.5, load)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


assert_type(invalidate_cache_type(CacheType.PRODUCT), Invalidated)
assert_type(invalidate_tags("a", "b").journalled, bool)
removed: int = clear_all()
assert_type(get_cache_stats(), CacheStats)
assert_type(get_cache_stats()["is_available"], bool)
takes_functions: list[Callable[..., Response | Awaitable[Response]]] = [item, async_item]


# The extension, for the current app


rcache = RCache(types=[CacheType("wind", timedelta(hours=1))], values=[Report])

assert_type(rcache.fetch("wind", "oslo", lambda: 7), int)
assert_type(rcache.fetch("wind", ("oslo", 3), dict[str, int], ttl=60, keep=bool), dict[str, int])
assert_type(rcache.incr("wind", "visits", ttl=timedelta(days=1)), int)
assert_type(rcache.add("wind", "oslo", 1), bool)
assert_type(rcache.set_many("wind", {"oslo": 1}), bool)
assert_type(rcache.invalidate_type("wind"), Invalidated)
assert_type(rcache.invalidate_tags("a", "b").journalled, bool)
assert_type(rcache.stats(), CacheStats)
assert_type(rcache.is_available, bool)
rcache.invalidate_tags(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
rcache.fetch("wind", "oslo")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
rcache.set("wind", "oslo", 1, tll=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
rcache.clear_all("wind")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
with rcache.disabled():
    pass


async def use_extension() -> None:
    async def load() -> str:
        return "x"

    assert_type(await rcache.afetch("wind", "oslo", load), str)
