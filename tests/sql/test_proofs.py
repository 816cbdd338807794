"""What a race finds by chance, on purpose and in processes: nothing that begins after a commit is older.

`PROOF_REPEATS` in the environment sets how often Redis is restarted around a commit, at each point (1).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from .actors import Actor, prepare
from .servers import Postgres

pytestmark = [pytest.mark.race, pytest.mark.timeout(300)]

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
#: Seconds until a stamp ahead has passed, on a busy machine too.
_PATIENCE = 60.0
_REPEATS = int(os.environ.get("PROOF_REPEATS", "1"))
_SLOW = (
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(NEW.m); RETURN NEW; END'",
    """CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON item DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.m > 0) EXECUTE FUNCTION wait()""",
)


class Stage:
    """Two processes that read, and as many that write as a test asks for, on one database and one Redis."""

    def __init__(self, postgres: Postgres, redis: Any) -> None:
        self.postgres = postgres
        self.redis = redis
        prepare(postgres.url)
        self._actors: list[Actor] = []
        self.readers = [self.actor(), self.actor()]

    def actor(self, url: str = "") -> Actor:
        """One more process."""
        self._actors.append(Actor(url or self.postgres.url, self.redis.url))
        return self._actors[-1]

    def truth(self) -> list[list[int]]:
        """What the database has."""
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            return [list(row) for row in connection.execute("SELECT n, m FROM item ORDER BY id")]

    def warm(self) -> None:
        """Have every page in the cache, and in each process's mind."""
        for reader in (*self.readers, *self.readers):
            reader("read_all")
            for id in range(len(self.truth())):
                reader("read", id)

    def check(self) -> bool:
        """Every page in every process shows what the database has; whether all were hits."""
        true, hits = self.truth(), True
        for reader in self.readers:
            shown, hit = reader("read_all")
            assert shown == true
            hits &= hit
            for id, row in enumerate(true):
                shown, hit = reader("read", id)
                assert shown == row
                hits &= hit
        return hits

    def settles(self) -> None:
        """Every page stays right until all are hits again."""
        until = time.monotonic() + _PATIENCE
        while not self.check():
            assert time.monotonic() < until, "pages are never stored again"
            time.sleep(0.1)

    def comes_right(self) -> None:
        """What was only journalled arrives."""
        until = time.monotonic() + _PATIENCE
        while [self.readers[0]("read", id)[0] for id in range(len(self.truth()))] != self.truth():
            assert time.monotonic() < until, "pages stay old"
            time.sleep(0.1)

    def run(self, *statements: str) -> None:
        """Run DDL."""
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def close(self) -> None:
        for actor in self._actors:
            actor.close()


@pytest.fixture
def stage(postgres: Postgres, private_server: Callable[..., Any]) -> Iterator[Stage]:
    made = Stage(postgres, private_server())
    yield made
    made.close()


def test_writer__killed_between_its_commit_and_its_stamp(stage: Stage) -> None:
    """Whoever reads afterwards is given what it has committed: the stamp ahead lies before anything older."""
    for number, level in enumerate(LEVELS):
        stage.warm()
        writer = stage.actor()
        writer("at_commit", "die")
        writer("begin", level)
        writer("execute", f"UPDATE item SET n = {10 + number} WHERE id = 1")
        writer.start("commit")
        writer.await_death()
        assert stage.truth()[1] == [10 + number, 0]
        assert not stage.check()
    stage.settles()


def test_writer__frozen_around_its_commit(stage: Stage) -> None:
    """A process that stands still, longer than the stamp lies ahead, after its COMMIT or before it."""
    for end in ("stop", "stop before"):
        stage.warm()
        writer = stage.actor()
        writer("at_commit", end)
        writer("begin")
        writer("execute", "UPDATE item SET n = n + 1 WHERE id = 1")
        writer.start("commit")
        writer.await_stop()
        until = time.monotonic() + 6
        while time.monotonic() < until:
            stage.check()
        writer.go_on()
        assert writer.result() == ""
        stage.check()
    stage.settles()


def test_writers__that_overlap(stage: Stage) -> None:
    """Two transactions, each of which reads what the other writes, end in either order, at each level."""
    one, other = stage.actor(), stage.actor()
    conflicts = 0
    for level in LEVELS:
        for first, second in ((one, other), (other, one)):
            stage.warm()
            for actor in (one, other):
                actor("begin", level)
            one("execute", "SELECT n FROM item WHERE id = 2")
            other("execute", "SELECT n FROM item WHERE id = 1")
            one("execute", "UPDATE item SET n = n + 1 WHERE id = 1")
            other("execute", "UPDATE item SET n = n + 1 WHERE id = 2")
            stage.check()
            assert first("commit") == ""
            stage.check()
            conflicts += second("commit") == "40001"
            stage.check()
    assert conflicts == 2, "SERIALIZABLE lets one of each two fail"


def test_writer__held_in_its_commit_while_another_commits(stage: Stage) -> None:
    """The end of one commit takes no stamp of the other away: what is loaded in between is not kept."""
    one, other = stage.actor(), stage.actor()
    for level in LEVELS:
        stage.warm()
        one("at_commit", "stop before")
        one("begin", level)
        one("execute", "UPDATE item SET n = n + 1 WHERE id = 1")
        one.start("commit")
        one.await_stop()
        other("begin", level)
        other("execute", "UPDATE item SET n = n + 1 WHERE id = 2")
        assert other("commit") == ""
        stage.check()
        stage.check()
        one.go_on()
        assert one.result() == ""
        stage.check()


def test_commit__that_takes_longer_than_its_stamp_lies_ahead(stage: Stage) -> None:
    """A COMMIT of seven seconds: its stamp is renewed, so that nothing that was read meanwhile is kept."""
    stage.run(*_SLOW)
    stage.warm()
    writer = stage.actor()
    writer("begin")
    writer("execute", "UPDATE item SET n = n + 1, m = 7 WHERE id = 1")
    assert stage.readers[0]("read", 1)[1], "it has not committed yet"
    writer.start("commit")
    while stage.readers[0]("read", 1)[1]:
        assert writer.is_busy
    while writer.is_busy:
        shown, hit = stage.readers[1]("read", 1)
        assert not hit or shown == [2, 7], f"{shown} was kept"
    assert writer.result() == ""
    stage.settles()


def test_unflushed_change__that_a_page_has_shown(stage: Stage) -> None:
    """A page of the request that has changed it shows it; nobody else's does until it is committed."""
    writer = stage.actor()
    stage.warm()
    assert writer("show_and", "rollback") == [1, 7]
    assert stage.check()
    assert writer("show_and", "commit") == [1, 7]
    stage.check()
    assert stage.truth()[1] == [1, 7]


def test_commit__whose_connection_is_ended_meanwhile(stage: Stage) -> None:
    """The server ends the connection in the COMMIT: nobody knows what became of it, and every page is right."""
    stage.run(*_SLOW)
    stage.warm()
    writer = stage.actor()
    writer("begin")
    writer("execute", "UPDATE item SET n = n + 1, m = 30 WHERE id = 1")
    writer.start("commit")
    asleep = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COMMIT%' AND state = 'active'"
    with psycopg.connect(stage.postgres.dsn(), autocommit=True) as connection:
        while not connection.execute(asleep).fetchall():
            time.sleep(0.05)
    assert writer.result() != ""
    assert stage.truth()[1] == [1, 0]
    stage.settles()


class _Proxy:
    """Between a client and PostgreSQL: carries a COMMIT over, and cuts the line before its answer."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cuts = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server))
            threading.Thread(target=self._carry, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, False), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        try:
            while data := source.recv(65536):
                if is_client and self.cuts and b"COMMIT" in data:
                    source.shutdown(socket.SHUT_RDWR)  # its answer goes nowhere, however quick it is
                target.sendall(data)
        except OSError:
            pass
        finally:
            for each in (source, target):
                each.close()

    def close(self) -> None:
        self._listener.close()


def test_commit__whose_answer_is_lost(stage: Stage) -> None:
    """It was carried out, and the client is told of a lost connection: that counts as a commit."""
    proxy = _Proxy(stage.postgres.port)
    stage.warm()
    writer = stage.actor(stage.postgres.url.replace(f":{stage.postgres.port}/", f":{proxy.port}/"))
    writer("begin")
    writer("execute", "UPDATE item SET n = 50 WHERE id = 1")
    proxy.cuts = True
    assert writer("commit") != ""
    until = time.monotonic() + _PATIENCE
    while stage.truth()[1] != [50, 0]:  # the server may still be at it
        assert time.monotonic() < until
    stage.check()
    proxy.close()


_POINTS = ("before the stamp ahead", "stop before", "in the commit", "stop", "after")


def test_redis__restarts_around_a_commit(stage: Stage) -> None:
    """Nothing older is shown once the commit has returned, wherever in it Redis loses all it had.

    The other processes are at work with the Redis that is new before the one that commits has noticed it: they have
    stored anew what is old then, while that process stands still (but where it is the database that takes its time).
    """
    stage.run(*_SLOW)
    writer = stage.actor()
    for point in _POINTS * _REPEATS:
        stage.warm()
        writer("begin")
        writer("execute", f"UPDATE item SET n = n + 1, m = {int(point == 'in the commit')} WHERE id = 1")
        if point.startswith("stop"):
            writer("at_commit", point)
        if point == "before the stamp ahead":
            writer.stop()
        else:
            writer.start("commit")
        if point.startswith("stop"):
            writer.await_stop()
        if point == "after":
            assert writer.result() == ""
        stage.redis.restart()
        if point != "after":
            stage.warm()
        if point == "before the stamp ahead":
            writer.start("commit")
        if point.startswith(("stop", "before")):
            writer.go_on()
        if point != "after":
            assert writer.result() == ""
        stage.check()
    stage.settles()


def test_redis__hangs_while_a_write_is_stamped(stage: Stage) -> None:
    """The commit goes through, and whoever reads meanwhile or once Redis is back is given nothing older."""
    writer = stage.actor()
    for _ in range(2):
        stage.warm()
        writer("begin")
        writer("execute", "UPDATE item SET n = n + 1 WHERE id = 1")
        stage.redis.pause()
        assert writer("commit") == ""
        stage.check()
        stage.redis.resume()
        stage.comes_right()
        stage.check()
    stage.settles()
