"""The store for libraries that take a cachelib cache."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator

import cachelib
import flask
import pytest
from flask import session
from flask_session import Session  # type: ignore[import-untyped]

from flask_rcache import RCache
from flask_rcache.compat.cachelib import RCacheStore
from flask_rcache.errors import ConfigError
from tests.servers import Server

Point = namedtuple("Point", "x y")


@pytest.fixture
def moved(any_server: Server) -> Iterator[flask.Flask]:
    """An app with a cache on a server."""
    app = flask.Flask("sessions")
    app.config["RCACHE_URL"] = any_server.url
    RCache(app)
    yield app
    app.extensions["rcache"].close()


def test_store__is_one_of_cachelib(moved: flask.Flask) -> None:
    """It is an instance of cachelib's class, and its methods work in a context of the app."""
    store = RCacheStore(key_prefix="shop:", default_timeout=7)
    assert isinstance(store, cachelib.BaseCache)
    with moved.app_context():
        assert store.set("a", {"n": 1})
        assert store.get("a") == {"n": 1}
        assert (store.inc("n", 2), store.dec("n")) == (2, 1)
        assert 0 < min(entry.ttl for entry in moved.extensions["rcache"].entries()) <= 7
        assert store.clear()
        assert not store.has("a")


def test_store__flask_session(moved: flask.Flask) -> None:
    """Sessions are kept, each its own, and a session that was ended stays so."""
    moved.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=RCacheStore(key_prefix="session:"))
    Session(moved)

    @moved.get("/add/<item>")
    def add(item: str) -> list[str]:
        session["items"] = [*session.get("items", []), item]
        return list(session["items"])

    @moved.get("/logout")
    def logout() -> str:
        session.clear()
        return "bye"

    ann, bob = moved.test_client(), moved.test_client()
    assert [ann.get("/add/a").json, bob.get("/add/b").json, ann.get("/add/c").json] == [["a"], ["b"], ["a", "c"]]
    ann.get("/logout")
    assert [ann.get("/add/d").json, bob.get("/add/e").json] == [["d"], ["b", "e"]]


def test_store__of_its_own(any_server: Server) -> None:
    """With a URL it needs no app, and classes that it is given are values."""
    store = RCacheStore(any_server.url, values=[Point], settings={"RCACHE_PREFIX": "tools"})
    again = RCacheStore(any_server.url, values=[Point], settings={"RCACHE_PREFIX": "tools"})
    try:
        assert store.set("point", Point(1, 2))
        assert again.get("point") == Point(1, 2)
        assert isinstance(again.get("point"), Point)
        assert store.delete_many("point", "x") == ["point", "x"]
        assert again.get("point") is None
    finally:
        store.close()
        again.close()


def test_store__a_prefix_that_changes() -> None:
    """A function gives each tenant keys of its own, which are cleared by themselves."""
    tenant = "a"
    store = RCacheStore("memory://", key_prefix=lambda: tenant)
    store.set("key", 1)
    tenant = "b"
    assert store.get("key") is None
    store.set("key", 2)
    store.clear()
    tenant = "a"
    assert store.get("key") == 1


def test_store__outside_of_an_app() -> None:
    """Without a URL and without an app, the error says so."""
    with pytest.raises(RuntimeError, match="application context"):
        RCacheStore().get("key")
    with flask.Flask("none").app_context(), pytest.raises(ConfigError, match="has no cache"):
        RCacheStore().get("key")
