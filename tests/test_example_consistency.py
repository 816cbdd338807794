"""Random reads and writes over all pages of the example: what is cached is what the database says, in each process.

Three processes share a Redis and the database, each with an app of its own; the last one has a memory tier too. What
they show is compared with an app here whose cache is switched off. `STATEFUL_STEPS` in the environment sets how many
steps are taken (1,000 for the long form), then from another seed each time.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import delete, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from example_app import auth, create_app, data
from example_app.db import session
from example_app.schema import Airline, Counter, Flight, Plane

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(1000)]

STEPS = int(os.environ.get("STATEFUL_STEPS", "0"))
KEY = "a key for tests, and for nothing else: 32 bytes or more"
TAILNUMS = ("N10156", "N102UW", "N103US", "N99999")  # there is none of the last, at first
PAGES = (
    "/api/dashboard",
    "/api/search",
    "/api/search?origin=JFK",
    "/api/search?page=2",
    "/api/planes",
    "/api/planes?page=2",
    *(f"/api/planes/{tailnum}" for tailnum in TAILNUMS),
    *(f"/api/analytics/delays?by={by}" for by in ("carrier", "origin", "month")),
    "/api/profile",
)
#: Seconds that each process keeps in memory what it has read.
L1_TTLS = (0.0, 0.0, 2.0)
CACHES = st.integers(0, len(L1_TTLS) - 1)
#: Seconds in which a process has to answer, and after which an answer of the memory tier is no longer given.
PATIENCE = 120.0
Write = Callable[[Session, int], object]

WRITES: dict[str, Write] = {
    "a plane by the ORM": lambda db, n: setattr(db.get(Plane, TAILNUMS[n % 3]) or Plane(), "seats", n),
    "all planes": lambda db, n: db.execute(update(Plane).where(Plane.seats > 150).values(note=f"note {n}")),
    "a plane that was not there": lambda db, n: db.merge(Plane(tailnum=TAILNUMS[3], seats=n)),
    "a plane goes": lambda db, _: db.execute(delete(Plane).where(Plane.tailnum == TAILNUMS[3])),
    "an airline": lambda db, n: setattr(db.get_one(Airline, "AA"), "name", f"American {n}"),
    "delays": lambda db, n: db.execute(update(Flight).where(Flight.day == 1 + n % 28).values(arr_delay=n)),
    "flights go": lambda db, n: db.execute(delete(Flight).where(Flight.flight == n)),
    "what no page reads": lambda db, n: db.merge(Counter(name=f"counter {n}", value=n)),
}


def _small(path: Path) -> None:
    """Leave a part of the flights, so that the slowest page takes no second; some of each airline."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "DELETE FROM flights WHERE rowid % 100 AND tailnum NOT IN (?, ?, ?) "
            "AND carrier NOT IN ('AS', 'F9', 'HA', 'OO', 'YV')",
            TAILNUMS[:3],
        )
        connection.execute("DELETE FROM weather WHERE rowid % 50")
        connection.commit()


def _shown(answer: TestResponse) -> tuple[int, Any]:
    """What a page says, but for when it was computed."""
    said = answer.json
    if isinstance(said, dict):
        said.pop("computed", None)
    return answer.status_code, said


def _app(path: Path, **config: Any) -> Any:
    return create_app({"FLIGHTS_DB": path, "FLIGHTS_JWT_KEY": KEY, "TESTING": True, **config})


class _Site:
    """What one process can do, with an app of its own."""

    def __init__(self, path: Path, config: dict[str, Any], headers: dict[str, str]) -> None:
        self._app = _app(path, **config)
        self._client = self._app.test_client()
        self._headers = headers

    def read(self, page: str) -> tuple[tuple[int, Any], str]:
        """What a page shows, and where that came from."""
        answer = self._client.get(page, headers=self._headers if page == "/api/profile" else {})
        return _shown(answer), answer.headers.get("X-Cache", "none")

    def change(self, tailnum: str, seats: int) -> None:
        """Change a plane by the app's own view."""
        self._client.patch(f"/api/planes/{tailnum}", json={"seats": seats})

    def write(self, name: str, number: int, end: str) -> None:
        """Write beside the app's views, in a transaction."""
        with self._app.app_context(), session() as db:
            if end == "savepoint":
                nested = db.begin_nested()
                WRITES["delays"](db, number)
                nested.rollback()
            WRITES[name](db, number)
            if end == "rollback":
                db.flush()
                db.rollback()
            else:
                db.commit()

    def invalidate(self, name: str) -> int:
        """Invalidate a type of pages by hand."""
        return int(self._client.post(f"/api/demo/invalidate/{name}").status_code)


def _serve(pipe: Connection, *args: Any) -> None:
    site = _Site(*args)
    pipe.send((True, None))
    while True:
        try:
            name, given = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(site, name)(*given)))
        except Exception as error:  # noqa: BLE001  # it is the test's
            pipe.send((False, f"{type(error).__name__}: {error}"))


class _Process:
    """One process, from outside."""

    def __init__(self, *args: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, *args), daemon=True)
        self._process.start()
        there.close()

    def __call__(self, name: str, *given: Any) -> Any:
        """Have it do something, and wait."""
        self._pipe.send((name, given))
        return self.answer()

    def answer(self) -> Any:
        """What it has to say; that it is there, at first."""
        assert self._pipe.poll(PATIENCE), "a process does not answer"
        is_done, value = self._pipe.recv()
        assert is_done, value
        return value

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextmanager
def _processes(path: Path, url: str, headers: dict[str, str]) -> Iterator[list[_Process]]:
    started: list[_Process] = []
    try:
        for l1_ttl in L1_TTLS:
            config = {"RCACHE_URL": url, "RCACHE_TIMEOUT": 5.0, "RCACHE_L1_TTL": l1_ttl}
            started.append(_Process(path, config, headers))
        for process in started:
            process.answer()
        yield started
    finally:
        for process in started:
            process.close()


def test_pages__cached_equals_uncached(tmp_path: Path, redis_server: Any) -> None:
    """Whatever is read and written, in whatever order and process, committed or rolled back: nobody is shown less."""
    path = tmp_path / "flights.db"
    data.ensure(path)
    plain = _app(path, RCACHE_URL="memory://", RCACHE_ENABLED=False)
    truth = plain.test_client()
    token = truth.post("/api/login", json={"user": next(iter(auth.USERS)), "password": auth.PASSWORD}).json["token"]
    headers = {"Authorization": f"Bearer {token}"}
    counts: dict[str, int] = {}

    def count(what: str) -> None:
        counts[what] = counts.get(what, 0) + 1

    def true(page: str) -> tuple[int, Any]:
        return _shown(truth.get(page, headers=headers if page == "/api/profile" else {}))

    def check(which: int, page: str) -> None:
        """A page is the same with the cache and without; from a memory tier soon."""
        shown, state = processes[which]("read", page)
        count(state)
        until = time.monotonic() + 10 * L1_TTLS[which]
        while shown != true(page) and time.monotonic() < until:
            count("from memory, older for a moment")
            time.sleep(0.01)
            shown, state = processes[which]("read", page)
        assert shown == true(page), f"{page} was a {state} in process {which}"

    class Machine(RuleBasedStateMachine):
        """Reads and writes."""

        @rule(which=CACHES, page=st.sampled_from(PAGES))
        def read(self, which: int, page: str) -> None:
            count("steps")
            check(which, page)

        @rule(pages=st.lists(st.sampled_from(PAGES), min_size=2, max_size=4))
        def read_everywhere(self, pages: list[str]) -> None:
            count("steps")
            for page in pages:
                for which in range(len(L1_TTLS)):
                    check(which, page)

        @rule(which=CACHES, tailnum=st.sampled_from(TAILNUMS), seats=st.integers(1, 500))
        def change(self, which: int, tailnum: str, seats: int) -> None:
            count("steps")
            processes[which]("change", tailnum, seats)

        @rule(
            which=CACHES,
            name=st.sampled_from(sorted(WRITES)),
            number=st.integers(1, 10**6),
            end=st.sampled_from(["commit", "commit", "rollback", "savepoint"]),
        )
        def write(self, which: int, name: str, number: int, end: str) -> None:
            count("steps")
            processes[which]("write", name, number, end)

        @rule(which=CACHES, name=st.sampled_from(["dashboard", "search", "planes"]))
        def invalidate(self, which: int, name: str) -> None:
            count("steps")
            assert processes[which]("invalidate", name) == 200

    with _processes(path, redis_server.url, headers) as processes:
        _small(path)  # an app that begins would have all of it back
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=max(8, STEPS // 50),
                stateful_step_count=50 if STEPS else 15,
                derandomize=not STEPS,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
            ),
        )
    print(counts)
    plain.extensions["flights_engine"].dispose()
    plain.extensions["rcache"].close()
    assert counts.get("HIT", 0) > 0, counts
