"""The types an app knows, and each type as the app applies it.

Owns the resolving of names to types, and of types to policies: the effective ttl (call, settings, type, default). Does
not touch a store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from ..config.settings import Settings, guess
from ..errors import ConfigError, UnknownTypeError
from ..model.bounded import BoundedDict
from ..model.cache_type import BUILT_IN, FROM_HEADERS, CacheType, Lifetime, Tags, Ttl, check_lifetime, split_tags
from ..model.keys import Names, type_tag, user_tag
from ..model.named_tuple import NamedTuple
from .statistics import Counters, Statistics

__all__ = ["Policies", "Policy", "ResolvedCall"]

_POLICIES_KEPT: Final = 10_000
_CALLS_KEPT: Final = 1000
#: Classes of what Python holds equal only if it means the same here: a ttl of ``True`` is an error, one of 1 is none.
_TTLS: Final = frozenset({int, float, timedelta, type(None)})
_TAGS: Final = {str}


class Policy:
    """A cache type as one app applies it: its ttl resolved, its names made, its counters at hand."""

    __slots__ = ("adaptive_ttl", "beta", "counters", "l1_ttl", "name", "root", "tag", "tags", "ttl", "type")

    def __init__(
        self, type: CacheType, ttl: Lifetime, names: Names, counters: Counters, *, l1_ttl: float, adaptive: bool
    ) -> None:
        self.type: Final = type
        self.name: Final = type.name
        self.ttl: Final = ttl
        #: The bounds of an adaptive ttl, unless the call or the settings say which ttl.
        self.adaptive_ttl: Final = type.adaptive_ttl if adaptive else None
        self.beta: Final = type.early_refresh
        self.tag: Final = type_tag(type.name)
        self.tags: Final = (self.tag,)
        self.root: Final = names.entry(type.name, "")
        self.counters: Final = counters
        #: Seconds the memory tier may hold an entry; never longer than the app allows.
        self.l1_ttl: Final = l1_ttl if type.l1_ttl is None else min(type.l1_ttl, l1_ttl)

    def lifetime(self, cost: float, draw: float) -> float:
        """Seconds that a result is fresh.

        Args:
            cost: seconds its load took.
            draw: a random number from 0 to 1.
        """
        assert self.ttl is not FROM_HEADERS
        ttl = self.ttl
        if self.adaptive_ttl is not None:
            shortest, longest = self.adaptive_ttl
            # By orders of magnitude, from 0.01 to 10 s: ten times the cost is worth a third of the range more.
            ttl = shortest + (longest - shortest) * min(1.0, max(0.0, math.log10(max(cost, 1e-6) / 0.01) / 3))
        return ttl * (1 - self.type.jitter * draw)


class ResolvedCall(NamedTuple):
    """What a call's type, ttl and tags come to.

    Args:
        policy: of the call.
        tags: stamp tags, without the type's.
        observes: whether the tags were, or had among them, ``AUTO``.
    """

    policy: Policy
    tags: tuple[str, ...]
    observes: bool


class Policies:
    """The types of one app, and their policies.

    Args:
        types: registered beside the built-in ones.
        settings: for the ttls.
        names: for the keys.
        statistics: where a policy counts.

    Raises:
        ConfigError: two different registrations of one name.
    """

    def __init__(self, types: Iterable[CacheType], *, settings: Settings, names: Names, statistics: Statistics) -> None:
        self._settings: Final = settings
        self._names: Final = names
        self._statistics: Final = statistics
        self._types: Final[dict[str, CacheType]] = {}
        self._policies: Final[BoundedDict[tuple[CacheType, Lifetime | None], Policy]] = BoundedDict(_POLICIES_KEPT)
        #: Of calls whose options are constants, as a decorator's are.
        self._calls: Final[BoundedDict[tuple[object, object, object], ResolvedCall]] = BoundedDict(_CALLS_KEPT)
        for cache_type in (*BUILT_IN, *types):
            self.register(cache_type)

    @property
    def types(self) -> Mapping[str, CacheType]:
        """The known types by name."""
        return self._types

    def register(self, cache_type: CacheType) -> None:
        """Have a type known by its name.

        Raises:
            ConfigError: it is none, or another type has the name.
        """
        if not isinstance(cache_type, CacheType):
            raise ConfigError(f"types= takes CacheType objects, not {type(cache_type).__name__} {cache_type!r}")
        known = self._types.setdefault(cache_type.name, cache_type)
        if known != cache_type:
            raise ConfigError(
                f"cache type {cache_type.name!r} is registered twice, as {known} and as {cache_type}: rename one, or "
                f"use .replace(...) at the call site or RCACHE_TTL_{cache_type.name.upper()}"
            )

    def discover(self, cache_type: CacheType) -> None:
        """A view uses this type: without another registration of its name, the name means it from now on."""
        self._types.setdefault(cache_type.name, cache_type)

    def resolve(self, cache_type: CacheType | str) -> CacheType:
        """The type that a name stands for; a type stands for itself.

        Raises:
            UnknownTypeError: no such type; the message has the nearest known one, and all of them.
            ConfigError: neither a type nor a name.
        """
        if isinstance(cache_type, CacheType):
            return cache_type
        if not isinstance(cache_type, str):
            raise ConfigError(
                f"a cache type is a CacheType or its name, not {type(cache_type).__name__} {cache_type!r}"
            )
        known = self._types.get(cache_type)
        if known is None:
            near = guess(cache_type, self._types)
            raise UnknownTypeError(
                f"unknown cache type {cache_type!r}{near}{' Known' if near else '; known'} are "
                f"{', '.join(sorted(self._types))}; register another with RCache(types=[CacheType({cache_type!r}, …)])"
            )
        return known

    def policy(self, cache_type: CacheType | str, ttl: Ttl | None = None) -> Policy:
        """The policy of a call: its ttl comes from the call, the settings, the type or the default.

        Raises:
            ConfigError: the type or the ttl is not usable.
        """
        resolved = self.resolve(cache_type)
        own = None if ttl is None else check_lifetime(ttl)
        policy = self._policies.get((resolved, own))
        if policy is None:
            settings = self._settings
            default = settings.ttl_default if resolved.ttl is None else check_lifetime(resolved.ttl)
            policy = self._policies[resolved, own] = Policy(
                resolved,
                own if own is not None else settings.ttls.get(resolved.name, default),
                self._names,
                self._statistics.of(resolved.name),
                l1_ttl=settings.l1_ttl,
                adaptive=own is None and resolved.name not in settings.ttls,
            )
        return policy

    def resolve_call(self, cache_type: CacheType | str, ttl: Ttl | None, tags: Tags) -> ResolvedCall:
        """The policy of a call, and its tags once they are known to be usable.

        Raises:
            ConfigError: the type, the ttl or the tags are not usable.
        """
        tags = tuple(tags) if type(tags) is list else tags
        is_constant = (
            type(tags) is tuple
            and _TAGS.issuperset(map(type, tags))
            and type(ttl) in _TTLS
            and type(cache_type) in (CacheType, str)
        )
        if is_constant and (known := self._calls.get((cache_type, ttl, tags))) is not None:
            return known
        policy = self.policy(cache_type, ttl)
        observes, checked = split_tags(tags)
        call = ResolvedCall(policy, tuple(map(user_tag, checked)), observes)
        if is_constant:
            self._calls[cache_type, ttl, tags] = call
        return call
