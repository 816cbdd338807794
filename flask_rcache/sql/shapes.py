"""What a statement names, before a database has resolved it: tables, columns that pin rows, functions. Pure data.

Owns :class:`Shape`, made once for each distinct statement by ``constructs`` and ``text``, and how it grows. Which table
a name stands for, which columns are the primary key, and what a function does is ``databases``'s to find out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..model.named_tuple import NamedTuple
from .statements import Kind

__all__ = ["Pin", "Ref", "Shape", "ShapeBuilder", "Source", "is_own", "with_schemas"]


class Ref(NamedTuple):
    """A table's name as a statement has it; ``schema`` is empty where the statement has none.

    ``is_exact`` says that the letters' case counts: a quoted name, or one of a SQLAlchemy ``Table``.
    """

    schema: str
    name: str
    is_exact: bool = False


def is_own(ref: Ref) -> bool:
    """Whether a name says that the table is its connection's own."""
    return ref.schema.lower() in ("pg_temp", "temp")


class Source(NamedTuple):
    """Where a value comes from: the parameter of a name, all those that a list of a name expands to, or a literal."""

    parameter: str = ""
    expands: bool = False
    literal: Any = None


class Pin(NamedTuple):
    """Columns of one table that a statement compares with values, or that it inserts.

    Args:
        ref: the table, which the statement names once.
        columns: by column name in lower case, where the values come from; more than one for ``IN``.
        keys: the primary key's columns in lower case, each with its type, where the statement knows them.
    """

    ref: Ref
    columns: Mapping[str, tuple[Source, ...]]
    keys: tuple[tuple[str, Any], ...] = ()


class Shape(NamedTuple):
    """What a statement names.

    Args:
        kind: what it is.
        reads: the tables it reads, those of ``read_pins`` included.
        writes: the tables it writes, those of ``written_pins`` included.
        read_pins: rows of tables that it reads no others of.
        written_pins: rows of tables that it writes no others of.
        inserts: the values of each row that it inserts into its one table; ``None`` where they are not known.
        updates: the columns that it changes, in lower case, by table; a table without them loses rows.
        calls: the functions that it may call, ``schema.name`` or ``name``, in lower case.
        volatile: why its answer is not for others.
        reads_all: whether it may read tables that can't be known from it.
        writes_all: whether it may write such tables.
        is_temporary: whether what it creates is its connection's own.
        cascades: whether it reaches every table that refers to those it writes (``TRUNCATE … CASCADE``).
        replaces: whether it may write other rows than those it names (``ON CONFLICT``, ``REPLACE``).
        references: foreign keys that act on rows, as the app's metadata has them: child, parent, whether on deletion,
            and whether on a change of the key.
        may_set: whether it may change settings of its connection in ways that are not known.
        problem: why it was not understood.
        verb: of a transaction's statement.
        what: the names it concerns.
    """

    kind: Kind
    reads: frozenset[Ref] = frozenset()
    writes: frozenset[Ref] = frozenset()
    read_pins: tuple[Pin, ...] = ()
    written_pins: tuple[Pin, ...] = ()
    inserts: tuple[Pin, ...] | None = None
    updates: Mapping[Ref, frozenset[str]] = {}
    calls: frozenset[str] = frozenset()
    volatile: str | None = None
    reads_all: bool = False
    writes_all: bool = False
    is_temporary: bool = False
    cascades: bool = False
    replaces: bool = False
    references: tuple[tuple[Ref, Ref, bool, bool], ...] = ()
    may_set: bool = False
    problem: str = ""
    verb: str = ""
    what: tuple[str, ...] = ()


def with_schemas(shape: Shape, schemas: Mapping[str | None, str | None], plain: frozenset[Ref]) -> Shape:
    """A shape whose schemas are others (SQLAlchemy's ``schema_translate_map``).

    Args:
        shape: as the constructs name the tables.
        schemas: what stands for which, ``None`` for tables without one.
        plain: tables that are named as they are.
    """

    def ref_of(ref: Ref) -> Ref:
        name = ref.schema or None
        return ref._replace(schema=schemas[name] or "") if name in schemas else ref

    def refs_of(refs: Iterable[Ref]) -> frozenset[Ref]:
        return frozenset(map(ref_of, refs)) | plain.intersection(refs)

    def pins_of(pins: Iterable[Pin]) -> tuple[Pin, ...]:
        return tuple([pin._replace(ref=ref_of(pin.ref)) for pin in pins if pin.ref not in plain])

    is_plain = shape.inserts is not None and any(pin.ref in plain for pin in shape.inserts)
    return shape._replace(
        reads=refs_of(shape.reads),
        writes=refs_of(shape.writes),
        read_pins=pins_of(shape.read_pins),
        written_pins=pins_of(shape.written_pins),
        inserts=None if shape.inserts is None or is_plain else pins_of(shape.inserts),
        updates={new: columns for ref, columns in shape.updates.items() for new in refs_of([ref])},
        references=tuple([(ref_of(each[0]), ref_of(each[1]), each[2], each[3]) for each in shape.references]),
    )


class ShapeBuilder:
    """A shape that grows while a statement is walked."""

    def __init__(self) -> None:
        self.kind = Kind.READ
        self.reads: Final[dict[Ref, int]] = {}
        self.writes: Final[dict[Ref, None]] = {}
        self.updates: Final[dict[Ref, frozenset[str]]] = {}
        self.read_pins: Final[list[Pin]] = []
        self.written_pins: Final[list[Pin]] = []
        self.inserts: list[Pin] | None = None
        self.volatile: str | None = None
        self.reads_all = self.writes_all = False
        self.is_temporary = self.cascades = self.replaces = False
        self.problem = ""
        #: How many queries it consists of: rows are pinned in those of one only.
        self.queries = 0

    def read(self, ref: Ref) -> None:
        """A table is read."""
        self.reads[ref] = self.reads.get(ref, 0) + 1

    def write(self, ref: Ref, columns: Iterable[str] | None = None) -> None:
        """A table is written: these columns of its rows; or rows are inserted (``()``), or removed (``None``)."""
        if self.kind is Kind.READ:
            self.kind = Kind.WRITE
        self.writes[ref] = None
        if columns is None:
            self.updates.setdefault(ref, frozenset())
        elif columns:
            self.updates[ref] = self.updates.get(ref, frozenset()) | {name.lower() for name in columns}

    def give_up(self, problem: str, *, writes: bool = True) -> None:
        """The statement can't be understood: it may read anything, and write anything too."""
        self.reads_all = True
        self.writes_all = self.writes_all or writes
        self.problem = self.problem or problem

    def shape(self, calls: Iterable[str] = (), **more: Any) -> Shape:
        """What has become of it."""
        return Shape(
            kind=self.kind,
            reads=frozenset(self.reads),
            writes=frozenset(self.writes),
            read_pins=tuple(self.read_pins),
            written_pins=tuple(self.written_pins),
            inserts=None if self.inserts is None else tuple(self.inserts),
            updates=dict(self.updates),
            calls=frozenset(calls),
            volatile=self.volatile,
            reads_all=self.reads_all,
            writes_all=self.writes_all,
            is_temporary=self.is_temporary or (self.kind is Kind.DDL and any(map(is_own, self.writes))),
            cascades=self.cascades,
            replaces=self.replaces,
            problem=self.problem,
            **more,
        )
