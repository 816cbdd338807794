"""A consumer of queues of writes: takes them in order, hands them to their writers, and ends them.

Owns batches, the order for each key, retries and giving up. A queue (on a cluster, each shard's part of it) has one
consumer at a time, which holds it by a token; others stand by. What is not applied stays in the queue whatever happens
to a consumer: the next one begins with what the last one had taken. So a writer is called at least once for each write,
and for each key in their order.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flask import Flask

from ..codec import ValueCodec
from ..engine.writes import Write, Writer
from ..errors import CodecError, PartialFailure, StoreError
from ..model import chance
from ..stores.queueing import Queued, Queues
from ..streaming import StreamConsumer

__all__ = ["Consumer", "Progress"]

logger: Final = logging.getLogger("flask_rcache")

#: Seconds for which a consumer has a queue without being heard of.
_OWNED: Final = 10.0
_TAKEN: Final = 1000
#: Writes that wait in a consumer at most; then it takes no more.
_MOST_WAITING: Final = 5000
#: Seconds after which a writer that has not returned is mentioned in the log.
_LONG: Final = 60.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 60.0
#: An id after all.
_LAST: Final = "9" * 18


@dataclass(slots=True)
class Progress:
    """What a consumer has done: writes applied, tries that failed, writes given up; and those that wait in it."""

    applied: int = 0
    failed: int = 0
    dead: int = 0
    waiting: int = 0


@dataclass(slots=True)
class _Line:
    """The writes of one key that are taken, in order, and when the first may be tried (monotonic seconds)."""

    writes: list[Queued] = field(default_factory=list)
    not_before: float = 0.0


class _Part:
    """A queue on one server or shard, while this consumer has it.

    Args:
        app: for the context that writers run in.
        writer: of the queue.
        queues: where it is.
        codec: of values.
        token: of the consumer.
        attempts: tries after which a write is given up.
        progress: where it counts.
    """

    def __init__(
        self,
        app: Flask,
        writer: Writer,
        queues: Queues,
        *,
        codec: ValueCodec,
        token: str,
        attempts: int,
        progress: Progress,
    ) -> None:
        self._app: Final = app
        self._writer: Final = writer
        self._queues: Final = queues
        self._codec: Final = codec
        self._token: Final = token
        self._attempts: Final = attempts
        self._progress: Final = progress
        self._lines: Final[dict[str, _Line]] = {}
        #: The ids of writes that were handed out before.
        self._known: Final[set[str]] = set()
        self._is_ours = False
        #: When the writer was called that has not returned (monotonic seconds), if that is not mentioned yet.
        self._called: float | None = None

    @property
    def waiting(self) -> int:
        """Writes that are taken and not applied."""
        return sum(len(line.writes) for line in self._lines.values())

    @property
    def is_ours(self) -> bool:
        """Whether this consumer has the queue."""
        return self._is_ours

    # Taking

    def take(self) -> bool:
        """Take what is new; whether there was something."""
        try:
            found = not self._is_ours and self._take_over()
            if not self._is_ours or self.waiting >= _MOST_WAITING:
                return found
            return self._line_up(self._taken()) or found
        except StoreError:
            self._lose()  # what the server gave may not have arrived: it is taken over again
            raise

    def _taken(self, after: str = "") -> list[Queued]:
        writes = self._queues.take(self.queue, self._token, _TAKEN, seconds=_OWNED, after=after)
        if writes is None:
            self._lose()
        return writes or []

    def _take_over(self) -> bool:
        """Begin with what another consumer had taken, if nobody has the queue."""
        after, self._is_ours = "0", True
        while writes := self._taken(after):
            after = writes[-1].id
            self._line_up(writes)
            self._known.update(write.id for write in writes)
        return bool(self._lines)

    def _line_up(self, writes: Sequence[Queued]) -> bool:
        for write in writes:
            self._lines.setdefault(write.key, _Line()).writes.append(write)
        return bool(writes)

    def _lose(self) -> None:
        self._is_ours = False
        self._lines.clear()
        self._known.clear()

    def keep(self) -> None:
        """Go on having the queue while a writer runs; say so of one that may never return."""
        called = self._called
        if called is not None and time.monotonic() - called > _LONG:
            self._called = None
            logger.error(
                "[CACHE ERROR] the writer of queue %r was called %d s ago and has not returned: nothing of the queue "
                "is applied until it does, or this process ends (SIGTERM waits for it; SIGKILL does not)",
                *(self.queue, time.monotonic() - called),
            )
        if self._is_ours:
            self._queues.take(self.queue, self._token, 1, seconds=_OWNED, after=_LAST)

    # Applying

    def apply(self) -> bool:
        """Hand one batch to the writer; whether there was one."""
        batch = self._batch()
        if not batch:
            return False
        again = [write for write in batch if write.id in self._known]
        if again:
            self._queues.tried(self.queue, again)
            batch = [self._counted(write) if write.id in self._known else write for write in batch]
        self._known.update(write.id for write in batch)
        self._settle(batch, *self._run(batch))
        return True

    def _batch(self) -> list[Queued]:
        """What is to be applied now, in the queue's order.

        What was handed out before goes alone: it may be what a consumer has died of.
        """
        now, batch = time.monotonic(), list[Queued]()
        for line in self._lines.values():
            if line.not_before > now:
                continue
            if line.writes[0].id in self._known:
                if not batch:
                    return line.writes[:1]
                continue
            fresh = itertools.takewhile(lambda write: write.id not in self._known, line.writes)
            batch += itertools.islice(fresh, self._writer.batch - len(batch))
            if len(batch) >= self._writer.batch:
                break
        return sorted(batch, key=_place)

    def _counted(self, write: Queued) -> Queued:
        """The same with one try more."""
        writes = self._lines[write.key].writes
        counted = write._replace(deliveries=write.deliveries + 1)
        writes[writes.index(write)] = counted
        return counted

    def _run(self, batch: Sequence[Queued]) -> tuple[dict[str, str], set[str]]:
        """Apply writes; what went wrong by their ids, and the ids of those that were tried.

        A writer that fails as a whole does not say whose fault it was: each write is tried alone then.
        """
        tried = {write.id for write in batch}
        if len(batch) == 1 and batch[0].deliveries > self._attempts:
            return {batch[0].id: "its consumers died while it was applied"}, tried
        errors = self._call(batch)
        if isinstance(errors, dict):
            return errors, tried
        if len(batch) == 1:
            return {batch[0].id: errors}, tried
        found: dict[str, str] = {}
        stopped: set[str] = set()
        for write in batch:
            if write.key in stopped:
                tried.discard(write.id)
                continue
            alone = self._call([write])
            if isinstance(alone, str):
                alone = {write.id: alone}
            if alone:
                stopped.add(write.key)
                found.update(alone)
        return found, tried

    def _call(self, batch: Sequence[Queued]) -> dict[str, str] | str:
        """Call the writer; the errors by id, or the one that it failed with as a whole."""
        writes, errors = list[Write](), dict[str, str]()
        for queued in batch:
            try:
                opened = self._queues.opened(self.queue, queued)
                key, value = self._codec.decode(opened.given_key), self._codec.decode(opened.value)
            except CodecError as error:
                errors[queued.id] = _text(error)
            else:
                writes.append(Write(queued.write_id, queued.type, key, value, queued.deliveries))
        if not writes:
            return errors
        try:
            self._called = time.monotonic()
            with self._app.app_context():
                self._writer.apply(writes)
        except PartialFailure as failure:
            by_id = {queued.write_id: queued.id for queued in batch}
            for id, problem in failure.errors.items():
                if id in by_id:
                    errors[by_id[id]] = _text(problem)
                else:
                    logger.warning("[CACHE] the writer of queue %r names a write it was not given: %r", self.queue, id)
        except Exception as error:  # noqa: BLE001  # somebody's writer
            return _text(error)
        finally:
            self._called = None
        return errors

    @property
    def queue(self) -> str:
        """Its name."""
        return self._writer.queue

    def _settle(self, batch: Sequence[Queued], errors: Mapping[str, str], tried: set[str]) -> None:
        """End what was applied and what is given up; the rest waits, each key for itself."""
        ends: list[tuple[Queued, str, int]] = []
        stopped: set[str] = set()
        for write in batch:
            if write.key in stopped or write.id not in tried:
                continue  # after one that failed: it is handed out again with it
            error = errors.get(write.id)
            if error is None:
                ends.append((write, "", write.deliveries))
                continue
            self._progress.failed += 1
            if write.deliveries >= self._attempts:
                logger.error(
                    "[CACHE ERROR] write %s of queue %r is given up after %d tries: %s",
                    *(write.write_id, self.queue, write.deliveries, error),
                )
                ends.append((write, error, write.deliveries))
            else:
                stopped.add(write.key)
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (write.deliveries - 1))
                self._lines[write.key].not_before = time.monotonic() + pause * (0.5 + chance.draw() / 2)
        if ends and not self._queues.settle(self.queue, self._token, ends):
            self._lose()
            return
        self._progress.applied += sum(not why for _, why, _ in ends)
        self._progress.dead += sum(bool(why) for _, why, _ in ends)
        for write, _, _ in ends:
            line = self._lines[write.key]
            line.writes.remove(write)
            self._known.discard(write.id)
            if not line.writes:
                del self._lines[write.key]

    def leave(self) -> None:
        """Let another consumer have the queue at once."""
        if self._is_ours:
            self._lose()
            self._queues.leave(self.queue, self._token)


class Consumer:
    """Applies the writes of some queues until it is stopped.

    Args:
        app: with the writers.
        writers: of the queues.
        queues: of each server or shard.
        codec: of values.
        attempts: tries after which a write is given up.
    """

    def __init__(
        self, app: Flask, writers: Sequence[Writer], queues: Sequence[Queues], *, codec: ValueCodec, attempts: int
    ) -> None:
        self.progress: Final = Progress()
        self._stream: Final = StreamConsumer("a server of queues", self._round, (StoreError,))
        self._parts: Final = [
            _Part(app, writer, each, codec=codec, token=self._stream.name, attempts=attempts, progress=self.progress)
            for writer in writers
            for each in queues
        ]

    def stop(self) -> None:
        """End after the batch that is being applied; what is taken and not applied, the next consumer has."""
        self._stream.stop()

    def run(self, *, once: bool = False, report: Callable[[Progress], Any] = lambda _: None) -> None:
        """Apply writes.

        Args:
            once: end when everything there was is applied or waits for its next try.
            report: called after each round.

        Raises:
            StoreError: with ``once``, when a server is away.
        """

        def seen() -> None:
            self.progress.waiting = sum(part.waiting for part in self._parts)
            report(self.progress)

        ended = threading.Event()
        threading.Thread(target=self._keep, args=(ended,), name="flask_rcache-writer", daemon=True).start()
        try:
            self._stream.run(once=once, report=seen)
        finally:
            ended.set()
            for part in self._parts:
                try:
                    part.leave()
                except StoreError as error:
                    logger.debug("[CACHE] a queue could not be left: %s", error)

    def _keep(self, ended: threading.Event) -> None:
        """Keep the queues, however long a writer takes."""
        while not ended.wait(_OWNED / 4):
            for part in self._parts:
                try:
                    part.keep()
                except StoreError as error:
                    logger.debug("[CACHE] a queue could not be kept: %s", error)

    def _round(self) -> bool:
        busy = False
        for part in self._parts:
            busy = part.take() or busy
            while not self._stream.is_stopped and part.apply():
                busy = True
        return busy


def _text(error: object) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)


def _place(write: Queued) -> tuple[int, int]:
    """Where it is in the queue."""
    milliseconds, _, number = write.id.partition("-")
    return int(milliseconds), int(number)
