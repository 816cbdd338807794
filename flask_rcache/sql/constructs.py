"""SQLAlchemy constructs: what a compiled statement names. Pure, without a database.

Owns the walk over a construct. Where a part of it is text, or has a compiler of its own (``@compiles``), the whole text
of the statement is what counts, and that is ``text``'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from sqlalchemy.schema import Table
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList, Grouping
from sqlalchemy.sql.operators import and_, eq, in_op
from sqlalchemy.sql.selectable import Alias, Join, Select, TableClause

from .shapes import Pin, Ref, Shape, ShapeBuilder, Source, with_schemas
from .statements import Kind
from .text import shape_of_text
from .tokens import calls_of, named, sqlglot_dialect

__all__ = ["shape_of_compiled", "shape_of_ddl", "tables_of"]

_ACTIONS: Final = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})
#: Where SQLAlchemy puts the schemas of ``schema_translate_map``.
_SCHEMA: Final = re.compile(r"__\[SCHEMA_([^\]]+)\]")
_TABLE_WORDS: Final = re.compile(r"(?i)\b(?:select|from|join|table|with|into)\b")


def shape_of_compiled(compiled: Any, dialect: Any, schemas: Mapping[str | None, str | None] | None = None) -> Shape:
    """What a compiled statement names.

    Args:
        compiled: SQLAlchemy's.
        dialect: of the engine.
        schemas: those that stand for others in this execution (``schema_translate_map``).
    """
    statement = compiled.statement
    state = getattr(compiled, "compile_state", None)
    inner = getattr(state, "statement", None)
    if inner is not None and hasattr(inner, "get_children"):  # the ORM's options have become joins there
        statement = inner
    if _is_partly_text(statement):
        string = compiled.string if schemas is None else _with_schemas(compiled, schemas)
        text, lists = named(string, dialect.paramstyle, compiled.positiontup)
        return shape_of_text(text, dialect.name, lists)
    builder = ShapeBuilder()
    _walk(statement, builder, compiled)
    calls = calls_of(_SCHEMA.sub("s", compiled.string), sqlglot_dialect(dialect.name))
    shape = builder.shape(calls, references=_references(statement) if builder.writes else ())
    if schemas is None:
        return shape
    plain = frozenset([_ref(table) for table in _tables(statement) if not isinstance(table, Table)])
    return with_schemas(shape, schemas, plain)


def _with_schemas(compiled: Any, schemas: Mapping[str | None, str | None]) -> str:
    """The text of a compiled statement with the schemas of this execution in it."""
    preparer = compiled.preparer

    def schema(found: re.Match[str]) -> str:
        name = None if found[1] == "_none" else found[1]
        other = schemas.get(name, name) or compiled.dialect.default_schema_name
        return str(preparer.quote_schema(other)) if other else ""

    return _SCHEMA.sub(schema, compiled.string)


def _references(statement: Any) -> tuple[tuple[Ref, Ref, bool, bool], ...]:
    """The foreign keys in the metadata of what is written that act on rows."""
    known = {id(table.metadata): table.metadata for table in _tables(statement) if isinstance(table, Table)}
    found: dict[tuple[Ref, Ref, bool, bool], None] = {}
    for table in [table for metadata in known.values() for table in metadata.tables.values()]:
        for key in table.foreign_key_constraints:
            acts = [str(rule or "").upper() in _ACTIONS for rule in (key.ondelete, key.onupdate)]
            if any(acts):
                found[_ref(table), _ref(key.referred_table), acts[0], acts[1]] = None
    return tuple(found)


def shape_of_ddl(element: Any, sql: str, dialect: str, schemas: Mapping[str | None, str | None] | None = None) -> Shape:
    """What a DDL construct names; of one that concerns no table, its text."""
    target = getattr(element, "element", None)
    table = target if isinstance(target, Table) else getattr(target, "table", None)
    if not isinstance(table, Table):
        return shape_of_text(sql, dialect)
    builder = ShapeBuilder()
    builder.write(_ref(table))
    builder.kind = Kind.DDL
    prefixes = {str(prefix).upper() for prefix in getattr(table, "_prefixes", ())}
    builder.is_temporary = bool(prefixes & {"TEMPORARY", "TEMP", "GLOBAL TEMPORARY", "LOCAL TEMPORARY"})
    shape = builder.shape(verb=sql.lstrip().split(None, 1)[0].upper())
    return shape if schemas is None else with_schemas(shape, schemas, frozenset())


def _parts(statement: Any) -> Iterator[Any]:
    """Every element of a construct."""
    return visitors.iterate(statement)


def _is_partly_text(statement: Any) -> bool:
    """Whether a part of the statement is text that may name tables, or is compiled by the app."""
    for element in _parts(statement):
        kind = element.__visit_name__
        if kind in ("textclause", "textual_select", "orm_from_statement"):
            return True
        if kind == "column" and element.is_literal and _TABLE_WORDS.search(element.name):
            return True
        if getattr(type(element), "_compiler_dispatcher", None) is not None:
            return True
    return bool(getattr(statement, "_prefixes", ()) or getattr(statement, "_suffixes", ()))


def _ref(table: Any) -> Ref:
    schema = getattr(table, "schema", None)
    return Ref(str(schema) if schema is not None else "", str(table.name), True)


def _walk(statement: Any, builder: ShapeBuilder, compiled: Any) -> None:
    written: list[Any] = []
    for element in _parts(statement):
        kind = element.__visit_name__
        if kind in ("select", "compound_select"):
            builder.queries += 1
            if kind == "select" and element._for_update_arg is not None:
                builder.volatile = "FOR UPDATE"
        elif kind in ("insert", "update", "delete"):
            written.append(element)
        elif kind == "tablesample" and element.seed is None:
            builder.volatile = "TABLESAMPLE"
    targets = {id(_target(each)) for each in written}
    for table in _tables(statement):
        if id(table) not in targets:
            builder.read(_ref(table))
    for each in written:
        _write(each, builder, compiled.column_keys or () if each is statement else ())
    if isinstance(statement, Select) and builder.queries == 1 and not written:
        builder.read_pins.extend(_read_pins(statement, compiled.bind_names))
    elif isinstance(statement, Update | Delete) and len(written) == 1:
        builder.written_pins.extend(_pins([_target(statement)], statement._where_criteria, compiled.bind_names))
    elif isinstance(statement, Insert) and len(written) == 1 and not builder.replaces and statement.select is None:
        keys = _keys(statement.table)
        builder.inserts = [Pin(_ref(statement.table), {}, keys)]


def _tables(statement: Any) -> Iterator[Any]:
    """Every table that the statement names; those that a query has in its FROM although no column tells, too."""
    seen: set[int] = set()
    stack = [statement]
    while stack:
        root = stack.pop()
        for element in _parts(root):
            if id(element) in seen:
                continue
            seen.add(id(element))
            if isinstance(element, TableClause):
                yield _plain(element)
            elif isinstance(element, Select):
                stack.extend(element.get_final_froms())
            elif isinstance(element, Update | Delete | Insert):
                stack.extend(getattr(element, "_extra_froms", ()) or ())
                stack.append(element.table)
            owner = getattr(element, "table", None) if element.__visit_name__ == "column" else None
            if owner is not None and id(owner) not in seen:
                stack.append(owner)
            stack.extend(getattr(element, "_independent_ctes", ()))


def tables_of(statement: Any) -> list[Table]:
    """The tables that a construct names, as its metadata has them."""
    return [table for table in _tables(statement) if isinstance(table, Table)]


def _plain(table: Any) -> Any:
    """The table itself, without what the ORM has annotated it with."""
    deannotated = getattr(table, "_deannotate", None)
    return deannotated() if deannotated is not None and getattr(table, "_annotations", None) else table


def _target(statement: Any) -> Any:
    table = statement.table
    while isinstance(table, Alias):
        table = table.element
    return _plain(table)


def _write(statement: Any, builder: ShapeBuilder, given: Iterable[str]) -> None:
    """The table that a DML construct writes, and those whose columns MySQL lets it set too."""
    target = _target(statement)
    tables = [each for each in _parts(target) if isinstance(each, TableClause)] if target is not None else []
    if isinstance(statement, Insert):
        builder.write(_ref(tables[0]), ())
        builder.replaces = builder.replaces or getattr(statement, "_post_values_clause", None) is not None
        if statement._returning:
            builder.read(_ref(tables[0]))
        return
    if isinstance(statement, Delete):
        builder.write(_ref(tables[0]))
        return
    columns: dict[Ref, set[str]] = {_ref(table): set() for table in tables}
    pairs = [*dict(statement._values or {}).items(), *(getattr(statement, "_ordered_values", None) or ())]
    for column, _ in pairs:
        owner = getattr(column, "table", None)
        name = str(getattr(column, "key", column)).lower()
        if isinstance(owner, TableClause):
            columns.setdefault(_ref(_plain(owner)), set()).add(name)
        else:
            columns[_ref(tables[0])].add(name)
    # Those that come with the parameters of an execution; others of these are compared with.
    own = {column.key.lower() for column in getattr(tables[0], "columns", ())}
    columns[_ref(tables[0])] |= own.intersection(name.lower() for name in given)
    for ref, names in columns.items():
        builder.write(ref, names or {"*"})


def _keys(table: Any) -> tuple[tuple[str, Any], ...]:
    primary = getattr(table, "primary_key", None)
    return tuple([(column.name.lower(), column.type) for column in primary]) if primary is not None else ()


def _read_pins(select: Select[Any], names: Mapping[Any, str]) -> Iterator[Pin]:
    """The rows that a plain query pins, of tables that it names once."""
    found: list[Any] = []
    stack = list(select.get_final_froms())
    while stack:
        each = stack.pop()
        if isinstance(each, Join):
            if each.full:
                return
            stack += [each.left, each.right]
        elif isinstance(each, TableClause) or (isinstance(each, Alias) and isinstance(each.element, TableClause)):
            found.append(each)
        else:
            return
    refs = [_ref(_plain(each.element if isinstance(each, Alias) else each)) for each in found]
    once = [each for each, ref in zip(found, refs, strict=True) if refs.count(ref) == 1]
    yield from _pins(once, select._where_criteria, names)


def _pins(tables: Iterable[Any], criteria: Iterable[Any], names: Mapping[Any, str]) -> Iterator[Pin]:
    compared: list[tuple[Any, str, tuple[Source, ...]]] = []
    for each in _conjuncts(criteria):
        if not isinstance(each, BinaryExpression):
            continue
        for left, right in ((each.left, each.right), (each.right, each.left)):
            owner = getattr(left, "table", None)
            source = _source(right, each.operator, names)
            if owner is not None and source is not None and left.__visit_name__ == "column":
                compared.append((owner, left.name.lower(), (source,)))
                break
    for table in tables:
        name = _named(table)
        columns = {column: sources for owner, column, sources in compared if _named(owner) == name}
        if columns:
            plain = _plain(table.element if isinstance(table, Alias) else table)
            yield Pin(_ref(plain), columns, _keys(plain))


def _named(table: Any) -> tuple[str, str]:
    """What tells a table or an alias from the others of one query."""
    return (str(getattr(table, "schema", None) or ""), str(table.name))


def _conjuncts(criteria: Iterable[Any]) -> Iterator[Any]:
    for each in criteria:
        if isinstance(each, BooleanClauseList) and each.operator is and_:
            yield from _conjuncts(each.clauses)
        elif isinstance(each, Grouping):
            yield from _conjuncts([each.element])
        else:
            yield each


def _source(element: Any, operator: Any, names: Mapping[Any, str]) -> Source | None:
    """The parameter that a column is compared with, by the name that it was compiled with."""
    name = names.get(element) if isinstance(element, BindParameter) else None
    if name is None:
        return None
    if operator is eq and not element.expanding:
        return Source(name)
    return Source(name, True) if operator is in_op and element.expanding else None
