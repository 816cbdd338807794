"""Parsers of settings: a raw value, from ``app.config`` or the environment, becomes a checked one.

Owns what each kind of value may be, and the sentence that says so. Which settings there are is ``config``'s to say.
Each parser takes the raw value and what to call it, and raises :class:`~flask_rcache.errors.ConfigError`.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final, cast

from ..errors import ConfigError
from ..model.cache_type import check_ttl, check_window
from ..model.keys import Names

__all__ = [
    "added_to",
    "boolean",
    "callback",
    "count",
    "driver_options",
    "encryption_keys",
    "key",
    "leeway",
    "level",
    "metrics",
    "names",
    "number",
    "one_of",
    "prefix",
    "seconds",
    "secret",
    "some_names",
    "text",
    "url",
    "url_prefix",
    "whole",
    "window",
]

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})
_URL_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_MOST_LEEWAY: Final = 300
_KEY_BYTES: Final = 32
_MAKE_A_KEY: Final = 'make one with `python -c "import base64, os; print(base64.b64encode(os.urandom(32)).decode())"`'
#: The alphabet of URLs as the standard one.
_STANDARD: Final = str.maketrans("-_", "+/")
_METRICS: Final = frozenset({"prometheus", "opentelemetry"})


def boolean(value: object, what: str) -> bool:
    """``true``, ``yes``, ``on``, ``1`` and their opposites."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ConfigError(f"{what} must be true or false, not {value!r}")


def seconds(value: object, what: str) -> float:
    """More than 0 seconds, or a ``timedelta``."""
    parsed = _duration(value, what)
    if parsed <= 0:
        raise ConfigError(f"{what} must be more than 0 seconds, not {value!r}")
    return check_ttl(parsed, what=what)


def window(value: object, what: str) -> float:
    """0 or more seconds, or a ``timedelta``."""
    parsed = _duration(value, what)
    if parsed < 0:
        raise ConfigError(f"{what} must be 0 or more seconds, not {value!r}")
    return check_window(parsed, what=what)


def _duration(value: object, what: str) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else number(value, what)


def one_of(*words: str) -> Callable[[object, str], str]:
    """A parser of one of some words."""

    def parse(value: object, what: str) -> str:
        if value not in words:
            raise ConfigError(f"{what} must be {' or '.join(words)}, not {value!r}")
        return str(value)

    return parse


def number(value: object, what: str) -> float:
    """A finite number."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ConfigError(f"{what} must be a number, not {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{what} must be a finite number, not {value!r}")
    try:
        if math.isfinite(value):
            return value
    except OverflowError:
        raise ConfigError(f"{what} is too large a number") from None
    raise ConfigError(f"{what} must be a finite number, not {value!r}")


def whole(value: object, what: str) -> int:
    """A whole number, 0 or more."""
    parsed = number(value, what)
    if parsed != int(parsed) or parsed < 0:
        raise ConfigError(f"{what} must be a whole number, 0 or more, not {value!r}")
    return int(parsed)


def count(value: object, what: str) -> int:
    """A whole number, 1 or more."""
    parsed = whole(value, what)
    if not parsed:
        raise ConfigError(f"{what} must be 1 or more, not {value!r}")
    return parsed


def level(value: object, what: str) -> int:
    """A level of zstd."""
    parsed = whole(value, what)
    if not 1 <= parsed <= 19:
        raise ConfigError(f"{what} must be a zstd level from 1 to 19, not {value!r}")
    return parsed


def prefix(value: object, _what: str) -> str:
    """What every key may begin with."""
    return Names(value).prefix  # type: ignore[arg-type]  # Names refuses what is not a usable string


def names(value: object, what: str) -> tuple[str, ...]:
    """A list of names; in text they are separated by commas."""
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in listed):
        raise ConfigError(f"{what} must be a list of names, not {value!r}")
    return tuple(name.strip() for name in listed if name.strip())


def fields(value: object, what: str) -> tuple[str, ...]:
    """A list of header fields, in lower case."""
    named = tuple(dict.fromkeys(name.lower() for name in names(value, what)))
    for name in named:
        if re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name) is None:
            raise ConfigError(f"{what} must be names of header fields such as CDN-Cache-Control, not {name!r}")
    return named


def added_to(known: tuple[str, ...]) -> Callable[[object, str], tuple[str, ...]]:
    """A parser of names that stand beside those that always do."""
    return lambda value, what: tuple(dict.fromkeys((*known, *names(value, what))))


def some_names(value: object, what: str) -> tuple[str, ...]:
    """As :func:`names`; a text must name something, since none at all would switch a check off."""
    named = names(value, what)
    if isinstance(value, str) and not named:
        raise ConfigError(f"{what} names nothing: leave it out, or say what it must be, not {value!r}")
    return named


def metrics(value: object, what: str) -> tuple[str, ...]:
    """The metrics exporters."""
    named = names(value, what)
    if not set(named) <= _METRICS:
        raise ConfigError(f"{what} may name prometheus and opentelemetry, not {value!r}")
    return named


def key(value: object, what: str) -> object:
    """A secret or a PEM text as :func:`secret` takes it, or a key object; it is checked where it is used."""
    return secret(value, what) if isinstance(value, str | bytes) else value


def callback(value: object, what: str) -> Callable[[Any], Any]:
    """A callable that takes the request."""
    if not callable(value):
        raise ConfigError(f"{what} must be a callable that takes the request, not {value!r}: it cannot come from text")
    return cast(Callable[[Any], Any], value)


def text(value: object, what: str) -> str:
    """A text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{what} must be a text that is not blank, not {value!r}")
    return value


def secret(value: object, what: str) -> str | bytes:
    """A secret or a PEM text; never shown. In PEM the line breaks may be spelled, as in one line of a .env file."""
    if isinstance(value, bytes) and value.strip():
        return value
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{what} must be a text or bytes that are not blank, not {type(value).__name__}")
    return value.replace("\\n", "\n") if value.lstrip().startswith("-----BEGIN") else value


def encryption_keys(value: object, what: str) -> tuple[bytes, ...]:
    """Keys of 32 bytes in base64; no error shows one."""
    listed = value.split(",") if isinstance(value, str) else [value] if isinstance(value, bytes) else value
    if not isinstance(listed, list | tuple):
        raise ConfigError(f"{what} must be a list of keys in base64, not {type(listed).__name__}: {_MAKE_A_KEY}")
    found = tuple(
        _encryption_key(each, f"{what}, key {number} of {len(listed)}") for number, each in enumerate(listed, 1)
    )
    if len(set(found)) < len(found):
        raise ConfigError(f"{what} has the same key twice: keep it once, the key that writes first")
    return found


def _encryption_key(value: object, what: str) -> bytes:
    if not isinstance(value, str | bytes):
        raise ConfigError(f"{what} must be a text in base64, not {type(value).__name__}: {_MAKE_A_KEY}")
    text = value.strip() if isinstance(value, str) else value.strip().decode("utf-8", "replace")
    if not text:  # one of no keys at all would store everything in plain
        raise ConfigError(f"{what} is empty: {_MAKE_A_KEY}, or leave the setting out")
    text = text.translate(_STANDARD).rstrip("=")
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise ConfigError(f"{what} is not base64: {_MAKE_A_KEY}") from None
    if len(decoded) != _KEY_BYTES:
        raise ConfigError(
            f"{what} has {len(decoded)} bytes once it is decoded, and must have {_KEY_BYTES}: {_MAKE_A_KEY}"
        )
    if len(set(decoded)) < _KEY_BYTES // 2:
        raise ConfigError(f"{what} is not random, so it can be guessed: {_MAKE_A_KEY}")
    return decoded


def leeway(value: object, what: str) -> float:
    """Seconds by which clocks may differ."""
    parsed = _duration(value, what)
    if not 0 <= parsed <= _MOST_LEEWAY:
        raise ConfigError(f"{what} must be from 0 to {_MOST_LEEWAY} seconds, not {value!r}")
    return parsed


def url_prefix(value: object, what: str) -> str:
    """A path without a slash at its end."""
    if not isinstance(value, str) or not _URL_PREFIX.fullmatch(value):
        raise ConfigError(f"{what} must be a path such as /api/cache, without a slash at its end, not {value!r}")
    return value


def url(value: object, what: str) -> str:
    """Where a store is."""
    from .address import parse_address  # which an app without a store's URL does not need

    parse_address(value, what)
    return cast(str, value)


def driver_options(value: object, what: str) -> Mapping[str, Any]:
    """Options for redis-py: a dict, or one in JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:  # whose text may have a piece of a password in it
            raise ConfigError(f'{what} must be a dict in JSON, such as {{"ssl_ca_certs": "/etc/ca.pem"}}') from None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{what} must be a dict of options for redis-py, not {type(value).__name__}")
    return dict(value)


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """A mapping, as a dict or as a JSON object."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ConfigError(f"{what} must be a mapping, in the environment a JSON object: {error}") from error
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} must be a mapping, not {type(value).__name__}")
    return value
