"""What views return, as bytes and back, where a decorator above them makes the response of it.

Owns the classes that this takes beside those of ``RCache(values=...)``: those of the objects that this process has seen
its views return. No other class is ever made from bytes; what another process has stored of a class that was not
returned here yet is a miss. How values become bytes is ``codec``'s.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from ..codec.values import ValueCodec
from ..engine.calls import MISSING
from ..errors import CodecError, ConfigError, EncodeError

__all__ = ["Results"]

#: Classes learned of one result at most.
_MOST_CLASSES: Final = 50


class Results:
    """The codec of what an app's views return.

    Args:
        codec: of the app's values.
        max_bytes: of one result.
    """

    __slots__ = ("_codec", "_lock", "_max_bytes", "_refused")

    def __init__(self, codec: ValueCodec, *, max_bytes: int) -> None:
        self._codec = codec
        self._max_bytes: Final = max_bytes
        self._lock: Final = threading.Lock()
        self._refused: Final[set[type]] = set()

    def encode(self, value: object) -> bytes | None:
        """The bytes of a result; ``None`` when it can't be restored exactly, or is too large."""
        for _ in range(_MOST_CLASSES):
            try:
                content = self._codec.encode(value)
                return content if len(content) <= self._max_bytes else None
            except EncodeError as error:
                kind = error.kind
            if kind is None or kind in self._refused or not self._learn(kind):
                return None
        return None

    def decode(self, content: bytes) -> Any:
        """The result; ``MISSING`` when it can't be read here."""
        try:
            return self._codec.decode(content)
        except CodecError:
            return MISSING

    def _learn(self, kind: type) -> bool:
        """Take a class that a view has returned an object of; whether its objects can be made again exactly."""
        with self._lock:
            try:
                self._codec = self._codec.extended(kind)
            except ConfigError:
                self._refused.add(kind)
                return False
        return True
