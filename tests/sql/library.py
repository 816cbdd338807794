"""A library on any database: every kind of read that a page may do, and every kind of write, for the tests of `sql`.

Each read is a function of a session that returns what a page would show. Each write is a function of a `Writer`. Both
say on which databases they make sense.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from tempfile import NamedTemporaryFile
from typing import Any, Final

from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    String,
    Table,
    column,
    delete,
    event,
    exists,
    func,
    insert,
    inspect,
    literal,
    select,
    text,
    union,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

__all__ = ["READS", "WRITES", "Base", "Writer", "fill", "foreign_keys", "prepare"]

ALL: Final = ("postgresql", "mariadb", "sqlite")
PG: Final = ("postgresql",)


class Base(DeclarativeBase):
    """The tables."""


book_label = Table(
    "book_label",
    Base.metadata,
    Column("book_id", ForeignKey("book.id", ondelete="CASCADE"), primary_key=True),
    Column("label_id", ForeignKey("label.id", ondelete="CASCADE"), primary_key=True),
)


class Author(Base):
    """Who wrote books."""

    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    books: Mapped[list[Book]] = relationship(back_populates="author", order_by="Book.id", passive_deletes=True)


class Book(Base):
    """A book."""

    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    price: Mapped[int]
    note: Mapped[str] = mapped_column(String(50), default="", deferred=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id", ondelete="SET NULL", onupdate="CASCADE"))
    author: Mapped[Author | None] = relationship(back_populates="books")
    labels: Mapped[list[Label]] = relationship(secondary=book_label, order_by="Label.id")
    reviews: Mapped[list[Review]] = relationship(order_by="Review.id", passive_deletes=True)


class Label(Base):
    """What a book is about."""

    __tablename__ = "label"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Review(Base):
    """What somebody thinks of a book."""

    __tablename__ = "review"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id", ondelete="CASCADE"))
    stars: Mapped[int]


class Place(Base):
    """A place within another."""

    __tablename__ = "place"
    id: Mapped[int] = mapped_column(primary_key=True)
    within: Mapped[int | None] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(String(50))


class Medium(Base):
    """What there is of several kinds, each with a table of its own beside this one."""

    __tablename__ = "medium"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(50))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "medium"}  # noqa: RUF012  # as the ORM reads it


class Film(Medium):
    """A kind of medium."""

    __tablename__ = "film"
    id: Mapped[int] = mapped_column(ForeignKey("medium.id"), primary_key=True)
    minutes: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "film"}  # noqa: RUF012


class Bell(Base):
    """A table with a trigger that writes another."""

    __tablename__ = "bell"
    id: Mapped[int] = mapped_column(primary_key=True)


class Line(Base):
    """A table whose name has to be quoted."""

    __tablename__ = "Order Lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


class Elsewhere(Base):
    """A table that no page reads."""

    __tablename__ = "elsewhere"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


_MADE: Final = ("CREATE VIEW cheap AS SELECT id, title FROM book WHERE price < 50",)
_RING: Final = "UPDATE book SET price = price + 1 WHERE id = 3"
_MADE_ON: Final = {
    "postgresql": (
        "CREATE MATERIALIZED VIEW prices AS SELECT sum(price) AS total FROM book",
        "CREATE SCHEMA attic",
        "CREATE TABLE attic.book (id int PRIMARY KEY, title text)",
        "CREATE FUNCTION book_count() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM book'",
        (
            "CREATE FUNCTION writer(book) RETURNS text LANGUAGE sql STABLE AS "
            "'SELECT name FROM author WHERE id = $1.author_id'"
        ),
        (
            "CREATE FUNCTION dearer(int, int) RETURNS bigint LANGUAGE sql STABLE AS "
            "'SELECT count(*) FROM book WHERE price > $1'"
        ),
        "CREATE OPERATOR @> (LEFTARG = int, RIGHTARG = int, FUNCTION = dearer)",
        f"CREATE FUNCTION ring() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {_RING}; RETURN NEW; END'",
        "CREATE TRIGGER rings AFTER INSERT ON bell FOR EACH ROW EXECUTE FUNCTION ring()",
        "CREATE FUNCTION raise_price() RETURNS int LANGUAGE SQL AS 'UPDATE book SET price = 1 WHERE id=3 RETURNING 1'",
        "CREATE PROCEDURE raise_prices() LANGUAGE sql AS 'UPDATE book SET price = 22 WHERE id = 3'",
        "CREATE TABLE inbox (id int)",
        "CREATE RULE reads AS ON INSERT TO inbox DO INSTEAD UPDATE book SET title = 'by a rule' WHERE id = 3",
        "CREATE TABLE visit (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM (0) TO (10)",
    ),
    "mariadb": (
        "CREATE FUNCTION book_count() RETURNS bigint READS SQL DATA RETURN (SELECT count(*) FROM book)",
        f"CREATE TRIGGER rings AFTER INSERT ON bell FOR EACH ROW {_RING}",
        "CREATE PROCEDURE raise_prices() UPDATE book SET price = 22 WHERE id = 3",
    ),
    "sqlite": (f"CREATE TRIGGER rings AFTER INSERT ON bell BEGIN {_RING}; END",),
}


def prepare(engine: Engine, kind: str) -> None:
    """Make the tables, views and functions; there is nothing in the tables yet."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in (*_MADE, *_MADE_ON[kind]):
            connection.exec_driver_sql(statement)


def fill(engine: Engine, kind: str) -> None:
    """Put the rows in that every test begins with, in place of all others."""
    rows: dict[str, list[dict[str, Any]]] = {
        "label": [{"id": number, "name": f"label {number}"} for number in (1, 2)],
        "author": [{"id": number, "name": f"author {number}"} for number in (1, 2, 3)],
        "book": [
            {"id": number, "title": f"book {number}", "price": 10 * number, "note": "", "author_id": number % 2 + 1}
            for number in (1, 2, 3, 4)
        ],
        "book_label": [{"book_id": number, "label_id": number % 2 + 1} for number in (1, 2, 3, 4)],
        "review": [{"id": number, "book_id": number, "stars": number} for number in (1, 2, 3)],
        "place": [{"id": number, "within": number - 1 or None, "name": f"place {number}"} for number in (1, 2, 3)],
        "medium": [{"id": 1, "kind": "film", "name": "a film"}, {"id": 2, "kind": "medium", "name": "a tape"}],
        "film": [{"id": 1, "minutes": 90}],
        "bell": [],
        "Order Lines": [{"id": 1, "amount": 5}],
        "elsewhere": [{"id": 1, "value": 1}],
    }
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
        for table in Base.metadata.sorted_tables:
            if rows[table.name]:
                connection.execute(table.insert().values(rows[table.name]))
        if kind == "postgresql":
            connection.execute(text("DELETE FROM visit"))
            connection.execute(text("INSERT INTO visit VALUES (1, 1)"))
            connection.execute(text("DELETE FROM attic.book"))
            connection.execute(text("INSERT INTO attic.book VALUES (1, 'dust')"))
            connection.execute(text("REFRESH MATERIALIZED VIEW prices"))


# --- Reads

Read = Callable[[Session], object]


@dataclass(frozen=True)
class Reading:
    """A kind of read, and where there is such a thing."""

    read: Read
    on: tuple[str, ...] = ALL


def _rows(session: Session, statement: Any) -> object:
    return [tuple(row) for row in session.execute(statement)]


def _quoted(session: Session, name: str) -> str:
    return str(session.get_bind().dialect.identifier_preparer.quote(name))


def _schema(session: Session) -> str:
    """Where the tables are."""
    bind = session.get_bind()
    return {"postgresql": "public", "sqlite": "main"}.get(bind.dialect.name) or str(bind.engine.url.database)


def _lazy(session: Session) -> object:
    author = session.get(Author, 1)
    return author and [book.title for book in author.books]


def _recursive(session: Session) -> object:
    inner = select(Place.id, Place.name, literal(0).label("depth")).where(Place.within.is_(None)).cte(recursive=True)
    step = aliased(Place)
    inner = inner.union_all(select(step.id, step.name, inner.c.depth + 1).where(step.within == inner.c.id))
    return _rows(session, select(inner).order_by(inner.c.depth, inner.c.id))


def _self_join(session: Session) -> object:
    inner, outer = aliased(Place), aliased(Place)
    return _rows(session, select(inner.name, outer.name).join(outer, inner.within == outer.id).order_by(inner.id))


def _lateral(session: Session) -> object:
    best = select(Book.title, Book.price).where(Book.author_id == Author.id).order_by(Book.price.desc()).limit(1)
    side = best.lateral()
    return _rows(session, select(Author.name, side.c.title, side.c.price).join(side, literal(True)).order_by(Author.id))


def _secondary(session: Session) -> object:
    book = session.get(Book, 2)
    return book and [label.name for label in book.labels]


def _name_of(session: Session) -> object:
    book = session.get(Book, 3)
    return book and (book.title, book.price)


_HIDDEN = "SELECT title /* FROM review */ FROM book -- , label\n WHERE title <> 'x FROM author' ORDER BY id"

READS: Final[dict[str, Reading]] = {
    "list": Reading(lambda s: [(b.id, b.title, b.price) for b in s.scalars(select(Book).order_by(Book.id))]),
    "get": Reading(_name_of),
    "get of an absent row": Reading(lambda s: s.get(Book, 9) and s.get(Book, 9).title),  # type: ignore[union-attr]
    "lazy": Reading(_lazy),
    "lazy over a secondary table": Reading(_secondary),
    "selectin": Reading(
        lambda s: [
            (a.name, [b.title for b in a.books])
            for a in s.scalars(select(Author).options(selectinload(Author.books)).order_by(Author.id))
        ]
    ),
    "joined": Reading(
        lambda s: [
            (b.title, b.author and b.author.name)
            for b in s.scalars(select(Book).options(joinedload(Book.author)).order_by(Book.id))
        ]
    ),
    "group by": Reading(
        lambda s: _rows(
            s,
            select(Author.name, func.count(Book.id))
            .outerjoin(Book)
            .group_by(Author.id, Author.name)
            .order_by(Author.id),
        )
    ),
    "exists": Reading(
        lambda s: _rows(s, select(Book.id).where(exists().where(Review.book_id == Book.id)).order_by(Book.id))
    ),
    "scalar subquery": Reading(
        lambda s: _rows(s, select(Author.id, select(func.sum(Book.price)).scalar_subquery()).order_by(Author.id))
    ),
    "cte": Reading(lambda s: _rows(s, select(func.count()).select_from(select(Book).where(Book.price > 15).cte()))),
    "recursive cte": Reading(_recursive),
    "union": Reading(
        lambda s: sorted(map(str, _rows(s, union(select(Book.title), select(Author.name)))))  # type: ignore[call-overload]
    ),
    "self join": Reading(_self_join),
    "window": Reading(
        lambda s: _rows(s, select(Book.id, func.rank().over(order_by=Book.price.desc())).order_by(Book.id))
    ),
    "lateral": Reading(_lateral, PG),
    "quoted name": Reading(lambda s: _rows(s, select(Line.amount).order_by(Line.id))),
    "quoted name in text": Reading(lambda s: _rows(s, text(f"SELECT sum(amount) FROM {_quoted(s, 'Order Lines')}"))),
    "schema-qualified name": Reading(lambda s: _rows(s, text(f"SELECT title FROM {_schema(s)}.book ORDER BY id"))),
    "schema": Reading(lambda s: _rows(s, text("SELECT title FROM attic.book ORDER BY id")), PG),
    "comments and literals": Reading(lambda s: _rows(s, text(_HIDDEN))),
    "view": Reading(lambda s: _rows(s, text("SELECT title FROM cheap ORDER BY id"))),
    "function as a column": Reading(
        lambda s: _rows(s, text("SELECT b.writer FROM book b ORDER BY b.id")), ("postgresql",)
    ),
    "operator": Reading(lambda s: _rows(s, text("SELECT id @> 1 FROM label ORDER BY id")), ("postgresql",)),
    "function": Reading(lambda s: _rows(s, select(func.book_count())), ("postgresql", "mariadb")),
    "foreign key": Reading(lambda s: _rows(s, select(Book.id, Book.author_id).order_by(Book.id))),
    "deferred column": Reading(lambda s: s.get(Book, 3) and s.get(Book, 3).note),  # type: ignore[union-attr]
    "joined inheritance": Reading(
        lambda s: [
            (each.name, getattr(each, "minutes", None)) for each in s.scalars(select(Medium).order_by(Medium.id))
        ]
    ),
    "partitioned table": Reading(lambda s: _rows(s, text("SELECT id, day FROM visit ORDER BY id")), PG),
    "materialised view": Reading(lambda s: _rows(s, text("SELECT total FROM prices")), PG),
}


# --- Writes


@dataclass
class Writer:
    """What writes: the watched engine, and what kind of database it is."""

    engine: Engine
    kind: str

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A session that commits."""
        with Session(self.engine) as session:
            yield session
            session.commit()


Write = Callable[[Writer], None]


@dataclass(frozen=True)
class Writing:
    """A kind of write, and where there is such a thing.

    Args:
        write: it.
        on: the databases.
        keeps: the reads that must stay hits.
        is_ddl: whether the tables have to be made anew afterwards.
    """

    write: Write
    on: tuple[str, ...] = ALL
    keeps: tuple[str, ...] = ()
    is_ddl: bool = False


WRITES: Final[dict[str, Writing]] = {}


def _writes(*on: str, keeps: tuple[str, ...] = (), is_ddl: bool = False) -> Callable[[Write], Write]:
    def register(write: Write) -> Write:
        WRITES[write.__name__.replace("_", " ").strip()] = Writing(write, on or ALL, keeps, is_ddl)
        return write

    return register


@_writes(keeps=("quoted name", "get"))
def flush_insert(w: Writer) -> None:
    with w.session() as session:
        session.add(Place(id=7, within=2, name="new"))
        session.flush()
        session.add(Book(id=12, title="new", price=5, author_id=1))


@_writes()
def flush_insert_with_a_key_of_the_database(w: Writer) -> None:
    with w.session() as session:
        if w.kind == "postgresql":
            session.execute(text("SELECT setval('line_id_seq', 20)".replace("line_id_seq", '"Order Lines_id_seq"')))
        session.add(Line(amount=8))


@_writes(keeps=("quoted name", "recursive cte"))
def flush_update(w: Writer) -> None:
    with w.session() as session:
        session.get_one(Book, 3).price = 99


@_writes(keeps=("get", "quoted name", "recursive cte"))
def flush_update_of_another_row(w: Writer) -> None:
    with w.session() as session:
        session.get_one(Book, 4).price = 99


@_writes(keeps=("quoted name",))
def flush_delete(w: Writer) -> None:
    with w.session() as session:
        session.delete(session.get_one(Book, 3))


@_writes(keeps=tuple(name for name in READS))
def write_elsewhere(w: Writer) -> None:
    with w.session() as session:
        session.get_one(Elsewhere, 1).value = 7


@_writes()
def a_row_where_there_was_none(w: Writer) -> None:
    with w.session() as session:
        session.add(Book(id=9, title="nine", price=9, author_id=2))


@_writes()
def bulk_update(w: Writer) -> None:
    with w.session() as session:
        session.execute(update(Book).where(Book.price > 15).values(price=Book.price + 1))


@_writes()
def bulk_delete(w: Writer) -> None:
    with w.session() as session:
        session.execute(delete(Book).where(Book.price > 15))


@_writes()
def bulk_insert(w: Writer) -> None:
    with w.session() as session:
        session.execute(insert(Book), [{"id": n, "title": f"b{n}", "price": n, "author_id": 1} for n in (9, 11)])


@_writes()
def many_rows(w: Writer) -> None:
    with w.session() as session:
        session.add_all(Book(id=100 + n, title=f"b{n}", price=n, author_id=1) for n in range(100))


@_writes()
def executemany(w: Writer) -> None:
    with w.engine.begin() as connection:
        rows = [{"i": 3, "p": 31}, {"i": 4, "p": 41}]
        connection.execute(text("UPDATE book SET price = :p WHERE id = :i"), rows)


@_writes()
def core_update(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(Book.__table__.update().where(column("id") == 3).values(title="core"))  # type: ignore[attr-defined]


@_writes()
def text_update(w: Writer) -> None:
    with w.engine.connect() as connection:
        connection.execute(text("UPDATE book SET title = 'text' WHERE id = :id"), {"id": 3})
        connection.commit()


@_writes()
def driver_sql(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO place (id, within, name) VALUES (8, 1, 'eight')")


@_writes()
def upsert(w: Writer) -> None:
    row = {"id": 3, "title": "upsert", "price": 1, "note": "", "author_id": 1}
    statement: Any
    if w.kind == "mariadb":
        statement = mysql.insert(Book).values(row).on_duplicate_key_update(title="upsert")
    else:
        of = postgresql.insert(Book) if w.kind == "postgresql" else sqlite.insert(Book)
        statement = of.values(row).on_conflict_do_update(index_elements=["id"], set_={"title": "upsert"})
    with w.engine.begin() as connection:
        connection.execute(statement)


@_writes("postgresql")
def cte_with_delete_returning(w: Writer) -> None:
    sql = "WITH gone AS (DELETE FROM book WHERE id = 3 RETURNING id) SELECT count(*) FROM gone"
    with w.engine.begin() as connection:
        connection.execute(text(sql)).all()


@_writes("postgresql", "sqlite")
def update_from(w: Writer) -> None:
    sql = "UPDATE book SET title = author.name FROM author WHERE author.id = book.author_id"
    with w.engine.begin() as connection:
        connection.execute(text(sql))


@_writes("mariadb")
def update_with_join(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("UPDATE book JOIN author ON author.id = book.author_id SET book.title = author.name"))


@_writes("mariadb")
def load_data(w: Writer) -> None:
    with NamedTemporaryFile("w", suffix=" into table label") as file:
        file.write("3,loaded,33\n")
        file.flush()
        sql = (
            f"LOAD DATA LOCAL INFILE '{file.name}' REPLACE INTO TABLE book FIELDS TERMINATED BY ',' (id, title, price)"
        )
        with w.engine.begin() as connection:
            connection.execute(text(sql))


@_writes("mariadb")
def update_with_a_modifier(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("UPDATE LOW_PRIORITY book SET price = 44 WHERE id = 3"))


@_writes("mariadb")
def delete_with_a_modifier(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("DELETE QUICK FROM review WHERE id = 1"))


@_writes("mariadb")
def comment_that_is_carried_out(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("SELECT 1 /*! INTO @n */"))
        connection.execute(text("/*! UPDATE book SET price = 45 WHERE id = 3 */"))
    w.engine.dispose()  # the connection may have settings of its own now


@_writes("mariadb")
def statement_with_settings_of_its_own(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("SET STATEMENT lock_wait_timeout = 9 FOR UPDATE book SET price = 46 WHERE id = 3"))
    w.engine.dispose()  # the connection may have settings of its own now


@_writes("mariadb", "sqlite")
def replace_into(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("REPLACE INTO label (id, name) VALUES (1, 'replaced')"))


@_writes()
def insert_select(w: Writer) -> None:
    sql = "INSERT INTO book (id, title, price, note, author_id) SELECT id + 50, title, price, note, author_id FROM book"
    with w.engine.begin() as connection:
        connection.execute(text(sql))


@_writes()
def many_to_many_add(w: Writer) -> None:
    with w.session() as session:
        book = session.get_one(Book, 2)
        book.labels.append(session.get_one(Label, 2))


@_writes()
def many_to_many_clear(w: Writer) -> None:
    with w.session() as session:
        book = session.get_one(Book, 2)
        book.labels.clear()


@_writes()
def cascade(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(delete(Book).where(Book.id == 2))


@_writes()
def set_null(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("DELETE FROM author WHERE id = 1"))


@_writes()
def savepoint_kept(w: Writer) -> None:
    with w.session() as session, session.begin_nested():
        session.get_one(Book, 3).price = 77


@_writes()
def savepoint_rolled_back(w: Writer) -> None:
    with w.session() as session:
        session.get_one(Author, 1).name = "kept"
        nested = session.begin_nested()
        session.get_one(Place, 1).name = "gone"
        session.flush()
        nested.rollback()


@_writes(keeps=tuple(READS))
def savepoint_rolled_back_alone(w: Writer) -> None:
    with w.session() as session:
        nested = session.begin_nested()
        session.get_one(Book, 3).price = 1000
        session.flush()
        nested.rollback()


@_writes(keeps=tuple(READS))
def rollback(w: Writer) -> None:
    with Session(w.engine) as session:
        session.execute(update(Book).values(price=1))
        session.rollback()


@_writes()
def begin_block(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(update(Author).values(name="everyone"))


@_writes("postgresql", "mariadb", "sqlite")
def autocommit(w: Writer) -> None:
    with w.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("UPDATE book SET price = 3 WHERE id = 3"))


@_writes("postgresql", "mariadb", "sqlite")
def autocommit_rolled_back(w: Writer) -> None:
    """What a rollback can't undo any more."""
    connection = w.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.execute(text("UPDATE book SET price = 4 WHERE id = 3"))
    connection.rollback()
    connection.close()


@_writes()
def driver_commit(w: Writer) -> None:
    with w.engine.connect() as connection:
        connection.execute(text("UPDATE book SET price = 5 WHERE id = 3"))
        connection.connection.commit()
        connection.rollback()


@_writes()
def commit_as_text(w: Writer) -> None:
    with w.engine.connect() as connection:
        connection.execute(text("UPDATE book SET price = 6 WHERE id = 3"))
        connection.exec_driver_sql("COMMIT")
        connection.rollback()


@_writes("postgresql", "mariadb")
def two_phase(w: Writer) -> None:
    with w.engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(text("UPDATE book SET price = 7 WHERE id = 3"))
        transaction.prepare()
        transaction.commit()


@_writes("postgresql", "mariadb")
def two_phase_at_once(w: Writer) -> None:
    with w.engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(text("UPDATE book SET price = 8 WHERE id = 3"))
        transaction.commit()


@_writes("postgresql", "mariadb", keeps=tuple(READS))
def two_phase_rolled_back(w: Writer) -> None:
    with w.engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(text("UPDATE book SET price = 9 WHERE id = 3"))
        transaction.prepare()
        transaction.rollback()


@_writes("postgresql")
def prepared_by_another(w: Writer) -> None:
    """COMMIT PREPARED of what this process has not collected."""
    import psycopg

    url = w.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    with psycopg.connect(url) as other:
        other.execute("BEGIN")
        other.execute("UPDATE book SET price = 11 WHERE id = 3")
        other.execute("PREPARE TRANSACTION 'of another'")
    with w.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("COMMIT PREPARED 'of another'")


@_writes("postgresql")
def copy(w: Writer) -> None:
    """COPY, which SQLAlchemy has no method for."""
    with w.engine.begin() as connection:
        driver: Any = connection.connection.dbapi_connection
        sql = "COPY book (id, title, price, note, author_id) FROM STDIN"
        with driver.cursor() as cursor, cursor.copy(sql) as stream:
            stream.write_row((60, "copied", 1, "", 1))


@_writes()
def driver_cursor(w: Writer) -> None:
    with w.engine.begin() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("UPDATE book SET price = 14 WHERE id = 3")
        cursor.close()


@_writes()
def driver_cursor_and_commit(w: Writer) -> None:
    with w.engine.connect() as connection:
        cursor = connection.connection.cursor()
        mark = "?" if w.kind == "sqlite" else "%s"
        cursor.executemany(f"UPDATE book SET price = {mark} WHERE id = {mark}", [(15, 3), (16, 4)])
        cursor.execute("COMMIT")
        cursor.close()


@_writes()
def driver_cursor_in_autocommit(w: Writer) -> None:
    with w.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.connection.cursor().execute("UPDATE book SET price = 17 WHERE id = 3")


@_writes(keeps=tuple(READS))
def driver_cursor_rolled_back(w: Writer) -> None:
    with w.engine.connect() as connection:
        connection.connection.cursor().execute("UPDATE book SET price = 18 WHERE id = 3")
        connection.rollback()


@_writes("postgresql")
def driver_block(w: Writer) -> None:
    connection = w.engine.raw_connection()
    with connection.driver_connection.transaction():  # type: ignore[union-attr]
        connection.cursor().execute("UPDATE book SET price = 19 WHERE id = 3")
    connection.close()


@_writes("postgresql")
def driver_block_in_autocommit(w: Writer) -> None:
    with w.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver: Any = connection.connection.driver_connection
        with driver.transaction():
            driver.execute("UPDATE book SET price = 20 WHERE id = 3")


@_writes("postgresql", "mariadb")
def truncate(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("TRUNCATE TABLE review"))


@_writes(is_ddl=True)
def ddl(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("DROP VIEW cheap"))
        connection.execute(text("CREATE VIEW cheap AS SELECT id, title FROM book WHERE price < 15"))


@_writes("mariadb", is_ddl=True)
def ddl_that_commits(w: Writer) -> None:
    """On MariaDB a DDL statement commits what was written before; the rollback afterwards undoes nothing."""
    with w.engine.connect() as connection:
        connection.execute(text("UPDATE book SET price = 12 WHERE id = 3"))
        connection.execute(text("CREATE TABLE another (id int)"))
        connection.rollback()


@_writes("postgresql")
def refresh_materialised_view(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("UPDATE book SET price = 13 WHERE id = 3"))
        connection.execute(text("REFRESH MATERIALIZED VIEW prices"))


@_writes("postgresql", keeps=("list", "get"))
def write_to_the_same_name_in_another_schema(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("UPDATE attic.book SET title = 'swept'"))


@_writes()
def write_to_a_quoted_name(w: Writer) -> None:
    with w.session() as session:
        session.get_one(Line, 1).amount = 6


@_writes()
def insert_with_an_expression_for_its_key(w: Writer) -> None:
    sql = "INSERT INTO book (id, title, price, note, author_id) VALUES (:id + 4, 'five and four', 1, '', 1)"
    with w.engine.begin() as connection:
        connection.execute(text(sql), {"id": 5})


@_writes()
def insert_whose_parameters_have_names_of_other_columns(w: Writer) -> None:
    sql = "INSERT INTO book (title, id, price, note, author_id) VALUES (:id, :title, 1, '', 1)"
    with w.engine.begin() as connection:
        connection.execute(text(sql), {"id": "7", "title": 9})


@_writes()
def insert_without_names_of_columns(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("INSERT INTO place VALUES (9, 1, 'nine')"))


@_writes("postgresql", "sqlite")
def insert_returning(w: Writer) -> None:
    with w.session() as session:
        rows = [{"id": number, "title": "new", "price": 1, "author_id": 1} for number in (9, 13)]
        session.scalars(insert(Book).returning(Book.id), rows).all()


@_writes()
def bulk_mappings(w: Writer) -> None:
    with w.session() as session:
        session.bulk_insert_mappings(inspect(Book), [{"id": 9, "title": "nine", "price": 9, "author_id": 1}])
        session.bulk_update_mappings(inspect(Book), [{"id": 3, "title": "three"}])


@_writes(keeps=("quoted name", "recursive cte"))
def update_by_key_of_many(w: Writer) -> None:
    with w.session() as session:
        session.execute(update(Book), [{"id": 3, "title": "three"}, {"id": 4, "title": "four"}])


@_writes()
def merge_into_a_session(w: Writer) -> None:
    with w.session() as session:
        session.merge(Book(id=3, title="merged", price=3, author_id=1))
        session.merge(Book(id=9, title="merged too", price=3, author_id=1))


@_writes()
def deferred_column(w: Writer) -> None:
    with w.session() as session:
        session.get_one(Book, 3).note = "read it"


@_writes(keeps=("list", "get", "quoted name"))
def subclass_of_a_joined_table(w: Writer) -> None:
    with w.session() as session:
        session.get_one(Film, 1).minutes = 120


@_writes()
def key_of_a_row(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("UPDATE author SET id = 7 WHERE id = 1"))


@_writes()
def key_of_a_row_by_the_orm(w: Writer) -> None:
    with w.session() as session:
        session.get_one(Place, 3).id = 9


@_writes()
def trigger(w: Writer) -> None:
    with w.session() as session:
        session.add(Bell(id=1))


@_writes("postgresql", "mariadb")
def view_that_can_be_written(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("UPDATE cheap SET title = 'by a view' WHERE id = 3"))


@_writes("postgresql")
def rule(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("INSERT INTO inbox VALUES (1)"))


@_writes("postgresql", "mariadb")
def procedure(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("CALL raise_prices()"))


@_writes("postgresql")
def function_that_writes(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(select(func.raise_price())).all()


@_writes("postgresql")
def block_of_a_language(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("DO $$ BEGIN UPDATE book SET price = 23 WHERE id = 3; END $$"))


@_writes("postgresql", "mariadb")
def prepared_statement(w: Writer) -> None:
    with w.engine.begin() as connection:
        body = "UPDATE book SET price = 24 WHERE id = 3"
        connection.exec_driver_sql(
            f"PREPARE raise AS {body}" if w.kind == "postgresql" else f"PREPARE raise FROM '{body}'"
        )
        connection.exec_driver_sql("EXECUTE raise")
    w.engine.dispose()  # whose connection may have settings now: nothing that is read on it would be stored


@_writes("postgresql")
def merge(w: Writer) -> None:
    sql = (
        "MERGE INTO book USING author ON author.id = book.id WHEN MATCHED THEN UPDATE SET price = 25 "
        "WHEN NOT MATCHED THEN INSERT (id, title, price, note) VALUES (author.id, 'x', 1, '')"
    )
    with w.engine.begin() as connection:
        connection.execute(text(sql))


@_writes("postgresql")
def several_statements_and_a_commit_in_one_text(w: Writer) -> None:
    with w.engine.connect() as connection:
        connection.exec_driver_sql("SET LOCAL work_mem = 4096; UPDATE book SET price = 26 WHERE id = 3; COMMIT")
        connection.rollback()


@_writes("postgresql", "mariadb")
def plan_that_is_carried_out(w: Writer) -> None:
    explain = "EXPLAIN (COSTS OFF, ANALYZE)" if w.kind == "postgresql" else "ANALYZE FORMAT=JSON"
    with w.engine.begin() as connection:
        connection.exec_driver_sql(f"{explain} UPDATE book SET price = 27 WHERE id = 3").all()


@_writes("mariadb")
def lock_that_commits(w: Writer) -> None:
    """LOCK TABLES commits what was written before; the rollback afterwards undoes nothing."""
    with w.engine.connect() as connection:
        connection.execute(text("UPDATE book SET price = 28 WHERE id = 3"))
        connection.execute(text("LOCK TABLES elsewhere READ"))
        connection.execute(text("UNLOCK TABLES"))
        connection.rollback()


@_writes("mariadb")
def compound_statement(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.exec_driver_sql("BEGIN NOT ATOMIC UPDATE book SET price = 29 WHERE id = 3; END")


@_writes("sqlite")
def script_of_the_driver(w: Writer) -> None:
    connection = w.engine.raw_connection()
    connection.cursor().executescript("UPDATE book SET price = 30 WHERE id = 3; DELETE FROM review;")
    connection.close()


@_writes("postgresql")
def partition(w: Writer) -> None:
    with w.engine.begin() as connection:
        connection.execute(text("INSERT INTO visit_1 VALUES (2, 2)"))


@_writes("postgresql", keeps=("list", "get"))
def schema_in_place_of_another(w: Writer) -> None:
    """A `schema_translate_map`: the same construct, another table."""
    with w.engine.connect().execution_options(schema_translate_map={None: "attic"}) as connection:
        connection.execute(update(Book).values(title="swept").where(Book.id == 1))
        connection.commit()


def foreign_keys(engine: Engine) -> None:
    """SQLite follows foreign keys only when it is asked to."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
