"""The consumer of the stream of events: ``flask cache events``.

Owns reading the stream as a member of a group, so that each event is handled by one process, and what becomes of events
that fail and of those whose consumer has died.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask
from redis.exceptions import RedisError, ResponseError

from ..errors import RCacheError
from ..streaming import StreamConsumer
from .bus import HANDLED_BY, Event, Events

__all__ = ["EventConsumer", "EventProgress"]

logger: Final = logging.getLogger("flask_rcache")

_COUNT: Final = 100
_BLOCK_MS: Final = 100
#: Milliseconds after which an event is taken from a consumer that has not ended it, or is tried again.
_CLAIM_MS: Final = 5_000
_ATTEMPTS: Final = 5


@dataclass(slots=True)
class EventProgress:
    """What a consumer has done: events handled, skipped as none of this app's, failed tries, and those given up."""

    handled: int = 0
    skipped: int = 0
    failed: int = 0
    given_up: int = 0


class EventConsumer:
    """Handles the events of the stream until it is stopped.

    Args:
        app: the app.
        events: its events.
    """

    def __init__(self, app: Flask, events: Events) -> None:
        self.progress: Final = EventProgress()
        self._app: Final = app
        self._events: Final = events
        self._stream: Final = StreamConsumer(
            "the stream of events", self._round, (RedisError, OSError), lost=self._lose_group, rests=False
        )
        self._name: Final = self._stream.name
        self._has_group = False

    def stop(self) -> None:
        """End after the events that are being handled."""
        self._stream.stop()

    def run(self, *, once: bool = False, report: Callable[[EventProgress], Any] = lambda _: None) -> None:
        """Handle events.

        Args:
            once: end when there is no new event.
            report: called after each round.

        Raises:
            RedisError: with ``once``, when the server is away.
            OSError: the same.
        """
        self._stream.run(once=once, report=lambda: report(self.progress))
        self._leave()

    def _lose_group(self) -> None:
        """A server that has taken over, or was emptied, may not have it."""
        self._has_group = False

    def _round(self) -> bool:
        client, stream, group = self._events.client, self._events.stream, self._events.group
        if not self._has_group:
            self._make_group()
        claimed = client.xautoclaim(stream, group, self._name, _CLAIM_MS, "0-0", count=_COUNT)[1]
        tried = self._tries([id for id, _ in claimed]) if claimed else {}
        found = client.xreadgroup(group, self._name, {stream: ">"}, count=_COUNT, block=_BLOCK_MS)
        messages = [message for _, each in found or () for message in each]
        ended = []
        for id, fields in (*claimed, *messages):
            if fields is None or self._ends(id, fields, tried.get(id, 1)):
                ended.append(id)
        if ended:
            client.xack(stream, group, *ended)
        return bool(messages)

    def _make_group(self) -> None:
        try:
            self._events.client.xgroup_create(self._events.stream, self._events.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        # It is seen before there is an event for it.
        self._events.client.xgroup_createconsumer(self._events.stream, self._events.group, self._name)
        self._has_group = True

    def _leave(self) -> None:
        """Take this consumer out of the group, unless events that it has not ended are left for others to claim."""
        events = self._events
        try:
            own = events.client.xpending_range(
                events.stream, events.group, min="-", max="+", count=1, consumername=self._name
            )
            if not own:
                events.client.xgroup_delconsumer(events.stream, events.group, self._name)
        except (RedisError, OSError) as error:
            logger.debug("[CACHE] the stream of events could not be left: %s", error)

    def _tries(self, ids: list[Any]) -> dict[Any, int]:
        pending = self._events.client.xpending_range(
            self._events.stream, self._events.group, min=ids[0], max=ids[-1], count=_COUNT, consumername=self._name
        )
        return {each["message_id"]: int(each["times_delivered"]) for each in pending}

    def _ends(self, id: Any, fields: dict[Any, Any], tries: int) -> bool:
        """Handle one event; whether that is its end."""
        known = {_text(name): _text(value) for name, value in fields.items()}
        name = known.get("name", "")
        if known.get(HANDLED_BY) == self._events.group or not self._events.knows(name):
            self.progress.skipped += 1
            return True
        try:
            data = json.loads(known.get("data") or "{}")
            if not isinstance(data, dict):
                raise ValueError("its data is no JSON object")
        except ValueError as error:
            logger.warning("[CACHE] event %s (%r) is not usable and is skipped: %s", _text(id), name, error)
            self.progress.given_up += 1
            return True
        try:
            with self._app.app_context():
                self._events.handle(Event(name, data, _text(id)))
        except Exception as error:  # noqa: BLE001  # somebody's handler
            self.progress.failed += 1
            is_hopeless = isinstance(error, RCacheError) and isinstance(error, ValueError)
            if tries < _ATTEMPTS and not is_hopeless:
                return False
            logger.error("[CACHE ERROR] event %s (%r) is given up: %s", _text(id), name, error)
            self.progress.given_up += 1
            return True
        self.progress.handled += 1
        return True


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
