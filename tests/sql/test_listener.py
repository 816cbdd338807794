"""Writes of other programs: triggers announce them, one process of all listens, and what it missed is stamped."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from flask import Flask, g
from sqlalchemy import create_engine, text

from flask_rcache import AUTO, CacheType, RCache, cached
from flask_rcache.errors import ConfigError
from flask_rcache.sql import SQLCache
from flask_rcache.sql.names import TableName
from flask_rcache.sql.triggers import trigger_sql

from .servers import Postgres

PAGE = CacheType("page", ttl=600, l1_ttl=0)


class Site:
    """A process: an app on the database and on Redis, which may be the one that listens."""

    def __init__(self, url: str, redis: str) -> None:
        self.engine = create_engine(url)
        self.app = Flask("site")
        self.app.config.update(RCACHE_URL=redis)
        RCache(self.app, types=[PAGE])
        self.sql = SQLCache(self.engine)
        self.sql.init_app(self.app)
        self.sql.listen()

        @cached(PAGE, tags=AUTO)
        def names() -> list[str]:
            with self.engine.connect() as connection:
                return [str(name) for name in connection.execute(text("SELECT name FROM item ORDER BY id")).scalars()]

        self._names = names

    def names(self) -> list[str]:
        """What a page shows."""
        with self.app.test_request_context("/"):
            g.visited = True
            return self._names()

    @property
    def is_listening(self) -> bool:
        return any(listener.is_listening for listener in self.sql._listeners.values())

    def close(self) -> None:
        self.sql.close()
        self.engine.dispose()
        self.app.extensions["rcache"].close()


def _until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.02)


def _prepare(postgres: Postgres) -> None:
    with psycopg.connect(postgres.dsn(), autocommit=True) as other:
        other.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
        other.execute("INSERT INTO item VALUES (1, 'one')")
        for _ in range(2):  # it may be run again
            other.execute(trigger_sql([TableName("", "public", "item")]).encode())


def test_listener__another_program_writes(postgres: Postgres, redis_server) -> None:
    """What a program that knows nothing of the cache commits is on the page soon after, in every process."""
    _prepare(postgres)
    here, there = Site(postgres.url, redis_server.url), Site(postgres.url, redis_server.url)
    assert here.names() == there.names() == ["one"]
    _until(lambda: here.is_listening or there.is_listening)
    assert not (here.is_listening and there.is_listening)
    with psycopg.connect(postgres.dsn()) as other:
        other.execute("UPDATE item SET name = 'two'")
        other.commit()
        _until(lambda: here.names() == there.names() == ["two"])
        other.execute("UPDATE item SET name = 'never'")
        other.rollback()
        other.execute("TRUNCATE item")
        other.commit()
    _until(lambda: here.names() == there.names() == [])
    here.close()
    there.close()


@pytest.mark.slow
def test_listener__its_process_ends(postgres: Postgres, redis_server) -> None:
    """The one that listens is gone: another takes its place, and what was written in between is on the page."""
    _prepare(postgres)
    first = Site(postgres.url, redis_server.url)
    first.names()
    _until(lambda: first.is_listening)
    second = Site(postgres.url, redis_server.url)
    assert second.names() == ["one"]
    first.close()
    with psycopg.connect(postgres.dsn(), autocommit=True) as other:
        other.execute("UPDATE item SET name = 'meanwhile'")
    _until(lambda: second.is_listening)
    _until(lambda: second.names() == ["meanwhile"])
    with psycopg.connect(postgres.dsn(), autocommit=True) as other:  # its connection is cut
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query = 'SELECT 1'"
        )
        other.execute("UPDATE item SET name = 'while it was cut'")
    _until(lambda: second.names() == ["while it was cut"])
    second.close()


def _listeners() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "flask_rcache-sql"}


def _listening(postgres: Postgres) -> Site:
    """A site that has become the one that listens."""
    site = Site(postgres.url, "memory://")
    site.names()
    _until(lambda: site.is_listening)
    return site


def test_listener__ends_when_it_is_closed(postgres: Postgres) -> None:
    """A context of any app does not begin it anew; the cache of another app is not stamped in place of its own."""
    _prepare(postgres)
    before = _listeners()
    site = _listening(postgres)
    site.close()
    sql = site.sql
    assert _listeners() == before
    del site
    gc.collect()
    other = Flask("other")
    RCache(other)
    with other.app_context():
        assert _listeners() == before
        assert other.extensions["rcache"] not in sql.managers


def test_listener__ends_with_its_owner(postgres: Postgres) -> None:
    """An app that is dropped, as factories in tests do, leaves no thread and no connection behind."""
    _prepare(postgres)
    before = _listeners()
    _listening(postgres).engine.dispose()

    def is_gone() -> bool:
        gc.collect()
        return _listeners() == before

    _until(is_gone)


def test_listen__not_on_other_databases(sqlite_file: str) -> None:
    """Only PostgreSQL announces writes; the error says what to do elsewhere."""
    with pytest.raises(ConfigError, match="postgresql"):
        SQLCache(create_engine(sqlite_file)).listen()


def test_triggers_command__prints_sql_that_can_be_applied(postgres: Postgres) -> None:
    """`flask cache sql triggers` prints the SQL for the tables that it is given, or for all there are."""
    _prepare(postgres)
    site = Site(postgres.url, "memory://")
    result = site.app.test_cli_runner().invoke(args=["cache", "sql", "triggers"])
    assert result.exit_code == 0, result.output
    assert 'ON "public"."item"' in result.output
    with psycopg.connect(postgres.dsn(), autocommit=True) as other:
        other.execute(result.output.encode())
    site.close()
