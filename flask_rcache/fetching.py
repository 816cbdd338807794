"""The value API for what may have to be loaded: ``fetch``, ``afetch`` and ``fetch_many``.

Owns the run of a loader and what is kept of it, in the call and in the background. Who loads and who waits is
``admission``'s.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeVar

from . import tracing
from .admission import Served, stand_in
from .entry import Freshness
from .flight import Load, current_load, drive, drive_async, keys_under_way
from .keys import Key, tag_member
from .loading import draft_of
from .policy import CacheType, check_tags
from .refresh import Refresher
from .registry import Policy
from .stores.base import Reading, Store
from .telling import Miss, is_expired
from .values import MISSING, Values, each_its_own

__all__ = ["Fetching"]

T = TypeVar("T")
K = TypeVar("K", bound=Key)

_PASS_SECONDS: Final = 2.0
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1


class Fetching(Values):
    """The part of a cache manager that loads values."""

    store: Store
    refresher: Refresher
    enter: Callable[[], AbstractContextManager[Any]]

    @property
    @abstractmethod
    def tracer(self) -> tracing.Tracer | None:
        """Makes a span around each look-up; ``None`` for none."""

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
                self._refresh(policy, stored, reading, lambda load: self._run(policy, load, members, loader))
            return value  # type: ignore[no-any-return]
        with Miss(policy, reading) as miss:
            admitted = _own(policy, stored, reading) or drive(self.loading.admit(policy, stored, reading, arrived))
            if isinstance(admitted, Served):
                miss.stale = admitted.stale
                value = self._shared(policy, admitted)
                return loader() if value is MISSING else value
            try:
                return self._run(policy, admitted, members, loader)
            except Exception:
                value = self._salvaged(policy, admitted)
                miss.stale = admitted.fallback is not None
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
                self._refresh(
                    policy, stored, reading, lambda load: asyncio.run(self._arun(policy, load, members, loader))
                )
            return value  # type: ignore[no-any-return]
        with Miss(policy, reading) as miss:
            own = _own(policy, stored, reading)
            steps = self.loading.admit(policy, stored, reading, arrived)
            admitted = own if own is not None else await drive_async(steps)
            if isinstance(admitted, Served):
                miss.stale = admitted.stale
                value = self._shared(policy, admitted)
                return await loader() if value is MISSING else value
            try:
                return await self._arun(policy, admitted, members, loader)
            except Exception:
                value = self._salvaged(policy, admitted)
                miss.stale = admitted.fallback is not None
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

        Raises:
            ConfigError: the type, a key, the ttl or the tags are not usable.
            TypeError: the loader gave no mapping.
            Exception: whatever ``loader`` raises, unless an expired value may stand in for each key that it was asked
                for (``stale_if_error``).
        """
        policy = self._value_policy(cache_type, ttl)
        members = _members(tags)
        by_key = self._stored_many(policy, keys)
        by_stored: dict[str, K] = {}
        for key, stored in by_key.items():
            by_stored.setdefault(stored, key)
        if not self.enabled:
            policy.count("bypasses", len(by_stored))
            mapping = _checked(loader(list(by_stored.values()))) if by_stored else {}
            return each_its_own(by_key, {stored: mapping[key] for stored, key in by_stored.items() if key in mapping})
        found: dict[str, Any] = {}
        missing = self._take(policy, self.loading.look_many(policy, list(by_stored)), found, settled=False)
        misses = {stored for stored, reading in missing.items() if is_expired(reading)}
        try:
            for loads in self._turns(policy, missing, found):
                loaded, stale = self._load_many(policy, loads, by_stored, loader, members)
                found.update(loaded)
                if stale:
                    misses.difference_update(loaded)
        finally:
            if misses:
                policy.count("misses", len(misses))
        return each_its_own(by_key, found)

    def _turns(self, policy: Policy, missing: dict[str, Reading | None], found: dict[str, Any]) -> Iterator[list[Load]]:
        """The loads to run, each list by one call of the loader; what others load meanwhile is put to ``found``."""
        deadline = time.monotonic() + self._patience()
        own = keys_under_way()
        pause = _FIRST_PAUSE
        while missing:
            loads = self._begin_many(policy, missing, own, alone=time.monotonic() >= deadline)
            if loads:
                yield loads
                for load in loads:
                    missing.pop(load.key)
            else:
                time.sleep(pause)
                pause = min(pause * 1.6, _LONGEST_PAUSE)
            if missing:  # somebody else is at work on these
                missing = self._take(policy, self.loading.look_many(policy, list(missing)), found, count=False)

    def _patience(self) -> float:
        """Seconds to wait for others. Inside a load it is short: two processes may wait for each other."""
        longest = self.settings.load_timeout
        return longest if current_load() is None else min(longest, self.store.lease)

    def _begin_many(
        self, policy: Policy, missing: dict[str, Reading | None], own: set[str], *, alone: bool
    ) -> list[Load]:
        """The loads that the caller may run now; those in which it runs already do not hold it up."""
        if own.isdisjoint(missing):
            return self.loading.begin_many(policy, missing, alone=alone)
        mine = {stored: reading for stored, reading in missing.items() if stored in own}
        rest = {stored: reading for stored, reading in missing.items() if stored not in own}
        loads = self.loading.begin_many(policy, mine, alone=True)
        return loads + (self.loading.begin_many(policy, rest, alone=alone) if rest else [])

    def _load_many(
        self,
        policy: Policy,
        loads: list[Load],
        keys: Mapping[str, K],
        loader: Callable[[list[K]], Mapping[K, T]],
        members: dict[str, None],
    ) -> tuple[dict[str, T], bool]:
        """Run one loader for several loads; what it depends on, all of them depend on.

        The values, and whether they are stale: when it fails, the expired ones stand in, if each key has one that may.
        A part of them would look as if the rest were not there.
        """
        together = loads[0]
        together.keys = tuple(load.key for load in loads)
        together.tags.update(members)
        try:
            try:
                with together:
                    mapping = loader([keys[load.key] for load in loads])
            except Exception:
                salvaged = self._all_salvaged(policy, loads)
                if salvaged is None:
                    raise
                return salvaged, True
            mapping = _checked(mapping)
            loaded = [(load, mapping[keys[load.key]]) for load in loads if keys[load.key] in mapping]
            for load in loads[1:]:
                load.depend_like(together)
            self._keep(policy, loaded)
        finally:
            self.loading.abandon_many(policy, loads)
        return {load.key: value for load, value in loaded}, False

    # Behind the API

    def _wanted(
        self, cache_type: CacheType | str, key: Key, ttl: float | None, tags: Iterable[str]
    ) -> tuple[Policy, str, dict[str, None]]:
        policy = self._value_policy(cache_type, ttl)
        return policy, self.names.stored(policy.name, key, hashed=False), _members(tags)

    def _servable(self, policy: Policy, stored: str, reading: Reading | None, since: int) -> tuple[Any, bool]:
        """The value of a reading that may be served, and whether it is to be refreshed meanwhile.

        Inside a load nothing stale is served: what the load produced could not be stored then.
        """
        entry = reading.entry if reading is not None else None
        if entry is None or reading is None:
            self.missed(policy, stored, reading, settled=False)
            return MISSING, False
        state = entry.freshness(reading.now)
        stale = state is Freshness.STALE and current_load() is None
        value = self._value(policy, entry) if stale or state is Freshness.FRESH else MISSING
        if value is MISSING:
            self.missed(policy, stored, reading, settled=False)
            return MISSING, False
        self.hit(policy, stored, reading, since, stale=stale)
        return value, stale or policy.early(entry, reading.now, random.random())

    def _refresh(self, policy: Policy, stored: str, reading: Reading | None, run: Callable[[Load], object]) -> None:
        """Load a key anew in the background, once in the fleet."""

        def job() -> bool:
            load = self.loading.take(policy, stored, reading)
            if load is not None:
                try:
                    policy.count("refreshes")
                    with self.enter():
                        run(load)
                finally:  # also when it has not come to the run, which ends the load else
                    self.loading.abandon(load)
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

    def _shared(self, policy: Policy, served: Served) -> Any:
        """The value of another's load, or a stale one."""
        self.shared(policy, served)
        return self._value(policy, served.entry)

    def _salvaged(self, policy: Policy, load: Load) -> Any:
        """The expired value that stands in when a loader fails (``stale_if_error``)."""
        return MISSING if load.fallback is None else self._shared(policy, Served(load.fallback, stale=True))

    def _all_salvaged(self, policy: Policy, loads: list[Load]) -> dict[str, Any] | None:
        """:meth:`_salvaged` for each of several loads; ``None`` unless every one has a value."""
        if any(load.fallback is None for load in loads):
            return None
        values = {load.key: self._salvaged(policy, load) for load in loads}
        return None if any(value is MISSING for value in values.values()) else values

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


def _own(policy: Policy, stored: str, reading: Reading | None) -> Load | None:
    """The load of a key inside a loader of this very key: it waits for nobody, and what it gives is not stored."""
    parent = current_load()
    if parent is None or stored not in keys_under_way():
        return None
    began = time.monotonic_ns()
    return Load(stored, policy, None, flight=None, began=began, parent=parent, fallback=stand_in(reading))


def _checked(mapping: Mapping[K, T]) -> Mapping[K, T]:
    """What a loader of several keys gave, once it is known to be a mapping."""
    if not hasattr(mapping, "keys") or not hasattr(mapping, "__getitem__"):
        kind = type(mapping).__name__
        raise TypeError(f"the loader of fetch_many must give a mapping, the values by key, not {kind}")
    return mapping


def _members(tags: Iterable[str]) -> dict[str, None]:
    return dict.fromkeys(map(tag_member, check_tags(tags)))
