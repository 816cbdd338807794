"""One watched database: an engine, the name that its tables carry, and what its statements read and write.

Owns :class:`Database` and the way from an engine to it.
"""

from __future__ import annotations

from typing import Any, Final, cast

from sqlalchemy import Engine

from .statements import Statement

__all__ = ["Database", "statement_of"]


class Database:
    """One watched engine.

    Args:
        engine: the engine; of an async one its ``sync_engine``.
        name: what its tables carry; empty for an app's default database.
        source_lag: seconds by which what is read from it may be behind what was committed.
    """

    __slots__ = ("__weakref__", "engine", "name", "source_lag")

    def __init__(self, engine: Engine, name: str = "", *, source_lag: float = 0.0) -> None:
        self.engine: Final = engine
        self.name: Final = name
        self.source_lag: Final = source_lag

    def classify(self, context: Any) -> Statement:
        """What an execution reads and writes, before it runs.

        Args:
            context: SQLAlchemy's execution context, as ``before_cursor_execute`` gets it.
        """
        raise NotImplementedError

    def completed(self, statement: Statement, context: Any) -> Statement:
        """The same once it has run: keys that the database has made are known now."""
        raise NotImplementedError


def statement_of(database: Database, context: Any) -> Statement:
    """What an execution reads and writes; found out once for each execution, whoever asks first.

    Args:
        database: the watched database that it runs on.
        context: SQLAlchemy's execution context.
    """
    found = getattr(context, "rcache_statement", None)
    if found is None:
        found = context.rcache_statement = database.classify(context)
    return cast(Statement, found)
