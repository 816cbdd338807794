"""What ``check`` says about queues of writes, the stream of events and warming tasks.

Owns the findings. The figures are the overview's; a queue that has a consumer is looked at twice, a second apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..engine.manager import CacheManager
from ..errors import StoreError
from .findings import Finding, fail, ok, warn
from .output import seconds_text

__all__ = ["data_findings", "hazards"]

#: Seconds between two looks at a queue.
_APART: Final = 1.0


def data_findings(manager: CacheManager) -> Iterator[Finding]:
    """What there is to say; nothing where an app uses none of the three."""
    overview = manager.overview()
    queues = overview["queues"]
    if queues:
        yield from _evicted(manager)
        yield from _queues(manager, queues)
    if overview["events"] is not None:
        yield _events(overview["events"])
    yield from _warming(overview["warming"])


def _evicted(manager: CacheManager) -> Iterator[Finding]:
    for hazard in hazards(manager):
        message, _, remedy = hazard.partition(": ")
        yield fail("queues", f"{message}: every write behind is refused.", f"{remedy[:1].upper()}{remedy[1:]}.")


def hazards(manager: CacheManager) -> list[str]:
    """Why servers may lose queues, each reason once; none of a server that is away."""
    found: dict[str, None] = {}
    for part in manager.engine.store.queues:
        try:
            found[part.hazard()] = None
        except StoreError:  # said elsewhere
            continue
    found.pop("", None)
    return list(found)


def _queues(manager: CacheManager, queues: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    later: dict[str, Mapping[str, Any]] = {}
    if any(queue["length"] and queue["has_consumer"] for queue in queues):
        time.sleep(_APART)  # a command that looks twice, to see whether a queue grows
        later = {queue["name"]: queue for queue in manager.overview()["queues"]}
    for queue in queues:
        found = list(_wrong(queue, later.get(queue["name"], queue)))
        yield from found or [ok("queues", f"{queue['name']}: {_waiting(queue)}")]


def _waiting(queue: Mapping[str, Any]) -> str:
    length = queue["length"]
    if not length:
        return "no write waits"
    return f"{length:,} {'write waits' if length == 1 else 'writes wait'}, the first for {seconds_text(queue['lag'])}"


def _wrong(queue: Mapping[str, Any], later: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with one queue."""
    name = queue["name"]
    if not queue["has_writer"]:
        if queue["length"] or queue["dead"]:
            yield warn(
                "queues",
                f"{name}: {_waiting(queue)}, {queue['dead']:,} given up, and this app has no writer for it.",
                f"Register one with @rcache.writer({name!r}), or apply them with the release that had it.",
            )
        return
    if not queue["has_consumer"]:
        yield warn(
            "queues", f"{name}: no consumer has the queue; {_waiting(queue)}.", f"Run `flask cache writer {name}`."
        )
    elif later["length"] > queue["length"] and later["lag"] > queue["lag"]:
        more = later["length"] - queue["length"]
        yield warn(
            "queues",
            f"{name}: the lag grows; {_waiting(later)}, {more:,} more than a second before.",
            "Make the writer faster, with a larger batch for example, or part the writes into several queues.",
        )
    for write in queue["retried"][:1]:
        yield warn(
            "queues",
            f"{name}: the write of {write['key']} was tried {write['attempts']} times; later ones of this key wait.",
            "See the log of `flask cache writer` for its error; after RCACHE_WRITE_ATTEMPTS tries it is given up.",
        )
    if queue["dead"]:
        first = next(iter(queue["dead_letters"]), {"key": "?", "error": "?"})
        yield warn(
            "queues",
            f"{name}: {queue['dead']:,} given up, the first of {first['key']}: {first['error']}",
            f"List them with `flask cache writer {name} --dead`, then --retry or --drop them.",
        )


def _events(events: Mapping[str, Any]) -> Finding:
    stream, lag, pending = events["stream"], events["lag"], events["pending"]
    waiting = "an unknown number of events wait" if lag is None else f"{lag:,} events wait"
    message = f"stream {stream}: {waiting}, {pending:,} are being handled by group {events['group']}"
    if not events["consumers"]:
        return warn("events", f"{message}; it has no consumer.", "Run `flask cache events`.")
    return ok("events", message)


def _warming(tasks: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    failed = [task for task in tasks if task["error"] is not None]
    for task in failed:
        yield warn(
            "warming",
            f"{task['name']}: its last run failed: {task['error']}",
            f"Run `flask cache warm {task['name']}` and see its error.",
        )
    if tasks and not failed:
        yield ok("warming", f"{len(tasks)} {'task' if len(tasks) == 1 else 'tasks'}, none of which failed last")
