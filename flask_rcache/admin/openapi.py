"""What the admin API says of itself: OpenAPI 3.1, made from the table of calls.

Owns what each call takes and answers, as JSON Schema. Paths, methods and which calls have a body come from the table
that it is given, so a call without a description here, or a description without a call, is an error. That answers are
as they are described is for the tests to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..engine.statistics import FIELDS
from ..model.named_tuple import NamedTuple
from .bodies import LONGEST_TEXT, MOST_ENTRIES, MOST_TAGS

__all__ = ["OPERATIONS", "Operation", "document"]

Schema = dict[str, Any]


class Operation(NamedTuple):
    """What a call is, takes and answers.

    Args:
        id: names it.
        summary: one sentence.
        answers: by status, the name of the schema of the body.
        errors: the statuses of its own errors, beside those that every call has.
        body: the schema of the body that it takes.
        query: the schemas of its query arguments.
    """

    id: str
    summary: str
    answers: Mapping[int, str]
    errors: tuple[int, ...] = ()
    body: Schema | None = None
    query: Mapping[str, Schema] = {}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _list_of(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_ANY_TEXT: Final[Schema] = {"type": "string"}
_TEXT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_SECONDS: Final[Schema] = {"type": "number", "minimum": 0}
_TIME: Final[Schema] = {"type": ["number", "null"], "description": "Seconds since 1970."}
_PERCENT: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 100}
_URL: Final = r"^(/|[Hh][Tt][Tt][Pp][Ss]?://[A-Za-z0-9._:@-]+([/?#]|$))"
_SUCCESS: Final[Schema] = {"const": "success"}

_COUNTERS: Final[dict[str, Schema]] = {
    **{field: _SECONDS if field.endswith("_seconds") else _COUNT for field in FIELDS},
    "total_requests": {**_COUNT, "description": "Hits, stale answers and misses."},
    "hit_rate": {**_PERCENT, "description": "The share of the hits in total_requests."},
}
_SUMS: Final = ("hits", "misses", "stale", "bypasses", "errors", "total_requests", "hit_rate")


def _changed(**more: Schema) -> Schema:
    """The answer to an invalidation."""
    return _object(
        {
            "status": {
                "enum": ["success", "accepted"],
                "description": "accepted: Redis is unavailable; the invalidation is sent when it is back.",
            },
            **more,
            "deleted_keys": _COUNT,
            "message": _ANY_TEXT,
        }
    )


_SCHEMAS: Final[dict[str, Schema]] = {
    "Counters": _object(_COUNTERS),
    "AllCounters": _object(
        {
            **_COUNTERS,
            "is_available": {"type": "boolean"},
            "scope": {"enum": ["all", "process"], "description": "Of all processes, or of the answering one."},
            "by_type": {"type": "object", "additionalProperties": _ref("Counters")},
        }
    ),
    "Stats": _object(
        {
            "status": _SUCCESS,
            "cache_stats": _object(
                {
                    **{name: _COUNTERS[name] for name in _SUMS},
                    "is_available": {"type": "boolean"},
                    "by_type": {"type": "object", "additionalProperties": _ref("Counters")},
                }
            ),
        }
    ),
    "Overview": _object(
        {
            "status": _SUCCESS,
            "overview": {
                "type": "object",
                "description": "The state of every part of the cache; see the documentation of the dashboard.",
                "required": ["scope", "store", "memory_tier", "bus", "breaker", "journal", "types", "invalidations"],
                "properties": {
                    "scope": {"enum": ["all", "process"]},
                    "store": {"type": "object", "required": ["kind", "location", "is_available", "incident", "since"]},
                    "types": {
                        "type": "object",
                        "additionalProperties": _object({"entries": _COUNT, "bytes": _COUNT}),
                    },
                    "statements": _list_of(_ref("Statement")),
                },
            },
            "stats": _ref("AllCounters"),
        }
    ),
    "Statement": _object(
        {
            "statement": {**_ANY_TEXT, "description": "The SQL, shortened."},
            "database": _ANY_TEXT,
            "hits": _COUNT,
            "misses": _COUNT,
            "hit_rate": {"type": "number", "description": "In per cent."},
            **{
                f"{what}_{which}": {"type": ["number", "null"], "description": "Seconds; null: not measured."}
                for what in ("query", "cache")
                for which in ("avg", "p95")
            },
            "rows": {**_COUNT, "description": "Of its last result."},
            "tables": {**_list_of(_ANY_TEXT), "description": "The tags that it depends on."},
            "invalidations": _COUNT,
            "invalidated_by": {"type": ["string", "null"], "description": "The tag that invalidated it last."},
            "not_stored": {"type": ["string", "null"], "description": "Why its result is not stored."},
        }
    ),
    "Entry": _object(
        {
            "key": {**_ANY_TEXT, "description": "The stored key, such as cache:search:42."},
            "type": _ANY_TEXT,
            "kind": {"enum": ["value", "response", "variants"]},
            "view": {**_ANY_TEXT, "description": "The function that made it; empty for values, as what follows."},
            "endpoint": _ANY_TEXT,
            "path": _ANY_TEXT,
            "ttl": {"type": "number", "description": "Seconds it is fresh; negative while it may be served stale."},
            "age": _SECONDS,
            "size": {**_COUNT, "description": "Bytes in the store."},
            "cost": {**_SECONDS, "description": "Seconds that its load took."},
            "tags": _list_of(_ANY_TEXT),
            "tables": {
                **_list_of(_ANY_TEXT),
                "description": "Tables of watched databases that it has read; ? for tables that are not known.",
            },
            "rows": {
                **_list_of(_ANY_TEXT),
                "description": "Rows that it has read by their keys, such as public.item:7, of other tables.",
            },
        }
    ),
    "Entries": _object(
        {
            "status": _SUCCESS,
            "keys": _list_of(_ref("Entry")),
            "cursor": {"type": ["string", "null"], "description": "Of the next page; null at the end."},
            "missing": {
                **_list_of(_ANY_TEXT),
                "description": "Nodes of a cluster that are away; their entries are not listed.",
            },
        }
    ),
    "OneEntry": _object({"status": _SUCCESS, "entry": _ref("Entry")}),
    "TypeInvalidated": _changed(cache_type=_ANY_TEXT),
    "PatternInvalidated": _changed(pattern=_ANY_TEXT),
    "TagsInvalidated": _changed(tags=_list_of(_ANY_TEXT)),
    "UrlInvalidated": _changed(url=_ANY_TEXT),
    "UserInvalidated": _changed(user=_ANY_TEXT),
    "Cleared": _changed(),
    "Tasks": _object({"status": _SUCCESS, "tasks": _list_of(_ref("Task"))}),
    "Task": _object(
        {
            "name": _ANY_TEXT,
            "critical": {"type": "boolean"},
            "every": _SECONDS,
            "execution_count": _COUNT,
            "success_count": _COUNT,
            "failure_count": _COUNT,
            "last_run": _TIME,
            "last_success": _TIME,
            "duration": _SECONDS,
            "running": {"type": "boolean"},
            "error": {"type": ["string", "null"]},
        }
    ),
    "Started": _object(
        {
            "status": {"enum": ["success", "accepted"]},
            "started": _list_of(_ANY_TEXT),
            "running": _list_of(_ANY_TEXT),
        }
    ),
    "Description": {"type": "object", "required": ["openapi", "info", "paths", "components"]},
    "Error": _object(
        {
            "status": {"const": "error"},
            "error": {**_ANY_TEXT, "description": "A code that programs may look at."},
            "message": {**_ANY_TEXT, "description": "What is wrong, for people."},
        },
        {"known": {**_list_of(_ANY_TEXT), "description": "The types or tasks that there are."}},
    ),
}

_CLEARED: Final[Mapping[int, str]] = {200: "Cleared", 202: "Cleared"}

#: By method and path, as the table of calls has them.
OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/stats"): Operation("stats", "The counters, in all and by type.", {200: "Stats"}),
    ("GET", "/overview"): Operation("overview", "The state of every part, and all counters.", {200: "Overview"}),
    ("GET", "/openapi.json"): Operation("openapi", "This description.", {200: "Description"}),
    ("GET", "/keys"): Operation(
        "entries",
        "The live entries, page by page; never a value.",
        {200: "Entries"},
        (400, 404, 503),
        query={
            "type": {**_ANY_TEXT, "maxLength": LONGEST_TEXT},
            "pattern": {**_ANY_TEXT, "maxLength": LONGEST_TEXT, "description": "A glob over stored keys."},
            "cursor": {**_ANY_TEXT, "maxLength": LONGEST_TEXT, "description": "Of the page before."},
            "limit": {"type": "integer", "minimum": 1, "maximum": MOST_ENTRIES},
        },
    ),
    ("GET", "/keys/<path:part>"): Operation(
        "entry", "One live entry, by its whole key; write its slashes as %2F.", {200: "OneEntry"}, (400, 404, 503)
    ),
    ("POST", "/invalidate/<part>"): Operation(
        "invalidateType",
        "Invalidate a cache type.",
        {200: "TypeInvalidated", 202: "TypeInvalidated"},
        (404,),
    ),
    ("POST", "/invalidate-pattern"): Operation(
        "invalidatePattern",
        "Invalidate what a glob over stored keys matches.",
        {200: "PatternInvalidated", 202: "PatternInvalidated"},
        (404,),
        _object({"pattern": _TEXT}, {"type": {**_TEXT, "type": ["string", "null"]}}),
    ),
    ("POST", "/invalidate-tags"): Operation(
        "invalidateTags",
        "Invalidate every entry that has any of the tags.",
        {200: "TagsInvalidated", 202: "TagsInvalidated"},
        body=_object({"tags": _list_of(_TEXT, minItems=1, maxItems=MOST_TAGS)}),
    ),
    ("POST", "/invalidate-url"): Operation(
        "invalidateUrl",
        "Invalidate every answer to the path of a URL.",
        {200: "UrlInvalidated", 202: "UrlInvalidated"},
        body=_object({"url": {**_TEXT, "description": "A path, or a whole URL.", "pattern": _URL}}),
    ),
    ("POST", "/invalidate-user"): Operation(
        "invalidateUser",
        "Invalidate the answers for one user.",
        {200: "UserInvalidated", 202: "UserInvalidated"},
        body=_object({"user": _TEXT}),
    ),
    ("POST", "/clear-all"): Operation("clearAll", "Invalidate everything of this cache, and no other key.", _CLEARED),
    ("POST", "/clear"): Operation("clear", "The same as /clear-all.", _CLEARED),
    ("GET", "/warm"): Operation("tasks", "The warming tasks, with their figures.", {200: "Tasks"}, (503,)),
    ("POST", "/warm"): Operation(
        "warm",
        "Run warming tasks in the background, all of them when none is named.",
        {200: "Started", 202: "Started"},
        (404, 503),
        _object({}, {"names": _list_of(_TEXT, maxItems=MOST_TAGS)}),
    ),
}

_ERRORS: Final[Mapping[int, str]] = {
    400: "An argument or the body is not usable.",
    401: "No token, or one that is not accepted.",
    403: "The caller is not allowed to.",
    404: "There is no such type, entry or task.",
    413: "The body is too long.",
    415: "The body is not JSON.",
    500: "An error in the server; its log says more.",
    503: "The store is unavailable.",
}
_PART: Final = re.compile(r"<(?:path:)?part>")
#: What stands for a part of the path.
_PARTS: Final[Mapping[str, str]] = {"/keys/<path:part>": "key", "/invalidate/<part>": "type"}
#: Behind the prefix of the cache.
_KEY: Final = r":[a-z][a-z0-9_]*:."


def document(
    calls: Mapping[str, Mapping[str, Sequence[str] | None]], *, prefix: str, keys: str, with_token: bool
) -> Schema:
    """The description of the admin API.

    Args:
        calls: by path and method, the members of the body that the call takes; ``None`` when it has no body.
        prefix: where the API is.
        keys: what stored keys begin with.
        with_token: whether callers need a bearer token; otherwise the app's own guard decides.

    Raises:
        ValueError: a call is not described, or a description has no call or other members than the call takes.
    """
    made = {(method, path): takes for path, methods in calls.items() for method, takes in methods.items()}
    if made.keys() != OPERATIONS.keys():
        raise ValueError(f"calls and their descriptions differ: {sorted(made.keys() ^ OPERATIONS.keys())}")
    paths: dict[str, Schema] = {}
    for (method, path), takes in made.items():
        operation = OPERATIONS[method, path]
        described = () if operation.body is None else tuple(operation.body["properties"])
        if tuple(takes or ()) != described:
            raise ValueError(f"{method} {path} takes {takes}, and {described} is described")
        name = _PARTS.get(path, "")
        item = paths.setdefault(prefix + _PART.sub(f"{{{name}}}", path), {})
        if name:
            of_key = {"type": "string", "pattern": f"^{re.escape(keys)}{_KEY}"}
            schema = of_key if name == "key" else {"type": "string", "minLength": 1}
            item["parameters"] = [{"name": name, "in": "path", "required": True, "schema": schema}]
        item[method.lower()] = _described(operation, has_body=takes is not None)
    components: Schema = {"schemas": _SCHEMAS}
    whole: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "flask_rcache admin API",
            "version": "1",
            "summary": "Figures, listings and invalidation of a cache.",
            "description": "Every call is guarded by the app. Answers are never to be stored.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": components,
    }
    if with_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
        whole["security"] = [{"token": []}]
    return whole


def _described(operation: Operation, *, has_body: bool) -> Schema:
    """One operation as OpenAPI has it."""
    answers = {
        str(status): _answer("It was done." if status == 200 else "It was accepted, and is done later.", name)
        for status, name in operation.answers.items()
    }
    errors = {401, 403, 500, *operation.errors, *((400, 413, 415) if has_body else ())}
    answers |= {str(status): _answer(_ERRORS[status], "Error") for status in sorted(errors)}
    answers["401"]["headers"] = {"WWW-Authenticate": {"required": True, "schema": _ANY_TEXT}}
    described: Schema = {"operationId": operation.id, "summary": operation.summary, "responses": answers}
    if operation.query:
        described["parameters"] = [
            {"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()
        ]
    if operation.body is not None:
        is_needed = bool(operation.body["required"])
        described["requestBody"] = {"required": is_needed, "content": {"application/json": {"schema": operation.body}}}
    return described


def _answer(description: str, schema: str) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}
