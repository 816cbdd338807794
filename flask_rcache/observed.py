"""What is read of a request: the headers, cookies, arguments, session values and identities that a result depends on.

Owns :class:`Reads`, the record of one request from its beginning to its end, and :func:`observing`, which tells apart
what is read while it is entered. What follows from a read is ``functions``' and ``views``' to say.

A request, its containers and its session get another class: a subclass of their own that notes what it is asked. So
their identity and all that they hold stay as they are, for libraries that hold them, and whatever the class of an app's
own requests and sessions is. What is not read costs nothing.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType
from typing import Any, Final, cast

from flask import Flask, Request, g, has_app_context, request_started
from flask.sessions import NullSession, SecureCookieSession, SecureCookieSessionInterface
from werkzeug.utils import cached_property

from .model.carried import Carried
from .model.objects import instance_dict

__all__ = [
    "Field",
    "Observed",
    "Reads",
    "answered",
    "defer",
    "describe",
    "field_text",
    "has_plain_sessions",
    "is_flask_s_own",
    "observe",
    "observed_from_making",
    "observed_when_made",
    "observing",
    "raw_environ",
    "session_of",
    "unobserved",
    "view_args_of",
    "watch_environ",
    "watch_g",
]

#: What was read: ``header``, ``cookie``, ``arg``, ``session``, ``g``, ``environ`` or ``request`` (an attribute of it),
#: and the name, as it was spelled; ``*`` is all of them. An attribute of a session, such as its id, begins with a dot.
Field = tuple[str, str]

#: Where a watched object has the record of its request.
_RECORD: Final = "_rcache_reads"
#: What it has there before, where nothing can read of the request until a view looks it up in the cache …
_DEFERRED: Final = None
#: … and after that was answered from there, with nothing noted.
_ANSWERED: Final = False
#: Where a request has it while it is being made.
_EARLY: Final = "_rcache_early"
#: Whether what runs between the making of a request and its beginning is the app's as well.
_FROM_MAKING: Final = "_rcache_from_making"
_PLAIN_INIT: Final = Request.__init__
#: The containers of a request that are made when they are first asked for.
_CONTAINERS: Final = {"cookies": "cookie", "args": "arg"}
#: The function through which each message of a log goes, and how far from it a filter is looked for.
_LOGGING: Final = logging.Logger.handle.__code__
_LOGGING_DEPTH: Final = 30
#: What is none of an app's own.
_NO_APP: Final = ("flask.", "flask_rcache.", "werkzeug.")
#: Attributes that Flask itself asks for, in ``url_for`` and templates; they come with the view that was chosen.
_OF_ROUTING: Final = frozenset({"json_module", "routing_exception", "shallow", "url_rule"})
#: What reads the body.
_OF_BODY: Final = frozenset({"data", "files", "form", "get_data", "get_json", "input_stream", "json", "stream"})
#: The methods that read one item of a container, named by their first argument …
_OF_ONE: Final = frozenset(
    {
        "__contains__",
        "__getitem__",
        "get",
        "get_all",
        "getall",
        "getlist",
        "pop",
        "poplist",
        "setdefault",
        "setlistdefault",
    }
)
#: … of these, the ones that may look at all items for that …
_BY_SEARCHING: Final = frozenset({"get_all", "getall", "getlist"})
#: … and what reads none. Any other method reads all.
_OF_NONE: Final = frozenset(
    {
        "accessed",
        "add",
        "add_header",
        "clear",
        "extend",
        "insert",
        "modified",
        "new",
        "on_update",
        "permanent",  # which reads an item of its own
        "remove",
        "set",
        "setlist",
        "update",
    }
)
#: The methods that Python asks the class of an object for, and that read all.
_OF_ALL: Final = frozenset(
    {"__bool__", "__eq__", "__iter__", "__len__", "__ne__", "__or__", "__repr__", "__reversed__", "__ror__", "__str__"}
)


class Reads(dict[Field, None]):
    """What the code of one request has read: each field once, in the order of their first readings.

    Most requests read little and load nothing, so one costs no more than an empty dict until something is set.

    Attributes:
        view_args: what the URL map gave to the view, before anybody could change it.
        session: what the session held when it was opened.
        observers: the observations that are entered.
        unseen: what may have been read without being noted, as nothing can be noted of it.
        made_by: the app's own request class, if what it reads when it makes a request is not seen.
        from_making: whether the record is older than the session and the arguments.
        of_session: what was read to open the session, apart from the rest.
        has_environ: whether what is read of the environ itself is noted until the end.
        is_late: whether the record begins after an answer from the cache: nobody knows what was read in between.
    """

    view_args: dict[str, Any] | None = None
    session: dict[str, Any] | None = None
    observers: tuple[Observed, ...] = ()
    unseen: frozenset[Field] = frozenset()
    made_by: type | None = None
    from_making: bool = False
    of_session: dict[Field, None] | None = None
    has_environ: bool = False
    is_late: bool = False

    def note(self, kind: str, name: str) -> None:
        """A field was read."""
        field = kind, name
        aside = _aside.get()
        if aside is not None:
            aside[field] = None
            return
        self[field] = None
        observers = self.observers
        if observers:
            # Those around it; all of them, in a thread that came without its context.
            here = _entered.get()
            for each in [each for each in observers if each in here] or observers:
                each.noted.add(field)


class Observed:
    """What was read while an observation was entered.

    Attributes:
        noted: the fields, as they were spelled.
    """

    __slots__ = ("_carried", "_identities", "_request", "_token", "noted")

    def __init__(self, request: Any, identities: Iterable[str] = (), *, carried: Carried | None = None) -> None:
        self.noted: Final[set[Field]] = set()
        self._identities: Final = frozenset(identities)
        self._carried: Final = carried
        self._request: Final = request
        self._token: Any = None

    def __enter__(self) -> Observed:
        reads = self._record()
        if self._request is not None:
            _forget_computed(self._request)
        self.noted.update(reads.unseen)
        self._token = _entered.set((*_entered.get(), self))
        if not reads.observers and self._request is not None:
            held = self._request.__dict__
            held["environ"] = _Environ(raw_environ(self._request), reads)
        reads.observers = (*reads.observers, self)
        return self

    def __exit__(self, *_: object) -> None:
        reads = self._record()
        reads.observers = tuple(each for each in reads.observers if each is not self)
        if not reads.observers and self._request is not None:
            environ = raw_environ(self._request)
            self._request.__dict__["environ"] = _Environ(environ, reads) if reads.has_environ else environ
        if self._token is not None:
            _entered.reset(self._token)

    def _record(self) -> Reads:
        """Of the request; outside of one, of what lies on ``flask.g``."""
        return observe(self._request) if self._request is not None else watch_g(None)

    @property
    def reads(self) -> set[str]:
        """The fields as texts; of ``flask.g`` only the attributes that count."""
        return {field_text(field) for field in tuple(self.noted) if field[0] != "g" or self._counts(field[1])}

    def _counts(self, name: str) -> bool:
        return name in self._identities or (self._carried is not None and self._carried.says(name))

    def beside(self, given: Iterable[object]) -> frozenset[str]:
        """What was read of all but these objects: a function that is given ``request.args`` has them in its key."""
        held = instance_dict(self._request) if self._request is not None else {}
        kinds = {"headers": "header", "values": "arg", **_CONTAINERS}
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
    request.__class__ = _watching_attributes(_watching_request(type(request)))
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
    known = held.get(_RECORD)
    if known is not None and known.__class__ is Reads:
        if known.from_making and session is not None:
            known.from_making = False
            _begin(held, session, known)
        return known
    kind, headers = request.__class__, held["headers"]
    reads = cast(Reads, held.pop(_EARLY, None) or Reads())
    held[_RECORD] = reads
    if reads:
        _keep_early(reads)
    if known is _ANSWERED:
        reads.is_late = True
    watching = _requests.get(kind)
    if watching is None:
        watching = _watching_request(kind)
        if kind.__init__ is _PLAIN_INIT or hasattr(kind, _EARLY):
            _requests[kind] = watching
        else:
            reads.made_by = kind
    request.__class__ = watching
    headers.__dict__[_RECORD] = reads
    kind = headers.__class__
    headers.__class__ = _headers.get(kind) or _watching_headers(kind)
    cookies = held.get("cookies")
    if cookies is not None:  # the session was opened by one
        cookies.__dict__[_RECORD] = reads
        kind = cookies.__class__
        cookies.__class__ = _cookies.get(kind) or _watching_cookies(kind)
    if "args" in held:
        _watch(held["args"], reads, _watching_args)
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
        if not _watch(session, reads, _watching_session):
            reads.unseen = frozenset({("session", "*")})


def defer(request: Any) -> bool:
    """Leave it to the view to have a request observed, if it is not answered from the cache.

    For a request whose view looks it up before anything of the app can read of it. An app's own class may, and so may
    what has a request observed from its making.

    Returns:
        Whether that is so.
    """
    if request.__class__ is not Request:
        return False
    return request.__dict__.setdefault(_RECORD, _DEFERRED) is _DEFERRED


def answered(request: Any) -> None:
    """A request is answered from the cache: it needs no record, and one that is begun later is not complete."""
    held: dict[str, Any] = request.__dict__
    if held.get(_RECORD, held) is _DEFERRED:
        held[_RECORD] = _ANSWERED


def view_args_of(request: Any) -> Any:
    """What the URL map gave to the view of a request, before anybody could change it."""
    held: dict[str, Any] = request.__dict__
    return held.get("view_args") if held.get(_RECORD, held) is _DEFERRED else observe(request).view_args


def watch_environ(request: Any) -> None:
    """Note what is read of the environ of a request itself as well, from now on until its end."""
    reads = observe(request)
    if not reads.has_environ:
        reads.has_environ = True
        request.__dict__["environ"] = _Environ(raw_environ(request), reads)


def watch_g(reads: Reads | None) -> Reads:
    """Note what is read of ``flask.g`` as well.

    Args:
        reads: where; ``None`` outside of a request, where it has a record of its own.
    """
    holder = g._get_current_object()
    if reads is None:
        found: Reads | None = instance_dict(holder).get(_RECORD)
        reads = Reads() if found is None else found
    _watch(holder, reads, _watching_g)
    return reads


def observed_when_made(kind: type, *, onwards: bool = False, has_environ: bool = False) -> type:
    """A request class like an app's own, of which is seen what it reads when it makes a request.

    Args:
        kind: the app's request class.
        onwards: whether what is read afterwards, until the request begins, is the app's as well. Else it is Flask's,
            which matches the URL and opens the session, and is left out.
        has_environ: whether what is read of the environ itself is noted then too.
    """
    is_plain = kind.__init__ is _PLAIN_INIT  # type: ignore[misc]  # which reads for Flask alone

    def get(self: Any) -> Any:
        return self.__dict__["headers"]

    def put(self: Any, headers: Any) -> None:
        held = self.__dict__
        held["headers"] = headers
        _watch(headers, held[_EARLY] if _EARLY in held else held[_RECORD], _watching_headers)

    def make(self: Any, environ: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        reads = self.__dict__[_EARLY] = Reads()
        super(observed, self).__init__(environ if is_plain else _Environ(environ, reads), *args, **kwargs)
        self.__dict__["environ"] = self.headers.environ = environ
        if onwards:
            observe(self).from_making = True
            if has_environ:
                watch_environ(self)
        else:
            reads["request", _EARLY] = None  # what comes after this is Flask's

    space = {"headers": property(get, put), "__init__": make, _EARLY: True, _FROM_MAKING: onwards}
    observed: Any = _subclass(kind, space)
    return cast(type, observed)


def observed_from_making(app: Any, *, has_front: bool = False, is_first: bool = True) -> None:
    """Have each request of an app observed from its making, where code of the app may run before it begins.

    Such are a request class, methods that a subclass of Flask or the app itself has in place of Flask's, converters,
    and what listens to the signal that a request has started. What a session interface reads is no such thing; it is
    noted apart.

    Args:
        app: all of it is set up.
        has_front: whether requests may be answered before their sessions are opened: then it has to be known what
            opens one, and what is read of the environ itself.
        is_first: whether nothing was put around what begins to observe a request.
    """
    onwards = (
        not is_first or type(app) is not Flask or _runs_code_early(app) or (has_front and not has_plain_sessions(app))
    )
    if not onwards and app.request_class.__init__ is _PLAIN_INIT:
        return
    app.request_class = observed_when_made(app.request_class, onwards=onwards, has_environ=has_front)
    interface: Any = copy.copy(app.session_interface)  # Flask's own is that of all apps
    opens = interface.open_session

    @functools.wraps(opens)
    def open_session(app: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        found: dict[Field, None] = {}
        entered = _aside.set(found)
        try:
            return opens(app, request, *args, **kwargs)
        finally:
            _aside.reset(entered)
            reads = request.__dict__.get(_RECORD)
            if reads is not None:
                reads.of_session = found

    with contextlib.suppress(AttributeError):  # slots
        interface.open_session = open_session
        app.session_interface = interface


def has_plain_sessions(app: Flask) -> bool:
    """Whether the session is found by Flask itself, so by one cookie."""
    interface = app.session_interface
    names = ("open_session", "get_cookie_name", "get_signing_serializer")
    plain = all(getattr(type(interface), each, None) is getattr(SecureCookieSessionInterface, each) for each in names)
    return plain and getattr(interface, "__dict__", {}).keys().isdisjoint(names)


def _runs_code_early(app: Flask) -> bool:
    replaced = (getattr(Flask, name, None) for name in vars(app).keys() - {"preprocess_request", "wsgi_app"})
    patched = not all(map(is_flask_s_own, vars(Flask).values()))
    foreign: list[Any] = [*app.url_map.converters.values(), *request_started.receivers_for(app)]
    return (
        patched
        or any(isinstance(each, FunctionType) for each in replaced)
        or not all(getattr(each, "__module__", "").startswith(_NO_APP) for each in foreign)
    )


def is_flask_s_own(method: object) -> bool:
    """Whether what a class of Flask's has is Flask's: a library that traces or guards apps may have replaced it."""
    if isinstance(method, FunctionType):  # whatever it says of itself, as a copy of Flask's name does
        return str(method.__globals__.get("__name__")).startswith("flask.")
    return not callable(method) or isinstance(method, type) or type(method).__module__ == "builtins"


def _keep_early(reads: Reads) -> None:
    """Leave out what was read between the making of a request and its beginning."""
    noted = list(reads)
    mark = ("request", _EARLY)
    if mark in reads:
        kept = noted[: noted.index(mark)]
        reads.clear()
        reads.update(dict.fromkeys(kept))


def session_of(context: Any) -> Any:
    """The session of a request's context as it is, without counting as an access; ``None`` when it is not open."""
    return context._session if hasattr(context, "_session") else context.session


def raw_environ(request: Any) -> dict[str, Any]:
    """The environ of a request; reading it is not noted."""
    environ: Any = request.__dict__["environ"]
    return environ.plain if environ.__class__ is _Environ else environ


@contextmanager
def unobserved() -> Iterator[None]:
    """Nothing that is read of the request inside counts as something that the answer depends on.

    For what only logs a request, and for gateways: they send all headers on, and the ``Vary`` of the answer says on
    which it depends.

    >>> with unobserved():
    ...     pass
    """
    entered = _aside.set({})
    try:
        yield
    finally:
        _aside.reset(entered)


def field_text(field: Field) -> str:
    """A field as one text: ``header:x-api-key``, ``session:cart``; an attribute of a request is its name alone.

    >>> field_text(("header", "X_Api-Key")), field_text(("request", "path")), field_text(("arg", "*"))
    ('header:x-api-key', 'path', 'arg:*')
    """
    kind, name = field
    if kind == "request":
        return name
    return f"{kind}:{name.lower().replace('_', '-') if kind == 'header' else name}"


def describe(fields: Iterable[str]) -> str:
    """The fields as a message names them.

    >>> describe({"g:_login_user", "session:_user_id", "header:accept-language", "arg:*", "arg:a", "remote_addr"})
    'current_user, request.args, request.headers["Accept-Language"], request.remote_addr'
    """
    known = set(fields)
    shown = {_described(field) for field in known if f"{field.partition(':')[0]}:*" not in known - {field}}
    if "current_user" in shown:
        shown.discard("session")  # where it was found
    return ", ".join(sorted(shown))


def _described(field: str) -> str:
    kind, colon, name = field.partition(":")
    if kind == "g":
        return "current_user" if name == "_login_user" else f"g.{name}"
    if kind == "session":
        return kind
    if kind == "environ":
        return "request.environ" if name == "*" else f'request.environ["{name}"]'
    if not colon:
        return "request.data" if kind == "body" else f"request.{kind}"
    whole = f"request.{kind}s"
    return whole if name == "*" else f'{whole}["{name.title() if kind == "header" else name}"]'


# Watching

#: The observations that this thread or task is inside of.
_entered: Final[ContextVar[tuple[Observed, ...]]] = ContextVar("rcache_observations", default=())
#: Where what is read now is noted instead: it is read by us, or by a method whose call is noted already.
_aside: Final[ContextVar[dict[Field, None] | None]] = ContextVar("rcache_reads_aside", default=None)


def _watch(target: Any, reads: Reads, watching: Callable[[type], type]) -> bool:
    """Have an object note what is read of it; whether it can."""
    try:
        # Not by assignment: `g` takes any attribute for one of the app's.
        object.__setattr__(target, _RECORD, reads)
        object.__setattr__(target, "__class__", watching(type(target)))
    except (TypeError, AttributeError):  # a class in C: nobody knows what is read of it
        return False
    return True


def _subclass(base: type, namespace: dict[str, Any]) -> type:
    like_it = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__slots__": (), "_rcache_base": base}
    return type(base.__name__, (base,), like_it | {"__hash__": base.__hash__} | namespace)


def _once(made: dict[type, type], make: Callable[[Any], type]) -> Callable[[Any], type]:
    """A function of a class that gives its watching subclass, and that one for itself; they are kept."""

    def watching(base: type) -> type:
        found = made.get(base)
        if found is None:
            found = made[base] = make(base)
            made[found] = found
        return found

    return watching


def _one_noted(method: Callable[..., Any], kind: str, *, searches: bool) -> Callable[..., Any]:
    """A method that reads one item."""

    def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        for name in args[:1] or list(kwargs.values())[:1]:
            self._rcache_reads.note(kind, name if type(name) is str else str(name))
        if not searches:
            return method(self, *args, **kwargs)
        with unobserved():
            return method(self, *args, **kwargs)

    return read


def _all_noted(method: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """A method that reads all items."""

    def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._rcache_reads.note(kind, "*")
        return method(self, *args, **kwargs)

    return read


def _container(base: Any, kind: str) -> dict[str, Any]:
    """The methods of a mapping that notes which of its items are read."""
    noted: dict[str, Any] = {}
    for name in dir(base):
        method = getattr(base, name, None)
        if not callable(method) or method is getattr(object, name, None) or name in _OF_NONE:
            continue
        if name in _OF_ONE:
            noted[name] = _one_noted(method, kind, searches=name in _BY_SEARCHING)
        elif name in _OF_ALL or not name.startswith("_"):
            noted[name] = _all_noted(method, kind)
    return noted


def _watching(kind: str, made: dict[type, type]) -> Callable[[Any], type]:
    return _once(made, lambda base: _subclass(base, _container(base, kind)))


#: The watching subclasses by the classes that they stand for, of what every request has; of requests only those whose
#: making is seen.
_headers: Final[dict[type, type]] = {}
_requests: Final[dict[type, type]] = {}
_cookies: Final[dict[type, type]] = {}

_watching_headers: Final = _watching("header", _headers)
_watching_cookies: Final = _watching("cookie", _cookies)
_watching_args: Final = _watching("arg", {})


@functools.partial(_once, {})
def _watching_session(base: Any) -> type:
    """A session that notes which of its items are read; of a library's class, what else it has as well."""
    noted = _container(base, "session")
    if base is not SecureCookieSession:

        def __getattribute__(self: Any, name: str) -> Any:  # noqa: N807
            value = base.__getattribute__(self, name)
            if not (name.startswith("_") or name in _OF_NONE) and name in instance_dict(self):
                instance_dict(self)[_RECORD].note("session", f".{name}")
            return value

        noted["__getattribute__"] = __getattribute__
    return _subclass(base, noted)


@functools.partial(_once, {})
def _watching_g(base: Any) -> type:
    """A ``flask.g`` that notes which of its attributes are read, but by filters and handlers of a log."""
    own = frozenset(dir(base))

    def __getattribute__(self: Any, name: str) -> Any:  # noqa: N807
        if not name.startswith("_rcache") and name not in own and not _is_logging():
            instance_dict(self)[_RECORD].note("g", name)
        return base.__getattribute__(self, name)

    def of_one(method: Callable[..., Any]) -> Callable[..., Any]:
        noted = _one_noted(method, "g", searches=False)
        return lambda *args, **kwargs: (method if _is_logging() else noted)(*args, **kwargs)

    def __iter__(self: Any) -> Iterator[str]:  # noqa: N807
        names = [name for name in instance_dict(self) if name != _RECORD]
        for name in names if not _is_logging() else ():
            instance_dict(self)[_RECORD].note("g", name)
        return iter(names)

    methods = {name: of_one(getattr(base, name)) for name in _OF_ONE if hasattr(base, name)}
    return _subclass(base, {"__getattribute__": __getattribute__, "__iter__": __iter__, **methods})


def _is_logging() -> bool:
    """Whether a message is being logged: what its filters look up, an id of the request, is in no result."""
    frame = sys._getframe(2)
    for _ in range(_LOGGING_DEPTH):
        if frame is None or frame.f_back is None:
            return False
        if frame.f_code is _LOGGING:
            return True
        frame = frame.f_back
    return False


@functools.partial(_once, {})
def _watching_request(base: Any) -> type:
    """A request whose containers are watched, and that notes who asks for the address, the body and the whole query."""

    def container(name: str, watching: Callable[[type], type]) -> cached_property[Any]:
        def made(self: Any) -> Any:
            with unobserved():
                value = getattr(super(watched, self), name)
            _watch(value, self._rcache_reads, watching)
            return value

        return cached_property(made, name)

    def attribute(name: str) -> property:
        def get(self: Any) -> Any:
            self._rcache_reads.note("request", name)
            return self.__dict__[name]

        def put(self: Any, value: Any) -> None:
            self.__dict__[name] = value

        return property(get, put)

    def stream(self: Any) -> Any:
        self._rcache_reads.note("request", "body")
        with unobserved():
            return super(watched, self).stream

    watched: Any = _subclass(
        base,
        {
            "args": container("args", _watching_args),
            "cookies": container("cookies", _watching_cookies),
            "query_string": attribute("query_string"),
            "remote_addr": attribute("remote_addr"),
            "stream": cached_property(stream, "stream"),
        },
    )
    return cast(type, watched)


@functools.partial(_once, {})
def _watching_attributes(base: Any) -> type:
    """A request that notes which of its attributes are read: those that stand in no function's key."""
    quiet = _OF_ROUTING | _computed(base) | _CONTAINERS.keys() | {"headers", "values", "environ", _RECORD}

    def __getattribute__(self: Any, name: str) -> Any:  # noqa: N807
        if name in quiet or name.startswith("_"):
            return base.__getattribute__(self, name)
        if name in _OF_BODY:
            instance_dict(self)[_RECORD].note("request", "body")
            if name in ("get_json", "json"):  # whose type is read as well
                return base.__getattribute__(self, name)
            with unobserved():
                return base.__getattribute__(self, name)
        held = instance_dict(self)
        if name in held:  # not there: a property or method, which reads what is
            held[_RECORD].note("request", name)
        return base.__getattribute__(self, name)

    return _subclass(base, {"__getattribute__": __getattribute__})


@functools.lru_cache(maxsize=64)
def _computed(base: Any) -> frozenset[str]:
    """The properties of a request that werkzeug makes of fields, and keeps."""
    found = {
        name
        for each in base.__mro__
        if each.__module__.startswith(("werkzeug.", "flask."))
        for name, item in vars(each).items()
        if isinstance(item, cached_property | functools.cached_property)
    }
    return frozenset(found - _CONTAINERS.keys() - _OF_BODY - {"values"})


def _forget_computed(request: Any) -> None:
    """Have what was made of fields made again, by whoever asks for it: reading it is then noted."""
    held: dict[str, Any] = request.__dict__
    kind: Any = type(request)
    for name in _computed(kind) & held.keys():
        held.pop(name, None)


class _Environ(dict[str, Any]):
    """An environ that notes which of its items are read; what is written goes to the request's own."""

    def __init__(self, environ: dict[str, Any], reads: Reads) -> None:
        super().__init__(environ)
        self._rcache_reads: Final = reads
        self.plain: Final = environ

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self.plain[key] = value

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.plain.pop(key, None)

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        self._rcache_reads.note("environ", key)
        self.plain.pop(key, None)
        return super().pop(key, *default)


for _name, _method in _container(dict, "environ").items():
    if _name not in vars(_Environ) and _name not in ("fromkeys", "popitem"):
        setattr(_Environ, _name, _method)
