"""The group ``flask cache``: which commands there are.

Owns their names. Each is imported when it is called, so that a server pays for the group alone. One group serves every
app of the process.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import click
from flask.cli import AppGroup

__all__ = ["cache", "usage_errors"]

#: The module of each command, which has the command under its name there.
_COMMANDS: Final[Mapping[str, str]] = {
    "check": "doctor",
    "clear-all": "changing",
    "events": "events",
    "explain": "explain",
    "inspect": "reading",
    "invalidate-pattern": "changing",
    "invalidate-tags": "changing",
    "invalidate-type": "changing",
    "invalidate-url": "changing",
    "invalidate-user": "changing",
    "keys": "reading",
    "sql": "sql",
    "stats": "reading",
    "token": "tokens",
    "types": "types",
    "warm": "warm",
    "writer": "writer",
}
_ALIASES: Final[Mapping[str, str]] = {"clear": "clear-all", "invalidate": "invalidate-type"}


class _Commands(AppGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"flask_rcache.cli.{_COMMANDS[name]}")
        command: click.Command = getattr(module, name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        with usage_errors(as_json="--json" in args):
            return super().resolve_command(ctx, args)


@contextmanager
def usage_errors(*, as_json: bool) -> Iterator[None]:
    """Inside, an error of usage is printed as one JSON document too, when that is what was asked for."""
    try:
        yield
    except click.UsageError as error:
        if as_json:
            document = {"status": "error", "error": "usage", "message": error.format_message()}
            click.echo(json.dumps(document, indent=2))
        raise


cache: Final = _Commands("cache", help="Look at the cache, invalidate, and find out why something is not cached.")
