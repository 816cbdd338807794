"""17: key injection: separators, globs, unicode, huge keys, HEAD, POST, repeated arguments, unbounded variants."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, request

from flask_rcache import CacheManager, RCache, cache_response
from flask_rcache.errors import RCacheError
from tests.servers import Server
from tests.twenty.kit import KIND, names_of, there

KEYS: tuple[Any, ...] = (
    *(f"a{sign}b" for sign in ":~*?[]{}/\\%#&=+ \t\r\n\0\x7f\"'"),
    *("*", "?", "[a-z]", "{kind}", "a:b:c", "a\r\nFLUSHALL\r\n", "../a", "..", ".", "~stamps", "index:kind"),
    *("é", "e\u0301", "\u202eabc", "\U0001f4a9", "\ud800"),
    *("k" * 1_000_000, "k" * 999_999 + "l", "'a', 'b'", "0", "00", "a"),
    *(7, -7, ("a", "b"), ("a,b",), (("a",), "b"), ("a", ("b",)), ("0",), (0,), ("a", None)),
)


def test_behaviour_17__no_two_keys_are_one(any_server: Server, caches: Callable[..., CacheManager]) -> None:
    """Every key has its own entry under its type's name; what is refused is refused with one of our errors."""
    here, other = (caches(any_server.url) for _ in range(2))
    any_server.client().set("theirs", "theirs")
    taken = []
    for number, key in enumerate(KEYS):
        try:
            here.set(KIND, key, number)
        except RCacheError:
            continue
        taken.append((number, key))
    assert len(taken) >= len(KEYS) - 1
    assert [other.get(KIND, key) for _, key in taken] == [number for number, _ in taken]
    stored = [name for name in any_server.client().scan_iter(count=1000) if not name.startswith(b"cache~")]
    assert len(stored) == len(taken) + 1
    assert all(name.startswith(b"cache:kind:") and len(name) < 400 for name in stored if name != b"theirs")
    for at, (_, key) in enumerate(taken):
        assert other.delete(KIND, key) is True
        assert not there(here, key)
        if at + 1 < len(taken):
            assert there(here, taken[at + 1][1])
    assert any_server.client().get("theirs") == b"theirs"


@pytest.mark.parametrize(
    "path", ["/", "/?a=*", "/?a=cache:kind:k", "/?a=%00%0D%0A", "/%2A", "/\u202e", "/?" + "a=1&" * 20_000]
)
def test_behaviour_17__urls_name_entries_of_their_own(any_server: Server, path: str) -> None:
    """A hostile URL is a miss and a hit of its own, one entry each, and its key has a bounded length."""
    with Site(any_server) as site:
        assert site.asks(path, path, "/other", path) == ["MISS", "HIT", "MISS", "HIT"]
        names = names_of(any_server.client(), "cache:*")
        assert len(names) == 2
        assert max(map(len, names)) < 400


class Site:
    """An application on a server; a page that shows what it was asked, and how often it was."""

    def __init__(self, server: Server) -> None:
        self.app, runs = Flask("site"), itertools.count(1)
        self.app.config.update(RCACHE_URL=server.url, RCACHE_TIMEOUT=2, RCACHE_L1_TTL=0)
        RCache(self.app)

        @self.app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
        @self.app.route("/<path:path>", methods=["GET", "POST"])
        @cache_response(KIND)
        def page(path: str) -> tuple[str, int, dict[str, str]]:
            shown = f"{next(runs)} {request.query_string.decode()} {request.headers.get('X-Any', '')}"
            return shown, 200, {"Vary": "X-Any"} if "vary" in path else {}

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.app.extensions["rcache"].close()

    def asks(self, *paths: str, method: str = "GET", **headers: str) -> list[str]:
        """What `X-Cache` says of requests one after another."""
        client = self.app.test_client()
        return [client.open(path, method=method, headers=headers).headers["X-Cache"] for path in paths]


def test_behaviour_17__head_and_post(any_server: Server) -> None:
    """HEAD is answered from what a GET stored and stores nothing; POST is not answered from it and makes it go."""
    with Site(any_server) as site:
        assert site.asks("/", method="HEAD") == ["MISS"]
        assert site.asks("/", "/") == ["MISS", "HIT"]
        assert site.asks("/", method="HEAD") == ["HIT"]
        assert len(site.app.test_client().get("/").data) > 0
        assert site.asks("/", method="POST") == ["BYPASS"]
        assert site.asks("/", "/") == ["MISS", "HIT"]


def test_behaviour_17__repeated_arguments(any_server: Server) -> None:
    """Order and number of repeated arguments select the answer."""
    queries = ("a=1&a=2", "a=2&a=1", "a=1", "a=1&a=1", "a=1,2", "a=1&b=2", "b=2&a=1", "", "a", "a=")
    with Site(any_server) as site:
        client = site.app.test_client()
        for verdict in ("MISS", "HIT"):
            for query in queries:
                answer = client.get(f"/?{query}")
                assert (answer.headers["X-Cache"], answer.text.split(" ")[1]) == (verdict, query)


def test_behaviour_17__unbounded_variants(any_server: Server) -> None:
    """A header that selects the answer and may be anything: few variants are kept, and every asker's is right."""
    with Site(any_server) as site:
        client = site.app.test_client()
        for number in range(300):
            assert client.get("/vary", headers={"X-Any": f"v{number}"}).text.endswith(f"v{number}")
        assert 2 <= len(names_of(any_server.client(), "cache:kind:*")) <= 40
        assert client.get("/vary", headers={"X-Any": "v299"}).text.endswith("v299")
