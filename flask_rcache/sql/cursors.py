"""Statements that run on a driver's own cursor, beside SQLAlchemy: classes of cursors that say so.

Owns the watching of cursors, and that a statement has taken effect before it is said to have. What it means for what
was written is ``transactions``'s. Where a driver does not take a class for its cursors, nothing is said, and its
connections behave as ever.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from typing import Any, Final

__all__ = [
    "Observer",
    "fetch_rows",
    "is_cursor_class",
    "running",
    "unobserved",
    "unwatch_cursors",
    "watch_cursors",
    "watched_classes",
    "watched_cursor",
    "with_watched_cursors",
]

#: What is around a statement: it takes the SQL, ``None`` where that is not known, and whether it commits what was
#: written before, and itself. It gives whether the statement's rows have to be fetched before it ends.
Observer = Callable[[str | None, bool], AbstractContextManager[bool]]

_OBSERVER: Final = "rcache_observer"
#: Where a cursor of SQLAlchemy's adapters has its connection.
_ADAPTED: Final = "_adapt_connection"
#: Where a watched cursor has whether a statement is under way, and rows that were fetched for whoever asks for them.
_IS_RUNNING: Final = "rcache_is_running"
_ROWS: Final = "rcache_rows"


@cache
def watched_cursor(base: type[Any]) -> type[Any]:
    """A class of cursors whose connection is told of each statement that SQLAlchemy does not run."""
    if hasattr(base, _IS_RUNNING):
        return base

    class Watched(base):  # type: ignore[misc]
        __slots__ = () if base.__dictoffset__ else (_IS_RUNNING, _ROWS)
        #: The driver's own, for statements of which is known what they do.
        rcache_execute = base.execute

    if base.__dictoffset__:
        setattr(Watched, _IS_RUNNING, False)
    Watched.__name__ = Watched.__qualname__ = base.__name__
    Watched.__module__ = base.__module__
    for name in ("execute", "executemany", "executescript", "copy_expert"):
        if hasattr(base, name):
            setattr(Watched, name, _calling(name, base))
    if hasattr(base, "stream"):
        Watched.stream = _streaming(base)
    if hasattr(base, "copy"):
        Watched.copy = _copying(base)
    for name in ("callproc", "copy_from"):
        if hasattr(base, name):
            setattr(Watched, name, _calling(name, base, is_known=False))
    return Watched


@cache
def _holding_rows(watched: type[Any]) -> type[Any]:
    """A class of watched cursors whose rows were fetched already, until their next statement."""

    class Holding(watched):  # type: ignore[misc]
        __slots__ = ()

        def fetchone(self) -> Any:
            return self.rcache_rows.popleft() if self.rcache_rows else None

        def fetchmany(self, size: int | None = None) -> list[Any]:
            rows, most = self.rcache_rows, int(self.arraysize if size is None else size)
            return [rows.popleft() for _ in range(min(most, len(rows)))]

        def fetchall(self) -> list[Any]:
            return self.fetchmany(len(self.rcache_rows))

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            if not self.rcache_rows:
                raise StopIteration
            return self.rcache_rows.popleft()

        def close(self) -> Any:
            self.__class__ = watched
            return self.close()

    def begin(name: str) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **options: Any) -> Any:
            self.__class__ = watched
            return getattr(self, name)(*args, **options)

        return call

    Holding.__name__ = Holding.__qualname__ = watched.__name__
    Holding.__module__ = watched.__module__
    for name in ("execute", "executemany", "executescript", "callproc", "rcache_execute"):
        if hasattr(watched, name):
            setattr(Holding, name, begin(name))
    return Holding


def fetch_rows(cursor: Any) -> None:
    """Fetch what a statement has returned, and keep it for whoever asks the cursor.

    SQLite carries a statement out as its rows are fetched, and servers send rows to cursors that do not buffer them
    before they commit: one that commits by itself, such as ``INSERT … RETURNING``, has done so with its last row.
    """
    watched: Any = type(cursor)
    if hasattr(watched, _IS_RUNNING) and cursor.description is not None:
        cursor.rcache_rows = deque(cursor.fetchall())
        cursor.__class__ = _holding_rows(watched)


def is_cursor_class(value: object) -> bool:
    """Whether something that a driver's connection has is a class of its cursors."""
    return isinstance(value, type) and hasattr(value, "execute") and hasattr(value, "fetchone")


def _watched(value: Any) -> Any:
    """An argument of ``cursor()``: a class of cursors is watched, whatever its place."""
    return watched_cursor(value) if is_cursor_class(value) else value


def _making(make: Callable[..., Any]) -> Callable[..., Any]:
    """A connection's ``cursor()``: it may be given a class, and what it makes is watched where it can be."""

    def cursor(*args: Any, **options: Any) -> Any:
        if args or options:
            made = make(*map(_watched, args), **{name: _watched(value) for name, value in options.items()})
        else:
            made = make()
        kind: Any = type(made)
        if not hasattr(kind, _IS_RUNNING):
            with suppress(TypeError):  # a class in C, whose objects can't come to be of another
                made.__class__ = watched_cursor(kind)
        return made

    return cursor


def with_watched_cursors(base: type[Any]) -> type[Any]:
    """A class of connections in C whose ``cursor()`` takes a class, as :mod:`sqlite3`'s does; or ``base`` itself."""
    modules = [sys.modules.get(each.__module__) for each in base.__mro__[1:]]
    found = [getattr(module, name, None) for module in modules for name in ("Cursor", "cursor")]
    default = next((each for each in found if is_cursor_class(each)), None)
    if default is None or any(map(is_cursor_class, vars(base).values())):
        return base

    usual = watched_cursor(default)
    #: psycopg2's has the class as an attribute: there ``cursor()`` takes a name.
    is_attribute = hasattr(base, "cursor_factory")

    class Watched(base):  # type: ignore[misc]
        rcache_makes_cursors = True
        rcache_observer: Any = None

        def cursor(self, *args: Any, **options: Any) -> Any:
            if args or options:
                args, options = tuple(map(_watched, args)), {name: _watched(each) for name, each in options.items()}
            elif not is_attribute:
                return base.cursor(self, usual)
            if is_attribute and self.cursor_factory is None:
                options.setdefault("cursor_factory", usual)
            return base.cursor(self, *args, **options)

    def calling(name: str) -> Callable[..., Any]:
        def call(self: Any, *args: Any) -> Any:
            return getattr(self.cursor(), name)(*args)

        return call

    for name in ("execute", "executemany", "executescript"):
        if hasattr(base, name):
            setattr(Watched, name, calling(name))
    Watched.__name__ = Watched.__qualname__ = base.__name__
    Watched.__module__ = base.__module__
    return Watched


@contextmanager
def running(cursor: Any) -> Iterator[None]:
    """Around a statement of which is known what it does: what the driver executes within it is a part of it."""
    if not hasattr(type(cursor), _IS_RUNNING):  # it is not watched
        yield
        return
    cursor.rcache_is_running = True
    try:
        yield
    finally:
        cursor.rcache_is_running = False


@contextmanager
def _around(cursor: Any, sql: Any, *, commits: bool = False) -> Iterator[bool]:
    """Around a statement; what the driver executes within it is a part of it. As :data:`Observer`."""
    if getattr(cursor, _IS_RUNNING, False):
        yield False
        return
    connection = getattr(cursor, _ADAPTED, None) or getattr(cursor, "connection", None)
    observer = getattr(connection, _OBSERVER, None)
    with nullcontext(False) if observer is None else observer(sql, commits) as has_rows_first, running(cursor):
        yield has_rows_first


def _calling(name: str, base: type[Any], *, is_known: bool = True) -> Callable[..., Any]:
    original = getattr(base, name)

    def call(self: Any, sql: Any, *args: Any, **options: Any) -> Any:
        if getattr(self, _IS_RUNNING, False):
            return original(self, sql, *args, **options)
        text = _text(sql, self) if is_known else None
        with _around(self, text, commits=name == "executescript") as has_rows_first:
            result = original(self, sql, *args, **options)
            if has_rows_first:
                fetch_rows(self)
            return result

    call.__name__ = name
    return call


def _streaming(base: type[Any]) -> Callable[..., Any]:
    def stream(self: Any, query: Any, *args: Any, **options: Any) -> Iterator[Any]:
        with _around(self, _text(query, self)):
            yield from base.stream(self, query, *args, **options)

    return stream


def _copying(base: type[Any]) -> Callable[..., Any]:
    @contextmanager
    def copy(self: Any, statement: Any, *args: Any, **options: Any) -> Iterator[Any]:
        with _around(self, _text(statement, self)), base.copy(self, statement, *args, **options) as stream:
            yield stream

    return copy


def _text(sql: Any, cursor: Any) -> str | None:
    """A statement as text, in whatever form the driver takes it."""
    if isinstance(sql, bytes | bytearray):
        return bytes(sql).decode("utf-8", "replace")
    if isinstance(sql, str):
        return sql
    as_string = getattr(sql, "as_string", None)  # psycopg's composed SQL
    return str(as_string(cursor)) if as_string is not None else None


def watch_cursors(connection: Any, observer: Observer) -> bool:
    """Have a driver's connection tell of the statements on its cursors, those it makes from now on; whether it can.

    Args:
        connection: the driver's connection, or SQLAlchemy's adapter of one that is asynchronous.
        observer: what is around a statement.
    """
    if not getattr(type(connection), "rcache_makes_cursors", False):
        for name, value in tuple(getattr(connection, "__dict__", {}).items()):
            if is_cursor_class(value):
                setattr(connection, name, watched_cursor(value))
        try:
            connection.cursor = _making(connection.cursor)
        except AttributeError:
            return False
    _observe(connection, observer)
    return True


def watched_classes(base: type[Any]) -> dict[str, Any]:
    """What a class of connections needs beside whose objects take no attributes, as SQLAlchemy's adapters do not."""
    names = {name for each in base.__mro__ for name, value in vars(each).items() if is_cursor_class(value)}
    if not names:
        return {}

    def cursor(self: Any, *args: Any, **options: Any) -> Any:
        made = base.cursor(self, *args, **options)
        return made if hasattr(type(made), _IS_RUNNING) else _as_watched(made)

    made = {name: watched_cursor(getattr(base, name)) for name in names}
    return {**made, "cursor": cursor, "rcache_makes_cursors": True, _OBSERVER: None}


def _as_watched(cursor: Any) -> Any:
    """A watched cursor in place of one that has just been made, and has attributes in slots only."""
    kind: Any = type(cursor)
    watched: Any = watched_cursor(kind)
    copy = object.__new__(watched)
    for name in (name for each in kind.__mro__ for name in getattr(each, "__slots__", ())):
        if hasattr(cursor, name):
            setattr(copy, name, getattr(cursor, name))
    return copy


def _observe(connection: Any, observer: Observer | None) -> None:
    """What is around its statements from now on; one whose objects take no attributes has a class of its own."""
    try:
        connection.rcache_observer = observer
    except AttributeError:
        type(connection).rcache_observer = observer if observer is None else staticmethod(observer)


def unwatch_cursors(connection: Any) -> None:
    """Have nobody told of the statements on a connection's cursors from now on."""
    _observe(connection, None)


@contextmanager
def unobserved(connection: Any) -> Iterator[None]:
    """Statements of our own on a driver's connection."""
    observer = getattr(connection, _OBSERVER, None)
    if observer is None:
        yield
        return
    _observe(connection, None)
    try:
        yield
    finally:
        _observe(connection, observer)
