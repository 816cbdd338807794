"""The Cache-Status field: what this cache did with a request, as a structured field.

Owns the serialisation. What happened, and why, is the caller's to say.
"""

from __future__ import annotations

import re
from math import floor
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

__all__ = ["Forward", "cache_status"]

#: Why a request went past the cache. Source: RFC 9211 section 2.2.
Forward: TypeAlias = Literal["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"]

_TOKEN: Final = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")

# Source: RFC 9651 section 3.3.1: fifteen decimal digits.
_MAX_INTEGER: Final = 10**15 - 1


def cache_status(
    *,
    hit: bool = False,
    fwd: Forward | None = None,
    fwd_status: int | None = None,
    ttl: float | None = None,
    stored: bool = False,
    collapsed: bool = False,
    key: str | None = None,
    detail: str | None = None,
    field: str | None = None,
    name: str = "rcache",
    existing: str | None = None,
) -> str:
    """The field's value with this cache's member at its end.

    Args:
        hit: the request was answered without the view; then ``fwd`` is ``None``.
        fwd: why the view was called.
        fwd_status: the view's status, where it is not the status of what is sent (a 304 made from a 200).
        ttl: seconds the response stays fresh; negative when it is stale.
        stored: the view's response was stored.
        collapsed: the request got the result of another request's load.
        key: the cache key; what is not printable ASCII is percent-encoded.
        detail: a :class:`~flask_rcache.http.reasons.Reason` code, or any text.
        field: the field of the request that is the reason.
        name: what this cache calls itself.
        existing: the value already in the response, from caches nearer to the origin; kept as it is.

    Source: RFC 9211 section 2; RFC 9651 sections 3.1 and 4.1.

    >>> cache_status(hit=True, ttl=29.5)
    'rcache; hit; ttl=29'
    >>> cache_status(fwd="uri-miss", detail="SET-COOKIE", existing="origin; hit")
    'origin; hit, rcache; fwd=uri-miss; detail=SET-COOKIE'
    """
    member = name if name == "rcache" else _token_or_string(name)
    if hit:
        member += "; hit"
    elif fwd is not None:
        member += f"; fwd={fwd}"
        if fwd_status is not None:
            member += f"; fwd-status={fwd_status:d}"
        if stored:
            member += "; stored"
        if collapsed:
            member += "; collapsed"
    if ttl is not None:
        # The common case needs neither a floor nor a bound.
        member += f"; ttl={int(ttl)}" if 0 <= ttl < _MAX_INTEGER else f"; ttl={_integer(ttl)}"
    if key is not None:
        member += f"; key={_string(key)}"
    if detail is not None:
        member += f"; detail={_token_or_string(str(detail))}"
    if field is not None:
        member += f"; field={_string(field)}"
    return f"{existing}, {member}" if existing and existing.strip(" \t") else member


def _integer(value: float) -> int:
    return floor(max(-_MAX_INTEGER, min(value, _MAX_INTEGER)))


def _string(text: str) -> str:
    """An sf-string; RFC 9651 section 3.3.3 admits printable ASCII only."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(c if " " <= c <= "~" else quote(c, errors="surrogatepass") for c in text)
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _token_or_string(text: str) -> str:
    return text if _TOKEN.fullmatch(text) else _string(text)
