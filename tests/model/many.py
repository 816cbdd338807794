"""Loads of several keys that need each other's: rule R4.3.

``fetch_many`` asks for the leases of several keys; a nested load holds one lease and asks for another. Whoever waits
polls. Everybody must be able to finish. Loads always succeed here, and nothing is invalidated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .actors import DONE, Actor, Move, Scenario, interleave
from .explorer import Step
from .rules import Rules

__all__ = ["SCENARIOS"]


class World(NamedTuple):
    """The leases that are held, by key and holder, and the keys that are filled."""

    leases: tuple[tuple[str, int], ...] = ()
    filled: tuple[str, ...] = ()

    def holder(self, key: str) -> int | None:
        """Who holds the lease of a key."""
        return dict(self.leases).get(key)

    def leased(self, key: str, holder: int) -> World:
        """The world after somebody has taken a lease."""
        return self._replace(leases=tuple(sorted([*self.leases, (key, holder)])))

    def ended(self, *keys: str) -> World:
        """The world after keys were filled, and their leases given back."""
        return World(
            tuple((key, holder) for key, holder in self.leases if key not in keys),
            tuple(sorted({*self.filled, *keys})),
        )


def _fetch_many(world: World, mine: str | int | None, me: int, rules: Rules, keys: str) -> Iterator[Move[World]]:
    """``mine`` is how many keys it has asked for, or what it does then."""
    if mine is None:
        yield Move(f"wants {', '.join(keys)}", world, 0)
    elif isinstance(mine, int):
        if mine == len(keys):
            yield Move("has asked for all", world, "loads")
            return
        key = keys[mine]
        if key not in world.filled and world.holder(key) is None:
            yield Move(f"takes the lease of {key}", world.leased(key, me), mine + 1)
        else:
            yield Move(f"finds {key} filled, or loaded by another", world, mine + 1)
    elif mine == "loads":
        own = [key for key in keys if world.holder(key) == me]
        if rules.own_keys_are_loaded_before_waiting or all(key in own or key in world.filled for key in keys):
            yield Move(f"loads {', '.join(own) or 'nothing'}", world.ended(*own), "waits")
    elif all(key in world.filled for key in keys):
        yield Move("has all", world, DONE)
    elif any(key not in world.filled and world.holder(key) is None for key in keys):
        yield Move("begins again", world, 0)


def fetch_many_ab(world: World, mine: str | int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Loads a and b."""
    yield from _fetch_many(world, mine, me, rules, "ab")


def fetch_many_bca(world: World, mine: str | int | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Loads b, c and a."""
    yield from _fetch_many(world, mine, me, rules, "bca")


def _nested(world: World, mine: str | None, me: int, rules: Rules, outer: str, inner: str) -> Iterator[Move[World]]:
    if mine is None:
        if outer in world.filled:
            yield Move(f"finds {outer}", world, DONE)
        elif world.holder(outer) is None:
            yield Move(f"takes the lease of {outer}", world.leased(outer, me), "needs the inner")
    elif mine == "needs the inner":
        if inner in world.filled:
            yield Move(f"finds {inner}", world, "fills")
        elif world.holder(inner) is None:
            yield Move(f"takes the lease of {inner}", world.leased(inner, me), "loads the inner")
        elif rules.waiters_give_up:
            yield Move(f"has waited for {inner} for too long, and loads it alone", world, "fills")
    elif mine == "loads the inner":
        yield Move(f"fills {inner}", world.ended(inner), "fills")
    else:
        yield Move(f"fills {outer}", world.ended(outer), DONE)


def nested_a_needs_b(world: World, mine: str | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Loads a, which reads b."""
    yield from _nested(world, mine, me, rules, "a", "b")


def nested_b_needs_c(world: World, mine: str | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Loads b, which reads c."""
    yield from _nested(world, mine, me, rules, "b", "c")


def nested_b_needs_a(world: World, mine: str | None, me: int, rules: Rules) -> Iterator[Move[World]]:
    """Loads b, which reads a."""
    yield from _nested(world, mine, me, rules, "b", "a")


def _surroundings(world: World, rules: Rules) -> Iterator[Step[World]]:
    return iter(())


def _scenario(*actors: Actor[World]) -> Scenario:
    return lambda rules: interleave(rules, World(), actors, surroundings=_surroundings, must_end=True)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "many keys, many keys": _scenario(fetch_many_ab, fetch_many_bca),
    "many keys, many keys, nested loads": _scenario(fetch_many_ab, fetch_many_bca, nested_a_needs_b, nested_b_needs_c),
    "two loads that need each other": _scenario(nested_a_needs_b, nested_b_needs_a),
}
