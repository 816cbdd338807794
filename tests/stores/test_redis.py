"""What only a shared store can suffer: lost and foreign keys, garbage, eviction, restarts; what it must not keep."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from functools import partial
from importlib import resources
from typing import Any

import pytest
import redis

from flask_rcache.codec import MAGIC, Codec
from flask_rcache.errors import StoreUnavailableError
from flask_rcache.model.entry import Draft
from flask_rcache.model.keys import BARRIER, CLOCK, EPOCH, FLOOR, Names, user_tag, type_tag
from flask_rcache.stores import Begin, Fill
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import Kit, redis_store


def lua(name: str) -> str:
    return (resources.files("flask_rcache.stores.redis") / "lua" / f"{name}.lua").read_text("utf-8")


def stamps(kit: Kit) -> dict[str, float]:
    rows: Any = kit.server().zrange(kit.names.stamps, 0, -1, withscores=True)
    return {name.decode(): score for name, score in rows}


# The stamp set is lost


def test_read__stamps_deleted(shared_kit: Kit) -> None:
    """Without the stamp set nothing is valid; the next load makes a new epoch and works."""
    kit = shared_kit
    kit.load(kit.key(), tags=["eu"])
    in_flight = kit.grant(kit.key("b"))
    epoch = stamps(kit)[EPOCH]
    kit.server().delete(kit.names.stamps)
    assert kit.value(kit.key()) is None
    assert kit.fill(in_flight) is Fill.REFUSED
    kit.load(kit.key(), b"new")
    assert kit.value(kit.key()) == b"new"
    assert stamps(kit)[EPOCH] != epoch
    assert stamps(kit)[FLOOR] > in_flight.as_of


def test_read__stamps_deleted_after_an_invalidation(shared_kit: Kit) -> None:
    """What a lost stamp had made invalid stays invalid, whatever makes the new set."""
    kit = shared_kit
    for maker in ("load", "write", "invalidate", "delete", "pattern"):
        kit.load(kit.key(), b"old")
        kit.store.invalidate((), ["search"])
        kit.server().delete(kit.names.stamps)
        other = kit.key("other", "product")
        if maker == "load":
            kit.load(other)
        elif maker == "write":
            kit.store.write([(other, kit.draft(other))])
        elif maker == "invalidate":
            kit.store.invalidate([user_tag("unrelated")])
        elif maker == "delete":
            kit.store.delete([other])
        else:
            kit.store.invalidate_pattern(*kit.names.pattern("nothing:*"))
        assert kit.value(kit.key()) is None, maker
        kit.load(other)
        assert kit.value(kit.key()) is None, maker


def test_read__flushed(shared_kit: Kit) -> None:
    """FLUSHDB under a load: its fill is refused; then everything goes on."""
    kit = shared_kit
    grant = kit.grant(kit.key())
    kit.store.close()  # a connection made later, to a database without meta, would begin another epoch
    kit.server().flushdb()
    assert kit.fill(grant) is Fill.REFUSED
    kit.load(kit.key())
    assert kit.value(kit.key()) == b"v"


def test_begin__epochs_differ_and_are_exact(shared_kit: Kit) -> None:
    """Each lost set is followed by another name, above every clock reading and exact as a double."""
    kit = shared_kit
    seen = set()
    for _ in range(20):
        epoch = kit.grant(kit.key()).epoch
        assert 2**52 <= epoch < 2**53
        assert stamps(kit)[EPOCH] == epoch
        seen.add(epoch)
        kit.server().delete(kit.names.stamps, kit.names.lease(kit.key()))
    assert len(seen) == 20


def test_begin__server_clock_that_goes_backwards(shared_kit: Kit) -> None:
    """The last reading is in the set: a TIME behind it does not turn the order round (rule R2)."""
    kit = shared_kit
    kit.load(kit.key(), b"old")
    ahead = int(stamps(kit)[CLOCK]) + 3_600_000_000
    kit.server().zadd(kit.names.stamps, {CLOCK: ahead})
    first = kit.grant(kit.key("b"))
    kit.store.invalidate([], ["search"])
    second = kit.grant(kit.key("c"))
    kit.store.write([(kit.key("d"), kit.draft(kit.key("d")))])
    kit.store.delete([kit.key("none")])
    third = kit.grant(kit.key("e"))
    assert ahead < first.as_of < stamps(kit)[type_tag("search")] < second.as_of < third.as_of
    assert kit.fill(first) is Fill.OVERTAKEN
    assert kit.fill(second) is Fill.STORED
    assert kit.value(kit.key("d")) == b"v"
    kit.store.invalidate((), (), everything=True)
    assert kit.value(kit.key("d")) is None
    assert kit.value(kit.key("c")) is None


# Stamps do not pile up


def test_invalidate__prunes_the_oldest_above_the_limit(shared_kit: Kit) -> None:
    """Beyond the number to keep the oldest stamps go and the floor rises to the newest that went."""
    kit = shared_kit
    old = kit.grant(kit.key("old")).as_of
    script = kit.server().register_script(lua("invalidate"))
    at = [
        int(script(keys=[kit.names.stamps, kit.names.soft], args=[kit.names.bus, "", 12, 86400, f"t:{n}"])[1])
        for n in range(40)
    ]
    kept = {name for name in stamps(kit) if not name.startswith("=")}
    assert len(kept) <= 12
    assert f"t:{39}" in kept
    gone = [n for n in range(40) if f"t:{n}" not in kept]
    assert gone == list(range(len(gone)))
    assert stamps(kit)[FLOOR] == at[gone[-1]]
    assert {EPOCH, FLOOR, CLOCK} <= set(stamps(kit))
    # As if it had been loaded before the first of them: invalid through the floor, though its stamp is gone.
    handed = (("t:0", old),)
    assert kit.fill(kit.grant(kit.key()), handed=handed) is Fill.OVERTAKEN


def test_invalidate__prunes_what_is_too_old(shared_kit: Kit) -> None:
    """Stamps older than the seconds to keep go likewise, and their victims stay invalid."""
    kit = shared_kit
    kit.load(kit.key(), tags=["eu"])
    kit.store.invalidate([user_tag("eu")])
    stamp = stamps(kit)[user_tag("eu")]
    assert kit.read(kit.key()).unfit == "invalid"
    script = kit.server().register_script(lua("invalidate"))
    script(keys=[kit.names.stamps, kit.names.soft], args=[kit.names.bus, "", 100000, 0, "t:other"])
    assert user_tag("eu") not in stamps(kit)
    assert stamps(kit)[FLOOR] >= stamp
    assert kit.read(kit.key()).entry is None


def test_fill__trims_expired_index_rows(shared_kit: Kit) -> None:
    """Every row that comes lets up to four expired ones go: the index stays as large as what lives."""
    kit = shared_kit
    index = kit.names.index("search")
    kit.load(kit.key())
    kit.server().zadd(index, {f"cache:search:dead{n}": 1000 + n for n in range(10)})
    kit.load(kit.key("b"))
    assert kit.server().zcard(index) == 2 + 6
    kit.store.write([(kit.key("c"), kit.draft(kit.key("c")))])
    kit.load(kit.key("d"))
    assert kit.server().zcard(index) == 4


def test_fill__expires_with_the_longest_window(shared_kit: Kit) -> None:
    """The server keeps an entry for its ttl and the longer stale window, in ms, and the index says the same."""
    kit = shared_kit
    kit.load(kit.key(), ttl=10.0, stale_while_revalidate=5.0, stale_if_error=20.0)
    assert 16_000 < kit.server().pttl(kit.key()) <= 30_000  # more than the ttl and the shorter window
    score = kit.server().zscore(kit.names.index("search"), kit.key())
    assert score is not None
    assert 16 < score / 1000 - time.time() < 32
    kit.store.write([(kit.key("w"), kit.draft(kit.key("w"), ttl=9.5))])
    assert 0 < kit.server().pttl(kit.key("w")) <= 9_500
    grant = kit.grant(kit.key("l"))
    assert 0 < kit.server().pttl(kit.names.lease(kit.key("l"))) <= 5_000
    kit.store.release([grant], pass_for=20.0)
    assert 5_000 < kit.server().pttl(kit.names.lease(kit.key("l"))) <= 20_000


def test_reclaim__frees_what_was_invalidated(shared_kit: Kit) -> None:
    """The space of an invalidated type comes back soon, off the request path."""
    kit = shared_kit
    keys = [kit.key(f"k{n}") for n in range(1200)]
    kit.store.write([(key, kit.draft(key)) for key in keys])
    kit.load(kit.key("p", "product"))
    assert kit.store.invalidate((), ["search"]) == 1200
    wait_until(lambda: not kit.server().exists(*keys), timeout=10, what="space reclaimed")
    wait_until(lambda: not kit.server().keys("cache~index:search~*"), timeout=10, what="the moved index is gone")
    assert kit.value(kit.key("p", "product")) == b"v"


def test_reclaim__spares_what_came_after(shared_kit: Kit) -> None:
    """An entry loaded after the stamp is not freed with the old ones, even where its row is in the moved index."""
    kit = shared_kit
    kit.load(kit.key("old"))
    kit.load(kit.key("again"))
    stamp = kit.grant(kit.key("tick")).as_of
    kit.store.delete([kit.key("again")])
    kit.load(kit.key("again"), b"new")
    aside = kit.names.index("search") + "~test"
    kit.server().zadd(aside, {kit.key("old"): 1, kit.key("again"): 2, "foreign": 3})
    kit.server().set("foreign", "theirs")
    taken, freed = kit.server().register_script(lua("unlink"))(keys=[aside], args=[stamp, MAGIC])
    assert (taken, freed) == (3, 1)
    assert kit.value(kit.key("again")) == b"new"
    assert kit.server().exists(kit.key("old")) == 0
    assert kit.server().get("foreign") == b"theirs"
    assert not kit.server().exists(aside)


# Foreign keys


def foreign(client: redis.Redis) -> dict[Any, object]:
    """Keys of another application in the same database, some under names that look like ours."""
    client.set("session:abc", "theirs")
    client.set("cached", "theirs")
    client.set("cache:search:theirs", "not an envelope")
    client.set("cache", "theirs")
    client.hset("cache:search:hash", mapping={"f": "1"})
    client.rpush("cachet:search:list", "1")
    client.zadd("other~index:search", {"cache:search:x": 1})
    client.set("cache2:search:a", Codec().seal(Draft(b"theirs", ttl=60.0)))
    return {key: client.dump(key) for key in client.scan_iter()}


def unchanged(client: redis.Redis, before: dict[Any, object]) -> bool:
    return all(client.dump(key) == dump for key, dump in before.items())


def test_invalidate__foreign_keys_survive(shared_kit: Kit) -> None:
    """Another application's keys survive clear_all, every pattern and every type, also under names like ours."""
    kit = shared_kit
    before = foreign(kit.server())
    for id in ("a", "b"):
        kit.load(kit.key(id))
    for pattern in ("*", "cache:*", "search:*", "?*", "[a-z]*", "*:*", "cache:search:*", "*theirs"):
        kit.store.invalidate_pattern(*kit.names.pattern(pattern))
    kit.load(kit.key())
    kit.store.invalidate((), (), everything=True)
    kit.load(kit.key())
    kit.store.invalidate((), ["search"])
    wait_until(lambda: not kit.server().keys("cache~index:*~*"), timeout=10, what="space reclaimed")
    assert kit.value(kit.key()) is None
    assert unchanged(kit.server(), before)


def test_invalidate_pattern__under_eviction_it_walks_the_keys(private_server: Callable[..., Server]) -> None:
    """With allkeys-lru the index may be gone: patterns still find every entry, and leave what is not ours."""
    server = private_server(maxmemory="50mb", maxmemory_policy="allkeys-lru")
    client = server.client()
    kit = Kit(redis_store(server.url), client=client)
    before = foreign(client)
    keys = [kit.key(f"k{n}") for n in range(700)]
    kit.store.write([(key, kit.draft(key)) for key in keys])
    kit.load(kit.key("p", "product"))
    wait_until(lambda: len(client.client_list()) == 3, timeout=10, what="both connections of the store")
    client.delete(kit.names.index("search"), kit.names.index("product"), kit.names.meta)  # evicted
    assert {item.key for item in kit.store.entries(None, None)} == {*keys, kit.key("p", "product")}
    assert kit.store.invalidate_pattern(*kit.names.pattern("search:*")) == 700
    assert kit.value(keys[0]) is None
    assert kit.value(kit.key("p", "product")) == b"v"
    assert unchanged(client, before)
    kit.store.close()


def test_invalidate__two_prefixes_in_one_database(shared_kit: Kit, redis_server: Server) -> None:
    """Two caches under two prefixes do not touch each other, whatever they invalidate."""
    kit = Kit(redis_store(redis_server.url), client=redis_server.client())
    other = Kit(redis_store(redis_server.url, Names("cache2")), Names("cache2"), client=redis_server.client())
    kit.load(kit.key())
    other.load(other.key(), b"other")
    kit.store.invalidate((), (), everything=True)
    kit.store.invalidate_pattern(*kit.names.pattern("*"))
    kit.store.invalidate((), ["search"])
    assert other.value(other.key()) == b"other"
    assert kit.value(kit.key()) is None
    kit.store.close()
    other.store.close()


# Garbage


def bomb() -> bytes:
    """A small body that says it is huge."""
    return Codec(max_size=2**34).seal(Draft(bytes(100_000_000), ttl=60.0))


GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "one byte": lambda whole: b"R",
    "magic only": lambda whole: whole[:4],
    "head cut": lambda whole: whole[:17],
    "meta cut": lambda whole: whole[:40],
    "body cut": lambda whole: whole[:-1],
    "text": lambda whole: b"hello, this is somebody else's value of some length",
    "pickle": lambda whole: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07garbage\x94.",
    "foreign version": lambda whole: whole[:3] + b"\x63" + whole[4:],
    "flipped meta": lambda whole: whole[:33] + b"\xc1" + whole[34:],
    "bomb": lambda whole: bomb()[:4] + whole[4:28] + bomb()[28:],
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_read__garbage(shared_kit: Kit, kind: str) -> None:
    """Bytes that are no entry are a miss that says so, and the next fill overwrites them."""
    kit = shared_kit
    kit.load(kit.key())
    whole = kit.server().get(kit.key())
    assert isinstance(whole, bytes)
    kit.server().set(kit.key(), GARBAGE[kind](whole), px=60_000)
    small = Kit(
        redis_store(kit.store.location, timeout=2.0), kit.names
    )  # a store with the default size cap, as a fresh process
    for each in (kit, small):
        reading = each.read(kit.key())
        assert reading.entry is None
        assert reading.unfit == "garbage"
        assert each.store.read_many([kit.key()], tuple)[0].unfit == "garbage"
        seen = [item.key for item in each.store.entries(None, None)]
        assert seen == ([kit.key()] if kind in ("body cut", "bomb") else [])  # a listing reads no bodies
    kit.load(kit.key(), b"healed")
    assert kit.value(kit.key()) == b"healed"
    small.store.close()


@pytest.mark.parametrize("kind", ["list", "hash", "set", "zset", "stream"])
def test_read__another_kind_of_key(shared_kit: Kit, kind: str) -> None:
    """A key of another kind under an entry's name is a miss, and the next fill replaces it."""
    kit, client = shared_kit, shared_kit.server()
    {
        "list": lambda: client.rpush(kit.key(), "x"),
        "hash": lambda: client.hset(kit.key(), "f", "x"),
        "set": lambda: client.sadd(kit.key(), "x"),
        "zset": lambda: client.zadd(kit.key(), {"x": 1}),
        "stream": lambda: client.xadd(kit.key(), {"f": "x"}),
    }[kind]()
    reading = kit.read(kit.key())
    assert (reading.entry, reading.unfit) == (None, "garbage")
    assert kit.store.read_many([kit.key()], tuple)[0].entry is None
    assert kit.store.trouble is None
    kit.load(kit.key())
    assert kit.value(kit.key()) == b"v"


def test_read__entry_of_the_future(shared_kit: Kit) -> None:
    """An entry whose times were forged to the far future is held to its server's expiry and its epoch."""
    kit = shared_kit
    kit.load(kit.key())
    whole = kit.server().get(kit.key())
    assert isinstance(whole, bytes)
    forged = whole[:4] + struct.pack(">Q", 12345) + whole[12:]
    kit.server().set(kit.key(), forged)
    assert kit.value(kit.key()) is None


# Restarts


def test_attach__same_run_keeps_the_epoch(shared_kit: Kit) -> None:
    """A new process, or a dropped connection, leaves a running server's cache as it is."""
    kit = shared_kit
    kit.load(kit.key())
    assert kit.connect is not None
    assert Kit(kit.connect(), kit.names).value(kit.key()) == b"v"
    assert kit.server().client_kill_filter(_type="normal", skipme=True) >= 2
    assert kit.value(kit.key()) == b"v"
    assert kit.store.trouble is None


def test_attach__another_format_is_refused(redis_server: Server) -> None:
    """Two releases that do not read each other's entries do not share a prefix: the later one stays away."""
    client = redis_server.client()
    client.hset("cache~meta", mapping={"format": "99"})
    kit = Kit(redis_store(redis_server.url), client=client)
    with pytest.raises(StoreUnavailableError, match="RCACHE_PREFIX"):
        kit.read(kit.key())
    kit.store.close()


@pytest.mark.chaos
def test_attach__restart_from_an_old_snapshot(private_server: Callable[..., Server]) -> None:
    """What was invalidated after the snapshot does not come back with it: the epoch is new, for every process."""
    server = private_server("redis", save="3600 1000000")
    writer, reader = (Kit(redis_store(server.url), client=server.client()) for _ in range(2))
    writer.load(writer.key(), b"old")
    writer.load(writer.key("kept"), b"kept")
    assert reader.value(reader.key()) == b"old"
    server.client().save()
    writer.store.invalidate((), ["search"])
    assert reader.value(reader.key()) is None
    server.kill()
    server.restart()
    assert server.client().exists(writer.key()) == 1  # it is there again
    for each in (reader, writer):
        wait_until(partial(reads, each), timeout=10, what="recovered")
        assert each.value(each.key()) is None
    writer.load(writer.key(), b"new")
    assert reader.value(reader.key()) == b"new"
    for each in (writer, reader):
        each.store.close()


def reads(kit: Kit) -> bool:
    try:
        kit.read(kit.key())
    except StoreUnavailableError:
        return False
    return True


@pytest.mark.chaos
def test_attach__promoted_replica_starts_cold(private_server: Callable[..., Server]) -> None:
    """A replica that took over has another run id: what it replicated is given up: an invalidation may be missing."""
    master = private_server("redis", repl_diskless_sync_delay=0)
    kit = Kit(redis_store(master.url), client=master.client())
    kit.load(kit.key(), b"old")
    replica = private_server("redis", replicaof=("127.0.0.1", master.port))
    wait_until(lambda: replica.client().exists(kit.key()) == 1, timeout=10, what="replication")
    master.kill()
    replica.client().replicaof("NO", "ONE")
    promoted = Kit(redis_store(replica.url), client=replica.client())
    assert promoted.value(promoted.key()) is None
    promoted.load(promoted.key(), b"new")
    assert promoted.value(promoted.key()) == b"new"
    kit.store.close()
    promoted.store.close()


def test_begin__barrier_is_in_the_set(shared_kit: Kit) -> None:
    """A pattern leaves its barrier where every process's fills meet it."""
    kit = shared_kit
    assert kit.connect is not None
    early = kit.grant(kit.key())
    Kit(kit.connect(), kit.names).store.invalidate_pattern(*kit.names.pattern("search:*"))
    assert stamps(kit)[BARRIER] > early.as_of
    assert kit.fill(early) is Fill.REFUSED
    assert kit.ask(kit.key()).kind is Begin.GRANTED
