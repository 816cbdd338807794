"""The group ``flask cache``.

Owns which commands there are. Each runs in the app's context; one group serves every app of the process.
"""

from __future__ import annotations

from typing import Final

from flask.cli import with_appcontext

from .changing import clear, invalidate, invalidate_pattern, invalidate_tags
from .doctor import check
from .explain import explain
from .output import Commands
from .reading import inspect, keys, stats
from .tokens import token
from .types import types

__all__ = ["cache"]

cache: Final = Commands("cache", help="Look at the cache, invalidate, and find out why something is not cached.")

for _command in (
    stats,
    types,
    keys,
    inspect,
    invalidate,
    invalidate_tags,
    invalidate_pattern,
    clear,
    explain,
    token,
    check,
):
    assert _command.callback is not None
    _command.callback = with_appcontext(_command.callback)
    cache.add_command(_command)
