"""Loaders of ``fetch``: what they read of who is asking is seen, as the key may be anybody's.

Owns :func:`watch_loaders`. What follows from a read is ``engine.fetching``'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..context import request_context
from ..engine.manager import CacheManager
from ..observed import observing
from .dependencies import identities, secrets_of

__all__ = ["watch_loaders"]


def watch_loaders(manager: CacheManager) -> None:
    """Have a cache see what the loaders of its values read of who is asking."""
    known, names = secrets_of(manager.settings), manager.settings.identity_g

    @contextmanager
    def identities_read() -> Iterator[Callable[[], str]]:
        with observing(request_context(), names) as observed:
            yield lambda: identities(tuple(observed.noted), known)

    manager.engine.fetching.identities_read = identities_read
