"""The databases of these tests: a PostgreSQL and a MariaDB for each session, emptied before each test, and files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from tests.sql.servers import MariaDB, NoServerError, Postgres

DATABASES = ("postgresql", "mariadb", "sqlite")


@pytest.fixture(scope="session")
def _shared_postgres() -> Iterator[Postgres]:
    try:
        postgres = Postgres()
    except NoServerError as error:
        pytest.skip(str(error))
    with postgres:
        yield postgres


@pytest.fixture(scope="session")
def _shared_mariadb() -> Iterator[MariaDB]:
    try:
        mariadb = MariaDB()
    except NoServerError as error:
        pytest.skip(str(error))
    with mariadb:
        yield mariadb


@pytest.fixture
def postgres(_shared_postgres: Postgres) -> Postgres:
    """PostgreSQL, shared by the run; its database `test` is emptied before the test. Do not stop it."""
    _shared_postgres.empty()
    return _shared_postgres


@pytest.fixture
def mariadb(_shared_mariadb: MariaDB) -> MariaDB:
    """MariaDB, shared by the run; its database `test` is emptied before the test. Do not stop it."""
    _shared_mariadb.empty()
    return _shared_mariadb


@pytest.fixture
def sqlite_file(tmp_path: Path) -> str:
    """The URL of a SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        url: str = request.getfixturevalue("sqlite_file")
        return url
    server = request.getfixturevalue("postgres" if request.param == "postgresql" else "mariadb")
    return str(server.url)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine of an empty database, of each kind in turn."""
    made = create_engine(database_url)
    yield made
    made.dispose()
