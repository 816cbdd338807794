"""Cache types: the named policies that entries are kept under.

Owns :class:`CacheType`, and what makes a ttl, a list of tags or a type's name acceptable. Constructing a type registers
nothing; which types an app knows is ``engine.policies``'s.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any, ClassVar, Final, Literal

from ..errors import ConfigError

__all__ = [
    "AUTO",
    "BUILT_IN",
    "FROM_HEADERS",
    "CacheType",
    "Lifetime",
    "Seconds",
    "Tags",
    "Ttl",
    "check_lifetime",
    "check_tags",
    "check_ttl",
    "check_window",
    "is_type_name",
    "split_tags",
]

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LONGEST: Final = 10 * 366 * 86_400


class _FromHeaders(Enum):
    FROM_HEADERS = "from-headers"

    def __repr__(self) -> str:
        return self.name


#: ``ttl=FROM_HEADERS``: the response's own ``Cache-Control`` or ``Expires`` says how long it is fresh.
FROM_HEADERS: Final = _FromHeaders.FROM_HEADERS


class _Auto(Enum):
    AUTO = "auto"

    def __repr__(self) -> str:
        return self.name


#: ``tags=AUTO``: what was read of a watched database, tables and rows, are the entry's tags; see ``flask_rcache.sql``.
AUTO: Final = _Auto.AUTO
#: Tags as an option takes them: labels, or :data:`AUTO`, or both.
Tags = Iterable[str | Literal[_Auto.AUTO]] | Literal[_Auto.AUTO]

#: A duration as an option takes it.
Seconds = float | timedelta
#: A ttl as an option takes it.
Ttl = Seconds | Literal[_FromHeaders.FROM_HEADERS]
#: A ttl once it is checked: seconds, or :data:`FROM_HEADERS`.
Lifetime = float | Literal[_FromHeaders.FROM_HEADERS]


def check_ttl(ttl: object, *, what: str = "ttl") -> float:
    """The ttl in seconds, once it is known to be usable.

    Args:
        ttl: seconds or a ``timedelta``; more than 0 and finite.
        what: how the message names it.

    Raises:
        ConfigError: it is no duration, or 0, negative, NaN, infinite or longer than ten years.

    >>> check_ttl(60), check_ttl(timedelta(minutes=5))
    (60.0, 300.0)
    >>> check_ttl(0)
    Traceback (most recent call last):
    ...
    flask_rcache.errors.ConfigError: ttl must be more than 0 seconds, not 0: leave the decorator off to keep nothing
    """
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigError(f"{what} must be a number of seconds or a timedelta, not {type(ttl).__name__} {ttl!r}")
    if isinstance(seconds, float) and not math.isfinite(seconds):
        raise ConfigError(f"{what} must be a finite number of seconds, not {ttl!r}")
    if seconds <= 0:
        raise ConfigError(f"{what} must be more than 0 seconds, not {ttl!r}: leave the decorator off to keep nothing")
    if seconds > _LONGEST:
        shown = f"not {ttl!r}" if seconds < _LONGEST**10 else "not that many"
        raise ConfigError(f"{what} must be at most {_LONGEST} seconds (ten years), {shown}")
    return float(seconds)


def check_lifetime(ttl: object, *, what: str = "ttl") -> Lifetime:
    """As :func:`check_ttl`; :data:`FROM_HEADERS` stands for itself."""
    return FROM_HEADERS if ttl is FROM_HEADERS else check_ttl(ttl, what=what)


def check_window(seconds: object, *, what: str) -> float:
    """As :func:`check_ttl`; 0 is none.

    >>> check_window(0, what="stale_if_error")
    0.0
    """
    if not isinstance(seconds, bool) and isinstance(seconds, int | float | timedelta) and not seconds:
        return 0.0
    return check_ttl(seconds, what=what)


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
            raise ConfigError(f"{what} must be non-empty strings, not {type(tag).__name__} {tag!r}: use str() on it")
        found[tag] = None
    return tuple(found)


def split_tags(tags: object) -> tuple[bool, tuple[str, ...]]:
    """Whether tags are :data:`AUTO`, or have it among them; and the others, once they are known to be usable.

    Raises:
        ConfigError: as for :func:`check_tags`.

    >>> split_tags(AUTO), split_tags(["revenue", AUTO]), split_tags(["revenue"])
    ((True, ()), (True, ('revenue',)), (False, ('revenue',)))
    """
    if tags is AUTO:
        return True, ()
    if isinstance(tags, Iterable) and not isinstance(tags, str | bytes):
        given = list(tags)
        plain = [tag for tag in given if tag is not AUTO]
        return len(plain) < len(given), check_tags(plain)
    return False, check_tags(tags)  # type: ignore[arg-type]  # which refuses it


def is_type_name(name: object) -> bool:
    """Whether a cache type may have this name.

    >>> is_type_name("weather"), is_type_name("Weather")
    (True, False)
    """
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _check_number(value: object, highest: float, *, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
        raise ConfigError(f"{what} must be a number from 0 to {highest}, not {value!r}")
    return value


def _check_range(bounds: object, *, what: str) -> tuple[float, float]:
    checked = [check_ttl(each, what=what) for each in bounds] if isinstance(bounds, tuple | list) else []
    if len(checked) != 2 or checked[0] > checked[1]:
        raise ConfigError(f"{what} must be (shortest, longest), not {bounds!r}")
    return checked[0], checked[1]


def _check_statuses(statuses: object, *, what: str) -> frozenset[int]:
    if not isinstance(statuses, Iterable):
        raise ConfigError(f"{what} must be a set such as {{503}}, not {statuses!r}")
    checked = frozenset(statuses)
    never = sorted(
        each for each in checked if not (isinstance(each, int) and 200 <= each <= 599 and each not in (206, 304))
    )
    if never:
        raise ConfigError(f"{what} cannot have {never}: 1xx, 206 and 304 are never stored")
    return checked


@dataclass(frozen=True, slots=True, init=False)
class CacheType:
    """A named policy: the name is the namespace of its entries, everything else is policy of the call site.

    Durations are seconds or a ``timedelta``; the attributes are seconds.

    Args:
        name: ``[a-z][a-z0-9_]*``, at most 64 characters; it stands in every stored key.
        ttl: how long an entry is fresh; ``None`` takes the app's ``RCACHE_TTL_DEFAULT``.
        per_user: the entries belong to one caller each: with a ``key_func`` that names the caller, requests
            with credentials are cached too.
        stale_while_revalidate: how long past the ttl an expired answer may be served while another request (or process)
            loads a new one.
        stale_if_error: how long past the ttl it may be served when the loader fails.
        revalidate: how long past the ttl a response with an ``ETag`` or ``Last-Modified`` of the view is kept, so that
            the view can answer that it has not changed; ``None`` takes as long as it was fresh (or as it may be served
            stale, where that is longer), 0 is never.
        early_refresh: XFetch's beta: above 0, a hot entry is refreshed in the background before it expires, the sooner
            the longer its load takes; 1 is a good value.
        jitter: the part of the ttl, 0 to 1, by which it is shortened at random, so that entries do not expire together.
        adaptive_ttl: two ttls; the cost of a load chooses between them, from 0.01 to 10 s. It takes the place of the
            type's own ``ttl``; one given at the call or in the settings stands.
        error_ttl: how long a response with a status of 400 and above is kept at most; 0: none is stored.
        statuses: statuses to store beside the usual ones, such as ``{503}``.
        l1_ttl: how long the memory tier of a process may keep an entry, and so how stale it can be after an
            invalidation elsewhere; ``None`` takes the app's ``RCACHE_L1_TTL``, 0 leaves the memory tier out.
        query: names of the query arguments that select the answer; ``None`` takes the query string exactly as it is.
        front: whether hits of anonymous requests are answered before routing; ``None`` takes the app's
            ``RCACHE_FRONT``.

    Raises:
        ConfigError: the name, a duration, a status or the query list is not usable.

    >>> CacheType("weather", ttl=1800).replace(ttl=60).ttl
    60.0
    """

    name: str
    ttl: Lifetime | None
    per_user: bool
    stale_while_revalidate: float
    stale_if_error: float
    revalidate: float | None
    early_refresh: float
    jitter: float
    adaptive_ttl: tuple[float, float] | None
    error_ttl: float
    statuses: frozenset[int]
    l1_ttl: float | None
    query: tuple[str, ...] | None
    front: bool | None
    #: The type that :meth:`replace` made this one of, and so the one that its name stands for; ``None``: itself.
    base: CacheType | None = field(compare=False, repr=False, init=False)

    DASHBOARD: ClassVar[CacheType]
    SEARCH: ClassVar[CacheType]
    USER: ClassVar[CacheType]
    PRODUCT: ClassVar[CacheType]
    ANALYTICS: ClassVar[CacheType]
    QUERY: ClassVar[CacheType]
    DEFAULT: ClassVar[CacheType]

    def __init__(
        self,
        name: str,
        ttl: Ttl | None = None,
        per_user: bool = False,
        *,
        stale_while_revalidate: Seconds = 0,
        stale_if_error: Seconds = 0,
        revalidate: Seconds | None = None,
        early_refresh: float = 0,
        jitter: float = 0,
        adaptive_ttl: tuple[Seconds, Seconds] | None = None,
        error_ttl: Seconds = 10,
        statuses: Iterable[int] = (),
        l1_ttl: Seconds | None = None,
        query: Iterable[str] | None = None,
        front: bool | None = None,
    ) -> None:
        if not is_type_name(name):
            raise ConfigError(f"a cache type's name must match [a-z][a-z0-9_]* (64 characters at most), not {name!r}")
        of = f"of cache type {name!r}"
        if not isinstance(per_user, bool):
            raise ConfigError(f"per_user {of} must be True or False, not {per_user!r}")
        if front is not None and not isinstance(front, bool):
            raise ConfigError(f"front {of} must be True, False or None, not {front!r}")
        values: dict[str, object] = {
            "name": name,
            "ttl": None if ttl is None else check_lifetime(ttl, what=f"the ttl {of}"),
            "per_user": per_user,
            "stale_while_revalidate": check_window(stale_while_revalidate, what=f"stale_while_revalidate {of}"),
            "stale_if_error": check_window(stale_if_error, what=f"stale_if_error {of}"),
            "revalidate": None if revalidate is None else check_window(revalidate, what=f"revalidate {of}"),
            "early_refresh": _check_number(early_refresh, 100, what=f"early_refresh {of}"),
            "jitter": _check_number(jitter, 1, what=f"jitter {of}"),
            "adaptive_ttl": None if adaptive_ttl is None else _check_range(adaptive_ttl, what=f"adaptive_ttl {of}"),
            "error_ttl": check_window(error_ttl, what=f"error_ttl {of}"),
            "statuses": _check_statuses(statuses, what=f"statuses {of}"),
            "l1_ttl": None if l1_ttl is None else check_window(l1_ttl, what=f"l1_ttl {of}"),
            "query": None if query is None else check_tags(query, what=f"query {of}"),
            "front": front,
            "base": None,
        }
        for field_name, value in values.items():
            object.__setattr__(self, field_name, value)

    def __hash__(self) -> int:
        # Each hit looks for the policy of its type, and most names stand for one type.
        return hash(self.name)

    def replace(self, **changes: Any) -> CacheType:
        """A copy with other policy, for one call site: ``CacheType.DASHBOARD.replace(ttl=60)``."""
        changed = dataclasses.replace(self, **changes)
        if changed.name == self.name:
            object.__setattr__(changed, "base", self.definition)
        return changed

    @property
    def definition(self) -> CacheType:
        """The type that this one was made of with :meth:`replace`; itself when it was not."""
        return self if self.base is None else self.base


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
