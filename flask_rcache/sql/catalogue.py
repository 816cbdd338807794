"""What a database says of itself: tables, keys, views, functions, triggers, and what refers to what.

Owns :class:`Catalogue` (pure data, with the questions asked of it) and its reading, for PostgreSQL, MySQL and MariaDB,
and SQLite. It is read over the connection that a statement is about to run on, by the driver's own cursor, once, after
DDL again, and when a name is met that it does not know.
"""

# Names in these queries are those of the catalogues and of this module.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from ..model.named_tuple import NamedTuple
from .bodies import Body, body_of, body_of_query
from .rows import KeyKind, kind_of_name
from .text import may_set

__all__ = ["Catalogue", "Function", "Reference", "Relation", "read_catalogue"]

Place = tuple[str, str]
"""A schema and a name."""


class Reference(NamedTuple):
    """A foreign key: whether it acts on ``child`` when rows of ``parent`` go, or when these columns of them change.

    Without columns, any may be meant.
    """

    child: Place
    parent: Place
    on_delete: bool
    on_update: bool
    columns: frozenset[str] = frozenset()

    def acts(self, *, removes: bool, columns: frozenset[str] | None) -> bool:
        """Whether it does, when rows of the parent are removed, or these of its columns change; ``None``: any."""
        if removes and self.on_delete:
            return True
        if not self.on_update or columns == frozenset():
            return False
        return columns is None or not self.columns or not self.columns.isdisjoint(columns)


class Function(NamedTuple):
    """A function of the app's own making.

    Args:
        volatility: ``i`` (its result depends on its arguments only), ``s`` (it reads) or ``v`` (it may do anything).
        is_sql: whether it is written in SQL or a language of the database; one in C writes no tables.
        sets: whether it may change settings of its connection by itself.
        calls: what it calls.
    """

    volatility: str
    is_sql: bool = True
    sets: bool = False
    calls: frozenset[str] = frozenset()


@dataclass
class Relation:
    """A table or a view."""

    kind: str = "table"
    """``table``, ``view``, ``materialised``, ``sequence`` or ``temporary``."""
    keys: dict[str, KeyKind | None] = field(default_factory=dict)
    """The primary key's columns, in order."""
    body: Body | None = None
    """What a view is made of."""
    is_visible: bool = True
    """Whether its name alone is enough."""
    is_secured: bool = False
    """Whether each asker sees rows of their own (row level security)."""


@dataclass
class Catalogue:
    """What a database says of itself."""

    default_schema: str = ""
    folds_case: bool = False
    """Whether names are the same in any case, also quoted ones."""
    relations: dict[Place, Relation] = field(default_factory=dict)
    references: list[Reference] = field(default_factory=list)
    kin: list[tuple[Place, Place]] = field(default_factory=list)
    """Tables that have rows in common: partitions, inheritance."""
    functions: dict[str, Function] = field(default_factory=dict)
    """By name, in lower case, with and without the schema."""
    operators: dict[str, list[str]] = field(default_factory=dict)
    """The functions behind operators of the app's own."""
    casts: list[str] = field(default_factory=list)
    """The functions behind casts of the app's own: any statement may call them, and names none."""
    volatile: frozenset[str] = frozenset()
    """The database's own functions that answer differently each time, or to each asker."""
    triggers: dict[Place, list[Body]] = field(default_factory=dict)
    is_read: bool = False
    _visible: dict[str, Place] = field(default_factory=dict)

    def add(self, schema: str, name: str, relation: Relation) -> None:
        """Put a relation in."""
        place = (schema, name)
        self.relations[place] = relation
        if relation.is_visible and (name not in self._visible or schema == self.default_schema):
            self._visible[name] = place

    def says_as(self, other: Catalogue) -> bool:
        """Whether statements do the same by either: visibility and row security are their connection's."""
        return self._compared == other._compared

    @property
    def _compared(self) -> tuple[Any, ...]:
        return (
            {place: (each.kind, each.keys, each.body) for place, each in self.relations.items()},
            set(self.references),
            set(self.kin),
            self.functions,
            {symbol: set(names) for symbol, names in self.operators.items()},
            set(self.casts),
            {place: set(bodies) for place, bodies in self.triggers.items()},
        )

    def place(self, schema: str, name: str, *, is_exact: bool) -> tuple[Place, bool]:
        """What a name stands for, and whether it is known."""
        if self.folds_case or not is_exact:
            schema, name = schema.lower(), name.lower()
        if schema:
            return (schema, name), (schema, name) in self.relations
        found = self._visible.get(name)
        return ((self.default_schema, name), False) if found is None else (found, True)

    def sets(self, name: str, seen: frozenset[str] = frozenset()) -> bool:
        """Whether a function may change settings of its connection, by itself or by what it calls."""
        found = self.functions.get(name)
        if found is None or name in seen:
            return False
        return found.sets or any(self.sets(each, seen | {name}) for each in found.calls)

    def related(self, place: Place) -> frozenset[Place]:
        """The tables that share rows with one, itself included."""
        found, todo = {place}, [place]
        while todo:
            each = todo.pop()
            for one, other in self.kin:
                for known, new in ((one, other), (other, one)):
                    if known == each and new not in found:
                        found.add(new)
                        todo.append(new)
        return frozenset(found)


def read_catalogue(dialect: Any, connection: Any) -> Catalogue:
    """Read a database's catalogue.

    Args:
        dialect: SQLAlchemy's.
        connection: the driver's, which the next statement will run on.
    """
    catalogue = Catalogue(default_schema=dialect.default_schema_name or "")
    reader = _READERS.get(dialect.name)
    if reader is None:
        return catalogue

    def ask(query: str) -> list[Any]:
        with closing(connection.cursor()) as cursor:
            cursor.execute(query)
            return [tuple(row) for row in cursor.fetchall()]

    reader(catalogue, ask)
    catalogue.is_read = True
    return catalogue


Ask = Callable[[str], list[Any]]


# PostgreSQL

_PG_RELATIONS: Final = """
SELECT n.nspname, c.relname, c.relkind::text, c.relpersistence::text, pg_catalog.pg_table_is_visible(c.oid),
    CASE WHEN c.relrowsecurity THEN pg_catalog.row_security_active(c.oid) ELSE false END,
    CASE WHEN c.relkind = 'v' THEN pg_catalog.pg_get_viewdef(c.oid) END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p', 'S') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""
_PG_BASES: Final = """
SELECT DISTINCT vn.nspname, v.relname, tn.nspname, t.relname
FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass
    AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> r.ev_class
JOIN pg_catalog.pg_class v ON v.oid = r.ev_class JOIN pg_catalog.pg_namespace vn ON vn.oid = v.relnamespace
JOIN pg_catalog.pg_class t ON t.oid = d.refobjid JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
WHERE v.relkind = 'v' AND vn.nspname NOT IN ('pg_catalog', 'information_schema')
"""
_PG_KEYS: Final = """
SELECT n.nspname, c.relname, a.attname, pg_catalog.format_type(a.atttypid, NULL),
    coalesce(l.collisdeterministic, true)
FROM pg_catalog.pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position)
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE i.indisprimary AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
ORDER BY i.indrelid, k.position
"""
_PG_REFERENCES: Final = """
SELECT cn.nspname, c.relname, pn.nspname, p.relname, k.confdeltype::text, k.confupdtype::text,
    (SELECT string_agg(a.attname, ',') FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey))
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f'
"""
_PG_KIN: Final = """
SELECT cn.nspname, c.relname, pn.nspname, p.relname FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_catalog.pg_class p ON p.oid = i.inhparent JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.relkind IN ('r', 'f', 'p')
"""
#: The last column says whether it may be called as a column: it takes a row, and that has no such column. An aggregate
#: is always said to be immutable: it does what the functions do that it is made of.
_PG_FUNCTIONS: Final = """
SELECT n.nspname, p.proname, coalesce(parts.volatility, p.provolatile::text),
    CASE WHEN p.prokind = 'a' THEN 'sql' ELSE l.lanname END,
    CASE WHEN p.provolatile = 'v' THEN coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc) END,
    p.pronargs - p.pronargdefaults < 2 AND EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid = p.proargtypes[0]
        AND t.typtype IN ('c', 'd', 'p') AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = t.typrelid AND a.attname = p.proname AND NOT a.attisdropped))
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
LEFT JOIN LATERAL (SELECT max(f.provolatile::text) AS volatility FROM pg_catalog.pg_aggregate a
    JOIN pg_catalog.pg_proc f ON f.oid IN (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
    WHERE a.aggfnoid = p.oid AND f.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace) parts ON p.prokind = 'a'
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""
#: Functions that casts call, which a statement does not name.
_PG_CASTS: Final = """
SELECT DISTINCT n.nspname, p.proname FROM pg_catalog.pg_cast c
JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> 'pg_catalog' AND p.provolatile <> 'i'
"""
#: Operators of the app's own, and what they call.
_PG_OPERATORS: Final = """
SELECT o.oprname, n.nspname, p.proname FROM pg_catalog.pg_operator o
JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> 'pg_catalog' AND p.provolatile <> 'i'
"""
#: Those that take or give the number of something in the catalogue depend on it.
_PG_VOLATILE: Final = """
SELECT DISTINCT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pg_catalog' AND p.prokind = 'f'
    AND (p.provolatile = 'v' OR p.provolatile = 's' AND (p.pronargs = 0 AND NOT p.proretset OR p.proname ~ '_to_xml'
    OR p.proname ~ '^to_reg' OR 'pg_catalog.oid'::pg_catalog.regtype = ANY (p.proargtypes)
    OR 'pg_catalog.regclass'::pg_catalog.regtype = ANY (p.proargtypes)))
"""
_PG_TRIGGERS: Final = """
SELECT n.nspname, c.relname, p.prosrc, l.lanname FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
"""
#: Functions that compute defaults, checks and policies, and may write as a trigger's do.
_PG_COMPUTED: Final = """
SELECT DISTINCT n.nspname, c.relname, coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc), l.lanname
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
JOIN (SELECT 'pg_catalog.pg_attrdef'::regclass AS catalogue, oid, adrelid AS relation FROM pg_catalog.pg_attrdef
    UNION ALL SELECT 'pg_catalog.pg_constraint'::regclass, oid, conrelid FROM pg_catalog.pg_constraint
    UNION ALL SELECT 'pg_catalog.pg_policy'::regclass, oid, polrelid FROM pg_catalog.pg_policy) owner
    ON owner.catalogue = d.classid AND owner.oid = d.objid
JOIN pg_catalog.pg_class c ON c.oid = owner.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass AND p.provolatile = 'v' AND l.lanname NOT IN ('c', 'internal')
"""
#: Rules on what writes, which put other statements beside it or in its place.
_PG_RULES: Final = """
SELECT n.nspname, c.relname, pg_catalog.pg_get_ruledef(r.oid) FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE r.ev_type <> '1' AND r.ev_enabled <> 'D' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""
_RULE: Final = re.compile(r"(?is)^.*?\bdo\s+(?:also\s+|instead\s+)?")
_PG_KINDS: Final = {"v": "view", "m": "materialised", "S": "sequence"}
#: What a foreign key does to its rows: cascade, set null, set default.
_PG_ACTIONS: Final = "cnd"


def _read_postgresql(catalogue: Catalogue, ask: Ask) -> None:
    for schema, name, kind, persistence, visible, secured, definition in ask(_PG_RELATIONS):
        shown = "temporary" if persistence == "t" else _PG_KINDS.get(kind, "table")
        if shown == "temporary":  # of this connection or of another: each knows its own
            continue
        body = body_of_query(definition, "postgresql") if definition else None
        catalogue.add(schema, name, Relation(shown, body=body, is_visible=visible, is_secured=secured))
    bases: dict[Place, set[Place]] = {}
    for schema, name, base_schema, base in ask(_PG_BASES):
        bases.setdefault((schema, name), set()).add((base_schema, base))
    for place, found in bases.items():
        relation = catalogue.relations.get(place)
        if relation is not None:
            calls = relation.body.calls if relation.body is not None else frozenset[str]()
            relation.body = Body(reads=frozenset(found), calls=calls)
    for schema, name, column, type_name, is_exact in ask(_PG_KEYS):
        relation = catalogue.relations.get((schema, name))
        if relation is not None:
            relation.keys[column.lower()] = kind_of_name(type_name, "postgresql") if is_exact else None
    for schema, name, parent_schema, parent, on_delete, on_update, columns in ask(_PG_REFERENCES):
        actions = on_delete in _PG_ACTIONS, on_update in _PG_ACTIONS
        named = frozenset((columns or "").lower().split(",")) - {""}
        catalogue.references.append(Reference((schema, name), (parent_schema, parent), *actions, named))
    for schema, name, parent_schema, parent in ask(_PG_KIN):
        catalogue.kin.append(((schema, name), (parent_schema, parent)))
    _read_postgresql_functions(catalogue, ask)
    _read_postgresql_triggers(catalogue, ask)


def _read_postgresql_functions(catalogue: Catalogue, ask: Ask) -> None:
    """What is called: by its name, as a column, or by an operator."""
    for schema, name, volatility, language, source, takes_row in ask(_PG_FUNCTIONS):
        function = _function(volatility, language, source)
        _add_function(catalogue, schema, name, function)
        if takes_row:
            _add_function(catalogue, "", f".{name}", function)
    for symbol, schema, name in ask(_PG_OPERATORS):
        catalogue.operators.setdefault(symbol, []).append(f"{schema}.{name}".lower())
    catalogue.casts.extend(f"{schema}.{name}".lower() for schema, name in ask(_PG_CASTS))
    catalogue.volatile = frozenset(name for (name,) in ask(_PG_VOLATILE))


def _read_postgresql_triggers(catalogue: Catalogue, ask: Ask) -> None:
    """What writes because something else does: triggers, what computes values, and rules."""
    for schema, name, source, language in (*ask(_PG_TRIGGERS), *ask(_PG_COMPUTED)):
        body = body_of(source, "postgresql") if language in ("plpgsql", "sql") else Body(is_known=False)
        catalogue.triggers.setdefault((schema, name), []).append(body)
    for schema, name, rule in ask(_PG_RULES):
        body = body_of(_RULE.sub("", rule, count=1), "postgresql", schema)
        catalogue.triggers.setdefault((schema, name), []).append(body)


def _function(volatility: str, language: str, source: str | None) -> Function:
    if language in ("c", "internal"):
        return Function(volatility, is_sql=False)
    if volatility != "v":
        return Function(volatility)
    if source is None or language not in ("plpgsql", "sql"):
        return Function(volatility, sets=True)
    return Function(volatility, sets=may_set(source), calls=body_of(source, "postgresql").calls)


def _add_function(catalogue: Catalogue, schema: str, name: str, function: Function) -> None:
    for key in (name.lower(), f"{schema}.{name}".lower() if schema else name.lower()):
        known = catalogue.functions.get(key)
        if known is None or "isv".index(known.volatility) < "isv".index(function.volatility):
            catalogue.functions[key] = function


# MySQL and MariaDB

_MY_OWN: Final = "('information_schema', 'mysql', 'performance_schema', 'sys')"
_MY_TABLES: Final = (
    f"SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema NOT IN {_MY_OWN}"
)
_MY_VIEWS: Final = (
    "SELECT table_schema, table_name, view_definition FROM information_schema.views "
    f"WHERE table_schema NOT IN {_MY_OWN}"
)
_MY_KEYS: Final = (
    "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns "
    f"WHERE column_key = 'PRI' AND table_schema NOT IN {_MY_OWN} ORDER BY table_schema, table_name, ordinal_position"
)
_MY_REFERENCES: Final = (
    "SELECT r.constraint_schema, r.table_name, r.unique_constraint_schema, r.referenced_table_name, r.delete_rule, "
    "r.update_rule, k.referenced_column_name FROM information_schema.referential_constraints r "
    "JOIN information_schema.key_column_usage k ON k.constraint_schema = r.constraint_schema "
    "AND k.constraint_name = r.constraint_name AND k.table_name = r.table_name "
    f"WHERE r.constraint_schema NOT IN {_MY_OWN}"
)
_MY_FUNCTIONS: Final = (
    "SELECT routine_schema, routine_name, is_deterministic, sql_data_access, routine_definition "
    "FROM information_schema.routines "
    f"WHERE routine_schema NOT IN {_MY_OWN}"
)
_MY_TRIGGERS: Final = (
    "SELECT event_object_schema, event_object_table, action_statement FROM information_schema.triggers "
    f"WHERE trigger_schema NOT IN {_MY_OWN}"
)


def _read_mysql(catalogue: Catalogue, ask: Ask) -> None:
    catalogue.folds_case = True
    catalogue.default_schema = catalogue.default_schema.lower()
    default = catalogue.default_schema
    for schema, name, kind in ask(_MY_TABLES):
        shown = next((each for each in ("view", "sequence") if each.upper() in kind), "table")
        found = Relation(shown, is_visible=schema.lower() == default)
        catalogue.add(schema.lower(), name.lower(), found)
    for schema, name, definition in ask(_MY_VIEWS):
        relation = catalogue.relations.get((schema.lower(), name.lower()))
        if relation is not None:  # without the right to see it, there is no definition
            known = body_of_query(definition, "mysql", schema.lower()) if definition else Body(is_known=False)
            relation.body = known
    for schema, name, column, type_name in ask(_MY_KEYS):
        relation = catalogue.relations.get((schema.lower(), name.lower()))
        if relation is not None:
            relation.keys[column.lower()] = kind_of_name(type_name, "mysql")
    acts = ("CASCADE", "SET NULL", "SET DEFAULT")
    for schema, name, parent_schema, parent, on_delete, on_update, column in ask(_MY_REFERENCES):
        child, of = (schema.lower(), name.lower()), (parent_schema.lower(), parent.lower())
        named = frozenset([column.lower()] if column else [])
        catalogue.references.append(Reference(child, of, on_delete in acts, on_update in acts, named))
    for schema, name, deterministic, access, source in ask(_MY_FUNCTIONS):
        volatility = "i" if access == "NO SQL" and deterministic == "YES" else "v"
        volatility = "s" if access == "READS SQL DATA" and deterministic == "YES" else volatility
        sets = source is None or may_set(source)
        calls = frozenset[str]() if source is None else body_of(source, "mysql").calls
        _add_function(catalogue, schema, name, Function(volatility, sets=sets, calls=calls))
    for schema, name, statement in ask(_MY_TRIGGERS):
        body = body_of(statement, "mysql", schema.lower())
        catalogue.triggers.setdefault((schema.lower(), name.lower()), []).append(body)


# SQLite

#: The flag of functions whose result depends on their arguments only.
_DETERMINISTIC: Final = 0x800
#: Flagged as if they did not, for other reasons.
_AGGREGATES: Final = re.compile(
    r"avg|count|cume_dist|\w*rank|first_value|group_concat|lag|last_value|lead|max|min|n(?:th_value|tile)|row_number|"
    r"string_agg|sum|total|current_\w+|match|matchinfo|bm25|highlight|snippet|offsets|optimize|rtree\w+|fts\w+|"
    r"sqlite_\w+|load_extension|like|glob|json\w*"
)


def _read_sqlite(catalogue: Catalogue, ask: Ask) -> None:
    catalogue.folds_case = True
    catalogue.default_schema = catalogue.default_schema or "main"
    for _, schema, _ in ask("PRAGMA database_list"):
        if schema != "temp":
            _read_sqlite_schema(catalogue, ask, schema)
    catalogue.volatile, own = _sqlite_functions(ask)
    for name in own:
        _add_function(catalogue, "main", name, Function("s"))


def _sqlite_functions(ask: Ask) -> tuple[frozenset[str], set[str]]:
    """The functions of SQLite's own that answer differently each time; those that the app has made."""
    volatile, own = set(), set()
    for name, builtin, flags in ask("SELECT DISTINCT name, builtin, flags FROM pragma_function_list"):
        is_plain = bool(flags & _DETERMINISTIC) or _AGGREGATES.fullmatch(name)
        if builtin and not is_plain:
            volatile.add(name.lower())
        elif not builtin and not is_plain:
            own.add(name)
    return frozenset(volatile), own


def _read_sqlite_schema(catalogue: Catalogue, ask: Ask, schema: str) -> None:
    quoted = schema.replace('"', '""')
    place = schema.lower()
    triggers: list[tuple[str, str]] = []
    for kind, name, on, sql in ask(f'SELECT type, name, tbl_name, sql FROM "{quoted}".sqlite_master'):
        if kind in ("table", "view") and not name.startswith("sqlite_"):
            body = body_of_query(sql, "sqlite", place) if kind == "view" else None
            catalogue.add(place, name.lower(), Relation(kind, body=body))
        elif kind == "trigger":
            triggers.append((on.lower(), sql))
    for on, sql in triggers:
        start = re.search(r"(?i)\bbegin\b", sql)
        body = body_of(sql[start.end() :] if start else sql, "sqlite", place)
        catalogue.triggers.setdefault((place, on), []).append(body)
    if place == "temp":
        return
    keys = (
        f'SELECT m.name, p.name, p.type, m.sql FROM "{quoted}".sqlite_master AS m, '
        f"pragma_table_info(m.name, '{schema}') AS p WHERE m.type = 'table' AND p.pk > 0 ORDER BY m.name, p.pk"
    )
    for name, column, type_name, sql in ask(keys):
        relation = catalogue.relations.get((place, name.lower()))
        if relation is not None:
            is_exact = "collate" not in sql.lower()
            relation.keys[column.lower()] = kind_of_name(type_name, "sqlite") if is_exact else None
    references = (
        f'SELECT m.name, f."table", f.on_delete, f.on_update, f."to" FROM "{quoted}".sqlite_master AS m, '
        f"pragma_foreign_key_list(m.name, '{schema}') AS f WHERE m.type = 'table'"
    )
    acts = ("CASCADE", "SET NULL", "SET DEFAULT")
    for name, parent, on_delete, on_update, column in ask(references):
        child, of = (place, name.lower()), (place, parent.lower())
        named = frozenset([column.lower()] if column else [])
        catalogue.references.append(Reference(child, of, on_delete in acts, on_update in acts, named))


_READERS: Final[Mapping[str, Callable[[Catalogue, Ask], None]]] = {
    "postgresql": _read_postgresql,
    "mysql": _read_mysql,
    "mariadb": _read_mysql,
    "sqlite": _read_sqlite,
}
