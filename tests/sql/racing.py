"""A race on a database: processes that read cached pages while others commit, roll back, are killed, or lose Redis.

The source has rows with a number that only grows, and a column that is only ever written by what is rolled back.
Whoever commits notes the number afterwards, in memory that all processes share; whoever reads looks there before. So an
answer that is older than what a commit has returned before the read began is seen, and so is one that was never
committed. Each process writes to a part of its own of that memory: a lock would be lost with one that is killed.

As a command: `python -m tests.sql.racing --seconds 30 [--database mariadb] [--level SERIALIZABLE] [--calm]`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from typing import Any, NamedTuple

from flask import Flask, g
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from flask_rcache import AUTO, CacheType, RCache, cached
from flask_rcache.sql import SQLCache

__all__ = ["Item", "Race", "Report", "prepare", "run", "site"]

ROWS = 4
NEVER = 1_000_000
_LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
#: By dialect; SQLite has one, WAL, from which it always reads a snapshot.
LEVELS: dict[str, tuple[str, ...]] = {"postgresql": _LEVELS, "mysql": _LEVELS, "sqlite": ()}
_RAISE = "UPDATE item SET n = n + 1 WHERE id = :id"
#: What tells that one transaction is in another's way: SQLSTATEs, codes of MariaDB, and SQLite's text.
_CONFLICTS = ("40001", "40P01", 1020, 1205, 1213, "database is locked")
_COUNTS = ("started", "reads", "hits", "commits", "rollbacks", "stale", "phantoms", "errors")
PAGE = CacheType("page", ttl=600, l1_ttl=0)
#: Processes at most, those that were killed included; and seconds in which one has to be at work.
_PROCESSES = 200
_START_SECONDS = 60.0
_LEAST_KILLED = 2


class Base(DeclarativeBase):
    """The tables."""


class Item(Base):
    """A row of the source."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # MariaDB takes 0 for the next one
    n: Mapped[int]
    m: Mapped[int]


class Site(NamedTuple):
    """An app with two cached functions, on an engine that is watched."""

    app: Flask
    engine: Engine
    row: Callable[[int], list[int]]
    table: Callable[[], list[list[int]]]
    calls: list[int]


def connected(url: str) -> Engine:
    """An engine; of a SQLite file in WAL."""
    engine = create_engine(url) if url.startswith("sqlite") else create_engine(url, pool_size=3)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def on_connect(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")

    return engine


def prepare(url: str) -> None:
    """Make the rows, in an empty database."""
    engine = connected(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Item(id=id, n=1, m=0) for id in range(ROWS))
        session.commit()
    engine.dispose()


def site(url: str, redis: str, *, before_watching: Callable[[Engine], None] = lambda _: None, **options: Any) -> Site:
    """The app of one process.

    Args:
        url: of the database.
        redis: of the Redis.
        before_watching: called with the engine.
        options: of the app's configuration.
    """
    engine = connected(url)
    before_watching(engine)
    app = Flask("race")
    app.config.update(RCACHE_URL=redis, RCACHE_OUTAGE_TTL=0, RCACHE_TIMEOUT=2.0)
    app.config.update(options)
    RCache(app, types=[PAGE])
    sql = SQLCache(engine)
    sql.init_app(app)
    calls = [0]

    @cached(PAGE, tags=AUTO)
    def row(id: int) -> list[int]:
        calls[0] += 1
        found = g.session.get_one(Item, id)
        return [found.n, found.m]

    @cached(PAGE, tags=AUTO)
    def table() -> list[list[int]]:
        calls[0] += 1
        return [[each.n, each.m] for each in g.session.execute(text("SELECT n, m FROM item ORDER BY id"))]

    return Site(app, engine, row, table, calls)


def is_conflict(error: DBAPIError) -> bool:
    """Whether a transaction was in another's way."""
    told = getattr(error.orig, "sqlstate", None), *(error.orig.args[:1] if error.orig is not None else ())
    return not set(told).isdisjoint(_CONFLICTS)


class Worker:
    """What one process does until it is told to stop."""

    def __init__(
        self,
        url: str,
        redis: str,
        ledger: Any,
        counts: Any,
        number: int,
        *,
        is_tormented: bool = False,
        levels: Sequence[str] | None = None,
    ) -> None:
        self._site = site(url, redis)
        self._ledger = ledger
        self._counts = counts
        self._number = number
        self._dice = random.Random(os.getpid())
        #: Whether connections are ended on purpose.
        self._is_tormented = is_tormented
        self._levels = LEVELS[self._site.engine.dialect.name] if levels is None else levels

    def run(self, stop: Any) -> None:
        """Read and write until the first item is not 0."""
        self._count("started")
        while not stop[0]:
            act = self._write if self._dice.random() < 0.2 else self._read
            try:
                act()
            except DBAPIError as error:
                if not is_conflict(error) and not self._is_tormented:
                    self._count("errors")

    def _count(self, name: str, by: int = 1) -> None:
        self._counts[self._number * len(_COUNTS) + _COUNTS.index(name)] += by

    def _opened(self) -> Session:
        """A session at a level of its own; its snapshot may be older than what is read of it."""
        session = Session(self._site.engine)
        if self._levels:
            session.connection(execution_options={"isolation_level": self._dice.choice(self._levels)})
        return session

    def _read(self) -> None:
        noted = self._ledger[:]
        before = [max(noted[id::ROWS]) for id in range(ROWS)]
        with self._site.app.test_request_context("/"), self._opened() as session:
            g.session = session
            if self._dice.random() < 0.3:
                session.execute(text("SELECT 1 FROM item LIMIT 1"))  # a snapshot, if the level has one
                time.sleep(self._dice.random() * 0.01)
            calls = self._site.calls[0]
            if self._dice.random() < 0.3:
                found = self._site.table()
            else:
                id = self._dice.randrange(ROWS)
                found, before = [self._site.row(id)], [before[id]]
            self._count("hits", self._site.calls[0] == calls)
        self._count("reads")
        self._count("stale", sum(n < least for (n, _), least in zip(found, before, strict=True)))
        self._count("phantoms", sum(m != 0 for _, m in found))

    def _write(self) -> None:
        id = self._dice.randrange(ROWS)
        kind = self._dice.choice(["commit", "commit", "savepoint", "rollback", "unflushed", "autocommit"])
        if kind == "autocommit":
            if (
                self._site.engine.dialect.name != "mysql"
            ):  # which has no RETURNING, and what is asked later is another's
                self._write_at_once(id)
            return
        with self._site.app.test_request_context("/"), self._opened() as session:
            g.session = session
            if kind == "rollback":
                session.execute(text(f"UPDATE item SET m = {NEVER} WHERE id = :id"), {"id": id})
                shown = self._site.row(id)  # a page shows it, and must not be kept
                self._count("phantoms", shown[1] != NEVER)
                session.rollback()
                self._count("rollbacks")
                return
            if kind == "unflushed":
                session.autoflush = False
                session.get_one(Item, id).m = NEVER
                self._count("phantoms", self._site.row(id)[1] != NEVER)
                session.rollback()
                self._count("rollbacks")
                return
            if kind == "savepoint":
                nested = session.begin_nested()
                session.execute(text(f"UPDATE item SET m = {NEVER}"))
                nested.rollback()
            session.execute(text(_RAISE), {"id": id})
            n = session.execute(text("SELECT n FROM item WHERE id = :id"), {"id": id}).scalar_one()
            if self._dice.random() < 0.3:  # in another's way, perhaps
                session.execute(text(_RAISE), {"id": (id + 1) % ROWS})
            if self._dice.random() < 0.3:
                self._site.table()
                time.sleep(self._dice.random() * 0.02)
            session.commit()
        self._committed(id, int(n or 0))

    def _write_at_once(self, id: int) -> None:
        with self._site.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            n = connection.execute(text(f"{_RAISE} RETURNING n"), {"id": id}).scalar_one()
        self._committed(id, int(n))

    def _committed(self, id: int, n: int) -> None:
        self._ledger[self._number * ROWS + id] = n
        self._count("commits")


def _work(
    url: str,
    redis: str,
    ledger: Any,
    counts: Any,
    stop: Any,
    number: int,
    is_tormented: bool,
    levels: Sequence[str] | None,
) -> None:
    Worker(url, redis, ledger, counts, number, is_tormented=is_tormented, levels=levels).run(stop)


@dataclass
class Report:
    """What happened."""

    counts: dict[str, int]
    killed: int = 0
    left_stale: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self.counts.items()) + f", killed {self.killed}"


class Race:
    """Some processes on one database and one Redis.

    Args:
        url: of an empty database.
        redis: of a Redis.
        workers: how many processes.
        levels: the isolation levels that sessions take at random; None for all that the database has.
    """

    def __init__(self, url: str, redis: str, *, workers: int = 4, levels: Sequence[str] | None = None) -> None:
        self._url, self._redis, self._workers, self._levels = url, redis, workers, levels
        context = multiprocessing.get_context("forkserver")  # whose processes need not import everything anew
        context.set_forkserver_preload([__name__])
        self._context = context
        self._ledger: Any = context.RawArray("q", _PROCESSES * ROWS)
        self._counts: Any = context.RawArray("q", _PROCESSES * len(_COUNTS))
        self._stop: Any = context.RawArray("b", 1)
        self._processes: list[tuple[int, ForkServerProcess]] = []
        self._begun = 0
        self.killed = 0
        self._is_tormented = False
        prepare(url)

    def _start(self) -> None:
        shared = (self._ledger, self._counts, self._stop)
        arguments = (self._url, self._redis, *shared, self._begun, self._is_tormented, self._levels)
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        self._processes.append((self._begun, process))
        self._begun += 1

    def _is_at_work(self, number: int) -> bool:
        """Whether a process has begun, and has read."""
        of_one = self._counts[number * len(_COUNTS) : (number + 1) * len(_COUNTS)]
        return bool(of_one[_COUNTS.index("reads")])

    def _await_work(self) -> None:
        """Wait until every process is at work, however long it takes to begin."""
        until = time.monotonic() + _START_SECONDS
        while not all(self._is_at_work(number) for number, _ in self._processes):
            if time.monotonic() > until or not all(process.is_alive() for _, process in self._processes):
                raise RuntimeError("a process has not begun to work")
            time.sleep(0.05)

    def run(self, seconds: float, *, kills: bool = False, torments: Sequence[Callable[[], object]] = ()) -> Report:
        """Race for so long.

        Args:
            seconds: how long, beside starting.
            kills: whether a process that is at work is killed each second, two at least, and another one started.
            torments: each is called once, at equal distances.
        """
        self._is_tormented = bool(torments)
        for _ in range(self._workers):
            self._start()
        self._await_work()
        began, left = time.monotonic(), list(torments)
        until, pause = began + seconds, seconds / (len(left) + 1)
        while time.monotonic() < until or (kills and self.killed < _LEAST_KILLED):
            time.sleep(0.5)
            if kills and self._is_at_work(self._processes[0][0]) and self._begun < _PROCESSES:
                _, victim = self._processes.pop(0)
                if victim.pid is not None:
                    os.kill(victim.pid, signal.SIGKILL)
                victim.join()
                self.killed += 1
                self._start()
            if left and time.monotonic() - began > pause * (len(torments) - len(left) + 1):
                left.pop(0)()
        self._await_work()
        self._stop[0] = 1
        for _, process in self._processes:
            process.join(30)
        return self._report()

    def _report(self) -> Report:
        """What was counted; what is served once every stamp ahead has passed is what the database has."""
        counts = self._counts[:]
        totals = {name: sum(counts[at :: len(_COUNTS)]) for at, name in enumerate(_COUNTS)}
        report = Report(totals, self.killed)
        if self.killed:
            time.sleep(5.5)
        here = site(self._url, self._redis)
        with here.app.test_request_context("/"), Session(here.engine) as session:
            g.session = session
            for id in range(ROWS):
                served, true = repr(here.row(id)), repr(here.row.uncached(id))  # type: ignore[attr-defined]
                if served != true:
                    report.left_stale.append(f"row {id} is {true} and served as {served}")
            served, true = repr(here.table()), repr(here.table.uncached())  # type: ignore[attr-defined]
            if served != true:
                report.left_stale.append(f"the table is {true} and served as {served}")
        here.engine.dispose()
        here.app.extensions["rcache"].close()
        return report


def disconnect(postgres: Any) -> None:
    """End every connection to the database, whatever is under way on it."""
    import psycopg

    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'test'")


def hang(redis: Any, seconds: float = 1.0) -> None:
    """Have Redis answer nothing for a while."""
    redis.pause()
    time.sleep(seconds)
    redis.resume()


def run(
    seconds: float, database: str = "postgresql", *, is_calm: bool = False, levels: Sequence[str] | None = None
) -> Report:
    """The long form, on servers of its own; a calm one has many more commits, and nobody is killed or restarted."""
    from tests.binaries import find_binary
    from tests.processes import scratch_directory
    from tests.servers import Server

    from .servers import MariaDB, Postgres

    with ExitStack() as stack:
        redis = stack.enter_context(Server(find_binary("redis")).start())
        torments: list[Callable[[], object]] = [redis.restart, lambda: hang(redis), lambda: hang(redis, 0.3)]
        if database == "sqlite":
            url = f"sqlite:///{scratch_directory('race')}/race.db"
        elif database == "mariadb":
            url = stack.enter_context(MariaDB()).url
        else:
            postgres = stack.enter_context(Postgres())
            url = postgres.url
            torments.insert(1, lambda: disconnect(postgres))
        return Race(url, redis.url, levels=levels).run(seconds, kills=not is_calm, torments=[] if is_calm else torments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--database", choices=["postgresql", "mariadb", "sqlite"], default="postgresql")
    parser.add_argument("--calm", action="store_true", help="no kills, no restarts: many more commits")
    parser.add_argument(
        "--level", choices=_LEVELS, help="the isolation level of all sessions; all levels are mixed else"
    )
    given = parser.parse_args()
    chosen = None if given.level is None else [given.level]
    result = run(given.seconds, given.database, is_calm=given.calm, levels=chosen)
    print(result, *result.left_stale, sep="\n")
    raise SystemExit(bool(result.counts["stale"] or result.counts["phantoms"] or result.left_stale))
