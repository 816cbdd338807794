"""The caching layer for Flask: decorate a view, invalidate after a write, and every worker answers from the cache."""

from __future__ import annotations

from .context import current_cache
from .engine.manager import MISSING, CacheManager
from .errors import (
    AuthError,
    CodecError,
    ConfigError,
    InvalidKeyError,
    RCacheError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    DecodeError,
    EncodeError,
    UnknownTypeError,
)
from .extension import RCache
from .functions import (
    cached,
    clear_all,
    get_cache_stats,
    invalidate_cache_type,
    invalidate_key,
    invalidate_pattern,
    invalidate_tags,
)
from .model.cache_type import FROM_HEADERS, CacheType
from .signals import cache_audited, cache_error, cache_hit, cache_invalidated, cache_miss, cache_stale, cache_stored
from .views import by_user, cache_response

__all__ = [
    "FROM_HEADERS",
    "MISSING",
    "AuthError",
    "CacheManager",
    "CacheType",
    "CodecError",
    "ConfigError",
    "InvalidKeyError",
    "RCache",
    "RCacheError",
    "StoreError",
    "StoreFullError",
    "StoreUnavailableError",
    "DecodeError",
    "EncodeError",
    "UnknownTypeError",
    "by_user",
    "cache_audited",
    "cache_error",
    "cache_hit",
    "cache_invalidated",
    "cache_miss",
    "cache_response",
    "cache_stale",
    "cache_stored",
    "cached",
    "clear_all",
    "current_cache",
    "get_cache_stats",
    "invalidate_cache_type",
    "invalidate_key",
    "invalidate_pattern",
    "invalidate_tags",
]
