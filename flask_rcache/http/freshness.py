"""What a response says of its own age and lifetime: ``Date``, ``Age``, ``Expires`` and ``max-age``.

Owns HTTP dates and the arithmetic of RFC 9111 section 4.2. The wall clock comes in as ``now``, since
``Expires`` and ``Date`` are wall-clock times; what comes out is seconds, which the store counts in its own
clock.
"""

from __future__ import annotations

import re
from typing import Final

from werkzeug.http import parse_date

from .directives import CacheControl, parse_delta_seconds
from .headers import Fields

__all__ = ["current_age", "freshness_lifetime", "parse_http_date"]

_MONTH: Final = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME: Final = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY: Final = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_YEAR: Final = "[1-9][0-9]{3}"
#: A text, which `re` compiles when the first date is read.
_HTTP_DATE: Final = (
    f"{_DAY}, [0-9]{{2}} {_MONTH} {_YEAR} {_TIME} GMT"
    f"|{_LONG_DAY}, [0-9]{{2}}-{_MONTH}-[0-9]{{2}} {_TIME} GMT"
    f"|{_DAY} {_MONTH} (?:[0-9]{{2}}| [0-9]) {_TIME} {_YEAR}"
)


def parse_http_date(value: str) -> int | None:
    """Read an HTTP date, ``None`` when it is not one of the three forms.

    Werkzeug's ``parse_date`` also takes other zones, missing seconds and the like. A cache must take those
    for invalid, and so for stale; hence the form is checked first. Upper and lower case are the same to a cache.

    Args:
        value: the field's value; blanks around it are allowed.

    Returns:
        Seconds since the epoch.

    Source: RFC 9110 section 5.6.7; RFC 9111 section 4.2.

    >>> parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), parse_http_date("0")
    (784111777, None)
    """
    value = value.strip(" \t")
    if re.fullmatch(_HTTP_DATE, value, re.IGNORECASE | re.ASCII) is None:
        return None
    parsed = parse_date(value)
    return None if parsed is None else int(parsed.timestamp())


def current_age(fields: Fields, *, now: float) -> int:
    """The age a response has when the view returns it: 0, unless the view is a gateway to something older.

    Args:
        fields: the response's fields by lower-case name.
        now: the wall clock, seconds since the epoch.

    Returns:
        Whole seconds: the larger of ``Age`` and the time since ``Date``. Of several values of ``Age`` the first
        counts; an invalid one is ignored.

    Source: RFC 9111 sections 4.2.3 and 5.1.
    """
    first = next(iter(fields.get("age", ())), "").partition(",")[0]
    date = _date(fields)
    return max(0, parse_delta_seconds(first.strip(" \t")) or 0, 0 if date is None else int(now) - date)


def freshness_lifetime(fields: Fields, cache_control: CacheControl, *, now: float) -> int | None:
    """The lifetime a response states for itself, before its age is taken off.

    ``s-maxage`` comes before ``max-age``, and that before ``Expires`` minus ``Date``. There are no
    heuristics. A ``private`` response is meant for caches to which ``s-maxage`` does not apply.

    Args:
        fields: the response's fields by lower-case name.
        cache_control: its parsed Cache-Control.
        now: the wall clock, seconds since the epoch; stands in for a missing or invalid ``Date``.

    Returns:
        Seconds, 0 when what is stated is invalid; ``None`` when nothing is stated.

    Source: RFC 9111 sections 4.2.1, 5.2.2.10 and 5.3.
    """
    if cache_control.malformed:
        return 0
    if cache_control.s_maxage is not None and not cache_control.private:
        return cache_control.s_maxage
    if cache_control.max_age is not None:
        return cache_control.max_age
    if "expires" not in fields:
        return None
    dates = [parse_http_date(line) for line in fields["expires"]]
    valid = [date for date in dates if date is not None]
    if len(valid) < len(dates):
        return 0
    generated = _date(fields)
    return max(0, min(valid) - (int(now) if generated is None else generated))


def _date(fields: Fields) -> int | None:
    """The earliest valid ``Date``; an invalid one is as good as none (RFC 9110 section 6.6.1)."""
    dates = [date for line in fields.get("date", ()) if (date := parse_http_date(line)) is not None]
    return min(dates, default=None)
