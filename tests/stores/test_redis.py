"""What only a shared store can suffer: lost and foreign keys, garbage, eviction, restarts, late commands."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ormsgpack
import pytest
import redis
from redis.exceptions import OutOfMemoryError

from flask_rcache.codec.envelope import MAGIC, Codec
from flask_rcache.errors import StoreFullError, StoreUnavailableError
from flask_rcache.model.entry import Draft, Moment
from flask_rcache.model.keys import (
    BARRIER,
    CLOCK,
    EPOCH,
    FLOOR,
    FORGOTTEN,
    RUN,
    TAKEN,
    Names,
    key_tag,
    type_tag,
    user_tag,
)
from flask_rcache.stores.protocol import Begin, Outcome
from flask_rcache.stores.redis import scripts
from tests.codec.test_envelope import marker, response
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import SECOND, Kit, redis_store
from tests.stores.proxy import Proxy

Servers = Callable[..., Server]
#: Since and until when a script's write is wanted: at any time.
WANTED = (0, 2**52)


def lua(name: str) -> str:
    """A script as it is loaded."""
    return scripts.load(name)._text


def call(client: redis.Redis, name: str, keys: list[str], *args: Any) -> Any:
    """Run a script as the store does, without one."""
    return client.eval(lua(name), len(keys), *keys, *args)


def stamps(kit: Kit) -> dict[str, float]:
    rows: Any = kit.server().zrange(kit.names.stamps, 0, -1, withscores=True)
    return {name.decode(): score for name, score in rows}


def rows(kit: Kit) -> dict[str, float]:
    """The rows of the stamp set, without what else is in it."""
    return {name: score for name, score in stamps(kit).items() if name[0] not in "=~"}


def beat(kit: Kit, *, limit: int = 100_000, most: int = 500) -> list[int]:
    keys = [kit.names.stamps, kit.names.loads]
    return [int(part) for part in call(kit.server(), "beat", keys, 2**52 + 7, 5000, limit, most, 2**52)]


def own_threads(others: frozenset[threading.Thread]) -> list[str]:
    """The threads of caches that were not there before."""
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("flask_rcache")]
    return [thread.name for thread in ours if thread not in others]


# The stamp set


def test_stamps__what_is_in_the_set(shared_kit: Kit) -> None:
    """Rows and times are readings of the clock; names and times of dropping are below zero, outside of their range."""
    kit = shared_kit
    kit.load(kit.key(), tags=["eu"], ttl=60.0)
    kit.store.invalidate([user_tag("us")])
    kit.store.delete([kit.key("gone")])
    kit.store.invalidate_pattern(*kit.names.pattern("nothing:*"))
    found = stamps(kit)
    times = {CLOCK, FLOOR, FORGOTTEN, BARRIER, TAKEN}
    tags = {type_tag("search"), user_tag("eu"), user_tag("us"), key_tag(kit.key("gone"))}
    assert set(found) == {EPOCH, RUN, *times, *tags, *("~" + tag for tag in tags)}
    assert all(2**52 <= -found[name] < 2**53 for name in (EPOCH, RUN))
    assert all(0 < found[name] <= found[CLOCK] < 2**52 for name in times | tags)
    for tag, least in ((user_tag("eu"), 360), (user_tag("us"), 300), (key_tag(kit.key("gone")), 300)):
        assert least - 30 < (-found["~" + tag] - found[CLOCK]) / SECOND <= least, tag


def test_stamps__a_fill_makes_each_row_at_forgotten(shared_kit: Kit) -> None:
    """What is known of a tag without a row (R1.3): at a later one, what was loaded before would look invalidated."""
    kit = shared_kit
    early = kit.moment()
    beat(kit)
    kit.store.write([(kit.key("tick"), kit.draft(kit.key("tick")))], None)
    started = kit.start(kit.key())
    assert started.moment.clock > early.clock
    assert kit.fill(started, inherited=((user_tag("part"), early.clock),)) is Outcome.STORED
    forgotten = stamps(kit)[FORGOTTEN]
    assert forgotten <= early.clock
    assert rows(kit)[user_tag("part")] == rows(kit)[type_tag("search")] == forgotten
    assert kit.write(kit.key("c"), moment=early) is Outcome.STORED
    kit.store.invalidate([user_tag("part")])
    stamp = rows(kit)[user_tag("part")]
    kit.load(kit.key("b"), tags=["part"])
    assert rows(kit)[user_tag("part")] == stamp > early.clock, "a row that is there stays"


def test_stamps__stamp_ahead_stays(shared_kit: Kit) -> None:
    """No invalidation lowers a row, and clear_all keeps those that are later than its floor (R1.3)."""
    kit = shared_kit
    kit.load(kit.key(), tags=["eu"])
    ahead = int(stamps(kit)[CLOCK]) + 20 * SECOND
    kit.server().zadd(kit.names.stamps, {user_tag("eu"): ahead})
    for invalidate in (
        lambda: kit.store.invalidate([user_tag("eu")]),
        lambda: kit.store.invalidate([], everything=True),
    ):
        invalidate()
        assert rows(kit)[user_tag("eu")] == ahead
        started = kit.start(kit.key("b"))
        assert kit.fill(started, tags=["eu"]) is Outcome.OVERTAKEN
    assert set(rows(kit)) == {user_tag("eu")}
    assert kit.store.moment is not None
    assert kit.store.moment.clock < ahead, "a stamp is not a reading of the clock"


@pytest.mark.parametrize("tag", ["c:search", "t:eu"])
@pytest.mark.parametrize("score", ["inf", "4e15", "-5"])
def test_stamps__row_that_makes_no_sense(shared_kit: Kit, tag: str, score: str) -> None:
    """What was stored is invalid; the row is one of now after the next attempt, and all goes on."""
    kit = shared_kit
    kit.load(kit.key(), tags=["eu"])
    kit.server().zadd(kit.names.stamps, {tag: float(score)})
    if score != "-5":
        assert kit.value(kit.key()) is None
    kit.ask(kit.key("b"), tags=["eu"])
    assert 0 < rows(kit)[tag] <= stamps(kit)[CLOCK] + SECOND
    beat(kit)
    wait_until(lambda: kit.moment().clock > rows(kit)[tag], timeout=10, what="a reading")
    kit.load(kit.key(), b"new", tags=["eu"])
    assert kit.value(kit.key()) == b"new"


_LATER = float(2**51)
_OTHERWISE: dict[str, Callable[[Any, str], object]] = {
    "tag": lambda client, name: client.zadd(name, {user_tag("eu"): _LATER}),
    "type": lambda client, name: client.zadd(name, {type_tag("search"): _LATER}),
    "floor": lambda client, name: client.zadd(name, {FLOOR: _LATER}),
    "forgotten": lambda client, name: client.zrem(name, user_tag("eu")) + client.zadd(name, {FORGOTTEN: _LATER}),
    "epoch": lambda client, name: client.zadd(name, {EPOCH: -(2**52 + 5)}),
    "clock gone": lambda client, name: client.zrem(name, CLOCK),
    "set gone": lambda client, name: client.delete(name),
    "another kind": lambda client, name: client.set(name, "theirs"),
}


@pytest.mark.parametrize("change", _OTHERWISE.values(), ids=_OTHERWISE.keys())
def test_read__what_was_valid_is_judged_by_what_is_there_now(
    redis_server: Server, change: Callable[[Any, str], object]
) -> None:
    """The same bytes come back after they were found valid: whatever has changed beside them counts at once (R1.2)."""
    kit = Kit(redis_store(redis_server.url), client=redis_server.client())
    try:
        kit.load(kit.key(), tags=["eu"])
        for _ in range(3):
            assert kit.value(kit.key()) == b"v"
        change(kit.server(), kit.names.stamps)
        assert kit.value(kit.key()) is None
    finally:
        kit.store.close()


def test_clock__server_time_that_goes_backwards(shared_kit: Kit) -> None:
    """The last reading is in the set: a TIME behind it does not turn the order round (rule R2)."""
    kit = shared_kit
    kit.load(kit.key(), b"old")
    ahead = int(stamps(kit)[CLOCK]) + 30 * SECOND
    kit.server().zadd(kit.names.stamps, {CLOCK: ahead})
    kit.read(kit.key())
    first = kit.start(kit.key("b"))
    kit.store.invalidate([], ["search"])
    second = kit.start(kit.key("c"))
    kit.write(kit.key("d"))
    kit.store.delete([kit.key("none")])
    third = kit.start(kit.key("e"))
    assert ahead <= first.moment.clock < rows(kit)[type_tag("search")] <= second.moment.clock < third.moment.clock
    assert kit.fill(first) is Outcome.OVERTAKEN
    assert kit.fill(second) is Outcome.STORED
    assert kit.value(kit.key("d")) == b"v"
    kit.store.invalidate((), (), everything=True)
    assert kit.value(kit.key("d")) is None
    assert kit.value(kit.key("c")) is None


# The stamp set is lost


@pytest.mark.parametrize("how", ["deleted", "flushed", "another kind", "no clock", "garbage"])
def test_lost_set__is_made_anew_by_the_heartbeat_only(shared_kit: Kit, how: str) -> None:
    """R1.7: nothing is valid and nothing is stored until a heartbeat or a connection makes it; then all is cold."""
    kit, client, others = shared_kit, shared_kit.server(), frozenset(threading.enumerate())
    kit.load(kit.key(), b"old", tags=["eu"])
    assert own_threads(others)
    under_way = kit.start(kit.key("b"))
    key, lease = kit.key("b"), kit.names.lease(kit.key("b"))
    held = client.get(lease)
    assert isinstance(held, bytes)
    kit.store.close()  # whose maintenance thread would make it anew, as would a connection of its listener
    wait_until(lambda: not client.pubsub_channels() and not own_threads(others), timeout=10, what="closed")

    def lose() -> None:
        if how == "deleted":
            client.delete(kit.names.stamps)
        elif how == "flushed":
            client.flushdb()
        elif how == "another kind":
            client.set(kit.names.stamps, "theirs")
        elif how == "no clock":
            client.zrem(kit.names.stamps, CLOCK)
        else:
            client.zadd(kit.names.stamps, {EPOCH: float("-inf")})
        client.set(lease, held, px=60_000)

    lose()
    names, sealed = kit.names, Codec().seal(kit.draft(key), as_of=under_way.moment.clock)
    moment = (held.split()[1], under_way.moment.epoch, under_way.moment.clock)
    free = [names.stamps, names.lease("cache:search:c"), "cache:search:c"]
    assert call(client, "begin", free, *WANTED, 5000, "l1", *moment, "", 0) == [b"0", b"0", b"?"]
    entry = [names.stamps, names.meta, lease, key, names.index("search")]
    stored = (60_000, "search", 0, sealed)
    filled = call(client, "fill", entry, *WANTED, 100, under_way.lease.token, *moment, *stored)
    assert filled == [b"0", b"0", Outcome.REFUSED.value]
    assert client.exists(lease) == 0
    written = call(client, "write", entry, *WANTED, 100, names.bus, "", 0, 0, "*", *stored)
    assert written[3:] == [Outcome.REFUSED.value]
    assert call(client, "invalidate", [names.stamps], names.bus, "t", 100, user_tag("eu"))[0] == b"0"
    keys = [names.stamps, lease, key, names.index("search")]
    assert call(client, "delete", keys, names.bus, 100, 1, "", 0)[0] == b"0"
    epoch, clock, *_ = beat(kit)
    assert epoch == 2**52 + 7
    found = stamps(kit)
    assert 2**52 <= -found.pop(RUN) < 2**53
    assert found == {EPOCH: -epoch, **dict.fromkeys((CLOCK, FLOOR, FORGOTTEN, TAKEN), clock)}
    assert clock > under_way.moment.clock
    assert kit.value(kit.key()) is None
    assert kit.store.moment is not None
    assert kit.store.moment.epoch != under_way.moment.epoch


def test_lost_set__a_running_store_heals_within_a_second(shared_kit: Kit) -> None:
    """Nobody connects and nobody restarts anything."""
    kit = shared_kit
    kit.load(kit.key(), b"old")
    kit.store.invalidate((), ["search"])
    kit.server().delete(kit.names.stamps)
    assert kit.value(kit.key()) is None
    wait_until(lambda: EPOCH in stamps(kit), timeout=10, what="a heartbeat")
    wait_until(lambda: kit.ask(kit.key("x")).kind is Begin.GRANTED, timeout=10, what="a moment of the new epoch")
    assert kit.value(kit.key()) is None
    kit.load(kit.key(), b"new")
    assert kit.value(kit.key()) == b"new"
    assert kit.store.incident is None


def test_lost_set__epochs_differ_and_are_exact(shared_kit: Kit) -> None:
    """Each lost set is followed by another name, above every clock reading and exact as a double."""
    kit = shared_kit
    assert kit.connect is not None
    seen = set()
    for _ in range(10):
        moment = kit.connect().hear()
        assert moment is not None
        assert 2**52 <= moment.epoch < 2**53
        assert stamps(kit)[EPOCH] == -moment.epoch
        seen.add(moment.epoch)
        kit.server().delete(kit.names.stamps)
    assert len(seen) == 10


# Rows are dropped (R1.4)


def with_rows(kit: Kit, due: dict[str, float]) -> dict[str, float]:
    """Rows by tag with the seconds from now until they are due; the stamps grow in the given order."""
    kit.moment()
    kit.store.close()
    now = stamps(kit)[CLOCK]
    made = {}
    for number, (tag, seconds) in enumerate(due.items()):
        made[tag] = now - 10_000 + number
        kit.server().zadd(kit.names.stamps, {tag: made[tag], "~" + tag: -(now + seconds * SECOND)})
    return made


def test_rows__due_ones_go_with_the_heartbeat(shared_kit: Kit) -> None:
    """Rows that are due go, at most so many a round, and ``=forgotten`` rises to the latest stamp that went."""
    kit = shared_kit
    made = with_rows(kit, {"t:due": -1, "t:later": 5, "t:long ago": -100, "t:live": 600})
    before = stamps(kit)[FORGOTTEN]
    beat(kit, most=0)
    assert rows(kit) == made
    beat(kit, most=1)
    assert set(rows(kit)) == set(made) - {"t:long ago"}
    assert stamps(kit)[FORGOTTEN] == max(before, made["t:long ago"])
    beat(kit)
    assert set(rows(kit)) == {"t:later", "t:live"} == {name[1:] for name in stamps(kit) if name[0] == "~"}
    assert stamps(kit)[FORGOTTEN] == max(before, made["t:long ago"])


@pytest.mark.parametrize(("limit", "left"), [(3, ["b", "d", "e"]), (2, ["d", "e"]), (1, ["e"])])
def test_rows__above_the_limit(shared_kit: Kit, limit: int, left: list[str]) -> None:
    """First those of no live entry, the oldest first; then the oldest."""
    kit = shared_kit
    made = with_rows(kit, {"b": 700, "d": 800, "a": 100, "e": 900, "c": 200})
    beat(kit, limit=limit)
    assert sorted(rows(kit)) == left
    gone = {tag: stamp for tag, stamp in made.items() if tag not in left}
    assert stamps(kit)[FORGOTTEN] == max(stamps(kit)[FLOOR], *gone.values())


@pytest.mark.slow
def test_rows__any_number_of_invalidations(redis_server: Server) -> None:
    """150,000 unrelated invalidations: the set is bounded, and what was stored before is valid."""
    kit = Kit(redis_store(redis_server.url), client=redis_server.client())
    kit.load(kit.key(), tags=["row:a:1"])
    epoch = kit.moment().epoch
    for start in range(0, 150_000, 10_000):
        kit.store.invalidate([user_tag(f"row:b:{number}") for number in range(start, start + 10_000)])
    assert kit.server().zcard(kit.names.stamps) <= 2 * 100_000 + 10
    assert kit.value(kit.key()) == b"v"
    assert kit.moment().epoch == epoch
    kit.store.invalidate([user_tag("row:a:1")])
    assert kit.value(kit.key()) is None
    kit.store.close()


# The index


def test_fill__trims_the_index(shared_kit: Kit) -> None:
    """Every row that comes lets expired ones go, and some whose entry was evicted: it stays as large as what lives."""
    kit, client = shared_kit, shared_kit.server()
    index, soon = kit.names.index("search"), time.time() * 1000 + 1e6
    kit.load(kit.key())
    client.zadd(index, {f"cache:search:dead{n}": 1000 + n for n in range(10)})
    kit.load(kit.key("b"))
    assert client.zcount(index, 0, 10_000) <= 6
    kit.write(kit.key("c"))
    kit.load(kit.key("d"))
    assert client.zcount(index, 0, 10_000) == 0
    client.zadd(index, {f"cache:search:evicted{n}": soon for n in range(100)})
    kit.store.write([(kit.key(f"k{n}"), kit.draft(kit.key(f"k{n}"))) for n in range(200)], None)
    assert client.zcard(index) < 204 + 40


def test_fill__expires_with_the_longest_window(shared_kit: Kit) -> None:
    """The server keeps an entry for its ttl and the longer stale window, in ms, and the index says the same."""
    kit, client = shared_kit, shared_kit.server()
    kit.load(kit.key(), ttl=10.0, stale_while_revalidate=5.0, stale_if_error=20.0)
    assert 16_000 < client.pttl(kit.key()) <= 30_000  # more than the ttl and the shorter window
    score = client.zscore(kit.names.index("search"), kit.key())
    assert score is not None
    assert 16 < score / 1000 - time.time() < 32
    kit.write(kit.key("w"), ttl=9.5)
    assert 0 < client.pttl(kit.key("w")) <= 9_500
    started = kit.start(kit.key("l"))
    assert 0 < client.pttl(kit.names.lease(kit.key("l"))) <= 5_000
    kit.store.release([started.lease], pass_for=20.0)
    assert 5_000 < client.pttl(kit.names.lease(kit.key("l"))) <= 20_000


@pytest.mark.parametrize("scope", ["type", "everything"])
def test_reclaim__frees_what_was_invalidated(shared_kit: Kit, scope: str) -> None:
    """The space of what was invalidated comes back soon, off the request path."""
    kit, client = shared_kit, shared_kit.server()
    keys = [kit.key(f"k{n}") for n in range(1200)]
    kit.store.write([(key, kit.draft(key)) for key in keys], None)
    kit.load(kit.key("p", "product"))
    if scope == "type":
        assert kit.store.invalidate((), ["search"]) == 1200
    else:
        assert kit.store.invalidate((), everything=True) == 1201
    wait_until(lambda: not client.exists(*keys), timeout=10, what="space reclaimed")
    wait_until(lambda: not client.keys("cache~index:search~*"), timeout=10, what="the moved index is gone")
    assert (kit.value(kit.key("p", "product")) == b"v") == (scope == "type")


def test_reclaim__spares_what_came_after(shared_kit: Kit) -> None:
    """An entry loaded after the stamp is not freed with the old ones, even where its row is in the moved index."""
    kit, client = shared_kit, shared_kit.server()
    kit.load(kit.key("old"))
    kit.load(kit.key("again"))
    kit.store.delete([kit.key("again")])
    stamp = kit.moment().clock
    kit.load(kit.key("again"), b"new")
    aside = kit.names.index("search") + "~test"
    client.zadd(aside, {kit.key("old"): 1, kit.key("again"): 2, "foreign": 3})
    client.set("foreign", "theirs")
    assert call(client, "reclaim", [aside], stamp, MAGIC[:3]) == [3, 1]
    assert kit.value(kit.key("again")) == b"new"
    assert client.exists(kit.key("old")) == 0
    assert client.get("foreign") == b"theirs"
    assert not client.exists(aside)


def test_reclaim__index_in_use(shared_kit: Kit) -> None:
    """An index that got a row since the stamp is not moved: what lives must be found in it."""
    kit, client = shared_kit, shared_kit.server()
    index, tag = kit.names.index("search"), type_tag("search")
    kit.load(kit.key("old"))
    call(client, "invalidate", [kit.names.stamps], kit.names.bus, "t", 100, tag)
    keys = [kit.names.stamps, index, index + "~test"]
    kit.read(kit.key("old"))
    kit.load(kit.key("new"))
    assert call(client, "aside", keys, tag) == [0, 2]
    assert client.zrange(index, 0, -1) == [kit.key("old").encode(), kit.key("new").encode()]
    stamp = int(rows(kit)[tag])
    assert call(client, "reclaim", [index], stamp, MAGIC[:3], kit.key("old"), kit.key("new")) == [2, 1]
    assert client.zrange(index, 0, -1) == [kit.key("new").encode()]
    assert kit.value(kit.key("new")) == b"v"
    call(client, "invalidate", [kit.names.stamps], kit.names.bus, "t", 100, tag)
    assert call(client, "aside", keys, tag) == [1, 1]
    assert client.exists(index, index + "~test") == 1


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


def test_invalidate_pattern__under_eviction_it_walks_the_keys(private_server: Servers) -> None:
    """With allkeys-lru the index may be gone: patterns still find every entry, and leave what is not ours."""
    server = private_server(maxmemory="50mb", maxmemory_policy="allkeys-lru")
    client = server.client()
    kit = Kit(redis_store(server.url), client=client)
    before = foreign(client)
    keys = [kit.key(f"k{n}") for n in range(700)]
    kit.store.write([(key, kit.draft(key)) for key in keys], None)
    kit.load(kit.key("p", "product"))
    client.delete(kit.names.index("search"), kit.names.index("product"), kit.names.meta)  # evicted
    assert {item.key for item in kit.store.catalogue.entries(None, None)} == {*keys, kit.key("p", "product")}
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


def timed(raw: bytes) -> Callable[[bytes], bytes]:
    """An envelope that the codec would not write, with the times of the one that it replaces."""
    return lambda whole: raw[:4] + whole[4:28] + raw[28:]


GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "one byte": lambda whole: b"R",
    "magic only": lambda whole: whole[:4],
    "head cut": lambda whole: whole[:17],
    "meta cut": lambda whole: whole[:50],
    "body cut": lambda whole: whole[:-1],
    "text": lambda whole: b"hello, this is somebody else's value of some length",
    "pickle": lambda whole: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07garbage\x94.",
    "version 1": lambda whole: whole[:3] + b"\x01" + whole[4:],
    "foreign version": lambda whole: whole[:3] + b"\x63" + whole[4:],
    "flipped tags": lambda whole: whole[:37] + b"\xc1" + whole[38:],
    "bomb": lambda whole: bomb()[:4] + whole[4:28] + bomb()[28:],
    "created in the future": lambda whole: whole[:20] + struct.pack(">Q", 2**52) + whole[28:],
    "status 000": timed(response("000 NOTHING")),
    "header with CR LF": timed(response(headers=["A", "b\r\nSet-Cookie: a=b"])),
    "Age of words": timed(response(headers=["AGE", "x"])),
    "marker of everything": timed(marker(["*"])),
}
#: Listings read no bodies; of the rest they see what a lookup sees.
LISTED = {"body cut", "bomb"}


@pytest.mark.parametrize("kind", GARBAGE)
def test_read__garbage(shared_kit: Kit, kind: str) -> None:
    """Bytes that are no entry as a whole are a miss that says so, and the next fill overwrites them."""
    kit = shared_kit
    kit.load(kit.key())
    whole = kit.server().get(kit.key())
    assert isinstance(whole, bytes)
    kit.server().set(kit.key(), GARBAGE[kind](whole), px=60_000)
    assert kit.connect is not None
    for each in (kit, Kit(kit.connect(), kit.names)):
        lookup = each.read(kit.key())
        assert (lookup.entry, lookup.reason) == (None, "garbage")
        assert each.store.read_many([kit.key()], kit.tags(kit.key()))[0].reason == "garbage"
        seen = [item.key for item in each.store.catalogue.entries(None, None)]
        assert seen == ([kit.key()] if kind in LISTED or kind == "created in the future" else [])
    assert kit.store.incident is None
    kit.load(kit.key(), b"healed")
    assert kit.value(kit.key()) == b"healed"


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
    lookup = kit.read(kit.key())
    assert (lookup.entry, lookup.reason) == (None, "garbage")
    assert kit.store.read_many([kit.key()], ())[0].entry is None
    assert kit.store.incident is None
    kit.load(kit.key())
    assert kit.value(kit.key()) == b"v"


def test_read__another_epoch(shared_kit: Kit) -> None:
    """An entry whose epoch was forged is none of this set's."""
    kit = shared_kit
    kit.load(kit.key())
    whole = kit.server().get(kit.key())
    assert isinstance(whole, bytes)
    kit.server().set(kit.key(), whole[:4] + struct.pack(">Q", 2**52 + 5) + whole[12:])
    assert kit.read(kit.key()).reason == "invalid"


# Many tags (R1.6)


def many_tagged(kit: Kit, count: int = 500) -> list[str]:
    """Load an entry with many tags and read it until the process knows them."""
    tags = [f"row:{number}" for number in range(count)]
    kit.load(kit.key(), tags=tags)
    assert [kit.value(kit.key()) for _ in range(3)] == [b"v"] * 3
    return tags


@pytest.mark.parametrize("meanwhile", [1, 50, 64, 1000])
def test_many_tags__unrelated_invalidations(shared_kit: Kit, meanwhile: int) -> None:
    """More later rows than one question brings: all tags are checked, and the entry is valid; then it is not."""
    kit = shared_kit
    tags = many_tagged(kit)
    for turn in range(3):
        kit.store.invalidate([user_tag(f"other:{turn}:{number}") for number in range(meanwhile)])
        assert [kit.value(kit.key()) for _ in range(3)] == [b"v"] * 3
    kit.store.invalidate([user_tag(tags[-1]), *(user_tag(f"more:{number}") for number in range(meanwhile))])
    assert [kit.value(kit.key()) for _ in range(3)] == [None] * 3


@pytest.mark.parametrize(
    "how", ["everything", "lost", "row dropped", "another fill", "fewer tags", "deleted", "garbage"]
)
def test_many_tags__what_else_may_happen(shared_kit: Kit, how: str) -> None:
    """What a process remembers of an entry with many tags is never trusted beyond that very fill."""
    kit, client = shared_kit, shared_kit.server()
    tags = many_tagged(kit)
    assert kit.connect is not None
    other = Kit(kit.connect(), kit.names)
    if how == "everything":
        other.store.invalidate((), everything=True)
    elif how == "lost":
        client.delete(kit.names.stamps)
    elif how == "row dropped":
        other.store.invalidate([user_tag(tags[7])])
        stamp = rows(kit)[user_tag(tags[7])]
        client.zrem(kit.names.stamps, user_tag(tags[7]), "~" + user_tag(tags[7]))
        client.zadd(kit.names.stamps, {FORGOTTEN: stamp})
    elif how == "another fill":
        other.store.invalidate([user_tag(tags[7])])
        other.load(kit.key(), b"new", tags=tags[:300])
    elif how == "fewer tags":
        other.store.invalidate([user_tag(tags[7])])
        other.load(kit.key(), b"new", tags=tags[:3])
    elif how == "deleted":
        other.store.delete([kit.key()])
    else:
        client.set(kit.key(), client.get(kit.key())[:-1])  # type: ignore[index]
    expected = b"new" if how in ("another fill", "fewer tags") else None
    assert [kit.value(kit.key()) for _ in range(3)] == [expected] * 3
    if expected is not None:
        kit.store.invalidate([user_tag(tags[1])])
        assert kit.value(kit.key()) is None


# Late commands (R4.4)


def test_deadline__scripts_refuse_what_comes_late_or_from_a_clock_set_back(shared_kit: Kit) -> None:
    """Before and after the time in which it is wanted a write changes nothing, and says what time it is."""
    kit, client = shared_kit, shared_kit.server()
    moment = kit.moment()
    names, key = kit.names, kit.key()
    sealed = Codec().seal(kit.draft(key), as_of=moment.clock)
    run = int(-stamps(kit)[RUN])
    client.set(names.lease(key), f"l1 {run} {moment.epoch} {moment.clock} 0", px=60_000)
    one = [names.stamps, names.meta, names.lease(key), key, names.index("search")]
    now = int(time.time() * SECOND)
    for window in ((0, now - 5 * SECOND), (now + 60 * SECOND, now + 90 * SECOND)):
        for name, keys, args in (
            ("begin", [names.stamps, names.lease(kit.key("b")), kit.key("b")], [5000, "l2", run, *moment[:2], "", 0]),
            ("fill", one, [100, "l1", run, *moment[:2], 60_000, "search", 0, sealed]),
            ("write", one, [100, names.bus, "", 0, 0, "*", 60_000, "search", 0, sealed]),
            ("release", [names.lease(key)], [0, "p", "l1"]),
            ("count", [names.costs, names.log, names.stats("search")], [0, 0, 1, "hits", 1]),
        ):
            state, heard = call(client, name, keys, *window, *args)
            assert state == b"late", name
            assert abs(int(heard) - now) < 30 * SECOND
    assert client.exists(key, names.lease(kit.key("b")), names.stats("search")) == 0
    assert client.exists(names.lease(key)) == 1


def test_deadline__an_old_reading_is_renewed(shared_kit: Kit) -> None:
    """A process that was kept from hearing the time (suspended, starved) writes at the second attempt."""
    kit = shared_kit
    kit.moment()
    store: Any = kit.store
    for off in (-3600, 3600):
        store._server.clock.heard_time(int((time.time() + off) * SECOND))
        kit.load(kit.key(f"k{off}"))
        assert kit.value(kit.key(f"k{off}")) == b"v"
    assert kit.store.incident is None


class Holding:
    """A network that holds back what is on the connections there are, and delivers it later, as TCP does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._holds, self._let_go = threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.let_go()
        self._listener.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        self._holds.set()

    def let_go(self) -> None:
        self._let_go.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError), self._listener:
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                for source, target in ((client, server), (server, client)):
                    arguments = (source, target, source is client)
                    threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_upward: bool) -> None:
        with contextlib.suppress(OSError), source:
            while data := source.recv(65536):
                if is_upward and self._holds.is_set():
                    self._let_go.wait(30)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.mark.chaos
@pytest.mark.parametrize("late", ["write", "begin", "release"])
def test_deadline__what_was_reported_as_failed_never_happens(redis_server: Server, late: str) -> None:
    """The network keeps a command back until it was reported as failed; when it is let go, it changes nothing."""
    with Holding(redis_server.port) as network:
        kit, other = Kit(redis_store(network.url, timeout=0.3)), Kit(redis_store(redis_server.url))
        client = redis_server.client()
        kit.load(kit.key("other"))  # the scripts are loaded, and the type has its row
        kit.mark(kit.key("other b"))
        started = kit.start(kit.key("begun"))
        act: Callable[[], object] = {
            "write": lambda: kit.write(kit.key(), b"late"),
            "begin": lambda: kit.ask(kit.key("wanted"), moment=started.moment),
            "release": lambda: kit.store.release([started.lease], pass_for=60.0),
        }[late]
        network.hold()
        with pytest.raises(StoreUnavailableError):
            act()
        other.write(kit.key(), b"new")
        network.let_go()
        time.sleep(0.5)
        assert other.value(kit.key()) == b"new"
        assert not client.exists(kit.names.lease(kit.key("wanted")))
        assert client.get(kit.names.lease(kit.key("begun"))) != b"p" + started.lease.token[1:].encode()
        for each in (kit, other):
            each.store.close()


# No room


def test_full_server(private_server: Servers) -> None:
    """With noeviction: hits and leases are given, invalidations taken, fills refused; their leases end all the same."""
    server = private_server(maxmemory="6mb", maxmemory_policy="noeviction")
    client = server.client()
    kit = Kit(redis_store(server.url), client=client)
    for id in ("a", "b", "c", "d"):
        kit.load(kit.key(id), tags=[id])
    kit.load(kit.key("p", "product"))
    fill_up(client)
    started = kit.start(kit.key("new"))
    with pytest.raises(StoreFullError, match="maxmemory"):
        kit.fill(started, b"x" * 5000)
    with pytest.raises(StoreFullError):
        kit.write(kit.key("new"), b"x" * 5000)
    assert kit.store.incident is not None
    assert kit.value(kit.key("new")) is None
    assert not client.exists(kit.names.lease(kit.key("new")))
    assert kit.value(kit.key("a")) == b"v"
    kit.store.invalidate([user_tag("a")])
    kit.store.delete([kit.key("b")])
    kit.store.invalidate_pattern(*kit.names.pattern("search:c"))
    kit.store.invalidate([], ["product"])
    found = {id: kit.value(kit.key(id)) for id in ("a", "b", "c", "d")}
    assert found == {"a": None, "b": None, "c": None, "d": b"v"}
    assert kit.value(kit.key("p", "product")) is None
    kit.store.invalidate((), everything=True)
    assert kit.value(kit.key("d")) is None
    client.delete(*[f"foreign:{number}" for number in range(30)])
    wait_until(lambda: kit.store.incident is None, timeout=10, what="room found by the maintenance thread")
    kit.load(kit.key("new"))
    kit.store.close()


def fill_up(client: redis.Redis) -> None:
    """Fill it, and then some: nothing that the server frees by itself makes room."""
    number = 0
    for size in (100_000, 10_000, 1_000, 100):
        try:
            while True:
                number += 1
                client.set(f"foreign:{number}", "x" * size)
        except OutOfMemoryError:
            continue
    client.config_set("maxmemory", "5mb")


# Servers, and runs of a server


def test_attach__same_run_keeps_the_epoch(shared_kit: Kit) -> None:
    """A new process, or a dropped connection, leaves a running server's cache as it is."""
    kit = shared_kit
    kit.load(kit.key())
    assert kit.connect is not None
    assert Kit(kit.connect(), kit.names).value(kit.key()) == b"v"
    assert kit.server().client_kill_filter(_type="normal", skipme=True) >= 2
    assert kit.value(kit.key()) == b"v"
    assert kit.store.incident is None


def test_attach__moments_are_of_a_server_run(redis_server: Server) -> None:
    """Lost connections end no moment, as long as they lead to the same server again (R4.4)."""
    kit = Kit(redis_store(redis_server.url))
    first = kit.start(kit.key())
    kit.store.pool.end_generation(StoreUnavailableError("for the test"))  # type: ignore[attr-defined]
    assert kit.store.moment is None
    assert kit.ask(kit.key("b"), moment=first.moment).kind is Begin.GRANTED
    assert kit.fill(first) is Outcome.STORED
    assert kit.write(kit.key("c"), moment=first.moment) is Outcome.STORED
    kit.store.invalidate([], ["search"])
    assert kit.write(kit.key("c"), moment=first.moment) is Outcome.OVERTAKEN
    assert kit.moment().generation != first.moment.generation
    unknown = first.moment._replace(generation=77)
    assert kit.ask(kit.key("d"), moment=unknown).kind is Begin.UNSTORABLE
    assert kit.write(kit.key("d"), moment=unknown) is Outcome.REFUSED
    kit.store.close()


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_attach__another_format_is_refused(flavour: str, request: pytest.FixtureRequest) -> None:
    """Two releases that do not understand each other's invalidations share no prefix: the later one stays away."""
    server: Server = request.getfixturevalue(f"{flavour}_server")
    client = server.client()
    client.hset("cache~meta", mapping={"format": "1"})
    kit = Kit(redis_store(server.url), client=client)
    with pytest.raises(StoreUnavailableError, match="RCACHE_PREFIX"):
        kit.read(kit.key())
    kit.store.close()


@pytest.mark.chaos
def test_attach__restart_from_an_old_snapshot(private_server: Servers) -> None:
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
@pytest.mark.parametrize(("mode", "behind", "kept"), [("cold", 0, False), ("warm", 0, True), ("warm", 60, False)])
def test_attach__promoted_replica(private_server: Servers, mode: str, behind: int, kept: bool) -> None:
    """A replica that took over has another run id: what it has is given up, as an invalidation may be missing.

    ``warm`` keeps it, if the set's clock is at most 20 s behind the server's TIME. A moment of the old master is of no
    use in any case: its clock is another one.
    """
    master = private_server("redis", repl_diskless_sync_delay=0)
    with Proxy(master.port) as address:
        kit = Kit(redis_store(address.url, cold=mode == "cold", lease=60.0), client=master.client())
        kit.load(kit.key(), b"old")
        before = kit.start(kit.key("b"))
        replica = private_server("redis", replicaof=("127.0.0.1", master.port))
        client = replica.client()
        wait_until(lambda: client.exists(kit.key()) == 1, timeout=10, what="replication")
        address.cut()
        client.replicaof("NO", "ONE")
        promoted = Kit(kit.store, client=client)
        client.zadd(kit.names.stamps, {CLOCK: stamps(promoted)[CLOCK] - behind * SECOND})
        address.aim(replica.port)
        address.mend()
        wait_until(partial(reads, kit), timeout=10, what="the other server")
        assert kit.value(kit.key()) == (b"old" if kept else None)
        assert (kit.moment().epoch == before.moment.epoch) is kept
        assert kit.ask(kit.key("c"), moment=before.moment).kind is Begin.UNSTORABLE
        assert kit.fill(before) is Outcome.REFUSED
        promoted.load(kit.key("d"), b"new")
        assert kit.value(kit.key("d")) == b"new"
        kit.store.close()


@pytest.mark.chaos
def test_attach__returning_to_a_server_makes_it_cold(private_server: Servers) -> None:
    """Who is sent to another server and back gives up what the first has: it did not hear what was invalidated."""
    first, second = private_server(), private_server()
    with Proxy(first.port) as address:
        kit = Kit(redis_store(address.url, journal_keep=0.0), client=first.client())
        kit.load(kit.key(), b"old")

        def move(to: Server) -> None:
            address.cut()
            address.aim(to.port)
            address.mend()
            wait_until(partial(reads, kit), timeout=10, what="the other server")

        move(second)
        kit.store.invalidate((), ["search"])
        move(first)
        assert kit.value(kit.key()) is None
        kit.store.close()


@pytest.mark.chaos
def test_attach__what_was_acknowledged_just_now_is_sent_to_the_next_server(private_server: Servers) -> None:
    """An old master may have acknowledged it, and the new one has what another process loaded before (Outages 6)."""
    first, second = private_server(), private_server()
    with Proxy(first.port) as address:
        kit = Kit(redis_store(address.url), client=first.client())
        other = Kit(redis_store(second.url), client=second.client())
        kit.moment()
        other.load(other.key(), b"old", tags=["eu"])
        other.load(other.key("kept"), b"kept")
        kit.store.invalidate([user_tag("eu")])
        address.cut()
        address.aim(second.port)
        address.mend()
        wait_until(partial(reads, kit), timeout=10, what="the other server")
        assert other.value(other.key()) is None
        assert kit.value(kit.key()) is None
        assert kit.value(kit.key("kept")) == b"kept"
        for each in (kit, other):
            each.store.close()


def test_begin__a_lease_ends_by_itself(shared_kit: Kit) -> None:
    """A holder that has crashed holds others up for the lease, and no longer."""
    kit = shared_kit
    kit.start(kit.key())
    assert 0 < kit.server().pttl(kit.names.lease(kit.key())) <= kit.store.lease_seconds * 1000


def test_begin__barrier_is_in_the_set(shared_kit: Kit) -> None:
    """A pattern leaves its barrier where every process's fills meet it; what begins afterwards is after it."""
    kit = shared_kit
    assert kit.connect is not None
    early = kit.start(kit.key())
    other = Kit(kit.connect(), kit.names)
    other.store.invalidate_pattern(*kit.names.pattern("search:*"))
    assert stamps(kit)[BARRIER] >= early.moment.clock
    assert kit.fill(early) is Outcome.REFUSED
    other.load(kit.key("b"))
    wait_until(lambda: kit.moment().clock > stamps(kit)[BARRIER], timeout=10, what="a reading over the bus")
    kit.load(kit.key())


# What is heard


def test_moment__comes_over_the_bus(shared_kit: Kit) -> None:
    """A process that asks nothing hears the clock with each invalidation made elsewhere (R3.1)."""
    kit = shared_kit
    kit.moment()
    assert kit.connect is not None
    other = kit.connect()
    store: Any = kit.store
    wait_until(lambda: store.bus.state == "alive", timeout=10, what="the bus")
    store._server._housekeeper.stop()  # whose heartbeat would bring it as well, a second later
    for _ in range(5):
        other.invalidate([user_tag("eu")])
        stamp = rows(kit)[user_tag("eu")]
        wait_until(lambda stamp=stamp: kit.moment().clock >= stamp, timeout=15, what="the message")  # type: ignore[misc]


class Listener:
    """What a memory tier is sent."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.distrusted = threading.Event()

    def apply(self, message: Any) -> None:
        self.messages.append(message)

    def distrust(self) -> None:
        self.distrusted.set()


def test_listener__has_own_invalidations_before_the_call_returns(shared_kit: Kit) -> None:
    """Of each kind, with the names, the stamp and the clock; and not when the server did not acknowledge it."""
    kit = shared_kit
    listener = Listener()
    kit.moment()
    kit.store.listener = listener  # type: ignore[attr-defined]
    for kind, names, act in (
        ("t", (user_tag("eu"),), lambda: kit.store.invalidate([user_tag("eu")])),
        ("t", (type_tag("search"),), lambda: kit.store.invalidate((), ["search"])),
        ("*", (), lambda: kit.store.invalidate((), everything=True)),
        ("k", (kit.key(),), lambda: kit.store.delete([kit.key()])),
        ("p", ("cache:search:*",), lambda: kit.store.invalidate_pattern(*kit.names.pattern("search:*"))),
        ("k", (kit.key(),), lambda: kit.write(kit.key())),
    ):
        listener.messages.clear()
        act()
        # What came before may come once more, over the bus.
        message = next(each for each in listener.messages if (each.kind, each.names) == (kind, names))
        assert message.epoch == -stamps(kit)[EPOCH]
        assert 0 < message.stamp <= message.clock <= stamps(kit)[CLOCK]
        assert kit.store.moment is not None
        assert kit.store.moment.clock >= message.clock


def test_listener__nonsense_on_the_channel(shared_kit: Kit) -> None:
    """A message of the far future is not passed on and moves no moment: the listener distrusts what it held, once."""
    kit = shared_kit
    listener = Listener()
    moment = kit.moment()
    kit.store.listener = listener  # type: ignore[attr-defined]
    wait_until(lambda: kit.store.bus.state == "alive", timeout=10, what="the bus")  # type: ignore[attr-defined]
    packer = ormsgpack.packb
    for stamp, clock in ((2**51, moment.clock), (2**51, 2**51)):
        listener.distrusted.clear()
        parts = ["t", str(moment.epoch), str(stamp), str(clock), ["t:eu"]]
        kit.server().publish(kit.names.bus, packer(parts))
        assert listener.distrusted.wait(10)
    assert kit.moment().clock < moment.clock + 60 * SECOND
    assert not [message for message in listener.messages if message.stamp >= 2**51]
    kit.server().publish(kit.names.bus, packer(["t", "5", str(moment.clock), str(moment.clock), ["t:x"]]))
    wait_until(lambda: bool(listener.messages), timeout=10, what="the message of another set")
    assert listener.messages[-1].names == ("t:x",)
    assert kit.moment().epoch == moment.epoch


def test_moment__is_no_stamp_ahead_of_the_clock(shared_kit: Kit) -> None:
    """A stamp that was set some seconds ahead is passed on and is no reading: a load claiming it would be stored."""
    kit = shared_kit
    listener = Listener()
    epoch, clock, *_ = kit.moment()
    kit.store.listener = listener  # type: ignore[attr-defined]
    wait_until(lambda: kit.store.bus.state == "alive", timeout=10, what="the bus")  # type: ignore[attr-defined]
    stamp = clock + 30 * SECOND
    kit.server().publish(kit.names.bus, ormsgpack.packb(["t", str(epoch), str(stamp), str(clock + 1), ["t:eu"]]))
    wait_until(lambda: bool(listener.messages), timeout=10, what="the message")
    assert listener.messages[-1].stamp == stamp
    assert clock < kit.moment().clock < stamp


def test_moment__is_no_other_than_what_the_set_says(shared_kit: Kit) -> None:
    """A reading is always one of the set's clock, which it has reached, never the server's TIME."""
    kit = shared_kit
    for number in range(20):
        kit.read(kit.key(f"k{number}"))
        moment = kit.moment()
        assert isinstance(moment, Moment)
        assert moment.clock <= stamps(kit)[CLOCK]
    kit.server().zadd(kit.names.stamps, {CLOCK: stamps(kit)[CLOCK] + 30 * SECOND})
    kit.read(kit.key())
    assert kit.moment().clock >= time.time() * SECOND + 20 * SECOND
