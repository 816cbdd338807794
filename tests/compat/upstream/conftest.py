"""How other libraries' tests run on this package: their fixtures, their imports, and the deviations that are known.

The files in the directories here are those of Flask-Caching 2.5.1 and cachelib 0.17.0, unchanged. What their imports
find is replaced (``tests.compat.replaced``), and these fixtures stand for those of their conftest files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import flask
import pytest

from flask_rcache.compat import flask_caching
from flask_rcache.compat.settings import store_settings
from flask_rcache.stores import memory
from tests.compat.deviations import COLLECTED, reason_of
from tests.compat.replaced import Clock, RedisCache, clock, imports_of, opened, ports
from tests.servers import Server

#: The port of their tests.
_PORT = 6360


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """Import a file with other modules in the place of its own; anew, where somebody has imported it as it is."""
    if not isinstance(collector, pytest.Module):
        return (yield)
    sys.modules.pop(".".join(collector.path.relative_to(collector.config.rootpath).with_suffix("").parts), None)
    with imports_of(collector.path.parent):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Expect the deviations to fail, and nothing else; mark what waits for a server's clock."""
    if "test_redis_cache" in item.nodeid and "test_expiration" in item.nodeid:
        item.add_marker(pytest.mark.slow)
    item.config.stash.setdefault(COLLECTED, []).append(item.nodeid)
    reason = reason_of(item.nodeid)
    if reason is not None:
        item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(autouse=True)
def _time_and_stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stores in memory have the clock of the tests, and stores on a server are closed."""
    monkeypatch.setattr(memory, "_clock", lambda: clock.read)
    yield
    for each in opened:
        each.close()
    opened.clear()


@pytest.fixture(autouse=True)
def _is_ours(request: pytest.FixtureRequest) -> None:
    """What a file tests is ours: else the other library would pass its own tests."""
    for name, ours in (("Cache", flask_caching.Cache), ("RedisCache", RedisCache)):
        assert getattr(request.module, name, ours) is ours


@pytest.fixture(autouse=True)
def _push_request_context() -> None:
    """In the place of pytest-flask's, which takes the fixture `app` for one of its own."""


@pytest.fixture(autouse=True)
def _configure_application() -> None:
    """The same."""


@pytest.fixture(autouse=True)
def _monkeypatch_response_class() -> None:
    """The same."""


# Flask-Caching's


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Iterator[flask.Flask]:
    app = flask.Flask("upstream", template_folder=str(request.path.parent))
    app.testing = True
    app.config["CACHE_TYPE"] = "SimpleCache"
    yield app
    if "rcache" in app.extensions:
        app.extensions["rcache"].close()


@pytest.fixture
def cache(app: flask.Flask) -> flask_caching.Cache:
    return flask_caching.Cache(app)


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return clock


@pytest.fixture(params=flask_caching.SUPPORTED_HASH_FUNCTIONS, ids=lambda each: each.__name__)
def hash_method(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def redis_server(any_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server, which is found where their tests look for one."""
    monkeypatch.setitem(ports, _PORT, any_server.port)

    def with_its_port(config: Any) -> dict[str, Any]:
        settings = store_settings(config)
        url = str(settings.get("RCACHE_URL", "")).replace(f":{_PORT}", f":{any_server.port}")
        return {**settings, "RCACHE_URL": url}

    monkeypatch.setattr(flask_caching, "store_settings", with_its_port)
    return any_server


# cachelib's


@pytest.fixture(params=[None, "test-key-prefix:"], ids=["no_key_prefix", "with_key_prefix"])
def key_prefix(request: pytest.FixtureRequest) -> Any:
    return request.param
