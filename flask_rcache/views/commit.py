"""The commit: what a view returned is stored when the final headers are known.

Owns the end of a visit: the snapshot of the response, the judgement over the final headers at ``request_finished``, the
fill. Under which key is ``variants``'s to say. The receivers are module-level and never raise.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from flask import Flask, Response, request_finished
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from ..context import context
from ..engine.loading import draft_of
from ..engine.single_flight import Load
from ..http import (
    Action,
    Reason,
    Verdict,
    evaluate,
    is_made_etag,
    make_etag,
    normalise_vary,
    response_verdict,
    store_headers,
)
from ..model.entry import StoredResponse
from ..model.forks import new_lock
from ..stores.protocol import Fill
from .background import CLOSED, REFRESHED, REFRESHING
from .binding import serves
from .reply import answer, mark, say
from .unsafe import invalidate_unsafe
from .variants import store_variant
from .visit import Visit, own

__all__ = ["conclude", "install"]

logger: Final = logging.getLogger("flask_rcache")

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

#: Fields that ``after_request`` functions and the session add to any response of the request: what one of them forbids,
#: it forbids for every result of this request.
_FINAL_SAY: Final = frozenset({"set-cookie", "set-cookie2", "cache-control", "pragma", "vary", "expires"})

Lines = tuple[tuple[str, str], ...]


@dataclass(eq=False, slots=True)
class _Pending:
    """A result that waits for the final headers."""

    visit: Visit
    load: Load
    response: Response
    status: str
    lines: Lines
    body: bytes
    sent_status: int
    vary: tuple[str, ...] = ()
    """What the response varied by before the session was saved."""


_pending: Final[WeakKeyDictionary[Any, list[_Pending]]] = WeakKeyDictionary()
_pending_lock: Final = new_lock()


def install(app: Flask) -> None:
    """Have the results of an app's decorated views committed; once for each app."""
    request_finished.connect(_on_finished, app)
    # In the first place: they run from the last to the first, and after all of them the session is saved.
    app.after_request_funcs.setdefault(None, []).insert(0, _before_session)
    app.teardown_request(_on_teardown)


def conclude(visit: Visit, returned: Any) -> Response:
    """What a view returned becomes a response, marked, and pending when it may be stored."""
    load = visit.load
    try:
        response = own(visit.context.app, returned, visit.binding.options)
        if load is None:
            bypassed = visit.no_fill is Reason.CONTEXT
            mark(response, "BYPASS" if bypassed else "MISS", visit.shown_key)
            forward = "bypass" if bypassed else visit.forward
            say(response, fwd=forward, detail=visit.no_fill, key=visit.shown_key)
            return response
        if response.status_code >= 500:
            stale = visit.salvaged()
            if stale is not None:
                visit.manager.loading.abandon(load)
                return stale
        return _snapshot(visit, load, response)
    except BaseException:
        if load is not None:
            visit.manager.loading.abandon(load)
        raise


def _snapshot(visit: Visit, load: Load, response: Response) -> Response:
    """Judge a response by what is known of it now: give the load up, or let it wait for the final headers."""
    body = None if response.is_streamed or response.direct_passthrough else response.get_data()
    lines = tuple(response.get_wsgi_headers(visit.environ))  # as they go over the wire: a hit sends them as they are
    verdict = _judge(visit, response.status_code, lines, None if body is None else len(body))
    mark(response, "MISS", visit.shown_key)
    reason, pass_for = verdict.reason, verdict.hit_for_miss
    if load.tainted:
        reason, pass_for = Reason.STALE_INPUT, 2.0
    elif reason is None and visit.defers:
        reason, pass_for = Reason.DEFERRED, visit.binding.store_policy.hit_for_miss
    if reason is not None or body is None:
        visit.manager.loading.abandon(load, pass_for=pass_for)
        say(response, fwd=visit.forward, detail=reason, key=visit.shown_key)
        return _conditional_stream(visit, response) if body is None else _conditional(visit, response, body)
    made = make_etag(body) if response.status_code == 200 else ""
    if made and is_made_etag(response.headers.get("ETag", made)):  # one of another body comes from a call in the view
        response.headers["ETag"] = made
        lines = (*_untagged(lines), ("ETag", made))
    pending = _Pending(visit, load, response, response.status, lines, body, response.status_code)
    pending.response = _conditional(visit, response, body)
    if pending.response is not response and made not in visit.hidden.get("HTTP_IF_NONE_MATCH", ""):
        # What `after_request` functions make of the whole is not known, and whoever asked does not know the tag either.
        pending.lines = _untagged(lines)
    with _pending_lock:
        _pending.setdefault(visit.context, []).append(pending)
    visit.manager.loading.returned(load)
    return pending.response


def _conditional(visit: Visit, response: Response, body: bytes) -> Response:
    """What the request's conditions and range make of the whole response."""
    if not visit.hidden or not serves(visit.context, visit.binding.options):
        return response
    outcome = evaluate(visit.environ, response.status_code, tuple(response.headers), body_length=len(body))
    if outcome.action is Action.SEND:
        return response
    instead = answer(visit.context.app.response_class, outcome, body)
    instead.call_on_close(response.close)
    return instead


def _conditional_stream(visit: Visit, response: Response) -> Response:
    """The same for a body that is not there yet, such as a file's: what the view would have done, had it seen them."""
    if visit.hidden and response.status_code == 200 and serves(visit.context, visit.binding.options):
        ranges = response.headers.get("Accept-Ranges") == "bytes"
        try:
            response.make_conditional(visit.environ, accept_ranges=ranges, complete_length=response.content_length)
        except RequestedRangeNotSatisfiable:
            response.close()
            raise
    return response


def _judge(visit: Visit, status: int, lines: Lines, length: int | None) -> Verdict:
    policy = visit.binding.storing(visit.load.cost if visit.load is not None else 0.0)
    return response_verdict(status, lines, policy=policy, request=visit.facts, body_length=length, now=time.time())


# At the end of the request


def _before_session(response: Response) -> Response:
    """Note what the response varies by before the session machinery adds its ``Vary: Cookie``."""
    if _pending:
        with _pending_lock:
            waiting = _pending.get(context(), ())
        for pending in waiting:
            pending.vary = normalise_vary(response.headers.getlist("Vary"))
            if response is pending.response and _has_changed(pending):
                # The tag was made of another body, and hits will have other bodies too.
                del response.headers["ETag"]
                pending.lines = _untagged(pending.lines)
    return response


def _untagged(lines: Lines) -> Lines:
    """The lines without a tag of our making."""
    return tuple((name, value) for name, value in lines if name.lower() != "etag" or not is_made_etag(value))


def _has_changed(pending: _Pending) -> bool:
    """Whether an ``after_request`` has given another meaning to a body whose tag is of our making."""
    response = pending.response
    if response.status_code != 200 or not is_made_etag(response.headers.get("ETag", "")):
        return False
    if "Content-Encoding" in response.headers or not response.is_sequence:  # the same, compressed
        return False
    return response.get_data() != pending.body


def _on_finished(sender: Flask, response: Response, **_: Any) -> None:
    ctx = context()
    if ctx is None:
        return
    environ = ctx.request.environ
    environ[CLOSED] = ref(ctx.request)
    if not _pending and environ["REQUEST_METHOD"] in _SAFE:
        return
    for pending in _taken(ctx):
        try:
            _commit(pending, response)
        except Exception:  # a receiver that raises would turn a good answer into a 500
            logger.exception("[CACHE ERROR] a result could not be committed; it is not stored")
    try:
        if environ["REQUEST_METHOD"] not in _SAFE:
            invalidate_unsafe(sender, ctx, response)
    except Exception:  # the same
        logger.exception("[CACHE ERROR] %s could not be invalidated after a write", ctx.request.path)


def _on_teardown(_: BaseException | None) -> None:
    """Give up what never saw final headers: an ``after_request`` raised, or the context is a copy in a thread."""
    if _pending:
        ctx = context()
        for pending in _taken(ctx) if ctx is not None else ():
            pending.visit.manager.loading.abandon(pending.load)


def _taken(ctx: Any) -> list[_Pending]:
    with _pending_lock:
        return _pending.pop(ctx, [])


def _commit(pending: _Pending, final: Response) -> None:
    """Store a result that its own snapshot and the final headers allow to be stored."""
    visit, load = pending.visit, pending.load
    if final.status_code >= 500 and final is not pending.response:
        # Something failed after the view: the headers that this result would have been sent with were never made.
        visit.manager.loading.abandon(load)
        return
    try:
        lines, names = _with_final_say(visit, pending, final)
        verdict = _judge(visit, int(pending.status[:3]), lines, len(pending.body))
        if verdict.reason is None and _has_session(visit):
            verdict = Verdict(Reason.SESSION, hit_for_miss=visit.binding.store_policy.hit_for_miss)
        if verdict.reason is not None:
            visit.manager.loading.abandon(load, pass_for=verdict.hit_for_miss)
            outcome: Fill | Reason | None = verdict.reason
        else:
            content = StoredResponse(pending.status, store_headers(lines, age=verdict.age), pending.body)
            draft = draft_of(
                load,
                content,
                ttl=verdict.ttl,
                stale_while_revalidate=verdict.stale_while_revalidate,
                stale_if_error=verdict.stale_if_error,
            )
            outcome = store_variant(visit, load, draft, names)
    except BaseException:
        visit.manager.loading.abandon(load)
        raise
    _report(pending, outcome, verdict)


def _has_session(visit: Visit) -> bool:
    """Whether the view has begun a session that no cookie gives away: its interface knows the caller by a header."""
    return not visit.binding.credentials_ok and bool(getattr(visit.context, "_session", None))


def _report(pending: _Pending, outcome: Fill | Reason | None, verdict: Verdict) -> None:
    said: dict[str, Any] = {"fwd": pending.visit.forward, "key": pending.visit.shown_key}
    if pending.response.status_code != pending.sent_status:
        said["fwd_status"] = pending.sent_status
    if outcome is Fill.STORED and not pending.visit.manager.is_available:  # in this process, for a moment
        say(pending.response, detail=Reason.ERROR, **said)
    elif outcome is Fill.STORED:
        if pending.visit.environ.get(REFRESHING) == pending.visit.stored:
            pending.visit.environ[REFRESHED] = True
        say(pending.response, stored=True, ttl=verdict.ttl, **said)
    elif isinstance(outcome, Reason):
        say(pending.response, detail=outcome, **said)
    else:
        say(pending.response, detail=Reason.ERROR if outcome is None else Reason.OVERTAKEN, **said)


def _with_final_say(visit: Visit, pending: _Pending, final: Response) -> tuple[Lines, tuple[str, ...]]:
    """The lines to judge and keep, and the request fields that select the variant.

    ``Vary: Cookie`` that the session machinery added selects nothing here: whoever bears a session cookie passes
    the cache by, and everybody else has the same empty session. The same holds for ``Accept-Encoding`` of a compressing
    ``after_request``: it will run on the hit too. Both are still sent.
    """
    own = normalise_vary([value for name, value in pending.lines if name.lower() == "vary"])
    said = tuple((name, value) for name, value in final.headers if name.lower() in _FINAL_SAY)
    if final is pending.response and final.status_code == pending.sent_status:
        lines = tuple(line for line in pending.lines if line[0].lower() not in _FINAL_SAY) + said
    else:  # an answer of its own, which need not repeat what the whole response says
        lines = pending.lines + tuple(line for line in said if line not in pending.lines)
    sent = normalise_vary([value for name, value in lines if name.lower() == "vary"])
    added = {"accept-encoding"} if "cookie" in pending.vary else {"accept-encoding", "cookie"}
    names = tuple(name for name in sent if name in own or name not in added)
    if sent != own:
        lines = (*(line for line in lines if line[0].lower() != "vary"), ("Vary", ", ".join(sent)))
    if "accept-encoding" in sent and "accept-encoding" not in own:
        # What compresses afterwards would compress a part too, whose range is that of the plain bytes.
        lines = (*(line for line in lines if line[0].lower() != "accept-ranges"), ("Accept-Ranges", "none"))
    return lines, tuple(sorted({*names, *visit.binding.options.vary}))
