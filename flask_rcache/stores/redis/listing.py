"""Listing what lies in Redis: entries by pattern and page by page, how much there is, and what the fleet has noted.

Owns the walks over indexes and keys. Of an entry only the beginning is fetched, never its body; every walk has a bound
that does not depend on how many entries there are.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

import ormsgpack

from ...codec import Codec
from ...errors import ConfigError, DecodeError
from ...model.entry import Entry, Freshness
from ..glob import glob_regex
from ..protocol import Census, Gazette, Listed, Logged, Page
from .connection import Exchange, pack
from .scripts import Argument
from .server import Server

__all__ = ["CHUNK", "Listing", "chunks"]

CHUNK: Final = 500  # keys a script call: bounds the server's stall and Lua's stack
_HEAD_BYTES: Final = 2048
_SAMPLE: Final = 64
_ROWS_A_PAGE: Final = 5000
_SCANNED: Final = 100
_LOADS_SHOWN: Final = 100

#: As Redis writes the score of a row, or the beginning. Anything else would be an error of the script, and its error is
#: one of the server: it opens the breaker.
_SCORE: Final = re.compile(r"-?inf|[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e\+?[0-9]{1,3})?")

T = TypeVar("T")


def chunks(items: Sequence[T]) -> list[Sequence[T]]:
    """The items in parts that one script call takes."""
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]


class _Place(NamedTuple):
    """Where a listing goes on: in a type's index after a row, or at a cursor of SCAN."""

    type_name: str = ""
    score: str = "-inf"
    member: bytes = b""
    scan: int = 0

    def dumps(self) -> str:
        return base64.urlsafe_b64encode(ormsgpack.packb(list(self))).decode().rstrip("=")

    @classmethod
    def loads(cls, cursor: str) -> _Place:
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            type_name, score, member, scan = ormsgpack.unpackb(raw)
            if [str, str, bytes, int] != [type(part) for part in (type_name, score, member, scan)] or scan < 0:
                raise TypeError("not a place")
            if not _SCORE.fullmatch(score):
                raise ValueError("not a score")
        except (ValueError, TypeError, binascii.Error):
            raise ValueError("it is not one that a listing gave") from None
        return cls(type_name, score, member, scan)


class Listing(Server):
    """The listing half of the Redis store."""

    _codec: Codec

    # By pattern, for invalidations and the listing of everything

    def _matching(self, pattern: str, type_name: str | None, exchange: Exchange) -> Iterator[tuple[str, list[str]]]:
        """Stored keys that match, in chunks of one type."""
        names = [] if self.facts.evicts_anything else [type_name] if type_name is not None else self._types(exchange)
        # The index may have been evicted, or is of another kind.
        if self.facts.evicts_anything or not self._are_indexes(names, exchange):
            for keys in self._walk(("SCAN",), ("MATCH", pattern, "COUNT", 1000), exchange):
                yield from self._by_type(keys)
            return
        for name in sorted(names):
            walk = ("ZSCAN", self._names.index(name))
            for rows in self._walk(walk, ("MATCH", pattern, "COUNT", 1000), exchange):
                for chunk in chunks(rows[::2]):
                    yield name, [key.decode(errors="replace") for key in chunk]  # a foreign row leads nowhere

    def _are_indexes(self, names: Collection[str], exchange: Exchange) -> bool:
        """Whether nothing of another kind lies where the indexes of these types belong."""
        ask = b"".join(pack(("ZCARD", self._names.index(name))) for name in names)
        return not names or all(isinstance(rows, int) for rows in exchange(ask, len(names)))

    def _by_type(self, keys: Sequence[bytes]) -> Iterator[tuple[str, list[str]]]:
        grouped: dict[str, list[str]] = {}
        for key in keys:
            try:
                grouped.setdefault(self._names.split(key.decode())[0], []).append(key.decode())
            except (ConfigError, UnicodeDecodeError):  # not one of ours
                continue
        for name, group in grouped.items():
            for chunk in chunks(group):
                yield name, list(chunk)

    def _walk(self, command: tuple[str, ...], options: tuple[object, ...], exchange: Exchange) -> Iterator[list[Any]]:
        cursor = b"0"
        while True:
            reply = exchange(pack((*command, cursor, *options)), 1)[0]
            if isinstance(reply, Exception):
                raise self._refused(reply)
            cursor, rows = reply
            if rows:
                yield rows
            if int(cursor) == 0:
                return

    def entries(self, type_name: str | None, pattern: str | None) -> Iterator[Listed]:
        """See :meth:`Store.entries`."""
        glob = pattern if pattern is not None else self._names.entries + "*"
        for name, keys in self._matching(glob, type_name, self._patiently):
            if type_name is None or type_name == name:
                yield from self._listed(keys)

    # Page by page

    def page(self, type_name: str | None, pattern: str | None, cursor: str | None, limit: int) -> Page:
        """See :meth:`Store.page`: by expiry within a type, so an entry that stays is seen wherever others come and go.

        Where the server may evict the indexes it is SCAN that pages, with the promise that SCAN makes.
        """
        place = _Place() if cursor is None else _Place.loads(cursor)
        if cursor is None and not self.facts.name:
            self._exchange(pack(("PING",)), 1)  # the facts come with a connection
        # A listing goes on as it began: a cursor of SCAN means nothing to an index, nor a row to SCAN.
        if not place.type_name and (place.scan or place.member or self.facts.evicts_anything):
            return self._scanned(type_name, pattern, place, limit)
        matches = None if pattern is None else glob_regex(pattern).fullmatch
        found: list[Listed] = []
        left = _ROWS_A_PAGE
        for name in [type_name] if type_name is not None else sorted(self._types(self._exchange)):
            if name < place.type_name:
                continue
            place = place if name == place.type_name else _Place(name)
            while rows := self._rows_after(place, limit - len(found) if matches is None else CHUNK):
                left -= len(rows)
                keys: list[str] = []
                for raw, score in rows:
                    place = _Place(name, score, raw)
                    member = raw.decode(errors="replace")  # a row that is no text leads nowhere
                    if matches is None or matches(member):
                        keys.append(member)
                        if len(found) + len(keys) >= limit:
                            break
                found += self._listed(keys)
                if len(found) >= limit or left <= 0:
                    return Page(found, place.dumps())
        return Page(found, None)

    def _rows_after(self, place: _Place, count: int) -> list[tuple[bytes, str]]:
        """The next rows of a type's index: key and score."""
        args: list[Argument] = [place.score, place.member, count]
        flat = self._call(self._scripts["rows"], [self._names.index(place.type_name)], args)
        return [(key, score.decode()) for key, score in zip(flat[::2], flat[1::2], strict=True)]

    def _scanned(self, type_name: str | None, pattern: str | None, place: _Place, limit: int) -> Page:
        glob = pattern
        if glob is None:
            glob = self._names.entries + "*" if type_name is None else self._names.entry(type_name, "*")
        found: list[Listed] = []
        for _ in range(_ROWS_A_PAGE // _SCANNED):
            reply = self._replies(pack(("SCAN", place.scan, "MATCH", glob, "COUNT", _SCANNED)), 1)[0]
            # By key, so that a page may end inside what one SCAN gave: the same cursor gives it again.
            for name, keys in self._by_type(sorted(reply[1])):
                wanted = [key for key in keys if key.encode() > place.member] if type_name in (None, name) else []
                for listed in self._listed(wanted):
                    if len(found) >= limit:
                        return Page(found, place.dumps())
                    found.append(listed)
                    place = place._replace(member=listed.key.encode())
            place = _Place(scan=int(reply[0]))
            if not place.scan:
                return Page(found, None)
        return Page(found, place.dumps())

    def inspect(self, key: str) -> Listed | None:
        """See :meth:`Store.inspect`."""
        return next(self._listed([key]), None)

    def _listed(self, keys: Sequence[str]) -> Iterator[Listed]:
        """Those of the keys that lead to a live entry; two or three round trips for all of them."""
        for chunk in chunks(keys):
            ask = [pack(("GETRANGE", key, 0, _HEAD_BYTES - 1)) + pack(("STRLEN", key)) for key in chunk]
            *replies, time = self._patiently(b"".join(ask) + pack(("TIME",)), 2 * len(chunk) + 1)
            if isinstance(time, Exception):
                raise self._refused(time)
            heads = {
                key: (head, size)
                for key, head, size in zip(chunk, replies[::2], replies[1::2], strict=True)
                if isinstance(head, bytes) and isinstance(size, int)  # else another kind of key lies under our name
            }
            now = int(time[0]) * 1_000_000 + int(time[1])
            entries = self._opened_heads(heads)
            ordered = {key: entries[key] for key in heads if key in entries}
            yield from self._live(ordered, {key: size for key, (_, size) in heads.items()}, now)

    def _opened_heads(self, heads: dict[str, tuple[bytes, int]]) -> dict[str, Entry]:
        """The entries, without their bodies; a second round trip for those with long headers or many tags."""
        found: dict[str, Entry] = {}
        longer: dict[str, int] = {}
        for key, (head, size) in heads.items():
            with suppress(DecodeError):
                entry, needed = self._codec.unseal_head(head)
                if not needed:
                    found[key] = entry
                elif needed <= size:
                    longer[key] = needed
        if longer:
            ask = b"".join(pack(("GETRANGE", key, 0, needed - 1)) for key, needed in longer.items())
            for key, head in zip(longer, self._exchange(ask, len(longer)), strict=True):
                with suppress(DecodeError, TypeError):
                    entry, needed = self._codec.unseal_head(head)
                    if not needed:
                        found[key] = entry
        return found

    def _live(self, entries: dict[str, Entry], sizes: dict[str, int], now: int) -> Iterator[Listed]:
        """Those that no invalidation has made invalid, and that are not past their windows."""
        members = tuple(dict.fromkeys(tag for entry in entries.values() for tag, _ in entry.tags))
        stamps = self._stamps_of(members)
        soft: dict[str, int] | None = None
        for key, entry in entries.items():
            live: Entry | None = entry
            if not entry.valid(stamps):
                soft = self._soft_stamps(members) if soft is None else soft
                live = entry.softened(stamps, soft, now)
            if live is not None and live.freshness(now) is not Freshness.EXPIRED:
                yield Listed.of(key, live, now=now, size=sizes[key])

    # How much, and what was noted

    def census(self, types: Sequence[str]) -> dict[str, Census]:
        """See :meth:`Store.census`: counted by the index; the bytes are those of a sample, times the number."""
        names = sorted({*types, *self._types(self._exchange)})
        if not names:
            return {}
        indexes = [self._names.index(name) for name in names]
        now_ms = int(self._replies(pack(("TIME",)), 1)[0][0]) * 1000
        ask = [pack(("ZCOUNT", at, now_ms, "+inf")) + pack(("ZRANDMEMBER", at, _SAMPLE)) for at in indexes]
        replies = self._exchange(b"".join(ask), 2 * len(names))
        samples = [[] if isinstance(keys, Exception) else keys for keys in replies[1::2]]  # of another kind
        sizes = iter(
            self._exchange(b"".join(pack(("STRLEN", key)) for keys in samples for key in keys), sum(map(len, samples)))
            if any(samples)
            else ()
        )
        census = {}
        for name, count, keys in zip(names, replies[::2], samples, strict=True):
            lengths = [size for size in (next(sizes) for _ in keys) if isinstance(size, int) and size]
            there = 0 if isinstance(count, Exception) else count
            census[name] = Census(there, round(there * sum(lengths) / len(lengths)) if lengths else 0)
        return census

    def gazette(self) -> Gazette:
        """See :meth:`Store.gazette`."""
        names = self._names
        replies = self._exchange(
            pack(("ZREVRANGE", names.costs, 0, 19, "WITHSCORES"))
            + pack(("LRANGE", names.log, 0, -1))
            + pack(("ZRANGE", names.loads, 0, _LOADS_SHOWN - 1)),
            3,
        )
        # Somebody else's key under one of these names: there is nothing to tell then, and no reason for an error.
        costs, log, rows = [[] if isinstance(reply, Exception) else reply for reply in replies]
        loads = [key.decode(errors="replace") for key in rows]
        held: list[Any] = []
        if loads:
            leases = [names.lease(key) for key in loads]
            held = self._replies(b"".join(pack(("EXISTS", lease)) for lease in leases), len(leases))
        return Gazette(
            costs=[(key.decode(errors="replace"), float(seconds)) for key, seconds in costs],
            log=[noted for noted in map(_noted, log) if noted is not None],
            loads=[key for key, there in zip(loads, held, strict=True) if there],
        )


def _noted(line: bytes) -> Logged | None:
    at, _, packed = line.partition(b" ")
    try:
        scope, names, removed, journalled = ormsgpack.unpackb(packed)
        return Logged(int(at) / 1000, str(scope), tuple(map(str, names)), int(removed), bool(journalled))
    except (ValueError, TypeError, OverflowError):  # of another release
        return None
