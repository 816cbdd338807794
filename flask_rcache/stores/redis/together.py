"""Many shards at once: what goes to one node in one write, to all nodes together.

Owns the rounds in which the steps of several shards advance. What is sent, and where each shard is, is others'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from ...errors import StoreError
from ...model.named_tuple import NamedTuple
from .connection import Connection, RedirectError
from .links import Link, Node
from .steps import Ask, Driven, Steps

__all__ = ["Together"]

T = TypeVar("T")


class _Group(NamedTuple):
    """What goes to one node in one write."""

    node: Node
    members: list[tuple[Link, Driven, Ask]]

    @property
    def payload(self) -> bytes:
        return b"".join([ask.payload for _, _, ask in self.members])

    @property
    def replies(self) -> int:
        return sum(ask.replies for _, _, ask in self.members)

    @property
    def patient(self) -> bool:
        return all(ask.patient for _, _, ask in self.members)

    def prepare(self, connection: Connection) -> None:
        for link, _, _ in self.members:
            link.prepare(connection)


class Together:
    """Drives the steps of several shards.

    Attributes:
        rounds: how many rounds of exchanges were made.
    """

    def __init__(self) -> None:
        self.rounds = 0

    def drive(self, steps: Mapping[Link, Steps[T]]) -> dict[Link, T | Exception]:
        """Run the steps of several shards to their ends: what goes to one node in one write, to all of them together.

        Returns:
            What came of each: its result, or why there is none.
        """
        driven = {link: Driven(each) for link, each in steps.items()}
        try:
            while any(each.ask is not None for each in driven.values()):
                self.rounds += 1
                self._round([(link, each, each.ask) for link, each in driven.items() if each.ask is not None])
        finally:
            for each in driven.values():
                each.close()
        return {link: each.error if each.error is not None else each.result for link, each in driven.items()}

    def _round(self, asks: list[tuple[Link, Driven, Ask]]) -> None:
        """One exchange of each."""
        groups: dict[Node, _Group] = {}
        alone = []
        for link, driven, ask in asks:
            node = link.node
            if link.breaker.outage is not None or node is None or ask.once:  # who is alone is not asked again
                alone.append((link, driven, ask))
            else:
                groups.setdefault(node, _Group(node, [])).members.append((link, driven, ask))
        posted: list[tuple[_Group, Connection | None]] = []
        try:
            posted += [(group, group.node.pool.post(group.payload, group.prepare)) for group in groups.values()]
            answers = [self._received(group, connection) for group, connection in posted]
        except BaseException:
            for group, connection in posted:
                if connection is not None:
                    group.node.pool.discard(connection)
            raise
        for (group, _), found in zip(posted, answers, strict=True):
            if isinstance(found, list):
                self._deal(group, found)
            else:  # for one of them perhaps, so each for itself
                alone += group.members
        for link, driven, ask in alone:
            _advance(driven, partial(link.exchange, ask.payload, ask.replies, patient=ask.patient, once=ask.once))

    def _received(self, group: _Group, connection: Connection | None) -> list[Any] | StoreError:
        """The replies of one node; the error when there are none."""
        try:
            return group.node.pool.exchange(
                group.payload, group.replies, patient=group.patient, prepare=group.prepare, posted=connection
            )
        except StoreError as error:
            if connection is not None:
                group.node.pool.discard(connection)
            return error

    def _deal(self, group: _Group, answers: list[Any]) -> None:
        """Give each shard its replies."""
        at = 0
        for link, driven, ask in group.members:
            mine = answers[at : at + ask.replies]
            at += ask.replies
            if any(type(answer) is RedirectError for answer in mine):
                _advance(
                    driven,
                    lambda link=link, ask=ask, mine=mine: link.redirected(  # type: ignore[misc]
                        ask.payload, mine, probing=False, patient=ask.patient
                    ),
                )
            else:
                driven.send(mine)


def _advance(driven: Driven, exchange: Callable[[], list[Any]]) -> None:
    try:
        answers = exchange()
    except StoreError as error:
        driven.throw(error)
    else:
        driven.send(answers)
