"""`explain`: what it says is what the app then does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from flask import Flask
from werkzeug.test import TestResponse
from werkzeug.urls import iri_to_uri

from flask_rcache import cache_response
from flask_rcache.http import Reason
from tests.cli.conftest import AppFactory
from tests.cli.kit import PAGE, SECRET, manager, run, told
from tests.processes import wait_until
from tests.servers import Server
from tests.views.kit import detail


class Row(NamedTuple):
    """A request, and those before it."""

    url: str
    headers: tuple[str, ...] = ()
    method: str = "GET"
    before: tuple[str, ...] = ()
    verdict: str = "MISS"
    reason: str | None = None


AUTHORIZATION = f"Authorization: Bearer {SECRET}"

ROWS = [
    Row("/page/a"),
    Row("/page/a", before=("/page/a",), verdict="HIT"),
    Row("/page/a?x=1", before=("/page/a",)),
    Row("http://shop.example/page/a", before=("/page/a",)),
    Row("http://localhost/page/a", before=("/page/a",), verdict="HIT"),
    Row("/page/ä", before=("/page/ä",), verdict="HIT"),
    Row("/page/a?q=ä", before=("/page/a?q=%C3%A4",), verdict="HIT"),
    Row("/few?b=1&q=2", before=("/few?q=2&z=9",), verdict="HIT"),
    Row("/thing/7", before=("/thing/7",), verdict="HIT"),
    Row("/thing/7", method="POST", verdict="NOT-DECORATED"),
    Row("/page/a", method="HEAD", reason="HEAD"),
    Row("/page/a", method="HEAD", before=("/page/a",), verdict="HIT"),
    Row("/page/a", ("Cache-Control: no-store",), reason="REQUEST-NO-STORE"),
    Row("/page/a", ("Cache-Control: no-cache",), before=("/page/a",), verdict="HIT"),
    Row("/page/a", (AUTHORIZATION,), before=("/page/a",), verdict="BYPASS", reason="AUTHORIZATION"),
    Row("/page/a", (f"Cookie: remember_token={SECRET}",), verdict="BYPASS", reason="SESSION"),
    Row("/page/a", ("If-Match: x",), verdict="BYPASS", reason="PRECONDITION"),
    Row("/broken-key", ("If-Match: x",), verdict="BYPASS", reason="PRECONDITION"),
    Row("/shared", (AUTHORIZATION,), before=("/shared",), verdict="HIT"),
    Row("/mine", verdict="BYPASS", reason="KEY"),
    Row("/unless?draft=1", verdict="BYPASS", reason="UNLESS"),
    Row("/nobody", verdict="BYPASS", reason="KEY"),
    Row("/nobody?id=7", before=("/nobody?id=7&x=1",), verdict="HIT"),
    Row("/selected", ("Accept: text/html",), before=("/selected",)),
    Row("/own-ttl", before=("/own-ttl",), verdict="HIT"),
    Row("/plain", verdict="NOT-DECORATED"),
]


def _send(app: Flask, row: Row) -> TestResponse:
    headers = [tuple(header.split(": ", 1)) for header in row.headers]
    return app.test_client(use_cookies=False).open(iri_to_uri(row.url), method=row.method, headers=headers)


def _arguments(row: Row) -> list[str]:
    return [row.url, "--method", row.method, *(part for header in row.headers for part in ("--header", header))]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.url} {row.verdict} {row.reason}")
def test_explain__says_what_the_app_then_does(shop: Flask, row: Row) -> None:
    """Verdict, reason and key are those of the real request, and looking changed neither."""
    for url in row.before:
        shop.test_client().get(url)
    document = told(shop, "explain", *_arguments(row))
    assert (document["verdict"], document["reason"]) == (row.verdict, row.reason)
    assert document["verdict"] in run(shop, "explain", *_arguments(row)).stdout
    response = _send(shop, row)
    assert response.headers.get("X-Cache", "NOT-DECORATED") == row.verdict
    assert detail(response) == row.reason
    if "X-Cache-Key" in response.headers:
        assert response.headers["X-Cache-Key"] == document["key"]


def test_explain__what_is_stored(shop: Flask) -> None:
    """Age, ttl, size and status of what lies there; its ttl and where that comes from."""
    assert told(shop, "explain", "/few")["stored"] is None
    shop.test_client().get("/few")
    document = told(shop, "explain", "/few")
    assert (document["type"], document["ttl"], document["ttl_from"]) == ("few", 10, "call")
    assert document["stored"]["status"] == "200 OK"
    assert 0 < document["stored"]["ttl"] <= 10
    assert "fresh for" in run(shop, "explain", "/few").stdout
    manager(shop).invalidate_type("few")
    assert told(shop, "explain", "/few")["stored"] is None


def test_explain__stale(shop: Flask) -> None:
    """An expired answer that may be served stale is told as such, and looking refreshes nothing."""
    key = shop.test_client().get("/brief").headers["X-Cache-Key"]

    def is_stale() -> bool:
        listed = manager(shop).inspect(key)
        return listed is not None and listed.ttl < 0

    wait_until(is_stale, timeout=10, what="the entry has expired")
    for _ in range(2):
        document = told(shop, "explain", "/brief")
        assert (document["verdict"], document["stored"]["freshness"]) == ("STALE", "stale")
    assert "expired" in run(shop, "explain", "/brief").stdout
    assert manager(shop).stats()["refreshes"] == 0
    assert shop.test_client().get("/brief").headers["X-Cache"] == "STALE"


def test_explain__finds_the_variant(shop: Flask) -> None:
    """Through the marker of the URL, in a process that has seen no response of it."""
    headers = ("Accept: text/html", "Accept-Language: de")
    row = Row("/varies", headers)
    key = _send(shop, row).headers["X-Cache-Key"]
    stored_under = _send(shop, row).headers["X-Cache-Key"]
    assert key != stored_under
    shop.extensions.pop("rcache_views")  # what this process has learnt of its views
    document = told(shop, "explain", *_arguments(row))
    assert (document["verdict"], document["key"]) == ("HIT", stored_under)
    assert document["varies_by"] == ["Accept", "Accept-Language"]
    other = told(shop, "explain", *_arguments(Row("/varies", ("Accept-Language: fr",))))
    assert other["verdict"] == "MISS"
    assert other["key"] != stored_under


@pytest.mark.parametrize(("url", "reason"), [("/thing/7", None), ("/both", "METHOD"), ("/plain-post", None)])
def test_explain__a_write(new_app: AppFactory, url: str, reason: str | None) -> None:
    """A POST never asks; where it makes a stored answer invalid, that is told."""
    app = new_app()
    app.add_url_rule("/plain-post", view_func=lambda: "done", methods=["POST"], endpoint="plain_post")

    @app.route("/both", methods=["GET", "POST"])
    @cache_response(PAGE)
    def both() -> str:
        return "both"

    document = told(app, "explain", url, "--method", "POST")
    assert document["reason"] == reason
    assert any("invalidated" in note for note in document["notes"]) is (url != "/plain-post")


def test_explain__the_cache_switched_off(new_app: AppFactory) -> None:
    """The emergency switch is the reason then."""
    app = new_app(RCACHE_ENABLED=False)
    assert told(app, "explain", "/page/a")["reason"] == "DISABLED"


@pytest.mark.parametrize(
    ("url", "says"),
    [("/nothing", "No view has this URL"), ("/slash", "http://localhost/slash/"), ("/page/a", "GET, HEAD, OPTIONS")],
)
def test_explain__no_view(new_app: AppFactory, url: str, says: str) -> None:
    """An unknown URL, one that is redirected, and a method that nothing takes; the command ends with 1."""
    method = "PUT" if url == "/page/a" else "GET"
    document = told(new_app(), "explain", url, "--method", method, code=1)
    assert document["verdict"] == "NO-VIEW"
    assert says in document["because"]


def test_explain__a_host_that_is_not_trusted(new_app: AppFactory) -> None:
    """A path alone is asked for at localhost, which this app does not trust; the whole URL is explained."""
    app = new_app(TRUSTED_HOSTS=["shop.example"])
    assert "TRUSTED_HOSTS" in told(app, "explain", "/page/a", code=1)["because"]
    assert told(app, "explain", "https://shop.example/page/a")["verdict"] == "MISS"


@pytest.mark.parametrize("l1_ttl", [0, 2])
def test_explain__with_the_store_away(
    new_app: AppFactory, private_server: Callable[..., Server], l1_ttl: float
) -> None:
    """The rest is explained all the same, and the command ends with 1; this process's own memory is no answer."""
    server = private_server()
    app = new_app(server.url, RCACHE_L1_TTL=l1_ttl)
    server.kill()
    document = told(app, "explain", "/page/a", code=1)
    assert document["key"].startswith("cache:page:")
    assert document["store_away"]
    assert "the store is unavailable" in run(app, "explain", "/page/a", code=1).stdout
    ruled_out = told(app, "explain", "/page/a", "--header", AUTHORIZATION, code=1)
    assert ruled_out["reason"] == "AUTHORIZATION"


# With --run


@pytest.mark.parametrize(
    ("url", "headers", "reason"),
    [
        ("/page/a", (), None),
        ("/cookie", (), "SET-COOKIE"),
        ("/page/a", (AUTHORIZATION,), "AUTHORIZATION"),
        ("/page/a", ("Cache-Control: no-store",), "REQUEST-NO-STORE"),
    ],
)
def test_explain__run_explains_the_answer(shop: Flask, url: str, headers: tuple[str, ...], reason: str | None) -> None:
    """The request goes through the app, and its answer says whether it was stored, and why not."""
    document = told(shop, "explain", *_arguments(Row(url, headers)), "--run")
    assert document["run"]["status"] == "200 OK"
    assert document["reason"] == reason
    assert document["run"]["was_stored"] is (reason is None)
    assert (document["stored"] is not None) is (reason is None)
    assert document["because"] == ("The view was called, and its answer is stored." if reason is None else _of(reason))
    if reason is None:
        again = told(shop, "explain", url, "--run")
        assert (again["verdict"], again["because"]) == ("HIT", "It was answered from the cache.")


def _of(reason: str) -> str:
    return Reason[reason.replace("-", "_")].sentence


def test_explain__run_does_not_send_what_may_change_something(shop: Flask) -> None:
    """A POST is explained, but not sent."""
    assert told(shop, "explain", "/thing/7", "--method", "post", "--run", code=2)["error"] == "usage"


def test_explain__run_of_a_view_that_raises(new_app: AppFactory) -> None:
    """The exception's type is told, and not its text, which may hold anything."""
    result = run(new_app(), "explain", "/raises", "--run", "--header", AUTHORIZATION)
    assert "RuntimeError" in result.stdout
    assert SECRET not in result.output
    assert "500 INTERNAL" in run(new_app(TESTING=False), "explain", "/raises", "--run").stdout


@pytest.mark.parametrize("runs", [(), ("--run",)], ids=["look", "run"])
@pytest.mark.parametrize("url", ["/page/a", "/mine", "/echo-key", "/broken-key", "/cookie"])
def test_explain__prints_no_credential(new_app: AppFactory, url: str, runs: tuple[str, ...]) -> None:
    """Neither the request's nor the response's, on no way out."""
    app = new_app(RCACHE_USER_JWT_KEY="k" * 32, TESTING=False)
    headers = [AUTHORIZATION, f"X-Api-Key: {SECRET}", f"Cookie: session={SECRET}; other={SECRET}x"]
    arguments = [part for header in headers for part in ("--header", header)]
    for shape in ((), ("--json",)):
        result = app.test_cli_runner().invoke(args=["cache", "explain", url, *arguments, *runs, *shape])
        assert result.exit_code == 0
        assert SECRET not in result.output
        assert url in result.output


def test_explain__a_cookie_that_cannot_be_read(new_app: AppFactory) -> None:
    """Bytes that are no text are explained as the request would be answered, and not shown."""
    result = run(
        new_app(SECRET_KEY=None), "explain", "/page/a", "--header", f"Cookie: a={SECRET}\xff; remember_token=1"
    )
    assert "SESSION" in result.stdout
    assert SECRET not in result.output


def test_explain__a_credential_in_the_key_is_told(new_app: AppFactory) -> None:
    """A key_func that puts it there as it is gives it to whoever lists keys."""
    result = run(new_app(), "explain", "/echo-key", "--header", f"X-Api-Key: {SECRET}", "--json")
    assert json.loads(result.stdout)["key"] == "cache:mine:***"
    assert "hash it" in result.stderr


def test_explain__functions_that_need_more(new_app: AppFactory) -> None:
    """A key_func that raises without the app's own preparations is told as what it is."""
    document = told(new_app(), "explain", "/broken-key")
    assert document["verdict"] == "UNKNOWN"
    assert "LookupError" in document["because"]
    assert any("--run" in note for note in document["notes"])


@pytest.mark.parametrize("header", ["no colon", ": no name"])
def test_explain__refuses_a_field_that_is_none(new_app: AppFactory, header: str) -> None:
    """It ends with 2, and does not repeat what may have been a secret."""
    document: dict[str, Any] = told(new_app(), "explain", "/page/a", "--header", header, code=2)
    assert header not in document["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://["],
        ["http://h:abc/"],
        ["/page/\udcff"],
        ["/page/x", "--header", "X: a\nb"],
        ["/page/x", "--header", "Cookie: \udcff"],
        ["/page/x", "--header", "Cookie: \u20ac"],
    ],
    ids=ascii,
)
def test_explain__refuses_what_cannot_be_sent(new_app: AppFactory, arguments: list[str]) -> None:
    """A URL or a field that no request can have is an error of usage, not a traceback."""
    assert told(new_app(), "explain", *arguments, code=2)["error"] == "usage"


@pytest.mark.parametrize("host", ["xn--", "xn--a", "xn--zzzzzzz99.example"])
def test_explain__a_host_that_is_no_idna(new_app: AppFactory, host: str) -> None:
    """A client may send it, and every Python explains what the app would do then."""
    document = told(new_app(), "explain", f"http://{host}/page/x")
    assert (document["verdict"], document["endpoint"]) == ("MISS", "page")
    assert host in document["url"]
    assert told(new_app(), "explain", f"http://{host}/page/x", "--run")["run"]["status"] == "200 OK"
