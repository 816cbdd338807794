"""Spans: telling a tracing library of each look-up and how it ended.

Owns the word that goes from where the outcome is found to the span around it. A manager's ``tracer`` makes the spans,
see ``metrics.opentelemetry``; without one nothing here runs but a look at :data:`wanted`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["Tracer", "note", "span", "want", "wanted"]

#: Called with the type's name; the span is what it enters, and gives what to call with the outcome: ``"hit"``,
#: ``"stale"``, ``"miss"`` or ``"bypass"``.
Tracer = Callable[[str], AbstractContextManager[Callable[[str], None]]]

#: Whether any manager of this process has a tracer.
wanted = False

_say: Final[ContextVar[Callable[[str], None] | None]] = ContextVar("rcache_outcome", default=None)


def want() -> None:
    """A manager has a tracer from now on."""
    global wanted
    wanted = True


@contextmanager
def span(tracer: Tracer, type_name: str) -> Iterator[None]:
    """One look-up, with all that it causes."""
    with tracer(type_name) as say:
        token = _say.set(say)
        try:
            yield
        finally:
            _say.reset(token)


def note(outcome: str) -> None:
    """How the look-up of the span around this call ended; the first word counts, what a loader reads is its own."""
    say = _say.get()
    if say is not None:
        _say.set(None)
        say(outcome)
