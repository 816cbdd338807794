"""Random reads and writes over all pages of the example: what is cached is what the database says, in each process.

Two apps share a Redis, as two processes would, and a third has its cache switched off. `STATEFUL_STEPS` in the
environment sets how many steps are taken (1,000 for the long form), then from another seed each time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
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
CACHES = st.integers(0, 1)
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
    return create_app({"FLIGHTS_DB": path, "FLIGHTS_JWT_KEY": KEY, "TESTING": True, "RCACHE_L1_TTL": 0, **config})


def test_pages__cached_equals_uncached(tmp_path: Path, redis_server: Any) -> None:
    """Whatever is read and written, in whatever order and process, committed or rolled back: nobody is shown less."""
    path = tmp_path / "flights.db"
    data.ensure(path)
    shared = {"RCACHE_URL": redis_server.url, "RCACHE_TIMEOUT": 5.0}
    cached = [_app(path, **shared), _app(path, **shared)]
    plain = _app(path, RCACHE_URL="memory://", RCACHE_ENABLED=False)
    _small(path)
    clients: list[FlaskClient] = [app.test_client() for app in cached]
    truth = plain.test_client()
    token = truth.post("/api/login", json={"user": next(iter(auth.USERS)), "password": auth.PASSWORD}).json["token"]
    headers = {"Authorization": f"Bearer {token}"}
    states: dict[str, int] = {}

    class Machine(RuleBasedStateMachine):
        """Reads and writes."""

        @rule(which=CACHES, page=st.sampled_from(PAGES))
        def read_one(self, which: int, page: str) -> None:
            self.read(which, page)

        def read(self, which: int, page: str) -> None:
            """A page is the same with the cache and without."""
            own = headers if page == "/api/profile" else {}
            answer, expected = (client.get(page, headers=own) for client in (clients[which], truth))
            state = answer.headers.get("X-Cache", "none")
            states[state] = states.get(state, 0) + 1
            assert _shown(answer) == _shown(expected), f"{page} was a {state}"

        @rule(pages=st.lists(st.sampled_from(PAGES), min_size=2, max_size=4))
        def read_twice(self, pages: list[str]) -> None:
            for page in pages:
                self.read(0, page)
                self.read(1, page)

        @rule(which=CACHES, tailnum=st.sampled_from(TAILNUMS), seats=st.integers(1, 500))
        def change(self, which: int, tailnum: str, seats: int) -> None:
            clients[which].patch(f"/api/planes/{tailnum}", json={"seats": seats})

        @rule(
            which=CACHES,
            write=st.sampled_from(sorted(WRITES)),
            number=st.integers(1, 10**6),
            end=st.sampled_from(["commit", "commit", "rollback", "savepoint"]),
        )
        def write(self, which: int, write: str, number: int, end: str) -> None:
            with cached[which].app_context(), session() as db:
                if end == "savepoint":
                    nested = db.begin_nested()
                    WRITES["delays"](db, number)
                    nested.rollback()
                WRITES[write](db, number)
                if end == "rollback":
                    db.flush()
                    db.rollback()
                else:
                    db.commit()

        @rule(which=CACHES, name=st.sampled_from(["dashboard", "search", "planes"]))
        def invalidate(self, which: int, name: str) -> None:
            assert clients[which].post(f"/api/demo/invalidate/{name}").status_code == 200

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
    print(states)
    for app in (*cached, plain):
        app.extensions["flights_engine"].dispose()
        app.extensions["rcache"].close()
    assert states.get("HIT", 0) > 0, states
