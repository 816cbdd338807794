"""Policies: what a call's type, ttl and tags come to, worked out once for those that are constants."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from flask_rcache import AUTO, CacheType, ConfigError
from flask_rcache.config.settings import load_settings
from flask_rcache.engine.policies import Policies
from flask_rcache.engine.statistics import Statistics
from flask_rcache.model.keys import Names

PAGE = CacheType("page", ttl=60)


@pytest.fixture
def policies() -> Policies:
    """Of an app with one type of its own."""
    return Policies([PAGE], settings=load_settings({}, {}), names=Names("cache"), statistics=Statistics())


@pytest.mark.parametrize(
    ("make", "tags", "observes"),
    [
        (lambda: (), (), False),
        (lambda: ("a", "b"), ("t:a", "t:b"), False),
        (lambda: ["a", "b", "a"], ("t:a", "t:b"), False),
        (lambda: ("a", AUTO), ("t:a",), True),
        (lambda: AUTO, (), True),
        (lambda: {"a": None}, ("t:a",), False),
        (lambda: iter(["a"]), ("t:a",), False),
    ],
)
def test_resolve_call__is_the_same_however_often_it_is_asked_for(
    policies: Policies, make: Callable[[], Any], tags: tuple[str, ...], observes: bool
) -> None:
    """With tags of each kind, and ttls of each kind."""
    for ttl in (None, 5, 5.0, timedelta(seconds=5)):
        for _ in range(2):
            assert policies.resolve_call("page", ttl, make()) == (policies.policy(PAGE, ttl), tags, observes)
            assert policies.policy(PAGE, ttl).ttl == (60 if ttl is None else 5)


@pytest.mark.parametrize(
    ("cache_type", "ttl", "tags"),
    [("page", True, ()), ("page", 1, ("",)), ("page", 1, "a"), ("page", 1, (1,)), ("gone", 1, ()), ([], 1, ())],
)
def test_resolve_call__mistakes_raise_each_time(policies: Policies, cache_type: Any, ttl: Any, tags: Any) -> None:
    """Also after a call with what Python holds equal to it: a ttl of 1 and one of ``True``."""
    policies.resolve_call("page", 1, ())
    policies.resolve_call("page", 1, ("1",))
    for _ in range(2):
        with pytest.raises(ConfigError):
            policies.resolve_call(cache_type, ttl, tags)


def test_resolve_call__types_of_one_name_are_told_apart(policies: Policies) -> None:
    """A type with another ttl is another policy, although both have the same hash."""
    short = PAGE.replace(ttl=1)
    assert hash(short) == hash(PAGE)
    assert [policies.resolve_call(each, None, ()).policy.ttl for each in (PAGE, short, PAGE, short)] == [60, 1, 60, 1]
