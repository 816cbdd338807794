"""What cachelib promises of a cache, kept by a manager: keys and values with a timeout, and nothing else.

Owns :class:`KeyValues` (and :class:`NoValues`, which keeps nothing): the methods that Flask-Caching and cachelib have
in common, what a timeout of 0 and ``None`` means, and which entries ``clear`` removes. The last write wins, as it does
there. What is stored with a timeout of 0 is kept for ten years, which is the longest that an entry lives.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Final

from ..engine.manager import MISSING, CacheManager
from ..errors import ConfigError, EncodeError
from ..model.cache_type import CacheType
from ..model.keys import Key

__all__ = ["KeyValues", "NoValues", "Timeout", "lifetime"]

#: A timeout as those libraries take it: seconds, 0 for never, ``None`` for the default.
Timeout = int | float | str | timedelta | None

_NEVER: Final = 10 * 366 * 86_400
_MOST_PREFIXES: Final = 1000
_SAME: Final = re.compile(r"[a-z0-9_]+")


def lifetime(timeout: Timeout, default: Timeout = 300) -> float:
    """The seconds that a timeout means.

    Args:
        timeout: seconds, a number in a string, or a ``timedelta``, of which a part of a second counts as one; 0 never
            expires.
        default: what ``None`` means.

    Raises:
        ConfigError: negative, or no duration.

    >>> lifetime(60), lifetime(None, default=300), lifetime(timedelta(milliseconds=1)), lifetime(0) > 10**8
    (60.0, 300.0, 1.0, True)
    """
    given = default if timeout is None else timeout
    try:
        seconds = math.ceil(given.total_seconds()) if isinstance(given, timedelta) else float(given or 0)
    except (TypeError, ValueError):
        seconds = math.nan
    if not seconds >= 0 or isinstance(given, bool):
        raise ConfigError(f"a timeout is a number of seconds or a timedelta, and 0 never expires; it is not {given!r}")
    return float(min(seconds, _NEVER) or _NEVER)


class KeyValues:
    """A cache as cachelib has it.

    Args:
        manager: gives the app's cache.
        family: the name of the cache type, with the prefix behind it where that is not ``usual_prefix``.
        usual_prefix: the prefix of most apps.
        key_prefix: keeps the keys of several caches apart; or a function that returns it.
        default_timeout: seconds, or a ``timedelta``, for a timeout of ``None``.
        ignore_errors: whether ``delete_many`` is silent when Redis is away.
        pack: makes a value of what can't be stored as it is.
        unpack: the inverse.

    Attributes:
        key_prefix: as it was given.
        default_timeout: the same.
    """

    def __init__(
        self,
        manager: Callable[[], CacheManager],
        family: str,
        *,
        usual_prefix: str = "",
        key_prefix: str | Callable[[], str] | None = None,
        default_timeout: Timeout = 300,
        ignore_errors: bool = False,
        pack: Callable[[Any], Any] = lambda value: value,
        unpack: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        lifetime(default_timeout)  # an unusable one is an error now
        self.key_prefix: Final = usual_prefix if key_prefix is None else key_prefix
        self.default_timeout: Final = default_timeout
        self.ignore_errors: Final = ignore_errors
        self._usual_prefix: Final = usual_prefix
        self._family: Final = family
        self._manager: Final = manager
        self._pack: Final = pack
        self._unpack: Final = unpack
        #: By prefix: the type as it is known, for what is loaded, and for what is set.
        self._types: Final[dict[str, tuple[CacheType, CacheType, CacheType]]] = {}

    # The contract

    def get(self, key: object) -> Any:
        """The value of a key; ``None`` when there is none."""
        value = self.lookup(key)
        return None if value is MISSING else value

    def get_many(self, *keys: object) -> list[Any]:
        """The values in the order of the keys, ``None`` for each that has none; one round trip."""
        manager = self._manager()
        ids = [self._id(manager, key) for key in keys]
        found = manager.get_many(self._type(manager), ids)
        return [self._unpack(found[id]) if id in found else None for id in ids]

    def get_dict(self, *keys: Any) -> dict[Any, Any]:
        """:meth:`get_many` by key."""
        return dict(zip(keys, self.get_many(*keys), strict=True))

    def has(self, key: object) -> bool:
        """Whether a key has a value, which may be ``None``."""
        return self.lookup(key) is not MISSING

    def set(self, key: object, value: object, timeout: Timeout = None) -> bool:
        """Store a value; whether it was stored."""
        return bool(self.set_many({key: value}, timeout))

    def set_many(self, mapping: Mapping[Any, object], timeout: Timeout = None) -> list[Any]:
        """Store values in one round trip; the keys of those that were stored."""
        manager, ttl = self._manager(), lifetime(timeout, self.default_timeout)
        cache_type = self._type(manager)
        ids = {key: self._id(manager, key) for key in mapping}
        values = {ids[key]: self._packed(manager, cache_type, ids[key], value) for key, value in mapping.items()}
        refused = [id for id, value in values.items() if value is MISSING]
        for id in refused:  # the value that was there is not what the caller has just said it is
            del values[id]
            manager.delete(cache_type, id)
        missed = {*refused, *manager.put_many(cache_type, values, ttl=ttl)}
        return [key for key in mapping if ids[key] not in missed]

    def add(self, key: object, value: object, timeout: Timeout = None) -> bool:
        """Store a value where there is none, atomically; whether it was stored."""
        manager = self._manager()
        id = self._id(manager, key)
        cache_type = self._type(manager)
        packed = self._packed(manager, cache_type, id, value)
        ttl = lifetime(timeout, self.default_timeout)
        return packed is not MISSING and manager.add(cache_type, id, packed, ttl=ttl)

    def inc(self, key: object, delta: int = 1) -> int | None:
        """Add to an integer atomically, from 0 where there is none; ``None`` when Redis is away.

        Raises:
            TypeError: another value lies there.
        """
        manager = self._manager()
        ttl = lifetime(None, self.default_timeout)
        value = manager.incr(self._type(manager), self._id(manager, key), delta, ttl=ttl)
        return value if manager.is_available else None

    def dec(self, key: object, delta: int = 1) -> int | None:
        """Subtract, as :meth:`inc` adds."""
        return self.inc(key, -delta)

    def delete(self, key: object) -> bool:
        """Remove a value; whether it was there."""
        manager = self._manager()
        return manager.delete(self._type(manager), self._id(manager, key))

    def delete_many(self, *keys: Any) -> list[Any]:
        """Remove values in one round trip; the keys, also of those that had none.

        Raises:
            RuntimeError: Redis is away, and errors are not ignored. The removal holds in this process at once, and is
                sent to Redis when it is back.
        """
        removed = self._removed(keys)
        if not removed.journalled:
            return list(keys)
        if not self.ignore_errors:
            raise RuntimeError(f"Redis is away, and these keys are removed when it is back: {list(keys)!r:.500}")
        return []

    def unlink(self, *keys: Any) -> int:
        """Remove values in one round trip; how many were there."""
        return int(self._removed(keys))

    def clear(self) -> bool:
        """Remove everything that was stored under this prefix, and nothing else; ``False`` when Redis is away."""
        manager = self._manager()
        return not manager.invalidate_type(self._type(manager)).journalled

    # What decorators need beside it

    def lookup(self, key: object) -> Any:
        """The value of a key, or ``MISSING``."""
        manager = self._manager()
        value = manager.get(self._type(manager), self._id(manager, key), MISSING)
        return value if value is MISSING else self._unpack(value)

    def fetch(self, key: object, load: Callable[[], Any], *, ttl: Callable[[Any], float], **how: Any) -> Any:
        """The value of a key, loaded once in all processes when it is not there; see ``CacheManager.fetch``.

        ``load`` returns what :meth:`get` unpacks, and so does this. Another process may still serve what ``set`` has
        replaced, for ``RCACHE_L1_TTL`` at most: the memory tier is used.
        """
        manager = self._manager()
        return manager.fetch(self._types_of(manager)[1], self._id(manager, key), load, ttl=ttl, judged=True, **how)

    def invalidate(self, tag: str) -> None:
        """Make what was loaded with a tag invalid."""
        self._manager().invalidate_tags(tag)

    def warn_once(self, about: str, message: str) -> None:
        """Log a warning, once for each thing that it is about."""
        self._manager().engine.observer.warn_once(about, "%s", message)

    @property
    def manager(self) -> CacheManager:
        """The cache itself."""
        return self._manager()

    # Behind it

    def _removed(self, keys: Iterable[object]) -> Any:
        manager = self._manager()
        name, names = self._type(manager).name, manager.engine.names
        stored = [names.stored(name, self._id(manager, key), hashed=False) for key in keys]
        return manager.engine.invalidations.keys(name, stored)

    def _packed(self, manager: CacheManager, cache_type: CacheType, id: Key, value: object) -> Any:
        try:
            return self._pack(value)
        except EncodeError as error:
            if manager.settings.strict:
                raise
            engine = manager.engine
            engine.observer.unstorable(engine.policies.policy(cache_type), str(id), error)
            return MISSING

    @staticmethod
    def _id(manager: CacheManager, key: object) -> Key:
        """The key as text; as a tuple where it would be taken for a stored key of the engine's."""
        text = key if type(key) is str else str(key)
        return (text,) if text.startswith(manager.engine.names.entries) else text

    def _type(self, manager: CacheManager) -> CacheType:
        """The type for a value that others may replace at any time: it is not read from the memory tier."""
        return self._types_of(manager)[2]

    def _types_of(self, manager: CacheManager) -> tuple[CacheType, CacheType, CacheType]:
        prefix = self.key_prefix() if callable(self.key_prefix) else self.key_prefix
        found, policies = self._types.get(prefix), manager.engine.policies
        if found is not None and policies.types.get(found[0].name) is found[0]:
            return found
        known = CacheType(self._family if prefix == self._usual_prefix else _type_name(self._family, prefix))
        policies.discover(known)
        known = policies.types[known.name]  # which the app may have registered
        # Those libraries run nothing in the background.
        loaded = known.replace(stale_while_revalidate=0, early_refresh=0)
        if len(self._types) >= _MOST_PREFIXES:
            self._types.clear()
        found = self._types[prefix] = known, loaded, loaded.replace(l1_ttl=0)
        return found


@functools.lru_cache(maxsize=1024)
def _type_name(family: str, prefix: str) -> str:
    """The name of a prefix's type, which no other prefix has."""
    name = f"{family}_{prefix}"
    if (not prefix or _SAME.fullmatch(prefix)) and len(name) <= 64:
        return name
    readable = re.sub(r"[^a-z0-9]+", "_", prefix.lower()).strip("_")[:24]
    digest = blake2b(prefix.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    return f"{family}_{readable}__{digest}"


class NoValues:
    """A cache that keeps nothing, and answers as if it did: Flask-Caching's ``NullCache``.

    Args:
        default_timeout: as of the others.
        key_prefix: the same.
    """

    def __init__(self, *, default_timeout: Timeout = 300, key_prefix: str | Callable[[], str] | None = None) -> None:
        self.default_timeout: Final = default_timeout
        self.key_prefix: Final = key_prefix or ""

    def get(self, key: object) -> None:
        """Nothing."""

    def get_many(self, *keys: object) -> list[None]:
        """Nothing for each key."""
        return [None for _ in keys]

    def get_dict(self, *keys: Any) -> dict[Any, None]:
        """Nothing by key."""
        return dict.fromkeys(keys)

    def has(self, key: object) -> bool:
        """It has not."""
        return False

    def set(self, key: object, value: object, timeout: Timeout = None) -> bool:
        """Keep nothing."""
        return True

    def set_many(self, mapping: Mapping[Any, object], timeout: Timeout = None) -> list[Any]:
        """Keep nothing."""
        return list(mapping)

    def add(self, key: object, value: object, timeout: Timeout = None) -> bool:
        """Keep nothing."""
        return True

    def inc(self, key: object, delta: int = 1) -> int:
        """What the first call returns."""
        return delta

    def dec(self, key: object, delta: int = 1) -> int:
        """The same."""
        return -delta

    def delete(self, key: object) -> bool:
        """There is nothing to remove."""
        return True

    def delete_many(self, *keys: Any) -> list[Any]:
        """The same."""
        return list(keys)

    def unlink(self, *keys: Any) -> int:
        """The same."""
        return 0

    def clear(self) -> bool:
        """The same."""
        return True

    def lookup(self, key: object) -> Any:
        """Nothing."""
        return MISSING

    def fetch(self, key: object, load: Callable[[], Any], *, ttl: Callable[[Any], float], **how: Any) -> Any:
        """What the loader returns."""
        return load()

    def invalidate(self, tag: str) -> None:
        """There is nothing to invalidate."""

    def warn_once(self, about: str, message: str) -> None:
        """That nothing is cached is known."""
