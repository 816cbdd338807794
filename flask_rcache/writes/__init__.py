"""What applies writes behind: a consumer of the queues."""

from .consumer import Consumer, Progress

__all__ = ["Consumer", "Progress"]
