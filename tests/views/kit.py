"""What the tests of decorated views share: an application, and words for its answers."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_rcache import CacheManager, CacheType, RCache

PAGE = CacheType("page", ttl=60)

#: At the end of a URL: with the memory tier in front of it.
TIERED = "#tiered"


def make_app(
    url: str = "memory://",
    *,
    name: str = "shop",
    types: Iterable[CacheType] = (),
    rcache: RCache | None = None,
    **config: Any,
) -> Flask:
    """An application with a cache; `config` goes to its configuration before the cache is made.

    Without the memory tier, unless the URL says otherwise: what two applications see of each other is exact then. With
    time for a server on a busy machine to answer.
    """
    app = Flask(name)
    l1_ttl = 2 if url.endswith(TIERED) else 0
    app.config.update({"TESTING": True, "SECRET_KEY": "s" * 32, "RCACHE_L1_TTL": l1_ttl, "RCACHE_TIMEOUT": 2, **config})
    app.config["RCACHE_URL"] = url.removesuffix(TIERED)
    (rcache or RCache(types=types)).init_app(app)
    return app


def manager(app: Flask) -> CacheManager:
    """The manager of an application."""
    found: CacheManager = app.extensions["rcache"]
    return found


class Counted:
    """A view's body that tells how often the view ran: `1`, `2` and so on."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.calls = 0

    def __call__(self) -> str:
        with self._lock:
            self.calls = next(self._numbers)
            return str(self.calls)


def verdicts(client: FlaskClient, path: str, times: int = 2, **options: Any) -> list[str]:
    """What `X-Cache` says on requests one after another."""
    return [client.get(path, **options).headers["X-Cache"] for _ in range(times)]


def detail(response: TestResponse | Response) -> str | None:
    """The reason that `Cache-Status` gives."""
    match = re.search(r"rcache;[^,]*detail=([A-Z-]+)", response.headers.get("Cache-Status", ""))
    return match[1] if match else None


def leases(app: Flask) -> list[str]:
    """The keys that the memory store's leases hold now; the markers of failed and uncacheable loads hold nobody up."""
    held = manager(app).engine.store._leases  # type: ignore[attr-defined]
    return [key for key, lease in held.items() if not lease.is_marker]


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work(0)`, `work(1)` and so on at the same time, and give their results in order.

    Raises:
        BaseException: the first that one of them raised.
    """
    results: list[Any] = [None] * count
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            barrier.wait(10)
            results[number] = work(number)
        except BaseException as error:  # noqa: BLE001  # the caller raises it
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return results
