"""One load per key in a process: sharing with a reason, waiting that cannot hang, and ends that always come."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from flask_rcache import MISSING, CacheManager, CacheType
from flask_rcache.engine.waiting import block_thread
from flask_rcache.model.scope import scope_var
from tests.processes import wait_until
from tests.servers import Server
from tests.stores.kit import manager


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest) -> Iterator[CacheManager]:
    """A cache on each kind of store."""
    url = "memory://"
    if request.param != "memory":
        server: Server = request.getfixturevalue("redis_server")
        url = server.url
    made = manager(url, strict=False)
    yield made
    made.close()


def together(*acts: Callable[[], object]) -> list[object]:
    """Run acts in threads, all begun; what they return or raise, in order."""
    results: list[object] = [None] * len(acts)
    barrier = threading.Barrier(len(acts))

    def run(number: int, act: Callable[[], object]) -> None:
        barrier.wait(10)
        try:
            results[number] = act()
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            results[number] = error

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive(), "a reader hangs"
    return results


def waiting(number: int) -> Callable[[], bool]:
    """Whether so many threads wait for another's load."""

    def wait() -> bool:
        threads = sys._current_frames().values()
        return sum(any(frame.f_code is block_thread.__code__ for frame in _stack(each)) for each in threads) >= number

    return wait


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


# Keys that wait for themselves


def one_by_one(cache: CacheManager, key: str, loader: Callable[[], int]) -> int:
    return cache.fetch("query", key, loader)


def as_many(cache: CacheManager, key: str, loader: Callable[[], int]) -> int:
    """It is not the first of the keys that are loaded together."""
    return cache.fetch_many("query", ["other", key], lambda keys: dict.fromkeys(keys, loader()))[key]


@pytest.mark.parametrize("outer", [one_by_one, as_many])
@pytest.mark.parametrize("inner", [one_by_one, as_many])
def test_fetch__inside_a_load_of_its_own_key(
    cache: CacheManager, outer: Callable[..., int], inner: Callable[..., int]
) -> None:
    """Recursion through one key, by whichever calls, runs the loaders and waits for nobody."""
    # As in a request: all of its loads have one moment, so that a row which the inner one makes is none too late.
    token = scope_var.set(cache.engine.new_scope(is_request=True))
    before = time.monotonic()
    assert outer(cache, "k", lambda: inner(cache, "k", lambda: 1)) == 1
    assert time.monotonic() - before < 2
    assert cache.get("query", "k") == 1
    scope_var.reset(token)


def test_afetch__inside_a_load_of_its_own_key(cache: CacheManager) -> None:
    """The same for asyncio, inside a load of many."""

    async def load() -> int:
        return 1

    before = time.monotonic()
    assert as_many(cache, "k", lambda: asyncio.run(cache.afetch("query", "k", load))) == 1
    assert time.monotonic() - before < 2


@pytest.mark.race
def test_fetch_many__inside_a_load_waits_no_longer_than_a_lease(redis_server: Server) -> None:
    """Another process may hold what this load wants, and want what this load holds."""
    cache = manager(redis_server.url, load_timeout=60, lease=0.3)
    with redis_server.client() as client:
        client.set("cache~lease:query:b", "lsomebody", px=60_000)
    before = time.monotonic()
    assert cache.fetch("query", "a", lambda: cache.fetch_many("query", ["b"], lambda keys: {"b": 2})) == {"b": 2}
    assert time.monotonic() - before < 10
    cache.close()


# Sharing


def test_fetch__threads_share_one_load(cache: CacheManager) -> None:
    """Twenty cold readers, one load; each has its own copy."""
    loads: list[int] = []

    def loader() -> list[int]:
        loads.append(1)
        wait_until(waiting(19), timeout=10, what="the others wait")
        return [1, 2]

    results = together(*[lambda: cache.fetch("search", "a", loader)] * 20)
    assert results == [[1, 2]] * 20
    assert len({id(result) for result in results}) == 20
    assert len(loads) == 1
    stats: Any = cache.stats()
    assert stats["collapsed"] == 19


def test_fetch__two_processes_share_one_load(redis_server: Server) -> None:
    """Two caches on one server: the other waits for the lease holder and takes its entry."""
    one, two = manager(redis_server.url), manager(redis_server.url)
    begun, go = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        go.wait(5)
        return "one's"

    def second() -> object:
        begun.wait(5)
        threading.Timer(0.1, go.set).start()
        return two.fetch("search", "a", lambda: "two's")

    assert together(lambda: one.fetch("search", "a", slow), second) == ["one's", "one's"]
    for each in (one, two):
        each.close()


def test_fetch__tasks_share_one_load_and_the_loop_ticks(cache: CacheManager) -> None:
    """Followers await: while they do, others run."""
    loads: list[int] = []

    async def main() -> tuple[list[Any], int]:
        go = asyncio.Event()
        ticks = 0

        async def loader() -> str:
            loads.append(1)
            await go.wait()
            return "value"

        async def ticking() -> None:
            nonlocal ticks
            while not go.is_set():
                ticks += 1
                await asyncio.sleep(0)
                if ticks == 200:
                    go.set()

        *values, _ = await asyncio.gather(*(cache.afetch("search", "a", loader) for _ in range(20)), ticking())
        return values, ticks

    values, ticks = asyncio.run(main())
    assert values == ["value"] * 20
    assert ticks == 200
    assert len(loads) == 1


def test_fetch__a_task_waits_for_a_thread_and_a_thread_for_a_task(cache: CacheManager) -> None:
    """Threads and loops share one load, whoever leads."""
    for leader in ("thread", "task"):
        begun, go = threading.Event(), threading.Event()

        def slow(begun: threading.Event = begun, go: threading.Event = go) -> str:
            begun.set()
            go.wait(5)
            return "led"

        async def aslow(slow: Callable[[], str] = slow) -> str:
            return await asyncio.to_thread(slow)

        async def afollow() -> str:
            return "followed"

        def follow(begun: threading.Event = begun, go: threading.Event = go, leader: str = leader) -> str:
            begun.wait(5)
            threading.Timer(0.05, go.set).start()
            if leader == "thread":
                return asyncio.run(cache.afetch("search", leader, afollow))
            return cache.fetch("search", leader, lambda: "followed")

        def lead(leader: str = leader, slow: Callable[[], str] = slow, aslow: Any = aslow) -> str:
            if leader == "thread":
                return cache.fetch("search", leader, slow)
            return str(asyncio.run(cache.afetch("search", leader, aslow)))

        assert together(lead, follow) == ["led", "led"]


def test_fetch__overtaken_result_is_not_shared_with_later_readers(cache: CacheManager) -> None:
    """A reader that came after an invalidation does not get the result of a load that began before it."""
    state = {"value": "old"}
    begun, go = threading.Event(), threading.Event()

    def slow() -> str:
        read = state["value"]
        begun.set()
        go.wait(5)
        return read

    def late() -> object:
        begun.wait(5)
        state["value"] = "new"
        cache.invalidate_type("search")
        threading.Timer(0.1, go.set).start()
        return cache.fetch("search", "a", lambda: state["value"])

    assert together(lambda: cache.fetch("search", "a", slow), late) == ["old", "new"]
    assert cache.get("search", "a") == "new"


def test_fetch__result_of_before_the_readers_own_invalidation(cache: CacheManager) -> None:
    """A request that came before a load may share it, but not after it has invalidated what that has read (R6)."""
    state = {"value": "old"}
    arrived, begun, go = threading.Event(), threading.Event(), threading.Event()

    def slow() -> str:
        read = state["value"]
        begun.set()
        go.wait(5)
        return read

    def early() -> object:
        token = scope_var.set(cache.engine.new_scope(is_request=True))
        try:
            arrived.set()
            begun.wait(5)
            state["value"] = "new"
            cache.invalidate_type("search")
            return cache.fetch("search", "a", lambda: state["value"])
        finally:
            scope_var.reset(token)

    def late() -> object:
        arrived.wait(5)
        return cache.fetch("search", "a", slow)

    def conduct() -> None:
        begun.wait(5)
        wait_until(waiting(1), timeout=10, what="the other waits")
        go.set()

    assert together(early, late, conduct)[:2] == ["new", "old"]


def test_fetch__early_readers_share_an_overtaken_load(cache: CacheManager) -> None:
    """Readers that waited through one load may have the next, overtaken or not, as it began after they came."""
    state = {"loads": 0}
    begun, go = [threading.Event() for _ in range(4)], [threading.Event() for _ in range(4)]

    def loader() -> int:
        number = state["loads"]
        state["loads"] += 1
        begun[number].set()
        go[number].wait(5)
        cache.invalidate_type("search")
        return number

    def conduct() -> None:
        begun[0].wait(5)
        wait_until(waiting(6), timeout=10, what="the others wait")
        go[0].set()
        begun[1].wait(5)
        for event in go[1:]:
            event.set()

    def join_late() -> object:
        begun[0].wait(5)
        return cache.fetch("search", "a", loader)

    *values, _ = together(lambda: cache.fetch("search", "a", loader), *[join_late] * 6, conduct)
    assert values[0] == 0
    assert 0 not in values[1:]
    assert state["loads"] <= 8
    assert cache.get("search", "a", MISSING) is MISSING


# Ends


@pytest.mark.parametrize("error", [ValueError("no"), LookupError()])
def test_fetch__leader_s_exception_is_its_followers(cache: CacheManager, error: Exception) -> None:
    """Those who waited get it too, nobody queues; the next call loads."""
    loads: list[int] = []

    def loader() -> object:
        loads.append(1)
        wait_until(waiting(9), timeout=10, what="the others wait")
        raise error

    got = together(*[lambda: cache.fetch("search", "a", loader)] * 10)
    assert [repr(each) for each in got] == [repr(error)] * 10
    assert len(loads) == 1
    assert len({id(each) for each in got}) == 10
    for each in got:
        assert isinstance(each, Exception)
        assert len(traceback.extract_tb(each.__traceback__)) < 20
    assert cache.fetch("search", "a", lambda: 7) == 7


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_fetch__leader_is_broken_off(cache: CacheManager, kind: type[BaseException]) -> None:
    """What breaks off the leader is its own affair: its followers load for themselves, at once."""
    first = threading.Lock()

    def loader() -> str:
        if first.acquire(blocking=False):
            wait_until(waiting(4), timeout=10, what="the others wait")
            raise kind
        return "value"

    started = time.monotonic()
    results = together(*[lambda: cache.fetch("search", "a", loader)] * 5)
    assert sum(isinstance(result, kind) for result in results) == 1
    assert results.count("value") == 4
    assert time.monotonic() - started < 4


def test_afetch__leader_is_cancelled(cache: CacheManager) -> None:
    """A cancelled task leaves no flight and no lease behind, and its followers go on."""

    async def main() -> list[Any]:
        begun = asyncio.Event()

        async def hangs() -> str:
            begun.set()
            await asyncio.Event().wait()
            return "never"

        async def quick() -> str:
            return "quick"

        leader = asyncio.create_task(cache.afetch("search", "a", hangs))
        await begun.wait()
        followers = [asyncio.create_task(cache.afetch("search", "a", quick)) for _ in range(5)]
        await asyncio.sleep(0)
        leader.cancel()
        done = await asyncio.wait_for(asyncio.gather(leader, *followers, return_exceptions=True), 5)
        return list(done)

    leader, *followers = asyncio.run(main())
    assert isinstance(leader, asyncio.CancelledError)
    assert followers == ["quick"] * 5


def test_afetch__follower_is_cancelled(cache: CacheManager) -> None:
    """A follower that gives up disturbs nobody."""

    async def main() -> list[Any]:
        go = asyncio.Event()

        async def loader() -> str:
            await go.wait()
            return "value"

        leader = asyncio.create_task(cache.afetch("search", "a", loader))
        followers = [asyncio.create_task(cache.afetch("search", "a", loader)) for _ in range(3)]
        for _ in range(3):
            await asyncio.sleep(0)
        followers[1].cancel()
        go.set()
        return list(await asyncio.gather(leader, *followers, return_exceptions=True))

    leader, one, two, three = asyncio.run(main())
    assert [leader, one, three] == ["value"] * 3
    assert isinstance(two, asyncio.CancelledError)
    assert len(cache.engine.driver.flights._flights) == 0


def test_fetch__uncacheable_results_are_not_waited_for(cache: CacheManager) -> None:
    """After a value that cannot be kept the waiters run at once, all at the same time (hit for miss)."""
    first, at_once = threading.Lock(), threading.Barrier(6)

    def loader() -> object:
        if first.acquire(blocking=False):
            wait_until(waiting(6), timeout=10, what="the others wait")
        else:
            at_once.wait(5)  # breaks if they come one after another
        return threading.Lock()

    results = together(*[lambda: cache.fetch("search", "a", loader)] * 7)
    assert not [result for result in results if isinstance(result, BaseException)]
    assert len({id(result) for result in results}) == 7
    # and the next readers do not wait either
    results = together(*[lambda: cache.fetch("search", "a", loader)] * 6)
    assert not [result for result in results if isinstance(result, BaseException)]


# Loads inside loads


def test_fetch__recursive(cache: CacheManager) -> None:
    """A loader that asks for its own key does not wait for itself."""
    depth = {"n": 0}

    def loader() -> int:
        depth["n"] += 1
        return 0 if depth["n"] == 3 else 1 + cache.fetch("search", "a", loader)

    started = time.monotonic()
    assert cache.fetch("search", "a", loader) == 2
    assert time.monotonic() - started < 1
    assert cache.fetch("search", "b", lambda: cache.fetch("search", "c", lambda: 5)) == 5


def test_afetch__recursive(cache: CacheManager) -> None:
    """The same for coroutines."""

    async def loader() -> int:
        return await cache.afetch("search", "a", inner) + 1

    async def inner() -> int:
        return 1

    assert asyncio.run(asyncio.wait_for(cache.afetch("search", "a", loader), 5)) == 2


def test_fetch__two_that_need_each_other(cache: CacheManager) -> None:
    """A loads and wants B, B loads and wants A: one of them loads for itself, neither hangs."""
    both = threading.Barrier(2)

    def one() -> str:
        both.wait(5)
        return "a+" + cache.fetch("search", "b", lambda: "b!")

    def two() -> str:
        both.wait(5)
        return "b+" + cache.fetch("search", "a", lambda: "a!")

    started = time.monotonic()
    results = together(lambda: cache.fetch("search", "a", one), lambda: cache.fetch("search", "b", two))
    assert time.monotonic() - started < 3
    assert {str(result)[:2] for result in results} == {"a+", "b+"}
    assert cache.engine.driver.flights._flights == {}


def test_fetch__inside_a_loop_whose_task_leads(cache: CacheManager) -> None:
    """A plain fetch in the thread of the loop that leads the key does not wait for what it holds up."""

    async def main() -> tuple[Any, Any]:
        begun, go = asyncio.Event(), asyncio.Event()

        async def loader() -> str:
            begun.set()
            await go.wait()
            return "task"

        leader = asyncio.create_task(cache.afetch("search", "a", loader))
        await begun.wait()
        started = time.monotonic()
        plain = cache.fetch("search", "a", lambda: "plain")
        assert time.monotonic() - started < 1
        go.set()
        return plain, await leader

    assert asyncio.run(main()) == ("plain", "task")


def test_fetch__stale_input_is_not_built_upon(cache: CacheManager) -> None:
    """Inside a load nothing stale is served: what is stored was made of fresh parts."""
    part = CacheType("query", ttl=0.05, stale_while_revalidate=60)
    cache.fetch(part, "part", lambda: "old")
    wait_until(lambda: cache.get(part, "part") is None, timeout=10, what="expired")
    assert cache.fetch("search", "whole", lambda: cache.fetch(part, "part", lambda: "new")) == "new"
    assert cache.get("search", "whole") == "new"


def test_fetch__failed_part_served_stale_taints_the_whole(cache: CacheManager) -> None:
    """A whole made with a part that stood in for a failed load is not stored."""
    part = CacheType("query", ttl=0.05, stale_if_error=60)
    cache.fetch(part, "part", lambda: "old")
    wait_until(lambda: cache.get(part, "part") is None, timeout=10, what="expired")
    assert cache.fetch("search", "whole", lambda: cache.fetch(part, "part", fails)) == "old"
    assert cache.get("search", "whole", MISSING) is MISSING
    assert cache.fetch("search", "whole", lambda: "whole") == "whole"


def fails(*_: object) -> Any:
    raise ZeroDivisionError


def test_fetch__stale_if_error(cache: CacheManager) -> None:
    """The expired value stands in when the loader fails, for the followers too; an invalidated one never."""
    part = CacheType("query", ttl=0.05, stale_if_error=60)
    cache.fetch(part, "a", lambda: "old")
    wait_until(lambda: cache.get(part, "a") is None, timeout=10, what="expired")
    assert together(*[lambda: cache.fetch(part, "a", lambda: 1 // 0)] * 5) == ["old"] * 5
    cache.invalidate_type("query")
    with pytest.raises(ZeroDivisionError):
        cache.fetch(part, "a", lambda: 1 // 0)


@pytest.mark.parametrize("call", ["fetch", "afetch", "fetch_many", "followers"])
def test_stats__a_request_is_counted_once(cache: CacheManager, call: str) -> None:
    """As stale when the expired value stood in, else as a miss, also when the loader fails for good."""
    part = CacheType("query", ttl=0.05, stale_if_error=60)

    async def later(loader: Callable[[], object]) -> object:
        return loader()

    calls: dict[str, Callable[[Callable[[], object]], object]] = {
        "fetch": lambda loader: cache.fetch(part, "a", loader),
        "afetch": lambda loader: asyncio.run(cache.afetch(part, "a", lambda: later(loader))),
        "fetch_many": lambda loader: cache.fetch_many(part, ["a"], lambda keys: dict.fromkeys(keys, loader())),
        "followers": lambda loader: together(*[lambda: cache.fetch(part, "a", loader)] * 3),
    }
    number = 3 if call == "followers" else 1
    act = calls[call]

    def counted() -> tuple[int, ...]:
        stats = cache.engine.statistics.report(is_available=True)
        return (stats["misses"], stats["stale"], stats["total_requests"])

    act(lambda: "old")
    wait_until(lambda: cache.get(part, "a") is None, timeout=10, what="expired")
    before = counted()
    act(fails)
    stood_in = counted()
    assert [new - old for new, old in zip(stood_in, before, strict=True)] == [0, number, number]
    cache.fetch(part, "a", lambda: "new")
    assert [new - old for new, old in zip(counted(), stood_in, strict=True)] == [1, 0, 1]
    cache.invalidate_type("query")
    before = counted()
    with suppress(ZeroDivisionError):
        act(fails)
    assert [new - old for new, old in zip(counted(), before, strict=True)] == [number, 0, number]


def test_fetch_many__stale_if_error(cache: CacheManager) -> None:
    """Expired values stand in for a loader that fails when there is one for each key; in part they never do."""
    part = CacheType("query", ttl=0.05, stale_if_error=60)
    cache.fetch_many(part, ["a", "b"], lambda keys: dict.fromkeys(keys, "old"))
    wait_until(lambda: not cache.get_many(part, ["a", "b"]), timeout=10, what="expired")
    assert cache.fetch_many(part, ["a", "b"], fails) == {"a": "old", "b": "old"}
    with pytest.raises(ZeroDivisionError):
        cache.fetch_many(part, ["a", "new"], fails)
    whole = cache.fetch("search", "whole", lambda: cache.fetch_many(part, ["a"], fails))
    assert whole == {"a": "old"}
    assert cache.get("search", "whole", MISSING) is MISSING, "made of what was stale"
    cache.invalidate_type("query")
    with pytest.raises(ZeroDivisionError):
        cache.fetch_many(part, ["a", "b"], fails)
