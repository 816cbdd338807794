"""Ids of keys: any Python key as a short, safe text, in which type and length of every part count.

Owns what may stand in a key and when two keys are one. How ids become stored keys is ``keys``'s.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import struct
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from itertools import chain
from operator import methodcaller
from typing import Any, Final
from uuid import UUID

from markupsafe import Markup

from ..errors import InvalidKeyError
from .objects import (
    attributes,
    class_fingerprint,
    class_name,
    field_names,
    has_hidden_state,
    is_model,
    is_named_tuple,
    is_of_sqlalchemy,
    type_name,
)

__all__ = ["READABLE", "Key", "hashed_id", "is_plain", "key_id", "request_id"]

#: What names an entry within its cache type.
Key = str | int | tuple[object, ...]

#: Ids that stay readable; everything else is hashed. ``~`` is not in it, so no readable id is a hashed one.
READABLE: Final = re.compile(r"[A-Za-z0-9_.@=+,/-]+(?::[A-Za-z0-9_.@=+,/-]+)*")
_READABLE_LENGTH: Final = 200
_LONGEST_INT: Final = 10**30
_DIGEST: Final = 16  # bytes: 128 bits
_DEEPEST: Final = 32
_encode: Final = methodcaller("encode", "utf-8", "surrogatepass")


def key_id(key: object) -> str:
    """The id of a key within its type: two keys are one exactly when their ids are.

    Python holds ``(1,)``, ``(1.0,)`` and ``(True,)`` equal; so in a dict, what belongs to a key stands under its id.

    Args:
        key: a string, an integer or a tuple. A tuple may hold scalars, ``Markup``, tuples, lists, sets and dicts; enum
            members, dataclasses, named tuples and pydantic models, by class and fields; objects that define
            ``__cache_key__()``, by class and what that returns; and containers of other classes (a ``MultiDict``) that
            show everything they hold. These may be nested.

    Returns:
        The key itself when it is short and harmless, else ``~`` and a 128-bit hash of its typed form.

    Raises:
        InvalidKeyError: another type, or a tuple that holds something without a stable form.

    >>> key_id("patient-42"), key_id(42)
    ('patient-42', '42')
    >>> key_id("a*b")[0]
    '~'
    >>> key_id((1, "1")) == key_id(("1", 1))
    False
    """
    if type(key) is str:
        if 0 < len(key) <= _READABLE_LENGTH and READABLE.fullmatch(key):
            return key
        return hashed_id(b"str", key.encode("utf-8", "surrogatepass"))
    if type(key) is int:
        return str(key) if -_LONGEST_INT < key < _LONGEST_INT else hashed_id(b"int", b"%x" % key)
    if isinstance(key, tuple):
        return hashed_id(b"tuple", _joined(key, -1))
    if isinstance(key, str | int) and not isinstance(key, bool):  # a subclass: its own text would surprise
        raise InvalidKeyError(
            f"a key must be a plain str or int, not the subclass {type(key).__name__}: convert it first"
        )
    raise InvalidKeyError(f"a key must be a str, an int or a tuple, not {type(key).__name__}: put it into a tuple")


def hashed_id(kind: bytes, data: bytes) -> str:
    """The id of what is not readable: data of different kinds never share one."""
    return "~" + blake2b(data, digest_size=_DIGEST, person=kind).hexdigest()


def request_id(parts: Iterable[str]) -> str:
    """The id of a request: its parts length-prefixed and hashed, so that no two lists of parts meet.

    >>> request_id(["a", "bc"]) == request_id(["ab", "c"])
    False
    """
    encoded = tuple(map(_encode, parts))
    # All in one: each miss passes here.
    return hashed_id(
        b"request", b"%d:%b" * len(encoded) % (*chain.from_iterable(zip(map(len, encoded), encoded, strict=True)),)
    )


def is_plain(value: object) -> bool:
    """Whether a value can stand in a key and never changes: a scalar, or tuples and frozensets of them.

    >>> is_plain((1, "a", None)), is_plain([1]), is_plain(len)
    (True, False, False)
    """
    if type(value) in _SCALARS:
        return True
    if type(value) not in (tuple, frozenset):
        return False
    try:
        key_id((value,))
        return all(map(is_plain, value))  # type: ignore[call-overload]
    except InvalidKeyError:
        return False


# The typed form: each part begins with a letter for its kind and, where it has parts, their number or length, so that
# no two values share a form.


def _typed(value: Any, out: list[bytes], depth: int) -> None:
    """Append the typed form of a value."""
    if depth > _DEEPEST:
        raise InvalidKeyError(f"a key tuple is nested more than {_DEEPEST} deep: pass an id instead")
    kind = type(value)
    if kind is str:
        data = _text(value)
        out.append(b"s%d:%b" % (len(data), data))
    elif kind in _SCALARS:
        data = _scalar(value)
        out.append(b"%b%d:%b" % (_SCALARS[kind], len(data), data))
    elif kind is tuple or kind is list:
        _sequence(b"(" if kind is tuple else b"[", value, out, depth)
    elif kind is dict:
        _mapping(value, out, depth)
    elif kind is set or kind is frozenset:
        _members(value, out, depth)
    else:
        _object(value, kind, out, depth)


def _joined(value: object, depth: int) -> bytes:
    out: list[bytes] = []
    _typed(value, out, depth + 1)
    return b"".join(out)


def _sequence(letter: bytes, items: Sequence[object], out: list[bytes], depth: int) -> None:
    out.append(b"%s%d:" % (letter, len(items)))
    for item in items:
        _typed(item, out, depth + 1)


def _mapping(value: dict[Any, object], out: list[bytes], depth: int) -> None:
    """A dict, whatever the order of its keys."""
    out.append(b"{%d:" % len(value))
    if set(map(type, value)) <= {str}:
        for name in sorted(value):
            _typed(name, out, depth + 1)
            _typed(value[name], out, depth + 1)
        return
    for pair in sorted((_joined(name, depth), _joined(item, depth)) for name, item in value.items()):
        out.extend(pair)


def _members(items: Iterable[object], out: list[bytes], depth: int) -> None:
    members = sorted(_joined(item, depth) for item in items)
    out.append(b"<%d:" % len(members))
    out.extend(members)


def _object(value: Any, kind: type, out: list[bytes], depth: int) -> None:
    """The typed form of an object: its class, and what it says of itself or all that it shows."""
    own_key = getattr(kind, "__cache_key__", None)
    if own_key is not None:
        letter, parts = b"k", [own_key(value)]
    elif is_of_sqlalchemy(kind):
        raise InvalidKeyError(f"a key cannot hold {type_name(kind)}, an object of SQLAlchemy: pass its id instead")
    elif issubclass(kind, Enum):
        # Two classes of one name may give a member different values.
        letter, parts = b"e", [value.name, value.value if is_plain(value.value) else None]
    elif (names := field_names(kind)) is not None and not has_hidden_state(kind):
        letter, parts = b"o", _fields(value, kind, names)
    elif issubclass(kind, Collection) and not has_hidden_state(kind):
        letter, parts = b"c", _contents(value, kind)
    else:
        raise InvalidKeyError(
            f"a key cannot hold {type_name(kind)}: pass its id or plain data, give the class a __cache_key__(), "
            "or use key_func="
        )
    out.append(letter)
    _typed(class_name(kind), out, depth)
    _typed(class_fingerprint(kind), out, depth)
    _sequence(b"(", parts, out, depth)


def _fields(value: Any, kind: type, names: tuple[str, ...]) -> list[object]:
    """The fields of a dataclass, named tuple or model, and what else it holds."""
    if is_named_tuple(kind):
        fields: list[object] = [names]
    else:
        try:
            fields = [(name, getattr(value, name)) for name in names]
        except AttributeError as error:
            raise InvalidKeyError(f"a key cannot hold a {type_name(kind)} that lacks a field: {error}") from error
    if is_model(kind):
        return [fields, *(getattr(value, name, None) for name in ("__pydantic_extra__", "__pydantic_private__"))]
    return [fields, _items(value), [pair for pair in attributes(value) if pair[0] not in names]]


def _contents(value: Any, kind: type) -> list[object]:
    """All that a container of another class holds, so that no two that differ have one key."""
    held = attributes(value)
    if hasattr(kind, "getlist") and not isinstance(value, dict):  # the headers of a request, which lie in its environ
        return [list(value), [pair for pair in held if pair[0] != "environ"]]
    return [_items(value), held]


def _items(value: Any) -> object:
    """The items of a container that is made of a built-in one, whatever its own methods show of them.

    One that is made of none has its items in its attributes.
    """
    if isinstance(value, OrderedDict):
        return list(OrderedDict.items(value))
    if isinstance(value, dict):
        return list(dict.items(value))
    if isinstance(value, list | tuple):
        return list(list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value))
    if isinstance(value, set | frozenset):
        return frozenset(set.__iter__(value) if isinstance(value, set) else frozenset.__iter__(value))
    return None


_SCALARS: Final[Mapping[type, bytes]] = {
    type(None): b"n",
    bool: b"b",
    int: b"i",
    float: b"f",
    complex: b"j",
    str: b"s",
    bytes: b"y",
    Markup: b"m",
    Decimal: b"d",
    dt.date: b"D",
    dt.datetime: b"T",
    dt.time: b"t",
    dt.timedelta: b"l",
    UUID: b"u",
}


def _text(value: str) -> bytes:
    try:
        return str.encode(value)
    except UnicodeEncodeError:  # lone surrogates
        return str.encode(value, "utf-8", "surrogatepass")


def _scalar(value: object) -> bytes:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        # NaN has many bit patterns and one meaning; -0.0 stays apart from 0.0.
        return b"nan" if math.isnan(value) else struct.pack(">d", value)
    if isinstance(value, int):  # hexadecimal: no limit on digits and no quadratic cost
        return b"%x" % value
    if isinstance(value, dt.datetime | dt.time):
        if type(value.tzinfo).__repr__ is object.__repr__:
            raise InvalidKeyError(
                f"a key cannot hold a time in the zone of {type_name(type(value.tzinfo))}: convert it"
            )
        return f"{value.isoformat()}/{value.fold}/{value.tzinfo!r}".encode()
    return str(value).encode()
