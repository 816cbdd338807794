"""The value API for several keys that may have to be loaded: ``fetch_many``.

Owns how the missing ones are loaded together, and how those are waited for that others load. What is kept of a load is
``fetching``'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from ..model.cache_type import CacheType
from ..model.keys import Key
from ..stores.protocol import Reading, Store
from .fetching import Fetching, members_of
from .policies import Policy
from .single_flight import Load, current_load, keys_under_way
from .telling import is_expired
from .values import MISSING, each_its_own

__all__ = ["FetchingMany"]

T = TypeVar("T")
K = TypeVar("K", bound=Key)

_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1


class FetchingMany(Fetching):
    """The part of a cache manager that loads several values together."""

    store: Store

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
        members = members_of(tags)
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

    def _all_salvaged(self, policy: Policy, loads: list[Load]) -> dict[str, Any] | None:
        """:meth:`_salvaged` for each of several loads; ``None`` unless every one has a value."""
        if any(load.fallback is None for load in loads):
            return None
        values = {load.key: self._salvaged(policy, load) for load in loads}
        return None if any(value is MISSING for value in values.values()) else values


def _checked(mapping: Mapping[K, T]) -> Mapping[K, T]:
    """What a loader of several keys gave, once it is known to be a mapping."""
    if not hasattr(mapping, "keys") or not hasattr(mapping, "__getitem__"):
        kind = type(mapping).__name__
        raise TypeError(f"the loader of fetch_many must give a mapping, the values by key, not {kind}")
    return mapping
