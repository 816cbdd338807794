"""Which header lines enter the cache and leave it, and the value of Age."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.http import age_value, by_name, split_age, store_headers


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info"),
        *("Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding", "Upgrade"),
        *("Age", "Cache-Status", "X-Cache", "x-CACHE-key", "Set-Cookie", "Set-Cookie2"),
    ],
    ids="RFC9111-3.1-{}".format,
)
def test_store_headers__drops(name: str) -> None:
    """Hop-by-hop fields, cookies and this cache's own fields are not kept, in any case of letters."""
    assert store_headers([("A", "1"), (name, "x"), (name.upper(), "y"), ("B", "2")]) == (
        ("A", "1"),
        ("B", "2"),
    )


@pytest.mark.parametrize(
    "name",
    ["Date", "ETag", "Expires", "Vary", "Warning", "Content-Length", "Cache-Control", "X-Cached", "Link"],
)
def test_store_headers__keeps(name: str) -> None:
    """End-to-end fields survive as they are."""
    assert store_headers([(name, "x")]) == ((name, "x"),)


def test_store_headers__drops_what_connection_lists() -> None:
    """RFC 9110 section 7.6.1: fields named by any Connection line go with it."""
    headers = [
        ("X-Hop", "1"),
        ("Connection", "close, x-hop"),
        ("connection", " Other "),
        ("Other", "2"),
        ("A", "3"),
    ]
    assert store_headers(headers) == (("A", "3"),)


def test_store_headers__keeps_repeated_lines_in_order() -> None:
    """Two Link lines stay two, in their order, around others."""
    headers = [("Link", "</a>"), ("X", "1"), ("link", "</b>"), ("Link", "</a>")]
    assert store_headers(headers) == tuple(headers)


@given(
    st.lists(st.tuples(st.sampled_from(["Age", "age", "AGE", "Link", "Date"]), st.just("99"))),
    st.integers(0, 2**40),
)
def test_split_age__undoes_store_headers(headers: list[tuple[str, str]], age: int) -> None:
    """RFC 9111 section 4.2.3: the age at arrival comes back, and no Age line of the app's is taken for it."""
    lines, back = split_age(store_headers(headers, age=age))
    assert back == min(age, 2**31)
    assert lines == tuple(line for line in headers if line[0].lower() != "age")


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        (0, "0"),
        (0.99, "0"),
        (-5, "0"),
        (59.5, "59"),
        (2**31, "2147483648"),
        (1e30, "2147483648"),
        (float("inf"), "2147483648"),
    ],
    ids=str,
)
def test_age_value__is_a_delta_seconds(seconds: float, value: str) -> None:
    """RFC 9111 section 5.1: whole, not negative, at most 2**31."""
    assert age_value(seconds) == value


def test_by_name__joins_lines_under_one_name() -> None:
    """Names are compared without case; values keep order and repetition."""
    assert by_name([("A", "1"), ("b", "2"), ("a", "1")]) == {"a": ["1", "1"], "b": ["2"]}
