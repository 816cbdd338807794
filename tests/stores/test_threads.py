"""Bookkeeping that many threads change at the same time, without a lock on the way of a read."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

import flask_rcache.engine.manager as manager_module
import flask_rcache.stores.redis.reading as reader_module
from flask_rcache import CacheManager
from flask_rcache.stores import RedisStore


@pytest.fixture
def _often() -> Iterator[None]:
    """Have the threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def raised(act: Callable[[int], object], *, times: int = 20000, threads: int = 6) -> list[Exception]:
    """What an act raises that many threads do at the same time, each time with another number."""
    errors: list[Exception] = []
    numbers = itertools.count()

    def work() -> None:
        try:
            for _ in range(times):
                act(next(numbers))
        except Exception as error:  # noqa: BLE001  # whatever it is
            errors.append(error)

    running = [threading.Thread(target=work) for _ in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    return errors


@pytest.mark.usefixtures("_often")
def test_learn__from_many_threads(caches: Callable[..., CacheManager], monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that finds the memory of keys full makes room in it, and never fails for it."""
    store = caches("redis://127.0.0.1:1/0").store
    assert isinstance(store, RedisStore)
    monkeypatch.setattr(reader_module, "_KNOWN_LIMIT", 50)
    assert raised(lambda number: store._learn(f"cache:kind:{number}", ("c:kind",))) == []
    assert len(store._known) <= 60


@pytest.mark.usefixtures("_often")
def test_remember_vary__from_many_threads(caches: Callable[..., CacheManager], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of what URLs vary by."""
    cache = caches("memory://")
    monkeypatch.setattr(manager_module, "_VARYING_KEPT", 50)
    assert raised(lambda number: cache.remember_vary(f"cache:kind:{number}", ())) == []
    assert len(cache.vary_names) <= 60
