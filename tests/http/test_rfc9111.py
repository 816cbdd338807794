"""The main behaviours that the public test suite for HTTP caches asks about, by section; they need nothing but Python.

Each row is a first request and its response, then a second request, and whether that is answered from the cache.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any, NamedTuple

import pytest
from flask import Flask, Response, request

from flask_rcache import FROM_HEADERS, CacheType, RCache, cache_response
from tests.views.kit import manager

Fields = dict[str, str]


class Row(NamedTuple):
    """One behaviour.

    Args:
        section: of RFC 9111, unless it names another.
        behaviour: in words.
        response: the header fields of the view's response.
        hit: whether the second request is answered from the cache.
        status: of the view's response.
        first: header fields of the first request.
        second: of the second.
        method: of the second.
        between: the method of a request between the two.
    """

    section: str
    behaviour: str
    response: Fields
    hit: bool
    status: int = 200
    first: Fields = {}  # noqa: RUF012  # never changed
    second: Fields = {}  # noqa: RUF012
    method: str = "GET"
    between: str = ""


def _at(seconds: float) -> str:
    return formatdate(time.time() + seconds, usegmt=True)


FRESH = {"Cache-Control": "max-age=3600"}
TOKEN = {"Authorization": "Bearer abc"}

ROWS = [
    Row("3", "no lifetime is stated", {}, False),
    Row("3", "a status with a stated lifetime", FRESH, True, status=299),
    Row("3", "an error with a stated lifetime", FRESH, True, status=503),
    Row("3", "an error without", {}, False, status=503),
    Row("3.3", "a part of a response", {**FRESH, "Content-Range": "bytes 0-3/9"}, False, status=206),
    Row("3.5", "Authorization, and nothing permits it", FRESH, False, first=TOKEN, second=TOKEN),
    Row("3.5", "public permits it", {"Cache-Control": "public, max-age=60"}, True, first=TOKEN, second=TOKEN),
    Row("3.5", "s-maxage permits it", {"Cache-Control": "s-maxage=60"}, True, first=TOKEN, second=TOKEN),
    Row("3.5", "must-revalidate permits it", {"Cache-Control": "max-age=60, must-revalidate"}, True, first=TOKEN),
    Row("3.5", "stored without, asked for with Authorization", FRESH, False, second=TOKEN),
    Row("3.5", "the same where it is public", {"Cache-Control": "public, max-age=60"}, True, second=TOKEN),
    Row("4", "HEAD is answered from a stored GET", FRESH, True, method="HEAD"),
    Row("4", "POST is not", FRESH, False, method="POST"),
    Row(
        "4.1",
        "Vary, and the field is the same",
        {**FRESH, "Vary": "Foo"},
        True,
        first={"Foo": "1"},
        second={"Foo": "1"},
    ),
    Row("4.1", "Vary, and the field differs", {**FRESH, "Vary": "Foo"}, False, first={"Foo": "1"}, second={"Foo": "2"}),
    Row("4.1", "Vary, and the field is missing", {**FRESH, "Vary": "Foo"}, False, first={"Foo": "1"}),
    Row("4.1", "Vary: *", {**FRESH, "Vary": "*"}, False),
    Row("4.1", "Vary: * beside another", {**FRESH, "Vary": "*, Foo"}, False),
    Row(
        "9110, 12.5.4",
        "languages in another order of the same weights",
        {**FRESH, "Vary": "Accept-Language"},
        True,
        first={"Accept-Language": "en;q=0.5, DE"},
        second={"Accept-Language": "de,en; q=0.50"},
    ),
    Row(
        "9110, 12.5.4",
        "languages with other weights",
        {**FRESH, "Vary": "Accept-Language"},
        False,
        first={"Accept-Language": "en;q=0.5, de"},
        second={"Accept-Language": "en, de;q=0.5"},
    ),
    Row("4.2.1", "s-maxage before max-age", {"Cache-Control": "max-age=1, s-maxage=3600", "Age": "2"}, True),
    Row("4.2.1", "max-age before Expires", {**FRESH, "Expires": _at(-100)}, True),
    Row("4.2.1", "of two max-age the smaller", {"Cache-Control": "max-age=0, max-age=3600"}, False),
    Row("4.2.1", "max-age that is no number", {"Cache-Control": "max-age=never"}, False),
    Row("4.2.3", "Age counts", {"Cache-Control": "max-age=60", "Age": "61"}, False),
    Row("4.2.3", "an invalid Age is ignored", {**FRESH, "Age": "seven"}, True),
    Row("4.4", "a write to the URL invalidates", FRESH, False, between="POST"),
    Row("4.4", "so does DELETE", FRESH, False, between="DELETE"),
    Row("4.4", "a safe method does not", FRESH, True, between="HEAD"),
    Row("5.2.1.5", "a request with no-store is not stored", FRESH, False, first={"Cache-Control": "no-store"}),
    Row("5.2.1.4", "a client can't switch the cache off", FRESH, True, second={"Cache-Control": "no-cache"}),
    Row("5.2.2.1", "max-age", FRESH, True),
    Row("5.2.2.1", "in capitals", {"CACHE-CONTROL": "MAX-AGE=3600"}, True),
    Row("5.2.2.1", "max-age=0", {"Cache-Control": "max-age=0"}, False),
    Row(
        "5.2.2.3",
        "must-understand, and the status is known",
        {"Cache-Control": "must-understand, no-store, max-age=9"},
        True,
    ),
    Row("5.2.2.3", "and is not", {"Cache-Control": "must-understand, no-store, max-age=9"}, False, status=299),
    Row("5.2.2.4", "no-cache", {"Cache-Control": "no-cache, max-age=3600"}, False),
    Row("5.2.2.5", "no-store", {"Cache-Control": "no-store, max-age=3600"}, False),
    Row("5.2.2.5", "after a mistake", {"Cache-Control": "public; no-store"}, False),
    Row("5.2.2.7", "private", {"Cache-Control": "private, max-age=3600"}, False),
    Row("5.3", "Expires", {"Expires": _at(3600)}, True),
    Row("5.3", "Expires in the past", {"Expires": _at(-3600)}, False),
    Row("5.3", "Expires that is no date", {"Expires": "0"}, False),
    Row("7.3", "a cookie is for one client", {**FRESH, "Set-Cookie": "a=b"}, False),
    Row("9213, 2", "a targeted field", {"CDN-Cache-Control": "max-age=3600", "Cache-Control": "no-store"}, True),
    Row("9213, 2", "that forbids", {"CDN-Cache-Control": "no-store", **FRESH}, False),
    Row("9213, 2.2", "that can't be read is ignored", {"CDN-Cache-Control": "max-age=?", **FRESH}, True),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section}: {row.behaviour}")
def test_rfc9111__as_the_section_says(row: Row) -> None:
    """The second request is a hit where the section permits it, and this cache is not stricter on purpose."""
    app = Flask("gateway")
    app.config.update(RCACHE_URL="memory://", RCACHE_TARGETED_FIELDS=["CDN-Cache-Control"], TESTING=True)
    RCache(app)
    answers = iter([Response("first", row.status, row.response), *(Response("other") for _ in range(3))])

    @app.route("/", methods=["GET", "POST", "DELETE"])
    @cache_response(CacheType("gateway", revalidate=0), ttl=FROM_HEADERS)
    def forward() -> Any:
        return next(answers) if request.method == "GET" else Response("written")

    client = app.test_client(use_cookies=False)
    first = client.get("/", headers=row.first)
    if row.between:
        client.open("/", method=row.between)
    second = client.open("/", method=row.method, headers=row.second)

    assert first.text == "first"
    assert (second.headers["X-Cache"] == "HIT") is row.hit
    assert ("Age" in second.headers) is row.hit
    if row.hit:
        assert (second.status_code, second.text) == (row.status, "" if row.method == "HEAD" else "first")
    else:
        assert second.text != "first"
    manager(app).close()
