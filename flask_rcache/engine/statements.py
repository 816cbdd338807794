"""How cached statements fare: query time against cache time, hits, and what invalidated them, by statement.

Owns the counting in this process, and how counts are shown. Those of all processes are kept by the store, as other
counters are: both times lie in buckets, so that they can be added up. What a statement is, is its caller's to say.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from ..model.bounded import BoundedDict
from ..model.forks import new_lock
from ..stores.protocol import StatementCounts

__all__ = ["StatementFigures", "Statements", "described"]

_STATEMENTS_KEPT: Final = 500
_LONGEST_SHOWN: Final = 200
_LONGEST_TAG: Final = 200
_TAGS_KEPT: Final = 50
#: The least time that is told apart (seconds), and the ratio of the times of neighbouring buckets.
_LEAST: Final = 1e-6
_RATIO: Final = 1.25
_BUCKETS: Final = 100


class StatementFigures:
    """Of one distinct statement.

    Args:
        database: the bind's name.
        sql: as it is compiled.
    """

    __slots__ = ("_lock", "_taken", "_values", "database", "invalidated_by", "not_stored", "rows", "shown", "tags")

    def __init__(self, database: str, sql: str) -> None:
        self.database: Final = database
        self.shown: Final = _shortened(sql)
        self.rows = 0
        self.not_stored: str | None = None
        self.tags: frozenset[str] = frozenset()
        self.invalidated_by: str | None = None
        self._lock: Final = new_lock()
        self._values: Final[defaultdict[str, float]] = defaultdict(float)
        self._taken: Final[defaultdict[str, float]] = defaultdict(float)

    def hit(self, seconds: float) -> None:
        """The cache has answered."""
        self._timed("hits", "cache", seconds)

    def missed(self, seconds: float, rows: int) -> None:
        """The database has answered."""
        self.rows = rows
        self._timed("misses", "query", seconds)

    def refuse(self, reason: str) -> None:
        """Its results are not stored."""
        self.not_stored = reason

    def invalidated(self, tag: str) -> None:
        """A tag that it depends on was stamped."""
        self.invalidated_by = tag
        with self._lock:
            self._values["invalidations"] += 1

    def _timed(self, outcome: str, what: str, seconds: float) -> None:
        with self._lock:
            values = self._values
            values[outcome] += 1
            values[f"{what}_seconds"] += seconds
            values[f"{what}/{_bucket(seconds)}"] += 1

    def counts(self) -> StatementCounts:
        """Everything that this process has counted."""
        with self._lock:
            return self._with(dict(self._values))

    def take(self) -> StatementCounts | None:
        """What is new since the last take."""
        with self._lock:
            taken = self._taken
            new = {name: value - taken[name] for name, value in self._values.items() if value != taken[name]}
            taken.clear()
            taken.update(self._values)
        return self._with(new) if new else None

    def give_back(self, counts: dict[str, float]) -> None:
        """What was taken did not arrive: it is new again."""
        with self._lock:
            for name, value in counts.items():
                self._taken[name] -= value

    def reset_after_fork(self) -> None:
        """What was counted is the parent's to report."""
        self._taken.clear()
        self._taken.update(self._values)

    def _with(self, counts: dict[str, Any]) -> StatementCounts:
        tags = tuple(sorted(tag[:_LONGEST_TAG] for tag in self.tags)[:_TAGS_KEPT])
        return StatementCounts(self.database, self.shown, self.rows, tags, self.not_stored, self.invalidated_by, counts)


class Statements:
    """Of all statements of one cache, those used last."""

    __slots__ = ("_known", "_lock")

    def __init__(self) -> None:
        self._known: Final[BoundedDict[str, StatementFigures]] = BoundedDict(_STATEMENTS_KEPT)
        self._lock: Final = new_lock()

    def of(self, database: str, sql: str) -> StatementFigures:
        """Those of a statement."""
        name = hashlib.blake2b(f"{database}\0{sql}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        found = self._known.get(name)
        if found is None:
            with self._lock:
                found = self._known.get(name)
                if found is None:
                    found = self._known[name] = StatementFigures(database, sql)
        return found

    def invalidated(self, tags: Iterable[str]) -> None:
        """Tags were stamped in this process: the statements that depend on one of them were invalidated by it."""
        stamped = frozenset(tags)
        for each in list(self._known.values()):
            found = stamped & each.tags
            if found:
                each.invalidated(min(found, key=_is_general))

    def counts(self) -> list[StatementCounts]:
        """Everything that this process has counted."""
        return [each.counts() for each in list(self._known.values())]

    def take(self) -> dict[str, StatementCounts]:
        """What is new since the last take, by a name of the statement."""
        taken = {name: each.take() for name, each in list(self._known.items())}
        return {name: counts for name, counts in taken.items() if counts is not None}

    def give_back(self, taken: dict[str, StatementCounts]) -> None:
        """What was taken did not arrive: it is new again."""
        for name, counts in taken.items():
            known = self._known.get(name)
            if known is not None:
                known.give_back(counts.counts)

    def reset_after_fork(self) -> None:
        """What was counted is the parent's to report."""
        for each in list(self._known.values()):
            each.reset_after_fork()


def described(statements: Iterable[StatementCounts]) -> list[dict[str, Any]]:
    """Figures as plain data; times are in seconds, ``None`` where nothing was measured.

    Those come first that the database would spend most time on without the cache.
    """
    rows = [_described(each) for each in statements]
    return sorted(rows, key=lambda row: (row["query_avg"] or 0.0) * (row["hits"] + row["misses"]), reverse=True)


def _described(statement: StatementCounts) -> dict[str, Any]:
    counts = statement.counts
    hits, misses = int(counts.get("hits", 0)), int(counts.get("misses", 0))
    total = hits + misses
    return {
        "statement": statement.statement,
        "database": statement.database,
        "hits": hits,
        "misses": misses,
        "hit_rate": round(100 * hits / total, 2) if total else 0.0,
        "query_avg": counts.get("query_seconds", 0.0) / misses if misses else None,
        "query_p95": _p95(counts, "query"),
        "cache_avg": counts.get("cache_seconds", 0.0) / hits if hits else None,
        "cache_p95": _p95(counts, "cache"),
        "rows": statement.rows,
        "tables": list(statement.tags),
        "invalidations": int(counts.get("invalidations", 0)),
        "invalidated_by": statement.invalidated_by,
        "not_stored": statement.not_stored,
    }


def _is_general(tag: str) -> tuple[bool, str]:
    return tag.endswith(":*"), tag


def _bucket(seconds: float) -> int:
    return 0 if seconds <= _LEAST else min(_BUCKETS, math.ceil(math.log(seconds / _LEAST, _RATIO)))


def _p95(counts: dict[str, float], what: str) -> float | None:
    """The upper bound of the bucket in which the 95th per cent of times lies: at most a quarter too much."""
    buckets = {}
    for name, value in counts.items():
        kind, _, number = name.partition("/")
        if kind == what and number.isdecimal() and int(number) <= _BUCKETS and value > 0:
            buckets[int(number)] = value
    wanted = 0.95 * sum(buckets.values())
    for bucket in sorted(buckets):
        wanted -= buckets[bucket]
        if wanted <= 1e-9:
            return float(_LEAST * _RATIO**bucket)
    return None


def _shortened(sql: str) -> str:
    plain = re.sub(r"\s+", " ", sql).strip().encode("utf-8", "backslashreplace").decode()
    return plain if len(plain) <= _LONGEST_SHOWN else plain[: _LONGEST_SHOWN - 1] + "…"
