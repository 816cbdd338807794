"""Driving a load: its commands carried out on the store, in a thread or in a task of asyncio.

Owns on which terms a context loads (rules R3 and R6), the flights of this process, and that they and the leases end
however a load does. Who loads and who waits is ``load``'s, what a loader gives ``fetching``'s and ``views``'s.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from ..model.scope import scope_of
from ..stores.protocol import Lookup
from .calls import Call
from .guard import GuardedStore
from .load import (
    AskLeases,
    Command,
    Done,
    FillResults,
    Loaded,
    Look,
    Pause,
    Reader,
    ReleaseLeases,
    RunLoader,
    Steps,
    WaitFor,
    WriteResults,
    load,
)
from .loading import Load, Patience, Terms, current_load, keys_under_way
from .observer import Observer
from .policies import Policy
from .single_flight import Flights
from .waiting import block_thread, suspend_task

# asyncio is imported where it is used: a process without async views and functions never needs it.

__all__ = ["Driver"]

#: Seconds that others wait at least for a load whose function has returned.
_LEAST_GRACE: Final = 0.05
#: The commands that only let time pass.
_WAITS: Final = (WaitFor, Pause)


class Driver:
    """Drives the loads of one cache.

    Args:
        guarded: the store.
        observer: takes what happened.
        load_timeout: seconds that a reader waits for another's load at most.

    Attributes:
        flights: the loads of this process that others may wait for.
    """

    __slots__ = ("_guarded", "_load_timeout", "_observer", "_store", "flights")

    def __init__(self, guarded: GuardedStore, observer: Observer, *, load_timeout: float) -> None:
        self.flights: Final = Flights()
        self._guarded: Final = guarded
        self._store: Final = guarded.store
        self._observer: Final = observer
        self._load_timeout: Final = load_timeout

    def terms(self, policy: Policy, *, began: int = 0, patience: Patience = Patience.WAIT, **options: Any) -> Terms:
        """The terms on which this context loads (rules R3 and R6)."""
        scope = scope_of(self._store)
        parent = current_load()
        if scope is not None and scope.is_request:
            moment, began = scope.moment, scope.began
        else:
            moment = self._store.moment or self._store.hear()
        seconds = self._load_timeout
        if patience is Patience.WAIT and scope is not None and scope.uncommitted and any(scope.uncommitted):
            patience = Patience.RUN_ALONE  # what others load does not have it
        return Terms(
            owner=self._store,
            policy=policy,
            moment=moment,
            began=began or time.monotonic_ns(),
            parent=parent,
            own_keys=set() if parent is None else keys_under_way(),
            patience=patience,
            # Inside a load it is short: two processes may wait for each other.
            seconds=seconds if parent is None else min(seconds, self._store.lease_seconds),
            **options,
        )

    def begin(
        self, call: Call, lookups: Mapping[str, Lookup | None], began: int, *, shares_errors: bool = True
    ) -> tuple[Steps, Terms]:
        """The steps of a load for one call, and their terms.

        Args:
            call: what it wants.
            lookups: what was found unusable, by stored key.
            began: the instant (monotonic ns) that its result must not be older than, outside of requests.
            shares_errors: see :class:`~flask_rcache.engine.loading.Terms`.
        """
        readers = [Reader(key, call.all_tags, lookup) for key, lookup in lookups.items()]
        terms = self.terms(call.policy, began=began, shares_errors=shares_errors, **call.observing)
        return load(readers, self.flights, terms), terms

    def drive(self, steps: Steps, terms: Terms, run: Callable[[Sequence[Load]], Loaded]) -> Done:
        """Carry the commands of a load out in this thread.

        Args:
            steps: of :func:`~flask_rcache.engine.load.load`.
            terms: of the same.
            run: runs the loader; it does not raise what the loader raises.
        """
        with self.ending(steps, terms) as loads:
            found = self.advance(steps, terms)
            while isinstance(found, RunLoader):
                loads.extend(found.loads)
                found = self.advance(steps, terms, run(found.loads))
            return found

    async def drive_async(self, steps: Steps, terms: Terms, run: Callable[[Sequence[Load]], Awaitable[Loaded]]) -> Done:
        """Carry the commands of a load out without blocking the event loop."""
        with self.ending(steps, terms) as loads:
            found = await self.advance_async(steps, terms)
            while isinstance(found, RunLoader):
                loads.extend(found.loads)
                found = await self.advance_async(steps, terms, await run(found.loads))
            return found

    def advance(self, steps: Steps, terms: Terms, reply: Any = None) -> RunLoader | Done:
        """Carry commands out in this thread up to the next run of the loader, or to the end.

        Args:
            steps: of :func:`~flask_rcache.engine.load.load`.
            terms: of the same.
            reply: what the loader that was run last produced; ``None`` at the beginning.
        """
        while True:
            try:
                command = steps.send(reply)
            except StopIteration as stop:
                return cast(Done, stop.value)
            if isinstance(command, RunLoader):
                return command
            if isinstance(command, _WAITS):
                reply = None
                block_thread(command)
            else:
                reply = self.perform(terms.policy, command)

    async def advance_async(self, steps: Steps, terms: Terms, reply: Any = None) -> RunLoader | Done:
        """:meth:`advance` without blocking the event loop."""
        import asyncio

        while True:
            try:
                command = steps.send(reply)
            except StopIteration as stop:
                return cast(Done, stop.value)
            if isinstance(command, RunLoader):
                return command
            if isinstance(command, _WAITS):
                reply = None
                await suspend_task(command)
            else:
                reply = await asyncio.to_thread(self.perform, terms.policy, command)

    def perform(self, policy: Policy, command: Command) -> Any:
        """Carry out a command that asks the store; the reply."""
        guarded = self._guarded
        if isinstance(command, Look):
            return guarded.read_many(policy, command.keys, command.tags)
        if isinstance(command, AskLeases):
            return guarded.begin(policy, command.wants, command.token, command.moment)
        if isinstance(command, FillResults):
            return guarded.fill(policy, command.results)
        if isinstance(command, WriteResults):
            return guarded.write(policy, command.writes, command.load.moment)
        assert isinstance(command, ReleaseLeases)
        guarded.release(policy, command.loads, pass_for=command.pass_for, failed=command.failed)
        return None

    @contextmanager
    def ending(self, steps: Steps, terms: Terms) -> Iterator[list[Load]]:
        """However a load ends, its flights and leases do too; the leases are those of the loads put in the list."""
        loads: list[Load] = []
        try:
            yield loads
        finally:
            steps.close()
            self._observer.waited(terms.policy, terms.waited, terms.collapsed)
            held = [each for each in loads if each.lease is not None]
            if held:
                self._guarded.release(terms.policy, held)

    def returned(self, load: Load) -> None:
        """A load's function has returned, and its result waits for the rest of its request.

        That may take much longer than the function did: others wait ten times as long as it took at most, and the
        lease is not renewed any more.
        """
        if load.flight is not None:
            grace = min(self._store.lease_seconds, max(_LEAST_GRACE, 10 * load.cost))
            load.flight.has_returned(time.monotonic() + grace)
        if load.lease is not None:
            self._store.returned(load.lease)
