"""Reads: what a statement reads on a watched engine becomes tags of the loads around it, and of later ones.

Owns the listeners on an engine that concern reads. They run for each statement: what is known of a distinct statement
is found out once (``databases``), and nothing is done for one that reads nothing.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import event

from ..engine.load import current_load, observe
from ..model.moment import Moment
from ..model.observations import Observations
from ..model.scope import scope_var
from .databases import Database, statement_of
from .names import TableName, any_tag, row_tag, rows_tag, table_tag
from .plans import Plan, read_tags
from .statements import Kind, Statement

__all__ = ["observe_statement", "watch_reads"]


def watch_reads(database: Database) -> None:
    """Observe what is read on an engine, from now on."""
    engine = database.engine
    listeners = _Listeners(database)
    event.listen(engine, "before_cursor_execute", listeners.before_cursor_execute)
    for name in ("commit", "rollback", "commit_twophase", "rollback_twophase"):
        event.listen(engine, name, listeners.ended)


class _Listeners:
    """The listeners of one engine."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    def before_cursor_execute(
        self, connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        """A statement is about to run."""
        database = self._database
        found = statement_of(database, context)
        if found.kind is Kind.TRANSACTION or found.kind is Kind.SETTING:
            return
        if found.reads or found.read_rows or found.reads_all or found.volatile is not None:
            observe_statement(database, found, connection, plan=context.rcache_plan)

    def ended(self, connection: Any, *_: Any) -> None:
        """A transaction ends."""
        self._database.transaction_ended(connection)


def observe_statement(
    database: Database, statement: Statement, connection: Any = None, *, plan: Plan | None = None
) -> None:
    """Note what a statement reads.

    Args:
        database: on which it runs.
        statement: what it reads.
        connection: on which it runs; ``None`` for what is only declared to be read.
        plan: that it follows, if any.
    """
    moment = _moment(database, statement, connection)
    _note_uncommitted(statement)
    volatile = None if statement.is_write else statement.volatile
    if plan is not None and statement.reads == plan.statement.reads:
        tags = plan.tags
    else:
        tags = read_tags(statement._replace(read_rows=()))
    if not statement.read_rows:
        observe(moment, tags, unstorable=volatile)
        return
    rows: dict[TableName, list[str]] = {}
    for row in statement.read_rows:
        rows.setdefault(row.table, []).append(row_tag(row))
    shared = (*tags, *map(rows_tag, rows), any_tag(database.name))
    for table, members in rows.items():
        observe(moment, shared, whole=table_tag(table), members=members, unstorable=volatile)


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


def _note_uncommitted(statement: Statement) -> None:
    """Whether it reads what its own context has written and not committed, and perhaps never will."""
    scope = scope_var.get()
    if scope is None or not scope.uncommitted:
        return
    if scope.is_uncommitted(read_tags(statement)):
        if scope.observed is None:
            scope.observed = Observations()
        scope.observed.is_uncommitted = True
