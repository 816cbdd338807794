"""What runs beside SQLAlchemy on connections of the engine is on the page all the same, whatever way a driver has."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from flask_rcache import AUTO, CacheType, RCache, cache_response
from flask_rcache.sql import SQLCache, databases
from tests.processes import ROOT

from .servers import MariaDB, Postgres

PAGE = CacheType("page", ttl=600)
UPDATE = "UPDATE item SET name = 'new' WHERE id = 1"


class Site:
    """An app with a page of all items, which is cached, and what reads them for it."""

    def __init__(self, url: str, redis: str = "memory://", before: Callable[[Engine], None] = lambda _: None) -> None:
        self.plain = create_engine(url, poolclass=NullPool)
        with self.plain.begin() as connection:
            connection.execute(text("CREATE TABLE item (id int PRIMARY KEY, name varchar(20))"))
            connection.execute(text("INSERT INTO item VALUES (1, 'old'), (2, 'other')"))
        self.engine = create_engine(url)
        before(self.engine)
        self.app = Flask("site")
        self.app.config.update(RCACHE_URL=redis, RCACHE_L1_TTL=0)
        RCache(self.app, types=[PAGE])
        self.sql = SQLCache(self.engine)
        self.sql.init_app(self.app)
        self.read: Callable[[Any], Any] = self._rows

        @self.app.get("/")
        @cache_response(PAGE, tags=AUTO)
        def page() -> str:
            with self.engine.connect() as connection:
                return ",".join(str(name) for (name,) in self.read(connection))

    def _rows(self, connection: Any) -> Any:
        return connection.execute(text("SELECT name FROM item ORDER BY id"))

    def visit(self) -> tuple[str, bool]:
        """What the page shows, and whether it was a hit."""
        answer = self.app.test_client().get("/")
        assert answer.status_code == 200
        return answer.text, answer.headers["X-Cache"] == "HIT"

    def check(self, shown: str) -> None:
        """The page shows this, and is stored."""
        assert self.visit()[0] == shown
        assert self.visit() == (shown, True)

    def close(self) -> None:
        """End its connections."""
        self.engine.dispose()
        self.app.extensions["rcache"].close()


@pytest.fixture
def sites() -> Iterator[Callable[..., Site]]:
    """Makes sites."""
    made: list[Site] = []

    def make(*args: Any, **options: Any) -> Site:
        made.append(Site(*args, **options))
        return made[-1]

    yield make
    for site in made:
        site.close()


def test_pipeline__in_autocommit_is_stamped_when_it_was_sent(postgres: Postgres, sites: Callable[..., Site]) -> None:
    """What it holds is carried out later: a page that is read meanwhile is not kept."""
    site = sites(postgres.url)
    site.check("old,other")
    with site.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver: Any = connection.connection.driver_connection
        with driver.pipeline():
            driver.execute(UPDATE)
            driver.execute("UPDATE item SET name = 'second' WHERE id = 2")
            assert site.visit() in (("old,other", False), ("new,second", False))
        site.check("new,second")


@pytest.mark.parametrize("is_inside", [True, False])
def test_pipeline__with_a_transaction(postgres: Postgres, sites: Callable[..., Site], is_inside: bool) -> None:
    """A block of a transaction in a pipeline, or around one."""
    site = sites(postgres.url)
    site.check("old,other")
    with site.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver: Any = connection.connection.driver_connection
        first, second = (driver.pipeline, driver.transaction) if is_inside else (driver.transaction, driver.pipeline)
        with first():
            with second():
                driver.execute(UPDATE)
            site.visit()
        site.check("new,other")


def test_two_phases__by_the_driver(postgres: Postgres, sites: Callable[..., Site]) -> None:
    """`tpc_commit()` is a commit; with a name it is one of whatever was prepared, by any process."""
    site = sites(postgres.url)
    site.check("old,other")
    pooled = site.engine.raw_connection()
    driver: Any = pooled.driver_connection
    driver.rollback()
    driver.tpc_begin("first")
    driver.execute(UPDATE)
    driver.tpc_prepare()
    assert site.visit()[0] == "old,other"
    driver.tpc_commit()
    site.check("new,other")
    with site.plain.begin() as connection:
        connection.execute(text("UPDATE item SET name = 'newer' WHERE id = 1"))
        connection.exec_driver_sql("PREPARE TRANSACTION 'second'")
    assert site.visit() == ("new,other", True)
    driver.tpc_commit("second")
    site.check("newer,other")
    pooled.close()


def test_two_phases__a_commit_that_is_tried_once_more(postgres: Postgres, sites: Callable[..., Site]) -> None:
    """The first one has failed before it was sent: what was read since then is not valid after the second."""
    fails = [True]

    def fail_once(engine: Engine) -> None:
        commit = engine.dialect.do_commit_twophase

        def do_commit(*args: Any, **options: Any) -> None:
            if fails and fails.pop():
                raise ConnectionError("not sent")
            commit(*args, **options)

        engine.dialect.do_commit_twophase = do_commit  # type: ignore[method-assign]

    site = sites(postgres.url, before=fail_once)
    site.check("old,other")
    with site.engine.connect() as connection:
        transaction = connection.begin_twophase("again")
        connection.execute(text(UPDATE))
        transaction.prepare()
        with pytest.raises(ConnectionError):
            site.engine.dialect.do_commit_twophase(connection, "again")
        site.check("old,other")
        transaction.commit()
        site.check("new,other")


class _Cursor(sqlite3.Cursor):
    """A class of the app's own."""


def test_cursors__of_a_class_that_is_asked_for(mariadb: MariaDB, sqlite_file: str, sites: Callable[..., Site]) -> None:
    """A driver's `cursor()` takes a class: its statements are observed as those of the usual one."""
    for url, of in ((mariadb.url, pymysql.cursors.SSDictCursor), (sqlite_file, _Cursor)):
        site = sites(url)
        site.check("old,other")
        with site.engine.begin() as connection:
            cursor: Any = connection.connection.cursor(of)
            cursor.execute(UPDATE)
            cursor.close()
        site.check("new,other")


def test_cursors__of_the_server_are_read_from(postgres: Postgres, sites: Callable[..., Site]) -> None:
    """A cursor with a name, which the server keeps, reads the tables of its query."""
    site = sites(postgres.url)

    def read(connection: Any) -> Any:
        with connection.connection.cursor(name="all_of_them") as cursor:
            return cursor.execute("SELECT name FROM item ORDER BY id").fetchall()

    site.read = read
    site.check("old,other")
    with site.engine.begin() as connection:
        connection.execute(text(UPDATE))
    site.check("new,other")


def test_catalogue__that_another_program_has_changed(
    sqlite_file: str, sites: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored by the older one may lack tables that it has read: it is not valid once the change is noticed."""
    site = sites(sqlite_file)
    site.read = lambda connection: connection.execute(text("SELECT name FROM shown ORDER BY id"))
    for statement in (
        "CREATE VIEW shown AS SELECT * FROM item",
        "CREATE TABLE part (id int PRIMARY KEY, name varchar(20))",
    ):
        with site.plain.begin() as connection:
            connection.execute(text(statement))
    site.check("old,other")
    with site.plain.begin() as connection:
        connection.execute(text("DROP VIEW shown"))
        connection.execute(text("CREATE VIEW shown AS SELECT * FROM part"))
    site.app.extensions["rcache"].clear_all()
    site.check("")
    with site.engine.begin() as connection:
        connection.execute(text("INSERT INTO part VALUES (1, 'a part')"))
    assert site.visit() == ("", True), "the limit that the docs state has gone: say so there"
    monkeypatch.setattr(databases, "_CATALOGUE_SECONDS", 0.0)
    with site.engine.connect() as connection:
        connection.execute(text("SELECT 1 FROM part")).all()
    monkeypatch.undo()
    site.check("a part")


# --- Async engines


def _async(site: Site) -> AsyncEngine:
    """An engine of asyncio on the site's database, which its cache watches too."""
    url = make_url(str(site.engine.url))
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite" if url.get_backend_name() == "sqlite" else "postgresql+psycopg_async"),
        poolclass=NullPool,
    )
    SQLCache(engine).init_app(site.app)
    return engine


@pytest.fixture(params=["postgresql", "sqlite"])
def async_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database that has an async driver, of each kind in turn."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_file"))
    return str(request.getfixturevalue("postgres").url)


async def _by_a_cursor(connection: AsyncConnection) -> None:
    def run(connection: Any) -> None:
        cursor = connection.connection.cursor()
        cursor.execute(UPDATE)
        cursor.close()

    await connection.run_sync(run)


def test_async__a_cursor_of_the_adapter(async_url: str, sites: Callable[..., Site]) -> None:
    """Inside `run_sync` a cursor of the connection is one of SQLAlchemy's adapter; what it writes is stamped."""
    site = sites(async_url)
    site.check("old,other")
    engine = _async(site)

    async def write(end: str, level: str | None) -> None:
        async with engine.connect() as connection:
            if level:
                await connection.execution_options(isolation_level=level)
            await connection.execute(text("SELECT 1"))
            await _by_a_cursor(connection)
            await getattr(connection, end)()

    asyncio.run(write("rollback", None))
    assert site.visit() == ("old,other", True)
    asyncio.run(write("commit", None))
    site.check("new,other")
    with site.engine.begin() as connection:
        connection.execute(text("UPDATE item SET name = 'old' WHERE id = 1"))
    site.check("old,other")
    asyncio.run(write("rollback", "AUTOCOMMIT"))
    site.check("new,other")


def test_async__a_commit_whose_redis_has_gone(
    sqlite_file: str, private_server: Callable[..., Any], sites: Callable[..., Site]
) -> None:
    """It waits for the Redis to come back, and the event loop goes on meanwhile."""
    server = private_server()
    site = sites(sqlite_file, server.url)
    site.check("old,other")
    engine = _async(site)

    async def tick(ticks: list[int]) -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.01)

    async def write() -> int:
        ticks: list[int] = []
        async with engine.connect() as connection:
            await connection.execute(text(UPDATE))
            server.stop()
            ticking = asyncio.create_task(tick(ticks))
            await asyncio.sleep(0)
            await connection.commit()
            ticking.cancel()
        return len(ticks)

    assert asyncio.run(write()) >= 5


def test_async__a_task_that_is_cancelled_in_its_commit(async_url: str, sites: Callable[..., Site]) -> None:
    """However it ends, no stamp is left ahead: the page is right, and stored again."""
    site = sites(async_url)
    engine = _async(site)

    async def write(delay: float) -> None:
        async with engine.connect() as connection:
            await connection.execute(text(UPDATE))
            task = asyncio.ensure_future(connection.commit())
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.wait([task])

    for delay in (0.0, 0.0005, 0.002):
        asyncio.run(write(delay))
        with site.plain.connect() as connection:
            shown = ",".join(name for (name,) in connection.execute(text("SELECT name FROM item ORDER BY id")))
        site.check(shown)


_WITHOUT_GREENLET = """
import sys

sys.modules["greenlet"] = None
from flask import Flask
from sqlalchemy import create_engine, text

from flask_rcache import RCache
from flask_rcache.sql import SQLCache

app, engine = Flask("app"), create_engine("sqlite://")
RCache(app)
SQLCache(engine).init_app(app)
with app.test_request_context("/"), engine.begin() as connection:
    connection.execute(text("CREATE TABLE item (id INTEGER)"))
    connection.execute(text("INSERT INTO item VALUES (1)"))
"""


def test_commit__without_greenlet() -> None:
    """Whoever has no async engine need not have greenlet, which SQLAlchemy 2.1 does not install by itself."""
    subprocess.run([sys.executable, "-c", _WITHOUT_GREENLET], cwd=ROOT, check=True, timeout=60)
