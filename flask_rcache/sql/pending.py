"""What a context has written and not committed: entries that depend on it are neither served to it nor stored by it.

Owns :class:`Uncommitted`, one for each scope that has written or has a session: transactions that are open, and changes
of sessions that were not sent to the database yet, which an identity map shows already.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import event, inspect
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session

from ..engine.load import current_load
from ..model.scope import scope_var
from .databases import Database
from .names import TableName, any_tag, stamped

__all__ = ["Uncommitted", "databases_of", "uncommitted", "watch_sessions"]

#: The watched databases by their engines.
databases_of: Final[WeakKeyDictionary[Any, Database]] = WeakKeyDictionary()


class Uncommitted:
    """What one context has not committed.

    Attributes:
        transactions: those that it has written in, with their databases.
        sessions: those whose transactions it has begun.
    """

    __slots__ = ("sessions", "transactions")

    def __init__(self) -> None:
        self.transactions: Final[WeakKeyDictionary[Any, Database]] = WeakKeyDictionary()
        self.sessions: Final[WeakSet[Session]] = WeakSet()

    def touches(self, tags: Iterable[str]) -> bool:
        """Whether anything with these tags depends on what is not committed."""
        for transaction, database in tuple(self.transactions.items()):
            pending = transaction.pending(database)
            if pending and not pending.isdisjoint(tags):
                return True
        for session in tuple(self.sessions):
            if session._new or session._deleted or session.identity_map._modified:
                pending = _pending(session)
                if not pending.isdisjoint(tags):
                    return True
        return False

    def __bool__(self) -> bool:
        """Whether there is anything."""
        for transaction, database in tuple(self.transactions.items()):
            if transaction.pending(database):
                return True
        return any(session._new or session._deleted or session.identity_map._modified for session in self.sessions)


def _pending(session: Session) -> frozenset[str]:
    """The tags of what the session will write, as far as can be told before: its tables, and all their rows."""
    tags: set[str] = set()
    mappers = {inspect(each).mapper for each in (*session.new, *session.dirty, *session.deleted)}
    for mapper in mappers:
        try:
            database = databases_of.get(session.get_bind(mapper).engine)
        except UnboundExecutionError:
            continue
        if database is None:
            continue
        schema = database.engine.dialect.default_schema_name or ""
        tables = {*mapper.tables, *(each.secondary for each in mapper.relationships if each.secondary is not None)}
        names = [TableName(database.name, table.schema or schema, table.name) for table in tables]
        tags.update(stamped(database.name, names, ()), (any_tag(database.name),) if not names else ())
    return frozenset(tags)


def watch_sessions() -> None:
    """Know the sessions of each context from now on; once in a process."""
    if not event.contains(Session, "after_transaction_create", _on_transaction):
        event.listen(Session, "after_transaction_create", _on_transaction)
        event.listen(Session, "after_soft_rollback", _on_rollback)


def uncommitted() -> Uncommitted | None:
    """What the current context has not committed, to be added to; ``None`` outside of contexts."""
    scope = scope_var.get()
    if scope is None:
        return None
    if not scope.uncommitted:
        scope.uncommitted.append(Uncommitted())
    return cast(Uncommitted, scope.uncommitted[0])


def _on_transaction(session: Session, _: Any) -> None:
    here = uncommitted()
    if here is not None:
        here.sessions.add(session)


def _on_rollback(_: Session, __: Any) -> None:
    """What a load that runs has read of the session may have been undone."""
    load, scope = current_load(), scope_var.get()
    if load is not None and load.is_running and scope is not None and scope.observed is not None:
        scope.observed.taint()
