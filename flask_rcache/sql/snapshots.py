"""Snapshots: up to when what a statement reads is known to reflect the database (rule R3; DESIGN, section 5).

Owns :func:`moment_of`. A statement is as new as the latest reading of the store's clock that was heard before it ran;
in a transaction that reads from a snapshot, as the one that was heard before it began. That a table was read before in
the same request, whose identity map may answer without another statement, is what the least of all its readings says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..model.moment import Moment
from ..model.scope import scope_var
from .pending import TRANSACTION
from .statements import Statement
from .transactions import Transaction, Transactions

__all__ = ["moment_of"]

#: Each statement has a snapshot of its own.
_BY_STATEMENT: Final = frozenset({"READ COMMITTED", "READ UNCOMMITTED", "AUTOCOMMIT"})
_OPTION: Final = "rcache_isolation_changed"


def moment_of(transactions: Transactions) -> Callable[[Any, Statement], Moment | None]:
    """The function that :attr:`.Database.moment_of` takes."""

    def found(connection: Any, _: Statement) -> Moment | None:
        scope = scope_var.get()
        if scope is None:
            return None
        store: Any = scope.owner
        now: Moment | None = store.moment
        if reads_by_statement(connection):
            return now
        known: Transaction | None = connection.info.get(TRANSACTION)
        if known is None or not known.is_watched:
            known = transactions.of(connection)
        before: Moment | None = known.snapshots.setdefault(store, now)
        return before

    return found


def reads_by_statement(connection: Any) -> bool:
    """Whether each statement sees what was committed before it; else the transaction's snapshot counts.

    What a statement has said of the isolation level (``SET TRANSACTION``) is not looked into: then there is a snapshot.
    """
    dialect = connection.dialect
    if dialect.name == "sqlite" or connection.info.get(_OPTION):
        return False
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(dialect, "_on_connect_isolation_level", None) or dialect.default_isolation_level
    return level in _BY_STATEMENT
