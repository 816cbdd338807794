"""The rules of HTTP caching from end to end: each on memory and Redis, for a view function and an async view.

Every rule alone is tested in `tests/http`; here is shown that requests and responses obey them. Each row names its
section of RFC 9111 or 9110.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest
from flask import Response, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_rcache import FROM_HEADERS, CacheType, cache_response
from tests.views.kit import TIERED, detail, make_app, manager

ROW = CacheType("row", ttl=60)
Answer = Callable[[], Any]
#: The stores, and the URL of the one that needs no server.
STORES = {"memory": "memory://", "redis": "", "tiered": ""}


_tests = itertools.count()


class Site:
    """One decorated view at every URL, which answers as it is told, and a client. Each test has URLs of its own."""

    def __init__(self, url: str, kind: str) -> None:
        self.tiered = url.endswith(TIERED)
        self.app = app = make_app(url, RCACHE_ALLOW_REFRESH=lambda req: req.headers.get("X-Admin") == "yes")
        self.begin()

        def view(path, **_):
            self.calls += 1
            return self.answer()

        async def async_view(path, **_):
            await asyncio.sleep(0)
            return view(path)

        function: Any = view if kind == "sync" else async_view
        decorators: dict[str, dict[str, Any]] = {
            "row": {"cache_type": ROW},
            "headers": {"cache_type": ROW, "ttl": FROM_HEADERS},
        }
        for root, options in decorators.items():
            rule = f"/<int:test>/{root}/<path:path>"
            app.add_url_rule(rule, root, cache_response(**options)(function), methods=["GET", "POST"])
        self.client: FlaskClient = app.test_client(use_cookies=False)

    def begin(self) -> None:
        """A test begins: nothing was said, and none of its URLs was visited."""
        self.answer: Answer = lambda: "x"
        self.calls = 0
        self._test = next(_tests)

    def url(self, path: str) -> str:
        """Of this test."""
        return f"/{self._test}{path}"

    def get(self, path: str = "/row/a", **headers: str) -> TestResponse:
        """A GET with headers whose names are written with underscores."""
        return self.send("GET", path, **headers)

    def send(self, method: str, path: str = "/row/a", **headers: str) -> TestResponse:
        """A request with headers whose names are written with underscores."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.open(self.url(path), method=method, headers=fields)

    def says(self, body: str = "x", status: int = 200, /, **headers: str) -> None:
        """From now on the view answers so; each time with the number of its call."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = lambda: (f"{body}{self.calls}", status, fields)

    def pair(self, path: str = "/row/a", **headers: str) -> list[str]:
        """What `X-Cache` says to a request and its repetition."""
        return [self.get(path, **headers).headers["X-Cache"] for _ in range(2)]


@pytest.fixture(scope="module")
def sites() -> Iterator[dict[tuple[str, str], Site]]:
    """The sites, made as they are asked for."""
    made: dict[tuple[str, str], Site] = {}
    yield made
    for each in made.values():
        manager(each.app).close()


@pytest.fixture(params=[(kind, store) for kind in ("sync", "async") for store in STORES], ids="-".join)
def site(request: pytest.FixtureRequest, sites: dict[tuple[str, str], Site]) -> Site:
    """A site on each store, with each kind of view."""
    kind, store = request.param
    if request.param not in sites:
        url = STORES[store] or request.getfixturevalue("_shared_redis").url
        sites[request.param] = Site(url + (TIERED if store == "tiered" else ""), kind)
    sites[request.param].begin()
    return sites[request.param]


def left(response: TestResponse) -> int:
    """The seconds of freshness that `Cache-Status` gives."""
    match = re.search(r"rcache;[^,]*; ttl=(-?\d+)", response.headers["Cache-Status"])
    assert match
    return int(match[1])


HITS, MISSES = ["MISS", "HIT"], ["MISS", "MISS"]


@pytest.mark.parametrize(
    ("status", "verdicts"),
    [(status, HITS) for status in (200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501)]
    + [(status, MISSES) for status in (201, 202, 206, 302, 303, 307, 304, 400, 401, 403, 429, 500, 502, 503)],
)
def test_row__statuses(site: Site, status: int, verdicts: list[str]) -> None:
    """RFC 9110 section 15.1: which statuses are kept when nothing states a lifetime."""
    site.says("x", status)
    assert site.pair() == verdicts
    assert site.get().status_code == status


@pytest.mark.parametrize("status", [302, 303, 307])
def test_row__redirects_with_a_lifetime(site: Site, status: int) -> None:
    """RFC 9110 sections 15.4.3, 15.4.4 and 15.4.8: kept when they say for how long."""
    site.says("x", status, Location="/b", Cache_Control="max-age=60")
    assert site.pair() == HITS
    assert site.get().headers["Location"] == "/b"


@pytest.mark.parametrize(
    ("control", "reason"),
    [
        ("no-store", "NO-STORE"),
        ("NO-STORE, max-age=60", "NO-STORE"),
        ("private", "PRIVATE"),
        ('private="X-A"', "PRIVATE"),
        ("no-cache", "NO-CACHE"),
        ('no-cache="X-A"', "NO-CACHE"),
        ("max-age=0", "ALREADY-STALE"),
        ("max-age=60, max-age=0", "ALREADY-STALE"),
        ("max-age=-1", "ALREADY-STALE"),
        ("max-age=soon", "ALREADY-STALE"),
        ("s-maxage=0, max-age=60", "ALREADY-STALE"),
        ("public, max-age=60", None),
        ("max-age=0, s-maxage=60", None),
        ('max-age="60"', None),
        ("must-understand, no-store, max-age=60", None),
    ],
)
def test_row__response_directives(site: Site, control: str, reason: str | None) -> None:
    """RFC 9111 section 5.2.2: what a response says of its being stored."""
    site.says(Cache_Control=control)
    assert detail(site.get()) == reason
    assert site.get().headers["X-Cache"] == ("MISS" if reason else "HIT")
    assert site.get().headers["Cache-Control"] == control


@pytest.mark.parametrize(
    ("headers", "ttl"),
    [
        ({}, 60),
        ({"Cache_Control": "max-age=20"}, 20),
        ({"Cache_Control": "max-age=90"}, 60),
        ({"Cache_Control": "max-age=20, s-maxage=10"}, 10),
        ({"Cache_Control": "max-age=30", "Age": "10"}, 20),
        ({"Expires": formatdate(time.time() + 3600, usegmt=True)}, 60),
    ],
)
def test_row__the_ttl_is_the_least(site: Site, headers: dict[str, str], ttl: int) -> None:
    """RFC 9111 section 4.2.1: the decorator's, the response's own, less the age it came with."""
    site.says(**headers)
    assert f"; stored; ttl={ttl};" in site.get().headers["Cache-Status"]
    hit = site.get()
    assert 0 <= int(hit.headers["Age"]) - int(headers.get("Age", 0)) <= 3
    assert ttl - 4 < left(hit) <= ttl


def test_row__expires(site: Site) -> None:
    """RFC 9111 section 5.3: a date that is past, or that is none, means stale; without one nothing is assumed."""
    for number, value in enumerate(("0", "never", formatdate(time.time() - 5, usegmt=True))):
        site.says(Expires=value)
        assert site.pair(f"/headers/{number}") == MISSES
    site.says(Expires=formatdate(time.time() + 60, usegmt=True))
    assert site.pair("/headers/x") == HITS
    site.says()
    assert detail(site.get("/headers/y")) == "NO-FRESHNESS"


def test_row__cookies_are_for_one(site: Site) -> None:
    """A response that sets a cookie is never stored, whatever else it says (stricter than RFC 9111 section 7.3)."""
    site.says(Set_Cookie="a=1", Cache_Control="public, max-age=60")
    assert site.pair() == MISSES
    assert detail(site.get()) == "SET-COOKIE"
    site.says()
    assert site.pair() == HITS


@pytest.mark.parametrize("ask", [{"Authorization": "Bearer x"}, {"Cookie": "remember_token=x"}])
def test_row__credentials(site: Site, ask: dict[str, str]) -> None:
    """RFC 9111 section 3.5, and sessions: past the cache both ways, and without a lasting effect on others."""
    site.says(Cache_Control="public, max-age=60" if "Cookie" in ask else "max-age=60")
    assert site.pair("/row/a", **ask) == ["BYPASS"] * 2
    assert site.pair() == HITS
    assert site.pair("/row/a", **ask) == ["BYPASS"] * 2
    assert site.get().headers["X-Cache"] == "HIT"


def test_row__if_none_match(site: Site) -> None:
    """RFC 9110 section 13.1.2: weak comparison, lists, `*`; on a hit and on a miss, and the view never sees it."""
    site.answer = lambda: (str(request.if_none_match), 200, {"ETag": '"v1"', "X-Own": "1", "Content-Language": "en"})
    for _ in range(2):  # the first of them is a miss
        for value in ('"v1"', 'W/"v1"', '"v0", "v1"', "*"):
            response = site.get(If_None_Match=value)
            assert (response.status_code, response.data) == (304, b"")
            assert response.headers["ETag"] == '"v1"'
            assert "Content-Language" not in response.headers
            assert "Content-Length" not in response.headers
        whole = site.get(If_None_Match='"v2"', If_Modified_Since=formatdate(usegmt=True))
        assert (whole.status_code, whole.data) == (200, b"")
    assert site.calls == 1


def test_row__an_etag_is_made(site: Site) -> None:
    """RFC 9110 section 8.8.3: a response without a validator gets a weak one, the same on the miss and on hits."""
    site.says()
    miss, hit = site.get(), site.get()
    assert miss.headers["ETag"] == hit.headers["ETag"]
    assert miss.headers["ETag"].startswith('W/"')
    assert site.get(If_None_Match=hit.headers["ETag"]).status_code == 304
    site.says("x", 404)
    assert "ETag" not in site.get("/row/none").headers


def test_row__if_modified_since(site: Site) -> None:
    """RFC 9110 section 13.1.3: only where the response has a Last-Modified, and no newer than asked."""
    modified = time.time() - 100
    site.says(Last_Modified=formatdate(modified, usegmt=True))
    for _ in range(2):
        assert site.get(If_Modified_Since=formatdate(modified, usegmt=True)).status_code == 304
        assert site.get(If_Modified_Since=formatdate(modified - 1, usegmt=True)).status_code == 200
        assert site.get(If_Modified_Since="yesterday").status_code == 200


def test_row__if_match_is_the_views(site: Site) -> None:
    """RFC 9110 sections 13.1.1 and 13.1.4: If-Match and If-Unmodified-Since go to the view."""
    site.answer = lambda: ("changed", 412) if "If-Match" in request.headers else "x"
    assert site.pair() == HITS
    response = site.get(If_Match='"v1"')
    assert (response.status_code, detail(response)) == (412, "PRECONDITION")
    assert detail(site.get(If_Unmodified_Since=formatdate(usegmt=True))) == "PRECONDITION"


@pytest.mark.parametrize(
    ("value", "status", "part", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-3", 200, b"0123456789", None),
        ("bytes=3-1", 200, b"0123456789", None),
    ],
)
def test_row__ranges(site: Site, value: str, status: int, part: bytes, content_range: str | None) -> None:
    """RFC 9110 section 14.2: one range of the whole stored response, on a miss as on a hit; a 206 is never stored."""
    site.answer = lambda: Response("0123456789", headers={"ETag": '"v1"', "Cache-Control": "max-age=9"})
    for verdict in HITS:
        response = site.get(Range=value)
        assert (response.status_code, response.data, response.headers.get("Content-Range")) == (
            status,
            part,
            content_range,
        )
        assert response.headers["Content-Length"] == str(len(part))
        assert response.headers["X-Cache"] == verdict
    whole = site.get()
    assert (whole.status_code, whole.data, whole.headers["Cache-Control"]) == (200, b"0123456789", "max-age=9")
    # What the whole response says of its lifetime counts, though a 416 does not repeat it.
    assert 4 < left(whole) <= 9
    assert site.get(Range=value, If_Range='"v1"').status_code == status
    assert site.get(Range=value, If_Range='"v0"').status_code == 200


def test_row__head(site: Site) -> None:
    """RFC 9110 section 9.3.2: HEAD is answered from a stored GET, with its length, and never stored itself."""
    site.says("x" * 20)
    assert [site.send("HEAD").headers["X-Cache"] for _ in range(2)] == MISSES
    whole = site.get()
    head = site.send("HEAD")
    assert (head.headers["X-Cache"], head.data) == ("HIT", b"")
    assert head.headers["Content-Length"] == str(len(whole.data))
    assert head.headers["ETag"] == whole.headers["ETag"]
    assert site.send("HEAD", If_None_Match=whole.headers["ETag"]).status_code == 304


def test_row__hop_by_hop_fields_stay_behind(site: Site) -> None:
    """RFC 9110 section 7.6.1: neither they nor what Connection lists are replayed; repeated lines are."""
    fields = [("Connection", "X-Hop, close"), ("X-Hop", "1"), ("Keep-Alive", "5"), ("Proxy-Authenticate", "Basic")]
    links = [("Link", "</a>"), ("Link", "</b>"), ("Warning", '299 - "odd"')]
    site.answer = lambda: ("x", 200, [*fields, *links])
    site.get()
    hit = site.get()
    assert {name for name, _ in fields} & set(hit.headers.keys()) == set()
    assert [line for line in hit.headers if line in links] == links


def test_row__age_adds_up(site: Site) -> None:
    """RFC 9111 section 4.2.3: the age with which a gateway got the response, then ours; Date stays the origin's."""
    date = formatdate(time.time() - 30, usegmt=True)
    site.says(Date=date, Cache_Control="max-age=50")
    assert 16 < left(site.get()) <= 20
    hit = site.get()
    assert hit.headers["Date"] == date
    assert 30 <= int(hit.headers["Age"]) <= 34


def test_row__request_directives(site: Site) -> None:
    """RFC 9111 section 5.2.1: `no-store` is obeyed, and the rest is ignored but for callers whom the app authorises."""
    site.says()
    for _ in range(2):
        response = site.get(Cache_Control="no-store")
        assert (response.headers["X-Cache"], detail(response)) == ("MISS", "REQUEST-NO-STORE")
    assert site.get().headers["X-Cache"] == "MISS"
    before = site.calls
    for value in ("no-cache", "max-age=0", "no-store", "only-if-cached", "min-fresh=999"):
        assert site.get(Cache_Control=value, Pragma="no-cache").headers["X-Cache"] == "HIT"
    assert site.calls == before
    fresh = site.get(Cache_Control="no-cache", X_Admin="yes")
    assert (fresh.headers["X-Cache"], fresh.data) == ("MISS", f"x{before + 1}".encode())
    if not site.tiered:  # the memory tier may hold what was valid before, and still is, for two seconds
        assert site.get().data == fresh.data


def test_row__methods(site: Site) -> None:
    """RFC 9111 section 4: only GET and HEAD are looked up; a successful POST invalidates (section 4.4)."""
    site.says()
    assert site.pair() == HITS
    post = site.send("POST")
    assert (post.headers["X-Cache"], detail(post)) == ("BYPASS", "METHOD")
    assert "fwd=method" in post.headers["Cache-Status"]
    assert site.pair() == HITS


def test_row__a_get_with_a_body_is_not_looked_up(site: Site) -> None:
    """RFC 9110 section 9.3.1: what is in no key must not make an entry (a "fat GET" poisons a cache)."""
    site.answer = lambda: request.get_data() or b"none"
    fat = site.client.get(site.url("/row/a"), data=b"poison")
    assert (fat.data, detail(fat)) == (b"poison", "REQUEST-BODY")
    assert site.pair() == HITS
    assert site.get().data == b"none"


def test_row__method_override_and_forwarded_fields_are_not_the_key(site: Site) -> None:
    """What a proxy did not vouch for changes neither the answer's key nor, through it, anybody else's page."""
    site.answer = lambda: request.host
    poisoned = site.get(X_Forwarded_Host="evil.test", X_HTTP_Method_Override="POST", X_Original_URL="/admin")
    assert poisoned.data == b"localhost"
    assert site.get().data == b"localhost"


def test_row__hit_for_miss(site: Site) -> None:
    """After a response that cannot be stored nobody waits for the URL; the first that can be is stored again."""
    site.says(Cache_Control="no-store")
    assert site.pair() == MISSES
    site.says()
    assert site.pair() == HITS


def test_row__cache_status_is_a_structured_field(site: Site) -> None:
    """RFC 9211: one member of ours at the end of what others said, for each kind of answer."""
    site.says(Cache_Status="Origin; hit; ttl=30")
    assert (
        site.get().headers["Cache-Status"].startswith("Origin; hit; ttl=30, rcache; fwd=uri-miss; stored; ttl=60; key=")
    )
    assert re.fullmatch(r'rcache; hit; ttl=5\d; key="cache:row:~[0-9a-f]{32}"', site.get().headers["Cache-Status"])
    bypass = site.get(Authorization="Basic x").headers["Cache-Status"]
    assert bypass == "Origin; hit; ttl=30, rcache; fwd=bypass; detail=AUTHORIZATION"
    conditional = site.get("/row/c", If_None_Match="*")
    assert "; fwd-status=200; stored; ttl=60;" in conditional.headers["Cache-Status"]


def test_row__one_line_for_each_kind_of_entry(site: Site) -> None:
    """Path, query, scheme and host are the key; a trailing slash, a percent-coding and letter case are as they are."""
    site.says()
    paths = ["/row/a", "/row/a?x=1", "/row/a?x=1&x=2", "/row/A", "/row/a/", "/row/a%20b", "/row/a+b", "/row/%C3%A9"]
    assert [site.get(path).headers["X-Cache"] for path in paths] == ["MISS"] * len(paths)
    assert [site.get(path).headers["X-Cache"] for path in paths] == ["HIT"] * len(paths)
    assert site.get("/row/a%20b").headers["X-Cache"] == "HIT"
    assert site.get("/row/%61").headers["X-Cache"] == "HIT"
