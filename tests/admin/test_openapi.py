"""The description of the admin API: there is one of every call, and real answers are as it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import schemathesis
from flask import Flask
from schemathesis import checks
from schemathesis.core.failures import Failure

from flask_rcache import ConfigError, RCache, invalidate_url
from flask_rcache.admin import openapi
from flask_rcache.admin.api import CALLS
from flask_rcache.warming import Warming
from tests.admin.conftest import AdminFactory
from tests.admin.kit import PREFIX, Admin
from tests.admin.tokens import SECRET, bearer
from tests.processes import free_port
from tests.servers import Server

#: Requests of each kind (as described, and not as described) for each call.
EXAMPLES = 8


def described(admin: Admin) -> Any:
    """The description, as a client library reads it from the app."""
    return schemathesis.openapi.from_wsgi(f"{PREFIX}/openapi.json", admin.flask, headers=bearer())


def answer_checks() -> list[Any]:
    """What every answer has to pass."""
    return [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]


def request_checks() -> list[Any]:
    """What it says about the request as well: who may ask, what is refused, and with which methods."""
    return [
        checks.negative_data_rejection,
        checks.positive_data_acceptance,
        checks.unsupported_method,
        checks.allow_header_conformance,
        checks.ignored_auth,
    ]


# The document


def test_document__has_every_route(new_admin: AdminFactory) -> None:
    """Each route of the blueprint is described, but for the page and what answers that there is no such call."""
    admin = new_admin()
    document = admin.get("/openapi.json").json
    assert document is not None
    rules = {
        re.sub(r"<(?:path:)?part>", "{}", rule.rule)
        for rule in admin.flask.url_map.iter_rules()
        if rule.endpoint.startswith("rcache_admin.")
        and rule.endpoint.rpartition(".")[2] not in ("root", "root_slash", "unknown")
        and "/dashboard" not in rule.rule
    }
    paths = {re.sub(r"\{\w+\}", "{}", path): item for path, item in document["paths"].items()}
    assert paths.keys() == rules
    for path, item in paths.items():
        methods = {method.upper() for method in item if method != "parameters"}
        allow = set(admin.call("OPTIONS", path.removeprefix(PREFIX).replace("{}", "x")).headers["Allow"].split(", "))
        assert methods == allow - {"HEAD", "OPTIONS"}, path


def test_document__is_openapi(new_admin: AdminFactory) -> None:
    """It is of version 3.1, valid, and every reference in it leads somewhere; each operation has an id of its own."""
    admin = new_admin()
    document: Any = admin.get("/openapi.json").json
    assert document["openapi"] == "3.1.0"
    described(admin).validate()
    schemas = document["components"]["schemas"]
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', admin.get("/openapi.json").text))
    assert referred == schemas.keys()
    ids = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
        if type(operation) is dict
    ]
    assert len(set(ids)) == len(ids) == len(openapi.OPERATIONS)


def test_document__is_guarded_as_the_rest(new_admin: AdminFactory) -> None:
    """Without a token there is none; it says that one is needed, or, with a guard of the app, nothing about it."""
    admin = new_admin()
    assert admin.call("GET", "/openapi.json", headers={}).status_code == 401
    document: Any = admin.get("/openapi.json").json
    assert document["security"] == [{"token": []}]
    app = Flask("own")
    app.config.update(RCACHE_ADMIN_GUARD=lambda request: "ann", RCACHE_ADMIN_URL_PREFIX="/ops", RCACHE_PREFIX="shop")
    RCache(app)
    own: Any = app.test_client().get("/ops/openapi.json").json
    assert "security" not in own
    assert "securitySchemes" not in own["components"]
    assert own["paths"]["/ops/keys/{key}"]["parameters"][0]["schema"]["pattern"].startswith("^shop:")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda calls: calls | {"/new": {"GET": None}}, "'/new'"),
        (lambda calls: {path: calls[path] for path in calls if path != "/stats"}, "'/stats'"),
        (lambda calls: calls | {"/clear": {"POST": (), "DELETE": ()}}, "'DELETE', '/clear'"),
        (lambda calls: calls | {"/invalidate-tags": {"POST": ("tags", "urls")}}, "takes .*'urls'"),
    ],
)
def test_document__differs_from_no_call(change: Callable[[dict[str, Any]], dict[str, Any]], says: str) -> None:
    """A call that is not described, a description without a call, and a member that is not described are errors."""
    calls = {path: {method: call.takes for method, call in methods.items()} for path, methods in CALLS.items()}
    assert openapi.document(calls, prefix="/a", keys="cache", with_token=True)
    with pytest.raises(ValueError, match=says):
        openapi.document(change(calls), prefix="/a", keys="cache", with_token=True)


# Answers


@pytest.fixture
def busy(redis_server: Server, new_admin: AdminFactory) -> Admin:
    """An application with entries of each kind, counts, and a warming task."""
    admin = new_admin(redis_server.url)
    warming = Warming()
    warming.attach(admin.flask)
    warming.register_task("menu", lambda: None, every=3600)
    admin.fill("a", "b", tags=("t",))
    for _ in range(2):
        admin.client.get("/page")
    with admin.flask.app_context():
        admin.cache.incr("search", "n")
        admin.cache.fetch("search", "loaded", lambda: 1)
    return admin


CALLED: list[tuple[str, str, Any, int]] = [
    ("GET", "/stats", None, 200),
    ("GET", "/overview", None, 200),
    ("GET", "/openapi.json", None, 200),
    ("GET", "/keys?limit=1", None, 200),
    ("GET", "/keys?type=search&pattern=*a", None, 200),
    ("GET", "/keys?type=nothing", None, 404),
    ("GET", "/keys?limit=0", None, 400),
    ("GET", "/keys/cache:search:a", None, 200),
    ("GET", "/keys/cache:search:none", None, 404),
    ("GET", "/warm", None, 200),
    ("POST", "/warm", {"names": ["menu"]}, 202),
    ("POST", "/warm", {"names": ["none"]}, 404),
    ("POST", "/invalidate/search", None, 200),
    ("POST", "/invalidate/nothing", None, 404),
    ("POST", "/invalidate-pattern", {"pattern": "search:*", "type": "search"}, 200),
    ("POST", "/invalidate-pattern", {"pattern": "x", "type": "nothing"}, 404),
    ("POST", "/invalidate-tags", {"tags": ["t"]}, 200),
    ("POST", "/invalidate-tags", {}, 400),
    ("POST", "/invalidate-url", {"url": "/page"}, 200),
    ("POST", "/invalidate-url", {"url": "https://[x"}, 400),
    ("POST", "/invalidate-user", {"user": "7"}, 200),
    ("POST", "/clear-all", None, 200),
    ("POST", "/clear", None, 200),
]


def operation_of(schema: Any, method: str, path: str) -> Any:
    """The operation that describes a request."""
    plain = path.partition("?")[0]
    for template in schema:
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), PREFIX + plain):
            return schema[template][method]
    raise LookupError(path)


def test_answers__of_a_busy_cache(busy: Admin) -> None:
    """Every call answers something as it is described, nothing that is not, on Redis and with all there can be."""
    schema = described(busy)
    for method, path, body, status in CALLED:
        response = busy.call(method, path, **({} if body is None else {"json": body}))
        assert response.status_code == status, (path, response.text)
        operation_of(schema, method, path).validate_response(response)
    called = {
        (method, re.sub(r"^/(keys|invalidate)/.*", r"/\1/", path.partition("?")[0])) for method, path, *_ in CALLED
    }
    assert called == {(method, path.partition("<")[0]) for method, path in openapi.OPERATIONS}


def test_answers__while_redis_is_away(new_admin: AdminFactory) -> None:
    """202 and 503 are described as well, and what stats and overview say then."""
    admin = new_admin(f"redis://127.0.0.1:{free_port()}/0")
    schema = described(admin)
    statuses = set()
    for method, path, body, _ in CALLED:
        if path != "/warm":
            response = admin.call(method, path, **({} if body is None else {"json": body}))
            operation_of(schema, method, path).validate_response(response)
            statuses.add(response.status_code)
    assert statuses >= {200, 202, 400, 404, 503}


def test_answers__that_differ_are_found(new_admin: AdminFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member more, one less, or of another type does not pass: the tests above can fail."""
    admin = new_admin()
    schema = described(admin)
    operation = operation_of(schema, "GET", "/keys")
    admin.fill("a")
    good = admin.get("/keys").json
    assert good is not None
    entry = good["keys"][0]
    for wrong in (entry | {"value": 1}, {name: entry[name] for name in entry if name != "tags"}, entry | {"ttl": "1"}):
        app = Flask("wrong")
        app.add_url_rule("/", view_func=lambda wrong=wrong: good | {"keys": [wrong]})
        with pytest.raises(Failure, match=r"(?i)schema"):
            operation.validate_response(app.test_client().get("/"))


@pytest.mark.slow
def test_requests__of_every_kind(new_admin: AdminFactory) -> None:
    """Generated requests, as described and not: no error of the server, and no answer that is not described.

    None is admitted without a token, and none is accepted that is not as described.
    """
    admin = new_admin()
    admin.fill("a", "b")
    for found in described(admin).get_all_operations():
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @hypothesis.settings(
                max_examples=EXAMPLES,
                derandomize=True,
                database=None,
                suppress_health_check=[
                    hypothesis.HealthCheck.too_slow,
                    hypothesis.HealthCheck.filter_too_much,
                    hypothesis.HealthCheck.data_too_large,
                ],
            )
            @hypothesis.given(operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                response = case.call(headers=bearer())
                left_out = []
                if response.status_code == 413:  # also a refusal
                    left_out = [checks.negative_data_rejection, checks.positive_data_acceptance]
                elif case.operation.path.endswith("/keys"):  # what a cursor may be, only a listing says
                    left_out = [checks.positive_data_acceptance]
                case.validate_response(
                    response, checks=[*answer_checks(), *request_checks()], excluded_checks=left_out, headers=bearer()
                )

            ask()


def test_invalidate_url__of_a_broken_url(new_admin: AdminFactory) -> None:
    """What no URL parser takes is an error with a sentence, and none of the server."""
    admin = new_admin()
    with admin.flask.app_context(), pytest.raises(ConfigError, match="is no URL"):
        invalidate_url("https://[")
    assert admin.post("/invalidate-url", {"url": "https://["}).status_code == 400
    assert SECRET not in admin.get("/openapi.json").text
