"""Building what is sent from what is stored.

Owns the response of a hit: its headers, its age, the answer to conditions and ranges, and what the cache says of it.
The verdicts are ``http``'s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from operator import itemgetter
from typing import Any, Final

import werkzeug
from flask import Flask, Response
from werkzeug.datastructures import Headers

from ..http import (
    MAX_DELTA_SECONDS,
    Action,
    Outcome,
    age_value,
    cache_status,
    evaluate,
    field_names,
    parse_cache_control,
    shown_field,
    split_age,
)
from ..model.entry import MICROSECONDS, Entry, StoredResponse
from ..observed import is_flask_s_own

__all__ = [
    "CONDITIONS",
    "Lines",
    "MadeOnce",
    "answer",
    "built",
    "conditional",
    "hit",
    "make_once",
    "mark",
    "own_response",
    "privately",
    "put",
    "ready_class",
    "reply",
    "say",
    "settle",
    "varying",
    "wire_lines",
]

#: The names in an environ that make another answer than the whole.
CONDITIONS: Final = frozenset({"HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_RANGE"})

#: What :func:`ready_class` does in another way, where the app's response class has it as it is.
_REPLACED: Final = ("__init__", "close", "get_app_iter", "iter_encoded")

#: What werkzeug sends in another form than it is given.
_MADE_ABSOLUTE: Final = frozenset({"location", "content-location"})
_MARKS: Final = frozenset({"x-cache", "x-cache-key"})

Lines = tuple[tuple[str, str], ...]

_name_of: Final = itemgetter(0)


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
    lines, upstream = stored.headers, 0
    if lines and lines[-1][0] == "Age":
        lines, upstream = split_age(lines)
    if not environ.keys().isdisjoint(CONDITIONS):
        status = cache_status(hit=True, ttl=ttl - age, key=key)
        return _conditional(ready.__base__, stored, (*lines, *_said("HIT", age + upstream, key, status)), environ)
    seconds = int(age) + upstream
    shown = str(seconds) if 0 <= seconds <= MAX_DELTA_SECONDS else age_value(seconds)
    if key is None:
        said = [("Age", shown), ("X-Cache", "HIT"), ("Cache-Status", f"rcache; hit; ttl={int(ttl - age)}")]
    else:  # it needs no escaping: keys.Names and keys.key_id make sure of that
        status = f'rcache; hit; ttl={int(ttl - age)}; key="{key}"'
        said = [("Age", shown), ("X-Cache", "HIT"), ("X-Cache-Key", key), ("Cache-Status", status)]
    response: Response = ready([*lines, *said], stored)
    return response


def _said(verdict: str, age: float, key: str | None, status: str) -> Lines:
    """What this cache says of an answer."""
    if key is None:
        return (("Age", age_value(age)), ("X-Cache", verdict), ("Cache-Status", status))
    return (("Age", age_value(age)), ("X-Cache", verdict), ("X-Cache-Key", key), ("Cache-Status", status))


@functools.lru_cache(maxsize=64)
def ready_class(base: type[Response]) -> Any:
    """The app's response class for what was checked when it was stored.

    Werkzeug checks every header line when it is added, and copies all of them when the response is sent. Those of a
    stored response were checked before; what ``after_request`` functions change is found by comparing.
    """
    is_plain = all(getattr(base, name) is getattr(werkzeug.Response, name) for name in _REPLACED)

    class Ready(base):  # type: ignore[misc,valid-type]
        _rcache_made = True  # see MadeOnce
        rcache_base = base

        def __init__(self, lines: list[tuple[str, str]], stored: StoredResponse) -> None:
            headers = Headers.__new__(Headers)
            headers._list = lines
            self._ready_lines = tuple(lines)
            self._ready_body = body = [stored.body]
            if is_plain:  # what follows is what it makes of these arguments
                self.headers, self.response = headers, body
                self._status, self._status_code = stored.status, int(stored.status[:3])
                self.direct_passthrough = False
                self._on_close: list[Any] = []
                return
            count = len(lines)
            super().__init__(body, stored.status, headers)
            del lines[count:]  # a Content-Type that the view did not send

        def get_wsgi_headers(self, environ: Any) -> Headers:
            headers: Headers = self.headers
            if self._status_code == 200 and tuple(headers._list) == self._ready_lines:
                return headers
            wsgi: Headers = super().get_wsgi_headers(environ)
            return wsgi

        def get_app_iter(self, environ: Any) -> Any:
            body: Any = self.response
            is_whole = self._status_code == 200 and environ["REQUEST_METHOD"] == "GET"
            if is_plain and is_whole and body is self._ready_body and not self._on_close:
                return body  # as a server takes it: bytes, and nothing to close
            return super().get_app_iter(environ)

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
    return built(make, stored.body, stored.status, lines)


def answer(make: type[Response], outcome: Outcome, body: bytes) -> Response:
    """The 304, 206 or 416 that a condition or a range calls for."""
    if outcome.action is Action.RANGE:
        return built(make, body[outcome.start : outcome.stop], 206, outcome.headers)
    response = built(make, b"", 304 if outcome.action is Action.NOT_MODIFIED else 416, outcome.headers)
    if outcome.action is Action.NOT_MODIFIED:
        response.headers.pop("Content-Length", None)
    return response


def built(make: type[Response], body: bytes, status: str | int, lines: Lines) -> Response:
    """A response with these lines and its own length: no Content-Type comes from werkzeug."""
    headers = Headers(lines)
    typed = "Content-Type" in headers
    response = make(body, status, headers)
    response.__dict__[_MADE] = True  # of one that the app has made
    if not typed:
        response.headers.pop("Content-Type", None)
    return response


def conditional(make: type[Response], response: Response, environ: Mapping[str, Any]) -> Response:
    """What the request's conditions and range make of a whole response."""
    body = response.get_data()
    outcome = evaluate(environ, response.status_code, tuple(response.headers), body_length=len(body))
    if outcome.action is Action.SEND:
        return response
    instead = answer(make, outcome, body)
    instead.call_on_close(response.close)
    return instead


class MadeOnce:
    """An app's own ``make_response``: what it has made for a decorated view, Flask hands to it once more.

    Args:
        make: the method.
    """

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[Any], Response]) -> None:
        self._make: Final = make

    def __call__(self, rv: Any) -> Response:
        """What it makes; a response that it has made stays as it is."""
        if isinstance(rv, Response) and getattr(rv, _MADE, False):
            return rv
        return self._make(rv)


#: Where a response has that it was made.
_MADE: Final = "_rcache_made"


def make_once(app: Flask) -> None:
    """Have an app's own ``make_response``, where it has one, called once for each answer."""
    make: Any = app.make_response
    if getattr(make, "__func__", None) is not Flask.make_response or not is_flask_s_own(Flask.make_response):
        app.make_response = MadeOnce(make)  # type: ignore[method-assign]


def own_response(app: Flask, returned: Any) -> Response:
    """What a view returned, as a response of this request; an object that the view may keep is left as it is."""
    response = _own_response(app, returned)
    if type(app.make_response) is MadeOnce:
        response.__dict__[_MADE] = True
    return response


def _own_response(app: Flask, returned: Any) -> Response:
    response = app.make_response(returned)
    if response is returned or (isinstance(returned, tuple) and response is returned[0]):
        if type(response) is Response:  # what `copy` does, without asking the class how
            made = Response.__new__(Response)
            made.__dict__.update(response.__dict__)
            response = made
        else:
            response = copy(response)
        headers = Headers.__new__(Headers)
        headers._list = list(response.headers)  # they were checked when they were added
        response.headers = headers
    return response


def wire_lines(response: Response, body: bytes | None, environ: dict[str, Any]) -> Lines:
    """The header lines of a response as they go over the wire.

    Args:
        response: the response.
        body: its bytes; ``None`` when it is streamed.
        environ: the WSGI environ.
    """
    lines = tuple(response.headers)
    kind: Any = type(response)
    kind = getattr(kind, "rcache_base", kind)
    is_plain = response.automatically_set_content_length and _is_plainly_sent(kind)
    if body is None or response.status_code != 200 or not is_plain:
        return tuple(response.get_wsgi_headers(environ))
    # What werkzeug does for these, without copying and checking every line.
    names = field_names(lines)
    if not names.isdisjoint(_MADE_ABSOLUTE):
        return tuple(response.get_wsgi_headers(environ))
    return lines if "content-length" in names else (*lines, ("Content-Length", str(len(body))))


def settle(response: Response) -> None:
    """Have a response of a miss sent as a hit is: its lines and its body are what is sent, as far as nobody changes it.

    Where werkzeug would make others of them, it is left as it is.
    """
    kind: Any = type(response)
    headers, body = response.headers, response.response
    if response.status_code != 200 or type(headers) is not Headers or not _is_plainly_sent(kind):
        return
    if type(body) is not list or len(body) != 1 or type(body[0]) is not bytes or response.direct_passthrough:
        return
    names = field_names(headers._list)
    if "content-length" in names and names.isdisjoint(_MADE_ABSOLUTE):
        settled: Any = response
        settled.__class__ = ready_class(kind)
        settled._ready_lines, settled._ready_body = tuple(headers._list), body


@functools.lru_cache(maxsize=64)
def _is_plainly_sent(kind: Any) -> bool:
    """Whether a response class makes the lines that are sent as werkzeug does."""
    makes = ("get_wsgi_headers", "is_sequence", "iter_encoded")
    return all(getattr(kind, name) is getattr(werkzeug.Response, name) for name in makes)


def varying(response: Response, fields: Iterable[str]) -> Response:
    """The same, which says what it varies by: header fields; for one cookie, all."""
    for field in fields:
        kind, colon, _ = field.partition(":")
        if not colon or kind == "cookie":
            response.vary.add("Cookie" if colon else shown_field(field))
    return response


def privately(response: Response) -> Response:
    """The answer to one caller, which says so to the caches behind this one; unless the view has said otherwise."""
    lines = response.headers.getlist("Cache-Control")
    said = parse_cache_control(lines)
    if not (said.public or said.private or said.no_store or said.s_maxage is not None):
        response.headers["Cache-Control"] = ", ".join(filter(None, [*lines, "private"]))
    return response


def mark(response: Response, verdict: str, key: str | None) -> Response:
    """Say on a response what this cache did: ``X-Cache`` and ``X-Cache-Key``."""
    headers = response.headers
    if type(headers) is Headers and _MARKS.isdisjoint(map(str.lower, map(_name_of, headers._list))):
        headers._list.append(("X-Cache", verdict))
        if key is not None:
            headers._list.append(("X-Cache-Key", key))
        return response
    put(response, "X-Cache", verdict)
    if key is not None:
        put(response, "X-Cache-Key", key)
    elif "X-Cache-Key" in response.headers:
        del response.headers["X-Cache-Key"]
    return response


def say(response: Response, **status: Any) -> None:
    """Append this cache's member to ``Cache-Status``."""
    headers = response.headers
    if type(headers) is Headers and "cache-status" not in map(str.lower, map(_name_of, headers._list)):
        headers._list.append(("Cache-Status", cache_status(**status)))
        return
    existing = [value for name, value in headers if name.lower() == "cache-status"]
    put(response, "Cache-Status", cache_status(existing=", ".join(existing) or None, **status))


def put(response: Response, name: str, value: str) -> None:
    """Set a field to a value of our own, which needs none of the checks that werkzeug makes of one that is given."""
    headers = response.headers
    if type(headers) is not Headers:
        headers[name] = value
        return
    if name.lower() in map(str.lower, map(_name_of, headers._list)):
        headers[name] = value
    else:
        headers._list.append((name, value))
