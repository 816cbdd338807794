"""The cluster store: where shards are and how they are followed, what goes together, and whose trouble a node is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from flask_rcache import CacheManager, CacheType
from flask_rcache.model.keys import Names
from flask_rcache.stores.cluster import ClusterStore
from flask_rcache.stores.redis.links import commands_in
from tests.clusters import Cluster
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import SHARDS

pytestmark = pytest.mark.slow

KIND = CacheType("kind", ttl=600)
PATIENCE = 20.0

Caches = Callable[..., CacheManager]


def _store(cache: CacheManager) -> ClusterStore:
    store: Any = cache.engine.store
    assert isinstance(store, ClusterStore)
    return store


def _slot_of(key: str) -> int:
    return key_slot(str(_shard_of(key)).encode())


def _shard_of(key: str) -> int:
    return Names().shard_of(f"cache:kind:{key}", SHARDS)


def _keys_on(cluster: Cluster, node: Server, count: int = 3) -> list[str]:
    """Some keys that lie on a node."""
    found = (f"k{number}" for number in range(10_000))
    return [key for key in (next(found) for _ in range(300)) if cluster.master_of(_slot_of(key)) is node][:count]


def _sent(cluster: Cluster, command: str) -> int:
    total = 0
    for node in cluster.masters:
        stats: Any = node.client().info("commandstats")
        total += stats.get(f"cmdstat_{command}", {}).get("calls", 0)
    return total


# Names


def test_shard_of__variants_lie_where_their_url_does() -> None:
    """A deletion stamps the key on its own shard, and variants have that key as a tag; other keys spread."""
    names, stored = Names(), "cache:page:" + "~" + "0" * 32
    assert names.shard_of(names.variant(stored, "a" * 32), SHARDS) == names.shard_of(stored, SHARDS)
    assert names.shard_of("cache:page:readable~" + "a" * 32, SHARDS) == names.shard_of("cache:page:readable", SHARDS)
    spread = [names.shard_of(f"cache:page:~{number:032x}", SHARDS) for number in range(1000)]
    assert set(spread) == set(range(SHARDS))


def test_commands_in__parts_a_payload() -> None:
    """What is sent in one write is parted into its commands, whatever bytes they have in them."""
    payload = b"*1\r\n$4\r\nTIME\r\n*2\r\n$3\r\nGET\r\n$6\r\n*1\r\n$4\r\n"
    assert commands_in(payload) == [b"*1\r\n$4\r\nTIME\r\n", b"*2\r\n$3\r\nGET\r\n$6\r\n*1\r\n$4\r\n"]


def test_names__nothing_shows_the_shard(cluster: Cluster, caches: Caches) -> None:
    """In the cluster each key has the tag of its shard; listings, patterns and the state have none of it."""
    cache = caches(cluster.url)
    cache.set_many(KIND, {f"k{number}": number for number in range(40)}, tags=["t"])
    places = [key.decode() for node in cluster.masters for key in node.client().scan_iter()]
    assert all("{" in place for place in places)
    assert sum(place.startswith("cache:{") for place in places) == 40
    listed = [entry.key for entry in cache.entries(KIND, "k1*")]
    assert sorted(listed) == sorted(f"cache:kind:{key}" for key in ["k1", *[f"k1{number}" for number in range(10)]])
    assert cache.inspect("cache:kind:k7") is not None
    assert cache.invalidate_pattern("cache:kind:k1*") == 11
    cursor, paged = None, []
    while True:
        page = cache.page(KIND, cursor=cursor, limit=7)
        paged += [entry.key for entry in page.entries]
        cursor = page.cursor
        if cursor is None:
            break
    assert len(paged) == len(set(paged)) == 29
    assert not any("{" in key for key in (*paged, *listed, *cache.overview()["types"]))
    assert cache.overview()["types"]["kind"]["entries"] == 29


# What goes together


def test_invalidate__one_round_to_all_nodes(cluster: Cluster, caches: Caches) -> None:
    """A tag costs one script a shard, all of them in one round; keys in many slots are read in one."""
    cache = caches(cluster.url)
    keys = {f"k{number}": number for number in range(100)}
    cache.set_many(KIND, keys, tags=["t"])
    nodes = _store(cache).nodes
    rounds, scripts = [], []
    for _ in range(10):  # heartbeats may be among them, on a busy machine many
        before, sent = nodes.rounds, _sent(cluster, "evalsha")
        assert cache.invalidate_tags("t") == 1
        rounds.append(nodes.rounds - before)
        scripts.append(_sent(cluster, "evalsha") - sent)
    assert min(rounds) == 1
    assert min(scripts) == SHARDS
    cache.set_many(KIND, keys)
    rounds = []
    for _ in range(10):
        before = nodes.rounds
        assert cache.get_many(KIND, keys) == keys
        rounds.append(nodes.rounds - before)
    assert min(rounds) == 1


def test_idle__one_command_a_shard_and_second(cluster: Cluster, caches: Caches) -> None:
    """An idle process sends a heartbeat for each shard, and asks each node whether its subscription is alive."""
    cache = caches(cluster.url)
    cache.set(KIND, "k", 1)
    time.sleep(1.0)
    before, began = [_sent(cluster, name) for name in ("evalsha", "ping")], time.monotonic()
    time.sleep(4.0)
    beats, pings = (_sent(cluster, name) - was for name, was in zip(("evalsha", "ping"), before, strict=True))
    seconds = time.monotonic() - began + 1
    assert beats <= seconds * SHARDS
    assert pings <= 3 * seconds / 0.6


# Loads that nest


def test_nested__what_is_built_on_another_shard_s_entry(cluster: Cluster, caches: Caches) -> None:
    """An invalidation of what was read on one shard reaches what was built of it on another, however deep."""
    here, other = caches(cluster.url), caches(cluster.url)
    keys = {_shard_of(f"k{number}"): f"k{number}" for number in range(300)}
    assert len(keys) == SHARDS
    chain = list(keys.values())

    def load(at: int) -> int:
        if at == len(chain) - 1:
            return int(here.fetch(KIND, chain[at], lambda: 1, tags=["source"]))
        return int(here.fetch(KIND, chain[at], lambda: load(at + 1) + 1))

    assert load(0) == SHARDS
    assert all(other.get(KIND, key) is not None for key in chain)
    other.invalidate_tags("source")
    assert [key for key in chain if here.get(KIND, key) is not None] == []


# Where the shards are


def test_moved__a_slot_that_moves_under_way(private_cluster: Callable[..., Cluster], caches: Caches) -> None:
    """While the keys of a slot move one by one, and after, everything goes on: hits, loads, and invalidations."""
    cluster = private_cluster()
    here, other = caches(cluster.url), caches(cluster.url)
    keys = _keys_on(cluster, cluster.masters[0], 40)
    slot = _slot_of(keys[0])
    keys = [key for key in keys if _slot_of(key) == slot]
    keys += [f"more{number}" for number in range(2000) if _slot_of(f"more{number}") == slot][:60]
    for key in keys:
        here.set(KIND, key, "old", tags=[key])
    asked: list[Any] = []

    def meanwhile() -> None:
        other.invalidate_tags(keys[0])
        asked.append(here.get(KIND, keys[0]))
        asked.append(here.fetch(KIND, keys[0], lambda: "new"))
        asked.extend(other.fetch(KIND, key, lambda: "old") for key in keys[1:])
        other.delete(KIND, keys[1])
        asked.append(here.get(KIND, keys[1]))

    cluster.move_slot(slot, cluster.masters[1], meanwhile=meanwhile)
    assert asked == [None, "new", *["old"] * (len(keys) - 1), None]
    assert here.get(KIND, keys[0]) in (None, "new")
    wait_until(lambda: here.is_available and other.is_available, timeout=PATIENCE, what="all shards")
    wait_until(
        lambda: here.fetch(KIND, keys[0], lambda: "newer") == other.get(KIND, keys[0]), timeout=PATIENCE, what="it"
    )
    assert other.get(KIND, keys[1]) is None
    shard = here.overview()["topology"]["shards"][_shard_of(keys[0])]
    assert shard["node"] == f"127.0.0.1:{cluster.masters[1].port}"


def test_away__a_node_is_its_shards_trouble(private_cluster: Callable[..., Cluster], caches: Caches) -> None:
    """Keys of a node that is gone are loaded and not stored; the others are hit, also in one call with them."""
    cluster = private_cluster()
    cache = caches(cluster.url, timeout=0.25)
    gone, there = _keys_on(cluster, cluster.masters[0]), _keys_on(cluster, cluster.masters[1])
    every = {key: key for key in (*gone, *there)}
    cache.set_many(KIND, every)
    assert cache.get_many(KIND, every) == every
    cluster.masters[0].kill()
    assert cache.fetch(KIND, gone[0], lambda: "alone") == "alone"
    loaded: list[str] = []

    def load(missing: list[str]) -> dict[str, str]:
        loaded.extend(missing)
        return dict.fromkeys(missing, "alone")

    assert cache.fetch_many(KIND, list(every), load) == {key: "alone" if key in gone else key for key in every}
    assert sorted(loaded) == sorted(gone)
    assert cache.get_many(KIND, every) == {key: key for key in there}
    assert not cache.is_available
    done = cache.invalidate_tags("t")
    assert done.journalled
    state = cache.overview()
    away = [shard for shard in state["topology"]["shards"] if not shard["is_available"]]
    assert {shard["node"] for shard in away} == {f"127.0.0.1:{cluster.masters[0].port}"}
    assert all(shard["pending"] == 1 and shard["since"] for shard in away)
    assert [node["is_available"] for node in state["topology"]["nodes"]].count(False) == 1
    assert all(bool(node["server"]) is node["is_available"] for node in state["topology"]["nodes"])
    # What operators ask is answered for the rest, and says what is missing.
    listed, other = [*cache.entries(KIND)], len(there)
    assert {entry.key for entry in listed} >= {f"cache:kind:{key}" for key in there}
    assert state["types"]["kind"]["entries"] >= other
    paged, cursor = 0, None
    while True:
        page = cache.page(KIND, cursor=cursor, limit=10)
        paged, cursor = paged + len(page.entries), page.cursor
        if cursor is None:
            break
    assert paged == len(listed)
    (missing,) = state["topology"]["missing"]
    assert missing.startswith(f"127.0.0.1:{cluster.masters[0].port} (shards ")
    for key in there:
        cache.set(KIND, key, "again")
        assert cache.get(KIND, key) == "again"


def test_paused__a_node_that_is_silent_costs_each_request_little(
    private_cluster: Callable[..., Cluster], caches: Caches
) -> None:
    """A node that accepts and never answers is asked once, for all of its shards."""
    cluster = private_cluster()
    cache = caches(cluster.url, timeout=0.25)
    keys = [f"k{number}" for number in range(100)]
    cache.set_many(KIND, dict.fromkeys(keys, 1))
    cluster.masters[2].pause()
    try:
        began = time.monotonic()
        for key in keys:
            assert cache.fetch(KIND, key, lambda: 1) == 1
        assert time.monotonic() - began < 3.0
        began = time.monotonic()
        assert sum(1 for _ in cache.entries()) < len(keys)
        assert cache.overview()["types"]["kind"]["entries"] < len(keys)
        assert cache.stats()["scope"] in ("all", "process")
        assert time.monotonic() - began < 3.0
    finally:
        cluster.masters[2].resume()
    wait_until(lambda: cache.is_available, timeout=PATIENCE, what="the node again")


def test_bus__after_a_failover(private_cluster: Callable[..., Cluster], caches: Caches) -> None:
    """The memory tier is subscribed where its shards are: after a failover too, invalidations arrive at once."""
    cluster = private_cluster(replicas=1)
    here, other = (caches(cluster.url, l1_ttl=60) for _ in range(2))
    key = _keys_on(cluster, cluster.masters[0])[0]

    def is_kept() -> bool:
        here.fetch(KIND, key, lambda: "v", tags=["t"])
        return here.engine.store.recall(f"cache:kind:{key}", 60.0) is not None

    wait_until(is_kept, timeout=PATIENCE, what="an entry in the memory tier")
    cluster.fail_over(cluster.replicas[0])
    for _ in range(3):
        wait_until(is_kept, timeout=PATIENCE, what="an entry in the memory tier again")
        other.invalidate_tags("t")
        wait_until(lambda: here.get(KIND, key) is None, timeout=1.5, what="the message")
    shard = here.overview()["topology"]["shards"][_shard_of(key)]
    assert shard["last_failover"]["before"] == f"127.0.0.1:{cluster.masters[0].port}"
    assert shard["node"] == f"127.0.0.1:{cluster.replicas[0].port}"


# What does not fit


def test_shards__another_number(cluster: Cluster, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """A process with another number of shards runs without the cache, and logs one error; the others go on."""
    here = caches(cluster.url)
    here.set_many(KIND, {f"k{number}": number for number in range(50)})
    with caplog.at_level(logging.ERROR, logger="flask_rcache"):
        other = caches(cluster.url, shards=8)
        assert other.fetch(KIND, "k1", lambda: "alone") == "alone"
        assert other.get_many(KIND, ["k1", "k2"]) == {}
        assert not other.set(KIND, "k1", "other")
        wait_until(lambda: not other.is_available, timeout=PATIENCE, what="the refusal")
        time.sleep(1.5)
        assert not any(other.fetch(KIND, f"k{number}", lambda: None) for number in range(50))
    errors = [record.getMessage() for record in caplog.records if "RCACHE_SHARDS" in record.getMessage()]
    assert len(errors) == 1, errors
    assert here.get(KIND, "k1") == 1
    assert here.is_available


def test_url__of_one_server(redis_server: Server, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """A server that is no cluster: the error says so, and what to write."""
    with caplog.at_level(logging.ERROR, logger="flask_rcache"):
        cache = caches(f"redis+cluster://127.0.0.1:{redis_server.port}")
        assert cache.fetch(KIND, "k", lambda: 1) == 1
    assert "is no cluster: write redis:// in RCACHE_URL" in caplog.text


def test_password__of_the_nodes(private_cluster: Callable[..., Cluster], caches: Caches) -> None:
    """User and password are those of all nodes; a wrong one is an error that says so, and no request waits."""
    cluster = private_cluster(requirepass="secret", masterauth="secret")
    places = cluster.url.partition("//")[2]
    right = caches(f"redis+cluster://:secret@{places}")
    assert right.fetch(KIND, "k", lambda: 1) == 1
    assert right.get(KIND, "k") == 1
    wrong = caches(f"redis+cluster://:wrong@{places}")
    assert wrong.fetch(KIND, "k", lambda: 2) == 2
    assert not wrong.is_available


def test_threads__many_at_once(cluster: Cluster, caches: Caches) -> None:
    """Threads that read, load and invalidate on all shards at once get what they loaded, and nothing is mixed up."""
    cache = caches(cluster.url)
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(30):
            key = f"t{number}.{turn}"
            if cache.fetch(KIND, key, lambda key=key: key) != key or cache.get(KIND, key) not in (key, None):  # type: ignore[misc]
                wrong.append(key)
            found = cache.get_many(KIND, [f"t{other}.{turn}" for other in range(8)])
            wrong.extend(f"{name}={value}" for name, value in found.items() if name != value)
            cache.invalidate_tags(f"nobody{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.is_available


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("how", ["hostname", "unknown-endpoint"])
def test_addresses__as_the_nodes_announce_them(
    private_cluster: Callable[..., Cluster], caches: Caches, how: str
) -> None:
    """Nodes that are known by a host name (as certificates want), or by no address of their own (NAT)."""
    cluster = private_cluster(
        masters=2, cluster_announce_hostname="localhost", cluster_preferred_endpoint_type=how, flavour="redis"
    )
    cache = caches(cluster.url)
    keys = {f"k{number}": number for number in range(40)}
    cache.set_many(KIND, keys)
    assert cache.get_many(KIND, keys) == keys
    host = "localhost" if how == "hostname" else "127.0.0.1"
    nodes = {node["address"] for node in cache.overview()["topology"]["nodes"]}
    assert nodes == {f"{host}:{node.port}" for node in cluster.masters}
    slot = key_slot(b"0")
    source = cluster.master_of(slot)
    target = next(node for node in cluster.masters if node is not source)
    cluster.move_slot(slot, target)
    wait_until(
        lambda: cache.set_many(KIND, keys) and cache.get_many(KIND, keys) == keys, timeout=PATIENCE, what="MOVED"
    )
    shard = cache.overview()["topology"]["shards"][0]
    assert shard["node"] == f"{host}:{target.port}"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.chaos
def test_full_coverage__a_master_that_is_missing(private_cluster: Callable[..., Cluster], caches: Caches) -> None:
    """With `cluster-require-full-coverage yes` all nodes refuse everything then: no request fails; it comes back."""
    cluster = private_cluster(cluster_require_full_coverage="yes")
    cache = caches(cluster.url)
    keys = {f"k{number}": number for number in range(40)}
    cache.set_many(KIND, keys)
    cluster.masters[0].kill()

    def refused() -> bool:
        found = cache.fetch_many(KIND, list(keys), lambda missing: {key: keys[key] for key in missing})
        assert found == keys
        return cache.get_many(KIND, keys) == {}

    wait_until(refused, timeout=PATIENCE, what="all shards away")
    cluster.masters[0].restart()
    cluster.wait_well()
    wait_until(
        lambda: cache.set_many(KIND, keys) and cache.get_many(KIND, keys) == keys, timeout=PATIENCE, what="again"
    )
    assert cache.is_available


@pytest.mark.long
@pytest.mark.slow
def test_credentials__that_rotate(private_cluster: Callable[..., Cluster], caches: Caches) -> None:
    """A `credential_provider` is asked for each new connection, of each node: a new password is used from then on."""
    cluster = private_cluster(masters=2, requirepass="first", masterauth="first")

    class Rotating(redis.CredentialProvider):
        password = "first"

        def get_credentials(self) -> tuple[str]:
            return (self.password,)

    provider = Rotating()
    cache = caches(cluster.url, redis_options={"credential_provider": provider})
    assert cache.fetch(KIND, "k", lambda: 1) == 1
    assert cache.get(KIND, "k") == 1
    for node in cluster.nodes:
        node.client().config_set("requirepass", "second")
        node.client(password="second").client_kill_filter(_type="normal", skipme=True)
    provider.password = "second"
    wait_until(lambda: cache.fetch(KIND, "k", lambda: 2) == cache.get(KIND, "k"), timeout=PATIENCE, what="it is used")
    wait_until(lambda: cache.is_available, timeout=PATIENCE, what="all shards")
