"""Statements that commit by themselves and return rows: they have taken effect before anybody hears that they have."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g
from sqlalchemy import Column, Connection, Integer, MetaData, Table, create_engine, insert, select, text, update

from flask_rcache import AUTO, CacheType, RCache, cached
from flask_rcache.sql import SQLCache

PAGE = CacheType("page", ttl=600)
ITEM = Table("item", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
RAISE = "UPDATE item SET n = n + 1 RETURNING id, n"


class Site:
    """An app with a page of all items, read on a connection of its own."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        app = Flask("site")
        app.config.update(RCACHE_URL="memory://")
        RCache(app, types=[PAGE])
        SQLCache(self.engine).init_app(app)
        self._app = app

        @cached(PAGE, tags=AUTO)
        def page() -> list[tuple[int, int]]:
            return [tuple(row) for row in g.connection.execute(select(ITEM).order_by(ITEM.c.id))]

        self._page = page

    def visit(self) -> list[tuple[int, int]]:
        """What a request of its own shows."""
        with self._app.test_request_context("/"), self.engine.connect() as g.connection:
            shown: list[tuple[int, int]] = self._page()
            return shown


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(f"sqlite:///{tmp_path}/items.db")
    with made.engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        ITEM.create(connection)
        connection.execute(insert(ITEM), [{"id": id, "n": 0} for id in (1, 2, 3)])
    yield made
    made.engine.dispose()


def _with_text(connection: Connection) -> Any:
    return connection.execute(text(RAISE))


def _with_core(connection: Connection) -> Any:
    return connection.execute(update(ITEM).values(n=ITEM.c.n + 1).returning(ITEM.c.id, ITEM.c.n))


def _with_driver_sql(connection: Connection) -> Any:
    return connection.exec_driver_sql(RAISE)


def _with_own_cursor(connection: Connection) -> Any:
    driver: Any = connection.connection.dbapi_connection
    return driver.cursor().execute(RAISE)


def _with_driver(connection: Connection) -> Any:
    driver: Any = connection.connection.dbapi_connection
    return driver.execute(RAISE)


@pytest.mark.parametrize("act", [_with_text, _with_core, _with_driver_sql, _with_own_cursor, _with_driver])
@pytest.mark.parametrize(
    "fetch",
    [
        lambda result: result.fetchall(),
        lambda result: [result.fetchone() for _ in range(3)],
        lambda result: [*result.fetchmany(2), *result.fetchmany(2)],
        list,
    ],
    ids=["all", "one", "many", "iteration"],
)
def test_returning__has_taken_effect_before_its_rows_are_asked_for(
    site: Site, act: Callable[[Connection], Any], fetch: Callable[[Any], list[Any]]
) -> None:
    """SQLite commits with the last row: what is read by others meanwhile is never older, and no row is lost."""
    assert site.visit() == [(1, 0), (2, 0), (3, 0)]
    with site.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for n in (1, 2):  # the second on a cursor that may have been used
            result = act(connection)
            assert site.visit() == [(1, n), (2, n), (3, n)]
            assert sorted(tuple(row) for row in fetch(result)) == [(1, n), (2, n), (3, n)]
            assert result.fetchone() is None
    assert site.visit() == [(1, 2), (2, 2), (3, 2)]


def test_returning__of_many_rows_inserted_at_once(site: Site) -> None:
    """SQLAlchemy fetches the keys of rows that it inserts in batches."""
    assert site.visit() == [(1, 0), (2, 0), (3, 0)]
    with site.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        rows = [{"n": n} for n in range(2500)]
        result = connection.execute(insert(ITEM).returning(ITEM.c.n, sort_by_parameter_order=True), rows)
        assert len(site.visit()) == 2503
        assert [row.n for row in result] == list(range(2500))


def test_returning__a_cursor_is_used_again(site: Site) -> None:
    """What it had fetched is nothing to its next statement."""
    with site.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver: Any = connection.connection.dbapi_connection
        cursor = driver.cursor()
        assert len(cursor.execute(RAISE).fetchmany()) == 1
        assert cursor.execute("SELECT count(*) FROM item").fetchall() == [(3,)]
        cursor.execute(RAISE)
        cursor.close()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            cursor.fetchone()


def test_returning__in_a_transaction_is_fetched_as_ever(site: Site) -> None:
    """Nothing is fetched ahead where a commit follows."""
    with site.engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        cursor = driver.cursor()
        kind = type(cursor)
        cursor.execute(RAISE)
        assert type(cursor) is kind
        assert len(cursor.fetchall()) == 3
        driver.commit()
    assert site.visit() == [(1, 1), (2, 1), (3, 1)]
