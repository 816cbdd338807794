"""Statements: what each reads on a watched engine becomes tags of the loads around it, and of later ones.

Owns what is around a dialect's ``do_execute`` and its like. Nothing is listened to: an engine with listeners takes
SQLAlchemy longer, statement by statement. What is known of a distinct statement is found out once (``databases``), and
of a plain read only a note is kept of it and its parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.interfaces import ExecuteStyle

from ..engine.loading import current_load, observe, observe_in
from ..model.moment import Moment
from ..model.named_tuple import NamedTuple
from ..model.observations import Observations
from ..model.scope import scope_var
from .cursors import fetch_rows, running
from .databases import Database
from .names import TableName, any_tag, row_tag, rows_tag, table_tag
from .plans import Plan, read_tags
from .snapshots import Snapshots
from .statements import Kind, Statement
from .transactions import Transactions, is_pooled
from .written import Transaction

__all__ = ["observe_statement", "watch_statements"]

_COMMENTS: Final = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)


def watch_statements(database: Database, transactions: Transactions) -> None:
    """Observe what an engine's statements read and write, from now on."""
    dialect: Any = database.engine.dialect
    statements = _Statements(database, transactions)
    dialect.do_execute = statements.around_execute(dialect.do_execute)
    dialect.do_execute_no_params = statements.around_execute_no_params(dialect.do_execute_no_params)
    dialect.do_executemany = statements.around_executemany(dialect.do_executemany)
    transactions.read_beside = statements.read_beside


class _Statements:
    """The statements of one engine."""

    __slots__ = ("_database", "_snapshots", "_transactions")

    def __init__(self, database: Database, transactions: Transactions) -> None:
        self._database: Final = database
        self._transactions: Final = transactions
        self._snapshots: Final = Snapshots(transactions)

    # What is around the dialect's methods

    def around_execute(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """``do_execute``."""
        is_plain = getattr(original, "__func__", None) is DefaultDialect.do_execute
        database, snapshots, known = self._database, self._snapshots, self._database.known

        def do_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> Any:
            # Of a plain read no more has to be known than is noted here: what it reads is found when somebody asks, for
            # most requests load nothing whose tags are AUTO. All in one place, and in as few calls as can be, since it
            # is done for each statement of an app.
            is_noted = False
            try:
                compiled, scope = context.compiled, scope_var.get()
                if compiled is not None and statement is context.statement:
                    plan = known(compiled)
                    if (
                        plan is not None
                        and plan.is_plain_read
                        and not database.has_differed
                        and (scope is None or not scope.uncommitted or not scope.uncommitted[0])
                    ):
                        moment = None if scope is None else snapshots.moment(context.root_connection, scope)
                        parameter_sets = () if plan.is_constant else context.compiled_parameters
                        observe_in(scope, _execution((moment, database, plan, parameter_sets)))
                        is_noted = True
            except Exception:  # noqa: BLE001, S110  # whatever it is, it is found once more, and reported
                pass
            if not is_noted:
                run = partial(original, cursor, statement, parameters, context)
                return self._run(run, cursor, statement, parameters, context)
            # Past the class of our own that would ask whether the statement is known.
            execute = type(cursor).__dict__.get("rcache_execute") if is_plain else None
            if execute is not None:
                return execute(cursor, statement, parameters)
            with running(cursor):
                return original(cursor, statement, parameters, context)

        return do_execute

    def around_execute_no_params(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """``do_execute_no_params``."""

        def do_execute_no_params(cursor: Any, statement: str, context: Any = None) -> Any:
            run = partial(original, cursor, statement, context)
            return self._run(run, cursor, statement, (), context)

        return do_execute_no_params

    def around_executemany(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """``do_executemany``."""

        def do_executemany(cursor: Any, statement: str, parameters: Any, context: Any = None) -> Any:
            run = partial(original, cursor, statement, parameters, context)
            return self._run(run, cursor, statement, parameters, context)

        return do_executemany

    # What they do

    def _run(self, run: Callable[[], Any], cursor: Any, statement: str, parameters: Any, context: Any) -> Any:
        """Run a statement of which more has to be known before."""
        if context is None or not is_pooled(context.root_connection.connection):
            return run()  # the dialect's own: what it asks to find out about the server, for instance
        connection, database = context.root_connection, self._database
        has_rows_first = False
        with ExitStack() as stack:
            try:
                if _is_another(statement, context):
                    found = database.classify(context, statement, parameters)
                else:
                    found = database.classify(context)
                if database.has_differed:
                    self._transactions.note_own(connection.info)
                if found.is_write or found.kind is not Kind.READ:
                    has_rows_first = stack.enter_context(self._transactions.executing(connection, context, found))
                if found.kind is not Kind.TRANSACTION and found.kind is not Kind.SETTING:
                    self._observe(found, connection)
            except Exception as error:  # noqa: BLE001  # no fault here may fail the statement, nor have it missed
                database.fault(statement, error)
                stack.enter_context(self._transactions.executing(connection, None, database.unknown()))
                observe(_Read(None, database.unknown()))
            stack.enter_context(running(cursor))
            result = run()
            if has_rows_first:
                fetch_rows(cursor)
            return result

    def _observe(self, found: Statement, connection: Any) -> None:
        """Note what a statement reads that has to be known now."""
        if _reads(found):
            scope = scope_var.get()
            moment = None if scope is None else self._snapshots.moment(connection, scope)
            observe(_Read(_behind(moment, self._database), found, is_uncommitted=_is_uncommitted(found)))

    def read_beside(self, transaction: Transaction, found: Statement) -> None:
        """Note what a statement on a driver's own cursor reads."""
        if _reads(found):
            scope = scope_var.get()
            moment = None if scope is None else self._snapshots.moment_in(transaction, scope)
            observe(_Read(_behind(moment, self._database), found, is_uncommitted=_is_uncommitted(found)))


def _reads(found: Statement) -> bool:
    return bool(found.reads or found.read_rows or found.reads_all or found.volatile is not None)


def _is_another(statement: str, context: Any) -> bool:
    """Whether what is sent is not the context's statement: a listener has rewritten it, or a default is asked for."""
    own = getattr(context, "statement", None)
    if statement is own or context.execute_style is ExecuteStyle.INSERTMANYVALUES:
        return False
    return own is None or _COMMENTS.sub("", statement).strip() != _COMMENTS.sub("", own).strip()


def observe_statement(database: Database, statement: Statement) -> None:
    """Note what is declared to be read.

    Args:
        database: of which.
        statement: what.
    """
    load, scope = current_load(), scope_var.get()
    moment = load.moment if load is not None and load.is_running else None if scope is None else scope.moment
    observe(_Read(_behind(moment, database), statement, is_uncommitted=_is_uncommitted(statement)))


class _Execution(NamedTuple):
    """A plain read, as it ran."""

    moment: Moment | None
    database: Database
    plan: Plan
    parameters: Sequence[Mapping[str, Any]]

    def note_in(self, observations: Observations) -> None:
        """Note its tags."""
        plan, moment = self.plan, _behind(self.moment, self.database)
        if plan.is_constant:
            observations.note(moment, plan.tags)
            return
        try:
            found = plan.bound(self.parameters)
        except Exception as error:  # noqa: BLE001  # a parameter of the app's own type can raise anything
            self.database.fault(f"one that reads {plan.tags}", error)
            moment, found = None, self.database.unknown()
        _Read(moment, found).note_in(observations)


#: Makes one without a function of Python's, since that is done for each statement.
_execution: Final[Callable[[tuple[Any, ...]], _Execution]] = partial(tuple.__new__, _Execution)


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


def _behind(moment: Moment | None, database: Database) -> Moment | None:
    """Up to when what is read is known (rule R3): a replica may lag."""
    return moment if moment is None or not database.source_lag else moment.earlier(database.source_lag)


def _is_uncommitted(statement: Statement) -> bool:
    """Whether it reads what its own context has written and not committed, and perhaps never will."""
    scope = scope_var.get()
    return scope is not None and bool(scope.uncommitted) and scope.is_uncommitted(read_tags(statement))
