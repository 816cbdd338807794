"""Names: how keys, tags and internal keys are spelled. The only module that knows.

Owns the stored key ``{prefix}:{type}:{id}``, the internal names ``{prefix}~…`` beside them, and the hash that
makes any Python key a safe id. Does not read or write anything.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import struct
from collections.abc import Iterable, Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Final
from uuid import UUID

from ..errors import ConfigError, InvalidKeyError

__all__ = [
    "Key",
    "Names",
    "is_plain",
    "key_id",
    "key_tag",
    "request_id",
    "user_tag",
    "tag_of",
    "type_tag",
    "url_tag",
]

#: What names an entry within its cache type.
Key = str | int | tuple[object, ...]

#: Ids that stay readable; everything else is hashed. ``~`` is not in it, so no readable id is a hashed one.
_READABLE: Final = re.compile(r"[A-Za-z0-9_.@=+,/-]+(?::[A-Za-z0-9_.@=+,/-]+)*")
_READABLE_LENGTH: Final = 200
_PREFIX_REFUSED: Final = re.compile(r"""[:~*?\[\]{}"\\]|[^\x21-\x7e]""")
_LONGEST_INT: Final = 10**30
_DIGEST: Final = 16  # bytes: 128 bits


def key_id(key: object) -> str:
    """The id of a key within its type.

    Args:
        key: a string, an integer or a tuple of plain values (nested tuples, lists, sets and dicts included).

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
        if 0 < len(key) <= _READABLE_LENGTH and _READABLE.fullmatch(key):
            return key
        return _hashed(b"str", key.encode("utf-8", "surrogatepass"))
    if type(key) is int:
        return str(key) if -_LONGEST_INT < key < _LONGEST_INT else _hashed(b"int", b"%x" % key)
    if isinstance(key, tuple):
        out: list[bytes] = []
        _typed(key, out, 0)
        return _hashed(b"tuple", b"".join(out))
    if isinstance(key, str | int) and not isinstance(key, bool):  # a subclass: its own text would surprise
        raise InvalidKeyError(f"a key must be a plain str or int, not the subclass {type(key).__name__}: convert it first")
    raise InvalidKeyError(f"a key must be a str, an int or a tuple, not {type(key).__name__} {key!r:.80}")


def _hashed(kind: bytes, data: bytes) -> str:
    return "~" + blake2b(data, digest_size=_DIGEST, person=kind).hexdigest()


def request_id(parts: Iterable[str]) -> str:
    """The id of a request: its parts length-prefixed and hashed, so that no two lists of parts meet.

    >>> request_id(["a", "bc"]) == request_id(["ab", "c"])
    False
    """
    hashed = blake2b(digest_size=_DIGEST, person=b"request")
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:" % len(data) + data)
    return "~" + hashed.hexdigest()


def _typed(value: object, out: list[bytes], depth: int) -> None:
    """Append a form of ``value`` in which type and length are explicit, so that different values differ."""
    if depth > 32:
        raise InvalidKeyError("a key tuple is nested more than 32 deep: pass an id instead")
    kind = type(value)
    if kind in _SCALARS:
        data = _scalar(value)
        out.append(b"%s%d:" % (_SCALARS[kind], len(data)))
        out.append(data)
    elif isinstance(value, tuple | list):
        out.append(b"%c%d:" % (b"(" if isinstance(value, tuple) else b"[", len(value)))
        for item in value:
            _typed(item, out, depth + 1)
    elif isinstance(value, Mapping):
        pairs = sorted((_joined(name, depth), _joined(item, depth)) for name, item in value.items())
        out.append(b"{%d:" % len(pairs))
        out.extend(part for pair in pairs for part in pair)
    elif isinstance(value, set | frozenset):
        members = sorted(_joined(item, depth) for item in value)
        out.append(b"<%d:" % len(members))
        out.extend(members)
    else:
        raise InvalidKeyError(
            f"a key cannot hold {kind.__module__}.{kind.__qualname__}: pass its id, or give a key_func= that does"
        )


def _joined(value: object, depth: int) -> bytes:
    out: list[bytes] = []
    _typed(value, out, depth + 1)
    return b"".join(out)


_SCALARS: Final[Mapping[type, bytes]] = {
    type(None): b"n",
    bool: b"b",
    int: b"i",
    float: b"f",
    str: b"s",
    bytes: b"y",
    Decimal: b"d",
    dt.date: b"D",
    dt.datetime: b"T",
    dt.time: b"t",
    dt.timedelta: b"l",
    UUID: b"u",
}


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


def _scalar(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        # NaN has many bit patterns and one meaning; -0.0 stays apart from 0.0.
        return b"nan" if math.isnan(value) else struct.pack(">d", value)
    if isinstance(value, int):  # hexadecimal: no limit on digits and no quadratic cost
        return b"%x" % value
    if isinstance(value, dt.datetime | dt.time):
        return f"{value.isoformat()}/{value.fold}/{value.tzinfo!r}".encode()
    return str(value).encode()


def type_tag(name: str) -> str:
    """The stamp member of a cache type."""
    return "c:" + name


def user_tag(tag: str) -> str:
    """The stamp member of a tag; long ones are hashed so that a stamp costs a bounded amount.

    >>> user_tag("revenue")
    't:revenue'
    """
    if len(tag) <= 200:
        try:
            tag.encode()
        except UnicodeEncodeError:  # a lone surrogate cannot be sent as UTF-8
            return "t~" + _hashed(b"tag", tag.encode("utf-8", "surrogatepass"))
        return "t:" + tag
    return "t~" + _hashed(b"tag", tag.encode("utf-8", "surrogatepass"))


def _is_whole(text: str) -> bool:
    """Whether it can be sent as UTF-8: no lone surrogate, as a terminal's stray bytes become."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def tag_of(member: str) -> str:
    """The tag that a stamp member stands for; empty for what is none of the user's.

    >>> tag_of("t:revenue"), tag_of("c:search")
    ('revenue', '')
    """
    return member[2:] if member.startswith("t:") else ""


def key_tag(stored: str) -> str:
    """The stamp member of a stored key, on its variants."""
    return "k:" + stored


def url_tag(parts: Iterable[str]) -> str:
    """The stamp member of a URL, on entries to which the URL alone does not lead (variants, a ``key_func``)."""
    return "u:" + request_id(parts)


#: Members of the stamp set that are not tags; no type or tag member begins with ``=``.
EPOCH: Final = "=epoch"
FLOOR: Final = "=floor"
CLOCK: Final = "=clock"
BARRIER: Final = "=barrier"


class Names:
    """All key names under one prefix.

    Args:
        prefix: the first part of every key; ASCII, without ``: ~ * ? [ ] { }``, quotes, backslashes and blanks.

    Raises:
        ConfigError: the prefix could reach other keys.

    >>> names = Names("cache")
    >>> names.entry("search", "flights")
    'cache:search:flights'
    >>> names.lease("cache:search:flights"), names.index("search")
    ('cache~lease:search:flights', 'cache~index:search')
    """

    __slots__ = ("bus", "costs", "entries", "loads", "log", "meta", "prefix", "probe", "soft", "stamps")

    def __init__(self, prefix: str = "cache") -> None:
        if not isinstance(prefix, str) or not prefix or len(prefix) > 64 or _PREFIX_REFUSED.search(prefix):
            raise ConfigError(
                f'RCACHE_PREFIX must be ASCII, at most 64, without : ~ * ? [ ] {{ }} " \\ and blanks, not {prefix!r}'
            )
        self.prefix = prefix
        self.entries = prefix + ":"
        self.stamps = prefix + "~stamps"
        self.meta = prefix + "~meta"
        self.bus = prefix + "~bus"
        self.probe = prefix + "~probe"
        self.soft = prefix + "~soft"
        self.costs = prefix + "~costs"
        self.log = prefix + "~log"
        self.loads = prefix + "~loads"

    def entry(self, type_name: str, id: str) -> str:
        """The stored key of an id within a type."""
        return f"{self.entries}{type_name}:{id}"

    def stored(self, type_name: str, key: object, *, hashed: bool = True) -> str:
        """The stored key of a user's key: a leading ``{prefix}:{type}:`` is stripped once.

        Args:
            type_name: the type.
            key: the user's key.
            hashed: whether a stored key with a hash in it, as listings show it, stands for that entry. For operators
                only: a key that comes from a request must not reach the entry of another one.

        Raises:
            InvalidKeyError: the key is another type's stored key, or not usable as one.
        """
        if type(key) is str and key.startswith(self.entries):
            own = f"{self.entries}{type_name}:"
            if not key.startswith(own):
                raise InvalidKeyError(
                    f"{key!r:.120} is not a key of cache type {type_name!r}: drop the prefix or name that type"
                )
            key = key[len(own) :]
            if hashed and "~" in key and _HASHED_ID.fullmatch(key):
                return own + key  # as entries() and X-Cache-Key showed it
        return f"{self.entries}{type_name}:{key_id(key)}"

    def variant(self, stored: str, variant: str) -> str:
        """The stored key of one variant of a response (``Vary``); without a variant the key itself.

        No user's key spells one: with a ``~`` in it, it is hashed.
        """
        return f"{stored}~{variant}" if variant else stored

    def split(self, stored: str) -> tuple[str, str]:
        """The type and the id of a stored key.

        Raises:
            InvalidKeyError: not a stored key under this prefix.
        """
        if stored.startswith(self.entries):
            type_name, colon, id = stored[len(self.entries) :].partition(":")
            if colon and id and _is_whole(stored):
                return type_name, id
        raise InvalidKeyError(f"{stored!r:.120} is not a stored key of this cache: they begin with {self.entries!r}")

    def type_of(self, stored: str) -> str:
        """The type of a stored key that is known to be one."""
        start = len(self.entries)
        return stored[start : stored.index(":", start)]

    def lease(self, stored: str) -> str:
        """The lease beside a stored key."""
        return f"{self.prefix}~lease:{stored[len(self.entries) :]}"

    def index(self, type_name: str) -> str:
        """The index of a type's entries."""
        return f"{self.prefix}~index:{type_name}"

    def stats(self, type_name: str) -> str:
        """The counters of a type, of the whole fleet."""
        return f"{self.prefix}~stats:{type_name}"

    def pattern(self, pattern: str, *, type_name: str | None = None) -> tuple[str, str | None]:
        r"""A glob over stored keys, confined to this cache, and the one type it can match if that is plain.

        Args:
            pattern: ``*``, ``?``, ``[abc]`` and ``\`` as in Redis. Relative to ``{prefix}:`` (or, with a type, to
                ``{prefix}:{type}:``) unless it begins with that already.
            type_name: confine it to this type.

        Raises:
            ConfigError: not a string, or empty.

        >>> Names("cache").pattern("search:*")
        ('cache:search:*', 'search')
        >>> Names("cache").pattern("*", type_name="search")
        ('cache:search:*', 'search')
        """
        if not isinstance(pattern, str) or not pattern:
            raise ConfigError(f"a pattern must be a non-empty string such as 'search:*', not {pattern!r}")
        if not pattern.isascii() and not _is_whole(pattern):
            raise ConfigError(f"a pattern cannot hold half a character, as {pattern!r:.200} does")
        root = self.entries if type_name is None else f"{self.entries}{type_name}:"
        whole = pattern if pattern.startswith(root) else root + pattern
        if type_name is None:
            head, colon, _ = whole[len(self.entries) :].partition(":")
            type_name = head if colon and _TYPE_NAME.fullmatch(head) else None
        return whole, type_name


#: A hash, the variant of one, or the variant of a readable id.
_HASHED_ID: Final = re.compile(rf"~[0-9a-f]{{32}}(?:~[0-9a-f]{{32}})?|{_READABLE.pattern}~[0-9a-f]{{32}}")
_TYPE_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
