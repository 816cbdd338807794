"""The calls of the admin API: what each does to the manager, and the shape of its answer.

Owns the table :data:`CALLS` and the JSON of every success. Does not know Flask; who may call is ``guard``'s, what may
be sent ``bodies``', HTTP the ``blueprint``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, cast

from .. import signals as events
from ..engine import audit
from ..engine.manager import CacheManager
from ..errors import ConfigError, UnknownTypeError
from ..stores.protocol import Listed
from .bodies import Body, Refused, listing, pattern_of, soft_of, tags_of

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
#: In the report's total, and not counted by type.
_NOT_BY_TYPE: Final = ("is_available", "scope", "by_type")


class Question(NamedTuple):
    """What was asked: by whom, with which part of the path, query arguments and body."""

    manager: CacheManager
    subject: str
    part: str
    query: Mapping[str, Sequence[str]]
    body: Body


class Answer(NamedTuple):
    """What is answered; the status is 202 when the store is away and hears of a change later."""

    body: dict[str, object]
    status: int = 200


class Call(NamedTuple):
    """One call: what it does, and the members that its body may have (``None``: it has no body)."""

    act: Callable[[Question], Answer]
    takes: tuple[str, ...] | None = None


def _stats(question: Question) -> Answer:
    report = question.manager.stats()
    counted = cast("dict[str, dict[str, object]]", report["by_type"])
    nothing = {name: type(value)() for name, value in report.items() if name not in _NOT_BY_TYPE}
    by_type = {name: counted.get(name, nothing) for name in sorted({*question.manager.types, *counted})}
    return _success(cache_stats={**{name: report[name] for name in _STATS}, "by_type": by_type})


def _overview(question: Question) -> Answer:
    return _success(overview=question.manager.overview(), stats=question.manager.stats())


def _keys(question: Question) -> Answer:
    wanted = listing(question.query)
    manager = question.manager
    with _explained(manager, "invalid_argument"):
        page = manager.page(wanted.pop("type", None), wanted.pop("pattern", None), **wanted)
    if not page.entries and page.cursor is None:
        _need_store(manager)
    return _success(keys=[_shown(manager, entry) for entry in page.entries], cursor=page.cursor)


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
    soft = soft_of(question.body)
    return _changed(
        question,
        audit.action("invalidate-type", soft=soft),
        (name,),
        lambda: manager.invalidate_type(cache_type, soft=soft),
        f"Cache {name!r}",
        cache_type=name,
    )


def _invalidate_pattern(question: Question) -> Answer:
    manager = question.manager
    pattern, kind = pattern_of(question.body)
    with _explained(manager, "invalid_body"):
        cache_type = None if kind is None else manager.known_type(kind)
        whole, _ = manager.names.pattern(pattern, type_name=None if cache_type is None else cache_type.name)
    return _changed(
        question,
        "invalidate-pattern",
        (whole,),
        lambda: manager.invalidate_pattern(pattern, type=cache_type),
        f"Pattern {whole!r}",
        pattern=whole,
    )


def _invalidate_tags(question: Question) -> Answer:
    tags = tuple(dict.fromkeys(tags_of(question.body)))
    soft = soft_of(question.body)
    shown = "1 tag" if len(tags) == 1 else f"{len(tags)} tags"
    return _changed(
        question,
        audit.action("invalidate-tags", soft=soft),
        tags,
        lambda: question.manager.invalidate_tags(*tags, soft=soft),
        shown.capitalize(),
        tags=list(tags),
    )


def _clear_all(question: Question) -> Answer:
    return _changed(question, "clear-all", (), question.manager.clear_all, "Cache")


def _changed(
    question: Question, action: str, target: tuple[str, ...], act: Callable[[], int], what: str, **more: object
) -> Answer:
    """Make a change, note who did, and say what came of it."""
    with question.manager.watching_invalidations() as told:
        removed = act()
    journalled = told.journalled
    audit.record(question.manager, events.Audited(question.subject, action, target, removed, journalled))
    if journalled:
        status, message = "accepted", f"{what} will be invalidated in the store as soon as it is back"
    else:
        status, message = "success", f"{what} invalidated successfully"
    body = {"status": status, **more, "deleted_keys": removed, "message": message}
    return Answer(body, 202 if journalled else 200)


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
        raise Refused(
            503, "unavailable", "the store is away: what it holds cannot be listed", headers={"Retry-After": "5"}
        )


def _shown(manager: CacheManager, entry: Listed) -> dict[str, object]:
    return {
        "key": entry.key,
        "type": manager.names.split(entry.key)[0],
        "kind": entry.kind,
        "ttl": round(entry.ttl, 3),
        "age": round(entry.age, 3),
        "size": entry.size,
        "cost": round(entry.cost, 6),
        "tags": list(entry.tags),
    }


def _success(**more: Any) -> Answer:
    return Answer({"status": "success", **more})


#: The calls by path and method; ``<path:part>`` becomes :attr:`Question.part`.
CALLS: Final[Mapping[str, Mapping[str, Call]]] = {
    "/stats": {"GET": Call(_stats)},
    "/overview": {"GET": Call(_overview)},
    "/keys": {"GET": Call(_keys)},
    "/keys/<path:part>": {"GET": Call(_key)},
    "/invalidate/<part>": {"POST": Call(_invalidate_type, ("soft",))},
    "/invalidate-pattern": {"POST": Call(_invalidate_pattern, ("pattern", "type"))},
    "/invalidate-tags": {"POST": Call(_invalidate_tags, ("tags", "soft"))},
    "/clear-all": {"POST": Call(_clear_all, ())},
    "/clear": {"POST": Call(_clear_all, ())},
}
