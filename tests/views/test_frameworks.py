"""`@cache_response` below and above what converts a view's result: clients get the same, on a miss and on a hit.

Each case builds one small application twice, with the decorator and without it, and compares the answers.
"""

# mypy: disable-error-code="misc"
# Resources are classes of libraries without types.

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import apiflask
import flask_restful
import flask_restful.fields
import flask_restx
import flask_smorest
import marshmallow
import pydantic
import pytest
from flask import Flask, Response, current_app, g, jsonify, make_response, request
from flask.views import MethodView, View
from flask_cors import cross_origin
from flask_openapi3.openapi import OpenAPI

from flask_rcache import RCache, cache_response
from tests.views.kit import PAGE, detail, verdicts

#: `@cache_response(PAGE)`, or a decorator that does nothing.
Cache = Callable[[Any], Any]
#: Fields that the cache adds, and those that differ with the time.
#: Vary too: where a resource negotiates what it sends, the cache says so.
OWN = {"Vary", "X-Cache", "X-Cache-Key", "Cache-Status", "Age", "Date", "ETag"}


class Pet:
    """An object of a plain class, as an application's models are."""

    def __init__(self, name: str, owner: str = "ann") -> None:
        self.name, self.owner = name, owner


@dataclasses.dataclass
class Item:
    """A dataclass."""

    name: str
    cost: int = 3


class Lamp(pydantic.BaseModel):
    """A pydantic model with a field that its response does not have."""

    name: str
    secret: str = "s3"


class Fields(marshmallow.Schema):
    """Of what a pet has, its name."""

    name = marshmallow.fields.String()


class Query(marshmallow.Schema):
    """Typed arguments of the query string."""

    page = marshmallow.fields.Integer(load_default=1)


def same(new_app: Any, build: Callable[[Any, Cache], None], *paths: str, factory: Any = None, **asked: Any) -> None:
    """What clients get is the same with the decorator and without it, and the second answer is a hit."""
    plain, kept = (factory or new_app)(), (factory or new_app)()
    build(plain, lambda view: view)
    build(kept, cache_response(PAGE))
    for path in paths or ("/",):
        wanted = plain.test_client().get(path, **asked)
        client = kept.test_client()
        got = [client.get(path, **asked) for _ in range(3)]
        assert [_seen(each) for each in got] == [_seen(wanted)] * 3, path
        assert [each.headers["X-Cache"] for each in got] == ["MISS", "HIT", "HIT"], (path, got[1].headers)
        assert got[1].headers["Cache-Status"].startswith("rcache; hit; ttl=")
        assert got[1].headers["Age"] == "0"


def _seen(response: Any) -> tuple[Any, ...]:
    headers = sorted((name, value) for name, value in response.headers if name not in OWN)
    return response.status, response.data, headers


def initialised(app: Any, **config: Any) -> Any:
    """Another framework's application, with a cache."""
    app.config.update(TESTING=True, SECRET_KEY="s" * 32, RCACHE_URL="memory://", RCACHE_L1_TTL=0, **config)
    RCache(app)
    return app


# Flask-RESTful and Flask-RESTX

RESULTS: dict[str, Callable[[], Any]] = {
    "dict": lambda: {"a": 1},
    "list": lambda: [1, 2],
    "text": lambda: request.args.get("q", ""),
    "none": lambda: None,
    "number": lambda: 5,
    "status": lambda: ({"a": 1}, 203),
    "headers": lambda: ({"a": 1}, 200, {"X-Total": "1"}),
    "not found": lambda: ({"error": "none"}, 404),
    "enum": lambda: ({"a": 1}, HTTPStatus.OK),
    "response": lambda: make_response("plain", 200, {"X-Own": "1"}),
    "marshalled": lambda: flask_restful.marshal({"name": "lamp", "cost": 3}, {"name": flask_restful.fields.String}),
}


def _restful(library: Any, app: Flask) -> Any:
    api = library.Api(app)

    @api.representation("application/json")
    def envelope(data, code, headers=None):
        response = make_response(jsonify(data=data), code)
        response.headers.extend(headers or {})
        return response

    @api.representation("text/csv")
    def csv(data, code, headers=None):
        return make_response(f"csv {data}", code, headers)

    return api


@pytest.mark.parametrize("library", [flask_restful, flask_restx])
@pytest.mark.parametrize("result", RESULTS)
def test_frameworks__methods_of_resources(new_app, library, result) -> None:
    """A resource's representations are its own, whatever its method returns."""

    def build(app: Flask, cache: Cache) -> None:
        class Thing(library.Resource):
            @cache
            def get(self):
                return RESULTS[result]()

        _restful(library, app).add_resource(Thing, "/thing", endpoint="thing")

    same(new_app, build, "/thing?q=<b>")


@pytest.mark.parametrize("library", [flask_restful, flask_restx])
def test_frameworks__each_representation_of_a_resource(new_app, library) -> None:
    """One stored result gives each client the representation that it accepts."""
    app = new_app()

    class Thing(library.Resource):
        @cache_response(PAGE)
        def get(self):
            return {"a": 1}

    _restful(library, app).add_resource(Thing, "/thing", endpoint="thing")
    client = app.test_client()
    texts = [
        client.get("/thing", headers={"Accept": each}).text.strip() for each in ("application/json", "text/csv") * 2
    ]
    assert texts == ['{"data":{"a":1}}', "csv {'a': 1}"] * 2


@pytest.mark.parametrize("library", [flask_restful, flask_restx])
@pytest.mark.parametrize("order", ["marshal above", "cache above", "in method_decorators", "around all"])
@pytest.mark.parametrize(
    "result", [{"name": "lamp", "cost": 3}, Item("lamp"), Pet("lamp")], ids=["dict", "item", "pet"]
)
def test_frameworks__marshal_with_in_each_order(new_app, library, order, result) -> None:
    """Fields that a schema leaves out stay out, and the others stay in."""
    marshal = library.marshal_with({"name": library.fields.String})

    def build(app: Flask, cache: Cache) -> None:
        class Thing(library.Resource):
            if order == "in method_decorators":
                method_decorators = [cache, marshal]
            elif order == "around all":
                decorators = [cache]

            def get(self):
                return result, 200, {"X-Total": "1"}

            if order == "marshal above":
                get = marshal(cache(get))
            elif order == "cache above":
                get = cache(marshal(get))
            elif order == "around all":
                get = marshal(get)

        library.Api(app).add_resource(Thing, "/thing", endpoint="thing")

    same(new_app, build, "/thing")


@pytest.mark.parametrize("library", [flask_restful, flask_restx])
def test_frameworks__aborts_of_resources_are_the_same_and_not_stored(new_app, library) -> None:
    """What a resource aborts with is made by its library."""

    def build(app: Flask, cache: Cache) -> None:
        class Thing(library.Resource):
            @cache
            def get(self):
                library.abort(410, message="gone")

        library.Api(app).add_resource(Thing, "/thing", endpoint="thing")

    plain, kept = new_app(), new_app()
    build(plain, lambda view: view)
    build(kept, cache_response(PAGE))
    wanted, got = plain.test_client().get("/thing"), kept.test_client().get("/thing")
    assert (got.status, got.json, got.mimetype) == (wanted.status, wanted.json, wanted.mimetype)
    assert wanted.json["message"].startswith("gone")


def test_frameworks__a_resource_whose_session_bypasses_is_converted(new_app) -> None:
    """A bypass changes nothing of what clients get either."""
    app = new_app()

    class Thing(flask_restful.Resource):
        @cache_response(PAGE)
        def get(self):
            return None

        post = get

    _restful(flask_restful, app).add_resource(Thing, "/thing", endpoint="thing")
    client = app.test_client()
    answers = [client.get("/thing", headers={"Authorization": "Bearer x"}), client.post("/thing")]
    assert [(each.text.strip(), each.headers["X-Cache"]) for each in answers] == [('{"data":null}', "BYPASS")] * 2


# flask-smorest


def _smorest(app: Flask) -> tuple[Any, Any]:
    app.config.update(API_TITLE="t", API_VERSION="1", OPENAPI_VERSION="3.0.2")
    return flask_smorest.Api(app), flask_smorest.Blueprint("pets", "pets")


@pytest.mark.parametrize("order", ["cache above", "schema above", "arguments below", "arguments above both", "method"])
@pytest.mark.parametrize(
    "result", [{"name": "rex", "owner": "ann"}, Pet("rex"), Item("rex")], ids=["dict", "pet", "item"]
)
def test_frameworks__smorest_in_each_order(new_app, order, result) -> None:
    """`@blp.response` and `@blp.arguments` do what they do without a cache."""

    def build(app: Flask, cache: Cache) -> None:
        api, blp = _smorest(app)
        schema, arguments = blp.response(203, Fields), blp.arguments(Query, location="query")

        def pet(args=None):
            return result

        if order == "method":

            class Pets(MethodView):
                get = schema(cache(lambda self: result))

            blp.route("/")(Pets)
        else:
            orders = {
                "cache above": lambda view: cache(schema(view)),
                "schema above": lambda view: schema(cache(view)),
                "arguments below": lambda view: schema(cache(arguments(view))),
                "arguments above both": lambda view: arguments(schema(cache(view))),
            }
            blp.route("/")(orders[order](pet))
        api.register_blueprint(blp)

    same(new_app, build, "/?page=2", "/?page=3")


@pytest.mark.parametrize("order", ["etag, response, cache", "cache, etag, response"])
def test_frameworks__smorest_etags(new_app, order) -> None:
    """The tags of `@blp.etag` are sent, and its 304 comes, on a hit as on a miss."""

    def build(app: Flask, cache: Cache) -> None:
        api, blp = _smorest(app)
        schema = blp.response(200, Fields)

        def pet():
            return {"name": "rex"}

        blp.route("/")(blp.etag(schema(cache(pet))) if order.startswith("etag") else cache(blp.etag(schema(pet))))
        api.register_blueprint(blp)

    same(new_app, build)
    plain, kept = new_app(), new_app()
    build(plain, lambda view: view)
    build(kept, cache_response(PAGE))
    client = kept.test_client()
    tags = [each.get("/").headers["ETag"] for each in (plain.test_client(), client, client)]
    assert len(set(tags)) == 1
    assert client.get("/", headers={"If-None-Match": tags[0]}).status_code == 304


def test_frameworks__what_needs_a_run_of_the_view_is_left_without_a_cache(new_app, caplog) -> None:
    """`@blp.etag` above, `@blp.response` below: the tag needs what that has left on `g`. It is said once."""
    app = new_app()
    api, blp = _smorest(app)

    @blp.route("/")
    @blp.etag
    @cache_response(PAGE)
    @blp.response(200, Fields)
    def pet():
        return {"name": "rex"}

    api.register_blueprint(blp)
    client = app.test_client()
    with caplog.at_level(logging.WARNING, logger="flask_rcache"):
        answers = [client.get("/") for _ in range(4)]
    assert {(each.status_code, each.text.strip(), each.headers["ETag"]) for each in answers} == {
        (200, '{"name":"rex"}', answers[0].headers["ETag"])
    }
    assert [each.headers["X-Cache"] for each in answers] == ["MISS", "BYPASS", "BYPASS", "BYPASS"]
    assert detail(answers[2]) == "DECORATOR"
    warned = [each.getMessage() for each in caplog.records]
    assert len(warned) == 1
    assert "Put @cache_response above that decorator" in warned[0]


# APIFlask


@pytest.mark.parametrize("order", ["cache above", "output above", "input above", "input below"])
@pytest.mark.parametrize("schema", [Fields, Lamp], ids=["marshmallow", "pydantic"])
@pytest.mark.parametrize("base", [None, {"type": "object"}], ids=["plain", "base schema"])
def test_frameworks__apiflask_in_each_order(order, schema, base) -> None:
    """`@app.output` and `@app.input` do what they do without a cache, with a base response schema too."""

    def app() -> Any:
        return initialised(apiflask.APIFlask("pets"))

    def build(app: Any, cache: Cache) -> None:
        output, typed = app.output(schema, status_code=203), app.input(Query, location="query")

        def pet(query_data=None):
            return {"name": "rex", "owner": "ann"}, 203, {"X-Total": "1"}

        orders = {
            "cache above": lambda view: cache(output(view)),
            "output above": lambda view: output(cache(view)),
            "input above": lambda view: typed(output(cache(view))),
            "input below": lambda view: output(cache(typed(view))),
        }
        app.get("/")(orders[order](pet))

    same(None, build, "/?page=2", "/?page=3", factory=app)


def test_frameworks__apiflask_authentication_runs_on_hits() -> None:
    """`@app.auth_required` above the decorator refuses on a hit whom it refuses on a miss."""
    app = initialised(apiflask.APIFlask("pets"))
    auth = apiflask.HTTPTokenAuth()
    auth.verify_token(lambda token: token if token in ("ann", "ben") else None)

    @app.get("/")
    @app.auth_required(auth)
    @app.output(Fields)
    @cache_response(PAGE, shared=True)
    def pet():
        return {"name": "rex", "owner": "ann"}

    client = app.test_client()
    answers = [client.get("/", headers={"Authorization": f"Bearer {each}"}) for each in ("ann", "ben", "eve")]
    assert [each.status_code for each in answers] == [200, 200, 401]
    assert [each.headers.get("X-Cache") for each in answers] == ["MISS", "HIT", None]


# flask-openapi3


class Path(pydantic.BaseModel):
    """Of the URL."""

    number: int


class Page(pydantic.BaseModel):
    """Of the query string."""

    page: int = 1


@pytest.mark.parametrize("validates", [False, True])
@pytest.mark.parametrize("result", ["dict", "model response", "tuple"])
def test_frameworks__openapi3_models_as_arguments(validates, result) -> None:
    """Models of path and query are arguments, and tell entries apart; responses are validated as ever."""

    def app() -> Any:
        return initialised(OpenAPI("pets"))

    def build(app: Any, cache: Cache) -> None:
        @app.get("/<int:number>", responses={200: Lamp}, validate_response=validates)
        @cache
        def lamp(path: Path, query: Page):
            found = {"name": f"{path.number}/{query.page}", "secret": "x"}
            return {"dict": found, "model response": jsonify(found), "tuple": (found, 200, {"X-A": "1"})}[result]

    same(None, build, "/1", "/2", "/1?page=3", factory=app)


# Flask's own classes, and decorators of one's own


@pytest.mark.parametrize("place", ["method", "decorators", "dispatch", "below another"])
def test_frameworks__class_based_views(new_app, place) -> None:
    """Methods of a `MethodView`, its `decorators`, and `dispatch_request` of a `View`."""

    def build(app: Flask, cache: Cache) -> None:
        if place == "dispatch":

            class Dispatched(View):
                @cache
                def dispatch_request(self, n):
                    return {"n": n}, 200, {"X-N": "1"}

            app.add_url_rule("/<int:n>", view_func=Dispatched.as_view("page"))

        else:

            class Methods(MethodView):
                decorators = [cache] if place == "decorators" else []

                def get(self, n):
                    return {"n": n}, 200, {"X-N": "1"}

                if place == "method":
                    get = cache(get)
                elif place == "below another":
                    get = as_json(cache(get))

            app.add_url_rule("/<int:n>", view_func=Methods.as_view("page"))

    same(new_app, build, "/1", "/2")


def as_json(view: Any) -> Any:
    """It makes JSON of whatever the view returns."""

    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        found = view(*args, **kwargs)
        headers = {}
        if isinstance(found, tuple):
            found, _, headers = found
        response = jsonify(result=getattr(found, "__dict__", found))
        response.headers.extend(headers)
        return response

    return wrapper


def as_json_unless_text(view: Any) -> Any:
    """It leaves text as it is, and knows nothing of responses."""

    @functools.wraps(view)
    def wrapper(**kwargs: Any) -> Any:
        found = view(**kwargs)
        return found if isinstance(found, str) else jsonify(found)

    return wrapper


def unnamed(view: Any) -> Any:
    """It does not say what it wraps."""

    def wrapper(**kwargs: Any) -> Any:
        return jsonify(kept=list(view(**kwargs)))

    return wrapper


class AsObject:
    """A decorator that is a class."""

    def __init__(self, view: Any) -> None:
        self.view = view
        self.__name__ = "page"

    def __call__(self, **kwargs: Any) -> Any:
        return {"items": self.view(**kwargs), "count": 1}


def model_dump(view: Any) -> Any:
    """As flask-pydantic does: models become JSON, responses pass."""

    @functools.wraps(view)
    def wrapper(**kwargs: Any) -> Any:
        found = view(**kwargs)
        if isinstance(found, pydantic.BaseModel):
            return make_response(found.model_dump_json(exclude={"secret"}), 200, {"Content-Type": "application/json"})
        return found

    return wrapper


def transformed(view: Any) -> Any:
    """It makes another response of a response."""

    @functools.wraps(view)
    def wrapper(**kwargs: Any) -> Any:
        response = make_response(view(**kwargs))
        made = Response(f"<{response.get_data(as_text=True)}>", response.status_code, {"X-Made": "1"})
        made.headers.extend([line for line in response.headers if line[0] in OWN])
        return made

    return wrapper


def passed_on(view: Any) -> Any:
    """It does what an authorization decorator does."""

    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        g.allowed = True
        return current_app.ensure_sync(view)(*args, **kwargs)

    return wrapper


ABOVE = [as_json, as_json_unless_text, unnamed, AsObject, model_dump, transformed, passed_on]
RETURNED: dict[str, Callable[[], Any]] = {
    "text": lambda: "text",
    "dict": lambda: {"name": "lamp"},
    "list": lambda: ["a", "b"],
    "item": lambda: Item("lamp"),
    "model": lambda: Lamp(name="lamp"),
    "response": lambda: make_response("made", 200, {"X-Own": "1"}),
}


@pytest.mark.parametrize("above", ABOVE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("returned", RETURNED)
def test_frameworks__decorators_of_ones_own_above(new_app, above, returned) -> None:
    """Whatever stands above: what runs without a cache gives the same with it, and the rest fails as it did."""

    def build(app: Flask, cache: Cache) -> None:
        app.add_url_rule("/", "page", above(cache(lambda **_: RETURNED[returned]())))

    app = new_app(PROPAGATE_EXCEPTIONS=False)
    build(app, lambda view: view)
    if above is as_json_unless_text and returned == "text":
        return  # see the next test
    if app.test_client().get("/").status_code == 200:
        same(new_app, build)
    else:
        kept = new_app(PROPAGATE_EXCEPTIONS=False)
        build(kept, cache_response(PAGE))
        assert [kept.test_client().get("/").status_code for _ in range(2)] == [500, 500]


def test_frameworks__a_layer_that_takes_no_response_is_learned_of(new_app) -> None:
    """Text passes `as_json_unless_text`, a response does not: the first hit is answered as without a cache."""
    app = new_app()
    app.add_url_rule("/<n>", "page", as_json_unless_text(cache_response(PAGE)(lambda n: n)))
    client = app.test_client()
    assert [client.get("/1").text for _ in range(4)] == ["1"] * 4
    assert verdicts(client, "/1") == ["HIT", "HIT"]
    assert verdicts(client, "/2") == ["MISS", "HIT"]


def test_frameworks__cors_is_that_of_each_request(new_app) -> None:
    """`@cross_origin` above answers each origin, on hits too."""
    app = new_app()

    @app.get("/")
    @cross_origin(origins=["http://a.test", "http://b.test"])
    @cache_response(PAGE)
    def page():
        return {"a": 1}

    client = app.test_client()
    answers = [client.get("/", headers={"Origin": f"http://{each}.test"}) for each in "abab"]
    allowed = [each.headers["Access-Control-Allow-Origin"] for each in answers]
    assert allowed == [f"http://{each}.test" for each in "abab"]
    assert answers[2].headers["X-Cache"] == answers[3].headers["X-Cache"] == "HIT"


async def _async_result() -> Any:
    return {"name": "lamp"}


@pytest.mark.parametrize("above", [model_dump, passed_on])
def test_frameworks__async_views_below_decorators(new_app, above) -> None:
    """A decorator that runs what it wraps by `ensure_sync` may stand above an async view."""

    def build(app: Flask, cache: Cache) -> None:
        app.add_url_rule("/", "page", passed_on(cache(_async_result)))

    same(new_app, build)


def test_frameworks__a_view_that_calls_a_decorated_one_gets_a_response(new_app) -> None:
    """Only what stands above a view gets its result: another view gets a response, in a factory's closure too."""
    app = new_app()

    @cache_response(PAGE)
    def part():
        return {"a": 1}

    @app.get("/")
    @passed_on
    @cache_response(PAGE)
    def page():
        assert isinstance(part(), Response)
        return part().get_data()

    @app.get("/plain")
    def plain():
        return part().get_data()

    client = app.test_client()
    assert [client.get(each).text.strip() for each in ("/", "/plain", "/plain")] == ['{"a":1}'] * 3


def test_frameworks__what_cannot_be_restored_is_not_stored_and_said_once(new_app, caplog) -> None:
    """An object with a lock below a converting decorator: the same answer each time, and one warning."""

    class Odd:
        def __init__(self) -> None:
            self.lock = threading.Lock()

    def named(view: Any) -> Any:
        @functools.wraps(view)
        def wrapper() -> Any:
            return {"kind": type(view()).__name__}

        return wrapper

    app = new_app()
    app.add_url_rule("/", "page", named(cache_response(PAGE)(lambda: Odd())))
    client = app.test_client()
    with caplog.at_level(logging.WARNING, logger="flask_rcache"):
        answers = [client.get("/") for _ in range(3)]
    assert [each.json for each in answers] == [{"kind": "Odd"}] * 3
    assert {detail(each) for each in answers} == {"RESULT"}
    (warned,) = [each.getMessage() for each in caplog.records]
    assert "Put @cache_response above that decorator" in warned


def test_frameworks__a_layer_that_fails_leaves_no_lease(new_app) -> None:
    """A schema that raises after the view has returned: nothing is stored, and the next request loads at once."""
    app = new_app(PROPAGATE_EXCEPTIONS=False)
    failing = [True]

    def schema(view: Any) -> Any:
        @functools.wraps(view)
        def wrapper() -> Any:
            found = view()
            if failing[0]:
                raise ValueError("no such field")
            return jsonify(found)

        return wrapper

    app.add_url_rule("/", "page", schema(cache_response(PAGE)(lambda: {"a": 1})))
    client = app.test_client()
    assert client.get("/").status_code == 500
    failing[0] = False
    assert verdicts(client, "/") == ["MISS", "HIT"]


def test_frameworks__a_page_on_two_servers(new_app, redis_server) -> None:
    """A result stored by one process is converted by another, also one that has seen no object of its class yet."""

    def app() -> Any:
        app = new_app(redis_server.url, RCACHE_PREFIX=prefix)
        app.add_url_rule("/", "page", as_json(cache_response(PAGE)(lambda: Item("lamp"))))
        return app

    prefix = "p" + uuid.uuid4().hex[:8]
    one, two = app().test_client(), app().test_client()
    answers = [one.get("/"), two.get("/"), two.get("/"), one.get("/")]
    assert {each.text for each in answers} == {answers[0].text}
    assert [each.headers["X-Cache"] for each in answers[2:]] == ["HIT", "HIT"]


class Signing(Flask):
    """An app that makes responses in its own way: a dataclass becomes JSON, and each is signed for its caller."""

    def make_response(self, rv: Any) -> Response:
        response = super().make_response(dataclasses.asdict(rv) if isinstance(rv, Item) else rv)
        response.headers.add("X-Signed-For", request.headers.get("X-Caller", "visitor"))
        response.set_data(response.get_data() + b"!")
        return response


@pytest.mark.parametrize("path", ["/text", "/item", "/response", "/converted", "/head", "/plain"])
def test_frameworks__an_app_that_makes_responses_itself(path) -> None:
    """It is asked once for each answer, on a miss, a hit and a bypass, and what it reads counts."""
    app = Signing("shop")
    app.config.update(TESTING=True, RCACHE_URL="memory://")
    RCache(app)
    item: Any = lambda: Item("lamp")  # noqa: E731
    app.add_url_rule("/text", "text", cache_response(PAGE)(lambda: "text"))
    app.add_url_rule("/head", "head", cache_response(PAGE)(lambda: ("head", 404, {"X-A": "1"})))
    app.add_url_rule("/item", "item", cache_response(PAGE)(item))
    app.add_url_rule("/converted", "converted", as_json(cache_response(PAGE)(item)))
    app.add_url_rule("/response", "response", cache_response(PAGE)(lambda: Response("whole")))
    app.add_url_rule("/plain", "plain", lambda: "plain")
    client, found = app.test_client(), []
    for caller in ("ann", "bob", None, None, "ann"):
        answer = client.get(path, headers={} if caller is None else {"X-Caller": caller})
        assert answer.headers.getlist("X-Signed-For") == [caller or "visitor"]
        assert answer.text.rstrip("!\n") + "!" == answer.text.replace("\n", "")
        found.append(answer.headers.get("X-Cache"))
    assert path == "/plain" or found[2:4] in (["MISS", "HIT"], ["HIT", "HIT"])
