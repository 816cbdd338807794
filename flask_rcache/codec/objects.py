"""Objects of the app's own classes: what is written of them, and how they are made again.

Owns the classes named in ``RCache(values=…)``: only these are ever made from bytes, and a hit runs none of their code
but ``from_cache_value``. How parts become bytes is ``values``'s.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum, Flag
from hashlib import blake2b
from typing import Any, Final

import ormsgpack

from flask_rcache.errors import ConfigError, DecodeError, EncodeError
from flask_rcache.model.objects import (
    attributes,
    class_name,
    field_names,
    has_hidden_state,
    is_model,
    is_named_tuple,
    is_of_sqlalchemy,
    slots_of,
    type_name,
)

__all__ = ["OBJECT", "Form", "advice", "form_of_seen", "forms_of"]

#: The extension that stands before an object's parts; it holds the name of the class.
OBJECT: Final = 5

#: What is kept of a pydantic model beside its fields, as its own ``__getstate__`` names it.
_EXTRA, _PRIVATE, _SET = "__pydantic_extra__", "__pydantic_private__", "__pydantic_fields_set__"


class Form:
    """How the objects of one class are written and made again.

    Args:
        kind: the class.
        take_apart: the parts of an object; raises :class:`EncodeError` where they are not all of it.
        build: an object of its parts; raises anything where they are none of this class.
        steps: how a message shows the way to each part.
        schema: what both sides must agree on beside the name of the class.
    """

    __slots__ = ("build", "kind", "mark", "name", "steps", "take_apart")

    def __init__(
        self,
        kind: type,
        take_apart: Callable[[Any], list[Any]],
        build: Callable[[list[Any]], Any],
        *,
        steps: tuple[str, ...],
        schema: tuple[str, ...] = (),
    ) -> None:
        digest = blake2b("\0".join(schema).encode(), digest_size=4).hexdigest() if schema else ""
        self.kind: Final = kind
        self.name: Final = f"{class_name(kind)}~{digest}" if digest else class_name(kind)
        self.mark: Final = ormsgpack.Ext(OBJECT, self.name.encode())
        self.take_apart: Final = take_apart
        self.build: Final = build
        self.steps: Final = steps


def forms_of(classes: Iterable[type]) -> dict[type, Form]:
    """The forms of an app's classes.

    Raises:
        ConfigError: a class whose objects can't be made again exactly, or two of one name.
    """
    forms: dict[type, Form] = {}
    by_name: dict[str, type] = {}
    if isinstance(classes, type | str | bytes) or not isinstance(classes, Iterable):
        raise ConfigError(f"values= takes a list of classes, not {classes!r:.80}: write values=[…]")
    for kind in classes:
        if not isinstance(kind, type):
            raise ConfigError(f"values= takes classes such as dataclasses and enums, not {kind!r:.80}")
        if by_name.setdefault(class_name(kind), kind) is not kind:
            raise ConfigError(
                f"values= has two classes named {type_name(kind)}, which stored values could not tell apart: rename one"
            )
        forms[kind] = _form(kind)
    return forms


def form_of_seen(kind: type) -> Form:
    """The form of a class that nobody has named, and of which an object was seen.

    Beside what ``RCache(values=…)`` takes, that is an ordered dict, and an object of a plain class whose attributes are
    all that it has.

    Raises:
        ConfigError: objects of the class can't be made again exactly.
    """
    if kind is OrderedDict:
        return _of_ordered_dict()
    try:
        return _form(kind)
    except ConfigError:
        is_plain = _has_dict(kind) and not slots_of(kind) and not is_of_sqlalchemy(kind) and not has_hidden_state(kind)
        if not is_plain or issubclass(kind, list | dict | set | frozenset | tuple | BaseException):
            raise
    return _of_plain_class(kind)


def _of_ordered_dict() -> Form:
    def build(parts: list[Any]) -> Any:
        keys, values = parts
        return OrderedDict(zip(keys, values, strict=True))

    return Form(OrderedDict, lambda value: [list(value), list(value.values())], build, steps=(".keys()", ".values()"))


def _of_plain_class(kind: Any) -> Form:
    def build(parts: list[Any]) -> Any:
        (held,) = parts
        if not _is_mapping_of_names(held) or held is None:
            raise DecodeError(f"no attributes of a {type_name(kind)}")
        made = object.__new__(kind)  # __init__ does not run
        made.__dict__.update(held)
        return made

    return Form(kind, lambda value: [dict(value.__dict__)], build, steps=(".__dict__",), schema=("plain",))


def _form(kind: type) -> Form:
    if hasattr(kind, "__cache_value__") or hasattr(kind, "from_cache_value"):
        return _of_its_own(kind)
    if issubclass(kind, Enum):
        return _of_enum(kind)
    names = field_names(kind)
    if is_of_sqlalchemy(kind) or names is None:
        raise ConfigError(
            f"values= cannot take {type_name(kind)}: it must be a dataclass, a named tuple, an enum or a pydantic "
            "model, or define __cache_value__() and a class method from_cache_value(value)"
        )
    if has_hidden_state(kind) or (issubclass(kind, list | dict | set | frozenset | tuple) and not is_named_tuple(kind)):
        raise ConfigError(
            f"values= cannot take {type_name(kind)}: its objects hold more than their fields; "
            "define __cache_value__() and a class method from_cache_value(value)"
        )
    if is_named_tuple(kind):
        return _of_named_tuple(kind, names)
    return _of_model(kind, names) if is_model(kind) else _of_dataclass(kind, names)


def _of_its_own(kind: Any) -> Form:
    if not callable(getattr(kind, "__cache_value__", None)) or not callable(getattr(kind, "from_cache_value", None)):
        raise ConfigError(f"{type_name(kind)} needs both __cache_value__() and a class method from_cache_value(value)")

    def take_apart(value: Any) -> list[Any]:
        try:
            return [value.__cache_value__()]
        except Exception as error:  # somebody's code: it may raise anything
            raise EncodeError(f"{type_name(kind)}.__cache_value__() failed: {error!r:.200}") from error

    def build(parts: list[Any]) -> Any:
        (part,) = parts
        try:
            made = kind.from_cache_value(part)
        except Exception as error:  # the same
            raise DecodeError(f"{type_name(kind)}.from_cache_value() failed: {error!r:.200}") from error
        if type(made) is not kind:
            raise DecodeError(f"{type_name(kind)}.from_cache_value() returned a {type_name(type(made))}")
        return made

    return Form(kind, take_apart, build, steps=(".__cache_value__()",))


def _of_enum(kind: Any) -> Form:
    members = kind.__members__
    if issubclass(kind, Flag):  # several members at once have no name that is sure to be found again

        def take_apart(value: Any) -> list[Any]:
            return [value.value]

        def build(parts: list[Any]) -> Any:
            (number,) = parts
            if type(number) is not int:
                raise DecodeError(f"a {type_name(kind)} of no number")
            return kind(number)
    else:

        def take_apart(value: Any) -> list[Any]:
            name = value.name
            if members.get(name) is not value:
                raise EncodeError(f"{type_name(kind)} has no member {name!r:.60}")
            return [name]

        def build(parts: list[Any]) -> Any:
            (name,) = parts
            return members[name]

    return Form(kind, take_apart, build, steps=(".name",))


def _of_named_tuple(kind: Any, names: tuple[str, ...]) -> Form:
    number = len(names)

    check = _checked(kind, ())

    def take_apart(value: Any) -> list[Any]:
        check(value)
        return list(tuple.__iter__(value))

    def build(parts: list[Any]) -> Any:
        if len(parts) != number:
            raise DecodeError(f"a {type_name(kind)} of {len(parts)} fields")
        return tuple.__new__(kind, parts)

    return Form(kind, take_apart, build, steps=tuple(f".{name}" for name in names), schema=("tuple", *names))


def _of_dataclass(kind: Any, names: tuple[str, ...]) -> Form:
    try:
        object.__new__(kind)
    except TypeError as error:
        raise ConfigError(f"values= cannot take {type_name(kind)}: {error}") from error

    check = _checked(kind, names)

    def take_apart(value: Any) -> list[Any]:
        check(value)
        try:
            return [getattr(value, name) for name in names]
        except AttributeError as error:
            raise EncodeError(f"a {type_name(kind)} lacks a field: {error}") from error

    def build(parts: list[Any]) -> Any:
        # Neither __init__ nor __post_init__ runs: the fields are as they were, those of init=False and frozen ones too.
        made = object.__new__(kind)
        if is_plain:
            made.__dict__.update(zip(names, parts, strict=True))
        else:
            for name, part in zip(names, parts, strict=True):
                object.__setattr__(made, name, part)
        return made

    #: Nothing of the class stands between its objects and their fields: no slot, no property.
    is_plain = _has_dict(kind) and not any(hasattr(getattr(kind, name, None), "__set__") for name in names)

    steps = tuple(f".{each.name}" for each in dataclasses.fields(kind))
    return Form(kind, take_apart, build, steps=steps, schema=("dataclass", *names))


def _of_model(kind: Any, names: tuple[str, ...]) -> Form:
    check = _checked(kind, (*names, _EXTRA, _PRIVATE, _SET))

    def take_apart(value: Any) -> list[Any]:
        check(value)
        state = value.__getstate__()
        held = state["__dict__"]
        fields = [held[name] for name in names]
        return [*fields, state.get(_EXTRA), state.get(_PRIVATE), sorted(state[_SET])]  # a root model has no others

    def build(parts: list[Any]) -> Any:
        *values, extra, private, fields_set = parts
        if not (_is_mapping_of_names(extra) and _is_mapping_of_names(private) and set(map(type, fields_set)) <= {str}):
            raise DecodeError(f"no state of a {type_name(kind)}")
        made = kind.__new__(kind)
        made.__setstate__(
            {
                "__dict__": dict(zip(names, values, strict=True)),
                _EXTRA: extra,
                _PRIVATE: private,
                _SET: set(fields_set),
            }
        )
        return made

    steps = (*(f".{name}" for name in names), f".{_EXTRA}", f".{_PRIVATE}", f".{_SET}")
    return Form(kind, take_apart, build, steps=steps, schema=("model", *names))


def _is_mapping_of_names(value: object) -> bool:
    return value is None or (type(value) is dict and set(map(type, value)) <= {str})


def _has_dict(kind: type) -> bool:
    return bool(kind.__dictoffset__)


def _checked(kind: type, names: tuple[str, ...]) -> Callable[[object], None]:
    """A function that raises :class:`EncodeError` for an object with attributes that are neither fields nor cached."""
    known = frozenset(names)
    has_dict = _has_dict(kind)
    slots_are_fields = known.issuperset(slot.__name__ for slot in slots_of(kind))

    def check(value: Any) -> None:
        if slots_are_fields and (not has_dict or value.__dict__.keys() <= known):
            return
        more = [name for name, _ in attributes(value) if name not in known]
        if more:
            raise EncodeError(
                f"a {type_name(kind)} has attributes that are no fields, {', '.join(more)}: "
                "define __cache_value__() and a class method from_cache_value(value)"
            )

    return check


def advice(kind: type, registered: Iterable[type]) -> str:
    """What to do about a value of a class that is not kept."""
    if is_of_sqlalchemy(kind):
        return (
            "an object of SQLAlchemy, which belongs to its session: convert it, as in "
            "[dict(row._mapping) for row in rows], or to a dataclass named in RCache(values=[…])"
        )
    for base in registered:
        if issubclass(kind, base):
            return f"and of that class's bases only {base.__name__} is named in RCache(values=[…]): add {kind.__name__}"
    if issubclass(kind, Enum) or field_names(kind) is not None or hasattr(kind, "__cache_value__"):
        return f"name its class in RCache(values=[{kind.__name__}]), convert it, or leave it out"
    return "convert it, or leave it out"
