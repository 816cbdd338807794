"""The smaller queries: search, delays by one dimension, planes, one airport's year."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, and_, case, func, select, update
from sqlalchemy.orm import Session, joinedload, selectinload

from example_app.db import Row
from example_app.params import PlaneFilter, Search
from example_app.schema import Airline, Flight, Plane, Weather

PAGE_SIZE = 25

# What the table of delays is grouped by.
DELAY_DIMENSIONS: dict[str, ColumnElement[Any]] = {
    "month": Flight.month.expression,
    "carrier": Flight.carrier.expression,
    "origin": Flight.origin.expression,
    "weather": case(
        (Weather.visib < 1, "visibility below 1 mile"),
        (Weather.visib < 5, "visibility 1 to 5 miles"),
        else_="visibility 5 miles and more",
    ),
}


def search(db: Session, wanted: Search) -> dict[str, Any]:
    """Return one page of the flights that match, in the order of departure."""
    terms: dict[str, Any] = {"origin": wanted.origin, "dest": wanted.dest, "carrier": wanted.carrier}
    if wanted.date:
        terms |= {"month": wanted.date.month, "day": wanted.date.day}
    matching = select(Flight).filter_by(**_given(terms))
    # The planes of a page are read by their keys: a change of another plane keeps the page cached.
    flights = db.scalars(
        matching.options(joinedload(Flight.airline, innerjoin=True), selectinload(Flight.plane))
        .order_by(Flight.month, Flight.day, Flight.sched_dep_time, Flight.rowid)
        .limit(PAGE_SIZE)
        .offset((wanted.page - 1) * PAGE_SIZE)
    )
    return _page([_found(flight) for flight in flights], _count(db, matching), wanted.page)


def _found(flight: Flight) -> Row:
    plane = flight.plane
    return {
        "date": f"{flight.year:04}-{flight.month:02}-{flight.day:02}",
        "carrier": flight.carrier,
        "airline": flight.airline.name,
        "flight": flight.flight,
        "tailnum": flight.tailnum,
        "origin": flight.origin,
        "dest": flight.dest,
        "sched_dep_time": flight.sched_dep_time,
        "dep_time": flight.dep_time,
        "dep_delay": flight.dep_delay,
        "sched_arr_time": flight.sched_arr_time,
        "arr_time": flight.arr_time,
        "arr_delay": flight.arr_delay,
        "manufacturer": plane and plane.manufacturer,
        "model": plane and plane.model,
        "seats": plane and plane.seats,
    }


def delays(db: Session, by: str) -> list[Row]:
    """Return delays over the full table, grouped by one of `DELAY_DIMENSIONS`."""
    label = DELAY_DIMENSIONS[by].label("label")
    statement = select(
        label,
        func.count().label("flights"),
        func.round(func.avg(Flight.dep_delay), 2).label("dep_delay"),
        func.round(func.avg(Flight.arr_delay), 2).label("arr_delay"),
        func.round(func.avg(Flight.arr_delay >= 60), 4).label("hour_late"),
        func.round(func.avg(Flight.dep_time.is_(None)), 4).label("cancelled"),
    ).select_from(Flight)
    if by == "weather":
        statement = statement.join(
            Weather, and_(Weather.origin == Flight.origin, Weather.time_hour == Flight.time_hour)
        )
    return [dict(row) for row in db.execute(statement.group_by(label).order_by(label)).mappings()]


def planes(db: Session, wanted: PlaneFilter) -> dict[str, Any]:
    """Return one page of planes, by tail number."""
    matching = select(Plane).filter_by(**_given({"manufacturer": wanted.manufacturer, "model": wanted.model}))
    found = db.scalars(matching.order_by(Plane.tailnum).limit(PAGE_SIZE).offset((wanted.page - 1) * PAGE_SIZE))
    return _page([_as_row(plane) for plane in found], _count(db, matching), wanted.page)


def plane(db: Session, tailnum: str) -> Row | None:
    """Return one plane with what it flew in the year, or None for an unknown tail number."""
    found = db.get(Plane, tailnum)
    if found is None:
        return None
    flown = select(
        func.count().label("flights"),
        func.count(Flight.dest.distinct()).label("destinations"),
        func.sum(Flight.distance).label("miles"),
        func.round(func.avg(Flight.arr_delay), 2).label("arr_delay"),
    ).where(Flight.tailnum == tailnum, Flight.dep_time.is_not(None))
    year = dict(db.execute(flown).mappings().one())
    return _as_row(found) | {"year_flown": year, "seats_offered": found.seats * year["flights"]}


def airlines(db: Session) -> list[Row]:
    """Return the airlines, those with most flights first."""
    number = func.count().label("flights")
    statement = (
        select(Airline.carrier, Airline.name, number)
        .join(Flight, Flight.carrier == Airline.carrier)
        .group_by(Airline.carrier)
        .order_by(number.desc())
    )
    return [dict(row) for row in db.execute(statement).mappings()]


def change_plane(db: Session, tailnum: str, changes: dict[str, int | str | None]) -> bool:
    """Write the changed columns of one plane; False when there is no such plane.

    Args:
        db: A session, whose transaction the caller commits.
        tailnum: The plane.
        changes: New values by column name, as `params.plane_changes` lets them through.
    """
    # The write is the transaction's first statement: SQLite refuses one after a read that another writer has overtaken.
    written = db.execute(update(Plane).where(Plane.tailnum == tailnum).values(changes))
    return cast(CursorResult[Any], written).rowcount == 1


def airport_year(db: Session, origin: str) -> Row:
    """Return one New York airport's year: punctuality and its most flown destination."""
    figures = select(
        func.count().label("flights"),
        func.count(Flight.dest.distinct()).label("destinations"),
        func.round(func.avg(Flight.arr_delay < 15), 4).label("on_time"),
        func.round(func.avg(Flight.dep_delay), 2).label("dep_delay"),
    ).where(Flight.origin == origin)
    number = func.count().label("flights")
    top = (
        select(Flight.dest, number)
        .where(Flight.origin == origin)
        .group_by(Flight.dest)
        .order_by(number.desc(), Flight.dest)
        .limit(1)
    )
    year = dict(db.execute(figures).mappings().one())
    return year | {"origin": origin, "top_destination": dict(db.execute(top).mappings().one())}


def _given(terms: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in terms.items() if value is not None}


def _count(db: Session, matching: Any) -> int:
    return db.scalar(select(func.count()).select_from(matching.subquery())) or 0


def _as_row(found: Plane) -> Row:
    return {column.key: getattr(found, column.key) for column in Plane.__table__.columns}


def _page(rows: list[Row], total: int, page: int) -> dict[str, Any]:
    return {"items": rows, "total": total, "page": page, "pages": max(1, -(-total // PAGE_SIZE))}
