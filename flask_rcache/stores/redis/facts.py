"""What a server says of itself, and what of that weakens a promise.

Owns the reading of version and memory policy as ``attach.lua`` found them, and one sentence for each thing that an
operator should know. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["EVICTION_ADVICE", "POLICIES", "Facts"]

#: What operators are told, in the documentation, the log and `flask cache check` alike.
EVICTION_ADVICE: Final = "set maxmemory and maxmemory-policy volatile-lru, which evicts entries and nothing else"
#: What each maxmemory-policy means for the cache when memory is full.
POLICIES: Final = {
    "volatile-lru": "entries that were not used for longest are evicted, and nothing that records invalidations",
    "volatile-lfu": "entries that are used least often are evicted, and nothing that records invalidations",
    "volatile-ttl": "entries that expire soonest are evicted, however often they are used: fewer hits than with an LRU",
    "volatile-random": "entries are evicted at random, the most used ones too: fewer hits than with an LRU",
    "noeviction": "nothing new is cached when it is full; hits and invalidations go on",
    "allkeys-lru": "may evict the record of invalidations: nothing stale is served then, but the whole cache starts "
    "cold, and patterns walk all keys",
    "allkeys-lfu": "as allkeys-lru: the whole cache may start cold, and patterns walk all keys",
    "allkeys-random": "evicts the record of invalidations as soon as anything else: the whole cache starts cold again "
    "and again, and patterns walk all keys",
}
#: Those that suit a cache; all of them are safe.
_ADVISED: Final = ("volatile-lru", "volatile-lfu")
#: ZMSCORE came with it.
_OLDEST_REDIS: Final = (6, 2)


@dataclass(frozen=True, slots=True)
class Facts:
    """One server. What is empty was not to be learnt: an ACL may forbid INFO."""

    policy: str = ""
    name: str = ""
    version: str = ""
    maxmemory: int = 0

    @classmethod
    def of(cls, policy: bytes, name: bytes, version: bytes, maxmemory: bytes) -> Facts:
        """The facts in a reply of ``attach.lua``."""
        return cls(policy.decode(), name.decode(), version.decode(), int(maxmemory or 0))

    @property
    def evicts_anything(self) -> bool:
        """Whether it may evict what the cache keeps without an expiry: stamps and indexes. So too when not known."""
        return not self.policy or self.policy.startswith("allkeys")

    @property
    def is_advised(self) -> bool:
        """Whether its policy is one that suits a cache."""
        return self.policy in _ADVISED

    @property
    def too_old(self) -> str:
        """One sentence with the remedy when it lacks commands; else nothing."""
        numbers = tuple(int(part) for part in self.version.split(".")[:2] if part.isdigit())
        if self.name == "redis" and numbers and numbers < _OLDEST_REDIS:
            return f"Redis {self.version} is too old, ZMSCORE came with 6.2: upgrade it"
        return ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each thing that weakens a promise, with its remedy.

        >>> Facts("volatile-lru", "redis", "7.0.15", 2**30).warnings
        ()
        """
        found = [self.too_old] if self.too_old else []
        if self.name and not self.policy:
            found.append(
                "its maxmemory-policy is not known, as INFO does not say it or is not allowed: patterns walk all keys; "
                "grant +info to the user of the cache, where the server has it"
            )
        if self.policy.startswith("allkeys") or (self.policy == "noeviction" and self.maxmemory):
            found.append(f"maxmemory-policy {self.policy}: {POLICIES.get(self.policy, '')}; {EVICTION_ADVICE}")
        return tuple(found)
