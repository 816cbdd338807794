"""11: the loader raises, whatever it is that it raises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.twenty.conftest import Fleet
from tests.twenty.kit import KIND, PATIENCE, Act, SlowLoader, there

ERRORS = (ValueError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)


def raising(error: type[BaseException]) -> Callable[..., Any]:
    def loader(*_: object) -> Any:
        raise error("from the loader")

    return loader


@pytest.mark.parametrize("error", ERRORS)
def test_behaviour_11__nothing_stored_nobody_held_up(fleet: Fleet, error: type[BaseException]) -> None:
    """The caller gets it as it is; nothing is stored, and the next, here or elsewhere, loads at once."""
    here, other = fleet(lease=30, load_timeout=60)
    for key, fetch in (
        ("one", lambda key: here.fetch(KIND, key, raising(error))),
        ("many", lambda key: here.fetch_many(KIND, [key, "k2"], raising(error))),
    ):
        with pytest.raises(error, match="from the loader"):
            fetch(key)
        assert not there(here, key)
        began = time.monotonic()
        assert other.fetch(KIND, key, lambda: "loaded") == "loaded"
        assert time.monotonic() - began < 10  # the lease is 30 s
        assert here.fetch(KIND, key, lambda: "another") in ("loaded", "another")
        here.clear_all()
        other.clear_all()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_behaviour_11__those_who_wait_for_it_go_on(fleet: Fleet, error: type[BaseException]) -> None:
    """A failure reaches who waits in the same process or lets him load; who waits elsewhere loads. Nobody hangs."""
    here, other = fleet(lease=30, load_timeout=60)
    slow = SlowLoader()

    def loader() -> str:
        slow()
        raise error("from the loader")

    failing = Act(lambda: here.fetch(KIND, "k", loader))
    assert slow.begun.wait(PATIENCE)
    waiting = [Act(lambda cache=cache: cache.fetch(KIND, "k", lambda: "loaded")) for cache in (here, other)]  # type: ignore[misc]
    slow.go.set()
    with pytest.raises(error, match="from the loader"):
        failing.result()
    for act in waiting:
        try:
            assert act.result() == "loaded"
        except ValueError:
            assert error is ValueError
    assert here.fetch(KIND, "k", lambda: "loaded") == "loaded"
