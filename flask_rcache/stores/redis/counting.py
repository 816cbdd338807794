"""The counters of all processes: what this one has counted goes there, and is read from there.

Owns the hashes and lists of figures. The cache is as good without them: that they alone are refused opens no breaker,
and what could not be stored is given back to be stored later.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import ormsgpack

from ...errors import StoreFullError
from ...model import forks
from ..protocol import Activity, Counted, Counts, CountsSource, InvalidationRecord, StatementCounts
from .connection import Exchange, pack
from .failures import Failure, classify
from .scripts import Argument, Call, load, run
from .server import Server
from .steps import Ask, Steps, drive

__all__ = ["Counters"]

logger: Final = logging.getLogger("flask_rcache")

_COSTLIEST: Final = 20
_LOADS_SHOWN: Final = 100
_STATEMENTS_SHOWN: Final = 100
_NO_RESULT: Final = ormsgpack.packb([0, [], None])
_NOTHING: Final = ormsgpack.packb(None)


class Counters:
    """The figures of all processes.

    Args:
        server: where they are.
    """

    def __init__(self, server: Server) -> None:
        self._server: Final = server
        self._script: Final = load("count")
        self._lock: Final = forks.new_lock()
        self._source: CountsSource | None = None
        self._has_warned = False

    def count_from(self, source: CountsSource) -> None:
        """See :meth:`Catalogue.count_from`."""
        self._source = source

    def flush(self, exchange: Exchange) -> None:
        """Add what this process has counted.

        Raises:
            StoreError: it did not arrive; the next time it is sent again.
        """
        source = self._source
        if source is None:
            return
        with self._lock:
            counted = source.take()
            try:
                has_arrived = not any(counted) or self._send(counted, exchange)
            except BaseException:
                source.give_back(counted)
                raise
            if not has_arrived:
                source.give_back(counted)

    def _send(self, counted: Counted, exchange: Exchange) -> bool:
        """Send counts; whether they were taken. That figures alone are refused is not the breaker's business."""
        server, names = self._server, self._server.names
        keys = [names.costs, names.log, names.statements]
        keys += [*map(names.statement, counted.statements), *map(names.stats, counted.counts)]
        window = drive(server.window_steps(0), lambda ask: exchange(ask.payload, ask.replies))
        args = [*window, *_as_arguments(counted)]
        reply = run(exchange, [Call(self._script, keys, args)])[0]
        if isinstance(reply, Exception):
            if classify(reply) is not Failure.REFUSED:
                raise server.pool.fail(reply)
            if not self._has_warned:
                self._has_warned = True
                logger.warning("[CACHE] %s does not take the counters of this process: %s", server.pool.location, reply)
            return False
        if reply[0] == b"late":  # counted now, it might be counted twice
            server.clock.heard_time(int(reply[1]))
            return False
        return True

    def counts(self, types: Sequence[str]) -> Counts:
        """See :meth:`Catalogue.counts`; what this process has counted is added first."""
        server = self._server
        with suppress(StoreFullError):  # then it is added when there is room
            self.flush(server.exchange)
        with self._lock:  # what is on its way has arrived then
            names = sorted({*types, *server.types()})
            ask = b"".join([pack(("HGETALL", server.names.stats(name))) for name in names])
            replies = server.exchange(ask, len(names)) if names else []
        found = {name: _numbers(reply) for name, reply in zip(names, replies, strict=True) if isinstance(reply, dict)}
        return {name: numbers for name, numbers in found.items() if numbers}

    def activity(self) -> Activity:
        """See :meth:`Catalogue.activity`; what this process has recorded is added first."""
        with suppress(StoreFullError):
            self.flush(self._server.exchange)
        return self._server.drive(self.activity_steps())

    def activity_steps(self) -> Steps[Activity]:
        """See :meth:`activity`."""
        names = self._server.names
        replies = yield Ask(
            pack(("ZREVRANGE", names.costs, 0, _COSTLIEST - 1, "WITHSCORES"))
            + pack(("LRANGE", names.log, 0, -1))
            + pack(("ZRANGE", names.loads, 0, _LOADS_SHOWN - 1))
            + pack(("ZREVRANGE", names.statements, 0, _STATEMENTS_SHOWN - 1)),
            4,
        )
        # Somebody else's key under one of these names: there is nothing to show then, and no reason for an error.
        costs, log, rows, statements = [[] if isinstance(reply, Exception) else reply for reply in replies]
        loads = [key.decode(errors="replace") for key in rows]
        held: list[Any] = []
        if loads:
            leases = b"".join([pack(("EXISTS", names.lease(key))) for key in loads])
            held = yield from self._server.replies_steps(leases, len(loads))
        return Activity(
            costs=[(key.decode(errors="replace"), seconds) for key, seconds in costs if 0 <= seconds < math.inf],
            log=[record for record in map(_record, log) if record is not None],
            loads=[key for key, there in zip(loads, held, strict=True) if there],
            statements=(yield from self._statements(statements)),
        )

    def _statements(self, keys: list[bytes]) -> Steps[list[StatementCounts]]:
        """The counters of statements, by their keys."""
        start = self._server.names.statements.encode()
        own = [key for key in keys if key.startswith(start)]
        if not own:
            return []
        ask = b"".join([pack(("HGETALL", key)) for key in own])
        replies = yield from self._server.replies_steps(ask, len(own))
        return [found for reply in replies if isinstance(reply, dict) and (found := _statement(reply)) is not None]


def _as_arguments(counted: Counted) -> list[Argument]:
    """What ``count.lua`` takes."""
    args: list[Argument] = [len(counted.costs)]
    for key, seconds in counted.costs.items():
        args += (key, repr(seconds))
    args.append(len(counted.log))
    for record in counted.log:
        what = ormsgpack.packb([record.scope, list(record.names), record.removed, record.journalled])
        args += (int(record.at * 1000), what)
    args.append(len(counted.statements))
    for each in counted.statements.values():
        # Another process may know of a later result, or of what has invalidated it since.
        result = [each.rows, list(each.tags), each.not_stored] if "misses" in each.counts else None
        by = each.invalidated_by if "invalidations" in each.counts else None
        args += [ormsgpack.packb([each.database, each.statement])]
        args += [b"" if known is None else ormsgpack.packb(known) for known in (result, by)]
        args += _fields(each.counts)
    for fields in counted.counts.values():
        args += _fields(fields)
    return args


def _fields(fields: Mapping[str, float]) -> list[Argument]:
    args: list[Argument] = [len(fields)]
    for field, amount in fields.items():
        args += (field, repr(amount))
    return args


def _statement(reply: dict[bytes, bytes]) -> StatementCounts | None:
    try:
        database, statement = ormsgpack.unpackb(reply.pop(b"what", b""))
        rows, tags, not_stored = ormsgpack.unpackb(reply.pop(b"result", _NO_RESULT))
        invalidated_by = ormsgpack.unpackb(reply.pop(b"by", _NOTHING))
        texts = [database, statement, *tags, not_stored or "", invalidated_by or ""]
        if type(rows) is not int or not all(type(text) is str for text in texts):
            return None
    except (ValueError, TypeError):  # of another release, or somebody else's
        return None
    return StatementCounts(database, statement, rows, tuple(tags), not_stored, invalidated_by, _numbers(reply))


def _numbers(reply: dict[bytes, bytes]) -> dict[str, float]:
    """Counters as they lie in a hash; what is no number is none of ours."""
    found = {}
    for field, value in reply.items():
        with suppress(ValueError):
            if math.isfinite(amount := float(value)):
                found[field.decode()] = amount
    return found


def _record(line: bytes) -> InvalidationRecord | None:
    at, _, packed = line.partition(b" ")
    try:
        scope, names, removed, journalled = ormsgpack.unpackb(packed)
        seconds = int(at) / 1000
        if (
            type(scope) is not str
            or type(names) is not list
            or type(removed) is not int
            or type(journalled) is not bool
        ):
            return None
        return InvalidationRecord(seconds, scope, tuple(map(str, names)), removed, journalled)
    except (ValueError, TypeError, OverflowError):  # of another release
        return None
