"""TLS on every topology: sentinels, servers and nodes that speak nothing else, with a certificate that is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flask_rcache import CacheManager
from tests.certificates import Certificate
from tests.clusters import Cluster
from tests.processes import wait_until
from tests.sentinels import MakesSentinels

pytestmark = [pytest.mark.long, pytest.mark.chaos, pytest.mark.slow]

Caches = Callable[..., CacheManager]


def is_kept(cache: CacheManager) -> bool:
    """Whether 32 values, on all shards if there are several, are stored and found."""
    keys = [f"k{number}" for number in range(32)]
    cache.fetch_many("search", keys, lambda missing: {key: key for key in missing}, ttl=60)
    return cache.is_available and cache.get_many("search", keys) == {key: key for key in keys}


@pytest.fixture
def tls(tmp_path: Path) -> Certificate:
    """A certificate that no system trusts."""
    return Certificate.made(tmp_path)


def test_sentinels__and_a_failover(sentinels: MakesSentinels, caches: Caches, tls: Certificate) -> None:
    """Sentinels, master and replica with TLS and passwords; after a failover the new master is used, over TLS."""
    trio = sentinels("redis", password="p", sentinel_password="s", tls=tls)
    cache = caches(trio.url, timeout=1.0, sentinel_options=trio.options)
    wait_until(lambda: is_kept(cache), timeout=20, what="the first master")
    trio.master.kill()
    wait_until(lambda: is_kept(cache), timeout=30, what="the second master")
    where: str = cache.overview()["topology"]["server"]
    assert where.endswith(f":{trio.master.port}")


def test_cluster__and_a_failover(private_cluster: Callable[..., Cluster], caches: Caches, tls: Certificate) -> None:
    """Nodes that announce their TLS ports; a replica that takes over is used, over TLS."""
    cluster = private_cluster("redis", masters=3, replicas=1, tls=tls)
    cache = caches(cluster.url, timeout=1.0)
    wait_until(lambda: is_kept(cache), timeout=20, what="all shards")
    cluster.masters[0].kill()
    wait_until(lambda: is_kept(cache), timeout=30, what="all shards again")


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_certificate__that_is_not_trusted(
    request: pytest.FixtureRequest, caches: Caches, tls: Certificate, kind: str
) -> None:
    """Nobody is talked to whose certificate is not known, and the error says so."""
    if kind == "sentinel":
        url = request.getfixturevalue("sentinels")("redis", tls=tls).url
    else:
        url = request.getfixturevalue("private_cluster")("redis", tls=tls).url
    cache = caches(url.partition("?")[0], timeout=1.0)
    assert not cache.set("search", "k", 1)
    assert not cache.is_available
    assert "certificate" in str(cache.overview())
