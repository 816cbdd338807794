"""Visits every state that a small model can reach, breadth first, and reports the shortest way to one that is wrong.

A model is a start, a function that lists the steps out of a state, and a function that says what is wrong with a
state. States are hashable (named tuples). A model whose states must be able to come to an end says when they have:
then a deadlock or an endless loop is found as well, as a state from which no end can be reached.

Owns the search, and knows nothing of caches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["Finding", "Model", "Step", "TooManyStatesError", "explore"]

S = TypeVar("S", bound=Hashable)


class TooManyStatesError(Exception):
    """The model has more states than its test can visit: nothing is known about the rest."""


class Step(NamedTuple, Generic[S]):
    """One step out of a state: what happens, the state after it, and what is wrong with the step itself."""

    text: str
    state: S
    wrong: str = ""


def _never_wrong(state: Any) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Model(Generic[S]):
    """What is explored.

    Args:
        start: the first state.
        steps: lists the steps out of a state.
        wrong: what is wrong with a state; empty when it is right.
        has_ended: whether everybody has finished; given where every state must be able to get there.
    """

    start: S
    steps: Callable[[S], Iterable[Step[S]]]
    wrong: Callable[[S], str] = _never_wrong
    has_ended: Callable[[S], bool] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What an exploration found.

    Args:
        states: how many states were visited.
        wrong: what is wrong at the end of ``steps``; empty when nothing is.
        steps: the shortest counterexample, step by step.
    """

    states: int
    wrong: str = ""
    steps: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The counterexample as a numbered list."""
        if not self.wrong:
            return f"no counterexample in {self.states} states"
        listed = "\n".join(f"{number:4}. {text}" for number, text in enumerate(self.steps, 1))
        return f"{self.wrong}\n{listed}"


class _Search(Generic[S]):
    """The states found so far, in the order they were found, each with the step that led to it first."""

    def __init__(self, start: S) -> None:
        self.numbers: dict[S, int] = {start: 0}
        self.came_from: list[tuple[int, str]] = [(-1, "")]
        self.predecessors: list[list[int]] = [[]]

    def add(self, state: S, before: int, text: str) -> int | None:
        """The number of a state that is new; ``None`` when it is known."""
        known = self.numbers.get(state)
        if known is not None:
            self.predecessors[known].append(before)
            return None
        number = len(self.came_from)
        self.numbers[state] = number
        self.came_from.append((before, text))
        self.predecessors.append([before])
        return number

    def finding(self, number: int, wrong: str, *last: str) -> Finding:
        """The way to a state, and ``last`` after it."""
        steps = list(reversed(last))
        while number > 0:
            number, text = self.came_from[number]
            steps.append(text)
        return Finding(len(self.came_from), wrong, tuple(reversed(steps)))

    def trap(self, has_ended: Callable[[S], bool]) -> int | None:
        """A state from which no end can be reached: a dead end if there is one on the way, else a part of a circle."""
        ends = [number for state, number in self.numbers.items() if has_ended(state)]
        reaches_an_end = _closure(ends, self.predecessors)
        trapped = next((number for number in range(len(self.came_from)) if number not in reaches_an_end), None)
        if trapped is None:
            return None
        successors: list[list[int]] = [[] for _ in self.came_from]
        for number, predecessors in enumerate(self.predecessors):
            for before in predecessors:
                successors[before].append(number)
        # Go on to a state that can be reached again from wherever it leads to: that shows best what goes on for ever.
        while deeper := _closure([trapped], successors) - _closure([trapped], self.predecessors):
            trapped = min(deeper)
        return trapped


def _closure(start: Iterable[int], edges: Sequence[Iterable[int]]) -> set[int]:
    """What can be reached."""
    todo = list(start)
    reached = set(todo)
    while todo:
        for number in edges[todo.pop()]:
            if number not in reached:
                reached.add(number)
                todo.append(number)
    return reached


def explore(model: Model[S], *, limit: int = 100_000) -> Finding:
    """Visit every state of a model.

    Args:
        model: what to explore.
        limit: how many states it may have.

    Raises:
        TooManyStatesError: it has more.
    """
    search = _Search(model.start)
    if wrong := model.wrong(model.start):
        return search.finding(0, wrong)
    todo = deque([model.start])
    while todo:
        state = todo.popleft()
        here = search.numbers[state]
        for text, after, wrong_step in model.steps(state):
            if wrong_step:
                return search.finding(here, wrong_step, text)
            number = search.add(after, here, text)
            if number is None:
                continue
            if wrong := model.wrong(after):
                return search.finding(number, wrong)
            if number >= limit:
                raise TooManyStatesError(f"more than {limit} states")
            todo.append(after)
    if model.has_ended is not None:
        trapped = search.trap(model.has_ended)
        if trapped is not None:
            return search.finding(trapped, "STUCK: whatever happens now, somebody never finishes")
    return Finding(len(search.came_from))
