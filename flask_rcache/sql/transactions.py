"""Writes: what a transaction has written is stamped when it commits, and before, so that nothing older is ever served.

Owns the listeners on an engine that concern the ends of transactions: commits of every kind go through
:meth:`Transactions.committing`. What a statement writes says ``databases``; what a connection has written, savepoint by
savepoint, is ``written``'s; how stamps are set ahead of the clock, and what becomes of them, is the store's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.pool import PoolProxiedConnection

from ..model.scope import scope_var
from .cursors import unobserved, watch_cursors
from .databases import Database
from .drivers import (
    FACTORIES,
    Ending,
    commits_at_once,
    driver_commits_at_once,
    is_in_pipeline,
    is_rolled_back,
    watch_connection,
    watched_class,
)
from .names import any_tag, unknown_tag
from .pending import TRANSACTION, uncommitted
from .stamps import Ends, Stamps
from .statements import Kind, Statement
from .text import SCRIPT
from .written import Transaction

__all__ = ["Transactions", "is_pooled"]

#: Where statements that are neither queries nor transactions' commit what was written before them.
_COMMITTING: Final = frozenset({"mysql", "mariadb"})


class Transactions:
    """The transactions of one watched engine.

    Args:
        database: what is watched.

    Attributes:
        stamps: those of its commits.
        read_beside: takes what a statement on a driver's own cursor reads.
    """

    def __init__(self, database: Database) -> None:
        self.database: Final = database
        self.stamps: Final = Stamps()
        #: Whether a statement can be under way still when its cursor has it executed. PostgreSQL has sent the whole
        #: result by then; a cursor there that is fetched from bit by bit can't write.
        self._has_rows_first: Final = database.engine.dialect.name != "postgresql"
        self.read_beside: Callable[[Transaction, Statement], None] | None = None
        #: What two-phase transactions that are prepared have written, and the tokens of their stamps ahead.
        self._prepared: Final[dict[str, Ends]] = {}

    def watch(self) -> None:
        """Watch the engine from now on; connections that are there already from their next use on."""
        engine = self.database.engine
        self.database.changed = lambda: self.stamps.settle(self.stamps.begin(self._everything))
        event.listen(engine, "checkout", self._on_checkout)
        # Listeners on what an engine or a dialect does would have SQLAlchemy look for listeners at each statement.
        dialect: Any = engine.dialect
        for name, around in (
            ("connect", self._connect),
            ("do_begin", self._do_begin),
            ("do_savepoint", self._do_savepoint),
            ("do_release_savepoint", self._do_release),
            ("do_rollback_to_savepoint", self._do_rollback_to),
            ("do_commit", self._do_commit),
            ("do_rollback", self._do_rollback),
            ("do_prepare_twophase", self._do_prepare),
            ("do_commit_twophase", self._do_commit_prepared),
            ("do_rollback_twophase", self._do_rollback_prepared),
            ("set_isolation_level", self._set_level),
        ):
            setattr(dialect, name, partial(around, getattr(dialect, name)))

    # --- Connections

    def of(self, connection: Any) -> Transaction:
        """The transaction of a SQLAlchemy connection, or of a pool's."""
        pooled = getattr(connection, "connection", connection) if hasattr(connection, "dialect") else connection
        info = pooled.info
        found: Transaction | None = info.get(TRANSACTION)
        if found is None:
            found = info[TRANSACTION] = Transaction()
        if not found.is_watched:
            found.is_watched = True
            transaction = found
            driver = pooled.dbapi_connection
            watch_connection(driver, self._ending_of(transaction))
            watch_cursors(driver, lambda sql, commits: self._beside(transaction, driver, info, sql, commits=commits))
        return found

    def _ending_of(self, transaction: Transaction) -> Ending:
        """What is around the ends of a driver's transactions."""
        return Ending(
            lambda commit: self._commit(transaction, commit),
            lambda rollback: self._rollback(transaction, rollback),
            lambda commit: self._commit_prepared(transaction, commit),
            lambda: self._sent(transaction),
        )

    def _connect(self, original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A connection is made: of a class that can be watched, where its driver's cannot."""
        dialect: Any = self.database.engine.dialect
        name = FACTORIES.get(dialect.driver)
        if name is not None:
            base = options.get(name) or getattr(dialect.loaded_dbapi, "Connection", None)
            if base is None:  # psycopg2
                base = dialect.loaded_dbapi.extensions.connection
            if isinstance(base, type):
                options[name] = watched_class(base)
        return original(*args, **options)

    def _on_checkout(self, _: Any, __: Any, pooled: Any) -> None:
        """A connection is taken from the pool, perhaps for the driver's methods alone."""
        self.of(pooled)

    def _do_begin(self, original: Callable[..., Any], pooled: Any) -> Any:
        """SQLAlchemy begins a transaction: what is read in it is no later than this."""
        if is_pooled(pooled):
            transaction, scope = self.of(pooled), scope_var.get()
            transaction.reads_by_statement = None
            for cache in self.stamps.caches:
                transaction.snapshots.setdefault(cache.store, cache.store.moment)
            if scope is not None:
                transaction.snapshots.setdefault(scope.owner, getattr(scope.owner, "moment", None))
        return original(pooled)

    def _do_savepoint(self, original: Callable[..., Any], connection: Any, name: str) -> Any:
        transaction = self.of(connection)
        transaction.complete(self.database)
        result = original(connection, name)
        transaction.savepoint(name)
        return result

    def _do_release(self, original: Callable[..., Any], connection: Any, name: str) -> Any:
        transaction = self.of(connection)
        transaction.complete(self.database)
        result = original(connection, name)
        transaction.release(name)
        return result

    def _do_rollback_to(self, original: Callable[..., Any], connection: Any, name: str) -> Any:
        result = original(connection, name)
        self.of(connection).rollback_to(name)
        return result

    # --- Statements

    def executing(self, connection: Any, context: Any, found: Statement) -> AbstractContextManager[bool]:
        """Around a statement of SQLAlchemy's that is more than a read; whether its rows must be fetched within it.

        Args:
            connection: on which it runs.
            context: SQLAlchemy's execution context; ``None`` where it can't be asked for keys.
            found: what it does.
        """
        transaction, driver = self.of(connection), connection.connection.dbapi_connection

        def at_once() -> bool:
            return commits_at_once(connection, in_transaction=transaction.has_begun)

        return self._around(transaction, driver, found, at_once, context)

    @contextmanager
    def _beside(
        self, transaction: Transaction, driver: Any, info: dict[str, Any], sql: str | None, *, commits: bool
    ) -> Iterator[bool]:
        """Around a statement that runs on a driver's own cursor; as :meth:`executing`."""
        if transaction.is_committing or transaction.is_in_two_phases:
            yield False
            return
        found = self.database.beside(sql, driver, info)
        self.note_own(info)

        def at_once() -> bool:
            return driver_commits_at_once(self.database.engine.dialect, driver, in_transaction=transaction.has_begun)

        with self._around(transaction, driver, found, at_once, commits=commits) as has_rows_first:
            if self.read_beside is not None and found.kind not in (Kind.TRANSACTION, Kind.SETTING):
                self.read_beside(transaction, found)
            try:
                yield has_rows_first
            finally:
                if found.kind is Kind.DDL:
                    self.database.outdate()

    @contextmanager
    def _around(
        self,
        transaction: Transaction,
        driver: Any,
        found: Statement,
        at_once: Callable[[], bool],
        context: Any = None,
        *,
        commits: bool = False,
    ) -> Iterator[bool]:
        """Around a statement, on whichever cursor.

        Args:
            transaction: in which it runs.
            driver: the driver's connection.
            found: what it does.
            at_once: whether it takes effect without a commit.
            context: SQLAlchemy's execution context, that knows keys which the database makes.
            commits: whether it commits what was written before, and itself.
        """
        transaction.complete(self.database, context)
        is_verb, ends = found.kind is Kind.TRANSACTION and not commits, None
        if commits:
            transaction.write(found, None)
            ends = self.stamps.begin(transaction.tags(self.database))
            transaction.clear()
        elif is_verb:
            ends = self._before_verb(transaction, found)
        elif found.is_write and is_in_pipeline(driver) and getattr(driver, "autocommit", False):
            # Whether a transaction is open can't be asked now: it counts as if one were, and as if none were.
            self._before_write(transaction, found, context, at_once=False)
            ends = self.stamps.begin(found.stamped)
        elif found.is_write:
            ends = self._before_write(transaction, found, context, at_once=at_once())
        elif self._may_commit(found):
            ends = self.stamps.begin(transaction.tags(self.database))
        try:
            yield self._has_rows_first and ends is not None
            if is_verb:
                self._after_verb(transaction, found)
        finally:  # when it has failed, nobody knows what became of it, should it commit at once
            if ends is not None and is_in_pipeline(driver):
                transaction.not_sent.append(ends)
            elif ends is not None:
                self.stamps.settle(ends)

    def _sent(self, transaction: Transaction) -> None:
        """All that a pipeline held was carried out."""
        while transaction.not_sent:
            self.stamps.settle(transaction.not_sent.pop())

    def _before_write(self, transaction: Transaction, found: Statement, context: Any, *, at_once: bool) -> Ends | None:
        """A statement is about to write; what ends with it."""
        if at_once:
            return self.stamps.begin(found.stamped)
        transaction.write(found, context)
        self._note(transaction)
        # DDL commits, on some servers, what was written before; and so may one of several statements in one text.
        commits = found.kind is Kind.DDL or found.verb == SCRIPT
        return self.stamps.begin(transaction.tags(self.database)) if commits else None

    def _may_commit(self, found: Statement) -> bool:
        """Whether a statement that writes nothing may end the transaction: many do on MySQL and MariaDB."""
        if found.verb == SCRIPT:
            return True
        if self.database.engine.dialect.name not in _COMMITTING:
            return False
        is_answer = found.verb in ("DESC", "DESCRIBE", "EXPLAIN", "SHOW")
        return (found.kind is Kind.OTHER and not is_answer) or "autocommit" in found.what or "password" in found.what

    def _before_verb(self, transaction: Transaction, found: Statement) -> Ends | None:
        """A statement that concerns the transaction itself is about to run; what ends with it."""
        if transaction.is_in_two_phases or transaction.is_committing:
            return None
        verb, name = found.verb, found.what[0] if found.what else ""
        if verb in ("COMMIT PREPARED", "XA COMMIT"):
            known = self._prepared.pop(name, None)
            return known if known is not None else self.stamps.begin(self._everything)
        if verb in ("PREPARE TRANSACTION", "XA PREPARE"):
            tags = transaction.tags(self.database)
            if tags:
                self._prepared[name] = self.stamps.begin(tags)
        elif verb in ("COMMIT", "BEGIN"):  # which ends what was there before, on some servers
            return self.stamps.begin(transaction.tags(self.database))
        return None

    def _after_verb(self, transaction: Transaction, found: Statement) -> None:
        name = found.what[0] if found.what else ""
        if found.verb == "SAVEPOINT":
            transaction.savepoint(name)
        elif found.verb == "RELEASE":
            transaction.release(name)
        elif found.verb == "ROLLBACK TO":
            transaction.rollback_to(name)
        elif found.verb in ("COMMIT", "ROLLBACK", "PREPARE TRANSACTION", "XA PREPARE"):
            transaction.clear()
        elif found.verb in ("ROLLBACK PREPARED", "XA ROLLBACK") and not transaction.is_in_two_phases:
            self.stamps.withdraw(self._prepared.pop(name, Ends()))
        elif found.verb == "BEGIN":
            transaction.clear()
            transaction.has_begun = True

    def _note(self, transaction: Transaction) -> None:
        """This context has written: entries that depend on it are neither served nor stored until it commits."""
        here = uncommitted()
        if here is not None:
            here.wrote(transaction, self.database)

    def note_own(self, info: dict[str, Any]) -> None:
        """This context's connection answers as others do not: what others have stored is not for it."""
        if self.database.has_own(info):
            here = uncommitted()
            if here is not None:
                here.differs(self.database, info)

    def wrote(self, statement: Statement, connection: Any = None) -> None:
        """Something was written beside the engine, in the transaction of a connection, or is committed already."""
        if connection is None or commits_at_once(connection, in_transaction=self.of(connection).has_begun):
            self.stamps.settle(self.stamps.begin(statement.stamped))
            return
        transaction = self.of(connection)
        transaction.write(statement, None)
        self._note(transaction)

    # --- Commits

    @property
    def _everything(self) -> tuple[str, ...]:
        """What another process has prepared, or this one before it was restarted, may have written anything."""
        return any_tag(self.database.name), unknown_tag(self.database.name)

    @contextmanager
    def committing(self, transaction: Transaction) -> Iterator[None]:
        """Around a commit: its tags are set ahead of the clock before, and stamped after, whatever becomes of it.

        What was written is kept when it fails: the driver may leave the transaction open, to be committed once more.
        """
        tags = () if transaction.is_committing else transaction.tags(self.database)
        after = [] if transaction.is_committing else transaction.callbacks
        if not tags:
            yield
            if not transaction.is_committing:
                transaction.clear()
            return
        transaction.is_committing = True
        begun = Ends(tags)
        end = self.stamps.settle
        try:
            begun = self.stamps.begin(tags)
            yield
            transaction.clear()
        except BaseException as error:
            if is_rolled_back(error):
                end = self.stamps.withdraw
            raise
        finally:
            transaction.is_committing = False
            end(begun)
        for function in after:
            function()

    def _commit(self, transaction: Transaction, commit: Callable[[], Any]) -> Any:
        """Around the driver's own commit."""
        with self.committing(transaction):
            return commit()

    def _commit_prepared(self, transaction: Transaction, commit: Callable[[], Any]) -> Any:
        """Around the driver's own commit of a transaction by its name, of which nothing is known here."""
        if transaction.is_in_two_phases or transaction.is_committing:
            return commit()
        begun = self.stamps.begin(self._everything)
        try:
            return commit()
        finally:
            self.stamps.settle(begun)

    def _rollback(self, transaction: Transaction, rollback: Callable[[], Any]) -> Any:
        """Around the driver's own rollback. When it fails, the connection is lost, and the server rolls back."""
        try:
            return rollback()
        finally:
            transaction.clear()

    def _do_commit(self, original: Callable[..., Any], pooled: Any) -> Any:
        if not is_pooled(pooled):
            return original(pooled)  # while SQLAlchemy finds out about the server
        with self._ending(pooled), self.committing(self.of(pooled)):
            return original(pooled)

    def _do_rollback(self, original: Callable[..., Any], pooled: Any) -> Any:
        if not is_pooled(pooled):
            return original(pooled)
        info, transaction = pooled.info, self.of(pooled)
        try:
            return original(pooled)
        finally:
            transaction.clear()
            self.database.transaction_ended(info)

    @contextmanager
    def _ending(self, pooled: Any) -> Iterator[None]:
        """Around the end of a transaction of SQLAlchemy's."""
        info = pooled.info
        try:
            yield
        finally:
            self.database.transaction_ended(info)

    def _set_level(self, original: Callable[..., Any], driver: Any, level: Any) -> None:
        """SQLAlchemy's own statements on the driver's cursor, of which it knows what they do."""
        with unobserved(driver):
            original(driver, level)

    # --- Two phases

    @contextmanager
    def _in_two_phases(self, connection: Any) -> Iterator[None]:
        """What SQLAlchemy sends on a connection as statements, and the driver's own methods, is a part of the call."""
        transaction = self.of(connection)
        before, transaction.is_in_two_phases = transaction.is_in_two_phases, True
        try:
            with self._ending(connection.connection):
                yield
        finally:
            transaction.is_in_two_phases = before

    def _do_prepare(self, original: Callable[..., Any], connection: Any, xid: Any) -> Any:
        transaction = self.of(connection)
        begun = self.stamps.begin(transaction.tags(self.database))
        try:
            with self._in_two_phases(connection):
                result = original(connection, xid)
        except BaseException as error:
            (self.stamps.withdraw if is_rolled_back(error) else self.stamps.settle)(begun)
            raise
        transaction.clear()
        self._prepared[str(xid)] = begun
        return result

    def _do_commit_prepared(
        self, original: Callable[..., Any], connection: Any, xid: Any, is_prepared: bool = True, recover: bool = False
    ) -> Any:
        if not is_prepared:
            with self.committing(self.of(connection)), self._in_two_phases(connection):
                result = original(connection, xid, is_prepared=is_prepared, recover=recover)
            self.stamps.settle(self._prepared.pop(str(xid), Ends()))
            return result
        known = self._prepared.pop(str(xid), None)
        if known is not None and known.begun:
            begun = known
        else:  # one that has failed before, or of which nothing is known
            begun = self.stamps.begin(self._everything if known is None else known.tags)
        try:
            with self._in_two_phases(connection):
                return original(connection, xid, is_prepared=is_prepared, recover=recover)
        except BaseException:
            if known is not None:
                self._prepared[str(xid)] = Ends(known.tags)  # to be tried once more
            raise
        finally:
            self.stamps.settle(begun)

    def _do_rollback_prepared(
        self, original: Callable[..., Any], connection: Any, xid: Any, is_prepared: bool = True, recover: bool = False
    ) -> Any:
        with self._in_two_phases(connection):
            result = original(connection, xid, is_prepared=is_prepared, recover=recover)
        self.of(connection).clear()
        self.stamps.withdraw(self._prepared.pop(str(xid), Ends()))
        return result


def is_pooled(connection: Any) -> bool:
    """Whether it is a connection of the pool that is still there."""
    if not isinstance(connection, PoolProxiedConnection):
        return False
    try:
        return connection.info is not None
    except (NotImplementedError, InvalidRequestError):
        return False
