"""What a request rules out before any lookup."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import EnvironBuilder

from flask_rcache.http import (
    Reason,
    RequestFacts,
    credential_names,
    names_to_judge,
    request_facts,
    request_verdict,
)

PRIVATE = {"HTTP_AUTHORIZATION": "Bearer t"}

ROWS: list[tuple[str, dict[str, Any], bool, dict[str, Any], Reason | None]] = [
    ("RFC9111-4-get", {}, False, {}, None),
    ("RFC9111-4-head", {"REQUEST_METHOD": "HEAD"}, False, {}, None),
    ("RFC9111-4-post", {"REQUEST_METHOD": "POST"}, False, {}, Reason.METHOD),
    ("RFC9111-4-options", {"REQUEST_METHOD": "OPTIONS"}, False, {}, Reason.METHOD),
    ("RFC9110-9.1-case-sensitive", {"REQUEST_METHOD": "get"}, False, {}, Reason.METHOD),
    ("RFC9111-3.5-authorization", PRIVATE, False, {}, Reason.AUTHORIZATION),
    ("RFC9111-3.5-authorization-empty", {"HTTP_AUTHORIZATION": ""}, False, {}, Reason.AUTHORIZATION),
    ("RFC9111-3.5-credentials-ok", PRIVATE, True, {"credentials_ok": True}, None),
    ("server-authenticated", {"REMOTE_USER": "ann"}, False, {}, Reason.AUTHORIZATION),
    ("server-authenticated-nobody", {"REMOTE_USER": ""}, False, {}, None),
    ("server-authenticated-type", {"AUTH_TYPE": "Basic"}, False, {}, Reason.AUTHORIZATION),
    ("server-authenticated-tls", {"SSL_CLIENT_VERIFY": "SUCCESS"}, False, {}, Reason.AUTHORIZATION),
    ("server-authenticated-tls-none", {"SSL_CLIENT_VERIFY": "NONE"}, False, {}, None),
    ("server-authenticated-tls-failed", {"SSL_CLIENT_VERIFY": "FAILED:expired"}, False, {}, None),
    ("session", {}, True, {}, Reason.SESSION),
    ("another-cookie", {"HTTP_COOKIE": "theme=dark"}, False, {}, None),
    ("RFC9110-13.1.1-if-match", {"HTTP_IF_MATCH": '"a"'}, False, {}, Reason.PRECONDITION),
    ("RFC9110-13.1.4-if-unmodified-since", {"HTTP_IF_UNMODIFIED_SINCE": "x"}, False, {}, Reason.PRECONDITION),
    (
        "precondition-though-shared",
        {"HTTP_IF_MATCH": "*"},
        False,
        {"credentials_ok": True},
        Reason.PRECONDITION,
    ),
    ("RFC9110-13.1.2-if-none-match", {"HTTP_IF_NONE_MATCH": '"a"'}, False, {}, None),
    ("RFC9110-14.2-range", {"HTTP_RANGE": "bytes=0-1", "HTTP_IF_RANGE": '"a"'}, False, {}, None),
    ("RFC9111-5.2.1.4-no-cache-ignored", {"HTTP_CACHE_CONTROL": "no-cache, max-age=0"}, False, {}, None),
    ("RFC9111-5.2.1.5-no-store-may-look", {"HTTP_CACHE_CONTROL": "no-store"}, False, {}, None),
    ("RFC9111-5.2.1.7-only-if-cached-ignored", {"HTTP_CACHE_CONTROL": "only-if-cached"}, False, {}, None),
    ("RFC9110-9.3.1-body", {"CONTENT_LENGTH": "3"}, False, {}, Reason.REQUEST_BODY),
    ("RFC9110-9.3.1-body-chunked", {"HTTP_TRANSFER_ENCODING": "chunked"}, False, {}, Reason.REQUEST_BODY),
    (
        "RFC9110-9.3.1-body-though-shared",
        {"CONTENT_LENGTH": "3"},
        False,
        {"credentials_ok": True},
        Reason.REQUEST_BODY,
    ),
    ("no-body-empty", {"CONTENT_LENGTH": ""}, False, {}, None),
    ("no-body-zero", {"CONTENT_LENGTH": "0"}, False, {}, None),
]


@pytest.mark.parametrize(
    ("changes", "session", "options", "reason"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_request_verdict__rules_out(
    changes: dict[str, Any], session: bool, options: dict[str, Any], reason: Reason | None
) -> None:
    """On a real environ with one change, the reason is that of the row."""
    environ = {**EnvironBuilder("/page?q=1").get_environ(), **changes}
    assert request_verdict(environ, session, **{"credentials_ok": False, **options}) is reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"HTTP_X_FORWARDED_USER": "ann"}, Reason.AUTHORIZATION),
        ({"HTTP_X_FORWARDED_USER": ""}, None),
        ({"HTTP_X_API_KEY": "k"}, None),
        ({"HTTP_AUTHORIZATION": "Bearer t"}, Reason.AUTHORIZATION),
        ({"REMOTE_USER": "ann"}, Reason.AUTHORIZATION),
    ],
    ids=str,
)
def test_request_verdict__fields_that_identify_a_caller(changes: dict[str, str], reason: Reason | None) -> None:
    """Those that are named count beside those that always do; an empty one says that there is nobody."""
    environ = {**EnvironBuilder("/").get_environ(), **changes}
    named = credential_names(["x-forwarded-user"])
    assert request_verdict(environ, False, credentials_ok=False, credentials=named) is reason
    assert request_facts(environ, False, credentials=named).credentials is (reason is not None)


@pytest.mark.parametrize("credentials_ok", [False, True])
def test_names_to_judge__are_all_that_is_ruled_out(credentials_ok: bool) -> None:
    """What is ruled out, but for its method or its session, has one of the names: the others need no verdict."""
    names = names_to_judge(credential_names([]), credentials_ok=credentials_ok)
    for _, changes, _, options, reason in ROWS:
        if reason is not None and "REQUEST_METHOD" not in changes and reason is not Reason.SESSION:
            environ = {**EnvironBuilder("/").get_environ(), **changes}
            refused = request_verdict(environ, False, **{"credentials_ok": credentials_ok, **options})
            assert refused is None or not names.isdisjoint(environ), changes
    assert names.isdisjoint(EnvironBuilder("/", headers=[("Accept", "*/*"), ("Range", "bytes=0-1")]).get_environ())


def test_request_verdict__says_bypass() -> None:
    """Every reason found before the lookup goes with X-Cache: BYPASS."""
    assert {row[4].x_cache for row in ROWS if row[4]} == {"BYPASS"}


@pytest.mark.parametrize(
    ("changes", "session", "facts"),
    [
        pytest.param({}, False, RequestFacts(), id="plain"),
        pytest.param({"REQUEST_METHOD": "HEAD"}, True, RequestFacts("HEAD", session=True), id="head-session"),
        pytest.param(PRIVATE, False, RequestFacts(credentials=True), id="RFC9111-3.5-authorization"),
        pytest.param({"REMOTE_USER": "ann"}, False, RequestFacts(credentials=True), id="server-authenticated"),
        pytest.param({"HTTP_CACHE_CONTROL": "No-Store"}, False, RequestFacts(no_store=True), id="RFC9111-5.2.1.5"),
        pytest.param({"HTTP_CACHE_CONTROL": "max-age=0, no-store"}, False, RequestFacts(no_store=True), id="list"),
        pytest.param({"HTTP_CACHE_CONTROL": "no-cache"}, False, RequestFacts(), id="RFC9111-5.2.1.4-ignored"),
        pytest.param({"HTTP_PRAGMA": "no-cache"}, False, RequestFacts(), id="RFC9111-5.4-ignored"),
    ],
)
def test_request_facts__are_read(changes: dict[str, Any], session: bool, facts: RequestFacts) -> None:
    """What the judgement of the response needs is taken from the environ."""
    assert request_facts({**EnvironBuilder("/").get_environ(), **changes}, session) == facts
