"""Every kind of read, in a view with AUTO tags, is right after every kind of write, and others keep their hits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from flask_rcache import AUTO, CacheType, RCache, cache_response
from flask_rcache.sql import SQLCache

from .library import READS, WRITES, Reading, Writer, foreign_keys, prepare

PAGE = CacheType("page", ttl=600)


def _page(engine: Engine, reading: Reading) -> Callable[[], str]:
    def page() -> str:
        with Session(engine) as session:
            return repr(reading.read(session))

    return page


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        # MariaDB has the fewest kinds of writes of its own, and takes longest.
        pytest.param(kind, name, marks=[pytest.mark.long, pytest.mark.slow] if kind == "mariadb" else [])
        for name, write in WRITES.items()
        for kind in write.on
    ],
)
def test_pages__right_after_a_write(kind: str, name: str, request: pytest.FixtureRequest, redis_server: Any) -> None:
    """Pages of every kind are cached; after the write each shows what an uncached one shows, and untouched ones hit."""
    writing = WRITES[name]
    fixture = {"postgresql": "postgres", "mariadb": "mariadb", "sqlite": "sqlite_file"}[kind]
    found = request.getfixturevalue(fixture)
    url = found if kind == "sqlite" else found.url
    watched, plain = create_engine(url), create_engine(url)
    for engine in (watched, plain):
        if kind == "sqlite":
            foreign_keys(engine)
    prepare(plain, kind)
    app = Flask("library")
    app.config.update(RCACHE_URL=redis_server.url, TESTING=True)
    RCache(app, types=[PAGE])
    sql = SQLCache(watched)
    sql.init_app(app)
    sql.depends(function="book_count", reads=["book"])
    reads = {number: (each, READS[each]) for number, each in enumerate(READS) if kind in READS[each].on}
    for number, (_, reading) in reads.items():
        view = _page(watched, reading)
        view.__name__ = f"page_{number}"
        app.get(f"/{number}")(cache_response(PAGE, tags=AUTO)(view))

    @app.post("/write")
    def write() -> str:
        writing.write(Writer(watched, kind))
        return ""

    client = app.test_client()
    for number in (*reads, *reads):
        client.get(f"/{number}")
    kept = {number: client.get(f"/{number}").headers["X-Cache"] for number in reads}
    not_cached = [reads[number][0] for number, state in kept.items() if state != "HIT"]
    assert not not_cached, f"these are not cached at all: {not_cached}"
    assert client.post("/write").status_code == 200
    wrong, lost = [], []
    for number, (each, reading) in reads.items():
        answer = client.get(f"/{number}")
        if answer.text != _page(plain, reading)():
            wrong.append((each, answer.headers["Cache-Status"]))
        if each in writing.keeps and answer.headers["X-Cache"] != "HIT":
            lost.append(each)
    again = [reads[number][0] for number in reads if client.get(f"/{number}").headers["X-Cache"] != "HIT"]
    watched.dispose()
    plain.dispose()
    assert not wrong, f"stale after {name}: {wrong}"
    assert not lost, f"hits lost by {name}: {lost}"
    assert not again, f"not stored again after {name}: {again}"


def test_docs__show_every_read_and_write() -> None:
    """The tables of the page on correctness are what is tested here."""
    page = (Path(__file__).parents[2] / "docs" / "sql-correctness.md").read_text("utf-8")
    found = {name: each.on for name, each in READS.items()} | {name: each.on for name, each in WRITES.items()}
    for name, on in found.items():
        marks = " | ".join("✓" if kind in on else "" for kind in ("postgresql", "mariadb", "sqlite"))
        assert f"| {name} | {marks} |" in page, f"{name!r} is missing or wrong in docs/sql-correctness.md"
