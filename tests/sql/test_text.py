"""What a text names: all of it is understood, or it reads and writes everything."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from flask_rcache.sql.shapes import Shape
from flask_rcache.sql.statements import Kind
from flask_rcache.sql.text import Expression, is_understood, shape_of_parsed, shape_of_text
from flask_rcache.sql.tokens import sqlglot_dialect

DIALECTS = ("postgresql", "mysql", "mariadb", "sqlite")
KINDS: list[type[Any]] = [each for each in vars(exp).values() if inspect.isclass(each) and issubclass(each, Expression)]
#: The statements that sqlglot parses and that are gone through; all others may do anything.
STATEMENTS = {"Select", "Union", "Except", "Intersect", "Subquery", "Values", "Table"} | {
    *("SetOperation", "Insert", "Update", "Delete", "Merge", "Copy")
}
#: The verbs of texts that neither read nor write rows, and do nothing else that any page could show.
IDLE = {
    *("abort", "analyze", "attach", "begin", "checkpoint", "close", "cluster", "commit", "deallocate", "desc"),
    *("describe", "detach", "discard", "end", "explain", "fetch", "flush", "kill", "listen", "lock", "move"),
    *("notify", "optimize", "pragma", "prepare", "reindex", "release", "reset", "rollback", "savepoint", "set"),
    *("show", "unlisten", "unlock", "use", "vacuum", "xa"),
}


def _is_everything(shape: Shape) -> bool:
    return shape.reads_all and shape.writes_all


def _is_idle(shape: Shape) -> bool:
    """Whether it names nothing at all."""
    named = shape.reads or shape.writes or (shape.verb == "CALL" and shape.calls)
    return not (named or shape.reads_all or shape.writes_all)


def test_parsed__every_kind_of_statement() -> None:
    """Each of sqlglot's kinds is gone through as a statement, or it reads and writes everything."""
    for kind in KINDS:
        if kind.__name__ not in STATEMENTS:
            assert _is_everything(shape_of_parsed([kind()])), kind
    assert len(KINDS) > 900


def test_parsed__every_kind_of_clause() -> None:
    """Wherever one of sqlglot's kinds is in a query, it is gone through, or the query reads and writes everything."""
    known = 0
    for kind in KINDS:
        if kind.__name__ in STATEMENTS:
            continue
        inner = exp.Select(expressions=[exp.Column(this=exp.to_identifier("n"))])
        inner.set("from_", exp.From(this=exp.to_table("hidden")))
        node = exp.Select(expressions=[kind(this=exp.Subquery(this=inner))])
        shape = shape_of_parsed([node])
        names = {ref.name for ref in shape.reads}
        assert _is_everything(shape) or "hidden" in names, kind
        known += not _is_everything(shape)
    assert known > 600, "values and functions are understood"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_text__every_verb(dialect: str) -> None:
    """Whatever a text begins with, it names tables, is known to be idle, or reads and writes everything."""
    keywords = Dialect.get_or_raise(sqlglot_dialect(dialect)).tokenizer_class.KEYWORDS
    verbs = {word.split()[0].lower() for word in keywords if word[:1].isalpha()} | {"do", "handler", "import", "nobody"}
    for verb in sorted(verbs):
        for rest in ("item", "a b c", "table item", "item SELECT 1", "'a into table b'", "x (DELETE FROM item)"):
            shape = shape_of_text(f"{verb} {rest}", dialect)
            assert not _is_idle(shape) or verb in IDLE | {"select", "values", "with"}, f"{verb} {rest}"


ANYTHING = [
    ("mysql", "/*! DELETE FROM item */"),
    ("mysql", "SELECT 1 /*!50000 , (SELECT max(n) FROM item) */"),
    ("mariadb", "SELECT 1 /*M!100000 FROM item */"),
    ("mariadb", "SET STATEMENT max_statement_time = 1 FOR DELETE FROM item"),
    ("mariadb", "ANALYZE STATEMENT DELETE FROM item"),
    ("mysql", "LOAD DATA LOCAL INFILE 'a' INTO TABLE item (id) SET n = (SELECT max(n) FROM item)"),
    ("mysql", "LOAD XML INFILE 'into table b' INTO TABLE item"),
    ("mysql", "HANDLER item READ FIRST"),
    ("mysql", "START REPLICA"),
    ("mysql", "RENAME TABLE `a b` TO item"),
    ("mysql", "IMPORT TABLE FROM 'a.sdi'"),
    ("postgresql", "COMMENT ON TABLE item IS 'x'"),
    ("postgresql", "GRANT SELECT ON item TO PUBLIC"),
    ("postgresql", "SECURITY LABEL ON TABLE item IS 'x'"),
    ("postgresql", "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c"),
    ("postgresql", "DO $$ BEGIN DELETE FROM item; END $$"),
    ("postgresql", "EXECUTE prepared(1)"),
    ("postgresql", "LOAD 'library'"),
    ("postgresql", "REASSIGN OWNED BY a TO b"),
    ("sqlite", "SELEKT 1"),
    ("sqlite", ""),
]


@pytest.mark.parametrize(("dialect", "sql"), ANYTHING)
def test_text__that_may_do_anything(dialect: str, sql: str) -> None:
    """What can't be derived from a text reads and writes everything."""
    assert _is_everything(shape_of_text(sql, dialect)), shape_of_text(sql, dialect)


@pytest.mark.parametrize(
    ("dialect", "sql", "written"),
    [
        ("mysql", "LOAD DATA LOCAL INFILE 'into table b' INTO TABLE shop.item FIELDS TERMINATED BY ','", "item"),
        ("mysql", "LOAD /* c */ DATA LOW_PRIORITY INFILE :p1 REPLACE -- d\nINTO TABLE `a b` (id, @n)", "a b"),
        ("postgresql", 'REFRESH MATERIALIZED /* x */ VIEW CONCURRENTLY shop."a b" WITH DATA', "a b"),
        ("postgresql", "REFRESH MATERIALIZED VIEW totals;", "totals"),
        ("mariadb", "ANALYZE /* the plan */ UPDATE item SET n = 1", "item"),
        ("mariadb", "ANALYZE /* the plan */ FORMAT = JSON WITH a AS (SELECT 1) DELETE FROM item", "item"),
        ("postgresql", "EXPLAIN (ANALYZE, /* and */ VERBOSE) DELETE FROM item", "item"),
    ],
)
def test_text__that_fills_a_table(dialect: str, sql: str, written: str) -> None:
    """The table is named, wherever comments and strings are, and nothing else is thought to be written."""
    shape = shape_of_text(sql, dialect)
    assert {ref.name for ref in shape.writes} == {written}
    assert not shape.writes_all


@pytest.mark.parametrize(
    ("sql", "verb", "name"),
    [
        ("ROLLBACK TO SAVEPOINT a -- of b", "ROLLBACK TO", "a"),
        ("ROLLBACK /* b */ TO a", "ROLLBACK TO", "a"),
        ("SAVEPOINT a /* b */;", "SAVEPOINT", "a"),
        ("RELEASE SAVEPOINT a -- b", "RELEASE", "a"),
        ("COMMIT /* b */ AND CHAIN", "COMMIT", ""),
    ],
)
def test_text__of_a_transaction_with_comments(sql: str, verb: str, name: str) -> None:
    """A comment is not taken for a savepoint's name, whose writes would be forgotten."""
    shape = shape_of_text(sql, "postgresql")
    assert (shape.kind, shape.verb, "".join(shape.what)) == (Kind.TRANSACTION, verb, name)


@pytest.mark.parametrize(
    ("dialect", "sql", "what"),
    [
        (
            "mysql",
            "SET autocommit = 0, SESSION sql_mode = 'a,b', @@time_zone = '+1:00'",
            ("autocommit", "sql_mode", "time_zone"),
        ),
        ("mysql", "SET NAMES utf8mb4", ("names",)),
        ("postgresql", "SET LOCAL search_path TO a, b", ("search_path",)),
        ("sqlite", "PRAGMA foreign_keys = ON", ()),
        ("sqlite", "PRAGMA case_sensitive_like(1)", ("case_sensitive_like",)),
        ("sqlite", "PRAGMA main.reverse_unordered_selects = 1", ("reverse_unordered_selects",)),
    ],
)
def test_text__of_settings(dialect: str, sql: str, what: tuple[str, ...]) -> None:
    """Every setting that it changes is named, but those of SQLite that change no answer."""
    shape = shape_of_text(sql, dialect)
    assert (shape.kind, shape.what) == (Kind.SETTING, what)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM item INDEXED BY by_name WHERE id = 1",
        "SELECT a.name FROM main.item AS a INDEXED BY by_name",
        "SELECT name FROM item NOT INDEXED",
        "UPDATE item INDEXED BY by_name SET name = 'x' WHERE id = 1",
        "DELETE FROM item INDEXED BY by_name WHERE id = 1",
    ],
)
def test_text__that_names_an_index(sql: str) -> None:
    """SQLite is told which index to use: that is no table."""
    shape = shape_of_text(sql, "sqlite")
    assert {ref.name for ref in (*shape.reads, *shape.writes)} == {"item"}
    assert not shape.problem


def test_kinds__that_are_understood_name_no_other_statement() -> None:
    """What creates, drops, alters or runs something is none of the parts that are gone through."""
    for kind in (exp.Command, exp.Create, exp.Drop, exp.Alter, exp.Set, exp.Execute, exp.LoadData, exp.Into, exp.Block):
        assert not is_understood(kind), kind
