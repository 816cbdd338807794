"""The codec: exact values back or a refusal, and nothing but ``DecodeError`` from bytes that are not ours."""

from __future__ import annotations

import ast
import collections
import contextlib
import dataclasses
import enum
import inspect
import io
import math
import os
import random
import struct
import threading
import tracemalloc
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

import ormsgpack
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import flask_rcache.codec
from flask_rcache.codec import IDENTITY, MAGIC, MAX_DEPTH, TIMES, Codec, decode_value, encode_value
from flask_rcache.errors import DecodeError, EncodeError
from flask_rcache.model.entry import Draft, Entry, StoredResponse

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
]


@pytest.mark.parametrize("value", EXACT, ids=lambda value: repr(value)[:40])
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
    "Enum": (Colour.RED, "test_codec.Colour"),
    "IntEnum": (Number.ONE, "test_codec.Number"),
    "StrEnum": (Letter.A, "test_codec.Letter"),
    "str subclass": (Text("a"), "test_codec.Text"),
    "int subclass": (Whole(1), "test_codec.Whole"),
    "big int subclass": (Whole(2**70), "test_codec.Whole"),
    "float subclass": (Real(1), "test_codec.Real"),
    "bytes subclass": (Octets(b"a"), "test_codec.Octets"),
    "Decimal subclass": (Money(1), "test_codec.Money"),
    "datetime subclass": (Moment(2026, 1, 1), "test_codec.Moment"),
    "UUID subclass": (Identity(int=1), "test_codec.Identity"),
    "OrderedDict": (collections.OrderedDict(a=1), "collections.OrderedDict"),
    "defaultdict": (collections.defaultdict(int), "collections.defaultdict"),
    "Counter": (collections.Counter("a"), "collections.Counter"),
    "namedtuple": (Pair(1, 2), "test_codec.Pair"),
    "dataclass": (Point(1), "test_codec.Point"),
    "bytearray": (bytearray(b"a"), "bytearray"),
    "memoryview": (memoryview(b"a"), "memoryview"),
    "ormsgpack.Ext": (ormsgpack.Ext(1, b""), "ormsgpack.Ext"),
    "ormsgpack.Fragment": (ormsgpack.Fragment(b"\x01"), "ormsgpack.Fragment"),
    "class": (tuple, "type"),
    "range": (range(3), "range"),
    "generator": ((digit for digit in "12"), "generator"),
    "function": (len, "builtin_function_or_method"),
    "object": (object(), "object"),
    "hostile": (Hostile(), "test_codec.Hostile"),
    "deque": (collections.deque(), "collections.deque"),
    "dict view": ({}.keys(), "dict_keys"),
    "exception": (ValueError("x"), "ValueError"),
    "lone surrogate": ("\ud800", "surrogate"),
    "foreign tzinfo": (datetime(2026, 1, 1, tzinfo=Lunar()), "test_codec.Lunar"),
    "foreign tzinfo in time": (time(1, tzinfo=Lunar()), "test_codec.Lunar"),
    "ZoneInfo subclass": (datetime(2026, 1, 1, tzinfo=Zone("Europe/Paris")), "test_codec.Zone"),
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


# --- the envelope ---

PAGE = StoredResponse(
    "200 OK",
    (("Content-Type", "text/html; charset=utf-8"), ("Set-Thing", "a"), ("Set-Thing", "b"), ("X-Name", "é")),
    b"<p>a page like any other</p>" * 100,
)
VALUE = Draft(encode_value({"rows": [(1, Decimal("2.50"))]}), ttl=300.0, tags=("type:product", "*"))
DRAFTS = {
    "value": VALUE,
    "response": Draft(PAGE, ttl=1.5, stale_while_revalidate=2.5, stale_if_error=3.5, tags=("a",), cost=0.25),
    "handed": Draft(b"\xc0", ttl=1.0, tags=("a",), handed=(("b", 7), ("c", 2**64 - 1))),
    "bare": Draft(b"", ttl=0.0),
    "empty response": Draft(StoredResponse("204 NO CONTENT", (), b""), ttl=1.0),
    "incompressible": Draft(random.Random(1).randbytes(5000), ttl=1.0),
}


def envelope(body: bytes, *, flags: int = 0, size: int | None = None, magic: bytes = MAGIC, **meta: Any) -> bytes:
    """An envelope by the format's letter: what a writer that is not the codec would store."""
    fields = {"ttl": 1.0, "swr": 0.0, "sie": 0.0, "cost": 0.0, "own": ["a"], "handed": [], "status": None}
    fields |= {"headers": None, "size": len(body) if size is None else size} | meta
    packed = ormsgpack.packb(list(fields.values()))
    return struct.pack(">4sQQQBI", magic, 1, 2, 3, flags, len(packed)) + packed + body


@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS.keys())
@pytest.mark.parametrize("compress_from", [0, 1024, 10**9])
def test_codec__seal_unseal(draft, compress_from):
    """An entry comes back; its own tags take the load's ``as_of``, those handed up keep theirs."""
    codec = Codec(compress_from=compress_from)
    for times in ({"epoch": 0, "as_of": 0, "created": 0}, {"epoch": 2**64 - 1, "as_of": 5, "created": 2**63}):
        assert codec.unseal(codec.seal(draft, **times)) == Entry.of(draft, **times)


def test_codec__times_are_overwritten_in_place():
    """A store writes epoch, as_of and created over the envelope, and own tags follow."""
    codec = Codec()
    for draft in DRAFTS.values():
        raw = bytearray(codec.seal(draft))
        raw[TIMES] = struct.pack(">QQQ", 11, 22, 33)
        assert codec.unseal(bytes(raw)) == Entry.of(draft, epoch=11, as_of=22, created=33)
        assert bytes(raw[IDENTITY]) == struct.pack(">QQ", 11, 22)


def test_codec__unseals_the_format_by_its_letter():
    """The layout is a contract with the scripts in the store, and with other versions."""
    entry = Codec().unseal(envelope(b"body", handed=[["b", 9]]))
    assert entry == Entry(b"body", 1, 2, 3, 1.0, tags=(("a", 2), ("b", 9)))


def test_codec__compresses_what_is_worth_it():
    """From the threshold on, and only where it makes the body smaller."""
    text, noise = b"a page " * 1000, random.Random(2).randbytes(7000)
    for body, smaller in ((text, True), (noise, False), (b"a" * 1023, False), (b"a" * 1024, True)):
        raw = Codec().seal(Draft(body, ttl=1.0))
        assert (len(raw) < len(body)) == smaller
        assert Codec().unseal(raw).content == body
    # A reader's threshold says nothing about what others have written.
    assert Codec(compress_from=10**9).unseal(Codec(compress_from=0).seal(Draft(text, ttl=1.0))).content == text


@pytest.mark.parametrize(
    "draft",
    [
        dataclasses.replace(VALUE, ttl=math.nan),
        dataclasses.replace(VALUE, ttl=-1.0),
        dataclasses.replace(VALUE, ttl=10**400),
        dataclasses.replace(VALUE, stale_if_error=math.inf),
        dataclasses.replace(VALUE, cost=-0.1),
        dataclasses.replace(VALUE, tags=("\ud800",)),
        dataclasses.replace(VALUE, tags=(1,)),  # type: ignore[arg-type]
        dataclasses.replace(VALUE, handed=(("a", -1),)),
        dataclasses.replace(VALUE, handed=(("a", 2**64),)),
        Draft(StoredResponse("200 OK", (("X", "\ud800"),), b""), ttl=1.0),
    ],
    ids=lambda draft: repr(draft)[-90:],
)
def test_codec__seal_refuses_nonsense(draft):
    """Nothing is written that could not be read again."""
    with pytest.raises(EncodeError):
        Codec().seal(draft)


def test_codec__max_size():
    """The cap holds for the body before compression, when writing and when reading, and names itself."""
    codec, body = Codec(max_size=10_000), b"x" * 10_000
    assert codec.unseal(codec.seal(Draft(body, ttl=1.0))).content == body
    with pytest.raises(EncodeError, match="10000"):
        codec.seal(Draft(body + b"x", ttl=1.0))
    for compress_from in (0, 10**9):
        with pytest.raises(DecodeError):
            codec.unseal(Codec(compress_from=compress_from).seal(Draft(body + b"x", ttl=1.0)))


def test_codec__times_out_of_range():
    """A time that is not 64 bits unsigned is refused."""
    for times in ({"epoch": -1}, {"as_of": 2**64}):
        with pytest.raises(EncodeError):
            Codec().seal(VALUE, **times)


FRAME = zstandard.compress(b"a" * 100)
UNSIZED = zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 100)
NOT_ENTRIES = {
    "empty": b"",
    "head only": envelope(b"")[:33],
    "other magic": envelope(b"", magic=b"XYZ\x01"),
    "next version": envelope(b"", magic=b"RCE\x02"),
    "unknown kind": envelope(b"", flags=0b100),
    "unknown kind of a response": envelope(b"", flags=0b110, status="200 OK", headers=[]),
    "unknown flag": envelope(b"", flags=0b1010, status="200 OK", headers=[]),
    "body cut": envelope(b"body")[:-1],
    "body longer": envelope(b"body") + b"x",
    "response as value": envelope(b"", status="200 OK", headers=[]),
    "value as response": envelope(b"", flags=0b10),
    "status only": envelope(b"", flags=0b10, status="200 OK"),
    "status a number": envelope(b"", flags=0b10, status=200, headers=[]),
    "odd headers": envelope(b"", flags=0b10, status="200 OK", headers=["a"]),
    "header a number": envelope(b"", flags=0b10, status="200 OK", headers=["a", 1]),
    "headers a str": envelope(b"", flags=0b10, status="200 OK", headers="ab"),
    "ttl an int": envelope(b"", ttl=1),
    "ttl NaN": envelope(b"", ttl=math.nan),
    "swr infinite": envelope(b"", swr=math.inf),
    "sie negative": envelope(b"", sie=-1.0),
    "cost None": envelope(b"", cost=None),
    "tag a number": envelope(b"", own=[1]),
    "tags a str": envelope(b"", own="ab"),
    "tags a dict": envelope(b"", own={"a": 1}),
    "handed alone": envelope(b"", handed=["a"]),
    "handed negative": envelope(b"", handed=[["a", -1]]),
    "handed a bool": envelope(b"", handed=[["a", True]]),
    "handed three": envelope(b"", handed=[["a", 1, 2]]),
    "size a bool": envelope(b"a", size=True),
    "size negative": envelope(b"", size=-1),
    "one field more": envelope(b"", more=1),
    "not zstd": envelope(b"body", flags=1),
    "no frame": envelope(b"", flags=1),
    "frame cut": envelope(FRAME[:-1], flags=1, size=100),
    "frame and more": envelope(FRAME + b"x", flags=1, size=100),
    "two frames": envelope(FRAME + FRAME, flags=1, size=100),
    "frames of both sizes": envelope(FRAME + FRAME, flags=1, size=200),
    "frame of unstated size": envelope(UNSIZED, flags=1, size=100),
    "frame of another size": envelope(FRAME, flags=1, size=99),
}


@pytest.mark.parametrize("raw", NOT_ENTRIES.values(), ids=NOT_ENTRIES.keys())
def test_codec__not_an_entry(raw):
    """Foreign, cut, or contradictory bytes are refused."""
    with pytest.raises(DecodeError):
        Codec().unseal(raw)


def test_codec__bomb_is_refused_before_it_is_allocated():
    """A few KB that declare 200 MB cost next to no memory, whatever size the entry claims."""
    size = 200 * 1024 * 1024
    stream = zstandard.ZstdCompressor().compressobj(size=size)
    chunk = bytes(1024 * 1024)
    bomb = b"".join([*(stream.compress(chunk) for _ in range(200)), stream.flush()])
    assert len(bomb) < 50_000
    assert zstandard.frame_content_size(bomb) == size
    for claimed in (size, 10, 2**64 - 1):
        raw = envelope(bomb, flags=1, size=claimed)
        tracemalloc.start()
        try:
            with pytest.raises(DecodeError):
                Codec().unseal(raw)
            assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("draft", DRAFTS.values(), ids=DRAFTS.keys())
def test_codec__every_truncation(draft):
    """No prefix of an entry is an entry."""
    raw = Codec().seal(draft)
    for length in range(len(raw)):
        with pytest.raises(DecodeError):
            Codec().unseal(raw[:length])


SEALED = [Codec().seal(draft) for draft in DRAFTS.values()]


@given(st.sampled_from(SEALED), st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4))
def test_codec__flipped_bits(raw, flips):
    """Damage gives an entry or DecodeError, and nothing else; so does the value in it."""
    damaged = bytearray(raw)
    for position, mask in flips:
        damaged[position % len(raw)] ^= mask
    try:
        entry = Codec().unseal(bytes(damaged))
        if isinstance(entry.content, bytes):
            decode_value(entry.content)
    except DecodeError:
        pass


@given(st.binary(max_size=300))
def test_codec__any_bytes(data):
    """Any bytes, also behind the right magic, give an entry or DecodeError."""
    for raw in (data, MAGIC + data, envelope(b"")[:33] + data):
        with contextlib.suppress(DecodeError):
            Codec().unseal(raw)


def test_codec__threads_share_one():
    """Eight threads through one codec neither crash the process nor mix their bodies."""
    codec, start = Codec(compress_from=0), threading.Barrier(8)
    wrong: list[Draft] = []
    noise = random.Random(3).randbytes(40_000).hex().encode()  # large, so that they do run at the same time

    def work(number: int) -> None:
        drafts = [Draft(noise[turn * 997 :] + bytes([number]), ttl=1.0) for turn in range(50)]
        start.wait()
        wrong.extend(draft for draft in drafts if codec.unseal(codec.seal(draft)).content != draft.content)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_codec__after_fork():
    """A forked worker uses the codec it inherited."""
    codec = Codec(compress_from=0)
    raw = codec.seal(DRAFTS["response"])
    child = os.fork()
    if not child:
        os._exit(0 if codec.unseal(raw) == Entry.of(DRAFTS["response"], epoch=0, as_of=0, created=0) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert codec.seal(DRAFTS["response"]) == raw


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
