"""What is cached before anybody asks: the board, and the tables of delays."""

from __future__ import annotations

from example_app import queries
from example_app.policies import rcache
from example_app.views_board import delays

#: Seconds: less than the ttl of each, so that no visitor ever waits for them.
EVERY = 240


def register() -> None:
    """Register the tasks. One worker of all runs each; which, and when, is shown by the cache's dashboard."""
    if not rcache.warming.tasks:
        rcache.warming.register_view("board.dashboard", every=EVERY, critical=True)
        rcache.warming.register_task("delays", _delays, every=EVERY)


def _delays() -> None:
    for by in queries.DELAY_DIMENSIONS:
        delays.refresh(by)
