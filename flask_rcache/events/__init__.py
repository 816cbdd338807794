"""Events: what happened, by name, and what it invalidates."""

from .bus import Event, Events
from .consumer import EventConsumer

__all__ = ["Event", "EventConsumer", "Events"]
