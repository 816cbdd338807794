"""The one bounded dict: what a process remembers of keys, functions and requests must not grow for ever.

Owns the bound. What is remembered must be something that can be found out again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, TypeVar

__all__ = ["BoundedDict"]

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(dict[K, V]):
    """A dict that forgets what was put first when it is full; reading it costs what a plain dict costs.

    Threads may read and write it without a lock: a write that another thread overtakes drops one item more or less.

    Args:
        limit: the items kept at most.

    >>> seen = BoundedDict(2)
    >>> seen["a"] = seen["b"] = seen["c"] = 1
    >>> list(seen)
    ['b', 'c']
    """

    __slots__ = ("_limit",)

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit: Final = limit

    def __setitem__(self, key: K, value: V) -> None:
        """Remember ``value``; the oldest items go to make room."""
        while len(self) >= self._limit and key not in self:
            with suppress(RuntimeError, StopIteration, KeyError):  # another thread changed it between iter and del
                del self[next(iter(self))]
        super().__setitem__(key, value)
