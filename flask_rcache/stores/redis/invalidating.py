"""Invalidating on one server: stamps, deletions and patterns, acknowledged or journalled (R1.3, R4.2, Outages 4).

Owns the sending of what :class:`~.journal.Invalidation` says, over whichever exchange: the caller's, or the one that
delivers the journal before anything is trusted again. Nothing here has a deadline: an invalidation is right at any
time. Owns the freeing of the space that invalidations leave behind, too.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final, TypeVar

import ormsgpack

from ...codec.envelope import MAGIC
from ...errors import ConfigError
from ...model import forks
from ...model.keys import FLOOR, Names, type_tag
from .bus import Message
from .connection import Exchange, pack
from .journal import Invalidation
from .scripts import Argument, Call, load
from .server import Server

__all__ = ["CHUNK", "Invalidator", "Reclaim", "chunks"]

CHUNK: Final = 500  # keys a script call: bounds the server's stall and Lua's stack
_SCANNED: Final = 1000
#: How envelopes of every version begin.
_MAGIC: Final = MAGIC[:3]

T = TypeVar("T")


def chunks(items: Sequence[T]) -> list[Sequence[T]]:
    """The items in parts that one script call takes."""
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]


class Reclaim:
    """Space that an invalidation has set free.

    Args:
        index: where the entries are listed.
        before: only those whose load began before this reading go.
        is_aside: whether the index was moved aside, so that all of it goes; else it is in use.
    """

    __slots__ = ("before", "cursor", "index", "is_aside")

    def __init__(self, index: str, before: int, *, is_aside: bool) -> None:
        self.index: Final = index
        self.before: Final = before
        self.is_aside: Final = is_aside
        self.cursor = b"0"


class Invalidator:
    """Sends invalidations to a server.

    Args:
        server: where they go.
        max_stamps: rows of its stamp set kept at most.
    """

    def __init__(self, server: Server, *, max_stamps: int) -> None:
        self._server: Final = server
        self._names: Final[Names] = server.names
        self._max_stamps: Final = max_stamps
        self._stamp: Final = load("invalidate")
        self._ahead: Final = load("ahead")
        self._aside: Final = load("aside")
        self._delete: Final = load("delete")
        self._reclaim: Final = load("reclaim")
        self._lock: Final = forks.new_lock()
        self._reclaims: Final[list[Reclaim]] = []

    def send(self, invalidation: Invalidation, exchange: Exchange) -> int:
        """Send all of an invalidation; the number of entries that it removed, an upper bound."""
        removed = 0
        if invalidation.everything or invalidation.tags or invalidation.types:
            removed += self.invalidate(
                invalidation.tags, invalidation.types, everything=invalidation.everything, exchange=exchange
            )
        if invalidation.keys:
            removed += self.delete(invalidation.keys, exchange, is_stamped=True)
        if invalidation.removed:
            removed += self.delete(invalidation.removed, exchange, is_stamped=False)
        for pattern, type_name in invalidation.patterns:
            removed += self.invalidate_pattern(pattern, type_name, exchange)
        return removed

    # --- Tags, types, everything

    def invalidate(self, tags: Sequence[str], types: Sequence[str], *, everything: bool, exchange: Exchange) -> int:
        """Stamp tags and types, or raise the floor; the live entries of the types."""
        live = 0
        if everything:
            live += self._invalidate("*", (), sorted(self._server.types(exchange)), exchange)
        for chunk in chunks(types):
            live += self._invalidate("t", tuple(map(type_tag, chunk)), chunk, exchange)
        for chunk in chunks(tags):
            live += self._invalidate("t", chunk, (), exchange)
        return live

    def _invalidate(self, kind: str, members: Sequence[str], types: Sequence[str], exchange: Exchange) -> int:
        """One stamping; after it, in the same write, the indexes of the types are moved aside."""
        names, generation = self._names, self._server.pool.generation
        calls = [Call(self._stamp, [names.stamps], [names.bus, kind, self._max_stamps, *members])]
        for name in types:
            index = names.index(name)
            aside = f"{index}~{secrets.token_hex(8)}"
            stamped = FLOOR if kind == "*" else type_tag(name)
            calls.append(Call(self._aside, [names.stamps, index, aside], [stamped]))
        (epoch, clock, stamp), *moved = self._server.run(calls, exchange)
        message = Message(kind, int(epoch), int(stamp), int(clock), tuple(members))
        self._server.acknowledged(message, generation)
        live = 0
        for call, (was_moved, count) in zip(calls[1:], moved, strict=True):
            live += count
            if was_moved:
                self._later(Reclaim(call.keys[2], message.stamp, is_aside=True))
            elif count:
                self._later(Reclaim(call.keys[1], message.stamp, is_aside=False))
        return live

    # --- Commits

    def renewals(self, tags: Sequence[str], token: str, *, seconds: float, epoch: int) -> list[Call]:
        """The calls that renew what lies ahead of the clock for a commit.

        Args:
            tags: what it invalidates.
            token: of the commit.
            seconds: how far ahead.
            epoch: what :meth:`set_ahead` returned.
        """
        return self._of_commit("a", tags, token, seconds=seconds, epoch=epoch)

    def _of_commit(
        self, kind: str, tags: Sequence[str], token: str, *, seconds: float = 0.0, epoch: int = 0
    ) -> list[Call]:
        names = self._names
        ahead: list[Argument] = [names.bus, kind, self._max_stamps, token, int(seconds * 1000), epoch]
        return [Call(self._ahead, [names.stamps], [*ahead, *chunk]) for chunk in chunks(tags)]

    def set_ahead(self, tags: Sequence[str], token: str, *, seconds: float, exchange: Exchange) -> int:
        """Set tags ahead of the clock for a commit; the epoch of the set, 0 when it is lost."""
        return self._run_of_commit(self._of_commit("a", tags, token, seconds=seconds), exchange, kind="t")

    def end_commit(self, tags: Sequence[str], token: str, exchange: Exchange, *, withdrawn: bool) -> None:
        """A commit is over: stamp the tags, unless nothing was committed; what others have set ahead stays."""
        self._run_of_commit(self._of_commit("w" if withdrawn else "s", tags, token), exchange, kind="s")

    def _run_of_commit(self, calls: Sequence[Call], exchange: Exchange, *, kind: str) -> int:
        """Run such calls; this process's memory tier has the rows before it returns the epoch."""
        generation, epoch = self._server.pool.generation, 0
        for call, (epoch, clock, *rows) in zip(calls, self._server.run(calls, exchange), strict=True):
            by_row: dict[int, list[str]] = {}
            tags = call.args[6:]
            for tag, row in zip(tags, rows or [clock] * len(tags), strict=True):
                by_row.setdefault(int(row), []).append(str(tag))
            for row, group in by_row.items():
                message = Message(kind if int(epoch) else "t", int(epoch), row, int(clock), tuple(group))
                self._server.acknowledged(message, generation)
        return int(epoch)

    # --- Keys

    def delete(self, keys: Sequence[str], exchange: Exchange, *, is_stamped: bool) -> int:
        """Remove keys, and stamp them or not; the number that were there."""
        names, generation = self._names, self._server.pool.generation
        calls = []
        for chunk in chunks(keys):
            parts = [(names.lease(key), key, names.index(names.type_of(key))) for key in chunk]
            calls.append(
                Call(
                    self._delete,
                    [names.stamps, *chain.from_iterable(parts)],
                    [names.bus, self._max_stamps, int(is_stamped), "", 0],
                )
            )
        removed = 0
        for chunk, (epoch, clock, stamp, count) in zip(chunks(keys), self._server.run(calls, exchange), strict=True):
            message = Message("k", int(epoch), int(stamp), int(clock), tuple(chunk))
            self._server.acknowledged(message, generation)
            removed += count
        return removed

    # --- Patterns

    def invalidate_pattern(self, pattern: str, type_name: str | None, exchange: Exchange) -> int:
        """Raise the barrier, so that loads in flight are refused; then remove what matches."""
        server, names = self._server, self._names
        generation = server.pool.generation
        barrier = Call(self._stamp, [names.stamps], [names.bus, "b", self._max_stamps])
        epoch, clock, stamp = map(int, server.run([barrier], exchange)[0])
        # The policy may have been changed while the connection was kept; what is not to be learnt counts as the worst.
        server.facts = replace(server.facts, policy=_policy(exchange(pack(("INFO", "memory")), 1)[0]))
        freed = 0
        for found_type, found in self.matching(pattern, type_name, exchange):
            call = Call(self._reclaim, [names.index(found_type)], [stamp + 1, _MAGIC, *found])
            freed += server.run([call], exchange)[0][1]
        packed = ormsgpack.packb(["p", str(epoch), str(stamp), str(clock), [pattern]])
        server.replies(pack(("PUBLISH", names.bus, packed)), 1, exchange)
        server.acknowledged(Message("p", epoch, stamp, clock, (pattern,)), generation)
        return freed

    def matching(self, pattern: str, type_name: str | None, exchange: Exchange) -> Iterator[tuple[str, list[str]]]:
        """Stored keys that match a glob, in chunks of one type: by the indexes, or by all keys where those may go."""
        server = self._server
        types: Collection[str] = (
            () if server.facts.evicts_anything else [type_name] if type_name else server.types(exchange)
        )
        if server.facts.evicts_anything or not self._are_indexes(types, exchange):
            for keys in self._walk(("SCAN",), pattern, exchange):
                yield from self.by_type(keys)
            return
        for name in sorted(types):
            for rows in self._walk(("ZSCAN", self._names.index(name)), pattern, exchange):
                for chunk in chunks(rows[::2]):
                    yield name, [key.decode(errors="replace") for key in chunk]  # a foreign row leads nowhere

    def _are_indexes(self, types: Collection[str], exchange: Exchange) -> bool:
        """Whether nothing of another kind lies where the indexes of these types belong."""
        ask = b"".join([pack(("ZCARD", self._names.index(name))) for name in types])
        return not types or all(isinstance(rows, int) for rows in exchange(ask, len(types)))

    def by_type(self, keys: Sequence[bytes]) -> Iterator[tuple[str, list[str]]]:
        """Those keys that are stored keys of this cache, in chunks of one type."""
        grouped: dict[str, list[str]] = {}
        for key in keys:
            try:
                text = key.decode()
                grouped.setdefault(self._names.split(text)[0], []).append(text)
            except (ConfigError, UnicodeDecodeError):  # none of ours
                continue
        for name, group in grouped.items():
            for chunk in chunks(group):
                yield name, list(chunk)

    def _walk(self, command: tuple[str, ...], pattern: str, exchange: Exchange) -> Iterator[list[Any]]:
        cursor = b"0"
        while True:
            walk = pack((*command, cursor, "MATCH", pattern, "COUNT", _SCANNED))
            cursor, rows = self._server.replies(walk, 1, exchange)[0]
            if rows:
                yield rows
            if int(cursor) == 0:
                return

    # --- Space

    @property
    def has_space_to_free(self) -> bool:
        """Whether :meth:`reclaim` has something to do."""
        return bool(self._reclaims)

    def _later(self, reclaim: Reclaim) -> None:
        with self._lock:
            self._reclaims.append(reclaim)

    def reclaim(self, exchange: Exchange) -> None:
        """Free one chunk of what invalidations have made unusable; off the request path."""
        if not self._reclaims:
            return
        task = self._reclaims[0]
        if self._free(task, exchange):
            with self._lock:
                self._reclaims.remove(task)

    def _free(self, task: Reclaim, exchange: Exchange) -> bool:
        """Free a chunk; whether it was the last."""
        server = self._server
        if task.is_aside:
            looked_at, _ = server.run([Call(self._reclaim, [task.index], [task.before, _MAGIC])], exchange)[0]
            return bool(looked_at < CHUNK)
        reply = exchange(pack(("ZSCAN", task.index, task.cursor, "COUNT", CHUNK)), 1)[0]
        if isinstance(reply, Exception):  # of another kind: it heals with the next fill
            return True
        task.cursor, rows = reply
        for chunk in chunks(rows[::2]):
            server.run([Call(self._reclaim, [task.index], [task.before, _MAGIC, *chunk])], exchange)
        return int(task.cursor) == 0


def _policy(memory: Any) -> str:
    """The maxmemory-policy in a reply to ``INFO memory``; empty when it does not say."""
    if isinstance(memory, bytes | str):
        text = memory.decode("utf-8", "replace") if isinstance(memory, bytes) else memory
        for line in text.splitlines():
            if line.startswith("maxmemory_policy:"):
                return line.partition(":")[2].strip()
    return ""
