"""A sick Redis under load: what it adds to a request is bounded, at first, all the time, and when it comes back.

"Added" is what a request takes beyond its own loaders, as its client sees it. What the machine itself adds is known
from requests for a page without a cache, sent by the same clients at the same time, and from the same requests while
Redis was well.
"""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from tests.chaos.apps import Board
from tests.chaos.sluggish import Sluggish
from tests.chaos.visitors import Added, Call, Visitors, ask
from tests.processes import scratch_directory, wait_until

pytestmark = [pytest.mark.long, pytest.mark.race, pytest.mark.chaos, pytest.mark.timeout(180)]

_WORKERS, _THREADS, _VISITORS = 3, 8, 8
#: The promise, in seconds.
_ADDED = 0.5
_BACK = 3.0
_PAGES, _TOUCHED = 12, 4
_ENOUGH = 8


@pytest.fixture
def board() -> Board:
    """What the application writes down."""
    return Board(scratch_directory("board"))


def _traffic(dice: random.Random) -> tuple[str, str, dict[str, str]]:
    """A fifth without the cache; pages in memory, in Redis, and requests that use the cache nineteen times."""
    page, once = dice.randrange(_PAGES), dice.randrange(2**60)
    paths = ("/plain", f"/page/{page}", f"/shared/{page}", f"/work/{once}", f"/async-work/{once}")
    return "GET", dice.choice(paths), {}


def _split(calls: list[Call]) -> tuple[Added, Added]:
    """The figures of requests that use the cache, and of those that do not."""
    plain = [call for call in calls if call.path == "/plain"]
    return Added.of(call for call in calls if call.path != "/plain"), Added.of(plain)


def _phase(name: str, calls: list[Call]) -> tuple[Added, Added]:
    """Every request was answered; the figures, which are printed too."""
    cached, plain = _split(calls)
    print(f"{name}: {cached}\n  without the cache: {plain}")
    bad = [call for call in calls if call.status != 200]
    assert not bad, bad[:5]
    return cached, plain


def _let_go_on(visitors: Visitors, seconds: float) -> float:
    """Let some time pass, and some requests of each kind; the moment at the end."""
    began = time.monotonic()
    time.sleep(seconds)
    wait_until(
        lambda: min(figures.count for figures in _split(visitors.calls(since=began))) >= _ENOUGH,
        timeout=30,
        what="enough requests",
    )
    return time.monotonic()


def _bounded(calls: list[Call], cached: Added, plain: Added, well: Added) -> None:
    """No request is slower than promised, by more than the machine is slow at the time."""
    slow = [(call.path[:12], round(call.added, 3)) for call in sorted(calls, key=lambda call: -call.added)[:5]]
    assert cached.worst <= _ADDED + max(0.4, 2 * plain.worst, well.worst), slow


def test_stopped_redis__under_load__costs_half_a_second_at_most_and_is_used_again(gunicorn, private_server, board):
    """SIGSTOP, a while of it, SIGCONT: nobody waits long, soon nobody waits, and then there are hits without a herd."""
    server = private_server()
    env = {"RCACHE_URL": server.url, "CHAOS_DIRECTORY": str(board.directory), "CHAOS_LOAD": "0.05"}
    web = gunicorn("tests.chaos.apps:create_app()", workers=_WORKERS, threads=_THREADS, env=env)
    with Visitors(web, _traffic, count=_VISITORS) as visitors:
        warm = _let_go_on(visitors, 1)
        stopped = _let_go_on(visitors, 2)
        server.pause()
        settled = _let_go_on(visitors, 1)
        for page in range(_TOUCHED):
            assert ask(web.port, "POST", f"/invalidate/page-{page}", {}).status == 200
        going = _let_go_on(visitors, 2)
        server.resume()
        end = _let_go_on(visitors, 3.5)
    well, well_plain = _phase("well", visitors.calls(warm, stopped - 0.3))
    first = visitors.calls(stopped - 0.3, settled)
    _bounded(first, *_phase("first second stopped", first), well)
    later = visitors.calls(settled, going)
    cached, plain = _phase("stopped", later)
    _bounded(later, cached, plain, well)
    assert cached.p50 <= well.p50 + max(0.1, plain.p50 - well_plain.p50), "stopped for a while: not noise"
    after = visitors.calls(going, end)
    _bounded(after, *_phase("going again", after), well)

    back = {call.pid: call.began + call.seconds - going for call in reversed(after) if _is_hit_in_redis(call)}
    print("hits in Redis again after " + ", ".join(f"{seconds:.2f} s" for seconds in back.values()))
    assert set(back) == set(web.worker_pids)
    assert max(back.values()) <= _BACK
    loads = Counter(run.key for run in board.runs() if run.began >= going and run.key.startswith("page/"))
    print(f"loads of a page, going again: {dict(loads)}")
    # While a process finds out, it may load what it keeps for itself; what was invalidated is loaded once more, by one.
    # On a busy machine one of them may find out twice.
    for page in range(_PAGES):
        assert loads[f"page/{page}"] <= _WORKERS + 1 + (page < _TOUCHED), loads


def _is_hit_in_redis(call: Call) -> bool:
    return call.path.startswith("/shared/") and call.x_cache == "HIT"


@pytest.mark.parametrize(
    ("delay", "drop"),
    [pytest.param(0.2, 0, id="late"), pytest.param(0.1, 64, id="in drops")],
)
def test_slow_redis__under_load__costs_half_a_second_at_most(gunicorn, private_server, board, delay, drop):
    """Answers that come, but late: below the timeout each, and far above the budget of a request in their sum."""
    with Sluggish(private_server().port) as slow:
        env = {"RCACHE_URL": slow.url, "CHAOS_DIRECTORY": str(board.directory)}
        web = gunicorn("tests.chaos.apps:create_app()", workers=_WORKERS, threads=_THREADS, env=env)
        with Visitors(web, _traffic, count=_VISITORS) as visitors:
            warm = _let_go_on(visitors, 1)
            began = _let_go_on(visitors, 2)
            slow.delay, slow.drop = delay, drop
            well = _let_go_on(visitors, 3)
            slow.delay, slow.drop = 0.0, 0
            wait_until(
                lambda: (
                    {call.pid for call in visitors.calls(since=well) if _is_hit_in_redis(call)} >= set(web.worker_pids)
                ),
                timeout=20,
                what="hits in Redis again",
            )
        assert slow.held_up >= 2 * _WORKERS, "nothing was slow"
        before, _ = _phase("well", visitors.calls(warm, began - 0.3))
        calls = visitors.calls(began, well)
        _bounded(calls, *_phase(f"each answer {delay} s late", calls), before)
