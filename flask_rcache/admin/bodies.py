"""What callers send, checked: bodies and query arguments, and the one shape of refusing them.

Owns :class:`Refused` and the rules for each field. Does not know Flask, and does nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = [
    "LONGEST_BODY",
    "LONGEST_TEXT",
    "MOST_ENTRIES",
    "MOST_TAGS",
    "Body",
    "Refused",
    "fields",
    "listing",
    "pattern_of",
    "tags_of",
    "text_of",
]

LONGEST_BODY: Final = 64 * 1024
LONGEST_TEXT: Final = 1024
MOST_TAGS: Final = 1000
MOST_ENTRIES: Final = 1000

#: The members of a call's body.
Body = dict[str, Any]


class Refused(Exception):
    """A call that is answered with an error.

    Args:
        status: the HTTP status.
        error: a code that programs may look at.
        message: what is wrong, for people.
        headers: sent with the answer.
        more: further members of the answer.
    """

    def __init__(
        self, status: int, error: str, message: str, *, headers: Mapping[str, str] | None = None, **more: object
    ) -> None:
        super().__init__(message)
        self.status: Final = status
        self.headers: Final = dict(headers or {})
        self.answer: Final[dict[str, object]] = {"status": "error", "error": error, "message": message, **more}


def fields(data: bytes, *, is_json: bool, known: Sequence[str]) -> Body:
    """The members of a body; an empty body has none.

    Args:
        data: as it was sent.
        is_json: whether its media type says so.
        known: the members that the call takes.

    Raises:
        Refused: not a JSON object, or one with other members.
    """
    if not data.strip():
        return {}
    if not is_json:
        raise Refused(415, "unsupported_media_type", "the body must be JSON: send Content-Type: application/json")
    try:
        body = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _bad_body(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise _bad_body("the body must be a JSON object")
    unknown = [name for name in body if name not in known]
    if unknown:
        takes = f"it takes {_listed(known)}" if known else "it takes none"
        raise _bad_body(f"this call does not know {_listed(unknown)}: {takes}")
    return body


def _once(pairs: list[tuple[str, Any]]) -> Body:
    """A JSON object in which no member is repeated: of two that differ, which one is meant is unclear."""
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a member is repeated")
    return body


def pattern_of(body: Body) -> tuple[str, str | None]:
    """The pattern, and the type it is confined to."""
    if "pattern" not in body:
        raise _bad_body('"pattern" is missing: a glob such as "search:*"')
    kind = body.get("type")
    return _text(body["pattern"], "pattern", _bad_body), None if kind is None else _text(kind, "type", _bad_body)


def tags_of(body: Body) -> list[str]:
    """The tags."""
    tags = body.get("tags")
    if not isinstance(tags, list) or not 1 <= len(tags) <= MOST_TAGS:
        raise _bad_body(f'"tags" must be a list of 1 to {MOST_TAGS} tags')
    return [_text(tag, "tags", _bad_body, each=True) for tag in tags]


def text_of(body: Body, name: str) -> str:
    """The one member of a body, which is text."""
    if name not in body:
        raise _bad_body(f'"{name}" is missing')
    return _text(body[name], name, _bad_body)


def names_of(body: Body) -> list[str]:
    """The names of warming tasks; none for all."""
    names = body.get("names", [])
    if not isinstance(names, list) or len(names) > MOST_TAGS:
        raise _bad_body(f'"names" must be a list of at most {MOST_TAGS} names')
    return [_text(name, "names", _bad_body, each=True) for name in names]


def listing(query: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The arguments of a listing: ``type``, ``pattern``, ``cursor`` and ``limit``.

    Args:
        query: the values of each argument.
    """
    known = ("type", "pattern", "cursor", "limit")
    unknown = [name for name in query if name not in known]
    if unknown:
        raise _bad_argument(f"this call does not know {_listed(unknown)}: it takes {_listed(known)}")
    repeated = [name for name, values in query.items() if len(values) > 1]
    if repeated:
        raise _bad_argument(f"{_listed(repeated)} is given more than once")
    # An empty argument is one that was left out: forms send those.
    given: dict[str, Any] = {name: _text(values[0], name, _bad_argument) for name, values in query.items() if values[0]}
    if "limit" in given:
        text = given["limit"]
        if not (text.isascii() and text.isdecimal() and len(text) < 5 and 1 <= int(text) <= MOST_ENTRIES):
            raise _bad_argument(f'"limit" must be a number from 1 to {MOST_ENTRIES}')
        given["limit"] = int(text)
    return given


def _text(value: object, name: str, refused: Callable[[str], Refused], *, each: bool = False) -> str:
    which = f'each of "{name}"' if each else f'"{name}"'
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_TEXT:
        raise refused(f"{which} must be text of 1 to {LONGEST_TEXT} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise refused(f"{which} contains a lone surrogate") from error
    return value


def _bad_body(message: str) -> Refused:
    return Refused(400, "invalid_body", message)


def _bad_argument(message: str) -> Refused:
    return Refused(400, "invalid_argument", message)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(json.dumps(name[:80]) for name in names)
