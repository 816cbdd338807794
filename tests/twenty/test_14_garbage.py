"""14: truncated, foreign, wrong-version or bomb bytes in Redis: a miss, counted, overwritten."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from flask import Flask

from flask_rcache import CacheManager, RCache, cache_response
from tests.servers import Server
from tests.twenty.kit import KIND, names_of


def bomb(whole: bytes) -> bytes:
    """An entry whose compressed body says, truly, that it is 200 MB of nothing."""
    at = whole.index(zstandard.FRAME_HEADER)
    return whole[:at] + zstandard.ZstdCompressor().compress(bytes(200_000_000))


def noise(whole: bytes) -> bytes:
    return random.Random(14).randbytes(len(whole))


GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda whole: b"",
    "one byte": lambda whole: whole[:1],
    "half": lambda whole: whole[: len(whole) // 2],
    "all but one": lambda whole: whole[:-1],
    "text": lambda whole: b"their value, which is long enough to be taken for one of ours",
    "pickle": lambda whole: b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94." * 3,
    "zlib": lambda whole: zlib.compress(whole * 10),
    "noise": noise,
    "another version": lambda whole: whole[:3] + b"\xff" + whole[4:],
    "flipped head": lambda whole: whole[:28] + bytes([whole[28] ^ 0xFF]) + whole[29:],
    "bomb": bomb,
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_behaviour_14__garbage_is_a_miss(server: Server, caches: Callable[..., CacheManager], kind: str) -> None:
    """Values: who meets it gets nothing, counts it, and the next load heals the key."""
    here, other = (caches(server.url) for _ in range(2))
    client = server.client()
    here.set(KIND, "k", {"text": "x" * 5000}, tags=["t"])
    whole = client.get("cache:kind:k")
    assert isinstance(whole, bytes)
    client.set("cache:kind:k", GARBAGE[kind](whole), ex=60)
    for cache in (here, other):
        assert cache.get(KIND, "k", "nothing") == "nothing"
        assert cache.get_many(KIND, ["k"]) == {}
        assert cache.is_available
    stats: Any = other.stats()
    assert stats["by_type"]["kind"]["garbage"] >= 2
    assert other.fetch(KIND, "k", lambda: "healed") == "healed"
    assert here.get(KIND, "k") == "healed"


@pytest.mark.parametrize("kind", GARBAGE)
def test_behaviour_14__garbage_is_no_response(server: Server, kind: str) -> None:
    """Responses: the view runs, its answer is stored, and no one is shown the bytes."""

    def page() -> str:
        return "page " * 1000

    app = Flask("garbage")
    app.config.update(RCACHE_URL=server.url, RCACHE_TIMEOUT=2, RCACHE_L1_TTL=0)
    RCache(app)
    app.add_url_rule("/", view_func=cache_response(KIND, None, lambda request: "k")(page))
    client, visitor = server.client(), app.test_client()
    visitor.get("/")
    (name,) = names_of(client, "cache:kind:*")
    whole = client.get(name)
    assert isinstance(whole, bytes)
    client.set(name, GARBAGE[kind](whole), ex=60)
    answers = [visitor.get("/") for _ in range(2)]
    app.extensions["rcache"].close()
    assert [(answer.status_code, answer.headers["X-Cache"]) for answer in answers] == [(200, "MISS"), (200, "HIT")]
    assert {answer.text for answer in answers} == {"page " * 1000}
