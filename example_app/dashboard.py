"""The board's figures: each computed from the full table of flights, whenever it is asked for."""

# Statements are put together from names of this package only; what a visitor sends is always bound.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime
from typing import Any

from example_app.db import Row

# "On time" as the regulator defines it: at the gate less than 15 minutes late.
_SUMS = """
    COUNT(*) AS flights,
    COUNT(arr_delay) AS arrived,
    SUM(arr_delay < 15) AS in_time,
    SUM(arr_delay) AS delay,
    SUM(dep_time IS NULL) AS missing,
    SUM(distance) AS miles
"""

_FIGURES = """
    SUM(flights) AS flights,
    ROUND(1.0 * SUM(in_time) / SUM(arrived), 4) AS on_time,
    ROUND(1.0 * SUM(delay) / SUM(arrived), 2) AS arr_delay,
    ROUND(1.0 * SUM(missing) / SUM(flights), 4) AS cancelled
"""

# One pass over all flights for four tables. NOT INDEXED: it needs every row, and reading them
# in their own order beats 336,776 jumps through an index.
_GROUPED = f"""
    CREATE TEMP TABLE grouped AS
    SELECT carrier, origin, dest, hour, {_SUMS} FROM flights NOT INDEXED GROUP BY carrier, origin, dest, hour
"""

_TOTALS = f"SELECT {_FIGURES}, SUM(miles) AS miles FROM grouped"

_BY_HOUR = f"SELECT hour, {_FIGURES} FROM grouped GROUP BY hour ORDER BY hour"

_BY_CARRIER = f"""
    SELECT carrier, airlines.name, {_FIGURES}
    FROM grouped JOIN airlines USING (carrier)
    GROUP BY carrier ORDER BY on_time DESC
"""

# A route flown less than once a day says more about chance than about the route.
_WORST_ROUTES = f"""
    SELECT origin, dest, airports.name, {_FIGURES}
    FROM grouped LEFT JOIN airports ON faa = dest
    GROUP BY origin, dest HAVING SUM(flights) >= 365
    ORDER BY arr_delay DESC LIMIT 8
"""

_BY_WEATHER = f"""
    WITH kinds (kind, weather) AS (
        VALUES (0, 'fog'), (1, 'heavy rain'), (2, 'rain'), (3, 'strong wind'), (4, 'calm')
    ),
    sums AS (
        SELECT
            CASE
                WHEN weather.visib < 1 THEN 0
                WHEN weather.precip > 0.1 THEN 1
                WHEN weather.precip > 0 THEN 2
                WHEN weather.wind_speed >= 20 THEN 3
                ELSE 4
            END AS kind,
            {_SUMS}
        FROM flights JOIN weather USING (origin, time_hour)
        GROUP BY 1
    )
    SELECT weather, {_FIGURES} FROM sums JOIN kinds USING (kind) GROUP BY kind ORDER BY on_time DESC
"""

# What each plane did in the year, for the four fleet figures below: one pass instead of four.
_FLOWN = """
    CREATE TEMP TABLE flown AS
    SELECT
        tailnum, COUNT(*) AS flights, COUNT(arr_delay) AS arrived,
        SUM(arr_delay) AS delay, SUM(distance) AS miles
    FROM flights NOT INDEXED
    WHERE dep_time IS NOT NULL AND tailnum IS NOT NULL
    GROUP BY tailnum
"""

_FLEET = """
    SELECT
        COUNT(*) AS planes,
        SUM(flights) AS flights,
        SUM(flights * seats) AS seats_offered,
        SUM(miles * seats) AS seat_miles,
        ROUND(1.0 * SUM(flights * (2013 - year)) / SUM(flights) FILTER (WHERE year IS NOT NULL), 2) AS age
    FROM flown JOIN planes USING (tailnum)
"""

_BY_AGE = """
    SELECT
        MIN((2013 - year) / 5, 5) * 5 AS from_age,
        COUNT(*) AS planes,
        SUM(flights) AS flights,
        ROUND(1.0 * SUM(delay) / SUM(arrived), 2) AS arr_delay,
        ROUND(1.0 * SUM(flights * seats) / SUM(flights), 1) AS seats
    FROM flown JOIN planes USING (tailnum)
    WHERE year IS NOT NULL
    GROUP BY 1 ORDER BY 1
"""

_BY_MANUFACTURER = """
    SELECT manufacturer, COUNT(*) AS planes, SUM(flights) AS flights, SUM(flights * seats) AS seats_offered
    FROM flown JOIN planes USING (tailnum)
    GROUP BY manufacturer ORDER BY 3 DESC LIMIT 6
"""

_BUSIEST = """
    SELECT tailnum, manufacturer, model, seats, note, flights, flights * seats AS seats_offered
    FROM flown JOIN planes USING (tailnum)
    ORDER BY flights DESC, tailnum LIMIT 6
"""


def board(db: sqlite3.Connection) -> dict[str, Any]:
    """Return all figures of the dashboard, with the time the database needed for them.

    Args:
        db: A connection that holds one snapshot, so that the figures agree with each other.
    """
    started = time.perf_counter()
    db.execute(_GROUPED)
    db.execute(_FLOWN)
    figures: dict[str, Any] = {
        "totals": _one(db, _TOTALS),
        "by_hour": _all(db, _BY_HOUR),
        "by_carrier": _all(db, _BY_CARRIER),
        "worst_routes": _all(db, _WORST_ROUTES),
        "by_weather": _all(db, _BY_WEATHER),
        "fleet": _one(db, _FLEET)
        | {
            "by_age": _all(db, _BY_AGE),
            "by_manufacturer": _all(db, _BY_MANUFACTURER),
            "busiest": _all(db, _BUSIEST),
        },
    }
    figures["computed"] = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "ms": round((time.perf_counter() - started) * 1000),
    }
    return figures


def _all(db: sqlite3.Connection, sql: str) -> list[Row]:
    return db.execute(sql).fetchall()


def _one(db: sqlite3.Connection, sql: str) -> Row:
    row: Row = db.execute(sql).fetchone()
    return row
