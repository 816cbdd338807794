"""The stamps of commits: every cache that an engine's commits concern sets them ahead, and settles them after.

Owns which caches those are, and that an event loop goes on meanwhile. What a commit stamps is ``transactions``'s; what
becomes of a stamp in a cache is ``engine.commits``'s.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from ..engine.commits import Commits
from ..model.named_tuple import NamedTuple

__all__ = ["Ends", "Stamps"]

R = TypeVar("R")


class Ends(NamedTuple):
    """What ends with a commit.

    Args:
        tags: that were set ahead.
        begun: the caches in which they were, and the token by which each knows them.
    """

    tags: tuple[str, ...] = ()
    begun: tuple[tuple[Commits, str], ...] = ()


class Stamps:
    """The stamps of one engine's commits."""

    __slots__ = ("_listed",)

    def __init__(self) -> None:
        #: Each lists caches that are told of commits; ``None`` when the apps they were of are gone.
        self._listed: Final[list[Callable[[], Sequence[Commits] | None]]] = []

    def add_caches(self, caches: Callable[[], Sequence[Commits] | None]) -> None:
        """Have more caches told of commits.

        Args:
            caches: lists them; ``None`` when there will never be one again.
        """
        self._listed.append(caches)

    @property
    def caches(self) -> list[Commits]:
        """What is told of commits: the caches of all apps that use the engine."""
        found: dict[int, Commits] = {}
        for caches in tuple(self._listed):
            listed = caches()
            if listed is None:
                self._listed.remove(caches)
            else:
                found.update({id(each.store): each for each in listed})
        return list(found.values())

    def begin(self, tags: tuple[str, ...]) -> Ends:
        """Tags are set ahead of the clock, until what is returned is settled or withdrawn."""
        caches = self.caches if tags else ()
        return _waiting(_begun, tags, caches, undo=_withdrawn) if caches else Ends(tags)

    def settle(self, ends: Ends) -> None:
        """They are stamped: the commit is over, or nobody knows what became of it."""
        if ends.begun:
            _waiting(_settled, ends)

    def withdraw(self, ends: Ends) -> None:
        """Nothing was committed."""
        if ends.begun:
            _waiting(_withdrawn, ends)


def _begun(tags: tuple[str, ...], caches: Sequence[Commits]) -> Ends:
    return Ends(tags, tuple([(cache, cache.begin(tags)) for cache in caches]))


def _settled(ends: Ends) -> None:
    for cache, token in ends.begun:
        cache.settle(ends.tags, token)


def _withdrawn(ends: Ends) -> None:
    for cache, token in ends.begun:
        cache.withdraw(ends.tags, token)


def _waiting(function: Callable[..., R], *args: Any, undo: Callable[[R], None] | None = None) -> R:
    """Call what asks a store; over an async engine in a thread, so that the event loop does not wait for the store.

    Args:
        function: what is called.
        args: its arguments.
        undo: called with its result, where that can't be returned since the task was cancelled meanwhile.
    """
    # SQLAlchemy asks greenlet, which is installed where there are async engines, and imported once one is used.
    if sys.modules.get("greenlet") is None or not in_greenlet():
        return function(*args)
    called: R = await_only(_off_the_loop(partial(function, *args), undo))
    return called


async def _off_the_loop(function: Callable[[], R], undo: Callable[[R], None] | None) -> R:
    """Call a function in a thread. A task that is cancelled meanwhile waits for its end: no stamp may be left over."""
    calling = asyncio.get_running_loop().run_in_executor(None, copy_context().run, function)
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError:
        while not calling.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([calling])
        if undo is not None and not calling.cancelled() and calling.exception() is None:
            undo(calling.result())
        raise
