"""The cluster store: many shards, each a store of its own, asked together.

Owns which shard a key belongs to, what becomes of a moment and of an answer that is of several shards, and what is sent
to all of them. Each shard has its clock, stamps, leases, journal and breaker, as one server has, and a memory tier in
front of it; one that is away is that shard's trouble alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from ..codec.envelope import Codec
from ..config.address import Address
from ..errors import StoreError, StoreUnavailableError
from ..model.bounded import BoundedDict
from ..model.entry import Draft, Moment
from ..model.keys import Names
from ..model.moment import Parts
from .cluster_catalogue import ClusterCatalogue
from .lru import Checked
from .protocol import (
    Begun,
    Filled,
    Incident,
    Lease,
    LoadedResult,
    Lookup,
    PartialError,
    Seized,
    Want,
)
from .queueing import Queues
from .redis.breaker import Breaker
from .redis.connection import Exchange
from .redis.counting import Counters
from .redis.driver import Connector
from .redis.housekeeper import Housekeeper
from .redis.links import Link
from .redis.nodebus import ClusterBus
from .redis.nodes import Nodes
from .redis.rounds import ClusterRounds, Shard
from .redis.steps import Steps
from .redis.store import Membership, RedisStore
from .redis.transport import Transport
from .redis.uploads import Room
from .tiered import TieredStore

__all__ = ["ClusterStore"]

T = TypeVar("T")
R = TypeVar("R")

_KEYS_KNOWN: Final = 20_000
_NO_MOMENT: Final = Moment(0, 0)


class ClusterStore:
    """A store on the shards of a Redis or Valkey cluster.

    Args:
        address: what the URL says.
        names: the key names.
        codec: the envelope.
        shards: how many there are; the same in all processes, and in all time.
        timeout: seconds to wait for an answer.
        idle_timeout: seconds after which a connection that nobody uses is closed.
        max_connections: how many there may be to one node.
        options: for redis-py.
        memory_bytes: the budget of the memory tier; 0 for none.
        outage_ttl: seconds a result is kept in this process while its shard is away.
        more: what else a :class:`~.redis.store.RedisStore` takes.

    Attributes:
        nodes: of the cluster.
        catalogue: the operators' half.
    """

    def __init__(
        self,
        address: Address,
        *,
        names: Names,
        codec: Codec,
        shards: int = 16,
        timeout: float = 0.25,
        idle_timeout: float = 30.0,
        max_connections: int = 512,
        options: Mapping[str, Any] | None = None,
        memory_bytes: int = 0,
        outage_ttl: float = 2.0,
        **more: Any,
    ) -> None:
        self._names: Final = names
        self._location: Final = address.location
        self.nodes: Final = Nodes(
            address.location,
            address.nodes,
            Connector(address, options or {}, timeout=timeout),
            timeout=timeout,
            idle_timeout=idle_timeout,
            max_connections=max_connections,
        )
        self._bus: Final = ClusterBus(self.nodes)
        self._housekeeper: Final = Housekeeper(name="flask_rcache-maintenance")
        self._room: Final = Room()
        self._redis: Final = [
            RedisStore(
                address.location,
                names=names.of_shard(number),
                codec=codec,
                timeout=timeout,
                member=self._membership(number, shards),
                **more,
            )
            for number in range(shards)
        ]
        self._links: Final[list[Link]] = self.nodes.links
        self._shards: Final[list[RedisStore | TieredStore]] = [
            TieredStore(redis, names=names, max_bytes=memory_bytes // shards, outage_ttl=outage_ttl)
            if memory_bytes
            else redis
            for redis in self._redis
        ]
        self._counters: Final = Counters(self._redis[0].server)
        parts = [
            Shard(link, redis.server, redis.maintenance) for link, redis in zip(self._links, self._redis, strict=True)
        ]
        self._rounds: Final = ClusterRounds(self.nodes, parts, self._counters, self._housekeeper)
        self.catalogue: Final = ClusterCatalogue(
            self._location, names, self.nodes, self._redis, counters=self._counters, together=self._together
        )
        self._reads: Final = [shard.read for shard in self._shards]
        self._numbers: Final[BoundedDict[str, int]] = BoundedDict(_KEYS_KNOWN)
        self._moment: Moment | None = None
        self._mark: object = object()
        self._incident: Incident | None = None
        self._incidents = 0
        self.nodes.on_change = self._changed
        self.nodes.on_move = self._moved
        for redis in self._redis:
            redis.server.clock.changed = self._changed
            redis.server.breaker.changed = self._changed

    def _membership(self, number: int, shards: int) -> Membership:
        def connect(breaker: Breaker, attach: Callable[[Exchange], None]) -> Transport:
            return self.nodes.link(number, breaker, attach)

        return Membership(shards, connect, self._bus.subscribe, self._housekeeper, self._room)

    # --- What it is, and how it is

    @property
    def lease_seconds(self) -> float:
        """See :attr:`Store.lease_seconds`."""
        return self._redis[0].lease_seconds

    @property
    def incident(self) -> Incident | None:
        """See :attr:`Store.incident`: one, as long as any shard has one."""
        found = next((incident for redis in self._redis if (incident := redis.incident) is not None), None)
        if found is None:
            self._incident = None
        elif self._incident is None or type(self._incident.cause) is not type(found.cause):
            self._incidents += 1
            self._incident = found._replace(number=self._incidents)
        return self._incident

    # --- The clocks

    def _changed(self) -> None:
        """A shard has another reading, or none any more."""
        self._mark = object()
        self._moment = None

    def _moved(self, link: Link) -> None:
        self._bus.reconcile()

    @property
    def moment(self) -> Moment | None:
        """See :attr:`Store.moment`: one reading of each shard; ``None`` when one that is there was not heard of."""
        moment = self._moment
        if moment is None:
            mark, parts = self._mark, [shard.moment for shard in self._shards]
            if None not in parts:
                moment = Moment.together(parts)
            elif all(part is not None or redis.outage for part, redis in zip(parts, self._redis, strict=True)):
                return Moment.together(parts)
            # What stands in for a shard that is away has a clock that goes on.
            if mark is self._mark and not self._is_any_away:
                self._moment = moment
        return moment

    @property
    def _is_any_away(self) -> bool:
        return any(redis.outage is not None for redis in self._redis)

    def hear(self) -> Moment | None:
        """See :meth:`Store.hear`; all shards that were not heard of are asked at once."""
        unheard = {number: shard.hear_steps() for number, shard in enumerate(self._shards) if shard.moment is None}
        if unheard:
            with suppress(StoreError):
                self._together(unheard)
        return Moment.together([shard.moment for shard in self._shards])

    # --- Reading

    def recall(self, key: str, l1_ttl: float) -> Lookup | None:
        """See :meth:`Store.recall`."""
        return self._shards[self._number(key)].recall(key, l1_ttl)

    def checked(self, key: str, l1_ttl: float) -> Checked | None:
        """See :meth:`Store.checked`."""
        return self._shards[self._number(key)].checked(key, l1_ttl)

    def _number(self, key: str) -> int:
        """The shard of a key; those asked for last are known."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._names.shard_of(key, len(self._shards))
        return number

    def read(self, key: str, tags: tuple[str, ...], l1_ttl: float = 0.0) -> Lookup:
        """See :meth:`Store.read`."""
        return self._reads[self._number(key)](key, tags, l1_ttl)

    def read_many(self, keys: Sequence[str], tags: tuple[str, ...], l1_ttl: float = 0.0) -> list[Lookup]:
        """See :meth:`Store.read_many`: one round for all shards.

        Raises:
            PartialError: some shards are away.
        """
        return self._dealt(keys, lambda key: key, lambda shard, _, mine: shard.read_many_steps(mine, tags, l1_ttl))

    # --- Loading

    def begin(self, wants: Sequence[Want], token: str, moment: Moment | None) -> list[Begun]:
        """See :meth:`Store.begin`.

        Raises:
            PartialError: some shards are away.
        """
        return self._dealt(
            wants,
            lambda want: want.key,
            lambda shard, number, mine: shard.begin_steps(mine, token, None if moment is None else moment.part(number)),
        )

    def fill(self, results: Sequence[LoadedResult]) -> list[Filled]:
        """See :meth:`Store.fill`.

        Raises:
            PartialError: some shards are away.
        """
        return self._dealt(
            results,
            lambda result: result.lease.key,
            lambda shard, number, mine: shard.fill_steps([_on_shard(result, number) for result in mine]),
        )

    def write(
        self, writes: Sequence[tuple[str, Draft]], moment: Moment | None, expected: Sequence[bytes] | None = None
    ) -> list[Filled]:
        """See :meth:`Store.write`.

        Raises:
            PartialError: some shards are away.
        """
        conditions = [None] * len(writes) if expected is None else expected

        def steps(
            shard: RedisStore | TieredStore, number: int, mine: list[tuple[tuple[str, Draft], bytes | None]]
        ) -> Steps[list[Filled]]:
            part = None if moment is None else moment.part(number) or _NO_MOMENT
            drafts = [(key, self._to_write(draft, number, moment)) for (key, draft), _ in mine]
            identities = None if expected is None else [identity or b"" for _, identity in mine]
            return shard.write_steps(drafts, part, identities)

        return self._dealt(tuple(zip(writes, conditions, strict=True)), lambda write: write[0][0], steps)

    def _to_write(self, draft: Draft, number: int, moment: Moment | None) -> Draft:
        if moment is not None:
            return draft.on_shard(number, moment)
        # What has the clock of the call is known of its own shard only: on others nothing can be built on it.
        nothing = (0,) * len(self._shards)
        inherited = tuple([(tag, as_of[number]) for tag, as_of in draft.inherited if isinstance(as_of, tuple)])
        tags = [*draft.tags, *[tag for tag, _ in inherited]]
        return draft._replace(inherited=inherited, parts=Parts(nothing, dict.fromkeys(tags, nothing)))

    def returned(self, lease: Lease) -> None:
        """See :meth:`Store.returned`."""
        self._shards[self._names.shard_of(lease.key, len(self._shards))].returned(lease)

    def release(self, leases: Sequence[Lease], *, pass_for: float = 0.0, failed: bool = False) -> None:
        """See :meth:`Store.release`."""
        grouped = self._grouped(leases, lambda lease: lease.key)
        self._all_of(
            {
                number: self._shards[number].release_steps(
                    [leases[at] for at in places], pass_for=pass_for, failed=failed
                )
                for number, places in grouped.items()
            }
        )

    # --- Invalidating

    def delete(self, keys: Sequence[str], *, is_stamped: bool = True) -> int:
        """See :meth:`Store.delete`."""
        grouped = self._grouped(keys, lambda key: key)
        return sum(
            self._all_of(
                {
                    number: self._shards[number].delete_steps([keys[at] for at in places], is_stamped=is_stamped)
                    for number, places in grouped.items()
                }
            )
        )

    def seize(self, key: str, token: str) -> Seized:
        """See :meth:`Store.seize`: the other shards' readings are those heard before."""
        before = self.moment or self.hear()
        number = self._names.shard_of(key, len(self._shards))
        moment, origin = self._shards[number].seize(key, token)
        if moment is None or before is None or before.vector is None:
            return Seized(None, origin)
        parts = [before.part(each) for each in range(len(self._shards))]
        parts[number] = moment
        return Seized(Moment.together(parts), origin)

    @property
    def queues(self) -> Sequence[Queues]:
        """See :attr:`Store.queues`."""
        return [queues for redis in self._redis for queues in redis.queues]

    def queues_for(self, key: str) -> Queues:
        """See :meth:`Store.queues_for`."""
        return self._redis[self._names.shard_of(key, len(self._redis))].queues_for(key)

    def invalidate(self, tags: Sequence[str], types: Sequence[str] = (), *, everything: bool = False) -> int:
        """See :meth:`Store.invalidate`: every shard, in one round."""
        return sum(self._everywhere(lambda shard: shard.invalidate_steps(tags, types, everything=everything)))

    def invalidate_pattern(self, pattern: str, type_name: str | None) -> int:
        """See :meth:`Store.invalidate_pattern`."""
        return sum(self._everywhere(lambda shard: shard.invalidate_pattern_steps(pattern, type_name)))

    def stamp_ahead(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.stamp_ahead`: on every shard."""
        self._everywhere(lambda shard: shard.stamp_ahead_steps(tags, token))

    def settle(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.settle`."""
        self._everywhere(lambda shard: shard.end_commit_steps(tags, token, withdrawn=False))

    def withdraw(self, tags: Sequence[str], token: str) -> None:
        """See :meth:`Store.withdraw`."""
        self._everywhere(lambda shard: shard.end_commit_steps(tags, token, withdrawn=True))

    def close(self) -> None:
        """See :meth:`Store.close`; what was counted is stored first."""
        with suppress(StoreError):
            self._counters.flush(self._redis[0].server.pool.exchange)
        self._housekeeper.stop()
        self._bus.stop(timeout=0.0)
        self.nodes.close()
        for redis in self._redis:
            redis.server.is_running = False
        for shard in self._shards:
            if isinstance(shard, TieredStore):
                shard.distrust()

    # --- Many shards at once

    def _together(self, steps: Mapping[int, Steps[T]]) -> dict[int, T | Exception]:
        """Run the steps of some shards; what came of each."""
        for number in steps:
            server = self._redis[number].server
            if not server.is_running:
                server.ensure()
        found = self.nodes.drive({self._links[number]: each for number, each in steps.items()})
        for answer in found.values():
            if isinstance(answer, Exception) and not isinstance(answer, StoreError):
                raise answer
        return {link.number: answer for link, answer in found.items()}

    def _all_of(self, steps: Mapping[int, Steps[T]]) -> list[T]:
        """Run the steps of some shards; each is carried out, whatever becomes of the others.

        Raises:
            StoreUnavailableError: some were not acknowledged.
        """
        found = self._together(steps)
        failed = {number: answer for number, answer in found.items() if isinstance(answer, Exception)}
        if failed:
            cause = next(iter(failed.values()))
            if len(failed) == len(found) == 1:
                raise cause
            raise StoreUnavailableError(
                f"{len(failed)} of {len(self._shards)} shards of {self._location} did not acknowledge it: {cause}"
            ) from cause
        return [answer for answer in found.values() if not isinstance(answer, Exception)]

    def _everywhere(self, steps: Callable[[RedisStore | TieredStore], Steps[T]]) -> list[T]:
        return self._all_of({number: steps(shard) for number, shard in enumerate(self._shards)})

    def _grouped(self, items: Sequence[T], key_of: Callable[[T], str]) -> dict[int, list[int]]:
        """The positions of items, by the shards that their keys belong to."""
        grouped: dict[int, list[int]] = {}
        shard_of, count = self._names.shard_of, len(self._shards)
        for at, item in enumerate(items):
            grouped.setdefault(shard_of(key_of(item), count), []).append(at)
        return grouped

    def _dealt(
        self,
        items: Sequence[T],
        key_of: Callable[[T], str],
        steps: Callable[[RedisStore | TieredStore, int, list[T]], Steps[list[R]]],
    ) -> list[R]:
        """Have each shard answer for its items; the answers in the items' order.

        Raises:
            PartialError: with the answers of the others, when some shards are away.
        """
        grouped = self._grouped(items, key_of)
        found = self._together(
            {
                number: steps(self._shards[number], number, [items[at] for at in places])
                for number, places in grouped.items()
            }
        )
        answers: list[Any] = [None] * len(items)
        failure: StoreError | None = None
        for number, places in grouped.items():
            mine = found[number]
            if isinstance(mine, StoreError):
                failure = mine
            elif not isinstance(mine, Exception):
                for at, answer in zip(places, mine, strict=True):
                    answers[at] = answer
        if failure is not None:
            if all(answer is None for answer in answers):
                raise failure
            raise PartialError(str(failure), answers) from failure
        return answers


def _on_shard(result: LoadedResult, number: int) -> LoadedResult:
    """A result with the readings of its own shard."""
    lease, draft, moment = result
    return LoadedResult(lease, draft.on_shard(number, moment), moment.part(number) or _NO_MOMENT)
