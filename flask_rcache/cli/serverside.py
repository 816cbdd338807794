"""What ``check`` asks of a Redis or Valkey server.

Owns the questions that only a live server answers: whether it can be reached, is fit, lets this user do what the cache
does, and delivers messages. What is written for that is removed again, and expires if it is not.
"""

from __future__ import annotations

import re
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import ormsgpack
from redis.exceptions import AuthenticationError, AuthorizationError, ResponseError

from ..engine.manager import CacheManager
from ..errors import StoreError, StoreFullError
from ..model.cache_type import CacheType
from ..model.entry import Draft
from ..stores.redis.connection import Connection, pack
from ..stores.redis.facts import EVICTION_ADVICE
from ..stores.redis.pool import Pool
from ..stores.redis.store import RedisStore
from .findings import Finding, fail, ok, warn

__all__ = ["COMMANDS", "server_findings"]

_SAMPLES: Final = 20
_SLOW: Final = 0.005
_CLOCK_SECONDS: Final = 1.0
_HEARD_WITHIN: Final = 1.0
_PROBE_SECONDS: Final = 10
_BACK_WITHIN: Final = 3.0

#: Every command that the cache sends, in its scripts too; ``{s}``, ``{z}``, ``{h}`` and ``{l}`` are keys of its own.
COMMANDS: Final = tuple(
    line.split()
    for line in """
    SET {s} probe PX 10000
    GET {s}
    MGET {s}
    STRLEN {s}
    EXISTS {s}
    GETRANGE {s} 0 1
    SETRANGE {s} 0 p
    PEXPIRE {s} 10000
    PEXPIREAT {s} 99999999999999
    EXPIRE {s} 10
    TTL {s}
    PTTL {s}
    ZADD {z} 1 a 2 b
    EXPIRE {z} 10
    ZINCRBY {z} 1 a
    ZSCORE {z} a
    ZMSCORE {z} a b
    ZCARD {z}
    ZCOUNT {z} 0 1
    ZRANGE {z} 0 0
    ZRANGEBYSCORE {z} 0 1
    ZREVRANGE {z} 0 0
    ZREVRANGEBYSCORE {z} 1 0
    ZRANDMEMBER {z} 1
    ZSCAN {z} 0
    ZRANK {z} a
    ZREM {z} c
    ZREMRANGEBYRANK {z} 9 9
    ZREMRANGEBYSCORE {z} 8 9
    RENAME {z} {z2}
    HSET {h} a 1
    EXPIRE {h} 10
    HSETNX {h} a 1
    HINCRBYFLOAT {h} a 1
    HGET {h} a
    HKEYS {h}
    HGETALL {h}
    HEXISTS {h} b
    LPUSH {l} a
    EXPIRE {l} 10
    LTRIM {l} 0 9
    LRANGE {l} 0 0
    SCAN 0 COUNT 1
    TIME
    INFO server
    PING
    EVAL return(1) 0
    EVALSHA 0000000000000000000000000000000000000000 0
    DEL {s} {z} {z2} {h}
    UNLINK {l}
    """.strip().splitlines()
)
_REFUSED: Final = re.compile(r"^NOPERM ")


def server_findings(manager: CacheManager) -> Iterator[Finding]:
    """What there is to say about the server of a cache; only the first finding when it cannot be asked."""
    store: Any = manager.engine.store
    redis: RedisStore = getattr(store, "redis", store)  # behind a memory tier
    try:
        times, offset = _sampled(redis)
    except StoreError as error:
        yield _unreachable(redis, error)
        return
    _wait_for_breaker(redis)
    yield _round_trips(redis, times)
    yield from _access(manager.settings.url)
    yield from _fitness(manager.overview()["store"])
    yield _clock(offset)
    yield _rights(manager, redis)
    yield _kept(manager, redis)
    yield _bus(manager, redis)


def _ask(redis: RedisStore, *commands: tuple[Any, ...]) -> list[Any]:
    return redis.pool.exchange(b"".join(map(pack, commands)), len(commands), probing=True)


# Reaching it


def _sampled(redis: RedisStore) -> tuple[list[float], float]:
    """Seconds of some round trips, and by how much the server's clock is ahead, measured on the fastest of them."""
    _ask(redis, ("PING",))  # connects
    samples: list[tuple[float, float]] = []
    for _ in range(_SAMPLES):
        wall, began = time.time(), time.monotonic()
        reply = _ask(redis, ("TIME",))[0]
        took = time.monotonic() - began
        if isinstance(reply, Exception):  # the rights are checked below
            samples.append((took, 0.0))
        else:
            samples.append((took, int(reply[0]) + int(reply[1]) / 1e6 - wall - took / 2))
    return [took for took, _ in samples], min(samples)[1]


def _wait_for_breaker(redis: RedisStore) -> None:
    """Wait until this process uses the server again, which has not answered earlier and answers now."""
    deadline = time.monotonic() + _BACK_WITHIN
    while redis.outage is not None and time.monotonic() < deadline:
        time.sleep(0.05)


def _unreachable(redis: RedisStore, error: StoreError) -> Finding:
    cause = error.__cause__
    if isinstance(cause, AuthenticationError | AuthorizationError):
        remedy = "Correct the user and the password in RCACHE_URL."
    elif not isinstance(cause, ResponseError):
        remedy = (
            f"Is it running, may this machine reach it, and does RCACHE_URL name it? It was asked at {redis.location}."
        )
    else:
        remedy = "The server's answer says what is missing."
    return fail("store", str(error), remedy)


def _round_trips(redis: RedisStore, times: list[float]) -> Finding:
    median = statistics.median(times)
    message = (
        f"{redis.location} answers within {median * 1000:.2f} ms (p50 of {len(times)}, at most {max(times) * 1000:.2f})"
    )
    if median > _SLOW:
        return warn("store", message, "Each hit that is not in memory takes that long: put the server nearer.")
    return ok("store", message)


def _access(url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.scheme == "unix" or parts.password or "password" in parse_qs(parts.query):
        return
    if parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        yield warn(
            "access",
            "RCACHE_URL has no password: anyone who can reach that server can change what is served.",
            "Set a password or an ACL user, or restrict who can reach it.",
        )


# What it is


def _fitness(state: dict[str, Any]) -> Iterator[Finding]:
    server, warnings = state["server"], state["warnings"]
    if server is None or not server["version"]:
        yield warn("server", "INFO is not allowed: version and memory policy are not known.", "Grant +info.")
        return
    too_old = [warning for warning in warnings if "too old" in warning]
    name = f"{server['name']} {server['version']}"
    yield fail("server", name, too_old[0]) if too_old else ok("server", name)
    others = [warning for warning in warnings if warning not in too_old]
    for warning in others:
        message, _, remedy = warning.partition("; ")
        yield warn("memory", message, _sentence(remedy or EVICTION_ADVICE))
    if not others:
        yield ok("memory", f"maxmemory-policy {server['maxmemory_policy']}")
    if not server["maxmemory"]:
        message = "maxmemory is not set: the cache may take all the memory of that machine."
        yield warn("memory", message, _sentence(EVICTION_ADVICE))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _clock(offset: float) -> Finding:
    message = f"the server's clock is {abs(offset):.3f} s {'ahead of' if offset > 0 else 'behind'} this machine's"
    if abs(offset) > _CLOCK_SECONDS:
        remedy = "Synchronise both with NTP. Nothing stale is served, but times shown to operators and clients differ."
        return warn("clock", message, remedy)
    return ok("clock", message)


# What it allows


def _rights(manager: CacheManager, redis: RedisStore) -> Finding:
    """Send every command once, to keys of its own, and see which are refused."""
    names = manager.engine.names
    own = f"{names.probe}:{secrets.token_hex(8)}"
    keys = {key: f"{own}:{key}" for key in ("s", "z", "z2", "h", "l")}
    commands: list[tuple[str | bytes, ...]] = [tuple(word.format(**keys) for word in command) for command in COMMANDS]
    commands.append(("PUBLISH", names.bus, _message()))
    try:
        replies = _ask(redis, *commands)
    except StoreError as error:
        return fail("rights", str(error), "Try again: the connection was lost meanwhile.")
    refused = {
        str(command[0]).lower(): str(reply)
        for command, reply in zip(commands, replies, strict=True)
        if isinstance(reply, Exception) and _REFUSED.match(str(reply))
    }
    if not refused:
        return ok("rights", f"all {len({command[0] for command in commands})} commands are allowed")
    if any("key" in text for text in refused.values()):
        return fail("rights", "this user may not use the cache's keys.", f"Grant ~{names.prefix}:* ~{names.prefix}~*")
    if any("channel" in text for text in refused.values()):
        return fail("rights", "this user may not use the cache's channel.", f"Grant &{names.bus}")
    missing = " ".join(f"+{name}" for name in sorted(refused))
    return fail("rights", f"refused: {', '.join(sorted(refused))}", f"Grant {missing}")


def _message(*names: str) -> bytes:
    """An invalidation of nothing, for every listener: of tags that no entry has, at the beginning of time."""
    return ormsgpack.packb(["t", "0", "0", "0", list(names)])


def _kept(manager: CacheManager, redis: RedisStore) -> Finding:
    """Write an entry, read it, remove it, and see that it is gone."""
    key = manager.engine.names.entry(CacheType.DEFAULT.name, f"check-{secrets.token_hex(8)}")
    content = secrets.token_bytes(16)
    began = time.monotonic()
    try:
        redis.write([(key, Draft(content, ttl=_PROBE_SECONDS))], redis.hear())
        written = redis.read(key, ()).entry
        redis.delete([key])
        left = redis.read(key, ()).entry
    except StoreFullError as error:
        return fail("entries", str(error), f"Nothing new is cached until then: {EVICTION_ADVICE}.")
    except StoreError as error:
        return fail("entries", str(error), "The lines above may say why.")
    took = f"{(time.monotonic() - began) * 1000:.1f} ms"
    if written is None or written.content != content:
        return fail("entries", "what was written could not be read again.", "Does something else write to its keys?")
    if left is not None:
        return fail("entries", "what was removed is still there.", "Does something else write to its keys?")
    return ok("entries", f"written, read and removed in {took}")


def _bus(manager: CacheManager, redis: RedisStore) -> Finding:
    """Subscribe, and receive a message of its own."""
    channel, payload = manager.engine.names.bus, _message(f"check-{secrets.token_hex(8)}")
    remedy = f"Grant +subscribe +publish &{channel}; a proxy in between must forward pub/sub."
    try:
        connection = redis.pool.subscriber()
    except StoreError as error:
        return fail("bus", str(error), remedy)
    try:
        connection.send("SUBSCRIBE", channel)
        if not _comes(connection, lambda reply: bool(reply[0] == b"subscribe")):
            return fail("bus", f"no answer to SUBSCRIBE within {_HEARD_WITHIN:g} s", remedy)
        began = time.monotonic()
        _ask(redis, ("PUBLISH", channel, payload))
        if not _comes(connection, lambda reply: reply[0] == b"message" and reply[2] == payload):
            return fail("bus", f"a message did not arrive within {_HEARD_WITHIN:g} s", remedy)
        return ok("bus", f"a message arrives after {(time.monotonic() - began) * 1000:.1f} ms")
    except (StoreError, *Pool.FAILURES) as error:
        return fail("bus", f"{type(error).__name__}: {error}", remedy)
    finally:
        connection.close()


def _comes(connection: Connection, wanted: Callable[[list[Any]], bool]) -> bool:
    """Whether such a reply comes in time.

    Raises:
        RedisError: the server refused.
    """
    deadline = time.monotonic() + _HEARD_WITHIN
    while (left := deadline - time.monotonic()) > 0:
        for reply in connection.receive(left):
            if isinstance(reply, Exception):
                raise reply
            if isinstance(reply, list) and wanted(reply):
                return True
    return False
