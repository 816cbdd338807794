"""What is around each statement of a watched engine: it costs nothing that listeners would, and misses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, event, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import Sequence

from flask_rcache import AUTO, CacheType, RCache, cached
from flask_rcache.errors import ConfigError
from flask_rcache.sql import SQLCache

from .servers import Postgres

PAGE = CacheType("page", ttl=600)


class Base(DeclarativeBase):
    """The tables."""


class Item(Base):
    """Something with a name."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class OddError(Exception):
    """What no driver raises."""


class Odd(int):
    """A number that drivers take, and that raises when it is looked at."""

    def __int__(self) -> int:
        raise OddError


class Shop:
    """An app with one cached function that reads all names, and how often it ran."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.runs = 0
        self.app = Flask("shop")
        self.app.config.update(RCACHE_URL="memory://")
        RCache(self.app, types=[PAGE])
        self.sql = SQLCache(engine)
        self.sql.init_app(self.app)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add_all([Item(id=1, name="one"), Item(id=2, name="two")])
            session.commit()

        @cached(PAGE, tags=AUTO)
        def names() -> list[str]:
            self.runs += 1
            with Session(engine) as session:
                return list(session.scalars(select(Item.name).order_by(Item.id)))

        self._names = names

    def names(self) -> list[str]:
        """What a request is given."""
        with self.app.test_request_context("/"):
            found: list[str] = self._names()
        return found


@pytest.fixture
def shop(sqlite_file: str) -> Iterator[Shop]:
    engine = create_engine(sqlite_file)
    yield Shop(engine)
    engine.dispose()


def test_watch__leaves_no_listener_that_runs_for_each_statement(shop: Shop) -> None:
    """SQLAlchemy looks for listeners at each statement as soon as an engine or its dialect has one of any kind."""
    assert not shop.engine._has_events
    assert not shop.engine.dialect._has_events


def test_do_execute__by_a_listener_that_runs_the_statement_itself(shop: Shop) -> None:
    """SQLAlchemy runs nothing then; the driver's cursor is observed."""

    @event.listens_for(shop.engine, "do_execute")
    def run(cursor: Any, statement: str, parameters: Any, _: Any) -> bool:
        cursor.execute(statement, parameters)
        return True

    assert shop.names() == ["one", "two"]
    with shop.engine.begin() as connection:
        connection.execute(update(Item).where(Item.id == 1).values(name="new"))
    assert shop.names() == ["new", "two"]
    assert shop.names() == ["new", "two"]
    assert shop.runs == 2


def test_cursor__of_the_driver_that_reads(shop: Shop) -> None:
    """A page depends on what it reads beside SQLAlchemy, too."""

    @cached(PAGE, tags=AUTO)
    def count() -> int:
        connection = shop.engine.raw_connection()
        try:
            cursor = connection.cursor()
            found: int = cursor.execute("SELECT count(*) FROM item").fetchone()[0]
            cursor.close()
            return found
        finally:
            connection.close()

    with shop.app.test_request_context("/"):
        assert count() == 2
    with shop.engine.begin() as connection:
        connection.execute(text("DELETE FROM item WHERE id = 1"))
    with shop.app.test_request_context("/"):
        assert count() == 1


def test_statement__that_a_listener_has_rewritten(shop: Shop) -> None:
    """What is sent counts; a comment that is added changes nothing."""
    with shop.engine.begin() as connection:
        connection.execute(text("CREATE TABLE other (id INTEGER)"))
    assert shop.names() == ["one", "two"]

    def rewrite(_: Any, __: Any, statement: str, parameters: Any, ___: Any, ____: bool) -> tuple[str, Any]:
        return statement.replace("other", "item") + " /* by: a listener */", parameters

    event.listen(shop.engine, "before_cursor_execute", rewrite, retval=True)
    with shop.engine.begin() as connection:
        connection.execute(text("SELECT 1"))
        connection.execute(text("DELETE FROM other WHERE id = 2"))
    assert shop.names() == ["one"]
    assert shop.names() == ["one"]
    assert shop.runs == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "9" * 5000], ids=["nan", "inf", "digits"])
def test_parameters__that_are_no_keys(shop: Shop, value: Any) -> None:
    """A key that can't be spelled is that of no row: the table counts."""

    @cached(PAGE, tags=AUTO)
    def name() -> str | None:
        with Session(shop.engine) as session:
            return session.scalar(select(Item.name).where(text("id = :id").bindparams(id=value)))

    with shop.app.test_request_context("/"):
        assert name() is None


def test_parameters__that_raise_fail_no_statement(shop: Shop) -> None:
    """Nor is the statement missed: it counts as one that reads and writes every table."""
    assert shop.names() == ["one", "two"]
    with Session(shop.engine) as session:
        session.execute(text("UPDATE item SET name = 'new' WHERE id = :id"), {"id": Odd(1)})
        session.commit()
    assert shop.names() == ["new", "two"]

    @cached(PAGE, tags=AUTO)
    def name() -> str | None:
        with Session(shop.engine) as session:
            return session.scalar(select(Item.name).where(Item.id == Odd(1)))

    with shop.app.test_request_context("/"):
        assert name() == "new"
    with shop.engine.begin() as connection:
        connection.execute(text("UPDATE item SET name = 'newer' WHERE id = 1"))
    with shop.app.test_request_context("/"):
        assert name() == "newer"


def test_sequence__that_is_read_alone(postgres: Postgres) -> None:
    """Its execution has no statement of its own."""
    engine = create_engine(postgres.url)
    shop = Shop(engine)
    with engine.begin() as connection:
        Sequence("numbers").create(connection)
        assert connection.scalar(Sequence("numbers")) == 1

    @cached(PAGE, tags=AUTO)
    def number() -> Any:
        with engine.begin() as connection:
            return connection.scalar(Sequence("numbers"))

    with shop.app.test_request_context("/"):
        assert (number(), number()) == (2, 3)
    engine.dispose()


def test_inserts__in_several_parts_are_known_row_by_row(postgres: Postgres) -> None:
    """Rows whose keys the database makes, sent in parts: pages of other rows stay valid."""
    engine = create_engine(postgres.url, insertmanyvalues_page_size=2)
    shop = Shop(engine)
    runs = 0

    @cached(PAGE, tags=AUTO)
    def first() -> str | None:
        nonlocal runs
        runs += 1
        with Session(engine) as session:
            return session.get_one(Item, 1).name

    with shop.app.test_request_context("/"):
        assert first() == "one"
    with Session(engine) as session:
        session.execute(text("SELECT setval('item_id_seq', 100)"))
        session.add_all([Item(name=str(number)) for number in range(5)])
        session.commit()
    with shop.app.test_request_context("/"):
        assert first() == "one"
    assert runs == 1
    engine.dispose()


# Engines


def test_watch__by_two_of_one_engine(shop: Shop) -> None:
    """An app that is made twice with an engine of its module: it is watched once, and both caches are told."""
    before = shop.engine.dialect.do_execute
    again = Flask("again")
    again.config.update(RCACHE_URL="memory://")
    RCache(again, types=[PAGE])
    sql = SQLCache(shop.engine)
    sql.init_app(again)
    assert shop.engine.dialect.do_execute is before

    @cached(PAGE, tags=AUTO)
    def count() -> Any:
        with Session(shop.engine) as session:
            return session.scalar(text("SELECT count(*) FROM item"))

    with again.test_request_context("/"):
        assert count() == 2
    assert shop.names() == ["one", "two"]
    with shop.engine.begin() as connection:
        connection.execute(text("DELETE FROM item WHERE id = 1"))
    assert shop.names() == ["two"]
    with again.test_request_context("/"):
        assert count() == 1


def test_watch__by_two_with_other_options_is_an_error(shop: Shop) -> None:
    """One database can't have two names."""
    with pytest.raises(ConfigError, match="another SQLCache"):
        SQLCache(shop.engine, name="other")


def test_options__of_an_engine_share_its_database(shop: Shop) -> None:
    """What a session on an engine with options has not sent yet is known."""
    engine = shop.engine.execution_options(logging_token="other")
    assert shop.names() == ["one", "two"]
    with shop.app.test_request_context("/"), Session(engine) as session:
        session.get_one(Item, 1).name = "new"
        assert shop._names() == ["one", "two"]  # not from the cache, which another request could have filled meanwhile
        assert shop.runs == 2
        session.commit()
        assert shop._names() == ["new", "two"]


# Schemas


@pytest.fixture
def tenants(postgres: Postgres) -> Iterator[Shop]:
    """Two schemas with the same table."""
    engine = create_engine(postgres.url)
    shop = Shop(engine)
    with engine.begin() as connection:
        for name in ("a", "b"):
            connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
            connection.execute(text(f"CREATE SCHEMA {name}"))
            connection.execute(text(f"CREATE TABLE {name}.item (id int PRIMARY KEY, name text)"))
            connection.execute(text(f"INSERT INTO {name}.item VALUES (1, 'of {name}')"))
    yield shop
    engine.dispose()


def _of(shop: Shop, schema: str) -> Any:
    return shop.engine.connect().execution_options(schema_translate_map={None: schema})


def test_fetch__in_translated_schemas(tenants: Shop) -> None:
    """The same statement reads other tables: one tenant is never given another's rows."""
    statement = select(Item.name).where(Item.id == 1)
    with tenants.app.test_request_context("/"):
        for _ in range(2):
            for schema in ("a", "b"):
                with _of(tenants, schema) as connection:
                    assert tenants.sql.fetch(statement, on=connection) == [{"name": f"of {schema}"}]
                with Session(tenants.engine.execution_options(schema_translate_map={None: schema})) as session:
                    assert tenants.sql.fetch(statement, on=session) == [{"name": f"of {schema}"}]
        with tenants.engine.begin() as connection:
            connection.execute(text("UPDATE a.item SET name = 'new'"))
        with _of(tenants, "a") as connection:
            assert tenants.sql.fetch(statement, on=connection) == [{"name": "new"}]


def test_pages__in_translated_schemas(tenants: Shop) -> None:
    """A page depends on the table of the schema that it read, whoever writes that, and by whichever name."""
    runs: list[str] = []

    @cached(PAGE, tags=AUTO)
    def name(schema: str) -> Any:
        runs.append(schema)
        with _of(tenants, schema) as connection:
            return connection.scalar(select(Item.name).where(Item.id == 1))

    def names() -> list[Any]:
        with tenants.app.test_request_context("/"):
            return [name("a"), name("b")]

    assert (names(), names()) == (["of a", "of b"], ["of a", "of b"])
    with tenants.engine.begin() as connection:
        connection.execute(text("UPDATE b.item SET name = 'new'"))
    assert names() == ["of a", "new"]
    with _of(tenants, "b") as connection:
        connection.execute(update(Item).where(Item.id == 1).values(name="newer"))
        connection.commit()
    assert names() == ["of a", "newer"]
    assert runs == ["a", "b", "b", "b"]


def test_fetch__on_a_connection_with_settings_is_not_answered_by_others(tenants: Shop) -> None:
    """After `SET search_path` the same text reads other tables."""
    with tenants.app.test_request_context("/"):
        for schema in ("a", "b"):
            with tenants.engine.connect() as connection:
                connection.execute(text(f"SET search_path TO {schema}"))
                found = tenants.sql.fetch("SELECT name FROM item WHERE id = 1", on=connection)
                connection.rollback()
            assert found == [{"name": f"of {schema}"}]


def test_auto__is_refused_where_the_apps_own_database_is_not_watched(shop: Shop) -> None:
    """That another app's is watched in the process says nothing of this one."""
    other = Flask("other")
    other.config.update(RCACHE_URL="memory://")
    RCache(other, types=[PAGE])
    runs = 0

    @cached(PAGE, tags=AUTO)
    def one() -> int:
        nonlocal runs
        runs += 1
        return 1

    for app, expected in ((other, 2), (shop.app, 3)):
        for _ in range(2):
            with app.test_request_context("/"):
                assert one() == 1
        assert runs == expected
