"""Values: exact ones back or a refusal, and nothing but ``DecodeError`` from bytes that are not ours."""

from __future__ import annotations

import abc
import ast
import collections
import contextlib
import dataclasses
import enum
import functools
import inspect
import io
import math
import struct
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

import ormsgpack
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from sqlalchemy import create_engine, literal, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import flask_rcache.codec
from flask_rcache.codec import MAX_DEPTH, ValueCodec, decode_value, encode_value
from flask_rcache.errors import ConfigError, DecodeError, EncodeError

PARIS = ZoneInfo("Europe/Paris")


def shape(value: Any) -> Any:
    """Everything about a value that must come back: equal shapes mean the same types and contents."""
    kind = type(value)
    if kind is float:
        return kind, struct.pack(">d", value)
    if kind is complex:
        return kind, struct.pack(">dd", value.real, value.imag)
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind in (datetime, time):
        zone = value.tzinfo
        offset = (zone.utcoffset(None), zone.tzname(None)) if type(zone) is timezone else id(zone)
        return kind, value.replace(tzinfo=None).isoformat(), value.fold, type(zone), offset
    if kind in (list, tuple):
        return kind, [shape(item) for item in value]
    if kind is dict:
        return kind, [(shape(key), shape(item)) for key, item in value.items()]
    if kind in (set, frozenset):
        return kind, sorted((shape(item) for item in value), key=repr)
    return kind, value


EXACT = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    -(2**63),
    -(2**63) - 1,
    7**5000,
    -(2**4096),
    0.0,
    -0.0,
    1e308,
    5e-324,
    math.inf,
    -math.inf,
    math.nan,
    struct.unpack(">d", b"\xff\xf8\x00\x00\x00\x00\x00\x01")[0],
    complex(-0.0, math.nan),
    "",
    "naïve ☃ 🐍 \x00 \x00end",
    b"",
    bytes(range(256)),
    [],
    (),
    {},
    set(),
    frozenset(),
    [(), [], {}, set()],
    ((1,), [2], {"a": (3,)}),
    {1, "a", None, (1, (2,)), frozenset({b"x"})},
    {"z": 1, "a": 2, "m": {"z": 1, "a": 2}},
    {1: "int", "1": "str", b"1": "bytes", (1,): "tuple", None: "none", frozenset({1}): "frozenset"},
    {True: "bool"},
    {1.0: "float"},
    {Decimal(1): "Decimal"},
    {0: {1: {2: [{3: ()}]}}},
    {date(2026, 1, 1): 1, UUID(int=0): 2, timedelta(1): 3, datetime(2026, 1, 1, tzinfo=UTC): 4},
    {math.nan: 1},
    [{"plain": 1}, {2: "two"}, {"plain": 3}],
    Decimal("0"),
    Decimal("-0"),
    Decimal("0E-30"),
    Decimal("1.10"),
    Decimal("1E+1000"),
    Decimal("9" * 200),
    Decimal("NaN"),
    Decimal("-sNaN123"),
    Decimal("Infinity"),
    date.min,
    date.max,
    datetime.min,
    datetime.max,
    datetime(2026, 10, 25, 2, 30, fold=1),
    datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=-1))),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(0), "Zulu")),
    datetime(2026, 10, 25, 2, 30, tzinfo=PARIS),
    datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=1),
    time(0),
    time(23, 59, 59, 999999, fold=1),
    time(12, tzinfo=UTC),
    time(12, tzinfo=PARIS),
    timedelta.min,
    timedelta.max,
    timedelta(microseconds=-1),
    UUID("12345678-1234-5678-1234-567812345678"),
    Markup(""),
    Markup("<b>é</b>"),
    {Markup("<b>"): Markup("<i>")},
]


@pytest.mark.parametrize("value", EXACT, ids=lambda value: type(value).__name__)
def test_encode_value__exact(value):
    """Types and contents come back, alone and wherever a value can sit."""
    places = [value, [value], (value,), {"k": value}, {0: value}, {(0, "k"): [{1: value}]}]
    for placed in places:
        assert shape(decode_value(encode_value(placed))) == shape(placed)


def test_encode_value__uuid_is_safe():
    """A UUID is equal when it comes back; the hint at how it was generated is not kept, as documented."""
    generated = uuid1()
    assert decode_value(encode_value(generated)) == generated


def test_encode_value__does_not_depend_on_the_decimal_context():
    """Neither the precision nor the letter case nor the traps of the thread's context get into a Decimal."""
    value = Decimal("1234567890.123456789E+50")
    with localcontext(Context(prec=3, capitals=0, traps=[])):
        encoded = encode_value(value)
        assert shape(decode_value(encoded)) == shape(value)
        with pytest.raises(DecodeError):
            decode_value(ormsgpack.packb(ormsgpack.Ext(17, b"no number")))
    assert encoded == encode_value(value)


def test_encode_value__shares_nothing():
    """An object that occurs twice comes back as two, and the two never share a mutable part with a hit."""
    inner = [1]
    first, second = decode_value(encode_value([inner, inner]))
    assert first == second == [1]
    assert first is not second
    by_number = {1: [2]}
    assert decode_value(encode_value([by_number, by_number])) == [by_number, by_number]


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Letter(enum.StrEnum):
    A = "a"


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    pass


class Octets(bytes):
    pass


class Money(Decimal):
    pass


class Moment(datetime):
    pass


class Identity(UUID):
    pass


class Zone(ZoneInfo):
    pass


class Lunar(tzinfo):
    def utcoffset(self, dt):
        raise AssertionError("foreign code must not run")

    dst = utcoffset
    tzname = utcoffset


@dataclasses.dataclass(frozen=True)
class Point:
    x: int


class Hostile:
    def __repr__(self):
        raise AssertionError("foreign code must not run")


Pair = collections.namedtuple("Pair", "a b")

# The smallest time zone file there is: one type, UTC.
TZIF = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + struct.pack(">lbb", 0, 0, 0) + b"UTC\0"

REFUSED = {
    "Enum": (Colour.RED, "test_values.Colour"),
    "IntEnum": (Number.ONE, "test_values.Number"),
    "StrEnum": (Letter.A, "test_values.Letter"),
    "str subclass": (Text("a"), "test_values.Text"),
    "int subclass": (Whole(1), "test_values.Whole"),
    "big int subclass": (Whole(2**70), "test_values.Whole"),
    "float subclass": (Real(1), "test_values.Real"),
    "bytes subclass": (Octets(b"a"), "test_values.Octets"),
    "Decimal subclass": (Money(1), "test_values.Money"),
    "datetime subclass": (Moment(2026, 1, 1), "test_values.Moment"),
    "UUID subclass": (Identity(int=1), "test_values.Identity"),
    "OrderedDict": (collections.OrderedDict(a=1), "collections.OrderedDict"),
    "defaultdict": (collections.defaultdict(int), "collections.defaultdict"),
    "Counter": (collections.Counter("a"), "collections.Counter"),
    "namedtuple": (Pair(1, 2), "test_values.Pair"),
    "dataclass": (Point(1), "test_values.Point"),
    "bytearray": (bytearray(b"a"), "bytearray"),
    "memoryview": (memoryview(b"a"), "memoryview"),
    "ormsgpack.Ext": (ormsgpack.Ext(1, b""), "ormsgpack.Ext"),
    "ormsgpack.Fragment": (ormsgpack.Fragment(b"\x01"), "ormsgpack.Fragment"),
    "class": (tuple, "type"),
    "range": (range(3), "range"),
    "generator": ((digit for digit in "12"), "generator"),
    "function": (len, "builtin_function_or_method"),
    "object": (object(), "object"),
    "hostile": (Hostile(), "test_values.Hostile"),
    "deque": (collections.deque(), "collections.deque"),
    "dict view": ({}.keys(), "dict_keys"),
    "exception": (ValueError("x"), "ValueError"),
    "lone surrogate": ("\ud800", "surrogate"),
    "foreign tzinfo": (datetime(2026, 1, 1, tzinfo=Lunar()), "test_values.Lunar"),
    "foreign tzinfo in time": (time(1, tzinfo=Lunar()), "test_values.Lunar"),
    "ZoneInfo subclass": (datetime(2026, 1, 1, tzinfo=Zone("Europe/Paris")), "test_values.Zone"),
    "ZoneInfo uncached": (datetime(2026, 1, 1, tzinfo=ZoneInfo.no_cache("Europe/Paris")), "ZoneInfo"),
    "ZoneInfo keyless": (datetime(2026, 1, 1, tzinfo=ZoneInfo.from_file(io.BytesIO(TZIF))), "ZoneInfo"),
    "ZoneInfo unknown": (
        time(1, tzinfo=ZoneInfo.from_file(io.BytesIO(TZIF), key="Not/There")),
        "Not/There",
    ),
    "zone with surrogate": (time(1, tzinfo=timezone(timedelta(0), "\udc00")), "surrogate"),
}


@pytest.mark.parametrize(("value", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_encode_value__refused(value, says):
    """What would come back altered is refused with its type's name, wherever it sits."""
    around: list[Any] = [value, [value], (value,), {"k": value}, {0: value}, [{"plain": 1}, {"k": [value]}]]
    if getattr(type(value), "__hash__", None) and not isinstance(value, memoryview | Hostile):
        with contextlib.suppress(AssertionError):  # its hash calls the foreign tzinfo
            around += [{value}, frozenset([value]), {value: 1}, {(value,): 1}]
    for placed in around:
        with pytest.raises(EncodeError, match=says):
            encode_value(placed)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, 2, bytearray()]}, "value['a'][2] is a bytearray"),
        ({1: {"x": (0, range(1))}}, "value[1]['x'][1] is a range"),
        ([{(1, Number.ONE): 0}], "value[0].keys()[1] is a "),
        ({"s": {Colour.RED}}, "value['s']{…} is a "),
        ({"\ud800": 1}, "value is, or has as a key, a str with lone surrogates"),
    ],
)
def test_encode_value__says_where(value, path):
    """The message leads to what is refused."""
    with pytest.raises(EncodeError) as caught:
        encode_value(value)
    assert str(caught.value).startswith(path)


def nested(depth: int, wrap: Any) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: [inner],
        lambda inner: (inner,),
        lambda inner: frozenset([inner]),
        lambda inner: {"k": inner},
        lambda inner: {1: inner},
        lambda inner: {1: inner, "x": {"plain": [1]}},
    ],
    ids=["list", "tuple", "frozenset", "dict", "int keys", "mixed"],
)
def test_encode_value__depth(wrap):
    """The bound is the same for every container; beyond it is a clear refusal, never a RecursionError."""
    shallow = 2 if "plain" in repr(wrap(0)) else 0
    deepest = nested(MAX_DEPTH - shallow, wrap)
    assert decode_value(encode_value(deepest)) == deepest
    for depth in (MAX_DEPTH + 1, 300, 5000):
        with pytest.raises(EncodeError, match="limit"):
            encode_value(nested(depth, wrap))


def test_encode_value__cycle():
    """A structure that contains itself is refused as such."""
    in_list: list[Any] = []
    in_list += [in_list, in_list]
    in_dict: dict[Any, Any] = {1: 2}
    in_dict["self"] = (in_dict,)
    for value in (in_list, in_dict, [in_list]):
        with pytest.raises(EncodeError, match="contains itself"):
            encode_value(value)


zones = st.sampled_from([None, UTC, PARIS, ZoneInfo("America/New_York")]) | st.builds(
    timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)), st.text(max_size=5)
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.text().map(Markup),
    st.binary(),
    st.decimals(allow_nan=False),
    st.dates(),
    st.datetimes(timezones=zones, allow_imaginary=True),
    st.datetimes().map(lambda moment: moment.replace(fold=1)),
    st.times(timezones=zones),
    st.timedeltas(),
    st.uuids(),
)
hashables = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(hashables, max_size=4),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=4),
    ),
    max_leaves=15,
)


@given(values)
def test_encode_value__any_value(value):
    """Any nesting of kept types comes back exactly, and encodes to the same bytes again."""
    encoded = encode_value(value)
    decoded = decode_value(encoded)
    assert shape(decoded) == shape(value)
    assert shape(decode_value(encode_value(decoded))) == shape(value)


def marked(code: int, *items: Any) -> list[Any]:
    return [ormsgpack.Ext(code, b""), *items]


TUPLE, SET, FROZENSET, DICT = 1, 2, 3, 4
OFFSETS: list[Any] = [[10**18, "x"], [0], [0, 1], [None, None], [1.5], {}, 7]
NOT_VALUES: dict[str, Any] = {
    "unhashable member": marked(SET, [1]),
    "unhashable key": marked(DICT, [{}], [1]),
    "same member twice": marked(SET, 1, 1),
    "same key twice": marked(DICT, [1, 1], [1, 2]),
    "keys without values": marked(DICT, [1, 2], [1]),
    "dict of nothing": marked(DICT),
    "dict of numbers": marked(DICT, 1, 2),
    "mark alone": ormsgpack.Ext(TUPLE, b""),
    "mark inside": [1, ormsgpack.Ext(TUPLE, b"")],
    "mark as value": {"k": ormsgpack.Ext(DICT, b"")},
    "mark after mark": marked(TUPLE, ormsgpack.Ext(SET, b"")),
    "unknown mark": marked(9),
    "unknown extension": ormsgpack.Ext(99, b"x"),
    "too deep": nested(MAX_DEPTH + 5, lambda inner: marked(TUPLE, inner)),
    "Decimal of garbage": ormsgpack.Ext(17, b"garbage"),
    "Decimal out of range": ormsgpack.Ext(17, b"1E999999999999999999999"),
    "date of garbage": ormsgpack.Ext(18, b"2026-99-99"),
    "datetime not ASCII": ormsgpack.Ext(19, "２026-01-01".encode()),
    "timedelta out of range": ormsgpack.Ext(21, struct.pack(">iii", 2**31 - 1, 0, 0)),
    "timedelta too short": ormsgpack.Ext(21, b"1"),
    "UUID too short": ormsgpack.Ext(22, b"1"),
    **{
        f"zone {zone!r:.30}": ormsgpack.Ext(24, ormsgpack.packb(["2026-01-01", 0, zone]))
        for zone in (
            "../../etc/passwd",
            "/etc/passwd",
            "",
            ".",
            "Europe",
            "No/Such",
            "\0",
            "a/" * 100,
            "x" * 10**6,
        )
    },
    **{f"offset {zone!r:.30}": ormsgpack.Ext(24, ormsgpack.packb(["2026-01-01", 0, zone])) for zone in OFFSETS},
    "fold of 2": ormsgpack.Ext(24, ormsgpack.packb(["2026-01-01", 2, None])),
}


@pytest.mark.parametrize("packed", NOT_VALUES.values(), ids=NOT_VALUES.keys())
def test_decode_value__hostile(packed):
    """Well-formed MessagePack that no value encodes to is refused."""
    with pytest.raises(DecodeError):
        decode_value(ormsgpack.packb(packed))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000 + b"\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x10",
        b"\x81\x01\x01",
        b"\xa1\xff",
        b"\xd6\xff\x00\x00\x00\x00",
        encode_value([1, 2]) + b"\x00",
        encode_value([1, 2])[:-1],
        b"\x80\x04\x95",
        b'{"json": true}',
    ],
    ids=repr,
)
def test_decode_value__garbage(data):
    """Bytes that are not one whole encoded value are refused, whatever lengths they declare."""
    with pytest.raises(DecodeError):
        decode_value(data)


@given(st.binary(max_size=200))
def test_decode_value__any_bytes(data):
    """Any bytes are a value or DecodeError, and nothing else."""
    with contextlib.suppress(DecodeError):
        decode_value(data)


# Objects of the app's own classes


class Letters(enum.StrEnum):
    A = "a"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Size(enum.Enum):
    SMALL = (1, [2])


class Amount(NamedTuple):
    value: Any
    unit: str = "eur"


@dataclasses.dataclass
class Cart:
    items: list[Any]
    total: Any = dataclasses.field(init=False, default=None)
    made: int = dataclasses.field(default=0, compare=False)

    def __post_init__(self) -> None:
        assert not hasattr(self, "sealed"), "made again by its own __init__"
        self.made += 1

    @functools.cached_property
    def number(self) -> int:
        return len(self.items)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    x: Any
    _hidden: Any = None


class BigCart(Cart):
    """A child that is not named."""


class User(pydantic.BaseModel):
    id: Any
    name: str = "nobody"
    _seen: Any = pydantic.PrivateAttr(None)


class Loose(pydantic.BaseModel, extra="allow", frozen=True):
    id: Any = pydantic.Field(alias="ID")


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Price:
    """Says itself what is kept of it."""

    def __init__(self, amount: Any) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Price) and self.amount == other.amount

    def __hash__(self) -> int:
        return hash(self.amount)

    def __cache_value__(self) -> Any:
        if self.amount == "broken":
            raise RuntimeError("no value")
        return [self.amount]

    @classmethod
    def from_cache_value(cls, value: Any) -> Any:
        if value[0] == "unreadable":
            raise RuntimeError("cannot be read")
        return cls(value[0]) if value[0] != "other" else Amount(1)


OWN = [Numbers, Letters, Rights, Size, Amount, Cart, Sealed, User, Loose, Price, Pair, Number, Colour]


def seen(model: Any, value: Any) -> Any:
    model._seen = value
    return model


def with_total(cart: Cart, total: Any) -> Cart:
    cart.total, cart.made = total, 7
    return cart


OBJECTS: list[Any] = [
    Letters.A,
    Rights.READ | Rights.WRITE,
    Rights(0),
    Size.SMALL,
    Number.ONE,
    Amount(1),
    Amount(Amount(Decimal("1.50"))),
    Pair([1], {2: (3,)}),
    Cart([1, "a", (2,)]),
    with_total(Cart([]), Amount(Price(3))),
    Sealed(x={"a": [1]}, _hidden=Letters.A),
    User(id=1),
    Numbers([1, 2]),
    User(id=(1, 2), name="ann"),
    seen(User(id={1: 2}), {"at": datetime(2026, 1, 1, tzinfo=UTC)}),
    Loose.model_validate({"ID": 1, "more": [Amount(2)]}),
    Price(Decimal("9.90")),
    Price(Price(1)),
]


def parts(value: Any) -> Any:
    """As :func:`shape`, of objects too: all that must come back."""
    kind = type(value)
    if kind in (list, tuple, set, frozenset):
        return kind, [parts(item) for item in value]
    if kind is dict:
        return kind, [(parts(key), parts(item)) for key, item in value.items()]
    if isinstance(value, enum.Enum):
        return value
    if isinstance(value, pydantic.BaseModel):
        return kind, parts(dict(value)), parts(vars(value)), value.model_fields_set, value.__pydantic_private__
    if kind in (Amount, Pair):
        return kind, parts(tuple(value))
    if dataclasses.is_dataclass(value):
        return kind, [parts(getattr(value, each.name)) for each in dataclasses.fields(value)]
    return (kind, parts(value.amount)) if kind is Price else shape(value)


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_value_codec__objects_come_back_exactly(value):
    """Class and all fields, those of ``init=False``, private and extra ones: alone, nested, and as a key."""
    codec = ValueCodec(OWN)
    for placed in (value, [value, {"k": value}], {0: (value,)}):
        assert parts(codec.decode(codec.encode(placed))) == parts(placed)
    with contextlib.suppress(TypeError):  # no hash
        keyed = {value: 1, (value, 2): {value}}
        assert parts(codec.decode(codec.encode(keyed))) == parts(keyed)


def test_value_codec__many_objects_and_plain_values_beside_them():
    """Rows of objects are one list; what is plain has the same bytes in every codec."""
    codec, rows = ValueCodec(OWN), [Amount(index) for index in range(500)]
    assert codec.decode(codec.encode(rows)) == rows
    for value in EXACT[:40]:
        assert codec.encode(value) == encode_value(value)


def test_value_codec__hits_share_no_object():
    """Each decoding makes objects of its own; members of enums are the one there is."""
    codec = ValueCodec(OWN)
    data = codec.encode([Cart([1]), Size.SMALL])
    (one, small), (two, _) = codec.decode(data), codec.decode(data)
    assert one == two
    assert one is not two
    assert one.items is not two.items
    assert small is Size.SMALL


def test_value_codec__a_cached_property_is_computed_again():
    """What an object has only computed of its fields is not stored, and does not prevent it."""
    codec, cart = ValueCodec(OWN), Cart([1, 2])
    assert cart.number == 2
    again = codec.decode(codec.encode(cart))
    assert "number" not in vars(again)
    assert again.number == 2


class Other(enum.Enum):
    A = 1


def marked_with(value: Any, **attributes: Any) -> Any:
    for name, item in attributes.items():
        setattr(value, name, item)
    return value


class RowBase(DeclarativeBase):
    pass


class Person(RowBase):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)


def row_of_sqlalchemy() -> Any:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        row = connection.execute(select(literal(1).label("id"))).one()
    engine.dispose()
    return row


ADVICE: dict[str, tuple[Any, str | None]] = {
    "dataclass": (BigCart([1]), r"BigCart: and of that class's bases only Cart is named .* add BigCart"),
    "not named": (Point(1), r"Point: name its class in RCache\(values=\[Point\]\)"),
    "enum": (Other.A, r"Other: name its class in RCache"),
    "row": (row_of_sqlalchemy(), r"Row: an object of SQLAlchemy.*\[dict\(row\._mapping\) for row in rows\].*RCache"),
    "model": (Person(id=1), r"Person: an object of SQLAlchemy"),
    "attribute": (marked_with(Cart([]), owner=1), r"attributes that are no fields, owner: define __cache_value__"),
    "no field": (object.__new__(Sealed), "lacks a field"),
    "in a field": (Cart([1, bytearray()]), r"\.items\[1\] is a bytearray"),
    "in a model": (seen(User(id=1), Point(1)), r"\.__pydantic_private__\['_seen'\] is a .*Point"),
    "in its value": (Price(Point(1)), r"\.__cache_value__\(\)\[0\] is a .*Point"),
    "broken": (Price("broken"), r"__cache_value__\(\) failed: RuntimeError\('no value'\)"),
    "cycle": (with_total(cycle := Cart([]), cycle), r"\.total contains itself"),
    "deep": (nested(MAX_DEPTH, lambda inner: Amount(inner)), None),
    "too deep": (nested(MAX_DEPTH + 1, lambda inner: Amount(inner)), "limit"),
}  # fmt: skip


@pytest.mark.parametrize(("value", "says"), ADVICE.values(), ids=ADVICE)
def test_value_codec__refused_objects(value, says):
    """What is not named, or holds what is not kept: the message says where, and what to do."""
    codec = ValueCodec(OWN)
    if says is None:
        assert codec.decode(codec.encode(value)) == value
        return
    for placed in (value, [{"k": value}], {0: value}):
        with pytest.raises(EncodeError, match=says):
            codec.encode(placed)


@pytest.mark.parametrize("own", [OWN, [cls for cls in OWN if cls is not Amount], []], ids=["all", "others", "none"])
def test_value_codec__only_named_classes_are_ever_made(own):
    """Bytes with an object of a class that is not named (any more) are no value, wherever it sits."""
    codec = ValueCodec(own)
    for placed in (Amount(1), {"k": [Amount(1)]}, {(Amount(1),): 1}):
        data = ValueCodec(OWN).encode(placed)
        if Amount in own:
            assert codec.decode(data) == placed
        else:
            with pytest.raises(DecodeError, match=r"Amount, which is not named in RCache"):
                codec.decode(data)


def test_value_codec__a_class_whose_fields_have_changed():
    """What was stored before a deploy renamed or added a field is no value after it."""
    before = dataclasses.make_dataclass("Changed", ["x", "y"], namespace={"__module__": __name__})
    data = ValueCodec([before]).encode(before(1, 2))
    for fields in (["x"], ["x", "z"], ["y", "x"], ["x", "y", "z"]):
        after = dataclasses.make_dataclass("Changed", fields, namespace={"__module__": __name__})
        with pytest.raises(DecodeError):
            ValueCodec([after]).decode(data)
    kinds: list[Any] = [enum.Enum("Kind", names, module=__name__) for names in ("A B", "A C")]
    data = ValueCodec(kinds[:1]).encode(kinds[0].B)
    with pytest.raises(DecodeError):
        ValueCodec(kinds[1:]).decode(data)


def own_mark(cls: type, *items: Any) -> list[Any]:
    """An object as the codec writes it, with parts of one's own."""
    mark = ormsgpack.unpackb(ValueCodec([cls]).encode(SAMPLES[cls]), ext_hook=lambda code, data: (code, bytes(data)))[0]
    return [ormsgpack.Ext(*mark), *items]


SAMPLES: dict[type, Any] = {Amount: Amount(1), Cart: Cart([]), User: User(id=1), Size: Size.SMALL, Rights: Rights.READ}
SAMPLES[Price] = Price(1)
HOSTILE_OBJECTS: dict[str, Any] = {
    "too few fields": own_mark(Amount, 1),
    "too many fields": own_mark(Cart, 1, 2, 3, 4),
    "no member": own_mark(Size, "LARGE"),
    "no name": own_mark(Size, [1]),
    "no number": own_mark(Rights, "READ"),
    "no such flag": own_mark(Rights, 64),
    "fields set of numbers": own_mark(User, 1, "a", None, None, [1]),
    "extra a list": own_mark(User, 1, "a", [1], None, []),
    "private by number": own_mark(User, 1, "a", None, {"a": 1}, 5),
    "unreadable": own_mark(Price, ["unreadable"]),
    "another class": own_mark(Price, ["other"]),
    "no value": own_mark(Price),
    "mark alone": own_mark(Amount)[0],
    "mark inside": [1, own_mark(Amount)[0]],
    "unknown class": [ormsgpack.Ext(5, b"os:system"), "ls"],
    "no class": [ormsgpack.Ext(5, b""), 1],
}


@pytest.mark.parametrize("packed", HOSTILE_OBJECTS.values(), ids=HOSTILE_OBJECTS)
def test_value_codec__hostile_objects(packed):
    """Parts that are none of the class's are refused, and nothing else is raised."""
    for placed in (packed, [packed], {"k": packed}):
        with pytest.raises(DecodeError):
            ValueCodec(OWN).decode(ormsgpack.packb(placed))


class Bare:
    """Says nothing of what it holds."""


class HalfWay:
    def __cache_value__(self) -> int:
        return 1


@dataclasses.dataclass
class Listed(list):  # type: ignore[type-arg]
    x: int


class Abstract(abc.ABC):
    @abc.abstractmethod
    def run(self) -> None: ...


CLASSES: dict[str, tuple[Any, str]] = {
    "no fields": ([Bare], "Bare: it must be a dataclass"),
    "built in": ([dict], "dict: it must be"),
    "exception": ([ValueError], "ValueError: it must be"),
    "half": ([HalfWay], "HalfWay needs both"),
    "holds more": ([Listed], "Listed: its objects hold more"),
    "mapped": ([Person], "Person: it must be"),
    "abstract": ([dataclasses.dataclass(Abstract)], "Abstract: Can't instantiate"),
    "an object": ([Cart([])], "takes classes"),
    "one class": (Cart, r"write values=\["),
    "two of one name": ([Pair, collections.namedtuple("Pair", "b a")], r"two classes named .*Pair"),
}


@pytest.mark.parametrize(("classes", "says"), CLASSES.values(), ids=CLASSES)
def test_value_codec__classes_that_cannot_be_named(classes, says):
    """A class whose objects could not be made again exactly is an error where it is named."""
    with pytest.raises(ConfigError, match=says):
        ValueCodec(classes)


def test_value_codec__a_class_named_twice():
    """It is the same class."""
    assert ValueCodec([Cart, Cart]).encode(Cart([])) == ValueCodec([Cart]).encode(Cart([]))


def test_codec__imports_nothing_that_can_run_what_it_reads():
    """No pickle, marshal, shelve, eval or exec is anywhere in the codec's source."""
    package = Path(inspect.getfile(flask_rcache.codec)).parent
    sources = list(package.glob("*.py"))
    assert len(sources) >= 4
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {node.module or ""}
            else:
                names = {node.id} if isinstance(node, ast.Name) else set()
            assert not names & {
                "pickle",
                "_pickle",
                "marshal",
                "shelve",
                "dill",
                "eval",
                "exec",
                "__import__",
            }
