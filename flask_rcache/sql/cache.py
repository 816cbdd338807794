"""``SQLCache``: watches engines, so that what loads read of them becomes tags, and commits invalidate.

Owns which engines are watched, and what an app declares of its databases. What is read is ``observe``'s, what is
written and when it is stamped is ``transactions``'s, cached queries are ``queries``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet, ref

from flask import Flask, appcontext_pushed, current_app
from sqlalchemy import Dialect, Engine
from sqlalchemy.sql.elements import ClauseElement

from ..config.settings import nearest
from ..context import installed, manager_of
from ..engine.commits import Commits
from ..engine.inspector import Inspector
from ..engine.manager import CacheManager
from ..errors import ConfigError
from ..functions import ResultTtl
from ..model.cache_type import CacheType
from ..model.observations import sources
from .constructs import tables_of
from .databases import Database
from .declarations import Declarations
from .listener import Listener
from .names import TableName
from .observe import observe_statement, watch_statements
from .pending import databases_of, watch_sessions
from .queries import Queries, Source, on_given
from .statements import Kind, Statement
from .transactions import Transactions

__all__ = ["EXTENSION", "SQLCache"]

#: Where an app has those that watch its databases.
EXTENSION: Final = "rcache_sql"


#: What is watched in this process, by whichever ``SQLCache``.
_watched: Final[WeakKeyDictionary[Dialect, ref[Transactions]]] = WeakKeyDictionary()


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
        self._declarations = Declarations()
        #: By the dialects of their engines, which hold them.
        self._watched: Final[WeakKeyDictionary[Dialect, ref[Transactions]]] = WeakKeyDictionary()
        self._listeners: Final[dict[Database, Listener]] = {}
        self._queries: Final = Queries()
        self._async: Final[WeakSet[Dialect]] = WeakSet()
        #: One that was given lives as long as this; those of a ``db`` are their apps'.
        self._engine: Final = engine_of(engine_or_db)
        self._apps: Final[WeakSet[Flask]] = WeakSet()
        #: Whether it was ever initialised for an app: should that be gone, others do not take its place.
        self._has_apps = False
        self._db: Any = None
        if self._engine is not None:
            self._watch(engine_or_db, self._engine, name)
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
        self._has_apps = True
        if self._db is None:
            return
        if app.extensions.get("sqlalchemy") is not self._db:
            raise ConfigError(f"call db.init_app(app) before sql.init_app(app): {app.name!r} has no such db yet")
        with app.app_context():
            self._watch_db()

    @property
    def databases(self) -> list[Database]:
        """The watched databases."""
        return [each.database for each in self._transactions()]

    def _transactions(self) -> list[Transactions]:
        return [found for each in tuple(self._watched.values()) if (found := each()) is not None]

    def _transactions_of(self, database: Database) -> Transactions:
        return next(each for each in self._transactions() if each.database is database)

    @property
    def managers(self) -> list[CacheManager]:
        """The caches of the apps that it was initialised for; of a plain engine, without any, of all in the process."""
        return [manager_of(app) for app in tuple(self._served) if "rcache" in app.extensions]

    @property
    def _served(self) -> WeakSet[Flask]:
        """The apps that it was initialised for; of a plain engine, without any, all in the process."""
        return self._apps if self._has_apps or self._db is not None else installed

    def serves(self, owner: object) -> bool:
        """Whether what it observes counts for a cache; of an app whose ``db`` it watches as soon as it is used.

        Args:
            owner: the store of the cache.
        """
        apps = installed if self._db is not None else self._served
        return any(
            manager_of(app).engine.store is owner
            for app in tuple(apps)
            if "rcache" in app.extensions and (self._db is None or app.extensions.get("sqlalchemy") is self._db)
        )

    def database(self, bind: Any = None) -> Database:
        """A watched database: by its engine or its bind's name; the only one, or the default one, when left out.

        Raises:
            ConfigError: there is no such one.
        """
        if self._db is not None and not self._watched:
            self._watch_db()
        engine, databases = engine_of(bind), self.databases
        for database in databases:
            if engine is not None and database.engine.dialect is engine.dialect:
                return database
        name = bind or ""
        for database in databases:
            if database.name == name or (bind is None and len(databases) == 1):
                return database
        known = [database.name or "''" for database in databases]
        raise ConfigError(f"SQLCache watches no database {bind!r}{nearest(str(bind or ''), known)}")

    # Watching

    def _on_pushed(self, app: Flask, **_: Any) -> None:
        """An app's context begins: its engines are there now, where ``db`` is its own."""
        if app not in self._apps and app.extensions.get("sqlalchemy") is self._db:
            self._apps.add(app)
            app.extensions.setdefault(EXTENSION, []).append(self)
            self._watch_db()

    def _watch_db(self) -> None:
        for name, engine in self._db.engines.items():
            self._watch(engine, engine_of(engine) or engine, name or "")

    def _watch(self, given: Any, engine: Engine, name: str) -> None:
        if engine.dialect in self._watched:
            return
        if given is not engine:
            self._async.add(engine.dialect)
        known = _watched.get(engine.dialect)
        transactions = None if known is None else known()
        if transactions is None:
            transactions = self._watch_first(engine, name)
        elif (transactions.database.name, transactions.database.source_lag) != (name, self._source_lag):
            other = transactions.database
            raise ConfigError(
                f"{engine!r} is watched as name={other.name!r} with source_lag={other.source_lag} by another SQLCache: "
                "use that one, or the same options"
            )
        else:  # what is said of the database to one of them counts for all
            transactions.database.declarations.include(self._declarations)
            self._declarations = transactions.database.declarations
        self._watched[engine.dialect] = ref(transactions)
        transactions.stamps.add_caches(self._commits)

    def _watch_first(self, engine: Engine, name: str) -> Transactions:
        database = Database(engine, name, source_lag=self._source_lag, declarations=self._declarations)
        databases_of[engine.dialect] = ref(database)
        transactions = Transactions(database)
        _watched[engine.dialect] = ref(transactions)
        transactions.watch()
        watch_statements(database, transactions)
        watch_sessions()
        return transactions

    def _commits(self) -> list[Commits] | None:
        """What is told of commits; ``None`` when the apps are gone."""
        if self._has_apps and not self._apps and self._db is None:
            return None
        return [Commits(manager.engine) for manager in self.managers]

    # Cached queries

    def fetch(
        self,
        statement: Any,
        params: Mapping[str, Any] | None = None,
        *,
        ttl: ResultTtl | None = None,
        tags: Iterable[str] = (),
        refresh: bool = False,
        type: CacheType | str = CacheType.QUERY,
        bind: Any = None,
        on: Any = None,
    ) -> list[dict[str, Any]]:
        """The rows of a query, from the cache or from the database: a dict for each, with exact Python types.

        It is invalidated by commits to the tables and rows that it has read. An ORM entity comes as its columns.

        Args:
            statement: a ``select()``, or the text of one with ``:name`` parameters.
            params: the parameters by name.
            ttl: seconds, a ``timedelta``, or a function of the rows' bytes; the type's when left out.
            tags: labels by which it can be invalidated, too.
            refresh: run it now, and replace what is cached.
            type: the policy, or its registered name.
            bind: the database, where there are several: its engine or its bind's name. Of a construct it is known.
            on: the session or connection to run it on. Left out, a ``db`` runs it on its session, an engine on a
                connection of its own.

        Raises:
            ConfigError: it is no query, or an option is not usable.
            EncodeError: under ``RCACHE_STRICT``, rows that would not be restored exactly.
        """
        database = self._database_of(statement, bind, on)
        if database.engine.dialect in self._async and on is None:
            raise ConfigError(f"{database!r} is async: use await sql.afetch(…)")
        place = on if on is not None else self._db.session if self._db is not None else None
        engine = self._engine or database.engine
        source = Source(engine.connect, engine) if place is None else on_given(place, engine)
        return self._queries.fetch(database, statement, params, source, ttl=ttl, tags=tags, refresh=refresh, type=type)

    async def afetch(
        self,
        statement: Any,
        params: Mapping[str, Any] | None = None,
        *,
        ttl: ResultTtl | None = None,
        tags: Iterable[str] = (),
        refresh: bool = False,
        type: CacheType | str = CacheType.QUERY,
        bind: Any = None,
    ) -> list[dict[str, Any]]:
        """:meth:`fetch` over an async engine."""
        database = self._database_of(statement, bind, None)
        if database.engine.dialect not in self._async:
            raise ConfigError(f"{database!r} is not async: use sql.fetch(…)")
        from sqlalchemy.ext.asyncio import AsyncEngine  # needs greenlet

        engine = self._engine or database.engine
        source = Source(AsyncEngine(engine).connect, engine)
        return await self._queries.afetch(
            database, statement, params, source, ttl=ttl, tags=tags, refresh=refresh, type=type
        )

    def stats(self) -> dict[str, Any]:
        """How cached statements fare in all processes: query time against cache time, by statement.

        Of the current app's cache; outside of an app's context, of those of all apps that it was initialised for.
        ``statements`` has the hundred used last, those first that the database would spend most time on without the
        cache; times are in seconds. What other processes counted in the last second may be missing. ``databases`` is
        this process's: ``not_understood`` counts executions that depend on every table, or invalidate every table.
        """
        managers = [manager_of(current_app)] if current_app else self.managers
        return {
            "statements": [row for manager in managers for row in Inspector(manager.engine).statements()],
            "databases": [
                {"database": each.name, "not_understood": each.not_understood, "dialect": each.engine.dialect.name}
                for each in self.databases
            ],
        }

    def _database_of(self, statement: Any, bind: Any, on: Any) -> Database:
        """The database that a statement runs on."""
        if bind is not None:
            return self.database(bind)
        if on is not None:
            engine = getattr(on, "engine", None) or on.get_bind(
                clause=statement if not isinstance(statement, str) else None
            )
            return self.database(getattr(engine, "engine", engine))
        if self._db is not None and isinstance(statement, ClauseElement):
            for table in tables_of(statement):
                name = table.metadata.info.get("bind_key")
                if name is not None:
                    return self.database(name)
        return self.database()

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

    def table(self, name: str, bind: Any = None) -> TableName:
        """The table that a name stands for in a database: ``orders``, ``shop.orders``."""
        return self.database(bind).table(name)

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
        self._transactions_of(database).wrote(statement, connection)

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
            transactions = self._transactions_of(database)
            self._listeners[database] = Listener(database, transactions.wrote, scope=scope)
            appcontext_pushed.connect(self._ensure_listeners)

    def _ensure_listeners(self, app: Flask, **_: Any) -> None:
        """An app's context begins: the process is in use."""
        if app in self._served:
            for listener in tuple(self._listeners.values()):
                listener.ensure()

    def close(self) -> None:
        """End the threads that listen, until :meth:`listen` is called again."""
        appcontext_pushed.disconnect(self._ensure_listeners)
        while self._listeners:
            _, listener = self._listeners.popitem()
            listener.close()


def engine_of(source: Any) -> Engine | None:
    """The engine that events are sent of; ``None`` for what is no engine."""
    if isinstance(source, Engine):
        return source
    inner = getattr(source, "sync_engine", None)
    return inner if isinstance(inner, Engine) else None
