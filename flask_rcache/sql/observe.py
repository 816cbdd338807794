"""Reads: what a statement reads on a watched engine becomes tags of the loads around it, and of later ones.

Owns the listeners on an engine that concern reads. They run for each statement: what is known of a distinct statement
is found out once (``databases``), and nothing is done for one that reads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import event

from ..engine.load import current_load, observe
from ..model.moment import Moment
from ..model.named_tuple import NamedTuple
from ..model.observations import Observations
from ..model.scope import scope_var
from .cursors import announce
from .databases import Database, statement_of
from .names import TableName, any_tag, row_tag, rows_tag, table_tag
from .plans import Plan, read_tags
from .statements import Kind, Statement
from .transactions import Transactions

__all__ = ["observe_statement", "watch_statements"]


def watch_statements(database: Database, transactions: Transactions) -> None:
    """Observe what is read on an engine, from now on, and have transactions know of what is more than a read."""
    engine = database.engine
    listeners = _Listeners(database, transactions)
    # A listener that returns what it was given is called as it is; SQLAlchemy puts a function around another one.
    event.listen(engine, "before_cursor_execute", listeners.before_cursor_execute, retval=True)
    for name in ("commit", "rollback", "commit_twophase", "rollback_twophase"):
        event.listen(engine, name, listeners.ended)


class _Listeners:
    """The listeners of one engine: one for each event, as they run for each statement."""

    __slots__ = ("_database", "_transactions")

    def __init__(self, database: Database, transactions: Transactions) -> None:
        self._database: Final = database
        self._transactions: Final = transactions

    def before_cursor_execute(
        self, connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        """A statement is about to run; the text and the parameters stay as they are."""
        announce(cursor)
        database = self._database
        plan = database.plan(context)
        if not plan.is_plain_read:
            self._transactions.before_execute(connection, context)
            self._observe(connection, context)
            return statement, parameters
        scope = scope_var.get()
        uncommitted = scope.uncommitted if scope is not None else ()
        if (uncommitted and uncommitted[0]) or database.differs(connection):
            self._observe(connection, context)
            return statement, parameters
        # What it reads is found when somebody asks: most requests load nothing whose tags are AUTO.
        moment = _moment(database, plan.statement, connection)
        observe(_Execution(moment, plan, () if plan.is_constant else database.parameters(context)))
        return statement, parameters

    def _observe(self, connection: Any, context: Any) -> None:
        """What a statement reads that has to be known now."""
        database = self._database
        found = statement_of(database, context)
        reads = found.reads or found.read_rows or found.reads_all or found.volatile is not None
        if reads and found.kind is not Kind.TRANSACTION and found.kind is not Kind.SETTING:
            observe_statement(database, found, connection)

    def ended(self, connection: Any, *_: Any) -> None:
        """A transaction ends."""
        self._database.transaction_ended(connection)


def observe_statement(database: Database, statement: Statement, connection: Any = None) -> None:
    """Note what a statement reads.

    Args:
        database: on which it runs.
        statement: what it reads.
        connection: on which it runs; ``None`` for what is only declared to be read.
    """
    moment = _moment(database, statement, connection)
    observe(_Read(moment, statement, is_uncommitted=_is_uncommitted(statement)))


class _Execution(NamedTuple):
    """A plain read, as it ran."""

    moment: Moment | None
    plan: Plan
    parameters: Sequence[Mapping[str, Any]]

    def note_in(self, observations: Observations) -> None:
        """Note its tags."""
        plan = self.plan
        if plan.is_constant:
            observations.note(self.moment, plan.tags)
        else:
            _Read(self.moment, plan.bound(self.parameters)).note_in(observations)


class _Read(NamedTuple):
    """What a statement reads, up to when it is known."""

    moment: Moment | None
    statement: Statement
    is_uncommitted: bool = False

    def note_in(self, observations: Observations) -> None:
        """Note its tags."""
        moment, statement, is_uncommitted = self
        if is_uncommitted:
            observations.taint()
        if statement.volatile is not None and not statement.is_write:
            observations.refuse(statement.volatile)
        observations.note(moment, read_tags(statement._replace(read_rows=())))
        rows: dict[TableName, list[str]] = {}
        for row in statement.read_rows:
            rows.setdefault(row.table, []).append(row_tag(row))
        for table, members in rows.items():
            observations.note(moment, (rows_tag(table), any_tag(statement.database)))
            observations.note_members(moment, table_tag(table), members)


def _moment(database: Database, statement: Statement, connection: Any) -> Moment | None:
    """Up to when what is read now is known (rule R3): as the transaction's snapshot says, or no later than the load."""
    moment: Moment | None
    if database.moment_of is not None and connection is not None:
        moment = database.moment_of(connection, statement)
    else:
        load, scope = current_load(), scope_var.get()
        moment = load.moment if load is not None and load.is_running else None if scope is None else scope.moment
    if moment is not None and database.source_lag:
        moment = moment.earlier(database.source_lag)
    return moment


def _is_uncommitted(statement: Statement) -> bool:
    """Whether it reads what its own context has written and not committed, and perhaps never will."""
    scope = scope_var.get()
    return scope is not None and bool(scope.uncommitted) and scope.is_uncommitted(read_tags(statement))
