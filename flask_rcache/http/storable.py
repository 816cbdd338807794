"""Whether a response may be stored, and for how long.

Owns the rules of RFC 9111 section 3 as a shared cache applies them, made stricter where a mistake would
show one user's page to another. It reads the *final* headers. It does not decide whether to look up
(:mod:`~flask_rcache.http.requests`), and it knows nothing of leases or of how many variants there are.
"""

# Annotations are types here, not their names: a named tuple compiles each name, which takes longer than all else.

from functools import lru_cache
from typing import Final

from ..model.named_tuple import NamedTuple
from .directives import CacheControl, parse_cache_control
from .freshness import current_age, freshness_lifetime
from .headers import Fields, HeaderLines, by_name
from .reasons import Reason
from .requests import RequestFacts
from .revalidation import validators
from .targeted import Control, control_of
from .vary import STAR, normalise_vary

__all__ = ["StorePolicy", "Verdict", "is_for_everyone", "response_verdict"]

#: Stored with the type's ttl. Source: RFC 9110 section 15.1 (heuristically cacheable), without 206.
STORABLE: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})

#: Never stored: what is not the whole of a response. Source: RFC 9111 sections 3 and 3.3.
NEVER: Final = frozenset({206, 304})

#: Statuses whose caching requirements this cache meets, for ``must-understand``.
UNDERSTOOD: Final = STORABLE | frozenset({302, 303, 307, 500, 502, 503, 504})


#: What makes a judgement depend on when it is made.
_DATED: Final = frozenset({"date", "expires"})
#: How many different responses have their judgement kept; those of one view mostly differ in their length alone.
_KEPT: Final = 128


class StorePolicy(NamedTuple):
    """What the cache type and the decorator say about storing.

    Args:
        ttl: seconds, the decorator's effective ttl; ``None`` for FROM_HEADERS.
        stale_while_revalidate: seconds.
        stale_if_error: seconds.
        revalidate: seconds past the ttl in which a response with a validator is kept to be revalidated; ``None``: as
            long as it was fresh, and as the windows above; 0: it is not.
        revalidate_each_time: seconds that a response is kept which is never fresh, where ``revalidate`` is ``None``.
        error_ttl: seconds; the most that a response with a status of 400 and above is kept.
        extra_statuses: statuses to store besides the usual ones, such as 503; 1xx, 206 and 304 never are.
        shared: the answer is the same for everyone, whoever asks.
        per_user: the type is per_user **and** the key names the caller.
        max_body: bytes; ``None`` for no limit.
        hit_for_miss: seconds for which nobody waits for the URL after a response that made itself
            uncacheable.
        hit_for_miss_error: the same after a 5xx.
        targeted: names of the targeted fields that this cache obeys, lower-case.
    """

    ttl: float | None
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    revalidate: float | None = None
    revalidate_each_time: float = 300.0
    error_ttl: float = 10.0
    extra_statuses: frozenset[int] = frozenset()
    shared: bool = False
    per_user: bool = False
    max_body: int | None = None
    hit_for_miss: float = 120.0
    hit_for_miss_error: float = 5.0
    targeted: tuple[str, ...] = ()


class Verdict(NamedTuple):
    """What is to be done with a response.

    Args:
        reason: why it is not stored; ``None`` when it is.
        ttl: seconds, the least of the decorator's and the response's own; 0 when not stored, or when it may be used
            only after it has been revalidated.
        stale_while_revalidate: seconds after the ttl.
        stale_if_error: seconds after the ttl.
        revalidate: seconds after the ttl in which it is kept to be revalidated.
        must_revalidate: the response forbids stale answers; both windows are 0.
        hit_for_miss: seconds for a pass marker; 0 for none.
        vary: the normalised Vary, empty for a single variant.
        age: whole seconds the response had already; goes to :func:`~flask_rcache.http.headers.store_headers`.
    """

    reason: Reason | None = None
    ttl: float = 0.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    revalidate: float = 0.0
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

    Source: RFC 9111 sections 3, 3.5, 4.2 and 5.2.2; RFC 5861; RFC 9213.
    """
    lengths: list[str] = []
    lines: list[tuple[str, str]] = []
    is_dated = False
    for line in headers:
        name = line[0].lower()
        if name == "content-length":
            lengths.append(line[1])
            continue
        lines.append(line)
        is_dated = is_dated or name in _DATED
    of_body = _length_reason(lengths, body_length, policy)
    if is_dated:
        return _judged(status, tuple(lines), policy, request, of_body, now)
    return _known(status, tuple(lines), policy, request, of_body, 0.0)


def _judged(
    status: int,
    headers: tuple[tuple[str, str], ...],
    policy: StorePolicy,
    request: RequestFacts,
    of_body: Reason | None,
    now: float,
) -> Verdict:
    """The judgement, once the length of the body is known to be right (``of_body`` says why it is not)."""
    fields = by_name(headers)
    control = control_of(fields, policy.targeted)
    cc = control.directives
    reason = _request_reason(request, cc, policy)
    if reason is not None:
        return Verdict(reason)
    vary = normalise_vary(fields.get("vary", ()))
    age = current_age(fields, now=now)
    lifetime = freshness_lifetime({} if control.is_targeted else fields, cc, now=now)
    # RFC 9111 section 5.4 gives Pragma no meaning in a response; whoever sends it alone means this.
    no_cache = cc.no_cache or (not control.is_stated and _pragma_no_cache(fields))
    reason = (
        _status_reason(status, lifetime, fields, policy)
        or _directive_reason(status, fields, control, policy)
        or _coding_reason(fields, vary)
        or of_body
    )
    ttl = 0.0
    if reason is None and no_cache:
        reason = Reason.NO_CACHE
    elif reason is None:
        reason = Reason.NO_FRESHNESS if lifetime is None and policy.ttl is None else None
        ttl = _ttl(status, lifetime, age, policy)
        if ttl <= 0.0:
            reason, ttl = reason or Reason.ALREADY_STALE, 0.0
    kept = policy.revalidate
    if kept is None:
        kept = max(ttl or policy.revalidate_each_time, policy.stale_while_revalidate, policy.stale_if_error)
    revalidate = kept if kept and validators(status, headers) else 0.0
    for_one = request.credentials and not (policy.shared or policy.per_user)
    if revalidate and reason in (Reason.NO_CACHE, Reason.ALREADY_STALE) and not for_one:
        reason = None  # it is used only after the view has confirmed it
    if reason is not None and for_one:
        return Verdict(reason)
    if reason is not None:
        return Verdict(reason, hit_for_miss=policy.hit_for_miss_error if status >= 500 else policy.hit_for_miss)
    must_revalidate = cc.must_revalidate or cc.proxy_revalidate or cc.s_maxage is not None or no_cache
    is_never_stale = must_revalidate or not ttl
    return Verdict(
        ttl=ttl,
        stale_while_revalidate=_window(
            status, cc.stale_while_revalidate, policy.stale_while_revalidate, policy, is_never_stale
        ),
        stale_if_error=_window(status, cc.stale_if_error, policy.stale_if_error, policy, is_never_stale),
        revalidate=revalidate,
        must_revalidate=must_revalidate,
        vary=vary,
        age=age,
    )


#: The same, kept for the next response of the same status and lines: most of a view's.
_known: Final = lru_cache(maxsize=_KEPT)(_judged)


def is_for_everyone(headers: HeaderLines, targeted: tuple[str, ...] = ()) -> bool:
    """Whether a response says that it may be used for requests with Authorization, and by a shared cache at all.

    Args:
        headers: the header lines.
        targeted: names of the targeted fields that this cache obeys, lower-case.

    Source: RFC 9111 section 3.5.

    >>> is_for_everyone([("Cache-Control", "max-age=60")]), is_for_everyone([("Cache-Control", "public, max-age=60")])
    (False, True)
    """
    cc = control_of(by_name(headers), targeted).directives
    return _permits_credentials(cc) and not (cc.no_store or cc.private)


def _permits_credentials(cc: CacheControl) -> bool:
    # It knows no sessions: those are no part of it.
    return cc.public or cc.s_maxage is not None or cc.must_revalidate


def _request_reason(request: RequestFacts, cc: CacheControl, policy: StorePolicy) -> Reason | None:
    if request.method != "GET":
        return Reason.HEAD if request.method == "HEAD" else Reason.METHOD
    if request.no_store:
        return Reason.REQUEST_NO_STORE
    if policy.shared or policy.per_user:
        return None
    if request.credentials and not _permits_credentials(cc):
        return Reason.AUTHORIZATION
    return Reason.SESSION if request.session else None


def _status_reason(status: int, lifetime: int | None, fields: Fields, policy: StorePolicy) -> Reason | None:
    if status in NEVER or "content-range" in fields:
        return Reason.STATUS if status == 304 else Reason.PARTIAL
    if not 200 <= status <= 599 or (status >= 400 and not policy.error_ttl):
        return Reason.STATUS
    # RFC 9111 section 3: any final status, when the response says how long it is good.
    is_storable = lifetime is not None or status in STORABLE or status in policy.extra_statuses
    return None if is_storable else Reason.STATUS


def _directive_reason(status: int, fields: Fields, control: Control, policy: StorePolicy) -> Reason | None:
    cc = control.directives
    # On a shared or per_user view too: a stored cookie would hand one client's session to another.
    if "set-cookie" in fields or "set-cookie2" in fields:
        return Reason.SET_COOKIE
    if cc.must_understand:
        # RFC 9111 section 5.2.2.3: `no-store` beside it is for caches that do not know the status.
        if status not in UNDERSTOOD:
            return Reason.STATUS
    elif cc.no_store:
        return Reason.NO_STORE
    return Reason.PRIVATE if cc.private and not policy.per_user else None


def _coding_reason(fields: Fields, vary: tuple[str, ...]) -> Reason | None:
    if vary == STAR:
        return Reason.VARY_STAR
    codings = {coding.strip(" \t").lower() for line in fields.get("content-encoding", ()) for coding in line.split(",")}
    if codings - {"", "identity"} and "accept-encoding" not in vary:
        return Reason.CONTENT_CODING
    return None


def _length_reason(lengths: list[str], body_length: int | None, policy: StorePolicy) -> Reason | None:
    if body_length is None:
        return Reason.STREAMED
    # RFC 9111 section 3.3: an incomplete response is not to be taken for a complete one.
    for stated in lengths:
        if stated.strip(" \t") != str(body_length):
            return Reason.PARTIAL
    if policy.max_body is not None and body_length > policy.max_body:
        return Reason.TOO_LARGE
    return None


def _ttl(status: int, lifetime: int | None, age: int, policy: StorePolicy) -> float:
    bounds: list[float] = []
    if policy.ttl is not None:
        bounds.append(policy.ttl)
    if lifetime is not None:
        bounds.append(lifetime - age)
    if status >= 400:
        bounds.append(policy.error_ttl)
    return min(bounds, default=0.0)


def _window(status: int, stated: int | None, configured: float, policy: StorePolicy, is_never_stale: bool) -> float:
    """One stale window: with a ttl of the decorator's the lesser; with FROM_HEADERS the response's word."""
    if is_never_stale or status >= 400:  # an error is kept for `error_ttl` at most
        return 0.0
    if stated is None:
        return configured
    return float(stated) if policy.ttl is None else min(float(stated), configured)


def _pragma_no_cache(fields: Fields) -> bool:
    return parse_cache_control(fields.get("pragma", ())).no_cache
