"""Rules R1.2, R1.6 and R4.2 between the commands of one read, or of one walk: a server does others' in between."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import pytest

from flask_rcache.model.keys import CLOCK, EPOCH, FLOOR, FORGOTTEN, user_tag
from flask_rcache.stores.protocol import Outcome
from tests.servers import Server
from tests.stores.kit import Kit, redis_store


class Stepping:
    """Forwards to a server command by command, and lets others have their turn before each.

    Attributes:
        before: called with each command that is about to be sent.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.before: Callable[[list[bytes]], None] = lambda command: None
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError), self._listener:
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        asked: Any = hiredis.Reader(notEnoughData=Ellipsis)
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._port)) as server:
            while data := client.recv(65536):
                asked.feed(data)
                answers = b""
                while (command := asked.gets()) is not Ellipsis:
                    if command[0] == b"SUBSCRIBE":  # nothing here needs the bus
                        return
                    self.before(command)
                    server.sendall(hiredis.pack_command(tuple(command)))
                    answers += _reply(server)
                client.sendall(answers)


def _reply(server: socket.socket) -> bytes:
    """The bytes of one reply."""
    reader: Any = hiredis.Reader(notEnoughData=Ellipsis)
    found = b""
    while reader.gets() is Ellipsis:
        data = server.recv(65536)
        if not data:
            raise ConnectionError("the server has hung up")
        reader.feed(data)
        found += data
    return found


@pytest.fixture
def stepping(redis_server: Server) -> Iterator[Stepping]:
    made = Stepping(redis_server.port)
    yield made
    made.close()


@pytest.fixture
def kits(redis_server: Server, stepping: Stepping) -> Iterator[tuple[Kit, Kit]]:
    """A store that is stepped through, and one that has its turn in between."""
    made = [Kit(redis_store(url), client=redis_server.client()) for url in (stepping.url, redis_server.url)]
    yield made[0], made[1]
    for each in made:
        each.store.close()


def drop_row(kit: Kit, tag: str) -> None:
    """Drop a row as housekeeping does (R1.4)."""
    client, name = kit.server(), kit.names.stamps
    stamp: Any = client.zscore(name, tag)
    pipeline = client.pipeline(transaction=True)
    pipeline.zrem(name, tag, "~" + tag)
    pipeline.zadd(name, {FORGOTTEN: stamp}, gt=True)
    pipeline.execute()


def lose_set(kit: Kit) -> None:
    """Lose the set, and have another made of now."""
    client, name = kit.server(), kit.names.stamps
    clock: Any = client.zscore(name, CLOCK)
    pipeline = client.pipeline(transaction=True)
    pipeline.delete(name)
    pipeline.zadd(
        name, {EPOCH: -(2**52 + 9), CLOCK: clock + 5, FLOOR: clock + 5, FORGOTTEN: clock + 5, "=run": -(2**52)}
    )
    pipeline.execute()


IN_BETWEEN: dict[str, Callable[[Kit, str], object]] = {
    "row dropped": drop_row,
    "everything": lambda kit, tag: kit.store.invalidate((), everything=True),
    "lost set": lambda kit, tag: lose_set(kit),
}


def at_command(stepping: Stepping, number: int, act: Callable[[], object]) -> list[bytes]:
    """Have something done before the command of that number of a read; the commands' names, as they come."""
    seen: list[bytes] = []

    def before(command: list[bytes]) -> None:
        if seen or command[0] == b"GETEX":  # not those of the maintenance thread, which come before or after
            if command[0] not in (b"GETEX", b"ZMSCORE", b"ZRANGE", b"TIME"):
                return
            if len(seen) == number:
                act()
            seen.append(command[0])

    stepping.before = before
    return seen


@pytest.mark.parametrize("happens", IN_BETWEEN)
@pytest.mark.parametrize("number", range(4))
def test_many_tags__whatever_happens_between_the_questions(
    kits: tuple[Kit, Kit], stepping: Stepping, number: int, happens: str
) -> None:
    """An invalidation that returned before the read is seen, wherever its row goes during the read (R1.6)."""
    kit, other = kits
    tags = [f"row:{each}" for each in range(40)]
    other.load(other.key(), tags=tags)
    assert [kit.value(kit.key()) for _ in range(3)] == [b"v"] * 3
    other.store.invalidate([user_tag(tags[7])])
    seen = at_command(stepping, number, lambda: IN_BETWEEN[happens](other, user_tag(tags[7])))
    assert kit.value(kit.key()) is None
    assert sorted(seen[:4]) == [b"GETEX", b"TIME", b"ZMSCORE", b"ZRANGE"], seen


@pytest.mark.parametrize("happens", IN_BETWEEN)
@pytest.mark.parametrize("many", [False, True])
def test_unknown_tags__the_second_question_asks_everything(
    kits: tuple[Kit, Kit], stepping: Stepping, happens: str, many: bool
) -> None:
    """Between the two round trips of a first read the row may go: epoch, floor and `=forgotten` are asked again."""
    kit, other = kits
    other.load(other.key(), tags=["eu"])
    other.store.invalidate([user_tag("eu")])
    seen = at_command(stepping, 3, lambda: IN_BETWEEN[happens](other, user_tag("eu")))
    if many:
        stepping.before, before = lambda command: None, stepping.before
        kit.read(kit.key("absent"))
        stepping.before = lambda command: before([b"GETEX"] if command[0] == b"MGET" else command)
        found = kit.store.read_many([kit.key()], kit.tags(kit.key()))[0].entry
    else:
        found = kit.read(kit.key()).entry
    assert found is None
    assert seen == [b"GETEX", b"ZMSCORE", b"TIME", b"ZMSCORE"]


def test_many_tags__an_unrelated_row_is_dropped(kits: tuple[Kit, Kit]) -> None:
    """Then the later rows do not prove anything any more: all tags are checked, and the entry is valid (R1.5, R1.6)."""
    kit, other = kits
    other.load(other.key(), tags=[f"row:{each}" for each in range(40)])
    assert [kit.value(kit.key()) for _ in range(3)] == [b"v"] * 3
    other.store.invalidate([user_tag("unrelated")])
    drop_row(other, user_tag("unrelated"))
    assert [kit.value(kit.key()) for _ in range(3)] == [b"v"] * 3


@pytest.mark.parametrize("before", [b"INFO", b"ZSCAN", b"PUBLISH"])
def test_pattern__a_fill_between_its_commands(kits: tuple[Kit, Kit], stepping: Stepping, before: bytes) -> None:
    """What was loading when a pattern was invalidated is refused from its first command on; no walk has to find it."""
    kit, other = kits
    kit.load(kit.key("b"))
    started = other.start(other.key())
    outcomes: list[Outcome] = []

    def fill(command: list[bytes]) -> None:
        if command[0] == before and not outcomes:
            outcomes.append(other.fill(started))

    stepping.before = fill
    assert kit.store.invalidate_pattern(*kit.names.pattern("search:*")) == 1
    assert outcomes == [Outcome.REFUSED]
    assert other.value(other.key()) is None
