"""What ``RCACHE_EVENTS`` says: which tags, types, URLs and users an event invalidates.

Owns the checking of the setting and the filling in of an event's fields. Pure.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any, Final

from ..errors import ConfigError
from ..model.named_tuple import NamedTuple

__all__ = ["Rule", "Targets", "rules_of"]

_KINDS: Final = ("tags", "types", "urls", "users")


class Targets(NamedTuple):
    """What one event invalidates."""

    tags: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


class Rule:
    """What events of one name invalidate.

    Args:
        event: the name.
        patterns: texts by kind, with the fields of the event in braces: ``order:{id}``.

    Raises:
        ConfigError: a kind or a text is not usable.
    """

    __slots__ = ("_event", "_patterns")

    def __init__(self, event: str, patterns: Mapping[str, Any]) -> None:
        where = f"RCACHE_EVENTS[{event!r}]"
        if not isinstance(patterns, Mapping) or not patterns or not set(patterns) <= set(_KINDS):
            raise ConfigError(f"{where} must have lists under some of {', '.join(_KINDS)}, not {patterns!r:.200}")
        self._event: Final = event
        self._patterns: Final[dict[str, tuple[str, ...]]] = {}
        for kind, texts in patterns.items():
            if isinstance(texts, str) or not all(isinstance(text, str) and text for text in texts):
                raise ConfigError(f"{where}[{kind!r}] must be a list of texts, not {texts!r:.200}")
            for text in texts:
                _check_fields(text, f"{where}[{kind!r}]")
            self._patterns[kind] = tuple(texts)

    @property
    def types(self) -> tuple[str, ...]:
        """The types that it names as they stand."""
        return tuple(text for text in self._patterns.get("types", ()) if "{" not in text)

    def targets(self, data: Mapping[str, Any]) -> Targets:
        """What an event with these fields invalidates.

        Raises:
            ConfigError: a field is missing.
        """
        filled = {kind: tuple(self._filled(text, data) for text in texts) for kind, texts in self._patterns.items()}
        return Targets(**filled)

    def _filled(self, text: str, data: Mapping[str, Any]) -> str:
        parts = []
        for literal, field, _, _ in string.Formatter().parse(text):
            parts.append(literal)
            if field is not None:
                if field not in data:
                    raise ConfigError(
                        f"event {self._event!r} has no field {field!r}, which RCACHE_EVENTS names in {text!r}: "
                        f"emit it with {field}=…"
                    )
                parts.append(str(data[field]))
        return "".join(parts)


def _check_fields(text: str, where: str) -> None:
    try:
        fields = [(field, spec, conversion) for _, field, spec, conversion in string.Formatter().parse(text)]
    except ValueError as error:
        raise ConfigError(f"{where} has {text!r}: {error}") from error
    for field, spec, conversion in fields:
        if field is not None and (not field.isidentifier() or spec or conversion):
            raise ConfigError(f"{where} has {text!r}: a field is a name in braces, such as {{id}}")


def rules_of(setting: Mapping[str, Any]) -> dict[str, Rule]:
    """The rules by the names of events.

    Raises:
        ConfigError: the setting is not usable.
    """
    rules = {}
    for event, patterns in setting.items():
        if not isinstance(event, str) or not event:
            raise ConfigError(f"RCACHE_EVENTS is a mapping by the names of events, not {event!r:.80}")
        rules[event] = Rule(event, patterns)
    return rules
