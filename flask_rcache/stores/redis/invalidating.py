"""Invalidating on one server: stamps, deletions and patterns, acknowledged or journalled (R1.3, R4.2, Outages 4).

Owns the sending of what :class:`~.journal.Invalidation` says, in steps: for a caller, or for who delivers the journal
before anything is trusted again. Nothing here has a deadline: an invalidation is right at any
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
from ...model.keys import FLOOR, Names, key_tag, type_tag
from .bus import Message
from .connection import RedirectError, pack
from .journal import Invalidation
from .scripts import Argument, Call, load, run_steps
from .server import Server
from .steps import Ask, Steps

__all__ = ["CHUNK", "Invalidator", "Reclaim", "Walk", "chunks"]

CHUNK: Final = 500  # keys a script call: bounds the server's stall and Lua's stack
_SCANNED: Final = 1000
#: How envelopes of every version begin.
_MAGIC: Final = MAGIC[:3]

T = TypeVar("T")


def chunks(items: Sequence[T]) -> list[Sequence[T]]:
    """The items in parts that one script call takes."""
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]


class Walk:
    """How far a walk over keys is; see :meth:`Invalidator.matching`."""

    __slots__ = ("cursor", "is_over", "types")

    def __init__(self) -> None:
        #: The types whose indexes are left; an empty name is all keys. ``None`` before it begins.
        self.types: list[str] | None = None
        self.cursor = b"0"
        self.is_over = False


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
        self._void: Final = load("void")
        self._reclaim: Final = load("reclaim")
        self._lock: Final = forks.new_lock()
        self._reclaims: Final[list[Reclaim]] = []

    def send(self, invalidation: Invalidation) -> Steps[int]:
        """Send all of an invalidation; the number of entries that it removed, an upper bound."""
        removed = 0
        if invalidation.everything or invalidation.tags or invalidation.types:
            removed += yield from self.invalidate(
                invalidation.tags, invalidation.types, everything=invalidation.everything
            )
        if invalidation.keys:
            removed += yield from self.delete(invalidation.keys, is_stamped=True)
        if invalidation.removed:
            removed += yield from self.delete(invalidation.removed, is_stamped=False)
        for pattern, type_name in invalidation.patterns:
            removed += yield from self.invalidate_pattern(pattern, type_name)
        return removed

    # --- Tags, types, everything

    def invalidate(self, tags: Sequence[str], types: Sequence[str], *, everything: bool) -> Steps[int]:
        """Stamp tags and types, or raise the floor; the live entries of the types."""
        live = 0
        if everything:
            known = yield from self._server.types_steps()
            live += yield from self._invalidate("*", (), sorted(known))
        for chunk in chunks(types):
            live += yield from self._invalidate("t", tuple(map(type_tag, chunk)), chunk)
        for chunk in chunks(tags):
            live += yield from self._invalidate("t", chunk, ())
        return live

    def _invalidate(self, kind: str, members: Sequence[str], types: Sequence[str]) -> Steps[int]:
        """One stamping; after it, in the same write, the indexes of the types are moved aside."""
        server, names, generation = self._server, self._names, self._server.pool.generation
        calls = [Call(self._stamp, [names.stamps], [names.bus, kind, self._max_stamps, *members])]
        for name in types:
            index = names.index(name)
            aside = f"{index}~{secrets.token_hex(8)}"
            stamped = FLOOR if kind == "*" else type_tag(name)
            calls.append(Call(self._aside, [names.stamps, index, aside], [stamped]))
        stamped_at, *moved = yield from run_steps(calls)
        for reply in (stamped_at, *moved):
            # While a slot migrates a script of several keys has to wait: the index stays where it is.
            if isinstance(reply, Exception) and (reply is stamped_at or not isinstance(reply, RedirectError)):
                raise server.pool.fail(reply)
        epoch, clock, stamp = map(int, stamped_at)
        server.acknowledged(Message(kind, epoch, stamp, clock, tuple(members)), generation)
        live = 0
        for call, reply in zip(calls[1:], moved, strict=True):
            was_moved, count = (0, 0) if isinstance(reply, Exception) else reply
            live += count
            if was_moved:
                self._later(Reclaim(call.keys[2], stamp, is_aside=True))
            elif count:
                self._later(Reclaim(call.keys[1], stamp, is_aside=False))
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

    def set_ahead(self, tags: Sequence[str], token: str, *, seconds: float) -> Steps[int]:
        """Set tags ahead of the clock for a commit; the epoch of the set, 0 when it is lost."""
        epoch = yield from self._run_of_commit(self._of_commit("a", tags, token, seconds=seconds), kind="t")
        return epoch

    def end_commit(self, tags: Sequence[str], token: str, *, withdrawn: bool) -> Steps[None]:
        """A commit is over: stamp the tags, unless nothing was committed; what others have set ahead stays."""
        yield from self._run_of_commit(self._of_commit("w" if withdrawn else "s", tags, token), kind="s")

    def _run_of_commit(self, calls: Sequence[Call], *, kind: str) -> Steps[int]:
        """Run such calls; this process's memory tier has the rows before it returns the epoch."""
        generation, epoch = self._server.pool.generation, 0
        replies = yield from self._server.run_steps(calls)
        for call, (epoch, clock, *rows) in zip(calls, replies, strict=True):
            by_row: dict[int, list[str]] = {}
            tags = call.args[6:]
            for tag, row in zip(tags, rows or [clock] * len(tags), strict=True):
                by_row.setdefault(int(row), []).append(str(tag))
            for row, group in by_row.items():
                message = Message(kind if int(epoch) else "t", int(epoch), row, int(clock), tuple(group))
                self._server.acknowledged(message, generation)
        return int(epoch)

    # --- Keys

    def delete(self, keys: Sequence[str], *, is_stamped: bool) -> Steps[int]:
        """Remove keys, and stamp them or not; the number that were there."""
        names, generation = self._names, self._server.pool.generation
        calls = []
        for chunk in chunks(keys):
            parts = [(names.lease(key), names.place(key), names.index(names.type_of(key))) for key in chunk]
            calls.append(
                Call(
                    self._delete,
                    [names.stamps, *chain.from_iterable(parts)],
                    [names.bus, self._max_stamps, int(is_stamped), "", 0],
                )
            )
        removed = 0
        replies = yield from run_steps(calls)
        for chunk, reply in zip(chunks(keys), replies, strict=True):
            if isinstance(reply, RedirectError):
                removed += yield from self._delete_singly(chunk, is_stamped=is_stamped)
                continue
            if isinstance(reply, Exception):
                raise self._server.pool.fail(reply)
            epoch, clock, stamp, count = map(int, reply)
            self._server.acknowledged(Message("k", epoch, stamp, clock, tuple(chunk)), generation)
            removed += count
        return removed

    def _delete_singly(self, keys: Sequence[str], *, is_stamped: bool) -> Steps[int]:
        """The same by commands of one key each: while a slot migrates a script of several keys would have to wait.

        The keys are stamped first, so that no load under way brings back what is removed then.
        """
        server, names, generation = self._server, self._names, self._server.pool.generation
        if is_stamped:
            call = Call(self._stamp, [names.stamps], [names.bus, "t", self._max_stamps, *map(key_tag, keys)])
            epoch, clock, stamp = map(int, (yield from server.run_steps([call]))[0])
        else:
            stamps = yield from server.stamps_steps(())
            epoch, clock = (0, 0) if stamps is None else (stamps.epoch, stamps.clock)
            stamp = clock
        yield from server.run_steps([Call(self._void, [names.lease(key)], []) for key in keys])
        each = [pack(("UNLINK", names.place(key))) for key in keys]
        answers = yield from server.replies_steps(b"".join(each), len(keys))
        message = Message("k", epoch, stamp, clock, tuple(keys))
        yield from server.replies_steps(_published(names.bus, message), 1)
        server.acknowledged(message, generation)
        return sum(answers)

    # --- Patterns

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> Steps[int]:
        """Raise the barrier, so that loads in flight are refused; then remove what matches."""
        server, names = self._server, self._names
        generation = server.pool.generation
        barrier = Call(self._stamp, [names.stamps], [names.bus, "b", self._max_stamps])
        replies = yield from server.run_steps([barrier], patient=True)
        epoch, clock, stamp = map(int, replies[0])
        # The policy may have been changed while the connection was kept; what is not to be learnt counts as the worst.
        memory = yield Ask(pack(("INFO", "memory")), 1, patient=True)
        server.facts = replace(server.facts, policy=_policy(memory[0]))
        freed = 0
        walk = Walk()
        while not walk.is_over:
            for found_type, found in (yield from self.matching(pattern, type_name, walk)):
                index, places = names.index(found_type), map(names.place, found)
                call = Call(self._reclaim, [index], [stamp + 1, _MAGIC, *places])
                replies = yield from server.run_steps([call], patient=True)
                freed += replies[0][1]
        message = Message("p", epoch, stamp, clock, (pattern,))
        yield from server.replies_steps(_published(names.bus, message), 1, patient=True)
        server.acknowledged(message, generation)
        return freed

    def matching(self, pattern: str, type_name: str | None, walk: Walk) -> Steps[list[tuple[str, list[str]]]]:
        """Some more stored keys that match a glob, in chunks of one type: by the indexes, or by all keys.

        Args:
            pattern: the glob.
            type_name: the type it is confined to, if any.
            walk: how far the walk is; a new one at its beginning.
        """
        server = self._server
        if walk.types is None:
            types: Collection[str] = ()
            if not server.facts.evicts_anything:
                types = [type_name] if type_name else (yield from server.types_steps())
            are_indexes = not server.facts.evicts_anything and (yield from self._are_indexes(types))
            walk.types = sorted(types) if are_indexes else [""]
            if not walk.types:
                walk.is_over = True
                return []
        name = walk.types[0]
        command = ("ZSCAN", self._names.index(name)) if name else ("SCAN",)
        ask = pack((*command, walk.cursor, "MATCH", self._names.place(pattern), "COUNT", _SCANNED))
        replies = yield from server.replies_steps(ask, 1, patient=True)
        walk.cursor, rows = replies[0]
        if int(walk.cursor) == 0:
            del walk.types[0]
            walk.is_over = not walk.types
        if not name:
            return list(self.by_type(rows))
        places = [key.decode(errors="replace") for key in rows[::2]]  # a foreign row leads nowhere
        return [(name, list(map(self._names.stored_at, chunk))) for chunk in chunks(places)]

    def _are_indexes(self, types: Collection[str]) -> Steps[bool]:
        """Whether nothing of another kind lies where the indexes of these types belong."""
        if not types:
            return True
        ask = b"".join([pack(("ZCARD", self._names.index(name))) for name in types])
        answers = yield Ask(ask, len(types), patient=True)
        return all(isinstance(rows, int) for rows in answers)

    def by_type(self, keys: Sequence[bytes]) -> Iterator[tuple[str, list[str]]]:
        """Those keys at which something stored by this cache may lie, in chunks of one type."""
        grouped: dict[str, list[str]] = {}
        for key in keys:
            try:
                text = self._names.stored_at(key.decode())
                grouped.setdefault(self._names.split(text)[0], []).append(text)
            except (ConfigError, UnicodeDecodeError):  # none of ours
                continue
        for name, group in grouped.items():
            for chunk in chunks(group):
                yield name, list(chunk)

    # --- Space

    @property
    def has_space_to_free(self) -> bool:
        """Whether :meth:`reclaim` has something to do."""
        return bool(self._reclaims)

    def _later(self, reclaim: Reclaim) -> None:
        with self._lock:
            self._reclaims.append(reclaim)

    def reclaim(self) -> Steps[None]:
        """Free one chunk of what invalidations have made unusable; off the request path."""
        if not self._reclaims:
            return
        task = self._reclaims[0]
        if (yield from self._free(task)):
            with self._lock:
                self._reclaims.remove(task)

    def _free(self, task: Reclaim) -> Steps[bool]:
        """Free a chunk; whether it was the last."""
        server = self._server
        if task.is_aside:
            replies = yield from server.run_steps([Call(self._reclaim, [task.index], [task.before, _MAGIC])])
            return bool(replies[0][0] < CHUNK)
        reply = (yield Ask(pack(("ZSCAN", task.index, task.cursor, "COUNT", CHUNK)), 1))[0]
        if isinstance(reply, Exception):  # of another kind: it heals with the next fill
            return True
        task.cursor, rows = reply
        for chunk in chunks(rows[::2]):
            yield from server.run_steps([Call(self._reclaim, [task.index], [task.before, _MAGIC, *chunk])])
        return int(task.cursor) == 0


def _published(bus: str, message: Message) -> bytes:
    """A message as a command that publishes it."""
    kind, *numbers, names = message
    return pack(("PUBLISH", bus, ormsgpack.packb([kind, *map(str, numbers), list(names)])))


def _policy(memory: Any) -> str:
    """The maxmemory-policy in a reply to ``INFO memory``; empty when it does not say."""
    if isinstance(memory, bytes | str):
        text = memory.decode("utf-8", "replace") if isinstance(memory, bytes) else memory
        for line in text.splitlines():
            if line.startswith("maxmemory_policy:"):
                return line.partition(":")[2].strip()
    return ""
