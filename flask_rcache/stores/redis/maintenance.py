"""Upkeep: what the Redis store does off the request path, and what it must not forget.

Owns the rounds of the housekeeping thread: the probe and the delivery of the journal while the server is away, the
heartbeat that renews the leases of live loads, the fleet's counters, and the freeing of space.
"""

from __future__ import annotations

import atexit
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final
from weakref import WeakSet

import ormsgpack
from redis.exceptions import OutOfMemoryError

from ...codec import MAGIC
from ...errors import StoreError, StoreFullError, StoreUnavailableError
from ...model import forks
from ..protocol import News, Tally
from .connection import Exchange, pack
from .journal import Journal, Pending
from .listing import CHUNK
from .scripts import Argument
from .server import Server, logger

__all__ = ["Upkeep"]

_PROBE_EVERY: Final = 0.25
_TIME: Final = pack(("TIME",))


class Upkeep(Server, ABC):
    """The store's part that outlives a request."""

    _lease_ms: int
    _load_timeout: float
    _journal: Journal
    _lock: threading.Lock
    _count_lock: threading.Lock
    _held: dict[tuple[str, str], float]
    _aside: list[tuple[str, int]]
    #: Gives what this process has counted since it was asked last, and takes back what did not arrive.
    counted: tuple[Callable[[], News], Callable[[News], None]] | None

    def remember(self) -> None:
        """Have the last counts told when the process ends."""
        _living.add(self)
        forks.remember(self)

    def forked(self) -> None:
        """See :class:`~flask_rcache.forks.Heir`: the leases are the parent's."""
        self._held.clear()

    @abstractmethod
    def _invalidate(self, tags: Sequence[str], types: Sequence[str], everything: bool, exchange: Exchange) -> int:
        """Deliver an invalidation."""

    @abstractmethod
    def _delete(self, keys: Sequence[str], exchange: Exchange) -> int:
        """Deliver a deletion."""

    @abstractmethod
    def _invalidate_pattern(self, pattern: str, type_name: str | None, exchange: Exchange) -> int:
        """Deliver a pattern's invalidation."""

    def tallies(self, types: Sequence[str]) -> Tally:
        """See :meth:`Store.tallies`; what this process has counted is told first."""
        with suppress(StoreFullError):  # then it is told when there is room, and the figures lag behind
            self._flush_counts()
        with self._count_lock:  # what is on its way has arrived then
            names = sorted({*types, *self._types(self._exchange)})
            replies = self._exchange(b"".join(pack(("HGETALL", self._names.stats(name))) for name in names), len(names))
        tally = {name: _counted(reply) for name, reply in zip(names, replies, strict=True) if isinstance(reply, dict)}
        return {name: counted for name, counted in tally.items() if counted}

    def state(self) -> dict[str, Any]:
        """See :meth:`Store.state`."""
        return {
            "store": {
                "kind": "redis",
                "location": self.location,
                "server": self._server_state(),
                "warnings": list(self.facts.warnings),
            },
            "memory_tier": None,
            "bus": None,
            "breaker": {"is_open": self._breaker.is_open, "incidents": self._breaker.incidents},
            "journal": {"pending": len(self._journal)},
        }

    def _server_state(self) -> dict[str, Any] | None:
        """What the server says of itself now; ``None`` when it is away or does not say."""
        before = time.time()
        try:
            memory, server, clock = self._exchange(pack(("INFO", "memory")) + pack(("INFO", "server")) + _TIME, 3)
        except StoreError:
            return None
        if not (isinstance(memory, bytes | str) and isinstance(server, bytes | str) and isinstance(clock, list)):
            return None
        told = dict(line.split(":", 1) for line in f"{_text(memory)}\r\n{_text(server)}".split("\r\n") if ":" in line)
        there = int(clock[0]) + int(clock[1]) / 1_000_000
        return {
            "name": self.facts.name,
            "version": self.facts.version,
            "maxmemory_policy": told.get("maxmemory_policy", ""),
            "used_memory": int(told.get("used_memory", 0)),
            "maxmemory": int(told.get("maxmemory", 0)),
            "uptime": int(told.get("uptime_in_seconds", 0)),
            # against the middle of the question and its answer
            "clock_offset": round(there - (before + time.time()) / 2, 6),
        }

    def _flush_counts(self) -> None:
        """Add what this process has counted to the fleet's counters."""
        if self.counted is None:
            return
        take, give_back = self.counted
        with self._count_lock:
            news = take()
            try:
                if any(news):
                    # not self._exchange, which would have the housekeeping running again while it is being closed
                    keys = [self._names.costs, self._names.log, *map(self._names.stats, news.tally)]
                    reply = self._scripts["count"].call(self._wire.exchange, keys, _told(news))
                    if isinstance(reply, OutOfMemoryError):
                        raise self._refused(reply)
                    if isinstance(reply, Exception):  # the cache is as good without figures
                        self._uncounted(reply)
                        give_back(news)
            except BaseException:
                give_back(news)
                raise

    def _uncounted(self, error: Exception) -> None:
        """Say once why the figures of the fleet stand still."""
        if "count" not in self._warned:
            self._warned.add("count")
            logger.warning("[CACHE] %s does not take the counters of this process: %s", self.location, error)

    def _keep_house(self) -> float | None:
        """One round: probe or renew, then free space; the seconds until the next."""
        try:
            if self._breaker.is_open:
                self._recover()
                if self._breaker.is_open:  # it answers, too slowly to be of use
                    return _PROBE_EVERY
            else:
                self._beat(self._wire.exchange)
                if self._breaker.trouble is not None:
                    self._try_room()
            self._reclaim()
            self._flush_counts()
        except StoreError:
            return _PROBE_EVERY  # the incident is known already; the next round probes again
        if self._aside:
            return 0.01
        return min(1.0, self._lease_ms / 3000) if self._held or self._breaker.trouble else None

    def _recover(self) -> None:
        """Probe with a write; then deliver the journal, and only then trust the store again."""
        began = time.monotonic()
        self._beat(self._probe)
        took = time.monotonic() - began
        while True:
            with self._lock:  # see _note: nothing may slip in between "empty" and "closed"
                pending = self._journal.take()
                if not pending:
                    if self._breaker.may_close(took):
                        self._breaker.close()
                    return
            try:
                if pending.everything or pending.tags or pending.types:
                    self._invalidate(pending.tags, pending.types, pending.everything, self._probe)
                if pending.keys:
                    self._delete(pending.keys, self._probe)
                for pattern, type_name in pending.patterns:
                    self._invalidate_pattern(pattern, type_name, self._probe)
            except Exception as error:
                if isinstance(error, StoreError) or pending.everything:
                    self._journal.give_back(pending)
                    raise
                # Something in it cannot be delivered, ever: all that there is goes, rather than the cache for good.
                logger.exception("[CACHE ERROR] an invalidation could not be delivered; everything is invalidated")
                self._journal.give_back(Pending(everything=True))
            except BaseException:  # whatever it was, what has not been delivered is not forgotten
                self._journal.give_back(pending)
                raise

    def _beat(self, exchange: Exchange) -> None:
        now = time.monotonic()
        held = [(key, token) for (key, token), since in tuple(self._held.items()) if now - since < self._load_timeout]
        for key_token in [each for each, since in tuple(self._held.items()) if now - since >= self._load_timeout]:
            self._held.pop(key_token, None)  # its loader may hang: others may have the key when the lease runs out
        keys = [self._names.stamps, self._names.loads, *(self._names.lease(key) for key, _ in held)]
        args: list[Argument] = [self._lease_ms]
        for key, token in held:
            args += (token, key)
        self._call(self._scripts["beat"], keys, args, exchange)

    def _try_room(self) -> None:
        """A small write that a full server refuses."""
        reply = self._exchange(pack(("SET", self._names.probe, "1", "PX", 1000)), 1)[0]
        if not isinstance(reply, Exception):
            self._breaker.roomy()

    def _reclaim(self) -> None:
        """Free one chunk of what an invalidation left behind."""
        if not self._aside:
            return
        aside, stamp = self._aside[0]
        taken, _ = self._call(self._scripts["unlink"], [aside], [stamp, MAGIC])
        if taken < CHUNK:
            self._aside.pop(0)

    def close(self) -> None:
        """See :meth:`Store.close`; what was counted is told first."""
        with suppress(StoreError):
            self._flush_counts()
        self._housekeeper.stop()  # last: whoever asks the store has it running again
        self._wire.close()

    def _journalled(
        self,
        *,
        tags: Sequence[str] = (),
        types: Sequence[str] = (),
        keys: Sequence[str] = (),
        patterns: Sequence[tuple[str, str | None]] = (),
        everything: bool = False,
    ) -> _Journalled:
        noted = {"tags": tags, "types": types, "keys": keys, "patterns": patterns, "everything": everything}
        return _Journalled(self, noted)

    def _note(self, noted: dict[str, Any], cause: Exception) -> None:
        with self._lock:
            self._journal.add(**noted)
            self._breaker.trip(cause)
        self._housekeeper.ensure()


def _counted(reply: dict[bytes, bytes]) -> dict[str, float]:
    """Counters as they lie in a hash; what is no number is none of ours."""
    found = {}
    for field, value in reply.items():
        with suppress(ValueError):
            if math.isfinite(amount := float(value)):
                found[field.decode()] = amount
    return found


def _text(reply: bytes | str) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply


def _told(news: News) -> list[Argument]:
    """What ``count.lua`` takes."""
    args: list[Argument] = [len(news.costs)]
    for key, seconds in news.costs.items():
        args += (key, repr(seconds))
    args.append(len(news.log))
    for noted in news.log:
        what = ormsgpack.packb([noted.scope, list(noted.names), noted.removed, noted.journalled])
        args += (int(noted.at * 1000), what)
    for new in news.tally.values():
        args.append(len(new))
        for field, amount in new.items():
            args += (field, repr(amount))
    return args


class _Journalled:
    """Notes an invalidation in the journal when it could not be delivered, and lets the error through."""

    __slots__ = ("_noted", "_store")

    def __init__(self, store: Upkeep, noted: dict[str, Any]) -> None:
        self._store = store
        self._noted = noted

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is not None:
            cause = error if isinstance(error, Exception) else StoreUnavailableError("interrupted")
            self._store._note(self._noted, cause)


#: Stores whose last counts are told when the process ends.
_living: Final[WeakSet[Upkeep]] = WeakSet()


@atexit.register
def _tell_last_counts() -> None:
    for store in tuple(_living):
        with suppress(Exception):
            store._flush_counts()
