"""One server, as the parts of the Redis store see it.

Owns what is sent to it and what its refusals mean, the comparing of server runs on each new connection, the store's
clock as heard over all of this, and the bus. What the commands mean is the parts' business.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from redis.exceptions import ResponseError

from ...errors import StoreError, StoreUnavailableError
from ...model import forks
from ...model.bounded import BoundedDict
from ...model.entry import MICROSECONDS, Moment
from ...model.keys import CLOCK, EPOCH, FLOOR, FORGOTTEN, Names
from .breaker import Breaker
from .bus import Bus, Listener, Message, Subscription
from .clock import StoreClock
from .connection import Exchange, pack
from .facts import Facts
from .failures import WrongServerError
from .history import History
from .housekeeper import Housekeeper
from .journal import Journal
from .runs import Run, run_of
from .scripts import Argument, Call, load, run_steps
from .scripts import run as run_script
from .steps import Ask, Steps, drive
from .topology import Topology
from .transport import Connect, Transport

__all__ = ["SET_MEMBERS", "Server", "StampsRead", "new_epoch"]

logger: Final = logging.getLogger("flask_rcache")

T = TypeVar("T")

#: Of everything that processes must agree on so that no invalidation is missed: the stamp set, leases, the journal, the
#: messages of the bus, queues. Not of entries, which say their version themselves (``codec/envelope``).
_FORMAT: Final = 2
#: Names of stamp sets and server runs: above every reading of the clock, and exact as doubles.
_NAMES: Final = 2**52
#: The same as scores are: to compare one with a large integer takes several times as long.
_LIMIT: Final = float(_NAMES)
#: A stamp may be set a few seconds ahead of the clock; what is later than this is none of ours.
_AHEAD: Final = 60 * MICROSECONDS
_LATE_TRIES: Final = 3
#: In which they have all ended, and in which what is written is asked of the clock.
_TRYING: Final = 10 * MICROSECONDS
_RUNS_LEFT: Final = 20
#: Attempts to learn which run it is, while others that connect at the same time name it.
_RUN_TRIES: Final = 5
#: Seconds for which a failover that was announced may take to be carried out.
_MOVING: Final = 5.0
_TYPE_FIELD: Final = re.compile(rb"type:([a-z][a-z0-9_]*)")
#: What every read of rows asks for first, in this order.
SET_MEMBERS: Final = (EPOCH, FLOOR, FORGOTTEN, CLOCK)


def _as_wrong_server(error: Exception, exchange: Exchange) -> Exception:
    """The error, or what says that it is a sentinel that answers."""
    if "unknown command" in str(error).lower():
        about = exchange(pack(("INFO", "server")), 1)[0]
        text = about.decode("utf-8", "replace") if isinstance(about, bytes) else str(about)
        if "redis_mode:sentinel" in text:
            return WrongServerError(
                "this is a sentinel, no server: write redis+sentinel://host:port/service in RCACHE_URL"
            )
    return error


class StampsRead:
    """What one ZMSCORE said: of the set, and the rows of some tags."""

    __slots__ = ("clock", "epoch", "floor", "forgotten", "rows")

    def __init__(self, epoch: int, floor: float, forgotten: float, clock: int, rows: dict[str, float | None]) -> None:
        self.epoch = epoch
        self.floor = floor
        self.forgotten = forgotten
        self.clock = clock
        self.rows = rows


def new_epoch() -> int:
    """A random name for a stamp set."""
    return _NAMES + secrets.randbits(52)


class Server:
    """Commands and scripts on one server.

    Args:
        topology: announces that it has moved; ``None`` where the transport sees to that.
        names: the key names.
        cold: whether what another server run left behind is given up (a restart, a failover).
        journal: of the invalidations of this process.
        housekeeper: its thread runs as long as the server is in use.
        connect: makes what it is asked over.
        subscribe: makes the subscription to its invalidations; a thread of its own when left out.
        shards: of how many it is one.

    Attributes:
        listener: called with each invalidation that comes in or was acknowledged; a memory tier in front.
        facts: what the server said of itself on the last connection.
        is_running: whether the threads run that a server in use needs; who reads looks here first.
        run_hash: of the server's run id; empty before the first connection. Moments are of a run: readings of two
            servers' clocks cannot be compared, even if one has the other's stamp set.
    """

    def __init__(
        self,
        topology: Topology | None,
        *,
        names: Names,
        cold: bool,
        journal: Journal,
        housekeeper: Housekeeper,
        connect: Connect,
        subscribe: Callable[[Transport, str, Listener], Subscription] = Bus,
        shards: int = 1,
    ) -> None:
        self.names: Final = names
        self.clock: Final = StoreClock()
        self.history: Final = History()
        self.breaker: Final = Breaker()
        self._topology: Final = topology
        self.pool: Final[Transport] = connect(self.breaker, self._attach)
        self.bus: Final = subscribe(self.pool, names.bus, self)
        self._shards: Final = shards
        self.listener: Listener | None = None
        self.facts = Facts()
        self.run_hash = ""
        self._moving_until = 0.0
        self._last_failover: dict[str, Any] | None = None
        self._cold: Final = cold
        self._journal: Final = journal
        self._housekeeper: Final = housekeeper
        self._attach_script: Final = load("attach")
        self._leave_script: Final = load("leave")
        self._run_lock: Final = forks.new_lock()
        #: The runs that this process has left, each with the epoch that its set had then.
        self._runs_left: Final[BoundedDict[str, int]] = BoundedDict(_RUNS_LEFT)
        #: The run of each generation of connections.
        self._runs: Final[BoundedDict[int, str]] = BoundedDict(100)
        self._warned: Final[set[str]] = set()
        self.is_running = False
        forks.register(self)

    # --- The clock

    @property
    def moment(self) -> Moment | None:
        """The latest reading heard, of these connections and this epoch."""
        latest = self.clock.latest
        return latest if latest is not None and latest.generation == self.pool.generation else None

    def run_of(self, moment: Moment) -> str | None:
        """Of which server run a moment is; ``None`` when that is not known."""
        return self._runs.get(moment.generation)

    def hear(self) -> Moment | None:
        """:attr:`moment`, asking for one when none was heard; ``None`` when there is none to be had."""
        moment = self.moment
        if moment is None:
            try:
                self.stamps(())
            except StoreError:
                return None
            moment = self.moment
        return moment

    def stamps(self, tags: Sequence[str]) -> StampsRead | None:
        """The set and the rows of some tags now; ``None`` when it is lost."""
        return self.drive(self.stamps_steps(tags))

    def stamps_steps(self, tags: Sequence[str]) -> Steps[StampsRead | None]:
        """See :meth:`stamps`."""
        generation = self.pool.generation
        answers = yield Ask(pack(("ZMSCORE", self.names.stamps, *SET_MEMBERS, *tags)), 1)
        return self.stamps_in(answers[0], tags, generation)

    def stamps_in(self, scores: Any, tags: Sequence[str], generation: int) -> StampsRead | None:
        """What the reply to a ZMSCORE of :data:`SET_MEMBERS` and some tags says; ``None`` when the set is lost.

        Raises:
            StoreError: an error reply.
        """
        if isinstance(scores, Exception):
            if str(scores).startswith("WRONGTYPE"):  # of another kind: the next heartbeat makes it anew
                return None
            raise self.pool.fail(scores)
        epoch, floor, forgotten, clock, *rows = scores
        if epoch is None or floor is None or forgotten is None or clock is None:
            return None
        if not (0.0 <= floor < _LIMIT and 0.0 <= forgotten < _LIMIT and 0.0 <= clock < _LIMIT <= -epoch < 2 * _LIMIT):
            return None  # none of ours, as the scripts see it too
        self.clock.heard(int(-epoch), int(clock), generation)
        return StampsRead(int(-epoch), floor, forgotten, int(clock), dict(zip(tags, rows, strict=True)))

    def time_in(self, reply: Any) -> int:
        """The server's TIME in a reply, µs.

        Raises:
            StoreError: an error reply.
        """
        if isinstance(reply, Exception):
            raise self.pool.fail(reply)
        return int(reply[0]) * MICROSECONDS + int(reply[1])

    # --- Commands and scripts

    def ensure(self) -> None:
        """Have the threads running that a server in use needs."""
        if not self.is_running and not self._housekeeper.is_leaving():
            self.bus.ensure()
            if self._topology is not None:
                self._topology.watch(self._on_moved)
            self.is_running = self._housekeeper.ensure() and self.bus.state != "off"

    def reset_after_fork(self) -> None:
        """The threads are the parent's."""
        self.is_running = False

    def exchange(self, payload: bytes, replies: int) -> list[Any]:
        """See :meth:`Pool.exchange`."""
        self.ensure()
        return self.pool.exchange(payload, replies)

    def patiently(self, payload: bytes, replies: int) -> list[Any]:
        """An exchange of a walk over many keys: each answer within its timeout, however many there are."""
        self.ensure()
        return self.pool.exchange(payload, replies, patient=True)

    def probe(self, payload: bytes, replies: int) -> list[Any]:
        """An exchange although the breaker is open."""
        return self.pool.exchange(payload, replies, probing=True)

    def drive(self, steps: Steps[T]) -> T:
        """Run steps on this server, one exchange after the other."""
        return drive(steps, self._carry_out)

    def drive_probing(self, steps: Steps[T]) -> T:
        """Run steps although the breaker is open."""
        return drive(steps, lambda ask: self.probe(ask.payload, ask.replies))

    def _carry_out(self, ask: Ask) -> list[Any]:
        self.ensure()
        return self.pool.exchange(ask.payload, ask.replies, patient=ask.patient, once=ask.once)

    def replies(self, payload: bytes, replies: int) -> list[Any]:
        """Send commands none of which may fail."""
        return self.drive(self.replies_steps(payload, replies))

    def replies_steps(self, payload: bytes, replies: int, *, patient: bool = False) -> Steps[list[Any]]:
        """See :meth:`replies`."""
        answers = yield Ask(payload, replies, patient)
        for answer in answers:
            if isinstance(answer, Exception):
                raise self.pool.fail(answer)
        return answers

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one write; the replies in order."""
        return self.drive(self.run_steps(calls))

    def run_steps(self, calls: Sequence[Call], *, patient: bool = False, once: bool = False) -> Steps[list[Any]]:
        """See :meth:`run`."""
        replies = yield from run_steps(calls, patient=patient, once=once)
        for reply in replies:
            if isinstance(reply, Exception):
                raise self.pool.fail(reply)
        return replies

    def run_in_time_steps(self, calls: Sequence[Call], *, size: int = 0, once: bool = False) -> Steps[list[Any]]:
        """Run scripts whose writes have a deadline (rule R4.4): what was reported as failed never happens later.

        Args:
            calls: of scripts whose ARGV begin with since and until when they are wanted, without those two.
            size: bytes of what is written.
            once: what must not be carried out twice.

        Raises:
            StoreUnavailableError: they arrived too late, several times.
        """
        replies: list[Any] = [None] * len(calls)
        left = list(range(len(calls)))
        for _ in range(_LATE_TRIES):
            if not left:
                break
            window = yield from self.window_steps(size)
            asked = [calls[number]._replace(args=(*window, *calls[number].args)) for number in left]
            answers = yield from self.run_steps(asked, once=once)
            late = []
            for number, answer in zip(left, answers, strict=True):
                if answer[0] == b"late":
                    self.clock.heard_time(int(answer[1]))
                    late.append(number)
                else:
                    replies[number] = answer
            left = late
        if left:
            raise StoreUnavailableError(f"{self.pool.location}: a write arrived later than it could be waited for")
        return replies

    def window_steps(self, size: int) -> Steps[tuple[int, int]]:
        """Since and until when a write of so many bytes is wanted that is sent now (rule R4.4)."""
        if self.clock.estimate() is None:
            yield from self.replies_steps(pack(("PING",)), 1)  # who connects hears the TIME
        return self.clock.window(self.pool.seconds_for(size))

    def latest_steps(self, size: int) -> Steps[int]:
        """A reading (µs) that a write of so many bytes, sent now, is no later than, however often it is tried."""
        _, until = yield from self.window_steps(size)
        latest = self.clock.latest  # ahead of TIME where that was set back
        return max(until, 0 if latest is None else latest.clock) + _TRYING

    # --- The bus

    def apply(self, message: Message) -> None:
        """See :class:`~.bus.Listener`: an invalidation was made."""
        now = self.clock.estimate()
        latest = max(message.stamp, message.clock)
        if latest > message.clock + _AHEAD or (now is not None and latest > now + _AHEAD):
            self.distrust()  # it makes no sense: nothing of it is kept, and nothing that was held before is trusted
            return
        moment = self.moment
        if moment is not None and moment.epoch == message.epoch:
            self.clock.heard(message.epoch, message.clock, moment.generation)
        if self.listener is not None:
            self.listener.apply(message)

    def acknowledged(self, message: Message, generation: int) -> None:
        """The server has acknowledged an invalidation of this process: its memory tier has it before the call returns.

        Args:
            message: what others are sent; its epoch is 0 when the stamp set is lost.
            generation: of the connections when it was sent.
        """
        if message.epoch:
            self.clock.heard(message.epoch, message.clock, generation)
        if self.listener is not None:
            self.listener.apply(message)

    def distrust(self) -> None:
        """See :class:`~.bus.Listener`: messages may have been missed."""
        if self.listener is not None:
            self.listener.distrust()

    # --- Connections

    @property
    def is_moving(self) -> bool:
        """Whether a failover was announced just now: where the server is, is asked more often."""
        return time.monotonic() < self._moving_until

    def _on_moved(self) -> None:
        """A failover was announced: whoever needs a connection finds out, and one is made that nobody waits for."""
        self._moving_until = time.monotonic() + _MOVING
        self.breaker.probe_soon()
        self.pool.resolve_anew()
        self._housekeeper.wake()

    def _attach(self, exchange: Exchange) -> None:
        """Compare the server's run with the one that was asked so far, before anything is trusted (Outages 5 and 6)."""
        generation = self.pool.generation
        run: Run | None = None
        for _ in range(_RUN_TRIES):
            reply = self._asked_to_attach(exchange, run)
            if reply[0] != b"run":
                break
            run = run_of(exchange, reply[2].decode(), is_needed=self._cold)
            if run is None:
                raise ResponseError(
                    f"{reply[1].decode()}: without INFO a restart goes unnoticed on a server before version 7, and an "
                    "old snapshot would be served; grant +info to the user of the cache, or set RCACHE_ON_FAILOVER "
                    "to warm"
                )
        else:
            raise StoreUnavailableError(f"{self.pool.location} names another run of itself each time it is asked")
        state, *rest = reply
        if state == b"format":
            raise ResponseError(
                f"the cache under prefix {self.names.prefix!r} records invalidations in format {rest[0].decode()}, and "
                f"this release in format {_FORMAT}: set another RCACHE_PREFIX for it"
            )
        if state == b"shards":
            raise WrongServerError(
                f"the cache under prefix {self.names.prefix!r} has {rest[0].decode()} shards, and this process "
                f"{self._shards}: set RCACHE_SHARDS to the same number everywhere, or another RCACHE_PREFIX"
            )
        epoch, clock, now, taken, run_hash, *facts = rest
        self._compare(run_hash.decode(), generation, epoch=int(epoch), taken=int(taken))
        self.clock.heard_time(int(now))
        self.clock.heard(int(epoch), int(clock), generation)
        self.facts = Facts.of(*facts)
        if run is not None and not self.facts.version:
            self.facts = replace(self.facts, name=run.server, version=run.version)
        self._warn()

    def _asked_to_attach(self, exchange: Exchange, run: Run | None) -> list[Any]:
        name, unlike = ("", "") if run is None else (run.name, run.unlike)
        args: list[Argument] = [_FORMAT, "cold" if self._cold else "warm", new_epoch(), self._shards, name, unlike]
        args += [part for pair in self._runs_left.items() for part in pair]
        reply: Any = run_script(exchange, [Call(self._attach_script, [self.names.stamps, self.names.meta], args)])[0]
        if isinstance(reply, Exception):
            raise _as_wrong_server(reply, exchange)
        found: list[Any] = reply
        return found

    def _compare(self, run_hash: str, generation: int, *, epoch: int, taken: int) -> None:
        """End the generation when another run answers than before.

        Raises:
            StoreUnavailableError: and this process has invalidations that it may not know: they are sent first.
        """
        with self._run_lock:
            if self.pool.generation != generation:
                return
            before, self.run_hash = self.run_hash, run_hash
            self.history.attached(run_hash, epoch, taken)
            self._runs_left.pop(run_hash, None)
            if before in ("", run_hash):
                self._runs[generation] = run_hash
                return
            self._leave(before)
            self._last_failover = {"at": time.time(), "before": self.pool.server}
            cause = StoreUnavailableError(f"{self.pool.location} leads to another server, or to one that was restarted")
            is_behind = self._journal.replay()
            if is_behind:
                self.breaker.trip(cause, pause=0.0)  # it answers: what it has to know is sent at once
            self.pool.end_generation(cause)
        if is_behind:
            self._housekeeper.wake()
            raise cause

    def _leave(self, run_hash: str) -> None:
        """Remember a run that is left, and have its server, if it lives on, send away who still asks it (Outages 5)."""
        latest = self.clock.latest
        self._runs_left[run_hash] = 0 if latest is None else latest.epoch
        self.pool.farewell(self._leave_script.packed([self.names.stamps], [run_hash], with_text=True))

    def check_run(self, named: str, generation: int) -> None:
        """Have the server compared again when its set names another run than its connections of a generation do.

        Processes that know a run by different means would refuse each other's fills for good else.
        """
        if named and self._runs.get(generation, named) != named and self.pool.generation == generation:
            cause = StoreUnavailableError(f"{self.pool.location}: the run of the server has a new name")
            self.pool.end_generation(cause)

    def topology(self) -> dict[str, Any]:
        """Where the server is, as operators see it.

        ``kind`` is ``"server"``, ``"sentinel"`` or ``"cluster"``; ``server`` the address that the newest connection of
        this process leads to; ``generation`` the number of its connections' generation, which grows with each outage;
        ``last_failover`` is ``None``, or when this process found another server, or one that was restarted (``at``,
        seconds since 1970), and the address before (``before``). With sentinels there is the ``service``, and
        ``sentinels``: for each its ``address``, its ``state`` (``"ok"``, ``"away"``, ``"refused"``, ``"no quorum"``,
        ``"no master"`` or ``"unknown"``, before it was asked), a sentence (``detail``), and since when that is so
        (``since``, seconds since 1970).
        """
        return {
            "server": self.pool.server,
            "generation": self.pool.generation,
            "last_failover": self._last_failover,
            **({} if self._topology is None else self._topology.state()),
        }

    def _warn(self) -> None:
        """Say once what weakens a promise on this server."""
        for warning in self.facts.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                logger.warning("[CACHE] %s: %s", self.pool.location, warning)

    def close(self) -> None:
        """End the threads and close the connections; the server may be used again."""
        self.is_running = False
        self._housekeeper.stop()
        if self._topology is not None:
            self._topology.close()
        self.bus.stop(timeout=0.0)  # it ends by itself within one wait for messages
        self.pool.close()

    # --- What is in it

    def types(self) -> set[str]:
        """Every type that has an index, whichever process made it, as far as that is known."""
        return self.drive(self.types_steps())

    def types_steps(self) -> Steps[set[str]]:
        """See :meth:`types`."""
        fields = (yield Ask(pack(("HKEYS", self.names.meta)), 1))[0]
        if isinstance(fields, Exception):
            if str(fields).startswith("WRONGTYPE"):  # it heals with the next fill or connection
                return set()
            raise self.pool.fail(fields)
        return {found[1].decode() for found in map(_TYPE_FIELD.fullmatch, fields) if found}
