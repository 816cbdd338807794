"""Vary: which request fields select a variant, and the name of the variant a request asks for.

Owns the normal form of a Vary and the secondary key. Counting variants and keeping them is done by the
caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

__all__ = ["STAR", "normalise_vary", "variant_id"]

#: The normal form of ``Vary: *``: no later request matches.
STAR: Final[tuple[str, ...]] = ("*",)

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# Only where the field's own specification says that it is a list is white space around commas without
# meaning: in a Cookie, or in a field of the app's own, it may tell two users apart.
_LISTS: Final = frozenset({"accept", "accept-charset", "accept-encoding", "accept-language"})

# WSGI cannot tell a missing one of these from an empty one.
_UNPREFIXED: Final = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def normalise_vary(lines: Iterable[str]) -> tuple[str, ...]:
    """The field names of all Vary lines: lower-case, sorted, each once.

    Args:
        lines: the field's values, one per header line.

    Returns:
        The names; ``STAR`` when ``*`` is among them or a member is not a field name.

    Source: RFC 9110 section 12.5.5.

    >>> normalise_vary(["Origin, accept-encoding", "Accept-Encoding"]), normalise_vary(["Accept, *"])
    (('accept-encoding', 'origin'), ('*',))
    """
    members = {member.strip(" \t") for line in lines for member in line.split(",")}
    members.discard("")
    # What cannot be read cannot be matched either.
    if "*" in members or not all(map(_TOKEN.fullmatch, members)):
        return STAR
    return tuple(sorted({member.lower() for member in members}))


def variant_id(names: tuple[str, ...], environ: Mapping[str, Any]) -> str:
    """The name of the variant that a request selects: a 128-bit hash of the fields that ``names`` lists.

    A missing field differs from an empty one, and no two different lists of values run together. White space
    around commas is normalised in the Accept fields, outside quoted strings; elsewhere only around the
    whole value.

    Args:
        names: what :func:`normalise_vary` gave, not ``STAR``.
        environ: the WSGI environ, in which several lines of one field are one value already.

    Returns:
        32 hexadecimal digits; ``""`` when ``names`` is empty.

    Raises:
        ValueError: ``names`` is ``STAR``, which selects nothing.

    Source: RFC 9111 section 4.1.

    >>> gzip = ("accept-encoding",)
    >>> tight, wide = {"HTTP_ACCEPT_ENCODING": "gzip,br"}, {"HTTP_ACCEPT_ENCODING": " gzip , br"}
    >>> variant_id(gzip, tight) == variant_id(gzip, wide)
    True
    >>> variant_id(gzip, {}) == variant_id(gzip, {"HTTP_ACCEPT_ENCODING": ""})
    False
    """
    if not names:
        return ""
    parts: list[str] = []
    for name, key, is_list, unprefixed in _selectors(names):
        value: str | None = environ.get(key)
        if value is None or (unprefixed and not value):
            parts.append(f"{name}-;")
            continue
        value = value.strip(" \t")
        if is_list and '"' not in value:
            value = ",".join(part.strip(" \t") for part in value.split(","))
        parts.append(f"{name}:{len(value)}:{value};")
    return blake2b("".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@lru_cache(maxsize=1024)
def _selectors(names: tuple[str, ...]) -> tuple[tuple[str, str, bool, bool], ...]:
    """For each name: itself, its environ key, whether it is a list, whether empty means missing."""
    if names == STAR:
        raise ValueError("Vary: * selects no variant: do not look it up and do not store it")
    return tuple(
        (
            name,
            _UNPREFIXED.get(name, "HTTP_" + name.upper().replace("-", "_")),
            name in _LISTS,
            name in _UNPREFIXED,
        )
        for name in names
    )
