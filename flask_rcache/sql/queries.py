"""Cached queries: ``sql.fetch``, ``sql.afetch`` and :func:`cached_query`.

Owns the key of a statement (as it is compiled in its dialect, with typed parameters) and on which connection it runs.
How long it is kept and who loads it is the engine's; how rows become bytes is ``packing``'s.
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, text
from sqlalchemy.engine import Result, Row, RowMapping
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ClauseElement, TextClause

from ..codec import ValueCodec
from ..context import current_cache
from ..engine.calls import NEVER
from ..engine.manager import CacheManager
from ..engine.statements import StatementFigures
from ..errors import CodecError, ConfigError, EncodeError
from ..functions import CachedFunction, FoundTags, ResultTtl, cached
from ..model.bounded import BoundedDict
from ..model.cache_type import AUTO, CacheType, Tags, split_tags
from ..model.keys import Key, tag_of
from ..model.named_tuple import NamedTuple
from .databases import Database, schemas_key
from .packing import Rows, pack, unpack
from .plans import read_tags
from .statements import Kind
from .text import shape_of_text

__all__ = ["Queries", "cached_query"]

P = ParamSpec("P")
R = TypeVar("R")

_COMPILED_KEPT: Final = 1000
#: SQLAlchemy's option of connections and statements.
_TRANSLATED: Final = "schema_translate_map"


class _Query(NamedTuple):
    """A statement that is to be fetched.

    Args:
        statement: SQLAlchemy's.
        parameters: as they were given.
        key: names it, and all of its parameters, in the cache.
        figures: of this statement, whatever its parameters.
    """

    statement: ClauseElement
    parameters: Mapping[str, Any]
    key: Key
    figures: StatementFigures


class Queries:
    """The cached queries of one ``SQLCache``."""

    def __init__(self) -> None:
        self._compiled: Final[BoundedDict[Any, tuple[str, Any, bool]]] = BoundedDict(_COMPILED_KEPT)

    def fetch(
        self,
        database: Database,
        statement: Any,
        params: Mapping[str, Any] | None,
        source: Source,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """The rows of a query.

        Args:
            database: on which it runs.
            statement: what is run.
            params: its parameters.
            source: where it runs.
            options: of the call; see ``SQLCache.fetch``.
        """
        began = time.perf_counter()
        manager: CacheManager = current_cache._get_current_object()  # type: ignore[attr-defined]
        query = self._query(manager, database, statement, params, source)
        loading = _Loading(database, query, manager)

        def load() -> bytes | Rows:
            with source.open() as connection, loading:
                result = connection.execute(query.statement, query.parameters)
                return loading.packed(result)

        found = manager.fetch(loader=load, **self._call(query, options))
        return self._given(query, loading, manager, found, began)

    async def afetch(
        self,
        database: Database,
        statement: Any,
        params: Mapping[str, Any] | None,
        source: Source,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """:meth:`fetch` over an async connection."""
        began = time.perf_counter()
        manager: CacheManager = current_cache._get_current_object()  # type: ignore[attr-defined]
        query = self._query(manager, database, statement, params, source)
        loading = _Loading(database, query, manager)

        async def load() -> bytes | Rows:
            async with source.open() as connection:
                with loading:
                    return loading.packed(await connection.execute(query.statement, query.parameters))

        found = await manager.afetch(loader=load, **self._call(query, options))
        return self._given(query, loading, manager, found, began)

    def _call(self, query: _Query, options: Mapping[str, Any]) -> dict[str, Any]:
        _, tags = split_tags(options["tags"])
        return {
            "cache_type": options["type"],
            "key": query.key,
            "ttl": options["ttl"],
            "tags": (AUTO, *tags),
            "keep": _is_packed,
            "name": query.figures.shown,
            "refresh": options["refresh"],
            "judged": True,
            "independent": True,  # what it depends on is in its key, and in its tables
        }

    def _given(
        self, query: _Query, loading: _Loading, manager: CacheManager, found: bytes | Rows, began: float
    ) -> list[dict[str, Any]]:
        """The mappings of what came of a fetch; and how long that took."""
        rows = found if isinstance(found, Rows) else unpack(found, manager.engine.fetching.codec)
        mappings = rows.mappings()
        if loading.seconds is None:
            query.figures.hit(time.perf_counter() - began)
        else:
            query.figures.missed(loading.seconds, len(mappings))
        return mappings

    # The key

    def _query(
        self,
        manager: CacheManager,
        database: Database,
        statement: Any,
        params: Mapping[str, Any] | None,
        source: Source,
    ) -> _Query:
        """A statement with its key.

        Raises:
            ConfigError: it is no statement, or one that writes.
        """
        if isinstance(statement, str):
            statement = text(statement)
        if not isinstance(statement, ClauseElement) or not statement.supports_execution:
            raise ConfigError(
                f"sql.fetch takes a select() or the text of one, not {type(statement).__name__} {statement!r:.80}"
            )
        if params is not None and not isinstance(params, Mapping):
            raise ConfigError(f'the parameters of sql.fetch are a dict, {{"id": 42}}, not {type(params).__name__}')
        sql, values, writes = self._compile(database.engine, statement, dict(params or {}))
        if writes:
            raise ConfigError(f"sql.fetch caches what is read, and this writes: {sql:.120}")
        engine = database.engine
        # The same text stands for other tables where schemas stand for others.
        on = (database.name, engine.dialect.name, engine.url.database, *_schemas_of(statement, source))
        key = ("sql", on, sql, sorted(values.items(), key=_by_name))
        return _Query(statement, dict(params or {}), key, manager.engine.statistics.statements.of(database.name, sql))

    def _compile(self, engine: Engine, statement: Any, params: dict[str, Any]) -> tuple[str, dict[str, Any], bool]:
        """The statement in its dialect, all of its parameters, and whether it writes."""
        if type(statement) is TextClause:
            known = self._compiled.get((engine.dialect.name, statement.text))
            if known is None:
                writes = shape_of_text(statement.text, engine.dialect.name).kind in (Kind.WRITE, Kind.DDL)
                known = self._compiled[engine.dialect.name, statement.text] = (statement.text, None, writes)
            bound = {name: each.effective_value for name, each in statement._bindparams.items()}
            return known[0], {**bound, **params}, known[2]
        cache_key = statement._generate_cache_key()
        if cache_key is None:
            compiled = statement.compile(dialect=engine.dialect)
            return str(compiled), compiled.construct_params(params), isinstance(statement, UpdateBase)
        key = (engine.dialect.name, cache_key.key)
        known = self._compiled.get(key)
        if known is None:
            compiled = statement._compiler(engine.dialect, cache_key=cache_key)
            known = self._compiled[key] = (str(compiled), compiled, isinstance(statement, UpdateBase))
        sql, compiled, writes = known
        return sql, compiled.construct_params(params, extracted_parameters=cache_key.bindparams), writes


class _Loading:
    """One run of a query: how long it took, and what is kept of it."""

    def __init__(self, database: Database, query: _Query, manager: CacheManager) -> None:
        self._database: Final = database
        self._query: Final = query
        self._codec: Final[ValueCodec] = manager.engine.fetching.codec
        self._strict: Final = manager.settings.strict
        self._began = 0.0
        #: Seconds that the query took in this call; ``None`` when it did not run.
        self.seconds: float | None = None

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began

    def packed(self, result: CursorResult[Any]) -> bytes | Rows:
        """The bytes of a result; its rows when they can't be stored."""
        rows = Rows(tuple(result.keys()), [tuple(row) for row in result])
        read = self._database.plan(result.context).bound(result.context.compiled_parameters)
        self._query.figures.tags = frozenset(map(tag_of, read_tags(read)))
        try:
            return pack(rows, self._codec)
        except CodecError as error:
            if self._strict:
                raise EncodeError(f"the result of {self._query.figures.shown} can't be stored: {error}") from error
            self._query.figures.refuse(str(error))
            return rows


def _is_packed(found: object) -> object:
    return True if isinstance(found, bytes) else NEVER


def _by_name(item: tuple[str, Any]) -> str:
    return item[0]


# Where it runs


class Source(NamedTuple):
    """Where a query runs.

    Args:
        open: gives a context manager with the connection.
        engine: of which that is.
        place: the session or connection that was given.
    """

    open: Callable[[], Any]
    engine: Engine
    place: Any = None


def _schemas_of(statement: Any, source: Source) -> tuple[tuple[str, str], ...]:
    """The schemas that stand for others when a statement runs on a session or connection (``schema_translate_map``)."""
    given = source.engine if source.place is None else connection_in(source.place, source.engine)
    options = {**given.get_execution_options(), **statement.get_execution_options()}
    return schemas_key(options.get(_TRANSLATED) or {})


def on_given(place: Any, engine: Engine) -> Source:
    """Runs queries on a session or connection that the caller has; in another thread, as refreshes do, on their own."""
    thread = threading.get_ident()
    schemas = connection_in(place, engine).get_execution_options().get(_TRANSLATED)

    @contextmanager
    def found() -> Iterator[Connection]:
        if threading.get_ident() != thread:
            with engine.execution_options(**{_TRANSLATED: schemas}).connect() as connection:
                yield connection
        else:
            yield connection_of(place, engine)

    return Source(found, engine, place)


def connection_in(place: Any, engine: Engine) -> Connection | Engine:
    """The connection that a place has to an engine already, else the engine that it would take one of; no I/O."""
    if isinstance(place, Connection):
        return place
    session = place() if hasattr(place, "registry") else place
    root = session.get_transaction()
    for each in () if root is None else tuple(root._connections):
        if isinstance(each, Connection) and each.dialect is engine.dialect and not each.invalidated:
            return each
    for each in (session.bind, *getattr(session, "_Session__binds", {}).values()):
        found = getattr(each, "engine", None)
        if found is not None and found.dialect is engine.dialect:
            bound: Engine = found
            return bound
    return engine


def connection_of(place: Any, engine: Engine) -> Connection:
    """The connection of a session to an engine, with its pending changes written; or the connection that it is."""
    if isinstance(place, Connection):
        return place
    session = place() if hasattr(place, "registry") else place
    if session.autoflush:
        session.flush()
    connection: Connection = session.connection(bind_arguments={"bind": engine})
    return connection


# Functions


def cached_query(
    ttl: ResultTtl | None = None,
    *,
    type: CacheType | str = CacheType.QUERY,
    tags: FoundTags = (),
    key_func: Callable[..., Key | None] | None = None,
    unless: Callable[..., object] | None = None,
    keep: Callable[[Any], object] | None = None,
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """A ``@cached`` function that also knows the tables it has read: a commit to one of them invalidates its values.

    Results, rows and lists of rows that it returns become lists of dicts, which is what callers get.

    Args:
        ttl: seconds, a ``timedelta``, or a function of the result; the type's when left out.
        type: the policy, or its registered name.
        tags: labels, beside the tables; or a function of the arguments.
        key_func: called with the function's arguments, names the entry; ``None``: not this call.
        unless: called with the arguments; true bypasses the cache.
        keep: called with the result; false: it is not stored.

    Raises:
        ConfigError: an option is not usable.
    """
    if callable(ttl) and inspect.isfunction(ttl) and not inspect.signature(ttl).parameters:
        raise ConfigError("@cached_query takes options: write @cached_query()")
    all_tags: Any = _with_auto(tags) if callable(tags) else (AUTO, *split_tags(tags)[1])
    decorate = cached(type, ttl, key_func, tags=all_tags, unless=unless, keep=keep)

    def decorated(function: Callable[P, R]) -> CachedFunction[P, R]:
        return decorate(_plain_results(function))

    return decorated


def _with_auto(find: Callable[..., Tags]) -> Callable[..., Iterable[Any]]:
    @functools.wraps(find)
    def found(*args: Any, **kwargs: Any) -> Iterable[Any]:
        return (AUTO, *split_tags(find(*args, **kwargs))[1])

    return found


def _plain_results(function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose rows are mappings."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
            return _plain(await function(*args, **kwargs))

        return awaited  # type: ignore[return-value]

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        found: R = _plain(function(*args, **kwargs))
        return found

    return called


def _plain(found: Any) -> Any:
    """Rows as dicts; anything else as it is."""
    if isinstance(found, Result):
        return [dict(row._mapping) for row in found]
    if isinstance(found, Row):
        return dict(found._mapping)
    if isinstance(found, RowMapping):
        return dict(found)
    if isinstance(found, list | tuple) and any(isinstance(each, Row | RowMapping) for each in found):
        return [_plain(each) for each in found]
    return found
