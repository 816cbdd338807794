"""The breaker: one incident from its opening to its closing, and a number for each."""

from __future__ import annotations

import gc
import time
import weakref

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
    which, cause, is_logged, _ = breaker.outage
    assert (which, type(cause), str(cause), is_logged) == (1, StoreUnavailableError, "first", False)
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


def test_trip__keeps_no_frames_of_its_cause() -> None:
    """What was in use where an error came from is not kept as long as the incident lasts, nor the incident before."""

    class Used:
        pass

    def fail(breaker: Breaker) -> weakref.ref[Used]:
        used = Used()
        try:
            try:
                raise OSError("the network")
            except OSError as error:
                raise StoreUnavailableError("away") from error
        except StoreUnavailableError as error:
            breaker.trip(error)
        return weakref.ref(used)

    breaker = Breaker()
    used = fail(breaker)
    gc.collect()
    assert used() is None
    assert breaker.outage is not None
    cause = breaker.outage.cause
    assert (type(cause), str(cause)) == (StoreUnavailableError, "away")
    assert str(cause.__cause__) == "the network"
    breaker.close()
    breaker.trip(cause)
    with pytest.raises(StoreUnavailableError) as caught:
        breaker.check()
    breaker.close()
    breaker.trip(caught.value)
    found: BaseException | None = breaker.outage.cause
    depth = 0
    while found is not None:
        found, depth = found.__cause__ or found.__context__, depth + 1
    assert depth <= 2
