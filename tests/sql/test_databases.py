"""What statements read and write in real databases: names resolved, views followed, writes widened."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship, selectinload

from flask_rcache.sql.databases import Database
from flask_rcache.sql.declarations import Declarations
from flask_rcache.sql.statements import Statement
from tests.sql.conftest import DATABASES


class Base(DeclarativeBase):
    """Of the tables here."""


link = Table(
    "link",
    Base.metadata,
    Column("item_id", ForeignKey("item.id", ondelete="CASCADE"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Tag(Base):
    """Many to many with items."""

    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)


class Item(Base):
    """The table that is read and written."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), default="x")
    parts: Mapped[list[Part]] = relationship(back_populates="item")
    tags: Mapped[list[Tag]] = relationship(secondary=link)


class Part(Base):
    """Rows that go with their item."""

    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int | None] = mapped_column(ForeignKey("item.id", ondelete="CASCADE", onupdate="CASCADE"))
    item: Mapped[Item] = relationship(back_populates="parts")


class Note(Base):
    """Rows that lose their part, and have a natural key."""

    __tablename__ = "note"
    code: Mapped[str] = mapped_column(String(20), primary_key=True)
    part_id: Mapped[int | None] = mapped_column(ForeignKey("part.id", ondelete="SET NULL"))


class Watched:
    """An engine with a record of what was found of each statement; shared until a test has changed more than rows."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._is_changed = False
        self.database = Database(engine, declarations=Declarations())
        self.statements: list[Statement] = []
        event.listen(engine, "before_cursor_execute", self._note)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all([Tag(id=1), Item(id=1, tags=[Tag(id=2)], parts=[Part(id=1), Part(id=2)]), Item(id=2)])
            session.flush()
            session.add(Note(code="n", part_id=1))
            if engine.dialect.name == "postgresql":
                session.execute(text("SELECT setval('item_id_seq', 100)"))
            session.commit()
        self.statements.clear()

    def _note(self, _: Any, __: Any, ___: Any, ____: Any, context: Any, _____: Any) -> None:
        self.statements.append(self.database.classify(context))

    def run(self, statement: Any, parameters: Any = None) -> Statement:
        """Run a statement, or its text, and take it back; what was found of it."""
        self.statements.clear()
        with self.engine.connect() as connection:
            connection.execute(text(statement) if isinstance(statement, str) else statement, parameters)
            connection.rollback()
        return self.statements[-1]

    def make(self, *statements: str) -> None:
        """Run DDL."""
        self._is_changed = True
        with self.engine.begin() as connection:
            for each in statements:
                connection.execute(text(each))

    def listen(self, name: str, function: Any) -> None:
        """Have a function called at an event of the engine."""
        self._is_changed = True
        event.listen(self.engine, name, function)

    @property
    def is_changed(self) -> bool:
        """Whether the next test needs another one."""
        return self._is_changed or self.database.declarations.generation > 0


def names(found: Any) -> set[str]:
    """Tables or rows, without the schema, which differs."""
    return {str(each).partition(".")[2] for each in found}


class Shared:
    """One of each kind of database, in a database of their own."""

    def __init__(self, request: pytest.FixtureRequest, directory: Path) -> None:
        self._request = request
        self._file = directory / "watched.db"
        self._made: dict[str, Watched] = {}

    def of(self, kind: str) -> Watched:
        """The one of a kind, as if it had just been made."""
        found = self._made.get(kind)
        if found is None or found.is_changed:
            if found is not None:
                found.engine.dispose()
            found = self._made[kind] = Watched(create_engine(self._url(kind)))
        found.statements.clear()
        return found

    def _url(self, kind: str) -> str:
        if kind == "sqlite":
            self._file.unlink(missing_ok=True)
            return f"sqlite:///{self._file}"
        server = self._request.getfixturevalue(f"_shared_{'postgres' if kind == 'postgresql' else kind}")
        url = str(server.create("watched"))
        server.empty("watched")
        return url

    def close(self) -> None:
        """End its connections."""
        for each in self._made.values():
            each.engine.dispose()


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    made = Shared(request, tmp_path_factory.mktemp("watched"))
    yield made
    made.close()


@pytest.fixture(params=DATABASES)
def watched(request: pytest.FixtureRequest, shared: Shared) -> Watched:
    return shared.of(request.param)


@pytest.fixture
def on_postgres(shared: Shared) -> Watched:
    return shared.of("postgresql")


# Reads

READS: dict[str, tuple[Any, set[str], set[str]]] = {
    "list": (select(Item), {"item"}, set()),
    "by key": (select(Item).where(Item.id == 1), set(), {"item:1"}),
    "absent": (select(Item).where(Item.id == 99), set(), {"item:99"}),
    "by keys": (select(Item).where(Item.id.in_([1, 2, 99])), set(), {"item:1", "item:2", "item:99"}),
    "many keys": (select(Item).where(Item.id.in_(range(100))), {"item"}, set()),
    "by key and more": (select(Item).where(Item.id == 1, Item.name == "x"), set(), {"item:1"}),
    "key or": (select(Item).where((Item.id == 1) | (Item.name == "x")), {"item"}, set()),
    "by another column": (select(Item).where(Item.name == "x"), {"item"}, set()),
    "join": (select(Item.id, func.count()).join(Part).group_by(Item.id), {"item", "part"}, set()),
    "join by key": (select(Item).join(Part).where(Item.id == 1), {"part"}, {"item:1"}),
    "exists": (select(Item).where(Item.parts.any()), {"item", "part"}, set()),
    "scalar subquery": (
        select(Item.id, select(func.max(Part.id)).where(Part.item_id == Item.id).scalar_subquery()),
        {"item", "part"},
        set(),
    ),
    "key in a subquery": (select(Tag).where(Tag.id.in_(select(Item.id).where(Item.id == 1))), {"tag", "item"}, set()),
    "union": (select(Item.id).union(select(Part.id)), {"item", "part"}, set()),
    "window": (select(func.row_number().over(order_by=Item.name)), {"item"}, set()),
    "text": ("SELECT * FROM item WHERE id = :id", set(), {"item:1"}),
    "text key and key": ("SELECT * FROM item a JOIN item b ON a.id = b.id WHERE a.id = 1", {"item"}, set()),
    "literals and comments": ("SELECT 'from tag' /* from part */ FROM item -- from note", {"item"}, set()),
    "composite": (select(link).where(link.c.item_id == 1, link.c.tag_id == 2), set(), {"link:1/2"}),
    "half of a composite": (select(link).where(link.c.item_id == 1), {"link"}, set()),
    "recursive": (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT * FROM n, item",
        {"item"},
        set(),
    ),
    "a CTE of a table's name": ("WITH tag AS (SELECT id FROM item) SELECT * FROM tag", {"item"}, set()),
}


@pytest.mark.parametrize("name", READS)
def test_reads__of_each_kind_of_query(watched: Watched, name: str) -> None:
    """The tables, or the rows where a whole primary key is given, whatever the statement looks like."""
    statement, tables, rows = READS[name]
    found = watched.run(statement, {"id": 1} if ":id" in str(statement)[:40] else None)
    assert (names(found.reads), names(found.read_rows)) == (tables, rows)
    assert found.understood
    assert not found.is_write
    assert found.volatile is None


def test_reads__of_the_orm_and_its_loaders(watched: Watched) -> None:
    """get, lazy loads, selectinload and joinedload are statements like any other."""
    with Session(watched.engine) as session:
        item = session.get(Item, 1)
        assert item is not None
        assert len(item.parts) == 2
        assert len(item.tags) == 1
        session.get(Part, 1)
        assert [names(each.reads) | names(each.read_rows) for each in watched.statements] == [
            {"item:1"},
            {"part"},
            {"tag", "link"},
        ]
        watched.statements.clear()
        session.expunge_all()
        session.scalars(select(Part).options(selectinload(Part.item)).order_by(Part.id)).all()
        session.expunge_all()
        session.get(Item, 1, options=[joinedload(Item.parts)])
    assert [names(each.reads) | names(each.read_rows) for each in watched.statements] == [
        {"part"},
        {"item:1"},
        {"part", "item:1"},
    ]


def test_reads__of_a_string_key_only_where_strings_are_equal_exactly(watched: Watched) -> None:
    """MariaDB finds 'n' for 'N': there the table counts."""
    found = watched.run(select(Note).where(Note.code == "n"))
    exact = watched.engine.dialect.name != "mysql"
    assert names(found.read_rows) == ({"note:n"} if exact else set())
    assert names(found.reads) == (set() if exact else {"note"})


def test_reads__of_a_view_are_its_base_tables(watched: Watched) -> None:
    """A view of a view too; the views themselves count as well, for they may be replaced."""
    watched.make(
        "CREATE VIEW busy AS SELECT item.id, count(*) AS n FROM item JOIN part ON part.item_id = item.id GROUP BY 1",
        "CREATE VIEW busiest AS SELECT * FROM busy WHERE n > 1",
    )
    assert names(watched.run("SELECT * FROM busiest").reads) == {"busiest", "busy", "item", "part"}
    watched.make("DROP VIEW busiest", "CREATE VIEW busiest AS SELECT id FROM tag")
    assert names(watched.run("SELECT * FROM busiest").reads) == {"busiest", "tag"}


def test_reads__through_a_mapped_view_are_no_rows(watched: Watched) -> None:
    """A view that the app maps with a key of its own: its rows are made of others."""
    watched.make("CREATE VIEW shown AS SELECT id, name FROM item")
    shown = Table("shown", MetaData(), Column("id", Integer, primary_key=True), Column("name", String(50)))
    found = watched.run(select(shown).where(shown.c.id == 1))
    assert (names(found.reads), found.read_rows) == ({"shown", "item"}, ())


def test_reads__of_schema_qualified_and_quoted_names(on_postgres: Watched) -> None:
    """The same table by whatever name it goes, and another one of the same name in another schema."""
    on_postgres.make(
        "CREATE SCHEMA other", "CREATE TABLE other.item (id int PRIMARY KEY)", 'CREATE TABLE "Odd.One" (id int)'
    )
    for query in ("SELECT * FROM item", "SELECT * FROM public.item", "SELECT * FROM ITEM", 'SELECT * FROM "item"'):
        assert {str(table) for table in on_postgres.run(query).reads} == {"public.item"}
    assert {str(table) for table in on_postgres.run("SELECT * FROM other.item").reads} == {"other.item"}
    assert {str(table) for table in on_postgres.run('SELECT * FROM "Odd.One"').reads} == {"public.Odd%2EOne"}


def test_reads__of_a_materialised_view_are_what_it_holds(on_postgres: Watched) -> None:
    """It changes when it is refreshed, and not with its base tables."""
    on_postgres.make("CREATE MATERIALIZED VIEW held AS SELECT * FROM item")
    assert names(on_postgres.run("SELECT * FROM held").reads) == {"held"}
    assert names(on_postgres.run("REFRESH MATERIALIZED VIEW held").writes) == {"held"}


def test_reads__lateral(on_postgres: Watched) -> None:
    """A lateral join reads both."""
    found = on_postgres.run("SELECT * FROM item i, LATERAL (SELECT * FROM part p WHERE p.item_id = i.id) x")
    assert names(found.reads) == {"item", "part"}


def test_reads__of_partitions_count_for_their_table(on_postgres: Watched) -> None:
    """A write to a partition is one of the table, and the other way round."""
    on_postgres.make(
        "CREATE TABLE event (id int, at int) PARTITION BY RANGE (at)",
        "CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (10)",
    )
    assert names(on_postgres.run("INSERT INTO event_1 VALUES (1, 1)").writes) == {"event", "event_1"}
    assert names(on_postgres.run("DELETE FROM event").writes) == {"event", "event_1"}


# Functions


def test_functions__that_are_declared(on_postgres: Watched) -> None:
    """What they read and write is what was said of them; that makes them known."""
    on_postgres.make(
        "CREATE FUNCTION bump() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM tag WHERE id = 99; RETURN 1; END'"
    )
    on_postgres.database.declarations.depends(function="bump", reads=["part"], writes=["tag"])
    found = on_postgres.run("SELECT bump()")
    assert (names(found.reads), "tag" in names(found.writes), found.understood) == ({"part"}, True, True)


def test_functions__that_are_not_declared(on_postgres: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """A volatile one may do anything; a stable one may read anything; an immutable one reads nothing."""
    on_postgres.make(
        "CREATE FUNCTION v() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION s() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'",
        "CREATE FUNCTION i() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'",
    )
    caplog.set_level(logging.WARNING)
    before = on_postgres.database.not_understood
    found = on_postgres.run("SELECT v()")
    assert (found.reads_all, found.writes_all, found.volatile) == (True, True, "v()")
    assert "sql.depends(function='v'" in caplog.text
    found = on_postgres.run("SELECT s()")
    assert (found.reads_all, found.writes_all, found.volatile) == (True, False, None)
    found = on_postgres.run("SELECT i(), lower('X'), now(), count(*) FROM item")
    assert (found.understood, found.volatile, names(found.reads)) == (True, None, {"item"})
    assert on_postgres.database.not_understood - before == 2


def test_functions__that_no_statement_names(on_postgres: Watched) -> None:
    """Those behind an aggregate, a cast, a default and a check are asked for in the catalogue."""
    on_postgres.make(
        "CREATE FUNCTION adds(int, int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1 + count(*)::int FROM part'",
        "CREATE AGGREGATE adding(int) (SFUNC = adds, STYPE = int, INITCOND = '0')",
        "CREATE AGGREGATE plainly(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')",
        "CREATE FUNCTION logged() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM note; RETURN 1; END'",
        "CREATE FUNCTION drawn() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN floor(random() * 9); END'",
        "CREATE FUNCTION checked(int) RETURNS bool LANGUAGE sql AS 'DELETE FROM link; SELECT true'",
        "CREATE TABLE made (id int DEFAULT logged())",
        "CREATE TABLE taken (id int DEFAULT drawn())",
        "CREATE TABLE proven (id int CHECK (checked(id)))",
    )
    found = on_postgres.run("SELECT plainly(id) FROM item")
    assert (found.understood, names(found.reads)) == (True, {"item"})
    assert on_postgres.run("SELECT adding(id) FROM item").reads_all
    for table, written in (("made", {"note"}), ("taken", set()), ("proven", {"link"})):
        found = on_postgres.run(f"INSERT INTO {table} VALUES (DEFAULT)")
        assert (names(found.writes) >= {table} | written, found.understood) == (True, True), table
    on_postgres.make(
        "CREATE TYPE pair AS (a int, b int)",
        "CREATE FUNCTION paired(pair) RETURNS int LANGUAGE sql STABLE AS 'SELECT count(*)::int FROM part'",
        "CREATE CAST (pair AS int) WITH FUNCTION paired(pair)",
    )
    assert on_postgres.run("SELECT (1, 2)::pair::int FROM item").reads_all
    on_postgres.database.declarations.depends(function="paired", reads=["part"])
    assert names(on_postgres.run("SELECT (1, 2)::pair::int FROM item").reads) == {"item", "part"}


VOLATILE = (
    "SELECT random()",
    "SELECT current_user",
    "SELECT nextval('item_id_seq')",
    "SELECT current_setting('application_name')",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT pg_backend_pid()",
    "SELECT * FROM item FOR UPDATE",
    "SELECT * FROM item FOR SHARE",
    "SELECT gen_random_uuid()",
    "SELECT * FROM item TABLESAMPLE SYSTEM (50)",
    "SHOW search_path",
    "EXPLAIN SELECT 1",
    "SELECT txid_current()",
)


@pytest.mark.parametrize("query", VOLATILE)
def test_volatile__on_postgresql(on_postgres: Watched, query: str) -> None:
    """Answers that differ each time, or for each asker, have a reason that they are not stored for."""
    assert on_postgres.run(query).volatile


def test_volatile__is_corrected(on_postgres: Watched) -> None:
    """`pure` and `impure` have the last word."""
    assert on_postgres.run("SELECT pg_sleep(0)").volatile == "pg_sleep()"
    on_postgres.database.declarations.mark(["pg_sleep"], pure=True)
    on_postgres.database.declarations.mark(["lower"], pure=False)
    assert on_postgres.run("SELECT pg_sleep(0)").volatile is None
    assert on_postgres.run("SELECT lower('X')").volatile == "lower()"


def test_volatile__after_a_setting_until_it_is_undone(on_postgres: Watched) -> None:
    """What a connection was set to may change its answers; what is local ends with the transaction."""
    database = on_postgres.database
    on_postgres.listen("rollback", lambda connection: database.transaction_ended(connection.info))
    with on_postgres.engine.connect() as connection:
        for setting in ("SET LOCAL app.tenant = '3'", "SELECT set_config('app.tenant', '3', true)"):
            connection.execute(text(setting))
            connection.execute(text("SELECT * FROM item"))
            assert "app.tenant" in str(on_postgres.statements[-1].volatile) or "set_config" in str(
                on_postgres.statements[-1].volatile
            )
            connection.rollback()
            connection.execute(text("SELECT * FROM item"))
            assert on_postgres.statements[-1].volatile is None
        connection.execute(text("SET statement_timeout = 1000"))
        connection.execute(text("SELECT * FROM item"))
        assert on_postgres.statements[-1].volatile is None


def test_volatile__temporary_tables(watched: Watched) -> None:
    """They are their connection's own."""
    with watched.engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE mine (id INTEGER)"))
        connection.execute(text("SELECT * FROM mine"))
        connection.invalidate()
    assert watched.statements[-1].volatile == "the temporary table mine"


def test_volatile__row_level_security(on_postgres: Watched) -> None:
    """Each asker sees rows of their own."""
    on_postgres.make("ALTER TABLE item ENABLE ROW LEVEL SECURITY", "ALTER TABLE item FORCE ROW LEVEL SECURITY")
    assert on_postgres.run("SELECT * FROM item").volatile is None  # a superuser sees all of them
    on_postgres.make("DROP ROLE IF EXISTS plain", "CREATE ROLE plain LOGIN", "GRANT SELECT ON item TO plain")
    url = on_postgres.engine.url.set(username="plain")
    plain = create_engine(url)
    database = Database(plain)
    found = []
    event.listen(plain, "before_cursor_execute", lambda *args: found.append(database.classify(args[4])))
    with plain.connect() as connection:
        connection.execute(text("SELECT * FROM item"))
    plain.dispose()
    on_postgres.make("REVOKE ALL ON item FROM plain", "DROP ROLE plain")
    assert "each asker" in str(found[-1].volatile)


# Writes

WRITES: dict[str, tuple[Any, Any, set[str], set[str]]] = {
    "insert": (insert(Tag), {"id": 7}, set(), {"tag:7"}),
    "insert many": (insert(Tag), [{"id": 7}, {"id": 8}], set(), {"tag:7", "tag:8"}),
    "insert a hundred": (insert(Tag), [{"id": n} for n in range(100, 200)], {"tag"}, set()),
    "insert text": ("INSERT INTO tag (id) VALUES (:id)", {"id": 7}, set(), {"tag:7"}),
    "insert from": ("INSERT INTO tag (id) SELECT id + 50 FROM part", None, {"tag"}, set()),
    "update a row": (update(Item).where(Item.id == 1).values(name="z"), None, set(), {"item:1"}),
    "update all": (update(Item).values(name="z"), None, {"item"}, set()),
    "update by another column": (update(Item).where(Item.name == "q").values(name="z"), None, {"item"}, set()),
    "update a key": (update(Item).where(Item.id == 2).values(id=5), None, {"item", "part"}, set()),
    "update text": ("UPDATE item SET name = 'z' WHERE id = :id", {"id": 2}, set(), {"item:2"}),
    "update a key in text": ("UPDATE item SET id = 6 WHERE id = 2", None, {"item", "part"}, set()),
    "delete a row": (Item.__table__.delete().where(Item.id == 2), None, {"link", "part", "note"}, {"item:2"}),  # type: ignore[attr-defined]
    "delete of a part": ("DELETE FROM part WHERE id = 1", None, {"note"}, {"part:1"}),
    "delete all": ("DELETE FROM tag WHERE id > 99", None, {"tag"}, set()),
    "literals and comments": ("UPDATE tag SET id = id /* update item */ -- delete from note", None, {"tag"}, set()),
}


@pytest.mark.parametrize("name", WRITES)
def test_writes__of_each_kind_of_statement(watched: Watched, name: str) -> None:
    """The rows where they are known; what foreign keys remove or change with them, as a whole."""
    statement, parameters, tables, rows = WRITES[name]
    found = watched.run(statement, parameters)
    assert (names(found.writes), names(found.written_rows)) == (tables, rows)
    assert found.understood


def test_writes__of_the_orm(watched: Watched) -> None:
    """Flushes write rows; many-to-many ones those of the table between."""
    written: list[tuple[set[str], set[str]]] = []
    with Session(watched.engine) as session:
        item = session.get_one(Item, 1)
        item.name = "new"
        item.tags.append(session.get_one(Tag, 1))
        session.flush()
        item.tags.clear()
        session.flush()
        session.delete(session.get_one(Item, 2))
        session.flush()
        written = [(names(each.writes), names(each.written_rows)) for each in watched.statements if each.is_write]
        session.rollback()
    assert written == [
        (set(), {"item:1"}),
        (set(), {"link:1/1"}),
        (set(), {"link:1/1", "link:1/2"}),
        ({"part", "link", "note"}, {"item:2"}),
    ]


def test_writes__of_keys_that_the_database_makes_are_known_at_the_commit(watched: Watched) -> None:
    """A row that appears where there was none has a key by then; until then its table counts as a whole."""
    contexts = []
    watched.listen("before_cursor_execute", lambda *args: contexts.append(args[4]))
    with Session(watched.engine) as session:
        item = Item(name="made")
        session.add(item)
        session.flush()
        found = watched.database.classify(contexts[-1])
        assert (names(found.writes), found.generates_keys) == ({"item"}, True)
        done = watched.database.completed(found, contexts[-1])
        assert (names(done.writes), names(done.written_rows)) == (set(), {f"item:{item.id}"})
        session.rollback()


def test_writes__of_upserts_may_be_of_other_rows(watched: Watched) -> None:
    """Another unique key may decide which row is written."""
    queries = {
        "mysql": "INSERT INTO tag (id) VALUES (1) ON DUPLICATE KEY UPDATE id = id",
        "postgresql": "INSERT INTO tag (id) VALUES (1) ON CONFLICT (id) DO NOTHING",
        "sqlite": "INSERT OR REPLACE INTO tag (id) VALUES (1)",
    }
    found = watched.run(queries[watched.engine.dialect.name])
    assert (names(found.writes), found.written_rows) == ({"tag"}, ())


def test_writes__of_triggers(watched: Watched) -> None:
    """What a trigger's body writes is written with its table, unless the app says what that is."""
    body = "INSERT INTO tag (id) VALUES (1000)"
    if watched.engine.dialect.name == "postgresql":
        watched.make(
            f"CREATE FUNCTION note_item() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body}; RETURN NEW; END'",
            "CREATE TRIGGER noted AFTER UPDATE ON item FOR EACH ROW EXECUTE FUNCTION note_item()",
        )
    elif watched.engine.dialect.name == "mysql":
        watched.make(f"CREATE TRIGGER noted AFTER UPDATE ON item FOR EACH ROW {body}")
    else:
        watched.make(f"CREATE TRIGGER noted AFTER UPDATE ON item BEGIN {body}; END")
    found = watched.run("UPDATE item SET name = 'z' WHERE id = 1")
    assert "tag" in names(found.writes)
    assert found.understood
    watched.database.declarations.depends(table="item", writes=["note"])
    found = watched.run("UPDATE item SET name = 'y' WHERE id = 1")
    assert "note" in names(found.writes)
    assert "tag" not in names(found.writes)


POSTGRES_WRITES: dict[str, tuple[str, set[str], bool]] = {
    "CTE": ("WITH d AS (DELETE FROM part RETURNING id) SELECT * FROM d", {"part", "note"}, True),
    "from": ("UPDATE item SET name = 'x' FROM part WHERE part.item_id = item.id", {"item"}, True),
    "using": ("DELETE FROM part USING item WHERE part.item_id = item.id", {"part", "note"}, True),
    "truncate": ("TRUNCATE link", {"link"}, True),
    "truncate cascade": ("TRUNCATE item CASCADE", {"item", "part", "link", "note"}, True),
    "merge": (
        "MERGE INTO tag USING part ON tag.id = part.id WHEN NOT MATCHED THEN INSERT (id) VALUES (part.id)",
        {"tag"},
        True,
    ),
    "do": ("DO 'BEGIN DELETE FROM note; END'", set(), False),
    "alter": ("ALTER TABLE tag ADD COLUMN extra int", {"tag"}, True),
    "two statements": ("DELETE FROM note; DELETE FROM link", {"note", "link"}, True),
}


@pytest.mark.parametrize("name", POSTGRES_WRITES)
def test_writes__on_postgresql(on_postgres: Watched, name: str) -> None:
    """What only PostgreSQL has; what can't be understood may write anything."""
    query, tables, understood = POSTGRES_WRITES[name]
    self = on_postgres
    self.statements.clear()
    with self.engine.connect() as connection:
        connection.exec_driver_sql(query)
        connection.rollback()
    found = self.statements[-1]
    assert (names(found.writes), found.understood, found.writes_all) == (tables, understood, not understood)


def test_writes__of_copy(on_postgres: Watched) -> None:
    """COPY … FROM writes, COPY … TO reads."""
    database = on_postgres.database
    _, found = database.read_text("COPY item (id, name) FROM STDIN")
    assert names(found.writes) == {"item"}
    _, found = database.read_text("COPY (SELECT * FROM tag) TO STDOUT")
    assert (names(found.reads), found.is_write) == ({"tag"}, False)


def test_rows__by_several_keys_of_a_tuple_are_the_table(watched: Watched) -> None:
    """Only single columns are compared with values."""
    found = watched.run(select(link).where(tuple_(link.c.item_id, link.c.tag_id).in_([(1, 2)])))
    assert names(found.reads) == {"link"}


def test_parsing__is_done_once_for_each_statement(watched: Watched) -> None:
    """The second execution finds the plan of the first, by its compiled form or its text."""
    plans = set()
    watched.database.outdate()  # not by itself, in the middle of the test
    watched.listen("before_cursor_execute", lambda *args: plans.add(id(watched.database.plan(args[4]))))
    for number in (1, 2, 3):
        watched.run(select(Item).where(Item.id == number))
        watched.run("SELECT * FROM tag WHERE id = :id", {"id": number})
    assert len(plans) == 2
