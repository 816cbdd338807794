"""Targeted fields: a Cache-Control that is meant for some caches only, such as CDN-Cache-Control.

Owns the grammar of such a field, a structured dictionary, and the choice of the field that this cache obeys. What the
directives mean is no different from Cache-Control's.
"""

# Annotations are types here, not their names: a named tuple compiles each name, which takes longer than all else.

import functools
import re
from typing import Any, Final

from ..model.named_tuple import NamedTuple
from .directives import MAX_DELTA_SECONDS, CacheControl, parse_cache_control
from .headers import Fields

__all__ = ["Control", "control_of", "parse_targeted"]

_KEY: Final = r"[a-z*][a-z0-9_.*-]*"
_STRING: Final = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_BARE: Final = (
    r"(?:-?[0-9]{1,12}\.[0-9]{1,3}(?![0-9.])|-?[0-9]{1,15}(?![0-9.])|@-?[0-9]{1,15}(?![0-9.])"
    rf"|{_STRING}|%\"(?:[ !#-$&-~]|%[0-9a-f]{{2}})*\""
    r"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*|:[A-Za-z0-9+/=]*:|\?[01])"
)
_PARAMETERS: Final = rf"(?:; *{_KEY}(?:={_BARE})?)*"
_INNER: Final = rf"\( *(?:{_BARE}{_PARAMETERS}(?: +{_BARE}{_PARAMETERS})*)? *\)"
#: A text, which `re` compiles when the first targeted field is read.
_MEMBER: Final = rf"({_KEY})(?:=({_BARE}|{_INNER}))?{_PARAMETERS}"
_INTEGER: Final = r"[0-9]{1,15}"


class Control(NamedTuple):
    """What of a response says how it may be cached here.

    Args:
        directives: of the field that counts.
        is_targeted: that field is a targeted one, so that ``Cache-Control``, ``Expires`` and ``Pragma`` do not count.
        is_stated: there is such a field at all.
    """

    directives: CacheControl
    is_targeted: bool = False
    is_stated: bool = False


def control_of(fields: Fields, targeted: tuple[str, ...]) -> Control:
    """The directives that this cache obeys: those of the first targeted field that can be read, or Cache-Control's.

    Args:
        fields: the response's fields by lower-case name.
        targeted: names of the targeted fields that this cache obeys, lower-case, the most specific first.

    Source: RFC 9213 section 2.2.

    >>> both = {"cache-control": ["no-store"], "cdn-cache-control": ["max-age=60"]}
    >>> control_of(both, ("cdn-cache-control",)).directives.max_age, control_of(both, ()).directives.no_store
    (60, True)
    """
    for name in targeted:
        lines = fields.get(name)
        found = None if lines is None else parse_targeted(lines)
        if found is not None:
            return Control(found, is_targeted=True, is_stated=True)
    return Control(parse_cache_control(fields.get("cache-control", ())), is_stated="cache-control" in fields)


def parse_targeted(lines: list[str]) -> CacheControl | None:
    """Read the lines of a targeted field; ``None`` when they are empty or no structured dictionary: then it is ignored.

    A directive whose value is of another type than its own is ignored too, unless it forbids something.

    Args:
        lines: the field's values, one per header line.

    Source: RFC 9213 section 2.1; RFC 9651 sections 3.2 and 4.2.2.

    >>> parse_targeted(["max-age=60", "private"]).max_age
    60
    >>> parse_targeted(["max-age=60, &&&"]) is None, parse_targeted(['max-age="60"']).max_age
    (True, None)
    """
    text = ", ".join(lines).strip(" ")
    if not text:
        return None
    members: dict[str, str | None] = {}
    position, member = 0, _member()
    while True:
        match = member.match(text, position)
        if match is None:
            return None
        members[match[1]] = match[2]
        rest = text[match.end() :].lstrip(" \t")
        if not rest:
            break
        if not rest.startswith(","):
            return None
        position = len(text) - len(rest[1:].lstrip(" \t"))
    return _directives(members)


@functools.cache
def _member() -> re.Pattern[str]:
    return re.compile(_MEMBER)


def _directives(members: dict[str, str | None]) -> CacheControl:
    found: dict[str, Any] = {}
    for name, value in members.items():
        field = name.replace("-", "_")
        if name in ("max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"):
            if value is not None and re.fullmatch(_INTEGER, value):
                found[field] = min(int(value), MAX_DELTA_SECONDS)
            elif value is not None and re.fullmatch("-" + _INTEGER, value):
                found[field] = 0
        elif name in ("no-store", "no-cache", "private", "must-revalidate", "proxy-revalidate"):
            found[field] = value != "?0"
        elif name in ("public", "must-understand"):
            found[field] = value in (None, "?1")
    return CacheControl(**found)
