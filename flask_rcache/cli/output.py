"""What a command prints, and how it ends.

Owns aligned tables, the one JSON document of ``--json``, and the exit codes: 0 when it is done, 1 when a check failed,
something was not found or the store is away, 2 for an error of usage. Answers go to standard output, everything else to
standard error.
"""

from __future__ import annotations

import functools
import getpass
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar, cast

import click
from flask.cli import with_appcontext

from ..engine.manager import CacheManager
from ..errors import ConfigError, StoreFullError
from ..model.named_tuple import NamedTuple
from ..model.tables import tables_and_rows
from ..stores.protocol import Listed
from .group import usage_errors

__all__ = [
    "Column",
    "Command",
    "Failure",
    "answer",
    "answers",
    "away",
    "bytes_text",
    "line",
    "listed_document",
    "note",
    "note_memory",
    "printable",
    "seconds_text",
    "store_away",
    "table",
    "user",
]

F = TypeVar("F", bound=Callable[..., Any])

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"))
_SIZES: Final = ("B", "KB", "MB", "GB")


class Failure(click.ClickException):
    """A command that could not do what it was asked.

    Args:
        code: one word for scripts.
        message: one sentence with the remedy.
        exit_code: 1, or 2 for an error of usage.
        more: further members of the JSON document.
    """

    def __init__(self, code: str, message: str, *, exit_code: int = 1, **more: Any) -> None:
        super().__init__(message)
        self.code: Final = code
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it on the class only
        self.more: Final = more

    def format_message(self) -> str:
        """The message as it is printed."""
        return _lines(self.message)


class Command(click.Command):
    """A command whose errors of usage are JSON too, where ``--json`` is among its arguments."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments."""
        with usage_errors(as_json="--json" in args):
            return super().make_context(info_name, args, parent, **extra)


class Column(NamedTuple):
    """A column of a table: its heading, its least width, and whether its cells stand at the right."""

    heading: str
    right: bool = False
    width: int = 0


def answers(command: F) -> F:
    """Give a command ``--json`` and the app's context, and have it end as documented whatever it raises."""
    in_context = with_appcontext(command)

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    @functools.wraps(command)
    def run(*args: Any, as_json: bool, **kwargs: Any) -> None:
        try:
            in_context(*args, as_json=as_json, **kwargs)
        except ConfigError as error:
            _fail(Failure("usage", str(error), exit_code=2), as_json=as_json)
        except Failure as failure:
            _fail(failure, as_json=as_json)

    return cast(F, run)


def _fail(failure: Failure, *, as_json: bool) -> None:
    if as_json:
        document = {"status": "error", "error": failure.code, "message": failure.message, **failure.more}
        click.echo(json.dumps(document, indent=2))
    failure.show()
    raise click.exceptions.Exit(failure.exit_code)


def answer(document: Any, text: str, *, as_json: bool) -> None:
    """Print the answer of a command, as JSON or for people."""
    click.echo(json.dumps(document, indent=2) if as_json else text)


def note(text: str) -> None:
    """Print a remark on the answer, on standard error."""
    click.echo(_lines(text), err=True)


def note_memory(manager: CacheManager) -> None:
    """Say that a cache in memory is this process's own, not that of the running app."""
    if manager.engine.catalogue.location.startswith("memory:"):
        note("Note: on memory:// each process has a cache of its own; this is not that of the running app.")


def away(manager: CacheManager) -> Exception | None:
    """Why the store cannot be asked; ``None`` when it can. A full store can be."""
    incident = manager.engine.store.incident
    return None if incident is None or isinstance(incident.cause, StoreFullError) else incident.cause


def store_away(cause: Exception) -> Failure:
    """The failure of a command that needs the store."""
    return Failure("unavailable", f"The store is unavailable: {cause}. `flask cache check` looks for the reason.")


# Tables


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> str:
    """An aligned table; without rows its headings.

    >>> print(table([Column("type"), Column("hits", right=True)], [("search", "7")]))
    type    hits
    search     7
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max([len(column.heading), *(len(row[at]) for row in cells)]) for at, column in enumerate(columns)]
    fixed = [column._replace(width=width) for column, width in zip(columns, widths, strict=True)]
    head = click.style(line(fixed, [column.heading for column in columns]), bold=True)
    return "\n".join([head, *(line(fixed, row) for row in cells)])


def line(columns: Sequence[Column], cells: Sequence[str]) -> str:
    """One line of a table whose columns have their widths."""
    aligned = [
        cell.rjust(column.width) if column.right else cell.ljust(column.width)
        for column, cell in zip(columns, map(printable, cells), strict=True)
    ]
    return "  ".join(aligned).rstrip()


def printable(text: str) -> str:
    r"""The text without what could steer a terminal: tags and keys may hold anything.

    >>> printable("a\x1b[31m")
    'a\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))


def seconds_text(seconds: float) -> str:
    """A duration for people.

    >>> [seconds_text(each) for each in (0.0123, 5.25, 90, 300, 7265, -3)]
    ['0.012s', '5.2s', '1m30s', '5m', '2h01m', '-3s']
    """
    if seconds < 0:
        return "-" + seconds_text(-seconds)
    if seconds < 60:
        return f"{seconds:.3f}s" if 0 < seconds < 1 else f"{seconds:.1f}s".replace(".0s", "s")
    whole = int(seconds)
    for index, (size, unit) in enumerate(_UNITS):
        if whole >= size:
            smaller, name = _UNITS[index + 1] if index + 1 < len(_UNITS) else (1, "s")
            rest = whole % size // smaller
            return f"{whole // size}{unit}" + (f"{rest:02d}{name}" if rest else "")
    return f"{whole}s"


def bytes_text(size: float) -> str:
    """A size for people.

    >>> [bytes_text(each) for each in (12, 2048, 5 * 1024**2)]
    ['12 B', '2.0 KB', '5.0 MB']
    """
    unit = 0
    while size >= 1024 and unit < len(_SIZES) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.{1 if unit else 0}f} {_SIZES[unit]}"


def listed_document(listed: Listed) -> dict[str, Any]:
    """An entry of a listing as JSON."""
    tables, rows, _ = tables_and_rows(listed.tags)
    return {
        "key": listed.key,
        "ttl": round(listed.ttl, 3),
        "age": round(listed.age, 3),
        "size": listed.size,
        "tags": list(listed.tags),
        "tables": tables,
        "rows": rows,
        "cost": round(listed.cost, 6),
        "kind": listed.kind,
        "view": listed.origin,
        "endpoint": listed.endpoint,
        "path": listed.path,
    }


def user() -> str:
    """Who runs the command, as the machine knows them."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name, as containers have them
        return "cli"
