"""``SQLCache``: watches engines, so that what loads read of them becomes tags, and commits invalidate.

Owns which engines are watched. What is read is ``observe``'s, what is written and when it is stamped is
``transactions``'s, cached queries are ``queries``'s.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["SQLCache"]


class SQLCache:
    """Watches an engine, or every engine of a Flask-SQLAlchemy ``db``.

    Args:
        engine_or_db: an ``Engine``, an ``AsyncEngine``, or a Flask-SQLAlchemy ``db``.
        source_lag: seconds by which what is read may be behind what was committed: engines that read from replicas.
    """

    def __init__(self, engine_or_db: Any = None, *, source_lag: float = 0.0) -> None:
        self._source: Final = engine_or_db
        self._source_lag: Final = source_lag
