"""The stores: one protocol, one conformance suite, several tiers."""

from __future__ import annotations

from .memory import MemoryStore
from .protocol import Begin, Begun, Fill, Filled, Grant, Listed, Reading, Store, Trouble
from .redis.store import RedisStore
from .tiered import TieredStore

__all__ = [
    "Begin",
    "Begun",
    "Fill",
    "Filled",
    "Grant",
    "Listed",
    "MemoryStore",
    "Reading",
    "RedisStore",
    "Store",
    "TieredStore",
    "Trouble",
]
