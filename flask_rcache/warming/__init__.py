"""Warming: tasks that fill the cache at start, after a deploy, after it was emptied, and then every so often."""

from .registry import Warming, warmer_of
from .state import STATE, Task, TaskState
from .warmer import Warmer

__all__ = ["STATE", "Task", "TaskState", "Warmer", "Warming", "warmer_of"]
