"""Applications with an admin API, on the memory store and on real servers, closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from tests.admin.kit import Admin, make_admin
from tests.servers import Server
from tests.views.kit import TIERED, manager

AdminFactory = Callable[..., Admin]


@pytest.fixture
def new_admin() -> Iterator[AdminFactory]:
    """`new_admin(url="memory://", **config)`: as `kit.make_admin`."""
    made: list[Flask] = []

    def make(url: str = "memory://", **config: Any) -> Admin:
        admin = make_admin(url, **config)
        made.append(admin.flask)
        return admin

    yield make
    for each in made:
        manager(each).close()


@pytest.fixture(params=["memory", "redis", "valkey", "tiered"])
def admin(request: pytest.FixtureRequest, new_admin: AdminFactory) -> Admin:
    """An application on each store in turn."""
    return _on(request, new_admin)


@pytest.fixture(params=["memory", "tiered"])
def near_and_far(request: pytest.FixtureRequest, new_admin: AdminFactory) -> Admin:
    """An application on the memory store, and on a real Redis behind it: enough for long tables."""
    return _on(request, new_admin)


def _on(request: pytest.FixtureRequest, new_admin: AdminFactory) -> Admin:
    if request.param == "memory":
        return new_admin()
    server: Server = request.getfixturevalue("valkey_server" if request.param == "valkey" else "redis_server")
    return new_admin(server.url + (TIERED if request.param == "tiered" else ""))
