"""What ``check`` says about a server: which of its properties weaken the cache, and the remedy of each.

Pure: from what a :class:`~.node.Node` says of itself to findings. The questions are ``node``'s, the trying out is
``serverside``'s.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from ..stores.redis.facts import EVICTION_ADVICE, POLICIES, Facts
from .findings import Finding, fail, ok, warn
from .node import Node

__all__ = ["access", "clock_steps", "encryption", "limits", "memory", "misplaced", "persistence", "sharing", "version"]

_NEARLY_FULL: Final = 0.9
_STEP_US: Final = 1_000_000
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


# Which server it is


def misplaced(node: Node, url: str) -> Finding | None:
    """A server of another kind than the URL says: a replica, a node of a cluster, a sentinel."""
    parts = urlsplit(url)
    if node.mode == "sentinel":
        services = [name for name in node.services if name]
        names = f"it watches {', '.join(services)}" if services else "it watches no master yet"
        target = _in_place_of(parts, "sentinel", node.address, services[0] if services else "SERVICE")
        return fail(
            "topology",
            f"{node.address} is a sentinel, which stores nothing; {names}.",
            f"Set RCACHE_URL to {target}; put the servers' password, if they have one, before the @.",
        )
    if node.is_replica:
        return fail(
            "topology",
            f"{node.address} is a replica of {node.master}: it refuses every write, and nothing is cached.",
            "Set RCACHE_URL to the master, or to a name that always leads to it (a managed service's primary endpoint, "
            "not its reader endpoint); behind Sentinel use redis+sentinel://HOST:26379/SERVICE.",
        )
    if node.mode == "cluster":
        return fail(
            "topology",
            f"{node.address} is a node of a cluster, of which a plain URL reaches one part only.",
            f"Set RCACHE_URL to {_in_place_of(parts, 'cluster', node.address)}; other nodes follow after commas.",
        )
    return None


def _in_place_of(parts: SplitResult, kind: str, address: str, path: str = "") -> str:
    """The URL that is meant, without a password."""
    secure = parts.scheme.startswith("rediss")
    user = f"{parts.username or ''}:…@" if parts.password else ""
    return f"{'rediss' if secure else 'redis'}+{kind}://{user}{address}{'/' + path if path else ''}"


def version(node: Node) -> Finding:
    """Whether it has all the commands."""
    facts = _facts(node)
    if not facts.version:
        return warn("server", "INFO is not allowed: version and memory policy are not known.", "Grant +info.")
    name = f"{facts.name} {facts.version}"
    if facts.too_old:
        return fail("server", name, sentence(facts.too_old))
    return ok("server", name)


def _facts(node: Node) -> Facts:
    info = node.info
    valkey = info.get("valkey_version")
    return Facts(
        policy=str(info.get("maxmemory_policy", "")),
        name="valkey" if valkey else "redis",
        version=str(valkey or info.get("redis_version", "")),
        maxmemory=node.number("maxmemory"),
    )


# Memory


def memory(node: Node) -> Iterator[Finding]:
    """The limit, and what is evicted when it is reached."""
    facts = _facts(node)
    if not facts.policy:
        return
    meaning = POLICIES.get(facts.policy, "")
    shown = f"maxmemory-policy {facts.policy}{': ' if meaning else ''}{meaning}"
    used, limit = node.number("used_memory"), facts.maxmemory
    if not limit:
        also = "; noeviction then means that it grows until the system ends it" if facts.policy == "noeviction" else ""
        yield warn(
            "memory",
            f"maxmemory is not set: the cache may take all the memory of that machine{also}.",
            sentence(EVICTION_ADVICE),
        )
    elif facts.policy == "noeviction" and used > _NEARLY_FULL * limit:
        yield warn(
            "memory",
            f"{used / limit:.0%} of maxmemory is used, and with noeviction nothing new is cached when it is full.",
            sentence(f"raise maxmemory, or {EVICTION_ADVICE}"),
        )
    if facts.is_advised:
        if limit:
            yield ok("memory", shown)
    elif limit or facts.evicts_anything:
        yield warn("memory", shown, sentence(EVICTION_ADVICE))


def sharing(node: Node) -> Iterator[Finding]:
    """Keys of others: what evicts them, or is emptied with them."""
    foreign, policy = node.foreign, _facts(node).policy
    others = sorted(name for name, value in node.info.items() if name.startswith("db") and isinstance(value, dict))
    if not foreign.count:
        if len(others) > 1:
            yield warn(
                "database",
                f"other databases of that server are in use ({', '.join(others)}): they share its memory limit and "
                f"its eviction.{_evicted(policy)}",
                "Give the cache a server of its own.",
            )
        else:
            yield ok("database", f"no keys but the cache's among {foreign.looked_at:,} looked at")
        return
    yield warn(
        "database",
        f"{foreign.count:,} of {foreign.looked_at:,} keys looked at are not the cache's "
        f"({', '.join(foreign.beginnings)}).{_evicted(policy)} Whoever empties the database empties both.",
        "Give the cache a server of its own, or at least a database number and a maxmemory-policy that spares the "
        "others' keys.",
    )


def _evicted(policy: str) -> str:
    if policy.startswith("allkeys"):
        return f" With {policy} any of them may be evicted for entries of the cache: jobs and sessions are lost."
    if policy.startswith("volatile"):
        return f" With {policy} those that expire, such as sessions, may be evicted for entries of the cache."
    return ""


# The rest of its configuration


def persistence(node: Node, *, is_warm: bool) -> Iterator[Finding]:
    """Settings of persistence and replication that can stop the cache or slow it down."""
    found = [warn("persistence", message, remedy) for message, remedy in _stopping(node)]
    yield from found or [ok("persistence", _saved(node, is_warm=is_warm))]


def _stopping(node: Node) -> Iterator[tuple[str, str]]:
    """What has gone wrong there or is about to, and the remedy."""
    info, settings = node.info, node.settings
    if info.get("rdb_last_bgsave_status") == "err":
        stops = settings.get("stop-writes-on-bgsave-error") != "no"
        effect = ": with stop-writes-on-bgsave-error the server refuses all writes, and the cache is off"
        yield (
            f"the last snapshot failed{effect if stops else ''}.",
            'A cache needs no snapshots: set save "", or see the server\'s log for why it failed.',
        )
    if info.get("aof_last_write_status") == "err":
        yield (
            "the append-only file cannot be written: the server refuses all writes, and the cache is off.",
            "A cache needs no append-only file: set appendonly no, or make room on that disk.",
        )
    if info.get("aof_enabled") and settings.get("appendfsync") == "always":
        yield (
            "appendfsync always: each fill and each invalidation waits for the disk.",
            "Set appendonly no, which suits a cache, or appendfsync everysec.",
        )
    wanted = int(settings.get("min-replicas-to-write") or 0)
    if wanted:
        there = node.number("connected_slaves")
        yield (
            f"min-replicas-to-write is {wanted}, and {there} are connected: with fewer the server refuses all writes.",
            "Set it to 0 on a server that only caches.",
        )


def _saved(node: Node, *, is_warm: bool) -> str:
    is_saved = bool(node.settings.get("save"))
    ways = [name for name, on in (("snapshots", is_saved), ("append-only file", node.info.get("aof_enabled"))) if on]
    if not ways:
        return "nothing is saved, or it is not known: not needed" if not node.settings else "off, as suits a cache"
    after = (
        "RCACHE_ON_FAILOVER=warm uses what was saved in the last 20 s"
        if is_warm
        else "not needed, since the cache starts cold after a restart"
    )
    return f"{' and '.join(ways)}: {after}"


def limits(node: Node, max_connections: int) -> Iterator[Finding]:
    """Connections that the server takes, against those that one process may open."""
    most = node.number("maxclients")
    if most and most < max_connections:
        yield warn(
            "connections",
            f"the server takes {most} connections, and one process may open {max_connections} "
            "(RCACHE_MAX_CONNECTIONS).",
            "Raise maxclients, or lower RCACHE_MAX_CONNECTIONS to maxclients divided by the number of processes.",
        )


def clock_steps(node: Node) -> Iterator[Finding]:
    """Whether the server's clock was set back: the cache's own never goes back, and is ahead of it then."""
    ahead = node.clock - node.time if node.clock and node.time else 0
    if ahead > _STEP_US:
        yield warn(
            "clock",
            f"the clock of {node.address} was set back: the cache's is {ahead / 1e6:.1f} s ahead of it, and almost "
            "stands still until it is caught up; entries live that much longer.",
            "No invalidated entry is served. Let NTP slew the clock instead of stepping it.",
        )


# The way to it


def access(parts: SplitResult) -> Iterator[Finding]:
    """Whether a password is asked for."""
    if parts.scheme == "unix" or parts.password or "password" in parse_qs(parts.query):
        return
    if parts.hostname not in _LOOPBACK:
        yield warn(
            "access",
            "RCACHE_URL has no password: anyone who can reach that server can change what is served.",
            "Set a password or an ACL user, or restrict who can reach it.",
        )


def encryption(url: str, addresses: Iterable[str]) -> Iterator[Finding]:
    """Whether the way to a public address is encrypted, and the server's certificate verified.

    Args:
        url: of the cache.
        addresses: IP addresses that its hosts have.
    """
    parts = urlsplit(url)
    if parts.scheme.startswith("rediss"):
        required = parse_qs(parts.query).get("ssl_cert_reqs", ["required"])[0]
        if required.lower() in ("none", "optional"):
            yield warn(
                "encryption",
                f"ssl_cert_reqs={required}: the server's certificate is not verified, so anybody on the way can pose "
                "as the server.",
                "Drop ssl_cert_reqs, and name the CA with ssl_ca_certs.",
            )
        return
    public = sorted(address for address in set(addresses) if _is_public(address))
    if public:
        yield warn(
            "encryption",
            f"the server has a public address ({', '.join(public)}) and the connection is not encrypted: passwords and "
            "pages can be read and changed on the way.",
            f"Use {'rediss' + parts.scheme.removeprefix('redis')}:// and TLS, or a private address.",
        )


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False
