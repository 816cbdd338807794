"""Names: how keys, tags and internal keys are spelled. The only module that knows.

Owns the stored key ``{prefix}:{type}:{id}`` and the internal names ``{prefix}~…`` beside them. How any Python key
becomes a safe id is ``typed_keys``'s. Does not read or write anything.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError, InvalidKeyError
from .typed_keys import READABLE, Key, hashed_id, is_plain, key_id, request_id

__all__ = [
    "Key",
    "Names",
    "call_tag",
    "caller_tag",
    "is_plain",
    "key_id",
    "key_tag",
    "path_in",
    "path_tag",
    "request_id",
    "tag_of",
    "type_tag",
    "url_tag",
    "user_tag",
]

_PREFIX_REFUSED: Final = re.compile(r"""[:~*?\[\]{}"\\]|[^\x21-\x7e]""")


def path_in(url: str) -> str:
    """The decoded path of a URL, or of a path as it stands in one.

    Raises:
        ConfigError: it is neither.

    >>> path_in("https://example.org/caf%C3%A9?page=2"), path_in("/item/7#top")
    ('/café', '/item/7')
    """
    if isinstance(url, str) and url.startswith("/"):
        path = re.split("[?#]", url, maxsplit=1)[0]
    elif isinstance(url, str) and re.match(r"(?i)https?://[^/?#]", url):
        try:
            path = urlsplit(url).path or "/"
        except ValueError as error:
            raise ConfigError(f"{url!r:.200} is no URL: {error}") from error
    else:
        raise ConfigError(f"a URL begins with http:// or https://, and a path with /: {url!r:.200} does neither")
    return unquote(path, errors="replace")


def path_tag(path: str) -> str:
    """The stamp member of a URL's path, on every answer to it: of all hosts, queries, variants and users.

    >>> path_tag("/item/7")
    'p:/item/7'
    """
    return _member("p", path)


def caller_tag(caller: str) -> str:
    """The stamp member of one user, on the entries that a ``key_func`` such as ``by_user`` has given them."""
    return _member("w", caller)


def call_tag(origin: str, arguments: Mapping[str, object]) -> str:
    """The stamp member of a call of a view that does not come from the URL map."""
    return "a:" + request_id([origin, key_id((dict(arguments),))])


def type_tag(name: str) -> str:
    """The stamp member of a cache type."""
    return "c:" + name


def user_tag(tag: str) -> str:
    """The stamp member of a tag; long ones are hashed so that a stamp costs a bounded amount.

    >>> user_tag("revenue")
    't:revenue'
    """
    return _member("t", tag)


def _member(kind: str, text: str) -> str:
    if len(text) <= 200 and (text.isascii() or _is_whole(text)):
        return f"{kind}:{text}"
    return f"{kind}~" + hashed_id(b"tag", text.encode("utf-8", "surrogatepass"))


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


#: Members of the stamp set that are not rows. No tag begins with ``=``, nor with the ``~``, ``+`` and ``^`` of what
#: lies beside rows.
EPOCH: Final = "=epoch"
RUN: Final = "=run"
CLOCK: Final = "=clock"
FLOOR: Final = "=floor"
BARRIER: Final = "=barrier"
FORGOTTEN: Final = "=forgotten"
TAKEN: Final = "=taken"


class Names:
    """All key names under one prefix.

    A *stored key* is ``{prefix}:{type}:{id}``, in the engine and in everything that is shown. On a cluster it lies at
    another *place*, ``{prefix}:{n}:{type}:{id}`` with the number of its shard between braces, as all internal names of
    the shard have it: what stands between braces alone decides on which node a key lies.

    Args:
        prefix: the first part of every key; ASCII, without ``: ~ * ? [ ] { }``, quotes, backslashes and blanks.
        shard: the number of the shard whose names these are; ``None`` on one server.

    Raises:
        ConfigError: the prefix could reach other keys.

    >>> names = Names("cache")
    >>> names.entry("search", "flights")
    'cache:search:flights'
    >>> names.lease("cache:search:flights"), names.index("search")
    ('cache~lease:search:flights', 'cache~index:search')
    >>> third = names.of_shard(3)
    >>> third.place("cache:search:flights"), third.stamps
    ('cache:{3}:search:flights', 'cache~{3}~stamps')
    """

    __slots__ = (
        "_entries_at",
        "_root",
        "bus",
        "costs",
        "entries",
        "loads",
        "log",
        "meta",
        "prefix",
        "probe",
        "stamps",
        "statements",
    )

    def __init__(self, prefix: str = "cache", *, shard: int | None = None) -> None:
        if not isinstance(prefix, str) or not prefix or len(prefix) > 64 or _PREFIX_REFUSED.search(prefix):
            raise ConfigError(
                f'RCACHE_PREFIX must be ASCII, at most 64, without : ~ * ? [ ] {{ }} " \\ and blanks, not {prefix!r}'
            )
        self.prefix = prefix
        self.entries = prefix + ":"
        self._entries_at = self.entries if shard is None else f"{prefix}:{{{shard}}}:"
        self._root = root = prefix + "~" if shard is None else f"{prefix}~{{{shard}}}~"
        self.stamps = root + "stamps"
        self.meta = root + "meta"
        self.bus = root + "bus"
        self.probe = root + "probe"
        self.costs = root + "costs"
        self.log = root + "log"
        self.loads = root + "loads"
        self.statements = root + "statements"

    def of_shard(self, shard: int) -> Names:
        """The names of one shard of a cluster."""
        return Names(self.prefix, shard=shard)

    def shard_of(self, stored: str, shards: int) -> int:
        """The number of the shard on which a stored key lies; the variants of a response lie where its URL does.

        >>> names = Names("cache")
        >>> names.shard_of("cache:page:~0a", 16) == names.shard_of("cache:page:~0a~0b", 16)
        True
        """
        start = len(self.entries)
        end = stored.find("~", stored.find(":", start) + 2)  # the id of a hashed key begins with one
        return zlib.crc32((stored if end < 0 else stored[:end]).encode("utf-8", "surrogatepass")) % shards

    def place(self, stored: str) -> str:
        """Where a stored key lies, or a pattern of stored keys matches."""
        return self._entries_at + stored[len(self.entries) :]

    def stored_at(self, place: str) -> str:
        """The stored key that lies at a place."""
        at = self._entries_at
        return self.entries + place[len(at) :] if place.startswith(at) else place

    def statement(self, name: str) -> str:
        """The counters of a statement of a database."""
        return f"{self.statements}:{name}"

    def queue(self, name: str) -> str:
        """The stream of the writes that are not applied yet."""
        return f"{self._root}queue:{name}"

    def queue_owner(self, name: str) -> str:
        """Which consumer has a queue."""
        return f"{self._root}owner:{name}"

    def dead_letters(self, name: str) -> str:
        """The stream of the writes of a queue that were given up."""
        return f"{self._root}dead:{name}"

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
        return f"{self._root}lease:{stored[len(self.entries) :]}"

    def index(self, type_name: str) -> str:
        """The index of a type's entries."""
        return f"{self._root}index:{type_name}"

    def stats(self, type_name: str) -> str:
        """The counters of a type, across all processes."""
        return f"{self._root}stats:{type_name}"

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
            raise ConfigError(f"a pattern must not contain a lone surrogate, as {pattern!r:.200} does")
        root = self.entries if type_name is None else f"{self.entries}{type_name}:"
        whole = pattern if pattern.startswith(root) else root + pattern
        if type_name is None:
            head, colon, _ = whole[len(self.entries) :].partition(":")
            type_name = head if colon and _TYPE_NAME.fullmatch(head) else None
        return whole, type_name


#: A hash, the variant of one, or the variant of a readable id.
_HASHED_ID: Final = re.compile(rf"~[0-9a-f]{{32}}(?:~[0-9a-f]{{32}})?|{READABLE.pattern}~[0-9a-f]{{32}}")
_TYPE_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
