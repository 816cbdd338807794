"""`Vary`: every variant to those it was made for, one load each, one round trip for a URL that is known."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from typing import Any

import pytest
from flask import Flask, request

from flask_rcache import CacheType, cache_response, current_cache
from flask_rcache.http import variant_id
from tests.processes import wait_until
from tests.stores.proxy import Proxy
from tests.views.kit import PAGE, Counted, detail, in_threads, manager, verdicts

LANGS = ("en", "fr", "de", "el")


def lang(value: str | None) -> dict[str, str]:
    """An Accept-Language header, or none at all."""
    return {} if value is None else {"Accept-Language": value}


def language_app(new_app: Any, url: str = "memory://", **options: Any) -> Flask:
    """An app whose page says which language it was asked for, and varies by it."""
    app: Flask = new_app(url, **options)
    body = Counted()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return f"{request.headers.get('Accept-Language')} {body()}", 200, {"Vary": "Accept-Language"}

    return app


def test_vary__each_variant_has_an_entry_of_its_own(new_app, store_url) -> None:
    """Requests that differ in a listed field never share an answer; those that do not, do."""
    client = language_app(new_app, store_url).test_client()
    for number, value in enumerate(LANGS, 1):
        for verdict in ("MISS", "HIT"):
            response = client.get("/", headers={**lang(value), "Accept": f"text/{number}{verdict}"})
            assert (response.data.decode(), response.headers["X-Cache"]) == (f"{value} {number}", verdict)
            assert response.headers["Vary"] == "Accept-Language"
    assert "fwd=vary-miss" in client.get("/", headers=lang("xx")).headers["Cache-Status"]


def test_vary__missing_is_not_empty_and_white_space_is_nothing(new_app, store_url) -> None:
    """No field, an empty one and a full one are three variants; blanks around the commas of a list make none."""
    client = language_app(new_app, store_url).test_client()
    for value, answer in ((None, "None 1"), ("", " 2"), ("en,fr", "en,fr 3"), (" en ,  fr", "en,fr 3")):
        assert client.get("/", headers=lang(value)).data.decode() == answer


def test_vary__another_process_finds_the_variants(new_app, redis_server) -> None:
    """Who has never seen the URL is led to the right variant, and to no other."""
    first, second = (language_app(new_app, redis_server.url).test_client() for _ in range(2))
    for value in ("en", "fr"):
        first.get("/", headers=lang(value))
    answers = [second.get("/", headers=lang(value)) for value in ("fr", "en", "fr")]
    assert [answer.data for answer in answers] == [b"fr 2", b"en 1", b"fr 2"]
    assert [answer.headers["X-Cache"] for answer in answers] == ["HIT"] * 3
    assert verdicts(second, "/", headers=lang("de")) == ["MISS", "HIT"]
    assert first.get("/", headers=lang("de")).data == second.get("/", headers=lang("de")).data


def test_vary__a_known_url_costs_one_round_trip(new_app, redis_server) -> None:
    """A hit on a variant is one write to Redis once the process has met the URL."""
    with Proxy(redis_server.port) as proxy:
        client, stranger = (language_app(new_app, proxy.url, RCACHE_TIMEOUT=2).test_client() for _ in range(2))

        def trips(asker: Any, value: str) -> int:
            before = len(proxy.requests)
            assert asker.get("/", headers=lang(value)).headers["X-Cache"] == "HIT"
            return sum(b"TIME" in each for each in proxy.requests[before:])  # every read asks for the clock

        for value in ("en", "fr", "en", "fr"):
            client.get("/", headers=lang(value))
        assert [trips(client, value) for value in ("en", "fr", "en")] == [1, 1, 1]
        found = trips(stranger, "fr")  # the URL's marker, then the variant, then the tags of each
        assert 2 <= found <= 4
        assert trips(stranger, "en") <= 2  # a tag that this process did not know of
        assert [trips(stranger, value) for value in ("en", "fr")] == [1, 1]


@pytest.mark.parametrize("limit", [3, 32])
def test_vary__no_more_than_the_limit_is_kept(new_app, store_url, limit) -> None:
    """A URL has so many variants; for the next one the least used goes, of several the one stored first."""
    app = language_app(new_app, store_url, **({} if limit == 32 else {"RCACHE_MAX_VARIANTS": limit}))
    client = app.test_client()
    for number in range(limit):
        assert client.get("/", headers=lang(f"x-{number}")).headers["X-Cache"] == "MISS"
    for number in (0, 2):
        assert client.get("/", headers=lang(f"x-{number}")).headers["X-Cache"] == "HIT"
    assert verdicts(client, "/", headers=lang("more")) == ["MISS", "HIT"]
    assert [client.get("/", headers=lang(f"x-{number}")).headers["X-Cache"] for number in (0, 2, 1)] == [
        "HIT",
        "HIT",
        "MISS",
    ]
    assert len([entry for entry in manager(app).entries() if entry.kind == "response"]) == limit


def test_vary__no_variants_are_kept_when_the_limit_says_so(new_app, store_url) -> None:
    """With `RCACHE_MAX_VARIANTS=0` answers that vary are made each time, and the reason is named."""
    client = language_app(new_app, store_url, RCACHE_MAX_VARIANTS=0).test_client()
    for _ in range(2):
        response = client.get("/", headers=lang("en"))
        assert (response.headers["X-Cache"], detail(response)) == ("MISS", "TOO-MANY-VARIANTS")


def test_vary__star_is_never_stored(new_app) -> None:
    """`Vary: *`, alone or among others, and a Vary that cannot be read."""
    app = new_app()
    app.add_url_rule(
        "/<path:value>", view_func=cache_response(PAGE)(lambda value: ("x", 200, {"Vary": value})), endpoint="x"
    )
    client = app.test_client()
    for value in ("*", "Accept, *", "not a token"):
        assert [detail(client.get(f"/{value}")) for _ in range(2)] == ["VARY-STAR"] * 2


def test_vary__of_the_decorator_is_sent_and_selects(new_app, store_url) -> None:
    """`vary=` works without the view's saying so, and is on every answer: miss, hit, HEAD and bypass."""
    app = new_app(store_url)

    @app.get("/")
    @cache_response(PAGE, vary=["X-Site"])
    def page():
        return request.headers.get("X-Site", "-")

    client = app.test_client()
    for site in ("a", "b", "a"):
        response = client.get("/", headers={"X-Site": site})
        assert (response.data.decode(), response.headers["Vary"].lower()) == (site, "x-site")
    for response in (client.head("/"), client.get("/", headers={"Authorization": "Basic x"})):
        assert response.headers["Vary"].lower() == "x-site"


def test_vary__that_changes_over_time_never_mixes_variants(new_app, store_url) -> None:
    """A URL that varies by this, then by that, then not, then again: no answer reaches whom it was not made for."""
    app = new_app(store_url)
    vary = [""]

    @app.get("/")
    @cache_response(PAGE)
    def page():
        fields = [name.strip() for name in vary[0].split(",") if name.strip()]
        seen = {name.lower(): request.headers.get(name) for name in fields}
        return {"seen": seen}, 200, ({"Vary": vary[0]} if vary[0] else {})

    clients = [app.test_client()]
    hits = 0
    for now in ("Accept-Language", "X-A", "", "Accept-Language, X-A", "X-A", "Accept-Language", ""):
        vary[0] = now
        for ask in (("en", "1"), ("fr", "1"), ("fr", "2"), ("en", "1"), ("fr", "2")):
            headers = {"Accept-Language": ask[0], "X-A": ask[1]}
            response = clients[0].get("/", headers=headers)
            hits += response.headers["X-Cache"] == "HIT"
            for name, value in response.json["seen"].items():
                assert value == headers[{"accept-language": "Accept-Language", "x-a": "X-A"}[name]]
        # What was stored under the last Vary would be a hit still; the URL is loaded anew, as after a deployment.
        with app.app_context():
            current_cache.invalidate_type(PAGE)
    assert hits >= 14


@pytest.mark.race
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_vary__first_requests_at_once_get_each_their_own(new_app, store_url, kind) -> None:
    """Cold, twelve at once in four languages: nobody gets another's answer, and few views run."""
    app, calls, lock = new_app(store_url), [], threading.Lock()

    def answer() -> Any:
        value = request.headers["Accept-Language"]
        with lock:
            calls.append(value)
        return value, 200, {"Vary": "Accept-Language"}

    def page(number):
        time.sleep(0.1)
        return answer()

    async def async_page(number):
        await asyncio.sleep(0.1)
        return answer()

    view: Any = page if kind == "sync" else async_page
    app.add_url_rule("/<number>", view_func=cache_response(PAGE)(view))
    values = [LANGS[number % 4] for number in range(12)]
    for path in ("/1", "/2", "/3", "/4", "/5"):
        calls.clear()
        asks = [(path, lang(value)) for value in values]
        answers = in_threads(12, lambda n, asks=asks: app.test_client().get(asks[n][0], headers=asks[n][1]))  # type: ignore[misc]
        assert [each.data.decode() for each in answers] == values
        assert max(calls.count(value) for value in LANGS) <= 2, calls
        assert verdicts(app.test_client(), path, 1, headers=lang("fr")) == ["HIT"]


@pytest.mark.race
def test_vary__learned_while_the_first_load_runs(new_app, redis_server) -> None:
    """A load that began when the URL was not known to vary is stored and shared as the variant it is."""
    entered, go_on = threading.Event(), threading.Event()

    def build() -> Flask:
        app: Flask = new_app(redis_server.url)

        @app.get("/")
        @cache_response(PAGE)
        def page():
            value = request.headers["Accept-Language"]
            if value == "slow":
                entered.set()
                go_on.wait(10)
            return value, 200, {"Vary": "Accept-Language"}

        return app

    here, there = build(), build()
    with there.test_request_context("/", headers=lang("nobody")):
        key = there.view_functions["page"]().headers["X-Cache-Key"]  # type: ignore[union-attr]
    results: dict[str, Any] = {}

    def ask(name: str, value: str) -> threading.Thread:
        def run() -> None:
            results[name] = here.test_client().get("/", headers=lang(value)).data.decode()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    first = ask("first", "slow")  # it takes the lease of the URL's own key, not knowing of variants
    assert entered.wait(10)
    flights = manager(here).engine.driver.flights
    joined = ask("joined", "fr")
    wait_until(lambda: bool(flights._flights[key].waiters), timeout=10, what="a request that waits")
    with there.app_context():  # another process takes that lease away, and fills another variant
        current_cache.delete(PAGE, key)
    assert there.test_client().get("/", headers=lang("en")).data == b"en"
    # This process learns of the variants by a third request.
    assert here.test_client().get("/", headers=lang("en")).data == b"en"
    go_on.set()
    for thread in (first, joined):
        thread.join(20)
    assert results == {"first": "slow", "joined": "fr"}
    for app in (here, there, build()):
        for value in ("en", "el", "fr", "de"):
            assert app.test_client().get("/", headers=lang(value)).data.decode() == value


def test_vary__compression_by_after_request(new_app, store_url) -> None:
    """An `after_request` that compresses serves both kinds of clients from one entry, each rightly."""
    app, body = new_app(store_url), Counted()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return body() + "x" * 5000

    @app.after_request
    def compress(response):
        response.vary.add("Accept-Encoding")
        if "gzip" in request.headers.get("Accept-Encoding", "") and response.status_code == 200:
            response.set_data(gzip.compress(response.get_data()))
            response.headers["Content-Encoding"] = "gzip"
        return response

    client = app.test_client()
    plain = b"1" + b"x" * 5000
    for accept in ("gzip", "", "gzip", "identity", "gzip, br"):
        response = client.get("/", headers={"Accept-Encoding": accept})
        assert response.headers["Vary"].lower() == "accept-encoding"
        coded = response.headers.get("Content-Encoding") == "gzip"
        assert coded == ("gzip" in accept)
        assert (gzip.decompress(response.data) if coded else response.data) == plain
        assert int(response.headers["Content-Length"]) == len(response.data)
    assert body.calls == 1
    assert len(list(manager(app).entries())) == 1


def test_vary__what_the_view_encodes_itself(new_app) -> None:
    """A view that encodes has two variants, whether it says so in Vary or not: it reads what is accepted."""
    app = new_app()

    @app.get("/<how>")
    @cache_response(PAGE)
    def page(how):
        headers = {"Vary": "Accept-Encoding"} if how == "vary" else {}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return gzip.compress(b"text"), 200, {**headers, "Content-Encoding": "gzip"}
        return b"text", 200, headers

    app.add_url_rule(
        "/x/always", "always", cache_response(PAGE)(lambda: (gzip.compress(b"text"), 200, {"Content-Encoding": "gzip"}))
    )
    client = app.test_client()
    for path in ("/vary", "/bare"):
        for verdict in ("MISS", "HIT"):
            for accept in ("gzip", "identity"):
                response = client.get(path, headers={"Accept-Encoding": accept})
                assert (response.headers["X-Cache"], response.headers["Vary"]) == (verdict, "Accept-Encoding")
                body = gzip.decompress(response.data) if accept == "gzip" else response.data
                assert body == b"text"
    assert detail(client.get("/x/always")) == "CONTENT-CODING"


def test_vary__what_is_known_of_a_url_goes_with_its_marker(new_app, store_url) -> None:
    """A process that remembers how a URL varied does not go on so when that is gone: it is stored as it is now."""
    app, vary = new_app(store_url), ["Accept-Language"]

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return (request.headers["Accept-Language"], 200, {"Vary": vary[0]}) if vary[0] else "en"

    client = app.test_client()
    assert [verdicts(client, "/", headers=lang(value)) for value in ("en", "fr")] == [["MISS", "HIT"]] * 2
    manager(app).clear_all()
    vary[0] = ""
    assert client.get("/", headers=lang("en")).headers["X-Cache"] == "MISS"
    for value in ("fr", "de", "en"):  # one answer for everybody now, under the URL's own key
        response = client.get("/", headers=lang(value))
        assert (response.text, response.headers["X-Cache"], "~" in response.headers["X-Cache-Key"][13:]) == (
            "en",
            "HIT",
            False,
        )
    assert [entry.kind for entry in manager(app).entries()] == ["response"]


def test_vary__a_client_cannot_name_a_variant(new_app) -> None:
    """A key that a client says is never the name of another key's variant, which anybody can work out."""
    app = new_app()

    @app.get("/find")
    @cache_response(PAGE, None, lambda req: req.args.get("q"))
    def find():
        if request.args["q"] != "shoes":
            return "nothing found", 404
        return f"shoes ({request.headers.get('Accept-Language')})", 200, {"Vary": "Accept-Language"}

    client = app.test_client()
    client.get("/find?q=shoes", headers=lang("fr"))  # the process has met the URL
    variant = variant_id(("accept-language",), {"HTTP_ACCEPT_LANGUAGE": "en"})
    for joint in ".~":
        assert client.get(f"/find?q=shoes{joint}{variant}", headers=lang("en")).status_code == 404
    assert client.get("/find?q=shoes", headers=lang("en")).text == "shoes (en)"


def _compressing(new_app: Any) -> Flask:
    """An app that compresses as Flask-Compress does: any 2xx that is not encoded yet."""
    app: Flask = new_app()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return "0123456789" * 100

    @app.after_request
    def compress(response):
        wanted = "gzip" in request.headers.get("Accept-Encoding", "")
        if wanted and 200 <= response.status_code < 300 and "Content-Encoding" not in response.headers:
            response.set_data(gzip.compress(response.get_data()))
            response.headers["Content-Encoding"] = "gzip"
        response.vary.add("Accept-Encoding")
        return response

    return app


def test_vary__where_answers_are_compressed_there_are_no_ranges(new_app) -> None:
    """A part that is compressed afterwards would be one of other bytes than its `Content-Range` says."""
    client = _compressing(new_app).test_client()
    assert client.get("/", headers={"Accept-Encoding": "gzip"}).headers["X-Cache"] == "MISS"
    for accept in ("gzip", "identity"):
        part = client.get("/", headers={"Accept-Encoding": accept, "Range": "bytes=0-99"})
        assert (part.status_code, part.headers["X-Cache"], part.headers["Accept-Ranges"]) == (200, "HIT", "none")


def test_vary__a_made_tag_outlives_compression(new_app) -> None:
    """The body that is compressed means the same: its weak tag stays, and gives a 304."""
    client = _compressing(new_app).test_client()
    tags = [client.get("/", headers={"Accept-Encoding": "gzip"}).headers["ETag"] for _ in range(2)]
    assert tags[0] == tags[1]
    assert client.get("/", headers={"Accept-Encoding": "gzip", "If-None-Match": tags[0]}).status_code == 304


def test_vary__the_urls_own_key_reaches_every_variant(new_app, store_url) -> None:
    """`invalidate_key` with the key of the URL removes all its variants; with that of a variant only this one."""
    app = language_app(new_app, store_url)
    client, cache = app.test_client(), manager(app)
    for value in ("en", "fr", "en", "fr"):
        client.get("/", headers=lang(value))
    key = client.get("/", headers=lang("fr")).headers["X-Cache-Key"]
    kind, own = key.split(":")[1], key.rpartition("~")[0]
    assert cache.delete(CacheType(kind), key) is True
    assert client.get("/", headers=lang("en")).headers["X-Cache"] == "HIT"
    assert client.get("/", headers=lang("fr")).headers["X-Cache"] == "MISS"
    assert cache.delete(CacheType(kind), own) is True
    assert [client.get("/", headers=lang(value)).headers["X-Cache"] for value in ("en", "fr")] == ["MISS", "MISS"]
