"""The events of one app: handlers, the setting's rules, and the stream to and from other services.

Owns what happens when an event is emitted, and in which order. Reading the stream is ``consumer``'s.
"""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final
from weakref import ref

from flask import Flask

from .. import signals
from ..context import manager_of
from ..errors import ConfigError, StoreUnavailableError
from ..model import forks
from ..model.named_tuple import NamedTuple
from .rules import Rule, rules_of

__all__ = ["Event", "Events", "Handlers"]

logger: Final = logging.getLogger("flask_rcache")

#: The field of a stream's message that names who has handled it already.
HANDLED_BY: Final = "handled_by"


class Event(NamedTuple):
    """Something that happened.

    Args:
        name: what.
        data: its fields.
        id: in the stream; empty when it did not come from there.
    """

    name: str
    data: Mapping[str, Any]
    id: str = ""


class Handlers:
    """The handlers of an extension, by the names of events."""

    def __init__(self) -> None:
        self._handlers: Final[dict[str, list[_Handler]]] = {}

    def add(self, name: str, function: Callable[..., object]) -> None:
        """Register a handler.

        Raises:
            ConfigError: the name or the function is not usable.
        """
        if not isinstance(name, str) or not name:
            raise ConfigError(f"an event's name is a non-empty string, not {name!r:.80}")
        self._handlers.setdefault(name, []).append(_Handler(name, function))

    def of(self, name: str) -> list[_Handler]:
        """The handlers of an event, in the order of their registration."""
        return self._handlers.get(name, [])


class _Handler:
    """A function that is called with the fields that it names, or with the event if ``event`` is its parameter."""

    __slots__ = ("_fields", "_function", "_required", "_takes_all", "_takes_event", "name")

    def __init__(self, name: str, function: Callable[..., object]) -> None:
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise ConfigError(f"the handler of event {name!r} must be a plain function, not {function!r:.80}")
        parameters = inspect.signature(function).parameters.values()
        if any(each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL) for each in parameters):
            raise ConfigError(f"the handler of event {name!r} must take its fields by name: {function!r:.80} does not")
        self.name: Final = f"{function.__module__}:{getattr(function, '__qualname__', function)}"
        self._function: Final = function
        self._takes_event: Final = [each.name for each in parameters] == ["event"]
        self._takes_all: Final = any(each.kind is each.VAR_KEYWORD for each in parameters)
        self._fields: Final = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
        self._required: Final = {
            each.name for each in parameters if each.kind is not each.VAR_KEYWORD and each.default is each.empty
        }

    def __call__(self, event: Event) -> None:
        """Handle an event.

        Raises:
            ConfigError: it has not the fields that the function needs.
        """
        if self._takes_event:
            self._function(event)
            return
        missing = self._required - set(event.data)
        if missing:
            raise ConfigError(
                f"event {event.name!r} has no field {min(missing)!r}, which its handler {self.name} needs: "
                f"emit it with {min(missing)}=…"
            )
        chosen = event.data if self._takes_all else {name: event.data[name] for name in self._fields & set(event.data)}
        self._function(**chosen)


class Events:
    """The events of one app.

    Args:
        app: the app, which has a cache.
        handlers: of its extension.

    Raises:
        ConfigError: ``RCACHE_EVENTS`` is not usable.
    """

    def __init__(self, app: Flask, handlers: Handlers) -> None:
        self._app: Final = ref(app)
        self._manager: Final = manager_of(app)
        self._handlers: Final = handlers
        settings = self._manager.settings
        self.rules: Final[dict[str, Rule]] = rules_of(settings.events)
        self.stream: Final = settings.events_stream
        self.group: Final = settings.events_group or settings.prefix
        self._client: Any = None
        if self.stream is not None and not settings.is_shared:
            raise ConfigError("RCACHE_EVENTS_STREAM is a stream in Redis: set RCACHE_URL")
        if self.stream is not None:
            self._manager.engine.sections["events"] = self.state
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The connections are the parent's."""
        self._client = None

    def check_types(self) -> None:
        """See that the types of the rules are known.

        Raises:
            UnknownTypeError: one of them is not.
        """
        for rule in self.rules.values():
            for name in rule.types:
                self._manager.known_type(name)

    def emit(self, name: str, data: Mapping[str, Any]) -> None:
        """Say that something happened: now, or after the commit of the transaction that has written something here.

        Raises:
            ConfigError: the name or the fields are not usable, or what handles the event emits it again without end.
            StoreUnavailableError: the stream is away; this app has handled the event.
            Exception: what a handler raised, after all of them were called.
        """
        if not isinstance(name, str) or not name:
            raise ConfigError(f"an event's name is a non-empty string, not {name!r:.80}")
        try:
            text = json.dumps(data)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the fields of event {name!r} must be JSON: {error}") from error
        if name in self.rules:
            self.rules[name].targets(data)  # a field that is missing is an error here
        _refuse_endless(name, data)
        event = Event(name, data)

        def happen() -> None:
            try:
                self.handle(event)
            finally:
                self._send(name, text)

        pending = sys.modules.get("flask_rcache.sql.pending")
        if pending is None or not pending.after_commit(happen):
            happen()

    def handle(self, event: Event) -> None:
        """Invalidate what the rules say, then call the handlers and the receivers of the signal.

        Raises:
            Exception: what the first handler that failed raised.
        """
        entered = _under_way.set((*_under_way.get(), event))
        try:
            self._handle(event)
        finally:
            _under_way.reset(entered)

    def _handle(self, event: Event) -> None:
        manager, failed = self._manager, None
        rule = self.rules.get(event.name)
        if rule is not None:
            targets = rule.targets(event.data)
            if targets.tags:
                manager.invalidate_tags(*targets.tags)
            for name in targets.types:
                manager.invalidate_type(name)
            for url in targets.urls:
                manager.invalidate_url(url)
            for user in targets.users:
                manager.invalidate_user(user)
        for handler in self._handlers.of(event.name):
            try:
                handler(event)
            except Exception as error:  # the others are called all the same
                if not isinstance(error, _EndlessError):  # said once, and not at each depth
                    logger.exception("[CACHE ERROR] handler %s of event %r failed", handler.name, event.name)
                failed = failed or error
        signals.emit(signals.cache_event, self._app(), event)
        if failed is not None:
            raise failed

    def knows(self, name: str) -> bool:
        """Whether anything is to be done about events of a name."""
        if not name:
            return False
        receives = signals.cache_event.has_receivers_for(self._app())
        return name in self.rules or bool(self._handlers.of(name)) or receives

    # The stream

    @property
    def client(self) -> Any:
        """redis-py's client of the server, the sentinels' master or the cluster."""
        if self._client is None:
            from ..stores.redis.clients import client_of

            self._client = client_of(self._manager.settings)
        return self._client

    def state(self) -> dict[str, Any]:
        """The stream as operators see it: its messages, those not given to the group or not ended, its consumers.

        ``lag`` is ``None`` where the server does not know it.

        Raises:
            StoreUnavailableError: the stream is away.
        """
        from redis.exceptions import RedisError, ResponseError

        incident = self._manager.engine.store.incident
        if incident is not None:  # no wait for what is known to be away
            raise StoreUnavailableError(f"stream {self.stream!r} is away: {incident.cause}")
        try:
            length = int(self.client.xlen(self.stream))
            try:
                groups = self.client.xinfo_groups(self.stream)
                consumers = self.client.xinfo_consumers(self.stream, self.group)
            except ResponseError:  # there is no such stream or group yet
                groups = consumers = []
        except (RedisError, OSError) as error:
            raise StoreUnavailableError(f"stream {self.stream!r} is away: {error}") from error
        own = next((each for each in groups if _text(each["name"]) == self.group), None)
        state = {"stream": self.stream, "group": self.group, "length": length}
        if own is None:
            return {**state, "lag": length, "pending": 0, "consumers": 0}
        lag = own.get("lag")
        return {
            **state,
            "lag": None if lag is None else int(lag),
            "pending": int(own["pending"]),
            "consumers": sum(int(each["idle"]) < _ALIVE_MS for each in consumers),
        }

    def _send(self, name: str, text: str) -> None:
        if self.stream is None:
            return
        from redis.exceptions import RedisError

        fields = {"name": name, "data": text, HANDLED_BY: self.group}
        try:
            self.client.xadd(self.stream, fields, maxlen=_LONGEST, approximate=True)
        except (RedisError, OSError) as error:
            raise StoreUnavailableError(
                f"event {name!r} was not sent to stream {self.stream!r}, though this app has handled it: {error}"
            ) from error


#: The events that are handled in this context, the outermost first, and how many there may be.
_under_way: Final[ContextVar[tuple[Event, ...]]] = ContextVar("rcache_events_under_way", default=())
_DEEPEST: Final = 32


class _EndlessError(ConfigError):
    """What handles an event emits it again, and so on."""


def _refuse_endless(name: str, data: Mapping[str, Any]) -> None:
    """See that an event is not emitted by what handles it.

    Raises:
        ConfigError: it is, with the same fields, or so deep that there is no end to be seen.
    """
    around = _under_way.get()
    again = any(each.name == name and each.data == data for each in around)
    if not again and len(around) < _DEEPEST:
        return
    names = " → ".join([each.name for each in around[-3:]] + [name])
    how = "with the same fields" if again else f"{_DEEPEST} times, each inside the one before"
    raise _EndlessError(
        f"event {name!r} is emitted again by what handles it, {how} ({names}), which would have no end: emit another "
        "event there, or none"
    )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


#: Milliseconds within which a consumer that lives asks for events.
_ALIVE_MS: Final = 10_000
#: Messages that a stream keeps at least.
_LONGEST: Final = 100_000
