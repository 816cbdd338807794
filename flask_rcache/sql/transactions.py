"""Writes: what a transaction has written is stamped when it commits, and before, so that nothing older is ever served.

Owns what each connection has written, savepoint by savepoint, and the listeners on an engine that concern the ends of
transactions: commits of every kind go through :meth:`Transactions.committing`. What a statement writes says
``databases``; how stamps are set ahead of the clock, and what becomes of them, is the store's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.pool import PoolProxiedConnection

from ..engine.commits import Commits
from ..model.scope import scope_var
from .cursors import unobserved, watch_cursors
from .databases import Database
from .drivers import FACTORIES, commits_at_once, driver_commits_at_once, is_rolled_back, watch_connection, watched_class
from .names import RowName, TableName, any_tag, stamped, unknown_tag
from .pending import TRANSACTION, uncommitted
from .statements import Kind, Statement
from .text import SCRIPT

__all__ = ["Transaction", "Transactions", "Writes", "is_pooled"]

#: So many rows of one table are stamped one by one; above that, the table and all its rows.
_MOST_ROWS: Final = 64
#: Where statements that are neither queries nor transactions' commit what was written before them.
_COMMITTING: Final = frozenset({"mysql", "mariadb"})

#: Tags, and the stamps ahead of them by which each cache knows them.
_Ends = tuple[tuple[str, ...], list[tuple[Commits, str]]]


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


class Transactions:
    """The transactions of one watched engine.

    Args:
        database: what is watched.

    Attributes:
        read_beside: takes what a statement on a driver's own cursor reads.
    """

    def __init__(self, database: Database) -> None:
        self.database: Final = database
        #: Whether a statement can be under way still when its cursor has it executed. PostgreSQL has sent the whole
        #: result by then; a cursor there that is fetched from bit by bit can't write.
        self._has_rows_first: Final = database.engine.dialect.name != "postgresql"
        #: Each lists caches that are told of commits; ``None`` when the apps they were of are gone.
        self._listed: Final[list[Callable[[], Sequence[Commits] | None]]] = []
        self.read_beside: Callable[[Transaction, Statement], None] | None = None
        #: What two-phase transactions that are prepared have written, and the tokens of their stamps ahead.
        self._prepared: Final[dict[str, _Ends]] = {}

    def tell(self, caches: Callable[[], Sequence[Commits] | None]) -> None:
        """Have more caches told of commits.

        Args:
            caches: lists them; ``None`` when there will never be one again.
        """
        self._listed.append(caches)

    def _caches(self) -> list[Commits]:
        """What is told of commits: the caches of all apps that use the engine."""
        found: dict[int, Commits] = {}
        for caches in tuple(self._listed):
            listed = caches()
            if listed is None:
                self._listed.remove(caches)
            else:
                found.update({id(each.store): each for each in listed})
        return list(found.values())

    def watch(self) -> None:
        """Watch the engine from now on; connections that are there already from their next use on."""
        engine = self.database.engine
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
            watch_connection(
                pooled.dbapi_connection,
                lambda commit: self._commit(transaction, commit),
                lambda rollback: self._rollback(transaction, rollback),
            )
            driver = pooled.dbapi_connection
            watch_cursors(driver, lambda sql, commits: self._beside(transaction, driver, info, sql, commits=commits))
        return found

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
            for cache in self._caches():
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

    @contextmanager
    def executing(self, connection: Any, context: Any, found: Statement) -> Iterator[bool]:
        """Around a statement of SQLAlchemy's that is more than a read; whether its rows must be fetched within it.

        Args:
            connection: on which it runs.
            context: SQLAlchemy's execution context; ``None`` where it can't be asked for keys.
            found: what it does.
        """
        transaction, ends = self.of(connection), None
        transaction.complete(self.database, context)
        if found.kind is Kind.TRANSACTION:
            ends = self._before_verb(transaction, found)
        elif found.is_write:
            at_once = commits_at_once(connection, in_transaction=transaction.has_begun)
            ends = self._before_write(transaction, found, context, at_once=at_once)
        elif self._may_commit(found):
            ends = self._begin(transaction.tags(self.database))
        try:
            yield self._has_rows_first and ends is not None
            if found.kind is Kind.TRANSACTION:
                self._after_verb(transaction, found)
        finally:  # when it has failed, nobody knows what became of it, should it commit at once
            if ends is not None:
                self._settle(*ends)

    @contextmanager
    def _beside(
        self, transaction: Transaction, driver: Any, info: dict[str, Any], sql: str | None, *, commits: bool
    ) -> Iterator[bool]:
        """Around a statement that runs on a driver's own cursor; as :meth:`executing`."""
        if transaction.is_committing or transaction.is_in_two_phases:
            yield False
            return
        found, ends = self.database.beside(sql, driver, info), None
        self.note_own(info)
        transaction.complete(self.database)
        if commits:
            transaction.write(found, None)
            ends = self._begin(transaction.tags(self.database))
            transaction.clear()
        elif found.kind is Kind.TRANSACTION:
            ends = self._before_verb(transaction, found)
        elif found.is_write:
            dialect = self.database.engine.dialect
            at_once = driver_commits_at_once(dialect, driver, in_transaction=transaction.has_begun)
            ends = self._before_write(transaction, found, None, at_once=at_once)
        elif self._may_commit(found):
            ends = self._begin(transaction.tags(self.database))
        if self.read_beside is not None and found.kind not in (Kind.TRANSACTION, Kind.SETTING):
            self.read_beside(transaction, found)
        try:
            yield self._has_rows_first and ends is not None
            if found.kind is Kind.TRANSACTION and not commits:
                self._after_verb(transaction, found)
        finally:
            if found.kind is Kind.DDL:
                self.database.outdate()
            if ends is not None:
                self._settle(*ends)

    def _before_write(self, transaction: Transaction, found: Statement, context: Any, *, at_once: bool) -> _Ends | None:
        """A statement is about to write; what ends with it."""
        if at_once:
            return self._begin(found.stamped)
        transaction.write(found, context)
        self._note(transaction)
        # DDL commits, on some servers, what was written before; and so may one of several statements in one text.
        commits = found.kind is Kind.DDL or found.verb == SCRIPT
        return self._begin(transaction.tags(self.database)) if commits else None

    def _may_commit(self, found: Statement) -> bool:
        """Whether a statement that writes nothing may end the transaction: many do on MySQL and MariaDB."""
        if found.verb == SCRIPT:
            return True
        if self.database.engine.dialect.name not in _COMMITTING:
            return False
        is_answer = found.verb in ("DESC", "DESCRIBE", "EXPLAIN", "SHOW")
        return (found.kind is Kind.OTHER and not is_answer) or "autocommit" in found.what or "password" in found.what

    def _before_verb(self, transaction: Transaction, found: Statement) -> _Ends | None:
        """A statement that concerns the transaction itself is about to run; what ends with it."""
        if transaction.is_in_two_phases or transaction.is_committing:
            return None
        verb, name = found.verb, found.what[0] if found.what else ""
        if verb in ("COMMIT PREPARED", "XA COMMIT"):
            known = self._prepared.pop(name, None)
            return known if known is not None else self._begin(self._everything)
        if verb in ("PREPARE TRANSACTION", "XA PREPARE"):
            tags = transaction.tags(self.database)
            if tags:
                self._prepared[name] = self._begin(tags)
        elif verb in ("COMMIT", "BEGIN"):  # which ends what was there before, on some servers
            return self._begin(transaction.tags(self.database))
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
            self._withdraw(*(self._prepared.pop(name, ((), []))))
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
            self._settle(*self._begin(statement.stamped))
            return
        transaction = self.of(connection)
        transaction.write(statement, None)
        self._note(transaction)

    # --- Commits

    @property
    def _everything(self) -> tuple[str, ...]:
        """What another process has prepared, or this one before it was restarted, may have written anything."""
        return any_tag(self.database.name), unknown_tag(self.database.name)

    def _begin(self, tags: tuple[str, ...]) -> _Ends:
        return tags, [(cache, cache.begin(tags)) for cache in self._caches()] if tags else []

    def _settle(self, tags: tuple[str, ...], begun: list[tuple[Commits, str]]) -> None:
        for cache, token in begun:
            cache.settle(tags, token)

    def _withdraw(self, tags: tuple[str, ...], begun: list[tuple[Commits, str]]) -> None:
        for cache, token in begun:
            cache.withdraw(tags, token)

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
        begun: _Ends = (tags, [])
        end = self._settle
        try:
            begun = self._begin(tags)
            yield
            transaction.clear()
        except BaseException as error:
            if is_rolled_back(error):
                end = self._withdraw
            raise
        finally:
            transaction.is_committing = False
            end(*begun)
        for function in after:
            function()

    def _commit(self, transaction: Transaction, commit: Callable[[], Any]) -> Any:
        """Around the driver's own commit."""
        with self.committing(transaction):
            return commit()

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
        begun = self._begin(transaction.tags(self.database))
        try:
            with self._in_two_phases(connection):
                result = original(connection, xid)
        except BaseException as error:
            (self._withdraw if is_rolled_back(error) else self._settle)(*begun)
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
            self._settle(*(self._prepared.pop(str(xid), ((), []))))
            return result
        known = self._prepared.pop(str(xid), None)
        # What another process has prepared, or this one before it was restarted, may have written anything.
        begun = (
            known if known is not None else self._begin((any_tag(self.database.name), unknown_tag(self.database.name)))
        )
        try:
            with self._in_two_phases(connection):
                return original(connection, xid, is_prepared=is_prepared, recover=recover)
        except BaseException:
            if known is not None:
                self._prepared[str(xid)] = known[0], []  # to be tried once more
            raise
        finally:
            self._settle(*begun)

    def _do_rollback_prepared(
        self, original: Callable[..., Any], connection: Any, xid: Any, is_prepared: bool = True, recover: bool = False
    ) -> Any:
        with self._in_two_phases(connection):
            result = original(connection, xid, is_prepared=is_prepared, recover=recover)
        self.of(connection).clear()
        self._withdraw(*(self._prepared.pop(str(xid), ((), []))))
        return result


def is_pooled(connection: Any) -> bool:
    """Whether it is a connection of the pool that is still there."""
    if not isinstance(connection, PoolProxiedConnection):
        return False
    try:
        return connection.info is not None
    except (NotImplementedError, InvalidRequestError):
        return False
