"""The tags of tables and rows of a watched database, as opposed to the labels of the app. Pure.

Owns what such a tag begins with, and :func:`tables_and_rows`. How tables and rows are spelled after that is
``sql.names``'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["ANY", "ROW", "ROWS", "TABLE", "UNKNOWN", "tables_and_rows"]

TABLE: Final = "table:"
ROW: Final = "row:"
#: Every row of a table.
ROWS: Final = "rows:"

#: Stands for every table in a tag …
ANY: Final = "*"
#: … and for tables that are not known.
UNKNOWN: Final = "?"


def tables_and_rows(tags: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """What an entry has read of databases, by its tags: tables, rows of other tables, and the tags that are neither.

    ``?`` among the tables stands for tables that are not known. A label of the app's that begins with ``table:`` looks
    like a table's tag, and is shown as one.

    >>> tables_and_rows(["menu", "table:*", "table:public.orders", "row:public.item:7", "rows:public.item"])
    (['public.orders'], ['public.item:7'], ['menu'])
    """
    tables, rows, others = [], [], []
    for tag in tags:
        if tag.startswith(TABLE):
            name = tag.removeprefix(TABLE)
            if name.rpartition(".")[2] != ANY:  # which is on every entry that has read of a database
                tables.append(name)
        elif tag.startswith(ROW):
            rows.append(tag.removeprefix(ROW))
        elif not tag.startswith(ROWS):  # which goes with each row
            others.append(tag)
    return sorted(tables), sorted(rows), others
