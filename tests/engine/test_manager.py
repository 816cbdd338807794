"""The manager's promises on values: exact, isolated, told, refused clearly; on memory, Redis and Valkey."""

from __future__ import annotations

import datetime as dt
import logging
import re
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask

from flask_rcache import FROM_HEADERS, MISSING, CacheManager, CacheType, RCache
from flask_rcache import signals as events
from flask_rcache.errors import ConfigError, EncodeError, InvalidKeyError, UnknownTypeError
from flask_rcache.model.scope import scope_var
from tests.servers import Server
from tests.stores.kit import manager


@pytest.fixture(params=["memory", "redis", "valkey"])
def cache(request: pytest.FixtureRequest) -> Iterator[CacheManager]:
    """A cache on each store in turn, empty."""
    url = "memory://"
    if request.param != "memory":
        server: Server = request.getfixturevalue(f"{request.param}_server")
        url = server.url
    made = manager(url, strict=False)
    yield made
    made.close()


@pytest.fixture
def make() -> Iterator[Callable[..., CacheManager]]:
    """Makes caches in memory."""
    made: list[CacheManager] = []

    def one(**config: Any) -> CacheManager:
        made.append(manager("memory://", **config))
        return made[-1]

    yield one
    for each in made:
        each.close()


VALUES: list[object] = [
    None,
    0,
    False,
    "",
    b"",
    [],
    {},
    (),
    set(),
    0.0,
    [1, {"a": (Decimal("1.10"), {1, 2})}, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)],
    "x" * 100_000,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values__miss_gives_what_a_hit_gives(cache: CacheManager, value: object) -> None:
    """Falsy values are values; type and content come back as they were."""
    loads = []

    def loader() -> object:
        loads.append(1)
        return value

    missed, hit, got = cache.fetch("search", "a", loader), cache.fetch("search", "a", loader), cache.get("search", "a")
    assert [missed, hit, got] == [value] * 3
    assert {type(missed), type(hit), type(got)} == {type(value)}
    assert len(loads) == 1
    assert cache.set("search", "b", value) is True
    found = cache.get("search", "b", MISSING)
    assert found == value
    assert type(found) is type(value)


def test_get__missing_is_not_none(cache: CacheManager) -> None:
    """The default for a miss; MISSING tells it from a stored None."""
    assert cache.get("search", "a") is None
    assert cache.get("search", "a", MISSING) is MISSING
    assert not MISSING
    assert repr(MISSING) == "MISSING"
    cache.set("search", "a", None)
    assert cache.get("search", "a", MISSING) is None


def test_hits__share_no_mutable_object(cache: CacheManager) -> None:
    """What one caller does to its value, no other sees: not of a hit, not of a miss."""
    missed = cache.fetch("search", "a", lambda: {"list": [1]})
    missed["list"].append(2)
    first = cache.get("search", "a")
    assert first == {"list": [1]}
    first["list"].append(3)
    assert cache.get("search", "a") == {"list": [1]}
    mine = [1]
    cache.set("search", "b", mine)
    mine.append(2)
    assert cache.get("search", "b") == [1]


def test_delete__says_whether_it_was_there(cache: CacheManager) -> None:
    """True once."""
    cache.set("search", "a", 1)
    assert [cache.delete("search", "a"), cache.delete("search", "a")] == [True, False]
    assert cache.get("search", "a", MISSING) is MISSING


def test_values__a_key_that_spells_another_entry_s(cache: CacheManager) -> None:
    """A visitor can work out the hash of a key; sent as a key of its own it reaches nothing but itself."""
    cache.set("search", ("of", "alice"), "secret")
    spelled = next(cache.entries()).key
    assert cache.get("search", spelled) is None
    assert cache.get_many("search", [spelled]) == {}
    assert cache.fetch("search", spelled, lambda: "found nothing") == "found nothing"
    assert cache.fetch_many("search", [spelled], lambda keys: {}) == {spelled: "found nothing"}
    assert cache.set("search", spelled, 1) is True
    assert cache.set_many("search", {spelled: 2}) is True
    assert (cache.get("search", spelled), cache.get("search", ("of", "alice"))) == (2, "secret")


def test_delete__of_a_key_with_a_hash_in_it(cache: CacheManager) -> None:
    """Pasted from a listing it stands for that entry; what was set under such a text is removed too."""
    cache.set("search", ("of", "alice"), "secret")
    spelled = next(cache.entries()).key
    cache.set("search", spelled, 1)
    assert cache.delete("search", spelled) is True
    assert (cache.get("search", spelled), cache.get("search", ("of", "alice"))) == (None, None)
    assert cache.delete("search", spelled) is False


def test_many__of_those_found(cache: CacheManager) -> None:
    """Keys stand as given; the loader gets the missing ones, and may not know all of them."""
    assert cache.set_many("search", {"a": 1, 2: "two", (3, "x"): [3]}) is True
    keys: list[Any] = ["a", 2, (3, "x"), "nobody"]
    assert cache.get_many("search", keys) == {"a": 1, 2: "two", (3, "x"): [3]}
    asked: list[list[Any]] = []

    def loader(missing: list[Any]) -> dict[Any, object]:
        asked.append(missing)
        return {key: f"loaded {key}" for key in missing if key != "unknown"}

    wanted: list[Any] = ["new", "a", "unknown", 2]
    found = cache.fetch_many("search", wanted, loader, tags=["eu"])
    assert list(found.items()) == [("new", "loaded new"), ("a", 1), (2, "two")]
    assert asked == [["new", "unknown"]]
    assert cache.fetch_many("search", ["new"], loader) == {"new": "loaded new"}
    cache.invalidate_tags("eu")
    assert cache.get_many("search", ["new", "a"]) == {"a": 1}
    assert cache.fetch_many("search", [], loader) == {}
    assert cache.get_many("search", []) == {}
    assert cache.set_many("search", {}) is True
    assert len(asked) == 1


def test_many__two_spellings_of_one_key(cache: CacheManager) -> None:
    """42 and "42" are one key: it is loaded once, and each stands as given, with a value of its own."""
    asked: list[list[Any]] = []

    def loader(missing: list[Any]) -> dict[Any, Any]:
        asked.append(missing)
        return {key: [key] for key in missing}

    keys: list[Any] = [42, "42", 42]
    for _ in range(2):
        found = cache.fetch_many("search", keys, loader)
        assert list(found.items()) == [(42, [42]), ("42", [42])]
        assert found[42] is not found["42"]
    assert asked == [[42]]
    found = cache.get_many("search", keys)
    assert list(found.items()) == [(42, [42]), ("42", [42])]
    assert found[42] is not found["42"]


def test_fetch_many__two_spellings_while_switched_off(make: Callable[..., CacheManager]) -> None:
    """The same without a cache; a value that no cache could keep is shared."""
    value = Foreign()
    keys: list[Any] = [42, "42", 7]
    found = make(enabled=False).fetch_many("search", keys, lambda missing: dict.fromkeys(missing[:1], value))
    assert found == {42: value, "42": value}


@pytest.mark.parametrize("given", [["a"], None, {"a"}, "a", 5])
def test_fetch_many__a_loader_that_gives_no_mapping(cache: CacheManager, given: Any) -> None:
    """It is told so, and no lease stays behind."""
    with pytest.raises(TypeError, match="must return a mapping"):
        cache.fetch_many("search", ["a", "b"], lambda missing: given)
    assert cache.fetch_many("search", ["a"], lambda missing: {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    "call",
    [
        lambda cache: cache.get_many("search", "abc"),
        lambda cache: cache.get_many("search", 5),
        lambda cache: cache.fetch_many("search", "abc", dict.fromkeys),
        lambda cache: cache.fetch_many("search", None, dict.fromkeys),
        lambda cache: cache.set_many("search", [("a", 1)]),
        lambda cache: cache.set_many("search", "ab"),
        lambda cache: cache.set("search", "a", 1, tags=None),
        lambda cache: cache.set("search", "a", 1, ttl=10**400),
        lambda cache: cache.fetch("search", "a", int, tags=5),
    ],
)
def test_values__arguments_of_a_wrong_shape(make: Callable[..., CacheManager], call: Any) -> None:
    """One string is no list of keys, pairs are no mapping, None is no list of tags."""
    with pytest.raises(ConfigError, match=r"keys must|takes a mapping|tags must|ttl must"):
        call(make())


def test_fetch_many__loader_raises(cache: CacheManager) -> None:
    """Nothing is stored, and no lease stays behind."""
    with pytest.raises(ZeroDivisionError):
        cache.fetch_many("search", ["a", "b"], lambda missing: {missing[0]: 1 // 0})
    assert cache.fetch_many("search", ["a", "b"], lambda missing: dict.fromkeys(missing, 1)) == {"a": 1, "b": 1}


def test_fetch__loader_raises(cache: CacheManager) -> None:
    """The exception is the caller's; the next call loads."""
    with pytest.raises(ZeroDivisionError):
        cache.fetch("search", "a", lambda: 1 // 0)
    with pytest.raises(KeyboardInterrupt):
        cache.fetch("search", "a", interrupted)
    assert cache.fetch("search", "a", lambda: 7) == 7


def interrupted() -> int:
    raise KeyboardInterrupt


# Invalidation


def test_invalidate__counts(cache: CacheManager) -> None:
    """Types and clear_all by the index, tags by the number stamped, patterns and keys by what went."""
    for number in range(4):
        cache.set("search", f"k{number}", number, tags=["eu"])
    cache.set("product", "p", 1)
    assert cache.invalidate_pattern("search:k[01]") == 2
    assert cache.invalidate_type(CacheType.SEARCH) == 2
    assert cache.invalidate_tags("a", "b", "a") == 2
    assert cache.invalidate_tags() == 0
    assert cache.clear_all() == 1
    assert cache.clear_all() == 0


def test_tag__during_a_load(cache: CacheManager) -> None:
    """Tags found out while loading label the entry; outside a load they do nothing."""
    cache.tag("nowhere")

    def loader() -> int:
        cache.tag("found", "out")
        return 1

    cache.fetch("search", "a", loader, tags=["given"])
    listed = {item.key: set(item.tags) for item in cache.entries()}
    assert listed == {"cache:search:a": {"found", "out", "given"}}
    cache.invalidate_tags("out")
    assert cache.get("search", "a") is None


def test_tag__invalidated_before_it_is_known(cache: CacheManager) -> None:
    """A tag named late in a load that was invalidated early in it: the load is overtaken all the same (rule R3)."""

    def loader() -> str:
        cache.invalidate_tags("late")
        cache.tag("late")
        return "old"

    assert cache.fetch("search", "a", loader) == "old"
    assert cache.get("search", "a", MISSING) is MISSING


def test_nested__tags_are_handed_up(cache: CacheManager) -> None:
    """A value made of cached values goes with any of them: loaded inside, hit inside, or two levels down."""
    inner = {"n": 0}

    def innermost() -> int:
        return cache.fetch("query", "innermost", lambda: inner["n"], tags=["deep"])

    def middle() -> int:
        return cache.fetch("product", "middle", innermost, tags=["middle"])

    def outer() -> int:
        return cache.fetch("search", "outer", middle)

    for warm in (None, innermost, middle):
        for act in (
            lambda: cache.invalidate_tags("deep"),
            lambda: cache.invalidate_tags("middle"),
            lambda: cache.invalidate_type("query"),
            lambda: cache.invalidate_type("product"),
        ):
            cache.clear_all()
            if warm is not None:
                warm()
            before = outer()
            assert cache.get("search", "outer", MISSING) == before
            act()
            assert cache.get("search", "outer", MISSING) is MISSING


def test_nested__hit_keeps_its_own_as_of(cache: CacheManager) -> None:
    """A value read from the cache is as old as its own load: invalidated between, what is built on it is refused."""
    cache.fetch("query", "inner", lambda: "old", tags=["inner"])

    def loader() -> object:
        read = cache.get("query", "inner")
        cache.invalidate_tags("inner")
        return read

    assert cache.fetch("search", "outer", loader) == "old"
    assert cache.get("search", "outer", MISSING) is MISSING


def test_nested__a_miss_is_an_answer(cache: CacheManager) -> None:
    """That something was not there is known as of the load: when its type goes, so does what was built on it."""
    cache.fetch("search", "outer", lambda: cache.get("query", "inner", "nothing"))
    assert cache.get("search", "outer") == "nothing"
    cache.invalidate_type("query")
    assert cache.get("search", "outer", MISSING) is MISSING


def test_nested__a_failed_load_is_an_answer_too(cache: CacheManager) -> None:
    """What carries on after an inner loader failed depends on the inner's tags."""

    def fails() -> int:
        cache.tag("found-out")
        raise LookupError

    def loader() -> str:
        try:
            cache.fetch("query", "inner", fails, tags=["given"])
        except LookupError:
            return "without"
        return "with"

    for tag in ("given", "found-out"):
        assert cache.fetch("search", "outer", loader) == "without"
        assert cache.get("search", "outer") == "without"
        cache.invalidate_tags(tag)
        assert cache.get("search", "outer", MISSING) is MISSING


def test_nested__many(cache: CacheManager) -> None:
    """The many-forms hand up and inherit tags as the others do."""
    cache.fetch_many("query", ["a"], lambda missing: dict.fromkeys(missing, 1), tags=["first"])

    def outer() -> object:
        return cache.fetch_many("query", ["a", "b"], lambda missing: dict.fromkeys(missing, 2), tags=["second"])

    for tag in ("first", "second"):
        cache.fetch("search", "outer", outer)
        assert cache.get("search", "outer") == {"a": 1, "b": 2}
        cache.invalidate_tags(tag)
        assert cache.get("search", "outer") is None
        cache.clear_all()
        cache.fetch_many("query", ["a"], lambda missing: dict.fromkeys(missing, 1), tags=["first"])

    def inside(missing: list[str]) -> dict[str, object]:
        read = cache.fetch("product", "p", lambda: 5, tags=["inside"])
        return dict.fromkeys(missing, read)

    cache.fetch_many("search", ["x", "y"], inside)
    cache.invalidate_tags("inside")
    assert cache.get_many("search", ["x", "y"]) == {}


# What cannot be kept


class Foreign:
    """Nothing the codec knows."""


def test_unkeepable__degrades(cache: CacheManager, caplog: pytest.LogCaptureFixture) -> None:
    """The loader's value comes back, every time from the loader; set says False; each is worth a line."""
    value = Foreign()
    with caplog.at_level(logging.WARNING, logger="flask_rcache"):
        assert cache.fetch("search", "a", lambda: value) is value
        assert cache.fetch("search", "a", lambda: value) is value
        assert cache.set("search", "b", value) is False
        assert cache.set_many("search", {"c": 1, "d": value}) is False
    assert cache.get_many("search", ["a", "b", "c", "d"]) == {"c": 1}
    assert "Foreign" in caplog.text
    assert cache.is_available
    found = cache.fetch_many("search", ["e", "f"], lambda missing: {"e": value, "f": 6})
    assert found == {"e": value, "f": 6}
    assert cache.get_many("search", ["e", "f"]) == {"f": 6}


def test_unkeepable__raises_when_strict(make: Callable[..., CacheManager]) -> None:
    """In tests (RCACHE_STRICT) a value that would not come back exactly is an error, and leaves no lease behind."""
    cache = make(strict=True)
    with pytest.raises(EncodeError, match="Foreign"):
        cache.fetch("search", "a", Foreign)
    with pytest.raises(EncodeError, match="Foreign"):
        cache.set("search", "a", Foreign())
    with pytest.raises(EncodeError, match="Foreign"):
        cache.fetch_many("search", ["a", "b"], lambda missing: {"a": 1, "b": Foreign()})
    assert cache.fetch("search", "a", lambda: 1) == 1


def test_unkeepable__too_large(make: Callable[..., CacheManager]) -> None:
    """Above RCACHE_MAX_BYTES a value is not kept."""
    cache = make(max_bytes=1000, strict=False)
    assert cache.set("search", "a", "x" * 900) is True
    assert cache.set("search", "a", "x" * 1001) is False
    assert cache.fetch("search", "b", lambda: "x" * 1001) == "x" * 1001
    assert cache.get("search", "b") is None


# Wrong arguments


def shown(value: object) -> str:
    """A value as it stands in the id of a test, the same in every process."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


@pytest.mark.parametrize("key", [None, 1.5, b"x", ["x"], {"x": 1}, True, object(), (object(),)], ids=shown)
def test_arguments__wrong_keys(make: Callable[..., CacheManager], key: Any) -> None:
    """A key is a str, an int or a tuple; anything else is the caller's mistake, and raises everywhere."""
    cache = make()
    for call in (
        lambda: cache.get("search", key),
        lambda: cache.set("search", key, 1),
        lambda: cache.delete("search", key),
        lambda: cache.fetch("search", key, lambda: 1),
        lambda: cache.get_many("search", [key]),
        lambda: cache.fetch_many("search", [key], lambda missing: {}),
    ):
        with pytest.raises(InvalidKeyError, match="key"):
            call()


def test_arguments__keys_that_hold_lists_and_dicts(cache: CacheManager) -> None:
    """A tuple of plain values is a key, nested lists, dicts and sets included, whether Python can hash it or not."""
    key = ("report", {"from": 1, "to": [2, 3]}, {"a", "b"})
    same = ("report", {"to": [2, 3], "from": 1}, {"b", "a"})
    assert cache.set("search", key, 1) is True
    assert cache.get("search", same) == 1
    assert cache.fetch("search", same, lambda: 2) == 1
    assert cache.delete("search", same) is True


def test_arguments__another_type_s_stored_key(make: Callable[..., CacheManager]) -> None:
    """A stored key of another type is refused; one's own is taken with or without its prefix."""
    cache = make()
    with pytest.raises(InvalidKeyError, match="search"):
        cache.get("search", "cache:product:a")
    cache.set("search", "cache:search:a", 1)
    assert cache.get("search", "a") == 1


@pytest.mark.parametrize(
    "ttl", [0, -1, -0.5, float("nan"), float("inf"), True, "60", b"60", [60], 10**12, object()], ids=shown
)
def test_arguments__wrong_ttls(make: Callable[..., CacheManager], ttl: Any) -> None:
    """A ttl is a finite number of seconds above 0, everywhere."""
    cache = make()
    calls: list[Callable[[], object]] = [
        lambda: cache.set("search", "a", 1, ttl=ttl),
        lambda: cache.set_many("search", {"a": 1}, ttl=ttl),
        lambda: cache.fetch("search", "a", lambda: 1, ttl=ttl),
        lambda: cache.fetch_many("search", ["a"], lambda missing: {}, ttl=ttl),
        lambda: CacheType("x", ttl=ttl),
        lambda: manager("memory://", ttl_default=ttl if ttl != "60" else "sixty"),
        lambda: manager("memory://", ttl_search=ttl if ttl != "60" else "sixty"),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=r"ttl|TTL"):
            call()


def test_arguments__other_mistakes(make: Callable[..., CacheManager]) -> None:
    """Types, tags and patterns that cannot be."""
    cache = make()
    with pytest.raises(UnknownTypeError, match=r"'weather'.*known are .*dashboard.*search"):
        cache.get("weather", "a")
    with pytest.raises(UnknownTypeError, match="did you mean dashboard"):
        cache.invalidate_type("dashbord")
    with pytest.raises(ConfigError, match="int"):
        cache.get(7, "a")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"\['eu'\]"):
        cache.set("search", "a", 1, tags="eu")
    wrong: list[list[Any]] = [[""], [None], [1]]
    for tags in wrong:
        with pytest.raises(ConfigError, match="tags"):
            cache.set("search", "a", 1, tags=tags)
        with pytest.raises(ConfigError, match="tags"):
            cache.invalidate_tags(*tags)
        with pytest.raises(ConfigError, match="tags"):
            cache.tag(*tags)
    for pattern in ("", None, 7):
        with pytest.raises(ConfigError, match="pattern"):
            cache.invalidate_pattern(pattern)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="headers"):
        cache.set("search", "a", 1, ttl=FROM_HEADERS)  # type: ignore[arg-type]


# Types and ttls


def ttl_of(cache: CacheManager, key: str) -> float:
    (listed,) = [item for item in cache.entries() if item.key == key]
    return listed.ttl


def test_ttl__call_settings_type_default(make: Callable[..., CacheManager]) -> None:
    """The nearest word counts: the call's, the settings', the type's, the default."""
    cache = make(ttl_search=111, ttl_default=222, ttl_weather=333)
    weather = CacheType("weather", ttl=444)
    cases: list[tuple[CacheType | str, float | None, float]] = [
        ("search", 55, 55),
        ("search", None, 111),
        (CacheType.SEARCH.replace(ttl=9), None, 111),
        ("product", None, 7200),
        ("default", None, 222),
        (weather, None, 333),
        (CacheType("other"), None, 222),
        (CacheType("other", ttl=66), None, 66),
        (CacheType("other", ttl=66), 77, 77),
    ]
    for number, (cache_type, ttl, expected) in enumerate(cases):
        cache.set(cache_type, number, 1, ttl=ttl)
        name = cache_type if isinstance(cache_type, str) else cache_type.name
        assert expected - 5 < ttl_of(cache, f"cache:{name}:{number}") <= expected


def test_types__registered_and_refused() -> None:
    """A name may be registered twice alike, not twice differently; built-in names neither."""
    weather = CacheType("weather", ttl=60)
    app = Flask("app")
    RCache(app, types=[weather, CacheType("weather", ttl=60)])
    made: CacheManager = app.extensions["rcache"]
    assert made.types["weather"] == weather
    made.set("weather", "a", 1)
    assert made.get(weather.replace(ttl=5), "a") == 1
    for types in ([weather, weather.replace(ttl=61)], [CacheType("search", ttl=1)]):
        with pytest.raises(ConfigError, match="registered twice"):
            RCache(Flask("app"), types=types)
    with pytest.raises(ConfigError, match="CacheType"):
        RCache(Flask("app"), types=["weather"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="once"):
        RCache().init_app(app)


def test_policies__do_not_grow_for_ever(make: Callable[..., CacheManager]) -> None:
    """A ttl computed for each call costs no memory for ever."""
    cache = make()
    for number in range(10_500):
        cache.engine.policies.policy("search", 1 + number / 7)
    assert len(cache.engine.policies._policies) <= 10_001


# Switched off


def test_enabled__false_still_invalidates(server: Server) -> None:
    """The emergency switch: nothing is read or stored, invalidations go out, so that on again serves nothing old."""
    on, off = manager(server.url), manager(server.url, enabled=False)
    on.fetch("search", "a", lambda: "old", tags=["eu"])
    on.set("search", "b", "old")
    on.set("search", "c", "old")
    on.set("product", "p", "old")
    assert off.get("search", "a", "default") == "default"
    assert off.fetch("search", "a", lambda: "loaded") == "loaded"
    assert off.get_many("search", ["a"]) == {}
    assert off.fetch_many("search", ["a"], lambda missing: dict.fromkeys(missing, 1)) == {"a": 1}
    assert on.get("search", "a") == "old"
    assert off.set("search", "c", 1) is False
    assert on.get("search", "c") is None, "a value that was replaced while the cache was off"
    assert off.invalidate_tags("eu") == 1
    assert off.delete("search", "b") is True
    assert off.invalidate_type("product") == 1
    assert [on.get("search", "a"), on.get("search", "b"), on.get("product", "p")] == [None] * 3
    assert off.stats()["bypasses"] == 5
    for each in (on, off):
        each.close()


def test_disabled__for_tests() -> None:
    """Inside nothing is read or stored, also nested and in other threads; invalidations are sent."""
    app = Flask("app")
    rcache = RCache(app)
    made: CacheManager = app.extensions["rcache"]
    made.set("search", "a", 1)
    with rcache.disabled():
        with rcache.disabled():
            assert made.get("search", "a") is None
        assert made.fetch("search", "a", lambda: 2) == 2
        seen: list[object] = []
        thread = threading.Thread(target=lambda: seen.append(made.get("search", "a")))
        thread.start()
        thread.join()
        assert seen == [None]
        made.set("search", "b", 1)
    assert made.get("search", "a") == 1
    assert made.get("search", "b") is None
    with rcache.disabled():
        made.invalidate_type("search")
    assert made.get("search", "a") is None


# Looking


def test_stats__figures(cache: CacheManager) -> None:
    """Hits, misses and loads by type and in all, and the rate to two decimals."""
    cache.fetch("search", "a", lambda: 1)
    for _ in range(2):
        cache.get("search", "a")
    cache.get("product", "p")
    cache.invalidate_type("search")
    stats: Any = cache.stats()
    assert (stats["hits"], stats["misses"], stats["total_requests"], stats["hit_rate"]) == (2, 2, 4, 50.0)
    assert (stats["loads"], stats["stored"], stats["invalidations"]) == (1, 1, 1)
    assert stats["is_available"] is True
    assert stats["by_type"]["search"]["hit_rate"] == 66.67
    assert stats["by_type"]["product"]["misses"] == 1


def test_entries__names_sizes_and_no_values(cache: CacheManager) -> None:
    """What is there, by type and pattern; a wrong pattern is refused."""
    cache.set("search", "a", "secret", tags=["eu"])
    cache.set("search", "b c*", "secret")
    cache.set("product", "a", "secret")
    assert len(list(cache.entries())) == 3
    assert [item.key for item in cache.entries(type="product")] == ["cache:product:a"]
    assert [item.key for item in cache.entries(pattern="*:a")] != []
    assert [item.key for item in cache.entries(type="search", pattern="a*")] == ["cache:search:a"]
    assert "secret" not in repr(list(cache.entries()))
    for item in cache.entries():
        assert item.size > 0
        cache.delete(item.key.split(":")[1], item.key)  # a listed key leads to its entry
    assert list(cache.entries()) == []


# Signals


class Heard:
    """Receives signals and remembers them."""

    def __init__(self, *signals: Any) -> None:
        self.events: list[Any] = []
        self._signals = signals

    def __enter__(self) -> list[Any]:
        for signal in self._signals:
            signal.connect(self._hear)
        return self.events

    def __exit__(self, *exc_info: object) -> None:
        for signal in self._signals:
            signal.disconnect(self._hear)

    def _hear(self, sender: object, *, event: object) -> None:
        self.events.append(event)


def test_signals__one_for_each_event(cache: CacheManager) -> None:
    """Miss, stored, hit and invalidated, with type, key and figures."""
    with Heard(events.cache_hit, events.cache_miss, events.cache_stored, events.cache_invalidated) as heard:
        cache.fetch("search", "a", lambda: "x" * 50, ttl=60, tags=["eu"])
        cache.get("search", "a")
        cache.invalidate_tags("eu", "us")
        cache.get("search", "a")
        cache.invalidate_type("search")
        cache.invalidate_pattern("search:*")
        cache.set("search", "b", 1)
        cache.delete("search", "b")
        cache.clear_all()
    miss, stored, hit, tags, second, *rest = heard
    assert miss == events.Miss("search", "cache:search:a", "absent")
    assert (stored.type, stored.key, stored.ttl) == ("search", "cache:search:a", 60.0)
    assert stored.size > 50
    assert 0 <= stored.cost < 5
    assert (hit.type, hit.key, hit.size) == ("search", "cache:search:a", stored.size)
    assert 0 <= hit.age < 5
    assert tags == events.Invalidation("tags", ("eu", "us"), 2)
    assert second.reason in ("invalid", "absent")
    assert [type(event).__name__ for event in rest] == ["Invalidation"] * 2 + ["Stored"] + ["Invalidation"] * 2
    scopes = [event.scope for event in rest if isinstance(event, events.Invalidation)]
    assert scopes == ["type", "pattern", "key", "all"]
    assert [event.removed for event in rest if isinstance(event, events.Invalidation)][2] == 1


def test_signals__errors(make: Callable[..., CacheManager]) -> None:
    """What went on without the cache is told too."""
    cache = make(strict=False)
    with Heard(events.cache_error) as heard:
        cache.set("search", "a", Foreign())
    (event,) = heard
    assert (event.type, event.operation) == ("search", "encode")
    assert isinstance(event.error, EncodeError)


def test_signals__store_away_is_told_and_journalled() -> None:
    """Every call that degrades, and that an invalidation waits for its delivery."""
    cache = manager("redis://127.0.0.1:1/0")
    with Heard(events.cache_error, events.cache_invalidated, events.cache_miss) as heard:
        cache.get("search", "a")
        cache.invalidate_tags("eu")
    error, miss, second, invalidated = heard
    assert (error.operation, second.operation) == ("lookup", "invalidate tags")
    assert miss.reason == "unavailable"
    assert invalidated.journalled is True
    assert cache.stats()["errors"] == 2
    cache.close()


def test_signals__failing_receiver_breaks_nothing(
    make: Callable[..., CacheManager], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the others still hear."""
    cache = make()

    def broken(sender: object, *, event: object) -> None:
        raise RuntimeError("receiver is broken")

    events.cache_miss.connect(broken)
    try:
        with Heard(events.cache_miss) as heard, caplog.at_level(logging.ERROR, logger="flask_rcache"):
            assert cache.fetch("search", "a", lambda: 1) == 1
    finally:
        events.cache_miss.disconnect(broken)
    assert len(heard) == 1
    assert "receiver is broken" in caplog.text


def test_signals__come_from_the_app() -> None:
    """A receiver may listen to one app's cache."""
    apps = [Flask("one"), Flask("two")]
    for app in apps:
        RCache(app)
    senders: list[object] = []

    def receive(sender: object, *, event: object) -> None:
        senders.append(sender)

    with events.cache_miss.connected_to(receive, sender=apps[0]):
        for app in apps:
            app.extensions["rcache"].get("search", "a")
    assert senders == [apps[0]]


# add and incr


def test_add__only_where_there_is_none(cache: CacheManager) -> None:
    """The first is stored; an expired or invalidated one does not count."""
    assert [cache.add("search", "a", 1), cache.add("search", "a", 2)] == [True, False]
    assert cache.get("search", "a") == 1
    cache.invalidate_type("search")
    assert cache.add("search", "a", 3) is True
    assert cache.get("search", "a") == 3


def test_incr_and_add__after_an_invalidation_of_the_same_request(
    cache: CacheManager, in_request: Callable[[], None]
) -> None:
    """They are of the moment at which they are carried out, whatever their request has read before (rule R4.2)."""
    in_request()
    cache.invalidate_type("search")
    assert cache.add("search", "a", 1) is True
    assert [cache.incr("search", "n"), cache.incr("search", "n")] == [1, 2]
    assert cache.get_many("search", ["a", "n"]) == {"a": 1, "n": 2}


def test_incr__counts_and_keeps_its_end(cache: CacheManager) -> None:
    """From the initial value, down too, beyond 64 bits not; the ttl is the first one's."""
    assert cache.incr("search", "n", ttl=50) == 1
    assert cache.incr("search", "n", 5, ttl=5000) == 6
    assert cache.incr("search", "n", -10) == -4
    assert ttl_of(cache, "cache:search:n") <= 50
    assert cache.incr("search", "m", initial=100) == 101
    cache.set("search", "text", "x")
    with pytest.raises(TypeError, match="incr needs an integer"):
        cache.incr("search", "text")
    for wrong in (True, 1.0, "1"):
        with pytest.raises(ConfigError, match="must be an integer"):
            cache.incr("search", "n", wrong)  # type: ignore[arg-type]


def test_incr_and_add__are_atomic(server: Server) -> None:
    """Two caches and eight threads lose no count, and one of them adds."""
    caches = [manager(server.url), manager(server.url)]
    added: list[bool] = []

    def work(number: int) -> None:
        mine = caches[number % 2]
        added.append(mine.add("search", "once", number))
        for _ in range(25):
            mine.incr("search", "n")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert caches[0].get("search", "n") == 200
    assert added.count(True) == 1
    for each in caches:
        each.close()


# The moment (rule R3)


@pytest.fixture
def in_request(cache: CacheManager) -> Iterator[Callable[[], None]]:
    """Begins a request of the cache: what is heard by then is its moment."""
    token = scope_var.set(None)

    def begin() -> None:
        scope_var.set(cache.engine.new_scope(is_request=True))

    yield begin
    scope_var.reset(token)


def test_moment__what_a_request_read_before_its_load(cache: CacheManager, in_request: Callable[[], None]) -> None:
    """A load in the request of an invalidation is returned and not stored, unless `fresh` was called after it."""
    in_request()
    cache.invalidate_tags("eu")
    assert cache.fetch("search", "a", lambda: 1, tags=["eu"]) == 1
    assert cache.set("search", "b", 1, tags=["eu"]) is False
    assert cache.get_many("search", ["a", "b"]) == {}
    cache.fresh()
    assert cache.fetch("search", "a", lambda: 2, tags=["eu"]) == 2
    assert cache.set("search", "b", 2, tags=["eu"]) is True
    assert cache.get_many("search", ["a", "b"]) == {"a": 2, "b": 2}
    with pytest.raises(ConfigError, match="inside a load"):
        cache.fetch("search", "c", cache.fresh)


def test_moment__the_next_request_stores(cache: CacheManager, in_request: Callable[[], None]) -> None:
    """One load is lost to an invalidation, not two."""
    in_request()
    cache.invalidate_type("search")
    in_request()
    assert cache.fetch("search", "a", lambda: 1) == 1
    assert cache.get("search", "a") == 1


def test_moment__of_the_first_request(cache: CacheManager, in_request: Callable[[], None]) -> None:
    """A process that has heard no reading yet asks for one as its first request begins: its loads are stored."""
    in_request()
    cache.fetch("search", "a", lambda: 1)
    assert cache.get("search", "a") == 1


def test_moment__values_read_before_the_load(cache: CacheManager, in_request: Callable[[], None]) -> None:
    """A value that the request read before its load began is part of the load (rule R3.4)."""
    cache.set("query", "rate", 7, tags=["rates"])
    in_request()
    rate = cache.get("query", "rate")
    cache.fetch("search", "price", lambda: rate * 2)
    assert cache.get("search", "price") == 14
    cache.invalidate_tags("rates")
    assert cache.get("search", "price", MISSING) is MISSING


def test_refresh__loads_first(cache: CacheManager) -> None:
    """A loader that fails leaves the value that is there; one that succeeds replaces it."""
    cache.set("search", "a", "old")
    with pytest.raises(ZeroDivisionError):
        cache.fetch("search", "a", lambda: 1 // 0, refresh=True)
    assert cache.get("search", "a") == "old"
    assert cache.fetch("search", "a", lambda: "new", refresh=True) == "new"
    assert cache.get("search", "a") == "new"


def test_fetch__keep_limit_and_ttl_of_the_result(cache: CacheManager) -> None:
    """What is not worth keeping is not stored; the result may say how long it is fresh."""
    loads: list[int] = []

    def empty() -> list[int]:
        loads.append(1)
        return []

    for _ in range(2):
        assert cache.fetch("search", "a", empty, keep=bool) == []
    assert len(loads) == 2
    cache.fetch("search", "token", lambda: {"expires_in": 90}, ttl=lambda token: token["expires_in"])
    assert 85 < ttl_of(cache, "cache:search:token") <= 90

    def limited() -> int:
        cache.limit_ttl(dt.timedelta(seconds=30))
        return 1

    cache.fetch("search", "short", limited, ttl=600)
    assert 25 < ttl_of(cache, "cache:search:short") <= 30


def test_unstorable__costs_no_round_trips_and_one_warning(
    redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The function and key are remembered, and the warning names the function."""
    cache = manager(redis_server.url, strict=False)
    with caplog.at_level(logging.WARNING, logger="flask_rcache"), redis_server.client() as client:
        for _ in range(2):
            cache.fetch("search", "a", Foreign, name="shop:find_user")
        before = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
        for _ in range(50):
            cache.fetch("search", "a", Foreign, name="shop:find_user")
        after = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    assert after - before <= 3, "the heartbeat's"
    warnings = [record.getMessage() for record in caplog.records if "find_user" in record.getMessage()]
    assert len(warnings) == 1
    cache.close()
