"""Header lines: reading them by name, and which of them are stored and replayed.

Owns the list of fields that never enter the cache, and how an upstream's age travels with a stored response.
It decides nothing about whether a response may be stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final, TypeAlias

from .directives import MAX_DELTA_SECONDS

__all__ = ["Fields", "HeaderLines", "age_value", "by_name", "field_names", "split_age", "store_headers"]

#: Header lines in order; repeated lines stay repeated.
HeaderLines: TypeAlias = Sequence[tuple[str, str]]

#: The lines of each field under its lower-case name.
Fields: TypeAlias = dict[str, list[str]]

# Hop-by-hop (RFC 9110 section 7.6.1, RFC 9111 section 3.1); what this cache says anew on each answer; and,
# although a response with a cookie is never stored, the cookie.
_NEVER_STORED: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "age",
        "cache-status",
        "x-cache",
        "x-cache-key",
        "set-cookie",
        "set-cookie2",
    }
)


_name_of: Final = itemgetter(0)
#: How many lists of names have their answers kept: the responses of one view mostly have the same.
_SHAPES_KEPT: Final = 512


def field_names(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The lower-case names of the fields that there are.

    >>> sorted(field_names([("Vary", "Accept"), ("ETag", "1"), ("vary", "Origin")]))
    ['etag', 'vary']
    """
    return _lowered(tuple(map(_name_of, headers)))


@lru_cache(maxsize=_SHAPES_KEPT)
def _lowered(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(str.lower, names))


@lru_cache(maxsize=_SHAPES_KEPT)
def _are_all_stored(names: tuple[str, ...]) -> bool:
    """Whether no line has to be left out by its name, or by what a ``Connection`` says."""
    lowered = _lowered(names)
    return lowered.isdisjoint(_NEVER_STORED) and not any(name.startswith("proxy-") for name in lowered)


def by_name(headers: HeaderLines) -> Fields:
    """The lines of each field, in order, under its lower-case name.

    >>> by_name([("Vary", "Accept"), ("vary", "Origin")])
    {'vary': ['Accept', 'Origin']}
    """
    fields: Fields = {}
    for name, value in headers:
        fields.setdefault(name.lower(), []).append(value)
    return fields


def store_headers(headers: HeaderLines, *, age: int = 0) -> tuple[tuple[str, str], ...]:
    """The lines of a response that are kept with it, in order and with their repetitions.

    Left out are hop-by-hop fields, every field named by ``Connection``, and the fields in which this cache
    speaks (``Age``, ``Cache-Status``, ``X-Cache``, ``X-Cache-Key``). ``Date`` is kept.

    Args:
        headers: the final header lines.
        age: seconds the response had when it came, ``Verdict.age``; kept as a last line for
            :func:`split_age`.

    Source: RFC 9111 section 3.1; RFC 9110 section 7.6.1.

    >>> store_headers([("Link", "</a>"), ("Connection", "X-Hop"), ("X-Hop", "1"), ("Link", "</b>")], age=7)
    (('Link', '</a>'), ('Link', '</b>'), ('Age', '7'))
    """
    if age <= 0 and _are_all_stored(tuple(map(_name_of, headers))):
        return tuple(headers)
    names = [name.lower() for name, _ in headers]
    dropped = _NEVER_STORED
    if "connection" in names:
        values = [value for name, (_, value) in zip(names, headers, strict=True) if name == "connection"]
        dropped = dropped.union(option.strip(" \t").lower() for value in values for option in value.split(","))
    kept = [
        line for name, line in zip(names, headers, strict=True) if name not in dropped and not name.startswith("proxy-")
    ]
    if age > 0:
        kept.append(("Age", age_value(age)))
    return tuple(kept)


def split_age(stored: tuple[tuple[str, str], ...]) -> tuple[tuple[tuple[str, str], ...], int]:
    """Undo :func:`store_headers`: the lines to replay, and the seconds to add to the entry's own age.

    Args:
        stored: what :func:`store_headers` gave.

    Source: RFC 9111 section 4.2.3.

    >>> split_age((("Link", "</a>"), ("Age", "7")))
    ((('Link', '</a>'),), 7)
    """
    # `Age` is dropped on the way in, so that as the last line it is always ours.
    if stored and stored[-1][0] == "Age":
        return stored[:-1], int(stored[-1][1])
    return stored, 0


def age_value(seconds: float) -> str:
    """The value of ``Age``: whole seconds, not negative, at most 2**31.

    Args:
        seconds: the entry's age and the upstream's, added.

    Source: RFC 9111 sections 1.2.2 and 5.1.

    >>> age_value(3.9), age_value(-0.1)
    ('3', '0')
    """
    if seconds <= 0:
        return "0"
    return str(int(seconds)) if seconds < MAX_DELTA_SECONDS else str(MAX_DELTA_SECONDS)
