"""What ``check`` finds: one line each, with a remedy where something is wrong."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from ..model.named_tuple import NamedTuple

__all__ = ["Finding", "State", "fail", "ok", "warn"]


class State(StrEnum):
    """How bad it is. Only ``FAIL`` makes the command fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One thing that was checked: what it is, how it is, and what to do about it."""

    name: str
    state: State
    message: str
    remedy: str = ""

    def document(self) -> dict[str, Any]:
        """It as JSON."""
        return {"name": self.name, "state": self.state.value, "message": self.message, "remedy": self.remedy or None}


def ok(name: str, message: str) -> Finding:
    """It is as it should be."""
    return Finding(name, State.OK, message)


def warn(name: str, message: str, remedy: str) -> Finding:
    """It works, but something about it is likely not meant."""
    return Finding(name, State.WARN, message, remedy)


def fail(name: str, message: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(name, State.FAIL, message, remedy)
