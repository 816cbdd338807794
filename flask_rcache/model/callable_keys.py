"""What tells two callables apart in a key: their names, their wrappers, what they have closed over and are bound to.

Owns that part of the keys of calls; every process that runs the same source must come to the same. How a key is
spelled is ``typed_keys``'s, and when one is asked for ``functions``' and ``views``'.
"""

from __future__ import annotations

import contextlib
import copyreg
import datetime as dt
import dis
import functools
import inspect
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from ..errors import ConfigError, InvalidKeyError
from .bounded import BoundedDict
from .carried import is_data
from .objects import (
    a_type,
    attributes,
    class_fingerprint,
    class_name,
    code_fingerprint,
    has_hidden_state,
    instance_dict,
    is_of_python,
    is_of_sqlalchemy,
    type_name,
    unwrapped,
)
from .typed_keys import Key, is_plain, key_id

__all__ = ["Identity", "function_name", "identity_of", "is_method", "object_key", "signature_of"]

_LAMBDA: Final = "<lambda>"
_LOCAL: Final = "<locals>"
_MOST_LAYERS: Final = 50
#: What ``functools.update_wrapper`` copies to a wrapper, which says nothing of it.
_COPIED: Final = frozenset({"__wrapped__", *functools.WRAPPER_ASSIGNMENTS})
#: The code first seen under a name: other functions of that name have a fingerprint in theirs.
_first_code: Final[BoundedDict[str, str]] = BoundedDict(10_000)


class Identity:
    """What one callable is in the keys of its calls, as it is wrapped and as it is closed over.

    Args:
        function: the callable.
        describes: whether the objects that it has closed over are told apart by what they hold. A view's URL tells it
            from others, and what libraries have closed over around it holds what differs between processes.

    Attributes:
        name: ``module:qualname`` of what is wrapped innermost; with a fingerprint where several functions have it.

    Raises:
        ConfigError: it has no name, as an object with a ``__call__`` has none.
    """

    __slots__ = ("_cells", "_fixed", "_given", "name")

    def __init__(self, function: Callable[..., Any], *, describes: bool = False) -> None:
        self.name: Final = function_name(function)
        *wrappers, plain = _layers(function)
        entered = _describing.set(_Describing(self.name) if describes else None)
        try:
            fixed = [_wrapper_token(layer) for layer in wrappers if not isinstance(layer, _GIVES)]
        finally:
            _describing.reset(entered)
        self._fixed: Final = key_id(tuple(fixed)) if fixed else ""
        #: Partials and bound methods: what they give to each call.
        self._given: Final = [layer for layer in wrappers if isinstance(layer, _GIVES)]
        functions = [layer for layer in (*wrappers, plain) if isinstance(layer, FunctionType)]
        self._cells: Final = [cell for layer in functions for cell in _cells_of(layer, describes=describes)]

    def __call__(self) -> tuple[object, ...]:
        """What the key of a call holds beside its name and arguments, as it is now: closed-over values may change.

        Raises:
            InvalidKeyError: it is bound to an object, a partial of one, or has closed over one of a database, that
                can't stand in a key.
        """
        if not self._cells and not self._given:
            return (self._fixed,) if self._fixed else ()
        parts: list[object] = [self._fixed] if self._fixed else []
        for cell in self._cells:
            token = cell.token()
            if token is not None:
                parts.append((cell.name, token))
        for layer in self._given:
            if isinstance(layer, MethodType):
                parts.append(object_key(layer.__self__, self.name))
            else:
                parts += [[_argument(each) for each in layer.args]]
                parts += [{name: _argument(each) for name, each in layer.keywords.items()}]
        return tuple(parts)

    def text(self) -> str:
        """The callable as it is now, in one text: two that do different things, made by one factory, have two."""
        more = self()
        return self.name + (key_id(more) if more else "")


def identity_of(function: Callable[..., Any]) -> str:
    """The text of a callable's :class:`Identity`, for those who need it but once.

    Raises:
        ConfigError: it has no name.
        InvalidKeyError: it is bound to an object that can't be told from others of its class.

    >>> identity_of(identity_of)
    'flask_rcache.model.callable_keys:identity_of'
    """
    return Identity(function).text()


def function_name(function: Callable[..., Any]) -> str:
    """``module:qualname`` of a function and of what it wraps, with a fingerprint where it is not the only one.

    Raises:
        ConfigError: it has no name, as an object with a ``__call__`` has none.
    """
    plain = _innermost(function)
    qualname = getattr(plain, "__qualname__", None)
    if qualname is None:
        raise ConfigError(
            f"caching needs a function: its name is part of the key, and an object of {type_name(type(plain))} has "
            "none; wrap it in a def"
        )
    name = f"{plain.__module__}:{qualname}"
    if not isinstance(plain, FunctionType):
        return name
    fingerprint = _fingerprint(plain.__code__)
    if not _is_only_one(plain) or _first_code.get(name, fingerprint) != fingerprint:
        return f"{name}@{fingerprint}"
    _first_code[name] = fingerprint
    return name


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature that a call is bound to: the outermost that names its parameters.

    A wrapper that takes ``*args, **kwargs`` is taken to pass them on; one that names its own has its own defaults.

    Raises:
        ConfigError: it has none, as some functions in C.
    """
    signature = inspect.Signature()
    for layer in _layers(function):
        try:
            signature = inspect.signature(layer, follow_wrapped=False)
        except ValueError as error:
            raise ConfigError(
                f"caching needs a function whose arguments are known, {error}: wrap it in a def"
            ) from error
        kinds = {each.kind for each in signature.parameters.values()}
        if isinstance(layer, _GIVES) or not kinds >= _ANYTHING:
            return signature
    return signature


def is_method(function: Callable[..., Any]) -> bool:
    """Whether it is written in a class and takes the object first."""
    owner = getattr(inspect.unwrap(function), "__qualname__", "").rpartition(".")[0]
    in_class = bool(owner) and not owner.endswith(_LOCAL)
    return in_class and next(iter(inspect.signature(function).parameters), "") in ("self", "cls")


def object_key(bound: object, method: str) -> Key:
    """What stands in a key for the object that a method is called on.

    Args:
        bound: the object, or the class of a class method.
        method: the name of the method, for the message.

    Returns:
        Its class; with the object itself where it can stand in a key, as one with a ``__cache_key__()`` can.

    Raises:
        InvalidKeyError: it has a state that cannot stand in a key.
    """
    if isinstance(bound, type):
        return ("class", _class_token(bound))
    kind = type(bound)
    try:
        return (_class_token(kind), key_id((bound,)))
    except InvalidKeyError as error:
        if hasattr(kind, "__cache_key__"):
            raise
        if not attributes(bound) and not has_hidden_state(kind):
            return (_class_token(kind),)
        raise InvalidKeyError(
            f"{method}: instances of {kind.__name__} are indistinguishable: define __cache_key__() in the class, give "
            "@cached a key_func=, or make it a @staticmethod if the instance does not matter"
        ) from error


# The layers of a wrapped function

#: Layers that add arguments to each call.
_GIVES: Final = (functools.partial, MethodType)
_ANYTHING: Final = frozenset({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})


def _layers(function: Any) -> Iterator[Any]:
    """A callable, what it wraps, and so on inwards."""
    for _ in range(_MOST_LAYERS):
        yield function
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, MethodType | staticmethod | classmethod):
            function = function.__func__
        elif "__wrapped__" in (held := instance_dict(function)):
            function = held["__wrapped__"]
        else:
            return


def _innermost(function: Any) -> Any:
    *_, last = _layers(function)
    return last


def _fingerprint(code: CodeType) -> str:
    return key_id((code_fingerprint(code),))[1:17]


def _wrapper_token(wrapper: Any) -> list[object]:
    """What tells a wrapper from others: its code and defaults, or what an object that stands for a function holds."""
    if isinstance(wrapper, FunctionType):
        name = f"{wrapper.__globals__.get('__name__')}:{wrapper.__code__.co_qualname}"
        if not _is_only_one(wrapper):
            name += _fingerprint(wrapper.__code__)
        named = (wrapper.__kwdefaults__ or {}).items()
        return [name, [_token(each) for each in wrapper.__defaults__ or ()], {key: _token(each) for key, each in named}]
    return [
        _class_token(type(wrapper)),
        [(name, _token(each)) for name, each in attributes(wrapper) if name not in _COPIED],
    ]


def _argument(value: object) -> str:
    """An argument that a partial adds to each call.

    Raises:
        InvalidKeyError: it can't stand in a key.
    """
    token = _token(value)
    return key_id((value,)) if token is None else token


def _is_only_one(function: FunctionType) -> bool:
    """Whether its name leads to one piece of code: then a change of that code, or another Python, keeps its keys."""
    code = function.__code__
    if code.co_name == _LAMBDA:
        return False
    if _LOCAL not in code.co_qualname:
        return True
    found: Any = function.__globals__
    for step in code.co_qualname.split(f".{_LOCAL}")[0].split("."):
        found = unwrapped((found if isinstance(found, dict) else instance_dict(found)).get(step))
    around = getattr(found, "__code__", None)
    return isinstance(around, CodeType) and [each.co_qualname for each in _codes(around)].count(code.co_qualname) == 1


def _codes(code: CodeType) -> Iterator[CodeType]:
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield const
            yield from _codes(const)


# What a function has closed over


class _Cell:
    """A variable of an enclosing function, as part of a key.

    A value that can't change is taken as it is at the call. One that can, a list or a dict, is taken as it was when the
    cell was first seen: what becomes of it later is no other function, and it may be what the function caches from. So
    is an object, where it is described.
    """

    __slots__ = ("_cell", "_describes", "_seen", "_token", "name")

    def __init__(self, name: str, cell: CellType, *, describes: bool) -> None:
        self.name: Final = name
        self._cell: Final = cell
        self._describes: Final = describes
        self._seen: object = None
        self._token: str | None = None
        with contextlib.suppress(InvalidKeyError):  # said when it is called
            self.token()

    def token(self) -> str | None:
        """The variable's value as a text; ``None`` for an object that says nothing of itself.

        Raises:
            InvalidKeyError: the object can't be told from others of its class, and says something of whom it is for.
        """
        try:
            value = self._cell.cell_contents
        except ValueError:  # not assigned yet
            return None
        if value is not self._seen or hasattr(type(value), "__cache_key__"):
            entered = _describing.set(_Describing(self.name) if self._describes else None)
            try:
                self._token, self._seen = _token(value), value
            finally:
                _describing.reset(entered)
        return self._token


def _cells_of(function: FunctionType, *, describes: bool) -> list[_Cell]:
    """The variables of enclosing functions that a function reads and neither assigns nor changes."""
    code = function.__code__
    own = _changed(code)
    return [
        _Cell(name, cell, describes=describes)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
        if name not in own
    ]


#: What changes a list, a dict or a set.
_CHANGES: Final = frozenset(
    name
    for mutable, fixed in ((list, tuple), (dict, Mapping), (set, frozenset))
    for name in set(dir(mutable)) - set(dir(fixed))
    if not name.startswith("_") and name not in ("copy", "fromkeys")
)


_STORES: Final = frozenset({"STORE_SUBSCR", "DELETE_SUBSCR", "STORE_ATTR"})


def _changed(code: CodeType) -> set[str]:
    """The closed-over names that a function assigns, or whose items it does: its own state, such as a list of calls.

    With these in the key no two calls would be the same.
    """
    found: set[str] = set()
    loaded: dict[object, str] = {}  # by where in the source the name stands
    for instruction in dis.get_instructions(code):
        where = instruction.positions and (instruction.positions.lineno, instruction.positions.col_offset)
        name = instruction.opname
        if name == "STORE_DEREF":
            found.add(instruction.argval)
        elif name in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            loaded[where] = instruction.argval
        elif where in loaded and (name in _STORES or (name.startswith("LOAD_") and instruction.argval in _CHANGES)):
            found.add(loaded[where])  # it begins with that name: `seen[key] = …`, `seen.append(…)`
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found |= _changed(const)
    return found


#: The functions whose tokens are being made in this context, outermost first.
_under_way: Final[ContextVar[tuple[object, ...]]] = ContextVar("rcache_function_tokens", default=())
_DEEPEST: Final = 8


def _token(value: Any) -> str | None:
    """A closed-over value as a text; ``None`` for an object that says nothing of itself: an app, an engine, a lock."""
    kind = type(value)
    if issubclass(kind, type):
        return key_id(("class", _class_token(value)))
    if issubclass(kind, ModuleType):
        return key_id(("module", value.__name__))
    if issubclass(kind, (FunctionType, *_GIVES)) or "__wrapped__" in instance_dict(value):
        return _function_token(value)
    try:
        return key_id((value,))
    except InvalidKeyError:
        if hasattr(kind, "__cache_key__"):
            raise
        if hasattr(kind, "__next__"):
            return None
        describing = _describing.get()
        if describing is not None and (is_of_python(kind) or kind in _CONTAINERS):
            return describing.token(value)
        return None if is_of_python(kind) else _built_in_token(value)


# What an object is, by what it holds

_CONTAINERS: Final = (list, tuple, dict, set, frozenset)
#: What runs the app is the same for all that is cached there.
_FRAMEWORKS: Final = frozenset({"flask", "flask_rcache", "jinja2", "logging", "werkzeug"})
#: So deep, and at so many objects, it is looked at what one holds.
_DEEPEST_OBJECT: Final = 4
_MOST_OBJECTS: Final = 200


class _Describing:
    """Telling a closed-over object from others of its class by what it holds.

    Args:
        name: of the variable or the wrapper, for the message.
    """

    __slots__ = ("_around", "_left", "_name")

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._left = _MOST_OBJECTS
        self._around: Final[list[object]] = []

    def token(self, value: Any) -> str | None:
        """What an object holds, as a text; ``None`` for one that says nothing.

        Of data that is all that says something itself. Of what the function works with, a client or a connection, it is
        texts, such as the address of a server, objects, and public numbers and containers: what it keeps to itself and
        its times differ between processes.

        Raises:
            InvalidKeyError: a row of a database, whose attributes may not be loaded.
        """
        kind = type(value)
        if self._left <= 0 or len(self._around) >= _DEEPEST_OBJECT or any(each is value for each in self._around):
            return None
        self._left -= 1
        if any(base.__module__.partition(".")[0] in _FRAMEWORKS for base in kind.__mro__):
            return None
        is_said = is_data(value)
        if is_of_sqlalchemy(kind):
            if not is_said:
                return None
            raise InvalidKeyError(
                f"a cached function has closed over {self._name!r}, which is or holds {a_type(kind)} of SQLAlchemy, "
                "and that can't be part of its key: pass its id as an argument"
            )
        self._around.append(value)
        try:
            return key_id(("object", _class_token(kind), *self._parts(value, is_said=is_said)))
        finally:
            self._around.pop()

    def _parts(self, value: Any, *, is_said: bool) -> list[object]:
        held = attributes(value)
        if not is_said:
            return [(name, _token(each)) for name, each in held if _is_said(name, each)]
        parts: list[object] = [(name, _token(each)) for name, each in held if self._left > 0]
        if isinstance(value, Collection):
            parts.append(len(value))
        if isinstance(value, dict):
            parts += sorted((str(_token(name)), str(_token(item))) for name, item in self._some(dict.items(value)))
        elif isinstance(value, list | tuple):
            parts += [_token(each) for each in self._some(value)]
        elif isinstance(value, set | frozenset):
            parts += sorted(str(_token(each)) for each in self._some(value))
        return parts

    def _some(self, items: Iterable[Any]) -> Iterator[Any]:
        """As many as are looked at."""
        return itertools.takewhile(lambda _: self._left > 0, items)


#: What a client changes while it works.
_OF_STATE: Final = (bool, float, dt.date, dt.time, dt.timedelta, type(None))


def _is_said(name: str, value: object) -> bool:
    """Whether an attribute of what a function works with tells it from others."""
    if isinstance(value, str | bytes) or (type(value) is tuple and is_plain(value)):
        return True
    if isinstance(value, _OF_STATE) or (name.startswith("_") and isinstance(value, (int, *_CONTAINERS))):
        return False
    return is_data(value)


#: What tells closed-over objects apart, where that is asked for.
_describing: Final[ContextVar[_Describing | None]] = ContextVar("rcache_describing", default=None)


def _built_in_token(value: Any) -> str | None:
    """An object of a class in C, as ``copy`` would make it again: ``str.upper``, ``prices.get``, a pattern."""
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        made: Any = value.__reduce_ex__(2) if reduce is None else reduce(value)
    except Exception:  # noqa: BLE001  # a class of any library; most say that they can't be copied
        return None
    if isinstance(made, str):
        return key_id(("named", getattr(value, "__module__", None), made))
    if len(made) != 2:
        return None
    tokens = [_token(made[0]), *map(_token, made[1])]
    return None if None in tokens else key_id(("made", *tokens))


def _function_token(function: Any) -> str | None:
    outer = _under_way.get()
    if len(outer) >= _DEEPEST or any(each is function for each in outer):  # it has closed over itself
        return None
    entered = _under_way.set((*outer, function))
    describing = _describing.get()
    try:
        if describing is not None and isinstance(function, MethodType):
            return key_id(("method", _token(function.__func__), _token(function.__self__)))
        return key_id(("function", Identity(function, describes=describing is not None).text()))
    except InvalidKeyError:
        if describing is not None:
            raise
        return None
    except ConfigError:  # it has no name
        return None
    finally:
        _under_way.reset(entered)


def _class_token(kind: type) -> str:
    fingerprint = class_fingerprint(kind)
    return class_name(kind) + (key_id(fingerprint) if fingerprint else "")
