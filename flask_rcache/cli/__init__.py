"""``flask cache …``: the cache from a terminal, for people and for scripts."""

from __future__ import annotations

from .group import cache

__all__ = ["cache"]
