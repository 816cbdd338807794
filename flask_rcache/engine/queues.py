"""The queues of writes behind as operators see them: what waits, for how long, and what was given up.

Owns the adding up of a queue's parts: on a cluster each shard has one. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import StoreError

if TYPE_CHECKING:
    from ..stores.queueing import Queues, QueueState

__all__ = ["describe_queues"]

#: Writes that are named of each queue: those that are tried again, and dead letters.
_NAMED: Final = 10


def describe_queues(parts: Sequence[Queues], writers: Collection[str]) -> list[dict[str, Any]]:
    """Each queue that has a writer here or was ever written to, by name.

    Args:
        parts: the queues of each server or shard; none where nothing is written later.
        writers: the queues that have a writer in this app.
    """
    if not parts:
        return []
    known: dict[int, list[str]] = {}
    for number, part in enumerate(parts):
        try:
            known[number] = part.queue_names()
        except StoreError:
            continue
    names = {*writers, *(name for found in known.values() for name in found)}
    return [
        _described(name, [parts[number] for number in known], len(parts), name in writers) for name in sorted(names)
    ]


def _described(name: str, parts: Sequence[Queues], total: int, has_writer: bool) -> dict[str, Any]:
    states: list[QueueState] = []
    retried: list[dict[str, Any]] = []
    letters: list[dict[str, Any]] = []
    for part in parts:
        try:
            state = part.queue_state(name)
            if state.pending:
                retried += [{"key": write.key, "attempts": write.deliveries} for write in part.retried(name)]
            if state.dead:
                letters += [
                    {"key": each.write.key, "attempts": each.attempts, "error": each.error}
                    for each in part.dead_letters(name, _NAMED)
                ]
        except StoreError:
            continue
        states.append(state)
    return {
        "name": name,
        "length": sum(state.length for state in states),
        "pending": sum(state.pending for state in states),
        "lag": round(max((state.oldest for state in states), default=0.0), 3),
        "dead": sum(state.dead for state in states),
        "has_writer": has_writer,
        "has_consumer": bool(states) and all(state.consumer for state in states),
        "consumers": sorted({state.consumer for state in states if state.consumer}),
        "retried": sorted(retried, key=lambda each: -each["attempts"])[:_NAMED],
        "dead_letters": letters[:_NAMED],
        "parts_away": total - len(states),
    }
