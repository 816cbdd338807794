"""Moments: up to when a load is known to reflect the source (rule R3), on one server and on a cluster.

Owns :class:`Moment`, which the engine hands from a store to a store without looking into it, and the arithmetic of
readings: a tag's ``as_of`` is one reading of the store's clock, or, on a cluster, one of each shard's, as the clocks of
shards cannot be compared. Pure.
"""

# Annotations are types here, not their names: a named tuple compiles each name, which takes longer than all else.

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from .named_tuple import NamedTuple

__all__ = ["AsOf", "Epoch", "Moment", "Parts", "Vector", "known_at", "least"]

#: Up to when a tag is known to reflect the source: a reading of the clock (µs), or one of each shard. A reading of 0
#: is "not known": no entry on that shard can be built on it.
AsOf = int | tuple[int, ...]
#: The random name of the stamp set that a reading is from, or one of each shard.
Epoch = int | tuple[int, ...]

A = TypeVar("A", int, tuple[int, ...])


class Vector(NamedTuple):
    """One reading of each shard of a cluster; where a shard has not been heard of, all three are 0.

    Args:
        epochs: the names of the stamp sets.
        clocks: the readings, µs.
        generations: of the connections they came over.
    """

    epochs: tuple[int, ...]
    clocks: tuple[int, ...]
    generations: tuple[int, ...]


class Moment(NamedTuple):
    """A reading of the store's clock that this process has heard (rule R3); the engine does not look into it.

    Args:
        epoch: the random name of the stamp set it was read from; 0 on a cluster.
        clock: the reading, µs; 0 on a cluster.
        generation: of the connections it came over; a store does not take it once they have ended.
        vector: on a cluster, one reading of each shard.
    """

    epoch: int
    clock: int
    generation: int = 0
    vector: Vector | None = None

    @property
    def as_of(self) -> AsOf:
        """What a tag that was read at this moment has as its ``as_of``."""
        return self.clock if self.vector is None else self.vector.clocks

    @property
    def epochs(self) -> Epoch:
        """What :attr:`as_of` was read from."""
        return self.epoch if self.vector is None else self.vector.epochs

    def earlier(self, seconds: float) -> "Moment":
        """The same so long before, for what may be behind it.

        >>> Moment(1, 5_000_000).earlier(2).clock
        3000000
        """
        micros = round(seconds * 1e6)
        if self.vector is None:
            return self._replace(clock=max(0, self.clock - micros))
        clocks = tuple([max(0, clock - micros) for clock in self.vector.clocks])
        return self._replace(vector=self.vector._replace(clocks=clocks))

    def part(self, shard: int) -> "Moment | None":
        """The reading of one shard of a cluster; ``None`` when there is none."""
        if self.vector is None or not self.vector.clocks[shard]:
            return None
        epochs, clocks, generations = self.vector
        return Moment(epochs[shard], clocks[shard], generations[shard])

    @classmethod
    def together(cls, parts: "Iterable[Moment | None]") -> "Moment | None":
        """The moment of a cluster; ``None`` when no shard has been heard of.

        >>> Moment.together([Moment(1, 7, 2), None]).as_of
        (7, 0)
        """
        known = [part or _UNKNOWN for part in parts]
        if not any(part.clock for part in known):
            return None
        vector = Vector(
            tuple([part.epoch for part in known]),
            tuple([part.clock for part in known]),
            tuple([part.generation for part in known]),
        )
        return cls(0, 0, 0, vector)


_UNKNOWN: Final = Moment(0, 0)


class Parts(NamedTuple):
    """What an entry on a cluster carries for loads on other shards.

    Args:
        epochs: of the shards, when its load began.
        clocks: the ``as_of`` of each of its tags, one reading of each shard.
    """

    epochs: tuple[int, ...]
    clocks: Mapping[str, tuple[int, ...]]

    def read(self, tags: Iterable[tuple[str, int]]) -> tuple[Epoch, tuple[tuple[str, AsOf], ...]]:
        """What a load depends on that has read the entry: its tags, each with its ``as_of``, and what that is from."""
        return self.epochs, tuple([(tag, self.clocks[tag]) for tag, _ in tags])


def least(one: AsOf, other: AsOf) -> Any:
    """The earlier of two readings, shard by shard.

    >>> least(5, 7), least((5, 9), (7, 8))
    (5, (5, 8))
    """
    if isinstance(one, int) or isinstance(other, int):
        return min(one, other)
    return tuple([min(pair) for pair in zip(one, other, strict=True)])


def known_at(moment: Moment | None, reads: Mapping[Epoch, Mapping[str, AsOf]]) -> tuple[bool, dict[str, AsOf]]:
    """What a load knows of the tags it has inherited (rule R3.4).

    On a cluster the readings of a shard whose stamp set is another one by now become 0, "not known"; those of the other
    shards stay as they are.

    Args:
        moment: the load's own.
        reads: the least ``as_of`` of each tag that was read, by what it is from.

    Returns:
        Whether readings of different stamp sets come together, so that nothing of it can be stored; and each tag with
        its ``as_of``.

    >>> moment = Moment.together([Moment(1, 70), Moment(2, 80)])
    >>> known_at(moment, {(1, 9): {"a": (50, 60)}, (1, 2): {"a": (55, 58)}})
    (False, {'a': (50, 0)})
    """
    current = None if moment is None else moment.epochs
    found: dict[str, Any] = {}
    for epochs, tags in reads.items():
        mask: list[bool] = []
        if epochs != current:
            if isinstance(epochs, int) or not isinstance(current, tuple) or len(epochs) != len(current):
                return True, {}
            mask = [one == other for one, other in zip(epochs, current, strict=True)]
        for tag, as_of in tags.items():
            if mask and isinstance(as_of, tuple):
                as_of = tuple([reading * is_known for reading, is_known in zip(as_of, mask, strict=True)])
            found[tag] = least(found[tag], as_of) if tag in found else as_of
    return False, found
