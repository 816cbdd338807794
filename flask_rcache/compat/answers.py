"""What a decorated view returned, as a value that can be stored, and back: responses, and HTTP errors that it raised.

Owns that form, and which answers are not for the next visitor. Flask-Caching pickles the objects themselves.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from flask import Response as FlaskResponse
from flask import current_app
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.wrappers import Response

from ..errors import EncodeError
from ..http import parse_cache_control
from ..http.storable import STORABLE
from ..model.named_tuple import NamedTuple

__all__ = ["Answer", "Page", "as_page", "pack", "page_in", "refusal", "unpack", "whole"]

_RESPONSE: Final = "flask_rcache.compat:response"
_ERROR: Final = "flask_rcache.compat:error"
_PAGE: Final = "flask_rcache.compat:page"
#: Before a list that would be taken for one of these: clients may have made it.
_LIST: Final = "flask_rcache.compat:list"
_BEGINNING: Final = "flask_rcache.compat:"
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
    if type(answer) is list and answer and isinstance(answer[0], str) and answer[0].startswith(_BEGINNING):
        return [_LIST, answer]
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
        view: which view it is of, where the keys of two are spelled alike.
        endpoint: of the request that it was made for.
    """

    root: str
    fields: tuple[str, ...]
    view: str
    endpoint: str | None


def as_page(page: Page, packed: Any) -> Any:
    """A packed answer with the requests that it is for."""
    return [_PAGE, page.root, list(page.fields), packed, page.view, page.endpoint]


def page_in(value: Any) -> Page | None:
    """The requests that a packed answer is for; ``None`` for a value that is no page."""
    if type(value) is list and len(value) == 6 and value[0] == _PAGE:
        return Page(value[1], tuple(value[2]), *value[4:])
    return None


def unpack(value: Any) -> Answer:
    """The answer that :func:`pack` made a value of; a response is one of the app's own class."""
    if type(value) is not list or not value:
        return value
    if value[0] == _PAGE and len(value) == 6:
        value = value[3]
    if type(value) is list and value:
        if value[0] == _RESPONSE and len(value) == 4:
            kind = current_app.response_class if current_app else FlaskResponse
            _, status, headers, body = value
            return kind(body, status=status, headers=Headers([(name, text) for name, text in headers]))
        if value[0] == _ERROR and len(value) == 3:
            return default_exceptions[value[1]](description=value[2])
        if value[0] == _LIST and len(value) == 2:
            return value[1]
    return value


def refusal(answer: Answer, *, is_of_view: bool = False) -> str:
    """Why an answer of a view is not stored; empty for one that is.

    Args:
        answer: what the view returned, or the ``HTTPException`` that it raised.
        is_of_view: whether a tuple is a body with its status and its headers, as Flask takes it.
    """
    if isinstance(answer, HTTPException):
        return _of_error(answer)
    if isinstance(answer, Response):
        return _of_response(answer)
    if not isinstance(answer, tuple) or len(answer) < 2:
        return ""
    why = ""
    if isinstance(answer[-1], dict | list | tuple | Headers):
        with suppress(TypeError, ValueError):  # the value of a function that is no view
            why = _of_headers(Headers(answer[-1]))
    if not why and is_of_view:
        status = str(answer[1])[:3]
        if status.isdecimal() and 100 <= int(status) <= 599 and int(status) not in STORABLE:
            why = f"with status {status}"
    return why


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
