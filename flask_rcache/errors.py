"""The errors this package raises; every message names the remedy.

::

    RCacheError
    ├── ConfigError (also ValueError)    a setting, type, ttl, tag or prefix that cannot be
    │   ├── UnknownTypeError             a name that no registered cache type has
    │   └── InvalidKeyError              a key that cannot name an entry of its type
    ├── CodecError                       a value or stored bytes that cannot be stored or read exactly
    │   ├── EncodeError (also TypeError) a value that would not be restored exactly
    │   └── DecodeError                  garbage, truncated, foreign or oversized bytes
    │       └── SealError                not sealed with one of the app's keys
    ├── StoreError                       the store answered with an error
    │   ├── StoreUnavailableError        the store cannot be reached, or must not be trusted now
    │   └── StoreFullError               the store has no room (``maxmemory`` with ``noeviction``)
    ├── PartialFailure                   raised by a writer: some of its writes were not applied
    ├── WarmingError                     a page that could not be warmed
    └── AuthError                        a caller whom the admin API does not admit
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "AuthError",
    "CodecError",
    "ConfigError",
    "DecodeError",
    "EncodeError",
    "InvalidKeyError",
    "PartialFailure",
    "RCacheError",
    "SealError",
    "StoreError",
    "StoreFullError",
    "StoreUnavailableError",
    "UnknownTypeError",
    "WarmingError",
]


class RCacheError(Exception):
    """The root: ``except RCacheError`` catches everything this package raises on purpose."""


class ConfigError(RCacheError, ValueError):
    """A setting, cache type, ttl, tag or prefix is not usable as given."""


class UnknownTypeError(ConfigError):
    """A cache type was asked for by a name that this app does not know."""


class InvalidKeyError(ConfigError):
    """A key cannot name an entry: a wrong Python type, or another cache type's stored key."""


class CodecError(RCacheError):
    """A value or stored bytes cannot be kept or read exactly."""


class EncodeError(CodecError, TypeError):
    """The value would not come back exactly as it was; the message names its type.

    Attributes:
        kind: the class of what can't be stored, where it is the class that can't.
    """

    kind: type | None = None


class DecodeError(CodecError):
    """The stored bytes are garbage, truncated, of another version, or declare too large a size."""


class SealError(DecodeError):
    """The stored bytes were not sealed with one of ``RCACHE_ENCRYPTION_KEYS`` for where they lie."""


class StoreError(RCacheError):
    """The store answered with an error; the driver's own error is the ``__cause__``."""


class StoreUnavailableError(StoreError):
    """The store cannot be reached, or what it holds must not be trusted now."""


class StoreFullError(StoreError):
    """The store has no room for the entry: raise ``maxmemory`` or set an eviction policy."""


class AuthError(RCacheError):
    """A caller whom the admin API does not admit."""


class WarmingError(RCacheError):
    """A page could not be warmed: it was not answered, or its answer is not cached."""


class PartialFailure(RCacheError):
    """Raised by a writer when some of its writes could not be applied; the others were.

    Args:
        errors: what went wrong, by the id of the write.
    """

    def __init__(self, errors: Mapping[str, object]) -> None:
        super().__init__(f"{len(errors)} writes failed: {dict(list(errors.items())[:3])}")
        self.errors = dict(errors)
