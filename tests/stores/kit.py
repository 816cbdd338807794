"""What the store tests share: a store with the means to speak its protocol briefly, and to play time and accidents."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.crc import key_slot

from flask_rcache.model.entry import Content, Draft, Moment
from flask_rcache.model.keys import Names, type_tag, user_tag
from flask_rcache.stores.memory import MemoryStore
from flask_rcache.stores.protocol import Begin, Begun, Lease, LoadedResult, Lookup, Outcome, Store, Want

if TYPE_CHECKING:
    import redis

    from flask_rcache import CacheManager
    from flask_rcache.stores.cluster import ClusterStore
    from flask_rcache.stores.redis.store import RedisStore
    from flask_rcache.stores.tiered import TieredStore
    from tests.clusters import Cluster

SECOND = 1_000_000
#: As an app has it by default.
SHARDS = 16


class Clock:
    """Microseconds that pass when the test says so."""

    def __init__(self, now: int = 1_700_000_000 * SECOND) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


class Started(NamedTuple):
    """A load that has begun: its lease and its moment."""

    lease: Lease
    moment: Moment


def _tokens() -> Iterator[str]:
    return ("l" + secrets.token_hex(16) for _ in itertools.count())


@dataclass
class Kit:
    """A store under test.

    Attributes:
        store: the store.
        client: a plain client of its server; ``None`` for the memory store.
        clock: the memory store's clock.
        connect: makes another store on the same data, as another process has it.
        cluster: where it lies on one.
        l1_ttl: seconds that reads let a memory tier hold what they find.
    """

    store: Store
    names: Names = field(default_factory=Names)
    client: redis.Redis | None = None
    clock: Clock | None = None
    connect: Callable[[], Store] | None = None
    cluster: Cluster | None = None
    l1_ttl: float = 0.0
    tokens: Iterator[str] = field(default_factory=_tokens)

    def key(self, id: str = "a", type: str = "search") -> str:
        return self.names.entry(type, id)

    def tags(self, key: str, *tags: str) -> tuple[str, ...]:
        """The tags of an entry: its type's and these."""
        return (type_tag(self.names.type_of(key)), *map(user_tag, tags))

    def draft(self, key: str, value: Content = b"v", *, tags: Sequence[str] = (), **fields: Any) -> Draft:
        return Draft(value, **{"ttl": 60.0, "tags": self.tags(key, *tags), **fields})

    def moment(self) -> Moment:
        """What a load that begins now claims."""
        moment = self.store.hear()
        assert moment is not None
        return moment

    def at(self, moment: Moment, key: str) -> Moment:
        """What a moment is where a key lies."""
        if moment.vector is None:
            return moment
        part = moment.part(self.names.shard_of(key, SHARDS))
        assert part is not None
        return part

    def of_another_epoch(self) -> Moment:
        """A moment of a stamp set that there is not."""
        moment = self.moment()
        if moment.vector is None:
            return moment._replace(epoch=12345)
        return moment._replace(vector=moment.vector._replace(epochs=(12345,) * SHARDS))

    # Reading

    def read(self, key: str, *tags: str) -> Lookup:
        return self.store.read(key, self.tags(key, *tags), self.l1_ttl)

    def value(self, key: str) -> object:
        entry = self.read(key).entry
        return None if entry is None else entry.content

    # Loading

    def ask(
        self,
        key: str,
        identity: bytes = b"",
        *,
        token: str = "",
        moment: Moment | None = None,
        tags: Sequence[str] = (),
    ) -> Begun:
        """Ask for the key's lease, at the moment heard last when none is given."""
        want = Want(key, identity, self.tags(key, *tags))
        return self.store.begin([want], token or next(self.tokens), moment or self.moment())[0]

    def start(
        self, key: str, identity: bytes = b"", *, moment: Moment | None = None, tags: Sequence[str] = ()
    ) -> Started:
        """Begin a load that is granted."""
        moment = moment or self.moment()
        begun = self.ask(key, identity, moment=moment, tags=tags)
        assert begun.kind is Begin.GRANTED, begun
        assert begun.lease is not None
        return Started(begun.lease, moment)

    def passing(self, key: str) -> Started:
        """Begin a load under a pass marker."""
        moment = self.moment()
        begun = self.ask(key, moment=moment)
        assert begun.kind is Begin.PASS, begun
        assert begun.lease is not None
        return Started(begun.lease, moment)

    def mark(self, key: str, seconds: float = 5.0, *, failed: bool = False) -> None:
        """Leave a pass marker under a key."""
        self.store.release([self.start(key).lease], pass_for=seconds, failed=failed)

    def fill(self, started: Started, value: Content = b"v", **fields: Any) -> Outcome:
        lease, moment = started
        return self.store.fill([LoadedResult(lease, self.draft(lease.key, value, **fields), moment)])[0].outcome

    def load(self, key: str, value: Content = b"v", **fields: Any) -> Started:
        """A whole load of a key, whatever lies there."""
        started = self.start(key, self.read(key).identity)
        assert self.fill(started, value, **fields) is Outcome.STORED
        return started

    def write(
        self,
        key: str,
        value: Content = b"v",
        *,
        moment: Moment | None = None,
        expected: bytes | None = None,
        **fields: Any,
    ) -> Outcome:
        """Write without a lease; at the store's clock when no moment is given."""
        writes = [(key, self.draft(key, value, **fields))]
        return self.store.write(writes, moment, None if expected is None else [expected])[0].outcome

    # Accidents

    def lease_runs_out(self, key: str) -> None:
        if self.clock is not None:
            self.clock.tick(self.store.lease_seconds + 0.001)
        elif self.cluster is not None:
            number = self.names.shard_of(key, SHARDS)
            place = self.names.of_shard(number).lease(key)
            assert self.cluster.master_of(key_slot(str(number).encode())).client().delete(place) == 1
        else:
            assert self.server().delete(self.names.lease(key)) == 1

    def server(self) -> redis.Redis:
        assert self.client is not None
        return self.client


def memory_kit(**options: Any) -> Kit:
    """A memory store whose time stands still."""
    names, clock = Names(), Clock()
    store = MemoryStore(names, **{"max_bytes": 64 * 1024 * 1024, "lease": 5.0, "clock": clock, **options})
    return Kit(store, names, clock=clock)


def sealed() -> dict[str, Any]:
    """The option of a store whose entries are sealed."""
    from flask_rcache.codec.encryption import Encryption
    from flask_rcache.codec.envelope import Codec

    return {"codec": Codec(encryption=Encryption([bytes(range(32))]))}


def redis_store(url: str, names: Names | None = None, **options: Any) -> RedisStore:
    """A Redis store with the settings an app has by default; the timeout allows for a busy machine."""
    from flask_rcache.codec.envelope import Codec
    from flask_rcache.stores.redis.store import RedisStore

    return RedisStore(url, names=names or Names(), **{"codec": Codec(), "timeout": 2.0, **options})


def tiered_store(
    url: str,
    names: Names | None = None,
    *,
    outage_ttl: float = 2.0,
    max_bytes: int = 64 * 1024 * 1024,
    **options: Any,
) -> TieredStore:
    """A memory tier in front of :func:`redis_store`."""
    from flask_rcache.stores.tiered import TieredStore

    names = names or Names()
    redis = redis_store(url, names, **options)
    return TieredStore(redis, names=names, max_bytes=max_bytes, outage_ttl=outage_ttl)


def cluster_store(url: str, names: Names | None = None, **options: Any) -> ClusterStore:
    """A store on a cluster with the settings an app has by default; the timeout allows for a busy machine."""
    from flask_rcache.codec.envelope import Codec
    from flask_rcache.config.address import parse_address
    from flask_rcache.stores.cluster import ClusterStore

    address = parse_address(url, "RCACHE_URL")
    given = {"codec": Codec(), "timeout": 2.0, "shards": SHARDS, **options}
    return ClusterStore(address, names=names or Names(), **given)


def manager(url: str, **config: Any) -> CacheManager:
    """A cache on the one store that ``url`` names, without a memory tier in front; its timeout as `redis_store`'s."""
    from flask_rcache import CacheManager
    from flask_rcache.config.settings import load_settings
    from flask_rcache.extension import store_of

    types = config.pop("types", ())
    config = {"timeout": 2.0, "l1_ttl": 0, **config}
    settings = load_settings(
        {f"RCACHE_{name.upper()}": value for name, value in config.items()} | {"RCACHE_URL": url}, {}
    )
    return CacheManager(settings, store_of(settings), types=types)
