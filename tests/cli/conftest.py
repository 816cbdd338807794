"""Applications with the commands, closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from tests.cli.kit import make_app, manager

AppFactory = Callable[..., Flask]


@pytest.fixture
def new_app() -> Iterator[AppFactory]:
    """`new_app(url="memory://", **config)`: as `kit.make_app`."""
    made: list[Flask] = []

    def make(url: str = "memory://", **config: object) -> Flask:
        made.append(make_app(url, **config))
        return made[-1]

    yield make
    for each in made:
        manager(each).close()


@pytest.fixture(params=["memory", "redis", "valkey"])
def shop(request: pytest.FixtureRequest, new_app: AppFactory) -> Flask:
    """The application on each store in turn, empty."""
    if request.param == "memory":
        return new_app()
    return new_app(request.getfixturevalue(f"{request.param}_server").url)
