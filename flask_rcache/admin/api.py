"""The calls of the admin API: what each does to the manager, and the shape of its answer.

Owns the table :data:`CALLS` and the JSON of every success. Does not know Flask; who may call is ``guard``'s, what may
be sent ``bodies``', HTTP the ``blueprint``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from .. import audit, signals
from ..engine.invalidations import Invalidated
from ..engine.manager import CacheManager
from ..engine.statistics import FIELDS
from ..errors import ConfigError, StoreError, UnknownTypeError
from ..model.named_tuple import NamedTuple
from ..model.tables import tables_and_rows
from ..stores.protocol import Listed
from ..warming import Warmer
from . import openapi
from .bodies import Body, Refused, listing, names_of, pattern_of, tags_of, text_of

__all__ = ["CALLS", "Answer", "Call", "Question"]

_STATS: Final = (
    "hits",
    "misses",
    "stale",
    "bypasses",
    "errors",
    "total_requests",
    "hit_rate",
    "is_available",
)
#: What a type has that nothing was counted for.
_NOTHING: Final[Mapping[str, float]] = {
    **{field: 0.0 if field.endswith("_seconds") else 0 for field in FIELDS},
    "total_requests": 0,
    "hit_rate": 0.0,
}


class Question(NamedTuple):
    """What was asked: by whom, with which part of the path, query arguments and body; and what runs warming tasks."""

    manager: CacheManager
    warmer: Warmer | None
    subject: str
    part: str
    query: Mapping[str, Sequence[str]]
    body: Body


class Answer(NamedTuple):
    """The answer; the status is 202 when the store is away, so that a change is sent to it later."""

    body: dict[str, object]
    status: int = 200


class Call(NamedTuple):
    """One call: what it does, and the members that its body may have (``None``: it has no body)."""

    act: Callable[[Question], Answer]
    takes: tuple[str, ...] | None = None


def _stats(question: Question) -> Answer:
    report = question.manager.stats()
    counted = report["by_type"]
    by_type = {name: counted.get(name, _NOTHING) for name in sorted({*question.manager.types, *counted})}
    return _success(cache_stats={**{name: report[name] for name in _STATS}, "by_type": by_type})


def _overview(question: Question) -> Answer:
    return _success(overview=question.manager.overview(), stats=question.manager.stats())


def _openapi(question: Question) -> Answer:
    settings = question.manager.settings
    calls = {path: {method: call.takes for method, call in methods.items()} for path, methods in CALLS.items()}
    described = openapi.document(
        calls, prefix=settings.admin_url_prefix, keys=settings.prefix, with_token=settings.admin_guard is None
    )
    return Answer(described)


def _keys(question: Question) -> Answer:
    wanted = listing(question.query)
    manager = question.manager
    with _explained(manager, "invalid_argument"):
        page = manager.page(wanted.pop("type", None), wanted.pop("pattern", None), **wanted)
    if not page.entries and page.cursor is None:
        _need_store(manager)
    missing = list(manager.engine.catalogue.missing)
    return _success(keys=[_shown(manager, entry) for entry in page.entries], cursor=page.cursor, missing=missing)


def _key(question: Question) -> Answer:
    manager, key = question.manager, question.part
    with _explained(manager, "invalid_argument"):
        entry = manager.inspect(key)
    if entry is None:
        _need_store(manager)
        raise Refused(404, "unknown_key", f"there is no live entry {key!r:.200}")
    return _success(entry=_shown(manager, entry))


def _invalidate_type(question: Question) -> Answer:
    manager, name = question.manager, question.part
    with _explained(manager, "unknown_type"):
        cache_type = manager.known_type(name)
    removed = manager.invalidate_type(cache_type)
    return _changed(question, "invalidate-type", (name,), removed, f"Cache {name!r}", cache_type=name)


def _invalidate_pattern(question: Question) -> Answer:
    manager = question.manager
    pattern, kind = pattern_of(question.body)
    with _explained(manager, "invalid_body"):
        cache_type = None if kind is None else manager.known_type(kind)
        whole, _ = manager.engine.names.pattern(pattern, type_name=None if cache_type is None else cache_type.name)
    removed = manager.invalidate_pattern(pattern, type=cache_type)
    return _changed(question, "invalidate-pattern", (whole,), removed, f"Pattern {whole!r}", pattern=whole)


def _invalidate_tags(question: Question) -> Answer:
    tags = tuple(dict.fromkeys(tags_of(question.body)))
    removed = question.manager.invalidate_tags(*tags)
    what = "1 tag" if len(tags) == 1 else f"{len(tags)} tags"
    return _changed(question, "invalidate-tags", tags, removed, what, tags=list(tags))


def _invalidate_url(question: Question) -> Answer:
    url = text_of(question.body, "url")
    with _explained(question.manager, "invalid_body"):
        removed = question.manager.invalidate_url(url)
    return _changed(question, "invalidate-url", (url,), removed, f"URL {url!r}", url=url)


def _invalidate_user(question: Question) -> Answer:
    user = text_of(question.body, "user")
    removed = question.manager.invalidate_user(user)
    return _changed(question, "invalidate-user", (user,), removed, f"User {user!r}", user=user)


def _clear_all(question: Question) -> Answer:
    return _changed(question, "clear-all", (), question.manager.clear_all(), "Cache")


def _warm(question: Question) -> Answer:
    warmer = question.warmer
    if warmer is None:
        return _success(tasks=[])
    with _needing_store():
        return _success(tasks=warmer.report())


def _run_warming(question: Question) -> Answer:
    names, warmer = names_of(question.body), question.warmer
    if warmer is None:
        if names:
            raise Refused(
                404, "unknown_task", f"there is no warming task {names[0]!r:.200}: none is registered", known=[]
            )
        return _success(started=[], running=[])
    with _needing_store():
        try:
            started, running = warmer.start(names)
        except ConfigError as error:
            known = [str(each["name"]) for each in warmer.report()]
            raise Refused(404, "unknown_task", str(error), known=known) from error
    audit.record(signals.Audited(question.subject, "warm", tuple(started), len(started)))
    return Answer({"status": "accepted", "started": started, "running": running}, 202)


def _changed(
    question: Question, action: str, target: tuple[str, ...], removed: Invalidated, what: str, **more: object
) -> Answer:
    """Record a change in the audit trail, and answer what became of it."""
    audit.record(signals.Audited(question.subject, action, target, int(removed), removed.journalled))
    if removed.journalled:
        status, message = "accepted", f"{what} will be invalidated in the store as soon as it is available again"
    else:
        status, message = "success", f"{what} invalidated successfully"
    body = {"status": status, **more, "deleted_keys": removed, "message": message}
    return Answer(body, 202 if removed.journalled else 200)


@contextmanager
def _explained(manager: CacheManager, code: str) -> Iterator[None]:
    """Turns what the manager refuses into an answer: an unknown type lists the known ones."""
    try:
        yield
    except UnknownTypeError as error:
        raise Refused(404, "unknown_type", str(error), known=sorted(manager.types)) from error
    except ConfigError as error:
        raise Refused(400, code, str(error)) from error


def _need_store(manager: CacheManager) -> None:
    if not manager.is_available:
        raise _unavailable("its entries cannot be listed")


@contextmanager
def _needing_store() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise _unavailable("the state of warming tasks is in it") from error


def _unavailable(what: str) -> Refused:
    return Refused(503, "unavailable", f"the store is unavailable: {what}", headers={"Retry-After": "5"})


def _shown(manager: CacheManager, entry: Listed) -> dict[str, object]:
    tables, rows, _ = tables_and_rows(entry.tags)
    return {
        "key": entry.key,
        "type": manager.engine.names.split(entry.key)[0],
        "kind": entry.kind,
        "view": entry.origin,
        "endpoint": entry.endpoint,
        "path": entry.path,
        "ttl": round(entry.ttl, 3),
        "age": round(entry.age, 3),
        "size": entry.size,
        "cost": round(entry.cost, 6),
        "tags": list(entry.tags),
        "tables": tables,
        "rows": rows,
    }


def _success(**more: Any) -> Answer:
    return Answer({"status": "success", **more})


#: The calls by path and method; ``<path:part>`` becomes :attr:`Question.part`.
CALLS: Final[Mapping[str, Mapping[str, Call]]] = {
    "/stats": {"GET": Call(_stats)},
    "/overview": {"GET": Call(_overview)},
    "/openapi.json": {"GET": Call(_openapi)},
    "/keys": {"GET": Call(_keys)},
    "/keys/<path:part>": {"GET": Call(_key)},
    "/invalidate/<part>": {"POST": Call(_invalidate_type, ())},
    "/invalidate-pattern": {"POST": Call(_invalidate_pattern, ("pattern", "type"))},
    "/invalidate-tags": {"POST": Call(_invalidate_tags, ("tags",))},
    "/invalidate-url": {"POST": Call(_invalidate_url, ("url",))},
    "/invalidate-user": {"POST": Call(_invalidate_user, ("user",))},
    "/clear-all": {"POST": Call(_clear_all, ())},
    "/clear": {"POST": Call(_clear_all, ())},
    "/warm": {"GET": Call(_warm), "POST": Call(_run_warming, ("names",))},
}
