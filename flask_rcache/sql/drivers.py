"""What SQLAlchemy does not say of a driver's connection: commits made beside it, and statements that commit at once.

Owns the watching of ``commit()`` and ``rollback()`` of a driver's own connection, and :func:`commits_at_once`. What
they mean for what was written is ``transactions``'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

__all__ = ["commits_at_once", "is_rolled_back", "watch_connection", "watched_class"]

logger: Final = logging.getLogger("flask_rcache")

#: Drivers whose connections are of a class in C, and the argument of ``connect`` that names another class.
FACTORIES: Final = {"pysqlite": "factory", "psycopg2": "connection_factory"}

Around = Callable[[Callable[[], Any]], Any]


def watched_class(base: type[Any]) -> type[Any]:
    """A class of connections whose ``commit()`` and ``rollback()`` can be watched."""

    class Watched(base):  # type: ignore[misc]
        rcache_commit: Around | None = None
        rcache_rollback: Around | None = None

        def commit(self) -> Any:
            around = self.rcache_commit
            return super().commit() if around is None else around(super().commit)

        def rollback(self) -> Any:
            around = self.rcache_rollback
            return super().rollback() if around is None else around(super().rollback)

    Watched.__name__ = Watched.__qualname__ = base.__name__
    Watched.__module__ = base.__module__
    return Watched


def watch_connection(connection: Any, commit: Around, rollback: Around) -> bool:
    """Have a driver's connection call ``commit`` and ``rollback`` around its own; whether it can be had.

    Args:
        connection: the driver's connection, or SQLAlchemy's adapter of one that is asynchronous.
        commit: called with what commits.
        rollback: called with what rolls back.
    """
    if hasattr(type(connection), "rcache_commit"):
        connection.rcache_commit, connection.rcache_rollback = commit, rollback
        return True
    commits, rolls_back = connection.commit, connection.rollback
    try:
        connection.commit = lambda: commit(commits)
        connection.rollback = lambda: rollback(rolls_back)
    except (AttributeError, TypeError):
        return _watch_by_class(connection, commit, rollback)
    return True


def _watch_by_class(connection: Any, commit: Around, rollback: Around) -> bool:
    """For a Python class whose objects take no attributes; one in C that takes none can't be watched."""
    base = type(connection)

    def committing(self: Any) -> Any:
        return commit(lambda: base.commit(self))

    def rolling_back(self: Any) -> Any:
        return rollback(lambda: base.rollback(self))

    methods = {"__slots__": (), "commit": committing, "rollback": rolling_back, "__module__": base.__module__}
    try:
        connection.__class__ = type(base.__name__, (base,), methods)
    except TypeError:
        logger.debug("[CACHE] commit() of %s can't be watched: commit with SQLAlchemy's methods", base)
        return False
    return True


def commits_at_once(connection: Any, *, in_transaction: bool) -> bool:
    """Whether a statement that runs now on a SQLAlchemy connection takes effect without a commit.

    Args:
        connection: SQLAlchemy's.
        in_transaction: whether a ``BEGIN`` was sent as a statement and not ended.
    """
    level = connection.get_execution_options().get("isolation_level")
    dialect = connection.dialect
    if level is None:
        level = getattr(dialect, "_on_connect_isolation_level", None)
    if level == "AUTOCOMMIT":
        return not in_transaction
    driver = connection.connection.dbapi_connection
    if in_transaction or getattr(driver, "in_transaction", False):
        return False
    detect = getattr(dialect, "detect_autocommit_setting", None)
    if detect is not None:
        try:
            return bool(detect(driver))
        except (NotImplementedError, AttributeError):
            pass
    if hasattr(driver, "in_transaction"):  # sqlite3: without a level it never begins a transaction by itself
        return getattr(driver, "isolation_level", "") is None
    ask = getattr(driver, "get_autocommit", None)
    return bool(ask()) if callable(ask) else getattr(driver, "autocommit", False) is True


def is_rolled_back(error: BaseException) -> bool:
    """Whether an error that COMMIT has raised says that nothing was committed; of others nobody knows.

    Source: SQLSTATE classes 23 (integrity constraint violation) and 40 (transaction rollback), but 40003 (statement
    completion unknown). Only of drivers that give the SQLSTATE, whose servers end the transaction then.
    """
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return isinstance(state, str) and state[:2] in ("23", "40") and state != "40003"
