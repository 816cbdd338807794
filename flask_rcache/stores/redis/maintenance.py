"""Maintenance: what the Redis store does off the request path, and what it must not forget.

Owns the rounds of the maintenance thread: the probe and the delivery of the journal while the server is away, the
heartbeat that gives a reading of the clock, renews the leases of live loads and the stamps ahead of commits under way,
and drops rows of the stamp set, the counters, the freeing of space and of connections. Invalidations go through it, so
that none is forgotten that was not acknowledged.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar
from weakref import WeakSet

from ...errors import StoreError, StoreUnavailableError
from ...model import forks
from ..protocol import Lease
from .connection import pack
from .counting import Counters
from .housekeeper import Housekeeper
from .invalidating import Invalidator, chunks
from .journal import Invalidation, Journal
from .scripts import Argument, Call, load
from .server import Server, new_epoch
from .steps import Ask, Steps

__all__ = ["Maintenance", "store_counts_at_exit"]

logger: Final = logging.getLogger("flask_rcache")

_EVERY: Final = 1.0
_PROBE_EVERY: Final = 0.25
#: Rounds from one in which rows are dropped to the next, and how many go at most.
_DROPPING_ROUNDS: Final = 10
_ROWS_DROPPED: Final = 500
#: Rounds from one in which the server's name is resolved anew to the next.
_RESOLVING_ROUNDS: Final = 6
#: Leases remembered at most to be given back; others run out.
_MOST_LEFT_BEHIND: Final = 10_000

T = TypeVar("T")


@dataclass(slots=True)
class _Commit:
    """A commit that is under way: what it invalidates, since when (monotonic seconds), and in which stamp set."""

    tags: tuple[str, ...]
    since: float
    epoch: int = 0


class Maintenance:
    """The store's part that outlives a request.

    Args:
        server: what is maintained.
        invalidator: sends invalidations to it.
        journal: of those that are not acknowledged.
        housekeeper: calls the rounds.
        counters: of all processes.
        lease: seconds a lease holds without being renewed.
        load_timeout: seconds after which a lease is no longer renewed.
        max_stamps: rows of the stamp set kept at most.
        ahead: seconds by which stamps lie ahead of the clock during a commit, without being renewed.
        is_alone: whether the rounds are its own; else somebody has a round of several shards.
    """

    def __init__(
        self,
        server: Server,
        invalidator: Invalidator,
        journal: Journal,
        housekeeper: Housekeeper,
        counters: Counters,
        *,
        lease: float,
        load_timeout: float,
        max_stamps: int,
        ahead: float = 5.0,
        is_alone: bool = True,
    ) -> None:
        self._server: Final = server
        self._invalidator: Final = invalidator
        self._journal: Final = journal
        self._housekeeper: Final = housekeeper
        self._counters: Final = counters
        self._lease_ms: Final = max(1, int(lease * 1000))
        self._load_timeout: Final = load_timeout
        self._max_stamps: Final = max_stamps
        self._ahead: Final = ahead
        self._beat_script: Final = load("beat")
        self._release_script: Final = load("release")
        #: The leases of this process, and since when (monotonic seconds).
        self._held: Final[dict[Lease, float]] = {}
        #: Leases that the server may hold for this process though nobody loads, and since when.
        self._left_behind: Final[dict[Lease, float]] = {}
        #: The commits of this process that are under way, by token.
        self._commits: Final[dict[str, _Commit]] = {}
        self._lock: Final = forks.new_lock()
        self._beats = 0
        if is_alone:
            housekeeper.assign(self._round)
            store_counts_at_exit(self)
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The leases and the commits are the parent's."""
        self._held.clear()
        self._left_behind.clear()
        self._commits.clear()

    # --- Leases

    def hold(self, key: str, token: str) -> None:
        """Renew a lease from now on."""
        self._held[Lease(key, token)] = time.monotonic()

    def drop(self, lease: Lease) -> None:
        """Renew it no more."""
        self._held.pop(lease, None)

    def leave_behind(self, leases: Sequence[Lease]) -> None:
        """Give leases back as soon as the server answers again: what took them, or ended them, was not answered.

        Else everyone elsewhere waits for a load that nobody runs, until they run out.
        """
        now = time.monotonic()
        for lease in leases:
            self._held.pop(lease, None)
            if len(self._left_behind) < _MOST_LEFT_BEHIND:
                self._left_behind[lease] = now
        self._housekeeper.wake()

    def _give_back(self) -> Steps[None]:
        """Release what was left behind; what has run out meanwhile needs it no more."""
        since = time.monotonic() - self._lease_ms / 1000
        left = dict(self._left_behind)
        leases = [lease for lease, when in left.items() if when > since and lease not in self._held]
        calls = [
            Call(
                self._release_script,
                [self._server.names.lease(lease.key) for lease in chunk],
                [0, "p", *[lease.token for lease in chunk]],
            )
            for chunk in chunks(leases)
        ]
        if calls:
            yield from self._server.run_in_time_steps(calls)
        for lease, when in left.items():
            if self._left_behind.get(lease) == when:
                del self._left_behind[lease]

    # --- Commits

    def stamp_ahead(self, tags: Sequence[str], token: str) -> Steps[None]:
        """Set tags ahead of the clock, and again with every beat until the commit is over."""
        commit = self._commits[token] = _Commit(tuple(tags), time.monotonic())
        self._server.ensure()
        commit.epoch = yield from self._invalidator.set_ahead(tags, token, seconds=self._ahead)
        self._journal.acknowledged(Invalidation(tuple(tags)))  # a server that takes over has no stamps ahead

    def end_commit(self, tags: Sequence[str], token: str, *, withdrawn: bool) -> Steps[None]:
        """The commit is over; what is not acknowledged is journalled, and the error raised."""
        self._commits.pop(token, None)
        sending = self._invalidator.end_commit(tags, token, withdrawn=withdrawn)
        if withdrawn:
            yield from sending
        else:
            yield from self._acknowledged(Invalidation(tuple(tags)), sending)

    # --- Invalidations

    def invalidate(self, invalidation: Invalidation) -> Steps[int]:
        """Send an invalidation; what the server does not acknowledge is journalled, and the error raised."""
        removed = yield from self._acknowledged(invalidation, self._invalidator.send(invalidation))
        return removed

    def _acknowledged(self, invalidation: Invalidation, sending: Steps[T]) -> Steps[T]:
        """Send an invalidation in whichever way; journal what is not acknowledged."""
        try:
            answer = yield from self._send(invalidation, sending)
        except BaseException as error:
            self._not_acknowledged(
                invalidation, error if isinstance(error, Exception) else StoreUnavailableError("interrupted")
            )
            raise
        return answer

    def _send(self, invalidation: Invalidation, sending: Steps[T]) -> Steps[T]:
        """Send it, and keep it for a while.

        Raises:
            StoreError: it was not acknowledged, or by a server that is not asked any more.
        """
        server = self._server
        run = server.run_hash
        answer = yield from sending
        self._journal.acknowledged(invalidation)
        if run and server.run_hash != run:  # what was acknowledged before that is sent again, but not this
            raise StoreUnavailableError(f"{server.pool.location}: another server took over during an invalidation")
        return answer

    def _not_acknowledged(self, invalidation: Invalidation, cause: Exception) -> None:
        """Journal an invalidation; until it is delivered nothing is trusted from the server."""
        with self._lock:  # see _recover: nothing may come between "empty" and "closed"
            self._journal.add(invalidation)
            # An open one keeps the time of its next probe: else an app that writes all the time would never get there.
            if not self._server.breaker.is_open:
                self._server.breaker.trip(cause, pause=0.0)
        self._server.ensure()
        self._housekeeper.wake()

    # --- Rounds

    def _round(self) -> float:
        """One round: probe or beat, then what can wait; the seconds until the next."""
        server, breaker = self._server, self._server.breaker
        try:
            if breaker.is_open:
                pause = breaker.probe_in()
                if pause:
                    return pause
                self.recover()
            else:
                server.drive(self.beat())
                if self._beats % _RESOLVING_ROUNDS == 0 or server.is_moving:
                    server.pool.resolve_anew()
            server.drive(self.tidy())
            self._counters.flush(server.pool.exchange)
        except StoreError:
            return breaker.probe_in() or _PROBE_EVERY  # the incident is known already
        finally:
            server.pool.close_idle()
        return self.pause

    @property
    def pause(self) -> float:
        """Seconds until the next round is due when all is well."""
        if self._invalidator.has_space_to_free:
            return 0.01
        if self._commits:
            return min(_EVERY, self._ahead / 4)
        return min(_EVERY, self._lease_ms / 3000) if self._held else _EVERY

    @property
    def has_to_tidy(self) -> bool:
        """Whether :meth:`tidy` has something to do."""
        breaker, invalidator = self._server.breaker, self._invalidator
        return bool(self._left_behind) or breaker.incident is not None or invalidator.has_space_to_free

    def tidy(self) -> Steps[None]:
        """What can wait: give leases back, free some space, and see whether a full server has room again."""
        if self._left_behind:
            yield from self._give_back()
        if self._server.breaker.incident is not None:
            reply = (yield Ask(pack(("SET", self._server.names.probe, "1", "PX", 1000)), 1))[0]
            if not isinstance(reply, Exception):  # a small write that a full server refuses
                self._server.breaker.has_room()
        yield from self._invalidator.reclaim()

    def recover(self) -> None:
        """Probe with a write; then deliver the journal, and only then trust the store again.

        Raises:
            StoreError: it is still away.
        """
        server = self._server
        server.drive_probing(self.beat())
        while True:
            with self._lock:
                pending = self._journal.take()
                if not pending:
                    server.breaker.close()
                    return
            try:
                server.drive_probing(self._send(pending, self._invalidator.send(pending)))
            except Exception as error:
                if isinstance(error, StoreError) or pending.everything:
                    self._journal.add(pending)
                    raise
                # Something in it can never be delivered: all that there is goes, rather than the cache for good.
                logger.exception("[CACHE ERROR] an invalidation cannot be delivered; everything is invalidated")
                self._journal.add(Invalidation(everything=True))
            except BaseException:  # whatever it was, what has not been delivered is not forgotten
                self._journal.add(pending)
                raise

    def beat(self) -> Steps[None]:
        """The heartbeat, which renews what this process holds."""
        server, names = self._server, self._server.names
        now = time.monotonic()
        held = []
        for lease, since in tuple(self._held.items()):
            if now - since < self._load_timeout:
                held.append(lease)
            else:  # its loader may hang: others may have the key when the lease runs out
                self.drop(lease)
        most = _ROWS_DROPPED if self._beats % _DROPPING_ROUNDS == 0 else 0
        self._beats += 1
        keys = [names.stamps, names.loads, *[names.lease(lease.key) for lease in held]]
        args: list[Argument] = [new_epoch(), self._lease_ms, self._max_stamps, most, server.history.until]
        args.append(server.run_hash)
        for lease in held:
            args += (lease.token, lease.key)
        calls = [Call(self._beat_script, keys, args)]
        for token, commit in tuple(self._commits.items()):
            if now - commit.since >= self._ahead / 8:
                calls += self._invalidator.renewals(commit.tags, token, seconds=self._ahead, epoch=commit.epoch)
        generation = server.pool.generation
        replies = yield from server.run_steps(calls)
        epoch, clock, server_time, _, run, *later = replies[0]
        server.clock.heard_time(int(server_time))
        server.clock.heard(int(epoch), int(clock), generation)
        server.check_run(run.decode(), generation)
        if server.pool.generation == generation:  # else it may be another server's
            server.history.beat(int(epoch), int(clock), later)

    # --- The end

    def close(self) -> None:
        """Store the last counts, end the threads, close the connections; the store may be used again."""
        with suppress(StoreError):
            self._counters.flush(self._server.pool.exchange)
        self._server.close()

    def store_last_counts(self) -> None:
        """The process ends."""
        self._counters.flush(self._server.pool.exchange)


#: Stores whose last counts are stored when the process ends.
_living: Final[WeakSet[Maintenance]] = WeakSet()


def store_counts_at_exit(maintenance: Maintenance) -> None:
    """Have what was counted last stored when the process ends."""
    _living.add(maintenance)


@atexit.register
def _store_last_counts() -> None:
    for maintenance in tuple(_living):
        with suppress(Exception):
            maintenance.store_last_counts()
