"""The command ``events``: handle the events of the stream.

Owns what is printed; SIGTERM and SIGINT end it after the events that are being handled. How an event is
handled is the package ``events``'s.
"""

from __future__ import annotations

import click
from flask import Flask, current_app
from redis.exceptions import RedisError

from ..events.bus import Events
from ..events.consumer import EventConsumer, EventProgress
from .consuming import stopped_by_signals
from .output import Command, Failure, answer, answers, note, store_away

__all__ = ["events"]


@click.command(cls=Command, name="events")
@click.option("--once", is_flag=True, help="End when there is no new event.")
@answers
def events(*, once: bool, as_json: bool) -> None:
    """Handle the events of RCACHE_EVENTS_STREAM.

    It runs until SIGTERM; run as many as you like.
    """
    known: Events | None = current_app.extensions.get("rcache.events")
    if known is None or known.stream is None:
        raise Failure("usage", "There is no stream of events: set RCACHE_EVENTS_STREAM to its key.", exit_code=2)
    known.check_types()
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's, which its type hides
    consumer = EventConsumer(app, known)
    stopped_by_signals(consumer)
    if not once:
        note(f"Handling the events of stream {known.stream!r} as group {known.group!r}. SIGTERM ends it.")
    try:
        consumer.run(once=once)
    except (RedisError, OSError) as error:
        raise store_away(error) from error
    progress = consumer.progress
    document = {"status": "success", **{name: getattr(progress, name) for name in EventProgress.__slots__}}
    text = (
        f"{progress.handled} events handled, {progress.skipped} skipped, {progress.failed} tries failed, "
        f"{progress.given_up} given up."
    )
    answer(document, text, as_json=as_json)
