"""Queues of writes on one Redis server: streams, each with one consumer at a time.

Owns the putting in (``behind.lua``), the taking out in the queue's order (``takes.lua``), the end of a write
(``applied.lua``), and the dead letters. Nothing that is not applied is ever trimmed. With keys the value, the key as it
was given and what went wrong are sealed, bound to the queue, the entry and its type. What a consumer does with writes
is ``writes``'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import ResponseError

from ...codec.envelope import Codec
from ...errors import SealError, StoreFullError
from ..queueing import Behind, DeadLetter, Queued, QueueState
from .bus import Message
from .connection import pack
from .invalidating import chunks
from .scripts import Argument, Call, load, stored_form
from .server import Server

__all__ = ["RedisQueues"]

_GROUP: Final = "writers"
_CONSUMER: Final = "writer"
_FIELD: Final = b"queue:"
#: Writes taken of which those are picked that were tried more than once.
_LOOKED_AT: Final = 100
#: Of a number of attempts; what has more, somebody else has put there.
_DIGITS: Final = 10


class RedisQueues:
    """The queues of one server.

    Args:
        server: where they are.
        codec: the envelope.
        max_stamps: rows of the stamp set kept at most.
    """

    def __init__(self, server: Server, codec: Codec, *, max_stamps: int) -> None:
        self._server: Final = server
        self._names: Final = server.names
        self._codec: Final = codec
        self._max_stamps: Final = max_stamps
        self._behind: Final = load("behind")
        self._takes: Final = load("takes")
        self._applied: Final = load("applied")
        self._requeue: Final = load("requeue")

    def enqueue(self, queue: str, writes: Sequence[Behind], limit: int) -> list[str]:
        """See :meth:`Queues.enqueue`."""
        server, names = self._server, self._names
        hazard = self.hazard()
        if hazard:
            raise StoreFullError(hazard)
        keys = [names.stamps, names.meta, names.queue(queue)]
        args: list[Argument] = [self._max_stamps, names.bus, queue, limit]
        size = sum(len(write.value) for write in writes)
        latest = server.drive(server.latest_steps(2 * size)) if self._codec.seals else 0
        for key, draft, given_key, value in writes:
            sealed = self._codec.seal(draft, key, as_of=None, created=latest)
            type_name = names.type_of(key)
            keys += (names.lease(key), names.place(key), names.index(type_name))
            about = queue, key, type_name
            given = self._codec.encrypt(given_key, "key", *about), self._codec.encrypt(value, "value", *about)
            args += (*stored_form(draft, None, type_name, sealed), *given)
            size += len(sealed)
        generation = server.pool.generation
        (reply,) = server.drive(server.run_in_time_steps([Call(self._behind, keys, args)], size=size, once=True))
        if reply[0] == b"full":
            raise StoreFullError(
                f"queue {queue!r} has {int(reply[1])} writes that are not applied, and RCACHE_WRITE_LIMIT is {limit}: "
                "run `flask cache writer`, or more of it"
            )
        epoch, clock, stamp, *ids = reply
        stored = tuple(write.key for write in writes)
        server.acknowledged(Message("k", int(epoch), int(stamp), int(clock), stored), generation)
        return [id.decode() for id in ids]

    def hazard(self) -> str:
        """See :meth:`Queues.hazard`."""
        server = self._server
        server.hear()  # who connects learns what the server may evict
        if not server.facts.evicts_anything:
            return ""
        return (
            f"{server.pool.location} may evict a queue of writes (maxmemory-policy "
            f"{server.facts.policy or 'unknown'}): set a volatile-* policy or noeviction"
        )

    def take(self, queue: str, token: str, most: int, *, seconds: float, after: str = "") -> list[Queued] | None:
        """See :meth:`Queues.take`."""
        keys = [self._names.queue(queue), self._names.queue_owner(queue)]
        args: list[Argument] = [token, int(seconds * 1000), _GROUP, most, after]
        state, _, *writes = self._server.run([Call(self._takes, keys, args)])[0]
        if state == b"busy":
            return None
        return [_queued(id, fields, int(times)) for id, times, *fields in writes]

    def opened(self, queue: str, write: Queued) -> Queued:
        """See :meth:`Queues.opened`."""
        about = queue, write.key, write.type
        return write._replace(
            given_key=self._codec.decrypt(write.given_key, "key", *about),
            value=self._codec.decrypt(write.value, "value", *about),
        )

    def settle(self, queue: str, token: str, writes: Sequence[tuple[Queued, str, int]]) -> bool:
        """See :meth:`Queues.settle`."""
        server, names = self._server, self._names
        for chunk in chunks(writes):
            keys = [names.stamps, names.queue(queue), names.queue_owner(queue), names.dead_letters(queue)]
            args: list[Argument] = [self._max_stamps, names.bus, _GROUP, token]
            for write, why, tried in chunk:
                keys += (names.lease(write.key), names.place(write.key), names.index(write.type))
                reason = why.encode("utf-8", "replace")[:2000]
                if reason:  # which may quote what it was about
                    reason = self._codec.encrypt(reason, "error", queue, write.key, write.type)
                args += (write.id, reason, tried)
            generation = server.pool.generation
            reply = server.run([Call(self._applied, keys, args)])[0]
            if reply[0] == b"busy":
                return False
            epoch, clock, stamp, _ = reply
            changed = tuple(write.key for write, _, _ in chunk)
            server.acknowledged(Message("k", int(epoch), int(stamp), int(clock), changed), generation)
        return True

    def tried(self, queue: str, writes: Sequence[Queued]) -> None:
        """See :meth:`Queues.tried`."""
        ids = [write.id for write in writes]
        if ids:
            payload = pack(("XCLAIM", self._names.queue(queue), _GROUP, _CONSUMER, 0, *ids))
            self._server.replies(payload, 1)

    def leave(self, queue: str, token: str) -> None:
        """See :meth:`Queues.leave`."""
        owner = self._names.queue_owner(queue)
        if self._server.replies(pack(("GET", owner)), 1)[0] == token.encode():
            self._server.replies(pack(("DEL", owner)), 1)

    def queue_names(self) -> list[str]:
        """See :meth:`Queues.queue_names`."""
        fields = self._server.exchange(pack(("HKEYS", self._names.meta)), 1)[0]
        if isinstance(fields, ResponseError):
            return []
        if isinstance(fields, Exception):
            raise self._server.pool.fail(fields)
        return sorted(field[len(_FIELD) :].decode() for field in fields if field.startswith(_FIELD))

    def queue_state(self, queue: str) -> QueueState:
        """See :meth:`Queues.queue_state`."""
        names = self._names
        stream = names.queue(queue)
        payload = [
            pack(("XLEN", stream)),
            pack(("XLEN", names.dead_letters(queue))),
            pack(("XRANGE", stream, "-", "+", "COUNT", 1)),
            pack(("GET", names.queue_owner(queue))),
            pack(("TIME",)),
            pack(("XPENDING", stream, _GROUP)),
        ]
        *replies, pending = self._server.exchange(b"".join(payload), len(payload))
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._server.pool.fail(reply)
        length, dead, first, owner, now = replies
        oldest = 0.0
        if first:
            oldest = max(0.0, self._server.time_in(now) / 1e6 - int(first[0][0].split(b"-")[0]) / 1e3)
        return QueueState(
            queue,
            length=int(length),
            pending=0 if isinstance(pending, Exception) else int(pending[0]),  # no consumer has ever had it
            dead=int(dead),
            oldest=oldest,
            consumer="" if owner is None else owner.decode("utf-8", "replace"),
        )

    def retried(self, queue: str) -> list[Queued]:
        """See :meth:`Queues.retried`."""
        stream = self._names.queue(queue)
        taken = self._server.exchange(pack(("XPENDING", stream, _GROUP, "-", "+", _LOOKED_AT)), 1)[0]
        if isinstance(taken, ResponseError):  # no consumer has ever had it
            return []
        if isinstance(taken, Exception):
            raise self._server.pool.fail(taken)
        again = [(id, int(tries)) for id, _, _, tries in taken if int(tries) > 1]
        if not again:
            return []
        payload = b"".join(pack(("XRANGE", stream, id, id)) for id, _ in again)
        found = self._server.replies(payload, len(again))
        return [
            _queued(id, messages[0][1], tries) for (id, tries), messages in zip(again, found, strict=True) if messages
        ]

    def dead_letters(self, queue: str, most: int = 100) -> list[DeadLetter]:
        """See :meth:`Queues.dead_letters`."""
        payload = pack(("XRANGE", self._names.dead_letters(queue), "-", "+", "COUNT", most))
        letters = []
        for id, fields in self._server.replies(payload, 1)[0]:
            known = _fields(fields)
            tried = known.get(b"attempts", b"")
            attempts = int(tried) if tried.isdigit() and len(tried) < _DIGITS else 0
            write, error = _queued(id, fields, attempts), known.get(b"error", b"")
            try:
                error = self._codec.decrypt(error, "error", queue, write.key, write.type)
            except SealError as problem:
                error = f"(the reason cannot be read: {problem})".encode()
            with suppress(SealError):  # else it is listed as it lies there
                write = self.opened(queue, write)
            letters.append(DeadLetter(id.decode(), write, error.decode("utf-8", "replace"), attempts))
        return letters

    def requeue(self, queue: str, ids: Sequence[str]) -> int:
        """See :meth:`Queues.requeue`."""
        keys = [self._names.queue(queue), self._names.dead_letters(queue)]
        return sum(
            int(reply[0])
            for reply in self._server.run([Call(self._requeue, keys, list(chunk)) for chunk in chunks(ids)])
        )

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        """See :meth:`Queues.drop`."""
        if not ids:
            return 0
        return int(self._server.replies(pack(("XDEL", self._names.dead_letters(queue), *ids)), 1)[0])


def _fields(flat: Sequence[bytes]) -> Mapping[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _queued(id: bytes, fields: Sequence[Any], deliveries: int) -> Queued:
    known = _fields(fields)
    return Queued(
        id=id.decode(),
        write_id=known.get(b"id", id).decode("utf-8", "replace"),
        key=known.get(b"entry", b"").decode("utf-8", "replace"),
        type=known.get(b"type", b"").decode("utf-8", "replace"),
        given_key=known.get(b"key", b""),
        value=known.get(b"value", b""),
        deliveries=deliveries,
    )
