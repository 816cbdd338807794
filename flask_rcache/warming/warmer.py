"""What runs an app's warming tasks: a thread looks what is due, claims it, and runs it in a thread of its own.

Owns the claim by which one worker of all runs a task, its renewal, and in which processes tasks run at all.
"""

from __future__ import annotations

import contextvars
import importlib
import logging
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from weakref import ref

from flask import Flask

from ..config.settings import nearest
from ..context import manager_of
from ..engine.policies import Policy
from ..engine.statistics import Counters
from ..errors import ConfigError, StoreError
from ..model import chance, forks
from ..model.entry import MICROSECONDS, Draft
from ..model.moment import Epoch
from ..stores.protocol import Outcome
from .state import STATE, Task, TaskState

__all__ = ["Warmer"]

logger: Final = logging.getLogger("flask_rcache")

#: Tasks that run at a time in one process; one that takes longer than this many seconds is not counted any more.
_PLACES: Final = 4
_OVERDUE: Final = 30.0
#: Seconds between two looks at what is due, at most; and before the first one.
_LONGEST_PAUSE: Final = 15.0
_FIRST_PAUSE: Final = 1.0
_TICK: Final = 0.5


class _Running:
    """A run of a task in this process."""

    __slots__ = ("began", "renewed", "task", "token")

    def __init__(self, task: Task, token: str) -> None:
        self.task: Final = task
        self.token: Final = token
        self.began: Final = time.monotonic()
        self.renewed = self.began

    def renew(self, state: TaskState, now: int) -> None:
        """It goes on."""
        state.renew(self.task, now)


class Warmer:
    """Runs the tasks of one app: a thread looks what is due, claims it, and runs it in a thread of its own.

    Args:
        app: the app.
        tasks: by name; more may come.
    """

    def __init__(self, app: Flask, tasks: Mapping[str, Task]) -> None:
        manager = manager_of(app)
        self._app: Final = ref(app)
        self._tasks: Final = tasks
        self._manager: Final = manager
        self._release: Final = str(getattr(manager.settings, "release", None) or "")
        ttl = STATE.ttl
        assert isinstance(ttl, float)
        self._policy: Final = Policy(STATE, ttl, manager.engine.names, Counters(), l1_ttl=0.0, adaptive=False)
        self._lock: Final = forks.new_lock()
        #: Whether this process has answered a request: then it is a worker, whatever it forks.
        self.serves = False
        self._wanted = False
        self._thread: threading.Thread | None = None
        self._children = forks.children()
        self._wake: threading.Event = threading.Event()
        self._running: dict[str, _Running] = {}
        forks.register(self)

    def reset_after_fork(self) -> Callable[[], None] | None:
        """None of the parent's threads are here. A child of a process that serves requests is no worker."""
        self._thread = None
        self._wake = threading.Event()
        self._running = {}
        self._children = forks.children()
        wanted, self._wanted = self._wanted and not self.serves, False
        self.serves = False
        return self.begin if wanted and not _is_to_be_patched() else None

    # The thread

    def begin(self) -> None:
        """Look for what is due from now on, in the background; where this process may be a worker."""
        settings = self._manager.settings
        app = self._app()
        if not settings.warming or not settings.enabled or app is None or app.testing:
            return
        if not self.serves and _is_no_worker(app):
            return
        with self._lock:
            self._wanted = True
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="flask_rcache-warming", daemon=True)
                try:
                    # Its own context: it belongs to no request.
                    contextvars.Context().run(self._thread.start)
                except RuntimeError as error:
                    logger.warning("[CACHE] no thread for warming tasks: %s", error)

    def serve(self) -> None:
        """This process has a request to answer."""
        if not self.serves:
            self.serves = True
            if self._tasks:
                self.begin()

    def close(self) -> None:
        """Claim nothing more; what runs ends by itself."""
        self._wanted = False
        self._wake.set()

    def _watch(self) -> None:
        wake, pause = self._wake, _FIRST_PAUSE * (1 + chance.draw())
        while self._paused(wake, pause):
            try:
                pause = self._round()
            except StoreError as error:
                logger.debug("[CACHE] warming waits for the store: %s", error)
                pause = _LONGEST_PAUSE
            except Exception:
                logger.exception("[CACHE ERROR] warming tasks could not be looked at")
                pause = _LONGEST_PAUSE

    def _paused(self, wake: threading.Event, seconds: float) -> bool:
        """Wait, unless the cache was emptied meanwhile; whether to go on."""
        ends = time.monotonic() + seconds
        epoch = self._epoch()
        while (left := ends - time.monotonic()) > 0:
            wake.wait(min(left, _TICK))
            if not self._wanted or self._app() is None:
                return False
            if not self.serves and forks.children() != self._children:  # a server's master: its children are workers
                return False
            if wake.is_set():
                wake.clear()
                return True
            self._renew()
            if self._epoch() not in (epoch, None):
                return True
        return True

    def _epoch(self) -> Epoch | None:
        moment = self._manager.engine.store.moment
        return None if moment is None else moment.epochs

    def _round(self) -> float:
        """Start what is due; the seconds until the next look."""
        states, now = self._states()
        due: list[tuple[float, Task, TaskState, bytes]] = []
        pause = _LONGEST_PAUSE
        for task, state, identity in states:
            if task.name in self._running:
                continue
            at = max(state.due_at(task, self._release), state.until if state.is_claimed(now) else 0)
            if at > now:
                pause = min(pause, (at - now) / MICROSECONDS)
            else:
                due.append((state.duration, task, state, identity))
        due.sort(key=lambda each: -each[0])  # the most costly first
        for _, task, state, identity in due:
            if self._places() <= 0:
                return _TICK
            token = self._claim(task, state, identity, now)
            if token:
                self._start(task, token)
        # Not all processes at the same time.
        return max(_TICK, pause) * (1 + 0.2 * chance.draw())

    def _places(self) -> int:
        overdue = time.monotonic() - _OVERDUE
        return _PLACES - sum(each.began > overdue for each in list(self._running.values()))

    # The state in the store

    def _key(self, task: Task) -> str:
        return self._manager.engine.names.stored(STATE.name, task.name, hashed=False)

    def _states(self, names: Iterable[str] | None = None) -> tuple[list[tuple[Task, TaskState, bytes]], int]:
        """The tasks, what is known of each and which fill says so; and the store's time."""
        tasks = [self._tasks[name] for name in (list(self._tasks) if names is None else names)]
        if not tasks:
            return [], 0
        lookups = self._manager.engine.store.read_many([self._key(task) for task in tasks], self._policy.tags)
        found = [
            (task, TaskState.of(None if lookup.entry is None else lookup.entry.content), lookup.identity)
            for task, lookup in zip(tasks, lookups, strict=True)
        ]
        return found, max(lookup.now for lookup in lookups)

    def _store(self, task: Task, state: TaskState, identity: bytes) -> bool:
        """Replace the state that was read, and no other."""
        draft = Draft(state.content, self._policy.lifetime(0.0, 0.0), tags=self._policy.tags)
        written = self._manager.engine.store.write([(self._key(task), draft)], None, [identity])
        return written[0].outcome is Outcome.STORED

    def _claim(self, task: Task, state: TaskState, identity: bytes, now: int) -> str:
        """Take the task over; the token of the run, empty when another was faster."""
        if state.is_claimed(now):
            return ""
        state.claim(task, self._release, now, secrets.token_hex(8))
        return state.token if self._store(task, state, identity) else ""

    def _renew(self) -> None:
        """Keep the claims of what runs here."""
        now = time.monotonic()
        for running in list(self._running.values()):
            if now - running.renewed >= running.task.claim / 3:
                running.renewed = now
                try:
                    self._update(running, running.renew)
                except StoreError:
                    logger.debug("[CACHE] the claim of warming task %r could not be renewed", running.task.name)

    def _update(self, running: _Running, change: Callable[[TaskState, int], None]) -> None:
        """Change the state of a run, as long as the run has the claim."""
        for _ in range(3):
            ((task, state, identity),), now = self._states([running.task.name])
            if state.token not in ("", running.token):
                return  # another process has taken over
            if not state.token:  # the cache was emptied
                state.claim(task, self._release, now, running.token)
            change(state, now)
            if self._store(task, state, identity):
                return

    # A run

    def _start(self, task: Task, token: str) -> _Running:
        running = self._running[task.name] = _Running(task, token)
        name = f"flask_rcache-warm-{task.name}"
        thread = threading.Thread(target=self._execute, args=(running,), name=name, daemon=True)
        try:
            contextvars.Context().run(thread.start)
        except RuntimeError as error:
            self._running.pop(task.name, None)
            logger.warning("[CACHE] no thread for warming task %r: %s", task.name, error)
        return running

    def _execute(self, running: _Running) -> BaseException | None:
        task, error = running.task, None
        began = time.monotonic()
        app = self._app()
        try:
            if app is not None:
                with app.app_context():
                    task.run()
        except BaseException as raised:  # noqa: BLE001  # somebody's task: no request is affected
            error = raised
            level = logging.WARNING if task.critical else logging.DEBUG
            logger.log(level, "[CACHE] warming task %r failed: %s: %s", task.name, type(raised).__name__, raised)
        duration = time.monotonic() - began

        def ended(state: TaskState, now: int) -> None:
            state.token, state.until, state.duration = "", 0, duration
            state.execution_count += 1
            state.error = "" if error is None else f"{type(error).__name__}: {error}"[:500]
            if error is None:
                state.success_count += 1
                state.succeeded = now
            else:
                state.failure_count += 1

        try:
            self._update(running, ended)
        except StoreError as away:
            logger.debug("[CACHE] the figures of warming task %r are lost: %s", task.name, away)
        finally:
            self._running.pop(task.name, None)
            self._wake.set()
        return error

    # What operators ask

    def report(self) -> list[dict[str, Any]]:
        """Every task with its settings and its figures of all processes.

        Raises:
            StoreError: the store is away.
        """
        states, now = self._states()
        return [
            {"name": task.name, "critical": task.critical, "every": task.every, **state.figures(now)}
            for task, state, _ in states
        ]

    def check(self, names: Iterable[str]) -> list[str]:
        """The names, all of them when there are none.

        Raises:
            ConfigError: one of them is no task's; the message lists the known ones.
        """
        asked = list(dict.fromkeys(names))
        unknown = [name for name in asked if name not in self._tasks]
        if unknown:
            raise ConfigError(f"there is no warming task {unknown[0]!r}{nearest(unknown[0], self._tasks)}")
        return asked or list(self._tasks)

    def start(self, names: Iterable[str] = ()) -> tuple[list[str], list[str]]:
        """Run tasks now, in the background; the names of those that were started, and of those that run already.

        Raises:
            ConfigError: see :meth:`check`.
            StoreError: the store is away.
        """
        states, now = self._states(self.check(names))
        started: list[str] = []
        busy: list[str] = []
        for task, state, identity in states:
            token = "" if task.name in self._running else self._claim(task, state, identity, now)
            if token:
                self._start(task, token)
            (started if token else busy).append(task.name)
        if started:
            self._keep_claims()
        return started, busy

    def _keep_claims(self) -> None:
        """Where no thread looks for what is due, one renews the claims until the runs have ended."""
        if self._thread is None or not self._thread.is_alive():

            def renew() -> None:
                while self._running:
                    time.sleep(_TICK)
                    self._renew()

            threading.Thread(target=renew, name="flask_rcache-warming", daemon=True).start()

    def run(self, names: Iterable[str] = ()) -> Iterator[tuple[str, BaseException | None, bool]]:
        """Run tasks now, one after another: the name, what it raised, and whether another process runs it already.

        Raises:
            ConfigError: see :meth:`check`.
            StoreError: the store is away.
        """
        for name in self.check(names):
            ((task, state, identity),), now = self._states([name])
            token = self._claim(task, state, identity, now)
            if not token:
                yield name, None, True
                continue
            running = self._running[name] = _Running(task, token)
            self._keep_claims()
            yield name, self._execute(running), False


def _is_to_be_patched() -> bool:
    """Whether gevent replaces this process's threads soon: a thread of before would be none of its own.

    So it is in gunicorn's gevent workers with ``--preload``; there tasks begin with the first request.
    """
    gevent = sys.modules.get("gevent")
    return gevent is not None and not importlib.import_module("gevent.monkey").is_module_patched("threading")


def _is_no_worker(app: Flask) -> bool:
    """Whether this process loads the app for something else than serving it: a command, or to reload it."""
    import click
    from flask.cli import FlaskGroup
    from werkzeug.serving import is_running_from_reloader

    context = click.get_current_context(silent=True)
    if context is None or not isinstance(context.find_root().command, FlaskGroup):
        return False
    return context.info_name != "run" or (app.debug and not is_running_from_reloader())
