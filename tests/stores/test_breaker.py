"""The breaker: one incident from its opening to its closing, and a number for each."""

from __future__ import annotations

import pytest

from flask_rcache.errors import StoreUnavailableError
from flask_rcache.stores.redis.breaker import Breaker


def test_breaker__opens_and_closes() -> None:
    """Open it raises with the first cause; closed again it lets pass."""
    breaker = Breaker()
    breaker.check()
    first = StoreUnavailableError("first")
    breaker.trip(first)
    breaker.trip(StoreUnavailableError("second"))
    assert breaker.is_open
    with pytest.raises(StoreUnavailableError, match="first"):
        breaker.check()
    assert breaker.trouble == (1, first)
    breaker.close()
    breaker.check()
    assert incident(breaker) is None


def test_breaker__full_lets_pass() -> None:
    """No room is trouble, but not a closed door; being away comes before it."""
    breaker = Breaker()
    breaker.full(StoreUnavailableError("full"))
    breaker.full(StoreUnavailableError("full again"))
    breaker.check()
    assert incident(breaker) == 1
    breaker.trip(StoreUnavailableError("away"))
    assert incident(breaker) == 2
    breaker.close()
    assert incident(breaker) == 1
    breaker.roomy()
    assert incident(breaker) is None
    breaker.trip(StoreUnavailableError("again"))
    assert incident(breaker) == 3


def incident(breaker: Breaker) -> int | None:
    return None if breaker.trouble is None else breaker.trouble.incident
