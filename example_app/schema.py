"""The tables of the flight board: names, columns, types, row counts. Pure data; `data.py` builds them."""

# Statements are put together from names of this package only; what a visitor sends is always bound.
# ruff: noqa: S608

from __future__ import annotations

from dataclasses import dataclass

# Stored in the file's header, so that a file of another program or of an older release is recognised at once.
APPLICATION_ID = 0x464C5431  # "FLT1"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Table:
    """One table, read from one file of the data package.

    Attributes:
        name: The table's name, also the stem of its csv.
        file: The file inside the package's `data` folder.
        rows: How many rows the release of the data holds, exactly.
        columns: Column names, in the csv's order, with their SQLite types.
        primary_key: The columns of the primary key, empty for a table without a natural one.
        extra: Columns that are ours and not in the csv.
    """

    name: str
    file: str
    rows: int
    columns: dict[str, str]
    primary_key: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def create_sql(self) -> str:
        """Return the CREATE TABLE statement."""
        lines = [f"{column} {kind}" for column, kind in self.columns.items()]
        lines += self.extra
        if self.primary_key:
            lines.append(f"PRIMARY KEY ({', '.join(self.primary_key)})")
        return f"CREATE TABLE {self.name} ({', '.join(lines)}) STRICT"

    def insert_sql(self) -> str:
        """Return the INSERT statement with one placeholder per csv column."""
        marks = ", ".join("?" * len(self.columns))
        return f"INSERT INTO {self.name} ({', '.join(self.columns)}) VALUES ({marks})"


TABLES = (
    Table("airlines", "airlines.csv", 16, {"carrier": "TEXT", "name": "TEXT"}, ("carrier",)),
    Table(
        "airports",
        "airports.csv",
        1458,
        {
            "faa": "TEXT",
            "name": "TEXT",
            "lat": "REAL",
            "lon": "REAL",
            "alt": "INTEGER",
            "tz": "INTEGER",
            "dst": "TEXT",
            "tzone": "TEXT",
        },
        ("faa",),
    ),
    Table(
        "planes",
        "planes.csv",
        3322,
        {
            "tailnum": "TEXT",
            "year": "INTEGER",
            "type": "TEXT",
            "manufacturer": "TEXT",
            "model": "TEXT",
            "engines": "INTEGER",
            "seats": "INTEGER",
            "speed": "INTEGER",
            "engine": "TEXT",
        },
        ("tailnum",),
        ("note TEXT",),
    ),
    Table(
        "weather",
        "weather.csv",
        26115,
        {
            "origin": "TEXT",
            "year": "INTEGER",
            "month": "INTEGER",
            "day": "INTEGER",
            "hour": "INTEGER",
            "temp": "REAL",
            "dewp": "REAL",
            "humid": "REAL",
            "wind_dir": "INTEGER",
            "wind_speed": "REAL",
            "wind_gust": "REAL",
            "precip": "REAL",
            "pressure": "REAL",
            "visib": "REAL",
            "time_hour": "TEXT",
        },
        ("origin", "time_hour"),
    ),
    Table(
        "flights",
        "flights.csv.zip",
        336776,
        {
            "year": "INTEGER",
            "month": "INTEGER",
            "day": "INTEGER",
            "dep_time": "INTEGER",
            "sched_dep_time": "INTEGER",
            "dep_delay": "INTEGER",
            "arr_time": "INTEGER",
            "sched_arr_time": "INTEGER",
            "arr_delay": "INTEGER",
            "carrier": "TEXT",
            "flight": "INTEGER",
            "tailnum": "TEXT",
            "origin": "TEXT",
            "dest": "TEXT",
            "air_time": "INTEGER",
            "distance": "INTEGER",
            "hour": "INTEGER",
            "minute": "INTEGER",
            "time_hour": "TEXT",
        },
    ),
)

# What search and the plane pages look up by. None of them covers a dashboard query: that one reads the table.
INDEXES = (
    "CREATE INDEX flights_by_day ON flights (month, day, sched_dep_time)",
    "CREATE INDEX flights_by_dest ON flights (dest)",
    "CREATE INDEX flights_by_carrier ON flights (carrier)",
    "CREATE INDEX flights_by_plane ON flights (tailnum)",
)
