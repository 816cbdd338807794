"""``SQLCache``: watches engines, so that what loads read of them becomes tags, and commits invalidate.

Owns which engines are watched, and what an app declares of its databases. What is read is ``observe``'s, what is
written and when it is stamped is ``transactions``'s, cached queries are ``queries``'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

from flask import Flask, appcontext_pushed
from sqlalchemy import Engine

from ..context import manager_of
from ..engine.commits import Commits
from ..engine.manager import CacheManager
from ..errors import ConfigError
from ..model.observations import sources
from .databases import Database
from .declarations import Declarations
from .listener import Listener
from .observe import observe_statement, watch_reads
from .pending import databases_of, watch_sessions
from .snapshots import moment_of
from .statements import Kind, Statement
from .transactions import Transactions

__all__ = ["EXTENSION", "SQLCache"]

#: Where an app has those that watch its databases.
EXTENSION: Final = "rcache_sql"


class SQLCache:
    """Watches an engine, or every engine of a Flask-SQLAlchemy ``db``.

    Args:
        engine_or_db: an ``Engine``, an ``AsyncEngine``, or a Flask-SQLAlchemy ``db``.
        source_lag: seconds by which what is read may be behind what was committed: engines that read from replicas.
        name: what the tables carry in their tags, where an app has several databases; a ``db`` names its binds itself.

    Raises:
        ConfigError: it is none of these.
    """

    def __init__(self, engine_or_db: Any, *, source_lag: float = 0.0, name: str = "") -> None:
        if isinstance(source_lag, bool) or not isinstance(source_lag, int | float) or source_lag < 0:
            raise ConfigError(f"source_lag must be seconds, 0 or more, not {source_lag!r}")
        self._source_lag: Final = float(source_lag)
        self._declarations: Final = Declarations()
        self._databases: Final[WeakKeyDictionary[Engine, Database]] = WeakKeyDictionary()
        self._kept: Final[list[Database]] = []
        self._transactions: Final[WeakKeyDictionary[Database, Transactions]] = WeakKeyDictionary()
        self._listeners: Final[dict[Database, Listener]] = {}
        self._apps: Final[WeakSet[Flask]] = WeakSet()
        self._db: Any = None
        engine = engine_of(engine_or_db)
        if engine is not None:
            self._watch(engine, name)
        elif hasattr(type(engine_or_db), "engines") and hasattr(engine_or_db, "session"):
            self._db = engine_or_db
            appcontext_pushed.connect(self._on_pushed)
        else:
            raise ConfigError(
                f"SQLCache takes a SQLAlchemy engine or a Flask-SQLAlchemy db, not {type(engine_or_db).__name__} "
                f"{engine_or_db!r:.80}: of a session, pass its engine"
            )
        sources.add(self)

    def init_app(self, app: Flask) -> None:
        """Watch the engines of an app, for ``db`` objects that are initialised in a factory; after ``db.init_app``.

        Args:
            app: the app.

        Raises:
            ConfigError: the ``db`` is not initialised for the app.
        """
        extension = app.extensions.setdefault(EXTENSION, [])
        if self not in extension:
            extension.append(self)
        self._apps.add(app)
        if self._db is None:
            return
        if app.extensions.get("sqlalchemy") is not self._db:
            raise ConfigError(f"call db.init_app(app) before sql.init_app(app): {app.name!r} has no such db yet")
        with app.app_context():
            self._watch_db()

    @property
    def databases(self) -> list[Database]:
        """The watched databases."""
        return list(self._databases.values())

    @property
    def managers(self) -> list[CacheManager]:
        """The caches of the apps that it was initialised for."""
        return [manager_of(app) for app in self._apps if "rcache" in app.extensions]

    def database(self, bind: Any = None) -> Database:
        """A watched database: by its engine or its bind's name; the only one, or the default one, when left out.

        Raises:
            ConfigError: there is no such one.
        """
        if self._db is not None and not self._databases:
            self._watch_db()
        engine = engine_of(bind)
        if engine is not None and engine in self._databases:
            return self._databases[engine]
        name = bind or ""
        for database in self._databases.values():
            if database.name == name or (bind is None and len(self._databases) == 1):
                return database
        known = ", ".join(repr(database.name) for database in self.databases) or "none"
        raise ConfigError(f"SQLCache watches no database {bind!r}; there are: {known}")

    # Watching

    def _on_pushed(self, app: Flask, **_: Any) -> None:
        """An app's context begins: its engines are there now, where ``db`` is its own."""
        if app not in self._apps and app.extensions.get("sqlalchemy") is self._db:
            self._apps.add(app)
            app.extensions.setdefault(EXTENSION, []).append(self)
            self._watch_db()

    def _watch_db(self) -> None:
        for name, engine in self._db.engines.items():
            self._watch(engine_of(engine) or engine, name or "")

    def _watch(self, engine: Engine, name: str) -> None:
        if engine in self._databases:
            return
        database = Database(engine, name, source_lag=self._source_lag, declarations=self._declarations)
        self._databases[engine] = databases_of[engine] = database
        transactions = self._transactions[database] = Transactions(database, self._commits)
        database.moment_of = moment_of(transactions)
        transactions.watch()
        watch_reads(database)
        watch_sessions()

    def _commits(self) -> list[Commits]:
        """What is told of commits."""
        return [Commits(manager.engine) for manager in self.managers]

    # Declarations

    def depends(
        self,
        *,
        function: str | None = None,
        table: str | None = None,
        reads: Iterable[str] = (),
        writes: Iterable[str] = (),
    ) -> None:
        """Say what a database function reads and writes, or what the triggers of a table write.

        Args:
            function: the function's name.
            table: or the table's.
            reads: the tables that the function reads.
            writes: the tables that it, or the triggers, write.

        Raises:
            ConfigError: neither is named, or both.
        """
        self._declarations.depends(function=function, table=table, reads=reads, writes=writes)

    def pure(self, *names: str) -> None:
        """Say of functions or settings that answers they have a part in are the same for everyone."""
        self._declarations.mark(names, pure=True)

    def impure(self, *names: str) -> None:
        """Say of functions that they answer differently each time, or to each asker: not stored then."""
        self._declarations.mark(names, pure=False)

    def read(self, *tables: str, bind: Any = None) -> None:
        """Say that tables were read beside the engine, by a driver's own cursor: loads depend on them.

        Args:
            tables: their names.
            bind: the database, where there are several.
        """
        database = self.database(bind)
        statement = Statement(database.name, reads=frozenset(map(database.table, tables)))
        observe_statement(database, statement)

    def wrote(self, *tables: str, connection: Any = None, bind: Any = None) -> None:
        """Say that tables were written beside the engine, by a driver's own cursor or by another program.

        Args:
            tables: their names; without any, it is not known which.
            connection: the SQLAlchemy connection in whose transaction they were written, and with which they are
                committed; when left out, they are committed already.
            bind: the database, where there are several.
        """
        if bind is None and connection is not None:
            bind = connection.engine
        database = self.database(bind)
        written = frozenset(map(database.table, tables))
        statement = Statement(database.name, Kind.WRITE, writes=written, writes_all=not tables)
        self._transactions[database].wrote(statement, connection)

    def listen(self, bind: Any = None, *, scope: str = "") -> None:
        """Stamp what other programs write to PostgreSQL, as its triggers announce it (``flask cache sql triggers``).

        In each process a thread tries to become the one that listens; one of all processes does.

        Args:
            bind: the database, where there are several.
            scope: names the cache, where several with different Redis servers or prefixes watch one database.

        Raises:
            ConfigError: the database is not PostgreSQL, or its driver not psycopg 3.
        """
        database = self.database(bind)
        if database not in self._listeners:
            transactions = self._transactions[database]
            self._listeners[database] = Listener(database, transactions.wrote, scope=scope)
            appcontext_pushed.connect(self._ensure_listeners)

    def _ensure_listeners(self, app: Flask, **_: Any) -> None:
        """An app's context begins: the process is in use."""
        if app in self._apps:
            for listener in self._listeners.values():
                listener.ensure()

    def close(self) -> None:
        """End the threads that listen."""
        for listener in self._listeners.values():
            listener.close()


def engine_of(source: Any) -> Engine | None:
    """The engine that events are sent of; ``None`` for what is no engine."""
    if isinstance(source, Engine):
        return source
    inner = getattr(source, "sync_engine", None)
    return inner if isinstance(inner, Engine) else None
