"""What one connection to a database has written since its last commit or rollback, savepoint by savepoint.

Owns :class:`Transaction`. When it ends is ``transactions``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .databases import Database
from .names import RowName, TableName, stamped
from .stamps import Ends
from .statements import Statement

__all__ = ["Transaction", "Writes"]

#: So many rows of one table are stamped one by one; above that, the table and all its rows.
_MOST_ROWS: Final = 64


class Writes:
    """What was written: tables, and rows of other tables."""

    __slots__ = ("is_all", "rows", "tables")

    def __init__(self) -> None:
        self.tables: Final[set[TableName]] = set()
        self.rows: Final[dict[TableName, set[RowName]]] = {}
        self.is_all = False

    def __bool__(self) -> bool:
        return bool(self.tables or self.rows or self.is_all)

    def add(self, statement: Statement) -> None:
        """A statement has written."""
        self.is_all |= statement.writes_all
        self.tables.update(statement.writes)
        for row in statement.written_rows:
            self.rows.setdefault(row.table, set()).add(row)
        self._collapse()

    def merge(self, others: Writes) -> None:
        """Others' writes are of the same transaction."""
        self.is_all |= others.is_all
        self.tables.update(others.tables)
        for table, rows in others.rows.items():
            self.rows.setdefault(table, set()).update(rows)
        self._collapse()

    def _collapse(self) -> None:
        for table in [table for table, rows in self.rows.items() if len(rows) > _MOST_ROWS or table in self.tables]:
            del self.rows[table]
            self.tables.add(table)

    def tags(self, database: str) -> tuple[str, ...]:
        """Every tag that has to be stamped."""
        rows = [row for rows in self.rows.values() for row in rows]
        return stamped(database, self.tables, rows, writes_all=self.is_all)


class _Level:
    """What was written since a savepoint, or since the transaction began."""

    __slots__ = ("after", "name", "writes")

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.writes: Final = Writes()
        #: What is called after the commit.
        self.after: Final[list[Callable[[], object]]] = []


class Transaction:
    """What one connection to the database has written since its last commit or rollback.

    Attributes:
        is_committing: whether a commit of it is under way: what the driver does then is a part of it.
        is_in_two_phases: whether a two-phase call of SQLAlchemy's is: so are the statements that it sends.
        has_begun: whether a ``BEGIN`` was sent as a statement.
        snapshots: by store, the moment heard before the transaction began; see ``snapshots``.
        is_watched: whether the driver's connection says when it commits.
        not_sent: what ends with statements that the driver has yet to carry out, in a pipeline.
        reads_by_statement: whether each of its statements sees what was committed before it; ``None`` until somebody
            asks.
    """

    __slots__ = (
        "__weakref__",
        "_last",
        "_levels",
        "_tags",
        "has_begun",
        "is_committing",
        "is_in_two_phases",
        "is_watched",
        "not_sent",
        "reads_by_statement",
        "snapshots",
    )

    def __init__(self) -> None:
        self._levels: Final = [_Level("")]
        #: The last statement, whose keys the database makes, and its execution.
        self._last: tuple[Statement, Any] | None = None
        self._tags: frozenset[str] | None = None
        self.is_committing = False
        self.is_in_two_phases = False
        self.has_begun = False
        self.is_watched = False
        self.not_sent: Final[list[Ends]] = []
        self.reads_by_statement: bool | None = None
        self.snapshots: Final[dict[Any, Any]] = {}

    def write(self, statement: Statement, context: Any) -> None:
        """A statement is about to write."""
        self._tags = None
        if statement.generates_keys:
            self._last = (statement, context)
        else:
            self._levels[-1].writes.add(statement)

    def complete(self, database: Database, context: Any = None) -> None:
        """The last statement has run, and its keys have been fetched: they are known now.

        Args:
            database: on which it ran.
            context: of what runs now: perhaps it is the last statement still, which is sent in several parts.
        """
        if self._last is not None and (context is None or self._last[1] is not context):
            statement, context = self._last
            self._last, self._tags = None, None
            self._levels[-1].writes.add(database.completed(statement, context))

    def savepoint(self, name: str) -> None:
        """A savepoint begins."""
        self._levels.append(_Level(name))

    def release(self, name: str) -> None:
        """A savepoint ends, and those after it: what was written stays."""
        at = self._at(name)
        if at:
            for level in self._levels[at:]:
                self._levels[at - 1].writes.merge(level.writes)
                self._levels[at - 1].after.extend(level.after)
            del self._levels[at:]

    def rollback_to(self, name: str) -> None:
        """What was written since a savepoint is undone; the savepoint stays."""
        at = self._at(name)
        if at:
            self._last, self._tags = None, None
            self._levels[at:] = [_Level(name)]

    def _at(self, name: str) -> int:
        """Which level a savepoint is; 0 for one that was not seen, where everything is kept."""
        for at in range(len(self._levels) - 1, 0, -1):
            if self._levels[at].name.lower() == name.lower():
                return at
        return 0

    def after_commit(self, function: Callable[[], object]) -> None:
        """Have a function called after the commit, and not at all when this savepoint or all is rolled back."""
        self._levels[-1].after.append(function)

    @property
    def callbacks(self) -> list[Callable[[], object]]:
        """What is called after the commit."""
        return [function for level in self._levels for function in level.after]

    def clear(self) -> None:
        """It is over."""
        if len(self._levels) > 1 or self._levels[0].writes or self._levels[0].after:  # most have only read
            self._levels[:] = [_Level("")]
        self._last, self._tags = None, frozenset()
        self.has_begun = False
        self.reads_by_statement = None
        self.snapshots.clear()

    def tags(self, database: Database) -> tuple[str, ...]:
        """Every tag that has to be stamped, should it commit."""
        self.complete(database)
        together = Writes()
        for level in self._levels:
            together.merge(level.writes)
        return together.tags(database.name)

    def pending(self, database: Database) -> frozenset[str]:
        """:meth:`tags` as long as nothing is written, at no cost; the last statement's without its keys."""
        if self._tags is None:
            together = Writes()
            for level in self._levels:
                together.merge(level.writes)
            if self._last is not None:
                together.add(self._last[0])
            self._tags = frozenset(together.tags(database.name))
        return self._tags
