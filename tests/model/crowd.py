"""How many loads one hot key costs when an invalidation overtakes the requests for it: rules R4.3 and R6.

One process, whose requests share loads, and invalidations from elsewhere. Nothing is said here about values (see
``sharing``): what counts is that 200 requests in flight at an invalidation make two or three loads, that few loads
run at once, and that no request whose own result can be stored waits in vain. (In one process nobody waits in vain
twice; how long a request waits for other processes is in ``waiting``.) Requests are numbered in the order in which
they begin.

Two assumptions about time make that true: a request looks the key up before a load that begins after it ends, and a
process has heard of an invalidation before its next request begins (the bus takes a millisecond, a load a hundred).
Without the second, each request that begins before the invalidation is heard may cost a load, one after another. How
many loads run at once is asked of loads of equal length, which end in the order in which they begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from .actors import Scenario
from .explorer import Model, Step
from .rules import Rules

__all__ = ["SCENARIOS"]


class At(Enum):
    """Where a request is."""

    BEGUN = "has begun"
    WAITING = "waits"
    LOADING = "loads, and others may wait"
    DONE = "is done"


class Reader(NamedTuple):
    """A request for the key."""

    moment: int
    """How many invalidations had been heard when it began: its ``as_of``."""
    at: At = At.BEGUN
    seen: int = 0
    """How many invalidations there were when it looked."""
    waits_on: int = -1
    waited: int = 0
    """How many loads it has waited for in vain."""
    begun_before: int = 0
    """How many requests had begun when its load did."""
    load: int = 0
    """The number of its load."""


class State(NamedTuple):
    """The requests that have begun, and what they share."""

    readers: tuple[Reader, ...]
    to_come: int
    """How many requests will begin yet."""
    invalidations_to_come: int
    stamp: int = 0
    heard: int = 0
    as_of: int = 0
    """Of the entry."""
    leader: int = -1
    """Who holds the lease, and leads the load that others wait for."""
    is_taken_over: bool = False
    """Whether the lease was taken over from another load."""
    loads: int = 0

    @property
    def is_valid(self) -> bool:
        """Whether the entry is."""
        return self.as_of >= self.stamp

    def changed(self, number: int, **fields: Any) -> State:
        """The state with one request changed."""
        reader = self.readers[number]._replace(**fields)
        return self._replace(readers=(*self.readers[:number], reader, *self.readers[number + 1 :]))

    def led_by(self, number: int) -> State:
        """The state after a request has begun a load that others may wait for."""
        loads = self.loads + 1
        state = self.changed(number, at=At.LOADING, waits_on=-1, begun_before=len(self.readers), load=loads)
        return state._replace(leader=number, loads=loads)

    def can_store(self, number: int) -> bool:
        """Whether what a request loads can still be stored."""
        return self.readers[number].moment >= self.stamp


class Limits(NamedTuple):
    """What a scenario may cost at most."""

    loads: int
    at_once: int
    in_vain: int = 0
    """Loads that a request whose own result can be stored waits for in vain."""


def _may_take_over(state: State, number: int, rules: Rules) -> bool:
    """Rule R4.3: whether a request takes the lease of the load that is under way."""
    if not rules.loads_that_cannot_be_stored_lose_their_lease:
        return False
    return (
        (state.can_store(number) or not rules.takers_can_be_stored)
        and (not state.can_store(state.leader) or not rules.loads_that_can_be_stored_keep_their_lease)
        and not (state.is_taken_over and rules.leases_are_taken_over_once)
    )


def _looks(state: State, number: int, rules: Rules) -> Step[State]:
    name = f"request #{number + 1}"
    if state.is_valid:
        return Step(f"{name} hits", state.changed(number, at=At.DONE))
    state = state.changed(number, seen=state.stamp)
    if state.leader < 0:
        return Step(f"{name} misses and loads", state.led_by(number)._replace(is_taken_over=False))
    former = state.leader
    if _may_take_over(state, number, rules):
        for waiter, reader in enumerate(state.readers):
            if reader.waits_on == former:
                state = state.changed(waiter, waits_on=number)
        text = f"{name} misses and takes the lease over from #{former + 1}"
        return Step(text, state.led_by(number)._replace(is_taken_over=True))
    return Step(f"{name} misses and waits for #{former + 1}", state.changed(number, at=At.WAITING, waits_on=former))


def _ends(state: State, number: int, rules: Rules) -> Step[State]:
    """A load ends: those who waited get something, or wait for the next load, which the youngest of them leads."""
    name = f"request #{number + 1}"
    state = state.changed(number, at=At.DONE)
    if state.leader != number:
        wrong = "WASTED: a load that could be stored has lost its lease" if state.can_store(number) else ""
        return Step(f"{name} ends its load, and its lease is gone", state, wrong)
    is_stored = state.can_store(number)
    state = state._replace(leader=-1, as_of=state.readers[number].moment if is_stored else state.as_of)
    left = []
    for waiter, reader in enumerate(state.readers):
        if reader.waits_on != number:
            continue
        is_new_enough = number >= waiter or state.readers[number].moment >= reader.seen
        if state.is_valid or (is_new_enough and rules.overtaken_results_are_shared):
            state = state.changed(waiter, at=At.DONE, waits_on=-1)
        else:
            state = state.changed(waiter, waited=reader.waited + 1)
            left.append(waiter)
    text = f"{name} ends its load, which is {'stored' if is_stored else 'overtaken'}"
    if left:
        leader = max(left) if rules.youngest_waiter_leads else min(left)
        text += f"; request #{leader + 1} loads next"
        state = state.led_by(leader)._replace(is_taken_over=False)
        for waiter in left:
            if waiter != leader:
                state = state.changed(waiter, waits_on=leader)
    return Step(text, state)


def _may_end(state: State, reader: Reader, *, in_order: bool) -> bool:
    """Whether a load may end now, by the assumptions about time."""
    if any(other.at is At.BEGUN for other in state.readers[: reader.begun_before]):
        return False
    return not in_order or not any(other.at is At.LOADING and other.load < reader.load for other in state.readers)


def _steps(state: State, rules: Rules, *, in_order: bool) -> Iterator[Step[State]]:
    if state.invalidations_to_come:
        after = state._replace(stamp=state.stamp + 1, invalidations_to_come=state.invalidations_to_come - 1)
        yield Step("an invalidation", after)
    if state.heard < state.stamp:
        yield Step("the process hears of it", state._replace(heard=state.stamp))
    elif state.to_come:
        readers = (*state.readers, Reader(moment=state.heard))
        yield Step(f"request #{len(readers)} begins", state._replace(readers=readers, to_come=state.to_come - 1))
    for number, reader in enumerate(state.readers):
        if reader.at is At.BEGUN:
            yield _looks(state, number, rules)
        elif reader.at is At.LOADING and _may_end(state, reader, in_order=in_order):
            yield _ends(state, number, rules)


def _wrong(state: State, limits: Limits) -> str:
    if state.loads > limits.loads:
        return f"MANY: {state.loads} loads"
    at_once = sum(reader.at is At.LOADING for reader in state.readers)
    if at_once > limits.at_once:
        return f"MANY: {at_once} loads at once"
    for number, reader in enumerate(state.readers):
        if reader.waited > limits.in_vain and state.can_store(number):
            return f"SLOW: request #{number + 1} can be stored and waited for {reader.waited} loads in vain"
    return ""


def _scenario(requests: int, invalidations: int, limits: Limits, *, in_order: bool = False) -> Scenario:
    start = State((), to_come=requests, invalidations_to_come=invalidations)
    return lambda rules: Model(
        start=start,
        steps=lambda state: _steps(state, rules, in_order=in_order),
        wrong=lambda state: _wrong(state, limits),
        has_ended=lambda state: not state.to_come and all(reader.at is At.DONE for reader in state.readers),
    )


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "four requests, an invalidation": _scenario(4, 1, Limits(loads=3, at_once=2)),
    "five requests, an invalidation": _scenario(5, 1, Limits(loads=3, at_once=2)),
    "four requests, two invalidations, loads of equal length": _scenario(
        4, 2, Limits(loads=4, at_once=2, in_vain=1), in_order=True
    ),
}
