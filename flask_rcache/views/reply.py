"""Building what is sent from what is stored.

Owns the response of a hit: its headers, its age, the answer to conditions and ranges, and what the cache says of it.
The verdicts are ``http``'s.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from flask import Response
from werkzeug.datastructures import Headers

from ..http import Action, Outcome, age_value, cache_status, evaluate, split_age
from ..model.entry import MICROSECONDS, Entry, StoredResponse

__all__ = ["answer", "hit", "mark", "ready_class", "reply", "say"]

Lines = tuple[tuple[str, str], ...]


def hit(
    ready: Any, stored: StoredResponse, environ: Mapping[str, Any], *, age: float, ttl: float, key: str | None
) -> Response:
    """The response of a fresh hit; what :func:`reply` does, for the case that must be fast.

    Args:
        ready: what :func:`ready_class` made of the app's response class.
        stored: the entry's content.
        environ: the WSGI environ.
        age: seconds since the fill.
        ttl: seconds for which the entry is fresh in all.
        key: the key to show, if any.
    """
    if "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MODIFIED_SINCE" in environ or "HTTP_RANGE" in environ:
        lines, upstream = split_age(stored.headers)
        said = cache_status(hit=True, ttl=ttl - age, key=key)
        return _conditional(ready.__base__, stored, (*lines, *_said("HIT", age + upstream, key, said)), environ)
    if stored.headers and stored.headers[-1][0] == "Age":
        lines, upstream = split_age(stored.headers)
    else:
        lines, upstream = stored.headers, 0
    seconds = int(age + upstream)
    said = f"rcache; hit; ttl={int(ttl - age)}"
    if key is not None:  # it needs no escaping: keys.Names and keys.key_id make sure of that
        said = f'{said}; key="{key}"'
    response: Response = ready([*lines, *_said("HIT", seconds if seconds > 0 else 0, key, said)], stored)
    return response


def _said(verdict: str, age: float, key: str | None, status: str) -> Lines:
    """What this cache says of an answer."""
    if key is None:
        return (("Age", age_value(age)), ("X-Cache", verdict), ("Cache-Status", status))
    return (("Age", age_value(age)), ("X-Cache", verdict), ("X-Cache-Key", key), ("Cache-Status", status))


@functools.lru_cache(maxsize=64)
def ready_class(base: type[Response]) -> Any:
    """The app's response class for lines that were checked when they were stored.

    Werkzeug checks every header line when it is added, and copies all of them when the response is sent: 9 µs for the
    seven lines of a hit. Those of a stored response were checked before; what ``after_request`` functions change is
    seen by comparing.
    """

    class Ready(base):  # type: ignore[misc,valid-type]
        def __init__(self, lines: list[tuple[str, str]], stored: StoredResponse) -> None:
            headers = Headers.__new__(Headers)
            headers._list = lines
            count = len(lines)
            super().__init__([stored.body], stored.status, headers)
            del lines[count:]  # a Content-Type that the view did not send
            self._ready_lines = tuple(lines)

        def get_wsgi_headers(self, environ: Any) -> Headers:
            headers: Headers = self.headers
            if tuple(headers._list) == self._ready_lines and self.status_code == 200:
                return headers
            wsgi: Headers = super().get_wsgi_headers(environ)
            return wsgi

    Ready.__name__, Ready.__qualname__ = base.__name__, base.__qualname__
    return Ready


def reply(
    make: type[Response],
    entry: Entry,
    stored: StoredResponse,
    *,
    now: int,
    environ: Mapping[str, Any],
    verdict: str,
    key: str | None,
    status: Mapping[str, Any],
) -> Response:
    """The response of a stored one.

    Args:
        make: the app's response class.
        entry: the entry.
        stored: its content.
        now: the store's clock, µs.
        environ: the WSGI environ, with conditions and ranges in place.
        verdict: ``HIT``, ``STALE`` or ``MISS`` (another's load).
        key: the key to show, if any.
        status: what :func:`~flask_rcache.http.cache_status` takes.
    """
    lines, upstream = split_age(stored.headers)
    age = (now - entry.created) / MICROSECONDS + upstream
    return _conditional(make, stored, (*lines, *_said(verdict, age, key, cache_status(key=key, **status))), environ)


def _conditional(make: type[Response], stored: StoredResponse, lines: Lines, environ: Mapping[str, Any]) -> Response:
    outcome = evaluate(environ, int(stored.status[:3]), lines, body_length=len(stored.body))
    if outcome.action is not Action.SEND:
        return answer(make, outcome, stored.body)
    return _made(make, stored.body, stored.status, lines)


def answer(make: type[Response], outcome: Outcome, body: bytes) -> Response:
    """The 304, 206 or 416 that a condition or a range calls for."""
    if outcome.action is Action.RANGE:
        return _made(make, body[outcome.start : outcome.stop], 206, outcome.headers)
    response = _made(make, b"", 304 if outcome.action is Action.NOT_MODIFIED else 416, outcome.headers)
    if outcome.action is Action.NOT_MODIFIED:
        response.headers.pop("Content-Length", None)
    return response


def _made(make: type[Response], body: bytes, status: str | int, lines: Lines) -> Response:
    """A response with these lines and its own length: no Content-Type comes from werkzeug."""
    headers = Headers(lines)
    typed = "Content-Type" in headers
    response = make(body, status, headers)
    if not typed:
        response.headers.pop("Content-Type", None)
    return response


def mark(response: Response, verdict: str, key: str | None) -> Response:
    """Say on a response what this cache did: ``X-Cache`` and ``X-Cache-Key``."""
    response.headers["X-Cache"] = verdict
    if key is None:
        response.headers.pop("X-Cache-Key", None)
    else:
        response.headers["X-Cache-Key"] = key
    return response


def say(response: Response, **status: Any) -> None:
    """Append this cache's member to ``Cache-Status``."""
    existing = ", ".join(response.headers.getlist("Cache-Status"))
    response.headers["Cache-Status"] = cache_status(existing=existing or None, **status)
