"""``NamedTuple``: as in ``typing``, but the constructor is compiled when the first instance is made.

``typing.NamedTuple`` writes and compiles a constructor for each class while its module is imported. That takes much
longer than making a class does, and most processes never make an instance of most of these classes. Type checkers see
``typing.NamedTuple`` itself.
"""

from __future__ import annotations

import collections
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Self

__all__ = ["NamedTuple"]

_tuple_new: Final = tuple.__new__
#: The descriptor of C that the standard library's named tuples have.
_field: Final[Callable[[int, str], object]] = collections._tuplegetter  # type: ignore[attr-defined]


class _Signature:
    """What ``inspect.signature`` says of a class: its fields, not what the first call of the constructor takes."""

    def __get__(self, _: object, owner: type[_Base]) -> inspect.Signature:
        signature = inspect.signature(_constructor(owner))
        return signature.replace(parameters=tuple(signature.parameters.values())[1:])


class _Base(tuple[Any, ...]):
    """What all named tuples have."""

    __slots__ = ()
    if TYPE_CHECKING:  # each class has its own, and ``typing.get_type_hints`` shows these as fields otherwise
        _fields: tuple[str, ...]
        _field_defaults: dict[str, Any]
    __signature__ = _Signature()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Compile the constructor of the class, which is called directly from now on."""
        return _constructor(cls)(cls, *args, **kwargs)  # type: ignore[no-any-return]

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:
        made = _tuple_new(cls, iterable)
        if len(made) != len(cls._fields):
            message = f"{cls.__name__} has {len(cls._fields)} fields, not {len(made)}"
            raise TypeError(message)
        return made

    def _replace(self, **changes: Any) -> Self:
        made = self._make(map(changes.pop, self._fields, self))
        if changes:
            message = f"{type(self).__name__} has no {', '.join(changes)}"
            raise ValueError(message)
        return made

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        """Name and value of each field, as a call."""
        fields = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
        return f"{type(self).__name__}({fields})"

    def __getnewargs__(self) -> tuple[Any, ...]:
        """What ``copy`` calls the constructor with."""
        return tuple(self)


def _constructor(kind: type[_Base]) -> Callable[..., Any]:
    """The constructor of a class, made and put there."""
    owner: type[_Base] = next(each for each in kind.__mro__ if "_fields" in vars(each))
    names = ", ".join(owner._fields)
    new = eval(f"lambda _cls, {names}: _new(_cls, ({names},))", {"_new": _tuple_new, "__name__": owner.__module__})  # noqa: S307
    new.__name__, new.__qualname__ = "__new__", f"{owner.__qualname__}.__new__"
    new.__defaults__ = tuple(owner._field_defaults.values())
    new.__annotations__ = dict(owner.__annotations__)
    owner.__new__ = staticmethod(new)  # type: ignore[method-assign]
    return new  # type: ignore[no-any-return]


class _Making(type):
    """The class of :data:`NamedTuple` while a class body is read; the class that results is an ordinary one."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        """A subclass of tuple whose fields are what the body annotates."""
        if bases == ():
            return super().__new__(cls, name, bases, body)
        fields = tuple(body["__annotations__"])
        defaults = {field: body[field] for field in fields if field in body}
        body |= {field: _field(number, f"Alias for field number {number}") for number, field in enumerate(fields)}
        body |= {"__slots__": (), "_fields": fields, "_field_defaults": defaults, "__match_args__": fields}
        return type(name, (_Base,), body)


if TYPE_CHECKING:
    from typing import NamedTuple
else:
    NamedTuple = _Making("NamedTuple", (), {})
