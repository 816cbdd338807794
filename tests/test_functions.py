"""`@cached` and the short forms on the current app."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

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


class Marked(Basket):
    """A plain value, and an attribute that is not in it."""

    @cached()
    def owned_by(self) -> str:
        return str(vars(self)["owner"])


def test_cached__methods_of_objects_that_hold_nothing() -> None:
    """They share what is cached, and those of another class have their own."""
    assert (Service().name(), Special().name(), Service().name()) == ("Service", "Special", "Service")
    assert Service().name.key() == Service().name.key() != Special().name.key()
    kinds = [kind() for kind in (Service.kind, Special.kind, Service.kind)]  # type: ignore[call-arg]
    assert kinds == ["Service", "Special", "Service"]
    assert (Pair((1, 2)).total(), Pair((3, 4)).total()) == (3, 7)
    assert (Basket("a").size(), Basket("ab").size()) == (1, 2)


@pytest.mark.parametrize("call", [lambda: Slotted("a").shown(), lambda: Number(2).doubled(), lambda: marked()])
def test_cached__methods_of_objects_that_cannot_be_told_apart(call: Any) -> None:
    """A state that is no key is refused, with what to do: one object must not get what another was given."""
    with pytest.raises(InvalidKeyError, match="__cache_key__"):
        call()


def marked() -> str:
    basket = Marked("ab")
    vars(basket)["owner"] = "a"
    return basket.owned_by()


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


_NAMES_LAMBDA = """
import sys
from flask_rcache.callables import function_name
sys.stdout.write(function_name(lambda x: x in {"a", "b", "c", ("d", None)} or (lambda y: y)(...)))
"""


def test_function_name__is_the_same_in_every_process() -> None:
    """The fingerprint of a lambda does not depend on the order of sets, which differs between processes."""
    names = {
        subprocess.run(
            [sys.executable, "-c", _NAMES_LAMBDA],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(names) == 1
    assert "__main__:<lambda>@4-" in names.pop()


def test_cached__what_has_no_name() -> None:
    """A partial has no name that could be in a key."""
    with pytest.raises(ConfigError, match="needs a function"):
        cached()(functools.partial(max, 1))


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


def test_functions__act_on_the_current_app() -> None:
    """Each short form does what the manager's method does."""
    current_cache.set("search", "a", 1, tags=["eu"])
    current_cache.set("search", "b", 2)
    assert invalidate_key("search", "a") is True
    assert invalidate_pattern("b", type="search") == 1
    assert invalidate_pattern("search:*") == 0
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


def test_package__all_is_complete() -> None:
    """Everything exported exists, sorted, and is what the contract names."""
    assert flask_rcache.__all__ == sorted(flask_rcache.__all__, key=lambda name: (not name.isupper(), name))
    for name in flask_rcache.__all__:
        assert getattr(flask_rcache, name) is not None
