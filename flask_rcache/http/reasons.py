"""Why a response was not served from the cache, or not stored: one code and one sentence each.

Owns the vocabulary that ``Cache-Status`` (``detail=``), the counters, the logs and the documentation share.
Deciding which reason applies is done in :mod:`~flask_rcache.http.requests`, in
:mod:`~flask_rcache.http.storable` and by their callers.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Reason"]


class Reason(StrEnum):
    """A reason code, which is also a structured-field token and so goes into ``detail=`` as it is.

    Attributes:
        sentence: one sentence for a person who asks why.
        x_cache: what ``X-Cache`` says beside it: ``BYPASS`` (no lookup was made) or ``MISS`` (not stored).

    Source: RFC 9211 section 2.8 (the ``detail`` parameter).

    >>> Reason.SET_COOKIE.value, Reason.SET_COOKIE.x_cache
    ('SET-COOKIE', 'MISS')
    """

    sentence: str
    x_cache: str

    def __new__(cls, code: str, x_cache: str, sentence: str) -> Reason:
        """A member, whose value is ``code``."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.x_cache = x_cache
        member.sentence = sentence
        return member

    # What the request, or the app, rules out before any lookup.
    METHOD = "METHOD", "BYPASS", "The method is neither GET nor HEAD."
    AUTHORIZATION = (
        "AUTHORIZATION",
        "BYPASS",
        "The request has credentials, and the view is neither shared nor per user, nor does its answer permit it.",
    )
    SESSION = (
        "SESSION",
        "BYPASS",
        "The request has a session cookie, and the view is neither shared nor per user.",
    )
    FIELD = (
        "FIELD",
        "BYPASS",
        "The request has a field that the answer depends on, and that may identify its caller.",
    )
    FLASHES = "FLASHES", "BYPASS", "The session holds flashed messages, which are shown once."
    PRECONDITION = "PRECONDITION", "BYPASS", "The view has to evaluate If-Match and If-Unmodified-Since."
    REQUEST_BODY = "REQUEST-BODY", "BYPASS", "The request has a body, which is not part of the key."
    DISABLED = "DISABLED", "BYPASS", "The cache is switched off."
    UNLESS = "UNLESS", "BYPASS", "The decorator's `unless` returned true."
    KEY = "KEY", "BYPASS", "The decorator's `key_func` gave no key for this request."
    DECORATOR = (
        "DECORATOR",
        "BYPASS",
        "A decorator above `@cache_response` can't work with a cached answer: put `@cache_response` above it.",
    )
    CONTEXT = "CONTEXT", "BYPASS", "The view was called without a request of its own."

    # What the request lets be looked up but not be stored.
    HEAD = "HEAD", "MISS", "Only a GET fills the cache; HEAD is answered from what a GET stored."
    REQUEST_NO_STORE = "REQUEST-NO-STORE", "MISS", "The request says `Cache-Control: no-store`."

    # What the response made impossible to store.
    READ_WHOLE = (
        "READ-WHOLE",
        "MISS",
        "The view read all headers or cookies, so nobody knows what the answer depends on.",
    )
    SHARED_SECRET = (
        "SHARED-SECRET",
        "MISS",
        "The view is `shared=True` and read the session, a credential or a CSRF token.",
    )
    SESSION_CHANGED = "SESSION-CHANGED", "MISS", "The session was changed during the request."
    STATUS = (
        "STATUS",
        "MISS",
        "Responses with this status are stored only if they state a lifetime of their own, if at all.",
    )
    PARTIAL = "PARTIAL", "MISS", "The response is partial, or its length differs from its Content-Length."
    SET_COOKIE = "SET-COOKIE", "MISS", "The response sets a cookie, which is for one client."
    NO_STORE = "NO-STORE", "MISS", "The response says `no-store`."
    PRIVATE = "PRIVATE", "MISS", "The response says `private`, and the key does not name the caller."
    NO_CACHE = (
        "NO-CACHE",
        "MISS",
        "The response says `no-cache`, and has no `ETag` or `Last-Modified` with which it could be revalidated.",
    )
    VARY_STAR = (
        "VARY-STAR",
        "MISS",
        "The response says `Vary: *`, or a malformed Vary: no later request matches it.",
    )
    CONTENT_CODING = (
        "CONTENT-CODING",
        "MISS",
        "The body is encoded, but `Vary` does not name Accept-Encoding.",
    )
    STREAMED = "STREAMED", "MISS", "The body is streamed, so it is not there to be stored."
    NONCE = (
        "NONCE",
        "MISS",
        "The body contains a nonce of its own headers, such as Content-Security-Policy, which each response has anew.",
    )
    TOO_LARGE = "TOO-LARGE", "MISS", "The body is larger than the configured limit."
    NO_FRESHNESS = "NO-FRESHNESS", "MISS", "The response states no lifetime of its own, and needs one."
    ALREADY_STALE = "ALREADY-STALE", "MISS", "By its own headers the response was stale when it arrived."
    TOO_MANY_VARIANTS = "TOO-MANY-VARIANTS", "MISS", "The URL already has as many variants as are kept."
    KEEP = "KEEP", "MISS", "The decorator's `keep` returned false."
    RESULT = (
        "RESULT",
        "MISS",
        "A decorator above `@cache_response` converts what the view returns, which is an object that can't be stored.",
    )
    DEFERRED = "DEFERRED", "MISS", "The view registered `after_this_request`, which a hit would not run."

    # What happened inside the cache.
    STALE_INPUT = "STALE-INPUT", "MISS", "The view used a stale cached value, so its answer was not stored."
    VOLATILE = "VOLATILE", "MISS", "The view read what the database answers differently each time, or to each asker."
    BUSY = "BUSY", "MISS", "Another request is loading the entry, and this one could not wait for it."
    OVERTAKEN = "OVERTAKEN", "MISS", "An invalidation or a newer write came while the view ran."
    ERROR = "ERROR", "MISS", "The store is unavailable or refused the entry."
