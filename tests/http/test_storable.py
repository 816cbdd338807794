"""Whether a response may be stored, and for how long: a table for every rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import http_date

from flask_rcache.http import Reason, RequestFacts, StorePolicy, Verdict, response_verdict

NOW = 1_700_000_000.5
POLICY = StorePolicy(ttl=300, stale_while_revalidate=60, stale_if_error=600, error_ttl=10, max_body=1000)
FROM_HEADERS = StorePolicy(ttl=None)
SHARED = StorePolicy(ttl=300, shared=True)
PER_USER = StorePolicy(ttl=300, per_user=True)

Lines = list[tuple[str, str]]


def judge(
    status: int = 200,
    headers: Lines | tuple[tuple[str, str], ...] = (),
    *,
    policy: StorePolicy = POLICY,
    request: RequestFacts | None = None,
    body_length: int | None = 100,
) -> Verdict:
    """The verdict on a response that is storable but for what the test says."""
    request = request or RequestFacts()
    return response_verdict(status, headers, policy=policy, request=request, body_length=body_length, now=NOW)


def cc(value: str) -> Lines:
    return [("Cache-Control", value)]


def test_response_verdict__of_the_same_lines_is_not_taken_for_another() -> None:
    """What is judged once is kept, and no part of what decides is left out: neither the time, where it matters."""
    lines = [("Content-Type", "text/plain"), ("Cache-Control", "max-age=50")]
    for _ in range(2):
        assert judge(200, lines).ttl == 50
        assert judge(500, lines, policy=POLICY._replace(error_ttl=7)).ttl == 7
        assert judge(200, lines, policy=POLICY._replace(ttl=20)).ttl == 20
        assert judge(200, lines, request=RequestFacts(session=True)).reason is Reason.SESSION
        assert judge(200, lines, body_length=None).reason is Reason.STREAMED
        assert judge(200, lines, body_length=1001).reason is Reason.TOO_LARGE
        assert judge(200, [*lines, ("CONTENT-length", "99")]).reason is Reason.PARTIAL
        assert judge(200, [*lines, ("content-length", "100")]).ttl == 50
        assert judge(200, [lines[0]]).ttl == 300
    for header in ("Date", "date"):
        dated = [*lines, (header, http_date(NOW - 30))]
        assert judge(200, dated).ttl == 20
        later = response_verdict(200, dated, policy=POLICY, request=RequestFacts(), body_length=100, now=NOW + 15)
        assert later.ttl == 5


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308], ids="RFC9110-15.1-{}".format)
def test_response_verdict__stores_a_success_for_the_ttl(status: int) -> None:
    """The heuristically cacheable statuses take the decorator's ttl and the type's windows."""
    assert judge(status) == Verdict(ttl=300, stale_while_revalidate=60, stale_if_error=600)


@pytest.mark.parametrize("status", [404, 405, 410, 414, 501], ids="RFC9110-15.1-{}".format)
@pytest.mark.parametrize(("stated", "ttl"), [([], 10), (cc("max-age=3600"), 10), (cc("max-age=4"), 4)], ids=str)
def test_response_verdict__caps_errors_short(status: int, stated: Lines, ttl: float) -> None:
    """A storable error is kept for error_ttl at most, whatever it says itself."""
    verdict = judge(status, stated)
    assert (verdict.storable, verdict.ttl) == (True, ttl)


@pytest.mark.parametrize("status", [302, 303, 307], ids="RFC9110-15.4-{}".format)
def test_response_verdict__stores_a_temporary_redirect_only_when_it_says_so(status: int) -> None:
    """302, 303 and 307 need a lifetime of their own; the decorator's ttl does not count as one."""
    assert judge(status).reason is Reason.STATUS
    assert judge(status, cc("max-age=20")).ttl == 20
    assert judge(status, [("Expires", http_date(NOW + 20))]).ttl == pytest.approx(20, abs=1)


@pytest.mark.parametrize(
    "status",
    [201, 202, 205, 207, 226, 299, 305, 306, 400, 401, 403, 418, 429, 499, 500, 502, 503, 504, 599],
    ids="RFC9111-3-{}".format,
)
def test_response_verdict__stores_any_final_status_that_states_its_lifetime(status: int) -> None:
    """RFC 9111 section 3: explicit freshness suffices; the decorator's ttl, and `public` alone, do not."""
    assert judge(status, cc("max-age=6")).ttl == 6
    assert judge(status, [("Expires", http_date(NOW + 6))]).storable
    assert judge(status).reason is Reason.STATUS
    assert judge(status, cc("public")).reason is Reason.STATUS


@pytest.mark.parametrize("status", [100, 101, 103, 304, 600, 999], ids="RFC9111-3-{}".format)
def test_response_verdict__refuses_what_is_no_final_response(status: int) -> None:
    """Interim responses, a 304 and what is no status are refused, whatever they say."""
    assert judge(status, cc("public, max-age=60")).reason is Reason.STATUS


@pytest.mark.parametrize("status", [404, 503], ids=str)
def test_response_verdict__stores_no_error_where_error_ttl_is_0(status: int) -> None:
    """`error_ttl=0` keeps errors out, those with a lifetime of their own too."""
    assert judge(status, cc("max-age=60"), policy=StorePolicy(ttl=300, error_ttl=0)).reason is Reason.STATUS


ETAG = [("ETag", '"v1"')]
MODIFIED = [("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")]


@pytest.mark.parametrize(
    ("headers", "policy", "expected"),
    [
        pytest.param(ETAG, StorePolicy(ttl=60), (60, 60), id="as-long-as-fresh"),
        pytest.param(MODIFIED, StorePolicy(ttl=60), (60, 60), id="last-modified"),
        pytest.param([], StorePolicy(ttl=60), (60, 0), id="no-validator"),
        pytest.param([("ETag", 'W/"rc-0123"')], StorePolicy(ttl=60), (60, 0), id="a-tag-of-ours"),
        pytest.param([("ETag", "v1")], StorePolicy(ttl=60), (60, 0), id="no-entity-tag"),
        pytest.param(ETAG, StorePolicy(ttl=60, revalidate=9), (60, 9), id="as-the-type-says"),
        pytest.param(ETAG, StorePolicy(ttl=60, revalidate=0), (60, 0), id="not-at-all"),
        pytest.param(ETAG + cc("max-age=6"), StorePolicy(ttl=60), (6, 6), id="as-long-as-it-says"),
        pytest.param(ETAG + cc("no-cache"), StorePolicy(ttl=60), (0, 300), id="RFC9111-5.2.2.4-no-cache"),
        pytest.param(ETAG + cc("max-age=6, no-cache"), StorePolicy(ttl=None), (0, 300), id="no-cache-and-max-age"),
        pytest.param(ETAG + cc("no-cache"), StorePolicy(ttl=60, revalidate=9), (0, 9), id="no-cache-as-the-type-says"),
        pytest.param([*ETAG, ("Pragma", "no-cache")], StorePolicy(ttl=60), (0, 300), id="RFC9111-5.4-pragma-alone"),
        pytest.param(ETAG + cc("max-age=0"), StorePolicy(ttl=60), (0, 300), id="stale-when-it-came"),
        pytest.param(ETAG + cc("max-age=5, must-revalidate"), StorePolicy(ttl=60), (5, 5), id="must-revalidate"),
    ],
)
def test_response_verdict__keeps_what_can_be_revalidated(
    headers: Lines, policy: StorePolicy, expected: tuple[float, float]
) -> None:
    """A response with a validator of its own is kept past its ttl; one that is never fresh, for that alone."""
    verdict = judge(200, headers, policy=policy)
    assert (verdict.reason, (verdict.ttl, verdict.revalidate)) == (None, expected)


@pytest.mark.parametrize("control", ["no-cache", "max-age=0", "max-age=0, no-cache"], ids=str)
def test_response_verdict__refuses_what_could_only_be_revalidated_where_that_is_off(control: str) -> None:
    """With `revalidate=0` a response that is never fresh is not stored."""
    assert not judge(200, ETAG + cc(control), policy=StorePolicy(ttl=60, revalidate=0)).storable


def test_response_verdict__has_no_stale_window_for_what_must_be_revalidated_each_time() -> None:
    """RFC 9111 section 5.2.2.4: what is never fresh stands in for nothing, not even for an error."""
    policy = StorePolicy(ttl=60, stale_while_revalidate=60, stale_if_error=60)
    verdict = judge(200, ETAG + cc("no-cache"), policy=policy)
    assert (verdict.stale_while_revalidate, verdict.stale_if_error) == (0, 0)
    came_stale = judge(200, ETAG + cc("max-age=20") + [("Age", "30")], policy=policy)
    assert (came_stale.ttl, came_stale.stale_if_error) == (0, 0)


CDN = StorePolicy(ttl=None, targeted=("cdn-cache-control",))


@pytest.mark.parametrize(
    ("headers", "policy", "expected"),
    [
        pytest.param([("CDN-Cache-Control", "max-age=60")], CDN, 60, id="RFC9213-2.2-alone"),
        pytest.param([*cc("max-age=5"), ("CDN-Cache-Control", "max-age=60")], CDN, 60, id="RFC9213-2.2-longer"),
        pytest.param([*cc("max-age=60"), ("CDN-Cache-Control", "max-age=5")], CDN, 5, id="RFC9213-2.2-shorter"),
        pytest.param([*cc("no-store"), ("CDN-Cache-Control", "max-age=60")], CDN, 60, id="RFC9213-2.2-no-store"),
        pytest.param([("Expires", "0"), ("CDN-Cache-Control", "max-age=60")], CDN, 60, id="RFC9213-2.2-expires"),
        pytest.param([("Pragma", "no-cache"), ("CDN-Cache-Control", "max-age=6")], CDN, 6, id="RFC9213-2.2-pragma"),
        pytest.param(
            [*cc("max-age=60"), ("CDN-Cache-Control", "no-store")], CDN, Reason.NO_STORE, id="forbids-to-store"
        ),
        pytest.param([*cc("max-age=60"), ("CDN-Cache-Control", "private")], CDN, Reason.PRIVATE, id="private"),
        pytest.param([*cc("max-age=60"), ("CDN-Cache-Control", "no-cache")], CDN, Reason.NO_CACHE, id="no-cache"),
        pytest.param([*cc("max-age=60"), ("CDN-Cache-Control", "&&")], CDN, 60, id="RFC9213-2.1-not-to-be-read"),
        pytest.param([*cc("max-age=60"), ("CDN-Cache-Control", "")], CDN, 60, id="RFC9213-2.1-empty"),
        pytest.param(
            [*cc("no-store"), ("CDN-Cache-Control", 'max-age="60"')], CDN, Reason.NO_FRESHNESS, id="another-type"
        ),
        pytest.param(
            [*cc("max-age=5"), ("CDN-Cache-Control", "max-age=60")], StorePolicy(ttl=None), 5, id="not-configured"
        ),
        pytest.param(
            [("Surrogate-Control", "max-age=7"), ("CDN-Cache-Control", "max-age=60")],
            StorePolicy(ttl=None, targeted=("surrogate-control", "cdn-cache-control")),
            7,
            id="RFC9213-2.2-the-first-of-the-list",
        ),
        pytest.param([("CDN-Cache-Control", "max-age=60"), ("Age", "70")], CDN, Reason.ALREADY_STALE, id="age"),
    ],
)  # fmt: skip
def test_response_verdict__obeys_targeted_fields(headers: Lines, policy: StorePolicy, expected: float | Reason) -> None:
    """RFC 9213: a targeted field that this cache was told to obey replaces Cache-Control and Expires."""
    verdict = judge(200, headers, policy=policy)
    assert (verdict.reason or verdict.ttl) == expected


@pytest.mark.parametrize("status", [500, 503], ids=str)
def test_response_verdict__stores_a_5xx_when_the_type_says_so(status: int) -> None:
    """extra_statuses admits a 5xx, capped like any error."""
    policy = StorePolicy(ttl=300, error_ttl=7, extra_statuses=frozenset({500, 503}))
    assert judge(status, policy=policy) == Verdict(ttl=7)


@pytest.mark.parametrize(
    ("status", "reason"), [(100, Reason.STATUS), (206, Reason.PARTIAL), (304, Reason.STATUS)], ids=str
)
def test_response_verdict__never_stores_1xx_206_304(status: int, reason: Reason) -> None:
    """RFC 9111 sections 3.3 and 4.3: not even when a type asks for them."""
    policy = StorePolicy(ttl=300, extra_statuses=frozenset({status}))
    assert judge(status, cc("max-age=60"), policy=policy).reason is reason


REFUSED: list[tuple[str, Reason, Lines, dict[str, Any]]] = [
    ("RFC9111-7.3-set-cookie", Reason.SET_COOKIE, [("set-cookie", "a=1")], {}),
    ("RFC9111-7.3-set-cookie-shared", Reason.SET_COOKIE, [("Set-Cookie", "a=1")], {"policy": SHARED}),
    ("RFC9111-7.3-set-cookie-per-user", Reason.SET_COOKIE, [("Set-Cookie", "a=1")], {"policy": PER_USER}),
    ("RFC9111-7.3-set-cookie-public", Reason.SET_COOKIE,
     [("Set-Cookie", "a=1"), *cc("public, max-age=9")], {}),
    ("RFC9111-7.3-set-cookie-excluded", Reason.SET_COOKIE,
     [("Set-Cookie", "a"), *cc('no-cache="set-cookie"')], {}),
    ("RFC2965-3.2-set-cookie2", Reason.SET_COOKIE, [("Set-Cookie2", "a=1")], {}),
    ("RFC9111-5.2.2.5-no-store", Reason.NO_STORE, cc("no-store"), {}),
    ("RFC9111-5.2.2.5-no-store-max-age", Reason.NO_STORE, cc("max-age=60, no-store"), {}),
    ("RFC9111-5.2.2.5-no-store-per-user", Reason.NO_STORE, cc("no-store"), {"policy": PER_USER}),
    ("RFC9111-5.2.2.3-must-understand-unknown", Reason.STATUS, cc("must-understand, max-age=9"),
     {"status": 299, "policy": StorePolicy(ttl=9, extra_statuses=frozenset({299}))}),
    ("RFC9111-5.2.2.3-private-still", Reason.PRIVATE, cc("must-understand, no-store, private"), {}),
    ("RFC9111-5.2.2.7-private", Reason.PRIVATE, cc("private"), {}),
    ("RFC9111-5.2.2.7-private-max-age", Reason.PRIVATE, cc("private, max-age=60"), {}),
    ("RFC9111-5.2.2.7-private-qualified", Reason.PRIVATE, cc('private="x-foo"'), {}),
    ("RFC9111-5.2.2.7-private-shared", Reason.PRIVATE, cc("private"), {"policy": SHARED}),
    ("RFC9111-5.2.2.7-private-and-public", Reason.PRIVATE, cc("public, private"), {}),
    ("RFC9111-5.2.2.4-no-cache", Reason.NO_CACHE, cc("no-cache"), {}),
    ("RFC9111-5.2.2.4-no-cache-qualified", Reason.NO_CACHE, cc('no-cache="x-foo, x-bar", max-age=9'), {}),
    ("RFC9111-5.2.2.4-no-cache-per-user", Reason.NO_CACHE, cc("private, no-cache"), {"policy": PER_USER}),
    ("RFC9111-5.4-pragma-alone", Reason.NO_CACHE, [("Pragma", "no-cache")], {}),
    ("RFC9111-4.1-vary-star", Reason.VARY_STAR, [("Vary", "*")], {}),
    ("RFC9111-4.1-vary-star-listed", Reason.VARY_STAR, [("Vary", "Accept"), ("Vary", "Origin, *")], {}),
    ("RFC9110-8.4-coding", Reason.CONTENT_CODING, [("Content-Encoding", "gzip")], {}),
    ("RFC9110-8.4-coding-other-vary", Reason.CONTENT_CODING,
     [("Content-Encoding", "br"), ("Vary", "Accept")], {}),
    ("RFC9111-3.3-206", Reason.PARTIAL, cc("max-age=60"), {"status": 206}),
    ("RFC9111-3.3-content-range", Reason.PARTIAL, [("Content-Range", "bytes 0-9/100")], {}),
    ("RFC9111-3.3-incomplete", Reason.PARTIAL, [("Content-Length", "101")], {}),
    ("streamed", Reason.STREAMED, [], {"body_length": None}),
    ("too-large", Reason.TOO_LARGE, [], {"body_length": 1001}),
    ("RFC9111-4.2-from-headers-none", Reason.NO_FRESHNESS, [], {"policy": FROM_HEADERS}),
    ("RFC9111-4.2.2-from-headers-no-heuristics", Reason.NO_FRESHNESS,
     [("Last-Modified", http_date(NOW - 99999)), *cc("public")], {"policy": FROM_HEADERS}),
    ("RFC9111-4.2-max-age-0", Reason.ALREADY_STALE, cc("max-age=0"), {}),
    ("RFC9111-4.2-max-age-invalid", Reason.ALREADY_STALE, cc("max-age=-5"), {}),
    ("RFC9111-4.2-s-maxage-0", Reason.ALREADY_STALE, cc("max-age=60, s-maxage=0"), {}),
    ("RFC9111-4.2-malformed", Reason.ALREADY_STALE, cc('max-age=60, ext="'), {}),
    ("RFC9111-5.3-expires-0", Reason.ALREADY_STALE, [("Expires", "0")], {}),
    ("RFC9111-5.3-expires-past", Reason.ALREADY_STALE, [("Expires", http_date(NOW - 5))], {}),
    ("RFC9111-5.1-age-used-up", Reason.ALREADY_STALE, [*cc("max-age=60"), ("Age", "60")], {}),
    ("RFC9111-4.2.3-date-used-up", Reason.ALREADY_STALE,
     [*cc("max-age=60"), ("Date", http_date(NOW - 61))], {}),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "headers", "case"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_response_verdict__refuses_and_marks_hit_for_miss(reason: Reason, headers: Lines, case: dict[str, Any]) -> None:
    """What the response rules out is not stored, and for two minutes nobody waits for the URL."""
    verdict = judge(headers=headers, **case)
    assert verdict == Verdict(reason, hit_for_miss=120)
    assert not verdict.storable


STORED: list[tuple[str, Lines, dict[str, Any], dict[str, Any]]] = [
    ("RFC9111-5.2.2.1-max-age-less", cc("max-age=60"), {}, {"ttl": 60}),
    ("RFC9111-5.2.2.1-ttl-less", cc("max-age=6000"), {}, {"ttl": 300}),
    ("RFC9111-4.2.1-s-maxage-over-max-age", cc("max-age=6, s-maxage=90"), {}, {"ttl": 90}),
    ("RFC9111-4.2.1-max-age-over-expires", [*cc("max-age=30"), ("Expires", "0")], {}, {"ttl": 30}),
    ("RFC9111-5.3-expires-minus-date",
     [("Expires", http_date(NOW + 40)), ("Date", http_date(NOW))], {}, {"ttl": 40}),
    ("RFC9111-4.2.1-duplicate", cc("max-age=60, max-age=20"), {}, {"ttl": 20}),
    ("RFC9111-4.2.1-several-lines", [*cc("max-age=60"), *cc("max-age=20, public")], {}, {"ttl": 20}),
    ("RFC9111-1.2.2-overflow", cc("max-age=99999999999"), {"policy": FROM_HEADERS}, {"ttl": 2**31}),
    ("RFC9111-5.1-age-counted", [*cc("max-age=60"), ("Age", "15")], {}, {"ttl": 45, "age": 15}),
    ("RFC9111-5.1-age-without-lifetime", [("Age", "15")], {}, {"ttl": 300, "age": 15}),
    ("RFC9111-4.2.3-date-counted",
     [*cc("max-age=60"), ("Date", http_date(NOW - 20))], {}, {"ttl": 40, "age": 20}),
    ("extra-status-needs-no-lifetime", [],
     {"status": 302, "policy": StorePolicy(9, extra_statuses=frozenset({302}))}, {"ttl": 9}),
    ("FROM_HEADERS-max-age", cc("max-age=60"), {"policy": FROM_HEADERS}, {"ttl": 60}),
    ("FROM_HEADERS-expires", [("Expires", http_date(int(NOW) + 60))], {"policy": FROM_HEADERS}, {"ttl": 60}),
    ("RFC9111-5.2.2.7-private-per-user", cc("private, max-age=60"), {"policy": PER_USER}, {"ttl": 60}),
    ("RFC9111-5.2.2.7-private-qualified-per-user", cc('private="x"'), {"policy": PER_USER}, {"ttl": 300}),
    ("RFC9111-5.2.2.10-s-maxage-not-for-private",
     cc("private, max-age=6, s-maxage=90"), {"policy": PER_USER}, {"ttl": 6}),
    ("RFC9111-5.2.2.3-must-understand-over-no-store",
     cc("must-understand, no-store, max-age=60"), {}, {"ttl": 60}),
    ("RFC9111-5.2.3-unknown-directive", cc("no-transform, immutable, community=x"), {}, {"ttl": 300}),
    ("RFC9111-5.4-pragma-beside-cache-control", [("Pragma", "no-cache"), *cc("max-age=60")], {}, {"ttl": 60}),
    ("RFC9111-4.1-vary",
     [("Vary", "Origin"), ("Vary", "ACCEPT")], {}, {"ttl": 300, "vary": ("accept", "origin")}),
    ("RFC9110-8.4-coding-vary", [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")], {},
     {"ttl": 300, "vary": ("accept-encoding",)}),
    ("RFC9110-8.4-identity", [("Content-Encoding", "Identity")], {}, {"ttl": 300}),
    ("RFC9111-3.3-complete", [("Content-Length", "100")], {}, {"ttl": 300}),
    ("body-at-the-limit", [], {"body_length": 1000}, {"ttl": 300}),
    ("body-empty", [], {"body_length": 0}, {"ttl": 300}),
    ("no-limit", [], {"body_length": 10**9, "policy": SHARED}, {"ttl": 300}),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "case", "expected"), [r[1:] for r in STORED], ids=[r[0] for r in STORED])
def test_response_verdict__stores(headers: Lines, case: dict[str, Any], expected: dict[str, Any]) -> None:
    """A storable response is kept for the least of the decorator's ttl and the rest of its own lifetime."""
    verdict = judge(headers=headers, **case)
    assert verdict.storable
    assert {name: getattr(verdict, name) for name in expected} == expected
    assert (verdict.reason, verdict.hit_for_miss) == (None, 0)


AUTHORISED = RequestFacts(credentials=True)
IN_SESSION = RequestFacts(session=True)
BY_REQUEST: list[tuple[str, RequestFacts, Lines, StorePolicy, Reason | None]] = [
    ("RFC9111-3.5-authorization", AUTHORISED, [], POLICY, Reason.AUTHORIZATION),
    ("RFC9111-3.5-max-age-is-not-enough", AUTHORISED, cc("max-age=60"), POLICY, Reason.AUTHORIZATION),
    ("RFC9111-3.5-proxy-revalidate-is-not", AUTHORISED, cc("proxy-revalidate"), POLICY, Reason.AUTHORIZATION),
    ("RFC9111-3.5-public", AUTHORISED, cc("public"), POLICY, None),
    ("RFC9111-3.5-s-maxage", AUTHORISED, cc("s-maxage=60"), POLICY, None),
    ("RFC9111-3.5-must-revalidate", AUTHORISED, cc("must-revalidate"), POLICY, None),
    ("RFC9111-3.5-shared", AUTHORISED, [], SHARED, None),
    ("RFC9111-3.5-per-user", AUTHORISED, [], PER_USER, None),
    ("session", IN_SESSION, [], POLICY, Reason.SESSION),
    ("session-public", IN_SESSION, cc("public, s-maxage=60"), POLICY, Reason.SESSION),
    (
        "session-and-authorization",
        RequestFacts(credentials=True, session=True),
        cc("public"),
        POLICY,
        Reason.SESSION,
    ),
    ("session-shared", IN_SESSION, [], SHARED, None),
    ("session-per-user", IN_SESSION, cc("private"), PER_USER, None),
    ("RFC9111-5.2.1.5-no-store", RequestFacts(no_store=True), [], POLICY, Reason.REQUEST_NO_STORE),
    ("RFC9111-5.2.1.5-no-store-shared", RequestFacts(no_store=True), [], SHARED, Reason.REQUEST_NO_STORE),
    ("RFC9111-4-head", RequestFacts("HEAD"), [], POLICY, Reason.HEAD),
    ("RFC9111-4-post", RequestFacts("POST"), cc("max-age=60"), SHARED, Reason.METHOD),
    ("authorization-before-response", AUTHORISED, cc("no-store"), POLICY, Reason.AUTHORIZATION),
    ("session-before-set-cookie", IN_SESSION, [("Set-Cookie", "session=x")], POLICY, Reason.SESSION),
]


@pytest.mark.parametrize(
    ("request_facts", "headers", "policy", "reason"),
    [r[1:] for r in BY_REQUEST],
    ids=[r[0] for r in BY_REQUEST],
)
def test_response_verdict__minds_the_request(
    request_facts: RequestFacts, headers: Lines, policy: StorePolicy, reason: Reason | None
) -> None:
    """What the request rules out is not stored, and leaves no mark that others would see."""
    verdict = judge(headers=headers, policy=policy, request=request_facts)
    assert (verdict.reason, verdict.hit_for_miss) == (reason, 0)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        pytest.param(500, [], 5, id="5xx"),
        pytest.param(503, [("Set-Cookie", "a=1")], 5, id="5xx-with-cookie"),
        pytest.param(501, cc("no-store"), 5, id="storable-5xx"),
        pytest.param(403, [], 120, id="4xx"),
        pytest.param(200, cc("no-store"), 120, id="2xx"),
    ],
)
def test_response_verdict__marks_hit_for_miss_briefly_after_5xx(status: int, headers: Lines, seconds: float) -> None:
    """An outage is over sooner than a page becomes cacheable."""
    assert judge(status, headers).hit_for_miss == seconds


def test_response_verdict__takes_the_marks_from_the_policy() -> None:
    """Both durations can be configured."""
    policy = StorePolicy(ttl=1, hit_for_miss=30, hit_for_miss_error=2)
    assert (judge(403, policy=policy).hit_for_miss, judge(500, policy=policy).hit_for_miss) == (30, 2)


WINDOWS: list[tuple[str, str, StorePolicy, tuple[float, float]]] = [
    ("RFC5861-none-stated", "max-age=60", POLICY, (60, 600)),
    ("RFC5861-less-stated", "stale-while-revalidate=5, stale-if-error=7", POLICY, (5, 7)),
    ("RFC5861-more-stated", "stale-while-revalidate=900, stale-if-error=900", POLICY, (60, 600)),
    ("RFC5861-invalid", "stale-while-revalidate=x, stale-if-error", POLICY, (0, 0)),
    ("RFC5861-type-has-none", "stale-while-revalidate=9", SHARED, (0, 0)),
    ("RFC5861-from-headers", "max-age=9, stale-while-revalidate=5, stale-if-error=7", FROM_HEADERS, (5, 7)),
    ("RFC9111-5.2.2.2-must-revalidate", "must-revalidate, stale-while-revalidate=5", POLICY, (0, 0)),
    ("RFC9111-5.2.2.8-proxy-revalidate", "proxy-revalidate, stale-if-error=5", POLICY, (0, 0)),
    ("RFC9111-5.2.2.10-s-maxage", "s-maxage=60", POLICY, (0, 0)),
    ("RFC9111-5.2.2.2-from-headers", "max-age=9, must-revalidate, stale-if-error=7", FROM_HEADERS, (0, 0)),
]


@pytest.mark.parametrize(("value", "policy", "windows"), [r[1:] for r in WINDOWS], ids=[r[0] for r in WINDOWS])
def test_response_verdict__sets_the_stale_windows(
    value: str, policy: StorePolicy, windows: tuple[float, float]
) -> None:
    """The lesser of the type's and the response's; none at all where stale answers are forbidden."""
    verdict = judge(headers=cc(value), policy=policy)
    assert verdict.storable
    assert (verdict.stale_while_revalidate, verdict.stale_if_error) == windows
    assert verdict.must_revalidate == ("revalidate" in value.replace("while-revalidate", "") or "s-maxage" in value)


@pytest.mark.parametrize("status", [404, 410, 501])
@pytest.mark.parametrize("value", ["", "stale-while-revalidate=60, stale-if-error=60"])
def test_response_verdict__errors_have_no_stale_windows(status: int, value: str) -> None:
    """What is kept for `error_ttl` at most is not shown for an hour after it, whoever asks for that."""
    for policy in (POLICY, FROM_HEADERS):
        verdict = judge(status, cc(f"max-age=60, {value}"), policy=policy)
        assert (verdict.storable, verdict.stale_while_revalidate, verdict.stale_if_error) == (True, 0, 0)


NAMES = st.sampled_from(
    [
        "Cache-Control",
        "Expires",
        "Date",
        "Age",
        "Vary",
        "Set-Cookie",
        "Content-Length",
        "Content-Encoding",
        "Pragma",
    ]
)
VALUES = st.text(st.characters(max_codepoint=255), max_size=20) | st.sampled_from(
    [
        "max-age=60",
        "private",
        "no-store",
        "public, s-maxage=9",
        "Accept-Encoding",
        "100",
        "gzip",
        http_date(NOW + 9),
    ]
)


@given(
    st.sampled_from([200, 204, 206, 302, 404, 500]),
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
    st.sampled_from([POLICY, FROM_HEADERS, SHARED, PER_USER]),
    st.builds(RequestFacts, credentials=st.booleans(), session=st.booleans(), no_store=st.booleans()),
)
def test_response_verdict__is_safe_for_any_headers(
    status: int, headers: Lines, policy: StorePolicy, request_facts: RequestFacts
) -> None:
    """It never raises; what it lets be stored has a ttl within bounds and no mark of privacy."""
    verdict = judge(status, headers, policy=policy, request=request_facts)
    if not verdict.storable:
        assert verdict.ttl == 0
        return
    assert 0 < verdict.ttl <= (policy.ttl or 2**31)
    names = {name for name, _ in headers}
    assert "Set-Cookie" not in names
    assert not request_facts.no_store
    assert not request_facts.session or policy.shared or policy.per_user
    if policy is not PER_USER:
        assert ("Cache-Control", "private") not in headers
