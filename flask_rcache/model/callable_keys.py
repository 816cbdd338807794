"""What tells two callables apart in a key: a function's name, what it has closed over, the object it is bound to.

Owns that part of the keys of calls; every process that runs the same source must come to the same. How a key is
spelled is ``keys``'s, and when one is asked for ``functions``' and ``views``'.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, CellType, CodeType, MemberDescriptorType
from typing import Any, Final, NamedTuple

from ..errors import ConfigError, InvalidKeyError
from .keys import Key, is_plain, key_id

__all__ = ["captured", "closed_over", "function_name", "is_method", "object_key"]

_LAMBDA: Final = "<lambda>"


def function_name(function: Callable[..., Any]) -> str:
    """``module:qualname`` of a function and of what it wraps; lambdas have a fingerprint of their code besides.

    Raises:
        ConfigError: it has no name, as a ``functools.partial`` has none.
    """
    plain = inspect.unwrap(function)
    qualname = getattr(plain, "__qualname__", None)
    if qualname is None:
        raise ConfigError(f"caching needs a function: its name is part of the key, and {function!r:.80} has none")
    name = f"{plain.__module__}:{qualname}"
    code = getattr(plain, "__code__", None)
    if code is None or code.co_name != _LAMBDA:
        return name
    # All lambdas of a function have one name.
    return f"{name}@{code.co_firstlineno}-{key_id(_content(code))[1:17]}"


def _content(code: CodeType) -> tuple[object, ...]:
    """What a function does, in a form that is the same in every process."""
    consts = (_content(each) if isinstance(each, CodeType) else _constant(each) for each in code.co_consts)
    return (code.co_code, code.co_names, code.co_varnames, code.co_freevars, *consts)


def _constant(value: object) -> object:
    return value if is_plain(value) else repr(value)


def is_method(function: Callable[..., Any]) -> bool:
    """Whether it is written in a class and takes the object first."""
    owner = getattr(inspect.unwrap(function), "__qualname__", "").rpartition(".")[0]
    in_class = bool(owner) and not owner.endswith("<locals>")
    return in_class and next(iter(inspect.signature(function).parameters), "") in ("self", "cls")


def captured(function: Callable[..., Any]) -> tuple[tuple[str, CellType], ...]:
    """The variables of enclosing functions that a function, or a wrapper around it, reads and does not assign."""
    found = []
    seen = 0
    each: Any = function
    while each is not None and seen < 50:
        code, cells = getattr(each, "__code__", None), getattr(each, "__closure__", None)
        if isinstance(code, CodeType) and cells:
            # What it assigns is its own state, a counter, and no parameter: with it no two calls would be the same.
            assigned = set(_assigned(code))
            found += [pair for pair in zip(code.co_freevars, cells, strict=True) if pair[0] not in assigned]
        each, seen = getattr(each, "__wrapped__", None), seen + 1
    return tuple(found)


def _assigned(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_DEREF":
            yield instruction.argval
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _assigned(const)


def closed_over(cells: tuple[tuple[str, CellType], ...]) -> tuple[tuple[str, object], ...]:
    """The plain values among captured variables, as they are now; an app, a function or a list is left out."""
    values = []
    for name, cell in cells:
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if is_plain(value):
            values.append((name, value))
    return tuple(values)


def object_key(bound: object, method: str) -> Key:
    """What stands in a key for the object that a method is called on.

    Args:
        bound: the object, or the class of a class method.
        method: the name of the method, for the message.

    Returns:
        Its class; with what its ``__cache_key__()`` gives, or with its value when it is a plain one.

    Raises:
        InvalidKeyError: it has a state that cannot stand in a key.
    """
    if isinstance(bound, type):
        return (_name_of(bound),)
    kind = type(bound)
    traits = _traits(kind)  # type: ignore[arg-type]  # mypy: a class is hashable
    own_key = getattr(kind, "__cache_key__", None)
    if own_key is not None:
        return (traits.name, own_key(bound))
    if not getattr(bound, "__dict__", None) and not any(hasattr(bound, slot) for slot in traits.slots):
        if not traits.has_value:
            return (traits.name,)
        if _can_be_key(bound):
            return (traits.name, bound)
    raise InvalidKeyError(
        f"{method} would give one {kind.__name__} what it gave another: give the class a __cache_key__() that says "
        "what tells its objects apart, or @cached a key_func=, or make it a @staticmethod if no object matters"
    )


class _Traits(NamedTuple):
    """What the key of a method's object is made of."""

    name: str
    slots: tuple[str, ...]
    has_value: bool
    """Whether objects of the class hold something beside attributes, as numbers, lists and thread locals do."""


@functools.lru_cache(maxsize=256)
def _traits(kind: type) -> _Traits:
    slots = (
        name for each in kind.__mro__ for name, member in vars(each).items() if isinstance(member, MemberDescriptorType)
    )
    has_value = any(
        isinstance(vars(each).get("__new__"), BuiltinFunctionType) for each in kind.__mro__ if each is not object
    )
    has_value = has_value or issubclass(kind, Mapping)
    return _Traits(_name_of(kind), tuple(slots), has_value)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _can_be_key(value: object) -> bool:
    try:
        key_id((value,))
    except InvalidKeyError:
        return False
    return True
