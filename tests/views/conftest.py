"""Applications on the memory store and on a real Redis, closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from tests.servers import Server
from tests.views.kit import TIERED, make_app, manager

AppFactory = Callable[..., Flask]


@pytest.fixture
def new_app() -> Iterator[AppFactory]:
    """`new_app(url="memory://", **config)`: as `kit.make_app`."""
    made: list[Flask] = []

    def make(url: str = "memory://", **options: object) -> Flask:
        made.append(make_app(url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        manager(each).close()


@pytest.fixture(params=["memory", "redis", "tiered"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The memory store, a real Redis, and one with the memory tier in front of it, in turn."""
    if request.param == "memory":
        return "memory://"
    server: Server = request.getfixturevalue("redis_server")
    return server.url if request.param == "redis" else server.url + TIERED
