"""What a server says of itself, and what of that weakens a promise.

Owns the reading of version and memory policy as ``attach.lua`` found them, and one sentence for each thing that an
operator should know. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["EVICTION_ADVICE", "Facts"]

#: What operators are told, in the documentation, the log and `flask cache check` alike.
EVICTION_ADVICE: Final = "set maxmemory and maxmemory-policy volatile-lru, which evicts entries and nothing else"
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
    def warnings(self) -> tuple[str, ...]:
        """One sentence for each thing that weakens a promise, with its remedy.

        >>> Facts("volatile-lru", "redis", "7.0.15", 2**30).warnings
        ()
        """
        found = []
        numbers = tuple(int(part) for part in self.version.split(".")[:2] if part.isdigit())
        if self.name == "redis" and numbers and numbers < _OLDEST_REDIS:
            found.append(f"Redis {self.version} is too old, ZMSCORE came with 6.2: upgrade it")
        if self.policy.startswith("allkeys"):
            found.append(
                f"maxmemory-policy {self.policy} may evict the record of invalidations: nothing stale is served then, "
                f"but the whole cache starts cold, and patterns walk all keys; {EVICTION_ADVICE}"
            )
        if self.policy == "noeviction" and self.maxmemory:
            found.append(
                f"with maxmemory-policy noeviction nothing new is cached once maxmemory is reached; {EVICTION_ADVICE}"
            )
        return tuple(found)
