"""Revalidation: asking whether a stored response is still good, and what a 304 makes of it.

Owns which of a response's own validators are sent, and how its header lines are updated. That the view is asked, and
what becomes of the entry, is the caller's.
"""

from __future__ import annotations

from typing import Final

from .conditional import OF_THE_BODY, is_entity_tag, is_made_etag, weakly_equal
from .freshness import parse_http_date
from .headers import HeaderLines, by_name, store_headers

__all__ = ["freshened", "validators"]

#: Statuses whose responses are revalidated.
REVALIDATED: Final = frozenset({200, 203})


def validators(status: int, headers: HeaderLines) -> dict[str, str]:
    """The conditions that ask whether a response is still good, as names and values in an environ.

    A tag that this cache made of the body is none of them, since the view knows nothing of it.

    Args:
        status: of the stored response.
        headers: of the stored response.

    Source: RFC 9111 section 4.3.1.

    >>> validators(200, [("ETag", '"a"'), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")])["HTTP_IF_NONE_MATCH"]
    '"a"'
    """
    found: dict[str, str] = {}
    if status not in REVALIDATED:
        return found
    fields = by_name(headers)
    etag = fields.get("etag", [""])[0].strip(" \t")
    if is_entity_tag(etag) and not is_made_etag(etag):
        found["HTTP_IF_NONE_MATCH"] = etag
    modified = fields.get("last-modified", [""])[0]
    if parse_http_date(modified) is not None:
        found["HTTP_IF_MODIFIED_SINCE"] = modified
    return found


def freshened(stored: HeaderLines, answer: HeaderLines) -> tuple[tuple[str, str], ...] | None:
    """The lines of a stored response that a 304 has confirmed, updated with those of the 304.

    Each field of the 304 replaces the stored one. Not those that describe the body, which stays; and not those that are
    never stored. The age and the date are the 304's: a 304 without a date is as old as its arrival.

    Args:
        stored: of the stored response.
        answer: of the 304.

    Returns:
        The lines, with an ``Age`` if the 304 has one; ``None`` when the 304 is about another response: its ETag is
        another.

    Source: RFC 9111 sections 3.2, 4.3.3 and 4.3.4.

    >>> freshened([("X-A", "1"), ("X-B", "1"), ("Content-Length", "5")], [("X-A", "2"), ("Content-Length", "0")])
    (('X-B', '1'), ('Content-Length', '5'), ('X-A', '2'))
    """
    ours, theirs = by_name(stored).get("etag"), by_name(answer).get("etag")
    if ours and theirs and not weakly_equal(ours[0], theirs[0]):
        return None
    # A cookie is kept with no response, and is sent with this one, which is then not stored.
    for_now = [line for line in answer if line[0].lower() in ("age", "set-cookie", "set-cookie2")]
    new = [line for line in store_headers(answer) if line[0].lower() not in OF_THE_BODY] + for_now
    replaced = {name.lower() for name, _ in new} | {"age", "date"}
    return (*(line for line in stored if line[0].lower() not in replaced), *new)
