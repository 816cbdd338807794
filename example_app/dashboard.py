"""The board's figures: each computed from the full table of flights, whenever it is asked for."""

# The statement is put together from names of this module only.
# ruff: noqa: S608

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

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

# What several figures are made of, each in one pass over all flights. NOT INDEXED: it needs every row, and reading them
# in their own order beats 336,776 jumps through an index.
_PASSES = f"""
    grouped AS MATERIALIZED (
        SELECT carrier, origin, dest, hour, {_SUMS} FROM flights NOT INDEXED GROUP BY carrier, origin, dest, hour
    ),
    flown AS MATERIALIZED (
        SELECT
            tailnum, COUNT(*) AS flights, COUNT(arr_delay) AS arrived,
            SUM(arr_delay) AS delay, SUM(distance) AS miles
        FROM flights NOT INDEXED
        WHERE dep_time IS NOT NULL AND tailnum IS NOT NULL
        GROUP BY tailnum
    ),
    kinds (kind, weather) AS (
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
"""

# Each figure's columns, and where they come from.
_EACH = ("flights", "on_time", "arr_delay", "cancelled")
_QUERIES = {
    "totals": ((*_EACH, "miles"), f"SELECT {_FIGURES}, SUM(miles) AS miles FROM grouped"),
    "by_hour": (("hour", *_EACH), f"SELECT hour, {_FIGURES} FROM grouped GROUP BY hour ORDER BY hour"),
    "by_carrier": (
        ("carrier", "name", *_EACH),
        f"""
        SELECT carrier, airlines.name, {_FIGURES} FROM grouped JOIN airlines USING (carrier)
        GROUP BY carrier ORDER BY on_time DESC
        """,
    ),
    # A route flown less than once a day says more about chance than about the route.
    "worst_routes": (
        ("origin", "dest", "name", *_EACH),
        f"""
        SELECT origin, dest, airports.name, {_FIGURES} FROM grouped LEFT JOIN airports ON faa = dest
        GROUP BY origin, dest HAVING SUM(flights) >= 365 ORDER BY arr_delay DESC LIMIT 8
        """,
    ),
    "by_weather": (
        ("weather", *_EACH),
        f"SELECT weather, {_FIGURES} FROM sums JOIN kinds USING (kind) GROUP BY kind ORDER BY on_time DESC",
    ),
    "fleet": (
        ("planes", "flights", "seats_offered", "seat_miles", "age"),
        """
        SELECT
            COUNT(*) AS planes,
            SUM(flights) AS flights,
            SUM(flights * seats) AS seats_offered,
            SUM(miles * seats) AS seat_miles,
            ROUND(1.0 * SUM(flights * (2013 - year)) / SUM(flights) FILTER (WHERE year IS NOT NULL), 2) AS age
        FROM flown JOIN planes USING (tailnum)
        """,
    ),
    "by_age": (
        ("from_age", "planes", "flights", "arr_delay", "seats"),
        """
        SELECT
            MIN((2013 - year) / 5, 5) * 5 AS from_age,
            COUNT(*) AS planes,
            SUM(flights) AS flights,
            ROUND(1.0 * SUM(delay) / SUM(arrived), 2) AS arr_delay,
            ROUND(1.0 * SUM(flights * seats) / SUM(flights), 1) AS seats
        FROM flown JOIN planes USING (tailnum)
        WHERE year IS NOT NULL
        GROUP BY 1 ORDER BY 1
        """,
    ),
    "by_manufacturer": (
        ("manufacturer", "planes", "flights", "seats_offered"),
        """
        SELECT manufacturer, COUNT(*) AS planes, SUM(flights) AS flights, SUM(flights * seats) AS seats_offered
        FROM flown JOIN planes USING (tailnum)
        GROUP BY manufacturer ORDER BY 3 DESC LIMIT 6
        """,
    ),
    "busiest": (
        ("tailnum", "manufacturer", "model", "seats", "note", "flights", "seats_offered"),
        """
        SELECT tailnum, manufacturer, model, seats, note, flights, flights * seats AS seats_offered
        FROM flown JOIN planes USING (tailnum)
        ORDER BY flights DESC, tailnum LIMIT 6
        """,
    ),
}


def _as_json(figure: str, columns: tuple[str, ...], query: str) -> str:
    pairs = ", ".join(f"'{column}', {column}" for column in columns)
    return f"SELECT '{figure}' AS figure, json_group_array(json_object({pairs})) AS found FROM ({query})"


# One statement, so that the figures agree with each other, and what several of them are made of is computed once.
_BOARD = text(f"WITH {_PASSES} " + " UNION ALL ".join(_as_json(figure, *parts) for figure, parts in _QUERIES.items()))


def board(db: Session) -> dict[str, Any]:
    """Return all figures of the dashboard, with the time the database needed for them."""
    started = time.perf_counter()
    found = {figure: json.loads(rows) for figure, rows in db.execute(_BOARD)}
    fleet = found["fleet"][0]
    for name in ("by_age", "by_manufacturer", "busiest"):
        fleet[name] = found.pop(name)
    return found | {
        "totals": found["totals"][0],
        "fleet": fleet,
        "computed": {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "ms": round((time.perf_counter() - started) * 1000),
        },
    }
