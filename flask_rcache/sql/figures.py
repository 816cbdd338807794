"""How cached statements fare in this process: query time against cache time, hits, and what invalidated them.

Owns :class:`Figures`. Times are kept for the last calls only, and figures for the statements used last.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, Final

from ..model.bounded import BoundedDict
from ..model.forks import new_lock

__all__ = ["Figures", "StatementFigures"]

_STATEMENTS_KEPT: Final = 500
_TIMES_KEPT: Final = 256
_LONGEST_SHOWN: Final = 200
_TAGS_KEPT: Final = 50


class StatementFigures:
    """Of one distinct statement.

    Args:
        database: the bind's name.
        sql: as it is compiled.
    """

    __slots__ = (
        "_cache",
        "_query",
        "database",
        "hits",
        "invalidated_by",
        "misses",
        "not_stored",
        "rows",
        "shown",
        "sql",
        "tags",
    )

    def __init__(self, database: str, sql: str) -> None:
        self.database: Final = database
        self.sql: Final = sql
        self.shown: Final = _shortened(sql)
        self.hits = 0
        self.misses = 0
        self.rows = 0
        self.not_stored: str | None = None
        self.tags: frozenset[str] = frozenset()
        self.invalidated_by: Final[Counter[str]] = Counter()
        self._query: Final[deque[float]] = deque(maxlen=_TIMES_KEPT)
        self._cache: Final[deque[float]] = deque(maxlen=_TIMES_KEPT)

    def hit(self, seconds: float) -> None:
        """The cache has answered."""
        self.hits += 1
        self._cache.append(seconds)

    def missed(self, seconds: float, rows: int) -> None:
        """The database has answered."""
        self.misses += 1
        self.rows = rows
        self._query.append(seconds)

    def refuse(self, reason: str) -> None:
        """Its results are not stored."""
        self.not_stored = reason

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data; times are in seconds, ``None`` where nothing was measured."""
        total = self.hits + self.misses
        return {
            "statement": self.shown,
            "database": self.database,
            "hits": self.hits,
            "misses": self.misses,
            "hit_rate": round(100 * self.hits / total, 2) if total else 0.0,
            "query_avg": _mean(self._query),
            "query_p95": _p95(self._query),
            "cache_avg": _mean(self._cache),
            "cache_p95": _p95(self._cache),
            "rows": self.rows,
            "tables": sorted(self.tags),
            "invalidated_by": dict(self.invalidated_by.most_common(10)),
            "not_stored": self.not_stored,
        }


class Figures:
    """Of all statements."""

    def __init__(self) -> None:
        self._known: Final[BoundedDict[tuple[str, str], StatementFigures]] = BoundedDict(_STATEMENTS_KEPT)
        self._lock: Final = new_lock()

    def of(self, database: str, sql: str) -> StatementFigures:
        """Those of a statement."""
        found = self._known.get((database, sql))
        if found is None:
            with self._lock:
                found = self._known.get((database, sql))
                if found is None:
                    found = self._known[database, sql] = StatementFigures(database, sql)
        return found

    def invalidated(self, tags: Iterable[str]) -> None:
        """Tags were stamped in this process: the statements that depend on one of them were invalidated by it."""
        stamped = frozenset(tags)
        for each in list(self._known.values()):
            for tag in stamped & each.tags:
                if tag in each.invalidated_by or len(each.invalidated_by) < _TAGS_KEPT:
                    each.invalidated_by[tag] += 1

    def as_list(self) -> list[dict[str, Any]]:
        """All of them, those first that the database has spent most time on."""
        rows = [each.as_dict() for each in list(self._known.values())]
        return sorted(rows, key=lambda row: (row["query_avg"] or 0.0) * (row["hits"] + row["misses"]), reverse=True)


def _shortened(sql: str) -> str:
    plain = re.sub(r"\s+", " ", sql).strip()
    return plain if len(plain) <= _LONGEST_SHOWN else plain[: _LONGEST_SHOWN - 1] + "…"


def _mean(times: deque[float]) -> float | None:
    values = list(times)
    return sum(values) / len(values) if values else None


def _p95(times: deque[float]) -> float | None:
    values = sorted(times)
    return values[min(len(values) - 1, int(len(values) * 0.95))] if values else None
