"""Processes that do one thing at a time as they are told: each has an app of its own on one database and one Redis.

What a race finds by chance, these do on purpose: two transactions that overlap, a writer that dies between its COMMIT
and the stamp, one that is held in its COMMIT.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Self

from flask import g
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .racing import Item, Site, prepare, site

__all__ = ["Actor", "prepare"]

#: Seconds in which a process has to answer.
_PATIENCE = 60.0


class _Acting:
    """What one process can do."""

    def __init__(self, url: str, redis: str, options: dict[str, Any]) -> None:
        self._end = ""
        self._site: Site = site(url, redis, before_watching=self._hold, **options)
        self._session: Session | None = None

    def _hold(self, engine: Any) -> None:
        """Have the driver's own COMMIT do what was asked for, between what is around it."""
        commit = engine.dialect.do_commit

        def do_commit(pooled: Any) -> None:
            end, self._end = self._end, ""
            if end == "stop before":
                os.kill(os.getpid(), signal.SIGSTOP)
            commit(pooled)
            if end == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if end == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)

        engine.dialect.do_commit = do_commit

    def at_commit(self, end: str) -> None:
        """What becomes of this process at its next COMMIT: ``die`` or ``stop`` after it, or ``stop before`` it."""
        self._end = end

    def begin(self, level: str = "READ COMMITTED") -> None:
        """A transaction begins."""
        self._session = Session(self._site.engine)
        self._session.connection(execution_options={"isolation_level": level})

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement in the transaction."""
        assert self._session is not None
        result: Any = self._session.execute(text(sql))
        return [tuple(row) for row in result] if result.returns_rows else []

    def commit(self) -> str:
        """Commit; what came of it."""
        return self._finish("commit")

    def rollback(self) -> str:
        """Roll back."""
        return self._finish("rollback")

    def _finish(self, how: str) -> str:
        assert self._session is not None
        try:
            getattr(self._session, how)()
        except DBAPIError as error:
            return getattr(error.orig, "sqlstate", None) or type(error.orig).__name__
        finally:
            self._session.close()
        return ""

    def read(self, id: int) -> tuple[list[int], bool]:
        """What a page shows of a row in a request of its own, and whether it was a hit."""
        before = self._site.calls[0]
        with self._request():
            return self._site.row(id), self._site.calls[0] == before

    def read_all(self) -> tuple[list[list[int]], bool]:
        """What a page shows of all rows, and whether it was a hit."""
        before = self._site.calls[0]
        with self._request():
            return self._site.table(), self._site.calls[0] == before

    def show_and(self, end: str) -> list[int]:
        """A request whose page shows a change that was not even flushed, which is committed or rolled back then."""
        with self._request() as session:
            session.autoflush = False
            session.get_one(Item, 1).m = 7
            shown = self._site.row(1)
            getattr(session, end)()
            return shown

    @contextmanager
    def _request(self) -> Iterator[Session]:
        """A request with a session."""
        with self._site.app.test_request_context("/"), Session(self._site.engine) as session:
            g.session = session
            yield session


def _act(url: str, redis: str, options: dict[str, Any], pipe: Connection) -> None:
    acting = _Acting(url, redis, options)
    pipe.send(("ready", os.getpid()))
    while True:
        try:
            name, args = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("done", getattr(acting, name)(*args)))
        except Exception as error:  # noqa: BLE001  # it is the test's
            pipe.send(("failed", f"{type(error).__name__}: {error}"))


class Actor:
    """One process, from outside.

    Args:
        url: of the database.
        redis: of the Redis.
        options: of the app's configuration.
    """

    def __init__(self, url: str, redis: str, **options: Any) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([_Acting.__module__])
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_act, args=(url, redis, options, there), daemon=True)
        self._process.start()
        there.close()
        self.pid = self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self, name: str, *args: Any) -> None:
        """Have it do something; :meth:`result` waits for it."""
        self._pipe.send((name, args))

    def result(self) -> Any:
        """What came of what was started."""
        return self._answer()

    def __call__(self, name: str, *args: Any) -> Any:
        """Have it do something, and wait."""
        self.start(name, *args)
        return self._answer()

    @property
    def is_busy(self) -> bool:
        """Whether it still does what was started."""
        return not self._pipe.poll()

    def _answer(self) -> Any:
        if not self._pipe.poll(_PATIENCE):
            raise TimeoutError("a process does not answer")
        kind, value = self._pipe.recv()
        assert kind != "failed", value
        return value

    def await_death(self) -> None:
        """Wait until it has killed itself."""
        self._process.join(_PATIENCE)
        assert self._process.exitcode == -signal.SIGKILL

    def await_stop(self) -> None:
        """Wait until it has stopped itself."""
        until = time.monotonic() + _PATIENCE
        while True:
            with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:
                if file.read().rpartition(")")[2].split()[0] == "T":
                    return
            assert time.monotonic() < until, "it has not stopped"
            time.sleep(0.01)

    def stop(self) -> None:
        """Have it stand still."""
        os.kill(self.pid, signal.SIGSTOP)
        self.await_stop()

    def go_on(self) -> None:
        """Let it run again."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
