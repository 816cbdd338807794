"""The tormentor: what happens to a fleet while it races.

Owns the acts and their order. The bus is cut: `CLIENT KILL TYPE pubsub` again and again, so that messages are lost and
not only delayed; all other connections are killed once. The server is stopped (SIGSTOP) for less and for more than the
time it has for an answer. Workers, the writer among them, are killed (SIGKILL) and replaced.

One act is aimed: every memory tier is given the time to hold the present value, one write falls into a cut of the bus,
and then the writer holds still for longer than anything may be held. Without that the next message would outdate what
the lost one should have, and a fleet that trusts its memory for ever would hardly be found out.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from tests.servers import Server

if TYPE_CHECKING:
    from tests.race.harness import Race

_CUT = (0.1, 0.5)
#: On either side of the 0.25 s that the server has for an answer.
_SHORT_STOP = (0.1, 0.24)
_LONG_STOP = (0.3, 1.5)
_REST = (0.1, 0.6)
#: A listener subscribes again after 0.05 s: killed so soon after that, it hears of hardly anything.
_KILL_EVERY = 0.002
_DOWN = 0.06
_TICK = 0.005
_CALM = 0.3
_SILENCE_BEYOND_HOLD = 0.6
_PATIENCE = 10.0


@dataclass(slots=True)
class Torments:
    """What was done.

    Attributes:
        cuts: of the bus, the aimed ones included.
        aimed: of them, those with one write in them and a silence after it.
        subscriptions: that were killed in the cuts.
        connections: other ones that were killed.
        stops: of the server.
        stopped_seconds: in all.
        longest_stop: in seconds.
        kills: of workers.
    """

    cuts: int = 0
    aimed: int = 0
    subscriptions: int = 0
    connections: int = 0
    stops: int = 0
    stopped_seconds: float = 0.0
    longest_stop: float = 0.0
    kills: int = 0

    @property
    def any(self) -> bool:
        """Whether anything was done."""
        return self != Torments()

    def __str__(self) -> str:
        return (
            f"{self.cuts} cuts of the bus ({self.aimed} aimed, {self.subscriptions} subscriptions killed)  "
            f"{self.connections} other connections killed  "
            f"{self.stops} stops of the server ({self.stopped_seconds:.1f} s, longest {self.longest_stop:.2f} s)  "
            f"{self.kills} workers killed"
        )


class Tormentor:
    """Torments one race, act after act, in the thread that calls :meth:`run`.

    Args:
        race: the race; it has a server of its own.
        done: where what was done is counted.
        over: whether it is time to end.
    """

    def __init__(self, race: Race, done: Torments, *, over: Callable[[], bool]) -> None:
        assert race.server is not None
        self.done = done
        self._race = race
        self._server: Server = race.server
        self._ledger = race.ledger
        self._over = over

    def run(self) -> None:
        """Go on until it is over; the server runs then, and nobody is missing."""
        for act in self._acts():
            if self._over():
                break
            act()
            self._rest(random.uniform(*_REST))
        self._until(lambda: self._race.complete)  # somebody killed may not be back yet

    def _acts(self) -> Iterator[Callable[[], None]]:
        """Every act in each round, in another order each time."""
        acts = [self._hang_up, self._stop_shortly, self._stop_for_long, self._kill]
        if self._race.scenario.l1_ttl:  # else there is no bus
            acts += [self._cut, self._cut_with_aim]
        while True:
            yield from random.sample(acts, len(acts))

    # Connections

    def _hang_up(self) -> None:
        with self._server.client() as client:
            killed: Any = client.client_kill_filter(_type="normal", skipme=True)
            self.done.connections += killed

    def _cut(self) -> None:
        """Nobody is subscribed for long, while the writer goes on."""
        seconds = random.uniform(*_CUT)
        with self._server.client() as client:
            self._kill_subscriptions(client, seconds, until=lambda: True)
        self.done.cuts += 1

    def _cut_with_aim(self) -> None:
        """What all hold is outdated by one write that nobody hears of, and by nothing for a while."""
        ledger, silence = self._ledger, self._race.scenario.l1_ttl + _SILENCE_BEYOND_HOLD
        self._await_write()
        ledger.silence(_PATIENCE)
        self._rest(_CALM)
        before = ledger.invalidations
        with self._server.client() as client:
            self._kill_subscriptions(client, _DOWN, until=lambda: True)
            ledger.silence(0)
            self._kill_subscriptions(client, 0, until=lambda: ledger.invalidations > before)
            ledger.silence(silence)
            self._kill_subscriptions(client, _DOWN, until=lambda: True)
        self.done.cuts += 1
        self.done.aimed += 1
        self._rest(silence)

    def _kill_subscriptions(self, client: redis.Redis, seconds: float, *, until: Callable[[], bool]) -> None:
        """Kill them for as long as that, and until something has happened."""
        began = time.monotonic()
        while (time.monotonic() - began < seconds or not until()) and not self._out_of_patience(began):
            killed: Any = client.client_kill_filter(_type="pubsub")
            self.done.subscriptions += killed
            time.sleep(_KILL_EVERY)

    # The server

    def _stop_shortly(self) -> None:
        with self._stopped():
            time.sleep(random.uniform(*_SHORT_STOP))

    def _stop_for_long(self) -> None:
        """For longer than it has for an answer; the writer is told so, if it writes at all."""
        self._await_write()
        told = self._ledger.journalled
        with self._stopped():
            time.sleep(random.uniform(*_LONG_STOP))
            self._until(lambda: self._ledger.journalled > told)

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        began = time.monotonic()
        self._server.pause()
        try:
            yield
        finally:
            self._server.resume()
            seconds = time.monotonic() - began
            self.done.stops += 1
            self.done.stopped_seconds += seconds
            self.done.longest_stop = max(self.done.longest_stop, seconds)

    # The workers

    def _kill(self) -> None:
        """One after another: while somebody is being replaced, nobody else is killed."""
        if self._race.complete:
            self._race.replace(random.choice([*self._race.readers, *self._race.others]))
            self.done.kills += 1

    # Waiting

    def _await_write(self) -> None:
        """The writer is there, and neither silent nor told to wait."""
        before = self._ledger.invalidations
        self._until(lambda: self._ledger.invalidations > before)

    def _until(self, ready: Callable[[], bool]) -> None:
        began = time.monotonic()
        while not ready() and not self._out_of_patience(began):
            time.sleep(_TICK)

    def _rest(self, seconds: float) -> None:
        began = time.monotonic()
        while time.monotonic() - began < seconds and not self._over():
            time.sleep(_TICK)

    @staticmethod
    def _out_of_patience(began: float) -> bool:
        return time.monotonic() - began >= _PATIENCE
