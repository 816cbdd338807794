"""The stores: one protocol, one conformance suite, several tiers."""

from __future__ import annotations

from .base import Begin, Begun, Fill, Filled, Grant, Listed, Reading, Store, Trouble
from .memory import MemoryStore
from .redis import RedisStore
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
