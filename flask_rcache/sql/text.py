"""Textual SQL: what a statement's text names, by sqlglot in the engine's dialect. Pure, without a database.

Owns the parsing, and the statements that are no queries (transactions, settings, utilities). What is not known to be
understood may do anything. Placeholders and the names that a text calls are ``tokens``'s. What it makes is a
:class:`~flask_rcache.sql.shapes.Shape`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, cast

import sqlglot
from sqlglot import ErrorLevel, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType  # type: ignore[attr-defined,unused-ignore]

from .shapes import Pin, Ref, Shape, ShapeBuilder, Source
from .statements import Kind
from .tokens import calls_of, plain_text, sqlglot_dialect

__all__ = ["SCRIPT", "is_understood", "may_set", "shape_of_parsed", "shape_of_text"]

#: The verb of a text with several statements, one of which may end the transaction.
SCRIPT: Final = "SCRIPT"

Expression: TypeAlias = exp.Expression  # pyright: ignore[reportPrivateImportUsage]  # elsewhere in each release

#: Where one of these is in a query that is not understood, it may write.
_WRITING: Final = re.compile(r"(?i)\b(?:delete|insert|into|merge|update)\b")
_WORD: Final = re.compile(r"[A-Za-z_]+")
_LEADING: Final = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|#[^\n]*(?:\n|$)|/\*.*?\*/|\()*", re.DOTALL)

_QUERIES: Final = frozenset({"select", "with", "insert", "update", "delete", "merge", "table", "values", "replace"})
_DDL: Final = frozenset({"alter", "create", "drop", "rename", "truncate"})
_TRANSACTIONS: Final = frozenset(
    {"abort", "begin", "commit", "end", "prepare", "release", "rollback", "savepoint", "start", "xa"}
)
_SETTINGS: Final = frozenset({"attach", "detach", "discard", "reset", "set", "use"})
#: They neither read nor write rows, and their answers are nobody's page. What is not listed may do anything.
_OTHERS: Final = frozenset(
    {
        *("analyze", "checkpoint", "close", "cluster", "deallocate", "flush", "kill", "listen", "notify", "optimize"),
        *("reindex", "unlisten", "vacuum"),
    }
)
#: Their answers are about the server, or for one asker.
_ANSWERS: Final = frozenset({"desc", "describe", "explain", "fetch", "lock", "move", "pragma", "show", "unlock"})
#: Where one of these is in a statement that is no query, it may run another one.
_RUNNING: Final = frozenset(
    {"call", "delete", "do", "execute", "insert", "merge", "replace", "select", "truncate", "update"}
)
#: A comment that MySQL and MariaDB carry out.
_CARRIED_OUT_COMMENT: Final = re.compile(r"/\*M?!")


# The statement


#: What changes how a connection answers afterwards, or may be put together to do so.
_SETS: Final = re.compile(
    r"(?is)\bset_config\b|(?:^|[;$]|\bbegin|\bthen|\belse|\bloop|\batomic)\s*(?:set|reset|discard)\b"
    r"|\b(?:execute|temp|temporary|pg_temp|dblink\w*)\b"
)
_COMMENT: Final = re.compile(r"(?s)--[^\n]*|/\*.*?\*/")


def may_set(source: str) -> bool:
    """Whether a body may change settings of its connection, or give it tables of its own, by itself.

    Args:
        source: its text.

    >>> may_set("BEGIN UPDATE item SET n = 1; END"), may_set("BEGIN SET search_path TO a; END")
    (False, True)
    """
    return _SETS.search(_COMMENT.sub(" ", source)) is not None


def shape_of_text(sql: str, dialect: str, lists: frozenset[str] = frozenset()) -> Shape:
    """What a statement's text names.

    Args:
        sql: its text; placeholders are ``:name``.
        dialect: SQLAlchemy's name of it.
        lists: the placeholders that stand for lists.
    """
    glot = sqlglot_dialect(dialect)
    if glot == "mysql" and _CARRIED_OUT_COMMENT.search(sql):
        return _anything("a comment in it is carried out")
    text = sql[_LEADING.match(sql).end() :]  # type: ignore[union-attr]  # it matches nothing, too
    word = _WORD.match(text)
    verb = word[0].lower() if word else ""
    parts = _parts(sql, glot) if ";" in text and not _HAS_BODY.match(text) else ()
    if len(parts) > 1:
        return _script([shape_of_text(each, dialect, lists) for each in parts])
    if verb in _QUERIES or verb == "copy":
        return _query(sql if verb != "replace" else _without_replace(text), glot, lists, replaces=verb == "replace")
    if verb in _DDL:
        return _ddl(sql, text, verb, glot)
    plain = plain_text(text, verb, glot)
    return _anything("its text can't be read") if plain is None else _command(plain, verb, dialect, lists)


def _anything(problem: str) -> Shape:
    """A statement of which nothing can be said."""
    builder = ShapeBuilder()
    builder.kind = Kind.WRITE
    builder.give_up(problem)
    return builder.shape({"?"}, may_set=True, verb=SCRIPT)


#: What has statements of its own inside.
_HAS_BODY: Final = re.compile(
    r"(?is)(?:create\s(?:[^;]*?\s)?(?:trigger|function|procedure|event|package)\b|begin\s+not\s+atomic\b)"
)


def _parts(sql: str, dialect: str) -> Sequence[str]:
    """The statements of a text; itself where they can't be told apart."""
    try:
        tokens = Dialect.get_or_raise(dialect or None).tokenize(sql)
    except SqlglotError:
        return [sql]
    ends = [token.start for token in tokens if token.token_type is TokenType.SEMICOLON]
    found = [sql[start:end] for start, end in zip([0, *[end + 1 for end in ends]], [*ends, len(sql)], strict=True)]
    return [each for each in found if each[_LEADING.match(each).end() :].strip()]  # type: ignore[union-attr]


def _script(shapes: Sequence[Shape]) -> Shape:
    """What several statements in one text name together: none of them says which rows the others leave."""
    builder = ShapeBuilder()
    kinds = {shape.kind for shape in shapes}
    order = (Kind.DDL, Kind.WRITE) if Kind.TRANSACTION in kinds else (Kind.DDL, Kind.WRITE, Kind.READ)
    builder.kind = next((kind for kind in order if kind in kinds), Kind.OTHER)
    for shape in shapes:
        for ref in shape.reads:
            builder.read(ref)
        for ref in shape.writes:
            columns = shape.updates.get(ref)
            builder.write(ref, () if columns is None else columns or None)
            if shape.updates.get(ref) == frozenset():  # it loses rows, whatever others change of it
                builder.updates[ref] = frozenset({"*"})
        builder.reads_all |= shape.reads_all
        builder.writes_all |= shape.writes_all
        builder.is_temporary |= shape.is_temporary
        builder.cascades |= shape.cascades
        builder.replaces |= shape.replaces
        builder.volatile = builder.volatile or shape.volatile
        builder.problem = builder.problem or shape.problem
    calls = frozenset().union(*(shape.calls for shape in shapes))
    if Kind.SETTING in kinds:
        calls |= {"set_config"}
    # It may end the transaction on the way, and no one is told.
    sets = any(shape.may_set for shape in shapes)
    return builder.shape(calls, may_set=sets, verb=SCRIPT if Kind.TRANSACTION in kinds else "")


def _without_replace(text: str) -> str:
    """``REPLACE INTO``, which sqlglot does not parse, as an ``INSERT``."""
    return re.sub(r"(?i)^replace(?:\s+(?:low_priority|delayed))?(?:\s+into)?", "INSERT INTO", text, count=1)


def _query(sql: str, glot: str, lists: frozenset[str], *, replaces: bool = False) -> Shape:
    builder = ShapeBuilder()
    builder.replaces = replaces
    sql = re.sub(r"(?i)^(\s*update)\s+or\s+(?:rollback|abort|replace|fail|ignore)\s", r"\1 ", sql, count=1)
    try:
        parsed = [each for each in sqlglot.parse(sql, dialect=glot or None, error_level=ErrorLevel.IMMEDIATE) if each]
    except (SqlglotError, RecursionError) as error:
        only_reads = re.match(r"(?i)[\s(]*(?:select|values|table)\b", sql) and not _WRITING.search(sql)
        builder.give_up(f"sqlglot can't parse it: {str(error).splitlines()[0]:.200}", writes=not only_reads)
        return builder.shape(calls_of(sql, glot))
    return shape_of_parsed([cast(Expression, each) for each in parsed], builder, calls_of(sql, glot), lists)


def shape_of_parsed(
    nodes: Sequence[Expression],
    builder: ShapeBuilder | None = None,
    calls: frozenset[str] = frozenset(),
    lists: frozenset[str] = frozenset(),
) -> Shape:
    """What statements name that are parsed already.

    Args:
        nodes: sqlglot's.
        builder: what is known of them before.
        calls: the names that their text calls.
        lists: the placeholders that stand for lists.
    """
    builder = builder or ShapeBuilder()
    for each in nodes:
        _Walk(builder, lists).statement(each)
    if len(nodes) != 1:
        builder.read_pins.clear()
        builder.written_pins.clear()
        builder.inserts = None
    return builder.shape(calls)


#: The name of a temporary table or view that is created without a query.
_OWN_TABLE: Final = re.compile(
    r"(?is)create\s+(?:or\s+replace\s+)?(?:(?:global|local)\s+)?temp(?:orary)?\s+(?:unlogged\s+)?table\s+"
    r"(?:if\s+not\s+exists\s+)?((?:[\w$]+|\"[^\"]+\"|`[^`]+`)(?:\s*\.\s*(?:[\w$]+|\"[^\"]+\"|`[^`]+`))?)(?!.*\bselect\b)"
)


def _ddl(sql: str, text: str, verb: str, glot: str) -> Shape:
    builder = ShapeBuilder()
    builder.kind = Kind.WRITE if verb == "truncate" else Kind.DDL
    words = [word.lower() for word in _WORD.findall(text[:80])]
    builder.is_temporary = verb == "create" and bool({"temp", "temporary"} & set(words[:5]))
    own = _OWN_TABLE.match(text) if builder.is_temporary else None
    if own is not None:  # much that may follow the name sqlglot does not parse
        builder.write(_ref_of_text(own[1]))
        return builder.shape(verb=verb.upper())
    try:
        (parsed,) = sqlglot.parse(sql, dialect=glot or None, error_level=ErrorLevel.IMMEDIATE)
    except (SqlglotError, RecursionError, ValueError) as error:
        builder.give_up(f"sqlglot can't parse it: {str(error).splitlines()[0]:.200}")
        return builder.shape(verb=verb.upper())
    if isinstance(parsed, exp.TruncateTable):
        builder.cascades = parsed.args.get("option") == "CASCADE" or bool(re.search(r"(?i)\bcascade\b", text))
        for each in parsed.expressions:
            builder.write(_ref(each))
        return builder.shape(verb=verb.upper())
    _defined(builder, parsed, verb)
    return builder.shape(calls_of(sql, glot) if isinstance(parsed, exp.Create) else (), verb=verb.upper())


def _defined(builder: ShapeBuilder, parsed: Any, verb: str) -> None:
    """What a ``CREATE``, ``ALTER`` or ``DROP`` concerns."""
    kind = str(parsed.args.get("kind") or "").upper() if parsed is not None else ""
    if parsed is None or isinstance(parsed, exp.Command) or kind not in ("TABLE", "VIEW", "INDEX"):
        if kind not in ("SEQUENCE", "EXTENSION"):
            builder.give_up(f"{verb.upper()} {kind}".strip() + " may change what anything reads")
        return
    walk = _Walk(builder, frozenset())
    body = parsed.args.get("expression")
    if isinstance(body, Expression) and kind == "TABLE":
        walk.visit(body, frozenset())
    names = [parsed.this, *parsed.args.get("tables", ())] if parsed.this is not None else parsed.args.get("tables", ())
    for each in names:
        for table in each.find_all(exp.Table) if isinstance(each, Expression) else ():
            if isinstance(table.this, exp.Identifier):
                builder.write(_ref(table))
                break
    if isinstance(parsed, exp.Alter):
        for table in parsed.find_all(exp.Table):
            builder.write(_ref(table))
    builder.cascades = bool(parsed.args.get("cascade"))
    builder.kind = Kind.DDL


#: Statements that show the plan of another one, and may carry it out: MariaDB does with a plain ``ANALYZE``.
_CARRIED_OUT: Final = re.compile(
    r"(?is)(?:explain\s*\([^)]*\)|(?:explain|analy[sz]e|describe|desc|verbose|extended|partitions|format\s*=\s*\w+)\s+)+"
    r"(?=[\s(]*(?:select|with|insert|update|delete|merge|replace|table|values|create|execute|declare|refresh)\b)"
)
_ANALYZE: Final = re.compile(r"(?i)\banaly[sz]e\b")
_EXPLAINS: Final = frozenset({"analyse", "analyze", "desc", "describe", "explain"})
#: Statements that fill a table or a materialised view: the whole of what is before its name, strings included.
_NAME: Final = r"((?:\w+|\"[^\".]+\"|`[^`.]+`)(?:\.(?:\w+|\"[^\".]+\"|`[^`.]+`))?)(?=\s|\(|$)"
_LOADED: Final = {
    "refresh": re.compile(rf"(?is)refresh\s+materialized\s+view\s+(?:concurrently\s+)?{_NAME}"),
    "load": re.compile(
        r"(?is)load\s+data\s+(?:(?:low_priority|concurrent|local)\s+)*infile\s+(?:'[^'\\]*'|:\w+)\s+"
        rf"(?:(?:replace|ignore)\s+)?into\s+table\s+{_NAME}(?!.*\(\s*select\b)"
    ),
}


def _command(text: str, verb: str, dialect: str, lists: frozenset[str]) -> Shape:
    """A statement that is no query."""
    words = [word.lower() for word in re.findall(r"[\w.@]+", text)]
    builder = ShapeBuilder()
    second = words[1] if len(words) > 1 else ""
    is_block = verb == "begin" and second == "not"  # BEGIN NOT ATOMIC … END
    is_transaction = verb in _TRANSACTIONS and second == "transaction" if verb in ("prepare", "start") else not is_block
    if verb in _TRANSACTIONS and is_transaction:
        builder.kind = Kind.TRANSACTION
        return _transaction(builder, verb, words, text)
    builder.kind = Kind.OTHER
    runs = not _RUNNING.isdisjoint(words[1:])
    if verb in _SETTINGS and not runs:
        return _setting(builder, verb, words, text, dialect)
    if verb == "pragma" and ("=" in text or "(" in text):
        builder.kind = Kind.SETTING
        name = words[1].rpartition(".")[2] if len(words) > 1 else ""
        # Most are about how the file is kept, and change no answer; others show something.
        known = () if name in _PRAGMAS else (name,)
        builder.volatile = "PRAGMA"
        return builder.shape(verb="PRAGMA", what=known)
    carried_out = _CARRIED_OUT.match(text) if verb in _EXPLAINS else None
    if carried_out is not None and _ANALYZE.search(carried_out[0]):
        rest = text[carried_out.end() :]
        return shape_of_text(rest, dialect, lists)._replace(volatile="EXPLAIN", read_pins=(), written_pins=())
    may_run = runs and (verb in _OTHERS or _ANALYZE.search(text) is not None)
    if verb in _ANSWERS and not may_run:
        builder.volatile = verb.upper()
        return builder.shape(verb=verb.upper())
    loaded = _LOADED[verb].match(text) if verb in _LOADED else None
    if loaded is not None:
        builder.replaces = True
        builder.write(_ref_of_text(loaded[1]), ())
        builder.kind = Kind.WRITE
        return builder.shape(verb=verb.upper())
    if verb == "declare":
        found = re.search(r"(?is)\scursor\s(?:with(?:out)?\shold\s)?for\s", text)
        if found is not None:
            return shape_of_text(text[found.end() :], dialect, lists)._replace(read_pins=())
    if verb == "prepare" or (verb in _OTHERS and not may_run):
        return builder.shape(verb=verb.upper())
    name = re.match(r"(?is)(?:call|exec(?:ute)?)\s+([\w.]+)", text)
    builder.kind = Kind.WRITE
    if verb == "call" and name:
        calls = calls_of(f"_ {text[len(verb) :]}", sqlglot_dialect(dialect))
        return builder.shape(calls - {f".{name[1].rpartition('.')[2].lower()}"} | {name[1].lower()}, verb="CALL")
    builder.give_up(f"{verb.upper() or 'an empty statement'} may do anything")
    return builder.shape(calls_of(text, sqlglot_dialect(dialect)), verb=verb.upper(), may_set=may_set(_unquoted(text)))


def _unquoted(text: str) -> str:
    """The text of a block, whatever it is quoted with."""
    return text.replace("$$", " ; ").replace("'", " ; ")


def _transaction(builder: ShapeBuilder, verb: str, words: list[str], text: str) -> Shape:
    names = re.findall(r"'([^']*)'", text) or words[-1:]
    if verb == "xa":
        return builder.shape(verb=f"XA {words[1].upper()}" if len(words) > 1 else "XA", what=tuple(names))
    if "prepared" in words[1:2]:
        return builder.shape(verb=f"{verb.upper()} PREPARED", what=tuple(names))
    if verb == "prepare":
        return builder.shape(verb="PREPARE TRANSACTION", what=tuple(names))
    if verb in ("rollback", "abort") and "to" in words[1:4]:
        return builder.shape(verb="ROLLBACK TO", what=tuple(words[-1:]))
    if verb in ("savepoint", "release"):
        return builder.shape(verb=verb.upper(), what=tuple(words[-1:]))
    plain = {"start": "BEGIN", "end": "COMMIT", "abort": "ROLLBACK"}.get(verb, verb.upper())
    return builder.shape(verb=plain)


#: Settings of SQLite that change no answer.
_PRAGMAS: Final = frozenset(
    {
        *("analysis_limit", "application_id", "auto_vacuum", "automatic_index", "busy_timeout", "cache_size"),
        *("cache_spill", "foreign_keys", "incremental_vacuum", "integrity_check", "journal_mode"),
        *("journal_size_limit", "locking_mode", "mmap_size", "optimize", "page_size", "quick_check"),
        *("secure_delete", "synchronous", "table_info", "table_xinfo", "temp_store", "threads", "user_version"),
        *("wal_autocheckpoint", "wal_checkpoint", "foreign_key_list", "index_list", "index_info", "index_xinfo"),
        *("foreign_key_check", "table_list", "max_page_count", "hard_heap_limit", "soft_heap_limit"),
    }
)


def _setting(builder: ShapeBuilder, verb: str, words: list[str], text: str, dialect: str) -> Shape:
    builder.kind = Kind.SETTING
    rest = [word for word in words[1:] if word not in ("session", "local", "global")]
    if verb == "set" and rest[:1] in (["transaction"], ["characteristics"], ["constraints"]):
        return builder.shape(verb=f"SET {rest[0].upper()}")
    if verb == "set" and dialect in ("mysql", "mariadb"):  # several at once, each perhaps from a function
        names = [name[1].lower() for each in _STRING.sub("''", text[3:]).split(",") if (name := _SET_NAME.match(each))]
        return builder.shape(calls_of(f"_ {text[3:]}", "mysql") - {"@"}, verb="SET", what=tuple(names))
    return builder.shape(verb=verb.upper(), what=tuple(rest[:1]))


_STRING: Final = re.compile(r"'[^']*'|\"[^\"]*\"")
_SET_NAME: Final = re.compile(r"(?i)\s*(?:@@)?(?:(?:session|local|global)[\s.]+)?([\w@]+)")


# Names and values in the parsed statement


def _ref_of_text(name: str) -> Ref:
    parts = [part.strip('`"[]') for part in name.split(".")]
    exact = name.startswith(('"', "`"))
    return Ref(parts[-2] if len(parts) > 1 else "", parts[-1], exact)


def _ref(table: Expression) -> Ref:
    this = table if isinstance(table, exp.Table) else table.find(exp.Table)
    if this is None:
        return Ref("", table.name)
    return Ref(this.db, this.name, bool(getattr(this.this, "quoted", False) or this.args.get("quoted")))


def _value(node: Any, lists: frozenset[str]) -> Source | None:
    """Where a value comes from; ``None`` for anything but a parameter or a literal."""
    while isinstance(node, exp.Cast | exp.Paren):
        node = node.this
    if isinstance(node, exp.Placeholder) and node.name:
        return Source(node.name, node.name in lists)
    if isinstance(node, exp.Literal):
        return Source(literal=node.this if node.is_string else _number(node.this))
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
        return Source(literal=-_number(node.this.this))
    return None


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _conjuncts(node: Any) -> Iterator[Any]:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.expression)
    elif node is not None:
        yield node


def _compared(where: Any, lists: frozenset[str]) -> Iterator[tuple[exp.Column, tuple[Source, ...]]]:
    """The columns that have to equal a value, or one of several."""
    for each in _conjuncts(where):
        if isinstance(each, exp.EQ):
            for left, right in ((each.this, each.expression), (each.expression, each.this)):
                value = _value(right, lists) if isinstance(left, exp.Column) else None
                if value is not None:
                    yield left, (value,)
        elif isinstance(each, exp.In) and isinstance(each.this, exp.Column) and each.expressions:
            values = [_value(item, lists) for item in each.expressions]
            if all(value is not None for value in values):
                yield each.this, tuple(value for value in values if value is not None)


def _pins(tables: Iterable[exp.Table], where: Any, lists: frozenset[str]) -> Iterator[Pin]:
    """The tables of which a condition leaves single rows."""
    aliases = {table.alias_or_name.lower(): table for table in tables}
    found: dict[str, dict[str, tuple[Source, ...]]] = {}
    for column, sources in _compared(where, lists):
        qualifier = column.table.lower()
        if not qualifier and len(aliases) == 1:
            qualifier = next(iter(aliases))
        if qualifier in aliases:
            found.setdefault(qualifier, {}).setdefault(column.name.lower(), sources)
    for alias, columns in found.items():
        yield Pin(_ref(aliases[alias]), columns)


#: Where sqlglot has the index of ``INDEXED BY``, as if that were a table.
_INDEX: Final = ("indexed",)


class _Walk:
    """One statement, walked for its tables; names of CTEs are known by where they are in scope."""

    def __init__(self, builder: ShapeBuilder, lists: frozenset[str]) -> None:
        self._builder: Final = builder
        self._lists: Final = lists

    def statement(self, node: Expression) -> None:
        """The whole statement."""
        builder = self._builder
        if not isinstance(node, _STATEMENTS):
            builder.give_up(f"{type(node).__name__} is not understood")
        self.visit(node, frozenset())
        if isinstance(node, exp.Select) and builder.queries == 1:
            tables = [table for table in self._joined(node) if builder.reads.get(_ref(table), 0) == 1]
            where = node.args.get("where")
            builder.read_pins.extend(_pins(tables, where.this if where else None, self._lists))
        elif isinstance(node, exp.Update | exp.Delete) and len(builder.writes) == 1 and not node.args.get("with_"):
            target = node.this
            where = node.args.get("where")
            if isinstance(target, exp.Table) and not target.args.get("joins"):
                builder.written_pins.extend(_pins([target], where.this if where else None, self._lists))

    def _joined(self, select: exp.Select) -> Iterator[exp.Table]:
        source = select.args.get("from_") or select.args.get("from")
        joins = select.args.get("joins") or []
        if any(str(join.args.get("side") or "").upper() == "FULL" for join in joins):
            return
        for each in (source.this if source else None, *[join.this for join in joins]):
            if isinstance(each, exp.Table) and isinstance(each.this, exp.Identifier):
                yield each

    def visit(self, node: Expression, ctes: frozenset[str]) -> None:
        """A part of it."""
        with_ = node.args.get("with_") or node.args.get("with")
        if with_ is not None:
            recursive = bool(with_.args.get("recursive"))
            names = [cte.alias.lower() for cte in with_.expressions]
            for index, cte in enumerate(with_.expressions):
                self.visit(cte.this, ctes | set(names if recursive else names[:index]))
            ctes = ctes | set(names)
        visitor = _VISITORS.get(type(node))
        if visitor is not None:
            visitor(self, node, ctes)
        else:
            if not is_understood(type(node)):
                self._builder.give_up(f"{type(node).__name__} in it is not understood")
            self._children(node, ctes)

    def _children(self, node: Expression, ctes: frozenset[str], skip: Sequence[str] = ()) -> None:
        for name, value in node.args.items():
            if name in ("with_", "with", "locks", *skip):
                continue
            for child in value if isinstance(value, list) else (value,):
                if isinstance(child, Expression):
                    self.visit(child, ctes)

    def _select(self, node: exp.Select, ctes: frozenset[str]) -> None:
        builder = self._builder
        builder.queries += 1
        if node.args.get("locks"):
            builder.volatile = builder.volatile or "FOR UPDATE"
        into = node.args.get("into")
        if into is not None:
            builder.kind = Kind.DDL
            builder.is_temporary = bool(into.args.get("temporary"))
            if isinstance(into.this, exp.Table):
                builder.write(_ref(into.this))
        self._children(node, ctes, ("into",))

    def _set_operation(self, node: Expression, ctes: frozenset[str]) -> None:
        self._builder.queries += 1
        self._children(node, ctes)

    def _table(self, node: exp.Table, ctes: frozenset[str]) -> None:
        if isinstance(node.this, exp.Identifier):
            if node.db or node.name.lower() not in (*ctes, "dual"):
                self._builder.read(_ref(node))
            self._children(node, ctes, ("this", "db", "catalog", "alias", *_INDEX))
        else:
            self._children(node, ctes)

    def _sample(self, node: Expression, ctes: frozenset[str]) -> None:
        if not node.args.get("seed"):
            self._builder.volatile = self._builder.volatile or "TABLESAMPLE"
        self._children(node, ctes)

    def _insert(self, node: exp.Insert, ctes: frozenset[str]) -> None:
        builder = self._builder
        target = node.this
        if target is None or target.find(exp.Table) is None:  # a branch of MERGE
            return self._children(node, ctes)
        ref = _ref(target)
        builder.write(ref, ())
        columns = [each.name.lower() for each in target.expressions] if isinstance(target, exp.Schema) else []
        if node.args.get("conflict") or node.args.get("overwrite") or str(node.args.get("alternative") or ""):
            builder.replaces = True
        body = node.expression
        if isinstance(body, exp.Values) and columns and not builder.replaces and len(builder.writes) == 1:
            builder.inserts = [Pin(ref, dict(self._row(columns, row))) for row in body.expressions]
        return self._children(node, ctes, ("this",))

    def _row(self, columns: Sequence[str], row: Expression) -> Iterator[tuple[str, tuple[Source, ...]]]:
        for name, item in zip(columns, row.expressions, strict=False):
            source = _value(item, self._lists)
            yield name, () if source is None else (source,)

    def _update(self, node: exp.Update, ctes: frozenset[str]) -> None:
        target = node.this
        if not isinstance(target, Expression):  # a branch of MERGE
            return self._children(node, ctes)
        changed = [each.this.name for each in node.expressions if isinstance(each, exp.EQ)]
        changed = changed if len(changed) == len(node.expressions) else ["*"]
        found = [each for each in target.find_all(exp.Table) if each.arg_key not in _INDEX]
        tables = [each for each in found if isinstance(each.this, exp.Identifier)]
        for table in tables:  # all that MySQL names in front of SET may be changed
            if table.db or table.name.lower() not in ctes:
                self._builder.write(_ref(table), changed)
        self._children(target, ctes, ("this", "db", "catalog", "alias", *_INDEX))
        return self._children(node, ctes, ("this",))

    def _delete(self, node: exp.Delete, ctes: frozenset[str]) -> None:
        named = node.args.get("tables") or []
        aliases = {table.alias_or_name.lower(): table for table in node.find_all(exp.Table) if table not in named}
        for table in named or [node.this]:
            written: Any = aliases.get(table.name.lower(), table) if named else table
            self._builder.write(_ref(written))
        self._children(node, ctes, ("tables", *(() if named else ("this",))))

    def _merge(self, node: exp.Merge, ctes: frozenset[str]) -> None:
        self._builder.write(_ref(node.this), ["*"])
        self._builder.write(_ref(node.this))
        self._children(node, ctes, ("this",))

    def _copy(self, node: exp.Copy, ctes: frozenset[str]) -> None:
        if node.args.get("kind"):  # FROM
            self._builder.write(_ref(node.this), ())
        else:
            self.visit(node.this, ctes)


_VISITORS: Final[dict[type, Any]] = {
    exp.Select: _Walk._select,
    exp.Union: _Walk._set_operation,
    exp.Except: _Walk._set_operation,
    exp.Intersect: _Walk._set_operation,
    exp.Table: _Walk._table,
    exp.TableSample: _Walk._sample,
    exp.Insert: _Walk._insert,
    exp.Update: _Walk._update,
    exp.Delete: _Walk._delete,
    exp.Merge: _Walk._merge,
    exp.Copy: _Walk._copy,
}

#: The statements that are understood as a whole; what sqlglot takes for anything else may do anything.
_STATEMENTS: Final = (
    *(exp.Select, exp.SetOperation, exp.Subquery, exp.Values, exp.Table),
    *(exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Copy),
)
#: The parts of queries and of what writes that name tables by nothing but their children. All values are such parts:
#: what a function does is asked by its name (:func:`calls_of`).
_VALUES: Final = (exp.Condition, exp.Func, exp.JSONPathPart)
_CLAUSES: Final[frozenset[type]] = frozenset(
    {
        *(exp.Subquery, exp.Values, exp.Schema, exp.Tuple, exp.With, exp.CTE, exp.RecursiveWithSearch),
        *(exp.From, exp.Join, exp.Lateral, exp.Where, exp.Group, exp.Cube, exp.Rollup, exp.GroupingSets, exp.Having),
        *(exp.Qualify, exp.WindowSpec, exp.Order, exp.Ordered, exp.Limit, exp.LimitOptions, exp.Offset, exp.Fetch),
        *(exp.Distinct, exp.Filter, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls, exp.HavingMax, exp.Lock),
        *(exp.Alias, exp.Aliases, exp.TableAlias, exp.ColumnDef, exp.Identifier, exp.Var, exp.Star, exp.Slice),
        *(exp.DataType, exp.DataTypeParam, exp.PseudoType, exp.ObjectIdentifier, exp.Interval, exp.IntervalSpan),
        *(exp.AtTimeZone, exp.FromTimeZone, exp.AtIndex, exp.Introducer, exp.National, exp.CharacterSet),
        *(exp.Hint, exp.JoinHint, exp.IndexTableHint, exp.WithTableHint, exp.QueryOption, exp.Partition, exp.Version),
        *(exp.OnConflict, exp.Returning, exp.When, exp.Whens, exp.CopyParameter, exp.Credentials, exp.Variadic),
        *(exp.JSON, exp.JSONPath, exp.JSONKeyValue, exp.JSONColumnDef, exp.JSONSchema, exp.JSONValue, exp.FormatJson),
        *(exp.JSONExtractQuote, exp.OnCondition, exp.XMLNamespace, exp.XMLKeyValueOption, exp.Lambda),
        *(exp.OverflowTruncateBehavior, exp.TranslateCharacters, exp.Semicolon),
    }
)


def is_understood(kind: type) -> bool:
    """Whether a kind of sqlglot's nodes names nothing that its children do not name.

    >>> is_understood(exp.Where), is_understood(exp.Command)
    (True, False)
    """
    return kind in _VISITORS or kind in _CLAUSES or issubclass(kind, _VALUES)
