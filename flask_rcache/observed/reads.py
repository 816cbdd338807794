"""The record of what was read of one request.

Owns :class:`Reads` and where a reading is noted: in the record, in the observations around it, or nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol

from .fields import Field

__all__ = ["ASIDE", "ENTERED", "RECORD", "Reads", "unobserved"]

#: Where a watched object has the record of its request.
RECORD: Final = "_rcache_reads"
#: The observations that this thread or task is inside of.
ENTERED: Final[ContextVar[tuple[Observer, ...]]] = ContextVar("rcache_observations", default=())
#: Where what is read now is noted instead: it is read by us, or by a method whose call is noted already.
ASIDE: Final[ContextVar[dict[Field, None] | None]] = ContextVar("rcache_reads_aside", default=None)


class Observer(Protocol):
    """What gets the fields that are read while it is entered."""

    @property
    def noted(self) -> set[Field]:
        """The fields, as they were spelled."""
        ...


class Reads(dict[Field, None]):
    """What the code of one request has read: each field once, in the order of their first readings.

    Most requests read little and load nothing, so one costs no more than an empty dict until something is set.

    Attributes:
        view_args: what the URL map gave to the view, before anybody could change it.
        session: what the session held when it was opened.
        observers: the observations that are entered.
        unseen: what may have been read without being noted, as nothing can be noted of it.
        made_by: the app's own request class, if what it reads when it makes a request is not seen.
        from_making: whether the record is older than the session and the arguments.
        of_session: what was read to open the session, apart from the rest.
        has_environ: whether what is read of the environ itself is noted until the end.
        is_unseen: whether middlewares have read of the environ before that was noted.
        is_late: whether the record begins after an answer from the cache: nobody knows what was read in between.
    """

    view_args: dict[str, Any] | None = None
    session: dict[str, Any] | None = None
    observers: tuple[Observer, ...] = ()
    unseen: frozenset[Field] = frozenset()
    made_by: type | None = None
    from_making: bool = False
    of_session: dict[Field, None] | None = None
    has_environ: bool = False
    is_unseen: bool = False
    is_late: bool = False

    def note(self, kind: str, name: str) -> None:
        """A field was read."""
        field = kind, name
        aside = ASIDE.get()
        if aside is not None:
            aside[field] = None
            return
        self[field] = None
        observers = self.observers
        if observers:
            # Those around it; all of them, in a thread that came without its context.
            here = ENTERED.get()
            for each in [each for each in observers if each in here] or observers:
                each.noted.add(field)


@contextmanager
def unobserved() -> Iterator[None]:
    """Nothing that is read of the request inside counts as something that the answer depends on.

    For what only logs a request, and for gateways: they send all headers on, and the ``Vary`` of the answer says on
    which it depends.

    >>> with unobserved():
    ...     pass
    """
    entered = ASIDE.set({})
    try:
        yield
    finally:
        ASIDE.reset(entered)
