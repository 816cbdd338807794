"""What ``check`` asks of a Redis or Valkey server.

Owns the questions that only a live server answers: whether it can be reached, is fit, lets this user do what the cache
does, and delivers messages. What is written for that is removed again, and expires if it is not.
"""

from __future__ import annotations

import re
import secrets
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import ormsgpack
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from ..config.address import Address, Node, parse_address
from ..engine.manager import CacheManager
from ..errors import StoreError, StoreFullError, StoreUnavailableError
from ..model.cache_type import CacheType
from ..model.entry import Draft
from ..model.named_tuple import NamedTuple
from ..stores.redis.connection import Connection, pack
from ..stores.redis.driver import Connector
from ..stores.redis.facts import EVICTION_ADVICE
from ..stores.redis.pool import Pool
from ..stores.redis.store import RedisStore
from . import advice
from .dataside import data_findings
from .findings import Finding, State, fail, ok, warn
from .server import Ask, ServerInfo, asking, described

__all__ = ["COMMANDS", "QUEUE_COMMANDS", "server_findings"]

_SAMPLES: Final = 20
_SLOW: Final = 0.005
_CLOCK_SECONDS: Final = 1.0
_HEARD_WITHIN: Final = 1.0
_PROBE_SECONDS: Final = 10
#: So many keys lie on every shard, as good as certainly.
_KEYS_ON_A_CLUSTER: Final = 200
_BACK_WITHIN: Final = 3.0
#: Seconds for an answer at least: an operator waits longer than a request.
_PATIENCE: Final = 2.0

#: Every command that the cache sends, in its scripts too; ``{s}``, ``{z}``, ``{h}`` and ``{l}`` are keys of its own.
COMMANDS: Final = tuple(
    line.split()
    for line in """
    SET {s} probe PX 10000
    GET {s}
    GETEX {s}
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

#: Of them, those without which the cache works, with less to go by; who looks at a server says what is missing then.
_OPTIONAL: Final = frozenset({"info"})

#: Those that queues of writes need beside them; ``{q}`` is a stream of its own.
QUEUE_COMMANDS: Final = tuple(
    line.split()
    for line in """
    XADD {q} * a 1
    EXPIRE {q} 10
    XLEN {q}
    XRANGE {q} - + COUNT 1
    XGROUP CREATE {q} g 0
    XREADGROUP GROUP g c COUNT 1 STREAMS {q} >
    XPENDING {q} g
    XCLAIM {q} g c 0 1-1
    XACK {q} g 1-1
    XDEL {q} 1-1
    DEL {q}
    """.strip().splitlines()
)


def server_findings(manager: CacheManager) -> Iterator[Finding]:
    """What there is to say about the servers of a cache; only what keeps them from being used when they cannot be."""
    settings = manager.settings
    address = parse_address(settings.url, "RCACHE_URL")
    connector = Connector(address, settings.redis_options, timeout=max(settings.timeout, _PATIENCE))
    tier: Any = manager.engine.store
    store: Any = getattr(tier, "redis", tier)  # behind a memory tier
    named = _Place.named(address) if address.kind == "server" else None
    if named is not None:
        wrong = _looked(manager, connector, named, lambda server, _: advice.misplaced(server, settings.url))
        if isinstance(wrong, Finding):
            yield wrong
            return
    error = _unreached(manager, store)
    if error is not None:
        yield _unreachable(manager, error)
        yield from _sentinels(manager)
        if named is not None:
            yield from _looked(manager, connector, named, partial(_hindrances, manager)) or ()
        return
    _wait_for_breaker(store)
    yield from advice.access(address, settings.redis_options)
    yield from advice.encryption(address, settings.redis_options, _addresses(address))
    yield from _sentinels(manager)
    topology = manager.engine.catalogue.state()["topology"]
    if address.kind == "cluster":
        yield from advice.cluster(topology)
    places = [named] if named is not None else _Place.masters(manager)
    found = {place.name: _looked(manager, connector, place, partial(_advised, manager)) or [] for place in places}
    yield from advice.of_all(found)
    yield _kept(manager, store, _KEYS_ON_A_CLUSTER if address.kind == "cluster" else 1)
    yield _bus_of_shards(manager) if address.kind == "cluster" else _bus(manager, store)
    yield from data_findings(manager)


class _Place(NamedTuple):
    """A server that is asked directly."""

    node: Node
    path: str = ""

    @property
    def name(self) -> str:
        return self.path or str(self.node)

    @classmethod
    def named(cls, address: Address) -> _Place:
        """The one that the URL names."""
        return cls(address.nodes[0] if address.nodes else Node("", 0), address.path)

    @classmethod
    def masters(cls, manager: CacheManager) -> list[_Place]:
        """Those that the sentinels name, or the cluster has."""
        nodes = manager.engine.catalogue.state()["topology"]["nodes"]
        hosts = [node["address"].rpartition(":") for node in nodes if node["is_available"]]
        return [cls(Node(host.strip("[]"), int(port))) for host, _, port in hosts if port.isdigit()]


T = TypeVar("T")


def _looked(
    manager: CacheManager, connector: Connector, place: _Place, judge: Callable[[ServerInfo, Ask], T]
) -> T | None:
    """What is thought of a server that is asked directly; nothing when it cannot be."""
    with asking(connector, place.node, path=place.path) as ask:
        server = described(ask, place.name, manager.engine.names)
        return judge(server, ask) if isinstance(server, ServerInfo) else None


def _hindrances(manager: CacheManager, server: ServerInfo, ask: Ask) -> list[Finding]:
    """What may keep the cache from using it."""
    findings = [_rights(manager, ask), *advice.persistence(server, is_warm=False), advice.version(server)]
    return [finding for finding in findings if finding.state is not State.OK]


def _advised(manager: CacheManager, server: ServerInfo, ask: Ask) -> list[Finding]:
    """Everything there is to say about it."""
    settings = manager.settings
    times, offset = _sampled(ask)
    return [
        _round_trips(server.address, times),
        advice.version(server),
        *advice.memory(server),
        *advice.sharing(server, is_sealed=bool(manager.settings.encryption_keys)),
        *advice.persistence(
            server, is_warm=settings.on_failover == "warm", has_queues=bool(manager.engine.writes.writers)
        ),
        *advice.limits(server, settings.max_connections),
        *advice.clock_steps(server),
        _clock(offset),
        _rights(manager, ask),
    ]


def _addresses(address: Address) -> set[str]:
    """The IP addresses of a URL's hosts; none of those that cannot be resolved."""
    found: set[str] = set()
    for node in address.nodes:
        with suppress(OSError):
            found |= {str(each[4][0]) for each in socket.getaddrinfo(node.host, None)}
    return found


# Sentinels


def _sentinels(manager: CacheManager) -> Iterator[Finding]:
    """What each sentinel says; nothing where there are none."""
    deadline = time.monotonic() + _BACK_WITHIN
    while True:  # a process that has just begun has not asked them all yet
        topology = manager.engine.catalogue.state()["topology"]
        known = topology.get("sentinels", [])
        if all(each["state"] != "unknown" for each in known) or time.monotonic() > deadline:
            break
        time.sleep(0.05)  # the cache's own threads ask; a command may wait for them
    if known:
        yield from advice.sentinels(topology["service"], known)


def _ask(redis: RedisStore, *commands: tuple[Any, ...]) -> list[Any]:
    return redis.pool.exchange(b"".join(map(pack, commands)), len(commands), probing=True)


# Reaching it


def _sampled(ask: Ask) -> tuple[list[float], float]:
    """Seconds of some round trips, and by how much the server's clock is ahead, measured on the fastest of them."""
    samples: list[tuple[float, float]] = []
    for _ in range(_SAMPLES):
        wall, began = time.time(), time.monotonic()
        reply = ask(["TIME"])
        took = time.monotonic() - began
        if isinstance(reply, Exception):  # the rights are checked below
            samples.append((took, 0.0))
        else:
            samples.append((took, int(reply[0]) + int(reply[1]) / 1e6 - wall - took / 2))
    return [took for took, _ in samples], min(samples)[1]


def _unreached(manager: CacheManager, store: Any) -> StoreError | None:
    """Why the cache cannot use its servers; ``None`` when it can use some of them."""
    try:
        if hasattr(store, "pool"):
            _ask(store, ("PING",))  # connects
            return None
        store.hear()  # of each shard
    except StoreError as error:
        return error
    shards = manager.engine.catalogue.state()["topology"]["shards"]
    if any(shard["is_available"] for shard in shards):
        return None
    cause = store.incident.cause if store.incident is not None else None
    return cause if isinstance(cause, StoreError) else StoreUnavailableError(f"no shard can be used: {cause}")


def _wait_for_breaker(store: Any) -> None:
    """Wait until this process uses the server again, which has not answered earlier and answers now."""
    deadline = time.monotonic() + _BACK_WITHIN
    while getattr(store, "outage", store.incident) is not None and time.monotonic() < deadline:
        time.sleep(0.05)  # the cache's own threads ask; a command may wait for them


#: What a server says that refuses every write, and the remedy.
_REFUSALS: Final = {
    "MISCONF": 'It cannot save to disk, and stop-writes-on-bgsave-error is on: set save "", which suits a cache.',
    "NOREPLICAS": "Too few replicas are connected: set min-replicas-to-write 0, which suits a cache.",
    "LOADING": "It is loading a snapshot: try again when it has done so.",
    "DENIED": "It is in protected mode: set a password, or bind it to the addresses that may reach it.",
    "READONLY": "It is a replica: set RCACHE_URL to the master, or to a name that always leads to it.",
    "CLUSTERDOWN": "The cluster lacks masters: see CLUSTER INFO and CLUSTER NODES.",
}


def _unreachable(manager: CacheManager, error: StoreError) -> Finding:
    cause = error.__cause__
    text = str(error)
    refusal = next((remedy for code, remedy in _REFUSALS.items() if f"{code} " in text), None)
    if isinstance(cause, AuthenticationError | AuthorizationError):
        remedy = "Correct the user and the password in RCACHE_URL."
    elif refusal is not None:
        remedy = refusal
    elif not isinstance(cause, ResponseError):
        remedy = (
            "Is it running, may this machine reach it, and does RCACHE_URL name it? It was asked at "
            f"{manager.engine.catalogue.location}."
        )
    else:
        remedy = "The server's answer says what is missing."
    return fail("store", text, remedy)


def _round_trips(name: str, times: list[float]) -> Finding:
    median = statistics.median(times)
    message = f"{name} answers within {median * 1000:.2f} ms (p50 of {len(times)}, at most {max(times) * 1000:.2f})"
    if median > _SLOW:
        return warn("store", message, "Each hit that is not in memory takes that long: put the server nearer.")
    return ok("store", message)


# Its clock


def _clock(offset: float) -> Finding:
    message = f"the server's clock is {abs(offset):.3f} s {'ahead of' if offset > 0 else 'behind'} this machine's"
    if abs(offset) > _CLOCK_SECONDS:
        remedy = "Synchronise both with NTP. Nothing stale is served, but times shown to operators and clients differ."
        return warn("clock", message, remedy)
    return ok("clock", message)


# What it allows


def _rights(manager: CacheManager, ask: Ask) -> Finding:
    """Send every command once, to keys of its own, and see which are refused."""
    names = manager.engine.names
    own = f"{names.probe}:{{{secrets.token_hex(8)}}}"  # one hash tag: one slot, where there are slots
    keys = {key: f"{own}:{key}" for key in ("s", "z", "z2", "h", "l", "q")}
    refused: set[str] = set()
    # A command that is refused says nothing of the keys and the channel: then they are granted as well.
    places = {"key", "channel"}
    address = parse_address(manager.settings.url, "RCACHE_URL")
    is_cluster = address.kind == "cluster"
    channel = f"{names.prefix}~{{0}}~bus" if is_cluster else names.bus
    more: list[list[Any]] = [["CLUSTER", "SLOTS"], ["ASKING"]] if is_cluster else []
    more += [["PUBLISH", channel, _message()], ["SUBSCRIBE", channel]]
    commands = (*COMMANDS, *(QUEUE_COMMANDS if manager.engine.writes.writers else ()))
    own_keys = [[word.format(**keys) for word in command] for command in commands]
    for command, words in (*zip(commands, own_keys, strict=True), *zip(more, more, strict=True)):
        reply = ask(words)
        if isinstance(reply, OSError | RedisConnectionError):
            return fail("rights", f"{type(reply).__name__}: {reply}", "Try again: the connection was lost meanwhile.")
        refusal = _refusal(reply)
        if refusal == "command":
            refused.add("|".join(command).lower() if command[0] == "CLUSTER" else str(command[0]).lower())
        elif not refusal:
            places -= {"key"} if words != command else {"channel"} if channel in command else set()
    needed = {str(command[0]).lower() for command in (*commands, *more)} - (refused & _OPTIONAL)
    refused -= _OPTIONAL
    if not refused and not places:
        return ok("rights", f"all {len(needed)} commands are allowed")
    user = address.username or "default"
    grants = [f"+{name}" for name in sorted(refused)]
    grants += [f"~{names.prefix}:* ~{names.prefix}~*"] * ("key" in places) + [
        f"&{f'{names.prefix}~*' if is_cluster else names.bus}"
    ] * ("channel" in places)
    what = [f"run {', '.join(sorted(refused))}"] * bool(refused)
    what += [f"use the cache's {place}{'s' if place == 'key' else ''}" for place in sorted(places)]
    return fail("rights", f"the user {user} may not {' nor '.join(what)}.", f"ACL SETUSER {user} {' '.join(grants)}")


def _refusal(reply: Any) -> str:
    """What an access list refuses: a command, a key or a channel; nothing when the reply is another."""
    text = str(reply) if isinstance(reply, Exception) else ""
    if not isinstance(reply, NoPermissionError) and not text.startswith("NOPERM"):
        return ""
    return next((what for what in ("channel", "key") if re.search(rf"access .*\b{what}s?\b", text)), "command")


def _message(*names: str) -> bytes:
    """An invalidation of nothing, for every listener: of tags that no entry has, at the beginning of time."""
    return ormsgpack.packb(["t", "0", "0", "0", list(names)])


def _kept(manager: CacheManager, store: Any, number: int) -> Finding:
    """Write entries, read them, remove them, and see that they are gone."""
    own = f"check-{secrets.token_hex(8)}"
    keys = [manager.engine.names.entry(CacheType.DEFAULT.name, f"{own}-{each}") for each in range(number)]
    content = secrets.token_bytes(16)
    began = time.monotonic()
    try:
        store.write([(key, Draft(content, ttl=_PROBE_SECONDS)) for key in keys], store.hear())
        written = [store.read(key, ()).entry for key in keys]
        store.delete(keys)
        left = [store.read(key, ()).entry for key in keys]
    except StoreFullError as error:
        return fail("entries", str(error), f"Nothing new is cached until then: {EVICTION_ADVICE}.")
    except StoreError as error:
        return fail("entries", str(error), "The lines above may say why.")
    took = f"{(time.monotonic() - began) * 1000:.1f} ms"
    if any(entry is None or entry.content != content for entry in written):
        return fail("entries", "what was written could not be read again.", "Does something else write to its keys?")
    if any(left):
        return fail("entries", "what was removed is still there.", "Does something else write to its keys?")
    return ok("entries", f"{'' if number == 1 else f'{number} '}written, read and removed in {took}")


def _bus_of_shards(manager: CacheManager) -> Finding:
    """Wait until the bus of each shard is alive."""
    deadline = time.monotonic() + _BACK_WITHIN
    while True:
        shards = manager.engine.catalogue.state()["topology"]["shards"]
        deaf = [str(shard["number"]) for shard in shards if shard["is_available"] and shard["bus"] != "alive"]
        if not deaf or time.monotonic() > deadline:
            break
        time.sleep(0.05)  # the cache's own threads ask; a command may wait for them
    if not deaf:
        return ok("bus", f"invalidations of {sum(shard['is_available'] for shard in shards)} shards arrive")
    return fail(
        "bus",
        f"the invalidations of these shards do not arrive: {', '.join(deaf)}.",
        f"Grant +subscribe +publish &{manager.engine.names.prefix}~*; a node in between must forward pub/sub.",
    )


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
