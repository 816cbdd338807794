"""What watching a database costs, and what a hit saves: an ORM request of 20 statements.

``python -m benchmarks.sql`` has it without ``SQLCache``, watched by it, and answered from the cache with ``tags=AUTO``.
The requests are interleaved, and timed by the CPU time of their thread, which other processes disturb least. Two equal
apps differ by up to a tenth in one process and not in the next, as keys of dicts collide or not: several processes
measure, and the median counts. SQLite in a file is the database whose statements take least, so that the share is
greatest. With ``--rows`` there is PostgreSQL on this machine, too, by the clock, as its server's time is a part of a
request, and what it takes to read 10,000 rows from PostgreSQL and from the cache.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import zstandard
from flask import Flask, jsonify
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, create_engine, event, select, text
from sqlalchemy.orm import Mapped, mapped_column, relationship, selectinload

from benchmarks import report
from flask_rcache import AUTO, CacheType, RCache, cache_response
from flask_rcache.codec import ValueCodec
from flask_rcache.sql import SQLCache
from flask_rcache.sql.packing import Rows, pack, unpack

#: What watching may add to the request.
GOAL = 1.05
_STATEMENTS = 20
_PROCESSES = 9


def _app(url: str, *, watched: bool) -> Flask:
    app = Flask("watched" if watched else "bare")
    app.config.update(SQLALCHEMY_DATABASE_URI=url, TESTING=True, RCACHE_URL="memory://")
    db = SQLAlchemy(app)
    RCache(app)
    if watched:
        app.extensions["benchmark"] = SQLCache(db)

    class Customer(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        orders: Mapped[list[Order]] = relationship()

    class Order(db.Model):  # type: ignore[name-defined,misc]
        id: Mapped[int] = mapped_column(primary_key=True)
        customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"), index=True)
        total: Mapped[int]

    globals()["Order"] = Order  # the annotation above is looked up here

    def page() -> Any:
        """20 statements: gets by key, lists, a loader, lazy loads."""
        session = db.session
        known = [session.get_one(Customer, number) for number in range(1, 9)]  # and kept: none is asked for twice
        found = session.scalars(select(Customer).where(Customer.id > 90).options(selectinload(Customer.orders))).all()
        lazy = [len(each.orders) for each in known]
        big = session.scalars(select(Order).where(Order.total > 950).order_by(Order.id).limit(20)).all()
        count = session.scalar(text("SELECT count(*) FROM customer"))
        return jsonify(
            names=[each.name for each in known],
            found=[len(each.orders) for each in found],
            lazy=lazy,
            big=len(big),
            n=count,
        )

    app.add_url_rule("/page", view_func=page)
    if watched:
        cached = cache_response(CacheType.DASHBOARD, ttl=3600, tags=AUTO)(page)
        app.add_url_rule("/cached", view_func=cached, endpoint="cached")
    make_customer: Any = Customer
    make_order: Any = Order
    with app.app_context():
        db.create_all()
        db.session.add_all([make_customer(id=number, name=f"customer {number}") for number in range(1, 101)])
        db.session.add_all([make_order(customer_id=1 + number % 100, total=number) for number in range(1000)])
        db.session.commit()
    return app


def _count_statements(app: Flask) -> int:
    """How many statements the page takes."""
    with app.app_context():
        engine = app.extensions["sqlalchemy"].engine
    seen: list[str] = []

    def see(*arguments: Any) -> None:
        seen.append(arguments[2])

    event.listen(engine, "before_cursor_execute", see)
    app.test_client().get("/page")
    return len(seen)


def _caller(app: Flask, path: str, clock: Callable[[], float]) -> Callable[[], float]:
    client = app.test_client()

    def call() -> float:
        began = clock()
        if client.get(path).status_code != 200:
            raise AssertionError("no page")
        return clock() - began

    return call


def watching(rounds: int, urls: Sequence[str] = ()) -> tuple[float, float, float]:
    """Milliseconds of a request that is not watched, and the ratios to it of a watched one and of a hit.

    Args:
        rounds: how often each is called, times three.
        urls: two empty databases on a server, where a request is timed by the clock; by CPU time in SQLite's files,
            when left out.

    Raises:
        AssertionError: what should be a hit is none, or the page does not take 20 statements.
    """
    clock = time.perf_counter if urls else time.thread_time
    with tempfile.TemporaryDirectory() as folder:
        bare_url, watched_url = urls or [f"sqlite:///{Path(folder) / name}.db" for name in ("bare", "watched")]
        apps = {False: _app(bare_url, watched=False), True: _app(watched_url, watched=True)}
        which = ((False, "/page"), (True, "/page"), (True, "/cached"))
        calls = [_caller(apps[each], path, clock) for each, path in which]
        for _ in range(20):
            for call in calls:
                call()
        if apps[True].test_client().get("/cached").headers["X-Cache"] != "HIT":
            raise AssertionError("the page is not cached")
        times: list[list[float]] = []
        for number in range(rounds):
            turn = list(range(3)) if number % 2 else [2, 1, 0]
            found = {each: sum(calls[each]() for _ in range(3)) for each in turn}
            times.append([found[each] for each in range(3)])
        if _count_statements(apps[False]) != _STATEMENTS:  # at last: an engine that was listened to is slower
            raise AssertionError(f"the page does not take {_STATEMENTS} statements")
        for app in apps.values():
            with app.app_context():
                app.extensions["sqlalchemy"].engine.dispose()
    bare = statistics.median(each[0] for each in times) / 3 * 1e3
    watched, hit = (statistics.median(each[which] / each[0] for each in times) for which in (1, 2))
    return bare, watched, hit


def in_processes(rounds: int, urls: Sequence[Sequence[str]] = ()) -> tuple[float, float, float]:
    """:func:`watching` in several processes, one after another: the medians.

    Args:
        rounds: of all processes together.
        urls: two empty databases on a server for each.
    """
    found = []
    for number in range(_PROCESSES):
        command = [sys.executable, "-m", "benchmarks.sql", "--one", str(max(1, rounds // _PROCESSES))]
        done = subprocess.run([*command, *(urls[number] if urls else ())], check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout))
    bare, watched, hit = (statistics.median(each[which] for each in found) for which in range(3))
    return bare, watched, hit


def sample(count: int) -> Rows:
    """Rows of ten columns of different types, the same in each run."""
    draw = random.Random(1)
    start = dt.datetime(2024, 1, 1)
    names = ("id", "name", "price", "qty", "created", "day", "active", "token", "note", "ratio")
    rows = [
        (
            number,
            f"customer {draw.randrange(5000)}",
            Decimal(draw.randrange(10**6)).scaleb(-2),
            draw.randrange(100),
            start + dt.timedelta(seconds=draw.randrange(10**7), microseconds=draw.randrange(10**6)),
            dt.date(2024, 1, 1) + dt.timedelta(days=draw.randrange(365)),
            draw.random() < 0.5,
            uuid.UUID(int=draw.getrandbits(128)),
            draw.choice([None, "shipped", "open", "cancelled"]),
            draw.random(),
        )
        for number in range(count)
    ]
    return Rows(names, rows)


def rows(url: str) -> tuple[float, float, float]:
    """Seconds that a query of 10,000 rows takes, and the cached result; and the share of its JSON that it takes.

    Args:
        url: of an empty PostgreSQL database.
    """
    result, codec = sample(10_000), ValueCodec()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE sample (id int PRIMARY KEY, name text, price numeric(12, 2), qty int, created timestamp, "
                "day date, active boolean, token uuid, note text, ratio float8)"
            )
        )
        values = ", ".join(f":{name}" for name in result.names)
        connection.execute(text(f"INSERT INTO sample VALUES ({values})"), result.mappings())
    stored = zstandard.ZstdCompressor(level=3).compress(pack(result, codec))
    queried, cached = [], []
    for _ in range(7):
        began = time.perf_counter()
        with engine.connect() as connection:
            found = [dict(row) for row in connection.execute(text("SELECT * FROM sample ORDER BY id")).mappings()]
        queried.append(time.perf_counter() - began)
        began = time.perf_counter()
        again = unpack(zstandard.ZstdDecompressor().decompress(stored), codec).mappings()
        cached.append(time.perf_counter() - began)
        if found != again:
            raise AssertionError("other rows")
    engine.dispose()
    share = len(stored) / len(json.dumps(result.mappings(), default=str))
    return min(queried), min(cached), share


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and say by the exit code whether the goal is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sql", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--rows", action="store_true", help="read 10,000 rows from a PostgreSQL of its own, too")
    parser.add_argument("--one", nargs="+", metavar="ROUNDS URL", help="measure in this process, and print figures")
    report.options(parser)
    options = parser.parse_args(argv)
    if options.one:
        print(json.dumps(watching(int(options.one[0]), options.one[1:])))
        return 0
    bare, watched, hit = in_processes(options.rounds)
    table = [
        ("a request of 20 ORM statements", f"{bare:.2f} ms of CPU", "1.00"),
        (f"watched by SQLCache (goal {GOAL})", "", f"{watched:.3f}"),
        ("answered from the cache, tags=AUTO", "", f"{hit:.3f}"),
    ]
    bars = [
        report.Bar("a request of 20 ORM statements", 1.0, "floor"),
        report.Bar("watched by SQLCache", watched, "ours"),
        report.Bar("answered from the cache", hit, "ours"),
    ]
    if options.rows:
        from tests.sql.servers import Postgres

        with Postgres() as postgres:
            queried, cached, share = rows(postgres.url)
            names = [[f"{each}{number}" for each in ("bare", "watched")] for number in range(_PROCESSES)]
            urls = [[postgres.create(name) for name in pair] for pair in names]
            on_server = in_processes(options.rounds, urls)
        table += [
            ("the request on PostgreSQL on this machine", f"{on_server[0]:.2f} ms", "1.00"),
            ("watched by SQLCache", "", f"{on_server[1]:.3f}"),
            ("answered from the cache, tags=AUTO", "", f"{on_server[2]:.3f}"),
            ("10,000 rows of 10 columns from PostgreSQL", f"{queried * 1e3:.0f} ms", "1.00"),
            (
                f"the same from the cache ({share:.0%} of their JSON)",
                f"{cached * 1e3:.0f} ms",
                f"{cached / queried:.2f}",
            ),
        ]
    found = report.Report(
        name="sql",
        title="A request of 20 ORM statements: watched, and from the cache",
        command="python -m benchmarks.sql --rows",
        method=f"SQLite in a file, called in process, medians of {_PROCESSES} processes with {options.rounds} rounds.",
        columns=("", "takes", "× without a cache"),
        rows=table,
        bars=bars,
        unit="× the request without a cache",
    )
    report.show(found, publish=options.publish)
    return watched > GOAL


if __name__ == "__main__":
    raise SystemExit(main())
