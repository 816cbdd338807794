"""When the store fails: the application goes on, says so once, waits no more, and comes back with nothing forgotten."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from flask_rcache import MISSING, CacheManager
from flask_rcache.errors import StoreUnavailableError
from tests.processes import free_port, wait_until
from tests.servers import Server
from tests.stores.proxy import Proxy
from tests.stores.test_redis import fill_up

pytestmark = pytest.mark.chaos

Caches = Callable[..., CacheManager]
Servers = Callable[..., Server]


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="flask_rcache")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "[CACHE ERROR]" in record.getMessage()]


def goes_on_without(cache: CacheManager, caplog: pytest.LogCaptureFixture, cause: str) -> None:
    """Every call of the manager degrades, quickly but for the first; one line says why."""
    started = time.perf_counter()
    assert cache.get("search", "a", "default") == "default"
    assert cache.fetch("search", "a", lambda: "loaded", tags=["eu"]) == "loaded"
    assert time.perf_counter() - started < 4
    assert cache.get("search", "a", MISSING) is MISSING
    assert cache.set("search", "a", 1) is False
    assert cache.set_many("search", {"a": 1, "b": 2}) is False
    assert cache.get_many("search", ["a", "b"]) == {}
    assert cache.fetch_many("search", ["a", "b"], lambda missing: dict.fromkeys(missing, 7)) == {"a": 7, "b": 7}
    assert cache.delete("search", "a") is False
    assert cache.invalidate_type("product") == 0
    assert cache.invalidate_tags("asia") == 0
    assert cache.invalidate_pattern("user:*") == 0
    assert list(cache.entries()) == []
    assert cache.is_available is False
    assert cache.stats()["is_available"] is False
    with pytest.raises(ZeroDivisionError):
        cache.fetch("search", "a", lambda: 1 // 0)
    assert best_of_three(lambda: [cache.fetch("search", f"k{number}", int) for number in range(50)]) < 0.25
    # Whichever thread comes first may have met a closed connection before the one that meets the cause.
    said = lines(caplog)
    assert [cause in line for line in said].count(True) == 1
    assert len(said) <= 2, said


def best_of_three(act: Callable[[], object]) -> float:
    """Seconds of the best of three runs: the machine has other things to do, too."""
    figures = []
    for _ in range(3):
        started = time.perf_counter()
        act()
        figures.append(time.perf_counter() - started)
    return min(figures)


def comes_back(cache: CacheManager) -> None:
    wait_until(lambda: cache.is_available, timeout=10, what="recovered")
    assert cache.fetch("search", "back", lambda: 1) == 1
    assert cache.get("search", "back") == 1
    assert cache.set("search", "back", 2) is True


def warm(cache: CacheManager) -> None:
    assert cache.fetch("search", "a", lambda: "old", tags=["eu"]) == "old"
    assert cache.get("search", "a") == "old"


def test_refused(caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody listens."""
    goes_on_without(caches(f"redis://127.0.0.1:{free_port()}/0"), caplog, "refused")


def test_accepts_and_never_answers(caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """A listener that never replies costs 0.25 s once."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        made = [caches(url, timeout=0.25) for _ in range(3)]
        first_calls = iter(made)
        assert best_of_three(lambda: next(first_calls).get("search", "a")) < 0.6
        caplog.clear()
        goes_on_without(caches(url, timeout=0.25), caplog, "imeout")


def test_many_threads_meet_a_hung_server(private_server: Servers, caches: Caches) -> None:
    """The first who meet it wait once each, at the same time; nobody waits again."""
    server = private_server()
    cache = caches(server.url, timeout=1.5)
    warm(cache)
    server.pause()
    waits: list[float] = []

    def ask() -> None:
        for _ in range(20):
            started = time.perf_counter()
            assert cache.fetch("search", "a", lambda: "loaded") in ("loaded", "old")
            waits.append(time.perf_counter() - started)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.resume()
    assert sum(wait > 1.4 for wait in waits) <= 8
    assert max(waits) < 10.0


def test_paused_in_use(private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """SIGSTOP under a warm connection; after SIGCONT the cache is there again, what was invalidated is not."""
    server = private_server()
    cache = caches(server.url, timeout=0.5)
    warm(cache)
    cache.fetch("analytics", "kept", lambda: "kept")
    server.pause()
    goes_on_without(cache, caplog, "TimeoutError")
    cache.invalidate_tags("eu")
    server.resume()
    comes_back(cache)
    assert cache.get("search", "a") is None
    assert cache.get("analytics", "kept") == "kept"


def test_killed_in_use(private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """The server dies and comes back empty."""
    server = private_server()
    cache = caches(server.url)
    warm(cache)
    server.kill()
    goes_on_without(cache, caplog, "Connection")
    server.restart()
    comes_back(cache)
    assert cache.get("search", "a") is None


def test_restarted_between_two_calls(private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """A restart that nobody saw costs nothing but the entries: no error, no line."""
    server = private_server()
    cache = caches(server.url)
    warm(cache)
    cache.close()
    server.restart()
    assert cache.get("search", "a") is None
    comes_back(cache)
    assert lines(caplog) == []


def test_idle_connections_closed_by_the_server(
    private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that closes idle connections is no failure."""
    server = private_server()
    cache = caches(server.url)
    warm(cache)
    server.client().client_kill_filter(_type="normal", skipme=True)
    assert cache.get("search", "a") == "old"
    assert lines(caplog) == []


def test_wrong_password(private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """The cause is named, the password is not; once it is right the cache comes back."""
    server = private_server(requirepass="right")
    cache = caches(f"redis://:wr0ngsecret@127.0.0.1:{server.port}/0")
    goes_on_without(cache, caplog, "RCACHE_URL")
    assert "wr0ngsecret" not in caplog.text
    server.client().config_set("requirepass", "wr0ngsecret")
    comes_back(cache)


def test_no_password(private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """NOAUTH."""
    server = private_server(requirepass="right")
    cache = caches(f"redis://127.0.0.1:{server.port}/0")
    goes_on_without(cache, caplog, "uthenticat")
    server.client().config_set("requirepass", "")
    comes_back(cache)


def test_password_changed_in_use(private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """Connections are closed and new ones refused."""
    server = private_server()
    cache = caches(server.url)
    warm(cache)
    client = server.client()
    client.config_set("requirepass", "new")
    client.client_kill_filter(_type="normal", skipme=True)
    goes_on_without(cache, caplog, "uthenticat")
    client.config_set("requirepass", "")
    comes_back(cache)


def test_wrong_database(redis_server: Server, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """A database number that the server does not have."""
    goes_on_without(caches(f"redis://127.0.0.1:{redis_server.port}/99"), caplog, "DB index is out of range")


def test_no_permission(private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """An ACL that allows reading only."""
    server = private_server()
    client = server.client()
    client.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@read", "+@connection"])
    cache = caches(f"redis://app:pw@127.0.0.1:{server.port}/0")
    goes_on_without(cache, caplog, "NOPERM")
    client.acl_setuser("app", enabled=True, keys=["*"], channels=["*"], commands=["+@all"])
    comes_back(cache)


def test_read_only_replica(private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """A replica answers reads, and is not to be read: nothing of it is trusted until it is a master."""
    master = private_server()
    replica = private_server(replicaof=("127.0.0.1", master.port))
    cache = caches(replica.url)
    goes_on_without(cache, caplog, "READONLY")
    replica.client().replicaof("NO", "ONE")
    comes_back(cache)


def test_master_demoted_while_only_read(
    private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that only reads finds out within seconds that its master became a replica: it beats."""
    server, other = private_server(), private_server()
    cache = caches(server.url)
    warm(cache)
    cache.close()  # as after a long rest: no thread
    assert cache.get("search", "a") == "old"
    server.client().replicaof("127.0.0.1", str(other.port))

    def noticed() -> bool:
        cache.get("search", "a")  # the thread finds it; the next request that goes without the cache says it
        return not cache.is_available and bool(lines(caplog))

    wait_until(noticed, timeout=10, what="noticed")
    assert "READONLY" in lines(caplog)[0]


def test_loading(private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """A server that still loads its snapshot is away until it has; it says LOADING and nothing breaks."""
    server = private_server("redis", save="3600 1000000")
    client = server.client()
    client.mset({f"k{number}": "x" * 200 for number in range(600)})
    client.save()
    server.kill()
    server.config["key-load-delay"] = "10000"  # µs a key: six seconds, if it were not told to hurry
    server.config["loading-process-events-interval-bytes"] = "1024"
    booting = threading.Thread(target=server.restart)
    booting.start()
    client = server.client()
    try:
        wait_until(lambda: "LOADING" in answer(server.port), timeout=10, what="loading")
        cache = caches(server.url)
        goes_on_without(cache, caplog, "LOADING")
    finally:
        client.config_set("key-load-delay", "0")
        booting.join()
    comes_back(cache)


def answer(port: int) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as plain:
            plain.sendall(b"GET x\r\n")
            return plain.recv(100).decode()
    except OSError:
        return ""


# Out of memory


def test_out_of_memory(private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """A full server with noeviction: hits are served, invalidations taken, fills refused; one line; room ends it."""
    server = private_server(maxmemory="6mb", maxmemory_policy="noeviction")
    cache, other = caches(server.url), caches(server.url)
    warm(cache)
    cache.fetch("product", "p", lambda: "product")
    client = server.client()
    fill_up(client)
    for number in range(50):
        assert cache.fetch("search", f"new{number}", lambda: "x" * 3000) == "x" * 3000
    assert cache.set("search", "new", "x" * 3000) is False
    assert cache.get("search", "new0") is None
    assert cache.is_available is False
    assert cache.get("search", "a") == "old"
    assert other.get("search", "a") == "old"
    assert not [*client.scan_iter("cache:search:new*"), *client.scan_iter("cache~lease:*")]
    assert cache.invalidate_tags("eu") == 1
    assert cache.invalidate_type("product") == 1
    assert cache.get("search", "a") is None
    assert other.get("search", "a") is None
    assert other.get("product", "p") is None
    assert len(lines(caplog)) == 1
    assert "maxmemory" in lines(caplog)[0]
    for number in range(1, 30):
        client.delete(f"foreign:{number}")
    comes_back(cache)
    assert len(lines(caplog)) == 1
    assert cache.fetch("search", "a", lambda: "new") == "new"
    assert other.get("search", "a") == "new"


def test_out_of_memory__many_at_once(private_server: Servers, caches: Caches) -> None:
    """Fills sent together are refused together, not only the first of them."""
    server = private_server(maxmemory="6mb", maxmemory_policy="noeviction")
    cache = caches(server.url)
    warm(cache)
    client = server.client()
    fill_up(client)
    keys = [f"m{number}" for number in range(100)]
    found = cache.fetch_many("search", keys, lambda missing: dict.fromkeys(missing, "x" * 20_000))
    assert found == dict.fromkeys(keys, "x" * 20_000)
    assert cache.get_many("search", keys) == {}
    assert not list(client.scan_iter("cache~lease:*"))


# Invalidations made while the store is away


@pytest.fixture
def two(redis_server: Server, caches: Caches) -> Iterator[tuple[CacheManager, CacheManager, Proxy]]:
    """A cache behind a proxy that can be cut, another with its own connection, and the proxy."""
    with Proxy(redis_server.port) as proxy:
        cache = caches(proxy.url, timeout=1.0)
        yield cache, caches(redis_server.url), proxy
        cache.close()


@pytest.mark.parametrize("scope", ["tag", "type", "key", "pattern", "all"])
def test_journal__delivered_before_anything_is_read(two: tuple[CacheManager, CacheManager, Proxy], scope: str) -> None:
    """What was invalidated without the store is not read again, by this process at once, by others once it is back."""
    cache, other, proxy = two
    cache.fetch("search", "a", lambda: "old", tags=["eu"])
    cache.fetch("product", "p", lambda: "kept")
    proxy.cut()
    cache.get("search", "a")
    {
        "tag": lambda: cache.invalidate_tags("eu"),
        "type": lambda: cache.invalidate_type("search"),
        "key": lambda: cache.delete("search", "a"),
        "pattern": lambda: cache.invalidate_pattern("search:*"),
        "all": cache.clear_all,
    }[scope]()
    assert other.get("search", "a") == "old"  # the limit: only this process knows yet
    seen: list[object] = []
    back = threading.Event()

    def read() -> None:
        while not back.is_set() or len(seen) < 3:
            value = cache.get("search", "a")
            if cache.is_available:
                seen.append((value, other.get("search", "a")))

    reader = threading.Thread(target=read)
    reader.start()
    proxy.mend()
    wait_until(lambda: cache.is_available, timeout=10, what="recovered")
    back.set()
    reader.join()
    assert set(seen) == {(None, None)}
    assert (cache.get("product", "p") == "kept") == (scope != "all")


def test_journal__survives_a_failed_delivery(two: tuple[CacheManager, CacheManager, Proxy]) -> None:
    """Cut again before the delivery: it is delivered the next time."""
    cache, other, proxy = two
    cache.fetch("search", "a", lambda: "old", tags=["eu"])
    proxy.cut()
    assert cache.invalidate_tags("eu") == 0
    proxy.held.set()
    proxy.mend()
    asked = len(proxy.requests)
    wait_until(lambda: len(proxy.requests) > asked, timeout=10, what="a probe that gets no answer")
    proxy.cut()
    proxy.held.clear()
    assert other.get("search", "a") == "old"
    proxy.mend()
    wait_until(lambda: cache.is_available, timeout=10, what="recovered")
    assert other.get("search", "a") is None


def test_journal__survives_a_defect(two: tuple[CacheManager, CacheManager, Proxy]) -> None:
    """Whatever breaks a delivery off in the middle, what comes after it is not forgotten."""
    cache, other, proxy = two
    cache.fetch("search", "a", lambda: "old")
    proxy.cut()
    cache.invalidate_tags("eu")
    cache.delete("search", "a")
    defects = iter([RuntimeError("a defect")])

    class Breaks:
        """A memory tier that fails once."""

        def apply(self, message: object) -> None:
            for defect in defects:
                raise defect

        def distrust(self) -> None:
            """Nothing is held."""

    store: Any = cache.engine.store
    store.listener = Breaks()
    proxy.mend()
    wait_until(lambda: cache.is_available, timeout=10, what="recovered")
    assert next(defects, None) is None
    assert other.get("search", "a") is None


def test_journal__what_can_never_be_delivered(two: tuple[CacheManager, CacheManager, Proxy]) -> None:
    """What no connection takes must not keep the cache off for good: everything goes in its place, once."""
    cache, other, proxy = two
    cache.set("search", "a", "old")
    proxy.cut()
    with pytest.raises(StoreUnavailableError):
        cache.engine.store.invalidate_pattern("cache:search:\ud800*", "search")
    proxy.mend()
    wait_until(lambda: cache.is_available, timeout=10, what="recovered")
    assert other.get("search", "a") is None
    assert cache.overview()["journal"]["pending"] == 0


def test_journal__collapses_above_its_limit(two: tuple[CacheManager, CacheManager, Proxy]) -> None:
    """Up to 10,000 items each is delivered; above, everything is invalidated: more than asked, never less."""
    cache, other, proxy = two
    for count, kept in ((9_000, "kept"), (10_001, None)):
        cache.fetch("search", "a", lambda: "old", tags=["tag-77"])
        other.fetch("product", "p", lambda: "kept")
        proxy.cut()
        cache.get("search", "a")
        cache.invalidate_tags(*(f"tag-{number}" for number in range(count)))
        proxy.mend()
        wait_until(lambda: cache.is_available, timeout=10, what="recovered")
        assert other.get("search", "a") is None
        assert other.get("product", "p") == kept


def test_half_open__answers_stop(two: tuple[CacheManager, CacheManager, Proxy]) -> None:
    """A connection that swallows everything: one timeout, an invalidation is not lost, and the cache comes back."""
    cache, other, proxy = two
    cache.fetch("search", "a", lambda: "old", tags=["eu"])
    proxy.held.set()
    assert cache.invalidate_tags("eu") == 0
    assert cache.get("search", "a") is None
    assert cache.is_available is False
    proxy.held.clear()
    wait_until(lambda: cache.is_available, timeout=10, what="recovered")
    assert other.get("search", "a") is None


# What comes back with the server


@pytest.mark.parametrize("how", ["empty", "snapshot", "flushall"])
def test_nothing_invalidated_comes_back(private_server: Servers, caches: Caches, how: str) -> None:
    """After a restart, empty or from an old snapshot, or a FLUSHALL: not for this process, not for another."""
    server = private_server("redis", save="3600 1000000")
    cache, other = caches(server.url), caches(server.url)
    warm(cache)
    assert other.get("search", "a") == "old"
    server.client().save()
    cache.invalidate_tags("eu")
    if how == "flushall":
        server.client().flushall()
    else:
        server.kill()
        server.restart(wipe=how == "empty")
        assert server.client().exists("cache:search:a") == (how == "snapshot")
    for each in (other, cache):
        for _ in range(3):
            assert each.get("search", "a") is None
    wait_until(lambda: cache.is_available and other.is_available, timeout=10, what="recovered")
    assert [each.get("search", "a") for each in (cache, other)] == [None, None]

    def is_shared() -> bool:  # after FLUSHALL it is the next heartbeat that makes the stamp set anew
        for each in (cache, other):
            assert each.fetch("search", "a", lambda: "new") == "new"
        return [each.get("search", "a") for each in (cache, other)] == ["new", "new"]

    wait_until(is_shared, timeout=10, what="shared")


@pytest.mark.race
def test_fetch__store_away_is_one_load_a_process(caches: Caches) -> None:
    """Without the store a stampede in one process is two loads: one that ran, one for all who came during it."""
    cache = caches(f"redis://127.0.0.1:{free_port()}/0")
    cache.get("search", "a")
    go = [threading.Event(), threading.Event()]
    begun = [threading.Event(), threading.Event()]
    loads: list[int] = []

    def loader() -> int:
        number = len(loads)
        loads.append(number)
        begun[number].set()
        go[number].wait(10)
        return number

    values: list[int] = []
    threads = [threading.Thread(target=lambda: values.append(cache.fetch("search", "a", loader))) for _ in range(7)]
    threads[0].start()
    begun[0].wait(10)
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.2)  # all of them wait for the first
    go[0].set()
    begun[1].wait(10)
    time.sleep(0.2)  # all but the new leader wait for the second
    go[1].set()
    for thread in threads:
        thread.join()
    assert loads == [0, 1]
    assert sorted(values) == [0, 1, 1, 1, 1, 1, 1]


def test_log__one_line_an_incident(private_server: Servers, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """A second incident gets a second line; nothing is logged in between."""
    server = private_server()
    cache = caches(server.url)
    for incident in (1, 2):
        warm(cache)
        server.kill()
        for _ in range(20):
            cache.get("search", "a")
        assert len(lines(caplog)) == incident
        server.restart()
        comes_back(cache)
        cache.invalidate_type("search")
    assert len(lines(caplog)) == 2


def test_nothing_comes_back_with_an_earlier_server(private_server: Servers, caches: Caches) -> None:
    """Clients are sent to another server, invalidate there, and are sent back: the first never heard of it."""
    first, second = private_server(), private_server()
    with Proxy(first.port) as address:
        one, other = caches(address.url), caches(address.url)

        def move(to: Server) -> None:
            address.cut()
            address.aim(to.port)
            address.mend()
            for cache in (one, other):
                wait_until(lambda cache=cache: _reached(cache), timeout=20, what="the other server")  # type: ignore[misc]

        assert one.fetch("search", "a", lambda: "old", tags=["eu"]) == "old"
        assert other.get("search", "a") == "old"
        move(second)
        assert not one.invalidate_tags("eu").journalled
        move(first)
        for _ in range(3):
            assert [cache.get("search", "a") for cache in (one, other)] == [None, None]


def _reached(cache: CacheManager) -> bool:
    cache.get("search", "anything")
    return cache.is_available
