"""The calls of the admin API: their answers, what they refuse, and who gets none of it."""

from __future__ import annotations

import base64
import gc
import io
import json
import logging
import sys
import weakref
from typing import Any

import ormsgpack
import pytest
from flask import Flask, Response, abort, redirect, request

from flask_rcache import CacheType, RCache, cache_response
from flask_rcache.admin.page import PUBLIC
from flask_rcache.config.settings import load_settings
from flask_rcache.engine.statistics import FIELDS
from flask_rcache.errors import ConfigError
from tests.admin.kit import PREFIX, Admin
from tests.admin.tokens import SECRET, bearer, pem, private_key, token
from tests.processes import wait_until

JSON = "application/json"
TYPES = ["analytics", "dashboard", "default", "page", "product", "query", "search", "user"]


def problem(response: Any) -> tuple[int, str]:
    """Status and code of an error, once its shape is known to be right."""
    assert response.mimetype == JSON, response.text
    assert response.headers["Cache-Control"] == "no-store"
    body = response.get_json()
    assert body["status"] == "error"
    assert isinstance(body["message"], str)
    assert body["message"]
    assert set(body) <= {"status", "error", "message", "known"}
    return response.status_code, body["error"]


# The answers


def test_stats__shape(admin: Admin) -> None:
    """Exactly the members of the contract; a type that nothing was counted for is there too."""
    for _ in range(3):
        admin.client.get("/page")
    response = admin.get("/stats")
    body: Any = response.get_json()
    assert (response.status_code, response.mimetype) == (200, JSON)
    assert set(body) == {"status", "cache_stats"}
    by_type = body["cache_stats"].pop("by_type")
    assert body == {
        "status": "success",
        "cache_stats": {
            "hits": 2,
            "misses": 1,
            "stale": 0,
            "bypasses": 0,
            "errors": 0,
            "total_requests": 3,
            "hit_rate": 66.67,
            "is_available": True,
        },
    }
    assert sorted(by_type) == TYPES
    row = {*FIELDS, "total_requests", "hit_rate"}
    assert {name: set(counted) for name, counted in by_type.items()} == dict.fromkeys(TYPES, row)
    assert (by_type["page"]["hits"], by_type["page"]["total_requests"], by_type["page"]["hit_rate"]) == (2, 3, 66.67)
    assert set(by_type["dashboard"].values()) == {0}


def test_stats__of_the_fleet(server, new_admin) -> None:
    """Any worker answers with what all of them counted."""
    one, other = new_admin(server.url), new_admin(server.url)
    for each in (one, one, other, other):
        each.client.get("/page")

    def seen(admin: Admin) -> tuple[int, int]:
        stats: Any = admin.get("/stats").json
        return stats["cache_stats"]["hits"], stats["cache_stats"]["misses"]

    for each in (one, other):
        wait_until(lambda: seen(each) == (3, 1), timeout=20, what="the other worker's counts")  # noqa: B023


def test_overview__is_the_managers(admin: Admin) -> None:
    """What the dashboard shows: the overview and the figures."""
    admin.client.get("/page")
    body: Any = admin.get("/overview").json
    assert set(body) == {"status", "overview", "stats"}
    assert set(body["overview"]) == set(json.loads(json.dumps(admin.cache.overview())))
    assert body["overview"]["types"]["page"]["entries"] == 1
    assert body["stats"]["misses"] == 1


def test_keys__shape_without_a_value(admin: Admin) -> None:
    """Age, ttl, size, tags of what is live, and nothing of what is stored."""
    admin.cache.set("search", "a", {"secret": "the value itself"}, ttl=60, tags=["eu", "fleet"])
    (listed,) = admin.get("/keys").json["keys"]  # type: ignore[index]
    one: Any = admin.get("/keys/cache:search:a").json
    names = {"key", "type", "kind", "ttl", "age", "size", "cost", "tags", "tables", "rows", "view", "endpoint", "path"}
    for entry in (listed, one["entry"]):
        assert set(entry) == names
        assert (entry["key"], entry["type"], entry["kind"]) == ("cache:search:a", "search", "value")
        assert 0 < entry["ttl"] <= 60
        assert 0 <= entry["age"] < 60
        assert entry["size"] > 0
        assert sorted(entry["tags"]) == ["eu", "fleet"]
    assert set(one) == {"status", "entry"}
    for path in ("/keys", "/keys/cache:search:a", "/overview", "/stats"):
        assert "the value itself" not in admin.get(path).text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["cache:query:a", "cache:search:a", "cache:search:b:1", "cache:search:b:2"]),
        ("?type=search", ["cache:search:a", "cache:search:b:1", "cache:search:b:2"]),
        ("?type=search&pattern=b:*", ["cache:search:b:1", "cache:search:b:2"]),
        ("?pattern=search:b:*", ["cache:search:b:1", "cache:search:b:2"]),
        ("?pattern=cache:search:?", ["cache:search:a"]),
        ("?pattern=*:a", ["cache:query:a", "cache:search:a"]),
        ("?pattern=shop:*", []),
        ("?type=user", []),
        ("?type=&pattern=&cursor=&limit=", ["cache:query:a", "cache:search:a", "cache:search:b:1", "cache:search:b:2"]),
    ],
)
def test_keys__filter(admin: Admin, query: str, expected: list[str]) -> None:
    """By type and by pattern, both confined to this cache; what is left empty does not filter."""
    admin.fill("a", type="query")
    admin.fill("a", "b:1", "b:2")
    assert admin.names(query) == expected


def _pages(admin: Admin, query: str, between: Any = None) -> list[list[str]]:
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        assert len(pages) < 500, "the listing does not end"
        response = admin.get(
            "/keys", query_string={**dict(part.split("=") for part in query.split("&")), "cursor": cursor}
        )
        body: Any = response.json
        assert response.status_code == 200, body
        pages.append([entry["key"] for entry in body["keys"]])
        cursor = body["cursor"]
        if between is not None:
            between(pages)
    return pages


def test_keys__pages_while_entries_change(admin: Admin) -> None:
    """Every entry that stays is on exactly one page, whatever comes and goes meanwhile."""
    stay = [f"stay:{number}" for number in range(60)]
    admin.fill(*stay, *(f"go:{number}" for number in range(60)))

    def change(pages: list[list[str]]) -> None:
        number = len(pages)
        admin.fill(f"new:{number}", f"aaa:{number}")
        for which in range((number - 1) * 10, number * 10):
            admin.cache.delete("search", f"go:{which}")

    pages = _pages(admin, "type=search&limit=10", change)
    assert len(pages) > 3
    assert max(map(len, pages)) <= 1000
    seen = [key for page in pages for key in page if ":stay:" in key]
    assert sorted(seen) == sorted(f"cache:search:{id}" for id in stay)


@pytest.mark.parametrize("id", ["a/b", "x//y", "a/", "a/../b", "q?=&", "b+c@d,e=f", "50%", "ü ber", "x" * 500])
def test_keys__one_whatever_its_name(near_and_far: Admin, id: str) -> None:
    """A key is found by the name that the listing shows."""
    admin = near_and_far
    admin.fill(id)
    (key,) = admin.names()
    response = admin.get(f"/keys/{key}")
    assert response.status_code == 200, response.text
    assert response.json["entry"]["key"] == key  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/keys/cache:search:missing", (404, "unknown_key")),
        ("/keys/shop:search:a", (400, "invalid_argument")),
        ("/keys/cache~stamps", (400, "invalid_argument")),
        ("/keys/cache:search:", (400, "invalid_argument")),
        ("/keys/%00", (400, "invalid_argument")),
        ("/keys/cache:search:*", (404, "unknown_key")),
        ("/keys?type=serach", (404, "unknown_type")),
        ("/keys?type=a%00b", (404, "unknown_type")),
        ("/keys?limit=0", (400, "invalid_argument")),
        ("/keys?limit=1001", (400, "invalid_argument")),
        ("/keys?limit=-1", (400, "invalid_argument")),
        ("/keys?limit=ten", (400, "invalid_argument")),
        ("/keys?limit=1e2", (400, "invalid_argument")),
        ("/keys?limit=%C2%B2", (400, "invalid_argument")),
        ("/keys?limit=" + "9" * 5000, (400, "invalid_argument")),
        ("/keys?cursor=garbage", (400, "invalid_argument")),
        ("/keys?cursor=%00%ff", (400, "invalid_argument")),
        ("/keys?cursor=" + "x" * 2000, (400, "invalid_argument")),
        ("/keys?pattern=" + "x" * 1025, (400, "invalid_argument")),
        ("/keys?typ=search", (400, "invalid_argument")),
        ("/keys?type=search&type=page", (400, "invalid_argument")),
    ],
)
def test_keys__refused(near_and_far: Admin, path: str, expected: tuple[int, str]) -> None:
    """What cannot be is said, in one shape."""
    assert problem(near_and_far.get(path)) == expected


@pytest.mark.parametrize("score", ["nan", "1_0", "\u0661"])
def test_keys__a_made_up_cursor_cannot_stop_the_cache(redis_server, new_admin, score: str) -> None:
    """Who writes a cursor himself is refused before Redis is asked: its error would open the breaker for everybody."""
    admin = new_admin(redis_server.url)
    admin.fill("a")
    cursor = base64.urlsafe_b64encode(ormsgpack.packb(["search", score, b"", 0])).decode().rstrip("=")
    assert problem(admin.get("/keys", query_string={"type": "search", "cursor": cursor})) == (400, "invalid_argument")
    assert admin.cache.is_available


@pytest.mark.parametrize("pattern", ["[!a]*", "[a", "[^]*", "[b-?]*", "[!^x]*"])
def test_keys__a_pattern_lists_what_it_would_invalidate(redis_server, new_admin, pattern: str) -> None:
    """Listing matches in this process, invalidation in Redis: both mean the same entries."""
    admin = new_admin(redis_server.url)
    admin.fill("a", "b", "c", "-", "ab")
    everything = set(admin.names())
    listed = set(admin.names(f"?pattern=search:{pattern}"))
    assert admin.post("/invalidate-pattern", {"pattern": f"search:{pattern}"}).status_code == 200
    assert everything - set(admin.names()) == listed


def test_keys__a_foreign_row_does_not_end_the_listings(redis_server, new_admin) -> None:
    """Bytes that are no text, in an index that others can write to, lead nowhere and break nothing."""
    admin = new_admin(redis_server.url)
    admin.fill("a")
    redis_server.client().zadd("cache~index:search", {b"cache:search:\xff": 9e15, b"\xfe": float("inf")})
    assert admin.names() == ["cache:search:a"]
    assert admin.names("?type=search") == ["cache:search:a"]
    seen: list[str] = []
    cursor: str | None = ""
    for _ in range(5):  # one entry a page: what leads nowhere is gone past
        page = admin.get(f"/keys?limit=1{cursor and '&cursor=' + cursor}").json
        seen += [entry["key"] for entry in page["keys"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert (seen, cursor) == (["cache:search:a"], None)


# What changes something


def test_invalidate_type__shape(admin: Admin) -> None:
    """Exactly the members of the contract, and nothing of another type is touched."""
    admin.cache.set("dashboard", "a", 1)
    admin.fill("a")
    assert admin.post("/invalidate/dashboard").json == {
        "status": "success",
        "cache_type": "dashboard",
        "deleted_keys": 1,
        "message": "Cache 'dashboard' invalidated successfully",
    }
    assert admin.cache.get("dashboard", "a") is None
    assert admin.names() == ["cache:search:a"]


def test_invalidate_type__unknown_lists_the_known(new_admin) -> None:
    """A misspelt name is told which there are; also those found on the app's views."""
    response = new_admin().post("/invalidate/dashbord")
    assert problem(response) == (404, "unknown_type")
    assert response.json["known"] == TYPES


@pytest.mark.parametrize(("member", "value", "what"), [("url", "/item/7", "URL"), ("user", "7", "User")])
def test_invalidate__a_url_and_a_user(admin: Admin, member: str, value: str, what: str) -> None:
    """The count is that of the URLs or users, as their entries are not counted."""
    body: Any = admin.post(f"/invalidate-{member}", {member: value}).json
    message = f"{what} {value!r} invalidated successfully"
    assert body == {"status": "success", member: value, "deleted_keys": 1, "message": message}


def test_invalidate_tags(admin: Admin) -> None:
    """What has any of the tags is gone; the count is that of the tags, as their entries are not counted."""
    admin.fill("a", tags=("eu",))
    admin.fill("b", tags=("us",))
    admin.fill("c")
    body: Any = admin.post("/invalidate-tags", {"tags": ["eu", "us", "eu"]}).json
    assert body == {
        "status": "success",
        "tags": ["eu", "us"],
        "deleted_keys": 2,
        "message": "2 tags invalidated successfully",
    }
    assert [admin.cache.get("search", id) for id in "abc"] == [None, None, {"id": "c"}]


@pytest.mark.parametrize(
    ("body", "pattern", "left"),
    [
        ({"pattern": "cache:search:*"}, "cache:search:*", ["cache:query:a"]),
        ({"pattern": "search:*"}, "cache:search:*", ["cache:query:a"]),
        ({"pattern": "b*", "type": "search"}, "cache:search:b*", ["cache:query:a", "cache:search:a"]),
        ({"pattern": "*"}, "cache:*", []),
        ({"pattern": "shop:*"}, "cache:shop:*", ["cache:query:a", "cache:search:a", "cache:search:b"]),
        ({"pattern": "*", "type": None}, "cache:*", []),
    ],
    ids=str,
)
def test_invalidate_pattern(admin: Admin, body: dict[str, Any], pattern: str, left: list[str]) -> None:
    """Relative to this cache, and confined to it."""
    admin.fill("a", type="query")
    admin.fill("a", "b")
    answer: Any = admin.post("/invalidate-pattern", body).json
    assert answer == {
        "status": "success",
        "pattern": pattern,
        "deleted_keys": 3 - len(left),
        "message": f"Pattern {pattern!r} invalidated successfully",
    }
    assert admin.names() == left


@pytest.mark.parametrize("path", ["/clear-all", "/clear"])
def test_clear(admin: Admin, path: str) -> None:
    """Both names clear this cache."""
    admin.fill("a", "b")
    answer: Any = admin.post(path).json
    assert answer == {"status": "success", "deleted_keys": 2, "message": "Cache invalidated successfully"}
    assert admin.names() == []


def test_changes__stay_in_this_cache(server, new_admin) -> None:
    """Neither another cache's entries nor the database's other keys are reached, whatever the pattern."""
    mine, theirs = new_admin(server.url), new_admin(server.url, RCACHE_PREFIX="shop")
    theirs.fill("a")
    with server.client() as client:
        client.mset({"shop:plain": 1, "cachex:search:a": 1, "cache": 1, "plain": 1, "cache~mine": 1})
        for pattern in ("*", "shop:*", "*shop*", "cache:*", "../*", "[a-z]*", "\\*", "~*", "cache~*", ":*"):
            mine.fill("a")
            assert mine.post("/invalidate-pattern", {"pattern": pattern}).status_code == 200
        assert mine.post("/clear-all").status_code == 200
        kept = ("shop:plain", "cachex:search:a", "cache", "plain", "cache~mine")
        assert client.mget(kept) == [b"1"] * 5
    assert theirs.names() == ["shop:search:a"]
    assert theirs.cache.get("search", "a") == {"id": "a"}


@pytest.mark.parametrize(
    ("path", "sent", "expected"),
    [
        ("/invalidate-pattern", b"", (400, "invalid_body")),
        ("/invalidate-pattern", b"{}", (400, "invalid_body")),
        ("/invalidate-pattern", b"[]", (400, "invalid_body")),
        ("/invalidate-pattern", b'"*"', (400, "invalid_body")),
        ("/invalidate-pattern", b"null", (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern":', (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern": ""}', (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern": 7}', (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern": ["*"]}', (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern": null}', (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern": "%s"}' % (b"x" * 1025), (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern": "\\ud800"}', (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern": "*", "prefix": "shop"}', (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern": "a", "pattern": "*"}', (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern": "*", "type": 7}', (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern": "*", "type": "serach"}', (404, "unknown_type")),
        ("/invalidate-pattern", b"[" * 60_000, (400, "invalid_body")),
        ("/invalidate-pattern", b"9" * 60_000, (400, "invalid_body")),
        ("/invalidate-pattern", b"\xff\xfe\x00", (400, "invalid_body")),
        ("/invalidate-pattern", b'{"pattern": "%s"}' % (b"x" * 65_536), (413, "request_entity_too_large")),
        ("/invalidate-tags", b"{}", (400, "invalid_body")),
        ("/invalidate-url", b"{}", (400, "invalid_body")),
        ("/invalidate-url", b'{"url": ""}', (400, "invalid_body")),
        ("/invalidate-user", b'{"user": 7}', (400, "invalid_body")),
        ("/invalidate-user", b'{"user": "7", "all": true}', (400, "invalid_body")),
        ("/invalidate-tags", b'{"tags": []}', (400, "invalid_body")),
        ("/invalidate-tags", b'{"tags": "eu"}', (400, "invalid_body")),
        ("/invalidate-tags", b'{"tags": ["eu", ""]}', (400, "invalid_body")),
        ("/invalidate-tags", b'{"tags": ["eu", 7]}', (400, "invalid_body")),
        ("/invalidate-tags", b'{"tags": {"eu": 1}}', (400, "invalid_body")),
        ("/invalidate-tags", b'{"tags": ["\\udfff"]}', (400, "invalid_body")),
        ("/invalidate-tags", json.dumps({"tags": ["t"] * 1001}).encode(), (400, "invalid_body")),
        ("/invalidate-tags", json.dumps({"tags": ["t" * 1025]}).encode(), (400, "invalid_body")),
        ("/invalidate-tags", b'{"tags": ["eu"], "soft": true}', (400, "invalid_body")),
        ("/invalidate/search", b'{"force": true}', (400, "invalid_body")),
        ("/clear-all", b'{"type": "search"}', (400, "invalid_body")),
        ("/clear", b"x", (400, "invalid_body")),
    ],
    ids=lambda each: each[:40] if isinstance(each, bytes) else None,
)
def test_bodies__refused(new_admin, path: str, sent: bytes, expected: tuple[int, str]) -> None:
    """Each field has its type and size, and what is not known is not ignored; nothing is changed."""
    admin = new_admin()
    admin.fill("a", tags=("eu", "t"))
    assert problem(admin.post(path, data=sent, content_type=JSON)) == expected
    assert admin.names() == ["cache:search:a"]


def test_refusals__name_what_to_do_instead(new_admin) -> None:
    """A wrong item of a list is not taken for the list, and a wrong path or method is shown the right ones."""
    admin = new_admin()
    assert admin.post("/invalidate-tags", {"tags": ["eu", 7]}).json["message"].startswith('each of "tags" must be text')
    assert "openapi.json" in admin.get("/nowhere").json["message"]
    assert admin.get("/clear-all").json["message"] == "GET is not allowed here, but POST"


@pytest.mark.parametrize("path", ["/invalidate-pattern", "/clear-all"])
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""])
def test_bodies__are_json(new_admin, path: str, content_type: str) -> None:
    """A form or a text, which any page on the web can send, is not taken for JSON."""
    response = new_admin().post(path, data=b'{"pattern": "*"}', content_type=content_type)
    assert problem(response) == (415, "unsupported_media_type")


def test_bodies__without_a_length_end_too(new_admin) -> None:
    """A chunked body that never says how long it is, is not read beyond the limit."""
    admin, read = new_admin(), []

    class Endless:
        def read(self, size: int = -1) -> bytes:
            read.append(max(size, 1))
            assert sum(read) < 10_000_000, "it is read for ever"
            return b"x" * max(size, 1)

        def readinto(self, buffer: Any) -> int:
            buffer[:] = self.read(len(buffer))
            return len(buffer)

    environ = {"wsgi.input": Endless(), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    response = admin.post("/invalidate-pattern", environ_overrides=environ, content_type=JSON)
    assert problem(response) == (413, "request_entity_too_large")
    assert read


def test_bodies__of_just_the_limit(new_admin) -> None:
    """64 KB are taken, with a length or without."""
    admin = new_admin()
    body = b'{"pattern": "*"}'.ljust(65_536)
    environ = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    for options in ({"data": body}, {"environ_overrides": environ}):
        assert admin.post("/invalidate-pattern", content_type=JSON, **options).status_code == 200


def test_bodies__the_apps_smaller_limit_holds(new_admin) -> None:
    """An app that takes 10 bytes at most takes no more here."""
    admin = new_admin(MAX_CONTENT_LENGTH=10)
    assert problem(admin.post("/invalidate-pattern", {"pattern": "search:*"})) == (413, "request_entity_too_large")


# While the store is away


def test_away__changes_are_journalled_and_arrive(private_server, new_admin) -> None:
    """202 says that the store hears of it later; when it answers again, it has."""
    server = private_server()
    admin, other = new_admin(server.url, RCACHE_TIMEOUT=1), new_admin(server.url)
    admin.fill("a", tags=("eu",))
    admin.cache.set("query", "a", 1)
    admin.cache.set("product", "a", 1)
    server.pause()
    try:
        for path, body, extra in (
            ("/invalidate/query", None, {"cache_type": "query"}),
            ("/invalidate-tags", {"tags": ["eu"]}, {"tags": ["eu"]}),
        ):
            response = admin.post(path, body)
            answer: Any = response.json
            assert response.status_code == 202
            assert answer.pop("message").endswith("will be invalidated in the store as soon as it is available again")
            assert answer == {"status": "accepted", "deleted_keys": 0, **extra}
        wait_until(lambda: problem_or_ok(admin, "/keys") == (503, "unavailable"), timeout=20, what="503")
        assert problem_or_ok(admin, "/keys/cache:product:a") == (503, "unavailable")
        assert admin.get("/keys").headers["Retry-After"]
        stats: Any = admin.get("/stats").json
        assert stats["cache_stats"]["is_available"] is False
        assert admin.get("/overview").status_code == 200
    finally:
        server.resume()

    def seen() -> list[object]:
        return [other.cache.get(type, "a") for type in ("query", "search", "product")]

    wait_until(lambda: seen() == [None, None, 1], timeout=30, what="the delivery of the journal, and of nothing else")
    wait_until(lambda: admin.post("/invalidate/product").status_code == 200, timeout=30, what="200")
    assert seen() == [None, None, None]


def problem_or_ok(admin: Admin, path: str) -> tuple[int, str]:
    """Status and code of an answer."""
    response = admin.get(path)
    return (200, "") if response.status_code == 200 else problem(response)


# Who gets nothing


def _rules(admin: Admin) -> list[tuple[str, str]]:
    """Method and path of everything that the blueprint answers, but for the dashboard's page."""
    found = []
    for rule in admin.flask.url_map.iter_rules():
        name = rule.endpoint.removeprefix("rcache_admin.")
        if name != rule.endpoint and name not in PUBLIC:
            path = rule.rule.removeprefix(PREFIX).replace("<path:part>", "cache:search:a").replace("<part>", "search")
            found += [(method, path) for method in rule.methods or () if method != "OPTIONS"]
    return found


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer a.b.c"}, {"Authorization": "Basic YTpi"}], ids=str)
def test_guard__stands_before_everything(new_admin, headers: dict[str, str]) -> None:
    """Each path with each method, what there is not included: 401 in JSON, and nothing is changed."""
    admin = new_admin()
    admin.fill("a", tags=("eu",))
    rules = _rules(admin)
    assert len(rules) > 60
    for method, path in rules:
        response = admin.call(method, path, headers=headers, json={"tags": ["eu"], "pattern": "*"})
        assert response.status_code == 401, (method, path)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["WWW-Authenticate"].startswith('Bearer realm="flask_rcache"')
        if method != "HEAD":
            assert problem(response) == (401, "invalid_token" if "a.b.c" in str(headers) else "unauthorized")
    assert admin.names() == ["cache:search:a"]


def test_guard__challenges(new_admin) -> None:
    """RFC 6750: `error` only when there was a token; a role that is lacking is 403."""
    admin = new_admin()
    challenges = {
        "": (401, 'Bearer realm="flask_rcache"'),
        "Basic YTpi": (401, 'Bearer realm="flask_rcache"'),
        "Bearer x": (401, 'Bearer realm="flask_rcache", error="invalid_token"'),
        f"Bearer {token(exp=1)}": (401, 'Bearer realm="flask_rcache", error="invalid_token"'),
        f"Bearer {token(role='user')}": (403, 'Bearer realm="flask_rcache", error="insufficient_scope"'),
    }
    for header, expected in challenges.items():
        response = admin.get("/stats", headers={"Authorization": header})
        assert (response.status_code, response.headers["WWW-Authenticate"]) == expected


def test_guard__does_not_say_why(new_admin, caplog) -> None:
    """Each wrong token gets the same answer; the log has the reason, on one line."""
    admin = new_admin()
    wrong = [token(exp=1), token("x" * 32), token(exp=None), token(private_key(), "RS256"), "a.b.c", "x\ty", "x" * 9000]
    answers = {admin.get("/stats", headers=bearer(text)).data for text in wrong}
    assert len(answers) == 1
    refusals = [record.getMessage() for record in caplog.records if "refused a token" in record.getMessage()]
    assert len(refusals) == len(wrong)
    assert "Expired" in refusals[0]
    assert not any("\n" in line or "\t" in line for line in refusals)


@pytest.mark.parametrize("where", ["access_token", "token", "jwt", "Authorization"])
def test_guard__only_the_header_counts(new_admin, where: str) -> None:
    """A good token in the query, in a form, in the body or in a cookie is not looked at."""
    admin = new_admin()
    good = token()
    admin.fill("a")
    calls = [
        {"query_string": {where: good}},
        {"query_string": {where: f"Bearer {good}"}},
        {"data": {where: good}},
        {"json": {where: good}},
        {"headers": {"Cookie": f"{where}={good}"}},
        {"headers": {"X-Authorization": f"Bearer {good}", "Proxy-Authorization": f"Bearer {good}"}},
    ]
    for options in calls:
        response = admin.post("/clear-all", **{"headers": {}, **options})
        assert problem(response) == (401, "unauthorized")
    assert admin.names() == ["cache:search:a"]


def test_guard__two_headers(new_admin) -> None:
    """Two Authorization headers reach an app as one with a comma: neither counts."""
    admin = new_admin()
    for header in (
        f"Bearer {token()}, Bearer {token()}",
        f"Bearer {token()}, Basic YTpi",
        f"Basic YTpi, Bearer {token()}",
    ):
        assert admin.get("/stats", headers={"Authorization": header}).status_code == 401


@pytest.mark.parametrize(
    "config", [{}, {"RCACHE_ADMIN": False}, {"RCACHE_ADMIN": False, "RCACHE_ADMIN_JWT_KEY": SECRET}]
)
def test_admin__does_not_exist_without_a_key_or_a_guard(caplog, config: dict[str, Any]) -> None:
    """No route, no page; an app may use the paths for itself. One line says what is missing, unless it is wanted so."""
    app = Flask("shop")
    app.config.update(TESTING=True, **config)
    with caplog.at_level(logging.INFO, "flask_rcache"):
        RCache(app)
    assert [rule.rule for rule in app.url_map.iter_rules()] == ["/static/<path:filename>"]
    assert app.blueprints == {}
    app.add_url_rule("/api/cache/<path:rest>", "own", lambda rest: f"the app's {rest}")
    assert app.test_client().get("/api/cache/dashboard").text == "the app's dashboard"
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (0 if config else 1)
    assert all("RCACHE_ADMIN_JWT_KEY" in line and "/api/cache" in line for line in lines)


def test_guard__other_claims_and_a_public_key(new_admin) -> None:
    """All of the settings, in one app."""
    admin = new_admin(
        RCACHE_ADMIN_JWT_KEY=pem("ec256"),
        RCACHE_ADMIN_JWT_ALGORITHMS="ES256",
        RCACHE_ADMIN_JWT_AUDIENCE="cache, shop",
        RCACHE_ADMIN_JWT_ISSUER="https://id.example",
        RCACHE_ADMIN_JWT_LEEWAY=0,
        RCACHE_ADMIN_CLAIM="realm_access.roles",
        RCACHE_ADMIN_VALUE="operator",
    )

    def status(**claims: Any) -> int:
        held = {"aud": "shop", "iss": "https://id.example", "realm_access": {"roles": ["operator"]}, **claims}
        response: Any = admin.get("/stats", headers=bearer(token(private_key("ec256"), "ES256", **held)))
        return int(response.status_code)

    assert status() == 200
    assert status(aud="other") == status(iss="https://other.example") == 401
    assert status(realm_access={"roles": ["admin"]}) == status(realm_access=None) == 403


# A guard of the app's own


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("ann", 200),
        (True, 200),
        (None, (401, "unauthorized")),
        (False, (403, "forbidden")),
        ("", (403, "forbidden")),
    ],
    ids=repr,
)
def test_own_guard__what_it_returns(new_admin, returned: object, expected: Any) -> None:
    """Somebody, anybody, nobody, or somebody who may not."""
    admin = new_admin(RCACHE_ADMIN_JWT_KEY=None, RCACHE_ADMIN_GUARD=lambda request: returned)
    response = admin.get("/stats", headers={})
    assert (response.status_code if expected == 200 else problem(response)) == expected


def test_own_guard__is_given_the_request_and_replaces_tokens(new_admin) -> None:
    """It sees the request; a token that the settings would take does not count beside it."""

    def guard(request: Any) -> str | None:
        return "ann" if request.headers.get("X-Key") == "open" else None

    admin = new_admin(RCACHE_ADMIN_JWT_KEY=None, RCACHE_ADMIN_GUARD=guard)
    assert admin.get("/stats", headers={"X-Key": "open"}).status_code == 200
    assert admin.get("/stats").status_code == 401


def test_own_guard__may_be_async(new_admin) -> None:
    """It is awaited, as async views are."""

    async def guard(request: Any) -> Any:
        return request.headers.get("X-User")

    admin = new_admin(RCACHE_ADMIN_JWT_KEY=None, RCACHE_ADMIN_GUARD=guard)
    assert admin.get("/stats", headers={"X-User": "ann"}).status_code == 200
    assert admin.get("/stats", headers={}).status_code == 401


def test_own_guard__may_answer_itself(new_admin) -> None:
    """A response is sent as it is; an abort is JSON; what else it raises is the app's to answer."""

    class Odd(Exception):
        pass

    def guard(request: Any) -> Any:
        how = request.args["how"]
        if how == "redirect":
            return redirect("/login", 302)
        if how == "response":
            return Response("wait", 429, {"Retry-After": "9"})
        if how == "abort":
            abort(418, "no tea")
        if how == "abort with a response":
            abort(Response("own", 409))
        raise Odd

    admin = new_admin(RCACHE_ADMIN_JWT_KEY=None, RCACHE_ADMIN_GUARD=guard)
    admin.flask.register_error_handler(Odd, lambda error: ("odd", 499))
    admin.flask.register_error_handler(418, lambda error: ("the app's page", 418))
    ask = {how: admin.get("/stats", query_string={"how": how}) for how in ("redirect", "response", "abort", "odd")}
    assert (ask["redirect"].status_code, ask["redirect"].location) == (302, "/login")
    assert (ask["response"].status_code, ask["response"].text) == (429, "wait")
    assert problem(ask["abort"]) == (418, "i'm_a_teapot")
    assert ask["abort"].json["message"] == "no tea"
    assert (ask["odd"].status_code, ask["odd"].text) == (499, "odd")
    own = admin.get("/stats", query_string={"how": "abort with a response"})
    assert (own.status_code, own.text) == (409, "own")


def test_own_guard__that_returns_nonsense_lets_nobody_in(new_admin) -> None:
    """An object that is only true-ish is a mistake of the app, not a subject."""
    for nonsense in (1, object(), {"role": "admin"}, ["ann"]):
        admin = new_admin(RCACHE_ADMIN_JWT_KEY=None, RCACHE_ADMIN_GUARD=lambda request, it=nonsense: it)
        with pytest.raises(TypeError, match="RCACHE_ADMIN_GUARD must return"):
            admin.get("/stats")
        admin.flask.config.update(TESTING=False, PROPAGATE_EXCEPTIONS=False)
        assert problem(admin.get("/stats")) == (500, "internal_server_error")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://cache.example"}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[bad"}, 403),
    ],
    ids=str,
)
def test_own_guard__other_sites_change_nothing(new_admin, headers: dict[str, str], status: int) -> None:
    """A guard may go by cookies, which a browser sends for any site's page: such changes are refused."""
    admin = new_admin(RCACHE_ADMIN_JWT_KEY=None, RCACHE_ADMIN_GUARD=lambda request: "ann")
    admin.fill("a")
    assert admin.post("/clear-all", headers=headers).status_code == status
    assert admin.names() == ([] if status == 200 else ["cache:search:a"])
    assert admin.get("/stats", headers=headers).status_code == 200


# HTTP


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/stats", (405, "method_not_allowed")),
        ("DELETE", "/keys/cache:search:a", (405, "method_not_allowed")),
        ("GET", "/invalidate/search", (405, "method_not_allowed")),
        ("PUT", "/clear-all", (405, "method_not_allowed")),
        ("TRACE", "/clear", (405, "method_not_allowed")),
        ("GET", "", (404, "not_found")),
        ("GET", "/", (404, "not_found")),
        ("GET", "/stats/", (404, "not_found")),
        ("GET", "/nothing/here", (404, "not_found")),
        ("POST", "/invalidate/", (404, "not_found")),
        ("POST", "/invalidate/a/b", (404, "not_found")),
        ("DELETE", "/warm", (405, "method_not_allowed")),
        ("GET", "/dashboard/nothing", (404, "not_found")),
        ("GET", "/../stats", (404, "not_found")),
    ],
)
def test_http__errors_are_json(new_admin, method: str, path: str, expected: tuple[int, str]) -> None:
    """Under the prefix there are no other pages, whatever the app says of its own."""
    admin = new_admin()
    admin.flask.register_error_handler(404, lambda error: ("the app's page", 404))
    admin.flask.register_error_handler(405, lambda error: ("the app's page", 405))
    response = admin.call(method, path)
    assert problem(response) == expected
    if expected[0] == 405:
        assert method not in response.headers["Allow"].split(", ")
        assert "OPTIONS" in response.headers["Allow"]
    assert admin.client.get("/elsewhere").text == "the app's page"


def test_http__head_and_options(new_admin) -> None:
    """HEAD is GET without a body; OPTIONS tells the methods, without data and without leave for other origins."""
    admin = new_admin()
    head = admin.call("HEAD", "/stats")
    assert (head.status_code, head.data) == (200, b"")
    options = admin.call("OPTIONS", "/stats", headers={"Origin": "http://x", "Access-Control-Request-Method": "GET"})
    assert (options.status_code, options.data, options.headers["Allow"]) == (204, b"", "GET, HEAD, OPTIONS")
    assert admin.call("OPTIONS", "/clear", headers={}).headers["Allow"] == "OPTIONS, POST"
    assert admin.call("OPTIONS", "/nothing", headers={}).status_code == 401
    for response in (head, options, admin.get("/stats", headers={**bearer(), "Origin": "http://x"})):
        assert not [name for name, _ in response.headers if name.lower().startswith("access-control")]


def test_http__after_request_cannot_make_it_cacheable(new_admin) -> None:
    """What an app adds to all of its answers does not reach these where it would do harm."""
    admin = new_admin()

    @admin.flask.after_request
    def public(response: Response) -> Response:
        response.cache_control.public = True
        response.cache_control.max_age = 3600
        response.headers["Expires"] = "Thu, 01 Jan 2099 00:00:00 GMT"
        response.headers["Vary"] = "Accept-Encoding"
        response.add_etag()
        return response

    for response in (admin.get("/stats"), admin.get("/nothing"), admin.get("/stats", headers={})):
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers.getlist("Vary") == ["Accept-Encoding", "Authorization"]
        assert not {"Expires", "ETag"} & set(response.headers.keys())
        assert "X-Cache" not in response.headers
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert admin.client.get("/page").headers["Cache-Control"] == "public, max-age=3600"


def test_http__a_failure_is_json(new_admin, monkeypatch) -> None:
    """What nobody expected is a 500 in the same shape, that tells nothing; the app's log has it."""
    admin = new_admin()
    admin.flask.config.update(TESTING=False, PROPAGATE_EXCEPTIONS=False)
    admin.flask.register_error_handler(500, lambda error: ("the app's page", 500))
    monkeypatch.setattr(type(admin.cache), "stats", lambda self: 1 / 0)
    response = admin.get("/stats")
    assert problem(response) == (500, "internal_server_error")
    assert "zero" not in response.text


# Applications


def test_apps__prefix_and_switch(new_admin) -> None:
    """The prefix moves all of it; switched off there is nothing, and its other settings are not looked at."""
    moved = new_admin(prefix="/ops/cache-1")
    assert moved.get("/stats").status_code == 200
    assert moved.client.get(f"{PREFIX}/stats", headers=bearer()).status_code == 404
    off = new_admin(RCACHE_ADMIN=False, RCACHE_ADMIN_JWT_KEY="short")
    assert off.get("/stats").status_code == 404
    assert not [rule for rule in off.flask.url_map.iter_rules() if rule.rule.startswith(PREFIX)]


def test_apps__each_has_its_own(new_admin) -> None:
    """Two apps in one process, by one extension: each has its key and its cache."""
    rcache = RCache()
    one = new_admin(rcache=rcache)
    other = new_admin(rcache=rcache, RCACHE_ADMIN_JWT_KEY="o" * 32)
    one.fill("a")
    assert one.names() == ["cache:search:a"]
    assert other.get("/keys").status_code == 401
    assert other.get("/keys", headers=bearer(token("o" * 32))).json["keys"] == []


def test_apps__are_let_go() -> None:
    """Nothing of the admin API keeps an app alive."""

    def make() -> weakref.ref[Flask]:
        app = Flask("gone")
        app.config["RCACHE_ADMIN_JWT_KEY"] = SECRET
        RCache(app)
        assert app.test_client().get(f"{PREFIX}/stats", headers=bearer()).status_code == 200
        return weakref.ref(app)

    refs = [make() for _ in range(3)]
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


def test_apps__may_try_again(monkeypatch) -> None:
    """A start that failed leaves nothing behind that a second one would trip over."""
    monkeypatch.setitem(sys.modules, "flask_rcache.metrics.prometheus", None)
    app = Flask("again")
    app.config.update(RCACHE_ADMIN_JWT_KEY=SECRET, RCACHE_METRICS="prometheus")
    with pytest.raises((ConfigError, ModuleNotFoundError)):
        RCache(app)
    app.config["RCACHE_METRICS"] = ""
    RCache(app)
    assert app.test_client().get(f"{PREFIX}/stats", headers=bearer()).status_code == 200


def test_apps__own_routes_beside_it(new_admin) -> None:
    """A route that the app has under the prefix is still the app's."""
    admin = new_admin()
    admin.flask.add_url_rule(f"{PREFIX}/mine", view_func=lambda: "mine", endpoint="mine")
    assert admin.client.get(f"{PREFIX}/mine").text == "mine"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("RCACHE_ADMIN", "perhaps"),
        ("RCACHE_ADMIN_URL_PREFIX", ""),
        ("RCACHE_ADMIN_URL_PREFIX", "/"),
        ("RCACHE_ADMIN_URL_PREFIX", "api/cache"),
        ("RCACHE_ADMIN_URL_PREFIX", "/api/cache/"),
        ("RCACHE_ADMIN_URL_PREFIX", "/<x>"),
        ("RCACHE_ADMIN_URL_PREFIX", "/a?b"),
        ("RCACHE_ADMIN_URL_PREFIX", 7),
        ("RCACHE_ADMIN_JWT_KEY", "short"),
        ("RCACHE_ADMIN_JWT_KEY", ""),
        ("RCACHE_ADMIN_JWT_KEY", b""),
        ("RCACHE_ADMIN_JWT_KEY", 7),
        ("RCACHE_ADMIN_JWT_ALGORITHMS", 7),
        ("RCACHE_ADMIN_JWT_AUDIENCE", 7),
        ("RCACHE_ADMIN_JWT_AUDIENCE", ","),
        ("RCACHE_ADMIN_JWT_AUDIENCE", " "),
        ("RCACHE_ADMIN_JWT_ISSUER", ["a"]),
        ("RCACHE_ADMIN_JWT_LEEWAY", -1),
        ("RCACHE_ADMIN_JWT_LEEWAY", 301),
        ("RCACHE_ADMIN_JWT_LEEWAY", "soon"),
        ("RCACHE_ADMIN_JWKS_URL", "http://id.example/keys"),
        ("RCACHE_ADMIN_JWKS_URL", "https://[x"),
        ("RCACHE_ADMIN_JWKS_URL", 7),
        ("RCACHE_ADMIN_CLAIM", ""),
        ("RCACHE_ADMIN_VALUE", True),
        ("RCACHE_ADMIN_GUARD", "shop:guard"),
    ],
)
def test_settings__refused_at_the_start(key: str, value: object) -> None:
    """A setting that cannot be used ends the start, and the message names it; the app has no cache then."""
    app = Flask("refused")
    app.config[key] = value
    with pytest.raises(ConfigError, match=key):
        RCache(app)
    assert "rcache" not in app.extensions
    assert "short" not in str(load_settings({}, {}))


def test_settings__from_the_environment(monkeypatch) -> None:
    """Deployments configure it without code."""
    monkeypatch.setenv("RCACHE_ADMIN_JWT_KEY", SECRET)
    monkeypatch.setenv("RCACHE_ADMIN_URL_PREFIX", "/ops")
    monkeypatch.setenv("RCACHE_ADMIN_VALUE", "operator")
    app = Flask("env")
    RCache(app)
    client = app.test_client()
    assert client.get("/ops/stats", headers=bearer(token(role="operator"))).status_code == 200
    assert client.get("/ops/stats", headers=bearer()).status_code == 403


def test_api__does_not_touch_the_apps_pages(new_admin) -> None:
    """A decorated view beside the API is cached and invalidated as ever."""
    admin = new_admin()
    mine = CacheType("mine", ttl=60)
    admin.flask.add_url_rule("/mine", view_func=cache_response(mine)(lambda: request.path), endpoint="mine")
    assert [admin.client.get("/mine").headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert admin.post("/invalidate/mine").json["deleted_keys"] == 1
    assert admin.client.get("/mine").headers["X-Cache"] == "MISS"


# Types that only a call has named


@pytest.mark.parametrize("where", ["memory", "redis"])
def test_types__what_the_figures_show_can_be_listed_and_invalidated(
    where: str, request: pytest.FixtureRequest, new_admin
) -> None:
    """A type of `@cached` or `set` that is registered nowhere is known by its entries, in other processes too."""
    if where == "memory":
        first = second = new_admin()
    else:
        url = request.getfixturevalue("redis_server").url
        first, second = new_admin(url), new_admin(url)
    assert first.cache.set(CacheType("adhoc"), "a", 1)
    assert "adhoc" in first.get("/stats").json["cache_stats"]["by_type"]
    assert second.names("?type=adhoc") == ["cache:adhoc:a"]
    assert second.post("/invalidate/adhoc").json["deleted_keys"] == 1
    # The first hears of the invalidation a moment later; what it sets before is taken for older.
    wait_until(lambda: first.cache.set(CacheType("adhoc"), "a", 1), timeout=10, what="the invalidation is known")
    body = {"pattern": "*", "type": "adhoc"}
    assert second.post("/invalidate-pattern", body).json["deleted_keys"] == 1
    assert problem(second.post("/invalidate/adhok")) == (404, "unknown_type")
    assert problem(second.post("/invalidate/Adhoc")) == (404, "unknown_type")
