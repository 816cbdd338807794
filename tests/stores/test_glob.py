"""Globs in this process: the same entries as the server's own."""

from __future__ import annotations

import fnmatch
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.stores.glob import glob_regex
from tests.servers import Server


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("[!a]", "!a", "b^"),
        ("[^a]", "b!^", "a"),
        ("[^!]", "ab^", "!"),
        ("[a", "a", "b["),
        ("[", "", "a["),
        ("[]", "", "]a"),
        ("[]a]", "", "a]"),
        ("[^]", "a]^", ""),
        ("[c-a]", "abc", "d-"),
        ("[b-?]", "?Ab", "c!"),
        ("[a-]", "a^]", "b-"),
        (r"[\]a]", "]a", "\\b"),
        (r"[a\-c]", "a-c", "b"),
    ],
)
def test_glob_regex__classes_as_redis_reads_them(pattern: str, matches: str, others: str) -> None:
    """An exclamation mark is a character, a range may run backwards, a class without an end ends with the pattern."""
    found = glob_regex(pattern)
    assert [text for text in matches + others if found.fullmatch(text)] == list(matches)


def test_glob_regex__agrees_with_the_server(server: Server) -> None:
    """Thousands of patterns, made at random of the characters that mean something, match what `KEYS` matches."""
    client: Any = server.client()
    random = Random(7)
    texts = [*"abc]^!-\\[?", "ab", "-]", "^a"]
    client.mset(dict.fromkeys(texts, b"x"))
    patterns = ["".join(random.choice("ab]^!-\\[?c*") for _ in range(random.randint(1, 7))) for _ in range(3000)]
    with client.pipeline(transaction=False) as pipeline:
        for pattern in patterns:
            pipeline.keys(pattern)
        replies = pipeline.execute()
    for pattern, keys in zip(patterns, replies, strict=True):
        found = {key.decode() for key in keys} & set(texts)  # an earlier test's cache may live on
        assert {text for text in texts if glob_regex(pattern).fullmatch(text)} == found, pattern


@given(st.text(alphabet="ab*?[]^-\\c:", max_size=8), st.text(alphabet="abc:*-^]", max_size=6))
def test_glob_regex__never_raises(pattern: str, text: str) -> None:
    """Any text is a pattern; one without specials matches itself only."""
    matched = glob_regex(pattern).fullmatch(text) is not None
    if not set(pattern) & set("*?[]\\"):
        assert matched == (pattern == text)


@given(st.text("ab*?", max_size=10), st.text("ab", max_size=10))
def test_glob_regex__as_fnmatch(pattern: str, text: str) -> None:
    """Stars and question marks mean what they do everywhere."""
    assert bool(glob_regex(pattern).fullmatch(text)) is fnmatch.fnmatchcase(text, pattern)


def test_glob_regex__many_stars() -> None:
    """A pattern of many stars is answered at once; backtracking would take longer than the tests."""
    key = "cache:search:" + "a" * 5000
    assert glob_regex("*a" * 200 + "*").fullmatch(key)
    assert not glob_regex("*a" * 200 + "*b").fullmatch(key)
