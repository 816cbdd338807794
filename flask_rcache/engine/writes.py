"""Writes that go to the source as well: through the cache, or behind it.

Owns the order of the steps, so that no load under way brings an old value back (rule R4.2). What applies a queue's
writes is the package ``writes``'s.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..config.settings import Settings, nearest
from ..errors import ConfigError, EncodeError, StoreError
from ..model.named_tuple import NamedTuple
from ..stores.protocol import Lease, LoadedResult, Outcome
from .calls import Call
from .fetching import Fetching
from .guard import GuardedStore

if TYPE_CHECKING:
    from ..stores.queueing import Behind

__all__ = ["Write", "Writer", "Writes"]

logger: Final = logging.getLogger("flask_rcache")

T = TypeVar("T")
_VERSION: Final = "version "


class Write(NamedTuple):
    """One write behind, as a writer is given it.

    Args:
        id: of the write; those of one key grow. A source that remembers the last one it has applied for each key, and
            skips what is not newer, applies each write exactly once and in order.
        type: the name of the cache type.
        key: as it was given.
        value: to be written.
        attempt: 1 at the first try.
    """

    id: str
    type: str
    key: Any
    value: Any
    attempt: int = 1


class Writer(NamedTuple):
    """What applies the writes of a queue.

    Args:
        queue: its name.
        apply: called with a list of writes.
        batch: writes at a time at most.
    """

    queue: str
    apply: Callable[[list[Write]], object]
    batch: int = 100


class Writes:
    """Writes through and behind.

    Args:
        guarded: the store.
        fetching: encodes values.
        settings: of the app.

    Attributes:
        writers: by the names of their queues; the extension's.
    """

    def __init__(self, guarded: GuardedStore, fetching: Fetching, settings: Settings) -> None:
        self._guarded: Final = guarded
        self._fetching: Final = fetching
        self._settings: Final = settings
        self.writers: Mapping[str, Writer] = {}

    # Through

    def through(self, call: Call, key: str, value: T, save: Callable[[T], object], version: int | None) -> bool:
        """Write a value to the source, then to the cache; whether it is cached. Else nothing is.

        Raises:
            Exception: what ``save`` raises: then neither the old nor the new value is cached.
        """
        policy, store = call.policy, self._guarded.store
        content = self._encoded(call, key, value)
        lease, seized = Lease(key, "t" + secrets.token_hex(16)), None
        try:
            seized = store.seize(key, lease.token)
        except StoreError as error:
            self._guarded.failed(policy.name, "write_through", error)
        outcome = None
        try:
            save(value)
            if seized is not None and seized.moment is not None and content is not None:
                newer = _version(seized.origin)
                if version is None or newer is None or newer <= version:
                    origin = "" if version is None else f"{_VERSION}{version}"
                    draft = call.draft(content, value, origin=origin)
                    outcome = self._filled(call, LoadedResult(lease, draft, seized.moment))
        finally:
            if outcome is not Outcome.SENT:  # else it goes on
                store.returned(lease)
            if outcome not in (Outcome.STORED, Outcome.SENT) and seized is not None:
                try:
                    store.release([lease])
                except StoreError as error:
                    self._guarded.failed(policy.name, "write_through", error)
        return outcome in (Outcome.STORED, Outcome.SENT)

    def _filled(self, call: Call, result: LoadedResult) -> Outcome | None:
        try:
            (filled,) = self._guarded.store.fill([result])
        except StoreError as error:
            self._guarded.failed(call.policy.name, "write_through", error)
            return None
        return filled.outcome

    def _encoded(self, call: Call, key: str, value: object) -> bytes | None:
        """The value's bytes; ``None`` when it can't be cached, which does not keep it from being written."""
        try:
            return self._fetching.encoded(call, key, value)
        except EncodeError:
            if self._settings.strict:
                raise
            return None

    # Behind

    def writer(self, queue: str) -> Writer:
        """The writer of a queue.

        Raises:
            ConfigError: there is none; the message lists those there are.
        """
        writer = self.writers.get(queue)
        if writer is None:
            raise ConfigError(
                f"no writer is registered for queue {queue!r}{nearest(queue, self.writers)}; decorate one with "
                f"@rcache.writer({queue!r})"
            )
        return writer

    def behind(self, call: Call, values: Sequence[tuple[Any, str, Any]], queue: str) -> list[str]:
        """Put writes into a queue, and their values into the cache; their ids.

        Args:
            call: of all of them.
            values: the key as it was given, the stored key and the value of each.
            queue: its name.

        Raises:
            ConfigError: the queue has no writer.
            EncodeError: a value that would not be restored exactly: it could not be written later.
            StoreError: the queue is full or away, or could be lost; nothing is cached then.
        """
        from ..stores.queueing import Behind  # which most apps do not need

        writer = self.writer(queue)
        codec, limit = self._fetching.codec, self._settings.max_bytes
        writes = []
        for given, stored, value in values:
            content: bytes = codec.encode(value)
            if len(content) > limit:
                raise EncodeError(f"the value takes {len(content)} bytes, more than RCACHE_MAX_BYTES = {limit}")
            writes.append(Behind(stored, call.draft(content, value), codec.encode(given), content))
        store = self._guarded.store
        if not store.queues:
            return self._at_once(call, writer, values, writes)
        ids: dict[int, str] = {}
        by_place: dict[int, list[int]] = {}
        for number, write in enumerate(writes):
            by_place.setdefault(store.queues.index(store.queues_for(write.key)), []).append(number)
        for place, numbers in by_place.items():
            for start in range(0, len(numbers), _CHUNK):
                chunk = numbers[start : start + _CHUNK]
                given_ids = store.queues[place].enqueue(queue, [writes[at] for at in chunk], self._settings.write_limit)
                ids.update(zip(chunk, given_ids, strict=True))
        return [ids[number] for number in range(len(writes))]

    def _at_once(
        self, call: Call, writer: Writer, values: Sequence[tuple[Any, str, Any]], writes: Sequence[Behind]
    ) -> list[str]:
        """On ``memory://`` there is nobody else who could write later."""
        ids = []
        for (given, stored, value), write in zip(values, writes, strict=True):
            id = f"{self._next_id()}-0"
            self.through(call, stored, value, _applying(writer, Write(id, call.policy.name, given, value)), None)
            ids.append(id)
            assert write.key == stored
        return ids

    def _next_id(self) -> int:
        moment = self._guarded.store.hear()
        return 0 if moment is None else moment.clock


#: Writes in one call of a script.
_CHUNK: Final = 250


def _applying(writer: Writer, write: Write) -> Callable[[Any], object]:
    return lambda _: writer.apply([write])


def _version(origin: str) -> int | None:
    """The version that an entry was written with."""
    text = origin.removeprefix(_VERSION)
    return int(text) if text != origin and text.lstrip("-").isdigit() else None
