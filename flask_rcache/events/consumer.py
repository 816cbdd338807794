"""The consumer of the stream of events: ``flask cache events``.

Owns reading the stream as a member of a group, so that each event is handled by one process, and what becomes of events
that fail and of those whose consumer has died.
"""

from __future__ import annotations

import json
import logging
import threading
import time
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

_BLOCK_MS: Final = 100
#: Milliseconds after which an event is taken from a consumer that has not ended it, or is tried again.
_CLAIM_MS: Final = 5_000
#: Seconds after which a consumer says again that it has an event.
_KEEPING: Final = 1.25
#: Seconds between two looks for events to claim; how many are handled in one.
_CLAIMING: Final = 1.0
_CLAIMED: Final = 100
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
        #: The id of the event at hand; and when to look next for those of others (monotonic seconds).
        self._at_hand: Any = None
        self._claims_at = 0.0
        #: The id of an event that was handled while its end could not be recorded.
        self._unrecorded: Any = None

    def stop(self) -> None:
        """End after the event that is being handled."""
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
        ended = threading.Event()
        threading.Thread(target=self._keep, args=(ended,), name="flask_rcache-events", daemon=True).start()
        try:
            self._stream.run(once=once, report=lambda: report(self.progress))
        finally:
            ended.set()
        self._leave()

    def _keep(self, ended: threading.Event) -> None:
        """Keep the event at hand, however long its handlers take: no other consumer claims it meanwhile."""
        while not ended.wait(_KEEPING):
            id = self._at_hand
            if id is not None:
                events = self._events
                try:
                    events.client.xclaim(events.stream, events.group, self._name, 0, [id], justid=True)
                except (RedisError, OSError) as error:
                    logger.debug("[CACHE] event %s could not be kept: %s", _text(id), error)

    def _lose_group(self) -> None:
        """A server that has taken over, or was emptied, may not have it."""
        self._has_group = False

    def _round(self) -> bool:
        """Handle one new event; now and then, before it, those that were not ended.

        One at a time: what is taken and waits here would be claimed by others meanwhile, and handled twice.
        """
        client, stream, group = self._events.client, self._events.stream, self._events.group
        if not self._has_group:
            self._make_group()
        if self._unrecorded is not None:
            self._record(self._unrecorded)
        if time.monotonic() >= self._claims_at:
            self._claim()
            self._claims_at = time.monotonic() + _CLAIMING
        found = client.xreadgroup(group, self._name, {stream: ">"}, count=1, block=_BLOCK_MS)
        for _, messages in found or ():
            for id, fields in messages:
                self._take(id, fields, 1)
        return bool(found)

    def _claim(self) -> None:
        """Handle events whose consumers have died, and those that have failed."""
        client, stream, group = self._events.client, self._events.stream, self._events.group
        after: Any = "0-0"
        for _ in range(_CLAIMED):
            if self._stream.is_stopped:
                return
            after, claimed, *_gone = client.xautoclaim(stream, group, self._name, _CLAIM_MS, after, count=1)
            for id, fields in claimed:
                self._take(id, fields, self._tries(id))
            if after in ("0-0", b"0-0"):
                return

    def _take(self, id: Any, fields: dict[Any, Any] | None, tries: int) -> None:
        """Handle an event; its end is recorded before the next one is taken. One without fields is gone."""
        self._at_hand = id
        try:
            if fields is None or self._ends(id, fields, tries):
                self._record(id)
        finally:
            self._at_hand = None

    def _record(self, id: Any) -> None:
        """Record that an event has ended; in the next round when the server is away."""
        self._unrecorded = id
        self._events.client.xack(self._events.stream, self._events.group, id)
        self._unrecorded = None

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

    def _tries(self, id: Any) -> int:
        pending = self._events.client.xpending_range(
            self._events.stream, self._events.group, min=id, max=id, count=1, consumername=self._name
        )
        return int(pending[0]["times_delivered"]) if pending else 1

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
