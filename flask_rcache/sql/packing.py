"""Rows as bytes and back: by columns, each in the densest form that gives its values back exactly.

Owns the format of cached results. A column whose values are all of one of the common types is an array of numbers or of
texts; any other goes through the value codec, which keeps what it can keep exactly and refuses the rest.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import repeat
from typing import Any, Final
from uuid import UUID, SafeUUID

import ormsgpack

from ..codec import ValueCodec
from ..errors import DecodeError, EncodeError
from ..model.named_tuple import NamedTuple

__all__ = ["Rows", "pack", "unpack"]

_EPOCH: Final = datetime(1970, 1, 1)  # of naive datetimes
_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_VERSION: Final = 1
_SIZES: Final = "bhiq"

Packed = list[Any]


class Rows(NamedTuple):
    """A result.

    Args:
        names: of the columns, in order; two may be the same, then the last one counts in a mapping.
        rows: the values, row by row.
    """

    names: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]

    def mappings(self) -> list[dict[str, Any]]:
        """A dict for each row."""
        return list(map(dict, map(zip, repeat(self.names), self.rows)))


def pack(result: Rows, codec: ValueCodec) -> bytes:
    """The bytes of a result.

    Args:
        result: what a query gave.
        codec: the app's, for columns of uncommon types.

    Raises:
        EncodeError: a column has values that would not come back exactly.
    """
    columns: list[Packed] = []
    for name, values in zip(result.names, zip(*result.rows, strict=True), strict=False):
        try:
            columns.append(_column(values, codec))
        except EncodeError as error:
            raise EncodeError(f"column {name!r}: {error}") from error
    return ormsgpack.packb([_VERSION, sys.byteorder, list(result.names), len(result.rows), columns])


def unpack(data: bytes, codec: ValueCodec) -> Rows:
    """The result that :func:`pack` made bytes of.

    Raises:
        DecodeError: they are none.
    """
    try:
        version, order, names, count, columns = ormsgpack.unpackb(data)
        if version != _VERSION:
            raise DecodeError(f"rows of version {version}")
        swaps = order != sys.byteorder
        values = [_values(column, codec, count, swaps=swaps) for column in columns]
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise DecodeError(f"not packed rows: {error}") from error
    return Rows(tuple(names), list(zip(*values, strict=True)) if values else [()] * count)


def _column(values: Sequence[Any], codec: ValueCodec) -> Packed:
    """One column: the code of its form, the rows that are ``None``, and what the form needs."""
    kinds = set(map(type, values))
    nulls: list[int] = []
    if type(None) in kinds and len(kinds) == 2:
        nulls = [index for index, value in enumerate(values) if value is None]
        values = [value for value in values if value is not None]
        kinds.discard(type(None))
    if len(kinds) == 1:
        (kind,) = kinds
        form = _FORMS.get(kind)
        if form is not None:
            packed = form.pack(values)
            if packed is not None:
                return [form.code, _gaps(nulls), packed]
    if nulls:
        restored = list(values)
        for index in nulls:
            restored.insert(index, None)
        values = restored
    return ["v", b"", codec.encode(list(values))]


def _values(column: Packed, codec: ValueCodec, count: int, *, swaps: bool) -> Sequence[Any]:
    code, gaps, packed = column
    if code == "v":
        values: list[Any] = codec.decode(packed)
    else:
        values = _BY_CODE[code].unpack(packed, swaps)
        position = 0
        for gap in _unsized("i", gaps, swaps):
            position += gap
            values.insert(position, None)
    if len(values) != count:
        raise DecodeError("a column of another length")
    return values


def _gaps(nulls: Sequence[int]) -> bytes:
    """The places of what is missing, each as the distance from the one before: small numbers compress well."""
    return array("i", [place - before for place, before in zip(nulls, (0, *nulls), strict=False)]).tobytes()


def _sized(numbers: Sequence[int]) -> list[Any] | None:
    """Integers in the smallest size that holds them all; ``None`` for larger ones."""
    for size in _SIZES:
        try:
            return [size, array(size, numbers).tobytes()]
        except OverflowError:
            continue
    return None


def _unsized(size: str, data: bytes, swaps: bool) -> list[Any]:
    numbers = array(size)
    numbers.frombytes(data)
    if swaps:
        numbers.byteswap()
    return numbers.tolist()


def _read_integers(packed: Any, swaps: bool) -> list[Any]:
    return _unsized(packed[0], packed[1], swaps)


# Each form: what it makes of the values, and back


def _pack_texts(values: Sequence[str]) -> Any:
    """Texts, each once when they repeat; ``None`` where one is not UTF-8."""
    try:
        distinct = list(dict.fromkeys(values))
        if len(distinct) * 2 > len(values):
            return [list(values)]
        numbers = {text: index for index, text in enumerate(distinct)}
        packed = [distinct, *(_sized([numbers[value] for value in values]) or ())]
        ormsgpack.packb(distinct)
    except (TypeError, ValueError):
        return None
    return packed


def _checked_texts(values: Sequence[str]) -> Any:
    packed = _pack_texts(values)
    try:
        ormsgpack.packb(packed)
    except (TypeError, ValueError):
        return None
    return packed


def _read_texts(packed: Any, swaps: bool) -> list[Any]:
    if len(packed) == 1:
        return list(packed[0])
    distinct, size, data = packed
    return list(map(distinct.__getitem__, _unsized(size, data, swaps)))


def _pack_decimals(values: Sequence[Decimal]) -> Any:
    """Decimals of one exponent, as money has, by their digits; others by their texts."""
    exponents = {value.as_tuple().exponent for value in values}
    if len(exponents) == 1:
        (exponent,) = exponents
        if isinstance(exponent, int) and not any(value.is_zero() and value.is_signed() for value in values):
            numbers = _sized([int(value.scaleb(-exponent)) for value in values]) if abs(exponent) < 20 else None
            if numbers is not None and len(numbers) == 2:
                return [exponent, *numbers]
    return [None, list(map(str, values))]


def _read_decimals(packed: Any, swaps: bool) -> list[Any]:
    if packed[0] is None:
        return list(map(Decimal, packed[1]))
    exponent = packed[0]
    if exponent == 0:
        return list(map(Decimal, _unsized(packed[1], packed[2], swaps)))
    return [Decimal(number).scaleb(exponent) for number in _unsized(packed[1], packed[2], swaps)]


def _pack_datetimes(values: Sequence[datetime]) -> Any:
    """Datetimes as microseconds since 1970: naive ones, or all in UTC."""
    zones = {value.tzinfo for value in values}
    if any(value.fold for value in values) or len(zones) != 1:
        return None
    (zone,) = zones
    if zone is not None and zone is not UTC:
        return None
    epoch = _EPOCH if zone is None else _EPOCH_UTC
    numbers = [(value - epoch) // _MICROSECOND for value in values]
    scale = 1_000_000 if all(number % 1_000_000 == 0 for number in numbers) else 1
    return [zone is UTC, scale, *(_sized([number // scale for number in numbers]) or ())]


def _read_datetimes(packed: Any, swaps: bool) -> list[Any]:
    is_utc, scale, size, data = packed
    epoch = _EPOCH_UTC if is_utc else _EPOCH
    if scale == 1:
        return [epoch + timedelta(0, 0, number) for number in _unsized(size, data, swaps)]
    return [epoch + timedelta(0, number) for number in _unsized(size, data, swaps)]


def _read_floats(packed: Any, swaps: bool) -> list[Any]:
    return _unsized("d", packed, swaps)


def _read_uuids(packed: Any) -> list[Any]:
    # Past its constructor, which takes four times as long as all the rest.
    make, assign, unknown = object.__new__, object.__setattr__, SafeUUID.unknown
    found = []
    for start in range(0, len(packed), 16):
        value = make(UUID)
        assign(value, "int", int.from_bytes(packed[start : start + 16], "big"))
        assign(value, "is_safe", unknown)
        found.append(value)
    return found


class _Form(NamedTuple):
    code: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any, bool], list[Any]]


_FORMS: Final[dict[type, _Form]] = {
    int: _Form("i", _sized, _read_integers),
    float: _Form("f", lambda values: array("d", values).tobytes(), _read_floats),
    bool: _Form("b", lambda values: bytes(values), lambda packed, _: list(map(bool, packed))),
    str: _Form("s", _checked_texts, _read_texts),
    Decimal: _Form("d", _pack_decimals, _read_decimals),
    date: _Form(
        "a",
        lambda values: _sized([value.toordinal() for value in values]),
        lambda packed, swaps: list(map(date.fromordinal, _read_integers(packed, swaps))),
    ),
    datetime: _Form("t", _pack_datetimes, _read_datetimes),
    UUID: _Form("u", lambda values: b"".join([value.bytes for value in values]), lambda packed, _: _read_uuids(packed)),
    type(None): _Form("n", len, lambda packed, _: [None] * packed),
}
_BY_CODE: Final = {form.code: form for form in _FORMS.values()}
