"""What selects the answer among those of one URL: the fields of the request that were read to make its answers.

Owns the spelling of a field, which kind each one is (it negotiates content, it identifies a caller, it says nothing),
and the comparison of a request with what an answer was made for. Which fields were read is observed elsewhere.

A field is the name of a header field in lower case, or a kind and a name: ``cookie:lang``, ``arg:page``,
``session:cart``, ``environ:REMOTE_USER``, ``request:remote_addr``, ``request:body``. As it is kept with answers, one
that a request must not have begins with ``!``; the others select by their values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl

from .vary import cookies_of, environ_key, variant_id

__all__ = [
    "ADDRESS",
    "BODY",
    "QUIET_SESSION",
    "TARGET",
    "FieldRules",
    "Selection",
    "environ_field",
    "field_of",
    "is_field",
    "is_neutral",
    "is_own_field",
    "may_have_body",
    "session_identifies",
    "session_value",
    "shown_field",
    "united",
]

#: The client's address, the content of a request, and the URL as it was sent: several spellings are one URL.
ADDRESS: Final = "request:remote_addr"
BODY: Final = "request:body"
TARGET: Final = "request:target"

#: What asks for one of several representations of a resource; with ``Accept`` and ``Accept-*``.
_NEGOTIATED: Final = frozenset(
    {
        "content-type",
        "hx-boosted",
        "hx-request",
        "hx-target",
        "origin",
        "prefer",
        "save-data",
        "turbo-frame",
        "user-agent",
        "x-requested-with",
    }
)
_NEGOTIATED_BEGINNINGS: Final = ("accept-", "sec-ch-", "sec-fetch-")
#: By which one request is followed through logs and services: it says nothing of who sends it.
_TRACING: Final = frozenset(
    {
        "b3",
        "baggage",
        "cf-ray",
        "newrelic",
        "sentry-trace",
        "traceparent",
        "tracestate",
        "uber-trace-id",
        "x-amzn-trace-id",
        "x-cloud-trace-context",
        "x-correlation-id",
        "x-newrelic-id",
        "x-newrelic-transaction",
        "x-queue-start",
        "x-request-id",
        "x-request-start",
    }
)
_TRACING_BEGINNINGS: Final = ("x-b3-", "x-datadog-")
#: What servers, proxies, tracing and browsers put on every request, and code that runs on every request reads.
_IGNORED: Final = _TRACING | frozenset(
    {
        "cache-control",
        "cf-connecting-ip",
        "cf-visitor",
        "dnt",
        "forwarded",
        "keep-alive",
        "pragma",
        "priority",
        "referer",
        "te",
        "true-client-ip",
        "upgrade",
        "upgrade-insecure-requests",
        "user-agent",
        "via",
        "x-client-ip",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-forwarded-scheme",
        "x-forwarded-server",
        "x-forwarded-ssl",
        "x-real-ip",
        "x-scheme",
    }
)
_IGNORED_BEGINNINGS: Final = ("sec-", *_TRACING_BEGINNINGS)
#: What this cache answers itself, what is in the key, and what has a verdict of its own.
_OWN: Final = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "transfer-encoding",
    }
)
#: What of an environ is the same for all requests of a URL, or this server's own.
#: Source: RFC 3875 section 4.1, and what Apache and nginx add.
_OF_THE_SERVER: Final = frozenset(
    {
        "CONTEXT_DOCUMENT_ROOT",
        "CONTEXT_PREFIX",
        "DOCUMENT_ROOT",
        "DOCUMENT_URI",
        "GATEWAY_INTERFACE",
        "HTTPS",
        "PATH_INFO",
        "PATH_TRANSLATED",
        "QUERY_STRING",
        "REQUEST_METHOD",
        "REQUEST_SCHEME",
        "REQUEST_TIME",
        "REQUEST_TIME_FLOAT",
        "SCRIPT_FILENAME",
        "SCRIPT_NAME",
        "SCRIPT_URI",
        "SCRIPT_URL",
        "SERVER_ADDR",
        "SERVER_ADMIN",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "SERVER_SIGNATURE",
        "SERVER_SOFTWARE",
        "UNIQUE_ID",
    }
)
#: What says nothing of who is asking. What servers and middlewares add, under whatever name, may: a socket has an
#: address and a certificate. Source: PEP 3333, section "environ Variables"; input_terminated is werkzeug's.
_OF_WSGI: Final = frozenset(
    {
        "wsgi.errors",
        "wsgi.file_wrapper",
        "wsgi.input",
        "wsgi.multiprocess",
        "wsgi.multithread",
        "wsgi.run_once",
        "wsgi.url_scheme",
        "wsgi.version",
        "wsgi.input_terminated",
    }
)
_FIELD: Final = re.compile(r"[!-+\--~]{1,200}")


class FieldRules:
    """Which header fields negotiate, and which are ignored.

    Args:
        negotiated: names beside the usual ones: the setting ``negotiated``.
        ignored: the same, of those that are ignored when they are read before the view: ``ignored_fields``.
    """

    __slots__ = ("_ignored", "_negotiated")

    def __init__(self, negotiated: Iterable[str] = (), ignored: Iterable[str] = ()) -> None:
        self._negotiated: Final = _NEGOTIATED.union(name.lower() for name in negotiated)
        self._ignored: Final = _IGNORED.union(name.lower() for name in ignored)

    def negotiates(self, field: str) -> bool:
        """Whether a field asks for one of several representations, so that each value may have an answer.

        >>> [FieldRules().negotiates(each) for each in ("accept", "accept-language", "x-token", "cookie:accept")]
        [True, True, False, False]
        """
        return field == "accept" or field in self._negotiated or field.startswith(_NEGOTIATED_BEGINNINGS)

    def ignores(self, field: str) -> bool:
        """Whether a field does not count where it is read before the view, as loggers and middleware do.

        >>> [FieldRules().ignores(each) for each in ("user-agent", "x-forwarded-for", "x-forwarded-user")]
        [True, True, False]
        """
        if field in self._negotiated and field != "user-agent" and not field.startswith("sec-"):
            return False
        return field in self._ignored or field.startswith(_IGNORED_BEGINNINGS)

    def traces(self, field: str) -> bool:
        """Whether a field only follows a request, so that nothing that reads it may decide by it who is asking.

        Of a name that an app ignores nobody knows that: a key that a function before the view checks is such a one.

        >>> [FieldRules(ignored=["x-key"]).traces(each) for each in ("x-request-id", "x-forwarded-for", "x-key")]
        [True, False, False]
        """
        return field in _TRACING or field.startswith(_TRACING_BEGINNINGS)


def is_field(field: str) -> bool:
    """Whether it can be kept: it may come from the app's users, where they say what the app looks up."""
    return _FIELD.fullmatch(field) is not None


def united(*kept: Iterable[str]) -> tuple[str, ...]:
    """All of these fields, as they are kept: what selects by its value need not be absent.

    >>> united(["!x-token", "!cookie:lang"], ["x-token"]), united(["cookie"], ["!cookie:lang"])
    (('!cookie:lang', 'x-token'), ('cookie',))
    """
    found = {field for fields in kept for field in fields} if any(kept) else ()
    if not found:
        return ()
    covered = "!cookie:" if "cookie" in found else "*"
    return tuple(
        sorted(each for each in found if not ((each.startswith("!") and each[1:] in found) or each.startswith(covered)))
    )


def is_own_field(field: str) -> bool:
    """Whether a header field selects nothing: what this cache answers itself, and what is in the key."""
    return field in _OWN


def is_neutral(name: str) -> bool:
    """Whether an item of an environ is the protocol's or this cache's own, and says nothing of a request.

    >>> is_neutral("wsgi.input"), is_neutral("wsgi.user")
    (True, False)
    """
    return name in _OF_WSGI or name.startswith("flask_rcache.")


def environ_field(name: str) -> str:
    """The field that an item of an environ is; empty for what no answer is selected by.

    >>> environ_field("HTTP_X_TOKEN"), environ_field("REMOTE_PORT"), environ_field("wsgi.input")
    ('x-token', 'request:remote_addr', '')
    """
    if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        return name.removeprefix("HTTP_").lower().replace("_", "-")
    if name in ("REMOTE_ADDR", "REMOTE_PORT", "REMOTE_HOST"):
        return ADDRESS
    if name in ("RAW_PATH", "RAW_URI", "REQUEST_URI"):
        return TARGET
    if is_neutral(name) or name in _OF_THE_SERVER:
        return ""
    return f"environ:{name}"


def shown_field(field: str) -> str:
    """A field as people write it.

    >>> shown_field("x-api-key"), shown_field("cookie:lang"), shown_field("request:remote_addr")
    ('X-Api-Key', 'cookie:lang', 'remote_addr')
    """
    kind, colon, name = field.partition(":")
    if not colon:
        return field.title()
    if field.startswith("session:."):
        return f"session{name}"
    if field == TARGET:
        return "RAW_URI"
    return name if kind == "request" else field


def field_of(shown: str) -> str:
    """The field that people write so.

    >>> field_of("X-Api-Key"), field_of("remote_addr")
    ('x-api-key', 'request:remote_addr')
    """
    if shown == "RAW_URI":
        return TARGET
    if shown in ("remote_addr", "body"):
        return f"request:{shown}"
    if shown.startswith("session."):
        return f"session:{shown.removeprefix('session')}"
    return shown if ":" in shown else shown.lower()


def may_have_body(environ: Mapping[str, Any]) -> bool:
    """Whether content may come with a request, whatever it says of its length (HTTP/2 needs to say nothing)."""
    length = environ.get("CONTENT_LENGTH")
    if length is not None and length not in ("", "0"):
        return True
    if "HTTP_TRANSFER_ENCODING" in environ:
        return True
    protocol = environ.get("SERVER_PROTOCOL", "")
    return bool(environ.get("wsgi.input_terminated")) and length is None and not protocol.startswith("HTTP/1")


class Selection:
    """The fields that the answers of one URL depend on, and what a request has of them.

    Args:
        fields: as they are kept, sorted.
        functions: those that give the value of a field.
        query: the arguments that the key has; ``None`` for all.

    Attributes:
        selecting: those by whose value there are variants.
        identifying: the others: a request that has one gets no answer that was made for requests without.
    """

    __slots__ = ("_absent", "_functions", "_others", "_query", "fields", "identifying", "selecting")

    def __init__(
        self,
        fields: tuple[str, ...],
        functions: Mapping[str, Callable[[Any], object]] = MappingProxyType({}),
        query: tuple[str, ...] | None = None,
    ) -> None:
        self.fields: Final = fields
        self.selecting: Final = tuple(each for each in fields if not each.startswith("!"))
        self.identifying: Final = tuple(each[1:] for each in fields if each.startswith("!"))
        self._functions: Final = [(name, functions[name]) for name in self.selecting if name in functions]
        # A server can't tell an empty Content-Type from none.
        self._absent: Final = {environ_key(each): each for each in self.identifying if ":" not in each}
        self._others: Final = [each for each in self.identifying if ":" in each]
        self._query: Final = query

    def blocked_by(self, environ: Mapping[str, Any], session: Any) -> str:
        """The first identifying field that a request has; empty when it has none.

        Args:
            environ: the WSGI environ.
            session: the session that was opened for it, or ``None``.
        """
        if self._absent and not environ.keys().isdisjoint(self._absent):
            return next(field for key, field in self._absent.items() if key in environ)
        for field in self._others:
            if _is_there(field, environ, session, self._query):
                return field
        return ""

    def variant(self, environ: Mapping[str, Any], request: Any) -> str:
        """The id of the variant that a request selects; empty when there are none."""
        if not self._functions:
            return variant_id(self.selecting, environ)
        given: dict[str, str | None] = {}
        for name, function in self._functions:
            value = function(request)
            given[name] = None if value is None else str(value)
        return variant_id(self.selecting, environ, given)


#: What login libraries and Flask leave in a session, which identifies nobody, and messages, which bypass the cache.
QUIET_SESSION: Final = frozenset({"_fresh", "_permanent", "_flashes"})


def session_identifies(session: Any) -> bool:
    """Whether a session says who is asking: it holds more than empty values and what login libraries leave behind."""
    if not session:
        return False
    items = dict.items(session) if isinstance(session, dict) else session.items()
    return any(value and name not in QUIET_SESSION for name, value in items)


def session_value(session: Any, name: str) -> object:
    """What a session holds under a name; with a dot before it, an attribute that a library's own class has."""
    if session is None:
        return None
    if name.startswith("."):
        return getattr(session, name[1:], None)
    return dict.get(session, name) if isinstance(session, dict) else session.get(name)


def _is_there(field: str, environ: Mapping[str, Any], session: Any, query: tuple[str, ...] | None) -> bool:
    kind, _, name = field.partition(":")
    if kind == "cookie":
        cookies = cookies_of(environ) if "HTTP_COOKIE" in environ else ()
        return cookies is None or name in cookies
    if kind == "arg":
        text = environ.get("QUERY_STRING", "").encode("latin1", "replace").decode(errors="replace")
        names = {each for each, _ in parse_qsl(text, keep_blank_values=True)}
        return bool(names.difference(query or ())) if name == "*" else name in names
    if kind == "session":
        return session_identifies(session) if name == "*" else bool(session_value(session, name))
    if kind == "environ":
        return environ.get(name) not in (None, "", "NONE", False)
    return may_have_body(environ) if field == BODY else True
