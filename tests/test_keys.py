"""Names: every key a safe id, no two keys one, and nothing that reaches beyond its type."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.errors import ConfigError, InvalidKeyError
from flask_rcache.model.keys import Names, type_tag, url_tag, user_tag

NAMES = Names()

HOSTILE = [
    "",
    " ",
    "*",
    "a*b",
    "[a]",
    "a?",
    "{x}",
    "a:b:",
    ":a",
    "a::b",
    "~stamps",
    "a\x00b",
    "a\nb",
    "a\r\nSET x 1",
    "é",
    "\U0001f600",
    "\ud800",
    "a b",
    '"',
    "a" * 201,
    "x" * 1_000_000,
    "../../etc",
]


@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: repr(key)[:20])
def test_stored__hostile_keys_are_contained(key: str) -> None:
    """Separators, globs, NUL, unicode, 1 MB: an id of harmless characters, within its type."""
    stored = NAMES.stored("search", key)
    assert re.fullmatch(r"cache:search:[A-Za-z0-9_.@=+,/~-]+(:[A-Za-z0-9_.@=+,/~-]+)*", stored)
    assert len(stored) <= 13 + 200
    assert NAMES.type_of(stored) == "search"
    assert NAMES.split(stored)[0] == "search"


def test_stored__hostile_keys_stay_apart() -> None:
    """Each has an id of its own."""
    assert len({NAMES.stored("search", key) for key in HOSTILE}) == len(HOSTILE)


def test_stored__prefix_is_stripped_once() -> None:
    """One's own stored key is the key; another type's, and an internal name, is not."""
    assert NAMES.stored("search", "cache:search:a") == NAMES.stored("search", "a") == "cache:search:a"
    assert NAMES.stored("search", "cache:search:cache:search:a") == "cache:search:cache:search:a"
    hashed = NAMES.stored("search", "a b")
    assert NAMES.stored("search", hashed) == hashed
    assert NAMES.stored("search", hashed.removeprefix("cache:search:")) != hashed
    for pasted in (hashed, f"{hashed}~{'0' * 32}", f"cache:search:patient:42~{'0' * 32}"):
        assert NAMES.stored("search", pasted) == pasted
        assert NAMES.stored("search", pasted, hashed=False) != pasted
    for other in ("cache:product:a", "cache:searches:a", "cache:", "cache:search"):
        with pytest.raises(InvalidKeyError, match="search"):
            NAMES.stored("search", other)


def test_stored__a_hash_of_a_client_is_hashed_once_more() -> None:
    """Where the words may be a client's, what looks like a stored hash does not stand for that entry."""
    hashed = NAMES.stored("search", "a b")
    assert NAMES.stored("search", hashed, hashed=False) != hashed
    assert NAMES.stored("search", NAMES.variant(hashed, "0" * 32), hashed=False) not in (
        hashed,
        hashed + "~" + "0" * 32,
    )
    assert NAMES.stored("search", "cache:search:a", hashed=False) == "cache:search:a"


def test_variant__is_no_readable_key() -> None:
    """No key of a user, readable or hashed, is the name of another key's variant."""
    variant = NAMES.variant(NAMES.stored("search", "a"), "0" * 32)
    assert NAMES.stored("search", variant.removeprefix("cache:search:")) != variant
    assert NAMES.stored("search", "a." + "0" * 32) != variant
    hashed = NAMES.variant(NAMES.stored("search", "a b"), "0" * 32)
    assert NAMES.stored("search", hashed) == hashed
    assert NAMES.variant("cache:search:a", "") == "cache:search:a"


@pytest.mark.parametrize("text", ["cache:search:\udcff", "cache:\udcff:a"], ids=ascii)
def test_split__a_lone_surrogate_is_refused(text: str) -> None:
    """It cannot be sent to a server, and comes from a terminal's stray bytes."""
    with pytest.raises(InvalidKeyError, match="not a stored key"):
        NAMES.split(text)
    with pytest.raises(ConfigError, match="lone surrogate"):
        NAMES.pattern(text)


def test_stored__never_an_internal_key() -> None:
    """No key of a user becomes a lease, an index or the stamp set."""
    for key in ("~stamps", "cache~stamps", "cache~lease:search:a", "~index:search"):
        assert NAMES.stored("search", key).startswith("cache:search:~") or "~" not in NAMES.stored("search", key)
        assert NAMES.stored("search", key) not in (NAMES.stamps, NAMES.meta, NAMES.index("search"))


@given(st.text(min_size=1), st.text(min_size=1))
def test_members__stay_apart(one: str, two: str) -> None:
    """Tags, types and URLs never share a member, long tags and lone surrogates included."""
    assert (user_tag(one) == user_tag(two)) == (one == two)
    assert len({user_tag(one), type_tag(one), url_tag([one])}) == 3
    assert not user_tag(one).startswith("=")


def test_tag_member__is_bounded() -> None:
    """A stamp costs a bounded amount."""
    assert len(user_tag("x" * 10_000)) < 300
    user_tag("\ud800").encode()
    assert user_tag("x" * 201) != user_tag("x" * 202)


@pytest.mark.parametrize(
    "prefix", ["", "a:b", "a~b", "a*", "a?", "a[b]", "a{b}", "a b", "a\t", "a\\b", "a\x00", "a" * 65, None, 7]
)
def test_names__prefix_refused(prefix: Any) -> None:
    """A prefix that could reach other keys, as text or as a glob."""
    with pytest.raises(ConfigError, match="RCACHE_PREFIX"):
        Names(prefix)


def test_names__two_prefixes_are_apart() -> None:
    """No name under one prefix is one under another that begins with it."""
    one, two = Names("cache"), Names("cache2")
    for name in (two.stored("search", "a"), two.stamps, two.index("x"), two.lease(two.stored("search", "a")), two.bus):
        assert not name.startswith(("cache:", "cache~"))
    assert one.lease("cache:search:a") == "cache~lease:search:a"


def test_split__refuses_what_is_not_ours() -> None:
    """A stored key has a type and an id."""
    assert NAMES.split("cache:search:a:b") == ("search", "a:b")
    for other in ("cache~stamps", "cached:search:a", "cache:search", "cache:search:", "x"):
        with pytest.raises(InvalidKeyError):
            NAMES.split(other)


@pytest.mark.parametrize(
    ("pattern", "type_name", "expected"),
    [
        ("*", None, ("cache:*", None)),
        ("search:*", None, ("cache:search:*", "search")),
        ("cache:search:*", None, ("cache:search:*", "search")),
        ("s*:x", None, ("cache:s*:x", None)),
        ("*", "search", ("cache:search:*", "search")),
        ("cache:search:a*", "search", ("cache:search:a*", "search")),
        ("cache:product:*", "search", ("cache:search:cache:product:*", "search")),
        ("cache~*", None, ("cache:cache~*", None)),
        ("[c]ache~*", None, ("cache:[c]ache~*", None)),
    ],
)
def test_pattern__is_confined(pattern: str, type_name: str | None, expected: tuple[str, str | None]) -> None:
    """A glob never reaches beyond the prefix, nor beyond its type."""
    assert NAMES.pattern(pattern, type_name=type_name) == expected
