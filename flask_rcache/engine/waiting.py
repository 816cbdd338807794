"""Waiting for another's load, or for a while: in a thread, and in a task of asyncio, whose loop goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from .load import Pause, WaitFor
from .single_flight import Flight

# asyncio is imported where it is used: a process without async views and functions never needs it.

__all__ = ["block_thread", "suspend_task"]


def block_thread(wait: WaitFor | Pause) -> None:
    """Wait in this thread; the leader's own thread does not wait for itself (a task behind this call leads)."""
    if isinstance(wait, Pause):
        time.sleep(wait.seconds)
        return
    flight = wait.flight
    if flight.thread == threading.get_ident() and flight.next_leader is None:
        return
    ends = time.monotonic() + wait.seconds
    returned = threading.Event()
    flight.when_returned(returned.set)
    returned.wait(wait.seconds)
    left = _left(flight, ends)
    if left > 0:
        landed = threading.Event()
        flight.when_landed(landed.set)
        landed.wait(left)


async def suspend_task(wait: WaitFor | Pause) -> None:
    """Wait without blocking the event loop."""
    import asyncio

    if isinstance(wait, Pause):
        await asyncio.sleep(wait.seconds)
        return
    flight = wait.flight
    ends = time.monotonic() + wait.seconds
    await _called(wait.seconds, flight.when_returned)
    left = _left(flight, ends)
    if left > 0:
        await _called(left, flight.when_landed)


def _left(flight: Flight, ends: float) -> float:
    """Seconds to wait once the loader has returned; none when it has landed."""
    return 0.0 if flight.is_landed else min(ends, flight.until) - time.monotonic()


async def _called(seconds: float, when: Callable[[Callable[[], None]], None]) -> None:
    """Wait until a flight calls back."""
    import asyncio

    loop = asyncio.get_running_loop()
    called: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not called.done():
            called.set_result(None)

    def call() -> None:
        with suppress(RuntimeError):  # the waiter's loop is closed: nobody waits any more
            loop.call_soon_threadsafe(wake)

    when(call)
    with suppress(TimeoutError):
        await asyncio.wait_for(called, seconds)
