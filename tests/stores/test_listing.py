"""Listings page by page, the census, and what the fleet has noted; on every store, and with 200,000 entries."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import ormsgpack
import pytest
import redis

from flask_rcache import CacheManager
from flask_rcache.codec import Codec
from flask_rcache.model.entry import Draft, StoredResponse
from flask_rcache.model.keys import user_tag, type_tag
from flask_rcache.stores import MemoryStore
from flask_rcache.stores.protocol import Page
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import Kit, manager, redis_store

Servers = Callable[..., Server]


def walk(kit: Kit, *, limit: int, type: str | None = None, pattern: str | None = None) -> list[str]:
    """The keys of all pages, in the order in which they come."""
    keys: list[str] = []
    cursor = None
    for _ in range(1000):
        page = kit.store.page(type, pattern, cursor, limit)
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
    kit.store.write([(key, kit.draft(key)) for key in sorted(wanted)])
    assert sorted(walk(kit, limit=limit)) == sorted(wanted)
    assert sorted(walk(kit, limit=limit, type="product")) == sorted(key for key in wanted if "product" in key)


def test_page__pattern(kit: Kit) -> None:
    """Only what matches, however few that are."""
    keys = [kit.key(f"k{number}") for number in range(60)]
    kit.store.write([(key, kit.draft(key)) for key in keys])
    assert sorted(walk(kit, limit=4, pattern="cache:search:k1*")) == sorted(key for key in keys if ":k1" in key)
    assert walk(kit, limit=4, pattern="cache:search:nothing*") == []


def test_page__stable_while_entries_change(kit: Kit) -> None:
    """Who stays from the first page to the last is on one of them, whoever comes, goes or is filled again meanwhile."""
    stay = [kit.key(f"stay{number}") for number in range(30)]
    leave = [kit.key(f"leave{number}") for number in range(30)]
    kit.store.write([(key, kit.draft(key)) for pair in zip(stay, leave, strict=True) for key in pair])
    seen: list[str] = []
    page = Page([], None)
    for number in range(1000):
        page = kit.store.page(None, None, page.cursor, 5)
        seen += [item.key for item in page.entries]
        if page.cursor is None:
            break
        kit.store.delete([leave[number % 30]])
        if page.entries:
            kit.store.delete([page.entries[-1].key] if "leave" in page.entries[-1].key else [])
        for key in (kit.key(f"come{number}"), stay[number % 30]):
            kit.store.write([(key, kit.draft(key))])
        if number > 60:
            break
    assert set(stay) <= set(seen)


@pytest.mark.parametrize("cursor", ["", "nonsense", "~", "AAAA", "x" * 3000, "search.1"])
def test_page__cursor_of_nobody(kit: Kit, cursor: str) -> None:
    """A cursor that no listing gave is refused."""
    with pytest.raises(ValueError, match="not one that a listing gave"):
        kit.store.page(None, None, cursor, 5)


@pytest.mark.parametrize("score", ["nan", "1_0", "1e", "\u0661", "", "0x10", " 1", "1\n"])
def test_page__cursor_with_a_score_of_nobody(shared_kit: Kit, score: str) -> None:
    """A place that no row can have is refused; asked for, it would be an error of the server."""
    cursor = base64.urlsafe_b64encode(ormsgpack.packb(["search", score, b"", 0])).decode().rstrip("=")
    with pytest.raises(ValueError, match="not one that a listing gave"):
        shared_kit.store.page("search", None, cursor, 5)
    assert shared_kit.store.trouble is None


@pytest.mark.parametrize("score", ["-inf", "0", "1700000000000000", "1.7000000000000001e+15", "1e22"])
def test_page__cursor_with_any_score_of_a_row(shared_kit: Kit, score: str) -> None:
    """What Redis writes for a score, of whatever size, is one that a listing may have given."""
    cursor = base64.urlsafe_b64encode(ormsgpack.packb(["search", score, b"", 0])).decode().rstrip("=")
    assert shared_kit.store.page("search", None, cursor, 5).entries == []


def test_page__what_is_listed(kit: Kit) -> None:
    """Kind, size, cost, tags; not what is invalid or has expired, and never a value."""
    response = StoredResponse("200 OK", (("Content-Type", "text/plain"), *(("X-Long", "x" * 200),) * 30), b"secret" * 9)
    kit.load(kit.key("value"), tags=["eu"], cost=1.5)
    grant = kit.grant(kit.key("page"))
    draft = Draft(response, 60.0, tags=(type_tag("search"),), cost=0.25)
    assert kit.store.fill([(grant, draft)])[0].size
    kit.load(kit.key("gone"), tags=["us"])
    kit.store.invalidate([user_tag("us")])
    page = kit.store.page("search", None, None, 10)
    found = {item.key: item for item in page.entries}
    assert set(found) == {kit.key("value"), kit.key("page")}
    value, shown = found[kit.key("value")], found[kit.key("page")]
    assert (value.kind, value.cost, shown.kind, shown.cost) == ("value", 1.5, "response", 0.25)
    assert user_tag("eu") in value.tags
    assert shown.size > value.size > 0
    assert "secret" not in repr(page)
    assert kit.store.inspect(kit.key("page")) is not None
    assert kit.store.inspect(kit.key("gone")) is None
    assert kit.store.inspect(kit.key("nowhere")) is None


def test_page__foreign_things_under_our_names(shared_kit: Kit) -> None:
    """A hash, a list or somebody's text under a key of ours is no entry, and breaks nothing."""
    kit = shared_kit
    kit.load(kit.key("ours"))
    kit.server().hset(kit.key("hash"), "a", "b")
    kit.server().set(kit.key("text"), "hello")
    rows: Any = {kit.key("hash"): 9e12, kit.key("text"): 9e12, "foreign": 9e12, b"cache:search:\xff": 9e12}
    kit.server().zadd(kit.names.index("search"), rows)
    assert walk(kit, limit=2) == [kit.key("ours")]
    assert kit.store.inspect(kit.key("hash")) is None
    assert kit.store.trouble is None


def test_page__where_indexes_may_be_evicted(private_server: Servers) -> None:
    """With an allkeys policy the keys themselves are walked: the index may be gone."""
    server = private_server(maxmemory="100mb", maxmemory_policy="allkeys-lru")
    kit = Kit(redis_store(server.url), client=server.client())
    keys = sorted(kit.key(f"k{number}") for number in range(300))
    kit.store.write([(key, kit.draft(key)) for key in keys])
    kit.server().delete(kit.names.index("search"))
    for limit in (1, 50, 1000):
        assert sorted(walk(kit, limit=limit)) == keys
    found = walk(kit, limit=50, type="search", pattern="cache:search:k2*")
    assert sorted(set(found)) == [key for key in keys if ":k2" in key]
    kit.store.close()


def test_census(kit: Kit) -> None:
    """Entries by type, and their bytes from a sample."""
    for number in range(100):
        kit.load(kit.key(f"k{number}"), b"x" * 500)
    census = kit.store.census(["product"])
    assert census["search"].entries == 100
    assert 50_000 < census["search"].bytes < 500_000
    assert census["product"] == (0, 0)
    kit.store.invalidate((), ["search"])
    assert kit.store.census([])["search"].entries == 0 if "search" in kit.store.census([]) else True


@pytest.mark.race
def test_gazette__of_the_fleet(redis_server: Server, caches: Callable[..., CacheManager]) -> None:
    """What one process spent on loads and invalidated, another process tells."""
    one, other = caches(redis_server.url), caches(redis_server.url)

    def slowly() -> str:
        time.sleep(0.05)
        return "x"

    one.fetch("search", "slow", slowly)
    one.invalidate_type("product")
    one.invalidate_tags("a", "b")

    def told() -> bool:
        overview = other.overview()
        return len(overview["invalidations"]) == 2 and bool(overview["costliest"])

    wait_until(told, timeout=15, what="a flush of the other process")
    overview = other.overview()
    assert overview["scope"] == "fleet"
    assert overview["costliest"][0]["key"] == "cache:search:slow"
    assert overview["costliest"][0]["seconds"] >= 0.05
    newest, before = overview["invalidations"]
    assert (newest["scope"], newest["names"], newest["journalled"]) == ("tags", ["a", "b"], False)
    assert (before["scope"], before["names"]) == ("type", ["product"])
    assert abs(newest["at"] - time.time()) < 60


def test_gazette__loads_under_way(shared_kit: Kit) -> None:
    """A load that has run for a while is seen by other processes, until it ends."""
    kit = shared_kit
    assert kit.connect is not None
    other = kit.connect()
    grant = kit.grant(kit.key("slow"))

    def loads() -> list[str]:
        gazette = other.gazette()
        return gazette.loads if gazette is not None else []

    wait_until(lambda: loads() == [kit.key("slow")], timeout=15, what="a heartbeat")
    kit.fill(grant)
    assert loads() == []


@pytest.mark.parametrize("where", ["memory", "redis"])
def test_page__time_does_not_grow(where: str, private_server: Servers) -> None:
    """A page and the figures of 200,000 entries take about as long as those of 2,000."""
    cache = manager("memory://" if where == "memory" else private_server().url, l1_bytes=2**30, timeout=10)
    few = _seconds(cache, 2_000, start=0)
    many = _seconds(cache, 200_000, start=2_000)
    cache.close()
    # A hundred times as many: a walk over all of them would take a hundred times as long.
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
    if isinstance(cache.store, MemoryStore):
        draft = Draft(b"x", 3600.0, tags=(type_tag("search"),))
        cache.store.write([(f"cache:search:{number}", draft) for number in numbers])
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


def test_unseal_head__as_the_whole() -> None:
    """What a head says is what the whole entry says, but for the body."""
    codec = Codec()
    draft = Draft(StoredResponse("200 OK", (("A", "b"),), b"x" * 5000), 60.0, 5.0, 7.0, ("t:a",), (("t:b", 3),), 0.5)
    raw = codec.seal(draft, epoch=5, as_of=6, created=7)
    whole = codec.unseal(raw)
    head, needed = codec.unseal_head(raw[:2048])
    assert needed == 0
    for name in ("epoch", "as_of", "created", "ttl", "stale_while_revalidate", "stale_if_error", "tags", "cost"):
        assert getattr(head, name) == getattr(whole, name)
    _, needed = codec.unseal_head(raw[:40])
    assert 40 < needed < len(raw)
    assert codec.unseal_head(raw[:needed])[1] == 0
