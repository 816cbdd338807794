"""Connections: one per load for reading, one per write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from flask import current_app

Row = dict[str, Any]


@contextmanager
def reading() -> Iterator[sqlite3.Connection]:
    """Give a read-only connection with one snapshot for all its queries.

    Opened by the load that reads it and never shared: a snapshot from before the load could be older than the
    last invalidation, and the load would then store an old answer as a new one.
    """
    with closing(_connect("ro")) as db:
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("BEGIN")
        yield db


@contextmanager
def writing() -> Iterator[sqlite3.Connection]:
    """Give a writable connection; the block commits when it ends, and rolls back when it raises."""
    with closing(_connect("rw")) as db:
        db.execute("BEGIN IMMEDIATE")
        with db:
            yield db


def _connect(mode: str) -> sqlite3.Connection:
    path: Path = current_app.config["FLIGHTS_DB"]
    db = sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=5, isolation_level=None)
    db.row_factory = _as_dict
    return db


def _as_dict(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, values, strict=True)}
