"""`@cached` and the short forms on the current app."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

import flask_rcache
from flask_rcache import (
    CacheType,
    ConfigError,
    KeyRefused,
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
    with pytest.raises(KeyRefused, match="key_func"):
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


def test_cached__methods() -> None:
    """On a method the object is no part of the key; the means work on the bound method and on the class's function."""
    calls = Calls()

    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @cached()
        def stock(self, item: int) -> str:
            return f"{self.name} {item} {calls()}"

        @cached(key_func=lambda self, item: f"{self.name}-{item}")
        def own_stock(self, item: int) -> str:
            return f"{self.name} {item}"

    one, two = Shop("one"), Shop("two")
    assert one.stock(5) == two.stock(item=5) == "one 5 1"
    assert (one.own_stock(5), two.own_stock(5)) == ("one 5", "two 5")
    assert one.stock.uncached(5) == "one 5 2"
    assert one.stock.key(5) == Shop.stock.key(one, 5)
    assert one.stock.refresh(5) == "one 5 3"
    assert two.stock.invalidate(5) is True
    assert two.stock(5) == "two 5 4"
    assert Shop.stock.invalidate(one, 5) is True


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
