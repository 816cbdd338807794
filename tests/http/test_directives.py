"""Cache-Control: what is read from well-formed and malformed lines."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.http import MAX_DELTA_SECONDS, CacheControl, parse_cache_control, parse_delta_seconds

ROWS: list[tuple[str, list[str], dict[str, Any]]] = [
    ("RFC9111-5.2-absent", [], {}),
    ("RFC9111-5.2.2.1-max-age", ["max-age=60"], {"max_age": 60}),
    ("RFC9111-5.2.2.2-must-revalidate", ["must-revalidate"], {"must_revalidate": True}),
    ("RFC9111-5.2.2.3-must-understand", ["must-understand"], {"must_understand": True}),
    ("RFC9111-5.2.2.4-no-cache", ["no-cache"], {"no_cache": True}),
    ("RFC9111-5.2.2.4-no-cache-qualified", ['no-cache="set-cookie"'], {"no_cache": True}),
    ("RFC9111-5.2.2.5-no-store", ["no-store"], {"no_store": True}),
    ("RFC9111-5.2.2.7-private", ["private"], {"private": True}),
    ("RFC9111-5.2.2.7-private-qualified", ['private="x-a, x-b", max-age=5'], {"private": True, "max_age": 5}),
    ("RFC9111-5.2.2.7-qualified-unquoted", ["private=x-a"], {"private": True}),
    ("RFC9111-5.2.2.8-proxy-revalidate", ["proxy-revalidate"], {"proxy_revalidate": True}),
    ("RFC9111-5.2.2.9-public", ["public"], {"public": True}),
    ("RFC9111-5.2.2.10-s-maxage", ["s-maxage=7"], {"s_maxage": 7}),
    ("RFC5861-3-swr", ["stale-while-revalidate=30"], {"stale_while_revalidate": 30}),
    ("RFC5861-4-sie", ["stale-if-error=40"], {"stale_if_error": 40}),
    ("RFC9111-5.2-case-insensitive", ["No-Store, MAX-AGE=1"], {"no_store": True, "max_age": 1}),
    ("RFC9111-5.2-max-age-quoted", ['max-age="10"'], {"max_age": 10}),
    ("RFC9111-5.2.3-unknown-ignored", ['ext, ext="no-store", max-age=2'], {"max_age": 2}),
    ("RFC9110-5.6.1-empty-elements", [",, public ,\t,", ""], {"public": True}),
    ("RFC9110-5.3-several-lines", ["public", "max-age=3"], {"public": True, "max_age": 3}),
    ("RFC9110-5.6.4-escaped-quote", [r'ext="a\", no-store", public'], {"public": True}),
    ("RFC9110-5.6.4-escaped-backslash", [r'ext="a\\", no-store'], {"no_store": True}),
    ("RFC9110-5.6.4-no-end-on-one-line", ['ext="a', "max-age=9"], {"malformed": True, "max_age": 9}),
    ("RFC9110-5.6.4-no-end-hides-nothing", ['ext="a, no-store'], {"malformed": True, "no_store": True}),
    ("RFC9110-5.6.4-no-end-at-the-name", ['"no-store, x'], {"malformed": True, "no_store": True}),
    ("RFC9111-4.2.1-duplicate-smallest-first", ["max-age=1, max-age=20"], {"max_age": 1}),
    ("RFC9111-4.2.1-duplicate-smallest-last", ["max-age=20", "max-age=1"], {"max_age": 1}),
    ("RFC9111-4.2.1-duplicate-invalid", ["max-age=20, max-age=x"], {"max_age": 0}),
    ("RFC9111-4.2.1-duplicate-s-maxage", ["s-maxage=20, s-maxage=3"], {"s_maxage": 3}),
    ("RFC9111-4.2.1-negative", ["max-age=-1"], {"max_age": 0}),
    ("RFC9111-4.2.1-fraction", ["max-age=1.5"], {"max_age": 0}),
    ("RFC9111-4.2.1-plus", ["max-age=+5"], {"max_age": 0}),
    ("RFC9111-4.2.1-no-argument", ["max-age"], {"max_age": 0}),
    ("RFC9111-4.2.1-empty-argument", ["max-age="], {"max_age": 0}),
    ("RFC9111-4.2.1-blank-before-argument", ["max-age= 10"], {"max_age": 0}),
    ("RFC9111-4.2.1-blank-before-equals", ["max-age =10"], {"max_age": 0}),
    ("RFC9111-4.2.1-trailing-text", ["max-age=10s"], {"max_age": 0}),
    ("RFC9111-4.2.1-single-quotes", ["max-age='10'"], {"max_age": 0}),
    ("RFC9111-4.2.1-superscript-digit", ["max-age=1\xb2"], {"max_age": 0}),
    ("RFC9111-1.2.2-leading-zeros", ["max-age=00000000000005"], {"max_age": 5}),
    ("RFC9111-1.2.2-overflow", ["max-age=99999999999"], {"max_age": 2**31}),
    ("RFC9111-1.2.2-very-long", ["max-age=" + "9" * 10_000], {"max_age": 2**31}),
    ("mistake-semicolon-after-forbidding", ["no-store; max-age=0"], {"no_store": True, "max_age": 0}),
    ("mistake-semicolon-after-private", ["private; max-age=9"], {"private": True, "max_age": 9}),
    ("mistake-semicolon-after-permitting", ["public; max-age=9"], {"max_age": 9}),
    ("mistake-semicolon-before-forbidding", ["public; no-store"], {"no_store": True}),
    ("mistake-semicolon-after-delta", ["max-age=60; private"], {"max_age": 0, "private": True}),
    ("mistake-blank-for-comma", ["public no-store"], {"no_store": True}),
    ("mistake-blank-after-delta", ["max-age=60 must-revalidate"], {"max_age": 0, "must_revalidate": True}),
    ("mistake-semicolon-first", ["; no-store"], {"no_store": True}),
    ("mistake-colon", ["no-cache: no-store"], {"no_cache": True, "no_store": True}),
    ("mistake-all-quoted", ['"no-store, max-age=0"'], {"no_store": True, "max_age": 0}),
    ("mistake-argument-is-no-directive", ["ext=no-store; ext2='private'"], {}),
    ("mistake-argument-to-permitting", ["public=1, must-understand=1"], {}),
    ("mistake-prefix-of-a-name", ["no-stored, privateer, publicly"], {}),
]


@pytest.mark.parametrize(("lines", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_parse_cache_control__reads(lines: list[str], expected: dict[str, Any]) -> None:
    """Each line gives exactly the directives of its row, all others being absent."""
    assert parse_cache_control(lines) == CacheControl(**expected)


@given(st.lists(st.text(st.characters(max_codepoint=255)), max_size=4))
def test_parse_cache_control__never_raises(lines: list[str]) -> None:
    """Arbitrary latin-1 text gives some reading, with durations in range."""
    cc = parse_cache_control(lines)
    for seconds in (cc.max_age, cc.s_maxage, cc.stale_while_revalidate, cc.stale_if_error):
        assert seconds is None or 0 <= seconds <= MAX_DELTA_SECONDS


@given(
    st.lists(
        st.sampled_from(["max-age=5", 'x="a,b"', 'private="q"', "", " ", 'x="', "no-cache", '",', "\\", "junk junk"]),
        max_size=6,
    ),
    st.integers(0, 6),
)
def test_parse_cache_control__never_loses_no_store(elements: list[str], position: int) -> None:
    """Whatever stands around it, on one line, a `no-store` outside a complete quoted string is seen."""
    elements.insert(position, "no-store")
    line = ",".join(elements)
    quoted = False
    for element in elements:
        if element == "no-store" and not quoted:
            assert parse_cache_control([line]).no_store
        # Only these open or close a quoted string here; a backslash may escape the closing one.
        if element.count('"') % 2 or "\\" in element:
            quoted = True


def test_parse_cache_control__is_linear_in_hostile_input() -> None:
    """A request's field made of escapes and quotes without end costs no more than milliseconds."""
    started = time.process_time()
    parse_cache_control(['"' + '\\"' * 50_000])
    parse_cache_control(['"",' * 30_000 + '"'])
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("00", 0),
        ("60", 60),
        (str(2**31), 2**31),
        (str(2**31 + 1), 2**31),
        ("", None),
        ("-0", None),
        (" 1", None),
    ],
)
def test_parse_delta_seconds__takes_digits_only(text: str, seconds: int | None) -> None:
    """RFC 9111 section 1.2.2: digits, bounded by 2**31."""
    assert parse_delta_seconds(text) == seconds
