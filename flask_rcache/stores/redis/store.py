"""The Redis store: rules R1 to R4 on a Redis or Valkey server that all processes share.

Owns the loading half of the protocol, and puts the parts together: reading is ``reading``'s, invalidating
``invalidating``'s, what operators ask ``listing``'s, what happens off the request path ``maintenance``'s, the exchange
with the server ``server``'s. The names are ``keys``'s, the bytes ``codec``'s. Needs Redis 6.2 or Valkey.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ...codec.envelope import Codec
from ...config.address import parse_address
from ...errors import CodecError, StoreError
from ...model.entry import Draft, Moment, StoredResponse
from ...model.keys import Names, key_tag
from ...model.named_tuple import NamedTuple
from ..lru import Checked
from ..protocol import (
    Begin,
    Begun,
    Filled,
    Incident,
    Lease,
    LoadedResult,
    Lookup,
    Outcome,
    Seized,
    Want,
)
from ..validity import Validity
from .breaker import Breaker
from .budget import request_scope
from .bus import Bus, Listener, Message, Subscription
from .connection import Exchange
from .counting import Counters
from .housekeeper import Housekeeper
from .invalidating import Invalidator, chunks
from .journal import Invalidation, Journal
from .listing import RedisCatalogue
from .maintenance import Maintenance
from .pool import Pool
from .queues import RedisQueues
from .reading import Reader
from .scripts import Argument, Call, load, stored_form
from .server import Server
from .steps import Steps
from .topology import Endpoint, Topology, endpoint_of
from .transport import Connect, Transport
from .uploads import Room, Upload, Uploads

__all__ = ["Membership", "RedisStore"]

_ANSWERS: Final = {b"+": Begin.GRANTED, b"=": Begin.FILLED, b"-": Begin.BUSY, b"?": Begin.UNSTORABLE}
#: A moment as scripts take it, of no stamp set there is; and that of the call.
_NEVER: Final = ("0", 1, 0)
_AT_THE_CALL: Final = ("", 0, 0)
#: Bytes of a fill that is sent after the answer.
_LARGE: Final = 256 * 1024


class Membership(NamedTuple):
    """What makes a store one shard of a cluster.

    Args:
        shards: of how many it is one.
        connect: makes what it is asked over.
        subscribe: makes the subscription to its invalidations.
        housekeeper: of all shards.
        room: for what is sent after the answer, of all shards.
    """

    shards: int
    connect: Connect
    subscribe: Callable[[Transport, str, Listener], Subscription]
    housekeeper: Housekeeper
    room: Room


class RedisStore:
    """A store on one Redis or Valkey server, or on one shard of a cluster.

    Args:
        url: where it is.
        names: the key names.
        codec: the envelope.
        timeout: seconds to wait for an answer; one request waits twice as long in all at most.
        lease: seconds a lease holds without being renewed.
        load_timeout: seconds after which the lease of a load that still runs is no longer renewed.
        cold: whether what another server run left behind is given up (a restart, a failover).
        max_stamps: rows of the stamp set kept at most.
        idle_timeout: seconds after which a connection that nobody uses is closed.
        max_connections: how many there may be.
        journal_keep: seconds for which acknowledged invalidations are kept, to be sent to a server that takes over.
        options: for redis-py.
        sentinel_options: for redis-py's connections to the sentinels.
        ahead: seconds by which stamps lie ahead of the clock during a commit, without being renewed.
        member: what makes it one shard of a cluster; then ``names`` are the shard's.

    Attributes:
        server: what is asked, and how.
        maintenance: what is done off the request path.
        catalogue: the operators' half.
        queues: of writes that are not applied yet.
        drive: runs steps on the server.
        read: see :meth:`Store.read`.
        read_many: see :meth:`Store.read_many`.
    """

    def __init__(
        self,
        url: str,
        *,
        names: Names,
        codec: Codec,
        timeout: float = 0.25,
        lease: float = 5.0,
        load_timeout: float = 30.0,
        cold: bool = True,
        max_stamps: int = 100_000,
        idle_timeout: float = 30.0,
        max_connections: int = 512,
        journal_keep: float = 60.0,
        options: Mapping[str, Any] | None = None,
        sentinel_options: Mapping[str, Any] | None = None,
        ahead: float = 5.0,
        member: Membership | None = None,
    ) -> None:
        self._names: Final = names
        self._codec: Final = codec
        self._lease: Final = lease
        self._lease_ms: Final = max(1, int(lease * 1000))
        self._max_stamps: Final = max_stamps
        journal = self._journal = Journal(keep=journal_keep)
        housekeeper = Housekeeper(name="flask_rcache-maintenance") if member is None else member.housekeeper
        topology: Topology | None = None
        if member is None:
            topology = endpoint = endpoint_of(
                parse_address(url, "RCACHE_URL"), timeout=timeout, options=options, sentinel_options=sentinel_options
            )
            connect = _pooled(endpoint, timeout=timeout, idle_timeout=idle_timeout, max_connections=max_connections)
        else:
            connect = member.connect
        self._server: Final = Server(
            topology,
            names=names,
            cold=cold,
            journal=journal,
            housekeeper=housekeeper,
            connect=connect,
            subscribe=Bus if member is None else member.subscribe,
            shards=1 if member is None else member.shards,
        )
        self.server: Final = self._server
        self.drive: Final = self._server.drive
        self._invalidator: Final = Invalidator(self._server, max_stamps=max_stamps)
        self._reader: Final = Reader(self._server, codec)
        counters = Counters(self._server)
        self._maintenance: Final = Maintenance(
            self._server,
            self._invalidator,
            journal,
            housekeeper,
            counters,
            lease=lease,
            load_timeout=load_timeout,
            max_stamps=max_stamps,
            ahead=ahead,
            is_alone=member is None,
        )
        self.maintenance: Final = self._maintenance
        self.catalogue: Final = RedisCatalogue(self._server, self._invalidator, codec, counters, journal)
        self.queues: Final = (RedisQueues(self._server, codec, max_stamps=max_stamps),)
        self._uploads: Final = Uploads(Room() if member is None else member.room)
        self.read: Final = self._reader.read
        self.read_many: Final = self._reader.read_many
        self._begin: Final = load("begin")
        self._fill: Final = load("fill")
        self._write: Final = load("write")
        self._release: Final = load("release")
        self._delete: Final = load("delete")

    # --- What it is, and how it is

    @property
    def lease_seconds(self) -> float:
        """See :attr:`Store.lease_seconds`."""
        return self._lease

    @property
    def incident(self) -> Incident | None:
        """See :attr:`Store.incident`."""
        return self._server.breaker.incident

    @property
    def outage(self) -> Incident | None:
        """The present incident when the server is not asked."""
        return self._server.breaker.outage

    @property
    def moment(self) -> Moment | None:
        """See :attr:`Store.moment`."""
        return self._server.moment

    def hear(self) -> Moment | None:
        """See :meth:`Store.hear`."""
        return self._server.hear()

    @property
    def pending(self) -> int:
        """Invalidations that are journalled."""
        return len(self._journal)

    @property
    def pool(self) -> Transport:
        """The connections."""
        return self._server.pool

    @property
    def bus(self) -> Subscription:
        """The subscription."""
        return self._server.bus

    @property
    def validity(self) -> Validity:
        """Of what a memory tier in front holds: it changes with the epoch."""
        return self._server.clock.validity

    @property
    def listener(self) -> Listener | None:
        """Called with each invalidation that comes in, and with this process's own once they are acknowledged."""
        return self._server.listener

    @listener.setter
    def listener(self, listener: Listener | None) -> None:
        self._server.listener = listener

    def recall(self, key: str, l1_ttl: float) -> Lookup | None:
        """See :meth:`Store.recall`: nothing is known here without asking."""
        return None

    def checked(self, key: str, l1_ttl: float) -> Checked | None:
        """See :meth:`Store.checked`."""
        return None

    def read_many_steps(self, keys: Sequence[str], tags: tuple[str, ...], l1_ttl: float = 0.0) -> Steps[list[Lookup]]:
        """See :attr:`read_many`."""
        return self._reader.read_many_steps(keys, tags)

    def hear_steps(self) -> Steps[Moment | None]:
        """See :meth:`hear`."""
        if self.moment is None:
            with suppress(StoreError):
                yield from self._server.stamps_steps(())
        return self.moment

    # --- Loading

    def begin(self, wants: Sequence[Want], token: str, moment: Moment | None) -> list[Begun]:
        """See :meth:`Store.begin`."""
        return self._server.drive(self.begin_steps(wants, token, moment))

    def begin_steps(self, wants: Sequence[Want], token: str, moment: Moment | None) -> Steps[list[Begun]]:
        """See :meth:`begin`."""
        claimed = self._claimed(moment)
        calls = []
        for chunk in chunks(wants):
            keys = [self._names.stamps]
            args: list[Argument] = [self._lease_ms, token, *claimed]
            for want in chunk:
                keys += (self._names.lease(want.key), self._names.place(want.key))
                args += (want.identity, len(want.tags), *want.tags)
            calls.append(Call(self._begin, keys, args))
        generation = self._server.pool.generation
        begun: list[Begun] = []
        is_asked = not self._server.breaker.is_open
        try:
            replies = yield from self._server.run_in_time_steps(calls)
        except BaseException:  # it may have granted them all the same
            if is_asked:
                self._maintenance.leave_behind([Lease(want.key, token) for want in wants])
            raise
        for chunk, reply in zip(chunks(wants), replies, strict=True):
            answers = self._heard(reply, generation)
            begun += [self._begun(want.key, answer, token) for want, answer in zip(chunk, answers, strict=True)]
        return begun

    def _begun(self, key: str, answer: bytes, token: str) -> Begun:
        if answer[:1] in (b"p", b"f"):
            marker = answer.decode()
            self._maintenance.hold(key, marker)  # renewed as a lease is, so that a slow load may still fill
            return Begun(Begin.PASS, Lease(key, marker))
        kind = _ANSWERS[answer[:1]]
        if kind is not Begin.GRANTED:
            return Begun(kind, holder=answer[1:].decode())
        self._maintenance.hold(key, token)
        return Begun(kind, Lease(key, token))

    def fill(self, results: Sequence[LoadedResult]) -> list[Filled]:
        """See :meth:`Store.fill`."""
        return self._server.drive(self.fill_steps(results))

    def fill_steps(self, results: Sequence[LoadedResult]) -> Steps[list[Filled]]:
        """See :meth:`fill`; in a request, what is large is sent after the answer (Outages 3)."""
        is_large = [_size_of(result.draft) > _LARGE for result in results]
        if not any(is_large) or request_scope() is None:
            return (yield from self._fill_now(results))
        small = [result for result, large in zip(results, is_large, strict=True) if not large]
        answers = iter((yield from self._fill_now(small)) if small else ())
        uploads = []
        for result, large in zip(results, is_large, strict=True):
            uploads.append((yield from self._fill_later(result)) if large else None)
        return self._glanced(uploads, answers)

    def _fill_later(self, result: LoadedResult) -> Steps[Upload | Filled]:
        """Hand a large fill to the thread that sends them; until it has arrived, others load without waiting."""
        lease, size = result.lease, _size_of(result.draft)
        has_room = not self._uploads.is_under_way(lease.key) and self._uploads.takes(size)
        if lease.token.startswith("l"):  # a marker in place of the lease: nobody waits for it, and it can be filled
            try:
                yield from self.release_steps([lease], pass_for=self._lease)
            except BaseException:
                self._uploads.gives_back(size if has_room else 0)
                raise
            lease = Lease(lease.key, "p" + lease.token[1:])
        if not has_room:
            return Filled(Outcome.REFUSED)
        self._maintenance.hold(*lease)
        later = result._replace(lease=lease)
        return self._uploads.send(Upload(lease.key, size, lambda: self._server.drive(self._fill_now([later]))[0]))

    def _glanced(self, uploads: Sequence[Upload | Filled | None], answers: Iterator[Filled]) -> list[Filled]:
        """What became of large results, after a moment, and in their places of the others."""
        self._uploads.glance([upload for upload in uploads if isinstance(upload, Upload)])
        return [
            next(answers) if upload is None else upload.filled if isinstance(upload, Upload) else upload
            for upload in uploads
        ]

    def _fill_now(self, results: Sequence[LoadedResult]) -> Steps[list[Filled]]:
        names = self._names
        calls, sizes = [], []
        latest = yield from self._latest([result.draft for result in results])
        for chunk in chunks(results):
            keys = [names.stamps, names.meta]
            args: list[Argument] = [self._max_stamps]
            for (key, token), draft, moment in chunk:
                epoch = moment.epoch if self._codec.seals else 0
                sealed = self._codec.seal(draft, key, epoch=epoch, as_of=moment.clock, created=latest)
                type_name = names.type_of(key)
                keys += (names.lease(key), names.place(key), names.index(type_name))
                args += (token, *self._claimed(moment), *stored_form(draft, moment.clock, type_name, sealed))
                sizes.append(len(sealed))
            calls.append(Call(self._fill, keys, args))
        generation = self._server.pool.generation
        try:
            replies = yield from self._server.run_in_time_steps(calls, size=sum(sizes))
        except BaseException:
            self._maintenance.leave_behind([result.lease for result in results])
            raise
        for result in results:
            self._maintenance.drop(result.lease)
        outcomes = [Outcome(outcome) for reply in replies for outcome in self._heard(reply, generation)]
        return self._filled(outcomes, sizes, [(result.lease.key, result.draft) for result in results])

    def _latest(self, drafts: Sequence[Draft]) -> Steps[int]:
        """What sealed entries are no later than, that are written now; 0 where entries are plain."""
        if not self._codec.seals:
            return 0
        return (yield from self._server.latest_steps(sum(map(_size_of, drafts))))

    def write(
        self, writes: Sequence[tuple[str, Draft]], moment: Moment | None, expected: Sequence[bytes] | None = None
    ) -> list[Filled]:
        """See :meth:`Store.write`; memory tiers drop what they hold of the keys."""
        return self._server.drive(self.write_steps(writes, moment, expected))

    def write_steps(
        self, writes: Sequence[tuple[str, Draft]], moment: Moment | None, expected: Sequence[bytes] | None = None
    ) -> Steps[list[Filled]]:
        """See :meth:`write`; in a request, what is large is sent after the answer, unless the outcome is needed."""
        is_large = [_size_of(draft) > _LARGE for _, draft in writes]
        if expected is not None or not any(is_large) or request_scope() is None:
            conditions = None if expected is None else [b"=" + identity for identity in expected]
            # What replaces what was read, as `incr` does, counts twice when it is carried out twice.
            return (yield from self._write_now(writes, moment, conditions, once=expected is not None))
        small = [write for write, large in zip(writes, is_large, strict=True) if not large]
        answers = iter((yield from self._write_now(small, moment)) if small else ())
        uploads = []
        for write, large in zip(writes, is_large, strict=True):
            uploads.append((yield from self._write_later(write, moment)) if large else None)
        return self._glanced(uploads, answers)

    def _write_later(self, write: tuple[str, Draft], moment: Moment | None) -> Steps[Upload | Filled]:
        """Hand a large write to the thread that sends them.

        What lay under the key is removed at once, and its lease is taken with a token of this write: until it arrives,
        others load without waiting and store nothing; a later write or deletion takes the token away, and then this one
        does not come after it.
        """
        key, draft = write
        size = _size_of(draft)
        if not self._uploads.takes(size):
            return Filled(Outcome.REFUSED)
        token = "t" + secrets.token_hex(16)
        try:
            seized, _ = yield from self._seize_steps(key, token, is_stamped=False)
        except BaseException:
            self._uploads.gives_back(size)
            raise
        of = moment or seized
        if of is None:
            self._uploads.gives_back(size)
            return Filled(Outcome.REFUSED)

        def send() -> Filled:
            try:
                return self._server.drive(self._write_now([write], of, [b"@" + token.encode()]))[0]
            finally:
                self._maintenance.drop(Lease(key, token))

        return self._uploads.send(Upload(key, size, send))

    def _write_now(
        self,
        writes: Sequence[tuple[str, Draft]],
        moment: Moment | None,
        conditions: Sequence[bytes] | None = None,
        *,
        once: bool = False,
    ) -> Steps[list[Filled]]:
        """Write; each on its condition, as the script has it."""
        names = self._names
        claimed = _AT_THE_CALL if moment is None else self._claimed_by_write(moment, writes)
        as_of = None if moment is None else int(claimed[2])
        calls, sizes = [], []
        parts = chunks(tuple(zip(writes, conditions or [b"*"] * len(writes), strict=True)))
        latest = yield from self._latest([draft for _, draft in writes])
        for chunk in parts:
            keys = [names.stamps, names.meta]
            args: list[Argument] = [self._max_stamps, names.bus, *claimed]
            for (key, draft), condition in chunk:
                sealed = self._codec.seal(draft, key, as_of=as_of, created=latest)
                type_name = names.type_of(key)
                keys += (names.lease(key), names.place(key), names.index(type_name))
                args += (condition, *stored_form(draft, as_of, type_name, sealed))
                sizes.append(len(sealed))
            calls.append(Call(self._write, keys, args))
        generation = self._server.pool.generation
        outcomes: list[Outcome] = []
        replies = yield from self._server.run_in_time_steps(calls, size=sum(sizes), once=once)
        for chunk, (epoch, clock, stamp, *rest) in zip(parts, replies, strict=True):
            stored = [
                key for ((key, _), _), outcome in zip(chunk, rest, strict=True) if outcome == Outcome.STORED.value
            ]
            if stored:
                message = Message("k", int(epoch), int(stamp), int(clock), tuple(stored))
                self._server.acknowledged(message, generation)
            outcomes += map(Outcome, rest)
        return self._filled(outcomes, sizes, writes)

    def _claimed(self, moment: Moment | None) -> tuple[str, int, int]:
        """A moment as scripts take it, which refuse that of another server run or stamp set."""
        run = None if moment is None else self._server.run_of(moment)
        return _NEVER if moment is None or run is None else (run, moment.epoch, moment.clock)

    def _claimed_by_write(self, moment: Moment, writes: Sequence[tuple[str, Draft]]) -> tuple[str, int, int]:
        """As :meth:`_claimed`; of a server that was left, what that is worth on its successor (R3.2)."""
        run = self._server.run_of(moment)
        if run is None or any(draft.inherited for _, draft in writes):
            return self._claimed(moment)
        tags = {tag for key, draft in writes for tag in (*draft.tags, key_tag(key))}
        return self._server.history.translated(run, moment, tags) or self._claimed(moment)

    def _heard(self, reply: list[Any], generation: int) -> list[Any]:
        """What comes after the epoch and the clock in a reply."""
        epoch, clock, *rest = reply
        if int(epoch):
            self._server.clock.heard(int(epoch), int(clock), generation)
        return rest

    def _filled(
        self, outcomes: Sequence[Outcome], sizes: Sequence[int], writes: Sequence[tuple[str, Draft]]
    ) -> list[Filled]:
        if Outcome.STORED in outcomes:
            self._server.breaker.has_room()
        filled = []
        for outcome, size, (key, draft) in zip(outcomes, sizes, writes, strict=True):
            is_stored = outcome is Outcome.STORED
            if is_stored:
                self._reader.learn(key, (*draft.tags, *[tag for tag, _ in draft.inherited]))
            filled.append(Filled(outcome, size if is_stored else 0))
        return filled

    def returned(self, lease: Lease) -> None:
        """See :meth:`Store.returned`."""
        self._maintenance.drop(lease)

    def release(self, leases: Sequence[Lease], *, pass_for: float = 0.0, failed: bool = False) -> None:
        """See :meth:`Store.release`."""
        self._server.drive(self.release_steps(leases, pass_for=pass_for, failed=failed))

    def release_steps(self, leases: Sequence[Lease], *, pass_for: float = 0.0, failed: bool = False) -> Steps[None]:
        """See :meth:`release`."""
        for lease in leases:
            self._maintenance.drop(lease)
        kind = "f" if failed else "p"
        calls = [
            Call(
                self._release,
                [self._names.lease(lease.key) for lease in chunk],
                [int(pass_for * 1000), kind, *[lease.token for lease in chunk]],
            )
            for chunk in chunks(leases)
        ]
        try:
            yield from self._server.run_in_time_steps(calls)
        except BaseException:
            self._maintenance.leave_behind(leases)
            raise

    # --- Invalidating

    def delete(self, keys: Sequence[str], *, is_stamped: bool = True) -> int:
        """See :meth:`Store.delete`.

        Without a stamp it does what a write that has not arrived would have done to the entries that were there.
        """
        return self._server.drive(self.delete_steps(keys, is_stamped=is_stamped))

    def delete_steps(self, keys: Sequence[str], *, is_stamped: bool = True) -> Steps[int]:
        """See :meth:`delete`."""
        invalidation = Invalidation(keys=tuple(keys)) if is_stamped else Invalidation(removed=tuple(keys))
        return self._maintenance.invalidate(invalidation)

    def seize(self, key: str, token: str) -> Seized:
        """See :meth:`Store.seize`."""
        return self._server.drive(self._seize_steps(key, token, is_stamped=True))

    def _seize_steps(self, key: str, token: str, *, is_stamped: bool) -> Steps[Seized]:
        server, names = self._server, self._names
        generation = server.pool.generation
        keys = [names.stamps, names.lease(key), names.place(key), names.index(names.type_of(key))]
        args: list[Argument] = [names.bus, self._max_stamps, int(is_stamped), token, self._lease_ms]
        epoch, clock, stamp, _, *before = (yield from server.run_steps([Call(self._delete, keys, args)]))[0]
        server.acknowledged(Message("k", int(epoch), int(stamp), int(clock), (key,)), generation)
        origin = ""
        with suppress(CodecError):
            origin = self._codec.unseal_head(before[0], key)[0].origin if before else ""
        if not int(epoch):
            return Seized(None, origin)
        self._maintenance.hold(key, token)
        return Seized(Moment(int(epoch), int(clock), generation), origin)

    def queues_for(self, key: str) -> RedisQueues:
        """See :meth:`Store.queues_for`."""
        return self.queues[0]

    def invalidate(self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False) -> int:
        """See :meth:`Store.invalidate`."""
        return self._server.drive(self.invalidate_steps(tags, types, everything=everything))

    def invalidate_steps(
        self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False
    ) -> Steps[int]:
        """See :meth:`invalidate`."""
        return self._maintenance.invalidate(Invalidation(tuple(tags), tuple(types), everything=everything))

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> int:
        """See :meth:`Store.invalidate_pattern`."""
        return self._server.drive(self.invalidate_pattern_steps(pattern, type_name))

    def invalidate_pattern_steps(self, pattern: str, type_name: str | None) -> Steps[int]:
        """See :meth:`invalidate_pattern`."""
        return self._maintenance.invalidate(Invalidation(patterns=((pattern, type_name),)))

    def stamp_ahead(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.stamp_ahead`."""
        self._server.drive(self.stamp_ahead_steps(tags, token))

    def stamp_ahead_steps(self, tags: Sequence[str], token: str) -> Steps[None]:
        """See :meth:`stamp_ahead`."""
        return self._maintenance.stamp_ahead(tags, token)

    def settle(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.settle`."""
        self._server.drive(self.end_commit_steps(tags, token, withdrawn=False))

    def withdraw(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.withdraw`."""
        self._server.drive(self.end_commit_steps(tags, token, withdrawn=True))

    def end_commit_steps(self, tags: Sequence[str], token: str, *, withdrawn: bool) -> Steps[None]:
        """See :meth:`settle` and :meth:`withdraw`."""
        return self._maintenance.end_commit(tags, token, withdrawn=withdrawn)

    def close(self) -> None:
        """See :meth:`Store.close`; what was counted is stored first."""
        self._maintenance.close()


def _pooled(endpoint: Endpoint, *, timeout: float, idle_timeout: float, max_connections: int) -> Connect:
    """What makes the connections to one server."""

    def connect(breaker: Breaker, attach: Callable[[Exchange], None]) -> Transport:
        return Pool(
            endpoint,
            timeout=timeout,
            breaker=breaker,
            attach=attach,
            idle_timeout=idle_timeout,
            max_connections=max_connections,
        )

    return connect


def _size_of(draft: Draft) -> int:
    """About how many bytes it is to store something, before it is compressed."""
    content = draft.content
    if isinstance(content, StoredResponse):
        content = content.body
    return len(content) if isinstance(content, bytes) else 0
