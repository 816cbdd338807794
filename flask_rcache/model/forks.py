"""Forks: what a child process must not take over from its parent. The one registry.

Owns the one hook that runs in a forked child. A thread of the parent may hold a lock at that moment; in the child there
is no such thread, so nobody would ever release it. Which state is the parent's, each owner knows.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol
from weakref import WeakSet

__all__ = ["ForkAware", "children", "new_lock", "register"]


class ForkAware(Protocol):
    """Something that has state which a forked child must not keep."""

    def reset_after_fork(self) -> Callable[[], None] | None:
        """This is a forked child. A lock that is held was held by a thread of the parent, in the midst of a change.

        It takes no lock and starts no thread.

        Returns:
            What to do once all locks are free, if anything.
        """
        ...


_locks: Final[WeakSet[threading.Lock]] = WeakSet()
_owners: Final[WeakSet[ForkAware]] = WeakSet()


def new_lock() -> threading.Lock:
    """A lock that is free in a forked child, whoever held it in the parent."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def register(owner: ForkAware) -> None:
    """Have ``owner.reset_after_fork()`` called in each forked child, as long as the owner lives."""
    _owners.add(owner)


def _reset() -> None:
    # While it can still be seen which locks are held.
    afterwards = [owner.reset_after_fork() for owner in tuple(_owners)]
    for lock in tuple(_locks):
        renewed: Any = lock
        renewed._at_fork_reinit()  # as the standard library does with its own
    for call in afterwards:
        if call is not None:
            call()


_children = 0


def _count() -> None:
    global _children
    _children += 1


def children() -> int:
    """How many children this process has forked."""
    return _children


os.register_at_fork(after_in_child=_reset, after_in_parent=_count)
