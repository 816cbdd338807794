"""The command ``writer``: apply the writes behind of some queues, or deal with their dead letters.

Owns the progress that is shown (SIGTERM and SIGINT end it after the batch that is being applied), and what is
printed. How writes are applied is the package ``writes``'s.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import click
from flask import Flask, current_app

from .. import audit, signals
from ..context import manager_of
from ..engine.manager import CacheManager
from ..engine.writes import Writer
from ..errors import CodecError, StoreError
from ..stores.queueing import DeadLetter
from ..writes import Consumer, Progress
from .consuming import stopped_by_signals
from .dataside import hazards
from .output import Column, Command, Failure, answer, answers, note, printable, store_away, table, user

__all__ = ["writer"]

_COLUMNS: Final = (
    Column("QUEUE"),
    Column("ID"),
    Column("WRITE"),
    Column("TRIES", right=True),
    Column("KEY"),
    Column("ERROR"),
)
#: Seconds between two lines of progress.
_REPORTED: Final = 10.0


@click.command(cls=Command, name="writer")
@click.argument("queues", metavar="[QUEUE...]", nargs=-1)
@click.option("--once", is_flag=True, help="End when everything there is was applied or waits for its next try.")
@click.option("--dead", is_flag=True, help="Show the writes that were given up.")
@click.option("--retry", multiple=True, metavar="ID", help="Put a dead letter back into its queue; 'all' for all.")
@click.option("--drop", multiple=True, metavar="ID", help="Forget a dead letter; 'all' for all.")
@answers
def writer(
    *, queues: tuple[str, ...], once: bool, dead: bool, retry: tuple[str, ...], drop: tuple[str, ...], as_json: bool
) -> None:
    """Apply queued writes, of all queues or those named.

    It runs until SIGTERM.
    """
    manager = manager_of(current_app)
    writes = manager.engine.writes
    names = list(dict.fromkeys(queues)) or sorted(writes.writers)
    writers = [writes.writer(name) for name in names]
    if not writers:
        raise Failure("usage", "No writer is registered: decorate one with @rcache.writer().", exit_code=2)
    if not manager.engine.store.queues:
        raise Failure(
            "usage", "On memory:// writes are applied at once: there is no queue. Set RCACHE_URL.", exit_code=2
        )
    try:
        if retry or drop:
            _deal(manager, names, retry, drop, as_json=as_json)
        elif dead:
            _list(manager, names, as_json=as_json)
        else:
            _consume(manager, writers, once=once, as_json=as_json)
    except StoreError as error:
        raise store_away(error) from error


def _consume(manager: CacheManager, writers: Sequence[Writer], *, once: bool, as_json: bool) -> None:
    engine = manager.engine
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's, which its type hides
    consumer = Consumer(
        app, writers, engine.store.queues, codec=engine.fetching.codec, attempts=manager.settings.write_attempts
    )
    stopped_by_signals(consumer)
    for hazard in hazards(manager):
        note(f"{hazard}; until then every write behind is refused.")
    if not once:
        note(f"Applying the writes of {', '.join(each.queue for each in writers)}. SIGTERM ends it.")
    shown = [time.monotonic(), 0]

    def report(progress: Progress) -> None:
        done = progress.applied + progress.failed + progress.dead
        if time.monotonic() - shown[0] > _REPORTED and done != shown[1]:
            note(_text(progress))
            shown[:] = [time.monotonic(), done]

    consumer.run(once=once, report=report)
    progress = consumer.progress
    document = {
        "status": "success",
        "applied": progress.applied,
        "failed": progress.failed,
        "dead": progress.dead,
        "waiting": progress.waiting,
    }
    answer(document, _text(progress), as_json=as_json)
    sys.stdout.flush()


def _text(progress: Progress) -> str:
    return (
        f"{progress.applied} writes applied, {progress.failed} tries failed, {progress.dead} given up, "
        f"{progress.waiting} wait."
    )


def _letters(manager: CacheManager, names: Sequence[str]) -> list[tuple[str, int, DeadLetter]]:
    found = []
    for name in names:
        for place, queues in enumerate(manager.engine.store.queues):
            found += [(name, place, letter) for letter in queues.dead_letters(name)]
    return found


def _list(manager: CacheManager, names: Sequence[str], *, as_json: bool) -> None:
    letters = _letters(manager, names)
    documents = [
        {
            "queue": name,
            "id": _shown_id(manager, place, letter),
            "write": letter.write.write_id,
            "type": letter.write.type,
            "key": _decoded(manager, letter.write.given_key),
            "attempts": letter.attempts,
            "error": letter.error,
        }
        for name, place, letter in letters
    ]
    rows = [
        (
            name,
            str(each["id"]),
            letter.write.write_id,
            str(letter.attempts),
            f"{each['type']} {each['key']}",
            letter.error,
        )
        for each, (name, _, letter) in zip(documents, letters, strict=True)
    ]
    text = table(_COLUMNS, rows) if rows else "There are no dead letters."
    answer({"status": "success", "dead_letters": documents}, text, as_json=as_json)


def _decoded(manager: CacheManager, key: bytes) -> str:
    try:
        return printable(repr(manager.engine.fetching.codec.decode(key)))
    except CodecError:
        return "?"


def _shown_id(manager: CacheManager, place: int, letter: DeadLetter) -> str:
    """Its id; on a cluster with the shard, as each has ids of its own."""
    return letter.id if len(manager.engine.store.queues) == 1 else f"{place}/{letter.id}"


def _deal_with_all(manager: CacheManager, names: Sequence[str], action: str) -> int:
    """Put back or forget all that are there now, a hundred at a time: what is given up meanwhile stays."""
    count = 0
    for name in names:
        for queues in manager.engine.store.queues:
            left = queues.queue_state(name).dead
            while left > 0 and (found := queues.dead_letters(name, min(left, 100))):
                ids = [letter.id for letter in found]
                count += queues.requeue(name, ids) if action == "retried" else queues.drop(name, ids)
                left -= len(ids)
    return count


def _deal(
    manager: CacheManager, names: Sequence[str], retry: Sequence[str], drop: Sequence[str], *, as_json: bool
) -> None:
    letters = {
        (name, _shown_id(manager, place, letter)): (place, letter) for name, place, letter in _letters(manager, names)
    }
    counts: dict[str, int] = {}
    for action, ids in (("retried", retry), ("dropped", drop)):
        wanted = {key: found for key, found in letters.items() if key[1] in ids}
        unknown = [id for id in ids if id != "all" and id not in {key[1] for key in wanted}]
        if unknown:
            raise Failure("unknown_id", f"There is no dead letter {unknown[0]!r}: see `flask cache writer --dead`.")
        counts[action] = _deal_with_all(manager, names, action) if "all" in ids else 0
        for (name, _), (place, letter) in wanted.items():
            queues = manager.engine.store.queues[place]
            act: Any = queues.requeue if action == "retried" else queues.drop
            counts[action] += act(name, [letter.id])
        if ids:
            audit.record(signals.Audited(user(), f"dead-letters-{action}", tuple(ids), counts[action]))
    text = ", ".join(f"{count} {action}" for action, count in counts.items())
    answer({"status": "success", **counts}, f"Dead letters: {text}.", as_json=as_json)
