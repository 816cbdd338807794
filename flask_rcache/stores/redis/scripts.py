"""The Lua scripts: loaded from their files, called by their hash.

Owns the text and the calling of each script; the healing of ``NOSCRIPT`` after a restart. Each file says its KEYS,
ARGV, reply and atomicity; what several of them need is in ``lua/_prelude.lua``, which stands before each.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

from redis.exceptions import NoScriptError, ResponseError

from ...model.entry import Draft
from ...model.named_tuple import NamedTuple
from .connection import Exchange, pack
from .steps import Ask, Steps, drive

__all__ = ["Argument", "Call", "Script", "load", "run", "run_steps", "stored_form"]

Argument = bytes | str | int | float
#: After every reading of the clock.
_NO_READING: Final = 2**53


class Script:
    """One script."""

    __slots__ = ("_sha", "_text", "name")

    def __init__(self, name: str, text: str) -> None:
        self.name: Final = name
        self._text: Final = text
        self._sha: Final = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def packed(self, keys: Sequence[str], args: Sequence[Argument], *, with_text: bool = False) -> bytes:
        """One call as a command: by the script's hash, or with its text, which loads it."""
        command, script = ("EVAL", self._text) if with_text else ("EVALSHA", self._sha)
        return pack((command, script, len(keys), *keys, *args))

    def located(self, error: ResponseError) -> ResponseError:
        """An error with the line that raised it: of a command that is not granted, some servers do not say which."""
        found = re.search(r"@user_script:(\d+)", str(error))
        if found is None:
            return error
        lines = self._text.splitlines()
        at = min(int(found[1]), len(lines)) - 1
        line = lines[at].strip()
        if line.endswith("("):  # the command stands in the next
            line += "".join(lines[at + 1 : at + 2]).strip()
        return type(error)(f"{error} ({self.name}: {line})")


class Call(NamedTuple):
    """One call of a script with its KEYS and ARGV."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Argument]


def run(exchange: Exchange, calls: Sequence[Call]) -> list[Any]:
    """Run scripts, one after the other, in one write; see :func:`run_steps`.

    Args:
        exchange: sends a payload and returns so many replies.
        calls: the calls.
    """
    return drive(run_steps(calls), lambda ask: exchange(ask.payload, ask.replies))


def run_steps(calls: Sequence[Call], *, patient: bool = False, once: bool = False) -> Steps[list[Any]]:
    """Run scripts, one after the other, in one write.

    Args:
        calls: the calls.
        patient: see :class:`~.steps.Ask`.
        once: see :class:`~.steps.Ask`.

    Returns:
        The replies in order, an error reply as the driver's exception.
    """
    if not calls:
        return []
    payload = b"".join([call.script.packed(call.keys, call.args) for call in calls])
    replies = yield Ask(payload, len(calls), patient, once)
    for number, call in enumerate(calls):
        if isinstance(replies[number], NoScriptError):  # a new server, or SCRIPT FLUSH
            again = yield Ask(call.script.packed(call.keys, call.args, with_text=True), 1, patient)
            replies[number] = again[0]
        if isinstance(replies[number], ResponseError):
            replies[number] = call.script.located(replies[number])
    return replies


def _text(name: str) -> str:
    return (resources.files("flask_rcache.stores.redis") / "lua" / f"{name}.lua").read_text("utf-8")


@cache
def load(name: str) -> Script:
    """The script in ``lua/{name}.lua``; read once a process, however many apps there are."""
    return Script(name, _text("_prelude") + _text(name))


def stored_form(draft: Draft, as_of: int | None, type_name: str, sealed: bytes) -> list[Argument]:
    """What scripts take of an entry: its expiry (ms), type, tags, each with its reading if it has one, and envelope."""
    form: list[Argument] = [max(1, int(draft.keep * 1000)), type_name]
    if draft.inherited:
        clock = _NO_READING if as_of is None else as_of
        pairs = draft.tags_as_of(clock)
        form.append(len(pairs))
        for tag, reading in pairs:
            form += (tag, b"" if reading == clock else reading)
    else:
        form.append(len(draft.tags))
        for tag in draft.tags:
            form += (tag, b"")
    form.append(sealed)
    return form
