"""Real databases for tests and benchmarks: a PostgreSQL and a MariaDB of their own, and SQLite files.

Each server is private: its data lies in a temporary directory, it listens on a free port of the loopback interface and
on a unix socket, and it is stopped by whoever started it. They refuse to run as root: there they run as another user::

    with Postgres() as postgres:
        postgres.url                    # postgresql+psycopg://…/test, an empty database
        postgres.create("other")        # the URL of one more
        postgres.kill(); postgres.restart()

In tests: the fixtures `postgres`, `mariadb`, `sqlite_file`, `database_url` and `engine` of `tests/sql/conftest.py`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import psycopg
import pymysql

from tests.binaries import NoServerError
from tests.processes import BootError, Process, free_port, owned_directory

__all__ = ["MariaDB", "NoServerError", "Postgres"]

_LOOPBACK = "127.0.0.1"
_BOOT_SECONDS = 20.0
_ROOT_ID = 0
#: Nobody reads these data after a crash of the machine, and nobody but the tests is served.
_UNSAFE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "jit": "off",
}


def _unprivileged(*names: str) -> str | None:
    """The user that a server runs as: `None` for this process's own, unless that is root."""
    if os.geteuid() != _ROOT_ID:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in (*names, "nobody") if name in known)


def _as(user: str | None, *command: str) -> list[str]:
    if user is None:
        return list(command)
    return ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups", *command]


def _setup(command: Sequence[str]) -> None:
    """Run a command that prepares a data directory.

    Raises:
        BootError: It failed; the message ends with what it printed.
    """
    environ = {name: value for name, value in os.environ.items() if name not in ("HOME", "LANG", "LC_ALL")}
    done = subprocess.run(command, cwd="/", env=environ, capture_output=True, text=True, timeout=100, check=False)
    if done.returncode:
        raise BootError(f"{command!r} ended with {done.returncode}\n{done.stdout}{done.stderr}")


def _found(name: str, folders: Iterator[Path]) -> str:
    path = next((str(folder / name) for folder in folders if (folder / name).exists()), shutil.which(name))
    if path is None:
        raise NoServerError(f"no {name} on this machine")
    return path


class Postgres:
    """A PostgreSQL of its own, with an empty database `test`.

    Args:
        settings: Of its configuration: `default_transaction_isolation="serializable"`.

    Raises:
        NoServerError: There is none on this machine.
    """

    def __init__(self, **settings: str) -> None:
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
        self._program = _found("postgres", iter(versions))
        self._initdb = _found("initdb", iter([Path(self._program).parent]))
        self._settings = settings
        self._user = _unprivileged("postgres")
        self.directory = owned_directory("pg", self._user)
        self.port = 0
        self._process: Process | None = None
        data = str(self.directory / "data")
        _setup(_as(self._user, self._initdb, "-D", data, "-U", "test", "-A", "trust", "-E", "UTF8", "--no-sync"))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Of the database `test`, for SQLAlchemy."""
        return self.url_of("test")

    def url_of(self, name: str) -> str:
        """Of a database, for SQLAlchemy."""
        return f"postgresql+psycopg://test@{_LOOPBACK}:{self.port}/{name}"

    def dsn(self, name: str = "test") -> str:
        """Of a database, for psycopg."""
        return f"postgresql://test@{_LOOPBACK}:{self.port}/{name}"

    @property
    def process(self) -> Process:
        """The running server."""
        if self._process is None:
            raise RuntimeError("it is not started")
        return self._process

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        self.port = self.port or free_port()
        settings = {
            "listen_addresses": _LOOPBACK,
            "unix_socket_directories": str(self.directory),
            **_UNSAFE,
            "max_connections": "100",
            "max_prepared_transactions": "20",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [self._program, "-D", str(self.directory / "data"), "-p", str(self.port), *options]
        log = self.directory / "log"
        self._process = Process(_as(self._user, *command), log_path=log)
        self._process.wait_ready(self._answers, timeout=_BOOT_SECONDS)
        self.create("test")
        return self

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def create(self, name: str) -> str:
        """Make an empty database where there is none of that name; its URL."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url_of(name)

    def empty(self, name: str = "test") -> None:
        """Drop every schema of a database, prepared transactions too, and end its other connections.

        That takes a tenth of the time of dropping the database itself, with which a checkpoint comes.
        """
        with psycopg.connect(self.dsn(name), autocommit=True) as connection:
            here = "= current_database()"
            prepared = connection.execute(f"SELECT gid FROM pg_prepared_xacts WHERE database {here}".encode())
            for (gid,) in prepared.fetchall():
                connection.execute(f"ROLLBACK PREPARED '{gid}'".encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                f"WHERE datname {here} AND pid <> pg_backend_pid()".encode()
            )
            found = connection.execute(
                "SELECT quote_ident(nspname) FROM pg_namespace "
                "WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
            )
            for (schema,) in found.fetchall():
                connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())
            connection.execute("CREATE SCHEMA public")
            connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")

    def kill(self) -> None:
        """SIGKILL: nobody is told."""
        self.process.kill()

    def stop(self) -> None:
        """End it at once, in order. Twice does no harm."""
        if self._process is not None and self._process.is_running:
            os.kill(self._process.pid, signal.SIGINT)  # does not wait until its clients have gone
            self._process.stop()

    def restart(self) -> Self:
        """Stop it, and start it on the same port."""
        self.stop()
        return self.start()


class MariaDB:
    """A MariaDB of its own, with an empty database `test`.

    Args:
        settings: Of its configuration: `transaction_isolation="READ-COMMITTED"`.

    Raises:
        NoServerError: There is none on this machine.
    """

    def __init__(self, **settings: str) -> None:
        self._program = _found("mariadbd", iter([Path("/usr/sbin")]))
        install = _found("mariadb-install-db", iter([Path("/usr/bin")]))
        self._settings = settings
        self._user = _unprivileged("mysql")
        self.directory = owned_directory("my", self._user)
        self.port = 0
        self._process: Process | None = None
        options = ("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
        data = f"--datadir={self.directory / 'data'}"
        _setup(_as(self._user, install, "--no-defaults", data, *options))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Of the database `test`, for SQLAlchemy."""
        return self.url_of("test")

    def url_of(self, name: str) -> str:
        """Of a database, for SQLAlchemy."""
        return f"mysql+pymysql://root@{_LOOPBACK}:{self.port}/{name}"

    @property
    def process(self) -> Process:
        """The running server."""
        if self._process is None:
            raise RuntimeError("it is not started")
        return self._process

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        self.port = self.port or free_port()
        settings = {
            "datadir": str(self.directory / "data"),
            "bind-address": _LOOPBACK,
            "port": str(self.port),
            "socket": str(self.directory / "s"),
            "pid-file": str(self.directory / "pid"),
            "innodb-flush-log-at-trx-commit": "0",
            "innodb-flush-method": "nosync",
            "innodb-doublewrite": "0",
            "innodb-file-per-table": "0",
            "innodb-buffer-pool-size": "32M",
            "innodb-log-file-size": "8M",
            "innodb-stats-persistent": "0",
            "performance-schema": "0",
            "sync-frm": "0",
            **{name.replace("_", "-"): value for name, value in self._settings.items()},
        }
        command = [self._program, "--no-defaults", *[f"--{name}={value}" for name, value in settings.items()]]
        self._process = Process(_as(self._user, *command), log_path=self.directory / "log")
        self._process.wait_ready(self._answers, timeout=_BOOT_SECONDS)
        self.create("test")
        return self

    def connect(self) -> Any:
        """A plain connection, as root, to no database."""
        return pymysql.connect(host=_LOOPBACK, port=self.port, user="root", connect_timeout=2, autocommit=True)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except pymysql.OperationalError:
            return False
        return True

    def create(self, name: str) -> str:
        """Make an empty database where there is none of that name; its URL."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4")
        return self.url_of(name)

    def empty(self, name: str = "test") -> None:
        """Drop everything in a database, prepared transactions too, and end its other connections."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("XA RECOVER FORMAT='SQL'")
            for *_, xid in cursor.fetchall():
                cursor.execute(f"XA ROLLBACK {xid}")
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [name])
            for (number,) in cursor.fetchall():
                with contextlib.suppress(pymysql.OperationalError):  # it has ended by itself
                    cursor.execute(f"KILL {number}")
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
        self.create(name)

    def kill(self) -> None:
        """SIGKILL: nobody is told."""
        self.process.kill()

    def stop(self) -> None:
        """End it in order. Twice does no harm."""
        if self._process is not None:
            self._process.stop()

    def restart(self) -> Self:
        """Stop it, and start it on the same port."""
        self.stop()
        return self.start()
