"""Whether a response may be stored, and for how long.

Owns the rules of RFC 9111 section 3 as a shared cache applies them, made stricter where a mistake would
show one user's page to another. It reads the *final* headers. It does not decide whether to look up
(:mod:`~flask_rcache.http.requests`), and it knows nothing of leases or of how many variants there are.
"""

# Annotations are types here, not their names: a named tuple compiles each name, which takes longer than all else.

from typing import Final, NamedTuple

from .directives import CacheControl, parse_cache_control
from .freshness import current_age, freshness_lifetime
from .headers import Fields, HeaderLines, by_name
from .reasons import Reason
from .requests import RequestFacts
from .vary import STAR, normalise_vary

__all__ = ["StorePolicy", "Verdict", "response_verdict"]

#: Stored with the type's ttl. Source: RFC 9110 section 15.1 (heuristically cacheable), without 206.
STORABLE: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})

#: Stored when the response itself states a lifetime. Source: RFC 9110 sections 15.4.3, 15.4.4 and 15.4.8.
EXPLICIT_ONLY: Final = frozenset({302, 303, 307})

#: Statuses whose caching requirements this cache meets, for ``must-understand``.
UNDERSTOOD: Final = STORABLE | EXPLICIT_ONLY | frozenset({500, 502, 503, 504})


class StorePolicy(NamedTuple):
    """What the cache type and the decorator say about storing.

    Args:
        ttl: seconds, the decorator's effective ttl; ``None`` for FROM_HEADERS.
        stale_while_revalidate: seconds.
        stale_if_error: seconds.
        error_ttl: seconds; the most that a response with a status of 400 and above is kept.
        extra_statuses: statuses to store besides the usual ones, such as 503; 1xx, 206 and 304 never are.
        shared: the answer is the same for everyone, whoever asks.
        per_user: the type is per_user **and** the key names the caller.
        max_body: bytes; ``None`` for no limit.
        hit_for_miss: seconds for which nobody waits for the URL after a response that made itself
            uncacheable.
        hit_for_miss_error: the same after a 5xx.
    """

    ttl: float | None
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    error_ttl: float = 10.0
    extra_statuses: frozenset[int] = frozenset()
    shared: bool = False
    per_user: bool = False
    max_body: int | None = None
    hit_for_miss: float = 120.0
    hit_for_miss_error: float = 5.0


class Verdict(NamedTuple):
    """What is to be done with a response.

    Args:
        reason: why it is not stored; ``None`` when it is.
        ttl: seconds, the least of the decorator's and the response's own; 0 when not stored.
        stale_while_revalidate: seconds after the ttl.
        stale_if_error: seconds after the ttl.
        must_revalidate: the response forbids stale answers; both windows are 0.
        hit_for_miss: seconds for a pass marker; 0 for none.
        vary: the normalised Vary, empty for a single variant.
        age: whole seconds the response had already; goes to :func:`~flask_rcache.http.headers.store_headers`.
    """

    reason: Reason | None = None
    ttl: float = 0.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    must_revalidate: bool = False
    hit_for_miss: float = 0.0
    vary: tuple[str, ...] = ()
    age: int = 0

    @property
    def storable(self) -> bool:
        """Whether the response may be stored."""
        return self.reason is None


def response_verdict(
    status: int,
    headers: HeaderLines,
    *,
    policy: StorePolicy,
    request: RequestFacts,
    body_length: int | None,
    now: float,
) -> Verdict:
    """Judge a response by its final status and headers.

    What the request makes impossible is looked at first and leaves no pass marker: one visitor with
    credentials must not change how the URL is served to the others.

    Args:
        status: the status code.
        headers: all final header lines, session cookie included.
        policy: the type's and the decorator's say.
        request: the facts of the request it answers.
        body_length: bytes; ``None`` when the body is streamed.
        now: the wall clock, seconds since the epoch; used with ``Date`` and ``Expires`` only.

    Source: RFC 9111 sections 3, 3.5, 4.2 and 5.2.2; RFC 5861.
    """
    fields = by_name(headers)
    cc = parse_cache_control(fields.get("cache-control", ()))
    reason = _request_reason(request, cc, policy)
    if reason is not None:
        return Verdict(reason)
    vary = normalise_vary(fields.get("vary", ()))
    age = current_age(fields, now=now)
    lifetime = freshness_lifetime(fields, cc, now=now)
    reason = (
        _status_reason(status, fields, policy)
        or _directive_reason(status, fields, cc, policy)
        or _body_reason(fields, vary, body_length, policy)
        or _freshness_reason(status, lifetime, age, policy)
    )
    if reason is not None:
        return Verdict(reason, hit_for_miss=policy.hit_for_miss_error if status >= 500 else policy.hit_for_miss)
    must_revalidate = cc.must_revalidate or cc.proxy_revalidate or cc.s_maxage is not None
    return Verdict(
        ttl=_ttl(status, lifetime, age, policy),
        stale_while_revalidate=_window(
            status, cc.stale_while_revalidate, policy.stale_while_revalidate, policy, must_revalidate
        ),
        stale_if_error=_window(status, cc.stale_if_error, policy.stale_if_error, policy, must_revalidate),
        must_revalidate=must_revalidate,
        vary=vary,
        age=age,
    )


def _request_reason(request: RequestFacts, cc: CacheControl, policy: StorePolicy) -> Reason | None:
    if request.method != "GET":
        return Reason.HEAD if request.method == "HEAD" else Reason.METHOD
    if request.no_store:
        return Reason.REQUEST_NO_STORE
    if policy.shared or policy.per_user:
        return None
    # RFC 9111 section 3.5 lets the origin say that an answer to credentials is for everyone. It knows no
    # sessions.
    for_everyone = cc.public or cc.s_maxage is not None or cc.must_revalidate
    if request.credentials and not for_everyone:
        return Reason.AUTHORIZATION
    return Reason.SESSION if request.session else None


def _status_reason(status: int, fields: Fields, policy: StorePolicy) -> Reason | None:
    if status == 206 or "content-range" in fields:
        return Reason.PARTIAL
    if status < 200 or status == 304:
        return Reason.STATUS
    if status in STORABLE or status in EXPLICIT_ONLY or status in policy.extra_statuses:
        return None
    return Reason.STATUS


def _directive_reason(status: int, fields: Fields, cc: CacheControl, policy: StorePolicy) -> Reason | None:
    # On a shared or per_user view too: a stored cookie would hand one client's session to another.
    if "set-cookie" in fields or "set-cookie2" in fields:
        return Reason.SET_COOKIE
    if cc.must_understand:
        # RFC 9111 section 5.2.2.3: `no-store` beside it is for caches that do not know the status.
        if status not in UNDERSTOOD:
            return Reason.STATUS
    elif cc.no_store:
        return Reason.NO_STORE
    if cc.private and not policy.per_user:
        return Reason.PRIVATE
    # RFC 9111 section 5.4 gives Pragma no meaning in a response; whoever sends it alone means this.
    if cc.no_cache or ("cache-control" not in fields and _pragma_no_cache(fields)):
        return Reason.NO_CACHE
    return None


def _body_reason(fields: Fields, vary: tuple[str, ...], body_length: int | None, policy: StorePolicy) -> Reason | None:
    if vary == STAR:
        return Reason.VARY_STAR
    codings = {coding.strip(" \t").lower() for line in fields.get("content-encoding", ()) for coding in line.split(",")}
    if codings - {"", "identity"} and "accept-encoding" not in vary:
        return Reason.CONTENT_CODING
    if body_length is None:
        return Reason.STREAMED
    # RFC 9111 section 3.3: an incomplete response is not to be taken for a complete one.
    if any(line.strip(" \t") != str(body_length) for line in fields.get("content-length", ())):
        return Reason.PARTIAL
    if policy.max_body is not None and body_length > policy.max_body:
        return Reason.TOO_LARGE
    return None


def _freshness_reason(status: int, lifetime: int | None, age: int, policy: StorePolicy) -> Reason | None:
    if lifetime is None:
        needs_its_own = policy.ttl is None or (status in EXPLICIT_ONLY and status not in policy.extra_statuses)
        return Reason.NO_FRESHNESS if needs_its_own else None
    return Reason.ALREADY_STALE if lifetime <= age else None


def _ttl(status: int, lifetime: int | None, age: int, policy: StorePolicy) -> float:
    bounds: list[float] = []
    if policy.ttl is not None:
        bounds.append(policy.ttl)
    if lifetime is not None:
        bounds.append(lifetime - age)
    if status >= 400:
        bounds.append(policy.error_ttl)
    return min(bounds)


def _window(status: int, stated: int | None, configured: float, policy: StorePolicy, must_revalidate: bool) -> float:
    """One stale window: with a ttl of the decorator's the lesser; with FROM_HEADERS the response's word."""
    if must_revalidate or status >= 400:  # an error is kept for `error_ttl` at most
        return 0.0
    if stated is None:
        return configured
    return float(stated) if policy.ttl is None else min(float(stated), configured)


def _pragma_no_cache(fields: Fields) -> bool:
    return parse_cache_control(fields.get("pragma", ())).no_cache
