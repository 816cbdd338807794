"""Keys of memoized calls: when two calls of a function, or of a method on two objects, have the same key.

Owns what an argument is in such a key. An argument that has a key as everywhere else (``model.typed_keys``) is
identified by that; Flask-Caching's rules apply to the others: ``__caching_id__()``, then a ``__repr__`` of the class's
own. Any other object is only itself, as long as it lives and in this process.
"""

from __future__ import annotations

import inspect
import itertools
import os
import secrets
import weakref
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import Any, Final

from ..errors import InvalidKeyError
from ..functions import Parameters
from ..model.callable_keys import Identity, signature_of
from ..model.keys import Key, is_plain, key_id
from ..model.objects import class_fingerprint, class_name, type_name

__all__ = ["Memoized", "function_namespace"]


class Memoized:
    """A memoized function, as its keys and tags have it.

    Args:
        function: the plain function.
        ignored: names of arguments that do not count.
        by_name: whether another function of its name is taken for the same, whatever its code.
    """

    __slots__ = ("_bound", "_identity", "_ignored", "_keywords", "_names", "_parameters", "name", "owner")

    def __init__(self, function: Callable[..., Any], ignored: Iterable[str] = (), *, by_name: bool = False) -> None:
        #: What a bound method that is decorated is bound to.
        self._bound: Final = (function.__self__,) if isinstance(function, MethodType) else ()
        self._identity: Final = Identity(function.__func__ if isinstance(function, MethodType) else function)
        self._parameters: Final = Parameters(function)
        name = self._identity.name
        #: ``module:qualname``, with a fingerprint of the code where several functions have it.
        self.name: Final = name.partition("@")[0] if by_name and "<lambda>" not in name else name
        self._ignored: Final = frozenset(ignored)
        parameters = signature_of(function).parameters
        #: The name of ``**kwargs``, or ``None``.
        self._keywords: Final = next(
            (name for name, each in parameters.items() if each.kind is inspect.Parameter.VAR_KEYWORD), None
        )
        self._names: Final = list(parameters)
        first = next(iter(parameters), "")
        #: ``self`` or ``cls``, where the function takes the object first; or empty.
        self.owner: Final = first if first in ("self", "cls") else ""

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any], more: tuple[object, ...] = ()) -> str:
        """The key of a call.

        Args:
            args: of the call.
            kwargs: of the call.
            more: what else tells it apart.

        Raises:
            InvalidKeyError: an argument can't be told from others of its class.
            TypeError: the function does not take these arguments.
        """
        if args and kwargs:  # an argument that is given twice counts once, as in Flask-Caching
            given = dict(zip(self._names, args, strict=False))
            kwargs = {name: value for name, value in kwargs.items() if not _is_again(given, name, value)}
        arguments = self._parameters.bind(args, kwargs)
        if self._ignored:
            arguments = {name: value for name, value in arguments.items() if name not in self._ignored}
            if self._keywords in arguments:
                given = arguments[self._keywords]
                arguments[self._keywords] = {name: given[name] for name in given if name not in self._ignored}
        if self.owner in arguments:
            arguments[self.owner] = _token(arguments[self.owner])
        around = (self.name, self._identity(), *map(_token, self._bound), more)
        try:
            return key_id((*around, arguments))
        except InvalidKeyError:
            return key_id((*around, {name: _told(value) for name, value in arguments.items()}))

    def tag(self) -> str:
        """The tag of all its calls."""
        return f"memoized {self.name}"

    def tag_of(self, instance: object) -> str:
        """The tag of its calls on one object."""
        return f"memoized {self.name} {key_id((_token(instance),))}"

    def tags(self, args: tuple[Any, ...]) -> tuple[str, ...]:
        """The tags of one call."""
        if self.owner != "self" or "self" in self._ignored or not args:
            return (self.tag(),)
        return self.tag(), self.tag_of(args[0])


def function_namespace(f: Callable[..., Any], args: Any = None) -> tuple[str, str | None]:
    """The names of a function, and of it on one object, as Flask-Caching spells them; ``make_name`` is given the first.

    Args:
        f: the function, or a bound method.
        args: of a call.
    """
    names = list(inspect.signature(f).parameters)
    instance = getattr(f, "__self__", None)
    if instance is None and names[:1] == ["self"] and args:
        instance = args[0]
    name = f"{f.__module__}.{f.__qualname__}"
    plain = "".join(each for each in name if each.isascii() and (each.isalnum() or each in "_."))
    if instance is None or isinstance(instance, type):
        return plain, None
    token = str(instance.__caching_id__()) if hasattr(instance, "__caching_id__") else repr(instance)
    return plain, "".join(each for each in f"{name}.{token}" if each.isascii() and (each.isalnum() or each in "_."))


def _is_again(given: dict[str, Any], name: str, value: Any) -> bool:
    return name in given and is_plain(value) and type(given[name]) is type(value) and bool(given[name] == value)


def _told(value: Any) -> object:
    """An argument as plain values."""
    kind = type(value)
    if kind is tuple or kind is list:
        return (kind.__name__, *map(_told, value))
    if kind is dict:
        return ("dict", *((_told(name), _told(item)) for name, item in value.items()))
    return _token(value)


def _token(value: Any) -> object:
    """What an object is in a key.

    Raises:
        InvalidKeyError: it can't be told from others of its class.
    """
    if isinstance(value, type):
        return ("class", class_name(value), class_fingerprint(value))
    kind = type(value)
    of = (class_name(kind), class_fingerprint(kind))
    if hasattr(kind, "__caching_id__"):
        return ("id", *of, str(value.__caching_id__()))
    try:
        return ("key", key_id((value,)))
    except InvalidKeyError:
        if isinstance(kind.__repr__, FunctionType) and not hasattr(kind, "__len__"):
            return ("repr", *of, repr(value))
        return _identity_of(value)


# Objects that are only themselves. An address is not enough: another object may have it later, or in another process.

_serials: Final[dict[int, tuple[weakref.ref[Any], int]]] = {}
_next: Final = itertools.count()
_process: Final = secrets.token_hex(8)


def _identity_of(value: Any) -> Key:
    """The token of one object, in one process."""
    if hasattr(type(value), "__len__"):  # its repr is shortened, and what it holds may change
        raise InvalidKeyError(_ADVICE.format(type_name(type(value))))
    place = id(value)
    known = _serials.get(place)
    if known is not None and known[0]() is value:
        return ("object", _process, os.getpid(), known[1])
    try:
        reference = weakref.ref(value, lambda gone: _forget(place, gone))
    except TypeError:
        raise InvalidKeyError(_ADVICE.format(type_name(type(value)))) from None
    serial = next(_next)
    _serials[place] = reference, serial
    return ("object", _process, os.getpid(), serial)


def _forget(place: int, gone: weakref.ref[Any]) -> None:
    known = _serials.get(place)
    if known is not None and known[0] is gone:
        del _serials[place]


_ADVICE: Final = (
    "an argument of {0} can't be told from others of its class: pass its id instead, give the class a __caching_id__() "
    "that returns one, or name the argument in args_to_ignore"
)
