"""Observing a request: from its beginning to its end, and what is read of it while a view or a function runs.

Owns when an object begins to be watched, and :func:`observing`, which tells apart what is read while it is entered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from flask import Request, g, has_app_context
from flask.sessions import NullSession

from ..model.carried import Carried
from ..model.objects import instance_dict
from .fields import Field, field_text
from .reads import ENTERED, RECORD, Reads
from .watching import (
    CONTAINERS,
    cookies_watched,
    forget_computed,
    headers_watched,
    raw_environ,
    requests_watched,
    watch,
    watching_args,
    watching_attributes,
    watching_cookies,
    watching_g,
    watching_headers,
    watching_request,
    watching_session,
)

__all__ = [
    "EARLY",
    "Observed",
    "answered",
    "defer",
    "is_plainly_made",
    "observe",
    "observing",
    "opened_session",
    "session_of",
    "view_args_of",
    "watch_environ",
    "watch_g",
]

#: What a request has for a record where nothing can read of it until a view looks it up in the cache …
_DEFERRED: Final = None
#: … and after that was answered from there, with nothing noted.
_ANSWERED: Final = False
#: Where a request has it while it is being made.
EARLY: Final = "_rcache_early"


class Observed:
    """What was read while an observation was entered.

    Attributes:
        noted: the fields, as they were spelled.
    """

    __slots__ = ("_carried", "_identities", "_reads", "_request", "_token", "noted")

    def __init__(
        self,
        request: Any,
        identities: Iterable[str] = (),
        *,
        carried: Carried | None = None,
        reads: Reads | None = None,
    ) -> None:
        self.noted: Final[set[Field]] = set()
        self._identities: Final = frozenset(identities)
        self._carried: Final = carried
        self._request: Final = request
        self._token: Any = None
        self._reads: Reads | None = reads

    def __enter__(self) -> Observed:
        reads, request = self._reads, self._request
        if reads is None:
            reads = self._reads = observe(request) if request is not None else watch_g(None)
        if request is not None:
            forget_computed(request)
            if not reads.observers:  # the next who reads it makes one of it as it is then
                request.__dict__["environ"] = raw_environ(request)
        if reads.unseen:
            self.noted.update(reads.unseen)
        self._token = ENTERED.set((*ENTERED.get(), self))
        reads.observers = (*reads.observers, self)
        return self

    def __exit__(self, *_: object) -> None:
        reads, request = self._reads, self._request
        if reads is None or self._token is None:  # it was not entered
            return
        observers = reads.observers
        reads.observers = () if observers == (self,) else tuple([each for each in observers if each is not self])
        if not reads.observers and request is not None:
            request.__dict__["environ"] = raw_environ(request)
        ENTERED.reset(self._token)

    @property
    def reads(self) -> set[str]:
        """The fields as texts; of ``flask.g`` only the attributes that count."""
        return {field_text(field) for field in tuple(self.noted) if field[0] != "g" or self._counts(field[1])}

    def _counts(self, name: str) -> bool:
        return name in self._identities or (self._carried is not None and self._carried.says(name))

    def beside(self, given: Iterable[object]) -> frozenset[str]:
        """What was read of all but these objects: a function that is given ``request.args`` has them in its key."""
        held = instance_dict(self._request) if self._request is not None else {}
        kinds = {"headers": "header", "values": "arg", **CONTAINERS}
        known = [f"{kind}:" for name, kind in kinds.items() if name in held and any(held[name] is it for it in given)]
        return frozenset(field for field in self.reads if not field.startswith(tuple(known)))


@contextmanager
def observing(context: Any, identities: Iterable[str]) -> Iterator[Observed]:
    """Note what a function reads of a request, its session and ``flask.g``; also by threads and tasks that begin there.

    Args:
        context: the context of the request, the current one; ``None`` for none, of which only ``flask.g`` is read.
        identities: the attributes of ``flask.g`` that count whatever they are: the setting ``identity_g``.

    Returns:
        What was read, as it grows. Observations nest: what is read inside the inner one counts for the outer one too.
    """
    if context is None:
        if not has_app_context():
            yield Observed(None)
            return
        watch_g(None)
        with Observed(None, identities, carried=Carried(g._get_current_object())) as observed:
            yield observed
        return
    request = context.request
    reads = observe(request, session_of(context))
    request.__class__ = watching_attributes(watching_request(type(request)))
    watch_g(reads)
    with Observed(request, identities, carried=Carried(g._get_current_object())) as observed:
        yield observed


def observe(request: Any, session: Any = None) -> Reads:
    """Note what is read of a request from now on; from its beginning, when nothing of the app has run yet.

    Args:
        request: the request.
        session: its session, where it is open.

    Returns:
        The record, which is there already when the request is observed.
    """
    held: dict[str, Any] = request.__dict__
    known = held.get(RECORD)
    if known is not None and known.__class__ is Reads:
        if known.from_making and session is not None:
            known.from_making = False
            _begin(held, session, known)
        return known
    kind, headers = request.__class__, held["headers"]
    early: Reads | None = held.pop(EARLY, None)
    reads = Reads() if early is None else early
    held[RECORD] = reads
    if reads:
        _keep_early(reads)
    if known is _ANSWERED:
        reads.is_late = True
    watching = requests_watched.get(kind)
    if watching is None:
        watching = watching_request(kind)
        if is_plainly_made(kind) or hasattr(kind, EARLY):
            requests_watched[kind] = watching
        else:
            reads.made_by = kind
    request.__class__ = watching
    headers.__dict__[RECORD] = reads
    kind = headers.__class__
    headers.__class__ = headers_watched.get(kind) or watching_headers(kind)
    cookies = held.get("cookies")
    if cookies is not None:  # the session was opened by one
        cookies.__dict__[RECORD] = reads
        kind = cookies.__class__
        cookies.__class__ = cookies_watched.get(kind) or watching_cookies(kind)
    if "args" in held:
        watch(held["args"], reads, watching_args)
    if session is not None or held.get("view_args"):
        _begin(held, session, reads)
    return reads


def _begin(held: dict[str, Any], session: Any, reads: Reads) -> None:
    """Note what the request begins with: the arguments that the URL has given, and its session."""
    given = held.get("view_args")
    if given:
        reads.view_args = dict(given)
    if session is not None and session.__class__ is not NullSession:
        if session and isinstance(session, dict):
            reads.session = dict(session)
        if not watch(session, reads, watching_session):
            reads.unseen = frozenset({("session", "*")})


def _keep_early(reads: Reads) -> None:
    """Leave out what was read between the making of a request and its beginning."""
    noted = list(reads)
    mark = ("request", EARLY)
    if mark in reads:
        kept = noted[: noted.index(mark)]
        reads.clear()
        reads.update(dict.fromkeys(kept))


def is_plainly_made(kind: Any) -> bool:
    """Whether no code of the app's own runs when a request of this class is made."""
    return kind.__init__ is Request.__init__ and kind.__new__ is object.__new__


def defer(request: Any) -> bool:
    """Leave it to the view to have a request observed, if it is not answered from the cache.

    For a request whose view looks it up before anything of the app can read of it. An app's own class may, and so may
    what has a request observed from its making.

    Returns:
        Whether that is so.
    """
    if request.__class__ is not Request:
        return False
    return request.__dict__.setdefault(RECORD, _DEFERRED) is _DEFERRED


def answered(request: Any) -> None:
    """A request is answered from the cache: it needs no record, and one that is begun later is not complete."""
    held: dict[str, Any] = request.__dict__
    if held.get(RECORD, held) is _DEFERRED:
        held[RECORD] = _ANSWERED


def view_args_of(request: Any) -> Any:
    """What the URL map gave to the view of a request, before anybody could change it."""
    held: dict[str, Any] = request.__dict__
    return held.get("view_args") if held.get(RECORD, held) is _DEFERRED else observe(request).view_args


def watch_environ(request: Any) -> None:
    """Note what is read of the environ of a request itself as well, from now on until its end."""
    reads = observe(request)
    reads.has_environ = True


def watch_g(reads: Reads | None) -> Reads:
    """Note what is read of ``flask.g`` as well.

    Args:
        reads: where; ``None`` outside of a request, where it has a record of its own.
    """
    holder = g._get_current_object()
    if reads is None:
        found: Reads | None = instance_dict(holder).get(RECORD)
        reads = Reads() if found is None else found
    watch(holder, reads, watching_g)
    return reads


def opened_session(request: Any) -> Mapping[str, Any] | None:
    """What the session of a request held when it was opened; ``None`` for nothing, or where nobody has changed it."""
    reads = request.__dict__.get(RECORD)
    return reads.session if reads.__class__ is Reads else None


def session_of(context: Any) -> Any:
    """The session of a request's context as it is, without counting as an access; ``None`` when it is not open."""
    return context._session if hasattr(context, "_session") else context.session
