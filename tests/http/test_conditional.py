"""Conditions and ranges against a stored response."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.http import HIDDEN_FIELDS, SEND, Action, evaluate, is_made_etag, make_etag

OLD = "Sun, 06 Nov 1994 08:49:37 GMT"
NEW = "Sun, 06 Nov 1994 08:49:38 GMT"
STORED = (("Content-Type", "text/plain"), ("ETag", 'W/"a"'), ("Last-Modified", NEW), ("Content-Length", "10"))
STRONG = (("ETag", '"a"'), ("Last-Modified", OLD), ("Date", NEW))
NO_TAG = (("Last-Modified", NEW),)
PLAIN = (("Content-Type", "text/plain"),)

Headers = tuple[tuple[str, str], ...]


def ask(fields: dict[str, str], headers: Headers = STORED, *, method: str = "GET", status: int = 200) -> Action:
    """The action for a request with these fields (as `if_none_match`), of a body of ten bytes."""
    return evaluate(environ(fields, method), status, headers, body_length=10).action


def environ(fields: dict[str, str], method: str = "GET") -> dict[str, Any]:
    return {"REQUEST_METHOD": method, **{f"HTTP_{name.upper()}": value for name, value in fields.items()}}


def if_none_match(value: str) -> dict[str, str]:
    return {"if_none_match": value}


def if_modified_since(value: str) -> dict[str, str]:
    return {"if_modified_since": value}


NOT_MODIFIED: list[tuple[str, dict[str, str], Headers, str, int, bool]] = [
    ("RFC9110-13-unconditional", {}, STORED, "GET", 200, False),
    ("RFC9110-13.1.2-match", if_none_match('W/"a"'), STORED, "GET", 200, True),
    ("RFC9110-8.8.3.2-weak-compare", if_none_match('"a"'), STORED, "GET", 200, True),
    ("RFC9110-8.8.3.2-weak-compare-strong", if_none_match('W/"a"'), STRONG, "GET", 200, True),
    ("RFC9110-13.1.2-list", if_none_match('"x", W/"y","a"'), STORED, "GET", 200, True),
    ("RFC9110-13.1.2-comma-in-a-tag", if_none_match('"x,a", "b"'), STORED, "GET", 200, False),
    ("RFC9110-13.1.2-no-match", if_none_match('"b"'), STORED, "GET", 200, False),
    ("RFC9110-13.1.2-case-sensitive", if_none_match('"A"'), STORED, "GET", 200, False),
    ("RFC9110-13.1.2-star", if_none_match("*"), STORED, "GET", 200, True),
    ("RFC9110-13.1.2-star-blanks", if_none_match(" * "), PLAIN, "GET", 200, True),
    ("RFC9110-13.1.2-no-tag-stored", if_none_match('"a"'), NO_TAG, "GET", 200, False),
    ("RFC9110-13.1.2-invalid-tag-stored", if_none_match("a"), (("ETag", "a"),), "GET", 200, False),
    ("RFC9110-13.1.2-garbage", if_none_match('",,W/'), STORED, "GET", 200, False),
    ("RFC9110-13.1.2-head", if_none_match('"a"'), STORED, "HEAD", 200, True),
    ("RFC9110-13.2.1-404", if_none_match('"a"'), STORED, "GET", 404, False),
    ("RFC9110-13.2.1-301", if_none_match("*"), STORED, "GET", 301, False),
    ("RFC9110-13.1.2-other-method", if_none_match("*"), STORED, "POST", 200, False),
    ("RFC9110-13.1.3-same", if_modified_since(NEW), STORED, "GET", 200, True),
    ("RFC9110-13.1.3-later", if_modified_since("Monday, 07-Nov-94 08:49:37 GMT"), STORED, "GET", 200, True),
    ("RFC9110-13.1.3-earlier", if_modified_since(OLD), STORED, "GET", 200, False),
    ("RFC9110-13.1.3-invalid", if_modified_since("yesterday"), STORED, "GET", 200, False),
    ("RFC9110-13.1.3-no-last-modified", if_modified_since(NEW), PLAIN, "GET", 200, False),
    (
        "RFC9110-13.1.3-invalid-last-modified",
        if_modified_since(NEW),
        (("Last-Modified", "x"),),
        "GET",
        200,
        False,
    ),
    ("RFC9110-13.1.3-head", if_modified_since(NEW), STORED, "HEAD", 200, True),
    ("RFC9110-13.1.3-404", if_modified_since(NEW), STORED, "GET", 404, False),
    ("RFC9110-13.2.2-tag-first-no", if_none_match('"b"') | if_modified_since(NEW), STORED, "GET", 200, False),
    ("RFC9110-13.2.2-tag-first-yes", if_none_match('"a"') | if_modified_since(OLD), STORED, "GET", 200, True),
    (
        "RFC9110-13.2.2-tag-first-none-stored",
        if_none_match('"a"') | if_modified_since(NEW),
        NO_TAG,
        "GET",
        200,
        False,
    ),
    ("RFC9110-13.2.2-before-range", if_none_match('"a"') | {"range": "bytes=0-1"}, STORED, "GET", 200, True),
]


@pytest.mark.parametrize(
    ("fields", "headers", "method", "status", "not_modified"),
    [r[1:] for r in NOT_MODIFIED],
    ids=[r[0] for r in NOT_MODIFIED],
)
def test_evaluate__answers_304(
    fields: dict[str, str], headers: Headers, method: str, status: int, not_modified: bool
) -> None:
    """A 304 when the client's copy is current, else the stored response."""
    assert ask(fields, headers, method=method, status=status) is (Action.NOT_MODIFIED if not_modified else Action.SEND)


def test_evaluate__gives_a_304_its_headers() -> None:
    """RFC 9110 section 15.4.5: validators, freshness and Vary go along; what describes the body does not."""
    go = (
        ("Cache-Control", "max-age=60"),
        ("Content-Location", "/a"),
        ("Date", NEW),
        ("ETag", '"a"'),
        ("Expires", NEW),
        ("Vary", "Accept"),
        ("Vary", "Origin"),
        ("Access-Control-Allow-Origin", "https://a.example"),
        ("Content-Security-Policy", "default-src 'self'"),
    )
    stay = (
        ("Content-Type", "text/plain"),
        ("content-length", "10"),
        ("Content-Encoding", "gzip"),
        ("Content-Language", "en"),
        ("Last-Modified", OLD),
    )
    assert evaluate(environ(if_none_match('"a"')), 200, stay[:2] + go + stay[2:], body_length=10).headers == go


def test_evaluate__keeps_last_modified_in_a_304_without_etag() -> None:
    """RFC 9110 section 15.4.5: without an ETag it is what guides the client's update."""
    outcome = evaluate(environ(if_modified_since(NEW)), 200, PLAIN + NO_TAG, body_length=10)
    assert outcome.headers == NO_TAG


RANGES: list[tuple[str, str, tuple[int, int] | None]] = [
    ("RFC9110-14.1.2-first-last", "bytes=2-4", (2, 5)),
    ("RFC9110-14.1.2-one-byte", "bytes=0-0", (0, 1)),
    ("RFC9110-14.1.2-open", "bytes=7-", (7, 10)),
    ("RFC9110-14.1.2-beyond", "bytes=7-99", (7, 10)),
    ("RFC9110-14.1.2-whole", "bytes=0-9", (0, 10)),
    ("RFC9110-14.1.2-suffix", "bytes=-3", (7, 10)),
    ("RFC9110-14.1.2-suffix-of-nothing", "bytes=-0", None),
    ("RFC9110-14.1.2-suffix-longer-than-body", "bytes=-99", (0, 10)),
    ("RFC9110-14.1-unit-case-insensitive", "Bytes=0-1", (0, 2)),
    ("RFC9110-14.2-several", "bytes=0-1,4-5", None),
    ("RFC9110-14.2-other-unit", "lines=0-1", None),
    ("RFC9110-14.1.1-backwards", "bytes=4-2", None),
    ("RFC9110-14.1.1-no-digits", "bytes=a-b", None),
    ("RFC9110-14.1.1-no-unit", "0-1", None),
    ("RFC9110-14.1.1-empty", "bytes=", None),
    ("RFC9110-14.1.1-dash", "bytes=-", None),
    ("RFC9110-14.1.1-negative", "bytes=--1", None),
    ("RFC9110-14.1.1-very-long", "bytes=0-" + "9" * 5000, None),
]


@pytest.mark.parametrize(("value", "part"), [r[1:] for r in RANGES], ids=[r[0] for r in RANGES])
def test_evaluate__answers_a_single_range(value: str, part: tuple[int, int] | None) -> None:
    """One byte range is cut from the stored body; anything else gets the whole."""
    outcome = evaluate(environ({"range": value}), 200, STORED, body_length=10)
    if part is None:
        assert outcome is SEND
        return
    assert (outcome.action, outcome.start, outcome.stop) == (Action.RANGE, *part)
    content_range = ("Content-Range", f"bytes {part[0]}-{part[1] - 1}/10")
    assert outcome.headers == (*STORED[:3], content_range)


@pytest.mark.parametrize(("value", "length"), [("bytes=10-", 10), ("bytes=99-100", 10), ("bytes=0-", 0)], ids=str)
def test_evaluate__answers_416(value: str, length: int) -> None:
    """RFC 9110 section 15.5.17: a range past the end; nothing in it lets the 416 be stored."""
    headers = (*STORED, ("Cache-Control", "max-age=60"), ("Expires", NEW), ("Vary", "Origin"))
    outcome = evaluate(environ({"range": value}), 200, headers, body_length=length)
    assert outcome.action is Action.RANGE_NOT_SATISFIABLE
    assert outcome.headers == (("Vary", "Origin"), ("Content-Range", f"bytes */{length}"))


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [
        pytest.param("HEAD", 200, STORED, id="RFC9110-14.2-head"),
        pytest.param("GET", 404, STORED, id="RFC9110-14.2-404"),
        pytest.param("GET", 204, STORED, id="RFC9110-14.2-204"),
        pytest.param("GET", 200, (("Accept-Ranges", "none"),), id="RFC9110-14.3-none"),
    ],
)
def test_evaluate__ignores_range(method: str, status: int, headers: Headers) -> None:
    """Range is for a GET of a 200 that does not refuse ranges."""
    assert ask({"range": "bytes=0-1"}, headers, method=method, status=status) is Action.SEND


def test_evaluate__long_lists_take_no_time() -> None:
    """Blanks, commas and tags without an end are read once through."""
    started = time.monotonic()
    for value in ('"a' + " " * 200_000 + "x", "a" + " " * 200_000 + "x", '"b",' + " " * 200_000 + "x", "W/" * 100_000):
        assert ask(if_none_match(value)) is Action.SEND
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("tag", "is_made"),
    [(make_etag(b""), True), (make_etag(b"a"), True), ('"rc-1"', False), ('W/"a"', False), ("", False)],
)
def test_is_made_etag__is_one_of_the_caches(tag: str, is_made: bool) -> None:
    """The cache's own tags are told from the app's: only they may be made anew."""
    assert is_made_etag(tag) is is_made


def test_evaluate__sends_all_of_an_empty_body_for_a_suffix() -> None:
    """A suffix of nothing has no Content-Range, so the (empty) whole is sent."""
    assert evaluate(environ({"range": "bytes=-5"}), 200, STORED, body_length=0) is SEND


@pytest.mark.parametrize(
    ("value", "headers", "applies"),
    [
        pytest.param('"a"', STRONG, True, id="RFC9110-13.1.5-strong"),
        pytest.param('"b"', STRONG, False, id="RFC9110-13.1.5-other"),
        pytest.param('W/"a"', STRONG, False, id="RFC9110-13.1.5-weak-asked"),
        pytest.param('"a"', STORED, False, id="RFC9110-13.1.5-weak-stored"),
        pytest.param('W/"a"', STORED, False, id="RFC9110-13.1.5-weak-both"),
        pytest.param('"a", "b"', STRONG, False, id="RFC9110-13.1.5-no-lists"),
        pytest.param('"a"', PLAIN, False, id="RFC9110-13.1.5-no-tag"),
        pytest.param(OLD, STRONG, True, id="RFC9110-13.1.5-exact-date"),
        pytest.param(NEW, STRONG, False, id="RFC9110-13.1.5-later-date"),
        pytest.param(NEW, STORED, False, id="RFC9110-8.8.2.2-no-date"),
        pytest.param(OLD, (("Last-Modified", OLD), ("Date", OLD)), False, id="RFC9110-8.8.2.2-same-second"),
        pytest.param(OLD, PLAIN, False, id="RFC9110-13.1.5-no-last-modified"),
        pytest.param("junk", STRONG, False, id="RFC9110-13.1.5-junk"),
        pytest.param("", STRONG, False, id="RFC9110-13.1.5-empty"),
    ],
)
def test_evaluate__minds_if_range(value: str, headers: Headers, applies: bool) -> None:
    """The part is sent only when the client's other part is of the same representation."""
    action = ask({"range": "bytes=0-1", "if_range": value}, headers)
    assert action is (Action.RANGE if applies else Action.SEND)


def test_evaluate__ignores_if_range_without_range() -> None:
    """RFC 9110 section 13.1.5: alone it has no effect."""
    assert ask({"if_range": '"a"'}, STRONG) is Action.SEND


TEXT = st.none() | st.text(st.characters(max_codepoint=255), max_size=20)


@given(TEXT, TEXT, TEXT, TEXT, TEXT, st.integers(0, 3))
def test_evaluate__never_raises(
    none_match: str | None,
    since: str | None,
    if_range: str | None,
    ranges: str | None,
    tag: str | None,
    length: int,
) -> None:
    """Arbitrary latin-1 fields give an outcome, and a range lies within the body."""
    values = (none_match, since, if_range, None if ranges is None else f"bytes={ranges}")
    fields = {key: value for key, value in zip(HIDDEN_FIELDS, values, strict=True) if value is not None}
    headers = () if tag is None else (("ETag", tag),)
    outcome = evaluate({"REQUEST_METHOD": "GET", **fields}, 200, headers, body_length=length)
    if outcome.action is Action.RANGE:
        assert 0 <= outcome.start < outcome.stop <= length


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_make_etag__tells_bodies_apart(one: bytes, other: bytes) -> None:
    """RFC 9110 section 8.8.3: weak, well-formed, and equal exactly for equal bodies."""
    tag = make_etag(one)
    assert (tag == make_etag(other)) == (one == other)
    assert ask(if_none_match(tag), (("ETag", tag),)) is Action.NOT_MODIFIED


def test_hidden_fields__are_those_evaluated() -> None:
    """What is hidden from the view is exactly what evaluate() reads afterwards."""

    class Recorder(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            seen.add(key)
            return super().get(key, default)

    seen: set[str] = set()
    evaluate(Recorder(environ({"range": "bytes=0-1"})), 200, STRONG, body_length=10)
    assert seen == set(HIDDEN_FIELDS)
