"""What a server says of itself, and what is said of that."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from flask_rcache.stores.redis.facts import Facts
from tests.servers import Server
from tests.stores.kit import redis_store

Servers = Callable[..., Server]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (Facts("volatile-lru", "redis", "7.0.15", 100), ""),
        (Facts("noeviction", "valkey", "9.1.0", 0), ""),
        (Facts("noeviction", "redis", "7.0.15", 100), "nothing new is cached"),
        (Facts("allkeys-lru", "valkey", "9.1.0", 100), "may evict the record of invalidations"),
        (Facts("volatile-lru", "redis", "6.0.16", 100), "too old"),
        (Facts("volatile-lru", "redis", "5.0.7", 100), "too old"),
        (Facts("volatile-lru", "redis", "6.2.0", 100), ""),
        (Facts("volatile-lru", "valkey", "8.0", 100), ""),
        (Facts(), ""),
    ],
)
def test_warnings(facts: Facts, said: str) -> None:
    """One sentence for each thing that weakens a promise, and none for what does not."""
    assert said in " ".join(facts.warnings)
    assert bool(facts.warnings) is bool(said)


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_warned_once(flavour: str, private_server: Servers, caplog: pytest.LogCaptureFixture) -> None:
    """The log says it at the first connection of a process, once however many follow; and the state says it."""
    server = private_server(flavour, maxmemory="100mb", maxmemory_policy="allkeys-lru")
    store = redis_store(server.url)
    with caplog.at_level(logging.WARNING, "flask_rcache"):
        for _ in range(3):
            store.read("cache:search:a", ("c:search",))
            store.pool.close()  # the next call connects anew
    assert len([line for line in caplog.messages if "may evict" in line]) == 1
    shown = store.catalogue.state()["store"]
    assert shown["server"]["name"] == flavour
    assert shown["server"]["maxmemory_policy"] == "allkeys-lru"
    assert shown["server"]["maxmemory"] == 100 * 1024 * 1024
    assert shown["server"]["version"].count(".") == 2
    assert abs(shown["server"]["clock_offset"]) < 5
    (warning,) = shown["warnings"]
    assert "may evict" in warning
    store.close()
