"""Exceptions that are answers: which of them, for how long, and as bytes and back.

Owns :class:`Errors`, what one call names in ``errors=``, and :class:`Raised`, such an exception on its way through the
cache. The bytes say a class by its name, and what it holds as an encoded value. They are read only for a class that the
call names, or a subclass that this process knows: bytes import nothing, and no ``__init__`` written in Python is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

from flask_rcache.errors import ConfigError, DecodeError, EncodeError
from flask_rcache.model.cache_type import check_ttl
from flask_rcache.model.objects import class_name, type_name

from .values import ValueCodec

__all__ = ["Errors", "Raised", "is_raised"]

#: MessagePack never uses this byte: no value begins with it.
_MARK: Final = b"\xc1"


def is_raised(content: bytes) -> bool:
    """Whether stored bytes are those of an exception."""
    return content.startswith(_MARK)


class Raised:
    """An exception that is an answer.

    Args:
        error: the exception.
    """

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error: Final = error


class Errors:
    """The exceptions that a call takes for answers, by class, with the seconds that they are kept.

    Args:
        seconds: by class of exception; subclasses count as the nearest class that is named.

    Raises:
        ConfigError: no mapping, or something else than such classes and durations.

    >>> Errors({KeyError: 30}).seconds(KeyError("lamp"))
    30.0
    """

    __slots__ = ("_known", "_seconds", "classes", "keep")

    def __init__(self, seconds: Mapping[type[Exception], float | timedelta]) -> None:
        if not isinstance(seconds, Mapping):
            raise ConfigError(f"errors= must be a dict of seconds by class, as {{KeyError: 30}}, not {seconds!r:.80}")
        self._seconds: dict[type[Exception], float] = {
            kind: _checked(kind, duration) for kind, duration in seconds.items()
        }
        self._known: dict[str, type[Exception]] = {}
        #: What ``except`` takes.
        self.classes: tuple[type[Exception], ...] = tuple(self._seconds)
        #: Called before one is stored; false: it is not.
        self.keep: Callable[[], object] | None = None

    def kept_if(self, keep: Callable[[], object]) -> Errors:
        """The same, with a function that decides whether one is stored."""
        made = Errors.__new__(Errors)
        made._seconds, made._known, made.classes, made.keep = self._seconds, self._known, self.classes, keep
        return made

    def seconds(self, error: Exception) -> float:
        """How long an exception of one of the classes is kept."""
        return next(self._seconds[kind] for kind in type(error).__mro__ if kind in self._seconds)

    def encode(self, codec: ValueCodec, error: Exception) -> bytes:
        """An exception as bytes, from which :meth:`decode` makes an equal one.

        What raised it (the traceback, ``__cause__`` and ``__context__``) is not kept.

        Raises:
            EncodeError: it could not be made again exactly.
        """
        kind, refusal = type(error), None
        for arguments in _arguments(error):
            try:
                packed = codec.encode([class_name(kind), arguments, error.args, dict(error.__dict__)])
                again = self.decode(codec, _MARK + packed)
            except (EncodeError, DecodeError) as reason:
                refusal = refusal or reason
                continue
            if again is not None and type(again) is kind and _state(again) == _state(error):
                return _MARK + packed
        why = refusal or "its class does not keep all that it holds in args and attributes"
        raise EncodeError(
            f"a {type_name(kind)} that is named in errors= can't be raised again exactly ({why}): raise one with plain "
            "values, or leave it out of errors="
        ) from error

    def decode(self, codec: ValueCodec, content: bytes) -> Exception | None:
        """The exception that bytes stand for; ``None`` for one of a class that the call does not name.

        Raises:
            DecodeError: :meth:`encode` can't have written the bytes.
        """
        try:
            name, arguments, args, state = codec.decode(content[len(_MARK) :])
            kind = self._class(name)
            if kind is None:
                return None
            error: Exception = kind.__new__(kind, *arguments)
            if type(error) is not kind:
                raise DecodeError(f"an exception that is no {name:.200}")
            if not isinstance(kind.__init__, FunctionType):
                error.__init__(*arguments)  # type: ignore[misc]  # Python's own, which reads them
            error.args = args
            error.__dict__.clear()
            error.__dict__.update(state)
        except DecodeError:
            raise
        except Exception as reason:  # a class may refuse in any way what it did not write
            raise DecodeError(f"not an encoded exception: {reason}") from reason
        return error

    def _class(self, name: str) -> type[Exception] | None:
        """The one class of a name that is named, or derived from one that is; ``None`` also when there are several."""
        known = self._known.get(name)
        if known is None:
            found = {kind for named in self.classes for kind in _family(named) if class_name(kind) == name}
            if len(found) != 1:
                return None
            known = self._known[name] = found.pop()
        return known


def _checked(kind: object, duration: object) -> float:
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise ConfigError(f"errors= takes classes of exceptions, such as {{KeyError: 30}}, not {kind!r:.80}")
    what = f"errors[{kind.__name__}]"
    if duration in (0, timedelta()):
        raise ConfigError(f"{what} must be more than 0 seconds: leave the class out, so that it is not stored")
    return check_ttl(duration, what=what)


def _family(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for each in type.__subclasses__(kind):
        yield from _family(each)


def _arguments(error: Exception) -> Iterator[tuple[Any, ...]]:
    """What ``__new__`` may make it from: ``args``, or what Python's own classes name for copies (an OSError's file)."""
    yield error.args
    if not isinstance(type(error).__reduce__, FunctionType):
        yield error.__reduce__()[1]  # type: ignore[misc]  # a tuple, of a class in C


def _state(error: Exception) -> list[Any]:
    """What an exception holds beside ``args`` and attributes: ``errno``, slots; its classes say what there is."""
    return [
        getattr(error, name, None)
        for kind in type(error).__mro__
        if kind not in (Exception, BaseException, object)
        for name, member in vars(kind).items()
        if isinstance(member, MemberDescriptorType | GetSetDescriptorType) and not name.startswith("__")
    ]
