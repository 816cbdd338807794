"""Which cores a measurement runs on, and how its rounds are interleaved."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores of client and server; `None` where this system cannot pin."""

    client: int | None
    server: int | None

    @property
    def title(self) -> str:
        """The pinning, for the head of a table."""
        if self.client is None:
            return "not pinned (this system cannot)"
        if self.client == self.server:
            return f"client and server on core {self.client}"
        return f"client on core {self.client}, server on core {self.server}"


def choose_cores(*, same: bool = False) -> Cores:
    """Pick one core for the client and another for the server, or one for both.

    Args:
        same: Use one core even if there are more.
    """
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    cores = sorted(os.sched_getaffinity(0))
    return Cores(cores[0], cores[0] if same else cores[-1])


def pin(cores: Cores, *, server_pid: int) -> None:
    """Bind this thread and the server's process to their cores."""
    if cores.client is not None and cores.server is not None:
        os.sched_setaffinity(0, {cores.client})
        os.sched_setaffinity(server_pid, {cores.server})


def measure(callers: Mapping[str, Callable[[], object]], *, rounds: int, calls: int) -> dict[str, list[float]]:
    """Time each caller `calls` times a round, one after the other in every round.

    Interleaving spreads what else the machine does over all of them; compare medians and ratios of one run.

    Returns:
        Microseconds a call, one figure a round, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in callers}
    for caller in callers.values():
        for _ in range(calls):
            caller()
    for _ in range(rounds):
        for name, caller in callers.items():
            start = time.perf_counter()
            for _ in range(calls):
                caller()
            times[name].append((time.perf_counter() - start) / calls * 1e6)
    return times
