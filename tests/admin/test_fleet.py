"""The figures of four real workers: they never fall, whoever answers, and they are what a client has counted."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import jwt
import pytest

from tests.admin.tokens import SECRET
from tests.processes import wait_until
from tests.servers import Gunicorn, Server


@pytest.fixture
def fleet(server: Server, gunicorn: Callable[..., Gunicorn]) -> Gunicorn:
    """Four workers of an app with the memory tier, and its admin API."""
    env = {"RCACHE_URL": server.url}
    return gunicorn("tests.admin.site:create_app()", workers=4, env=env)


def ask(fleet: Gunicorn, path: str, **headers: str) -> tuple[str, bytes]:
    """What `X-Cache` says, and the body; each time by a connection of its own, so by any of the workers."""
    with urllib.request.urlopen(urllib.request.Request(f"{fleet.url}{path}", headers=headers), timeout=30) as answer:
        return answer.headers.get("X-Cache", ""), answer.read()


def figures(fleet: Gunicorn) -> dict[str, Any]:
    token = jwt.encode({"role": "admin", "exp": int(time.time()) + 600}, SECRET, algorithm="HS256")
    stats: dict[str, Any] = json.loads(ask(fleet, "/api/cache/stats", Authorization=f"Bearer {token}")[1])
    found: dict[str, Any] = stats["cache_stats"]
    return found


COUNTERS = ("hits", "misses", "stale", "bypasses", "total_requests")


@pytest.mark.race
def test_stats__monotone_and_exact(fleet: Gunicorn) -> None:
    """Asked while others load pages the counters only grow; a flush later they equal what the client has seen."""
    seen: Counter[str] = Counter()
    with ThreadPoolExecutor(4) as pool:
        pages = [pool.submit(ask, fleet, f"/weather/{number % 7}") for number in range(400)]
        asked = [figures(fleet) for _ in range(20)]
        seen.update(page.result()[0] for page in pages)
    for before, after in pairwise(asked):
        for name in COUNTERS:
            assert after[name] >= before[name], (name, before, after)
    assert seen["HIT"] + seen["MISS"] == 400

    def told() -> bool:
        now = figures(fleet)
        return (now["hits"], now["misses"]) == (seen["HIT"], seen["MISS"])

    wait_until(told, timeout=15, what=f"the figures are {dict(seen)}, not {figures(fleet)}")
    assert len({json.dumps(figures(fleet), sort_keys=True) for _ in range(20)}) == 1
