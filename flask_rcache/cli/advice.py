"""What ``check`` says about a server: which of its properties weaken the cache, and the remedy of each.

Pure: from what a :class:`~.server.ServerInfo` says of itself to findings. The questions are ``server``'s, the trying
out is ``serverside``'s.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from ..config.address import Address
from ..stores.redis.facts import EVICTION_ADVICE, POLICIES, Facts
from .findings import Finding, State, fail, ok, warn
from .server import ServerInfo

__all__ = [
    "access",
    "clock_steps",
    "cluster",
    "encryption",
    "limits",
    "memory",
    "misplaced",
    "of_all",
    "persistence",
    "sentinels",
    "sharing",
    "version",
]

_NEARLY_FULL: Final = 0.9
_STEP_US: Final = 1_000_000
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_REPAIR: Final = "Start it, or take it out of RCACHE_URL: with fewer than a majority no failover happens."


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


# Which server it is


def misplaced(server: ServerInfo, url: str) -> Finding | None:
    """A server of another kind than the URL says: a replica, a node of a cluster, a sentinel."""
    parts = urlsplit(url)
    if server.mode == "sentinel":
        services = [name for name in server.services if name]
        names = f"it watches {', '.join(services)}" if services else "it watches no master yet"
        target = _in_place_of(parts, "sentinel", server.address, services[0] if services else "SERVICE")
        return fail(
            "topology",
            f"{server.address} is a sentinel, which stores nothing; {names}.",
            f"Set RCACHE_URL to {target}; put the servers' password, if they have one, before the @.",
        )
    if server.is_replica:
        return fail(
            "topology",
            f"{server.address} is a replica of {server.master}: it refuses every write, and nothing is cached.",
            "Set RCACHE_URL to the master, or to a name that always leads to it (a managed service's primary endpoint, "
            "not its reader endpoint); behind Sentinel use redis+sentinel://HOST:26379/SERVICE.",
        )
    if server.mode == "cluster":
        return fail(
            "topology",
            f"{server.address} is a node of a cluster, of which a plain URL reaches one part only.",
            f"Set RCACHE_URL to {_in_place_of(parts, 'cluster', server.address)}; other nodes follow after commas.",
        )
    return None


def _in_place_of(parts: SplitResult, kind: str, address: str, path: str = "") -> str:
    """The URL that is meant, without a password."""
    secure = parts.scheme.startswith("rediss")
    user = f"{parts.username or ''}:…@" if parts.password else ""
    return f"{'rediss' if secure else 'redis'}+{kind}://{user}{address}{'/' + path if path else ''}"


def version(server: ServerInfo) -> Finding:
    """Whether it has all the commands."""
    facts = _facts(server)
    if not facts.version:
        message = "INFO is not allowed: version and memory policy are not known, and patterns walk all keys."
        return warn("server", message, "Grant +info, where the server has it; the cache works without.")
    name = f"{facts.name} {facts.version}"
    if facts.too_old:
        return fail("server", name, sentence(facts.too_old))
    return ok("server", name)


def _facts(server: ServerInfo) -> Facts:
    info = server.info
    valkey = info.get("valkey_version")
    return Facts(
        policy=info.get("maxmemory_policy", ""),
        name="valkey" if valkey else "redis",
        version=valkey or info.get("redis_version", ""),
        maxmemory=server.number("maxmemory"),
    )


# Memory


def memory(server: ServerInfo) -> Iterator[Finding]:
    """The limit, and what is evicted when it is reached."""
    facts = _facts(server)
    if not facts.policy:
        return
    meaning = POLICIES.get(facts.policy, "")
    shown = f"maxmemory-policy {facts.policy}{': ' if meaning else ''}{meaning}"
    used, limit = server.number("used_memory"), facts.maxmemory
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


def sharing(server: ServerInfo, *, is_sealed: bool) -> Iterator[Finding]:
    """Keys of others: what evicts them, or is emptied with them.

    Args:
        server: where they are.
        is_sealed: whether the others could read and change what this cache stores there.
    """
    foreign, policy = server.foreign, _facts(server).policy
    others = sorted(name for name in server.info if re.fullmatch(r"db\d+", name))
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
        f"others' keys.{'' if is_sealed else _SEAL}",
    )


#: Whoever shares a database can read and write everything in it.
_SEAL: Final = " Where others must not read or change what is cached, set RCACHE_ENCRYPTION_KEYS."


def _evicted(policy: str) -> str:
    if policy.startswith("allkeys"):
        return f" With {policy} any of them may be evicted for entries of the cache: jobs and sessions are lost."
    if policy.startswith("volatile"):
        return f" With {policy} those that expire, such as sessions, may be evicted for entries of the cache."
    return ""


# The rest of its configuration


def persistence(server: ServerInfo, *, is_warm: bool, has_queues: bool = False) -> Iterator[Finding]:
    """Settings of persistence and replication that can stop the cache or slow it down, or lose queues of writes."""
    found = [warn("persistence", message, remedy) for message, remedy in _stopping(server, has_queues=has_queues)]
    if has_queues and server.info.get("aof_enabled") == "0":
        found.append(
            warn(
                "persistence",
                "appendonly no: when the server restarts, the writes behind that are not applied are lost.",
                "Set appendonly yes; with appendfsync everysec up to a second of writes is lost, with always none.",
            )
        )
    yield from found or [ok("persistence", _saved(server, is_warm=is_warm))]


def _stopping(server: ServerInfo, *, has_queues: bool) -> Iterator[tuple[str, str]]:
    """What has gone wrong there or is about to, and the remedy."""
    info, settings = server.info, server.settings
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
    if info.get("aof_enabled") == "1" and settings.get("appendfsync") == "always" and not has_queues:
        yield (
            "appendfsync always: each fill and each invalidation waits for the disk.",
            "Set appendonly no, which suits a cache, or appendfsync everysec.",
        )
    if settings.get("cluster-require-full-coverage") == "yes" and server.mode == "cluster":
        yield (
            "cluster-require-full-coverage yes: while one master is away, all nodes refuse everything.",
            "Set it to no: the shards of the other nodes go on.",
        )
    wanted = int(settings.get("min-replicas-to-write") or 0)
    if wanted:
        there = server.number("connected_slaves")
        yield (
            f"min-replicas-to-write is {wanted}, and {there} are connected: with fewer the server refuses all writes.",
            "Set it to 0 on a server that only caches.",
        )


def _saved(server: ServerInfo, *, is_warm: bool) -> str:
    is_saved = bool(server.settings.get("save"))
    ways = [
        name
        for name, on in (("snapshots", is_saved), ("append-only file", server.info.get("aof_enabled") == "1"))
        if on
    ]
    if not ways:
        return "nothing is saved, or it is not known: not needed" if not server.settings else "off, as suits a cache"
    after = (
        "RCACHE_ON_FAILOVER=warm uses what was saved in the last 20 s"
        if is_warm
        else "not needed, since the cache starts cold after a restart"
    )
    return f"{' and '.join(ways)}: {after}"


def limits(server: ServerInfo, max_connections: int) -> Iterator[Finding]:
    """Connections that the server takes, against those that one process may open."""
    most = server.number("maxclients")
    if most and most < max_connections:
        yield warn(
            "connections",
            f"the server takes {most} connections, and one process may open {max_connections} "
            "(RCACHE_MAX_CONNECTIONS).",
            "Raise maxclients, or lower RCACHE_MAX_CONNECTIONS to maxclients divided by the number of processes.",
        )


def clock_steps(server: ServerInfo) -> Iterator[Finding]:
    """Whether the server's clock was set back: the cache's own never goes back, and is ahead of it then."""
    ahead = server.clock - server.time if server.clock and server.time else 0
    if ahead > _STEP_US:
        yield warn(
            "clock",
            f"the clock of {server.address} was set back: the cache's is {ahead / 1e6:.1f} s ahead of it, and almost "
            "stands still until it is caught up; entries live that much longer.",
            "No invalidated entry is served. Let NTP slew the clock instead of stepping it.",
        )


# The way to it


def access(address: Address, options: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether a password is asked for."""
    is_secret = address.password or {"password", "credential_provider"} & {*options, *dict(address.query)}
    if address.path or is_secret or all(node.host in _LOOPBACK for node in address.nodes):
        return
    yield warn(
        "access",
        "RCACHE_URL has no password: anyone who can reach that server can change what is served.",
        "Set a password or an ACL user, or restrict who can reach it.",
    )


def encryption(address: Address, options: Mapping[str, Any], hosts: Iterable[str]) -> Iterator[Finding]:
    """Whether the way to a public address is encrypted, and the server's certificate verified.

    Args:
        address: what the URL says.
        options: for redis-py.
        hosts: the IP addresses that its hosts have.
    """
    if address.is_tls:
        required = str({**options, **dict(address.query)}.get("ssl_cert_reqs", "required"))
        if required.lower().endswith(("none", "optional")):
            yield warn(
                "encryption",
                f"ssl_cert_reqs={required}: the server's certificate is not verified, so anybody on the way can pose "
                "as the server.",
                "Drop ssl_cert_reqs, and name the CA with ssl_ca_certs.",
            )
        return
    public = sorted(host for host in set(hosts) if _is_public(host))
    if public:
        scheme = address.location.partition(":")[0]
        yield warn(
            "encryption",
            f"the server has a public address ({', '.join(public)}) and the connection is not encrypted: passwords and "
            "pages can be read and changed on the way.",
            f"Use {'rediss' + scheme.removeprefix('redis')}:// and TLS, or a private address.",
        )


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False


# Sentinels, and several servers


def sentinels(service: str, known: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Whether a failover would happen, and what hinders it.

    Args:
        service: what they call the master.
        known: of each, its ``address``, its ``state`` and a ``detail``.
    """
    well = [each for each in known if each["state"] == "ok"]
    for each in known:
        if each["state"] not in ("ok", "no quorum"):
            yield warn("sentinels", f"{each['address']}: {each['state']}: {each['detail']}", _REPAIR)
    if not well:
        said = (
            "; ".join(sorted({str(each["detail"]) for each in known if each["state"] == "no quorum"})) or "none answers"
        )
        yield fail(
            "sentinels",
            f"no sentinel of {service!r} has a quorum: when the master fails, nothing takes over ({said}).",
            "Start the sentinels that are away, and see that a replica is connected to the master.",
        )
    elif len(known) == 1:
        yield warn(
            "sentinels",
            f"RCACHE_URL names one sentinel of {service!r}: while it is away, no master can be found.",
            "Name all of them, with commas.",
        )
    elif len(well) == len(known):
        yield ok("sentinels", f"all {len(known)} sentinels of {service!r} answer, and have a quorum")


def cluster(topology: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether every shard is used, and every node has some.

    Args:
        topology: of ``CacheManager.overview()``.
    """
    nodes, shards = topology["nodes"], topology["shards"]
    lost: dict[str, list[str]] = {}
    for shard in shards:
        if not shard["is_available"]:
            lost.setdefault(f"on {shard['node'] or 'no node'}: {shard['cause']}", []).append(str(shard["number"]))
    for why, numbers in lost.items():
        yield fail(
            "topology",
            f"{len(numbers)} of {len(shards)} shards cannot be used ({', '.join(numbers)}), {why}",
            "See CLUSTER NODES: start the node, or let a replica take over. What lies there is loaded by the app.",
        )
    idle = [node["address"] for node in nodes if not node["shards"]]
    if idle and not lost:
        yield warn(
            "topology",
            f"{', '.join(idle)}: none of the {len(shards)} shards lies there, so the cache does not use it.",
            "Set RCACHE_SHARDS to four or more times the number of masters, in all processes at once.",
        )
    if not idle and not lost:
        replicas = sum(len(node["replicas"]) for node in nodes)
        lonely = "" if replicas else "; without replicas, the shards of a node that fails are missed until it is back"
        yield ok("topology", f"{len(shards)} shards on {len(nodes)} masters, {replicas} replicas{lonely}")


def of_all(found: Mapping[str, Sequence[Finding]]) -> Iterator[Finding]:
    """The findings of several servers: one line for what is well on all of them, one for each thing that is not.

    Args:
        found: by the server's address.
    """
    if len(found) == 1:
        yield from next(iter(found.values()))
        return
    names = dict.fromkeys(finding.name for findings in found.values() for finding in findings)
    for name in names:
        bad: dict[Finding, list[str]] = {}
        good: list[Finding] = []
        for address, findings in found.items():
            for finding in findings:
                if finding.name == name and finding.state is State.OK:
                    good.append(finding)
                elif finding.name == name:
                    bad.setdefault(finding, []).append(address)
        for finding, addresses in bad.items():
            where = f"all {len(found)} nodes" if len(addresses) == len(found) else ", ".join(addresses)
            yield finding._replace(message=f"{where}: {finding.message}")
        if good and not bad:
            yield good[0]._replace(message=f"{good[0].message}; {len(found)} nodes alike")
