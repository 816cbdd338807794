"""Visitors: threads that send one request after another, each on a connection of its own, and note how it went."""

from __future__ import annotations

import http.client
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from tests.servers import Gunicorn

#: Gives a visitor's next request: method, path and header fields.
Choose = Callable[[random.Random], tuple[str, str, dict[str, str]]]

_BODY_KEPT: Final = 40


class Call(NamedTuple):
    """One request and its answer.

    Attributes:
        path: what was asked for.
        began: `time.monotonic()`.
        seconds: until the answer was read, or the connection broke.
        status: 0 when the connection broke.
        loaded: seconds that loaders took of it, as the application says.
        x_cache: the cache's word.
        pid: the process that answered.
        body: how its answer begins.
    """

    path: str
    began: float
    seconds: float
    status: int = 0
    loaded: float = 0.0
    x_cache: str = ""
    pid: int = 0
    body: str = ""

    @property
    def added(self) -> float:
        """Seconds beyond what its loaders took."""
        return max(0.0, self.seconds - self.loaded)


@dataclass(frozen=True, slots=True)
class Added:
    """Seconds added to requests: how many there were, the middle, the 99th of a hundred, the worst."""

    count: int
    p50: float
    p99: float
    worst: float

    @classmethod
    def of(cls, calls: Iterable[Call]) -> Added:
        """The figures of some calls."""
        seconds = sorted(call.added for call in calls)
        if not seconds:
            return cls(0, 0.0, 0.0, 0.0)
        return cls(len(seconds), statistics.median(seconds), seconds[int(len(seconds) * 0.99)], seconds[-1])

    def __str__(self) -> str:
        return (
            f"{self.count} requests, added p50 {self.p50 * 1000:.1f} p99 {self.p99 * 1000:.1f} "
            f"max {self.worst * 1000:.1f} ms"
        )


class Visitors:
    """Visitors at work while the `with` block lasts; `calls` are the requests that have ended so far.

    Args:
        web: whom they visit.
        choose: what they ask for.
        count: how many they are.
        pause: seconds between two requests of one, at most.
    """

    def __init__(self, web: Gunicorn, choose: Choose, *, count: int, pause: float = 0.04) -> None:
        self._port = web.port
        self._choose = choose
        self._pause = pause
        self._stop = threading.Event()
        self._calls: list[Call] = []
        self._threads = [threading.Thread(target=self._visit, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, number: int) -> None:
        dice = random.Random(number)
        while not self._stop.is_set():
            self._calls.append(ask(self._port, *self._choose(dice)))
            self._stop.wait(dice.random() * self._pause)

    def calls(self, since: float = 0.0, until: float = float("inf")) -> list[Call]:
        """The calls that began within a span of time."""
        return [call for call in tuple(self._calls) if since <= call.began < until]


def ask(port: int, method: str, path: str, headers: dict[str, str]) -> Call:
    """Send one request to a port of the loopback interface."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    began = time.monotonic()
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read(_BODY_KEPT)
        response.read()
    except (OSError, http.client.HTTPException):
        return Call(path, began, time.monotonic() - began)
    finally:
        connection.close()
    seconds, fields = time.monotonic() - began, response.headers
    return Call(
        path,
        began,
        seconds,
        response.status,
        float(fields.get("X-Loaded", "0")),
        fields.get("X-Cache", ""),
        int(fields.get("X-Pid", "0")),
        body.decode(errors="replace"),
    )
