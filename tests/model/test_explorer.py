"""The explorer finds what is there to find, by the shortest way, and says so when it can't look everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .actors import DONE, Move, interleave
from .explorer import Model, Step, TooManyStatesError, explore
from .rules import Rules


def _up_to(top: int) -> Model[int]:
    """Counts up by one or two."""

    def steps(state: int) -> Iterator[Step[int]]:
        for by in (1, 2):
            if state + by <= top:
                yield Step(f"add {by}", state + by)

    return Model(0, steps)


def test_explore__every_state_once() -> None:
    """Ways that meet are not followed twice."""
    finding = explore(_up_to(10))
    assert (finding.states, finding.wrong, finding.steps) == (11, "", ())


def test_explore__shortest_way_to_a_wrong_state() -> None:
    """The counterexample is a list that can be read."""
    counting = _up_to(10)
    finding = explore(Model(0, counting.steps, lambda state: "FIVE" if state == 5 else ""))
    assert len(finding.steps) == 3
    assert str(finding) == "FIVE\n   1. add 1\n   2. add 2\n   3. add 2"


def test_explore__wrong_step() -> None:
    """What is wrong with a step is found although its state is right."""

    def steps(state: int) -> Iterator[Step[int]]:
        if state < 3:
            yield Step(f"leave {state}", state + 1, "LEFT" if state == 2 else "")

    assert explore(Model(0, steps)).steps == ("leave 0", "leave 1", "leave 2")


def test_explore__wrong_start() -> None:
    """The first state is looked at, too."""
    finding = explore(Model(0, _up_to(1).steps, lambda state: "ZERO" if state == 0 else ""))
    assert (finding.wrong, finding.steps) == ("ZERO", ())


@pytest.mark.parametrize(
    ("is_circle", "steps_there"), [(False, ("wrong way", "circle", "dead end")), (True, ("wrong way", "circle"))]
)
def test_explore__no_way_to_the_end(is_circle: bool, steps_there: tuple[str, ...]) -> None:
    """A state without steps and a circle are found alike, if the end can't be reached from there."""
    after = {
        "start": ("end", "wrong way"),
        "wrong way": ("circle", "end"),
        "circle": ("dead end",),
        "dead end": ("circle",) if is_circle else (),
        "end": (),
    }

    def steps(state: str) -> Iterator[Step[str]]:
        for name in after[state]:
            yield Step(name, name)

    finding = explore(Model("start", steps, has_ended=lambda state: state == "end"))
    assert finding.wrong.startswith("STUCK")
    assert finding.steps == steps_there


def test_explore__more_states_than_allowed() -> None:
    """A model that is too large is an error, not a model without counterexamples."""
    with pytest.raises(TooManyStatesError, match="more than 5"):
        explore(_up_to(10), limit=5)


def test_interleave__every_order() -> None:
    """Two actors that read and then write lose an update."""

    def adder(world: int, mine: int | None, me: int, rules: Rules) -> Iterator[Move[int]]:
        if mine is None:
            yield Move("reads", world, world)
        else:
            yield Move("writes", mine + 1, DONE)

    def another(world: int, mine: Any, me: int, rules: Rules) -> Iterator[Move[int]]:
        yield from adder(world, mine, me, rules)

    for actors in ([adder, adder], [adder, another]):
        model = interleave(Rules(), 0, actors, surroundings=lambda world, rules: iter(()), must_end=True)
        states = [model.start]
        for state in states:
            states.extend(step.state for step in model.steps(state))
        ends = {state.world for state in states if model.has_ended and model.has_ended(state)}
        assert ends == {1, 2}
        assert not explore(model).wrong
