"""Cache types: what may be one, and what their policy may say."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from flask_rcache import FROM_HEADERS, CacheType
from flask_rcache.errors import ConfigError
from flask_rcache.model.cache_type import BUILT_IN, check_tags, check_ttl


@pytest.mark.parametrize(
    "ttl",
    [
        0,
        0.0,
        -1,
        float("nan"),
        float("inf"),
        -float("inf"),
        True,
        "60",
        None,
        [1],
        10**10,
        timedelta(0),
        timedelta(seconds=-1),
        timedelta.max,
        10**400,
        -(10**400),
    ],
)
def test_check_ttl__refuses(ttl: Any) -> None:
    """Not a positive, finite number of seconds within ten years."""
    with pytest.raises(ConfigError, match="ttl"):
        check_ttl(ttl)


@pytest.mark.parametrize("ttl", [1, 0.001, 86_400.5, 10 * 366 * 86_400])
def test_check_ttl__takes(ttl: float) -> None:
    """Any other number, and the same time as a timedelta."""
    assert check_ttl(ttl) == check_ttl(timedelta(seconds=ttl)) == ttl
    assert type(check_ttl(ttl)) is float


@pytest.mark.parametrize("name", ["", "A", "1a", "a-b", "a:b", "a b", "é", "a" * 65, None, 7, "a\n", "~a"])
def test_cache_type__names_refused(name: Any) -> None:
    """A name stands in every stored key."""
    with pytest.raises(ConfigError, match="name"):
        CacheType(name)


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": 0},
        {"ttl": "60"},
        {"stale_while_revalidate": -1},
        {"stale_if_error": float("nan")},
        {"stale_if_error": True},
        {"error_ttl": -1},
        {"statuses": {304}},
        {"statuses": {206}},
        {"statuses": {100}},
        {"statuses": {"200"}},
        {"query": "page"},
        {"query": [""]},
        {"l1_ttl": -1},
        {"early_refresh": -1},
        {"jitter": 2},
        {"adaptive_ttl": (5, 1)},
        {"adaptive_ttl": 5},
        {"adaptive_ttl": {5: 1}},
        {"adaptive_ttl": (1, "2")},
        {"l1_ttl": timedelta(seconds=-1)},
        {"statuses": 5},
        {"statuses": "503"},
        {"query": 5},
        {"per_user": "no"},
        {"per_user": 1},
    ],
    ids=repr,
)
def test_cache_type__options_refused(options: dict[str, Any]) -> None:
    """What cannot be is refused with the type's name."""
    with pytest.raises(ConfigError, match="weather"):
        CacheType("weather", **options)


def test_cache_type__frozen_hashable_and_slotted() -> None:
    """A value: equal ones are one key, and none changes."""
    weather = CacheType("weather", ttl=60, statuses={404}, query=["page"])
    assert weather == CacheType("weather", ttl=60, statuses=frozenset({404}), query=("page",))
    assert len({weather, weather.replace(ttl=60)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        weather.ttl = 5  # type: ignore[misc]
    assert not hasattr(weather, "__dict__")
    assert weather.replace(ttl=5) == CacheType("weather", ttl=5, statuses=frozenset({404}), query=("page",))
    with pytest.raises(ConfigError):
        weather.replace(ttl=0)


def test_cache_type__durations_are_seconds() -> None:
    """Wherever seconds are taken a timedelta is; what one reads is seconds."""
    five = timedelta(minutes=5)
    weather = CacheType(
        "weather",
        five,
        stale_while_revalidate=five,
        stale_if_error=five,
        error_ttl=five,
        l1_ttl=five,
        adaptive_ttl=(five, 2 * five),
    )
    same = CacheType(
        "weather",
        300,
        stale_while_revalidate=300,
        stale_if_error=300,
        error_ttl=300,
        l1_ttl=300,
        adaptive_ttl=(300, 600),
    )
    assert weather == same
    assert weather.ttl == 300.0
    assert weather.adaptive_ttl == (300.0, 600.0)
    assert weather.replace(ttl=timedelta(seconds=1)).ttl == 1.0
    assert CacheType("weather", l1_ttl=timedelta(0), stale_if_error=timedelta(0)).l1_ttl == 0


def test_cache_type__what_replace_makes_is_no_definition() -> None:
    """A name stands for the type that was made, not for what a call site made of it; another name is another type."""
    weather = CacheType("weather", ttl=1800)
    again = weather.replace(ttl=60).replace(jitter=0.5)
    assert again.definition is weather
    assert weather.definition is weather
    assert again == CacheType("weather", ttl=60, jitter=0.5)
    wind = weather.replace(name="wind")
    assert wind.definition is wind
    assert (wind.name, wind.ttl) == ("wind", 1800)


def test_cache_type__built_in() -> None:
    """The contract's seven."""
    figures = {each.name: (each.ttl, each.per_user) for each in BUILT_IN}
    assert figures == {
        "dashboard": (300, False),
        "search": (3600, False),
        "user": (1800, True),
        "product": (7200, False),
        "analytics": (600, False),
        "query": (300, False),
        "default": (None, False),
    }
    assert CacheType("x", ttl=FROM_HEADERS).ttl is FROM_HEADERS
    assert repr(FROM_HEADERS) == "FROM_HEADERS"


@pytest.mark.parametrize("tags", ["eu", b"eu", [""], [None], [1], [b"eu"], 7, None], ids=repr)
def test_check_tags__refuses(tags: Any) -> None:
    """A list of non-empty strings, not one string."""
    with pytest.raises(ConfigError, match="tags must"):
        check_tags(tags)
