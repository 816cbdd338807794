"""`@cached` and the short forms on the current app."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import flask_login  # type: ignore[import-untyped]
import pytest
from flask import Flask, after_this_request, g, request, session

import flask_rcache
from flask_rcache import (
    CacheType,
    ConfigError,
    InvalidKeyError,
    RCache,
    cached,
    clear_all,
    current_cache,
    get_cache_stats,
    invalidate_cache_type,
    invalidate_key,
    invalidate_pattern,
    invalidate_tags,
)
from flask_rcache.functions import misplaced


@pytest.fixture(autouse=True)
def flask_app() -> Iterator[Flask]:
    """An app with a cache in memory, its context pushed."""
    made = Flask("app")
    RCache(made)
    with made.app_context():
        yield made


class Calls:
    """Counts, so that a hit can be told from a load."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> int:
        self.number += 1
        return self.number


def test_cached__is_called_once_for_the_same_arguments() -> None:
    """The second call is a hit, however the arguments are given."""
    calls = Calls()

    @cached(CacheType.ANALYTICS, ttl=60)
    def revenue(start: int, end: int = 9, *, unit: str = "eur") -> tuple[int, int, str, int]:
        return start, end, unit, calls()

    first = revenue(1)
    same: list[Any] = [revenue(1, 9), revenue(start=1), revenue(end=9, start=1), revenue(1, unit="eur")]
    assert same == [first] * 4
    assert revenue(1, 8) != first
    assert revenue(1, unit="usd") != first
    assert revenue(2) != first
    assert calls.number == 4


def test_cached__arguments_of_different_types_are_different_keys() -> None:
    """1, "1", 1.0 and True are four calls; lists, dicts and sets are keys by their contents."""
    calls = Calls()

    @cached()
    def function(x: object) -> int:
        return calls()

    assert len({function(value) for value in (1, "1", 1.0, True, None, b"1", (1,), [1])}) == 8
    assert function({"a": 1, "b": [2]}) == function({"b": [2], "a": 1})
    assert function({1, 2}) == function({2, 1})
    with pytest.raises(InvalidKeyError, match="key_func"):
        function(object())


def test_cached__keeps_the_function_s_face() -> None:
    """Name, docstring, signature and __wrapped__ survive."""

    @cached()
    def function(x: int, *, y: str = "a") -> str:
        """Says something."""
        return y * x

    assert (function.__name__, function.__doc__) == ("function", "Says something.")  # type: ignore[attr-defined]
    assert list(inspect.signature(function).parameters) == ["x", "y"]
    assert inspect.unwrap(function)(2, y="b") == "bb"


def test_cached__two_functions_do_not_share_keys() -> None:
    """The module and the qualified name are in the key."""

    @cached()
    def one(x: int) -> str:
        return "one"

    @cached()
    def two(x: int) -> str:
        return "two"

    assert (one(1), two(1), one(1), two(1)) == ("one", "two", "one", "two")


def test_cached__invalidate_refresh_uncached_and_key() -> None:
    """The four means beside the call."""
    calls = Calls()

    @cached(CacheType.QUERY)
    def function(x: int, y: int = 2) -> int:
        return calls()

    assert function(1) == 1
    assert function.uncached(1) == 2
    assert function(1) == 1
    assert function.invalidate(x=1, y=2) is True
    assert function.invalidate(1) is False
    assert function(1) == 3
    assert function.refresh(1) == 4
    assert function(1) == 4
    assert function.key(1) == function.key(y=2, x=1) != function.key(2)
    key = function.key(1)
    assert key is not None
    assert current_cache.get(CacheType.QUERY, key) == 4


def test_cached__async() -> None:
    """A coroutine function stays one to its callers, and awaits but once."""
    calls = Calls()

    @cached()
    async def function(x: int) -> int:
        await asyncio.sleep(0)
        return calls()

    async def main() -> list[int]:
        first = [await function(1), await function(1), await function(2)]
        return [*first, await function.uncached(1), await function.refresh(1), await function(1)]

    assert asyncio.run(main()) == [1, 1, 2, 3, 4, 4]
    assert asyncio.run(gathered(function)) == [5] * 20


async def gathered(function: Any) -> list[int]:
    return list(await asyncio.gather(*(function(77) for _ in range(20))))


class Shop:
    """Tells its objects apart by name; one method has a key of its own."""

    def __init__(self, name: str, calls: Calls) -> None:
        self.name = name
        self.calls = calls

    def __cache_key__(self) -> str:
        return self.name

    @cached()
    def stock(self, item: int) -> str:
        return f"{self.name} {item} {self.calls()}"

    @cached(key_func=lambda self, item: f"{self.name}-{item}")
    def own_stock(self, item: int) -> str:
        return f"{self.name} {item}"

    def label(self) -> str:
        return self.name


def test_cached__methods() -> None:
    """What the object says of itself is in the key; the means work on the bound method and the class's function."""
    calls = Calls()
    one, two = Shop("one", calls), Shop("two", calls)
    assert one.stock(5) == Shop("one", calls).stock(item=5) == "one 5 1"
    assert two.stock(5) == "two 5 2"
    assert (one.own_stock(5), two.own_stock(5)) == ("one 5", "two 5")
    assert one.stock.uncached(5) == "one 5 3"
    assert one.stock.key(5) == Shop.stock.key(one, 5)
    assert one.stock.refresh(5) == "one 5 4"
    assert two.stock.invalidate(5) is True
    assert two.stock(5) == "two 5 5"
    assert one.stock(5) == "one 5 4"
    assert Shop.stock.invalidate(one, 5) is True


class Service:
    """Holds nothing, so that its objects are all alike."""

    @cached()
    def name(self) -> str:
        return type(self).__name__

    @classmethod
    @cached()
    def kind(cls) -> str:
        return cls.__name__


class Special(Service):
    """Inherits what is cached."""


class Number(int):
    """A value with a method."""

    @cached()
    def doubled(self) -> int:
        return 2 * self


class Pair(tuple[int, int]):
    """A plain value with a method; it is its own key."""

    __slots__ = ()

    @cached()
    def total(self) -> int:
        return sum(self)


class Basket(list[str]):
    """Holds something that is not in its attributes."""

    @cached()
    def size(self) -> int:
        return len(self)


class Slotted:
    """Holds something in a slot."""

    __slots__ = ("__hidden",)

    def __init__(self, hidden: str) -> None:
        self.__hidden = hidden

    @cached()
    def shown(self) -> str:
        return self.__hidden


def test_cached__methods_of_objects_that_hold_nothing() -> None:
    """They share what is cached, and those of another class have their own."""
    assert (Service().name(), Special().name(), Service().name()) == ("Service", "Special", "Service")
    assert Service().name.key() == Service().name.key() != Special().name.key()
    kinds = [kind() for kind in (Service.kind, Special.kind, Service.kind)]  # type: ignore[call-arg]
    assert kinds == ["Service", "Special", "Service"]
    assert (Pair((1, 2)).total(), Pair((3, 4)).total()) == (3, 7)
    assert (Basket("a").size(), Basket("ab").size()) == (1, 2)


@pytest.mark.parametrize("call", [lambda: Slotted("a").shown(), lambda: Number(2).doubled()])
def test_cached__methods_of_objects_that_cannot_be_told_apart(call: Any) -> None:
    """A state that is no key is refused, with what to do: one object must not get what another was given."""
    with pytest.raises(InvalidKeyError, match="__cache_key__"):
        call()


def test_cached__a_bound_method_of_each_of_two_objects() -> None:
    """Decorated where the object is at hand, it is in the key all the same."""
    calls = Calls()
    one, two = (cached()(Shop(name, calls).label) for name in ("one", "two"))
    assert (one(), two()) == ("one", "two")


def test_cached__a_first_argument_called_self_or_cls() -> None:
    """It is an argument like others, but in a class."""

    @cached()
    def rows(cls: str, number: int) -> tuple[str, int]:
        return cls, number

    @cached()
    def named(self: str) -> str:
        return self

    assert [rows("a", 1), rows("b", 1)] == [("a", 1), ("b", 1)]
    assert [named("a"), named("b")] == ["a", "b"]


def test_cached__a_function_that_becomes_a_method() -> None:
    """The object is known by how it is called, whatever the argument's name."""

    @cached()
    def price(shop: Shop, item: int) -> str:
        return f"{shop.name} {item}"

    made: Any = type("Made", (Shop,), {"price": price})
    one, two = made("one", Calls()), made("two", Calls())
    assert (one.price(1), two.price(1), one.price.invalidate(1)) == ("one 1", "two 1", True)


def test_cached__closures() -> None:
    """What a function has closed over is part of the key, as it is when it is called; its own state is not."""
    calls = Calls()

    def times(number: int) -> Any:
        made = 0

        @cached()
        def product(x: int) -> tuple[int, int]:
            nonlocal made
            made += 1
            return number * x, calls()

        def change(to: int) -> None:
            nonlocal number
            number = to

        return product, change

    (double, change), (quintuple, _) = times(2), times(5)
    assert (double(3), quintuple(3), double(3)) == ((6, 1), (15, 2), (6, 1))
    change(7)
    assert double(3) == (21, 3)
    change(2)
    assert double(3) == (6, 1)


def test_cached__a_wrapper_below_has_closed_over_something() -> None:
    """The same holds for what stands between the decorator and the function."""

    def times(number: int) -> Any:
        def scaled(function: Any) -> Any:
            @functools.wraps(function)
            def wrapper(x: int) -> Any:
                return number * function(x)

            return wrapper

        @cached()
        @scaled
        def product(x: int) -> int:
            return x

        return product

    assert (times(2)(3), times(5)(3)) == (6, 15)


def test_cached__lambdas() -> None:
    """Those of one function have one name, and their code tells them apart; the same one stays the same."""

    def make() -> list[Any]:
        return [cached()(lambda x: x + 1), cached()(lambda x: x + 2), cached()(lambda x: x in {"a", "b"})]

    one, two, three = make()
    assert (one(1), two(1), three("a")) == (2, 3, True)
    assert [each.key(1) for each in make()] == [each.key(1) for each in (one, two, three)]


def test_cached__partials() -> None:
    """What a partial adds to each call is part of the key, as it is when it is called."""
    names = ["a"]

    def joined(*parts: Any, end: str = "") -> str:
        return "".join(map(str, parts)) + end

    made = [functools.partial(joined, *given, end="!") for given in ((1,), (2,), (1, 2))]
    functions: list[Any] = [cached()(each) for each in made]
    assert [function(3) for function in functions] == ["13!", "23!", "123!"]
    assert cached()(functools.partial(joined, 1, end="!")).key(3) == functions[0].key(3)
    grows = cached()(functools.partial(joined, names))
    assert grows() == "['a']"
    names.append("b")
    assert grows() == "['a', 'b']"


def test_cached__one_function_under_several_wrappers() -> None:
    """A closed-over number, a default, an object that wraps: each is a function of its own."""

    class Times:
        def __init__(self, number: int, function: Any) -> None:
            functools.update_wrapper(self, function)
            self.number = number

        def __call__(self, x: int, extra: int = 0) -> int:
            return self.number * x + extra

    def with_default(number: int, function: Any) -> Any:
        @functools.wraps(function)
        def inner(x: int, number: int = number) -> Any:
            return number * function(x)

        return inner

    def base(x: int) -> int:
        return x

    wrapped: list[Any] = [cached()(wrap(number, base)) for wrap in (Times, with_default) for number in (2, 3)]
    assert [function(5) for function in wrapped] == [10, 15, 10, 15]
    assert [wrapped[1](5, 1), wrapped[3](5, 1), wrapped[3](5, number=1)] == [16, 5, 5]


def test_cached__a_wrapper_that_adds_arguments() -> None:
    """Calls bind to what they go to, whatever the wrapped function takes."""

    def with_database(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function("database", *args, **kwargs)

        return inner

    @cached()
    @with_database
    def rows(database: str, number: int, limit: int) -> tuple[str, int, int]:
        return database, number, limit

    assert rows(1, limit=2) == ("database", 1, 2)
    assert rows(1, limit=3) == ("database", 1, 3)


def test_cached__key_func_and_unless() -> None:
    """A key of one's own, None for "not this call", and unless."""
    calls = Calls()

    @cached(key_func=lambda x: None if x < 0 else x % 10, unless=lambda x: x == 7)
    def function(x: int) -> int:
        return calls()

    assert function(3) == function(13) == 1
    assert function(-1) == 2
    assert function(-1) == 3
    assert function(7) == 4
    assert function(7) == 5
    assert function.invalidate(-1) is False
    assert current_cache.get("default", 3) == 1


def test_cached__a_key_func_that_gives_what_a_visitor_sent() -> None:
    """It cannot name the entry of another call by its hash."""
    current_cache.set(CacheType.SEARCH, ("of", "alice"), "secret")
    spelled = next(current_cache.entries()).key

    @cached(CacheType.SEARCH, key_func=lambda term: term)
    def search(term: str) -> str:
        return "found nothing"

    assert search(spelled) == search(spelled) == "found nothing"
    assert search.invalidate(spelled) is True


def test_cached__tags_fixed_and_computed() -> None:
    """Tags are labels, or a function of the arguments."""
    calls = Calls()

    @cached(tags=["revenue"])
    def fixed() -> int:
        return calls()

    @cached(tags=lambda region: [f"region-{region}"])
    def computed(region: str) -> int:
        return calls()

    before = fixed(), computed("eu"), computed("us")
    assert invalidate_tags("revenue", "region-us") == 2
    after = fixed(), computed("eu"), computed("us")
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, False]


@pytest.mark.parametrize(
    "make",
    [
        lambda: cached(ttl=0),
        lambda: cached(ttl=-1),
        lambda: cached(ttl=True),
        lambda: cached(ttl="60"),  # type: ignore[arg-type]
        lambda: cached(ttl=float("nan")),
        lambda: cached(tags="revenue")(len),
        lambda: cached(tags=[""])(len),
        lambda: cached(len),  # type: ignore[arg-type]
        lambda: cached(None),  # type: ignore[arg-type]
        lambda: cached(keep=True),  # type: ignore[arg-type]
        lambda: cached(unless="never"),  # type: ignore[arg-type]
        lambda: cached(key_func="key"),  # type: ignore[arg-type]
    ],
)
def test_cached__wrong_options(make: Any) -> None:
    """What cannot be is refused where it is written."""
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("means", [{"unless": lambda: True}, {"key_func": lambda: None}])
@pytest.mark.parametrize("invalidate", [lambda: invalidate_tags("revenue"), lambda: invalidate_cache_type("analytics")])
def test_cached__passed_by_inside_a_load(means: Any, invalidate: Any) -> None:
    """What was made of its value depends on its type and tags all the same."""
    calls = Calls()

    @cached(CacheType.ANALYTICS, tags=lambda: ["revenue"], **means)
    def revenue() -> int:
        return calls()

    def board() -> int:
        return current_cache.fetch(CacheType.DASHBOARD, "board", revenue)

    assert (board(), board()) == (1, 1)
    invalidate()
    assert board() == 2


def test_cached__exceptions_are_not_kept() -> None:
    """A call that raises is made again."""
    calls = Calls()

    @cached()
    def function() -> int:
        if calls() == 1:
            raise LookupError("not yet")
        return 7

    with pytest.raises(LookupError, match="not yet"):
        function()
    assert function() == 7


def generator() -> Any:
    yield 1


async def async_generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("decorated", "says"),
    [
        (classmethod(repr), "below @classmethod: write @classmethod above it"),
        (staticmethod(len), "below @staticmethod"),
        (property(len), "below @property"),
        (functools.cached_property(len), "below @cached_property"),
        (Calls, "not the class Calls: decorate a function that returns a Calls"),
        (generator, "generator yields its values, .* return a list"),
        (async_generator, "async_generator yields its values"),
        (functools.partial(generator), "return a list"),
        ("name", "takes a function, not a str"),
        (None, "takes a function, not a NoneType"),
        (Calls(), "Calls has none; wrap it in a def"),
        (max, "wrap it in a def"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_cached__where_it_does_not_belong(decorated: Any, says: str) -> None:
    """What is no plain function is refused at its decoration, with where the decorator belongs."""
    with pytest.raises(ConfigError, match=says):
        cached(CacheType.QUERY)(decorated)


def test_cached__above_a_route(flask_app: Flask) -> None:
    """The plain function is the view then: that can be found when the views are known."""

    @cached()
    @flask_app.get("/above")
    def above() -> str:
        return ""

    @flask_app.get("/below")
    @cached()
    def below() -> str:
        return ""

    assert misplaced(flask_app.view_functions.values()) == [f"{__name__}:test_cached__above_a_route.<locals>.above"]
    assert flask_app.test_client().get("/below").status_code == 200


def test_cached__what_other_decorators_left_on_the_function() -> None:
    """It stays to be found, unless the cached function has something of that name."""

    def plain() -> int:
        return 1

    vars(plain).update(csrf_exempt=True, key="theirs", name="theirs")
    function: Any = cached()(plain)
    assert function.csrf_exempt is True
    assert function.key() == (function.name, {})


@pytest.mark.parametrize(
    "ttl", [20, timedelta(seconds=20), lambda token: token["expires_in"], lambda _: timedelta(0, 20)]
)
def test_cached__ttl(ttl: Any) -> None:
    """Seconds, a duration, or a function of the result."""

    @cached(CacheType.QUERY, ttl=ttl)
    def token() -> dict[str, int]:
        return {"expires_in": 20}

    token()
    (entry,) = current_cache.entries(CacheType.QUERY)
    assert entry.ttl == pytest.approx(20, abs=1)


def test_cached__keep_judges_the_result() -> None:
    """What it does not keep is loaded again; None is a value like others."""
    calls: list[str] = []
    stock: dict[str, int] = {}

    def price(name: str) -> int | None:
        calls.append(name)
        return stock.get(name)

    kept, only_found = cached()(price), cached(keep=lambda result: result is not None)(price)
    assert (kept("lamp"), kept("lamp"), calls) == (None, None, ["lamp"])
    calls.clear()
    assert (only_found("desk"), only_found("desk"), calls) == (None, None, ["desk", "desk"])
    stock["desk"] = 5
    assert (only_found("desk"), only_found("desk"), calls) == (5, 5, ["desk"] * 3)


def test_cached__refresh_loads_first() -> None:
    """A function that fails leaves the value that is there, one that succeeds replaces it."""
    answers: list[Any] = [1, LookupError("away"), 3]

    @cached()
    def function() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert function() == 1
    with pytest.raises(LookupError):
        function.refresh()
    assert function() == 1
    assert function.refresh() == 3
    assert function() == 3


def test_cached__refresh_of_a_coroutine_function() -> None:
    """The same for one that is awaited."""
    answers: list[Any] = [1, LookupError("away"), 3]

    @cached()
    async def function() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def main() -> list[Any]:
        found = [await function()]
        with pytest.raises(LookupError):
            await function.refresh()
        return [*found, await function(), await function.refresh(), await function()]

    assert asyncio.run(main()) == [1, 1, 3, 3]


def test_cached__an_awaitable_of_a_plain_function() -> None:
    """Nobody could keep it: an error that names the function."""

    async def answer() -> int:
        return 1

    @cached()
    def forgets_async() -> Any:
        return answer()

    with pytest.raises((TypeError, ConfigError), match="forgets_async"):
        forgets_async()


def test_functions__act_on_the_current_app() -> None:
    """Each short form does what the manager's method does."""
    current_cache.set("search", "a", 1, tags=["eu"])
    current_cache.set("search", "b", 2)
    assert invalidate_key("search", "a") is True
    assert invalidate_pattern("b", type="search") == 1
    assert invalidate_pattern("search:*") == 0
    current_cache.fresh()
    current_cache.set("search", "c", 3)
    current_cache.set("product", "p", 3)
    assert invalidate_cache_type(CacheType.SEARCH) == 1
    assert clear_all() == 1
    assert get_cache_stats()["is_available"] is True


def test_functions__need_an_app_with_a_cache(flask_app: Flask) -> None:
    """An app without one is told how to get one."""
    with Flask("bare").app_context(), pytest.raises(ConfigError, match="RCache"):
        clear_all()


def test_cached__apps_do_not_mix(flask_app: Flask) -> None:
    """One function under two apps: two caches."""
    calls = Calls()

    @cached()
    def function() -> int:
        return calls()

    assert function() == 1
    other = Flask("other")
    RCache(other)
    with other.app_context():
        assert function() == 2
        function.invalidate()
    assert function() == 1


# What a function reads of the request


class User(flask_login.UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


@pytest.fixture
def visitors(flask_app: Flask) -> Any:
    """Calls a function within requests: ``visit(function, user=None, **options)``."""
    flask_app.config["SECRET_KEY"] = "k" * 40
    flask_login.LoginManager(flask_app).user_loader(User)

    def visit(function: Any, user: str | None = None, path: str = "/?a=1&a=2", **options: Any) -> Any:
        with flask_app.test_request_context(path, **options):
            session["cart"] = user
            if user is not None:
                flask_login.login_user(User(user))
            return function()

    return visit


@cached()
def reads_user() -> str:
    return f"{flask_login.current_user.get_id()}"


@cached()
def reads_session() -> str:
    return str(session.get("cart"))


@cached()
def reads_header() -> str:
    return request.headers.get("X-Name", "none")


@cached()
def reads_cookie() -> str:
    return request.cookies.get("name", "none")


@cached()
def reads_argument() -> str:
    return request.args.get("name", "none")


@cached()
def reads_in_a_function_that_is_cached() -> str:
    return reads_header()


@cached()
async def reads_in_a_coroutine() -> str:
    await asyncio.sleep(0)
    return request.headers.get("X-Name", "none")


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (reads_user, "current_user"),
        (reads_session, "session"),
        (reads_header, 'request.headers["X-Name"]'),
        (reads_cookie, 'request.cookies["name"]'),
        (reads_argument, 'request.args["name"]'),
        (reads_in_a_function_that_is_cached, 'request.headers["X-Name"]'),
        (reads_in_a_coroutine, 'request.headers["X-Name"]'),
    ],
    ids=lambda value: getattr(value, "__name__", "read"),
)
def test_cached__what_the_request_says_is_not_stored(
    visitors: Any, function: Any, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each visitor has an answer of his own, and one warning names the function and what it read."""
    called = (lambda: asyncio.run(function())) if inspect.iscoroutinefunction(function.plain) else function
    found = []
    for name in ("ann", "bob", "ann"):
        options = {"headers": {"X-Name": name, "Cookie": f"name={name}"}, "path": f"/?name={name}"}
        found.append(visitors(called, name, **options))
    assert found == ["ann", "bob", "ann"]
    lines = [record.getMessage() for record in caplog.records if function.__name__ in record.getMessage()]
    assert len(lines) == 1
    assert f"{__name__}:{function.__name__} is not cached: it reads " in lines[0]
    assert named in lines[0]


def behind(proxy: Any) -> Any:
    """What a proxy stands for."""
    return proxy._get_current_object()


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (lambda: vars(behind(g))["tenant"], "g.tenant"),
        (lambda: g.__dict__["tenant"], "g.tenant"),
        (lambda: vars(behind(request))["tenant"], "request.tenant"),
        (lambda: copy.copy(behind(request)).tenant, "request.tenant"),
    ],
)
def test_cached__attributes_read_as_a_whole(
    visitors: Any, read: Any, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What lies on the request and on `g` is not stored either where it is read from their dict."""
    reads = cached()(lambda: read())

    def visit(name: str) -> str:
        def call() -> str:
            g.tenant = request.tenant = name  # type: ignore[attr-defined]
            return str(reads())

        return str(visitors(call))

    assert [visit(name) for name in ("ann", "bob", "ann")] == ["ann", "bob", "ann"]
    assert any(named in each.message for each in caplog.records)


def test_cached__reading_the_request_costs_no_lookup(visitors: Any) -> None:
    """That a result can't be stored is remembered for the key, so that later calls bypass the cache."""
    calls = Calls()

    @cached(CacheType.SEARCH)
    def mixed(number: int) -> int:
        return calls() + (request.args.get("a", 0, int) if number else 0)

    for number in (0, 1) * 3:
        visitors(lambda number=number: mixed(number))
    counted = get_cache_stats()["by_type"]["search"]
    assert (counted["misses"], counted["hits"], counted["bypasses"]) == (2, 2, 2)


def test_cached__visitors_at_once_each_have_their_own(flask_app: Flask, visitors: Any) -> None:
    """One who waits for another's load is not given its result."""
    inside, go_on = threading.Event(), threading.Event()

    @cached()
    def slow() -> str:
        inside.set()
        go_on.wait(5)
        return request.headers["X-Name"]

    found: dict[str, str] = {}

    def visit(name: str) -> None:
        with flask_app.test_request_context(headers={"X-Name": name}):
            found[name] = slow()

    threads = [threading.Thread(target=visit, args=(name,)) for name in ("ann", "bob", "cy")]
    threads[0].start()
    assert inside.wait(5)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == {name: name for name in ("ann", "bob", "cy")}


def test_cached__arguments_of_the_request_as_an_argument(visitors: Any, caplog: pytest.LogCaptureFixture) -> None:
    """All their values are in the key, and so is what the function reads of them."""
    calls = Calls()

    @cached()
    def chosen(args: Any) -> tuple[list[str], int]:
        return args.getlist("a"), calls()

    paths = ["/?a=1&a=2", "/?a=1&a=3", "/?a=1&a=2", "/?a=1"]
    found = [visitors(lambda: chosen(request.args), path=path) for path in paths]
    assert found == [(["1", "2"], 1), (["1", "3"], 2), (["1", "2"], 1), (["1"], 3)]
    assert not caplog.records


def test_cached__what_the_key_func_reads_is_in_the_key(visitors: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A key of one's own that names the visitor; what the function reads beside that still counts."""
    calls = Calls()

    @cached(key_func=lambda: f"basket/{flask_login.current_user.get_id()}")
    def basket() -> tuple[str, int]:
        return flask_login.current_user.get_id(), calls()

    @cached(key_func=lambda: f"page/{flask_login.current_user.get_id()}")
    def page() -> tuple[str, str]:
        return flask_login.current_user.get_id(), request.args["page"]

    assert [visitors(basket, name) for name in ("ann", "bob", "ann")] == [("ann", 1), ("bob", 2), ("ann", 1)]
    assert not caplog.records
    found = [visitors(page, "ann", path=f"/?page={number}") for number in (1, 2)]
    assert found == [("ann", "1"), ("ann", "2")]
    assert 'it reads request.args["page"], which' in caplog.text


def test_cached__what_is_passed_on_is_stored(visitors: Any, caplog: pytest.LogCaptureFixture) -> None:
    """As the warning says: with the value as an argument, each has its own entry."""
    calls = Calls()

    @cached()
    def greeting(name: str) -> tuple[str, int]:
        return f"hello {name}", calls()

    def view() -> Any:
        return greeting(flask_login.current_user.get_id())

    assert [visitors(view, name)[1] for name in ("ann", "bob", "ann", "bob")] == [1, 2, 1, 2]
    assert not caplog.records


class Account:
    """What an app looks up for a request."""

    def __init__(self, name: str) -> None:
        self.name = name


class Store:
    """What an app works with: it has a connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection


LOOKUPS: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "text": (lambda: setattr(g, "tenant", request.headers["X-Tenant"]), lambda: g.tenant),
    "object": (lambda: setattr(g, "account", Account(request.headers["X-Tenant"])), lambda: g.account.name),
    "nested": (
        lambda: setattr(g, "context", {"account": Account(request.headers["X-Tenant"])}),
        lambda: g.context["account"].name,
    ),
    "absent at first": (
        lambda: None if request.headers["X-Tenant"] == "a" else setattr(g, "tenant", "b"),
        lambda: g.get("tenant"),
    ),
    "by asking": (
        lambda: setattr(g, "admin", 1) if request.headers["X-Tenant"] == "b" else None,
        lambda: "admin" in g,
    ),
    "all": (lambda: setattr(g, "tenant", request.headers["X-Tenant"]), lambda: {name: g.get(name) for name in g}),
    "of a path": (lambda: setattr(g, "place", request.headers["X-Tenant"]), lambda: f"{g.place}/x"),
}


@pytest.mark.parametrize(("prepare", "read"), LOOKUPS.values(), ids=LOOKUPS)
def test_cached__what_was_put_on_g_before(prepare: Any, read: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What ``before_request`` has found out, under any name, is this request's: who reads it has no shared result."""
    app = Flask("tenants")
    RCache(app)
    app.before_request(lambda: prepare())

    @cached()
    def of_tenant() -> Any:
        return read()

    app.get("/")(lambda: repr(of_tenant()))
    client = app.test_client()
    found = [client.get("/", headers={"X-Tenant": name}).text for name in ("a", "b", "a", "b")]
    assert found[0] != found[1]
    assert found[2:] == found[:2]
    warned = [record for record in caplog.records if "of_tenant is not cached: it reads g" in record.getMessage()]
    assert len(warned) == 1


def test_cached__what_was_put_on_g_outside_of_requests(flask_app: Flask) -> None:
    """A task of a queue that works for a tenant puts it on ``g``, too."""

    @cached()
    def of_tenant() -> str:
        return str(g.tenant)

    found = []
    for tenant in ("a", "b"):
        with flask_app.app_context():
            g.tenant = tenant
            found.append(of_tenant())
    assert found == ["a", "b"]


def test_cached__what_is_worked_with_on_g() -> None:
    """A connection, what has one, a count, a list of queries and an id for the log are nobody's: results are stored."""
    app = Flask("working")
    RCache(app)
    calls = Calls()

    @app.before_request
    def prepare() -> None:
        g.connection = sqlite3.connect(":memory:")
        g.store, g.count, g.queries, g.request_id = Store(g.connection), 0, [], request.headers["X-Id"]

    @app.teardown_request
    def close(_: object) -> None:
        g.connection.close()

    class WithId(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            record.request_id = g.get("request_id")
            return True

    logger = logging.getLogger("working")
    logger.addFilter(WithId())

    @cached()
    def rows() -> int:
        g.count += 1
        g.queries.append("SELECT 1")
        if "own" not in g:
            g.own = 7
        logger.warning("asked")
        g.store.connection.execute("SELECT 1")
        g.connection.execute("SELECT 1")
        return calls()

    app.get("/")(lambda: str(rows()))
    client = app.test_client()
    assert [client.get("/", headers={"X-Id": name}).text for name in ("a", "b")] == ["1", "1"]


def test_cached__a_name_on_g(flask_app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """``RCACHE_IDENTITY_G`` adds names of what is worked with, and is another for each tenant."""
    other = Flask("other")
    other.config["RCACHE_IDENTITY_G"] = ["connection"]
    RCache(other)

    @cached()
    def of_tenant() -> str:
        return str(g.connection())

    found = []
    for tenant in ("a", "b"):
        with other.test_request_context():
            g.connection = tenant.upper
            found.append(of_tenant())
    assert found == ["A", "B"]
    assert "of_tenant is not cached: it reads g.connection, which" in caplog.text


def test_package__all_is_complete() -> None:
    """Everything exported exists, sorted, and is what the contract names."""
    assert flask_rcache.__all__ == sorted(flask_rcache.__all__, key=lambda name: (not name.isupper(), name))
    for name in flask_rcache.__all__:
        assert getattr(flask_rcache, name) is not None


# fetch


LOADERS: dict[str, Callable[[], object]] = {
    "current_user": lambda: flask_login.current_user.get_id(),
    "session": lambda: session["_user_id"],
    "authorization": lambda: request.authorization and request.authorization.token,
    "key": lambda: request.headers.get("X-Api-Key"),
}


@pytest.mark.parametrize("how", ["fetch", "fetch_many", "block", "afetch"])
@pytest.mark.parametrize("read", LOADERS.values(), ids=LOADERS)
def test_fetch__a_loader_that_reads_who_is_asking(
    visitors: Any, read: Callable[[], object], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that is anybody's has nobody's value: it is returned, not stored, and one warning says what to do."""
    calls = Calls()

    async def load() -> Any:
        return read(), calls()

    def view() -> Any:
        if how == "fetch":
            return current_cache.fetch("default", "me", lambda: (read(), calls()))
        if how == "fetch_many":
            return current_cache.fetch_many("default", ["me"], lambda keys: {"me": (read(), calls())})["me"]
        if how == "afetch":
            return asyncio.run(current_cache.afetch("default", "me", load))
        with current_cache.block("default", "me") as block:
            if block.is_missing:
                block.value = read(), calls()
        return block.value

    found = [
        visitors(view, name, headers={"Authorization": f"Bearer {name}", "X-Api-Key": name})
        for name in ("ann", "bob", "ann")
    ]
    assert found == [("ann", 1), ("bob", 2), ("ann", 3)]
    warned = [each.getMessage() for each in caplog.records if "the loader reads" in each.getMessage()]
    assert len(warned) == 1
    assert "per_user=True" in warned[0]


def test_fetch__a_key_that_names_the_user(visitors: Any, caplog: pytest.LogCaptureFixture) -> None:
    """On a type with ``per_user`` the key says who it is; what was read before the call is not the loader's."""
    calls = Calls()

    def view() -> Any:
        name = flask_login.current_user.get_id()
        mine = current_cache.fetch("user", name, lambda: (flask_login.current_user.get_id(), calls()))
        return mine, current_cache.fetch("default", name, lambda: (name, calls()))

    found = [visitors(view, name) for name in ("ann", "bob", "ann", "bob")]
    assert found[:2] == found[2:]
    assert found[0] == (("ann", 1), ("ann", 2))
    assert not caplog.records


def test_cached__keywords_of_any_name() -> None:
    """A function that takes any keyword may be given one called as a parameter of ours is."""

    class Page:
        @cached(CacheType.QUERY, key_func=lambda page, **attributes: str(attributes))
        def tag(page, **attributes: Any) -> str:  # noqa: N805
            return str(attributes)

    @cached(CacheType.QUERY)
    def tag(**attributes: Any) -> str:
        return str(attributes)

    names: dict[str, Any] = {"self": 1, "function": 2, "args": 3, "kwargs": 4, "key": 5, "cache_type": 6}
    for called in (tag, Page().tag):
        assert [called(**names) for _ in range(2)] == [str(names)] * 2
        assert called.key(**names) is not None
        assert called.invalidate(**names) is True
        assert called.refresh(**names) == called.uncached(**names) == str(names)


@pytest.mark.parametrize("what", ["session", "after_this_request"])
def test_cached__what_a_function_does_to_its_request(flask_app: Flask, caplog: Any, what: str) -> None:
    """A hit would not do it again: the value is not stored, and one warning says why."""
    app = flask_app
    app.config["SECRET_KEY"] = "k" * 40

    @cached(CacheType.QUERY)
    def greeting() -> str:
        if what == "session":
            session["greeted"] = "yes"
        else:
            after_this_request(_greeted)
        return "hello"

    def _greeted(response: Any) -> Any:
        response.headers["X-Greeted"] = "yes"
        return response

    app.add_url_rule("/", "greeting", lambda: greeting())
    for _ in range(3):
        client = app.test_client()
        answer = client.get("/")
        with client.session_transaction() as kept:
            assert "yes" in (kept.get("greeted"), answer.headers.get("X-Greeted"))
    said = [each.message for each in caplog.records if "which a hit would not do" in each.message]
    assert len(said) == 1
