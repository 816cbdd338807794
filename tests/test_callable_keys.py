"""What tells callables apart: names, wrappers, defaults, closures, bound objects; nothing that differs by process."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import io
import itertools
import logging
import operator
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_rcache.errors import ConfigError, InvalidKeyError
from flask_rcache.model.callable_keys import Identity, function_name, identity_of, object_key, signature_of


def base(x: Any) -> Any:
    return x


def times(number: int) -> Any:
    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def inner(x: Any) -> Any:
            return number * function(x)

        return inner

    return decorate


def by_default(number: int) -> Any:
    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def inner(x: Any, number: int = number, *, more: int = -number) -> Any:
            return number * function(x) + more

        return inner

    return decorate


def upper(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return str(function(*args, **kwargs)).upper()

    return inner


def lower(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return str(function(*args, **kwargs)).lower()

    return inner


def without_wraps(function: Any) -> Any:
    def inner(x: Any) -> Any:
        return function(x)

    return inner


def one_of_two(doubles: bool) -> Any:
    if doubles:

        def made(x: int) -> int:
            return 2 * x
    else:

        def made(x: int) -> int:
            return 3 * x

    return made


class Wrapper:
    """A wrapper that is an object."""

    def __init__(self, number: int, function: Any) -> None:
        functools.update_wrapper(self, function)
        self.number = number

    def __call__(self, x: Any) -> Any:
        return self.number * self.__wrapped__(x)  # type: ignore[attr-defined]


class Shop:
    """Says what tells its objects apart."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __cache_key__(self) -> str:
        return self.name

    def label(self, x: int) -> str:
        return f"{self.name} {x}"


def holds(value: Any) -> Callable[[Any], Any]:
    def made(x: Any) -> Any:
        return value, x

    return made


def lambdas() -> list[Any]:
    return [lambda x: x + 1, lambda x: x + 2, lambda x: x in {"a", "b", ("c", None)}, lambda x: (lambda y: y)(...)]


def calls_itself() -> Any:
    def made(x: int) -> Any:
        return made(x - 1)

    return made


Local = enum.Enum("Local", "A B")
Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Settings:
    names: list[str]


APART: dict[str, Callable[[], Any]] = {
    "plain": lambda: base,
    "another": lambda: times,
    "wrapped by 2": lambda: times(2)(base),
    "wrapped by 3": lambda: times(3)(base),
    "another wrapped by 2": lambda: times(2)(times),
    "wrapped twice": lambda: times(2)(times(3)(base)),
    "wrapped twice the other way": lambda: times(3)(times(2)(base)),
    "default 2": lambda: by_default(2)(base),
    "default 3": lambda: by_default(3)(base),
    "upper": lambda: upper(base),
    "lower": lambda: lower(base),
    "without wraps": lambda: without_wraps(base),
    "another without wraps": lambda: without_wraps(times),
    "object 2": lambda: Wrapper(2, base),
    "object 3": lambda: Wrapper(3, base),
    "lru_cache": lambda: functools.lru_cache(base),
    "one of two": lambda: one_of_two(True),
    "the other of two": lambda: one_of_two(False),
    **{f"lambda {index}": lambda index=index: lambdas()[index] for index in range(4)},  # type: ignore[misc]
    "partial 1": lambda: functools.partial(base, 1),
    "partial True": lambda: functools.partial(base, True),
    "partial x=1": lambda: functools.partial(base, x=1),
    "partial of wrapped": lambda: functools.partial(times(2)(base), 1),
    "function": lambda: Shop.label,
    "method of a": lambda: Shop("a").label,
    "method of b": lambda: Shop("b").label,
    "partial of a": lambda: functools.partial(Shop.label, Shop("a")),
    "partial of b": lambda: functools.partial(Shop.label, Shop("b")),
    "calls itself": calls_itself,
    **{
        f"holds {index}, a {type(value).__name__}": lambda value=value: holds(value)  # type: ignore[misc]
        for index, value in enumerate((
            None, 1, 2, "1", True, (1,), (1, [2]), [1], [2], {"a": 1}, {"a": 2}, {1}, Local.A, Local.B, Point(1, 2),
            Settings(["a"]), Settings(["b"]), Shop, Settings, base, times, len, max, str.upper, str.lower,
            {"a": 1}.get, {"a": 2}.get, operator.itemgetter(1), operator.itemgetter(2), re.compile("a"),
            re.compile("b"), functools, operator, range(3), range(4),
        ))
    },
    "holds shop a": lambda: holds(Shop("a")),
    "holds shop b": lambda: holds(Shop("b")),
    "holds a's method": lambda: holds(Shop("a").label),
    "holds b's method": lambda: holds(Shop("b").label),
    "holds wrapped by 2": lambda: holds(times(2)(base)),
    "holds wrapped by 3": lambda: holds(times(3)(base)),
    "holds an object 2": lambda: holds(Wrapper(2, base)),
    "holds an object 3": lambda: holds(Wrapper(3, base)),
    "holds what holds 1": lambda: holds(holds(1)),
    "holds what holds 2": lambda: holds(holds(2)),
    "holds lambda 0": lambda: holds(lambdas()[0]),
    "holds lambda 1": lambda: holds(lambdas()[1]),
}  # fmt: skip


def test_identity_of__all_are_told_apart() -> None:
    """Functions of one factory, one function under several wrappers, partials, methods: each has its own identity."""
    seen: dict[str, str] = {}
    for name, make in APART.items():
        identity = identity_of(make())
        assert seen.setdefault(identity, name) is name, f"{name} is {seen[identity]}"


@pytest.mark.parametrize("make", APART.values(), ids=APART)
def test_identity_of__the_same_made_again(make: Callable[[], Any]) -> None:
    """What is made again in the same way, as in another process, is the same."""
    assert identity_of(make()) == identity_of(make())


@pytest.mark.parametrize(
    "value",
    [object(), threading.Lock(), itertools.count(), iter([1]), io.BytesIO()],
    ids=lambda value: type(value).__name__,
)
def test_identity_of__objects_that_say_nothing(value: Any) -> None:
    """An app, a lock, a counter that was closed over has no part in it, whatever becomes of it."""
    before = identity_of(holds(value))
    if isinstance(value, itertools.count):
        next(value)
    assert identity_of(holds(value)) == before == identity_of(holds(object()))


def test_identity__closed_over_values_are_as_they_are_now() -> None:
    """A variable that is set anew counts; what a list held at the beginning does, and what is put into it does not."""
    number, items = 1, ["a"]

    def reads() -> tuple[int, list[str]]:
        return number, items

    identity = Identity(reads)
    first = identity()
    items.append("b")
    assert identity() == first
    number = 2
    assert identity() != first
    number = 1
    assert identity() == first
    items = ["b"]
    assert identity() != first


def test_identity__its_own_state_has_no_part() -> None:
    """A counter, a list of calls, and what else a function changes itself: with them no two calls would be one."""

    def make(calls: list[int], seen: dict[int, int], names: set[str], settings: Settings, read: list[int]) -> Any:
        made = 0

        def counts(x: int) -> Any:
            nonlocal made
            made += 1
            calls.append(x)
            seen[x] = seen.get(x, 0) + 1
            settings.names = []
            local: dict[str, int] = {}
            local["a"] = read[0]
            for name in local:
                names.add(name)

        return counts

    one = identity_of(make([], {}, set(), Settings([]), [1]))
    assert identity_of(make([1], {1: 1}, {"a"}, Settings(["a"]), [1])) == one
    assert identity_of(make([], {}, set(), Settings([]), [2])) != one


def test_identity__a_bound_object_is_as_it_is_now() -> None:
    """A method of an object, and a partial's arguments, are asked at each call."""
    shop, names = Shop("a"), ["a"]
    of_method, of_partial = Identity(shop.label), Identity(functools.partial(base, names))
    before = of_method(), of_partial()
    shop.name = "b"
    names.append("b")
    assert of_method() != before[0]
    assert of_partial() != before[1]


def test_function_name__is_the_wrapped_one_s() -> None:
    """``module:qualname``; a fingerprint only where the name does not lead to one function."""
    here = __name__
    assert function_name(times(2)(base)) == function_name(functools.partial(base, 1)) == f"{here}:base"
    assert function_name(holds(1)) == f"{here}:holds.<locals>.made"
    assert function_name(Shop("a").label) == f"{here}:Shop.label"
    assert function_name(len) == "builtins:len"
    assert re.fullmatch(rf"{here}:one_of_two\.<locals>\.made@[0-9a-f]{{16}}", function_name(one_of_two(True)))
    assert re.fullmatch(rf"{here}:lambdas\.<locals>\.<lambda>@[0-9a-f]{{16}}", function_name(lambdas()[0]))


def test_function_name__a_name_that_is_given_twice() -> None:
    """A later function of the same name and other code has a fingerprint; the same code again has none."""
    names = []
    for number in (1, 2, 1):
        namespace: dict[str, Any] = {"__name__": "given_twice"}
        exec(f"def priced(x):\n    return x + {number}", namespace)
        names.append(function_name(namespace["priced"]))
    assert names[0] == names[2] == "given_twice:priced"
    assert names[1].startswith("given_twice:priced@")


_PRINTS = """
import sys
from flask_rcache.model.callable_keys import identity_of
def made(among):
    def inner(x):
        return x in among or x in {"a", "b", "c", ("d", None)}
    return inner
written = lambda x: x in {"a", "b", "c", ("d", None)} or (lambda y: y)(...)
sys.stdout.write(identity_of(written) + identity_of(made({"p", "q"})))
"""


def test_identity_of__is_the_same_in_every_process() -> None:
    """Neither addresses nor the order of sets, which differ between processes, are in it."""
    found = {
        subprocess.run(
            [sys.executable, "-c", _PRINTS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    assert "__main__:<lambda>@" in found.pop()


class Loader:
    def __call__(self) -> None: ...


@pytest.mark.parametrize("make", [Loader, lambda: functools.partial(Loader())], ids=["object", "partial"])
def test_function_name__what_has_none(make: Callable[[], Any]) -> None:
    """An object with a ``__call__`` is refused with what to do."""
    with pytest.raises(ConfigError, match=r"Loader has none; wrap it in a def"):
        function_name(make())


def test_identity_of__a_partial_of_what_cannot_stand_in_a_key() -> None:
    """It is refused: another argument would be another function."""
    with pytest.raises(InvalidKeyError, match="object"):
        identity_of(functools.partial(base, object()))


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (base, ["x"]),
        (upper(base), ["x"]),
        (by_default(2)(base), ["x", "number", "more"]),
        (upper(by_default(2)(base)), ["x", "number", "more"]),
        (functools.partial(by_default(2)(base), 1), ["number", "more"]),
        (functools.partial(upper(base), 1), ["args", "kwargs"]),
        (Shop("a").label, ["x"]),
        (lambda *args, **kwargs: None, ["args", "kwargs"]),
    ],
)
def test_signature_of__the_outermost_that_names_its_parameters(function: Any, names: list[str]) -> None:
    """A wrapper that passes everything on has the signature of what it wraps; one that names its own has its own."""
    assert list(signature_of(function).parameters) == names


def test_signature_of__none() -> None:
    """Some functions in C have none: a clear error where they are decorated."""
    with pytest.raises(ConfigError, match="wrap it in a def"):
        signature_of(max)


class Service:
    """Holds nothing."""


class Special(Service):
    """Holds nothing either."""


class Slotted:
    __slots__ = ("hidden",)
    hidden: int


class Number(int):
    """Holds a number that is no attribute."""


def local(limit: int) -> Any:
    class Made:
        maximum = limit

    return Made()


def test_object_key__what_tells_objects_apart() -> None:
    """Their class, their own key, their value, their fields; objects that hold nothing are alike."""
    apart: list[Any] = [
        Service(), Special(), Shop("a"), Shop("b"), Settings(["a"]), Settings(["b"]), Point(1, 2), Point(2, 1), Local.A,
        Local.B, Slotted(), Service, Special, local(1), local(2), type(local(3)),
    ]  # fmt: skip
    assert len({object_key(each, "m") for each in apart}) == len(apart)
    assert object_key(Service(), "m") == object_key(Service(), "m")
    assert object_key(local(1), "m") == object_key(local(1), "m")


def test_object_key__what_cannot_be_told_apart() -> None:
    """A state that is no key is refused, with what to do: one object must not get what another was given."""
    slotted, with_attribute = Slotted(), Service()
    slotted.hidden = 1
    with_attribute.owner = "a"  # type: ignore[attr-defined]
    for bound in (slotted, with_attribute, Number(2), threading.local()):
        with pytest.raises(
            InvalidKeyError, match=r"shop\.label: instances of .* are indistinguishable: define __cache_key__"
        ):
            object_key(bound, "shop.label")
    with pytest.raises(InvalidKeyError, match="object: pass its id"):
        object_key(Shop(object()), "shop.label")  # type: ignore[arg-type]


class Person:
    """Data, of a class that says nothing of itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def greet(self) -> str:
        return self.name


class Client:
    """What a function works with: an address, and what changes while it is used."""

    def __init__(self, url: str, **more: Any) -> None:
        self.url = url
        self.lock = threading.Lock()
        self.connected = False
        self.began = 0.0
        self._calls = 0
        self._seen: list[int] = []
        vars(self).update(more)

    def close(self) -> None:
        self._calls += 1
        self._seen.append(self._calls)
        self.connected, self.began = True, time.time()


class Base(DeclarativeBase):
    """The tables."""


class Author(Base):
    """A row."""

    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)


class Knot:
    """Refers to itself."""

    def __init__(self, name: str) -> None:
        self.name, self.knot = name, self


@pytest.mark.parametrize(
    "make",
    [
        Person,
        Client,
        Knot,
        lambda name: Client("a", number=len(name) * ord(name[0])),
        lambda name: Client("a", _person=Person(name)),
        lambda name: Client("a", options={"who": [name]}),
        lambda name: [Person(name)],
        lambda name: (Person(name), 1),
        lambda name: {"who": Person(name)},
        lambda name: Person(name).greet,
        lambda name: functools.partial(print, Person(name)),
        lambda name: holds(Person(name)),
        lambda name: times_object(Person(name))(base),
    ],
)
def test_identity__objects_are_described_by_what_they_hold(make: Callable[[str], Any]) -> None:
    """Functions made by one factory for two people or two servers are two; made again for the same, they are one."""

    def described(name: str) -> str:
        return Identity(holds(make(name)), describes=True).text()

    assert described("ann") == described("ann")
    assert described("ann") != described("bob")


def times_object(person: Person) -> Callable[[Any], Any]:
    """A wrapper that is an object which holds one."""
    return lambda function: Wrapper(person, function)  # type: ignore[arg-type]


def test_identity__what_changes_while_it_works_describes_nothing() -> None:
    """A client's counters and locks, an app, a lock, a log: another process has other ones."""
    client = Client("redis://a")
    before = Identity(holds(client), describes=True).text()
    client.close()
    assert Identity(holds(client), describes=True).text() == before
    nothing = Identity(holds(object()), describes=True).text()
    for value in (Flask("shop"), threading.Lock(), logging.getLogger("shop"), itertools.count()):
        assert Identity(holds(value), describes=True).text() == nothing


def test_identity__a_row_is_refused() -> None:
    """What a database's object holds may not be loaded, so that two could look alike: its id has to be passed."""
    function = Identity(holds([Author(id=1)]), describes=True)
    with pytest.raises(InvalidKeyError, match=r"closed over 'value', .*Author of SQLAlchemy.*pass its id"):
        function()


def test_identity__of_a_view_describes_nothing() -> None:
    """A view's URL tells it from others, and what libraries have wrapped around it may differ between processes."""
    assert Identity(holds(Person("ann"))).text() == Identity(holds(Person("bob"))).text()
