"""The Redis store: rules R1 to R4 on a Redis or Valkey server that all processes share.

Owns the loading half of the protocol, and puts the parts together: reading is ``reading``'s, invalidating
``invalidating``'s, what operators ask ``listing``'s, what happens off the request path ``maintenance``'s, the exchange
with the server ``server``'s. The names are ``keys``'s, the bytes ``codec``'s. Needs Redis 6.2 or Valkey.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ...codec.envelope import Codec
from ...config.address import parse_address
from ...errors import CodecError
from ...model.entry import Draft, Moment
from ...model.keys import Names
from ..protocol import (
    Activity,
    Begin,
    Begun,
    Counts,
    CountsSource,
    Filled,
    Incident,
    Lease,
    Listed,
    LoadedResult,
    Lookup,
    Outcome,
    Page,
    Seized,
    Size,
    Want,
)
from .bus import Bus, Listener, Message
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
from .topology import endpoint_of

__all__ = ["RedisStore"]

_ANSWERS: Final = {b"+": Begin.GRANTED, b"=": Begin.FILLED, b"-": Begin.BUSY, b"?": Begin.UNSTORABLE}
#: A moment as scripts take it, of no stamp set there is; and that of the call.
_NEVER: Final = ("0", 1, 0)
_AT_THE_CALL: Final = ("", 0, 0)


class RedisStore:
    """A store on one Redis or Valkey server.

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

    Attributes:
        catalogue: the operators' half.
        queues: of writes that are not applied yet.
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
    ) -> None:
        self._names: Final = names
        self._codec: Final = codec
        self._lease: Final = lease
        self._lease_ms: Final = max(1, int(lease * 1000))
        self._max_stamps: Final = max_stamps
        journal = Journal(keep=journal_keep)
        housekeeper = Housekeeper(name="flask_rcache-maintenance")
        address = parse_address(url, "RCACHE_URL")
        self._server: Final = Server(
            endpoint_of(address, timeout=timeout, options=options, sentinel_options=sentinel_options),
            names=names,
            timeout=timeout,
            cold=cold,
            idle_timeout=idle_timeout,
            max_connections=max_connections,
            journal=journal,
            housekeeper=housekeeper,
        )
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
        )
        self.catalogue: Final = RedisCatalogue(self._server, self._invalidator, codec, counters, journal)
        self.queues: Final = (RedisQueues(self._server, codec, max_stamps=max_stamps),)
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
    def pool(self) -> Pool:
        """The connections."""
        return self._server.pool

    @property
    def bus(self) -> Bus:
        """The subscription."""
        return self._server.bus

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

    # --- Loading

    def begin(self, wants: Sequence[Want], token: str, moment: Moment | None) -> list[Begun]:
        """See :meth:`Store.begin`."""
        claimed = self._claimed(moment)
        calls = []
        for chunk in chunks(wants):
            keys = [self._names.stamps]
            args: list[Argument] = [self._lease_ms, token, *claimed]
            for want in chunk:
                keys += (self._names.lease(want.key), want.key)
                args += (want.identity, len(want.tags), *want.tags)
            calls.append(Call(self._begin, keys, args))
        generation = self._server.pool.generation
        begun: list[Begun] = []
        for chunk, reply in zip(chunks(wants), self._server.run_in_time(calls), strict=True):
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
        names = self._names
        calls, sizes = [], []
        for chunk in chunks(results):
            keys = [names.stamps, names.meta]
            args: list[Argument] = [self._max_stamps]
            for (key, token), draft, moment in chunk:
                sealed = self._codec.seal(draft, as_of=moment.clock)
                type_name = names.type_of(key)
                keys += (names.lease(key), key, names.index(type_name))
                args += (token, *self._claimed(moment), *stored_form(draft, moment.clock, type_name, sealed))
                sizes.append(len(sealed))
            calls.append(Call(self._fill, keys, args))
        generation = self._server.pool.generation
        try:
            replies = self._server.run_in_time(calls, size=sum(sizes))
        finally:
            for result in results:
                self._maintenance.drop(result.lease)
        outcomes = [Outcome(outcome) for reply in replies for outcome in self._heard(reply, generation)]
        return self._filled(outcomes, sizes, [(result.lease.key, result.draft) for result in results])

    def write(
        self, writes: Sequence[tuple[str, Draft]], moment: Moment | None, expected: Sequence[bytes] | None = None
    ) -> list[Filled]:
        """See :meth:`Store.write`; memory tiers drop what they hold of the keys."""
        names = self._names
        as_of = None if moment is None else moment.clock
        claimed = _AT_THE_CALL if moment is None else self._claimed(moment)
        calls, sizes = [], []
        conditions = [b"*"] * len(writes) if expected is None else [b"=" + identity for identity in expected]
        for chunk in chunks(tuple(zip(writes, conditions, strict=True))):
            keys = [names.stamps, names.meta]
            args: list[Argument] = [self._max_stamps, names.bus, *claimed]
            for (key, draft), condition in chunk:
                sealed = self._codec.seal(draft, as_of=as_of)
                type_name = names.type_of(key)
                keys += (names.lease(key), key, names.index(type_name))
                args += (condition, *stored_form(draft, as_of, type_name, sealed))
                sizes.append(len(sealed))
            calls.append(Call(self._write, keys, args))
        generation = self._server.pool.generation
        outcomes: list[Outcome] = []
        for call, (epoch, clock, stamp, *rest) in zip(
            calls, self._server.run_in_time(calls, size=sum(sizes)), strict=True
        ):
            stored = [
                key for key, outcome in zip(call.keys[3::3], rest, strict=True) if outcome == Outcome.STORED.value
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
        self._server.run_in_time(calls)

    # --- Invalidating

    def delete(self, keys: Sequence[str], *, is_stamped: bool = True) -> int:
        """See :meth:`Store.delete`.

        Without a stamp it does what a write that has not arrived would have done to the entries that were there.
        """
        invalidation = Invalidation(keys=tuple(keys)) if is_stamped else Invalidation(removed=tuple(keys))
        return self._maintenance.invalidate(invalidation)

    def seize(self, key: str, token: str) -> Seized:
        """See :meth:`Store.seize`."""
        server, names = self._server, self._names
        generation = server.pool.generation
        keys = [names.stamps, names.lease(key), key, names.index(names.type_of(key))]
        args: list[Argument] = [names.bus, self._max_stamps, "1", token, self._lease_ms]
        epoch, clock, stamp, _, *before = server.run([Call(self._delete, keys, args)])[0]
        server.acknowledged(Message("k", int(epoch), int(stamp), int(clock), (key,)), generation)
        origin = ""
        with suppress(CodecError):
            origin = self._codec.unseal_head(before[0])[0].origin if before else ""
        if not int(epoch):
            return Seized(None, origin)
        self._maintenance.hold(key, token)
        return Seized(Moment(int(epoch), int(clock), generation), origin)

    def queues_for(self, key: str) -> RedisQueues:
        """See :meth:`Store.queues_for`."""
        return self.queues[0]

    def invalidate(self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False) -> int:
        """See :meth:`Store.invalidate`."""
        return self._maintenance.invalidate(Invalidation(tuple(tags), tuple(types), everything=everything))

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> int:
        """See :meth:`Store.invalidate_pattern`."""
        return self._maintenance.invalidate(Invalidation(patterns=((pattern, type_name),)))

    def stamp_ahead(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.stamp_ahead`."""
        self._maintenance.stamp_ahead(tags, token)

    def settle(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.settle`."""
        self._maintenance.end_commit(tags, token, withdrawn=False)

    def withdraw(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.withdraw`."""
        self._maintenance.end_commit(tags, token, withdrawn=True)

    def close(self) -> None:
        """See :meth:`Store.close`; what was counted is stored first."""
        self._maintenance.close()

    # --- What operators ask

    @property
    def location(self) -> str:
        """See :attr:`Catalogue.location`."""
        return self._server.pool.location

    def entries(self, type_name: str | None, pattern: str | None) -> Iterator[Listed]:
        """See :meth:`Catalogue.entries`."""
        return self.catalogue.entries(type_name, pattern)

    def page(self, type_name: str | None, pattern: str | None, cursor: str | None, limit: int) -> Page:
        """See :meth:`Catalogue.page`."""
        return self.catalogue.page(type_name, pattern, cursor, limit)

    def inspect(self, key: str) -> Listed | None:
        """See :meth:`Catalogue.inspect`."""
        return self.catalogue.inspect(key)

    def sizes(self, types: Sequence[str]) -> dict[str, Size]:
        """See :meth:`Catalogue.sizes`."""
        return self.catalogue.sizes(types)

    def activity(self) -> Activity | None:
        """See :meth:`Catalogue.activity`."""
        return self.catalogue.activity()

    def state(self) -> dict[str, Any]:
        """See :meth:`Catalogue.state`."""
        return self.catalogue.state()

    def counts(self, types: Sequence[str]) -> Counts | None:
        """See :meth:`Catalogue.counts`."""
        return self.catalogue.counts(types)

    def count_from(self, source: CountsSource) -> None:
        """See :meth:`Catalogue.count_from`."""
        self.catalogue.count_from(source)
