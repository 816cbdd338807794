"""Vary: its normal form, and the variant that a request selects."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.http import STAR, normalise_vary, variant_id


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        pytest.param([], (), id="RFC9110-12.5.5-absent"),
        pytest.param([""], (), id="empty"),
        pytest.param(["Accept-Encoding"], ("accept-encoding",), id="one"),
        pytest.param(["Origin, ACCEPT", "accept ,\tCookie,"], ("accept", "cookie", "origin"), id="lines-sorted"),
        pytest.param(["*"], STAR, id="RFC9111-4.1-star"),
        pytest.param(["Accept, *"], STAR, id="RFC9111-4.1-star-in-a-list"),
        pytest.param(["Accept", " * "], STAR, id="RFC9111-4.1-star-on-a-line"),
        pytest.param(["Accept Encoding"], STAR, id="no-field-name"),
        pytest.param(["Accept;Origin"], STAR, id="semicolon"),
        pytest.param(["\u212accept"], STAR, id="not-ascii"),
    ],
)
def test_normalise_vary__gives_sorted_names(lines: list[str], names: tuple[str, ...]) -> None:
    """RFC 9110 section 12.5.5: one list over all lines; a star, or what cannot be read, matches nothing."""
    assert normalise_vary(lines) == names


@given(st.lists(st.text(st.characters(max_codepoint=255)), max_size=4))
def test_normalise_vary__never_raises(lines: list[str]) -> None:
    """Arbitrary latin-1 text gives names that variant_id takes, or STAR."""
    names = normalise_vary(lines)
    if names != STAR:
        assert variant_id(names, {}) == variant_id(names, {})


SAME: list[tuple[str, tuple[str, ...], dict[str, str], dict[str, str]]] = [
    (
        "list-blanks",
        ("accept-encoding",),
        {"HTTP_ACCEPT_ENCODING": "gzip,br"},
        {"HTTP_ACCEPT_ENCODING": "gzip ,\tbr "},
    ),
    ("ows-around", ("x-tenant",), {"HTTP_X_TENANT": "a"}, {"HTTP_X_TENANT": " a\t"}),
    ("other-fields", ("accept",), {"HTTP_ACCEPT": "a"}, {"HTTP_ACCEPT": "a", "HTTP_COOKIE": "b"}),
    (
        "any-language-last",
        ("accept-language",),
        {"HTTP_ACCEPT_LANGUAGE": "*, DE;q=1.0, en;q=0.5"},
        {"HTTP_ACCEPT_LANGUAGE": "en; q=0.50, de, *"},
    ),
    ("wsgi-empty-content-type", ("content-type",), {"CONTENT_TYPE": ""}, {}),
    (
        "content-length-is-not-http_",
        ("content-length",),
        {"CONTENT_LENGTH": "3"},
        {"CONTENT_LENGTH": "3", "HTTP_CONTENT_LENGTH": "4"},
    ),
]
DIFFERENT: list[tuple[str, tuple[str, ...], dict[str, str], dict[str, str]]] = [
    ("value", ("accept",), {"HTTP_ACCEPT": "a"}, {"HTTP_ACCEPT": "b"}),
    ("missing-is-not-empty", ("x-tenant",), {}, {"HTTP_X_TENANT": ""}),
    ("order", ("accept",), {"HTTP_ACCEPT": "a,b"}, {"HTTP_ACCEPT": "b,a"}),
    ("inner-blank", ("accept",), {"HTTP_ACCEPT": "a b"}, {"HTTP_ACCEPT": "ab"}),
    ("cookie-is-no-list", ("cookie",), {"HTTP_COOKIE": "a=1,b"}, {"HTTP_COOKIE": "a=1, b"}),
    ("own-field-is-no-list", ("x-user",), {"HTTP_X_USER": "Doe,J"}, {"HTTP_X_USER": "Doe, J"}),
    ("quoted-string", ("accept",), {"HTTP_ACCEPT": 'a;x="1,2"'}, {"HTTP_ACCEPT": 'a;x="1, 2"'}),
    ("no-run-on", ("a", "b"), {"HTTP_A": "1;b:1:2", "HTTP_B": ""}, {"HTTP_A": "1", "HTTP_B": "2;"}),
    ("no-run-on-of-text", ("a", "b"), {"HTTP_A": "x;b:y", "HTTP_B": "z"}, {"HTTP_A": "x", "HTTP_B": "y;b:z"}),
    ("which-field", ("a", "b"), {"HTTP_A": "1"}, {"HTTP_B": "1"}),
    ("content-type", ("content-type",), {"CONTENT_TYPE": "a/b"}, {"CONTENT_TYPE": "a/c"}),
    (
        "authorization",
        ("authorization",),
        {"HTTP_AUTHORIZATION": "Bearer a"},
        {"HTTP_AUTHORIZATION": "Bearer b"},
    ),
]


@pytest.mark.parametrize(("names", "one", "other"), [r[1:] for r in SAME], ids=[f"RFC9111-4.1-{r[0]}" for r in SAME])
def test_variant_id__is_equal(names: tuple[str, ...], one: dict[str, str], other: dict[str, str]) -> None:
    """Requests that differ in nothing that matters select one variant."""
    assert variant_id(names, one) == variant_id(names, other)


@pytest.mark.parametrize(
    ("names", "one", "other"), [r[1:] for r in DIFFERENT], ids=[f"RFC9111-4.1-{r[0]}" for r in DIFFERENT]
)
def test_variant_id__differs(names: tuple[str, ...], one: dict[str, str], other: dict[str, str]) -> None:
    """Requests that may get different answers select different variants."""
    assert variant_id(names, one) != variant_id(names, other)


NAMES = ("accept-encoding", "cookie", "x-a")
FIELD = st.none() | st.text(st.sampled_from('ab, \t;:-1"'), max_size=6)


def obvious(value: str | None, *, is_list: bool) -> Any:
    """The normal form, written the slow way."""
    if value is None:
        return None
    value = value.strip(" \t")
    if is_list and '"' not in value:
        return sorted(member.strip(" \t") for member in value.split(",") if member.strip(" \t"))
    return value


@given(st.lists(FIELD, min_size=3, max_size=3), st.lists(FIELD, min_size=3, max_size=3))
def test_variant_id__is_equal_exactly_when_the_normal_forms_are(one: list[str | None], other: list[str | None]) -> None:
    """RFC 9111 section 4.1: ids agree if and only if every selecting field does."""

    def environ(values: list[str | None]) -> dict[str, str]:
        keys = ("HTTP_ACCEPT_ENCODING", "HTTP_COOKIE", "HTTP_X_A")
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    def normal(values: list[str | None]) -> list[Any]:
        return [obvious(value, is_list=i == 0) for i, value in enumerate(values)]

    assert (variant_id(NAMES, environ(one)) == variant_id(NAMES, environ(other))) == (normal(one) == normal(other))


def test_variant_id__has_128_bits_and_none_for_one_variant() -> None:
    """32 hexadecimal digits; without Vary, nothing; text that is not latin-1 is no error."""
    assert re.fullmatch("[0-9a-f]{32}", variant_id(("accept",), {"HTTP_ACCEPT": "\udcff\u20ac"}))
    assert variant_id((), {"HTTP_ACCEPT": "a"}) == ""


def test_variant_id__blanks_take_no_time() -> None:
    """A field of nothing but blanks is read once through, and not again from each blank."""
    started = time.monotonic()
    for value in ("en" + " " * 200_000 + "x", "\t" * 200_000 + ",", " ," * 100_000):
        variant_id(("accept-language",), {"HTTP_ACCEPT_LANGUAGE": value})
    assert time.monotonic() - started < 5


def test_variant_id__refuses_star() -> None:
    """RFC 9111 section 4.1: a star selects nothing, so asking is a mistake."""
    with pytest.raises(ValueError, match="selects no variant"):
        variant_id(STAR, {})
