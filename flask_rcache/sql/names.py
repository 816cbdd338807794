"""How tables and rows are named, and the tags that stand for them. The only module that makes these tags.

Owns :class:`TableName`, :class:`RowName` and the tags of both. An entry has, for what it read of a database:

- ``table:<table>`` for a table of which any row counts;
- ``row:<table>:<key>`` and ``rows:<table>`` for a row that was read by its whole primary key, found or not;
- ``table:?`` when it can't be known which tables were read;
- ``table:*`` in any case.

A write stamps ``table:<table>`` and ``row:<table>:<key>`` where it is known which rows it wrote, ``table:<table>`` and
``rows:<table>`` where it is not, ``table:?`` in any case, and ``table:*`` when it can't be known which tables it wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ..model.keys import user_tag
from ..model.named_tuple import NamedTuple
from ..model.tables import ANY, ROW, ROWS, TABLE, UNKNOWN

__all__ = [
    "RowName",
    "TableName",
    "any_tag",
    "row_tag",
    "rows_tag",
    "stamped",
    "table_tag",
    "unknown_tag",
]

_RESERVED: Final = re.compile(r"[^\w$ -]")


def _spelled(part: str) -> str:
    """A part of a name; what parts the names in a tag is encoded."""
    return part if part.isidentifier() else _RESERVED.sub(lambda found: f"%{ord(found[0]):02X}", part)


class TableName(NamedTuple):
    """A table, as the database has resolved its name.

    Args:
        database: the bind's name where an app has several databases; empty for the app's default one.
        schema: its schema; on MySQL and MariaDB the database, on SQLite ``main`` or an attached one.
        name: its own name.

    >>> str(TableName("", "public", "orders")), str(TableName("audit", "public", "log.2024"))
    ('public.orders', 'audit.public.log%2E2024')
    """

    database: str
    schema: str
    name: str

    def __str__(self) -> str:
        return ".".join([_spelled(part) for part in self if part])


class RowName(NamedTuple):
    """A row by its whole primary key.

    Args:
        table: the table.
        key: the key's values, spelled by ``rows.row_key``.
    """

    table: TableName
    key: str

    def __str__(self) -> str:
        return f"{self.table}:{self.key}"


def table_tag(table: TableName) -> str:
    """The stamp member of a table.

    >>> table_tag(TableName("", "public", "orders"))
    't:table:public.orders'
    """
    return user_tag(f"{TABLE}{table}")


def rows_tag(table: TableName) -> str:
    """The stamp member of every row of a table that was read by its key."""
    return user_tag(f"{ROWS}{table}")


def row_tag(row: RowName) -> str:
    """The stamp member of a row."""
    return user_tag(f"{ROW}{row}")


def any_tag(database: str = "") -> str:
    """On every entry that has read of a database; stamped by writes of tables that are not known."""
    return user_tag(f"{TABLE}{database + '.' if database else ''}{ANY}")


def unknown_tag(database: str = "") -> str:
    """On entries that have read tables that are not known; stamped by every write."""
    return user_tag(f"{TABLE}{database + '.' if database else ''}{UNKNOWN}")


def stamped(
    database: str, writes: Iterable[TableName], written_rows: Iterable[RowName], *, writes_all: bool = False
) -> tuple[str, ...]:
    """Every tag that a write stamps.

    Args:
        database: the bind's name.
        writes: the tables any row of which may have been written.
        written_rows: the rows that were written, of other tables.
        writes_all: whether tables may have been written that are not known.
    """
    tags: dict[str, None] = {}
    for table in writes:
        tags[table_tag(table)] = tags[rows_tag(table)] = None
    for row in written_rows:
        tags[table_tag(row.table)] = tags[row_tag(row)] = None
    if writes_all:
        tags[any_tag(database)] = None
    if tags:
        tags[unknown_tag(database)] = None
    return tuple(tags)
