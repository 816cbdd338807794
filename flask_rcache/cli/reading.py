"""The commands that look: ``stats``, ``keys`` and ``inspect``.

Owns their tables. None of them counts as a request, and none shows a value.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
from flask import current_app

from ..context import manager_of
from ..engine.manager import CacheManager
from ..engine.statistics import CacheStats
from ..errors import InvalidKeyError
from ..model.tables import tables_and_rows
from ..stores.protocol import Listed, Page
from .output import (
    Column,
    Command,
    Failure,
    answer,
    answers,
    away,
    bytes_text,
    line,
    listed_document,
    note,
    note_memory,
    seconds_text,
    store_away,
    table,
)
from .topology import topology_lines

__all__ = ["inspect", "keys", "stats"]

_PAGE: Final = 1000

_KEYS: Final = (
    Column("ttl", right=True, width=9),
    Column("age", right=True, width=9),
    Column("size", right=True, width=9),
    Column("kind", width=8),
    Column("key"),
)


@click.command(cls=Command)
@answers
def stats(*, as_json: bool) -> None:
    """Show hits, misses, loads and errors, by type.

    With Redis the figures are those of all processes, up to the last second.
    """
    manager = manager_of(current_app)
    figures = manager.stats()
    cause = away(manager)
    note_memory(manager)
    topology = manager.engine.catalogue.state()["topology"]
    queues = manager.queues()
    text = _stats_text(manager, figures, topology) + _queues_text(queues)
    answer({**figures, "topology": topology, "queues": queues}, text, as_json=as_json)
    if cause is not None:
        missing = "; ".join(manager.engine.catalogue.missing)
        if figures["scope"] == "all":
            note(f"Away: {missing}: {cause}.")
        else:
            note(f"The store is unavailable: {cause}. These are the figures of this process only.")
        raise click.exceptions.Exit(1)


def _stats_text(manager: CacheManager, figures: CacheStats, topology: dict[str, Any] | None) -> str:
    location = manager.engine.catalogue.location
    scope = "all processes" if figures["scope"] == "all" else "this process only"
    head = [
        f"store     {location} ({'available' if figures['is_available'] else 'not available'})",
        *topology_lines(topology),
        f"figures   of {scope}",
        f"hit rate  {figures['hit_rate']:.2f} % of {figures['total_requests']:,} requests",
        f"errors    {figures['errors']:,}",
        "",
    ]
    columns = [Column("type")] + [
        Column(heading, right=True)
        for heading in ("requests", "hit rate", "hits", "stale", "misses", "bypasses", "loads", "per load", "errors")
    ]
    rows = [
        (
            name,
            f"{row['total_requests']:,}",
            f"{row['hit_rate']:.2f} %" if row["total_requests"] else "-",
            *(f"{row[field]:,}" for field in ("hits", "stale", "misses", "bypasses", "loads")),
            seconds_text(row["load_seconds"] / row["loads"]) if row["loads"] else "-",
            f"{row['errors']:,}",
        )
        for name, row in figures["by_type"].items()
        if any(row.values())
    ]
    return "\n".join([*head, table(columns, rows) if rows else "There have been no lookups yet."])


def _queues_text(queues: Sequence[Mapping[str, Any]]) -> str:
    """A table of the queues of writes behind; nothing where there is none."""
    if not queues:
        return ""
    columns = [Column("queue")] + [Column(head, right=True) for head in ("waiting", "lag", "taken", "given up")]
    rows = [
        (
            queue["name"],
            f"{queue['length']:,}",
            seconds_text(queue["lag"]),
            f"{queue['pending']:,}",
            f"{queue['dead']:,}",
            ", ".join(queue["consumers"]) or "none",
        )
        for queue in queues
    ]
    return "\n\n" + table([*columns, Column("consumer")], rows)


# Listing


@click.command(cls=Command)
@click.option("--type", "type_name", metavar="TYPE", help="Only entries of this type.")
@click.option("--pattern", metavar="GLOB", help="Only keys that match: *, ?, [abc], as in `search:*`.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Entries at most.")
@click.option("--cursor", metavar="CURSOR", help="Go on where an earlier listing ended.")
@click.option("--all", "everything", is_flag=True, help="List to the end, however many there are.")
@answers
def keys(
    *, type_name: str | None, pattern: str | None, limit: int, cursor: str | None, everything: bool, as_json: bool
) -> None:
    """List live entries, with times, sizes and tags.

    Values are never shown.

    An entry with a negative ttl has expired, and may still be served stale.
    """
    manager = manager_of(current_app)
    note_memory(manager)
    pages = _Pages(manager, type_name, pattern, cursor, None if everything else limit)
    with _progress(manager, type_name, hidden=not everything) as seen:
        count = (_write_json if as_json else _write_table)(pages, seen)
    if not as_json:
        more = "" if pages.cursor is None else f" There is more: --cursor {pages.cursor}"
        note(f"{count:,} {'entry' if count == 1 else 'entries'}.{more}")
    if pages.cause is not None:
        note(f"The listing is not complete. {pages.cause.message}")
        raise click.exceptions.Exit(1)
    if pages.missing:
        note(f"The listing is not complete: away are {'; '.join(pages.missing)}.")
        raise click.exceptions.Exit(1)


class _Pages:
    """A listing page by page; when it ends, ``cursor`` is where it stands, and ``cause`` why it could not go on.

    Only the first page raises, so that what has been printed before is a whole document.
    """

    def __init__(
        self, manager: CacheManager, type_name: str | None, pattern: str | None, cursor: str | None, limit: int | None
    ) -> None:
        self._manager: Final = manager
        self._type: Final = type_name
        self._pattern: Final = pattern
        self._left: Final = limit
        self.cursor = cursor
        self.cause: Failure | None = None
        self.missing: list[str] = []
        self._first = self._page(limit)

    def _page(self, left: int | None) -> Page:
        page = self._manager.page(
            self._type, self._pattern, cursor=self.cursor, limit=_PAGE if left is None else min(left, _PAGE)
        )
        if not page.entries and page.cursor is None and (cause := away(self._manager)) is not None:
            raise store_away(cause)
        self.missing = list(self._manager.engine.catalogue.missing)
        return page

    def __iter__(self) -> Iterator[list[Listed]]:
        left, page = self._left, self._first
        while True:
            yield page.entries
            self.cursor = page.cursor
            if left is not None:
                left -= len(page.entries)
            if page.cursor is None or (left is not None and left <= 0):
                return
            try:
                page = self._page(left)
            except Failure as failure:
                self.cause = failure
                return


def _write_table(pages: _Pages, seen: Callable[[int], None]) -> int:
    click.echo(click.style(line(_KEYS, [column.heading for column in _KEYS]), bold=True))
    count = 0
    for entries in pages:
        for listed in entries:
            click.echo(line(_KEYS, _cells(listed)))
        count += len(entries)
        seen(len(entries))
    return count


def _cells(listed: Listed) -> tuple[str, ...]:
    tags = f"  [{', '.join(listed.tags)}]" if listed.tags else ""
    return (
        seconds_text(listed.ttl),
        seconds_text(listed.age),
        bytes_text(listed.size),
        listed.kind or "-",
        listed.key + (f"  {listed.path}" if listed.path else "") + tags,
    )


def _write_json(pages: _Pages, seen: Callable[[int], None]) -> int:
    """One document, written as it comes: a listing may be longer than memory."""
    click.echo('{"keys": [', nl=False)
    separator, count = "\n  ", 0
    for entries in pages:
        for listed in entries:
            click.echo(separator + json.dumps(listed_document(listed)), nl=False)
            separator = ",\n  "
        count += len(entries)
        seen(len(entries))
    ending = {"cursor": pages.cursor, "complete": pages.cursor is None and pages.cause is None and not pages.missing}
    click.echo("\n], " + json.dumps(ending)[1:])
    return count


@contextmanager
def _progress(manager: CacheManager, type_name: str | None, *, hidden: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's standard error, while a long listing goes into a file; to call with each step done."""
    if hidden or sys.stdout.isatty() or not sys.stderr.isatty():
        yield lambda _: None
        return
    types: dict[str, Any] = manager.overview()["types"]
    length = sum(row["entries"] for name, row in types.items() if type_name in (None, name))
    with click.progressbar(length=length, label="Listing", file=sys.stderr) as bar:
        yield bar.update


# One entry


@click.command(cls=Command)
@click.argument("key")
@answers
def inspect(*, key: str, as_json: bool) -> None:
    """Show one entry's times, size and tags, and the tables and rows that it has read.

    Its value is never shown.

    KEY is the stored key as `keys` and X-Cache-Key show it (cache:search:42), or TYPE:ID.
    """
    manager = manager_of(current_app)
    note_memory(manager)
    stored = stored_key(manager, key)
    listed = manager.inspect(stored)
    if listed is None:
        cause = away(manager)
        if cause is not None:
            raise store_away(cause)
        raise Failure("not_found", f"There is no live entry {stored!r}.", key=stored)
    tables, read, others = tables_and_rows(listed.tags)
    rows = [
        ("key", listed.key),
        ("kind", listed.kind or "-"),
        ("view", listed.origin or "-"),
        ("endpoint", listed.endpoint or "-"),
        ("path", listed.path or "-"),
        ("ttl", seconds_text(listed.ttl) + (" (stale)" if listed.ttl < 0 else "")),
        ("age", seconds_text(listed.age)),
        ("size", f"{bytes_text(listed.size)} in the store"),
        ("cost", f"{seconds_text(listed.cost)} to load"),
        ("tags", ", ".join(others) or "-"),
    ]
    if tables or read:
        rows += [("tables", ", ".join(tables) or "-"), ("rows", ", ".join(read) or "-")]
    text = "\n".join(line((Column("", width=8), Column("")), row) for row in rows)
    answer(listed_document(listed), text, as_json=as_json)


def stored_key(manager: CacheManager, key: str) -> str:
    """The stored key that is meant by ``cache:search:42`` or ``search:42``.

    Raises:
        ConfigError: it names no entry of this cache.
    """
    names = manager.engine.names
    if key.startswith(names.entries):
        type_name, _, id = key.removeprefix(names.entries).partition(":")
        if type_name and id:
            return key
    type_name, _, id = key.partition(":")
    if not id:
        raise InvalidKeyError(f"{key!r} names no entry: give {names.entries}TYPE:ID, or TYPE:ID")
    own = names.entry(manager.known_type(type_name).name, "")
    return names.stored(type_name, own + id)
