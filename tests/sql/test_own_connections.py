"""Connections that answer as no other does: what is read on them is for nobody else, and they get nothing of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, g
from sqlalchemy import Column, MetaData, String, Table, create_engine, select, text
from sqlalchemy.orm import Session

from flask_rcache import AUTO, CacheType, RCache, cached
from flask_rcache.sql import SQLCache

from .servers import Postgres

PAGE = CacheType("page", ttl=600)
ENTER = "BEGIN PERFORM set_config($$search_path$$, $$tenant$$, false); END"
MADE = (
    "CREATE TABLE customer (name text)",
    "INSERT INTO customer VALUES ('everybody''s')",
    "CREATE SCHEMA tenant",
    "CREATE TABLE tenant.customer (name text)",
    "INSERT INTO tenant.customer VALUES ('the tenant''s')",
    f"CREATE FUNCTION enter() RETURNS void LANGUAGE plpgsql AS '{ENTER}'",
    "CREATE FUNCTION enter_by() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM enter(); END'",
    "CREATE FUNCTION harmless() RETURNS void LANGUAGE plpgsql AS 'BEGIN UPDATE customer SET name = name; END'",
)
CUSTOMER = Table("customer", MetaData(), Column("name", String))


class Site:
    """An app with a page that shows the customers of its request's session."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url)
        self.app = Flask("site")
        self.app.config.update(RCACHE_URL="memory://")
        RCache(self.app, types=[PAGE])
        self.sql = SQLCache(self.engine)
        self.sql.init_app(self.app)
        self.runs = 0

        @cached(PAGE, tags=AUTO)
        def page() -> list[str]:
            self.runs += 1
            return [str(name) for name in g.session.execute(text("SELECT name FROM customer")).scalars()]

        self._page = page

    def visit(self, prepare: Callable[[Session], object] = lambda _: None) -> list[str]:
        """What a request shows whose connection is new, and was prepared."""
        self.engine.dispose()
        with self.app.test_request_context("/"), Session(self.engine) as session:
            prepare(session)
            g.session = session
            shown: list[str] = self._page()
            session.rollback()
            return shown

    def fetch(self, prepare: Callable[[Session], object]) -> list[dict[str, Any]]:
        """What a request fetches whose connection is new, and was prepared."""
        self.engine.dispose()
        with self.app.test_request_context("/"), Session(self.engine) as session:
            prepare(session)
            found = self.sql.fetch(select(CUSTOMER), on=session)
            session.rollback()
            return found


@pytest.fixture
def site(postgres: Postgres) -> Iterator[Site]:
    engine = create_engine(postgres.url)
    with engine.begin() as connection:
        for statement in MADE:
            connection.exec_driver_sql(statement)
    engine.dispose()
    made = Site(postgres.url)
    yield made
    made.engine.dispose()
    made.app.extensions["rcache"].close()


def _runs(*statements: str) -> Callable[[Session], object]:
    def run(session: Session) -> None:
        for statement in statements:
            session.connection().exec_driver_sql(statement)

    return run


def _on_a_cursor(statement: str) -> Callable[[Session], object]:
    return lambda session: session.connection().connection.cursor().execute(statement)


_FILL = "INSERT INTO pg_temp.customer VALUES ('the tenant''s')"
OWN: dict[str, Callable[[Session], object]] = {
    "SET": _runs("SET search_path TO tenant"),
    "SET LOCAL": _runs("SET LOCAL search_path TO tenant"),
    "set_config": _runs("SELECT set_config('search_path', 'tenant', true)"),
    "on a driver's cursor": _on_a_cursor("SET LOCAL search_path TO tenant"),
    "in a block": _runs("DO $$ BEGIN PERFORM set_config('search_path', 'tenant', true); END $$"),
    "in a function": _runs("SELECT enter()"),
    "in a function that another one calls": _runs("SELECT enter_by()"),
    "beside other statements": _runs("SELECT 1; SET LOCAL search_path TO tenant"),
    "temporary table": _runs("CREATE TEMP TABLE customer (name text) ON COMMIT DROP", _FILL),
    "temporary table of a query": _runs("CREATE TEMP TABLE customer AS SELECT 'the tenant''s'::text AS name"),
    "temporary table by its schema": _runs("CREATE TABLE pg_temp.customer (name text)", _FILL),
    "temporary table of SELECT INTO": _runs("SELECT 'the tenant''s'::text AS name INTO TEMP customer"),
    "temporary view": _runs("CREATE TEMP VIEW customer AS SELECT 'the tenant''s'::text AS name"),
    "temporary table on a driver's cursor": _on_a_cursor(f"CREATE TEMP TABLE customer (name text); {_FILL}"),
}


def test_own_connection__neither_gets_nor_gives(site: Site) -> None:
    """A request whose connection was set apart has its own answers, before and after others have stored theirs."""
    own, everybodys = ["the tenant's"], ["everybody's"]
    wrong: list[tuple[str, Any]] = []
    for name, prepare in OWN.items():
        site.app.extensions["rcache"].clear_all()
        seen = [site.visit(prepare), site.visit(), site.visit(), site.visit(prepare)]
        if seen != [own, everybodys, everybodys, own]:
            wrong.append((name, seen))
        fetched = [site.fetch(prepare), site.fetch(lambda _: None), site.fetch(prepare)]
        if [[row["name"] for row in rows] for rows in fetched] != [own, everybodys, own]:
            wrong.append((name, fetched))
    assert not wrong


_CONFIG = "SELECT set_config('search_path', 'tenant', false)"
RESETS: dict[str, tuple[Callable[[Session], object], str, bool]] = {
    "the setting": (_runs("SET search_path TO tenant"), "RESET search_path", True),
    "another setting": (_runs("SET search_path TO tenant"), "RESET work_mem", False),
    "all settings": (_runs("SET search_path TO tenant"), "RESET ALL", True),
    "all settings, not the role": (_runs("SET ROLE reader"), "RESET ALL", False),
    "the role": (_runs("SET ROLE reader"), "RESET ROLE", True),
    "all, not what a function may have set": (_runs(_CONFIG), "RESET ALL", False),
    "one, not what a function may have set": (_runs(_CONFIG), "RESET search_path", False),
    "all of a connection": (_runs(_CONFIG), "DISCARD ALL", True),
    "all of a connection and its tables": (_runs("CREATE TEMP TABLE mine (n int)"), "DISCARD ALL", True),
    "temporary tables": (_runs("CREATE TEMP TABLE mine (n int)"), "DISCARD TEMP", True),
    "temporary tables, not settings": (_runs("SET search_path TO tenant"), "DISCARD TEMP", False),
    "settings, not temporary tables": (_runs("CREATE TEMP TABLE mine (n int)"), "RESET ALL", False),
    "plans": (_runs("SET search_path TO tenant"), "DISCARD PLANS", False),
}


def test_own_connection__until_it_is_reset(site: Site) -> None:
    """What a statement of the server's undoes is undone, and nothing else is thought to be."""
    with site.engine.begin() as connection:
        connection.execute(text("DO 'BEGIN CREATE ROLE reader; EXCEPTION WHEN duplicate_object THEN NULL; END'"))
        connection.execute(text("GRANT SELECT ON customer TO reader"))
    runs = []

    @cached(PAGE, tags=AUTO)
    def page(case: str) -> list[str]:
        runs.append(case)
        return [str(name) for name in g.session.execute(text("SELECT name FROM customer")).scalars()]

    def visit(case: str, *statements: Callable[[Session], object]) -> int:
        """Visit the page of a case on a new connection, after some statements; how often it has run by then."""
        site.engine.dispose()
        with site.app.test_request_context("/"), Session(site.engine) as session:
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            for each in statements:
                each(session)
            g.session = session
            page(case)
        return runs.count(case)

    for name in RESETS:
        visit(name)
    stored = {name: visit(name) for name in RESETS}
    shared = {name: visit(name, prepare, _runs(reset)) == stored[name] for name, (prepare, reset, _) in RESETS.items()}
    assert shared == {name: is_undone for name, (*_, is_undone) in RESETS.items()}


def test_own_connection__not_after_a_function_that_sets_nothing(site: Site) -> None:
    """A function that only writes leaves its connection as it was."""
    site.visit()
    with site.app.test_request_context("/"), Session(site.engine) as session:
        session.connection().exec_driver_sql("SELECT harmless()")
        session.commit()
        g.session = session
        site._page()
    runs = site.runs
    with site.app.test_request_context("/"), Session(site.engine) as session:
        g.session = session
        site._page()
        site._page()
    assert site.runs <= runs + 1


def test_schemas__in_place_of_others_are_part_of_the_key(site: Site) -> None:
    """One construct with two `schema_translate_map` asks for two tables, and is invalidated by its own one's writes."""
    schemas = {"schema_translate_map": {None: "tenant"}}

    def fetched() -> list[str]:
        with site.app.test_request_context("/"), site.engine.connect() as connection:
            found = [
                site.sql.fetch(select(CUSTOMER), on=connection),
                site.sql.fetch(select(CUSTOMER).execution_options(**schemas), on=connection),
                site.sql.fetch(select(CUSTOMER).where(text("name <> ''")).execution_options(**schemas), on=connection),
                site.sql.fetch(select(CUSTOMER), on=connection.execution_options(**schemas)),
            ]
            return [str(rows[0]["name"]) for rows in found]

    assert fetched() == ["everybody's", "the tenant's", "the tenant's", "the tenant's"]
    with site.engine.begin() as connection:
        connection.execute(CUSTOMER.update().values(name="new"), execution_options=schemas)
    assert fetched() == ["everybody's", "new", "new", "new"]
