"""How much faster the example's dashboard is from the cache: gunicorn with 4 workers, a real Redis.

Run it with `python -m benchmarks.dashboard`. Where there is no database yet it is built first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field

from example_app import data
from tests.servers import Gunicorn, Server, find_binary

PATH = "/api/dashboard"
GOAL = 50.0


@dataclass(slots=True)
class Figures:
    """What was measured, in milliseconds a request as the client sees it, a new connection included."""

    misses: list[float] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times faster the median hit is than the median miss."""
        return statistics.median(self.misses) / statistics.median(self.hits)


def measure(web: Gunicorn, *, misses: int, hits: int) -> Figures:
    """Invalidate, miss, then hit, in turn, so that a noisy moment meets both.

    Args:
        web: The example app, running.
        misses: How many rounds.
        hits: How many hits in all; shared out over the rounds.

    Raises:
        RuntimeError: An answer was not what it should have been, hit or miss.
    """
    figures = Figures()
    for _ in range(misses):
        status, _, body = web.get("/api/demo/invalidate/dashboard", method="POST")
        if status != 200:
            raise RuntimeError(f"the invalidation answered {status}: {body.decode(errors='replace')}")
        figures.misses.append(_timed(web, "MISS"))
        figures.hits.extend(_timed(web, "HIT") for _ in range(-(-hits // misses)))
    return figures


def _timed(web: Gunicorn, wanted: str) -> float:
    started = time.perf_counter()
    status, headers, _ = web.get(PATH)
    elapsed = time.perf_counter() - started
    if (status, headers.get("X-Cache")) != (200, wanted):
        raise RuntimeError(f"{PATH} answered {status} {headers.get('X-Cache')}, not 200 {wanted}")
    return elapsed * 1000


def main() -> int:
    """Measure, print, and say by the exit code whether the goal is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--misses", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--hits", type=int, default=20, help="hits in all (default 20)")
    options = parser.parse_args()
    database = data.default_path()
    data.ensure(database)
    binary = find_binary("any")
    with Server(binary) as server:
        env = {"RCACHE_URL": server.url, "FLIGHTS_DB": str(database), "RCACHE_WARMING": "false"}
        with Gunicorn("example_app:create_app()", workers=4, env=env) as web:
            figures = measure(web, misses=options.misses, hits=options.hits)
    print(f"{PATH} through gunicorn with 4 workers, {binary}")
    for name, values in (("miss", figures.misses), ("hit", figures.hits)):
        median, low, high = statistics.median(values), min(values), max(values)
        print(f"  {name:<5} median {median:9.2f} ms   ({low:.2f} to {high:.2f}, {len(values)} requests)")
    print(f"  ratio {figures.ratio:.0f} times faster; the goal is {GOAL:.0f}")
    return 0 if figures.ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
