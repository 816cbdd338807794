"""Waiting: what an algorithm may wait for, in a thread or in an event loop.

Owns the steps that such an algorithm yields, and the two ways to run it. What is waited for is ``flight``'s and
``admission``'s.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from .single_flight import Flight

__all__ = ["Pause", "Step", "Wait", "drive", "drive_async"]

T = TypeVar("T")


class Step(Protocol):
    """Something to wait for; an algorithm yields it, and its driver waits in its own way."""

    def block(self) -> None:
        """Wait in this thread."""
        ...

    def suspend(self) -> Awaitable[None]:
        """Wait without holding up the event loop."""
        ...


@dataclass(frozen=True, slots=True)
class Pause:
    """Let some time pass; in seconds."""

    seconds: float

    def block(self) -> None:
        """See :class:`Step`."""
        time.sleep(self.seconds)

    async def suspend(self) -> None:
        """See :class:`Step`."""
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until a flight has landed, ``timeout`` seconds at most."""

    flight: Flight
    timeout: float

    def block(self) -> None:
        """See :class:`Step`; the leader's own thread does not wait for itself (a task behind this call leads)."""
        if self.flight.thread != threading.get_ident():
            ends = time.monotonic() + self.timeout
            self.flight.approaching.wait(self.timeout)
            left = self._left(ends)
            if left > 0:
                self.flight.event.wait(left)

    async def suspend(self) -> None:
        """See :class:`Step`."""
        ends = time.monotonic() + self.timeout
        await self._told(self.timeout, self.flight.when_approaching)
        left = self._left(ends)
        if left > 0:
            await self._told(left, self.flight.when_landed)

    def _left(self, ends: float) -> float:
        """Seconds to wait once it approaches; none when it has landed."""
        return 0.0 if self.flight.event.is_set() else min(ends, self.flight.until) - time.monotonic()

    async def _told(self, seconds: float, when: Callable[[Callable[[], None]], None]) -> None:
        """Wait for what the flight tells."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not told.done():
                told.set_result(None)

        def tell() -> None:
            with suppress(RuntimeError):  # the waiter's loop is closed: nobody waits any more
                loop.call_soon_threadsafe(wake)

        when(tell)
        with suppress(TimeoutError):
            await asyncio.wait_for(told, seconds)


def drive(algorithm: Generator[Step, None, T]) -> T:
    """Run an algorithm to its end, waiting in this thread."""
    try:
        while True:
            next(algorithm).block()
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        algorithm.close()  # a wait that a signal ended leaves no flight behind, however long its error is kept


async def drive_async(algorithm: Generator[Step, None, T]) -> T:
    """Run an algorithm to its end, waiting without holding up the event loop."""
    try:
        while True:
            await next(algorithm).suspend()
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        algorithm.close()  # a cancelled task leaves no flight behind
