"""Commits of a database: what they invalidate is set ahead of the clock before, and stamped after.

Owns that a commit goes through whatever the store does: a failure is counted and announced, and what was not
acknowledged is journalled. Which tags a commit invalidates is its caller's to say.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary

from ..errors import StoreError
from ..model.keys import tag_of
from ..stores.protocol import Store
from .parts import Engine

__all__ = ["Commits"]

#: Seconds in all that commits wait for a store that has gone away: one that was only restarted is back long before.
_BACK_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 0.005
#: By cache, the incident that commits have waited for last, and until when they do.
_waits: Final[WeakKeyDictionary[Engine, tuple[int, float]]] = WeakKeyDictionary()


class Commits:
    """The commits that a cache has to know of.

    Args:
        engine: of the cache.
    """

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine: Final = engine

    @property
    def store(self) -> Store:
        """Where entries are kept."""
        return self._engine.store

    def begin(self, tags: Sequence[str]) -> str:
        """A commit is about to be sent: nothing that depends on the tags is stored or valid until it is over.

        Returns:
            The token to end it with.
        """
        token = secrets.token_hex(8)
        try:
            self._engine.store.stamp_ahead(tags, token)
        except StoreError as error:  # without it, an old entry may be served until the commit is settled
            self._engine.guarded.failed("", "stamp ahead", error)
        return token

    def settle(self, tags: Sequence[str], token: str) -> None:
        """The commit is over, or nobody knows what became of it."""
        store = self._engine.store

        def settle() -> int:
            store.settle(tags, token)
            return len(tags)

        names = tuple(tag_of(tag) or tag for tag in tags)
        if self._engine.invalidations.send("tags", names, "", settle).journalled:
            self._await_store()

    def _await_store(self) -> None:
        """Wait until a store that has just gone away is back, and has what was journalled.

        Until then other processes may serve what they have stored since the store was restarted. So commits wait for
        it, once in an incident and not for long: a commit must not be slower because there is a cache.
        """
        incident = self.store.incident
        if incident is None:
            return
        number, until = _waits.get(self._engine, (0, 0.0))
        if number != incident.number:
            number, until = _waits[self._engine] = incident.number, time.monotonic() + _BACK_SECONDS
        while time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
            incident = self.store.incident
            if incident is None or incident.number != number:
                return

    def withdraw(self, tags: Sequence[str], token: str) -> None:
        """Nothing was committed: entries are as valid as before."""
        try:
            self._engine.store.withdraw(tags, token)
        except StoreError as error:  # then it passes by itself
            self._engine.guarded.failed("", "withdraw", error)
