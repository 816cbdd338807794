"""The stores: two protocols, one conformance suite, several tiers.

``RedisStore`` and ``TieredStore`` are imported from their modules by who uses them, so that a cache without Redis does
not load a driver.
"""

from __future__ import annotations

from .memory import MemoryStore
from .protocol import Catalogue, Store

__all__ = ["Catalogue", "MemoryStore", "Store"]
