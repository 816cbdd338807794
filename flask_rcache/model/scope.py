"""What one request, or one context outside of a request, holds between its hooks: the one request state.

Owns :class:`Scope` and the context variable it is found by. Who opens and closes a scope is ``context``'s to say; what
loads make of it is the engine's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final, Protocol

from .moment import AsOf, Epoch, Moment, known_at, least
from .observations import Observations

__all__ = ["Scope", "Uncommitted", "scope_of", "scope_var"]


class Uncommitted(Protocol):
    """What a context has written and not committed."""

    def __bool__(self) -> bool:
        """Whether there is anything."""
        ...

    def touches(self, tags: Iterable[str]) -> bool:
        """Whether anything with these tags depends on it."""
        ...


class Scope:
    """One request or app context.

    Args:
        owner: the cache it belongs to; another cache in the same context has none.
        moment: the latest clock reading heard before it began; ``None`` when none was, or the store is away.
        is_request: whether it is a request; else loads take the moment at which they begin (rule R3.2).

    Attributes:
        began: this process's monotonic clock (ns) when it began, or at its last invalidation or ``fresh()``: what was
            loaded before is not for it (rule R6).
        reads: what was read of the cache since it began: the tags of each value, with their ``as_of``, and which stamp
            sets that is from (rule R3.4; see :attr:`Entry.read <.entry.Entry.read>`).
        is_tainted: whether one of them was stale.
        observed: what was observed to be read since it began, for loads whose tags are ``AUTO``; ``None`` for nothing.
        uncommitted: who knows what it has written to a watched database and not committed; one at most, and the same
            list for scopes within each other.
        waited: seconds that it has waited for the store (its budget).
        glanced: seconds that it has waited to learn what became of what is sent after the answer.
        exchanges: the decorated views of the request that are not finished yet; theirs to use.
        is_finished: whether the final headers of the request are known: what is called now waits for none.
    """

    __slots__ = (
        "__weakref__",
        "_known",
        "began",
        "exchanges",
        "glanced",
        "is_finished",
        "is_request",
        "is_tainted",
        "moment",
        "observed",
        "owner",
        "reads",
        "uncommitted",
        "waited",
    )

    def __init__(self, owner: object, moment: Moment | None, *, is_request: bool = True) -> None:
        self.owner: Final = owner
        self.is_request: Final = is_request
        self.moment = moment
        self.began = time.monotonic_ns()
        self.reads: list[tuple[Epoch, tuple[tuple[str, AsOf], ...]]] = []
        self.is_tainted = False
        self.observed: Observations | None = None
        self.uncommitted: list[Uncommitted] = []
        self.waited = 0.0
        self.glanced = 0.0
        self.exchanges: Final[list[Any]] = []
        self.is_finished = False
        self._known: dict[Epoch, dict[str, AsOf]] = {}

    @property
    def values_read(self) -> int:
        """How many cached values were read since it began, each tag of those before a load for one."""
        return len(self.reads) + sum(map(len, self._known.values()))

    def within(self, around: Scope) -> None:
        """It begins within another one: what that has read of the source, and written, is at hand."""
        self.observed = around.observed = around.observed or Observations()
        self.uncommitted = around.uncommitted

    def include(self, inner: Scope) -> None:
        """Another request was sent inside this one, and has ended: what it has read of the cache was read here."""
        self.reads += inner.reads
        self.reads += [(epoch, tuple(known.items())) for epoch, known in inner._known.items()]
        self.is_tainted = self.is_tainted or inner.is_tainted

    def is_uncommitted(self, tags: Iterable[str]) -> bool:
        """Whether what has these tags depends on what this context has written and not committed."""
        return any(each.touches(tags) for each in self.uncommitted)

    def dependencies(self, moment: Moment | None, *, observes: bool = False) -> tuple[bool, dict[str, AsOf]]:
        """What a load that ends now has inherited, see :func:`~.moment.known_at`.

        Args:
            moment: the load's.
            observes: whether it depends on what was observed to be read, too.
        """
        if self.reads:
            reads, self.reads = self.reads, []
            for epoch, tags in reads:
                known: dict[str, Any] = self._known.setdefault(epoch, {})
                for tag, as_of in tags:
                    before = known.get(tag)
                    known[tag] = as_of if before is None else least(as_of, before)
        if not observes and not self._known:
            return False, {}
        if observes and self.observed is not None:
            return known_at(moment, self.observed.added_to(self._known))
        return known_at(moment, self._known)

    def renew(self, moment: Moment | None) -> None:
        """Nothing of the source was read yet, as the caller of ``fresh()`` says."""
        self.moment = moment
        self.began = time.monotonic_ns()
        self.reads.clear()
        self._known = {}
        self.is_tainted = False
        if self.observed is not None:
            self.observed.clear()


#: The scope of this thread, task or greenlet. A copied context (a thread that a request starts) shares it.
scope_var: Final[ContextVar[Scope | None]] = ContextVar("rcache_scope", default=None)


def scope_of(owner: object) -> Scope | None:
    """The scope of this context, when it belongs to a cache; ``None`` where there is none, or another cache's.

    Args:
        owner: the store of the cache.
    """
    scope = scope_var.get()
    return scope if scope is not None and scope.owner is owner else None
