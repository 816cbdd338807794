"""The breaker: one incident from its opening to its closing, and a number for each."""

from __future__ import annotations

import time

import pytest

from flask_rcache.errors import StoreUnavailableError
from flask_rcache.stores.redis.breaker import Breaker


def number(breaker: Breaker) -> int | None:
    return None if breaker.incident is None else breaker.incident.number


def test_breaker__opens_and_closes() -> None:
    """Open it raises with the first cause; closed again it lets pass."""
    breaker = Breaker()
    breaker.check()
    first = StoreUnavailableError("first")
    breaker.trip(first)
    breaker.trip(StoreUnavailableError("second"))
    assert breaker.is_open
    with pytest.raises(StoreUnavailableError, match="first"):
        breaker.check()
    assert breaker.incident is breaker.outage
    assert breaker.outage is not None
    assert breaker.outage[:3] == (1, first, False)
    assert 0 <= time.time() - breaker.outage.since < 60
    breaker.close()
    breaker.check()
    assert number(breaker) is None
    breaker.trip(first)
    assert number(breaker) == 2


def test_breaker__full_lets_pass() -> None:
    """No room is an incident, but not a closed door; being away comes before it."""
    breaker = Breaker()
    breaker.full(StoreUnavailableError("full"))
    breaker.full(StoreUnavailableError("full again"))
    breaker.check()
    assert (number(breaker), breaker.outage) == (1, None)
    breaker.trip(StoreUnavailableError("away"))
    assert number(breaker) == 2
    breaker.close()
    assert number(breaker) == 1
    breaker.has_room()
    assert number(breaker) is None
    breaker.trip(StoreUnavailableError("again"))
    assert (number(breaker), breaker.incidents) == (3, 3)


def test_breaker__says_when_the_next_probe_is_due() -> None:
    """After each failure, of a probe too, one pause; never while it is closed."""
    breaker = Breaker()
    assert breaker.probe_in() == 0
    breaker.trip(StoreUnavailableError("away"))
    assert 0 < breaker.probe_in() <= 0.25
    breaker.trip(StoreUnavailableError("away"), pause=5.0)
    assert 4 < breaker.probe_in() <= 5
    breaker.close()
    assert breaker.probe_in() == 0
    breaker.trip(StoreUnavailableError("away"), pause=0.0)
    assert breaker.probe_in() == 0


def test_breaker__what_a_probe_does_not_meet_is_one_incident() -> None:
    """A refused command that probes do not use: each opening after a probe's success is the incident there was."""
    breaker = Breaker()
    refused = StoreUnavailableError("grant +zmscore")
    for _ in range(3):
        breaker.trip(refused, pause=5.0)
        assert number(breaker) == 1
        breaker.close()
    breaker.trip(StoreUnavailableError("grant +get"), pause=5.0)
    assert number(breaker) == 2
    breaker.close()
    breaker.trip(StoreUnavailableError("grant +get"))
    assert number(breaker) == 3
