"""What many threads change at the same time, without a lock on the way of a hit."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator

import pytest

from flask_rcache.model.bounded import BoundedDict
from tests.servers import Server
from tests.stores.transport import Transport, at_once


@pytest.fixture
def _often() -> Iterator[None]:
    """Have the threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def raised(act: Callable[[int], object], *, times: int, threads: int = 6) -> list[object]:
    """What an act raises that many threads do at the same time, each time with another number."""
    numbers = itertools.count()

    def work(_: int) -> None:
        for _ in range(times):
            act(next(numbers))

    return [each for each in at_once(work, threads) if each is not None]


@pytest.mark.usefixtures("_often")
def test_bounded_dict__from_many_threads() -> None:
    """Who finds it full makes room in it, and never fails for it."""
    known: BoundedDict[str, int] = BoundedDict(50)

    def put(number: int) -> None:
        known[f"cache:kind:{number % 80}"] = number
        known.get(f"cache:kind:{number}")

    assert raised(put, times=20_000) == []
    assert 1 < len(known) <= 60


@pytest.mark.usefixtures("_often")
def test_pool__its_end_among_exchanges(redis_server: Server) -> None:
    """Generations that end and connections that are closed at any moment cost no exchange and lose no connection."""
    transport = Transport(redis_server.url, timeout=5.0, idle_timeout=0.001)
    wrong: list[int] = []

    def act(number: int) -> None:
        if number % 397 == 0:
            transport.pool.end_generation(RuntimeError("a test"))
        elif number % 89 == 0:
            transport.pool.close_idle()
        elif transport.ask("ECHO", number) != b"%d" % number:
            wrong.append(number)

    assert raised(act, times=500) == []
    assert wrong == []
    assert not transport.breaker.is_open
    transport.pool.end_generation(RuntimeError("a test"))
    assert transport.pool.connections == 0
