"""How the key of a row is spelled, so that whoever reads it and whoever writes it spell it alike. Pure.

Owns which keys are exact: those whose equal values the database holds equal, and no others. A string key in a collation
that ignores case is none, for instance: then the table counts instead of the row.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import types

__all__ = ["KeyKind", "kind_of_name", "kind_of_type", "row_key"]

_LONGEST: Final = 120


class KeyKind(Enum):
    """What a column of a primary key holds."""

    INTEGER = "integer"
    UUID = "uuid"
    TEXT = "text"


#: The databases whose strings are equal only when their characters are, unless a column says otherwise.
_EXACT_STRINGS: Final = frozenset({"postgresql", "sqlite"})
_INTEGERS: Final = frozenset({"bigint", "bigserial", "int", "int2", "int4", "int8", "integer", "mediumint", "smallint"})
_STRINGS: Final = frozenset({"character varying", "nvarchar", "text", "varchar"})


def kind_of_name(name: str, dialect: str) -> KeyKind | None:
    """What a column holds, by its type's name in the database; ``None`` for what is not exact.

    >>> kind_of_name("VARCHAR(20)", "sqlite"), kind_of_name("varchar", "mysql"), kind_of_name("int(11)", "mysql")
    (<KeyKind.TEXT: 'text'>, None, <KeyKind.INTEGER: 'integer'>)
    """
    plain = name.partition("(")[0].strip().lower().removesuffix(" unsigned")
    if plain in _INTEGERS:
        return KeyKind.INTEGER
    if plain == "uuid":
        return KeyKind.UUID
    return KeyKind.TEXT if plain in _STRINGS and dialect in _EXACT_STRINGS else None


def kind_of_type(type_: Any, dialect: str) -> KeyKind | None:
    """What a SQLAlchemy column holds, by its type; ``None`` for what is not exact, or is of the app's making."""
    if isinstance(type_, types.TypeDecorator):
        return None
    if isinstance(type_, types.Integer):
        return KeyKind.INTEGER
    if isinstance(type_, types.Uuid):
        return KeyKind.UUID
    is_string = isinstance(type_, types.String) and not isinstance(type_, types.Enum | types.CHAR)
    exact = is_string and not type_.collation and dialect in _EXACT_STRINGS
    return KeyKind.TEXT if exact else None


def row_key(kinds: Mapping[str, KeyKind | None], values: Sequence[Any]) -> str | None:
    """The key of a row, spelled; ``None`` where it is not exact.

    Args:
        kinds: the columns of the primary key in their order, with what each holds.
        values: of these columns.

    >>> row_key({"id": KeyKind.INTEGER}, ["42"]), row_key({"a": KeyKind.TEXT, "b": KeyKind.INTEGER}, ["x/y", True])
    ('42', 'x%2Fy/1')
    """
    spelled = []
    for kind, value in zip(kinds.values(), values, strict=True):
        part = None if kind is None else _SPELLED[kind](value)
        if part is None:
            return None
        spelled.append(part)
    return "/".join(spelled)


def _integer(value: Any) -> str | None:
    if type(value) is int:
        return str(value)
    if isinstance(value, int):  # True, or an enum
        return str(int(value))
    try:
        if isinstance(value, float | Decimal):
            return str(int(value)) if value == int(value) else None
        if isinstance(value, str):
            text = value.strip()
            return str(int(text)) if text.removeprefix("-").isdecimal() and text.isascii() else None
    except (ValueError, OverflowError):  # no number, an infinite one, or one of thousands of digits
        pass
    return None


def _uuid(value: Any) -> str | None:
    if isinstance(value, uuid.UUID):
        return str(value)
    try:
        return str(uuid.UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or isinstance(value, Enum):
        return None
    return quote(value, safe="") if len(value) <= _LONGEST else None


_SPELLED: Final = {KeyKind.INTEGER: _integer, KeyKind.UUID: _uuid, KeyKind.TEXT: _text}
