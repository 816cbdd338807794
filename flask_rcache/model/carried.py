"""What was put aside for a request, on ``flask.g``, and says something of it: data, not what the app works with.

Owns :class:`Carried` and :func:`is_data`. Pure.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any, Final

from .objects import instance_dict

__all__ = ["Carried", "is_data"]

#: What has one of these is entered, closed or called: a connection, a session, a client, a lock, a file, a function.
_OF_RESOURCES: Final = frozenset({"close", "aclose", "disconnect", "__exit__", "__aexit__", "__call__"})
_PLAIN: Final = (str, bytes, int, float, complex, type(None))
#: So deep, and at so many values, a resource is looked for in what an object holds.
_DEEPEST: Final = 3
_MOST: Final = 200

#: What may grow.
_GROWING: Final = (list, dict, set, bytearray)
_ABSENT: Final = object()


class Carried:
    """What an object such as ``flask.g`` had when something began, and so was made by what ran before.

    Args:
        holder: the object.
    """

    __slots__ = ("_before", "_now", "_sizes")

    def __init__(self, holder: object) -> None:
        self._now: Final = instance_dict(holder)
        self._before: Final = dict(self._now)
        self._sizes: Final = {name: len(value) for name, value in self._before.items() if isinstance(value, _GROWING)}

    def says(self, name: str) -> bool:
        """Whether who has read an attribute since has learned something of the request.

        It has of data that was there before, and of an attribute that nobody has set; not of a connection or another
        resource, nor of what it has set itself, a list to which it has added, or a count that it has raised. What a
        library does not find under a private name it will set.

        >>> from types import SimpleNamespace
        >>> holder = SimpleNamespace(tenant="a", queries=[])
        >>> carried = Carried(holder)
        >>> holder.queries.append("SELECT 1")
        >>> [name for name in ("tenant", "queries", "user") if carried.says(name)]
        ['tenant', 'user']
        """
        now = self._now.get(name, _ABSENT)
        if name not in self._before:
            return now is _ABSENT and not name.startswith("_")
        value = self._before[name]
        is_as_before = value is now and (name not in self._sizes or len(value) == self._sizes[name])
        return is_as_before and is_data(value)


def is_data(value: object) -> bool:
    """Whether a value says something of whom or what it was made for: a name, a user, the row of an account.

    A resource (a connection, a client), or an object that works with one, says nothing; a row of SQLAlchemy's is no
    such object, though it knows its session.

    >>> import io
    >>> is_data("ann"), is_data({"tenant": 7}), is_data(io.BytesIO()), is_data([io.BytesIO()])
    (True, True, False, False)
    """
    left = [_MOST]
    return not _is_resource(value, _DEEPEST, left)


def _is_resource(value: Any, depth: int, left: list[int]) -> bool:
    if isinstance(value, _PLAIN):
        return False
    kind = type(value)
    if isinstance(value, ModuleType | type | logging.Logger | logging.LoggerAdapter):
        return True
    if any(not vars(each).keys().isdisjoint(_OF_RESOURCES) for each in kind.__mro__):  # no metaclass's
        return True
    left[0] -= 1
    if depth == 0 or left[0] < 0:
        return False
    held = instance_dict(value)
    if "_sa_instance_state" in held:
        return False
    inner: list[Any] = list(held.values())
    if isinstance(value, dict):
        inner += dict.values(value)
    elif isinstance(value, list | tuple | set | frozenset):
        inner += list(value)[:_MOST]
    return any(_is_resource(each, depth - 1, left) for each in inner)
