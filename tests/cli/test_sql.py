"""The command `sql explain`: what a statement would read, without running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, text

from flask_rcache import AUTO, CacheType, RCache, cache_response
from flask_rcache.sql import SQLCache


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    made = create_engine(f"sqlite:///{tmp_path / 'cli.db'}")
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)"))
    yield made
    made.dispose()


def _run(engine: Engine, *arguments: str) -> Any:
    app = Flask("shop")
    app.config.update(TESTING=True, RCACHE_URL="memory://")
    RCache(app)
    sql = SQLCache(engine)
    sql.init_app(app)
    return app.test_cli_runner().invoke(args=["cache", "sql", "explain", *arguments])


def test_explain__shows_rows_and_the_tags_of_an_entry(engine: Engine) -> None:
    """With the parameter that names the row; the statement is not run."""
    result = _run(engine, "SELECT * FROM item WHERE id = :id", "--param", "id=7", "--json")
    found = json.loads(result.output)
    assert (found["read_rows"], found["stored"]) == (["main.item:7"], True)
    assert set(found["depends_on"]) == {"rows:main.item", "row:main.item:7", "table:*"}


def test_explain__says_why_a_result_is_not_stored(engine: Engine) -> None:
    """For people: the reason, and nothing of invalidation."""
    result = _run(engine, "SELECT random() FROM item")
    assert "not stored   it depends on random()" in result.output
    assert "invalidated by" not in result.output


def test_explain__of_a_write_shows_what_its_commit_stamps(engine: Engine) -> None:
    """Nothing is deleted."""
    result = _run(engine, "DELETE FROM item")
    assert result.exit_code == 0
    assert "table:main.item" in result.output.partition("Its commit stamps:")[2]


def test_explain__refuses_a_parameter_without_a_name(engine: Engine) -> None:
    """With what to write."""
    result = _run(engine, "SELECT 1", "--param", "7")
    assert result.exit_code == 2
    assert "NAME=VALUE" in result.output


@pytest.mark.parametrize("statement", ["garbage in, garbage out", "SELECT FROM WHERE", "CALL nobody()"])
def test_explain__of_what_can_not_be_understood(engine: Engine, statement: str) -> None:
    """It says why, and that everything would be invalidated; it does not fail."""
    result = _run(engine, statement, "--json")
    assert result.exit_code == 0
    found = json.loads(result.output)
    assert found["understood"] is False
    assert "table:*" in found["depends_on"] + found["stamps"]
    assert "not known" in _run(engine, statement).output


@pytest.mark.parametrize(
    "statement", ["select(Item).where(Item.id == 7)", "db.session.get(Item, 7)", "Item.query.all()"]
)
def test_explain__of_orm_code_says_that_it_takes_sql(engine: Engine, statement: str) -> None:
    """With what to give instead."""
    result = _run(engine, statement)
    assert result.exit_code == 2
    assert "print(statement.compile(engine))" in result.output


def test_explain__of_a_table_that_is_not_there(engine: Engine) -> None:
    """It is named, since it may be a typing error."""
    result = _run(engine, "SELECT * FROM itme")
    assert result.exit_code == 0
    assert "main.itme" in result.output.partition("not there")[2]
    assert json.loads(_run(engine, "SELECT * FROM itme", "--json").output)["unknown"] == ["main.itme"]


def test_explain__of_what_reads_no_table(engine: Engine) -> None:
    """It says that nothing invalidates it, instead of nothing."""
    assert "no commit invalidates it" in _run(engine, "SELECT 1").output


def test_inspect__shows_tables_and_rows_as_such(engine: Engine) -> None:
    """Beside the tags: for people without those that stand for tables."""
    app = Flask("shop")
    app.config.update(TESTING=True, RCACHE_URL="memory://")
    RCache(app)
    sql = SQLCache(engine)
    sql.init_app(app)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE menu (id INTEGER PRIMARY KEY)"))

    @app.get("/page")
    @cache_response(CacheType.PRODUCT, tags=[AUTO, "front"])
    def page() -> str:
        with engine.connect() as connection:
            connection.execute(text("SELECT * FROM item WHERE id = 7"))
            connection.execute(text("SELECT * FROM menu"))
        return "page"

    key = app.test_client().get("/page").headers["X-Cache-Key"]
    result = app.test_cli_runner().invoke(args=["cache", "inspect", key])
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert (lines["tags"], lines["tables"], lines["rows"]) == ("front", "main.menu", "main.item:7")
    found = json.loads(app.test_cli_runner().invoke(args=["cache", "inspect", key, "--json"]).stdout)
    assert (found["tables"], found["rows"]) == (["main.menu"], ["main.item:7"])
    assert {"front", "table:main.menu", "row:main.item:7", "rows:main.item"} <= set(found["tags"])
