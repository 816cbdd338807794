"""Other applications' keys in the same database survive whatever this cache clears."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_rcache import CacheType, RCache, cache_response
from tests.race.harness import leave_little_room

_FOREIGN = {
    "cache": "1",
    "cache:": "2",
    "cachex:dashboard:1": "3",
    "cache:dashboard:written-by-hand": "4",
    "cache~somebody": "5",
    "session:42": "6",
}
_PATTERNS = ["*", "?*", "[a-z]*", "*:*", "dashboard:*", "*dash*"]


def _application(url: str, prefix: str) -> Flask:
    app = Flask(f"app_{prefix}")
    app.config.update(RCACHE_URL=url, RCACHE_PREFIX=prefix)
    RCache(app)

    @app.get("/dashboard/<int:number>")
    @cache_response(CacheType.DASHBOARD, tags=["everything"])
    def dashboard(number: int) -> str:
        return f"{prefix} {number}"

    return app


def _visit(app: Flask) -> set[str]:
    client = app.test_client()
    return {client.get(f"/dashboard/{number}").headers["X-Cache"] for number in range(5)}


@pytest.fixture(params=["noeviction", "allkeys-lru"])
def shared_database(request):
    """A server whose patterns walk the index, and one where they walk the whole database."""
    if request.param == "noeviction":
        return request.getfixturevalue("redis_server")
    server = request.getfixturevalue("private_server")("valkey")
    leave_little_room(server, policy=request.param)
    return server


def test_clearing__of_one_application__leaves_the_neighbours_keys(shared_database):
    """`clear_all`, every pattern, tags and types reach this application's entries, and nothing else in the database."""
    ours = _application(shared_database.url, "cache")
    neighbours = [_application(shared_database.url, prefix) for prefix in ("cache2", "cach", "CACHE", "identity")]
    client = shared_database.client(decode_responses=True)
    client.mset(_FOREIGN)
    client.hset("cache:dashboard", mapping={"a": "hash"})
    client.zadd("cache:dashboard:ranking", {"x": 1})
    assert [_visit(theirs) for theirs in neighbours] == [{"MISS"}] * 4
    cache = ours.extensions["rcache"]
    clearings = [
        lambda: cache.clear_all(),
        lambda: cache.invalidate_type(CacheType.DASHBOARD),
        lambda: cache.invalidate_tags("everything"),
        *(lambda pattern=pattern: cache.invalidate_pattern(pattern) for pattern in _PATTERNS),
        lambda: cache.invalidate_pattern("*", type=CacheType.DASHBOARD),
    ]
    for clear in clearings:
        assert _visit(ours) == {"MISS"}
        assert _visit(ours) == {"HIT"}
        clear()
        assert [_visit(theirs) for theirs in neighbours] == [{"HIT"}] * 4
    assert _visit(ours) == {"MISS"}
    assert {key: client.get(key) for key in _FOREIGN} == _FOREIGN
    assert client.hgetall("cache:dashboard") == {"a": "hash"}
    assert client.zrange("cache:dashboard:ranking", 0, -1) == ["x"]
    for app in (ours, *neighbours):
        app.extensions["rcache"].close()
