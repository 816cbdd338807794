"""Apps on the look-alike: in memory, and on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest

from flask_rcache.compat.flask_caching import Cache
from tests.servers import Server

Made = tuple[flask.Flask, Cache]


@pytest.fixture
def make() -> Iterator[Callable[..., Made]]:
    """Make an app with a ``Cache``, given the settings; its stores are closed in the end."""
    apps: list[flask.Flask] = []

    def make_app(**config: Any) -> Made:
        app = flask.Flask("moved")
        app.secret_key = "secret"
        app.config.update({"CACHE_TYPE": "SimpleCache", **config})
        cache = Cache(app)
        apps.append(app)
        return app, cache

    yield make_app
    for app in apps:
        if "rcache" in app.extensions:
            app.extensions["rcache"].close()


@pytest.fixture(params=["memory", "redis"])
def made(request: pytest.FixtureRequest, make: Callable[..., Made]) -> Made:
    """An app in memory, and one on a server."""
    if request.param == "memory":
        return make()
    server: Server = request.getfixturevalue("any_server")
    return make(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=server.url)
