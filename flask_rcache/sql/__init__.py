"""SQL that invalidates itself: what a load reads of a database becomes its tags, and commits stamp what they wrote."""

from __future__ import annotations

from .cache import SQLCache
from .queries import cached_query

__all__ = ["SQLCache", "cached_query"]
