"""The commands ``sql …``: what is known of an app's databases.

Owns the group, and ``sql explain``: what a statement would read, and when it would be invalidated. Nothing is run.
"""

from __future__ import annotations

import ast
from typing import Any, Final

import click
from flask import current_app

from ..errors import ConfigError
from ..model.keys import tag_of
from ..model.observations import sources
from .output import Command, Failure, answer, answers

__all__ = ["sql"]

_EXTENSION: Final = "rcache_sql"


@click.group("sql")
def sql() -> None:
    """Show what is known of the watched databases."""


def watchers() -> list[Any]:
    """The ``SQLCache`` objects of the current app.

    Raises:
        Failure: it has none.
    """
    # Of plain engines, those of this process: nobody has said which app they belong to.
    found: list[Any] = current_app.extensions.get(_EXTENSION) or list(sources)
    if not found:
        raise Failure(
            "no-sql",
            f"{current_app.name!r} has no SQLCache: create one, SQLCache(db), and call its init_app(app) in a factory",
            exit_code=2,
        )
    return found


def database_of(bind: str | None) -> Any:
    """A watched database of the current app.

    Raises:
        ConfigError: there is none of that name.
    """
    error: ConfigError | None = None
    for each in watchers():
        try:
            return each.database(bind)
        except ConfigError as refused:
            error = refused
    assert error is not None
    raise error


@sql.command("explain", cls=Command)
@click.argument("statement")
@click.option("--param", "params", metavar="NAME=VALUE", multiple=True, help="A parameter; integers are read as such.")
@click.option("--bind", metavar="NAME", help="The database, where an app has several.")
@answers
def explain(*, statement: str, params: tuple[str, ...], bind: str | None, as_json: bool) -> None:
    """Show what a statement reads and writes.

    It also says when an entry that depends on it would be invalidated.

    STATEMENT is SQL in the database's dialect, with :name parameters. It is not run.
    """
    if _is_python(statement):
        raise ConfigError(
            f"{statement!r:.80} is Python, and explain takes the SQL that it sends: print(statement.compile(engine)), "
            "or have the engine log it (echo=True)"
        )
    database = database_of(bind)
    plan, found = database.read_text(statement, dict(map(_parameter, params)))
    depends = [tag_of(tag) for tag in _read_tags(found)]
    document = {
        "database": found.database,
        "kind": found.kind.value,
        "reads": sorted(map(str, found.reads)),
        "read_rows": sorted(map(str, found.read_rows)),
        "writes": sorted(map(str, found.writes)),
        "written_rows": sorted(map(str, found.written_rows)),
        "understood": found.understood,
        "problem": plan.problem or None,
        "unknown": list(plan.unknown),
        "volatile": found.volatile,
        "stored": found.volatile is None and not found.is_write,
        "depends_on": depends,
        "stamps": [tag_of(tag) for tag in found.stamped],
    }
    answer(document, _text(document), as_json=as_json)


def _read_tags(statement: Any) -> tuple[str, ...]:
    from ..sql.plans import read_tags  # needs SQLAlchemy

    return read_tags(statement)


def _is_python(statement: str) -> bool:
    """Whether it is a call of a method, ``session.get(…)``, ``select(…).where(…)``: no SQL is that."""
    try:
        parsed = ast.parse(statement.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return isinstance(parsed, ast.Call) and isinstance(parsed.func, ast.Attribute)


def _parameter(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    if not name or not equals:
        raise ConfigError(f"--param takes NAME=VALUE, not {given!r}")
    return name, int(value) if value.removeprefix("-").isdecimal() else value


def _text(document: dict[str, Any]) -> str:
    """The document for people."""
    lines = [f"kind         {document['kind']}"]
    for label, name in (
        ("reads", "reads"),
        ("rows read", "read_rows"),
        ("writes", "writes"),
        ("rows written", "written_rows"),
    ):
        lines += [f"{label:<13}{each}" for each in document[name]]
    if document["volatile"]:
        lines.append(f"not stored   it depends on {document['volatile']}, which differs each time or for each asker")
    lines += [f"not there    {name}: the database has no such table" for name in document["unknown"]]
    if document["problem"]:
        lines.append(f"not known    {document['problem']}")
    if not (document["depends_on"] or document["stamps"]):
        lines += ["", "It reads and writes no table: no commit invalidates it."]
    if document["depends_on"] and document["stored"]:
        lines += ["", "An entry that depends on it is invalidated by a commit that stamps one of:"]
        lines += [f"  {tag}" for tag in document["depends_on"]]
        lines.append("  " + _MEANING)
    if document["stamps"]:
        lines += ["", "Its commit stamps:", *[f"  {tag}" for tag in document["stamps"]]]
    return "\n".join(lines)


_MEANING: Final = "(table:* is stamped by writes that can't be understood, rows:… by those whose rows are not known)"


@sql.command("triggers", cls=Command)
@click.argument("tables", metavar="[TABLE...]", nargs=-1)
@click.option("--bind", metavar="NAME", help="The database, where an app has several.")
@answers
def triggers(*, tables: tuple[str, ...], bind: str | None, as_json: bool) -> None:
    """Print the triggers by which PostgreSQL announces writes.

    They are for the tables named, or for all of the schema.

    Apply it with your migrations, and call listen() of the app's SQLCache. It may be run again.
    """
    from sqlalchemy import inspect  # which an app without SQL does not need

    from ..sql.triggers import trigger_sql

    database = database_of(bind)
    if database.engine.dialect.name != "postgresql":
        raise ConfigError(f"only PostgreSQL announces writes, not {database.engine.dialect.name}")
    names = tables or tuple(sorted(inspect(database.engine).get_table_names()))
    printed = trigger_sql([database.table(name) for name in names])
    answer({"status": "success", "tables": list(names), "sql": printed}, printed, as_json=as_json)
