"""The Lua scripts: loaded from their files, called by their hash.

Owns the text and the call of each script; the healing of ``NOSCRIPT`` after a restart. Each file says its KEYS, ARGV,
reply and atomicity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

from redis.exceptions import NoScriptError

from .connection import pack

__all__ = ["Script", "load"]

Argument = bytes | str | int | float


class Script:
    """One script, callable over any exchange."""

    __slots__ = ("_sha", "_text", "name")

    def __init__(self, name: str, text: str) -> None:
        self.name: Final = name
        self._text: Final = text
        self._sha: Final = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, exchange: Callable[[bytes, int], list[Any]], keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run it once.

        Args:
            exchange: sends a payload and returns so many replies.
            keys: KEYS.
            args: ARGV.

        Returns:
            The reply, or the driver's exception when the reply is an error.
        """
        return self.call_many(exchange, [(keys, args)])[0]

    def call_many(
        self,
        exchange: Callable[[bytes, int], list[Any]],
        calls: Sequence[tuple[Sequence[str], Sequence[Argument]]],
    ) -> list[Any]:
        """Run it several times in one write; the replies in order."""
        payloads = [pack(("EVALSHA", self._sha, len(keys), *keys, *args)) for keys, args in calls]
        replies = exchange(b"".join(payloads), len(calls))
        for i, (keys, args) in enumerate(calls):
            if isinstance(replies[i], NoScriptError):  # a new server, or SCRIPT FLUSH: EVAL loads it again
                replies[i] = exchange(pack(("EVAL", self._text, len(keys), *keys, *args)), 1)[0]
        return replies


@cache
def load(name: str) -> Script:
    """The script in ``lua/{name}.lua``; read once a process, however many apps there are."""
    return Script(name, (resources.files("flask_rcache.stores.redis") / "lua" / f"{name}.lua").read_text("utf-8"))
