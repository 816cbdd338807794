"""Dates, ages and lifetimes that responses state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import http_date

from flask_rcache.http import by_name, current_age, freshness_lifetime, parse_cache_control, parse_http_date

NOW = 1_700_000_000.75
"""The wall clock of these tests."""


def at(offset: int) -> str:
    """The HTTP date so many seconds from NOW."""
    return http_date(int(NOW) + offset)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", 784111777, id="RFC9110-5.6.7-imf-fixdate"),
        pytest.param("Sunday, 06-Nov-94 08:49:37 GMT", 784111777, id="RFC9110-5.6.7-rfc850"),
        pytest.param("Sun Nov  6 08:49:37 1994", 784111777, id="RFC9110-5.6.7-asctime"),
        pytest.param(" Sun, 06 Nov 1994 08:49:37 GMT\t", 784111777, id="blanks-around"),
        pytest.param("0", None, id="RFC9111-5.3-zero"),
        pytest.param("-1", None, id="RFC9111-5.3-minus-one"),
        pytest.param("", None, id="empty"),
        pytest.param("Sun, 06 Nov 1994 08:49:37 +0200", None, id="zone"),
        pytest.param("Sun, 06 Nov 1994 08:49:37 UTC", None, id="UTC"),
        pytest.param("Sun, 06 Nov 1994 08:49:37", None, id="no-zone"),
        pytest.param("sun, 06 nov 1994 08:49:37 gmt", 784111777, id="RFC9111-4.2-lower-case"),
        pytest.param("SUNDAY, 06-NOV-94 08:49:37 GMT", 784111777, id="RFC9111-4.2-upper-case"),
        pytest.param("\u017fun, 06 Nov 1994 08:49:37 GMT", None, id="long-s"),
        pytest.param("Sun,  06 Nov 1994 08:49:37 GMT", None, id="two-blanks"),
        pytest.param("06 Nov 1994 08:49:37 GMT", None, id="no-weekday"),
        pytest.param("Sun, 31 Feb 1994 08:49:37 GMT", None, id="no-such-day"),
        pytest.param("Sun, 06 Nov 1994 25:49:37 GMT", None, id="no-such-hour"),
        pytest.param("Sun, 06 Nov 99999 08:49:37 GMT", None, id="five-digit-year"),
        pytest.param("Sun, 06 Nov 0000 08:49:37 GMT", None, id="year-zero"),
        pytest.param("1994-11-06T08:49:37Z", None, id="iso"),
        pytest.param("Sun, \u0660\u0666 Nov 1994 08:49:37 GMT", None, id="arabic-digits"),
    ],
)
def test_parse_http_date__takes_the_three_forms_only(text: str, seconds: int | None) -> None:
    """RFC 9110 section 5.6.7: IMF-fixdate, RFC 850, asctime, in any case, and nothing like them."""
    assert parse_http_date(text) == seconds


@given(st.text(max_size=60))
def test_parse_http_date__never_raises(text: str) -> None:
    """Arbitrary text is a date or none."""
    assert parse_http_date(text) is None or isinstance(parse_http_date(text), int)


@given(st.integers(0, 253_402_300_799))
def test_parse_http_date__reads_what_werkzeug_writes(seconds: int) -> None:
    """Every date an app can send is read back exactly."""
    assert parse_http_date(http_date(seconds)) == seconds


@pytest.mark.parametrize(
    ("headers", "age"),
    [
        pytest.param([], 0, id="RFC9111-4.2.3-none"),
        pytest.param([("Age", "17")], 17, id="RFC9111-5.1-age"),
        pytest.param([("Age", "x")], 0, id="RFC9111-5.1-invalid-ignored"),
        pytest.param([("Age", "-3")], 0, id="RFC9111-5.1-negative-ignored"),
        pytest.param([("Age", "3, 9"), ("Age", "5")], 3, id="RFC9111-5.1-several-first"),
        pytest.param([("Age", "0, 7200")], 0, id="RFC9111-5.1-first-member"),
        pytest.param([("Age", "x, 7200")], 0, id="RFC9111-5.1-first-member-invalid"),
        pytest.param([("Age", "7200.0")], 0, id="RFC9111-5.1-fraction"),
        pytest.param([("Age", "9999999999999")], 2**31, id="RFC9111-1.2.2-overflow"),
        pytest.param([("Date", at(-30))], 30, id="RFC9111-4.2.3-apparent-age"),
        pytest.param([("Date", at(0))], 0, id="same-second"),
        pytest.param([("Date", at(50))], 0, id="date-ahead"),
        pytest.param([("Date", "junk"), ("Age", "2")], 2, id="RFC9110-6.6.1-invalid-date"),
        pytest.param([("Date", at(-30)), ("Age", "70")], 70, id="RFC9111-4.2.3-larger"),
        pytest.param([("Date", at(-30)), ("Date", at(-60))], 60, id="two-dates-the-earlier"),
    ],
)
def test_current_age__is_what_the_response_had(headers: list[tuple[str, str]], age: int) -> None:
    """RFC 9111 section 4.2.3: the larger of Age and the time since Date."""
    assert current_age(by_name(headers), now=NOW) == age


@pytest.mark.parametrize(
    ("headers", "lifetime"),
    [
        pytest.param([], None, id="RFC9111-4.2.1-nothing-stated"),
        pytest.param([("Cache-Control", "public")], None, id="RFC9111-4.2.2-no-heuristics"),
        pytest.param([("Last-Modified", at(-9999))], None, id="RFC9111-4.2.2-last-modified"),
        pytest.param([("Cache-Control", "max-age=60")], 60, id="RFC9111-5.2.2.1"),
        pytest.param([("Cache-Control", "max-age=60, s-maxage=9")], 9, id="RFC9111-5.2.2.10-smaller"),
        pytest.param([("Cache-Control", "max-age=6, s-maxage=90")], 90, id="RFC9111-5.2.2.10-larger"),
        pytest.param([("Cache-Control", "max-age=6, s-maxage=x")], 0, id="RFC9111-5.2.2.10-invalid"),
        pytest.param([("Cache-Control", "private, max-age=6, s-maxage=90")], 6, id="private-s-maxage"),
        pytest.param([("Cache-Control", "private, s-maxage=90")], None, id="private-s-maxage-alone"),
        pytest.param([("Cache-Control", 'max-age=60, x="')], 0, id="malformed"),
        pytest.param([("Expires", at(40))], 40, id="RFC9111-5.3-no-date"),
        pytest.param([("Expires", at(40)), ("Date", at(-10))], 50, id="RFC9111-5.3-minus-date"),
        pytest.param([("Expires", at(40)), ("Date", "junk")], 40, id="RFC9111-5.3-invalid-date"),
        pytest.param([("Expires", at(-40))], 0, id="RFC9111-5.3-past"),
        pytest.param([("Expires", "0")], 0, id="RFC9111-5.3-zero"),
        pytest.param([("Expires", "")], 0, id="RFC9111-5.3-empty"),
        pytest.param([("Expires", at(40)), ("Expires", at(20))], 20, id="RFC9111-4.2.1-two-expires"),
        pytest.param([("Expires", at(40)), ("Expires", "0")], 0, id="RFC9111-4.2.1-one-invalid"),
        pytest.param([("Expires", at(400)), ("Cache-Control", "max-age=5")], 5, id="RFC9111-5.3-max-age-wins"),
        pytest.param([("Expires", "0"), ("Cache-Control", "max-age=5")], 5, id="RFC9111-5.3-max-age-over-invalid"),
    ],
)
def test_freshness_lifetime__follows_the_precedence(headers: list[tuple[str, str]], lifetime: int | None) -> None:
    """RFC 9111 section 4.2.1: s-maxage, max-age, Expires; the invalid is stale."""
    fields = by_name(headers)
    cache_control = parse_cache_control(fields.get("cache-control", ()))
    assert freshness_lifetime(fields, cache_control, now=NOW) == lifetime
