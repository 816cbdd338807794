"""What SQLAlchemy does not say of a driver's connection: commits made beside it, and statements that commit at once.

Owns the watching of ``commit()`` and ``rollback()`` of a driver's own connection, and :func:`commits_at_once`. What
they mean for what was written is ``transactions``'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from ..model.named_tuple import NamedTuple
from .cursors import unwatch_cursors, watched_classes, with_watched_cursors

__all__ = [
    "FACTORIES",
    "Ending",
    "commits_at_once",
    "driver_commits_at_once",
    "is_in_pipeline",
    "is_rolled_back",
    "unwatch_connection",
    "watch_connection",
    "watched_class",
]

logger: Final = logging.getLogger("flask_rcache")

#: Drivers whose connections are of a class in C, and the argument of ``connect`` that names another class.
FACTORIES: Final = {"pysqlite": "factory", "psycopg2": "connection_factory"}

#: libpq's ``PQTRANS_IDLE``.
_IDLE: Final = 0

Around = Callable[[Callable[[], Any]], Any]


class Ending(NamedTuple):
    """What is around the ends of a connection's transactions.

    Args:
        commit: what commits what was written on it.
        rollback: what undoes it.
        commit_prepared: what commits a transaction that it is given by name (``tpc_commit(xid)``).
        sent: called when all that a pipeline held was carried out.
    """

    commit: Around
    rollback: Around
    commit_prepared: Around
    sent: Callable[[], None]


def watched_class(base: type[Any]) -> type[Any]:
    """A class of connections whose ``commit()`` and ``rollback()`` can be watched."""

    class Watched(base):  # type: ignore[misc]
        rcache_ending: Ending | None = None

        def __exit__(self, kind: Any, *exc_info: Any) -> None:
            """The end of a block, which a driver in C ends without its own methods."""
            if kind is not None:
                self.rollback()
                return
            try:
                self.commit()
            except BaseException:
                self.rollback()
                raise

    for name in _ENDS:
        if hasattr(base, name):
            setattr(Watched, name, _ending(name, base))
    Watched.__name__ = Watched.__qualname__ = base.__name__
    Watched.__module__ = base.__module__
    return with_watched_cursors(Watched)


#: The methods that end a transaction (PEP 249).
_ENDS: Final = ("commit", "rollback", "tpc_commit", "tpc_rollback")


def _around(ending: Ending, name: str, given: tuple[Any, ...]) -> Around:
    """What is around a method that ends a transaction, called with these arguments."""
    if name.endswith("rollback"):
        return ending.rollback
    return ending.commit_prepared if given else ending.commit


def _ending(name: str, base: type[Any]) -> Callable[..., Any]:
    """A method that ends a transaction, of a class of connections."""
    original = getattr(base, name)

    def end(self: Any, *args: Any) -> Any:
        ending = self.rcache_ending
        return original(self, *args) if ending is None else _around(ending, name, args)(partial(original, self, *args))

    end.__name__ = name
    return end


def watch_connection(connection: Any, ending: Ending) -> bool:
    """Have a driver's connection say when its transactions end; whether it can be had.

    Args:
        connection: the driver's connection, or SQLAlchemy's adapter of one that is asynchronous.
        ending: what is around the ends.
    """
    if hasattr(type(connection), "rcache_ending"):
        connection.rcache_ending = ending
        return True
    ends = {name: getattr(connection, name) for name in _ENDS if hasattr(connection, name)}
    try:
        if hasattr(connection, "transaction") and hasattr(connection, "info"):
            connection.transaction = _watched_blocks(connection, connection.transaction, ending.commit)
        if hasattr(connection, "pipeline"):
            connection.pipeline = _watched_pipelines(connection.pipeline, ending.sent)
        for name, original in ends.items():
            setattr(connection, name, _bound_ending(name, original, ending))
    except (AttributeError, TypeError):
        return _watch_by_class(connection, ending)
    return True


def _bound_ending(name: str, original: Callable[..., Any], ending: Ending) -> Callable[..., Any]:
    """A method that ends a transaction, of one connection."""
    return lambda *args: _around(ending, name, args)(partial(original, *args))


def _watched_pipelines(original: Callable[..., Any], sent: Callable[[], None]) -> Callable[..., Any]:
    """Pipelines of psycopg's: what was executed in one was carried out when it ends, at the latest."""

    @contextmanager
    def pipeline(*args: Any, **options: Any) -> Iterator[Any]:
        try:
            with original(*args, **options) as made:
                yield made
        finally:
            sent()

    return pipeline


def is_in_pipeline(connection: Any) -> bool:
    """Whether what is executed on a driver's connection is carried out later."""
    return bool(getattr(getattr(connection, "info", None), "pipeline_status", 0))


def unwatch_connection(connection: Any) -> None:
    """Undo :func:`watch_connection` and ``watch_cursors`` for a connection that takes attributes, and hold nobody."""
    for name in ("cursor", "pipeline", "transaction", *_ENDS):
        connection.__dict__.pop(name, None)
    unwatch_cursors(connection)


def _watched_blocks(connection: Any, original: Callable[..., Any], commit: Around) -> Callable[..., Any]:
    """Blocks of psycopg's, which commit without ``commit()``; one in a transaction is a savepoint."""

    @contextmanager
    def transaction(*args: Any, **options: Any) -> Iterator[Any]:
        is_savepoint, block = _is_in_transaction(connection), original(*args, **options)
        value = block.__enter__()
        try:
            yield value
        except BaseException as error:
            if not block.__exit__(type(error), error, error.__traceback__):
                raise
            return
        if is_savepoint:
            block.__exit__(None, None, None)
        else:
            commit(lambda: block.__exit__(None, None, None))

    return transaction


def _watch_by_class(connection: Any, ending: Ending) -> bool:
    """For a Python class whose objects take no attributes; one in C that takes none can't be watched."""
    base = type(connection)
    methods = {name: _ending(name, base) for name in _ENDS if hasattr(base, name)}
    space = {"__slots__": (), "__module__": base.__module__, "rcache_ending": ending}
    try:
        connection.__class__ = type(base.__name__, (base,), {**space, **methods, **watched_classes(base)})
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
    return driver_commits_at_once(dialect, connection.connection.dbapi_connection, in_transaction=in_transaction)


def driver_commits_at_once(dialect: Any, driver: Any, *, in_transaction: bool) -> bool:
    """:func:`commits_at_once` of a driver's connection."""
    if in_transaction or getattr(driver, "in_transaction", False):
        return False
    if _is_in_transaction(driver):
        return False
    detect = getattr(dialect, "detect_autocommit_setting", None)
    if detect is not None:
        try:
            return bool(detect(driver))
        except (NotImplementedError, AttributeError):
            pass  # the dialect can't say: the driver is asked
    if (
        hasattr(driver, "in_transaction") or dialect.name == "sqlite"
    ):  # sqlite3: without a level it never begins a transaction by itself
        return getattr(driver, "isolation_level", "") is None
    ask = getattr(driver, "get_autocommit", None)
    return bool(ask()) if callable(ask) else getattr(driver, "autocommit", False) is True


def _is_in_transaction(driver: Any) -> bool:
    """Whether a driver that knows says that a transaction is open: psycopg, in a block on an autocommit connection."""
    status = getattr(getattr(driver, "info", None), "transaction_status", _IDLE)
    return bool(status != _IDLE)


def is_rolled_back(error: BaseException) -> bool:
    """Whether an error that COMMIT has raised says that nothing was committed; of others nobody knows.

    Source: SQLSTATE classes 23 (integrity constraint violation) and 40 (transaction rollback), but 40003 (statement
    completion unknown). Only of drivers that give the SQLSTATE, whose servers end the transaction then.
    """
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return isinstance(state, str) and state[:2] in ("23", "40") and state != "40003"
