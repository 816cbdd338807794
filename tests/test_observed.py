"""What is read of a request is noted, whoever reads it; all objects stay the ones that they are."""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from flask import (
    Flask,
    Request,
    Response,
    copy_current_request_context,
    g,
    get_flashed_messages,
    render_template_string,
    request,
    session,
    url_for,
)
from flask.sessions import SessionInterface, SessionMixin
from flask_jwt_extended import JWTManager, create_access_token, get_jwt_identity, verify_jwt_in_request
from flask_login import LoginManager, UserMixin, current_user  # type: ignore[import-untyped]

from flask_rcache.context import request_context
from flask_rcache.observed import describe, observing

IDENTITIES = ("_login_user", "_jwt_extended_jwt")


class User(UserMixin):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.id = name


class AppRequest(Request):
    """An app's own, with a property of its own."""

    @property
    def tenant(self) -> str:
        return self.headers.get("X-Tenant", "none")


@pytest.fixture
def shop() -> Flask:
    """An app with what apps have: logins, tokens, a request class of its own."""
    app = Flask("shop")
    app.config.update(SECRET_KEY="k" * 40, JWT_SECRET_KEY="j" * 40)
    app.request_class = AppRequest
    JWTManager(app)
    app.add_url_rule("/item/<int:number>", "item", lambda number: str(number))
    return app


HEADERS = {
    "Cookie": "lang=de; size=5",
    "Accept-Language": "de, en;q=0.5",
    "X-Api-Key": "k",
    "User-Agent": "Browser/1",
    "Authorization": "Bearer x",
}


def visit(app: Flask, **options: Any) -> Any:
    return app.test_request_context("/item/7?a=1&a=2&b=3", headers=HEADERS, **options)


def state() -> list[Any]:
    """The names of the classes of everything that is watched, and which objects they are."""
    ctx = request_context()
    held = [ctx.request, ctx._session, g._get_current_object()]
    held += [request.headers, request.args, request.cookies, request.values]
    return [(type(each).__qualname__, id(each)) for each in held]


def reads_of(app: Flask, read: Callable[[], object], **options: Any) -> set[str]:
    """The fields that a function reads in a request, whose objects stay what they are."""
    with visit(app, **options):
        session["cart"] = 1
        before = state()
        with observing(request_context(), IDENTITIES) as observed:
            read()
        assert state() == before
        return observed.reads


READS: dict[str, tuple[Callable[[], object], set[str]]] = {
    "nothing": (lambda: None, set()),
    "argument": (lambda: request.args.get("a"), {"arg:a"}),
    "absent argument": (lambda: request.args.get("none", type=int), {"arg:none"}),
    "argument by item": (lambda: request.args["b"], {"arg:b"}),
    "argument by keyword": (lambda: request.args.get(key="a"), {"arg:a"}),
    "list": (lambda: request.args.getlist("a"), {"arg:a"}),
    "in": (lambda: "z" in request.args, {"arg:z"}),
    "values": (lambda: request.values["a"], {"arg:a"}),
    "all": (lambda: list(request.args), {"arg:*"}),
    "number": (lambda: len(request.args), {"arg:*"}),
    "truth": (lambda: bool(request.args), {"arg:*"}),
    "equal": (lambda: request.args == {}, {"arg:*"}),
    "text": (lambda: f"{request.args}", {"arg:*"}),
    "to_dict": (lambda: request.args.to_dict(flat=False), {"arg:*"}),
    "lists": (lambda: list(request.args.lists()), {"arg:*"}),
    "dict": (lambda: dict(request.args), {"arg:*", "arg:a", "arg:b"}),
    "unpacked": (lambda: {**request.args}, {"arg:*", "arg:a", "arg:b"}),
    "query string": (lambda: request.query_string, {"query_string"}),
    "header": (lambda: request.headers.get("x-api-key"), {"header:x-api-key"}),
    "header by item": (lambda: request.headers["X_Api_Key"], {"header:x-api-key"}),
    "headers by name": (lambda: request.headers.getlist("X-Api-Key"), {"header:x-api-key"}),
    "all headers": (lambda: dict(request.headers), {"header:*"}),
    "derived": (lambda: request.accept_languages.best, {"header:accept-language"}),
    "user agent": (lambda: request.user_agent.string, {"header:user-agent"}),
    "authorization": (lambda: request.authorization, {"header:authorization"}),
    "own property": (lambda: request.tenant, {"header:x-tenant"}),  # type: ignore[attr-defined]
    "cookie": (lambda: request.cookies.get("lang"), {"cookie:lang"}),
    "all cookies": (lambda: request.cookies.to_dict(), {"cookie:*"}),
    "remote address": (lambda: request.remote_addr, {"remote_addr"}),
    "access route": (lambda: request.access_route, {"header:x-forwarded-for", "remote_addr"}),
    "environ": (lambda: request.environ["HTTP_X_API_KEY"], {"environ:HTTP_X_API_KEY"}),
    "environ, absent": (lambda: request.environ.get("REMOTE_USER"), {"environ:REMOTE_USER"}),
    "whole environ": (lambda: dict(request.environ), {"environ:*"}),
    "remote user": (lambda: request.remote_user, {"environ:REMOTE_USER"}),
    "view arguments": (lambda: request.view_args, {"view_args"}),
    "path": (lambda: request.path, {"path"}),
    "method": (lambda: request.method, {"method"}),
    "body": (lambda: request.get_data(), {"body"}),
    "form": (lambda: request.form.get("a"), {"body"}),
    "json": (lambda: request.get_json(silent=True), {"body", "header:content-type"}),
    "session": (lambda: session.get("cart"), {"session:cart"}),
    "session in": (lambda: "cart" in session, {"session:cart"}),
    "whole session": (lambda: dict(session), {"session:*", "session:cart"}),
    "truth of the session": (lambda: bool(session), {"session:*"}),
    "permanent": (lambda: session.permanent, {"session:_permanent"}),
    "flashes": (lambda: get_flashed_messages(), {"session:_flashes"}),
    "template": (lambda: render_template_string("{{ request.args.b }} {{ session.cart }}"), {"arg:b", "session:cart"}),
    "g, set by nobody": (lambda: (g.get("x"), "y" in g), {"g:x", "g:y"}),
    # What says nothing of the visitor.
    "written session": (lambda: session.update(seen=1), set()),
    "item of the session": (lambda: session.__setitem__("seen", 1), set()),
    "g, set by itself": (lambda: (g.setdefault("db", 1), g.db, "db" in g, g.get("_private")), set()),
    "url_for": (lambda: url_for("item", number=1), set()),
    "external url_for": (lambda: url_for("item", number=1, _external=True), set()),
    "plain template": (lambda: render_template_string("{{ url_for('item', number=2) }}"), set()),
    "endpoint": (lambda: (request.endpoint, request.blueprint, request.url_rule), set()),
}


@pytest.mark.parametrize(("read", "fields"), READS.values(), ids=READS)
def test_observing__each_way_to_read(shop: Flask, read: Callable[[], object], fields: set[str]) -> None:
    """Fields are noted by their names, present or not; what is asked for as a whole has a star."""
    found = reads_of(shop, read)
    if any(field.endswith(":*") for field in fields):  # what of it is asked for by name beside that does not matter
        assert {field for field in found if field in fields or ":*" in field} >= {f for f in fields if ":*" in f}
        assert {field.partition(":")[0] for field in found} == {field.partition(":")[0] for field in fields}
    else:
        assert found == fields


@pytest.mark.parametrize(
    ("prepare", "read", "fields"),
    [
        (lambda: request.accept_languages, lambda held: held.best, set()),
        (lambda: request.accept_languages, lambda _: request.accept_languages, {"header:accept-language"}),
        (lambda: request.args, lambda held: held["a"], {"arg:a"}),
        (lambda: request.headers, lambda held: held["Cookie"], {"header:cookie"}),
        (lambda: session._get_current_object(), lambda held: held["cart"], {"session:cart"}),  # type: ignore[attr-defined]
        (lambda: setattr(request, "tenant_id", 5), lambda _: request.tenant_id, {"tenant_id"}),  # type: ignore[attr-defined]
    ],
    ids=["computed value", "computed before", "arguments", "headers", "session", "set by the app"],
)
def test_observing__what_was_at_hand_before(shop: Flask, prepare: Any, read: Any, fields: set[str]) -> None:
    """Containers that somebody got hold of before are watched too; what was computed counts as what it is made of."""
    reads_of(shop, lambda: request.accept_languages)  # a process learns what a property reads when it first does
    with visit(shop):
        session["cart"] = 1
        held = prepare()
        with observing(request_context(), IDENTITIES) as observed:
            read(held)
        assert observed.reads == fields


def test_observing__who_is_logged_in(shop: Flask) -> None:
    """flask-login's current user, found in the session or at hand already; a name that is not asked for is none."""
    LoginManager(shop).user_loader(User)
    with visit(shop):
        session["_user_id"] = "ann"
        with observing(request_context(), IDENTITIES) as first:
            assert current_user.get_id() == "ann"
        with observing(request_context(), IDENTITIES) as second:
            assert current_user.is_authenticated
        with observing(request_context(), ["other"]) as third:
            assert current_user.is_authenticated
        g.other = 1
        with observing(request_context(), ["other"]) as fourth:
            assert (g.get("other"), g.other, "other" in g) == (1, 1, True)
    assert first.reads >= {"g:_login_user", "session:_user_id"}
    assert second.reads == {"g:_login_user"}
    assert third.reads == {"g:_login_user"}  # an object that was there before
    assert fourth.reads == {"g:other"}


def test_observing__a_token(shop: Flask) -> None:
    """A library that looks into the headers itself is seen as well, and what it has put on ``g`` for later."""
    with shop.app_context():
        token = create_access_token("ann")
    headers = {"Authorization": f"Bearer {token}"}
    with shop.test_request_context("/", headers=headers), observing(request_context(), IDENTITIES) as observed:
        verify_jwt_in_request()
        with observing(request_context(), IDENTITIES) as later:
            assert get_jwt_identity() == "ann"
    assert "header:authorization" in observed.reads
    assert later.reads == {"g:_jwt_extended_jwt"}


def test_observing__restores_after_an_exception(shop: Flask) -> None:
    """Whatever is raised, everything is as it was, and what was read is known."""
    with visit(shop):
        before = state()
        with suppress(ZeroDivisionError), observing(request_context(), IDENTITIES) as observed:
            assert request.args["a"]
            raise ZeroDivisionError
        assert state() == before
        assert observed.reads == {"arg:a"}
        assert isinstance(session, SessionMixin)


def test_observing__nests(shop: Flask) -> None:
    """What is read inside the inner one counts for both, what is read around it for the outer one alone."""
    with visit(shop):
        before = state()
        with observing(request_context(), IDENTITIES) as outer:
            assert request.args["a"]
            with observing(request_context(), IDENTITIES) as inner:
                assert request.args["b"]
            assert request.cookies["lang"]
        assert state() == before
    assert (outer.reads, inner.reads) == ({"arg:a", "arg:b", "cookie:lang"}, {"arg:b"})


def test_observing__tasks_that_overlap(shop: Flask) -> None:
    """Each of several tasks of one request has its own reads, in whatever order they end."""

    async def task(number: int) -> set[str]:
        with observing(request_context(), IDENTITIES) as observed:
            await asyncio.sleep(0.001 * (number % 3))
            request.args.get(f"k{number}")
            await asyncio.sleep(0.001 * (number % 2))
            request.headers.get(f"k{number}")
        return observed.reads

    async def together() -> list[set[str]]:
        return list(await asyncio.gather(*map(task, range(6))))

    with visit(shop):
        before = state()
        found = asyncio.run(together())
        assert state() == before
    assert found == [{f"arg:k{number}", f"header:k{number}"} for number in range(6)]


def test_observing__threads(shop: Flask) -> None:
    """A thread that was started inside, with a copy of the request's context, reads for all who watch."""
    with visit(shop), observing(request_context(), IDENTITIES) as observed:
        thread = threading.Thread(target=copy_current_request_context(lambda: request.args["a"]))
        thread.start()
        thread.join()
    assert "arg:a" in observed.reads


def test_observing__without_a_request() -> None:
    """There is nothing to read."""
    with observing(None, IDENTITIES) as observed:
        pass
    assert observed.reads == set()


class _Items(dict[str, Any], SessionMixin):
    """A session of the app's own."""


def test_observing__sessions_of_one_s_own(shop: Flask) -> None:
    """Any mapping is watched; what cannot be counts as read."""

    class Interface(SessionInterface):
        def open_session(self, app: Flask, request: Request) -> SessionMixin:
            return _Items(cart=1)

        def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None: ...

    class Foreign(Interface):
        def open_session(self, app: Flask, request: Request) -> Any:
            return types.SimpleNamespace()  # of a class in C

    shop.session_interface = Foreign()
    with visit(shop), observing(request_context(), IDENTITIES) as observed:
        assert observed.reads == {"session:*"}
    shop.session_interface = Interface()
    assert reads_of(shop, lambda: session["cart"]) == {"session:cart"}


def test_observing__what_was_given_is_beside_the_point(shop: Flask) -> None:
    """Reads of an object that the caller passed on can be left out."""
    with visit(shop):
        args, cookies = request.args, request.cookies
        with observing(request_context(), IDENTITIES) as observed:
            assert args["a"] == cookies["size"].replace("5", "1")
            assert observed.beside([args, 1]) == {"cookie:size"}
            assert observed.beside([]) == {"arg:a", "cookie:size"}
            assert observed.beside([args, cookies]) == set()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (["g:_login_user", "session:_user_id", "session:*"], "current_user"),
        (["g:other", "session:x", "session:y"], "g.other, session"),
        (["header:x-api-key", "cookie:lang"], 'request.cookies["lang"], request.headers["X-Api-Key"]'),
        (["arg:*", "arg:a", "body", "remote_addr"], "request.args, request.data, request.remote_addr"),
    ],
)
def test_describe__as_it_is_written(fields: list[str], text: str) -> None:
    """A message names what was read as the source does."""
    assert describe(fields) == text
