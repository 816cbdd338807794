"""What a visitor may send: query strings and bodies in, typed values out, or a 400 that says why."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Never

from flask import abort
from werkzeug.datastructures import MultiDict
from werkzeug.routing import BaseConverter

ORIGINS = ("EWR", "JFK", "LGA")
MAX_PAGE = 20_000  # beyond the last page of the whole table
MAX_SEATS = 900
MAX_NOTE = 120

Query = MultiDict[str, str]


class TailNumber(BaseConverter):
    """A tail number in a URL: anything else is a 404 before any view or tag sees it."""

    regex = "[A-Z0-9]{3,8}"


@dataclass(frozen=True, slots=True)
class Search:
    """A validated search; None means "any"."""

    origin: str | None
    dest: str | None
    carrier: str | None
    date: date | None
    page: int


@dataclass(frozen=True, slots=True)
class PlaneFilter:
    """A validated filter of the list of planes; None means "any"."""

    manufacturer: str | None
    model: str | None
    page: int


def search(query: Query) -> Search:
    """Read the arguments of `/api/search`."""
    _known(query, ("origin", "dest", "carrier", "date", "page"))
    origin = _code(query, "origin", 3)
    if origin is not None and origin not in ORIGINS:
        _refuse(f"origin must be one of {', '.join(ORIGINS)}")
    return Search(origin, _code(query, "dest", 3), _code(query, "carrier", 2), _date(query), _page(query))


def plane_filter(query: Query) -> PlaneFilter:
    """Read the arguments of `/api/planes`."""
    _known(query, ("manufacturer", "model", "page"))
    return PlaneFilter(_text(query, "manufacturer"), _text(query, "model"), _page(query))


def one_of(query: Query, name: str, allowed: Iterable[str]) -> str:
    """Read the one argument `name`, which must be one of `allowed`."""
    _known(query, (name,))
    value = query.get(name, "")
    if value not in (choices := list(allowed)):
        _refuse(f"{name} must be one of {', '.join(choices)}")
    return value


def plane_changes(body: Any) -> dict[str, int | str | None]:
    """Read the body of a plane's PATCH: `seats`, `note` or both, and nothing else."""
    if not isinstance(body, dict) or not body:
        _refuse("send a JSON object with seats, note or both")
    unknown = sorted(set(body) - {"seats", "note"})
    if unknown:
        _refuse(f"unknown field {unknown[0]!r}; seats and note can be changed")
    if "seats" in body:
        seats = body["seats"]
        # bool is an int in Python, and not a number of seats.
        if type(seats) is not int or not 1 <= seats <= MAX_SEATS:
            _refuse(f"seats must be a whole number from 1 to {MAX_SEATS}")
    if "note" in body:
        note = body["note"]
        if note is not None and not (isinstance(note, str) and len(note) <= MAX_NOTE and note.isprintable()):
            _refuse(f"note must be null or one line of at most {MAX_NOTE} characters")
    return dict(body)


def carrier(text: str) -> str:
    """Read the code of an airline."""
    if not re.fullmatch(r"[A-Z0-9]{2}", text, re.ASCII):
        _refuse("an airline is a code of 2 capital letters or digits")
    return text


def switch(body: Any, name: str) -> bool:
    """Read a body that is one switch, `{name: true}` or `{name: false}`."""
    if not isinstance(body, dict) or set(body) != {name} or not isinstance(body[name], bool):
        _refuse(f"send a JSON object with {name}, true or false")
    return bool(body[name])


def _known(query: Query, names: tuple[str, ...]) -> None:
    # Every query string is a key of its own: what means nothing must not make one.
    for name, values in query.lists():
        if name not in names:
            _refuse(f"unknown argument {name!r}; known are {', '.join(names)}")
        if len(values) > 1:
            _refuse(f"{name} is given {len(values)} times")


def _code(query: Query, name: str, length: int) -> str | None:
    value = query.get(name)
    if not value:
        return None
    if not re.fullmatch(f"[A-Z0-9]{{{length}}}", value):
        _refuse(f"{name} must be a code of {length} capital letters or digits")
    return value


def _text(query: Query, name: str) -> str | None:
    value = query.get(name)
    if not value:
        return None
    if len(value) > 60 or not value.isprintable():
        _refuse(f"{name} must be at most 60 printable characters")
    return value


def _date(query: Query) -> date | None:
    value = query.get("date")
    if not value:
        return None
    try:
        day = date.fromisoformat(value) if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII) else None
    except ValueError:
        day = None
    if day is None or day.year != 2013:
        _refuse("date must be a day of 2013, such as 2013-02-14")
    return day


def _page(query: Query) -> int:
    value = query.get("page", "1")
    if not re.fullmatch(r"[1-9]\d{0,4}", value, re.ASCII) or int(value) > MAX_PAGE:
        _refuse(f"page must be a whole number from 1 to {MAX_PAGE}")
    return int(value)


def _refuse(message: str) -> Never:
    abort(400, message)
