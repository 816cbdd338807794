"""Why a request is answered from the cache or not, without running its view.

Owns the walk from a URL to its endpoint, its decorated view, its key and what is stored there; each step asks the
module that decides it for real requests. What runs is the app's ``key_func`` and ``unless``: the key is made by them.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeVar

from flask import Flask
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import RequestRedirect
from werkzeug.urls import iri_to_uri
from werkzeug.wsgi import get_current_url

from ..context import context, manager_of
from ..engine.admission import fresh
from ..errors import ConfigError, StoreError
from ..http import Reason, parse_cache_control, variant_id
from ..model.entry import Freshness, StoredResponse, is_marker
from ..stores.protocol import Reading
from ..views.background import refreshable
from ..views.binding import Binding, Options, options_of
from ..views.lookup import Lookup
from ..views.variants import names_of_marker
from .types import ttl_document, ttl_source

__all__ = ["Explanation", "Stored", "explained", "in_new_context"]

_UNFIT: Final = {
    "invalid": "What was stored has been invalidated.",
    "garbage": "What is stored cannot be read.",
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
        shown = get_current_url(asked.request.environ)
    except ValueError as error:  # among them half characters
        raise ConfigError(f"this cannot be sent as a request: {error}") from error
    with asked as ctx:
        request = ctx.request
        told = Explanation(method=request.method, url=shown)
        failure = request.routing_exception
        if failure is not None:
            return _not_routed(told, failure)
        assert request.endpoint is not None
        told.endpoint = request.endpoint
        view = app.view_functions.get(request.endpoint)
        options = _options(view, request.method)
        if options is not None:
            _decided(told, app, options)
        else:
            told.verdict = "NOT-DECORATED"
            told.because = f"What answers at the endpoint {told.endpoint!r} is not decorated with @cache_response."
            if request.method in _ASKING:
                told.notes.append("A view that calls another decorated function is seen with --run only.")
        if request.method not in _SAFE and any(options_of(view)):
            told.notes.append(f"When a {request.method} succeeds, what is stored for this URL is invalidated.")
    return told


def _options(view: Any, method: str) -> Options | None:
    """What stands above what answers; in a class-based view each method has its own."""
    handler = getattr(getattr(view, "view_class", None), method.lower(), None)
    if handler is None or method in _ASKING:
        return next(options_of(view), None)
    own = getattr(view, "rcache_options", None)  # its `decorators` stand here
    return own if isinstance(own, Options) else next(options_of(handler), None)


def _not_routed(told: Explanation, failure: Exception) -> Explanation:
    told.verdict = "NO-VIEW"
    if isinstance(failure, RequestRedirect):
        told.because = f"The routing answers with a redirect to {failure.new_url}: ask for that."
    elif isinstance(failure, MethodNotAllowed):
        told.because = f"No view takes {told.method}; this URL takes {', '.join(sorted(failure.valid_methods or ()))}."
    elif isinstance(failure, HTTPException) and failure.code == 400:
        told.because = "The host is none of TRUSTED_HOSTS: give the whole URL, as clients ask for it."
    else:
        told.because = "No view has this URL."
        told.notes.append("The host decides too where a route has one: give the whole URL, as clients ask for it.")
    return told


def _decided(told: Explanation, app: Flask, options: Options) -> None:
    """Follow the request through the decorator."""
    ctx = context()
    assert ctx is not None
    manager = manager_of(app)
    binding = Binding.of(options, manager)
    told.view, told.type = options.function, binding.policy.name
    told.ttl = ttl_document(binding.policy.ttl)
    told.ttl_from = ttl_source(manager, app.config, binding.policy.type, options.ttl)
    request = ctx.request
    environ = request.environ
    args: tuple[Any, ...] = (None,) if options.is_method else ()
    kwargs = dict(request.view_args or {})
    try:
        reason = binding.bypass(manager, ctx, environ, args, kwargs)
        if reason is None or options.key_func is None:  # else it is not asked
            told.key = binding.key(manager, ctx, environ, args, kwargs)
    except Exception as error:  # noqa: BLE001  # the app's own functions, without what before_request gives them
        told.because = f"The decorator's functions raised {type(error).__name__} here, where nothing runs before them."
        told.notes.append("--run sends the request through the whole app.")
        return
    if reason is None and told.key is None:
        reason = Reason.KEY
    if reason is not None:
        _ruled_out(told, reason)
    if told.key is not None:
        visit = Lookup(binding, manager, ctx, told.key, (args, kwargs))
        _looked(told, visit, asks=reason is None)
    _noted(told, binding, environ, asks=reason is None)


def _ruled_out(told: Explanation, reason: Reason) -> None:
    told.verdict, told.reason, told.because = "BYPASS", reason.value, reason.sentence
    if reason in (Reason.AUTHORIZATION, Reason.SESSION):
        told.notes.append(
            "It is cached for everyone with shared=True, and for each caller with a per_user type and key_func=by_user."
        )


def _looked(told: Explanation, visit: Lookup, *, asks: bool) -> None:
    """Look under the key, and say what a request would get that may ask."""
    try:
        reading = _read(told, visit)
    except StoreError as error:
        told.store_away = str(error)
        told.because = told.because or "The store is away, so the view would run."
        if asks:
            told.verdict = "MISS"
        return
    entry = reading.entry
    freshness = None
    if entry is not None and isinstance(entry.content, StoredResponse) and entry.content.status:
        freshness = entry.freshness(reading.now)
        told.stored = Stored(
            visit.key,
            entry.content.status,
            round(entry.age(reading.now), 3),
            round(entry.ttl - entry.age(reading.now), 3),
            freshness.value,
            reading.size,
            round(entry.cost, 6),
        )
    if not asks:
        return
    if freshness is Freshness.FRESH:
        told.verdict, told.because = "HIT", "A fresh response is stored."
    elif freshness is Freshness.STALE and refreshable(visit):
        told.verdict, told.because = "STALE", "What is stored has expired, and is served while a new one is loaded."
    else:
        _missed(told, visit, reading, freshness)


def _read(told: Explanation, visit: Lookup) -> Reading:
    """Read the key of the URL, or that of the variant to which its marker leads."""
    store, ask = visit.manager.store, visit.binding.ask  # without a hold: not from the memory of this process
    reading = store.read(visit.stored, ask)
    entry = fresh(reading)
    content = entry.content if entry is not None else None
    names = visit.binding.options.vary
    if isinstance(content, StoredResponse) and is_marker(content):
        names = names_of_marker(content)
    if names:
        visit.key = visit.manager.names.variant(visit.stored, variant_id(names, visit.environ))
        reading = store.read(visit.key, ask)
    told.key, told.varies_by = visit.key, list(names)
    return reading


def _missed(told: Explanation, visit: Lookup, reading: Reading, freshness: Freshness | None) -> None:
    told.verdict = "MISS"
    if reading.entry is None:
        told.because = _UNFIT.get(reading.unfit, "Nothing is stored for it.")
    elif freshness is None:
        told.because = "What lies under the key is a value and not a response."
    else:
        told.because = "What is stored has expired."
        if freshness is Freshness.ERROR_ONLY:
            told.notes.append("The expired response is served if the view fails.")
    facts = visit.facts
    reason = Reason.HEAD if facts.method != "GET" else Reason.REQUEST_NO_STORE if facts.no_store else None
    if reason is not None:
        told.reason = reason.value
        told.because += f" The answer would not be stored: {reason.sentence}"
    else:
        told.notes.append("Whether the answer may be stored is known when there is one: --run.")


def _noted(told: Explanation, binding: Binding, environ: Mapping[str, Any], *, asks: bool) -> None:
    options = binding.options
    if told.varies_by:
        told.notes.append(
            f"The answer varies by {', '.join(told.varies_by)}: the key is that of this request's variant."
        )
    if told.key is not None and (options.key_func is None or options.composes):
        scheme, host = environ["wsgi.url_scheme"], environ.get("HTTP_HOST", "")
        told.notes.append(f"Scheme and host are in the key, here {scheme}://{host}: give the URL that clients use.")
    asked = parse_cache_control([environ.get("HTTP_CACHE_CONTROL", "")])
    if asks and (asked.no_cache or asked.max_age == 0):
        told.notes.append("Its no-cache counts only for whom RCACHE_ALLOW_REFRESH allows to force a new load.")
