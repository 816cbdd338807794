"""The tables of the flight board, as SQLAlchemy maps them. `data.py` makes and fills them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import REAL, Integer, Table, Text
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship
from sqlalchemy.schema import CreateTable

# Stored in the file's header, so that a file of another program or of an older release is recognised at once.
APPLICATION_ID = 0x464C5431  # "FLT1"
SCHEMA_VERSION = 2


class Base(DeclarativeBase):
    """What all tables have in common: the SQLite types of their columns."""

    type_annotation_map = {str: Text, int: Integer, float: REAL}  # noqa: RUF012 - as SQLAlchemy documents it


class Airline(Base):
    __tablename__ = "airlines"

    carrier: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class Airport(Base):
    __tablename__ = "airports"

    faa: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    lat: Mapped[float | None]
    lon: Mapped[float | None]
    alt: Mapped[int | None]
    tz: Mapped[int | None]
    dst: Mapped[str | None]
    tzone: Mapped[str | None]


class Plane(Base):
    __tablename__ = "planes"

    tailnum: Mapped[str] = mapped_column(primary_key=True)
    year: Mapped[int | None]
    type: Mapped[str | None]
    manufacturer: Mapped[str | None]
    model: Mapped[str | None]
    engines: Mapped[int | None]
    seats: Mapped[int]
    speed: Mapped[int | None]
    engine: Mapped[str | None]
    note: Mapped[str | None] = mapped_column(info={"own": True})


class Weather(Base):
    __tablename__ = "weather"

    origin: Mapped[str] = mapped_column(primary_key=True)
    year: Mapped[int | None]
    month: Mapped[int | None]
    day: Mapped[int | None]
    hour: Mapped[int | None]
    temp: Mapped[float | None]
    dewp: Mapped[float | None]
    humid: Mapped[float | None]
    wind_dir: Mapped[int | None]
    wind_speed: Mapped[float | None]
    wind_gust: Mapped[float | None]
    precip: Mapped[float | None]
    pressure: Mapped[float | None]
    visib: Mapped[float | None]
    time_hour: Mapped[str] = mapped_column(primary_key=True)


class Flight(Base):
    __tablename__ = "flights"

    # SQLite's own number of a row: the data has no key.
    rowid: Mapped[int] = mapped_column(system=True)
    __mapper_args__ = {"primary_key": [rowid]}  # noqa: RUF012 - as SQLAlchemy documents it
    year: Mapped[int]
    month: Mapped[int]
    day: Mapped[int]
    dep_time: Mapped[int | None]
    sched_dep_time: Mapped[int]
    dep_delay: Mapped[int | None]
    arr_time: Mapped[int | None]
    sched_arr_time: Mapped[int]
    arr_delay: Mapped[int | None]
    carrier: Mapped[str]
    flight: Mapped[int]
    tailnum: Mapped[str | None]
    origin: Mapped[str]
    dest: Mapped[str]
    air_time: Mapped[int | None]
    distance: Mapped[int]
    hour: Mapped[int]
    minute: Mapped[int]
    time_hour: Mapped[str]

    airline: Mapped[Airline] = relationship(primaryjoin=lambda: foreign(Flight.carrier) == Airline.carrier)
    # None for the planes that the data does not know.
    plane: Mapped[Plane | None] = relationship(primaryjoin=lambda: foreign(Flight.tailnum) == Plane.tailnum)


class Counter(Base):
    """What the app itself counts; the data has nothing of it."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a table's rows come from.

    Attributes:
        table: The table.
        file: The file inside the package's `data` folder.
        rows: How many rows the release of the data holds, exactly.
    """

    table: Table
    file: str
    rows: int

    @property
    def name(self) -> str:
        """The table's name, also the stem of its csv."""
        return self.table.name

    @property
    def columns(self) -> dict[str, str]:
        """The names of the csv's columns, in its order, with their SQLite types."""
        read = (column for column in self.table.columns if not column.system and not column.info.get("own"))
        return {column.name: str(column.type.compile(sqlite.dialect())) for column in read}

    def create_sql(self) -> str:
        """Return the CREATE TABLE statement."""
        return create_sql(self.table)

    def insert_sql(self) -> str:
        """Return the INSERT statement with one placeholder per csv column."""
        marks = ", ".join("?" * len(self.columns))
        return f"INSERT INTO {self.name} ({', '.join(self.columns)}) VALUES ({marks})"  # noqa: S608 - our own names


def create_sql(table: Table) -> str:
    """Return the CREATE TABLE statement of a table."""
    # STRICT by hand: the option of SQLAlchemy is younger than the oldest version that is supported here.
    return f"{CreateTable(table).compile(dialect=sqlite.dialect())} STRICT"


def _source(model: type[Base], file: str, rows: int) -> Source:
    return Source(Base.metadata.tables[model.__tablename__], file, rows)


TABLES = (
    _source(Airline, "airlines.csv", 16),
    _source(Airport, "airports.csv", 1458),
    _source(Plane, "planes.csv", 3322),
    _source(Weather, "weather.csv", 26115),
    _source(Flight, "flights.csv.zip", 336776),
)

OWN_TABLES = (Base.metadata.tables[Counter.__tablename__],)

# What search and the plane pages look up by. None of them covers a dashboard query: that one reads the table.
INDEXES = (
    "CREATE INDEX flights_by_day ON flights (month, day, sched_dep_time)",
    "CREATE INDEX flights_by_dest ON flights (dest)",
    "CREATE INDEX flights_by_carrier ON flights (carrier)",
    "CREATE INDEX flights_by_plane ON flights (tailnum)",
)
