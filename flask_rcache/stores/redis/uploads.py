"""What is large is sent after the answer, by a thread of its own (DESIGN, Outages 3).

Owns the queue of what is to be sent and its bounds. What is sent, and what becomes of it, is the store's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from ...errors import CodecError, StoreError
from ...model import forks
from ..protocol import Filled, Outcome
from .budget import request_scope

__all__ = ["Room", "Upload", "Uploads"]

logger: Final = logging.getLogger("flask_rcache")

#: What may wait at the same time.
_BYTES: Final = 64 * 1024 * 1024
#: Seconds that a request waits in all to learn what became of what it sends: over a good line it is there long before.
_GLANCE: Final = 0.1


class Room:
    """Bytes that may wait at the same time, on all shards together.

    Args:
        limit: how many.
    """

    def __init__(self, limit: int = _BYTES) -> None:
        self._limit: Final = limit
        self._lock: Final = forks.new_lock()
        self._used = 0
        forks.register(self)

    def reset_after_fork(self) -> None:
        """What waits is the parent's."""
        self._used = 0

    def take(self, size: int) -> bool:
        """Take so much of it, if there is so much."""
        with self._lock:
            if self._used + size > self._limit:
                return False
            self._used += size
            return True

    def give_back(self, size: int) -> None:
        """It waits no more."""
        with self._lock:
            self._used = max(0, self._used - size)


class Upload:
    """One result that is under way.

    Args:
        key: the stored key.
        size: about how many bytes it is.
        send: stores it, and may take as long as its size asks for.

    Attributes:
        filled: what became of it; ``SENT`` as long as that is not known.
        ended: set when it is.
    """

    __slots__ = ("ended", "filled", "key", "send", "size")

    def __init__(self, key: str, size: int, send: Callable[[], Filled]) -> None:
        self.key: Final = key
        self.size: Final = size
        self.send: Final = send
        self.ended: Final = threading.Event()
        self.filled = Filled(Outcome.SENT, size)


class Uploads:
    """Sends large results, one after the other.

    Args:
        room: for what waits.
    """

    def __init__(self, room: Room) -> None:
        self._room: Final = room
        self._lock: Final = forks.new_lock()
        self._waiting: Final[deque[Upload]] = deque()
        self._under_way: Final[dict[str, int]] = {}
        self._is_running = False
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The thread, and what it has to send, are the parent's."""
        self._waiting.clear()
        self._under_way.clear()
        self._is_running = False

    def is_under_way(self, key: str) -> bool:
        """Whether something is sent under this key."""
        return key in self._under_way

    def takes(self, size: int) -> bool:
        """Whether there is room for one more; if so, it is kept for the :meth:`send` that must follow."""
        return self._room.take(size)

    def gives_back(self, size: int) -> None:
        """Nothing follows what :meth:`takes` has said."""
        self._room.give_back(size)

    def send(self, upload: Upload) -> Upload:
        """Have the thread send it, after all that waits already."""
        with self._lock:
            self._waiting.append(upload)
            self._under_way[upload.key] = self._under_way.get(upload.key, 0) + 1
            is_first, self._is_running = not self._is_running, True
        if is_first:
            try:
                threading.Thread(target=self._run, name="flask_rcache-uploads", daemon=True).start()
            except RuntimeError:  # no thread to be had, as at the end of the interpreter
                self._run()
        return upload

    @staticmethod
    def glance(uploads: Iterable[Upload]) -> None:
        """Wait for some of them a moment, if this request has not waited for others so long already."""
        scope = request_scope()
        for upload in uploads:
            left = _GLANCE - (0.0 if scope is None else scope.glanced)
            began = time.monotonic()
            if left > 0:
                upload.ended.wait(left)
            if scope is not None:
                scope.glanced += time.monotonic() - began

    def _run(self) -> None:
        """Send until nothing waits."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_running = False
                    return
                upload = self._waiting.popleft()
            try:
                upload.filled = upload.send()
            except (StoreError, CodecError) as error:
                upload.filled = Filled(Outcome.REFUSED)
                logger.info("[CACHE] %s was not stored: %s", upload.key, error)
            except Exception:
                upload.filled = Filled(Outcome.REFUSED)
                logger.exception("[CACHE ERROR] %s was not stored", upload.key)
            finally:
                with self._lock:
                    left = self._under_way.pop(upload.key) - 1
                    if left:
                        self._under_way[upload.key] = left
                self._room.give_back(upload.size)
                upload.ended.set()
