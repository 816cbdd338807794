"""Cached queries: their keys, exact types, one load for all, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, create_engine, event, func, insert, select, text, types
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Mapped, Session, mapped_column

from flask_rcache import ConfigError, EncodeError, RCache, current_cache
from flask_rcache.sql import SQLCache, cached_query
from tests.sql.servers import Postgres


class Shop:
    """An app with two databases, and the statements that reach them."""

    def __init__(self, url: str, other: str) -> None:
        self.app = Flask("shop")
        self.app.config.update(
            SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_BINDS={"audit": other}, TESTING=True, RCACHE_URL="memory://"
        )
        self.db = db = SQLAlchemy(self.app)
        RCache(self.app)
        self.sql = SQLCache(db)
        self.statements: list[str] = []

        class Item(db.Model):  # type: ignore[name-defined,misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str]
            price: Mapped[Decimal] = mapped_column(types.Numeric(12, 2))
            parent_id: Mapped[int | None] = mapped_column(ForeignKey("item.id"))

        class Log(db.Model):  # type: ignore[name-defined,misc]
            __bind_key__ = "audit"
            id: Mapped[int] = mapped_column(primary_key=True)
            line: Mapped[str]

        self.item: Any = Item
        self.log: Any = Log
        with self.app.app_context():
            db.create_all()
            db.session.add_all(
                [self.item(name="a", price=Decimal("1.50")), self.item(name="b", price=Decimal("20.00"))]
            )
            db.session.add(self.log(line="began"))
            db.session.commit()
            for engine in db.engines.values():
                event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            self.statements.append(statement)

    @property
    def loads(self) -> int:
        """How many queries have reached a database."""
        return len(self.statements)

    def close(self) -> None:
        with self.app.app_context():
            for engine in self.db.engines.values():
                engine.dispose()


@pytest.fixture
def shop(tmp_path: Any) -> Iterator[Shop]:
    made = Shop(f"sqlite:///{tmp_path / 'shop.db'}", f"sqlite:///{tmp_path / 'audit.db'}")
    yield made
    made.close()


def test_fetch__loads_once_for_equal_statements(shop: Shop) -> None:
    """The key is the compiled statement with its parameters: equal ones share, others do not."""
    item = shop.item
    with shop.app.app_context():
        for _ in range(2):
            assert shop.sql.fetch(select(item.name).where(item.price > 5)) == [{"name": "b"}]
        assert shop.loads == 1
        assert shop.sql.fetch(select(item.name).where(item.price > 1).order_by(item.id)) == [
            {"name": "a"},
            {"name": "b"},
        ]
        assert shop.loads == 2


def test_fetch__tells_parameters_apart_by_their_types(shop: Shop) -> None:
    """1 and "1" and True are other questions, in text too."""
    with shop.app.app_context():
        found = [shop.sql.fetch("SELECT :x AS x", {"x": x})[0]["x"] for x in (1, "1", 1.5, None)]
        assert found == [1, "1", 1.5, None]
        assert shop.loads == 4


def test_fetch__gives_an_entity_as_its_columns(shop: Shop) -> None:
    """A session's objects can't be shared: their columns come instead."""
    with shop.app.app_context():
        rows = shop.sql.fetch(select(shop.item).where(shop.item.id == 1))
    assert rows == [{"id": 1, "name": "a", "price": Decimal("1.50"), "parent_id": None}]


def test_fetch__has_the_tables_and_rows_that_it_read_as_tags(shop: Shop) -> None:
    """An invalidation of the table, or of the row, is enough; one of another row is none."""
    with shop.app.app_context():
        shop.sql.fetch(select(shop.item.name).where(shop.item.id == 1), tags=["extra"])
        (entry,) = current_cache.entries()
        assert set(entry.tags) == {"extra", "row:main.item:1", "rows:main.item", "table:*"}
        current_cache.invalidate_tags("row:main.item:2", "table:main.item")
        current_cache.fresh()
        shop.sql.fetch(select(shop.item.name).where(shop.item.id == 1), tags=["extra"])
        assert shop.loads == 1
        current_cache.invalidate_tags("row:main.item:1")
        current_cache.fresh()
        shop.sql.fetch(select(shop.item.name).where(shop.item.id == 1), tags=["extra"])
        assert shop.loads == 2


def test_fetch__depends_on_nothing_that_the_request_has_read_before(shop: Shop) -> None:
    """A page of ten queries: a write to the table of one invalidates that one only."""
    item, log = shop.item, shop.log
    with shop.app.app_context():
        shop.db.session.get(item, 1)
        shop.sql.fetch(select(item.name))
        shop.sql.fetch(select(log.line))
        tags = {entry.tags for entry in current_cache.entries()}
    assert {frozenset(each) for each in tags} == {
        frozenset({"table:main.item", "table:*"}),
        frozenset({"table:audit.main.log", "table:audit.*"}),
    }


def test_fetch__runs_on_the_bind_of_its_tables(shop: Shop) -> None:
    """With several databases the tags carry the bind's name; text says which one is meant."""
    with shop.app.app_context():
        assert shop.sql.fetch(select(shop.log.line)) == [{"line": "began"}]
        (entry,) = current_cache.entries()
        assert set(entry.tags) == {"table:audit.main.log", "table:audit.*"}
        assert shop.sql.fetch("SELECT line FROM log", bind="audit") == [{"line": "began"}]
        with pytest.raises(ConfigError, match="watches no database 'nowhere'"):
            shop.sql.fetch("SELECT 1", bind="nowhere")


def test_fetch__refresh_replaces_what_is_cached(shop: Shop) -> None:
    """The query runs whatever lies there, and the next reader gets what it found."""
    with shop.app.app_context():
        query = "SELECT count(*) AS n FROM item"
        assert shop.sql.fetch(query) == [{"n": 2}]
        other = create_engine(shop.sql.database().engine.url)  # another program's
        with other.begin() as connection:
            connection.execute(text("INSERT INTO item (name, price) VALUES ('c', 1)"))
        other.dispose()
        assert shop.sql.fetch(query) == [{"n": 2}]
        assert shop.sql.fetch(query, refresh=True) == [{"n": 3}]
        assert shop.sql.fetch(query) == [{"n": 3}]


def test_fetch__sees_what_its_session_has_not_flushed(shop: Shop) -> None:
    """A db's query runs on its session, as any other would."""
    with shop.app.app_context():
        shop.db.session.add(shop.item(name="new", price=Decimal(1)))
        names = shop.sql.fetch(select(shop.item.name).order_by(shop.item.id))
        assert [row["name"] for row in names] == ["a", "b", "new"]
        shop.db.session.rollback()


@pytest.mark.parametrize("statement", ["DELETE FROM item", "UPDATE item SET name = 'x'", "DROP TABLE item"])
def test_fetch__refuses_text_that_writes(shop: Shop, statement: str) -> None:
    """On a hit it would not run."""
    with shop.app.app_context(), pytest.raises(ConfigError, match="this writes"):
        shop.sql.fetch(statement)


def test_fetch__refuses_what_is_no_query(shop: Shop) -> None:
    """Each mistake is named, with what to write instead."""
    with shop.app.app_context():
        for statement in (insert(shop.item).values(name="x"), shop.item.id == 1, 7, None):
            with pytest.raises(ConfigError):
                shop.sql.fetch(statement)
        with pytest.raises(ConfigError, match="are a dict"):
            shop.sql.fetch("SELECT 1", [1])  # type: ignore[arg-type]


def test_fetch__of_a_volatile_query_is_not_stored(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """`random()` answers differently each time; `sql.pure` says that this does not matter."""
    query = "SELECT random() AS x"
    with shop.app.app_context():
        assert shop.sql.fetch(query) != shop.sql.fetch(query)
        assert "it has read random()" in caplog.text
        shop.sql.pure("random")
        other = "SELECT random() AS y"
        assert shop.sql.fetch(other) == shop.sql.fetch(other)


def test_fetch__under_strict_says_which_column_cannot_be_stored(shop: Shop) -> None:
    """The error names the column and the type; without strict the rows come uncached."""

    class Odd(types.TypeDecorator[object]):
        impl = types.Integer
        cache_ok = True

        def process_result_value(self, value: Any, dialect: Any) -> object:
            return object()

    query = select(func.abs(shop.item.id, type_=Odd()).label("odd"))
    with shop.app.app_context(), pytest.raises(EncodeError, match="column 'odd'"):
        shop.sql.fetch(query)


def test_fetch__of_equal_column_names_keeps_the_last(shop: Shop) -> None:
    """As a mapping of SQLAlchemy does."""
    with shop.app.app_context():
        rows = shop.sql.fetch("SELECT 1 AS a, 2 AS a")
    assert rows == [{"a": 2}]


def test_fetch__results_share_nothing(shop: Shop) -> None:
    """What one caller does to its rows, no other sees."""
    with shop.app.app_context():
        shop.sql.fetch("SELECT 1 AS a")[0]["a"] = 7
        assert shop.sql.fetch("SELECT 1 AS a") == [{"a": 1}]


def test_fetch__on_a_session_of_a_plain_engine(sqlite_file: str) -> None:
    """Without Flask-SQLAlchemy: an engine, a session of it, a connection of it."""
    app = Flask("plain")
    app.config.update(TESTING=True, RCACHE_URL="memory://")
    RCache(app)
    engine = create_engine(sqlite_file)
    sql = SQLCache(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)"))
        connection.execute(text("INSERT INTO item (name) VALUES ('a')"))
    with app.app_context(), Session(engine) as session, engine.connect() as connection:
        query = "SELECT name FROM item"
        assert sql.fetch(query) == sql.fetch(query, on=session) == sql.fetch(query, on=connection) == [{"name": "a"}]
        assert sql.stats()["statements"][0]["hits"] == 2
    engine.dispose()


def test_afetch__over_an_async_engine(tmp_path: Any) -> None:
    """The same for an engine of asyncio; each says what to call on the other."""
    import asyncio

    app = Flask("async")
    app.config.update(TESTING=True, RCACHE_URL="memory://")
    RCache(app)
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    sql = SQLCache(engine)

    async def run() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)"))
            await connection.execute(text("INSERT INTO item (name) VALUES ('a')"))
        with app.app_context():
            for _ in range(2):
                assert await sql.afetch("SELECT name FROM item") == [{"name": "a"}]
            (entry,) = current_cache.entries()
            assert "table:main.item" in entry.tags
            with pytest.raises(ConfigError, match="afetch"):
                sql.fetch("SELECT 1")
        await engine.dispose()

    asyncio.run(run())
    with app.app_context():
        assert sql.stats()["statements"][0]["hits"] == 1


def test_cached_query__knows_its_tables_and_returns_mappings(shop: Shop) -> None:
    """A function that returns rows returns dicts, cached under its arguments and the tables it read."""
    calls = []

    @cached_query(ttl=60, tags=["names"])
    def names(least: int) -> Any:
        calls.append(least)
        return shop.db.session.execute(select(shop.item.name).where(shop.item.price >= least))

    with shop.app.app_context():
        assert names(5) == names(5) == [{"name": "b"}]
        assert names(0) == [{"name": "a"}, {"name": "b"}]
        assert calls == [5, 0]
        entry = next(iter(current_cache.entries()))
        assert set(entry.tags) == {"names", "table:main.item", "table:*"}
        assert entry.key.startswith("cache:query:")


def test_cached_query__refuses_entities(shop: Shop) -> None:
    """They belong to their session; the error says what to return instead."""

    @cached_query()
    def items() -> Any:
        return shop.db.session.scalars(select(shop.item)).all()

    with (
        shop.app.app_context(),
        pytest.raises(EncodeError, match="an object of SQLAlchemy, which belongs to its session"),
    ):
        items()


def test_stats__compare_query_time_and_cache_time(shop: Shop) -> None:
    """By statement: hits, misses, times, tables, and the tag that invalidated it."""
    query = "SELECT name FROM item"
    with shop.app.app_context():
        for _ in range(3):
            shop.sql.fetch(query)
        current_cache.invalidate_tags("table:main.item")
        (row,) = shop.sql.stats()["statements"]
    assert (row["statement"], row["hits"], row["misses"], row["rows"]) == (query, 2, 1, 2)
    assert row["tables"] == ["table:*", "table:main.item"]
    assert (row["invalidated_by"], row["invalidations"]) == ("table:main.item", 1)
    assert row["query_avg"] > 0
    assert row["query_avg"] <= row["query_p95"] <= row["query_avg"] * 1.26
    assert row["cache_avg"] > 0


@pytest.mark.slow
def test_fetch__one_hundred_clients_run_a_slow_query_once(postgres: Postgres) -> None:
    """All of them ask while it runs, and wait for the one that does."""
    app = Flask("slow")
    app.config.update(TESTING=True, RCACHE_URL="memory://")
    RCache(app)
    engine = create_engine(postgres.url)
    sql = SQLCache(engine)
    sql.pure("pg_sleep")
    ran: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: ran.append(args[2]))
    found: list[Any] = []

    def ask() -> None:
        with app.app_context():
            found.append(sql.fetch("SELECT 1 AS one FROM pg_sleep(3)"))

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    assert found == [[{"one": 1}]] * 100
    assert len(ran) == 1


VALUES: dict[str, list[Any]] = {
    "small": [0, 1, -128, 127, None],
    "big": [2**62, -(2**63), 0, 5, None],
    "huge": [2**70, 1, 2, 3, 4],
    "price": [Decimal("1.50"), Decimal("-0.05"), Decimal("1000000.00"), Decimal("0.00"), None],
    "odd": [Decimal("1.5"), Decimal("1E+3"), Decimal("NaN"), Decimal("-0"), Decimal("0.000")],
    "ratio": [0.1, -0.0, float("inf"), 1e300, None],
    "flag": [True, False, True, None, None],
    "name": ["a", "é", "", "a", None],
    "mixed": [1, "1", True, 1.0, None],
    "day": [date(1, 1, 1), date(9999, 12, 31), date(2024, 2, 29), None, None],
    "at": [datetime(2024, 1, 1), datetime(1900, 1, 1, 1, 1, 1, 999999), datetime.max, datetime.min, None],
    "zoned": [datetime(2024, 1, 1, tzinfo=UTC)] * 5,
    "span": [timedelta(1), timedelta(microseconds=-1), None, timedelta(0), timedelta(0)],
    "token": [uuid4(), UUID(int=0), UUID(int=2**128 - 1), None, uuid4()],
    "data": [b"", b"\x00\xff", None, b"x", b"x"],
    "json": [{"a": [1, None]}, [], {}, None, {"b": Decimal("1.0")}],
    "empty": [None] * 5,
}


@pytest.mark.parametrize("name", VALUES)
def test_pack__gives_back_equal_values_of_equal_types(name: str) -> None:
    """Each column comes back exactly, in its dense form or through the value codec."""
    from flask_rcache.codec import ValueCodec
    from flask_rcache.sql.packing import Rows, pack, unpack

    rows = Rows((name,), [(value,) for value in VALUES[name]])
    back = unpack(pack(rows, ValueCodec()), ValueCodec())
    assert repr(back) == repr(rows)
    assert [type(row[0]) for row in back.rows] == [type(value) for value in VALUES[name]]


def test_pack__keeps_the_number_of_rows_without_columns_or_rows() -> None:
    """A result without rows has its names still."""
    from flask_rcache.codec import ValueCodec
    from flask_rcache.sql.packing import Rows, pack, unpack

    for rows in (Rows(("a", "b"), []), Rows((), [(), ()])):
        assert unpack(pack(rows, ValueCodec()), ValueCodec()) == rows


@pytest.mark.race
@pytest.mark.parametrize("seconds", [3, pytest.param(15, marks=pytest.mark.long)])
def test_fetch__one_slow_query_for_a_hundred_clients(postgres: Postgres, redis_server: Any, seconds: int) -> None:
    """A slow query that a hundred clients of two apps ask for at once runs once, longer than any lease holds."""
    runs: list[str] = []
    apps: list[tuple[Flask, SQLCache]] = []
    for name in ("one", "two"):
        engine = create_engine(postgres.url)
        event.listen(
            engine, "before_cursor_execute", lambda *args: runs.append(args[2]) if "slept" in args[2] else None
        )
        app = Flask(name)
        # Who has waited for its time on a busy machine would go on alone.
        app.config.update(RCACHE_URL=redis_server.url, RCACHE_TIMEOUT=20.0)
        RCache(app)
        sql = SQLCache(engine)
        sql.init_app(app)
        sql.pure("pg_sleep")
        apps.append((app, sql))
    barrier, answers = threading.Barrier(100), []

    def ask(number: int) -> None:
        app, sql = apps[number % 2]
        barrier.wait()
        with app.test_request_context("/"):
            answers.append(sql.fetch(f"SELECT 7 AS n, pg_sleep({seconds})::text AS slept"))

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(100)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(100)
    for app, sql in apps:
        sql.database().engine.dispose()
        app.extensions["rcache"].close()
    assert answers == [[{"n": 7, "slept": ""}]] * 100
    assert len(runs) == 1


def test_stats__of_all_processes(sqlite_file: str, redis_server: Any) -> None:
    """Two apps on one server, as two processes have them: one table of statements, in which both are counted once."""
    apps = []
    engine = create_engine(sqlite_file)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE item (id INTEGER)"))
    sql = SQLCache(engine)
    for number in range(2):
        app = Flask(f"process{number}")
        app.config.update(TESTING=True, RCACHE_URL=redis_server.url)
        RCache(app)
        sql.init_app(app)
        apps.append(app)
    for app in apps:
        with app.app_context():
            for _ in range(3):
                sql.fetch("SELECT id FROM item")
    with apps[0].app_context(), engine.begin() as connection:
        connection.execute(text("INSERT INTO item VALUES (1)"))
    found = []
    for app in apps:
        with app.app_context():
            current_cache.stats()  # what this one has counted is sent
            (row,) = sql.stats()["statements"]
            assert current_cache.overview()["statements"] == [row]
            found.append(row)
    row = found[-1]
    assert (row["statement"], row["hits"], row["misses"]) == ("SELECT id FROM item", 5, 1)
    assert row["invalidated_by"] == "table:main.item"
    assert row["query_p95"] * 1.26 >= row["query_avg"] > 0
    assert row["cache_avg"] > 0
    engine.dispose()


def test_stats__of_more_statements_than_are_kept(redis_server: Any) -> None:
    """Those used last are kept; what the server holds does not grow."""
    app = Flask("many")
    app.config.update(TESTING=True, RCACHE_URL=redis_server.url)
    RCache(app)
    with app.app_context():
        manager = current_cache._get_current_object()  # type: ignore[attr-defined]
        for number in range(700):
            manager.engine.statistics.statements.of("", f"SELECT {number}").hit(0.001)
            if number % 250 == 0:
                manager.stats()
        assert len(manager.overview()["statements"]) == 100
        keys = redis_server.client().keys("cache~statements:*")
        assert 400 < len(keys) <= 500
