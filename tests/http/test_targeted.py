"""Targeted fields: structured dictionaries of cache directives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.http.directives import CacheControl
from flask_rcache.http.targeted import parse_targeted

ROWS: list[tuple[str, list[str], dict[str, Any] | None]] = [
    ("RFC9213-2.1-max-age", ["max-age=60"], {"max_age": 60}),
    ("RFC9213-2.1-several", ["max-age=60,private , no-store"], {"max_age": 60, "private": True, "no_store": True}),
    ("RFC9213-2.1-lines", ["max-age=60", "must-revalidate"], {"max_age": 60, "must_revalidate": True}),
    ("RFC9651-3.2-last-wins", ["max-age=60, max-age=5"], {"max_age": 5}),
    ("RFC9651-3.1.2-parameters", ['max-age=60;a;b="x y";c=1.5, public;q'], {"max_age": 60, "public": True}),
    ("RFC9651-4.2.2-items", ['a=:YQ==:, b=?0, c="x", d=tok/en, e=(1 "a");p, f=@7, g=1.25, h=-3'], {}),
    ("RFC9651-4.2.2-false", ["no-store=?0, public=?0"], {}),
    ("RFC9213-2.1-qualified", ['private="set-cookie"'], {"private": True}),
    ("RFC9213-2.1-wrong-type", ['max-age="60", s-maxage=1.5, public=1'], {}),
    ("RFC9111-4.2.1-negative", ["max-age=-1"], {"max_age": 0}),
    ("RFC9111-1.2.2-overflow", ["max-age=99999999999"], {"max_age": 2**31}),
    ("RFC9213-2.1-empty", [" "], None),
    ("RFC9651-4.2-no-key", ["max-age=60, &&&"], None),
    ("RFC9651-3.2-upper-case", ["MaX-aGe=3600"], None),
    ("RFC9651-4.2.2-trailing-comma", ["max-age=60,"], None),
    ("RFC9651-4.2.2-no-comma", ["max-age=60 no-store"], None),
    ("RFC9651-4.2-blank-before-equals", ["max-age =60"], None),
    ("RFC9651-4.2-blank-after-equals", ["max-age= 60"], None),
    ("RFC9651-4.2.5-no-end", ['a="x'], None),
    ("RFC9651-4.2.4-sixteen-digits", ["max-age=1234567890123456"], None),
    ("RFC9651-4.2.4-two-points", ["max-age=1.2.3"], None),
]


@pytest.mark.parametrize(("lines", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_parse_targeted__reads(lines: list[str], expected: dict[str, Any] | None) -> None:
    """Each line gives exactly the directives of its row; what is no dictionary is none."""
    assert parse_targeted(lines) == (None if expected is None else CacheControl(**expected))


@given(st.lists(st.text(max_size=80), max_size=3))
def test_parse_targeted__never_raises(lines: list[str]) -> None:
    """Arbitrary lines are directives or nothing."""
    found = parse_targeted(lines)
    assert found is None or isinstance(found, CacheControl)
