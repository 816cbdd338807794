"""What the store tests share: a store with the means to speak its protocol briefly, and to play time and accidents."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from flask_rcache import CacheManager
from flask_rcache.codec import Codec
from flask_rcache.config.settings import load_settings
from flask_rcache.model.entry import Draft
from flask_rcache.model.keys import Names, user_tag, type_tag
from flask_rcache.stores import Begin, Begun, Fill, Grant, MemoryStore, Reading, RedisStore, Store

SECOND = 1_000_000


class Clock:
    """Microseconds that pass when the test says so."""

    def __init__(self, now: int = 1_700_000_000 * SECOND) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@dataclass
class Kit:
    """A store under test.

    Attributes:
        store: The store.
        client: A plain client of its server; ``None`` for the memory store.
        clock: The memory store's clock.
        connect: Makes another store on the same data, as another process has it.
    """

    store: Store
    names: Names = field(default_factory=Names)
    client: redis.Redis | None = None
    clock: Clock | None = None
    connect: Callable[[], Store] | None = None
    tokens: Any = field(default_factory=lambda: ("l" + secrets.token_hex(16) for _ in itertools.count()))

    def key(self, id: str = "a", type: str = "search") -> str:
        return self.names.entry(type, id)

    def draft(self, key: str, value: bytes = b"v", *, tags: Sequence[str] = (), **fields: Any) -> Draft:
        members = (type_tag(self.names.type_of(key)), *map(user_tag, tags))
        return Draft(value, **{"ttl": 60.0, "tags": members, **fields})

    def read(self, key: str, *tags: str) -> Reading:
        members = (type_tag(self.names.type_of(key)), *map(user_tag, tags))
        return self.store.read(key, lambda: members)

    def value(self, key: str) -> object:
        entry = self.read(key).entry
        return None if entry is None else entry.content

    def ask(self, key: str, judged: bytes = b"", *, token: str = "") -> Begun:
        return self.store.begin([(key, judged)], token or next(self.tokens))[0]

    def grant(self, key: str, judged: bytes = b"") -> Grant:
        begun = self.ask(key, judged)
        assert begun.kind is Begin.GRANTED, begun
        assert begun.grant is not None
        return begun.grant

    def fill(self, grant: Grant, value: bytes = b"v", **fields: Any) -> Fill:
        return self.store.fill([(grant, self.draft(grant.key, value, **fields))])[0].outcome

    def load(self, key: str, value: bytes = b"v", **fields: Any) -> Grant:
        """A whole load of a key, whatever lies there."""
        grant = self.grant(key, self.read(key).identity)
        assert self.fill(grant, value, **fields) is Fill.STORED
        return grant

    def lease_runs_out(self, key: str) -> None:
        if self.clock is not None:
            self.clock.tick(self.store.lease + 0.001)
        else:
            assert self.client is not None
            assert self.client.delete(self.names.lease(key)) == 1

    def server(self) -> redis.Redis:
        assert self.client is not None
        return self.client


def memory_kit(**options: Any) -> Kit:
    """A memory store whose time stands still."""
    names, clock = Names(), Clock()
    store = MemoryStore(names, **{"max_bytes": 64 * 1024 * 1024, "lease": 5.0, "clock": clock, **options})
    return Kit(store, names, clock=clock)


def redis_store(url: str, names: Names | None = None, **options: Any) -> RedisStore:
    """A Redis store with the settings an app has by default; the timeout allows for a busy machine."""
    return RedisStore(url, names=names or Names(), codec=Codec(), **{"timeout": 2.0, **options})


def manager(url: str, **config: Any) -> CacheManager:
    """A cache on the one store that ``url`` names, without a memory tier in front; its timeout as `redis_store`'s."""
    types = config.pop("types", ())
    config = {"timeout": 2.0, **config}
    settings = load_settings(
        {f"RCACHE_{name.upper()}": value for name, value in config.items()} | {"RCACHE_URL": url}, {}
    )
    names = Names(settings.prefix)
    if url.startswith("memory:"):
        return CacheManager(settings, MemoryStore(names, max_bytes=settings.l1_bytes, lease=settings.load_timeout))
    store = redis_store(url, names, timeout=settings.timeout, lease=settings.lease, load_timeout=settings.load_timeout)
    return CacheManager(settings, store, types=types)
