"""Exchanges in steps: what is asked of one shard, apart from who asks it.

Owns the driving of generators that yield what is to be sent and are sent the replies. The same steps run on one
server, one exchange after the other (:func:`drive`), and on many shards at once, where the exchanges of one round are
sent together (``cluster``). Does no I/O itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

from ...model.named_tuple import NamedTuple

__all__ = ["Ask", "Driven", "Steps", "drive"]

T = TypeVar("T")


class Ask(NamedTuple):
    """One exchange.

    Args:
        payload: packed commands.
        replies: how many commands that is.
        patient: part of a walk over many keys, which may take long in all.
        once: never to be sent a second time.
    """

    payload: bytes
    replies: int
    patient: bool = False
    once: bool = False


#: Yields what to send; is sent the replies, or thrown why there are none.
Steps = Generator[Ask, list[Any], T]


class Driven:
    """Steps on their way: what they ask next, or what came of them.

    Args:
        steps: the steps; begun here.

    Attributes:
        ask: what they ask now; ``None`` when they are over.
        result: what they returned.
        error: what they raised.
    """

    __slots__ = ("_steps", "ask", "error", "result")

    def __init__(self, steps: Steps[Any]) -> None:
        self._steps: Final = steps
        self.ask: Ask | None = None
        self.result: Any = None
        self.error: Exception | None = None
        self._advance(lambda: next(steps))

    def send(self, answers: list[Any]) -> None:
        """Give them the replies."""
        self._advance(lambda: self._steps.send(answers))

    def throw(self, error: Exception) -> None:
        """Say why there are no replies."""
        self._advance(lambda: self._steps.throw(error))

    def _advance(self, step: Callable[[], Ask]) -> None:
        self.ask = None
        try:
            self.ask = step()
        except StopIteration as done:
            self.result = done.value
        except Exception as error:  # noqa: BLE001  # whoever drives several of them raises it when all are over
            self.error = error

    def close(self) -> None:
        """They are broken off."""
        self._steps.close()


def drive(steps: Steps[T], exchange: Callable[[Ask], list[Any]]) -> T:
    """Run steps to their end, one exchange after the other.

    Args:
        steps: the steps.
        exchange: carries out one exchange.
    """
    try:
        ask = next(steps)
        while True:
            try:
                answers = exchange(ask)
            except BaseException as error:  # noqa: BLE001  # a greenlet's timeout too: they have to clean up
                ask = steps.throw(error)
            else:
                ask = steps.send(answers)
    except StopIteration as done:
        result: T = done.value
        return result
