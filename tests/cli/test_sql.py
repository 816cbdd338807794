"""The command `sql explain`: what a statement would read, without running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, text

from flask_rcache import RCache
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
