"""The servers behind the cache in a few lines: the master and its sentinels, or the nodes and shards of a cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .output import bytes_text, seconds_text

__all__ = ["topology_lines"]


def topology_lines(topology: dict[str, Any] | None) -> Iterator[str]:
    """What ``stats`` prints of them, as this process sees them; nothing for one server, whose line is the store's.

    Args:
        topology: of ``CacheManager.overview()``.
    """
    kind = None if topology is None else topology["kind"]
    if topology is None or kind == "server":
        return
    if kind == "sentinel":
        known = topology["sentinels"]
        well = sum(each["state"] == "ok" for each in known)
        yield (
            f"sentinel  service {topology['service']!r}, master {topology['server'] or 'not known'}; "
            f"{well} of {len(known)} sentinels have a quorum"
        )
        yield from (f"          {each['detail']}" for each in known if each["state"] not in ("ok", "unknown"))
    else:
        shards = topology["shards"]
        used = sum(shard["is_available"] for shard in shards)
        yield f"cluster   {len(topology['nodes'])} nodes, {used} of {len(shards)} shards used"
        for node in topology["nodes"]:
            numbers = ", ".join(map(str, node["shards"])) or "none"
            yield f"          {node['address']}  {_away(node)}  shards {numbers}{_memory(node['server'])}"
    last = topology["last_failover"]
    if last:
        yield f"failover  {seconds_text(max(0.0, time.time() - last['at']))} ago, from {last['before'] or 'elsewhere'}"


def _memory(server: dict[str, Any] | None) -> str:
    """How full a node is; nothing when it does not say."""
    if server is None:
        return ""
    limit = f" of {bytes_text(server['maxmemory'])}" if server["maxmemory"] else ""
    return f"  memory {bytes_text(server['used_memory'])}{limit}, {server['evicted_keys']:,} evicted"


def _away(node: dict[str, Any]) -> str:
    if node["is_available"]:
        return "used"
    return f"away for {seconds_text(max(0.0, time.time() - node['since']))}" if node["since"] else "away"
