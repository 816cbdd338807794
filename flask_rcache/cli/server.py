"""One server as it describes itself, asked on a connection of the check's own.

Owns that connection, on which nothing is attached: a server that the cache itself refuses (a replica, a node of a
cluster, a sentinel) can be asked why. What is thought of the answers is ``advice``'s. Nothing is changed there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import RedisError

from ..config.address import Node
from ..model.keys import CLOCK, Names
from ..stores.redis.driver import Connector

__all__ = ["Ask", "Foreign", "ServerInfo", "asking", "described"]

#: Sends one command; the reply, or the error that the server answered with.
Ask = Callable[[Sequence[str | bytes]], Any]

#: Settings that INFO does not tell. Where CONFIG is not allowed they are not known.
_SETTINGS: Final = (
    "appendfsync",
    "save",
    "stop-writes-on-bgsave-error",
    "min-replicas-to-write",
    "cluster-require-full-coverage",
)
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
class ServerInfo:
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
    info: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    services: tuple[str, ...] = ()
    foreign: Foreign = Foreign()
    clock: int = 0
    time: int = 0

    @property
    def mode(self) -> str:
        """``standalone``, ``cluster`` or ``sentinel``; empty when it is not known."""
        return self.info.get("redis_mode") or self.info.get("server_mode") or ""

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
        text = self.info.get(name, "")
        return int(text) if text.isdigit() else 0


@contextmanager
def asking(connector: Connector, node: Node, *, path: str = "") -> Iterator[Ask]:
    """A connection to one server; it is made by the first command, and by the next after an error of the network.

    Args:
        connector: makes it.
        node: the server.
        path: of its unix socket, in place of the node.
    """
    driver: Any = connector.to(node, path=path)

    def ask(command: Sequence[str | bytes]) -> Any:
        try:
            driver.send_command(*command)
            # With RESP3 the reply to SUBSCRIBE is a push, which is not waited for otherwise: on a busy bus, for ever.
            return driver.read_response(push_request=command[0] == "SUBSCRIBE")
        except (RedisError, OSError) as error:
            return error

    try:
        yield ask
    finally:
        driver.disconnect()


def described(ask: Ask, address: str, names: Names) -> ServerInfo | Exception:
    """What a server says of itself; the error when it cannot be asked at all.

    Args:
        ask: see :func:`asking`.
        address: what to call it.
        names: the cache's key names.
    """
    reply = ask(["INFO"])
    if isinstance(reply, Exception):
        # No permission is an answer too: the right is reported by name.
        return ServerInfo(address) if str(reply).startswith("NOPERM") or "permissions" in str(reply) else reply
    info = _parsed(_text(reply))
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):
        masters = [_members(value) for name, value in info.items() if re.fullmatch(r"master\d+", name)]
        return ServerInfo(address, info, services=tuple(master.get("name", "") for master in masters))
    now, clock = ask(["TIME"]), ask(["ZSCORE", names.stamps, CLOCK])
    return ServerInfo(
        address,
        info,
        settings=_settings(ask),
        foreign=_foreign(ask, names),
        clock=int(float(clock)) if isinstance(clock, float | bytes) else 0,
        time=int(now[0]) * 1_000_000 + int(now[1]) if isinstance(now, list) else 0,
    )


def _text(reply: Any) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)


def _parsed(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


def _members(value: str) -> dict[str, str]:
    """The parts of a value such as ``name=shop,status=ok``."""
    return dict(part.split("=", 1) for part in value.split(",") if "=" in part)


def _settings(ask: Ask) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _SETTINGS:
        reply = ask(["CONFIG", "GET", name])
        if not isinstance(reply, list | dict):
            break
        words = [*reply.items()] if isinstance(reply, dict) else [*zip(reply[::2], reply[1::2], strict=False)]
        found.update((_text(key), _text(value)) for key, value in words)
    return found


def _foreign(ask: Ask, names: Names) -> Foreign:
    """Some keys are looked at, not all: a bound on what it costs a server with millions."""
    own = tuple(mark.encode() for mark in (names.entries, f"{names.prefix}~"))
    cursor, looked_at, count = 0, 0, 0
    beginnings: dict[str, None] = {}
    while looked_at < _KEYS_LOOKED_AT:
        reply = ask(["SCAN", str(cursor), "COUNT", str(_KEYS_A_STEP)])
        if not isinstance(reply, list):
            break
        cursor, keys = int(reply[0]), reply[1]
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
