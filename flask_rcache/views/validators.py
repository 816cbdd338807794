"""What a view states of the version of its answer, before it has made it: an ETag, or when it was last modified.

Owns :func:`not_modified`, and the way of what was stated there to the response of the decorated view that stated it.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final

from flask import Response
from werkzeug.http import http_date

from ..context import request_context
from ..http import Action, evaluate, is_entity_tag
from ..observed import raw_environ

__all__ = ["Stating", "not_modified", "with_stated"]

#: In the environ: the validators that the view which runs has stated.
_STATED: Final = "flask_rcache.stated"

Lines = tuple[tuple[str, str], ...]


def not_modified(*, etag: str | None = None, last_modified: datetime | date | float | None = None) -> Response | None:
    """The 304 that a view returns at once when what was asked for has not changed since; else ``None``.

    ``if (r := rcache.not_modified(etag=...)): return r`` stands before whatever is expensive. What asks is the client,
    or the cache, about an expired response that it has still. When the view goes on, a decorated view's response gets
    these validators, so that the next request can ask.

    Args:
        etag: of the current version, such as a number of it or a hash; quoted or not, ``W/"..."`` for a weak one.
        last_modified: of the current version; a ``datetime`` without a zone is in UTC, a number is seconds since the
            epoch.

    Raises:
        ValueError: neither is given, or the ETag contains what no ETag can.
        RuntimeError: there is no request.

    Source: RFC 9110 section 13.2.2.
    """
    lines = _lines(etag, last_modified)
    ctx = request_context()
    if ctx is None:
        raise RuntimeError("not_modified() answers a request: call it in a view")
    environ = raw_environ(ctx.request)
    outcome = evaluate(environ, 200, lines, body_length=0)
    if outcome.action is Action.NOT_MODIFIED:
        answer: Response = ctx.app.response_class(status=304)
        del answer.headers["Content-Type"]
        answer.headers.extend(lines)
        return answer
    environ[_STATED] = lines
    return None


def _lines(etag: str | None, last_modified: datetime | date | float | None) -> Lines:
    lines: Lines = ()
    if etag is not None:
        quoted = etag if is_entity_tag(etag) else f'"{etag}"'
        if not is_entity_tag(quoted) or not quoted.isascii():
            raise ValueError(
                f"an ETag is printable ASCII without blanks and quotes, not {etag!r:.80}: take a hash of it"
            )
        lines = (("ETag", quoted),)
    if last_modified is not None:
        lines = (*lines, ("Last-Modified", http_date(last_modified)))
    if not lines:
        raise ValueError("not_modified() needs an etag, a last_modified, or both")
    return lines


class Stating:
    """A decorated view runs, and what it states is its own, and not that of the view that calls it.

    Args:
        environ: of the request.

    Attributes:
        lines: what it has stated, once it has run.
    """

    __slots__ = ("_environ", "_outer", "lines")

    def __init__(self, environ: dict[str, Any]) -> None:
        self._environ: Final = environ
        self._outer: Lines = ()
        self.lines: Lines = ()

    def __enter__(self) -> Stating:
        self._outer = self._environ.pop(_STATED, ())
        return self

    def __exit__(self, *_: object) -> None:
        self.lines = self._environ.pop(_STATED, ())
        if self._outer:
            self._environ[_STATED] = self._outer


def with_stated(response: Response, stated: Lines) -> Response:
    """A view's response with the validators that the view has stated, where it has none of its own."""
    for name, value in stated if response.status_code == 200 else ():
        response.headers.setdefault(name, value)
    return response
