"""Random numbers that no seed of the app's decides, and that do not disturb what an app draws after seeding."""

from __future__ import annotations

import random
from typing import Final

__all__ = ["draw", "shuffle"]

_system: Final = random.SystemRandom()  # has no state that a fork could copy

#: A number from 0 up to, not including, 1.
draw: Final = _system.random
#: Put a list into another order.
shuffle: Final = _system.shuffle
