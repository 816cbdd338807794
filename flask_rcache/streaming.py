"""The life of a process that consumes a Redis stream: rounds until it is told to stop, whatever becomes of the server.

Owns the consumer's name, the rounds, their pauses, and what happens while the server is away. What a round does, and
how messages are taken, tried again and ended, is its user's: of queues of writes (``writes``), of events (``events``).
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["StreamConsumer"]

logger: Final = logging.getLogger("flask_rcache")

_IDLE: Final = 0.1
#: Seconds between two rounds at most, and after one that has found the server away.
_LONGEST_IDLE: Final = 0.5


class StreamConsumer:
    """Runs rounds until it is stopped.

    Args:
        what: is consumed, for the log: ``the stream of events``.
        turn: one round; whether there was something to do.
        away: the errors of a round that mean that the server is away.
        lost: called after such an error: what is known of the server may not be so any more.
        rests: whether to pause after a round that found nothing; false when the round itself waits.

    Attributes:
        name: of this consumer: host, process id and a random part.
    """

    def __init__(
        self,
        what: str,
        turn: Callable[[], bool],
        away: tuple[type[Exception], ...],
        *,
        lost: Callable[[], None] = lambda: None,
        rests: bool = True,
    ) -> None:
        self.name: Final = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._what: Final = what
        self._turn: Final = turn
        self._away: Final = away
        self._lost: Final = lost
        self._rests: Final = rests
        self.is_stopped = False

    def stop(self) -> None:
        """End after what is at hand."""
        self.is_stopped = True

    def run(self, *, once: bool, report: Callable[[], Any]) -> None:
        """Run rounds.

        Args:
            once: end after a round that found nothing.
            report: called after each round.

        Raises:
            Exception: with ``once``, what says that the server is away.
        """
        idle = _IDLE
        while not self.is_stopped:
            try:
                busy = self._turn()
            except self._away as error:
                logger.warning("[CACHE] %s is away: %s", self._what, error)
                self._lost()
                if once:
                    raise
                time.sleep(_LONGEST_IDLE)
                continue
            report()
            if busy:
                idle = _IDLE
            elif once:
                return
            elif self._rests:
                time.sleep(idle)
                idle = min(_LONGEST_IDLE, idle * 1.5)
