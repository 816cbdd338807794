"""Why a request is answered from the cache or not, without running its view.

Owns the walk from a URL to its endpoint, its decorated view, its key and what is stored there; each step asks the
module that decides it for real requests. What runs is the app's ``key_func`` and ``unless``: the key is made by them.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeVar

from flask import Flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect
from werkzeug.urls import iri_to_uri
from werkzeug.wsgi import get_current_url

from ..engine.decision import Decision, decide, fresh
from ..errors import ConfigError, StoreError
from ..http import Reason, parse_cache_control, shown_field
from ..model.entry import Freshness, StoredResponse, VariantMarker
from ..model.keys import key_tag
from ..model.named_tuple import NamedTuple
from ..observed import raw_environ, session_of
from ..stores.protocol import Lookup
from ..views.background import refreshable
from ..views.bound import AppViews, BoundView, remedy_for
from ..views.options import Options, options_of
from ..views.variants import selected_key
from .types import ttl_document, ttl_source

__all__ = ["Explanation", "Stored", "explained", "in_new_context"]

_UNUSABLE: Final = {
    "invalid": "What was stored has been invalidated.",
    "garbage": "What is stored cannot be read.",
    "not-authentic": "What is stored was not sealed for this key with one of RCACHE_ENCRYPTION_KEYS.",
}

_ASKING: Final = ("GET", "HEAD")
_SAFE: Final = (*_ASKING, "OPTIONS", "TRACE")

T = TypeVar("T")


@dataclass(slots=True)
class Stored:
    """What lies under the key now; seconds, and bytes."""

    key: str
    status: str
    age: float
    ttl: float
    freshness: str
    size: int
    cost: float


@dataclass(slots=True)
class Explanation:
    """What the cache would do with a request.

    Attributes:
        verdict: ``HIT``, ``STALE``, ``MISS`` or ``BYPASS`` as in ``X-Cache``; else ``NO-VIEW``, ``NOT-DECORATED`` or
            ``UNKNOWN``.
        reason: the code of a bypass, or of why a miss would not be stored.
        because: one sentence.
        stored: what lies under the key now.
        notes: what else decides.
    """

    method: str
    url: str
    verdict: str = "UNKNOWN"
    reason: str | None = None
    because: str = ""
    endpoint: str | None = None
    view: str | None = None
    type: str | None = None
    ttl: float | str | None = None
    ttl_from: str | None = None
    key: str | None = None
    varies_by: list[str] = field(default_factory=list)
    stored: Stored | None = None
    notes: list[str] = field(default_factory=list)
    store_away: str | None = None

    def document(self) -> dict[str, Any]:
        """It as JSON."""
        return asdict(self)


def in_new_context(act: Callable[[], T]) -> T:
    """Run something as a server would: outside the command's own application context."""
    return contextvars.Context().run(act)


def explained(app: Flask, url: str, *, method: str, headers: Mapping[str, str]) -> Explanation:
    """Explain a request.

    Args:
        app: the app that would answer it.
        url: a path, or a whole URL with the host that clients ask for.
        method: ``GET``.
        headers: the request's fields.
    """
    return in_new_context(lambda: _explained(app, url, method, headers))


def _explained(app: Flask, url: str, method: str, headers: Mapping[str, str]) -> Explanation:
    try:
        asked = app.test_request_context(iri_to_uri(url), method=method, headers=dict(headers))
    except ValueError as error:  # among them lone surrogates
        raise ConfigError(f"this cannot be sent as a request: {error}") from error
    shown = url
    with suppress(UnicodeError):  # a host that is no IDNA, as `xn--`: a client may send it all the same
        shown = get_current_url(asked.request.environ)
    with asked as ctx:
        request = ctx.request
        found = Explanation(method=request.method, url=shown)
        failure = request.routing_exception
        if failure is not None:
            return _not_routed(found, failure)
        assert request.endpoint is not None
        found.endpoint = request.endpoint
        view = app.view_functions.get(request.endpoint)
        options = _options(view, request.method)
        if options is not None:
            _decided(found, app, ctx, options)
        else:
            found.verdict = "NOT-DECORATED"
            found.because = f"The view at the endpoint {found.endpoint!r} is not decorated with @cache_response."
            if request.method in _ASKING:
                found.notes.append("A view that calls another decorated function is seen with --run only.")
        if request.method not in _SAFE and any(options_of(view)):
            found.notes.append(f"When a {request.method} succeeds, what is stored for this URL is invalidated.")
    return found


def _options(view: Any, method: str) -> Options | None:
    """The options of what answers; in a class-based view each method has its own."""
    handler = getattr(getattr(view, "view_class", None), method.lower(), None)
    if handler is None or method in _ASKING:
        return next(options_of(view), None)
    own = getattr(view, "rcache_options", None)  # its `decorators` stand here
    return own if isinstance(own, Options) else next(options_of(handler), None)


def _not_routed(found: Explanation, failure: Exception) -> Explanation:
    found.verdict = "NO-VIEW"
    if isinstance(failure, RequestRedirect):
        found.because = f"The routing answers with a redirect to {failure.new_url}: ask for that."
    elif isinstance(failure, MethodNotAllowed):
        found.because = (
            f"No view takes {found.method}; this URL takes {', '.join(sorted(failure.valid_methods or ()))}."
        )
    elif isinstance(failure, HTTPException) and failure.code == 400:
        found.because = "The host is not one of TRUSTED_HOSTS: give the whole URL that clients use."
    else:
        found.because = "No view has this URL."
        found.notes.append("Routes may depend on the host: give the whole URL that clients use.")
    return found


class _Asked(NamedTuple):
    """A request for a decorated view."""

    view: BoundView
    ctx: Any
    kwargs: dict[str, Any]
    url_key: str
    trusted: bool

    @property
    def environ(self) -> dict[str, Any]:
        return raw_environ(self.ctx.request)


def _decided(found: Explanation, app: Flask, ctx: Any, options: Options) -> None:
    """Follow the request through the decorator."""
    views = AppViews.of(app)
    view = views.view(options)
    found.view, found.type = options.function, view.policy.name
    found.ttl = ttl_document(view.policy.ttl)
    found.ttl_from = ttl_source(views.manager, view.policy.type, options.ttl)
    environ = raw_environ(ctx.request)
    args: tuple[Any, ...] = (None,) if options.is_method else ()
    kwargs = dict(ctx.request.view_args or {})
    try:
        reason = view.bypass(ctx, environ, args, kwargs)
        trusted, named = view.credentials_ok, None
        if reason is None:
            reason, trusted, named = view.called_by(ctx, environ)
        if reason is None or options.key_func is None:  # else it is not asked
            found.key = view.key(ctx, environ, args, kwargs, named)
    except Exception as error:  # noqa: BLE001  # the app's own functions, without what before_request gives them
        found.because = f"The decorator's functions raised {type(error).__name__} here, where nothing runs before them."
        found.notes.append("--run sends the request through the whole app.")
        return
    if reason is None and found.key is None:
        reason = Reason.KEY
    if reason is not None:
        _ruled_out(found, reason)
    if found.key is not None:
        _looked(found, _Asked(view, ctx, kwargs, found.key, trusted), asks=reason is None)
    _noted(found, options, environ, asks=reason is None)


def _ruled_out(found: Explanation, reason: Reason) -> None:
    found.verdict, found.reason, found.because = "BYPASS", reason.value, reason.sentence
    if reason in (Reason.AUTHORIZATION, Reason.SESSION):
        found.notes.append(
            "It is cached for everyone with shared=True, and for each caller with a per_user type and key_func=by_user."
        )


def _looked(found: Explanation, asked: _Asked, *, asks: bool) -> None:
    """Look under the key, and say what a request would get that uses the cache."""
    try:
        lookup = _read(found, asked)
    except StoreError as error:
        found.store_away = str(error)
        found.because = found.because or "The store is unavailable, so the view would run."
        if asks:
            found.verdict = "MISS"
        return
    entry = lookup.entry
    if entry is not None and isinstance(entry.content, StoredResponse):
        found.stored = Stored(
            found.key or "",
            entry.content.status,
            round(entry.age(lookup.now), 3),
            round(entry.ttl - entry.age(lookup.now), 3),
            entry.freshness(lookup.now).value,
            lookup.size,
            round(entry.cost, 6),
        )
    if not asks or found.reason is not None:
        return
    if entry is not None and isinstance(entry.content, StoredResponse):
        field = _blocked(asked, entry.fields)
        if field:
            _has_field(found, field)
            return
    policy = asked.view.policy
    decision = Decision.LOAD
    if found.stored is not None and entry is not None and entry.origin == asked.view.origin:
        decision = decide(entry, lookup.now, inside_load=False, beta=policy.beta, draw=1.0)
    if decision in (Decision.HIT, Decision.REFRESH):
        found.verdict, found.because = "HIT", "A fresh response is stored."
    elif decision is Decision.STALE and refreshable(asked.view, asked.ctx, asked.kwargs):
        found.verdict, found.because = "STALE", "What is stored has expired, and is served while a new one is loaded."
    else:
        _missed(found, asked, lookup)


def _read(found: Explanation, asked: _Asked) -> Lookup:
    """Read the key of the URL, or that of the variant to which its marker leads."""
    engine, view = asked.view.views.engine, asked.view
    lookup = engine.store.read(asked.url_key, view.tags)  # without an l1_ttl: not from the memory of this process
    entry = fresh(lookup)
    selection = view.always
    if entry is not None and isinstance(entry.content, VariantMarker):
        selection = view.selection(entry.content.fields)
        field = _blocked(asked, entry.content.fields)
        if field:
            _has_field(found, field)
    found.varies_by = [shown_field(field) for field in selection.selecting]
    if selection.selecting:
        found.key = selected_key(engine.names, asked.url_key, selection, asked.environ, asked.ctx.request)
        lookup = engine.store.read(found.key, (*view.tags, key_tag(asked.url_key)))
    return lookup


def _blocked(asked: _Asked, fields: tuple[str, ...]) -> str:
    """What of the request keeps it from answers that depend on fields."""
    if asked.trusted:
        return ""
    return asked.view.selection(fields).blocked_by(asked.environ, session_of(asked.ctx))


def _has_field(found: Explanation, field: str) -> None:
    found.verdict, found.reason = "BYPASS", Reason.FIELD.value
    found.because = (
        f"The request has {shown_field(field)}, which the answer depends on and which may identify its caller."
    )
    found.notes.append(f"{remedy_for(field)}.")


def _missed(found: Explanation, asked: _Asked, lookup: Lookup) -> None:
    found.verdict = "MISS"
    entry = lookup.entry
    if entry is None:
        found.because = _UNUSABLE.get(lookup.reason, "Nothing is stored for it.")
    elif found.stored is None:
        found.because = "What lies under the key is a value and not a response."
    elif entry.origin != asked.view.origin:
        found.because = "What lies under the key was stored by another view."
    else:
        found.because = "What is stored has expired."
        if entry.freshness(lookup.now) is Freshness.ERROR_ONLY:
            found.notes.append("The expired response is served if the view fails.")
    facts = asked.view.facts(asked.ctx, asked.environ)
    reason = Reason.HEAD if facts.method != "GET" else Reason.REQUEST_NO_STORE if facts.no_store else None
    if reason is not None:
        found.reason = reason.value
        found.because += f" The answer would not be stored: {reason.sentence}"
    else:
        found.notes.append("Whether the answer may be stored is known when there is one: --run.")


def _noted(found: Explanation, options: Options, environ: Mapping[str, Any], *, asks: bool) -> None:
    if found.varies_by:
        found.notes.append(
            f"The answer varies by {', '.join(found.varies_by)}: the key is that of this request's variant."
        )
    if found.key is not None and (options.key_func is None or options.composes):
        scheme, host = environ["wsgi.url_scheme"], environ.get("HTTP_HOST", "")
        found.notes.append(f"Scheme and host are in the key, here {scheme}://{host}: give the URL that clients use.")
    asked = parse_cache_control([environ.get("HTTP_CACHE_CONTROL", "")])
    if asks and (asked.no_cache or asked.max_age == 0):
        found.notes.append("Its no-cache counts only for those whom RCACHE_ALLOW_REFRESH allows to force a new load.")
