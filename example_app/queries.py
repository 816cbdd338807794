"""The smaller queries: search, delays by one dimension, planes, one airport's year."""

# Statements are put together from names of this package only; what a visitor sends is always bound.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from typing import Any

from example_app.db import Row
from example_app.params import PlaneFilter, Search

PAGE_SIZE = 25

_SEARCH_COLUMNS = """
    printf('%04d-%02d-%02d', page.year, month, day) AS date,
    carrier, airlines.name AS airline, flight, tailnum, origin, dest,
    sched_dep_time, dep_time, dep_delay, sched_arr_time, arr_time, arr_delay,
    manufacturer, model, seats
"""

# What the table of delays is grouped by: the label, and how to come to it.
DELAY_DIMENSIONS: dict[str, tuple[str, str]] = {
    "month": ("month", "flights"),
    "carrier": ("carrier", "flights"),
    "origin": ("origin", "flights"),
    "weather": (
        """CASE WHEN visib < 1 THEN 'visibility below 1 mile' WHEN visib < 5 THEN 'visibility 1 to 5 miles'
            ELSE 'visibility 5 miles and more' END""",
        "flights JOIN weather USING (origin, time_hour)",
    ),
}


def search(db: sqlite3.Connection, wanted: Search) -> dict[str, Any]:
    """Return one page of the flights that match, in the order of departure."""
    terms: dict[str, Any] = {"origin": wanted.origin, "dest": wanted.dest, "carrier": wanted.carrier}
    if wanted.date:
        terms |= {"month": wanted.date.month, "day": wanted.date.day}
    where, values = _where({name: value for name, value in terms.items() if value is not None})
    (total,) = db.execute(f"SELECT COUNT(*) AS n FROM flights {where}", values).fetchone().values()
    # The page is cut before the joins: only its 25 rows need an airline and a plane.
    rows: list[Row] = db.execute(
        f"""
        WITH page AS (
            SELECT rowid AS row, * FROM flights {where}
            ORDER BY month, day, sched_dep_time, row LIMIT ? OFFSET ?
        )
        SELECT {_SEARCH_COLUMNS}
        FROM page JOIN airlines USING (carrier) LEFT JOIN planes USING (tailnum)
        ORDER BY month, day, sched_dep_time, row
        """,
        (*values, PAGE_SIZE, (wanted.page - 1) * PAGE_SIZE),
    ).fetchall()
    return _page(rows, total, wanted.page)


def delays(db: sqlite3.Connection, by: str) -> list[Row]:
    """Return delays over the full table, grouped by one of `DELAY_DIMENSIONS`."""
    label, source = DELAY_DIMENSIONS[by]
    return db.execute(
        f"""
        SELECT
            {label} AS label,
            COUNT(*) AS flights,
            ROUND(AVG(dep_delay), 2) AS dep_delay,
            ROUND(AVG(arr_delay), 2) AS arr_delay,
            ROUND(AVG(arr_delay >= 60), 4) AS hour_late,
            ROUND(AVG(dep_time IS NULL), 4) AS cancelled
        FROM {source}
        GROUP BY 1 ORDER BY 1
        """
    ).fetchall()


def planes(db: sqlite3.Connection, wanted: PlaneFilter) -> dict[str, Any]:
    """Return one page of planes, by tail number."""
    where, values = _where(
        {
            name: value
            for name, value in (("manufacturer", wanted.manufacturer), ("model", wanted.model))
            if value is not None
        }
    )
    (total,) = db.execute(f"SELECT COUNT(*) AS n FROM planes {where}", values).fetchone().values()
    rows: list[Row] = db.execute(
        f"SELECT * FROM planes {where} ORDER BY tailnum LIMIT ? OFFSET ?",
        (*values, PAGE_SIZE, (wanted.page - 1) * PAGE_SIZE),
    ).fetchall()
    return _page(rows, total, wanted.page)


def plane(db: sqlite3.Connection, tailnum: str) -> Row | None:
    """Return one plane with what it flew in the year, or None for an unknown tail number."""
    row: Row | None = db.execute("SELECT * FROM planes WHERE tailnum = ?", (tailnum,)).fetchone()
    if row is None:
        return None
    year: Row = db.execute(
        """
        SELECT COUNT(*) AS flights, COUNT(DISTINCT dest) AS destinations, SUM(distance) AS miles,
            ROUND(AVG(arr_delay), 2) AS arr_delay
        FROM flights WHERE tailnum = ? AND dep_time IS NOT NULL
        """,
        (tailnum,),
    ).fetchone()
    return row | {"year_flown": year, "seats_offered": row["seats"] * year["flights"]}


def change_plane(db: sqlite3.Connection, tailnum: str, changes: dict[str, int | str | None]) -> bool:
    """Write the changed columns of one plane; False when there is no such plane.

    Args:
        db: A writable connection.
        tailnum: The plane.
        changes: New values by column name, as `params.plane_changes` lets them through.
    """
    columns = ", ".join(f"{column} = ?" for column in changes)
    written = db.execute(f"UPDATE planes SET {columns} WHERE tailnum = ?", (*changes.values(), tailnum))
    return written.rowcount == 1


def airport_year(db: sqlite3.Connection, origin: str) -> Row:
    """Return one New York airport's year: punctuality and its most flown destination."""
    figures: Row = db.execute(
        """
        SELECT COUNT(*) AS flights, COUNT(DISTINCT dest) AS destinations,
            ROUND(AVG(arr_delay < 15), 4) AS on_time, ROUND(AVG(dep_delay), 2) AS dep_delay
        FROM flights WHERE origin = ?
        """,
        (origin,),
    ).fetchone()
    top: Row = db.execute(
        """
        SELECT dest, COUNT(*) AS flights FROM flights WHERE origin = ?
        GROUP BY dest ORDER BY 2 DESC, 1 LIMIT 1
        """,
        (origin,),
    ).fetchone()
    return figures | {"origin": origin, "top_destination": top}


def _where(terms: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    if not terms:
        return "", ()
    return "WHERE " + " AND ".join(f"{name} = ?" for name in terms), tuple(terms.values())


def _page(rows: list[Row], total: int, page: int) -> dict[str, Any]:
    return {"items": rows, "total": total, "page": page, "pages": max(1, -(-total // PAGE_SIZE))}
