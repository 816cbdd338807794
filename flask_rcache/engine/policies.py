"""The types an app knows, and each type as the app applies it.

Owns the resolving of names to types, and of types to policies: the effective ttl (call, settings, type, default). Does
not touch a store.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from ..config.settings import Settings
from ..errors import ConfigError, UnknownTypeError
from ..model.cache_type import BUILT_IN, FROM_HEADERS, CacheType, Ttl, check_ttl
from ..model.entry import Entry
from ..model.keys import Names, type_tag
from .statistics import Statistics

__all__ = ["Policy", "Registry"]

_POLICIES_KEPT: Final = 10_000


class Policy:
    """A cache type as one app applies it: its ttl resolved, its names made, its counters at hand."""

    __slots__ = ("adaptive", "ask", "count", "hit", "hold", "loaded", "member", "name", "root", "timed", "ttl", "type")

    def __init__(
        self, type: CacheType, ttl: Ttl, names: Names, statistics: Statistics, *, l1_ttl: float, adaptive: bool
    ) -> None:
        self.type: Final = type
        self.name: Final = type.name
        self.ttl: Final = ttl
        #: The bounds of an adaptive ttl, unless the call or the settings say which ttl.
        self.adaptive: Final = type.adaptive if adaptive else None
        self.member: Final = type_tag(type.name)
        self.root: Final = names.entry(type.name, "")
        counters = statistics.of(type.name)
        self.count: Final = counters.add
        self.hit: Final = counters.hit
        self.timed: Final = counters.timed
        self.loaded: Final = statistics.notes.loaded
        #: Seconds the memory tier may hold an entry; never longer than the app allows.
        self.hold: Final = l1_ttl if type.l1_ttl is None else min(type.l1_ttl, l1_ttl)
        members = (self.member,)
        self.ask: Final[Callable[[], Sequence[str]]] = lambda: members

    def lifetime(self, cost: float, draw: float) -> float:
        """Seconds that a result is fresh.

        Args:
            cost: seconds its load took.
            draw: a random number from 0 to 1.
        """
        assert self.ttl is not FROM_HEADERS
        ttl = self.ttl
        if self.adaptive is not None:
            shortest, longest = self.adaptive
            # By orders of magnitude, from 10 ms to 10 s: ten times the cost is worth a third of the range more.
            ttl = shortest + (longest - shortest) * min(1.0, max(0.0, math.log10(max(cost, 1e-6) / 0.01) / 3))
        return ttl * (1 - self.type.jitter * draw)

    def early(self, entry: Entry, now: int, draw: float) -> bool:
        """Whether to refresh a fresh entry now, before it expires.

        Args:
            entry: the entry.
            now: the store's clock, µs.
            draw: a random number from 0 to 1.

        Source: Vattani et al., "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015 (XFetch).
        """
        beta = self.type.early
        if not beta:
            return False
        return entry.age(now) - entry.cost * beta * math.log(max(draw, 1e-12)) >= entry.ttl


class Registry:
    """The types of one app.

    Args:
        types: registered beside the built-in ones.
        discover: gives the types found on the app's views; asked when a name is not known.
        settings: for the ttls.
        names: for the keys.
        statistics: where a policy counts.

    Raises:
        ConfigError: two different registrations of one name.
    """

    def __init__(
        self,
        types: Iterable[CacheType],
        discover: Callable[[], Iterable[CacheType]],
        *,
        settings: Settings,
        names: Names,
        statistics: Statistics,
    ) -> None:
        self._settings: Final = settings
        self._names: Final = names
        self._statistics: Final = statistics
        self._discover: Final = discover
        self._types: Final[dict[str, CacheType]] = {}
        self._policies: Final[dict[tuple[CacheType, Ttl | None], Policy]] = {}
        for cache_type in (*BUILT_IN, *types):
            self._register(cache_type)

    def _register(self, cache_type: CacheType) -> None:
        if not isinstance(cache_type, CacheType):
            raise ConfigError(f"types= takes CacheType objects, not {type(cache_type).__name__} {cache_type!r}")
        known = self._types.setdefault(cache_type.name, cache_type)
        if known != cache_type:
            raise ConfigError(
                f"cache type {cache_type.name!r} is registered twice, as {known} and as {cache_type}: rename one, or "
                f"use .replace(...) at the call site or RCACHE_TTL_{cache_type.name.upper()}"
            )

    def types(self) -> Mapping[str, CacheType]:
        """The known types by name, those found on the app's views included."""
        for found in self._discover():
            self._types.setdefault(found.name, found)
        return dict(self._types)

    def resolve(self, cache_type: CacheType | str) -> CacheType:
        """The type that a name stands for; a type stands for itself.

        Raises:
            UnknownTypeError: no such type; the message lists the known ones.
            ConfigError: neither a type nor a name.
        """
        if isinstance(cache_type, CacheType):
            return cache_type
        if not isinstance(cache_type, str):
            raise ConfigError(
                f"a cache type is a CacheType or its name, not {type(cache_type).__name__} {cache_type!r}"
            )
        known = self._types.get(cache_type) or self.types().get(cache_type)
        if known is None:
            raise UnknownTypeError(f"unknown cache type {cache_type!r}; known: {', '.join(sorted(self._types))}")
        return known

    def policy(self, cache_type: CacheType | str, ttl: Ttl | None = None) -> Policy:
        """The policy of a call: its ttl comes from the call, the settings, the type or the default.

        Raises:
            ConfigError: the type or the ttl is not usable.
        """
        resolved = self.resolve(cache_type)
        if ttl is not None and ttl is not FROM_HEADERS:
            check_ttl(ttl)  # before the look-up: True == 1 there
        policy = self._policies.get((resolved, ttl))
        if policy is None:
            own = ttl is None and resolved.name not in self._settings.ttls
            effective = ttl if ttl is not None else self._settings.ttls.get(resolved.name, resolved.ttl)
            if effective is None:
                effective = self._settings.ttl_default
            policy = Policy(
                resolved, effective, self._names, self._statistics, l1_ttl=self._settings.l1_ttl, adaptive=own
            )
            if len(self._policies) < _POLICIES_KEPT:  # ttls computed for each call must not grow it for ever
                self._policies[resolved, ttl] = policy
        return policy
