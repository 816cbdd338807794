"""An app that writes behind into a database in a file, which remembers the last write that it has of each key."""

from __future__ import annotations

import os
import sqlite3
import time

from flask import Flask

from flask_rcache import PartialFailure, RCache, Write


def connect() -> sqlite3.Connection:
    connection = sqlite3.connect(os.environ["WRITES_DB"], timeout=30, isolation_level=None)
    connection.execute("PRAGMA busy_timeout = 30000")
    return connection


def make_tables() -> None:
    connection = connect()
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS source (key TEXT PRIMARY KEY, value TEXT, ms INT, seq INT)")
    connection.execute("CREATE TABLE IF NOT EXISTS applied (id TEXT, key TEXT, fresh INT)")
    connection.close()


def apply(writes: list[Write]) -> None:
    """Each write once, by its id: what is not newer than the last one of its key is skipped, and noted as such."""
    poisoned = {write.id: "poisoned" for write in writes if write.value == "poison"}
    connection = connect()
    connection.execute("BEGIN IMMEDIATE")
    for write in writes:
        if write.id in poisoned:
            continue
        ms, seq = map(int, write.id.split("-"))
        cursor = connection.execute(
            "INSERT INTO source VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
            "ms = excluded.ms, seq = excluded.seq WHERE (excluded.ms, excluded.seq) > (ms, seq)",
            (str(write.key), str(write.value), ms, seq),
        )
        connection.execute("INSERT INTO applied VALUES (?, ?, ?)", (write.id, str(write.key), cursor.rowcount))
    connection.execute("COMMIT")
    connection.close()
    time.sleep(float(os.environ.get("WRITES_PAUSE", "0")))
    if poisoned:
        raise PartialFailure(poisoned)


def create_app() -> Flask:
    app = Flask("writing")
    app.config["RCACHE_TIMEOUT"] = 2.0
    rcache = RCache(app)
    rcache.writer("orders", batch=20)(apply)
    return app
