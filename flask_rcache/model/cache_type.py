"""Cache types: the named policies that entries are kept under.

Owns :class:`CacheType` and what makes a ttl acceptable. Constructing a type registers nothing; an app knows
the built-in types, those given to ``RCache(types=…)`` and those its decorated views use.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final, Literal

from ..errors import ConfigError

__all__ = ["FROM_HEADERS", "CacheType", "Ttl", "check_tags", "check_ttl", "is_type_name"]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


class _FromHeaders(Enum):
    FROM_HEADERS = "from-headers"

    def __repr__(self) -> str:
        return self.name


#: ``ttl=FROM_HEADERS``: the response's own ``Cache-Control`` or ``Expires`` says how long it is fresh.
FROM_HEADERS: Final = _FromHeaders.FROM_HEADERS

#: A ttl as an option takes it: seconds, or :data:`FROM_HEADERS`.
Ttl = float | Literal[_FromHeaders.FROM_HEADERS]


def check_ttl(ttl: object, *, what: str = "ttl") -> float:
    """The ttl as seconds, once it is known to be usable.

    Args:
        ttl: seconds; more than 0 and finite.
        what: how the message names it.

    Returns:
        The same number as a float.

    Raises:
        ConfigError: it is not a number, or 0, negative, NaN or infinite.

    >>> check_ttl(60)
    60.0
    >>> check_ttl(0)
    Traceback (most recent call last):
    ...
    flask_rcache.errors.ConfigError: ttl must be more than 0 seconds, not 0: leave the decorator off to keep nothing
    """
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise ConfigError(f"{what} must be a number of seconds, not {type(ttl).__name__} {ttl!r}")
    if isinstance(ttl, float) and not math.isfinite(ttl):
        raise ConfigError(f"{what} must be a finite number of seconds, not {ttl!r}")
    if ttl <= 0:
        raise ConfigError(f"{what} must be more than 0 seconds, not {ttl!r}: leave the decorator off to keep nothing")
    if ttl > _LONGEST:
        shown = f"not {ttl!r}" if ttl < _LONGEST**10 else "not that many"
        raise ConfigError(f"{what} must be at most {_LONGEST} seconds (ten years), {shown}")
    return float(ttl)


_LONGEST: Final = 10 * 366 * 86_400


def _check_window(seconds: object, what: str) -> None:
    if seconds != 0:
        check_ttl(seconds, what=what)


def _may_be_kept(status: object) -> bool:
    return isinstance(status, int) and 200 <= status <= 599 and status not in (206, 304)


def check_tags(tags: Iterable[object], *, what: str = "tags") -> tuple[str, ...]:
    """The tags, de-duplicated in order, once they are known to be usable.

    Raises:
        ConfigError: ``tags`` is one string instead of a list of them, or a tag is empty or not a string.

    >>> check_tags(["revenue", "revenue", "eu"])
    ('revenue', 'eu')
    """
    if isinstance(tags, str | bytes):
        raise ConfigError(f"{what} must be a list of strings, not one string: write [{tags!r}]")
    if not isinstance(tags, Iterable):
        raise ConfigError(f"{what} must be a list of strings, not {type(tags).__name__} {tags!r:.80}: () is none")
    found: dict[str, None] = {}
    for tag in tags:
        if not isinstance(tag, str) or not tag:
            raise ConfigError(f"{what} must hold non-empty strings, not {type(tag).__name__} {tag!r}: use str() on it")
        found[tag] = None
    return tuple(found)


def is_type_name(name: object) -> bool:
    """Whether a cache type may have this name.

    >>> is_type_name("weather"), is_type_name("Weather")
    (True, False)
    """
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class CacheType:
    """A named policy: the name is the namespace of its entries, everything else is policy of the call site.

    Args:
        name: ``[a-z][a-z0-9_]*``, at most 64 characters; it stands in every stored key.
        ttl: seconds an entry is fresh; ``None`` takes the app's ``RCACHE_TTL_DEFAULT``.
        per_user: the entries belong to one caller each: with a ``key_func`` that names the caller, requests
            with credentials are cached too.
        stale_while_revalidate: seconds past the ttl in which an expired answer may be served while another
            request (or process) loads a new one.
        stale_if_error: seconds past the ttl in which it may be served when the loader fails.
        early: XFetch's beta: above 0, a hot entry is refreshed in the background before it expires, the sooner the
            longer its load takes; 1 is a good value.
        jitter: the part of the ttl, 0 to 1, by which it is shortened at random, so that entries do not expire together.
        adaptive: two ttls in seconds; the cost of a load chooses between them, from 10 ms to 10 s. It takes the place
            of the type's own ``ttl``; one given at the call or in the settings stands.
        error_ttl: seconds a response with a status of 400 and above is kept at most.
        statuses: statuses to keep beside the usual ones, such as ``{503}``.
        l1_ttl: seconds the memory tier of a process may hold an entry, and so how stale it can be after an invalidation
            elsewhere; ``None`` takes the app's ``RCACHE_L1_TTL``, 0 leaves the memory tier out.
        query: names of the query arguments that select the answer; ``None`` takes the query string exactly as it is.

    Raises:
        ConfigError: the name, a duration, a status or the query list is not usable.

    >>> CacheType("weather", ttl=1800).replace(ttl=60).ttl
    60
    """

    name: str
    ttl: Ttl | None = None
    per_user: bool = False
    stale_while_revalidate: float = 0
    stale_if_error: float = 0
    early: float = 0
    jitter: float = 0
    adaptive: tuple[float, float] | None = None
    error_ttl: float = 10
    statuses: frozenset[int] = frozenset()
    l1_ttl: float | None = None
    query: tuple[str, ...] | None = None

    DASHBOARD: ClassVar[CacheType]
    SEARCH: ClassVar[CacheType]
    USER: ClassVar[CacheType]
    PRODUCT: ClassVar[CacheType]
    ANALYTICS: ClassVar[CacheType]
    QUERY: ClassVar[CacheType]
    DEFAULT: ClassVar[CacheType]

    def __post_init__(self) -> None:
        if not is_type_name(self.name):
            raise ConfigError(
                f"a cache type's name must match [a-z][a-z0-9_]* (64 characters at most), not {self.name!r}"
            )
        if self.ttl is not None and self.ttl is not FROM_HEADERS:
            check_ttl(self.ttl, what=f"the ttl of cache type {self.name!r}")
        for window in ("stale_while_revalidate", "stale_if_error"):
            _check_window(getattr(self, window), f"{window} of cache type {self.name!r}")
        self._check_freshness()
        if self.l1_ttl is not None:
            _check_window(self.l1_ttl, f"l1_ttl of cache type {self.name!r}")
        check_ttl(self.error_ttl, what=f"error_ttl of cache type {self.name!r}")
        if not isinstance(self.per_user, bool):
            raise ConfigError(f"per_user of cache type {self.name!r} must be True or False, not {self.per_user!r}")
        if not isinstance(self.statuses, Iterable):
            raise ConfigError(
                f"statuses of cache type {self.name!r} must be a set such as {{503}}, not {self.statuses!r}"
            )
        object.__setattr__(self, "statuses", frozenset(self.statuses))
        never = sorted(status for status in self.statuses if not _may_be_kept(status))
        if never:
            raise ConfigError(
                f"statuses of cache type {self.name!r} cannot hold {never}: 1xx, 206 and 304 are never kept"
            )
        if self.query is not None:
            object.__setattr__(self, "query", check_tags(self.query, what=f"query of cache type {self.name!r}"))

    def _check_freshness(self) -> None:
        for name, highest in (("early", 100), ("jitter", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
                raise ConfigError(
                    f"{name} of cache type {self.name!r} must be a number from 0 to {highest}, not {value!r}"
                )
        if self.adaptive is not None:
            if not isinstance(self.adaptive, tuple | list):
                raise ConfigError(
                    f"adaptive of cache type {self.name!r} must be (shortest, longest), not {self.adaptive!r}"
                )
            bounds = tuple(check_ttl(bound, what=f"adaptive of cache type {self.name!r}") for bound in self.adaptive)
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                raise ConfigError(
                    f"adaptive of cache type {self.name!r} must be (shortest, longest), not {self.adaptive!r}"
                )
            object.__setattr__(self, "adaptive", bounds)

    def replace(self, **changes: Any) -> CacheType:
        """A copy with other policy, for one call site: ``CacheType.DASHBOARD.replace(ttl=60)``."""
        return dataclasses.replace(self, **changes)


CacheType.DASHBOARD = CacheType("dashboard", ttl=300)
CacheType.SEARCH = CacheType("search", ttl=3600)
CacheType.USER = CacheType("user", ttl=1800, per_user=True)
CacheType.PRODUCT = CacheType("product", ttl=7200)
CacheType.ANALYTICS = CacheType("analytics", ttl=600)
CacheType.QUERY = CacheType("query", ttl=300)
CacheType.DEFAULT = CacheType("default")

BUILT_IN: Final = (
    CacheType.DASHBOARD,
    CacheType.SEARCH,
    CacheType.USER,
    CacheType.PRODUCT,
    CacheType.ANALYTICS,
    CacheType.QUERY,
    CacheType.DEFAULT,
)
