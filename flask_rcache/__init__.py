"""A caching layer for Flask: decorate a view, invalidate after a write, and every worker answers from the cache."""

from __future__ import annotations

from .context import current_cache
from .engine.calls import Block
from .engine.invalidations import Invalidated
from .engine.manager import MISSING, CacheManager
from .engine.statistics import CacheStats, TypeStats
from .engine.writes import Write
from .errors import (
    AuthError,
    CodecError,
    ConfigError,
    DecodeError,
    EncodeError,
    InvalidKeyError,
    PartialFailure,
    RCacheError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    UnknownTypeError,
    WarmingError,
)
from .extension import RCache
from .fragments import fragment
from .functions import (
    CachedFunction,
    CachedMethod,
    cached,
    clear_all,
    get_cache_stats,
    invalidate_cache_type,
    invalidate_key,
    invalidate_pattern,
    invalidate_tags,
    invalidate_url,
)
from .model.cache_type import AUTO, FROM_HEADERS, CacheType
from .observed import unobserved
from .signals import (
    Audited,
    CacheError,
    Hit,
    Invalidation,
    Miss,
    Stored,
    cache_audited,
    cache_error,
    cache_event,
    cache_hit,
    cache_invalidated,
    cache_miss,
    cache_stale,
    cache_stored,
)
from .stores.protocol import Listed, Page
from .views import CachedView, by_caller, by_user, cache_response, not_modified

__all__ = [
    "AUTO",
    "FROM_HEADERS",
    "MISSING",
    "Audited",
    "AuthError",
    "Block",
    "CacheError",
    "CacheManager",
    "CacheStats",
    "CacheType",
    "CachedFunction",
    "CachedMethod",
    "CachedView",
    "CodecError",
    "ConfigError",
    "DecodeError",
    "EncodeError",
    "Hit",
    "InvalidKeyError",
    "Invalidated",
    "Invalidation",
    "Listed",
    "Miss",
    "Page",
    "PartialFailure",
    "RCache",
    "RCacheError",
    "StoreError",
    "StoreFullError",
    "StoreUnavailableError",
    "Stored",
    "TypeStats",
    "UnknownTypeError",
    "WarmingError",
    "Write",
    "by_caller",
    "by_user",
    "cache_audited",
    "cache_error",
    "cache_event",
    "cache_hit",
    "cache_invalidated",
    "cache_miss",
    "cache_response",
    "cache_stale",
    "cache_stored",
    "cached",
    "clear_all",
    "current_cache",
    "fragment",
    "get_cache_stats",
    "invalidate_cache_type",
    "invalidate_key",
    "invalidate_pattern",
    "invalidate_tags",
    "invalidate_url",
    "not_modified",
    "unobserved",
]
