"""What a request rules out, before any lookup and before any lease.

Owns the reading of the WSGI environ for that purpose. Whether there is a session is a fact that the caller
finds out; what the response rules out is judged in :mod:`~flask_rcache.http.storable`.
"""

# Annotations are types here, not their names: a named tuple compiles each name, which takes longer than all else.

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..model.named_tuple import NamedTuple
from .directives import parse_cache_control
from .reasons import Reason

__all__ = ["RequestFacts", "credential_names", "names_to_judge", "request_facts", "request_verdict"]

#: What the WSGI server itself says of a caller: mod_wsgi and others.
_SERVER_NAMES: Final = frozenset({"HTTP_AUTHORIZATION", "REMOTE_USER", "AUTH_TYPE", "SSL_CLIENT_VERIFY"})


class RequestFacts(NamedTuple):
    """What the judgement of a response needs to know of its request.

    Args:
        method: as it came, ``"GET"``.
        credentials: the request carries Authorization, or the server in front has authenticated it.
        session: the request carries a session cookie.
        no_store: the request says ``Cache-Control: no-store``.
    """

    method: str = "GET"
    credentials: bool = False
    session: bool = False
    no_store: bool = False


def credential_names(fields: Iterable[str]) -> frozenset[str]:
    """The names in an environ that identify a caller.

    Args:
        fields: header fields that do, beside ``Authorization``: those of proxies that authenticate, and API keys.

    >>> sorted(credential_names(["X-Forwarded-User"]) - credential_names([]))
    ['HTTP_X_FORWARDED_USER']
    """
    return _SERVER_NAMES | {"HTTP_" + field.upper().replace("-", "_") for field in fields}


def _bears_credentials(environ: Mapping[str, Any], names: frozenset[str]) -> bool:
    if environ.keys().isdisjoint(names):
        return False
    if "HTTP_AUTHORIZATION" in environ or environ.get("SSL_CLIENT_VERIFY") == "SUCCESS":
        return True
    # Empty means an anonymous user.
    return any(environ.get(name) for name in names if name != "SSL_CLIENT_VERIFY")


def request_verdict(
    environ: Mapping[str, Any],
    session: bool,
    *,
    credentials_ok: bool,
    credentials: frozenset[str] = _SERVER_NAMES,
) -> Reason | None:
    """The reason for which a request bypasses the cache, ``None`` when it may be looked up.

    One with a body may not: the key does not cover it, and the view might answer something else than the URL's page
    (cache poisoning by a "fat GET").

    Args:
        environ: the WSGI environ.
        session: whether the request carries a session cookie.
        credentials_ok: the answer is the same for everyone (``shared``), or the key names the caller
            (a ``key_func`` on a ``per_user`` type).
        credentials: names in the environ that identify a caller, see :func:`credential_names`.

    Source: RFC 9111 sections 3.5 (Authorization) and 4; RFC 9110 sections 9.3.1 (content in a GET), 13.1.1
    and 13.1.4 (If-Match and If-Unmodified-Since).

    >>> request_verdict({"REQUEST_METHOD": "GET"}, False, credentials_ok=False) is None
    True
    """
    method = environ["REQUEST_METHOD"]
    if method != "GET" and method != "HEAD":
        return Reason.METHOD
    if not credentials_ok:
        if _bears_credentials(environ, credentials):
            return Reason.AUTHORIZATION
        if session:
            return Reason.SESSION
    if "HTTP_IF_MATCH" in environ or "HTTP_IF_UNMODIFIED_SINCE" in environ:
        return Reason.PRECONDITION
    if _has_body(environ):
        return Reason.REQUEST_BODY
    return None


def names_to_judge(credentials: frozenset[str], *, credentials_ok: bool) -> frozenset[str]:
    """The names in an environ that :func:`request_verdict` is about: a GET or HEAD without any may be looked up.

    Args:
        credentials: names that identify a caller, see :func:`credential_names`.
        credentials_ok: as for :func:`request_verdict`.

    >>> "HTTP_COOKIE" in names_to_judge(credential_names([]), credentials_ok=True)
    False
    """
    callers = frozenset() if credentials_ok else credentials | {"HTTP_COOKIE"}
    return callers | {"HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}


def request_facts(
    environ: Mapping[str, Any], session: bool, *, credentials: frozenset[str] = _SERVER_NAMES
) -> RequestFacts:
    """The facts for :func:`~flask_rcache.http.storable.response_verdict`; needed on a miss only.

    Args:
        environ: the WSGI environ.
        session: whether the request carries a session cookie.
        credentials: names in the environ that identify a caller, see :func:`credential_names`.

    Source: RFC 9111 section 5.2.1.5 (``no-store`` in a request); the other request directives are ignored,
    since obeying ``no-cache`` would let anyone switch the cache off.
    """
    cache_control: str | None = environ.get("HTTP_CACHE_CONTROL")
    return RequestFacts(
        method=environ["REQUEST_METHOD"],
        credentials=not environ.keys().isdisjoint(credentials) and _bears_credentials(environ, credentials),
        session=session,
        no_store=cache_control is not None and parse_cache_control([cache_control]).no_store,
    )


def _has_body(environ: Mapping[str, Any]) -> bool:
    """Whether content comes with the request; a server may state a length of nothing or of 0 for none."""
    length = environ.get("CONTENT_LENGTH")
    return (length is not None and length not in ("", "0")) or "HTTP_TRANSFER_ENCODING" in environ
