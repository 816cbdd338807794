"""The value API: ``get``, ``set``, ``fetch`` and their many-forms, for threads and asyncio.

Owns the way of a value from the call to the store and back: keys and tags checked, values encoded, loads run and kept,
stale values refreshed in the background. Who loads and who waits is ``loading``'s; the rest of a manager is in
``manager``.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Literal, TypeVar

from . import events, tracing
from .codec import decode_value, encode_value
from .config import Settings
from .entry import Draft, Entry, Freshness
from .errors import CodecError, ConfigError, Unencodable
from .flight import Load, current_load, drive, drive_async
from .keys import Key, Names, tag_member
from .loading import Loading, Served, draft_of, fresh
from .policy import FROM_HEADERS, CacheType, check_tags
from .refresh import Refresher
from .registry import Policy, Registry
from .stats import Statistics
from .stores.base import Reading

__all__ = ["MISSING", "Values"]

T = TypeVar("T")
K = TypeVar("K", bound=Key)


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> Literal[False]:
        return False


#: "Not there", where ``None`` would be a value: ``get(type, key, MISSING)``.
MISSING: Final = _Missing()

_PASS_SECONDS: Final = 2.0
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1


class Values(ABC):
    """The part of a cache manager that deals in values."""

    settings: Settings
    names: Names
    registry: Registry
    statistics: Statistics
    loading: Loading
    refresher: Refresher
    enter: Callable[[], AbstractContextManager[Any]]

    @property
    @abstractmethod
    def tracer(self) -> tracing.Tracer | None:
        """Makes a span around each look-up; ``None`` for none."""

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
    def discard(self, type_name: str, stored: list[str]) -> None:
        """Remove what lies under keys whose new value could not be stored."""

    @abstractmethod
    def degraded(self, type_name: str, operation: str, error: Exception) -> None:
        """Carry on without the cache: count, tell who listens, log."""

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
        stored = self.names.stored(policy.name, key)
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
        """
        policy = self.policy(cache_type)
        by_stored = {self.names.stored(policy.name, key): key for key in keys}
        if not self.enabled:
            policy.count("bypasses", len(by_stored))
            return {}
        found: dict[str, Any] = {}
        self._take(policy, self.loading.look_many(policy, list(by_stored)), found)
        return {by_stored[stored]: value for stored, value in found.items()}

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
            Unencodable: under ``RCACHE_STRICT``, a value that would not come back exactly as it is.
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
        """Store several values as of now, in one round trip; whether all of them were stored."""
        return self._set(cache_type, mapping.items(), ttl, tags)

    def _set(
        self, cache_type: CacheType | str, items: Iterable[tuple[Any, object]], ttl: float | None, tags: Iterable[str]
    ) -> bool:
        policy = self._value_policy(cache_type, ttl)
        members = (policy.member, *map(tag_member, check_tags(tags)))
        by_stored = {self.names.stored(policy.name, key): value for key, value in items}
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

    def fetch(
        self,
        cache_type: CacheType | str,
        key: Key,
        loader: Callable[[], T],
        *,
        ttl: float | None = None,
        tags: Iterable[str] = (),
    ) -> T:
        """The value of a key, loaded once in the whole fleet when it is not there.

        Args:
            cache_type: the type, or its registered name.
            key: a str, an int or a tuple of plain values.
            loader: gives the value; cached values it reads hand their tags up, and :meth:`tag` adds some.
            ttl: seconds; the type's when left out.
            tags: labels by which it can be invalidated.

        Raises:
            ConfigError: the type, key, ttl or tags are not usable.
            Exception: whatever ``loader`` raises; nothing is stored then.
        """
        policy, stored, members = self._wanted(cache_type, key, ttl, tags)
        if self.tracer is None:
            return self._fetch(policy, stored, members, loader)
        with tracing.span(self.tracer, policy.name):
            return self._fetch(policy, stored, members, loader)

    def _fetch(self, policy: Policy, stored: str, members: dict[str, None], loader: Callable[[], T]) -> T:
        if not self.enabled:
            self.bypassed(policy)
            return loader()
        arrived = time.monotonic_ns()
        reading = self.loading.look(policy, stored)
        value, old = self._servable(policy, stored, reading, arrived)
        if value is not MISSING:
            if old:
                self._refresh(policy, stored, reading, members, loader)
            return value  # type: ignore[no-any-return]
        admitted = drive(self.loading.admit(policy, stored, reading, arrived))
        if isinstance(admitted, Served):
            value = self._shared(policy, admitted)
            return loader() if value is MISSING else value
        try:
            return self._run(policy, admitted, members, loader)
        except Exception:
            value = self._salvaged(policy, admitted)
            if value is MISSING:
                raise
            return value  # type: ignore[no-any-return]

    async def afetch(
        self,
        cache_type: CacheType | str,
        key: Key,
        loader: Callable[[], Awaitable[T]],
        *,
        ttl: float | None = None,
        tags: Iterable[str] = (),
    ) -> T:
        """:meth:`fetch` with an async loader; waiting for another's load does not hold up the event loop."""
        policy, stored, members = self._wanted(cache_type, key, ttl, tags)
        if self.tracer is None:
            return await self._afetch(policy, stored, members, loader)
        with tracing.span(self.tracer, policy.name):
            return await self._afetch(policy, stored, members, loader)

    async def _afetch(
        self, policy: Policy, stored: str, members: dict[str, None], loader: Callable[[], Awaitable[T]]
    ) -> T:
        if not self.enabled:
            self.bypassed(policy)
            return await loader()
        arrived = time.monotonic_ns()
        reading = self.loading.look(policy, stored)
        value, old = self._servable(policy, stored, reading, arrived)
        if value is not MISSING:
            if old:
                self._refresh(policy, stored, reading, members, loader)
            return value  # type: ignore[no-any-return]
        admitted = await drive_async(self.loading.admit(policy, stored, reading, arrived))
        if isinstance(admitted, Served):
            value = self._shared(policy, admitted)
            return await loader() if value is MISSING else value
        try:
            return await self._arun(policy, admitted, members, loader)
        except Exception:
            value = self._salvaged(policy, admitted)
            if value is MISSING:
                raise
            return value  # type: ignore[no-any-return]

    def fetch_many(
        self,
        cache_type: CacheType | str,
        keys: Iterable[K],
        loader: Callable[[list[K]], Mapping[K, T]],
        *,
        ttl: float | None = None,
        tags: Iterable[str] = (),
    ) -> dict[K, T]:
        """The values of several keys; those not there are loaded together.

        Three round trips at most for any number of keys, unless another loader is at work on some of them: those are
        waited for after this call's own load, and loaded in a second call when they do not come.

        Args:
            cache_type: the type, or its registered name.
            keys: the keys.
            loader: called with the missing keys; gives a mapping of those it could load.
            ttl: seconds; the type's when left out.
            tags: labels of every value loaded.

        Returns:
            The values of the keys that have one, in the order of ``keys``.
        """
        policy = self._value_policy(cache_type, ttl)
        members = _members(tags)
        by_stored = {self.names.stored(policy.name, key): key for key in keys}
        if not self.enabled:
            policy.count("bypasses", len(by_stored))
            return dict(loader(list(by_stored.values()))) if by_stored else {}
        found: dict[str, Any] = {}
        missing = self._take(policy, self.loading.look_many(policy, list(by_stored)), found)
        deadline = time.monotonic() + self.settings.load_timeout
        pause = _FIRST_PAUSE
        while missing:
            loads = self.loading.begin_many(policy, missing, alone=time.monotonic() >= deadline)
            if loads:
                found.update(self._load_many(policy, loads, by_stored, loader, members))
                for load in loads:
                    missing.pop(load.key)
            else:
                time.sleep(pause)
                pause = min(pause * 1.6, _LONGEST_PAUSE)
            if missing:  # somebody else is at work on these
                missing = self._take(policy, self.loading.look_many(policy, list(missing)), found, count=False)
        return {key: found[stored] for stored, key in by_stored.items() if stored in found}

    def _load_many(
        self,
        policy: Policy,
        loads: list[Load],
        keys: Mapping[str, K],
        loader: Callable[[list[K]], Mapping[K, T]],
        members: dict[str, None],
    ) -> dict[str, T]:
        """Run one loader for several loads; what it depends on, all of them depend on."""
        together = loads[0]
        together.tags.update(members)
        try:
            with together:
                mapping = loader([keys[load.key] for load in loads])
            loaded = [(load, mapping[keys[load.key]]) for load in loads if keys[load.key] in mapping]
            for load in loads[1:]:
                load.depend_like(together)
            self._keep(policy, loaded)
        finally:
            self.loading.abandon_many(policy, loads)
        return {load.key: value for load, value in loaded}

    def tag(self, *tags: str) -> None:
        """Label the entry being loaded, from inside its loader or view; outside a load it does nothing.

        Raises:
            ConfigError: a tag is empty or not a string.
        """
        members = [tag_member(tag) for tag in check_tags(tags)]
        load = current_load()
        if load is not None:
            load.tags.update(dict.fromkeys(members))

    # Behind the API

    def _value_policy(self, cache_type: CacheType | str, ttl: float | None) -> Policy:
        policy = self.policy(cache_type, ttl)
        if policy.ttl is FROM_HEADERS:
            raise ConfigError(f"a value has no headers: give a ttl for cache type {policy.name!r} here")
        return policy

    def _wanted(
        self, cache_type: CacheType | str, key: Key, ttl: float | None, tags: Iterable[str]
    ) -> tuple[Policy, str, dict[str, None]]:
        policy = self._value_policy(cache_type, ttl)
        return policy, self.names.stored(policy.name, key), _members(tags)

    def _taken(self, policy: Policy, stored: str, reading: Reading | None, *, count: bool = True) -> Any:
        """The value of a reading when it is fresh, else ``MISSING``; counts and tells which it was."""
        entry = fresh(reading)
        value = MISSING if entry is None else self._value(policy, entry)
        if value is MISSING:
            if count:
                self.missed(policy, stored, reading)
        else:
            assert reading is not None
            self.hit(policy, stored, reading)
        return value

    def _servable(self, policy: Policy, stored: str, reading: Reading | None, since: int) -> tuple[Any, bool]:
        """The value of a reading that may be served, and whether it is to be refreshed meanwhile.

        Inside a load nothing stale is served: what the load produced could not be stored then.
        """
        entry = reading.entry if reading is not None else None
        if entry is None or reading is None:
            self.missed(policy, stored, reading)
            return MISSING, False
        state = entry.freshness(reading.now)
        stale = state is Freshness.STALE and current_load() is None
        value = self._value(policy, entry) if stale or state is Freshness.FRESH else MISSING
        if value is MISSING:
            self.missed(policy, stored, reading)
            return MISSING, False
        self.hit(policy, stored, reading, since, stale=stale)
        return value, stale or policy.early(entry, reading.now, random.random())

    def _refresh(
        self,
        policy: Policy,
        stored: str,
        reading: Reading | None,
        members: dict[str, None],
        loader: Callable[[], Any],
    ) -> None:
        """Load a key anew in the background, once in the fleet."""

        def job() -> bool:
            load = self.loading.take(policy, stored, reading)
            if load is not None:
                policy.count("refreshes")
                with self.enter():
                    if inspect.iscoroutinefunction(loader) or inspect.iscoroutinefunction(
                        getattr(loader, "func", None)
                    ):
                        asyncio.run(self._arun(policy, load, members, loader))
                    else:
                        self._run(policy, load, members, loader)
            return True

        self.refresher.submit(stored, job)

    def _run(self, policy: Policy, load: Load, members: dict[str, None], loader: Callable[[], T]) -> T:
        """Run a loader and keep what it gives; however it ends, the load's lease and flight do too."""
        load.tags.update(members)
        with self._concluding(load):
            with load:
                loaded = loader()
            self._keep(policy, [(load, loaded)])
        return loaded

    async def _arun(
        self, policy: Policy, load: Load, members: dict[str, None], loader: Callable[[], Awaitable[T]]
    ) -> T:
        """:meth:`_run` for an async loader."""
        load.tags.update(members)
        with self._concluding(load):
            with load:
                loaded = await loader()
            self._keep(policy, [(load, loaded)])
        return loaded

    def _take(
        self, policy: Policy, readings: Mapping[str, Reading | None], found: dict[str, Any], *, count: bool = True
    ) -> dict[str, Reading | None]:
        """Move the values of fresh readings to ``found``; the readings of the rest."""
        rest: dict[str, Reading | None] = {}
        for stored, reading in readings.items():
            value = self._taken(policy, stored, reading, count=count)
            if value is MISSING:
                rest[stored] = reading
            else:
                found[stored] = value
        return rest

    def bypassed(self, policy: Policy) -> None:
        """Count a call that goes past the cache."""
        policy.count("bypasses")
        if tracing.wanted:
            tracing.note("bypass")

    def hit(self, policy: Policy, stored: str, reading: Reading, since: int = 0, *, stale: bool = False) -> None:
        """Count a served entry, tell who listens, and hand its tags up to the load that read it.

        Args:
            policy: the policy of the call.
            stored: the stored key.
            reading: what was found.
            since: this process's monotonic clock (ns) before the look; 0 when it was not read.
            stale: whether it has expired.
        """
        entry = reading.entry
        assert entry is not None
        if stale or not since:
            policy.count("stale" if stale else "hits")
        else:
            policy.hit((time.monotonic_ns() - since) / 1e9)
        if tracing.wanted:
            tracing.note("stale" if stale else "hit")
        signal = events.cache_stale if stale else events.cache_hit
        if signal.receivers:
            events.emit(signal, self, events.Hit(policy.name, stored, entry.age(reading.now), reading.size))
        load = current_load()
        if load is not None:
            load.hand_up(entry, stale=stale)

    def missed(self, policy: Policy, stored: str, reading: Reading | None) -> None:
        """Count a miss and tell who listens."""
        policy.count("misses")
        if tracing.wanted:
            tracing.note("miss")
        reason = "unavailable" if reading is None else reading.unfit or "expired"
        if reason == "garbage":
            policy.count("garbage")
        if events.cache_miss.receivers:
            events.emit(events.cache_miss, self, events.Miss(policy.name, stored, reason))
        load = current_load()
        if load is not None:  # that it was not there is an answer too, which an invalidation of the type overtakes
            load.tags[policy.member] = None

    def _value(self, policy: Policy, entry: Entry) -> Any:
        """The entry's value; a response, or bytes that do not decode, are no value."""
        if isinstance(entry.content, bytes):
            try:
                return decode_value(entry.content)
            except CodecError as error:
                policy.count("garbage")
                self.degraded(policy.name, "decode", error)
        return MISSING

    def _shared(self, policy: Policy, served: Served) -> Any:
        """The value of another's load, or a stale one."""
        self.shared(policy, served)
        return self._value(policy, served.entry)

    def shared(self, policy: Policy, served: Served) -> None:
        """Another's result, or a stale entry, is served: count it, and hand its tags up to the load that reads it."""
        if served.stale:
            policy.count("stale")
        load = current_load()
        if load is not None:
            load.hand_up(served.entry, stale=served.stale)

    def _salvaged(self, policy: Policy, load: Load) -> Any:
        """The expired value that stands in when a loader fails (``stale_if_error``)."""
        return MISSING if load.fallback is None else self._shared(policy, Served(load.fallback, stale=True))

    @contextmanager
    def _concluding(self, load: Load) -> Iterator[None]:
        """However the load ends, its lease and its flight do too."""
        try:
            yield
        except Exception as error:
            self.loading.abandon(load, error=error)
            raise
        finally:
            self.loading.abandon(load)

    def _keep(self, policy: Policy, loaded: list[tuple[Load, Any]]) -> None:
        """Store what loads produced; what cannot be kept is given up, and nobody waits for it for a while."""
        results = []
        for load, value in loaded:
            content = self._encoded(policy, value)
            if content is None:
                self.loading.abandon(load, pass_for=_PASS_SECONDS)
            else:
                results.append((load, draft_of(load, content, ttl=policy.lifetime(load.cost, random.random()))))
        if results:
            self.loading.commit(results)

    def _encoded(self, policy: Policy, value: object) -> bytes | None:
        """The value's bytes, or ``None`` when it cannot be kept.

        Raises:
            Unencodable: under ``RCACHE_STRICT``.
        """
        try:
            content = encode_value(value)
            if len(content) > self.settings.max_bytes:
                limit = self.settings.max_bytes
                raise Unencodable(f"the value takes {len(content)} bytes, more than RCACHE_MAX_BYTES = {limit}")
        except CodecError as error:
            if self.settings.strict:
                raise
            self.degraded(policy.name, "encode", error)
            return None
        return content


def _members(tags: Iterable[str]) -> dict[str, None]:
    return dict.fromkeys(map(tag_member, check_tags(tags)))
