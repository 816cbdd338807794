"""What was observed to be read from a source, for entries whose tags are ``AUTO``: a database, watched by ``sql``.

Owns :class:`Observations`, one for each scope, and which sources there are. Who observes is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from weakref import WeakSet

from .moment import AsOf, Epoch, Moment, least

__all__ = ["Observations", "Seen", "Source", "is_observed", "sources"]

#: So many members of one group are kept, then the group's whole stands for them.
_MOST_MEMBERS: Final = 64
#: So many reads are kept as they came.
_MOST_PENDING: Final = 256


class Source(Protocol):
    """What observes reads, of a database for instance."""

    def serves(self, owner: object) -> bool:
        """Whether what it observes counts for a cache.

        Args:
            owner: the store of the cache.
        """
        ...


#: What observes reads in this process.
sources: Final[WeakSet[Source]] = WeakSet()


def is_observed(owner: object) -> bool:
    """Whether anything observes what a cache's loads read; without it, ``AUTO`` is a mistake.

    Args:
        owner: the store of the cache.
    """
    return any(each.serves(owner) for each in tuple(sources))


class Seen(Protocol):
    """One read that was observed."""

    def note_in(self, observations: Observations) -> None:
        """Note its tags."""
        ...


class Observations:
    """What was read since a scope began.

    Most requests never ask for it: what was seen is kept as it came, and gone through when somebody does.
    """

    __slots__ = ("_is_uncommitted", "_members", "_pending", "_reads", "_unstorable")

    def __init__(self) -> None:
        self._reads: Final[dict[Epoch, dict[str, AsOf]]] = {}
        self._pending: list[Seen] = []
        self._members: Final[dict[str, set[str]]] = {}
        self._unstorable: str | None = None
        self._is_uncommitted = False

    @property
    def reads(self) -> dict[Epoch, dict[str, AsOf]]:
        """The least ``as_of`` of each tag, by the stamp set that it is from."""
        self._settle()
        return self._reads

    @property
    def unstorable(self) -> str | None:
        """Why what was read is not for others, or not for long; the first reason."""
        self._settle()
        return self._unstorable

    @property
    def is_uncommitted(self) -> bool:
        """Whether something was read that its own context had written, and not committed."""
        self._settle()
        return self._is_uncommitted

    def see(self, seen: Seen) -> None:
        """Something was read; its tags are found when they are needed."""
        self._pending.append(seen)
        if len(self._pending) > _MOST_PENDING:
            self._settle()

    def _settle(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            for seen in pending:
                seen.note_in(self)

    def taint(self) -> None:
        """Something was read that its own context had written, and not committed."""
        self._is_uncommitted = True

    def refuse(self, reason: str) -> None:
        """What was read is not for others."""
        self._unstorable = self._unstorable or reason

    def note(self, moment: Moment | None, tags: Sequence[str]) -> None:
        """Tags of what was read, and the moment up to which it is known; without one nothing can be built on it."""
        epochs, as_of = (0, 0) if moment is None else (moment.epochs, moment.as_of)
        known: dict[str, Any] = self._reads.setdefault(epochs, {})
        for tag in tags:
            before = known.get(tag)
            known[tag] = as_of if before is None else least(as_of, before)

    def note_members(self, moment: Moment | None, whole: str, members: Sequence[str]) -> None:
        """Members of a group were read; when they are many, ``whole`` stands for all of them."""
        known = self._members.setdefault(whole, set())
        known.update(members)
        self.note(moment, members)
        if len(known) > _MOST_MEMBERS:
            for tags in self._reads.values():
                found: list[Any] = [tags.pop(member) for member in known & tags.keys()]
                for as_of in found:
                    tags[whole] = least(as_of, tags[whole]) if whole in tags else as_of
            known.clear()

    def added_to(self, reads: Mapping[Epoch, Mapping[str, AsOf]]) -> dict[Epoch, dict[str, Any]]:
        """Other reads, with these; a copy."""
        found: dict[Epoch, dict[str, Any]] = {epochs: dict(tags) for epochs, tags in reads.items()}
        for epochs, tags in self.reads.items():
            known = found.setdefault(epochs, {})
            for tag, as_of in tags.items():
                known[tag] = least(as_of, known[tag]) if tag in known else as_of
        return found

    def clear(self) -> None:
        """Nothing was read yet."""
        self._pending.clear()
        self._reads.clear()
        self._members.clear()
        self._unstorable = None
        self._is_uncommitted = False
