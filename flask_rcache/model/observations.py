"""What was observed to be read from a source, for entries whose tags are ``AUTO``: a database, watched by ``sql``.

Owns :class:`Observations`, one for each scope, and which sources there are. Who observes is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from weakref import WeakSet

from .moment import AsOf, Epoch, Moment, least

__all__ = ["Observations", "sources"]

#: So many members of one group are kept, then the group's whole stands for them.
_MOST_MEMBERS: Final = 64

#: What observes reads in this process: without any, ``AUTO`` is a mistake.
sources: Final[WeakSet[object]] = WeakSet()


class Observations:
    """What was read since a scope began.

    Attributes:
        reads: the least ``as_of`` of each tag, by the stamp set that it is from.
        unstorable: why what was read is not for others, or not for long; the first reason.
        is_uncommitted: whether something was read that its own context had written, and not committed.
    """

    __slots__ = ("_members", "is_uncommitted", "reads", "unstorable")

    def __init__(self) -> None:
        self.reads: Final[dict[Epoch, dict[str, AsOf]]] = {}
        self._members: Final[dict[str, set[str]]] = {}
        self.unstorable: str | None = None
        self.is_uncommitted = False

    def note(self, moment: Moment | None, tags: Sequence[str]) -> None:
        """Tags of what was read, and the moment up to which it is known; without one nothing can be built on it."""
        epochs, as_of = (0, 0) if moment is None else (moment.epochs, moment.as_of)
        known: dict[str, Any] = self.reads.setdefault(epochs, {})
        for tag in tags:
            before = known.get(tag)
            known[tag] = as_of if before is None else least(as_of, before)

    def note_members(self, moment: Moment | None, whole: str, members: Sequence[str]) -> None:
        """Members of a group were read; when they are many, ``whole`` stands for all of them."""
        known = self._members.setdefault(whole, set())
        known.update(members)
        self.note(moment, members)
        if len(known) > _MOST_MEMBERS:
            for tags in self.reads.values():
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
        self.reads.clear()
        self._members.clear()
        self.unstorable = None
        self.is_uncommitted = False
