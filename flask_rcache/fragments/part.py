"""One use of a fragment: its key, its options, what its block may read; and :func:`fragment` for code.

Owns what tells two fragments apart. A fragment is a value like any other, loaded by the engine. It is never refreshed
in the background: its variables are those of the request that renders it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final, TypedDict

from jinja2 import Undefined

from ..context import current_cache, request_context
from ..engine.calls import NEVER, Block
from ..engine.manager import CacheManager
from ..errors import ConfigError, InvalidKeyError
from ..model.bounded import BoundedDict
from ..model.cache_type import AUTO, CacheType, Tags
from ..model.keys import Key
from ..observed import Observed, describe, observing

__all__ = ["EXAMPLE", "Part", "checked", "fragment", "running"]

logger: Final = logging.getLogger("flask_rcache")

EXAMPLE: Final = '{% cache "sidebar", ttl=300, tags=["menu"], vary=[user.id] %}'
#: The fragment whose block runs.
running: Final[ContextVar[Part | None]] = ContextVar("rcache_fragment", default=None)
#: What was warned of, for each fragment.
_warned: Final[BoundedDict[tuple[str, str], None]] = BoundedDict(1000)


@contextmanager
def fragment(
    name: str,
    *,
    ttl: float | timedelta | None = None,
    tags: Tags = (),
    vary: object = (),
    type: CacheType | str = CacheType.DEFAULT,
) -> Iterator[Block]:
    """Cache a part of a page that code makes.

    The block sets ``part.value`` when ``part.is_missing``: ``with fragment("sidebar", vary=[user.id]) as part: …``.

    A block that raises, or that does not set ``value``, stores nothing; nor does one that reads the session, headers or
    other data of the request, which would be shown to others: a function ``vary`` that reads it puts it in the key.

    Args:
        name: of the fragment: the same name elsewhere is the same fragment, and ``fragment:<name>`` is a tag of it.
        ttl: seconds, or a ``timedelta``; the type's when left out.
        tags: labels by which it can be invalidated.
        vary: values that tell its forms apart, or one value, or a function that returns them.
        type: the cache type, or its registered name.

    Raises:
        ConfigError: an option is not usable.
    """
    part = Part(checked(name), "")
    with current_cache.block(key=part.key(vary), **part.call(current_cache, ttl, tags, type)) as block:
        if not block.is_missing:
            yield block
            return
        with part.observed(vary):
            yield block


class _Call(TypedDict):
    """The arguments of a fetch."""

    cache_type: CacheType
    ttl: Any
    tags: tuple[Any, ...]
    keep: Any
    name: str
    judged: bool


class Part:
    """One use of a fragment.

    Args:
        name: of the fragment.
        place: which block of which template it is; empty for one in code.
    """

    __slots__ = ("_observed", "_place", "_reads", "_reads_of_vary", "name")

    def __init__(self, name: str, place: str) -> None:
        self.name: Final = name
        self._place: Final = place
        self._observed: Observed | None = None
        self._reads: frozenset[str] = frozenset()
        self._reads_of_vary: frozenset[str] = frozenset()

    def key(self, vary: object) -> Key:
        """The key of this form of it.

        Raises:
            InvalidKeyError: a value of ``vary`` can't be in a key.
        """
        vary = vary() if callable(vary) and not isinstance(vary, Undefined) else vary
        values = tuple(vary) if isinstance(vary, list | tuple | set | frozenset) else (vary,)
        for value in values:
            if isinstance(value, Undefined):
                raise InvalidKeyError(
                    f"vary of fragment {self.name!r} has an undefined value: {value._undefined_name!r}"
                )
        return ("fragment", self.name, self._place, *values)

    def call(self, manager: CacheManager, ttl: Any, tags: Any, type: Any) -> _Call:
        """What a fetch is called with, but for the key and what loads."""
        resolved = manager.engine.policies.resolve(type)
        if resolved.stale_while_revalidate or resolved.early_refresh:
            resolved = _in_the_request(resolved)
        return {
            "cache_type": resolved,
            "ttl": ttl,
            "tags": (f"fragment:{self.name}", *((tags,) if isinstance(tags, str) or tags is AUTO else tags)),
            "keep": self._keep,
            "name": self.shown,
            "judged": True,
        }

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"fragment {self.name!r}"

    @contextmanager
    def observed(self, vary: object = None) -> Iterator[None]:
        """Note what is read of the request inside, but for what a function ``vary`` reads."""
        with observing(request_context(), current_cache.settings.identity_g) as self._observed:
            token = running.set(self)
            try:
                if callable(vary):
                    vary()
                    self.vary_read()
                yield
            finally:
                running.reset(token)
                self._reads |= self._observed.reads
                self._observed = None

    def note(self, reads: frozenset[str]) -> None:
        """Note what was read for the block before it ran."""
        self._reads |= reads

    def vary_read(self) -> None:
        """What was read so far is in the key."""
        if self._observed is not None:
            self._reads_of_vary |= self._observed.reads

    def _keep(self, _: object) -> object:
        reads = self._reads - self._reads_of_vary
        if not reads:
            return True
        how = "name it in vary" if self._place else "give vary a function that reads it"
        self.warn("reads", f"it reads {describe(reads)}, which is not in its key: {how}")
        return NEVER

    def warn(self, about: str, text: str) -> None:
        """Say once why it is not cached."""
        if (self.name, about) not in _warned:
            _warned[self.name, about] = None
            logger.warning("[CACHE] %s is not cached: %s", self.shown, text)


@functools.lru_cache(maxsize=256)
def _in_the_request(cache_type: CacheType) -> CacheType:
    """The type without refreshes in the background, which have no request."""
    return cache_type.replace(stale_while_revalidate=0, early_refresh=0)


def checked(name: object) -> str:
    """The name of a fragment, once it is known to be usable.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"a fragment's name is a non-empty string, not {name!r:.80}: write {EXAMPLE}")
    return name
