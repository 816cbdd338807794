"""What one statement reads and writes: pure data, and the rules to combine it.

Owns :class:`Statement`. How a SQLAlchemy construct becomes one is ``constructs``'s, how a text does ``text``'s; what is
known of a database (views, functions, keys, cascades) is ``catalogue``'s.
"""

from __future__ import annotations

from enum import Enum

from ..model.named_tuple import NamedTuple
from .names import RowName, TableName, stamped

__all__ = ["Kind", "Statement"]


class Kind(Enum):
    """What a statement is, as far as the cache asks."""

    READ = "read"
    WRITE = "write"
    """It may return rows too."""
    DDL = "ddl"
    """It changes what tables, views and functions there are; written are the tables that it names."""
    TRANSACTION = "transaction"
    """``BEGIN``, ``COMMIT``, ``SAVEPOINT`` … as text: the driver's own methods are not statements."""
    SETTING = "setting"
    """``SET …``: what follows on this connection may be answered differently."""
    OTHER = "other"
    """It neither reads nor writes rows: ``EXPLAIN``, ``ANALYZE``, ``VACUUM`` …"""


class Statement(NamedTuple):
    """What one execution of a statement reads and writes.

    Args:
        database: the bind's name; empty for the app's default database.
        kind: what it is.
        reads: the tables of which any row counts.
        read_rows: rows read by their whole primary key, of tables that are not in ``reads``.
        writes: the tables any row of which may be written, what cascades and triggers write included.
        written_rows: rows that are written, of tables that are not in ``writes``; each stamps its table too.
        reads_all: whether it may read tables that are not known.
        writes_all: whether it may write tables that are not known.
        volatile: why its answer is not for others, or not for long; ``None`` when it is.
        generates_keys: whether it inserts rows whose keys the database makes: their tables are in ``writes``, and
            ``Database.completed`` knows the rows once the statement has run.
        verb: ``COMMIT``, ``ROLLBACK TO`` … of a transaction's statement, in capitals.
        what: the names that the verb concerns: a savepoint, the settings.
    """

    database: str = ""
    kind: Kind = Kind.READ
    reads: frozenset[TableName] = frozenset()
    read_rows: tuple[RowName, ...] = ()
    writes: frozenset[TableName] = frozenset()
    written_rows: tuple[RowName, ...] = ()
    reads_all: bool = False
    writes_all: bool = False
    volatile: str | None = None
    generates_keys: bool = False
    verb: str = ""
    what: tuple[str, ...] = ()

    @property
    def understood(self) -> bool:
        """Whether every table that it reads or writes is known."""
        return not (self.reads_all or self.writes_all)

    @property
    def is_write(self) -> bool:
        """Whether anything has to be stamped."""
        return bool(self.writes or self.written_rows or self.writes_all)

    @property
    def stamped(self) -> tuple[str, ...]:
        """Every tag that has to be stamped after the commit; empty for one that writes nothing."""
        return stamped(self.database, self.writes, self.written_rows, writes_all=self.writes_all)
