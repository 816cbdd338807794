"""What is read of a request: the headers, cookies, arguments, session values and identities that a result depends on.

Owns the record of one request from its beginning to its end, and what is read while an observation is entered. What
follows from a read is ``functions``' and ``views``' to say.

A request, its containers and its session get another class: a subclass of their own that notes what it is asked. So
their identity and all that they hold stay as they are, for libraries that hold them, and whatever the class of an app's
own requests and sessions is. What is not read costs nothing.
"""

from .around import READS, Around, has_middlewares, is_plain, note_for_middlewares, quiet
from .fields import Field, describe, field_text
from .making import has_plain_sessions, is_flask_s_own, observed_from_making, observed_when_made
from .observing import (
    Observed,
    answered,
    defer,
    observe,
    observing,
    opened_session,
    session_of,
    view_args_of,
    watch_environ,
    watch_g,
)
from .reads import Reads, unobserved
from .watching import raw_environ

__all__ = [
    "READS",
    "Around",
    "Field",
    "Observed",
    "Reads",
    "answered",
    "defer",
    "describe",
    "field_text",
    "has_middlewares",
    "has_plain_sessions",
    "is_flask_s_own",
    "is_plain",
    "note_for_middlewares",
    "observe",
    "observed_from_making",
    "observed_when_made",
    "observing",
    "opened_session",
    "quiet",
    "raw_environ",
    "session_of",
    "unobserved",
    "view_args_of",
    "watch_environ",
    "watch_g",
]
