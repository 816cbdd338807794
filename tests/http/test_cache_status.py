"""Cache-Status: its text, and that a structured-field parser reads back what was meant."""

from __future__ import annotations

import re
from typing import Any, get_args
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.http import Forward, Reason, cache_status

BARE = re.compile(
    r"(?P<integer>-?[0-9]{1,15}(?![0-9.]))"
    r'|"(?P<string>(?:[ !#-\[\]-~]|\\["\\])*)"'
    r"|(?P<token>[A-Za-z*][\w!#$%&'*+.^`|~:/-]*)",
    re.ASCII,
)
SURROGATE = re.compile("[\ud800-\udfff]")


def parse_bare(text: str, position: int) -> tuple[Any, int]:
    """One bare item: an integer, a string or a token (as a one-tuple)."""
    match = BARE.match(text, position)
    assert match, f"no item at {text[position:]!r}"
    if match["integer"] is not None:
        return int(match["integer"]), match.end()
    if match["string"] is not None:
        return re.sub(r"\\(.)", r"\1", match["string"]), match.end()
    return (match["token"],), match.end()


def parse_list(text: str) -> list[tuple[Any, dict[str, Any]]]:
    """A structured list of items with parameters (RFC 9651 section 4.2.1), which must be the whole text."""
    members: list[tuple[Any, dict[str, Any]]] = []
    position = 0
    while True:
        item, position = parse_bare(text, position)
        parameters: dict[str, Any] = {}
        while match := re.compile(r"; *([a-z*][a-z0-9_.*-]*)").match(text, position):
            value: Any = True
            position = match.end()
            if text.startswith("=", position):
                value, position = parse_bare(text, position + 1)
            parameters[match[1]] = value
        members.append((item, parameters))
        if position == len(text):
            return members
        comma = re.compile(r"[ \t]*,[ \t]*").match(text, position)
        assert comma, f"no comma at {text[position:]!r}"
        position = comma.end()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param({"hit": True, "ttl": 29.9}, "rcache; hit; ttl=29", id="RFC9211-2.1-hit"),
        pytest.param({"hit": True, "ttl": -0.5}, "rcache; hit; ttl=-1", id="RFC9211-2.4-stale"),
        pytest.param({"hit": True, "fwd": "stale"}, "rcache; hit", id="RFC9211-2.2-no-fwd-beside-hit"),
        pytest.param(
            {"fwd": "bypass", "detail": Reason.AUTHORIZATION},
            "rcache; fwd=bypass; detail=AUTHORIZATION",
            id="RFC9211-2.8-reason",
        ),
        pytest.param(
            {"fwd": "uri-miss", "detail": "SET-COOKIE"},
            "rcache; fwd=uri-miss; detail=SET-COOKIE",
            id="RFC9211-2.8-text",
        ),
        pytest.param(
            {"fwd": "uri-miss", "stored": True, "ttl": 300},
            "rcache; fwd=uri-miss; stored; ttl=300",
            id="RFC9211-2.5-stored",
        ),
        pytest.param(
            {"fwd": "stale", "fwd_status": 304},
            "rcache; fwd=stale; fwd-status=304",
            id="RFC9211-2.3-fwd-status",
        ),
        pytest.param(
            {"fwd": "uri-miss", "collapsed": True},
            "rcache; fwd=uri-miss; collapsed",
            id="RFC9211-2.6-collapsed",
        ),
        pytest.param({"hit": True, "key": "cache:a:1"}, 'rcache; hit; key="cache:a:1"', id="RFC9211-2.7-key"),
        pytest.param({"hit": True, "key": 'a"\\b'}, r'rcache; hit; key="a\"\\b"', id="RFC9651-3.3.3-escapes"),
        pytest.param({"hit": True, "key": "é\n"}, 'rcache; hit; key="%C3%A9%0A"', id="RFC9651-3.3.3-ascii-only"),
        pytest.param(
            {"fwd": "miss", "detail": "two words"},
            'rcache; fwd=miss; detail="two words"',
            id="RFC9211-2.8-string",
        ),
        pytest.param({"hit": True, "name": "my cache"}, '"my cache"; hit', id="RFC9211-2-name-string"),
        pytest.param({"hit": True, "existing": "cdn; hit"}, "cdn; hit, rcache; hit", id="RFC9211-2-appended"),
        pytest.param({"hit": True, "existing": "((junk"}, "((junk, rcache; hit", id="RFC9211-2-invalid-untouched"),
        pytest.param({"hit": True, "existing": " "}, "rcache; hit", id="RFC9211-2-existing-empty"),
    ],
)
def test_cache_status__is_written(arguments: dict[str, Any], text: str) -> None:
    """The text is that of the row."""
    assert cache_status(**arguments) == text


@given(
    hit=st.booleans(),
    fwd=st.none() | st.sampled_from(get_args(Forward)),
    fwd_status=st.none() | st.integers(100, 599),
    ttl=st.none() | st.floats(allow_nan=False),
    stored=st.booleans(),
    collapsed=st.booleans(),
    key=st.none() | st.text(),
    detail=st.none() | st.text() | st.sampled_from(Reason),
    existing=st.none() | st.just('ExampleCache; hit; key="a, b"'),
)
def test_cache_status__parses_as_a_structured_field(
    *,
    hit: bool,
    fwd: Forward | None,
    fwd_status: int | None,
    ttl: float | None,
    stored: bool,
    collapsed: bool,
    key: str | None,
    detail: str | None,
    existing: str | None,
) -> None:
    """RFC 9211 section 2: whatever is said, each parameter is read back with its type and value."""
    text = cache_status(
        hit=hit,
        fwd=fwd,
        fwd_status=fwd_status,
        ttl=ttl,
        stored=stored,
        collapsed=collapsed,
        key=key,
        detail=detail,
        existing=existing,
    )
    members = parse_list(text)
    assert len(members) == (1 if existing is None else 2)
    name, parameters = members[-1]
    assert name == ("rcache",)
    assert parameters.get("hit", False) is hit
    forwarded = fwd is not None and not hit
    assert parameters.get("fwd") == ((fwd,) if forwarded else None)
    assert parameters.get("fwd-status") == (fwd_status if forwarded else None)
    assert parameters.get("stored", False) is (stored and forwarded)
    assert parameters.get("collapsed", False) is (collapsed and forwarded)
    assert ("ttl" in parameters) is (ttl is not None)
    if ttl is not None and abs(ttl) < 10**15 - 1:
        assert parameters["ttl"] <= ttl < parameters["ttl"] + 1
    for field, value in (("key", key), ("detail", detail)):
        assert (field in parameters) is (value is not None)
        if value is not None and "%" not in value and not SURROGATE.search(value):
            read = parameters[field]
            assert unquote(read[0] if isinstance(read, tuple) else read) == value
