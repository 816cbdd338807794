"""What the tests of the Redis transport share: a pool of their own, commands, and crowds of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask_rcache.config.address import parse_address
from flask_rcache.model.scope import Scope, scope_var
from flask_rcache.stores.redis.breaker import Breaker
from flask_rcache.stores.redis.connection import Exchange, pack
from flask_rcache.stores.redis.pool import Pool
from flask_rcache.stores.redis.topology import endpoint_of


class Transport:
    """A pool with its breaker, and the commands that a test needs.

    Args:
        url: of the server.
        attach: run on each new connection.
        options: of the pool and of the endpoint; the timeout allows for a busy machine.
    """

    def __init__(self, url: str, *, attach: Callable[[Exchange], None] | None = None, **options: Any) -> None:
        self.breaker = Breaker()
        self.attached = 0
        self._then = attach
        timeout = options.setdefault("timeout", 2.0)
        given = {name: options.pop(name) for name in ("options", "sentinel_options") if name in options}
        endpoint = endpoint_of(parse_address(url, "RCACHE_URL"), timeout=timeout, **given)
        self.pool = Pool(endpoint, **options, breaker=self.breaker, attach=self._attach)

    def _attach(self, exchange: Exchange) -> None:
        self.attached += 1
        if self._then is not None:
            self._then(exchange)

    def ask(self, *command: Any, **options: Any) -> Any:
        """The reply to one command; an error reply is returned."""
        return self.pool.exchange(pack(command), 1, **options)[0]


def at_once(act: Callable[[int], object], threads: int) -> list[object]:
    """What an act returned, or raised, in so many threads that begin at the same time."""
    together = threading.Barrier(threads, timeout=20)
    results: list[object] = [None] * threads

    def run(number: int) -> None:
        together.wait()
        try:
            results[number] = act(number)
        except Exception as error:  # noqa: BLE001  # whatever it is, the test looks at it
            results[number] = error

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join(60)
    return results


@contextmanager
def request(*, is_request: bool = True) -> Iterator[Scope]:
    """A request: what is asked in the block counts against one budget. Or another context, as a job's."""
    scope = Scope(None, None, is_request=is_request)
    token = scope_var.set(scope)
    try:
        yield scope
    finally:
        scope_var.reset(token)


@contextmanager
def busy(threads: int = 6) -> Iterator[None]:
    """Threads that compute all the time, and so hold the GIL most of it."""
    over = threading.Event()

    def burn() -> None:
        while not over.is_set():
            sum(range(1000))

    running = [threading.Thread(target=burn) for _ in range(threads)]
    for each in running:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in running:
            each.join()
