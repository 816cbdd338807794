"""Makes one model of several actors that share a world and move one at a time, in every possible order.

Owns :func:`interleave`. What the actors do, and by which rules, is their models' business.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from .explorer import Model, Step
from .rules import Rules

__all__ = ["DONE", "Actor", "Joint", "Move", "Scenario", "interleave"]

W = TypeVar("W", bound=Hashable)

#: The state of an actor that has finished.
DONE: Final = "done"

#: A model that is explored under one set of rules and another.
Scenario = Callable[[Rules], Model[Any]]


class Move(NamedTuple, Generic[W]):
    """One step of an actor: what it does, the world and its own state after it, and what is wrong with it."""

    text: str
    world: W
    mine: Hashable
    wrong: str = ""


class Joint(NamedTuple, Generic[W]):
    """A world, and the state of each actor: ``None`` before it begins, :data:`DONE` at the end."""

    world: W
    actors: tuple[Hashable, ...]


#: Lists the moves an actor can make now: of the world, its own state, its number, the rules. Who can't move waits.
Actor = Callable[[W, Any, int, Rules], Iterator[Move[W]]]


def interleave(
    rules: Rules,
    world: W,
    actors: Sequence[Actor[W]],
    *,
    surroundings: Callable[[W, Rules], Iterator[Step[W]]],
    wrong: Callable[[W, Rules], str] = lambda world, rules: "",
    must_end: bool = False,
) -> Model[Joint[W]]:
    """The model of actors in a world.

    Args:
        rules: which clauses are in force.
        world: what they share at first.
        actors: what they do. The same function twice is two actors of a kind; these begin in their order, which leaves
            out nothing but other numbers for the same steps.
        surroundings: what happens in the world without them.
        wrong: what is wrong with a world.
        must_end: whether all actors must be able to finish.
    """
    elders: Final = [max((i for i in range(me) if actors[i] is actor), default=None) for me, actor in enumerate(actors)]
    names: Final = [f"{actor.__name__.replace('_', ' ')} #{me + 1}" for me, actor in enumerate(actors)]

    def steps(state: Joint[W]) -> Iterator[Step[Joint[W]]]:
        for me, actor in enumerate(actors):
            mine, elder = state.actors[me], elders[me]
            if mine is DONE or (mine is None and elder is not None and state.actors[elder] is None):
                continue
            for move in actor(state.world, mine, me, rules):
                changed = (*state.actors[:me], move.mine, *state.actors[me + 1 :])
                yield Step(f"{names[me]} {move.text}", Joint(move.world, changed), move.wrong)
        for text, after, wrong_step in surroundings(state.world, rules):
            yield Step(text, Joint(after, state.actors), wrong_step)

    return Model(
        start=Joint(world, (None,) * len(actors)),
        steps=steps,
        wrong=lambda state: wrong(state.world, rules),
        has_ended=(lambda state: all(mine is DONE for mine in state.actors)) if must_end else None,
    )
