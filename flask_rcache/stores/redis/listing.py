"""The operators' half of the Redis store: entries by pattern and page by page, how much there is, how the server is.

Owns the walks over indexes and keys. Of an entry only the beginning is fetched, never its body; every walk has a bound
that does not depend on how many entries there are.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import ormsgpack

from ...codec.envelope import Codec
from ...errors import DecodeError, StoreError
from ...model.entry import Entry, Freshness, is_valid
from ...model.named_tuple import NamedTuple
from ..glob import glob_regex
from ..protocol import Activity, Counts, CountsSource, Listed, Page, Size
from .connection import pack
from .counting import Counters
from .invalidating import CHUNK, Invalidator, Walk, chunks
from .journal import Journal
from .scripts import Argument, Call, load
from .server import Server
from .status import REPLIES, STATUS, status_of
from .steps import Ask, Steps

__all__ = ["RedisCatalogue"]

_HEAD_BYTES: Final = 2048
_LONGEST_HEAD: Final = 4 * 1024 * 1024
_SAMPLE: Final = 64
_ROWS_A_PAGE: Final = 5000
_SCANNED: Final = 100

#: As Redis writes the score of a row, or the beginning. Anything else would be an error of the script, and its error is
#: one of the server: it opens the breaker.
_SCORE: Final = re.compile(r"-?inf|[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e\+?[0-9]{1,3})?")


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


class RedisCatalogue:
    """What operators ask of one server. It changes nothing there.

    Args:
        server: the server.
        invalidator: walks over keys that match a pattern.
        codec: the envelope.
        counters: of all processes.
        journal: of this process's invalidations.

    Attributes:
        memory_tier: the state of the memory tier in front, where there is one.
    """

    def __init__(
        self, server: Server, invalidator: Invalidator, codec: Codec, counters: Counters, journal: Journal
    ) -> None:
        self._server: Final = server
        self._names: Final = server.names
        self._invalidator: Final = invalidator
        self._codec: Final = codec
        self._counters: Final = counters
        self._journal: Final = journal
        self._rows: Final = load("rows")
        self.memory_tier: Callable[[], dict[str, int]] | None = None

    @property
    def location(self) -> str:
        """See :attr:`Catalogue.location`."""
        return self._server.pool.location

    def entries(self, type_name: str | None, pattern: str | None) -> Iterator[Listed]:
        """See :meth:`Catalogue.entries`."""
        self._know_the_server()
        glob = pattern if pattern is not None else self._names.entries + "*"
        walk = Walk()
        while not walk.is_over:
            for name, keys in self._server.drive(self._invalidator.matching(glob, type_name, walk)):
                if type_name is None or type_name == name:
                    yield from self._listed(keys)

    def _know_the_server(self) -> None:
        """The facts come with a connection."""
        if not self._server.facts.name:
            self._server.replies(pack(("PING",)), 1)

    # --- Page by page

    def page(self, type_name: str | None, pattern: str | None, cursor: str | None, limit: int) -> Page:
        """See :meth:`Catalogue.page`: by expiry within a type, so what stays is listed whatever comes and goes.

        Where the server may evict the indexes it is SCAN that pages, with the promise that SCAN makes.
        """
        place = _Place() if cursor is None else _Place.loads(cursor)
        self._know_the_server()
        # A listing goes on as it began: a cursor of SCAN means nothing to an index, nor a row to SCAN.
        if not place.type_name and (place.scan or place.member or self._server.facts.evicts_anything):
            return self._scanned(type_name, pattern, place, limit)
        matches = None if pattern is None else glob_regex(pattern).fullmatch
        found: list[Listed] = []
        left = _ROWS_A_PAGE
        for name in [type_name] if type_name is not None else sorted(self._server.types()):
            if name < place.type_name:
                continue
            place = place if name == place.type_name else _Place(name)
            while rows := self._rows_after(place, limit - len(found) if matches is None else CHUNK):
                left -= len(rows)
                keys: list[str] = []
                for raw, score in rows:
                    place = _Place(name, score, raw)
                    member = self._names.stored_at(raw.decode(errors="replace"))  # a row that is no text leads nowhere
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
        flat = self._server.run([Call(self._rows, [self._names.index(place.type_name)], args)])[0]
        return [(key, score.decode()) for key, score in zip(flat[::2], flat[1::2], strict=True)]

    def _scanned(self, type_name: str | None, pattern: str | None, place: _Place, limit: int) -> Page:
        glob = pattern
        if glob is None:
            glob = self._names.entries + "*" if type_name is None else self._names.entry(type_name, "*")
        found: list[Listed] = []
        for _ in range(_ROWS_A_PAGE // _SCANNED):
            walk = pack(("SCAN", place.scan, "MATCH", self._names.place(glob), "COUNT", _SCANNED))
            reply = self._server.replies(walk, 1)[0]
            # By key, so that a page may end inside what one SCAN gave: the same cursor gives it again.
            for name, keys in self._invalidator.by_type(sorted(reply[1])):
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

    # --- Entries without their bodies

    def inspect(self, key: str) -> Listed | None:
        """See :meth:`Catalogue.inspect`."""
        return next(self._listed([key]), None)

    def _listed(self, keys: Sequence[str]) -> Iterator[Listed]:
        """Those of the keys that lead to a live entry; two or three round trips for all of them."""
        for chunk in chunks(keys):
            ask = [
                pack(("GETRANGE", key, 0, _HEAD_BYTES - 1)) + pack(("STRLEN", key))
                for key in map(self._names.place, chunk)
            ]
            *replies, now = self._server.patiently(b"".join(ask) + pack(("TIME",)), 2 * len(chunk) + 1)
            heads = {
                key: (head, size)
                for key, head, size in zip(chunk, replies[::2], replies[1::2], strict=True)
                if isinstance(head, bytes) and isinstance(size, int)  # else another kind of key lies under our name
            }
            entries = self._opened(heads)
            ordered = {key: entries[key] for key in heads if key in entries}
            yield from self._live(ordered, {key: size for key, (_, size) in heads.items()}, self._server.time_in(now))

    def _opened(self, heads: dict[str, tuple[bytes, int]]) -> dict[str, Entry]:
        """The entries, without their bodies; a second round trip for those with long headers or many tags."""
        found: dict[str, Entry] = {}
        longer: dict[str, int] = {}
        for key, (head, size) in heads.items():
            with suppress(DecodeError):
                entry, needed = self._codec.unseal_head(head, key)
                if not needed:
                    found[key] = entry
                elif needed <= min(size, _LONGEST_HEAD):
                    longer[key] = needed
        if longer:
            ask = b"".join(
                [pack(("GETRANGE", self._names.place(key), 0, needed - 1)) for key, needed in longer.items()]
            )
            for key, head in zip(longer, self._server.patiently(ask, len(longer)), strict=True):
                with suppress(DecodeError, TypeError):
                    entry, needed = self._codec.unseal_head(head, key)
                    if not needed:
                        found[key] = entry
        return found

    def _live(self, entries: dict[str, Entry], sizes: dict[str, int], now: int) -> Iterator[Listed]:
        """Those that no invalidation has made invalid, and that are not past their windows."""
        stamps = self._server.stamps(tuple({tag: None for entry in entries.values() for tag, _ in entry.tags}))
        if stamps is None:
            return
        for key, entry in entries.items():
            if not is_valid(entry, stamps.epoch, stamps.floor, stamps.forgotten, stamps.rows):
                continue
            if entry.freshness(now) is not Freshness.EXPIRED:
                yield Listed.of(key, entry, now=now, size=sizes[key])

    # --- How much there is, and how it is

    def sizes(self, types: Sequence[str]) -> dict[str, Size]:
        """See :meth:`Catalogue.sizes`."""
        return self._server.drive(self.sizes_steps(types))

    def sizes_steps(self, types: Sequence[str]) -> Steps[dict[str, Size]]:
        """See :meth:`sizes`: counted by the index; the bytes are those of a sample, times the number."""
        server = self._server
        names = sorted({*types, *(yield from server.types_steps())})
        if not names:
            return {}
        indexes = [self._names.index(name) for name in names]
        now_ms = server.time_in((yield Ask(pack(("TIME",)), 1))[0]) // 1000
        ask = [pack(("ZCOUNT", index, now_ms, "+inf")) + pack(("ZRANDMEMBER", index, _SAMPLE)) for index in indexes]
        replies = yield Ask(b"".join(ask), 2 * len(names))
        samples = [[] if isinstance(keys, Exception) else keys for keys in replies[1::2]]  # of another kind
        asked = [pack(("STRLEN", key)) for keys in samples for key in keys]
        lengths: Iterator[Any] = iter((yield Ask(b"".join(asked), len(asked))) if asked else ())
        sizes = {}
        for name, count, keys in zip(names, replies[::2], samples, strict=True):
            found = [length for length in (next(lengths) for _ in keys) if isinstance(length, int) and length]
            there = 0 if isinstance(count, Exception) else count
            sizes[name] = Size(there, round(there * sum(found) / len(found)) if found else 0)
        return sizes

    @property
    def missing(self) -> list[str]:
        """See :attr:`Catalogue.missing`."""
        return [] if self._server.breaker.outage is None else [self._server.pool.server or self.location]

    def state(self) -> dict[str, Any]:
        """See :meth:`Catalogue.state`."""
        server, status = self._server, self._status()
        return {
            "store": {
                "kind": "redis" if self.memory_tier is None else "tiered",
                "location": self.location,
                "server": status,
                "connections": server.pool.connections,
                "warnings": list(server.facts.warnings),
            },
            "topology": {**server.topology(), "nodes": [self._node(status)], "missing": self.missing},
            "memory_tier": None if self.memory_tier is None else self.memory_tier(),
            "bus": {"state": server.bus.state},
            "breaker": {"is_open": server.breaker.is_open, "incidents": server.breaker.incidents},
            "journal": {"pending": len(self._journal)},
        }

    def _node(self, status: dict[str, Any] | None) -> dict[str, Any]:
        """The one server, as the nodes of a cluster are shown: available or not, and since when (since 1970)."""
        server = self._server
        outage = server.breaker.outage
        return {
            "address": server.pool.server,
            "role": "master",
            "is_available": outage is None,
            "since": None if outage is None else outage.since,
            "connections": server.pool.connections,
            "generation": server.pool.generation,
            "server": status,
        }

    def _status(self) -> dict[str, Any] | None:
        """What the server says of itself now; ``None`` when it is away or does not say."""
        asked_at = time.time()
        try:
            return status_of(self._server.exchange(STATUS, REPLIES), asked_at)
        except StoreError:
            return None

    # --- What all processes recorded

    def activity(self) -> Activity | None:
        """See :meth:`Catalogue.activity`."""
        return self._counters.activity()

    def activity_steps(self) -> Steps[Activity]:
        """See :meth:`activity`."""
        return self._counters.activity_steps()

    def counts(self, types: Sequence[str]) -> Counts | None:
        """See :meth:`Catalogue.counts`."""
        return self._counters.counts(types)

    def count_from(self, source: CountsSource) -> None:
        """See :meth:`Catalogue.count_from`."""
        self._counters.count_from(source)
