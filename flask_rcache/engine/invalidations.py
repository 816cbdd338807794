"""Invalidations: each is sent to the store, journalled when that is away, and reported.

Owns what they have in common: that none of them raises for a store that is away, what the request knows afterwards
(rule R6), and :class:`Invalidated`, which says what became of one. Which entries go is its caller's to say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from ..errors import StoreError
from ..model.scope import scope_of
from .guard import GuardedStore
from .observer import Observer

__all__ = ["Invalidated", "Invalidations"]


class Invalidated(int):
    """How much was invalidated: an ``int``.

    Attributes:
        journalled: whether Redis was away. The invalidation holds in this process at once, and is sent to Redis before
            this process uses it again; other processes do not know of it until then.
    """

    journalled: bool

    def __new__(cls, amount: int, *, journalled: bool = False) -> Invalidated:
        """The number, with what became of the call."""
        self = super().__new__(cls, amount)
        self.journalled = journalled
        return self


class Invalidations:
    """Sends what is invalidated to the store.

    Args:
        guarded: the store.
        observer: takes what happened.
    """

    __slots__ = ("_guarded", "_observer")

    def __init__(self, guarded: GuardedStore, observer: Observer) -> None:
        self._guarded: Final = guarded
        self._observer: Final = observer

    def send(self, scope: str, names: tuple[str, ...], type_name: str, act: Callable[[], int]) -> Invalidated:
        """Have the store invalidate something.

        Args:
            scope: what kind of thing that is.
            names: which, as statistics and signals show it.
            type_name: the cache type that it belongs to; empty where it belongs to none.
            act: asks the store; the number of what was invalidated.
        """
        store, journalled, removed = self._guarded.store, False, 0
        began = time.monotonic()
        try:
            removed = act()
        except StoreError as error:
            journalled = True
            self._guarded.failed(type_name, f"invalidate {scope}", error)
        context = scope_of(store)
        if context is not None:  # what was loaded before is not for this request now (R6)
            context.began = time.monotonic_ns()
        seconds = time.monotonic() - began
        self._observer.invalidated(scope, names, type_name, removed, seconds, journalled=journalled)
        return Invalidated(removed, journalled=journalled)

    def keys(self, type_name: str, keys: Sequence[str], *, is_stamped: bool = True) -> Invalidated:
        """Remove entries of one type, and refuse the results of loads of them that are under way.

        Args:
            type_name: the type's.
            keys: the stored keys; none is no invalidation.
            is_stamped: see :meth:`Store.delete <flask_rcache.stores.protocol.Store.delete>`.
        """
        if not keys:
            return Invalidated(0)
        store = self._guarded.store
        return self.send("key", tuple(keys), type_name, lambda: store.delete(keys, is_stamped=is_stamped))

    def members(self, scope: str, names: tuple[str, ...], members: Sequence[str]) -> Invalidated:
        """Make the entries with any of some stamp members invalid; their number.

        Args:
            scope: what they stand for.
            names: the same, as statistics and signals show it.
            members: as ``keys`` spells them.
        """

        def stamp() -> int:
            self._guarded.store.invalidate(members)
            return len(members)

        return self.send(scope, names, "", stamp)

    def urls(self, keys: tuple[str, ...], tags: tuple[str, ...]) -> Invalidated:
        """Remove the responses of URLs, their variants included.

        Args:
            keys: the stored keys.
            tags: the stamp members of what the keys alone do not lead to.
        """
        store = self._guarded.store

        def act() -> int:
            try:
                return store.delete(keys)
            finally:  # both are journalled when the store is away
                store.invalidate(tags)

        return self.send("url", keys, "", act)
