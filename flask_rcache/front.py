"""The front: hits of anonymous requests, answered before anything of the app runs (opt-in).

Owns :class:`Front`, a memory of what the ordinary way has sent. A request that agrees with one that was answered by a
hit in the URL, and in every field that anything of the app has read to answer that one, is sent the same, as long as
the memory tier finds the same fill valid (rules R1 and R5: the store is asked, as on the ordinary way, and then again
after each second, and after anything has changed in what is valid). What identifies a caller is remembered as absent
only. What an answer is made of is not known here: no header is computed but those that
say how old it is.

Whatever does not agree, and whatever is to be decided anew (an expired entry, an early refresh, an answer that nobody
has compared for two seconds), takes the ordinary way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any, Final

from flask import Flask, request_finished, request_started
from werkzeug.wsgi import ClosingIterator

from .context import SCOPE, carries_credential_cookie, manager_of
from .engine.decision import Decision, decide
from .engine.loading import record_read
from .engine.manager import CacheManager
from .engine.policies import Policy
from .http import BODY, TARGET, HeaderLines, environ_field, environ_key, is_neutral, is_own_field, united
from .model import chance, forks
from .model.bounded import BoundedDict
from .model.entry import MICROSECONDS, Entry
from .model.named_tuple import NamedTuple
from .model.scope import scope_var
from .observed import has_plain_sessions, observe
from .signals import cache_hit
from .stores.lru import Checked
from .stores.protocol import Lookup
from .views.background import REFRESHING, RELOADING
from .views.lookup import DRAW, SERVED, Served

__all__ = ["Front", "front_of"]

logger: Final = logging.getLogger("flask_rcache")

#: URLs that are remembered, answers of each, and bytes in all (of bodies, those that are not the entries' own); and
#: what an answer, or a URL, takes beside its texts.
_URLS_KEPT: Final = 4096
_ANSWERS_KEPT: Final = 64
_BYTES_KEPT: Final = 16 * 1024 * 1024
_BYTES_AROUND: Final = 1024
#: Nanoseconds after which an answer is compared with that of the ordinary way again: what the app's functions add to
#: it, and whether they still let such a request pass, is never older.
_COMPARED_NS: Final = 2 * 10**9
_SECOND: Final = 10**9
#: After an answer that could not be learned so many of its key are let pass: an attempt costs as much as a hit does.
_REFUSED_FOR: Final = 16
_REFUSED_KEPT: Final = 4096
#: Where an environ has the answer that has to be compared.
_DUE: Final = "flask_rcache.due"
_SENT: Final = "flask_rcache.sent"
#: … and has itself as it came: the app may take away what it has read.
_ASKED: Final = "flask_rcache.asked"

#: The conditions by which an answer is another one; those of a part, and others, are left to the ordinary way.
_CONDITIONS: Final = ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH")
#: What a request that is answered here has none of, beside credentials.
_NEVER: Final = frozenset(
    {
        "HTTP_IF_MATCH",
        "HTTP_IF_RANGE",
        "HTTP_IF_UNMODIFIED_SINCE",
        "HTTP_RANGE",
        "HTTP_TRANSFER_ENCODING",
        "HTTP_UPGRADE",  # by which other rules of the URL map may match
        "werkzeug.debug.preserve_context",  # a test client's, whose contexts are looked at afterwards
        REFRESHING,
        RELOADING,
    }
)
#: The methods of an app that take part in each answer.
_METHODS: Final = (
    "dispatch_request",
    "full_dispatch_request",
    "make_response",
    "preprocess_request",
    "process_response",
)


#: The method, the host, the path, the query, the script root and the scheme, as they came.
_Address = tuple[str | None, ...]
_ADDRESS: Final = ("REQUEST_METHOD", "HTTP_HOST", "PATH_INFO", "QUERY_STRING", "SCRIPT_NAME", "wsgi.url_scheme")
#: All of them at once, where all are there.
_address_in: Final = itemgetter(*_ADDRESS)


class _Fields(NamedTuple):
    """What the answers of a URL depend on.

    Args:
        never: names in an environ that a request has none of.
        selecting: names whose values select.
        cookies: that a request has none of.
    """

    never: frozenset[str]
    selecting: tuple[str, ...]
    cookies: tuple[str, ...]

    def with_more(self, other: _Fields) -> _Fields:
        """These and others."""
        return _Fields(
            self.never | other.never,
            tuple(sorted({*self.selecting, *other.selecting} - self.never - other.never)),
            tuple(sorted({*self.cookies, *other.cookies})),
        )


class _Url:
    """What is remembered of a URL.

    Attributes:
        address: the URL.
        selection: what selected its answers in the cache; when that has changed, nothing of this counts.
        noted: names of which most requests have none; whoever has one is looked at closely.
        plain: the answer to requests without any of the selecting fields.
        answers: all of them, by the values of these fields.
        kept: bytes; 0 once it is forgotten.
    """

    __slots__ = (
        "address",
        "answers",
        "cookies",
        "fields",
        "kept",
        "never",
        "noted",
        "plain",
        "selecting",
        "selection",
        "url_key",
    )

    def __init__(self, address: _Address, fields: _Fields, url_key: str, selection: object) -> None:
        self.address: Final = address
        self.fields: Final = fields
        self.never, self.selecting, self.cookies = fields
        self.noted: Final = self.never.union(self.selecting, ("CONTENT_LENGTH", "HTTP_COOKIE"))
        self.url_key: Final = url_key
        self.selection: Final = selection
        self.plain: _Answer | None = None
        self.answers: Final[BoundedDict[tuple[Any, ...], _Answer]] = BoundedDict(_ANSWERS_KEPT)
        self.kept = _BYTES_AROUND + sum(map(len, filter(None, address)))


class _Answer:
    """What was sent, and for which fill.

    ``lines`` are the header lines, in which ``age_at`` and ``status_at`` are the places of ``Age`` and of
    ``Cache-Status``, whose value is what is ``around`` the seconds left; -1 where the answer has none. ``upstream`` are
    the seconds that the response was old when it was stored. ``body`` is ``None`` where it is the entry's own.
    ``is_sure`` says that the app's functions have added nothing, or twice the same. ``size`` is in bytes.
    """

    __slots__ = (
        "age_at",
        "around",
        "body",
        "identity",
        "is_sure",
        "is_variant",
        "key",
        "lines",
        "made",
        "policy",
        "ready",
        "size",
        "status",
        "status_at",
        "until",
        "upstream",
        "url_key",
        "views",
    )

    def __init__(self, served: Served, status: str, lines: HeaderLines, body: bytes | None) -> None:
        view, lookup = served.view, served.lookup
        self.views: Final = view.views
        self.policy: Final = view.policy
        self.url_key: Final = served.url_key
        self.key: Final = served.key
        self.identity: Final = lookup.identity
        self.status: Final = status
        self.body: Final = body
        self.is_sure = False
        self.until = 0
        self.is_variant: Final = served.key != served.url_key
        #: The lines of one second: whole seconds of age, and the lines.
        self.made: tuple[int, int, list[tuple[str, str]]] = (-1, -1, [])
        #: What it is sent by as long as nothing changes: the entry, and the lines.
        self.ready: tuple[Checked, list[tuple[str, str]]] | None = None
        entry = lookup.entry
        assert entry is not None
        age = (lookup.now - entry.created) / MICROSECONDS
        shown = dict(served.headers).get("Age", "")
        self.upstream: Final = int(shown) - int(age) if shown.isdecimal() else 0
        self.age_at, self.status_at, self.around = -1, -1, ("", "")
        made = list(lines)
        left = f"; ttl={int(entry.ttl - age)}"
        for place, (name, value) in enumerate(lines):
            lowered = name.lower()
            if lowered == "age" and value == shown and self.age_at < 0:
                self.age_at, made[place] = place, (name, "")
            elif lowered == "cache-status" and "rcache; hit" in value and value.count(left) == 1 and self.status_at < 0:
                before, _, after = value.partition(left)
                if not after[:1].isdigit():
                    self.status_at, self.around, made[place] = place, (f"{before}; ttl=", after), (name, "")
        self.lines: Final = tuple(made)
        # The lines are kept twice.
        self.size = _BYTES_AROUND + len(body or b"") + 2 * sum([len(name) + len(value) for name, value in lines])

    def says_the_same(self, other: _Answer) -> bool:
        """Whether another is the same answer."""
        names = ("identity", "key", "status", "lines", "body", "around", "age_at", "status_at", "upstream")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def at(self, age: int, left: int) -> list[tuple[str, str]]:
        """The header lines when it is so many seconds old, and fresh for so many more; not to be changed."""
        known_age, known_left, made = self.made
        if known_age != age or known_left != left:
            made = list(self.lines)
            if self.age_at >= 0:
                made[self.age_at] = (made[self.age_at][0], str(age + self.upstream))
            if self.status_at >= 0:
                before, after = self.around
                made[self.status_at] = (made[self.status_at][0], f"{before}{left}{after}")
            self.made = age, left, made
        return made


class Front:
    """What answers requests before anything of an app runs.

    Args:
        manager: the app's manager.
        cookies: those that identify a caller, whatever reads them.
    """

    __slots__ = ("__weakref__", "_cookies", "_engine", "_kept", "_lock", "_never", "_refused", "_url_at", "_urls")

    def __init__(self, manager: CacheManager, cookies: Iterable[str]) -> None:
        self._engine: Final = manager.engine
        self._cookies: Final = tuple(cookies)
        refreshes = manager.settings.allow_refresh is not None
        self._never: Final = _NEVER | ({"HTTP_CACHE_CONTROL", "HTTP_PRAGMA"} if refreshes else set())
        self._urls: Final[BoundedDict[_Address, _Url]] = BoundedDict(_URLS_KEPT)
        self._url_at: Final = self._urls.get
        #: By the key of an entry, how many more requests are let pass without an attempt.
        self._refused: Final[BoundedDict[str, int]] = BoundedDict(_REFUSED_KEPT)
        self._kept = 0
        self._lock: Final = forks.new_lock()
        forks.register(self)

    def reset_after_fork(self) -> None:
        """See :class:`~flask_rcache.model.forks.ForkAware`."""
        self._urls.clear()
        self._kept = 0

    # Answering

    def answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes] | None:
        """Send what is remembered for a request, if it may have that; else ``None``: it takes the ordinary way."""
        try:
            url = self._url_at(_address_in(environ))
        except KeyError:  # what is empty may be left out
            url = self._url_at(_address_of(environ))
        if url is None:
            return None
        answer = url.plain if environ.keys().isdisjoint(url.noted) else _selected(url, environ)
        if answer is None:
            return None
        began = time.monotonic_ns()
        engine, policy, ready = self._engine, answer.policy, answer.ready
        observer = engine.observer
        if cache_hit.receivers and cache_hit.has_receivers_for(observer.sender):
            return None  # they may look at the request, its session, and what the app's functions have found out
        if not engine.enabled or answer.views.fields.get(answer.url_key) is not url.selection:
            return None
        entry = None if ready is None else ready[0].entry_at(began)
        if ready is not None and entry is not None and observer.tracer is None:
            lines = ready[1]
            policy.counters.hit((time.monotonic_ns() - began) / 1e9)
        else:
            lookup = self._looked_up(url, answer, environ, began)
            if lookup is None or lookup.entry is None:
                return None
            entry, lines = lookup.entry, answer.made[2]
            with observer.span(policy.name):
                observer.hit(policy, answer.key, lookup, began)
        if answer.is_variant:
            uses = answer.views.uses
            uses[answer.key] = uses.get(answer.key, 0) + 1
        if scope_var.get() is not None:  # another request has sent this one
            record_read(engine.store, entry)
        start_response(answer.status, lines.copy())
        return [answer.body if answer.body is not None else entry.content.body]  # type: ignore[union-attr]

    def _looked_up(self, url: _Url, answer: _Answer, environ: dict[str, Any], began: int) -> Lookup | None:
        """Check an answer anew; the entry it is made of where that is fresh and valid, else ``None``.

        It is ready to be sent until its header lines are others, at most a second later, or something has changed in
        what is valid. So its entry counts as used once a second.

        Args:
            url: of the request.
            answer: the answer.
            environ: the WSGI environ, which learns what the ordinary way must know.
            began: an instant before this (monotonic ns).
        """
        if not answer.is_sure or began >= answer.until:
            environ[_DUE] = url, answer
            return None
        store, policy = self._engine.store, answer.policy
        checked = store.checked(answer.key, policy.l1_ttl)
        lookup = store.recall(answer.key, policy.l1_ttl)
        entry = None if lookup is None else lookup.entry
        if lookup is None or entry is None or lookup.identity != answer.identity:
            return None
        age = (lookup.now - entry.created) / MICROSECONDS
        left = entry.ttl - age
        # What is fresh beyond doubt; what else is to become of it is decided on the ordinary way.
        if age < 0 or left <= 0 or (policy.beta and _is_due_early(entry, lookup, policy, environ)):
            return None
        lines = answer.at(int(age), int(left))
        if checked is not None and not policy.beta:
            same = began + int(min(1 - age % 1, left % 1) * _SECOND)
            checked.until = min(checked.until, answer.until, same)
            answer.ready = (checked, lines) if checked.entry_at(began) is entry else None
        return lookup

    # Learning

    def watched(self, environ: dict[str, Any], start_response: Any) -> Any:
        """A ``start_response`` that notes what it is given; the environ is noted as it is now."""
        environ[_ASKED] = environ.copy()

        def start(status: str, headers: Any, *exc_info: Any) -> Any:
            environ[_SENT] = status, tuple(headers)
            return start_response(status, headers, *exc_info)

        return start

    def learned(self, environ: dict[str, Any], body: Any) -> Any:
        """Remember what was answered, if it was a hit that others may have as well; the body, as it came."""
        served: Served | None = environ.pop(SERVED, None)
        sent = environ.pop(_SENT, None)
        due = environ.pop(_DUE, None)
        asked = environ.pop(_ASKED, environ)
        if served is None or sent is None:
            if due is not None:  # what would have been answered is not what the app answers now
                self._forget(*due)
            return body
        refused = self._refused.get(served.key, 0)
        if due is None and refused:
            self._refused[served.key] = refused - 1
            return body
        status, lines = sent
        body, content = _read(asked, status, lines, body)
        with self._lock:
            is_known = False
            try:
                # Other values that took part may be invalidated by themselves.
                if content is not None and environ[SCOPE].values_read == 1:
                    is_known = self._remember(asked, served, status, lines, content)
            except Exception:  # a good answer is under way
                logger.exception("[CACHE ERROR] the front could not learn an answer; it is sent as usual")
            if not is_known:
                self._refused[served.key] = _REFUSED_FOR
                if due is not None:
                    self._drop(*due)
        return body

    def _remember(
        self, environ: dict[str, Any], served: Served, status: str, lines: HeaderLines, content: bytes
    ) -> bool:
        """Remember an answer; whether it could be, and was not another one than before. The lock is held."""
        entry = served.lookup.entry
        assert entry is not None
        own: bytes = entry.content.body  # type: ignore[union-attr]
        is_pure = lines == served.headers and content in (own, b"")
        fields = self._fields(environ, served, is_pure=is_pure)
        if fields is None or not _is_as_stored(environ, status, lines, entry.content.status):  # type: ignore[union-attr]
            return False
        if not environ.keys().isdisjoint(fields.never) or carries_credential_cookie(environ, fields.cookies):
            return False
        url = self._url(environ, served, fields)
        if not environ.keys().isdisjoint(url.never) or carries_credential_cookie(environ, url.cookies):
            return False
        answer = _Answer(served, status, lines, None if content == own else content)
        values = tuple([environ.get(name) for name in url.selecting])
        answer.size += sum(map(len, filter(None, values)))
        known = url.answers.get(values)
        answer.is_sure = is_pure or (known is not None and known.says_the_same(answer))
        answer.until = time.monotonic_ns() + _COMPARED_NS
        self._keep(url, values, answer)
        if environ.keys().isdisjoint(url.selecting):
            url.plain = answer
        return answer.is_sure or known is None or known.identity != answer.identity

    def _url(self, environ: dict[str, Any], served: Served, fields: _Fields) -> _Url:
        """What is remembered of the URL, where it depends on these fields too; a change of them begins it anew."""
        address = _address_of(environ)
        selection = served.selection
        url = self._urls.get(address)
        if url is not None:
            fields = url.fields.with_more(fields)
        if url is None or fields != url.fields or url.url_key != served.url_key or url.selection is not selection:
            self._take_out(address)
            self._make_room()
            url = self._urls[address] = _Url(address, fields, served.url_key, selection)
            self._kept += url.kept
        return url

    def _keep(self, url: _Url, values: tuple[Any, ...], answer: _Answer) -> None:
        """Keep an answer, in place of another with these values or the oldest; and count its bytes."""
        gone = url.answers.get(values)
        if gone is None and len(url.answers) >= _ANSWERS_KEPT:
            gone = url.answers.pop(next(iter(url.answers)))
        if gone is not None and url.plain is gone:
            url.plain = None
        size = answer.size - (0 if gone is None else gone.size)
        url.kept += size
        self._kept += size
        url.answers[values] = answer
        if self._kept > _BYTES_KEPT:
            self._make_room()

    def _make_room(self) -> None:
        """Let go of what was remembered first, as long as there is too much."""
        while self._urls and (len(self._urls) >= _URLS_KEPT or self._kept > _BYTES_KEPT):
            self._take_out(next(iter(self._urls)))

    def _take_out(self, address: _Address) -> None:
        url = self._urls.pop(address, None)
        if url is not None:
            self._kept -= url.kept
            url.kept = 0

    def _forget(self, url: _Url, answer: _Answer) -> None:
        with self._lock:
            self._drop(url, answer)

    def _drop(self, url: _Url, answer: _Answer) -> None:
        """Forget an answer; the lock is held."""
        if url.plain is answer:
            url.plain = None
        for values, known in list(url.answers.items()):
            if known is answer:
                del url.answers[values]
                if self._urls.get(url.address) is url:
                    url.kept -= answer.size
                    self._kept -= answer.size

    def _fields(self, environ: dict[str, Any], served: Served, *, is_pure: bool) -> _Fields | None:
        """What an answer depends on; ``None`` when that can't be compared, or identifies who has asked."""
        view, reads = served.view, observe(served.request)
        if reads.made_by is not None or environ.get("HTTP_HOST") is None:
            return None
        found = _Finding(environ, served, is_pure=is_pure)
        for kind, name in [*reads, *(reads.of_session or ())]:
            found.read(kind, name)
        entry = served.lookup.entry
        assert entry is not None
        kept = united(entry.fields, (served.selection or view.always).fields, view.options.vary)
        for field in kept:
            found.depends_on(field)
        if found.is_unknown:
            return None
        never = self._never | view.credentials | found.never
        return _Fields(
            never,
            tuple(sorted({*_CONDITIONS, *found.selecting} - never)),
            tuple(sorted({*self._cookies, *found.cookies})),
        )


class _Finding:
    """What a request's reads come to.

    Args:
        environ: of the request.
        served: what was served.
        is_pure: whether nothing of the app has added to the answer.
    """

    def __init__(self, environ: dict[str, Any], served: Served, *, is_pure: bool) -> None:
        self._environ: Final = environ
        self._rules: Final = served.view.views.rules
        self._is_pure: Final = is_pure
        self.never: Final[set[str]] = set()
        self.selecting: Final[set[str]] = set()
        self.cookies: Final[set[str]] = set()
        self.is_unknown = False

    def read(self, kind: str, name: str) -> None:
        """A field was read by something of the app."""
        if kind == "header":
            self._header(name.lower().replace("_", "-"), traces=self._is_pure)
        elif kind == "cookie":
            self._cookie(name)
        elif kind == "environ":
            self._item(name)
        elif kind == "request":
            # What else a request has is in the URL, or made of fields, which are noted themselves.
            self.is_unknown = self.is_unknown or name in ("remote_addr", "body", "server")

    def depends_on(self, field: str) -> None:
        """The entry depends on a field, as it is kept with it."""
        kind, colon, name = field.removeprefix("!").partition(":")
        if not colon:
            self._header(kind)
        elif kind in ("cookie", "environ"):
            self.read(kind, name)
        elif kind == "request":
            self.is_unknown = True
        # An argument is in the URL; a session is found by what is read for it.

    def _header(self, field: str, *, traces: bool = False) -> None:
        if field == "*":
            self.is_unknown = True
        elif field == "cookie":
            self._absent("HTTP_COOKIE")
        elif is_own_field(field):  # compared in any case, or in the URL
            return
        elif self._rules.negotiates(field):
            self.selecting.add(environ_key(field))
        elif not (traces and self._rules.traces(field) and environ_key(field) in self._environ):
            self._absent(environ_key(field))

    def _cookie(self, name: str) -> None:
        if name == "*" or not name.isascii():
            self._absent("HTTP_COOKIE")
        else:
            self.cookies.add(name)

    def _item(self, name: str) -> None:
        """An item of the environ itself."""
        if name == "*":
            self.is_unknown = True
        elif name.startswith("HTTP_") or name == "CONTENT_TYPE":
            self._header(environ_field(name))
        elif name == "wsgi.input":
            self.read(*BODY.split(":"))
        elif is_neutral(name):
            return
        elif environ_field(name) == TARGET:
            self.selecting.add(name)
        elif environ_field(name):  # who is asking, as the server or another middleware knows
            self._absent(name)
        elif isinstance(self._environ.get(name), str | None):
            if name not in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SCRIPT_NAME"):
                self.selecting.add(name)
        else:
            self.is_unknown = True

    def _absent(self, name: str) -> None:
        """It may identify a caller: no request that has it is answered here, and this one neither."""
        self.never.add(name)
        if name in self._environ:
            self.is_unknown = True


def _address_of(environ: dict[str, Any]) -> _Address:
    return tuple(map(environ.get, _ADDRESS))


def _selected(url: _Url, environ: dict[str, Any]) -> _Answer | None:
    """The answer to a request that has fields that select, or that may identify its caller."""
    names = environ.keys()
    if not names.isdisjoint(url.never) or environ.get("CONTENT_LENGTH", "0") not in ("", "0"):
        return None
    if "HTTP_COOKIE" in environ and carries_credential_cookie(environ, url.cookies):
        return None
    if names.isdisjoint(url.selecting):
        return url.plain
    return url.answers.get(tuple([environ.get(name) for name in url.selecting]))


def _is_due_early(entry: Entry, lookup: Lookup, policy: Policy, environ: dict[str, Any]) -> bool:
    """Whether an early refresh is due; the ordinary way decides by the same number."""
    draw = environ[DRAW] = chance.draw()
    decision = decide(entry, lookup.now, inside_load=False, beta=policy.beta, draw=draw)
    return decision is not Decision.HIT


def _is_as_stored(environ: dict[str, Any], status: str, lines: HeaderLines, stored: str) -> bool:
    """Whether what was sent is the stored response, or says that it has not changed, and has nothing of one client."""
    if any(name.lower() in ("set-cookie", "set-cookie2") for name, _ in lines):
        return False
    if environ.keys().isdisjoint(_CONDITIONS):
        return status[:3] == stored[:3]
    return status.startswith("304") and stored.startswith("200")


def _read(environ: dict[str, Any], status: str, lines: HeaderLines, body: Any) -> tuple[Any, bytes | None]:
    """A body, to be sent and as bytes; ``None`` where it is not known as a whole yet."""
    if environ["REQUEST_METHOD"] == "HEAD" or status.startswith(("204", "304")):
        return body, b""
    stated = next((value for name, value in lines if name.lower() == "content-length"), "")
    if not stated.isdecimal():
        return body, None
    if type(body) is not list:
        close = getattr(body, "close", None)
        try:
            chunks = list(body)
        except BaseException:
            if close is not None:
                close()
            raise
        body = chunks if close is None else ClosingIterator(chunks, [close])
    else:
        chunks = body
    content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return body, content if len(content) == int(stated) else None


# At the start


def front_of(app: Flask, is_innermost: bool) -> Front | None:
    """The front of an app that asks for one.

    Args:
        app: all of it is set up.
        is_innermost: whether nothing stands between the cache and Flask's own WSGI callable.
    """
    manager = manager_of(app)
    if not is_innermost:
        logger.warning(
            "[CACHE] the front is off: a WSGI middleware was put around %r before its cache, or its class has a "
            "wsgi_app of its own, which a hit in front would leave out. Call init_app before app.wsgi_app is wrapped",
            app.name,
        )
        return None
    skipped = list(_skipped(app))
    (logger.warning if skipped else logger.info)(
        "[CACHE] the front of %r answers hits of anonymous requests before routing. For these do not run: %s. Each is "
        "run again after two seconds at most, for each URL, and what it adds to a response is kept",
        app.name,
        "; ".join(skipped) or "any functions of the app (it has none before or after requests)",
    )
    settings = manager.settings
    interface = app.session_interface
    own = [interface.get_cookie_name(app)] if has_plain_sessions(app) else []
    more = (app.config.get(name) for name in ("REMEMBER_COOKIE_NAME", "JWT_ACCESS_COOKIE_NAME"))
    return Front(manager, filter(None, [*own, *settings.credential_cookies, *more]))


def _skipped(app: Flask) -> Iterator[str]:
    """What of an app runs for each request, but not for one that is answered in front, as a log line names it."""
    groups: dict[str, Iterable[Any]] = {
        "url_value_preprocessor": _all(app.url_value_preprocessors),
        "before_request": _all(app.before_request_funcs),
        "after_request": _all(app.after_request_funcs),
        "teardown_request": _all(app.teardown_request_funcs),
        "teardown_appcontext": app.teardown_appcontext_funcs,
        "listeners to request_started": request_started.receivers_for(app),
        "listeners to request_finished": request_finished.receivers_for(app),
        "methods": [
            getattr(type(app), name) for name in _METHODS if getattr(type(app), name) is not getattr(Flask, name)
        ],
    }
    for title, functions in groups.items():
        named = [_named(each) for each in functions if not getattr(each, "__module__", "").startswith("flask_rcache")]
        if named:
            yield f"{title} {', '.join(named)}"


def _all(functions: dict[Any, list[Any]]) -> Iterator[Any]:
    return (each for of_scope in functions.values() for each in of_scope)


def _named(function: Any) -> str:
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', function)}"
