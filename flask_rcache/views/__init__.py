"""Decorated views: the HTTP side of the cache, from the request to what is stored."""

from __future__ import annotations

from .commit import install
from .decorator import CachedView, cache_response
from .identity import by_caller, by_user
from .validators import not_modified

__all__ = ["CachedView", "by_caller", "by_user", "cache_response", "install", "not_modified"]
