"""The value API for what is known: ``get``, ``set``, their many-forms, and ``tag``.

Owns the way of a value from the call to the store and back: keys and tags checked, values encoded and decoded. Loading
what is not there is ``fetching``'s; the rest of a manager is in ``manager``.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeVar

from ..codec import decode_value, encode_value
from ..config.settings import Settings
from ..errors import CodecError, ConfigError, EncodeError
from ..model.cache_type import FROM_HEADERS, CacheType, check_tags
from ..model.entry import Draft, Entry
from ..model.keys import Key, Names, user_tag
from ..stores.protocol import Reading
from .admission import fresh
from .loading import Loading
from .policies import Policy, Registry
from .single_flight import current_load
from .statistics import Statistics
from .telling import Telling

__all__ = ["MISSING", "Values", "each_its_own"]

K = TypeVar("K", bound=Key)
T = TypeVar("T")


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> Literal[False]:
        return False


#: "Not there", where ``None`` would be a value: ``get(type, key, MISSING)``.
MISSING: Final = _Missing()


class Values(Telling, ABC):
    """The part of a cache manager that deals in values that are there."""

    settings: Settings
    names: Names
    registry: Registry
    statistics: Statistics
    loading: Loading

    @property
    @abstractmethod
    def enabled(self) -> bool:
        """Whether entries are read and filled; invalidations are sent in any case."""

    def policy(self, cache_type: CacheType | str, ttl: Any = None) -> Policy:
        """The policy of a call: its ttl comes from the call, the settings, the type or the default.

        Raises:
            ConfigError: the type or the ttl is not usable.
        """
        return self.registry.policy(cache_type, ttl)

    @abstractmethod
    def degraded(self, type_name: str, operation: str, error: Exception) -> None:
        """Carry on without the cache: count, tell who listens, log."""

    @abstractmethod
    def discard(self, type_name: str, stored: list[str]) -> None:
        """Remove what lies under keys whose new value could not be stored."""

    def get(self, cache_type: CacheType | str, key: Key, default: Any = None) -> Any:
        """The fresh value of a key, or ``default``.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple of plain values.
            default: what to return for a miss; :data:`MISSING` tells it from a stored ``None``.

        Raises:
            ConfigError: the type or the key is not usable.
        """
        policy = self.policy(cache_type)
        stored = self.names.stored(policy.name, key, hashed=False)
        if not self.enabled:
            policy.count("bypasses")
            return default
        value = self._taken(policy, stored, self.loading.look(policy, stored))
        return default if value is MISSING else value

    def get_many(self, cache_type: CacheType | str, keys: Iterable[K]) -> dict[K, Any]:
        """The fresh values of those keys that have one, in one round trip.

        Args:
            cache_type: the type, or its registered name.
            keys: the keys; each stands as given in the result.

        Raises:
            ConfigError: the type or a key is not usable.
        """
        policy = self.policy(cache_type)
        by_key = self._stored_many(policy, keys)
        by_stored = dict.fromkeys(by_key.values())
        if not self.enabled:
            policy.count("bypasses", len(by_stored))
            return {}
        found: dict[str, Any] = {}
        self._take(policy, self.loading.look_many(policy, list(by_stored)), found)
        return each_its_own(by_key, found)

    def set(
        self,
        cache_type: CacheType | str,
        key: Key,
        value: object,
        *,
        ttl: float | None = None,
        tags: Iterable[str] = (),
    ) -> bool:
        """Store a value as of now. Prefer :meth:`fetch`: it knows when the value was read.

        When it cannot be stored, the value that was there is removed, so that nobody is served what is no longer so.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple of plain values.
            value: anything the codec keeps exactly.
            ttl: seconds; the type's when left out.
            tags: labels by which it can be invalidated.

        Returns:
            Whether it was stored.

        Raises:
            ConfigError: the type, key, ttl or tags are not usable.
            EncodeError: under ``RCACHE_STRICT``, a value that would not come back exactly as it is.
        """
        return self._set(cache_type, [(key, value)], ttl, tags)

    def set_many(
        self,
        cache_type: CacheType | str,
        mapping: Mapping[Any, object],
        *,
        ttl: float | None = None,
        tags: Iterable[str] = (),
    ) -> bool:
        """Store several values as of now, in one round trip.

        Args:
            cache_type: the type, or its registered name.
            mapping: the values by key.
            ttl: seconds; the type's when left out.
            tags: labels by which they can be invalidated.

        Returns:
            Whether all of them were stored. Each that was not is removed, as :meth:`set` does.

        Raises:
            ConfigError: the type, a key, the ttl or the tags are not usable.
            EncodeError: under ``RCACHE_STRICT``, a value that would not come back exactly as it is.
        """
        if not isinstance(mapping, Mapping):
            raise ConfigError(f"set_many takes a mapping, the values by key, not {type(mapping).__name__}")
        return self._set(cache_type, mapping.items(), ttl, tags)

    def _set(
        self, cache_type: CacheType | str, items: Iterable[tuple[Any, object]], ttl: float | None, tags: Iterable[str]
    ) -> bool:
        policy = self._value_policy(cache_type, ttl)
        members = (policy.member, *map(user_tag, check_tags(tags)))
        by_stored = {self.names.stored(policy.name, key, hashed=False): value for key, value in items}
        if not self.enabled:
            policy.count("bypasses", len(by_stored))
            self.discard(policy.name, list(by_stored))
            return False
        contents = {stored: self._encoded(policy, value) for stored, value in by_stored.items()}
        drafts = {
            stored: Draft(
                content,
                policy.lifetime(0.0, random.random()),
                policy.type.stale_while_revalidate,
                policy.type.stale_if_error,
                tags=members,
            )
            for stored, content in contents.items()
            if content is not None
        }
        written = not drafts or self.loading.write(policy, drafts)
        lost = [stored for stored in by_stored if not written or stored not in drafts]
        if lost:  # the value that was there is not what the caller has just said it is
            self.discard(policy.name, lost)
        return not lost

    def tag(self, *tags: str) -> None:
        """Label the entry being loaded, from inside its loader or view; outside a load it does nothing.

        Raises:
            ConfigError: a tag is empty or not a string.
        """
        members = [user_tag(tag) for tag in check_tags(tags)]
        load = current_load()
        if load is not None:
            load.tags.update(dict.fromkeys(members))

    def depend(self, cache_type: CacheType | str, tags: Iterable[str]) -> None:
        """Have the entry being loaded depend on a type and on tags, as if it had read an entry; for ``functions``.

        Raises:
            ConfigError: the type or a tag is not usable.
        """
        members = (self.policy(cache_type).member, *map(user_tag, check_tags(tags)))
        load = current_load()
        if load is not None:
            load.tags.update(dict.fromkeys(members))

    # Behind the API

    def _value_policy(self, cache_type: CacheType | str, ttl: float | None) -> Policy:
        policy = self.policy(cache_type, ttl)
        if policy.ttl is FROM_HEADERS:
            raise ConfigError(f"a value has no headers: give a ttl for cache type {policy.name!r} here")
        return policy

    def _stored_many(self, policy: Policy, keys: Iterable[K]) -> dict[K, str]:
        """The stored keys of several keys; two spellings of one key (42 and "42") have the same."""
        if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
            raise ConfigError(f"keys must be a list of keys, not {keys!r:.80}: write [{keys!r:.80}]")
        return {key: self.names.stored(policy.name, key, hashed=False) for key in keys}

    def _taken(
        self, policy: Policy, stored: str, reading: Reading | None, *, count: bool = True, settled: bool = True
    ) -> Any:
        """The value of a reading when it is fresh, else ``MISSING``; counts and tells which it was."""
        entry = fresh(reading)
        value = MISSING if entry is None else self._value(policy, entry)
        if value is MISSING:
            if count:
                self.missed(policy, stored, reading, settled=settled)
        else:
            assert reading is not None
            self.hit(policy, stored, reading)
        return value

    def _take(
        self,
        policy: Policy,
        readings: Mapping[str, Reading | None],
        found: dict[str, Any],
        *,
        count: bool = True,
        settled: bool = True,
    ) -> dict[str, Reading | None]:
        """Move the values of fresh readings to ``found``; the readings of the rest."""
        rest: dict[str, Reading | None] = {}
        for stored, reading in readings.items():
            value = self._taken(policy, stored, reading, count=count, settled=settled)
            if value is MISSING:
                rest[stored] = reading
            else:
                found[stored] = value
        return rest

    def _value(self, policy: Policy, entry: Entry) -> Any:
        """The entry's value; a response, or bytes that do not decode, are no value."""
        if isinstance(entry.content, bytes):
            try:
                return decode_value(entry.content)
            except CodecError as error:
                policy.count("garbage")
                self.degraded(policy.name, "decode", error)
        return MISSING

    def _encoded(self, policy: Policy, value: object) -> bytes | None:
        """The value's bytes, or ``None`` when it cannot be kept.

        Raises:
            EncodeError: under ``RCACHE_STRICT``.
        """
        try:
            content = encode_value(value)
            if len(content) > self.settings.max_bytes:
                limit = self.settings.max_bytes
                raise EncodeError(f"the value takes {len(content)} bytes, more than RCACHE_MAX_BYTES = {limit}")
        except CodecError as error:
            if self.settings.strict:
                raise
            self.degraded(policy.name, "encode", error)
            return None
        return content


def each_its_own(by_key: Mapping[K, str], found: Mapping[str, T]) -> dict[K, T]:
    """The values found, by the keys as they were given; two spellings of one key share no object."""
    result: dict[K, T] = {}
    given = set[str]()
    for key, stored in by_key.items():
        if stored in found:
            result[key] = _another(found[stored]) if stored in given else found[stored]
            given.add(stored)
    return result


def _another(value: T) -> T:
    try:
        return decode_value(encode_value(value))  # type: ignore[no-any-return]
    except CodecError:  # a loader's, that cannot be kept either
        return value
