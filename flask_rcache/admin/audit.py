"""The audit trail: who changed what through the admin API.

Owns the line in the log and the signal; the change itself is the manager's.
"""

from __future__ import annotations

import logging
from typing import Final

from .. import events
from ..manager import CacheManager

__all__ = ["record"]

#: A logger of its own, so that the trail can be kept apart.
logger: Final = logging.getLogger("flask_rcache.audit")


def record(manager: CacheManager, audited: events.Audited) -> None:
    """Write one mutation to the log, and tell whoever listens to ``cache_audited``."""
    # WARNING, since that is what is written where nobody has configured logging. repr: no line breaks from outside.
    logger.warning(
        "[CACHE ADMIN] %r did %s on %.1000r: %d removed%s",
        audited.subject,
        audited.action,
        audited.target,
        audited.count,
        ", journalled until the store is back" if audited.journalled else "",
    )
    events.emit(events.cache_audited, manager, audited)
