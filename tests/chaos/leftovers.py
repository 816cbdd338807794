"""What lies in Redis that nobody owns: leases without a loader, index rows without an entry, entries without a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import redis

#: Seconds that an entry's own end and its row's may be read apart.
_MARGIN = 2.0
_CHUNK = 500


@dataclass(slots=True)
class Leftovers:
    """What was found.

    Attributes:
        leases: leases that somebody holds; while nobody loads there are none.
        markers: what stands in a lease's place to say that nobody should wait; it ends by itself.
        endless: leases and markers without an end.
        asides: indexes that an invalidation moved aside, and that were not worked off.
        ownerless: rows of an index that should be live, whose entry is not there.
        unlisted: entries without a row, which no pattern can reach.
        expired: rows of expired entries: they go with the next rows that come, a few each.
        rows: live rows, each with its entry.
    """

    leases: list[str] = field(default_factory=list)
    endless: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)
    ownerless: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    markers: int = 0
    expired: int = 0
    rows: int = 0

    @property
    def faults(self) -> list[str]:
        """What should not be there, in words."""
        found = {
            "leases without a loader": self.leases,
            "leases without an end": self.endless,
            "indexes moved aside for good": self.asides,
            "index rows without an entry": self.ownerless,
            "entries without an index row": self.unlisted,
        }
        return [f"{len(names)} {what}: {names[:5]}" for what, names in found.items() if names]

    def __str__(self) -> str:
        counted = f"{self.rows} entries listed, {self.expired} expired rows, {self.markers} markers; "
        return counted + ("; ".join(self.faults) or "nothing without an owner")


def leases(client: redis.Redis) -> list[str]:
    """The leases that a loader holds now."""
    return [key.decode() for key, token in _tokens(client).items() if token.startswith(b"l")]


def _tokens(client: redis.Redis) -> dict[bytes, bytes]:
    """What lies under the lease keys."""
    found = {key: client.get(key) for key in client.scan_iter(match="cache~lease:*", count=1000)}
    return {key: token for key, token in found.items() if isinstance(token, bytes)}


def asides(client: redis.Redis) -> list[str]:
    """The indexes that an invalidation moved aside, as long as they are worked off."""
    return [key.decode() for key in client.scan_iter(match="cache~index:*~*", count=1000)]


def look_around(client: redis.Redis) -> Leftovers:
    """Take stock; nobody may use the cache meanwhile."""
    found = Leftovers(leases=leases(client), asides=asides(client))
    tokens = _tokens(client)
    found.markers = len(tokens) - len(found.leases)
    found.endless = [key.decode() for key in tokens if client.pttl(key) == -1]
    listed: set[bytes] = set()
    for index in [key for key in client.scan_iter(match="cache~index:*", count=1000) if key.count(b"~") == 1]:
        now = _now(client)
        rows: Any = client.zrange(index, 0, -1, withscores=True)
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            with client.pipeline(transaction=False) as pipe:
                for key, _ in chunk:
                    pipe.exists(key)
                there = pipe.execute()
            for (key, expires), is_there in zip(chunk, there, strict=True):
                listed.add(key)
                if is_there:
                    found.rows += 1
                elif expires / 1000 > now + _MARGIN:
                    found.ownerless.append(key.decode())
                else:
                    found.expired += 1
    entries = set(client.scan_iter(match="cache:*", count=1000))
    found.unlisted = [key.decode() for key in entries - listed if client.exists(key)]
    return found


def _now(client: redis.Redis) -> float:
    seconds, part = client.time()
    return float(seconds) + float(part) / 1e6
