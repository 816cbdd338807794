"""The lookup of a request: a hit is answered here, without anything that only a miss needs.

Owns :func:`look_up`. What is no plain hit is ``exchange``'s; which requests may use the cache, and for which entry they
ask, is ``options``'s.
"""

from __future__ import annotations

import time
from typing import Any, Final

from ..context import SCOPE, enter
from ..engine.decision import Decision, decide
from ..engine.loading import record_read
from ..http import Reason, Selection
from ..model import chance
from ..model.entry import MICROSECONDS, Entry, StoredResponse
from ..model.keys import key_tag, url_tag
from ..model.named_tuple import NamedTuple
from ..model.scope import Scope, scope_var
from ..observed import answered, observe, raw_environ, session_of
from ..stores.protocol import Lookup
from .background import REFRESHING, refresh_job, refreshable
from .bound import AppViews, BoundView, conditions
from .exchange import Exchange, Found, may_have
from .layers import CONVERSION, Conversion, is_wrapper
from .options import Options
from .reply import CONDITIONS, hit, ready_class
from .variants import selected_key

__all__ = ["DRAW", "SERVED", "Served", "look_up"]

#: Where an environ has what was served, for the front; and the random number that it has drawn already.
SERVED: Final = "flask_rcache.served"
DRAW: Final = "flask_rcache.draw"


class Served(NamedTuple):
    """A fresh entry that was served, as far as the view that Flask has called is concerned.

    Args:
        view: the view.
        request: the request.
        url_key: the key of the URL.
        key: of the entry.
        lookup: the entry, and when it was looked up.
        headers: of the answer, before anybody has changed them.
        selection: what was known to select the answers of the URL when it was looked up; ``None``: nothing.
    """

    view: BoundView
    request: Any
    url_key: str
    key: str
    lookup: Lookup
    headers: tuple[tuple[str, str], ...]
    selection: Selection | None


def look_up(  # noqa: C901  # each hit passes here: a call costs as much as a step
    views: AppViews, ctx: Any, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Found:
    """Look a request up.

    Args:
        views: of the app.
        ctx: the request's context.
        options: what stands above the view.
        args: what the view was called with.
        kwargs: the same.

    Returns:
        What a hit answers with; the reason of a bypass; an exchange that found nothing fresh.
    """
    view, engine = views.bound.get(options) or views.view(options), views.engine
    request = ctx.request
    environ = raw_environ(request)
    scope: Scope | None = environ.get(SCOPE)
    if scope is None or scope is not scope_var.get() or scope.owner is not engine.store:
        scope = enter(engine, ctx)
    around: Conversion | None = environ.get(CONVERSION)
    conversion = None if around is None else around.of(options)
    reason, trusted, named, own = None, view.credentials_ok, None, (0, 0)
    if view.reads_itself:
        own = (len(observe(request, session_of(ctx))), 0)
    method = environ["REQUEST_METHOD"]
    if (  # whatever may make a request bypass the cache, whatever answers depend on
        view.is_judged
        or not engine.enabled
        or (conversion is not None and conversion.is_off)
        or not (method == "GET" or method == "HEAD")
        or not environ.keys().isdisjoint(view.to_judge)
        or getattr(ctx, "_session", None)
        or getattr(ctx, "flashes", None)
    ):
        reason = view.bypass(ctx, environ, args, kwargs)
        if reason is Reason.AUTHORIZATION and view.may_permit_authorization() and REFRESHING not in environ:
            return _with_authorization(view, ctx, scope, conversion, own[0], args, kwargs)
    if options.key_func is not None and reason is None:
        reason, trusted, named = view.called_by(ctx, environ)
    url_key = None if reason is not None else view.key(ctx, environ, args, kwargs, named)
    if url_key is None:
        reason = reason or Reason.KEY
        view.bypassed(reason)
        observe(request, session_of(ctx))
        return reason
    key, tags, field, known = url_key, view.tags, "", None
    if views.fields or options.vary:
        known = views.fields.get(url_key)
        key, tags, field = _selected(view, ctx, environ, url_key, known or view.always, trusted=trusted)
    if view.reads_itself:
        own = (own[0], len(observe(request)))
    began = time.monotonic_ns()
    policy = view.policy
    lookup = None if field else engine.guarded.read(policy, key, tags)
    entry = lookup.entry if lookup is not None else None
    may_be_forced = views.allow_refresh is not None and "HTTP_CACHE_CONTROL" in environ
    if lookup is not None and entry is not None and not may_be_forced and REFRESHING not in environ:
        content = entry.content
        if (
            type(content) is StoredResponse
            and entry.origin == view.origin
            and (conversion is None or conversion.takes_responses)
            and (not entry.fields or may_have(view, ctx, entry.fields, trusted=trusted))
        ):
            draw = 1.0  # which nothing asks for but an early refresh
            if policy.beta:
                draw = environ.pop(DRAW, 0.0) or chance.draw()
            decision = decide(entry, lookup.now, inside_load=False, beta=policy.beta, draw=draw)
            if decision is Decision.HIT or decision is Decision.REFRESH:
                if decision is Decision.REFRESH and refreshable(view, ctx, kwargs):
                    engine.refresher.submit(key, refresh_job(view, ctx, url_key, lookup.identity))
                answered(request)
                views.observer.hit(policy, key, lookup, began)
                record_read(engine.store, entry)
                if key != url_key:
                    views.uses[key] = views.uses.get(key, 0) + 1
                if view.is_explicit:
                    _mention(view, ctx, entry)
                age = (lookup.now - entry.created) / MICROSECONDS
                asked = environ if environ.keys().isdisjoint(CONDITIONS) else conditions(ctx, view)
                shown = key if view.show_key else None
                found = hit(ready_class(ctx.app.response_class), content, asked, age=age, ttl=entry.ttl, key=shown)
                if view.has_front and conversion is None and is_wrapper(view.endpoint_function(ctx)):
                    environ[SERVED] = Served(view, request, url_key, key, lookup, tuple(found.headers), known)
                return found if conversion is None else conversion.hand_response(found)
    reads = observe(request, session_of(ctx))
    exchange = Exchange(view, ctx, scope, url_key=url_key, args=args, kwargs=kwargs, reads=reads)
    exchange.conversion = conversion
    exchange.key, exchange.tags, exchange.began, exchange.lookup = key, tags, began, lookup
    exchange.trusted, exchange.own_reads = trusted, own
    if field:
        exchange.block(field)
        return exchange
    return exchange.look() or exchange


def _with_authorization(
    view: BoundView,
    ctx: Any,
    scope: Scope,
    conversion: Conversion | None,
    reads: int,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Found:
    """Look a request with Authorization up: it gets only what says itself that such requests may have it.

    Nothing else may say who is asking, and no answer that depends on Authorization is looked at.

    Source: RFC 9111 section 3.5.
    """
    environ = raw_environ(ctx.request)
    record = observe(ctx.request, session_of(ctx))
    others = {name: value for name, value in environ.items() if name != "HTTP_AUTHORIZATION"}
    url_key = None
    if view.bypass(ctx, others, args, kwargs) is None:
        url_key = view.key(ctx, environ, args, kwargs, None)
    if url_key is not None and view.may_permit_authorization(url_key):
        known = view.views.selection_of(url_key, view)
        key, tags, field = _selected(view, ctx, environ, url_key, known, trusted=False)
        if not field:
            exchange = Exchange(view, ctx, scope, url_key=url_key, args=args, kwargs=kwargs, reads=record)
            exchange.conversion, exchange.has_authorization = conversion, True
            exchange.key, exchange.tags, exchange.began = key, tags, time.monotonic_ns()
            exchange.lookup = view.views.engine.guarded.read(view.policy, key, tags)
            if view.reads_itself:
                exchange.own_reads = (reads, len(observe(ctx.request)))
            return exchange.look() or exchange
    view.bypassed(Reason.AUTHORIZATION)
    return Reason.AUTHORIZATION


def _selected(
    view: BoundView, ctx: Any, environ: dict[str, Any], url_key: str, selection: Selection, *, trusted: bool
) -> tuple[str, tuple[str, ...], str]:
    """The key and the tags of the variant that a request asks for; or the field by which it identifies its caller."""
    if selection.identifying and not trusted:
        field = selection.blocked_by(environ, session_of(ctx))
        if field:
            return url_key, view.tags, field
    if not selection.selecting:
        return url_key, view.tags, ""
    key = selected_key(view.views.engine.names, url_key, selection, environ, ctx.request)
    return key, (*view.tags, key_tag(url_key)), ""


def _mention(view: BoundView, ctx: Any, entry: Entry) -> None:
    """Say once, while an app is being developed or tested, that one explicit key is that of two URLs."""
    if not view.views.in_development() or url_tag(view.target(ctx.request)) in dict(entry.tags):
        return
    function = view.options.function
    view.views.observer.warn_once(
        f"urls/{function}",
        "the key_func of %s gives two URLs one key, so that both have one answer; %s is one of them",
        function,
        ctx.request.path,
    )
