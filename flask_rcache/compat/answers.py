"""What a decorated view returned, as a value that can be stored, and back: responses, and HTTP errors that it raised.

Owns that form, and which answers are not for the next visitor. Flask-Caching pickles the objects themselves.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from flask import Response as FlaskResponse
from flask import current_app
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.wrappers import Response

from ..errors import EncodeError
from ..http import parse_cache_control
from ..http.storable import STORABLE

__all__ = ["Answer", "Page", "as_page", "pack", "page_in", "refusal", "unpack", "whole"]

_RESPONSE: Final = "flask_rcache.compat:response"
_ERROR: Final = "flask_rcache.compat:error"
_PAGE: Final = "flask_rcache.compat:page"
#: Anything that a decorated function may return or raise.
Answer = Any


def pack(answer: Answer) -> Any:
    """The answer as plain values.

    Raises:
        EncodeError: it is a response, or an HTTP error, that the next visitor must not get.
    """
    if isinstance(answer, Response):
        why = refusal(answer)
        if why:
            raise EncodeError(f"a response {why}: it is for one visitor, or not whole")
        # Lists: they are read faster than tuples, which MessagePack does not know.
        return [_RESPONSE, answer.status, [list(each) for each in answer.headers.items()], answer.get_data()]
    if isinstance(answer, HTTPException):
        why = refusal(answer)
        if why:
            raise EncodeError(f"an HTTP error {why}: return a response instead of raising one")
        return [_ERROR, answer.code, answer.description]
    return answer


def whole(answer: Answer) -> Answer:
    """The answer of a view; a response with a status or headers beside it as one response."""
    if isinstance(answer, tuple) and answer and isinstance(answer[0], Response) and current_app:
        return current_app.make_response(answer)
    return answer


class Page(NamedTuple):
    """For which requests a view's answer to a path is.

    Args:
        root: where the app is, as the links in it say: scheme, host and script name.
        fields: what such a request has none of.
    """

    root: str
    fields: tuple[str, ...]


def as_page(page: Page, packed: Any) -> Any:
    """A packed answer with the requests that it is for."""
    return [_PAGE, page.root, list(page.fields), packed]


def page_in(value: Any) -> Page | None:
    """The requests that a packed answer is for; ``None`` for a value that is no page."""
    if type(value) is list and len(value) == 4 and value[0] == _PAGE:
        return Page(value[1], tuple(value[2]))
    return None


def unpack(value: Any) -> Answer:
    """The answer that :func:`pack` made a value of; a response is one of the app's own class."""
    if type(value) is not list or not value:
        return value
    if value[0] == _PAGE and len(value) == 4:
        value = value[3]
    if type(value) is list and value:
        if value[0] == _RESPONSE and len(value) == 4:
            kind = current_app.response_class if current_app else FlaskResponse
            _, status, headers, body = value
            return kind(body, status=status, headers=Headers([(name, text) for name, text in headers]))
        if value[0] == _ERROR and len(value) == 3:
            return default_exceptions[value[1]](description=value[2])
    return value


def refusal(answer: Answer) -> str:
    """Why an answer of a view is not stored; empty for one that is.

    Args:
        answer: what the view returned, or the ``HTTPException`` that it raised.
    """
    if isinstance(answer, HTTPException):
        return _of_error(answer)
    if isinstance(answer, Response):
        return _of_response(answer)
    if isinstance(answer, tuple) and len(answer) > 1 and isinstance(answer[-1], dict | list | Headers):
        try:
            return _of_headers(Headers(answer[-1]))
        except (TypeError, ValueError):  # the value of a function that is no view
            return ""
    return ""


def _of_error(error: HTTPException) -> str:
    kind = default_exceptions.get(error.code or 0)
    if error.response is not None or type(error) is not kind or not vars(error).keys() <= {"description", "response"}:
        return f"that is more than a code and a description ({type(error).__name__})"
    return "" if error.code in STORABLE else f"with status {error.code}"


def _of_response(response: Response) -> str:
    if response.status_code not in STORABLE:
        return f"with status {response.status_code}"
    if response.is_streamed or response.direct_passthrough:
        return "that is streamed"
    return _of_headers(response.headers)


def _of_headers(headers: Headers) -> str:
    if "Set-Cookie" in headers:
        return "with Set-Cookie"
    control = parse_cache_control(headers.getlist("Cache-Control"))
    return "whose Cache-Control is private or no-store" if control.private or control.no_store else ""
