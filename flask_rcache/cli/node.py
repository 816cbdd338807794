"""One server as it describes itself, asked on a connection of the check's own.

Owns that connection, on which nothing is attached: a server that the cache itself refuses (a replica, a node of a
cluster, a sentinel) can be asked why. What is thought of the answers is ``advice``'s. Nothing is changed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ..model.keys import CLOCK, Names

__all__ = ["Ask", "Foreign", "Node", "asking", "described"]

#: Sends one command; the reply, or the error that the server answered with.
Ask = Callable[[Sequence[str | bytes]], Any]

#: Settings that INFO does not tell. Where CONFIG is not allowed they are not known.
_SETTINGS: Final = ("appendfsync", "save", "stop-writes-on-bgsave-error", "min-replicas-to-write")
_KEYS_LOOKED_AT: Final = 2_000
_KEYS_A_STEP: Final = 200
_BEGINNINGS_KEPT: Final = 3
_LONGEST_BEGINNING: Final = 32


@dataclass(frozen=True, slots=True)
class Foreign:
    """The keys of the database that are not this cache's.

    Attributes:
        looked_at: how many keys were looked at.
        count: how many of them are none of this cache's.
        beginnings: of some of them, up to the first colon; never a whole key with a colon, which may have names in it.
    """

    looked_at: int = 0
    count: int = 0
    beginnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One server.

    Attributes:
        address: ``host:port``, or the path of its socket.
        info: the fields of INFO; empty where it is not allowed.
        settings: the settings that matter, by name; empty where CONFIG is not allowed.
        services: of a sentinel, the names of the masters that it watches.
        foreign: the keys of others.
        clock: the cache's clock there, µs; 0 when it has none yet.
        time: the server's TIME when that was read, µs.
    """

    address: str
    info: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    services: tuple[str, ...] = ()
    foreign: Foreign = Foreign()
    clock: int = 0
    time: int = 0

    @property
    def mode(self) -> str:
        """``standalone``, ``cluster`` or ``sentinel``; empty when it is not known."""
        return str(self.info.get("redis_mode") or self.info.get("server_mode") or "")

    @property
    def is_replica(self) -> bool:
        """Whether it follows a master."""
        return self.info.get("role") == "slave"

    @property
    def master(self) -> str:
        """The master that it follows, ``host:port``."""
        return f"{self.info.get('master_host', '?')}:{self.info.get('master_port', '?')}"

    def number(self, name: str) -> int:
        """A number in INFO; 0 when it is not known."""
        value = self.info.get(name, 0)
        return int(value) if isinstance(value, int | float) else 0


@contextmanager
def asking(url: str, *, timeout: float, **options: Any) -> Iterator[Ask]:
    """A connection to one server; it is made by the first command.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: seconds for each answer.
        options: of redis-py's connection.
    """
    # RESP2: servers and proxies that do not know HELLO are asked as well.
    client: Any = Redis.from_url(
        url,
        **{
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            **options,
            "protocol": 2,
        },
    )

    def ask(command: Sequence[str | bytes]) -> Any:
        try:
            return client.execute_command(*command)
        except (RedisError, OSError, ValueError) as error:
            return error

    try:
        yield ask
    finally:
        client.close()


def described(ask: Ask, address: str, names: Names) -> Node | Exception:
    """What a server says of itself; the error when it cannot be asked at all.

    Args:
        ask: see :func:`asking`.
        address: what to call it.
        names: the cache's key names.
    """
    info = ask(["INFO"])
    if not isinstance(info, dict):
        # No permission is an answer too: the right is reported by name.
        return Node(address) if str(info).upper().startswith("NOPERM") or "permissions" in str(info) else info
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):
        masters = [value for name, value in info.items() if name.startswith("master") and isinstance(value, dict)]
        return Node(address, info, services=tuple(str(master.get("name", "")) for master in masters))
    now, clock = ask(["TIME"]), ask(["ZSCORE", names.stamps, CLOCK])
    return Node(
        address,
        info,
        settings=_settings(ask),
        foreign=_foreign(ask, names),
        clock=int(clock) if isinstance(clock, float) else 0,
        time=now[0] * 1_000_000 + now[1] if isinstance(now, tuple) else 0,
    )


def _settings(ask: Ask) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _SETTINGS:
        reply = ask(["CONFIG", "GET", name])
        if not isinstance(reply, list):
            break
        words = [bytes(word).decode("utf-8", "replace") for word in reply]
        found.update(zip(words[::2], words[1::2], strict=False))
    return found


def _foreign(ask: Ask, names: Names) -> Foreign:
    """Some keys are looked at, not all: a bound on what it costs a server with millions."""
    own = tuple(mark.encode() for mark in (names.entries, f"{names.prefix}~"))
    cursor, looked_at, count = 0, 0, 0
    beginnings: dict[str, None] = {}
    while looked_at < _KEYS_LOOKED_AT:
        reply = ask(["SCAN", str(cursor), "COUNT", str(_KEYS_A_STEP)])
        if not isinstance(reply, tuple):
            break
        cursor, keys = reply
        looked_at += len(keys)
        for key in keys:
            if not key.startswith(own):
                count += 1
                beginnings.setdefault(_beginning(key))
        if not cursor:
            break
    return Foreign(looked_at, count, tuple(sorted(beginnings))[:_BEGINNINGS_KEPT])


def _beginning(key: bytes) -> str:
    head, colon, _ = key.decode("utf-8", "backslashreplace").partition(":")
    return f"{head[:_LONGEST_BEGINNING]}{':…' if colon or len(head) > _LONGEST_BEGINNING else ''}"
