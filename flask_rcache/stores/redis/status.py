"""How a server is, as it says itself: what operators see of each node, beside what a process knows of it.

Owns the question and the reading of the answer. A server that does not let its user ask ``INFO`` says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from ...model.entry import MICROSECONDS
from .connection import pack

__all__ = ["REPLIES", "STATUS", "status_of"]

STATUS: Final = b"".join([pack(("INFO", section)) for section in ("memory", "stats", "server")]) + pack(("TIME",))
REPLIES: Final = 4


def status_of(replies: Sequence[Any] | None, asked_at: float) -> dict[str, Any] | None:
    """What a server says of itself; ``None`` when it does not.

    Its ``name``, ``version``, ``maxmemory_policy``, ``used_memory`` and ``maxmemory`` (bytes), ``evicted_keys`` since
    its start, ``uptime`` and ``clock_offset`` (seconds).

    Args:
        replies: to :data:`STATUS`.
        asked_at: when that was sent, in seconds since 1970: the clock is compared with the middle of the exchange.
    """
    if replies is None:
        return None
    *sections, now = replies
    if not isinstance(now, list) or not all(isinstance(section, bytes | str) for section in sections):
        return None
    lines = "\r\n".join([_text(section) for section in sections]).split("\r\n")
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    is_valkey = "valkey_version" in info
    seconds = (int(now[0]) * MICROSECONDS + int(now[1])) / MICROSECONDS
    return {
        "name": "valkey" if is_valkey else "redis",
        "version": info.get("valkey_version" if is_valkey else "redis_version", ""),
        "maxmemory_policy": info.get("maxmemory_policy", ""),
        "used_memory": _number(info, "used_memory"),
        "maxmemory": _number(info, "maxmemory"),
        "evicted_keys": _number(info, "evicted_keys"),
        "uptime": _number(info, "uptime_in_seconds"),
        "clock_offset": round(seconds - (asked_at + time.time()) / 2, 6),
    }


def _text(reply: bytes | str) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply


def _number(info: dict[str, str], name: str) -> int:
    text = info.get(name, "")
    return int(text) if text.isdigit() else 0
