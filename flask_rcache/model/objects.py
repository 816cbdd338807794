"""What an object is made of, as far as Python shows it: its class, its fields, its attributes, its code.

Owns the questions that keys and values ask of an object before they take it apart. Runs no code of the object's (no
property, no ``__getattr__``) but that of fields, and knows nothing of how keys and values are written.
"""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, MemberDescriptorType
from typing import Any, Final, Generic, TypeVar
from weakref import WeakValueDictionary

__all__ = [
    "a_type",
    "attributes",
    "class_fingerprint",
    "class_name",
    "code_fingerprint",
    "field_names",
    "has_hidden_state",
    "instance_dict",
    "is_model",
    "is_named_tuple",
    "is_of_python",
    "is_of_sqlalchemy",
    "slots_of",
    "type_name",
    "unwrapped",
]

R = TypeVar("R")

#: Classes in C whose whole state can be read. Those of an ordinary object hold none beside its attributes.
_TRANSPARENT: Final[frozenset[Any]] = frozenset({object, Generic, list, tuple, dict, OrderedDict, set, frozenset})
#: Flags of a class, as CPython's object.h has them.
_IMMUTABLE_TYPE: Final = 1 << 8
_HEAP_TYPE: Final = 1 << 9


def _once(function: Callable[[type], R]) -> Callable[[type], R]:
    """What is found out about a class is remembered, for the classes in use."""
    return functools.lru_cache(maxsize=512)(function)


def type_name(kind: type) -> str:
    """The qualified name of a type, as error messages show it."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def a_type(kind: type) -> str:
    """The name of a type with its article.

    >>> a_type(object), a_type(float)
    ('an object', 'a float')
    """
    name = type_name(kind)
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def class_name(kind: type) -> str:
    """``module:qualname`` of a class."""
    return f"{kind.__module__}:{kind.__qualname__}"


def is_named_tuple(kind: type) -> bool:
    """Whether it is a class of named tuples."""
    return issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple)


def is_model(kind: type) -> bool:
    """Whether it is a class of pydantic models (of version 2), which is not imported for that."""
    return _static(kind, "model_construct") is not None and _model_fields(kind) is not None


def _model_fields(kind: type) -> Mapping[str, object] | None:
    found = _static(kind, "__pydantic_fields__")
    if found is None:  # before pydantic 2.10
        found = _static(kind, "model_fields")
    return found if isinstance(found, Mapping) else None


def field_names(kind: type) -> tuple[str, ...] | None:
    """The fields that a dataclass, a named tuple or a pydantic model declares; ``None`` for another class.

    >>> from collections import namedtuple
    >>> field_names(namedtuple("Point", "x y")), field_names(int)
    (('x', 'y'), None)
    """
    if is_dataclass(kind):
        return tuple(each.name for each in fields(kind))
    if is_named_tuple(kind):
        return tuple(kind._fields)  # type: ignore[attr-defined]
    if is_model(kind):
        return tuple(_model_fields(kind) or ())
    return None


@_once
def is_of_sqlalchemy(kind: type) -> bool:
    """Whether its objects are rows, results or mapped objects of SQLAlchemy, which is not imported for that."""
    return any(
        base.__module__.partition(".")[0] == "sqlalchemy" or not vars(base).keys().isdisjoint(_OF_SQLALCHEMY)
        for base in kind.__mro__
    )


_OF_SQLALCHEMY: Final = ("_sa_class_manager", "_sa_instance_state", "__mapper__", "__table__", "_mapping")


def instance_dict(value: object) -> Mapping[str, Any]:
    """The ``__dict__`` of an object itself, which may be a proxy of another; empty where it has none."""
    try:
        held: Mapping[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return held


def attributes(value: object) -> list[tuple[str, Any]]:
    """What an object has in its ``__dict__`` and its slots, by name; what it only caches is left out.

    >>> import types
    >>> attributes(types.SimpleNamespace(b=1, a=2))
    [('a', 2), ('b', 1)]
    """
    kind = type(value)
    found = [(name, item) for name, item in instance_dict(value).items() if not _is_cached(kind, name)]
    for slot in slots_of(kind):
        try:
            found.append((slot.__name__, slot.__get__(value)))
        except AttributeError:  # nothing was put there yet
            continue
    return sorted(found, key=lambda pair: pair[0])


def _is_cached(kind: type, name: str) -> bool:
    """Whether a property put it there, to compute it but once."""
    return name == "__orig_class__" or isinstance(_static(kind, name), functools.cached_property | property)


@_once
def slots_of(kind: type) -> tuple[MemberDescriptorType, ...]:
    """The slots of a class and its bases."""
    return tuple(
        member
        for base in kind.__mro__
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType) and name != "__dict__"
    )


@_once
def has_hidden_state(kind: type) -> bool:
    """Whether its objects may hold what is neither an attribute nor an item: a file, a lock, another library's C."""
    return any(
        not is_of_python(base) or isinstance(vars(base).get("__new__"), BuiltinFunctionType)
        for base in kind.__mro__
        if base not in _TRANSPARENT
    )


def is_of_python(kind: type) -> bool:
    """Whether a class was made by a ``class`` statement; a few in C look as if."""
    return kind.__flags__ & (_HEAP_TYPE | _IMMUTABLE_TYPE) == _HEAP_TYPE


def _static(kind: type, name: str) -> Any:
    """What a class or its bases have under a name, as it lies there."""
    for base in kind.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None


# What tells classes and functions of one name apart


#: The first class seen under each name, as long as it lives: another one that takes the name over is none of its kind.
_first: Final[WeakValueDictionary[str, type]] = WeakValueDictionary()


def class_fingerprint(kind: type) -> tuple[object, ...]:
    """What tells a class from others of its name: nothing, for the class that its name leads to.

    A class that a function made, or whose name another had before, is told by what its author wrote: its bases, the
    plain values in it, the code of its functions and what they have closed over. The same in every process.
    """
    if _found(kind.__module__, kind.__qualname__) is kind and _first.setdefault(class_name(kind), kind) is kind:
        return ()
    return _content(kind)


class _Bare:
    """A class of which its author wrote nothing but an annotation."""

    field: int


_OF_EVERY_CLASS: Final = frozenset(vars(_Bare))


@_once
def _content(kind: type) -> tuple[object, ...]:
    content = []
    for name, item in sorted(vars(kind).items()):
        if name not in _OF_EVERY_CLASS and (shown := _shown(item, 0)) is not None:
            content.append((name, shown))
    bases = tuple((class_name(base), class_fingerprint(base)) for base in kind.__bases__)
    return (bases, tuple(content))


def _found(module: str, qualname: str) -> object:
    """What a qualified name leads to."""
    found: Any = sys.modules.get(module)
    for step in qualname.split("."):
        found = instance_dict(found).get(step)
    return found


def _shown(item: Any, depth: int) -> object:
    """A class's attribute in plain values; ``None`` for what says nothing that is the same in every process."""
    if isinstance(item, property):
        return tuple(_shown(each, depth) for each in (item.fget, item.fset, item.fdel))
    if isinstance(item, functools.cached_property):
        return _shown(item.func, depth)
    if isinstance(item, type):
        return class_name(item)
    if isinstance(item, Enum):
        return (class_name(type(item)), item.name)
    item = unwrapped(item)
    if not isinstance(item, FunctionType):
        return _constant(item) if _is_constant(item) else None
    if depth > 4:
        return code_fingerprint(item.__code__)
    around = [*_cells(item), *(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).items()]
    return (code_fingerprint(item.__code__), *(_shown(each, depth + 1) for each in around))


def unwrapped(item: Any) -> Any:
    """The function below static methods, class methods and wrappers that name what they wrap."""
    for _ in range(_MOST_WRAPPERS):
        if isinstance(item, staticmethod | classmethod):
            item = item.__func__
        else:
            held = instance_dict(item)
            if "__wrapped__" not in held:
                break
            item = held["__wrapped__"]
    return item


_MOST_WRAPPERS: Final = 50


def _cells(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def code_fingerprint(code: CodeType) -> tuple[object, ...]:
    """What a function does, in plain values: the same in every process of one Python version, wherever it stands."""
    consts = (code_fingerprint(each) if isinstance(each, CodeType) else _constant(each) for each in code.co_consts)
    return (code.co_code, code.co_names, code.co_varnames, code.co_freevars, *consts)


def _is_constant(value: object) -> bool:
    if type(value) in (tuple, frozenset):
        return all(map(_is_constant, value))  # type: ignore[call-overload]
    return value is None or type(value) in (bool, int, float, complex, str, bytes)


def _constant(value: object) -> object:
    """A constant of a function's code, in values that a key may hold."""
    if type(value) is tuple:
        return tuple([_constant(each) for each in value])
    if type(value) is frozenset:
        return frozenset([_constant(each) for each in value])
    return value if _is_constant(value) and type(value) is not complex else repr(value)
