"""Reading from Redis: one round trip, and rule R1 over what it brings.

Owns the packed commands of a read, what is remembered of each key (the tags to ask for), and the judgement of what lay
under a key. It changes nothing on the server.

A hit is GETEX, ZMSCORE and TIME in one write. GETEX without an option reads as GET does, but a server takes it for a
write: a master that became a replica refuses it. It would go on answering GET, and nobody there hears of what is
invalidated on its successor (Outages 5). With MGET another write goes, which changes nothing. An entry with many tags
is checked otherwise: every row of the set that is later than a reading at which the entry was known to be valid is
asked for, and there are few; so a hit hardly costs more for its tags (R1.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...codec.envelope import IDENTITY, Codec
from ...errors import DecodeError, SealError
from ...model.bounded import BoundedDict
from ...model.entry import Entry, is_valid
from ..protocol import Lookup
from .connection import pack
from .server import SET_MEMBERS, Server, StampsRead
from .steps import Ask, Steps

__all__ = ["Reader"]

_KEYS_KNOWN: Final = 20_000
#: Tags that are asked for one by one.
_FEW_TAGS: Final = 16
_MANY_TAGGED_KNOWN: Final = 100
_ROWS: Final = 64
#: Entries that are kept as they were read, and the largest of them: what comes back byte for byte the same, as a hit
#: mostly does, is not decompressed again, nor compared with the same stamps.
_KNOWN_KEPT: Final = 256
_KNOWN_BYTES: Final = 16 * 1024
_TIME: Final = pack(("TIME",))


class _Query:
    """What a read of a key sends, and the tags whose rows it asks for."""

    __slots__ = ("payload", "tags")

    def __init__(self, payload: bytes, tags: tuple[str, ...]) -> None:
        self.payload: Final = payload
        self.tags: Final = tags


class _ManyTags:
    """A fill with many tags.

    Args:
        entry: as it was read.
        identity: of the fill.
        valid_at: a reading of the clock at which it was known to be valid.
    """

    __slots__ = ("as_of", "identity", "parts", "tags", "valid_at")

    def __init__(self, entry: Entry, identity: bytes, valid_at: int) -> None:
        self.tags: Final = entry.tags
        self.parts: Final = entry.parts
        self.as_of: Final = dict(entry.tags)
        self.identity: Final = identity
        self.valid_at = valid_at


class _Known:
    """An entry as it was read.

    ``valid_by`` is what it was last found valid by: the tags whose rows were asked for, all that ZMSCORE has answered,
    and the generation of the connections. The verdict depends on nothing else, so by the same it is the same (R1).
    """

    __slots__ = ("entry", "identity", "raw", "valid_by")

    def __init__(self, raw: bytes, entry: Entry) -> None:
        self.raw: Final = raw
        self.entry: Final = entry
        self.identity: Final[bytes] = raw[IDENTITY]
        self.valid_by: tuple[_Query, Any, int] | None = None


class Reader:
    """The reading half of the Redis store.

    Args:
        server: where it reads.
        codec: the envelope.
    """

    __slots__ = (
        "_codec",
        "_known",
        "_many_tagged",
        "_place",
        "_queries",
        "_server",
        "_stamp_queries",
        "_write",
    )

    def __init__(self, server: Server, codec: Codec) -> None:
        self._server: Final = server
        self._place: Final = server.names.place
        self._codec: Final = codec
        self._queries: Final[BoundedDict[str, _Query]] = BoundedDict(_KEYS_KNOWN)
        self._stamp_queries: Final[BoundedDict[tuple[str, ...], bytes]] = BoundedDict(_KEYS_KNOWN)
        self._many_tagged: Final[BoundedDict[str, _ManyTags]] = BoundedDict(_MANY_TAGGED_KNOWN)
        #: A write that changes nothing.
        self._write: Final = pack(("ZREM", server.names.stamps, "=none"))
        self._known: Final[BoundedDict[str, _Known]] = BoundedDict(_KNOWN_KEPT)

    # One key

    def read(self, key: str, tags: tuple[str, ...], l1_ttl: float = 0.0) -> Lookup:
        """See :meth:`Store.read`: one round trip, GETEX and ZMSCORE and TIME in one write."""
        query = self._queries.get(key)
        if query is None:
            many = self._many_tagged.get(key)
            if many is not None:
                return self._read_many_tagged(key, many)
            query = self._learn(key, tags)
        server = self._server
        pool = server.pool
        generation = pool.generation
        if not server.is_running:
            server.ensure()
        raw, scores, time = pool.exchange(query.payload, 3)
        known = self._known.get(key)
        if known is not None and known.raw == raw and known.valid_by == (query, scores, generation):
            return Lookup(known.entry, server.time_in(time), known.identity, "", len(raw))
        stamps = server.stamps_in(scores, query.tags, generation)
        now = server.time_in(time)
        if raw is None:
            return Lookup(None, now)
        if known is None or known.raw != raw:
            entry = self._opened(key, raw, stamps)
            if isinstance(entry, str):
                return Lookup(None, now, _identity(raw), entry)
            known = _Known(raw, entry)
            if len(raw) <= _KNOWN_BYTES:
                self._known[key] = known
        if stamps is not None:
            if dict(known.entry.tags).keys() - stamps.rows.keys():
                return self._read_again(key, known.entry, raw, now)
            if is_valid(known.entry, stamps.epoch, stamps.floor, stamps.forgotten, stamps.rows):
                known.valid_by = query, scores, generation
                return Lookup(known.entry, now, known.identity, "", len(raw))
        return Lookup(None, now, known.identity, "invalid", len(raw))

    def _opened(self, key: str, raw: Any, stamps: StampsRead | None, like: _ManyTags | None = None) -> Entry | str:
        """The entry in what lay under a key; or why that is none of ours, as :class:`Lookup` says it.

        Raises:
            StoreError: an error reply.
        """
        try:
            known = (None, None) if like is None else (like.tags, like.parts)
            entry = self._codec.unseal(raw, key, *known)
        except SealError:
            return "not-authentic"
        except (DecodeError, TypeError):
            if isinstance(raw, Exception) and not str(raw).startswith("WRONGTYPE"):
                raise self._server.pool.fail(raw) from None
            return "garbage"
        if stamps is not None and entry.epoch == stamps.epoch and max(entry.created, entry.as_of) > stamps.clock:
            return "garbage"  # of the future of its own set
        return entry

    def _read_again(self, key: str, entry: Entry, raw: bytes, now: int) -> Lookup:
        """Judge an entry with tags that were not asked for: everything is asked again, so later than the entry (R1)."""
        tags = tuple(dict.fromkeys([tag for tag, _ in entry.tags]))
        self._many_tagged.pop(key, None)
        if len(tags) <= _FEW_TAGS:
            self._learn(key, tags)
        stamps = self._server.stamps(tags)
        lookup = self._judged(raw, entry, stamps, now)
        if len(tags) > _FEW_TAGS and lookup.entry is not None and stamps is not None:
            self._queries.pop(key, None)
            self._many_tagged[key] = _ManyTags(entry, raw[IDENTITY], stamps.clock)
        return lookup

    def _read_many_tagged(self, key: str, many: _ManyTags) -> Lookup:
        """Read a key whose entry had many tags (R1.6).

        The rows are asked for before ``=forgotten``. When a row was dropped, that has risen above its stamp.
        """
        server, valid_at = self._server, many.valid_at
        rows_after = ("ZRANGE", server.names.stamps, f"({valid_at}", "+inf", "BYSCORE", "LIMIT", 0, _ROWS, "WITHSCORES")
        payload = pack(("GETEX", self._place(key))) + pack(rows_after) + self._stamps_query(())
        generation = server.pool.generation
        raw, later, scores, time = server.exchange(payload, 4)
        stamps = server.stamps_in(scores, (), generation)
        now = server.time_in(time)
        if raw is None:
            self._many_tagged.pop(key, None)
            return Lookup(None, now)
        is_same = isinstance(raw, bytes) and raw[IDENTITY] == many.identity
        entry = self._opened(key, raw, stamps, many if is_same else None)
        if isinstance(entry, str):
            return Lookup(None, now, _identity(raw), entry)
        if entry.tags is not many.tags and entry.tags != many.tags:
            is_same = False  # a sealed entry is read anew, as its identity is not sealed
        if stamps is None or isinstance(later, Exception):
            return Lookup(None, now, raw[IDENTITY], "invalid", len(raw))
        if not is_same or len(later) == _ROWS or stamps.forgotten > valid_at:
            return self._read_again(key, entry, raw, now)
        rows = {member.decode("utf-8", "replace"): row for member, row in later}
        # What is not later than a reading at which the entry was valid does not make it invalid now. Of the rest only
        # its own tags count; the set's own members are among the rows, and no tag is named so.
        found = tuple([(tag, many.as_of[tag]) for tag in rows if tag in many.as_of])
        rest = Entry(b"", entry.epoch, valid_at, valid_at, 0.0, tags=(*found, ("", valid_at)))
        if not is_valid(rest, stamps.epoch, stamps.floor, stamps.forgotten, rows):
            return Lookup(None, now, raw[IDENTITY], "invalid", len(raw))
        clock = rows.get("=clock")
        if clock is not None:  # read in the same step as the rows
            many.valid_at = int(clock)
        return Lookup(entry, now, raw[IDENTITY], "", len(raw))

    # Many keys

    def read_many(self, keys: Sequence[str], tags: tuple[str, ...], l1_ttl: float = 0.0) -> list[Lookup]:
        """See :meth:`Store.read_many`: one round trip, MGET, one ZMSCORE over all tags, and a write."""
        return self._server.drive(self.read_many_steps(keys, tags))

    def read_many_steps(self, keys: Sequence[str], tags: tuple[str, ...]) -> Steps[list[Lookup]]:
        """See :meth:`read_many`."""
        if not keys:
            return []
        wanted = dict.fromkeys(tags)
        for key in keys:
            query = self._queries.get(key)
            if query is not None:
                wanted.update(dict.fromkeys(query.tags))
        asked = tuple(wanted)
        server = self._server
        generation = server.pool.generation
        payload = pack(("MGET", *map(self._place, keys))) + self._stamps_query(asked) + self._write
        raws, scores, time, written = yield Ask(payload, 4)
        for reply in (raws, written):
            if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
                raise server.pool.fail(reply)
        stamps = server.stamps_in(scores, asked, generation)
        now = server.time_in(time)
        entries = [
            "absent" if raw is None else self._opened(key, raw, stamps) for key, raw in zip(keys, raws, strict=True)
        ]
        found = [entry for entry in entries if not isinstance(entry, str)]
        unknown = {tag: None for entry in found for tag, _ in entry.tags if tag not in wanted}
        if unknown:  # everything is read again, so later than the entries (R1): one more round trip for all of them
            for key, entry in zip(keys, entries, strict=True):
                if not isinstance(entry, str) and len(entry.tags) <= _FEW_TAGS:
                    self._learn(key, tuple(dict.fromkeys([tag for tag, _ in entry.tags])))
            stamps = yield from server.stamps_steps((*asked, *unknown))
        return [self._judged(raw, entry, stamps, now) for raw, entry in zip(raws, entries, strict=True)]

    def _judged(self, raw: Any, entry: Entry | str, stamps: StampsRead | None, now: int) -> Lookup:
        if raw is None:
            return Lookup(None, now)
        if isinstance(entry, str):
            return Lookup(None, now, _identity(raw), entry)
        if stamps is None or not is_valid(entry, stamps.epoch, stamps.floor, stamps.forgotten, stamps.rows):
            return Lookup(None, now, raw[IDENTITY], "invalid", len(raw))
        return Lookup(entry, now, raw[IDENTITY], "", len(raw))

    # What is known of keys

    def learn(self, key: str, tags: Sequence[str]) -> None:
        """An entry with these tags was stored under a key."""
        if len(tags) > _FEW_TAGS:
            return
        query = self._queries.get(key)
        if query is None or query.tags != tags:
            self._learn(key, tuple(dict.fromkeys(tags)))

    def _learn(self, key: str, tags: tuple[str, ...]) -> _Query:
        query = _Query(pack(("GETEX", self._place(key))) + self._stamps_query(tags), tags)
        self._queries[key] = query
        return query

    def _stamps_query(self, tags: tuple[str, ...]) -> bytes:
        """The stamps' and the clock's part of a read: packed once for each set of tags."""
        packed = self._stamp_queries.get(tags)
        if packed is None:
            packed = pack(("ZMSCORE", self._server.names.stamps, *SET_MEMBERS, *tags)) + _TIME
            if len(tags) <= _FEW_TAGS:  # the union over many keys is hardly ever the same twice
                self._stamp_queries[tags] = packed
        return packed


def _identity(raw: Any) -> bytes:
    """What stands where an entry has its identity."""
    return raw[IDENTITY] if isinstance(raw, bytes) else b""
