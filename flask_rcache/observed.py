"""What is read of a request: the headers, cookies, arguments, session values and identities that a result depends on.

Owns :func:`observing`, which notes the reads while it is entered. The request, its session and ``flask.g`` are watched
themselves, whoever reads them and by whatever name. What follows from a read is ``functions``' and ``views``' to say.

A watched object has another class for the while: a subclass of its own that notes what it is asked. So its identity and
all that it holds stay as they are, for those who got hold of it before as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from flask import g
from werkzeug.utils import cached_property

from .model.forks import new_lock
from .model.objects import instance_dict

__all__ = ["Observed", "describe", "observing"]

#: The containers of a request, and how fields of each are called.
_CONTAINERS: Final = {"headers": "header", "cookies": "cookie", "args": "arg", "values": "arg"}
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
#: … those that read all, where Python asks the class of an object and not the object …
_OF_ALL: Final = frozenset(
    {"__bool__", "__eq__", "__iter__", "__len__", "__ne__", "__or__", "__repr__", "__reversed__", "__ror__", "__str__"}
)
#: … and what reads none.
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


class Observed:
    """What was read so far.

    Args:
        identities: the attributes of ``flask.g`` that count.

    Attributes:
        reads: the fields: ``header:<name>`` (lower case), ``cookie:<name>``, ``arg:<name>``, ``session:<name>``, each
            with ``*`` for all of them at once; ``g:<name>``; ``body``; other attributes of the request by their names,
            such as ``remote_addr``.
    """

    __slots__ = ("_identities", "_watches", "reads")

    def __init__(self, identities: Iterable[str]) -> None:
        self.reads: Final[set[str]] = set()
        self._identities: Final = frozenset(identities)
        self._watches: Final[list[_Watch]] = []

    def take(self, field: str) -> None:
        """Note a read."""
        if not field.startswith("g:") or field[2:] in self._identities:
            self.reads.add(field)

    def beside(self, given: Iterable[object]) -> frozenset[str]:
        """What was read of all but these objects: a function that is given ``request.args`` has them in its key."""
        with _lock:
            known = [f"{watch.field}:" for watch in self._watches if any(watch.target is each for each in given)]
        return frozenset(field for field in self.reads if not field.startswith(tuple(known)))

    def watch(self, target: object, field: str, watching: Callable[[type], type]) -> None:
        """Note what is read of an object from now on.

        Args:
            target: the object.
            field: what its fields are called.
            watching: makes the class that it has meanwhile.
        """
        with _lock:
            watch = _watches.get(id(target))
            if watch is None:
                watch = _Watch(target, field)
                try:
                    watch.begin(watching)
                except TypeError:  # a class in C: nobody knows what is read of it
                    self.reads.add(f"{field}:*")
                    return
                _watches[id(target)] = watch
            if self not in watch.observers:
                watch.observers.append(self)
                self._watches.append(watch)

    def end(self) -> None:
        """Leave the objects as they were, those aside that another still watches."""
        with _lock:
            for watch in self._watches:
                watch.observers.remove(self)
                if not watch.observers:
                    watch.end()
                    del _watches[id(watch.target)]
            self._watches.clear()


@contextmanager
def observing(context: Any, identities: Iterable[str]) -> Iterator[Observed]:
    """Note what is read of a request, its session and ``flask.g`` inside; also by threads and tasks that begin there.

    Args:
        context: the context of the request, the current one; ``None`` for none, of which nothing is read.
        identities: the attributes of ``flask.g`` that count: the setting ``identity_g``.

    Returns:
        What was read, as it grows. Observations nest: what is read inside the inner one counts for the outer one too.
    """
    observed = Observed(identities)
    if context is None:
        yield observed
        return
    entered = _entered.set((*_entered.get(), observed))
    try:
        request = context.request
        observed.watch(request, "request", _watching_request)
        held = instance_dict(request)
        for name, field in _CONTAINERS.items():
            if name in held:  # somebody may have got hold of it
                observed.watch(held[name], field, _watching_container)
        session = context._session if hasattr(context, "_session") else context.session
        if session is not None:
            observed.watch(session, "session", _watching_container)
        observed.watch(g._get_current_object(), "g", _watching_g)
        yield observed
    finally:
        _entered.reset(entered)
        observed.end()


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
    if not colon:
        return "request.data" if kind == "body" else f"request.{kind}"
    whole = f"request.{kind}s"
    return whole if name == "*" else f'{whole}["{name.title() if kind == "header" else name}"]'


# Watching

_lock: Final = new_lock()


class _Watch:
    """One watched object, and who watches it."""

    __slots__ = ("_kept", "field", "observers", "target")

    def __init__(self, target: object, field: str) -> None:
        self.target: Final = target
        self.field: Final = field
        self.observers: Final[list[Observed]] = []
        self._kept: Final = type(target)

    def begin(self, watching: Callable[[type], type]) -> None:
        # Not by assignment: `g` takes any attribute for one of the app's.
        object.__setattr__(self.target, "__class__", watching(self._kept))

    def end(self) -> None:
        object.__setattr__(self.target, "__class__", self._kept)


#: By the id of the object, which its watch keeps alive.
_watches: Final[dict[int, _Watch]] = {}
#: The observations that this thread or task is inside of.
_entered: Final[ContextVar[tuple[Observed, ...]]] = ContextVar("rcache_observations", default=())
#: Where reads are noted while a method that was called answers: it reads its object in ways of its own.
_aside: Final[ContextVar[set[str] | None]] = ContextVar("rcache_reads_aside", default=None)


def _note(target: object, field: str) -> None:
    """A field of a watched object was read."""
    aside = _aside.get()
    if aside is not None:
        aside.add(field)
        return
    for observed in _observers(target):
        observed.take(field)


def _observers(target: object) -> list[Observed]:
    """Who is to know of a read: the observations around it; all of them, in a thread that came without its context."""
    watch = _watches.get(id(target))
    if watch is None:
        return []
    here = _entered.get()
    return [each for each in watch.observers if each in here] or list(watch.observers)


def _note_item(target: object, name: object) -> None:
    watch = _watches.get(id(target))
    if watch is not None:
        text = str(name)
        _note(target, f"{watch.field}:{text.lower().replace('_', '-') if watch.field == 'header' else text}")


@contextmanager
def _reading_aside() -> Iterator[set[str]]:
    fields: set[str] = set()
    entered = _aside.set(fields)
    try:
        yield fields
    finally:
        _aside.reset(entered)


def _subclass(base: type, namespace: dict[str, Any]) -> type:
    like_it = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__slots__": ()}
    return type(base.__name__, (base,), like_it | {"__hash__": base.__hash__} | namespace)


def _one_noted(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that reads one item."""

    def read(self: object, *args: Any, **kwargs: Any) -> Any:
        for name in args[:1] or list(kwargs.values())[:1]:
            _note_item(self, name)
        with _reading_aside():
            return method(self, *args, **kwargs)

    return read


def _all_noted(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that reads all items."""

    def read(self: object, *args: Any) -> Any:
        _note_item(self, "*")
        with _reading_aside():
            return method(self, *args)

    return read


@functools.lru_cache(maxsize=64)
def _watching_container(base: Any) -> type:
    """A mapping that notes which of its items are read."""

    def __getattribute__(self: object, name: str) -> Any:  # noqa: N807
        value = base.__getattribute__(self, name)  # templates try items as attributes: one that is none was not read
        if not (name.startswith("_") or name in _OF_ONE or name in _OF_NONE):
            _note_item(self, "*")
        return value

    noted: dict[str, Any] = {"__getattribute__": __getattribute__}
    for names, wrap in ((_OF_ONE, _one_noted), (_OF_ALL, _all_noted)):
        for name in names:
            method = getattr(base, name, None)
            if method is not None and method is not getattr(object, name, None):
                noted[name] = wrap(method)
    return _subclass(base, noted)


@functools.lru_cache(maxsize=64)
def _watching_g(base: Any) -> type:
    """A ``flask.g`` that notes which of its attributes are read."""

    def __getattribute__(self: object, name: str) -> Any:  # noqa: N807
        if not name.startswith("__"):
            _note_item(self, name)
        return base.__getattribute__(self, name)

    methods = {name: _one_noted(getattr(base, name)) for name in _OF_ONE if hasattr(base, name)}
    return _subclass(base, {"__getattribute__": __getattribute__, **methods})


#: What a property of a request has read when it was computed; later its value is at hand.
_sources: Final[dict[tuple[type, str], frozenset[str]]] = {}


@functools.lru_cache(maxsize=64)
def _watching_request(base: Any) -> type:
    """A request that notes which of its attributes are read."""
    computed = {
        name
        for each in base.__mro__
        for name, item in vars(each).items()
        if isinstance(item, cached_property | functools.cached_property)
    }

    def __getattribute__(self: object, name: str) -> Any:  # noqa: N807
        if name.startswith("_"):
            return base.__getattribute__(self, name)
        if name in _OF_BODY:
            _note(self, "body")
            with _reading_aside():
                return base.__getattribute__(self, name)
        is_there = name in instance_dict(self)
        if name not in computed:
            value = base.__getattribute__(self, name)
            if is_there and name not in _OF_ROUTING:  # not there: a property or method, which reads what is
                _note_attribute(self, name, value, {name})
            return value
        with _reading_aside() as fields:
            value = base.__getattribute__(self, name)
        if not is_there:
            _sources[base, name] = _sources.get((base, name), frozenset()) | fields
        _note_attribute(self, name, value, _sources.get((base, name), {name}))
        return value

    return _subclass(base, {"__getattribute__": __getattribute__})


def _note_attribute(request: object, name: str, value: object, fields: Iterable[str]) -> None:
    """An attribute of a request was read; of a container, it is its items that count."""
    if name in _CONTAINERS:
        for observed in _observers(request):
            observed.watch(value, _CONTAINERS[name], _watching_container)
        fields = [field for field in fields if field == "body"]
    for field in fields:
        _note(request, field)
