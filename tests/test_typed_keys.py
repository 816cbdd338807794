"""Ids of keys: equal exactly when the keys are the same, types included, whatever stands in them."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import functools
import os
import re
import subprocess
import sys
import types
from decimal import Decimal
from typing import Any
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from sqlalchemy import Integer, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from werkzeug.datastructures import (
    CombinedMultiDict,
    EnvironHeaders,
    Headers,
    ImmutableMultiDict,
    LanguageAccept,
    MultiDict,
)

from flask_rcache.errors import InvalidKeyError
from flask_rcache.model.typed_keys import is_plain, key_id, request_id


def test_key_id__numbers_and_their_texts_are_one() -> None:
    """42 and "42" name the same entry, as they do in a URL; within a tuple they do not."""
    assert key_id(42) == key_id("42") == "42"
    assert key_id(-1) == "-1"
    assert key_id((42,)) != key_id(("42",))
    assert key_id(10**40).startswith("~")


@pytest.mark.parametrize(
    "key", [None, True, 1.0, b"a", ["a"], {"a": 1}, Decimal(1), object()], ids=lambda key: type(key).__name__
)
def test_key_id__refused(key: Any) -> None:
    """Only str, int and tuple; the message names what it was."""
    with pytest.raises(InvalidKeyError, match=type(key).__name__):
        key_id(key)


def test_key_id__subclasses_are_refused() -> None:
    """What a subclass says its text is, is not certain: an enum member's would surprise."""

    class Text(str):
        __slots__ = ()

    with pytest.raises(InvalidKeyError, match="Text"):
        key_id(Text("a"))


def test_key_id__tuples_are_typed() -> None:
    """Look-alikes of different types and groupings are different keys; equal contents are one."""
    apart: list[tuple[object, ...]] = [
        (),
        ((),),
        ([],),
        ({},),
        (set(),),
        (1,),
        (1.0,),
        (True,),
        ("1",),
        (b"1",),
        (Decimal(1),),
        (None,),
        ("None",),
        (0.0,),
        (-0.0,),
        ("a", "b"),
        ("ab",),
        ("a", ("b",)),
        (("a", "b"),),
        (["a", "b"],),
        ({"a": "b"},),
        ({"a", "b"},),
        (dt.date(2020, 1, 1),),
        (dt.datetime(2020, 1, 1),),  # naive on purpose
        (dt.datetime(2020, 1, 1, tzinfo=dt.UTC),),
        (dt.time(1),),
        (dt.timedelta(1),),
        (UUID(int=1),),
        (1j,),
        (Markup("1"),),
    ]
    assert len({key_id(key) for key in apart}) == len(apart)
    assert key_id(({"a": 1, "b": 2},)) == key_id(({"b": 2, "a": 1},))
    assert key_id((frozenset({1, 2}),)) == key_id(({2, 1},))
    assert key_id((float("nan"),)) == key_id((-float("nan"),))


def test_key_id__is_stable() -> None:
    """The same in every process and release: a change here would empty every cache."""
    assert key_id(("a", 1, {"b": [None, True]})) == "~4e4766cf858806c735a0a4ff5f32fe9b"


def test_key_id__refuses_what_has_no_stable_form() -> None:
    """An object inside is named; depth is bounded."""
    with pytest.raises(InvalidKeyError, match="cannot hold object: pass its id"):
        key_id((object(),))
    deep: object = ()
    for _ in range(40):
        deep = (deep,)
    with pytest.raises(InvalidKeyError, match="deep"):
        key_id(deep)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def shape(value: object) -> object:
    """The value with its types, so that 1, True and 1.0 differ, and -0.0 and 0.0."""
    if isinstance(value, dict):
        return ("dict", sorted(((key, repr(shape(item))) for key, item in value.items())))
    if isinstance(value, list | tuple):
        return (type(value).__name__, [shape(item) for item in value])
    return (type(value).__name__, repr(value))


@given(st.tuples(plain, plain), st.tuples(plain, plain))
def test_key_id__equal_exactly_when_the_same(one: tuple[object, ...], two: tuple[object, ...]) -> None:
    """Two tuples have one id if and only if they are the same, types included."""
    assert (key_id(one) == key_id(two)) == (shape(one) == shape(two))


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_request_id__parts_do_not_run_together(one: list[str], two: list[str]) -> None:
    """Length-prefixed: equal ids mean equal lists."""
    assert (request_id(one) == request_id(two)) == (one == two)


# Objects


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Number(enum.IntEnum):
    ONE = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: object
    y: object = 0


@dataclasses.dataclass
class Place:
    x: object
    y: object = 0


class Shop(Place):
    """A dataclass's child with an attribute that is no field."""

    def __init__(self, x: object, name: str) -> None:
        super().__init__(x)
        self.name = name


Pair = collections.namedtuple("Pair", "x y")
Turned = collections.namedtuple("Pair", "y x")  # type: ignore[name-match]  # another class of that name


class Model(pydantic.BaseModel):
    x: Any
    _seen: int = pydantic.PrivateAttr(0)


class Open(pydantic.BaseModel, extra="allow"):
    x: Any


class Keyed:
    """Says what tells its objects apart."""

    def __init__(self, key: object, noise: object = None) -> None:
        self.key, self.noise = key, noise

    def __cache_key__(self) -> object:
        return self.key


class Row(list[int]):
    """A list with an attribute."""

    name = ""

    def __iter__(self) -> Any:
        return iter(())


def named(value: Any, **attributes: object) -> Any:
    for name, item in attributes.items():
        setattr(value, name, item)
    return value


def headers(value: str) -> EnvironHeaders:
    return EnvironHeaders({"HTTP_X_A": value, "wsgi.input": object()})


def combined(*values: str) -> CombinedMultiDict[str, str]:
    return CombinedMultiDict([MultiDict([("a", value)]) for value in values])


APART: list[Any] = [
    Colour.RED,
    Colour.GREEN,
    1,
    Number.ONE,
    Rights.READ,
    Rights.READ | Rights.WRITE,
    Rights(0),
    (1, 2),
    [1, 2],
    Pair(1, 2),
    Turned(1, 2),
    Turned(2, 1),
    Point(1, 2),
    Point(1, True),
    Point(1, (2,)),
    Place(1, 2),
    Place(Place(1, 2)),
    Shop(1, "a"),
    Shop(1, "b"),
    Model(x=1),
    Model(x=True),
    named(Model(x=1), _seen=2),
    Open(x=1),
    Open.model_validate({"x": 1, "y": 2}),
    Keyed(1),
    Keyed("1"),
    Keyed(Keyed(1)),
    Keyed((Colour.RED, {"a": Point(1)})),
    {"a": [Keyed(1)]},
    {"a": [Keyed(2)]},
    {"a": 1, "b": 2},
    collections.OrderedDict(a=1, b=2),
    collections.OrderedDict(b=2, a=1),
    collections.Counter(a=1, b=2),
    collections.UserDict(a=1, b=2),
    collections.ChainMap({"a": 1}, {"b": 2}),
    Row([1, 2]),
    Row([1, 3]),
    named(Row([1, 2]), name="a"),
    MultiDict([("a", "1"), ("a", "2")]),
    MultiDict([("a", "1"), ("a", "3")]),
    MultiDict([("a", "1")]),
    ImmutableMultiDict([("a", "1"), ("a", "2")]),
    combined("1", "2"),
    combined("1", "3"),
    Headers([("X-A", "1"), ("X-A", "2")]),
    Headers([("X-A", "1"), ("X-A", "3")]),
    headers("1"),
    headers("2"),
    LanguageAccept([("de", 1.0), ("en", 0.5)]),
    LanguageAccept([("de", 1.0), ("en", 0.6)]),
]


def test_key_id__objects_are_their_class_and_all_they_hold() -> None:
    """Enum members, dataclasses, named tuples, models, keyed objects, containers of other classes: all differ."""
    ids: dict[str, object] = {}
    for value in APART:
        for key in ((value,), ("in", [value])):
            assert ids.setdefault(key_id(key), key) is key, f"{key} has the key of {ids[key_id(key)]}"
    assert [key_id((value,)) for value in APART] == list(ids)[::2]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (Point(1), Point(1, 0)),
        (Keyed(1, "a"), Keyed(1, "b")),
        (Model(x=1), Model(x=1)),
        (MultiDict([("a", "1"), ("b", "2")]), MultiDict({"a": "1", "b": "2"})),
        (headers("1"), headers("1")),
        ({Colour.RED, Colour.GREEN}, {Colour.GREEN, Colour.RED}),
        ({Point(1): 1, Point(2): 2}, {Point(2): 2, Point(1): 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_key_id__equal_objects_have_one_key(one: Any, two: Any) -> None:
    """What is equal in its class and its parts is one key, and a named tuple may be the key itself."""
    assert key_id((one,)) == key_id((two,))
    assert key_id(Pair(1, 2)) == key_id(Pair(1, 2)) != key_id((1, 2))


class Computed(Place):
    """Keeps what it has computed once."""

    @functools.cached_property
    def sum(self) -> object:
        return (self.x, self.y)


def test_key_id__a_cached_property_is_no_state() -> None:
    """What an object has computed of its fields meanwhile does not change its key."""
    value = Computed(1)
    before = key_id((value,))
    assert value.sum == (1, 0)
    assert key_id((value,)) == before != key_id((Place(1),))


def made(number: int) -> tuple[Any, Any, Any]:
    """Local classes: of an enum, of objects that hold nothing, of named tuples."""

    class Local(enum.Enum):
        MEMBER = number

    class Bare:
        limit = number

        def __cache_key__(self) -> str:
            return ""

    class Closed:
        def __cache_key__(self) -> str:
            return ""

        def value(self) -> int:
            return number

    return Local.MEMBER, Bare(), Closed()


def test_key_id__classes_of_one_name() -> None:
    """What a function makes under one name is told apart by what is in it; the same made again is the same."""
    for one, two, again in zip(made(1), made(2), made(1), strict=True):
        assert type(one).__qualname__ == type(two).__qualname__
        assert key_id((one,)) == key_id((again,)) != key_id((two,))


def test_key_id__a_class_whose_name_is_taken_over() -> None:
    """The second class under a name is none of the first's kind, also when the first is not found any more."""
    module = types.ModuleType("taken_over")
    sys.modules["taken_over"] = module
    try:
        ids = set()
        for limit in (1, 2):
            exec(f"class Kind:\n    limit = {limit}\n    def __cache_key__(self): return 1", vars(module))
            ids.add(key_id((module.Kind(),)))
            vars(module).setdefault("kept", []).append(module.Kind)
        assert len(ids) == 2
    finally:
        del sys.modules["taken_over"]


_PRINTS_IDS = """
import enum, dataclasses, sys
from flask_rcache.model.typed_keys import key_id
def made(number):
    class Local(enum.Enum):
        A = number
        B = "b"
        def shown(self, among={"x", "y", "z", ("a", None)}):
            return self.value in {"a", "b", "c", number} and among
    return Local
@dataclasses.dataclass
class Point:
    x: object
sys.stdout.write(key_id((made(1).A, Point({"a", "b", "c"}), {Point(1).x: made(2).B})))
"""


def test_key_id__objects_are_the_same_in_every_process() -> None:
    """Neither addresses nor the order of sets, which differ between processes, are in an id."""
    ids = {
        subprocess.run(
            [sys.executable, "-c", _PRINTS_IDS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(ids) == 1


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)


class Zone(dt.tzinfo):
    def utcoffset(self, _: object) -> dt.timedelta:
        return dt.timedelta(0)

    dst = tzname = utcoffset  # type: ignore[assignment]


@dataclasses.dataclass
class Holder:
    held: object


REFUSED: dict[str, Any] = {
    "object": object(),
    "types.SimpleNamespace": types.SimpleNamespace(a=1),
    "collections.defaultdict": collections.defaultdict(int),
    "collections.deque": collections.deque([1]),
    "mappingproxy": types.MappingProxyType({"a": 1}),
    "dict_keys": {}.keys(),
    "bytearray": bytearray(b"a"),
    "range": range(3),
    "list_iterator": iter([1]),
    "ValueError": ValueError("a"),
    "type": int,
    "builtin_function_or_method": len,
    "test_typed_keys.Text": type("Text", (str,), {"__module__": "test_typed_keys"})("a"),
    "test_typed_keys.Zone": dt.datetime(2026, 1, 1, tzinfo=Zone()),
    "test_typed_keys.User": User(id=1),
    "sqlalchemy.engine.row.Row": None,  # made below
}


@pytest.mark.parametrize("name", REFUSED)
def test_key_id__refused_objects_are_named(name: str) -> None:
    """What may hold more than it shows is refused, at any depth, with what to do."""
    value = REFUSED[name]
    if value is None:
        engine = create_engine("sqlite://")
        with Session(engine) as session:
            value = session.execute(select(1)).one()
        engine.dispose()
    for key in ((value,), ([{"a": value}],), (Holder(value),), (Keyed(value),)):
        with pytest.raises(InvalidKeyError, match=re.escape(name)) as caught:
            key_id(key)
        assert re.search("pass its id|convert it|plain data", str(caught.value))


def test_key_id__a_dataclass_that_lacks_a_field() -> None:
    """A slot that nothing was put into is no value."""
    empty = object.__new__(Point)
    with pytest.raises(InvalidKeyError, match="lacks a field"):
        key_id((empty,))


def test_is_plain__is_what_never_changes() -> None:
    """Scalars, and tuples and frozensets of them."""
    plain: list[object] = [None, 1, "a", Markup("a"), 1j, (1, ("a",)), frozenset({1})]
    changes: list[object] = [[1], ([1],), {"a": 1}, {1}, Point(1), Colour.RED, len, object()]
    assert [is_plain(value) for value in plain + changes] == [True] * len(plain) + [False] * len(changes)
