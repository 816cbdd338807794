"""19: cross-slot commands, MOVED, NOSCRIPT, READONLY, and a clear that does not touch foreign keys.

MOVED and ASK while a slot moves are in `tests/stores/test_cluster.py`, failovers in `tests/race/test_cluster.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flask_rcache import CacheManager
from tests.clusters import Cluster
from tests.processes import wait_until
from tests.servers import Server
from tests.twenty.kit import KIND, MEANS, PATIENCE, invalidate, there


def test_behaviour_19__noscript(server: Server, caches: Callable[..., CacheManager]) -> None:
    """The server forgets its scripts at any moment: nobody notices."""
    here, other = (caches(server.url) for _ in range(2))
    client = server.client()
    for means in MEANS:
        client.script_flush()
        assert here.fetch(KIND, "k", lambda: "v", tags=["t"]) == "v"
        client.script_flush()
        assert other.get(KIND, "k") == "v"
        client.script_flush()
        invalidate(other, means)
        assert not there(here)
        assert here.set(KIND, "set", 1) is True
    many = {f"k{number}": number for number in range(1200)}
    client.script_flush()
    assert here.fetch_many(KIND, list(many), lambda missing: {key: many[key] for key in missing}) == many
    assert here.is_available
    assert other.get_many(KIND, list(many)) == many


@pytest.mark.slow
def test_behaviour_19__cross_slot(cluster: Cluster, caches: Callable[..., CacheManager]) -> None:
    """Keys of all slots in one call; each way to invalidate reaches all nodes; scripts are forgotten at any moment."""
    here, other = (caches(cluster.url) for _ in range(2))
    many = {f"k{number}": number for number in range(600)}
    assert here.fetch_many(KIND, list(many), lambda missing: {key: many[key] for key in missing}) == many
    for means in MEANS:
        for node in cluster.masters:
            node.client().script_flush()
        assert here.set_many(KIND, many, tags=["t"])
        assert other.get_many(KIND, list(many)) == many
        invalidate(other, means, key="k1")
        gone = {
            key
            for key in many
            if means not in ("key", "pattern") or key == "k1" or (means == "pattern" and key[:2] == "k1")
        }
        assert here.get_many(KIND, list(many)) == {key: number for key, number in many.items() if key not in gone}
    assert here.is_available
    assert other.is_available


def test_behaviour_19__readonly(private_server: Callable[..., Server], caches: Callable[..., CacheManager]) -> None:
    """A master that became a replica: no answer of it is used, nothing is lost, and it is used again as a master."""
    server, successor = private_server(), private_server()
    here = caches(server.url)
    here.fetch(KIND, "k", lambda: "old", tags=["t"])
    here.fetch(KIND, "kept", lambda: "kept")
    client = server.client()
    client.replicaof("127.0.0.1", str(successor.port))
    here.invalidate_tags("t")
    assert not here.is_available
    assert not there(here)
    assert here.fetch(KIND, "k", lambda: "loaded without it") == "loaded without it"
    client.replicaof("NO", "ONE")
    wait_until(lambda: here.is_available, timeout=PATIENCE, what="recovered")
    assert not there(here)
    assert here.fetch(KIND, "k", lambda: "new") == "new"


def test_behaviour_19__foreign_keys(server: Server, caches: Callable[..., CacheManager]) -> None:
    """Whatever is cleared and however, the keys of others are as they were, names like ours among them."""
    here, client = caches(server.url), server.client()
    neighbour = caches(server.url, prefix="cache2")
    neighbour.set(KIND, "k", "theirs")
    client.mset({"session:1": "x", "cache": "x", "cachex:kind:k": "x", "cache:kind": "x", "cache:kind:theirs": "x"})
    client.hset("cache:kind:hash", mapping={"f": "x"})
    client.rpush("queue", *range(50))
    before = {name: client.dump(name) for name in client.scan_iter() if not name.startswith((b"cache~", b"cache2~"))}
    for _ in range(2):
        for means in MEANS:
            for key in ("k", "k2"):
                here.set(KIND, key, "ours", tags=["t"])
            invalidate(here, means)
            here.invalidate_pattern("*")
    wait_until(lambda: not client.keys("cache~index:*~*"), timeout=PATIENCE, what="space reclaimed")
    assert not any(there(here, key) for key in ("k", "k2"))
    assert {name: client.dump(name) for name in before} == before
    assert neighbour.get(KIND, "k") == "theirs"
