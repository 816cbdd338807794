"""Conditional and range requests, evaluated against a stored response.

Owns validators (the weak ETag made for a response without one), preconditions, single byte ranges, and
which header lines go with each outcome. It builds no response: the caller does, from the :class:`Outcome`.
"""

# Annotations are types here, not their names: a named tuple compiles each name, which takes longer than all else.

import re
from collections.abc import Mapping
from enum import Enum
from hashlib import sha256
from typing import Any, Final

from werkzeug.http import parse_etags, parse_range_header

from ..model.named_tuple import NamedTuple
from .freshness import parse_http_date
from .headers import Fields, HeaderLines, by_name

__all__ = [
    "HIDDEN_FIELDS",
    "OF_THE_BODY",
    "SEND",
    "Action",
    "Outcome",
    "evaluate",
    "is_entity_tag",
    "is_made_etag",
    "make_etag",
    "weakly_equal",
]

#: Environ keys that a fill hides from the view: it must produce the whole response (and not a 304).
HIDDEN_FIELDS: Final = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_RANGE", "HTTP_RANGE")

_ETAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')

#: What describes a body, and so goes when the body goes (RFC 9110 section 15.4.5), and stays where the body stays.
OF_THE_BODY: Final = frozenset(
    {
        "content-digest",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-md5",
        "content-range",
        "content-type",
        "digest",
        "repr-digest",
    }
)
# What would let a 416 be kept, or be taken for the resource.
_OF_THE_RESOURCE: Final = frozenset({"cache-control", "content-location", "etag", "expires", "last-modified"})


class Action(Enum):
    """What is sent instead of the stored response."""

    SEND = "send"
    """The stored response as it is (for HEAD, without its body)."""
    NOT_MODIFIED = "not-modified"
    """304, without a body."""
    RANGE = "range"
    """206, with ``body[start:stop]``."""
    RANGE_NOT_SATISFIABLE = "range-not-satisfiable"
    """416, without the stored body."""


class Outcome(NamedTuple):
    """What a conditional or range request gets.

    Args:
        action: which of the four.
        headers: for all but SEND the complete header lines, save ``Content-Length``.
        start: RANGE: the first byte.
        stop: RANGE: the byte after the last.
    """

    action: Action
    headers: tuple[tuple[str, str], ...] = ()
    start: int = 0
    stop: int = 0


#: The outcome of an unconditional request.
SEND: Final = Outcome(Action.SEND)


def make_etag(body: bytes) -> str:
    """A weak entity tag for a body: weak, since headers may differ where the bytes do not.

    Args:
        body: the body as it is sent, coding included.

    Source: RFC 9110 section 8.8.3.

    >>> make_etag(b"hello")
    'W/"rc-2cf24dba5fb0a30e26e83b2ac5b9e29e"'
    """
    # Processors have instructions for this hash: of a page it takes a third of what blake2b does.
    return f'W/"rc-{sha256(body, usedforsecurity=False).hexdigest()[:32]}"'


def is_made_etag(tag: str) -> bool:
    """Whether a tag is one of :func:`make_etag`'s, and not the app's own."""
    return tag.startswith('W/"rc-')


def is_entity_tag(text: str) -> bool:
    """Whether a text is a well-formed entity tag.

    >>> is_entity_tag('W/"a"'), is_entity_tag("a")
    (True, False)
    """
    return _ETAG.fullmatch(text) is not None


def weakly_equal(one: str, other: str) -> bool:
    """Whether two entity tags stand for the same, weak or not. Source: RFC 9110 section 8.8.3.2.

    >>> weakly_equal('W/"a"', '"a"'), weakly_equal('"a"', '"b"')
    (True, False)
    """
    return one.strip(" \t").removeprefix("W/") == other.strip(" \t").removeprefix("W/")


def evaluate(environ: Mapping[str, Any], status: int, headers: HeaderLines, *, body_length: int) -> Outcome:
    """What a GET or HEAD gets for a stored response. Only a 200 is subject to conditions and ranges.

    Args:
        environ: the WSGI environ with the fields of ``HIDDEN_FIELDS`` back in place.
        status: of the stored response.
        headers: of the stored response, its ETag included.
        body_length: bytes.

    Source: RFC 9110 section 13.2.2 (the order), 13.1 (each precondition), 14.2 (Range).
    """
    none_match: str | None = environ.get("HTTP_IF_NONE_MATCH")
    modified_since: str | None = environ.get("HTTP_IF_MODIFIED_SINCE")
    ranges: str | None = environ.get("HTTP_RANGE")
    if (none_match is None and modified_since is None and ranges is None) or status != 200:
        return SEND
    method = environ["REQUEST_METHOD"]
    if method != "GET" and method != "HEAD":
        return SEND
    fields = by_name(headers)
    # If-None-Match replaces If-Modified-Since even when it does not match.
    if none_match is not None:
        not_modified = _none_match_fails(none_match, fields)
    else:
        not_modified = modified_since is not None and _not_modified_since(modified_since, fields)
    if not_modified:
        return Outcome(Action.NOT_MODIFIED, _without_body(headers, keep_last_modified="etag" not in fields))
    if ranges is not None and method == "GET" and _range_applies(environ.get("HTTP_IF_RANGE"), fields):
        return _range(ranges, headers, body_length)
    return SEND


def _none_match_fails(value: str, fields: Fields) -> bool:
    """Whether the client's copy is the stored one: RFC 9110 sections 13.1.2 and 8.8.3.2 (weak comparison)."""
    value = value.strip(" \t")
    if value == "*":
        return True
    own = _etag(fields)
    return own is not None and parse_etags(value).contains_weak(own[1])


def _not_modified_since(value: str, fields: Fields) -> bool:
    """RFC 9110 section 13.1.3: ignored without a valid date on both sides.

    What has no Last-Modified was made no later than its Date: RFC 9111 section 4.3.2.
    """
    since = parse_http_date(value)
    modified = _date(fields, "last-modified" if "last-modified" in fields else "date")
    return since is not None and modified is not None and modified <= since


def _range_applies(if_range: str | None, fields: Fields) -> bool:
    """RFC 9110 section 13.1.5: only when the client's part is certainly of the stored representation."""
    if "none" in (line.strip(" \t").lower() for line in fields.get("accept-ranges", ())):
        return False
    if if_range is None:
        return True
    if_range = if_range.strip(" \t")
    if '"' in if_range:
        return _is_strong(if_range) and if_range in (line.strip(" \t") for line in fields.get("etag", ())[:1])
    wanted, modified, date = parse_http_date(if_range), _date(fields, "last-modified"), _date(fields, "date")
    if wanted is None or modified is None or date is None:
        return False
    # Section 8.8.2.2: a Last-Modified is strong only when it is at least a second older than the Date.
    return wanted == modified < date


def _range(value: str, headers: HeaderLines, length: int) -> Outcome:
    """RFC 9110 sections 14.1.2 and 14.2: one byte range; anything else gets the whole response."""
    parsed = parse_range_header(value)
    if parsed is None or parsed.units != "bytes" or len(parsed.ranges) != 1:
        return SEND
    start, end = parsed.ranges[0]
    if start < 0:
        if length == 0:
            return SEND
        # Not werkzeug's `range_for_length`, which refuses a suffix longer than the body.
        start, end = max(0, length + start), length
    if start >= length:
        lines = [line for line in _without_body(headers) if line[0].lower() not in _OF_THE_RESOURCE]
        return Outcome(Action.RANGE_NOT_SATISFIABLE, (*lines, ("Content-Range", f"bytes */{length}")))
    stop = length if end is None else min(end, length)
    kept = [line for line in headers if line[0].lower() != "content-length"]
    return Outcome(Action.RANGE, (*kept, ("Content-Range", f"bytes {start}-{stop - 1}/{length}")), start, stop)


def _without_body(headers: HeaderLines, *, keep_last_modified: bool = True) -> tuple[tuple[str, str], ...]:
    """All lines but those that describe the body; beside an ETag a Last-Modified is of no use either.

    RFC 9110 section 15.4.5 asks for Cache-Control, Content-Location, Date, ETag, Expires and Vary, and
    against *representation metadata*. The others stay: a browser needs, say, Access-Control-Allow-Origin on
    a 304 too.
    """
    dropped = OF_THE_BODY if keep_last_modified else OF_THE_BODY | {"last-modified"}
    return tuple(line for line in headers if line[0].lower() not in dropped)


def _etag(fields: Fields) -> tuple[bool, str] | None:
    """The response's own tag: whether weak, and its opaque part; ``None`` when there is no valid one."""
    lines = fields.get("etag", ())
    match = _ETAG.fullmatch(lines[0].strip(" \t")) if lines else None
    return None if match is None else (match[1] is not None, match[2])


def _is_strong(tag: str) -> bool:
    match = _ETAG.fullmatch(tag)
    return match is not None and match[1] is None


def _date(fields: Fields, name: str) -> int | None:
    lines = fields.get(name, ())
    return parse_http_date(lines[0]) if lines else None
