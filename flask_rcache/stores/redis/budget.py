"""The time budget of a request: how long it may wait for the store in all.

Owns the adding up. A timeout bounds one answer, and a request may want many; a store that answers each a little before
its timeout would make it slow without ever failing. What a request is, the extension knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

__all__ = ["Budget"]

_WAITED: Final = "flask_rcache.waited"
#: Seconds below which an answer is not waiting: a request of a hundred such is a slow one by itself.
_PROMPT: Final = 0.005
_REMEMBERED: Final = 300.0


class Budget:
    """Seconds that each request may wait.

    Args:
        seconds: in all.
        scope: where the present request keeps such things (its environ), or ``None`` outside of one: no budget then.
    """

    __slots__ = ("_scope", "_seconds", "_until")

    def __init__(self, seconds: float, scope: Callable[[], MutableMapping[str, Any] | None]) -> None:
        self._seconds: Final = seconds
        self._scope: Final = scope
        self._until = 0.0

    def touched(self, now: float) -> bool:
        """Whether any request had to wait lately; as long as none had, nobody's budget need be looked at."""
        return now < self._until

    def left(self) -> float | None:
        """Seconds that the present request may still wait; ``None`` outside of one."""
        scope = self._scope()
        if scope is None:
            return None
        left: float = self._seconds - scope.get(_WAITED, 0.0)
        return left

    def spend(self, since: float) -> None:
        """The present request has waited since then (monotonic seconds)."""
        now = time.monotonic()
        if now - since < _PROMPT:
            return
        scope = self._scope()
        if scope is not None:
            scope[_WAITED] = scope.get(_WAITED, 0.0) + now - since
            self._until = now + _REMEMBERED
