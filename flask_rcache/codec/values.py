"""Values as bytes, and back, exactly or not at all.

Values are MessagePack. Scalars it has no type for are extensions (:mod:`~flask_rcache.codec.scalars`). A
tuple, set, frozenset, a dict with other than str keys, or an object of one of the app's own classes
(:mod:`~flask_rcache.codec.objects`) is an array that begins with an extension, its *mark*: containers nest natively, so
hostile bytes find neither a deep recursion nor a payload that is copied once for each level.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain, repeat
from typing import Any, Final

import ormsgpack

from flask_rcache.errors import ConfigError, DecodeError, EncodeError
from flask_rcache.model.objects import a_type, type_name

from .objects import OBJECT, Form, advice, form_of_seen, forms_of
from .scalars import EXT_TO_SCALAR, FIRST_SCALAR, SCALAR_TO_EXT

__all__ = ["MAX_DEPTH", "ValueCodec", "decode_value", "encode_value"]

#: How deep containers may nest in a value: a list of numbers is 1 deep.
MAX_DEPTH: Final = 100

_OPTIONS: Final = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
# The marks. On reading, a mark becomes the container's own class: no value can hold one.
_CLASS_OF: Final[dict[int, type]] = {1: tuple, 2: set, 3: frozenset, 4: dict}
_MARK_OF: Final = {kind: ormsgpack.Ext(code, b"") for code, kind in _CLASS_OF.items()}

_CONTAINERS: Final = frozenset({list, dict, tuple, set, frozenset})
_KEPT: Final = _CONTAINERS | frozenset(SCALAR_TO_EXT) | {type(None), bool, float, str, bytes}
_ONLY_DICTS: Final = frozenset({dict})
_LONGEST_PATH: Final = 12  # steps shown in a message


class ValueCodec:
    """Values to bytes and back; holds its classes only, and any thread may use it.

    Args:
        classes: the app's own classes whose objects are kept: dataclasses, named tuples, enums and pydantic models, and
            those with ``__cache_value__()`` and a class method ``from_cache_value(value)``. No other is ever made from
            bytes.

    Raises:
        ConfigError: objects of a class can't be made again exactly, or two classes have one name.

    >>> from collections import namedtuple
    >>> Point = namedtuple("Point", "x y")
    >>> codec = ValueCodec([Point])
    >>> codec.decode(codec.encode([Point(1, 2)]))
    [Point(x=1, y=2)]
    """

    __slots__ = ("_by_name", "_containers", "_forms", "_kept")

    def __init__(self, classes: Iterable[type] = (), *, forms: Mapping[type, Form] | None = None) -> None:
        self._forms: Final = dict(forms or {}) | forms_of(classes)
        self._by_name: Final = {form.name.encode(): form for form in self._forms.values()}
        self._containers: Final = _CONTAINERS | self._forms.keys()
        self._kept: Final = _KEPT | self._forms.keys()

    def encode(self, value: object) -> bytes:
        """Encode a value so that :meth:`decode` gives the same types and contents back.

        Kept: None, bool, int, float, complex, str, Markup, bytes, Decimal, date, datetime and time (naive, with a fixed
        offset, or with a ``ZoneInfo`` by its key), timedelta, UUID (but not its ``is_safe``), and objects of exactly
        the codec's classes; and list, tuple, dict, set and frozenset of these, at most :data:`MAX_DEPTH` deep. What
        occurs twice comes back as two equal objects.

        Args:
            value: what to keep.

        Returns:
            MessagePack that only :meth:`decode` can read in full.

        Raises:
            EncodeError: something in it would not come back exactly: a subclass, a bytearray, a foreign class, a string
                with lone surrogates, a structure that contains itself; the message says where, and what to do.

        >>> from decimal import Decimal
        >>> codec = ValueCodec()
        >>> codec.decode(codec.encode({"total": Decimal("9.90"), 7: (1, {2})}))
        {'total': Decimal('9.90'), 7: (1, {2})}
        >>> codec.encode({"rows": [bytearray(b"x")]})
        Traceback (most recent call last):
        flask_rcache.errors.EncodeError: value['rows'][0] is a bytearray: convert it, or leave it out
        """
        packed = self.packed(value, MAX_DEPTH)
        return _Walk(self).encode(value) if packed is None else packed

    def decode(self, data: bytes) -> Any:
        """Give back what :meth:`encode` was given, as new objects.

        Args:
            data: from :meth:`encode`; other bytes cost no more time and memory than their length warrants.

        Returns:
            The value.

        Raises:
            DecodeError: the bytes are not an encoded value, or hold an object of a class that is not known (any more).
        """
        marked = False
        unknown = b""

        def from_ext(code: int, payload: bytes) -> Any:
            nonlocal marked, unknown
            if code >= FIRST_SCALAR:
                return EXT_TO_SCALAR[code](payload)
            marked = True
            if code != OBJECT:
                return _CLASS_OF[code]
            if payload not in self._by_name:
                unknown = payload
            return self._by_name[payload]

        try:
            value, end = ormsgpack.unpackb(b"\x92%b%b" % (data, _PACKED_END), ext_hook=from_ext)
            if end != _END:
                raise DecodeError("more bytes than one encoded value")
            return _restored(value, MAX_DEPTH + 1) if marked else value
        except DecodeError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            if unknown:
                name = unknown.decode("utf-8", "replace").partition("~")[0]
                raise DecodeError(f"an object of {name:.200}, which is not named in RCache(values=[…])") from error
            raise DecodeError(f"not an encoded value: {error}") from error

    def packed(self, value: object, room: int) -> bytes | None:
        """The fast way: None where a dict has keys other than str, or something cannot be kept."""
        parts: dict[int, list[Any]] = {}
        to_ext = partial(self._to_ext, parts) if self._forms else _to_ext
        try:
            packed = ormsgpack.packb(value, to_ext, _OPTIONS)
            return packed if self._all_kept(value, room, parts) else None
        except TypeError:  # EncodeError is one
            return None

    def extended(self, kind: type) -> ValueCodec:
        """A codec that keeps objects of one class more, also of a plain class that has nothing but attributes.

        Raises:
            ConfigError: its objects can't be made again exactly, or another class has its name.
        """
        form = form_of_seen(kind)
        if form.name.encode() in self._by_name:
            raise ConfigError(f"another class is named {type_name(kind)}, which stored values could not tell apart")
        return ValueCodec(forms={**self._forms, kind: form})

    def form(self, kind: type) -> Form | None:
        """How objects of a class are written; None for a class that is not the codec's."""
        return self._forms.get(kind)

    def refusal(self, kind: type) -> str:
        """What an object of a class that is not kept is, and what to do about it."""
        return f"is {a_type(kind)}: {advice(kind, self._forms)}"

    def _to_ext(self, parts: dict[int, list[Any]], value: Any) -> Any:
        """As the function below, of objects too, whose parts are kept for :meth:`_all_kept`."""
        form = self._forms.get(type(value))
        if form is None:
            return _to_ext(value)
        taken = parts[id(value)] = form.take_apart(value)
        return [form.mark, *taken]

    def _all_kept(self, value: object, room: int, parts: Mapping[int, list[Any]]) -> bool:
        """Whether ``value`` holds only types that we keep, in containers at most ``room`` deep.

        ormsgpack passes on no bytearray, memoryview, nor its own Ext and Fragment, but writes them as something
        else. This finds them with a few calls in C for each level instead of several for each object. Keys of
        dicts need no look: ormsgpack has refused any that is not exactly a str.
        """
        level: list[Any] = [value]
        for _ in range(room + 1):
            kinds = set(map(type, level))
            if not kinds <= self._kept:
                return False
            if kinds.isdisjoint(self._containers):
                return True
            if kinds == _ONLY_DICTS:
                level = list(chain.from_iterable(map(dict.values, level)))
            else:
                inner = [item for item in level if type(item) in self._containers]
                level = list(
                    chain.from_iterable(
                        item.values() if type(item) is dict else parts.get(id(item), item) for item in inner
                    )
                )
        return False


def _to_ext(value: Any) -> Any:
    """Turn what ormsgpack passes on into an extension or a marked list."""
    kind = type(value)
    if kind is tuple or kind is set or kind is frozenset:
        return [_MARK_OF[kind], *value]
    return SCALAR_TO_EXT[kind](value)


class _Walk:
    """The slow way: it can write every key, knows where the refused thing sits, and is fast again below."""

    def __init__(self, codec: ValueCodec) -> None:
        self._codec: Final = codec
        self._path: list[str] = ["value"]
        self._above: set[int] = set()

    def encode(self, value: object) -> bytes:
        try:
            return ormsgpack.packb(self._written(value), _to_ext, _OPTIONS)
        except EncodeError:
            raise
        except (TypeError, RecursionError) as error:
            raise EncodeError(f"value is {a_type(type(value))} that cannot be kept: {error}") from error

    def _written(self, value: Any) -> Any:
        """What ormsgpack writes natively for ``value``, without loss."""
        kind = type(value)
        form = self._codec.form(kind)
        if kind in _CONTAINERS or form is not None:
            return self._container(value, kind, form)
        if kind is str:
            self._check_text(value)
        if kind not in _KEPT:
            refused = self._refusal(self._codec.refusal(kind))
            refused.kind = kind
            raise refused
        if kind is int or kind not in SCALAR_TO_EXT:
            return value
        try:
            return SCALAR_TO_EXT[kind](value)
        except (TypeError, ValueError, LookupError, OSError) as error:
            raise self._refusal(f"is {a_type(kind)} that cannot be kept: {error}") from error

    def _container(self, value: Any, kind: type, form: Form | None) -> Any:
        room = MAX_DEPTH - len(self._above)
        if id(value) in self._above:
            raise self._refusal("contains itself: cache a structure without cycles")
        if not room:
            raise self._refusal(f"lies in {MAX_DEPTH} containers, which is the limit: flatten the value")
        if self._above and (packed := self._codec.packed(value, room)) is not None:
            return ormsgpack.Fragment(packed)
        self._above.add(id(value))
        if form is not None:
            written = self._object(value, form)
        elif kind is dict:
            written = self._dict(value, room)
        elif kind is list or kind is tuple:
            written = self._items(value, (f"[{index}]" for index in range(len(value))))
        else:
            written = self._items(value, repeat("{…}"))
        if kind in _MARK_OF and kind is not dict:
            written = [_MARK_OF[kind], *written]
        self._above.discard(id(value))
        return written

    def _object(self, value: Any, form: Form) -> Any:
        try:
            parts = form.take_apart(value)
        except EncodeError as error:
            raise self._refusal(f"cannot be kept: {error}") from error
        return [form.mark, *self._items(parts, form.steps)]

    def _dict(self, value: dict[Any, Any], room: int) -> Any:
        keys, values = list(value), list(value.values())
        if set(map(type, keys)) <= {str}:
            for key in keys:
                self._check_text(key)
            written = self._items(values, (f"[{key!r:.60}]" for key in keys))
            return dict(zip(keys, written, strict=True))
        # As two lists, because each of them can mostly be written the fast way.
        return [
            _MARK_OF[dict],
            self._column(keys, repeat(".keys()"), room),
            # Only now are the keys known to be of types whose repr is not somebody else's code.
            self._column(values, (f"[{key!r:.60}]" for key in keys), room),
        ]

    def _column(self, items: list[Any], steps: Iterable[str], room: int) -> Any:
        packed = self._codec.packed(items, room)
        return self._items(items, steps) if packed is None else ormsgpack.Fragment(packed)

    def _items(self, items: Iterable[Any], steps: Iterable[str]) -> list[Any]:
        written = []
        for item, step in zip(items, steps, strict=False):
            self._path.append(step)
            written.append(self._written(item))
            self._path.pop()
        return written

    def _check_text(self, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self._refusal("is, or has as a key, a str with lone surrogates: UTF-8 has none") from None

    def _refusal(self, reason: str) -> EncodeError:
        path = self._path
        if len(path) > _LONGEST_PATH:
            path = [*path[: _LONGEST_PATH // 2], "…", *path[-_LONGEST_PATH // 2 :]]
        return EncodeError(f"{''.join(path)} {reason}")


# ormsgpack ignores what follows the first object. So that is read as one of a pair, with this after it.
_END: Final = "\x00end"
_PACKED_END: Final = ormsgpack.packb(_END)
_NESTED: Final = frozenset({list, dict, type, Form})
_MARKS: Final = frozenset({type, Form})


def _restored(node: Any, room: int) -> Any:
    """Build, from the inside out, the containers whose marks are found; ``room`` levels are left."""
    kind = type(node)
    if kind not in _NESTED:
        return node
    if not room or kind in _MARKS:
        raise DecodeError("nested too deep, or a mark outside its container")
    if kind is dict:
        for key, item in node.items():
            if type(item) in _NESTED:
                node[key] = _restored(item, room - 1)
        return node
    mark = node.pop(0) if node and type(node[0]) in _MARKS else None
    inner = room if mark is dict else room - 1
    for index, item in enumerate(node):
        if type(item) in _NESTED:
            node[index] = _restored(item, inner)
    return node if mark is None else _built(mark, node)


def _built(mark: type | Form, items: list[Any]) -> Any:
    """A container of class ``mark``: of these items, or a dict of these keys and these values; or an object."""
    if isinstance(mark, Form):
        return mark.build(items)
    if mark is dict:
        keys, values = items
        built = dict(zip(keys, values, strict=True))
        items = keys
    else:
        built = mark(items)
    if len(built) != len(items):
        raise DecodeError(f"a {mark.__name__} with one member twice")
    return built


_PLAIN: Final = ValueCodec()

encode_value: Final = _PLAIN.encode
decode_value: Final = _PLAIN.decode
