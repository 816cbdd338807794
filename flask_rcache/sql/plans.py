"""What a shape comes to in one database: names are resolved, views followed, functions looked up, writes widened.

Owns :class:`Planner`, and :class:`Plan`, made once for each distinct statement; an execution's parameters make a
:class:`~flask_rcache.sql.statements.Statement` of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final

from ..model.named_tuple import NamedTuple
from .bodies import Body
from .catalogue import Catalogue, Place, Relation
from .declarations import Declarations, is_built_in_volatile
from .names import RowName, TableName, any_tag, row_tag, rows_tag, table_tag, unknown_tag
from .rows import KeyKind, kind_of_type, row_key
from .shapes import Pin, Ref, Shape, Source, is_own
from .statements import Kind, Statement

__all__ = ["Plan", "Planner"]

#: So many rows of one table are told apart in one statement.
_MOST_ROWS: Final = 64
_OPERATOR: Final = re.compile(r"[^\w.]+")
_SYSTEM: Final = re.compile(r"pg_\w+|information_schema|sqlite_\w+|mysql|performance_schema|sys|pragma_\w+")


class _Rows(NamedTuple):
    """Rows of a table that an execution's parameters name."""

    table: TableName
    keys: Mapping[str, KeyKind | None]
    sources: tuple[tuple[Source, ...], ...]


#: The table, its primary key, and the values of each row.
_Inserted = tuple[TableName, Mapping[str, KeyKind | None], Sequence[Pin]]


class Plan:
    """What a distinct statement does in one database.

    Attributes:
        statement: what it reads and writes, whatever its parameters; of what its rows decide, nothing.
        tags: the stamp tags of what ``statement`` reads.
        shape: of which it was made.
        unknown: names of tables that the catalogue does not have.
        problem: why it was not understood.
        may_do: what does things that are not known: a function, ``DO``.
        changes: whether it changes what follows: DDL, settings.
        expires: when it is made anew, on the monotonic clock.
    """

    __slots__ = (
        "_inserted",
        "_read_rows",
        "_written_rows",
        "changes",
        "expires",
        "is_constant",
        "is_plain_read",
        "may_do",
        "problem",
        "shape",
        "statement",
        "tags",
        "unknown",
    )

    def __init__(
        self,
        statement: Statement,
        shape: Shape,
        *,
        read_rows: Sequence[_Rows] = (),
        written_rows: Sequence[_Rows] = (),
        inserted: _Inserted | None = None,
        unknown: Sequence[str] = (),
        problem: str = "",
        may_do: str = "",
    ) -> None:
        self.statement: Final = statement
        self.shape: Final = shape
        self.tags: Final = read_tags(statement)
        self.unknown: Final = tuple(unknown)
        self.problem: Final = problem
        self._read_rows: Final = tuple(read_rows)
        self._written_rows: Final = tuple(written_rows)
        self._inserted: Final = inserted
        self.is_constant: Final = not (self._read_rows or self._written_rows or inserted)
        #: Whether it only reads, and nothing has to be said of it.
        self.is_plain_read: Final = (
            shape.kind is Kind.READ
            and not statement.is_write
            and not problem
            and statement.volatile is None
            and "set_config" not in shape.calls
            and bool(statement.reads or statement.reads_all or read_rows)
        )
        #: What it may do that is not known: then that may be settings and tables of the connection, too.
        self.may_do: Final = may_do
        self.changes: Final = shape.kind in (Kind.DDL, Kind.SETTING) or "set_config" in shape.calls or bool(may_do)
        self.expires = 0.0

    def bound(self, parameters: Sequence[Mapping[str, Any]]) -> Statement:
        """What an execution reads and writes.

        Args:
            parameters: each set by name.
        """
        if self.is_constant:
            return self.statement
        statement = self.statement
        reads, writes = set(statement.reads), set(statement.writes)
        read_rows = _named(self._read_rows, parameters, reads)
        written_rows = _named(self._written_rows, parameters, writes)
        generates = False
        if self._inserted is not None:
            table, keys, rows = self._inserted
            inserted = _inserted(table, keys, rows, parameters)
            if inserted is None or len(inserted) > _MOST_ROWS:
                writes.add(table)
                generates = inserted is None and len(parameters) <= _MOST_ROWS
            else:
                written_rows.extend(inserted)
        return statement._replace(
            reads=frozenset(reads),
            read_rows=tuple(read_rows),
            writes=frozenset(writes),
            written_rows=tuple(written_rows),
            generates_keys=generates,
        )

    def with_keys(self, statement: Statement, rows: Iterable[Any]) -> Statement:
        """The statement with the keys that the database has made for the rows that it has inserted.

        Args:
            statement: of one execution.
            rows: the primary key of each.
        """
        if self._inserted is None:
            return statement
        table, keys, _ = self._inserted
        found = []
        for values in rows:
            key = row_key(keys, values) if values is not None and len(values) == len(keys) else None
            if key is None:
                return statement
            found.append(RowName(table, key))
        if not found or len(found) > _MOST_ROWS:
            return statement
        return statement._replace(
            writes=statement.writes - {table},
            written_rows=(*statement.written_rows, *found),
            generates_keys=False,
        )


def read_tags(statement: Statement) -> tuple[str, ...]:
    """The stamp tags of what a statement reads, those of rows aside; empty when it reads nothing."""
    tags = dict.fromkeys(map(table_tag, sorted(statement.reads)))
    for row in statement.read_rows:
        tags[rows_tag(row.table)] = tags[row_tag(row)] = None
    if statement.reads_all:
        tags[unknown_tag(statement.database)] = None
    if tags:
        tags[any_tag(statement.database)] = None
    return tuple(tags)


def _named(pinned: Sequence[_Rows], parameters: Sequence[Mapping[str, Any]], whole: set[TableName]) -> list[RowName]:
    """The rows that parameters name; tables of which they do not go to ``whole``."""
    found: dict[RowName, None] = {}
    for rows in pinned:
        keys: dict[str, None] = {}
        for each in parameters:
            named = _keys_of(rows, each)
            if named is None or len(keys) > _MOST_ROWS:
                whole.add(rows.table)
                break
            keys |= dict.fromkeys(named)
        else:
            if len(keys) > _MOST_ROWS:
                whole.add(rows.table)
            else:
                found |= {RowName(rows.table, key): None for key in keys}
    return list(found)


def _keys_of(rows: _Rows, parameters: Mapping[str, Any]) -> list[str] | None:
    columns = []
    for sources in rows.sources:
        values = [value for source in sources for value in _values(source, parameters)]
        columns.append(values)
    total = 1
    for values in columns:
        total *= len(values)
    if total > _MOST_ROWS:
        return None
    keys = [row_key(rows.keys, each) for each in product(*columns)]
    return None if None in keys or not keys else [key for key in keys if key is not None]


def _values(source: Source, parameters: Mapping[str, Any]) -> Iterator[Any]:
    """The values of a source; one that can't be found is no key."""
    if not source.parameter:
        yield source.literal
    elif not source.expands:
        yield parameters.get(source.parameter)
    elif isinstance(parameters.get(source.parameter), list | tuple):
        yield from parameters[source.parameter]
    else:
        index = 1
        while f"{source.parameter}_{index}" in parameters:
            yield parameters[f"{source.parameter}_{index}"]
            index += 1


def _inserted(
    table: TableName,
    keys: Mapping[str, KeyKind | None],
    rows: Sequence[Pin],
    parameters: Sequence[Mapping[str, Any]],
) -> list[RowName] | None:
    found = []
    for each in parameters:
        for pin in rows:
            values = []
            for column in keys:
                sources = pin.columns.get(column)
                if sources is None and pin.keys:  # of a construct, whose parameters have the names of its columns
                    values.append(each.get(column))
                else:
                    values.append(next(_values(sources[0], each)) if sources else None)
            key = row_key(keys, values)
            if key is None:
                return None
            found.append(RowName(table, key))
    return found


class Planner:
    """Makes plans.

    Args:
        database: the bind's name.
        catalogue: of the database.
        declarations: of the app.
        dialect: SQLAlchemy's name of it.
    """

    def __init__(self, database: str, catalogue: Catalogue, declarations: Declarations, dialect: str) -> None:
        self._database: Final = database
        self._catalogue: Final = catalogue
        self._declarations: Final = declarations
        self._dialect: Final = dialect

    def table_of(self, name: str) -> TableName:
        """The table that a name stands for."""
        return self._named(self._place_of(name)[0])

    def plan(self, shape: Shape) -> Plan:
        """The plan of a shape."""
        making = _Making(self, shape)
        making.reads_of(shape.reads)
        making.calls_of([*shape.calls, *self._catalogue.casts])
        making.writes_of(shape)
        return making.done()

    def _named(self, place: Place) -> TableName:
        return TableName(self._database, *place)

    def _place_of(self, name: str) -> tuple[Place, bool]:
        parts = [part.strip('`"[]') for part in name.split(".")]
        schema = parts[-2] if len(parts) > 1 else ""
        return self._catalogue.place(schema, parts[-1], is_exact=True)


class _Making:
    """One plan in the making."""

    def __init__(self, planner: Planner, shape: Shape) -> None:
        self._planner: Final = planner
        self._catalogue: Final = planner._catalogue
        self._declarations: Final = planner._declarations
        self._shape: Final = shape
        self._reads: Final[dict[Place, int]] = {}
        self._writes: Final[dict[Place, None]] = {}
        self._unknown: Final[list[str]] = []
        self._seen: Final[set[Place]] = set()
        self._called: Final[set[str]] = set()
        self._reads_all, self._writes_all = shape.reads_all, shape.writes_all
        self._volatile = shape.volatile
        self._problem = shape.problem
        self._may_do = shape.verb if shape.may_set else ""
        #: How each table is written, and those that are because others are.
        self._written: Final[dict[Place, tuple[bool, frozenset[str] | None]]] = {}
        self._following: Final[set[Place]] = set()

    # Reads

    def reads_of(self, refs: Iterable[Ref]) -> None:
        """Tables are read."""
        for ref in refs:
            if is_own(ref):
                self._volatile = self._volatile or f"the temporary table {ref.name}"
            self._read(self._resolved(ref))

    def _resolved(self, ref: Ref) -> Place:
        place, known = self._catalogue.place(ref.schema, ref.name, is_exact=ref.is_exact)
        if not known and not self._is_system(place, ref):
            self._unknown.append(".".join(place))
        return place

    def _is_system(self, place: Place, ref: Ref) -> bool:
        if _SYSTEM.fullmatch(place[0]) or (not ref.schema and _SYSTEM.fullmatch(place[1])):
            self._reads_all = True  # it tells of the tables there are
            name = (place[1] if ref.schema else ref.name).lower()
            if name not in self._declarations.pure:  # nobody says when it changes
                self._volatile = self._volatile or f"{name}, which the server keeps"
            return True
        return False

    def _read(self, place: Place) -> None:
        self._reads[place] = self._reads.get(place, 0) + 1
        relation = self._catalogue.relations.get(place)
        if relation is None or place in self._seen:
            return
        self._seen.add(place)
        if relation.is_secured:
            self._volatile = self._volatile or f"rows of {place[1]}, of which each asker sees others"
        if relation.kind == "view":
            self._follow(relation, place)
        elif relation.kind == "sequence":
            self._volatile = self._volatile or f"the sequence {place[1]}"

    def _follow(self, relation: Relation, place: Place) -> None:
        """A view is read: its base tables are, and what it calls is called."""
        body = relation.body
        if body is None or not body.is_known:
            self._give_up(f"the definition of the view {place[1]} is not known", writes=False)
            return
        for schema, name in sorted(body.reads):
            base, known = self._catalogue.place(schema, name, is_exact=True)
            if not known and schema:  # of a name without a schema, the visible one
                base, _ = self._catalogue.place("", name, is_exact=True)
            self._read(base)
        self.calls_of(body.calls)

    # Functions

    def calls_of(self, calls: Iterable[str]) -> None:
        """Functions are called, if that is what the names are."""
        for name in sorted(calls):
            if name in self._called:
                continue
            self._called.add(name)
            if name in self._catalogue.operators:
                self.calls_of(self._catalogue.operators[name])
            elif not name.startswith("."):
                self._call(name)
            elif name in self._catalogue.functions:  # no column, but a function that takes a row
                self._call(name[1:])

    def _call(self, name: str) -> None:
        declared = self._declarations.functions.get(name) or self._declarations.functions.get(name.rpartition(".")[2])
        plain = name.rpartition(".")[2] if name.startswith("pg_catalog.") else name
        if declared is not None:
            for table in declared.reads:
                self._read(self._planner._place_of(table)[0])
            for table in declared.writes:
                self._write(self._planner._place_of(table)[0], removes=True, columns=None)
            return
        if plain in self._declarations.pure:
            return
        if plain in self._declarations.impure:
            self._volatile = self._volatile or f"{plain}()"
            return
        function = self._catalogue.functions.get(name)
        if function is not None:
            if function.volatility != "i":
                self._own_function(name, function.volatility, is_sql=function.is_sql)
        elif name == "?":
            self._give_up("its text can't be read", writes=False)
        elif is_built_in_volatile(plain, self._catalogue.volatile):
            shown = "a session variable" if plain == "@" else plain
            self._volatile = self._volatile or (shown if " " in shown or plain in _WORDS else f"{shown}()")
        elif self._shape.verb == "CALL" and not _OPERATOR.fullmatch(name):
            self._may_do = f"{name}()"
            self._give_up(f"{name}() may do anything: {_DECLARE.format(name)}")

    def _own_function(self, name: str, volatility: str, *, is_sql: bool) -> None:
        """A function of the app's own, of which nobody has said what it does."""
        if volatility == "v":
            self._volatile = self._volatile or f"{name}()"
        writes = volatility == "v" and is_sql
        if writes and self._catalogue.sets(name):
            self._may_do = self._may_do or f"{name}()"
        does = "may read and write any table" if writes else "may read any table"
        self._give_up(f"{name}() {does}: {_DECLARE.format(name)}, or sql.pure({name!r})", writes=writes)

    def _give_up(self, problem: str, *, writes: bool = True) -> None:
        self._reads_all = True
        self._writes_all = self._writes_all or writes
        self._problem = self._problem or problem

    # Writes

    def writes_of(self, shape: Shape) -> None:
        """What a statement writes, and what follows from that."""
        for ref in sorted(shape.writes):
            columns = shape.updates.get(ref)
            removes = shape.replaces or shape.cascades or (columns is not None and (not columns or "*" in columns))
            changed = None if columns is not None and "*" in columns else columns or frozenset()
            self._write(self._resolved(ref), removes=removes, columns=changed)

    def _write(self, place: Place, *, removes: bool, columns: frozenset[str] | None) -> None:
        """A table is written, and what views, partitions, foreign keys and triggers make of that."""
        todo: list[tuple[Place, bool, frozenset[str] | None]] = [(place, removes, columns)]
        while todo:
            each, removed, changed = todo.pop()
            known = self._written.get(each)
            if known in ((True, None), (removed, changed)):
                continue
            if known is not None:
                removed, changed = True, None
            self._written[each] = (removed, changed)
            self._writes[each] = None
            following = dict.fromkeys(self._bases(each), True)
            if known is None:
                following |= dict.fromkeys(self._triggered(each), True)
            following |= dict.fromkeys(self._catalogue.related(each) - {each}, True)
            for child, child_removed in self._children(each, removed, changed):
                following[child] = following.get(child, False) or child_removed
            self._following.update(following)
            todo += [(table, loses_rows, None) for table, loses_rows in following.items()]

    def _bases(self, place: Place) -> Iterator[Place]:
        """What a view that is written to writes."""
        relation = self._catalogue.relations.get(place)
        if relation is not None and relation.kind == "view" and relation.body is not None:
            yield from relation.body.reads

    def _children(self, place: Place, removes: bool, columns: frozenset[str] | None) -> Iterator[tuple[Place, bool]]:
        """The tables whose foreign keys act when rows of one go, or change their key; and whether rows of them go."""
        everything = self._shape.cascades
        for reference in self._catalogue.references:
            if reference.parent == place and (everything or reference.acts(removes=removes, columns=columns)):
                yield reference.child, everything or (removes and reference.on_delete)
        for child, parent, on_delete, on_update in self._shape.references:
            if (removes and on_delete) or (columns != frozenset() and on_update):
                found, _ = self._catalogue.place(parent.schema, parent.name, is_exact=True)
                if found == place and not self._catalogue.is_read:
                    yield self._catalogue.place(child.schema, child.name, is_exact=True)[0], removes and on_delete

    def _triggered(self, place: Place) -> Iterator[Place]:
        """What the triggers of a table write: as declared, or as their bodies say."""
        declared = self._declarations.tables
        does = declared.get(place[1].lower()) or declared.get(".".join(place).lower())
        if does is not None:
            for table in does.writes:
                yield self._planner._place_of(table)[0]
            return
        for body in self._catalogue.triggers.get(place, ()):
            yield from self._written_by(body, place)

    def _written_by(self, body: Body, place: Place) -> Iterator[Place]:
        unknown = not body.is_known
        for name in body.calls:
            function = self._catalogue.functions.get(name)
            declared = self._declarations.functions.get(name)
            if declared is not None:
                yield from (self._planner._place_of(table)[0] for table in declared.writes)
            elif function is not None and function.volatility == "v" and function.is_sql:
                unknown = unknown or name not in self._declarations.pure
        if unknown:
            self._give_up(
                f"a trigger or a default of {place[1]} may write any table: "
                f"declare sql.depends(table={place[1]!r}, writes=[…])"
            )
        for schema, name in body.writes:
            found, known = self._catalogue.place(schema, name, is_exact=True)
            yield found if known else self._catalogue.place("", name, is_exact=True)[0]

    # The plan

    def _keys(self, place: Place, given: Sequence[tuple[str, Any]]) -> dict[str, KeyKind | None]:
        """The primary key: as the database has it, else as the statement does."""
        relation = self._catalogue.relations.get(place)
        if relation is not None:
            return relation.keys if relation.kind == "table" else {}
        if self._catalogue.is_read:
            return {}
        return {name: kind_of_type(type_, self._planner._dialect) for name, type_ in given}

    def _rows(self, pin: Pin) -> tuple[Place, _Rows] | None:
        """The rows that a pin names: its columns are the whole primary key."""
        place, _ = self._catalogue.place(pin.ref.schema, pin.ref.name, is_exact=pin.ref.is_exact)
        keys = self._keys(place, pin.keys)
        if not keys or None in keys.values() or not keys.keys() <= pin.columns.keys():
            return None
        if len(self._catalogue.related(place)) > 1:
            return None
        return place, _Rows(self._planner._named(place), keys, tuple([pin.columns[column] for column in keys]))

    def done(self) -> Plan:
        """The plan."""
        shape, planner = self._shape, self._planner
        reads, writes = dict(self._reads), dict(self._writes)
        read_rows, written_rows = [], []
        for pin in shape.read_pins:
            found = self._rows(pin)
            if found is not None and reads.get(found[0]) == 1:
                del reads[found[0]]
                read_rows.append(found[1])
        for pin in shape.written_pins:
            found = self._rows(pin)
            changed = shape.updates.get(pin.ref, frozenset())
            if found is None or found[0] in self._following or "*" in changed or changed & found[1].keys.keys():
                continue  # other rows are written too, or rows come to have other keys
            writes.pop(found[0], None)
            written_rows.append(found[1])
        inserted = self._inserted(writes)
        statement = Statement(
            database=planner._database,
            kind=shape.kind,
            reads=frozenset(map(planner._named, reads)),
            writes=frozenset(map(planner._named, writes)),
            reads_all=self._reads_all,
            writes_all=self._writes_all,
            volatile=self._volatile,
            verb=shape.verb,
            what=shape.what,
        )
        return Plan(
            statement,
            shape,
            read_rows=read_rows,
            written_rows=written_rows,
            inserted=inserted,
            unknown=self._unknown,
            problem=self._problem,
            may_do=self._may_do,
        )

    def _inserted(self, writes: dict[Place, None]) -> _Inserted | None:
        """What an ``INSERT`` inserts, where its rows can be told."""
        shape = self._shape
        if shape.inserts is None or len(shape.writes) != 1 or shape.replaces:
            return None
        pin = shape.inserts[0]
        place, _ = self._catalogue.place(pin.ref.schema, pin.ref.name, is_exact=pin.ref.is_exact)
        keys = self._keys(place, pin.keys)
        if not keys or None in keys.values() or place in self._following:
            return None
        writes.pop(place, None)
        return self._planner._named(place), keys, shape.inserts


#: What SQL writes without a parenthesis.
_WORDS: Final = frozenset({"current_role", "current_user", "session_user", "system_user", "user"})
_DECLARE: Final = "declare sql.depends(function={0!r}, reads=[…], writes=[…])"
