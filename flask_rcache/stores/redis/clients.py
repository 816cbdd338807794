"""redis-py's own clients, for what is no part of the cache: the stream of events.

Owns the choice of the client that fits ``RCACHE_URL``. The cache itself uses none of them.
"""

from __future__ import annotations

from typing import Any, Final, cast

from redis import ConnectionPool, Redis, UnixDomainSocketConnection
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import Sentinel

from ...config.address import parse_address
from ...config.settings import Settings
from .driver import Connector

__all__ = ["client_of"]

#: Seconds for a reply at least: a consumer waits for events.
_TIMEOUT: Final = 1.0


def client_of(settings: Settings) -> Any:
    """A client of the server, of the master that the sentinels name, or of the cluster.

    Args:
        settings: of the app.
    """
    address = parse_address(settings.url, "RCACHE_URL")
    connector = Connector(address, settings.redis_options or {}, timeout=max(settings.timeout, _TIMEOUT))
    options: dict[str, Any] = {**connector.options, "protocol": 2}  # whose replies are the same in all releases
    if address.path:
        return Redis(
            connection_pool=ConnectionPool(cast(Any, UnixDomainSocketConnection), path=address.path, **options)
        )
    if address.kind == "server":
        return connector.client(address.nodes[0], protocol=2)
    options["ssl"] = address.is_tls
    places = [(node.host, node.port) for node in address.nodes]
    if address.kind == "cluster":
        options.pop("db")
        return RedisCluster(startup_nodes=[ClusterNode(host, port) for host, port in places], **options)
    asking = {"socket_timeout": settings.timeout, "ssl": address.is_tls, **(settings.sentinel_options or {})}
    return Sentinel(places, sentinel_kwargs=asking, **options).master_for(address.service)
