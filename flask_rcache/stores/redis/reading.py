"""Reading from Redis: one round trip, and rule R1 over what it brings.

Owns the packed commands of a read, the memory of which stamp members a key needs, and the judgement of what lay under a
key. It changes nothing on the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from ...codec import IDENTITY, Codec
from ...errors import DecodeError
from ...model.entry import MICROSECONDS, Entry, Stamps
from ...model.keys import EPOCH, FLOOR
from ..protocol import Ask, Reading
from .connection import pack
from .server import Server, stamps_of

__all__ = ["Reader"]

_KNOWN_LIMIT: Final = 20_000
_TAIL_LIMIT: Final = 32
_TIME: Final = pack(("TIME",))


class _Look:
    """What one read of a key sends: the packed commands, and the stamp members they ask for."""

    __slots__ = ("members", "payload")

    def __init__(self, key: str, members: tuple[str, ...], tail: bytes) -> None:
        self.members = members
        self.payload = pack(("GET", key)) + tail


class Reader(Server):
    """The reading half of the Redis store."""

    _codec: Codec
    _known: dict[str, _Look]
    _tails: dict[tuple[str, ...], bytes]

    def read(self, key: str, ask: Ask, hold: float = 0.0) -> Reading:
        """See :meth:`Store.read`: one round trip, GET and ZMSCORE and TIME in one write."""
        look = self._known.get(key) or self._learn(key, ask())
        raw, scores, time = self._exchange(look.payload, 3)
        return self._reading(key, raw, look.members, scores, time)

    def read_many(self, keys: Sequence[str], ask: Ask, hold: float = 0.0) -> list[Reading]:
        """See :meth:`Store.read_many`: one round trip, MGET and one ZMSCORE over all members."""
        if not keys:
            return []
        members = dict.fromkeys(ask())
        for key in keys:
            look = self._known.get(key)
            if look is not None:
                members.update(dict.fromkeys(look.members))
        asked = tuple(members)
        raws, scores, time = self._exchange(pack(("MGET", *keys)) + self._tail(asked), 3)
        if isinstance(raws, Exception):
            raise self._refused(raws)
        entries = [self._opened(raw) for raw in raws]
        unknown = {tag: None for entry in entries if entry is not None for tag, _ in entry.tags if tag not in members}
        if unknown:  # read now, so later than the entries: rule R1. One more round trip for all of them.
            for key, entry in zip(keys, entries, strict=True):
                if entry is not None and not members.keys() >= {tag for tag, _ in entry.tags}:
                    self._learn(key, [tag for tag, _ in entry.tags])
            asked += tuple(unknown)
            scores = self._replies(self._tail(asked), 2)[0]
        return self._judged(raws, entries, asked, scores, time)

    def _opened(self, raw: Any) -> Entry | None:
        """The entry in what lay under a key; ``None`` for nothing and for garbage."""
        try:
            return self._codec.unseal(raw)
        except (DecodeError, TypeError):
            return None

    def _judged(
        self, raws: list[Any], entries: list[Entry | None], members: tuple[str, ...], scores: Any, time: Any
    ) -> list[Reading]:
        """The readings of several keys, with one look at the stamps of all."""
        if type(scores) is not list or type(time) is not list:
            raise self._refused(scores if isinstance(scores, Exception) else time)
        now = int(time[0]) * MICROSECONDS + int(time[1])
        stamps = stamps_of(members, scores)
        readings = []
        for raw, entry in zip(raws, entries, strict=True):
            if raw is None:
                readings.append(Reading(None, now))
            elif entry is None:
                readings.append(Reading(None, now, raw[IDENTITY], "garbage"))
            elif entry.valid(stamps):
                readings.append(Reading(entry, now, raw[IDENTITY], "", len(raw)))
            else:
                softened = self._softened(entry, stamps, now)
                readings.append(Reading(softened, now, raw[IDENTITY], "" if softened else "invalid", len(raw)))
        return readings

    def _reading(self, key: str, raw: Any, members: tuple[str, ...], scores: Any, time: Any) -> Reading:
        if type(scores) is not list or type(time) is not list:
            raise self._refused(scores if isinstance(scores, Exception) else time)
        now = int(time[0]) * MICROSECONDS + int(time[1])
        if raw is None:
            return Reading(None, now)
        try:
            entry = self._codec.unseal(raw)
        except (DecodeError, TypeError):  # TypeError: an error reply, another kind of key lies under our name
            return Reading(None, now, raw[IDENTITY] if isinstance(raw, bytes) else b"", "garbage")
        for tag, _ in entry.tags:
            if tag not in members:
                # The entry has tags this process did not know of. They are read now, so later than the entry: R1.
                members = self._learn(key, [tag for tag, _ in entry.tags]).members
                scores = self._replies(self._tail(members), 2)[0]
                break
        if _valid(entry, members, scores):
            return Reading(entry, now, raw[IDENTITY], "", len(raw))
        softened = None
        if entry.stale_while_revalidate or entry.stale_if_error:
            softened = self._softened(entry, stamps_of(members, scores), now)
        return Reading(softened, now, raw[IDENTITY], "" if softened else "invalid", len(raw))

    def _softened(self, entry: Entry, stamps: Stamps, now: int) -> Entry | None:
        """The entry as soft invalidations left it, if only those have met it.

        Which stamps are soft is asked only here: one more round trip, for an entry that may be served stale and has
        been invalidated. A stamp that turns hard meanwhile is not in the answer.
        """
        if not (entry.stale_while_revalidate or entry.stale_if_error) or entry.epoch != stamps.epoch:
            return None
        return entry.softened(stamps, self._soft_stamps([tag for tag, _ in entry.tags]), now)

    def _learn(self, key: str, members: Iterable[str]) -> _Look:
        asked = tuple(dict.fromkeys(members))
        look = _Look(key, asked, self._tail(asked))
        while len(self._known) >= _KNOWN_LIMIT:
            with suppress(RuntimeError, StopIteration):  # another thread changed it between iter and next
                self._known.pop(next(iter(self._known)), None)
        self._known[key] = look
        return look

    def _tail(self, members: tuple[str, ...]) -> bytes:
        """The stamps' and the clock's part of a read: packed once for each set of members."""
        tail = self._tails.get(members)
        if tail is None:
            tail = pack(("ZMSCORE", self._names.stamps, EPOCH, FLOOR, *members)) + _TIME
            if len(members) > _TAIL_LIMIT:  # the union over many keys: hardly ever the same twice
                return tail
            if len(self._tails) >= _KNOWN_LIMIT:
                self._tails.clear()
            self._tails[members] = tail
        return tail


def _valid(entry: Entry, members: tuple[str, ...], scores: list[float | None]) -> bool:
    """Rule R1 over the scores of the epoch, the floor and the members; as :meth:`Entry.valid`, which it does for most.

    An entry that no invalidation has met is told without a mapping: its epoch is there, and its tags have no stamp.
    """
    if scores[0] != entry.epoch:
        return False
    floor = scores[1] or 0
    if entry.as_of >= floor and not entry.tags[1:] and not any(scores[2:]):
        return bool(not entry.tags or entry.tags[0][1] >= floor)
    return entry.valid(stamps_of(members, scores))
