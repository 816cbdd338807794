"""Objects that note what is read of them: requests, their containers, environs and sessions, and ``flask.g``.

Owns the subclasses of whatever class such an object has; what is done with a reading is :mod:`.reads`'s.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, cast

from flask.sessions import SecureCookieSession
from werkzeug.datastructures import EnvironHeaders
from werkzeug.utils import cached_property

from ..model.objects import instance_dict
from .reads import RECORD, Reads, unobserved

__all__ = [
    "CONTAINERS",
    "OF_ONE",
    "Environ",
    "cookies_watched",
    "forget_computed",
    "headers_watched",
    "one_noted",
    "raw_environ",
    "requests_watched",
    "subclass",
    "watch",
    "watching_args",
    "watching_attributes",
    "watching_cookies",
    "watching_g",
    "watching_headers",
    "watching_request",
    "watching_session",
]

#: The containers of a request that are made when they are first asked for.
CONTAINERS: Final = {"cookies": "cookie", "args": "arg"}
#: The function through which each message of a log goes, and how far from it a filter is looked for.
_LOGGING: Final = logging.Logger.handle.__code__
_LOGGING_DEPTH: Final = 30
#: What reads the environ of a request for a framework, whose requests note it themselves.
_FRAMEWORKS: Final = ("werkzeug.", "flask.", "flask_rcache.")
#: Attributes that Flask itself asks for, in ``url_for`` and templates; they come with the view that was chosen.
_OF_ROUTING: Final = frozenset({"json_module", "routing_exception", "shallow", "url_rule"})
#: What reads the body.
_OF_BODY: Final = frozenset({"data", "files", "form", "get_data", "get_json", "input_stream", "json", "stream"})
#: The methods that read one item of a container, named by their first argument …
OF_ONE: Final = frozenset(
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


def watch(target: Any, reads: Reads, watching: Callable[[type], type]) -> bool:
    """Have an object note what is read of it; whether it can."""
    try:
        # Not by assignment: `g` takes any attribute for one of the app's.
        object.__setattr__(target, RECORD, reads)
        object.__setattr__(target, "__class__", watching(type(target)))
    except (TypeError, AttributeError):  # a class in C: nobody knows what is read of it
        return False
    return True


def subclass(base: type, namespace: dict[str, Any]) -> type:
    """A subclass that stands for its base: the same name, and what it was made of in ``_rcache_base``."""
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


def one_noted(method: Callable[..., Any], kind: str, *, searches: bool) -> Callable[..., Any]:
    """A method that reads one item, and notes which."""

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
        if name in OF_ONE:
            noted[name] = one_noted(method, kind, searches=name in _BY_SEARCHING)
        elif name in _OF_ALL or not name.startswith("_"):
            noted[name] = _all_noted(method, kind)
    return noted


def _watching(kind: str, made: dict[type, type]) -> Callable[[Any], type]:
    return _once(made, lambda base: subclass(base, _container(base, kind)))


def _is_of_a_framework(frame: FrameType) -> bool:
    """Whether what runs there reads for Flask, and notes itself what it reads for the app."""
    return str(frame.f_globals.get("__name__")).startswith(_FRAMEWORKS)


def _noting_environ(*, of_request: bool) -> property:
    """The attribute ``environ`` of a request or of its headers, which notes what is read of it.

    While a view or a function runs, what frameworks read of the request's own counts too: then the first who asks for
    it has one that notes put in its place.
    """

    def get(self: Any) -> Any:
        held = self.__dict__["environ"]
        if of_request and held.__class__ is not Environ:
            reads = self._rcache_reads
            if reads.observers or reads.has_environ:
                held = self.__dict__["environ"] = Environ(held, reads)
        if held.__class__ is Environ or _is_of_a_framework(sys._getframe(1)):
            return held
        # Made for each access: nothing that is put into the request's own is missed, and few ask.
        return Environ(held, self._rcache_reads)

    def put(self: Any, environ: Any) -> None:
        self.__dict__["environ"] = environ

    return property(get, put)


def _headers(base: Any) -> type:
    """Headers that note which of them are read; those of a request lie in its environ."""
    more = {"environ": _noting_environ(of_request=False)} if issubclass(base, EnvironHeaders) else {}
    return subclass(base, _container(base, "header") | more)


#: The watching subclasses by the classes that they stand for, of what every request has; of requests only those whose
#: making is seen.
headers_watched: Final[dict[type, type]] = {}
requests_watched: Final[dict[type, type]] = {}
cookies_watched: Final[dict[type, type]] = {}

watching_headers: Final = _once(headers_watched, _headers)
watching_cookies: Final = _watching("cookie", cookies_watched)
watching_args: Final = _watching("arg", {})


@functools.partial(_once, {})
def watching_session(base: Any) -> type:
    """A session that notes which of its items are read; of a library's class, what else it has as well."""
    noted = _container(base, "session")
    if base is not SecureCookieSession:

        def __getattribute__(self: Any, name: str) -> Any:  # noqa: N807
            value = base.__getattribute__(self, name)
            if not (name.startswith("_") or name in _OF_NONE) and name in instance_dict(self):
                instance_dict(self)[RECORD].note("session", f".{name}")
            return value

        noted["__getattribute__"] = __getattribute__
    return subclass(base, noted)


@functools.partial(_once, {})
def watching_g(base: Any) -> type:
    """A ``flask.g`` that notes which of its attributes are read, but by filters and handlers of a log."""
    own = frozenset(dir(base))

    def __getattribute__(self: Any, name: str) -> Any:  # noqa: N807
        if name == "__dict__":
            if not _is_of_a_framework(sys._getframe(1)):
                iter(self)
        elif not name.startswith("_rcache") and name not in own and not _is_logging():
            instance_dict(self)[RECORD].note("g", name)
        return base.__getattribute__(self, name)

    def of_one(method: Callable[..., Any]) -> Callable[..., Any]:
        noted = one_noted(method, "g", searches=False)
        return lambda *args, **kwargs: (method if _is_logging() else noted)(*args, **kwargs)

    def __iter__(self: Any) -> Iterator[str]:  # noqa: N807
        names = [name for name in instance_dict(self) if name != RECORD]
        for name in names if not _is_logging() else ():
            instance_dict(self)[RECORD].note("g", name)
        return iter(names)

    methods = {name: of_one(getattr(base, name)) for name in OF_ONE if hasattr(base, name)}
    return subclass(base, {"__getattribute__": __getattribute__, "__iter__": __iter__, **methods})


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
def watching_request(base: Any) -> type:
    """A request whose containers are watched, and that notes who asks for the address, the body and the whole query."""

    def container(name: str, watching: Callable[[type], type]) -> cached_property[Any]:
        def made(self: Any) -> Any:
            with unobserved():
                value = getattr(super(watched, self), name)
            watch(value, self._rcache_reads, watching)
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

    watched: Any = subclass(
        base,
        {
            "args": container("args", watching_args),
            "cookies": container("cookies", watching_cookies),
            "environ": _noting_environ(of_request=True),
            "query_string": attribute("query_string"),
            "remote_addr": attribute("remote_addr"),
            "stream": cached_property(stream, "stream"),
        },
    )
    return cast(type, watched)


@functools.partial(_once, {})
def watching_attributes(base: Any) -> type:
    """A request that notes which of its attributes are read: those that stand in no function's key."""
    quiet = _OF_ROUTING | _computed(base) | CONTAINERS.keys() | {"headers", "values", "environ", RECORD}

    def __getattribute__(self: Any, name: str) -> Any:  # noqa: N807
        if name in quiet or name.startswith("_"):
            if name == "__dict__" and not _is_of_a_framework(sys._getframe(1)):
                held = instance_dict(self)
                for each in [each for each in held if each not in quiet and not each.startswith("_")]:
                    held[RECORD].note("request", each)
            return base.__getattribute__(self, name)
        if name in _OF_BODY:
            instance_dict(self)[RECORD].note("request", "body")
            if name in ("get_json", "json"):  # whose type is read as well
                return base.__getattribute__(self, name)
            with unobserved():
                return base.__getattribute__(self, name)
        held = instance_dict(self)
        if name in held:  # not there: a property or method, which reads what is
            held[RECORD].note("request", name)
        return base.__getattribute__(self, name)

    return subclass(base, {"__getattribute__": __getattribute__})


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
    return frozenset(found - CONTAINERS.keys() - _OF_BODY - {"values"})


def forget_computed(request: Any) -> None:
    """Have what was made of fields made again, by whoever asks for it: reading it is then noted."""
    held: dict[str, Any] = request.__dict__
    kind: Any = type(request)
    for name in _computed(kind) & held.keys():
        held.pop(name, None)


class Environ(dict[str, Any]):
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
        """As a dict's, in both."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As a dict's, in both."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        """As a dict's, in both; noted."""
        self._rcache_reads.note("environ", key)
        self.plain.pop(key, None)
        return super().pop(key, *default)


for _name, _method in _container(dict, "environ").items():
    if _name not in vars(Environ) and _name not in ("fromkeys", "popitem"):
        setattr(Environ, _name, _method)


def raw_environ(request: Any) -> dict[str, Any]:
    """The environ of a request; reading it is not noted."""
    environ: Any = request.__dict__["environ"]
    return environ.plain if environ.__class__ is Environ else environ
