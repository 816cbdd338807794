"""The audit trail: who changed what, through the admin API or the command line.

Owns the line in the log and the signal; the change itself is the manager's.
"""

from __future__ import annotations

import logging
from typing import Final

from .. import signals as events
from .manager import CacheManager

__all__ = ["action", "record"]

#: A logger of its own, so that the trail can be kept apart.
logger: Final = logging.getLogger("flask_rcache.audit")


def action(name: str, *, soft: bool) -> str:
    """What a change is called in the trail."""
    return f"soft-{name}" if soft else name


def record(manager: CacheManager, audited: events.Audited, *, level: int = logging.WARNING) -> None:
    """Write one mutation to the log, and tell whoever listens to ``cache_audited``.

    Args:
        manager: of the cache that was changed.
        audited: who did what to what.
        level: of the line. WARNING is what is written where nobody has configured logging.
    """
    logger.log(
        level,
        "[CACHE ADMIN] %r did %s on %.1000r: %d removed%s",  # repr: no line breaks from outside
        audited.subject,
        audited.action,
        audited.target,
        audited.count,
        ", journalled until the store is back" if audited.journalled else "",
    )
    events.emit(events.cache_audited, manager, audited)
