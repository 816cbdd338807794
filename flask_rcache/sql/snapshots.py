"""Snapshots: up to when what a statement reads is known to reflect the database (rule R3; DESIGN, section 5).

Owns :class:`Snapshots`. A statement is as new as the latest reading of the store's clock that was heard before it ran;
in a transaction that reads from a snapshot, as the one that was heard before it began. That a table was read before in
the same request, whose identity map may answer without another statement, is what the least of all its readings says.
"""

from __future__ import annotations

from typing import Any, Final

from ..model.moment import Moment
from ..model.scope import Scope
from .databases import ISOLATION_CHANGED
from .pending import TRANSACTION
from .transactions import Transactions
from .written import Transaction

__all__ = ["Snapshots"]

#: Each statement has a snapshot of its own.
_BY_STATEMENT: Final = frozenset({"READ COMMITTED", "READ UNCOMMITTED", "AUTOCOMMIT"})


class Snapshots:
    """Of the transactions of one watched engine.

    Args:
        transactions: those.
    """

    __slots__ = ("_transactions",)

    def __init__(self, transactions: Transactions) -> None:
        self._transactions: Final = transactions

    def moment(self, connection: Any, scope: Scope) -> Moment | None:
        """Up to when what a connection reads now is known.

        Args:
            connection: SQLAlchemy's, on which a statement is about to run.
            scope: what it runs in.
        """
        # SQLAlchemy's property asks whether the connection is there still; before a statement runs it is.
        pooled = getattr(connection, "_dbapi_connection", None) or connection.connection
        transaction: Transaction | None = pooled.info.get(TRANSACTION)
        if transaction is None or not transaction.is_watched:
            transaction = self._transactions.of(connection)
        if transaction.reads_by_statement is None:
            transaction.reads_by_statement = reads_by_statement(connection)
        elif not transaction.reads_by_statement:
            found: Moment | None = transaction.snapshots.get(scope.owner)
            if found is not None:
                return found
        return self.moment_in(transaction, scope)

    def moment_in(self, transaction: Transaction, scope: Scope) -> Moment | None:
        """:meth:`moment` in a transaction."""
        store: Any = scope.owner
        if transaction.reads_by_statement:
            now: Moment | None = store.moment
            return now
        found: Moment | None = transaction.snapshots.get(store)
        if found is None:
            found = transaction.snapshots.setdefault(store, store.moment)
        return found


def reads_by_statement(connection: Any) -> bool:
    """Whether each statement sees what was committed before it; else the transaction's snapshot counts.

    What a statement has said of the isolation level (``SET TRANSACTION``) is not looked into: then there is a snapshot.
    """
    dialect = connection.dialect
    if dialect.name == "sqlite" or connection.info.get(ISOLATION_CHANGED):
        return False
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(dialect, "_on_connect_isolation_level", None) or dialect.default_isolation_level
    return level in _BY_STATEMENT
