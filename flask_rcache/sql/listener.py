"""The listener: what other programs write to PostgreSQL is stamped when its triggers announce it.

Owns one thread of one process of all. Which one, PostgreSQL says: whoever holds an advisory lock on the connection that
listens, so that a lost connection gives both up at once. What was announced while nobody listened is not known: after
each (re)connection everything that was read of the database is stamped, once it listens.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ..errors import ConfigError
from ..model import chance, forks
from .databases import Database
from .drivers import unwatch_connection
from .statements import Kind, Statement
from .triggers import CHANNEL, announced

__all__ = ["Listener"]

logger: Final = logging.getLogger("flask_rcache")

#: Seconds from one attempt to become the one that listens to the next, and after a failure.
_RETRY: Final = 5.0
#: Seconds without an announcement after which the server is asked whether it is there, and in which it must answer.
_PING_EVERY: Final = 5.0
#: Seconds after which it looks whether it is still wanted.
_LOOK_EVERY: Final = 1.0
_ANSWER_MS: Final = 5000


class Listener:
    """Stamps what is announced of one database.

    Args:
        database: the watched database.
        wrote: called with what was written.
        scope: names the cache: those that share it have one listener.
    """

    def __init__(self, database: Database, wrote: Callable[[Statement], None], *, scope: str = "") -> None:
        driver = database.engine.dialect.driver
        if driver != "psycopg":
            raise ConfigError(
                f"listening needs PostgreSQL with psycopg 3, postgresql+psycopg://…, not {driver}: invalidate by "
                "events or by the admin API instead"
            )
        self._database: Final = database
        self._wrote: Final = wrote
        digest = hashlib.sha256(f"flask_rcache/{scope}/{database.name}".encode()).digest()
        self._lock_key: Final = int.from_bytes(digest[:8], "big", signed=True)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock: Final = forks.new_lock()
        #: Whether this process is the one that listens.
        self.is_listening = False
        forks.register(self)

    def reset_after_fork(self) -> None:
        """The thread is the parent's, and so is whoever may hold the event's lock."""
        is_closed = self._stop.is_set()
        self._thread, self.is_listening, self._stop = None, False, threading.Event()
        if is_closed:
            self._stop.set()

    def ensure(self) -> None:
        """Have the thread running in this process, unless it was closed."""
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._stop.is_set():
                    arguments = (weakref.ref(self), self._stop)
                    thread = threading.Thread(target=_run, args=arguments, name="flask_rcache-sql", daemon=True)
                    with suppress(RuntimeError):  # no thread to be had: the next context tries
                        thread.start()
                        self._thread = thread

    def close(self) -> None:
        """End the thread, for good, and wait for it."""
        with self._lock:
            self._stop.set()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(2 * _PING_EVERY)
        self.is_listening = False

    # --- On the thread

    def _connect(self) -> Any:
        """A connection that listens; ``None`` when another process does."""
        pooled = self._database.engine.raw_connection()
        pooled.detach()
        connection: Any = pooled.dbapi_connection
        unwatch_connection(connection)  # what runs on it is its own, and it holds nothing of its owner
        try:
            connection.rollback()
            connection.autocommit = True
            _answer_in_time(connection)
            held = connection.execute("SELECT pg_try_advisory_lock(%s)", [self._lock_key]).fetchone()[0]
            if not held:
                connection.close()
                return None
            connection.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _everything(self) -> None:
        self._wrote(Statement(self._database.name, Kind.WRITE, writes_all=True))

    def _heard(self, payload: str) -> None:
        table = announced(self._database.name, payload)
        if table is None:
            self._everything()
            return
        self._wrote(Statement(self._database.name, Kind.WRITE, writes=frozenset([table])))


def _answer_in_time(connection: Any) -> None:
    """Have the system give a connection up whose other end does not acknowledge what was sent (a ping)."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is None:  # not on every system: there keepalives of the connection's own settings count
        return
    with suppress(OSError), socket.socket(fileno=connection.pgconn.socket) as copy:
        try:
            if copy.family != getattr(socket, "AF_UNIX", None):
                copy.setsockopt(socket.IPPROTO_TCP, option, _ANSWER_MS)
        finally:
            copy.detach()  # the connection's own


def _run(ref: weakref.ReferenceType[Listener], stop: threading.Event) -> None:
    """The thread's life; between rounds it holds nothing of its owner."""
    connection: Any = None
    failed = False
    while not stop.is_set():
        listener = ref()
        if listener is None:
            break
        try:
            if connection is None:
                connection = listener._connect()
                if connection is not None:
                    listener._everything()
                    listener.is_listening, failed = True, False
                    logger.info("[CACHE] this process listens to writes of other programs to %r", listener._database)
            if connection is not None:
                del listener  # while it waits
                _hear(ref, connection, stop)
                continue
        except Exception as error:  # noqa: BLE001  # whatever it is, others' writes are missed
            listener = ref()
            if listener is not None:
                listener.is_listening = False
            logger.log(logging.DEBUG if failed else logging.WARNING, "[CACHE] not listening to other writes: %s", error)
            failed = True
            if connection is not None:
                connection.close()
                connection = None
        del listener
        stop.wait(_RETRY * (0.8 + 0.4 * chance.draw()))
    if connection is not None:
        connection.close()


def _hear(ref: weakref.ReferenceType[Listener], connection: Any, stop: threading.Event) -> None:
    """Stamp what is announced, for as long as it takes until a ping is due, and have that answered."""
    until = time.monotonic() + _PING_EVERY
    while time.monotonic() < until:
        for notification in connection.notifies(timeout=_LOOK_EVERY):
            listener = ref()
            if listener is None:
                return
            listener._heard(notification.payload)
            del listener
        if stop.is_set() or ref() is None:
            return
    connection.execute("SELECT 1")
