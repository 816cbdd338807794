"""The audit trail: who changed what, through the admin API or the command line.

Owns the line in the log and the signal; the change itself is the manager's.
"""

from __future__ import annotations

import logging
from typing import Final

from flask import current_app

from . import signals

__all__ = ["record"]

#: A logger of its own, so that the trail can be kept apart.
logger: Final = logging.getLogger("flask_rcache.audit")


def record(audited: signals.Audited, *, level: int = logging.WARNING) -> None:
    """Write one change of the current app's cache to the log, and send ``cache_audited``.

    Args:
        audited: who did what to what.
        level: of the line. WARNING is what is written where logging is not configured.
    """
    logger.log(
        level,
        "[CACHE ADMIN] %r did %s on %.1000r: %d %s%s",  # repr: no line breaks from outside
        audited.subject,
        audited.action,
        audited.target,
        audited.count,
        "started" if audited.action == "warm" else "removed",
        ", journalled until the store is back" if audited.journalled else "",
    )
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy's, which its type hides
    signals.emit(signals.cache_audited, app, audited)
