"""Large fills: they are sent after the answer, by a thread of their own (DESIGN, Outages 3).

Owns the queue of what is to be sent and its bounds. What a fill is, and what becomes of it, is the store's.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from ...errors import CodecError, StoreError
from ...model import forks
from ..protocol import Filled, LoadedResult, Outcome

__all__ = ["Uploads"]

logger: Final = logging.getLogger("flask_rcache")

#: What may wait at the same time.
_BYTES: Final = 64 * 1024 * 1024
#: Seconds that a request waits to learn what became of its fill: over a good line it is there long before.
_GLANCE: Final = 0.1


class _Upload:
    """One fill that is under way."""

    __slots__ = ("ended", "filled", "result", "size")

    def __init__(self, result: LoadedResult, size: int) -> None:
        self.result: Final = result
        self.size: Final = size
        self.ended: Final = threading.Event()
        self.filled = Filled(Outcome.SENT, size)


class Uploads:
    """Sends large fills, one after the other.

    Args:
        fill: stores one, and may take as long as its size asks for.
    """

    def __init__(self, fill: Callable[[LoadedResult], Filled]) -> None:
        self._fill: Final = fill
        self._lock: Final = forks.new_lock()
        self._waiting: Final[deque[_Upload]] = deque()
        self._keys: Final[set[str]] = set()
        self._bytes = 0
        self._is_running = False
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The thread, and what it has to send, are the parent's."""
        self._waiting.clear()
        self._keys.clear()
        self._bytes, self._is_running = 0, False

    def takes(self, key: str, size: int) -> bool:
        """Whether there is room for one more, and none of the same key is under way."""
        return key not in self._keys and self._bytes + size <= _BYTES

    def send(self, result: LoadedResult, size: int) -> Filled:
        """Send a fill; ``SENT`` when it is still under way after a moment."""
        upload = _Upload(result, size)
        with self._lock:
            self._waiting.append(upload)
            self._keys.add(result.lease.key)
            self._bytes += size
            is_first, self._is_running = not self._is_running, True
        if is_first:
            try:
                threading.Thread(target=self._run, name="flask_rcache-uploads", daemon=True).start()
            except RuntimeError:  # no thread to be had, as at the end of the interpreter
                self._run()
        upload.ended.wait(_GLANCE)
        return upload.filled

    def _run(self) -> None:
        """Send until nothing waits."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_running = False
                    return
                upload = self._waiting.popleft()
            try:
                upload.filled = self._fill(upload.result)
            except (StoreError, CodecError) as error:
                upload.filled = Filled(Outcome.REFUSED)
                logger.info("[CACHE] %s was not stored: %s", upload.result.lease.key, error)
            except Exception:
                upload.filled = Filled(Outcome.REFUSED)
                logger.exception("[CACHE ERROR] %s was not stored", upload.result.lease.key)
            finally:
                with self._lock:
                    self._keys.discard(upload.result.lease.key)
                    self._bytes -= upload.size
                upload.ended.set()
