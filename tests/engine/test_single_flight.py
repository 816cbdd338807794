"""Flights: who leads, who waits, whom a landing serves, and ends that always come."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from flask_rcache.engine.load import WaitFor
from flask_rcache.engine.single_flight import Flights, Landing
from flask_rcache.engine.waiting import block_thread, suspend_task
from flask_rcache.model.entry import Draft, Entry

ENTRY = Entry.of(Draft(b"v", ttl=60.0), epoch=1, as_of=1, created=1)


class Plain(Exception):
    """An error as most are."""


class Composed(Exception):
    """An error that makes its text of its arguments, so that a copy would say it twice."""

    def __init__(self, what: str) -> None:
        super().__init__(f"no {what}")


class Demanding(Exception):
    """An error that cannot be made again from its text."""

    def __init__(self, *, what: str) -> None:
        super().__init__(what)


def raised(error: Exception) -> Exception:
    try:
        raise error from ValueError("the cause")
    except type(error) as caught:
        return caught


def test_error__each_who_waited_has_one_of_its_own() -> None:
    """One for all would gather the frames of all; what cannot be copied exactly is shared all the same."""
    for error in (Plain("a", 1), KeyError("k"), OSError(2, "no"), Composed("milk"), Demanding(what="x")):
        flights = Flights()
        flight, _ = flights.join("k", "leader", 0)
        flights.land(flight, Landing(error=raised(error)))
        one, two = flight.error(), flight.error()
        assert one is not None
        assert two is not None
        assert (type(one), one.args, str(one)) == (type(error), error.args, str(error))
        if isinstance(error, Composed | Demanding):
            assert one is two is error
        else:
            assert len({id(one), id(two), id(error)}) == 3
            assert (one.__traceback__, one.__cause__) == (None, error.__cause__)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("joins", ["before", "after"])
def test_has_returned__nobody_waits_longer_than_it_says(kind: str, joins: str) -> None:
    """Who waits for a flight whose loader has returned waits until the time that it names, whenever they came."""
    flights, took = Flights(), []
    flight, _ = flights.join("k", "leader", 0)
    waiting = threading.Event()

    def wait() -> None:
        started = time.monotonic()
        waiting.set()
        if kind == "sync":
            block_thread(WaitFor(flight, 30))
        else:
            asyncio.run(suspend_task(WaitFor(flight, 30)))
        took.append(time.monotonic() - started)

    thread = threading.Thread(target=wait, daemon=True)
    if joins == "before":
        thread.start()
        assert waiting.wait(10)
        flight.has_returned(time.monotonic() + 0.1)
    else:
        flight.has_returned(time.monotonic() + 0.1)
        thread.start()
    thread.join(5)
    flights.land(flight)
    thread.join(5)
    assert took[0] < 3


def test_land__twice_and_late_callbacks() -> None:
    """The first end counts; a callback that is registered after it is called at once."""
    flights = Flights()
    flight, leads = flights.join("k", "leader", 0)
    assert leads
    assert flights.join("k", "waiter", 0) == (flight, False)
    called: list[int] = []
    flight.when_landed(lambda: called.append(1))
    flights.land(flight, Landing(error=ValueError("first")))
    flights.land(flight, Landing(error=ValueError("second")))
    assert str(flight.error()) == "first"
    flight.when_landed(lambda: called.append(2))
    assert called == [1, 2]
    again, leads = flights.join("k", "later", 0)
    assert leads
    assert again is not flight


@pytest.mark.parametrize(
    ("landing", "leader"),
    [
        (Landing(ENTRY, good_until=10), "youngest"),
        (Landing(ENTRY, good_until=25), "youngest"),
        (Landing(), "youngest"),
        (Landing(ENTRY, good_until=30), None),
        (Landing(error=ValueError()), None),
        (Landing(run_at_once=True), None),
    ],
)
def test_land__the_youngest_for_whom_it_is_too_old_leads_next(landing: Landing, leader: str | None) -> None:
    """What it loads is fresh enough for all who waited (rule R6); nobody else leads meanwhile."""
    flights = Flights()
    flight, _ = flights.join("k", "leader", 5)
    for ticket, began in (("older", 20), ("youngest", 30)):
        assert flights.join("k", ticket, began) == (flight, False)
    flights.land(flight, landing)
    if leader is None:
        assert flights.join("k", "anybody", 99)[1]
        return
    after, leads = flights.join("k", "older", 20)
    assert not leads
    assert flights.join("k", "arrives now", 99) == (after, False)
    assert flights.join("k", leader, 30) == (after, True)


def test_leave__another_leads_in_its_place() -> None:
    """A waiter that was to lead and goes away hands nothing on but the turn; the last one leaves no flight behind."""
    flights = Flights()
    flight, _ = flights.join("k", "leader", 5)
    for ticket, began in (("older", 20), ("youngest", 30)):
        flights.join("k", ticket, began)
    flights.land(flight)
    waits_for, _ = flights.join("k", "older", 20)
    flights.leave(flight, "youngest")
    assert waits_for.is_landed, "it tries again"
    after, leads = flights.join("k", "older", 20)
    assert leads
    flights.land(after)
    assert flights._flights == {}


def test_would_deadlock__finds_the_circle() -> None:
    """A leads and waits for B, whose leader would wait for A."""
    flights = Flights()
    a, _ = flights.join("a", 1, 0)
    b, _ = flights.join("b", 2, 0)
    c, _ = flights.join("c", 3, 0)
    assert not flights.would_deadlock(b, [a])
    assert not flights.would_deadlock(c, [b])
    assert flights.would_deadlock(a, [c])
    flights.waited(c, [b])
    assert not flights.would_deadlock(a, [c])
