"""The database of the app: its engine, which the cache watches, and its sessions."""

from __future__ import annotations

from typing import Any, cast

from flask import Flask, current_app
from sqlalchemy import URL, create_engine
from sqlalchemy.orm import Session

from flask_rcache.sql import SQLCache

Row = dict[str, Any]


def init_app(app: Flask) -> None:
    """Make the engine of an app, and have the cache watch it: what is read and written through it becomes tags."""
    # mode=rw: a file that is gone is an error, and not a new, empty one.
    url = URL.create("sqlite", database=app.config["FLIGHTS_DB"].as_uri(), query={"mode": "rw", "uri": "true"})
    engine = create_engine(url, connect_args={"timeout": 5})
    app.extensions["flights_engine"] = engine
    SQLCache(engine).init_app(app)


def session() -> Session:
    """Give each load and each write a session of its own."""
    return Session(cast(Any, current_app.extensions["flights_engine"]))
