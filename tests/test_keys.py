"""Names: every key a safe id, no two keys one, and nothing that reaches beyond its type."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_rcache.errors import ConfigError, InvalidKeyError
from flask_rcache.model.keys import Names, key_id, request_id, user_tag, type_tag, url_tag

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
def test_split__half_a_character_is_refused(text: str) -> None:
    """It cannot be sent to a server, and comes from a terminal's stray bytes."""
    with pytest.raises(InvalidKeyError, match="not a stored key"):
        NAMES.split(text)
    with pytest.raises(ConfigError, match="half a character"):
        NAMES.pattern(text)


def test_stored__never_an_internal_key() -> None:
    """No key of a user becomes a lease, an index or the stamp set."""
    for key in ("~stamps", "cache~stamps", "cache~lease:search:a", "~index:search"):
        assert NAMES.stored("search", key).startswith("cache:search:~") or "~" not in NAMES.stored("search", key)
        assert NAMES.stored("search", key) not in (NAMES.stamps, NAMES.meta, NAMES.index("search"))


def test_key_id__numbers_and_their_texts_are_one() -> None:
    """42 and "42" name the same entry, as they do in a URL; within a tuple they do not."""
    assert key_id(42) == key_id("42") == "42"
    assert key_id(-1) == "-1"
    assert key_id((42,)) != key_id(("42",))
    assert key_id(10**40).startswith("~")


@pytest.mark.parametrize("key", [None, True, 1.0, b"a", ["a"], {"a": 1}, Decimal(1), object()], ids=repr)
def test_key_id__refused(key: Any) -> None:
    """Only str, int and tuple; the message names what it was."""
    with pytest.raises(InvalidKeyError, match=type(key).__name__):
        key_id(key)


def test_key_id__subclasses_are_refused() -> None:
    """What a subclass says its text is, is not certain: an enum member's would surprise."""

    class Text(str):
        __slots__ = ()

    with pytest.raises(InvalidKeyError, match="Text"):
        key_id(Text("a"))


def test_key_id__tuples_are_typed() -> None:
    """Look-alikes of different types and groupings are different keys; equal contents are one."""
    apart: list[tuple[object, ...]] = [
        (),
        ((),),
        ([],),
        ({},),
        (set(),),
        (1,),
        (1.0,),
        (True,),
        ("1",),
        (b"1",),
        (Decimal(1),),
        (None,),
        ("None",),
        (0.0,),
        (-0.0,),
        ("a", "b"),
        ("ab",),
        ("a", ("b",)),
        (("a", "b"),),
        (["a", "b"],),
        ({"a": "b"},),
        ({"a", "b"},),
        (dt.date(2020, 1, 1),),
        (dt.datetime(2020, 1, 1),),  # naive on purpose
        (dt.datetime(2020, 1, 1, tzinfo=dt.UTC),),
        (dt.time(1),),
        (dt.timedelta(1),),
        (UUID(int=1),),
    ]
    assert len({key_id(key) for key in apart}) == len(apart)
    assert key_id(({"a": 1, "b": 2},)) == key_id(({"b": 2, "a": 1},))
    assert key_id((frozenset({1, 2}),)) == key_id(({2, 1},))
    assert key_id((float("nan"),)) == key_id((-float("nan"),))


def test_key_id__is_stable() -> None:
    """The same in every process and release: a change here would empty every cache."""
    assert key_id(("a", 1, {"b": [None, True]})) == "~4e4766cf858806c735a0a4ff5f32fe9b"


def test_key_id__refuses_what_has_no_stable_form() -> None:
    """An object inside is named; depth is bounded."""
    with pytest.raises(InvalidKeyError, match=r"builtins\.object"):
        key_id((object(),))
    deep: object = ()
    for _ in range(40):
        deep = (deep,)
    with pytest.raises(InvalidKeyError, match="deep"):
        key_id(deep)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def shape(value: object) -> object:
    """The value with its types, so that 1, True and 1.0 differ, and -0.0 and 0.0."""
    if isinstance(value, dict):
        return ("dict", sorted(((key, repr(shape(item))) for key, item in value.items())))
    if isinstance(value, list | tuple):
        return (type(value).__name__, [shape(item) for item in value])
    return (type(value).__name__, repr(value))


@given(st.tuples(plain, plain), st.tuples(plain, plain))
def test_key_id__equal_exactly_when_the_same(one: tuple[object, ...], two: tuple[object, ...]) -> None:
    """Two tuples have one id if and only if they are the same, types included."""
    assert (key_id(one) == key_id(two)) == (shape(one) == shape(two))


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_request_id__parts_do_not_run_together(one: list[str], two: list[str]) -> None:
    """Length-prefixed: equal ids mean equal lists."""
    assert (request_id(one) == request_id(two)) == (one == two)


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
