"""What a context has written and not committed: entries that depend on it are neither served to it nor stored by it.

Owns :class:`Uncommitted`, one for each scope that has written or has a session: transactions that are open, and changes
of sessions that were not sent to the database yet, which an identity map shows already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, cast
from weakref import WeakKeyDictionary, ref

from sqlalchemy import Connection, event, inspect
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session

from ..engine.loading import current_load
from ..model.scope import scope_var
from .databases import Database
from .names import TableName, any_tag, stamped

__all__ = ["TRANSACTION", "Uncommitted", "after_commit", "databases_of", "uncommitted", "watch_sessions"]

#: Where a session has what is called after its commit, each with the savepoint in which it was asked; and whether it
#: has committed.
_AFTER: Final = "rcache.after_commit"
_COMMITTED: Final = "rcache.committed"
#: Where a connection of the pool has its transaction.
TRANSACTION: Final = "rcache_transaction"

#: The watched databases by the dialects of their engines, which hold them: a database refers to its engine, so that
#: neither would ever go if this did. Engines that differ only in their options share a dialect.
databases_of: Final[WeakKeyDictionary[Any, ref[Database]]] = WeakKeyDictionary()


class Uncommitted:
    """What one context has not committed.

    Attributes:
        transactions: those that it has written in, with their databases.
    """

    __slots__ = ("_has_written", "_own", "_sessions", "transactions")

    def __init__(self) -> None:
        self.transactions: Final[WeakKeyDictionary[Any, Database]] = WeakKeyDictionary()
        #: Whether there ever was one of them.
        self._has_written = False
        #: Those whose transactions it has begun. They are gone through before each statement, which a ``WeakSet``
        #: makes several times as expensive.
        self._sessions: Final[list[ref[Session]]] = []
        #: Connections that have settings or temporary tables of their own, by what the pool keeps with each.
        self._own: Final[dict[int, tuple[Database, dict[str, Any]]]] = {}

    def differs(self, database: Database, info: dict[str, Any]) -> None:
        """A connection of this context has settings or temporary tables of its own, as long as it has."""
        self._own[id(info)] = database, info

    @property
    def sessions(self) -> list[Session]:
        """The sessions whose transactions it has begun."""
        return [session for each in tuple(self._sessions) if (session := each()) is not None]

    def began(self, session: Session) -> None:
        """A session has begun a transaction in this context."""
        if all(each() is not session for each in tuple(self._sessions)):
            self._sessions.append(ref(session, self._sessions.remove))

    def wrote(self, transaction: Any, database: Database) -> None:
        """A transaction has written in this context."""
        self._has_written = True
        self.transactions[transaction] = database

    def touches(self, tags: Iterable[str]) -> bool:
        """Whether anything with these tags depends on what is not committed."""
        for transaction, database in tuple(self.transactions.items()):
            pending = transaction.pending(database)
            if pending and not pending.isdisjoint(tags):
                return True
        if any(database.has_own(info) and any_tag(database.name) in tags for database, info in self._own.values()):
            return True
        for session in self.sessions:
            if session._new or session._deleted or session.identity_map._modified:
                pending = _pending(session)
                if not pending.isdisjoint(tags):
                    return True
        return False

    def __bool__(self) -> bool:
        """Whether there is anything."""
        if self._own and any(database.has_own(info) for database, info in self._own.values()):
            return True
        if self._has_written:
            for transaction, database in tuple(self.transactions.items()):
                if transaction.pending(database):
                    return True
        for each in tuple(self._sessions):  # one that ends meanwhile takes itself out
            session = each()
            if session is not None and (session._new or session._deleted or session.identity_map._modified):
                return True
        return False


def _pending(session: Session) -> frozenset[str]:
    """The tags of what the session will write, as far as can be told before: its tables, and all their rows."""
    tags: set[str] = set()
    mappers = {inspect(each).mapper for each in (*session.new, *session.dirty, *session.deleted)}
    for mapper in mappers:
        try:
            known = databases_of.get(session.get_bind(mapper).engine.dialect)
        except UnboundExecutionError:
            continue
        database = None if known is None else known()
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
        event.listen(Session, "after_commit", _on_commit)
        event.listen(Session, "after_transaction_end", _on_end)


def uncommitted() -> Uncommitted | None:
    """What the current context has not committed, to be added to; ``None`` outside of contexts."""
    scope = scope_var.get()
    if scope is None:
        return None
    if not scope.uncommitted:
        scope.uncommitted.append(Uncommitted())
    return cast(Uncommitted, scope.uncommitted[0])


def after_commit(function: Callable[[], object]) -> bool:
    """Have a function called after the commit of what this context has written; false when it has written nothing.

    After a rollback, of the savepoint in which this is asked too, it is not called at all.
    """
    scope = scope_var.get()
    if scope is None or not scope.uncommitted:
        return False
    here = cast(Uncommitted, scope.uncommitted[0])
    written = [each for each, database in tuple(here.transactions.items()) if each.pending(database)]
    for session in here.sessions:
        if session.in_transaction() and (_is_dirty(session) or any(_owns(session, each) for each in written)):
            session.info.setdefault(_AFTER, []).append((session.get_nested_transaction(), function))
            return True
    if written:
        written[0].after_commit(function)
    return bool(written)


def _is_dirty(session: Session) -> bool:
    return bool(session._new or session._deleted or session.identity_map._modified)


def _owns(session: Session, transaction: Any) -> bool:
    """Whether a transaction of a connection is the session's."""
    root = session.get_transaction()
    connections = [] if root is None else [each for each in root._connections if isinstance(each, Connection)]
    return any(each.info.get(TRANSACTION) is transaction for each in connections if not each.invalidated)


def _on_commit(session: Session) -> None:
    if session.info.get(_AFTER):
        session.info[_COMMITTED] = True


def _on_end(session: Session, transaction: Any) -> None:
    """A session's transaction is over, and the session may be used again."""
    if transaction.parent is not None:
        return
    after, is_committed = session.info.pop(_AFTER, ()), session.info.pop(_COMMITTED, False)
    for _, function in after if is_committed else ():
        function()


def _on_transaction(session: Session, _: Any) -> None:
    here = uncommitted()
    if here is not None:
        here.began(session)


def _on_rollback(session: Session, undone: Any) -> None:
    """What a load that runs has read of the session may have been undone."""
    after = session.info.get(_AFTER)
    if after:
        after[:] = [(nested, function) for nested, function in after if not _is_in(nested, undone)]
    load, scope = current_load(), scope_var.get()
    if load is not None and load.is_running and scope is not None and scope.observed is not None:
        scope.observed.taint()


def _is_in(nested: Any, undone: Any) -> bool:
    """Whether a savepoint is the one that was undone, or one inside it."""
    while nested is not None:
        if nested is undone:
            return True
        nested = nested.parent
    return undone.parent is None
