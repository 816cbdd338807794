"""Scalars that MessagePack has no type for, as its extensions.

Owns the extension codes from 16 up and what their payloads hold; the containers' marks, below 16, are in
:mod:`~flask_rcache.codec.values`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

import ormsgpack
from markupsafe import Markup

from flask_rcache.errors import EncodeError
from flask_rcache.model.objects import a_type

__all__ = ["EXT_TO_SCALAR", "FIRST_SCALAR", "SCALAR_TO_EXT"]

#: Extensions below it are the marks of containers and objects.
FIRST_SCALAR: Final = 16

_INT, _DECIMAL, _DATE, _DATETIME, _TIME, _TIMEDELTA, _UUID, _COMPLEX = range(16, 24)
_DATETIME_IN_ZONE, _TIME_IN_ZONE, _MARKUP = range(24, 27)

# A context of our own: the thread's decides on letter case, and on whether garbage raises or is NaN.
_DECIMALS: Final = Context(capitals=1, traps=[InvalidOperation])
_TIMEDELTA_FIELDS: Final = struct.Struct(">iii")
_COMPLEX_FIELDS: Final = struct.Struct(">dd")
_MICROSECOND: Final = timedelta(microseconds=1)


def _int(value: int) -> ormsgpack.Ext:
    # From bytes, not digits: reading digits takes time quadratic in their number.
    return ormsgpack.Ext(_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _timedelta(value: timedelta) -> ormsgpack.Ext:
    fields = value.days, value.seconds, value.microseconds
    return ormsgpack.Ext(_TIMEDELTA, _TIMEDELTA_FIELDS.pack(*fields))


def _clock(value: datetime | time, plain: int, in_zone: int) -> ormsgpack.Ext:
    """A datetime or time: ISO text where that says everything, else with its fold and zone beside it."""
    zone = value.tzinfo
    if not value.fold and (zone is None or zone is UTC):
        return ormsgpack.Ext(plain, value.isoformat().encode())
    parts = value.replace(tzinfo=None).isoformat(), value.fold, _zone(zone)
    return ormsgpack.Ext(in_zone, ormsgpack.packb(parts))


def _zone(zone: tzinfo | None) -> str | tuple[int, str] | None:
    """What names ``zone``: a ZoneInfo's key, or a fixed offset in µs and its name."""
    if zone is None:
        return None
    if type(zone) is timezone:
        return zone.utcoffset(None) // _MICROSECOND, zone.tzname(None)
    from zoneinfo import ZoneInfo  # brings the build's configuration along, which few need

    if type(zone) is not ZoneInfo:
        raise EncodeError(f"its tzinfo is {a_type(type(zone))}; use datetime.timezone or ZoneInfo")
    # Python compares two clocks as of one zone only when they share the object that ZoneInfo(key) gives.
    if zone.key is None or ZoneInfo(zone.key) is not zone:
        raise EncodeError("its ZoneInfo is not the one that ZoneInfo(key) gives")
    return zone.key


def _read_zone(zone: Any) -> tzinfo | None:
    if zone is None:
        return None
    if type(zone) is str:
        from zoneinfo import ZoneInfo

        return ZoneInfo(zone)  # which refuses a key that leads out of its directories
    micros, name = zone
    offset = timedelta(microseconds=micros)
    unnamed = timezone(offset)
    return unnamed if unnamed.tzname(None) == name else timezone(offset, name)


def _read_clock(kind: type[datetime] | type[time], data: bytes) -> datetime | time:
    text, fold, zone = ormsgpack.unpackb(data)
    return kind.fromisoformat(text).replace(tzinfo=_read_zone(zone), fold=fold)


#: Writes a scalar of exactly this type; raises anything where the scalar cannot be kept.
SCALAR_TO_EXT: Final[dict[type, Callable[[Any], ormsgpack.Ext]]] = {
    int: _int,
    Decimal: lambda value: ormsgpack.Ext(_DECIMAL, _DECIMALS.to_sci_string(value).encode()),
    date: lambda value: ormsgpack.Ext(_DATE, value.isoformat().encode()),
    datetime: lambda value: _clock(value, _DATETIME, _DATETIME_IN_ZONE),
    time: lambda value: _clock(value, _TIME, _TIME_IN_ZONE),
    timedelta: _timedelta,
    # Its is_safe, a hint at how it was generated that takes no part in equality, is not kept.
    UUID: lambda value: ormsgpack.Ext(_UUID, value.bytes),
    complex: lambda value: ormsgpack.Ext(_COMPLEX, _COMPLEX_FIELDS.pack(value.real, value.imag)),
    Markup: lambda value: ormsgpack.Ext(_MARKUP, str.encode(value)),
}
#: Reads the payload of an extension; raises anything where it is not what we write.
EXT_TO_SCALAR: Final[dict[int, Callable[[bytes], Any]]] = {
    _INT: lambda data: int.from_bytes(data, "big", signed=True),
    _DECIMAL: lambda data: Decimal(data.decode("ascii"), _DECIMALS),
    _DATE: lambda data: date.fromisoformat(data.decode("ascii")),
    _DATETIME: lambda data: datetime.fromisoformat(data.decode("ascii")),
    _TIME: lambda data: time.fromisoformat(data.decode("ascii")),
    _TIMEDELTA: lambda data: timedelta(*_TIMEDELTA_FIELDS.unpack(data)),
    _UUID: lambda data: UUID(bytes=data),
    _COMPLEX: lambda data: complex(*_COMPLEX_FIELDS.unpack(data)),
    _DATETIME_IN_ZONE: lambda data: _read_clock(datetime, data),
    _TIME_IN_ZONE: lambda data: _read_clock(time, data),
    _MARKUP: lambda data: Markup(data.decode()),  # noqa: S704  # it was one when it was stored
}
