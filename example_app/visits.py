"""How often the home page was opened: counted in the cache, and written to the database behind it."""

from __future__ import annotations

from collections.abc import Sequence

from flask import current_app
from sqlalchemy import case
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError

from example_app.db import session
from example_app.policies import VISITS, rcache
from example_app.schema import Counter
from flask_rcache import StoreError, Write

HOME = "home"
QUEUE = "visits"


def count() -> int | None:
    """Count one visit, and return how many there were; None when that is not known, which is no reason to fail."""
    try:
        visits = rcache.incr(VISITS, f"{HOME}-now", initial=_written())
        # Cached and queued in one step: `flask cache writer` brings it to the database, many in one transaction.
        # Without Redis it is written at once.
        rcache.write_behind(VISITS, HOME, visits, queue=QUEUE)
    except (StoreError, SQLAlchemyError) as error:
        current_app.logger.warning("a visit was not counted: %s", error)
        return None
    return visits


def _written() -> int:
    """Return what was counted before the cache was emptied."""
    found: int = rcache.fetch(VISITS, HOME, _load)
    return found


def _load() -> int:
    with session() as db:
        counter = db.get(Counter, HOME)
        return 0 if counter is None else counter.value


@rcache.writer(QUEUE, batch=500)
def save(writes: Sequence[Write]) -> None:
    """Write the counts of a batch; one that comes twice, or late, changes nothing: a count only grows."""
    latest: dict[str, int] = {}
    for write in writes:
        latest[write.key] = max(write.value, latest.get(write.key, 0))
    with session() as db, db.begin():
        for name, value in latest.items():
            row = insert(Counter).values(name=name, value=value)
            greater = case((row.excluded.value > Counter.value, row.excluded.value), else_=Counter.value)
            db.execute(row.on_conflict_do_update(index_elements=[Counter.name], set_={"value": greater}))
