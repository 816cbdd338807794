"""Events: what happened, by name, and what it invalidates."""

from .bus import Event, Events

__all__ = ["Event", "Events"]
