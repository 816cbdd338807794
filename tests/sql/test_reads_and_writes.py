"""Every kind of read, in a view with AUTO tags, is right after every kind of write, and others keep their hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from flask_rcache import AUTO, CacheType, RCache, cache_response
from flask_rcache.sql import SQLCache

from .library import READS, WRITES, Reading, Writer, Writing, fill, foreign_keys, prepare

PAGE = CacheType("page", ttl=600)


class Library:
    """An app with a page for each kind of read, on a database that is filled anew for each test."""

    def __init__(self, kind: str, url: str, redis: str) -> None:
        self.kind = kind
        options = {"connect_args": {"local_infile": True}} if kind == "mariadb" else {}
        self.watched, self.plain = create_engine(url, **options), create_engine(url)
        for engine in (self.watched, self.plain):
            if kind == "sqlite":
                foreign_keys(engine)
        prepare(self.plain, kind)
        self.app = Flask("library")
        self.app.config.update(RCACHE_URL=redis, TESTING=True)
        RCache(self.app, types=[PAGE])
        self.sql = SQLCache(self.watched)
        self.sql.init_app(self.app)
        self.sql.depends(function="book_count", reads=["book"])
        self.sql.depends(function="writer", reads=["author"])
        self.sql.depends(function="dearer", reads=["book"])
        self.reads = {name: reading for name, reading in READS.items() if kind in reading.on}
        self._truth = {name: _page(self.plain, reading) for name, reading in self.reads.items()}
        for number, (name, reading) in enumerate(self.reads.items()):
            view = _page(self.watched, reading)
            view.__name__ = f"page_{number}"
            self.app.get(f"/{name}")(cache_response(PAGE, tags=AUTO)(view))
        self.app.post("/write/<name>")(self._write)
        self._client = self.app.test_client()

    def begin(self) -> None:
        """Every test begins with the same rows, and nothing in the cache."""
        fill(self.plain, self.kind)
        self.app.extensions["rcache"].clear_all()

    def _write(self, name: str) -> str:
        WRITES[name].write(Writer(self.watched, self.kind))
        return ""

    def write(self, name: str) -> None:
        """A request that writes."""
        assert self._client.post(f"/write/{name}").status_code == 200

    def shown(self, name: str) -> tuple[str, bool]:
        """What a page shows, and whether it was a hit."""
        answer = self._client.get(f"/{name}")
        return answer.text, answer.headers["X-Cache"] == "HIT"

    def truth(self, name: str) -> str:
        """What a page has to show."""
        return self._truth[name]()

    def misses(self) -> list[str]:
        """Visit every page; those that were no hit."""
        return [name for name in self.reads if not self.shown(name)[1]]

    def close(self) -> None:
        """End its connections."""
        self.watched.dispose()
        self.plain.dispose()
        self.app.extensions["rcache"].close()


def _page(engine: Engine, reading: Reading) -> Callable[[], str]:
    def page() -> str:
        with Session(engine) as session:
            return repr(reading.read(session))

    return page


class Libraries:
    """One library for each kind of database, made anew after a test that has failed or has changed its tables."""

    def __init__(self, request: pytest.FixtureRequest, directory: Path) -> None:
        self._request = request
        self._directory = directory
        self._made: dict[str, Library] = {}

    def of(self, kind: str) -> Library:
        """The library of a kind of database."""
        library = self._made.get(kind)
        if library is not None:
            library.begin()
            return library
        redis = self._request.getfixturevalue("_shared_redis")
        library = self._made[kind] = Library(kind, self._url(kind), redis.url)
        library.begin()
        library.misses()
        not_cached = library.misses()
        assert not not_cached, f"these are not cached at all: {not_cached}"
        return library

    def _url(self, kind: str) -> str:
        """Of an empty database, which no other test uses."""
        if kind == "sqlite":
            file = self._directory / "library.db"
            file.unlink(missing_ok=True)
            return f"sqlite:///{file}"
        server = self._request.getfixturevalue("_shared_postgres" if kind == "postgresql" else "_shared_mariadb")
        url = str(server.create("library"))
        server.empty("library")
        return url

    def forget(self, kind: str) -> None:
        """Make it anew for the next test."""
        library = self._made.pop(kind, None)
        if library is not None:
            library.close()

    def close(self) -> None:
        """End all of them."""
        for kind in list(self._made):
            self.forget(kind)


@pytest.fixture(scope="module")
def libraries(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libraries]:
    made = Libraries(request, tmp_path_factory.mktemp("library"))
    yield made
    made.close()


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for name, write in WRITES.items() for kind in write.on])
def test_pages__right_after_a_write(kind: str, name: str, libraries: Libraries) -> None:
    """Pages of every kind are cached; after the write each shows what an uncached one shows, and untouched ones hit."""
    library, is_right = libraries.of(kind), False
    try:
        _check(library, name, WRITES[name])
        is_right = True
    finally:
        if WRITES[name].is_ddl or not is_right:
            libraries.forget(kind)


def _check(library: Library, name: str, writing: Writing) -> None:
    library.misses()
    library.write(name)
    wrong, lost, again = [], [], []
    for each in library.reads:
        text, is_hit = library.shown(each)
        if text != library.truth(each):
            wrong.append((each, "a hit" if is_hit else "a miss"))
        if each in writing.keeps and not is_hit:
            lost.append(each)
        if not is_hit and not library.shown(each)[1]:
            again.append(each)
    assert not wrong, f"wrong after {name}: {wrong}"
    assert not lost, f"hits lost by {name}: {lost}"
    assert not again, f"not stored again after {name}: {again}"


def test_docs__show_every_read_and_write() -> None:
    """The tables of the page on correctness are what is tested here."""
    page = (Path(__file__).parents[2] / "docs" / "sql-correctness.md").read_text("utf-8")
    found = {name: each.on for name, each in READS.items()} | {name: each.on for name, each in WRITES.items()}
    for name, on in found.items():
        marks = " | ".join("✓" if kind in on else "" for kind in ("postgresql", "mariadb", "sqlite"))
        assert f"| {name} | {marks} |" in page, f"{name!r} is missing or wrong in docs/sql-correctness.md"
