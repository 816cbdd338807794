"""The private databases of these tests: they run, they are empty, and they end."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine, inspect, text

from tests.sql.servers import MariaDB, Postgres


def test_engine__is_of_an_empty_database(engine: Engine) -> None:
    """Each test begins with nothing in the database, whatever the one before has left there."""
    assert inspect(engine).get_table_names() == []
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE left_behind (id INTEGER)"))


def test_postgres__comes_back_empty_after_a_prepared_transaction(postgres: Postgres) -> None:
    """A two-phase transaction that nobody has ended keeps no test from beginning."""
    engine = create_engine(postgres.url)
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(text("CREATE TABLE prepared (id INTEGER)"))
        transaction.prepare()
        connection.invalidate()
    engine.dispose()
    postgres.empty()
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_mariadb__reads_from_snapshots(mariadb: MariaDB) -> None:
    """Its default is the REPEATABLE READ that the tests of snapshots are about."""
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@tx_isolation")
        assert cursor.fetchone() == ("REPEATABLE-READ",)
