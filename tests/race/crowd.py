"""A crowd: many clients, each with a thread and a connection of its own, that ask at the same instant."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass
from typing import Self

from tests.servers import Gunicorn


@dataclass(slots=True)
class Answer:
    """What one client got.

    Attributes:
        status: 0 when the connection broke.
        ended: `time.monotonic()` at the end of the answer, or when the connection broke.
        seconds: from the request to there.
    """

    status: int = 0
    body: str = ""
    x_cache: str = ""
    ended: float = 0.0
    seconds: float = 0.0


class Crowd:
    """Clients that are connected when the `with` block is entered, and have asked; `answers` waits for all.

    Args:
        web: whom they ask.
        path: what for.
        count: how many.
        timeout: seconds that a client waits; then its answer has status 0.
    """

    def __init__(self, web: Gunicorn, path: str, count: int, *, timeout: float = 60.0) -> None:
        self._port = web.port
        self._path = path
        self._timeout = timeout
        self._barrier = threading.Barrier(count)
        self._answers = [Answer() for _ in range(count)]
        self._threads = [threading.Thread(target=self._ask, args=(answer,)) for answer in self._answers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._barrier.abort()
        for thread in self._threads:
            thread.join()

    def _ask(self, answer: Answer) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout)
        try:
            connection.connect()
            self._barrier.wait(timeout=self._timeout)
            began = time.monotonic()
            try:
                connection.request("GET", self._path)
                response = connection.getresponse()
                answer.body = response.read().decode()
                answer.x_cache = response.headers.get("X-Cache", "")
                answer.status = response.status
            finally:
                answer.ended = time.monotonic()
                answer.seconds = answer.ended - began
        except (OSError, http.client.HTTPException, threading.BrokenBarrierError):
            pass  # the status tells
        finally:
            connection.close()

    def answers(self) -> list[Answer]:
        """All answers, once the last one is there."""
        for thread in self._threads:
            thread.join()
        return self._answers


def ask_all(web: Gunicorn, path: str, count: int, *, timeout: float = 60.0) -> list[Answer]:
    """Have a crowd ask, and wait for the answers."""
    with Crowd(web, path, count, timeout=timeout) as crowd:
        return crowd.answers()
