"""The pool: what one exchange does on kept connections, on new ones, and on those that have failed."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ResponseError

from flask_rcache.errors import StoreFullError, StoreUnavailableError
from flask_rcache.stores.redis.connection import Exchange, pack
from flask_rcache.stores.redis.failures import Failure, classify
from flask_rcache.stores.redis.pool import Pool
from flask_rcache.stores.redis.scripts import Call, Script, run
from tests.chaos.sluggish import Sluggish
from tests.processes import free_port, wait_until
from tests.servers import Server
from tests.stores.proxy import Proxy
from tests.stores.transport import Transport, at_once, busy, request

Transports = Callable[..., Transport]
Servers = Callable[..., Server]


@pytest.fixture
def transports() -> Iterator[Transports]:
    """Makes transports, `transports(url, **options)`, and closes them."""
    made: list[Transport] = []

    def make(url: str, **options: Any) -> Transport:
        made.append(Transport(url, **options))
        return made[-1]

    yield make
    for each in made:
        each.pool.close()


def connected(server: Server) -> set[str]:
    """The connections of the server on which a BLPOP was the last command, as those of :func:`spread` are."""
    client: Any = server.client()
    return {each["id"] for each in client.client_list() if each["cmd"] == "blpop"}


def spread(transport: Transport, number: int) -> None:
    """Have so many connections, by using them at the same time."""
    at_once(lambda _: transport.ask("BLPOP", "nothing", 0.3), number)
    assert transport.pool.connections == number


# --- Exchanges


def test_exchange__threads_get_their_own_answers(server: Server, transports: Transports) -> None:
    """Many threads at once, on no more connections than threads, each attached before anything else."""
    first: list[Any] = []
    transport = transports(server.url, attach=lambda exchange: first.extend(exchange(b"PING\r\n", 1)))

    def echo(number: int) -> bool:
        return all(transport.ask("ECHO", f"{number}.{step}") == b"%d.%d" % (number, step) for step in range(200))

    assert at_once(echo, 8) == [True] * 8
    assert transport.attached == len(first) == transport.pool.connections <= 8


def test_exchange__a_large_one(server: Server, transports: Transports) -> None:
    """What no socket takes or brings at once, over a plain connection; an error reply stands among the others."""
    transport = transports(server.url)
    value = os.urandom(20_000_000)
    assert transport.ask("SET", "k", value) == b"OK"
    replies = transport.pool.exchange(b"GET k\r\nHGET k f\r\nPING\r\n", 3)
    assert replies[0] == value
    assert isinstance(replies[1], ResponseError)
    assert replies[2] == b"PONG"


def test_exchange__interrupted_reply_is_nobody_elses(server: Server, transports: Transports) -> None:
    """One broken off between question and answer leaves no reply behind for the next one."""

    class Broken(BaseException):
        pass

    def break_off(*_: object) -> None:
        raise Broken

    transport = transports(server.url, timeout=5.0)
    transport.ask("SET", "k", "v")
    previous = signal.signal(signal.SIGALRM, break_off)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Broken):
            transport.ask("BLPOP", "nothing", 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert [transport.ask("GET", "k"), transport.ask("ECHO", "x")] == [b"v", b"x"]
    assert not transport.breaker.is_open


@pytest.mark.usefixtures("no_other_caches")
@pytest.mark.parametrize("new", [False, True], ids=["kept connections", "new ones"])
def test_exchange__beside_busy_threads(server: Server, transports: Transports, new: bool) -> None:
    """Threads that hold the GIL make a request slow, not its store: every answer counts, and next to no waiting."""
    transport = transports(server.url, timeout=0.25)
    transport.ask("PING")
    with busy(), request() as scope:
        for number in range(8 if new else 60):
            if new:
                transport.pool.close()
            assert transport.ask("ECHO", number) == b"%d" % number
    assert scope.waited < 0.5
    assert not transport.breaker.is_open


@pytest.mark.chaos
def test_exchange__drops_and_pieces(redis_server: Server, transports: Transports) -> None:
    """An answer that trickles ends, though each piece of it comes in time; a large one in many pieces arrives."""
    with Sluggish(redis_server.port) as slow:
        transport = transports(slow.url, timeout=0.5)
        transport.ask("SET", "k", b"x" * 300_000)
        slow.drop = 1000
        assert len(transport.ask("GET", "k")) == 300_000
        slow.delay, slow.drop = 0.003, 20
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            transport.ask("GET", "k")
        assert time.monotonic() - began < 5  # 45 s when each piece is as good as an answer
        assert transport.breaker.is_open


def test_exchange__a_connection_the_server_has_closed(server: Server, transports: Transports) -> None:
    """The exchange is repeated on a new one; the others were kept as long, and go too."""
    transport = transports(server.url)
    spread(transport, 4)
    server.client().client_kill_filter(_type="normal", skipme=True)
    assert transport.ask("ECHO", "x") == b"x"
    assert (transport.pool.connections, transport.pool.generation) == (1, 2)
    assert not transport.breaker.is_open


@pytest.mark.chaos
def test_exchange__a_server_that_falls_silent(private_server: Servers, transports: Transports) -> None:
    """Those on their way wait for one timeout, nobody else; all kept connections go, and that is one new generation."""
    server = private_server()
    transport = transports(server.url, timeout=0.5)
    spread(transport, 6)
    server.pause()
    began = time.monotonic()
    assert {type(each) for each in at_once(lambda _: transport.ask("PING"), 5)} == {StoreUnavailableError}
    assert 0.4 < time.monotonic() - began < 2.5
    assert (transport.pool.connections, transport.pool.generation) == (0, 2)
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="unavailable"):
        transport.ask("PING")
    assert time.monotonic() - began < 0.2
    with pytest.raises(StoreUnavailableError):
        transport.ask("PING", probing=True)
    assert transport.pool.generation == 2, "a probe that fails ends nothing: there is nothing to end"
    server.resume()
    assert transport.ask("PING", probing=True) == b"PONG"
    assert transport.breaker.is_open, "who probes says what it showed"


def test_exchange__nobody_there(transports: Transports) -> None:
    """A refused connection opens the breaker at once; then nobody tries but a probe."""
    transport = transports(f"redis://127.0.0.1:{free_port()}/0")
    for match in ("ConnectionError", "unavailable"):
        with pytest.raises(StoreUnavailableError, match=match):
            transport.ask("PING")
    assert transport.attached == 0
    assert transport.breaker.incidents == 1


# --- Generations


def test_generation__ended_while_an_exchange_is_under_way(server: Server, transports: Transports) -> None:
    """Its answer arrives, and its connection is not kept; all others go at once."""
    transport = transports(server.url)
    spread(transport, 3)
    kept = connected(server)
    assert len(kept) == 3
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(transport.ask("BLPOP", "list", 5)))
    asking.start()
    wait_until(lambda: server.client().info("clients")["blocked_clients"] == 1, timeout=15, what="it waits")
    transport.pool.end_generation(StoreUnavailableError("a test"))
    assert transport.pool.connections == 1
    server.client().rpush("list", "x")
    asking.join()
    assert answers == [[b"list", b"x"]]
    assert (transport.pool.connections, transport.pool.generation) == (0, 2)
    wait_until(lambda: not kept & connected(server), timeout=15, what="the server sees them closed")
    assert transport.ask("PING") == b"PONG"


def test_generation__a_connection_that_was_put_back_as_it_ended(server: Server, transports: Transports) -> None:
    """Whatever is kept of an older generation is closed and not used."""
    transport = transports(server.url)
    transport.ask("PING")
    transport.pool.generation += 1
    assert transport.ask("PING") == b"PONG"
    assert (transport.attached, transport.pool.connections) == (2, 1)


def test_generation__ended_by_a_new_connection(server: Server, transports: Transports) -> None:
    """Who finds another server run on a new connection ends the generation; the next connection is of the new one."""
    transport = transports(server.url)

    def attach(_: object) -> None:
        if transport.attached == 2:
            transport.pool.end_generation(StoreUnavailableError("another run"))

    transport._then = attach
    at_once(lambda _: transport.ask("BLPOP", "nothing", 0.3), 2)
    assert transport.ask("PING") == b"PONG"
    assert transport.attached in (3, 4)
    assert transport.pool.generation == 2
    assert all(each.generation == 2 for each in transport.pool._existing)


def test_generation__another_server_each_time(server: Server, transports: Transports) -> None:
    """A name that leads to two servers by turns is of no use."""
    transport = transports(server.url)
    transport._then = lambda _: transport.pool.end_generation(StoreUnavailableError("another run"))
    with pytest.raises(StoreUnavailableError, match="another server each time"):
        transport.ask("PING")
    assert transport.breaker.is_open


def test_generation__ended_as_the_name_leads_elsewhere(
    redis_server: Server, valkey_server: Server, transports: Transports
) -> None:
    """A name that was moved while the old server lives on is noticed, by one connection that replaces another."""
    with Proxy(redis_server.port) as name:
        seen: list[bytes] = []

        def attach(exchange: Exchange) -> None:
            found = exchange(pack(("CONFIG", "GET", "port")), 1)[0][b"port"]
            if seen and found != seen[-1]:
                transport.pool.end_generation(StoreUnavailableError("another server"))
            seen.append(found)

        transport = transports(name.url, attach=attach)
        transport.pool.resolve_anew()
        assert transport.attached == 0, "there is nothing to replace"
        spread(transport, 2)
        transport.pool.resolve_anew()
        wait_until(lambda: transport.attached == 3, timeout=20, what="the name is resolved")
        wait_until(lambda: transport.pool.connections == 2, timeout=20, what="one goes for it")
        assert transport.pool.generation == 1
        name.aim(valkey_server.port)

        def is_noticed() -> bool:  # one that comes while another is under way is left out
            transport.pool.resolve_anew()
            return transport.pool.generation == 2

        wait_until(is_noticed, timeout=20, what="another server is found")
        assert transport.ask("CONFIG", "GET", "port")[b"port"] == b"%d" % valkey_server.port
        wait_until(lambda: transport.pool.connections == 1, timeout=20, what="the others are closed")
        name.cut()
        name.aim(redis_server.port)
        transport.pool.resolve_anew()
        assert not transport.breaker.is_open


@pytest.mark.parametrize("error", [ResponseError("ERR the format"), StoreUnavailableError("the format")])
def test_attach__refused(server: Server, transports: Transports, error: Exception) -> None:
    """What is found out on a new connection keeps the cache away, and its connection is closed."""

    def attach(_: object) -> None:
        raise error

    transport = transports(server.url, attach=attach)
    with pytest.raises(StoreUnavailableError, match="the format"):
        transport.ask("PING")
    assert transport.breaker.is_open
    assert transport.pool.connections == 0


def test_attach__a_defect(server: Server, transports: Transports) -> None:
    """An error that is none of the store's reaches who asked, and stops nobody else."""

    def attach(_: object) -> None:
        raise LookupError("a defect")

    transport = transports(server.url, attach=attach)
    for _ in range(2):
        with pytest.raises(LookupError):
            transport.ask("PING")
    assert not transport.breaker.is_open


# --- How many connections


def test_close_idle__the_least_recently_used_go(server: Server, transports: Transports) -> None:
    """What a burst has left behind is closed, what is used stays."""
    transport = transports(server.url, idle_timeout=0.5)
    spread(transport, 8)
    assert transport.pool.close_idle() == 8

    def one_is_left() -> bool:
        transport.ask("PING")
        return transport.pool.close_idle() == 1

    wait_until(one_is_left, timeout=10, what="seven are closed")
    assert transport.attached == 8
    wait_until(lambda: transport.pool.close_idle() == 0, timeout=10, what="and the last one, once nobody asks")


def test_close_idle__one_that_was_never_used(server: Server, transports: Transports) -> None:
    """One made for somebody who then took another that was free first."""
    transport = transports(server.url, idle_timeout=0.0)
    made = threading.Event()
    first = threading.Thread(target=lambda: transport.ask("BLPOP", "list", 5))
    first.start()
    wait_until(lambda: server.client().info("clients")["blocked_clients"] == 1, timeout=15, what="one is in use")

    def attach(_: object) -> None:
        made.wait(10)

    transport._then = attach
    second = threading.Thread(target=lambda: transport.ask("PING"))
    second.start()
    wait_until(lambda: transport.attached == 2, timeout=15, what="another is being made")
    server.client().rpush("list", "x")
    first.join()
    second.join()
    assert transport.pool.connections == 1
    made.set()
    wait_until(lambda: transport.pool.connections == 2, timeout=15, what="it is made")
    assert transport.pool.close_idle() == 0


def test_max_connections__shared(server: Server, transports: Transports) -> None:
    """Never more than that; who finds all in use waits for a free one."""
    transport = transports(server.url, max_connections=3)
    most: list[int] = []

    def ask(_: int) -> Any:
        answer = transport.ask("BLPOP", "nothing", 0.05)
        most.append(transport.pool.connections)
        return answer

    assert at_once(ask, 12) == [None] * 12
    assert (max(most), transport.attached) == (3, 3)
    assert not transport.breaker.is_open


def test_max_connections__none_free_in_time(server: Server, transports: Transports) -> None:
    """Who gets none goes on without the cache, alone."""
    transport = transports(server.url, max_connections=1, timeout=0.25)
    slow = threading.Thread(target=lambda: transport.ask("BLPOP", "list", 5, patient=True))
    transport.pool._timeout = 5.0  # type: ignore[misc]  # of the slow one
    slow.start()
    wait_until(lambda: server.client().info("clients")["blocked_clients"] == 1, timeout=15, what="it is in use")
    with request() as scope, pytest.raises(StoreUnavailableError, match="RCACHE_MAX_CONNECTIONS"):
        transport.ask("PING")
    assert 0.4 < scope.waited < 0.6
    server.client().rpush("list", "x")
    slow.join()
    assert not transport.breaker.is_open
    assert transport.ask("PING") == b"PONG"


def test_maxclients__shared(private_server: Servers, transports: Transports, caplog: pytest.LogCaptureFixture) -> None:
    """A server that takes no more connections: the requests share those there are, and one warning says what to set."""
    server = private_server(maxclients=6)
    transport = transports(server.url, timeout=2.0)
    assert transport.ask("PING") == b"PONG"
    for _ in range(3):
        assert at_once(lambda _: transport.ask("BLPOP", "nothing", 0.05), 12) == [None] * 12
    assert transport.pool.connections <= 6
    assert (transport.pool.generation, transport.breaker.incidents) == (1, 0)
    assert [each.levelname for each in caplog.records if "RCACHE_MAX_CONNECTIONS" in each.message] == ["WARNING"]


def test_maxclients__none_of_our_own(private_server: Servers, transports: Transports) -> None:
    """A server whose connections all belong to others cannot be asked; the error names what to change."""
    server = private_server(maxclients=2)
    others = [server.client(single_connection_client=True) for _ in range(2)]
    for other in others:
        other.ping()
    transport = transports(server.url)
    with pytest.raises(StoreUnavailableError, match=r"maxclients|Connection"):
        transport.ask("PING")
    assert transport.breaker.is_open


@pytest.mark.usefixtures("no_other_caches")
def test_connect__a_resolver_that_hangs(
    redis_server: Server, transports: Transports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds up a request for two timeouts at most, gets a handful of threads, and is done with when it answers."""
    answers, real = threading.Event(), socket.getaddrinfo

    def resolve(host: str, *args: Any, **options: Any) -> Any:
        assert answers.wait(30)
        return real("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    transport = transports(f"redis://cache.internal:{redis_server.port}/0", timeout=0.2)
    began = time.monotonic()
    with request() as scope, pytest.raises(StoreUnavailableError, match="no connection"):
        transport.ask("PING")
    assert time.monotonic() - began < 10
    assert 0.35 <= scope.waited <= 0.6
    assert transport.breaker.is_open
    for _ in range(6):
        with pytest.raises(StoreUnavailableError):
            transport.ask("PING", probing=True)
    connecting = [each for each in threading.enumerate() if each.name == "flask_rcache-connect"]
    assert len(connecting) == 4
    answers.set()
    for each in connecting:
        each.join(10)
    assert transport.ask("PING", probing=True) == b"PONG"


# --- Forks


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork__a_child_has_its_own_connections(server: Server, transports: Transports) -> None:
    """It uses none of its parent's, holds none of them open, and waits for no thread of its parent."""
    transport = transports(server.url)
    spread(transport, 3)
    reading, writing = os.pipe()
    asking = threading.Thread(target=lambda: transport.ask("BLPOP", "list", 20))
    asking.start()
    wait_until(lambda: server.client().info("clients")["blocked_clients"] == 1, timeout=15, what="one is in use")
    transport.pool._lock.acquire()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(20)
            kept = transport.pool.connections
            os.write(writing, b"%d %s %d" % (kept, transport.ask("ECHO", "child"), transport.pool.connections))
        finally:
            os._exit(0)
    transport.pool._lock.release()
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(reading, 100) == b"0 child 1"
    os.close(reading)
    os.close(writing)
    server.client().rpush("list", "x")
    asking.join()
    assert transport.ask("ECHO", "parent") == b"parent"
    assert transport.attached == 3
    assert transport.pool.generation == 1


# --- What errors mean


ACL = [
    "user default on nopass ~* &* +@all",
    "user few on nopass ~cache* resetchannels &cache* +@all -zmscore -get -publish",
]
FORBIDDEN: list[tuple[Any, ...]] = [
    ("ZMSCORE", "cache~stamps", "x"),
    ("GET", "cache:k"),
    ("GET", "other"),
    ("SET", "other", "x"),
    ("EVAL", "return redis.call('GET', KEYS[1])", 1, "cache:k"),
    ("EVAL", "return redis.call('SET', 'other', 'x')", 1, "cache:k"),
    ("EVAL", "return redis.call('PUBLISH', 'cache~bus', 'x')", 0),
    ("EVAL", "return redis.call('OBJECT', 'HELP')", 0),
    ("PUBLISH", "other", "x"),
    ("SET", "cache:k"),
]


@pytest.fixture(params=["redis", "valkey"])
def strict(request: pytest.FixtureRequest, private_server: Servers, tmp_path: Any) -> Server:
    """A server with an access list, without the command OBJECT."""
    path = tmp_path / "users.acl"
    path.write_text("\n".join(ACL) + "\n")
    return private_server(request.param, aclfile=str(path), rename_command=("OBJECT", ""))


def test_classify__what_an_access_list_forbids(strict: Server, transports: Transports) -> None:
    """A command, also inside a script, a key, a channel, a command that is renamed; a wrong syntax is none of them."""
    transport = transports(f"redis://few:x@127.0.0.1:{strict.port}/0")
    replies = [transport.ask(*command) for command in [*FORBIDDEN, ("OBJECT", "HELP")]]
    kinds = [classify(reply) for reply in replies]
    assert kinds == [Failure.CONFIGURATION] * 9 + [Failure.REFUSED, Failure.CONFIGURATION], replies
    assert not transport.breaker.is_open, "what a reply means, who asked knows"


@pytest.mark.parametrize("how", ["command", "script"])
def test_fail__a_command_that_is_not_granted(
    strict: Server, transports: Transports, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """One ERROR that names it and the grant; one incident, and probes every few seconds only."""
    transport = transports(f"redis://few:x@127.0.0.1:{strict.port}/0")
    script = Script("some", "local names = {}\nreturn redis.call('ZMSCORE', KEYS[1], 'x')\n")

    def refused() -> Any:
        if how == "command":
            return transport.ask("ZMSCORE", "cache~stamps", "x", probing=True)
        probe = partial(transport.pool.exchange, probing=True)
        return run(probe, [Call(script, ["cache~stamps"], [])])[0]

    for _ in range(3):
        failure = transport.pool.fail(refused())
        assert "ZMSCORE" in str(failure)
        assert transport.breaker.is_open
        assert transport.breaker.probe_in() > 4
        transport.breaker.close()
    assert transport.breaker.incidents == 1
    errors = [each.message for each in caplog.records if each.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "+zmscore" in errors[0]


@pytest.mark.parametrize("credentials", ["few:wrong", "nobody:x"])
def test_fail__credentials(
    private_server: Servers, transports: Transports, caplog: pytest.LogCaptureFixture, credentials: str
) -> None:
    """A wrong user or password is an error of the configuration: reported once, never shown."""
    server = private_server(requirepass="right")
    server.client().acl_setuser("few", enabled=True, passwords=["+right"], categories=["+@all"])
    transport = transports(f"redis://{credentials}@127.0.0.1:{server.port}/0")
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="RCACHE_URL"):
            transport.ask("PING", probing=True)
    assert [each.levelname for each in caplog.records if "RCACHE_URL" in each.message] == ["ERROR"]
    assert credentials.partition(":")[2] + "@" not in caplog.text
    assert transport.breaker.probe_in() > 4


def test_fail__no_room_and_read_only(private_server: Servers, transports: Transports) -> None:
    """A full server is asked on; a replica ends the generation, since its name may lead to the new master now."""
    server = private_server(maxmemory="1mb", maxmemory_policy="noeviction")
    transport = transports(server.url)
    error = transport.ask("SET", "k", b"x" * 2_000_000)
    assert classify(error) is Failure.FULL
    assert isinstance(transport.pool.fail(error), StoreFullError)
    assert (transport.breaker.is_open, transport.pool.generation) == (False, 1)
    server.client().replicaof("127.0.0.1", free_port())
    error = transport.ask("SET", "k", "x")
    assert classify(error) is Failure.READ_ONLY
    assert isinstance(transport.pool.fail(error), StoreUnavailableError)
    assert (transport.breaker.is_open, transport.pool.generation, transport.pool.connections) == (True, 2, 0)


def test_seconds_for__grows_with_the_size(transports: Transports) -> None:
    """How long a write may take before it counts as failed: its size counts, and what is left to the request."""
    pool: Pool = transports("redis://127.0.0.1:1/0", timeout=0.25).pool
    assert pool.seconds_for(100) == 0.25
    assert 4.1 < pool.seconds_for(1_000_000) < 4.3
    with request() as scope:
        assert pool.seconds_for(1_000_000) == 0.5
        scope.waited = 0.4
        assert pool.seconds_for(100) == pytest.approx(0.1)
