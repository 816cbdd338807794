"""4: workers whose clocks are a minute ahead and a minute behind."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from flask_rcache import CacheManager
from tests.processes import wait_until
from tests.servers import Server
from tests.twenty.kit import KIND, PATIENCE, Act, SlowLoader, program, said, there

#: A worker whose wall clock is off: what it finds, what it invalidates and stores, and the age that it states.
WORKER = """
import json, sys, time
off = float(sys.argv[2])
real, real_ns = time.time, time.time_ns
time.time, time.time_ns = lambda: real() + off, lambda: real_ns() + int(off * 1e9)
from flask import Flask
from flask_rcache import RCache, cache_response
from tests.twenty.kit import KIND, cache_on
cache = cache_on(sys.argv[1])
app = Flask("worker")
app.config.update(RCACHE_URL=sys.argv[1], RCACHE_TIMEOUT=2)
RCache(app)
app.add_url_rule("/", view_func=cache_response(KIND, 55, lambda request: "page")(lambda: "page"), endpoint="page")
answers = [app.test_client().get("/") for _ in range(2)]
cache.invalidate_tags("eu")
print(json.dumps({
    "found": cache.get(KIND, "kept"),
    "invalidated": cache.get(KIND, "eu"),
    "loaded": cache.fetch(KIND, f"by {off:.0f}", lambda: "loaded", ttl=55),
    "short": cache.set(KIND, f"short {off:.0f}", "short", ttl=0.2),
    "page": [answers[-1].headers["X-Cache"], int(answers[-1].headers["Age"])],
}))
"""


def test_behaviour_04__wall_clocks_take_no_part(any_server: Server, caches: Callable[..., CacheManager]) -> None:
    """Neither an entry's life nor the order of load and invalidation depends on whose clock is ahead."""
    here = caches(any_server.url)
    for off in (60, -60):
        # Gone, or there for two minutes, by a clock that is a minute off.
        assert here.set(KIND, "kept", "kept", ttl=55)
        assert here.set(KIND, "eu", "old", tags=["eu"])
        found = json.loads(said(program(WORKER, any_server.url, off)))
        age = found["page"].pop()
        assert found == {"found": "kept", "invalidated": None, "loaded": "loaded", "short": True, "page": ["HIT"]}
        assert 0 <= age < 55
        assert not there(here, "eu")
        assert here.get(KIND, f"by {off}") == "loaded"
        wait_until(lambda off=off: not there(here, f"short {off}"), timeout=PATIENCE, what="its end")  # type: ignore[misc]
        assert here.fetch(KIND, "eu", lambda: "new", tags=["eu"]) == "new"
        assert here.get(KIND, "eu") == "new"


@pytest.mark.parametrize("off", [60_000_000, -60_000_000])
def test_behaviour_04__nor_does_a_jump_of_the_server_s(
    any_server: Server, caches: Callable[..., CacheManager], off: int
) -> None:
    """The last reading of the store's clock was in the future, or long ago: load and invalidation keep their order."""
    here, other = (caches(any_server.url) for _ in range(2))
    here.set(KIND, "other", "x")
    any_server.client().zincrby("cache~stamps", off, "=clock")
    for value in ("one", "two"):
        assert here.fetch(KIND, "k", lambda value=value: value, tags=["t"]) == value  # type: ignore[misc]
        assert other.get(KIND, "k") == value
        other.invalidate_tags("t")
        assert not any(there(cache) for cache in (here, other))
    slow = SlowLoader()
    loading = Act(lambda: here.fetch(KIND, "k", slow, tags=["t"]))
    assert slow.begun.wait(PATIENCE)
    other.invalidate_tags("t")
    slow.go.set()
    assert loading.result() == "old"
    assert not any(there(cache) for cache in (here, other))
