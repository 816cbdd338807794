"""What operators ask: pages, one entry, the overview, and whether an invalidation was journalled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from flask_rcache import CacheManager, ConfigError, UnknownTypeError
from tests.servers import Server
from tests.stores.kit import manager


@pytest.fixture(params=["memory", "redis", "valkey"])
def cache(request: pytest.FixtureRequest) -> Iterator[CacheManager]:
    url = "memory://"
    if request.param != "memory":
        server: Server = request.getfixturevalue(f"{request.param}_server")
        url = server.url
    made = manager(url)
    yield made
    made.close()


def test_page__follows_cursors(cache: CacheManager) -> None:
    """Types, patterns relative to the cache, and user tags only."""
    cache.set_many("search", {f"k{number}": number for number in range(25)}, tags=["eu"])
    cache.set("product", "p", 1)
    seen, cursor = [], None
    while True:
        page = cache.page("search", cursor=cursor, limit=10)
        seen += page.entries
        cursor = page.cursor
        if cursor is None:
            break
    assert len(seen) == 25
    assert {item.tags for item in seen} == {("eu",)}
    assert [item.key for item in cache.page(pattern="product:*").entries] == ["cache:product:p"]
    assert [item.key for item in cache.page("search", "k1").entries] == ["cache:search:k1"]


def test_page__wrong_arguments(cache: CacheManager) -> None:
    """What cannot be used is refused with a reason."""
    for limit in (0, -1, 1001, 1.5, "10"):
        with pytest.raises(ConfigError, match="limit"):
            cache.page(limit=limit)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cursor"):
        cache.page(cursor="nonsense")
    with pytest.raises(UnknownTypeError, match="known"):
        cache.page("nothing")
    with pytest.raises(ConfigError, match="pattern"):
        cache.page(pattern="")


def test_inspect(cache: CacheManager) -> None:
    """One entry by its stored key; other caches' keys are refused."""
    cache.set("search", "a", "secret", tags=["eu"])
    listed = cache.inspect("cache:search:a")
    assert listed is not None
    assert (listed.key, listed.tags, listed.kind) == ("cache:search:a", ("eu",), "value")
    assert "secret" not in repr(listed)
    assert cache.inspect("cache:search:b") is None
    with pytest.raises(ConfigError, match="not a stored key"):
        cache.inspect("other:search:a")


def test_overview(cache: CacheManager) -> None:
    """Plain data, with what there is and what happened, honest about whose figures they are."""
    cache.fetch("search", "a", lambda: "x" * 100)
    cache.invalidate_type("product")
    overview = json.loads(json.dumps(cache.overview()))
    is_memory = cache.settings.url.startswith("memory")
    assert overview["scope"] == ("process" if is_memory else "all")
    assert overview["store"]["kind"] == ("memory" if is_memory else "redis")
    assert overview["store"]["is_available"] is True
    assert overview["store"]["incident"] is None
    assert overview["types"]["search"]["entries"] == 1
    assert overview["types"]["search"]["bytes"] >= 100
    assert overview["types"]["product"] == {"entries": 0, "bytes": 0}
    assert overview["breaker"] == {"is_open": False, "incidents": 0}
    assert overview["journal"] == {"pending": 0}
    if is_memory:
        assert [record["names"] for record in overview["invalidations"]] == [["product"]]
        assert overview["costliest"][0]["key"] == "cache:search:a"
        assert overview["memory_tier"]["entries"] == 1
    else:
        assert overview["store"]["server"]["used_memory"] > 0


def test_overview__changes_nothing(cache: CacheManager) -> None:
    """Asking is not using."""
    cache.get("search", "a")
    before = cache.stats()
    cache.overview()
    cache.page()
    assert cache.stats() == before


def test_overview__store_away(private_server: Callable[..., Server]) -> None:
    """It still answers, of this process, and says why the store is away."""
    server = private_server()
    cache = manager(server.url, timeout=0.25)
    cache.set("search", "a", 1)
    server.kill()
    assert cache.get("search", "a") is None
    cache.invalidate_tags("eu")
    overview = cache.overview()
    assert overview["scope"] == "process"
    assert overview["store"]["is_available"] is False
    assert overview["store"]["incident"]
    assert overview["store"]["server"] is None
    assert overview["breaker"]["is_open"] is True
    assert overview["journal"]["pending"] == 1
    assert overview["invalidations"][0]["journalled"] is True
    assert cache.page() == ([], None)
    assert cache.inspect("cache:search:a") is None
    cache.close()


def test_invalidated__says_whether_it_was_journalled(private_server: Callable[..., Server]) -> None:
    """An int, with what became of the call."""
    server = private_server()
    cache = manager(server.url, timeout=0.25)
    sent = cache.invalidate_type("search")
    server.kill()
    waits = [
        cache.invalidate_type("search"),
        cache.invalidate_tags("a"),
        cache.invalidate_pattern("*"),
        cache.clear_all(),
    ]
    assert (sent, sent.journalled) == (0, False)
    assert [(each, each.journalled) for each in waits] == [(0, True)] * len(waits)
    cache.close()


def test_stats__seconds(cache: CacheManager) -> None:
    """Latency sums: hits from lookup to reply, and loads."""
    for _ in range(3):
        cache.fetch("search", "a", lambda: 1)
    stats = cache.stats()
    assert stats["hits"] == 2
    assert isinstance(stats["hit_seconds"], float)
    assert 0 < stats["hit_seconds"] < 60
    assert stats["waits"] == 0
