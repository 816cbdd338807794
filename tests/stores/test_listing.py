"""Listings page by page, sizes, and what all processes recorded; on every store, and with 200,000 entries."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import ormsgpack
import pytest
import redis

from flask_rcache import CacheManager
from flask_rcache.model.entry import Draft, StoredResponse
from flask_rcache.model.keys import type_tag, user_tag
from flask_rcache.stores.memory import MemoryStore
from flask_rcache.stores.protocol import Catalogue, Counted, Counts, InvalidationRecord, LoadedResult, Page, Size
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import Kit, manager, redis_store

Servers = Callable[..., Server]


def catalogue(kit: Kit) -> Catalogue:
    """The operators' half of a store."""
    return kit.store.catalogue


def write(kit: Kit, *keys: str) -> None:
    kit.store.write([(key, kit.draft(key)) for key in keys], None)


def walk(kit: Kit, *, limit: int, type: str | None = None, pattern: str | None = None) -> list[str]:
    """The keys of all pages, in the order in which they come."""
    keys: list[str] = []
    cursor = None
    for _ in range(1000):
        page = catalogue(kit).page(type, pattern, cursor, limit)
        assert len(page.entries) <= limit
        keys += [item.key for item in page.entries]
        cursor = page.cursor
        if cursor is None:
            return keys
    raise AssertionError("a listing without an end")


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_page__every_entry_once(kit: Kit, limit: int) -> None:
    """All pages together hold every live entry of every type, once."""
    wanted = {kit.key(f"k{number}") for number in range(40)} | {kit.key(f"p{number}", "product") for number in range(9)}
    write(kit, *sorted(wanted))
    assert sorted(walk(kit, limit=limit)) == sorted(wanted)
    assert sorted(walk(kit, limit=limit, type="product")) == sorted(key for key in wanted if "product" in key)


def test_page__pattern(kit: Kit) -> None:
    """Only what matches, however few that are."""
    keys = [kit.key(f"k{number}") for number in range(60)]
    write(kit, *keys)
    assert sorted(walk(kit, limit=4, pattern="cache:search:k1*")) == sorted(key for key in keys if ":k1" in key)
    assert walk(kit, limit=4, pattern="cache:search:nothing*") == []


def test_page__stable_while_entries_change(kit: Kit) -> None:
    """Who stays from the first page to the last is on one of them, whoever comes, goes or is filled again meanwhile."""
    stay = [kit.key(f"stay{number}") for number in range(30)]
    leave = [kit.key(f"leave{number}") for number in range(30)]
    write(kit, *[key for pair in zip(stay, leave, strict=True) for key in pair])
    seen: list[str] = []
    page = Page([], None)
    for number in range(1000):
        page = catalogue(kit).page(None, None, page.cursor, 5)
        seen += [item.key for item in page.entries]
        if page.cursor is None:
            break
        kit.store.delete([leave[number % 30]])
        if page.entries:
            kit.store.delete([page.entries[-1].key] if "leave" in page.entries[-1].key else [])
        for key in (kit.key(f"come{number}"), stay[number % 30]):
            write(kit, key)
        if number > 60:
            break
    assert set(stay) <= set(seen)


@pytest.mark.parametrize("cursor", ["", "nonsense", "~", "AAAA", "x" * 3000, "search.1"])
def test_page__cursor_of_nobody(kit: Kit, cursor: str) -> None:
    """A cursor that no listing gave is refused."""
    with pytest.raises(ValueError, match="not one that a listing gave"):
        catalogue(kit).page(None, None, cursor, 5)


@pytest.mark.parametrize("score", ["nan", "1_0", "1e", "\u0661", "", "0x10", " 1", "1\n"])
def test_page__cursor_with_a_score_of_nobody(shared_kit: Kit, score: str) -> None:
    """A place that no row can have is refused; asked for, it would be an error of the server."""
    cursor = base64.urlsafe_b64encode(ormsgpack.packb(["search", score, b"", 0])).decode().rstrip("=")
    with pytest.raises(ValueError, match="not one that a listing gave"):
        catalogue(shared_kit).page("search", None, cursor, 5)
    assert shared_kit.store.incident is None


@pytest.mark.parametrize("score", ["-inf", "0", "1700000000000000", "1.7000000000000001e+15", "1e22"])
def test_page__cursor_with_any_score_of_a_row(shared_kit: Kit, score: str) -> None:
    """What Redis writes for a score, of whatever size, is one that a listing may have given."""
    cursor = base64.urlsafe_b64encode(ormsgpack.packb(["search", score, b"", 0])).decode().rstrip("=")
    assert catalogue(shared_kit).page("search", None, cursor, 5).entries == []


def test_page__what_is_listed(kit: Kit) -> None:
    """Kind, size, cost, tags; not what is invalid or has expired, and never a value."""
    response = StoredResponse("200 OK", (("Content-Type", "text/plain"), *(("X-Long", "x" * 200),) * 30), b"secret" * 9)
    kit.load(kit.key("value"), tags=["eu"], cost=1.5)
    lease, moment = kit.start(kit.key("page"))
    draft = Draft(response, 60.0, tags=(type_tag("search"),), cost=0.25, origin="shop:page")
    assert kit.store.fill([LoadedResult(lease, draft, moment)])[0].size
    kit.load(kit.key("gone"), tags=["us"])
    kit.store.invalidate([user_tag("us")])
    page = catalogue(kit).page("search", None, None, 10)
    found = {item.key: item for item in page.entries}
    assert set(found) == {kit.key("value"), kit.key("page")}
    value, shown = found[kit.key("value")], found[kit.key("page")]
    assert (value.kind, value.cost, shown.kind, shown.cost) == ("value", 1.5, "response", 0.25)
    assert (value.origin, shown.origin) == ("", "shop:page")
    assert user_tag("eu") in value.tags
    assert shown.size > value.size > 0
    assert "secret" not in repr(page)
    assert catalogue(kit).inspect(kit.key("page")) is not None
    assert catalogue(kit).inspect(kit.key("gone")) is None
    assert catalogue(kit).inspect(kit.key("nowhere")) is None


def test_page__foreign_things_under_our_names(shared_kit: Kit) -> None:
    """A hash, a list or somebody's text under a key of ours is no entry, and breaks nothing."""
    kit = shared_kit
    kit.load(kit.key("ours"))
    kit.server().hset(kit.key("hash"), "a", "b")
    kit.server().set(kit.key("text"), "hello")
    rows: Any = {kit.key("hash"): 9e12, kit.key("text"): 9e12, "foreign": 9e12, b"cache:search:\xff": 9e12}
    kit.server().zadd(kit.names.index("search"), rows)
    assert walk(kit, limit=2) == [kit.key("ours")]
    assert catalogue(kit).inspect(kit.key("hash")) is None
    assert kit.store.incident is None


def test_page__where_indexes_may_be_evicted(private_server: Servers) -> None:
    """With an allkeys policy the keys themselves are walked: the index may be gone."""
    server = private_server(maxmemory="100mb", maxmemory_policy="allkeys-lru")
    kit = Kit(redis_store(server.url), client=server.client())
    keys = sorted(kit.key(f"k{number}") for number in range(300))
    write(kit, *keys)
    kit.server().delete(kit.names.index("search"))
    for limit in (1, 50, 1000):
        assert sorted(walk(kit, limit=limit)) == keys
    found = walk(kit, limit=50, type="search", pattern="cache:search:k2*")
    assert sorted(set(found)) == [key for key in keys if ":k2" in key]
    kit.store.close()


def test_sizes(kit: Kit) -> None:
    """Entries by type, and their bytes from a sample; of the types named, and of those there are."""
    for number in range(100):
        kit.load(kit.key(f"k{number}"), b"x" * 500)
    sizes = catalogue(kit).sizes(["product"])
    assert sizes["search"].entries == 100
    assert 50_000 < sizes["search"].bytes < 500_000
    assert sizes["product"] == (0, 0)
    kit.store.invalidate((), ["search"])
    assert catalogue(kit).sizes([]).get("search", Size(0, 0)).entries == 0


def test_sizes__meta_is_lost(shared_kit: Kit) -> None:
    """A type is known again with the next entry of it that comes."""
    kit = shared_kit
    kit.load(kit.key())
    kit.server().delete(kit.names.meta)
    assert catalogue(kit).sizes([]) == {}
    assert catalogue(kit).sizes(["search"])["search"].entries == 1
    kit.load(kit.key("b"))
    assert catalogue(kit).sizes([])["search"].entries == 2


@pytest.mark.race
def test_activity__of_all_processes(redis_server: Server, caches: Callable[..., CacheManager]) -> None:
    """What one process spent on loads and invalidated, another process shows."""
    one, other = caches(redis_server.url), caches(redis_server.url)

    def slowly() -> str:
        time.sleep(0.05)
        return "x"

    one.fetch("search", "slow", slowly)
    one.invalidate_type("product")
    one.invalidate_tags("a", "b")

    def shown() -> bool:
        overview = other.overview()
        return len(overview["invalidations"]) == 2 and bool(overview["costliest"])

    wait_until(shown, timeout=15, what="a flush of the other process")
    overview = other.overview()
    assert overview["scope"] == "all"
    assert overview["costliest"][0]["key"] == "cache:search:slow"
    assert overview["costliest"][0]["seconds"] >= 0.05
    newest, before = overview["invalidations"]
    assert (newest["scope"], newest["names"], newest["journalled"]) == ("tags", ["a", "b"], False)
    assert (before["scope"], before["names"]) == ("type", ["product"])
    assert abs(newest["at"] - time.time()) < 60


def test_activity__loads_under_way(shared_kit: Kit) -> None:
    """A load that has run for a while is seen by other processes, until it ends."""
    kit = shared_kit
    assert kit.connect is not None
    other = catalogue(Kit(kit.connect()))
    started = kit.start(kit.key("slow"))

    def loads() -> list[str]:
        activity = other.activity()
        return activity.loads if activity is not None else []

    wait_until(lambda: loads() == [kit.key("slow")], timeout=15, what="a heartbeat")
    kit.fill(started)
    assert loads() == []


class Source:
    """Counts as a process has them."""

    def __init__(self) -> None:
        self.counts: Counts = {"search": {"hits": 3.0, "seconds": 0.5}}
        self.log = [InvalidationRecord(0.5, "type", ("search",), 2, False)]

    def take(self) -> Counted:
        taken = Counted(self.counts, {"cache:search:k": 1.5} if self.counts else {}, self.log, {})
        self.counts, self.log = {}, []
        return taken

    def give_back(self, counted: Counted) -> None:
        self.counts, self.log = counted.counts, counted.log


def test_counts__taken_once_a_second_and_when_asked(shared_kit: Kit) -> None:
    """Nothing is counted twice, and what one process counted another one adds to."""
    kit = shared_kit
    assert kit.connect is not None
    one, other = Source(), Source()
    kit.moment()
    catalogue(kit).count_from(one)
    second = Kit(kit.connect())
    catalogue(second).count_from(other)
    assert catalogue(second).counts(["search"])["search"]["hits"] in (3.0, 6.0)  # type: ignore[index]
    both = {"search": {"hits": 6.0, "seconds": 1.0}}
    # What was taken from the source is still on its way for a moment: the server is asked until it has arrived.
    wait_until(lambda: catalogue(second).counts(["search", "product"]) == both, timeout=10, what="a maintenance round")
    assert not one.counts
    for _ in range(3):
        assert catalogue(second).counts(["search", "product"]) == both
    activity = catalogue(kit).activity()
    assert activity is not None
    assert activity.costs == [("cache:search:k", 3.0)]
    assert [(record.scope, record.names, record.removed) for record in activity.log] == [("type", ("search",), 2)] * 2


def test_counts__what_did_not_arrive_is_given_back(shared_kit: Kit) -> None:
    """A server that is away, or takes no figures, loses none; and the cache goes on as before."""
    kit, source = shared_kit, Source()
    kit.load(kit.key())
    store: Any = kit.store
    store._server.clock.heard_time(0)  # as if the sending had taken for ever
    catalogue(kit).count_from(source)
    wait_until(lambda: catalogue(kit).counts(["search"]) == {"search": {"hits": 3.0, "seconds": 0.5}}, timeout=10,
               what="counted once")  # fmt: skip
    assert kit.store.incident is None


@pytest.mark.slow
@pytest.mark.parametrize("where", ["memory", "redis"])
def test_page__time_does_not_grow(where: str, private_server: Servers) -> None:
    """A page and the figures of 60,000 entries take about as long as those of 2,000."""
    cache = manager("memory://" if where == "memory" else private_server().url, l1_bytes=2**30, timeout=10)
    few = _seconds(cache, 2_000, start=0)
    many = _seconds(cache, 60_000, start=2_000)
    cache.close()
    # Thirty times as many: a walk over all of them would take thirty times as long.
    assert many < few * 8 + 0.02, (few, many)


def _seconds(cache: CacheManager, count: int, *, start: int) -> float:
    """The shortest time of a page in the middle, with a pattern and without, and of the figures, at so many entries."""
    cache.set("search", str(start), 0, ttl=3600)
    _fill(cache, range(start + 1, count))
    cursor = None
    for _ in range(5):
        cursor = cache.page(limit=100, cursor=cursor).cursor
    times = []
    for _ in range(9):
        began = time.perf_counter()
        assert len(cache.page(limit=100, cursor=cursor).entries) >= 100
        cache.page(pattern="search:1*", limit=100)
        cache.stats()
        assert cache.overview()["types"]["search"]["entries"] == count
        times.append(time.perf_counter() - began)
    return min(times)


def _fill(cache: CacheManager, numbers: range) -> None:
    """Entries as ``set`` makes them, faster."""
    if isinstance(cache.engine.store, MemoryStore):
        draft = Draft(b"x", 3600.0, tags=(type_tag("search"),))
        cache.engine.store.write([(f"cache:search:{number}", draft) for number in numbers], None)
        return
    with redis.Redis.from_url(cache.settings.url) as server:
        envelope = server.get(f"cache:search:{numbers[0] - 1}")
        assert isinstance(envelope, bytes)
        ends = (time.time() + 3600) * 1000
        for first in range(0, len(numbers), 10_000):
            part = numbers[first : first + 10_000]
            with server.pipeline(transaction=False) as pipe:
                pipe.mset({f"cache:search:{number}": envelope for number in part})
                pipe.zadd("cache~index:search", {f"cache:search:{number}": ends + number for number in part})
                pipe.execute()
