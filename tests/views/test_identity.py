"""Who asks: credentials, sessions and `by_user`. Nobody gets what was made for somebody else."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

import flask_jwt_extended
import flask_login  # type: ignore[import-untyped]
import jwt
import pytest
from flask import Flask, Request, Response, g, make_response, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionInterface

from flask_rcache import CacheType, ConfigError, by_user, cache_response, current_cache
from tests.admin import tokens
from tests.admin.tokens import pem, private_key
from tests.admin.tokens import token as signed
from tests.views.kit import PAGE, Counted, detail, leases, manager, verdicts

KEY = "k" * 32
MINE = CacheType("mine", ttl=60, per_user=True)
COOKIE = {"Cookie": "session=abc"}
BEARER = {"Authorization": "Bearer abc"}


def token(sub: Any = "ann", *, key: str = KEY, seconds: int = 60, **claims: Any) -> dict[str, str]:
    """An Authorization header."""
    expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    return {"Authorization": "Bearer " + jwt.encode({"sub": sub, "exp": expires, **claims}, key, "HS256")}


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (BEARER, "AUTHORIZATION"),
        ({"Authorization": "Basic YTpi"}, "AUTHORIZATION"),
        ({"Cookie": "remember_token=1"}, "SESSION"),
        ({"Cookie": "a=1; access_token_cookie=1"}, "SESSION"),
        (COOKIE, None),
        ({"Cookie": "a=1; session=abc"}, None),
        ({"Cookie": "sessions=1; mysession=2"}, None),
        ({"Cookie": "theme=dark"}, None),
    ],
    ids=lambda each: str(each),
)
def test_credentials__bypass_the_cache(new_app, headers, reason) -> None:
    """With credentials: BYPASS before any lease, even where a page is stored; cookies that nobody reads do not matter.

    A session cookie that opens no session is none of a session.
    """
    app = new_app()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return request.headers.get("Authorization", "")

    client = app.test_client(use_cookies=False)
    first = client.get("/", headers=headers)
    assert leases(app) == []
    assert verdicts(client, "/") == (["MISS", "HIT"] if reason else ["HIT", "HIT"])
    assert detail(first) == reason == detail(client.get("/", headers=headers))
    assert ("page" in str(list(manager(app).entries()))) is True
    if reason:
        assert client.get("/").data == b""


@pytest.mark.parametrize(
    ("environ", "field"),
    [
        ({"REMOTE_USER": "ann"}, "REMOTE_USER"),
        ({"AUTH_TYPE": "ann"}, "AUTH_TYPE"),
        ({"SSL_CLIENT_VERIFY": "SUCCESS", "SSL_CLIENT_S_DN": "CN=ann"}, "SSL_CLIENT_S_DN"),
        ({"HTTP_X_FORWARDED_USER": "ann"}, "HTTP_X_FORWARDED_USER"),
        ({"HTTP_X_REMOTE_USER": "ann"}, "HTTP_X_REMOTE_USER"),
        ({"HTTP_X_AUTH_REQUEST_USER": "ann"}, "HTTP_X_AUTH_REQUEST_USER"),
        ({"HTTP_X_AMZN_OIDC_IDENTITY": "ann"}, "HTTP_X_AMZN_OIDC_IDENTITY"),
        ({"HTTP_X_GOOG_AUTHENTICATED_USER_EMAIL": "ann"}, "HTTP_X_GOOG_AUTHENTICATED_USER_EMAIL"),
        ({"HTTP_X_MS_CLIENT_PRINCIPAL": "ann"}, "HTTP_X_MS_CLIENT_PRINCIPAL"),
        ({"HTTP_CF_ACCESS_JWT_ASSERTION": "ann"}, "HTTP_CF_ACCESS_JWT_ASSERTION"),
        ({"HTTP_X_API_KEY": "ann"}, "HTTP_X_API_KEY"),
        ({"HTTP_X_CUSTOMER": "ann"}, "HTTP_X_CUSTOMER"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_credentials__of_the_server_in_front_count_too(new_app, environ, field) -> None:
    """A user whom a server or a proxy has authenticated is not anonymous; fields of one's own can be named."""
    app = new_app(RCACHE_CREDENTIAL_HEADERS=["X-Customer"])
    app.add_url_rule("/", view_func=cache_response(PAGE)(lambda: request.environ.get(field, "-")), endpoint="x")
    client = app.test_client()
    mine = client.get("/", environ_overrides=environ)
    assert (detail(mine), "ann" in mine.text) == ("AUTHORIZATION", True)
    assert client.get("/").data == b"-"
    assert client.get("/", environ_overrides=environ).text == mine.text


def test_credentials__shared_says_the_answer_is_for_everyone(new_app) -> None:
    """With `shared=True` all requests have one entry; a cookie that the view sets is still never stored."""
    app, body = new_app(), Counted()
    app.add_url_rule("/", view_func=cache_response(PAGE, shared=True)(lambda: body()), endpoint="x")

    @app.get("/login")
    @cache_response(PAGE, shared=True)
    def login():
        session["user"] = "ann"
        return "in"

    client = app.test_client(use_cookies=False)
    assert [client.get("/", headers=each).data for each in (BEARER, COOKIE, {}, token())] == [b"1"] * 4
    assert detail(client.get("/login")) == "SESSION-CHANGED"
    assert "Set-Cookie" in client.get("/login").headers


class _Named(SecureCookieSessionInterface):
    """Flask's own sessions, in a cookie of another name."""

    def get_cookie_name(self, app: Flask) -> str:
        return "sid"


class _Kept(SessionInterface):
    """Sessions kept on the server; the caller is known by a cookie that no setting names, or by a header."""

    def __init__(self, header: str = "") -> None:
        self.header = header
        self.kept: dict[str | None, dict[str, Any]] = {}

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession:
        caller = request.headers.get(self.header) if self.header else request.cookies.get("beaker.id")
        return SecureCookieSession(self.kept.get(caller, {}))

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        if session.modified:
            self.kept[session["user"]] = dict(session)
            if not self.header:
                response.set_cookie("beaker.id", session["user"])


@pytest.mark.parametrize(
    ("interface", "headers"),
    [(_Named(), {}), (_Kept(), {}), (_Kept("X-Session"), {"X-Session": "ann"})],
    ids=["named by the interface", "a cookie of its own", "a header"],
)
def test_session__of_another_interface_is_seen(new_app, interface, headers) -> None:
    """However the app's session interface knows its callers, a page made from a session goes to nobody else."""
    app = new_app()
    app.session_interface = interface

    @app.get("/login")
    def login():
        session["user"] = "ann"
        return ""

    @app.get("/account")
    @cache_response(PAGE)
    def account():
        return session.get("user", "nobody")

    ann, eve = app.test_client(), app.test_client()
    ann.get("/login")
    mine = ann.get("/account", headers=headers)
    assert (mine.text, detail(mine)) == ("ann", "SESSION")
    assert [eve.get("/account").text for _ in range(2)] == ["nobody"] * 2
    assert ann.get("/account", headers=headers).text == "ann"


def test_session__begun_by_the_view_without_a_cookie_is_seen(new_app) -> None:
    """A caller known by a header signs in on a decorated page: what it shows him is shown to nobody else."""
    app = new_app()
    app.session_interface = _Kept("X-Session")

    @app.get("/")
    @cache_response(PAGE)
    def page():
        if "X-Session" in request.headers:
            session["user"] = request.headers["X-Session"]
        return session.get("user", "nobody")

    client = app.test_client()
    mine = client.get("/", headers={"X-Session": "ann"})
    assert (mine.text, mine.headers["X-Cache"], detail(mine)) == ("ann", "MISS", "SESSION-CHANGED")
    assert leases(app) == []
    assert client.get("/").text == "nobody"


def _jwt_cookie_app(new_app, **config: Any) -> Flask:
    app: Flask = new_app(**config)
    app.config.update(JWT_SECRET_KEY=KEY, JWT_TOKEN_LOCATION=["cookies"], JWT_COOKIE_CSRF_PROTECT=False)
    flask_jwt_extended.JWTManager(app)

    @app.get("/login")
    def login():
        response = make_response("")
        flask_jwt_extended.set_access_cookies(response, flask_jwt_extended.create_access_token("ann"))
        return response

    @app.get("/me")
    @flask_jwt_extended.jwt_required(optional=True)
    @cache_response(PAGE)
    def me():
        return str(flask_jwt_extended.get_jwt_identity())

    return app


@pytest.mark.parametrize(
    ("early", "late"),
    [({}, {}), ({}, {"JWT_ACCESS_COOKIE_NAME": "at"}), ({"RCACHE_CREDENTIAL_COOKIES": ["lang"]}, {})],
    ids=["by default", "renamed", "beside another that is named"],
)
def test_credentials__the_cookie_of_flask_jwt_extended(new_app, early, late) -> None:
    """Its cookie identifies a caller under its usual name, under another, and whatever else is named."""
    app = _jwt_cookie_app(new_app, **early)
    app.config.update(late)
    ann = app.test_client()
    ann.get("/login")
    assert (ann.get("/me").text, detail(ann.get("/me"))) == ("ann", "SESSION")
    assert app.test_client().get("/me").text == "None"


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # flask-login, on Python 3.12
def test_credentials__the_remember_cookie_renamed(new_app) -> None:
    """Whoever has only flask-login's remember cookie, under whatever name, is not shown the anonymous page."""
    app = _login_app(new_app)
    app.config["REMEMBER_COOKIE_NAME"] = "rt"

    @app.get("/remember")
    def remember():
        flask_login.login_user(app.login_manager._user_callback("ann"), remember=True)  # type: ignore[attr-defined]
        return ""

    @app.get("/me")
    @cache_response(PAGE)
    def me():
        return str(flask_login.current_user.get_id())

    assert app.test_client().get("/me").text == "None"
    ann = app.test_client()
    ann.get("/remember")
    ann.delete_cookie("session")
    assert ann.get("/me").text == "ann"


def test_credentials__a_cookie_that_cannot_be_read(new_app) -> None:
    """Cookies that are no text, beside the name of one that counts, bypass the cache; they are no error."""
    app = new_app(SECRET_KEY=None)
    app.add_url_rule("/", view_func=cache_response(PAGE)(lambda: "x"), endpoint="x")
    client = app.test_client(use_cookies=False)
    response = client.get("/", environ_overrides={"HTTP_COOKIE": "a=\xff; remember_token=1"})
    assert (response.status_code, detail(response)) == (200, "SESSION")
    assert client.get("/", environ_overrides={"HTTP_COOKIE": "a=\xff"}).status_code == 200


def test_session__set_late_is_seen(new_app) -> None:
    """A session changed by the view, by `after_request` or by a permanent one: never stored, sent to its client."""
    app = new_app()

    @app.get("/<how>")
    @cache_response(PAGE)
    def page(how):
        if how == "view":
            session["a"] = 1
        elif how == "permanent":
            session.permanent = True
            session["a"] = 1
        return how

    @app.after_request
    def late(response):
        if request.path == "/after":
            session["a"] = 1
        elif request.path == "/cookie":
            response.set_cookie("late", "1")
        return response

    for how in ("view", "permanent", "after", "cookie"):
        for _ in range(2):
            response = app.test_client(use_cookies=False).get(f"/{how}")
            reason = "SET-COOKIE" if how == "cookie" else "SESSION-CHANGED"
            assert (response.headers["X-Cache"], detail(response)) == ("MISS", reason), how
            assert "Set-Cookie" in response.headers
    assert list(manager(app).entries()) == []


def test_session__touched_for_everyone_anonymous_pages_are_cached(new_app) -> None:
    """An app that looks the user up before every request still caches; `Vary: Cookie` is sent on hits as on misses."""
    app, body = new_app(), Counted()

    @app.before_request
    def load_user():
        g.user = session.get("user")

    @app.get("/")
    @cache_response(PAGE)
    def page():
        return f"{g.user} {body()}"

    @app.get("/login")
    def login():
        session["user"] = "ann"
        return ""

    strangers = [app.test_client() for _ in range(3)]
    answers = [client.get("/", headers={"Cookie": f"theme={n}"}) for n, client in enumerate(strangers)]
    assert [answer.headers["X-Cache"] for answer in answers] == ["MISS", "HIT", "HIT"]
    assert [answer.headers["Vary"].lower() for answer in answers] == ["cookie"] * 3
    ann = app.test_client()
    ann.get("/login")
    mine = ann.get("/")
    assert (mine.headers["X-Cache"], mine.data) == ("BYPASS", b"ann 2")
    assert strangers[0].get("/").data == b"None 1"


def test_session__is_not_touched_by_the_cache(new_app) -> None:
    """Looking whether there is a session does not add `Vary: Cookie` to pages that do not use one."""
    app = new_app()
    app.add_url_rule("/", view_func=cache_response(PAGE)(lambda: "x"), endpoint="x")
    client = app.test_client(use_cookies=False)
    assert all("Vary" not in client.get("/", headers=each).headers for each in ({}, {}, COOKIE, BEARER))


@pytest.mark.parametrize("touched", [False, True])
def test_session__a_vary_on_cookie_of_the_app_counts(new_app, touched) -> None:
    """`Vary: Cookie` from the app's own `after_request` selects variants, whether or not the session is used."""
    app = new_app()

    @app.get("/")
    @cache_response(PAGE)
    def page():
        if touched:
            session.get("user")
        return request.cookies.get("lang", "en")

    @app.after_request
    def vary(response):
        response.vary.add("Cookie")
        return response

    client = app.test_client(use_cookies=False)
    for _ in range(2):
        for lang in ("en", "fr", "de"):
            assert client.get("/", headers={"Cookie": f"lang={lang}"}).data.decode() == lang
    assert client.get("/", headers={"Cookie": "lang=fr"}).headers["X-Cache"] == "HIT"


def test_key_func__needs_a_per_user_type_to_lift_the_bypass(new_app, caplog) -> None:
    """On another type credentials still bypass, and one warning says why; on a per_user type they do not."""
    app = new_app()

    def caller(req):
        return req.headers.get("Authorization", "nobody")

    app.add_url_rule("/a", view_func=cache_response(PAGE, None, caller)(lambda: caller(request)), endpoint="a")
    app.add_url_rule("/b", view_func=cache_response(MINE, None, caller)(lambda: caller(request)), endpoint="b")
    client = app.test_client()
    assert verdicts(client, "/a", 3, headers=BEARER) == ["BYPASS"] * 3
    assert [record.getMessage() for record in caplog.records if "per_user=True" in record.getMessage()] == [
        record.getMessage() for record in caplog.records
    ]
    assert len(caplog.records) == 1
    assert verdicts(client, "/b", headers=BEARER) == ["MISS", "HIT"]
    assert client.get("/b", headers={"Authorization": "Bearer other"}).data == b"Bearer other"


def _jwt_app(new_app, **config: Any) -> Flask:
    app: Flask = new_app(RCACHE_USER_JWT_KEY=KEY, RCACHE_SHOW_KEY=True, **config)
    body = Counted()

    @app.get("/<page>")
    @cache_response(MINE, None, by_user)
    def page(page):
        header = request.headers.get("Authorization", "")
        try:
            who = jwt.decode(header.partition(" ")[2], KEY, ["HS256"])["sub"]
        except (jwt.InvalidTokenError, KeyError, RecursionError):  # the last: of what is nested, before PyJWT 2.13
            who = "nobody"
        return f"{who} {page} {body()}", 200, {"Cache-Control": "private"}

    return app


def test_by_user__keys_by_the_subject_of_a_verified_token(new_app) -> None:
    """Each caller has entries of their own for each URL; two tokens of one caller share them."""
    client = _jwt_app(new_app).test_client()
    assert client.get("/x", headers=token("ann")).data == b"ann x 1"
    assert client.get("/x", headers=token("ann", seconds=90)).data == b"ann x 1"
    assert client.get("/x", headers=token("bob")).data == b"bob x 2"
    assert client.get("/y", headers=token("ann")).data == b"ann y 3"
    assert client.get("/x?q=1", headers=token("ann")).data == b"ann x 4"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer not.a.token"},
        {"Authorization": "Basic YW5uOng="},
        token("ann", key="x" * 32),
        token("ann", seconds=-5),
        {"Authorization": "Bearer " + jwt.encode({"sub": "ann"}, KEY, "HS256")},
        {"Authorization": "Bearer " + jwt.encode({"exp": 9999999999}, KEY, "HS256")},
        {"Authorization": "Bearer " + jwt.encode({"sub": "ann", "exp": 9999999999}, "", "none")},
        token(17),
    ],
    ids=[
        "none",
        "no token",
        "blank",
        "garbage",
        "Basic",
        "another key",
        "expired",
        "no exp",
        "no sub",
        "unsigned",
        "odd sub",
    ],
)
def test_by_user__an_anonymous_request_is_not_cached(new_app, headers) -> None:
    """Without a token, or with one that is not valid, nothing is read or stored."""
    app = _jwt_app(new_app)
    client = app.test_client()
    client.get("/x", headers=token("ann"))
    response = client.get("/x", headers=headers)
    assert (response.headers["X-Cache"], detail(response)) == ("BYPASS", "KEY")
    assert len(list(manager(app).entries())) == 1


def _nested() -> str:
    parts = (b"[" * 2500 + b"]" * 2500, b"{}", b"x")
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def test_by_user__a_token_that_is_nested_deeply_is_no_error(new_app) -> None:
    """Anybody can send it: the view runs, uncached, and judges it."""
    response = _jwt_app(new_app).test_client().get("/x", headers={"Authorization": f"Bearer {_nested()}"})
    assert (response.status_code, detail(response)) == (200, "KEY")


def _key_app(new_app, **config: Any) -> Flask:
    app: Flask = new_app(**config)

    @app.get("/")
    @cache_response(MINE, None, by_user)
    def page():
        return "x"

    return app


def test_by_user__a_public_key_without_algorithms(new_app) -> None:
    """The kind of the key says which tokens it verifies; another's token names nobody, and is no 500 for its sender."""
    client = _key_app(new_app, RCACHE_USER_JWT_KEY=tokens.pem("rsa")).test_client()
    signed = tokens.bearer(tokens.token(tokens.private_key("rsa"), "RS256"))
    assert verdicts(client, "/", headers=signed) == ["MISS", "HIT"]
    other = client.get("/", headers=tokens.bearer(tokens.token()))
    assert (other.status_code, detail(other)) == (200, "KEY")


def test_by_user__a_pem_in_one_line_of_the_environment(new_app, monkeypatch) -> None:
    """Spelled line breaks are read as in the administrator's key."""
    monkeypatch.setenv("RCACHE_USER_JWT_KEY", tokens.pem("rsa").replace("\n", "\\n"))
    monkeypatch.setenv("RCACHE_USER_JWT_ALGORITHMS", "RS256")
    client = _key_app(new_app).test_client()
    assert verdicts(client, "/", headers=tokens.bearer(tokens.token(tokens.private_key("rsa"), "RS256"))) == [
        "MISS",
        "HIT",
    ]


def test_by_user__pages_are_not_reached_by_their_hash(new_app) -> None:
    """Another view of the type, whose key a client says, does not lead to a page whose hash a client can compute."""
    app = _jwt_app(new_app)

    @app.get("/profile/<name>")
    @cache_response(MINE, None, lambda req: req.args["name"])
    def profile(name):
        return f"public profile of {name}"

    client = app.test_client()
    key = client.get("/x", headers=token("ann")).headers["X-Cache-Key"]
    assert client.get("/profile/ann", query_string={"name": key}).text == "public profile of ann"
    assert client.get("/x", headers=token("ann")).text == "ann x 1"


def test_by_user__without_a_key_says_what_is_missing(new_app) -> None:
    """A bearer token that cannot be verified is a configuration error, not an anonymous caller."""
    app = new_app()
    app.add_url_rule("/", view_func=cache_response(MINE, None, by_user)(lambda: "x"), endpoint="x")
    with pytest.raises(ConfigError, match="RCACHE_USER_JWT_KEY"):
        app.test_client().get("/", headers=token())
    assert app.test_client().get("/").headers["X-Cache"] == "BYPASS"


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"RCACHE_USER_JWT_KEY": "x"}, "RCACHE_USER_JWT_KEY has 1 bytes"),
        ({"RCACHE_USER_JWT_KEY": b"k" * 31}, "at least 32"),
        ({"RCACHE_USER_JWT_KEY": private_key("rsa")}, "verifies no token"),
        ({"RCACHE_USER_JWT_KEY": KEY, "RCACHE_USER_JWT_ALGORITHMS": "RS256"}, "RCACHE_USER_JWT_ALGORITHMS has RS256"),
        ({"RCACHE_USER_JWT_KEY": "".join(pem("rsa").splitlines()[1:-1])}, "not in PEM"),
    ],
)
def test_by_user__keys_that_are_refused_at_start(new_app, config: dict[str, Any], match: str) -> None:
    """Whoever guesses a short secret is any user, and a public key as a secret is known to all."""
    with pytest.raises(ConfigError, match=match):
        new_app(**config)


@pytest.mark.parametrize("key", [pem("rsa"), pem("rsa").replace("\n", "\\n"), private_key("rsa").public_key()])
def test_by_user__a_public_key_says_which_algorithms(new_app, key: Any) -> None:
    """Without a setting for them; a token signed with the public key as a secret names nobody."""
    app = new_app(RCACHE_USER_JWT_KEY=key)
    app.add_url_rule("/", view_func=cache_response(MINE, None, by_user)(lambda: "x"), endpoint="x")
    client = app.test_client()
    good = {"Authorization": f"Bearer {signed(private_key('rsa'), 'RS256')}"}
    assert verdicts(client, "/", headers=good) == ["MISS", "HIT"]
    assert verdicts(client, "/", headers=token()) == ["BYPASS", "BYPASS"]


def _login_app(new_app, **config: Any) -> Flask:
    app: Flask = new_app(**config)
    login = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):  # type: ignore[misc]
        def __init__(self, id: str) -> None:
            self.id = id

    login.user_loader(User)
    body = Counted()

    @app.get("/login/<name>")
    def sign_in(name):
        flask_login.login_user(User(name))
        return ""

    @app.get("/logout")
    def sign_out():
        flask_login.logout_user()
        return ""

    @app.get("/")
    @cache_response(MINE, None, by_user)
    def page():
        user = flask_login.current_user
        return f"{user.get_id() if user.is_authenticated else 'nobody'} {body()}"

    return app


def test_by_user__keys_by_the_user_of_flask_login(new_app) -> None:
    """Two browsers of one user share an entry, other users and the signed-out do not see it."""
    app = _login_app(new_app)
    ann, again, bob = (app.test_client() for _ in range(3))
    for client, name in ((ann, "ann"), (again, "ann"), (bob, "bob")):
        client.get(f"/login/{name}")
    assert [client.get("/").data for client in (ann, again, bob, ann)] == [b"ann 1", b"ann 1", b"bob 2", b"ann 1"]
    ann.get("/logout")
    assert detail(ann.get("/")) == "KEY"
    assert ann.get("/").data.startswith(b"nobody")


def test_by_user__a_login_and_a_token_together_are_another_caller(new_app) -> None:
    """Whichever of the two the view goes by, neither alone leads to what both together were shown."""
    app = _login_app(new_app, RCACHE_USER_JWT_KEY=KEY)
    client = app.test_client()
    client.get("/login/ann")
    assert [client.get("/", headers=each).data for each in ({}, token("bob"), token("cat"))] == [
        b"ann 1",
        b"ann 2",
        b"ann 3",
    ]
    assert client.get("/", headers=token("bob")).data == b"ann 2"
    assert detail(client.get("/", headers=BEARER)) == "KEY"


def test_by_user__a_stray_token_is_no_error_where_users_sign_in(new_app) -> None:
    """With flask-login and no JWT key, whoever sends a bearer token gets the page, past the cache."""
    app = _login_app(new_app)
    client = app.test_client()
    client.get("/login/ann")
    assert detail(client.get("/", headers=BEARER)) == "KEY"


def test_by_user__a_write_to_the_url_reaches_every_callers_entry(new_app) -> None:
    """The URL is one, whoever it was shown to."""
    app = _jwt_app(new_app)
    app.add_url_rule("/<page>", view_func=lambda page: "written", endpoint="write", methods=["POST"])
    client = app.test_client()
    for name in ("ann", "bob"):
        assert verdicts(client, "/x", headers=token(name)) == ["MISS", "HIT"]
    client.post("/x", headers=token("ann"))
    for name in ("ann", "bob"):
        assert verdicts(client, "/x", headers=token(name)) == ["MISS", "HIT"]


def test_by_user__a_type_invalidation_reaches_them_too(new_app) -> None:
    """`invalidate_type` on the per-user type."""
    app = _jwt_app(new_app)
    client = app.test_client()
    assert verdicts(client, "/x", headers=token()) == ["MISS", "HIT"]
    with app.app_context():
        assert current_cache.invalidate_type(MINE) == 1
    assert verdicts(client, "/x", headers=token()) == ["MISS", "HIT"]


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        pytest.param("", "private", id="nothing"),
        pytest.param("max-age=60", "max-age=60, private", id="a-lifetime"),
        pytest.param("private, max-age=60", "private, max-age=60", id="private"),
        pytest.param("public, max-age=60", "public, max-age=60", id="public"),
        pytest.param("s-maxage=60", "s-maxage=60", id="s-maxage"),
        pytest.param("no-store", "no-store", id="no-store"),
    ],
)
def test_per_user__answers_say_that_they_are_private(new_app, said, sent) -> None:
    """The caches behind this one must not share a caller's page, unless the view says that they may."""
    app = new_app("memory://")

    @app.get("/mine")
    @cache_response(CacheType.USER, key_func=lambda req: req.headers.get("X-Customer"))
    def mine():
        return "mine", 200, {"Cache-Control": said} if said else {}

    client = app.test_client()
    for headers in ({"X-Customer": "ann"}, {"X-Customer": "ann"}, {}):
        assert client.get("/mine", headers=headers).headers["Cache-Control"] == sent


@pytest.mark.parametrize("path", ["//x", "///x"])
def test_default_key__of_a_path_with_two_slashes_is_another(new_app, path) -> None:
    """`//x` and `/x` are two URLs."""
    app = new_app("memory://")
    app.url_map.merge_slashes = False

    @app.get("/<path:name>")
    @cache_response(CacheType.SEARCH)
    def page(name):
        return request.environ["PATH_INFO"]

    client = app.test_client()
    assert client.get("/x").text == "/x"
    answer = client.get("http://localhost/x", environ_overrides={"PATH_INFO": path})
    assert answer.headers["X-Cache"] in ("MISS", None)
    assert answer.text == path
