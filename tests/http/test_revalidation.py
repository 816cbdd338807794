"""Revalidation: the conditions that are sent, and what a 304 makes of a stored response."""

from __future__ import annotations

import pytest

from flask_rcache.http import freshened, validators
from flask_rcache.http.conditional import make_etag

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
Lines = list[tuple[str, str]]


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        pytest.param(200, [("ETag", '"a"')], {"HTTP_IF_NONE_MATCH": '"a"'}, id="RFC9111-4.3.1-etag"),
        pytest.param(203, [("ETag", 'W/"a"')], {"HTTP_IF_NONE_MATCH": 'W/"a"'}, id="RFC9111-4.3.1-weak"),
        pytest.param(200, [("Last-Modified", DATE)], {"HTTP_IF_MODIFIED_SINCE": DATE}, id="RFC9111-4.3.1-modified"),
        pytest.param(
            200,
            [("ETag", make_etag(b"")), ("Last-Modified", DATE)],
            {"HTTP_IF_MODIFIED_SINCE": DATE},
            id="a-tag-of-ours-is-none",
        ),
        pytest.param(200, [("ETag", "a"), ("Last-Modified", "yesterday")], {}, id="neither-is-valid"),
        pytest.param(404, [("ETag", '"a"')], {}, id="an-error"),
        pytest.param(200, [], {}, id="none"),
    ],
)
def test_validators__are_those_of_the_response(status: int, headers: Lines, expected: dict[str, str]) -> None:
    """RFC 9111 section 4.3.1: each validator that the response itself has."""
    assert validators(status, headers) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param([("X-A", "2")], {"X-A": ["2"]}, id="RFC9111-3.2-replaced"),
        pytest.param([("x-a", "2"), ("X-A", "3")], {"X-A": ["2", "3"]}, id="RFC9111-3.2-lines-replace-lines"),
        pytest.param([("X-New", "1")], {"X-New": ["1"]}, id="RFC9111-3.2-added"),
        pytest.param([("Cache-Control", "max-age=9")], {"Cache-Control": ["max-age=9"]}, id="RFC9111-4.3.4"),
        pytest.param([("Content-Length", "0")], {"Content-Length": ["5"]}, id="RFC9111-3.2-content-length"),
        pytest.param([("Content-Type", "text/html")], {"Content-Type": ["text/plain"]}, id="of-the-body"),
        pytest.param([("Content-Encoding", "gzip")], {"Content-Encoding": []}, id="of-the-body-new"),
        pytest.param([("Connection", "x"), ("Proxy-Info", "1")], {"Connection": [], "Proxy-Info": []}, id="hops"),
        pytest.param([], {"Age": [], "Date": []}, id="RFC9110-6.6.1-no-date"),
        pytest.param([("Date", DATE), ("Age", "3")], {"Age": ["3"], "Date": [DATE]}, id="RFC9111-4.2.3-age"),
        pytest.param([("ETag", 'W/"a"')], {"ETag": ['W/"a"']}, id="RFC9110-8.8.3.2-weakly-the-same"),
        pytest.param([("Set-Cookie", "a=1")], {"Set-Cookie": ["a=1"]}, id="a-cookie-is-sent-and-judged"),
    ],
)
def test_freshened__updates_the_lines_of_a_304(answer: Lines, expected: dict[str, list[str]]) -> None:
    """RFC 9111 sections 3.2 and 4.3.4: every field of the 304 replaces the stored one, but for those of the body."""
    stored = [
        ("Content-Type", "text/plain"),
        ("Content-Length", "5"),
        ("ETag", '"a"'),
        ("X-A", "1"),
        ("X-a", "1b"),
        ("X-B", "1"),
        ("Date", "Sun, 06 Nov 1994 08:00:00 GMT"),
        ("Age", "7"),
    ]
    lines = freshened(stored, answer)
    assert lines is not None
    for name, values in expected.items():
        assert [value for each, value in lines if each.lower() == name.lower()] == values
    assert ("X-B", "1") in lines


def test_freshened__is_nothing_for_a_304_of_another_response() -> None:
    """RFC 9111 section 4.3.3: a 304 with another tag selects another response."""
    assert freshened([("ETag", '"a"')], [("ETag", '"b"')]) is None
