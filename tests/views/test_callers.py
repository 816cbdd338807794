"""Nobody gets another's page: twenty ways to know a caller, in each place where an app may look."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from flask import Flask, g, render_template_string, request, session

from flask_rcache import CacheType, cache_response
from tests.views.kit import verdicts

#: Of a type that has one argument in its keys.
LISTED = CacheType("listed", ttl=60, query=("page",))

BEFORE = ("before_request", "decorator above")
INSIDE = ("decorator below", "view", "template")


class Way(NamedTuple):
    """One way to know a caller.

    Args:
        ask: what a caller sends, as options of the test client.
        read: what the app makes of it; empty for nobody.
        unseen: where it is not seen to be read, as the docs say.
        then: what `X-Cache` says when nobody in particular asks again, where it is read inside the view.
    """

    ask: Callable[[str], dict[str, Any]]
    read: Callable[[], str]
    unseen: tuple[str, ...] = ()
    then: str = "HIT"


def header(name: str, text: str = "{}") -> Way:
    """A header field."""
    return Way(lambda who: {"headers": {name: text.format(who)}}, lambda: request.headers.get(name, ""))


def environ(name: str, unseen: tuple[str, ...] = BEFORE, **more: str) -> Way:
    """What the server itself, or another middleware, has put beside the request."""
    return Way(
        lambda who: {"environ_overrides": {name: who, **more}}, lambda: str(request.environ.get(name) or ""), unseen
    )


def basic(who: str) -> dict[str, Any]:
    """Basic authentication."""
    token = base64.b64encode(f"{who}:x".encode()).decode()
    return {"headers": {"Authorization": f"Basic {token}"}}


def all_headers() -> str:
    """The token among all headers."""
    return dict(request.headers).get("X-Token", "")


WAYS: dict[str, Way] = {
    "token of a library": header("Authentication-Token"),
    "token of one's own": header("X-Shop-Session"),
    "gateway: user": header("X-Forwarded-User"),
    "gateway: e-mail": header("X-Forwarded-Email"),
    "gateway: OIDC": header("X-Amzn-Oidc-Data"),
    "gateway: of a network": header("Tailscale-User-Login"),
    "certificate: subject": header("X-Ssl-Client-S-Dn", "CN={}"),
    "certificate: forwarded": header("X-Forwarded-Client-Cert", "Hash={}"),
    "certificate: fingerprint": header("Ssl-Client-Fingerprint"),
    "certificate: of this server": environ("SSL_CLIENT_S_DN", (), SSL_CLIENT_VERIFY="SUCCESS"),
    "basic": Way(basic, lambda: (request.authorization and request.authorization.username) or ""),
    "bearer": Way(
        lambda who: {"headers": {"Authorization": f"Bearer {who}"}},
        lambda: request.headers.get("Authorization", ""),
    ),
    "remote user": environ("REMOTE_USER", ()),
    "environ of a middleware": environ("repoze.who.identity"),
    "cookie": Way(lambda who: {"headers": {"Cookie": f"a=1; sid={who}"}}, lambda: request.cookies.get("sid", "")),
    "cookie of a library": Way(
        lambda who: {"headers": {"Cookie": f"access_token_cookie={who}"}},
        lambda: request.cookies.getlist("access_token_cookie")[0] if "access_token_cookie" in request.cookies else "",
    ),
    "cookies as they came": Way(
        lambda who: {"headers": {"Cookie": f"sid={who}"}}, lambda: request.headers.get("Cookie", "")
    ),
    "argument": Way(lambda who: {"query_string": {"api_key": who}}, lambda: request.args.get("api_key", "")),
    "argument among values": Way(lambda who: {"query_string": {"key": who}}, lambda: request.values.get("key", "")),
    "whole query": Way(
        lambda who: {"query_string": {"key": who}},
        lambda: request.query_string.decode(),
        BEFORE,
    ),
    "session": Way(lambda who: {"session": who}, lambda: session.get("user", "")),
    "address": Way(
        lambda who: {"environ_overrides": {"REMOTE_ADDR": who}}, lambda: request.remote_addr or "", BEFORE, "BYPASS"
    ),
    "socket of the server": environ("gunicorn.socket"),
    "address by a proxy": Way(
        lambda who: {"headers": {"X-Forwarded-For": who}},
        lambda: request.access_route[0] if "X-Forwarded-For" in request.headers else "",
        BEFORE,
    ),
    "all headers": Way(lambda who: {"headers": {"X-Token": who}}, all_headers, BEFORE, "MISS"),
}


def shop(new_app: Any, way: Way, place: str, url: str = "memory://") -> Flask:
    """An app that greets its caller, whom it knows in one way, and looks for in one place."""
    app: Flask = new_app(url)
    app.session_interface = _Sessions()

    def look() -> None:
        g.who = way.read()

    def looking(view: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(view)
        def wrapper(**arguments: Any) -> Any:
            look()
            return view(**arguments)

        return wrapper

    def page() -> str:
        if place == "template":
            return render_template_string("hello {{ look() }}", look=way.read)
        return f"hello {way.read() if place == 'view' else g.who}"

    if place == "before_request":
        app.before_request(look)
    view = looking(page) if place == "decorator below" else page
    view = cache_response(LISTED)(view)
    app.add_url_rule("/", "page", looking(view) if place == "decorator above" else view)
    return app


class _Sessions:
    """Sessions that a header names, so that nothing of the transport says that there is one."""

    def __new__(cls) -> Any:
        from flask.sessions import SecureCookieSession, SecureCookieSessionInterface

        class Interface(SecureCookieSessionInterface):
            def open_session(self, app: Flask, request: Any) -> SecureCookieSession:
                user = request.environ.get("test.session")
                return SecureCookieSession({"user": user} if user else {})

            def save_session(self, app: Flask, session: Any, response: Any) -> None: ...

        return Interface()


def ask(app: Flask, way: Way, who: str) -> Any:
    """Send a request of somebody, or of nobody."""
    options = way.ask(who) if who else {}
    if "session" in options:
        options = {"environ_overrides": {"test.session": options["session"]}}
    return app.test_client(use_cookies=False).get("/", **options)


def greeting(who: str) -> str:
    """What a page has that was made for somebody."""
    return who if who else "hello"


@pytest.mark.parametrize("place", [*BEFORE, *INSIDE])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_callers__nobody_gets_another_s_page(new_app, way, place) -> None:
    """Without any setting, whoever asks first; and each page for nobody in particular is a hit when asked for again.

    Where reading is not seen (see the ways), the docs say so: headers read as a whole, the query of a type with
    ``query``, the address and ``environ``, before the view.
    """
    if place not in way.unseen:
        for order in (("", "ann", "bob"), ("ann", "bob", ""), ("bob", "ann", "bob")):
            app = shop(new_app, way, place)
            for who in (*order, *order):
                answer = ask(app, way, who)
                others = {greeting(name) for name in ("ann", "bob") if name != who}
                assert not any(other in answer.text for other in others), (order, who, answer.text, answer.headers)
                assert greeting(who) in answer.text, (order, who, answer.text, answer.headers)
    app = shop(new_app, way, place)
    found = [ask(app, way, "").headers["X-Cache"] for _ in range(2)]
    assert found == ["MISS", way.then if place in INSIDE else "HIT"]


@pytest.mark.parametrize("way", [WAYS["token of one's own"], WAYS["cookie"], WAYS["argument"]], ids=lambda _: "")
def test_callers__the_field_is_named(new_app, way, caplog) -> None:
    """Cache-Status says which field keeps a request from the cache; the log says once what can be done."""
    app = shop(new_app, way, "view")
    ask(app, way, "")
    answer = ask(app, way, "ann")
    for _ in range(2):
        answer = ask(app, way, "ann")
        assert answer.headers["X-Cache"] == "BYPASS"
    field = {"X-Shop-Session", "cookie:sid", "arg:api_key"} & set(answer.headers["Cache-Status"].split('"'))
    assert len(field) == 1
    assert f'detail=FIELD; field="{field.pop()}"' in answer.headers["Cache-Status"]
    assert sum("bypass the cache" in record.message and "by_caller" in record.message for record in caplog.records) == 1
    assert verdicts(app.test_client(), "/", 2) == ["HIT", "HIT"]
