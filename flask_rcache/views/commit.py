"""The commit: what a view returned is stored when the final headers are known.

Owns the end of an exchange: the snapshot of the response, the judgement over the final headers at
``request_finished``, and what is stored then. Where it is stored is ``variants``'s. The receivers are module-level and
never raise.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from flask import Flask, Response, request_finished
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from ..context import manager_of, request_context
from ..engine.load import PASS_SECONDS, Loaded
from ..engine.loading import record_read
from ..http import (
    Reason,
    Verdict,
    field_names,
    freshened,
    is_made_etag,
    make_etag,
    normalise_vary,
    repeats_nonce,
    response_verdict,
    session_identifies,
    shown_field,
    split_age,
    store_headers,
    united,
)
from ..model.cache_type import FROM_HEADERS
from ..model.entry import Draft, Entry, StoredResponse
from ..model.objects import type_name
from ..model.scope import Scope, scope_var
from ..observed import raw_environ, session_of
from ..stores.protocol import Outcome
from .background import REFRESHED, REFRESHING
from .bound import EXTENSION, AppViews, is_session_changed
from .dependencies import UNSEEN
from .exchange import Exchange
from .layers import Conversion, HandedResponse, Layers, Mode, Returned, is_response
from .loaders import watch_loaders
from .options import Options
from .reply import built, conditional, mark, own_response, privately, put, say, settle, varying, wire_lines
from .unsafe import invalidate_unsafe
from .validators import with_stated
from .variants import place

__all__ = ["bypassed", "conclude", "install"]

logger: Final = logging.getLogger("flask_rcache")

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

#: Fields that ``after_request`` functions and the session add to any response of the request: what one of them forbids,
#: it forbids for every result of this request.
_FINAL_SAY: Final = frozenset({"set-cookie", "set-cookie2", "cache-control", "pragma", "vary", "expires"})

Lines = tuple[tuple[str, str], ...]


class _Pending:
    """A result that waits for the final headers.

    Args:
        response: what is sent.
        whole: the view's response; the same, unless a condition or a range made another of it.
        lines: the header lines of the whole, as they go over the wire.
        body: of the whole.
        verdict: what was made of them when the view had returned.

    Attributes:
        sent: the lines of what is sent, before others have changed them.
        unsaved: the lines of what is sent, before the session was saved; ``None`` when that was not seen.
    """

    __slots__ = ("body", "lines", "response", "sent", "sent_status", "status", "unsaved", "verdict")

    def __init__(
        self,
        response: Response,
        whole: Response,
        lines: Lines,
        body: bytes,
        verdict: Verdict,
    ) -> None:
        self.response: Final = response
        self.status: Final = whole.status
        self.sent_status: Final = whole.status_code
        self.lines = lines
        self.body: Final = body
        self.verdict: Final = verdict
        self.sent: Final = tuple(response.headers)
        self.unsaved: Lines | None = None

    def has_new_body(self) -> bool:
        """Whether an ``after_request`` has given another meaning to a body whose tag is of our making."""
        response, chunks = self.response, self.response.response
        if type(chunks) is list and len(chunks) == 1 and chunks[0] is self.body:
            return False
        if response.status_code != 200 or not is_made_etag(response.headers.get("ETag", "")):
            return False
        if "Content-Encoding" in response.headers or not response.is_sequence:  # the same, compressed
            return False
        return response.get_data() != self.body


def install(app: Flask) -> None:
    """Have the results of an app's decorated views committed; once for each app."""
    request_finished.connect(_on_finished, app)
    watch_loaders(manager_of(app))
    # In the first place: they run from the last to the first, and after all of them the session is saved.
    app.after_request_funcs.setdefault(None, []).insert(0, _before_session)


# When the view has returned


def bypassed(
    app: Flask,
    returned: Any,
    reason: Reason,
    options: Options,
    conversion: Conversion | None = None,
    stated: Lines = (),
) -> Any:
    """What a view returned, as a response that is marked as a bypass; below layers that convert it, as it is."""
    if conversion is not None:
        conversion.returned_response = is_response(returned)
        if not conversion.returned_response:
            conversion.hand(_HandedBypass(app, reason, options))
            return returned
    response = with_stated(varying(own_response(app, returned), options.vary), stated)
    views: AppViews | None = app.extensions.get(EXTENSION)
    if views is not None and reason is Reason.AUTHORIZATION:
        views.view(options).note_permission(tuple(response.headers))
    if views is not None and views.view(options).names_caller:
        privately(response)
    mark(response, "BYPASS", None)
    say(response, fwd="method" if reason is Reason.METHOD else "bypass", detail=reason)
    return response


def conclude(exchange: Exchange, returned: Any) -> Any:
    """What a view returned becomes a response, marked, and pending when it may be stored.

    Below layers that may convert it, it is handed to them as it is, and that follows when they have returned.
    """
    try:
        conversion = exchange.conversion
        if conversion is None or is_response(returned):
            response = _concluded(exchange, _response_of(exchange, returned, confirms=True))
            if conversion is not None:
                conversion.hand(HandedResponse(response))
            return response
        stale = exchange.stand_in(_status_beside(returned))
        if stale is not None:
            return stale.value if isinstance(stale, Returned) else stale
        # Now, as layers may change it.
        content = None if conversion.layers.passes else exchange.view.views.results.encode(returned)
        conversion.hand(_HandedMiss(exchange, returned, content))
    except BaseException:
        exchange.close()
        raise
    return returned


def _confirmed(exchange: Exchange, entry: Entry, answer: Response) -> Response:
    """The stored response that the view's 304 has confirmed, with the header lines of the 304.

    Source: RFC 9111 section 4.3.4.
    """
    stored, load = entry.content, exchange.load
    assert isinstance(stored, StoredResponse)
    exchange.confirmed = True
    record_read(exchange.view.views.engine.store, entry)
    own, _ = split_age(stored.headers)
    lines = freshened(own, tuple(answer.get_wsgi_headers(exchange.environ)))
    if load is not None:
        load.confirm(entry)
        load.is_tainted = load.is_tainted or lines is None  # the 304 is about another response: this one is not stored
    if lines is None:
        lines = own
    response = built(exchange.ctx.app.response_class, stored.body, stored.status, lines)
    response.call_on_close(answer.close)
    return response


def _concluded(exchange: Exchange, response: Response) -> Response:
    if exchange.view.names_caller and exchange.trusted:
        privately(response)
    if exchange.stated.lines and exchange.stored_result is None:
        # Else it is made anew on each hit, and the view states nothing then.
        with_stated(response, exchange.stated.lines)
    load = exchange.load
    if load is not None and load.stand_in is not None:
        stale = exchange.stand_in(response.status_code)
        if isinstance(stale, Response):
            return stale
        load = exchange.load
    if exchange.has_authorization and not exchange.view.note_permission(tuple(response.headers), exchange.url_key):
        if exchange.is_open:
            exchange.end(Loaded(pass_for=0.0))  # it changes nothing for the others
        exchange.load = load = None
        if exchange.no_fill is None:
            exchange.bypass_authorization()
        elif exchange.no_fill not in _BYPASSING:
            exchange.no_fill = Reason.AUTHORIZATION
    if load is None or not exchange.is_open:
        is_bypass = exchange.no_fill in _BYPASSING
        # As where nothing was looked up.
        key = None if exchange.no_fill is Reason.AUTHORIZATION else exchange.shown_key
        mark(response, "BYPASS" if is_bypass else "MISS", key)
        forward = "bypass" if is_bypass else exchange.forward
        say(response, fwd=forward, detail=exchange.no_fill, key=key, **_field(exchange))
        return _conditional_stream(exchange, response)
    observer = exchange.view.views.observer
    observer.loaded(load.policy, load.key, load.cost)
    observer.missed(load.policy, exchange.key, exchange.lookup)
    return _snapshot(exchange, response)


#: Why a request bypasses the cache that has been looked up.
_BYPASSING: Final = frozenset({Reason.CONTEXT, Reason.FIELD, Reason.AUTHORIZATION})


def _response_of(exchange: Exchange, returned: Any, *, confirms: bool = False) -> Response:
    """What a view returned, as a response that says what it varies by.

    Args:
        exchange: the request's.
        returned: by the view.
        confirms: whether a 304 is the view's own, so that it is about the stored response.
    """
    response, entry = exchange.made(returned), exchange.asked_of
    if "vary" in field_names(response.headers):
        exchange.declared = normalise_vary(response.headers.getlist("Vary"))
    fields = exchange.dependencies.fields
    if confirms and entry is not None and response.status_code == 304:
        response = _confirmed(exchange, entry, response)
        fields = united(fields, exchange.confirmed_fields)
    selecting = tuple(exchange.view.options.vary)
    if fields:
        selecting += exchange.view.kept(fields, trusted=True)
    return varying(response, selecting) if selecting else response


def _field(exchange: Exchange) -> dict[str, str]:
    return {"field": shown_field(exchange.field)} if exchange.field else {}


def _status_beside(returned: object) -> int:
    """The status that a view returned beside a result, as Flask and other frameworks take it."""
    status = returned[1] if type(returned) is tuple and len(returned) > 1 else None
    return status if isinstance(status, int) else 200


class _HandedBypass:
    """What a view returned that was run without the cache."""

    is_hit = False
    __slots__ = ("_app", "_options", "_reason")

    def __init__(self, app: Flask, reason: Reason, options: Options) -> None:
        self._app: Final = app
        self._reason: Final = reason
        self._options: Final = options

    def settle(self, returned: Any, layers: Layers) -> Any:
        """What the layers have made of it, marked."""
        return bypassed(self._app, returned, self._reason, self._options)

    def abandon(self) -> None:
        """Nothing to do."""


class _HandedMiss:
    """What a view returned that was loaded.

    Args:
        exchange: the request's.
        value: what was returned.
        content: the same, encoded; ``None`` where it can't be, or need not.
    """

    is_hit = False
    __slots__ = ("_content", "_exchange", "_value")

    def __init__(self, exchange: Exchange, value: object, content: bytes | None) -> None:
        self._exchange: Final = exchange
        self._value: Final = value
        self._content: Final = content

    def settle(self, returned: Any, layers: Layers) -> Response:
        """The response of what the layers have made of it, pending when it may be stored."""
        exchange = self._exchange
        response = _response_of(exchange, returned)
        layers.passes = returned is self._value and layers.mode is Mode.RESPONSES
        if not layers.passes:
            exchange.stored_result = self._content
            if self._content is None and exchange.load is not None and exchange.is_open:
                return self._not_stored(response)
        return _concluded(exchange, response)

    def _not_stored(self, response: Response) -> Response:
        exchange = self._exchange
        view = exchange.view
        view.views.observer.warn_once(
            f"result/{view.options.function}",
            "the answers of %s are not stored: a decorator above its @cache_response converts what it returns, and "
            "objects of %s can't be stored. Put @cache_response above that decorator",
            view.options.function,
            type_name(type(self._value)),
        )
        exchange.missed()
        exchange.end(Loaded())
        mark(response, "MISS", exchange.shown_key)
        say(response, fwd=exchange.forward, detail=Reason.RESULT, key=exchange.shown_key)
        return response

    def abandon(self) -> None:
        """The layers failed: there is no response that could be judged."""
        self._exchange.close()


def _snapshot(exchange: Exchange, response: Response) -> Response:
    """Judge a response by what is known of it now: end the load, or let it wait for the final headers."""
    load = exchange.load
    assert load is not None
    body = None if response.is_streamed or response.direct_passthrough else response.get_data()
    lines = wire_lines(response, body, exchange.environ)  # a hit sends them as they are
    verdict = _judge(exchange, response.status_code, lines, None if body is None else len(body))
    reason, pass_for = _refused(exchange, response, verdict)
    mark(response, "MISS", exchange.shown_key)
    if reason is not None or body is None:
        exchange.end(Loaded(pass_for=pass_for))
        status = _view_status(exchange)
        say(
            response,
            fwd=exchange.forward,
            fwd_status=status,
            detail=reason,
            key=exchange.shown_key,
            **_field(exchange),
        )
        return _conditional_stream(exchange, response) if body is None else _conditional(exchange, response)
    # Where layers convert a result anew on each hit, a tag is theirs to make.
    made = make_etag(body) if response.status_code == 200 and exchange.stored_result is None else ""
    if made and "etag" not in field_names(lines):
        put(response, "ETag", made)
        lines = (*lines, ("ETag", made))
    elif made and is_made_etag(response.headers.get("ETag", made)):  # of another body, of a call in the view
        put(response, "ETag", made)
        lines = (*_untagged(lines), ("ETag", made))
    sent = _conditional(exchange, response) if exchange.hidden else response
    if sent is not response and made not in exchange.hidden.get("HTTP_IF_NONE_MATCH", "") and _may_change(exchange):
        # What `after_request` functions make of the whole is not known, and whoever asked does not know the tag either.
        lines = _untagged(lines)
    exchange.pending = _Pending(sent, response, lines, body, verdict)
    exchange.view.views.engine.driver.returned(load)
    return sent


def _may_change(exchange: Exchange) -> bool:
    """Whether ``after_request`` functions may make another body of a whole response than the one that its tag is of."""
    known = exchange.view.changes_bodies
    if known is None:
        functions = exchange.ctx.app.after_request_funcs.values()
        return any(each is not _before_session for of_scope in functions for each in of_scope)
    return known


def _refused(exchange: Exchange, response: Response, verdict: Verdict) -> tuple[Reason | None, float]:
    """Why a response is not stored, as far as that is known now, and for how long nobody waits for the next."""
    load, view = exchange.load, exchange.view
    if load is not None and load.is_tainted:
        return Reason.STALE_INPUT, PASS_SECONDS
    if load is not None and load.unstorable is not None:
        view.views.observer.warn_once(
            f"observed/{view.options.function}/{load.unstorable}",
            "answers of %s are not stored: it has read %s",
            view.options.function,
            load.unstorable,
        )
        return Reason.VOLATILE, view.store_policy().hit_for_miss
    reason = _identified(exchange)
    if reason is not None:
        return reason, view.store_policy().hit_for_miss if reason in _OF_THE_VIEW else 0.0
    if verdict.reason is not None:
        return verdict.reason, verdict.hit_for_miss
    if exchange.defers:
        return Reason.DEFERRED, view.store_policy().hit_for_miss
    if view.options.keep is not None and not view.options.keep(response):
        return Reason.KEEP, PASS_SECONDS
    return None, 0.0


#: What is so for every request, and not because of this one.
_OF_THE_VIEW: Final = frozenset({Reason.READ_WHOLE, Reason.SHARED_SECRET})


def _identified(exchange: Exchange) -> Reason | None:
    """Why an answer is for this request alone: of what the view has read, and what became of the session."""
    view, found = exchange.view, exchange.dependencies
    if found.whole and view.policy.ttl is not FROM_HEADERS:  # whose response says what it varies by, as a gateway's
        if found.whole != UNSEEN:
            view.mention("whole", "its answers are not stored, as it reads %s: read what it needs by name", found.whole)
        return Reason.READ_WHOLE
    if found.secrets:
        view.mention(
            "secret",
            "its answers are not stored. It is shared=True, the same for everyone, and reads %s: leave that to a "
            "fragment or to the browser, or use key_func=by_user on a per_user type",
            ", ".join(found.secrets),
        )
        return Reason.SHARED_SECRET
    return _of_the_session(exchange)


def _of_the_session(exchange: Exchange) -> Reason | None:
    """Why an answer is for this request alone: of what became of the session."""
    view, session = exchange.view, session_of(exchange.ctx)
    if isinstance(session, dict) and not (exchange.changed or exchange.reads.session or dict.__len__(session)):
        return None  # it was empty, and is
    if exchange.changed or is_session_changed(session, exchange.reads.session):
        view.mention(
            "session",
            "an answer is not stored, as the session was changed while it was made. A page that everybody may have "
            "does not change the session, and has no CSRF token in it: fetch that from the browser, or use a fragment",
        )
        return Reason.SESSION_CHANGED
    if not exchange.trusted and not view.options.shares_anonymous and session_identifies(session):
        view.mention(
            "session", "an answer is not stored, as there is a session by now, whose cookie will identify the caller"
        )
        return Reason.SESSION
    return None


def _judge(exchange: Exchange, status: int, lines: Lines, length: int | None) -> Verdict:
    policy = exchange.view.store_policy(
        exchange.load.cost if exchange.load is not None else 0.0, trusted=exchange.trusted
    )
    return response_verdict(status, lines, policy=policy, request=exchange.facts, body_length=length, now=time.time())


def _conditional(exchange: Exchange, response: Response) -> Response:
    """What the request's conditions and range make of the whole response."""
    if not exchange.hidden or not exchange.view.serves(exchange.ctx):
        return response
    return conditional(exchange.ctx.app.response_class, response, exchange.environ)


def _conditional_stream(exchange: Exchange, response: Response) -> Response:
    """The same for what is not stored, such as a file's body: what the view would have done, had it seen them."""
    if exchange.hidden and response.status_code == 200 and exchange.view.serves(exchange.ctx):
        ranges = response.headers.get("Accept-Ranges") == "bytes"
        counts = response.automatically_set_content_length
        # The length of a stream is found by reading all of it, which may have no end.
        response.automatically_set_content_length = counts and response.is_sequence
        try:
            response.make_conditional(exchange.environ, accept_ranges=ranges, complete_length=response.content_length)
        except RequestedRangeNotSatisfiable:
            response.close()
            raise
        finally:
            response.automatically_set_content_length = counts
    return response


def _untagged(lines: Lines) -> Lines:
    """The lines without a tag of our making."""
    return tuple([line for line in lines if line[0].lower() != "etag" or not is_made_etag(line[1])])


def _values(lines: Lines, name: str) -> list[str]:
    """The values of the lines of a field, whose name is in lower case."""
    return [value for each, value in lines if each.lower() == name]


# At the end of the request


def _before_session(response: Response) -> Response:
    """Note what the response varies by before the session machinery adds its ``Vary: Cookie``."""
    scope = scope_var.get()
    if scope is None or not scope.exchanges:
        return response
    for exchange, pending in _waiting(scope, request_context()):
        pending.unsaved = tuple(response.headers)
        if response is not pending.response:
            continue
        if pending.has_new_body():
            # The tag was made of another body, and hits will have other bodies too.
            exchange.view.changes_bodies = True
            response.headers.pop("ETag", None)
            pending.lines = _untagged(pending.lines)
        elif response.status_code == 200 and exchange.view.changes_bodies is None:
            exchange.view.changes_bodies = False
    return response


def _waiting(scope: Scope, ctx: Any) -> list[tuple[Exchange, _Pending]]:
    """What waits for the final headers of a request's context; in a copy of it, in a thread, that is the copy's."""
    waiting = []
    for each in scope.exchanges:
        # A view that is left behind in a task may run still, and has nothing that waits.
        if each.ctx is ctx and each.pending is not None:
            waiting.append((each, each.pending))  # noqa: PERF401  # a comprehension is a call
    return waiting


def _on_finished(sender: Flask, response: Response, **_: Any) -> None:
    scope = scope_var.get()
    if scope is None:
        return
    scope.is_finished = True
    ctx = request_context()
    for exchange, pending in _waiting(scope, ctx) if scope.exchanges else ():
        try:
            _commit(exchange, pending, response)
        except Exception:  # a receiver that raises would turn a good answer into a 500
            logger.exception("[CACHE ERROR] a result could not be committed; it is not stored")
    if ctx is not None and raw_environ(ctx.request)["REQUEST_METHOD"] not in _SAFE:
        try:
            invalidate_unsafe(sender, ctx, response)
        except Exception:  # the same
            logger.exception("[CACHE ERROR] %s could not be invalidated after a write", ctx.request.path)


def _commit(exchange: Exchange, pending: _Pending, final: Response) -> None:
    """Store a result that its own snapshot and the final headers allow to be stored."""
    load = exchange.load
    assert load is not None
    try:
        if final.status_code >= 500 and final is not pending.response:
            # Something failed after the view: the headers that this result would have been sent with were never made.
            return
        lines, fields, verdict = pending.lines, exchange.declared, pending.verdict
        sent = tuple(final.headers)
        if final is not pending.response or sent != pending.sent:
            lines, fields = _with_final_say(pending, final, exchange.declared)
            verdict = _judge(exchange, pending.sent_status, lines, len(pending.body))
        if verdict.reason is None:
            reason = _of_the_session(exchange)  # once more: an `after_request` function may have used it
            verdict = verdict if reason is None else Verdict(reason)
        if verdict.reason is None and repeats_nonce((*lines, *sent), pending.body):
            verdict = Verdict(Reason.NONCE, hit_for_miss=exchange.view.store_policy().hit_for_miss)
        if verdict.reason is not None:
            exchange.end(Loaded(pass_for=verdict.hit_for_miss))
            if exchange.has_authorization:
                exchange.view.note_permission(lines, exchange.url_key)
            _report(exchange, pending, verdict.reason, None)
            return
        draft = load.draft(
            exchange.stored_result
            if exchange.stored_result is not None
            else StoredResponse(pending.status, store_headers(lines, age=verdict.age), pending.body),
            ttl=verdict.ttl,
            stale_while_revalidate=verdict.stale_while_revalidate,
            stale_if_error=verdict.stale_if_error,
            revalidate=verdict.revalidate,
            origin=exchange.view.origin,
            place=exchange.place,
        )
        read = exchange.dependencies.fields
        if exchange.has_authorization:  # the response was made with it, and permits what depends on it alone
            read = tuple(field for field in read if field != "authorization")
        if read or fields or exchange.view.options.vary or exchange.confirmed:
            kept = exchange.view.kept(read, trusted=exchange.trusted)
            fields = united(fields, kept, exchange.view.options.vary, exchange.confirmed_fields)
        _report(exchange, pending, _store(exchange, draft, fields), draft)
    finally:
        if exchange.pending is not None:  # nothing has ended it
            exchange.close()


def _store(exchange: Exchange, draft: Draft, fields: tuple[str, ...]) -> Outcome | Reason | None:
    """Store a response under the key that it selects itself, which may be another than the one looked up."""
    view, load = exchange.view, exchange.load
    assert load is not None
    views, url_key = view.views, exchange.url_key
    if not fields and exchange.is_only_answer:
        can_be_stored = load.can_be_stored
        outcomes = exchange.end(Loaded({url_key: draft}, pass_for=0.0)).outcomes
        return outcomes.get(url_key) if can_be_stored else exchange.why_not_stored()
    known, now = exchange.known_variants()
    selection = view.selection(united(fields, exchange.known_fields(known)))
    environ = {**exchange.environ, **exchange.hidden}
    if not exchange.trusted and (field := selection.blocked_by(environ, session_of(exchange.ctx))):
        exchange.field = field
        views.remember(url_key, view, selection)
        view.mention_field(field)
        exchange.end(Loaded(pass_for=0.0))
        return Reason.FIELD
    engine = views.engine
    placed = place(
        draft,
        selection,
        known,
        names=engine.names,
        url_key=url_key,
        type_tag=view.policy.tag,
        variant=selection.variant(environ, exchange.ctx.request),
        now=now,
        most=engine.settings.max_variants,
        uses=lambda key: views.uses.get(key, 0),
    )
    if placed is None:
        exchange.end(Loaded(pass_for=view.store_policy().hit_for_miss))
        return Reason.TOO_MANY_VARIANTS
    views.remember(url_key, view, selection)
    if placed.dropped:
        engine.guarded.drop(view.policy, placed.dropped)
        views.forget_variants(placed.dropped, placed.kept)
    # The lease's own key gets what belongs there; the rest is written with the load's moment.
    everything = {placed.key: placed.draft}
    if placed.marker is not None:
        everything[url_key] = placed.marker
    own = everything.pop(load.key, None)
    drafts = {} if own is None else {load.key: own}
    can_be_stored = load.can_be_stored
    outcomes = exchange.end(Loaded(drafts, writes=list(everything.items()), pass_for=0.0)).outcomes
    if not can_be_stored:
        return exchange.why_not_stored()
    if own is not None and outcomes.get(load.key) not in (Outcome.STORED, Outcome.SENT):
        return outcomes.get(load.key)
    return outcomes.get(placed.key)


def _view_status(exchange: Exchange) -> int | None:
    """The status that the view has returned, where it is another than that of the whole response."""
    return 304 if exchange.confirmed else None


def _report(exchange: Exchange, pending: _Pending, outcome: Outcome | Reason | None, draft: Draft | None) -> None:
    """Say on the response what became of it."""
    said: dict[str, Any] = {"fwd": exchange.forward, "key": exchange.shown_key}
    response, manager = pending.response, exchange.view.views.manager
    if exchange.confirmed or response.status_code != pending.sent_status:
        said["fwd_status"] = _view_status(exchange) or pending.sent_status
    if outcome is Outcome.STORED and not manager.is_available:  # in this process, for a moment
        say(response, detail=Reason.ERROR, **said)
    elif outcome in (Outcome.STORED, Outcome.SENT) and draft is not None:
        if exchange.environ.get(REFRESHING) == exchange.url_key:
            exchange.environ[REFRESHED] = True
        say(response, stored=outcome is Outcome.STORED, ttl=draft.ttl, **said)
        settle(response)
    elif isinstance(outcome, Reason):
        say(response, detail=outcome, **said, **_field(exchange))
    else:
        say(response, detail=Reason.ERROR if outcome is None else Reason.OVERTAKEN, **said)


def _with_final_say(pending: _Pending, final: Response, declared: tuple[str, ...]) -> tuple[Lines, tuple[str, ...]]:
    """The lines to judge and keep where something was changed after the view, and the fields that select the variant.

    ``Vary: Cookie`` that the session machinery added selects nothing here: a request with a session cookie bypasses the
    cache, and all others have the same empty session. The same holds for ``Accept-Encoding`` of a compressing
    ``after_request``: it will run on the hit too. Both are still sent.
    """
    own = normalise_vary(_values(pending.lines, "vary"))
    said = tuple((name, value) for name, value in final.headers if name.lower() in _FINAL_SAY)
    unsaved = pending.unsaved
    if unsaved is not None:  # the session's own cookie is set on hits too, for each its own
        said = (
            *(line for line in said if line[0].lower() != "set-cookie"),
            *(line for line in unsaved if line[0].lower() == "set-cookie"),
        )
    if final is pending.response and final.status_code == pending.sent_status:
        lines = tuple(line for line in pending.lines if line[0].lower() not in _FINAL_SAY) + said
    else:  # an answer of its own, which need not repeat what the whole response says
        lines = pending.lines + tuple(line for line in said if line not in pending.lines)
    sent = normalise_vary(_values(lines, "vary"))
    added = {"accept-encoding", "cookie"}
    if "cookie" in normalise_vary(_values(unsaved or (), "vary")):
        added.discard("cookie")
    names = (*declared, *(name for name in sent if name not in own and name not in added))
    if sent != own:
        lines = (*(line for line in lines if line[0].lower() != "vary"), ("Vary", ", ".join(sent)))
    if "accept-encoding" in sent and "accept-encoding" not in own:
        # What compresses afterwards would compress a part too, whose range is that of the plain bytes.
        lines = (*(line for line in lines if line[0].lower() != "accept-ranges"), ("Accept-Ranges", "none"))
    return lines, names
