"""One watched database: an engine, the name that its tables carry, and what its statements read and write.

Owns :class:`Database`: the way from an execution to a :class:`~flask_rcache.sql.statements.Statement`, and what is kept
of it for each distinct statement. What a shape comes to in a database is ``plans``'s.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from sqlalchemy import Engine

from ..model.bounded import BoundedDict
from .catalogue import Catalogue, read_catalogue
from .constructs import shape_of_compiled, shape_of_ddl
from .cursors import unobserved
from .declarations import Declarations, is_harmless_setting
from .names import TableName
from .plans import Plan, Planner
from .shapes import Shape, is_own
from .statements import Kind, Statement
from .text import shape_of_text
from .tokens import named

__all__ = ["ISOLATION_CHANGED", "Database", "schemas_key"]

logger: Final = logging.getLogger("flask_rcache")

_TEXTS_KEPT: Final = 2000
_WARNED_KEPT: Final = 1000
#: Seconds after which a catalogue is read again: somebody else may have changed a view.
_CATALOGUE_SECONDS: Final = 60.0
#: Seconds in which it is not read again for a name that it does not know.
_UNKNOWN_SECONDS: Final = 2.0

#: Where a compiled statement has its plan.
_PLAN: Final = "_rcache_plan"
_PLANS: Final = "_rcache_plans"
_NO_PLAN: Final[tuple[Any, Any]] = (None, None)
_TEMPORARY: Final = "rcache_temporary"
_SETTINGS: Final = "rcache_settings"
_LOCAL: Final = "rcache_local_settings"
_CHANGED: Final = "rcache_changed"
#: What a connection has whose isolation level was set by a statement: nobody knows which it is now.
ISOLATION_CHANGED: Final = "rcache_isolation_changed"
#: What ``RESET ALL`` leaves as it is, and what may have set that.
_NOT_RESET: Final = frozenset({"authorization", "role", "set_config"})
_LEVELS: Final = ("SET TRANSACTION", "SET CHARACTERISTICS")
_SET_LOCALLY: Final = re.compile(r"(?is)^\s*set\s+local\b|set_config\s*\(.*,\s*(?:true|'t\w*')\s*\)")


class Database:
    """One watched engine.

    Args:
        engine: the engine; of an async one its ``sync_engine``.
        name: what its tables carry; empty for an app's default database.
        source_lag: seconds by which what is read from it may be behind what was committed.
        declarations: what the app says of it.

    Attributes:
        changed: called when the catalogue is another one than what is stored was tagged by.
        has_differed: whether a connection ever had settings or temporary tables of its own.
        not_understood: how many executions could not be understood.
    """

    __slots__ = (
        "__weakref__",
        "_catalogue",
        "_era",
        "_generation",
        "_known",
        "_read_at",
        "_texts",
        "_unknown",
        "_warned",
        "changed",
        "declarations",
        "engine",
        "has_differed",
        "name",
        "not_understood",
        "source_lag",
    )

    def __init__(
        self,
        engine: Engine,
        name: str = "",
        *,
        source_lag: float = 0.0,
        declarations: Declarations | None = None,
    ) -> None:
        self.engine: Final = engine
        self.name: Final = name
        self.source_lag: Final = source_lag
        self.declarations: Final = declarations or Declarations()
        self.not_understood = 0
        #: What was made of compiled statements before it was another one is made anew.
        self._era = object()
        self._generation = 0
        self.has_differed = False
        self._texts: Final[BoundedDict[str, Plan]] = BoundedDict(_TEXTS_KEPT)
        self._warned: Final[BoundedDict[str, None]] = BoundedDict(_WARNED_KEPT)
        self._unknown: Final[BoundedDict[str, float]] = BoundedDict(_WARNED_KEPT)
        self._catalogue: Catalogue | None = None
        #: As it was read last, unless a statement has changed it since.
        self._known: Catalogue | None = None
        self.changed: Callable[[], None] | None = None
        self._read_at = 0.0

    def __repr__(self) -> str:
        return f"<Database {self.name or 'default'}: {self.engine.url!r}>"

    # Statements

    def classify(self, context: Any, sql: str | None = None, parameters: Any = ()) -> Statement:
        """What an execution reads and writes, before it runs.

        Args:
            context: SQLAlchemy's execution context.
            sql: what is sent, where that is something else than the context's own statement.
            parameters: its parameters then.
        """
        if sql is None:
            plan, sets = self.plan(context), _parameters(context)
        else:
            plan, sets = self._text_plan(sql, *_place(context)), _by_number(parameters)
        info = context.root_connection.info
        if plan.changes:
            self._changed(plan, sql or context.statement, info)
        statement = plan.statement if plan.is_constant else plan.bound(sets)
        if statement.volatile is None and statement.kind is Kind.READ and (_SETTINGS in info or _TEMPORARY in info):
            statement = self._of_connection(plan, statement, info)
        if plan.problem:
            self._not_understood(plan)
        return statement

    def unknown(self) -> Statement:
        """What a statement of which nothing can be said may read and write."""
        return Statement(self.name, Kind.WRITE, reads_all=True, writes_all=True)

    def completed(self, statement: Statement, context: Any) -> Statement:
        """The same once its results are there, at the latest before the commit: keys that the database has made.

        Not in ``after_cursor_execute``: a key that comes with ``RETURNING`` has not been fetched then.
        """
        if not statement.generates_keys:
            return statement
        try:
            rows = context.inserted_primary_key_rows
        except Exception:  # a driver of which no keys come back
            logger.debug("[CACHE] keys of inserted rows are not known", exc_info=True)
            return statement
        return self.plan(context).with_keys(statement, rows)

    def read_text(self, sql: str, parameters: Mapping[str, Any] | None = None) -> tuple[Plan, Statement]:
        """What a textual statement with ``:name`` parameters would read and write; for ``explain``."""
        with self.engine.connect() as connection:
            catalogue = self._current_catalogue(connection.connection.dbapi_connection)
        plan = self._planner(catalogue).plan(shape_of_text(sql, self.engine.dialect.name))
        return plan, plan.bound([dict(parameters or {})])

    def table(self, name: str) -> TableName:
        """The table that a name stands for, as a statement would name it: ``orders``, ``shop.orders``."""
        with self.engine.connect() as connection:
            catalogue = self._current_catalogue(connection.connection.dbapi_connection)
        return self._planner(catalogue).table_of(name)

    def plan(self, context: Any) -> Plan:
        """What is known of the distinct statement of an execution; found out once."""
        compiled = context.compiled
        if compiled is None:
            return self._text_plan(context.statement, *_place(context))
        plan = self.known(compiled)
        if plan is None:
            if self._generation != self.declarations.generation:
                self._forget_plans()
            # SQLAlchemy keeps these for as long as the statement is in use, and so does what is known of it.
            schemas = context.execution_options.get("schema_translate_map")
            if schemas:
                return self._plan_with_schemas(compiled, context, schemas)
            plan = self._made(*_place(context), _shape(compiled, context))
            compiled.__dict__[_PLAN] = (self._era, plan)
        return plan

    def _plan_with_schemas(self, compiled: Any, context: Any, schemas: Mapping[str | None, str | None]) -> Plan:
        """The plan of a statement in whose place of schemas others stand: one for each such set."""
        plans, name = _plans_of(compiled), schemas_key(schemas)
        era, plan = plans.get(name, _NO_PLAN)
        if plan is None or era is not self._era or plan.expires < time.monotonic():
            plan = self._made(*_place(context), _shape(compiled, context, schemas))
            plans[name] = (self._era, plan)
        found: Plan = plan
        return found

    def known(self, compiled: Any) -> Plan | None:
        """The plan of a compiled statement; ``None`` when it was not made, or has to be made anew."""
        era, plan = compiled.__dict__.get(_PLAN, _NO_PLAN)
        if era is not self._era or self._generation != self.declarations.generation or plan.expires < time.monotonic():
            return None
        found: Plan = plan
        return found

    def beside(self, sql: str | None, driver: Any, info: dict[str, Any]) -> Statement:
        """What a statement on a driver's own cursor reads and writes, whatever its parameters.

        Args:
            sql: with the driver's placeholders; ``None`` where it is not known.
            driver: its connection.
            info: what the pool keeps with that.
        """
        if sql is None:
            self._warn(
                "beside", "a driver's cursor runs what can't be looked into: it invalidates every table of %s", self
            )
            return Statement(self.name, Kind.WRITE, writes_all=True)
        plan = self._text_plan(sql, driver, info)
        if plan.changes:
            self._changed(plan, sql, info)
        if plan.problem:
            self._not_understood(plan)
        return plan.bound([{}])._replace(generates_keys=False)

    def _text_plan(self, text: str, driver: Any, info: Mapping[str, Any]) -> Plan:
        if self._generation != self.declarations.generation:
            self._forget_plans()
        plan = self._texts.get(text)
        if plan is None or plan.expires < time.monotonic():
            dialect = self.engine.dialect
            sql, lists = named(text, dialect.paramstyle)
            plan = self._texts[text] = self._made(driver, info, shape_of_text(sql, dialect.name, lists))
        return plan

    def has_own(self, info: Mapping[str, Any]) -> bool:
        """Whether a connection has settings or temporary tables of its own, by what the pool keeps with it."""
        return _SETTINGS in info or _TEMPORARY in info

    def _forget_plans(self) -> None:
        self._era = object()
        self._texts.clear()
        self._generation = self.declarations.generation

    def _made(self, driver: Any, info: Mapping[str, Any], shape: Shape) -> Plan:
        """The plan of a shape. The catalogue is asked for where tables or functions are named."""
        needs = shape.reads or shape.writes or shape.calls
        catalogue = self._current_catalogue(driver) if needs else Catalogue()
        plan = self._planner(catalogue).plan(shape)
        temporary: Iterable[str] = info.get(_TEMPORARY, ())
        unknown = [name for name in plan.unknown if name.rpartition(".")[2] not in temporary]
        if unknown and catalogue.is_read and self._asks_again(unknown):
            catalogue = self._read_again(driver)
            plan = self._planner(catalogue).plan(shape)
            unknown = [name for name in plan.unknown if name.rpartition(".")[2] not in temporary]
        if unknown and catalogue.is_read and shape.kind in (Kind.READ, Kind.WRITE):
            # It was taken for a table, and there is none: what is in its place may be any.
            problem = f"there is no table {unknown[0]}"
            shape = shape._replace(reads_all=True, writes_all=bool(shape.writes), problem=problem)
            plan = self._planner(catalogue).plan(shape)
        plan.expires = time.monotonic() + (_CATALOGUE_SECONDS if needs else 1e9)
        return plan

    def _planner(self, catalogue: Catalogue) -> Planner:
        return Planner(self.name, catalogue, self.declarations, self.engine.dialect.name)

    # The catalogue

    def _current_catalogue(self, connection: Any) -> Catalogue:
        catalogue = self._catalogue
        if catalogue is None or time.monotonic() - self._read_at > _CATALOGUE_SECONDS:
            return self._read_again(connection)
        return catalogue

    def _asks_again(self, unknown: Sequence[str]) -> bool:
        """Whether the catalogue is worth reading again for names that it does not know."""
        now = time.monotonic()
        if now - self._read_at < _UNKNOWN_SECONDS:
            return False
        fresh = [name for name in unknown if self._unknown.get(name, 0.0) < now]
        for name in fresh:
            self._unknown[name] = now + _CATALOGUE_SECONDS
        return bool(fresh)

    def _read_again(self, connection: Any) -> Catalogue:
        dialect = self.engine.dialect
        try:
            with unobserved(connection), _unharmed(dialect, connection):
                catalogue = read_catalogue(dialect, connection)
        except (dialect.loaded_dbapi.Error, LookupError, TypeError, ValueError) as error:
            self._warn(
                "catalogue", "the catalogue of %s can't be read: views and cascades are not known: %s", self, error
            )
            catalogue = self._catalogue or Catalogue(default_schema=dialect.default_schema_name or "")
        self._read_at = time.monotonic()
        self._catalogue = catalogue
        self._forget_plans()
        known, self._known = self._known, catalogue
        if known is not None and self.changed is not None and not known.says_as(catalogue):
            self.changed()  # what was stored since may not have the tags of what it has read
        return catalogue

    def outdate(self) -> None:
        """A statement has changed the catalogue, or may have: it is read again when it is needed."""
        self._catalogue = self._known = None  # what a statement changes it stamps itself
        self._forget_plans()

    # What a connection has changed

    def _changed(self, plan: Plan, sql: str, info: dict[str, Any]) -> None:
        """A statement changes what follows: the tables there are, or how its connection answers."""
        shape = plan.shape
        if plan.may_do and plan.may_do.lower().removesuffix("()") not in self.declarations.pure:
            self._set(info, plan.may_do, f"what {plan.may_do} may have changed")
        if shape.kind is Kind.DDL:
            if shape.is_temporary:
                self.has_differed = True
                info.setdefault(_TEMPORARY, set()).update(ref.name.lower() for ref in shape.writes)
            else:
                info[_CHANGED] = True
                self.outdate()
        if shape.kind is not Kind.SETTING and "set_config" not in shape.calls:
            return
        if shape.verb in ("RESET", "DISCARD"):
            self._reset(shape, info)
            return
        if shape.verb in _LEVELS:
            info[ISOLATION_CHANGED] = True
            return
        if shape.verb == "PRAGMA" and not shape.what:
            return
        for name in shape.what or ("set_config",):
            if is_harmless_setting(name) or name in self.declarations.pure:
                continue
            self._set(info, name, f"what {shape.verb or 'set_config()'} {name} has changed".strip())
            if _SET_LOCALLY.search(sql):
                info.setdefault(_LOCAL, set()).add(name)

    def _reset(self, shape: Shape, info: dict[str, Any]) -> None:
        """Settings are as they were: all of them, and the temporary tables gone, only after ``DISCARD ALL``."""
        # A block, a script and a function may have set anything.
        settings, all_of_them = info.get(_SETTINGS, {}), shape.what in ((), ("all",))
        for name in tuple(settings):
            is_kept = name in _NOT_RESET or name.isupper() or name.endswith("()")
            if name in shape.what or (all_of_them and (shape.verb == "DISCARD" or not is_kept)):
                del settings[name]
        if not settings:
            info.pop(_SETTINGS, None)
        if shape.verb == "DISCARD" and (all_of_them or shape.what[0] in ("temp", "temporary")):
            info.pop(_TEMPORARY, None)

    def _set(self, info: dict[str, Any], name: str, reason: str) -> None:
        """A connection answers differently from now on."""
        self.has_differed = True
        info.setdefault(_SETTINGS, {})[name] = reason

    def transaction_ended(self, info: dict[str, Any]) -> None:
        """A transaction has ended on a connection, however: settings that were local to it are undone.

        Args:
            info: what the pool keeps with the connection.
        """
        for name in info.pop(_LOCAL, ()):
            info.get(_SETTINGS, {}).pop(name, None)
        if not info.get(_SETTINGS, True):
            del info[_SETTINGS]
        if info.pop(_CHANGED, False):
            self.outdate()

    def _of_connection(self, plan: Plan, statement: Statement, info: Mapping[str, Any]) -> Statement:
        """A read on a connection that has settings or temporary tables of its own."""
        settings = info.get(_SETTINGS)
        if settings:
            return statement._replace(volatile=next(iter(settings.values())))
        own = info.get(_TEMPORARY, ())
        for ref in plan.shape.reads:
            if ref.name.lower() in own and not (ref.schema and not is_own(ref)):
                return statement._replace(volatile=f"the temporary table {ref.name}")
        return statement

    # Messages

    def _not_understood(self, plan: Plan) -> None:
        self.not_understood += 1
        statement = plan.statement
        does = "depends on" if not statement.writes_all else "invalidates"
        self._warn(plan.problem, "a statement %s every table of %s: %s", does, self, plan.problem)

    def fault(self, statement: str, error: Exception) -> None:
        """A statement could not be looked into: a fault of our own, or a parameter of a type that raises.

        Args:
            statement: or what is known of it.
            error: what was raised.
        """
        self.not_understood += 1
        logger.debug("[CACHE] %s failed with", statement, exc_info=error)
        self._warn(
            repr(error),
            "a statement can't be looked into (%r): it counts as one that reads and writes every table of %s: %.200s",
            error,
            self,
            statement,
        )

    def _warn(self, about: str, message: str, *args: object) -> None:
        if about not in self._warned:
            self._warned[about] = None
            logger.warning(f"[CACHE] {message}", *args)  # noqa: G004  # the arguments are the message's


def _place(context: Any) -> tuple[Any, dict[str, Any]]:
    """The driver's connection of an execution, and what the pool keeps with that."""
    connection = context.root_connection
    return connection.connection.dbapi_connection, connection.info


def _shape(compiled: Any, context: Any, schemas: Mapping[str | None, str | None] | None = None) -> Shape:
    if context.isddl:
        return shape_of_ddl(compiled.statement, str(compiled), context.dialect.name, schemas or None)
    return shape_of_compiled(compiled, context.dialect, schemas or None)


def schemas_key(schemas: Mapping[str | None, str | None]) -> tuple[tuple[str, str], ...]:
    """What tells a ``schema_translate_map`` from others; SQLAlchemy puts a key of its own for ``None`` into it."""
    return tuple(sorted([(name or "", other or "") for name, other in schemas.items() if name != "_none"]))


def _plans_of(compiled: Any) -> BoundedDict[Any, tuple[Any, Plan]]:
    """The plans of a statement by the schemas that stand for others."""
    found: BoundedDict[Any, tuple[Any, Plan]] | None = compiled.__dict__.get(_PLANS)
    if found is None:
        found = compiled.__dict__[_PLANS] = BoundedDict(_TEXTS_KEPT)
    return found


def _parameters(context: Any) -> Sequence[Mapping[str, Any]]:
    """The parameters of an execution, each set by name."""
    found: Sequence[Mapping[str, Any]] | None = getattr(context, "compiled_parameters", None)
    if context.compiled is not None and found is not None:
        return found
    return _by_number(context.parameters or [{}])


def _by_number(sets: Any) -> Sequence[Mapping[str, Any]]:
    """Parameters as a driver takes them: those without names have their numbers for names."""
    if isinstance(sets, Mapping):
        return [sets]
    if sets and not isinstance(sets[0], Mapping | list | tuple):
        sets = [sets]
    return [
        each if isinstance(each, Mapping) else {f"p{index + 1}": value for index, value in enumerate(each)}
        for each in sets or [{}]
    ]


class _unharmed:  # noqa: N801  # a context manager
    """On PostgreSQL, a query that fails would end the app's transaction: a savepoint keeps it."""

    def __init__(self, dialect: Any, connection: Any) -> None:
        self._connection: Final = connection
        autocommit = getattr(connection, "autocommit", False)
        self._needed: Final = dialect.name == "postgresql" and autocommit is not True

    def _run(self, sql: str) -> None:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(sql)

    def __enter__(self) -> None:
        if self._needed:
            self._run("SAVEPOINT rcache_catalogue")

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self._needed:
            self._run(f"{'RELEASE' if kind is None else 'ROLLBACK TO'} SAVEPOINT rcache_catalogue")
