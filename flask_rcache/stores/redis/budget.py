"""The time budget of a request: how long it may wait for the store in all.

Owns the adding up, and what happens when it is used up: the request goes on without the cache, alone. A timeout bounds
one answer, and a request may want many; a store that answers each a little before its timeout would make it slow
without ever failing. Where a request keeps what it has waited, :mod:`flask_rcache.model.scope` says.
"""

from __future__ import annotations

from typing import Final

from ...errors import StoreUnavailableError
from ...model.scope import Scope, scope_var

__all__ = ["Budget", "request_scope"]

#: Seconds with which asking makes no sense any more.
_LEAST: Final = 0.01


def request_scope() -> Scope | None:
    """The scope of the present request; ``None`` in a context that is none, as a job's, which may live for days."""
    scope = scope_var.get()
    return scope if scope is not None and scope.is_request else None


class Budget:
    """Seconds that each request may wait for the store in all; outside of requests there is no budget.

    Args:
        seconds: in all.
    """

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds: Final = seconds

    @property
    def left(self) -> float | None:
        """Seconds that the present request may still wait; ``None`` outside of one."""
        scope = request_scope()
        return None if scope is None else max(0.0, self._seconds - scope.waited)

    def within(self, scope: Scope, seconds: float) -> float:
        """``seconds``, or what is left to the request if that is less.

        Raises:
            StoreUnavailableError: nothing is left. It concerns this request alone.
        """
        left = self._seconds - scope.waited
        if left < _LEAST:
            raise StoreUnavailableError(
                f"this request has waited {scope.waited:.2f} s for the store in all; it goes on without the cache"
            )
        return min(seconds, left)
