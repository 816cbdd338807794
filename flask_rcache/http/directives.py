"""The Cache-Control field: lines in, one frozen :class:`CacheControl` out.

Owns the grammar and what is done with what does not follow it. Judging a response by the result is done in
:mod:`~flask_rcache.http.storable`. Where a line can be read in two ways the more restrictive one is taken.
"""

# Annotations are types here, not their names: a named tuple compiles each name, which takes longer than all else.

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ..model.named_tuple import NamedTuple

__all__ = ["MAX_DELTA_SECONDS", "CacheControl", "parse_cache_control", "parse_delta_seconds"]

#: What a delta-seconds too large to matter becomes. Source: RFC 9111 section 1.2.2.
MAX_DELTA_SECONDS: Final = 2**31

_OWS: Final = " \t"

# The alternatives differ in their first character, so that matching is linear.
_ELEMENT: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*")*', re.DOTALL)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ARGUMENT: Final = re.compile(r'[ \t]*=[ \t]*(?:"(?:[^"\\]|\\.)*"|[!#$%&\'*+.^_`|~0-9A-Za-z-]*)', re.DOTALL)
_DIGITS: Final = re.compile(r"[0-9]+")

_DELTAS: Final = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})

# These forbid something, so an argument or a trailing mistake (`no-store; max-age=0`) does not switch them
# off.
_FORBIDDING: Final = frozenset({"no-store", "no-cache", "private", "must-revalidate", "proxy-revalidate"})
# These permit something, so they count only when written exactly.
_PERMITTING: Final = frozenset({"public", "must-understand"})


class CacheControl(NamedTuple):
    """The directives of a message that this cache knows; all others are ignored.

    ``no_cache`` and ``private`` are true for the qualified forms (``private="x-foo"``) too. Keeping such a
    response without the named fields would be allowed, but a field that was left out by a mistake would be
    shown to somebody else, while treating the qualified form as the plain one can only cost a miss.

    Args:
        max_age: seconds; ``None`` when not given.
        s_maxage: seconds, for shared caches such as this one.
        stale_while_revalidate: seconds past the lifetime (RFC 5861 section 3).
        stale_if_error: seconds past the lifetime (RFC 5861 section 4).
        malformed: a quoted string has no end, so what was meant is not known.

    Source: RFC 9111 section 5.2.
    """

    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    malformed: bool = False


_NONE: Final = CacheControl()


def parse_cache_control(lines: Sequence[str]) -> CacheControl:
    """Read the Cache-Control lines of one message; never raises.

    A directive given twice counts as the most restrictive of its values; a delta-seconds that is missing,
    negative or otherwise invalid is 0 (already stale); one that is too large is 2**31.

    Args:
        lines: the field's values, one per header line.

    Source: RFC 9111 sections 4.2.1 (duplicates, invalid values) and 5.2; RFC 9110 section 5.6.1 (lists).

    >>> cc = parse_cache_control(['Max-Age="60", max-age=30', 'private="set-cookie, x-foo",, x=1'])
    >>> cc.max_age, cc.private, cc.no_store
    (30, True, False)
    """
    if not lines:
        return _NONE
    deltas: dict[str, int] = {}
    names: set[str] = set()
    malformed = False
    for line in lines:
        elements, complete = _split(line)
        malformed = malformed or not complete
        for element in elements:
            for name, rest in _directives(element):
                if name in _DELTAS:
                    deltas[name] = min(deltas.get(name, MAX_DELTA_SECONDS), _delta_argument(rest))
                elif name in _FORBIDDING or (name in _PERMITTING and not rest):
                    names.add(name)
    return CacheControl(
        max_age=deltas.get("max-age"),
        s_maxage=deltas.get("s-maxage"),
        stale_while_revalidate=deltas.get("stale-while-revalidate"),
        stale_if_error=deltas.get("stale-if-error"),
        no_store="no-store" in names,
        no_cache="no-cache" in names,
        private="private" in names,
        public="public" in names,
        must_revalidate="must-revalidate" in names,
        proxy_revalidate="proxy-revalidate" in names,
        must_understand="must-understand" in names,
        malformed=malformed,
    )


def parse_delta_seconds(text: str) -> int | None:
    """Read a delta-seconds, ``None`` when it is not one.

    Args:
        text: ASCII digits and nothing else.

    Returns:
        Seconds, at most ``MAX_DELTA_SECONDS``.

    Source: RFC 9111 section 1.2.2.

    >>> parse_delta_seconds("60"), parse_delta_seconds("99999999999"), parse_delta_seconds("-1")
    (60, 2147483648, None)
    """
    if _DIGITS.fullmatch(text) is None:
        return None
    # int() refuses very long strings of digits, so these are judged by their length.
    digits = text.lstrip("0")
    return MAX_DELTA_SECONDS if len(digits) > 10 else min(int(digits or "0"), MAX_DELTA_SECONDS)


def _directives(element: str) -> Iterator[tuple[str, str]]:
    """The directives of an element, each with all that follows its name: one, where the element is well-formed.

    Behind what should not be there (``public; no-store``, ``max-age=60 no-store``, ``"no-store"``) reading goes on:
    what is forbidden there counts. The argument of a directive is none.
    """
    element = element.strip(_OWS)
    if element.startswith('"'):
        element = element.replace('"', " ")
    position = 0
    while (token := _TOKEN.search(element, position)) is not None:
        yield token[0].lower(), element[token.end() :]
        argument = _ARGUMENT.match(element, token.end())
        position = token.end() if argument is None else argument.end()


def _delta_argument(rest: str) -> int:
    """The seconds in ``=60`` or ``="60"``; anything else makes the response stale."""
    if not rest.startswith("="):
        return 0
    value = rest[1:]
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return parse_delta_seconds(value) or 0


def _split(line: str) -> tuple[list[str], bool]:
    """The elements between commas, and whether every quoted string has its end."""
    elements: list[str] = []
    position = 0
    while True:
        match = _ELEMENT.match(line, position)
        end = match.end() if match else position
        if line.startswith('"', end):
            # No end: read on as if the quote were not there, so that a `no-store` behind it is seen.
            return elements + line[position:].replace('"', "").split(","), False
        elements.append(line[position:end])
        if end == len(line):
            return elements, True
        position = end + 1
