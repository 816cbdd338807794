"""What the commands that consume a stream have in common: signals that end them in good order."""

from __future__ import annotations

import signal
from typing import Protocol

__all__ = ["stopped_by_signals"]


class _Stoppable(Protocol):
    def stop(self) -> None:
        """End after what is at hand."""
        ...


def stopped_by_signals(consumer: _Stoppable) -> None:
    """Have SIGTERM and SIGINT end a consumer after what is at hand."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: consumer.stop())
