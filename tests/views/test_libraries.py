"""Decorated views with the extensions that sites use: nobody gets another's page, and headers are as without a cache.

Each case builds one small application twice, with the decorator and without it. Callers ask both in turn, several times
each, and must get the same answers from the two.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import cachelib
import flask_babel  # type: ignore[import-untyped]
import flask_compress
import flask_httpauth  # type: ignore[import-untyped]
import flask_jwt_extended
import flask_limiter
import flask_limiter.util
import flask_login  # type: ignore[import-untyped]
import flask_security
import flask_session  # type: ignore[import-untyped]
import flask_talisman  # type: ignore[import-untyped]
import pytest
from flask import Flask, render_template_string, request, session
from flask.testing import FlaskClient
from flask_cors import CORS, cross_origin
from flask_security.models import fsqla_v3
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect  # type: ignore[import-untyped]
from flask_wtf.csrf import generate_csrf  # type: ignore[import-untyped]
from werkzeug.test import TestResponse

from flask_rcache import by_user, cache_response
from tests.servers import Server
from tests.views.kit import PAGE, TIERED
from tests.views.test_frameworks import OWN

#: `@cache_response(PAGE)`, or a decorator that does nothing.
Cache = Callable[[Any], Any]
KEY = "a secret that is long enough for HS256"
HI = "<p>Hi {{ current_user.get_id() or 'stranger' }}</p>"


class Caller(NamedTuple):
    """Who asks: what is done first, and what each request has."""

    name: str
    enter: str = ""
    asked: Callable[[Flask], dict[str, Any]] = lambda app: {}


class Site(NamedTuple):
    """A library in an application: how it is built, and who asks."""

    build: Callable[[Flask, Cache], object]
    callers: tuple[Caller, ...]
    config: dict[str, Any] = {}  # noqa: RUF012
    decorator: Cache = cache_response(PAGE)
    #: What `X-Cache` is for two anonymous visitors, once everybody has asked; none for a page without such.
    anonymous: tuple[str, ...] = ("HIT", "HIT")


class Person(flask_login.UserMixin):  # type: ignore[misc]
    """A user of flask-login."""

    def __init__(self, number: str) -> None:
        self.id = number


def login(app: Flask, cache: Cache) -> None:
    """The page that every site has, and a way to log in."""
    flask_login.LoginManager(app).user_loader(Person)

    @app.get("/enter/<name>")
    def enter(name: str) -> str:
        flask_login.login_user(Person(name))
        return "welcome"

    @app.get("/")
    @cache
    def page() -> str:
        return render_template_string(HI)


def jwt(app: Flask, cache: Cache) -> None:
    """Tokens are read where the view wants to know who asks."""
    flask_jwt_extended.JWTManager(app)

    @app.get("/")
    @cache
    def page() -> str:
        flask_jwt_extended.verify_jwt_in_request(optional=True)
        return f"Hi {flask_jwt_extended.get_jwt_identity() or 'stranger'}"


def bearer(name: str, **where: str) -> Caller:
    """Somebody with a token of flask-jwt-extended."""

    def asked(app: Flask) -> dict[str, Any]:
        with app.app_context():
            token = flask_jwt_extended.create_access_token(name, expires_delta=False)
        return {"headers": {where.get("header", "Authorization"): f"{where.get('kind', 'Bearer ')}{token}"}}

    return Caller(name, asked=asked)


def httpauth(app: Flask, cache: Cache) -> None:
    """Basic authentication, optional below the decorator."""
    auth = flask_httpauth.HTTPBasicAuth()
    auth.verify_password(lambda name, password: name if password == "right" else None)

    @app.get("/")
    @cache
    @auth.login_required(optional=True)
    def page() -> str:
        return f"Hi {auth.current_user() or 'stranger'}"


def tokenauth(app: Flask, cache: Cache) -> None:
    """A token in a header of its own, above the decorator."""
    auth = flask_httpauth.HTTPTokenAuth(header="X-Shop-Token")
    auth.verify_token(lambda token: token or None)

    @app.get("/")
    @auth.login_required(optional=True)
    @cache
    def page() -> str:
        return f"Hi {auth.current_user() or 'stranger'}"


def cors(app: Flask, cache: Cache) -> None:
    """Origins of the whole application."""
    CORS(app, origins=["http://a.test", "http://b.test"], supports_credentials=True)
    app.get("/")(cache(lambda: "open"))


def cors_below(app: Flask, cache: Cache) -> None:
    """Origins of one view, below the decorator: what it adds is part of the stored response."""
    view = cross_origin(origins=["http://a.test", "http://b.test"])(lambda: "open")
    app.add_url_rule("/", "page", cache(view))


def compress(app: Flask, cache: Cache) -> None:
    """Bodies that are compressed after the view."""
    flask_compress.Compress(app)
    app.get("/")(cache(lambda: "a long page. " * 500))


def server_sessions(app: Flask, cache: Cache) -> None:
    """Sessions that are kept on the server."""
    app.config["SESSION_CACHELIB"] = cachelib.SimpleCache()
    flask_session.Session(app)

    @app.get("/enter/<name>")
    def enter(name: str) -> str:
        session["name"] = name
        return "welcome"

    @app.get("/")
    @cache
    def page() -> str:
        return f"Hi {session.get('name', 'stranger')}"


def babel(app: Flask, cache: Cache) -> None:
    """Languages by header, and by what a before_request function has found."""
    flask_babel.Babel(app, locale_selector=lambda: request.accept_languages.best_match(["en", "de"], "en"))

    @app.get("/")
    @cache
    def page() -> str:
        return f"{flask_babel.get_locale()}: {flask_babel.format_decimal(1234.5)}"


def babel_of_users(app: Flask, cache: Cache) -> None:
    """The language of a cookie."""
    flask_babel.Babel(app, locale_selector=lambda: request.cookies.get("lang", "en"))

    @app.get("/")
    @cache
    def page() -> str:
        return str(flask_babel.format_decimal(1234.5))


def limiter(app: Flask, cache: Cache) -> None:
    """Limits by address, with their headers on each answer."""
    limits = flask_limiter.Limiter(
        flask_limiter.util.get_remote_address, app=app, storage_uri="memory://", headers_enabled=True
    )

    @app.get("/")
    @limits.limit("1000 per hour")
    @cache
    def page() -> str:
        return "limited"


def security(app: Flask, cache: Cache) -> None:
    """Users of flask-security: sessions and tokens."""
    db = SQLAlchemy(app)
    models: Any = fsqla_v3
    models.FsModels.set_db_info(db)
    model: Any = db.Model
    role = type("Role", (model, models.FsRoleMixin), {"__module__": __name__})
    user = type("User", (model, models.FsUserMixin), {"__module__": __name__})
    users: Any = flask_security.SQLAlchemyUserDatastore(db, user, role)
    flask_security.Security(app, users)

    @app.get("/enter/<name>")
    def enter(name: str) -> str:
        flask_security.login_user(users.find_user(email=f"{name}@example.com"))
        return "welcome"

    @app.get("/")
    @cache
    def page() -> str:
        who = flask_security.current_user
        return f"Hi {who.email if who.is_authenticated else 'stranger'}"

    with app.app_context():
        db.create_all()
        for name in ("ann", "ben"):
            users.create_user(email=f"{name}@example.com", password="secret-one", fs_uniquifier=name * 12)
        db.session.commit()
        app.extensions["tokens"] = {
            name: users.find_user(email=f"{name}@example.com").get_auth_token() for name in ("ann", "ben")
        }


def token_of(name: str) -> Caller:
    """Somebody with a token of flask-security."""
    return Caller(
        f"token of {name}", asked=lambda app: {"headers": {"Authentication-Token": app.extensions["tokens"][name]}}
    )


def asking(name: str, **asked: Any) -> Caller:
    """Somebody whose requests have something."""
    return Caller(name, asked=lambda app: asked)


ANN_AND_BEN = (Caller("ann", "/enter/ann"), Caller("ben", "/enter/ben"), Caller("stranger"))
PASSWORDS = (asking("ann", auth=("ann", "right")), asking("ben", auth=("ben", "right")), Caller("stranger"))
ORIGINS = (
    asking("a", headers={"Origin": "http://a.test"}),
    asking("b", headers={"Origin": "http://b.test"}),
    asking("evil", headers={"Origin": "http://evil.test"}),
    Caller("none"),
)
LANGUAGES = (
    asking("de", headers={"Accept-Language": "de"}),
    asking("en", headers={"Accept-Language": "en;q=0.9, fr;q=0.1"}),
    Caller("none"),
)
SECURITY = {
    "SECURITY_PASSWORD_SALT": "1" * 20,
    "SECURITY_PASSWORD_HASH": "plaintext",
    "SQLALCHEMY_DATABASE_URI": "sqlite://",
}
JWT = {"JWT_SECRET_KEY": KEY, "RCACHE_USER_JWT_KEY": KEY}
OWN_HEADER = {"JWT_HEADER_NAME": "X-Shop", "JWT_HEADER_TYPE": ""}
USER_PAGE = PAGE.replace(per_user=True)

SITES: dict[str, Site] = {
    "flask-login": Site(login, ANN_AND_BEN),
    "flask-login, by_user": Site(
        login, ANN_AND_BEN[:2], decorator=cache_response(USER_PAGE, key_func=by_user), anonymous=()
    ),
    "flask-security": Site(security, (*ANN_AND_BEN, token_of("ann"), token_of("ben")), SECURITY),
    "flask-jwt-extended": Site(jwt, (bearer("ann"), bearer("ben"), Caller("stranger")), JWT),
    "flask-jwt-extended, header": Site(
        jwt,
        (bearer("ann", header="X-Shop", kind=""), bearer("ben", header="X-Shop", kind=""), Caller("stranger")),
        JWT | OWN_HEADER,
    ),
    "flask-httpauth": Site(httpauth, PASSWORDS),
    "flask-httpauth, token": Site(
        tokenauth,
        (
            asking("ann", headers={"X-Shop-Token": "Bearer ann"}),
            asking("ben", headers={"X-Shop-Token": "Bearer ben"}),
            Caller("stranger"),
        ),
    ),
    "flask-cors": Site(cors, ORIGINS),
    "flask-cors, below": Site(cors_below, ORIGINS),
    "flask-compress": Site(
        compress,
        (
            asking("gzip", headers={"Accept-Encoding": "gzip"}),
            asking("br", headers={"Accept-Encoding": "br"}),
            Caller("plain"),
        ),
    ),
    "flask-session": Site(server_sessions, ANN_AND_BEN, {"SESSION_TYPE": "cachelib"}),
    "flask-babel": Site(babel, LANGUAGES),
    "flask-babel, cookie": Site(
        babel_of_users,
        (
            asking("de", headers={"Cookie": "lang=de"}),
            asking("fr", headers={"Cookie": "lang=fr"}),
            Caller("none"),
        ),
    ),
    "flask-limiter": Site(
        limiter,
        (
            asking("near", environ_base={"REMOTE_ADDR": "10.0.0.1"}),
            asking("far", environ_base={"REMOTE_ADDR": "10.0.0.2"}),
        ),
    ),
}


def seen(response: TestResponse) -> tuple[Any, ...]:
    """What a client sees, but for what the cache adds and what differs with the time."""
    left_out = OWN | {"Set-Cookie", "X-RateLimit-Reset", "Retry-After", "Cache-Control"}
    # Where an after_request function compresses, the cache says that ranges are not answered.
    headers = sorted(
        (name, value)
        for name, value in response.headers
        if name not in left_out and (name, value) != ("Accept-Ranges", "none")
    )
    # gzip writes the second at which it compresses.
    body = gzip.decompress(response.data) if response.content_encoding == "gzip" else response.data
    return response.status, body, headers


def vary(response: TestResponse) -> set[str]:
    """The fields of `Vary`."""
    return {each.lower() for each in response.vary}


@pytest.fixture(params=["memory", "tiered"])
def libraries_url(request: pytest.FixtureRequest) -> str:
    """The memory store, and a real Redis with the memory tier in front of it."""
    server: Server | None = request.getfixturevalue("redis_server") if request.param == "tiered" else None
    return "memory://" if server is None else server.url + TIERED


@pytest.mark.parametrize("name", SITES)
def test_libraries__callers_get_what_they_get_without_the_decorator(
    new_app: Any, name: str, libraries_url: str
) -> None:
    """Each caller, on a miss and on a hit, in two orders; visitors' pages are hits where nothing tells them apart."""
    site = SITES[name]
    for callers in (site.callers, site.callers[::-1]):
        plain = new_app(**site.config)
        kept = new_app(libraries_url, RCACHE_PREFIX=f"first-is-{callers[0].name}".replace(" ", "-"), **site.config)
        site.build(plain, lambda view: view)
        site.build(kept, site.decorator)
        clients: dict[tuple[str, str], FlaskClient] = {}
        for where, app in (("plain", plain), ("kept", kept)):
            for caller in callers:
                client = clients[where, caller.name] = app.test_client()
                if caller.enter:
                    assert client.get(caller.enter).text == "welcome"
        for turn in range(3):
            for caller in callers:
                wanted = clients["plain", caller.name].get("/", **caller.asked(plain))
                got = clients["kept", caller.name].get("/", **caller.asked(kept))
                assert seen(got) == seen(wanted), (caller.name, turn, got.headers)
                assert vary(got) >= vary(wanted), (caller.name, turn)
        if site.anonymous:
            visitors = [kept.test_client().get("/") for _ in range(2)]
            assert [each.headers["X-Cache"] for each in visitors] == list(site.anonymous), visitors[1].headers
        for app in (plain, kept):
            if database := app.extensions.get("sqlalchemy"):
                with app.app_context():  # Python 3.13 warns of connections to SQLite that nobody has closed
                    database.engine.dispose()


def test_csrf__a_form_is_for_one_visitor(new_app: Any) -> None:
    """Each visitor has a token of his own, which is accepted; the page beside it is a hit for all."""
    app = new_app()
    CSRFProtect(app)

    @app.get("/form")
    @cache_response(PAGE)
    def form() -> str:
        return render_template_string('<input name="csrf_token" value="{{ csrf_token() }}">')

    @app.post("/form")
    def send() -> str:
        return "sent"

    @app.get("/")
    @cache_response(PAGE)
    def page() -> str:
        return "shop"

    tokens = []
    found: re.Match[str] | None = None
    for _ in range(2):
        client = app.test_client()
        for _ in range(2):
            answer = client.get("/form")
            found = re.search('value="([^"]+)"', answer.text)
            assert found is not None
            assert client.post("/form", data={"csrf_token": found[1]}).text == "sent"
        tokens.append(found[1] if found else "")
    assert tokens[0] != tokens[1]
    assert app.test_client().post("/form", data={"csrf_token": tokens[0]}).status_code == 400
    assert [app.test_client().get("/").headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]


def test_csrf__a_token_made_before_the_view_is_for_one_visitor(new_app: Any) -> None:
    """A before_request function that makes a token for every page shares none."""
    app = new_app()
    CSRFProtect(app)
    app.before_request(lambda: generate_csrf() and None)

    @app.get("/")
    @cache_response(PAGE)
    def page() -> str:
        return str(generate_csrf())

    tokens = {app.test_client().get("/").text for _ in range(3)}
    assert len(tokens) == 3


def test_talisman__a_nonce_is_used_once(new_app: Any) -> None:
    """A page with a nonce is made anew, and its header has the same; a page without one is a hit with the headers."""
    app = new_app()
    policy = {"script-src": "'self'"}
    flask_talisman.Talisman(
        app, force_https=False, content_security_policy=policy, content_security_policy_nonce_in=["script-src"]
    )

    @app.get("/script")
    @cache_response(PAGE)
    def script() -> str:
        return render_template_string('<script nonce="{{ csp_nonce() }}">1</script>')

    @app.get("/")
    @cache_response(PAGE)
    def page() -> str:
        return "safe"

    nonces = set()
    for _ in range(3):
        answer = app.test_client().get("/script")
        found = re.search('nonce="([^"]+)"', answer.text)
        assert found is not None
        assert f"'nonce-{found[1]}'" in answer.headers["Content-Security-Policy"]
        nonces.add(found[1])
    assert len(nonces) == 3
    answers = [app.test_client().get("/") for _ in range(2)]
    assert [each.headers["X-Cache"] for each in answers] == ["MISS", "HIT"]
    for name in ("Content-Security-Policy", "X-Frame-Options", "Referrer-Policy", "X-Content-Type-Options"):
        assert all(name in each.headers for each in answers)
